"""What receivers say after they took a document: it reached the mailbox, it was read or integrated, it was refused.

A delivery that asked for acknowledgements awaits one of each kind from the moment it is delivered. They may come late,
twice, or in any order (CI-SIS Transmission, order states): a positive one is never taken back by silence, and one that
does not come in time raises a flag on the Task. DSN and MDN (MSSanté) and ZAM (HL7 v2) are recorded alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import Index as TableIndex

from relais.server.delivery.channel import Acknowledgement
from relais.server.delivery.outbox import delivery_table
from relais.server.store.schema import Key, metadata
from relais.server.store.statements import Statement
from relais.server.store.store import to_datetime, to_microseconds

State = Literal["awaited", "overdue", "positive", "negative"]
Answer = Literal["positive", "negative"]
_SKEW = timedelta(minutes=1)
KINDS: tuple[Acknowledgement, ...] = get_args(Acknowledgement)

acknowledgement_table = Table(
    "delivery_acknowledgement",
    metadata,
    Column("delivery", Key, ForeignKey(delivery_table.c.key), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("received", BigInteger),
    Column("detail", Text),
)
TableIndex("delivery_acknowledgement_due", acknowledgement_table.c.state, acknowledgement_table.c.due)


@dataclass(frozen=True, slots=True)
class Awaited:
    """One acknowledgement of a delivery; `received` is None as long as none came."""

    kind: Acknowledgement
    state: State
    due: datetime
    received: datetime | None
    detail: str


def expect(connection: Connection, delivery: int, kinds: Iterable[Acknowledgement], due: datetime) -> None:
    """Await these of a delivery that was just delivered; those known already stay as they are.

    Nobody reads what a mailbox has refused meanwhile.
    """
    known = of_delivery(connection, delivery)
    refused = any(one.kind == "reception" and one.state == "negative" for one in known)
    _await(connection, delivery, [kind for kind in kinds if not (refused and kind == "reading")], due)


def _await(connection: Connection, delivery: int, kinds: Iterable[Acknowledgement], due: datetime) -> None:
    known = {one.kind for one in of_delivery(connection, delivery)}
    rows = [
        {"delivery": delivery, "kind": kind, "state": "awaited", "due": to_microseconds(due)}
        for kind in kinds
        if kind not in known
    ]
    for row in rows:
        _AWAIT.run(connection, row)


_AWAIT = Statement(
    insert(acknowledgement_table).values({name: bindparam(name) for name in ("delivery", "kind", "state", "due")})
)


def record(
    connection: Connection,
    message_id: str,
    kind: Acknowledgement,
    *,
    positive: bool,
    detail: str,
    now: datetime,
    recipient: str | None = None,
    keep_refusal: bool = False,
) -> list[str]:
    """Note what a receiver says of the message with that Message-ID; the ids of the Tasks to write again.

    `recipient` is the mailbox that it is said of or that says it, whatever its case. Empty when the message is not ours
    or did not go there. A refusal after a positive one counts: a mailbox that took a message may bounce it later; with
    `keep_refusal` nothing takes a refusal back.
    """
    wanted = [delivery_table.c.message_id == message_id]
    if recipient is not None:
        wanted.append(func.lower(delivery_table.c.recipient) == recipient.lower())
    found = connection.execute(select(delivery_table.c.key, delivery_table.c.task).where(*wanted)).all()
    for row in found:
        _await(connection, row.key, (kind,), now)
        mine = [acknowledgement_table.c.delivery == row.key, acknowledgement_table.c.kind == kind]
        if keep_refusal:
            mine.append(acknowledgement_table.c.state != "negative")
        connection.execute(
            update(acknowledgement_table)
            .where(*mine)
            .values(state="positive" if positive else "negative", received=to_microseconds(now), detail=detail)
        )
        if kind == "reception" and not positive:
            await_no_reading(connection, row.key)
    return list(dict.fromkeys(row.task for row in found))


def await_no_reading(connection: Connection, delivery: int) -> None:
    """Nobody reads what came to no mailbox: the acknowledgement of reading is not awaited any more."""
    mine = and_(acknowledgement_table.c.delivery == delivery, acknowledgement_table.c.kind == "reading")
    unanswered = acknowledgement_table.c.state.in_(("awaited", "overdue"))
    connection.execute(delete(acknowledgement_table).where(mine, unanswered))


def write(
    connection: Connection,
    delivery: int,
    kind: Acknowledgement,
    state: Answer | None,
    detail: str,
    now: datetime,
) -> None:
    """Note what the receivers of one delivery have said so far; without a `state`, some are still awaited."""
    _await(connection, delivery, (kind,), now)
    mine = and_(acknowledgement_table.c.delivery == delivery, acknowledgement_table.c.kind == kind)
    if state is not None:
        values = {"state": state, "received": to_microseconds(now), "detail": detail}
        connection.execute(update(acknowledgement_table).where(mine).values(values))
        return
    connection.execute(update(acknowledgement_table).where(mine).values(detail=detail))
    settled = acknowledgement_table.c.state.in_(("positive", "negative"))
    connection.execute(update(acknowledgement_table).where(mine, settled).values(state="awaited", received=None))


def recipients(connection: Connection, message_id: str) -> frozenset[str]:
    """The mailboxes that the message with that Message-ID went to; empty when it is not ours."""
    mine = delivery_table.c.message_id == message_id
    return frozenset(connection.scalars(select(delivery_table.c.recipient).where(mine)))


def mend_times(connection: Connection, latest: datetime) -> None:
    """After the clock was set back: none is awaited for longer than `latest`."""
    far = (acknowledgement_table.c.state == "awaited", acknowledgement_table.c.due > to_microseconds(latest + _SKEW))
    connection.execute(update(acknowledgement_table).where(*far).values(due=to_microseconds(latest)))


def flag_overdue(connection: Connection, now: datetime) -> list[str]:
    """Raise the flag of every acknowledgement that did not come in time; the ids of the Tasks to write again."""
    late = (acknowledgement_table.c.state == "awaited", acknowledgement_table.c.due <= to_microseconds(now))
    deliveries = select(acknowledgement_table.c.delivery).where(*late)
    tasks = connection.scalars(select(delivery_table.c.task).where(delivery_table.c.key.in_(deliveries)).distinct())
    found = list(tasks)
    if found:
        connection.execute(update(acknowledgement_table).where(*late).values(state="overdue"))
    return found


def of_delivery(connection: Connection, delivery: int) -> tuple[Awaited, ...]:
    """The acknowledgements of a delivery, by kind."""
    return tuple(
        Awaited(kind, state, to_datetime(due), None if received is None else to_datetime(received), detail or "")
        for kind, state, due, received, detail in _OF_DELIVERY.all(connection, {"delivery": delivery})
    )


_OF_DELIVERY = Statement(
    select(*(acknowledgement_table.c[name] for name in ("kind", "state", "due", "received", "detail")))
    .where(acknowledgement_table.c.delivery == bindparam("delivery"))
    .order_by(acknowledgement_table.c.kind)
)
