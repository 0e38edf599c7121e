"""Documents and deliveries, which were made by `create_all` until now; queue, circuits, evidence, acknowledgements."""

from __future__ import annotations

import json

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)

revision = "0003"
down_revision = "0002"

KEY = BigInteger().with_variant(Integer(), "sqlite")
BYTEWISE = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    _make_former_tables()
    _add_columns()
    _make_new_tables()


def _make_former_tables() -> None:
    """The tables as `create_all` made them; those that exist stay."""
    former = MetaData()
    documents = Table(
        "issued_document",
        former,
        Column("key", BYTEWISE, primary_key=True),
        Column("lineage", BYTEWISE, nullable=False),
        Column("version", Integer, nullable=False),
        Column("carrier", BYTEWISE, nullable=False),
        Column("identity", LargeBinary, nullable=False),
        Column("content", LargeBinary, nullable=False),
        Column("issues", LargeBinary, nullable=False),
        Column("issued", BigInteger, nullable=False),
    )
    Index("issued_document_by_lineage", documents.c.lineage, documents.c.version)
    Index("issued_document_by_carrier", documents.c.carrier, documents.c.version)
    Table(
        "delivery_order",
        former,
        Column("task", BYTEWISE, primary_key=True),
        Column("document", BYTEWISE, nullable=False),
        Column("focus", Text),
        Column("subject", Text),
        Column("placed", BigInteger, nullable=False),
    )
    deliveries = Table(
        "delivery",
        former,
        Column("key", KEY, primary_key=True, autoincrement=True),
        Column("task", BYTEWISE, ForeignKey("delivery_order.task"), nullable=False),
        Column("channel", Text, nullable=False),
        Column("recipient", BYTEWISE, nullable=False),
        Column("lineage", BYTEWISE, nullable=False),
        Column("consignment", LargeBinary, nullable=False),
        Column("state", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("due", BigInteger, nullable=False),
        Column("leased_until", BigInteger),
        UniqueConstraint("task", "channel", "recipient"),
        sqlite_autoincrement=True,
    )
    Index("delivery_due", deliveries.c.state, deliveries.c.due)
    Index("delivery_lineage", deliveries.c.lineage, deliveries.c.channel, deliveries.c.key)
    Table(
        "delivery_attempt",
        former,
        Column("delivery", KEY, ForeignKey("delivery.key"), primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("started", BigInteger, nullable=False),
        Column("ended", BigInteger),
        Column("outcome", Text),
        Column("detail", Text),
    )
    connection = op.get_bind()
    missing = [table for table in former.sorted_tables if not inspect(connection).has_table(table.name)]
    former.create_all(connection, tables=missing, checkfirst=False)


def _add_columns() -> None:
    op.add_column("delivery_order", Column("action", Text, nullable=False, server_default="send"))
    op.add_column("delivery_order", Column("priority", Text, nullable=False, server_default="routine"))
    op.add_column("delivery_order", Column("requester", Text))
    op.add_column("delivery", Column("rank", Integer, nullable=False, server_default="3"))
    op.add_column("delivery", Column("since", BigInteger, nullable=False, server_default="0"))
    op.add_column("delivery", Column("spent", Integer, nullable=False, server_default="0"))
    op.add_column("delivery", Column("reason", Text))
    op.add_column("delivery", Column("message_id", BYTEWISE, nullable=False, server_default=""))
    connection = op.get_bind()
    for key, consignment in connection.execute(text("SELECT key, consignment FROM delivery")).all():
        values = {"key": key, "message_id": json.loads(bytes(consignment))["message_id"]}
        connection.execute(text("UPDATE delivery SET message_id = :message_id WHERE key = :key"), values)
    op.drop_index("delivery_due", "delivery")
    op.create_index("delivery_queue", "delivery", ["state", "rank", "key"])
    op.create_index("delivery_by_message", "delivery", ["message_id"])


def _make_new_tables() -> None:
    op.create_table(
        "delivery_circuit",
        Column("destination", BYTEWISE, primary_key=True),
        Column("failures", Integer, nullable=False),
        Column("opened", BigInteger),
        Column("retry_at", BigInteger),
        Column("reason", Text),
    )
    op.create_table(
        "delivery_exchange",
        Column("delivery", KEY, ForeignKey("delivery.key"), primary_key=True),
        Column("attempt", Integer, primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("step", Text, nullable=False),
        Column("endpoint", Text, nullable=False),
        Column("started", BigInteger, nullable=False),
        Column("ended", BigInteger, nullable=False),
        Column("request_hash", Text, nullable=False),
        Column("response_hash", Text),
        Column("seal", Text, nullable=False),
        Column("request", LargeBinary),
        Column("response", LargeBinary),
    )
    op.create_index("delivery_exchange_by_time", "delivery_exchange", ["ended"])
    op.create_table(
        "delivery_acknowledgement",
        Column("delivery", KEY, ForeignKey("delivery.key"), primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("state", Text, nullable=False),
        Column("due", BigInteger, nullable=False),
        Column("received", BigInteger),
        Column("detail", Text),
    )
    op.create_index("delivery_acknowledgement_due", "delivery_acknowledgement", ["state", "due"])
