"""Narrative of a section (CDA StrucDoc) → XHTML of FHIR, and → the words that entries point to.

The words keep line breaks (`br`, paragraphs, items, rows) and no other white space of the XML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit
from xml.sax.saxutils import escape, quoteattr

from relais.cda.model import Section
from relais.cda.narrative import Element, Node, walk

XHTML = "http://www.w3.org/1999/xhtml"

_TAGS = {
    "paragraph": "p",
    "item": "li",
    "linkHtml": "a",
    **{tag: tag for tag in ("br", "sub", "sup", "table", "caption", "col", "colgroup")},
    **{tag: tag for tag in ("thead", "tfoot", "tbody", "tr", "th", "td")},
}
"""XHTML element of each narrative element; `list` and styled `content` depend on attributes, any other is a `span`."""

_STYLES = {"Bold": "b", "Italics": "i"}
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


def _markup(nodes: Iterable[Node]) -> str:
    return "".join([escape(node) if isinstance(node, str) else _element(node) for node in nodes])


def _element(node: Element) -> str:
    content = _markup(node.children)
    tag, attributes = _TAGS.get(node.tag) or _tag(node), ""
    if node.tag == "renderMultiMedia":
        content = escape(f"[Document joint : {node.attributes.get('referencedObject', '')}] ") + content
    if node.attributes:
        for style in node.attributes.get("styleCode", "").split():
            if styled := _STYLES.get(style):
                content = f"<{styled}>{content}</{styled}>"
        attributes = "".join([f" {name}={_quoted(value)}" for name, value in _attributes(node).items()])
    return f"<{tag}{attributes}>{content}</{tag}>" if content else f"<{tag}{attributes}/>"


def _quoted(value: str) -> str:
    return quoteattr(value) if _NEEDS_ESCAPE(value) else f'"{value}"'


def _tag(node: Element) -> str:
    if node.tag == "list":
        return "ol" if node.attributes.get("listType") == "ordered" else "ul"
    return "span"


def _attributes(node: Element) -> dict[str, str]:
    found = {name: value for name, value in node.attributes.items() if name in _SAME_ATTRIBUTES}
    if "ID" in node.attributes:
        found["id"] = node.attributes["ID"]
    if "Underline" in node.attributes.get("styleCode", "").split():
        found["style"] = _UNDERLINED
    link = node.attributes.get("href")
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
        return _WHITE_SPACE.sub(" ", nodes[0]).strip(" ")
    lines = "".join(_pieces(nodes)).split("\n")
    return "\n".join(_WHITE_SPACE.sub(" ", line).strip(" ") for line in lines).strip("\n ")


def _pieces(nodes: Iterable[Node]) -> Iterator[str]:
    broken = True  # a block begins a line unless it stands at the beginning of one
    for node in nodes:
        if isinstance(node, str):
            text = _WHITE_SPACE.sub(" ", node)
            broken = broken and text in ("", " ")
            yield text
        elif node.tag == "br":
            yield "\n"
            broken = True
        elif node.tag in _BLOCKS:
            yield "" if broken else "\n"
            yield words(node.children)
            yield "\n"
            broken = True
        else:
            yield from _pieces(node.children)
            yield " " if node.tag in _CELLS else ""
            broken = False


class Words:
    """The words of a document by narrative ID: what `reference/@value` points to."""

    def __init__(self, sections: Iterable[Section]) -> None:
        self._by_id: dict[str, list[Node]] = {}
        self._beside: dict[str, list[Node]] = {}
        self._captions: dict[str, list[Node]] = {}
        self._index(sections)

    def find(self, reference: str) -> str | None:
        """The words at `#ID`, also when the `#` is missing; None when there is no such ID, or nothing at it."""
        return words(self._by_id.get(reference.removeprefix("#"), ())) or None

    def beside(self, reference: str) -> str:
        """The words that follow those at `#ID` in the same cell or item, up to the next ID."""
        return words(self._beside.get(reference.removeprefix("#"), ()))

    def caption(self, media_id: str | None) -> str:
        """The words of the cell or paragraph that shows an attached document."""
        return words(self._captions.get(media_id or "", ()))

    def _index(self, sections: Iterable[Section]) -> None:
        for section in sections:
            if section.text_id:
                self._by_id.setdefault(section.text_id, section.text)
            for element in walk(section.text):
                if "ID" in element.attributes:
                    self._by_id.setdefault(element.attributes["ID"], element.children)
                if element.tag in _HOLDERS:
                    self._index_neighbours(element)
                for child in element.children:
                    if isinstance(child, Element) and child.tag == "renderMultiMedia":
                        self._captions.setdefault(child.attributes.get("referencedObject", ""), element.children)
            self._index(section.sections)

    def _index_neighbours(self, holder: Element) -> None:
        current: str | None = None
        following: list[Node] = []
        for node in (*holder.children, None):
            named = node.attributes.get("ID") if isinstance(node, Element) else None
            if node is None or named:
                if current:
                    self._beside.setdefault(current, following)
                current, following = named, []
            else:
                following.append(node)
