"""The transactional outbox: what was ordered, what each delivery still owes, every attempt made.

An order and its deliveries are written in the transaction that writes the document and the Task they belong to, so a
crash leaves either all of it or nothing. A worker leases one delivery at a time; a lease that runs out (the worker was
killed) makes the delivery due again, with the same identifiers. Each mailbox has a delivery of its own. Deliveries of
one document lineage go to one receiver in the order in which they were placed, because a replacement needs the version
it replaces at the receiver. Otherwise what is more urgent goes first, then what was placed first.

Times come from clocks that may be set back. `since` is the time at which a delivery was put off until `due`: found in
the future, it shows that the clock was set back, and `mend_times` makes the delivery due at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Literal, get_args

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Exists,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)

from relais.cda.xds import Submission
from relais.server.delivery.channel import EVERY_ACKNOWLEDGEMENT, Acknowledgement, Action
from relais.server.store.schema import Bytewise, Key, metadata
from relais.server.store.statements import Statement, read_all, without_waiting
from relais.server.store.store import Store, to_datetime, to_microseconds

State = Literal["waiting", "delivered", "unconfirmed", "dead", "cancelled"]
"""`unconfirmed`: given up, but the receiver may hold the document; `dead`: given up, it does not."""
Priority = Literal["routine", "urgent", "asap", "stat"]
"""Task.priority (R4 request-priority), least urgent first."""
Outcome = Literal["delivered", "retry", "unanswered", "refused"]
"""`unanswered`: to be tried again as after `retry`, but the receiver may have the document already."""

order_table = Table(
    "delivery_order",
    metadata,
    Column("task", Bytewise, primary_key=True),  # id of the Task that answers for it
    Column("document", Bytewise, nullable=False),  # key of relais.server.documents
    Column("focus", Text),  # CarePlan/[id]/_history/[version]; NULL: a document made elsewhere
    Column("subject", Text),  # Patient/[id]
    Column("placed", BigInteger, nullable=False),
    Column("action", Text, nullable=False, server_default="send"),
    Column("priority", Text, nullable=False, server_default="routine"),
    Column("requester", Text),  # Type/[id] of who ordered; NULL: the structure of the settings
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
    Column("rank", Integer, nullable=False, server_default="3"),  # place of the priority: the lowest goes first
    Column("since", BigInteger, nullable=False, server_default="0"),  # when `due` was set
    Column("spent", Integer, nullable=False, server_default="0"),  # attempts made before it was last resumed
    Column("reason", Text),  # why it was put off or given up
    Column("message_id", Bytewise, nullable=False, server_default=""),
    UniqueConstraint("task", "channel", "recipient"),
    sqlite_autoincrement=True,
)
Index("delivery_queue", delivery_table.c.state, delivery_table.c.rank, delivery_table.c.key)
Index("delivery_by_message", delivery_table.c.message_id)
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
    """What is fixed when an order is accepted and the same on every attempt (see `channel.Shipment`).

    `looked_up_for` is the carrier (`Type/[id]`) in whose care team the mailbox was found; empty where it was named.
    `secret`, `visibility_only`, `as_before` and `dmp_is_fed` as there. `feeds_dmp`: it asks a platform to feed the DMP.
    """

    submission: Submission
    recipients: tuple[str, ...]
    message_id: str
    acknowledgements: tuple[Acknowledgement, ...] = EVERY_ACKNOWLEDGEMENT
    annuls: str = ""
    looked_up_for: str = ""
    secret: bool = False
    visibility_only: bool = False
    as_before: bool = False
    dmp_is_fed: bool = False
    feeds_dmp: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One accepted order; `task` is the id of its Task, `requester` a reference to who ordered."""

    task: str
    document: str
    focus: str | None
    subject: str | None
    placed: datetime
    action: Action = "send"
    priority: Priority = "routine"
    requester: str | None = None


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
    """One receiver of an order, with its attempts, oldest first; `recipient` is a mailbox or empty.

    `reason` says why it waits for another attempt or why it was given up, or what to know of it though it ended well;
    empty otherwise.
    """

    key: int
    channel: str
    recipient: str
    state: State
    due: datetime
    attempts: tuple[Attempt, ...]
    reason: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that this worker, and no other, may try until the lease runs out.

    `attempt` is its number, `tries` how many of them count: those since the delivery was last resumed. `doubtful` says
    that an earlier one may have reached the receiver. `replaced` is the document of the same lineage that the receiver
    holds, or may hold, from this channel. `subject` is the patient (`Patient/[id]`) of the order, if it names one.
    """

    key: int
    task: str
    document: str
    channel: str
    attempt: int
    tries: int
    doubtful: bool
    action: Action
    consignment: Consignment
    replaced: str | None
    subject: str | None = None


_encode = msgspec.json.Encoder().encode
_decode_consignment = msgspec.json.Decoder(Consignment).decode
NOTIFICATION = "relais_deliveries"
"""PostgreSQL notifies the workers that listen to it, once the transaction of an order is committed."""
_PRIORITIES: tuple[Priority, ...] = get_args(Priority)
_SKEW = timedelta(minutes=1)  # clocks of two machines may differ by so much


# --- ordering ---------------------------------------------------------------------------------------------------------


def place(
    connection: Connection, order: Order, lineage: str, consignments: Iterable[tuple[str, str, Consignment]]
) -> None:
    """Write an order and one delivery per (channel, mailbox, consignment), due at once.

    The mailbox tells deliveries of one channel apart; it is empty where the channel leads to one receiver.
    """
    placed = to_microseconds(order.placed)
    _INSERT_ORDER.run(
        connection,
        {
            "task": order.task,
            "document": order.document,
            "focus": order.focus,
            "subject": order.subject,
            "placed": placed,
            "action": order.action,
            "priority": order.priority,
            "requester": order.requester,
        },
    )
    for channel, recipient, consignment in consignments:
        _INSERT_DELIVERY.run(
            connection,
            {
                "task": order.task,
                "channel": channel,
                "recipient": recipient,
                "lineage": lineage,
                "consignment": _encode(consignment),
                "state": "waiting",
                "attempts": 0,
                "due": placed,
                "since": placed,
                "rank": len(_PRIORITIES) - 1 - _PRIORITIES.index(order.priority),
                "message_id": consignment.message_id,
            },
        )
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(NOTIFICATION, "")))


_ONE: ColumnElement[int] = literal_column("1")
_NONE: ColumnElement[int] = literal_column("0")  # else SQLite is given an offset as a parameter that nobody binds


def _insertion(table: Table, *columns: str) -> Statement:
    return Statement(insert(table).values({name: bindparam(name) for name in columns}))


_INSERT_ORDER = _insertion(
    order_table, "task", "document", "focus", "subject", "placed", "action", "priority", "requester"
)
_INSERT_DELIVERY = _insertion(
    delivery_table,
    "task",
    "channel",
    "recipient",
    "lineage",
    "consignment",
    "state",
    "attempts",
    "due",
    "since",
    "rank",
    "message_id",
)


# --- working ----------------------------------------------------------------------------------------------------------


def lease(
    connection: Connection,
    now: datetime,
    duration: timedelta,
    channels: Collection[str] | None = None,
    *,
    sparing: bool = False,
) -> Leased | None:
    """Take the next delivery that is due by one of the channels (any by default), for `duration`; None without one.

    `sparing` takes the one tried least, for a probe that may fail: no delivery is to use its attempts up on probes.

    The attempt is recorded before anything is sent, so that one that never comes back is seen.
    """
    if channels is not None and not channels:
        return None
    time = to_microseconds(now)
    named = {f"channel_{index}": channel for index, channel in enumerate(channels or ())}
    row = _next(len(named), sparing).first(connection, {"now": time, **named})
    if row is None:
        return None
    key, task, channel, recipient, lineage, consignment, attempts, spent, document, action, subject = row
    number = attempts + 1
    before = {"of_key": key, "lineage": lineage, "channel": channel, "recipient": recipient, "document": document}
    with without_waiting(connection):
        _TAKE.run(connection, {"of_key": key, "attempts": number, "leased_until": to_microseconds(now + duration)})
        _BEGIN.run(connection, {"delivery": key, "number": number, "started": time})
        doubtful = number > 1 and _EARLIER_IN_DOUBT.first(connection, {"of_key": key, "of_number": number}) is not None
        last = _NEWEST_BEFORE.first(connection, before)
    return Leased(
        key,
        task,
        document,
        channel,
        number,
        number - spent,
        doubtful,
        action,
        _decode_consignment(consignment),
        last[0] if last and last[1] == "send" else None,
        subject,
    )


@cache
def _next(channels: int, sparing: bool) -> Statement:
    """The delivery to try next, by one of so many channels; by any when that is 0."""
    earlier, delivery = delivery_table.alias("earlier"), delivery_table.c
    now: ColumnElement[int] = bindparam("now", type_=BigInteger)
    blocked = exists().where(
        earlier.c.lineage == delivery.lineage,
        earlier.c.channel == delivery.channel,
        earlier.c.recipient == delivery.recipient,
        earlier.c.key < delivery.key,
        earlier.c.state == literal_column("'waiting'"),
    )
    free = or_(delivery.leased_until.is_(None), delivery.leased_until <= now)
    ready = [delivery.state == literal_column("'waiting'"), delivery.due <= now, free, ~blocked]
    if channels:
        ready.append(or_(*(delivery.channel == bindparam(f"channel_{index}") for index in range(channels))))
    tried = [delivery.attempts] if sparing else []
    names = ("key", "task", "channel", "recipient", "lineage", "consignment", "attempts", "spent")
    return Statement(
        select(*(delivery[name] for name in names), order_table.c.document, order_table.c.action, order_table.c.subject)
        .join(order_table)
        .where(*ready)
        .order_by(*tried, delivery.rank, delivery.key)
        .limit(_ONE)
        .offset(_NONE)
        .with_for_update(skip_locked=True, of=delivery_table)
    )


def _doubt(delivery: ColumnElement[int], *among: ColumnElement[bool]) -> Exists:
    """Whether an attempt of a delivery was not answered, or never came back."""
    lost = or_(attempt_table.c.ended.is_(None), attempt_table.c.outcome == literal_column("'unanswered'"))
    return exists(_ONE).where(attempt_table.c.delivery == delivery, lost, *among)


_KEY: ColumnElement[int] = bindparam("of_key", type_=BigInteger)
_TASK: ColumnElement[str] = bindparam("task", type_=Bytewise)
_MAY_BE_THERE = delivery_table.c.state.in_((literal_column("'delivered'"), literal_column("'unconfirmed'")))
"""The receiver has what was delivered, or may have it."""
_TAKE = Statement(
    update(delivery_table)
    .where(delivery_table.c.key == _KEY)
    .values(attempts=bindparam("attempts"), leased_until=bindparam("leased_until"))
)
_BEGIN = _insertion(attempt_table, "delivery", "number", "started")
_EARLIER_IN_DOUBT = Statement(select(_ONE).where(_doubt(_KEY, attempt_table.c.number < bindparam("of_number"))))
# Deliveries of a lineage leave in order, so every earlier one is settled when this one is leased.
_NEWEST_BEFORE = Statement(
    select(order_table.c.document, order_table.c.action)
    .join(delivery_table)
    .where(
        delivery_table.c.lineage == bindparam("lineage"),
        delivery_table.c.channel == bindparam("channel"),
        delivery_table.c.recipient == bindparam("recipient"),
        delivery_table.c.key < _KEY,
        _MAY_BE_THERE,
        or_(order_table.c.document != bindparam("document"), order_table.c.action == literal_column("'withdraw'")),
    )
    .order_by(delivery_table.c.key.desc())
    .limit(_ONE)
    .offset(_NONE)
)


def is_held(connection: Connection, leased: Leased) -> bool:
    """Whether the receiver was given the very document of a delivery by an earlier one, or may have been."""
    about = {"document": leased.document, "channel": leased.channel, "of_key": leased.key}
    return _HELD_BEFORE.first(connection, about) is not None


_HELD_BEFORE = Statement(
    select(_ONE)
    .select_from(delivery_table)
    .join(order_table)
    .where(
        order_table.c.document == bindparam("document"),
        order_table.c.action == literal_column("'send'"),
        delivery_table.c.channel == bindparam("channel"),
        delivery_table.c.key < _KEY,
        _MAY_BE_THERE,
    )
    .limit(_ONE)
    .offset(_NONE)
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
    remark: str = "",
) -> bool:
    """Record how the attempt ended and what the delivery owes next; `remark` is the reason of one that ended well.

    False, and nothing written but the attempt's end, when the lease was lost to another worker meanwhile: the newer
    attempt speaks for the delivery.
    """
    attempt = {"of_key": leased.key, "of_number": leased.attempt}
    _END.run(connection, {**attempt, "ended": to_microseconds(now), "outcome": outcome, "detail": detail})
    owed = {"state": state, "reason": (remark or None) if state == "delivered" else detail}
    if due is None:
        return _SETTLE.first(connection, {**attempt, **owed}) is not None
    times = {"due": to_microseconds(due), "since": to_microseconds(now)}
    return _PUT_OFF.first(connection, {**attempt, **owed, **times}) is not None


_END = Statement(
    update(attempt_table)
    .where(attempt_table.c.delivery == _KEY, attempt_table.c.number == bindparam("of_number"))
    .values({name: bindparam(name) for name in ("ended", "outcome", "detail")})
)


def _settlement(*columns: str) -> Statement:
    """What a delivery owes next, written by the worker whose lease it is."""
    return Statement(
        update(delivery_table)
        .where(
            delivery_table.c.key == _KEY,
            delivery_table.c.attempts == bindparam("of_number"),
            delivery_table.c.state == literal_column("'waiting'"),
        )
        .values({"leased_until": null(), **{name: bindparam(name) for name in columns}})
        .returning(delivery_table.c.key)
    )


_SETTLE = _settlement("state", "reason")
_PUT_OFF = _settlement("state", "reason", "due", "since")


def mend_times(connection: Connection, now: datetime, lease: timedelta) -> int:
    """After the clock was set back: what was put off in the future is due, no lease lasts longer than one; how many.

    A lease that is still held is renewed by its worker well before it ends.
    """
    waiting, future = delivery_table.c.state == "waiting", to_microseconds(now + _SKEW)
    time, held = to_microseconds(now), to_microseconds(now + lease)
    late = update(delivery_table).where(waiting, delivery_table.c.since > future).values(due=time, since=time)
    too_long = delivery_table.c.leased_until > to_microseconds(now + lease + _SKEW)
    stuck = update(delivery_table).where(waiting, too_long).values(leased_until=held)
    return connection.execute(late).rowcount + connection.execute(stuck).rowcount


# --- operating --------------------------------------------------------------------------------------------------------


def resume(connection: Connection, task: str, now: datetime) -> int:
    """Make the deliveries of an order that were given up, or wait for another attempt, due now; how many.

    Attempts made so far do not count any more; the identifiers stay, so that a receiver that holds the document
    recognises it. What was cancelled stays so, and what a later version of the document has overtaken.
    """
    later = delivery_table.alias("later")
    overtaken = exists().where(
        later.c.lineage == delivery_table.c.lineage,
        later.c.channel == delivery_table.c.channel,
        later.c.recipient == delivery_table.c.recipient,
        later.c.key > delivery_table.c.key,
        later.c.state.in_(("waiting", "delivered", "unconfirmed")),
    )
    given_up = and_(delivery_table.c.state.in_(("dead", "unconfirmed")), ~overtaken)
    mine = (delivery_table.c.task == task, or_(delivery_table.c.state == "waiting", given_up))
    time = to_microseconds(now)
    changes = {"state": "waiting", "due": time, "since": time, "spent": delivery_table.c.attempts, "reason": None}
    count = connection.execute(update(delivery_table).where(*mine).values(changes)).rowcount
    if count and connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(NOTIFICATION, "")))
    return count


def cancel(connection: Connection, task: str, reason: str, now: datetime) -> list[int]:
    """Give up the deliveries of an order that wait and are not being tried; the keys of those.

    One that may have arrived by an attempt nobody answered is `unconfirmed`.
    """
    free = or_(delivery_table.c.leased_until.is_(None), delivery_table.c.leased_until <= to_microseconds(now))
    mine = (delivery_table.c.task == task, delivery_table.c.state == "waiting", free)
    changes = {"state": case((_doubt(delivery_table.c.key), "unconfirmed"), else_="cancelled"), "reason": reason}
    return list(connection.scalars(update(delivery_table).where(*mine).values(changes).returning(delivery_table.c.key)))


# --- asking -----------------------------------------------------------------------------------------------------------


def sent(connection: Connection, lineage: str, channel: str | None = None) -> dict[str, State]:
    """Documents of a lineage that a channel (any by default) delivered, may have delivered, or still owes.

    A document that was withdrawn is none of them.
    """
    statement = _OF_LINEAGE if channel is None else _OF_CHANNEL
    found: dict[str, State] = {}
    for document, action, state in statement.all(connection, {"lineage": lineage, "channel": channel}):
        if action == "send":
            found[document] = state
        elif state == "delivered":
            found.pop(document, None)
    return found


def consignments(connection: Connection, lineage: str, channel: str | None = None) -> list[tuple[str, Consignment]]:
    """Documents of a lineage that a channel (any by default) delivered, may have delivered or still owes, and how;
    newest first."""
    statement = _CONSIGNED_OF_LINEAGE if channel is None else _CONSIGNED_OF_CHANNEL
    rows = statement.all(connection, {"lineage": lineage, "channel": channel})
    return [(document, _decode_consignment(consignment)) for document, consignment in rows]


def withdrawn(connection: Connection, lineage: str, channel: str) -> set[str]:
    """Documents of a lineage that a channel withdrew, may have withdrawn, or is about to."""
    rows = _OF_CHANNEL.all(connection, {"lineage": lineage, "channel": channel})
    return {document for document, action, _ in rows if action == "withdraw"}


_STANDING = delivery_table.c.state.in_(
    [literal_column("'waiting'"), literal_column("'delivered'"), literal_column("'unconfirmed'")]
)
_MINE = (delivery_table.c.lineage == bindparam("lineage"), _STANDING)
_BY_CHANNEL = delivery_table.c.channel == bindparam("channel")
_IS_SENDING = order_table.c.action == literal_column("'send'")
_DOCUMENTS = (
    select(order_table.c.document, order_table.c.action, delivery_table.c.state)
    .join(delivery_table)
    .where(*_MINE)
    .order_by(delivery_table.c.key)
)
_CONSIGNED = (
    select(order_table.c.document, delivery_table.c.consignment)
    .join(delivery_table)
    .where(*_MINE, _IS_SENDING)
    .order_by(delivery_table.c.key.desc())
)
_OF_LINEAGE, _OF_CHANNEL = Statement(_DOCUMENTS), Statement(_DOCUMENTS.where(_BY_CHANNEL))
_CONSIGNED_OF_LINEAGE, _CONSIGNED_OF_CHANNEL = Statement(_CONSIGNED), Statement(_CONSIGNED.where(_BY_CHANNEL))


def subject_of(connection: Connection, document: str) -> str | None:
    """The patient (`Patient/[id]`) of the last order that sent a document; None where it named none."""
    sends = select(order_table.c.subject).where(order_table.c.document == document, order_table.c.action == "send")
    return connection.scalar(sends.order_by(order_table.c.placed.desc()).limit(1))


def mailboxes(connection: Connection, document: str) -> dict[str, State]:
    """Mailboxes, in lower case, that were or may have been sent a document, or are about to be."""
    return {
        recipient.lower(): state for recipient, state in _MAILBOXES.all(connection, {"document": document}) if recipient
    }


_MAILBOXES = Statement(
    select(delivery_table.c.recipient, delivery_table.c.state)
    .join(order_table)
    .where(order_table.c.document == bindparam("document"), _STANDING)
    .order_by(delivery_table.c.key)
)


def order(connection: Connection, task: str) -> tuple[Order, tuple[Delivery, ...]] | None:
    """An order and its deliveries, by the id of its Task."""
    found, made, owed = read_all(connection, (_ORDER, _ATTEMPTS, _DELIVERIES), {"task": task})
    if not found:
        return None
    attempts: defaultdict[int, list[Attempt]] = defaultdict(list)
    for delivery, number, started, ended, outcome, detail in made:
        end = None if ended is None else to_datetime(ended)
        attempts[delivery].append(Attempt(number, to_datetime(started), end, outcome, detail))
    deliveries = tuple(
        Delivery(key, channel, recipient, state, to_datetime(due), tuple(attempts[key]), reason or "", message_id)
        for key, channel, recipient, state, due, reason, message_id in owed
    )
    document, focus, subject, placed, action, priority, requester = found[0]
    return Order(task, document, focus, subject, to_datetime(placed), action, priority, requester), deliveries


_ORDER_COLUMNS = ("document", "focus", "subject", "placed", "action", "priority", "requester")
_DELIVERY_COLUMNS = ("key", "channel", "recipient", "state", "due", "reason", "message_id")
_ORDER = Statement(select(*(order_table.c[name] for name in _ORDER_COLUMNS)).where(order_table.c.task == _TASK))
_DELIVERIES = Statement(
    select(*(delivery_table.c[name] for name in _DELIVERY_COLUMNS))
    .where(delivery_table.c.task == _TASK)
    .order_by(delivery_table.c.key)
)
_ATTEMPTS = Statement(
    select(*attempt_table.c)
    .join(delivery_table)
    .where(delivery_table.c.task == _TASK)
    .order_by(attempt_table.c.delivery, attempt_table.c.number)
)


def is_order(connection: Connection, task: str) -> bool:
    """Whether a Task answers for an order."""
    return _ORDER.first(connection, {"task": task}) is not None


def orders(connection: Connection, states: Collection[State] = (), limit: int = 100) -> list[str]:
    """Ids of the Tasks of orders that have a delivery in one of the states (any by default), newest first."""
    newest = func.max(delivery_table.c.key)
    wanted = select(delivery_table.c.task).group_by(delivery_table.c.task).order_by(newest.desc()).limit(limit)
    if states:
        wanted = wanted.where(delivery_table.c.state.in_(states))
    return list(connection.scalars(wanted))


def counts(connection: Connection) -> dict[tuple[str, State], int]:
    """How many deliveries each channel has in each state."""
    grouped = select(delivery_table.c.channel, delivery_table.c.state, func.count().label("number")).group_by(
        delivery_table.c.channel, delivery_table.c.state
    )
    return {(row.channel, row.state): row.number for row in connection.execute(grouped)}


def pending(store: Store) -> int:
    """Number of deliveries not yet delivered nor given up."""
    with store.snapshot() as connection:
        waiting = select(func.count()).select_from(delivery_table).where(delivery_table.c.state == "waiting")
        return connection.scalar(waiting) or 0
