"""What a validation says, whatever was checked: a report has parts, a part has checks, a check has findings.

A verdict claims no more than was verified: a check of which no rule applied is no pass, one that could not run neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from relais.cda.errors import Severity
from relais.cda.validation import DOCUMENT_MODEL

Kind = Literal["cda", "xdm", "metadata", "agreement", "hl7v2", "fhir", "unknown"]
"""What a part is: a document, an archive, its metadata, their agreement with the documents, a message, a resource."""

Verdict = Literal["conformant", "doubtful", "not-judged", "not-conformant"]
"""From best to worst. `doubtful`: published rules accept it and a check of Relais' own does not."""

Outcome = Literal["passed", "nothing applies", "not entirely run", "failed"]
"""What one check says."""

VERDICTS: tuple[Verdict, ...] = ("conformant", "doubtful", "not-judged", "not-conformant")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing said about one place. `line` counts from 1; 0 when it is not known.

    `message` is as published and may quote the content; `fixed_message` never does. `test` and `context` are those of
    the Schematron rule. `expected`: official rules that contradict each other make it unavoidable.
    """

    severity: Severity
    code: str
    message: str
    path: str = ""
    line: int = 0
    rule: str = ""
    excerpt: str = ""
    fixed_message: str = ""
    note: str = ""
    test: str = ""
    context: str = ""
    is_report: bool = False
    expected: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it makes what was checked non-conformant."""
        return self.severity in ("error", "fatal")


@dataclass(frozen=True, slots=True)
class Check:
    """What one judge says: a profile of a rule set, a schema, the checks of Relais.

    `authority` is the rule set as `name@hash`, or the specification; `official` is false for checks of Relais' own.
    `fired` and `checked` count rules and checks, None where nothing counts them. `limits` are checks that the published
    rules cannot make, whatever runs them: they do not change the verdict.
    """

    name: str
    authority: str
    official: bool = True
    fired: int | None = None
    checked: int | None = None
    findings: tuple[Finding, ...] = ()
    not_run: tuple[Finding, ...] = ()
    limits: tuple[Finding, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """In words."""
        if any(finding.is_error for finding in self.findings):
            return "failed"
        if self.not_run:
            return "not entirely run"
        return "nothing applies" if self.fired == 0 else "passed"

    @property
    def verdict(self) -> Verdict:
        """What it lets be said of the part."""
        if self.outcome == "failed":
            return "not-conformant" if self.official else "doubtful"
        if self.outcome == "not entirely run":
            return "not-judged" if self.official else "doubtful"
        return "conformant"


@dataclass(frozen=True, slots=True)
class Part:
    """What was checked: the file itself (`place` empty), or something in it."""

    place: str
    kind: Kind
    sha256: str
    size: int
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, place: str, kind: Kind, data: bytes, checks: Iterable[Check]) -> Part:
        """A part whose bytes are `data`."""
        return cls(place, kind, hashlib.sha256(data).hexdigest(), len(data), tuple(checks))

    @property
    def verdict(self) -> Verdict:
        """The worst of its checks; one that nothing judged was not judged."""
        return worst(check.verdict for check in self.checks) if self.checks else "not-judged"

    @property
    def lacks_model(self) -> bool:
        """Whether it is a document of a model whose rules are not held: what it says was hardly checked."""
        return any(check.name == DOCUMENT_MODEL and not check.fired for check in self.checks)


@dataclass(frozen=True, slots=True)
class RuleSetUsed:
    """A rule set, and the SHA-256 of all its files."""

    name: str
    sha256: str

    @property
    def identity(self) -> str:
        """As `authority` names it."""
        return f"{self.name}@{self.sha256[:12]}"


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a file. Its first part is the file itself."""

    name: str
    parts: tuple[Part, ...]
    rule_sets: tuple[RuleSetUsed, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What the file is."""
        return self.parts[0].kind

    @property
    def sha256(self) -> str:
        """Of the file; empty when it could not be read."""
        return self.parts[0].sha256

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self.parts[0].size

    @property
    def verdict(self) -> Verdict:
        """The worst of its parts."""
        return worst(part.verdict for part in self.parts)

    @property
    def lacks_model(self) -> bool:
        """Whether one of its parts does."""
        return any(part.lacks_model for part in self.parts)

    def findings(self) -> Iterator[tuple[Part, Check, Finding]]:
        """Every finding, in order."""
        for part in self.parts:
            for check in part.checks:
                for finding in check.findings:
                    yield part, check, finding

    def count(self, *severities: Severity) -> int:
        """How many findings are of these severities."""
        return sum(finding.severity in severities for _, _, finding in self.findings())


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of some verdicts; conformant when there are none."""
    return max(verdicts, key=VERDICTS.index, default="conformant")
