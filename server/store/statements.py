"""Statements that every request runs, compiled once and given to the driver directly.

SQLAlchemy's own work for each execution costs several times what the database does for a lookup or an insert.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, PoolProxiedConnection, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

from relais.server.store.errors import StoreError, store_error

Row = tuple[Any, ...]

_ROWS_AT_ONCE = 16
_SQLITE = sqlite.dialect(paramstyle="named")


class Statement:
    """One statement with named parameters."""

    def __init__(self, clause: ClauseElement) -> None:
        self._clause = clause
        self._texts: dict[str, str] = {}

    def text(self, dialect: Dialect) -> str:
        """The statement as the driver takes it."""
        text = self._texts.get(dialect.name)
        if text is None:
            compiled = self._clause.compile(dialect=_SQLITE if dialect.name == "sqlite" else dialect)
            text = self._texts[dialect.name] = str(compiled)
        return text

    def run(self, connection: Connection, parameters: dict[str, Any]) -> None:
        """Run it; its result, if any, is not looked at. Raises StoreError and the driver's own errors."""
        _execute(connection, self.text(connection.dialect), parameters)

    def first(self, connection: Connection, parameters: dict[str, Any]) -> Row | None:
        """The first row of its result. Raises StoreError and the driver's own errors."""
        row: Row | None = _execute(connection, self.text(connection.dialect), parameters).fetchone()
        return row

    def all(self, connection: Connection, parameters: dict[str, Any]) -> list[Row]:
        """Every row of its result. Raises StoreError and the driver's own errors."""
        rows: list[Row] = _execute(connection, self.text(connection.dialect), parameters).fetchall()
        return rows


class Verbatim:
    """A statement written for each engine, with positional parameters; run once for each row of values."""

    def __init__(self, *, sqlite: str, postgresql: str) -> None:
        self._texts = {"sqlite": sqlite, "postgresql": postgresql}

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Run it for each of `rows`. Raises StoreError and the driver's own errors."""
        _execute(connection, self._texts[connection.dialect.name], rows, many=True)


class Insertion:
    """The insertion of rows into one table.

    SQLite is given several rows in one statement: each one lets another thread of Python run in between, which keeps
    the turn of the writer waiting.
    """

    def __init__(self, table: Table, columns: Iterable[str]) -> None:
        """Rows are tuples in the order of `columns`."""
        names = tuple(columns)
        self._into = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES"
        self._of_sqlite = f"({', '.join(['?'] * len(names))})"
        self._of_postgresql = f"({', '.join(['%s'] * len(names))})"

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Insert `rows`. Raises StoreError and the driver's own errors."""
        if connection.dialect.name == "postgresql":
            _execute(connection, f"{self._into} {self._of_postgresql}", rows, many=True)
            return
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            values = ", ".join([self._of_sqlite] * len(part))
            _execute(connection, f"{self._into} {values}", list(chain.from_iterable(part)))


@contextmanager
def without_waiting(connection: Connection) -> Iterator[None]:
    """Within the block PostgreSQL is sent each statement without waiting for the answer to the one before."""
    if connection.dialect.name == "postgresql":
        with _errors_of(connection), _driver(connection).pipeline():
            yield
    else:
        yield


def run(connection: Connection, text: str) -> Any:
    """Run a statement without parameters; gives the driver's cursor. Raises StoreError and the driver's own errors."""
    return _execute(connection, text, ())


def read_all(connection: Connection, statements: Iterable[Statement], parameters: dict[str, Any]) -> list[list[Row]]:
    """Every row of each statement; PostgreSQL is asked for all of them at once."""
    with without_waiting(connection):
        cursors = [_execute(connection, one.text(connection.dialect), parameters) for one in statements]
        return [cursor.fetchall() for cursor in cursors]


def lookup(engine: Engine, statement: Statement, parameters: dict[str, Any]) -> Row | None:
    """The first row of a statement by itself, outside of any transaction. Raises StoreError.

    A connection that broke while it waited in the pool is replaced, and the statement run again.
    """
    dialect = engine.dialect
    for last in (False, True):
        lent = _lent(engine)
        try:
            cursor = lent.cursor()
            cursor.execute(statement.text(dialect), parameters)
            row: Row | None = cursor.fetchone()
        except dialect.loaded_dbapi.Error as error:
            disconnected = dialect.is_disconnect(error, lent.dbapi_connection, None)
            if disconnected:
                lent.invalidate(error)
            if disconnected and not last:
                engine.dispose()  # its neighbours in the pool broke with it
                continue
            raise store_error(error, unreachable=disconnected) or error from error
        else:
            return row
        finally:
            lent.close()
    return None


def _lent(engine: Engine) -> PoolProxiedConnection:
    """A connection of the pool. Raises StoreError when the database cannot be reached."""
    try:
        return engine.raw_connection()
    except engine.dialect.loaded_dbapi.Error as error:
        raise store_error(error, unreachable=not getattr(error, "sqlstate", None)) or error from error


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _execute(connection: Connection, text: str, parameters: Any, *, many: bool = False) -> Any:
    driver = _driver(connection)
    try:
        cursor = driver.cursor()
        run = cursor.executemany if many else cursor.execute
        run(text, parameters)
    except connection.dialect.loaded_dbapi.Error as error:
        if refusal := _refusal(connection, driver, error):
            raise refusal from error
        raise
    return cursor


@contextmanager
def _errors_of(connection: Connection) -> Iterator[None]:
    """Let the driver's errors be StoreErrors where a lock or an outage is the cause."""
    driver = _driver(connection)
    try:
        yield
    except connection.dialect.loaded_dbapi.Error as error:
        if refusal := _refusal(connection, driver, error):
            raise refusal from error
        raise


def _refusal(connection: Connection, driver: Any, error: Any) -> StoreError | None:
    """The StoreError of an error of the driver, where a lock or an outage is the cause."""
    disconnected = connection.dialect.is_disconnect(error, driver, None)
    if disconnected:
        connection.invalidate(error)
    return store_error(error, unreachable=disconnected)
