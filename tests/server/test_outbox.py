"""The outbox on both engines: who may try what, when, and what is remembered of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from relais.cda.xds import Submission
from relais.server.delivery import outbox
from relais.server.delivery.outbox import Consignment, Leased, Order
from relais.server.store import Store
from support.shipments import small_shipment

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
LEASE = timedelta(minutes=2)


def _submission() -> Submission:
    return small_shipment().submission


def _place(store: Store, task: str, *, lineage: str = "2.25.1", channels: tuple[str, ...] = ("dmp",)) -> None:
    consignment = Consignment(_submission(), ("a@b.mssante.fr",), f"<{task}@b.mssante.fr>")
    with store.transaction() as transaction:
        order = Order(task, f"2.25.{task}", None, None, NOW)
        outbox.place(transaction.connection, order, lineage, [(channel, "", consignment) for channel in channels])


def _lease(store: Store, now: datetime = NOW) -> Leased | None:
    with store.transaction() as transaction:
        return outbox.lease(transaction.connection, now, LEASE)


def _settle(store: Store, leased: Leased, state: outbox.State = "delivered", now: datetime = NOW) -> bool:
    with store.transaction() as transaction:
        outcome: outbox.Outcome = "delivered" if state == "delivered" else "retry"
        return outbox.settle(transaction.connection, leased, outcome, "said", now, state=state, due=now + LEASE)


def _history(store: Store, task: str) -> tuple[outbox.Delivery, ...]:
    with store.snapshot() as connection:
        found = outbox.order(connection, task)
    assert found is not None
    return found[1]


def test_a_consignment_comes_back_as_it_was_placed(store: Store) -> None:
    _place(store, "1")
    leased = _lease(store)
    assert leased is not None
    assert leased.consignment == Consignment(_submission(), ("a@b.mssante.fr",), "<1@b.mssante.fr>")
    assert (leased.task, leased.document, leased.channel, leased.attempt) == ("1", "2.25.1", "dmp", 1)


def test_a_leased_delivery_is_nobody_elses_until_the_lease_runs_out(store: Store) -> None:
    _place(store, "1")
    first = _lease(store)
    assert first is not None
    assert _lease(store) is None
    assert _lease(store, NOW + LEASE - timedelta(seconds=1)) is None
    second = _lease(store, NOW + LEASE)
    assert second is not None
    assert second.attempt == 2
    assert second.consignment == first.consignment


def test_an_attempt_whose_lease_was_lost_does_not_speak_for_the_delivery(store: Store) -> None:
    _place(store, "1")
    first = _lease(store)
    second = _lease(store, NOW + LEASE)
    assert first and second
    assert not _settle(store, first, "delivered")
    assert _history(store, "1")[0].state == "waiting"
    assert _settle(store, second, "delivered")
    delivery = _history(store, "1")[0]
    assert delivery.state == "delivered"
    assert [attempt.outcome for attempt in delivery.attempts] == ["delivered", "delivered"]


def test_a_delivery_to_be_tried_again_waits_for_its_time(store: Store) -> None:
    _place(store, "1")
    leased = _lease(store)
    assert leased
    _settle(store, leased, "waiting")
    assert _lease(store) is None
    again = _lease(store, NOW + LEASE)
    assert again is not None
    assert again.attempt == 2


def test_versions_of_a_document_leave_a_channel_in_order(store: Store) -> None:
    _place(store, "1", channels=("dmp", "mss"))
    _place(store, "2", channels=("dmp",))
    _place(store, "3", lineage="2.25.9")
    taken = [_lease(store), _lease(store), _lease(store), _lease(store)]
    assert [(leased.task, leased.channel) for leased in taken if leased] == [("1", "dmp"), ("1", "mss"), ("3", "dmp")]
    first = taken[0]
    assert first is not None
    _settle(store, first)
    second = _lease(store)
    assert second is not None
    assert (second.task, second.channel) == ("2", "dmp")


def test_what_was_sent_of_a_lineage_forgets_what_was_refused(store: Store) -> None:
    for task in ("1", "2", "3"):
        _place(store, task)
    for state in ("delivered", "dead"):
        leased = _lease(store)
        assert leased
        _settle(store, leased, state)  # type: ignore[arg-type]
    with store.snapshot() as connection:
        assert outbox.sent(connection, "2.25.1", "dmp") == {"2.25.1": "delivered", "2.25.3": "waiting"}
        assert outbox.sent(connection, "2.25.1", "mss") == {}


def test_a_delivery_knows_what_the_receiver_holds_or_may_hold(store: Store) -> None:
    replaced = []
    for task, state in (("1", "delivered"), ("2", "dead"), ("3", "unconfirmed"), ("4", "delivered")):
        _place(store, task)
        leased = _lease(store)
        assert leased
        replaced.append(leased.replaced)
        _settle(store, leased, state)  # type: ignore[arg-type]
    assert replaced == [None, "2.25.1", "2.25.1", "2.25.3"]


def test_a_lease_is_held_by_renewing_it(store: Store) -> None:
    _place(store, "1")
    leased = _lease(store)
    assert leased
    with store.transaction() as transaction:
        outbox.renew(transaction.connection, leased, NOW + 2 * LEASE)
    assert _lease(store, NOW + LEASE) is None
    assert _lease(store, NOW + 2 * LEASE) is not None


def test_workers_at_once_never_take_the_same_delivery(store: Store) -> None:
    for number in range(12):
        _place(store, str(number), lineage=f"2.25.{number}")
    taken: list[str] = []

    def work() -> None:
        while leased := _lease(store):
            taken.append(leased.task)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(taken) == sorted(str(number) for number in range(12))
    assert outbox.pending(store) == 12
