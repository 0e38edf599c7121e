"""`$validate` of what is no FHIR: CDA documents, IHE_XDM archives, HL7 v2 messages, alone or in a Binary.

They are recognised by their content and judged in processes of their own; one thread of a web process never waits long
for these, so that other requests are answered meanwhile. A FHIR resource is judged here, by the packages of the facade.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from relais.cda.errors import Issue, RelaisError, Severity
from relais.cda.validation_pool import ValidationUnavailableError
from relais.mappings.context import Resource
from relais.profiles.messages import Language
from relais.profiles.structure import check as check_structure
from relais.server.conformance import Conformance
from relais.server.fhir import xml_format
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.json_format import dump
from relais.server.fhir.negotiation import accepted_types
from relais.server.fhir.outcome import FhirError, operation_outcome
from relais.server.reports.page import page
from relais.server.reports.words import Words
from relais.server.settings import Settings
from relais.server.validation.contents import is_xml, recognise
from relais.server.validation.files import Job, judge_pool
from relais.server.validation.language import translated
from relais.server.validation.report import Check, Finding, Part, Report, RuleSetUsed, Verdict
from relais.server.validation.resources import resource_parts

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade

PAGE = "text/html"
"""The media type that is answered with the whole report, as a page."""

XML_TYPES = ("text/xml", "application/xml")
CONTENT_TYPES = (
    *XML_TYPES,
    "application/zip",
    "application/x-zip-compressed",
    "application/octet-stream",
    "x-application/hl7-v2+er7",
    "text/plain",
)
"""Media types of bodies that are content rather than a resource; what they hold is told from their bytes."""

_log = logging.getLogger(__name__)
_PATIENCE = 120.0
_BRIEFLY = 0.25  # seconds that the last thread waits for others to leave; it answers nobody else meanwhile
_CODES: dict[Verdict, tuple[Severity, str]] = {
    "conformant": ("information", "informational"),
    "doubtful": ("warning", "business-rule"),
    "not-judged": ("error", "incomplete"),
    "not-conformant": ("error", "invalid"),
}
_GUARDED = (
    ("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'"),
    ("X-Content-Type-Options", "nosniff"),
)


class ContentJudge:
    """The judge of one facade; each web process has processes of its own."""

    def __init__(self, settings: Settings, conformance: Conformance) -> None:
        self._settings = settings
        self._conformance = conformance
        self._pool = judge_pool(settings, processes=settings.validation_processes)
        self._waiting = threading.BoundedSemaphore(max(settings.threads - 1, 1))

    def warm_up(self) -> None:
        """Have the official rules compiled meanwhile, where there are any and the settings ask for it."""
        if self._settings.validation_at_start and self._settings.rules_folder:
            threading.Thread(target=self._compile, name="validation", daemon=True).start()

    def close(self) -> None:
        """End the processes, for good."""
        self._pool.close()

    def judge(self, data: bytes, language: Language) -> Report:
        """The report on some bytes. Raises FhirError 503 when no process could judge them, or too many wait already."""
        if recognise(data) != "fhir":
            return self._from_process(data, language)
        rule_sets: dict[RuleSetUsed, None] = {}

        def inside(content: bytes, place: str) -> Iterator[Part]:
            report = self._from_process(content, language)
            rule_sets.update(dict.fromkeys(report.rule_sets))
            for part in report.parts:
                yield replace(part, place=f"{place}!{part.place}" if part.place else place)

        max_depth = self._settings.max_depth
        parts = tuple(resource_parts(data, "", self._conformance, (), max_depth, inside, language))
        return Report(
            "", parts, tuple(rule_sets), tuple(package.label for package in self._conformance.registry.packages)
        )

    def _from_process(self, data: bytes, language: Language) -> Report:
        if not self._waiting.acquire(timeout=_BRIEFLY if self._pool.is_ready else 0):
            if self._pool.is_ready:
                raise FhirError.of(503, "throttled", "too many validations at a time: try again")
            raise FhirError.of(503, "transient", "the official rules are being compiled: try again", Retry_After="5")
        try:
            return self._pool.run(Job(data, "", language), _PATIENCE)
        except ValidationUnavailableError as error:
            raise FhirError(503, error.issues) from error
        finally:
            self._waiting.release()

    def _compile(self) -> None:
        try:
            self._pool.warm_up()
        except RelaisError as error:
            _log.warning("the official rules are not compiled: %s", error)


def content_of(resource: Resource) -> bytes | None:
    """What a sound Binary holds; None for any other resource."""
    if resource.get("resourceType") != "Binary" or not resource.get("data") or check_structure(resource):
        return None
    return base64.b64decode("".join(resource["data"].split()))


def resource_in(body: Resource, max_depth: int) -> Resource:
    """The resource that a body announced as plain XML holds; the body itself when it is no FHIR XML.

    Raises UnreadableError for XML that is neither FHIR nor anything else Relais reads.
    """
    data = content_of(body) if body.keys() == {"resourceType", "contentType", "data"} else None
    if data is None or body["contentType"].split(";")[0] not in XML_TYPES:
        return body
    is_resource = recognise(data) in ("fhir", "unknown") and is_xml(data)
    return xml_format.parse(data, max_depth) if is_resource else body


def answer(facade: Facade, call: Call, data: bytes) -> Reply:
    """The verdict on content: an OperationOutcome, or the whole report as a page.

    Raises FhirError 415 for what is nothing that can be validated.
    """
    report = facade.content_judge.judge(data, call.language)
    if report.kind == "unknown":
        raise FhirError(415, list(issues(report, call.language))[1:])
    if call.accept and next(iter(accepted_types(call.accept)), "") == PAGE:
        return Reply(200, page([report], call.language), content_type=f"{PAGE}; charset=utf-8", headers=_GUARDED)
    return Reply(200, dump(operation_outcome(issues(report, call.language))))


def issues(report: Report, language: Language) -> Iterator[Issue]:
    """What a report says, the verdict first; no issue quotes the content."""
    words = Words(language)
    severity, code = _CODES[report.verdict]
    verdict = f"{words.verdict(report)} — {words.totals(report)}, SHA-256 {report.sha256}"
    yield Issue(severity, code, verdict, "", ", ".join(one.identity for one in report.rule_sets))
    for part in report.parts:
        for check in part.checks:
            for finding in (*check.findings, *check.not_run, *check.limits):
                yield _issue(part, check, finding, language)


def _issue(part: Part, check: Check, finding: Finding, language: Language) -> Issue:
    place = f"{part.place}#{finding.path}" if part.place and finding.path else part.place or finding.path
    line = f" (line {finding.line})" if finding.line else ""
    message = translated(finding.fixed_message, language)
    rule = " ".join(text for text in (check.authority, check.name, finding.rule) if text)
    return Issue(finding.severity, finding.code, f"{message}{line}", place, rule)
