"""ACK: the answer of a receiver, custody taken (AA), error (AE) or message not for it (AR), with its ERR segments.

CI-SIS volet "Transmission de documents CDA-R2 en HL7v2" 2.1 §ACK, HL7 v2.6 §2.9.2 and §2.14.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from relais.mappings.hl7v2 import tables
from relais.mappings.hl7v2.er7 import CHARSETS, Field, Message, Segment, encode, header_segment, parse, segment
from relais.mappings.hl7v2.findings import Finding, Findings, MessageError, Place

CODES = ("AA", "AE", "AR")
_MOST_ERRORS = 20
_RULE = "hl7v2.acknowledgement"


@dataclass(frozen=True, slots=True)
class ErrorCondition:
    """One ERR: `code` is of table 0357; `application` of the table that goes with the message, beside 207."""

    code: str
    label: str = ""
    severity: str = "E"
    application: str = ""
    application_label: str = ""
    place: str = ""  # ERR-2 as written
    diagnostic: str = ""

    def __str__(self) -> str:
        """One line: place, code and label, application code and label, diagnostic."""
        place = f"{self.place}: " if self.place else ""
        application = f", {self.application} {self.application_label}".rstrip() if self.application else ""
        diagnostic = f" ({self.diagnostic})" if self.diagnostic else ""
        return f"{place}{self.code} {self.label}{application}{diagnostic}"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An ACK: `acknowledges` is the MSH-10 it answers (MSA-2)."""

    code: str
    acknowledges: str
    event: str = ""
    control_id: str = ""
    errors: tuple[ErrorCondition, ...] = ()

    def __str__(self) -> str:
        """One line: code, then each error."""
        return "; ".join([f"{self.code} for message {self.acknowledges}", *map(str, self.errors)])


def acknowledge(header: Segment | None, code: str, errors: Iterable[Finding], *, control_id: str, time: str) -> bytes:
    """The ACK of the message that begins with `header` (None when it had no MSH), `time` being an HL7 TS."""
    received = header or Segment("MSH", 1, ())
    charset = received.text(18).strip()
    charset = charset if charset in CHARSETS else "UNICODE UTF-8"
    version = received.text(12).strip()
    msh: dict[int, Field] = {
        3: received.parts(5),
        4: received.parts(6),
        5: received.parts(3),
        6: received.parts(4),
        7: time,
        9: ("ACK", received.text(9, 2), "ACK"),
        10: control_id,
        11: received.parts(11),
        12: version if version in ("2.5", "2.6") else "2.6",
        17: "FRA",
        18: charset,
    }
    lines = [header_segment(msh), segment("MSA", {1: code, 2: received.text(10)})]
    lines += [_written(finding) for finding in list(errors)[:_MOST_ERRORS]]
    return encode(lines, charset)


def read_acknowledgement(data: bytes) -> Acknowledgement:
    """An ACK, read leniently: what counts is MSA. Raises MessageError when it is not one."""
    message = parse(data, assumed_charset="UNICODE UTF-8")
    msh, msa = message.header, message.first("MSA")
    findings = Findings()
    if msh.text(9).strip() != "ACK":
        findings.error("200", msh.place(9), "an ACK is expected", _RULE)
    if msa.text(1).strip() not in CODES:
        findings.error("103", Place("MSA", 1, 1), f"one of {', '.join(CODES)} is expected", _RULE)
    if not msa.text(2).strip():
        findings.error("101", Place("MSA", 1, 2), "the MSH-10 of the message answered is required", _RULE)
    if findings:
        raise MessageError(findings)
    return Acknowledgement(
        msa.text(1).strip(), msa.text(2).strip(), msh.text(9, 2), msh.text(10), tuple(read_errors(message))
    )


def read_errors(message: Message) -> Iterator[ErrorCondition]:
    """The ERR segments of a message."""
    for err in message.all("ERR"):
        yield ErrorCondition(
            code=err.text(3),
            label=err.text(3, 2),
            severity=err.text(4),
            application=err.text(5),
            application_label=err.text(5, 2),
            place=err.field(2),
            diagnostic=err.text(7) or err.text(8),
        )


def _written(finding: Finding) -> str:
    fields: dict[int, Field] = {
        2: finding.place.err_2,
        3: (finding.code, tables.label("errors", finding.code), "messageErrorCondition"),
        4: "E" if finding.severity == "error" else "W",
        7: f"{finding.place}: {finding.message} [{finding.rule}]",
    }
    if finding.application:
        label = tables.label("application_errors", finding.application)
        fields[5] = (finding.application, label, "applicationErrorCode")
    return segment("ERR", fields)
