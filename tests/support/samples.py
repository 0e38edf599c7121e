"""Resources of any R4 type with every element filled in, made from the definitions, for tests to meet them all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from relais.profiles import definitions
from relais.profiles.definitions import Element

_PRIMITIVES: dict[str, tuple[Any, ...]] = {
    "boolean": (True, False),
    "integer": (7, -2),
    "unsignedInt": (0, 3),
    "positiveInt": (1, 2),
    "decimal": (Decimal("1.50"), Decimal("-0.001")),
    "date": ("1979-03-05", "1979-03", "1979"),
    "dateTime": ("2024-03-31", "2024-10-27T02:30:00+02:00", "2024-12-31T23:59:59.999Z"),
    "instant": ("2024-03-31T01:00:00Z", "2024-10-27T02:30:00.250+01:00"),
    "time": ("09:30:00",),
    "base64Binary": ("AA==",),
    "uri": ("http://example.org/a", "urn:oid:1.2.3"),
    "url": ("https://example.org/b",),
    "canonical": ("http://example.org/c|1.0", "http://example.org/c"),
    "oid": ("urn:oid:1.2.250.1",),
    "uuid": ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520",),
    "id": ("an-id", "another-id"),
    "code": ("a-code", "b-code"),
    "string": ("Hélène", "D'Artagnan-Lœwe"),
    "markdown": ("*texte* accentué",),
    "xhtml": ('<div xmlns="http://www.w3.org/1999/xhtml">x</div>',),
}
_DEPTH = 5
_LEFT_OUT = {"extension", "modifierExtension", "contained"}


def sample(resource_type: str, variant: int = 0) -> dict[str, Any]:
    """A resource with every element to a depth of five; `variant` turns choices, codes, targets and values."""
    return {"resourceType": resource_type, **_object(resource_type, variant, _DEPTH)}


def _object(type_name: str, variant: int, depth: int) -> dict[str, Any]:
    found = {}
    for place, element in enumerate(definitions.elements(type_name)):
        if element.name in _LEFT_OUT or (element.name == "id" and depth < _DEPTH):
            continue
        turn = variant + place
        chosen = element.types[variant % len(element.types)]
        name = next(json_name for json_name, kind in element.json_names().items() if kind == chosen)
        values = [_value(chosen, element, turn + more, depth) for more in range(2 if element.many else 1)]
        values = [value for value in values if value is not None]
        if values:
            found[name] = values if element.many else values[0]
    return found


def _value(type_name: str, element: Element, turn: int, depth: int) -> Any:
    if type_name in definitions.primitive_types():
        return _primitive(type_name, element, turn)
    if type_name == "Resource":
        return {"resourceType": "Basic", "id": f"r{turn}"}
    if type_name == "Reference":
        targets = element.targets or ("Patient", "Organization", "Group")
        return {"reference": f"{targets[turn % len(targets)]}/r{turn}", "display": "Réf"}
    return (_object(type_name, turn, depth - 1) or None) if depth else None


def _primitive(type_name: str, element: Element, turn: int) -> Any:
    codes = definitions.value_set(element.binding) if element.binding else None
    values = sorted(code for codes_of in codes.values() for code in codes_of) if codes else _PRIMITIVES[type_name]
    return values[turn % len(values)]
