"""The store: current versions, every former version, and the index rows, written together or not at all.

It knows of FHIR only type, id, version and time (https://hl7.org/fhir/R4/http.html#versions); contents are bytes.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    FromClause,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from relais.server.store import schema
from relais.server.store.database import Database, exclusively
from relais.server.store.errors import VersionConflictError
from relais.server.store.indexes import replace_rows, settle_texts, write_rows
from relais.server.store.migrations import migrate
from relais.server.store.rows import IndexRow, TextRow
from relais.server.store.statements import Row, Statement

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC of an aware time."""
    return (moment - _EPOCH) // _MICROSECOND


def to_datetime(microseconds: int) -> datetime:
    """The aware UTC time of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of one resource. `content` is what the writer gave, byte for byte; None where it was deleted.

    `key` is the place of the resource in the order of creation, `method` the HTTP method that made this version.
    """

    key: int
    type: str
    id: str
    version: int
    last_updated: datetime
    method: str
    content: bytes | None

    @property
    def deleted(self) -> bool:
        """Whether this version says that the resource was deleted."""
        return self.content is None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Versions, newest first; `total` counts the whole scope; `next_page` is None on the last page."""

    versions: list[StoredVersion]
    total: int
    next_page: tuple[int, int, int] | None  # last_updated, key, version


def _columns(table: Table) -> list[Any]:
    return [table.c[name] for name in ("key", "type", "id", "version", "last_updated", "method", "content")]


def stored_version(row: Iterable[Any]) -> StoredVersion:
    """A StoredVersion of a row of `resource_columns`."""
    key, resource_type, resource_id, version, last_updated, method, content = row
    return StoredVersion(key, resource_type, resource_id, version, to_datetime(last_updated), method, content)


resource_columns = _columns(schema.resource)

_NO_OFFSET: ColumnElement[int] = literal_column("0")  # else SQLite is given one as a parameter that nobody binds
_TYPE: BindParameter[str] = bindparam("of_type")
_ID: BindParameter[str] = bindparam("of_id")
_VERSION: BindParameter[int] = bindparam("of_version")


def _key_of(resource_type: Any, resource_id: Any) -> Any:
    named = schema.resource.alias("named")
    return select(named.c.key).where(named.c.type == resource_type, named.c.id == resource_id).scalar_subquery()


def _named(table: Table, *more: Any) -> Select[*tuple[Any, ...]]:
    return select(*_columns(table)).where(table.c.type == _TYPE, table.c.id == _ID, *more)


_READ = Statement(_named(schema.resource))
_READ_LOCKED = Statement(_named(schema.resource).with_for_update())
_CURRENT_VERSION = _named(schema.resource, schema.resource.c.version == _VERSION)
_FORMER_VERSION = select(*_columns(schema.resource_version)).where(
    schema.resource_version.c.key == _key_of(_TYPE, _ID),
    schema.resource_version.c.version == _VERSION,
)
_READ_VERSION = Statement(union_all(_CURRENT_VERSION, _FORMER_VERSION))
_SUPERSEDE = Statement(
    insert(schema.resource_version).from_select(
        [column.name for column in _columns(schema.resource_version)], _CURRENT_VERSION
    )
)
_NEW_VALUES: dict[str, BindParameter[Any]] = {
    name: bindparam(name) for name in ("version", "last_updated", "method", "content")
}
_REPLACE = Statement(
    update(schema.resource)
    .where(schema.resource.c.type == _TYPE, schema.resource.c.id == _ID, schema.resource.c.version == _VERSION)
    .values(_NEW_VALUES)
    .returning(schema.resource.c.key)
)
_INSERT = Statement(
    insert(schema.resource)
    .values({"type": bindparam("type"), "id": bindparam("id"), **_NEW_VALUES})
    .returning(schema.resource.c.key)
)


class Store:
    """All versions of all resources behind one database URL. Safe for threads, and for processes that fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Store:
        """Open, creating the schema or bringing it up to date.

        Raises RelaisError (URL not served, schema of a newer release) and StoreError.
        """
        store = cls(Database(url))
        try:
            with store._database.write_schema() as connection:
                migrate(connection)
                _make_secrets(connection)
        except Exception:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the connections of this process; a later call opens new ones."""
        self._database.close()

    def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        """The current version, perhaps a deletion; None if there never was one."""
        row = self._database.first(_READ, {"of_type": resource_type, "of_id": resource_id})
        return stored_version(row) if row else None

    def read_version(self, resource_type: str, resource_id: str, version: int) -> StoredVersion | None:
        """One version, current or former; None if there is none of that number."""
        names = {"of_type": resource_type, "of_id": resource_id, "of_version": version}
        row = self._database.first(_READ_VERSION, names)
        return stored_version(row) if row else None

    def history(
        self,
        resource_type: str | None = None,
        resource_id: str | None = None,
        *,
        since: datetime | None = None,
        at: tuple[datetime, datetime] | None = None,
        page: tuple[int, int, int] | None = None,
        limit: int = 100,
    ) -> HistoryPage:
        """Versions of a resource, of a type or of all, newest first; `since` is inclusive, `page` a `next_page`.

        `at` keeps those that were current at some moment from its first time to before its second.
        """
        with self.snapshot() as connection:
            return _history(connection, resource_type, resource_id, since, at, page, limit)

    def snapshot(self) -> AbstractContextManager[Connection]:
        """A connection that sees one state of the database through several statements; it cannot write."""
        return self._database.snapshot()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All writes of the block, or none. Raises StoreError when the turn to write does not come in time."""
        with self._database.write() as connection:
            transaction = Transaction(connection)
            yield transaction
            transaction.finish()


class Transaction:
    """Writes that become visible together; reads through it see them at once.

    Its connection is for tables of other rooms that must be written with the resources, and for searches.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._new: list[tuple[int, Iterable[IndexRow | TextRow]]] | None = None  # created, not yet indexed
        self._texts_changed = False

    @property
    def connection(self) -> Connection:
        """The connection, on which everything written until now can be found."""
        self._index_new()
        return self._connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """Resources that the block creates are indexed in few statements: at its end, or when `connection` is used."""
        self._new = []
        yield
        self._index_new()

    def finish(self) -> None:
        """What is left to do when all is written."""
        self._index_new()
        if self._texts_changed:
            settle_texts(self._connection)

    def _index_new(self) -> None:
        new, self._new = self._new, None  # who uses the connection may set savepoints: nothing is put off from here on
        if new:
            write_rows(self._connection, new)

    def read(self, resource_type: str, resource_id: str, *, lock: bool = False) -> StoredVersion | None:
        """The current version; with `lock` nobody else can write that resource until the transaction ends."""
        return read_current(self._connection, resource_type, resource_id, lock=lock)

    def exclusively(self, name: str) -> None:
        """Until the transaction ends, no other transaction gets past `exclusively` of the same name."""
        exclusively(self._connection, name)

    def put(
        self,
        resource_type: str,
        resource_id: str,
        version: int,
        content: bytes,
        last_updated: datetime,
        rows: Iterable[IndexRow | TextRow] = (),
        *,
        method: str = "PUT",
    ) -> StoredVersion:
        """Write the version that follows the current one (1: there never was any) and replace the index rows.

        Raises VersionConflictError when `version` does not follow.
        """
        return self._write(resource_type, resource_id, version, content, last_updated, rows, method)

    def delete(self, resource_type: str, resource_id: str, version: int, last_updated: datetime) -> StoredVersion:
        """Write a version that says the resource is deleted. Raises VersionConflictError."""
        return self._write(resource_type, resource_id, version, None, last_updated, (), "DELETE")

    def scan(self, *, after: int, limit: int, resource_type: str | None = None) -> list[StoredVersion]:
        """Current versions in the order of their keys, from behind key `after`, locked until the transaction ends."""
        resource = schema.resource
        statement = select(*resource_columns).where(resource.c.key > after).order_by(resource.c.key).limit(limit)
        if resource_type is not None:
            statement = statement.where(resource.c.type == resource_type)
        return [stored_version(row) for row in self._connection.execute(statement.with_for_update())]

    def reindex(self, key: int, rows: Iterable[IndexRow | TextRow]) -> None:
        """Replace the index rows of the resource with that key; its versions stay."""
        self._index_new()
        self._texts_changed = True
        replace_rows(self._connection, key, rows)

    def expunge_history(self, resource_type: str | None, resource_id: str | None, limit: int) -> int:
        """Remove superseded versions of a resource, of a type or of all, at most `limit`; gives their number."""
        table = schema.resource_version
        former = select(table.c.key, table.c.version).order_by(table.c.key, table.c.version).limit(limit)
        if resource_type is not None:
            former = former.where(table.c.type == resource_type)
        if resource_id is not None:
            former = former.where(table.c.key == _key_of(resource_type, resource_id))
        named = former.subquery()
        chosen = select(named.c.key, named.c.version)
        return self._connection.execute(delete(table).where(tuple_(table.c.key, table.c.version).in_(chosen))).rowcount

    def _write(
        self,
        resource_type: str,
        resource_id: str,
        version: int,
        content: bytes | None,
        last_updated: datetime,
        rows: Iterable[IndexRow | TextRow],
        method: str,
    ) -> StoredVersion:
        values = {
            "type": resource_type,
            "id": resource_id,
            "version": version,
            "last_updated": to_microseconds(last_updated),
            "method": method,
            "content": content,
        }
        key = self._insert(values) if version == 1 else self._replace(values)
        if key is None:
            raise VersionConflictError(resource_type, resource_id)
        self._texts_changed = True
        if version > 1:
            self._index_new()
            replace_rows(self._connection, key, rows)
        elif self._new is None:
            write_rows(self._connection, [(key, rows)])
        else:
            self._new.append((key, rows))
        return StoredVersion(key, resource_type, resource_id, version, last_updated, method, content)

    def _insert(self, values: dict[str, Any]) -> int | None:
        try:
            return _key(_INSERT.first(self._connection, values))
        except self._violation:
            return None

    def _replace(self, values: dict[str, Any]) -> int | None:
        current = {"of_type": values["type"], "of_id": values["id"], "of_version": values["version"] - 1}
        try:
            _SUPERSEDE.run(self._connection, current)
        except self._violation:
            return None
        return _key(_REPLACE.first(self._connection, current | values))

    @property
    def _violation(self) -> type[Exception]:
        violation: type[Exception] = self._connection.dialect.loaded_dbapi.IntegrityError
        return violation


def _key(row: Row | None) -> int | None:
    return row[0] if row else None


def read_current(
    connection: Connection, resource_type: str, resource_id: str, *, lock: bool = False
) -> StoredVersion | None:
    """The current version, perhaps a deletion, as `connection` sees it; `lock` as in `Transaction.read`."""
    row = (_READ_LOCKED if lock else _READ).first(connection, {"of_type": resource_type, "of_id": resource_id})
    return stored_version(row) if row else None


_SECRETS = ("pages",)
_READ_SECRET = Statement(select(schema.secret.c.value).where(schema.secret.c.name == bindparam("name")))


def secret(connection: Connection, name: str) -> bytes:
    """A random value (32 bytes in URL-safe base64) that every process on this database shares."""
    row = _READ_SECRET.first(connection, {"name": name})
    return bytes(row[0]) if row else b""


def _make_secrets(connection: Connection) -> None:
    for name in _SECRETS:
        if not secret(connection, name):
            value = base64.urlsafe_b64encode(secrets.token_bytes(32))
            connection.execute(insert(schema.secret).values(name=name, value=value))


def _history(
    connection: Connection,
    resource_type: str | None,
    resource_id: str | None,
    since: datetime | None,
    at: tuple[datetime, datetime] | None,
    page: tuple[int, int, int] | None,
    limit: int,
) -> HistoryPage:
    given: dict[str, Any] = {"of_type": resource_type, "of_id": resource_id, "most": limit + 1}
    if since is not None:
        given["since"] = to_microseconds(since)
    if at is not None:
        given["start"], given["end"] = map(to_microseconds, at)
    if page is not None:
        given["page_time"], given["page_key"], given["page_version"] = page
    total, newest = _history_statements(frozenset(name for name, value in given.items() if value is not None))
    counted = total.first(connection, given)
    found = newest.all(connection, given)
    versions = [stored_version(row) for row in found[:limit]]
    last = versions[-1] if len(found) > limit else None
    return HistoryPage(
        versions,
        counted[0] if counted else 0,
        (to_microseconds(last.last_updated), last.key, last.version) if last else None,
    )


@cache
def _history_statements(given: frozenset[str]) -> tuple[Statement, Statement]:
    """How many versions there are, and the newest of them, for searches that have values of the names in `given`."""
    number: Callable[[str], BindParameter[int]] = lambda name: bindparam(name, type_=BigInteger)  # noqa: E731

    def scope(table: Table) -> list[Any]:
        conditions = [table.c.type == _TYPE] if "of_type" in given else []
        if "of_id" in given:
            conditions.append(table.c.key == _key_of(_TYPE, _ID))
        if "since" in given:
            conditions.append(table.c.last_updated >= number("since"))
        if "start" in given:
            replaced = _replaced(table, number("start"))
            conditions += [table.c.last_updated < number("end"), *(~condition for condition in replaced)]
        return conditions

    def before(table: Table) -> list[Any]:
        if "page_time" not in given:
            return []
        same_time = table.c.last_updated == number("page_time")
        same = and_(same_time, table.c.key == number("page_key"))
        return [
            or_(
                table.c.last_updated < number("page_time"),
                and_(same_time, table.c.key < number("page_key")),
                and_(same, table.c.version < number("page_version")),
            )
        ]

    def newest_first(rows: FromClause) -> list[Any]:
        return [rows.c.last_updated.desc(), rows.c.key.desc(), rows.c.version.desc()]

    def newest(table: Table) -> Select[*tuple[Any, ...]]:
        """As many rows of one table as a page may need: read in the order of its index on time."""
        rows = select(*_columns(table)).where(*scope(table), *before(table))
        return select(rows.order_by(*newest_first(table)).limit(number("most")).offset(_NO_OFFSET).subquery())

    tables = (schema.resource, schema.resource_version)
    current, former = (
        select(func.count()).select_from(table).where(*scope(table)).scalar_subquery() for table in tables
    )
    every = union_all(*map(newest, tables)).subquery()
    return Statement(select(current + former)), Statement(
        select(every).order_by(*newest_first(every)).limit(number("most")).offset(_NO_OFFSET)
    )


def _replaced(table: Table, moment: BindParameter[int]) -> Iterator[Any]:
    """Conditions under which a version of `table` was no longer the current one at `moment`."""
    for other in (schema.resource, schema.resource_version):
        later = other.alias("later")
        yield exists().where(
            later.c.key == table.c.key,
            later.c.version == table.c.version + literal_column("1"),
            later.c.last_updated <= moment,
        )
