"""Documents of stored appointments, notifications and agendas, at both levels: sources; versions on both engines."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest

from relais.cda import media
from relais.cda.errors import MappingError, RelaisError
from relais.cda.model import II, Document, Header, RelatedDocument, Statement
from relais.cda.narrative import plain_text
from relais.cda.pdf import to_pdf
from relais.cda.reader import read
from relais.cda.templates import INS_NIR_TEST
from relais.cda.validation import Validator
from relais.cda.writer import write
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import OPPOSITION_RULE
from relais.server import documents
from relais.server.document_sources import Selection
from relais.server.documents import IssuedDocument
from relais.server.store import Store
from support.appointments import AGENDAS, PDF, Agenda, base64_of
from support.desk import Desk
from support.notifications import EMISSION, NOTICES
from support.plans import PLANS, concept, full_ins, minimal_plan

DEPLOYMENT = EMISSION.deployment  # names who answers for what no professional declares
CARRIERS = {
    "CarePlan": PLANS["full"],
    "Appointment": AGENDAS["every-detail"],
    "Patient": AGENDAS["week"],
    "Communication": NOTICES["note"],
    "CommunicationRequest": NOTICES["admission"],
}


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite, for what does not depend on the engine."""
    opened = Store.open(f"sqlite:///{tmp_path / 'small.sqlite'}")
    yield opened
    opened.close()


def desk_of(store: Store, bundle: Resource) -> Desk:
    return Desk(store, bundle, DEPLOYMENT)


def header(document: IssuedDocument) -> Header:
    return read(document.content).document.header


def assert_next(former: IssuedDocument, latter: IssuedDocument) -> None:
    """The latter is the version that follows the former and replaces it."""
    before, after = header(former), header(latter)
    assert after.set_id == before.set_id
    assert after.id != before.id
    assert (before.version_number or 0) + 1 == after.version_number
    assert [(related.type_code, related.parent_ids) for related in after.related_documents] == [("RPLC", [before.id])]


def entries(document: IssuedDocument) -> list[Statement]:
    """The events of the first section."""
    return read(document.content).document.sections[0].entries


def words(document: Document) -> str:
    return " ".join(plain_text(section.text) for section in document.sections)


# --- every carrier ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CARRIERS)
def test_official_rules_accept_both_levels_of_what_is_issued(
    small_store: Store, validator: Validator, kind: str
) -> None:
    desk = desk_of(small_store, CARRIERS[kind])
    for level in ("n3", "n1"):
        report = validator.validate(desk.issue(desk.first(kind), level=level).content)
        assert report.conformant, report.to_text()


@pytest.mark.parametrize("kind", CARRIERS)
def test_unchanged_sources_give_the_same_bytes(store: Store, kind: str) -> None:
    desk = desk_of(store, CARRIERS[kind])
    first = desk.issue(desk.first(kind))
    desk.now = desk.now.replace(day=20)
    desk.create({"resourceType": "Organization", "name": "Sans rapport"})
    assert desk.issue(desk.first(kind)) == first
    assert (header(first).version_number, header(first).related_documents) == (1, [])


@pytest.mark.parametrize("kind", [kind for kind in CARRIERS if kind != "CommunicationRequest"])
def test_a_change_of_the_patient_gives_the_next_version(store: Store, kind: str) -> None:
    desk = desk_of(store, CARRIERS[kind])
    first = desk.issue(desk.first(kind))
    desk.change("Patient", telecom=[{"system": "phone", "value": "06 47 15 01 99"}])
    assert_next(first, desk.issue(desk.first(kind)))


def test_a_type_that_carries_no_document_is_refused(small_store: Store) -> None:
    desk = desk_of(small_store, PLANS["full"])
    with pytest.raises(RelaisError, match="no document is made of it"):
        desk.issue(desk.first("Goal"))


# --- appointments -----------------------------------------------------------------------------------------------


def test_a_moved_then_cancelled_appointment_gives_versions_that_replace_each_other(store: Store) -> None:
    desk = desk_of(store, AGENDAS["minimal"])
    first = desk.issue(desk.first("Appointment"))
    desk.change("Appointment", start="2026-03-10T08:00:00Z", end="2026-03-10T08:30:00Z")
    moved = desk.issue(desk.first("Appointment"))
    desk.change("Appointment", status="cancelled", cancelationReason={"text": "Empêchement"})
    cancelled = desk.issue(desk.first("Appointment"))
    assert_next(first, moved)
    assert_next(moved, cancelled)
    assert [one.status for one in entries(cancelled)] == ["cancelled"]
    assert header(cancelled).title == "Annulation de rendez-vous"


def test_an_appointment_entered_in_error_has_no_document(small_store: Store) -> None:
    desk = desk_of(small_store, AGENDAS["minimal"])
    desk.issue(desk.first("Appointment"))
    desk.change("Appointment", status="entered-in-error")
    with pytest.raises(MappingError, match="withdraw the former one"):
        desk.issue(desk.first("Appointment"))


def test_what_an_appointment_refers_to_is_gathered_from_end_to_end(small_store: Store) -> None:
    desk = desk_of(small_store, AGENDAS["every-detail"])
    document = read(desk.issue(desk.first("Appointment")).content).document
    said = words(document)
    for expected in ("ORME", "LEFRANC", "Cabinet des Tilleuls", "Échographe portable", "NESSI", "Agenda du docteur"):
        assert expected in said


def test_the_content_of_an_attachment_that_is_a_binary_goes_with_the_document(small_store: Store) -> None:
    agenda = Agenda("binary")
    binary = agenda.add("scan", "Binary", contentType="application/pdf", data=base64_of(PDF))
    letter = agenda.add(
        "letter",
        "DocumentReference",
        status="current",
        subject=agenda.ref("patient"),
        description="Lettre d'adressage",
        content=[{"attachment": {"contentType": "application/pdf", "url": binary["reference"]}}],
    )
    agenda.appointment(supportingInformation=[letter])
    desk = desk_of(small_store, agenda.bundle())
    assert base64_of(PDF) in desk.issue(desk.first("Appointment")).content.decode()


def test_another_appointment_is_no_part_of_the_document(small_store: Store) -> None:
    desk = desk_of(small_store, AGENDAS["week"])
    assert len(entries(desk.issue(desk.first("Appointment")))) == 1


def test_the_bytes_of_an_advance_directive_are_in_the_plan(small_store: Store) -> None:
    plan = minimal_plan("directive")
    binary = plan.add("bytes", "Binary", contentType="application/pdf", data=base64_of(PDF))
    directive = plan.add(
        "directive",
        "DocumentReference",
        status="current",
        type=concept("http://loinc.org", "42348-3"),
        subject=plan.ref("patient"),
        content=[{"attachment": {"contentType": "application/pdf", "url": binary["reference"]}}],
    )
    plan["plan"]["supportingInfo"] = [directive]
    desk = desk_of(small_store, plan.bundle())
    assert base64_of(PDF).encode() in desk.issue(desk.first("CarePlan")).content


# --- agendas ----------------------------------------------------------------------------------------------------


def test_an_agenda_states_every_appointment_of_the_patient_by_start(small_store: Store) -> None:
    desk = desk_of(small_store, AGENDAS["week"])
    found = entries(desk.issue(desk.first("Patient")))
    starts = [one.time.low or "" for one in found if one.time]
    assert len(found) == 5
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(start="2026-03-01"), 4),
        (Selection(end="2026-02-28"), 1),
        (Selection(start="2026-03-17", end="2026-03-19"), 2),
        (Selection(start="2026-03-18T09:30:00+01:00", end="2026-03-19T08:59:00+01:00"), 1),
        (Selection(statuses=("booked", "fulfilled")), 2),
        (Selection(start="2026-03-01", statuses=("fulfilled", "waitlist")), 1),
    ],
)
def test_an_agenda_of_a_period_and_of_statuses(small_store: Store, selection: Selection, expected: int) -> None:
    desk = desk_of(small_store, AGENDAS["week"])
    assert len(entries(desk.issue(desk.first("Patient"), selection=selection))) == expected


def test_an_agenda_without_appointment_is_refused(small_store: Store) -> None:
    desk = desk_of(small_store, AGENDAS["week"])
    with pytest.raises(MappingError, match="an agenda document is never empty"):
        desk.issue(desk.first("Patient"), selection=Selection(start="2027-01-01"))


def test_a_cancelled_appointment_is_stated_once(store: Store) -> None:
    agenda = Agenda("cancelled-once")
    agenda.appointment("kept")
    agenda.appointment("dropped", start="2026-03-11T08:00:00Z", end="2026-03-11T08:30:00Z")
    desk = desk_of(store, agenda.bundle())
    patient, dropped = desk.first("Patient"), [n for n in desk.stored if n.startswith("Appointment/")][1]
    first = desk.issue(patient)
    desk.change(dropped, status="cancelled")
    second = desk.issue(patient)
    assert_next(first, second)
    assert sorted(one.status or "" for one in entries(second)) == ["active", "cancelled"]
    assert desk.issue(patient) == second
    desk.change("Patient", telecom=[{"system": "phone", "value": "06 47 15 01 99"}])
    third = desk.issue(patient)
    assert_next(second, third)
    assert [one.status for one in entries(third)] == ["active"]
    desk.change("Patient", telecom=[{"system": "phone", "value": "06 47 15 01 98"}])
    assert [one.status for one in entries(desk.issue(patient))] == ["active"]


def test_the_other_patients_of_a_group_appointment_are_not_in_the_agenda(small_store: Store) -> None:
    agenda = Agenda("group")
    other = agenda.add(
        "other",
        "Patient",
        name=[{"family": "AUTREPERSONNE", "given": ["Zoé"]}],
        gender="female",
        birthDate="1950-05-05",
    )
    agenda.appointment("rdv", agenda.ref("doctor"), other)
    content = desk_of(small_store, agenda.bundle())
    document = content.issue(content.first("Patient"))
    assert len(entries(document)) == 1
    assert b"AUTREPERSONNE" not in document.content


def test_a_patient_who_bears_the_number_of_another_does_not_take_over_the_agenda(small_store: Store) -> None:
    desk = desk_of(small_store, AGENDAS["minimal"])
    desk.issue(desk.first("Patient"))
    twin = copy.deepcopy(AGENDAS["minimal"])
    for entry in twin["entry"]:
        if entry["resource"]["resourceType"] == "Appointment":
            entry["resource"]["identifier"] = [{"system": "urn:oid:1.2.250.1.999.42.3", "value": "twin"}]
    other = next(name for name in desk.store(twin) if name.startswith("Patient/"))
    with pytest.raises(RelaisError, match="has issued documents under this identifier"):
        desk.issue(other)


def test_the_agenda_and_the_document_of_an_appointment_are_two_lineages(small_store: Store) -> None:
    desk = desk_of(small_store, AGENDAS["minimal"])
    assert desk.issue(desk.first("Patient")).lineage != desk.issue(desk.first("Appointment")).lineage


# --- notifications ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Communication", "CommunicationRequest"])
def test_a_notification_is_corrected_then_withdrawn(small_store: Store, kind: str) -> None:
    desk = desk_of(small_store, CARRIERS[kind])
    first = desk.issue(desk.first(kind))
    desk.change(kind, payload=[{"contentString": "Message corrigé"}])
    corrected = desk.issue(desk.first(kind))
    desk.change(kind, status="stopped" if kind == "Communication" else "revoked")
    withdrawn = desk.issue(desk.first(kind))
    assert_next(first, corrected)
    assert_next(corrected, withdrawn)
    assert [one.status for one in entries(withdrawn)] == ["cancelled"]
    assert (header(withdrawn).title or "").startswith("Retrait d'une notification")
    assert desk.issue(desk.first(kind)) == withdrawn


def test_the_first_version_can_be_withdrawn(small_store: Store, validator: Validator) -> None:
    desk = desk_of(small_store, NOTICES["discharge"])
    first = desk.issue(desk.first("CommunicationRequest"))
    desk.change("CommunicationRequest", status="revoked")
    withdrawn = desk.issue(desk.first("CommunicationRequest"))
    assert_next(first, withdrawn)
    report = validator.validate(withdrawn.content)
    assert report.conformant, report.to_text()


def test_nothing_that_was_never_issued_is_withdrawn(small_store: Store) -> None:
    desk = desk_of(small_store, NOTICES["discharge"])
    desk.change("CommunicationRequest", status="revoked")
    with pytest.raises(MappingError, match="none is known"):
        desk.issue(desk.first("CommunicationRequest"))


def test_a_notification_posted_again_as_revoked_withdraws_the_one_that_is_gone(small_store: Store) -> None:
    desk = desk_of(small_store, NOTICES["discharge"])
    first = desk.issue(desk.first("CommunicationRequest"))
    source = desk.load(desk.first("CommunicationRequest"))
    desk.delete(desk.first("CommunicationRequest"))
    assert_next(first, desk.issue(desk.create(source | {"status": "revoked"})))


# --- what the person opposes ------------------------------------------------------------------------------------


def opposition(patient: str, *instances: str) -> Resource:
    """A Consent that denies the sharing of some resources, of everything without any."""
    denied: Resource = {"type": "deny"}
    if instances:
        data = [{"meaning": "instance", "reference": {"reference": name}} for name in instances]
        denied = {"type": "permit", "provision": [{"type": "deny", "data": data}]}
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": patient},
        "policyRule": {"text": "Partage dans le cercle de soins"},
        "provision": denied,
    }


@pytest.mark.parametrize("kind", [kind for kind in CARRIERS if kind != "CommunicationRequest"])
def test_an_opposition_is_said_of_every_document(small_store: Store, kind: str) -> None:
    desk = desk_of(small_store, CARRIERS[kind])
    desk.create(opposition(desk.first("Patient")))
    assert OPPOSITION_RULE in {issue.rule for issue in desk.issue(desk.first(kind)).issues}


@pytest.mark.parametrize("kind", ["CarePlan", "Appointment", "Communication"])
def test_an_opposition_to_what_the_document_is_about_is_said(small_store: Store, kind: str) -> None:
    desk = desk_of(small_store, CARRIERS[kind])
    desk.create(opposition(desk.first("Patient"), desk.first(kind)))
    said = [issue.path for issue in desk.issue(desk.first(kind)).issues if issue.rule == OPPOSITION_RULE]
    assert kind in said


def test_an_appointment_that_the_person_keeps_for_himself_is_not_in_the_agenda(small_store: Store) -> None:
    desk = desk_of(small_store, AGENDAS["week"])
    desk.create(opposition(desk.first("Patient"), desk.first("Appointment")))
    document = desk.issue(desk.first("Patient"))
    assert len(entries(document)) == 4
    assert any("opposes its sharing: left out" in issue.message for issue in document.issues)


# --- versions made elsewhere ------------------------------------------------------------------------------------


def test_the_next_version_replaces_the_one_that_was_made_elsewhere(store: Store) -> None:
    desk = desk_of(store, PLANS["full"])
    first = desk.issue(desk.first("CarePlan"))
    theirs = read(first.content).document
    theirs.header.id, theirs.header.version_number = II("2.25.77"), 2
    theirs.header.related_documents = [RelatedDocument([first.identity.id])]
    with desk.repository.transaction() as transaction:
        documents.register(transaction.connection, write(theirs), desk.now)
    for number in (3, 4):
        desk.change("CarePlan", title=f"Plan revu {number}")
        found = header(desk.issue(desk.first("CarePlan")))
        assert found.version_number == number
        assert [one.parent_ids for one in found.related_documents] == [[II("2.25.77")]]


# --- levels -----------------------------------------------------------------------------------------------------


def test_the_unstructured_form_is_a_lineage_of_its_own_with_the_pdf_of_the_structured_one(small_store: Store) -> None:
    desk = desk_of(small_store, PLANS["full-ppcs"])
    plan = desk.first("CarePlan")
    structured, made = desk.issue(plan), desk.issue(plan, level="n1")
    body = read(made.content).document.non_xml_body
    assert body is not None
    assert (body.media_type, body.data) == (media.PDF, to_pdf(read(structured.content).document))
    assert made.lineage != structured.lineage
    assert made.key != structured.key
    assert header(made).title == header(structured).title
    assert desk.issue(plan, level="n1") == made
    assert desk.issue(plan) == structured


def test_versions_of_the_unstructured_form_follow_those_of_the_structured_one(store: Store) -> None:
    desk = desk_of(store, PLANS["full"])
    plan = desk.first("CarePlan")
    first = desk.issue(plan, level="n1")
    desk.change(plan, title="Plan revu")
    assert_next(first, desk.issue(plan, level="n1"))


def test_the_first_unstructured_form_is_a_first_version_whatever_the_structured_one(
    small_store: Store, validator: Validator
) -> None:
    desk = desk_of(small_store, PLANS["full"])
    plan = desk.first("CarePlan")
    desk.issue(plan)
    desk.change(plan, title="Plan revu")
    made = desk.issue(plan, level="n1")
    assert (header(made).version_number, header(made).related_documents) == (1, [])
    assert desk.issue(plan, level="n1") == made
    desk.change(plan, title="Plan revu encore")
    following = desk.issue(plan, level="n1")
    assert_next(made, following)
    assert desk.issue(plan, level="n1") == following
    for document in (made, following):
        report = validator.validate(document.content)
        assert report.conformant, report.to_text()
        assert not [issue for issue in report.consistency if issue.severity == "error"]


# --- writers at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Appointment", "Patient", "CommunicationRequest"])
def test_writers_at_once_issue_one_version(store: Store, kind: str) -> None:
    desk = desk_of(store, CARRIERS[kind])
    barrier, issued = Barrier(4), []

    def issue() -> None:
        barrier.wait()
        issued.append(desk.issue(desk.first(kind)))

    threads = [Thread(target=issue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(issued) == 4
    assert {one.content for one in issued} == {issued[0].content}
    assert issued[0].version == 1


def test_a_lineage_never_passes_to_another_patient(store: Store) -> None:
    desk = desk_of(store, AGENDAS["minimal"])
    appointment = desk.first("Appointment")
    desk.issue(appointment)
    patient = desk.load(desk.first("Patient"))
    numbers = [{"system": f"urn:oid:{INS_NIR_TEST}", "value": full_ins("2770763220829")}]
    kept = {name: value for name, value in patient.items() if name not in ("id", "meta")}
    stranger = desk.create(kept | {"identifier": numbers, "birthDate": "1977-07-05", "gender": "female"})
    participants = desk.load(appointment)["participant"]
    participants[0]["actor"] = {"reference": stranger}
    desk.change(appointment, participant=participants)
    with pytest.raises(RelaisError, match="about another patient"):
        desk.issue(appointment)


def test_the_arc_of_the_emitter_names_both_forms(small_store: Store) -> None:
    desk = desk_of(small_store, PLANS["minimal"])
    desk.deployment = replace(DEPLOYMENT, oid_arc="1.2.250.1.999.1")
    for level in ("n3", "n1"):
        assert (header(desk.issue(desk.first("CarePlan"), level=level)).id.root or "").startswith("1.2.250.1.999.1.")
