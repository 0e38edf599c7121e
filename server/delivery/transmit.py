"""Accepting a delivery order: business rules, identifiers fixed once, order and Task written in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal, get_args

from lxml import etree

from relais.cda import consistency
from relais.cda.datatypes import PARIS
from relais.cda.errors import Issue, RelaisError
from relais.cda.model import Document
from relais.cda.reader import parse, read, read_header
from relais.cda.style_sheets import document_of
from relais.cda.xds import REPLACE, Association, CodedValue, MetadataAuthor, Submission
from relais.cda.xds_attributes import SECTOR_SYSTEM
from relais.mappings.context import Resource
from relais.mappings.document_metadata import Destination, document_entry, submission_set, usual_content_type
from relais.mappings.hl7v2.legality import is_listed
from relais.mappings.hl7v2.order import TransmissionOrder
from relais.mappings.hl7v2.writing import compose
from relais.mappings.to_cda.pps import APPROVAL_RULE, OPPOSITION_RULE
from relais.server import documents
from relais.server.delivery import (
    document_subject,
    gate,
    hl7v2,
    lot_author,
    oppositions,
    outbox,
    platform_feed,
    reissue,
    same_patient,
    stored_documents,
    story,
    vihf,
    visibility,
)
from relais.server.delivery.channel import EVERY_ACKNOWLEDGEMENT, Acknowledgement, DeliveryError, Shipment, entry_uuid
from relais.server.delivery.mail_message import check_recipients, has_qualified_ins, is_of_patient
from relais.server.delivery.outbox import Consignment, Order, Priority, State
from relais.server.delivery.recipients import CareTeamMailboxes, patient_mailbox, patient_reference
from relais.server.delivery.trust_space import TrustSpace
from relais.server.delivery.visibility import Audience
from relais.server.document_forms import Level
from relais.server.document_sources import EVERYTHING, Selection, gather
from relais.server.documents import IssuedDocument, name_of
from relais.server.fhir.json_format import load
from relais.server.fhir.repository import Stored, Transaction, existing, new_id
from relais.server.settings import Settings

BLOCKING_RULES = frozenset({APPROVAL_RULE, OPPOSITION_RULE})
"""Rules of the mapping that only warn about the document, and forbid that it leaves the circle of care."""

Intent = Literal["send", "replace", "reissue", "withdraw"]
"""`send`: the document, which replaces its former version if there is one; `replace`: only if there is one; `reissue`:
a new version of it though it says nothing new."""
_DESTINATIONS: dict[str, Destination] = {"dmp": "dmp", "mhd": "mhd"}
"""Channels whose receivers ask more of the metadata than others."""
_NOTIFYING = frozenset({"Appointment", "Communication", "CommunicationRequest"})
"""Carriers whose documents are urgent unless the order says otherwise."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an order asks for.

    `channels` are of gate.CHANNELS. `recipients` are mailboxes, for `mss` or else for the platform that `hl7v2` leads
    to; without any, `mss` goes to those of the care team. `patient` adds the mailbox of the patient. `acknowledgements`
    None: every one that a channel knows. `requester` is a reference to who orders. `hidden_from` nobody: from whom the
    last order of the document or of a former version hid it, unless it is to be `shown` to everybody. `secret`: by a
    secret connection to the DMP of a minor; None: as that last order. `as_before`: nobody said from whom, set here.
    """

    channels: tuple[str, ...]
    recipients: tuple[str, ...] = ()
    patient: bool = False
    intent: Intent = "send"
    hidden_from: tuple[Audience, ...] = ()
    shown: bool = False
    secret: bool | None = None
    as_before: bool = False
    acknowledgements: tuple[Acknowledgement, ...] | None = None
    priority: Priority | None = None
    requester: str | None = None

    def check(self, settings: Settings) -> None:
        """Raises RelaisError when the order cannot be understood, contradicts itself, or leads nowhere here."""
        issues = [*self._wrong_channels(settings), *self._wrong_recipients(), *self._contradictions()]
        if issues:
            raise RelaisError(issues)

    def _wrong_channels(self, settings: Settings) -> Iterator[Issue]:
        for channel in self.channels:
            if channel not in gate.CHANNELS:
                yield Issue("error", "code-invalid", f"a channel is one of {', '.join(gate.CHANNELS)}", "channel")
            elif not gate.is_configured(channel, settings):
                yield Issue("error", "not-supported", f"channel {channel} is not configured here", "channel")
            elif missing := gate.missing_settings(channel, settings):
                message = f"channel {channel} needs the settings {', '.join(missing)}"
                yield Issue("error", "not-supported", message, "channel")
        if not self.channels:
            yield Issue("error", "required", "name at least one channel", "channel")
        if len(set(self.channels)) < len(self.channels):
            yield Issue("error", "invalid", "a channel is named twice", "channel")

    def _wrong_recipients(self) -> Iterator[Issue]:
        if (self.recipients or self.patient) and not {"mss", "hl7v2"} & set(self.channels):
            yield Issue("error", "invalid", "recipients are for the channels mss and hl7v2", "recipient")
        if len({recipient.lower() for recipient in self.recipients}) < len(self.recipients):
            yield Issue("error", "invalid", "a recipient is named twice", "recipient")

    def _contradictions(self) -> Iterator[Issue]:
        if len(set(self.hidden_from)) < len(self.hidden_from):
            yield Issue("error", "invalid", "an audience is named twice", "hideFrom")
        to_patient = self.patient or any(map(is_of_patient, self.recipients))
        yield from visibility.contradictions(self.hidden_from, to_patient=to_patient, place="hideFrom")
        if self.acknowledgements and not gate.ACKNOWLEDGING & set(self.channels):
            message = f"acknowledgements come by {' and '.join(sorted(gate.ACKNOWLEDGING))}: the DMP answers at once"
            yield Issue("error", "invalid", message, "acknowledgement")
        if self.intent == "withdraw":
            yield from self._not_for_withdrawals()

    def _not_for_withdrawals(self) -> Iterator[Issue]:
        for channel in self.channels:
            if channel in gate.CHANNELS and channel not in gate.WITHDRAWING:
                message = f"what was sent by {channel} cannot be withdrawn; send a version that replaces it"
                yield Issue("error", "business-rule", message, "channel", "CI-SIS: life cycle of documents")
        if self.recipients or self.patient:
            yield Issue("error", "invalid", "a withdrawal goes where the document went", "recipient")
        if self.hidden_from or self.shown:
            yield Issue("error", "invalid", "a withdrawal changes no visibility", "hideFrom")
        if self.secret is not None:
            message = "a withdrawal goes by a secret connection where the document did"
            yield Issue("error", "invalid", message, "secretConnection")


# --- orders -----------------------------------------------------------------------------------------------------------


def transmit(
    transaction: Transaction,
    carrier: str,
    wanted: Wanted,
    settings: Settings,
    now: datetime,
    *,
    selection: Selection = EVERYTHING,
    level: Level = "n3",
) -> Stored:
    """Issue the document of `carrier` (`Type/[id]`) if it has changed, place the order, return its Task.

    A DocumentReference stands for the document it points to. Raises MappingError or RelaisError with what forbids the
    transmission; nothing is stored then.
    """
    wanted.check(settings)
    if wanted.intent == "withdraw":
        document, source = _to_withdraw(transaction, carrier, wanted, level)
        last = _last_sent(transaction, document)
        wanted = replace(wanted, secret=last is not None and last.secret)
        return _place(transaction, document, source, wanted, settings, now)
    kind, _, resource_id = carrier.partition("/")
    stored, resource = transaction.read(kind, resource_id), transaction.load(kind, resource_id)
    shown_anew: frozenset[str] = frozenset()
    if kind == "DocumentReference":
        _refuse_reissue(wanted)
        content = stored_documents.content_of(transaction, resource)
        tree = parse(content)
        _refuse_broken_files(tree)
        document = _registered(transaction, content, read_header(tree), now)
        stored_documents.check_leaving(transaction, resource, document, qualified=_files_by_ins(wanted))
        _refuse_opposed(transaction, patient_reference(resource), document, carrier)
        if "dmp" in wanted.channels:
            _refuse_unknown_replacement(transaction, document)
        wanted = _hiding_as_labelled(_as_before(transaction, wanted, document), [resource])
    else:
        issue = partial(
            documents.issue, transaction, carrier, settings.deployment, now, selection=selection, level=level
        )
        document = issue()
        stated = gather(transaction.connection, transaction.repository.base, carrier, selection).stated()
        wanted = _hiding_as_labelled(_as_before(transaction, wanted, document), stated)
        if wanted.intent == "reissue":
            why = reissue.reasons(transaction.connection, document, wanted.channels, wanted.hidden_from)
            shown_anew = frozenset(channel for channel, reason in why.items() if reason == "visibility")
            document = issue(anew=True) if why else document
        _refuse_blocked(document)
        _refuse_former_patient(transaction, document, patient_reference(resource))
    source = _Source(f"{carrier}/_history/{stored.version}", patient_reference(resource), resource, shown_anew)
    return _place(transaction, document, source, wanted, settings, now)


def transmit_document(
    transaction: Transaction, content: bytes, wanted: Wanted, settings: Settings, now: datetime
) -> Stored:
    """Place an order for a CDA document made elsewhere; raises as `transmit`, UnreadableError for no CDA.

    Where this store knows the patient of its header, it is judged as an order that names that patient.
    """
    wanted.check(settings)
    _refuse_reissue(wanted)
    tree = parse(content)
    model = read_header(tree)
    if kept_in := _kept_in(model, wanted, settings):
        raise RelaisError(kept_in)
    _refuse_broken_files(tree)
    document = _registered(transaction, content, model, now)
    base, qualified = transaction.repository.base, _files_by_ins(wanted)
    subject = document_subject.subject_of(transaction.connection, base, document, qualified=qualified)
    _refuse_opposed(transaction, subject, document, "")
    if "dmp" in wanted.channels:
        _refuse_unknown_replacement(transaction, document)
    wanted = _as_before(transaction, wanted, document)
    return _place(transaction, document, _Source(None, subject, None), wanted, settings, now)


@dataclass(frozen=True, slots=True)
class _Source:
    """What the order is about: version of the carrier, patient, and the carrier itself; None for bytes alone.

    `shown_anew`: channels to which nothing of the document is new but from whom it is hidden.
    """

    focus: str | None
    subject: str | None
    carrier: Resource | None
    shown_anew: frozenset[str] = frozenset()


def _refuse_broken_files(tree: etree._ElementTree) -> None:
    """What the official rules do not look at and the worker would refuse: a file cut short, or of another type."""
    found = [issue for issue in consistency.check_files(document_of(tree)) if issue.severity == "error"]
    if found:
        raise RelaisError(found)


def _registered(transaction: Transaction, content: bytes, model: Document, now: datetime) -> IssuedDocument:
    """A document made elsewhere, kept; nobody else orders anything of its lineage until the transaction ends."""
    transaction.exclusively(f"lineage {documents.lineage_of(model.header)}")
    return documents.register(transaction.connection, content, now)


def _files_by_ins(wanted: Wanted) -> bool:
    """Whether somebody files the document by the INS that it bears."""
    to_patient = wanted.patient or any(map(is_of_patient, wanted.recipients))
    return to_patient or not same_patient.QUALIFYING.isdisjoint(wanted.channels)


def _as_before(transaction: Transaction, wanted: Wanted, document: IssuedDocument) -> Wanted:
    """The order, hidden and secret as the last one of the lineage was: a new version does not show what was hidden."""
    last = _last_sent(transaction, document)
    if wanted.secret is None:
        wanted = replace(wanted, secret=last is not None and last.secret)
    if wanted.hidden_from or wanted.shown:
        return wanted
    hidden = visibility.hidden_by(last.submission.entries[0].confidentiality) if last else ()
    return replace(wanted, hidden_from=tuple(sorted(hidden)), as_before=True)


def _last_sent(transaction: Transaction, document: IssuedDocument) -> Consignment | None:
    """How the last version of a document that was sent went, by whatever channel."""
    sent = outbox.consignments(transaction.connection, document.lineage)
    return sent[0][1] if sent else None


def _refuse_reissue(wanted: Wanted) -> None:
    if wanted.intent == "reissue":
        message = "a document that was made elsewhere keeps its identifier: store a new version of it under another one"
        raise RelaisError(Issue("error", "business-rule", message, "intent", "CI-SIS: an id names one document"))


def _hiding_as_labelled(wanted: Wanted, stated: Iterable[Resource]) -> Wanted:
    """The order that hides the document from those, too, from whom the resources that it states are hidden.

    Raises RelaisError for masks that cannot be told.
    """
    resources = list(stated)
    if refused := [issue for resource in resources for issue in visibility.unknown_masks(resource)]:
        raise RelaisError(dict.fromkeys(refused))
    labelled = sorted(frozenset().union(*map(visibility.hidden_by_labels, resources)))
    return replace(wanted, hidden_from=tuple(dict.fromkeys((*wanted.hidden_from, *labelled))))


def _refuse_blocked(document: IssuedDocument) -> None:
    refused = [
        Issue("error", "business-rule", i.message, i.path, i.rule) for i in document.issues if i.rule in BLOCKING_RULES
    ]
    if refused:
        raise RelaisError(refused)


def _refuse_opposed(transaction: Transaction, subject: str | None, document: IssuedDocument, ordered: str) -> None:
    """What a document made elsewhere says was not asked of the Consents here: they are asked as a whole."""
    if subject is None:
        return
    today = transaction.now.astimezone(PARIS).date()
    found = oppositions.objections(
        transaction.connection, transaction.repository.base, subject, document, today, lambda: ordered
    )
    if refused := list(found):
        raise RelaisError(refused)


def _refuse_former_patient(transaction: Transaction, document: IssuedDocument, subject: str | None) -> None:
    """A document made here bears an INS only of a qualified identity; its patient's record may be a former one."""
    base = transaction.repository.base
    if subject and (
        found := list(same_patient.standing(transaction.connection, base, subject, document, qualified=True))
    ):
        raise RelaisError(found)


def _to_withdraw(
    transaction: Transaction, carrier: str, wanted: Wanted, level: Level
) -> tuple[IssuedDocument, _Source]:
    """What was sent of a carrier, though it may be deleted or marked as an error since: the more reason to withdraw."""
    kind, _, resource_id = carrier.partition("/")
    current = transaction.current(kind, resource_id)
    deleted = current is not None and current.deleted
    if current is not None and deleted:
        current = transaction.vread(kind, resource_id, str(current.version - 1))
    stored = existing(current, kind, resource_id)
    resource, last = load(stored.content or b""), documents.last_issued(transaction.connection, carrier, level)
    if kind == "DocumentReference":
        content = stored_documents.held_by(transaction, resource)
        last = _registered(transaction, content, read_header(parse(content)), transaction.now)
    document = _sent_last(transaction, last, wanted)
    subject = outbox.subject_of(transaction.connection, document.key)  # that of the carrier may be another one now
    if kind == "DocumentReference" and not _is_about(transaction, resource, subject):
        stored_documents.check_patient(transaction, resource, document)
    patient = transaction.current(*subject.split("/")) if subject else None
    return document, _Source(
        None if deleted else f"{carrier}/_history/{stored.version}",
        None if patient is None or patient.deleted else subject,
        resource,
    )


def _is_about(transaction: Transaction, reference: Resource, sent_of: str | None) -> bool:
    """Whether a DocumentReference is about the patient whose document was sent, whatever has become of the record."""
    current = stored_documents.subject_of(transaction, reference)
    base = transaction.repository.base
    return sent_of is not None and same_patient.lives_on_in(transaction.connection, base, sent_of, current)


def _sent_last(transaction: Transaction, last: IssuedDocument | None, wanted: Wanted) -> IssuedDocument:
    """The version that every channel of the order has sent last. Raises RelaisError when there is none."""
    lineage = last.lineage if last else ""
    newest = {channel: _newest_sent(transaction, lineage, channel) for channel in wanted.channels}
    found = next(iter(newest.values()), None)
    if found is None or len({one.key if one else None for one in newest.values()}) > 1:
        message = "nothing to withdraw: no document of it was sent, or not the same by each of the channels"
        raise RelaisError(Issue("error", "business-rule", message, "channel", "CI-SIS: life cycle of documents"))
    return found


def _newest_sent(transaction: Transaction, lineage: str, channel: str) -> IssuedDocument | None:
    withdrawn = outbox.withdrawn(transaction.connection, lineage, channel)
    keys = outbox.sent(transaction.connection, lineage, channel).keys() - withdrawn
    versions = [one for key in keys if (one := documents.issued(transaction.connection, key))]
    return max(versions, key=lambda one: one.version, default=None)


def _place(
    transaction: Transaction,
    document: IssuedDocument,
    source: _Source,
    wanted: Wanted,
    settings: Settings,
    now: datetime,
) -> Stored:
    transaction.exclusively(f"lineage {document.lineage}")
    model = read(document.content).document
    mailboxes = _unserved(transaction, document, _mailboxes(transaction, model, source, wanted, settings, now))
    fed = platform_feed.documents(transaction.connection, document.lineage) if "dmp" in wanted.channels else []
    issues = _kept_in(model, wanted, settings)
    issues += _wrong_mailboxes(model, mailboxes, settings)
    labelled = set(wanted.hidden_from) & visibility.hidden_by_labels(source.carrier or {})
    label = "securityLabel" if "securityLabel" in (source.carrier or {}) else "meta.security"
    place, to_patient = label if labelled else "hideFrom", any(map(is_of_patient, mailboxes))
    issues += visibility.contradictions(wanted.hidden_from, to_patient=to_patient, place=place)
    on = now.astimezone(PARIS).date()
    if to_patient:
        issues += visibility.minor_objections(model, wanted.hidden_from, settings, on, place)
    if wanted.intent != "withdraw":
        issues += _duplicates(transaction, document, wanted, mailboxes, fed)
        if wanted.secret:
            issues += visibility.secret_objections(model, wanted.hidden_from, wanted.channels, settings, on)
    if wanted.intent == "replace":
        issues += _nothing_to_replace(transaction, document, wanted)
    if issues:
        raise RelaisError(dict.fromkeys(issues))
    boxes = _reached(transaction, document) if wanted.intent == "withdraw" else tuple(mailboxes)
    annulled = _annulled(transaction, document)
    dmp_is_fed = "dmp" in wanted.channels or bool(outbox.sent(transaction.connection, document.lineage, "dmp"))
    maker = _Maker(document, model, wanted, settings, now, annulled, mailboxes, source.shown_anew, dmp_is_fed, fed)
    receivers = list(_receivers(wanted, boxes))
    consignments = [(channel, key, maker.consignment(channel, boxes)) for channel, key, boxes in receivers]
    order = Order(
        new_id(),
        document.key,
        source.focus,
        source.subject,
        now,
        "withdraw" if wanted.intent == "withdraw" else "send",
        wanted.priority or _usual_priority(source.carrier),
        wanted.requester,
    )
    outbox.place(transaction.connection, order, document.lineage, consignments)
    placed = outbox.order(transaction.connection, order.task)
    assert placed is not None  # noqa: S101 - written one line above
    return story.write_order(transaction, *placed, settings.organization_name)


def _kept_in(model: Document, wanted: Wanted, settings: Settings) -> list[Issue]:
    """Why the document may not leave by channels of the order."""
    named = [channel for channel in gate.CHANNELS if channel in wanted.channels]
    return [issue for channel in named for issue in gate.refusals(model, channel, settings)]


def _usual_priority(carrier: Resource | None) -> Priority:
    return "urgent" if carrier and carrier["resourceType"] in _NOTIFYING else "routine"


# --- receivers --------------------------------------------------------------------------------------------------------


def _mailboxes(
    transaction: Transaction, model: Document, source: _Source, wanted: Wanted, settings: Settings, now: datetime
) -> dict[str, str]:
    """The mailboxes of the order, in lower case: as named, else of the care team; the patient's if asked for.

    With each the carrier in whose care team it was looked up, or nothing.
    """
    found = dict.fromkeys(map(str.lower, wanted.recipients), "")
    if "mss" in wanted.channels and not found and source.carrier is not None:
        today, base = now.astimezone(PARIS).date(), transaction.repository.base
        team = CareTeamMailboxes(transaction.connection, base, TrustSpace.of(settings), today)
        found = dict.fromkeys(
            map(str.lower, team.of_carrier(source.carrier)), f"{source.carrier['resourceType']}/{source.carrier['id']}"
        )
        found.pop(settings.mss_sender.lower(), None)
    if wanted.patient:
        own = patient_mailbox(model)
        if isinstance(own, Issue):
            raise RelaisError(own)
        found[own.lower()] = ""
    if "mss" in wanted.channels and not found:
        message = "MSSanté needs at least one recipient: none is named, and no mailbox of the care team is known"
        raise RelaisError(Issue("error", "required", message, "recipient"))
    return found


def _unserved(transaction: Transaction, document: IssuedDocument, mailboxes: dict[str, str]) -> dict[str, str]:
    """Of the mailboxes that were looked up, those that do not have this version yet, if there are any to write to."""
    served = outbox.mailboxes(transaction.connection, document.key) if any(mailboxes.values()) else {}
    left = {box: carrier for box, carrier in mailboxes.items() if not carrier or box not in served}
    return left or mailboxes


def _reached(transaction: Transaction, document: IssuedDocument) -> tuple[str, ...]:
    """The mailboxes that a platform was asked to send a document to: it tells them that it is withdrawn."""
    sent = outbox.consignments(transaction.connection, document.lineage, "hl7v2")
    return next((made.recipients for key, made in sent if key == document.key), ())


def _annulled(transaction: Transaction, document: IssuedDocument) -> dict[str, str]:
    """By mailbox, the Message-ID of the last mail that brought another version of the document there (ECO.2.2.2)."""
    sent = outbox.consignments(transaction.connection, document.lineage, "mss")
    return {box: made.message_id for key, made in reversed(sent) for box in made.recipients if key != document.key}


def _wrong_mailboxes(model: Document, mailboxes: Iterable[str], settings: Settings) -> Iterator[Issue]:
    """Each mailbox gets a message of its own, and is judged by itself."""
    trust = TrustSpace.of(settings)
    for index, mailbox in enumerate(mailboxes):
        for issue in check_recipients(model.header, (mailbox,), trust):
            yield replace(issue, path=f"recipient[{index}]")
        qualified = settings.ins_environment == "test" or has_qualified_ins(model.header.patient)
        if is_of_patient(mailbox) and not qualified:
            message = "the patient's mailbox is made of an INS-NIR of a qualified identity with its four traits"
            yield Issue("error", "business-rule", message, f"recipient[{index}]", "ECO.2.2.6")


def _receivers(wanted: Wanted, mailboxes: tuple[str, ...]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(channel, mailbox that tells the deliveries of it apart, mailboxes of the message)."""
    for channel in wanted.channels:
        if channel == "mss":
            yield from ((channel, mailbox, (mailbox,)) for mailbox in mailboxes)
        else:
            yield channel, "", mailboxes if channel == "hl7v2" and "mss" not in wanted.channels else ()


def _duplicates(
    transaction: Transaction,
    document: IssuedDocument,
    wanted: Wanted,
    mailboxes: Iterable[str],
    fed_by_platform: Sequence[str],
) -> Iterator[Issue]:
    """An unchanged document does not go where it is already, and no version follows a newer one."""
    for channel in wanted.channels:
        sent = outbox.sent(transaction.connection, document.lineage, channel)
        if document.key in outbox.withdrawn(transaction.connection, document.lineage, channel):
            instead = "order it with the intent reissue" if document.carrier else "store it again under another one"
            message = f"this version was withdrawn by {channel} and its identifier is used up: {instead}"
            yield Issue("error", "duplicate", message, "channel", "CI-SIS: life cycle of documents")
        elif channel != "mss" and document.key in sent:
            yield _sent_already(
                sent[document.key], f"by {channel}", "channel", hint=_anew(transaction, document, wanted, channel)
            )
        elif channel == "dmp" and document.key in fed_by_platform:
            message = "the platform was asked to feed the DMP with this version (hl7v2): it is there, or on its way"
            yield Issue("error", "duplicate", message, "channel", platform_feed.RULE)
        versions = [known.version for key in sent if (known := documents.issued(transaction.connection, key))]
        if max(versions, default=0) > document.version:
            message = f"a later version of the document has been sent by {channel}"
            yield Issue("error", "duplicate", message, "channel", "CI-SIS: versions follow one another")
    served = outbox.mailboxes(transaction.connection, document.key) if "mss" in wanted.channels else {}
    for index, mailbox in enumerate(mailboxes):
        if mailbox in served:
            yield _sent_already(served[mailbox], "to this mailbox", f"recipient[{index}]")


def _anew(transaction: Transaction, document: IssuedDocument, wanted: Wanted, channel: str) -> str:
    """What to do for a document to be hidden from others than when a channel sent it."""
    same = reissue.masks(transaction.connection, document, channel) == set(wanted.hidden_from)
    return (
        "" if same or not document.carrier else "; to change from whom it is hidden, order it with the intent reissue"
    )


def _sent_already(state: State, how: str, place: str, hint: str = "") -> Issue:
    message = f"this version of the document has been sent {how} already, or is on its way{hint}"
    if state == "unconfirmed":
        message = f"this version of the document may have been sent {how}: resume that order, under its identifiers"
    return Issue("error", "duplicate", message, place, "SEL-MP-037 EX_GEN-1060")


def _nothing_to_replace(transaction: Transaction, document: IssuedDocument, wanted: Wanted) -> Iterator[Issue]:
    for channel in wanted.channels:
        if not outbox.sent(transaction.connection, document.lineage, channel).keys() - {document.key}:
            message = f"nothing to replace: no earlier version of the document was sent by {channel}"
            yield Issue("error", "business-rule", message, "channel", "ITI-41, RPLC")


def _refuse_unknown_replacement(transaction: Transaction, document: IssuedDocument) -> None:
    """To replace an entry of the registry one must know its entryUUID: here, only of what Relais has sent."""
    replaced = document.identity.replaces
    sent = outbox.sent(transaction.connection, document.lineage, "dmp")
    if replaced is not None and name_of(replaced) not in sent:
        message = "it replaces a document that Relais has not sent to the DMP: its registry entry is not known"
        raise RelaisError(Issue("error", "not-supported", message, "ClinicalDocument/relatedDocument", "ITI-41, RPLC"))


# --- what is sent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the consignments of one order."""

    document: IssuedDocument
    model: Document
    wanted: Wanted
    settings: Settings
    now: datetime
    annulled: Mapping[str, str]  # Message-ID of the former version, by mailbox
    looked_up: Mapping[str, str]  # the carrier in whose care team, by mailbox
    shown_anew: frozenset[str]  # channels to which only the visibility changes
    dmp_is_fed: bool  # by Relais: the platform is not asked to do so again
    fed_by_platform: Sequence[str]  # versions that the DMP has from a platform, newest first

    def consignment(self, channel: str, mailboxes: tuple[str, ...]) -> Consignment:
        """What one receiver is sent. Raises RelaisError for what the HL7 v2 volet does not let a message say."""
        entry = document_entry(
            self.model,
            self.document.content,
            entry_id=entry_uuid(self.document.key) if channel in gate.REPLACING else "Document01",
            uri="DOC00001.XML" if channel == "mss" else None,
            destination=_DESTINATIONS.get(channel, "mss"),
        )
        hidden = tuple(visibility.MASKS[audience] for audience in self.wanted.hidden_from)
        entry = replace(entry, confidentiality=(*entry.confidentiality, *hidden))
        lot = submission_set(
            self.model,
            unique_id=f"2.25.{uuid.uuid4().int}",
            source_id=self.settings.source_oid,
            time=self.now,
            content_type=usual_content_type(
                entry.facility_type, CodedValue(self.settings.facility_type, "", SECTOR_SYSTEM)
            ),
            author=self._sender(channel, entry.authors),
        )
        domain = self.settings.mss_sender.rpartition("@")[2] or "relais.invalid"
        asked = self.wanted.acknowledgements
        made = Consignment(
            Submission(lot, (entry,), self._replacing(channel, entry.entry_id)),
            mailboxes,
            f"<{uuid.uuid4()}@{domain}>",
            EVERY_ACKNOWLEDGEMENT if asked is None else asked,
            self.annulled.get(mailboxes[0], "") if channel == "mss" else "",
            self.looked_up.get(mailboxes[0], "") if channel == "mss" else "",
            secret=bool(self.wanted.secret) and channel in ("dmp", "hl7v2"),
            visibility_only=channel in self.shown_anew,
            as_before=self.wanted.as_before,
            dmp_is_fed=self.dmp_is_fed,
        )
        return self._as_platform_answers(made) if channel == "hl7v2" else made

    def _replacing(self, channel: str, entry_id: str) -> tuple[Association, ...]:
        """To the DMP: the replacement of the version that it has from a platform; the worker knows those of Relais."""
        former = next((key for key in self.fed_by_platform if key != self.document.key), None)
        if channel != "dmp" or self.wanted.intent == "withdraw" or former is None:
            return ()
        return (Association(REPLACE, entry_id, f"urn:oid:{former}"),)

    def _sender(self, channel: str, authors: Sequence[MetadataAuthor]) -> MetadataAuthor:
        """Who sends the lot: the DMP takes none without the settings that say who answers for what others wrote."""
        if channel != "dmp":
            return lot_author.sender_if_known(authors, self.settings)
        try:
            found = lot_author.sender(authors, self.settings)
            vihf.sender(found, self.settings)
        except DeliveryError as error:
            raise RelaisError(error.issues) from error
        if self.wanted.intent == "withdraw" and not lot_author.may_change(found, authors):
            message = (
                "the DMP lets the author of a document or the structure of the author withdraw it: neither is that of"
                " the settings (organization_finess, responsible_rpps)"
            )
            raise RelaisError(Issue("error", "business-rule", message, "intent", "LocalPolicyRestrictionError"))
        return found

    def _as_platform_answers(self, made: Consignment) -> Consignment:
        """The consignment with the acknowledgements that a platform can give; what it could not make is refused now.

        Reception is said of the DMP and of mailboxes, reading of mailboxes alone.
        """
        flags = self._order_of(made).flags
        if flags.secret_connection and not flags.to_dmp:
            message = (
                "a secret connection is one to the DMP, which the platform is not asked to feed with this document"
            )
            raise RelaisError(Issue("error", "business-rule", message, "secretConnection", visibility.MINORS_RULE))
        given = hl7v2.acknowledgements(flags)
        named = self.wanted.acknowledgements or ()
        if "mss" not in self.wanted.channels and self.wanted.intent != "withdraw" and not set(named) <= set(given):
            message = "nobody can say so: the message goes to no mailbox, and reading is said by mailboxes alone"
            raise RelaisError(Issue("error", "business-rule", message, "acknowledgement", "HL7v2 volet: Z01, Z02, Z03"))
        kept = tuple(one for one in made.acknowledgements if one in given)
        made = replace(made, acknowledgements=kept, feeds_dmp=flags.to_dmp)
        order = self._order_of(made)
        if self.settings.hl7v2_strict and not is_listed(order.flags):
            message = "not a combination of destinations and visibility that the HL7 v2 volet lists"
            raise RelaisError(Issue("error", "business-rule", message, "hideFrom", "HL7v2 volet: M1 to M3"))
        compose(self.model, self.document.content, order, hl7v2.policy_of(self.settings))
        return made

    def _order_of(self, made: Consignment) -> TransmissionOrder:
        shipment = Shipment(
            self.document.content,
            made.submission,
            made.recipients,
            made.message_id,
            "withdraw" if self.wanted.intent == "withdraw" else "send",
            made.acknowledgements,
            secret=made.secret,
            visibility_only=made.visibility_only,
            dmp_is_fed=made.dmp_is_fed,
        )
        return hl7v2.order_of(shipment, self.model, self.settings)


INTENTS: tuple[Intent, ...] = get_args(Intent)
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
