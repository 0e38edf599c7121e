"""A document sent anew though it says nothing new: after a withdrawal, or to be hidden from others than before.

An identifier that was withdrawn is used up (XDSDuplicateUniqueIdInRegistry), and where the structure is authenticated
alone visibility changes by a new version (SEL-MP-037, indirect mode; MODIF_CONF_CODE of the HL7 v2 volet). An unchanged
document is not sent again for nothing (EX_GEN-1060).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Connection

from relais.cda.errors import Issue, RelaisError
from relais.server.delivery import outbox, visibility
from relais.server.delivery.visibility import Audience
from relais.server.documents import IssuedDocument

_RULE = "SEL-MP-037 EX_GEN-1060"


def reasons(
    connection: Connection, document: IssuedDocument, channels: Iterable[str], hidden: Collection[Audience]
) -> dict[str, str]:
    """Why each channel that knows a document needs another version of it: `withdrawn`, or `visibility`.

    Empty when none of them knows it: it can go as it is. Raises RelaisError for a channel by which the same document
    would go again, hidden from the same people.
    """
    found = {}
    for channel in channels:
        if document.key in outbox.withdrawn(connection, document.lineage, channel):
            found[channel] = "withdrawn"
        elif document.key in outbox.sent(connection, document.lineage, channel):
            if masks(connection, document, channel) == set(hidden):
                message = f"nothing to send anew by {channel}: it has this version, hidden from the same people"
                raise RelaisError(Issue("error", "duplicate", message, "intent", _RULE))
            found[channel] = "visibility"
    return found


def masks(connection: Connection, document: IssuedDocument, channel: str) -> frozenset[Audience]:
    """From whom the document was hidden when a channel sent it last."""
    sent = outbox.consignments(connection, document.lineage, channel)
    last = next((made for key, made in sent if key == document.key), None)
    return visibility.hidden_by(last.submission.entries[0].confidentiality) if last else frozenset()
