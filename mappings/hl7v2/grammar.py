"""The structure of a message, judged twice: order of segments by the grammar of the volet, fields by hl7apy.

hl7apy checks fields, components, required elements and repetitions against the published HL7 structures, but neither
the order of segments nor segments it does not know: that is what the grammar is for. PRT, which HL7 has from 2.7 on,
is declared as the volet uses it; ZAM is a private structure. CI-SIS "Transmission de documents CDA-R2 en HL7v2" 2.1.3.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from functools import cache, lru_cache
from typing import Any

import hl7apy
from hl7apy.core import Message as ParsedMessage
from hl7apy.exceptions import HL7apyException, ValidationError
from hl7apy.parser import parse_message
from hl7apy.validation import Validator

from relais.mappings.hl7v2.er7 import Message
from relais.mappings.hl7v2.findings import Finding, Findings, Place

_RULE = "hl7v2.grammar"
_HL7APY = "hl7v2.structure"
_OBSERVATIONS = r"(?:OBX (?:PRT )*(?:NTE )*)+"
_ORDER = r"OBR (?:NTE )*"
_TIMING = r"(?:TQ1 (?:TQ2 )?)*"

GRAMMARS = {
    "MDM_T02": rf"MSH (?:SFT )*(?:UAC )?EVN PID PV1 (?:ORC {_TIMING}{_ORDER})TXA {_OBSERVATIONS}",
    "ORU_R01": rf"MSH PID (?:PV1 )?ORC {_ORDER}{_TIMING}{_OBSERVATIONS}",
    "ACK": r"MSH (?:SFT )*(?:UAC )?MSA (?:ERR )*",
    "ZAM_Z01": r"MSH (?:SFT )*EVN OBX (?:OBX )?(?:ERR )?",
}
"""Names of the segments of each structure, in order, each followed by a space."""

_ALLOWED = {name: set(re.findall(r"[A-Z][A-Z0-9]{2}(?= )", grammar)) for name, grammar in GRAMMARS.items()}
_MOST_SEGMENTS = 500
_MOST_PARTS = 20_000
"""Bounds on what hl7apy is given: it builds an object for each part, and no message of the volets comes near."""

_COMPLAINT = re.compile(r"(?P<what>Missing required child|Child limit exceeded) \w+?\.(?P<child>\w+)")
_FIELD = re.compile(r"(?P<segment>[A-Z][A-Z0-9]{2})_(?P<field>\d+)")


def check(message: Message, structure: str, findings: Findings) -> bool:
    """Add what is wrong with the structure; False when the message cannot be read on."""
    before = len(findings)
    if len(message.segments) > _MOST_SEGMENTS or sum(map(message.source.count, "^~&|")) > _MOST_PARTS:
        findings.error("198", Place("MSH", 1), "far more segments or components than such a message has", _RULE)
    else:
        _check_order(message, structure, findings)
    if len(findings) == before:
        _check_fields(message, structure, findings)
    return len(findings) == before


def _check_order(message: Message, structure: str, findings: Findings) -> None:
    names = message.names
    if re.fullmatch(GRAMMARS[structure], "".join(f"{name} " for name in names)):
        return
    for name in dict.fromkeys(names):
        if name not in _ALLOWED[structure]:
            findings.error("100", Place(name), f"{structure} has no such segment", _RULE)
    position = _longest_start(names, structure)
    if position == len(names):
        findings.error("100", Place(names[-1], names.count(names[-1])), "segments are missing after this one", _RULE)
    elif names[position] in _ALLOWED[structure]:
        place = Place(names[position], names[: position + 1].count(names[position]))
        before = names[position - 1] if position else "nothing"
        findings.error("100", place, f"not at its place: it stands after {before}", _RULE)


def _longest_start(names: list[str], structure: str) -> int:
    """Number of segments, from the first, that some message of this structure begins with."""
    starts = _starts(GRAMMARS[structure])

    def wrong(length: int) -> bool:
        return re.fullmatch(starts, "".join(f"{name} " for name in names[:length])) is None

    return bisect_left(range(len(names) + 1), True, key=wrong) - 1


@cache
def _starts(grammar: str) -> str:
    """A pattern of everything a match of `grammar` can begin with: each item may be followed by the end."""
    return re.sub(r"([A-Z][A-Z0-9]{2} )", r"(?:\1|$)", grammar)


def _check_fields(message: Message, structure: str, findings: Findings) -> None:
    findings.extend(_judged(shape(message.source), structure, message.header.text(12)))


def shape(source: str) -> str:
    """A message of the same build without its values: each becomes `X`, but for what says which message it is.

    hl7apy checks in its tolerant mode which parts are there, not what they say. So its verdict on the shape is that on
    the message, is asked once for all messages of one shape, and what is remembered holds no health data.
    """
    return "\r".join(map(_shape_of_segment, source.split("\r")))


_VALUE = re.compile(r"[^|~^&]+")
_TELLING = {"MSH": (1, 8, 11), "OBX": (2,)}  # delimiters, message type, version; the type of the value


def _shape_of_segment(line: str) -> str:
    name, bar, rest = line.partition("|")
    fields = rest.split("|")
    kept = _TELLING.get(name, ())
    shapes = [text if index in kept else _VALUE.sub(_mark, text) for index, text in enumerate(fields, 1)]
    return f"{name}{bar}{'|'.join(shapes)}"


def _mark(value: re.Match[str]) -> str:
    return "X" if value[0].strip() else value[0]


@lru_cache(maxsize=256)
def _judged(source: str, structure: str, version: str) -> tuple[Finding, ...]:
    """What hl7apy has against a message of that shape."""
    findings = Findings()
    profiles = _profiles(version)
    try:
        parsed = parse_message(source, message_profile=profiles)
        Validator.validate(parsed, profiles[structure])
    except ValidationError as error:
        _locate(parsed, str(error), findings)
    except HL7apyException:
        findings.error("199", Place("MSH"), f"not built as {structure} of HL7 v2 is", _HL7APY)
    return tuple(findings)


def _locate(parsed: ParsedMessage, complaint: str, findings: Findings) -> None:
    """One finding for each segment that hl7apy refuses; one for the whole when it is none of them."""
    before = len(findings)
    for place, element in _parsed_segments(parsed):
        try:
            Validator.validate(element, element.reference)
        except ValidationError as error:
            _explain(place, str(error), findings)
    if len(findings) == before:
        _explain(Place("MSH"), complaint, findings)


def _parsed_segments(parsed: ParsedMessage) -> list[tuple[Place, Any]]:
    found: list[tuple[Place, Any]] = []
    counts: Counter[str] = Counter()

    def walk(element: Any) -> None:
        for child in element.children:
            if child.classname == "Group":
                walk(child)
            else:
                counts[child.name] += 1
                found.append((Place(child.name, counts[child.name]), child))

    walk(parsed)
    return found


def _explain(place: Place, complaint: str, findings: Findings) -> None:
    """hl7apy's words as a finding: they name elements, of which only a field of this segment is a place."""
    match = _COMPLAINT.match(complaint)
    field = _FIELD.search(complaint)
    if field and field["segment"] == place.segment:
        place = Place(place.segment, place.number, int(field["field"]))
    if match is None and place.segment == "PRT" and "Invalid children" in complaint:
        message = "a field after PRT-15: is there one bar too many before the address?"
        findings.error("102", Place("PRT", place.number, 16), message, _HL7APY)
    elif match is None:
        findings.error("102", place, "not of the data type that HL7 gives it", _HL7APY)
    elif match["what"] == "Missing required child":
        findings.error("101", place, f"{match['child'].replace('_', '-')} is required", _HL7APY)
    else:
        findings.error("198", place, f"{match['child'].replace('_', '-')} is repeated too often", _HL7APY)


# --- structures for hl7apy ----------------------------------------------------------------------------------------


@cache
def _profiles(version: str) -> dict[str, Any]:
    """References of hl7apy (its own tuples: kind, children) by structure, with PRT under OBX and the ZAM added.

    Only the ACK is of any version: that of the message it answers.
    """
    participation = ("PRT", hl7apy.load_reference("PRT", "Segment", "2.7"), (0, -1), "SEG")

    def with_participations(name: str, version: str) -> Any:
        kind, (observation, *others) = hl7apy.load_reference(name, "Group", version)
        return (kind, (observation, participation, *others))

    def replaced(reference: Any, name: str, child: Any) -> Any:
        kind, children = reference
        return (kind, tuple((name, child, *old[2:]) if old[0] == name else old for old in children))

    results = replaced(
        hl7apy.load_reference("ORU_R01_ORDER_OBSERVATION", "Group", "2.5"),
        "ORU_R01_OBSERVATION",
        with_participations("ORU_R01_OBSERVATION", "2.5"),
    )
    patients = replaced(
        hl7apy.load_reference("ORU_R01_PATIENT_RESULT", "Group", "2.5"), "ORU_R01_ORDER_OBSERVATION", results
    )
    report = replaced(hl7apy.load_reference("ORU_R01", "Message", "2.5"), "ORU_R01_PATIENT_RESULT", patients)
    notification = replaced(
        hl7apy.load_reference("MDM_T02", "Message", "2.6"),
        "MDM_T02_OBSERVATION",
        with_participations("MDM_T02_OBSERVATION", "2.6"),
    )

    def private(name: str, least: int, most: int) -> Any:
        return (name, hl7apy.load_reference(name, "Segment", "2.6"), (least, most), "SEG")

    zam = (private("MSH", 1, 1), private("SFT", 0, -1), private("EVN", 1, 1), private("OBX", 1, 2))
    return {
        "MDM_T02": notification,
        "ORU_R01": report,
        "ACK": hl7apy.load_reference("ACK", "Message", version),
        "ZAM_Z01": ("sequence", (*zam, private("ERR", 0, 1))),
    }
