"""Stores for tests: a SQLite file, and a database on a real PostgreSQL where this machine has one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from relais.server.store import Store
from support import postgres
from support.facade import RunningFacade, running_facade

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a private PostgreSQL; its tests skip where there is none."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres.server())
        except postgres.ServerUnavailableError as error:
            pytest.skip(f"no PostgreSQL: {error}")
        yield url


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite, for what does not depend on the engine."""
    store = Store.open(f"sqlite:///{tmp_path / 'orders.sqlite'}")
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database, once on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.sqlite'}"
    else:
        server = request.getfixturevalue("postgres_server")
        with postgres.database(server, f"test{next(_numbers)}") as url:
            yield url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store, once on each engine."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def facade_settings() -> dict[str, Any]:
    """Settings of `facade`; a module gives its own by a fixture of that name."""
    return {}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def facade(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, facade_settings: dict[str, Any]
) -> Iterator[RunningFacade]:
    """A running server for the tests of a module, once on each engine."""
    folder = tmp_path_factory.mktemp("facade")
    with ExitStack() as stack:
        settings = dict(facade_settings)
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            settings["database_url"] = stack.enter_context(postgres.database(server, f"facade{next(_numbers)}"))
        yield stack.enter_context(running_facade(folder, **settings))
