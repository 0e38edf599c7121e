"""Web processes that share connections evenly.

All processes of gunicorn wait on one listening socket, and the kernel wakes whichever it likes: of eight kept-alive
connections one of two processes may get seven. A process that already has more connections than another leaves a new
one to it for a moment.
"""

from __future__ import annotations

import time
from multiprocessing.sharedctypes import RawArray
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

_PAUSE = 0.0005  # seconds between two looks
_FREE = -1


class ConnectionCounts:
    """How many connections each web process has open, in memory that the processes share."""

    def __init__(self, processes: int) -> None:
        # While a process is replaced, the old and the new one may both be there.
        self._counts = RawArray("l", [_FREE] * (2 * processes))

    def enter(self) -> int:
        """A place for a new process."""
        place = list(self._counts).index(_FREE)
        self._counts[place] = 0
        return place

    def leave(self, place: int) -> None:
        """The process is gone, and its connections with it."""
        self._counts[place] = _FREE

    def put(self, place: int, count: int) -> None:
        """What a process has now."""
        self._counts[place] = count

    def least(self) -> int:
        """The fewest that any process has."""
        return min((count for count in self._counts if count != _FREE), default=0)


class EvenWorker(ThreadWorker):  # type: ignore[misc]
    """A gunicorn process with threads that takes its share of the connections, and no more.

    A connection that nobody takes within `patience` seconds is taken all the same: the other process may be stuck.
    """

    patience = 0.05
    counts: ConnectionCounts
    place: int | None = None
    _open = 0
    _declined = 0.0  # when the connection that waits was first left to others
    _standing = (0, 0)  # our connections and the fewest of anybody then

    @property
    def nr_conns(self) -> int:
        """Open connections: gunicorn counts, the other processes read."""
        return self._open

    @nr_conns.setter
    def nr_conns(self, count: int) -> None:
        self._open = count
        if self.place is not None:
            self.counts.put(self.place, count)

    def accept(self, listener: Any) -> None:
        """Take a waiting connection, unless another process should."""
        if self._leaves_it():
            time.sleep(_PAUSE)
        else:
            super().accept(listener)

    def _leaves_it(self) -> bool:
        least = self.counts.least()
        if self.place is None or self._open <= least:
            return False
        now, standing = time.monotonic(), (self._open, least)
        if standing != self._standing:  # somebody took or closed a connection: this is another one
            self._standing, self._declined = standing, now
        if now - self._declined < self.patience:
            return True
        self._standing = (0, 0)
        return False
