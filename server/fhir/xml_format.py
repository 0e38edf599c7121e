"""FHIR XML (R4 §2.6.1) in and out of the facade, which works on FHIR JSON everywhere else.

What comes in as XML passes the same checks as JSON, because it goes on as JSON.
"""

from __future__ import annotations

from lxml import etree

from relais.cda.errors import Issue, UnreadableError
from relais.cda.parsing import parse as parse_xml
from relais.mappings.context import Resource
from relais.profiles.xml import FHIR, XmlFormatError, from_xml, to_xml
from relais.server.fhir import json_format
from relais.server.fhir.outcome import FhirError

_RULE = "FHIR R4 XML"
_INDENT = "  "


def parse(data: bytes, max_depth: int) -> Resource:
    """The resource written in `data`. Raises UnreadableError: no XML, a DTD, no FHIR R4, or what JSON would refuse."""
    root = parse_xml(data).getroot()
    return json_format.parse(json_format.dump(read(root)), max_depth)


def read(root: etree._Element) -> Resource:
    """The resource that an XML element holds. Raises UnreadableError naming the place."""
    try:
        return from_xml(root)
    except XmlFormatError as error:
        raise unreadable(error) from error


def from_json(data: bytes, *, pretty: bool = False) -> bytes:
    """The XML form of a resource that was written as JSON, indented where `pretty` is asked for.

    Raises FhirError 406 for a resource that has none.
    """
    try:
        root = to_xml(json_format.load(data))
    except XmlFormatError as error:
        raise FhirError(406, unreadable(error).issues) from error
    if pretty:
        _indent(root, "\n")
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def unreadable(error: XmlFormatError) -> UnreadableError:
    """What the XML form could not hold, as a refusal."""
    issue = error.issue
    return UnreadableError(Issue("error", issue.code, issue.message, issue.path, _RULE))


def _indent(node: etree._Element, line: str) -> None:
    """Put each element on its line; the narrative stays as it is, since its white space is content."""
    children = list(node) if node.tag.startswith(f"{{{FHIR}}}") else []
    if not children:
        return
    node.text = line + _INDENT
    for child in children:
        child.tail = line + _INDENT
        _indent(child, line + _INDENT)
    children[-1].tail = line
