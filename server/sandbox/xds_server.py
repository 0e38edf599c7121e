"""The DMP-like counterpart on the wire: an HTTPS endpoint for ITI-41, and the faults it can be asked to play."""

from __future__ import annotations

import enum
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from flask import Flask, Response, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from relais.server.sandbox import soap
from relais.server.sandbox.faults import Faults
from relais.server.sandbox.files import write_whole
from relais.server.sandbox.listening import listen
from relais.server.sandbox.repository import TEST_PATIENT_DOMAINS, RefusedError, Repository, StoredDocument

PATH = "/si-dmp-server/v2/services/repository"
MAX_REQUEST = 50_000_000
SILENCE = 60.0
"""Seconds without an answer when a fault asks for silence; the end of the server cuts it short."""


class RepositoryFault(enum.Enum):
    """What the repository can do wrong, and whether it stores the document when it does."""

    BUSY = "XDSRepositoryBusy, nothing stored"
    UNKNOWN_CODE = "an error code nobody knows, nothing stored"
    UNAVAILABLE = "HTTP 503, nothing stored"
    HTML_PAGE = "a Web page with HTTP 200, nothing stored"
    SILENT_BEFORE = "no answer, nothing stored"
    SILENT_AFTER = "no answer, stored"
    MALFORMED = "an answer that is not XML, stored"
    HALF_ANSWER = "an answer cut in its middle, stored"
    WRONG_RELATION = "an answer to another message, stored"


_BEFORE_STORING = (
    RepositoryFault.BUSY,
    RepositoryFault.UNKNOWN_CODE,
    RepositoryFault.UNAVAILABLE,
    RepositoryFault.HTML_PAGE,
    RepositoryFault.SILENT_BEFORE,
)
_AFTER_STORING = tuple(fault for fault in RepositoryFault if fault not in _BEFORE_STORING)
_CODES = {RepositoryFault.BUSY: "XDSRepositoryBusy", RepositoryFault.UNKNOWN_CODE: "SandboxInventedError"}


class XdsServer:
    """ITI-41 over HTTPS at `url`. `folder` keeps what it stored (`documents`), read and said (`exchanges`)."""

    def __init__(
        self,
        folder: Path,
        context: ssl.SSLContext,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        patient_domains: frozenset[str] = TEST_PATIENT_DOMAINS,
    ) -> None:
        self.faults: Faults[RepositoryFault] = Faults()
        self.host, self.port = host, port
        self._folder = folder
        self._context = context
        self._repository = Repository(folder / "documents", patient_domains)
        self._message_ids: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address of the endpoint; the port is known once started."""
        return f"https://{self.host}:{self.port}{PATH}"

    def start(self) -> None:
        """Listen; a port 0 becomes a free one, kept for later starts."""
        self._stopping.clear()
        with listen(self.host, self.port) as listener:
            self._server = make_server(
                self.host,
                0,
                self._application(),
                threaded=True,
                request_handler=_QuietHandler,
                ssl_context=self._context,
                fd=listener.fileno(),  # of which the server makes a copy
            )
        # The handshake belongs to the connection's own thread: a client that stalls in it must not stop the others.
        self._server.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]
        self.port = self._server.port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox-xds", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; the port refuses connections afterwards."""
        if self._server is None or self._thread is None:
            return
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server = self._thread = None

    def documents(self) -> list[StoredDocument]:
        """Every document stored, oldest first."""
        return self._repository.documents()

    def _application(self) -> Flask:
        application = Flask("relais-sandbox-repository")
        application.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST
        application.add_url_rule(PATH, view_func=self._answer_and_record, methods=["POST"])
        return application

    def _answer_and_record(self) -> Response:
        body, content_type = request.get_data(), request.headers.get("Content-Type", "")
        answer = self._answer(content_type, body)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid4().hex[:8]}"
        recorded = b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
        write_whole(self._folder / "exchanges" / f"{name}-request.mime", recorded)
        write_whole(self._folder / "exchanges" / f"{name}-answer.mime", answer.get_data())
        return answer

    def _answer(self, content_type: str, body: bytes) -> Response:
        try:
            received = soap.read_request(content_type, body, request.url)
            self._refuse_replay(received.message_id)
        except soap.SoapFaultError as refused:
            return _soap(soap.fault_response(refused), 400 if refused.code == "Sender" else 500)
        fault = self.faults.take(*_BEFORE_STORING)
        if fault is not None:
            return self._fail_before(fault, received.message_id)
        try:
            self._repository.register(received)
        except RefusedError as failure:
            return _soap(soap.registry_response(received.message_id, failure.errors))
        return self._fail_after(self.faults.take(*_AFTER_STORING), received.message_id)

    def _refuse_replay(self, message_id: str) -> None:
        with self._lock:
            if message_id in self._message_ids:
                raise soap.SoapFaultError("this wsa:MessageID was received before", relates_to=message_id)
            self._message_ids.add(message_id)

    def _fail_before(self, fault: RepositoryFault, message_id: str) -> Response:
        if fault in _CODES:
            errors = [soap.RegistryError(_CODES[fault], "asked of the sandbox")]
            return _soap(soap.registry_response(message_id, errors))
        if fault is RepositoryFault.HTML_PAGE:
            return Response("<html><body>Maintenance</body></html>", 200, content_type="text/html")
        if fault is RepositoryFault.SILENT_BEFORE:
            self._stopping.wait(SILENCE)
        return Response("Service Unavailable", 503, content_type="text/plain")

    def _fail_after(self, fault: RepositoryFault | None, message_id: str) -> Response:
        """The answer to a submission that is stored: success, or the success spoiled by a fault."""
        if fault is RepositoryFault.SILENT_AFTER:
            self._stopping.wait(SILENCE)
        if fault is RepositoryFault.WRONG_RELATION:
            message_id = f"urn:uuid:{uuid4()}"
        envelope = soap.registry_response(message_id)
        if fault is RepositoryFault.MALFORMED:
            envelope = envelope.replace(b"</soap:Body>", b"</soap:Bogus>")
        answer = _soap(envelope)
        if fault is RepositoryFault.HALF_ANSWER:
            whole = answer.get_data()
            answer.set_data(whole[: len(whole) // 2])
            answer.headers["Content-Length"] = str(len(whole))
        return answer


class _QuietHandler(WSGIRequestHandler):
    """Logs no request: the exchanges are on file."""

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing."""


def _soap(envelope: bytes, status: int = 200) -> Response:
    content_type, body = soap.multipart(envelope)
    return Response(body, status, content_type=content_type)
