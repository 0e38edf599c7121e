"""ZAM: the business acknowledgement of a platform, one for the DMP (Z01), one per mailbox for reception (Z02) and
reading (Z03).

CI-SIS volet "Transmission de documents CDA-R2 en HL7v2" 2.1 §ZAM. It comes after the ACK, minutes or days later, and
names by OBX-4 the MSH-10 of the message it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relais.cda.datatypes import is_ts
from relais.mappings.hl7v2 import grammar, tables
from relais.mappings.hl7v2.acknowledgement import ErrorCondition, read_errors
from relais.mappings.hl7v2.er7 import Field, Message, Segment, encode, header_segment, parse, segment
from relais.mappings.hl7v2.findings import Findings, MessageError, Place
from relais.mappings.hl7v2.order import Endpoint
from relais.mappings.hl7v2.reading import TO_PLATFORM
from relais.mappings.hl7v2.writing import envelope

Trigger = Literal["Z01", "Z02", "Z03"]

SMTP_CODES = frozenset(
    {101, 111, 251, 252, 420, 421, 422, 431, 432, 441, 442, 450, 451, 452}
    | {500, 501, 502, 503, 504, 510, 512, 513, 523, 530, 541, 550, 551, 552, 553, 554}
)
"""Table SMTPERRORCODE."""

_RULE = "hl7v2.zam"
_ANSWER_TABLE = "expandedYes-NoIndicator"


@dataclass(frozen=True, slots=True)
class Zam:
    """One business acknowledgement of the message whose MSH-10 is `acknowledges`; `error` if and only if it says no.

    `mailbox` is the recipient (Z02) or reader (Z03); `time` is when the acknowledged event took place (HL7 TS).
    """

    trigger: Trigger
    control_id: str
    acknowledges: str
    positive: bool
    time: str
    sending: Endpoint
    receiving: Endpoint
    mailbox: str = ""
    recipient_id: str = ""
    error: ErrorCondition | None = None
    processing: str = "P"
    charset: str = "UNICODE UTF-8"


def smtp_code(code: int) -> int:
    """The code of table SMTPERRORCODE for a reply of a mail server: itself, or the general one of its class."""
    if code in SMTP_CODES:
        return code
    return 451 if 400 <= code < 500 else 554


def write_zam(zam: Zam) -> bytes:
    """The message. Raises MessageError when it breaks a rule of the volet."""
    row = tables.row("zam", "trigger", zam.trigger) or {}
    fields = envelope(
        ("ZAM", zam.trigger, "ZAM_Z01"),
        "2.6",
        zam.sending,
        zam.receiving,
        time=zam.time,
        control_id=zam.control_id,
        processing=zam.processing,
        charset=zam.charset,
    )
    answer = ("Y" if zam.positive else "N", "", _ANSWER_TABLE)
    lines = [
        header_segment(fields | {21: TO_PLATFORM}),
        segment("EVN", {2: zam.time}),
        _obx("1", "CWE", (row["code"], row["label"], "AckMetierZAM"), zam.acknowledges, answer),
    ]
    if row["party"]:
        party = (row["party"], row["party_label"], "AckMetierZAM")
        lines.append(_obx("2", "XTN", party, zam.recipient_id, ("", "", "X.400", zam.mailbox)))
    if zam.error:
        lines.append(_err(zam.error, row["errors"]))
    message = encode(lines, zam.charset)
    read_zam(message)
    return message


def read_zam(data: bytes) -> Zam:
    """A ZAM. Raises MessageError with everything that makes it refused."""
    message = parse(data)
    findings = Findings()
    msh = message.header
    row = tables.row("zam", "trigger", msh.text(9, 2)) if msh.text(9) == "ZAM" else None
    if row is None or msh.text(9, 3) != "ZAM_Z01":
        findings.error("201" if msh.text(9) == "ZAM" else "200", msh.place(9), "ZAM^Z01 to Z03^ZAM_Z01", _RULE)
    if msh.text(12) != "2.6":
        findings.error("203", msh.place(12), "2.6 is expected", _RULE)
    if findings or row is None or not grammar.check(message, "ZAM_Z01", findings):
        raise MessageError(findings)
    _check(message, row, findings)
    if findings:
        raise MessageError(findings)
    return _read(message, row)


def _check(message: Message, row: tables.Row, findings: Findings) -> None:
    """The rules of the volet on a message of the right structure."""
    first, *others = message.all("OBX")
    errors = message.all("ERR")
    _expect(first, {2: "CWE", 11: "F"}, row["code"], findings)
    if not first.text(4):
        findings.error("101", first.place(4), "the MSH-10 of the message acknowledged is required", _RULE)
    if first.text(5) not in ("Y", "N"):
        findings.error("103", first.place(5), "Y or N is expected", _RULE)
    elif (first.text(5) == "N") != bool(errors):
        findings.error("101", Place("ERR"), "ERR stands in a negative acknowledgement, and only there", _RULE)
    if bool(row["party"]) != bool(others):
        message_text = "the mailbox is named by Z02 and Z03, and only by them"
        findings.error("101", Place("OBX", 2), message_text, _RULE)
    for other in others if row["party"] else ():
        _expect(other, {2: "XTN", 11: "F"}, row["party"], findings)
        if other.text(5, 3) != "X.400" or not other.text(5, 4):
            findings.error("101", other.place(5), "^^X.400^<address> is expected", _RULE)
    for err in errors:
        if err.text(3) != "207" or not err.text(5):
            findings.error("103", err.place(3), "207 with a code in ERR-5 is expected", _RULE)
    if not is_ts(message.first("EVN").text(2)):
        findings.error("102", Place("EVN", 1, 2), "the time of the event is required", _RULE)


def _expect(obx: Segment, fixed: dict[int, str], code: str, findings: Findings) -> None:
    for number, expected in fixed.items():
        if obx.text(number) != expected:
            findings.error("103", obx.place(number), f"{expected} is expected", _RULE)
    if obx.text(3) != code or obx.text(3, 3) != "AckMetierZAM":
        findings.error("103", obx.place(3), f"{code} of AckMetierZAM is expected", _RULE)


def _read(message: Message, row: tables.Row) -> Zam:
    msh, obx = message.header, message.all("OBX")
    triggers: dict[str, Trigger] = {"Z01": "Z01", "Z02": "Z02", "Z03": "Z03"}
    return Zam(
        trigger=triggers[row["trigger"]],
        control_id=msh.text(10),
        acknowledges=obx[0].text(4),
        positive=obx[0].text(5) == "Y",
        time=message.first("EVN").text(2),
        sending=Endpoint(msh.text(3), msh.text(4)),
        receiving=Endpoint(msh.text(5), msh.text(6)),
        mailbox=obx[1].text(5, 4) if len(obx) > 1 else "",
        recipient_id=obx[1].text(4) if len(obx) > 1 else "",
        error=next(read_errors(message), None),
        processing=msh.text(11),
        charset=msh.text(18),
    )


def _obx(number: str, kind: str, identifier: Field, about: str, value: Field) -> str:
    return segment("OBX", {1: number, 2: kind, 3: identifier, 4: about, 5: value, 11: "F"})


def _err(error: ErrorCondition, table: str) -> str:
    fields: dict[int, Field] = {
        3: (error.code, error.label or tables.label("errors", error.code), "messageErrorCondition"),
        4: error.severity,
        5: (error.application, error.application_label, table),
    }
    return segment("ERR", fields)
