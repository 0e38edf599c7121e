"""What a platform was asked to feed the DMP with (HL7 v2 volet, DESTDMP), so that Relais does not feed it twice.

The other way round an order says it by `dmp_is_fed`: the platform is not asked for what Relais sends to the DMP itself.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, bindparam, literal_column, select

from relais.server.delivery import acknowledgements, outbox, zam_answers
from relais.server.delivery.outbox import Consignment, delivery_table, order_table
from relais.server.store.statements import Statement

RULE = "SEL-MP-037 EX_GEN-1060, HL7v2 volet: DESTDMP"
_SENT = Statement(
    select(order_table.c.document, delivery_table.c.key, delivery_table.c.consignment)
    .join(delivery_table)
    .where(
        delivery_table.c.lineage == bindparam("lineage"),
        delivery_table.c.channel == literal_column("'hl7v2'"),
        delivery_table.c.state.in_([literal_column(f"'{state}'") for state in ("waiting", "delivered", "unconfirmed")]),
        order_table.c.action == literal_column("'send'"),
    )
    .order_by(delivery_table.c.key.desc())
)
_decode = msgspec.json.Decoder(Consignment).decode


def documents(connection: Connection, lineage: str) -> list[str]:
    """The documents of a lineage that a platform was asked to feed the DMP with, newest first.

    Not what it was asked to withdraw since, nor what the DMP is said to have refused.
    """
    rows = _SENT.all(connection, {"lineage": lineage})
    gone = outbox.withdrawn(connection, lineage, "hl7v2") if rows else set()
    asked = [(document, key) for document, key, made in rows if document not in gone and _decode(made).feeds_dmp]
    return list(dict.fromkeys(document for document, key in asked if not _is_refused(connection, key)))


def _is_refused(connection: Connection, delivery: int) -> bool:
    return zam_answers.refused_by_dmp(acknowledgements.of_delivery(connection, delivery))
