"""Section 3 of the PPS, *dispositions médico-sociales* → Observation: inverse of `to_cda.social`."""

from __future__ import annotations

import re
from decimal import Decimal

from relais.cda.model import Boolean, Code, Integer, Quantity, Section, Statement, String, Value
from relais.cda.templates import SIMPLE_OBSERVATION
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import ABSENT_REASONS, concept, identifiers, is_integer, period
from relais.mappings.from_cda.plan import (
    RULE,
    Plan,
    has_template,
    is_no_fact,
    report_unread,
    status_of,
    subentries,
    value_text,
)
from relais.mappings.from_cda.reading import SECTION_RULE, Reading

INSURANCE = "PAT-002"
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?", re.ASCII)
_STATUSES = {
    "completed": "final",
    "nullified": "entered-in-error",
    "new": "registered",
    "active": "preliminary",
    "held": "preliminary",
    "suspended": "preliminary",
    "aborted": "cancelled",
    "cancelled": "cancelled",
}
ABSENT_REASON_CODES = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


def read_provisions(reading: Reading, section: Section, plan: Plan, path: str) -> list[Resource]:
    """References to the Observations of the section, in its order."""
    found = []
    for index, entry in enumerate(section.entries, 1):
        place = f"{path}/entry[{index}]/{entry.kind}"
        if is_no_fact(reading, entry, place):
            continue
        if _stands_for_nothing(entry):
            parts = [pair for pair in subentries(entry, place) if not is_no_fact(reading, *pair)]
            found += [_observation(reading, plan, part, each) for part, each in parts]
        elif has_template(entry, SIMPLE_OBSERVATION):
            found.append(_observation(reading, plan, entry, place))
        else:
            reading.inform(place, "not an observation of the volet: narrative only", SECTION_RULE)
    plan.supporting_info += found
    return found


def _stands_for_nothing(entry: Statement) -> bool:
    """Whether the entry is there only because its parts need a place: no value of its own, no date."""
    value = next(iter(entry.values), None)
    unsaid = isinstance(value, Code) and value.null_flavor is not None and value.original_text is None
    undated = entry.time is None or entry.time.null_flavor is not None
    parts = [relation.statement for relation in entry.relationships]
    return unsaid and undated and bool(parts) and all(has_template(part, SIMPLE_OBSERVATION) for part in parts)


def _observation(reading: Reading, plan: Plan, entry: Statement, path: str) -> Resource:
    value = observed_value(reading, entry, path)
    components = []
    for nested, place in subentries(entry, path):
        if not has_template(nested, SIMPLE_OBSERVATION):
            reading.inform(place, "not an observation of the volet: narrative only", SECTION_RULE)
        elif is_no_fact(reading, nested, place):
            continue
        elif _is_insurer_name(entry, nested):
            value = _insurer(reading, nested, value, place)
        else:
            _report_nested_time(reading, entry, nested, place)
            components.append(_component(reading, nested, place))
    report_unread(reading, entry, path, "ids", "code", "time", "values", "relationships")
    elements: Resource = {
        "identifier": identifiers(entry.ids),
        "status": observation_status(reading, entry, path),
        "code": concept(entry.code) or {"text": "Disposition sans code"},
        "subject": plan.subject,
        **effective(reading, entry, path),
        **value,
        "component": components,
    }
    return reading.add("Observation", ("provision", path), elements)


def _is_insurer_name(entry: Statement, nested: Statement) -> bool:
    return bool(entry.code and nested.code and entry.code.code == nested.code.code == INSURANCE)


def _insurer(reading: Reading, nested: Statement, value: Resource, path: str) -> Resource:
    """The name of the insurer stands for "has one", unless the document says that there is none."""
    name = observed_value(reading, nested, path)
    _report_nested_id(reading, nested, path)
    if value.get("valueBoolean") is False:
        reading.warn(path, "names an insurer that the person is said not to have: left out", RULE)
        return value
    return name if "valueString" in name else value


def _component(reading: Reading, nested: Statement, path: str) -> Resource:
    _report_nested_id(reading, nested, path)
    report_unread(reading, nested, path, "ids", "code", "time", "values")
    return {"code": concept(nested.code) or {"text": "Disposition sans code"}, **observed_value(reading, nested, path)}


def _report_nested_time(reading: Reading, entry: Statement, nested: Statement, path: str) -> None:
    if nested.time is not None and (nested.time.value or nested.time.low) and nested.time != entry.time:
        reading.inform(f"{path}/effectiveTime", "a component has the time of its Observation", RULE)


def _report_nested_id(reading: Reading, nested: Statement, path: str) -> None:
    if nested.ids:
        reading.inform(f"{path}/id", "a component of an Observation has no identifier", RULE)


def observation_status(reading: Reading, entry: Statement, path: str) -> str:
    """Observation.status of an entry: final without any statusCode, unknown for one that no list has."""
    return status_of(reading, entry, path, _STATUSES, "unknown" if entry.status else "final")


# --- any observation --------------------------------------------------------------------------------------------------


def effective(reading: Reading, entry: Statement, path: str) -> Resource:
    """effectiveDateTime or effectivePeriod of an entry; empty when it is not dated."""
    when = period(reading, entry.time, f"{path}/effectiveTime")
    if entry.time is not None and entry.time.value:
        return {"effectiveDateTime": when["start"]} if when else {}
    return {"effectivePeriod": when} if when else {}


def observed_value(reading: Reading, entry: Statement, path: str) -> Resource:
    """value[x] of an entry, or dataAbsentReason."""
    place = f"{path}/value"
    value = next(iter(entry.values), None)
    if len(entry.values) > 1:
        reading.warn(place, "several values: the first is read", RULE)
    if entry.negation:
        reading.warn(f"{path}/@negationInd", "a denied observation: its value is not read", RULE)
        return _absent("UNK")
    found = _value(reading, value, place) if value is not None else {}
    return found or _absent(getattr(value, "null_flavor", None))


def _value(reading: Reading, value: Value, path: str) -> Resource:
    match value:
        case Boolean(value=bool(flag)):
            return {"valueBoolean": flag}
        case Integer(value=int(number)) if is_integer(number):
            return {"valueInteger": number}
        case String(value=str(text)):
            return {"valueString": text}
        case Quantity(value=str(number)) if _DECIMAL.fullmatch(number):
            return {"valueQuantity": {"value": Decimal(number), **({"unit": value.unit} if value.unit else {})}}
        case Code():
            return _coded_value(reading, value, path)
        case _:
            reading.inform(path, "a value of a type that is not mapped: narrative only", RULE)
            return {}


def _coded_value(reading: Reading, value: Code, path: str) -> Resource:
    """A CD without code is its words."""
    text = value_text(reading, value, path)
    if coded := concept(value):
        return {"valueCodeableConcept": coded | ({"text": text} if text else {})}
    return {"valueString": text} if text else {}


def _absent(null_flavor: str | None) -> Resource:
    reason = ABSENT_REASONS.get(null_flavor or "", "unknown")
    return {"dataAbsentReason": {"coding": [{"system": ABSENT_REASON_CODES, "code": reason}]}}
