"""Mails that were received: kept as they came, then read once: reports, XDM archives to import, anything else.

Référentiel socle MSSanté #2 (receiving), CI-SIS volet Échange de documents de santé (checks of the receiver). A mail is
stored before anything parses it. What it brings, the answer it asks for and its new state are written in one
transaction. The same message again (its Message-ID and its documents) changes nothing. A mail that cannot be imported
is quarantined with the reason; so is one whose reading broke off several times, so that none is tried for ever.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Literal

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    and_,
    insert,
    or_,
    select,
    update,
)

from relais.cda import reader, xdm
from relais.cda.errors import Issue, RelaisError
from relais.mappings.document_metadata import check_archive
from relais.server import document_imports
from relais.server.delivery import acknowledgements, mail_reports, retention
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.mail_reports import Reader, Refusal, Report
from relais.server.delivery.mail_submission import Envelope, SubmissionClient
from relais.server.delivery.story import write_task
from relais.server.delivery.trust_space import TrustSpace
from relais.server.delivery.visibility import Audience, hidden_by
from relais.server.faults import described
from relais.server.fhir.repository import Repository, Transaction
from relais.server.patient_matching import RULE as PATIENT_RULE
from relais.server.settings import Settings
from relais.server.store.errors import StoreError, VersionConflictError
from relais.server.store.schema import Bytewise, Key, metadata
from relais.server.store.store import to_microseconds

log = logging.getLogger("relais.mailbox")

State = Literal["new", "imported", "report", "other", "duplicate", "quarantined"]
"""`other`: neither a report nor an archive, for people to read."""

MOST_TRIES = 3
_LONGEST_NAME = 998  # characters of a line, RFC 5322 §2.1.1
_ANSWER_AGAIN = timedelta(minutes=1)
_ARCHIVE_TYPES = ("application/zip", "application/x-zip-compressed", "application/octet-stream")

received_table = Table(
    "received_mail",
    metadata,
    Column("key", Key, primary_key=True, autoincrement=True),
    Column("mailbox", Bytewise, nullable=False),
    Column("validity", BigInteger, nullable=False),  # UIDVALIDITY
    Column("uid", BigInteger, nullable=False),
    Column("message_id", Bytewise, nullable=False),
    Column("content", LargeBinary, nullable=False),  # empty once the retention is over
    Column("received", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("documents", LargeBinary),  # JSON: names and SHA-256 of the documents imported
    Column("answer", LargeBinary),  # the MDN that is owed
    Column("answer_to", Bytewise),
    Column("answer_due", BigInteger),  # NULL: none is owed any more
    UniqueConstraint("mailbox", "validity", "uid"),
    sqlite_autoincrement=True,
)
Index("received_mail_by_message", received_table.c.message_id, received_table.c.mailbox)
Index("received_mail_owed", received_table.c.answer_due)

Filing = Callable[[Transaction], object]
"""Stores a document as FHIR with its bytes, once; a RelaisError it raises quarantines the mail."""
Reading = Callable[[bytes, Collection[Audience]], Filing]
"""Reads a document and from whom its metadata hide it, outside any transaction; a RelaisError quarantines the mail."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it lies in a mailbox: `validity` and `uid` name it there (RFC 3501 §2.3.1.1)."""

    mailbox: str
    validity: int
    uid: int
    content: bytes


class MailInbox:
    """Takes mails one at a time; several processes may share one mailbox."""

    def __init__(self, repository: Repository, settings: Settings, read_document: Reading) -> None:
        """Raises RelaisError when the trust space cannot be read."""
        self._repository = repository
        self._settings = settings
        self._trust = TrustSpace.of(settings)
        self._read_document = read_document
        self._retention = retention.of_mails(settings)
        self._client = SubmissionClient(settings)

    def take(self, mail: Mail) -> State:
        """Keep a mail and do what it asks for; its state afterwards, `new` when it is to be tried again.

        Raises StoreError or VersionConflictError when the store cannot serve now.
        """
        key, state, tries = self._keep(mail)
        if state != "new":
            return state
        if tries > MOST_TRIES:
            return self._quarantine(key, mail, "processing", f"reading it broke off {MOST_TRIES} times", None)
        try:
            return self._read(key, mail)
        except (StoreError, VersionConflictError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a mail does, the others are read
            log.error("mail %d: a fault of Relais: %s", key, described(error))
            return "new"

    def refuse(self, mail: Mail, reason: str) -> State:
        """Quarantine a mail that was not fetched whole: `content` is its headers."""
        key, state, _ = self._keep(mail)
        return self._quarantine(key, mail, "too-long", reason, None) if state == "new" else state

    def known(self, mailbox: str, validity: int, first: int) -> dict[int, State]:
        """The states of the mails of a mailbox from the uid `first` on that were taken."""
        mine = (
            received_table.c.mailbox == mailbox,
            received_table.c.validity == validity,
            received_table.c.uid >= first,
        )
        with self._repository.snapshot() as connection:
            rows = connection.execute(select(received_table.c.uid, received_table.c.state).where(*mine)).all()
        return {row.uid: row.state for row in rows}

    def answer(self) -> int:
        """Send the MDN that are owed; how many were taken by the mail server."""
        now, sent = self._repository.clock(), 0
        due = received_table.c.answer_due
        soon = to_microseconds(now + 2 * _ANSWER_AGAIN)  # put off before the clock was set back
        with self._repository.snapshot() as connection:
            owed = connection.execute(
                select(received_table.c.key, received_table.c.answer, received_table.c.answer_to, due).where(
                    or_(due <= to_microseconds(now), due > soon)
                )
            ).all()
        for row in owed:
            if not self._claim(row.key, row.answer_due, now):
                continue
            try:
                self._client.submit(Envelope("", (row.answer_to,)), row.answer)
            except DeliveryError as error:
                log.warning("mail %d: its answer could not be sent: %s", row.key, error)
                if error.retry:
                    continue
            else:
                sent += 1
            self._write(row.key, {"answer_due": None})
        return sent

    def _claim(self, key: int, due: int, now: datetime) -> bool:
        """Put an answer off, so that no other reader sends it meanwhile; False when one has."""
        claim = update(received_table).where(received_table.c.key == key, received_table.c.answer_due == due)
        with self._repository.transaction() as transaction:
            later = to_microseconds(now + _ANSWER_AGAIN)
            return transaction.connection.execute(claim.values(answer_due=later)).rowcount == 1

    def forget(self) -> None:
        """Now and then, erase the mails whose retention is over."""
        with self._repository.transaction() as transaction:
            limit = self._retention.limit(transaction.connection, self._repository.clock())
            if limit is not None:
                forget(transaction.connection, limit)

    def close(self) -> None:
        """End the connections to the submission server."""
        self._client.close()

    # --- keeping ---

    def _keep(self, mail: Mail) -> tuple[int, State, int]:
        """Store the mail if it is new, and count the try: its key, its state, its tries."""
        with self._repository.transaction() as transaction:
            transaction.exclusively(f"mailbox {mail.mailbox}")
            connection = transaction.connection
            named = _named(mail.mailbox, mail.validity, mail.uid)
            if connection.scalar(select(received_table.c.key).where(named)) is None:
                values = {
                    "mailbox": mail.mailbox,
                    "validity": mail.validity,
                    "uid": mail.uid,
                    "message_id": _message_id(mail.content),
                    "content": mail.content,
                    "received": to_microseconds(transaction.now),
                    "tries": 0,
                    "state": "new",
                }
                connection.execute(insert(received_table), values)
            tries = received_table.c.tries
            connection.execute(
                update(received_table).where(named, received_table.c.state == "new").values(tries=tries + 1)
            )
            row = connection.execute(select(received_table.c.key, received_table.c.state, tries).where(named)).one()
        return row.key, row.state, row.tries

    def _write(self, key: int, values: dict[str, object]) -> None:
        with self._repository.transaction() as transaction:
            transaction.connection.execute(update(received_table).where(received_table.c.key == key).values(values))

    def _quarantine(self, key: int, mail: Mail, code: str, reason: str, refusal: Refusal | None) -> State:
        """Set a mail aside; whoever sent it is told when they asked to be, and `refusal` is a reason for them."""
        values: dict[str, object] = {"state": "quarantined", "reason": f"{code}: {reason}"}
        if refusal is not None:
            values |= self._owed_answer(mail, refusal)
        self._write(key, values)
        log.warning("mail %d of %s is quarantined: %s", key, mail.mailbox, code)
        return "quarantined"

    # --- reading ---

    def _read(self, key: int, mail: Mail) -> State:
        try:
            return self._process(key, mail)
        except (StoreError, VersionConflictError):
            raise
        except RelaisError as error:
            return self._quarantine(key, mail, "invalid", "; ".join(map(str, error.issues)), _refusal(error))

    def _process(self, key: int, mail: Mail) -> State:
        message = mail_reports.parse(mail.content)
        reports, archives = mail_reports.read_reports(message), _archives(message)
        if self._is_report(message, reports, bool(archives)):
            return self._report(key, message, reports)
        if not archives:
            if mail_reports.is_xdm(message) and not mail_reports.is_automatic(message):
                raise _wrong("the subject announces an XDM archive, none is attached", "xdm.archive")
            self._write(key, {"state": "other"})
            return "other"
        if not self._comes_from_the_trust_space(message):
            raise DistrustedError("the sender is outside the trust space")
        return self._import(key, mail, archives)

    def _is_report(self, message: EmailMessage, reports: Sequence[Report], brings_archive: bool) -> bool:
        """An archive is only passed over for a report by its form, or for one about a message of ours."""
        if message.get_content_type() == "multipart/report":
            return True
        if not brings_archive:
            return bool(reports)
        with self._repository.snapshot() as connection:
            return any(acknowledgements.recipients(connection, report.message_id) for report in reports)

    def _report(self, key: int, message: EmailMessage, reports: Sequence[Report]) -> State:
        """Note a report with the delivery it is about, and in its Task. Raises DistrustedError."""
        told = [report for report in reports if report.outcome != "waiting"]
        with self._repository.transaction() as transaction:
            ours = [one for one in told if acknowledgements.recipients(transaction.connection, one.message_id)]
            tasks: list[str] = []
            for report in ours:
                tasks += self._record(transaction, message, report)
            if ours and not tasks:
                raise DistrustedError("the report is of none who could know")
            for task in dict.fromkeys(tasks):
                write_task(transaction, task)
            reason = None if tasks else "about no message of ours"
            mine = update(received_table).where(received_table.c.key == key)
            transaction.connection.execute(mine.values(state="report", reason=reason))
        return "report"

    def _record(self, transaction: Transaction, message: EmailMessage, report: Report) -> list[str]:
        """The Tasks to write again; none for a report that is not believed.

        Only the mailbox that a message was sent to says that it was read or refused. A mail server says what it did
        with the message for a mailbox, and what it could not deliver stays undelivered.
        """
        who = mail_reports.senders(message)
        if report.kind == "reading":
            believed = self._comes_from_the_trust_space(message)
            recipient = who[0] if believed else ""
        else:
            believed = self._comes_from_the_trust_space(message) or self._comes_from_our_operator(who)
            recipient = report.recipient
        if not believed:
            return []
        return acknowledgements.record(
            transaction.connection,
            report.message_id,
            report.kind,
            positive=report.outcome == "positive",
            detail=report.detail,
            now=transaction.now,
            recipient=recipient,
            keep_refusal=report.kind == "reception",
        )

    def _comes_from_the_trust_space(self, message: EmailMessage) -> bool:
        """Only mailboxes of the trust space are believed, and only one of them sends a mail."""
        who = mail_reports.senders(message)
        return len(who) == 1 and self._trust.holds(who[0])

    def _comes_from_our_operator(self, who: Sequence[str]) -> bool:
        """Whether a mail is of the mail server that we submit to."""
        host = self._settings.mss_host.lower()
        return len(who) == 1 and bool(host) and who[0].rpartition("@")[2].lower() == host

    def _import(self, key: int, mail: Mail, archives: Sequence[bytes]) -> State:
        if len(archives) > 1:
            raise _wrong(f"one XDM archive is expected, {len(archives)} are attached", "xdm.archive")
        archive = xdm.unpack(archives[0])
        _refuse_errors(check_archive(archive))
        if any(packed.entry.mime_type not in xdm.CDA_MIME_TYPES for packed in archive.documents):
            raise _wrong("a document of the archive is no CDA: nothing else is imported", "xdm.not-cda")
        documents = [packed.data for packed in archive.documents]
        _check_patients(documents, self._settings)
        filings = [
            self._read_document(packed.data, hidden_by(packed.entry.confidentiality)) for packed in archive.documents
        ]
        brought = sorted(hashlib.sha256(document).hexdigest() for document in documents)
        with self._repository.transaction() as transaction:
            transaction.exclusively(f"mail {_message_id(mail.content)}")
            state = self._known(transaction, key, mail, brought)
            values: dict[str, object] = {"state": state, "documents": msgspec.json.encode(brought)}
            if state == "imported":
                for file in filings:
                    file(transaction)
                values |= self._owed_answer(mail, None)
            transaction.connection.execute(update(received_table).where(received_table.c.key == key).values(values))
        return state

    def _known(self, transaction: Transaction, key: int, mail: Mail, brought: list[str]) -> State:
        """Whether the same message was imported before. Raises RelaisError when it brought something else."""
        others = transaction.connection.scalars(
            select(received_table.c.documents).where(
                received_table.c.message_id == _message_id(mail.content),
                received_table.c.mailbox == mail.mailbox,
                received_table.c.key != key,
                received_table.c.state == "imported",
            )
        ).all()
        if any(msgspec.json.decode(other) != brought for other in others):
            raise _wrong("another message was imported under this Message-ID", "RFC 5322")
        return "duplicate" if others else "imported"

    def _owed_answer(self, mail: Mail, refusal: Refusal | None) -> dict[str, object]:
        """The MDN that is owed, where one was asked for."""
        to = mail_reports.answer_to(mail_reports.parse(mail.content))
        if not to or not self._trust.holds(to):
            return {}
        settings = self._settings
        who = Reader(mail.mailbox, settings.deployment.software_name, settings.mss_product_reference)
        now = self._repository.clock()
        answer = mail_reports.notification(mail.content, who, now, refusal).as_bytes()
        return {"answer": answer, "answer_to": to, "answer_due": to_microseconds(now)}


def forget(connection: Connection, before: datetime) -> int:
    """Erase the bytes of mails that were received before that time, dealt with and answered; how many there were.

    That a mail came, what it brought and why it was set aside stay told.
    """
    held = received_table.c.content != b""
    old = (received_table.c.received < to_microseconds(before), received_table.c.state != "new")
    done = update(received_table).where(*old, received_table.c.answer_due.is_(None), held)
    return connection.execute(done.values(content=b"", answer=None)).rowcount


class DistrustedError(RelaisError):
    """A sender who is not believed: nothing is imported or noted, and nothing is answered."""

    def __init__(self, message: str) -> None:
        super().__init__(Issue("error", "security", message, "From", "MSSanté"))


def _named(mailbox: str, validity: int, uid: int) -> ColumnElement[bool]:
    return and_(received_table.c.mailbox == mailbox, received_table.c.validity == validity, received_table.c.uid == uid)


def _message_id(content: bytes) -> str:
    """The Message-ID of a mail as it is written; an odd one is named by its hash, a mail without one by its own."""
    head = content[: content.find(b"\r\n\r\n") + 1 or len(content)]
    found = str(BytesHeaderParser(policy=compat32).parsebytes(head).get("Message-ID", "")).strip()
    if found.isascii() and found.isprintable() and 0 < len(found) <= _LONGEST_NAME:
        return found
    named = found.encode("utf-8", "backslashreplace") or content
    return f"sha256:{hashlib.sha256(named).hexdigest()}"


def _archives(message: EmailMessage) -> list[bytes]:
    """The XDM archives of a mail, of a forwarded one too, whatever the case of their name."""
    return [
        data
        for part in message.walk()
        if part.get_content_type() in _ARCHIVE_TYPES and (part.get_filename() or "").upper() == xdm.ARCHIVE_NAME
        if isinstance(data := part.get_payload(decode=True), bytes)
    ]


def _check_patients(documents: Sequence[bytes], settings: Settings) -> None:
    """One person, whose INS belongs to this environment: production and test never meet."""
    people = set()
    for content in documents:
        document = reader.read(content).document
        document_imports.refuse_other_environment(document, settings.deployment)
        people.add(frozenset((ii.root, ii.extension) for ii in document.header.patient.ids))
    if len(people) > 1:
        raise _wrong("the documents are not all of one person", "ECO.2.1.1")


def _refuse_errors(issues: Sequence[Issue]) -> None:
    errors = [issue for issue in issues if issue.severity in ("fatal", "error")]
    if errors:
        raise RelaisError(errors)


def _refusal(error: RelaisError) -> Refusal | None:
    """What the sender is told; a sender who is not believed is told nothing."""
    if isinstance(error, DistrustedError):
        return None
    doubted = any(issue.rule == PATIENT_RULE for issue in error.issues)
    return Refusal("904" if doubted else "906", tuple(_reasons(error)))


def _reasons(error: RelaisError) -> Iterator[str]:
    for issue in error.issues[:10]:
        yield f"{issue.rule or issue.code}: {issue.message}"


def _wrong(message: str, rule: str) -> RelaisError:
    return RelaisError(Issue("error", "invalid", message, "", rule))
