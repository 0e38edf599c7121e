"""Stores that fill up or refuse connections while deliveries are under way: nothing is lost, nothing is sent twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from relais.server.delivery import service, wakeup
from relais.server.delivery.worker import Worker
from relais.server.fhir.outcome import status_of
from relais.server.fhir.repository import Repository
from relais.server.store import Store, StoreError
from support import postgres
from support.orders import BASE, Office
from support.plans import PLANS


class _Patience(threading.Event):
    """A stop event that gives the disk its room back when somebody waits."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self.waited = 0
        self._disk = disk

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for nothing; the second time there is room again."""
        self.waited += 1
        if self.waited == 2:
            self._disk.limit(1_000_000)
        return False


class Disk:
    """The disk of a SQLite store, in pages."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def limit(self, pages: int) -> None:
        """Let the file have so many pages; fewer than it has means: no more."""
        with self._store.transaction() as transaction:
            transaction.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[tuple[Office, Disk]]:
    store = Store.open(f"sqlite:///{tmp_path / 'orders.sqlite'}")
    yield Office(store, retry_base=0.0), Disk(store)
    store.close()


def test_on_a_full_disk_no_order_is_accepted(full: tuple[Office, Disk]) -> None:
    office, disk = full
    plan = office.post(PLANS["full"], "CarePlan")
    disk.limit(1)
    with pytest.raises(StoreError) as raised:
        office.order(plan, "dmp")
    assert (status_of(raised.value), raised.value.issues[0].code) == (503, "transient")
    disk.limit(1_000_000)
    assert office.work() == 0
    office.order(plan, "dmp")
    assert office.work() == 1


def test_what_was_sent_while_the_disk_was_full_is_recorded_once_there_is_room(full: tuple[Office, Disk]) -> None:
    office, disk = full
    office.worker._stop = patience = _Patience(disk)
    office.channels["dmp"].on_send = lambda _: disk.limit(1)
    task = office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
    assert office.worker.step()
    assert patience.waited >= 2
    assert office.task(task)["status"] == "completed"
    assert len(office.channels["dmp"].taken) == 1


def test_a_database_that_refuses_connections_is_waited_for(postgres_server: str) -> None:
    with postgres.database(postgres_server, "outage") as url:
        store = Store.open(url)
        office = Office(store)
        task = office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
        other = office.order(office.post(PLANS["born-abroad"], "CarePlan"), "dmp")
        office.channels["dmp"].on_send = lambda _: _refuse(postgres_server)
        worker = Worker(
            Repository(store, BASE, check_references=False),
            {"dmp": office.channels["dmp"]},
            {"dmp": "dmp dmp.test"},
            lambda _content, _channel: [],
            service.conduct(office.settings),
            wakeup.waker(url),
        )
        stop = threading.Event()
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        try:
            _until(lambda: _refused == [True])
            time.sleep(1)
            _admit(postgres_server)
            _until(lambda: {office.task(one)["status"] for one in (task, other)} == {"completed"})
        finally:
            stop.set()
            thread.join()
            _refused.clear()
        assert len(office.channels["dmp"].taken) == 2
        store.close()


_refused: list[bool] = []


def _refuse(server: str) -> None:
    """Cut every connection to the database and let nobody in, the first time."""
    if _refused:
        return
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ALTER DATABASE outage ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'outage'")
    _refused.append(True)


def _admit(server: str) -> None:
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ALTER DATABASE outage ALLOW_CONNECTIONS true")


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)
