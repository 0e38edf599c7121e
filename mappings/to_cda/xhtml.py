"""XHTML of a FHIR Narrative → narrative of a section (CDA StrucDoc): inverse of `from_cda.narrative.xhtml`.

FHIR R4 narrative (a subset of XHTML 1.0); StrucDoc of CDA_extended.xsd, which says what may stand in what. Words are
always kept; a form that StrucDoc lacks, or that may not stand where it does, gives its words alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
                found += self._node(child, etree.QName(child).localname, holder)
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
        captions = [Element("caption", {}, self.nodes(one, "caption")) for one in _children(element, {"caption"})]
        items = [Element("item", self._id(one), self.nodes(one, "item")) for one in _children(element, _ITEMS)]
        return [Element("list", {"listType": kind} | self._id(element), [*captions[:1], *items])] if items else []

    def _table(self, element: _XML) -> list[Node]:
        """A table with its parts in the order of the schema; rows without part are its body."""
        captions = [Element("caption", {}, self.nodes(one, "caption")) for one in _children(element, {"caption"})]
        columns = [self._column(one) for one in _children(element, _COLUMNS)]
        parts = {name: [self._part(one, name) for one in _children(element, {name})] for name in sorted(_PARTS)}
        if rows := self._rows(element):
            parts["tbody"].append(Element("tbody", {}, rows))
        if not parts["tbody"]:
            return [row for part in (*parts["thead"], *parts["tfoot"]) for row in _words_of_rows(part)]
        content = [*captions[:1], *columns, *parts["thead"][:1], *parts["tfoot"][:1], *parts["tbody"]]
        return [Element("table", self._attributes(element), list(content))]

    def _column(self, element: _XML) -> Element:
        name = etree.QName(element).localname
        return Element(name, self._attributes(element), [self._column(one) for one in _children(element, {"col"})])

    def _part(self, element: _XML, name: str) -> Element:
        return Element(name, self._attributes(element), self._rows(element))

    def _rows(self, element: _XML) -> list[Node]:
        return [
            Element(
                "tr",
                self._attributes(row),
                [
                    Element(kind, self._attributes(cell), self.nodes(cell, kind))
                    for cell in _children(row, {"td", "th"})
                    for kind in (etree.QName(cell).localname,)
                ],
            )
            for row in _children(element, {"tr"})
        ]

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


def _children(element: _XML, names: Iterable[str]) -> Iterator[_XML]:
    return (one for one in element if isinstance(one.tag, str) and etree.QName(one).localname in names)


def _is_block(node: Node) -> bool:
    return isinstance(node, Element) and node.tag in ("paragraph", "list", "table")


def _words_of_rows(part: Element) -> Iterator[Element]:
    """A paragraph for each row, where StrucDoc wants a body and the table has none."""
    for row in part.children:
        if isinstance(row, Element):
            cells = [cell.children for cell in row.children if isinstance(cell, Element)]
            runs = [node for cell in cells for node in (*cell, " ") if not _is_block(node)]
            yield Element("paragraph", {}, runs)


def _merged(nodes: list[Node]) -> list[Node]:
    """The nodes, neighbouring texts in one."""
    found: list[Node] = []
    for node in nodes:
        if isinstance(node, str) and found and isinstance(found[-1], str):
            found[-1] += node
        else:
            found.append(node)
    return found
