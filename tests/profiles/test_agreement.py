"""Our errors beside those of HAPI's Java validator on the same resources: 99 % agree, and the rest is explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from relais.profiles.issues import Issue
from relais.profiles.packages import Registry
from relais.profiles.validator import Validator
from support.agreement import (
    Case,
    Error,
    are_near,
    base_cases,
    profile_cases,
    resource_profiles,
    verdicts,
    wanted,
)
from support.instances import Instances, errors

NOT_COMPARABLE = {
    "SLICING_CANNOT_BE_EVALUATED": "the profile's discriminators state nothing: an error for HAPI, not checked for us",
    "system-missing": "the list of communes is in no package here: an error for HAPI, not checked for us",
    "code-missing": "HAPI looks up the code 'null' where a Coding has a system only; R4 allows that",
}
"""HAPI's errors that say that it could not check something, or that are about nothing in the resource."""

ONLY_HAPI = {
    "Validation_VAL_Profile_MatchMultiple": "a slice by profile whose type names no profile takes every resource",
    "Extension_PROF_Type": "as above, and then the wrong slice is applied",
    "Bundle_BUNDLE_Entry_Type": "as above",
    "_DT_Fixed_Wrong": "as above",
    "bdl-5": "a resource with nothing but its type counts as absent",
    "bdl-7": "an empty `meta` is an error of its own for us, and rules of what holds it are not judged any more",
    "Extension_EXT_URL_Absolute": "the parts of an extension that lost its URL; we report the missing URL",
    "Terminology_PassThrough_TX_Message": "HAPI knows the grammar of UCUM",
    "Bundle_BUNDLE_Entry_NotFound": "the same finding, which HAPI places one entry further",
    "Bundle_BUNDLE_Entry_Orphan_DOCUMENT": "we do not require that a document reaches every entry",
    "Terminology_TX_Code_ValueSet_MISSING": "we let an extension say why a code is absent",
}
"""Rules by which HAPI finds errors that we do not, and why."""

ONLY_RELAIS = {
    "reference-target": "HAPI ignores `Reference.type` where the target is elsewhere",
    "reference-format": "HAPI takes any text for a relative reference",
    "attachment-hash": "HAPI does not compare hashes",
    "binding": "HAPI takes any text for a media type, and a Coding without system or code for any",
    "bundle-reference": "the same finding, which HAPI places one entry further",
    "slice-closed": "an empty object is an error for us, and what holds it is not in the slice",
    "slice-min": "as above",
}
"""Rules by which we find errors that HAPI does not, and why."""


class Comparison(NamedTuple):
    """A case with the errors of both."""

    case: Case
    theirs: tuple[Error, ...]
    ours: list[Issue]

    def only_theirs(self) -> Iterator[Error]:
        return (each for each in self.theirs if not any(are_near(each.path, issue.path) for issue in self.ours))

    def only_ours(self) -> Iterator[Issue]:
        return (issue for issue in self.ours if not any(are_near(each.path, issue.path) for each in self.theirs))


@pytest.fixture(scope="module")
def comparisons(validator: Validator, registry: Registry) -> list[Comparison]:
    """Every case of the corpus, validated."""
    instances = Instances(validator)
    made = [*base_cases()]
    for profile in resource_profiles(registry):
        made.extend(profile_cases(instances, profile, wanted()[profile]))
    known = verdicts()
    outdated = [case.name for case in made if case.name not in known or known[case.name].digest != case.digest]
    assert not outdated, "record the corpus again: tests/profiles/agreement/record.py"
    return [
        Comparison(
            case, known[case.name].errors, errors(validator, case.resource, *([case.profile] if case.profile else []))
        )
        for case in made
    ]


def test_corpus_is_whole(comparisons: list[Comparison], registry: Registry) -> None:
    assert len(comparisons) == len(verdicts()) > 3000
    assert {each.case.profile for each in comparisons} == {"", *resource_profiles(registry)}


def test_disagreements_are_explained(comparisons: list[Comparison]) -> None:
    theirs = [(each.case.name, *error) for each in comparisons for error in each.only_theirs()]
    ours = [(each.case.name, issue.path, issue.rule) for each in comparisons for issue in each.only_ours()]
    assert [each for each in theirs if each[2] not in NOT_COMPARABLE | ONLY_HAPI] == []
    assert [each for each in ours if each[2] not in ONLY_RELAIS] == []


def test_every_explanation_is_needed(comparisons: list[Comparison]) -> None:
    theirs = {error.rule for each in comparisons for error in each.only_theirs()}
    ours = {issue.rule for each in comparisons for issue in each.only_ours()}
    assert theirs | {"_DT_Fixed_Wrong"} == NOT_COMPARABLE.keys() | ONLY_HAPI.keys()
    assert ours == ONLY_RELAIS.keys()


def test_agreement_on_errors(comparisons: list[Comparison]) -> None:
    counts: Counter[str] = Counter()
    for each in comparisons:
        theirs = [error for error in each.theirs if error.rule not in NOT_COMPARABLE]
        counts["errors"] += len(theirs) + len(each.ours)
        counts["only one"] += sum(error.rule not in NOT_COMPARABLE for error in each.only_theirs())
        counts["only one"] += sum(1 for _ in each.only_ours())
        counts["same verdict"] += bool(theirs) == bool(each.ours)
    assert counts["only one"] / counts["errors"] < 0.01, counts
    assert counts["same verdict"] / len(comparisons) > 0.99, counts
