"""The reader's account of what it takes in, against writing the document again and comparing: it misses no loss."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from relais.cda import reader
from relais.cda.model import Media
from relais.cda.parsing import SDTC, V3, XSI
from relais.cda.reader import ReadDocument, read
from relais.cda.reader_tables import Account
from relais.cda.writer import write
from relais.mappings.to_cda import convert
from support.documents import small_document, small_pps
from support.plans import EMISSION, full_plan

_XML = etree._Element


def _full() -> bytes:
    return write(convert(full_plan().bundle(), EMISSION).document)


def _unstructured() -> bytes:
    document = small_document()
    document.sections, document.non_xml_body = [], Media("application/pdf", b"%PDF-1.4\n%%EOF\n")
    return write(document)


DOCUMENTS = {
    "full": _full(),
    "small": write(small_document()),
    "pps": write(small_pps()),
    "unstructured": _unstructured(),
}


def _compared(data: bytes) -> ReadDocument:
    """The document as read, whose losses are found by writing it again, whatever the account says."""
    with patch.object(Account, "is_balanced", return_value=False):
        return read(data)


# --- without loss ---------------------------------------------------------------------------------------------


def _with_implied_attributes(data: bytes) -> bytes:
    root = etree.fromstring(data)
    root.set(f"{{{XSI}}}schemaLocation", f"{V3} CDA.xsd")
    for element in root.iter(f"{{{V3}}}assignedPerson", f"{{{V3}}}representedOrganization"):
        element.set("determinerCode", "INSTANCE")
    for element in root.iter(f"{{{V3}}}author"):
        element.set("contextControlCode", "OP")
    return etree.tostring(root)


def _indented(data: bytes) -> bytes:
    return etree.tostring(etree.fromstring(data), pretty_print=True)


def _in_latin(data: bytes) -> bytes:
    return etree.tostring(etree.fromstring(data), encoding="ISO-8859-1")


def _with_prefix(data: bytes) -> bytes:
    prefixed = data.replace(b"<", b"<h:").replace(b"<h:/", b"</h:").replace(b"<h:?", b"<?")
    return prefixed.replace(b"h:sdtc:", b"sdtc:").replace(b"xmlns=", b"xmlns:h=")


def _with_comments(data: bytes) -> bytes:
    return data.replace(b"<id ", b"<!-- x --><?y z?><id ").replace(b"</title>", b"<!-- x --></title>")


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize(
    "layout", [bytes, _indented, _with_implied_attributes, _in_latin, _with_prefix, _with_comments]
)
def test_a_document_without_loss_is_not_written_again(
    monkeypatch: pytest.MonkeyPatch, name: str, layout: Callable[[bytes], bytes]
) -> None:
    data = layout(DOCUMENTS[name])
    assert _compared(data).issues == []
    monkeypatch.delattr(reader, "write")
    assert read(data).issues == []


# --- with whatever loss ---------------------------------------------------------------------------------------

_ATTRIBUTES = (
    *("classCode", "typeCode", "moodCode", "determinerCode", "contextControlCode", "contextConductionInd"),
    *("nullFlavor", "negationInd", "inversionInd", "representation", "mediaType", "language", "use", "qualifier"),
    *("root", "extension", "code", "codeSystem", "value", "unit", "ID", "styleCode", f"{{{V3}}}ID"),
    *(f"{{{XSI}}}type", f"{{{XSI}}}nil", "{http://www.w3.org/XML/1998/namespace}lang"),
)
_VALUES = (
    *("", " ", "x", "true", "false", "1", "0", "007", "-0", "1e3", "20260112", "UNK", "BR", "#objectif-1"),
    *("ACT", "COMP", "DOC", "EVN", "INSTANCE", "OBS", "OP", "ORG", "PRF", "PSN", "S", "completed", "TXT", "B64"),
    *("CD", "CE", "ED", "ST", "BL", "INT", "PQ", "TS", "IVL_TS", "PIVL_TS", "RTO", "h:CD", "text/plain"),
)
_TEXTS = ("x", " x ", " ", "\xa0", "\u2003", "\r", "AAEC", "AA EC", "QUI=", "QUJ=")
_NAMES = (
    *("templateId", "id", "code", "title", "name", "family", "addr", "city", "telecom", "time", "low", "center"),
    *("value", "text", "originalText", "reference", "qualifier", "translation", "statusCode", "signatureCode"),
    *("functionCode", "performer", "participant", "assignedEntity", "assignedPerson", "patientRole", "recordTarget"),
    *("entry", "act", "observation", "organizer", "component", "section", "externalAct", "unknown", "content"),
)
_TAGS = (
    *(f"{{{V3}}}{name}" for name in _NAMES),
    *(f"{{{SDTC}}}{name}" for name in ("functionCode", "deceasedInd", "text", "unknown")),
    "{urn:x}unknown",
    "unknown",
)


def _say(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    element.set(name, value)


def _say_otherwise(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    for stated in sorted(map(str, element.attrib))[:1]:
        element.set(stated, value)


def _unsay(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    for stated in sorted(map(str, element.attrib))[-1:]:
        del element.attrib[stated]


def _rename(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    element.tag = tag


def _repeat(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    element.addnext(deepcopy(element))


def _transplant(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    element.append(deepcopy(other))


def _remove(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _reverse(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    element[:] = list(element)[::-1]


def _add(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    etree.SubElement(element, tag, {name: value}).text = text


def _add_empty(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    etree.SubElement(element, tag)


def _write_into(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    element.text = f"{element.text or ''}{text}"


def _write_behind(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    element.tail = f"{element.tail or ''}{text}"


def _comment(element: _XML, other: _XML, name: str, value: str, tag: str, text: str) -> None:
    comment = etree.Comment("x")
    comment.tail = text
    element.insert(0, comment)


_CHANGES = (
    *(_say, _say_otherwise, _unsay, _rename, _repeat, _transplant, _remove),
    *(_reverse, _add, _add_empty, _write_into, _write_behind, _comment),
)
_changes = st.lists(
    st.tuples(
        st.sampled_from(_CHANGES),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
        st.sampled_from(_ATTRIBUTES),
        st.sampled_from(_VALUES),
        st.sampled_from(_TAGS),
        st.sampled_from(_TEXTS),
    ),
    min_size=1,
    max_size=3,
)


def _changed(data: bytes, changes: list[tuple[Callable[..., None], int, int, str, str, str, str]]) -> bytes:
    root = etree.fromstring(data)
    for change, place, elsewhere, *said in changes:
        elements = [element for element in root.iter() if isinstance(element.tag, str)][1:]
        leaves = [element for element in elements if not len(element)]
        if leaves:
            change(elements[place % len(elements)], leaves[elsewhere % len(leaves)], *said)
    return etree.tostring(root)


@settings(max_examples=400, deadline=None, database=None)
@given(name=st.sampled_from(sorted(DOCUMENTS)), changes=_changes)
def test_the_account_misses_nothing_that_the_comparison_finds(
    name: str, changes: list[tuple[Callable[..., None], int, int, str, str, str, str]]
) -> None:
    data = _changed(DOCUMENTS[name], changes)
    assert read(data) == _compared(data)


@settings(max_examples=100, deadline=None, database=None)
@given(choice=st.integers(0, 3), changes=_changes)
def test_nor_in_an_official_example(
    cisis: Path, choice: int, changes: list[tuple[Callable[..., None], int, int, str, str, str, str]]
) -> None:
    examples = sorted((cisis / "cda" / "examples").glob("*.xml"), key=lambda path: path.stat().st_size)
    data = _changed(examples[choice % len(examples)].read_bytes(), changes)
    assert read(data) == _compared(data)
