"""Wrong patient: what becomes of an order when the patient's identity changes before the document has left."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from relais.mappings import extensions, identity
from relais.mappings.context import Resource
from relais.server.delivery import outbox
from relais.server.store import Store
from support.orders import Office, document_of, refused, stored_document
from support.plans import PLANS

DOCTOR = "medecin.traitant@cabinet.mssante.fr"

OTHER_INS = "277076322082910"


@pytest.fixture
def office(lite: Store) -> Office:
    return Office(lite, mhd_url="https://share.test/fhir")


def doubted(patient: Resource) -> None:
    for reliability in extensions.extensions(patient, extensions.IDENTITY_RELIABILITY):
        for part in extensions.extensions(reliability, "identityStatus"):
            part["valueCoding"] = {"code": "PROV"}


def without_ins(patient: Resource) -> None:
    patient["identifier"] = [one for one in patient["identifier"] if one not in identity.ins_identifiers(patient)]


def of_somebody_else(patient: Resource) -> None:
    for one in identity.ins_identifiers(patient):
        one["value"] = OTHER_INS


def superseded_ins(patient: Resource) -> None:
    for one in identity.ins_identifiers(patient):
        one["use"] = "old"


def put(office: Office, address: str, change: Callable[[Resource], Any]) -> Resource:
    """Store a patient with the change; the patient as it was before."""
    before = office.read(address)
    after = copy.deepcopy(before)
    change(after)
    office.call("PUT", address, after)
    return before


@pytest.mark.parametrize("change", [doubted, without_ins, of_somebody_else, superseded_ins])
@pytest.mark.parametrize("channel", ["dmp", "mss", "hl7v2"])
def test_a_document_does_not_leave_under_an_identity_that_is_no_longer_the_patients(
    office: Office, channel: str, change: Callable[[Resource], Any]
) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    task = office.order(plan, channel, **({"recipient": DOCTOR} if channel == "mss" else {}))
    before = put(office, patient, change)
    office.work()
    assert office.channels[channel].taken == []
    [delivery] = office.deliveries(task)
    assert (delivery.state, "patientRole/id" in delivery.reason) == ("dead", True)
    assert office.task(task)["status"] == "failed"
    office.call("PUT", patient, before)
    with office.backstage.transaction() as transaction:
        assert outbox.resume(transaction.connection, task["id"], office.now) == 1
    office.work()
    assert len(office.channels[channel].taken) == 1


def test_a_change_of_anything_else_holds_nothing_up(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, "dmp")
    put(office, office.read(plan)["subject"]["reference"], lambda patient: patient.pop("address"))
    office.work()
    assert office.task(task)["status"] == "completed"


def test_an_ins_written_in_groups_is_the_same_ins(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")

    def spaced(patient: Resource) -> None:
        for one in identity.ins_identifiers(patient):
            one["value"] = f"{one['value'][:1]} {one['value'][1:3]} {one['value'][3:]}"

    put(office, office.read(plan)["subject"]["reference"], spaced)
    task = office.order(plan, "dmp")
    office.work()
    assert office.task(task)["status"] == "completed"


def test_a_withdrawal_is_not_held_up(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp")
    office.work()
    put(office, office.read(plan)["subject"]["reference"], of_somebody_else)
    task = office.order(plan, "dmp", intent="withdraw")
    office.work()
    assert office.task(task)["status"] == "completed"
    assert [sent.action for sent in office.channels["dmp"].taken] == ["send", "withdraw"]


@pytest.mark.parametrize("channel", ["dmp", "hl7v2", "mhd"])
def test_a_stored_document_is_filed_by_its_ins_only_where_the_identity_is_qualified_here(
    office: Office, channel: str
) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    content = document_of(office, plan).replace(b"PPS-", b"PPX-").replace(b'root="2.25.', b'root="2.25.9')
    reference = stored_document(office, patient, content)
    put(office, patient, doubted)
    [issue] = refused(office, reference, channel)
    assert (issue.path, "not qualified" in issue.message) == ("DocumentReference.subject", True)
    [issue] = refused(office, reference, "mss", recipient=DOCTOR, patient=True)
    assert "not qualified" in issue.message
    task = office.order(reference, "mss", recipient=DOCTOR)
    office.work()
    assert office.task(task)["status"] == "completed"


# --- records that were merged, or are not in use ----------------------------------------------------------------


def survivor_of(office: Office, patient: str, change: Callable[[Resource], Any] = lambda _: None) -> str:
    """Merge the record of a patient into another one of the same person, with the change; that one's address."""
    twin = {name: value for name, value in office.read(patient).items() if name not in ("id", "meta")}
    change(twin)
    survivor = office.call("POST", "Patient", twin).location.split("/_history")[0].split("/fhir/")[-1]
    merge(office, patient, survivor)
    return survivor


def merge(office: Office, patient: str, survivor: str) -> None:
    office.change(patient, link=[{"other": {"reference": survivor}, "type": "replaced-by"}], active=False)


def other_birth(patient: Resource) -> None:
    patient["birthDate"] = "1979-03-29"


DIFFERENT = [of_somebody_else, doubted, without_ins, other_birth]


@pytest.mark.parametrize("change", DIFFERENT)
def test_an_order_about_a_merged_patient_is_refused_and_names_the_right_one(
    office: Office, change: Callable[[Resource], Any]
) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    reference = stored_document(office, patient, document_of(office, plan))
    survivor = survivor_of(office, patient, change)
    for carrier, path in ((plan, "Patient.link"), (reference, "DocumentReference.subject")):
        [issue] = refused(office, carrier, "mss", recipient=DOCTOR)
        assert (issue.path, survivor in issue.message, "merged" in issue.rule) == (path, True, True)


@pytest.mark.parametrize("change", DIFFERENT)
def test_what_was_ordered_before_the_merge_does_not_leave(office: Office, change: Callable[[Resource], Any]) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, "dmp")
    survivor = survivor_of(office, office.read(plan)["subject"]["reference"], change)
    office.work()
    [delivery] = office.deliveries(task)
    assert (delivery.state, survivor in delivery.reason) == ("dead", True)
    assert survivor in office.task(task)["statusReason"]["text"]
    assert office.channels["dmp"].taken == []


def test_a_document_that_bears_the_ins_of_the_surviving_patient_leaves(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    before = office.order(plan, "dmp")
    first = survivor_of(office, office.read(plan)["subject"]["reference"])
    last = survivor_of(office, first)
    office.change(last, active=True)
    after = office.order(plan, "mss", recipient=DOCTOR)
    office.work()
    assert [office.task(task)["status"] for task in (before, after)] == ["completed"] * 2


def test_a_merge_that_leads_nowhere_is_refused(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    merge(office, survivor_of(office, patient), patient)
    assert "not held here" in refused(office, plan, "dmp")[0].message
    office.change(patient, link=[{"other": {"reference": "https://elsewhere.test/Patient/1"}, "type": "replaced-by"}])
    assert "not held here" in refused(office, plan, "dmp")[0].message


def test_nothing_leaves_about_a_record_that_is_not_in_use_unless_its_patient_has_died(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    task = office.order(plan, "hl7v2")
    office.change(patient, active=False)
    assert [issue.path for issue in refused(office, plan, "dmp")] == ["Patient.active"]
    office.work()
    assert [one.state for one in office.deliveries(task)] == ["dead"]
    office.change(patient, deceasedDateTime="2026-03-01")
    task = office.order(plan, "dmp")
    office.work()
    assert office.task(task)["status"] == "completed"


def test_what_was_sent_of_a_merged_patient_is_withdrawn(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    reference = stored_document(office, patient, document_of(office, plan))
    office.order(reference, "dmp")
    office.work()
    survivor = survivor_of(office, patient, of_somebody_else)
    assert office.order(reference, "dmp", intent="withdraw", dryRun=True)["for"]["reference"] == patient
    office.change(reference, subject={"reference": survivor})
    office.order(reference, "dmp", intent="withdraw")
    office.work()
    assert [sent.action for sent in office.channels["dmp"].taken] == ["send", "withdraw"]
