"""Files in a document: whether the bytes are what the media type says, and what a PDF holds that PDF/A-1 forbids."""

from __future__ import annotations

import zlib
from base64 import b64encode
from io import BytesIO

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

from relais.cda import media
from relais.cda.consistency import check
from relais.cda.parsing import parse
from relais.cda.pdf_content import MAX_MARKS, MAX_SYNTAX, PdfContent, claims_pdf_a_1, examine
from relais.mappings.to_cda.unstructured import body_issues
from support.rules import CANCER_PPS, UNSTRUCTURED, example

BODY = "<component><nonXMLBody><text {}>{}</text></nonXMLBody></component>"
MEDIA = "<component><observationMedia><value {}>{}</value></observationMedia></component>"
CLAIM = b"<pdfaid:part>1</pdfaid:part>"


def found(media_type: str, data: bytes, around: str = BODY) -> list[tuple[str, str]]:
    attributes = f'mediaType="{media_type}" representation="B64"'
    document = f'<ClinicalDocument xmlns="urn:hl7-org:v3">{around.format(attributes, b64encode(data).decode())}'
    return [(issue.rule, issue.severity) for issue in check(parse(f"{document}</ClinicalDocument>".encode()))]


def pdf(*objects: bytes) -> bytes:
    return b"\n".join((b"%PDF-1.4", *objects, CLAIM, b"%%EOF"))


def object_stream(content: bytes, dictionary: bytes = b"/Filter /FlateDecode") -> bytes:
    packed = zlib.compress(content)
    return b"4 0 obj<</N 1 %s /Type/ObjStm>>stream\r\n%s\nendstream endobj" % (dictionary, packed)


def made(change: str) -> bytes:
    """A PDF as a library writes it."""
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    match change:
        case "script":
            script = {
                NameObject("/S"): NameObject("/JavaScript"),
                NameObject("/JS"): TextStringObject("app.alert('x')"),
            }
            writer.root_object[NameObject("/OpenAction")] = DictionaryObject(script)
        case "file":
            writer.add_attachment("notes.txt", b"x")
        case "password":
            writer.encrypt("secret", algorithm="RC4-128")
    written = BytesIO()
    writer.write(written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("media_type", "data", "rule", "severity"),
    [
        ("text/plain", b"%PDF-1.4\nall in letters\n%%EOF", "relais-media-content", "error"),
        ("text/plain", b"{\\rtf1 words}", "relais-media-content", "error"),
        ("text/plain", b"PK\3\4archive", "relais-media-content", "error"),
        ("text/plain", b"words\0more", "relais-media-content", "error"),
        ("text/plain", "words".encode("utf-16"), "relais-media-content", "error"),
        ("text/plain", b"words\x1b[2J", "relais-media-text", "error"),
        ("text/plain", "Été".encode("cp1252"), "relais-media-encoding", "warning"),
        ("text/rtf", b"words", "relais-media-content", "error"),
        ("image/tiff", b"\xff\xd8\xff\xd9", "relais-media-content", "error"),
        ("image/jpeg", b"\xff\xd8\xff\xe0 half", "relais-media-end", "error"),
        ("application/pdf", pdf().replace(b"%%EOF", b""), "relais-media-end", "error"),
        ("application/pdf", b"%PDF-1.4\n%%EOF", "relais-pdf-a-1", "warning"),
        ("application/pdf", pdf(b"trailer<</Encrypt 3 0 R>>"), "relais-pdf-encrypted", "error"),
        ("application/pdf", pdf(b"<</S /Launch /F 3 0 R>>"), "relais-pdf-active", "error"),
        ("application/pdf", pdf(b"<</Names<</EmbeddedFiles 3 0 R>>>>"), "relais-pdf-embedded", "error"),
        (
            "application/pdf",
            pdf(object_stream(b"x").replace(b"stream\r\nx", b"stream\r\ny")),
            "relais-pdf-unread",
            "warning",
        ),
    ],
)
def test_body_that_is_not_what_it_says(media_type: str, data: bytes, rule: str, severity: str) -> None:
    assert found(media_type, data) == [(rule, severity)]


@pytest.mark.parametrize(
    ("media_type", "data", "expected"),
    [
        ("image/png", b"\x89PNG\r\n\x1a\n half", [("relais-media-end", "error")]),
        ("image/gif", b"GIF89a half", [("relais-media-end", "error")]),
        ("application/msword", b"words", [("relais-media-content", "error")]),
        ("application/pdf", b"%PDF-1.7\n<</JS (x)>>\n%%EOF", [("relais-pdf-active", "warning")]),
        ("application/pdf", b"%PDF-1.7\n%%EOF", []),
        ("image/png", b"\x89PNG\r\n\x1a\n IEND\xaeB`\x82 and more", []),
        ("image/jpeg", b"\xff\xd8\xff\xe0 whole \xff\xd9" + b"\0" * 5000, []),
        ("audio/mpeg", b"anything", []),
        ("text/plain", "Été".encode("cp1252"), []),
    ],
)
def test_attached_file_is_checked_but_need_not_be_pdf_a(
    media_type: str, data: bytes, expected: list[tuple[str, str]]
) -> None:
    assert found(media_type, data, MEDIA) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pdf(b"<</S/JavaScript/JS(x)>>"), PdfContent(active=True)),
        (pdf(b"<</S/URI/URI(javascript:x)>>"), PdfContent()),
        (pdf(b"<</J#53 (x)>>"), PdfContent(active=True)),
        (pdf(b"<</Title (how to write \\( /JS \\) and (/Encrypt))>>"), PdfContent()),
        (pdf(b"% a note on /JS and (", b"<</JS 3 0 R>>"), PdfContent(active=True)),
        (pdf(b"<</Title (100 % /JS\n)>>", b"<</EF<<>>>>"), PdfContent(embedded=True)),
        (pdf(b"% stream", b"<</JS 3 0 R>>", b"endstream"), PdfContent(active=True)),
        (pdf(b"<</Length 9>>stream\n/JS /EF ((\nendstream"), PdfContent()),
        (pdf(b"<</JSON 1/EFX 2/Encrypted 3/S/LaunchX>>"), PdfContent()),
        (pdf(object_stream(b"<</S/Launch>>")), PdfContent(active=True)),
        (pdf(object_stream(b"(/JS)<</Title (x)>>")), PdfContent()),
        (pdf(object_stream(b"<</JS 1>>").replace(b"ObjStm", b"Obj#53tm")), PdfContent(active=True)),
        (pdf(object_stream(b" " * (MAX_SYNTAX + 1))), PdfContent(unread=True)),
        (pdf(b"/JS" + b"()" * MAX_MARKS), PdfContent(active=True, unread=True)),
        (pdf(b"/JS(" + b"\\(" * 1_000_000), PdfContent(active=True, unread=True)),
        (made(""), PdfContent()),
        (made("script"), PdfContent(active=True)),
        (made("file"), PdfContent(embedded=True)),
        (made("password"), PdfContent(encrypted=True)),
    ],
    ids=range(19),
)
def test_what_a_pdf_holds_is_told_from_its_syntax(data: bytes, expected: PdfContent) -> None:
    assert examine(data) == expected


@pytest.mark.parametrize("data", [b"words", b"%PDF-1.7\n/JS\n%%EOF"])
def test_file_may_stand_anywhere(data: bytes) -> None:
    kind = "application/pdf" if data.startswith(b"%PDF") else "text/plain"
    content = b64encode(data).decode()
    document = f'<ClinicalDocument xmlns="urn:hl7-org:v3" mediaType="{kind}" representation="B64">{content}'
    rules = [issue.rule for issue in check(parse(f"{document}</ClinicalDocument>".encode()))]
    assert rules == (["relais-pdf-active"] if kind == media.PDF else [])


def test_library_sees_the_same_in_what_it_wrote() -> None:
    assert PdfReader(BytesIO(made("password"))).is_encrypted
    assert "notes.txt" in PdfReader(BytesIO(made("file"))).attachments


def test_pdf_that_receivers_would_refuse_is_no_body() -> None:
    issues = body_issues(pdf(b"<</S/Launch>>"), media.PDF)
    assert [(issue.severity, issue.code) for issue in issues] == [("error", "business-rule")]
    assert body_issues(pdf(), media.PDF) == []


@pytest.mark.parametrize("name", [UNSTRUCTURED, CANCER_PPS])
def test_files_in_official_examples_are_what_they_say(cisis: object, name: str) -> None:
    issues = check(parse(example(cisis, name)))  # type: ignore[arg-type]
    said = {(issue.rule, issue.severity) for issue in issues if issue.rule.startswith(("relais-media", "relais-pdf"))}
    assert said == ({("relais-pdf-a-1", "warning")} if name == UNSTRUCTURED else set())


def test_claim_of_pdf_a_1_is_that_of_the_metadata() -> None:
    assert claims_pdf_a_1(b"<rdf:Description pdfaid:part='1' pdfaid:conformance='B'/>")
    assert not claims_pdf_a_1(b"<pdfaid:part>2</pdfaid:part>")
