"""How an idle worker learns at once that something was ordered, whatever process wrote it.

PostgreSQL tells it (LISTEN/NOTIFY, by the transaction that places an order); SQLite has a counter that changes with
every commit (PRAGMA data_version), which costs a few microseconds to look at, fifty times a second.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import Protocol

from sqlalchemy.engine import make_url

_LOOK = 0.02  # seconds between two looks at the counter


class Waker(Protocol):
    """Waits for orders. One waker for each thread that waits."""

    def wait(self, stop: threading.Event, longest: float) -> None:
        """Return when something may have been ordered, when `stop` is set, or after `longest` seconds."""
        ...

    def close(self) -> None:
        """Close its connection."""
        ...


def waker(database_url: str) -> Waker:
    """The waker of a database; its connection is opened when it first waits, and again after an outage."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return _SqliteWaker(str(url.database))
    from relais.server.delivery.wakeup_postgresql import PostgresqlWaker  # its driver is an extra

    return PostgresqlWaker(url)


class _SqliteWaker:
    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None

    def wait(self, stop: threading.Event, longest: float) -> None:
        deadline = time.monotonic() + longest
        while not stop.wait(_LOOK) and time.monotonic() < deadline:
            if self._changed():
                return

    def _changed(self) -> bool:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, check_same_thread=False)
            found: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            self.close()
            return False
        changed, self._seen = found != self._seen, found
        return changed

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._seen = None
