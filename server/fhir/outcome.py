"""What the facade refuses and how it says so: HTTP status and OperationOutcome, rendered here only (FHIR R4 §3.1.0).

The boundary between 400 and 422 is readability: what cannot be read as R4 (syntax, unknown element, malformed value)
is a 400, what is readable but breaks a rule of R4 or of Relais is a 422.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from relais.cda.errors import Issue, MappingError, RelaisError, UnreadableError
from relais.mappings.context import Resource
from relais.profiles.issues import UNREADABLE_CODES
from relais.profiles.issues import Issue as StructureIssue
from relais.server.search.errors import SearchError
from relais.server.store import StoreError, VersionConflictError

# What neither XML nor UTF-8 can carry: it may come from a parameter name that a refusal quotes.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


_SEARCH_STATUSES = MappingProxyType({"too-costly": 422, "expired": 410, "incomplete": 503})
"""Refusals of a search that are no mistake in it."""


class FhirError(RelaisError):
    """A refusal with its HTTP status; `headers` are added to the answer."""

    def __init__(
        self, status: int, issues: Issue | Iterable[Issue], headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(issues)
        self.status = status
        self.headers = headers

    @classmethod
    def of(cls, status: int, code: str, message: str, path: str = "", **headers: str) -> FhirError:
        """A refusal with one issue of severity error; header names are written with underscores."""
        return cls(
            status,
            Issue("error", code, message, path),
            {name.replace("_", "-"): value for name, value in headers.items()},
        )


def status_of(error: RelaisError) -> int:
    """The HTTP status that `error` deserves."""
    if isinstance(error, FhirError):
        return error.status
    if isinstance(error, VersionConflictError):
        return 409
    if isinstance(error, StoreError):
        return 503
    if isinstance(error, SearchError):
        return next((_SEARCH_STATUSES[i.code] for i in error.issues if i.code in _SEARCH_STATUSES), 400)
    if isinstance(error, MappingError):
        return 422
    if isinstance(error, UnreadableError) or any(issue.code in UNREADABLE_CODES for issue in error.issues):
        return 400
    return 409 if any(issue.code == "duplicate" for issue in error.issues) else 422


def operation_outcome(issues: Iterable[Issue | StructureIssue]) -> Resource:
    """The issues as an OperationOutcome: message in diagnostics, place in expression, rule in details."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(issue) for issue in issues]}


def all_well(message: str) -> Resource:
    """An OperationOutcome that says that nothing is wrong."""
    return operation_outcome([Issue("information", "informational", message)])


def _issue(issue: Issue | StructureIssue) -> dict[str, Any]:
    rendered: dict[str, Any] = {"severity": issue.severity, "code": issue.code}
    if issue.rule:
        rendered["details"] = {"text": issue.rule}
    rendered["diagnostics"] = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", issue.message)
    if issue.path:
        rendered["expression"] = [_UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", issue.path)]
    return rendered
