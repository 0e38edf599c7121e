"""The facade keeps what it claims: CapabilityStatement, OpenAPI description and reference page, against the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relais.profiles.structure import check
from relais.server.fhir.reference import page
from support.facade import RunningFacade, issues

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference.md"
ISSUE_TYPES = [
    "Appointment",
    "AuditEvent",
    "Binary",
    "CapabilityStatement",
    "CarePlan",
    "CareTeam",
    "CodeSystem",
    "Communication",
    "CommunicationRequest",
    "Condition",
    "Consent",
    "Coverage",
    "Device",
    "DocumentReference",
    "Encounter",
    "Endpoint",
    "EpisodeOfCare",
    "Flag",
    "Goal",
    "Group",
    "HealthcareService",
    "List",
    "Location",
    "Observation",
    "OperationDefinition",
    "Organization",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "Schedule",
    "SearchParameter",
    "ServiceRequest",
    "Slot",
    "StructureDefinition",
    "Subscription",
    "Task",
    "ValueSet",
]


@pytest.fixture(scope="module")
def rest(facade: RunningFacade) -> dict[str, Any]:
    statement = facade.get("metadata").json()
    assert [issue for issue in check(statement) if issue.severity in ("fatal", "error")] == []
    (stated,) = statement["rest"]
    found: dict[str, Any] = stated
    return found


def test_every_type_of_the_volets_is_served(rest: dict[str, Any]) -> None:
    assert {resource["type"] for resource in rest["resource"]} >= set(ISSUE_TYPES)


def test_what_the_statement_says_of_a_type(rest: dict[str, Any]) -> None:
    for resource in rest["resource"]:
        codes = {interaction["code"] for interaction in resource["interaction"]}
        assert codes == {
            *("read", "vread", "update", "patch", "delete", "create"),
            *("history-instance", "history-type", "search-type"),
        }
        assert (resource["versioning"], resource["readHistory"], resource["updateCreate"]) == ("versioned", True, True)
        assert resource["conditionalCreate"] and resource["conditionalUpdate"]
        assert (resource["conditionalRead"], resource["conditionalDelete"]) == ("full-support", "single")


def test_every_system_interaction_is_served(facade: RunningFacade, rest: dict[str, Any]) -> None:
    bundle = {"resourceType": "Bundle"}
    asked = {
        "transaction": lambda: facade.post("", bundle | {"type": "transaction"}),
        "batch": lambda: facade.post("", bundle | {"type": "batch"}),
        "search-system": lambda: facade.get("?_type=Patient"),
        "history-system": lambda: facade.get("_history?_count=1"),
    }
    assert {interaction["code"] for interaction in rest["interaction"]} == asked.keys()
    assert {code: ask().status_code for code, ask in asked.items()} == dict.fromkeys(asked, 200)


def test_every_operation_is_served(facade: RunningFacade, rest: dict[str, Any]) -> None:
    patient = facade.created({"resourceType": "Patient"}).partition("/")[2]
    stated = [("", operation) for operation in rest["operation"]]
    stated += [(resource["type"], one) for resource in rest["resource"] for one in resource.get("operation", ())]
    assert {operation["name"] for _, operation in stated} >= {"validate", "meta", "meta-add", "everything", "export"}
    for kind, operation in stated:
        assert operation["definition"].startswith("http")
        addresses = [f"{kind}/${operation['name']}", f"{kind}/{patient}/${operation['name']}"]
        told = [facade.post(address.lstrip("/"), {"resourceType": "Parameters"}) for address in addresses]
        assert any("no such operation" not in one.text and "no such address" not in one.text for one in told), operation
        assert all(one.status_code < 500 for one in told), operation


def test_every_format_is_written(facade: RunningFacade) -> None:
    statement = facade.get("metadata").json()
    for name in statement["format"]:
        assert facade.get("metadata", Accept=name if "/" in name else "*/*").status_code == 200
        assert facade.get(f"metadata?_format={name}").status_code == 200
    for patch in statement["patchFormat"]:
        assert facade.request("PATCH", "Patient/nobody", b"x", Content_Type=patch).status_code == 400
    assert facade.get("metadata?mode=full").status_code == 200
    assert facade.get("metadata?mode=terminology").json()["resourceType"] == "TerminologyCapabilities"
    assert facade.get("metadata?mode=other").status_code == 400


def test_every_compartment_is_served(facade: RunningFacade, rest: dict[str, Any]) -> None:
    for url in rest["compartment"]:
        name = url.rpartition("/")[2]
        owner = name[0].upper() + name[1:]
        assert issues(facade.get(f"{owner}/nobody/*"))[0]["code"] == "not-found"


def test_the_openapi_description_names_every_address(facade: RunningFacade, rest: dict[str, Any]) -> None:
    answer = facade.get("openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    described = answer.json()
    assert described["servers"] == [{"url": facade.base}]
    assert {"get", "post"} <= described["paths"]["/"].keys()
    assert {"get", "put", "patch", "delete"} <= described["paths"]["/{resource_type}/{id}"].keys()
    assert "/Patient/{id}/$everything" in described["paths"]
    (types,) = [
        one["schema"]["enum"]
        for one in described["paths"]["/{resource_type}"]["get"]["parameters"]
        if one["name"] == "resource_type"
    ]
    assert types == [resource["type"] for resource in rest["resource"]]
    identifiers = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    assert len(identifiers) == len(set(identifiers))


def test_the_reference_page_is_what_the_command_makes() -> None:
    assert REFERENCE.read_text() == page()


def test_a_served_resource_passes_its_own_check(facade: RunningFacade) -> None:
    name = facade.created({"resourceType": "Patient", "birthDate": "1970-01-01"})
    for path in (name, f"{name}/_history", "Patient?_count=1", f"{name}/$everything", f"{name}/$meta"):
        shown = json.loads(facade.get(path).content)
        assert [issue for issue in check(shown) if issue.severity in ("fatal", "error")] == [], path


def test_a_statement_that_the_client_has_is_not_sent_again(facade: RunningFacade) -> None:
    tag = facade.get("metadata").headers["ETag"]
    again = facade.get("metadata", If_None_Match=f'W/"x", {tag}')
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert facade.get("metadata", If_None_Match='W/"1"').status_code == 200


def test_every_common_parameter_searches_the_whole_system(facade: RunningFacade, rest: dict[str, Any]) -> None:
    values = {"date": "2026", "special": "_id eq x", "uri": "http://example.org/x"}
    names = {stated["name"] for stated in rest["searchParam"]}
    assert names >= {"_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_filter"}
    for stated in rest["searchParam"]:
        answer = facade.get(f"?{stated['name']}={values.get(stated['type'], 'x')}")
        assert answer.status_code == 200, answer.text
