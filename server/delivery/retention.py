"""When the bytes of evidence and of received mails may be erased, and a clock that is not believed.

What is erased is gone, and a clock that has leapt forward must not erase it all. The store remembers the time of the
last clean-up: a clock that is further from it than a third of the retention erases nothing, until it is set right or an
operator says that it is right (`relais clean-up --clock-is-right`), as after a long stop.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import BigInteger, Column, Connection, Table, Text, select, text, update

from relais.server.settings import Settings
from relais.server.store.schema import metadata
from relais.server.store.store import to_datetime, to_microseconds

log = logging.getLogger("relais.retention")

Kind = Literal["evidence", "mails"]

EVERY = timedelta(hours=1)
"""Time between two clean-ups."""
_SHORTEST_LEAP = timedelta(days=1)

retention_table = Table(
    "retention",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("cleaned", BigInteger, nullable=False),  # when, by the clock that was believed then
)
_FIRST = text("INSERT INTO retention (kind, cleaned) VALUES (:kind, 0) ON CONFLICT DO NOTHING")


def of_evidence(settings: Settings) -> Retention:
    """That of the requests and responses of deliveries."""
    return Retention("evidence", timedelta(days=settings.evidence_days))


def of_mails(settings: Settings) -> Retention:
    """That of received mails."""
    return Retention("mails", timedelta(days=settings.received_mail_days))


class Retention:
    """How long one kind of bytes is kept; 0: until the next clean-up."""

    def __init__(self, kind: Kind, kept: timedelta) -> None:
        self.kind: Kind = kind
        self._kept = kept
        self._doubted = False

    def limit(self, connection: Connection, now: datetime) -> datetime | None:
        """What is older than that is to be erased now; None when a clean-up was made lately or the clock has leapt."""
        return self._limit(connection, now, pause=EVERY, clock_is_right=False)

    def limit_at_once(self, connection: Connection, now: datetime, *, clock_is_right: bool) -> datetime | None:
        """As `limit`, whenever the last clean-up was; `clock_is_right` says that it has not leapt."""
        return self._limit(connection, now, pause=timedelta(0), clock_is_right=clock_is_right)

    def _limit(
        self, connection: Connection, now: datetime, *, pause: timedelta, clock_is_right: bool
    ) -> datetime | None:
        mine = retention_table.c.kind == self.kind
        cleaned = connection.scalar(select(retention_table.c.cleaned).where(mine))
        if cleaned is None:
            connection.execute(_FIRST, {"kind": self.kind})
        elif cleaned and not clock_is_right:
            since = now - to_datetime(cleaned)
            if abs(since) < pause or self._doubts(since):
                return None
        self._doubted = False
        connection.execute(update(retention_table).where(mine).values(cleaned=to_microseconds(now)))
        return now - self._kept

    def _doubts(self, since: timedelta) -> bool:
        if not self._kept or since <= max(self._kept / 3, _SHORTEST_LEAP):
            return False
        if not self._doubted:
            log.error(
                "%s: the clock is %d days ahead of the last clean-up, nothing is erased: set the clock, or run"
                " `relais clean-up --clock-is-right`",
                self.kind,
                since.days,
            )
        self._doubted = True
        return True
