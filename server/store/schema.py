"""The tables. Times are microseconds since 1970 UTC, so that both engines compare and index them alike.

`resource` holds the current version of each resource, `resource_version` every superseded one; the `*_index` tables
hold index rows of current versions. Other rooms declare their own tables on `metadata` (outbox, documents).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    literal_column,
)
from sqlalchemy import column as plain_column
from sqlalchemy import table as plain_table
from sqlalchemy.sql.elements import ColumnElement

from relais.server.store.rows import DateRow, IndexRow, QuantityRow, ReferenceRow, StringRow, TokenRow, UriRow

STRING_HEAD = 100  # characters of a text that its index entry holds

metadata = MetaData()
Key = BigInteger().with_variant(Integer(), "sqlite")
# Compared byte by byte on both engines: the same order, and prefix searches can use the index.
Bytewise = Text().with_variant(Text(collation="C"), "postgresql")

resource = Table(
    "resource",
    metadata,
    Column("key", Key, primary_key=True, autoincrement=True),
    Column("type", Bytewise, nullable=False),
    Column("id", Bytewise, nullable=False),
    Column("version", Integer, nullable=False),
    Column("last_updated", BigInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("content", LargeBinary),  # exact bytes served; NULL: deleted
    UniqueConstraint("type", "id"),
    sqlite_autoincrement=True,  # a key is never used twice
)
Index("resource_by_type", resource.c.type, resource.c.key)
Index("resource_by_time", resource.c.type, resource.c.last_updated, resource.c.key)
Index("resource_by_system_time", resource.c.last_updated, resource.c.key)

resource_version = Table(
    "resource_version",
    metadata,
    Column("key", Key, ForeignKey(resource.c.key, ondelete="CASCADE"), nullable=False),
    Column("type", Bytewise, nullable=False),
    Column("id", Bytewise, nullable=False),
    Column("version", Integer, nullable=False),
    Column("last_updated", BigInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("content", LargeBinary),
    PrimaryKeyConstraint("key", "version"),
)
Index("resource_version_by_time", resource_version.c.type, resource_version.c.last_updated, resource_version.c.key)
Index("resource_version_by_system_time", resource_version.c.last_updated, resource_version.c.key)


def _index_table(name: str, *columns: Column[object]) -> Table:
    """A table of index rows; its key serves replacement and the second condition of a search.

    Rows of a resource are written with it or not at all: a foreign key would only ask again for each of them.
    """
    return Table(
        name,
        metadata,
        Column("resource_key", Key, nullable=False),
        Column("parameter", Bytewise, nullable=False),
        Column("place", Integer, nullable=False),  # among the rows of that resource and parameter
        *columns,
        Column("occurrence", Integer, nullable=False),
        PrimaryKeyConstraint("resource_key", "parameter", "place"),
        sqlite_with_rowid=False,  # rows of a resource stand together, and are written with few pages
    )


def _text(name: str) -> Column[object]:
    return Column(name, Bytewise, nullable=False)


token_index = _index_table("token_index", _text("system"), _text("code"))
Index(
    "token_index_by_value",
    token_index.c.parameter,
    token_index.c.code,
    token_index.c.system,
    token_index.c.resource_key,
)

string_index = _index_table("string_index", _text("normalised"), _text("exact"))


def string_head(table: FromClause) -> ColumnElement[str]:
    """The indexed beginning of a normalised text; a condition must be written on this expression to use the index."""
    return func.substr(table.c.normalised, literal_column("1"), literal_column(str(STRING_HEAD)))


Index("string_index_by_value", string_index.c.parameter, string_head(string_index), string_index.c.resource_key)

date_index = _index_table(
    "date_index", Column("low", BigInteger, nullable=False), Column("high", BigInteger, nullable=False)
)
Index("date_index_by_low", date_index.c.parameter, date_index.c.low, date_index.c.high, date_index.c.resource_key)
Index("date_index_by_high", date_index.c.parameter, date_index.c.high, date_index.c.low, date_index.c.resource_key)

reference_index = _index_table("reference_index", _text("target_type"), _text("target"), _text("version"))
Index(
    "reference_index_by_value",
    reference_index.c.parameter,
    reference_index.c.target,
    reference_index.c.target_type,
    reference_index.c.resource_key,
)

quantity_index = _index_table(
    "quantity_index",
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    _text("system"),
    _text("code"),
    _text("unit"),
)
Index(
    "quantity_index_by_low",
    quantity_index.c.parameter,
    quantity_index.c.low,
    quantity_index.c.high,
    quantity_index.c.resource_key,
)
Index(
    "quantity_index_by_high",
    quantity_index.c.parameter,
    quantity_index.c.high,
    quantity_index.c.low,
    quantity_index.c.resource_key,
    sqlite_where=quantity_index.c.low < quantity_index.c.high,  # a single number is found by its low bound
    postgresql_where=quantity_index.c.low < quantity_index.c.high,
)

uri_index = _index_table("uri_index", _text("uri"))
Index("uri_index_by_value", uri_index.c.parameter, uri_index.c.uri, uri_index.c.resource_key)

# The words of each current version. SQLite has a full-text table (FTS5) whose rowid is the key of the resource, and
# beside it the newest texts, which replace those of the same key in it; on PostgreSQL the columns are tsvector. They
# are made by the migrations.
text_index = plain_table(
    "text_index", *(plain_column(name) for name in ("rowid", "resource_key", "narrative", "everything"))
)
text_index_recent = plain_table(
    "text_index_recent", *(plain_column(name) for name in ("resource_key", "narrative", "everything"))
)

# What this database keeps for itself, one value by name.
secret = Table("secret", metadata, Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False))

INDEX_TABLES: dict[type[IndexRow], Table] = {
    TokenRow: token_index,
    StringRow: string_index,
    DateRow: date_index,
    ReferenceRow: reference_index,
    QuantityRow: quantity_index,
    UriRow: uri_index,
}
