"""ACK and ZAM: what is made, that hl7apy accepts it, and what is no acknowledgement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relais.mappings.hl7v2 import er7, grammar
from relais.mappings.hl7v2.acknowledgement import (
    Acknowledgement,
    ErrorCondition,
    acknowledge,
    read_acknowledgement,
)
from relais.mappings.hl7v2.findings import Finding, Findings, MessageError, Place
from relais.mappings.hl7v2.order import Endpoint
from relais.mappings.hl7v2.reading import examine
from relais.mappings.hl7v2.zam import SMTP_CODES, Zam, read_zam, smtp_code, write_zam
from support.hl7v2 import POLICY, inserted, joined, lines, message, order, with_field, without

TIME = "20260112090501+0100"


def answer(data: bytes, **changes: str) -> bytes:
    """The ACK of a message as a receiver makes it."""
    examined = examine(data, POLICY)
    values = {"control_id": "PFI1", "time": TIME} | changes
    return acknowledge(examined.header, examined.acknowledgement, examined.findings.errors, **values)


def complaints(data: bytes, structure: str) -> list[str]:
    """What grammar and hl7apy have against a message."""
    findings = Findings()
    grammar.check(er7.parse(data), structure, findings)
    return [str(finding.issue) for finding in findings]


# --- ACK ----------------------------------------------------------------------------------------------------------


def test_accepted() -> None:
    assert lines(answer(message())) == [
        "MSH|^~\\&|PFI|GHT|RELAIS|DAC du Val|20260112090501+0100||ACK^T02^ACK|PFI1|P|2.6|||||FRA|UNICODE UTF-8",
        "MSA|AA|RELAIS0001",
    ]


def test_the_version_event_and_character_set_are_those_of_the_message() -> None:
    msh = lines(answer(message(order(message="ORU", charset="8859/15", processing="T"))))[0].split("|")
    assert (msh[8], msh[10], msh[11], msh[17]) == ("ACK^R01^ACK", "T", "2.5", "8859/15")


def test_refused_with_place_and_codes() -> None:
    data = with_field(with_field(message(), "PID-7", "19800101"), "OBX[3]-11", "P")
    acknowledgement = lines(answer(data))
    assert acknowledgement[1:] == [
        "MSA|AE|RELAIS0001",
        "ERR||PID^1^7^1|207^Application error^messageErrorCondition|E|904^INS ou traits différents de ceux du dossier"
        "^applicationErrorCode||PID-7: differs from the document [hl7v2.patient]",
        "ERR||OBX^3^11^1^1|103^Table value not found^messageErrorCondition|E|||OBX[3]-11.1: F is expected "
        "[hl7v2.value]",
    ]
    read = read_acknowledgement(answer(data))
    assert (read.code, read.acknowledges, read.event, read.control_id) == ("AE", "RELAIS0001", "T02", "PFI1")
    assert read.errors[0] == ErrorCondition(
        "207",
        "Application error",
        "E",
        "904",
        "INS ou traits différents de ceux du dossier",
        "PID^1^7^1",
        "PID-7: differs from the document [hl7v2.patient]",
    )
    assert str(read.errors[1]) == "OBX^3^11^1^1: 103 Table value not found (OBX[3]-11.1: F is expected [hl7v2.value])"


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        ("MSH-9", "ADT^A01^ADT_A01", "AR"),
        ("MSH-11", "X", "AR"),
        ("MSH-12", "2.5", "AR"),
        ("MSH-21", "", "AR"),
        ("PV1-2", "Z", "AE"),
    ],
)
def test_rejected_or_in_error(place: str, value: str, code: str) -> None:
    assert read_acknowledgement(answer(with_field(message(), place, value))).code == code


@pytest.mark.parametrize(
    "data", [message(), message(order(message="ORU")), with_field(message(), "PV1-2", "Z"), without(message(), "PV1")]
)
def test_hl7apy_accepts_our_acknowledgements(data: bytes) -> None:
    assert complaints(answer(data), "ACK") == []


@pytest.mark.parametrize("data", [b"", b"garbage", b"MSH|", b"MSH|^~\\&|A|B|C|D|||MDM^T02|77|P|2.6|||||FRA|KLINGON\r"])
def test_what_cannot_be_read_is_still_answered(data: bytes) -> None:
    made = answer(data)
    assert lines(made)[1].startswith("MSA|AE")
    assert len(lines(made)) == 3
    if b"77" in data:
        assert read_acknowledgement(made).acknowledges == "77"


def test_an_answer_stays_short() -> None:
    findings = [Finding.error("103", Place("OBX", number), "x", "y") for number in range(500)]
    assert len(lines(acknowledge(None, "AE", findings, control_id="1", time=TIME))) == 22


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=20), st.text("ABC123", min_size=1))
def test_names_of_the_sender_come_back(application: str, control_id: str) -> None:
    data = with_field(message(), "MSH-3", er7.escape(application))
    msh = er7.parse(answer(with_field(data, "MSH-10", control_id))).header
    assert msh.text(5) == application


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (message(), "MSH-9"),
        (with_field(answer(message()), "MSA-1", "CA"), "MSA-1"),
        (with_field(answer(message()), "MSA-2", ""), "MSA-2"),
        (without(answer(message()), "MSA"), "MSA-1"),
        (b"<html></html>", "MSH"),
    ],
)
def test_what_is_no_acknowledgement(data: bytes, place: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_acknowledgement(data)
    assert str(caught.value.findings[0].place) == place


def test_an_acknowledgement_with_the_bare_minimum() -> None:
    assert read_acknowledgement(b"MSH|^~\\&|||||||ACK\rMSA|AA|8") == Acknowledgement("AA", "8")


def test_the_vector_of_the_volet() -> None:
    data = (
        b"MSH|^~\\&|PFI|C|RIS|C|20250310091501||ACK^T02^ACK|9|T|2.6|||||FRA|UNICODE UTF-8\r"
        b"MSA|AA|8\r"
    )  # fmt: skip
    assert read_acknowledgement(data) == Acknowledgement("AA", "8", "T02", "9")


# --- ZAM ----------------------------------------------------------------------------------------------------------

CLOSED = ErrorCondition("207", application="DMPClosed", application_label="DMP fermé")


def zam(**changes: object) -> Zam:
    plain = Zam("Z01", "PFI7", "RELAIS0001", True, TIME, Endpoint("PFI", "GHT"), Endpoint("RELAIS", "DAC du Val"))
    return replace(plain, **changes)  # type: ignore[arg-type]


RECEPTION = {"trigger": "Z02", "mailbox": "infirmier@ssiad.mssante.fr", "recipient_id": "810109876540"}


def test_z01() -> None:
    assert lines(write_zam(zam())) == [
        "MSH|^~\\&|PFI|GHT|RELAIS|DAC du Val|20260112090501+0100||ZAM^Z01^ZAM_Z01|PFI7|P|2.6|||||FRA|UNICODE UTF-8"
        "|||2.1^CISIS_CDA_HL7_V2",
        "EVN||20260112090501+0100",
        "OBX|1|CWE|ACK_RECEPTION_DMP^Accusé de réception DMP^AckMetierZAM|RELAIS0001|Y^^expandedYes-NoIndicator||||||F",
    ]


def test_z01_that_says_no() -> None:
    assert lines(write_zam(zam(positive=False, error=CLOSED)))[2:] == [
        "OBX|1|CWE|ACK_RECEPTION_DMP^Accusé de réception DMP^AckMetierZAM|RELAIS0001|N^^expandedYes-NoIndicator||||||F",
        "ERR|||207^Application error^messageErrorCondition|E|DMPClosed^DMP fermé^DMP_ERROR_CODE",
    ]


def test_z02_and_z03_name_the_mailbox() -> None:
    assert lines(write_zam(zam(**RECEPTION)))[3] == (
        "OBX|2|XTN|DESTINATAIRE_MSS^Destinataire MSSanté^AckMetierZAM|810109876540|^^X.400^infirmier@ssiad.mssante.fr"
        "||||||F"
    )
    reading = lines(write_zam(zam(**(RECEPTION | {"trigger": "Z03"}))))
    assert reading[2].startswith("OBX|1|CWE|ACK_LECTURE_MSS^Accusé de lecture^AckMetierZAM|")
    assert reading[3].startswith("OBX|2|XTN|LECTEUR_MSS^Lecteur du courriel MSSanté^AckMetierZAM|")


ZAMS = [
    zam(),
    zam(positive=False, error=CLOSED),
    zam(**RECEPTION),
    zam(
        **RECEPTION,
        positive=False,
        error=ErrorCondition("207", application="550", application_label="Inconnu & absent"),
    ),
    zam(**(RECEPTION | {"trigger": "Z03"}), charset="8859/15", processing="T"),
]


@pytest.mark.parametrize("wanted", ZAMS)
def test_zam_there_and_back(wanted: Zam) -> None:
    data = write_zam(wanted)
    if wanted.error:
        wanted = replace(wanted, error=replace(wanted.error, label="Application error"))
    assert read_zam(data) == wanted
    assert complaints(data, "ZAM_Z01") == []


@pytest.mark.parametrize(
    ("wanted", "change", "place"),
    [
        (zam(), lambda data: with_field(data, "MSH-9", "ZAM^Z04^ZAM_Z01"), "MSH-9"),
        (zam(), lambda data: with_field(data, "MSH-9", "MDM^T02^MDM_T02"), "MSH-9"),
        (zam(), lambda data: with_field(data, "MSH-12", "2.5"), "MSH-12"),
        (zam(), lambda data: without(data, "EVN"), "OBX"),
        (zam(), lambda data: with_field(data, "EVN-2", ""), "EVN-2"),
        (zam(), lambda data: with_field(data, "OBX-3", "X^Y^AckMetierZAM"), "OBX-3"),
        (zam(), lambda data: with_field(data, "OBX-4", ""), "OBX-4"),
        (zam(), lambda data: with_field(data, "OBX-5", "O"), "OBX-5"),
        (zam(), lambda data: with_field(data, "OBX-5", "N"), "ERR"),
        (zam(positive=False, error=CLOSED), lambda data: without(data, "ERR"), "ERR"),
        (zam(positive=False, error=CLOSED), lambda data: with_field(data, "OBX-5", "Y"), "ERR"),
        (zam(positive=False, error=CLOSED), lambda data: with_field(data, "ERR-3", "199"), "ERR-3"),
        (zam(positive=False, error=CLOSED), lambda data: with_field(data, "ERR-5", ""), "ERR-3"),
        (zam(**RECEPTION), lambda data: joined(lines(data)[:-1]), "OBX[2]"),
        (zam(**RECEPTION), lambda data: with_field(data, "OBX[2]-5", "^^SMTP^a@b"), "OBX[2]-5"),
        (zam(**RECEPTION), lambda data: with_field(data, "OBX[2]-2", "ST"), "OBX[2]-2"),
        (zam(**RECEPTION), lambda data: joined([*lines(data), lines(data)[-1]]), "OBX[3]"),
        (zam(), lambda data: inserted(data, "PID|1", "OBX"), "PID"),
        (zam(), lambda _data: b"garbage", "MSH"),
    ],
)
def test_what_is_no_zam(wanted: Zam, change: Callable[[bytes], bytes], place: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_zam(change(write_zam(wanted)))
    assert [str(finding.place) for finding in caught.value.findings] == [place]


def test_a_zam_that_breaks_a_rule_is_not_made() -> None:
    with pytest.raises(MessageError, match="only there"):
        write_zam(zam(positive=False))
    with pytest.raises(MessageError, match="address"):
        write_zam(zam(trigger="Z02"))


def test_a_zam_is_acknowledged_like_any_message() -> None:
    header = er7.parse(write_zam(zam())).header
    made = acknowledge(header, "AA", (), control_id="R1", time=TIME)
    assert er7.parse(made).header.field(9) == "ACK^Z01^ACK"
    assert read_acknowledgement(made).acknowledges == "PFI7"


@pytest.mark.parametrize(("reply", "code"), [(250 + 1, 251), (454, 451), (550, 550), (571, 554), (421, 421)])
def test_smtp_codes(reply: int, code: int) -> None:
    assert smtp_code(reply) == code
    assert code in SMTP_CODES
