"""What `$to-cda` is asked: level, style sheet, model, and which appointments of an agenda.

In the address, or in a Parameters resource (FHIR R4 §3.2.0.4); docs/reference.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qsl

from relais.cda.datatypes import datetime_from_ts, ts_from_fhir
from relais.mappings.context import Resource
from relais.mappings.to_cda.appointments import STATES
from relais.server.document_forms import LEVELS, Level
from relais.server.document_sources import Selection
from relais.server.fhir.bodies import sound_body
from relais.server.fhir.exchange import Call
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.parameters import GENERAL

MODELS = {
    "Appointment": "agenda",
    "CarePlan": "pps",
    "Communication": "notification",
    "CommunicationRequest": "notification",
    "Patient": "agenda",
}
"""The model of the document of each carrier."""

_OF_CARRIERS = frozenset({"level", "model"})
_OF_AGENDAS = _OF_CARRIERS | {"end", "period", "start", "status"}
_OF_BUNDLES = frozenset({"level", "resource", "stylesheet"})


class _Given(NamedTuple):
    """One parameter, and where it stands. A Period or a resource is a dict."""

    name: str
    value: str | Resource
    place: str


@dataclass(frozen=True, slots=True)
class OfCarrier:
    """What is asked about a stored resource."""

    level: Level
    selection: Selection


@dataclass(frozen=True, slots=True)
class OfBundle:
    """What is asked about a posted Bundle."""

    bundle: Resource
    level: Level
    style_sheet: str


def of_carrier(call: Call) -> OfCarrier:
    """Read the parameters of `[type]/[id]/$to-cda`. Raises FhirError 400."""
    known = _OF_AGENDAS if call.resource_type == "Patient" else _OF_CARRIERS
    given = _read(call, known)
    model = next((one for one in given if one.name == "model"), None)
    expected = MODELS[call.resource_type]
    if model is None and call.resource_type == "Patient":
        raise FhirError.of(400, "required", f"model={expected} is expected: the document to make of a Patient", "model")
    if model is not None and model.value != expected:
        message = f"documents of {call.resource_type} are of model {expected}"
        raise FhirError.of(400, "code-invalid", message, model.place)
    return OfCarrier(_level(given), _selection(given))


def of_bundle(call: Call) -> OfBundle:
    """Read the Bundle and the parameters of the system's `$to-cda`. Raises FhirError 400 or 422."""
    if call.body is not None and call.body["resourceType"] == "Parameters":
        given = _read(call, _OF_BUNDLES)
        resource = next((one.value for one in given if one.name == "resource"), None)
        if not isinstance(resource, dict) or resource.get("resourceType") != "Bundle":
            raise FhirError.of(400, "required", "the parameter resource, a Bundle, is expected", "Parameters.parameter")
        bundle = resource
    else:
        bundle = sound_body(call.body, "Bundle")
        given = list(_of_query(call, _OF_BUNDLES - {"resource"}))
    sheet = next((one.value for one in given if one.name == "stylesheet"), "")
    return OfBundle(bundle, _level(given), _text(sheet))


def _read(call: Call, known: Collection[str]) -> list[_Given]:
    """Every parameter, each once but `status`."""
    given = [*_of_query(call, known), *_of_body(call, known)]
    names = [one.name for one in given]
    for one in given:
        if one.name != "status" and names.count(one.name) > 1:
            raise FhirError.of(400, "duplicate", f"the parameter {one.name} is given twice", one.place)
    return given


def _of_query(call: Call, known: Collection[str]) -> Iterator[_Given]:
    for name, value in parse_qsl(call.query):
        if name in GENERAL:
            continue
        _refuse_unknown(name, known, name[:64])
        yield from (_Given(name, part, name) for part in (value.split(",") if name == "status" else (value,)))


def _of_body(call: Call, known: Collection[str]) -> Iterator[_Given]:
    if call.body is None:
        return
    for index, parameter in enumerate(sound_body(call.body, "Parameters").get("parameter", ())):
        place = f"Parameters.parameter[{index}]"
        _refuse_unknown(parameter["name"], known, place)
        if "resource" in parameter:
            yield _Given(parameter["name"], parameter["resource"], f"{place}.resource")
            continue
        element = next((name for name in parameter if name.startswith("value")), "value[x]")
        value = parameter.get(element)
        if not isinstance(value, dict if parameter["name"] == "period" else str):
            wanted = "a valuePeriod" if parameter["name"] == "period" else "a valueCode, valueDateTime or valueString"
            raise FhirError.of(400, "value", f"{wanted} is expected", f"{place}.{element}")
        yield _Given(parameter["name"], value, f"{place}.{element}")


def _refuse_unknown(name: str, known: Collection[str], place: str) -> None:
    if name not in known:
        message = f"unknown parameter; {', '.join(sorted(known))} are known here"
        raise FhirError.of(400, "not-supported", message, place)


def _level(given: list[_Given]) -> Level:
    stated = next((one for one in given if one.name == "level"), None)
    if stated is None:
        return "n3"
    for level in LEVELS:
        if stated.value == level:
            return level
    raise FhirError.of(400, "code-invalid", "n3 (structured) or n1 (unstructured) is expected", stated.place)


def _selection(given: list[_Given]) -> Selection:
    bounds = dict(_bounds(given))
    start, end = bounds.get("start"), bounds.get("end")
    if start and end and datetime_from_ts(ts_from_fhir(end.value)) < datetime_from_ts(ts_from_fhir(start.value)):
        raise FhirError.of(400, "invalid", "the period ends before it starts", end.place)
    statuses = [one for one in given if one.name == "status"]
    for one in statuses:
        if one.value not in STATES:
            raise FhirError.of(400, "code-invalid", f"one of {', '.join(STATES)} is expected", one.place)
    chosen = tuple(sorted({_text(one.value) for one in statuses}))
    return Selection(start.value if start else "", end.value if end else "", chosen)


class _Bound(NamedTuple):
    value: str
    place: str


def _bounds(given: list[_Given]) -> Iterator[tuple[str, _Bound]]:
    """(`start` or `end`, bound): from the parameters of that name, or from `period`."""
    names = {one.name for one in given}
    for one in given:
        stated = {one.name: one.value} if one.name in ("start", "end") else {}
        if one.name == "period" and isinstance(one.value, dict):
            if names & {"start", "end"}:
                raise FhirError.of(400, "invalid", "either period, or start and end", one.place)
            stated = {name: one.value[name] for name in ("start", "end") if name in one.value}
        elif one.name == "period":
            raise FhirError.of(400, "value", "a Period stands in a Parameters resource: start and end", one.place)
        for name, value in stated.items():
            place = one.place if one.name == name else f"{one.place}.{name}"
            try:
                ts_from_fhir(_text(value))
            except ValueError:
                raise FhirError.of(400, "value", "a date or a dateTime with its offset is expected", place) from None
            yield name, _Bound(_text(value), place)


def _text(value: str | Resource) -> str:
    return value if isinstance(value, str) else ""
