"""The nodes of a page, before it is HTML or PDF.

Nothing active can be said with them: text, a closed list of styles, links to http, https and mailto only, images of
safe types. What a document holds is reduced to them once, so that the writers of HTML and PDF only translate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Literal

import msgspec

Style = Literal["bold", "italic", "underline", "sub", "sup", "inserted", "deleted"]
Alignment = Literal["left", "center", "right", "justify"]
Marker = Literal[
    "disc", "circle", "square", "decimal", "lower-alpha", "upper-alpha", "lower-roman", "upper-roman", "none"
]


class Run(msgspec.Struct, frozen=True, tag_field="kind", tag="run"):
    """Text in one style. `href` is a safe absolute URL, or `#name` of an Anchor or of a note."""

    text: str
    styles: tuple[Style, ...] = ()
    href: str | None = None


class Break(msgspec.Struct, frozen=True, tag_field="kind", tag="break"):
    """A new line in the same paragraph."""


class Anchor(msgspec.Struct, frozen=True, tag_field="kind", tag="anchor"):
    """A place that a link of the same document leads to."""

    name: str


class Paragraph(msgspec.Struct, frozen=True, tag_field="kind", tag="paragraph"):
    """A paragraph: inline nodes only."""

    content: tuple[Inline, ...]


class Preformatted(msgspec.Struct, frozen=True, tag_field="kind", tag="preformatted"):
    """Text whose line breaks and spaces count, as in a `text/plain` body."""

    text: str


class List(msgspec.Struct, frozen=True, tag_field="kind", tag="list"):
    """A list; `marker` is that of CSS list-style-type."""

    marker: Marker
    items: tuple[Flow, ...]


class Cell(msgspec.Struct, frozen=True):
    """A cell at column `x` of its row; it never overlaps another and stays within its group of rows."""

    content: Flow
    x: int
    columns: int = 1
    rows: int = 1
    heading: Literal["col", "row"] | None = None
    align: Alignment | None = None


class Row(msgspec.Struct, frozen=True):
    """A row of cells, from left to right."""

    cells: tuple[Cell, ...]


class Table(msgspec.Struct, frozen=True, tag_field="kind", tag="table"):
    """A table of `width` columns; `head` rows are repeated on each page."""

    width: int
    head: tuple[Row, ...]
    body: tuple[Row, ...]
    foot: tuple[Row, ...] = ()
    caption: Flow = ()


class Figure(msgspec.Struct, frozen=True, tag_field="kind", tag="figure"):
    """An image: `file` is its place in `Presentation.files`."""

    file: int
    label: str


class Attachment(msgspec.Struct, frozen=True, tag_field="kind", tag="attachment"):
    """A file to open elsewhere: `file` is its place in `Presentation.files`."""

    file: int
    label: str


class Fact(msgspec.Struct, frozen=True):
    """A label and what it says, one paragraph per value."""

    label: str
    values: tuple[str, ...]


class Facts(msgspec.Struct, frozen=True, tag_field="kind", tag="facts"):
    """Labelled values."""

    facts: tuple[Fact, ...]


class Note(msgspec.Struct, frozen=True):
    """A footnote; its mark in the text is a Run that leads to `#note-<number>`."""

    number: int
    content: Flow


Inline = Run | Break | Anchor
Block = Paragraph | Preformatted | List | Table | Figure | Attachment | Facts
Node = Inline | Block
Flow = tuple[Inline, ...] | tuple[Block, ...]
"""Content of a cell, an item, a note: all inline or all blocks, never both (`flow` sees to it)."""


class File(msgspec.Struct, frozen=True):
    """Bytes carried by the document; `name` is made here, never taken from the document."""

    name: str
    media_type: str
    data: bytes


class Part(msgspec.Struct, frozen=True):
    """A titled piece of the page. `level` 1 is a main part, 2 a subsection…; `narrative` tells text of the document
    from words about it."""

    title: str
    content: tuple[Block, ...]
    level: int = 1
    narrative: bool = False


class Presentation(msgspec.Struct, frozen=True):
    """The whole page. `language` (BCP 47) is that of the narrative; the words around it are French."""

    title: str
    subtitle: str
    patient: str
    identity: Facts
    parts: tuple[Part, ...]
    notes: tuple[Note, ...]
    files: tuple[File, ...]
    language: str
    date: str | None  # HL7 TS


# --- text -----------------------------------------------------------------------------------------------------

REPLACEMENT = "\ufffd"
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff"  # what XML or HTML cannot hold
    "\u202a-\u202e\u2066-\u2069]"  # direction overrides: they could show a dose back to front
)
_WHITE_SPACE = re.compile(r"[ \t\r\n\x85\u2028\u2029]+")  # a no-break space stays


def clean(text: str) -> str:
    """The text with every character that no page may hold made visible as U+FFFD."""
    return _UNFIT.sub(REPLACEMENT, text)


def one_line(text: str) -> str:
    """The text cleaned, white space collapsed, ends trimmed."""
    return _WHITE_SPACE.sub(" ", clean(text)).strip(" ")


# --- shape ----------------------------------------------------------------------------------------------------


def blocks(nodes: Iterable[Node]) -> tuple[Block, ...]:
    """The nodes as blocks: what is inline is gathered into paragraphs, white space tidied as HTML does."""
    return tuple(_blocks(nodes))


def _blocks(nodes: Iterable[Node]) -> Iterator[Block]:
    for is_inline, group in groupby(nodes, lambda node: isinstance(node, Inline)):
        if not is_inline:
            yield from (node for node in group if isinstance(node, Block))
        elif content := tidy(node for node in group if isinstance(node, Inline)):
            yield Paragraph(content)


def flow(nodes: Iterable[Node]) -> Flow:
    """The nodes as inline content when there is nothing else, as blocks otherwise."""
    found = blocks(nodes)
    if len(found) == 1 and isinstance(found[0], Paragraph):
        return found[0].content
    return found


def tidy(nodes: Iterable[Inline]) -> tuple[Inline, ...]:
    """Inline content with white space collapsed across runs and removed at the ends of lines; empty when blank."""
    found: list[Inline] = []
    after_space = True
    for node in nodes:
        if isinstance(node, Run):
            text = _WHITE_SPACE.sub(" ", node.text)
            text = text.removeprefix(" ") if after_space else text
            if text:
                found.append(Run(text, node.styles, node.href))
                after_space = text.endswith(" ")
        else:
            if isinstance(node, Break):
                _trim_end(found)
                after_space = True
            found.append(node)
    _trim_end(found)
    return tuple(_joined(found)) if any(isinstance(node, Run | Anchor) for node in found) else ()


def _trim_end(nodes: list[Inline]) -> None:
    if nodes and isinstance(last := nodes[-1], Run) and last.text.endswith(" "):
        text = last.text.removesuffix(" ")
        nodes[-1:] = [Run(text, last.styles, last.href)] if text else []


def _joined(nodes: Iterable[Inline]) -> Iterator[Inline]:
    """The same nodes, neighbouring runs of one style made one."""
    for form, group in groupby(nodes, lambda node: (node.styles, node.href) if isinstance(node, Run) else None):
        if form is None:
            yield from group
        else:
            yield Run("".join(node.text for node in group if isinstance(node, Run)), *form)
