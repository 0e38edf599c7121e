"""MTOM messages: what is built is read back byte for byte, what is malformed is refused for that reason."""

from __future__ import annotations

import re

import pytest
from lxml import etree

from relais.cda.errors import UnreadableError
from relais.server.delivery import mtom

ENVELOPE = b"<e/>"
AWKWARD = b"\r\n\x00\xff--\r\r\n\n--relais \r\n<a/>\r\n\r\n"
LIMIT = 10_000


def built(data: bytes = AWKWARD) -> tuple[str, bytes]:
    content_type, pieces = mtom.build(ENVELOPE, [mtom.Attachment("doc 1@x", "text/xml", data)], action="urn:action")
    return content_type, b"".join(pieces)


def reframed(*parts: bytes, content_type: str = 'multipart/related; boundary=B; start="<r@x>"') -> mtom.Message:
    body = b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + b"--B--"
    return mtom.parse(content_type, body, limit=LIMIT)


ROOT = b"content-id: <r@x>\r\n\r\n<e/>"


@pytest.mark.parametrize("data", [AWKWARD, b"", b"\r\n", b"x" * 9_000, "é".encode("latin-1")])
def test_bytes_survive(data: bytes) -> None:
    message = mtom.parse(*built(data), limit=LIMIT)
    assert (message.envelope, dict(message.parts)) == (ENVELOPE, {"doc 1@x": data})


def test_content_type_names_everything_the_volet_demands() -> None:
    content_type, body = built()
    assert re.fullmatch(
        r'multipart/related; boundary="[^"]+"; type="application/xop\+xml"; start="<[^>]+>"; '
        r'start-info="application/soap\+xml"; action="urn:action"',
        content_type,
    )
    root_header = body.split(b"\r\n\r\n")[0]
    assert b'Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"' in root_header
    assert b"Content-Transfer-Encoding: binary" in root_header


def test_parts_are_told_apart_by_content_id_not_order() -> None:
    message = reframed(b"Content-ID: <d@x>\r\n\r\ndata", ROOT)
    assert (message.envelope, dict(message.parts)) == (b"<e/>", {"d@x": b"data"})


def test_without_start_the_first_part_is_the_root() -> None:
    message = reframed(b"\r\n<e/>", b"Content-ID: <d@x>\r\n\r\ndata", content_type='multipart/related; boundary="B"')
    assert (message.envelope, dict(message.parts)) == (b"<e/>", {"d@x": b"data"})


def test_base64_parts_are_decoded() -> None:
    message = reframed(ROOT, b"Content-ID: <d@x>\r\nContent-Transfer-Encoding: BASE64\r\n\r\nZGF0\r\nYQ==")
    assert message.parts["d@x"] == b"data"


def test_plain_soap_is_a_message_without_parts() -> None:
    message = mtom.parse("application/soap+xml; charset=UTF-8", ENVELOPE, limit=LIMIT)
    assert (message.envelope, dict(message.parts)) == (ENVELOPE, {})


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("text/html", b"<html/>", "neither"),
        ("", b"", "neither"),
        ("multipart/related", b"--B--", "without boundary"),
        ("multipart/related; boundary=B", b"--B\r\n" + ROOT, "cut short"),
        ("multipart/related; boundary=B", b"--B--", "cut short"),
        ("multipart/related; boundary=B", b"--B\r\nContent-ID: <a>\r\n--B--", "empty line"),
        ('multipart/related; boundary=B; start="<z>"', b"--B\r\n" + ROOT + b"\r\n--B--", "named by start"),
        ("multipart/related; boundary=B", b"--B\r\n" + ROOT + b"\r\n--B\r\n" + ROOT + b"\r\n--B--", "same Content-ID"),
        (
            "multipart/related; boundary=B",
            b"--B\r\nContent-Transfer-Encoding: x-uu\r\n\r\n\r\n--B--",
            "Transfer-Encoding",
        ),
        ("multipart/related; boundary=B", b"--B\r\nContent-Transfer-Encoding: base64\r\n\r\n*\r\n--B--", "Base64"),
        ("multipart/related; boundary=B", b"--B\r\n\r\n\r\n" * 101 + b"--B--", "parts"),
        ("application/soap+xml", b"x" * (LIMIT + 1), "larger"),
    ],
)
def test_malformed_messages_are_refused(content_type: str, body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        mtom.parse(content_type, body, limit=LIMIT)


def test_include_leads_to_its_part() -> None:
    document = etree.Element("Document")
    document.append(mtom.include("doc 1@x"))
    assert document[0].get("href") == "cid:doc%201@x"
    assert mtom.binary_content(document, mtom.parse(*built(), limit=LIMIT).parts) == AWKWARD


def test_inline_base64_is_accepted_on_reception() -> None:
    document = etree.Element("Document")
    document.text = "ZGF0\n YQ=="
    assert mtom.binary_content(document, {}) == b"data"


@pytest.mark.parametrize("href", ["cid:unknown", "doc@x", "http://doc@x"])
def test_include_of_an_absent_part_is_refused(href: str) -> None:
    document = etree.Element("Document")
    etree.SubElement(document, f"{{{mtom.XOP}}}Include", href=href)
    with pytest.raises(UnreadableError, match="names a part"):
        mtom.binary_content(document, {"doc@x": memoryview(b"")})
