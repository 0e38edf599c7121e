"""The verdict on a CDA document: XML schema, every official Schematron profile that applies, own consistency checks.

A verdict claims no more than was verified: a profile of which no rule fired applies to nothing, a check that could
not run is not passed, code systems that no rule looks into are listed, and failures that the official rules contradict
each other on are shown, and marked as expected.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from lxml import etree

from relais.cda import consistency, style_sheets, templates
from relais.cda.datatypes import is_oid
from relais.cda.errors import MOST_ALIKE, Issue, Severity, first_alike
from relais.cda.parsing import V3, XSI, Places, local_name, parse
from relais.cda.rule_sets import (
    CAVEATS,
    CODE_SYSTEM_FILES,
    CURRENT,
    GENERIC_PROFILES,
    LIMITS,
    MODELS,
    STRUCTURE,
    TERMINOLOGIES,
    UNITS_FILE,
    UNSTRUCTURED_MODELS,
    XML_SCHEMA,
    Caveat,
    Profile,
    RuleSet,
)
from relais.cda.schematron import (
    CompiledSchema,
    Finding,
    NotRun,
    Processor,
    Result,
    SchematronError,
    Source,
    line_of,
    read_pattern,
    read_schema,
)

DOCUMENT_MODEL = "document model"
"""The result of a document with a model that is not among those whose rules are held: no rule of it fired."""

_SEVERAL_VERSIONS = "the templateId of the document does not say which version of its model applies; held here: {}"
_OTHER_VERSION = "the templateId of the document calls for a version of its model that is not held here; held here: {}"
_NO_MODEL = "no templateId of the document names a document model whose rules are held here"
_LACKING = "the templateId of the document name a document model whose rules are not held here: {}"

_NS = {"v3": V3, "xsi": XSI}
_SEVERITIES: dict[str, Severity] = {"fatal": "fatal", "warning": "warning", "warn": "warning", "info": "information"}
_CONTRADICTION = "expected for PPS-PAERPA: its profile requires this code, which TerminologieCISIS no longer holds"
# No anyURI for XML Schema 1.0 (RFC 2396 §3), but one for libxml2: a scheme or `//` with nothing after it.
_EMPTY_ADDRESS = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:(?://)?|//)\s*(?:#.*)?", re.DOTALL)
_ADDRESSES = etree.XPath("//v3:telecom | //v3:reference | //v3:value[@xsi:type = 'TEL']", namespaces=_NS)
# In its paths libxml2 counts the siblings that are written alike, prefix included, whatever namespace that stands for.
_PREFIXED_STEP = re.compile(r"(?<=/)([^/\[@*:]+:[^/\[]+)")
# How libxml2 quotes a value of the document in a schema error.
_QUOTED_VALUE = re.compile(
    r"(?<=The value )'.*?'(?= (?:is|has) )|'.*'(?= is not a valid value)|(?<=key-sequence )\[.*\]"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that official rules, or the orphan pattern, hold against the document.

    `text` is the official message, which may quote the document; `fixed_text` never does and is fit for logs.
    `test` and `context` are XPaths of the Schematron rule; `is_report`: a report that fired, not an assert that failed.
    """

    severity: Severity
    text: str
    fixed_text: str
    path: str
    line: int
    rule: str
    note: str = ""
    expected: bool = False
    test: str = ""
    context: str = ""
    is_report: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it makes the document non-conformant."""
        return self.severity in ("error", "fatal")


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """What one profile says. Zero `fired` rules: nothing applies, which is not a pass.

    `limits` are checks that the published rules cannot make, whatever runs them; they do not change the verdict.
    """

    name: str
    official: bool
    fired: int
    checked: int
    problems: tuple[Problem, ...]
    not_run: tuple[NotRun, ...] = ()
    limits: tuple[NotRun, ...] = ()

    @property
    def verdict(self) -> str:
        """In words: failed, not run, nothing applies, or passed."""
        if any(problem.is_error for problem in self.problems):
            return "failed"
        if self.not_run:
            return "not entirely run"
        return "passed" if self.fired else "nothing applies"


@dataclass(frozen=True, slots=True)
class CodeSystemUse:
    """How many codes of a code system (OID, or empty when none is given) the official rules could verify."""

    system: str
    name: str
    verified: int
    unverified: int


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on the bytes of that SHA-256, by that rule set."""

    sha256: str
    rule_set: str
    schema_problems: tuple[Problem, ...]
    profiles: tuple[ProfileResult, ...]
    code_systems: tuple[CodeSystemUse, ...]
    consistency: tuple[Issue, ...]

    @property
    def schema_valid(self) -> bool:
        """Whether the document is valid against the XML schema."""
        return not self.schema_problems

    @property
    def official_errors(self) -> tuple[Problem, ...]:
        """Errors of the schema and of the official profiles, expected failures included."""
        found = (problem for profile in self.profiles if profile.official for problem in profile.problems)
        return (*self.schema_problems, *(problem for problem in found if problem.is_error))

    @property
    def expected_failures(self) -> tuple[Problem, ...]:
        """The official errors that come from official rules that contradict each other."""
        return tuple(problem for problem in self.official_errors if problem.expected)

    @property
    def not_run(self) -> tuple[NotRun, ...]:
        """Checks of applicable profiles that could not be run."""
        return tuple(item for profile in self.profiles for item in profile.not_run)

    @property
    def conformant(self) -> bool:
        """The strict official verdict: no official error of any kind, nothing left unrun, header rules applied."""
        return not self.official_errors and self._judged

    @property
    def acceptable(self) -> bool:
        """Whether the document may be sent: nothing against it but the expected failures.

        Unlike `conformant`, counts the orphan pattern and the consistency checks, and lets expected failures pass.
        """
        problems = (*self.schema_problems, *(problem for profile in self.profiles for problem in profile.problems))
        wrong = any(problem.is_error and not problem.expected for problem in problems)
        return (
            not wrong and self._judged and not any(issue.severity in ("error", "fatal") for issue in self.consistency)
        )

    @property
    def _judged(self) -> bool:
        structure = next(profile for profile in self.profiles if profile.name == STRUCTURE)
        return structure.fired > 0 and not self.not_run

    def to_issues(self) -> list[Issue]:
        """Everything as issues, none of which quotes the document. Expected failures come as warnings."""
        return [
            *(_schema_issue(problem) for problem in self.schema_problems),
            *(_problem_issue(problem, profile) for profile in self.profiles for problem in profile.problems),
            *(_not_run_issue(item, profile, "error") for profile in self.profiles for item in profile.not_run),
            *(_not_run_issue(item, profile, "information") for profile in self.profiles for item in profile.limits),
            *(_unverified_issue(use) for use in self.code_systems if use.unverified),
            *self.consistency,
        ]

    def to_text(self) -> str:
        """The whole report for a reader; official messages in it may quote the document."""
        return "\n".join(_text_lines(self))


class Validator:
    """Judges documents by one rule set. Compiled rules stay warm; serves one thread.

    `pack` is the folder that holds `cda/`. Raises RulesError when the rules are not there.
    """

    def __init__(self, pack: Path, rule_set: str = CURRENT) -> None:
        self.rule_set = RuleSet.load(pack, rule_set)
        self._processor = Processor()
        self._schema = etree.XMLSchema(etree.parse(self.rule_set.folder / XML_SCHEMA))
        self._code_systems = self.rule_set.code_systems()
        self._compiled: dict[str, CompiledSchema] = {}

    def warm_up(self) -> None:
        """Compile the profiles that every document needs: takes seconds, once."""
        for profile in GENERIC_PROFILES:
            self.compiled(profile)

    def compiled(self, profile: Profile) -> CompiledSchema:
        """A profile, compiled when first asked for."""
        if profile.name not in self._compiled:
            folder = self.rule_set.folder
            if profile.official:
                schema = read_schema(folder / profile.file, root=folder)
            else:
                schema = read_pattern(folder / profile.file, {"cda": V3}, root=folder)
            self._compiled[profile.name] = self._processor.compile(schema, self.rule_set.replaced)
        return self._compiled[profile.name]

    def validate(self, data: bytes) -> Report:
        """The verdict on a document, also on one inside the style sheet that shows it.

        Raises UnreadableError when the bytes are not XML fit to be read.
        """
        whole = parse(data)
        tree = style_sheets.document_of(whole)
        return Report(
            sha256=hashlib.sha256(data).hexdigest(),
            rule_set=self.rule_set.identity,
            schema_problems=tuple(self._schema_problems(tree)),
            profiles=tuple(self._profile_results(tree)),
            code_systems=tuple(self._code_system_uses(tree)),
            consistency=(*style_sheets.check(whole), *consistency.check(tree)),
        )

    def _schema_problems(self, tree: etree._ElementTree) -> Iterator[Problem]:
        self._schema.validate(tree)
        log: Any = self._schema.error_log
        places = Places()
        found: dict[str | None, etree._Element] = {}
        for entry in islice(log, MOST_ALIKE):
            if entry.path not in found:
                found[entry.path] = _found(tree, entry.path)
            element = found[entry.path]
            text = entry.message.replace(f"{{{V3}}}", "")
            fixed_text = _QUOTED_VALUE.sub("…", text)
            yield Problem("error", text, fixed_text, places.of(element), line_of(element), XML_SCHEMA)
        if (more := len(log) - MOST_ALIKE) > 0:
            text = f"{more} more findings of this kind"
            yield Problem("error", text, text, places.of(tree.getroot()), line_of(tree.getroot()), XML_SCHEMA)
        for element in islice(_empty_addresses(tree), MOST_ALIKE):
            text = "Element '{}', attribute 'value': '{}' is not a valid value of the atomic type 'url'."
            name = local_name(str(element.tag))
            shown, fixed_text = (text.format(name, value) for value in (element.get("value"), "…"))
            yield Problem("error", shown, fixed_text, places.of(element), line_of(element), XML_SCHEMA)

    def _profile_results(self, tree: etree._ElementTree) -> Iterator[ProfileResult]:
        try:
            source = self._processor.source(tree)
        except SchematronError as error:
            for profile in GENERIC_PROFILES:
                not_run = NotRun(profile.file, error.issues[0].message)
                yield ProfileResult(profile.name, True, 0, 0, (), (not_run,))
            return
        expected = self._contradicted(tree)
        misleading = _misleading_code_systems(tree)
        for profile in GENERIC_PROFILES:
            if profile.name == TERMINOLOGIES and misleading:
                yield ProfileResult(profile.name, True, 0, 0, (), misleading)
            else:
                opened = self._opened(tree) if profile.name == TERMINOLOGIES else ()
                yield self._profile_result(profile, self.compiled(profile).validate(source, opened), tree, expected)
        yield from self._model_results(tree, source)

    def _model_results(self, tree: etree._ElementTree, source: Source) -> Iterator[ProfileResult]:
        """What the profile of each document model says that the templateId of the document name, if held here."""
        models = _models(tree)
        lacking = [names[0] for names in models if names and not self.rule_set.versions(names, ())]
        for names, template in models.items():
            held = self.rule_set.versions(names, ())
            called_for = self.rule_set.versions(names, template)
            if len(called_for) == 1:
                [profile] = called_for.values()
                for one in filter(None, (profile, self.rule_set.orphan_of(profile))):
                    yield self._profile_result(one, self.compiled(one).validate(source), tree, frozenset())
            elif held:
                reason = (_SEVERAL_VERSIONS if called_for else _OTHER_VERSION).format(", ".join(called_for or held))
                yield ProfileResult(names[0], True, 0, 0, (), (NotRun("relais-document-model", reason),))
        if lacking or not models:
            reason = _LACKING.format(", ".join(lacking)) if lacking else _NO_MODEL
            yield ProfileResult(DOCUMENT_MODEL, True, 0, 0, (), (), (NotRun("relais-document-model", reason),))

    def _opened(self, tree: etree._ElementTree) -> Iterator[Path]:
        """The files in which the terminologies profile will look for the units and codes of a document: megabytes."""
        yield self.rule_set.folder / UNITS_FILE
        systems = {element.get("codeSystem", "") for element in tree.iterfind(".//*[@codeSystem]")}
        for system in sorted(systems & self._code_systems):
            file = self.rule_set.folder / CODE_SYSTEM_FILES / f"{system}.rdf"
            yield self.rule_set.replaced.get(file, file)

    def _profile_result(
        self, profile: Profile, result: Result, tree: etree._ElementTree, expected: frozenset[str]
    ) -> ProfileResult:
        contradicted = expected if profile.name == TERMINOLOGIES else frozenset[str]()
        return ProfileResult(
            name=profile.name,
            official=profile.official,
            fired=result.fired,
            checked=result.checked,
            problems=(
                *_first_problems((_problem(finding, contradicted) for finding in result.failed), tree),
                *_first_problems((_problem(finding, contradicted, is_report=True) for finding in result.reports), tree),
            ),
            not_run=_first_not_run(result.not_run),
            limits=tuple(self._limits(profile, tree)),
        )

    def _contradicted(self, tree: etree._ElementTree) -> frozenset[str]:
        """XPaths of the codes that one profile requires and another refuses."""
        if templates.PPS_PAERPA not in _template_ids(tree):
            return frozenset()
        codes = self.rule_set.contradictory_codes
        found = tree.iterfind(f".//*[@codeSystem='{templates.TERMINOLOGIE_CISIS}']")
        places = Places()
        return frozenset(places.of(element) for element in found if element.get("code") in codes)

    def _limits(self, profile: Profile, tree: etree._ElementTree) -> Iterator[NotRun]:
        compiled = self.compiled(profile)
        yield from (NotRun(gap.at, gap.reason) for gap in (*compiled.unreachable, *compiled.schema.remarks))
        for limit in LIMITS:
            if limit.profile == profile.name and tree.xpath(limit.present, namespaces=_NS):
                yield NotRun(limit.rule, limit.reason)

    def _code_system_uses(self, tree: etree._ElementTree) -> Iterator[CodeSystemUse]:
        """The code systems of all coded elements: which codes the terminologies profile looked up."""
        verified, unverified = Counter[str](), Counter[str]()
        names: dict[str, str] = {}
        readable = not _misleading_code_systems(tree)
        for element in tree.iterfind(".//*[@code]"):
            if "codeSystem" not in element.attrib and not _is_looked_up(element):
                continue  # a CS: its type fixes the code system, and the schema its values
            system = element.get("codeSystem", "")
            names[system] = names.get(system) or element.get("codeSystemName") or ""
            looked_up = readable and system in self._code_systems and _is_looked_up(element)
            (verified if looked_up else unverified)[system] += 1
        for system in sorted(names):
            yield CodeSystemUse(system, names[system], verified[system], unverified[system])


def _found(tree: etree._ElementTree, path: str | None) -> etree._Element:
    """The element at a path that libxml2 wrote; the root where there is none."""
    if not path:
        return tree.getroot()
    try:
        found: Any = tree.xpath(_PREFIXED_STEP.sub("*[name()='\\1']", path))
    except etree.XPathError:
        return tree.getroot()
    return found[0] if found else tree.getroot()


def _empty_addresses(tree: etree._ElementTree) -> Iterator[etree._Element]:
    found: Any = _ADDRESSES(tree)
    return (element for element in found if _EMPTY_ADDRESS.fullmatch(element.get("value", "")))


def _template_ids(tree: etree._ElementTree) -> list[str]:
    return [element.get("root", "") for element in tree.getroot().findall(f"{{{V3}}}templateId")]


def _models(tree: etree._ElementTree) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """The names of each document model that templateId of the document name, with these (root and extension)."""
    found: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    code = tree.getroot().find(f"{{{V3}}}code")
    type_code = code.get("code", "") if code is not None else ""
    for element in tree.getroot().iterfind(f"{{{V3}}}templateId"):
        template, extension = element.get("root", ""), element.get("extension", "").strip()
        names = MODELS.get(template)
        if template == templates.UNSTRUCTURED:
            names = UNSTRUCTURED_MODELS.get(type_code, names)
        if names is not None:
            found.setdefault(names, []).append((template, extension))
    return found


def _misleading_code_systems(tree: etree._ElementTree) -> tuple[NotRun, ...]:
    """Code systems that are no OID: the terminologies profile makes file names of them."""
    found = (element for element in tree.iterfind(".//*[@codeSystem]") if not is_oid(element.get("codeSystem", "")))
    places = Places()
    reason = "the profile opens a file named by codeSystem, which is not an OID here"
    return _first_not_run(
        NotRun("relais-code-system", reason, "", places.of(element), line_of(element)) for element in found
    )


def _is_looked_up(element: etree._Element) -> bool:
    """Whether the terminologies profile has a rule for this coded element."""
    is_value = element.tag == f"{{{V3}}}value" and element.get(f"{{{XSI}}}type") in ("CD", "CE")
    return is_value or element.tag == f"{{{V3}}}code"


def _first_problems(problems: Iterable[Problem], tree: etree._ElementTree) -> Iterator[Problem]:
    """The problems, those of one rule up to MOST_ALIKE; the root stands for where the others are."""

    def others(problem: Problem, more: str) -> Problem:
        root = tree.getroot()
        return replace(problem, text=more, fixed_text=more, path=Places().of(root), line=line_of(root))

    return first_alike(problems, lambda problem: (problem.rule, problem.severity, problem.expected), others)


def _first_not_run(items: Iterable[NotRun]) -> tuple[NotRun, ...]:
    """The same of what could not be run."""
    return tuple(first_alike(items, lambda item: (item.rule, item.code), lambda item, more: NotRun(item.rule, more)))


def _problem(finding: Finding, contradicted: frozenset[str], *, is_report: bool = False) -> Problem:
    caveat = CAVEATS.get(finding.rule, Caveat(""))
    expected = finding.path in contradicted
    return Problem(
        severity=caveat.severity or _SEVERITIES.get(finding.role, "error"),
        text=finding.text,
        fixed_text=finding.fixed_text,
        path=finding.path,
        line=finding.line,
        rule=finding.rule,
        note=_CONTRADICTION if expected else caveat.note,
        expected=expected,
        test=finding.test,
        context=finding.context,
        is_report=is_report,
    )


# --- rendering ------------------------------------------------------------------------------------------------


def _schema_issue(problem: Problem) -> Issue:
    return Issue(problem.severity, "structure", problem.fixed_text, problem.path, f"XML schema {problem.rule}")


def _problem_issue(problem: Problem, profile: ProfileResult) -> Issue:
    code = "code-invalid" if profile.name == TERMINOLOGIES else "invariant"
    note = f" ({problem.note})" if problem.note else ""
    severity = "warning" if problem.expected else problem.severity
    return Issue(severity, code, problem.fixed_text + note, problem.path, f"{profile.name} {problem.rule}")


def _not_run_issue(item: NotRun, profile: ProfileResult, severity: Severity) -> Issue:
    reason = f"error {item.code}" if item.code else item.reason
    return Issue(severity, "incomplete", f"not run: {reason}", item.path, f"{profile.name} {item.rule}")


def _unverified_issue(use: CodeSystemUse) -> Issue:
    system = f"of code system {use.system}" if use.system else "without code system"
    message = f"not run: {use.unverified} codes {system} are not verified by the official rules"
    return Issue("information", "incomplete", message, "", TERMINOLOGIES)


def _text_lines(report: Report) -> Iterator[str]:
    verdict = "conformant" if report.conformant else "not conformant"
    if report.expected_failures:
        verdict += f", {len(report.expected_failures)} expected failures of contradictory official rules"
    yield f"{verdict}; {'acceptable' if report.acceptable else 'not acceptable'}"
    yield f"rules {report.rule_set}, document sha256 {report.sha256}"
    yield f"XML schema: {'valid' if report.schema_valid else 'invalid'}"
    yield from (f"  {_problem_line(problem)}" for problem in report.schema_problems)
    for profile in report.profiles:
        official = "" if profile.official else ", not part of the official profiles"
        yield f"{profile.name}: {profile.verdict} ({profile.fired} rules fired, {profile.checked} checks{official})"
        yield from (f"  {_problem_line(problem)}" for problem in profile.problems)
        yield from (f"  not run: {item.path} {item.reason} [{item.rule}]" for item in profile.not_run)
        yield from (f"  limit: {item.reason} [{item.rule}]" for item in profile.limits)
    for use in report.code_systems:
        yield f"codes of {use.system or 'no system'} {use.name}: {use.verified} verified, {use.unverified} not verified"
    yield from (f"consistency: {issue}" for issue in report.consistency)


def _problem_line(problem: Problem) -> str:
    note = f" ({problem.note})" if problem.note else ""
    return f"{problem.severity}: line {problem.line} {problem.path}: {problem.text}{note} [{problem.rule}]"
