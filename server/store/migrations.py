"""Creates the schema and brings an older one forward; refuses a newer one.

A new database gets every declared table and the newest number. A table that a new release adds is created on an
existing database as it is; a change to an existing table is a function of `MIGRATIONS`, whose place gives its number.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Column, Connection, Integer, Table, func, insert, select, update

from relais.cda.errors import Issue, RelaisError
from relais.server.store.schema import metadata

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

# MIGRATIONS[n] brings version n + 1 to version n + 2.
MIGRATIONS: tuple[Callable[[Connection], None], ...] = ()
NEWEST = len(MIGRATIONS) + 1


# Rows of a store of a million resources, then rows that share the first column of the index, the first two…
_EXPECTED_ROWS = {
    "resource": {
        "sqlite_autoindex_resource_1": "1000000 50000 1",
        "resource_by_type": "1000000 50000 1",
        "resource_by_time": "1000000 50000 1 1",
    },
    "resource_version": {
        "sqlite_autoindex_resource_version_1": "1000000 2 1",
        "resource_version_by_time": "1000000 50000 1 1",
    },
    "token_index": {
        "token_index_by_resource": "10000000 10 2",
        "token_index_by_value": "10000000 100000 500 400 1",
    },
    "string_index": {
        "string_index_by_resource": "3000000 4 2",
        "string_index_by_value": "3000000 100000 10 1",
    },
    "date_index": {
        "date_index_by_resource": "2000000 2 1",
        "date_index_by_low": "2000000 100000 20 5 1",
        "date_index_by_high": "2000000 100000 20 5 1",
    },
    "reference_index": {
        "reference_index_by_resource": "4000000 5 1",
        "reference_index_by_value": "4000000 100000 20 20 1",
    },
    "quantity_index": {
        "quantity_index_by_resource": "500000 2 1",
        "quantity_index_by_low": "500000 100000 20 5 1",
        "quantity_index_by_high": "500000 100000 20 5 1",
    },
    "uri_index": {
        "uri_index_by_resource": "1000000 2 1",
        "uri_index_by_value": "1000000 200000 100 1",
    },
}


def migrate(connection: Connection) -> None:
    """Bring the schema to `NEWEST`; the caller holds the write lock. Raises RelaisError for a newer schema."""
    schema_version.create(connection, checkfirst=True)
    found = connection.scalar(select(func.max(schema_version.c.version)))
    if found is not None and found > NEWEST:
        raise RelaisError(
            Issue(
                "fatal",
                "processing",
                f"the database has schema {found}, this release of Relais knows up to {NEWEST}: install a newer one",
                "schema_version",
            )
        )
    for step in MIGRATIONS[found - 1 :] if found else ():
        step(connection)
    metadata.create_all(connection)
    if found is None:
        connection.execute(insert(schema_version).values(version=NEWEST))
        if connection.dialect.name == "sqlite":
            _expect_many_rows(connection)
    elif found < NEWEST:
        connection.execute(update(schema_version).values(version=NEWEST))


def _expect_many_rows(connection: Connection) -> None:
    """Tell SQLite's planner what a large store looks like (https://sqlite.org/fileformat2.html#stat1tab).

    It gathers no statistics by itself and would take the wrong index of two; PostgreSQL gathers its own.
    """
    connection.exec_driver_sql("ANALYZE")
    for table, indexes in _EXPECTED_ROWS.items():
        for index, rows in indexes.items():
            connection.exec_driver_sql("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", (table, index, rows))
    connection.exec_driver_sql("ANALYZE sqlite_schema")
