"""What docs/consistency.md promises, against running servers with two web processes on both engines."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import psycopg
import pytest
import requests

from relais.server.store import Store
from relais.server.store.database import Database
from support.facade import RunningFacade

PATIENT = {"resourceType": "Patient", "identifier": [{"system": "urn:oid:1.2.3", "value": "same"}]}


@pytest.fixture
def served(store_url: str, tmp_path: Path) -> Any:
    """A facade of its own, whose database may be killed."""
    facade = RunningFacade(tmp_path, database_url=store_url)
    facade.start()
    yield facade
    facade.stop()


def test_parallel_conditional_creates_leave_one_resource(served: RunningFacade) -> None:
    """The same request of 64 clients at once, three times each; `bench/consistency.py` does it a hundred times."""
    barrier = Barrier(64)

    def client(_number: int) -> list[tuple[int, str]]:
        barrier.wait(60)
        answers = [served.post("Patient", PATIENT, If_None_Exist="identifier=urn:oid:1.2.3|same") for _ in range(3)]
        return [(answer.status_code, answer.headers["Location"]) for answer in answers]

    with ThreadPoolExecutor(64) as pool:
        answers = [answer for found in pool.map(client, range(64)) for answer in found]
    assert Counter(status for status, _ in answers) == {201: 1, 200: 191}
    assert len({location for _, location in answers}) == 1
    assert served.count() == 1
    log = served.log.read_text()
    assert "[ERROR]" not in log and "was sent" not in log  # no web process was lost


def test_of_two_writers_of_one_version_one_wins(served: RunningFacade) -> None:
    """Everyone updates the version it read: each version has one author, the others are told."""
    name = served.created(PATIENT)
    won: list[int] = []

    def write(_number: int) -> Counter[int]:
        statuses: Counter[int] = Counter()
        for _ in range(15):
            current = served.get(name)
            resource = {**current.json(), "active": True}
            answer = served.put(name, resource, If_Match=current.headers["ETag"])
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                won.append(int(answer.json()["meta"]["versionId"]))
        return statuses

    with ThreadPoolExecutor(4) as pool:
        statuses = sum(pool.map(write, range(4)), Counter())
    assert set(statuses) <= {200, 409, 412}
    assert sorted(won) == list(range(2, statuses[200] + 2))
    assert served.get(f"{name}/_history").json()["total"] == statuses[200] + 1


def test_a_kill_of_the_facade_under_load_loses_no_acknowledged_write(served: RunningFacade) -> None:
    acknowledged = _acknowledged_until(served, served.kill)
    served.start()
    assert _missing(served, acknowledged) == []
    assert len(acknowledged) <= served.count() <= len(acknowledged) + 8  # a write may lose its answer


def test_a_crash_of_postgresql_under_load_loses_no_acknowledged_write(served: RunningFacade, store_url: str) -> None:
    """One of its processes is killed: it ends every connection, recovers by itself, and the facade goes on."""
    if store_url.startswith("sqlite"):
        pytest.skip("SQLite has no server")

    def crash() -> None:
        with psycopg.connect(store_url.replace("+psycopg", ""), autocommit=True) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            victim = connection.execute(query).fetchone()
        assert victim is not None
        os.kill(victim[0], signal.SIGKILL)

    acknowledged = _acknowledged_until(served, crash)
    deadline = time.monotonic() + 30
    in_a_row = 0
    while in_a_row < 30:  # every connection was cut: each may say once more that the database is away
        in_a_row = in_a_row + 1 if served.get("Patient?_count=1").status_code == 200 else 0
        assert time.monotonic() < deadline
    assert _missing(served, acknowledged) == []
    while (answer := served.post("Patient", PATIENT)).status_code != 201:
        assert answer.status_code == 503
        assert time.monotonic() < deadline


def _acknowledged_until(served: RunningFacade, disaster: Any) -> dict[str, bytes]:
    """Contents by name of what was created by four clients before the disaster; they stop at the first failure."""
    acknowledged: dict[str, bytes] = {}

    def write(_number: int) -> None:
        while True:
            try:
                answer = served.post("Patient", PATIENT)
            except requests.RequestException:
                return
            if answer.status_code != 201:
                assert answer.status_code == 503
                return
            acknowledged[f"Patient/{answer.json()['id']}"] = answer.content

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        while len(acknowledged) < 50:
            time.sleep(0.01)
        disaster()
        for writer in writers:
            writer.result(timeout=60)
    return acknowledged


def _missing(served: RunningFacade, acknowledged: dict[str, bytes]) -> list[str]:
    return [name for name, content in acknowledged.items() if served.get(name).content != content]


def test_writers_that_share_a_commit_fail_alone(tmp_path: Path) -> None:
    """Of writers that wait for each other one raises: its writes are undone, those of the others stand."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    store = Store.open(url)
    barrier = Barrier(8)

    def write(number: int) -> None:
        barrier.wait(30)
        with store.transaction() as transaction:
            transaction.put("Patient", f"p{number}", 1, b"{}", datetime.now(UTC))
            time.sleep(0.002)
            if number % 2:
                raise ValueError(number)

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, number) for number in range(8)]
    assert [type(writer.exception()) for writer in writers] == [type(None), ValueError] * 4
    assert {version.id for version in store.history("Patient").versions} == {"p0", "p2", "p4", "p6"}
    store.close()


def test_writers_of_a_commit_that_fails_are_all_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    Store.open(url).close()
    database = Database(url)

    class CommitError(Exception):
        pass

    def failing(_connection: object) -> None:
        raise CommitError

    monkeypatch.setattr("sqlalchemy.engine.Connection.commit", failing)
    with pytest.raises(CommitError), database.write():
        pass
    monkeypatch.undo()
    with database.write():
        pass
    database.close()
