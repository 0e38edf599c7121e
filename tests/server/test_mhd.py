"""The channel to a FHIR document share (PDSm, MHD): a running facade behind TLS, and servers that fail."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from relais.cda.model import II
from relais.cda.reader import read
from relais.cda.xds import REPLACE, Association, MetadataAuthor
from relais.mappings import pdsm
from relais.server.cli import main
from relais.server.conformance import Conformance
from relais.server.delivery.channel import DeliveryError, Shipment, entry_uuid, recording
from relais.server.delivery.https import LostAnswerError
from relais.server.delivery.mhd import MhdChannel, Share
from relais.server.delivery.redaction import redacted
from relais.server.settings import Settings
from support.documents import small_document
from support.facade import RunningFacade, running_facade
from support.https import Request, ScriptedServer
from support.https import http as answer_of
from support.shipments import PATIENT_ID, small_shipment, with_entry

INS = "279035121518989"


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    with running_facade(tmp_path_factory.mktemp("share"), workers=1) as facade:
        yield facade


@pytest.fixture
def front(share: RunningFacade, tmp_path: Path) -> Iterator[ScriptedServer]:
    """The share, behind TLS."""
    with ScriptedServer(tmp_path) as running:
        running.answer = lambda request, connection: connection.sendall(forwarded(share, request, running.url))
        yield running


def forwarded(share: RunningFacade, request: Request, front: str = "") -> bytes:
    """The answer of the share, whose addresses lead to what stands before it."""
    method, address, _ = request.line.split(" ")
    base = urlsplit(share.base)
    connection = http.client.HTTPConnection(base.hostname or "", base.port, timeout=30)
    headers = {name: request.headers[name] for name in ("content-type", "accept") if name in request.headers}
    connection.request(method, address.replace("/repository", base.path), request.body, headers)
    answer = connection.getresponse()
    body = answer.read().replace(share.base.encode(), (front or share.base).encode())
    connection.close()
    head = f"HTTP/1.1 {answer.status} x\r\nContent-Type: {answer.getheader('Content-Type')}\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def settings(server: ScriptedServer, **changes: object) -> Settings:
    return Settings.of({"mhd_url": server.url, "mhd_ca_file": str(server.ca_file), "sender_timeout": 20.0} | changes)


def shipment(number: str, *, version: int = 1, replaces: str = "", by_oid: bool = False) -> Shipment:
    """A shipment of a document of its own."""
    document = small_document()
    document.header.id = II(f"2.25.{number}")
    document.header.version_number = version
    made = with_entry(small_shipment(document), entry_id=entry_uuid(f"2.25.{number}"))
    if replaces:
        target = f"urn:oid:2.25.{replaces}" if by_oid else entry_uuid(f"2.25.{replaces}")
        association = Association(REPLACE, made.submission.entries[0].entry_id, target)
        made = replace(made, submission=replace(made.submission, associations=(association,)))
    return made


def fiche(share: RunningFacade, number: str) -> dict[str, object]:
    found = share.get(f"DocumentReference?identifier={pdsm.URI}|urn:oid:2.25.{number}").json()
    assert found["total"] == 1
    resource: dict[str, object] = found["entry"][0]["resource"]
    return resource


# --- the share takes it -----------------------------------------------------------------------------------------------


def test_a_document_is_deposited_once_and_comes_back_as_it_was(share: RunningFacade, front: ScriptedServer) -> None:
    channel, sent = MhdChannel(settings(front)), shipment("1001")
    with recording() as exchanges:
        assert channel.send(sent).detail == "stored by the share"
    assert [exchange.step for exchange in exchanges] == ["ITI-67", "ITI-65"]
    for exchange in exchanges:
        assert exchange.request.startswith(b"Content-Type: application/")
        assert exchange.response is not None
        assert redacted(exchange.response).startswith("HTTP 200\nContent-Type: application/fhir+json")
    assert channel.send(sent).detail == "held by the share already"
    stored = Share(settings(front)).find("urn:oid:2.25.1001")
    assert stored is not None
    assert Share(settings(front)).retrieve(stored) == sent.document
    lists = share.get(f"List?patient={stored['subject']['reference']}&code=submissionset").json()
    assert [one["item"]["reference"] for one in lists["entry"][0]["resource"]["entry"]] == [
        f"DocumentReference/{stored['id']}"
    ]
    channel.close()


def test_a_patient_is_found_by_the_ins(share: RunningFacade, front: ScriptedServer) -> None:
    channel = MhdChannel(settings(front))
    channel.send(shipment("1011"))
    channel.send(shipment("1012"))
    assert fiche(share, "1011")["subject"] == fiche(share, "1012")["subject"]
    channel.close()


def test_a_replaced_document_is_superseded(share: RunningFacade, front: ScriptedServer) -> None:
    channel = MhdChannel(settings(front))
    channel.send(shipment("1021"))
    channel.send(shipment("1022", version=2, replaces="1021"))
    former, current = fiche(share, "1021"), fiche(share, "1022")
    assert (former["status"], current["status"]) == ("superseded", "current")
    assert current["relatesTo"] == [{"code": "replaces", "target": {"reference": f"DocumentReference/{former['id']}"}}]
    receipt = channel.send(shipment("1024", replaces="1023"))
    assert "does not hold the document that this one replaces" in receipt.remark
    assert "relatesTo" not in fiche(share, "1024")
    channel.close()


def test_a_withdrawn_document_is_out_of_use(share: RunningFacade, front: ScriptedServer) -> None:
    channel, sent = MhdChannel(settings(front)), shipment("1031")
    withdrawal = replace(sent, action="withdraw")
    with pytest.raises(DeliveryError, match="does not hold"):
        channel.send(withdrawal)
    channel.send(sent)
    assert channel.send(withdrawal).detail == "taken out of use on the share"
    assert fiche(share, "1031")["status"] == "superseded"
    assert channel.send(withdrawal).detail == "out of use already"
    with pytest.raises(DeliveryError, match="out of use already") as refused:
        channel.send(sent)
    assert not refused.value.retry
    channel.close()


def test_another_document_of_the_same_identifier_is_never_taken_for_it(front: ScriptedServer) -> None:
    channel = MhdChannel(settings(front))
    channel.send(shipment("1041"))
    with pytest.raises(DeliveryError, match="another document has this identifier") as refused:
        channel.send(shipment("1041", version=2))
    assert not refused.value.retry
    channel.close()


def test_a_lost_answer_does_not_double_the_document(share: RunningFacade, front: ScriptedServer) -> None:
    channel, sent = MhdChannel(settings(front)), shipment("1051")

    def losing(request: Request, connection: socket.socket) -> None:
        content = forwarded(share, request)
        if "_search" in request.line:
            connection.sendall(content)  # else the connection is closed without a word

    front.answer = losing
    with pytest.raises(DeliveryError) as lost:
        channel.send(sent)
    assert lost.value.retry
    assert channel.send(sent).detail == "held by the share already"
    assert fiche(share, "1051")["status"] == "current"
    channel.close()


def test_a_simplified_deposit_and_its_replacement(share: RunningFacade, front: ScriptedServer) -> None:
    channel = MhdChannel(settings(front, mhd_deposit="simplified"))
    MhdChannel(settings(front)).send(shipment("1070"))  # the share knows the patient
    with recording() as exchanges:
        assert channel.send(shipment("1071")).detail == "stored by the share"
    assert [exchange.step for exchange in exchanges] == ["ITI-67", "Patient", "ITI-105"]
    assert channel.send(shipment("1071")).detail == "held by the share already"
    channel.send(shipment("1072", version=2, replaces="1071", by_oid=True))
    former, current = fiche(share, "1071"), fiche(share, "1072")
    assert (former["status"], current["status"]) == ("superseded", "current")
    assert former["subject"] == fiche(share, "1070")["subject"]
    assert Share(settings(front)).retrieve(former) == shipment("1071").document
    channel.close()


def test_a_simplified_deposit_needs_a_patient_whom_the_share_knows(front: ScriptedServer) -> None:
    channel, sent = MhdChannel(settings(front, mhd_deposit="simplified")), shipment("1075")
    unknown = PATIENT_ID.replace("279035121518989", "255069999999934")
    with pytest.raises(DeliveryError, match="knows 0 patients") as refused:
        channel.send(with_entry(sent, patient_id=unknown))
    assert not refused.value.retry
    channel.close()


def test_a_lost_answer_does_not_double_a_simplified_deposit(share: RunningFacade, front: ScriptedServer) -> None:
    MhdChannel(settings(front)).send(shipment("1076"))
    channel, sent = MhdChannel(settings(front, mhd_deposit="simplified")), shipment("1077")

    def losing(request: Request, connection: socket.socket) -> None:
        content = forwarded(share, request)
        if "_search" in request.line:
            connection.sendall(content)

    front.answer = losing
    with pytest.raises(DeliveryError) as lost:
        channel.send(sent)
    assert lost.value.retry
    assert channel.send(sent).detail == "held by the share already"
    channel.close()


# --- by hand --------------------------------------------------------------------------------------------------------


def relais(front: ScriptedServer, *arguments: str, code: int = 0, **changes: str) -> str:
    values = {"mhd_url": front.url, "mhd_ca_file": str(front.ca_file), "sender_timeout": "20", **changes}
    environ = {f"RELAIS_{name.upper()}": value for name, value in values.items()}
    done = CliRunner().invoke(main, ["share", *arguments], env=environ)
    assert done.exit_code == code, done.output
    return done.output


def test_documents_are_found_and_read_by_hand(front: ScriptedServer, tmp_path: Path) -> None:
    channel = MhdChannel(settings(front))
    for number in range(60):  # more than a page
        channel.send(shipment(f"20{number:02}"))
    channel.send(shipment("2060", version=2, replaces="2059"))
    channel.close()
    found = json.loads(relais(front, "search", INS, "--json"))["documents"]
    names = {one["identifier"] for one in found}
    assert {f"urn:oid:2.25.20{number:02}" for number in range(59)} | {"urn:oid:2.25.2060"} <= names
    assert "urn:oid:2.25.2059" not in names
    assert "superseded 18776-5 urn:oid:2.25.2059" in relais(front, "search", INS, "--status", "superseded")
    assert relais(front, "search", INS, "--type", "56446-8") == "no document\n"
    with recording() as exchanges:
        Share(settings(front)).search({"patient.identifier": INS, "status": "current"})
    assert len(exchanges) > 1
    assert not any(INS in exchange.endpoint for exchange in exchanges)  # a further page has it in its address
    relais(front, "get", INS, "2.25.2059", "-o", str(tmp_path / "document.xml"))
    assert (tmp_path / "document.xml").read_bytes() == shipment("2059").document


@pytest.mark.parametrize(
    ("arguments", "changes", "expected"),
    [
        (("search", "279035121518988"), {}, "right key"),
        (("get", INS, "2.25.404", "-o", "x.xml"), {}, "0 documents of this patient"),
        (("get", "255069999999934", "2.25.2000", "-o", "x.xml"), {}, "0 documents of this patient"),
        (("search", INS), {"mhd_url": ""}, "no document share is configured"),
        (("search", INS), {"mhd_url": "http://127.0.0.1/"}, "https only"),
    ],
)
def test_refusals_are_one_line_and_name_no_patient(
    front: ScriptedServer, arguments: tuple[str, ...], changes: dict[str, str], expected: str
) -> None:
    said = relais(front, *arguments, code=1, **changes)
    assert expected in said
    assert arguments[1] not in said


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_the_simplified_deposit_meets_the_profile_of_the_volet(cisis: Path) -> None:
    sent = shipment("1078")
    made = pdsm.simplified(read(sent.document).document, sent.document, sent.submission, "Patient/1")
    conformance = Conformance.load(Settings(fhir_packages=str(cisis / "fhir")))
    errors = [issue for issue in conformance.validate(made) if issue.severity in ("fatal", "error")]
    assert errors == []
    assert base64.b64decode(made["content"][0]["attachment"]["data"]) == sent.document


def test_the_deposit_meets_the_profiles_of_the_volet(cisis: Path) -> None:
    sent = shipment("1061")
    bundle = pdsm.deposit(read(sent.document).document, sent.document, sent.submission)
    found = Conformance.load(Settings.of({"cisis_pack": str(cisis)})).validate(bundle)
    assert [str(issue) for issue in found if issue.severity in ("error", "fatal")] == []
    assert pdsm.deposit(read(sent.document).document, sent.document, sent.submission) == bundle


OWN = "Appui du Val^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1910020254"


@pytest.mark.parametrize(
    ("author", "kind", "number", "link"),
    [
        (
            MetadataAuthor("810100000019^D'ARC^Zoé^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS", (OWN,)),
            "PractitionerRole",
            {"system": "https://rpps.esante.gouv.fr", "value": "10100000019"},
            "organization",
        ),
        (
            MetadataAuthor("3910020254/Relais^Relais^Relais^^^^^^&1.2.250.1.71.4.2.1&ISO^U^^^RI", (OWN,)),
            "Device",
            {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": "3910020254/Relais"},
            "owner",
        ),
    ],
)
def test_who_sends_without_having_written_is_the_source_of_the_lot(
    cisis: Path, author: MetadataAuthor, kind: str, number: dict[str, str], link: str
) -> None:
    sent = shipment("1071")
    lot = replace(sent.submission.submission_set, author=author)
    bundle = pdsm.deposit(read(sent.document).document, sent.document, replace(sent.submission, submission_set=lot))
    found = Conformance.load(Settings.of({"cisis_pack": str(cisis)})).validate(bundle)
    assert [str(issue) for issue in found if issue.severity in ("error", "fatal")] == []
    resource = bundle["entry"][0]["resource"]
    contained = {f"#{one['id']}": one for one in resource["contained"]}
    source = contained[resource["source"]["reference"]]
    person = contained[source["practitioner"]["reference"]] if kind == "PractitionerRole" else source
    assert source["resourceType"] == kind
    assert {name: person["identifier"][0][name] for name in number} == number
    assert contained[source[link]["reference"]]["identifier"] == [
        {"system": "https://finess.esante.gouv.fr", "value": "910020254"}
    ]


# --- the share fails --------------------------------------------------------------------------------------------------

NOTHING_FOUND = answer_of(b'{"resourceType":"Bundle","type":"searchset"}', content_type="application/fhir+json")
OUTCOME = b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"x","diagnostics":"closed"}]}'


@pytest.mark.parametrize(
    ("answer", "message", "retry"),
    [
        (answer_of(OUTCOME, status=422), "answers 422: closed", False),
        (answer_of(OUTCOME, status=403), "answers 403: closed", False),
        (answer_of(b"", status=503), "HTTP 503", True),
        (answer_of(b"<html>", status=200), "answers no transaction-response", True),
        (answer_of(b'{"resourceType":"Bundle","type":"transaction-response"}'), "no valid FHIR", True),
        (answer_of(b'{"resourceType":"Bundle","type":"transaction-response","entry":[1]}'), "no valid FHIR", True),
        (
            answer_of(
                b'{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"201"}}]}'
            ),
            "does not answer every entry",
            True,
        ),
        (b"", "cut before an answer", True),
    ],
)
def test_answers_that_are_no_success(tmp_path: Path, answer: bytes, message: str, retry: bool) -> None:
    with ScriptedServer(tmp_path) as server:
        server.answer = lambda request, connection: connection.sendall(
            NOTHING_FOUND if "_search" in request.line else answer
        )
        channel = MhdChannel(settings(server))
        with pytest.raises(DeliveryError, match=message) as failed:
            channel.send(shipment("1071"))
        assert failed.value.retry is retry
        assert "279035121518989" not in str(failed.value)
        channel.close()


@pytest.mark.parametrize(
    "answer",
    [
        b'{"resourceType":"Bundle","type":"searchset","entry":[3]}',
        b'{"resourceType":"Bundle","type":"searchset","entry":3}',
    ],
)
def test_a_search_answer_that_is_no_fhir(tmp_path: Path, answer: bytes) -> None:
    with ScriptedServer(tmp_path) as server:
        server.answer = lambda request, connection: connection.sendall(answer_of(answer))
        channel = MhdChannel(settings(server))
        with pytest.raises(DeliveryError, match="no valid FHIR"):
            channel.send(shipment("1081"))
        assert len(server.requests) == 1  # nothing was deposited
        channel.close()


def test_nothing_leaves_without_tls_or_to_a_stranger(front: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="https only"):
        MhdChannel(Settings.of({"mhd_url": "http://127.0.0.1:9/fhir"})).send(shipment("1091"))
    with pytest.raises(DeliveryError, match="is not trusted: nothing was sent") as refused:
        MhdChannel(settings(front, mhd_ca_file="")).send(shipment("1091"))
    assert not refused.value.retry
    assert front.requests == []


@pytest.mark.parametrize(("status", "body", "doubt"), [(500, b"<html>", True), (501, b"", True), (500, OUTCOME, False)])
def test_a_fault_of_the_share_without_a_word_leaves_a_doubt(
    tmp_path: Path, status: int, body: bytes, doubt: bool
) -> None:
    with ScriptedServer(tmp_path) as server:
        server.answer = lambda request, connection: connection.sendall(
            NOTHING_FOUND if "_search" in request.line else answer_of(body, status=status)
        )
        channel = MhdChannel(settings(server))
        with pytest.raises(DeliveryError) as failed:
            channel.send(shipment("1111"))
        assert (isinstance(failed.value, LostAnswerError), failed.value.retry) == (doubt, True)
        channel.close()


def test_a_share_that_is_down_is_tried_again() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{nobody.getsockname()[1]}/fhir"
    with pytest.raises(DeliveryError) as failed:
        MhdChannel(Settings.of({"mhd_url": url})).send(shipment("1101"))
    assert failed.value.retry
