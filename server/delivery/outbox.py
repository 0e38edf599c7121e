"""The transactional outbox: what was ordered, what each delivery still owes, every attempt made.

An order and its deliveries are written in the transaction that writes the document and the Task they belong to, so a
crash leaves either all of it or nothing. A worker leases one delivery at a time; a lease that runs out (the worker was
killed) makes the delivery due again, with the same identifiers. Each mailbox has a delivery of its own. Deliveries of
one document lineage go to one receiver in the order in which they were placed, because a replacement needs the version
it replaces at the receiver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    UniqueConstraint,
    and_,
    exists,
    insert,
    or_,
    select,
    update,
)

from relais.cda.xds import Submission
from relais.server.store.schema import Bytewise, Key, metadata
from relais.server.store.store import Store, to_datetime, to_microseconds

State = Literal["waiting", "delivered", "unconfirmed", "dead"]
"""`unconfirmed`: given up, but the receiver may hold the document; `dead`: given up, it does not."""
Outcome = Literal["delivered", "retry", "refused"]

order_table = Table(
    "delivery_order",
    metadata,
    Column("task", Bytewise, primary_key=True),  # id of the Task that answers for it
    Column("document", Bytewise, nullable=False),  # key of relais.server.documents
    Column("focus", Text),  # CarePlan/[id]/_history/[version]; NULL: a document made elsewhere
    Column("subject", Text),  # Patient/[id]
    Column("placed", BigInteger, nullable=False),
)

delivery_table = Table(
    "delivery",
    metadata,
    Column("key", Key, primary_key=True, autoincrement=True),
    Column("task", Bytewise, ForeignKey(order_table.c.task), nullable=False),
    Column("channel", Text, nullable=False),
    Column("recipient", Bytewise, nullable=False),  # mailbox; empty: the channel leads to one receiver
    Column("lineage", Bytewise, nullable=False),  # lineage of relais.server.documents
    Column("consignment", LargeBinary, nullable=False),  # JSON of Consignment
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("leased_until", BigInteger),
    UniqueConstraint("task", "channel", "recipient"),
    sqlite_autoincrement=True,
)
Index("delivery_due", delivery_table.c.state, delivery_table.c.due)
Index("delivery_lineage", delivery_table.c.lineage, delivery_table.c.channel, delivery_table.c.key)

attempt_table = Table(
    "delivery_attempt",
    metadata,
    Column("delivery", Key, ForeignKey(delivery_table.c.key), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started", BigInteger, nullable=False),
    Column("ended", BigInteger),  # NULL: under way, or the worker was killed
    Column("outcome", Text),
    Column("detail", Text),
)


@dataclass(frozen=True, slots=True)
class Consignment:
    """What is fixed when an order is accepted and the same on every attempt (see `channel.Shipment`)."""

    submission: Submission
    recipients: tuple[str, ...]
    message_id: str


@dataclass(frozen=True, slots=True)
class Order:
    """One accepted order; `task` is the id of its Task."""

    task: str
    document: str
    focus: str | None
    subject: str | None
    placed: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt; `ended` and `outcome` are None while it is under way or when nobody came back from it."""

    number: int
    started: datetime
    ended: datetime | None
    outcome: Outcome | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One receiver of an order, with its attempts, oldest first; `recipient` is a mailbox or empty."""

    key: int
    channel: str
    recipient: str
    state: State
    due: datetime
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that this worker, and no other, may try until the lease runs out.

    `replaced` is the document of the same lineage that the receiver holds, or may hold, from this channel.
    """

    key: int
    task: str
    document: str
    channel: str
    attempt: int
    consignment: Consignment
    replaced: str | None


_encode = msgspec.json.Encoder().encode
_decode_consignment = msgspec.json.Decoder(Consignment).decode


def place(connection: Connection, order: Order, lineage: str, consignments: Iterable[tuple[str, Consignment]]) -> None:
    """Write an order and one delivery per (channel, consignment), due at once."""
    placed = to_microseconds(order.placed)
    connection.execute(
        insert(order_table),
        {
            "task": order.task,
            "document": order.document,
            "focus": order.focus,
            "subject": order.subject,
            "placed": placed,
        },
    )
    connection.execute(
        insert(delivery_table),
        [
            {
                "task": order.task,
                "channel": channel,
                "recipient": ",".join(consignment.recipients),
                "lineage": lineage,
                "consignment": _encode(consignment),
                "state": "waiting",
                "attempts": 0,
                "due": placed,
            }
            for channel, consignment in consignments
        ],
    )


def lease(connection: Connection, now: datetime, duration: timedelta) -> Leased | None:
    """Take the delivery that has been due longest, for `duration`; None when nothing is due.

    The attempt is recorded before anything is sent, so that one that never comes back is seen.
    """
    time = to_microseconds(now)
    earlier = delivery_table.alias("earlier")
    blocked = exists().where(
        earlier.c.lineage == delivery_table.c.lineage,
        earlier.c.channel == delivery_table.c.channel,
        earlier.c.recipient == delivery_table.c.recipient,
        earlier.c.key < delivery_table.c.key,
        earlier.c.state == "waiting",
    )
    free = or_(delivery_table.c.leased_until.is_(None), delivery_table.c.leased_until <= time)
    row = connection.execute(
        select(delivery_table, order_table.c.document)
        .join(order_table)
        .where(and_(delivery_table.c.state == "waiting", delivery_table.c.due <= time, free, ~blocked))
        .order_by(delivery_table.c.due, delivery_table.c.key)
        .limit(1)
        .with_for_update(skip_locked=True, of=delivery_table)
    ).first()
    if row is None:
        return None
    number = row.attempts + 1
    connection.execute(
        update(delivery_table)
        .where(delivery_table.c.key == row.key)
        .values(attempts=number, leased_until=to_microseconds(now + duration))
    )
    connection.execute(insert(attempt_table), {"delivery": row.key, "number": number, "started": time})
    consignment = _decode_consignment(row.consignment)
    replaced = _newest_before(connection, row)
    return Leased(row.key, row.task, row.document, row.channel, number, consignment, replaced)


def _newest_before(connection: Connection, row: Row[Any]) -> str | None:
    """Deliveries of a lineage leave in order, so every earlier one is settled when this one is leased."""
    return connection.scalar(
        select(order_table.c.document)
        .join(delivery_table)
        .where(
            delivery_table.c.lineage == row.lineage,
            delivery_table.c.channel == row.channel,
            delivery_table.c.recipient == row.recipient,
            delivery_table.c.key < row.key,
            delivery_table.c.state.in_(("delivered", "unconfirmed")),
            order_table.c.document != row.document,
        )
        .order_by(delivery_table.c.key.desc())
        .limit(1)
    )


def renew(connection: Connection, leased: Leased, until: datetime) -> None:
    """Keep a lease that is still this worker's until that time."""
    connection.execute(
        update(delivery_table)
        .where(delivery_table.c.key == leased.key, delivery_table.c.attempts == leased.attempt)
        .where(delivery_table.c.state == "waiting")
        .values(leased_until=to_microseconds(until))
    )


def settle(
    connection: Connection,
    leased: Leased,
    outcome: Outcome,
    detail: str,
    now: datetime,
    *,
    state: State,
    due: datetime | None = None,
) -> bool:
    """Record how the attempt ended and what the delivery owes next.

    False, and nothing written but the attempt's end, when the lease was lost to another worker meanwhile: the newer
    attempt speaks for the delivery.
    """
    connection.execute(
        update(attempt_table)
        .where(attempt_table.c.delivery == leased.key, attempt_table.c.number == leased.attempt)
        .values(ended=to_microseconds(now), outcome=outcome, detail=detail)
    )
    changes: dict[str, object] = {"state": state, "leased_until": None}
    if due is not None:
        changes["due"] = to_microseconds(due)
    mine = and_(
        delivery_table.c.key == leased.key,
        delivery_table.c.attempts == leased.attempt,
        delivery_table.c.state == "waiting",
    )
    return connection.execute(update(delivery_table).where(mine).values(changes)).rowcount == 1


def sent(connection: Connection, lineage: str, channel: str | None = None) -> dict[str, State]:
    """Documents of a lineage that a channel (any by default) delivered, may have delivered, or still owes."""
    wanted = [delivery_table.c.lineage == lineage, delivery_table.c.state != "dead"]
    if channel is not None:
        wanted.append(delivery_table.c.channel == channel)
    rows = connection.execute(
        select(order_table.c.document, delivery_table.c.state)
        .join(delivery_table)
        .where(*wanted)
        .order_by(delivery_table.c.key)
    )
    return {row.document: row.state for row in rows}


def mailboxes(connection: Connection, document: str) -> frozenset[str]:
    """Mailboxes that were sent a document, or are about to be."""
    rows = connection.execute(
        select(delivery_table.c.recipient)
        .join(order_table)
        .where(order_table.c.document == document, delivery_table.c.state.in_(("delivered", "waiting")))
    )
    return frozenset(row.recipient for row in rows if row.recipient)


def order(connection: Connection, task: str) -> tuple[Order, tuple[Delivery, ...]] | None:
    """An order and its deliveries, by the id of its Task."""
    row = connection.execute(select(order_table).where(order_table.c.task == task)).first()
    if row is None:
        return None
    found = connection.execute(
        select(delivery_table).where(delivery_table.c.task == task).order_by(delivery_table.c.key)
    ).all()
    deliveries = tuple(
        Delivery(
            item.key,
            item.channel,
            item.recipient,
            item.state,
            to_datetime(item.due),
            _attempts(connection, item.key),
        )
        for item in found
    )
    return Order(row.task, row.document, row.focus, row.subject, to_datetime(row.placed)), deliveries


def _attempts(connection: Connection, delivery: int) -> tuple[Attempt, ...]:
    rows = connection.execute(
        select(attempt_table).where(attempt_table.c.delivery == delivery).order_by(attempt_table.c.number)
    ).all()
    return tuple(
        Attempt(
            row.number,
            to_datetime(row.started),
            None if row.ended is None else to_datetime(row.ended),
            row.outcome,
            row.detail,
        )
        for row in rows
    )


def pending(store: Store) -> int:
    """Number of deliveries not yet delivered nor given up."""
    with store.snapshot() as connection:
        rows: Sequence[object] = connection.execute(
            select(delivery_table.c.key).where(delivery_table.c.state == "waiting")
        ).all()
    return len(rows)
