"""Appointment → agenda document, row by row of docs/mapping-agenda.md: what comes out, seen in the document model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from relais.cda import templates
from relais.cda.errors import MappingError
from relais.cda.model import II, Code, Document, Interval, Relationship, Statement, Timestamp
from relais.cda.narrative import plain_text, text_by_id
from relais.cda.writer import write
from relais.mappings import extensions, terminology
from relais.mappings.context import Deployment, DocumentVersion, Emission, Mapped
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.agenda import agenda_document, appointment_document
from relais.mappings.to_cda.appointments import STATES, french_slot
from support.appointments import (
    AGENDAS,
    CANCELLATION,
    PDF,
    Agenda,
    base64_of,
    narrative_ids,
    single,
    snapshot,
)
from support.plans import BARE_EMISSION, EMISSION, NOW, R260, concept

Resource = dict[str, Any]


def event_of(mapped: Mapped, number: int = 0) -> Statement:
    return mapped.document.sections[0].entries[number]


def related(statement: Statement, code: str) -> list[Statement]:
    return [one.statement for one in statement.relationships if one.statement.code and one.statement.code.code == code]


def words(document: Document) -> str:
    return " ".join(plain_text(section.text) for section in document.sections)


def refused(mapped: Any, *arguments: Any, **options: Any) -> dict[str, str]:
    """The errors of a refusal: path → message."""
    with pytest.raises(MappingError) as error:
        mapped(*arguments, **options)
    return {issue.path: issue.message for issue in error.value.issues if issue.severity == "error"}


# --- the document -------------------------------------------------------------------------------------------------


def test_the_header_of_one_appointment() -> None:
    head = single(AGENDAS["every-detail"]).document.header
    assert (head.code.code, head.code.system) == ("56446-8", templates.LOINC)
    assert head.title == "Rendez-vous"
    roots = [template.root for template in head.template_ids]
    assert roots[:2] == [templates.HL7_FRANCE, templates.CISIS_HEADER]
    assert len(roots) == 3
    assert head.service_events[0].time == Interval(low="20260309090000+0100", high="20260309094500+0100")
    assert head.service_events[0].code is not None
    assert head.service_events[0].code.code == "16310003"
    assert [order.ids for order in head.orders] == [[II("1.2.250.1.999.42.3", "ORDER-1")]]
    assert head.encounter is not None
    assert head.encounter.time == head.service_events[0].time
    assert head.encounter.code is not None
    assert head.encounter.code.code == "AMB"
    assert head.encounter.facility is not None
    assert head.encounter.facility.name == "Cabinet des Tilleuls"


def test_who_answers_is_who_receives_and_the_operator_is_the_author() -> None:
    head = single(AGENDAS["every-detail"]).document.header
    assert [author.assigned.ids for author in head.authors] == [[II(templates.PS_IDNAT, "810100000019")]]
    assert head.authors[0].time == "20260201100000+0100"
    assert head.legal_authenticator is not None
    assert head.legal_authenticator.assigned.ids == [II(templates.PS_IDNAT, "810101234567")]
    assert head.service_events[0].performers[0].assigned.ids == [II(templates.PS_IDNAT, "810101234567")]


def test_without_operator_the_software_is_the_author() -> None:
    (author,) = single(AGENDAS["minimal"]).document.header.authors
    assert author.assigned.device is not None
    assert author.assigned.code is not None
    assert author.assigned.code.code == "AUTOMATE"
    assert author.assigned.person is None


def test_a_snapshot_of_several_appointments() -> None:
    mapped = snapshot(AGENDAS["week"])
    events = mapped.document.sections[0].entries
    assert [event.time.low for event in events if event.time] == [
        "20260205090000+0100",
        "20260316090000+0100",
        "20260318090000+0100",
        "20260319090000+0100",
        "20260320090000+0100",
    ]
    head = mapped.document.header
    assert head.service_events[0].time == Interval(low="20260205090000+0100", high="20260320093000+0100")
    assert head.service_events[0].code is None
    assert head.encounter is not None
    assert head.encounter.time == Interval(null_flavor="NA")


def test_the_model_is_named_under_the_arc_of_the_deployment() -> None:
    emission = replace(EMISSION, deployment=replace(EMISSION.deployment, model_arc="1.2.250.1.999.1"))
    assert single(AGENDAS["minimal"], emission).document.header.template_ids[-1] == II("1.2.250.1.999.1.1")


def test_nothing_configured_and_nothing_but_the_appointment() -> None:
    head = single(AGENDAS["minimal"], BARE_EMISSION).document.header
    assert head.custodian.ids == [II(templates.STRUCT_IDNAT, "1910019447")]
    assert head.authors[0].assigned.ids == [II(templates.PS_IDNAT, "3910019447/Relais")]


def test_confidentiality_is_the_highest_of_the_appointments() -> None:
    agenda = Agenda("security")
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}
    agenda.appointment("rdv-1")
    agenda.appointment("rdv-2", meta={"security": [label]})
    confidentiality = agenda.snapshot().document.header.confidentiality
    assert confidentiality is not None
    assert confidentiality.code == "V"


@pytest.mark.parametrize(
    ("name", "code"), [("at-home", "HH"), ("remote", "VR"), ("hospital", "AMB"), ("minimal", "AMB")]
)
def test_class_of_the_encounter(name: str, code: str) -> None:
    encounter = single(AGENDAS[name]).document.header.encounter
    assert encounter is not None
    assert encounter.code is not None
    assert encounter.code.code == code


def test_the_structure_of_the_appointment_is_the_facility() -> None:
    encounter = single(AGENDAS["hospital"]).document.header.encounter
    assert encounter is not None
    assert encounter.facility is not None
    assert encounter.facility.code is not None
    assert encounter.facility.code.code == "SA01"
    assert encounter.facility.ids == [II(templates.STRUCT_IDNAT, "1910020254")]


# --- identity and versions ----------------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_bytes() -> None:
    for bundle in AGENDAS.values():
        assert write(single(copy.deepcopy(bundle)).document) == write(single(bundle).document)


def test_booked_then_moved_then_cancelled_are_three_versions_of_one_document() -> None:
    agenda = Agenda("versions")
    agenda.appointment()
    first = agenda.single().document.header
    agenda["rdv"] |= {"start": "2026-03-10T08:00:00Z", "end": "2026-03-10T08:30:00Z"}
    second = agenda.single(emission=replace(EMISSION, version=DocumentVersion(2, first.id))).document
    agenda["rdv"] |= {"status": "cancelled", "cancelationReason": concept(CANCELLATION, "pat")}
    third = agenda.single(emission=replace(EMISSION, version=DocumentVersion(3, second.header.id))).document
    heads = [first, second.header, third.header]
    assert len({head.set_id.root for head in heads if head.set_id}) == 1
    assert len({head.id.root for head in heads}) == 3
    assert [head.version_number for head in heads] == [1, 2, 3]
    assert [[one.parent_ids for one in head.related_documents] for head in heads] == [
        [],
        [[first.id]],
        [[second.header.id]],
    ]
    assert [head.title for head in heads] == ["Rendez-vous", "Rendez-vous", "Annulation de rendez-vous"]
    assert [entry.ids for entry in second.sections[0].entries] == [entry.ids for entry in third.sections[0].entries]


def test_a_cancelled_appointment_is_said_once_and_then_left_out() -> None:
    agenda = Agenda("cancelling")
    agenda.appointment("kept")
    agenda.appointment("gone", status="cancelled")
    said = agenda.snapshot()
    assert [entry.status for entry in said.document.sections[0].entries] == ["active", "cancelled"]
    version = DocumentVersion(2, said.document.header.id)
    after = agenda.snapshot(emission=replace(EMISSION, version=version), previous=[said.document])
    assert [entry.status for entry in after.document.sections[0].entries] == ["active"]
    assert any("left out" in issue.message for issue in after.issues)
    assert after.document.header.set_id == said.document.header.set_id


def test_a_cancellation_stays_said_when_the_next_version_no_longer_shows_it() -> None:
    agenda = Agenda("cancelled-long-ago")
    agenda.appointment("kept")
    agenda.appointment("gone", status="cancelled")
    first = agenda.snapshot()
    second = agenda.snapshot(previous=[first.document])
    third = agenda.snapshot(previous=[second.document, first.document])
    assert [entry.status for entry in third.document.sections[0].entries] == ["active"]


def test_an_appointment_that_was_booked_again_may_be_cancelled_again() -> None:
    agenda = Agenda("cancelled-twice")
    agenda.appointment("kept")
    agenda.appointment("gone", status="cancelled")
    first = agenda.snapshot()
    agenda["gone"]["status"] = "booked"
    second = agenda.snapshot(previous=[first.document])
    agenda["gone"]["status"] = "cancelled"
    third = agenda.snapshot(previous=[second.document, first.document])
    assert [entry.status for entry in third.document.sections[0].entries] == ["active", "cancelled"]


@pytest.mark.parametrize("status", ["proposed", "waitlist", "cancelled"])
def test_an_appointment_without_date_is_left_out_of_the_agenda(status: str) -> None:
    agenda = Agenda("undated")
    agenda.appointment("kept")
    agenda.appointment("someday", status=status, start=None, end=None)
    mapped = agenda.snapshot()
    assert len(mapped.document.sections[0].entries) == 1
    said = [issue for issue in mapped.issues if issue.path == "Appointment[1]"]
    assert [(issue.severity, issue.message) for issue in said] == [("warning", "without a date yet: left out")]


def told(lineage: str, updated: str = "2026-03-01T08:00:00Z") -> Resource:
    """The meta of what a document told."""
    return {"source": f"urn:oid:2.25.{lineage}", "lastUpdated": updated}


def labels(mapped: Mapped) -> list[str]:
    found = text_by_id(mapped.document.sections[0].text)
    return [found[f"libelle-{number}"] for number in range(1, 10) if f"libelle-{number}" in found]


def test_an_appointment_that_a_document_tells_of_too_is_stated_once() -> None:
    """Else an agenda would show it twice, once where it no longer is."""
    agenda = Agenda("twice")
    agenda.appointment("here", description="Ici", meta={"lastUpdated": "2026-02-01T08:00:00Z"})
    number = agenda["here"]["identifier"]
    agenda.appointment("told", description="Reçu", identifier=number, start="2026-03-09T07:00:00Z", meta=told("7"))
    agenda.appointment("other", description="Autre", start="2026-03-10T08:00:00Z", end=None, meta=told("7"))
    mapped = agenda.snapshot()
    assert labels(mapped) == ["Ici", "Autre"]
    assert event_of(mapped).ids == [II("1.2.250.1.999.42.3", "twice-here")]
    assert [issue.path for issue in mapped.issues if issue.severity == "warning"] == ["Appointment[1]"]


def test_of_two_documents_the_one_received_last_counts() -> None:
    agenda = Agenda("received")
    agenda.appointment("new", description="Nouveau", meta=told("7", "2026-03-02T08:00:00Z"))
    number = agenda["new"]["identifier"]
    agenda.appointment("old", description="Ancien", identifier=number, meta=told("8"))
    assert labels(agenda.snapshot()) == ["Nouveau"]


@pytest.mark.parametrize("meta", [{}, told("7")])
def test_a_series_may_share_its_number(meta: Resource) -> None:
    agenda = Agenda("series")
    agenda.appointment("first", meta=meta)
    number = agenda["first"]["identifier"]
    agenda.appointment("second", identifier=number, start="2026-03-16T08:00:00Z", end=None, meta=meta)
    assert len(agenda.snapshot().document.sections[0].entries) == 2


def cells(mapped: Mapped) -> str:
    return plain_text(mapped.document.sections[0].text)


def test_codes_without_words_are_readable() -> None:
    agenda = Agenda("codes")
    act_code = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    agenda.appointment(serviceCategory=[{"coding": [{"system": act_code, "code": "VR"}]}])
    participation = {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "ATND"}
    agenda["rdv"]["participant"].append({"type": [{"coding": [participation]}], "status": "needs-action"})
    words = cells(agenda.snapshot())
    assert "Prestation : à distance" in words
    assert "À désigner : intervenant (réponse attendue)" in words


def test_a_reason_without_words_is_readable() -> None:
    agenda = Agenda("reason")
    agenda.appointment(reasonCode=[{"coding": [{"system": "http://snomed.info/sct", "code": "185389009"}]}])
    assert "Motif : 185389009" in cells(agenda.snapshot())


def test_what_may_change_the_meaning_of_a_participant_is_refused() -> None:
    agenda = Agenda("modified")
    agenda.appointment()
    agenda["rdv"]["participant"][1]["modifierExtension"] = [{"url": "https://example.org/not"}]
    with pytest.raises(MappingError, match="may change the meaning"):
        agenda.snapshot()


def test_a_participant_whom_nothing_names_is_said() -> None:
    agenda = Agenda("nobody")
    agenda.appointment()
    agenda["rdv"]["participant"].append({"status": "needs-action"})
    assert [issue.path for issue in agenda.snapshot().issues if "nor type" in issue.message] == [
        "Appointment[0].participant[2]"
    ]


def test_the_hour_that_comes_twice_is_told_apart() -> None:
    agenda = Agenda("clocks")
    agenda.appointment(start="2026-10-25T02:30:00+02:00", end="2026-10-25T02:30:00+01:00")
    assert "le 25/10/2026 de 02:30 (heure d'été) à 02:30 (heure d'hiver)" in cells(agenda.snapshot())


def test_a_cancelled_appointment_known_by_its_id_alone_is_left_out_too() -> None:
    agenda = Agenda("by-id")
    agenda.appointment("kept")
    agenda.appointment("gone", status="cancelled", identifier=None, id="abc")
    said = agenda.snapshot()
    after = agenda.snapshot(previous=[said.document])
    assert [entry.status for entry in after.document.sections[0].entries] == ["active"]


def test_a_document_for_one_agenda_is_another_lineage() -> None:
    agenda = Agenda("schedules")
    agenda.appointment()
    whole = agenda.snapshot().document.header
    schedule: Resource = {
        "resourceType": "Schedule",
        "id": "s1",
        "comment": "Agenda des soins",
        "planningHorizon": {"start": "2026-03-01", "end": "2026-03-31"},
    }
    one = agenda.snapshot(schedule=schedule).document
    assert one.header.set_id != whole.set_id
    assert one.sections[0].title == "Rendez-vous – Agenda des soins"
    assert one.header.service_events[0].time == Interval(low="20260301", high="20260331")


def test_a_horizon_that_the_appointments_leave_is_not_stated() -> None:
    agenda = Agenda("horizon")
    agenda.appointment()
    schedule: Resource = {"resourceType": "Schedule", "id": "s1", "planningHorizon": {"end": "2026-03-01"}}
    mapped = agenda.snapshot(schedule=schedule)
    assert mapped.document.header.service_events[0].time == Interval(
        low="20260309090000+0100", high="20260309093000+0100"
    )
    assert "Schedule.planningHorizon" in {issue.path for issue in mapped.issues}


def test_what_the_composition_says_wins() -> None:
    bundle = AGENDAS["minimal"]
    resources = ResourceSet.of_bundle(bundle)
    (appointment,) = resources.of_type("Appointment")
    composition: Resource = {
        "resourceType": "Composition",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.1.999.7"},
        "title": "Convocation",
        "subject": appointment["participant"][0]["actor"],
    }
    known = II("1.2.250.1.999.7.1")
    head = appointment_document(
        appointment, resources, EMISSION, composition=composition, document_id=known
    ).document.header
    assert (head.id, head.set_id, head.title) == (known, II("1.2.250.1.999.7"), "Convocation")


@pytest.mark.parametrize("name", AGENDAS)
def test_a_bundle_of_appointments_is_an_agenda(name: str) -> None:
    several = sum(entry["resource"]["resourceType"] == "Appointment" for entry in AGENDAS[name]["entry"]) > 1
    expected = snapshot(AGENDAS[name]) if several else single(AGENDAS[name])
    assert write(convert(AGENDAS[name], EMISSION).document) == write(expected.document)


def test_several_patients_of_several_appointments_need_a_composition() -> None:
    agenda = Agenda("two-patients")
    agenda.appointment("rdv-1")
    agenda.appointment("rdv-2")
    other = agenda.add("other", "Patient", name=[{"family": "AUTRE"}])
    assert set(refused(convert, agenda.bundle(), EMISSION)) == {"Bundle.entry.resource.ofType(Patient)"}
    agenda.add("composition", "Composition", subject=agenda.ref("patient"))
    assert len(convert(agenda.bundle(), EMISSION).document.sections[0].entries) == 2
    agenda["composition"]["subject"] = other
    assert "Appointment[0].participant" in refused(convert, agenda.bundle(), EMISSION)


# --- period and statuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ({"start": "2026-03-09", "end": "2026-03-09"}, True),
        ({"start": "2026-03-09"}, True),
        ({"end": "2026-03-09"}, True),
        ({"start": "2026-03"}, True),
        ({"start": "2026-03-10"}, False),
        ({"end": "2026-03-08"}, False),
        ({"start": "2026-03-09T09:15:00+01:00"}, True),
        ({"start": "2026-03-09T09:31:00+01:00"}, False),
        ({"end": "2026-03-09T08:59:00+01:00"}, False),
        ({"end": "2026-03-09T09:00:00+01:00"}, True),
    ],
)
def test_the_period_asked_for(period: Resource, expected: bool) -> None:
    agenda = Agenda("period")
    agenda.appointment()
    if expected:
        assert len(agenda.snapshot(period=period).document.sections[0].entries) == 1
    else:
        assert "never empty" in refused(agenda.snapshot, period=period)["Appointment"]


def test_the_period_asked_for_is_the_one_of_the_act() -> None:
    agenda = Agenda("bounds")
    agenda.appointment()
    mapped = agenda.snapshot(period={"start": "2026-03-01", "end": "2026-03-31"})
    assert mapped.document.header.service_events[0].time == Interval(low="20260301", high="20260331")


def test_the_statuses_asked_for() -> None:
    mapped = snapshot(AGENDAS["week"], statuses={"booked", "fulfilled"})
    assert [entry.status for entry in mapped.document.sections[0].entries] == ["completed", "active"]
    assert sum("another status" in issue.message for issue in mapped.issues) == 3


def test_an_appointment_left_out_is_not_judged_and_brings_no_document() -> None:
    agenda = Agenda("unjudged")
    agenda.appointment("kept")
    binary = agenda.add("binary", "Binary", contentType="application/pdf", data=base64_of(PDF))
    agenda.appointment("out", status="cancelled", priority=77, supportingInformation=[binary])
    mapped = agenda.snapshot(statuses={"booked"})
    assert len(mapped.document.sections) == 1


def test_an_agenda_is_never_empty() -> None:
    agenda = Agenda("empty")
    agenda.appointment(status="entered-in-error")
    assert set(refused(agenda.single)) == set(refused(agenda.snapshot)) == {"Appointment"}
    assert "never empty" in refused(agenda.single)["Appointment"]
    assert "never empty" in refused(agenda.snapshot)["Appointment"]
    assert "never empty" in refused(agenda.snapshot, statuses={"booked"})["Appointment"]


# --- the entry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATES)
def test_each_status(status: str) -> None:
    agenda = Agenda("status")
    agenda.appointment(status=status, start="2026-03-01T08:00:00Z", end="2026-03-01T08:30:00Z")
    event = event_of(agenda.single())
    expected = {
        "proposed": ("INT", "new", "ENPREPARATION"),
        "pending": ("INT", "held", "ENPREPARATION"),
        "waitlist": ("INT", "suspended", "ENPREPARATION"),
        "booked": ("INT", "active", "PLANIFIE"),
        "arrived": ("EVN", "active", "ENREALISATION"),
        "checked-in": ("EVN", "active", "ENREALISATION"),
        "fulfilled": ("EVN", "completed", "REALISE"),
        "cancelled": ("INT", "cancelled", "ANNULE"),
        "noshow": ("INT", "aborted", "ANNULE"),
    }[status]
    (business,) = related(event, "106199-3")
    (value,) = business.values
    assert isinstance(value, Code)
    assert (event.mood_code, event.status, value.code) == expected
    moods = {"INT": "2.16.840.1.113883.10.20.1.25", "EVN": "2.16.840.1.113883.10.20.1.21"}
    assert [template.root for template in event.template_ids] == [moods[expected[0]], "1.2.250.1.213.1.1.3.215"]


@pytest.mark.parametrize(
    ("reason", "motive"),
    [
        (concept(CANCELLATION, "pat-dec"), Code("GEN-358")),
        (concept(CANCELLATION, "prov-edu"), Code("GEN-359")),
        (concept(CANCELLATION, "oth-weath"), Code("GEN-360")),
        (concept(CANCELLATION, "maint"), Code("GEN-357")),
        (concept(CANCELLATION, "oth-fin"), Code("GEN-361")),
        (concept(terminology.TERMINOLOGIE_CISIS_URI, "ORG-077"), Code("ORG-077")),
        (concept(CANCELLATION, "other", text="Autre"), Code(null_flavor="OTH")),
        ({"text": "Déménagement"}, Code(null_flavor="OTH")),
        (None, Code(null_flavor="UNK")),
    ],
)
def test_the_motive_of_a_cancellation(reason: Resource | None, motive: Code) -> None:
    agenda = Agenda("motive")
    agenda.appointment(status="cancelled", cancelationReason=reason)
    document = agenda.single().document
    (business,) = related(document.sections[0].entries[0], "106199-3")
    (value,) = business.values
    assert isinstance(value, Code)
    (qualifier,) = value.qualifiers
    assert qualifier.name is not None
    assert qualifier.value is not None
    assert qualifier.name.code == "GEN-348"
    assert (qualifier.value.code, qualifier.value.null_flavor) == (motive.code, motive.null_flavor)
    text = (reason or {}).get("text") or qualifier.value.display or "Annulé"
    assert text in text_by_id(document.sections[0].text)["statut-1"]


def test_who_did_not_come() -> None:
    agenda = Agenda("noshow")
    agenda.appointment(status="noshow", start="2026-02-01T08:00:00Z", end="2026-02-01T08:30:00Z")
    (business,) = related(event_of(agenda.single()), "106199-3")
    (value,) = business.values
    assert isinstance(value, Code)
    assert value.qualifiers[0].value is not None
    assert value.qualifiers[0].value.code == "GEN-358"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (concept(CANCELLATION, "pat-crs"), "motif : Motif lié à l'usager"),
        (concept(CANCELLATION, "other"), "motif : other"),
        (concept(terminology.TERMINOLOGIE_CISIS_URI, "ORG-077", text="Chute"), "Chute"),
        (concept(terminology.TERMINOLOGIE_CISIS_URI, "ORG-077"), "motif : Hospitalisation"),
        ({"text": "Grève des trains"}, "motif : Grève des trains"),
    ],
)
@pytest.mark.parametrize("status", ["noshow", "cancelled"])
def test_why_it_did_not_happen_is_in_words(status: str, reason: Resource, words: str) -> None:
    agenda = Agenda("why")
    agenda.appointment(
        status=status, start="2026-02-01T08:00:00Z", end="2026-02-01T08:30:00Z", cancelationReason=reason
    )
    assert words in cells(agenda.single())


def test_the_motive_of_a_cancellation_is_called_by_its_name_beside_its_own_words() -> None:
    agenda = Agenda("why")
    agenda.appointment(status="cancelled", cancelationReason=concept(CANCELLATION, "prov-pers", text="Grippe"))
    mapped = agenda.single()
    assert "Annulé – motif : Motif lié aux professionnels (Grippe)" in cells(mapped)
    assert text_by_id(mapped.document.sections[0].text)["raison-1"] == "Grippe"


def test_how_one_gets_into_a_virtual_place_is_in_words() -> None:
    agenda = Agenda("virtual")
    contacts = [
        {"system": "url", "value": "http://visio.example/salle-7"},
        {"system": "phone", "value": "01 60 00 00 00"},
        {"system": "url", "value": "https://visio.example/salle-8"},
    ]
    kind = concept("http://terminology.hl7.org/CodeSystem/location-physical-type", "vi")
    agenda.appointment(
        "rdv",
        agenda.ref("doctor"),
        agenda.place(name="Salle virtuelle", address={}, telecom=contacts, physicalType=kind),
    )
    mapped = agenda.single()
    assert "Salle virtuelle, http://visio.example/salle-7, 0160000000" in cells(mapped)
    assert "https://visio.example/salle-8" in words(mapped.document)
    (place,) = [one for one in event_of(mapped).participants if one.type_code == "LOC"]
    assert [one.value for one in place.telecoms] == ["http://visio.example/salle-7", "tel:0160000000"]


def test_the_contacts_of_a_second_place_are_in_words() -> None:
    agenda = Agenda("second-place")
    agenda.appointment("rdv", agenda.ref("doctor"), agenda.place("first"), agenda.place("second", name="Annexe"))
    said = cells(agenda.single())
    assert "Annexe, 3 rue des Lilas, 91100 CORBEIL-ESSONNES, 0160000000" in said
    assert said.count("0160000000") == 1  # that of the first place is in its entry


def test_a_status_of_the_past_for_a_time_to_come_is_said() -> None:
    agenda = Agenda("early")
    agenda.appointment(status="fulfilled")
    assert "Appointment.status" in {issue.path for issue in agenda.single().issues if issue.severity == "warning"}


def test_everything_of_one_appointment() -> None:
    mapped = single(AGENDAS["every-detail"])
    event = event_of(mapped)
    assert event.ids[0] == II("1.2.250.1.999.42.3", "RDV-1")
    assert event.ids[1].extension == "77"
    assert event.code is not None
    assert event.code.code == "GEN-367"
    assert [code.code for code in event.code.translations] == ["16310003", "SM04"]
    assert event.time == Interval(low="20260309090000+0100", high="20260309094500+0100")
    assert event.priority is not None
    assert event.priority.code == "R"
    assert [performer.assigned.ids[0].extension for performer in event.performers] == ["810101234567", "810100000019"]
    assert [informant.related.class_code for informant in event.informants if informant.related] == ["CAREGIVER"]
    assert [author.time for author in event.authors] == ["20260201100000+0100"]
    assert [participant.type_code for participant in event.participants] == ["LOC", "RESP"]
    (device,) = related(event, "GEN-349")
    assert isinstance(device.values[0], Code)
    assert device.values[0].code == "409713008"
    (update,) = related(event, "106177-9")
    assert update.values == [Timestamp("20260202110000+0100")]
    (remark,) = related(event, "48767-8")
    assert remark.text is not None
    assert remark.text.reference == "#com-1"


def test_everything_of_one_appointment_can_be_read() -> None:
    text = words(single(AGENDAS["every-detail"]).document)
    for expected in (
        "Échographie cardiaque de contrôle – Motif : Essoufflement, Insuffisance cardiaque",
        "le 09/03/2026 de 09:00 à 09:45",
        "Planifié",
        "Claire ORME",
        "Isabelle LEFRANC",
        "Sophie NESSI",
        "Échographe portable",
        "Cabinet des Tilleuls, 3 rue des Lilas, 91100 CORBEIL-ESSONNES",
        "Commentaire : Prévoir une heure sur place",
        "Consignes : Venir à jeun.",
        "Apporter les ordonnances.",
        "Créneau : Créneau réservé aux suivis",
        "Agenda : Agenda du docteur Orme",
        "Durée prévue : 45 min",
        "Prestation : Imagerie, Échographie, Cardiologie et maladies vasculaires, Suivi",
        "Priorité : 5 sur une échelle de 1 (urgent) à 9",
        "Rendez-vous pris le 01/02/2026 à 10:00 par Isabelle LEFRANC",
        "Dernière mise à jour : 02/02/2026 à 11:00",
    ):
        assert expected in text, expected


def test_place_and_responsible_structure() -> None:
    place, structure = event_of(single(AGENDAS["hospital"])).participants
    assert (place.role_class, place.entity_class) == ("SDLOC", "PLC")
    assert place.name is not None
    assert place.name.text == "Consultations externes"
    assert place.ids == [II(templates.STRUCT_IDNAT, "1910020254")]
    assert place.addresses[0].city == "CORBEIL-ESSONNES"
    assert place.telecoms[0].value == "tel:0160000000"
    assert structure.scoping_id == II(templates.STRUCT_IDNAT, "1910020254")
    assert structure.scoping_description == "Hôpital des Ormes"


def test_the_service_says_which_structure_answers() -> None:
    (structure,) = event_of(single(AGENDAS["people"])).participants
    assert structure.type_code == "RESP"
    assert structure.scoping_description == "Cabinet du docteur Orme"
    assert "Consultation mémoire" in words(single(AGENDAS["people"]).document)


def test_everybody_who_takes_part() -> None:
    document = single(AGENDAS["people"]).document
    event = document.sections[0].entries[0]
    ids = [performer.assigned.ids[0] for performer in event.performers]
    assert ids == [
        II(templates.PS_IDNAT, "810101234567"),
        II(null_flavor="UNK"),
        II(null_flavor="UNK"),
        II(templates.PS_IDNAT, "810100000035"),
    ]
    last = event.performers[3]
    assert last.function_code is not None
    assert last.function_code.code == "ATTPHYS"
    assert last.time == Interval(low="20260309091000+0100", high="20260309092000+0100")
    assert [one.related.name.families[0].text for one in event.informants if one.related and one.related.name] == [
        "Le voisin de palier"
    ]
    text = words(document)
    for expected in (
        "Jean SANSNUMERO (à confirmer, présence facultative)",
        "Luc ARBRE (a décliné)",
        "Mme l'interprète (pour information)",
        "À désigner : Ambulancier (réponse attendue)",
        "Professionnel (Référent - Responsable du patient dans la structure de soins, du 09/03/2026 à 09:10",
        "Fauteuil roulant",
    ):
        assert expected in text, expected
    assert "ARBRE" not in str(event.performers)


def test_who_is_only_told_of_an_appointment_does_not_answer_for_it() -> None:
    agenda = Agenda("told")
    agenda.practitioner("nurse", "TILLEUL", "Paul", "10100000027", ("60", None))
    agenda.appointment("rdv", agenda.ref("nurse"), agenda.ref("doctor"))
    told, receives = agenda["rdv"]["participant"][1:]
    told["required"] = "information-only"
    mapped = agenda.single()
    assert len(event_of(mapped).performers) == 2
    signer = mapped.document.header.legal_authenticator
    assert signer is not None
    assert signer.assigned.ids == event_of(mapped).performers[1].assigned.ids
    told.pop("required")
    receives["required"] = "information-only"
    signer = agenda.single().document.header.legal_authenticator
    assert signer is not None
    assert signer.assigned.ids == event_of(mapped).performers[0].assigned.ids


def test_who_answers_has_a_name() -> None:
    agenda = Agenda("number")
    number = {"identifier": {"system": "https://rpps.esante.gouv.fr", "value": "10100000027"}}
    agenda.appointment("rdv", number, agenda.ref("doctor"))
    mapped = agenda.single()
    signer = mapped.document.header.legal_authenticator
    assert signer is not None
    assert signer.assigned.ids == event_of(mapped).performers[1].assigned.ids


def test_a_participant_that_is_not_provided_is_one_fault() -> None:
    agenda = Agenda("missing")
    agenda.appointment("rdv", agenda.ref("doctor"), {"reference": "Location/elsewhere"})
    with pytest.raises(MappingError) as error:
        agenda.single()
    assert [issue.path for issue in error.value.issues if issue.path.startswith("Appointment")] == [
        "Appointment.participant[2].actor"
    ]


def test_the_main_professional_answers_whatever_the_order() -> None:
    agenda = Agenda("main")
    helper = agenda.practitioner("helper", "AIDE", "Paul", "10100000019", ("60", None), agenda.ref("cabinet"))
    agenda.appointment("rdv", helper, agenda.ref("doctor"))
    main = concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "PPRF")
    agenda["rdv"]["participant"][2]["type"] = [main]
    signer = agenda.single().document.header.legal_authenticator
    assert signer is not None
    assert signer.assigned.ids[0].extension == "810101234567"


def test_a_place_without_name_is_named_by_its_address_and_a_second_place_is_in_words() -> None:
    mapped = single(AGENDAS["at-home"])
    (place, _) = event_of(mapped).participants
    assert place.name is not None
    assert place.name.text == "3 rue des Lilas, 91100 CORBEIL-ESSONNES"
    assert "Loge du gardien" in words(mapped.document)
    assert any("second place" in issue.message for issue in mapped.issues)


def test_contained_resources_refer_to_one_another() -> None:
    event = event_of(single(AGENDAS["contained"]))
    assert event.performers[0].assigned.ids == [II(templates.PS_IDNAT, "810100000019")]
    assert event.performers[0].assigned.code is not None
    assert event.performers[0].assigned.code.code == "G15_60"
    assert event.participants[0].name is not None
    assert event.participants[0].name.text == "Salle 3"


def test_who_booked() -> None:
    by_structure = single(AGENDAS["booked-by-structure"])
    assert [one.assigned.ids for one in event_of(by_structure).authors] == [[II(templates.STRUCT_IDNAT, "1910019447")]]
    (author,) = by_structure.document.header.authors
    assert author.assigned.device is not None
    assert author.assigned.organization is not None
    assert author.assigned.organization.name == "Cabinet du docteur Orme"
    by_patient = single(AGENDAS["booked-by-patient"])
    assert event_of(by_patient).authors == []
    assert "Rendez-vous pris le 01/02/2026 à 20:00 par la personne" in words(by_patient.document)


# --- times --------------------------------------------------------------------------------------------------------


def test_what_was_asked_for_stands_in_for_a_start() -> None:
    mapped = single(AGENDAS["proposed"])
    assert event_of(mapped).time == Interval(low="20260316")
    text = words(mapped.document)
    assert "Période demandée : du 16/03/2026 au 20/03/2026" in text
    assert "Période demandée : à partir du 23/03/2026" in text
    assert "Réponse de la personne : réponse attendue" in text


def test_a_slot_stands_in_for_times_and_its_agenda_for_who_receives() -> None:
    event = event_of(single(AGENDAS["slot-only"]))
    assert event.time == Interval(low="20260312140000+0100", high="20260312142000+0100")
    assert event.performers[0].assigned.ids == [II(templates.PS_IDNAT, "810101234567")]


def test_slots_that_follow_each_other_in_one_agenda_say_once_who_receives() -> None:
    agenda = Agenda("two-slots")
    schedule = agenda.add("agenda", "Schedule", actor=[agenda.ref("doctor")], comment="Agenda du matin")
    times = {"start": "2026-03-09T08:00:00Z", "end": "2026-03-09T08:30:00Z"}
    slots = [agenda.add(name, "Slot", schedule=schedule, status="busy", **times) for name in ("first", "second")]
    agenda.appointment(slot=slots)
    del agenda["rdv"]["participant"][1:]
    mapped = agenda.single()
    assert len(event_of(mapped).performers) == 1
    assert cells(mapped).count("Agenda du matin") == 1


def test_a_slot_that_is_not_provided_is_said() -> None:
    agenda = Agenda("far")
    agenda.appointment(slot=[{"reference": "Slot/elsewhere"}])
    assert "Appointment.slot[0]" in {issue.path for issue in agenda.single().issues}


def test_an_end_is_computed_from_the_duration() -> None:
    agenda = Agenda("duration")
    agenda.appointment(end=None, minutesDuration=45)
    assert event_of(agenda.single()).time == Interval(low="20260309090000+0100", high="20260309094500+0100")


def test_across_the_change_of_hour_an_appointment_keeps_its_length() -> None:
    agenda = Agenda("dst")
    agenda.appointment(start="2026-03-29T01:30:00+01:00", end=None, minutesDuration=60)
    assert event_of(agenda.single()).time == Interval(low="20260329013000+0100", high="20260329033000+0200")


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-03-09T08:00:00Z", "2026-03-09T08:30:00Z", "le 09/03/2026 de 09:00 à 09:30"),
        ("2026-07-09T08:00:00Z", "2026-07-09T08:30:00Z", "le 09/07/2026 de 10:00 à 10:30"),
        ("2026-03-09T23:30:00+01:00", "2026-03-10T00:30:00+01:00", "du 09/03/2026 à 23:30 au 10/03/2026 à 00:30"),
        ("2026-03-09T08:00:00Z", None, "le 09/03/2026 à 09:00"),
        ("2026-03-09", None, "à partir du 09/03/2026"),
        ("2026-03-09", "2026-03-12", "du 09/03/2026 au 12/03/2026"),
        ("2026-03-09", "2026-03-09", "le 09/03/2026"),
        ("2026-03-09T08:00:00Z", "2026-03-09T08:00:00Z", "le 09/03/2026 à 09:00"),
        ("2026-03-09T08:00:00Z", "2026-03-09", "du 09/03/2026 à 09:00 au 09/03/2026"),
        (None, "2026-03-09T08:00:00Z", "09/03/2026 à 09:00"),
        (None, None, ""),
        (
            "2026-03-09T12:00:00+04:00",
            "2026-03-09T12:30:00+04:00",
            "le 09/03/2026 de 09:00 à 09:30 (heure de Paris ; 12:00 sur place, UTC+04:00)",
        ),
    ],
)
def test_times_in_words(start: str | None, end: str | None, expected: str) -> None:
    assert french_slot(start, end) == expected


# --- documents that go with it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "words", "said"),
    [
        ({"code": {"text": "Créatinine"}}, "Information associée : Créatinine", "in words only"),
        ({"code": {}}, "", "nothing says what it is called"),
    ],
)
def test_information_that_is_no_document(elements: Resource, words: str, said: str) -> None:
    agenda = Agenda("information")
    result = agenda.add("result", "Observation", status="final", subject=agenda.ref("patient"), **elements)
    agenda.appointment(supportingInformation=[result])
    mapped = agenda.single()
    assert words in cells(mapped)
    assert ("Information associée" in cells(mapped)) == bool(words)
    place = "Appointment.supportingInformation[0].resolve()"
    assert [said in issue.message for issue in mapped.issues if issue.path == place] == [True]


def test_information_about_somebody_else_is_refused() -> None:
    agenda = Agenda("elsewhere")
    other = agenda.add("other", "Patient", identifier=[{"system": "urn:oid:1.2.3", "value": "9"}])
    result = agenda.add("result", "Observation", status="final", subject=other, code={"text": "Créatinine"})
    agenda.appointment(supportingInformation=[result])
    assert set(refused(agenda.single)) == {"Appointment.supportingInformation[0].resolve().subject"}


def test_documents_that_go_with_an_appointment() -> None:
    document = single(AGENDAS["documents"]).document
    titles = [section.title for section in document.sections]
    assert titles == ["Rendez-vous", "Documents joints", "Documents référencés"]
    attached, referenced = document.sections[1].entries, document.sections[2].entries
    kinds = [media.values[0] for entry in attached for media in _media(entry.relationships)]
    assert [getattr(media, "media_type", None) for media in kinds] == ["application/pdf", "image/png"]
    assert kinds[0] == type(kinds[0])("application/pdf", PDF)
    references = [reference for entry in referenced for reference in entry.references]
    assert references[0].ids == [II("1.2.250.1.999.42.77.1")]
    assert references[1].text is not None
    assert references[1].text.reference == "https://documents.example/plan-acces"
    assert "Dossier à retirer à l'accueil" in words(document)


def _media(relationships: list[Relationship]) -> Iterator[Statement]:
    return (one.statement for one in relationships if one.statement.kind == "observationMedia")


@pytest.mark.parametrize(
    ("attachment", "path"),
    [
        ({"contentType": "application/zip", "data": base64_of(b"PK")}, "contentType"),
        ({"contentType": "application/pdf", "data": "%%%"}, "data"),
        ({"contentType": "application/pdf", "data": base64_of(b"PK")}, "data"),
        ({"contentType": "application/pdf", "data": base64_of(PDF), "hash": base64_of(b"0" * 20)}, "hash"),
        ({"contentType": "application/pdf", "data": base64_of(PDF), "size": 3}, "size"),
        ({"url": "somewhere/else"}, None),
    ],
)
def test_a_document_that_cannot_go_with_it_is_refused(attachment: Resource, path: str | None) -> None:
    agenda = Agenda("wrong-document")
    reference = agenda.add(
        "letter",
        "DocumentReference",
        status="current",
        subject=agenda.ref("patient"),
        content=[{"attachment": attachment}],
    )
    if path is None:
        agenda["letter"]["content"] = [{"attachment": {}}]
    agenda.appointment(supportingInformation=[reference])
    place = "Appointment.supportingInformation[0].resolve()"
    assert (f"{place}.content[0].attachment.{path}" if path else place) in refused(agenda.single)


# --- narrative and entries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGENDAS)
def test_every_reference_of_an_entry_leads_into_the_narrative(name: str) -> None:
    for mapped in (single(AGENDAS[name]), snapshot(AGENDAS[name])):
        known = narrative_ids(mapped.document)
        entries = [entry for section in mapped.document.sections for entry in section.entries]
        wanted = [reference for entry in entries for reference in _references(entry)]
        assert wanted
        assert {reference.removeprefix("#") for reference in wanted} <= known


def _references(statement: Statement) -> tuple[str, ...]:
    own = [statement.text.reference] if statement.text and statement.text.reference else []
    values = [value for value in [statement.code, *statement.values] if isinstance(value, Code)]
    own += [one.original_text.reference for one in values if one.original_text and one.original_text.reference]
    below = [reference for one in statement.relationships for reference in _references(one.statement)]
    return (*own, *below)


# --- refusals -----------------------------------------------------------------------------------------------------


def test_everything_missing_is_said_at_once() -> None:
    agenda = Agenda("wanting")
    agenda.appointment(
        identifier=None,
        start=None,
        end=None,
        participant=[{"actor": agenda.ref("patient"), "status": "accepted"}],
    )
    del agenda["patient"]["gender"]
    found = refused(agenda.single, emission=BARE_EMISSION)
    assert {
        "Appointment.identifier",
        "Appointment.start",
        "Appointment.participant.actor",
        "Appointment.participant.actor.organization.resolve().identifier",
        "Patient.gender",
    } <= set(found)


def test_an_appointment_of_nobody_is_refused() -> None:
    agenda = Agenda("nobody")
    agenda.appointment(participant=[{"actor": agenda.ref("doctor"), "status": "accepted"}])
    assert refused(agenda.single) == {"Appointment.participant.actor": "a reference to the Patient"}
    assert "Appointment[0].participant" in refused(agenda.snapshot)


def _group() -> Agenda:
    agenda = Agenda("group")
    other = agenda.add(
        "other",
        "Patient",
        identifier=[{"system": "urn:oid:1.2.250.1.999.42.1", "value": "P-9"}],
        name=[{"family": "AUTRE"}],
    )
    agenda.appointment("rdv", agenda.ref("doctor"), other)
    return agenda


def test_a_group_appointment_is_refused_and_nobody_is_named() -> None:
    found = refused(_group().single)
    assert set(found) == {"Appointment.participant[2].actor"}
    assert "AUTRE" not in str(found)
    assert set(refused(_group().snapshot)) == {"Appointment[0].participant[2].actor"}


def test_a_group_can_be_split_into_one_document_for_each() -> None:
    mapped = _group().snapshot(split_groups=True)
    assert b"AUTRE" not in write(mapped.document)
    assert any("left out" in issue.message for issue in mapped.issues)


def test_a_patient_named_by_an_identifier_alone() -> None:
    agenda = Agenda("logical")
    agenda.appointment()
    by_number = {"system": "urn:oid:1.2.250.1.999.42.1", "value": "P-2026-0001"}
    agenda["rdv"]["participant"][0]["actor"] = {"type": "Patient", "identifier": by_number}
    assert len(agenda.snapshot().document.sections[0].entries) == 1
    agenda["rdv"]["participant"][0]["actor"]["identifier"] = by_number | {"value": "P-9"}
    assert set(refused(agenda.snapshot)) == {"Appointment[0].participant[0].actor", "Appointment[0].participant"}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"status": "unheard-of"}, "Appointment.status"),
        ({"status": None}, "Appointment.status"),
        ({"modifierExtension": [{"url": "https://x.example"}]}, "Appointment.modifierExtension"),
        ({"cancelationReason": {"text": "x"}}, "Appointment.cancelationReason"),
        ({"end": "2026-03-09T07:00:00Z"}, "Appointment"),
        ({"start": "2026-02-30T07:00:00Z"}, "Appointment.start"),
        ({"basedOn": [{"reference": "ServiceRequest/none"}]}, "Appointment.basedOn[0]"),
    ],
)
def test_what_is_wrong_is_refused_where_it_stands(changes: Resource, path: str) -> None:
    agenda = Agenda("wrong")
    agenda.appointment(**changes)
    assert path in refused(agenda.single)


def test_a_relative_of_somebody_else_is_refused() -> None:
    agenda = _group()
    stranger = agenda.relative("stranger", "TIERS", "Ali", concept(R260, "CAREGIVER"), patient=agenda.ref("other"))
    agenda.appointment("rdv", agenda.ref("doctor"), stranger)
    assert "Appointment.participant[2].actor.resolve().patient" in refused(agenda.single)


def test_nobody_answers() -> None:
    agenda = Agenda("unanswered")
    agenda.appointment(participant=[{"actor": agenda.ref("patient"), "status": "accepted"}])
    assert refused(agenda.single) == {"Appointment.participant.actor": "a professional who answers for the document"}
    deployment = replace(EMISSION.deployment, responsible_rpps="10101234567", responsible_family="ORME")
    signer = agenda.single(emission=Emission(deployment, NOW)).document.header.legal_authenticator
    assert signer is not None
    assert signer.assigned.ids == [II(templates.PS_IDNAT, "810101234567")]


def test_what_has_no_place_is_said() -> None:
    agenda = Agenda("lost")
    agenda.appointment(
        extension=[{"url": "https://x.example", "valueString": "x"}, {"url": extensions.PERTAINS_TO_GOAL}],
        priority=12,
        supportingInformation=[{"display": "Rien à voir"}],
        serviceType=[concept("https://x.example/codes", "A1", "Séance")],
    )
    paths = {issue.path for issue in agenda.single().issues}
    assert {
        "Appointment.extension[0]",
        "Appointment.extension[1]",
        "Appointment.priority",
        "Appointment.serviceType[0]",
        "Appointment.supportingInformation[0].resolve()",
    } <= paths


def test_no_health_data_in_what_is_said() -> None:
    for name, bundle in AGENDAS.items():
        said = " ".join(str(issue) for issue in [*single(bundle).issues, *snapshot(bundle).issues])
        assert "PAT-TROIS" not in said, name
        assert "279035121518989" not in said, name


def test_the_patient_of_the_agenda_must_have_a_name_that_lasts() -> None:
    resources = ResourceSet.of_bundle(AGENDAS["minimal"])
    patient = dict(resources.of_type("Patient")[0])
    del patient["identifier"]
    found = refused(agenda_document, patient, [], resources, EMISSION)
    assert "Patient.identifier" in found


def test_software_needs_a_structure_to_act_for() -> None:
    agenda = Agenda("unknown-structure")
    agenda.appointment()
    del agenda["cabinet"]["identifier"]
    found = refused(agenda.single, emission=Emission(Deployment(facility_type="SA07"), NOW))
    assert any(path.endswith("identifier") for path in found)
