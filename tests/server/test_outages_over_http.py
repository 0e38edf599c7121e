"""Facade, worker and counterparts as they run, while the database is stopped or the disk is full.

What was accepted is delivered once, what could not be stored is refused with 503 and Retry-After, and nothing is half
there.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

import relais.server
from relais.server.sandbox import Sandbox
from relais.server.store import Store
from support import postgres
from support.facade import RunningFacade, running_facade
from support.worker import worker_thread

PLAN = json.loads(Path(relais.server.__file__).with_name("demo_plan.json").read_text())
MAILBOX = "medecin@cabinet.mssante.fr"
PATIENCE = 60.0


def settings_of(sandbox: Sandbox, database_url: str) -> dict[str, Any]:
    return {
        "database_url": database_url,
        "workers": 1,
        "fhir_packages": "none",
        "mss_sender": "coordination@dac.mssante.fr",
        "mss_product_reference": "relais-test",
        "dmp_existence_check": False,
        "retry_base": 0.2,
        **sandbox.settings,
    }


def posted(facade: RunningFacade) -> str:
    """The plan of the demo; its `Type/[id]`."""
    answer = facade.post("", PLAN)
    assert answer.status_code == 200, answer.text
    places = [entry["response"]["location"] for entry in answer.json()["entry"]]
    return "CarePlan/" + next(place for place in places if "CarePlan/" in place).split("CarePlan/")[1].split("/")[0]


def retitled(facade: RunningFacade, plan: str, title: str) -> None:
    """Store another version of the plan: its document changes."""
    assert facade.put(plan, facade.get(plan).json() | {"title": title}).status_code == 200


def ordered(facade: RunningFacade, plan: str) -> requests.Response:
    named = [("channel", "valueCode", "dmp"), ("channel", "valueCode", "mss"), ("recipient", "valueString", MAILBOX)]
    parameters = [{"name": name, value: text} for name, value, text in named]
    return facade.post(f"{plan}/$transmit", {"resourceType": "Parameters", "parameter": parameters})


def accepted(facade: RunningFacade, plan: str) -> str:
    answer = ordered(facade, plan)
    assert answer.status_code == 201, answer.text
    return f"Task/{answer.json()['id']}"


def completed(facade: RunningFacade, task: str) -> bool:
    found = facade.get(task).json()
    assert found["status"] != "failed", found["statusReason"]
    return bool(found["status"] == "completed")


def refused_for_now(answer: requests.Response) -> None:
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (503, "transient")
    assert int(answer.headers["Retry-After"]) > 0


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def database() -> Iterator[postgres.RestartableServer]:
    with ExitStack() as stack:
        try:
            running = stack.enter_context(postgres.restartable_server())
        except postgres.ServerUnavailableError as error:
            pytest.skip(f"no PostgreSQL: {error}")
        yield running


def test_connections_that_broke_while_nobody_used_them_refuse_nobody(database: postgres.RestartableServer) -> None:
    store = Store.open(database.url)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(store.snapshot())
    database.stop()
    database.start()
    for _ in range(6):
        with store.snapshot():
            pass
        with store.transaction():
            pass
    store.close()


def test_a_database_that_is_stopped_and_started_loses_and_doubles_nothing(
    tmp_path: Path, database: postgres.RestartableServer
) -> None:
    with Sandbox(tmp_path / "sandbox") as sandbox:
        settings = settings_of(sandbox, database.url)
        with running_facade(tmp_path, **settings) as facade, worker_thread(settings):
            _outage(facade, database)
        versions = [one.status for one in sandbox.documents()]
        assert versions == ["Deprecated", "Deprecated", "Approved"]
        assert len({message.message_id for message in sandbox.messages()}) == len(sandbox.messages()) == 3


def _outage(facade: RunningFacade, database: postgres.RestartableServer) -> None:
    plan = posted(facade)
    tasks = [accepted(facade, plan)]
    until(lambda: completed(facade, tasks[0]))
    retitled(facade, plan, "Deuxième version")
    tasks.append(accepted(facade, plan))
    database.stop()  # while its deliveries are under way
    refused_for_now(ordered(facade, plan))
    refused_for_now(facade.get(plan))
    database.start()
    until(lambda: facade.get(plan).status_code == 200)
    retitled(facade, plan, "Troisième version")
    tasks.append(accepted(facade, plan))
    until(lambda: all(completed(facade, task) for task in tasks))


def test_a_full_disk_refuses_what_it_cannot_hold_and_keeps_what_it_has(tmp_path: Path) -> None:
    with Sandbox(tmp_path / "sandbox") as sandbox:
        settings = settings_of(sandbox, f"sqlite:///{tmp_path / 'relais.sqlite'}")
        with running_facade(tmp_path, **settings) as facade:
            plan = posted(facade)
            before = facade.count()
            with full_disk(facade):
                refused_for_now(facade.post("", PLAN))
                refused_for_now(ordered(facade, plan))
                assert facade.get(plan).status_code == 200
            assert facade.count() == before
            task = accepted(facade, plan)
            with worker_thread(settings):
                until(lambda: completed(facade, task))
        assert (len(sandbox.documents()), len(sandbox.messages())) == (1, 1)


@contextmanager
def full_disk(facade: RunningFacade) -> Iterator[None]:
    """No file of the facade grows beyond what its log has: a write to the database fails as on a full disk."""
    limit, pids = facade.log.stat().st_size + 20_000, facade.pids()
    former = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, hard) in former.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        for pid, limits in former.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
