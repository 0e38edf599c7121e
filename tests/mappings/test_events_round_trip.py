"""Agenda and notification: FHIR → CDA → FHIR → CDA keeps header, entries and their words."""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from relais.cda.model import II, Code, Document, Interval, Media, Statement
from relais.cda.narrative import plain_text
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import Emission, Imported, Mapped
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda import convert
from relais.profiles import structure
from support.appointments import AGENDAS, agendas, single, snapshot
from support.comparison import Tolerance, differences, untolerated, unused
from support.notifications import EMISSION as NOTICE_EMISSION
from support.notifications import NOTICES, notices, notify
from support.plans import EMISSION

Resource = dict[str, Any]

_ORDER = Tolerance(r"header\.orders\[0\]\.code", "an order comes back as its number")
LOSSES = {
    "agenda every-detail": [_ORDER],
    "notice prescribed": [_ORDER],
    "agenda checked-in": [
        Tolerance(r"sections\[0\]\.entries\[0\]\.relationships\[0\]\.statement\.text", "comes back as arrived")
    ],
    "notice period": [
        Tolerance(r"sections\[0\]\.entries\[0\]\.time\.high", "the event of a Communication has one time")
    ],
}
"""What one round loses."""

AGENDA_DOCUMENTS = {f"agenda {name}": partial(single, bundle) for name, bundle in AGENDAS.items()}
NOTICE_DOCUMENTS = {f"notice {name}": partial(notify, bundle) for name, bundle in NOTICES.items()}
DOCUMENTS: dict[str, tuple[Callable[[], Mapped], Emission]] = {
    **{name: (make, EMISSION) for name, make in AGENDA_DOCUMENTS.items()},
    "agenda snapshot": (partial(snapshot, AGENDAS["week"]), EMISSION),
    **{name: (make, NOTICE_EMISSION) for name, make in NOTICE_DOCUMENTS.items()},
}


def as_read(mapped: Mapped) -> tuple[Document, bytes]:
    """The document as a reader sees it, and its bytes."""
    data = write(mapped.document)
    return read(data).document, data


def imported(mapped: Mapped) -> Imported:
    """The Bundle of a document."""
    return to_bundle(*as_read(mapped))


def resources(result: Imported, resource_type: str) -> list[Resource]:
    """The resources of that type in the Bundle."""
    found = (entry["resource"] for entry in result.bundle["entry"])
    return [resource for resource in found if resource["resourceType"] == resource_type]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_document_comes_back(name: str) -> None:
    make, emission = DOCUMENTS[name]
    before, _ = as_read(make())
    after, _ = as_read(convert(imported(make()).bundle, emission))
    found = differences(before, after)
    tolerated = LOSSES.get(name, [])
    assert untolerated(found, tolerated) == []
    assert unused(found, tolerated) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_second_round_changes_nothing(name: str) -> None:
    make, emission = DOCUMENTS[name]
    once = convert(imported(make()).bundle, emission)
    twice = convert(imported(once).bundle, emission)
    assert differences(as_read(once)[0], as_read(twice)[0]) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_bundle_is_valid_and_always_the_same(name: str) -> None:
    make, _ = DOCUMENTS[name]
    result = imported(make())
    assert structure.check(result.bundle) == []
    assert imported(make()) == result


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_word_of_the_narrative_arrives(name: str) -> None:
    make, _ = DOCUMENTS[name]
    document, _ = as_read(make())
    (composition,) = resources(imported(make()), "Composition")
    assert [section["title"] for section in composition["section"]] == [one.title for one in document.sections]
    for section, stated in zip(document.sections, composition["section"], strict=True):
        words = "".join(plain_text(section.text).split())
        told = "".join(_without_tags(stated["text"]["div"]).split())
        assert words in told or "renderMultiMedia" in str(section.text)


def _without_tags(div: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", div))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(agendas())
def test_any_agenda_comes_back(bundle: Resource) -> None:
    before = snapshot(bundle)
    after = convert(imported(before).bundle, EMISSION)
    found = differences(as_read(before)[0], as_read(after)[0])
    lossy = [
        Tolerance(r"sections\[0\]\.entries\[\d\]\.relationships\[0\]\.statement\.text", "checked-in"),
        Tolerance(r"header\.(service_events\[0\]\.code|encounter\..*)", "one appointment left of several"),
    ]
    assert untolerated(found, lossy) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notices())
def test_any_notification_comes_back(bundle: Resource) -> None:
    before = notify(bundle)
    after = convert(imported(before).bundle, NOTICE_EMISSION)
    assert differences(as_read(before)[0], as_read(after)[0]) == []


# --- what comes out -----------------------------------------------------------------------------------------------


def test_an_appointment_with_everything() -> None:
    (found,) = resources(imported(single(AGENDAS["every-detail"])), "Appointment")
    assert found["identifier"][0] == {"system": "urn:oid:1.2.250.1.999.42.3", "value": "RDV-1"}
    assert (found["status"], found["priority"]) == ("booked", 5)
    assert (found["start"], found["end"]) == ("2026-03-09T09:00:00+01:00", "2026-03-09T09:45:00+01:00")
    assert found["description"] == "Échographie cardiaque de contrôle"
    assert found["reasonCode"] == [{"text": "Essoufflement, Insuffisance cardiaque"}]
    assert found["comment"] == "Prévoir une heure sur place"
    assert found["patientInstruction"] == "Venir à jeun.\nApporter les ordonnances."
    assert found["created"] == "2026-02-01T10:00:00+01:00"
    assert found["meta"] == {"lastUpdated": "2026-02-02T11:00:00+01:00"}
    assert [concept["coding"][0]["code"] for concept in found["serviceType"]] == ["16310003"]
    assert [concept["coding"][0]["code"] for concept in found["specialty"]] == ["SM04"]
    assert len(found["participant"]) == 6


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("proposed", "proposed"),
        ("waitlist", "waitlist"),
        ("minimal", "booked"),
        ("arrived", "arrived"),
        ("checked-in", "arrived"),
        ("fulfilled", "fulfilled"),
        ("cancelled", "cancelled"),
        ("noshow", "noshow"),
    ],
)
def test_the_status_comes_back(name: str, status: str) -> None:
    (found,) = resources(imported(single(AGENDAS[name])), "Appointment")
    assert found["status"] == status


def test_the_reason_of_a_cancellation_comes_back() -> None:
    (coded,) = resources(imported(single(AGENDAS["cancelled-by-weather"])), "Appointment")
    assert coded["cancelationReason"]["coding"][0]["code"] == "GEN-360"
    assert coded["cancelationReason"]["text"] == "Neige : route coupée"
    (worded,) = resources(imported(single(AGENDAS["cancelled-in-words"])), "Appointment")
    assert worded["cancelationReason"] == {"text": "Déménagement"}
    (silent,) = resources(imported(single(AGENDAS["cancelled"])), "Appointment")
    assert "cancelationReason" not in silent


def test_documents_come_back_with_their_bytes() -> None:
    result = imported(single(AGENDAS["documents"]))
    (appointment,) = resources(result, "Appointment")
    assert len(appointment["supportingInformation"]) == 4
    several = copy.deepcopy(AGENDAS["documents"])
    other = copy.deepcopy(next(e for e in several["entry"] if e["resource"]["resourceType"] == "Appointment"))
    other["fullUrl"] = "urn:uuid:4c8f3a0e-3c1d-4b43-9d30-000000000001"
    other["resource"] |= {"identifier": [{"system": "urn:oid:1.2.250.1.999.42.3", "value": "other"}]}
    several["entry"].append(other)
    kept = imported(snapshot(several))
    assert all("supportingInformation" not in one for one in resources(kept, "Appointment"))
    assert any("which appointment" in issue.message for issue in kept.issues)


def test_an_attachment_comes_back_once() -> None:
    """As payload, with nothing beside it that the Bundle does not refer to."""
    result = imported(notify(NOTICES["attachments"]))
    assert len(resources(result, "DocumentReference")) == 1
    again = convert(result.bundle, NOTICE_EMISSION)
    assert [issue for issue in again.issues if "nothing of the document" in issue.message] == []


def test_a_notification_with_everything() -> None:
    result = imported(notify(NOTICES["attachments"]))
    (found,) = resources(result, "Communication")
    assert found["category"][0]["coding"][0]["code"] == "SOR"
    assert found["status"] == "completed"
    assert found["sent"] == "2026-02-28T15:00:00+01:00"
    assert found["note"] == [{"text": "Aidante prévenue\nTaxi réservé"}]
    strings = [one["contentString"] for one in found["payload"] if "contentString" in one]
    assert strings[0] == "Première ligne\nSeconde ligne"
    attachments = [one["contentAttachment"] for one in found["payload"] if "contentAttachment" in one]
    assert [one.get("title") for one in attachments] == ["Lettre de sortie", "Trace", "Plan d'accès"]


def test_a_withdrawal_comes_back_as_stopped() -> None:
    document, data = as_read(notify(NOTICES["discharge"]))
    document.sections[0].entries[0].status = "cancelled"
    (found,) = resources(to_bundle(document, data), "Communication")
    assert found["status"] == "stopped"


# --- documents of others ------------------------------------------------------------------------------------------


def _changed(change: Callable[[Statement], object], name: str = "minimal") -> Imported:
    document, data = as_read(single(AGENDAS[name]))
    change(document.sections[0].entries[0])
    return to_bundle(document, data)


@pytest.mark.parametrize(
    ("business", "status"),
    [
        ("PLANIFIE", "booked"),
        ("ACTIF", "booked"),
        ("VALIDE", "fulfilled"),
        ("TERMINE", "fulfilled"),
        ("ANNULE", "cancelled"),
        ("CREATION", "proposed"),
    ],
)
def test_a_business_status_stands_in_for_a_status(business: str, status: str) -> None:
    def change(entry: Statement) -> None:
        entry.status = None
        value = entry.relationships[0].statement.values[0]
        assert isinstance(value, Code)
        value.code = business

    result = _changed(change)
    assert resources(result, "Appointment")[0]["status"] == status
    assert any(issue.severity == "warning" and "statusCode" in issue.path for issue in result.issues)


@pytest.mark.parametrize(
    ("code", "business", "status"),
    [
        ("active", "ANNULE", "cancelled"),
        ("completed", "ANNULE", "cancelled"),
        ("cancelled", "PLANIFIE", "cancelled"),
        ("cancelled", "CREATION", None),
        ("completed", "VALIDE", None),
        ("nullified", "ANNULE", None),
    ],
)
def test_an_event_that_one_status_drops_is_not_kept_by_the_other(code: str, business: str, status: str | None) -> None:
    def change(entry: Statement) -> None:
        entry.status = code
        value = entry.relationships[0].statement.values[0]
        assert isinstance(value, Code)
        value.code = business

    result = _changed(change)
    assert any("unlike statusCode" in issue.message for issue in result.issues) is (status is not None)
    if status is not None:
        assert resources(result, "Appointment")[0]["status"] == status


@pytest.mark.parametrize("motive", ["GEN-359", None])
def test_an_event_given_up_is_no_absence_of_the_person(motive: str | None) -> None:
    def change(entry: Statement) -> None:
        value = entry.relationships[0].statement.values[0]
        assert isinstance(value, Code)
        [qualifier] = value.qualifiers
        assert qualifier.value is not None
        qualifier.value.code = motive
        value.qualifiers = value.qualifiers if motive else []

    (found,) = resources(_changed(change, "noshow"), "Appointment")
    assert found["status"] == "cancelled"
    assert [one["code"] for one in found.get("cancelationReason", {}).get("coding", ())] == ([motive] if motive else [])


def test_a_notification_that_one_status_withdraws_is_withdrawn() -> None:
    document, data = as_read(notify(NOTICES["discharge"]))
    value = document.sections[0].entries[0].relationships[0].statement.values[0]
    assert isinstance(value, Code)
    value.code = "ANNULE"
    (found,) = resources(to_bundle(document, data), "Communication")
    assert found["status"] == "stopped"


@pytest.mark.parametrize("kind", ["Appointment", "Communication"])
def test_what_was_entered_in_error_comes_as_such(kind: str) -> None:
    mapped = single(AGENDAS["minimal"]) if kind == "Appointment" else notify(NOTICES["discharge"])
    mapped.document.sections[0].entries[0].status = "nullified"
    (found,) = resources(imported(mapped), kind)
    assert found["status"] == "entered-in-error"


def test_an_entry_that_is_no_event_is_kept_in_words() -> None:
    result = _changed(lambda entry: setattr(entry, "template_ids", [II("1.2.3")]))
    assert resources(result, "Appointment") == []
    assert any("not an event" in issue.message for issue in result.issues)


@pytest.mark.parametrize(("time", "asked"), [(Interval(low="20260309"), [{"start": "2026-03-09"}]), (None, None)])
def test_a_time_that_is_no_instant_is_the_period_asked_for(time: Interval | None, asked: Resource | None) -> None:
    result = _changed(lambda entry: setattr(entry, "time", time))
    (found,) = resources(result, "Appointment")
    assert found.get("requestedPeriod") == asked
    assert "start" not in found
    assert structure.check(found) == []
    assert any(issue.severity == "warning" and "effectiveTime" in issue.path for issue in result.issues)


def test_an_open_end_is_said_to_be_unknown() -> None:
    result = _changed(lambda entry: setattr(entry, "time", Interval(low="20260309090000+0100")))
    (found,) = resources(result, "Appointment")
    assert "end" not in found
    assert found["_end"]["extension"][0]["valueCode"] == "unknown"
    assert structure.check(found) == []


def test_a_message_without_words_is_none() -> None:
    document, data = as_read(notify(NOTICES["discharge"]))
    document.sections[1].text = []
    (found,) = resources(to_bundle(document, data), "Communication")
    assert "payload" not in found


def test_a_document_of_unknown_type_is_bytes() -> None:
    document, data = as_read(notify(NOTICES["attachments"]))
    media = document.sections[2].entries[0].relationships[1].statement.values[0]
    assert isinstance(media, Media)
    media.media_type = None
    (found,) = resources(to_bundle(document, data), "Communication")
    attachments = [one["contentAttachment"] for one in found["payload"] if "contentAttachment" in one]
    assert attachments[0]["contentType"] == "application/octet-stream"
    assert structure.check(found) == []


def test_a_comment_without_label_is_a_comment() -> None:
    def change(document: Document) -> None:
        for element in document.sections[0].text:
            _replace(element, "Commentaire : ", "")
            _replace(element, "Consignes : ", "")

    document, data = as_read(single(AGENDAS["every-detail"]))
    change(document)
    (found,) = resources(to_bundle(document, data), "Appointment")
    assert found["comment"].startswith("Prévoir une heure sur place\nVenir à jeun.")
    assert "patientInstruction" not in found


def _replace(node: Any, old: str, new: str) -> None:
    if not isinstance(node, str):
        node.children = [child.replace(old, new) if isinstance(child, str) else child for child in node.children]
        for child in node.children:
            _replace(child, old, new)
