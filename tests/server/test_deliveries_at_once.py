"""Two transactions at one time on PostgreSQL: what both are about is written by one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from relais.cda.errors import RelaisError
from relais.cda.writer import write
from relais.server import documents
from relais.server.delivery import outbox, story
from relais.server.delivery.outbox import Leased
from relais.server.delivery.transmit import Wanted, transmit_document
from relais.server.fhir.repository import Transaction
from relais.server.store import Store
from support import postgres
from support.documents import small_document
from support.orders import Office
from support.plans import PLANS

PATIENCE = 60  # seconds


@pytest.fixture
def url(postgres_server: str) -> Iterator[str]:
    with postgres.database(postgres_server, "at_once") as url:
        yield url


@pytest.fixture
def office(url: str) -> Iterator[Office]:
    store = Store.open(url)
    yield Office(store)
    store.close()


def at_once(
    office: Office, url: str, first: Callable[[Transaction], None], second: Callable[[Transaction], None]
) -> None:
    """Run `second` while the transaction of `first` is not committed; that comes once `second` waits or has ended."""

    def run() -> None:
        with office.backstage.transaction() as transaction:
            second(transaction)

    other = threading.Thread(target=run)
    with office.backstage.transaction() as transaction:
        first(transaction)
        other.start()
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            ends = time.monotonic() + PATIENCE
            while other.is_alive() and not _somebody_waits(connection) and time.monotonic() < ends:
                time.sleep(0.02)
    other.join(PATIENCE)
    assert not other.is_alive()


def _somebody_waits(connection: psycopg.Connection[tuple[int]]) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    row = connection.execute(query).fetchone()
    return row is not None and row[0] > 0


def test_two_deliveries_of_an_order_that_end_together_are_both_told_in_its_task(office: Office, url: str) -> None:
    task = office.order(office.post(PLANS["minimal"], "CarePlan"), "dmp", "hl7v2")

    def ended(transaction: Transaction, leased: Leased) -> None:
        assert outbox.settle(transaction.connection, leased, "delivered", "taken", office.now, state="delivered")
        story.write_task(transaction, leased.task)

    leased = []
    for _ in range(2):
        with office.backstage.transaction() as transaction:
            taken = outbox.lease(transaction.connection, office.now, office.worker._conduct.lease)
            assert taken is not None
            leased.append(taken)
    at_once(office, url, lambda t: ended(t, leased[0]), lambda t: ended(t, leased[1]))
    assert [one.state for one in office.deliveries(task)] == ["delivered", "delivered"]
    assert office.task(task)["status"] == "completed"


def test_a_document_that_is_ordered_twice_at_once_leaves_once(office: Office, url: str) -> None:
    content = write(small_document())
    with office.backstage.transaction() as transaction:
        documents.register(transaction.connection, content, transaction.now)
    outcomes: list[str] = []

    def ordered(transaction: Transaction) -> None:
        try:
            transmit_document(transaction, content, Wanted(("hl7v2",)), office.settings, transaction.now)
            outcomes.append("accepted")
        except RelaisError as error:
            outcomes.append(error.issues[0].code)

    at_once(office, url, ordered, ordered)
    assert outcomes == ["accepted", "duplicate"]
