"""MLLP, the minimal lower layer protocol of HL7 (release 1): frames on a TCP or TLS connection, client and server.

A frame is VT (0x0B), the message, FS (0x1C), CR. Bytes between frames are noise; a frame is as long as it is, up to a
bound, however the network cuts it. One exchange at a time on a connection: message, answer, next message.
"""

from __future__ import annotations

import contextlib
import logging
import re
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from relais.server.delivery.socket_server import SocketServer
from relais.server.delivery.tls import LONGEST, is_refusal

log = logging.getLogger("relais.mllp")

START, END, CR = b"\x0b", b"\x1c", b"\r"
MAX_SIZE = 100_000_000
"""Largest message accepted, in bytes: a document of 50 MB is 67 MB once in base64."""

MEMORY = 400_000_000
"""Most bytes of all messages that a server receives at one time."""

MESSAGE = 4
"""A message takes at most this many times the longest silence of a connection."""

_CHUNK = 262_144
_HEAD = 4_096  # of a message that is too long: enough for its MSH
_MARKS = re.compile(b"([\x0b\x1c])")


def frame(message: bytes) -> bytes:
    """The frame of a message. A message never holds VT nor FS: ER7 escapes them."""
    return b"".join((START, message, END, CR))


Kind = Literal["whole", "broken", "too-long"]


@dataclass(frozen=True, slots=True)
class Received:
    """What a reader found: a `whole` message, the beginning of a `broken` one, or that of one `too-long`."""

    kind: Kind
    message: bytes


class FrameReader:
    """Finds the frames in bytes that arrive in pieces of any size."""

    def __init__(self, max_size: int = MAX_SIZE) -> None:
        self.broken = 0
        """Frames that never ended."""
        self._max_size = max_size
        self._pending: bytearray | None = None  # inside a frame: its bytes so far
        self._ended = False  # FS has come, CR not yet

    def feed(self, data: bytes) -> Iterator[Received]:
        """What the next bytes complete. A VT inside a frame begins another one: the first never ended."""
        for part in _MARKS.split(data):
            rest = part
            if part and self._ended:
                whole = part[:1] == CR
                yield self._close("whole" if whole else "broken")
                rest = part[1:] if whole else part
            if rest == START:
                yield from self.finish()
                self._pending = bytearray()
            elif self._pending is None:
                continue  # noise between frames
            elif rest == END:
                self._ended = True
            else:
                self._pending += rest
                if len(self._pending) > self._max_size:
                    del self._pending[_HEAD:]
                    yield self._close("too-long")  # what follows, until the next VT, is noise

    @property
    def is_inside(self) -> bool:
        """Whether a message has begun that has not ended."""
        return self._pending is not None

    @property
    def size(self) -> int:
        """The bytes of the message that has begun."""
        return 0 if self._pending is None else len(self._pending)

    def finish(self) -> Iterator[Received]:
        """What the end of the connection leaves behind."""
        if self._pending is not None:
            yield self._close("broken")

    def _close(self, kind: Kind) -> Received:
        message = bytes(self._pending or b"")
        self.broken += kind == "broken"
        self._pending, self._ended = None, False
        return Received(kind, message)


# --- client -------------------------------------------------------------------------------------------------------


class UnansweredError(OSError):
    """The message left, its answer did not come: the receiver may have it or not."""


class MllpClient:
    """One connection to a receiver, opened when needed and kept; a connection the receiver closed is opened anew.

    `timeout` bounds the connection, and each exchange from its first byte to the answer, in seconds. `context` makes
    the TLS of each connection. Several threads take turns.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        context: Callable[[], ssl.SSLContext] | None = None,
        max_size: int = MAX_SIZE,
    ) -> None:
        self._address = (host, port)
        self._timeout = timeout
        self._context = context
        self._max_size = max_size
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._opened = 0.0
        self._closing: Callable[[], object] = lambda: None

    def exchange(self, message: bytes, is_answer: Callable[[bytes], bool]) -> bytes:
        """Send a message, return the first message back that is its answer; others are passed over.

        Raises OSError when nothing was sent, UnansweredError when it was and no answer came.
        """
        with self._lock:
            connection = self._connected()
            try:
                return self._exchange(connection, message, is_answer)
            except BaseException:
                self._close()
                raise

    def close(self) -> None:
        """Close the connection; the next exchange opens another."""
        with self._lock:
            self._close()

    def __enter__(self) -> MllpClient:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _exchange(self, connection: socket.socket, message: bytes, is_answer: Callable[[bytes], bool]) -> bytes:
        others = 0
        try:
            connection.settimeout(self._timeout)
            connection.sendall(frame(message))
            for answer in self._messages(connection):
                if is_answer(answer):
                    return answer
                others += 1
            reason = "the connection was closed before the answer"
        except TimeoutError:
            reason = "no answer in time"
        except ssl.SSLError as error:
            if is_refusal(error):  # in TLS 1.3 the client learns last that its certificate is not taken
                raise
            reason = "the connection was lost before the answer"
        except OSError:
            reason = "the connection was lost before the answer"
        raise UnansweredError(f"{reason}; messages that are not its answer: {others}" if others else reason)

    def _messages(self, connection: socket.socket) -> Iterator[bytes]:
        """Whole messages until the connection ends. Raises TimeoutError when the time for an answer is over."""
        reader, deadline = FrameReader(self._max_size), time.monotonic() + self._timeout
        while (remaining := deadline - time.monotonic()) > 0:
            connection.settimeout(remaining)
            data = connection.recv(_CHUNK)
            if not data:
                return
            for received in reader.feed(data):
                if received.kind == "whole":
                    yield received.message
        raise TimeoutError

    def _connected(self) -> socket.socket:
        fresh = time.monotonic() - self._opened < LONGEST
        if self._socket is not None and fresh and _is_quiet(self._socket):
            return self._socket
        self._close()
        context = self._context() if self._context is not None else None
        connection = socket.create_connection(self._address, self._timeout)
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_hostname=self._address[0])
        except BaseException:
            connection.close()
            raise
        self._socket, self._opened = connection, time.monotonic()
        self._closing = weakref.finalize(self, connection.close)  # also when nobody closes the client
        return connection

    def _close(self) -> None:
        self._closing()
        self._socket = None


def _is_quiet(connection: socket.socket) -> bool:
    """Whether nothing waits to be read: neither the end of the connection nor an answer that comes too late."""
    return not select.select([connection], [], [], 0)[0]


# --- server -------------------------------------------------------------------------------------------------------

Handler = Callable[[Received], bytes | None]
"""Answers a message, `whole` or `too-long` (its beginning); None closes the connection without an answer."""


class MllpServer:
    """Listens at `host`:`port` from `start` to `stop`, or inside a `with` block; a thread for each connection.

    `context` makes the TLS of each connection.

    A connection silent for `timeout` seconds is closed, also when what it says is no message, or when a message takes
    longer than MESSAGE times that; so is one whose handler fails, without an answer. Those beyond `max_connections` are
    closed at once, and so is one whose message would make all messages under way longer than `memory` together.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        timeout: float = 60.0,
        context: Callable[[], ssl.SSLContext] | None = None,
        max_size: int = MAX_SIZE,
        max_connections: int = 1_000,
        memory: int = MEMORY,
    ) -> None:
        self.host, self.port = host, port
        self._handler = handler
        self._timeout = timeout
        self._context = context
        self._max_size = max_size
        self._max_connections = max_connections
        self._budget = _Budget(max(memory, max_size))
        self._server: SocketServer | None = None

    def start(self) -> None:
        """Listen; a port 0 becomes a free one, kept for later starts. Raises OSError when the port is taken."""
        self._server = SocketServer((self.host, self.port), self._serve, self._context, self._max_connections)
        self.port = self._server.server_address[1]
        self._server.start("mllp")

    def stop(self) -> None:
        """Stop listening, cut every connection, wait for their threads."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> MllpServer:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _serve(self, connection: socket.socket) -> None:
        """One connection, in its own thread, to its end."""
        connection.settimeout(self._timeout)
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            with self._budget.share() as share:
                self._answer_all(connection, share)
        except OSError as error:
            log.info("MLLP connection ended: %s", type(error).__name__)

    def _answer_all(self, connection: socket.socket, share: _Share) -> None:
        reader = FrameReader(self._max_size)
        until = time.monotonic() + self._timeout
        while data := _read_until(connection, until, self._timeout):
            was_inside = reader.is_inside
            for received in reader.feed(data):
                if received.kind == "broken":
                    if reader.broken == 1:
                        log.warning("MLLP frame without its end: passed over, as all others of the connection")
                    continue
                answer = self._handler(received)
                if answer is None:
                    return
                connection.settimeout(self._timeout)
                connection.sendall(frame(answer))
                was_inside, until = False, time.monotonic() + self._timeout
            if not share.hold(reader.size):
                log.warning("the messages under way are too long together: an MLLP connection is closed")
                return
            if reader.is_inside and not was_inside:
                until = time.monotonic() + MESSAGE * self._timeout


class _Budget:
    """The bytes that all connections of a server may hold together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def share(self) -> Iterator[_Share]:
        """The part of one connection, given back at the end."""
        share = _Share(self)
        try:
            yield share
        finally:
            share.hold(0)


class _Share:
    """What one connection holds of a budget."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._held = 0

    def hold(self, size: int) -> bool:
        """Hold so many bytes instead of those held before; False when there are not so many left."""
        with self._budget.lock:
            more = size - self._held
            if more > 0 and self._budget.held + more > self._budget.limit:
                return False
            self._budget.held += more
            self._held = size
        return True


def _read_until(connection: socket.socket, until: float, timeout: float) -> bytes:
    """What comes next. Raises TimeoutError when nothing does for `timeout` seconds, or before the time `until`."""
    remaining = until - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    connection.settimeout(min(remaining, timeout))
    return connection.recv(_CHUNK)
