"""An HTTPS server that answers exactly the bytes a test wants, right or wrong."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as received; header names are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request, socket.socket], None]


class ScriptedServer:
    """Gives every request, with its connection, to `answer`; the connection is closed afterwards.

    `url` is its address, `requests` what it received; its certificate is of an authority kept in `ca_file`, whose
    revocation list is `crl_file`.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        revoked: bool = False,
    ) -> None:
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = authority.issue_cert(host, not_before=not_before, not_after=not_after)
        certificate.configure_cert(self._context)
        self.crl_file = folder / "crl.pem"
        self.crl_file.write_bytes(_crl(authority, certificate if revoked else None))
        self.answer: Answer = lambda request, connection: None
        self.requests: list[Request] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        """Address to post to."""
        return f"https://127.0.0.1:{self.port}/repository"

    def __enter__(self) -> ScriptedServer:
        """Start."""
        script = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                script._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Stop, releasing whoever waits."""
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def serve(self, connection: ssl.SSLSocket) -> None:
        """Read one request and answer it; an answer may do it once more on the same connection."""
        request = _read(connection)
        self.requests.append(request)
        self.answer(request, connection)

    def _serve(self, raw: socket.socket) -> None:
        try:
            with self._context.wrap_socket(raw, server_side=True) as connection:
                self.serve(connection)
        except OSError:
            pass  # the client left, which is what some tests are about


def _crl(authority: trustme.CA, revoked: trustme.LeafCert | None) -> bytes:
    now = datetime.now(UTC)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    builder = x509.CertificateRevocationListBuilder(issuer, now - timedelta(days=1), now + timedelta(days=1))
    if revoked is not None:
        serial = x509.load_pem_x509_certificate(revoked.cert_chain_pems[0].bytes()).serial_number
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, now).build())
    key: Any = load_pem_private_key(authority.private_key_pem.bytes(), None)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _read(connection: socket.socket) -> Request:
    with connection.makefile("rb") as stream:
        line = stream.readline().decode().strip()
        headers: dict[str, str] = {}
        while (header := stream.readline().decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        return Request(line, headers, stream.read(int(headers.get("content-length", "0"))))


def http(body: bytes, *, status: str = "200 OK", content_type: str = "application/soap+xml", length: int = -1) -> bytes:
    """A whole HTTP answer; `length` lies about the body's."""
    declared = len(body) if length < 0 else length
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {declared}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
