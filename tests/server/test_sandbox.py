"""The sandbox counterparts: what conforms is taken and kept, each violation is refused for its own reason."""

from __future__ import annotations

import builtins
import io
import re
import smtplib
import ssl
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from relais.cda import parsing, templates, xdm
from relais.cda.errors import RelaisError
from relais.cda.model import II, Document
from relais.cda.writer import write
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.dmp import DmpChannel
from relais.server.delivery.mail_message import compose
from relais.server.delivery.mail_reports import parse, read_reports
from relais.server.delivery.mss import MssChannel
from relais.server.sandbox import Sandbox
from relais.server.sandbox.mail_checks import Mail, check, one_patient
from relais.server.sandbox.mail_judge import UNJUDGED, Judge
from relais.server.sandbox.mail_queue import MailQueue, Taken
from relais.server.sandbox.mail_server import MailServer
from relais.server.sandbox.mailboxes import Mailboxes
from relais.server.settings import Settings
from support.documents import small_document
from support.mails import message_of
from support.shipments import NURSE, PROFESSIONAL, other_document, small_shipment, with_entry

SENDER = "plateforme@relais.mssante.fr"
PATIENT = "279035121518989@patient.mssante.fr"
NOBODY = "277076322082910@patient.mssante.fr"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


def settings(sandbox: Sandbox | None = None) -> Settings:
    values = {"mss_sender": SENDER, "mss_product_reference": "REF-0001", "sender_timeout": 0.5}
    return Settings.of(values | dict(sandbox.settings if sandbox else {}))


# === both ===========================================================================================================


def test_settings_lead_both_channels_to_the_sandbox(sandbox: Sandbox) -> None:
    MssChannel(settings(sandbox)).send(small_shipment())
    DmpChannel(settings(sandbox)).send(small_shipment())
    assert len(sandbox.messages()) == len(sandbox.documents()) == 1
    assert "18776-5" in str(sandbox.messages()[0])
    assert "PATTERSON" not in f"{sandbox.messages()[0]}{sandbox.documents()[0]}"


def test_without_the_extra_the_sandbox_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith(("trustme", "relais.server.sandbox.authority")):
            raise ModuleNotFoundError("No module named 'trustme'", name="trustme")
        return find(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RelaisError, match=r'pip install "relais\[sandbox\]"'):
        Sandbox(tmp_path)


def test_a_port_in_use_is_said_and_nothing_is_left_running(sandbox: Sandbox, tmp_path: Path) -> None:
    second = Sandbox(tmp_path / "second", https_port=sandbox.dmp.port)
    with pytest.raises(RelaisError, match="cannot listen"):
        second.start()
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP("127.0.0.1", second.smtp_port)


# === mail ===========================================================================================================

Change = Callable[[EmailMessage], None]


def rules(message: EmailMessage, recipients: tuple[str, ...] = (PROFESSIONAL,)) -> list[tuple[str, str]]:
    """(rule, place) of everything the mailbox finds."""
    return [(issue.rule, issue.path) for issue in check(message.as_bytes(), SENDER, recipients)]


def header(name: str, value: str | None) -> Change:
    """Give a header another value, or none."""

    def change(message: EmailMessage) -> None:
        del message[name]
        if value is not None:
            message[name] = value

    return change


def add(name: str, value: str) -> Change:
    """Add a header that may stand already."""
    return lambda message: message._headers.append((name, value))  # type: ignore[attr-defined]


def zipped(message: EmailMessage) -> EmailMessage:
    """The attachment that is the archive."""
    return next(part for part in message.iter_attachments() if part.get_filename() == "IHE_XDM.ZIP")


def pdf(change: Callable[[EmailMessage], object]) -> Change:
    """Change the PDF that stands beside the archive."""
    return lambda message: change(next(p for p in message.iter_attachments() if p is not zipped(message)))


def archive(name: str, data: bytes | None = None) -> Change:
    """Change, add or take out (None) a file of the archive."""

    def change(message: EmailMessage) -> None:
        part = zipped(message)
        output = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(part.get_content())) as old, zipfile.ZipFile(output, "w") as new:
            for info in old.infolist():
                if info.filename != name:
                    new.writestr(info, old.read(info))
            if data is not None:
                new.writestr(name, data, zipfile.ZIP_DEFLATED)
        part.set_payload(None)
        part.set_content(output.getvalue(), "application", "zip", filename="IHE_XDM.ZIP")

    return change


def as_text(message: EmailMessage) -> None:
    """Replace the archive by nothing."""
    message.set_payload([next(message.iter_parts())])


def twice(message: EmailMessage) -> None:
    """Attach the archive twice."""
    part = zipped(message)
    message.attach(part)


def archive_type(message: EmailMessage) -> None:
    """Announce the archive as something else."""
    part = zipped(message)
    part.set_type("application/octet-stream")


def latin(message: EmailMessage) -> None:
    """Write the body in another charset."""
    next(message.iter_parts()).set_content("É", charset="latin-1")


def test_a_conforming_message_is_taken() -> None:
    assert rules(message_of(small_shipment(), settings())) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (header("X-MSS-NIL", None), ("ECO.2.4.3", "X-MSS-NIL")),
        (header("Date", None), ("RFC 5322", "Date")),
        (header("Date", "Mon, 12 Jan 2026 08:05:00 -0000"), ("RFC 5322", "Date")),
        (header("From", "autre@relais.mssante.fr"), ("ECO.2.2.7", "From")),
        (header("To", "autre@relais.mssante.fr"), ("CI-SIS", "To")),
        (header("Message-ID", "2f5c9a04"), ("ECO.2.2.1", "Message-ID")),
        (header("Sender", SENDER), ("CI-SIS", "Sender")),
        (
            header("Disposition-Notification-To", "autre@relais.mssante.fr"),
            ("ECO.2.3.2", "Disposition-Notification-To"),
        ),
        (add("X-MSS-INS", "N"), ("RFC 5322", "X-MSS-INS")),
        (lambda message: message.get_payload().pop(), ("ECO.2.1.5", "attachment")),
        (pdf(lambda part: part.set_payload("eA==")), ("ECO.2.1.5", "attachment")),
        (pdf(lambda part: part.set_param("filename", "a.pdf", "Content-Disposition")), ("ECO.2.1.6", "attachment")),
        (header("X-MSS-CODECDA", "11506-3"), ("ECO.2.4.1", "X-MSS-CODECDA")),
        (header("X-MSS-CODECDA", None), ("ECO.2.4.1", "X-MSS-CODECDA")),
        (header("X-MSS-INS", "O"), ("ECO.2.4.2", "X-MSS-INS")),
        (header("X-MSS-INS", None), ("ECO.2.4.2", "X-MSS-INS")),
        (header("X-MSS-MES", "FIN"), ("ECO.2.2.8", "X-MSS-MES")),
        (header("Subject", "Un document"), ("ECO.2.1.3", "Subject")),
        (header("Subject", "XDM/1.0/DDM+Plan personnalise de soins AUTRE DOMINIQUE"), ("ECO.2.1.3", "Subject")),
        (header("Subject", "XDM/1.0/DDM+Plan personnalisé de soins PATTERSON DOMINIQUE"), ("ECO.2.1.3", "Subject")),
        (
            header("Subject", "XDM/1.0/DDM+Plan personnalise de soins PATTERSON DOMINIQUE 29/03/1979"),
            ("ECO.2.1.3", "Subject"),
        ),
        (
            header("Subject", "[Annule et remplace] XDM/1.0/DDM+Plan personnalise de soins PATTERSON DOMINIQUE"),
            ("ECO.2.1.3", "Subject"),
        ),
        (latin, ("ECO.2.2.3", "body")),
        (as_text, ("CI-SIS", "attachment")),
        (twice, ("CI-SIS", "attachment")),
        (archive_type, ("CI-SIS", "attachment")),
    ],
)
def test_each_violation_is_refused_for_its_own_reason(change: Change, expected: tuple[str, str]) -> None:
    message = message_of(small_shipment(), settings())
    change(message)
    assert rules(message) == [expected]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (archive("IHE_XDM/SUBSET01/METADATA.XML"), "xdm.metadata-missing"),
        (archive("IHE_XDM/SUBSET01/DOC00001.XML"), "xdm.document-missing"),
        (archive("IHE_XDM/SUBSET01/DOC00002.XML", b"<a/>"), "xdm.document-orphan"),
        (archive("IHE_XDM/SUBSET01/DOC00001.XML", b"<a/>"), "xdm.size"),
        (archive("../DOC00001.XML", b"<a/>"), "xdm.archive"),
        (archive("IHE_XDM/SUBSET01/BOMB.XSL", b"0" * 20_000_000), "xdm.archive"),
    ],
)
def test_archives_that_are_refused(change: Change, rule: str) -> None:
    message = message_of(small_shipment(), settings())
    change(message)
    assert rule in [found for found, _ in rules(message)]


def two_documents(second: Document) -> EmailMessage:
    """The conforming message of the small document and a second one."""
    shipments = [small_shipment(), with_entry(small_shipment(second), entry_id="Document02")]
    message = message_of(shipments[0], settings())
    packed = xdm.pack(
        [(shipment.document, shipment.submission.entries[0]) for shipment in shipments],
        shipments[0].submission.submission_set,
        sender=xdm.Sender("Hélène LEMOINE", "Cabinet des Tilleuls"),
    )
    part = zipped(message)
    part.set_payload(None)
    part.set_content(packed, "application", "zip", filename="IHE_XDM.ZIP")
    message.attach(message.get_payload()[-1])
    header("X-MSS-CODECDA", "18776-5,18776-5")(message)
    header("Subject", "XDM/1.0/DDM+2 documents PATTERSON DOMINIQUE")(message)
    return message


def test_two_documents_of_one_patient_are_taken() -> None:
    assert rules(two_documents(other_document(7))) == []


def test_two_patients_in_one_message_are_refused() -> None:
    stranger = other_document(7)
    stranger.header.patient.ids = [II(templates.INS_NIR_TEST, "277076322082910")]
    assert "xdm.mismatch.patientId" in [rule for rule, _ in rules(two_documents(stranger))]


def test_a_mail_that_mixes_patients_under_one_identity_is_refused() -> None:
    message = message_of(small_shipment(), settings())
    mail = Mail(b"", SENDER, (PROFESSIONAL,), message)
    mail.documents = [parsing.parse(write(small_document())), parsing.parse(write(other_document(7)))]
    assert not list(one_patient(mail))
    mail.documents[1].find(".//{*}patientRole/{*}id").set("extension", "277076322082910")
    assert [issue.rule for issue in one_patient(mail)] == ["ECO.2.1.1"]


def test_metadata_that_contradict_the_document_are_refused() -> None:
    shipment = with_entry(small_shipment(), title="Autre titre")
    assert ("xdm.mismatch.title", "IHE_XDM/SUBSET01/DOC00001.XML#DocumentEntry.title") in rules(
        message_of(shipment, settings())
    )


def test_raw_bytes_outside_ascii_in_a_header_are_refused() -> None:
    raw = message_of(small_shipment(), settings()).as_bytes().replace(b"X-MSS-NIL: REF", "X-MSS-NIL: RÉF".encode())
    assert [issue.path for issue in check(raw, SENDER, (PROFESSIONAL,))] == ["header"]


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [((PATIENT,), []), ((PATIENT, NURSE), [("CI-SIS", "To")]), ((NOBODY,), [("ECO.2.2.6", "To")])],
)
def test_mailboxes_of_patients(recipients: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    message = message_of(small_shipment(), settings())
    header("To", ", ".join(recipients))(message)
    assert rules(message, recipients) == expected


def test_a_qualified_ins_must_be_announced() -> None:
    document = small_document()
    document.header.patient.ids = [II(templates.INS_NIR, "279035121518989")]
    shipment = small_shipment(document)
    patient_id = f"279035121518989^^^&{templates.INS_NIR}&ISO^NH"
    lot = replace(shipment.submission.submission_set, patient_id=patient_id)
    shipment = replace(shipment, submission=replace(shipment.submission, submission_set=lot))
    message = message_of(with_entry(shipment, patient_id=patient_id, source_patient_id=patient_id), settings())
    assert message["X-MSS-INS"] == "O"
    assert rules(message) == []
    header("X-MSS-INS", "N")(message)
    assert rules(message) == [("ECO.2.4.2", "X-MSS-INS")]


def submit(sandbox: Sandbox, raw: bytes, *, tls: bool = True) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP("127.0.0.1", sandbox.smtp_port, local_hostname="test") as smtp:
        if tls:
            context = ssl.create_default_context(cafile=str(sandbox.ca_file))
            context.load_cert_chain(sandbox.settings["mss_certificate"])
            smtp.starttls(context=context)
        return smtp.sendmail(SENDER, [PROFESSIONAL], raw)


def test_nothing_is_taken_without_tls(sandbox: Sandbox) -> None:
    with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
        submit(sandbox, b"", tls=False)


def test_data_is_taken_byte_for_byte_up_to_its_limits(tmp_path: Path) -> None:
    server = MailServer(tmp_path, None, max_message=2_000, checks=False)
    server.start()
    line = b"x" * 998 + b"\r\n"
    contents = [b"", b"x\r\n", b".\r\n..\r\n\r\n.x\r\n", line, line + line]
    answers = []
    with smtplib.SMTP("127.0.0.1", server.port, local_hostname="test") as smtp:
        smtp.ehlo()
        for content in [*contents, b"x" * 999 + b"\r\n", line + line + b"x\r\n", line * 9, b"last\r\n"]:
            smtp.mail(SENDER)
            smtp.rcpt(PROFESSIONAL)
            smtp.docmd("DATA")
            smtp.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
            answers.append(smtp.getreply()[0])
        smtp.send(b"NOOP\r\nRSET\r\n")  # together: what comes after is not lost
        assert [smtp.getreply()[0], smtp.getreply()[0]] == [250, 250]
    server.stop()
    kept = [content.partition(b"\r\n")[2] for content in server.mailboxes.contents(PROFESSIONAL)]
    assert (kept, answers) == ([*contents, b"last\r\n"], [250] * 5 + [500, 552, 552, 250])


def test_a_message_that_does_not_conform_is_taken_set_aside_with_its_reason_and_returned(sandbox: Sandbox) -> None:
    message = message_of(small_shipment(), settings())
    header("X-MSS-INS", "O")(message)
    assert submit(sandbox, message.as_bytes()) == {}
    assert not sandbox.messages()
    [reason] = (sandbox.folder / "mail" / "refused").glob("*.txt")
    assert "ECO.2.4.2" in reason.read_text()
    assert reason.with_suffix(".eml").read_bytes() == message.as_bytes()
    assert not list((sandbox.folder / "mail" / "taken").iterdir())
    assert sandbox.mail.mailboxes.contents(PROFESSIONAL) == []
    [returned] = [report for mail in sandbox.mail.mailboxes.contents(SENDER) for report in read_reports(parse(mail))]
    assert (returned.kind, returned.outcome, returned.message_id) == ("reception", "negative", message["Message-ID"])
    assert "X-MSS-INS: must be N" in returned.detail


def test_what_was_taken_before_the_process_ended_is_judged_after_the_next_start(tmp_path: Path) -> None:
    good, bad = (message_of(small_shipment(), settings()) for _ in range(2))
    header("Message-ID", "<other@relais.mssante.fr>")(bad)
    header("X-MSS-INS", "O")(bad)
    queue = MailQueue(tmp_path / "mail" / "taken", lambda taken: None)  # which is never started
    for message in (bad, good):
        name = str(message["Message-ID"])
        queue.add(Taken(queue.new_path(), message.as_bytes(), name, SENDER, [PROFESSIONAL], wants_report=True))
    server = MailServer(tmp_path / "mail", None)
    server.start()
    server.stop()
    assert [stored.message_id for stored in server.messages()] == [good["Message-ID"]]
    assert len(list((tmp_path / "mail" / "refused").glob("*.eml"))) == 1
    assert [report.outcome for mail in server.mailboxes.contents(SENDER) for report in read_reports(parse(mail))] == [
        "negative",
        "positive",
    ]


def test_a_judge_whose_process_was_ended_judges_on(tmp_path: Path) -> None:
    mail = tmp_path / "mail.eml"
    mail.write_bytes(compose(small_shipment(), settings()))
    judge = Judge()
    assert judge.reasons(mail, SENDER, [PROFESSIONAL]) == []
    assert judge._process is not None
    judge._process.kill()
    assert "ECO.2.2.7" in judge.reasons(mail, NURSE, [PROFESSIONAL])[0]
    judge.close()
    assert judge.reasons(tmp_path / "none.eml", SENDER, [PROFESSIONAL]) == [f"{UNJUDGED}: FileNotFoundError"]
    judge.close()


def test_the_same_message_twice_is_kept_once_and_another_under_its_id_is_refused(sandbox: Sandbox) -> None:
    message = message_of(small_shipment(), settings())
    submit(sandbox, message.as_bytes())
    submit(sandbox, message.as_bytes())
    header("X-MSS-NIL", "REF-0002")(message)
    with pytest.raises(smtplib.SMTPDataError, match="Another message"):
        submit(sandbox, message.as_bytes())
    [stored] = sandbox.messages()
    assert b"REF-0001" in stored.path.read_bytes()


def test_a_recipient_outside_the_trust_space_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(DeliveryError, match="outside the trust space") as caught:
        MssChannel(settings(sandbox)).send(small_shipment(recipients=("quelquun@exemple.fr",)))
    assert not caught.value.retry


def test_uids_of_an_earlier_run_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Mailboxes().folders("a@b.mssante.fr")["INBOX"].validity
    monkeypatch.setattr("time.time", lambda: first + 60.0)
    assert Mailboxes().folders("a@b.mssante.fr")["INBOX"].validity > first
