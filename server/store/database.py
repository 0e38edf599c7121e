"""One database behind one URL: engines per process, three kinds of connection, one writer at a time on SQLite.

SQLite runs in WAL mode with synchronous=FULL: readers never wait, a commit that returned survives a power cut.
Writers of all threads and processes queue on a lock file instead of on SQLite's own retries, which are unfair.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from relais.cda.errors import Issue, RelaisError
from relais.server.store.errors import locked, translate_errors

Mode = Literal["read", "snapshot", "write"]

_WRITER_PATIENCE = 10.0  # seconds a writer waits for its turn
_POLL = 0.0002  # seconds between two tries of the lock file
_CONNECT_TIMEOUT = 5  # seconds, PostgreSQL
_POOL_SIZE = 10

# A read is one statement; a snapshot sees one state of the database through several statements.
_MODES: dict[str, dict[Mode, dict[str, Any]]] = {
    "sqlite": {
        "read": {},
        "snapshot": {"relais_begin": "BEGIN"},
        "write": {"relais_begin": "BEGIN IMMEDIATE"},
    },
    "postgresql": {
        "read": {"isolation_level": "AUTOCOMMIT"},
        "snapshot": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
        "write": {"isolation_level": "READ COMMITTED"},
    },
}


class Database:
    """Connections to one database. May be made before a fork: each process gets engines of its own."""

    def __init__(self, url: str) -> None:
        """Raises RelaisError for a URL that is neither a SQLite file nor postgresql+psycopg."""
        self.url = _checked(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._process = _Process(self.url)
        self._inherited: list[_Process] = []

    @contextmanager
    def connect(self, mode: Mode) -> Iterator[Connection]:
        """A connection for a read or a snapshot."""
        with self._mine().engines[mode].connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The connection of a transaction, committed at the end, rolled back by an exception.

        Raises StoreError (`lock-error`) when no turn came in time.
        """
        process = self._mine()
        with process.turn.take(), process.engines["write"].begin() as connection:
            yield connection

    @contextmanager
    def write_schema(self) -> Iterator[Connection]:
        """As `write`, alone on the schema even on PostgreSQL."""
        with self.write() as connection:
            exclusively(connection, "relais schema")
            yield connection

    def close(self) -> None:
        """Close every connection of this process."""
        self._mine().engines["read"].dispose()

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
        self.turn: _Turn | _Anytime = _Turn(str(url.database)) if backend == "sqlite" else _Anytime()
        engine = _sqlite_engine(url) if backend == "sqlite" else _postgresql_engine(url)
        translate_errors(engine)
        self.engines: dict[Mode, Engine] = {
            mode: engine.execution_options(**options) for mode, options in _MODES[backend].items()
        }


class _Turn:
    """The writers' queue of a SQLite file: threads on a lock, processes on two lock files that a dead process lets go.

    Who waits for the turn holds the second file, so that the process whose turn ends cannot take the next one too.
    """

    def __init__(self, database: str) -> None:
        self._turn, self._next = f"{database}.turn", f"{database}.next"
        self._threads = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[None]:
        deadline = time.monotonic() + _WRITER_PATIENCE
        if not self._threads.acquire(timeout=_WRITER_PATIENCE):
            raise locked()
        try:
            with ExitStack() as turn:
                with _locked(self._next, deadline):
                    turn.enter_context(_locked(self._turn, deadline))
                yield
        finally:
            self._threads.release()


class _Anytime:
    """The writers' queue of PostgreSQL: none, it locks rows."""

    @contextmanager
    def take(self) -> Iterator[None]:
        yield


@contextmanager
def _locked(path: str, deadline: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise locked() from None
                time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def _checked(given: str) -> URL:
    try:
        url = make_url(given)
    except ArgumentError:
        raise _wrong_url("not a database URL") from None
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise _wrong_url(f"{url.drivername} is not served: use sqlite:///file or postgresql+psycopg://…")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise _wrong_url("a SQLite database must be a file: several processes share it")
    return url


def _wrong_url(message: str) -> RelaisError:
    return RelaisError(Issue("fatal", "value", message, "database_url"))


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, pool_size=_POOL_SIZE, max_overflow=-1)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # BEGIN is ours to say, below
        for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get("relais_begin")
        if statement:
            connection.exec_driver_sql(statement)

    return engine


def _postgresql_engine(url: URL) -> Engine:
    return create_engine(
        url,
        pool_size=_POOL_SIZE,
        max_overflow=-1,
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT},
    )
