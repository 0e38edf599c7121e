"""CDA to FHIR: `relais.cda.model.Document` in, a document Bundle out."""

from __future__ import annotations

from relais.cda.model import Document
from relais.mappings import identity
from relais.mappings.context import Imported, Resource
from relais.mappings.from_cda.events import EventsReading, has_events
from relais.mappings.from_cda.header import care_team, composition, general_practitioners
from relais.mappings.from_cda.original import document_reference, instant, provenance
from relais.mappings.from_cda.patient import read_patient
from relais.mappings.from_cda.pps import CarePlanReading, is_pps
from relais.mappings.from_cda.reading import Reading
from relais.mappings.from_cda.refusals import refuse_unusable
from relais.mappings.from_cda.sections import composition_section

__all__ = ["to_bundle"]


def to_bundle(document: Document, data: bytes) -> Imported:
    """The document Bundle of a CI-SIS document, Composition first, and what FHIR does not keep of it.

    `data` are the bytes that `document` was read from: they stay untouched in a Binary. The same bytes give the same
    Bundle. Tolerant of legacy documents; raises MappingError for one that does not say which document it is, of when,
    or of whom.
    """
    refuse_unusable(document)
    reading = Reading(document)
    subject = read_patient(reading)
    head = composition(reading, subject)
    team = care_team(reading, subject)
    if doctors := general_practitioners(reading):
        reading.resource(subject)["generalPractitioner"] = doctors
    original = document_reference(reading, head, data)
    head["section"] = _sections(reading, head, original, team)
    target = reading.add("Composition", (), head)
    provenance(reading, target, original, head)
    entries = {entry["fullUrl"]: entry for entry in reading.entries()}
    first = entries.pop(target["reference"])
    bundle: Resource = {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": identity.identifier_of(document.header.id),
        "timestamp": instant(document.header.effective_time),
        "entry": [first, *entries.values()],
    }
    return Imported(bundle, list(dict.fromkeys(reading.issues)))


def _sections(reading: Reading, head: Resource, original: Resource, team: Resource | None) -> list[Resource]:
    """Composition.section of every section; a PPS makes its CarePlan on the way, events make theirs."""
    if reading.document.non_xml_body is not None:
        return [{"title": reading.document.header.title or "Document", "entry": [original]}]
    plan = CarePlanReading(reading, head, team) if is_pps(reading.document) else None
    events = EventsReading(reading, head) if plan is None and has_events(reading.document) else None
    body = plan or events
    found = []
    for index, section in enumerate(reading.document.sections, 1):
        path = f"component/structuredBody/component[{index}]/section"
        entries = body.read(section, path) if body else None
        found.append(composition_section(reading, section, path, entries))
    if body is not None:
        body.finish()
    return found
