"""FR-Evenement → Appointment, or Communication when the event is one of the volet NdE.

Inverse of `to_cda.agenda` and `to_cda.notification`. What those state in words only (answers of participants, slots,
durations) comes back as the narrative of the section, not as elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from relais.cda import event_sections, templates
from relais.cda.model import AssignedEntity, Code, Document, EntryParticipant, Performer, Section, Statement, Timestamp
from relais.cda.model import Organization as Structure
from relais.mappings import extensions, terminology
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import (
    absent,
    addresses,
    coding,
    codings,
    concept,
    identifiers,
    period,
    telecoms,
)
from relais.mappings.from_cda.enclosures import Enclosed, read_attached, read_referenced
from relais.mappings.from_cda.narrative import words
from relais.mappings.from_cda.parties import organization, party, relative
from relais.mappings.from_cda.plan import has_template, report_unread, stated, subentries
from relais.mappings.from_cda.reading import SECTION_RULE, Reading, key_of
from relais.mappings.to_cda.appointments import NOT_COME_MOTIVE
from relais.mappings.to_cda.datatypes import display_name
from relais.mappings.to_cda.notification import PRIORITIES

RULE = "CI-SIS Modèles de contenus CDA, FR-Evenement"
EVENT_TYPES = "1.2.250.1.213.1.1.4.337"

_PLANNED = {
    "new": "proposed",
    "held": "pending",
    "suspended": "waitlist",
    "active": "booked",
    "cancelled": "cancelled",
    "aborted": "noshow",
    "completed": "fulfilled",
    "nullified": "entered-in-error",
}
_HAPPENED = _PLANNED | {"active": "arrived"}
_BUSINESS = {
    **dict.fromkeys(("PLANIFIE", "ACTIF"), "booked"),
    **dict.fromkeys(("REALISE", "VALIDE", "TERMINE"), "fulfilled"),
    "ANNULE": "cancelled",
}
"""FR-Statut of a third party that states no statusCode → Appointment.status; the others are `proposed`."""

_NOTICES = {"nullified": "entered-in-error", "cancelled": "stopped", "aborted": "stopped", "held": "on-hold"}
_HELD = "held"
_NOTICE_PRIORITIES = {code: priority for priority, code in PRIORITIES.items()}
_PRIORITIES = {"S": 1, "EM": 1, "UR": 1, "A": 3, "R": 5}
_LABELS = (("Commentaire : ", "comment"), ("Consignes : ", "patientInstruction"))
_DROPPED = frozenset({"cancelled", "noshow"})
_MOTIVE = " – Motif : "


def has_events(document: Document) -> bool:
    """Whether a section states events."""
    return any(_is(section, templates.EVENTS) for section in document.sections)


@dataclass(slots=True)
class EventsReading:
    """Reads the sections of an agenda or a notification one by one; `finish` completes what they are about."""

    reading: Reading
    composition: Resource
    _appointments: list[Resource] = field(default_factory=list)  # References
    _notices: list[Resource] = field(default_factory=list)
    _messages: list[str] = field(default_factory=list)
    _enclosed: list[Enclosed] = field(default_factory=list)

    def read(self, section: Section, path: str) -> list[Resource] | None:
        """References to what the section is about; None for a section that has no part in events."""
        if _is(section, templates.EVENTS):
            return [
                reference
                for index, entry in enumerate(section.entries, 1)
                if (reference := self._event(entry, f"{path}/entry[{index}]/{entry.kind}"))
            ]
        if _is(section, templates.COMMENT_SECTION) and self._notices:
            self._messages += self._words(section)
            return self._notices[:1]
        readers = ((templates.ATTACHED_DOCUMENTS, read_attached), (templates.REFERENCED_DOCUMENTS, read_referenced))
        for model, reader in readers:
            if _is(section, model):
                found = reader(self.reading, section, path)
                self._enclosed += found
                subject = self.composition["subject"]
                return self._notices[:1] or [one.reference(self.reading, subject) for one in found]
        return None

    def finish(self) -> None:
        """Give the only event what goes with it; of several, the document does not say which."""
        if self._appointments and self._enclosed:
            enclosed = [one.reference(self.reading, self.composition["subject"]) for one in self._enclosed]
            if len(self._appointments) == 1:
                self.reading.resource(self._appointments[0])["supportingInformation"] = enclosed
            else:
                message = "which appointment a document goes with is not said: kept beside them"
                self.reading.inform("component/structuredBody", message, RULE)
        for reference in self._notices[:1]:
            payload = [{"contentString": one} for one in self._messages]
            payload += [one.payload(self.reading, self.composition["subject"]) for one in self._enclosed]
            if payload:
                self.reading.resource(reference)["payload"] = payload

    def _words(self, section: Section) -> list[str]:
        """The messages of a section: the parts that bear an ID, else the whole."""
        found = [text for text in (self.reading.words.find(f"message-{n}") for n in range(1, 1000)) if text]
        return found or [text for text in (words(section.text),) if text]

    def _event(self, entry: Statement, path: str) -> Resource | None:
        if entry.kind != "encounter" or not has_template(entry, templates.EVENT["EVN"]):
            self.reading.inform(path, "not an event: narrative only", SECTION_RULE)
            return None
        if entry.code is not None and entry.code.system == EVENT_TYPES:
            reference = _communication(self.reading, entry, self.composition, path)
            self._notices.append(reference)
        else:
            reference = _appointment(self.reading, entry, self.composition["subject"], path)
            self._appointments.append(reference)
        return reference


def _is(section: Section, model: tuple[str, ...]) -> bool:
    return any(ii.root == model[-1] for ii in section.template_ids)


# --- appointment --------------------------------------------------------------------------------------------------


def _appointment(reading: Reading, entry: Statement, subject: Resource, path: str) -> Resource:
    report_unread(
        reading,
        entry,
        path,
        *("ids", "code", "time", "priority", "performers", "authors", "informants", "participants", "relationships"),
    )
    status, reason = _status(reading, entry, path)
    label, motive = _label(reading, entry, path)
    elements: Resource = {
        "meta": _updated(reading, entry, path),
        "extension": _operator(reading, entry, path),
        "identifier": identifiers(entry.ids),
        "status": status,
        "cancelationReason": reason,
        **_services(entry),
        "reasonCode": [{"text": motive}] if motive else [],
        "priority": _PRIORITIES.get((entry.priority.code or "") if entry.priority else ""),
        "description": label,
        "created": _created(reading, entry, path),
        **_times(reading, entry, status, path),
        **_remarks(reading, entry, path),
        "participant": [
            {"actor": subject, "status": "accepted"},
            *({**one, "status": "accepted"} for one in _participants(reading, entry, path)),
        ],
    }
    return reading.add("Appointment", (path,), elements)


def _status(reading: Reading, entry: Statement, path: str) -> tuple[str, Resource | None]:
    """Appointment.status and cancelationReason: statusCode first, the business status for a third party's entry."""
    business, place = _business(entry, path)
    table = _HAPPENED if entry.mood_code == "EVN" else _PLANNED
    status = table.get(entry.status or "")
    if status is None:
        status = _BUSINESS.get(business.code or "", "proposed")
        reading.warn(f"{path}/statusCode", f"no status of an event: read as {status}", RULE, "code-invalid")
    elif status != "entered-in-error" and _contradicts(business, dropped=status in _DROPPED):
        claim = "takes place" if status in _DROPPED else "is cancelled"
        status = status if status in _DROPPED else "cancelled"
        reading.warn(place, f"says that the event {claim}, unlike statusCode: read as {status}", RULE, "conflict")
    motive = next((one.value for one in business.qualifiers if one.value is not None), None)
    if status == "noshow" and (motive is None or motive.code != NOT_COME_MOTIVE):
        status = "cancelled"
        reading.inform(f"{path}/statusCode", "given up, not said to be for the person: read as cancelled", RULE)
    if motive is None or status not in _DROPPED:
        return status, None
    said = reading.text(motive.original_text, f"{place}/qualifier/value/originalText/reference")
    if status == "noshow" and said is None:
        return status, None  # the motive follows from the status
    coded = concept(motive)
    if said and said != motive.display:
        coded["text"] = said
    return status, coded or None


def _contradicts(business: Code, *, dropped: bool) -> bool:
    """Whether FR-Statut says otherwise than statusCode whether an event is dropped."""
    stated = _BUSINESS.get(business.code or "")
    return stated is not None and (stated == "cancelled") != dropped


def _business(entry: Statement, path: str) -> tuple[Code, str]:
    """The value of FR-Statut, and where it stands."""
    for detail, place in subentries(entry, path, "COMP"):
        if has_template(detail, templates.EVENT_STATUS):
            return next((value for value in detail.values if isinstance(value, Code)), Code()), f"{place}/value"
    return Code(), path


def _label(reading: Reading, entry: Statement, path: str) -> tuple[str | None, str | None]:
    """What the appointment is called, and its reason, which stands behind it in the text of the entry."""
    code = entry.code
    label = None
    if code is not None and stated(code.original_text):
        label = reading.text(code.original_text, f"{path}/code/originalText/reference")
    whole = reading.text(entry.text, f"{path}/text/reference")
    if label is None:
        return whole, None
    if whole and whole.startswith(label + _MOTIVE):
        return label, whole.removeprefix(label + _MOTIVE)
    return label, None


def _services(entry: Statement) -> Resource:
    """Translations of the code: specialties (TRE_R38), classes of encounter (ActCode), services for the others."""
    found: dict[str, list[Resource]] = {}
    for code in entry.code.translations if entry.code else []:
        if coded := coding(code):
            name = _SERVICES.get(code.system or "", "serviceType")
            found.setdefault(name, []).append({"coding": [coded]})
    return dict(found)


_SERVICES = {terminology.oid_of(terminology.TRE_R38): "specialty", templates.ACT_CODE: "serviceCategory"}


def _times(reading: Reading, entry: Statement, status: str, path: str) -> Resource:
    """start and end, which FHIR wants as instants, both or, of what is only asked for, none (app-3).

    What is not known to the minute is the requested period, beside a start and an end that are said to be unknown.
    """
    place = f"{path}/effectiveTime"
    found = period(reading, entry.time, place)
    start, end = found.get("start"), found.get("end")
    if start is None or "T" not in start or (end is not None and "T" not in end):
        asked: Resource = {"requestedPeriod": [found] if found else []}
        if status in ("proposed", "waitlist", "cancelled"):
            return asked
        reading.warn(place, "not to the minute: kept as the period asked for", RULE, "value")
        return asked | {"_start": absent("UNK"), "_end": absent("UNK")}
    if end is None:
        reading.inform(place, "no end: said to be unknown", RULE)
        return {"start": start, "_end": absent("UNK")}
    return {"start": start, "end": end}


def _remarks(reading: Reading, entry: Statement, path: str) -> Resource:
    """FR-Commentaire-ER: comment and instructions, as labelled; without label a comment."""
    found: dict[str, list[str]] = {}
    for detail, place in subentries(entry, path, "SUBJ"):
        name = "comment"
        for line in (reading.text(detail.text, f"{place}/text/reference") or "").splitlines():
            text = line
            for label, element in _LABELS:
                if line.startswith(label):
                    name, text = element, line.removeprefix(label)
            found.setdefault(name, []).append(text)
    return {name: "\n".join(lines) for name, lines in found.items()}


def _updated(reading: Reading, entry: Statement, path: str) -> Resource:
    for detail, place in subentries(entry, path, "COMP"):
        if _says(detail, event_sections.LAST_UPDATE):
            value = next((one.value for one in detail.values if isinstance(one, Timestamp)), None)
            moment = reading.moment(value, f"{place}/value")
            return {"lastUpdated": moment} if moment and "T" in moment else {}
    return {}


def _says(entry: Statement, code: Code) -> bool:
    return entry.code is not None and (entry.code.code, entry.code.system) == (code.code, code.system)


def _created(reading: Reading, entry: Statement, path: str) -> str | None:
    author = next(iter(entry.authors), None)
    return reading.moment(author.time, f"{path}/author/time") if author else None


def _operator(reading: Reading, entry: Statement, path: str) -> list[Resource]:
    for author in entry.authors[:1]:
        if reference := party(reading, author.assigned, f"{path}/author/assignedAuthor"):
            return [{"url": extensions.OPERATOR, "valueReference": reference}]
    return []


# --- participants -------------------------------------------------------------------------------------------------


def _participants(reading: Reading, entry: Statement, path: str) -> Iterator[Resource]:
    """Who receives, where, with what; the responsible structure unless it is that of who receives first."""
    structures: list[Structure] = []
    for index, performer in enumerate(entry.performers, 1):
        if performer.assigned.organization is not None:
            structures.append(performer.assigned.organization)
        if found := _performer(reading, performer, f"{path}/performer[{index}]"):
            yield found
    for index, participant in enumerate(entry.participants, 1):
        place = f"{path}/participant[{index}]/participantRole"
        if participant.type_code == "LOC":
            yield {"actor": _place(reading, participant, place)}
        elif participant.type_code == "RESP":
            if actor := _service(reading, participant, structures, place):
                yield {"actor": actor}
        else:
            reading.inform(place, "a participant that an appointment has no place for: narrative only", RULE)
    yield from _relatives(reading, entry, path)
    for detail, place in subentries(entry, path, "COMP"):
        if _says(detail, event_sections.RESOURCE_USED):
            yield {"actor": _device(reading, detail, place)}
        elif not has_template(detail, templates.EVENT_STATUS) and not _says(detail, event_sections.LAST_UPDATE):
            reading.inform(place, "a detail that an appointment has no element for: narrative only", RULE)


def _performer(reading: Reading, performer: Performer, path: str) -> Resource | None:
    """A professional; somebody without number, profession and structure by name alone."""
    assigned = performer.assigned
    found: Resource = {"period": period(reading, performer.time, f"{path}/time")}
    if performer.function_code is not None and (kind := concept(performer.function_code)):
        found["type"] = [kind]
    known = any(ii.root for ii in assigned.ids) or assigned.code or assigned.organization
    if not known and not (assigned.person and assigned.person.givens):
        name = _display(assigned)
        found["actor"] = {"display": name} if name else None
    else:
        found["actor"] = party(reading, assigned, f"{path}/assignedEntity")
    if not found["actor"]:
        reading.warn(path, "names nobody: left out", RULE, "required")
        return None
    return {name: content for name, content in found.items() if content}


def _display(assigned: AssignedEntity) -> str:
    person = assigned.person
    if person is None:
        return ""
    stated = {"family": " ".join(part.text for part in person.families), "given": [one.text for one in person.givens]}
    return display_name(stated | {"prefix": [person.prefix], "suffix": [person.suffix]}) or person.text or ""


def _relatives(reading: Reading, entry: Statement, path: str) -> Iterator[Resource]:
    known: list[Resource] = []
    for index, informant in enumerate(entry.informants, 1):
        place = f"{path}/informant[{index}]"
        if informant.related is None:
            reading.inform(place, "a professional informant has no place in an appointment: narrative only", RULE)
            continue
        reference = relative(reading, informant.related, place)
        if reference not in known:
            known.append(reference)
            yield {"actor": reference}


def _place(reading: Reading, participant: EntryParticipant, path: str) -> Resource:
    name = participant.name
    where = addresses(reading, participant.addresses, path)
    elements: Resource = {
        "identifier": identifiers(participant.ids),
        "name": (name.text if name else None) or participant.description,
        "telecom": telecoms(reading, participant.telecoms, path),
        "address": where[0] if where else None,
    }
    return reading.add("Location", (key_of(elements),), elements)


def _service(
    reading: Reading, participant: EntryParticipant, structures: list[Structure], path: str
) -> Resource | None:
    """The service by which a structure answers; the first one of the professionals does so without it."""
    ids = [participant.scoping_id] if participant.scoping_id and participant.scoping_id.root else []
    label = participant.scoping_description or (participant.name.text if participant.name else None)
    if any(one.ids[:1] == ids and one.name == label for one in structures[:1]):
        return None
    structure = organization(reading, Structure(ids=ids, names=[label] if label else []), path)
    return reading.add("HealthcareService", (key_of(structure),), {"providedBy": structure}) if structure else None


def _device(reading: Reading, detail: Statement, path: str) -> Resource:
    value = next((one for one in detail.values if isinstance(one, Code)), Code())
    name = reading.text(value.original_text, f"{path}/value/originalText/reference") or reading.text(detail.text, path)
    elements: Resource = {
        "deviceName": [{"name": name, "type": "user-friendly-name"}] if name else [],
        "type": {"coding": found} if (found := codings(value)) else None,
    }
    return reading.add("Device", (path,), elements)


# --- notification -------------------------------------------------------------------------------------------------


def _communication(reading: Reading, entry: Statement, composition: Resource, path: str) -> Resource:
    report_unread(reading, entry, path, "ids", "code", "time", "priority", "authors", "informants", "relationships")
    time = period(reading, entry.time, f"{path}/effectiveTime")
    if "end" in time:
        reading.inform(f"{path}/effectiveTime/high", "the event of a Communication has one time: not kept", RULE)
    times = [*(one.time for one in entry.authors), *(one.time for one in reading.document.header.authors)]
    emitted = next((time for time in times if time), None)
    business, place = _business(entry, path)
    motive = next((one.value for one in business.qualifiers if one.value is not None), None)
    why = reading.text(motive.original_text, f"{place}/qualifier/value/originalText/reference") if motive else None
    if entry.status == _HELD:
        why = reading.words.find("raison-1")  # FR-Statut has a motive for what is cancelled only
    notes = [reading.text(detail.text, f"{where}/text/reference") for detail, where in subentries(entry, path, "SUBJ")]
    status = _NOTICES.get(entry.status or "", "completed")
    if business.code == "ANNULE" and status in ("completed", "on-hold"):
        status = "stopped"
        reading.warn(place, "says that the event is withdrawn, unlike statusCode: read as stopped", RULE, "conflict")
    elements: Resource = {
        "extension": [{"url": extensions.EVENT_TIME, "valueDateTime": time["start"]}] if "start" in time else [],
        "identifier": identifiers(entry.ids),
        "status": status,
        "statusReason": {"text": why} if why else None,
        "category": [{"coding": [coded]}] if (coded := coding(entry.code or Code())) else [],
        "priority": _NOTICE_PRIORITIES.get((entry.priority.code or "") if entry.priority else ""),
        "subject": composition["subject"],
        "encounter": composition.get("encounter"),
        "sent": reading.moment(emitted, f"{path}/author/time"),
        "recipient": [
            part["valueReference"]
            for extension in composition.get("extension", ())
            if extension["url"] == extensions.INFORMATION_RECIPIENT
            for part in extension["extension"]
            if part["url"] == "party"
        ],
        "sender": _sender(reading, entry, composition, path),
        "note": [{"text": note} for note in notes if note],
    }
    return reading.add("Communication", (path,), elements)


def _sender(reading: Reading, entry: Statement, composition: Resource, path: str) -> Resource | None:
    """Who declared the event: the author of the entry, else the relative who did, else the author of the document."""
    for author in entry.authors:
        if reference := party(reading, author.assigned, f"{path}/author/assignedAuthor"):
            return reference
    for index, informant in enumerate(entry.informants, 1):
        if informant.related is not None:
            return relative(reading, informant.related, f"{path}/informant[{index}]")
    return next(({"reference": one["reference"]} for one in composition["author"] if "reference" in one), None)
