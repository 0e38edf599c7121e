"""Any CI-SIS document received: every official one is imported whole, or refused in so many words; none is a crash.

Header and narrative of CR de biologie, CR d'imagerie, VSM, lettre de liaison, programme de soins… Altered copies,
elements and attributes taken away, doubled or spoilt, are imported or refused, never anything else.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from relais.cda.errors import RelaisError
from relais.cda.model import Section
from relais.cda.narrative import plain_text
from relais.cda.parsing import parse
from relais.cda.reader import ReadDocument, read
from relais.cda.rendering import to_html
from relais.mappings.context import Imported
from relais.mappings.from_cda import to_bundle
from relais.profiles import structure
from support.official import official_documents

Resource = dict[str, Any]

DOCUMENTS = official_documents()
pytestmark = pytest.mark.skipif(not DOCUMENTS, reason="official CI-SIS rules not found: set RELAIS_CISIS_PACK")


@pytest.fixture(scope="module", params=DOCUMENTS)
def data(request: pytest.FixtureRequest) -> bytes:
    """The bytes of an official document."""
    return DOCUMENTS[request.param].read_bytes()


@pytest.fixture(scope="module")
def source(data: bytes) -> ReadDocument:
    """The document as read."""
    return read(data)


@pytest.fixture(scope="module")
def result(data: bytes, source: ReadDocument) -> Imported:
    """What it is imported as."""
    return to_bundle(source.document, data)


def resources(result: Imported, *types: str) -> list[Resource]:
    """The resources of those types."""
    return [one["resource"] for one in result.bundle["entry"] if one["resource"]["resourceType"] in types]


def references(element: Any) -> Iterator[str]:
    """Every Reference.reference below an element."""
    if isinstance(element, dict):
        if isinstance(element.get("reference"), str):
            yield element["reference"]
        for part in element.values():
            yield from references(part)
    elif isinstance(element, list):
        for part in element:
            yield from references(part)


def test_there_are_documents_of_several_volets() -> None:
    assert len(DOCUMENTS) >= 9


def test_the_bundle_is_valid_and_its_references_resolve(result: Imported) -> None:
    assert structure.check(result.bundle) == []
    known = {entry["fullUrl"] for entry in result.bundle["entry"]}
    assert set(references(result.bundle)) <= known
    assert len(known) == len(result.bundle["entry"])
    assert result.bundle["entry"][0]["resource"]["resourceType"] == "Composition"


def test_the_patient_is_the_one_of_the_document(result: Imported, source: ReadDocument) -> None:
    (patient,) = resources(result, "Patient")
    stated = source.document.header.patient
    assert {one["value"] for one in patient["identifier"]} == {ii.extension for ii in stated.ids if ii.root}
    assert patient["birthDate"].replace("-", "") == (stated.birth_time or "")[:8]
    families = {part.text for part in stated.name.families}
    assert families == {name["family"] for name in patient["name"] if "family" in name}


def test_the_bytes_are_untouched_and_described(result: Imported, source: ReadDocument, data: bytes) -> None:
    header = source.document.header
    (described,) = [one for one in resources(result, "DocumentReference") if "docStatus" in one]
    attachment = described["content"][0]["attachment"]
    binary = next(e["resource"] for e in result.bundle["entry"] if e["fullUrl"] == attachment["url"])
    assert base64.b64decode(binary["data"]) == data
    assert attachment["size"] == len(data)
    assert base64.b64decode(attachment["hash"]) == hashlib.sha1(data, usedforsecurity=False).digest()
    assert described["type"]["coding"][0]["code"] == header.code.code
    assert {"masterIdentifier", "identifier", "subject", "date", "author", "custodian", "authenticator"} <= set(
        described
    )
    assert {"facilityType", "practiceSetting", "period", "sourcePatientInfo"} <= set(described["context"])
    assert described["securityLabel"][0]["coding"][0]["code"] == (
        header.confidentiality and header.confidentiality.code
    )


def test_everybody_of_the_header_is_there(result: Imported, source: ReadDocument) -> None:
    header = source.document.header
    people = [author.assigned.person for author in header.authors] + [one.name for one in header.participants]
    people += [one.related.name if one.related else None for one in header.informants]
    wanted = {part.text for person in people if person for part in person.families}
    found = {
        name["family"]
        for one in resources(result, "Practitioner", "RelatedPerson", "Patient")
        for name in one.get("name", ())
        if "family" in name
    }
    assert wanted <= found
    structures = {author.assigned.organization.name for author in header.authors if author.assigned.organization}
    assert {name for name in structures if name} <= {one.get("name") for one in resources(result, "Organization")}
    assert bool(resources(result, "CareTeam")) == bool(header.participants)


def _stated(sections: list[Resource]) -> Iterator[Resource]:
    for section in sections:
        yield section
        yield from _stated(section.get("section", []))


def _source(sections: list[Section]) -> Iterator[Section]:
    for section in sections:
        yield section
        yield from _source(section.sections)


def test_every_section_keeps_its_title_code_and_words(result: Imported, source: ReadDocument) -> None:
    (composition,) = resources(result, "Composition")
    if source.document.non_xml_body is not None:
        assert composition["section"][0]["entry"]
        return
    pairs = zip(_source(source.document.sections), _stated(composition["section"]), strict=True)
    for section, stated in pairs:
        assert stated.get("title") == section.title
        if section.code and section.code.code:
            assert stated["code"]["coding"][0]["code"] == section.code.code
        told = html.unescape(re.sub(r"<[^>]*>", "", stated.get("text", {}).get("div", "")))
        words = "".join(plain_text(section.text).split())
        assert words in "".join(told.split()) or "renderMultiMedia" in str(section.text)


def test_what_is_not_carried_over_is_said(result: Imported, source: ReadDocument) -> None:
    unread = [f"[{index}]" for index, one in enumerate(source.document.sections, 1) if one.entries]
    (composition,) = resources(result, "Composition")
    said = " ".join(issue.path for issue in result.issues)
    for place in unread:
        number = int(place[1:-1])
        assert composition["section"][number - 1].get("entry") or f"component{place}/section" in said
    assert {issue.severity for issue in (*source.issues, *result.issues)} <= {"information", "warning"}


# --- altered copies -----------------------------------------------------------------------------------------------


@cache
def tree_of(path: Path) -> etree._Element:
    """The parsed document, without embedded files: they only slow the test down."""
    root = parse(path.read_bytes()).getroot()
    for element in root.iter():
        if element.text and len(element.text) > 10_000:
            element.text = "JVBERi0xLjQKJSVFT0YK"
    return root


def altered(root: etree._Element, chance: random.Random, times: int) -> bytes:
    """A copy in which elements or attributes were taken away, doubled, moved or spoilt at random."""
    changed = copy.deepcopy(root)
    for _ in range(times):
        elements = [one for one in changed.iter() if isinstance(one.tag, str)]
        _alter(chance.choice(elements), chance, chance.choice(elements))
    return etree.tostring(changed)


SPOILT = (
    "",
    " ",
    "x",
    "0",
    "-1",
    "99999999999999999999",
    "é\u202e",
    "20260230",
    "1.2.3",
    "#",
    "a" * 300,
    "true",
    "B64",
)


def _alter(element: etree._Element, chance: random.Random, other: etree._Element) -> None:
    parent = element.getparent()
    kind = chance.choice(("remove", "double", "empty", "text", "attribute", "attribute", "spoil", "move", "rename"))
    if kind in ("remove", "double", "move") and parent is None:
        return
    if kind == "remove":
        parent.remove(element)  # type: ignore[union-attr]
    elif kind == "double":
        parent.append(copy.deepcopy(element))  # type: ignore[union-attr]
    elif kind == "empty":
        element.clear()
    elif kind == "text":
        element.text = chance.choice(SPOILT)
    elif kind == "move" and element not in other.iterancestors() and element is not other:
        other.append(element)
    elif kind == "rename":
        element.tag = chance.choice(("{urn:hl7-org:v3}id", "{urn:hl7-org:v3}code", "{urn:other}x", "text", other.tag))
    elif element.attrib:
        name = chance.choice(list(element.attrib))
        if kind == "attribute":
            del element.attrib[name]
        else:
            element.attrib[name] = chance.choice(SPOILT)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(DOCUMENTS) or [""]), st.integers(0, 2**32), st.integers(1, 12))
def test_an_altered_copy_is_imported_or_refused(name: str, seed: int, times: int) -> None:
    data = altered(tree_of(DOCUMENTS[name]), random.Random(seed), times)
    try:
        source = read(data)
        result = to_bundle(source.document, data)
    except RelaisError as error:
        assert all(issue.message and (issue.path or issue.rule) for issue in error.issues)
        return
    assert [issue for issue in structure.check(result.bundle) if issue.severity in ("error", "fatal")] == []
    assert set(references(result.bundle)) <= {entry["fullUrl"] for entry in result.bundle["entry"]}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(DOCUMENTS) or [""]), st.integers(0, 2**32), st.integers(1, 12))
def test_an_altered_copy_is_shown_or_refused(name: str, seed: int, times: int) -> None:
    data = altered(tree_of(DOCUMENTS[name]), random.Random(seed), times)
    try:
        page = to_html(read(data).document)
    except RelaisError:
        return
    assert "<script" not in page.lower()
