"""LISTEN on PostgreSQL, where the transaction that places an order notifies: an extra, so beside `wakeup`."""

from __future__ import annotations

import contextlib
import threading
import time

import psycopg
from sqlalchemy.engine import URL

from relais.server.delivery.outbox import NOTIFICATION

_SLICE = 0.5  # seconds after which a listener looks whether it shall stop


class PostgresqlWaker:
    """See `wakeup.Waker`."""

    def __init__(self, url: URL) -> None:
        plain = url.set(drivername="postgresql")
        self._conninfo = plain.render_as_string(hide_password=False)
        self._connection: psycopg.Connection | None = None

    def wait(self, stop: threading.Event, longest: float) -> None:
        """See `wakeup.Waker`."""
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
        """See `wakeup.Waker`."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
