"""Creates the schema and brings an older one forward by alembic's revisions; refuses a newer one.

A change to a table of the store is a file in `versions`. A table that another room declares is created where it is
missing; a change to such a table is a revision too. Everything happens in one transaction.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from relais.cda.errors import Issue, RelaisError
from relais.server.store.schema import metadata

HEAD = "0004"
_BEFORE_ALEMBIC = "schema_version"  # the table that held the number of the schema, 1, which is revision 0001


def migrate(connection: Connection) -> None:
    """Bring the schema to `HEAD`; the caller holds the write lock. Raises RelaisError for a newer schema."""
    found = _revision(connection)
    if found != HEAD:
        _upgrade(connection, found)
    metadata.create_all(connection)
    if found != HEAD and connection.dialect.name == "sqlite":
        _expect_many_rows(connection)


def _revision(connection: Connection) -> str | None:
    """The revision of the database, None of a new one."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found
    return "0001" if _BEFORE_ALEMBIC in tables else None


def _upgrade(connection: Connection, found: str | None) -> None:
    from alembic import command  # here because it takes long to load and is needed once
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        ScriptDirectory.from_config(config).get_revision(found or HEAD)
    except CommandError:
        message = f"the database has schema {found}, this release of Relais knows up to {HEAD}: install a newer one"
        raise RelaisError(Issue("fatal", "processing", message, "alembic_version")) from None
    if _BEFORE_ALEMBIC in inspect(connection).get_table_names():
        command.stamp(config, found or HEAD)
        connection.execute(text(f"DROP TABLE {_BEFORE_ALEMBIC}"))
    command.upgrade(config, HEAD)


# Rows of a store of a million resources, then rows that share the first column of the index, the first two…
_EXPECTED_ROWS = {
    "resource": {
        "sqlite_autoindex_resource_1": "1000000 50000 1",
        "resource_by_type": "1000000 50000 1",
        "resource_by_time": "1000000 50000 1 1",
        "resource_by_system_time": "1000000 1 1",
    },
    "resource_version": {
        "sqlite_autoindex_resource_version_1": "1000000 2 1",
        "resource_version_by_time": "1000000 50000 1 1",
        "resource_version_by_system_time": "1000000 1 1",
    },
    "token_index": {
        "token_index": "10000000 10 2 1",
        "token_index_by_value": "10000000 100000 500 400 1",
    },
    "string_index": {
        "string_index": "3000000 4 2 1",
        "string_index_by_value": "3000000 100000 10 1",
    },
    "date_index": {
        "date_index": "2000000 2 1 1",
        "date_index_by_low": "2000000 100000 20 5 1",
        "date_index_by_high": "2000000 100000 20 5 1",
    },
    "reference_index": {
        "reference_index": "4000000 5 1 1",
        "reference_index_by_value": "4000000 100000 20 20 1",
    },
    "quantity_index": {
        "quantity_index": "500000 2 1 1",
        "quantity_index_by_low": "500000 100000 20 5 1",
        "quantity_index_by_high": "10000 5000 20 5 1",
    },
    "uri_index": {
        "uri_index": "1000000 2 1 1",
        "uri_index_by_value": "1000000 200000 100 1",
    },
}


def _expect_many_rows(connection: Connection) -> None:
    """Tell SQLite's planner what a large store looks like (https://sqlite.org/fileformat2.html#stat1tab).

    It gathers no statistics by itself and would take the wrong index of two; PostgreSQL gathers its own.
    """
    connection.exec_driver_sql("ANALYZE sqlite_schema")
    known = {(table, index) for table, index in connection.exec_driver_sql("SELECT tbl, idx FROM sqlite_stat1")}
    for table, indexes in _EXPECTED_ROWS.items():
        for index, rows in indexes.items():
            if (table, index) not in known:
                connection.exec_driver_sql("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", (table, index, rows))
    connection.exec_driver_sql("ANALYZE sqlite_schema")
