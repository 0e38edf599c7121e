"""One database behind one URL: engines per process, lookups, snapshots, and writers.

SQLite runs in WAL mode with synchronous=FULL: readers never wait, a commit that returned survives a power cut. Its
writers queue (see `writers`); PostgreSQL locks rows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from relais.cda.errors import Issue, RelaisError
from relais.server.store.checkpoints import LONGEST_WAL
from relais.server.store.errors import translate_errors
from relais.server.store.statements import Row, Statement, lookup, run
from relais.server.store.writers import Writers

_CONNECT_TIMEOUT = 5  # seconds, PostgreSQL
_POOL_SIZE = 10

# A snapshot sees one state of the database through several statements.
_SNAPSHOT: dict[str, dict[str, Any]] = {
    "sqlite": {"relais_begin": "BEGIN"},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}
_WRITE: dict[str, dict[str, Any]] = {
    "sqlite": {"relais_begin": "BEGIN IMMEDIATE"},
    "postgresql": {"isolation_level": "READ COMMITTED"},
}

_BUSY_TIMEOUT = 10_000  # milliseconds, for programs that lock the file beside us
_STATEMENTS = 256  # kept compiled by each connection
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
_WRITER_PRAGMAS = (
    "cache_size=-8192",  # kB: no page of a large transaction is written twice
    f"wal_autocheckpoint={LONGEST_WAL}",  # see `checkpoints`
    "temp_store=MEMORY",  # no files for the pages that a savepoint may need again
)


class Database:
    """Connections to one database. May be made before a fork: each process gets engines of its own."""

    def __init__(self, url: str) -> None:
        """Raises RelaisError for a URL that is neither a SQLite file nor postgresql+psycopg (installed)."""
        self.url = _checked(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._process = _Process(self.url)
        self._inherited: list[_Process] = []

    def first(self, statement: Statement, parameters: dict[str, Any]) -> Row | None:
        """The first row of one statement, read by itself: the quickest way to look something up."""
        return lookup(self._mine().reader, statement, parameters)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that sees one state of the database; it cannot write."""
        with self._mine().snapshots.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The connection of a transaction, committed at the end, rolled back by an exception.

        Raises StoreError (`lock-error`) when no turn came in time.
        """
        process = self._mine()
        if process.writers is not None:
            with process.writers.turn() as connection:
                yield connection
        else:
            with process.writing.begin() as connection:
                yield connection

    @contextmanager
    def write_schema(self) -> Iterator[Connection]:
        """As `write`, alone on the schema even on PostgreSQL."""
        with self.write() as connection:
            exclusively(connection, "relais schema")
            yield connection

    def close(self) -> None:
        """Close every connection of this process."""
        self._mine().close()

    def _mine(self) -> _Process:
        if self._process.pid != os.getpid():
            # Kept, because closing the parent's connections here could disturb them there.
            self._inherited.append(self._process)
            self._process = _Process(self.url)
        return self._process


def exclusively(connection: Connection, name: str) -> None:
    """Until the transaction ends, let no other transaction hold `name`. On SQLite a writer is alone anyway."""
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


class _Process:
    """What one process holds of a database; nothing of it survives a fork."""

    def __init__(self, url: URL) -> None:
        self.pid = os.getpid()
        backend = url.get_backend_name()
        if backend == "sqlite":
            self.reader = snapshots = _sqlite_engine(url)
            writing = _sqlite_engine(url, _WRITER_PRAGMAS, pool_size=1)
        else:
            self.reader = _postgresql_engine(url, isolation_level="AUTOCOMMIT")
            snapshots = writing = _postgresql_engine(url, pool_pre_ping=True)
        self.snapshots = snapshots.execution_options(**_SNAPSHOT[backend])
        self.writing = writing.execution_options(**_WRITE[backend])
        self.writers = Writers(self.writing, str(url.database)) if backend == "sqlite" else None

    def close(self) -> None:
        for engine in (self.reader, self.snapshots, self.writing):
            engine.dispose()


def _checked(given: str) -> URL:
    try:
        url = make_url(given)
    except ArgumentError:
        raise _wrong_url("not a database URL") from None
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise _wrong_url(f"{url.drivername} is not served: use sqlite:///file or postgresql+psycopg://…")
    if url.get_backend_name() == "postgresql" and find_spec("psycopg") is None:
        raise _wrong_url('PostgreSQL needs psycopg: pip install "relais[postgresql]"')
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise _wrong_url("a SQLite database must be a file: several processes share it")
    return url


def _wrong_url(message: str) -> RelaisError:
    return RelaisError(Issue("fatal", "value", message, "database_url"))


def _sqlite_engine(url: URL, pragmas: Iterable[str] = (), *, pool_size: int = _POOL_SIZE) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=-1,
        hide_parameters=True,
        connect_args={"cached_statements": _STATEMENTS},
    )

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # BEGIN is ours to say, below
        for pragma in (f"busy_timeout={_BUSY_TIMEOUT}", *_PRAGMAS, *pragmas):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get("relais_begin")
        if statement:
            run(connection, statement)

    translate_errors(engine)
    return engine


def _postgresql_engine(url: URL, **options: Any) -> Engine:
    engine = create_engine(
        url,
        pool_size=_POOL_SIZE,
        max_overflow=-1,
        hide_parameters=True,  # health data, which errors would quote
        connect_args={"connect_timeout": _CONNECT_TIMEOUT},
        **options,
    )
    translate_errors(engine)
    return engine
