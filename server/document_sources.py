"""What a document is made of: its carrier, the stored resource it is about, and all that hangs on it.

A CarePlan carries a PPS, an Appointment the document of that appointment, a Communication(Request) a notification, a
Patient the agenda of his or her appointments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from relais.cda.errors import Issue, RelaisError
from relais.cda.reader import read
from relais.mappings.context import Emission, Mapped, Resource
from relais.mappings.resources import ResourceSet
from relais.mappings.terminology import TERMINOLOGIE_CISIS_URI
from relais.mappings.to_cda.agenda import agenda_document, appointment_document
from relais.mappings.to_cda.notification import notification_document
from relais.mappings.to_cda.pps import pps_document
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.fhir.repository import existing
from relais.server.search import search
from relais.server.store.store import StoredVersion, read_current

CARRIERS = ("Appointment", "CarePlan", "Communication", "CommunicationRequest", "Patient")

_ROLE = ("PractitionerRole", (("practitioner", ""), ("active:not", "false")), "Practitioner")
_PROVISIONS = ",".join(
    f"{TERMINOLOGIE_CISIS_URI}|{code}"
    for code in ("PAT-001", "PAT-002", "PAT-003", "PAT-004", "PAT-005", "PAT-006", "PAT-007", "PAT-008", "PAT-009")
)
# What belongs to a plan without being referenced from it: (type, search parameters, what the first one points to).
_PLAN_LINKS = (
    ("RelatedPerson", (("patient", ""),), "Patient"),
    ("Consent", (("patient", ""),), "Patient"),
    ("Coverage", (("beneficiary", ""),), "Patient"),
    ("Observation", (("patient", ""), ("code", f"{_PROVISIONS},{TERMINOLOGIE_CISIS_URI}|ORG-013")), "Patient"),
    ("Observation", (("focus", ""),), "Goal"),
    ("Provenance", (("target", ""),), "CarePlan"),
    _ROLE,
)
# Links to documents of their own, and what does not belong to this one: nothing behind them is gathered.
_ENDS = MappingProxyType(
    {
        "CarePlan": frozenset({"CarePlan"}),
        "Appointment": frozenset({"Appointment", "CarePlan", "Communication", "CommunicationRequest"}),
    }
)
_HOLDERS = frozenset({"Consent", "DocumentReference"})
"""What of a plan may hold an advance directive, whose bytes are in a Binary."""

_MOST_SOURCES = 1_000
_MOST_APPOINTMENTS = 1_000
_SLACK = timedelta(days=1)  # offsets: the mapping compares instants


@dataclass(frozen=True, slots=True)
class Selection:
    """Which appointments an agenda states: those that meet the period from `start` to `end` (FHIR dates or dateTimes,
    each counting whole) and have one of `statuses`; empty means any."""

    start: str = ""
    end: str = ""
    statuses: tuple[str, ...] = ()

    @property
    def period(self) -> Resource | None:
        """As a Period."""
        bounds = {"start": self.start, "end": self.end}
        return {name: moment for name, moment in bounds.items() if moment} or None

    def may_hold(self, appointment: Resource) -> bool:
        """False for an appointment that is certainly not asked for."""
        if self.statuses and appointment.get("status") not in self.statuses:
            return False
        start = appointment.get("start", "")
        end = appointment.get("end", "") if "minutesDuration" not in appointment else ""
        return not (_surely_before(end, self.start) or _surely_before(self.end, start))


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class Sources:
    """The carrier, the appointments of an agenda, and every resource that their references lead to."""

    carrier: Resource
    appointments: tuple[Resource, ...]
    resources: ResourceSet
    selection: Selection = EVERYTHING

    def document(self, emission: Emission, previous: Iterable[bytes]) -> Mapped:
        """The document of the carrier; `previous` are the documents before it, the one that it replaces first.

        Raises MappingError.
        """
        kind = self.carrier["resourceType"]
        if kind == "CarePlan":
            return pps_document(self.carrier, self.resources, emission)
        if kind == "Appointment":
            return appointment_document(self.carrier, self.resources, emission)
        if kind == "Patient":
            return agenda_document(
                self.carrier,
                self.appointments,
                self.resources,
                emission,
                period=self.selection.period,
                statuses=self.selection.statuses or None,
                previous=(read(content).document for content in previous),
                split_groups=True,
            )
        return notification_document(self.carrier, self.resources, emission)

    def stated(self) -> Iterator[Resource]:
        """What the document states as a whole, so that who may not read the one may not read the other: the carrier,
        the appointments of an agenda, the documents whose bytes go with an appointment or a notification."""
        yield self.carrier
        yield from self.appointments
        if self.carrier["resourceType"] == "CarePlan":
            return
        for holder in (self.carrier, *self.appointments):
            yield from (one for one in holder.get("contained", ()) if one["resourceType"] == "DocumentReference")
        for reference in self.resources.of_type("DocumentReference"):
            attachments = [one.get("attachment", {}) for one in reference.get("content", ())]
            if any("data" in one or self.resources.resolve(one.get("url"), reference) for one in attachments):
                yield reference


def gather(connection: Connection, base: str, carrier: str, selection: Selection = EVERYTHING) -> Sources:
    """The carrier (`Type/[id]`), and what it references, and so on, with what is recorded about it and its patient.

    Read twice until both readings agree: on PostgreSQL others may commit between two reads of one transaction.
    Raises FhirError 404 or 410 when there is no such resource, RelaisError when it carries no document or when too
    much hangs on it.
    """
    if carrier.partition("/")[0] not in CARRIERS:
        message = f"no document is made of it: one of {', '.join(CARRIERS)} is expected"
        raise _refusal("not-supported", message, carrier.partition("/")[0])
    found = _gather(connection, base, carrier, selection)
    while (again := _gather(connection, base, carrier, selection)) != found:
        found = again
    parsed = {name: load(stored.content or b"") for name, stored in sorted(found.items())}
    appointments = [one for name, one in parsed.items() if name.startswith("Appointment/")]
    chosen = tuple(one for one in appointments if selection.may_hold(one)) if carrier.startswith("Patient/") else ()
    return Sources(parsed[carrier], chosen, ResourceSet.of(parsed.values(), base), selection)


def made_of(connection: Connection, base: str, carrier: str) -> set[str]:
    """`Type/[id]` of all that a document is made of, without what Consents alone lead to. Raises as `gather`."""
    return set(_gather(connection, base, carrier, EVERYTHING, frozenset({"Consent"})))


def _refusal(code: str, message: str, path: str) -> RelaisError:
    return RelaisError(Issue("error", code, message, path))


def _gather(
    connection: Connection, base: str, carrier: str, selection: Selection, leading_nowhere: frozenset[str] = frozenset()
) -> dict[str, StoredVersion]:
    kind, _, carrier_id = carrier.partition("/")
    found = {carrier: existing(read_current(connection, kind, carrier_id), kind, carrier_id)}
    if kind == "Patient":
        found |= _appointments(connection, base, carrier, selection)
    if kind != "CarePlan":  # whose consents are among what is recorded about its patient
        found |= _consents(connection, base, carrier, load(found[carrier].content or b""))
    ends = _ENDS.get(kind, _ENDS["Appointment"]) | leading_nowhere
    waiting = [name for name in found if name.partition("/")[0] not in leading_nowhere]
    while waiting:
        name = waiting.pop()
        for stored in _linked(connection, base, name, load(found[name].content or b""), plan=kind == "CarePlan"):
            linked = f"{stored.type}/{stored.id}"
            if linked in found or stored.deleted:
                continue
            found[linked] = stored
            if stored.type not in ends:
                waiting.append(linked)
        if len(found) > _MOST_SOURCES + _MOST_APPOINTMENTS * (kind == "Patient"):
            message = f"more than {_MOST_SOURCES} resources hang on it"
            raise _refusal("too-costly", message, kind)
    return found


def _appointments(connection: Connection, base: str, patient: str, selection: Selection) -> dict[str, StoredVersion]:
    """The appointments of a patient that the selection may hold."""
    asked = [("patient", patient), ("_count", str(_MOST_APPOINTMENTS))]
    asked += [("status", ",".join(selection.statuses))] if selection.statuses else []
    matches = search(connection, base, "Appointment", asked)
    if matches.next_page:
        message = f"more than {_MOST_APPOINTMENTS} appointments"
        raise _refusal("too-costly", message, "Patient")
    return {f"Appointment/{one.id}": one for one in matches.matches if selection.may_hold(load(one.content or b""))}


def _consents(connection: Connection, base: str, carrier: str, resource: Resource) -> dict[str, StoredVersion]:
    """What the patient of a document permits and opposes. Consents of other people who are met are not asked for."""
    actors = [resource.get("subject"), *(one.get("actor") for one in resource.get("participant", ()))]
    stated = [carrier, *(actor.get("reference", "") for actor in actors if actor)]
    targets = filter(None, map(references.restful, stated))
    patient = next((one for one in targets if one[0] in ("", base) and one[1] == "Patient"), None)
    if patient is None:
        return {}
    asked = [("patient", f"Patient/{patient[2]}"), ("_count", str(_MOST_SOURCES))]
    return {f"Consent/{one.id}": one for one in search(connection, base, "Consent", asked).matches}


def _linked(connection: Connection, base: str, name: str, resource: Resource, *, plan: bool) -> Iterator[StoredVersion]:
    resource_type = name.partition("/")[0]
    # A merged record of the person is another Patient: nothing of it belongs to this document.
    followed = {key: value for key, value in resource.items() if (resource_type, key) != ("Patient", "link")}
    targets = references.of(followed)
    if not plan or resource_type in _HOLDERS:
        targets |= set(_contents(followed))
    for reference in sorted(targets):
        target = references.restful(reference)
        if target and target[0] in ("", base) and (stored := read_current(connection, target[1], target[2])):
            yield stored
    for back_type, parameters, pointed_type in _PLAN_LINKS if plan else (_ROLE,):
        if pointed_type == resource_type:
            wanted = [(parameter, value or name) for parameter, value in parameters]
            matches = search(connection, base, back_type, [*wanted, ("_count", str(_MOST_SOURCES))]).matches
            if back_type != "PractitionerRole" or len(matches) == 1:  # of several roles none is the one meant
                yield from matches


def _contents(node: Any) -> Iterator[str]:
    """Addresses of the Binary resources that Attachments point to."""
    if isinstance(node, dict):
        url = node.get("url")
        if isinstance(url, str) and (target := references.restful(url)) and target[1] == "Binary":
            yield url
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from _contents(child)


def _surely_before(one: str, other: str) -> bool:
    """Whether a FHIR date or dateTime is before another one, whatever their offsets; False when that is not certain."""
    try:
        return date.fromisoformat(one[:10]) + _SLACK < date.fromisoformat(other[:10]) - _SLACK
    except ValueError:
        return False
