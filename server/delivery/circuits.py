"""One circuit for each destination: after several failures in a row it opens, and deliveries wait without being tried.

When its pause is over one delivery goes as a probe (half-open): success closes the circuit, failure opens it for twice
as long. All workers on one database share the circuits. What counts is trouble with the destination as a whole, not
with one document or one mailbox.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import BigInteger, Column, Connection, Integer, Table, Text, bindparam, delete, select, text, update

from relais.cda.errors import Issue
from relais.server.store.schema import Bytewise, metadata
from relais.server.store.statements import Statement
from relais.server.store.store import to_datetime, to_microseconds

LONGEST_PAUSE = timedelta(minutes=5)
TROUBLE = frozenset({"transient", "timeout", "security"})
"""Issue codes of a destination that is down, slow, or not to be trusted."""

circuit_table = Table(
    "delivery_circuit",
    metadata,
    Column("destination", Bytewise, primary_key=True),
    Column("failures", Integer, nullable=False),  # in a row
    Column("opened", BigInteger),  # NULL: closed
    Column("retry_at", BigInteger),  # when the next probe may go
    Column("reason", Text),
)


_FIRST = text("INSERT INTO delivery_circuit (destination, failures) VALUES (:destination, 0) ON CONFLICT DO NOTHING")


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit of a destination that failed lately; `opened` and `retry_at` are None while it is closed."""

    destination: str
    failures: int
    opened: datetime | None
    retry_at: datetime | None
    reason: str

    def state(self, now: datetime) -> Literal["closed", "open", "half-open"]:
        """Whether deliveries go, wait, or one may go as a probe."""
        if self.retry_at is None:
            return "closed"
        return "open" if self.retry_at > now else "half-open"


@dataclass(frozen=True, slots=True)
class Policy:
    """After how many failures in a row a circuit opens, and for how long the first time."""

    failures: int
    pause: timedelta


def is_trouble(issues: Iterable[Issue]) -> bool:
    """Whether an attempt failed because of its destination."""
    return any(issue.code in TROUBLE and not issue.path.startswith("recipients") for issue in issues)


def known(connection: Connection) -> list[Circuit]:
    """Destinations that failed since they last worked, by name."""
    return [
        Circuit(
            row.destination,
            row.failures,
            None if row.opened is None else to_datetime(row.opened),
            None if row.retry_at is None else to_datetime(row.retry_at),
            row.reason or "",
        )
        for row in connection.execute(select(circuit_table).order_by(circuit_table.c.destination))
    ]


def passable(
    connection: Connection, destinations: Iterable[str], now: datetime
) -> tuple[frozenset[str], frozenset[str]]:
    """Of the destinations, those whose circuit is half-open and wait for a probe, and those whose circuit is closed.

    A probe that another worker may be sending at this moment is none of them.
    """
    shut = {destination for (destination,) in _SHUT.all(connection, {})}
    if not shut:
        return frozenset(), frozenset(destinations)
    over = circuit_table.c.retry_at <= to_microseconds(now)
    mine = select(circuit_table.c.destination).where(over).with_for_update(skip_locked=True)
    half_open = frozenset(connection.scalars(mine)).intersection(destinations)
    return half_open, frozenset(destinations) - shut


_SHUT = Statement(select(circuit_table.c.destination).where(circuit_table.c.retry_at.is_not(None)))


def probe(connection: Connection, destination: str, until: datetime) -> None:
    """A delivery leaves; where the circuit is open it is the probe, and no other goes until that time."""
    mine = (circuit_table.c.destination == destination, circuit_table.c.retry_at.is_not(None))
    connection.execute(update(circuit_table).where(*mine).values(retry_at=to_microseconds(until)))


def spared(connection: Connection, destination: str, now: datetime) -> None:
    """What left as the probe never got there: another may go at once."""
    mine = (circuit_table.c.destination == destination, circuit_table.c.retry_at > to_microseconds(now))
    connection.execute(update(circuit_table).where(*mine).values(retry_at=to_microseconds(now)))


def worked(connection: Connection, destination: str) -> None:
    """The destination answered: its circuit closes."""
    _CLOSE.run(connection, {"of": destination})


_CLOSE = Statement(delete(circuit_table).where(circuit_table.c.destination == bindparam("of")))


def failed(connection: Connection, destination: str, reason: str, now: datetime, policy: Policy) -> bool:
    """The destination failed once more; whether that opened its circuit."""
    connection.execute(_FIRST, {"destination": destination})
    mine = circuit_table.c.destination == destination
    row = connection.execute(select(circuit_table).where(mine).with_for_update()).one()
    failures = row.failures + 1
    changes: dict[str, object] = {"failures": failures, "reason": reason}
    opens = failures >= policy.failures
    if opens:
        pause = min(policy.pause * float(2 ** min(failures - policy.failures, 20)), LONGEST_PAUSE)
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads probes, no secret
        opened = to_microseconds(now) if row.opened is None else row.opened
        changes |= {"opened": opened, "retry_at": to_microseconds(now + pause * jitter)}
    connection.execute(update(circuit_table).where(mine).values(changes))
    return opens and row.opened is None


def mend_times(connection: Connection, now: datetime) -> None:
    """After the clock was set back: no pause lasts longer than the longest one."""
    last = to_microseconds(now + 2 * LONGEST_PAUSE)
    connection.execute(
        update(circuit_table).where(circuit_table.c.retry_at > last).values(retry_at=to_microseconds(now))
    )


def close(connection: Connection, destination: str | None = None) -> int:
    """Close a circuit, or all, without a probe: an operator knows that the cause is mended. How many were open."""
    opened = delete(circuit_table).where(circuit_table.c.retry_at.is_not(None))
    if destination is not None:
        opened = opened.where(circuit_table.c.destination == destination)
    return connection.execute(opened).rowcount
