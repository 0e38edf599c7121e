"""What some bytes are, told from the bytes alone: names and announced media types may be wrong."""

from __future__ import annotations

import contextlib
import re
from typing import NoReturn
from xml.parsers import expat

from relais.cda.parsing import V3
from relais.profiles.xml import FHIR
from relais.server.validation.report import Kind

HEAD = 65_536
"""How many bytes tell what it is."""

STYLE_SHEET = b"http://www.w3.org/1999/XSL/Transform"
"""Where this is near the beginning, the rest may hold a document."""

_CONTENT = b"urn:asip-sante:ci-sis"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WIDE = re.compile(rb"(?:\xff\xfe(?:\x00\x00)?)?(?:[ \t\r\n]\x00)*<\x00|(?:\xfe\xff)?(?:\x00[ \t\r\n])*\x00<")
_BLANK = b" \t\r\n"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_MLLP_START = b"\x0b"
_REGISTRY = ("SubmitObjectsRequest", "ProvideAndRegisterDocumentSetRequest")
_MARKS: tuple[tuple[bytes, Kind], ...] = (
    (b"ClinicalDocument", "cda"),
    (FHIR.encode(), "fhir"),
    (_REGISTRY[0].encode(), "metadata"),
)
_ENDINGS = (".xml", ".json", ".er7", ".hl7", ".zip")
_FOREIGN = (b"%PDF-", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\x00", b"MM\x00*")
_HTML = re.compile(rb"(<\?xml[^>]*>\s*)?(<!doctype html|<html)")
_TRACES = (b"ClinicalDocument", V3.encode(), FHIR.encode(), b"resourceType", _REGISTRY[0].encode(), b"MSH|", b"BHS|")
_TRACED = 4096  # a document that something stands before still begins near the beginning


def recognise(data: bytes) -> Kind:
    """What the bytes claim to be, by how they begin; a damaged one is still what it began as."""
    head = data[:HEAD]
    if head.startswith(_ZIP):
        return "xdm"
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANK)
    if text.removeprefix(_MLLP_START).startswith(b"MSH|"):
        return "hl7v2"
    if text.startswith(b"{"):
        return "fhir"
    if is_xml(head):
        return "cda" if _is_self_displaying(data) else _xml_kind(head)
    return "unknown"


def is_foreign(head: bytes, name: str) -> bool:
    """Whether a file that nobody named is none of ours: by its form, or because nothing in it says otherwise.

    `head` is how it begins. What is not recognised but may be a damaged one of ours is not foreign.
    """
    if not head or name.lower().endswith(_ENDINGS):
        return False
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANK).lower()
    if head.startswith(_FOREIGN) or _HTML.match(text):
        return True
    if recognise(head) != "unknown":
        return False
    if is_xml(head):
        return "}" in _root(head)  # a style sheet, a schema: in a namespace that is not ours
    traced = head[:_TRACED].replace(b"\x00", b"")  # UTF-16 as well
    return not any(trace in traced for trace in _TRACES)


def is_xml(data: bytes) -> bool:
    """Whether the bytes begin as XML does."""
    return _WIDE.match(data) is not None or data.removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANK).startswith(b"<")


def _is_self_displaying(data: bytes) -> bool:
    """Whether it is a style sheet around a CDA document; both may be long."""
    is_style_sheet = STYLE_SHEET in data[:HEAD] and _root(data[:HEAD]).startswith(STYLE_SHEET.decode())
    return is_style_sheet and _CONTENT in data and b"ClinicalDocument" in data


def _xml_kind(head: bytes) -> Kind:
    namespace, _, name = _root(head).rpartition("}")
    if name == "ClinicalDocument" or namespace == V3:
        return "cda"
    if namespace == FHIR:
        return "fhir"
    if name in _REGISTRY:
        return "metadata"
    if name:
        return "unknown"
    legible = head.replace(b"\x00", b"")  # UTF-16, UTF-32
    return next((kind for mark, kind in _MARKS if mark in legible), "unknown")


class _Found(Exception):  # noqa: N818 - ends the parse, no error
    pass


def _root(head: bytes) -> str:
    """`namespace}name` of the root element; empty when it cannot be read, or a document type declaration is before."""
    parser = expat.ParserCreate(namespace_separator="}")
    found = ""

    def start(name: str, _attributes: object) -> NoReturn:
        nonlocal found
        found = name
        raise _Found

    def stop(*_: object) -> NoReturn:
        raise _Found

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = stop
    with contextlib.suppress(_Found, expat.ExpatError, LookupError, ValueError):
        parser.Parse(head)
    return found
