"""A report as JSON, for machines: docs/validation.md lists its names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import msgspec

from relais.server.reports.words import writable
from relais.server.validation.report import Check, Finding, Part, Report


def json(reports: Iterable[Report]) -> bytes:
    """Every report, as one list."""
    return msgspec.json.format(msgspec.json.encode([as_data(report) for report in reports]), indent=2) + b"\n"


def as_data(report: Report) -> dict[str, Any]:
    """One report as plain values."""
    return {
        "file": writable(report.name),
        "kind": report.kind,
        "verdict": report.verdict,
        "conformant": report.verdict == "conformant",
        "lacks_model": report.lacks_model,
        "sha256": report.sha256,
        "size": report.size,
        "rule_sets": [{"name": used.name, "sha256": used.sha256} for used in report.rule_sets],
        "packages": list(report.packages),
        "parts": [_part(part) for part in report.parts],
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "place": part.place,
        "kind": part.kind,
        "verdict": part.verdict,
        "sha256": part.sha256,
        "size": part.size,
        "checks": [_check(check) for check in part.checks],
    }


def _check(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "authority": check.authority,
        "official": check.official,
        "outcome": check.outcome,
        "rules_fired": check.fired,
        "checks_made": check.checked,
        "findings": [_finding(finding) for finding in check.findings],
        "not_run": [_finding(finding) for finding in check.not_run],
        "limits": [_finding(finding) for finding in check.limits],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    """The finding without what it does not have."""
    fields = asdict(finding)
    del fields["fixed_message"]
    return {name: value for name, value in fields.items() if value not in ("", 0, False)}
