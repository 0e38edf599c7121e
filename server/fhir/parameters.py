"""What an operation is asked: the parameters of its address, or a Parameters resource (FHIR R4 §3.2.0.4)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from relais.server.fhir.exchange import Call
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import refuse_wrong_structure

GENERAL = frozenset({"_format", "_pretty"})
"""Parameters of any request: how the answer is written."""

Pairs = list[tuple[str, str]]


def simple_parameters(call: Call, known: Collection[str]) -> Pairs:
    """(name, value) pairs, all of `known`; primitive values of a Parameters body are given as text.

    Raises FhirError 400 for a parameter that is unknown or no primitive.
    """
    pairs = [(name, value) for name, value in parse_qsl(call.query) if name not in GENERAL]
    if call.body is not None:
        if call.body.get("resourceType") != "Parameters":
            raise FhirError.of(400, "invalid", "a Parameters resource is expected as body", "resourceType")
        pairs += primitive_parameters(call.body.get("parameter", []))
    for name, _ in pairs:
        if name not in known:
            raise FhirError.of(400, "not-supported", f"the parameter {name[:64]} is not offered here", name[:64])
    return pairs


def all_parameters(call: Call, known: Collection[str]) -> dict[str, Any]:
    """The value or the resource of each parameter, all of `known`; those of the address are text.

    Raises FhirError 400 for a parameter that is unknown, stands twice or has no value.
    """
    pairs: list[tuple[str, Any]] = [(name, value) for name, value in parse_qsl(call.query) if name not in GENERAL]
    if call.body is not None:
        if call.body.get("resourceType") != "Parameters":
            raise FhirError.of(400, "invalid", "a Parameters resource is expected as body", "resourceType")
        refuse_wrong_structure([(call.body, "")])
        pairs += [
            (one["name"], next((value for key, value in one.items() if key.startswith(("value", "resource"))), None))
            for one in call.body.get("parameter", ())
        ]
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in known:
            raise FhirError.of(400, "not-supported", f"the parameter {name[:64]} is not offered here", name[:64])
        if name in found or value is None:
            raise FhirError.of(400, "value", "the parameter is expected once, with a value", name)
        found[name] = value
    return found


def moment_since(value: str) -> datetime:
    """The time, in UTC, of a parameter `_since`. Raises FhirError 400."""
    try:
        moment = datetime.fromisoformat(value.replace(" ", "+"))  # a `+` that was not percent-encoded
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last day of all have no time in UTC everywhere
        pass
    raise FhirError.of(400, "value", "_since is an instant: date, time and offset", "_since")


def primitive_parameters(parameters: Any) -> Iterator[tuple[str, str]]:
    """The parameters of a Parameters resource, primitive values as text. Raises FhirError 400 for others."""
    for index, parameter in enumerate(parameters if isinstance(parameters, list) else ()):
        place = f"Parameters.parameter[{index}]"
        name = parameter.get("name") if isinstance(parameter, dict) else None
        if not isinstance(name, str):
            raise FhirError.of(400, "required", "a parameter has a name", place)
        value = next((value for key, value in parameter.items() if key.startswith("value")), None)
        if isinstance(value, bool):
            yield name, "true" if value else "false"
        elif isinstance(value, str | int):
            yield name, str(value)
        else:
            raise FhirError.of(400, "value", "a primitive value is expected", place)
