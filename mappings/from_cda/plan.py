"""The CarePlan under construction, and what the readers of the sections share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter

from relais.cda.model import Code, Statement, Text
from relais.mappings import terminology
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import codings
from relais.mappings.from_cda.reading import Reading
from relais.mappings.to_cda.problems import ALD, DOUBTS

RULE = "CI-SIS PPS-PAERPA 2022.01"
CLINICAL_STATUSES = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION_STATUSES = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
OTHER_PROBLEM = "GEN-092.01.01"


@dataclass(slots=True)
class Plan:
    """What the sections gave so far: References, by the element of CarePlan that holds them."""

    reference: Resource
    subject: Resource
    addresses: list[Resource] = field(default_factory=list)
    goals: list[Resource] = field(default_factory=list)
    activities: list[Resource] = field(default_factory=list)  # CarePlan.activity
    supporting_info: list[Resource] = field(default_factory=list)
    status: str | None = None
    status_time: str | None = None  # TS
    description: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)  # why goals were not reached, by their words
    conditions: dict[str, Resource] = field(default_factory=dict)  # References, by code and words


def has_template(statement: Statement, templates: Sequence[str]) -> bool:
    """Whether the entry bears the CI-SIS template, the last of `templates`."""
    return templates[-1] in [ii.root for ii in statement.template_ids]


def subentries(statement: Statement, path: str, type_code: str | None = None) -> Iterable[tuple[Statement, str]]:
    """The entries under an entry (by that relation), with their paths."""
    for index, relation in enumerate(statement.relationships, 1):
        if type_code is None or relation.type_code == type_code:
            yield relation.statement, f"{path}/entryRelationship[{index}]/{relation.statement.kind}"


_CONTENT = (
    "ids",
    "code",
    "time",
    "priority",
    "language",
    "values",
    "interpretations",
    "methods",
    "target_sites",
    "performers",
    "authors",
    "informants",
    "participants",
    "relationships",
    "references",
    "criteria",
    "product",
)


def report_unread(reading: Reading, statement: Statement, path: str, *read: str) -> None:
    """Say which parts of an entry its reader does not carry over: all that it has but `read` (fields of Statement)."""
    others, contents_of = _others(read)
    contents = contents_of(statement)
    if any(contents):
        for name, content in zip(others, contents, strict=True):
            if content:
                reading.inform(path, f"{name} of this kind of entry: narrative only", RULE)


@cache
def _others(read: tuple[str, ...]) -> tuple[list[str], attrgetter[tuple[object, ...]]]:
    """The other parts of an entry, and what gives them."""
    others = [name for name in _CONTENT if name not in read]
    return others, attrgetter(*others)


def is_no_fact(reading: Reading, statement: Statement, path: str) -> bool:
    """Whether an entry says nothing that is so of the patient, which is said: it is about somebody else, an error, or
    in another mood than EVN (an intention, a goal, a proposal)."""
    if statement.of_another:
        reading.warn(f"{path}/subject", "about somebody else than the patient: narrative only", RULE)
    elif statement.mood_code not in (None, "EVN"):
        reading.warn(f"{path}/@moodCode", "nothing that has happened: narrative only", RULE)
        return True
    return statement.of_another or is_nullified(reading, statement, path)


def is_denied(reading: Reading, statement: Statement, path: str) -> bool:
    """Whether the entry says that something is *not* so, or not of the patient: it never becomes a resource that says
    the contrary."""
    if statement.of_another:
        reading.warn(f"{path}/subject", "about somebody else than the patient: narrative only", RULE)
        return True
    if statement.negation:
        reading.warn(f"{path}/@negationInd", "a denied entry: narrative only", RULE)
    return bool(statement.negation) or is_nullified(reading, statement, path)


def is_nullified(reading: Reading, statement: Statement, path: str) -> bool:
    """Whether an entry was entered in error, which is said."""
    if statement.status == "nullified":
        reading.warn(f"{path}/statusCode", "an entry that was entered in error: narrative only", RULE)
    return statement.status == "nullified"


def status_of(reading: Reading, statement: Statement, path: str, known: Mapping[str, str], other: str) -> str:
    """The FHIR status that a statusCode stands for among `known`; `other` without any, or, said, for another one."""
    if statement.status and statement.status not in known:
        reading.warn(f"{path}/statusCode", f"no status of the volet: read as {other}", RULE)
    return known.get(statement.status or "", other)


def value_text(reading: Reading, value: Code, path: str) -> str | None:
    """The words of a coded value."""
    return reading.text(value.original_text, f"{path}/originalText/reference")


def stated(text: Text | None) -> bool:
    """Whether a Text points to words or holds them."""
    return text is not None and bool(text.value or text.reference)


@dataclass(frozen=True, slots=True)
class ProblemConcept:
    """What a problem is, as a CodeableConcept; `is_ald` when the document marks it as *affection longue durée*."""

    concept: Resource
    is_ald: bool = False
    verification: Resource | None = None  # Condition.verificationStatus, of what is no established fact

    @property
    def key(self) -> str:
        """The same for two mentions of one problem: codes in any order, words, doubt."""
        named = sorted(f"{one.get('system')}|{one['code']}" for one in self.concept.get("coding", ()))
        doubt = [self.verification["coding"][0]["code"]] if self.verification else []
        return "\n".join([*named, self.concept.get("text", ""), *doubt])


def problem_concept(code: Code | None, words: str | None) -> ProblemConcept:
    """What a code with its translations and the words of the narrative say of a problem.

    The words begin with the label of the problem code, which is taken off. "Other problem" says nothing when the words
    do not repeat it; the ALD code beside other codes, or beside words of its own, marks the problem as an ALD.
    """
    words, verification = _without_doubt(words)
    found = codings(code)
    ald = next((one for one in found if one["code"] == ALD), None)
    text = words
    for one in list(found):
        known = terminology.concept("pps_problem", one["code"], one.get("system"))
        if known is None or words is None:
            continue
        if words.startswith(f"{known.display} : "):
            said = words.removeprefix(f"{known.display} : ")
            text = words if said.startswith(known.display) else said  # such words are written without the label
        elif one["code"] == OTHER_PROBLEM and words != known.display:
            found.remove(one)
    is_ald = ald is not None and (len(found) > 1 or (bool(words) and words != ald.get("display")))
    if is_ald:
        found = [one for one in found if one is not ald]
    concept = {name: content for name, content in (("coding", found), ("text", text)) if content}
    return ProblemConcept(concept, is_ald, verification)


def _without_doubt(words: str | None) -> tuple[str | None, Resource | None]:
    """The words of one problem without those which say that it is no established fact, and what these mean."""
    for code, doubt in DOUBTS.items():
        if words and words.endswith(f" ({doubt})") and " ; " not in words:
            return words.removesuffix(f" ({doubt})"), {"coding": [{"system": VERIFICATION_STATUSES, "code": code}]}
    return words, None
