"""What the person opposes after the order does not leave any more, nor what is sent without asking the mapping."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from relais.mappings.context import Resource
from relais.mappings.to_cda.consents import OPPOSITION_RULE
from relais.server.delivery import outbox
from relais.server.delivery.transmit import Wanted, transmit_document
from relais.server.store import Store
from support.appointments import AGENDAS
from support.notifications import NOTICES
from support.orders import Office, document_of, refused, stored_document, trouble
from support.plans import PLANS

DOCTOR = "medecin.traitant@cabinet.mssante.fr"
CARRIERS = {"CarePlan": PLANS["full"], "Appointment": AGENDAS["every-detail"], "Communication": NOTICES["note"]}


@pytest.fixture
def office(lite: Store) -> Office:
    return Office(lite, mhd_url="https://share.test/fhir")


def consent(patient: str, **elements: Any) -> Resource:
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
    policy = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}
    category = {"system": "http://loinc.org", "code": "59284-0"}
    stated: Resource = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [scope]},
        "category": [{"coding": [category]}],
        "patient": {"reference": patient},
        "policyRule": {"coding": [policy]},
    }
    return stated | elements


def denial(**provision: Any) -> Resource:
    return {"type": "permit", "provision": [{"type": "deny", **provision}]}


def naming(reference: str) -> Resource:
    return denial(data=[{"meaning": "instance", "reference": {"reference": reference}}])


def record(office: Office, patient: str, **elements: Any) -> str:
    """Store a Consent; its address."""
    return office.call("POST", "Consent", consent(patient, **elements)).location.split("/_history")[0]


def patient_of(office: Office, carrier: str) -> str:
    resource = office.read(carrier)
    people = [resource.get("subject", {}), *(one["actor"] for one in resource.get("participant", ()))]
    return str(next(one["reference"] for one in people if one.get("reference", "").startswith("Patient/")))


ACTOR = {"role": {"text": "destinataire"}, "reference": {"display": "un confrère"}}
STOPPING: dict[str, Resource] = {
    "all": {"provision": {"type": "deny"}},
    "opt-out": {"policyRule": {"coding": [{"code": "OPTOUT"}]}},
    "an-actor": {"provision": denial(actor=[ACTOR])},
    "a-purpose": {"provision": denial(purpose=[{"code": "TREAT"}])},
}


@pytest.mark.parametrize("channel", ["dmp", "mss", "hl7v2", "mhd"])
@pytest.mark.parametrize("opposition", STOPPING)
def test_an_opposition_after_the_order_stops_what_has_not_left(office: Office, channel: str, opposition: str) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, channel, **({"recipient": DOCTOR} if channel == "mss" else {}))
    record(office, patient_of(office, plan), **STOPPING[opposition])
    office.work()
    assert office.channels[channel].taken == []
    [delivery] = office.deliveries(task)
    assert (delivery.state, OPPOSITION_RULE in delivery.reason) == ("dead", True)
    assert office.task(task)["status"] == "failed"


@pytest.mark.parametrize("kind", CARRIERS)
def test_it_stops_the_document_of_every_carrier(store: Store, kind: str) -> None:
    office = Office(store)
    carrier = office.post(CARRIERS[kind], kind)
    office.order(carrier, "hl7v2")
    record(office, patient_of(office, carrier), provision={"type": "deny"})
    office.work()
    assert office.channels["hl7v2"].taken == []


@pytest.mark.parametrize(
    "elements",
    [
        {"provision": {"type": "permit"}},
        {"status": "rejected", "provision": {"type": "deny"}},
        {"provision": {"type": "deny", "period": {"end": "2026-03-01"}}},
        {"provision": {"type": "deny", "period": {"start": "2026-03-03"}}},
        {"scope": {"coding": [{"code": "research"}]}, "provision": {"type": "deny"}},
        {"scope": {"coding": [{"code": "adr"}]}, "provision": {"type": "deny"}},
    ],
)
def test_what_is_no_opposition_to_it_holds_nothing_up(office: Office, elements: Resource) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, "dmp")
    record(office, patient_of(office, plan), **elements)
    office.work()
    assert office.task(task)["status"] == "completed"


def test_an_opposition_of_somebody_else_holds_nothing_up(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, "dmp")
    somebody = office.call("POST", "Patient", {"resourceType": "Patient"}).location.split("/_history")[0]
    record(office, somebody.split("/fhir/")[-1], provision={"type": "deny"})
    office.work()
    assert office.task(task)["status"] == "completed"


def test_one_that_begins_between_order_and_attempt_counts(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    record(office, patient_of(office, plan), provision={"type": "deny", "period": {"start": "2026-03-03"}})
    task = office.order(plan, "dmp")
    office.wait(days=1)
    office.work()
    assert OPPOSITION_RULE in office.deliveries(task)[0].reason


def test_what_is_denied_by_name_stops_the_documents_made_with_it_alone(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    goal = office.read(plan)["goal"][0]["reference"]
    task = office.order(plan, "dmp")
    office.wait(seconds=1)
    stated = record(office, patient_of(office, plan), provision=naming(goal)).split("/fhir/")[-1]
    office.work()
    assert "what the document was made of" in office.deliveries(task)[0].reason
    office.change(stated, status="inactive")
    with office.backstage.transaction() as transaction:
        outbox.resume(transaction.connection, task["id"], office.now)
    office.work()
    assert office.task(task)["status"] == "completed"


def test_what_was_denied_by_name_before_was_left_out_and_stops_nothing(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = patient_of(office, plan)
    relative = office.call(
        "POST", "RelatedPerson", {"resourceType": "RelatedPerson", "patient": {"reference": patient}}
    )
    record(office, patient, provision=naming(f"RelatedPerson/{relative.location.split('/')[-3]}"))
    office.wait(seconds=1)
    task = office.order(plan, "dmp")
    office.work()
    assert office.task(task)["status"] == "completed"


def test_a_probe_that_may_not_leave_holds_no_other_one_up(office: Office) -> None:
    office.channels["dmp"].failures = [trouble() for _ in range(3)]
    plans = [plan_of(office, number) for number in range(5)]
    tasks = [office.order(plan, "dmp") for plan in plans]
    assert office.work() == 3  # the circuit is open
    for plan in plans[:4]:
        record(office, patient_of(office, plan), provision={"type": "deny"})
    office.wait(seconds=80)
    office.work()
    assert [office.task(task)["status"] for task in tasks] == [*["failed"] * 4, "completed"]


def plan_of(office: Office, number: int) -> str:
    """A plan with a number of its own, of a patient with a record of its own."""
    bundle = copy.deepcopy(PLANS["full"])
    plan = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "CarePlan")
    plan["identifier"] = [{"system": "urn:oid:1.2.250.1.999.42.2", "value": f"PPS-{number}"}]
    return office.post(bundle, "CarePlan")


def test_a_withdrawal_is_not_held_up(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp")
    office.work()
    record(office, patient_of(office, plan), provision={"type": "deny"})
    task = office.order(plan, "dmp", intent="withdraw")
    office.work()
    assert office.task(task)["status"] == "completed"


def test_what_is_denied_by_name_stops_nothing_that_was_made_without_it(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, "dmp")
    office.wait(seconds=1)
    other = office.call("POST", "Organization", {"resourceType": "Organization", "name": "Autre"})
    record(office, patient_of(office, plan), provision=naming(f"Organization/{other.location.split('/')[-3]}"))
    office.work()
    assert office.task(task)["status"] == "completed"


# --- documents made elsewhere -------------------------------------------------------------------------------------


def elsewhere(office: Office, plan: str) -> bytes:
    """The document of a plan, as if another software had made it."""
    return document_of(office, plan).replace(b"PPS-", b"PPX-").replace(b'root="2.25.', b'root="2.25.9')


def send_file(office: Office, content: bytes, *channels: str) -> Resource:
    """The Task of `relais send FILE`."""
    with office.backstage.transaction() as transaction:
        stored = transmit_document(transaction, content, Wanted(channels), office.settings, transaction.now)
    return office.read(f"Task/{stored.id}")


def test_a_stored_document_is_asked_for_when_it_is_ordered_and_before_it_leaves(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = patient_of(office, plan)
    reference = stored_document(office, patient, elsewhere(office, plan))
    task = office.order(reference, "hl7v2")
    stated = record(office, patient, provision=naming(reference)).split("/fhir/")[-1]
    office.work()
    assert OPPOSITION_RULE in office.deliveries(task)[0].reason
    assert [issue.rule for issue in refused(office, reference, "mss", recipient=DOCTOR)] == [OPPOSITION_RULE]
    office.change(stated, provision={"type": "deny"})
    assert [issue.rule for issue in refused(office, reference, "mss", recipient=DOCTOR)] == [OPPOSITION_RULE]


def test_a_file_is_judged_by_the_patient_of_its_header(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient, content = patient_of(office, plan), elsewhere(office, plan)
    task = send_file(office, content, "hl7v2")
    assert task["for"] == {"reference": patient}
    record(office, patient, provision={"type": "deny"})
    office.work()
    assert OPPOSITION_RULE in office.deliveries(task)[0].reason
