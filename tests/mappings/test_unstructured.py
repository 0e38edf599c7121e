"""The unstructured form of a document: accepted by the official rules, with an identity of its own."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from relais.cda import templates
from relais.cda.errors import Issue, MappingError
from relais.cda.model import II, Document, Media, RelatedDocument
from relais.cda.pdf import to_pdf
from relais.cda.reader import read
from relais.cda.validation import Validator
from relais.cda.writer import write
from relais.mappings.context import Deployment, DocumentVersion
from relais.mappings.document_metadata import document_entry
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.unstructured import body_issues, unstructured
from support import plans
from support.documents import small_pps

PDF = b"%PDF-1.4\n<pdfaid:part>1</pdfaid:part>\n%%EOF\n"
ARC = "1.2.250.1.999.1"


def version(number: int, replaces: str | None = None) -> Document:
    document = small_pps()
    document.header.version_number = number
    document.header.id = II(f"2.25.100{number}")
    document.header.related_documents = [RelatedDocument([II(replaces)])] if replaces else []
    return document


# --- conformance --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minimal", "full", "full-ppcs", "guardian", "ins-not-qualified"])
def test_official_rules_accept_the_unstructured_form_of_a_plan(validator: Validator, name: str) -> None:
    structured = convert(plans.PLANS[name], plans.EMISSION).document
    pdf = to_pdf(structured)
    data = write(unstructured(structured, pdf))
    report = validator.validate(data)
    assert report.conformant, report.to_text()
    assert report.official_errors == ()
    assert report.not_run == ()
    found = read(data)
    assert found.issues == []
    assert found.document.non_xml_body == Media("application/pdf", pdf)
    assert body_issues(pdf, "application/pdf") == []


@pytest.mark.parametrize("arc", [None, ARC])
def test_official_rules_accept_a_later_version(validator: Validator, arc: str | None) -> None:
    report = validator.validate(write(unstructured(version(3, "2.25.1002"), PDF, deployment=Deployment(oid_arc=arc))))
    assert report.conformant, report.to_text()


def test_header_is_that_of_the_structured_document_but_for_its_identity() -> None:
    structured = convert(plans.PLANS["full"], plans.EMISSION).document
    made = unstructured(structured, PDF)
    assert made.sections == []
    assert [ii.root for ii in made.header.template_ids] == [
        templates.HL7_FRANCE,
        templates.CISIS_HEADER,
        templates.UNSTRUCTURED,
    ]
    identity = ("template_ids", "id", "set_id", "version_number", "related_documents")
    same = {name: getattr(structured.header, name) for name in identity}
    assert replace(made.header, **same) == structured.header


def test_metadata_name_the_format_of_the_body() -> None:
    made = unstructured(small_pps(), PDF)
    entry = document_entry(made, write(made))
    assert (entry.format_code.code, entry.mime_type) == ("urn:ihe:iti:xds-sd:pdf:2008", "text/xml")


# --- identity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arc", [None, ARC])
def test_beside_the_structured_document_it_is_another_document(arc: str | None) -> None:
    first, second = version(1), version(2, "2.25.1001")
    emitter = Deployment(oid_arc=arc)
    one, two = (unstructured(structured, PDF, deployment=emitter).header for structured in (first, second))
    assert one.set_id == two.set_id != first.header.set_id
    assert len({str(ii) for ii in (first.header.id, second.header.id, one.id, two.id)}) == 4
    assert (one.version_number, one.related_documents) == (1, [])
    assert (two.version_number, two.related_documents) == (2, [RelatedDocument([one.id], parent_version=1)])
    assert arc is None or str(two.id.root).startswith(f"{ARC}.4.")


def test_version_known_by_the_receivers_wins() -> None:
    first_sent = unstructured(version(4, "2.25.1003"), PDF, version=DocumentVersion()).header
    assert (first_sent.version_number, first_sent.related_documents) == (1, [])
    later = unstructured(version(5), PDF, version=DocumentVersion(2, II("2.25.77"))).header
    assert later.related_documents == [RelatedDocument([II("2.25.77")], parent_version=1)]
    assert later.set_id == first_sent.set_id


def test_replacing_the_structured_document_it_is_its_next_version() -> None:
    structured = version(2, "2.25.1001").header
    made = unstructured(version(2, "2.25.1001"), PDF, replacing=True).header
    assert (made.set_id, made.version_number) == (structured.set_id, 3)
    assert made.related_documents == [RelatedDocument([structured.id], parent_version=2)]
    assert made.id not in (structured.id, unstructured(version(3), PDF).header.id)


def test_document_without_set_id_has_a_lineage_by_its_id() -> None:
    structured = version(1)
    structured.header.set_id = None
    made = unstructured(structured, PDF).header
    assert made.set_id not in (None, structured.header.id)
    assert unstructured(structured, PDF, replacing=True).header.set_id == structured.header.id


def test_same_document_gives_the_same_form() -> None:
    assert unstructured(version(1), PDF) == unstructured(version(1), PDF)


# --- body ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/pdf", PDF),
        ("text/plain", "é".encode()),
        ("text/rtf", b"{\\rtf1 x}"),
        ("image/jpeg", b"\xff\xd8\xff\xe0x\xff\xd9"),
        ("image/tiff", b"II*\0x"),
        ("image/tiff", b"MM\0*x"),
    ],
)
def test_body_of_an_allowed_type_is_accepted(media_type: str, body: bytes) -> None:
    assert body_issues(body, media_type) == []
    assert unstructured(small_pps(), body, media_type=media_type).non_xml_body == Media(media_type, body)


@pytest.mark.parametrize(
    ("media_type", "body", "expected"),
    [
        ("image/png", b"\x89PNG\r\n\x1a\n", ["code-invalid"]),
        ("text/html", b"<p>", ["code-invalid"]),
        ("APPLICATION/PDF", PDF, ["code-invalid"]),
        ("application/pdf", b"", ["required"]),
        ("application/pdf", b"<html>", ["value"]),
        ("application/pdf", b" %PDF-1.4\n%%EOF", ["value"]),
        ("application/pdf", b"%PDF-1.4\n...", ["value"]),
        ("image/jpeg", b"\xff\xd8\xff\xe0x", ["value"]),
        ("text/plain", b"words\0", ["value"]),
        ("text/plain", b"words\x1b[2J", ["value"]),
        ("application/pdf", b"%PDF-1.4\n%%EOF" + b"x" * 2000, ["too-long", "value"]),
        ("application/pdf", PDF + b"\n" * 1000, ["too-long"]),
        ("image/jpeg", PDF, ["value"]),
        ("text/rtf", b"rtf", ["value"]),
        ("image/tiff", b"II", ["value"]),
        ("text/plain", b"x" * 1001, ["too-long"]),
    ],
)
def test_body_that_receivers_would_refuse_is_refused(media_type: str, body: bytes, expected: list[str]) -> None:
    found = body_issues(body, media_type, 1000)
    assert [issue.code for issue in found if issue.severity == "error"] == expected
    assert {issue.path for issue in found} == {"/ClinicalDocument/component/nonXMLBody/text"}
    with pytest.raises(MappingError) as caught:
        unstructured(small_pps(), body, media_type=media_type, max_size=1000)
    assert [issue.code for issue in caught.value.issues] == expected


def test_pdf_that_is_no_archive_is_worth_a_warning_only() -> None:
    (issue,) = body_issues(b"%PDF-1.7\n%%EOF", "application/pdf")
    assert issue.severity == "warning"
    assert "PDF/A-1" in issue.message
    assert unstructured(small_pps(), b"%PDF-1.7\n%%EOF").non_xml_body is not None


def test_everything_that_forbids_it_is_said_at_once() -> None:
    document = small_pps()
    document.header.id = II()
    document.non_xml_body = Media("application/pdf", PDF)
    with pytest.raises(MappingError) as caught:
        unstructured(document, b"")
    found: list[Issue] = list(caught.value.issues)
    assert [(issue.code, issue.path) for issue in found] == [
        ("required", "/ClinicalDocument/component/nonXMLBody/text"),
        ("business-rule", "/ClinicalDocument/component/nonXMLBody/text"),
        ("required", "/ClinicalDocument/id"),
    ]
