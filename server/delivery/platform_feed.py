"""What a platform was asked to feed the DMP with (HL7 v2 volet, DESTDMP), so that Relais does not feed it twice.

The other way round an order says it by `dmp_is_fed`: the platform is not asked for what Relais sends to the DMP itself.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from relais.server.delivery import acknowledgements, outbox
from relais.server.delivery.outbox import Consignment, delivery_table, order_table

RULE = "SEL-MP-037 EX_GEN-1060, HL7v2 volet: DESTDMP"
_STANDING = ("waiting", "delivered", "unconfirmed")
_REFUSED = "Z01: no"
"""How `relais.server.reception` writes down that the DMP refused what the platform fed it with."""
_decode = msgspec.json.Decoder(Consignment).decode


def documents(connection: Connection, lineage: str) -> list[str]:
    """The documents of a lineage that a platform was asked to feed the DMP with, newest first.

    Not what it was asked to withdraw since, nor what the DMP is said to have refused.
    """
    rows = connection.execute(
        select(order_table.c.document, delivery_table.c.key, delivery_table.c.consignment)
        .join(delivery_table)
        .where(delivery_table.c.lineage == lineage, delivery_table.c.channel == "hl7v2")
        .where(delivery_table.c.state.in_(_STANDING), order_table.c.action == "send")
        .order_by(delivery_table.c.key.desc())
    ).all()
    if not rows:
        return []
    gone = outbox.withdrawn(connection, lineage, "hl7v2")
    asked = [row for row in rows if row.document not in gone and _decode(row.consignment).feeds_dmp]
    return list(dict.fromkeys(row.document for row in asked if not _is_refused(connection, row.key)))


def _is_refused(connection: Connection, delivery: int) -> bool:
    said = acknowledgements.of_delivery(connection, delivery)
    return any(one.state == "negative" and _REFUSED in one.detail for one in said)
