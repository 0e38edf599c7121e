"""Resources, their versions, and the index tables."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None

KEY = BigInteger().with_variant(Integer(), "sqlite")
BYTEWISE = Text().with_variant(Text(collation="C"), "postgresql")
INDEXES: dict[str, tuple[tuple[str, Any], ...]] = {
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


def upgrade() -> None:
    metadata = MetaData()
    resource = Table(
        "resource",
        metadata,
        Column("key", KEY, primary_key=True, autoincrement=True),
        *_version_columns(),
        UniqueConstraint("type", "id"),
        sqlite_autoincrement=True,
    )
    Index("resource_by_type", resource.c.type, resource.c.key)
    Index("resource_by_time", resource.c.type, resource.c.last_updated, resource.c.key)
    former = Table(
        "resource_version",
        metadata,
        Column("key", KEY, ForeignKey("resource.key", ondelete="CASCADE"), nullable=False),
        *_version_columns(),
        PrimaryKeyConstraint("key", "version"),
    )
    Index("resource_version_by_time", former.c.type, former.c.last_updated, former.c.key)
    for name, columns in INDEXES.items():
        table = Table(
            name,
            metadata,
            Column("resource_key", KEY, ForeignKey("resource.key", ondelete="CASCADE"), nullable=False),
            Column("parameter", BYTEWISE, nullable=False),
            *(Column(column, kind, nullable=False) for column, kind in columns),
            Column("occurrence", Integer, nullable=False),
        )
        Index(f"{name}_by_resource", table.c.resource_key, table.c.parameter)
    metadata.create_all(op.get_bind())
    for name, values in BY_VALUE.items():
        expressions = [text(value) if "(" in value else value for value in values]
        op.create_index(name, name.partition("_by_")[0], ["parameter", *expressions, "resource_key"])


def _version_columns() -> list[Column[object]]:
    return [
        Column("type", BYTEWISE, nullable=False),
        Column("id", BYTEWISE, nullable=False),
        Column("version", Integer, nullable=False),
        Column("last_updated", BigInteger, nullable=False),
        Column("method", Text, nullable=False),
        Column("content", LargeBinary),
    ]
