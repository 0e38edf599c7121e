"""HTTPS to the DMP or another receiver: one exchange at a time, on connections kept for the next one, in a deadline.

An error says whether the request can have been carried out: `LostAnswerError` when it can, a plain DeliveryError when
nothing, or nothing that makes sense, reached the other side.
"""

from __future__ import annotations

import contextlib
import http.client
import mmap
import select
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import SplitResult, urlsplit

from relais.cda.errors import Issue
from relais.server.delivery import tls
from relais.server.delivery.channel import DeliveryError, UnsentError
from relais.server.delivery.deadline import ATTEMPT, Deadline

CHUNK = 65_536
IDLE = 4.0
"""Seconds an unused connection is kept: shorter than any server's own patience."""

_IN_MEMORY = 1_000_000  # bytes of an answer before it goes to a file


class LostAnswerError(DeliveryError):
    """The request was sent and may have been carried out: there is no answer, or none that makes sense."""

    def __init__(self, code: str, message: str, *, retry: bool = True, rule: str = "") -> None:
        super().__init__(Issue("error", code, message, "", rule), retry=retry)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; a large body is a file of its own, mapped into memory."""

    status: int
    content_type: str
    body: bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other side: its `name` in messages, and the `prefix` of the settings of its certificates."""

    name: str
    prefix: str


class _Header:
    """The header of an answer, where Content-Type is `_CONTENT_TYPE`.

    Else the parser of the standard library compiles an expression for the parts of a multipart body, which is not
    there: ten times the work of the rest.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.close = file.close

    def readline(self, limit: int) -> bytes:
        """The next line."""
        line = self._file.readline(limit)
        return _CONTENT_TYPE.encode() + line[12:] if line[:13].lower() == b"content-type:" else line


_CONTENT_TYPE = "Relais-Content-Type"


class _Response(http.client.HTTPResponse):
    """An answer; `content_type` is known once it has begun."""

    def begin(self) -> None:
        """Read status and header."""
        file = self.fp
        self.fp = _Header(file)  # type: ignore[assignment]  # of which no more is asked here
        try:
            super().begin()
        finally:
            if not file.closed:  # as it is after a status line that is none
                self.fp = file

    @property
    def content_type(self) -> str:
        """Its Content-Type, or an empty string."""
        return self.headers.get(_CONTENT_TYPE, "")


class _Connection(http.client.HTTPSConnection):
    """A connection that knows its age."""

    response_class = _Response

    def __init__(self, address: SplitResult, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(address.hostname or "", address.port, timeout=timeout, context=context)
        self.made = time.monotonic()


class Connections:
    """Connections to one receiver made with `context`; safe for threads."""

    def __init__(self, context: ssl.SSLContext, timeout: float, peer: Peer) -> None:
        """`timeout` is the longest wait for one step; an exchange lasts at most ATTEMPT times as long."""
        self._context = context
        self._timeout = timeout
        self._peer = peer
        self._lock = threading.Lock()
        self._idle: list[tuple[float, str, _Connection]] = []

    def post(self, url: str, headers: Mapping[str, str], body: Sequence[bytes], limit: int) -> Answer:
        """Send the pieces of `body` and read an answer of at most `limit` bytes. Raises DeliveryError."""
        return self._request("POST", url, headers, body, limit)

    def get(self, url: str, headers: Mapping[str, str], limit: int) -> Answer:
        """Read what is at the address, at most `limit` bytes. Raises DeliveryError."""
        return self._request("GET", url, headers, (), limit)

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: Sequence[bytes], limit: int) -> Answer:
        address = urlsplit(url)
        with Deadline(ATTEMPT * self._timeout) as deadline:
            try:
                connection = self._connected(address, deadline)
                answer = self._exchange(connection, method, address, headers, body, limit)
            except DeliveryError as error:
                if deadline.expired and isinstance(error, LostAnswerError):
                    raise _late() from error
                raise
            if deadline.expired:  # a connection shut down may look like the end of the answer
                raise _late()
        return answer

    def close(self) -> None:
        """Close what is kept; connections made afterwards are kept again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    def __del__(self) -> None:
        """Leave nothing open."""
        self.close()

    def _connected(self, address: SplitResult, deadline: Deadline) -> _Connection:
        connection = self._kept(address.netloc) or self._new(address, deadline)
        socket = connection.sock  # forgotten by the connection once the answer begins
        deadline.watch(lambda: socket)
        return connection

    def _new(self, address: SplitResult, deadline: Deadline) -> _Connection:
        connection = _Connection(address, self._timeout, self._context)
        deadline.watch(lambda: connection.sock)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise _no_connection(error, self._peer) from error
        return connection

    def _kept(self, netloc: str) -> _Connection | None:
        """A connection to that place that is still open, and not too old."""
        now = time.monotonic()
        while True:
            with self._lock:
                mine = [entry for entry in self._idle if entry[1] == netloc]
                if not mine:
                    return None
                self._idle.remove(mine[-1])
            since, _, connection = mine[-1]
            fresh = since > now - IDLE and connection.made > now - tls.LONGEST
            # What is readable without a question is the end of the connection.
            if fresh and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        address: SplitResult,
        headers: Mapping[str, str],
        body: Sequence[bytes],
        limit: int,
    ) -> Answer:
        path = address.path + (f"?{address.query}" if address.query else "")
        length = {} if method == "GET" else {"Content-Length": str(sum(map(len, body)))}
        try:
            with _losing_the_answer(self._peer):
                _send(connection, method, path, {**headers, **length}, body)
                with connection.getresponse() as response:
                    content = _read(response, limit)
                assert isinstance(response, _Response)  # noqa: S101 - tells the type checker
                answer = Answer(response.status, response.content_type, content)
        except BaseException:
            connection.close()
            raise
        if connection.sock is None or response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append((time.monotonic(), address.netloc, connection))
        return answer


def _send(
    connection: http.client.HTTPSConnection, method: str, path: str, headers: Mapping[str, str], body: Sequence[bytes]
) -> None:
    try:
        connection.request(method, path, body=_pieces(body) if body else None, headers=dict(headers))
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        if connection.sock is not None:
            connection.sock.recv(1)  # why the other side hung up, when it said so in TLS
        raise


def _pieces(body: Sequence[bytes]) -> Iterator[bytes | memoryview]:
    """The body in pieces: small ones leave together, as few records of TLS; large ones are no copies."""
    small: list[bytes] = []
    size = 0
    for part in body:
        if size + len(part) <= CHUNK:
            small.append(part)
            size += len(part)
            continue
        yield b"".join(small)
        small, size = [], 0
        view = memoryview(part)
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]
    yield b"".join(small)


def _read(response: http.client.HTTPResponse, limit: int) -> bytes | mmap.mmap:
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as received:
        size = 0
        while chunk := response.read1(CHUNK):
            size += len(chunk)
            if size > limit:
                raise LostAnswerError("too-long", f"answer larger than {limit} bytes", retry=False)
            received.write(chunk)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        received.seek(0)
        if size <= _IN_MEMORY:
            return received.read()
        return mmap.mmap(received.fileno(), 0, access=mmap.ACCESS_READ)


@contextlib.contextmanager
def _losing_the_answer(peer: Peer) -> Iterator[None]:
    """What goes wrong once the request is on its way."""
    try:
        yield
    except TimeoutError as error:
        raise LostAnswerError("timeout", "no answer in time") from error
    except ssl.SSLError as error:
        refused = tls.failure(error, peer.prefix, peer.name)  # TLS 1.3 tells it after the handshake
        raise refused or LostAnswerError("transient", "the TLS connection broke") from error
    except http.client.IncompleteRead as error:
        raise LostAnswerError("incomplete", "the answer was cut short") from error
    except (OSError, http.client.HTTPException) as error:
        raise LostAnswerError("transient", "the connection was cut before an answer") from error


def _no_connection(error: OSError, peer: Peer) -> DeliveryError:
    if isinstance(error, TimeoutError):
        return UnsentError(Issue("error", "timeout", f"{peer.name} does not answer the connection"))
    if isinstance(error, ssl.SSLError):
        final = tls.failure(error, peer.prefix, peer.name)
        return final or UnsentError(Issue("error", "transient", "the TLS connection could not be set up", rule="TLS"))
    why = f" ({error.strerror})" if error.strerror else ""
    return UnsentError(Issue("error", "transient", f"{peer.name} cannot be reached{why}: nothing was sent"))


def _late() -> LostAnswerError:
    return LostAnswerError("timeout", "the exchange takes too long")


def _failure(code: str, message: str, path: str = "", *, retry: bool = False, rule: str = "") -> DeliveryError:
    return DeliveryError(Issue("error", code, message, path, rule), retry=retry)
