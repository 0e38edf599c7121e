"""Files that go with a document: what is not whole, or not what it says, is refused with its place, before delivery."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from relais.cda.consistency import check_files
from relais.cda.errors import MappingError
from relais.cda.model import Document, Media
from relais.cda.parsing import parse
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import Imported
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda.unstructured import unstructured
from support.appointments import Agenda, single
from support.documents import small_pps
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


def imported(document: Document) -> Imported:
    """What is read of a document once it is written."""
    data = write(document)
    return to_bundle(read(data).document, data)


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


@pytest.mark.parametrize("media_type", [one for one in WHOLE if one != "text/plain"])
def test_a_received_file_that_is_cut_short_is_kept_and_said(media_type: str) -> None:
    whole = notify(notification(media_type, WHOLE[media_type])).document
    assert "relais-media-end" not in [issue.rule for issue in imported(whole).issues]
    for section in whole.sections:
        for entry in section.entries:
            for relation in entry.relationships:
                for value in relation.statement.values:
                    if isinstance(value, Media):
                        value.data = WHOLE[media_type][:12]
    read_back = imported(whole)
    [issue] = [issue for issue in read_back.issues if issue.rule == "relais-media-end"]
    assert (issue.severity, issue.path.endswith("/observationMedia")) == ("warning", True)
    assert base64.b64encode(WHOLE[media_type][:12]).decode() in str(read_back.bundle)


def test_a_received_body_that_is_cut_short_is_kept_and_said() -> None:
    document = unstructured(small_pps(), JPEG, media_type="image/jpeg")
    assert document.non_xml_body is not None
    document.non_xml_body.data = JPEG[:9]
    found = [(issue.severity, issue.path) for issue in imported(document).issues if issue.rule == "relais-media-end"]
    assert found == [("warning", "component/nonXMLBody/text")]


@pytest.mark.parametrize(("level", "written"), [("V", "V"), ("R", "R"), ("L", "N")])
def test_a_notification_is_as_confidential_as_what_goes_with_it(level: str, written: str) -> None:
    system = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
    letter = {
        "resourceType": "DocumentReference",
        "id": "letter",
        "status": "current",
        "securityLabel": [{"coding": [{"system": system, "code": level}]}],
        "content": [{"attachment": attachment("application/pdf", PDF)}],
    }
    notice = bundle_of(request(letter, payload=[{"contentReference": {"reference": "#letter"}}]))
    confidentiality = notify(notice).document.header.confidentiality
    assert confidentiality is not None
    assert confidentiality.code == written


def test_an_agenda_is_as_confidential_as_what_goes_with_it() -> None:
    agenda = Agenda("restricted-letter")
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    letter = agenda.add(
        "letter",
        "DocumentReference",
        status="current",
        subject=agenda.ref("patient"),
        securityLabel=[{"coding": [label]}],
        content=[{"attachment": attachment("application/pdf", PDF)}],
    )
    agenda.appointment(supportingInformation=[letter])
    confidentiality = single(agenda.bundle()).document.header.confidentiality
    assert confidentiality is not None
    assert confidentiality.code == "R"
