"""Generated narratives: every StrucDoc element, in its place or not, with hostile tags, attributes and text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import strategies as st

from relais.cda.model import Document
from relais.cda.narrative import Element, Node
from support.documents import small_document

_STRUCDOC = (
    *("content", "linkHtml", "sub", "sup", "br", "footnote", "footnoteRef", "renderMultiMedia", "paragraph", "list"),
    *("item", "table", "caption", "colgroup", "col", "thead", "tfoot", "tbody", "tr", "th", "td"),
)
_HOSTILE_TAGS = ("script", "style", "iframe", "object", "embed", "svg", "img", "a", "form", "input", "meta", "base")
HOSTILE_TEXTS = (
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    "]]><!-- & &amp; &#106;",
    "javascript:alert(1)",
    "@import url(//evil.example/a.css); } * { background: url(//evil.example/b) }",
    '#panic("x") #import "x" $x$ *gras* _x_ `x` \\ @x <x> // x',
)
_ATTRIBUTES = ("onclick", "onload", "style", "class", "src", "href", "id", "target", "srcdoc", "http-equiv", "xmlns")
_VALUES = ("javascript:alert(1)", "data:text/html,x", "//evil.example", "alert(1)", '"><b>', "x", "n-a", "note-1")
_STRUCTURAL = {
    "ID": ("a", "b", "note-1"),
    "href": (
        "#a",
        "#absent",
        "https://example.fr/a?b=c&d",
        "mailto:a@example.fr",
        " javascript:alert(1)",
        "data:x",
        "",
    ),
    "IDREF": ("a", "absent"),
    "styleCode": ("Bold", "Bold Italics", "Underline", "Arabic", "x;color:red"),
    "revised": ("insert", "delete", "other"),
    "listType": ("ordered", "unordered"),
    "referencedObject": ("a", "absent", ""),
    "colspan": ("2", "3", "0", "-1", "99999999", "x"),
    "rowspan": ("2", "3", "0", "65000", "²"),
    "align": ("right", "center", "x"),
}

texts = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.text("aé œ€—\t\n\r\u00a0\u2028\x00\x0b\x7f\x85\u202e\ufffe\ud800", max_size=12),
    st.sampled_from(HOSTILE_TEXTS),
)
_tags = st.one_of(st.sampled_from(_STRUCDOC), st.sampled_from(_STRUCDOC), st.sampled_from(_HOSTILE_TAGS))
_structural = st.sampled_from(sorted(_STRUCTURAL)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(_STRUCTURAL[name]))
)
_hostile = st.tuples(st.sampled_from(_ATTRIBUTES), st.sampled_from(_VALUES))
_attributes = st.lists(st.one_of(_structural, _structural, _hostile), max_size=3).map(dict)


def _elements(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Element]:
    return st.builds(Element, _tags, _attributes, st.lists(children, max_size=4))


def _tables(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Element]:
    """Well-made tables with awkward spans: chance alone seldom builds one."""
    cell = st.builds(Element, st.sampled_from(["td", "th"]), _attributes, st.lists(children, max_size=2))
    row = st.lists(cell, max_size=4).map(lambda cells: Element("tr", {}, list(cells)))
    group = st.builds(Element, st.sampled_from(["thead", "tbody", "tfoot"]), _attributes, st.lists(row, max_size=4))
    return st.lists(group, max_size=3).map(lambda groups: Element("table", {}, list(groups)))


_nodes: st.SearchStrategy[Node] = st.recursive(
    texts, lambda children: st.one_of(_elements(children), _tables(children)), max_leaves=25
)
narratives = st.lists(_nodes, max_size=4)
"""The text of a section: any tree."""


def document_with(narrative: Iterable[Node]) -> Document:
    """A small document whose only section has that narrative."""
    document = small_document()
    document.sections[0].text = list(narrative)
    return document


def leaves(narrative: Iterable[Node]) -> Iterator[str]:
    """Every text of a narrative, in the order of the document."""
    for node in narrative:
        if isinstance(node, str):
            yield node
        else:
            yield from leaves(node.children)
