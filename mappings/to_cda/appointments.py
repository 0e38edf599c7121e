"""Appointment → one Visit: everything of an appointment that the agenda document states (docs/mapping-agenda.md).

The entry and the narrative are both made from the Visit, so they say the same thing. What has no element in CDA goes to
the narrative (`people`, `places`, `notes`); what is not even there is said in the issues.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from relais.cda import event_sections
from relais.cda.datatypes import datetime_from_ts, ts_from_datetime
from relais.cda.model import (
    II,
    Address,
    AssignedEntity,
    Code,
    EntryAuthor,
    EntryParticipant,
    Informant,
    Interval,
    Performer,
    Telecom,
)
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import (
    addresses,
    codings,
    concept_text,
    current_name,
    display_name,
    from_jdv,
    period,
    telecoms,
)
from relais.mappings.to_cda.enclosures import Enclosures
from relais.mappings.to_cda.parties import (
    Party,
    organization,
    party_addresses,
    party_ids,
    party_name,
    party_telecoms,
    read_party,
    speciality,
    structure_ids,
)
from relais.mappings.to_cda.prose import french_date, french_period
from relais.mappings.to_cda.relatives import kinship, related_entities

RULE = "docs/mapping-agenda.md"
STATUS_RULE = "docs/mapping-agenda.md"
DEFAULT_LABEL = "Rendez-vous"


class State(NamedTuple):
    """How a status is written: mood and ActStatus of the entry, business status (JDV_J281), French words."""

    mood: event_sections.Mood
    status: str
    business: str
    words: str


STATES = {
    "proposed": State("INT", "new", "ENPREPARATION", "Demandé, à confirmer"),
    "pending": State("INT", "held", "ENPREPARATION", "En attente de confirmation"),
    "waitlist": State("INT", "suspended", "ENPREPARATION", "En liste d'attente"),
    "booked": State("INT", "active", "PLANIFIE", "Planifié"),
    "arrived": State("EVN", "active", "ENREALISATION", "En cours, personne arrivée"),
    "checked-in": State("EVN", "active", "ENREALISATION", "En cours, personne enregistrée"),
    "fulfilled": State("EVN", "completed", "REALISE", "Réalisé"),
    "cancelled": State("INT", "cancelled", "ANNULE", "Annulé"),
    "noshow": State("INT", "aborted", "ANNULE", "Non honoré : la personne n'est pas venue"),
}
"""Appointment.status → what is written; `entered-in-error` has no entry."""

NOT_COME_MOTIVE = "GEN-358"
CANCELLED, NO_SHOW = "cancelled", "noshow"

PLACE, STRUCTURE = "relais-place", "relais-structure"
"""Names of the place and the structure among the contained resources of `Visit.encounter`."""

_ANSWERS = {"declined": "a décliné", "tentative": "à confirmer", "needs-action": "réponse attendue"}
_ATTENDANCES = {"optional": "présence facultative", "information-only": "pour information"}
_MAIN_TYPES = ("PPRF", "ATND")
_LABELS = {
    "ADM": "admission",
    "ATND": "intervenant",
    "CON": "consultant",
    "DIS": "sortie",
    "PART": "participant",
    "PPRF": "intervenant principal",
    "REF": "adresseur",
    "SPRF": "autre intervenant",
    "VR": "à distance",
}
"""Codes of participant.type (v3-ParticipationType) and of remote care (v3-ActCode) in words."""
VIRTUAL = "vi"  # location-physical-type
_WEB = ("http:", "ftp:")
_AT_HOME = frozenset({"PTRES", "ho"})  # v3-RoleCode and location-physical-type: the home of the person
_PROFESSIONALS = ("Practitioner", "PractitionerRole")
_CARRIED = frozenset(
    {
        "resourceType",
        "id",
        "meta",
        "language",
        "text",
        "contained",
        "extension",
        "identifier",
        "status",
        "cancelationReason",
        "serviceCategory",
        "serviceType",
        "specialty",
        "appointmentType",
        "reasonCode",
        "reasonReference",
        "priority",
        "description",
        "supportingInformation",
        "start",
        "end",
        "minutesDuration",
        "slot",
        "created",
        "comment",
        "patientInstruction",
        "basedOn",
        "participant",
        "requestedPeriod",
    }
)


class Resourced(msgspec.Struct, gc=False):
    """A device that the appointment takes up."""

    source: Resource
    path: str
    name: str
    codes: list[Code]


class Visit(msgspec.Struct, gc=False):
    """One appointment of the patient. `start` and `end` are FHIR times, `updated` is a TS.

    `professionals` are the resources of those who receive, with their paths, the main one first.
    """

    source: Resource
    path: str
    state: State
    time: Interval
    start: str | None = None
    end: str | None = None
    label: str = DEFAULT_LABEL
    reason: str = ""
    codes: list[Code] = []
    priority: Code | None = None
    motive: Code | None = None
    motive_words: str = ""
    performers: list[Performer] = []
    informants: list[Informant] = []
    authors: list[EntryAuthor] = []
    location: EntryParticipant | None = None
    structure: EntryParticipant | None = None
    devices: list[Resourced] = []
    comments: list[str] = []
    updated: str | None = None
    agendas: list[str] = []
    people: list[str] = []
    places: list[str] = []
    notes: list[str] = []
    professionals: list[tuple[Resource, str]] = []
    operators: list[tuple[Resource, str]] = []  # (Reference, path)
    orders: list[tuple[Resource, Resource | None, str]] = []
    encounter: Resource = {}  # what the header says of the place: a FHIR Encounter


def read_visit(
    conversion: Conversion, appointment: Resource, path: str, enclosures: Enclosures, *, split_groups: bool = False
) -> Visit | None:
    """The visit that an appointment of `conversion.patient` is; None for one that is entered in error or refused.

    Documents it points to are added to `enclosures`. An appointment of several patients is refused, unless
    `split_groups`: then the others are left out. Raises nothing: what is missing is noted in `conversion`.
    """
    status = appointment.get("status", "")
    if status == "entered-in-error":
        conversion.inform(f"{path}.status", "entered in error: not written", STATUS_RULE)
        return None
    state = STATES.get(status)
    if state is None:
        conversion.refuse(f"{path}.status", "the status of the appointment", STATUS_RULE, "code-invalid")
        return None
    check_identifiers(conversion, appointment, path)
    check_extensions(conversion, appointment, path, {extensions.OPERATOR})
    for participant, place in participants(appointment, path):
        check_extensions(conversion, participant, place, set())
    for name in appointment.keys() - _CARRIED:
        if not name.startswith("_"):
            conversion.inform(f"{path}.{name}", "this element has no place in the document", RULE)
    visit = Visit(appointment, path, state, Interval())
    _read_slots(conversion, visit)
    _read_time(conversion, visit)
    _read_subject(conversion, visit)
    _read_status(conversion, visit)
    _read_words(visit)
    _check_patients(conversion, visit, split_groups=split_groups)
    _read_participants(conversion, visit)
    _read_operator(conversion, visit)
    _read_links(conversion, visit, enclosures)
    return visit


def check_identifiers(conversion: Conversion, resource: Resource, path: str) -> None:
    """Refuse a resource that nothing names, and say which identifiers CDA writes under a computed OID."""
    found = [one for one in resource.get("identifier", ()) if identity.ii_of(one)]
    if not found and not resource.get("id"):
        conversion.refuse(
            f"{path}.identifier", "an identifier that all its versions share", "CI-SIS Structuration minimale, setId"
        )
    if any(not identity.identifier_domain(one) and one.get("system") != identity.URI_SYSTEM for one in found):
        conversion.inform(
            f"{path}.identifier.system", "not an OID: written under a computed OID", "docs/mapping-pps.md, Identifiers"
        )


def check_extensions(conversion: Conversion, resource: Resource, path: str, known: set[str]) -> None:
    """Say which extensions are not written, and refuse those that may change what the resource means."""
    if resource.get("modifierExtension") or resource.get("implicitRules"):
        name = "modifierExtension" if resource.get("modifierExtension") else "implicitRules"
        conversion.refuse(f"{path}.{name}", "it may change the meaning: not understood", "FHIR R4 §2.4", "extension")
    for index, extension in enumerate(resource.get("extension", ())):
        if extension.get("url") not in known:
            conversion.inform(f"{path}.extension[{index}]", "this extension has no place in the document", RULE)


# --- when -------------------------------------------------------------------------------------------------------


def _read_slots(conversion: Conversion, visit: Visit) -> None:
    """What slots and their schedules say: comments, name of the agenda, who receives when nobody is named."""
    actors = (_actor(conversion, visit, one, path) for one, path in participants(visit.source, visit.path))
    named = any(target is not None and kind in _PROFESSIONALS for kind, target in actors)
    for index, slot, schedule in slots(conversion, visit.source):
        if slot is None:
            place = f"{visit.path}.slot[{index}]"
            conversion.inform(place, "the slot is not provided: what it says is not written", RULE)
            continue
        if comment := (slot.get("comment") or "").strip():
            visit.notes.append(f"Créneau : {comment}")
        name = (schedule.get("comment") or "").strip()
        if name and name not in visit.agendas:
            visit.agendas.append(name)
        for number, actor in enumerate(() if named else schedule.get("actor", ())):
            place = f"{visit.path}.slot[{index}].resolve().schedule.resolve().actor[{number}]"
            target = conversion.resources.resolve(actor, schedule)
            if target is None or target.get("resourceType") not in _PROFESSIONALS:
                continue
            if all(target is not known for known, _ in visit.professionals):  # slots of one agenda follow each other
                _add_professional(conversion, visit, target, {}, f"{place}.resolve()", [])


def slots(conversion: Conversion, appointment: Resource) -> Iterator[tuple[int, Resource | None, Resource]]:
    """(index, Slot or None when it is not provided, its Schedule or {}) of every slot of an appointment."""
    for index, reference in enumerate(appointment.get("slot", ())):
        slot = conversion.resources.resolve(reference, appointment)
        schedule = conversion.resources.resolve(slot.get("schedule"), slot) if slot else None
        yield index, slot, schedule or {}


def _read_time(conversion: Conversion, visit: Visit) -> None:
    """effectiveTime, and in words what was asked for."""
    source, path = visit.source, visit.path
    visit.start, visit.end = times(conversion, source)
    if visit.start is None:
        conversion.refuse(f"{path}.start", "the start of the appointment, of its requested period or of its slot", RULE)
    both = {name: value for name, value in (("start", visit.start), ("end", visit.end)) if value}
    visit.time = period(conversion, both, path) or Interval()
    low = visit.time.low
    if visit.state.mood == "EVN" and low and datetime_from_ts(low) > conversion.emission.now:
        conversion.warn(f"{path}.status", "said to have begun, and starts in the future", STATUS_RULE)
    asked = [words for one in source.get("requestedPeriod", ()) if (words := french_period(one))]
    visit.notes += [f"Période demandée : {words}" for words in asked]
    if "minutesDuration" in source:
        visit.notes.append(f"Durée prévue : {source['minutesDuration']} min")
    visit.updated = conversion.time(source.get("meta", {}).get("lastUpdated"), f"{path}.meta.lastUpdated")


def times(conversion: Conversion, appointment: Resource) -> tuple[str | None, str | None]:
    """FHIR start and end of an appointment: its own; else what was asked for, or the slot."""
    bounds = [slot for _, slot, _ in slots(conversion, appointment) if slot]
    asked = next((one["start"] for one in appointment.get("requestedPeriod", ()) if "start" in one), None)
    offered = next((one["start"] for one in bounds if "start" in one), None)
    end = appointment.get("end") or _computed_end(appointment)
    if end is None and ("start" in appointment or not asked):
        end = next((one["end"] for one in reversed(bounds) if "end" in one), None)
    return appointment.get("start") or asked or offered, end


def _computed_end(appointment: Resource) -> str | None:
    """start + minutesDuration, with the offset of start."""
    try:
        start = datetime.fromisoformat(appointment.get("start", ""))
        return (start + timedelta(minutes=int(appointment["minutesDuration"]))).isoformat()
    except (KeyError, ValueError, OverflowError):
        return None


def french_slot(start: str | None, end: str | None) -> str:
    """A time as one reads it in Paris; another wall clock, as given, stands beside it. Without end, a day is the first
    one that suits."""
    first, last = french_date(start), french_date(end)
    day, at, clock = first.partition(" à ")
    other_day, _, other_clock = last.partition(" à ")
    if first == last:
        words = f"le {first}" if first else ""
    elif not first or not last:
        words = last or (f"le {first}" if at else f"à partir du {first}")
    elif day == other_day and clock and other_clock:
        words = f"le {day} de {clock} à {other_clock}"
    else:
        words = f"du {first} au {last}"
    return words + _local_clock(start or "")


def _local_clock(start: str) -> str:
    """Where an offset is written that is not the one of Paris, the clock people read there."""
    if "T" not in start or start.endswith(("Z", "+00:00", "-00:00")):
        return ""
    try:
        given = datetime.fromisoformat(start)
        paris = ts_from_datetime(given)[-5:]
    except (ValueError, OverflowError):
        return ""
    offset = start[-6:]
    return "" if offset.replace(":", "") == paris else f" (heure de Paris ; {given:%H:%M} sur place, UTC{offset})"


# --- what -------------------------------------------------------------------------------------------------------


def _read_subject(conversion: Conversion, visit: Visit) -> None:
    """Label, reason, services and priority."""
    source, path = visit.source, visit.path
    services: list[str] = []
    for name in ("serviceCategory", "serviceType", "specialty", "appointmentType"):
        element = source.get(name) or []
        for index, concept in enumerate(element if isinstance(element, list) else [element]):
            place = f"{path}.{name}[{index}]" if isinstance(element, list) else f"{path}.{name}"
            visit.codes += codings(concept)
            unknown = [one for one in concept.get("coding", ()) if terminology.oid_of(one.get("system")) is None]
            if unknown:
                conversion.inform(place, "code system without known OID: in words only", RULE)
            if words := readable(concept):
                services.append(words)
    visit.reason = ", ".join(_reasons(conversion, visit))
    description = (source.get("description") or "").strip()
    types = [words for one in source.get("serviceType", ()) if (words := concept_text(one))]
    visit.label = description or next(iter(types), DEFAULT_LABEL)
    if others := [words for words in dict.fromkeys(services) if words != visit.label]:
        visit.notes.append(f"Prestation : {', '.join(others)}")
    _read_priority(conversion, visit)


def readable(concept: Resource) -> str:
    """What one reads of a CodeableConcept; the published label of its code, else the code, when it says no words."""
    if words := concept_text(concept):
        return words
    codes = identity.codes(concept)
    labelled = from_jdv("J142", [concept]) or from_jdv("J47", [concept])
    known = next((_LABELS[code] for code in codes if code in _LABELS), labelled.display if labelled else None)
    return known or ", ".join(codes)


def _reasons(conversion: Conversion, visit: Visit) -> Iterator[str]:
    yield from filter(None, map(readable, visit.source.get("reasonCode", ())))
    for reference, target, path in conversion.references(visit.source, "reasonReference", visit.path):
        if target is not None:
            conversion.same_patient(target, "subject", path)
        words = concept_text((target or {}).get("code")) or (reference.get("display") or "").strip()
        if words:
            yield words
        else:
            conversion.inform(path, "a reason without words is not written", RULE)


def _read_priority(conversion: Conversion, visit: Visit) -> None:
    """iCalendar scale: 1 to 4 urgent, 5 to 9 not, 0 undefined."""
    number = int(visit.source.get("priority", 0))
    if 1 <= number <= 9:
        visit.priority = terminology.coded("act_priority", "UR" if number <= 4 else "R")
        visit.notes.append(f"Priorité : {number} sur une échelle de 1 (urgent) à 9")
    elif number:
        conversion.inform(f"{visit.path}.priority", "outside the scale 0 to 9: not written", RULE)


def _read_status(conversion: Conversion, visit: Visit) -> None:
    """The motive of a cancelled appointment, from the published list; words outside it stay words."""
    concept = visit.source.get("cancelationReason")
    if visit.source["status"] not in (CANCELLED, NO_SHOW):
        if concept:
            conversion.refuse(
                f"{visit.path}.cancelationReason", "only when cancelled or noshow", "FHIR R4 app-4", "invariant"
            )
        return
    motive = _motive(concept or {})
    visit.motive_words = (
        concept_text(concept) or (motive.display if motive else None) or ", ".join(identity.codes(concept))
    )
    if visit.source["status"] == NO_SHOW:
        visit.motive = terminology.coded("event_motive", NOT_COME_MOTIVE)
        return
    visit.motive = motive or Code(null_flavor="OTH" if visit.motive_words else "UNK")
    if concept and motive is None:
        conversion.inform(f"{visit.path}.cancelationReason", "no motive of the list: in words only", RULE)


def _motive(concept: Resource) -> Code | None:
    if published := from_jdv("event_motive", [concept]):
        return published
    for coding in concept.get("coding", ()):
        if known := terminology.concept("cancellation_reason", coding.get("code"), coding.get("system") or ""):
            return terminology.coded("event_motive", known.display)
    return None


def _read_words(visit: Visit) -> None:
    for name, label in (("comment", "Commentaire"), ("patientInstruction", "Consignes")):
        if words := (visit.source.get(name) or "").strip():
            visit.comments.append(f"{label} : {words}")


# --- who and where ----------------------------------------------------------------------------------------------


def participants(appointment: Resource, path: str) -> Iterator[tuple[Resource, str]]:
    """The participants of an appointment, each with its path."""
    for index, participant in enumerate(appointment.get("participant", ())):
        yield participant, f"{path}.participant[{index}]"


def _check_patients(conversion: Conversion, visit: Visit, *, split_groups: bool) -> None:
    """One document has one patient: the appointment is that patient's, and nobody else's."""
    present = False
    for participant, path in participants(visit.source, visit.path):
        kind, _ = _actor(conversion, visit, participant, path)
        if kind == "Patient":
            own = conversion.designates_patient(participant.get("actor", {}), visit.source)
            present = present or own
            if not own and split_groups:
                conversion.inform(f"{path}.actor", "another patient of the group: left out", RULE)
            elif not own:
                message = "another patient than the one of the document: a document per patient is needed"
                conversion.refuse(f"{path}.actor", message, RULE, "business-rule")
    if not present:
        place = f"{visit.path}.participant"
        conversion.refuse(place, "the patient of the document among the participants", RULE)


def _read_participants(conversion: Conversion, visit: Visit) -> None:
    places: list[Resource] = []
    providers: list[tuple[Resource, str]] = []
    for participant, path in participants(visit.source, visit.path):
        kind, target = _actor(conversion, visit, participant, path)
        flags = _flags(participant)
        if kind == "Patient":
            if flags and conversion.designates_patient(participant.get("actor", {}), visit.source):
                visit.notes.append(f"Réponse de la personne : {', '.join(flags)}")
        elif target is None:
            if words := ", ".join(filter(None, map(readable, participant.get("type", ())))):
                visit.people.append(_with_flags(f"À désigner : {words}", flags))
            elif not participant.get("actor"):
                conversion.inform(path, "a participant without actor nor type: not written", RULE)
        elif participant.get("status") == "declined":
            party = read_party(conversion, target, f"{path}.actor.resolve()")
            visit.people.append(_with_flags((party and party.display) or _name_of(target) or "Invité", flags))
        elif kind in _PROFESSIONALS:
            _add_professional(conversion, visit, target, participant, path, flags)
        elif kind == "RelatedPerson":
            _add_relative(conversion, visit, target, path, flags)
        elif kind == "Location":
            _add_location(conversion, visit, target, path, flags)
            places.append(target)
        elif kind == "Device":
            _add_device(visit, target, path, flags)
        else:
            providers += _add_service(conversion, visit, target, path, flags)
        if "period" in participant and kind not in (*_PROFESSIONALS, "Patient"):
            visit.notes.append(f"{_name_of(target or {})} : {french_period(participant['period'])}".lstrip(" :"))
    _read_setting(conversion, visit, places, providers)


def _actor(conversion: Conversion, visit: Visit, participant: Resource, path: str) -> tuple[str, Resource | None]:
    """The type of the actor and its resource; somebody who is only named becomes a resource of that name."""
    reference = participant.get("actor", {})
    target = conversion.resolve(reference, f"{path}.actor", visit.source)
    if target is not None:
        return target["resourceType"], target
    kind = str(reference.get("type") or "").rpartition("/")[2] or "Practitioner"
    if conversion.designates_patient(reference, visit.source):
        return "Patient", None
    name, identifier = (reference.get("display") or "").strip(), reference.get("identifier")
    if "reference" in reference or (not name and not identifier):
        return kind, None
    named: Resource = {"resourceType": kind, "identifier": [identifier] if identifier else []}
    if kind in (*_PROFESSIONALS, "RelatedPerson"):
        named |= {"resourceType": "Practitioner" if kind in _PROFESSIONALS else kind}
        named |= {"name": [{"text": name}]} if name else {}
    elif kind == "Device":
        named["deviceName"] = [{"name": name, "type": "user-friendly-name"}]
    else:
        named["name"] = name
    return named["resourceType"], named


def _flags(participant: Resource) -> list[str]:
    found = (_ANSWERS.get(participant.get("status", "")), _ATTENDANCES.get(participant.get("required", "")))
    return [words for words in found if words]


def _with_flags(words: str, flags: list[str]) -> str:
    return f"{words} ({', '.join(flags)})" if flags else words


def _name_of(resource: Resource) -> str:
    """What somebody or something is called."""
    if names := resource.get("deviceName"):
        return str(names[0].get("name", "")).strip()
    name = resource.get("name") or ""
    named = display_name(current_name(name)) if isinstance(name, list) else str(name).strip()
    return named or concept_text(resource.get("type") if isinstance(resource.get("type"), dict) else None)


def _add_professional(
    conversion: Conversion, visit: Visit, target: Resource, participant: Resource, path: str, flags: list[str]
) -> None:
    place = f"{path}.actor.resolve()" if participant else path
    party = read_party(conversion, target, place)
    if party is None:
        return
    types = participant.get("type", ())
    function = from_jdv("J47", types)
    time = period(conversion, participant.get("period"), f"{path}.period")
    visit.performers.append(Performer(_entity(conversion, party), time=time, function_code=function))
    is_main = any(code in _MAIN_TYPES for concept in types for code in identity.codes(concept))
    if participant.get("required") != "information-only":  # who is only told does not answer for anything
        visit.professionals.insert(0 if is_main else len(visit.professionals), (target, place))
    known = [code.display for code in (speciality(conversion, party), function) if code and code.display]
    details = [*known, *filter(None, map(readable, types)), *flags]
    if participant.get("period"):
        details.append(french_period(participant["period"]))
    structure = (party.structure or {}).get("name")
    words = _with_flags(party.display or "Professionnel", list(dict.fromkeys(details)))
    visit.people.append(f"{words}, {structure}" if structure else words)


def _entity(conversion: Conversion, party: Party) -> AssignedEntity:
    """assignedEntity of who receives; an unknown number is said to be unknown."""
    ids = party_ids(conversion, party)
    if not ids:
        conversion.inform(f"{party.path}.identifier", "no identifier: written as unknown", RULE)
    structure = party.structure
    return AssignedEntity(
        ids=ids or [II(null_flavor="UNK")],
        code=speciality(conversion, party),
        addresses=party_addresses(conversion, party),
        telecoms=party_telecoms(conversion, party),
        person=party_name(conversion, party),
        organization=organization(conversion, structure, f"{party.path}.organization.resolve()") if structure else None,
    )


def _add_relative(conversion: Conversion, visit: Visit, target: Resource, path: str, flags: list[str]) -> None:
    place = f"{path}.actor.resolve()"
    if not conversion.same_patient(target, "patient", place):
        return
    entities = related_entities(conversion, target, place)
    visit.informants += [Informant(related=entity) for entity in entities]
    relation = kinship(target.get("relationship", ()))
    details = [*([relation.display] if relation and relation.display else []), *flags]
    if name := _name_of(target):
        visit.people.append(_with_flags(name, details))


def _add_location(conversion: Conversion, visit: Visit, target: Resource, path: str, flags: list[str]) -> None:
    """The place; a second one is in words only. How one gets into a virtual one is in words too."""
    place = f"{path}.actor.resolve()"
    home = target.get("address", {})
    written = addresses([home] if home else [])
    name = _name_of(target) or (target.get("description") or "").strip() or address_words(written)
    if not name:
        conversion.refuse(f"{place}.name", "the name or the address of the place", RULE)
        return
    contacts = telecoms(conversion, target.get("telecom", ()), place, name)
    is_second = visit.location is not None
    reached = contacts if is_second or VIRTUAL in identity.codes(target.get("physicalType")) else _on_the_web(contacts)
    details = [words for words in (address_words(written), *map(_contact_words, reached)) if words and words != name]
    visit.places.append(_with_flags(", ".join((name, *details)), flags))
    if is_second:
        conversion.inform(path, "a second place: in words only", RULE)
        return
    visit.location = event_sections.location(
        name, ids=structure_ids(conversion, target, place)[:1], addresses=written, telecoms=contacts
    )


def _on_the_web(contacts: list[Telecom]) -> list[Telecom]:
    return [one for one in contacts if (one.value or "").startswith(_WEB)]


def _contact_words(contact: Telecom) -> str:
    return (contact.value or "").removeprefix("tel:").removeprefix("mailto:")


def address_words(found: list[Address]) -> str:
    """The first address in one line."""
    for one in found:
        street = " ".join(filter(None, (one.house_number, one.house_number_numeric, one.street_name_type)))
        street = " ".join(filter(None, (street, one.street_name)))
        town = " ".join(filter(None, (one.postal_code, one.city)))
        parts = (one.additional_locator, one.unit_id, street, one.post_box, one.precinct, *one.lines, town)
        return ", ".join(part for part in parts if part)
    return ""


def _add_device(visit: Visit, target: Resource, path: str, flags: list[str]) -> None:
    name = _name_of(target) or "Ressource"
    visit.devices.append(Resourced(target, path, _with_flags(name, flags), codings(target.get("type"))))


def _add_service(
    conversion: Conversion, visit: Visit, target: Resource, path: str, flags: list[str]
) -> list[tuple[Resource, str]]:
    """A HealthcareService in words, and the structure that provides it; an Organization is one itself."""
    place = f"{path}.actor.resolve()"
    if name := _name_of(target):
        visit.people.append(_with_flags(name, flags))
    if target.get("resourceType") == "Organization":
        return [(target, place)]
    provider = conversion.resolve(target.get("providedBy"), f"{place}.providedBy", target)
    return [(provider, f"{place}.providedBy.resolve()")] if provider is not None else []


def _read_setting(
    conversion: Conversion, visit: Visit, places: list[Resource], providers: list[tuple[Resource, str]]
) -> None:
    """The responsible structure (RESP), and the encounter that the header makes of place and structure."""
    for resource, path in visit.professionals:
        party = read_party(conversion, resource, path)
        if party is not None and party.structure is not None:
            providers.append((party.structure, f"{path}.organization.resolve()"))
    for place in places:
        manager = conversion.resources.resolve(place.get("managingOrganization"), place)
        if manager is not None:
            providers.append((manager, f"{visit.path}.participant.actor.resolve().managingOrganization.resolve()"))
    for structure, path in providers[:1]:
        ids = structure_ids(conversion, structure, path)
        if name := (structure.get("name") or "").strip():
            visit.structure = event_sections.responsible_structure(name, ids[0] if ids else None)
    kinds = [code for place in places for concept in _kinds(place) for code in identity.codes(concept)]
    stated = from_jdv("J142", [*visit.source.get("serviceCategory", ()), *visit.source.get("serviceType", ())])
    code = stated.code if stated else "HH" if _AT_HOME.intersection(kinds) else "AMB"
    visit.encounter = {"resourceType": "Encounter", "class": {"code": code}}
    found = {PLACE: places[:1], STRUCTURE: [structure for structure, _ in providers[:1]]}
    visit.encounter["contained"] = [one | {"id": name} for name, resources in found.items() for one in resources]
    if places:
        visit.encounter["location"] = [{"location": {"reference": f"#{PLACE}"}}]
    if providers:
        visit.encounter["serviceProvider"] = {"reference": f"#{STRUCTURE}"}


def _kinds(place: Resource) -> list[Resource]:
    return [*place.get("type", ()), place.get("physicalType", {})]


# --- who booked, what goes with it --------------------------------------------------------------------------------


def _read_operator(conversion: Conversion, visit: Visit) -> None:
    """Who made the booking: a professional or a structure is the author of the entry, others are in words."""
    reference = extensions.value(visit.source, extensions.OPERATOR) or {}
    path = f"{visit.path}.extension('{extensions.OPERATOR}').value"
    created = conversion.time(visit.source.get("created"), f"{visit.path}.created")
    target = conversion.resolve(reference, path, visit.source)
    party = read_party(conversion, target, f"{path}.resolve()")
    by = _name_of(target or {}) or (reference.get("display") or "").strip()
    if conversion.designates_patient(reference, visit.source) and reference:
        by = "la personne"
    elif party is not None and party.source.get("resourceType") in ("Practitioner", "Organization"):
        by = party.display
        assigned = _entity(conversion, party)
        visit.authors = [EntryAuthor(assigned, created, None if created else "UNK")]
        visit.operators = [(reference, path)]
    when = f" le {french_date(visit.source.get('created'))}" if created else ""
    if when or by:
        visit.notes.append(f"Rendez-vous pris{when}{f' par {by}' if by else ''}")


def _read_links(conversion: Conversion, visit: Visit, enclosures: Enclosures) -> None:
    for reference, target, path in conversion.references(visit.source, "basedOn", visit.path):
        if target is not None:
            conversion.same_patient(target, "subject", path)
        visit.orders.append((reference, target, path))
    for reference, target, path in conversion.references(visit.source, "supportingInformation", visit.path):
        if target is not None and enclosures.add_resource(conversion, target, path):
            continue
        if target is not None and "subject" in target and not conversion.same_patient(target, "subject", path):
            continue
        words = (reference.get("display") or "").strip() or concept_text((target or {}).get("code"))
        written = "in words only" if words else "not written, nothing says what it is called"
        conversion.inform(path, f"neither DocumentReference nor Binary: {written}", RULE)
        if words:
            visit.notes.append(f"Information associée : {words}")
