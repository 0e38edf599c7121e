"""The checks of a FHIR resource, in JSON or XML: R4, the profiles it claims, and what a Binary holds."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from relais.cda.errors import RelaisError
from relais.cda.parsing import parse as parse_xml
from relais.profiles.messages import Language
from relais.profiles.positions import xml_position
from relais.profiles.run import NOT_CHECKED
from relais.server.conformance import Conformance, Located
from relais.server.fhir import json_format, xml_format
from relais.server.validation.archives import PartsOf
from relais.server.validation.contents import is_xml
from relais.server.validation.excerpts import Lines
from relais.server.validation.findings import limit, of_issue, of_issues, stated_line
from relais.server.validation.report import Check, Finding, Part

_R4 = "FHIR R4 4.0.1"
_COLUMN = re.compile(r"\bcolumn (\d+)")
_NO_PACKAGE = "no FHIR package is loaded: base R4 only, no profile was checked"


def resource_parts(
    data: bytes,
    place: str,
    conformance: Conformance,
    profiles: Sequence[str],
    max_depth: int,
    parts_of: PartsOf,
    language: Language,
) -> Iterator[Part]:
    """The resource, which is to meet `profiles` too, and the content of a Binary."""
    try:
        located = conformance.validate_file(data, profiles, language)
    except RelaisError as error:
        findings = of_issues(error.issues, language)
        findings = tuple(_placed(finding, data) for finding in findings)
        yield Part.of(place, "fhir", data, [Check("resource", _R4, findings=findings)])
        return
    lines = Lines(data)
    yield Part.of(place, "fhir", data, [_check(located, lines, conformance, language)])
    content = binary_content(data, max_depth)
    if content:
        yield from parts_of(content, f"{place}!Binary.data" if place else "Binary.data")


def _placed(finding: Finding, data: bytes) -> Finding:
    """What makes a resource unreadable, with the line that its message states, or that of the element it names."""
    line = finding.line or stated_line(finding.fixed_message)
    if not line and finding.path and is_xml(data):
        line = xml_position(parse_xml(data).getroot(), finding.path).line
    stated = _COLUMN.search(f"{finding.path} {finding.fixed_message}")
    return replace(finding, line=line, excerpt=Lines(data).at(line, int(stated[1]) if stated else 1))


def binary_content(data: bytes, max_depth: int) -> bytes | None:
    """What a Binary resource holds; None for another resource, and for what is not Base64."""
    parse = xml_format.parse if is_xml(data) else json_format.parse
    resource = parse(data, max_depth)
    content = resource.get("data")
    if resource["resourceType"] != "Binary" or not isinstance(content, str):
        return None
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _check(located: list[Located], lines: Lines, conformance: Conformance, language: Language) -> Check:
    findings: list[Finding] = []
    not_made: list[Finding] = []
    limits: list[Finding] = []
    for issue, position in located:
        excerpt = lines.at(position.line, max(position.column, 1))
        finding = replace(of_issue(issue, language), line=position.line, excerpt=excerpt)
        if issue.rule != NOT_CHECKED:
            findings.append(finding)
        elif issue.severity == "information":
            limits.append(finding)
        else:
            not_made.append(finding)
    if not conformance.registry.packages:
        limits.append(limit(NOT_CHECKED, _NO_PACKAGE, language))
    return Check("resource", _R4, findings=tuple(findings), not_run=tuple(not_made), limits=tuple(limits))
