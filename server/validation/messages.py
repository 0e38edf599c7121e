"""The checks of an HL7 v2 message: structure, tables, what it says of its document; then the document itself."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda.errors import Issue
from relais.mappings.hl7v2 import er7
from relais.mappings.hl7v2.context import Context, Policy
from relais.mappings.hl7v2.document import decode
from relais.mappings.hl7v2.findings import MessageError, Place
from relais.mappings.hl7v2.reading import examine
from relais.profiles.messages import Language
from relais.server.validation.archives import PartsOf
from relais.server.validation.excerpts import Lines
from relais.server.validation.findings import of_issue, stated_line
from relais.server.validation.report import Check, Finding, Part

_VOLET = "CI-SIS, Transmission de documents CDA-R2 en HL7v2 2.1"
_FRAME = b"\x0b\x1c\r\n"
_LINE_FEEDS = "the file ends its lines with line feeds: it was read as a message whose segments end with CR"
_PLACE_OF_DOCUMENT = "OBX-5"


def message_parts(data: bytes, place: str, policy: Policy, parts_of: PartsOf, language: Language) -> Iterator[Part]:
    """The message, and what it carries. A file may hold it with line feeds, or in its MLLP frame."""
    message = er7.from_file(data.strip(_FRAME))
    lines = Lines(message.replace(b"\r", b"\n"))
    findings = [
        _finding(found.issue, found.place, message, lines, language) for found in examine(message, policy).findings
    ]
    if b"\n" in data:
        issue = Issue("warning", "structure", _LINE_FEEDS, "", "hl7v2.syntax")
        findings.insert(0, of_issue(issue, language))
    yield Part.of(place, "hl7v2", data, [Check("message", _VOLET, findings=tuple(findings))])
    document = _document(message, policy)
    if document:
        yield from parts_of(document, f"{place}!{_PLACE_OF_DOCUMENT}" if place else _PLACE_OF_DOCUMENT)


def _finding(issue: Issue, place: Place, message: bytes, lines: Lines, language: Language) -> Finding:
    line = stated_line(issue.message) or _line(message, place)
    return of_issue(issue, language, lambda _path: (line, lines.at(line)))


def _line(message: bytes, place: Place) -> int:
    """The number of a segment in the message."""
    name = place.segment.encode()
    numbers = [number for number, text in enumerate(message.split(b"\r"), 1) if text.startswith(name)]
    return numbers[place.number - 1] if place.number <= len(numbers) else 0


def _document(message: bytes, policy: Policy) -> bytes | None:
    """The bytes in the first OBX, whatever else is wrong with the message; None when they cannot be had."""
    try:
        parsed = er7.parse(message)
    except MessageError:
        return None
    obx = parsed.first("OBX")
    return decode(Context(parsed, policy, "MDM", to_lps=False), obx, drop=False) if obx.fields else None
