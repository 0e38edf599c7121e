"""What a FHIRPath expression works on: values of parsed JSON with their FHIR or System type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from relais.profiles import definitions

SYSTEM_TYPES: dict[str, str] = {
    "boolean": "Boolean",
    "integer": "Integer",
    "unsignedInt": "Integer",
    "positiveInt": "Integer",
    "decimal": "Decimal",
    "date": "Date",
    "dateTime": "DateTime",
    "instant": "DateTime",
    "time": "Time",
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), "Quantity"),
}
"""The System type that a FHIR type converts to; every other primitive is a String."""

_TEMPORAL = frozenset({"Date", "DateTime", "Time"})


class Item:
    """One value of a collection.

    `value` is as parsed from JSON, a (number, unit) pair for a System.Quantity, None for a primitive with extensions
    only. `type` is a FHIR type (`Patient.contact` for a backbone element) or `System.…`; `extra` holds what JSON keeps
    of a primitive under `_name`.
    """

    __slots__ = ("extra", "type", "value")

    def __init__(self, value: Any, type_name: str, extra: Any = None) -> None:
        self.value = value
        self.type = type_name
        self.extra = extra

    @property
    def system_type(self) -> str:
        """`Boolean`, `String`, `Quantity`…, or empty for a complex value."""
        if self.type.startswith("System."):
            return self.type[7:]
        if self.type in SYSTEM_TYPES:
            return SYSTEM_TYPES[self.type]
        return "String" if isinstance(self.value, str) else ""

    @property
    def is_temporal(self) -> bool:
        """Whether the value is a date, a time or both."""
        return self.system_type in _TEMPORAL

    @property
    def is_number(self) -> bool:
        """Whether the value is a whole or decimal number."""
        return isinstance(self.value, int | Decimal) and not isinstance(self.value, bool)


Collection = list[Item]


def system(value: Any, type_name: str) -> Item:
    """A value of a System type."""
    return Item(value, f"System.{type_name}")


TRUE = system(value=True, type_name="Boolean")
FALSE = system(value=False, type_name="Boolean")


def truth(value: bool | None) -> Collection:
    """A boolean as a collection; unknown is the empty one."""
    return [] if value is None else [TRUE] if value else [FALSE]


# Navigation -----------------------------------------------------------------------------------------------------------


@cache
def _fields(type_name: str) -> dict[str, dict[str, str]]:
    """Of a FHIR type: element name → JSON property → type of the value."""
    if type_name == "System.TypeInfo":
        return {name: {name: "System.String"} for name in ("namespace", "name")}
    if type_name not in definitions.types():
        return {}
    return {element.stem: element.json_names() for element in definitions.elements(type_name)}


def type_of(value: Any, declared: str) -> str:
    """The type of a value: a resource says it itself."""
    if type(value) is dict and isinstance(name := value.get("resourceType"), str):
        return name
    return declared


def child(item: Item, name: str) -> Iterator[Item]:
    """The elements of an item under a name; `value` stands for `valueString`, `valueQuantity`…"""
    value = item.value
    if type(value) is dict:
        keys = _fields(item.type).get(name)
        if keys is None:
            return
        for key, type_name in keys.items():
            if key in value or f"_{key}" in value:
                yield from _items(value.get(key), value.get(f"_{key}"), type_name)
    elif name == "value" and value is not None and not item.type.startswith("System."):
        yield system(value, item.system_type)
    elif type(item.extra) is dict and name in ("extension", "id"):
        yield from _items(item.extra.get(name), None, "Extension" if name == "extension" else "string")


def children(item: Item) -> Iterator[Item]:
    """Every element directly below an item."""
    source = item.value if type(item.value) is dict else item.extra
    if type(source) is not dict:
        return
    for name in _fields(item.type if source is item.value else "Element"):
        yield from child(item, name)


def descendants(item: Item) -> Iterator[Item]:
    """Every element below an item, at any depth."""
    for each in children(item):
        yield each
        yield from descendants(each)


def _items(value: Any, extra: Any, type_name: str) -> Iterator[Item]:
    if type(value) is list or type(extra) is list:
        values = value if type(value) is list else []
        extras = extra if type(extra) is list else []
        for index in range(max(len(values), len(extras))):
            one = values[index] if index < len(values) else None
            more = extras[index] if index < len(extras) else None
            if one is not None or more is not None:
                yield Item(one, type_of(one, type_name), more)
    elif value is not None or extra is not None:
        yield Item(value, type_of(value, type_name), extra)


# Types ----------------------------------------------------------------------------------------------------------------


def is_exactly(item: Item, name: str) -> bool:
    """As `is_a`, but of primitives only the type itself counts: a code is no string."""
    if item.type in definitions.primitive_types():
        return name.removeprefix("FHIR.") == item.type
    return is_a(item, name)


def is_a(item: Item, name: str) -> bool:
    """Whether an item is of a type or of one derived from it; `FHIR.` and `System.` say which kind is meant."""
    namespace, _, plain = name.rpartition(".")
    if item.type.startswith("System."):
        return namespace in ("", "System") and item.type[7:] == plain
    if namespace == "System":
        return False
    current = item.type
    if "." in current:
        return plain in ("BackboneElement", "Element")
    while current:
        if current == plain:
            return True
        found = definitions.types().get(current)
        current = found.base if found else ""
    return False


# Equality -------------------------------------------------------------------------------------------------------------


def key(item: Item) -> Any:
    """Something hashable that equal items share."""
    value = item.value
    if type(value) is dict:
        return msgspec.json.encode(value, order="deterministic")
    return value if value is not None else repr(item.extra)


def equal(first: Item, second: Item) -> bool | None:
    """FHIRPath `=` on two items; None when the precision of dates, or units, leave it open."""
    one, other = first.value, second.value
    if first.is_temporal and second.is_temporal:
        if "Time" in (first.system_type, second.system_type) and first.system_type != second.system_type:
            return False
        difference = compare(first, second)
        return None if difference is None else difference == 0
    if first.system_type == second.system_type == "Quantity":
        difference = compare(first, second)
        return None if difference is None else difference == 0
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other)


def equivalent(first: Item, second: Item) -> bool:
    """FHIRPath `~` on two items: strings apart from case and white space, numbers to the lesser precision."""
    one, other = first.value, second.value
    if isinstance(one, str) and isinstance(other, str) and not first.is_temporal:
        return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        if not (first.is_number and second.is_number):
            return False
        places = min(_places(one), _places(other))
        return round(Decimal(one), places) == round(Decimal(other), places)
    return equal(first, second) is True


def _places(value: int | Decimal) -> int:
    exponent = Decimal(value).as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


# Comparison -----------------------------------------------------------------------------------------------------------

_MOMENT = re.compile(
    r"(?:(\d{4})(?:-(\d\d)(?:-(\d\d))?)?)?(?:T?(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?)?(Z|[+-]\d\d:\d\d)?"
)
_PERIODS = {
    "year": "a",
    "month": "mo",
    "week": "wk",
    "day": "d",
    "hour": "h",
    "minute": "min",
    "second": "s",
    "millisecond": "ms",
}
_SECONDS: dict[str, Decimal] = {
    unit: Decimal(seconds)
    for unit, seconds in (("wk", "604800"), ("d", "86400"), ("h", "3600"), ("min", "60"), ("s", "1"), ("ms", "0.001"))
}


class IncomparableError(TypeError):
    """Two values that no order relates."""


def compare(first: Item, second: Item) -> int | None:
    """-1, 0 or 1; None when precision or units leave it open. Raises IncomparableError."""
    if first.is_number and second.is_number:
        return _order(first.value, second.value)
    if first.is_temporal and second.is_temporal:
        return _compare_moments(str(first.value), str(second.value))
    if first.system_type == "Quantity" and second.system_type == "Quantity":
        return _compare_quantities(first, second)
    if isinstance(first.value, str) and isinstance(second.value, str):
        return _order(first.value, second.value)
    raise IncomparableError(f"{first.type} and {second.type} have no order")


def _order(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


def moment_parts(text: str) -> tuple[list[Decimal | None], str]:
    """Year, month, day, hour, minute, second as far as given, and the zone."""
    is_time = len(text) > 2 and text[2] == ":"
    found = _MOMENT.fullmatch(f"T{text}" if is_time else text)
    if found is None:
        raise IncomparableError("no date or time")
    parts = [Decimal(part) if part else None for part in found.groups()[:6]]
    return parts, found[7] or ""


def _compare_moments(one: str, other: str) -> int | None:
    (first, first_zone), (second, second_zone) = moment_parts(one), moment_parts(other)
    if bool(first_zone) != bool(second_zone) and first[3] is not None and second[3] is not None:
        return None
    if first_zone and second_zone and first_zone != second_zone:
        first, second = _in_utc(first, first_zone), _in_utc(second, second_zone)
    for mine, its in zip(first, second, strict=True):
        if mine is None and its is None:
            continue
        if mine is None or its is None:
            return None
        if mine != its:
            return _order(mine, its)
    return 0


def _in_utc(parts: list[Decimal | None], zone: str) -> list[Decimal | None]:
    if parts[3] is None or parts[4] is None:
        return parts
    year, month, day, hour, minute = (int(part) if part is not None else 0 for part in parts[:5])
    offset = 0 if zone == "Z" else int(zone[1:3]) * 60 + int(zone[4:6])
    moved = datetime(year, month, day, hour, minute, tzinfo=UTC) - timedelta(
        minutes=-offset if zone[0] == "-" else offset
    )
    shifted = [Decimal(each) for each in (moved.year, moved.month, moved.day, moved.hour, moved.minute)]
    return [*shifted, parts[5]]


def quantity(item: Item) -> tuple[Decimal, str] | None:
    """Number and unit of a System.Quantity or of a FHIR Quantity; None when it has no number."""
    if isinstance(item.value, tuple):
        return item.value
    if type(item.value) is dict and isinstance(item.value.get("value"), int | Decimal):
        return Decimal(item.value["value"]), str(item.value.get("code") or item.value.get("unit") or "1")
    return None


def _compare_quantities(first: Item, second: Item) -> int | None:
    one, other = quantity(first), quantity(second)
    if one is None or other is None:
        return None
    (number, unit), (its_number, its_unit) = one, other
    unit, its_unit = _PERIODS.get(unit, unit), _PERIODS.get(its_unit, its_unit)
    if unit == its_unit:
        return _order(number, its_number)
    if unit in _SECONDS and its_unit in _SECONDS:
        return _order(number * _SECONDS[unit], its_number * _SECONDS[its_unit])
    return None
