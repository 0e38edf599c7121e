"""Mailboxes that are read over IMAP: documents filed, receipts with their order, what is set aside, what breaks off."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import io
import ssl
import threading
import time
import zipfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from relais.cda import templates
from relais.cda.model import Document
from relais.mappings.context import Resource
from relais.server import reception
from relais.server.delivery import mail_inbox
from relais.server.delivery.channel import DeliveryError, Shipment
from relais.server.delivery.mail_inbox import Mail, MailInbox, received_table
from relais.server.delivery.mailbox import Mailbox
from relais.server.delivery.mss import MssChannel
from relais.server.delivery.service import worker
from relais.server.delivery.transmit import Wanted, transmit_document
from relais.server.delivery.visibility import MASKS, Audience, hidden_by_labels
from relais.server.sandbox.imap_server import ImapFault
from relais.server.sandbox.mail_reports import MdnForm, delivery_report, read_receipt
from relais.server.sandbox.mail_server import MailFault
from relais.server.search import search
from relais.server.settings import Settings
from relais.server.store import Store
from support.documents import small_document
from support.mails import message_of
from support.operator import SENDER, Operator, operator
from support.shipments import NURSE, PATIENT_ID, PROFESSIONAL, other_document, small_shipment, with_entry

DONE, QUARANTINE = "Relais-traites", "Relais-quarantaine"


class Office:
    """A Relais that sends as SENDER and reads the mailboxes of the settings."""

    def __init__(self, post: Operator, store: Store, **changes: Any) -> None:
        self.post = post
        self.settings = post.settings(**({"mailboxes": NURSE, "fhir_packages": "none"} | changes))
        self.repository = reception.repository_of(self.settings, store)
        self.channel = MssChannel(self.settings)

    def read(self) -> int:
        """Take what is in the mailboxes."""
        return reception.read_mailboxes_once(self.repository, self.settings)

    def send(self, document: Document | None = None, number: int = 1) -> None:
        """Submit a document to the nurse."""
        shipment = replace(small_shipment(document, recipients=(NURSE,)), message_id=f"<{number}@relais.mssante.fr>")
        self.channel.send(shipment)
        self.post.mail.settle()

    def deliver(self, content: bytes | EmailMessage, sender: str = SENDER) -> None:
        """Put a mail into the nurse's mailbox, whatever the operator would say."""
        data = content if isinstance(content, bytes) else content.as_bytes()
        self.post.mail.mailboxes.deliver(NURSE, data, sender=sender)

    def rows(self) -> list[tuple[str, str | None]]:
        """State and reason of every mail."""
        with self.repository.snapshot() as connection:
            rows = connection.execute(
                select(received_table.c.state, received_table.c.reason).order_by(received_table.c.key)
            )
            return [(row.state, row.reason) for row in rows]

    def states(self) -> list[str]:
        return [state for state, _ in self.rows()]

    def filed(self) -> int:
        """DocumentReferences of the store."""
        with self.repository.snapshot() as connection:
            return len(search(connection, self.repository.base, "DocumentReference", []).matches)

    def folder(self, name: str) -> int:
        return len(self.post.mail.mailboxes.contents(NURSE, name))


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Operator]:
    with operator(tmp_path) as running:
        yield running


@pytest.fixture
def office(post: Operator, store: Store) -> Iterator[Office]:
    made = Office(post, store)
    yield made
    made.channel.close()


@pytest.fixture
def quick_office(post: Operator, tmp_path: Path) -> Iterator[Office]:
    """An office on SQLite alone, where the store is not what matters."""
    store = Store.open(f"sqlite:///{tmp_path / 'office.sqlite'}")
    made = Office(post, store)
    yield made
    made.channel.close()
    store.close()


def message(document: Document | None = None, number: int = 1) -> EmailMessage:
    return mail_of(replace(small_shipment(document, recipients=(NURSE,)), message_id=f"<{number}@relais.mssante.fr>"))


def mail_of(shipment: Shipment) -> EmailMessage:
    settings = Settings.of(
        {"mss_sender": SENDER, "mss_product_reference": "R", "organization_name": "DAC", "mss_pdf": False}
    )
    return message_of(shipment, settings)


def changed(name: str, value: str, number: int = 1) -> EmailMessage:
    found = message(number=number)
    del found[name]
    found[name] = value
    return found


# --- documents ------------------------------------------------------------------------------------------------------


def test_a_document_is_filed_and_its_receipt_sent(office: Office) -> None:
    office.send()
    assert office.read() == 1
    assert (office.states(), office.filed(), office.folder(DONE), office.folder("INBOX")) == (["imported"], 1, 1, 0)
    [receipt] = office.post.mail.reports()
    assert b"Disposition: automatic-action/MDN-sent-automatically; processed\r\n" in receipt
    with office.repository.snapshot() as connection:
        [content] = connection.scalars(select(received_table.c.content))
        assert content in office.post.mail.mailboxes.contents(NURSE, DONE)
        [found] = search(connection, office.repository.base, "DocumentReference", []).matches
    [binary] = [one for one in _contents(office, found.id) if one]
    assert binary == small_shipment().document
    assert office.read() == 0
    assert len(office.post.mail.reports()) == 1


def test_who_may_not_read_a_document_is_known_where_it_is_filed(office: Office) -> None:
    shipment = small_shipment(recipients=(NURSE,))
    level = shipment.submission.entries[0].confidentiality
    for number, audience in enumerate(("patient", "representatives"), 1):
        hidden = with_entry(shipment, confidentiality=(*level, MASKS[audience]))
        office.deliver(mail_of(replace(hidden, message_id=f"<{number}@relais.mssante.fr>")))
    office.deliver(mail_of(replace(shipment, message_id="<3@relais.mssante.fr>")))  # shows it to nobody else
    assert (office.read(), office.states()) == (3, ["imported"] * 3)
    with office.repository.snapshot() as connection:
        [found] = search(connection, office.repository.base, "DocumentReference", []).matches
    reference = office.repository.load("DocumentReference", found.id)
    assert hidden_by_labels(reference) == {"patient", "representatives"}
    assert next(label["coding"][0]["code"] for label in reference["securityLabel"]) == "N"


def _contents(office: Office, reference: str) -> list[bytes]:
    import base64

    resource: Resource = office.repository.load("DocumentReference", reference)
    urls = [content["attachment"]["url"] for content in resource["content"]]
    return [base64.b64decode(office.repository.load(*url.split("/")[-2:])["data"]) for url in urls]


def test_the_same_mail_again_changes_nothing(quick_office: Office) -> None:
    quick_office.post.mail.faults.play(MailFault.TWICE)
    quick_office.send()
    quick_office.read()
    quick_office.post.mail.mailboxes.folders(NURSE)["INBOX"].add(
        quick_office.post.mail.mailboxes.contents(NURSE, DONE)[0]
    )
    quick_office.post.mail.mailboxes.renumber(NURSE)  # a new UIDVALIDITY
    quick_office.read()
    assert quick_office.states() == ["imported", "duplicate", "duplicate"]
    assert (quick_office.filed(), quick_office.folder(DONE), len(quick_office.post.mail.reports())) == (1, 3, 1)


def test_another_document_under_the_same_message_id_is_set_aside(quick_office: Office) -> None:
    quick_office.deliver(message())
    quick_office.deliver(message(other_document(7)))
    quick_office.read()
    assert quick_office.states() == ["imported", "quarantined"]
    assert "another message was imported under this Message-ID" in (quick_office.rows()[1][1] or "")
    assert (quick_office.filed(), quick_office.folder(QUARANTINE)) == (1, 1)


def without_archive(found: EmailMessage) -> EmailMessage:
    del found["Content-Type"]
    found.set_content("rien")
    return found


@pytest.mark.parametrize(
    ("content", "reason", "answered"),
    [
        (lambda: changed("From", "intrus@exemple.fr"), "outside the trust space", False),
        (lambda: changed("From", "a@cabinet.mssante.fr, b@exemple.fr"), "outside the trust space", False),
        (lambda: message().as_bytes().replace(b"UEsDB", b"UEsDC"), "xdm.archive", True),
        (lambda: without_archive(message()), "none is attached", True),
    ],
)
def test_what_cannot_be_imported_is_set_aside_with_the_reason(
    quick_office: Office, content: Callable[[], EmailMessage | bytes], reason: str, answered: bool
) -> None:
    quick_office.deliver(content())
    quick_office.deliver(message(number=2))
    quick_office.read()
    [(state, told), (after, _)] = quick_office.rows()
    assert (state, reason in (told or ""), after) == ("quarantined", True, "imported")
    assert (quick_office.folder(QUARANTINE), quick_office.folder(DONE), quick_office.folder("INBOX")) == (1, 1, 0)
    refusals = [report for report in quick_office.post.mail.reports() if b"processed/error" in report]
    assert bool(refusals) == answered


@pytest.mark.parametrize(
    ("other", "reason"), [(None, "metadata do not say what the document says"), (b"%PDF-1.4", "is no CDA")]
)
def test_metadata_that_call_the_document_something_else_do_not_let_it_in(
    quick_office: Office, other: bytes | None, reason: str
) -> None:
    document = small_shipment().document
    changes = {b'mimeType="text/xml"': b'mimeType="application/pdf"'}
    if other is not None:
        changes |= {document: other, b">%d<" % len(document): b">%d<" % len(other), sha1(document): sha1(other)}
    found = message()
    [part] = [one for one in found.walk() if one.get_filename() == "IHE_XDM.ZIP"]
    packed, archive = io.BytesIO(part.get_payload(decode=True)), io.BytesIO()
    with zipfile.ZipFile(packed) as read, zipfile.ZipFile(archive, "w") as written:
        for name in read.namelist():
            written.writestr(name, reduce(lambda data, change: data.replace(*change), changes.items(), read.read(name)))
    part.set_payload(base64.encodebytes(archive.getvalue()).decode())
    inbox = MailInbox(quick_office.repository, quick_office.settings, reception.file_document)
    assert inbox.take(Mail(NURSE, 1, 1, found.as_bytes())) == "quarantined"
    assert reason in str(quick_office.rows())
    assert quick_office.filed() == 0


def sha1(data: bytes) -> bytes:
    """As XDS metadata write it."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()


@pytest.mark.parametrize(("environment", "root"), [("production", templates.INS_NIR_TEST), ("test", templates.INS_NIR)])
def test_an_ins_of_the_other_environment_does_not_enter(
    post: Operator, tmp_path: Path, environment: str, root: str
) -> None:
    document, patient = small_document(), PATIENT_ID.replace(templates.INS_NIR_TEST, root)
    document.header.patient.ids[0].root = root
    shipment = with_entry(small_shipment(document), patient_id=patient, source_patient_id=patient)
    lot = replace(shipment.submission.submission_set, patient_id=patient)
    shipment = replace(shipment, submission=replace(shipment.submission, submission_set=lot))
    with contextmanager(_opened)(tmp_path) as store:
        office = Office(post, store, ins_environment=environment)
        office.deliver(mail_of(shipment))
        office.read()
        [(state, reason)] = office.rows()
        assert (state, "an INS that may not enter" in (reason or "")) == ("quarantined", True)
        assert office.filed() == 0
        office.channel.close()


def _opened(folder: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{folder / 'store.sqlite'}")
    yield store
    store.close()


def test_a_mail_for_people_stays(quick_office: Office) -> None:
    quick_office.deliver(b"From: medecin@cabinet.mssante.fr\r\nSubject: Bonjour\r\n\r\nA demain\r\n")
    assert (quick_office.read(), quick_office.read()) == (1, 0)
    assert (quick_office.states(), quick_office.folder("INBOX")) == (["other"], 1)


def test_a_mail_too_large_is_not_fetched(post: Operator, tmp_path: Path) -> None:
    with contextmanager(_opened)(tmp_path) as store:
        office = Office(post, store, imap_max_size=2_000)
        office.deliver(message())
        office.read()
        [(state, reason)] = office.rows()
        assert (state, "2000 are fetched" in (reason or "")) == ("quarantined", True)
        office.channel.close()


def test_a_mail_that_breaks_the_reader_is_not_tried_for_ever(
    quick_office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(mail_inbox, "check_archive", fail)
    quick_office.deliver(message())
    for _ in range(mail_inbox.MOST_TRIES):
        quick_office.read()
        assert quick_office.states() == ["new"]
    quick_office.read()
    assert (quick_office.states(), quick_office.folder(QUARANTINE)) == (["quarantined"], 1)


@pytest.mark.parametrize("name", [b"<@>]", b"<a\0b@x.fr>", b"<" + b"a" * 5_000 + b"@x.fr>", "<\u00e9@x.fr>".encode()])
def test_a_message_id_that_is_none_keeps_no_mail_from_being_read(office: Office, name: bytes) -> None:
    head, _, rest = message().as_bytes().partition(b"Message-ID: <1@relais.mssante.fr>")
    assert rest
    inbox = MailInbox(office.repository, office.settings, reception.file_document)
    strange = head + b"Message-ID: " + name + rest
    assert [inbox.take(Mail(NURSE, 1, uid, strange)) for uid in (1, 2)] == ["imported", "duplicate"]


def test_a_mail_that_cannot_be_kept_does_not_hold_up_the_next(
    quick_office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = MailInbox.take

    def fail(inbox: MailInbox, mail: Mail) -> mail_inbox.State:
        if b"broken" in mail.content:
            raise IndexError
        return take(inbox, mail)

    monkeypatch.setattr(MailInbox, "take", fail)
    quick_office.deliver(b"Subject: broken\r\n\r\n")
    quick_office.deliver(message())
    assert (quick_office.read(), quick_office.states()) == (1, ["imported"])


def test_a_store_that_is_down_costs_no_mail(quick_office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    from relais.server.store.errors import StoreError

    def down(*_: object) -> None:
        raise StoreError("no store")

    inbox = MailInbox(quick_office.repository, quick_office.settings, down)
    with pytest.raises(StoreError):
        inbox.take(Mail(NURSE, 1, 1, message().as_bytes()))
    inbox = MailInbox(quick_office.repository, quick_office.settings, reception.file_document)
    assert inbox.take(Mail(NURSE, 1, 1, message().as_bytes())) == "imported"


def test_documents_are_read_while_the_store_is_free(quick_office: Office) -> None:
    def read(content: bytes, hidden_from: Collection[Audience]) -> mail_inbox.Filing:
        with ThreadPoolExecutor() as others:  # SQLite has one writer: nobody else could write inside a transaction
            others.submit(_write, quick_office).result(timeout=30)
        return reception.file_document(content, hidden_from)

    inbox = MailInbox(quick_office.repository, quick_office.settings, read)
    assert inbox.take(Mail(NURSE, 1, 1, message().as_bytes())) == "imported"


def _write(office: Office) -> None:
    with office.repository.transaction() as transaction:
        transaction.create({"resourceType": "Patient"})


@pytest.mark.parametrize("fault", [ImapFault.CUT_IN_FETCH, ImapFault.CUT_AFTER_MOVE])
def test_a_connection_that_breaks_loses_and_doubles_nothing(quick_office: Office, fault: ImapFault) -> None:
    quick_office.send()
    quick_office.post.imap.faults.play(fault)
    with pytest.raises(DeliveryError):
        quick_office.read()
    quick_office.read()
    assert (quick_office.states(), quick_office.filed(), quick_office.folder(DONE)) == (["imported"], 1, 1)
    assert len(quick_office.post.mail.reports()) == 1


def test_an_answer_that_cannot_be_sent_now_is_sent_later(quick_office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_inbox, "_ANSWER_AGAIN", mail_inbox.timedelta(0))
    quick_office.send()
    quick_office.post.mail.faults.play(MailFault.BUSY)
    quick_office.read()
    assert quick_office.post.mail.reports() == []
    quick_office.read()
    assert len(quick_office.post.mail.reports()) == 1


def test_two_readers_send_one_answer(quick_office: Office) -> None:
    inboxes = [MailInbox(quick_office.repository, quick_office.settings, reception.file_document) for _ in range(2)]
    inboxes[0].take(Mail(NURSE, 1, 1, b"Return-Path: <%b>\r\n%b" % (SENDER.encode(), message().as_bytes())))
    threads = [threading.Thread(target=inbox.answer) for inbox in inboxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for inbox in inboxes:
        inbox.close()
    assert len(quick_office.post.mail.mailboxes.contents(SENDER)) == 1


def test_the_end_of_the_server_cuts_a_session_under_tls(post: Operator) -> None:
    context = ssl.create_default_context(cafile=str(post.authority.ca_file))
    context.load_cert_chain(post.certificate)
    client = imaplib.IMAP4("127.0.0.1", post.imap.port)
    try:
        client.starttls(context)
        assert client.noop()[0] == "OK"
        post.imap.stop()
        with pytest.raises((imaplib.IMAP4.abort, OSError)):
            client.noop()
    finally:
        client.shutdown()


def test_a_login_that_is_refused_is_said(quick_office: Office) -> None:
    quick_office.post.imap.faults.play(ImapFault.REFUSE_LOGIN)
    with pytest.raises(DeliveryError, match="refuses the login"):
        quick_office.read()


def test_each_mailbox_is_read_by_itself(post: Operator, tmp_path: Path) -> None:
    with contextmanager(_opened)(tmp_path) as store:
        office = Office(post, store, mailboxes=f"{NURSE},{PROFESSIONAL}")
        boxes = post.mail.mailboxes
        for mailbox in (NURSE, PROFESSIONAL):
            boxes.deliver(mailbox, message().as_bytes(), sender=SENDER)
        boxes.deliver(PROFESSIONAL, message(other_document(2), 2).as_bytes(), sender=SENDER)
        assert (office.read(), office.read()) == (3, 0)
        assert (office.states(), office.filed()) == (["imported"] * 3, 2)  # the same document in two of them
        assert [len(boxes.contents(mailbox, DONE)) for mailbox in (NURSE, PROFESSIONAL)] == [1, 2]
        office.channel.close()


def test_mails_that_come_are_read_at_once(quick_office: Office) -> None:
    stop = threading.Event()
    settings = quick_office.post.settings(imap_poll=60, fhir_packages="none")
    inbox = MailInbox(quick_office.repository, settings, reception.file_document)
    reader = threading.Thread(target=Mailbox(settings, NURSE, inbox).run, args=(stop,))
    reader.start()
    try:
        for number in (1, 2):
            quick_office.deliver(message(number=number))
            deadline = time.monotonic() + 30
            while quick_office.folder(DONE) < number and time.monotonic() < deadline:
                time.sleep(0.05)
            assert quick_office.folder(DONE) == number
    finally:
        stop.set()
        reader.join()
        inbox.close()
    assert quick_office.states() == ["imported", "imported"]


# --- receipts -------------------------------------------------------------------------------------------------------


def ordered(office: Office) -> str:
    """Order the small document for the nurse, and deliver it: the id of the Task."""
    with office.repository.transaction() as transaction:
        wanted = Wanted(("mss",), (NURSE,))
        task = transmit_document(transaction, small_shipment().document, wanted, office.settings, transaction.now)
    assert worker(office.repository, office.settings, lambda *_: []).step()
    office.post.mail.settle()
    return task.id


def acknowledged(office: Office, task: str) -> list[str]:
    """What the Task says of acknowledgements."""
    outputs = office.repository.load("Task", task)["output"]
    return [
        output["valueString"] for output in outputs if output["type"]["coding"][0]["code"].startswith("acknowledgement")
    ]


def test_receipts_find_their_order(office: Office) -> None:
    office.settings = replace(office.settings, mailboxes=SENDER)
    office.post.mail.readers[NURSE] = ""
    task = ordered(office)
    office.read()
    assert office.states() == ["report", "report"]
    said = " ".join(acknowledged(office, task))
    assert ("remis : 2.0.0" in said, "intégré" in said) == (True, True)


@pytest.mark.parametrize("form", MdnForm)
def test_bounces_and_refusals_find_their_order(quick_office: Office, form: MdnForm) -> None:
    quick_office.settings = replace(quick_office.settings, mailboxes=SENDER)
    quick_office.post.mail.bounces.add(NURSE)
    task = ordered(quick_office)
    [stored] = quick_office.post.mail.messages()
    quick_office.post.mail.acknowledge(stored.message_id, NURSE, "902^Identifiant de patient inconnu", form)
    quick_office.read()
    said = " ".join(acknowledged(quick_office, task))
    assert ("non remis : 5.1.1" in said, "902" in said) == (True, True)


def receipt(form: str, sender: str, recipient: str, message_id: str, action: str) -> bytes:
    """A report about a message, by `sender`, of what `recipient` is said to have done."""
    if form == "MDN":
        return read_receipt(message_id, "Plan", sender, SENDER).replace(
            f"rfc822;{sender}".encode(), f"rfc822;{recipient}".encode()
        )
    report = delivery_report(message_id, message_id.strip("<>"), recipient, action, "5.1.1", SENDER)
    return report.replace(b"MAILER-DAEMON@sandbox.mssante.fr", sender.encode())


@pytest.mark.parametrize(
    ("form", "sender", "recipient"),
    [
        ("MDN", "intrus@exemple.fr", NURSE),
        ("MDN", PROFESSIONAL, NURSE),
        ("MDN", f"{NURSE}>, <intrus@exemple.fr", NURSE),
        ("DSN", "MAILER-DAEMON@exemple.fr", NURSE),
        ("DSN", "MAILER-DAEMON@sandbox.mssante.fr", PROFESSIONAL),
    ],
)
def test_a_report_by_who_cannot_know_is_set_aside(quick_office: Office, form: str, sender: str, recipient: str) -> None:
    task = ordered(quick_office)
    before = acknowledged(quick_office, task)
    [sent] = quick_office.post.mail.messages()
    inbox = MailInbox(quick_office.repository, quick_office.settings, reception.file_document)
    content = receipt(form, sender, recipient, sent.message_id, "failed")
    assert inbox.take(Mail(SENDER, 1, 1, content)) == "quarantined"
    assert acknowledged(quick_office, task) == before


def test_what_could_not_be_delivered_stays_so(quick_office: Office) -> None:
    task = ordered(quick_office)
    [sent] = quick_office.post.mail.messages()
    inbox = MailInbox(quick_office.repository, quick_office.settings, reception.file_document)
    for uid, action in enumerate(("failed", "delivered"), 1):
        content = receipt("DSN", "MAILER-DAEMON@sandbox.mssante.fr", NURSE.upper(), sent.message_id, action)
        assert inbox.take(Mail(SENDER, 1, uid, content)) == "report"
    assert any("non remis : 5.1.1" in line for line in acknowledged(quick_office, task))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Auto-Submitted", "auto-replied"),
        ("Subject", "[KO Intégration système !][906] XDM/1.0/DDM+Plan"),
    ],
)
def test_an_archive_is_imported_whatever_its_mail_looks_like(quick_office: Office, name: str, value: str) -> None:
    inbox = MailInbox(quick_office.repository, quick_office.settings, reception.file_document)
    mail = changed(name, value)
    mail["In-Reply-To"] = "<99@autre.mssante.fr>"
    assert inbox.take(Mail(NURSE, 1, 1, mail.as_bytes())) == "imported"


def test_an_out_of_office_answer_stays(quick_office: Office) -> None:
    inbox = MailInbox(quick_office.repository, quick_office.settings, reception.file_document)
    away = b"From: <%b>\r\nAuto-Submitted: auto-replied\r\nSubject: Absence\r\n\r\nA lundi\r\n" % NURSE.encode()
    assert inbox.take(Mail(SENDER, 1, 1, away)) == "other"


def test_a_receipt_about_nothing_of_ours_is_kept_and_changes_nothing(quick_office: Office) -> None:
    quick_office.settings = replace(quick_office.settings, mailboxes=SENDER)
    quick_office.send()
    quick_office.read()
    assert quick_office.rows() == [("report", "about no message of ours")]
