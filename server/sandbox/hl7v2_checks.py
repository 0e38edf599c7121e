"""What the sandbox platform recomputes on its own: the message by `hl7`, the document as XML, no mapping between.

CI-SIS volet "Transmission de documents CDA-R2 en HL7v2" 2.1. The reader of Relais and this second reading must both
agree to a message: a mistake that the writer and the reader of Relais share is seen here.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import hl7
from lxml import etree

from relais.cda.errors import UnreadableError
from relais.cda.reader import parse

_CDA = {"h": "urn:hl7-org:v3"}
_ACTIONS = {("MDM", "T02"): ("NW", "F"), ("MDM", "T10"): ("RO", "C"), ("MDM", "T04"): ("CA", "D")}
_FLAGS = (
    "MASQUE_PS",
    "INVISIBLE_PATIENT",
    "INVISIBLE_REP_LEGAUX",
    "CONNEXION_SECRETE",
    "MODIF_CONF_CODE",
    "DESTDMP",
    "DESTMSSANTEPS",
    "DESTMSSANTEPAT",
    "ACK_RECEPTION",
    "ACK_LECTURE_MSS",
)
_VERSIONS = {"MDM": "2.6", "ORU": "2.5"}


def second_opinion(text: str) -> list[str]:
    """What is wrong with a message to a platform, each as `PLACE: reason`; empty when nothing is."""
    try:
        message = _Message(text)
        return list(_objections(message))
    except hl7.HL7Exception:
        return ["MSH: the library hl7 cannot read the message"]


class _Message:
    """The segments of a message as `hl7` reads them."""

    def __init__(self, text: str) -> None:
        self.segments = list(hl7.parse(text))

    def all(self, name: str) -> list[Any]:
        return [segment for segment in self.segments if str(segment[0]) == name]

    def text(self, name: str, field: int, component: int = 1) -> str:
        """A component of the first segment of that name; empty when it is not there."""
        found = self.all(name)
        return _text(found[0], field, component) if found else ""


def _repetitions(segment: Any, field: int) -> list[str]:
    """The repetitions of a field as written."""
    return [text for text in map(str, segment[field] if field < len(segment) else ()) if text]


def _text(segment: Any, field: int, component: int = 1) -> str:
    parts = [*_repetitions(segment, field), ""][0].split("^")
    return parts[component - 1] if component <= len(parts) else ""


def _objections(message: _Message) -> Iterator[str]:
    kind, event = message.text("MSH", 9, 1), message.text("MSH", 9, 2)
    order, status = message.text("ORC", 1), message.text("OBX", 11)
    allowed = _ACTIONS.get((kind, event)) or next((pair for pair in _ACTIONS.values() if pair[0] == order), None)
    if (order, status) != allowed:
        yield "ORC-1: not the action of OBX-11 and of the event"
    if message.text("MSH", 12) != _VERSIONS.get(kind):
        yield "MSH-12: not the version of this message"
    if (message.text("MSH", 21, 1), message.text("MSH", 21, 2)) != ("2.1", "CISIS_CDA_HL7_V2"):
        yield "MSH-21: not the volet of the platforms"
    yield from _flag_objections(message)
    yield from _document_objections(message, kind, event)


def _flag_objections(message: _Message) -> Iterator[str]:
    observations = message.all("OBX")
    flags = observations[1 : 1 + len(_FLAGS)]
    if tuple(_text(flag, 3, 1) for flag in flags) != _FLAGS:
        yield "OBX-3: not the ten metadata in their order"
        return
    values = {_text(flag, 3, 1): _text(flag, 5, 1) for flag in flags}
    if set(values.values()) - {"Y", "N"}:
        yield "OBX-5: neither Y nor N"
    roles = [(_text(part, 4, 1), _text(part, 15, 4)) for part in message.all("PRT")]
    mailboxes = [mailbox.lower() for role, mailbox in roles if role == "RCT"]
    patients = [mailbox for mailbox in mailboxes if mailbox.endswith("@patient.mssante.fr")]
    if (values["DESTMSSANTEPAT"] == "Y") != bool(patients):
        yield "PRT: patient recipient and DESTMSSANTEPAT disagree"
    if (values["DESTMSSANTEPS"] == "Y") != (len(mailboxes) > len(patients)):
        yield "PRT: other recipients and DESTMSSANTEPS disagree"
    if values["DESTDMP"] == "Y" and roles[:1] and roles[0][0] != "SB":
        yield "PRT: no sender though DESTDMP is asked for"
    if values["DESTMSSANTEPAT"] == values["INVISIBLE_PATIENT"] == "Y":
        yield "OBX: hidden from the patient and sent to the patient"
    matricules = {cx.split("^")[0].lower() for cx in _repetitions(message.all("PID")[0], 3) if "^INS" in cx}
    if any(mailbox.partition("@")[0] not in matricules for mailbox in patients):
        yield "PRT-15: not the mailbox of the patient of PID-3"


def _document_objections(message: _Message, kind: str, event: str) -> Iterator[str]:
    written = message.text("OBX", 5, 5)
    try:
        cda = parse(base64.b64decode(written, validate=True)).getroot()
    except (ValueError, UnreadableError):
        yield "OBX-5: not a CDA in base64"
        return
    here = {(cx.split("^")[0], _authority(cx)) for cx in _repetitions(message.all("PID")[0], 3)}
    there = {_ii(node) for node in cda.iterfind("h:recordTarget/h:patientRole/h:id", _CDA)}
    if here != there:
        yield "PID-3: not the identifiers of patientRole"
    birth = cda.find("h:recordTarget/h:patientRole/h:patient/h:birthTime", _CDA)
    if birth is not None and message.text("PID", 7)[:8] != (birth.get("value") or "")[:8]:
        yield "PID-7: not the birth date of the document"
    if kind != "MDM":
        return
    if _document_id(message, 12) != _ii(cda.find("h:id", _CDA)):
        yield "TXA-12: not the id of the document"
    parents = [_ii(node) for node in cda.iterfind("h:relatedDocument[@typeCode='RPLC']/h:parentDocument/h:id", _CDA)]
    if event == "T10" and _document_id(message, 13) not in parents:
        yield "TXA-13: not the document replaced"


def _document_id(message: _Message, field: int) -> tuple[str, str]:
    first, root = message.text("TXA", field, 1), message.text("TXA", field, 3)
    return (first, root) if root else ("", first)


def _ii(node: etree._Element | None) -> tuple[str, str]:
    """Extension and root."""
    return ("", "") if node is None else (str(node.get("extension") or ""), str(node.get("root") or ""))


def _authority(cx: str) -> str:
    return [*cx.split("^"), "", "", "", ""][3].split("&")[1] if cx.count("&") else ""
