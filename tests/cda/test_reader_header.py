"""A header read alone is the header of the whole document, whatever the document is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from relais.cda.errors import UnreadableError
from relais.cda.model import Media
from relais.cda.parsing import parse
from relais.cda.reader import read, read_header
from relais.cda.writer import write
from relais.mappings.to_cda import convert
from support.documents import small_document, small_pps
from support.official import official_documents
from support.plans import EMISSION, full_plan


def _unstructured() -> bytes:
    document = small_document()
    document.sections, document.non_xml_body = [], Media("application/pdf", b"%PDF-1.4\n%%EOF\n")
    return write(document)


DOCUMENTS = {
    "full": write(convert(full_plan().bundle(), EMISSION).document),
    "pps": write(small_pps()),
    "unstructured": _unstructured(),
}


def check(data: bytes) -> None:
    """Against the whole document; the tree must stay as it is."""
    tree = parse(data)
    before = etree.tostring(tree)
    found = read_header(tree)
    whole = read(data).document
    whole.sections = []
    assert found == whole
    assert etree.tostring(tree) == before


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_is_that_of_the_whole_document(name: str) -> None:
    check(DOCUMENTS[name])


def test_it_is_that_of_every_official_example(cisis: Path) -> None:
    for path in official_documents().values():
        check(path.read_bytes())


def test_comments_do_not_split_a_text() -> None:
    check(DOCUMENTS["pps"].replace(b"<title>", b"<title>Plan <!-- of --><?care of?>", 1))


def test_a_self_displaying_document_is_read_from_its_style_sheet() -> None:
    content = DOCUMENTS["pps"].partition(b"?>")[2].decode()
    sheet = (
        '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
        f'<c:Contenu xmlns:c="urn:asip-sante:ci-sis">{content}</c:Contenu></xsl:stylesheet>'
    )
    check(sheet.encode())
    assert read_header(parse(sheet.encode())).self_displaying


@settings(max_examples=60, deadline=None, database=None)
@given(choices=st.lists(st.integers(0, 10_000), min_size=1, max_size=20))
def test_it_is_that_of_a_mutilated_document(choices: list[int]) -> None:
    root = etree.fromstring(DOCUMENTS["pps"])
    for choice in choices:
        elements = list(root.iterdescendants())
        chosen = elements[choice % len(elements)]
        parent = chosen.getparent()
        assert parent is not None
        if choice % 2:
            parent.remove(chosen)
        else:
            parent.append(chosen)
        if not len(root):
            return
    check(etree.tostring(root))


def test_another_root_is_refused() -> None:
    with pytest.raises(UnreadableError, match="not a CDA document"):
        read_header(parse(b"<ClinicalDocument/>"))
