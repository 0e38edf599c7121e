"""Files that go with a document: what is not whole, or not what it says, is refused with its place, before delivery."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from relais.cda.consistency import check_files
from relais.cda.errors import MappingError
from relais.cda.parsing import parse
from relais.cda.writer import write
from support.appointments import Agenda, single
from support.notifications import bundle_of, notify, request

PDF = b"%PDF-1.4\n%%EOF\n"
JPEG = b"\xff\xd8\xff\xe0 picture \xff\xd9"
PNG = b"\x89PNG\r\n\x1a\n picture IEND\xaeB`\x82"
GIF = b"GIF89a picture ;"
WHOLE = {
    "application/pdf": PDF,
    "image/jpeg": JPEG,
    "image/png": PNG,
    "image/gif": GIF,
    "text/plain": "Été\fsuite".encode(),
}
BROKEN = [
    ("application/pdf", PDF[:9], "relais-media-end", "the PDF has no end marker"),
    ("image/jpeg", JPEG[:9], "relais-media-end", "the JPG has no end marker"),
    ("image/png", PNG[:12], "relais-media-end", "the PNG has no end marker"),
    ("image/gif", GIF[:9], "relais-media-end", "the GIF has no end marker"),
    ("text/plain", b"a \x1b[2J", "relais-media-text", "control characters"),
]


def attachment(media_type: str, data: bytes) -> dict[str, Any]:
    return {"contentType": media_type, "data": base64.b64encode(data).decode(), "title": "Compte rendu"}


def notification(media_type: str, data: bytes) -> dict[str, Any]:
    return bundle_of(request(payload=[{"contentAttachment": attachment(media_type, data)}]))


@pytest.mark.parametrize("media_type", WHOLE)
def test_a_whole_file_goes_with_a_notification(media_type: str) -> None:
    document = write(notify(notification(media_type, WHOLE[media_type])).document)
    assert media_type.encode() in document
    assert check_files(parse(document)) == []


@pytest.mark.parametrize(("media_type", "data", "rule", "words"), BROKEN)
def test_a_file_that_is_not_whole_is_refused_with_a_notification(
    media_type: str, data: bytes, rule: str, words: str
) -> None:
    with pytest.raises(MappingError, match=words) as caught:
        notify(notification(media_type, data))
    places = [(issue.path, issue.rule) for issue in caught.value.issues if issue.severity == "error"]
    assert places == [("CommunicationRequest.payload[0].contentAttachment.data", rule)]


@pytest.mark.parametrize(("media_type", "data", "rule", "words"), BROKEN)
def test_a_binary_that_is_not_whole_is_refused_with_an_appointment(
    media_type: str, data: bytes, rule: str, words: str
) -> None:
    agenda = Agenda("enclosures")
    binary = {"contentType": media_type, "data": base64.b64encode(data).decode()}
    agenda.appointment(supportingInformation=[agenda.add("file", "Binary", **binary)])
    with pytest.raises(MappingError, match=words) as caught:
        single(agenda.bundle())
    [issue] = [issue for issue in caught.value.issues if issue.severity == "error"]
    assert (issue.path.endswith(".data"), issue.rule) == (True, rule)
