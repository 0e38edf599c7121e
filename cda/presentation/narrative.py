"""The narrative of a section as plain nodes to show: every element of CDA R2 StrucDoc (§4.3.5), well placed or not.

Tolerant: an element that is unknown, or stands where the schema does not allow it, loses its form and keeps its text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from relais.cda.narrative import Element, text_styles, walk
from relais.cda.narrative import Node as Narrative
from relais.cda.presentation.nodes import (
    Alignment,
    Anchor,
    Block,
    Break,
    Cell,
    Flow,
    List,
    Marker,
    Node,
    Note,
    Paragraph,
    Row,
    Run,
    Style,
    Table,
    blocks,
    clean,
    flow,
    one_line,
)

MAX_NESTING = 8
"""Lists and tables within each other; what nests deeper keeps its text, one line per element."""

_STYLES: dict[str, Style] = {"Bold": "bold", "Italics": "italic", "Emphasis": "italic", "Underline": "underline"}
_REVISIONS: dict[str, Style] = {"insert": "inserted", "delete": "deleted"}
_MARKERS: dict[str, Marker] = {
    "Disc": "disc",
    "Circle": "circle",
    "Square": "square",
    "Arabic": "decimal",
    "LittleAlpha": "lower-alpha",
    "BigAlpha": "upper-alpha",
    "LittleRoman": "lower-roman",
    "BigRoman": "upper-roman",
}
_ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)
_GROUPS = ("thead", "tbody", "tfoot")
MAX_COLUMNS = 256
"""A wider table is shown one line per cell."""

_SAFE_URL = re.compile(r"(?:https?://|mailto:)[!-~]+", re.IGNORECASE)
_MAX_URL = 2000
_FRAGMENT = re.compile(r"#[A-Za-z_][\w.-]*", re.ASCII)


def is_safe_url(url: str) -> bool:
    """Whether a link may lead there: http, https or mailto, printable ASCII only, not longer than browsers take."""
    return len(url) <= _MAX_URL and _SAFE_URL.fullmatch(url) is not None


def link_targets(narratives: Iterable[Narrative]) -> frozenset[str]:
    """The IDs of elements that a `linkHtml` of the narrative leads to."""
    linked, present = set(), set()
    for element in walk(narratives):
        present.add(element.attributes.get("ID", ""))
        if element.tag == "linkHtml" and _FRAGMENT.fullmatch(href := element.attributes.get("href", "")):
            linked.add(href[1:])
    return frozenset(linked & present)


@dataclass(frozen=True, slots=True)
class _Context:
    """What an element inherits from those around it."""

    styles: tuple[Style, ...] = ()
    href: str | None = None
    align: Alignment | None = None
    depth: int = 0

    def styled(self, *styles: Style | None) -> _Context:
        new = tuple(style for style in styles if style and style not in self.styles)
        return replace(self, styles=self.styles + new) if new else self

    def within(self, element: Element) -> _Context:
        """The context inside `element`, by its styleCode and align."""
        inner = self.styled(*(_STYLES[name] for name in text_styles(element.attributes.get("styleCode", ""))))
        align = next((name for name in _ALIGNMENTS if name == element.attributes.get("align")), None)
        return replace(inner, align=align) if align else inner

    def inside(self) -> _Context:
        """The context inside a list, a table, a footnote: one level deeper, no link and no alignment around it."""
        return replace(self, depth=self.depth + 1, href=None, align=None)


class NarrativeReader:
    """Reads the narratives of one document: footnotes are numbered through all of them.

    `media` gives the node that shows the observationMedia of an ID; `targets` are the IDs that links lead to.
    """

    def __init__(self, media: Mapping[str, Block], targets: frozenset[str]) -> None:
        self._media = media
        self._targets = targets
        self._numbers: dict[str, int] = {}
        self._notes: dict[int, Flow] = {}

    def read(self, narrative: Iterable[Narrative]) -> tuple[Block, ...]:
        """The narrative of a section as blocks."""
        return blocks(self._each(narrative, _Context()))

    @property
    def notes(self) -> tuple[Note, ...]:
        """The footnotes met so far, in the order of their numbers; a reference to none gives one that says so."""
        absent = (Run("Note absente du document.", ("italic",)),)
        return tuple(Note(number, self._notes.get(number) or absent) for number in self._numbers.values())

    def _each(self, narrative: Iterable[Narrative], context: _Context) -> Iterator[Node]:
        for node in narrative:
            if isinstance(node, str):
                yield Run(clean(node), context.styles, context.href)
                continue
            yield from self._anchors(node)
            yield from _READERS.get(node.tag, NarrativeReader._unknown)(self, node, context)

    def _anchors(self, element: Element) -> Iterator[Anchor]:
        name = element.attributes.get("ID", "")
        if name in self._targets:
            yield Anchor(f"n-{name}")

    # --- inline ---------------------------------------------------------------------------------------------------

    def _content(self, element: Element, context: _Context) -> Iterator[Node]:
        revision = _REVISIONS.get(element.attributes.get("revised", ""))
        return self._each(element.children, context.within(element).styled(revision))

    def _sub(self, element: Element, context: _Context) -> Iterator[Node]:
        return self._each(element.children, context.styled("sub"))

    def _sup(self, element: Element, context: _Context) -> Iterator[Node]:
        return self._each(element.children, context.styled("sup"))

    def _break(self, element: Element, context: _Context) -> Iterator[Node]:
        yield Break()
        yield from self._each(element.children, context)

    def _link(self, element: Element, context: _Context) -> Iterator[Node]:
        """The text of a link, followed by the address unless that is the text: a reader sees where it leads."""
        address = one_line(element.attributes.get("href", ""))
        if address.startswith("#") and address[1:] in self._targets:
            yield from self._each(element.children, replace(context.within(element), href=f"#n-{address[1:]}"))
            return
        href = address if is_safe_url(address) else None
        shown = list(self._each(element.children, replace(context.within(element), href=href)))
        yield from shown
        if address and address != one_line("".join(node.text for node in shown if isinstance(node, Run))):
            yield Run(f" ({address})" if shown else address, context.styles, None if shown else href)

    def _footnote(self, element: Element, context: _Context) -> Iterator[Node]:
        number = self._number(element.attributes.get("ID", ""))
        if number in self._notes:  # another footnote has the same ID
            number = self._number("")
        self._notes[number] = flow(self._each(element.children, replace(_Context(), depth=context.depth).inside()))
        yield self._mark(number)

    def _footnote_reference(self, element: Element, context: _Context) -> Iterator[Node]:
        yield self._mark(self._number(element.attributes.get("IDREF", "")))
        yield from self._each(element.children, context)

    def _number(self, name: str) -> int:
        """The number of the footnote of that ID; one without ID gets its own."""
        return self._numbers.setdefault(name or f" {len(self._numbers)}", len(self._numbers) + 1)

    @staticmethod
    def _mark(number: int) -> Run:
        return Run(f"[{number}]", ("sup",), f"#note-{number}")

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _paragraph(self, element: Element, context: _Context) -> Iterator[Node]:
        return iter(blocks(self._each(element.children, context.within(element))))

    def _caption(self, element: Element, context: _Context) -> Iterator[Node]:
        return iter(blocks(self._each(element.children, context.within(element).styled("bold"))))

    def _unknown(self, element: Element, context: _Context) -> Iterator[Node]:
        return iter(blocks(self._each(element.children, context)))

    def _multimedia(self, element: Element, context: _Context) -> Iterator[Node]:
        for name in element.attributes.get("referencedObject", "").split():
            yield self._media.get(name) or Paragraph((Run("[Image ou fichier absent du document]", ("italic",)),))
        yield from blocks(self._each(element.children, context.styled("italic")))

    def _list(self, element: Element, context: _Context) -> Iterator[Node]:
        if context.depth >= MAX_NESTING:
            yield from self._unknown(element, context)
            return
        inner = context.within(element).inside()
        items, others = [], []
        for child in element.children:
            if isinstance(child, Element) and child.tag == "item":
                items.append(flow([*self._anchors(child), *self._each(child.children, inner.within(child))]))
            else:
                others.append(child)
        yield from blocks(self._each(others, context))  # the caption, and whatever should not be here
        if items:
            yield List(_marker(element), tuple(items))

    # --- tables ---------------------------------------------------------------------------------------------------

    def _table(self, element: Element, context: _Context) -> Iterator[Node]:
        source = _TableSource(element)
        placed = source.placed() if context.depth < MAX_NESTING else None
        if placed is None:
            yield from self._unknown(element, context)
            return
        inner = context.within(element).inside()
        caption = flow(self._each(source.caption, inner.styled("bold")))
        yield from blocks(self._each(source.strays, context))
        if source.width:
            head, body, foot = (tuple(self._row(row, inner) for row in placed.get(name, ())) for name in _GROUPS)
            yield Table(source.width, head, body, foot, caption)
        else:
            yield from blocks(caption)

    def _row(self, row: _PlacedRow, context: _Context) -> Row:
        for element in row.around:
            context = context.within(element)
        anchors = list(self._anchors(row.around[-1]))  # of the row, in its first cell
        cells = [self._cell(cell, context, [] if number else anchors) for number, cell in enumerate(row.cells)]
        return Row(tuple(cells))

    def _cell(self, cell: _PlacedCell, context: _Context, anchors: list[Anchor]) -> Cell:
        inner = context.within(cell.element)
        content = flow([*anchors, *self._anchors(cell.element), *self._each(cell.element.children, inner)])
        heading: Literal["col", "row"] | None = None
        if cell.element.tag == "th":
            heading = "col" if cell.in_head or cell.element.attributes.get("scope") == "col" else "row"
        return Cell(content, cell.x, cell.columns, cell.rows, heading, inner.align)


_READERS: dict[str, Callable[[NarrativeReader, Element, _Context], Iterator[Node]]] = {
    "content": NarrativeReader._content,
    "sub": NarrativeReader._sub,
    "sup": NarrativeReader._sup,
    "br": NarrativeReader._break,
    "linkHtml": NarrativeReader._link,
    "footnote": NarrativeReader._footnote,
    "footnoteRef": NarrativeReader._footnote_reference,
    "paragraph": NarrativeReader._paragraph,
    "caption": NarrativeReader._caption,
    "renderMultiMedia": NarrativeReader._multimedia,
    "list": NarrativeReader._list,
    "table": NarrativeReader._table,
}


def _marker(element: Element) -> Marker:
    codes = element.attributes.get("styleCode", "").split()
    default: Marker = "decimal" if element.attributes.get("listType") == "ordered" else "disc"
    return next((_MARKERS[code] for code in codes if code in _MARKERS), default)


# --- the grid of a table ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _PlacedCell:
    """A cell at its columns of the grid; `rows` and `columns` fit what is free."""

    element: Element
    x: int
    columns: int
    rows: int
    in_head: bool


@dataclass(slots=True)
class _PlacedRow:
    """The cells of a row; `around` are the elements it stands in, from the outside: group, tr."""

    cells: list[_PlacedCell]
    around: tuple[Element, ...]


_Group = list[tuple[Element, ...]]  # the rows of a thead, tbody or tfoot: (group, tr), or (tr,) outside a group


class _TableSource:
    """The parts of a table element; what stands where no text may is in `strays`."""

    def __init__(self, table: Element) -> None:
        self.caption: list[Narrative] = []
        self.strays: list[Narrative] = []
        self.width = 0
        self._groups: list[tuple[str, _Group]] = []
        for child in table.children:
            self._add(child)
        self._promote_headings()

    def _add(self, child: Narrative) -> None:
        if isinstance(child, str) or child.tag not in ("caption", "tr", *_GROUPS):
            self.strays.append(child)
        elif child.tag == "caption":
            self.caption += child.children
        elif child.tag == "tr":
            self._groups.append(("tbody", [(child,)]))
        else:
            rows = [row for row in child.children if isinstance(row, Element) and row.tag == "tr"]
            self._groups.append((child.tag, [(child, row) for row in rows]))
            self.strays += (row for row in child.children if not (isinstance(row, Element) and row.tag == "tr"))

    def _promote_headings(self) -> None:
        """Rows of headings that begin a table without thead are its head."""
        if not self._groups or any(name == "thead" for name, _ in self._groups):
            return
        rows = self._groups[0][1]
        count = next((number for number, row in enumerate(rows) if not _is_heading_row(row[-1])), 0)
        self._groups[:1] = [("thead", rows[:count]), (self._groups[0][0], rows[count:])]

    def placed(self) -> dict[str, list[_PlacedRow]] | None:
        """The rows of thead, tbody and tfoot, each cell at its place; None when the table is too wide for a grid."""
        placed: dict[str, list[_PlacedRow]] = {}
        for name, rows in self._groups:
            found = self._place(rows, in_head=name == "thead")
            if found is None:
                return None
            placed.setdefault(name, []).extend(found)
        self._compress([cell for rows in placed.values() for row in rows for cell in row.cells])
        return placed

    def _place(self, rows: _Group, *, in_head: bool) -> list[_PlacedRow] | None:
        """Each cell at the first free slot of its row: `held` are the slots that cells from above still take."""
        placed: list[_PlacedRow] = []
        held: list[tuple[int, int, int]] = []  # start, end, first row that is free again
        for number, around in enumerate(rows):
            held = sorted(slot for slot in held if slot[2] > number)
            ahead = iter([*held, (MAX_COLUMNS, MAX_COLUMNS, 0)])
            x, (start, end, _) = 0, next(ahead)
            cells: list[_PlacedCell] = []
            for child in around[-1].children:
                if not (isinstance(child, Element) and child.tag in ("th", "td")):
                    self.strays.append(child)
                    continue
                while start <= x < MAX_COLUMNS:
                    x, (start, end, _) = end, next(ahead)
                if x >= MAX_COLUMNS:
                    return None
                columns = min(_span(child, "colspan"), start - x)
                height = min(_span(child, "rowspan"), len(rows) - number)
                cells.append(_PlacedCell(child, x, columns, height, in_head))
                held += [(x, x + columns, number + height)] if height > 1 else []
                x += columns
            placed.append(_PlacedRow(cells, around))
        return placed

    def _compress(self, cells: list[_PlacedCell]) -> None:
        """Take away the columns in which no cell begins: spans wider than the table make some."""
        starts = sorted({cell.x for cell in cells})
        for cell in cells:
            x = bisect_left(starts, cell.x)
            cell.x, cell.columns = x, bisect_left(starts, cell.x + cell.columns) - x
        self.width = len(starts)


def _is_heading_row(row: Element) -> bool:
    cells = [child for child in row.children if isinstance(child, Element)]
    return bool(cells) and all(cell.tag == "th" and _span(cell, "rowspan") == 1 for cell in cells)


def _span(cell: Element, name: str) -> int:
    """colspan or rowspan; 1 when it is not a plain positive number."""
    text = cell.attributes.get(name, "")
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 6 else 1
