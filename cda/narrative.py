"""The narrative block of a section (CDA R2 StrucDoc) as a light tree, and helpers that build it.

A node is a string or an `Element`; tags and attributes are those of the CDA schema (paragraph, content, list,
item, table, tr, td, linkHtml…), never HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec


class Element(msgspec.Struct, gc=False):
    """A narrative element. `attributes` uses XML names (`ID`, `styleCode`, `listType`, `href`)."""

    tag: str
    attributes: dict[str, str] = {}
    children: list[Node] = []


Node = str | Element

_TEXT_STYLES = ("Bold", "Italics", "Emphasis", "Underline")
_STYLED = re.compile(rf"(?:{'|'.join(_TEXT_STYLES)})+", re.IGNORECASE | re.ASCII)
_SHORT = 64
"""Characters up to which a styleCode is kept with its styles: documents repeat short ones; long ones fill memory."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")


def is_name(text: str) -> bool:
    """Whether `text` can name a narrative element or attribute: a plain XML name, without prefix or namespace."""
    return _NAME.fullmatch(text) is not None


def text_styles(style_code: str) -> tuple[str, ...]:
    """Those of Bold, Italics, Emphasis and Underline (CDA R2 §4.3.5.11) that a styleCode holds.

    Official documents also join them (`BoldItalics`) and write them small (`bold`).
    """
    if not style_code:
        return ()
    return _kept_text_styles(style_code) if len(style_code) <= _SHORT else _text_styles(style_code)


def _text_styles(style_code: str) -> tuple[str, ...]:
    styled = " ".join(filter(_STYLED.fullmatch, style_code.split())).lower()
    return tuple(style for style in _TEXT_STYLES if style.lower() in styled)


_kept_text_styles = lru_cache(maxsize=256)(_text_styles)


def content(text: str, *, id: str | None = None, style: str | None = None) -> Element:
    """A run of text that entries can point to by `#id`; `style` is a styleCode such as `Bold`."""
    attributes = {name: value for name, value in (("ID", id), ("styleCode", style)) if value}
    return Element("content", attributes, [text])


def paragraph(*children: Node) -> Element:
    """A paragraph."""
    return Element("paragraph", {}, list(children))


def bullet_list(items: Iterable[Iterable[Node]]) -> Element:
    """An unordered list, one item per sequence of nodes."""
    return Element("list", {"listType": "unordered"}, [Element("item", {}, list(item)) for item in items])


def table(head: Iterable[str], rows: Iterable[Iterable[Iterable[Node]]]) -> Element:
    """A table with a header row; each cell is a sequence of nodes."""
    header = Element("tr", {}, [Element("th", {}, [title]) for title in head])
    body = [Element("tr", {}, [Element("td", {}, list(cell)) for cell in row]) for row in rows]
    return Element("table", {}, [Element("thead", {}, [header]), Element("tbody", {}, list(body))])


def walk(nodes: Iterable[Node]) -> Iterator[Element]:
    """Every element below `nodes`, depth first."""
    waiting = [*nodes][::-1]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Element):
            yield node
            waiting += node.children[::-1]


def plain_text(nodes: Iterable[Node]) -> str:
    """The text of `nodes` with white space collapsed."""
    return " ".join(_raw_text(nodes).split())


def _raw_text(nodes: Iterable[Node]) -> str:
    return "".join(node if isinstance(node, str) else _raw_text(node.children) for node in nodes)


def text_by_id(nodes: Iterable[Node]) -> dict[str, str]:
    """Text of every element that bears an `ID`, by that ID: what `reference/@value="#ID"` points to."""
    return {
        element.attributes["ID"]: plain_text(element.children) for element in walk(nodes) if "ID" in element.attributes
    }
