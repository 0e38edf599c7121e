"""The checks of a CDA document: XML schema and official Schematrons of each rule set, then those of Relais."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from relais.cda import consistency, style_sheets
from relais.cda.errors import UnreadableError
from relais.cda.parsing import parse
from relais.cda.rule_sets import TERMINOLOGIES
from relais.cda.schematron import NotRun
from relais.cda.validation import CodeSystemUse, Problem, ProfileResult, Report, Validator
from relais.profiles.messages import Language
from relais.server.validation.excerpts import Elements
from relais.server.validation.findings import Locate, limit, not_run, of_issues, stated_place
from relais.server.validation.language import translated
from relais.server.validation.report import Check, Finding

_ABSENT = "the official rules are not on this machine: set RELAIS_CISIS_PACK to their folder"


def document_checks(data: bytes, validators: Sequence[Validator], now: datetime, language: Language) -> Iterator[Check]:
    """Every check of a document at some moment, whatever its bytes; without validators, those of Relais only."""
    try:
        tree = parse(data)
    except UnreadableError as error:
        yield Check("XML", "XML 1.0", findings=of_issues(error.issues, language, stated_place(data)))
        return
    elements = Elements(data, tree)
    reports = [validator.validate(data) for validator in validators]
    for report in reports:
        yield from _of_rule_set(report, elements, language)
    if not reports:
        yield Check("official rules", "", not_run=(not_run("relais-rules", _ABSENT, language),))
    document = style_sheets.document_of(tree)
    found = reports[0].consistency if reports else (*style_sheets.check(tree), *consistency.check(document))
    found = (*found, *consistency.check_clock(document, now))
    yield Check("consistency", "relais", official=False, findings=of_issues(found, language, _locate(elements)))


def _locate(elements: Elements) -> Locate:
    def locate(path: str) -> tuple[int, str]:
        line = elements.line(path)
        return line, elements.at(path, line)

    return locate


def _of_rule_set(report: Report, elements: Elements, language: Language) -> Iterator[Check]:
    authority = report.rule_set
    schema = tuple(_problem(problem, "structure", elements, language) for problem in report.schema_problems)
    yield Check("XML schema", authority, findings=schema)
    for profile in report.profiles:
        yield _of_profile(profile, report, elements, language)


def _of_profile(profile: ProfileResult, report: Report, elements: Elements, language: Language) -> Check:
    code = "code-invalid" if profile.name == TERMINOLOGIES else "invariant"
    not_made = [_not_run(item, elements, language) for item in profile.not_run]
    limits = [limit(item.rule, item.reason, language, item.path) for item in profile.limits]
    if profile.name == TERMINOLOGIES:
        limits += [_unverified(use, language) for use in report.code_systems if use.unverified]
    return Check(
        name=profile.name,
        authority=report.rule_set,
        official=profile.official,
        fired=profile.fired,
        checked=profile.checked,
        findings=tuple(_problem(problem, code, elements, language) for problem in profile.problems),
        not_run=tuple(not_made),
        limits=tuple(limits),
    )


def _problem(problem: Problem, code: str, elements: Elements, language: Language) -> Finding:
    return Finding(
        severity=problem.severity,
        code=code,
        message=problem.text,
        path=problem.path,
        line=problem.line,
        rule=problem.rule,
        excerpt=elements.at(problem.path, problem.line),
        fixed_message=problem.fixed_text,
        note=translated(problem.note, language),
        test=problem.test,
        context=problem.context,
        is_report=problem.is_report,
        expected=problem.expected,
    )


def _not_run(item: NotRun, elements: Elements, language: Language) -> Finding:
    reason = translated(item.reason, language)
    reason = f"{item.code}: {reason}" if item.code else reason
    excerpt = elements.at(item.path, item.line) if item.path else ""
    fixed = f"error {item.code}" if item.code else item.reason
    return Finding("error", "incomplete", reason, item.path, item.line, item.rule, excerpt, fixed)


def _unverified(use: CodeSystemUse, language: Language) -> Finding:
    system = " ".join((use.system, use.name)).strip()
    if use.system:
        reason = f"{use.unverified} codes of {system}: no published rule verifies them"
    else:
        reason = f"{use.unverified} codes without code system: no published rule verifies them"
    return limit("relais-code-system", reason, language)
