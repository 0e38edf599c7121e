"""The MSSanté channel: the message it composes, and how it fares with servers that take, refuse, stall or break off."""

from __future__ import annotations

import contextlib
import io
import re
import socketserver
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from importlib.metadata import version
from pathlib import Path

import pytest
from msgspec import structs

from relais.cda import templates
from relais.cda.errors import RelaisError
from relais.cda.model import II, Code, Document, NamePart, RelatedDocument
from relais.cda.xdm import ARCHIVE_NAME, unpack
from relais.cda.xds import CodedValue, MetadataAuthor
from relais.server.delivery import mss
from relais.server.delivery.channel import DeliveryError, Shipment, UnsentError, quoted
from relais.server.delivery.mail_message import check_recipients, compose, has_qualified_ins, pdf_name
from relais.server.delivery.mss import MssChannel
from relais.server.delivery.trust_space import TrustSpace
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.mail_server import MailFault, MailServer
from relais.server.settings import Settings
from support.documents import small_document, small_patient
from support.shipments import AUTHOR, NURSE, PROFESSIONAL, small_shipment, with_entry

SENDER = "plateforme@relais.mssante.fr"
PATIENT = "279035121518989@patient.mssante.fr"
TIMEOUT = 0.4


def settings(**changes: object) -> Settings:
    values = {
        "mss_sender": SENDER,
        "mss_product_reference": "REF-0001",
        "organization_name": "DAC du Val",
        "sender_timeout": TIMEOUT,
        "mss_idle": 0.05,  # servers of tests wait for their connections to end
    }
    return Settings.of(values | changes)


def composed(shipment: Shipment, **changes: object) -> EmailMessage:
    """The message as a receiver parses it."""
    return message_from_bytes(compose(shipment, settings(**changes)), policy=policy.default)


def refusal(shipment: Shipment, **changes: object) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        compose(shipment, settings(**changes))
    assert not caught.value.retry
    return caught.value


# --- message --------------------------------------------------------------------------------------------------------


def test_headers() -> None:
    message = composed(small_shipment(recipients=(PROFESSIONAL, NURSE)))
    assert dict(message.items()) == {
        "From": "DAC du Val <plateforme@relais.mssante.fr>",
        "To": f"{PROFESSIONAL}, {NURSE}",
        "Subject": "XDM/1.0/DDM+Plan personnalise de soins PATTERSON DOMINIQUE 28/03/1979",
        "Date": "Mon, 12 Jan 2026 08:05:00 +0000",
        "Message-ID": "<2f5c9a04-53ce-4d5f-8b4c-6a2f6d1f0b11@relais.mssante.fr>",
        "Disposition-Notification-To": SENDER,
        "X-MSS-NIL": "REF-0001",
        "X-MSS-CODECDA": "18776-5",
        "X-MSS-INS": "N",
        "MIME-Version": "1.0",
        "Content-Type": message["Content-Type"],
    }


def test_mime_structure_and_archive() -> None:
    shipment = small_shipment()
    message = composed(shipment)
    text, archive, readable = message.iter_parts()
    assert (readable.get_content_type(), readable.get_content()[:8]) == ("application/pdf", b"%PDF-1.4")
    assert readable.get_filename() == "20260112_Plan-personnalise-de-soins_PATTERSON_DOMINIQUE.pdf"
    assert (message.get_content_type(), text.get_content_type(), text.get_content_charset()) == (
        "multipart/mixed",
        "text/plain",
        "utf-8",
    )
    assert "document de santé structuré" in text.get_content()
    assert (archive.get_content_type(), archive.get_filename(), archive.get_param("name")) == (
        "application/zip",
        "IHE_XDM.ZIP",
        "IHE_XDM.ZIP",
    )
    unpacked = unpack(archive.get_content())
    assert [document.data for document in unpacked.documents] == [shipment.document]
    assert unpacked.submission.submission_set == shipment.submission.submission_set


def test_the_archive_says_who_sent_it_by_which_software() -> None:
    author = MetadataAuthor("3750099996/Relais^Relais^Relais^^^^^^&1.2.250.1.71.4.2.1&ISO^U^^^RI", AUTHOR.institutions)
    shipment = small_shipment()
    lot = replace(shipment.submission.submission_set, author=author)
    message = composed(replace(shipment, submission=replace(shipment.submission, submission_set=lot)))
    archive = next(part for part in message.iter_attachments() if part.get_filename() == ARCHIVE_NAME)
    with zipfile.ZipFile(io.BytesIO(archive.get_content())) as files:
        text = files.read("README.TXT").decode()
    assert "    Nom : Relais\r\n    Organisme : Cabinet des Tilleuls\r\n" in text
    assert f"    Version : {version('relais')}\r\n" in text


def test_without_pdf_there_is_none() -> None:
    assert len(list(composed(small_shipment(), mss_pdf=False).iter_parts())) == 2


def test_a_patient_is_told_how_to_read_it() -> None:
    [text, *_] = composed(small_shipment(recipients=(PATIENT,)), mss_patient_may_answer=False).iter_parts()
    words = text.get_content()
    assert "ouvrez le fichier 20260112_Plan-personnalise-de-soins_PATTERSON_DOMINIQUE.pdf" in words
    assert "Il n'est pas possible de répondre" in words
    message = composed(small_shipment(recipients=(PATIENT,)), mss_patient_may_answer=False)
    assert message["X-MSS-MES"] == "FIN"
    assert composed(small_shipment(recipients=(PATIENT,)))["X-MSS-MES"] is None


def test_receipts_are_asked_for_as_ordered() -> None:
    silent = replace(small_shipment(), acknowledgements=("reception",))
    assert composed(silent)["Disposition-Notification-To"] is None
    assert composed(small_shipment())["Disposition-Notification-To"] == SENDER


def test_a_mail_is_not_taken_back() -> None:
    with pytest.raises(DeliveryError, match="cannot be taken back"):
        MssChannel(settings()).send(replace(small_shipment(), action="withdraw"))


def test_outside_the_trust_space_nobody_is_written_to(tmp_path: Path) -> None:
    assert refusal(small_shipment(recipients=("medecin@exemple.fr",))).issues[0].code == "security"
    listed = tmp_path / "liste.xml"
    listed.write_text(
        '<Liste xmlns="https://listeblanche.mssante.fr/schema"><Domaine><Nom>Hôpital.exemple.fr</Nom></Domaine></Liste>'
    )
    trust = TrustSpace.of(settings(mss_domains_file=str(listed)))
    assert [trust.holds(box) for box in ("a@xn--hpital-ixa.exemple.fr", "a@hôpital.exemple.fr", PROFESSIONAL)] == [
        True,
        True,
        False,
    ]
    assert not trust.holds("a@autre.hôpital.exemple.fr")
    listed.write_text("# rien\n")
    with pytest.raises(RelaisError, match="names no domain"):
        TrustSpace.of(settings(mss_domains_file=str(listed)))


def test_the_same_shipment_gives_the_same_bytes() -> None:
    assert compose(small_shipment(), settings()) == compose(small_shipment(), settings())


def test_message_is_ascii_on_the_wire() -> None:
    raw = compose(small_shipment(), settings(organization_name="Dispositif d'appui de l'Évêché"))
    assert raw.isascii()
    head, body = raw.split(b"\r\n\r\n", 1)
    assert max(map(len, head.split(b"\r\n"))) <= 998
    assert max(len(line) for line in body.split(b"\r\n") if not line.startswith(b"Content-")) <= 76


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Dispositif d'appui à la coordination du Val d'Orge", "Dispositif d'appui à la coordination du Val d'Orge"),
        ("Communauté Territoriale de Santé d'Évry", "Communauté Territoriale de Santé d'Évry"),
        (
            "Communauté Professionnelle Territoriale de Santé Évry Étampes",
            "Communaute Professionnelle Territoriale de Sante Evry Etampes",
        ),
    ],
)
def test_no_encoded_word_is_longer_than_the_standard_has_it(name: str, shown: str) -> None:
    raw = compose(small_shipment(), settings(organization_name=name))
    assert all(len(word) <= 75 for word in re.findall(rb"=\?\S+\?=", raw.partition(b"\r\n\r\n")[0]))
    parsed = message_from_bytes(raw, policy=policy.default)
    assert parsed["From"].addresses[0].display_name == shown


def test_what_does_not_fit_on_a_plain_line_is_folded_and_encoded_and_read_back() -> None:
    mailboxes = tuple(f"medecin{number}@cabinet.mssante.fr" for number in range(60))
    message = composed(small_shipment(recipients=mailboxes))
    assert tuple(address.addr_spec for address in message["To"].addresses) == mailboxes
    assert composed(small_shipment(named(family="Ναυσικά")))["Subject"].endswith("ΝΑΥΣΙΚΑ ZOE 28/03/1979")


def named(*, family: str = "LE GALL", given: str = "ZOÉ", birth_time: str | None = "19790328") -> Document:
    document = small_document()
    document.header.patient.name.families = [NamePart("D'USAGE"), NamePart(family, "BR")]
    document.header.patient.name.givens = [NamePart("Zoé Anne"), NamePart(given, "BR")]
    document.header.patient.birth_time = birth_time
    return document


@pytest.mark.parametrize(
    ("family", "given", "birth_time", "expected"),
    [
        ("LE GALL", "ZOÉ", "19790328", "LE GALL ZOE 28/03/1979"),
        ("Lœuf-d’Été", "Maëlys", "19790328", "LOEUF-D'ETE Maelys 28/03/1979"),
        ("ÇELIK", "Gül\n  Nur", "197903", "CELIK Gul Nur"),
        ("Łukasz-Ørsted", "Đurđa", "19790328", "LUKASZ-ORSTED Durda 28/03/1979"),
        ("Weiß", "Ħaġar", "19790328", "WEISS Hagar 28/03/1979"),
    ],
)
def test_subject_is_plain(family: str, given: str, birth_time: str, expected: str) -> None:
    document = named(family=family, given=given, birth_time=birth_time)
    info = (f"PID-5|{family}^{given}^^^^^L", "PID-8|F")
    shipment = with_entry(small_shipment(document), source_patient_info=info)
    assert composed(shipment)["Subject"] == f"XDM/1.0/DDM+Plan personnalise de soins {expected}"


def test_the_name_of_the_pdf_keeps_every_letter() -> None:
    document = named(family="Łukasz/../Ørsted", given="Đurđa 🙂")
    assert pdf_name(document.header) == "20260112_Plan-personnalise-de-soins_LUKASZ-ORSTED_Durda.pdf"


def test_subject_label_is_cut_at_forty_characters() -> None:
    document = small_document()
    document.header.code = Code("18776-5", templates.LOINC, "Plan personnalisé de santé et de coordination")
    subject = composed(small_shipment(document))["Subject"]
    assert subject == "XDM/1.0/DDM+Plan personnalise de sante et de coordin PATTERSON DOMINIQUE 28/03/1979"


def test_a_long_subject_stays_on_one_line() -> None:
    document = named(family="EXEMPLE-LARIVIERE-DUCHATEAU", given="ELISABETH", birth_time="19770714")
    info = ("PID-5|EXEMPLE-LARIVIERE-DUCHATEAU^ELISABETH^^^^^L", "PID-8|F")
    sent = compose(with_entry(small_shipment(document), source_patient_info=info), settings())
    assert (
        b"\nSubject: XDM/1.0/DDM+Plan personnalise de soins EXEMPLE-LARIVIERE-DUCHATEAU ELISABETH 14/07/1977\r\n"
        in sent
    )


def test_a_replacement_says_so() -> None:
    document = small_document()
    document.header.related_documents = [RelatedDocument([II("2.25.1")])]
    assert composed(small_shipment(document))["Subject"].startswith("[Annule et remplace] XDM/1.0/DDM+Plan")


def test_a_mail_answers_the_one_it_annuls() -> None:
    message = composed(replace(small_shipment(), annuls="<former@relais.mssante.fr>"))
    assert (message["In-Reply-To"], message["References"]) == ("<former@relais.mssante.fr>",) * 2
    with pytest.raises(DeliveryError) as refused:
        composed(replace(small_shipment(), annuls="former\r\nBcc: x@y.fr"))
    assert refused.value.issues[0].path == "annuls"


@pytest.mark.parametrize(
    ("change", "qualified"),
    [
        ({}, True),
        ({"ids": [II(templates.INS_NIR_TEST, "279035121518989")]}, False),
        ({"ids": [II(templates.INS_NIA, "279035121518989")]}, False),
        ({"ids": [II(templates.INS_NIR, "279035121518988")]}, False),
        ({"ids": [II(templates.INS_NIR, "2790351215189")]}, False),
        ({"ids": []}, False),
        ({"birth_time": None}, False),
        ({"gender": None}, False),
    ],
)
def test_qualified_ins(change: dict[str, object], qualified: bool) -> None:
    patient = structs.replace(small_patient(), ids=[II(templates.INS_NIR, "279035121518989")])
    assert has_qualified_ins(structs.replace(patient, **change)) is qualified


@pytest.mark.parametrize("part", ["families", "givens"])
def test_ins_without_its_birth_names_is_not_qualified(part: str) -> None:
    patient = structs.replace(small_patient(), ids=[II(templates.INS_NIR, "279035121518989")])
    setattr(patient.name, part, [NamePart("PATTERSON")])
    assert not has_qualified_ins(patient)


# --- what may be sent to whom ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"mss_product_reference": ""}, "mss_product_reference"),
        ({"mss_sender": ""}, "mss_sender"),
        ({"mss_sender": "nobody"}, "mss_sender"),
    ],
)
def test_settings_without_which_nothing_leaves(changes: dict[str, object], path: str) -> None:
    assert refusal(small_shipment(), **changes).issues[0].path == path


@pytest.mark.parametrize(
    ("recipients", "path"),
    [
        ((), "recipients"),
        (("nobody",), "recipients[0]"),
        ((PROFESSIONAL, "a@b.fr\r\nRCPT TO:<x@y.fr>"), "recipients[1]"),
        (("zoé@cabinet.mssante.fr",), "recipients[0]"),
        (("Zoé <z@cabinet.mssante.fr>",), "recipients[0]"),
        ((PROFESSIONAL, PATIENT), "recipients[1]"),
        (("277076322082910@patient.mssante.fr",), "recipients[0]"),
        (("279035121518988@patient.mssante.fr",), "recipients[0]"),
        (("P-1@patient.mssante.fr",), "recipients[0]"),
        (('"a b"@cabinet.mssante.fr',), "recipients[0]"),
        (("a..b@cabinet.mssante.fr",), "recipients[0]"),
        (("medecin@cabinet",), "recipients[0]"),
        ((PROFESSIONAL, PROFESSIONAL.upper()), "recipients[1]"),
    ],
)
def test_recipients_that_are_refused(recipients: tuple[str, ...], path: str) -> None:
    document = small_document()
    document.header.patient.ids.append(II("1.2.250.1.999.42.1", "P-1"))  # a local number names no mailbox
    error = refusal(small_shipment(document, recipients=recipients))
    assert error.issues[0].path == path
    assert list(error.issues) == check_recipients(document.header, recipients)
    assert "279035121518989" not in str(error)


def test_a_patient_receives_this_patients_document() -> None:
    assert composed(small_shipment(recipients=(PATIENT,)))["To"] == PATIENT


def test_in_production_a_patient_mailbox_needs_a_qualified_ins() -> None:
    assert "qualified" in str(refusal(small_shipment(recipients=(PATIENT,)), ins_environment="production"))


def test_a_patient_does_not_receive_what_is_hidden_from_them() -> None:
    shipment = small_shipment(recipients=(PATIENT,))
    normal = shipment.submission.entries[0].confidentiality[0]
    hidden = CodedValue("INVISIBLE_PATIENT", "Invisible patient", "1.2.250.1.213.1.1.4.13")
    assert "not visible" in str(refusal(with_entry(shipment, confidentiality=(normal, hidden))))


def test_metadata_of_other_bytes_are_refused() -> None:
    assert refusal(with_entry(small_shipment(), hash="0" * 40)).issues[0].rule == "XDSNonIdenticalHash"


def test_a_document_that_is_none_is_refused() -> None:
    data = b"<a/>"
    shipment = with_entry(small_shipment(), size=len(data), hash="db9aa86632c6f2cc99684a2dd15d2b64828e7622")
    assert refusal(replace(shipment, document=data)).issues[0].severity == "fatal"


# --- submission -----------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "127.0.0.1")


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Iterator[MailServer]:
    running = MailServer(tmp_path / "mail", authority.server_context())
    running.start()
    yield running
    running.stop()


def channel(server: MailServer, authority: Authority, **changes: object) -> MssChannel:
    return MssChannel(settings(mss_port=server.port, mss_ca_file=str(authority.ca_file), **changes))


def failure(channel: MssChannel, shipment: Shipment | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        channel.send(shipment or small_shipment())
    return caught.value


def test_message_arrives_as_composed(server: MailServer, authority: Authority) -> None:
    receipt = channel(server, authority).send(small_shipment(recipients=(PROFESSIONAL, NURSE)))
    [stored] = server.messages()
    assert stored.path.read_bytes() == compose(small_shipment(recipients=(PROFESSIONAL, NURSE)), settings())
    assert (stored.recipients, stored.codes) == ((PROFESSIONAL, NURSE), ("18776-5",))
    assert "for 2 of 2 recipients: 2.6.0 Taken" in receipt.detail


def test_mail_server_down(server: MailServer, authority: Authority) -> None:
    server.stop()
    error = failure(channel(server, authority))
    assert error.retry
    assert isinstance(error, UnsentError)
    assert "failed (Connection refused): nothing was sent" in str(error)


@pytest.mark.parametrize("fault", [MailFault.BUSY, MailFault.BUSY_AFTER_DATA])
def test_a_server_that_is_busy_may_be_asked_again(server: MailServer, authority: Authority, fault: MailFault) -> None:
    server.faults.play(fault)
    error = failure(channel(server, authority))
    assert error.retry
    assert "451" in str(error)
    assert not server.messages()
    channel(server, authority).send(small_shipment())
    assert len(server.messages()) == 1


@pytest.mark.parametrize("fault", [MailFault.CUT_AFTER_DATA, MailFault.SILENT_AFTER_DATA])
def test_a_connection_lost_after_data_leaves_one_message(
    server: MailServer, authority: Authority, fault: MailFault
) -> None:
    server.faults.play(fault)
    error = failure(channel(server, authority))
    assert error.retry
    assert not isinstance(error, UnsentError)
    assert "may have been taken" in str(error)
    assert "Already taken" in channel(server, authority).send(small_shipment()).detail
    assert len(server.messages()) == 1


def test_all_recipients_refused(server: MailServer, authority: Authority) -> None:
    server.unknown.add(PROFESSIONAL)
    error = failure(channel(server, authority))
    assert not error.retry
    assert [(issue.path, "550" in issue.message) for issue in error.issues] == [("recipients[0]", True)]
    assert not server.messages()


def test_a_message_refused_for_its_content_is_not_sent_again(server: MailServer, authority: Authority) -> None:
    sender = "plateforme@ailleurs.fr"
    error = failure(channel(server, authority, mss_sender=sender))
    assert not error.retry
    assert "550 5.7.1 Sender outside the trust space" in str(error)


def test_starttls_absent_though_demanded(tmp_path: Path, authority: Authority) -> None:
    server = MailServer(tmp_path / "plain", None)
    server.start()
    try:
        error = failure(channel(server, authority))
    finally:
        server.stop()
    assert (error.issues[0].code, error.retry) == ("security", False)
    assert not server.messages()


def test_an_untrusted_certificate_stops_before_anything_is_said(server: MailServer, authority: Authority) -> None:
    error = failure(MssChannel(settings(mss_port=server.port)))
    assert (error.issues[0].code, error.retry) == ("security", False)


def test_a_ca_file_that_is_not_there(server: MailServer, authority: Authority, tmp_path: Path) -> None:
    error = failure(MssChannel(settings(mss_port=server.port, mss_ca_file=str(tmp_path / "none.pem"))))
    assert (error.issues[0].path, error.retry) == ("mss_ca_file", False)


def test_a_message_larger_than_the_server_takes_is_not_sent(tmp_path: Path, authority: Authority) -> None:
    server = MailServer(tmp_path / "small", authority.server_context(), max_message=1_000)
    server.start()
    try:
        error = failure(channel(server, authority))
    finally:
        server.stop()
    assert (error.issues[0].code, error.retry) == ("too-long", False)
    assert "takes 1000" in str(error)


# --- servers that speak as they like --------------------------------------------------------------------------------

Script = dict[str, str]
GOOD: Script = {"": "220 ready", "EHLO": "250 x", "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go", ".": "250 ok"}


@pytest.fixture
def scripted() -> Iterator[Callable[..., tuple[Settings, list[str]]]]:
    """A plain SMTP server with a reply per command: an empty one is silence, `cut` the end of the connection, `drip` a
    reply without end. Silence and drip last until the test is over."""
    released = threading.Event()
    servers: list[socketserver.ThreadingTCPServer] = []

    def start(script: Script) -> tuple[Settings, list[str]]:
        heard: list[str] = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                command, in_data = "", False
                while True:
                    reply = script.get(command, script.get(command[:4].upper(), "250 ok"))
                    if reply == "cut":
                        return
                    if reply == "drip":
                        with contextlib.suppress(OSError):
                            while not released.wait(TIMEOUT / 4):
                                self.wfile.write(b"2")
                        return
                    if not reply:
                        released.wait()
                        return
                    if not in_data or command == ".":
                        self.wfile.write(reply.encode() + b"\r\n")
                        in_data = command.upper() == "DATA" and reply.startswith("354")
                    line = self.rfile.readline()
                    if not line:
                        return
                    command = line.decode().strip() if not in_data or line == b".\r\n" else "…"
                    heard.append(command)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        servers.append(server)
        return settings(mss_port=server.server_address[1], mss_starttls="false"), heard

    yield start
    released.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_scripted_server_takes_a_message(scripted: Callable[..., tuple[Settings, list[str]]]) -> None:
    chosen, _ = scripted(GOOD)
    assert "for 1 of 1 recipients" in MssChannel(chosen).send(small_shipment()).detail


@pytest.mark.parametrize(
    ("change", "retry", "text"),
    [
        ({"": "554 no service"}, False, "554"),
        ({"": "421 later"}, True, "421"),
        ({"": "cut"}, True, "nothing was sent"),
        ({"": ""}, True, "in time"),
        ({"EHLO": ""}, True, "in time"),
        ({"MAIL": "cut"}, True, "nothing was sent"),
        ({"MAIL": "552 too large"}, False, "552"),
        ({"RCPT": ""}, True, "in time"),
        ({"RCPT": "450 greylisted"}, True, "recipients[0]"),
        ({"DATA": "451 later"}, True, "451"),
        ({"DATA": "cut"}, True, "nothing was sent"),
        ({".": "cut"}, True, "may have been taken"),
        ({".": ""}, True, "may have been taken"),
        ({".": "452 full"}, True, "452"),
        ({".": "554 content refused"}, False, "554 content refused"),
    ],
)
def test_each_step_can_fail(
    scripted: Callable[..., tuple[Settings, list[str]]], change: Script, retry: bool, text: str
) -> None:
    chosen, _ = scripted(GOOD | change)
    error = failure(MssChannel(chosen))
    assert (text in str(error), error.retry) == (True, retry)


@pytest.mark.parametrize("quit_reply", ["cut", "", "554 no"])
def test_nothing_after_the_message_is_taken_can_undo_it(
    scripted: Callable[..., tuple[Settings, list[str]]], quit_reply: str
) -> None:
    chosen, _ = scripted(GOOD | {"QUIT": quit_reply})
    MssChannel(chosen).send(small_shipment())


def test_one_recipient_refused_for_good_does_not_deprive_the_others(
    scripted: Callable[..., tuple[Settings, list[str]]],
) -> None:
    chosen, heard = scripted(GOOD | {f"rcpt TO:<{NURSE}>": "550 unknown"})
    error = failure(MssChannel(chosen), small_shipment(recipients=(PROFESSIONAL, NURSE)))
    assert not error.retry
    assert [(issue.severity, issue.path) for issue in error.issues] == [("error", "recipients[1]"), ("information", "")]
    assert "." in heard


def test_a_recipient_refused_for_now_does_not_deprive_the_others_and_nobody_gets_it_twice(
    scripted: Callable[..., tuple[Settings, list[str]]],
) -> None:
    chosen, heard = scripted(GOOD | {f"rcpt TO:<{NURSE}>": "450 greylisted"})
    error = failure(MssChannel(chosen), small_shipment(recipients=(PROFESSIONAL, NURSE)))
    assert not error.retry  # those served would get it again
    assert [(issue.code, issue.path) for issue in error.issues] == [
        ("transient", "recipients[1]"),
        ("informational", ""),
    ]
    assert "1 of 2" in str(error)
    assert "." in heard


def test_while_nobody_is_served_everybody_may_be_later(scripted: Callable[..., tuple[Settings, list[str]]]) -> None:
    chosen, heard = scripted(GOOD | {"RCPT": "450 greylisted", f"rcpt TO:<{NURSE}>": "550 unknown"})
    error = failure(MssChannel(chosen), small_shipment(recipients=(PROFESSIONAL, NURSE)))
    assert error.retry
    assert [issue.path for issue in error.issues] == ["recipients[0]", "recipients[1]"]
    assert "data" not in [command.lower() for command in heard]


@pytest.mark.parametrize("command", ["", "EHLO", "RCPT", "DATA", "."])
def test_a_server_that_drips_does_not_outlast_the_deadline(
    scripted: Callable[..., tuple[Settings, list[str]]], command: str
) -> None:
    chosen, _ = scripted(GOOD | {command: "drip"})
    error = failure(MssChannel(chosen))
    assert error.retry
    assert ("may have been taken" in str(error)) == (command == ".")
    assert ("not answer in time" in str(error)) == (command != ".")


@pytest.mark.parametrize(
    "spelled",
    [
        "279035121518989",
        "2790351215189",
        "INS279035121518989",
        "INS:279035121518989.",
        "2 79 03 51 215 189 89",
        "279-03-51-215-189 89",
        "189022A12345671",
    ],
)
def test_no_spelling_of_a_matricule_gets_through(spelled: str) -> None:
    assert not any(char.isdigit() for char in quoted(f"refus de {spelled} !"))


def test_oids_and_longer_numbers_stay_readable() -> None:
    for text in ("id 1.2.250.1.213.1.4.10", "id 2.25.301245378217395437813294710347591823499", "lot 20260112080500"):
        assert quoted(text) == text


def test_addresses_of_patients_are_masked_in_the_words_of_the_server(
    scripted: Callable[..., tuple[Settings, list[str]]],
) -> None:
    chosen, _ = scripted(GOOD | {"RCPT": f"550 <{PATIENT}> unknown"})
    error = failure(MssChannel(chosen), small_shipment(recipients=(PATIENT,)))
    assert "<…@patient.mssante.fr> unknown" in str(error)
    assert "279035121518989" not in str(error)


def test_without_size_announced_the_setting_is_the_limit(scripted: Callable[..., tuple[Settings, list[str]]]) -> None:
    chosen, heard = scripted(GOOD)
    error = failure(MssChannel(replace(chosen, mss_max_size=1_000)))
    assert (error.issues[0].code, error.retry) == ("too-long", False)
    assert not any(command.lower().startswith("mail") for command in heard)


def test_a_patient_is_sent_no_mail_that_mon_espace_sante_refuses(
    scripted: Callable[..., tuple[Settings, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mss, "PATIENT_MAX_SIZE", 1_000)
    chosen, heard = scripted(GOOD)
    error = failure(MssChannel(chosen), small_shipment(recipients=(PATIENT,)))
    assert (error.issues[0].code, error.retry) == ("too-long", False)
    assert not any(command.lower().startswith("mail") for command in heard)
    MssChannel(chosen).send(small_shipment())
