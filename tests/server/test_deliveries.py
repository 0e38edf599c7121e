"""Delivery orders: what may be ordered, what is refused at once, what the channels are handed."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import pytest

from relais.cda.errors import Issue
from relais.cda.reader import read
from relais.mappings.context import Resource
from relais.server import document_imports, documents
from relais.server.delivery import story, watch
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.hl7v2 import order_of
from relais.server.fhir.outcome import FhirError
from relais.server.settings import SettingsError
from relais.server.store import Store, StoreError
from support.appointments import AGENDAS
from support.notifications import NOTICES
from support.orders import Office, document_of, refused, settings_of, stored_document, trouble
from support.plans import PLANS

NURSE = "isabelle.lefranc@exemple.mssante.fr"
DOCTOR = "medecin.traitant@cabinet.mssante.fr"
CARRIERS = {
    "CarePlan": PLANS["full"],
    "Appointment": AGENDAS["every-detail"],
    "Patient": AGENDAS["week"],
    "Communication": NOTICES["note"],
    "CommunicationRequest": NOTICES["admission"],
}


@pytest.fixture
def office(lite: Store) -> Office:
    """On SQLite: the rules of orders do not depend on the engine; what is stored of them is tried on both."""
    return Office(lite)


# --- every carrier ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CARRIERS)
def test_the_document_of_every_carrier_is_delivered_as_it_was_issued(store: Store, kind: str) -> None:
    office = Office(store)
    carrier = office.post(CARRIERS[kind], kind)
    more = {"model": "agenda"} if kind == "Patient" else {}
    task = office.order(carrier, "mss", recipient=DOCTOR, **more)
    assert (task["status"], task["focus"]["reference"]) == ("requested", f"{carrier}/_history/1")
    assert office.work() == 1
    with office.store.snapshot() as connection:
        issued = documents.last_issued(connection, carrier)
    assert issued is not None
    assert [sent.document for sent in office.channels["mss"].taken] == [issued.content]
    assert office.task(task)["status"] == "completed"


def test_notifications_go_before_what_waits_already(store: Store) -> None:
    office = Office(store)
    plan = office.order(office.post(PLANS["full"], "CarePlan"), "hl7v2")
    notice = office.order(office.post(NOTICES["note"], "Communication"), "hl7v2")
    pressing = office.order(office.post(AGENDAS["every-detail"], "Appointment"), "hl7v2", priority="stat")
    assert [plan["priority"], notice["priority"], pressing["priority"]] == ["routine", "urgent", "stat"]
    office.work()
    sent = [delivery.message_id for task in (pressing, notice, plan) for delivery in office.deliveries(task)]
    assert [shipment.message_id for shipment in office.channels["hl7v2"].taken] == sent


def test_a_stored_document_is_sent_byte_for_byte(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    content = document_of(office, plan).replace(b"PPS-", b"PPX-").replace(b'root="2.25.', b'root="2.25.9')
    reference = stored_document(office, patient, content)
    task = office.order(reference, "hl7v2")
    assert task["for"]["reference"] == patient
    office.work()
    assert office.channels["hl7v2"].taken[0].document == content


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"status": "superseded"}, "status"),
        ({"docStatus": "preliminary"}, "docStatus"),
        ({"attachment": {"size": 7}}, "size"),
        ({"attachment": {"hash": base64.b64encode(bytes(20)).decode()}}, "hash"),
        ({"attachment": {"contentType": "application/pdf"}}, "attachment"),
        ({"attachment": {"url": "https://elsewhere.test/Binary/1"}}, "url"),
    ],
)
def test_a_stored_document_that_is_not_what_it_says_is_refused(
    office: Office, changes: dict[str, Any], place: str
) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    reference = stored_document(office, patient, document_of(office, plan), **changes)
    assert refused(office, reference, "hl7v2")[0].path.endswith(place)


def test_a_stored_document_about_somebody_else_is_refused(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    other = office.post(PLANS["born-abroad"], "Patient")
    reference = stored_document(office, other, document_of(office, plan))
    assert "another patient" in refused(office, reference, "hl7v2")[0].message


# --- recipients -------------------------------------------------------------------------------------------------


def test_without_recipients_the_care_team_gets_the_plan(office: Office) -> None:
    task = office.order(office.post(PLANS["full"], "CarePlan"), "mss")
    assert [delivery.recipient for delivery in office.deliveries(task)] == [NURSE]


def test_who_has_no_mailbox_of_his_own_is_reached_by_that_of_the_structure(office: Office) -> None:
    stored = office.post_all(PLANS["full"])
    plan = next(name for name in stored if name.startswith("CarePlan/"))
    team = next(name for name in stored if name.startswith("CareTeam/"))
    members = [one["member"]["reference"] for one in office.read(team)["participant"]]
    role = office.read(members[0])
    mailbox = {"system": "email", "value": "secretariat@cabinet.mssante.fr"}
    office.change(role["organization"]["reference"], telecom=[{"system": "email", "value": "a@b.example"}, mailbox])
    office.change(members[1], telecom=[{"system": "email", "value": NURSE, "period": {"end": "2020-01-01"}}])
    task = office.order(plan, "mss")
    assert [delivery.recipient for delivery in office.deliveries(task)] == ["secretariat@cabinet.mssante.fr"]


def test_a_mailbox_on_the_red_list_is_written_to_by_those_who_name_it_alone(office: Office) -> None:
    stored = office.post_all(PLANS["full"])
    plan = next(name for name in stored if name.startswith("CarePlan/"))
    team = next(name for name in stored if name.startswith("CareTeam/"))
    members = [one["member"]["reference"] for one in office.read(team)["participant"]]
    metadata = "https://interop.esante.gouv.fr/ig/fhir/annuaire/StructureDefinition/as-ext-mailbox-mss-metadata"
    red = {"url": metadata, "extension": [{"url": "listeRouge", "valueBoolean": True}]}
    office.change(members[1], telecom=[{"system": "email", "value": NURSE, "extension": [red]}])
    assert refused(office, plan, "mss")[0].path == "recipient"
    task = office.order(plan, "mss", recipient=NURSE)
    assert [delivery.recipient for delivery in office.deliveries(task)] == [NURSE]


def test_a_mailbox_outside_the_trust_space_is_refused_even_when_it_is_said_to_be_of_mssante(office: Office) -> None:
    stored = office.post_all(PLANS["full"])
    plan = next(name for name in stored if name.startswith("CarePlan/"))
    team = next(name for name in stored if name.startswith("CareTeam/"))
    url = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-contact-point-email-type"
    said = {"system": "email", "value": "x@elsewhere.example"}
    said |= {"extension": [{"url": url, "valueCoding": {"code": "MSSANTE"}}]}
    office.change(office.read(team)["participant"][1]["member"]["reference"], telecom=[said])
    assert "trust space" in refused(office, plan, "mss")[0].message


def test_a_mailbox_in_another_case_is_the_same_mailbox(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, "mss", recipient=DOCTOR.title())
    assert [one.recipient for one in office.deliveries(task)] == [DOCTOR]
    assert refused(office, plan, "mss", recipient=DOCTOR.upper())[0].code == "duplicate"


def test_nobody_to_write_to_is_said(office: Office) -> None:
    assert refused(office, office.post(PLANS["minimal"], "CarePlan"), "mss")[0].path == "recipient"


def test_the_patient_gets_a_message_of_his_own_made_of_the_ins(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, "mss", patient=True, recipient=DOCTOR)
    number = next(
        one["value"]
        for one in office.read(office.read(plan)["subject"]["reference"])["identifier"]
        if one.get("system") == "urn:oid:1.2.250.1.213.1.4.10"
    )
    assert [one.recipient for one in office.deliveries(task)] == [DOCTOR, f"{number}@patient.mssante.fr"]
    office.work()
    assert [len(shipment.recipients) for shipment in office.channels["mss"].taken] == [1, 1]


def test_without_a_qualified_ins_there_is_no_mailbox_of_the_patient(office: Office) -> None:
    plan = office.post(PLANS["ins-not-qualified"], "CarePlan")
    assert refused(office, plan, "mss", recipient=DOCTOR, patient=True)[0].rule == "ECO.2.2.6"


# --- what an order says -----------------------------------------------------------------------------------------


def test_what_is_hidden_from_whom_stands_in_the_metadata(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    hidden = ["patient", "representatives"]
    office.order(plan, "hl7v2", "dmp", recipient=DOCTOR, hideFrom=hidden, acknowledgement="reception")
    office.work()
    for name in ("dmp", "hl7v2"):
        shipment = office.channels[name].taken[0]
        codes = [code.code for code in shipment.submission.entries[0].confidentiality]
        assert codes == ["N", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"]
        assert shipment.acknowledgements == ("reception",)


def test_what_a_stored_fiche_hides_is_hidden_where_its_document_goes(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    reference = stored_document(office, patient, document_of(office, plan), securityLabel=labels("INVISIBLE_PATIENT"))
    found = refused(office, reference, "mss", recipient=DOCTOR, patient=True)
    assert [(issue.path, issue.rule) for issue in found] == [("securityLabel", "MSSanté, HL7v2 volet: M1, M3")]
    found = refused(office, reference, "dmp", hideFrom="professionals")
    assert [(issue.path, issue.rule) for issue in found] == [("securityLabel", "EX_2.1-1050")]
    office.order(reference, "dmp", hideFrom="representatives")
    office.work()
    codes = [code.code for code in office.channels["dmp"].taken[0].submission.entries[0].confidentiality]
    assert codes == ["N", "INVISIBLE_REPRESENTANTS_LEGAUX", "INVISIBLE_PATIENT"]


@pytest.mark.parametrize("kind", ["CarePlan", "Appointment", "Communication"])
def test_what_a_resource_hides_is_hidden_where_its_document_goes(office: Office, kind: str) -> None:
    carrier = office.post(CARRIERS[kind], kind)
    [_, label] = labels("INVISIBLE_PATIENT")
    office.change(carrier, meta={"security": label["coding"]})
    found = refused(office, carrier, "mss", recipient=DOCTOR, patient=True)
    assert ("meta.security", "MSSanté, HL7v2 volet: M1, M3") in [(issue.path, issue.rule) for issue in found]
    office.order(carrier, "mss", recipient=DOCTOR)
    office.work()
    [sent] = office.channels["mss"].taken
    assert [code.code for code in sent.submission.entries[0].confidentiality] == ["N", "INVISIBLE_PATIENT"]


def test_a_mask_that_nobody_can_be_told_of_keeps_a_document_here(office: Office) -> None:
    carrier = office.post(PLANS["full"], "CarePlan")
    [_, label] = labels("MASQUE_PSOCIAL")
    office.change(carrier, meta={"security": label["coding"]})
    found = refused(office, carrier, "mss", recipient=DOCTOR)
    assert [(issue.path, issue.rule) for issue in found] == [("meta.security", "JDV_J08, JDV_J110")]


def test_what_an_appointment_hides_is_hidden_where_the_agenda_goes(office: Office) -> None:
    names = office.post_all(AGENDAS["week"])
    [_, label] = labels("INVISIBLE_REPRESENTANTS_LEGAUX")
    office.change(next(one for one in names if one.startswith("Appointment/")), meta={"security": label["coding"]})
    patient = next(one for one in names if one.startswith("Patient/"))
    office.order(patient, "mss", recipient=DOCTOR, model="agenda")
    office.work()
    [sent] = office.channels["mss"].taken
    codes = [code.code for code in sent.submission.entries[0].confidentiality]
    assert codes == ["N", "INVISIBLE_REPRESENTANTS_LEGAUX"]


def test_what_a_document_hides_that_goes_with_a_notification_is_hidden(office: Office) -> None:
    carrier = office.post(NOTICES["note"], "Communication")
    patient = office.read(carrier)["subject"]["reference"]
    letter = {"contentType": "application/pdf", "data": base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()}
    enclosed = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": patient},
        "securityLabel": labels("INVISIBLE_REPRESENTANTS_LEGAUX"),
        "content": [{"attachment": letter}],
    }
    location = office.call("POST", "DocumentReference", enclosed).location.split("/_history")[0]
    office.change(carrier, payload=[{"contentReference": {"reference": location}}])
    office.order(carrier, "mss", recipient=DOCTOR)
    office.work()
    [sent] = office.channels["mss"].taken
    codes = [code.code for code in sent.submission.entries[0].confidentiality]
    assert codes == ["N", "INVISIBLE_REPRESENTANTS_LEGAUX"]


def labels(mask: str) -> list[dict[str, Any]]:
    system = "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"
    normal = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}
    return [{"coding": [normal]}, {"coding": [{"system": system, "code": mask}]}]


def test_the_dmp_takes_no_document_that_is_more_confidential(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    normal, restricted = b'<confidentialityCode code="N"', b'<confidentialityCode code="R"'
    content = document_of(office, plan).replace(b'root="2.25.', b'root="2.25.9').replace(normal, restricted)
    reference = stored_document(office, patient, content)
    assert [one.path for one in refused(office, reference, "dmp")] == ["ClinicalDocument/confidentialityCode"]
    office.order(reference, "hl7v2", recipient=DOCTOR)


def test_a_platform_is_asked_to_feed_the_dmp_with_what_the_dmp_takes(office: Office) -> None:
    for name in ("full", "ins-not-qualified"):
        office.order(office.post(PLANS[name], "CarePlan"), "hl7v2", recipient=DOCTOR)
    office.work()
    orders = [order_of(sent, read(sent.document).document, office.settings) for sent in office.channels["hl7v2"].taken]
    assert [order.flags.to_dmp for order in orders] == [True, False]


def test_a_platform_is_not_asked_to_feed_the_dmp_with_what_relais_brings_there(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp", "hl7v2", recipient=DOCTOR)
    office.work()
    office.change(plan, title="Un autre titre")
    office.order(plan, "hl7v2", recipient=DOCTOR)
    office.work()
    office.order(plan, "hl7v2", intent="withdraw")
    office.work()
    orders = [order_of(sent, read(sent.document).document, office.settings) for sent in office.channels["hl7v2"].taken]
    assert [order.flags.to_dmp for order in orders] == [False, False, False]


RESPONSIBLE = {"responsible_rpps": "10101234564", "responsible_family": "ROUX", "responsible_given": "Ines"}


def senders(office: Office, channel: str) -> list[tuple[str | None, ...]]:
    """Person and structures of the author of each lot that a channel took."""
    lots = [shipment.submission.submission_set for shipment in office.channels[channel].taken]
    return [(lot.author.person, *lot.author.institutions) for lot in lots]


def test_what_another_structure_wrote_is_sent_by_who_answers_here(lite: Store) -> None:
    office = Office(lite, organization_finess="750000018", organization_name="DAC", **RESPONSIBLE)
    office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
    office.work()
    person = "810101234564^ROUX^Ines^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
    assert senders(office, "dmp") == [(person, "DAC^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750000018")]
    [entry] = office.channels["dmp"].taken[0].submission.entries
    assert all("750000018" not in text for author in entry.authors for text in author.institutions)


def test_what_another_structure_wrote_is_not_withdrawn_from_the_dmp(lite: Store) -> None:
    office = Office(lite, organization_finess="750000018", organization_name="DAC", **RESPONSIBLE)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp")
    office.work()
    [issue] = refused(office, plan, "dmp", intent="withdraw")
    assert (issue.path, issue.rule) == ("intent", "LocalPolicyRestrictionError")


def test_what_this_structure_wrote_is_withdrawn_from_the_dmp(lite: Store) -> None:
    office = Office(lite, organization_finess="910019447", **RESPONSIBLE)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp")
    office.work()
    office.order(plan, "dmp", intent="withdraw")
    office.work()
    assert [shipment.action for shipment in office.channels["dmp"].taken] == ["send", "withdraw"]


def test_what_this_structure_wrote_is_sent_by_its_author(lite: Store) -> None:
    office = Office(lite, organization_finess="910019447", **RESPONSIBLE)
    office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
    office.work()
    [shipment] = office.channels["dmp"].taken
    assert shipment.submission.submission_set.author == shipment.submission.entries[0].authors[0]


def test_the_dmp_needs_somebody_who_answers_for_what_others_wrote(lite: Store) -> None:
    nobody = dict.fromkeys(RESPONSIBLE, "")
    office = Office(lite, organization_finess="750000018", **nobody)
    plan = office.post(PLANS["full"], "CarePlan")
    assert [one.path for one in refused(office, plan, "dmp")] == ["responsible_rpps", "responsible_family"]
    office.order(plan, "mss", recipient=DOCTOR)


def test_a_platform_without_a_name_gets_no_order(lite: Store) -> None:
    office = Office(lite, hl7v2_receiving_application="", hl7v2_receiving_facility="")
    [issue] = refused(office, office.post(PLANS["full"], "CarePlan"), "hl7v2")
    assert "hl7v2_receiving_application, hl7v2_receiving_facility" in issue.message


@pytest.mark.parametrize(
    ("channels", "parameters", "rule"),
    [
        (["dmp"], {"hideFrom": ["professionals", "patient"]}, "EX_2.1-1050"),
        (["mss"], {"patient": True, "hideFrom": "patient"}, "MSSanté, HL7v2 volet: M1, M3"),
        (["mss"], {"intent": "withdraw"}, "CI-SIS: life cycle of documents"),
        (["hl7v2"], {"intent": "withdraw"}, "CI-SIS: life cycle of documents"),
        (["hl7v2"], {"intent": "replace"}, "ITI-41, RPLC"),
        (["dmp"], {"recipient": DOCTOR}, ""),
        (["dmp"], {"acknowledgement": "reading"}, ""),
        (["mss"], {"recipient": [DOCTOR, DOCTOR.upper()]}, ""),
        (["mss"], {"priority": "whenever"}, ""),
        (["mss"], {"colour": "red"}, ""),
        (["mss"], {"dryRun": "true"}, ""),
        (["mss"], {"acknowledgement": ["none", "reading"]}, ""),
        (["dmp", "dmp"], {}, ""),
        (["pigeon"], {}, ""),
    ],
)
def test_combinations_that_make_no_sense_are_refused_at_once(
    office: Office, channels: list[str], parameters: dict[str, Any], rule: str
) -> None:
    found = refused(office, office.post(PLANS["full"], "CarePlan"), *channels, **parameters)
    assert rule in [issue.rule for issue in found]


def test_the_strict_volet_lists_what_may_be_ordered(lite: Store) -> None:
    office = Office(lite, hl7v2_strict=True)
    plan = office.post(PLANS["full"], "CarePlan")
    found = refused(office, plan, "hl7v2", recipient=DOCTOR)
    assert found[0].rule == "HL7v2 volet: M1 to M3"
    office.order(plan, "hl7v2", recipient=DOCTOR, hideFrom="patient")


def test_a_rehearsal_refuses_as_the_order_would_and_stores_nothing(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    before = office.store.history().total
    assert office.order(plan, "dmp", dryRun=True)["status"] == "requested"
    assert office.store.history().total == before
    assert office.work() == 0
    with office.store.snapshot() as connection:
        assert documents.last_issued(connection, plan) is None
    unapproved = office.post(PLANS["active-without-approval"], "CarePlan")
    refused(office, unapproved, "dmp", dryRun=True)


def test_a_document_is_withdrawn_where_it_was_sent(store: Store) -> None:
    office = Office(store)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "hl7v2")
    office.work()
    task = office.order(plan, "hl7v2", intent="withdraw")
    office.work()
    sent, withdrawn = office.channels["hl7v2"].taken
    assert (sent.action, withdrawn.action) == ("send", "withdraw")
    assert (sent.document, sent.message_id != withdrawn.message_id) == (withdrawn.document, True)
    assert office.task(task)["code"]["coding"][0]["code"] == "withdraw"
    refused(office, plan, "hl7v2", intent="withdraw")


def test_what_was_sent_in_error_is_withdrawn_though_its_carrier_is_deleted_or_in_error(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    reference = stored_document(office, patient, document_of(office, plan))
    office.order(plan, "dmp")
    office.order(reference, "hl7v2")
    office.work()
    office.change(reference, status="entered-in-error", docStatus="entered-in-error")
    assert office.order(reference, "hl7v2", intent="withdraw", dryRun=True)["for"]["reference"] == patient
    office.call("DELETE", plan)
    task = office.order(plan, "dmp", intent="withdraw")
    office.work()
    assert (office.task(task)["for"]["reference"], office.task(task)["status"]) == (patient, "completed")


def test_the_document_of_another_patient_is_not_withdrawn(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "hl7v2")
    office.work()
    other = stored_document(office, office.post(PLANS["born-abroad"], "Patient"), document_of(office, plan))
    assert "another patient" in refused(office, other, "hl7v2", intent="withdraw")[0].message


def test_a_replacement_has_something_to_replace(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp")
    office.work()
    office.change(plan, title="Plan revu")
    office.order(plan, "dmp", intent="replace")
    office.work()
    first, second = office.channels["dmp"].taken
    replaced = f"urn:oid:{first.submission.entries[0].unique_id}"
    assert [one.target for one in second.submission.associations] == [replaced]


def test_who_ordered_what_when_and_how_it_ended_is_told(store: Store) -> None:
    office = Office(store)
    plan = office.post(PLANS["full"], "CarePlan")
    requester = office.read(plan)["author"]["reference"]
    task = office.order(plan, "dmp", requester={"reference": requester})
    office.work()
    provenance = office.read(f"Provenance?target=Task/{task['id']}")["entry"][0]["resource"]
    assert (task["requester"], provenance["agent"][0]["who"]) == ({"reference": requester},) * 2
    patient = office.read(plan)["subject"]["reference"]
    event = office.read(f"AuditEvent?patient={patient}")["entry"][0]["resource"]
    assert (event["outcome"], event["type"]["code"]) == ("0", "110106")
    assert {"reference": f"Task/{task['id']}"} in [entity["what"] for entity in event["entity"]]


# --- the Task belongs to the order ------------------------------------------------------------------------------


def test_clients_do_not_change_the_task_of_an_order(store: Store) -> None:
    office = Office(store)
    task = office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
    address = f"Task/{task['id']}"
    attempts: list[tuple[str, Resource | None]] = [("PUT", task | {"status": "cancelled"}), ("DELETE", None)]
    for method, body in attempts:
        with pytest.raises(FhirError) as raised:
            office.call(method, address, body)
        assert (raised.value.status, raised.value.issues[0].rule) == (405, watch.OWN_TASKS_RULE)
    office.work()
    assert office.task(task)["status"] == "completed"


@pytest.mark.parametrize("kind", ["Provenance", "AuditEvent"])
def test_clients_do_not_change_what_records_an_order(office: Office, kind: str) -> None:
    task = office.order(office.post(PLANS["minimal"], "CarePlan"), "dmp")
    office.work()
    (entry,) = office.read(f"{kind}?{'target' if kind == 'Provenance' else 'entity'}=Task/{task['id']}")["entry"]
    record = entry["resource"]
    address = f"{kind}/{record['id']}"
    attempts: list[tuple[str, Resource | None]] = [("PUT", record | {"meta": {"versionId": "1"}}), ("DELETE", None)]
    for method, body in attempts:
        with pytest.raises(FhirError) as raised:
            office.call(method, address, body)
        assert raised.value.status == 405
    assert office.read(address) == record


def test_tasks_that_are_no_orders_are_the_clients_own(office: Office) -> None:
    task = {"resourceType": "Task", "status": "draft", "intent": "plan"}
    address = office.call("POST", "Task", task).location.split("/_history")[0]
    office.change(address, status="requested")
    assert office.call("DELETE", address).status == 204


# --- events that order ------------------------------------------------------------------------------------------


def tasks(office: Office) -> list[Resource]:
    found = office.read("Task?_sort=_lastUpdated")
    return [entry["resource"] for entry in found.get("entry", ())]


def test_an_approved_plan_orders_its_transmission_once(store: Store) -> None:
    office = Office(store, triggers="validated-plan=dmp+mss")
    plan = office.post(PLANS["full"], "CarePlan")
    (task,) = tasks(office)
    assert (task["status"], task["focus"]["reference"]) == ("requested", f"{plan}/_history/1")
    assert [(one.channel, one.recipient) for one in office.deliveries(task)] == [("dmp", ""), ("mss", NURSE)]
    office.change(plan, meta={"tag": [{"system": "urn:x", "code": "seen"}]})
    assert len(tasks(office)) == 1
    office.change(plan, title="Plan revu")
    assert len(tasks(office)) == 2


def test_a_plan_that_nobody_approved_waits_for_its_approval(lite: Store) -> None:
    office = Office(lite, triggers="validated-plan=dmp")
    bundle = copy.deepcopy(PLANS["active-without-approval"])
    plan = office.post(bundle, "CarePlan")
    assert tasks(office) == []
    resource = office.read(plan)
    approval = {
        "resourceType": "Provenance",
        "target": [{"reference": plan}],
        "recorded": "2026-03-01T10:00:00Z",
        "agent": [
            {
                "type": {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                            "code": "verifier",
                        }
                    ]
                },
                "who": resource["author"],
            }
        ],
    }
    office.call("POST", "Provenance", approval)
    assert [task["focus"]["reference"] for task in tasks(office)] == [f"{plan}/_history/1"]


def test_a_refused_order_of_an_event_is_said_and_holds_no_write_up(lite: Store) -> None:
    office = Office(lite, triggers="validated-plan=dmp")
    plan = office.post(PLANS["ins-not-qualified"], "CarePlan")
    (task,) = tasks(office)
    assert (task["status"], task["focus"]["reference"]) == ("rejected", plan)
    assert "recordTarget" in task["statusReason"]["text"]
    office.wait(hours=1)
    office.change(plan, title="Plan revu")
    (again,) = tasks(office)
    assert (again["id"], again["meta"]["versionId"]) == (task["id"], "2")
    assert again["lastModified"] > task["lastModified"]


def test_what_one_channel_refuses_of_an_event_goes_by_the_others(lite: Store) -> None:
    office = Office(lite, triggers="validated-plan=dmp+mss")
    office.post(PLANS["minimal"], "CarePlan")  # nobody of its team has a mailbox
    told = {tuple(one.get("valueCode") for one in task["input"]): task["status"] for task in tasks(office)}
    assert told == {("dmp",): "requested", ("mss",): "rejected"}


def test_what_every_channel_refuses_of_an_event_is_told_once(lite: Store) -> None:
    office = Office(lite, triggers="validated-plan=mss+hl7v2")
    plan = office.post(PLANS["full"], "CarePlan")
    office.change(office.read(plan)["subject"]["reference"], active=False)
    office.change(plan, title="Plan revu")
    (task,) = [task for task in tasks(office) if task["status"] == "rejected"]
    assert [one["valueCode"] for one in task["input"]] == ["mss", "hl7v2"]
    assert "Patient.active" in task["statusReason"]["text"]


def test_those_of_the_care_team_who_have_the_plan_do_not_get_it_again(office: Office) -> None:
    stored = office.post_all(PLANS["full"])
    plan = next(name for name in stored if name.startswith("CarePlan/"))
    team = next(name for name in stored if name.startswith("CareTeam/"))
    doctor = office.read(team)["participant"][0]["member"]["reference"]
    office.change(doctor, telecom=[{"system": "email", "value": DOCTOR}])
    office.order(plan, "mss", recipient=NURSE)
    task = office.order(plan, "mss")
    assert [delivery.recipient for delivery in office.deliveries(task)] == [DOCTOR]
    assert {issue.code for issue in refused(office, plan, "mss")} == {"duplicate"}


def test_a_store_that_fails_is_no_refusal_of_the_order_of_an_event(
    lite: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(lite, triggers="validated-plan=dmp")

    def failing(*_: Any) -> None:
        raise StoreError(Issue("error", "transient", "down"))

    monkeypatch.setattr(watch, "transmit", failing)
    with pytest.raises(StoreError):
        office.post(PLANS["full"], "CarePlan")
    assert (tasks(office), office.store.history().total) == ([], 0)


def test_a_task_that_the_store_does_not_take_is_written_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    task = office.order(office.post(PLANS["full"], "CarePlan"), "dmp")

    def failing(*_: Any, **__: Any) -> None:
        raise StoreError(Issue("error", "transient", "down"))

    with pytest.raises(StoreError), office.backstage.transaction() as transaction:
        monkeypatch.setattr(transaction, "update", failing)
        story.write_task(transaction, task["id"])


def test_a_moved_appointment_and_a_declared_event_order_theirs(lite: Store) -> None:
    office = Office(lite, triggers="moved-appointment=hl7v2, declared-event=hl7v2")
    appointment = office.post(AGENDAS["minimal"], "Appointment")
    office.change(appointment, comment="Rien de neuf")
    assert tasks(office) == []
    office.change(appointment, start="2026-03-10T08:00:00Z", end="2026-03-10T08:30:00Z")
    communication = office.post(NOTICES["note"], "Communication")
    focuses = [task["focus"]["reference"].split("/_history")[0] for task in tasks(office)]
    assert focuses == [appointment, communication]


def test_a_document_that_is_received_orders_nothing(lite: Store, tmp_path: Path) -> None:
    elsewhere = Store.open(f"sqlite:///{tmp_path / 'elsewhere.sqlite'}")
    sender = Office(elsewhere)
    content = document_of(sender, sender.post(NOTICES["note"], "Communication"))
    elsewhere.close()
    office = Office(lite, triggers="declared-event=hl7v2")
    with office.facade.repository.transaction() as transaction:
        document_imports.file(transaction, document_imports.receive(content))
    assert office.read("Communication?status=completed")["total"] == 1
    assert tasks(office) == []


@pytest.mark.parametrize(
    ("status", "changes", "ordered"),
    [
        ("booked", {"status": "cancelled"}, True),
        ("booked", {"status": "entered-in-error", "start": "2026-03-10T08:00:00Z"}, False),
        ("proposed", {"start": "2026-03-10T08:00:00Z"}, False),
        ("proposed", {"status": "cancelled"}, False),
        ("cancelled", {"start": "2026-03-10T08:00:00Z"}, False),
    ],
)
def test_an_appointment_that_nobody_knows_of_is_not_moved(
    lite: Store, status: str, changes: dict[str, Any], ordered: bool
) -> None:
    office = Office(lite, triggers="moved-appointment=hl7v2")
    bundle = copy.deepcopy(AGENDAS["minimal"])
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] == "Appointment":
            entry["resource"] |= {"status": status}
    office.change(office.post(bundle, "Appointment"), **changes)
    assert bool(tasks(office)) == ordered


@pytest.mark.parametrize("triggers", ["full-moon=mss", "validated-plan", "validated-plan=pigeon"])
def test_triggers_that_lead_nowhere_are_refused_at_the_start(triggers: str) -> None:
    with pytest.raises(SettingsError):
        watch.DeliveryWatch(settings_of(triggers=triggers))


# --- destinations -----------------------------------------------------------------------------------------------


def test_a_refusal_ends_the_delivery_with_its_reason(office: Office) -> None:
    office.channels["dmp"].failures = [DeliveryError(Issue("error", "invalid", "no such patient"), retry=False)]
    task = office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
    office.work()
    ended = office.task(task)
    assert (ended["status"], "no such patient" in ended["statusReason"]["text"]) == ("failed", True)


def test_an_untrusted_certificate_is_waited_for_and_says_so(office: Office) -> None:
    office.channels["dmp"].failures = [trouble("security", retry=False)]
    task = office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
    office.work()
    assert office.task(task)["businessStatus"]["coding"][0]["code"] == "waiting"
    office.wait(seconds=10)
    office.work()
    assert office.task(task)["status"] == "completed"
