"""What every part of the reader works with: the message, the policy of the receiver, the findings made so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from relais.cda.datatypes import is_ts
from relais.mappings.hl7v2.er7 import Message, Segment
from relais.mappings.hl7v2.findings import Findings, Place
from relais.mappings.hl7v2.order import MessageType
from relais.mappings.identity import ENVIRONMENT_INS_ROOTS


@dataclass(frozen=True, slots=True)
class Policy:
    """How a receiver reads the volet.

    `strict` keeps to its letter: the closed list of legal combinations, base64 with its padding. Otherwise what is
    harmless is a warning. `ins_environment` says which INS may arrive; `mailbox_domains` are those of the trust space,
    `.x` standing for every one below x; `may_mask_and_hide` that the DMP takes both masks together.
    """

    strict: bool = False
    ins_environment: Literal["test", "production"] = "production"
    mailbox_domains: tuple[str, ...] = ("mssante.fr", ".mssante.fr")
    may_mask_and_hide: bool = False
    processing: frozenset[str] = frozenset("PTD")

    @property
    def ins_roots(self) -> tuple[str, ...]:
        """OIDs of the INS that may arrive."""
        return ENVIRONMENT_INS_ROOTS[self.ins_environment]


@dataclass(slots=True)
class Context:
    """One message being read. `to_lps` tells the volet "Transmission au LPS" from the one to platforms."""

    message: Message
    policy: Policy
    type: MessageType
    to_lps: bool
    findings: Findings = field(default_factory=Findings)

    def text(
        self, segment: Segment, number: int, component: int = 1, subcomponent: int = 1, *, repetition: int = 1
    ) -> str:
        """The text of a (sub)component without spaces around it, which are said."""
        found = segment.text(number, component, subcomponent, repetition=repetition)
        if found != (trimmed := found.strip()):
            place = segment.place(number, repetition, component)
            self.findings.warn("102", place, "spaces around the value are ignored", "hl7v2.spaces")
        return trimmed

    def required(self, segment: Segment, number: int, component: int = 1) -> str:
        """As `text`; an empty one is an error."""
        found = self.text(segment, number, component)
        if not found:
            self.findings.error("101", segment.place(number, 1, component), "required", "hl7v2.required")
        return found

    def fixed(self, segment: Segment, number: int, expected: str, component: int = 1, *, case: bool = True) -> None:
        """Refuse a value that the volet fixes when it is another one."""
        found = self.text(segment, number, component)
        if found == expected or (not case and found.casefold() == expected.casefold()):
            return
        code = "103" if found else "101"
        message = f"{expected or 'nothing'} is expected"
        self.findings.error(code, segment.place(number, 1, component), message, "hl7v2.value")

    def time(self, segment: Segment, number: int) -> str:
        """A time, or nothing; an ill-formed one is an error."""
        found = self.text(segment, number)
        if found and not is_ts(found):
            message = "not a time: YYYY[MM[DD[HH[MM[SS]]]]][±ZZZZ] expected"
            self.findings.error("102", segment.place(number), message, "hl7v2.time")
        return found

    def authority(self, segment: Segment, number: int, component: int, repetition: int = 1) -> str:
        """The OID of an assigning authority; one that stands bare, outside `&OID&ISO`, is said."""
        oid = self.text(segment, number, component, 2, repetition=repetition)
        place = segment.place(number, repetition, component)
        if not oid and (bare := self.text(segment, number, component, repetition=repetition)):
            self.findings.warn("102", place, "the OID stands where the namespace belongs", "hl7v2.authority")
            return bare
        if " " in segment.text(number, component, repetition=repetition):
            self.findings.warn("102", place, "a space in the namespace, which is ignored", "hl7v2.authority")
        if oid and self.text(segment, number, component, 3, repetition=repetition) != "ISO":
            self.findings.warn("102", place, "the type of the authority is not ISO", "hl7v2.authority")
        return oid

    def place_of_document(self) -> Place:
        """OBX-5 of the document."""
        return Place("OBX", 1, 5)
