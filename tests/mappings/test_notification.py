"""CommunicationRequest, Communication → notification document, row by row of docs/mapping-notification.md."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from relais.cda import templates
from relais.cda.errors import MappingError
from relais.cda.model import II, Code, Document, Interval, Media, Statement
from relais.cda.narrative import plain_text, text_by_id
from relais.cda.writer import write
from relais.mappings import extensions
from relais.mappings.context import DocumentVersion, Emission, Mapped
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.notification import notification_document
from support.appointments import PDF, base64_of
from support.notifications import (
    EMISSION,
    NOTICES,
    bundle_of,
    doctor,
    endpoint,
    event,
    notify,
    request,
    sister,
    text_attachment,
)
from support.plans import BARE_EMISSION, DEPLOYMENT, NOW, concept

Resource = dict[str, Any]
SECOND = replace(EMISSION, version=DocumentVersion(2, II("2.25.1")))
TYPE = f"CommunicationRequest.extension('{extensions.EVENT_TYPE}').value"


def entry_of(mapped: Mapped) -> Statement:
    return mapped.document.sections[0].entries[0]


def words(document: Document) -> str:
    return " ".join(plain_text(section.text) for section in document.sections)


def titles(mapped: Mapped) -> list[str | None]:
    return [section.title for section in mapped.document.sections]


def business_status(entry: Statement) -> Code:
    """The value of FR-Statut."""
    (value,) = next(
        one.statement.values
        for one in entry.relationships
        if one.statement.code and one.statement.code.code == "106199-3"
    )
    assert isinstance(value, Code)
    return value


def of(*contained: Resource, **changes: Any) -> Mapped:
    return notify(bundle_of(request(*contained, **changes)))


def refused(*contained: Resource, emission: Emission = EMISSION, **changes: Any) -> dict[str, str]:
    """The errors of a refusal: path → message."""
    with pytest.raises(MappingError) as error:
        notify(bundle_of(request(*contained, **changes)), emission)
    return {issue.path: issue.message for issue in error.value.issues if issue.severity == "error"}


# --- the document -------------------------------------------------------------------------------------------------


def test_the_header_of_a_discharge() -> None:
    head = notify(NOTICES["discharge"]).document.header
    assert (head.code.code, head.code.system) == ("51851-4", templates.LOINC)
    assert head.title == "Notification d'évènement – Sortie d'un patient de l'établissement de santé"
    act = head.service_events[0]
    assert act.code is not None
    assert (act.code.code, act.code.system) == ("SOR", "1.2.250.1.213.1.1.4.337")
    assert act.time == Interval(low="20260228140000+0100")
    assert act.performers[0].assigned.organization is not None
    assert act.performers[0].assigned.organization.industry_class is not None
    assert act.performers[0].assigned.organization.industry_class.code == "ETABLISSEMENT"
    assert head.custodian.ids == [II(templates.STRUCT_IDNAT, "1910020254")]
    assert head.encounter is not None
    assert head.encounter.code is not None
    assert head.encounter.code.code == "VR"
    assert head.encounter.time == Interval(null_flavor="NA")
    assert head.encounter.facility is not None
    assert head.encounter.facility.code is not None
    assert head.encounter.facility.code.code == "SA01"


def test_a_structure_speaks_through_software_and_somebody_answers() -> None:
    head = notify(NOTICES["discharge"]).document.header
    (author,) = head.authors
    assert author.time == "20260228150000+0100"
    assert author.assigned.device is not None
    assert author.assigned.ids == [II(templates.PS_IDNAT, "3910020254/Relais")]
    assert author.assigned.organization is not None
    assert author.assigned.organization.name == "Hôpital des Ormes"
    assert head.legal_authenticator is not None
    assert head.legal_authenticator.assigned.ids == [II(templates.PS_IDNAT, "810101234567")]


def test_a_professional_speaks_in_person() -> None:
    head = notify(NOTICES["by-professional"]).document.header
    (author,) = head.authors
    assert author.assigned.ids == [II(templates.PS_IDNAT, "810100000019")]
    assert author.assigned.code is not None
    assert author.assigned.code.code == "G15_60"
    assert head.legal_authenticator is not None
    assert head.legal_authenticator.assigned.ids == author.assigned.ids
    assert head.custodian.ids == [II(templates.STRUCT_IDNAT, "1910019447")]


def test_who_sends_for_who_declares_is_in_words() -> None:
    mapped = notify(NOTICES["by-professional-for-structure"])
    assert "Envoyée parHôpital des Ormes" in words(mapped.document)
    assert "CommunicationRequest.sender" in {issue.path for issue in mapped.issues}


def test_a_relative_declares_through_software() -> None:
    mapped = notify(NOTICES["by-relative"])
    assert mapped.document.header.authors[0].assigned.device is not None
    assert entry_of(mapped).authors == []
    assert "ÉmetteurSophie NESSI" in words(mapped.document)


@pytest.mark.parametrize(
    ("code", "expected"), [("SOR", "51851-4"), ("NOT", "28653-4"), ("DOC", "51851-4"), ("ADM", "51851-4")]
)
def test_the_type_of_the_document_goes_by_the_event(code: str, expected: str) -> None:
    payload = [{"contentString": "x"}]
    assert of(extension=event(code), payload=payload).document.header.code.code == expected


def test_the_types_are_a_setting() -> None:
    chosen = replace(EMISSION, deployment=replace(EMISSION.deployment, notification_types=(("SOR", "86531-1"),)))
    assert notify(NOTICES["discharge"], chosen).document.header.code.code == "86531-1"
    wrong = replace(EMISSION, deployment=replace(EMISSION.deployment, notification_types=(("SOR", "0-0"),)))
    assert set(refused(emission=wrong)) == {"setting notification_types"}


def test_the_stay_that_the_event_is_about() -> None:
    encounter = notify(NOTICES["admission"]).document.header.encounter
    assert encounter is not None
    assert encounter.code is not None
    assert encounter.code.code == "EMER"
    assert encounter.ids == [II("1.2.250.1.999.42.4", "SEJ-1")]
    assert encounter.time == Interval(low="20260227221000+0100")
    assert encounter.facility is not None
    assert encounter.facility.code is not None
    assert encounter.facility.code.code == "SA01"


def test_a_prescription_is_an_order_and_a_subscription_is_none() -> None:
    assert [one.ids for one in notify(NOTICES["prescribed"]).document.header.orders] == [
        [II("1.2.250.1.999.42.4", "PRESC-1")]
    ]
    order = notify(NOTICES["order"])
    assert order.document.header.orders == []
    assert "CommunicationRequest.basedOn[0].resolve()" in {issue.path for issue in order.issues}


# --- recipients ---------------------------------------------------------------------------------------------------


def test_a_relative_is_told_by_name_without_id_at_the_address_asked_for() -> None:
    mapped = notify(NOTICES["order"])
    (recipient,) = mapped.document.header.recipients
    assert recipient.ids == []
    assert recipient.name is not None
    assert recipient.name.families[0].text == "NESSI"
    assert [one.value for one in recipient.telecoms] == ["tel:0647150100", "mailto:sophie@exemple.fr"]
    assert any("written twice" in issue.message for issue in mapped.issues)


def test_a_professional_is_told_under_the_national_number() -> None:
    (recipient,) = notify(NOTICES["to-professional"]).document.header.recipients
    assert recipient.ids == [II(templates.PS_IDNAT, "810100000019")]
    assert [one.value for one in recipient.telecoms] == ["mailto:isabelle.lefranc@exemple.mssante.fr"]


def test_a_structure_is_told_and_a_web_address_goes_to_the_narrative() -> None:
    mapped = notify(NOTICES["to-structure"])
    (recipient,) = mapped.document.header.recipients
    assert recipient.name is None
    assert recipient.telecoms == []
    assert recipient.organization is not None
    assert recipient.organization.ids == [II(templates.STRUCT_IDNAT, "1910020254")]
    assert "https://hopital.example/fhir" in words(mapped.document)


def test_several_recipients() -> None:
    mapped = notify(NOTICES["note"])
    found = mapped.document.header.recipients
    assert [[ii.extension for ii in one.ids] for one in found] == [["810101234567"], [], [], []]
    assert found[2].name is not None
    assert found[2].name.families[0].text == "PAT-TROIS"
    assert found[3].name is not None
    assert found[3].name.families[0].text == "Service d'aide à domicile"


def test_the_relative_of_somebody_else_is_refused() -> None:
    stranger = sister() | {"patient": {"reference": "#other"}}
    other = {"resourceType": "Patient", "id": "other", "name": [{"family": "AUTRE"}]}
    found = refused(stranger, other, recipient=[endpoint("#rel", "tel:0600000000")])
    assert set(found) == {"CommunicationRequest.recipient[0].resolve().patient"}
    assert "AUTRE" not in str(found)


# --- the event ----------------------------------------------------------------------------------------------------


def test_the_entry_of_a_discharge() -> None:
    entry = entry_of(notify(NOTICES["discharge"]))
    assert (entry.kind, entry.mood_code, entry.status) == ("encounter", "EVN", "completed")
    assert business_status(entry).code == "REALISE"
    assert entry.ids == [II("1.2.250.1.999.42.4", "NDE-1")]
    assert entry.code is not None
    assert (entry.code.code, entry.code.system) == ("SOR", "1.2.250.1.213.1.1.4.337")
    assert entry.time == Interval(low="20260228140000+0100")
    (author,) = entry.authors
    assert (author.time, author.assigned.ids) == ("20260228150000+0100", [II(templates.STRUCT_IDNAT, "1910020254")])


def test_the_event_and_its_circumstances_can_be_read() -> None:
    mapped = notify(NOTICES["order"])
    text = words(mapped.document)
    for expected in (
        "Sortie d'un patient de l'établissement de santé",
        "le 28/02/2026 à 14:00",
        "Émise le28/02/2026 à 14:30",
        "Ordre de notification du28/02/2026 à 15:00",
        "ÉmetteurHôpital des Ormes",
        "DestinataireSophie NESSI",
        "CanalCourrier électronique",
    ):
        assert expected in text, expected
    assert text_by_id(mapped.document.sections[0].text)["evt-1"].startswith("Sortie")


@pytest.mark.parametrize(
    ("priority", "code"), [("routine", "R"), ("urgent", "UR"), ("asap", "A"), ("stat", "S"), (None, None)]
)
def test_the_priority(priority: str | None, code: str | None) -> None:
    entry = entry_of(of(priority=priority))
    assert (entry.priority.code if entry.priority else None) == code


def test_an_announced_event_is_planned() -> None:
    entry = entry_of(notify(NOTICES["announced"]))
    assert (entry.mood_code, entry.status, business_status(entry).code) == ("INT", "active", "PLANIFIE")
    assert entry.template_ids[0] == II("2.16.840.1.113883.10.20.1.25")


def test_a_period_and_a_time_of_emission_stand_in_for_the_time_of_the_event() -> None:
    assert entry_of(notify(NOTICES["period"])).time == Interval(low="20260220080000+0100", high="20260221120000+0100")
    assert entry_of(notify(NOTICES["emission-only"])).time == Interval(low="20260228150000+0100")
    assert entry_of(notify(NOTICES["device-event"])).time == Interval(low="20260220")
    assert "Datele 20/02/2026" in words(notify(NOTICES["device-event"]).document)


@pytest.mark.parametrize(
    ("end", "said"), [("2026-02-21", "du 20/02/2026 au 21/02/2026"), ("2026-02-20", "le 20/02/2026")]
)
def test_a_period_of_days_is_said_whole(end: str, said: str) -> None:
    mapped = of(extension=event("ADM", None), occurrencePeriod={"start": "2026-02-20", "end": end})
    assert f"Date{said}" in words(mapped.document)


def test_when_to_send_is_in_words_beside_when_it_happened() -> None:
    mapped = of(occurrenceDateTime="2026-03-01T07:00:00Z")
    assert entry_of(mapped).time == Interval(low="20260228140000+0100")
    assert "Transmission prévue01/03/2026 à 08:00" in words(mapped.document)


def test_the_kind_of_event_of_a_communication_is_its_category() -> None:
    mapped = notify(NOTICES["note-about"])
    code = entry_of(mapped).code
    assert code is not None
    assert code.code == "NOT"
    text = words(mapped.document)
    assert "ObjetSuivi de plaie" in text
    assert "Au sujet dePansement du talon" in text
    assert "Communication.received" in {issue.path for issue in mapped.issues}


# --- message and documents ----------------------------------------------------------------------------------------


def test_a_notification_that_says_nothing_more() -> None:
    assert titles(notify(NOTICES["silent"])) == ["Évènement notifié"]


def test_words_are_the_message_and_notes_the_comment() -> None:
    mapped = notify(NOTICES["attachments"])
    assert titles(mapped) == ["Évènement notifié", "Message", "Documents joints", "Documents référencés"]
    message = text_by_id(mapped.document.sections[1].text)
    assert list(message.values()) == [
        "Première ligneSeconde ligne",
        "Été à l'hôpital : « revoir » le 3/03",
        "ConsignesConsignes de retour",
        "Le carnet de suivi papier",
    ]
    comment = entry_of(mapped).relationships[-1].statement
    assert comment.text is not None
    assert comment.text.reference == "#com-1"
    assert text_by_id(mapped.document.sections[0].text)["com-1"] == "Aidante prévenueTaxi réservé"


def test_documents_are_attached_or_referred_to() -> None:
    sections = notify(NOTICES["attachments"]).document.sections
    (letter, trace), (plan,) = sections[2].entries, sections[3].entries
    kind, media = (one.statement for one in letter.relationships)
    assert media.values == [Media("application/pdf", PDF)]
    assert (kind.time, media.xml_id) == (Interval(value="20260228"), "media-1")
    assert trace.relationships[1].statement.values == [Media("text/plain", "Tracé".encode("cp1252"))]
    assert trace.relationships[0].statement.time == Interval(null_flavor="NA")
    reference = plan.references[0].text
    assert reference is not None
    assert reference.reference == "https://hopital.example/plan"


def test_a_deposit_refers_to_the_document() -> None:
    mapped = notify(NOTICES["deposit"])
    assert titles(mapped) == ["Évènement notifié", "Documents référencés"]
    (reference,) = mapped.document.sections[1].entries[0].references
    assert reference.ids == [II("1.2.250.1.999.42.78.1")]
    assert reference.code is not None
    assert reference.code.code == "34133-9"
    assert reference.text is not None
    assert reference.text.reference == "https://dmp.example/doc/78"


def test_a_deposit_without_document_is_said() -> None:
    warned = {issue.path for issue in notify(NOTICES["emission-only"]).issues if issue.severity == "warning"}
    assert warned == {"CommunicationRequest.payload"}


def test_a_deposit_of_a_document_that_is_refused_does_name_one() -> None:
    wrong = {"contentAttachment": {"contentType": "application/zip", "data": base64_of(b"PK")}}
    with pytest.raises(MappingError) as error:
        of(extension=event("DOC"), payload=[wrong])
    assert [issue.path for issue in error.value.issues if issue.severity != "information"] == [
        "CommunicationRequest.payload[0].contentAttachment.contentType"
    ]


@pytest.mark.parametrize("charset", ["iso-8859-1", "latin1", "Windows-1252", "utf8", '"utf-8"'])
def test_words_are_read_in_the_charset_that_they_state(charset: str) -> None:
    data = "Été à 14 h".encode(charset.strip('"'))
    attachment = {"contentType": f"text/plain; charset={charset}", "data": base64_of(data)}
    mapped = of(payload=[{"contentAttachment": attachment}])
    assert titles(mapped) == ["Évènement notifié", "Message"]
    assert "Été à 14 h" in words(mapped.document)


def test_words_in_an_unusual_charset_are_a_document() -> None:
    attachment = {"contentType": "text/plain; charset=utf-7", "data": base64_of(b"Bonjour")}
    assert titles(of(payload=[{"contentAttachment": attachment}])) == ["Évènement notifié", "Documents joints"]


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"contentAttachment": {"contentType": "application/zip", "data": base64_of(b"PK")}}, ".contentType"),
        ({"contentAttachment": {"contentType": "image/png", "data": base64_of(b"GIF8")}}, ".data"),
        ({"contentAttachment": {"contentType": "text/plain", "data": "é"}}, ".data"),
        (text_attachment("abc", size=5), ".size"),
        (text_attachment("abc", hash=base64_of(b"0" * 20)), ".hash"),
        ({"contentAttachment": {"title": "vide"}}, ""),
        ({"contentAttachment": {"url": "nulle/part"}}, ".url"),
    ],
)
def test_a_document_that_cannot_be_attached_is_refused(payload: Resource, path: str) -> None:
    assert f"CommunicationRequest.payload[0].contentAttachment{path}" in refused(payload=[payload])


def test_content_that_is_no_document_is_refused_without_words() -> None:
    goal = {"resourceType": "Goal", "id": "goal", "lifecycleStatus": "active", "subject": {"reference": "#pat"}}
    found = refused(goal, payload=[{"contentReference": {"reference": "#goal"}}])
    assert set(found) == {"CommunicationRequest.payload[0].contentReference"}
    mapped = of(goal, payload=[{"contentReference": {"reference": "#goal", "display": "L'objectif de marche"}}])
    assert "L'objectif de marche" in words(mapped.document)


# --- identity, versions, withdrawal -------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_bytes() -> None:
    for bundle in NOTICES.values():
        assert write(notify(copy.deepcopy(bundle)).document) == write(notify(bundle).document)


def test_a_correction_is_the_next_version() -> None:
    first = notify(NOTICES["discharge"]).document.header
    corrected = bundle_of(request(extension=event("SOR", "2026-02-28T13:30:00+01:00")))
    version = DocumentVersion(2, first.id)
    second = notify(corrected, replace(EMISSION, version=version)).document.header
    assert second.set_id == first.set_id
    assert second.id != first.id
    assert (second.version_number, second.related_documents[0].parent_ids) == (2, [first.id])


def test_a_withdrawal_replaces_what_was_sent() -> None:
    bundle = bundle_of(request(status="revoked", statusReason={"text": "Saisie pour la mauvaise date"}))
    mapped = notify(bundle, SECOND)
    status = business_status(entry_of(mapped))
    assert (entry_of(mapped).status, status.code) == ("cancelled", "ANNULE")
    assert [one.value.null_flavor for one in status.qualifiers if one.value] == ["OTH"]
    assert (mapped.document.header.title or "").startswith("Retrait d'une notification d'évènement – Sortie")
    text = words(mapped.document)
    assert "Notification retirée : l'évènement n'est plus à prendre en compte" in text
    assert "Saisie pour la mauvaise date" in text
    assert mapped.document.header.related_documents[0].parent_ids == [II("2.25.1")]


def test_a_stopped_communication_is_withdrawn_too() -> None:
    bundle = copy.deepcopy(NOTICES["note"])
    bundle["entry"][-1]["resource"]["status"] = "stopped"
    assert entry_of(notify(bundle, SECOND)).status == "cancelled"


def test_what_was_never_sent_cannot_be_withdrawn() -> None:
    assert "replaces" in refused(status="revoked")["CommunicationRequest.status"]


def test_a_suspended_notification_says_so() -> None:
    mapped = notify(NOTICES["on-hold"])
    assert entry_of(mapped).status == "held"
    assert "Survenu, notification suspendue" in words(mapped.document)


def test_what_the_composition_says_wins() -> None:
    bundle = NOTICES["note"]
    resources = ResourceSet.of_bundle(bundle)
    (source,) = resources.of_type("Communication")
    composition: Resource = {
        "resourceType": "Composition",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.1.999.8"},
        "subject": source["subject"],
        "type": concept("http://loinc.org", "51851-4"),
    }
    head = notification_document(
        source, resources, EMISSION, composition=composition, document_id=II("1.2.250.1.999.8.1")
    ).document.header
    assert (head.set_id, head.id, head.code.code) == (II("1.2.250.1.999.8"), II("1.2.250.1.999.8.1"), "51851-4")


@pytest.mark.parametrize("name", NOTICES)
def test_a_bundle_of_a_notification_is_one(name: str) -> None:
    assert write(convert(NOTICES[name], EMISSION).document) == write(notify(NOTICES[name]).document)


def test_what_nothing_of_the_document_refers_to_is_said() -> None:
    """An appointment beside a notification is in no document."""
    bundle = bundle_of(request())
    appointment = {"resourceType": "Appointment", "id": "rdv", "status": "booked", "participant": []}
    bundle["entry"].append({"resource": appointment})
    found = [issue.path for issue in convert(bundle, EMISSION).issues if "nothing of the document" in issue.message]
    assert found == ["Appointment/rdv"]


def test_a_composition_says_which_notification_is_meant() -> None:
    bundle = bundle_of(
        request(), request(identifier=[{"system": "urn:oid:1.2.250.1.999.42.4", "value": "2"}], extension=event("ADM"))
    )
    with pytest.raises(MappingError, match="several found"):
        convert(bundle, EMISSION)
    for number, entry in enumerate(bundle["entry"]):
        entry["fullUrl"] = f"https://relais.example/fhir/CommunicationRequest/{number}"
    section = {"entry": [{"reference": "https://relais.example/fhir/CommunicationRequest/1"}]}
    bundle["entry"].append({"resource": {"resourceType": "Composition", "section": [section]}})
    code = entry_of(convert(bundle, EMISSION)).code
    assert code is not None
    assert code.code == "ADM"


# --- refusals -----------------------------------------------------------------------------------------------------


def test_everything_missing_is_said_at_once() -> None:
    found = refused(
        emission=BARE_EMISSION,
        identifier=None,
        extension=None,
        authoredOn=None,
        requester=None,
        status="draft",
    )
    assert {
        "CommunicationRequest.identifier",
        TYPE,
        f"CommunicationRequest.extension('{extensions.EVENT_TIME}').value",
        "CommunicationRequest.requester",
        "CommunicationRequest.status",
    } <= set(found)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"subject": None}, "CommunicationRequest.subject"),
        ({"subject": {"reference": "#none"}}, "CommunicationRequest.subject"),
        ({"status": "entered-in-error"}, "CommunicationRequest.status"),
        ({"doNotPerform": True}, "CommunicationRequest.doNotPerform"),
        ({"extension": event("XXX")}, TYPE),
        ({"extension": event("NREC")}, TYPE),
        ({"extension": event(None)}, TYPE),
        ({"modifierExtension": [{"url": "https://x.example"}]}, "CommunicationRequest.modifierExtension"),
        ({"recipient": [{"reference": "Patient/none"}]}, "CommunicationRequest.recipient[0]"),
    ],
)
def test_what_is_wrong_is_refused_where_it_stands(changes: Resource, path: str) -> None:
    assert path in refused(**changes)


@pytest.mark.parametrize("status", ["preparation", "not-done", "entered-in-error"])
def test_a_communication_that_did_not_happen_has_no_document(status: str) -> None:
    bundle = copy.deepcopy(NOTICES["note"])
    bundle["entry"][-1]["resource"]["status"] = status
    with pytest.raises(MappingError, match=r"Communication\.status"):
        notify(bundle)


def test_the_right_code_of_the_wrong_system_is_refused() -> None:
    wrong = {"url": extensions.EVENT_TYPE, "valueCodeableConcept": concept("https://x.example", "SOR")}
    assert TYPE in refused(extension=[*event(None), wrong])


def test_a_structure_without_number_is_asked_for_one_of_a_structure() -> None:
    nameless = {"resourceType": "Organization", "id": "club", "name": "Vivre chez soi"}
    asked = refused(nameless, requester={"reference": "#club"})["CommunicationRequest.requester.resolve().identifier"]
    assert "structure" in asked


def test_a_structure_that_nobody_answers_for_is_refused() -> None:
    assert refused(emission=Emission(DEPLOYMENT, NOW)) == {
        "CommunicationRequest.requester": "a professional who answers for the document"
    }


def test_the_stay_of_another_patient_is_refused() -> None:
    other = {"resourceType": "Patient", "id": "other", "name": [{"family": "AUTRE"}]}
    stay = {
        "resourceType": "Encounter",
        "id": "stay",
        "status": "finished",
        "class": {"code": "IMP"},
        "subject": {"reference": "#other"},
    }
    found = refused(stay, other, encounter={"reference": "#stay"})
    assert set(found) == {"CommunicationRequest.encounter.resolve().subject"}


def test_what_has_no_place_is_said() -> None:
    mapped = of(
        doctor(),
        groupIdentifier={"value": "G"},
        replaces=[{"reference": "CommunicationRequest/1"}],
        about=[{"reference": "#doc"}],
        extension=[*event(), {"url": "https://x.example"}],
        medium=[{"coding": [{"code": "?"}]}],
    )
    assert {
        "CommunicationRequest.groupIdentifier",
        "CommunicationRequest.replaces",
        "CommunicationRequest.about[0]",
        "CommunicationRequest.extension[2]",
        "CommunicationRequest.medium[0]",
    } <= {issue.path for issue in mapped.issues}


def test_a_reason_without_words_is_readable() -> None:
    mapped = of(reasonCode=[{"coding": [{"system": "http://snomed.info/sct", "code": "185389009"}]}])
    assert "185389009" in plain_text(mapped.document.sections[0].text)


def test_what_may_change_the_meaning_of_a_payload_is_refused() -> None:
    payload = {"contentString": "Sortie", "modifierExtension": [{"url": "https://example.org/not"}]}
    with pytest.raises(MappingError, match="may change the meaning"):
        of(payload=[payload])


def test_what_the_header_cannot_hold_of_a_stay_is_said() -> None:
    act_code = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
    wards = [{"resourceType": "Location", "id": f"ward-{number}", "name": f"Unité {number}"} for number in (1, 2)]
    stay = {
        "resourceType": "Encounter",
        "id": "stay",
        "status": "in-progress",
        "class": {"system": act_code, "code": "PRENC"},
        "subject": {"reference": "#pat"},
        "participant": [{"type": [concept(participation, "PPRF")], "individual": {"reference": "#doc"}}],
        "location": [{"location": {"reference": f"#{ward['id']}"}} for ward in wards],
    }
    mapped = of(doctor(), stay, *wards, encounter={"reference": "#stay"})
    place = "CommunicationRequest.encounter.resolve()"
    paths = {issue.path for issue in mapped.issues}
    assert {f"{place}.class", f"{place}.participant[0]", f"{place}.location[1].location"} <= paths
    assert mapped.document.header.encounter.facility.name == "Unité 2"


def test_a_notification_of_tomorrow_is_said() -> None:
    warned = {issue.path for issue in of(authoredOn="2026-03-05T15:00:00+01:00").issues if issue.severity == "warning"}
    assert warned == {"CommunicationRequest.authoredOn"}


def test_the_event_type_by_oid_is_understood() -> None:
    stated = {"url": extensions.EVENT_TYPE, "valueCodeableConcept": concept("urn:oid:1.2.250.1.213.1.1.4.337", "SOR")}
    code = entry_of(of(extension=[*event(None), stated])).code
    assert isinstance(code, Code)
    assert code.code == "SOR"


def test_no_health_data_in_what_is_said() -> None:
    for name, bundle in NOTICES.items():
        said = " ".join(str(issue) for issue in notify(bundle).issues)
        assert "PAT-TROIS" not in said, name
        assert "279035121518989" not in said, name
