"""What an operator sees and does of deliveries: list, show, resume, cancel, evidence (`relais deliveries`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from sqlalchemy import Connection

from relais.cda.errors import Issue, RelaisError
from relais.server.conformance import Conformance
from relais.server.delivery import acknowledgements, circuits, evidence, outbox, story
from relais.server.delivery.outbox import Delivery, Order, State
from relais.server.fhir.repository import Repository, Transaction, instant
from relais.server.settings import Settings
from relais.server.store import Store

STATES: tuple[State, ...] = get_args(State)


@contextmanager
def opened(settings: Settings) -> Iterator[Repository]:
    """The stored resources of the settings' database, for the time of a command. Raises RelaisError."""
    Conformance.load(settings)  # Tasks are indexed as the facade does
    store = Store.open(settings.database_url)
    try:
        yield Repository(store, settings.fhir_base, check_references=False)
    finally:
        store.close()


def listing(repository: Repository, states: Collection[State], limit: int) -> dict[str, Any]:
    """Orders (newest first) with a delivery in one of the states, how many deliveries stand where, the circuits.

    Of acknowledgements, those that ask for attention: refusals, bounces among them, and those that did not come.
    """
    with repository.snapshot() as connection:
        tasks = outbox.orders(connection, states, limit)
        found = [order for task in tasks if (order := outbox.order(connection, task))]
        counted = [
            {"channel": channel, "state": state, "deliveries": number}
            for (channel, state), number in sorted(outbox.counts(connection).items())
        ]
        listed = [_order(*one) for one in found]
        for said, (_, deliveries) in zip(listed, found, strict=True):
            for one, delivery in zip(said["deliveries"], deliveries, strict=True):
                told = _acknowledgements(connection, delivery)
                one["acknowledgements"] = [ack for ack in told if ack["state"] in ("negative", "overdue")]
        now = repository.clock()
        circuit = [
            {
                "destination": one.destination,
                "state": one.state(now),
                "failures": one.failures,
                "retry_at": one.retry_at and instant(one.retry_at),
                "reason": one.reason,
            }
            for one in circuits.known(connection)
        ]
    return {"orders": listed, "counts": counted, "circuits": circuit}


def shown(repository: Repository, task: str) -> dict[str, Any]:
    """An order with every attempt, acknowledgement and kept exchange. Raises RelaisError when there is none."""
    with repository.snapshot() as connection:
        order, deliveries = _found(connection, task)
        said = _order(order, deliveries)
        for one, delivery in zip(said["deliveries"], deliveries, strict=True):
            one["attempts"] = [
                asdict(attempt)
                | {"started": instant(attempt.started), "ended": attempt.ended and instant(attempt.ended)}
                for attempt in delivery.attempts
            ]
            one["acknowledgements"] = _acknowledgements(connection, delivery)
            one["exchanges"] = len(evidence.of_delivery(connection, delivery.key))
    return said


def resume(repository: Repository, task: str) -> int:
    """Make what was given up of an order, or waits, due now; how many deliveries.

    Raises RelaisError when nothing of it can be resumed.
    """
    with repository.transaction() as transaction:
        _found(transaction.connection, task)
        count = outbox.resume(transaction.connection, task, transaction.now)
        if not count:
            message = "nothing to resume: delivered, cancelled, or a later version of the document has left"
            raise RelaisError(Issue("error", "business-rule", message, f"Task/{task}"))
        story.write_task(transaction, task)
    return count


def resume_dead(repository: Repository) -> int:
    """Resume every order that has a delivery given up; how many deliveries. What cannot be resumed stays."""
    with repository.transaction() as transaction:
        tasks = outbox.orders(transaction.connection, ("dead", "unconfirmed"), limit=10_000)
        return sum(_resumed(transaction, task) for task in tasks)


def _resumed(transaction: Transaction, task: str) -> int:
    count = outbox.resume(transaction.connection, task, transaction.now)
    if count:
        story.write_task(transaction, task)
    return count


def cancel(repository: Repository, task: str, reason: str) -> int:
    """Give up what waits of an order; how many deliveries. Raises RelaisError when nothing waits."""
    with repository.transaction() as transaction:
        order, _ = _found(transaction.connection, task)
        ended = outbox.cancel(transaction.connection, order.task, reason, transaction.now)
        if not ended:
            message = "nothing to cancel: every delivery has ended, or is being tried at this moment"
            raise RelaisError(Issue("error", "business-rule", message, f"Task/{task}"))
        story.write_task(transaction, order.task, ended)
    return len(ended)


def evidence_pack(repository: Repository, task: str, settings: Settings, *, redacted: bool) -> bytes:
    """The evidence of an order, signed where the settings name a signature certificate. Raises RelaisError."""
    with repository.snapshot() as connection:
        order, deliveries = _found(connection, task)
        exchanges = [one for delivery in deliveries for one in evidence.of_delivery(connection, delivery.key)]
    certificate = settings.dmp_signing_certificate
    return evidence.pack(
        order,
        deliveries,
        exchanges,
        repository.clock(),
        redacted=redacted,
        certificate=Path(certificate) if certificate else None,
        passphrase=settings.dmp_signing_passphrase,
    )


def _found(connection: Connection, task: str) -> tuple[Order, tuple[Delivery, ...]]:
    found = outbox.order(connection, task.removeprefix("Task/"))
    if found is None:
        raise RelaisError(Issue("error", "not-found", "no delivery order has this Task", task))
    return found


def _acknowledgements(connection: Connection, delivery: Delivery) -> list[dict[str, str]]:
    return [
        {"kind": awaited.kind, "state": awaited.state, "due": instant(awaited.due), "detail": awaited.detail}
        for awaited in acknowledgements.of_delivery(connection, delivery.key)
    ]


def _order(order: Order, deliveries: tuple[Delivery, ...]) -> dict[str, Any]:
    return {
        "task": order.task,
        "placed": instant(order.placed),
        "action": order.action,
        "priority": order.priority,
        "focus": order.focus,
        "document": order.document,
        "deliveries": [
            {
                "channel": one.channel,
                "recipient": one.recipient,
                "state": one.state,
                "tries": len(one.attempts),
                "due": instant(one.due),
                "reason": one.reason,
            }
            for one in deliveries
        ],
    }


def counted(number: int, one: str, several: str = "") -> str:
    """A number and what is counted, for people; the plural of `one` has an s unless given."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def as_text(said: dict[str, Any]) -> str:
    """One order in lines: the order, then its deliveries."""
    what = said["focus"] or said["document"]
    head = f"Task/{said['task']} {said['placed']} {said['action']} {said['priority']} {what}"
    return "\n".join([head, *(_delivery_as_text(one) for one in said["deliveries"])])


def _delivery_as_text(one: dict[str, Any]) -> str:
    name = f"{one['channel']} {one['recipient']}".strip()
    lines = [
        f"  {name} {one['state']}, tried {counted(one['tries'], 'time')}"
        + (f": {one['reason']}" if one["reason"] else "")
    ]
    for attempt in one.get("attempts", ()):
        ended = attempt["ended"] or "not ended"
        lines.append(f"    {attempt['number']}. {attempt['started']} - {ended} {attempt['outcome'] or ''}")
    lines += [
        f"    {awaited['kind']}: {awaited['state']} (due {awaited['due']})"
        + (f": {awaited['detail']}" if awaited["detail"] else "")
        for awaited in one.get("acknowledgements", ())
    ]
    if one.get("exchanges"):
        lines.append(f"    exchanges kept: {one['exchanges']}")
    return "\n".join(lines)


def listing_as_text(said: dict[str, Any]) -> str:
    """The listing in lines: circuits, counts, orders."""
    lines = [
        f"{one['destination']}: circuit {one['state']} after {counted(one['failures'], 'failure')}, {one['reason']}"
        for one in said["circuits"]
    ]
    lines += [f"{one['channel']}: {one['deliveries']} {one['state']}" for one in said["counts"]]
    return "\n".join([*lines, *map(as_text, said["orders"])])
