"""A CDA document as one HTML page for people: self-contained, without script or external load.

HTML 5, Content Security Policy 3. The page is built as a tree and serialised by lxml, so that no text of a document can
become markup; its only style sheet is named by its hash, so that even then nothing could run or load.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import count
from typing import Any

from lxml import etree

from relais.cda import media
from relais.cda.model import Document
from relais.cda.presentation.document import present
from relais.cda.presentation.nodes import (
    Anchor,
    Attachment,
    Block,
    Break,
    Cell,
    Facts,
    Figure,
    Flow,
    Inline,
    List,
    Note,
    Paragraph,
    Part,
    Preformatted,
    Presentation,
    Row,
    Run,
    Style,
    Table,
)

_Html = etree._Element
_TAGS: dict[Style, str] = {
    "bold": "strong",
    "italic": "em",
    "underline": "u",
    "sub": "sub",
    "sup": "sup",
    "inserted": "ins",
    "deleted": "del",
}
_LOWEST_HEADING = 6


def to_html(document: Document, *, language: str = "fr") -> str:
    """The page of a document, UTF-8 when written to a file or sent.

    Words around the narrative are French; `language` (BCP 47) is that of the narrative when the document states none.
    Raises RelaisError for a narrative too large to show (see `presentation.document.present`).
    """
    page = _Page(present(document, language)).html()
    return etree.tostring(page, method="html", encoding="unicode", doctype="<!DOCTYPE html>")


@cache
def _style_sheet() -> str:
    return files("relais.cda").joinpath("data", "document.css").read_text(encoding="utf-8")


@cache
def _policy() -> str:
    digest = b64encode(hashlib.sha256(_style_sheet().encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


class _Page:
    """Writes a presentation; every method gives elements of the page."""

    def __init__(self, presentation: Presentation) -> None:
        self.presentation = presentation

    def html(self) -> _Html:
        page = self.presentation
        head = _element(
            "head",
            _element("meta", charset="utf-8"),
            _element("meta", content=_policy(), **{"http-equiv": "Content-Security-Policy"}),
            _element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            _element("meta", name="referrer", content="no-referrer"),
            _element("title", " – ".join(text for text in (page.title, page.patient) if text)),
            _element("style", _style_sheet()),
        )
        title = _element(
            "header", _element("h1", page.title, lang=page.language), _element("p", page.subtitle, class_="subtitle")
        )
        patient = _element("section", _element("h2", page.patient), self._facts(page.identity), class_="patient")
        main = _element("main", *map(self._part, count(1), page.parts), *self._notes(page.notes))
        return _element("html", head, _element("body", title, patient, self._contents(), main), lang="fr")

    def _contents(self) -> _Html:
        links = (
            _element("li", _element("a", part.title, href=f"#part-{number}"))
            for number, part in enumerate(self.presentation.parts, 1)
            if part.level == 1
        )
        return _element("nav", _element("ul", *links), **{"aria-label": "Sommaire"})

    def _part(self, number: int, part: Part) -> _Html:
        heading = _element(f"h{min(part.level + 1, _LOWEST_HEADING)}", part.title, id=f"part-{number}")
        content = (heading, *map(self._block, part.content))
        if part.narrative:
            return _element("section", *content, class_="narrative", lang=self.presentation.language)
        return _element("section", *content, class_="about")

    def _notes(self, notes: Sequence[Note]) -> Iterable[_Html]:
        if notes:
            items = (_element("li", *self._flow(note.content), id=f"note-{note.number}") for note in notes)
            yield _element("section", _element("h2", "Notes"), _element("ol", *items), class_="notes")

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _flow(self, nodes: Flow) -> Iterator[str | _Html]:
        for node in nodes:
            yield _inline(node) if isinstance(node, Inline) else self._block(node)

    def _block(self, node: Block) -> _Html:
        return _WRITERS[type(node)](self, node)

    def _paragraph(self, node: Paragraph) -> _Html:
        return _element("p", *map(_inline, node.content))

    def _preformatted(self, node: Preformatted) -> _Html:
        return _element("pre", node.text)

    def _list(self, node: List) -> _Html:
        tag = "ul" if node.marker in ("disc", "circle", "square") else "ol"
        return _element(tag, *(_element("li", *self._flow(item)) for item in node.items), class_=node.marker)

    def _table(self, node: Table) -> _Html:
        groups = (("thead", node.head), ("tbody", node.body), ("tfoot", node.foot))
        written = [_element(tag, *map(self._row, rows)) for tag, rows in groups if rows]
        caption = [_element("caption", *self._flow(node.caption))] if node.caption else []
        return _element("div", _element("table", *caption, *written), class_="wide")

    def _row(self, row: Row) -> _Html:
        return _element("tr", *map(self._cell, row.cells))

    def _cell(self, cell: Cell) -> _Html:
        return _element(
            "th" if cell.heading else "td",
            *self._flow(cell.content),
            scope=cell.heading,
            colspan=str(cell.columns) if cell.columns > 1 else None,
            rowspan=str(cell.rows) if cell.rows > 1 else None,
            class_=cell.align,
        )

    def _facts(self, node: Facts) -> _Html:
        rows = (
            _element("div", _element("dt", fact.label), *(_element("dd", value) for value in fact.values))
            for fact in node.facts
        )
        return _element("dl", *rows)

    # --- files ----------------------------------------------------------------------------------------------------

    def _figure(self, node: Figure) -> _Html:
        return _element("figure", _element("img", src=self._url(node.file), alt=node.label))

    def _attachment(self, node: Attachment) -> _Html:
        name = self.presentation.files[node.file].name
        return _element(
            "p",
            _element("a", f"Télécharger : {node.label}", href=self._url(node.file), download=name),
            class_="attachment",
        )

    def _url(self, number: int) -> str:
        """A file as a URL; a media type that its bytes do not confirm is not passed on."""
        file = self.presentation.files[number]
        confirmed = media.is_what_it_says(file.media_type, file.data)
        kind = file.media_type if confirmed else "application/octet-stream"
        return f"data:{kind};base64,{b64encode(file.data).decode()}"


_WRITERS: dict[type, Callable[[_Page, Any], _Html]] = {
    Paragraph: _Page._paragraph,
    Preformatted: _Page._preformatted,
    List: _Page._list,
    Table: _Page._table,
    Facts: _Page._facts,
    Figure: _Page._figure,
    Attachment: _Page._attachment,
}


def _inline(node: Inline) -> str | _Html:
    if isinstance(node, Break):
        return _element("br")
    if isinstance(node, Anchor):
        return _element("span", id=node.name)
    return _run(node)


def _run(run: Run) -> str | _Html:
    written: str | _Html = run.text
    for style in run.styles:
        written = _element(_TAGS[style], written)
    if run.href is None:
        return written
    outside = not run.href.startswith("#")
    return _element("a", written, href=run.href, rel="noopener noreferrer" if outside else None)


def _element(tag: str, *children: str | _Html, class_: str | None = None, **attributes: str | None) -> _Html:
    """An element with its children and those attributes that have a value."""
    element = etree.Element(tag)
    for name, value in (("class", class_), *attributes.items()):
        if value is not None:
            element.set(name, value)
    last: _Html | None = None
    for child in children:
        if not isinstance(child, str):
            element.append(child)
            last = child
        elif last is None:
            element.text = (element.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return element
