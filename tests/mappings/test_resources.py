"""References (FHIR R4 "Resolving references in Bundles"): whose `Patient/1` is meant, and which version of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relais.cda.errors import MappingError
from relais.mappings.resources import ResourceSet, is_other_version
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.pps import pps_document
from support.plans import EMISSION, full_plan, minimal_plan

Resource = dict[str, Any]
A, B = "https://a.exemple.fr/fhir", "https://b.exemple.fr/fhir"


def patient(number: str, family: str = "PAT-TROIS") -> Resource:
    """A Patient of that id."""
    return {"resourceType": "Patient", "id": number, "name": [{"family": family}]}


def goal(number: str, subject: str) -> Resource:
    """A Goal of that id about `subject`."""
    return {"resourceType": "Goal", "id": number, "subject": {"reference": subject}}


# --- whose resource ---------------------------------------------------------------------------------------------


def test_a_relative_reference_means_the_server_of_its_own_entry() -> None:
    here, there, about = patient("1"), patient("1"), goal("7", "Patient/1")
    resources = ResourceSet([(f"{B}/Patient/1", there), (f"{A}/Patient/1", here), (f"{A}/Goal/7", about)])
    assert resources.resolve(about["subject"], about) is here


def test_a_contained_resource_speaks_from_the_server_of_what_holds_it() -> None:
    here, there = patient("1"), patient("1")
    inner = goal("inner", "Patient/1")
    plan = {"resourceType": "CarePlan", "id": "7", "contained": [inner]}
    resources = ResourceSet([(f"{B}/Patient/1", there), (f"{A}/Patient/1", here), (f"{A}/CarePlan/7", plan)])
    assert resources.resolve(inner["subject"], inner) is here
    assert resources.resolve("#inner", plan) is inner


def test_an_absolute_reference_means_nothing_but_that_address() -> None:
    there, about = patient("1"), goal("7", f"{A}/Patient/1")
    for url in (f"{B}/Patient/1", "urn:uuid:00000000-0000-4000-8000-000000000001", None):
        resources = ResourceSet([(url, there), (f"{A}/Goal/7", about)])
        assert resources.resolve(about["subject"], about) is None


def test_a_relative_reference_does_not_reach_another_server() -> None:
    there, about = patient("1"), goal("7", "Patient/1")
    resources = ResourceSet([(f"{B}/Patient/1", there), (f"{A}/Goal/7", about)])
    assert resources.resolve(about["subject"], about) is None
    resources = ResourceSet([(f"{B}/Patient/1", there), ("urn:uuid:00000000-0000-4000-8000-000000000007", about)])
    assert resources.resolve(about["subject"], about) is None


def test_entries_without_server_know_each_other_by_type_and_id() -> None:
    who, about, uuid = patient("1"), goal("7", "Patient/1"), "urn:uuid:00000000-0000-4000-8000-000000000001"
    resources = ResourceSet([(uuid, who), (None, about)])
    assert resources.resolve(about["subject"], about) is who
    assert resources.resolve(uuid, about) is who


@pytest.mark.parametrize("base", [A, f"{A}/"])
def test_stored_resources_are_named_relatively_and_at_their_server(base: str) -> None:
    who, about = patient("1"), goal("7", "Patient/1")
    resources = ResourceSet.of([who, about], base)
    assert resources.resolve("Patient/1", about) is who
    assert resources.resolve(f"{A}/Patient/1", about) is who
    assert resources.resolve(f"{B}/Patient/1", about) is None
    assert ResourceSet.of([who, about]).resolve("Patient/1", about) is who


@pytest.mark.parametrize(
    ("entries", "place"),
    [
        ([(f"{A}/Patient/1", patient("1")), (f"{A}/Patient/1", patient("1"))], "Bundle.entry[1].fullUrl"),
        ([(None, patient("1")), (None, patient("1"))], "Bundle.entry[1].fullUrl"),
        ([(f"{A}/Patient/2", patient("1"))], "Bundle.entry[0].fullUrl"),
    ],
)
def test_two_resources_have_two_addresses_and_each_its_own(
    entries: list[tuple[str | None, Resource]], place: str
) -> None:
    with pytest.raises(MappingError) as refused:
        ResourceSet(entries)
    assert [issue.path for issue in refused.value.issues] == [place]


# --- which version ----------------------------------------------------------------------------------------------


def test_a_copy_of_a_stored_resource_speaks_from_the_same_server() -> None:
    subject, about = patient("1"), goal("7", "Patient/1")
    assert ResourceSet.of([subject, about], A).resolve(about["subject"], dict(about)) is subject
    assert ResourceSet([(f"{A}/Patient/1", subject)]).resolve(about["subject"], dict(about)) is None


def test_a_versioned_reference_finds_the_resource_and_tells_the_version() -> None:
    who = patient("1") | {"meta": {"versionId": "2"}}
    resources = ResourceSet([(f"{A}/Patient/1", who)])
    reference = {"reference": f"{A}/Patient/1/_history/1"}
    assert resources.resolve(reference) is who
    assert is_other_version(reference, who)
    assert not is_other_version(f"{A}/Patient/1/_history/2", who)
    assert not is_other_version(f"{A}/Patient/1", who)
    assert is_other_version("Patient/1/_history/2", patient("1"))  # nothing says that it is


# --- in a conversion ----------------------------------------------------------------------------------------------


def at_server(bundle: Resource, base: str) -> Resource:
    """The Bundle with every resource at that server, which references name relatively."""
    text = json.dumps(bundle)
    for number, entry in enumerate(bundle["entry"]):
        name = f"{entry['resource']['resourceType']}/{number}"
        text = text.replace(f'"fullUrl": "{entry["fullUrl"]}"', f'"fullUrl": "{base}/{name}"')
        text = text.replace(f'"{entry["fullUrl"]}"', f'"{name}"')
    moved: Resource = json.loads(text)
    for number, entry in enumerate(moved["entry"]):
        entry["resource"]["id"] = str(number)
    return moved


def test_the_plan_of_one_server_never_takes_the_patient_of_another() -> None:
    bundle = at_server(full_plan().bundle(), A)
    number = next(i for i, one in enumerate(bundle["entry"]) if one["resource"]["resourceType"] == "Patient")
    stranger = json.loads(json.dumps(bundle["entry"][number]["resource"]))
    stranger["name"][0]["family"] = "AUTRE"
    bundle["entry"].insert(0, {"fullUrl": f"{B}/Patient/{number}", "resource": stranger})
    families = convert(bundle, EMISSION).document.header.patient.name.families
    assert "AUTRE" not in [part.text for part in families]
    del bundle["entry"][number + 1]  # only the other server's patient is left
    with pytest.raises(MappingError) as refused:
        convert(bundle, EMISSION)
    assert refused.value.issues[0].path == "CarePlan.subject"
    assert "not provided" in refused.value.issues[0].message


def test_every_part_of_a_plan_is_found_among_stored_resources() -> None:
    resources = [entry["resource"] for entry in at_server(full_plan().bundle(), A)["entry"]]
    plan = next(one for one in resources if one["resourceType"] == "CarePlan")
    stored = pps_document(plan, ResourceSet.of(resources, A), EMISSION)
    assert stored.document == pps_document(plan, ResourceSet.of(resources), EMISSION).document


def test_another_version_than_the_one_referred_to_is_said() -> None:
    plan = minimal_plan()
    plan["goal-1"]["meta"] = {"versionId": "3"}
    for version, expected in (("3", []), ("2", ["CarePlan.goal[0]"])):
        plan["plan"]["goal"] = [{"reference": f"{plan.ref('goal-1')['reference']}/_history/{version}"}]
        issues = convert(plan.bundle(), EMISSION).issues
        assert [issue.path for issue in issues if "another version" in issue.message] == expected
