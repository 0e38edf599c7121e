"""FR-Documents-ajoutes, FR-Documents-references → Attachment, DocumentReference: inverse of `to_cda.enclosures`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from relais.cda.datatypes import uuid_oid
from relais.cda.model import II, Code, Media, Section, Statement
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import codings
from relais.mappings.from_cda.plan import subentries
from relais.mappings.from_cda.reading import Reading
from relais.mappings.to_cda.enclosures import DEFAULT_TITLE

UNKNOWN_TYPE = "application/octet-stream"
"""FHIR wants to know the type of what an Attachment holds (att-1)."""

RULE = "CI-SIS Modèles de contenus CDA, FR-Documents-ajoutes and FR-Documents-references"


@dataclass(slots=True)
class Enclosed:
    """A document that goes with another: an Attachment, what kind it is, and its numbers as Identifiers."""

    path: str
    attachment: Resource
    types: list[Resource] = field(default_factory=list)  # Codings
    entry: Resource | None = None  # of the entry
    number: Resource | None = None  # of the document itself

    def reference(self, reading: Reading, subject: Resource) -> Resource:
        """The Reference to the DocumentReference that describes it."""
        elements: Resource = {
            "masterIdentifier": self.number,
            "identifier": [self.entry] if self.entry else [],
            "status": "current",
            "type": {"coding": self.types} if self.types else None,
            "subject": subject,
            "description": self.attachment.get("title"),
            "content": [{"attachment": self.attachment or {"title": DEFAULT_TITLE}}],
        }
        return reading.add("DocumentReference", ("enclosed", self.path), elements)

    def payload(self, reading: Reading, subject: Resource) -> Resource:
        """The payload that holds it: the Attachment itself, when that says everything."""
        if self.types or self.number or not ("data" in self.attachment or "url" in self.attachment):
            return {"contentReference": self.reference(reading, subject)}
        return {"contentAttachment": self.attachment}


def read_attached(reading: Reading, section: Section, path: str) -> list[Enclosed]:
    """The documents of a section FR-Documents-ajoutes, in its order."""
    found = []
    for index, entry in enumerate(section.entries, 1):
        place = f"{path}/entry[{index}]/{entry.kind}"
        enclosed = _attached(reading, entry, place)
        if enclosed is None:
            reading.inform(place, "no document with content: narrative only", RULE)
        else:
            found.append(enclosed)
    return found


def _attached(reading: Reading, entry: Statement, path: str) -> Enclosed | None:
    parts = list(subentries(entry, path))
    files = ((value, place) for one, place in parts for value in one.values if isinstance(value, Media))
    media, where = next(files, (Media(), path))
    if media.data is None:
        return None
    reading.warn_of_end(media, where)
    attachment: Resource = {
        "contentType": media.media_type or UNKNOWN_TYPE,
        "data": base64.b64encode(media.data).decode(),
    }
    types: list[Resource] = []
    for described, place in parts:
        if described.kind != "observation":
            continue
        kind = next((value for value in described.values if isinstance(value, Code)), Code())
        types = codings(kind)
        title = reading.text(described.text, f"{place}/text/reference")
        if title and title != DEFAULT_TITLE:
            attachment["title"] = title
        if described.time is not None and described.time.value:
            attachment["creation"] = reading.moment(described.time.value, f"{place}/effectiveTime")
    return Enclosed(
        path, {name: content for name, content in attachment.items() if content}, types, _identifier(entry.ids)
    )


def read_referenced(reading: Reading, section: Section, path: str) -> list[Enclosed]:
    """The documents of a section FR-Documents-references, in its order."""
    found = []
    for index, entry in enumerate(section.entries, 1):
        place = f"{path}/entry[{index}]/{entry.kind}"
        title = reading.text(entry.text, f"{place}/text/reference")
        for number, reference in enumerate(entry.references, 1):
            if reference.kind != "externalDocument":
                reading.inform(f"{place}/reference[{number}]", "not a document: narrative only", RULE)
                continue
            url = reference.text.reference if reference.text else None
            stated = {"url": url, "title": None if title == DEFAULT_TITLE else title}
            attachment = {name: content for name, content in stated.items() if content}
            types = codings(reference.code) if reference.code else []
            own = _number(reference.ids, url)
            found.append(Enclosed(f"{place}/reference[{number}]", attachment, types, _identifier(entry.ids), own))
    return found


def _number(ids: list[II], url: str | None) -> Resource | None:
    """The number of a document, unless it was computed from its address."""
    if url and ids == [II(uuid_oid("url", url))]:
        return None
    return _identifier(ids)


def _identifier(ids: Sequence[II]) -> Resource | None:
    return next((found for found in map(identity.identifier_of, ids) if found), None)
