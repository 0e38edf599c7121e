"""What a check found: the place, the rule, and whether the resource can be read at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["fatal", "error", "warning", "information"]

UNREADABLE_CODES = frozenset({"structure", "value"})
"""Issue codes that mean: this is no R4 JSON (HTTP 400). With any other code it is read, and breaks a rule (422)."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding. `code` is a FHIR issue-type code, `path` a FHIRPath expression, `rule` the rule's identifier.

    Messages never carry a value of the resource: it may be health data.
    """

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


def is_readable(issues: Iterable[Issue]) -> bool:
    """Whether a resource with these issues can still be read as R4."""
    return not any(issue.code in UNREADABLE_CODES and issue.severity in ("fatal", "error") for issue in issues)
