"""What can be wrong, said once: an issue names the place and the rule, an error carries issues.

`code` is a FHIR issue-type code (http://hl7.org/fhir/R4/valueset-issue-type.html) so that HTTP, CLI and worker
can each render the same issue; `path` is a FHIRPath, an XPath or an archive path, whichever the input speaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

Severity = Literal["fatal", "error", "warning", "information"]

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding. `rule` names the rule or the specification section that the finding rests on."""

    severity: Severity
    code: str
    message: str
    path: str = ""
    rule: str = ""

    def __str__(self) -> str:
        """One line: severity, place, message, rule."""
        place = f"{self.path}: " if self.path else ""
        rule = f" [{self.rule}]" if self.rule else ""
        return f"{self.severity}: {place}{self.message}{rule}"


MOST_ALIKE = 1_000
"""Most findings of one rule and severity that are listed one by one."""


def limited(issues: Iterable[Issue]) -> Iterator[Issue]:
    """The issues, those of one rule and severity up to MOST_ALIKE; then how many more there are of each."""
    return first_alike(
        issues,
        lambda issue: (issue.severity, issue.code, issue.rule),
        lambda issue, more: Issue(issue.severity, issue.code, more, rule=issue.rule),
    )


def first_alike(
    findings: Iterable[Found], kind: Callable[[Found], Hashable], standing_for: Callable[[Found, str], Found]
) -> Iterator[Found]:
    """The first MOST_ALIKE findings of each kind; then, for the rest of a kind, one that is made of the first of them
    and of a message that says how many they are.
    """
    counts = Counter[Hashable]()
    beyond: dict[Hashable, Found] = {}
    for finding in findings:
        key = kind(finding)
        counts[key] += 1
        if counts[key] <= MOST_ALIKE:
            yield finding
        else:
            beyond.setdefault(key, finding)
    for key, finding in beyond.items():
        yield standing_for(finding, f"{counts[key] - MOST_ALIKE} more findings of this kind")


class RelaisError(Exception):
    """An input or a situation that Relais refuses. Always carries at least one issue."""

    def __init__(self, issues: Issue | Iterable[Issue]) -> None:
        self.issues: tuple[Issue, ...] = (issues,) if isinstance(issues, Issue) else tuple(issues)
        if not self.issues:
            raise ValueError("a RelaisError needs at least one issue")
        super().__init__("; ".join(str(issue) for issue in self.issues))


class UnreadableError(RelaisError):
    """The bytes cannot be read at all: not XML, not JSON, not a ZIP archive, or a forbidden construct (DTD)."""


class MappingError(RelaisError):
    """A resource or a document lacks, or contradicts, what the other form requires. Lists everything at once."""


class ArchiveError(RelaisError):
    """An IHE_XDM archive that is refused; `rule` is the error name of the receiver checks (xdm.hash, …)."""
