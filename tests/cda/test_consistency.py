"""The checks that no official rule makes, one small document for each finding and for each near miss."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relais.cda.consistency import check, check_clock
from relais.cda.errors import Severity
from relais.cda.parsing import parse
from relais.cda.writer import write
from relais.mappings.to_cda import convert
from support.appointments import AGENDAS, single, snapshot
from support.notifications import NOTICES, notify
from support.official import official_documents
from support.plans import EMISSION, PLANS
from support.rules import CANCER_PPS, UNSTRUCTURED, example

PDF = b64encode(b"%PDF-1.4 <pdfaid:part>1</pdfaid:part> %%EOF").decode()
INS = '<recordTarget><patientRole><id root="1.2.250.1.213.1.4.10" extension="{}"/></patientRole></recordTarget>'
ENTRY = '<entry><observation><id root="{}" extension="{}"/></observation></entry>'
INTERNAL_REFERENCE = (
    '<entry><act><templateId root="1.3.6.1.4.1.19376.1.5.3.1.4.4.1"/><id root="{}" extension="{}"/></act></entry>'
)


def found(content: str) -> list[tuple[str, str, Severity]]:
    """Rule, place and severity of each finding on a ClinicalDocument with that content."""
    document = f'<ClinicalDocument xmlns="urn:hl7-org:v3">{content}</ClinicalDocument>'
    return [(issue.rule, issue.path, issue.severity) for issue in check(parse(document.encode()))]


def body(attributes: str, content: str) -> str:
    return f"<component><nonXMLBody><text {attributes}>{content}</text></nonXMLBody></component>"


BODY_TEXT = "/ClinicalDocument/component/nonXMLBody/text"
BODY_PDF = 'mediaType="application/pdf" representation="B64"'


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ('<reference value="#Act-1"/>', True),
        ('<footnoteRef IDREF="Act-1"/>', True),
        ('<renderMultiMedia referencedObject="act-1 ACT-1"/>', True),
        ('<reference value="#act-2"/>', False),
        ('<renderMultiMedia referencedObject="act-1 act-2"/>', False),
    ],
)
def test_reference_says_when_an_id_differs_in_capitals_only(reference: str, said: bool) -> None:
    content = f'<component><text ID="act-1">{reference}</text></component>'
    document = f'<ClinicalDocument xmlns="urn:hl7-org:v3">{content}</ClinicalDocument>'
    [issue] = check(parse(document.encode()))
    assert issue.rule == "relais-reference"
    assert issue.message.endswith("; an ID that differs in capitals only exists") == said


@pytest.mark.parametrize(
    ("content", "rule", "path", "severity"),
    [
        (
            '<component><text ID="b"/><text><reference value="#a"/></text></component>',
            "relais-reference",
            "/ClinicalDocument/component/text[2]/reference",
            "error",
        ),
        (
            '<component><text ID="a"/><text><reference value="a"/></text></component>',
            "relais-reference-fragment",
            "/ClinicalDocument/component/text[2]/reference",
            "warning",
        ),
        (
            '<component><content ID="a"/><content ID="a"/></component>',
            "relais-narrative-id",
            "/ClinicalDocument/component/content[2]",
            "error",
        ),
        (
            ENTRY.format("1.2.3", "a") * 2,
            "relais-entry-id",
            "/ClinicalDocument/entry[2]/observation/id",
            "warning",
        ),
        (INS.format("279035121518988"), "relais-ins", "/ClinicalDocument/recordTarget/patientRole/id", "error"),
        (INS.format("2790351215189"), "relais-ins", "/ClinicalDocument/recordTarget/patientRole/id", "error"),
        (
            '<author><id root="1.2.250.1.71.4.2.1" extension="10101234567"/></author>',
            "relais-ps-idnat",
            "/ClinicalDocument/author/id",
            "error",
        ),
        (
            '<custodian><id root="1.2.250.1.71.4.2.2" extension="750712184"/></custodian>',
            "relais-struct-idnat",
            "/ClinicalDocument/custodian/id",
            "error",
        ),
        (
            '<component><effectiveTime><low value="20260202"/><high value="202601"/></effectiveTime></component>',
            "relais-interval",
            "/ClinicalDocument/component/effectiveTime",
            "error",
        ),
        (
            "<component><time><low value='20260101100000+0100'/><high value='20260101100000+0200'/></time></component>",
            "relais-interval",
            "/ClinicalDocument/component/time",
            "error",
        ),
        (
            '<effectiveTime value="20260112090000"/>',
            "relais-header-time",
            "/ClinicalDocument/effectiveTime",
            "warning",
        ),
        (
            '<componentOf><x><effectiveTime><low value="20260112"/></effectiveTime></x></componentOf>',
            "relais-header-time",
            "/ClinicalDocument/componentOf/x/effectiveTime/low",
            "warning",
        ),
        ('<versionNumber value="2"/>', "relais-replacement", "/ClinicalDocument/versionNumber", "error"),
        ('<versionNumber value="0"/>', "relais-version", "/ClinicalDocument/versionNumber", "error"),
        (
            '<component><text><renderMultiMedia referencedObject="b a"/><content ID="a"/></text></component>',
            "relais-reference",
            "/ClinicalDocument/component/text/renderMultiMedia",
            "error",
        ),
        (
            '<component><text><footnoteRef IDREF="a"/></text></component>',
            "relais-reference",
            "/ClinicalDocument/component/text/footnoteRef",
            "error",
        ),
        *(
            (
                f'<component><text><linkHtml href="{address}"/></text></component>',
                "relais-link",
                "/ClinicalDocument/component/text/linkHtml",
                "error",
            )
            for address in ("javascript:alert(1)", " java&#9;Script:x", "data:text/html,x", "vbscript:x")
        ),
        (
            '<templateId root="1.3.6.1.4.1.19376.1.2.20"/><component><structuredBody/></component>',
            "relais-body-template",
            "/ClinicalDocument/component/structuredBody",
            "error",
        ),
        (
            '<versionNumber value="2"/><relatedDocument typeCode="APND"/>',
            "relais-replacement",
            "/ClinicalDocument/versionNumber",
            "error",
        ),
        (INS.format("279035121518989") * 2, "relais-one-patient", "/ClinicalDocument/recordTarget[2]", "error"),
        (
            INS.format("279035121518989").replace(
                "</p", '<id root="1.2.250.1.213.1.4.11" extension="277076322082910"/></p'
            ),
            "relais-one-ins",
            "/ClinicalDocument/recordTarget/patientRole/id[2]",
            "error",
        ),
        (
            '<author><id root="1.2.250.1.71.4.2.1" extension="810101234567"/></author>',
            "relais-rpps-key",
            "/ClinicalDocument/author/id",
            "warning",
        ),
        *(
            (
                f'<custodian><id root="1.2.250.1.71.4.2.2" extension="{number}"/></custodian>',
                rule,
                "/ClinicalDocument/custodian/id",
                "warning",
            )
            for number, rule in {
                "1750009996": "relais-finess-key",
                "2123456789": "relais-siren-key",
                "312345678900016": "relais-siret-key",
            }.items()
        ),
        (
            '<effectiveTime value="20260112090000+0100"/>'
            '<recordTarget><patientRole><patient><birthTime value="20270101"/></patient></patientRole></recordTarget>',
            "relais-birth",
            "/ClinicalDocument/recordTarget/patientRole/patient/birthTime",
            "warning",
        ),
        (
            '<effectiveTime value="20260112090000+0100"/><author><time value="20260113090000+0100"/></author>',
            "relais-author-time",
            "/ClinicalDocument/author/time",
            "warning",
        ),
        (body(BODY_PDF, b64encode(b"%PDF-1.4 cut").decode()), "relais-media-end", BODY_TEXT, "error"),
        (body(BODY_PDF, "%PDF not Base64"), "relais-base64", BODY_TEXT, "error"),
        (body(BODY_PDF, ""), "relais-base64", BODY_TEXT, "error"),
        (body(BODY_PDF, b64encode(b"PK\3\4").decode()), "relais-media-content", BODY_TEXT, "error"),
        (body('mediaType="application/zip" representation="B64"', PDF), "relais-body-media-type", BODY_TEXT, "error"),
        (body('mediaType="application/pdf"', PDF), "relais-body-representation", BODY_TEXT, "error"),
        (
            f'<component><value mediaType="image/jpeg" representation="B64">{PDF}</value></component>',
            "relais-media-content",
            "/ClinicalDocument/component/value",
            "error",
        ),
    ],
)
def test_inconsistency_is_found_in_its_place(content: str, rule: str, path: str, severity: Severity) -> None:
    assert found(content) == [(rule, path, severity)]


@pytest.mark.parametrize(
    "content",
    [
        '<component><content ID="a"/><text><reference value="#a"/></text></component>',
        '<component><content ID=" a"/><text><reference value="#a "/></text></component>',
        '<component><text><reference value="https://example.org/x"/></text></component>',
        '<component><reference typeCode="REFR"/></component>',
        ENTRY.format("1.2.3", "a") + ENTRY.format("1.2.3", "b"),
        ENTRY.format("1.2.3", "a") + INTERNAL_REFERENCE.format("1.2.3", "a"),
        INS.format("279035121518989"),
        '<recordTarget><id root="1.2.3" extension="279035121518988"/></recordTarget>',
        '<author><id root="1.2.250.1.71.4.2.1" extension="810101234564"/></author>',
        '<author><id root="1.2.250.1.71.4.2.1" extension="3750009995/12"/></author>',
        '<custodian><id root="1.2.250.1.71.4.2.2" extension="1750009995"/></custodian>',
        '<custodian><id root="1.2.250.1.71.4.2.2" extension="2123456782"/></custodian>',
        '<custodian><id root="1.2.250.1.71.4.2.2" extension="312345678900015"/></custodian>',
        '<author><id root="1.2.250.1.71.4.2.1" nullFlavor="UNK"/></author>',
        '<component><effectiveTime><low value="20260202"/><high value="2026"/></effectiveTime></component>',
        "<component><time><low value='20260101100000+0200'/><high value='20260101100000+0100'/></time></component>",
        '<component><value><low value="3"/><high value="1"/></value></component>',
        '<effectiveTime value="20260112090000+0100"/>',
        '<recordTarget><birthTime value="19400101"/></recordTarget>',
        '<component><effectiveTime value="202601"/></component>',
        '<versionNumber value="1"/>',
        '<component><text><renderMultiMedia referencedObject=" a b "/></text><x ID="a"/><x ID="b "/></component>',
        '<component><text><linkHtml href="https://example.org/javascript:x"/><linkHtml href="#a"/></text></component>',
        '<templateId root="1.3.6.1.4.1.19376.1.2.20"/><component><nonXMLBody/></component>',
        '<versionNumber value="2"/><relatedDocument typeCode="RPLC"/>',
        body(BODY_PDF, f"\n {PDF[:8]}\n{PDF[8:]} \n"),
        body('mediaType="text/plain" representation="B64"', b64encode("Été".encode()).decode()),
    ],
)
def test_consistent_content_is_left_alone(content: str) -> None:
    assert found(content) == []


def test_findings_never_quote_the_document() -> None:
    document = f'<ClinicalDocument xmlns="urn:hl7-org:v3">{INS.format("279035121518988")}</ClinicalDocument>'
    assert not any("279035121518988" in str(issue) for issue in check(parse(document.encode())))


def test_official_unstructured_example_has_only_warnings(cisis: Path) -> None:
    issues = check(parse(example(cisis, UNSTRUCTURED)))
    assert {issue.severity for issue in issues} == {"warning"}
    assert "relais-header-time" in {issue.rule for issue in issues}


def test_official_ins_are_valid(cisis: Path) -> None:
    assert "relais-ins" not in {issue.rule for issue in check(parse(example(cisis, CANCER_PPS)))}


# --- the clock --------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 12, 8, tzinfo=UTC)  # 9:00 in Paris
PERSON = '<recordTarget><patientRole><patient xmlns:s="urn:hl7-org:sdtc">{}</patient></patientRole></recordTarget>'


def future(content: str) -> list[tuple[str, Severity]]:
    """The last step of the place, and the severity, of what is later than now."""
    document = f'<ClinicalDocument xmlns="urn:hl7-org:v3">{content}</ClinicalDocument>'
    issues = check_clock(parse(document.encode()), NOW)
    assert {issue.rule for issue in issues} <= {"relais-future"}
    return [(issue.path.removeprefix("/ClinicalDocument/"), issue.severity) for issue in issues]


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        ("20260112090400+0100", None),  # clocks differ
        ("20260112090600+0100", "warning"),
        ("20260112080600+0000", "warning"),
        ("20260113085900+0100", "warning"),
        ("20260113090100+0100", "error"),
        ("20260113085900", None),  # perhaps of another time zone
        ("20260113090100", "error"),
        ("20260113", None),
        ("20260114", "error"),
        ("202601", None),
        ("202602", "error"),
        ("2027", "error"),
        ("99999999", None),  # no date: for other rules
        ("2026-02-01", None),
    ],
)
def test_a_time_later_than_the_check_is_found_by_how_far_it_is(value: str, severity: Severity | None) -> None:
    assert future(f'<effectiveTime value="{value}"/>') == ([("effectiveTime", severity)] if severity else [])


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (PERSON.format('<birthTime value="20260301"/>'), "recordTarget/patientRole/patient/birthTime"),
        (
            PERSON.format('<s:deceasedTime value="20260301"/>'),
            "recordTarget/patientRole/patient/sdtc:deceasedTime",
        ),
        ('<author><time value="20260301"/></author>', "author/time"),
        ('<dataEnterer><time value="20260301"/></dataEnterer>', "dataEnterer/time"),
        ('<legalAuthenticator><time value="20260301"/></legalAuthenticator>', "legalAuthenticator/time"),
        ('<authenticator><time value="20260301"/></authenticator>', "authenticator/time"),
    ],
)
def test_what_has_happened_is_not_of_the_future(content: str, place: str) -> None:
    assert future(content) == [(place, "error")]


@pytest.mark.parametrize(
    "content",
    [
        '<documentationOf><serviceEvent><effectiveTime value="20260301"/></serviceEvent></documentationOf>',
        '<componentOf><encompassingEncounter><effectiveTime value="20260301"/></encompassingEncounter></componentOf>',
        '<participant><time><low value="20250101"/><high value="20300101"/></time></participant>',
        '<component><entry><encounter><effectiveTime value="20260301"/></encounter></entry></component>',
    ],
)
def test_what_is_planned_may_be_of_the_future(content: str) -> None:
    assert future(content) == []


@pytest.mark.parametrize("path", official_documents().values(), ids=str)
def test_official_documents_are_of_the_past(path: Path) -> None:
    assert check_clock(parse(path.read_bytes()), NOW) == []


@pytest.mark.parametrize("name", [*PLANS, *AGENDAS, *NOTICES])
def test_what_relais_writes_is_of_the_past(name: str) -> None:
    made = [convert(PLANS[name], EMISSION)] if name in PLANS else []
    made += [notify(NOTICES[name])] if name in NOTICES else []
    made += [single(AGENDAS[name]), snapshot(AGENDAS[name])] if name in AGENDAS else []
    for mapped in made:
        assert check_clock(parse(write(mapped.document)), EMISSION.now) == []
