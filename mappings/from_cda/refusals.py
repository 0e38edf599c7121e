"""Which documents are not imported: CI-SIS Structuration minimale and *corps non structuré*, at their most tolerant.

A document received may be old or clumsy; one that does not say which it is, of when, of whom, or what, is not taken in.
"""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda import media
from relais.cda.datatypes import is_ts
from relais.cda.errors import Issue, MappingError
from relais.cda.model import Document, Media, Patient
from relais.mappings import identity

HEADER_RULE = "CI-SIS Structuration minimale"
BODY_RULE = "CI-SIS corps non structuré"
BODY = "component/nonXMLBody/text"


def refuse_unusable(document: Document) -> None:
    """Raise MappingError that lists everything for which the document cannot be imported, with XPath and rule."""
    if issues := [*_header(document), *_body(document)]:
        raise MappingError(issues)


def _header(document: Document) -> Iterator[Issue]:
    header = document.header
    if identity.identifier_of(header.id) is None:
        yield _error("required", "an OID or UUID that names the document", "id/@root", f"{HEADER_RULE}, id")
    if not header.effective_time or not is_ts(header.effective_time):
        rule = f"{HEADER_RULE}, effectiveTime"
        yield _error("required", "when the document was made", "effectiveTime/@value", rule)
    if header.other_patients or header.patient == Patient():
        rule = f"{HEADER_RULE}, recordTarget"
        yield _error("business-rule", "a document has exactly one patient", "recordTarget", rule)


def _body(document: Document) -> Iterator[Issue]:
    body = document.non_xml_body
    if body is not None and document.sections:
        yield _error("structure", "one body: sections, or a file, not both", "component", "CDA R2, bodyChoice")
    if body is not None:
        yield from _file(body)


def _file(body: Media) -> Iterator[Issue]:
    """A file that is not there or not what it says would be kept for good as something nobody can read."""
    if body.data is None and not body.reference:
        yield _error("value", "no content: absent, or Base64 that cannot be decoded", BODY, BODY_RULE)
    elif body.data is not None and media.contradicts(body.media_type, body.data):
        yield _error("value", "the bytes are no file of the media type that is stated", f"{BODY}/@mediaType", BODY_RULE)


def _error(code: str, message: str, path: str, rule: str) -> Issue:
    return Issue("error", code, message, path, rule)
