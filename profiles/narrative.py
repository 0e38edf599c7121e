"""Rules of the XHTML in `Narrative.div` (http://hl7.org/fhir/R4/narrative.html): invariants txt-1 and txt-2, no active
content. Parsed without DTD, entities or network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree

XHTML = "http://www.w3.org/1999/xhtml"

_ELEMENTS = """
    a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i img li
    ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var
"""
_ATTRIBUTES = """
    abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char charoff charset cite
    class colspan compact coords dir frame headers height href hreflang hspace id lang longdesc name nowrap rel rev
    rowspan rules scope shape span src start style summary tabindex title type valign value vspace width
"""
ELEMENTS = frozenset(_ELEMENTS.split())
ATTRIBUTES = frozenset(_ATTRIBUTES.split())

_TAGS = frozenset(f"{{{XHTML}}}{name}" for name in ELEMENTS)
_ALLOWED = ATTRIBUTES | {"{http://www.w3.org/XML/1998/namespace}lang"}
_LINKS = frozenset({"href", "src", "cite", "longdesc"})
_ACTIVE_SCHEMES = ("javascript:", "vbscript:", "data:text/")
_text_of = etree.XPath("normalize-space(.)")


class Problem(NamedTuple):
    """One broken rule: a FHIR issue code, the key of its message, the rule's identifier."""

    code: str
    message: str
    rule: str


def parse(text: str) -> etree._Element | None:
    """The root of the string of a `div`, or None when it is no well-formed XML or has a DTD."""
    if "<!DOCTYPE" in text or text.lstrip().startswith("<?xml"):
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(text.strip(), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def problems(text: str) -> Iterator[Problem]:
    """What is wrong with the string of a `div`, most fundamental first; nothing when it is right."""
    root = parse(text)
    if root is None or root.tag != f"{{{XHTML}}}div":
        yield Problem("structure", "narrative-div", "xhtml")
        return
    nodes = list(root.iter(etree.Element))
    if not all(node.tag in _TAGS and _ALLOWED.issuperset(node.keys()) for node in nodes):
        yield Problem("invariant", "narrative-html", "txt-1")
    if any(_is_active(node) for node in nodes):
        yield Problem("invariant", "narrative-active", "txt-1")
    if not _text_of(root) and root.find(f".//{{{XHTML}}}img[@src]") is None:
        yield Problem("invariant", "narrative-empty", "txt-2")


def _is_active(node: etree._Element) -> bool:
    links = (str(node.attrib[name]) for name in _LINKS.intersection(node.keys()))
    return any("".join(link.split()).lower().startswith(_ACTIVE_SCHEMES) for link in links)
