"""A report for a terminal: the verdict first, then every check, the findings of each in the order of their lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relais.profiles.messages import Language
from relais.server.reports.words import Words, writable
from relais.server.validation.report import Check, Finding, Part, Report


def text(reports: Iterable[Report], language: Language) -> str:
    """Every report, one after another."""
    return "\n".join("\n".join(map(_shown, _lines(report, Words(language)))) for report in reports) + "\n"


def _shown(line: str) -> str:
    """What a terminal shows as it is, of a line that may quote anything; official messages may have line feeds."""
    return writable(line).replace("\r", "�")


def _lines(report: Report, words: Words) -> Iterator[str]:
    name = report.name.replace("\n", "�")
    yield f"{name}: {words.verdict(report)}" if name else words.verdict(report)
    yield f"  {words.totals(report)}"
    yield f"  SHA-256 {report.sha256}" if report.sha256 else f"  {words('not read')}"
    yield from (f"  {words('rule set')} {used.name} SHA-256 {used.sha256}" for used in report.rule_sets)
    if report.packages:
        yield f"  {words('FHIR packages')} {', '.join(report.packages)}"
    for part in report.parts:
        yield from _part(part, words)


def _part(part: Part, words: Words) -> Iterator[str]:
    title = f"{part.place} ({words.kind(part.kind)})" if part.place else words.kind(part.kind)
    yield f"  {title}: {words.verdict(part)}"
    if part.place and part.kind != "agreement":
        yield f"    SHA-256 {part.sha256}"
    for check in part.checks:
        yield from _check(check, words)


def _check(check: Check, words: Words) -> Iterator[str]:
    yield f"    {words.check(check)}: {words.outcome(check)}"
    for finding in in_order(check.findings):
        yield f"      {words.severity(finding.severity)} {_finding(finding, words)}"
        if finding.excerpt:
            yield f"        {finding.excerpt}"
    yield from (f"      {words('not run')}: {_finding(finding, words)}" for finding in check.not_run)
    yield from (f"      {words('limit')}: {_finding(finding, words)}" for finding in check.limits)


def _finding(finding: Finding, words: Words) -> str:
    line = f"{words('line')} {finding.line} " if finding.line else ""
    note = f" ({finding.note})" if finding.note else ""
    place = f"{finding.path}: " if finding.path else ""
    return f"{line}{place}{finding.message}{note} [{finding.rule}]"


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by line; those without one first."""
    return sorted(findings, key=lambda finding: finding.line)
