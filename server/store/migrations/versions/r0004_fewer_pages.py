"""Index rows stand by resource, ordered by value once; the newest texts wait beside the full-text table of SQLite."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, PrimaryKeyConstraint, Text, text

revision = "0004"
down_revision = "0003"

KEY = BigInteger().with_variant(Integer(), "sqlite")
BYTEWISE = Text().with_variant(Text(collation="C"), "postgresql")
TABLES: dict[str, tuple[tuple[str, Any], ...]] = {
    "token_index": (("system", BYTEWISE), ("code", BYTEWISE)),
    "string_index": (("normalised", BYTEWISE), ("exact", BYTEWISE)),
    "date_index": (("low", BigInteger), ("high", BigInteger)),
    "reference_index": (("target_type", BYTEWISE), ("target", BYTEWISE), ("version", BYTEWISE)),
    "quantity_index": (("low", Double), ("high", Double), ("system", BYTEWISE), ("code", BYTEWISE), ("unit", BYTEWISE)),
    "uri_index": (("uri", BYTEWISE),),
}
BY_VALUE = {
    "token_index_by_value": ("code", "system"),
    "string_index_by_value": ("substr(normalised, 1, 100)",),
    "date_index_by_low": ("low", "high"),
    "date_index_by_high": ("high", "low"),
    "reference_index_by_value": ("target", "target_type"),
    "quantity_index_by_low": ("low", "high"),
    "quantity_index_by_high": ("high", "low"),
    "uri_index_by_value": ("uri",),
}
INTERVALS_ONLY = {"quantity_index_by_high": "low < high"}


def upgrade() -> None:
    for name, columns in TABLES.items():
        _rebuild(name, columns)
    for name, values in BY_VALUE.items():
        expressions = [text(value) if "(" in value else value for value in values]
        where = text(INTERVALS_ONLY[name]) if name in INTERVALS_ONLY else None
        op.create_index(
            name,
            name.partition("_by_")[0],
            ["parameter", *expressions, "resource_key"],
            sqlite_where=where,
            postgresql_where=where,
        )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TABLE text_index_recent "
            "(resource_key INTEGER PRIMARY KEY, narrative TEXT NOT NULL, everything TEXT NOT NULL)"
        )


def _rebuild(name: str, columns: tuple[tuple[str, Any], ...]) -> None:
    for index in (f"{name}_by_resource", *(index for index in BY_VALUE if index.startswith(f"{name}_by_"))):
        op.drop_index(index, name)
    op.rename_table(name, f"former_{name}")
    op.create_table(
        name,
        Column("resource_key", KEY, nullable=False),
        Column("parameter", BYTEWISE, nullable=False),
        Column("place", Integer, nullable=False),
        *(Column(column, kind, nullable=False) for column, kind in columns),
        Column("occurrence", Integer, nullable=False),
        PrimaryKeyConstraint("resource_key", "parameter", "place"),
        sqlite_with_rowid=False,
    )
    values = ", ".join((*(column for column, _ in columns), "occurrence"))
    op.execute(
        f"INSERT INTO {name} (resource_key, parameter, place, {values}) "  # noqa: S608 - names of this file
        "SELECT resource_key, parameter, "
        f"row_number() OVER (PARTITION BY resource_key, parameter ORDER BY {values}) - 1, {values} "
        f"FROM former_{name} ORDER BY resource_key, parameter"
    )
    op.drop_table(f"former_{name}")
