"""Search parameters that packages added after resources were stored: refused until a reindex, never answered in part.

The database remembers which declared parameters all of its resources are indexed by.
"""

from __future__ import annotations

import hashlib

import msgspec
from sqlalchemy import Connection, delete, insert, select

from relais.server.search.parameters import declared
from relais.server.store import Store, schema

_NAME = "indexed-parameters"
_waiting: set[str] = set()


def settle(store: Store) -> list[str]:
    """Find out which declared parameters stored resources are not indexed by (`CareTeam.start`): they wait.

    Asked once, after `declare` and before the process forks or writes; processes that start at once take turns.
    """
    wanted = _digests()
    with store.transaction() as transaction:
        transaction.exclusively(_NAME)
        connection = transaction.connection
        known = _read(connection)
        empty = {name for name in wanted if not _has_resources(connection, name.partition(".")[0])}
        kept = {name: mark for name, mark in wanted.items() if known.get(name) == mark or name in empty}
        if kept != known:
            _write(connection, kept)
    _waiting.clear()
    _waiting.update(wanted.keys() - kept.keys())
    return sorted(_waiting)


def is_waiting(name: str) -> bool:
    """Whether the index of that name misses resources."""
    return name in _waiting


def look_again(connection: Connection) -> None:
    """Another process may have made the index again."""
    if _waiting:
        known, wanted = _read(connection), _digests()
        _waiting.difference_update([name for name in _waiting if known.get(name) == wanted.get(name)])


def indexed(store: Store, resource_type: str | None) -> None:
    """Every stored resource (of one type) has been indexed again."""
    wanted = _digests()
    done = {name: mark for name, mark in wanted.items() if resource_type in (None, name.partition(".")[0])}
    if done:
        with store.transaction() as transaction:
            transaction.exclusively(_NAME)
            _write(transaction.connection, _read(transaction.connection) | done)
            _waiting.difference_update(done)


def _digests() -> dict[str, str]:
    """What each declared parameter looks for, by the name of its index."""
    return {name: hashlib.sha256(msgspec.json.encode(found)).hexdigest() for name, found in declared().items()}


def _has_resources(connection: Connection, resource_type: str) -> bool:
    stored = select(schema.resource.c.key).where(schema.resource.c.type == resource_type).limit(1)
    return connection.execute(stored).first() is not None


def _read(connection: Connection) -> dict[str, str]:
    row = connection.execute(select(schema.secret.c.value).where(schema.secret.c.name == _NAME)).first()
    return msgspec.json.decode(bytes(row[0]), type=dict[str, str]) if row else {}


def _write(connection: Connection, known: dict[str, str]) -> None:
    connection.execute(delete(schema.secret).where(schema.secret.c.name == _NAME))
    connection.execute(insert(schema.secret).values(name=_NAME, value=msgspec.json.encode(known)))
