"""A report as SVRL (ISO/IEC 19757-3 annex D), for tools that read what Schematron engines write.

One `active-pattern` for each check; a `fired-rule` for each finding, with the context of its rule where one is known.
The annex demands one in each pattern: where nothing was found its flag tells a check that passed from one that did not
apply or run.
What SVRL has no element for (verdict, hashes, what could not be run) stands in its texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from relais.cda.parsing import SDTC, V3, XSI
from relais.profiles.messages import Language
from relais.server.reports.words import Words, writable
from relais.server.validation.report import Check, Finding, Part, Report

SVRL = "http://purl.oclc.org/dsdl/svrl"
_SVRL = f"{{{SVRL}}}"
_PREFIXES = {"cda": V3, "hl7": V3, "sdtc": SDTC, "xsi": XSI}
_STEP = re.compile(
    r"/(?P<at>@?)\{(?P<uri>[^}]*)\}(?P<foreign>[\w.\-]+)|/(?P<unprefixed>[A-Za-z_][\w.\-]*)(?![\w.\-:(])"
)
_NO_TOKEN = re.compile(r"[^\w.\-:]+", re.ASCII)
_ROLES = {"fatal": "fatal", "error": "error", "warning": "warning", "information": "info"}


def svrl(report: Report, language: Language) -> bytes:
    """One report."""
    words = Words(language)
    top = etree.Element(f"{_SVRL}schematron-output", nsmap={"svrl": SVRL}, title="relais validate", schemaVersion="1.0")
    for line in _texts(report, words):
        etree.SubElement(top, f"{_SVRL}text").text = writable(line)
    for prefix, uri in _PREFIXES.items():
        etree.SubElement(top, f"{_SVRL}ns-prefix-in-attribute-values", prefix=prefix, uri=uri)
    for part in report.parts:
        for number, check in enumerate(part.checks):
            _pattern(top, report, part, check, number, words)
    return etree.tostring(top, encoding="UTF-8", xml_declaration=True, pretty_print=True)


def _texts(report: Report, words: Words) -> Iterator[str]:
    yield f"{report.name}: {words.verdict(report)}, SHA-256 {report.sha256}"
    yield from (f"{words('rule set')} {used.name} SHA-256 {used.sha256}" for used in report.rule_sets)
    for part in report.parts:
        for check in part.checks:
            yield f"{part.place or report.name}, {words.check(check)}: {words.outcome(check)}"
            for label, findings in (("not run", check.not_run), ("limit", check.limits)):
                yield from (f"{words(label)}: {item.path} {item.message} [{item.rule}]" for item in findings)


def _pattern(top: etree._Element, report: Report, part: Part, check: Check, number: int, words: Words) -> None:
    document = writable(f"{report.name}!{part.place}" if part.place else report.name)
    name = writable(words.check(check))
    etree.SubElement(top, f"{_SVRL}active-pattern", name=name, documents=document, role=f"check-{number}")
    if not check.findings:
        etree.SubElement(top, f"{_SVRL}fired-rule", context="/", flag=_token(check.outcome))
    for finding in check.findings:
        etree.SubElement(top, f"{_SVRL}fired-rule", context=writable(finding.context or "/"))
        _finding(top, finding, is_cda=part.kind == "cda")


def _finding(top: etree._Element, finding: Finding, *, is_cda: bool) -> None:
    kind = "successful-report" if finding.is_report else "failed-assert"
    element = etree.SubElement(
        top,
        f"{_SVRL}{kind}",
        test=writable(finding.test or "true()"),
        location=writable(_location(finding.path) if is_cda else finding.path or "/"),
        role=_ROLES[finding.severity],
        flag=_token(finding.rule),
    )
    words = f": {finding.excerpt}" if finding.excerpt else ""
    line = f" (line {finding.line}{words})" if finding.line else ""
    note = f" ({finding.note})" if finding.note else ""
    etree.SubElement(element, f"{_SVRL}text").text = writable(f"{finding.message}{note}{line} [{finding.rule}]")


def _token(text: str) -> str:
    """What `role` and `flag` may be: an NMTOKEN."""
    return _NO_TOKEN.sub("-", text)


def _location(path: str) -> str:
    """The XPath of a finding with the prefix that its unprefixed names stand for, and no name in Clark notation."""
    return _STEP.sub(_step, path) or "/"


def _step(found: re.Match[str]) -> str:
    if found["unprefixed"]:
        return f"/hl7:{found['unprefixed']}"
    quote = '"' if "'" in found["uri"] else "'"
    return f"/{found['at']}*[local-name()='{found['foreign']}' and namespace-uri()={quote}{found['uri']}{quote}]"
