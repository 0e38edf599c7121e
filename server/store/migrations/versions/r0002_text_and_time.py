"""Full text, secrets, and the order in time of everything for the history of the system."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, Text
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("resource_by_system_time", "resource", ["last_updated", "key"])
    op.create_index("resource_version_by_system_time", "resource_version", ["last_updated", "key"])
    op.create_table("secret", Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False))
    if op.get_bind().dialect.name == "sqlite":
        # Words are normalised, unique and without order: nothing is left for the tokenizer to decide.
        op.execute("CREATE VIRTUAL TABLE text_index USING fts5(narrative, everything, detail='column')")
        return
    op.create_table(
        "text_index",
        Column(
            "resource_key",
            BigInteger,
            ForeignKey("resource.key", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        Column("narrative", TSVECTOR, nullable=False),
        Column("everything", TSVECTOR, nullable=False),
    )
    for column in ("narrative", "everything"):
        op.create_index(f"text_index_by_{column}", "text_index", [column], postgresql_using="gin")
