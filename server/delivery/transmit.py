"""Accepting a delivery order: business rules, identifiers fixed once, order and Task written in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from relais.cda.errors import Issue, RelaisError
from relais.cda.model import Document
from relais.cda.reader import read
from relais.cda.xds import Submission
from relais.mappings.document_metadata import document_entry, submission_set
from relais.mappings.to_cda.pps import APPROVAL_RULE, OPPOSITION_RULE
from relais.server import documents
from relais.server.delivery import gate, outbox
from relais.server.delivery.channel import entry_uuid
from relais.server.delivery.mss import check_recipients
from relais.server.delivery.outbox import Consignment, Order
from relais.server.delivery.task import task_of
from relais.server.documents import IssuedDocument, name_of
from relais.server.fhir.repository import Stored, Transaction, new_id
from relais.server.settings import Settings

BLOCKING_RULES = frozenset({APPROVAL_RULE, OPPOSITION_RULE})
"""Rules of the mapping that only warn about the document, and forbid that it leaves the circle of care."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an order asks for: channels of gate.CHANNELS, and mailboxes for `mss`."""

    channels: tuple[str, ...]
    recipients: tuple[str, ...] = ()

    def check(self, settings: Settings) -> None:
        """Raises RelaisError when the order cannot be understood, or leads nowhere here."""
        issues = list(self._issues(settings))
        if issues:
            raise RelaisError(issues)

    def _issues(self, settings: Settings) -> Iterator[Issue]:
        for channel in self.channels:
            if channel not in gate.CHANNELS:
                yield Issue("error", "code-invalid", f"a channel is one of {', '.join(gate.CHANNELS)}", "channel")
            elif not gate.is_configured(channel, settings):
                yield Issue("error", "not-supported", f"channel {channel} is not configured here", "channel")
        if not self.channels:
            yield Issue("error", "required", "name at least one channel", "channel")
        if len(set(self.channels)) < len(self.channels):
            yield Issue("error", "invalid", "a channel is named twice", "channel")
        if "mss" in self.channels and not self.recipients:
            yield Issue("error", "required", "MSSanté needs at least one recipient", "recipient")
        if self.recipients and "mss" not in self.channels:
            yield Issue("error", "invalid", "recipients are for channel mss", "recipient")
        if len(set(self.recipients)) < len(self.recipients):
            yield Issue("error", "invalid", "a recipient is named twice", "recipient")


def transmit_plan(
    transaction: Transaction, care_plan_id: str, wanted: Wanted, settings: Settings, now: datetime
) -> Stored:
    """Issue the plan's document if it has changed, place the order, return its Task.

    Raises MappingError or RelaisError with what forbids the transmission; nothing is stored then.
    """
    wanted.check(settings)
    document = documents.issue(transaction, f"CarePlan/{care_plan_id}", settings.deployment, now)
    refused = [
        Issue("error", "business-rule", i.message, i.path, i.rule) for i in document.issues if i.rule in BLOCKING_RULES
    ]
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
    wanted.check(settings)
    document = documents.register(transaction.connection, content, now)
    if "dmp" in wanted.channels:
        _refuse_unknown_replacement(transaction, document)
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
    issues = [
        issue
        for channel in gate.CHANNELS
        if channel in wanted.channels
        for issue in gate.refusals(model, channel, settings)
    ]
    issues += check_recipients(model.header, wanted.recipients) if "mss" in wanted.channels else []
    issues += _duplicates(transaction, document, wanted)
    if issues:
        raise RelaisError(dict.fromkeys(issues))
    order = Order(new_id(), document.key, focus, subject, now)
    receivers = [
        (channel, recipient)
        for channel in wanted.channels
        for recipient in (wanted.recipients if channel == "mss" else ("",))
    ]
    consignments = [
        (channel, _consignment(channel, recipient, document, model, settings, now)) for channel, recipient in receivers
    ]
    outbox.place(transaction.connection, order, document.lineage, consignments)
    placed = outbox.order(transaction.connection, order.task)
    assert placed is not None  # noqa: S101 - written one line above
    return transaction.create(task_of(*placed), resource_id=order.task)


def _duplicates(transaction: Transaction, document: IssuedDocument, wanted: Wanted) -> Iterator[Issue]:
    """An unchanged document does not go where it is already, and no version follows a newer one."""
    for channel in wanted.channels:
        sent = outbox.sent(transaction.connection, document.lineage, channel)
        if channel != "mss" and sent.get(document.key) in ("delivered", "waiting"):
            message = f"this version of the document has been sent by {channel} already, or is on its way"
            yield Issue("error", "duplicate", message, "channel", "SEL-MP-037 EX_GEN-1060")
        versions = [known.version for key in sent if (known := documents.issued(transaction.connection, key))]
        if max(versions, default=0) > document.version:
            message = f"a later version of the document has been sent by {channel}"
            yield Issue("error", "duplicate", message, "channel", "CI-SIS: versions follow one another")
    served = outbox.mailboxes(transaction.connection, document.key)
    for index, mailbox in enumerate(wanted.recipients):
        if mailbox in served:
            message = "this version of the document has been sent to this mailbox already, or is on its way"
            yield Issue("error", "duplicate", message, f"recipient[{index}]")


def _refuse_unknown_replacement(transaction: Transaction, document: IssuedDocument) -> None:
    """To replace an entry of the registry one must know its entryUUID: here, only of what Relais has sent."""
    replaced = document.identity.replaces
    sent = outbox.sent(transaction.connection, document.lineage, "dmp")
    if replaced is not None and name_of(replaced) not in sent:
        message = "it replaces a document that Relais has not sent to the DMP: its registry entry is not known"
        raise RelaisError(Issue("error", "not-supported", message, "ClinicalDocument/relatedDocument", "ITI-41, RPLC"))


def _consignment(
    channel: str, recipient: str, document: IssuedDocument, model: Document, settings: Settings, now: datetime
) -> Consignment:
    entry = document_entry(
        model,
        document.content,
        entry_id=entry_uuid(document.key) if channel == "dmp" else "Document01",
        uri="DOC00001.XML" if channel == "mss" else None,
        destination="dmp" if channel == "dmp" else "mss",
    )
    lot = submission_set(model, unique_id=f"2.25.{uuid.uuid4().int}", source_id=settings.source_oid, time=now)
    domain = settings.mss_sender.rpartition("@")[2] or "relais.invalid"
    return Consignment(Submission(lot, (entry,)), (recipient,) if recipient else (), f"<{uuid.uuid4()}@{domain}>")
