"""The connection to the DMP: nothing leaves before both sides are known, and every byte arrives whatever the size."""

from __future__ import annotations

import hashlib
import socket
import ssl
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from relais.server.delivery import dmp_identity, mtom, tls
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.dmp import DmpChannel
from relais.server.delivery.https import Answer, Connections, Peer
from relais.server.sandbox import Sandbox
from relais.server.sandbox.authority import Authority
from relais.server.settings import Settings
from support.dmp import dmp_settings
from support.https import Request, ScriptedServer, http
from support.shipments import small_shipment

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "127.0.0.1")


def settings(server: ScriptedServer, authority: Authority, **changes: Any) -> Settings:
    values = {
        "dmp_url": server.url,
        "dmp_ca_file": str(server.ca_file),
        "dmp_certificate": str(authority.client_certificate()),
        "dmp_signing_certificate": str(authority.signing_certificate()),
        "dmp_homologation": "TEST",
        "dmp_existence_check": False,
        "sender_timeout": 20,
    }
    return Settings.of(values | changes)


# === the certificate of the other side ==============================================================================


@pytest.mark.parametrize(
    ("certificate", "revocation", "expected"),
    [
        ({"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}, False, "has expired"),
        ({"not_before": NOW + DAY, "not_after": NOW + 9 * DAY}, False, "is not valid yet"),
        ({"host": "autre.example"}, False, "is that of another host"),
        ({"revoked": True}, True, "was revoked"),
    ],
)
def test_a_server_that_is_not_the_dmp_gets_nothing(
    tmp_path: Path, authority: Authority, certificate: dict[str, Any], revocation: bool, expected: str
) -> None:
    with ScriptedServer(tmp_path, **certificate) as server:
        lists = {"dmp_crl_file": str(server.crl_file)} if revocation else {}
        with pytest.raises(DeliveryError, match=f"{expected}: nothing was sent") as caught:
            DmpChannel(settings(server, authority, **lists)).send(small_shipment())
        assert (caught.value.issues[0].code, caught.value.issues[0].rule, caught.value.retry) == (
            "security",
            "TLS",
            False,
        )
        assert not server.requests


def test_a_server_of_another_authority_gets_nothing(tmp_path: Path, authority: Authority) -> None:
    with ScriptedServer(tmp_path) as server:
        with pytest.raises(DeliveryError, match="is not trusted: nothing was sent"):
            DmpChannel(settings(server, authority, dmp_ca_file=str(authority.ca_file))).send(small_shipment())
        assert not server.requests


def test_without_the_list_of_its_issuer_a_certificate_is_not_trusted(tmp_path: Path, authority: Authority) -> None:
    with ScriptedServer(tmp_path) as server:
        with pytest.raises(DeliveryError, match="no revocation list of its issuer") as caught:
            DmpChannel(settings(server, authority, dmp_crl_file=str(authority.crl_file))).send(small_shipment())
        assert caught.value.issues[0].path == "dmp_crl_file"
        assert not server.requests


# === our own certificate ============================================================================================


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


def refusal(sandbox: Sandbox, **changes: Any) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        DmpChannel(dmp_settings(sandbox, **changes)).send(small_shipment())
    assert not sandbox.documents()
    return caught.value


def test_a_client_of_another_authority_is_refused(sandbox: Sandbox, authority: Authority) -> None:
    error = refusal(sandbox, dmp_certificate=str(authority.client_certificate()))
    assert "refuses the connection or our certificate" in str(error)
    assert (error.issues[0].path, error.retry) == ("dmp_certificate", False)


def test_a_revoked_client_is_refused(sandbox: Sandbox) -> None:
    revoked = sandbox.authority.client_certificate("revoked-client")
    sandbox.authority.revoke(revoked)
    assert "refuses the connection or our certificate" in str(refusal(sandbox, dmp_certificate=str(revoked)))
    DmpChannel(dmp_settings(sandbox)).send(small_shipment())


def test_an_expired_client_certificate_never_reaches_the_network(sandbox: Sandbox) -> None:
    expired = sandbox.authority.client_certificate("expired", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    error = refusal(sandbox, dmp_certificate=str(expired))
    assert "our certificate has expired on" in str(error)
    assert not (sandbox.folder / "dmp" / "exchanges").exists()


# === sizes ==========================================================================================================


def echo(request: Request, connection: socket.socket) -> None:
    """Give the parts of the request back."""
    message = mtom.parse(request.headers["content-type"], request.body, limit=len(request.body))
    attachments = [mtom.Attachment(name, "text/xml", bytes(data)) for name, data in message.parts.items()]
    content_type, pieces = mtom.build(b"<answer/>", attachments, action="urn:x")
    connection.sendall(http(b"".join(pieces), content_type=content_type))


def exchanged(server: ScriptedServer, authority: Authority, data: bytes) -> tuple[Answer, str]:
    used = settings(server, authority)
    connections = Connections(dmp_identity.tls_context(used), used.sender_timeout, Peer("the DMP", "dmp"))
    part = mtom.Attachment("document@test", "text/xml", data)
    content_type, body = mtom.build(b"<request/>", [part], action="urn:x")
    try:
        return connections.post(server.url, {"Content-Type": content_type}, body, 100_000_000), content_type
    finally:
        connections.close()


@pytest.mark.parametrize("size", [0, 1, 49_000, 51_000, 101_000, 10_000_000, 50_000_000])
def test_documents_of_any_size_come_and_go_byte_for_byte(tmp_path: Path, authority: Authority, size: int) -> None:
    data = hashlib.shake_256(size.to_bytes(8, "big")).digest(size)
    with ScriptedServer(tmp_path) as server:
        server.answer = echo
        answer, content_type = exchanged(server, authority, data)
        received = mtom.parse(content_type, server.requests[0].body, limit=100_000_000)
    assert received.parts["document@test"] == data
    message = mtom.parse(answer.content_type, answer.body, limit=100_000_000)
    assert message.parts["document@test"] == data


def test_a_large_answer_is_not_held_in_memory(tmp_path: Path, authority: Authority) -> None:
    size, block = 30_000_000, bytes(1_000_000)

    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(http(b"", content_type="application/octet-stream", length=size))
        for _ in range(size // len(block)):
            connection.sendall(block)

    with ScriptedServer(tmp_path) as server:
        server.answer = answer
        used = settings(server, authority)
        connections = Connections(dmp_identity.tls_context(used), used.sender_timeout, Peer("the DMP", "dmp"))
        tracemalloc.start()
        try:
            received = connections.post(server.url, {}, [b"x"], size)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            connections.close()
        assert len(received.body) == size
        assert peak < size / 3


# === connections ====================================================================================================


def test_a_connection_serves_again(tmp_path: Path, authority: Authority) -> None:
    seen: list[ssl.SSLSocket] = []

    def answer(request: Request, connection: Any) -> None:
        seen.append(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nok")
        if len(seen) == 1:
            server.serve(connection)

    with ScriptedServer(tmp_path) as server:
        server.answer = answer
        used = settings(server, authority)
        connections = Connections(dmp_identity.tls_context(used), used.sender_timeout, Peer("the DMP", "dmp"))
        for _ in range(3):
            assert connections.post(server.url, {}, [b"x"], 10).body == b"ok"
        connections.close()
    assert seen[0] is seen[1] is not seen[2]


@pytest.mark.parametrize("longest", [300.0, 0.0])
def test_a_connection_that_grew_old_is_not_used_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, longest: float
) -> None:
    """Its certificates were looked at long ago."""
    monkeypatch.setattr(tls, "LONGEST", longest)
    made: list[ssl.SSLSocket] = []
    wrap = ssl.SSLContext.wrap_socket

    def wrapping(context: ssl.SSLContext, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        if options.get("server_hostname"):
            made.append(wrap(context, *arguments, **options))
            return made[-1]
        return wrap(context, *arguments, **options)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrapping)
    DmpChannel(dmp_settings(sandbox)).send(small_shipment())  # the existence test, then ITI-41
    assert len(made) == (2 if longest == 0 else 1)


def test_an_envelope_without_attachments_is_plain_soap(sandbox: Sandbox) -> None:
    DmpChannel(dmp_settings(sandbox)).send(small_shipment())
    [record] = (sandbox.folder / "dmp" / "exchanges").iterdir()
    request, *_ = message_from_bytes(record.read_bytes()).get_payload()  # whether the DMP is open
    assert request["Content-Location"].endswith("patients")
    assert request["Content-Type"].startswith("application/soap+xml; charset=UTF-8; action=")
    assert etree.fromstring(request.get_payload(decode=True)).tag.endswith("Envelope")
