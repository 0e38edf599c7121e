"""The operators of FHIRPath N1 (http://hl7.org/fhirpath/N1/#operations) on collections."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from relais.profiles.fhirpath import items
from relais.profiles.fhirpath.items import Collection, Item, moment_parts, quantity, system, truth
from relais.profiles.fhirpath.scope import Evaluator, FhirPathError, Scope
from relais.profiles.fhirpath.syntax import CALENDAR_UNITS


def singleton(collection: Collection) -> Item | None:
    """The only item, None when there is none. Raises FhirPathError for several."""
    if len(collection) > 1:
        raise FhirPathError("one value is expected, there are several")
    return collection[0] if collection else None


def as_boolean(collection: Collection) -> bool | None:
    """A collection where a boolean is expected: one item that is no boolean counts as true."""
    item = singleton(collection)
    if item is None:
        return None
    return item.value if isinstance(item.value, bool) else True


def as_text(collection: Collection) -> str | None:
    """A collection where a string is expected. Raises FhirPathError for anything else."""
    item = singleton(collection)
    if item is None:
        return None
    if not isinstance(item.value, str):
        if item.value is None:
            return None
        raise FhirPathError("a string is expected")
    return item.value


def compile_binary(operator: str, left: Evaluator, right: Evaluator) -> Evaluator:
    """The evaluator of `left operator right`."""
    if operator in _LOGIC:
        return _LOGIC[operator](left, right)
    run = _OPERATORS[operator]
    return lambda scope: run(left(scope), right(scope))


# Logic ----------------------------------------------------------------------------------------------------------------


def _and(left: Evaluator, right: Evaluator) -> Evaluator:
    def run(scope: Scope) -> Collection:
        one = as_boolean(left(scope))
        if one is False:
            return truth(value=False)
        other = as_boolean(right(scope))
        return truth(False if other is False else None if one is None or other is None else True)

    return run


def _or(left: Evaluator, right: Evaluator) -> Evaluator:
    def run(scope: Scope) -> Collection:
        one = as_boolean(left(scope))
        if one:
            return truth(value=True)
        other = as_boolean(right(scope))
        return truth(True if other else None if one is None or other is None else False)

    return run


def _xor(left: Evaluator, right: Evaluator) -> Evaluator:
    def run(scope: Scope) -> Collection:
        one, other = as_boolean(left(scope)), as_boolean(right(scope))
        return truth(None if one is None or other is None else one != other)

    return run


def _implies(left: Evaluator, right: Evaluator) -> Evaluator:
    def run(scope: Scope) -> Collection:
        one = as_boolean(left(scope))
        if one is False:
            return truth(value=True)
        other = as_boolean(right(scope))
        return truth(True if other else None if one is None or other is None else False)

    return run


_LOGIC: dict[str, Callable[[Evaluator, Evaluator], Evaluator]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
}


# Equality, order, membership ------------------------------------------------------------------------------------------


def _equal(left: Collection, right: Collection) -> bool | None:
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    unsure = False
    for one, other in zip(left, right, strict=True):
        same = items.equal(one, other)
        if same is False:
            return False
        unsure = unsure or same is None
    return None if unsure else True


def _equivalent(left: Collection, right: Collection) -> bool:
    if len(left) != len(right):
        return False
    rest = list(right)
    for one in left:
        found = next((index for index, other in enumerate(rest) if items.equivalent(one, other)), None)
        if found is None:
            return False
        del rest[found]
    return True


def _ordered(test: Callable[[int], bool]) -> Callable[[Collection, Collection], Collection]:
    def run(left: Collection, right: Collection) -> Collection:
        one, other = singleton(left), singleton(right)
        if one is None or other is None:
            return []
        difference = items.compare(one, other)
        return truth(None if difference is None else test(difference))

    return run


def _negated(value: bool | None) -> bool | None:
    return None if value is None else not value


def _in(left: Collection, right: Collection) -> Collection:
    item = singleton(left)
    if item is None:
        return []
    return truth(any(items.equal(item, each) for each in right))


def unique(collection: Collection) -> Collection:
    """The collection without repetitions, first come first kept."""
    found: Collection = []
    known: set[Any] = set()
    for item in collection:
        key = items.key(item)
        kind = (isinstance(key, bool), key)
        if kind not in known:
            known.add(kind)
            found.append(item)
    return found


# Arithmetic -----------------------------------------------------------------------------------------------------------


def _concatenated(left: Collection, right: Collection) -> Collection:
    return [system((as_text(left) or "") + (as_text(right) or ""), "String")]


def _plus(left: Collection, right: Collection) -> Collection:
    one, other = singleton(left), singleton(right)
    if one is None or other is None:
        return []
    if isinstance(one.value, str) and isinstance(other.value, str) and not one.is_temporal:
        return [system(one.value + other.value, "String")]
    return _sum(one, other, 1)


def _minus(left: Collection, right: Collection) -> Collection:
    one, other = singleton(left), singleton(right)
    return [] if one is None or other is None else _sum(one, other, -1)


def _sum(one: Item, other: Item, sign: int) -> Collection:
    if one.is_number and other.is_number:
        return [_number(one.value + sign * other.value)]
    if one.is_temporal and (amount := quantity(other)):
        return [Item(_moved(str(one.value), sign * amount[0], amount[1]), one.type)]
    first, second = quantity(one), quantity(other)
    if first and second and first[1] == second[1]:
        return [Item((first[0] + sign * second[0], first[1]), "System.Quantity")]
    raise FhirPathError("these values cannot be added or subtracted")


def _number(value: int | Decimal) -> Item:
    return system(value, "Decimal" if isinstance(value, Decimal) else "Integer")


_MONTHS = {"year": 12, "a": 12, "month": 1, "mo": 1}
_SPANS = {
    "week": timedelta(weeks=1),
    "wk": timedelta(weeks=1),
    "day": timedelta(days=1),
    "d": timedelta(days=1),
    "hour": timedelta(hours=1),
    "h": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "second": timedelta(seconds=1),
    "s": timedelta(seconds=1),
    "millisecond": timedelta(milliseconds=1),
    "ms": timedelta(milliseconds=1),
}


def _moved(text: str, number: Decimal, unit: str) -> str:
    """A date or time, later by a duration; as precise as it was."""
    parts, zone = moment_parts(text)
    number = Decimal(int(number)) if unit not in ("second", "s") else number
    unit = CALENDAR_UNITS.get(unit, unit)
    is_time = parts[0] is None
    year, month, day, hour, minute = (
        int(part) if part is not None else start for part, start in zip(parts, (1, 1, 1, 0, 0), strict=False)
    )
    seconds = parts[5] if parts[5] is not None else Decimal(0)
    if unit in _MONTHS:
        months = year * 12 + month - 1 + int(number) * _MONTHS[unit]
        year, month = divmod(months, 12)
        month += 1
        day = min(day, calendar.monthrange(year, month)[1])
        moment = datetime(year, month, day, hour, minute) + timedelta(seconds=float(seconds))  # noqa: DTZ001 - zone below
    elif unit in _SPANS:
        start = datetime(2000 if is_time else year, month, day, hour, minute)  # noqa: DTZ001 - the zone is put back below
        moment = start + timedelta(seconds=float(seconds)) + float(number) * _SPANS[unit]
    else:
        raise FhirPathError("the unit is no duration")
    return _rendered(moment, text, zone)


def _rendered(moment: datetime, like: str, zone: str) -> str:
    """A moment with the precision of another text."""
    bare = like.removesuffix(zone)
    if len(bare) > 2 and bare[2] == ":":
        return moment.time().isoformat(timespec="milliseconds")[: len(bare)]
    return moment.isoformat(timespec="milliseconds")[: len(bare)] + zone


def _numbers(run: Callable[[Any, Any], Any]) -> Callable[[Collection, Collection], Collection]:
    def calculate(left: Collection, right: Collection) -> Collection:
        one, other = singleton(left), singleton(right)
        if one is None or other is None:
            return []
        if not (one.is_number and other.is_number):
            raise FhirPathError("numbers are expected")
        result = run(one.value, other.value)
        return [] if result is None else [_number(result)]

    return calculate


def _times(left: Collection, right: Collection) -> Collection:
    one, other = singleton(left), singleton(right)
    if one is not None and other is not None and isinstance(one.value, tuple) and other.is_number:
        return [Item((one.value[0] * other.value, one.value[1]), "System.Quantity")]
    return _numbers(lambda a, b: a * b)(left, right)


_OPERATORS: dict[str, Callable[[Collection, Collection], Collection]] = {
    "=": lambda left, right: truth(_equal(left, right)),
    "!=": lambda left, right: truth(_negated(_equal(left, right))),
    "~": lambda left, right: truth(_equivalent(left, right)),
    "!~": lambda left, right: truth(not _equivalent(left, right)),
    "<": _ordered(lambda difference: difference < 0),
    "<=": _ordered(lambda difference: difference <= 0),
    ">": _ordered(lambda difference: difference > 0),
    ">=": _ordered(lambda difference: difference >= 0),
    "in": _in,
    "contains": lambda left, right: _in(right, left),
    "|": lambda left, right: unique([*left, *right]),
    "&": _concatenated,
    "+": _plus,
    "-": _minus,
    "*": _times,
    "/": _numbers(lambda a, b: Decimal(a) / Decimal(b) if b else None),
    "div": _numbers(lambda a, b: int(Decimal(a) / Decimal(b)) if b else None),
    "mod": _numbers(lambda a, b: a - b * int(Decimal(a) / Decimal(b)) if b else None),
}
