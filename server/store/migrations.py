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
    elif found < NEWEST:
        connection.execute(update(schema_version).values(version=NEWEST))
