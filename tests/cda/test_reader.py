"""The hardened parser, the tolerant reader, and its account of what the model cannot hold."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from relais.cda.errors import RelaisError, UnreadableError
from relais.cda.model import Code, Media, String, Text, Unmodelled
from relais.cda.narrative import Element
from relais.cda.parsing import MAX_ATTRIBUTES, MAX_DEPTH, MAX_TAGS, SDTC, V3, XSI, Places, parse
from relais.cda.reader import ReadDocument, read
from relais.cda.writer import write
from support.documents import small_document

EXAMPLES = (
    "PPS-PAERPA_2022.01.xml",
    "CANCER-PPS_2025.01.xml",
    "LDL-SES_2022.01.xml",
    "DOC_NON_STRUCTURE_CDA-R2-N1.xml",
)


# --- parse: what is refused -----------------------------------------------------------------------------------


def _laughs() -> bytes:
    steps = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE a [<!ENTITY e0 "ha">{steps}]><a b="&e9;">&e9;</a>'.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE ClinicalDocument><ClinicalDocument/>",
        b'<?xml version="1.0"?>\n<!-- first --><!DOCTYPE a SYSTEM "http://example.org/a.dtd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
        b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://example.org/x"> %x;]><a/>',
        _laughs(),
        b"<!--" + b"-x" * 50_000 + b"--><!DOCTYPE a><a/>",
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY x "1">]><a>&x;</a>'.encode("utf-16"),
    ],
    ids=["bare", "system", "external entity", "parameter entity", "billion laughs", "late", "utf-16"],
)
def test_a_document_type_declaration_is_refused_at_once(data: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(UnreadableError) as caught:
        parse(data)
    assert time.perf_counter() - start < 1
    (issue,) = caught.value.issues
    assert (issue.severity, issue.code) == ("fatal", "security")
    assert "DTD" in issue.message
    assert issue.path.startswith("line ")


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b"", "line 1, column 1", "not XML"),
        (b"  \n", "line 2, column 1", "not XML"),
        (b'{"resourceType": "Bundle"}', "line 1, column 1", "not XML"),
        (b"%PDF-1.4\n%%EOF", "line 1, column 9", "not XML"),
        (b"<a>\n  <b>\n", "line 3, column 1", "tag"),
        (b"<a>\n<b></a>", "line 2, column 8", "tag name mismatch"),
        (b"<a/><b/>", "line 1, column 5", "document end"),
        (b"<a>&nbsp;</a>", "line 1, column 10", "undeclared entity"),
        (b"<a>\x07</a>", "line 1, column 4", "invalid char"),
        (b"<a>&#1;</a>", "line 1, column 8", "invalid char"),
        (b"<a>\xe9t\xe9</a>", "line 1, column 4", "invalid encoding"),
        ("<?xml version='1.0' encoding='US-ASCII'?><a>é</a>".encode(), "line 1, column 40", "invalid encoding"),
        (b'<?xml version="1.0" encoding="UTF-7"?><a/>', "line 1", "encoding"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "line 1", "encoding"),
        (b"<x:a/>", "line 1, column 5", "undefined namespace"),
    ],
)
def test_what_is_not_well_formed_is_refused_with_its_place(data: bytes, place: str, message: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse(data)
    (issue,) = caught.value.issues
    assert issue.path == place
    assert message in issue.message


def test_errors_never_quote_the_text() -> None:
    for data in (b"<a><!-- DUPONT -- x --></a>", b"<a b='DUPONT&'/>", b"<a>\xe9DUPONT</a>", b"<a>DUPONT ]]></a>"):
        with pytest.raises(UnreadableError) as caught:
            parse(data)
        assert "DUPONT" not in str(caught.value)


def test_depth_is_limited() -> None:
    assert parse(b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH).getroot().tag == "a"
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(UnreadableError, match="elements nest deeper than 100") as caught:
            parse(b"<a>\n" * depth + b"</a>" * depth)
        (issue,) = caught.value.issues
        assert issue.code == "too-costly"
        assert issue.path.startswith("line ")


def test_number_of_tags_is_bounded() -> None:
    inside = b"<b/>" * (MAX_TAGS - 2)
    assert len(parse(b"<a>" + inside + b"</a>").getroot()) == MAX_TAGS - 2
    with pytest.raises(UnreadableError, match="more than 1000000 tags") as caught:
        parse(b"<a>" + inside + b"<b/></a>")
    assert caught.value.issues[0].code == "too-costly"


def test_number_of_attributes_of_an_element_is_bounded() -> None:
    names = [f'a{number}="="' for number in range(MAX_ATTRIBUTES + 1)]
    assert len(parse(f"<a>\n<b {' '.join(names[1:])}/></a>".encode()).getroot()[0].attrib) == MAX_ATTRIBUTES
    with pytest.raises(UnreadableError, match="more than 1000 attributes") as caught:
        parse(f"<a>\n<b {' '.join(names)}/></a>".encode())
    assert (caught.value.issues[0].code, caught.value.issues[0].path) == ("too-costly", "line 2")


def test_size_is_limited_but_a_text_may_be_as_large() -> None:
    data = b"<a>" + b"x" * 11_000_000 + b"</a>"
    assert len(parse(data).getroot().text or "") == 11_000_000
    with pytest.raises(UnreadableError, match="larger than 1000 bytes"):
        parse(data, max_size=1000)


def test_other_encodings_and_a_byte_order_mark_are_read() -> None:
    for encoding in ("UTF-8", "UTF-16", "ISO-8859-1", "ISO-8859-15", "windows-1252"):
        data = f'<?xml version="1.0" encoding="{encoding}"?><a>é</a>'.encode(encoding)
        assert parse(data).getroot().text == "é"
    assert parse(b"\xef\xbb\xbf<a/>").getroot().tag == "a"


def test_parse_includes_nothing_and_keeps_comments() -> None:
    include = b'<i:include href="file:///etc/hostname" parse="text"/>'
    data = b'<a xmlns:i="http://www.w3.org/2001/XInclude">' + include + b"<!--c--></a>"
    assert etree.tostring(parse(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"<ClinicalDocument/>",
        b'<ClinicalDocument xmlns="urn:hl7-org:v2"/>',
        b'<Bundle xmlns="http://hl7.org/fhir"/>',
        b'<section xmlns="urn:hl7-org:v3"/>',
    ],
)
def test_another_root_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="root must be ClinicalDocument"):
        read(data)


# --- read: the official examples ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema(cisis: Path) -> etree.XMLSchema:
    folder = cisis / "cda" / "infrastructure" / "cda"
    return etree.XMLSchema(etree.parse(str(folder / "CDA_extended.xsd")))


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request: pytest.FixtureRequest, cisis: Path) -> ReadDocument:
    return read((cisis / "cda" / "examples" / str(request.param)).read_bytes())


@pytest.fixture(scope="module")
def pps(cisis: Path) -> bytes:
    return (cisis / "cda" / "examples" / EXAMPLES[0]).read_bytes()


def test_an_example_survives_unchanged_and_valid(example: ReadDocument, schema: etree.XMLSchema) -> None:
    written = write(example.document)
    schema.assertValid(parse(written))
    again = read(written)
    assert again.document == example.document
    assert again.issues == []


_BODY = "/ClinicalDocument/component/structuredBody"
_EMPTY_IDS = (
    "component[1]/section/entry[2]/observation/id",
    "component[1]/section/entry[3]/observation/id",
    "component[1]/section/entry[4]/observation/id",
    "component[2]/section/entry[9]/observation/id",
    "component[3]/section/entry[2]/procedure/entryRelationship[4]/observation/id",
    "component[3]/section/entry[3]/procedure/entryRelationship[4]/observation/id",
)
_DOSAGE = tuple(
    f"component[{section}]/section/entry/substanceAdministration/{part}"
    for section in (4, 5)
    for part in ("effectiveTime[2]", "doseQuantity", "rateQuantity", "maxDoseQuantity")
)


@pytest.mark.parametrize(
    ("name", "paths"),
    [*zip(EXAMPLES, ((), _EMPTY_IDS, _DOSAGE, ()), strict=True)],
)
def test_what_the_model_cannot_hold_of_an_example(cisis: Path, name: str, paths: tuple[str, ...]) -> None:
    issues = read((cisis / "cda" / "examples" / name).read_bytes()).issues
    assert [issue.path for issue in issues] == [f"{_BODY}/{path}" for path in paths]
    assert {(issue.severity, issue.code) for issue in issues} <= {("information", "not-supported")}


def test_the_pps_example_is_read(pps: bytes) -> None:
    document = read(pps).document
    header = document.header
    assert header.code.code == "18776-5"
    assert [part.qualifier for part in header.patient.name.families] == ["BR", "CL"]
    assert [informant.related.class_code for informant in header.informants if informant.related] == [
        "ECON",
        "NOK",
        "CON",
        "CON",
    ]
    assert len(header.participants) == 5
    assert [section.code.code for section in document.sections if section.code] == [
        "11450-4",
        "42348-3",
        "34841-7",
        "18776-5",
        "33557-0",
    ]
    goals = [entry for entry in document.sections[3].entries if entry.mood_code == "GOL"]
    assert len(goals) == 2
    assert all(goal.relationships for goal in goals)


def test_the_attached_file_of_an_example_is_decoded(cisis: Path) -> None:
    body = read((cisis / "cda" / "examples" / EXAMPLES[3]).read_bytes()).document.non_xml_body
    assert body is not None
    assert body.media_type == "application/pdf"
    assert (body.data or b"").startswith(b"%PDF-")


# --- read: nothing is dropped unseen --------------------------------------------------------------------------

_UNTOLD = (f"{{{XSI}}}schemaLocation",)


def _elements(data: bytes) -> list[etree._Element]:
    return [element for element in parse(data).getroot().iter() if isinstance(element.tag, str)]


@settings(max_examples=60, deadline=None, database=None)
@given(choice=st.integers(0, 10_000))
def test_every_attribute_is_read_or_reported(pps: bytes, choice: int) -> None:
    original = read(pps)
    attributes = [(element, str(name)) for element in _elements(pps) for name in element.attrib if name not in _UNTOLD]
    element, name = attributes[choice % len(attributes)]
    element.set(name, "altered")
    altered = read(etree.tostring(element.getroottree()))
    assert altered.document != original.document or altered.issues != original.issues, f"{Places().of(element)}/@{name}"


@settings(max_examples=60, deadline=None, database=None)
@given(choice=st.integers(0, 10_000))
def test_every_text_is_read_or_reported(pps: bytes, choice: int) -> None:
    original = read(pps)
    elements = _elements(pps)
    element = elements[choice % len(elements)]
    element.text = f"{element.text or ''} ajout "
    altered = read(etree.tostring(element.getroottree()))
    assert altered.document != original.document or altered.issues != original.issues, Places().of(element)


@settings(max_examples=60, deadline=None, database=None)
@given(choice=st.integers(0, 10_000), tag=st.sampled_from([f"{{{V3}}}unknown", f"{{{SDTC}}}unknown", "{urn:x}unknown"]))
def test_an_unknown_element_is_kept_or_reported(pps: bytes, choice: int, tag: str) -> None:
    elements = _elements(pps)
    parent = elements[choice % len(elements)]
    etree.SubElement(parent, tag, value="x")
    altered = read(etree.tostring(parent.getroottree()))
    if b"unknown" not in write(altered.document):  # a narrative keeps every HL7 element
        name = tag.replace(f"{{{V3}}}", "").replace(f"{{{SDTC}}}", "sdtc:")
        assert f"{Places().of(parent)}/{name}" in [issue.path for issue in altered.issues]


@settings(max_examples=60, deadline=None, database=None)
@given(choices=st.lists(st.integers(0, 10_000), min_size=1, max_size=20))
def test_a_mutilated_document_is_read_and_stays_what_it_was_read_as(pps: bytes, choices: list[int]) -> None:
    tree = parse(pps)
    for choice in choices:
        elements = [element for element in tree.getroot().iter() if isinstance(element.tag, str)][1:]
        element = elements[choice % len(elements)]
        if element.attrib and choice % 2:
            del element.attrib[sorted(element.attrib)[0]]
        else:
            etree.strip_elements(tree, element.tag, with_tail=False) if choice % 5 == 0 else element.clear()
    document = read(etree.tostring(tree)).document
    assert read(write(document)).document == document


# --- read: details --------------------------------------------------------------------------------------------


def _with_observation(content: str) -> bytes:
    """The small document with one entry: an observation holding `content`."""
    entry = f'<entry><observation classCode="OBS" moodCode="EVN">{content}</observation></entry>'
    return write(small_document()).replace(b"</text></section>", f"</text>{entry}</section>".encode())


def _issues(data: bytes) -> list[str]:
    return [f"{issue.path.rpartition('/')[2]}: {issue.message.split(' not ')[0]}" for issue in read(data).issues]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('<value xsi:type="CE" code="A" codeSystem="1.2"/>', Code("A", "1.2")),
        ('<value xmlns:h="urn:hl7-org:v3" xsi:type="h:ST"> a\n b </value>', String("a\n b")),
        ('<value xsi:type="ED"><reference value="#x"/></value>', Text(reference="#x")),
        ('<value xsi:type="ED" mediaType="text/plain">né</value>', Media("text/plain", "né".encode())),
        ('<value xsi:type="ED" mediaType="a/b" representation="B64"> AA\nEC </value>', Media("a/b", b"\0\1\2")),
    ],
)
def test_values(content: str, value: object) -> None:
    result = read(_with_observation(content))
    assert result.document.sections[0].entries[0].values == [value]
    assert result.issues == []


def test_a_value_of_another_type_is_kept_as_xml() -> None:
    content = '<value xmlns:h="urn:hl7-org:v3" xsi:type="h:RTO"><numerator xsi:type="INT" value="1"/></value>'
    result = read(_with_observation(content))
    (value,) = result.document.sections[0].entries[0].values
    assert isinstance(value, Unmodelled)
    assert 'xmlns:h="urn:hl7-org:v3"' in value.xml
    assert result.issues == []
    assert read(write(result.document)).document == result.document


@pytest.mark.parametrize(
    ("content", "issue"),
    [
        ('<value xsi:type="BL" value="peut-être"/>', "value: element"),
        ('<value xsi:type="INT" value="1e3"/>', "value: element"),
        ('<value xsi:type="CD"/>', "value: element"),
        ('<value xsi:type="ED" mediaType="a/b" representation="B64">pas du base64</value>', "value: text"),
        ('<value xsi:type="PQ" value="1"><translation value="1000"/></value>', "translation: element"),
        ("<derivationExpr>x</derivationExpr>", "derivationExpr: element"),
        ('<id root="1.2" assigningAuthorityName="x"/>', "@assigningAuthorityName: attribute"),
        ("<code/>", "code: empty element"),
        (
            '<entryRelationship typeCode="SUBJ"><act classCode="ACT"/><act classCode="ACC"/></entryRelationship>',
            "act[2]: element",
        ),
    ],
)
def test_what_cannot_be_held_is_reported(content: str, issue: str) -> None:
    assert issue in _issues(_with_observation(content))


def test_what_the_model_supposes_is_reported() -> None:
    data = write(small_document()).replace(b'<signatureCode code="S"/>', b"").replace(b'<realmCode code="FR"/>', b"")
    assert sorted(_issues(data)) == ["realmCode: absence of the element", "signatureCode: absence of the element"]


def test_a_second_patient_is_read_and_written_back() -> None:
    data = write(small_document())
    start, end = data.index(b"<recordTarget>"), data.index(b"</recordTarget>") + len(b"</recordTarget>")
    twice = data[:end] + data[start:end] + data[end:]
    result = read(twice)
    assert result.document.header.other_patients == [small_document().header.patient]
    assert (result.issues, write(result.document)) == ([], twice)


def test_a_second_patient_in_the_same_record_target_is_read_and_reported() -> None:
    data = write(small_document())
    start, end = data.index(b"<patientRole>"), data.index(b"</patientRole>") + len(b"</patientRole>")
    twice = data[:end] + data[start:end] + data[end:]
    assert read(twice).document.header.other_patients == [small_document().header.patient]
    assert "patientRole[2]: element" in _issues(twice)


def _self_displaying(data: bytes) -> bytes:
    inner = data.partition(b"?>\n")[2]
    return (
        b'<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
        b'<d:Contenu xmlns:d="urn:asip-sante:ci-sis"><!-- x -->' + inner + b"</d:Contenu>"
        b'<xsl:template match="/"><html/></xsl:template></xsl:stylesheet>'
    )


def test_a_self_displaying_document_is_read_from_its_style_sheet() -> None:
    result = read(_self_displaying(write(small_document())))
    assert result.document.self_displaying
    assert result.document.header == small_document().header
    assert result.document.sections == small_document().sections
    assert result.issues == []


def test_a_style_sheet_without_document_is_refused() -> None:
    data = _self_displaying(write(small_document())).replace(b"urn:asip-sante:ci-sis", b"urn:other")
    with pytest.raises(UnreadableError, match="root must be ClinicalDocument"):
        read(data)


def test_comments_and_instructions_do_not_split_a_text() -> None:
    data = write(small_document()).replace(b"suivie depuis", b"suivie<!-- x --> depuis<?y z?>")
    result = read(data)
    assert result.document == small_document()
    assert result.issues == []


def test_another_prefix_makes_no_difference() -> None:
    data = write(small_document()).replace(b"<", b"<h:").replace(b"<h:/", b"</h:").replace(b"<h:?", b"<?")
    result = read(data.replace(b'xmlns="urn:hl7-org:v3"', b'xmlns:h="urn:hl7-org:v3"'))
    assert result.document == small_document()
    assert result.issues == []


def test_the_narrative_is_kept_to_the_letter() -> None:
    document = small_document()
    document.sections[0].text = [
        "\n  avant ",
        Element("content", {"ID": "a", "styleCode": "Bold"}, [" gras\n", Element("br"), "suite"]),
        "\n",
        Element("table", {"border": "0"}, [Element("tbody", {}, [Element("tr", {}, [Element("td"), Element("td")])])]),
        " après\t<&>",
    ]
    assert read(write(document)).document == document


def test_a_foreign_narrative_element_is_reported_and_its_neighbours_kept() -> None:
    data = write(small_document()).replace(
        b"<paragraph>Patiente suivie",
        b'<paragraph x:a="1" xmlns:x="urn:x" h:ID="i" xmlns:h="urn:hl7-org:v3">Patiente<x:b>c</x:b> suivie',
    )
    result = read(data)
    assert result.document == small_document()
    assert sorted(issue.path.rpartition("/")[2] for issue in result.issues) == ["@ID", "@{urn:x}a", "{urn:x}b"]


def test_a_noncharacter_is_refused_with_its_place() -> None:
    data = write(small_document()).replace(b"depuis", "\U0010fffe".encode())
    with pytest.raises(
        RelaisError, match="/ClinicalDocument/component/structuredBody/component/section/text/paragraph"
    ):
        read(data)
