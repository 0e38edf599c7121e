"""The HL7 v2 channel against the sandbox platform on real sockets: taken, refused, unanswered, sent again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from relais.cda import templates
from relais.cda.model import II, Document, NamePart, Participant, PersonName, Telecom
from relais.cda.reader import read as read_cda
from relais.cda.writer import write
from relais.cda.xds import CodedValue, MetadataAuthor
from relais.mappings.hl7v2 import er7
from relais.mappings.hl7v2.acknowledgement import ErrorCondition, acknowledge, read_acknowledgement
from relais.mappings.hl7v2.order import Flags, Party, Person, Structure, TransmissionOrder
from relais.mappings.hl7v2.reading import read
from relais.mappings.hl7v2.zam import Zam, read_zam
from relais.server.delivery.channel import DeliveryError, Shipment, UnsentError
from relais.server.delivery.hl7v2 import Hl7v2Channel, control_id, order_of
from relais.server.delivery.mllp import MllpClient, MllpServer, Received
from relais.server.sandbox.hl7v2_checks import second_opinion
from relais.server.sandbox.hl7v2_platform import Hl7v2Platform, PlatformFault
from relais.server.settings import Settings
from support.documents import small_document
from support.hl7v2 import FORMER, INS, POLICY, adding, message, order, replacing, to_both, with_field, without
from support.shipments import NURSE, PROFESSIONAL, small_shipment, with_entry

PATIENT_BOX = f"{INS}@patient.mssante.fr"
ADDENDUM = f"^text^XML^Base64^{base64.b64encode(write(adding())).decode()}"
TIMEOUT = 2.0  # a busy machine takes its time to check a message


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Hl7v2Platform]:
    with Hl7v2Platform(tmp_path / "hl7v2", None) as running:
        yield running


def settings(platform: Hl7v2Platform | None = None, **changes: object) -> Settings:
    values: dict[str, object] = {
        "hl7v2_host": platform.host if platform else "127.0.0.1",
        "hl7v2_port": platform.port if platform else 1,
        "hl7v2_tls": False,
        "hl7v2_timeout": TIMEOUT,
        "hl7v2_receiving_application": "PFI",
        "hl7v2_receiving_facility": "GHT",
        "organization_finess": "750099996",
    }
    return Settings.of(values | changes)


@pytest.fixture
def channel(platform: Hl7v2Platform) -> Iterator[Hl7v2Channel]:
    made = Hl7v2Channel(settings(platform, hl7v2_timeout=10.0))
    yield made
    made.close()


def failure(channel: Hl7v2Channel, shipment: Shipment) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        channel.send(shipment)
    channel.close()
    return caught.value


# --- the order of a shipment --------------------------------------------------------------------------------------


def ordered(shipment: Shipment, **changes: object) -> TransmissionOrder:
    return order_of(shipment, read_cda(shipment.document).document, settings(**changes))


def test_order_of_a_shipment() -> None:
    shipment = small_shipment(recipients=(PROFESSIONAL, NURSE))
    made = ordered(shipment)
    assert made == order(
        control_id=control_id(shipment.message_id),
        time="20260112080500+0000",
        sending=replace(made.sending, application="RELAIS", facility="750099996"),
        receiving=replace(made.receiving, application="PFI", facility="GHT"),
        recipients=(Party(mailbox=PROFESSIONAL), Party(mailbox=NURSE)),
        sender=Party(
            Person("810101234564", "LEMOINE", "Hélène", templates.PS_IDNAT, "IDNPS"),
            Structure("Cabinet des Tilleuls", "1750099996", templates.STRUCT_IDNAT, "IDNST"),
        ),
    )
    assert len(made.control_id) == 20
    assert made.control_id != control_id("<other@relais.mssante.fr>")


def test_the_patient_as_recipient() -> None:
    made = ordered(small_shipment(recipients=(PATIENT_BOX,)))
    assert made.recipients == (
        Party(Person(INS, "PATTERSON", "DOMINIQUE", templates.INS_NIR_TEST, "INS", "L"), mailbox=PATIENT_BOX),
    )
    assert (made.flags.to_patient, made.flags.to_professionals) == (True, False)


def test_where_answers_go_and_whether_the_patient_may_answer() -> None:
    shipment = small_shipment(recipients=(PATIENT_BOX,))
    made = ordered(shipment, mss_reply_to=NURSE, mss_patient_may_answer=False)
    assert (made.reply_to, made.patient_may_reply) == ((NURSE,), False)
    assert ordered(shipment).reply_to == ordered(small_shipment(recipients=()), mss_reply_to=NURSE).reply_to == ()


def test_the_patient_as_sender() -> None:
    shipment = small_shipment()
    author = MetadataAuthor(f"{INS}^PATTERSON^DOMINIQUE^^^^^^&{templates.INS_NIR_TEST}&ISO^D^^^NH")
    lot = replace(shipment.submission.submission_set, author=author)
    made = ordered(replace(shipment, submission=replace(shipment.submission, submission_set=lot)))
    assert made.sender == Party(Person(INS, "PATTERSON", "DOMINIQUE", templates.INS_NIR_TEST, "INS"))


def test_somebody_of_the_document_as_recipient() -> None:
    document = small_document()
    document.header.participants = [
        Participant(
            "PRF",
            ids=[II(templates.PS_IDNAT, "810109876540")],
            telecoms=[Telecom("tel:+33144534551"), Telecom(f"mailto:{NURSE.upper()}")],
            name=PersonName(families=[NamePart("PETIT")], givens=[NamePart("Zoé")]),
        )
    ]
    made = ordered(small_shipment(document, recipients=(NURSE, PROFESSIONAL)))
    nurse = Person("810109876540", "PETIT", "Zoé", templates.PS_IDNAT, "IDNPS")
    assert made.recipients == (Party(nurse, mailbox=NURSE), Party(mailbox=PROFESSIONAL))


def test_a_mailbox_names_nobody_where_another_person_without_number_holds_it() -> None:
    document = small_document()
    numbered = Participant(
        "PRF",
        ids=[II(templates.PS_IDNAT, "810109876540")],
        telecoms=[Telecom(f"mailto:{NURSE}")],
        name=PersonName(families=[NamePart("PETIT")], givens=[NamePart("Zoé")]),
    )
    other = Participant("PRF", telecoms=[Telecom(f"mailto:{NURSE}")], name=PersonName(text="Luc MARTIN"))
    document.header.participants = [numbered, other]
    [recipient] = ordered(small_shipment(document, recipients=(NURSE,))).recipients
    assert recipient.person is None


@pytest.mark.parametrize("number", ["810109876541", "810109876540"])
def test_a_mailbox_of_several_names_none_of_them(number: str) -> None:
    document = small_document()
    document.header.participants = [
        Participant(
            "PRF",
            ids=[II(templates.PS_IDNAT, one)],
            telecoms=[Telecom(f"mailto:{NURSE}")],
            name=PersonName(families=[NamePart("PETIT")], givens=[NamePart("Zoé")]),
        )
        for one in ("810109876540", number, "810109876540")
    ]
    [recipient] = ordered(small_shipment(document, recipients=(NURSE,))).recipients
    assert (recipient.person is None) is (number != "810109876540")


def test_visibility_action_and_type() -> None:
    masked = CodedValue("MASQUE_PS", "Masqué", "1.2.250.1.213.1.1.4.13")
    hidden = CodedValue("INVISIBLE_REPRESENTANTS_LEGAUX", "Non visible", "1.2.250.1.213.1.1.4.13")
    shipment = small_shipment(recipients=())
    entry = shipment.submission.entries[0]
    made = ordered(with_entry(shipment, confidentiality=(*entry.confidentiality, masked, hidden)))
    assert made.flags == Flags(
        hidden_from_professionals=True,
        hidden_from_representatives=True,
        to_dmp=True,
        want_reception=True,
        want_reading=True,
    )
    assert ordered(with_entry(shipment, action="D")).action == "delete"
    assert ordered(with_entry(shipment, action="C")).action == "replace"
    assert ordered(small_shipment(replacing())).action == "replace"
    assert ordered(small_shipment(adding())).action == "initial"
    assert not ordered(shipment, hl7v2_to_dmp=False).flags.to_dmp
    dui = CodedValue("EXPORT_DUI", "Export du DUI", "1.2.250.1.213.1.1.4.12")
    assert not ordered(with_entry(shipment, type_code=dui)).flags.to_dmp
    assert ordered(shipment, hl7v2_message="ORU", hl7v2_processing="T").message == "ORU"


def test_a_system_as_sender() -> None:
    shipment = small_shipment()
    author = replace(
        shipment.submission.submission_set.author,
        person="3750100125/88^Relais^Coordination^^^^^^&1.2.250.1.71.4.2.1&ISO^U^^^RI",
    )
    lot = replace(shipment.submission.submission_set, author=author)
    made = ordered(replace(shipment, submission=replace(shipment.submission, submission_set=lot)))
    assert made.sender is not None
    assert (made.sender.person, made.sender.device) == (None, "3750100125/88")


# --- taken --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["MDM", "ORU"])
def test_a_document_arrives(platform: Hl7v2Platform, kind: str) -> None:
    shipment = small_shipment(recipients=(PROFESSIONAL, NURSE))
    channel = Hl7v2Channel(settings(platform, hl7v2_message=kind, hl7v2_timeout=10.0))
    receipt = channel.send(shipment)
    channel.close()
    (stored,) = platform.messages()
    assert receipt.detail == f"taken by the platform: AA for message {control_id(shipment.message_id)}"
    assert (stored.control_id, stored.event) == (control_id(shipment.message_id), "T02" if kind == "MDM" else "R01")
    assert stored.document.read_bytes() == shipment.document
    assert [party.mailbox for party in read(stored.path.read_bytes(), POLICY).order.recipients] == [PROFESSIONAL, NURSE]


@pytest.mark.parametrize(("feeds", "kept"), [(False, True), (True, False)])
def test_a_platform_that_passes_the_document_on_to_nobody(platform: Hl7v2Platform, feeds: bool, kept: bool) -> None:
    with contextlib.closing(Hl7v2Channel(settings(platform, hl7v2_to_dmp=feeds))) as channel:
        receipt = channel.send(small_shipment(recipients=()))
    assert ("neither to the DMP nor to a mailbox" in receipt.remark) is kept


def test_one_connection_for_several_documents(platform: Hl7v2Platform, channel: Hl7v2Channel) -> None:
    shipments = [replace(small_shipment(), message_id=f"<{number}@relais.mssante.fr>") for number in range(3)]
    for shipment in shipments:
        channel.send(shipment)
    assert [stored.control_id for stored in platform.messages()] == [control_id(s.message_id) for s in shipments]


def test_replacement_and_deletion(platform: Hl7v2Platform, channel: Hl7v2Channel) -> None:
    channel.send(small_shipment(replacing()))
    deletion = with_entry(replace(small_shipment(), message_id="<2@relais.mssante.fr>"), action="D")
    channel.send(deletion)
    assert [stored.event for stored in platform.messages()] == ["T10", "T04"]


def test_a_large_document_arrives(platform: Hl7v2Platform, channel: Hl7v2Channel) -> None:
    document = small_document()
    data = write(document).replace(b"<component>", b"<!--" + b"x" * 20_000_000 + b"--><component>", 1)
    shipment = with_entry(replace(small_shipment(), document=data), size=len(data), hash=_sha1(data))
    channel.send(shipment)
    assert platform.messages()[0].document.read_bytes() == data


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def test_sent_again_it_is_taken_once(platform: Hl7v2Platform, channel: Hl7v2Channel) -> None:
    first, second = channel.send(small_shipment()), channel.send(small_shipment())
    assert first == second
    assert len(platform.messages()) == 1


def test_what_was_taken_survives_a_restart(platform: Hl7v2Platform, channel: Hl7v2Channel) -> None:
    channel.send(small_shipment())
    platform.stop()
    platform.start()
    channel.send(small_shipment())
    assert len(platform.messages()) == 1


def test_an_acknowledgement_that_comes_twice_is_not_taken_for_the_next(
    platform: Hl7v2Platform, channel: Hl7v2Channel
) -> None:
    platform.faults.play(PlatformFault.ACK_TWICE)
    other = replace(small_shipment(), message_id="<3f5c9a04-53ce-4d5f-8b4c-6a2f6d1f0b11@relais.mssante.fr>")
    assert channel.send(small_shipment()) != channel.send(other)
    assert len(platform.messages()) == 2


# --- not taken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kept", "reason"),
    [
        (PlatformFault.SILENT_BEFORE, 0, "no answer in time"),
        (PlatformFault.SILENT_AFTER, 1, "no answer in time"),
        (PlatformFault.SLOW, 1, "no answer in time"),
        (PlatformFault.CUT_AFTER, 1, "closed before the answer"),
        (PlatformFault.OTHER_ID, 1, "no answer in time; messages that are not its answer: 1"),
        (PlatformFault.GARBAGE, 1, "no answer in time; messages that are not its answer: 1"),
    ],
)
def test_no_answer_is_tried_again_with_the_same_message(
    platform: Hl7v2Platform, fault: PlatformFault, kept: int, reason: str
) -> None:
    platform.slowness = 3 * TIMEOUT
    platform.faults.play(fault)
    channel = Hl7v2Channel(settings(platform))
    error = failure(channel, small_shipment())
    assert error.retry
    assert reason in str(error)
    for _ in range(200):  # a slow platform keeps the message a moment after the sender has given up
        if len(platform.messages()) == kept:
            break
        threading.Event().wait(0.05)
    assert len(platform.messages()) == kept
    patient = Hl7v2Channel(settings(platform, hl7v2_timeout=10.0))
    assert patient.send(small_shipment()).detail.startswith("taken")
    patient.close()
    assert len(platform.messages()) == 1


def test_a_refusal_is_final(platform: Hl7v2Platform, channel: Hl7v2Channel) -> None:
    platform.faults.play(PlatformFault.REFUSES)
    error = failure(channel, small_shipment())
    assert not error.retry
    assert "the platform answers AE: MSH^1: 207 Application error, 906" in str(error)
    assert platform.messages() == []


def test_the_words_of_a_platform_betray_nobody(platform: Hl7v2Platform) -> None:
    def refuse(received: Received) -> bytes:
        header = er7.header_of(received.message)
        made = acknowledge(header, "AE", (), control_id="1", time="20260112")
        return made + f"ERR|||207^Patient {INS} inconnu^x|E\r".encode()

    with MllpServer(refuse) as server:
        error = failure(Hl7v2Channel(settings(hl7v2_port=server.port)), small_shipment())
    assert not error.retry
    assert INS not in str(error)
    assert "Patient … inconnu" in str(error)


def test_a_refusal_without_a_reason() -> None:
    def refuse(received: Received) -> bytes:
        return acknowledge(er7.header_of(received.message), "AR", (), control_id="1", time="20260112")

    with MllpServer(refuse) as server:
        error = failure(Hl7v2Channel(settings(hl7v2_port=server.port)), small_shipment())
    assert (error.retry, error.issues[0].message) == (False, "the platform answers AR without a reason")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(Hl7v2Channel(settings(hl7v2_port=port)), small_shipment())
    assert isinstance(error, UnsentError)
    assert "(Connection refused): nothing was sent" in str(error)


def other_patient() -> Shipment:
    """Metadata right, document of a patient whose mailbox is not the recipient."""
    document = small_document()
    document.header.patient.ids = [II(templates.INS_NIR_TEST, "277076322082910")]
    return small_shipment(document, recipients=(PATIENT_BOX,))


def hidden_from_the_patient() -> Shipment:
    hidden = CodedValue("INVISIBLE_PATIENT", "Non visible", "1.2.250.1.213.1.1.4.13")
    shipment = small_shipment(recipients=(PATIENT_BOX,))
    return with_entry(shipment, confidentiality=(*shipment.submission.entries[0].confidentiality, hidden))


@pytest.mark.parametrize(
    ("shipment", "rule"),
    [
        (other_patient(), "hl7v2.recipients"),
        (hidden_from_the_patient(), "hl7v2.combination"),
        (small_shipment(recipients=("zoe@example.org",)), "hl7v2.mailbox"),
        (replace(small_shipment(), document=b"<other/>"), "XDSNonIdenticalSize"),
        (with_entry(small_shipment(), hash="0" * 40), "XDSNonIdenticalHash"),
    ],
)
def test_what_may_not_leave_opens_no_connection(shipment: Shipment, rule: str) -> None:
    error = failure(Hl7v2Channel(settings()), shipment)  # port 1: a connection would be tried again
    assert not error.retry
    assert rule in {issue.rule for issue in error.issues}


def test_a_test_ins_does_not_leave_a_production_instance() -> None:
    error = failure(Hl7v2Channel(settings(ins_environment="production")), small_shipment())
    assert "hl7v2.ins-environment" in {issue.rule for issue in error.issues}


def test_a_strict_instance_orders_what_the_volet_lists() -> None:
    error = failure(Hl7v2Channel(settings(hl7v2_strict=True)), small_shipment())
    assert {issue.rule for issue in error.issues} == {"hl7v2.combination"}


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def secured(authority: trustme.CA, tmp_path: Path, host: str = "127.0.0.1") -> Hl7v2Platform:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return Hl7v2Platform(tmp_path / "hl7v2", context)


def trusting(authority: trustme.CA, platform: Hl7v2Platform, tmp_path: Path, **changes: object) -> Hl7v2Channel:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return Hl7v2Channel(settings(platform, hl7v2_tls=True, hl7v2_ca_file=str(ca_file), hl7v2_timeout=10.0, **changes))


def test_over_tls(authority: trustme.CA, tmp_path: Path) -> None:
    with secured(authority, tmp_path) as platform:
        channel = trusting(authority, platform, tmp_path)
        channel.send(small_shipment())
        channel.close()
        assert len(platform.messages()) == 1


@pytest.mark.parametrize(("host", "stranger"), [("other.example", False), ("127.0.0.1", True)])
def test_a_certificate_that_is_not_trusted(authority: trustme.CA, tmp_path: Path, host: str, stranger: bool) -> None:
    with secured(trustme.CA() if stranger else authority, tmp_path, host) as platform:
        error = failure(trusting(authority, platform, tmp_path), small_shipment())
        assert (error.retry, error.issues[0].code, error.issues[0].path) == (False, "security", "hl7v2_ca_file")
        assert platform.messages() == []


@pytest.mark.parametrize("name", ["hl7v2_ca_file", "hl7v2_certificate"])
def test_certificate_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "absent.pem"):
        error = failure(Hl7v2Channel(settings(hl7v2_tls=True, **{name: str(path)})), small_shipment())
        assert (error.retry, error.issues[0].path) == (False, name)


def test_a_platform_that_asks_for_a_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    own = tmp_path / "own.pem"
    authority.issue_cert("relais.example").private_key_and_cert_chain_pem.write_to_path(str(own))
    with Hl7v2Platform(tmp_path / "hl7v2", context) as platform:
        refused = failure(trusting(authority, platform, tmp_path), small_shipment())
        # In TLS 1.3 the client learns it after the handshake, if the end of the connection does not come first.
        assert refused.retry or refused.issues[0].path == "hl7v2_certificate"
        assert platform.messages() == []
        channel = trusting(authority, platform, tmp_path, hl7v2_certificate=str(own))
        channel.send(small_shipment())
        channel.close()
        assert len(platform.messages()) == 1


# --- the platform itself: each check has a conforming sample and a mutated one --------------------------------------


def exchange(platform: Hl7v2Platform, data: bytes) -> tuple[str, list[str]]:
    """MSA-1 and the places of the errors."""
    with MllpClient(platform.host, platform.port, timeout=10) as client:
        answer = read_acknowledgement(client.exchange(data, lambda _: True))
    return answer.code, [error.place for error in answer.errors]


def test_conforming_messages_are_taken(platform: Hl7v2Platform) -> None:
    samples = [to_both(), order(action="replace"), order(action="delete"), order(message="ORU", charset="8859/15")]
    for number, sample in enumerate(samples):
        assert exchange(platform, message(replace(sample, control_id=f"M{number}"))) == ("AA", [])
    assert len(platform.messages()) == 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (with_field(message(), "MSH-9", "ADT^A01^ADT_A01"), ("AR", ["MSH^1^9^1^1"])),
        (with_field(message(), "ORC-1", "CA"), ("AE", ["ORC^1^1^1"])),
        (with_field(message(), "TXA-12", "1.2.3"), ("AE", ["TXA^1^12^1"])),
        (without(message(), "PV1"), ("AE", ["ORC^1"])),
        (message().replace(b"\r", b"\r\n"), ("AE", ["MSH^1"])),
        (b"garbage", ("AE", ["MSH^1"])),
    ],
)
def test_refused_messages_are_kept_with_their_reasons(
    platform: Hl7v2Platform, tmp_path: Path, data: bytes, expected: tuple[str, list[str]]
) -> None:
    with MllpClient(platform.host, platform.port, timeout=10) as client:
        answer = er7.parse(client.exchange(data, lambda _: True))
    assert (answer.first("MSA").text(1), [err.field(2) for err in answer.all("ERR")]) == expected
    assert platform.messages() == []
    (kept,) = (tmp_path / "hl7v2" / "refused").glob("*.er7")
    assert kept.read_bytes() == data
    assert kept.with_suffix(".txt").read_text()


def test_another_message_under_the_same_id(platform: Hl7v2Platform) -> None:
    assert exchange(platform, message()) == ("AA", [])
    assert exchange(platform, message(to_both(event_time="20260112"))) == ("AE", ["MSH^1^10^1"])
    assert exchange(platform, message()) == ("AA", [])
    other = to_both(sending=replace(to_both().sending, application="RIS"))
    assert exchange(platform, message(other)) == ("AA", [])


def test_the_stored_acknowledgement_comes_again(platform: Hl7v2Platform) -> None:
    with MllpClient(platform.host, platform.port, timeout=10) as client:
        first = client.exchange(message(), lambda _: True)
        assert client.exchange(message(), lambda _: True) == first


def test_a_message_too_long(tmp_path: Path) -> None:
    with (
        Hl7v2Platform(tmp_path, None, max_message=2_000) as platform,
        MllpClient(platform.host, platform.port, timeout=10) as client,
    ):
        answer = read_acknowledgement(client.exchange(message(), lambda _: True))
    assert (answer.code, answer.acknowledges, answer.errors[0].code) == ("AE", "RELAIS0001", "199")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (with_field(message(), "ORC-1", "RO"), "ORC-1: not the action of OBX-11 and of the event"),
        (with_field(message(), "MSH-12", "2.5"), "MSH-12: not the version of this message"),
        (with_field(message(), "MSH-21", "1.1^CISIS_CDA_HL7_LPS"), "MSH-21: not the volet of the platforms"),
        (with_field(message(), "OBX[3]-3", "X"), "OBX-3: not the ten metadata in their order"),
        (with_field(message(), "OBX[5]-5", "O"), "OBX-5: neither Y nor N"),
        (with_field(message(), "OBX[9]-5", "N"), "PRT: patient recipient and DESTMSSANTEPAT disagree"),
        (with_field(message(), "OBX[8]-5", "N"), "PRT: other recipients and DESTMSSANTEPS disagree"),
        (with_field(message(), "OBX[3]-5", "Y"), "OBX: hidden from the patient and sent to the patient"),
        (with_field(message(), "PRT-4", "RCT"), "PRT: no sender though DESTDMP is asked for"),
        (
            with_field(message(), "PRT[3]-15", "^^X.400^277076322082910@patient.mssante.fr"),
            "PRT-15: not the mailbox of the patient of PID-3",
        ),
        (with_field(message(), "OBX-5", "^text^XML^Base64^QUJD"), "OBX-5: not a CDA in base64"),
        (with_field(message(), "OBX-5", "^text^XML^Base64^QUJé"), "OBX-5: not a CDA in base64"),
        (
            with_field(message(), "PID-3", lambda cx: cx + "~9^^^&1.2.3&ISO^PI"),
            "PID-3: not the identifiers of patientRole",
        ),
        (with_field(message(), "PID-7", "19790329"), "PID-7: not the birth date of the document"),
        (with_field(message(), "TXA-12", "1.2.3"), "TXA-12: not the id of the document"),
        (with_field(message(order(action="replace")), "TXA-13", "1.2.3"), "TXA-13: not the document replaced"),
        (with_field(message(order(action="replace")), "OBX-5", ADDENDUM), "TXA-13: not the document replaced"),
        (b"garbage", "MSH: the library hl7 cannot read the message"),
    ],
)
def test_second_opinion(data: bytes, reason: str) -> None:
    assert second_opinion(message().decode()) == []
    assert reason in second_opinion(data.decode())


def test_the_second_opinion_alone_refuses(platform: Hl7v2Platform) -> None:
    """The reader of Relais takes an identifier that only the message bears, with a warning."""
    data = with_field(message(), "PID-3", lambda cx: cx + "~9^^^&1.2.3&ISO^PI")
    assert exchange(platform, data) == ("AE", ["PID^1^3^1"])


# --- ZAM ----------------------------------------------------------------------------------------------------------


def told(zams: list[bytes]) -> list[tuple[str, bool, str, str | None]]:
    read_back: list[Zam] = [read_zam(data) for data in zams]
    return [(zam.trigger, zam.positive, zam.mailbox, zam.error and zam.error.application) for zam in read_back]


def test_business_acknowledgements(platform: Hl7v2Platform) -> None:
    exchange(platform, message(order()))
    assert told(platform.zams("RELAIS0001")) == [
        ("Z01", True, "", None),
        ("Z02", True, "infirmier@ssiad.mssante.fr", None),
        ("Z03", True, "infirmier@ssiad.mssante.fr", None),
    ]
    zam = read_zam(platform.zams("RELAIS0001")[0])
    assert (zam.acknowledges, zam.sending.application, zam.receiving.application) == ("RELAIS0001", "PFI", "RELAIS")


def test_only_what_was_asked_for(platform: Hl7v2Platform) -> None:
    flags = Flags(to_dmp=True, to_professionals=True)
    exchange(platform, message(order(flags=flags)))
    assert platform.zams("RELAIS0001") == []
    with pytest.raises(KeyError):
        platform.zams("UNKNOWN")


def test_negative_acknowledgements(platform: Hl7v2Platform) -> None:
    exchange(platform, message(to_both()))
    platform.dmp_error = ErrorCondition("207", application="DMPClosed", application_label="DMP fermé")
    platform.unknown.add("infirmier@ssiad.mssante.fr")
    assert told(platform.zams("RELAIS0001")) == [
        ("Z01", False, "", "DMPClosed"),
        ("Z02", False, "infirmier@ssiad.mssante.fr", "550"),
        ("Z02", True, PATIENT_BOX, None),
    ]


def test_a_replacement_of_a_document_the_platform_never_had(platform: Hl7v2Platform) -> None:
    exchange(platform, message(order(action="replace")))
    assert told(platform.zams("RELAIS0001"))[0] == ("Z01", False, "", "XDSReplaceFailed")
    former: Document = small_document()
    former.header.id = II(FORMER)
    exchange(platform, message(order(control_id="FORMER"), former))
    assert told(platform.zams("RELAIS0001"))[0] == ("Z01", True, "", None)


def test_zams_reach_the_sender(platform: Hl7v2Platform) -> None:
    heard: list[Zam] = []

    def take(received: Received) -> bytes:
        heard.append(read_zam(received.message))
        header = er7.header_of(received.message)
        return acknowledge(header, "AA", (), control_id=f"R{len(heard)}", time="20260112")

    exchange(platform, message(order()))
    with MllpServer(take) as server:
        answers = platform.emit("RELAIS0001", server.host, server.port)
    assert [zam.trigger for zam in heard] == ["Z01", "Z02", "Z03"]
    assert [(answer.code, answer.acknowledges) for answer in answers] == [("AA", zam.control_id) for zam in heard]
