"""Index rows of a resource, written and replaced: what a new version leaves as it was is not touched."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, select

from relais.server.store import schema
from relais.server.store.rows import IndexRow, TextRow
from relais.server.store.statements import Insertion, Row, Statement, Verbatim, read_all, run, without_waiting

_Kind = type[IndexRow]
_ByParameter = dict[str, dict[IndexRow, None]]

_INSERT: dict[_Kind, Insertion] = {
    kind: Insertion(table, ("resource_key", "place", *kind._fields)) for kind, table in schema.INDEX_TABLES.items()
}
_READ: dict[_Kind, Statement] = {
    kind: Statement(
        select(*(table.c[name] for name in kind._fields)).where(table.c.resource_key == bindparam("of_key"))
    )
    for kind, table in schema.INDEX_TABLES.items()
}
_DELETE: dict[_Kind, Statement] = {
    kind: Statement(
        delete(table).where(table.c.resource_key == bindparam("of_key"), table.c.parameter == bindparam("of_parameter"))
    )
    for kind, table in schema.INDEX_TABLES.items()
}

_MOST_RECENT = 256  # texts beside the full-text table: a search reads all of them
_LOOK_EVERY = 16  # transactions of this process
_written = itertools.count(1)
_WRITE_TEXT = Verbatim(
    sqlite="INSERT OR REPLACE INTO text_index_recent (resource_key, narrative, everything) VALUES (?, ?, ?)",
    postgresql="INSERT INTO text_index (resource_key, narrative, everything) VALUES "
    "(%s, array_to_tsvector(string_to_array(%s, ' ')), array_to_tsvector(string_to_array(%s, ' '))) "
    "ON CONFLICT (resource_key) DO UPDATE SET narrative = excluded.narrative, everything = excluded.everything",
)
_SETTLE = (
    "DELETE FROM text_index WHERE rowid IN (SELECT resource_key FROM text_index_recent)",
    "INSERT INTO text_index (rowid, narrative, everything) "
    "SELECT resource_key, narrative, everything FROM text_index_recent WHERE everything != ''",
    "DELETE FROM text_index_recent",
)
_NO_TEXT = TextRow("", "")


def write_rows(connection: Connection, new: Iterable[tuple[int, Iterable[IndexRow | TextRow]]]) -> None:
    """Index resources, by their keys, that have no rows yet."""
    by_kind: dict[_Kind, list[Row]] = defaultdict(list)
    texts: list[Row] = []
    for key, rows in new:
        found, text = _sorted_out(rows)
        for kind, by_parameter in found.items():
            by_kind[kind] += _numbered(key, by_parameter)
        if text is not None:
            texts.append((key, *text))
    with without_waiting(connection):
        for kind, numbered in by_kind.items():
            _INSERT[kind].run(connection, numbered)
        if texts:
            _WRITE_TEXT.run(connection, texts)


def replace_rows(connection: Connection, key: int, rows: Iterable[IndexRow | TextRow]) -> None:
    """Let the resource have these rows and no others; those of a parameter that are the same stay."""
    wanted, text = _sorted_out(rows)
    held = read_all(connection, _READ.values(), {"of_key": key})
    with without_waiting(connection):
        for kind, stored in zip(_READ, held, strict=True):
            _replace(connection, key, kind, stored, wanted.get(kind, {}))
        _WRITE_TEXT.run(connection, [(key, *(text or _NO_TEXT))])


def settle_texts(connection: Connection) -> None:
    """Hand the newest texts over to the full-text table of SQLite once they are many.

    One text costs it as much as a hundred at a time.
    """
    if connection.dialect.name == "sqlite" and next(_written) % _LOOK_EVERY == 0:
        (count,) = run(connection, "SELECT count(*) FROM text_index_recent").fetchone()
        if count >= _MOST_RECENT:
            for statement in _SETTLE:
                run(connection, statement)


def _sorted_out(rows: Iterable[IndexRow | TextRow]) -> tuple[dict[_Kind, _ByParameter], TextRow | None]:
    """Distinct rows by kind and parameter, in their order, and the words."""
    found: dict[_Kind, _ByParameter] = {}
    text: TextRow | None = None
    for row in rows:
        if isinstance(row, TextRow):
            text = row
        else:
            found.setdefault(type(row), {}).setdefault(row.parameter, {})[row] = None
    return found, text


def _numbered(key: int, by_parameter: _ByParameter) -> list[Row]:
    return [(key, place, *row) for same in by_parameter.values() for place, row in enumerate(same)]


def _replace(connection: Connection, key: int, kind: _Kind, stored: list[Row], wanted: _ByParameter) -> None:
    held: dict[str, set[Row]] = defaultdict(set)
    for row in stored:
        held[row[0]].add(row)
    for parameter, same in held.items():
        if same != wanted.get(parameter, {}).keys():
            _DELETE[kind].run(connection, {"of_key": key, "of_parameter": parameter})
    new = {parameter: same for parameter, same in wanted.items() if same.keys() != held.get(parameter)}
    if new:
        _INSERT[kind].run(connection, _numbered(key, new))
