"""How an idle worker learns at once that something was ordered, whatever process wrote it.

PostgreSQL tells it (LISTEN/NOTIFY, by the transaction that places an order); SQLite has a counter that changes with
every commit (PRAGMA data_version), which costs a few microseconds to look at, fifty times a second.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from typing import Protocol

import psycopg
from sqlalchemy.engine import URL, make_url

from relais.server.delivery.outbox import NOTIFICATION

_LOOK = 0.02  # seconds between two looks at the counter
_SLICE = 0.5  # seconds after which a listener looks whether it shall stop


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
    return _SqliteWaker(str(url.database)) if url.get_backend_name() == "sqlite" else _PostgresqlWaker(url)


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


class _PostgresqlWaker:
    def __init__(self, url: URL) -> None:
        plain = url.set(drivername="postgresql")
        self._conninfo = plain.render_as_string(hide_password=False)
        self._connection: psycopg.Connection | None = None

    def wait(self, stop: threading.Event, longest: float) -> None:
        deadline = time.monotonic() + longest
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=5)
                self._connection.execute(f"LISTEN {NOTIFICATION}")
                return  # what was ordered before it listened is looked for first
            while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
                if list(self._connection.notifies(timeout=min(left, _SLICE), stop_after=1)):
                    return
        except psycopg.Error:
            self.close()
            stop.wait(min(_SLICE, longest))

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
