"""Narrative of a section (CDA StrucDoc) → XHTML of FHIR, and → the words that entries point to.

The words keep line breaks (`br`, paragraphs, items, rows) and no other white space of the XML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from urllib.parse import urlsplit
from xml.sax.saxutils import escape, quoteattr

from relais.cda.model import Section
from relais.cda.narrative import Element, Node, text_styles, walk

XHTML = "http://www.w3.org/1999/xhtml"

_TAGS = {
    "paragraph": "p",
    "item": "li",
    "list": "ul",
    "linkHtml": "a",
    **{tag: tag for tag in ("br", "sub", "sup", "table", "caption", "col", "colgroup")},
    **{tag: tag for tag in ("thead", "tfoot", "tbody", "tr", "th", "td")},
}
"""XHTML element of each narrative element: any other is a `span`, an ordered list an `ol`."""

_STYLES = {"Bold": "b", "Italics": "i", "Emphasis": "em"}
_UNDERLINED = "text-decoration: underline"
_SAME_ATTRIBUTES = frozenset(
    [
        "abbr",
        "align",
        "axis",
        "border",
        "cellpadding",
        "cellspacing",
        "char",
        "charoff",
        "colspan",
        "frame",
        "headers",
        "name",
        "rel",
        "rev",
        "rowspan",
        "rules",
        "scope",
        "span",
        "summary",
        "title",
        "valign",
        "width",
    ]
)
_ID_ALONE = frozenset({"ID"})  # what most elements bear that bear anything
_LINK_SCHEMES = frozenset({"", "http", "https", "mailto", "tel"})
_BLOCKS = frozenset({"paragraph", "list", "item", "table", "caption", "tr"})
_CELLS = frozenset({"th", "td"})
_HOLDERS = frozenset({"td", "item"})
_WHITE_SPACE = re.compile(r"[ \t\r\n]+")
_NEEDS_ESCAPE = re.compile(r"[&<>\"\t\r\n]").search


# --- XHTML --------------------------------------------------------------------------------------------------------


def xhtml(nodes: Iterable[Node]) -> str | None:
    """The `div` of a FHIR Narrative that shows `nodes`; None when there is nothing to read."""
    nodes = list(nodes)
    if not _shows_something(nodes):
        return None
    return f'<div xmlns="{XHTML}">{_markup(nodes)}</div>'


def _shows_something(nodes: Iterable[Node]) -> bool:
    return any(
        bool(node.strip(" \t\r\n"))
        if isinstance(node, str)
        else node.tag == "renderMultiMedia" or _shows_something(node.children)
        for node in nodes
    )


def _markup(nodes: Sequence[Node]) -> str:
    pieces = []
    for node in nodes:
        if isinstance(node, str):
            pieces.append(escape(node) if _NEEDS_ESCAPE(node) else node)
            continue
        tag, attributes, content = _TAGS.get(node.tag, "span"), "", _markup(node.children)
        if node.attributes or node.tag == "renderMultiMedia":
            tag, attributes, content = _styled(node, tag, content)
        pieces.append(f"<{tag}{attributes}>{content}</{tag}>" if content else f"<{tag}{attributes}/>")
    return "".join(pieces)


def _styled(node: Element, tag: str, content: str) -> tuple[str, str, str]:
    """Tag, attributes and content of an element that its own name does not settle."""
    if node.tag == "renderMultiMedia":
        content = escape(f"[Document joint : {node.attributes.get('referencedObject', '')}] ") + content
    if style_code := node.attributes.get("styleCode"):
        for style in text_styles(style_code):
            if styled := _STYLES.get(style):
                content = f"<{styled}>{content}</{styled}>"
    if node.tag == "list" and node.attributes.get("listType") == "ordered":
        tag = "ol"
    return tag, "".join([f" {name}={_quoted(value)}" for name, value in _attributes(node).items()]), content


def _quoted(value: str) -> str:
    return quoteattr(value) if _NEEDS_ESCAPE(value) else f'"{value}"'


def _attributes(node: Element) -> dict[str, str]:
    if node.attributes.keys() == _ID_ALONE:
        return {"id": node.attributes["ID"]}
    found = {name: value for name, value in node.attributes.items() if name in _SAME_ATTRIBUTES}
    if "ID" in node.attributes:
        found["id"] = node.attributes["ID"]
    if "Underline" in text_styles(node.attributes.get("styleCode", "")):
        found["style"] = _UNDERLINED
    link = "".join(node.attributes.get("href", "").split())  # it may be broken over lines (RFC 3986 Appendix C)
    if link and _is_safe_link(link):
        found["href"] = link
    return found


def _is_safe_link(link: str) -> bool:
    try:
        return urlsplit(link).scheme.lower() in _LINK_SCHEMES
    except ValueError:
        return False


# --- words --------------------------------------------------------------------------------------------------------


def words(nodes: Sequence[Node]) -> str:
    """What one reads in `nodes`, with its line breaks."""
    if len(nodes) == 1 and isinstance(nodes[0], str):
        return _collapsed(nodes[0]).strip(" ")
    pieces: list[str] = []
    _collect(pieces, nodes)
    lines = "".join(pieces).split("\n")
    return "\n".join([_collapsed(line).strip(" ") for line in lines]).strip("\n ")


def first_words(nodes: Iterable[Node]) -> str:
    """The first text in `nodes` that shows something, as it is from there on; empty when there is none."""
    for node in nodes:
        text = node.lstrip(" \t\r\n") if isinstance(node, str) else first_words(node.children)
        if text:
            return text
    return ""


def _collect(pieces: list[str], nodes: Iterable[Node]) -> None:
    broken = True  # a block begins a line unless it stands at the beginning of one
    for node in nodes:
        if isinstance(node, str):
            text = _collapsed(node)
            broken = broken and text in ("", " ")
            pieces.append(text)
        elif node.tag == "br":
            pieces.append("\n")
            broken = True
        elif node.tag in _BLOCKS:
            pieces += ("" if broken else "\n", words(node.children), "\n")
            broken = True
        else:
            _collect(pieces, node.children)
            if node.tag in _CELLS:
                pieces.append(" ")
            broken = False


def _collapsed(text: str) -> str:
    """Text with one space for each run of white space; what is printable has no other white space than spaces."""
    return text if text.isprintable() and "  " not in text else _WHITE_SPACE.sub(" ", text)


class Words:
    """The words of a document by narrative ID: what `reference/@value` points to."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self.items: list[Element] = []
        """The items of all lists."""
        self._sections = sections
        self._by_id: dict[str, list[Node]] = {}
        self._found: dict[str, str | None] = {}  # the words at an ID, once they have been asked for
        self._holders: dict[str, list[Node]] = {}  # what the cell or item holds in which that ID stands
        self._index(sections)

    def find(self, reference: str) -> str | None:
        """The words at `#ID`, also when the `#` is missing; None when there is no such ID, or nothing at it."""
        name = reference.removeprefix("#")
        if name not in self._found:
            self._found[name] = words(self._by_id.get(name, ())) or None
        return self._found[name]

    def beside(self, reference: str) -> str:
        """The words that follow those at `#ID` in the same cell or item, up to the next ID."""
        name = reference.removeprefix("#")
        nodes = iter(self._holders.get(name, ()))
        for node in nodes:
            if _id_of(node) == name:
                return words(list(takewhile(lambda one: not _id_of(one), nodes)))
        return ""

    def caption(self, media_id: str | None) -> str:
        """The words of the cell or paragraph that shows an attached document."""
        for element in _elements(self._sections):
            for child in element.children:
                if _media_of(child) == (media_id or ""):
                    return words(element.children)
        return ""

    def _index(self, sections: Iterable[Section]) -> None:
        for section in sections:
            if section.text_id:
                self._by_id.setdefault(section.text_id, section.text)
            self._index_nodes(section.text, None)
            self._index(section.sections)

    def _index_nodes(self, nodes: list[Node], holder: list[Node] | None) -> None:
        """`holder` is `nodes` when they stand in a cell or an item."""
        for node in nodes:
            if isinstance(node, str):
                continue
            tag, children = node.tag, node.children
            if node.attributes and "ID" in node.attributes:
                name = node.attributes["ID"]
                self._by_id.setdefault(name, children)
                if name and holder is not None:
                    self._holders.setdefault(name, holder)
            if tag == "item":
                self.items.append(node)
            if children:
                self._index_nodes(children, children if tag in _HOLDERS else None)


def _id_of(node: Node) -> str | None:
    return None if isinstance(node, str) else node.attributes.get("ID")


def _media_of(node: Node) -> str | None:
    """The ID of the attached document that a node shows."""
    if isinstance(node, str) or node.tag != "renderMultiMedia":
        return None
    return node.attributes.get("referencedObject", "")


def _elements(sections: Iterable[Section]) -> Iterator[Element]:
    for section in sections:
        yield from walk(section.text)
        yield from _elements(section.sections)
