"""From what the rooms report (issues with a place and a rule) to findings of a report."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from relais.cda.errors import Issue
from relais.profiles.issues import Issue as FhirIssue
from relais.profiles.messages import Language
from relais.server.validation.excerpts import Lines
from relais.server.validation.language import translated
from relais.server.validation.report import Finding

Locate = Callable[[str], tuple[int, str]]
"""Line and excerpt of a place."""

_LINE = re.compile(r"\bline (\d+)")
_COLUMN = re.compile(r"\bcolumn (\d+)")
_SHOWN = 10_000_000  # bytes of which the lines are told apart
_SAID_OF_XML = "XML 1.0"


def nowhere(_path: str) -> tuple[int, str]:
    """A place of which neither line nor words are known."""
    return 0, ""


def stated_place(data: bytes) -> Locate:
    """Places that state a line, and perhaps a column, of some bytes: those of what a parser does not take."""
    lines = Lines(data[:_SHOWN])

    def locate(path: str) -> tuple[int, str]:
        line, column = stated_line(path), _COLUMN.search(path)
        return line, lines.at(line, int(column[1]) if column else 1)

    return locate


def stated_line(text: str) -> int:
    """The number of the line that a path or a message states; 0 when it states none."""
    stated = _LINE.search(text)
    return int(stated[1]) if stated else 0


def of_issue(issue: Issue | FhirIssue, language: Language, locate: Locate = nowhere) -> Finding:
    """One finding; its message never quotes what was checked."""
    line, excerpt = locate(issue.path)
    line = line or stated_line(issue.path)
    message = translated(issue.message, language)
    return Finding(
        issue.severity, issue.code, message, issue.path, line, issue.rule or _SAID_OF_XML, excerpt, issue.message
    )


def of_issues(issues: Iterable[Issue], language: Language, locate: Locate = nowhere) -> tuple[Finding, ...]:
    """The findings of some issues, in order."""
    return tuple(of_issue(issue, language, locate) for issue in issues)


def not_run(rule: str, reason: str, language: Language, path: str = "") -> Finding:
    """Something that could not be checked."""
    return Finding("error", "incomplete", translated(reason, language), path, 0, rule, fixed_message=reason)


def limit(rule: str, reason: str, language: Language, path: str = "") -> Finding:
    """Something that the rules cannot check."""
    return Finding("information", "incomplete", translated(reason, language), path, 0, rule, fixed_message=reason)
