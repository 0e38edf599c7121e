"""The DMP channel against servers that answer right, wrong, half, late or not at all."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.dmp import DmpChannel
from relais.server.delivery.dmp_soap import MAX_ANSWER
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.soap import (
    PROVIDE_AND_REGISTER,
    ProvideAndRegister,
    read_provide_and_register,
    read_request,
)
from relais.server.settings import Settings
from support.https import Answer, Request, ScriptedServer, http
from support.shipments import small_shipment, with_entry

REGREP = "urn:oasis:names:tc:ebxml-regrep"
TIMEOUT = 0.4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(tmp_path) as running:
        running.answer = answering(registry_response())
        yield running


@pytest.fixture
def channel(server: ScriptedServer) -> DmpChannel:
    return DmpChannel(settings(server))


def settings(server: ScriptedServer, **changes: object) -> Settings:
    values = {
        "dmp_url": server.url,
        "dmp_ca_file": str(server.ca_file),
        "dmp_certificate": str(CERTIFICATES["client"]),
        "dmp_signing_certificate": str(CERTIFICATES["signing"]),
        "dmp_homologation": "TEST",
        "dmp_existence_check": False,
        "sender_timeout": TIMEOUT,
    }
    return Settings.of(values | changes)


CERTIFICATES: dict[str, Path] = {}


@pytest.fixture(scope="module", autouse=True)
def certificates(tmp_path_factory: pytest.TempPathFactory) -> None:
    authority = Authority(tmp_path_factory.mktemp("authority"), "127.0.0.1")
    CERTIFICATES.update(client=authority.client_certificate(), signing=authority.signing_certificate())


def registry_response(*errors: str, status: str | None = None) -> str:
    status = status or f"{REGREP}:ResponseStatusType:{'Failure' if errors else 'Success'}"
    return (
        f'<rs:RegistryResponse xmlns:rs="{REGREP}:xsd:rs:3.0" status="{status}">'
        f"<rs:RegistryErrorList>{''.join(errors)}</rs:RegistryErrorList></rs:RegistryResponse>"
    )


def registry_error(code: str, context: str = "contexte", severity: str = "Error") -> str:
    return (
        f'<rs:RegistryError errorCode="{code}" codeContext="{context}" location="Document01" '
        f'severity="{REGREP}:ErrorSeverityType:{severity}"/>'
    )


def fault(code: str) -> str:
    return (
        f"<s:Fault><s:Code><s:Value>s:{code}</s:Value></s:Code>"
        '<s:Reason><s:Text xml:lang="fr">jeton refusé</s:Text></s:Reason></s:Fault>'
    )


def provided(request: Request, server: ScriptedServer) -> ProvideAndRegister:
    """The ITI-41 request that the server received, read by the sandbox."""
    framed = read_request(request.headers["content-type"], request.body, server.url, [PROVIDE_AND_REGISTER])
    return read_provide_and_register(framed)


def envelope(body: str, relates_to: str) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing">'
        f"<s:Header><a:RelatesTo>{relates_to}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def message_id(request: Request) -> str:
    found = re.search(rb"<wsa:MessageID>(.*?)</wsa:MessageID>", request.body)
    assert found
    return found[1].decode()


def answering(body: str, status: str = "200 OK", relates_to: str | None = None):
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(http(envelope(body, relates_to or message_id(request)), status=status))

    return answer


def saying(data: bytes):
    return lambda request, connection: connection.sendall(data)


def once(server: ScriptedServer, answer: Answer) -> Answer:
    """That answer to the first request; to what is asked about it, that the server is not available."""
    unavailable = saying(http(b"busy", status="503 Service Unavailable"))
    return lambda request, connection: (answer if len(server.requests) == 1 else unavailable)(request, connection)


def failure(channel: DmpChannel) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        channel.send(small_shipment())
    return caught.value


# --- request --------------------------------------------------------------------------------------------------------


def test_request_is_a_well_framed_provide_and_register(server: ScriptedServer, channel: DmpChannel) -> None:
    shipment = with_entry(small_shipment(), uri="DOC00001.XML")
    channel.send(shipment)
    request = server.requests[0]
    assert request.line == "POST /repository HTTP/1.1"
    received = provided(request, server)
    assert received.documents[0] == ("Document01", shipment.document)
    assert [name for name, _ in received.documents] == ["Document01", "Signature01"]
    slots = received.metadata.xpath("//*[local-name()='Slot']/@name")
    assert "hash" in slots
    assert "URI" not in slots


def test_each_try_has_its_own_message_id_and_the_same_document(server: ScriptedServer, channel: DmpChannel) -> None:
    shipment = small_shipment()
    channel.send(shipment)
    channel.send(shipment)
    first, second = (provided(request, server) for request in server.requests)
    assert first.message_id != second.message_id
    assert first.documents == second.documents


@pytest.mark.parametrize("change", [{"hash": "0" * 40}, {"size": 1}])
def test_metadata_of_other_bytes_are_never_sent(
    server: ScriptedServer, channel: DmpChannel, change: dict[str, object]
) -> None:
    with pytest.raises(DeliveryError, match="differs from the document") as caught:
        channel.send(with_entry(small_shipment(), **change))
    assert not caught.value.retry
    assert not server.requests


def test_metadata_that_lack_something_are_never_sent(server: ScriptedServer, channel: DmpChannel) -> None:
    with pytest.raises(DeliveryError, match="title") as caught:
        channel.send(with_entry(small_shipment(), title=""))
    assert not caught.value.retry
    assert not server.requests


def test_two_documents_are_not_sent_as_one(server: ScriptedServer, channel: DmpChannel) -> None:
    shipment = small_shipment()
    entries = shipment.submission.entries * 2
    with pytest.raises(DeliveryError, match="one document"):
        channel.send(replace(shipment, submission=replace(shipment.submission, entries=entries)))
    assert not server.requests


# --- answers --------------------------------------------------------------------------------------------------------


def test_success(channel: DmpChannel) -> None:
    assert channel.send(small_shipment()).detail == "stored by the repository"


@pytest.mark.parametrize("start", ['; start="<r@x>"', "; start=<r@x>", ""])
def test_success_in_a_multipart_answer(server: ScriptedServer, channel: DmpChannel, start: str) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        body = (
            b"--b\r\nCONTENT-ID: <r@x>\r\n\r\n" + envelope(registry_response(), message_id(request)) + b"\r\n--b--\r\n"
        )
        connection.sendall(http(body, content_type=f"multipart/related; boundary=b{start}"))

    server.answer = answer
    assert channel.send(small_shipment()).detail == "stored by the repository"


def test_warnings_of_a_success_are_kept(server: ScriptedServer, channel: DmpChannel) -> None:
    warning = registry_error("XDSRegistryError", "titre tronqué", "Warning")
    server.answer = answering(registry_response(warning, status=f"{REGREP}:ResponseStatusType:Success"))
    assert "warning XDSRegistryError: titre tronqué" in channel.send(small_shipment()).detail


@pytest.mark.parametrize(
    ("code", "retry", "issue_code"),
    [
        ("XDSRegistryBusy", True, "transient"),
        ("XDSRepositoryBusy", True, "transient"),
        ("XDSRegistryOutOfResources", True, "transient"),
        ("XDSRepositoryOutOfResources", True, "transient"),
        ("XDSRegistryNotAvailable", True, "transient"),
        ("XDSDuplicateUniqueIdInRegistry", False, "duplicate"),
        ("XDSRepositoryDuplicateUniqueIdInMessage", False, "duplicate"),
        ("XDSRegistryMetadataError", False, "invalid"),
        ("InvalidDocumentContent", False, "invalid"),
        ("XDSNonIdenticalHash", False, "duplicate"),
        ("XDSUnknownPatientId", False, "not-found"),
        ("XDSReplaceFailed", False, "conflict"),
        ("XDSRepositoryError", False, "processing"),
        ("DMPClosed", False, "not-found"),
        ("DMPSomethingNew", False, "processing"),
    ],
)
def test_registry_errors(server: ScriptedServer, channel: DmpChannel, code: str, retry: bool, issue_code: str) -> None:
    server.answer = answering(registry_response(registry_error(code)))
    error = failure(channel)
    issue = error.issues[0]
    assert (error.retry, issue.code, issue.rule, issue.path) == (retry, issue_code, code, "Document01")
    assert f"{code}: contexte" in issue.message


def test_a_duplicate_is_asked_about(server: ScriptedServer, channel: DmpChannel) -> None:
    server.answer = answering(registry_response(registry_error("XDSDuplicateUniqueIdInRegistry")))
    assert "send it under another identifier" in str(failure(channel))
    assert [request.line for request in server.requests] == ["POST /repository HTTP/1.1", "POST /registry HTTP/1.1"]


def test_one_final_error_among_transient_ones_is_final(server: ScriptedServer, channel: DmpChannel) -> None:
    errors = [registry_error("XDSRegistryBusy"), registry_error("XDSRegistryMetadataError")]
    server.answer = answering(registry_response(*errors))
    error = failure(channel)
    assert (len(error.issues), error.retry) == (2, False)


def test_success_that_carries_an_error_is_no_success(server: ScriptedServer, channel: DmpChannel) -> None:
    body = registry_response(registry_error("XDSRegistryBusy"), status=f"{REGREP}:ResponseStatusType:Success")
    server.answer = answering(body)
    assert not failure(channel).retry


@pytest.mark.parametrize("status", ["urn:ihe:iti:2007:ResponseStatusType:PartialSuccess", "Failure", "bogus"])
def test_a_status_without_success_or_error_is_final(server: ScriptedServer, channel: DmpChannel, status: str) -> None:
    server.answer = answering(registry_response(status=status))
    assert not failure(channel).retry


def test_matricules_in_the_words_of_the_repository_are_masked(server: ScriptedServer, channel: DmpChannel) -> None:
    context = "patient 279035121518989^^^&amp;1.2.250.1.213.1.4.8 inconnu"
    server.answer = answering(registry_response(registry_error("XDSUnknownPatientId", context)))
    message = str(failure(channel))
    assert "279035121518989" not in message
    assert "patient …^^^&1.2.250.1.213.1.4.8 inconnu" in message


@pytest.mark.parametrize(("code", "retry"), [("Sender", False), ("MustUnderstand", False), ("Receiver", True)])
def test_soap_faults(server: ScriptedServer, channel: DmpChannel, code: str, retry: bool) -> None:
    server.answer = answering(fault(code), status="500 Internal Server Error")
    error = failure(channel)
    assert error.retry is retry
    assert "jeton refusé" in str(error)


@pytest.mark.parametrize(
    ("answer", "retry", "text"),
    [
        (http(b"<html>Maintenance</html>", content_type="text/html"), True, "may have been stored"),
        (http(b"", content_type="application/soap+xml"), True, "may have been stored"),
        (http(b"<a>"), True, "may have been stored"),
        (http(b"<a/>"), True, "no SOAP 1.2 envelope"),
        (http(b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'), True, "DTD"),
        (http(envelope("<a/><b/>", "urn:uuid:1")), True, "not one element"),
        (http(envelope(registry_response(), "urn:uuid:1")), True, "does not relate"),
        (http(envelope(registry_response(), "")), True, "does not relate"),
        (http(b"--b\r\nContent-ID: <r>\r\n\r\n<a/>", content_type="multipart/related; boundary=b"), True, "cut short"),
        (http(b"x" * 100, length=200), True, "cut short"),
        (http(b"x" * (MAX_ANSWER + 1)), False, "larger"),
        (http(b"busy", status="503 Service Unavailable"), True, "HTTP 503"),
        (http(b"busy", status="429 Too Many Requests"), True, "HTTP 429"),
        (http(b"<html/>", status="404 Not Found", content_type="text/html"), False, "HTTP 404"),
        (http(b"<html/>", status="500 Internal Server Error", content_type="text/html"), True, "may have been stored"),
        (http(b"", status="504 Gateway Timeout"), True, "may have been stored"),
        (http(b"", status="302 Found\r\nLocation: https://127.0.0.1:1/"), False, "HTTP 302"),
        (b"not HTTP\r\n\r\n", True, "connection"),
        (b"", True, "connection"),
    ],
)
def test_answers_that_are_none(
    server: ScriptedServer, channel: DmpChannel, answer: bytes, retry: bool, text: str
) -> None:
    server.answer = saying(answer)
    error = failure(channel)
    assert text in str(error)
    assert error.retry is retry


# --- network --------------------------------------------------------------------------------------------------------


def test_silence_is_a_timeout_after_which_the_document_may_be_stored(
    server: ScriptedServer, channel: DmpChannel
) -> None:
    server.answer = lambda request, connection: bool(server.released.wait(10)) and None
    error = failure(channel)
    assert (error.issues[0].code, error.retry) == ("timeout", True)
    assert "may have been stored" in str(error)


def test_an_answer_that_drips_does_not_outlast_the_deadline(server: ScriptedServer, channel: DmpChannel) -> None:
    def drip(request: Request, connection: socket.socket) -> None:
        connection.sendall(http(b"", length=1_000_000))
        while not server.released.wait(TIMEOUT / 4):
            connection.sendall(b"x")

    server.answer = once(server, drip)
    error = failure(channel)
    assert (error.issues[0].code, error.retry) == ("timeout", True)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1; slow=",
    ],
    ids=["status line", "header", "body without length", "size of a chunk"],
)
def test_no_part_of_an_answer_outlasts_the_deadline(server: ScriptedServer, channel: DmpChannel, start: bytes) -> None:
    def drip(request: Request, connection: socket.socket) -> None:
        connection.sendall(start)
        while not server.released.wait(TIMEOUT / 4):
            connection.sendall(b"x")

    server.answer = once(server, drip)
    error = failure(channel)
    assert (error.issues[0].code, error.retry) == ("timeout", True)
    assert "may have been stored" in str(error)


def test_connection_refused(server: ScriptedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = failure(DmpChannel(settings(server, dmp_url=f"https://127.0.0.1:{port}/")))
    assert error.retry


def test_a_connection_that_stalls_before_tls(server: ScriptedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = failure(DmpChannel(settings(server, dmp_url=f"https://127.0.0.1:{port}/")))
    assert (error.issues[0].code, error.retry) == ("timeout", True)


def test_an_untrusted_certificate_is_final_and_nothing_is_sent(server: ScriptedServer) -> None:
    error = failure(DmpChannel(settings(server, dmp_ca_file="")))
    assert (error.issues[0].code, error.retry) == ("security", False)
    assert not server.requests


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"dmp_url": ""}, "dmp_url"),
        ({"dmp_url": "http://127.0.0.1/"}, "dmp_url"),
        ({"dmp_ca_file": "no"}, "dmp_ca_file"),
    ],
)
def test_settings_that_cannot_work(server: ScriptedServer, change: dict[str, str], path: str) -> None:
    error = failure(DmpChannel(settings(server, **change)))
    assert (error.issues[0].path, error.retry) == (path, False)
