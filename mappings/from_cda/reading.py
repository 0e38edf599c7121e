"""What one import carries along: the resources made so far, what could not be carried over, the words of the document.

A resource is named by what it is in its document (`uuid5` of document id, type and key): reading the same document
again gives the same Bundle.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.json import encode

from relais.cda.datatypes import UuidSeries, fhir_date_from_ts, fhir_from_ts
from relais.cda.errors import Issue
from relais.cda.media import extension, is_cut_short
from relais.cda.model import AssignedEntity, Document, Media, Participant, Text
from relais.mappings.context import Resource
from relais.mappings.from_cda.narrative import Words

SECTION_RULE = "HL7 CDA R2, narrative of a section"
"""Rule of what is kept in the narrative alone: it holds everything a reader must know."""


def key_of(*elements: object) -> str:
    """What elements of FHIR say: the key of a resource that has no number, so that equal ones are one resource."""
    return encode(elements).decode()


class Reading:
    """State of one CDA → FHIR import."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.issues: list[Issue] = []
        self.words = Words(document.sections)
        self.parties: list[tuple[AssignedEntity, Resource | None]] = []  # kept by `parties`
        self.members: list[tuple[Participant, Resource | None, str]] | None = None  # kept by `header`
        self._resources: dict[str, Resource] = {}
        self._by_type: dict[str, list[tuple[str, Resource]]] = {}
        self._urls: dict[tuple[str, tuple[str, ...]], str] = {}
        self._times: dict[tuple[str, bool], str] = {}
        self._names = UuidSeries("resource", document.header.id.root or "", document.header.id.extension or "")

    # --- findings -------------------------------------------------------------------------------------------

    def inform(self, path: str, message: str, rule: str, code: str = "informational") -> None:
        """Note what FHIR, or the way back to CDA, does not keep."""
        self.issues.append(Issue("information", code, message, path, rule))

    def warn(self, path: str, message: str, rule: str, code: str = "business-rule") -> None:
        """Note what was wrong in the document and how it was understood."""
        self.issues.append(Issue("warning", code, message, path, rule))

    def warn_of_end(self, file: Media, path: str) -> None:
        """Note that a file is cut short: it is kept as it came, and refused when it is to be sent on."""
        if file.data is not None and is_cut_short(file.data, file.media_type):
            kind = extension(file.media_type).upper()
            self.warn(path, f"the {kind} has no end marker: it is cut short", "relais-media-end", "incomplete")

    # --- resources ------------------------------------------------------------------------------------------

    def add(self, resource_type: str, key: tuple[str, ...], elements: Resource) -> Resource:
        """Add a resource and give the Reference to it; a resource of the same type and key is not made twice."""
        name = (resource_type, key)
        url = self._urls.get(name)
        if url is None:
            number = self._names.uuid(resource_type, *key)
            url = self._urls[name] = f"urn:uuid:{number}"
            resource = {"resourceType": resource_type, "id": number}
            resource |= {name: content for name, content in elements.items() if content or content == 0}
            self._resources[url] = resource
            self._by_type.setdefault(resource_type, []).append((url, resource))
        return {"reference": url}

    def known(self, resource_type: str, key: tuple[str, ...]) -> Resource | None:
        """The Reference to the resource of that type and key, when it was added before."""
        url = self._urls.get((resource_type, key))
        return {"reference": url} if url else None

    def resource(self, reference: Resource) -> Resource:
        """The resource that a Reference given by `add` names."""
        return self._resources[reference["reference"]]

    def entries(self) -> Iterator[Resource]:
        """The Bundle entries, in the order in which the resources were added."""
        for url, resource in self._resources.items():
            yield {"fullUrl": url, "resource": resource}

    def of_type(self, resource_type: str) -> Iterator[tuple[Resource, Resource]]:
        """(Reference, resource) of every resource of that type."""
        for url, resource in self._by_type.get(resource_type, ()):
            yield {"reference": url}, resource

    # --- values ---------------------------------------------------------------------------------------------

    def moment(self, ts: str | None, path: str) -> str | None:
        """A TS as a FHIR date or dateTime; one that names no real time is left out, and said."""
        return self._time(ts, path, whole=True)

    def day(self, ts: str | None, path: str) -> str | None:
        """A TS as a FHIR date; its time of day is left out, and said."""
        if ts and len(ts) > 8:
            self.inform(path, "the element of FHIR is a date: the time of day is left out", "FHIR R4 date")
        return self._time(ts, path, whole=False)

    def _time(self, ts: str | None, path: str, *, whole: bool) -> str | None:
        if ts is None:
            return None
        known = self._times.get((ts, whole))
        if known is None:
            try:
                known = fhir_from_ts(ts) if whole else fhir_date_from_ts(ts)
            except ValueError as error:
                self.warn(path, f"left out: {error}", "HL7 V3 data types, TS", "value")
                return None
            self._times[ts, whole] = known
        return known

    def text(self, text: Text | None, path: str) -> str | None:
        """The words of a Text: its own, or those of the narrative it points to (with or without `#`)."""
        if text is None or text.null_flavor:
            return None
        if text.value:
            return text.value
        if not text.reference:
            return None
        found = self.words.find(text.reference)
        if found is None:
            self.warn(path, "points to no part of the narrative", "HL7 CDA R2, reference to the narrative", "not-found")
        elif not text.reference.startswith("#"):
            self.inform(path, "reference without #: read as one", "HL7 CDA R2, reference to the narrative")
        return found
