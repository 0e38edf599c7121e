"""The writer: general rules of CI-SIS documents, and that what it writes is read back unchanged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from relais.cda import model
from relais.cda.errors import RelaisError
from relais.cda.model import (
    II,
    Address,
    Code,
    Document,
    Interval,
    NamePart,
    Organization,
    PersonName,
    Quantity,
    Section,
    Statement,
    Telecom,
    Text,
    Unmodelled,
)
from relais.cda.narrative import Element, Node
from relais.cda.parsing import SDTC, V3, XSI, parse
from relais.cda.reader import read
from relais.cda.writer import write
from support.documents import small_document, small_pps


@pytest.fixture(scope="module")
def schema(cisis: Path) -> etree.XMLSchema:
    folder = cisis / "cda" / "infrastructure" / "cda"
    return etree.XMLSchema(etree.parse(str(folder / "CDA_extended.xsd")))


# --- general rules --------------------------------------------------------------------------------------------


def test_the_form_of_a_document(schema: etree.XMLSchema) -> None:
    data = write(small_document())
    assert data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<ClinicalDocument ')
    root = parse(data).getroot()
    assert root.nsmap == {None: V3, "xsi": XSI}
    assert root.attrib == {}
    assert not any(text.strip() == "" for text in root.itertext())
    schema.assertValid(root)


def test_a_document_with_an_entry_is_valid_and_survives(schema: etree.XMLSchema) -> None:
    _assert_survives(small_pps(), schema)


def test_the_header_is_in_the_order_of_the_schema() -> None:
    root = parse(write(small_document())).getroot()
    assert [etree.QName(child).localname for child in root] == [
        "realmCode",
        "typeId",
        "templateId",
        "templateId",
        "templateId",
        "id",
        "code",
        "title",
        "effectiveTime",
        "confidentialityCode",
        "languageCode",
        "setId",
        "versionNumber",
        "recordTarget",
        "author",
        "custodian",
        "legalAuthenticator",
        "documentationOf",
        "componentOf",
        "component",
    ]


def test_the_same_document_gives_the_same_bytes() -> None:
    assert write(small_document()) == write(small_document())


def test_sdtc_is_declared_only_when_it_is_used(schema: etree.XMLSchema) -> None:
    document = small_document()
    document.header.title = "<sdtc:deceasedInd/>"
    assert SDTC.encode() not in write(document)
    document.header.patient.deceased = False
    document.header.patient.multiple_birth_order = 2
    data = write(document)
    assert parse(data).getroot().nsmap["sdtc"] == SDTC
    schema.assertValid(parse(data))


def test_a_part_that_says_nothing_is_not_written() -> None:
    document = small_document()
    before = write(document)
    document.header.authors[0].assigned.telecoms.append(Telecom())
    document.header.authors[0].assigned.addresses.append(Address(lines=[""]))
    document.header.patient.name.givens.append(NamePart(""))
    document.header.patient.name.prefix = ""
    document.header.data_enterer = model.DataEnterer(model.AssignedEntity(organization=Organization(names=[""])))
    document.header.informants.append(model.Informant())
    document.header.encounter.code = Code(original_text=Text(), translations=[Code()])  # type: ignore[union-attr]
    document.sections.append(Section(entries=[]))
    assert write(document) == before


def test_markup_and_white_space_in_text_and_attributes() -> None:
    document = small_document()
    nasty = "a <b> & \"c\" 'd' ]]>\te\nf\rg é 😀 \u2028 &amp;"
    document.header.title = nasty
    document.header.code.display = nasty
    document.sections[0].text = [nasty, Element("content", {"styleCode": nasty}, [nasty])]
    assert read(write(document)).document == document


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1f", "\ufffe", "\uffff", "\ud800", "\U0010fffe"])
def test_a_character_xml_cannot_carry_is_refused_with_its_places(character: str) -> None:
    document = small_document()
    document.header.title = f"SECRET{character}"
    document.header.patient.name.families[0].text = f"{character}SECRET"
    document.header.code.display = f"SECRET{character}"
    document.sections[0].text = [Element("paragraph", {}, [Element("br"), f"SECRET{character}"])]
    with pytest.raises(RelaisError) as caught:
        write(document)
    assert [issue.path for issue in caught.value.issues] == [
        "/ClinicalDocument/code/@displayName",
        "/ClinicalDocument/title",
        "/ClinicalDocument/recordTarget/patientRole/patient/name/family",
        "/ClinicalDocument/component/structuredBody/component/section/text/paragraph",
    ]
    assert "SECRET" not in str(caught.value)
    assert not re.search("[\x00-\x1f\ud800-\udfff]", str(caught.value))


@pytest.mark.parametrize("name", ["", "a b", "p><script", "1a", 'x="y"', "é"])
def test_a_narrative_name_that_is_no_name_is_refused(name: str) -> None:
    for element in (Element(name), Element("content", {name: "x"})):
        document = small_document()
        document.sections[0].text = [element]
        with pytest.raises(RelaisError, match="narrative"):
            write(document)


@pytest.mark.parametrize("xml", ["", "<value>", "<value/><x/>", "</value>", "\ud800", "<!DOCTYPE a><value/>"])
def test_kept_xml_that_is_no_element_is_refused(xml: str) -> None:
    document = small_document()
    document.sections[0].entries = [Statement("observation", "OBS", values=[Unmodelled(xml)])]
    with pytest.raises(RelaisError):
        write(document)


def test_an_unstructured_body(schema: etree.XMLSchema) -> None:
    document = small_document()
    document.sections = []
    document.non_xml_body = model.Media("application/pdf", b"%PDF-1.4\n\xff")
    data = write(document)
    schema.assertValid(parse(data))
    assert b'<text mediaType="application/pdf" representation="B64">JVBERi0xLjQK/w==</text>' in data
    assert read(data).document == document


@pytest.mark.parametrize("kind", ["substanceAdministration", "supply"])
def test_an_interval_says_its_type_where_the_schema_does_not(kind: str, schema: etree.XMLSchema) -> None:
    document = small_document()
    classes = {"substanceAdministration": "SBADM", "supply": "SPLY"}
    product = model.Product([II("1.2")], Code("60019927", "1.2.250.1.213.2.3.1"), "PRODUIT 100 mg")
    statement = Statement(kind, classes[kind], "EVN", time=Interval(low="2024", high="2025"), product=product)
    document.sections[0].entries = [statement]
    data = write(document)
    schema.assertValid(parse(data))
    assert b'<effectiveTime xsi:type="IVL_TS"><low value="2024"/>' in data
    assert read(data).document == document


def test_an_organizer_has_its_own_order(schema: etree.XMLSchema) -> None:
    document = small_document()
    part = model.Relationship("COMP", Statement("observation", "OBS", "EVN", code=Code("A", "1.2")), sequence_number=1)
    reference = model.ExternalReference("REFR", [II("1.2")])
    document.sections[0].entries = [
        Statement(
            "organizer",
            "CLUSTER",
            "EVN",
            text=Text("x"),
            status="completed",
            relationships=[part],
            references=[reference],
        )
    ]
    data = write(document)
    schema.assertValid(parse(data))
    assert data.index(b"<sdtc:text>") < data.index(b"<reference ") < data.index(b"<sequenceNumber")
    assert read(data).document == document


# --- what is written is read back unchanged, and valid --------------------------------------------------------
# Strategies respect the cardinalities and lexical forms of the schema; text is any text that XML can carry.

_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff\U0010fffe")
_ANY_TEXT = st.text(st.one_of(_CHARACTERS, st.sampled_from("<>&\"'\t\n\r ]")), min_size=1, max_size=12)
_TEXT = _ANY_TEXT.map(lambda text: text.strip(" \t\r\n")).filter(bool)
_TOKEN = st.sampled_from(["A", "76534-7", "GEN-065", "MED-1100", "<&>", "É"])
_OID = st.sampled_from(["1.2.250.1.71.4.2.1", "2.16.840.1.113883.6.1", "2.25.301245378217395437813294710347591823401"])
_TS = st.sampled_from(["2024", "202407", "20240705", "20240705143000+0200", "20240705143000"])
_NULL = st.sampled_from(["UNK", "NA", "NASK", "ASKU", "NI", "NAV", "MSK", "OTH"])
_URL = st.sampled_from(["tel:+33144534551", "mailto:a@example.org", "http://example.org/a?b=c&d=e"])


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def _few(strategy: st.SearchStrategy[Any], smallest: int = 0, largest: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(strategy, min_size=smallest, max_size=largest)


def _saying(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Without the parts that say nothing, which are not written."""
    return strategy.filter(lambda part: _said(part) != _said(type(part)()))


def _said(part: Any) -> str:
    """A part of a document in full, where an empty list says what an empty tuple does."""
    return repr(part).replace("()", "[]")


_IIS = st.builds(II, _OID, _maybe(_TEXT), _maybe(_NULL))
_TEXTS = _saying(st.builds(Text, _maybe(_TEXT), _maybe(_URL), _maybe(_NULL), st.none()))
_PLAIN_CODES = _saying(
    st.builds(Code, _maybe(_TOKEN), _maybe(_OID), _maybe(_ANY_TEXT), _maybe(_TEXT), _maybe(_TEXT), _maybe(_NULL))
)
_CODES = _saying(
    st.builds(
        Code,
        code=_maybe(_TOKEN),
        system=_maybe(_OID),
        display=_maybe(_ANY_TEXT),
        null_flavor=_maybe(_NULL),
        original_text=_maybe(_TEXTS),
        translations=_few(_PLAIN_CODES),
    )
)
_QUALIFIED_CODES = st.builds(
    Code,
    code=_TOKEN,
    original_text=_maybe(_TEXTS),
    qualifiers=_few(st.builds(model.Qualifier, _PLAIN_CODES, _maybe(_PLAIN_CODES))),
    translations=_few(_PLAIN_CODES),
)
_INTERVALS = st.one_of(
    st.builds(Interval, value=_TS),
    st.builds(Interval, null_flavor=_NULL),
    _saying(st.builds(Interval, low=_maybe(_TS), high=_maybe(_TS), low_null_flavor=_maybe(_NULL))),
    _saying(st.builds(Interval, low=_maybe(_TS), high_null_flavor=_maybe(_NULL))),
)
_NAME_PARTS = st.builds(NamePart, _TEXT, st.sampled_from([None, "BR", "CL", "SP"]))
_NAMES = _saying(
    st.builds(PersonName, _few(_NAME_PARTS), _few(_NAME_PARTS), _maybe(_TEXT), _maybe(_TEXT), null_flavor=_maybe(_NULL))
)
_USES = st.sampled_from([None, "H", "HP", "WP", "TMP"])
_ADDRESSES = _saying(
    st.builds(
        Address,
        *([_maybe(_TEXT)] * 13),
        lines=_few(_TEXT),
        use=_USES,
        null_flavor=_maybe(_NULL),
    )
)
_TELECOMS = _saying(st.builds(Telecom, _maybe(_URL), st.sampled_from([None, "H", "MC", "WP"]), _maybe(_NULL)))
_ORGANIZATIONS = _saying(
    st.builds(Organization, _few(_IIS), _few(_TEXT), _few(_TELECOMS), _few(_ADDRESSES), _maybe(_CODES))
)
_CUSTODIANS = st.builds(
    Organization, _few(_IIS, 1), _few(_TEXT, 0, 1), _few(_TELECOMS, 0, 1), _few(_ADDRESSES, 0, 1), st.none()
)
_DEVICES = _saying(st.builds(model.Device, _maybe(_TEXT), _maybe(_TEXT), _maybe(_CODES)))
_ASSIGNED = st.builds(
    model.AssignedEntity,
    ids=_few(_IIS, 1),
    code=_maybe(_CODES),
    addresses=_few(_ADDRESSES, 0, 1),
    telecoms=_few(_TELECOMS, 0, 1),
    person=_maybe(_NAMES),
    organization=_maybe(_ORGANIZATIONS),
)
_RELATED = st.builds(
    model.RelatedEntity,
    st.sampled_from(["ECON", "NOK", "CAREGIVER", "CON"]),
    _maybe(_CODES),
    _few(_ADDRESSES),
    _few(_TELECOMS),
    _maybe(_NAMES),
)
_INFORMANTS = st.builds(model.Informant, assigned=_ASSIGNED) | st.builds(model.Informant, related=_RELATED)
_AUTHORS = st.builds(model.Author, _TS, _ASSIGNED, _maybe(_CODES))
_DEVICE_AUTHORS = st.builds(
    model.Author, _TS, st.builds(model.AssignedEntity, ids=_few(_IIS, 1), device=_DEVICES), _maybe(_CODES)
)
_ENTRY_AUTHORS = st.builds(model.EntryAuthor, _ASSIGNED, _TS)
_PERFORMERS = st.builds(model.Performer, _ASSIGNED, st.just("PRF"), _maybe(_INTERVALS), _maybe(_CODES))
_GUARDIANS = st.builds(model.Guardian, _few(_IIS), _maybe(_CODES), _few(_ADDRESSES), person=_NAMES) | st.builds(
    model.Guardian, telecoms=_few(_TELECOMS), organization=_ORGANIZATIONS
)
_PATIENTS = st.builds(
    model.Patient,
    ids=_few(_IIS, 1),
    addresses=_few(_ADDRESSES),
    telecoms=_few(_TELECOMS),
    name=_NAMES,
    gender=_maybe(_CODES),
    birth_time=_maybe(_TS),
    birth_time_null_flavor=_maybe(_NULL),
    deceased=_maybe(st.booleans()),
    deceased_time=_maybe(_TS),
    multiple_birth=_maybe(st.booleans()),
    multiple_birth_order=_maybe(st.integers(1, 9)),
    guardians=_few(_GUARDIANS),
    birthplace=_maybe(_saying(st.builds(model.Birthplace, _maybe(_TEXT), _maybe(_ADDRESSES)))),
)
_ENCOUNTERS = st.builds(
    model.EncompassingEncounter,
    ids=_few(_IIS),
    code=_maybe(_CODES),
    time=_INTERVALS,
    discharge_disposition=_maybe(_CODES),
    responsible=_maybe(_ASSIGNED),
    participants=_few(
        st.builds(model.EncounterParticipant, st.sampled_from(["ADM", "ATND", "CON"]), _ASSIGNED, _maybe(_INTERVALS))
    ),
    facility=_maybe(
        _saying(st.builds(model.HealthCareFacility, _few(_IIS), _maybe(_CODES), _maybe(_TEXT), _maybe(_ADDRESSES)))
    ),
)
_HEADERS = st.builds(
    model.Header,
    template_ids=_few(_IIS),
    id=_IIS,
    code=_CODES,
    title=_maybe(_TEXT),
    effective_time=_TS,
    confidentiality=_CODES,
    language=st.sampled_from([None, "fr-FR"]),
    set_id=_maybe(_IIS),
    version_number=_maybe(st.integers(1, 99)),
    patient=_PATIENTS,
    authors=_few(_AUTHORS | _DEVICE_AUTHORS, 1),
    data_enterer=_maybe(st.builds(model.DataEnterer, _ASSIGNED, _maybe(_TS))),
    informants=_few(_INFORMANTS),
    custodian=_CUSTODIANS,
    recipients=_few(
        _saying(
            st.builds(
                model.Recipient,
                _few(_IIS, 1),
                _few(_ADDRESSES),
                _few(_TELECOMS),
                _maybe(_NAMES),
                _maybe(_ORGANIZATIONS),
                st.sampled_from([None, "PRCP", "TRC"]),
            )
        )
    ),
    legal_authenticator=_maybe(st.builds(model.Authenticator, _TS, _ASSIGNED)),
    authenticators=_few(st.builds(model.Authenticator, _TS, _ASSIGNED)),
    participants=_few(
        st.builds(
            model.Participant,
            st.sampled_from(["REF", "INF", "PRF"]),
            st.sampled_from(["PROV", "AGNT"]),
            _maybe(_CODES),
            _maybe(_INTERVALS),
            _few(_IIS),
            _maybe(_CODES),
            _few(_ADDRESSES),
            _few(_TELECOMS),
            _maybe(_NAMES),
            _maybe(_ORGANIZATIONS),
        )
    ),
    orders=_few(st.builds(model.Order, _few(_IIS, 1), _maybe(_CODES))),
    service_events=_few(
        st.builds(
            model.ServiceEvent,
            _few(_IIS, 1),
            _maybe(_CODES),
            _maybe(_INTERVALS),
            _few(_PERFORMERS),
            st.sampled_from([None, "ACT", "PROC"]),
        )
    ),
    related_documents=_few(
        st.builds(model.RelatedDocument, _few(_IIS, 1), st.just("RPLC"), _maybe(_IIS), _maybe(st.integers(1, 9)))
    ),
    consents=_few(st.builds(model.Consent, _few(_IIS), _maybe(_CODES))),
    encounter=_maybe(_ENCOUNTERS),
)


def _merged(nodes: list[Node]) -> list[Node]:
    """Neighbouring texts as one: XML knows no border between them."""
    merged: list[Node] = []
    for node in nodes:
        previous = merged[-1] if merged else None
        if isinstance(node, str) and isinstance(previous, str):
            merged[-1] = previous + node
        else:
            merged.append(node)
    return merged


def _element(tag: str, children: st.SearchStrategy[list[Node]], **attributes: str) -> st.SearchStrategy[Element]:
    return st.builds(Element, st.just(tag), st.just(attributes), children)


_RUNS: st.SearchStrategy[list[Node]] = _few(
    _ANY_TEXT
    | st.builds(Element, st.just("br"))
    | _element("content", _few(_ANY_TEXT, 0, 1), styleCode="Bold")
    | _element("linkHtml", _few(_ANY_TEXT, 1, 1), href="https://example.org/?a=b&c=d")
    | _element("sup", _few(_ANY_TEXT, 1, 1)),
    0,
    4,
).map(_merged)
_LISTS = _element("list", _few(_element("item", _RUNS), 1), listType="unordered")
_ROWS = _few(_element("tr", _few(_element("td", _RUNS) | _element("th", _RUNS), 1)), 1)
_TABLES = _element("table", _few(st.builds(Element, st.just("tbody"), st.just({"align": "left"}), _ROWS), 1, 1))
_NARRATIVES = _few(_ANY_TEXT | _element("paragraph", _RUNS) | _LISTS | _TABLES, 0, 4).map(_merged)

_NUMBERS = st.decimals(-10_000, 10_000, places=3).map(str)
_VALUES = st.one_of(
    _QUALIFIED_CODES,
    _TEXTS,
    _INTERVALS,
    _saying(st.builds(model.Boolean, _maybe(st.booleans()), _maybe(_NULL))),
    _saying(st.builds(model.Integer, _maybe(st.integers(-(10**9), 10**9)), _maybe(_NULL))),
    _saying(st.builds(Quantity, _maybe(_NUMBERS), _maybe(_TOKEN), _maybe(_NULL))),
    _saying(st.builds(model.String, _maybe(_TEXT), _maybe(_NULL))),
    _saying(st.builds(model.Timestamp, _maybe(_TS), _maybe(_NULL))),
    st.builds(model.Media, st.just("application/pdf"), st.binary(min_size=1, max_size=20), st.none(), _maybe(_URL)),
)
_ENTRY_PARTICIPANTS = st.builds(
    model.EntryParticipant,
    type_code=st.sampled_from(["PRF", "LOC", "DEV"]),
    template_ids=_few(_IIS),
    time=_maybe(_INTERVALS),
    role_class=st.sampled_from(["ROL", "MANU", "PROV"]),
    ids=_few(_IIS),
    code=_maybe(_CODES),
    addresses=_few(_ADDRESSES, 0, 1),
    entity_class=_maybe(st.sampled_from(["PLC", "PSN"])),
    entity_code=_maybe(_CODES),
    name=_maybe(_NAMES),
    description=_maybe(_TEXT),
    scoping_id=_maybe(_IIS),
    scoping_description=_maybe(_TEXT),
)
_REFERENCES = st.builds(
    model.ExternalReference,
    st.sampled_from(["REFR", "SPRT"]),
    _few(_IIS, 1),
    _maybe(_CODES),
    _maybe(_TEXTS),
    st.just("externalDocument"),
    _maybe(_IIS),
    _maybe(st.integers(1, 9)),
) | st.builds(
    model.ExternalReference,
    st.just("REFR"),
    _few(_IIS, 1),
    kind=st.sampled_from(["externalAct", "externalObservation"]),
)


def _statements(depth: int) -> st.SearchStrategy[Statement]:
    relationships = (
        _few(
            st.builds(
                model.Relationship,
                st.sampled_from(["SUBJ", "COMP", "REFR", "RSON"]),
                st.deferred(lambda: _statements(depth - 1)),
                _maybe(st.booleans()),
                _maybe(st.integers(1, 9)),
            )
        )
        if depth
        else st.just([])
    )
    common: dict[str, st.SearchStrategy[Any]] = {
        "template_ids": _few(_IIS),
        "ids": _few(_IIS),
        "text": _maybe(_TEXTS),
        "status": st.sampled_from(["active", "completed"]),
        "time": _maybe(_INTERVALS),
        "performers": _few(_PERFORMERS, 0, 1),
        "authors": _few(_ENTRY_AUTHORS, 0, 1),
        "informants": _few(_INFORMANTS, 0, 1),
        "participants": _few(_ENTRY_PARTICIPANTS, 0, 1),
        "relationships": relationships,
        "references": _few(_REFERENCES, 0, 1),
        "criteria": _few(_TEXTS, 0, 1),
    }
    observation = st.builds(
        Statement,
        kind=st.just("observation"),
        class_code=st.just("OBS"),
        mood_code=st.sampled_from(["EVN", "GOL", "INT"]),
        negation=_maybe(st.booleans()),
        code=_QUALIFIED_CODES,
        priority=_maybe(_CODES),
        language=st.sampled_from([None, "fr-FR"]),
        values=_few(_VALUES),
        interpretations=_few(_CODES, 0, 1),
        methods=_few(_CODES, 0, 1),
        target_sites=_few(_CODES, 0, 1),
        **common,
    )
    act = st.builds(
        Statement,
        kind=st.just("act"),
        class_code=st.just("ACT"),
        mood_code=st.just("EVN"),
        code=_CODES,
        priority=_maybe(_CODES),
        **common,
    )
    encounter = st.builds(
        Statement,
        kind=st.just("encounter"),
        class_code=st.just("ENC"),
        mood_code=st.sampled_from(["EVN", "ARQ"]),
        code=_maybe(_CODES),
        **common,
    )
    return observation | act | encounter


def _sections(depth: int) -> st.SearchStrategy[Section]:
    return st.builds(
        Section,
        template_ids=_few(_IIS, 1),
        id=_maybe(_IIS),
        code=_maybe(_CODES),
        title=_maybe(_TEXT),
        text=_NARRATIVES,
        entries=_few(_statements(1)),
        sections=_few(_sections(depth - 1), 0, 1) if depth else st.just([]),
        authors=_few(_ENTRY_AUTHORS, 0, 1),
    )


_CHECKS = settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _assert_survives(document: Document, schema: etree.XMLSchema) -> None:
    data = write(document)
    schema.assertValid(parse(data))
    result = read(data)
    assert _said(result.document) == _said(document)
    assert result.issues == []


@_CHECKS
@given(header=_HEADERS)
def test_any_header_survives_and_is_valid(header: model.Header, schema: etree.XMLSchema) -> None:
    _assert_survives(Document(header, sections=small_document().sections), schema)


@_CHECKS
@given(section=_sections(1))
def test_any_section_survives_and_is_valid(section: Section, schema: etree.XMLSchema) -> None:
    _assert_survives(Document(small_document().header, sections=[section]), schema)


@_CHECKS
@given(nodes=_NARRATIVES)
def test_any_narrative_survives_and_is_valid(nodes: list[Node], schema: etree.XMLSchema) -> None:
    document = small_document()
    document.sections[0].text = nodes
    _assert_survives(document, schema)
