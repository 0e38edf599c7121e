"""A limit to a whole attempt: a peer that sends one byte now and then never runs into the time-out of one step."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

from relais.server.delivery.alarms import Alarm

ATTEMPT = 4
"""A whole attempt lasts at most this many times the longest wait for one step (setting `sender_timeout`)."""


class Deadline:
    """Shuts the sockets of an attempt down once its time is over; whoever reads or writes them then gets an error.

    A context manager for one attempt. `expired` tells that error from any other.
    """

    def __init__(self, seconds: float) -> None:
        self._expired = threading.Event()
        self._sockets: list[Callable[[], socket.socket | None]] = []
        self._alarm = Alarm(seconds, self._expire)

    @property
    def expired(self) -> bool:
        """Whether the time ran out."""
        return self._expired.is_set()

    def watch(self, find: Callable[[], socket.socket | None]) -> None:
        """Shut down what `find` gives when the time is over; it is asked then, not now."""
        self._sockets.append(find)

    def __enter__(self) -> Deadline:
        self._alarm.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._alarm.__exit__(kind, error, at)

    def _expire(self) -> None:
        """Called again and again: a socket may be opened, or wrapped in TLS, when the time is over already."""
        self._expired.set()
        for find in tuple(self._sockets):
            _shut(find())


def _shut(connection: socket.socket | None) -> None:
    """End a connection under TLS or not; `SSLSocket.shutdown` would let the other thread go on in the clear."""
    if connection is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
