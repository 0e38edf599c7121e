"""Mails that bring a document to a mailbox, made beforehand."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

from relais.cda.model import Document
from relais.server.delivery.channel import Shipment
from relais.server.delivery.mail_message import compose
from relais.server.settings import Settings
from support.operator import SENDER
from support.shipments import NURSE, small_shipment


def mail(document: Document | None = None, number: int = 1) -> bytes:
    """A mail with a document (the small one by default) for the nurse, its Message-ID made of `number`."""
    values = {"mss_sender": SENDER, "mss_product_reference": "R", "organization_name": "DAC", "mss_pdf": False}
    shipment = replace(small_shipment(document, recipients=(NURSE,)), message_id=f"<{number}@relais.mssante.fr>")
    return compose(shipment, Settings.of(values))


def message_of(shipment: Shipment, settings: Settings) -> EmailMessage:
    """The message of a shipment, for a test to change: `as_bytes` gives what was composed but for the changes."""
    return message_from_bytes(compose(shipment, settings), policy=policy.SMTP.clone(max_line_length=998))
