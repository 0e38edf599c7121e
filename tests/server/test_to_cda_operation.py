"""`$to-cda` over HTTP, on both engines: every carrier, parameters in the address and in a Parameters resource."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from relais.cda.model import Document
from relais.cda.parsing import parse
from relais.cda.reader import read
from relais.cda.validation import Validator
from relais.mappings.context import Resource
from relais.profiles.xml import from_xml
from support.appointments import AGENDAS, Agenda
from support.facade import RunningFacade, issues
from support.notifications import NOTICES
from support.plans import PLANS

BUNDLES = {
    "CarePlan": PLANS["full"],
    "Appointment": AGENDAS["every-detail"],
    "CommunicationRequest": NOTICES["discharge"],
}
TYPES = {"pps": "18776-5", "agenda": "56446-8", "notification": "51851-4"}


class Office:
    """The resources of a few bundles on a running facade, by type."""

    def __init__(self, facade: RunningFacade) -> None:
        self.facade = facade
        self.names = {kind: stored(facade, bundle)[kind] for kind, bundle in BUNDLES.items()}
        self.names["Patient"] = stored(facade, _week())["Patient"]
        self.names["Communication"] = stored(facade, NOTICES["note"])["Communication"]

    def to_cda(self, kind: str, query: str = "", **headers: str) -> requests.Response:
        """GET of the operation of the stored resource of that type."""
        asked = "&".join(filter(None, ("model=agenda" if kind == "Patient" else "", query)))
        return self.facade.get(f"{self.names[kind]}/$to-cda?{asked}", **headers)

    def refusal(self, answer: requests.Response, status: int = 400) -> Resource:
        """The one issue of a refusal."""
        assert answer.status_code == status, answer.text
        (issue,) = issues(answer)
        return issue


def stored(facade: RunningFacade, bundle: Resource) -> dict[str, str]:
    """Store a Bundle; `Type/[id]` of the first resource of each type."""
    answer = facade.post("", bundle)
    assert answer.status_code == 200, answer.text
    names = [entry["response"]["location"].split("/_history/")[0] for entry in answer.json()["entry"]]
    return {name.partition("/")[0]: name for name in reversed(names)}


def _week() -> Resource:
    """Five appointments, none of them cancelled: a version does not repeat what the former one said is cancelled."""
    agenda = Agenda("office")
    for number, status in enumerate(("booked", "proposed", "pending", "fulfilled", "waitlist")):
        day = "2026-02-05" if status == "fulfilled" else f"2026-03-{20 - number}"
        times = {"start": f"{day}T08:00:00Z", "end": f"{day}T08:30:00Z"}
        agenda.appointment(f"rdv-{number}", status=status, **times)
    return agenda.bundle()


@pytest.fixture(scope="module")
def office(facade: RunningFacade) -> Iterator[Office]:
    yield Office(facade)


@pytest.fixture(scope="module")
def facade_settings() -> dict[str, Any]:
    return {
        "organization_name": "Dispositif d'appui à la coordination du Val d'Orge",
        "organization_finess": "910019447",
        "practice_setting": "AMBULATOIRE",
        "facility_type": "SA63",
        "responsible_rpps": "10101234567",
        "responsible_family": "ORME",
        "responsible_given": "Claire",
    }


def document_of(answer: requests.Response) -> Document:
    assert answer.status_code == 200, answer.text
    return read(answer.content).document


def parameters(**values: Any) -> Resource:
    """A Parameters resource; `status` may be a list."""
    pairs = [(name, one) for name, value in values.items() for one in (value if isinstance(value, list) else [value])]
    kinds = {"start": "valueDate", "end": "valueDate", "period": "valuePeriod"}
    given = [{"name": name, kinds.get(name, "valueCode"): value} for name, value in pairs]
    return {"resourceType": "Parameters", "parameter": given}


# --- every carrier ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("CarePlan", "pps"),
        ("Appointment", "agenda"),
        ("Patient", "agenda"),
        ("Communication", "notification"),
        ("CommunicationRequest", "notification"),
    ],
)
def test_every_carrier_has_its_document_at_both_levels(
    office: Office, validator: Validator, kind: str, expected: str
) -> None:
    structured, again = office.to_cda(kind), office.to_cda(kind)
    assert structured.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert structured.content == again.content
    unstructured = office.to_cda(kind, "level=n1")
    types = {document_of(one).header.code.code for one in (structured, unstructured)}
    assert types == {TYPES[expected] if kind != "Communication" else "28653-4"}
    assert document_of(unstructured).non_xml_body is not None
    for answer in (structured, unstructured):
        report = validator.validate(answer.content)
        assert report.conformant, report.to_text()


def test_a_client_that_wants_fhir_gets_a_binary(office: Office) -> None:
    content = office.to_cda("Appointment").content
    for asked, accepted in (("", "application/fhir+json"), ("_format=json", "text/xml")):
        answer = office.to_cda("Appointment", asked, Accept=accepted).json()
        assert (answer["resourceType"], answer["contentType"]) == ("Binary", "text/xml")
        assert base64.b64decode(answer["data"]) == content
    for asked, accepted in (("", "application/fhir+xml"), ("_format=xml", "*/*")):
        binary = from_xml(parse(office.to_cda("Appointment", asked, Accept=accepted).content).getroot())
        assert base64.b64decode(binary["data"]) == content
    assert office.to_cda("Appointment", "_format=text/xml", Accept="application/fhir+json").content == content


def test_the_remarks_are_answered_on_demand(office: Office) -> None:
    answer = office.to_cda("Appointment", Prefer="return=OperationOutcome")
    assert {issue["severity"] for issue in issues(answer)} <= {"warning", "information"}


# --- which appointments -----------------------------------------------------------------------------------------


def count(document: Document) -> int:
    return len(document.sections[0].entries)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 5),
        ({"start": "2026-03-01"}, 4),
        ({"start": "2026-03-17", "end": "2026-03-19"}, 2),
        ({"status": ["booked", "fulfilled"]}, 2),
        ({"end": "2026-03-19", "status": ["fulfilled", "waitlist", "booked"]}, 2),
    ],
)
def test_period_and_statuses_by_get_and_by_post(office: Office, asked: dict[str, Any], expected: int) -> None:
    pairs = [(name, one) for name, value in asked.items() for one in (value if isinstance(value, list) else [value])]
    by_get = office.to_cda("Patient", "&".join(f"{name}={value}" for name, value in pairs))
    by_comma = office.to_cda(
        "Patient", "&".join(f"{n}={','.join(v) if isinstance(v, list) else v}" for n, v in asked.items())
    )
    by_post = office.facade.post(f"{office.names['Patient']}/$to-cda", parameters(model="agenda", **asked))
    assert count(document_of(by_get)) == expected
    assert by_get.content == by_comma.content == by_post.content


def test_a_period_by_post_is_start_and_end(office: Office) -> None:
    period = {"start": "2026-03-17", "end": "2026-03-19"}
    by_period = office.facade.post(f"{office.names['Patient']}/$to-cda", parameters(model="agenda", period=period))
    assert by_period.content == office.to_cda("Patient", "start=2026-03-17&end=2026-03-19").content


def test_level_by_post(office: Office) -> None:
    answer = office.facade.post(f"{office.names['CarePlan']}/$to-cda", parameters(level="n1", model="pps"))
    assert document_of(answer).non_xml_body is not None


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "query", "code", "place"),
    [
        ("CarePlan", "level=n2", "code-invalid", "level"),
        ("CarePlan", "start=2026-03-01", "not-supported", "start"),
        ("CarePlan", "model=agenda", "code-invalid", "model"),
        ("Appointment", "status=booked", "not-supported", "status"),
        ("Patient", "status=planned", "code-invalid", "status"),
        ("Patient", "status=entered-in-error", "code-invalid", "status"),
        ("Patient", "start=demain", "value", "start"),
        ("Patient", "start=2026-03-02&end=2026-03-01", "invalid", "end"),
        ("Patient", "start=2026-03-01&start=2026-03-02", "duplicate", "start"),
        ("Patient", "period=2026", "value", "period"),
        ("Patient", "stylesheet=a.xsl", "not-supported", "stylesheet"),
    ],
)
def test_a_parameter_that_cannot_be_understood(office: Office, kind: str, query: str, code: str, place: str) -> None:
    issue = office.refusal(office.to_cda(kind, query))
    assert (issue["code"], issue["expression"]) == (code, [place])


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"name": "level", "valueCode": "n7"}, "[1].valueCode"),
        ({"name": "depth", "valueCode": "1"}, "[1]"),
        ({"name": "level", "valueBoolean": True}, "[1].valueBoolean"),
        ({"name": "period", "valueCode": "2026"}, "[1].valueCode"),
        ({"name": "model", "valueCode": "agenda"}, "[0].valueCode"),
    ],
)
def test_a_parameter_of_a_body_that_cannot_be_understood(office: Office, given: Resource, place: str) -> None:
    body = parameters(model="agenda")
    body["parameter"].append(given)
    issue = office.refusal(office.facade.post(f"{office.names['Patient']}/$to-cda", body))
    assert issue["expression"] == [f"Parameters.parameter{place}"]


def test_a_period_and_its_bounds_are_not_given_together(office: Office) -> None:
    body = parameters(model="agenda", start="2026-01-01", period={"end": "2026-02-01"})
    issue = office.refusal(office.facade.post(f"{office.names['Patient']}/$to-cda", body))
    assert issue["expression"] == ["Parameters.parameter[2].valuePeriod"]


def test_the_model_of_a_patient_must_be_said(office: Office) -> None:
    assert office.refusal(office.facade.get(f"{office.names['Patient']}/$to-cda"))["code"] == "required"


def test_an_agenda_without_appointment_names_the_rule(office: Office) -> None:
    answer = office.to_cda("Patient", "start=2031")
    assert answer.status_code == 422
    (issue,) = (one for one in issues(answer) if one["severity"] == "error")
    assert issue["code"] == "not-found"
    assert issue["details"]["text"] == "docs/mapping-agenda.md"


def test_a_resource_that_is_not_there(office: Office) -> None:
    assert office.refusal(office.facade.get("Appointment/none/$to-cda"), 404)["code"] == "not-found"


def test_a_type_without_document_has_no_such_operation(office: Office) -> None:
    assert office.refusal(office.facade.get("Goal/1/$to-cda"), 404)["code"] == "not-supported"


# --- Bundles that are not stored --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*BUNDLES, "Communication"])
def test_the_document_of_a_posted_bundle(office: Office, validator: Validator, kind: str) -> None:
    bundle = BUNDLES.get(kind, NOTICES["note"])
    before = office.facade.count()
    for asked in ("", "?level=n1"):
        answer = office.facade.post(f"$to-cda{asked}", bundle, Accept="text/xml")
        assert (document_of(answer).non_xml_body is None) == (asked == "")
        report = validator.validate(answer.content)
        assert report.conformant, report.to_text()
    assert office.facade.count() == before


def test_a_posted_bundle_as_parameter_with_a_style_sheet(office: Office) -> None:
    body = parameters(level="n3")
    body["parameter"] += [
        {"name": "resource", "resource": AGENDAS["minimal"]},
        {"name": "stylesheet", "valueString": "../styles/cda.xsl"},
    ]
    answer = office.facade.post("$to-cda", body, Accept="text/xml")
    instruction = parse(answer.content).getroot().getprevious()
    assert instruction is not None
    assert str(instruction) == '<?xml-stylesheet type="text/xsl" href="../styles/cda.xsl"?>'


@pytest.mark.parametrize("address", ["https://ailleurs.example/cda.xsl", "javascript:alert(1)", "/etc/x.xsl", "a.css"])
def test_a_style_sheet_from_elsewhere_is_refused(office: Office, address: str) -> None:
    answer = office.facade.post(f"$to-cda?stylesheet={address}", AGENDAS["minimal"])
    assert answer.status_code == 400
    assert issues(answer)[0]["expression"] == ["stylesheet"]


# --- what is stated ---------------------------------------------------------------------------------------------


def test_the_statement_says_who_has_the_operation(office: Office) -> None:
    served = {one["type"]: one for one in office.facade.get("metadata").json()["rest"][0]["resource"]}
    having = {name for name, one in served.items() if "to-cda" in {each["name"] for each in one.get("operation", ())}}
    assert having == {
        "Appointment",
        "CarePlan",
        "Communication",
        "CommunicationRequest",
        "DocumentReference",
        "Patient",
    }
