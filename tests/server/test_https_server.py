"""The HTTPS of the sandbox DMP: connections that are kept, bodies of any framing, answers that are spoiled."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509

from relais.server.sandbox.authority import Authority
from relais.server.sandbox.https_server import Answer, HttpsServer, Request

MAX = 1_000_000


class Desk:
    """A server that says what it was asked, and a client with its certificate."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder, "127.0.0.1")
        self.answer = Answer(200, "text/plain", b"")
        self.asked: list[Request] = []
        self.server = HttpsServer(
            self._answer, authority.server_context(clients=True), host="127.0.0.1", max_request=MAX
        )
        self.context = ssl.create_default_context(cafile=str(authority.ca_file))
        self.context.load_cert_chain(authority.client_certificate())

    def _answer(self, request: Request) -> Answer:
        self.asked.append(request)
        return self.answer if self.answer.body else replace(self.answer, body=request.body)

    def connection(self) -> HTTPSConnection:
        return HTTPSConnection("127.0.0.1", self.server.port, timeout=20, context=self.context)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.server.start()
    yield desk
    desk.server.stop()


def test_one_connection_serves_many_requests(desk: Desk) -> None:
    connection = desk.connection()
    connection.connect()
    own_port = connection.sock.getsockname()[1]
    for body in (b"one", b"", b"three" * 30_000):
        connection.request("POST", "/place?a=b", body=body, headers={"Content-Type": "text/x"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, body)
        assert connection.sock.getsockname()[1] == own_port
    assert {request.url for request in desk.asked} == {f"https://127.0.0.1:{desk.server.port}/place?a=b"}
    assert {request.content_type for request in desk.asked} == {"text/x"}
    names = desk.asked[0].client.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert names
    connection.close()


def test_a_body_in_chunks(desk: Desk) -> None:
    connection = desk.connection()
    for _ in range(2):
        connection.request("POST", "/", body=iter([b"one ", b"two"]), encode_chunked=True)
        assert connection.getresponse().read() == b"one two"
    connection.close()


def test_a_client_that_waits_to_be_told_to_go_on(desk: Desk) -> None:
    connection = desk.connection()
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", "4")
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    connection.send(b"body")
    assert connection.getresponse().read() == b"body"
    connection.close()


@pytest.mark.parametrize("framed", [True, False])
def test_a_body_that_is_too_large_is_read_and_refused(desk: Desk, framed: bool) -> None:
    connection = desk.connection()
    body = b"x" * (MAX + 1)
    connection.request("POST", "/", body=body if framed else iter([body]), encode_chunked=not framed)
    answer = connection.getresponse()
    assert (answer.status, answer.will_close, desk.asked) == (413, True, [])
    connection.close()


def test_a_request_that_is_cut_short_is_no_request(desk: Desk) -> None:
    connection = desk.connection()
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", "5")
    connection.endheaders(b"four")
    connection.close()
    desk.server.stop()
    assert desk.asked == []


def test_half_an_answer_and_none(desk: Desk) -> None:
    connection = desk.connection()
    desk.answer = Answer(200, "text/plain", b"half", announced=8)
    connection.request("POST", "/")
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    desk.answer = Answer(200, "text/plain", b"nothing", is_cut=True)
    connection.close()
    connection.request("POST", "/")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError, ssl.SSLError)):
        connection.getresponse()
    connection.close()


def test_the_end_of_the_server_cuts_what_is_kept(desk: Desk) -> None:
    connection = desk.connection()
    connection.request("POST", "/", body=b"one")
    assert connection.getresponse().read() == b"one"
    desk.server.stop()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError, ssl.SSLError)):
        connection.request("POST", "/", body=b"two")
        connection.getresponse()
    connection.close()


def test_a_fault_of_the_handler_is_answered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "asked", None)
    connection = desk.connection()
    connection.request("POST", "/")
    assert connection.getresponse().status == 500
    connection.close()
