"""What can be wrong in an HL7 v2 message: the place, the code of table 0357 to answer with, the rule.

CI-SIS volet "Transmission de documents CDA-R2 en HL7v2" 2.1, HL7 v2.6 §2.14.5 (ERR). A finding never quotes a value.
Its rule is a name (`hl7v2.patient`) explained in `docs/mapping-hl7v2.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relais.cda.errors import Issue, RelaisError, Severity

REJECTED = frozenset({"200", "201", "202", "203"})
"""Codes of table 0357 that say the message is not for this receiver: the answer is AR, for any other error AE."""

_ISSUE_CODES = {"100": "structure", "101": "required", "102": "value", "103": "code-invalid", "198": "structure"}


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a message: the `number`th segment of a name, field, repetition and component, all from 1."""

    segment: str
    number: int = 1
    field: int | None = None
    repetition: int = 1
    component: int | None = None

    def __str__(self) -> str:
        """`OBX[2]-5`, `PID-3(2).1`."""
        text = self.segment if self.number == 1 else f"{self.segment}[{self.number}]"
        if self.field is None:
            return text
        repetition = "" if self.repetition == 1 else f"({self.repetition})"
        component = "" if self.component is None else f".{self.component}"
        return f"{text}-{self.field}{repetition}{component}"

    @property
    def err_2(self) -> tuple[str, ...]:
        """The components of ERR-2."""
        parts = (self.segment, self.number, self.field, self.repetition, self.component)
        known = parts[: 2 if self.field is None else 4 if self.component is None else 5]
        return tuple(str(part) for part in known)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `code` is of table 0357 (100, 101…); `application` of table 0533 (900 to 906) beside code 207."""

    severity: Severity
    code: str
    place: Place
    message: str
    rule: str
    application: str | None = None

    @classmethod
    def error(cls, code: str, place: Place, message: str, rule: str, application: str | None = None) -> Finding:
        """A finding that makes the message refused."""
        return cls("error", code, place, message, rule, application)

    @property
    def issue(self) -> Issue:
        """The same, as every part of Relais reports it."""
        kind = "not-supported" if self.code in REJECTED else _ISSUE_CODES.get(self.code, "business-rule")
        return Issue(self.severity, kind, self.message, str(self.place), self.rule)


def answer_code(errors: Iterable[Finding]) -> str:
    """MSA-1 of the answer to a message with these errors: AA without any, AR when it is not for this receiver."""
    codes = {error.code for error in errors}
    return "AR" if codes & REJECTED else "AE" if codes else "AA"


class MessageError(RelaisError):
    """A message that is refused, with every finding."""

    def __init__(self, findings: Finding | Iterable[Finding]) -> None:
        self.findings: tuple[Finding, ...] = (findings,) if isinstance(findings, Finding) else tuple(findings)
        super().__init__(finding.issue for finding in self.findings)


class Findings(list[Finding]):
    """Findings in the order in which they are made."""

    def error(self, code: str, place: Place, message: str, rule: str, application: str | None = None) -> None:
        """Add one that makes the message refused."""
        self.append(Finding("error", code, place, message, rule, application))

    def refuse(self, application: str, place: Place, message: str, rule: str) -> None:
        """Add an error of meaning: code 207 with an application code (900 to 906)."""
        self.append(Finding("error", "207", place, message, rule, application))

    def warn(self, code: str, place: Place, message: str, rule: str) -> None:
        """Add one that is said and goes on."""
        self.append(Finding("warning", code, place, message, rule))

    @property
    def errors(self) -> list[Finding]:
        """Those that make the message refused."""
        return [finding for finding in self if finding.severity == "error"]
