"""Deliveries when all fails: workers killed at every step, counterparts with faults, stores that stop or fill up.

The same trial with a thousand deliveries is `bench/delivery_faults.py`; docs/operations.md tells its outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import postgres
from support.reliability import failing, mortal_workers, trial

DELIVERIES = 40
DEATHS = 8  # of each of two workers


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, once on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'relais.sqlite'}"
        return
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres.server())
        except postgres.ServerUnavailableError as error:
            pytest.skip(f"no PostgreSQL: {error}")
        yield stack.enter_context(postgres.database(server, "faults"))


def test_every_accepted_order_ends_and_no_receiver_holds_what_it_must_not(tmp_path: Path, database_url: str) -> None:
    with trial(tmp_path, database_url) as run:
        run.order(DELIVERIES, seed=1)
        with failing(run.sandbox, 0.15, seed=2), mortal_workers(run, 2, DEATHS, seed=3):
            run.wait(patience=180)
        ended = run.verdict()
    logs = "".join(path.read_text() for path in tmp_path.glob("mortal-*.log"))
    died = sum(int(number) for number in re.findall(r"': (\d+)", logs))
    assert died >= DEATHS / 2, logs[-2000:]
    assert ended["delivered"] > DELIVERIES / 2, ended
