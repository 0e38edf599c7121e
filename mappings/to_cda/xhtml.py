"""XHTML of a FHIR Narrative → narrative of a section (CDA StrucDoc): inverse of `from_cda.narrative.xhtml`.

FHIR R4 narrative (a subset of XHTML 1.0); StrucDoc of CDA_extended.xsd, which says what may stand in what. Words are
always kept; a form that StrucDoc lacks, or that may not stand where it does, gives its words alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from lxml import etree

from relais.cda.narrative import Element, Node, is_name
from relais.cda.parsing import parse

_XML = etree._Element

_SILENT = frozenset({"script", "style", "head", "title", "hr"})
_BLOCKS = {"p": "paragraph", "pre": "paragraph", "ul": "list", "ol": "list", "dl": "list", "table": "table"}
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_DIVISIONS = frozenset({"div", "blockquote", "address", "body"})
_ITEMS = frozenset({"li", "dt", "dd"})
_PARTS = frozenset({"thead", "tfoot", "tbody"})
_COLUMNS = frozenset({"col", "colgroup"})
_INLINE = {"sub": "sub", "sup": "sup", "a": "linkHtml", "br": "br"}
_STYLES = {"b": "Bold", "strong": "Bold", "i": "Italics", "em": "Italics", "u": "Underline"}
_TABLE_ATTRIBUTES = frozenset(
    {"abbr", "align", "border", "cellpadding", "cellspacing", "colspan", "rowspan", "scope", "span", "valign", "width"}
)
_WORDS_ONLY = frozenset({"sub", "sup", "linkHtml", "caption"})
"""Elements of StrucDoc in which Relais writes nothing but text."""

_FRAMES = frozenset({"paragraph", "list", "item", "caption", "tr", "th", "td"})
"""Elements of StrucDoc that may not stand in a paragraph."""

_HOLDS_BLOCKS = frozenset({"text", "item", "td"})


def narrative(div: str, prefix: str) -> list[Node]:
    """The nodes of `text` of a section that say what a `div` says.

    `prefix` is put before every id, so that narratives of several origins can stand in one document. Raises
    UnreadableError for what is not XML.
    """
    return _Conversion(prefix).nodes(parse(div.encode()).getroot(), "text")


class _Conversion:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def nodes(self, element: _XML, holder: str) -> list[Node]:
        """The content of an XHTML element as it may stand in a StrucDoc element of that name."""
        found: list[Node] = [element.text] if element.text else []
        for child in element:
            if isinstance(child.tag, str):
                found += self._node(child, _name(child), holder)
            if child.tail:
                found.append(child.tail)
        return _merged(found)

    def _node(self, element: _XML, name: str, holder: str) -> list[Node]:
        if name in _SILENT:
            return []
        if name == "img":
            return [f"[Image : {element.get('alt') or 'sans description'}]"]
        if holder in _WORDS_ONLY:
            return [" "] if name == "br" else self.nodes(element, holder)
        if name == "br":
            return [Element("br")]
        if name in _BLOCKS or name in _HEADINGS or name in _DIVISIONS:
            return self._block(element, name, holder)
        return self._inline(element, name)

    # --- blocks -----------------------------------------------------------------------------------------------

    def _block(self, element: _XML, name: str, holder: str) -> list[Node]:
        if holder not in _HOLDS_BLOCKS or (holder, name) == ("td", "table"):
            return [Element("br"), *self.nodes(element, holder)]
        if name in _HEADINGS:
            bold = Element("content", {"styleCode": "Bold"}, self.nodes(element, "content"))
            return [Element("paragraph", self._id(element), [bold])]
        if name in _DIVISIONS:
            inner = self.nodes(element, holder)
            return inner if any(_is_block(node) for node in inner) else [Element("paragraph", self._id(element), inner)]
        if name == "table":
            return self._table(element)
        if _BLOCKS[name] == "list":
            return self._list(element, "ordered" if name == "ol" else "unordered")
        return [Element("paragraph", self._id(element), self.nodes(element, "paragraph"))]

    def _list(self, element: _XML, kind: str) -> list[Node]:
        caption = next(_children(element, {"caption"}), None)
        items = list(self._items(element, caption))
        if not items:
            return [] if caption is None else [Element("paragraph", {}, self.nodes(caption, "paragraph"))]
        return [Element("list", {"listType": kind} | self._id(element), [*self._caption(caption), *items])]

    def _items(self, element: _XML, caption: _XML | None) -> Iterator[Element]:
        """An item for each child that has words; those of a group (`div` in `dl`) one by one."""
        for part in self._parts_of(element, _ITEMS | {"caption", "div"}, "item"):
            if isinstance(part, list):
                yield Element("item", {}, part)
            elif _name(part) == "div":
                yield from self._items(part, caption)
            elif part is not caption:
                yield Element("item", self._id(part), self.nodes(part, "item"))

    def _table(self, element: _XML) -> list[Node]:
        """A table with its parts in the order of the schema; whatever else stands in it is part of its body."""
        caption = next(_children(element, {"caption"}), None)
        columns = [self._column(one) for one in _children(element, _COLUMNS)]
        once: dict[str, list[Element]] = {"thead": [], "tfoot": []}
        bodies: list[Element] = []
        for part in self._table_parts(element, caption):
            if part.tag in once and not once[part.tag]:
                once[part.tag] = [part]
            else:
                bodies.append(Element("tbody", part.attributes, part.children))
        parts = [*once["thead"], *once["tfoot"]]
        if not bodies:
            return [*map(_as_paragraph, (*self._caption(caption), *(row for one in parts for row in one.children)))]
        return [Element("table", self._attributes(element), [*self._caption(caption), *columns, *parts, *bodies])]

    def _table_parts(self, element: _XML, caption: _XML | None) -> Iterator[Element]:
        """The parts that have rows, in their order; what stands outside of any part is a body."""
        loose: list[Node] = []
        for part in self._parts_of(element, _PARTS | _COLUMNS | {"caption", "tr"}, "td"):
            if isinstance(part, list) or (_name(part) in ("caption", "tr") and part is not caption):
                loose += self._row(part)
            elif _name(part) in _PARTS and (rows := self._rows(part)):
                if loose:
                    yield Element("tbody", {}, loose)
                    loose = []
                yield Element(_name(part), self._attributes(part), rows)
        if loose:
            yield Element("tbody", {}, loose)

    def _caption(self, element: _XML | None) -> list[Element]:
        return [] if element is None else [Element("caption", {}, self.nodes(element, "caption"))]

    def _column(self, element: _XML) -> Element:
        return Element(
            _name(element), self._attributes(element), [self._column(one) for one in _children(element, {"col"})]
        )

    def _rows(self, element: _XML) -> list[Node]:
        return [row for part in self._parts_of(element, {"tr"}, "td") for row in self._row(part)]

    def _row(self, part: _XML | list[Node]) -> Iterator[Element]:
        """A row of the table; of what is none, one cell."""
        if isinstance(part, list):
            yield Element("tr", {}, [Element("td", {}, part)])
        elif _name(part) != "tr":
            yield Element("tr", {}, [Element("td", self._id(part), self.nodes(part, "td"))])
        elif cells := list(self._cells(part)):
            yield Element("tr", self._attributes(part), cells)

    def _cells(self, row: _XML) -> Iterator[Node]:
        for part in self._parts_of(row, {"td", "th"}, "td"):
            if isinstance(part, list):
                yield Element("td", {}, part)
            else:
                yield Element(_name(part), self._attributes(part), self.nodes(part, _name(part)))

    def _parts_of(self, element: _XML, names: AbstractSet[str], holder: str) -> Iterator[_XML | list[Node]]:
        """The children of those names, and what else has words, as it may stand in `holder`."""
        if element.text and element.text.strip():
            yield [element.text]
        for child in element:
            if isinstance(child.tag, str):
                if _name(child) in names:
                    yield child
                elif found := self._node(child, _name(child), holder):
                    yield found
            if child.tail and child.tail.strip():
                yield [child.tail]

    # --- runs of text -----------------------------------------------------------------------------------------

    def _inline(self, element: _XML, name: str) -> list[Node]:
        href = element.get("href", "")
        if name == "a" and href:
            target = f"#{self._prefix}{href[1:]}" if href.startswith("#") else href
            return [Element("linkHtml", {"href": target}, self.nodes(element, "linkHtml"))]
        if name in ("sub", "sup"):
            return [Element(name, {}, self.nodes(element, name))]
        underlined = "underline" in element.get("style", "")
        style = _STYLES.get(name) or ("Underline" if underlined else None)
        attributes = self._id(element) | ({"styleCode": style} if style else {})
        inner = self.nodes(element, "content")
        return [Element("content", attributes, inner)] if attributes else inner

    def _attributes(self, element: _XML) -> dict[str, str]:
        kept = {str(name): str(value) for name, value in element.items() if name in _TABLE_ATTRIBUTES}
        return kept | self._id(element)

    def _id(self, element: _XML) -> dict[str, str]:
        name = element.get("id") or element.get("name") or ""
        return {"ID": f"{self._prefix}{name}"} if is_name(name) else {}


def _name(element: _XML) -> str:
    return str(etree.QName(element).localname)


def _children(element: _XML, names: Iterable[str]) -> Iterator[_XML]:
    return (one for one in element if isinstance(one.tag, str) and _name(one) in names)


def _is_block(node: Node) -> bool:
    return isinstance(node, Element) and node.tag in ("paragraph", "list", "table")


def _as_paragraph(node: Node) -> Element:
    """The words of a row or a caption, where StrucDoc wants a body of the table and there is none."""
    return Element("paragraph", {}, _merged(list(_runs([node]))))


def _runs(nodes: Iterable[Node]) -> Iterator[Node]:
    """What may stand in a paragraph, of nodes that may not."""
    for node in nodes:
        if isinstance(node, Element) and node.tag in _FRAMES:
            yield from _runs(node.children)
            yield " "
        else:
            yield node


def _merged(nodes: list[Node]) -> list[Node]:
    """The nodes, neighbouring texts in one."""
    found: list[Node] = []
    for node in nodes:
        if isinstance(node, str) and found and isinstance(found[-1], str):
            found[-1] += node
        else:
            found.append(node)
    return found
