"""Appointments of one patient → agenda document, LOINC 56446-8 (volet GAP; docs/mapping-agenda.md).

A document is the state of an agenda for one patient, or of one appointment; a change makes its next version, which
replaces it. The body is the published section FR-Evenements; no volet publishes a model of the document itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from relais.cda import event_sections, sections, templates
from relais.cda.datatypes import datetime_from_ts, ts_from_fhir
from relais.cda.model import II, Code, Document, Interval, Section, Statement, Text
from relais.cda.narrative import Element, Node, content, paragraph, table
from relais.mappings import identity, terminology
from relais.mappings.context import Emission, Mapped, Resource
from relais.mappings.resources import ResourceSet, places
from relais.mappings.to_cda.appointments import CANCELLED, NO_SHOW, RULE, STATES, Visit, french_slot, read_visit, times
from relais.mappings.to_cda.consents import read_oppositions
from relais.mappings.to_cda.conversion import CONSENT_RULE, Conversion
from relais.mappings.to_cda.datatypes import codings, original
from relais.mappings.to_cda.datatypes import period as read_period
from relais.mappings.to_cda.enclosures import Enclosures
from relais.mappings.to_cda.header import header
from relais.mappings.to_cda.header_sources import Carrier
from relais.mappings.to_cda.kept import kept_sections
from relais.mappings.to_cda.parties import configured_responsible, party_ids, read_party
from relais.mappings.to_cda.prose import french_date, marked, remarks_block

KIND = "agenda"
TYPE = "56446-8"
TITLE = "Rendez-vous"
CANCELLATION_TITLE = "Annulation de rendez-vous"
_MAY_BE_UNDATED = frozenset({"proposed", "waitlist", CANCELLED})
COLUMNS = ("Rendez-vous", "Date et heure", "Statut", "Intervenants", "Lieu", "Informations")
EMPTY = "no appointment to state: an agenda document is never empty; withdraw the former one instead"


def appointment_document(
    appointment: Resource,
    resources: ResourceSet,
    emission: Emission,
    *,
    composition: Resource | None = None,
    document_id: II | None = None,
) -> Mapped:
    """The document of one appointment, whose patient is among its participants.

    A move, a cancellation and the end of the appointment are new versions (`emission.version`). Raises MappingError
    that lists everything that is missing, each with the FHIRPath to fill.
    """
    conversion = Conversion(resources, emission)
    patients = [
        target
        for participant in appointment.get("participant", ())
        if (target := resources.resolve(participant.get("actor"), appointment)) is not None
        and target.get("resourceType") == "Patient"
    ]
    if not patients:
        conversion.refuse("Appointment.participant.actor", "a reference to the Patient", "docs/mapping-agenda.md")
        conversion.finish()
    conversion.patient = patients[0]
    read_oppositions(conversion)
    conversion.say_opposed(appointment, "Appointment")
    conversion.lineage = _stated_lineage(composition) or identity.made_set_id(
        conversion.deployment, KIND, _key(appointment)
    )
    enclosures = Enclosures()
    visit = read_visit(conversion, appointment, "Appointment", enclosures)
    cancelled = appointment.get("status") == CANCELLED
    title = CANCELLATION_TITLE if cancelled else TITLE
    found = [visit] if visit else []
    bounds = _bounds(found)
    for one in found if not conversion.has_refused("Appointment") else ():
        stated = {"start": one.start, "end": one.end}
        one.encounter["period"] = {name: value for name, value in stated.items() if value}
    return _document(conversion, found, enclosures, composition, document_id, bounds, title=title, single=True)


def agenda_document(
    patient: Resource,
    appointments: Sequence[Resource],
    resources: ResourceSet,
    emission: Emission,
    *,
    period: Resource | None = None,
    statuses: Collection[str] | None = None,
    schedule: Resource | None = None,
    previous: Iterable[Document] = (),
    split_groups: bool = False,
    composition: Resource | None = None,
    document_id: II | None = None,
) -> Mapped:
    """The document of a patient's appointments: those that meet `period` and have one of `statuses`, when given.

    All versions for a patient, or for a patient in one agenda (`schedule`), are one lineage. What `previous` (the
    version that this one replaces, the one that this replaced, and so on) already stated as cancelled is left out. An
    appointment of several patients is refused, unless `split_groups`, which leaves the others out. Raises MappingError
    that lists everything that is missing; `Appointment[n]` in a path, of one without id, counts in the order of
    `appointments`.
    """
    conversion = Conversion(resources, emission)
    conversion.patient = patient
    read_oppositions(conversion)
    key = (_patient_key(conversion), _key(schedule) if schedule else "RDV")
    conversion.lineage = _stated_lineage(composition) or identity.made_set_id(conversion.deployment, KIND, *key)
    former = _cancelled_before(conversion, appointments, previous)
    copies = _copies(appointments)
    enclosures = Enclosures()
    found = []
    for appointment, path in places(appointments):
        reason = _left_out(conversion, appointment, period, statuses, former)
        if reason:
            conversion.inform(path, reason, "docs/mapping-agenda.md")
        elif id(appointment) in copies:
            message = "another source knows it by the same identifier, here or later: left out"
            conversion.warn(path, message, "docs/mapping-agenda.md")
        elif _is_undated(conversion, appointment):
            conversion.warn(path, "without a date yet: left out", "docs/mapping-agenda.md")
        elif id(appointment) in conversion.opposed:
            conversion.warn(path, "the person opposes its sharing: left out", CONSENT_RULE)
        elif visit := read_visit(conversion, appointment, path, enclosures, split_groups=split_groups):
            found.append(visit)
    found.sort(key=lambda visit: _instant(visit.time.low))
    asked = read_period(conversion, period, "period")
    bounds = _stated_bounds(asked, _horizon(conversion, schedule, found), _bounds(found))
    return _document(conversion, found, enclosures, composition, document_id, bounds, agenda=schedule)


# --- which appointments -------------------------------------------------------------------------------------------


def _left_out(
    conversion: Conversion,
    appointment: Resource,
    period: Resource | None,
    statuses: Collection[str] | None,
    former: frozenset[tuple[str | None, str | None]],
) -> str:
    """Why an appointment has no place in this version; nothing when it has."""
    if statuses is not None and appointment.get("status") not in statuses:
        return "another status than those asked for: left out"
    if period and not _meets(*times(conversion, appointment), period):
        return "outside the period asked for: left out"
    if appointment.get("status") == CANCELLED and former.intersection(_entry_names(conversion, appointment)):
        return "an earlier version already says it is cancelled: left out"
    return ""


def _is_undated(conversion: Conversion, appointment: Resource) -> bool:
    """Whether an appointment has no date, and needs none (FHIR R4 app-3): it has no place in an agenda."""
    return appointment.get("status") in _MAY_BE_UNDATED and times(conversion, appointment)[0] is None


def _copies(appointments: Sequence[Resource]) -> frozenset[int]:
    """id() of what a document told of an appointment that somebody here wrote, or that another document told later.

    Both bear the identifier of the appointment, which an agenda states once. Of one source, they are several
    appointments (a series may share its number).
    """
    ranks = {id(one): _rank(one) for one in appointments}
    if not any(lineage for _, _, lineage in ranks.values()):
        return frozenset()
    best: dict[tuple[str | None, str | None], tuple[bool, datetime, str]] = {}
    own = {id(one): _own_names(one) for one in appointments}
    for key, names in own.items():
        for name in names:
            best[name] = max(best.get(name, ranks[key]), ranks[key])
    return frozenset(key for key, names in own.items() if any(best[name][2] != ranks[key][2] for name in names))


def _rank(appointment: Resource) -> tuple[bool, datetime, str]:
    """Whether somebody here wrote an appointment; when; the lineage of the document that told of it, if one did."""
    meta = appointment.get("meta", {})
    source = str(meta.get("source", ""))
    lineage = source if source.startswith(("urn:oid:", "urn:uuid:")) else ""
    try:
        written = _instant(ts_from_fhir(meta["lastUpdated"]))
    except (KeyError, ValueError):
        written = _instant(None)
    return not lineage, written, lineage


def _entry_names(conversion: Conversion, appointment: Resource) -> list[tuple[str | None, str | None]]:
    """What the ids of the entry of an appointment may be."""
    if own := _own_names(appointment):
        return own
    expected = conversion.expected_id("Appointment", str(appointment.get("id", "")), "")
    return [(expected.root, expected.extension)]


def _own_names(appointment: Resource) -> list[tuple[str | None, str | None]]:
    return [(ii.root, ii.extension) for ii in map(identity.ii_of, appointment.get("identifier", ())) if ii]


def _meets(start: str | None, end: str | None, period: Resource) -> bool:
    """Whether an appointment meets a period, each bound of which counts whole: a day from its first to its last hour.

    A time that cannot be read meets every period, so that it is refused rather than left out.
    """
    try:
        low, high = ts_from_fhir(start or ""), ts_from_fhir(end or start or "")
        first, last = (ts_from_fhir(period[name]) if name in period else None for name in ("start", "end"))
    except ValueError:
        return True
    after = first is None or not _precedes(high, first)
    return after and (last is None or not _precedes(last, low))


def _precedes(one: str, other: str) -> bool:
    """Whether a TS is before another, as precisely as both are known."""
    if len(one) > 14 and len(other) > 14:
        return datetime_from_ts(one) < datetime_from_ts(other)
    digits = min(len(one), len(other), 14)
    return one[:digits] < other[:digits]


def _cancelled_before(
    conversion: Conversion, appointments: Sequence[Resource], previous: Iterable[Document]
) -> frozenset[tuple[str | None, str | None]]:
    """Ids of the cancelled appointments which the latest version that speaks of them states as cancelled."""
    cancelled = (one for one in appointments if one.get("status") == CANCELLED)
    waiting = {name for one in cancelled for name in _entry_names(conversion, one)}
    found: set[tuple[str | None, str | None]] = set()
    for document in previous if waiting else ():
        for entry in (entry for section in document.sections for entry in section.entries if entry.kind == "encounter"):
            names = {(ii.root, ii.extension) for ii in entry.ids} & waiting
            found |= names if entry.status == "cancelled" else set()
            waiting -= names
        if not waiting:
            break
    return frozenset(found)


# --- identity -----------------------------------------------------------------------------------------------------


def _stated_lineage(composition: Resource | None) -> II | None:
    return identity.ii_of((composition or {}).get("identifier", {}))


def _key(resource: Resource) -> str:
    """What names a resource whatever its version: its first identifier, else its id; nothing without any."""
    for ii in map(identity.ii_of, resource.get("identifier", ())):
        if ii:
            return f"{ii.root}|{ii.extension or ''}"
    return str(resource.get("id") or "")


def _patient_key(conversion: Conversion) -> str:
    """A local number before an INS, which a patient may get later on."""
    patient = conversion.patient
    ins = map(identity.any_ii_of, identity.ins_identifiers(patient))
    known = {"identifier": identity.local_identifiers(patient)}
    key = _key(known) or next((f"{ii.root}|{ii.extension}" for ii in ins if ii), "") or str(patient.get("id") or "")
    if not key:
        conversion.refuse(
            "Patient.identifier", "an identifier that all versions of the agenda share", "docs/mapping-agenda.md"
        )
    return key


# --- the document -------------------------------------------------------------------------------------------------


def _document(
    conversion: Conversion,
    visits: list[Visit],
    enclosures: Enclosures,
    composition: Resource | None,
    document_id: II | None,
    bounds: Interval,
    *,
    title: str = TITLE,
    agenda: Resource | None = None,
    single: bool = False,
) -> Mapped:
    if not visits and not conversion.has_refused("Appointment"):
        conversion.refuse("Appointment", EMPTY, "docs/mapping-agenda.md", "not-found")
    composition = composition or {}
    if composition:
        conversion.same_patient(composition, "subject", "Composition")
    carrier = _carrier(conversion, visits, title, bounds, single=single)
    carrier.labels = enclosures.labels()
    head = header(conversion, carrier, composition, document_id)
    found = [
        _appointments(conversion, visits, agenda),
        *enclosures.sections(conversion),
        *kept_sections(conversion, composition),
    ]
    return Mapped(Document(head, found), conversion.finish())


def _carrier(conversion: Conversion, visits: list[Visit], title: str, bounds: Interval, *, single: bool) -> Carrier:
    main = visits[0] if visits else Visit({}, "Appointment", STATES["proposed"], Interval())
    labels = [label for visit in visits for label in visit.source.get("meta", {}).get("security", ())]
    deployment = conversion.deployment
    kept = not deployment.organization_finess and "serviceProvider" in main.encounter
    contained = [*main.source.get("contained", ()), *main.encounter.get("contained", ())]
    types = [code for concept in main.source.get("serviceType", ()) for code in codings(concept)]
    return Carrier(
        resource=main.source | {"meta": {"security": labels}, "contained": contained},
        path=main.path,
        kind=KIND,
        templates=[II(templates.HL7_FRANCE), II(templates.CISIS_HEADER), identity.model_id(KIND, deployment.model_arc)],
        code=terminology.coded("J07", TYPE),
        title=title,
        authored=main.source.get("created") if single else None,
        act_time=bounds,
        act=types[0] if single and types else None,
        start_path=f"{main.path}.start" if visits else main.path,
        authors=main.operators if single else [],
        custodians=[(main.encounter["serviceProvider"], f"{main.path}.participant.actor.organization")] if kept else [],
        custodian_path=f"{main.path}.participant.actor.organization",
        responsible=list(_responsible(conversion, visits)),
        responsible_path=f"{main.path}.participant.actor" if visits else main.path,
        by_software=True,
        relatives=False,
        orders=[order for visit in visits for order in visit.orders],
        encounter=(main.encounter, main.path) if main.encounter else None,
    )


def _responsible(conversion: Conversion, visits: list[Visit]) -> Iterator[tuple[Resource, str]]:
    """Who may answer for the document: who receives, who booked, the professional of the setting."""
    for visit in visits:
        booked = [
            (target, f"{path}.resolve()")
            for reference, path in visit.operators
            if (target := conversion.resources.resolve(reference, visit.source)) is not None
        ]
        for resource, path in [*visit.professionals, *booked]:
            party = read_party(conversion, resource, path)
            if party is not None and party.is_professional and party.display and party_ids(conversion, party):
                yield resource, path
    for resource in configured_responsible(conversion.deployment):
        yield resource, "setting responsible"


def _bounds(visits: list[Visit]) -> Interval:
    """From the first start to the last end, which is unknown when what starts last has none."""
    starts = [visit.time.low for visit in visits if visit.time.low]
    ends = [visit.time.high for visit in visits if visit.time.high]
    high = max(ends, key=_instant, default=None)
    if any(_instant(start) > _instant(high) for start in starts):
        high = None
    return Interval(low=min(starts, key=_instant, default=None), high=high)


def _horizon(conversion: Conversion, schedule: Resource | None, visits: list[Visit]) -> Interval | None:
    """The planning horizon of the agenda, when every appointment is within it."""
    horizon = (schedule or {}).get("planningHorizon", {})
    if all(_meets(visit.start, visit.start, horizon) for visit in visits):
        return read_period(conversion, horizon, "Schedule.planningHorizon")
    conversion.inform("Schedule.planningHorizon", "appointments lie outside it: not written", RULE)
    return None


def _stated_bounds(*intervals: Interval | None) -> Interval:
    """Each bound from the first interval that states it."""
    known = [one for one in intervals if one is not None]
    low = next((one.low for one in known if one.low), None)
    return Interval(low=low, high=next((one.high for one in known if one.high), None))


def _instant(ts: str | None) -> datetime:
    return datetime_from_ts(ts) if ts else datetime.min.replace(tzinfo=UTC)


# --- the section --------------------------------------------------------------------------------------------------


def _appointments(conversion: Conversion, visits: list[Visit], agenda: Resource | None) -> Section:
    """FR-Evenements: a row of the table and an entry for each visit, made from the same object."""
    rows = [_row(visit, number) for number, visit in enumerate(visits, 1)]
    entries = [_entry(conversion, visit, number) for number, visit in enumerate(visits, 1)]
    text: list[Node] = [table(COLUMNS, rows), *remarks_block(conversion.remarks)]
    name = ((agenda or {}).get("comment") or "").strip()
    section_id = conversion.computed_id("section", KIND)
    title = f"{TITLE} – {name}" if name else TITLE
    return sections.section(event_sections.EVENTS, section_id, text, entries, title=title)


def _row(visit: Visit, number: int) -> list[list[Node]]:
    status: list[Node] = [visit.state.words]
    if visit.motive_words:
        words = content(visit.motive_words, id=f"raison-{number}")
        label = _motive_label(visit)
        status += [" – motif : ", *([f"{label} (", words, ")"] if label else [words])]
    devices = [content(device.name, id=f"ressource-{number}-{rank}") for rank, device in enumerate(visit.devices, 1)]
    notes: list[Node] = [content(words) for words in dict.fromkeys([*_agendas(visit), *visit.notes])]
    if visit.comments:
        notes.insert(0, marked("\n".join(visit.comments), f"com-{number}"))
    if visit.updated:
        changed = french_date(visit.source["meta"]["lastUpdated"])
        notes.append(content(f"Dernière mise à jour : {changed}", id=f"maj-{number}"))
    return [
        [_label(visit, number)],
        [french_slot(visit.start, visit.end)],
        [Element("content", {"ID": f"statut-{number}"}, status)],
        _cell([*visit.people, *devices]),
        _cell(visit.places),
        _cell(notes),
    ]


def _motive_label(visit: Visit) -> str:
    """What the motive of a cancellation is called, where its own words are others."""
    label = (visit.motive.display if visit.motive else None) or ""
    return "" if visit.source["status"] == NO_SHOW or label == visit.motive_words else label


def _label(visit: Visit, number: int) -> Element:
    words: list[Node] = [marked(visit.label, f"libelle-{number}")]
    if visit.reason:
        words += [" – Motif : ", content(visit.reason, id=f"motif-{number}")]
    return Element("content", {"ID": f"rdv-{number}"}, words)


def _agendas(visit: Visit) -> list[str]:
    return [f"Agenda : {name}" for name in visit.agendas]


def _cell(items: Sequence[Node]) -> list[Node]:
    return [paragraph(item) for item in items]


def _entry(conversion: Conversion, visit: Visit, number: int) -> Statement:
    source, path = visit.source, visit.path
    status = event_sections.business_status(
        conversion.entry_id(source, path, "status"),
        terminology.coded("event_status", visit.state.business),
        text=f"statut-{number}",
        time=Interval(value=visit.updated) if visit.updated else None,
        motive=_motive(visit, number),
    )
    devices = [
        event_sections.resource_used(
            conversion.entry_id(source, path, f"resource {rank}"),
            original(f"ressource-{number}-{rank}", *device.codes),
            text=f"ressource-{number}-{rank}",
        )
        for rank, device in enumerate(visit.devices, 1)
    ]
    ids = conversion.entry_ids(source, path)
    update = conversion.entry_id(source, path, "update")
    updates = [event_sections.last_update(update, visit.updated, text=f"maj-{number}")] if visit.updated else []
    return event_sections.event(
        ids,
        replace(event_sections.AGENDA, original_text=Text(reference=f"#libelle-{number}"), translations=_codes(visit)),
        mood=visit.state.mood,
        text=f"rdv-{number}",
        status=visit.state.status,
        time=visit.time,
        priority=visit.priority,
        performers=visit.performers,
        authors=visit.authors,
        informants=visit.informants,
        participants=[one for one in (visit.location, visit.structure) if one is not None],
        observations=[status, *devices, *updates],
        remark=f"com-{number}" if visit.comments else None,
    )


def _motive(visit: Visit, number: int) -> Code | None:
    """The motive, with its words in the narrative."""
    if visit.motive is None or not visit.motive_words:
        return visit.motive
    return replace(visit.motive, original_text=Text(reference=f"#raison-{number}"))


def _codes(visit: Visit) -> list[Code]:
    found: list[Code] = []
    for code in visit.codes:
        if code not in found:
            found.append(code)
    return found
