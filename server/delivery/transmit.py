"""Accepting a delivery order: business rules, identifiers fixed once, order and Task written in one transaction."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from relais.cda.errors import Issue, RelaisError
from relais.cda.model import Document
from relais.cda.reader import read
from relais.cda.xds import Association, DocumentEntry, Submission
from relais.mappings.document_metadata import document_entry, submission_set
from relais.mappings.to_cda.pps import APPROVAL_RULE
from relais.server import documents
from relais.server.delivery import outbox
from relais.server.delivery.outbox import Consignment, Order
from relais.server.delivery.task import task_of
from relais.server.documents import IssuedDocument
from relais.server.fhir.repository import Stored, Transaction, new_id
from relais.server.settings import Settings

CHANNELS = ("mss", "dmp")
_NAMESPACE = uuid.UUID("6f0c8e0a-5d0b-5a53-9f4e-0f6a3c1b7e21")  # entryUUIDs of documents sent by Relais
_REPLACES = "urn:ihe:iti:2007:AssociationType:RPLC"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an order asks for: channels of CHANNELS, and mailboxes for `mss`."""

    channels: tuple[str, ...]
    recipients: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises RelaisError when the order cannot be understood or carried out."""
        issues = [
            Issue("error", "code-invalid", f"channel {channel!r} is none of {', '.join(CHANNELS)}", "channel")
            for channel in self.channels
            if channel not in CHANNELS
        ]
        if not self.channels:
            issues.append(Issue("error", "required", "name at least one channel", "channel"))
        if len(set(self.channels)) < len(self.channels):
            issues.append(Issue("error", "duplicate", "a channel is named twice", "channel"))
        if "mss" in self.channels and not self.recipients:
            issues.append(Issue("error", "required", "MSSanté needs at least one recipient", "recipient"))
        if self.recipients and "mss" not in self.channels:
            issues.append(Issue("error", "invalid", "recipients are for channel mss", "recipient"))
        issues += [
            Issue("error", "value", "not a mailbox address", f"recipient[{index}]")
            for index, mailbox in enumerate(self.recipients)
            if not _is_mailbox(mailbox)
        ]
        if issues:
            raise RelaisError(issues)


def transmit_plan(
    transaction: Transaction, care_plan_id: str, wanted: Wanted, settings: Settings, now: datetime
) -> Stored:
    """Issue the plan's document if it has changed, place the order, return its Task.

    Raises MappingError or RelaisError with what forbids the transmission; nothing is stored then.
    """
    wanted.check()
    document = documents.issue(transaction, care_plan_id, settings.deployment, now)
    refused = [Issue("error", i.code, i.message, i.path, i.rule) for i in document.issues if i.rule == APPROVAL_RULE]
    if refused:
        raise RelaisError(refused)
    plan = transaction.read("CarePlan", care_plan_id)
    subject = transaction.load("CarePlan", care_plan_id)["subject"]["reference"]
    focus = f"CarePlan/{care_plan_id}/_history/{plan.version}"
    return _place(transaction, document, focus, subject, wanted, settings, now)


def transmit_document(
    transaction: Transaction, content: bytes, wanted: Wanted, settings: Settings, now: datetime
) -> Stored:
    """Place an order for a CDA document made elsewhere; raises as `transmit_plan`, UnreadableError for no CDA."""
    wanted.check()
    document = documents.register(transaction.connection, content, now)
    return _place(transaction, document, None, None, wanted, settings, now)


def _place(
    transaction: Transaction,
    document: IssuedDocument,
    focus: str | None,
    subject: str | None,
    wanted: Wanted,
    settings: Settings,
    now: datetime,
) -> Stored:
    model = read(document.content).document
    order = Order(new_id(), document.id, focus, subject, now)
    _refuse_duplicate(transaction, document, wanted)
    consignments = [
        (channel, _consignment(transaction, channel, document, model, wanted, settings, now))
        for channel in wanted.channels
    ]
    outbox.place(transaction.connection, order, document.lineage, consignments)
    placed = outbox.order(transaction.connection, order.task)
    assert placed is not None  # noqa: S101 - written one line above
    return transaction.create(task_of(*placed), resource_id=order.task)


def _refuse_duplicate(transaction: Transaction, document: IssuedDocument, wanted: Wanted) -> None:
    """An unchanged document is not sent to the DMP again (SEL-MP-037, EX_GEN-1060)."""
    if "dmp" in wanted.channels and outbox.last_sent(transaction.connection, document.lineage, "dmp") == document.id:
        message = "this version of the document is at the DMP already, or on its way"
        raise RelaisError(Issue("error", "duplicate", message, "channel", "SEL-MP-037 EX_GEN-1060"))


def _consignment(
    transaction: Transaction,
    channel: str,
    document: IssuedDocument,
    model: Document,
    wanted: Wanted,
    settings: Settings,
    now: datetime,
) -> Consignment:
    entry = document_entry(
        model,
        document.content,
        entry_id=_entry_uuid(document.id) if channel == "dmp" else "Document01",
        uri="DOC00001.XML" if channel == "mss" else None,
        destination="dmp" if channel == "dmp" else "mss",
    )
    lot = submission_set(model, unique_id=_new_oid(), source_id=settings.source_oid, time=now)
    submission = Submission(lot, (entry,), _replacement(transaction, channel, document, entry))
    domain = settings.mss_sender.rpartition("@")[2] or "relais.invalid"
    return Consignment(submission, wanted.recipients if channel == "mss" else (), f"<{uuid.uuid4()}@{domain}>")


def _replacement(
    transaction: Transaction, channel: str, document: IssuedDocument, entry: DocumentEntry
) -> tuple[Association, ...]:
    """The RPLC association to the version the repository holds, or will hold before this one is sent."""
    if channel != "dmp":
        return ()
    former = outbox.last_sent(transaction.connection, document.lineage, channel)
    if former is None or former == document.id:
        return ()
    return (Association(_REPLACES, entry.entry_id, _entry_uuid(former)),)


def _entry_uuid(document_id: str) -> str:
    """The entryUUID of a document: chosen here, kept by the registry, so that a replacement can name it."""
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, document_id)}"


def _new_oid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def _is_mailbox(address: str) -> bool:
    local, _, domain = address.rpartition("@")
    return bool(local) and "." in domain and address.isascii() and not any(c.isspace() or c in "<>,;" for c in address)
