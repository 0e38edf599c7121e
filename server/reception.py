"""What comes in by mail and by HL7 v2: documents are filed as FHIR with their bytes, receipts find their order.

The processes `relais mailbox` and `relais hl7v2` run it, each beside any number of facades and workers on one database.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec
from sqlalchemy import select

from relais.cda.errors import Issue, RelaisError
from relais.mappings.hl7v2.reading import Received
from relais.mappings.hl7v2.zam import Trigger, Zam
from relais.server import document_imports, documents, patient_matching
from relais.server.conformance import Conformance
from relais.server.delivery import acknowledgements, tls, zam_answers
from relais.server.delivery.channel import Acknowledgement
from relais.server.delivery.hl7v2 import beginning_of_message_id, policy_of
from relais.server.delivery.hl7v2_inbox import Inbox
from relais.server.delivery.mail_inbox import Filing, MailInbox
from relais.server.delivery.mailbox import Mailbox
from relais.server.delivery.mllp import MllpServer
from relais.server.delivery.outbox import Consignment, delivery_table
from relais.server.delivery.story import write_task
from relais.server.delivery.visibility import AUDIENCES, Audience
from relais.server.fhir.repository import Repository, Transaction
from relais.server.fhir.write_policy import WritePolicy
from relais.server.settings import Settings
from relais.server.store import Store
from relais.server.terminology import ServerTerminology

_BY_MAILBOX: dict[Acknowledgement, Trigger] = {"reception": "Z02", "reading": "Z03"}
_KINDS: dict[Trigger, Acknowledgement] = {"Z01": "reception", "Z02": "reception", "Z03": "reading"}


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Repository]:
    """The stored resources, under the rules that the facade writes by. Raises RelaisError."""
    store = Store.open(settings.database_url)
    try:
        yield repository_of(settings, store)
    finally:
        store.close()


def repository_of(settings: Settings, store: Store) -> Repository:
    """What is received is judged as what clients write; a Task may name a plan that was deleted after it was sent."""
    conformance = Conformance.load(settings)
    conformance.settle(store)
    return Repository(
        store,
        settings.fhir_base,
        check_references=False,
        judge=WritePolicy.of(settings, conformance),
        terminology=ServerTerminology(conformance.registry, settings.fhir_base),
    )


# --- mail -------------------------------------------------------------------------------------------------------------


def addresses(settings: Settings) -> list[str]:
    """The mailboxes that are read. Raises RelaisError when the settings name none."""
    named = [address.strip() for address in (settings.mailboxes or settings.mss_sender).split(",") if address.strip()]
    if not named:
        raise RelaisError(Issue("fatal", "required", "no mailbox to read: set mailboxes, or mss_sender", "mailboxes"))
    return named


def read_mailboxes(repository: Repository, settings: Settings, stop: threading.Event) -> None:
    """Read every mailbox of the settings until `stop` is set, each in a thread. Raises RelaisError."""
    inbox = MailInbox(repository, settings, file_document)
    boxes = [Mailbox(settings, address, inbox) for address in addresses(settings)]
    threads = [threading.Thread(target=box.run, args=(stop,), name="mailbox") for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inbox.close()


def read_mailboxes_once(repository: Repository, settings: Settings) -> int:
    """Take what is in the mailboxes now; how many mails. Raises RelaisError for a mailbox that cannot be read."""
    inbox = MailInbox(repository, settings, file_document)
    try:
        return sum(Mailbox(settings, address, inbox).read_once() for address in addresses(settings))
    finally:
        inbox.close()


def file_document(content: bytes, hidden_from: Collection[Audience] = (), *, only_them: bool = False) -> Filing:
    """Read a document that was received: what files it, once, hidden as `document_imports.receive` says.

    Both raise RelaisError, doubts about its patient too.
    """
    document = document_imports.receive(content, hidden_from, only_them=only_them)
    return lambda transaction: document_imports.file(transaction, document)


# --- HL7 v2 -----------------------------------------------------------------------------------------------------------


def hl7v2_server(repository: Repository, settings: Settings) -> MllpServer:
    """The listener of the settings, not started. Raises RelaisError when its certificate cannot be used."""
    inbox = Inbox(repository, policy_of(settings), take_document, take_zam)
    return MllpServer(
        inbox.answer,
        host=settings.hl7v2_listen_host,
        port=settings.hl7v2_listen_port,
        timeout=settings.hl7v2_listen_timeout,
        context=_listening_context(settings),
        max_connections=settings.hl7v2_listen_connections,
        memory=settings.hl7v2_listen_memory,
    )


def listen_hl7v2(repository: Repository, settings: Settings, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Receive HL7 v2 messages until `stop` is set. Raises RelaisError, OSError when the port is taken."""
    with hl7v2_server(repository, settings) as server:
        say(f"HL7 v2 on {server.host}:{server.port}")
        stop.wait()


_LISTENING = ("hl7v2_listen_certificate", "hl7v2_listen_ca_file", "hl7v2_listen_crl_file")


def _listening_context(settings: Settings) -> Callable[[], ssl.SSLContext] | None:
    """What makes the TLS of each connection, tried once. Raises RelaisError."""
    certificate, ca_file, crl_file = files = [getattr(settings, name) for name in _LISTENING]
    if ca_file and not certificate:
        message = "client certificates can only be demanded under TLS"
        raise RelaisError(Issue("fatal", "required", message, "hl7v2_listen_certificate", "TLS"))
    if crl_file and not ca_file:
        message = "revocation lists are for client certificates, which are not demanded"
        raise RelaisError(Issue("fatal", "required", message, "hl7v2_listen_ca_file", "TLS"))
    if not certificate:
        return None
    for name, path in zip(_LISTENING, files, strict=True):
        if path and not Path(path).is_file():
            raise RelaisError(Issue("fatal", "not-found", "no such file", name, "TLS"))
    try:
        tls.server_context(certificate, ca_file, crl_file)
    except OSError as error:
        message = "the certificate, its key, the authorities or the revocation lists cannot be used"
        raise RelaisError(Issue("fatal", "invalid", message, "hl7v2_listen_certificate", "TLS")) from error
    return lambda: tls.server_context(certificate, ca_file, crl_file)


def take_document(received: Received) -> Filing:
    """Read the document of a message: what files it, or marks it as entered in error. Both raise RelaisError."""
    if received.order.action != "delete":
        flags = received.order.flags
        hidden = [audience for audience in AUDIENCES if getattr(flags, f"hidden_from_{audience}")]
        return file_document(received.document, hidden, only_them=flags.visibility_change_only)
    document = document_imports.receive(received.document)
    return lambda transaction: _withdraw(transaction, document)


def _withdraw(transaction: Transaction, document: document_imports.Received) -> None:
    """Mark a document that was received as entered in error: these bytes, of the patient it is filed with.

    Raises RelaisError, when it is not known here, when it was issued here, or when it is another one.
    """
    reference_id = document.first("DocumentReference")["id"]
    transaction.exclusively(f"import of {reference_id}")
    stored = transaction.current("DocumentReference", reference_id)
    if stored is None or stored.deleted:
        raise _refused("not-found", "the document to delete is not known here")
    if documents.register(transaction.connection, document.data, transaction.now).carrier:
        raise _refused("forbidden", "the document to delete was issued here")
    reference = transaction.load("DocumentReference", reference_id)
    matched = patient_matching.match(transaction, document.first("Patient"))
    if matched is not None and reference.get("subject", {}).get("reference") != f"Patient/{matched}":
        raise _refused("conflict", "the document to delete is filed with another patient", patient_matching.RULE)
    if reference["status"] != "entered-in-error":
        transaction.update(reference | {"status": "entered-in-error"})


def _refused(code: str, message: str, rule: str = "hl7v2.inbox") -> RelaisError:
    return RelaisError(Issue("error", code, message, rule=rule))


def take_zam(transaction: Transaction, zam: Zam) -> None:
    """Note a business acknowledgement with its delivery, beside what the other receivers of the message have said.

    One that refuses makes the acknowledgement negative; it is positive once every mailbox has said yes, or the DMP
    where there are no mailboxes. Raises RelaisError when it is about no message of ours, or of a mailbox that the
    message did not go to.
    """
    message_id = _message_id(transaction, zam.acknowledges)
    if message_id is None:
        message = "no message was sent under this MSH-10"
        raise RelaisError(Issue("error", "not-found", message, "OBX[1]-4", "hl7v2.zam"))
    transaction.exclusively(f"acknowledgements of {message_id}")
    connection, kind = transaction.connection, _KINDS[zam.trigger]
    for delivery, task, mailboxes in _deliveries(transaction, message_id):
        if zam.mailbox and zam.mailbox.lower() not in mailboxes:
            message = "the message did not go to this mailbox"
            raise RelaisError(Issue("error", "not-found", message, "OBX[2]-5", "hl7v2.zam"))
        known = acknowledgements.of_delivery(connection, delivery)
        said = zam_answers.said(known, kind) | {zam_answers.receiver(zam.trigger, zam.mailbox): zam_answers.answer(zam)}
        left = mailboxes - zam_answers.refusing(known, mailboxes) if kind == "reading" else mailboxes
        awaited = {zam_answers.receiver(_BY_MAILBOX[kind], mailbox) for mailbox in left}
        awaited = awaited or {zam_answers.receiver("Z01")}
        state: acknowledgements.Answer | None = "positive" if awaited <= said.keys() else None
        if any(answer != zam_answers.YES for answer in said.values()):
            state = "negative"
        acknowledgements.write(connection, delivery, kind, state, zam_answers.written(said), transaction.now)
        known = acknowledgements.of_delivery(connection, delivery)
        if mailboxes and mailboxes == zam_answers.refusing(known, mailboxes):
            acknowledgements.await_no_reading(connection, delivery)
        write_task(transaction, task)


def _deliveries(transaction: Transaction, message_id: str) -> list[tuple[int, str, frozenset[str]]]:
    """The deliveries of a message: key, Task, and the mailboxes it went to in lower case."""
    columns = (delivery_table.c.key, delivery_table.c.task, delivery_table.c.consignment)
    rows = transaction.connection.execute(select(*columns).where(delivery_table.c.message_id == message_id)).all()
    return [(row.key, row.task, frozenset(map(str.lower, _recipients(row.consignment)))) for row in rows]


_read_consignment = msgspec.json.Decoder(Consignment).decode


def _recipients(consignment: bytes) -> tuple[str, ...]:
    return _read_consignment(consignment).recipients


def _message_id(transaction: Transaction, control_id: str) -> str | None:
    """The message id of the delivery whose MSH-10 that is."""
    beginning = beginning_of_message_id(control_id)
    if not beginning:
        return None
    column = delivery_table.c.message_id
    found: str | None = transaction.connection.scalar(
        select(column).where(column >= beginning, column < f"{beginning}~", delivery_table.c.channel == "hl7v2")
    )
    return found
