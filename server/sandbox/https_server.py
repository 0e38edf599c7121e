"""The HTTPS of the sandbox DMP: HTTP/1.1 with client certificates, a connection serves one request after another."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler
from uuid import uuid4

from cryptography import x509
from werkzeug.serving import DechunkedInput

from relais.cda.errors import Issue, RelaisError
from relais.server.delivery.socket_server import SocketServer
from relais.server.faults import described

log = logging.getLogger("relais.sandbox")

PATIENCE = 60.0
"""Seconds a connection may be silent, between two requests or within one."""

_MOST_CONNECTIONS = 1_000
_CHUNK = 262_144


@dataclass(frozen=True, slots=True)
class Request:
    """One POST; `url` is the address it was sent to, `client` the certificate of the connection.

    `connection` is a name for that one, unlike any other: requests of one connection come one after another.
    """

    url: str
    path: str
    content_type: str
    body: bytes
    client: x509.Certificate
    connection: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to it. `announced` is a Content-Length that is not that of the body; `is_cut` says nothing at all.

    After either the connection is closed.
    """

    status: int
    content_type: str
    body: bytes
    announced: int | None = None
    is_cut: bool = False


Handler = Callable[[Request], Answer]


class HttpsServer:
    """Listens at `host`:`port` from `start` to `stop` and asks `handler`, in a thread for each connection."""

    def __init__(
        self, handler: Handler, context: ssl.SSLContext, *, host: str, port: int = 0, max_request: int
    ) -> None:
        self.host, self.port = host, port
        self._handler = handler
        self._context = context
        self._max_request = max_request
        self._server: SocketServer | None = None

    def start(self) -> None:
        """Listen; a port 0 becomes a free one, kept for later starts. Raises RelaisError when it cannot."""
        try:
            self._server = SocketServer((self.host, self.port), self._serve, lambda: self._context, _MOST_CONNECTIONS)
        except OSError as error:
            message = f"cannot listen on {self.host}:{self.port}: {error.strerror}"
            raise RelaisError(Issue("fatal", "conflict", message, rule="sandbox")) from error
        self.port = self._server.server_address[1]
        self._server.start("https")

    def stop(self) -> None:
        """Stop listening, cut every connection, wait for their threads."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _serve(self, connection: socket.socket) -> None:
        """One connection to its end; who leaves in the middle, or fails in the handshake, needs no answer."""
        connection.settimeout(PATIENCE)
        try:
            assert isinstance(connection, ssl.SSLSocket)  # noqa: S101 - the server has a context
            connection.do_handshake()
            _Conversation(connection, self._handler, self._max_request)
        except OSError as error:
            log.debug("connection ended: %s", type(error).__name__)


class _Fields(HTTPMessage):
    """The header of a request. Its parser would look for the parts of a multipart body, which is not there."""

    def get_content_maintype(self) -> str:
        """Any but multipart."""
        return "application"


class _Conversation(BaseHTTPRequestHandler):
    """The requests of one connection."""

    MessageClass = _Fields
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Relais-sandbox", ""
    wbufsize = -1  # an answer leaves in one piece
    disable_nagle_algorithm = True

    def __init__(self, connection: ssl.SSLSocket, handler: Handler, max_request: int) -> None:
        self._handler = handler
        self._max_request = max_request
        self._client = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
        self._name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid4().hex[:8]}"
        super().__init__(connection, connection.getpeername(), None)  # type: ignore[arg-type]  # needs no server

    def do_POST(self) -> None:
        """Answer one request; nothing of it is left unread, so that the next one begins where it ends."""
        body = self._body()
        if body is None:
            self.close_connection = True
            answer = Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", b"Request too large")
        else:
            answer = self._answer(body)
        self._say(answer)

    def _answer(self, body: bytes) -> Answer:
        address = f"https://{self.headers.get('Host', '')}{self.path}"
        request = Request(address, self.path, self.headers.get("Content-Type", ""), body, self._client, self._name)
        try:
            return self._handler(request)
        except Exception as error:  # noqa: BLE001 - the sandbox outlives any fault
            log.error("a request could not be handled: %s", described(error))
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"Internal Server Error")

    def _body(self) -> bytes | None:
        """What was sent; None, once it is read, when it is too large."""
        read: Callable[[int], bytes] = self.rfile.read
        left = int(self.headers.get("Content-Length", 0))
        is_chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if is_chunked:
            read, left = DechunkedInput(self.rfile).read, sys.maxsize  # type: ignore[arg-type]  # needs readline alone
        received: list[bytes] = []
        size = 0
        while left and (chunk := read(min(_CHUNK, left))):
            size, left = size + len(chunk), left - len(chunk)
            received.append(chunk)
            if size > self._max_request:
                received.clear()
        if left and not is_chunked:
            raise ConnectionError("the request was cut short")
        return b"".join(received) if size <= self._max_request else None

    def _say(self, answer: Answer) -> None:
        length = len(answer.body) if answer.announced is None else answer.announced
        if answer.is_cut:
            self.close_connection = True
            return
        if length != len(answer.body):
            self.close_connection = True
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def handle_expect_100(self) -> bool:
        """Tell a client that waits for it to go on."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the exchanges are on file."""
