"""A report as JUnit XML, which continuous integration shows: a suite for each part, a case for each check."""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from relais.profiles.messages import Language
from relais.server.reports.text import in_order
from relais.server.reports.words import Words, writable
from relais.server.validation.report import Check, Finding, Part, Report


def junit(reports: Iterable[Report], language: Language) -> bytes:
    """Every report, as one `testsuites`."""
    words = Words(language)
    top = etree.Element("testsuites", name="relais validate")
    for report in reports:
        for part in report.parts:
            _suite(top, report, part, words)
    return etree.tostring(top, encoding="UTF-8", xml_declaration=True, pretty_print=True)


def _suite(top: etree._Element, report: Report, part: Part, words: Words) -> None:
    name = f"{report.name}!{part.place}" if part.place else report.name
    outcomes = [check.outcome for check in part.checks]
    suite = etree.SubElement(
        top,
        "testsuite",
        name=writable(name),
        tests=str(len(outcomes)),
        failures=str(outcomes.count("failed")),
        errors=str(outcomes.count("not entirely run")),
        skipped=str(outcomes.count("nothing applies")),
    )
    properties = etree.SubElement(suite, "properties")
    stated = {"sha256": part.sha256, "kind": part.kind, "verdict": part.verdict}
    stated |= {f"rule-set.{used.name}": used.sha256 for used in report.rule_sets if part.kind == "cda"}
    for key, value in stated.items():
        etree.SubElement(properties, "property", name=key, value=value)
    for check in part.checks:
        _case(suite, check, name, words)


def _case(suite: etree._Element, check: Check, name: str, words: Words) -> None:
    case = etree.SubElement(suite, "testcase", classname=writable(name), name=words.check(check))
    errors = [finding for finding in in_order(check.findings) if finding.is_error]
    if errors:
        message = f"{len(errors)} × {words('error')}"
        failure = etree.SubElement(case, "failure", message=message, type=check.name)
        failure.text = "\n".join(_line(finding, words) for finding in errors)
    elif check.not_run:
        error = etree.SubElement(case, "error", message=words("not run"), type="not-run")
        error.text = "\n".join(_line(finding, words) for finding in check.not_run)
    elif check.outcome == "nothing applies":
        etree.SubElement(case, "skipped", message=words("nothing applies"))
    remarks = (finding for finding in in_order(check.findings) if not finding.is_error)
    others = [*remarks, *check.not_run, *check.limits]
    if others:
        etree.SubElement(case, "system-out").text = "\n".join(_line(finding, words) for finding in others)


def _line(finding: Finding, words: Words) -> str:
    line = f"{words('line')} {finding.line} " if finding.line else ""
    note = f" ({finding.note})" if finding.note else ""
    severity = words.severity(finding.severity)
    said = f"{severity}: {line}{finding.path}: {finding.message}{note} [{finding.rule}]"
    return writable(f"{said}\n    {finding.excerpt}" if finding.excerpt else said)
