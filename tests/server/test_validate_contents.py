"""One call for whatever comes: recognised by its content; bad input is refused with its place and rule."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from relais.cda.schematron import UNREADABLE
from relais.cda.writer import write
from relais.cda.xdm import Sender, pack
from relais.server.reports.formats import FORMS
from relais.server.settings import Settings
from relais.server.validation.contents import recognise
from relais.server.validation.judge import Judge
from support.documents import small_document
from support.hl7v2 import message, with_field
from support.judged import outcomes, rules
from support.rules import UNSTRUCTURED, altered, attribute, example, remove, text
from support.shipments import small_entry, small_submission_set

DOCUMENT = "IHE_XDM/SUBSET01/DOC00001.XML"
METADATA = "IHE_XDM/SUBSET01/METADATA.XML"
BODY = "//v3:nonXMLBody/v3:text"


def archive(**changes: object) -> bytes:
    """An archive of the small document; `changes` are of its entry."""
    document = small_document()
    data = write(document)
    entry = replace(small_entry(document, data), **changes)  # type: ignore[arg-type]
    return pack([(data, entry)], small_submission_set(), sender=Sender("Hélène", "Cabinet"))


def repacked(change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive of the small document with its files changed."""
    with zipfile.ZipFile(io.BytesIO(archive())) as read:
        files = {name: read.read(name) for name in read.namelist()}
    change(files)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        for name, data in files.items():
            written.writestr(name, data)
    return packed.getvalue()


# --- recognition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>', "cda"),
        (b'\xef\xbb\xbf\n<c:ClinicalDocument xmlns:c="urn:hl7-org:v3">', "cda"),
        ('<?xml version="1.0" encoding="UTF-16"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>'.encode("utf-16"), "cda"),
        (b'<ClinicalDocument xmlns="urn:wrong"/>', "cda"),
        (b"<ClinicalDocument", "cda"),
        (b'<!DOCTYPE ClinicalDocument><ClinicalDocument xmlns="urn:hl7-org:v3"/>', "cda"),
        (b'<Patient xmlns="http://hl7.org/fhir"/>', "fhir"),
        (b' {"resourceType": "Patient"}', "fhir"),
        (b"{", "fhir"),
        (b"MSH|^~\\&|", "hl7v2"),
        (b"\x0bMSH|^~\\&|", "hl7v2"),
        (b"PK\x05\x06", "xdm"),
        (b"PK\x03\x04", "xdm"),
        (b'<SubmitObjectsRequest xmlns="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"/>', "metadata"),
        (b"<html/>", "unknown"),
        (b'<x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform" xmlns:c="urn:hl7-org:v3"/>', "unknown"),
        (b"%PDF-1.7", "unknown"),
        (b"", "unknown"),
        (b"\x00\xff", "unknown"),
    ],
)
def test_content_is_recognised_by_its_bytes(data: bytes, kind: str) -> None:
    assert recognise(data) == kind


def test_document_is_judged_by_the_rules_of_its_templates(judge: Judge, cisis: Path) -> None:
    data = example(cisis, UNSTRUCTURED)
    report = judge.judge(data)
    assert (report.kind, report.verdict) == ("cda", "conformant")
    assert report.sha256 == hashlib.sha256(data).hexdigest()
    assert [used.identity for used in report.rule_sets] == [report.parts[0].checks[0].authority]
    assert outcomes(report)["|IHE"] == "nothing applies"
    assert outcomes(report)["|structurationMinimale"] == "passed"
    limits = {limit.message for check in report.parts[0].checks for limit in check.limits}
    assert any("no published rule verifies them" in said for said in limits)


def test_verdict_on_a_document_of_an_unknown_model_says_so(judge: Judge, cisis: Path) -> None:
    model = "/*/v3:templateId[@root='1.3.6.1.4.1.19376.1.2.20']"
    unknown = altered(example(cisis, UNSTRUCTURED), model, attribute("root", "1.2.250.1.213.1.1.1.999"))
    report = judge.judge(unknown)
    for language, said in (("en", "no rule of its document model"), ("fr", "aucune règle de son modèle")):
        assert said in FORMS["text"].write([report], language).decode().partition("\n")[0]
    assert not judge.judge(example(cisis, UNSTRUCTURED)).lacks_model
    assert report.lacks_model


def test_error_of_relais_own_checks_is_doubtful_and_not_the_official_verdict(judge: Judge, cisis: Path) -> None:
    wrong_key = altered(
        example(cisis, UNSTRUCTURED), "//v3:patientRole/v3:id", attribute("extension", "279035121518988")
    )
    report = judge.judge(wrong_key)
    assert report.verdict == "doubtful"
    assert "relais-ins" in rules(report)


def test_times_are_compared_with_the_clock_of_the_judge(judge: Judge) -> None:
    at_the_time = Judge(Settings(fhir_packages="none"), clock=lambda: datetime(2026, 1, 12, 8, 1, tzinfo=UTC))
    before = Judge(Settings(fhir_packages="none"), clock=lambda: datetime(2026, 1, 10, tzinfo=UTC))
    at_the_time._validators = before._validators = judge._validators
    document = write(small_document())  # of 12 January 2026, 9:00 in Paris
    assert "relais-future" not in {found.rule for _, _, found in at_the_time.judge(document).findings()}
    found = [one for _, check, one in before.judge(document).findings() if one.rule == "relais-future"]
    assert [one.path for one in found][:2] == ["/ClinicalDocument/effectiveTime", "/ClinicalDocument/author/time"]
    assert {(one.severity, one.line > 0, bool(one.excerpt)) for one in found} == {("error", True, True)}


def test_finding_has_its_line_and_words(judge: Judge, cisis: Path) -> None:
    data = altered(example(cisis, UNSTRUCTURED), "/*/v3:languageCode", attribute("code", "fr"))
    [finding] = [found for _, check, found in judge.judge(data).findings() if check.name == "structurationMinimale"]
    assert finding.excerpt == '<languageCode code="fr">'
    assert b"languageCode" in data.splitlines()[finding.line - 1]
    assert finding.test and finding.context and finding.path == "/ClinicalDocument/languageCode"


def self_displaying(document: bytes, instruction: str = '<?xml-stylesheet type="text/xsl" href="#"?>') -> bytes:
    """The document inside a style sheet that shows it."""
    content = etree.tostring(etree.fromstring(document, etree.XMLParser(huge_tree=True)), encoding="unicode")
    return f"""<?xml version="1.0" encoding="UTF-8"?>
{instruction}
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:template match="/"><html/></xsl:template>{"<!-- long -->" * 6000}
<a:Contenu xmlns:a="urn:asip-sante:ci-sis">{content}</a:Contenu></xsl:stylesheet>""".encode()


def test_document_that_shows_itself_is_judged_as_the_document(judge: Judge, cisis: Path) -> None:
    plain = altered(example(cisis, UNSTRUCTURED), "/*/v3:setId", remove)
    shown = self_displaying(plain)
    expected, report = judge.judge(plain), judge.judge(shown)
    assert (report.kind, outcomes(report)) == ("cda", outcomes(expected))
    places = [[(f.rule, f.path) for _, _, f in one.findings()] for one in (report, expected)]
    assert places[0] == places[1]
    lines = shown.splitlines()
    for _, _, finding in report.findings():
        assert finding.path.rpartition("/")[2].partition("[")[0].encode() in lines[finding.line - 1]


@pytest.mark.parametrize("around", [True, False])
def test_style_sheet_elsewhere_is_doubtful_with_its_line(judge: Judge, cisis: Path, around: bool) -> None:
    outside = '<?xml-stylesheet type="text/xsl" href="https://example.org/cda.xsl"?>'
    data = example(cisis, UNSTRUCTURED)
    if around:
        data = self_displaying(data, outside)
    else:
        data = data.replace(b'<?xml-stylesheet type="text/xsl" href="../FeuilleDeStyle/CDA-FO.xsl"?>', outside.encode())
    report = judge.judge(data)
    [finding] = [found for _, _, found in report.findings() if found.rule == "relais-style-sheet"]
    assert (report.verdict, finding.line, finding.excerpt) == ("doubtful", 2, outside)
    svrl = FORMS["svrl"].write([report], "en")
    assert b"location=\"/processing-instruction('xml-stylesheet')\"" in svrl


# --- archives ---------------------------------------------------------------------------------------------------------


def test_archive_has_a_verdict_for_itself_its_metadata_each_document_and_their_agreement(judge: Judge) -> None:
    report = judge.judge(archive())
    assert [(part.place, part.kind, part.verdict) for part in report.parts] == [
        ("", "xdm", "conformant"),
        (METADATA, "metadata", "conformant"),
        (DOCUMENT, "cda", "not-conformant"),  # the smallest document lacks what the PPS profile wants
        ("METADATA.XML ⇄ documents", "agreement", "conformant"),
    ]
    assert report.verdict == "not-conformant"
    assert "|XML schema" in "".join(outcomes(report))


@pytest.mark.parametrize(
    ("change", "place", "rule"),
    [
        ({"title": "Un autre titre"}, "METADATA.XML ⇄ documents", "xdm.mismatch.title"),
        ({"unique_id": "2.25.1"}, "METADATA.XML ⇄ documents", "xdm.mismatch.uniqueId"),
        (
            {"source_patient_id": "077^^^&1.2.250.1.999&ISO^PI"},
            "METADATA.XML ⇄ documents",
            "xdm.mismatch.sourcePatientId",
        ),
    ],
)
def test_disagreement_is_said_of_the_agreement(judge: Judge, change: dict[str, str], place: str, rule: str) -> None:
    report = judge.judge(archive(**change))
    assert rule in rules(report, place)
    assert report.parts[-1].verdict == "not-conformant"


def as_pdf(files: dict[str, bytes]) -> None:
    """Metadata that call the document a PDF."""
    files[METADATA] = files[METADATA].replace(b'mimeType="text/xml"', b'mimeType="application/pdf"')


def test_a_document_is_judged_by_its_bytes_whatever_its_metadata_call_it(judge: Judge) -> None:
    report = judge.judge(repacked(as_pdf))
    assert [part.kind for part in report.parts if part.place == DOCUMENT] == ["cda"]
    assert rules(report, "METADATA.XML ⇄ documents") == ["xdm.mismatch.mimeType"]

    def real_pdf(files: dict[str, bytes]) -> None:
        as_pdf(files)
        files[DOCUMENT] = b"%PDF-1.4"

    report = judge.judge(repacked(real_pdf))
    assert [part.verdict for part in report.parts if part.place == DOCUMENT] == ["not-judged"]


def test_wrong_bytes_and_orphans_are_said_of_the_agreement(judge: Judge) -> None:
    report = judge.judge(repacked(lambda files: files.update({DOCUMENT: files[DOCUMENT] + b"\n"})))
    assert {"xdm.hash", "xdm.size"} <= set(rules(report, "METADATA.XML ⇄ documents"))
    report = judge.judge(repacked(lambda files: files.update({"IHE_XDM/SUBSET01/DOC00002.XML": files[DOCUMENT]})))
    assert rules(report, "METADATA.XML ⇄ documents") == ["xdm.document-orphan"]


@pytest.mark.parametrize("name", ["A[0]", "IHE_XDM/SUBSET01/X#A[0]", "IHE_XDM/SUBSET01/X#SubmissionSet"])
def test_name_of_a_stray_file_is_no_place_in_the_metadata(judge: Judge, name: str) -> None:
    report = judge.judge(repacked(lambda files: files.update({name: b"x"})))
    [orphan] = [one for _, _, one in report.findings() if one.rule == "xdm.document-orphan"]
    assert (orphan.path, orphan.line, orphan.excerpt) == (name, 0, "")


def test_style_sheet_that_a_document_names_is_expected_in_the_archive(judge: Judge) -> None:
    def named(files: dict[str, bytes]) -> None:
        files[DOCUMENT] = files[DOCUMENT].replace(
            b"<Clin", b'<?xml-stylesheet type="text/xsl" href="CDA.XSL"?><Clin', 1
        )

    def packed(files: dict[str, bytes]) -> None:
        named(files)
        files["IHE_XDM/SUBSET01/CDA.XSL"] = b"<x/>"

    absent, present = judge.judge(repacked(named)), judge.judge(repacked(packed))
    assert [found.path for _, _, found in absent.findings() if found.rule == "xdm.style-sheet"] == [DOCUMENT]
    assert "xdm.style-sheet" not in [found.rule for _, _, found in present.findings()]


def test_document_that_shows_itself_is_a_document_of_its_archive(judge: Judge) -> None:
    data = self_displaying(write(small_document()))
    entry = replace(small_entry(small_document(), data), mime_type="application/xslt+xml")
    report = judge.judge(pack([(data, entry)], small_submission_set(), sender=Sender("Hélène", "Cabinet")))
    assert [part.kind for part in report.parts] == ["xdm", "metadata", "cda", "agreement"]
    assert rules(report, "METADATA.XML ⇄ documents") == rules(report, "") == []


def test_metadata_alone_are_judged_and_findings_have_the_line_of_their_object(judge: Judge) -> None:
    with zipfile.ZipFile(io.BytesIO(archive())) as read:
        metadata = read.read(METADATA).replace(b"urn:asip:ci-sis:pps-paerpa:2017", b"urn:unknown")
    report = judge.judge(metadata)
    assert report.kind == "metadata"
    [finding] = [found for _, _, found in report.findings() if found.path == "DocumentEntry[1].formatCode"]
    assert finding.excerpt.startswith("<Classification") and "urn:unknown" in finding.excerpt
    assert finding.line > 0


def damaged(old: bytes, new: bytes) -> bytes:
    """The archive with its metadata one element to a line, and some of them replaced."""

    def change(files: dict[str, bytes]) -> None:
        metadata = etree.tostring(etree.fromstring(files[METADATA]), pretty_print=True)
        assert old in metadata
        files[METADATA] = metadata.replace(old, new)

    return repacked(change)


REFUSED_METADATA = [
    (b"</rim:RegistryObjectList>", b"</rim:Registry>", "</rim:Registry>"),
    (b"<lcm:SubmitObjectsRequest", b"<!DOCTYPE a><lcm:SubmitObjectsRequest", "<!DOCTYPE a>"),
    (b"SubmitObjectsRequest", b"SubmitObjects", "<SubmitObjects>"),
    (b"classificationNode", b"classificationnode", "<RegistryPackage"),
    (b"</rim:RegistryPackage>", b"</rim:RegistryPackage>" + b"<rim:a/>" * 5_000, "<SubmitObjectsRequest>"),
]


@pytest.mark.parametrize(("old", "new", "excerpt"), REFUSED_METADATA)
def test_refused_metadata_have_their_line_and_words(judge: Judge, old: bytes, new: bytes, excerpt: str) -> None:
    data = damaged(old, new)
    report = judge.judge(data)
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        lines = read.read(METADATA).decode().splitlines()
    found = [finding for part, _, finding in report.findings() if part.place == METADATA]
    assert found[0].rule == "xdm.metadata-invalid"
    assert found[0].excerpt.startswith(excerpt)
    assert excerpt.strip("<>") in lines[found[0].line - 1]
    assert (report.parts[0].verdict, report.verdict) == ("conformant", "not-conformant")


@pytest.mark.parametrize("form", FORMS)
def test_every_report_shows_the_place_in_refused_metadata(judge: Judge, form: str) -> None:
    report = judge.judge(damaged(b"</rim:RegistryObjectList>", b"</rim:Registry>"))
    content = html.unescape(FORMS[form].write([report], "en").decode())
    [finding] = [found for part, _, found in report.findings() if part.place == METADATA]
    assert str(finding.line) in content
    assert "</rim:Registry>" in content
    assert "not well-formed XML" in content


def test_documents_are_judged_though_the_metadata_are_refused(judge: Judge) -> None:
    report = judge.judge(damaged(b"</rim:RegistryObjectList>", b"</rim:Registry>"))
    assert [(part.place, part.kind, part.verdict) for part in report.parts] == [
        ("", "xdm", "conformant"),
        (METADATA, "metadata", "not-conformant"),
        (DOCUMENT, "cda", "not-conformant"),
        ("METADATA.XML ⇄ documents", "agreement", "not-judged"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "place", "excerpt"),
    [
        (b">20260112080000<", b">2026-01-12<", "creationTime", '<Slot name="creationTime">2026-01-12'),
        (b">fr-FR<", b">french<", "languageCode", '<Slot name="languageCode">french'),
        (b'="18776-5"', b'="0-0"', "typeCode", "<Classification id="),
        (b"810101234564^", b"x^", "author[1].authorPerson", '<Slot name="authorPerson">x^'),
        (b'name="serviceStartTime"', b'name="other"', "serviceStartTime", "<ExtrinsicObject id="),
    ],
)
def test_finding_on_metadata_shows_the_attribute(
    judge: Judge, old: bytes, new: bytes, place: str, excerpt: str
) -> None:
    data = damaged(old, new)
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        lines = read.read(METADATA).decode().splitlines()
    found = [one for _, _, one in judge.judge(data).findings() if one.path.endswith(f"DocumentEntry[1].{place}")]
    assert found[0].excerpt.startswith(excerpt)
    assert excerpt.partition(">")[0].removeprefix("<") in lines[found[0].line - 1]


def test_disagreement_shows_the_place_in_the_metadata_of_its_entry(judge: Judge) -> None:
    def change(files: dict[str, bytes]) -> None:
        metadata = etree.tostring(etree.fromstring(files[METADATA]), pretty_print=True)
        files[METADATA] = metadata.replace(
            b'<rim:Slot name="languageCode">', b"\n" * 20 + b'<rim:Slot name="languageCode">'
        )
        files[DOCUMENT] = files[DOCUMENT].replace(b'languageCode code="fr-FR"', b'languageCode code="en-US"')

    found = {one.rule: one for part, _, one in judge.judge(repacked(change)).findings() if part.kind == "agreement"}
    assert found["xdm.mismatch.languageCode"].excerpt == '<Slot name="languageCode">fr-FR'
    assert found["xdm.hash"].excerpt.startswith('<Slot name="hash">')
    assert found["xdm.mismatch.languageCode"].line > found["xdm.hash"].line + 20


# --- messages and resources -------------------------------------------------------------------------------------------


def test_message_and_its_document_are_judged(judge: Judge) -> None:
    report = judge.judge(message())
    assert [(part.place, part.kind) for part in report.parts] == [("", "hl7v2"), ("OBX-5", "cda")]
    assert report.parts[0].verdict == "conformant"
    assert report.parts[1].sha256 == hashlib.sha256(write(small_document())).hexdigest()


def test_finding_in_a_message_has_the_line_of_its_segment(judge: Judge) -> None:
    data = with_field(message(), "TXA-3", "XXXX")
    report = judge.judge(data)
    [finding] = [found for part, _, found in report.findings() if part.kind == "hl7v2" and found.is_error]
    assert (finding.path, finding.rule) == ("TXA-3.1", "hl7v2.value")
    assert data.split(b"\r")[finding.line - 1].startswith(b"TXA|")
    assert finding.excerpt.startswith("TXA|")
    assert report.parts[1].kind == "cda"  # the document is judged all the same


def test_message_in_a_file_with_line_feeds_is_read_and_said(judge: Judge) -> None:
    report = judge.judge(message().replace(b"\r", b"\r\n"))
    assert report.parts[0].verdict == "conformant"
    assert next(found.rule for part, _, found in report.findings() if part.kind == "hl7v2") == "hl7v2.syntax"
    framed = judge.judge(b"\x0b" + message() + b"\x1c\r")
    assert (framed.kind, framed.parts[0].verdict) == ("hl7v2", "conformant")


def test_resource_is_judged_in_json_and_xml_and_what_a_binary_holds(judge: Judge) -> None:
    wrong = judge.judge(b'{"resourceType": "Patient",\n "colour": "red"}')
    [(_, check, finding)] = list(wrong.findings())
    assert (wrong.verdict, finding.path, finding.line) == ("not-conformant", "Patient.colour", 2)
    assert any("no FHIR package" in limit.message for limit in check.limits)
    assert judge.judge(b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>').verdict == "conformant"
    content = base64.b64encode(write(small_document())).decode()
    binary = json.dumps({"resourceType": "Binary", "contentType": "text/plain", "data": content}).encode()
    assert [(part.place, part.kind) for part in judge.judge(binary).parts] == [("", "fhir"), ("Binary.data", "cda")]


# --- bad input --------------------------------------------------------------------------------------------------------

BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><ClinicalDocument xmlns="urn:hl7-org:v3">&b;'
DEEP = b'<ClinicalDocument xmlns="urn:hl7-org:v3">' + b"<a>" * 150 + b"</a>" * 150 + b"</ClinicalDocument>"
LATIN = '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><title>été</title>'.encode(
    "latin-1"
)


def zipped(name: str, data: bytes = b"x", second: str = "") -> bytes:
    """A ZIP archive with a file of any name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as written:
        for one in filter(None, (name, second)):
            info = zipfile.ZipInfo("placeholder")
            info.filename = one
            written.writestr(info, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "rule", "message_"),
    [
        (BOMB, "XML 1.0", "DTD"),
        (b'<!DOCTYPE ClinicalDocument SYSTEM "http://127.0.0.1:1/x.dtd"><ClinicalDocument/>', "XML 1.0", "DTD"),
        (b"<?xml version='1.0'?>" + b"<!-- -->" * 10_000 + BOMB, "XML 1.0", "DTD"),
        (b"<!-- -->" * 10_000 + b"<unknown/>", "relais-content", "neither"),
        (DEEP, "XML 1.0", "deeper"),
        (b'<ClinicalDocument xmlns="urn:hl7-org:v3">' + b" " * 60_000_000, "XML 1.0", "larger"),
        (LATIN + b"</ClinicalDocument>", "XML 1.0", "not well-formed"),
        (b'<?xml version="1.0" encoding="EBCDIC-XX"?><ClinicalDocument/>', "XML 1.0", "encoding"),
        (b'<ClinicalDocument xmlns="urn:hl7-org:v3"><a></b>', "XML 1.0", "not well-formed"),
        (zipped("../IHE_XDM/x"), "xdm.archive", "leaves its folder"),
        (zipped("/etc/passwd"), "xdm.archive", "absolute"),
        (zipped("IHE_XDM/A.XML", second="ihe_xdm/a.xml"), "xdm.archive", "same name"),
        (zipped("IHE_XDM/SUBSET01/METADATA.XML", b"0" * 50_000_000), "xdm.archive", "expands"),
        (zipped("IHE_XDM/INNER.ZIP", zipped(METADATA)), "xdm.metadata-missing", "no IHE_XDM"),
        (b"PK\x03\x04", "xdm.archive", "truncated"),
        (archive()[:-30], "xdm.archive", "truncated"),
        (message()[:200], "hl7v2.grammar", "missing"),
        (b"MSH|", "hl7v2.syntax", ""),
        (b"{", "FHIR R4 JSON", "not JSON"),
        (b'{"a":' * 5000, "FHIR R4 JSON", "nested"),
        (b"", "relais-content", "empty"),
        (b"%PDF-1.4", "relais-content", "neither"),
    ],
)
def test_bad_input_is_refused_with_its_rule(judge: Judge, data: bytes, rule: str, message_: str) -> None:
    report = judge.judge(data)
    assert report.verdict in ("not-conformant", "not-judged")
    found = [
        finding
        for part in report.parts
        for check in part.checks
        for finding in (*check.findings, *check.not_run)
        if finding.rule == rule
    ]
    assert any(message_ in finding.message for finding in found), [found.rule for _, _, found in report.findings()]


def test_archive_inside_an_archive_is_no_document(judge: Judge) -> None:
    report = judge.judge(repacked(lambda files: files.update({DOCUMENT: archive()})))
    assert "xdm.not-cda" in rules(report)
    assert report.verdict == "not-conformant"


def test_contents_inside_one_another_come_to_an_end(judge: Judge) -> None:
    data = write(small_document())
    for _ in range(5):
        content = base64.b64encode(data).decode()
        data = json.dumps({"resourceType": "Binary", "contentType": "text/plain", "data": content}).encode()
    report = judge.judge(data)
    assert report.verdict == "not-judged"
    assert rules(report) == ["relais-content"]


@pytest.mark.parametrize(
    ("xpath", "change", "rule"),
    [
        (
            "/*/v3:recordTarget",
            lambda element: element.addnext(etree.fromstring(etree.tostring(element))),
            "relais-one-patient",
        ),
        (BODY, text("JVBERi0"), "relais-base64"),
        (BODY, text(base64.b64encode(b"PK\3\4 a PDF that is none").decode()), "relais-media-content"),
        ("/*/v3:recordTarget", remove, "infrastructure/cda/CDA_extended.xsd"),
        ("/*/v3:author", remove, "infrastructure/cda/CDA_extended.xsd"),
        ("/*/v3:custodian", remove, "infrastructure/cda/CDA_extended.xsd"),
        ("/*/v3:id", remove, "infrastructure/cda/CDA_extended.xsd"),
    ],
)
def test_document_that_lacks_or_has_too_much_is_refused(
    judge: Judge, cisis: Path, xpath: str, change: Callable[[etree._Element], object], rule: str
) -> None:
    report = judge.judge(altered(example(cisis, UNSTRUCTURED), xpath, change))
    assert rule in rules(report)
    assert report.verdict != "conformant"
    assert all(finding.line > 0 for _, _, finding in report.findings() if finding.rule == rule)


def test_document_that_the_engine_of_the_rules_does_not_take_is_not_passed(judge: Judge, cisis: Path) -> None:
    many = " ".join(f'a{number}="1"' for number in range(300))
    crowded = f'<templateId root="1.2" {many}/>' * 70
    report = judge.judge(example(cisis, UNSTRUCTURED).replace(b"<templateId", f"{crowded}<templateId".encode(), 1))
    assert report.verdict == "not-conformant"  # the XML schema says where
    assert [found.message for _, _, found in report.findings()].count("20000 more findings of this kind") == 1
    reasons = {found.message for check in report.parts[0].checks for found in check.not_run}
    assert reasons == {UNREADABLE}


def test_many_character_entities_are_no_obstacle(judge: Judge, cisis: Path) -> None:
    data = example(cisis, UNSTRUCTURED).replace(b"<title>", b"<title>" + b"&amp;&lt;&gt;" * 40_000, 1)
    assert not any(check.not_run for check in judge.judge(data).parts[0].checks)


def test_document_whose_names_have_a_prefix_is_refused_with_its_places(judge: Judge, cisis: Path) -> None:
    """Children without the prefix of the root are in no namespace."""
    data = example(cisis, UNSTRUCTURED).replace(b' xmlns="urn:hl7-org:v3"', b' xmlns:c="urn:hl7-org:v3"')
    data = data.replace(b"<ClinicalDocument", b"<c:ClinicalDocument").replace(b"</Clin", b"</c:Clin")
    report = judge.judge(data.replace(b"<title>", b"<c:title>").replace(b"</title>", b"</c:title>"))
    [finding] = [found for _, _, found in report.findings() if found.rule.endswith("CDA_extended.xsd")]
    assert (report.verdict, finding.line > 20) == ("not-conformant", True)
    assert (finding.path, finding.excerpt) == ("/ClinicalDocument/{}realmCode", '<realmCode code="FR">')


def test_place_without_a_namespace_is_found_by_the_xpath_of_svrl(judge: Judge, cisis: Path) -> None:
    data = example(cisis, UNSTRUCTURED).replace(b"<title>", b'<title xmlns=""/><title xmlns=""/><title>', 1)
    report = judge.judge(data)
    [finding] = [found for _, _, found in report.findings() if found.rule.endswith("CDA_extended.xsd")]
    assert (finding.path, finding.excerpt) == ("/ClinicalDocument/{}title[1]", "<title>")
    assert finding.line == data[: data.index(b"<title")].count(b"\n") + 1
    failed = etree.fromstring(FORMS["svrl"].write([report], "en")).find("{*}failed-assert")
    assert failed is not None
    document = etree.fromstring(data)
    assert document.xpath(failed.get("location", ""), namespaces={"hl7": "urn:hl7-org:v3"}) == [document.find("title")]


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16-LE", "UTF-16-BE"])
def test_document_in_utf_16_is_judged(judge: Judge, cisis: Path, encoding: str) -> None:
    _, _, content = example(cisis, UNSTRUCTURED).decode().partition("?>")
    report = judge.judge(f'<?xml version="1.0" encoding="{encoding[:6]}"?>{content}'.encode(encoding))
    assert (report.kind, report.verdict) == ("cda", "conformant")


def test_document_in_utf_32_is_refused_as_a_document(judge: Judge, cisis: Path) -> None:
    _, _, content = example(cisis, UNSTRUCTURED).decode().partition("?>")
    report = judge.judge(f'<?xml version="1.0" encoding="UTF-32"?>{content}'.encode("UTF-32"))
    assert (report.kind, rules(report)) == ("cda", ["XML 1.0"])


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_attached_pdf_that_is_cut_short_is_doubtful(judge: Judge, cisis: Path, kept: float) -> None:
    def cut(element: etree._Element) -> None:
        pdf = base64.b64decode("".join((element.text or "").split()))
        element.text = base64.b64encode(pdf[: int(len(pdf) * kept)]).decode()

    report = judge.judge(altered(example(cisis, UNSTRUCTURED), BODY, cut))
    assert (report.verdict, rules(report)) == ("doubtful", ["relais-media-end"])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda data: data.replace(data[data.index(b"PK\1\2") + 16 :][:4], b"\0\0\0\0"), "README.TXT"),
        (lambda _: zipped("IHE_XDM/A.XML", second="ihe_xdm/a.xml"), "ihe_xdm/a.xml"),
        (lambda _: zipped("IHE_XDM/BIG.XML", b"0" * 50_000_000), "IHE_XDM/BIG.XML"),
    ],
)
def test_refused_archive_names_its_entry(judge: Judge, change: Callable[[bytes], bytes], place: str) -> None:
    report = judge.judge(change(archive()))
    assert [(found.rule, found.path) for _, _, found in report.findings()] == [("xdm.archive", place)]


def test_document_in_the_wrong_namespace_is_refused_by_schema_and_header_rules(judge: Judge, cisis: Path) -> None:
    data = example(cisis, UNSTRUCTURED).replace(b'"urn:hl7-org:v3"', b'"urn:hl7-org:v2"')
    report = judge.judge(data)
    assert report.kind == "cda"
    assert report.verdict == "not-conformant"
    assert "infrastructure/cda/CDA_extended.xsd" in rules(report)
    [fatal] = [found for _, _, found in report.findings() if found.severity == "fatal"]
    assert "typeId" in fatal.note


# --- lines and languages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "line", "excerpt", "french"),
    [
        (b'{\n "resourceType": "Patient",\n}', 3, "}", "JSON mal formé (un nom entre guillemets"),
        (b'{"resourceType": "Patient"}\n{"a": 1}', 2, '{"a": 1}', "JSON mal formé (des données après la fin)"),
        (b'{"id": "a"}', 0, "", "pas une ressource FHIR : un objet avec resourceType est attendu"),
        (b'{"resourceType": "Patient", "active": true, "active": true}', 0, "", "le même nom figure deux fois"),
        (
            b'<Patient xmlns="http://hl7.org/fhir">\n<id value="a"/>\n<foo value="1"/></Patient>',
            3,
            '<foo value="1"/></Patient>',
            "n'est pas un élément que R4 définit ici",
        ),
        (b'<Patient xmlns="http://hl7.org/fhir">\n<id></Patient>', 2, "<id></Patient>", "XML mal formé (la balise"),
    ],
)
def test_resource_that_cannot_be_read_has_its_line_and_its_french(
    judge: Judge, data: bytes, line: int, excerpt: str, french: str
) -> None:
    report = judge.judge(data, language="fr")
    [finding] = [found for _, _, found in report.findings()]
    assert (report.kind, report.verdict) == ("fhir", "not-conformant")
    assert (finding.line, finding.excerpt) == (line, excerpt)
    assert finding.message.startswith(french)


def test_line_that_is_no_segment_is_the_one_shown(judge: Judge) -> None:
    broken = message().replace(b"\rPID|", b"\rpid|")
    [finding] = [found for _, _, found in judge.judge(broken).findings()]
    assert finding.message == f"line {finding.line} does not begin with the name of a segment"
    assert finding.excerpt.startswith("pid|")


def test_finding_on_the_document_shows_its_root(judge: Judge, cisis: Path) -> None:
    data = altered(example(cisis, UNSTRUCTURED), "/*/v3:typeId", attribute("extension", "POCD"))
    [fatal] = [found for _, _, found in judge.judge(data).findings() if found.severity == "fatal"]
    assert (fatal.path, fatal.excerpt.partition(" ")[0]) == ("/", "<ClinicalDocument")


def test_utf_16_without_markup_is_not_called_xml(judge: Judge) -> None:
    [part] = judge.judge('{"resourceType": "Patient"}'.encode("utf-16")).parts
    assert [found.rule for found in part.checks[0].not_run] == ["relais-content"]
