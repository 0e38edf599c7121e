"""The sandbox counterparts: what conforms is taken and kept, each violation is refused for its own reason."""

from __future__ import annotations

import builtins
import io
import re
import smtplib
import ssl
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from relais.cda import parsing, templates, xdm, xds
from relais.cda.errors import RelaisError
from relais.cda.model import II, Document
from relais.cda.writer import write
from relais.cda.xds import Association, CodedValue
from relais.mappings.document_metadata import document_entry
from relais.server.delivery.channel import DeliveryError, Shipment
from relais.server.delivery.dmp import DmpChannel, provide_and_register
from relais.server.delivery.mail_message import compose
from relais.server.delivery.mss import MssChannel
from relais.server.sandbox import Sandbox
from relais.server.sandbox.mail_checks import Mail, check, one_patient
from relais.server.sandbox.xds_server import RepositoryFault
from relais.server.settings import Settings
from support.documents import small_document
from support.shipments import NURSE, PROFESSIONAL, small_shipment, with_entry

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


def other_document(number: int, **header: Any) -> Document:
    """The small document under another identity."""
    document = small_document()
    document.header.id = II(f"2.25.{number}")
    for name, value in header.items():
        setattr(document.header, name, value)
    return document


def other_shipment(number: int, **changes: Any) -> Shipment:
    """A shipment of another document, in its own lot."""
    shipment = small_shipment(other_document(number))
    lot = replace(shipment.submission.submission_set, unique_id=f"2.25.{number}1")
    return replace(shipment, submission=replace(shipment.submission, submission_set=lot, **changes))


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


def archive(name: str, data: bytes | None = None) -> Change:
    """Change, add or take out (None) a file of the archive."""

    def change(message: EmailMessage) -> None:
        [part] = message.iter_attachments()
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
    [part] = message.iter_attachments()
    message.attach(part)


def archive_type(message: EmailMessage) -> None:
    """Announce the archive as something else."""
    [part] = message.iter_attachments()
    part.set_type("application/octet-stream")


def latin(message: EmailMessage) -> None:
    """Write the body in another charset."""
    next(message.iter_parts()).set_content("É", charset="latin-1")


def test_a_conforming_message_is_taken() -> None:
    assert rules(compose(small_shipment(), settings())) == []


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
    message = compose(small_shipment(), settings())
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
    message = compose(small_shipment(), settings())
    change(message)
    assert rule in [found for found, _ in rules(message)]


def two_documents(second: Document) -> EmailMessage:
    """The conforming message of the small document and a second one."""
    shipments = [small_shipment(), with_entry(small_shipment(second), entry_id="Document02")]
    message = compose(shipments[0], settings())
    packed = xdm.pack(
        [(shipment.document, shipment.submission.entries[0]) for shipment in shipments],
        shipments[0].submission.submission_set,
        sender=xdm.Sender("Hélène LEMOINE", "Cabinet des Tilleuls"),
    )
    [part] = message.iter_attachments()
    part.set_payload(None)
    part.set_content(packed, "application", "zip", filename="IHE_XDM.ZIP")
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
    message = message_from_bytes(compose(small_shipment(), settings()).as_bytes(), policy=policy.default)
    mail = Mail(b"", SENDER, (PROFESSIONAL,), message)
    mail.documents = [parsing.parse(write(small_document())), parsing.parse(write(other_document(7)))]
    assert not list(one_patient(mail))
    mail.documents[1].find(".//{*}patientRole/{*}id").set("extension", "277076322082910")
    assert [issue.rule for issue in one_patient(mail)] == ["ECO.2.1.1"]


def test_metadata_that_contradict_the_document_are_refused() -> None:
    shipment = with_entry(small_shipment(), title="Autre titre")
    assert ("xdm.mismatch.title", "IHE_XDM/SUBSET01/DOC00001.XML#DocumentEntry.title") in rules(
        compose(shipment, settings())
    )


def test_raw_bytes_outside_ascii_in_a_header_are_refused() -> None:
    raw = compose(small_shipment(), settings()).as_bytes().replace(b"X-MSS-NIL: REF", "X-MSS-NIL: RÉF".encode())
    assert [issue.path for issue in check(raw, SENDER, (PROFESSIONAL,))] == ["header"]


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [((PATIENT,), []), ((PATIENT, NURSE), [("CI-SIS", "To")]), ((NOBODY,), [("ECO.2.2.6", "To")])],
)
def test_mailboxes_of_patients(recipients: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    message = compose(small_shipment(), settings())
    header("To", ", ".join(recipients))(message)
    assert rules(message, recipients) == expected


def test_a_qualified_ins_must_be_announced() -> None:
    document = small_document()
    document.header.patient.ids = [II(templates.INS_NIR, "279035121518989")]
    shipment = small_shipment(document)
    patient_id = f"279035121518989^^^&{templates.INS_NIR}&ISO^NH"
    lot = replace(shipment.submission.submission_set, patient_id=patient_id)
    shipment = replace(shipment, submission=replace(shipment.submission, submission_set=lot))
    message = compose(with_entry(shipment, patient_id=patient_id, source_patient_id=patient_id), settings())
    assert message["X-MSS-INS"] == "O"
    assert rules(message) == []
    header("X-MSS-INS", "N")(message)
    assert rules(message) == [("ECO.2.4.2", "X-MSS-INS")]


def submit(sandbox: Sandbox, raw: bytes, *, tls: bool = True) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP("127.0.0.1", sandbox.smtp_port, local_hostname="test") as smtp:
        if tls:
            smtp.starttls(context=ssl.create_default_context(cafile=str(sandbox.ca_file)))
        return smtp.sendmail(SENDER, [PROFESSIONAL], raw)


def test_nothing_is_taken_without_tls(sandbox: Sandbox) -> None:
    with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
        submit(sandbox, b"", tls=False)


def test_a_refused_message_is_kept_beside_its_reason(sandbox: Sandbox) -> None:
    message = compose(small_shipment(), settings())
    header("X-MSS-INS", "O")(message)
    with pytest.raises(smtplib.SMTPDataError, match="X-MSS-INS: must be N"):
        submit(sandbox, message.as_bytes())
    assert not sandbox.messages()
    [reason] = (sandbox.folder / "mail" / "refused").glob("*.txt")
    assert "ECO.2.4.2" in reason.read_text()
    assert reason.with_suffix(".eml").read_bytes() == message.as_bytes()


def test_the_same_message_twice_is_kept_once_and_another_under_its_id_is_refused(sandbox: Sandbox) -> None:
    message = compose(small_shipment(), settings())
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


# === repository =====================================================================================================


def post(sandbox: Sandbox, shipment: Shipment, *changes: tuple[str, str], content_type: str | None = None) -> str:
    """The answer to a request whose text was changed (regular expression, replacement) where `changes` say."""
    url = sandbox.dmp_url
    given, body = provide_and_register(shipment, url, f"urn:uuid:{uuid4()}")
    for pattern, replacement in changes:
        body, count = re.subn(pattern.encode(), replacement.encode(), body, flags=re.DOTALL)
        assert count, pattern
    with requests.post(
        url, data=body, headers={"Content-Type": content_type or given}, verify=str(sandbox.ca_file), timeout=5
    ) as answer:
        return answer.text


def errors(answer: str) -> list[str]:
    """The error codes of a RegistryResponse."""
    assert "RegistryResponse" in answer, answer
    return re.findall(r'errorCode="(\w+)"', answer)


def reason(answer: str) -> str:
    """The reason of a SOAP fault."""
    found = re.search(r"<soap:Text[^>]*>(.*?)</soap:Text>", answer)
    assert found, answer
    return found[1]


def test_a_conforming_submission_is_stored_bit_for_bit(sandbox: Sandbox) -> None:
    shipment = small_shipment()
    assert errors(post(sandbox, shipment)) == []
    [stored] = sandbox.documents()
    assert stored.path.read_bytes() == shipment.document
    assert stored.entry == shipment.submission.entries[0]
    assert stored.status == "Approved"


def test_what_is_stored_survives_a_restart(sandbox: Sandbox) -> None:
    first = small_shipment()
    assert errors(post(sandbox, first)) == []
    target = sandbox.documents()[0].entry_uuid
    assert errors(post(sandbox, other_shipment(7, associations=(rplc(target),)))) == []
    before = sandbox.documents()
    sandbox.stop()
    with Sandbox(sandbox.folder) as again:
        assert again.documents() == before
        assert [document.status for document in before] == ["Deprecated", "Approved"]
        assert again.documents()[0].path.read_bytes() == first.document
        assert errors(post(again, first)) == ["XDSDuplicateUniqueIdInRegistry"] * 2


@pytest.mark.parametrize(
    ("pattern", "replacement", "expected"),
    [
        (r"<wsa:Action [^>]*>[^<]*", '<wsa:Action soap:mustUnderstand="1">urn:other', "wsa:Action must be"),
        (r' soap:mustUnderstand="true"', "", "wsa:Action must be"),
        (r"<wsa:MessageID>[^<]*", "<wsa:MessageID>urn:uuid:1", "wsa:MessageID must be"),
        (r"<wsa:MessageID>.*?</wsa:MessageID>", "", "exactly one wsa:MessageID"),
        (r"<wsa:To>[^<]*", "<wsa:To>https://127.0.0.1/other", "wsa:To must be"),
        (r"<wsa:ReplyTo>", '<wsa:RelatesTo soap:mustUnderstand="1"/><wsa:ReplyTo>', "not understood"),
        (r"http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/", "SOAP 1.2"),
        (r"ProvideAndRegisterDocumentSetRequest", "Other", "must hold a ProvideAndRegister"),
        (r"cid:[^\"]*", "cid:other", "names a part that is not"),
        (r"<xop:Include[^>]*/>", "PGEvPg==", "one xop:Include and nothing else"),
        (r"<xds:Document .*?</xds:Document>", "", "named by no xop:Include"),
        (r"<lcm:SubmitObjectsRequest.*</lcm:SubmitObjectsRequest>", "", "exactly one lcm:SubmitObjectsRequest"),
        (r"Content-Transfer-Encoding: binary", "Content-Transfer-Encoding: base64", "binary"),
        (r"Content-ID: <root[^>]*>", "Content-ID: <other@x>", "start must name"),
        (r"Content-ID: ", "X-Content-ID: ", "its own Content-ID"),
        (r"--\r\n\Z", "", "CloseBoundaryNotFoundDefect"),
        (r"<soap:Header>", "<soap:Header><", "not acceptable XML"),
        (r"<soap:Envelope", "<!DOCTYPE x><soap:Envelope", "DTD"),
    ],
)
def test_bad_framing_is_a_fault(sandbox: Sandbox, pattern: str, replacement: str, expected: str) -> None:
    assert expected in reason(post(sandbox, small_shipment(), (pattern, replacement)))
    assert not sandbox.documents()


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/soap+xml", "must be multipart/related"),
        ("multipart/related; boundary=b", "must be multipart/related"),
        ("text/plain", "must be multipart/related"),
    ],
)
def test_bad_content_type_is_a_fault(sandbox: Sandbox, content_type: str, expected: str) -> None:
    assert expected in reason(post(sandbox, small_shipment(), content_type=content_type))


def test_a_message_id_serves_once(sandbox: Sandbox) -> None:
    same = (r"<wsa:MessageID>[^<]*", "<wsa:MessageID>urn:uuid:0f3b1ad5-0c55-4d2a-9f0a-0a6d3f1f5f10")
    assert errors(post(sandbox, small_shipment(), same)) == []
    assert "received before" in reason(post(sandbox, other_shipment(7), same))


HASH = r'(<rim:Slot name="hash"><rim:ValueList><rim:Value>)\w{40}'
SIZE = r'(<rim:Slot name="size"><rim:ValueList><rim:Value>)\d+'


@pytest.mark.parametrize(
    ("pattern", "replacement", "expected"),
    [
        (r'<rim:Slot name="languageCode">.*?</rim:Slot>', "", {"XDSRegistryMetadataError"}),
        (r"20260112080500", "20260112090500+0100", {"XDSRegistryMetadataError"}),
        (r'targetObject="Document01"', 'targetObject="Document02"', {"XDSRegistryMetadataError"}),
        (
            r'<xds:Document id="Document01"',
            '<xds:Document id="Document02"',
            {"XDSMissingDocument", "XDSMissingDocumentMetadata"},
        ),
        (HASH, r"\g<1>" + "0" * 40, {"XDSRepositoryMetadataError"}),
        (SIZE, r"\g<1>12", {"XDSRepositoryMetadataError"}),
    ],
)
def test_wrong_metadata_are_refused(sandbox: Sandbox, pattern: str, replacement: str, expected: set[str]) -> None:
    assert set(errors(post(sandbox, small_shipment(), (pattern, replacement)))) == expected
    assert not sandbox.documents()


def test_hash_and_size_may_be_left_to_the_repository(sandbox: Sandbox) -> None:
    shipment = small_shipment()
    slots = r'<rim:Slot name="(?:hash|size)">.*?</rim:Slot>'
    assert errors(post(sandbox, shipment, (slots, ""))) == []
    assert sandbox.documents()[0].entry.hash == shipment.submission.entries[0].hash


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"title": "Autre titre"}, "InvalidDocumentContent"),
        ({"unique_id": "2.25.99"}, "InvalidDocumentContent"),
        ({"creation_time": "20260112080001"}, "InvalidDocumentContent"),
        ({"type_code": CodedValue("11506-3", "CR de consultation", templates.LOINC)}, "XDSRegistryMetadataError"),
        ({"unique_id": "2.25.301245378217395437813294710347591823401^7"}, "XDSRegistryMetadataError"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(sandbox: Sandbox, change: dict[str, Any], expected: str) -> None:
    assert set(errors(post(sandbox, with_entry(small_shipment(), **change)))) == {expected}
    assert not sandbox.documents()


def test_entry_and_lot_of_two_patients_are_refused(sandbox: Sandbox) -> None:
    other = (r"(registryObject=\"SubmissionSet01\"[^>]*value=\")279035121518989", r"\g<1>277076322082910")
    assert "XDSPatientIdDoesNotMatch" in errors(post(sandbox, small_shipment(), other))


def test_no_real_person_enters_the_sandbox(sandbox: Sandbox) -> None:
    document = small_document()
    document.header.patient.ids = [II(templates.INS_NIR, "279035121518989")]
    shipment = small_shipment(document)
    answer = post(sandbox, shipment, (r"1\.2\.250\.1\.213\.1\.4\.10&amp;", "1.2.250.1.213.1.4.8&amp;"))
    assert errors(answer) == ["XDSUnknownPatientId"]


def test_the_same_document_again_is_a_duplicate(sandbox: Sandbox) -> None:
    shipment = small_shipment()
    post(sandbox, shipment)
    lot = replace(shipment.submission.submission_set, unique_id="2.25.5")
    again = replace(shipment, submission=replace(shipment.submission, submission_set=lot))
    assert errors(post(sandbox, again)) == ["XDSDuplicateUniqueIdInRegistry"]
    assert len(sandbox.documents()) == 1


def test_another_document_under_the_same_id_is_refused(sandbox: Sandbox) -> None:
    post(sandbox, small_shipment())
    document = small_document()
    document.sections = []
    lot = replace(small_shipment().submission.submission_set, unique_id="2.25.5")
    other = small_shipment(document)
    other = replace(other, submission=replace(other.submission, submission_set=lot))
    assert errors(post(sandbox, other)) == ["XDSNonIdenticalHash"]
    assert len(sandbox.documents()) == 1


def test_a_lot_serves_once(sandbox: Sandbox) -> None:
    post(sandbox, small_shipment())
    assert errors(post(sandbox, small_shipment(other_document(7)))) == ["XDSDuplicateUniqueIdInRegistry"]


def test_two_simultaneous_submissions_of_one_document_store_it_once(sandbox: Sandbox) -> None:
    barrier, answers = threading.Barrier(4), []

    def send() -> None:
        barrier.wait()
        answers.append(errors(post(sandbox, small_shipment())))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, answers)) == [0, 2, 2, 2]
    assert len(sandbox.documents()) == 1


# --- replacement ---


def rplc(target: str) -> Association:
    return Association(xds.REPLACE, "Document01", target)


def test_a_replacement_deprecates_what_it_replaces(sandbox: Sandbox) -> None:
    post(sandbox, small_shipment())
    target = sandbox.documents()[0].entry_uuid
    assert errors(post(sandbox, other_shipment(7, associations=(rplc(target),)))) == []
    assert [(document.status, document.replaces) for document in sandbox.documents()] == [
        ("Deprecated", None),
        ("Approved", target),
    ]
    assert errors(post(sandbox, other_shipment(8, associations=(rplc(target),)))) == [
        "XDSRegistryDeprecatedDocumentError"
    ]


def test_an_entry_uuid_chosen_by_the_sender_is_kept_and_serves_once(sandbox: Sandbox) -> None:
    chosen = f"urn:uuid:{uuid4()}"
    assert errors(post(sandbox, with_entry(small_shipment(), entry_id=chosen))) == []
    assert sandbox.documents()[0].entry_uuid == chosen
    assert errors(post(sandbox, with_entry(other_shipment(7), entry_id=chosen))) == ["XDSRegistryMetadataError"]
    replacement = with_entry(other_shipment(7, associations=(rplc(chosen),)), entry_id="Document01")
    assert errors(post(sandbox, replacement)) == []


def test_the_document_to_replace_must_be_known(sandbox: Sandbox) -> None:
    unknown = f"urn:uuid:{uuid4()}"
    assert errors(post(sandbox, other_shipment(7, associations=(rplc(unknown),)))) == ["XDSReplaceFailed"]
    assert not sandbox.documents()


def derived(document: Document, target: str) -> Shipment:
    """A replacement of `target` by another document, with the metadata that the document gives."""
    data = write(document)
    entry = document_entry(document, data)
    shipment = other_shipment(7, entries=(entry,), associations=(rplc(target),))
    lot = replace(shipment.submission.submission_set, patient_id=entry.patient_id)
    return replace(shipment, document=data, submission=replace(shipment.submission, submission_set=lot))


def test_a_document_of_another_patient_is_not_replaced(sandbox: Sandbox) -> None:
    post(sandbox, small_shipment())
    document = other_document(7)
    document.header.patient.ids = [II(templates.INS_NIR_TEST, "277076322082910")]
    answer = post(sandbox, derived(document, sandbox.documents()[0].entry_uuid))
    assert errors(answer) == ["XDSPatientIdDoesNotMatch"]
    assert [stored.status for stored in sandbox.documents()] == ["Approved"]


def test_only_its_author_replaces_a_document(sandbox: Sandbox) -> None:
    post(sandbox, small_shipment())
    document = other_document(7)
    author = document.header.authors[0].assigned
    assert author.organization
    author.ids, author.organization.ids = [II(templates.PS_IDNAT, "810109999994")], []
    author.organization.names = ["Autre cabinet"]
    answer = post(sandbox, derived(document, sandbox.documents()[0].entry_uuid))
    assert errors(answer) == ["XDSReplaceFailed"]


def test_a_submission_that_was_not_finished_is_forgotten(sandbox: Sandbox) -> None:
    post(sandbox, small_shipment())
    [kept] = (sandbox.folder / "dmp" / "documents").iterdir()
    sandbox.stop()
    kept.rename(kept.with_name(".new-abc"))
    with Sandbox(sandbox.folder) as again:
        assert again.documents() == []
        assert errors(post(again, small_shipment())) == []


# --- faults ---


@pytest.mark.parametrize(
    ("fault", "text", "stored"),
    [
        (RepositoryFault.BUSY, "XDSRepositoryBusy", False),
        (RepositoryFault.UNAVAILABLE, "HTTP 503", False),
        (RepositoryFault.HTML_PAGE, "cannot be read", False),
        (RepositoryFault.SILENT_BEFORE, "no answer in time", False),
        (RepositoryFault.SILENT_AFTER, "no answer in time", True),
        (RepositoryFault.MALFORMED, "cannot be read", True),
        (RepositoryFault.HALF_ANSWER, "cut short", True),
        (RepositoryFault.WRONG_RELATION, "does not relate", True),
    ],
)
def test_after_each_fault_a_second_try_leaves_exactly_one_document(
    sandbox: Sandbox, fault: RepositoryFault, text: str, stored: bool
) -> None:
    sandbox.dmp.faults.play(fault)
    channel = DmpChannel(settings(sandbox))
    with pytest.raises(DeliveryError, match=text) as caught:
        channel.send(small_shipment())
    assert caught.value.retry
    assert len(sandbox.documents()) == stored
    if stored:
        with pytest.raises(DeliveryError, match="earlier attempt") as caught:
            channel.send(small_shipment())
        assert (caught.value.issues[0].code, caught.value.retry) == ("duplicate", False)
    else:
        channel.send(small_shipment())
    assert len(sandbox.documents()) == 1


def test_an_unknown_code_is_final(sandbox: Sandbox) -> None:
    sandbox.dmp.faults.play(RepositoryFault.UNKNOWN_CODE)
    with pytest.raises(DeliveryError, match="SandboxInventedError") as caught:
        DmpChannel(settings(sandbox)).send(small_shipment())
    assert not caught.value.retry


def test_a_stopped_repository_refuses_connections_and_comes_back(sandbox: Sandbox) -> None:
    channel = DmpChannel(settings(sandbox))
    sandbox.dmp.stop()
    with pytest.raises(DeliveryError) as caught:
        channel.send(small_shipment())
    assert caught.value.retry
    sandbox.dmp.start()
    channel.send(small_shipment())


def test_every_exchange_is_recorded(sandbox: Sandbox) -> None:
    post(sandbox, small_shipment())
    post(sandbox, small_shipment())
    records = sorted((sandbox.folder / "dmp" / "exchanges").iterdir())
    assert len(records) == 4
    assert b"XDSDuplicateUniqueIdInRegistry" in b"".join(record.read_bytes() for record in records)
