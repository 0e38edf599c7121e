"""The functions of FHIRPath N1 (http://hl7.org/fhirpath/N1/#functions) and of FHIR R4 (fhirpath.html#functions)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple

from relais.profiles import narrative, primitives
from relais.profiles.fhirpath import items
from relais.profiles.fhirpath.items import Collection, Item, key, quantity, system, truth
from relais.profiles.fhirpath.operators import as_boolean, as_text, singleton, unique
from relais.profiles.fhirpath.scope import Evaluator, FhirPathError, Scope
from relais.profiles.fhirpath.syntax import CALENDAR_UNITS

_Run = Callable[..., Collection]
_MAX_REPEATED = 100_000


class Function(NamedTuple):
    """A function: `run(input, scope, *arguments)`, and how many arguments it takes."""

    run: _Run
    fewest: int
    most: int


# Existence ------------------------------------------------------------------------------------------------------------


def _exists(found: Collection, scope: Scope, criteria: Evaluator | None = None) -> Collection:
    return truth(bool(found if criteria is None else _where(found, scope, criteria)))


def _all(found: Collection, scope: Scope, criteria: Evaluator) -> Collection:
    return truth(all(as_boolean(criteria(scope.at(item, index))) for index, item in enumerate(found)))


def _booleans(test: Callable[[list[bool | None]], bool]) -> _Run:
    return lambda found, scope: truth(test([as_boolean([item]) for item in found]))


def _subset(found: Collection, other: Collection) -> Collection:
    keys = {key(item) for item in other}
    return truth(all(key(item) in keys for item in found))


def _not(found: Collection, scope: Scope) -> Collection:
    value = as_boolean(found)
    return truth(None if value is None else not value)


# Filtering, projection, combination -----------------------------------------------------------------------------------


def _where(found: Collection, scope: Scope, criteria: Evaluator) -> Collection:
    return [item for index, item in enumerate(found) if as_boolean(criteria(scope.at(item, index)))]


def _select(found: Collection, scope: Scope, projection: Evaluator) -> Collection:
    return [each for index, item in enumerate(found) for each in projection(scope.at(item, index))]


def _repeat(found: Collection, scope: Scope, projection: Evaluator) -> Collection:
    result: Collection = []
    waiting = list(found)
    while waiting:
        step = _select(waiting, scope, projection)
        known = len(result)
        result = unique([*result, *step])
        waiting = result[known:]
        if len(result) > _MAX_REPEATED:
            raise FhirPathError("repeat() does not end")
    return result


def _aggregate(found: Collection, scope: Scope, step: Evaluator, start: Evaluator | None = None) -> Collection:
    total = start(scope) if start else []
    for index, item in enumerate(found):
        total = step(scope.at(item, index, total))
    return total


def _single(found: Collection, scope: Scope) -> Collection:
    item = singleton(found)
    return [] if item is None else [item]


def _whole(argument: Evaluator, scope: Scope) -> int:
    item = singleton(argument(scope))
    if item is None or not isinstance(item.value, int) or isinstance(item.value, bool):
        raise FhirPathError("a whole number is expected")
    return item.value


def _skip(found: Collection, scope: Scope, count: Evaluator) -> Collection:
    return found[max(_whole(count, scope), 0) :]


def _take(found: Collection, scope: Scope, count: Evaluator) -> Collection:
    return found[: max(_whole(count, scope), 0)]


def _intersect(found: Collection, scope: Scope, other: Evaluator) -> Collection:
    keys = {key(item) for item in other(scope)}
    return unique([item for item in found if key(item) in keys])


def _exclude(found: Collection, scope: Scope, other: Evaluator) -> Collection:
    keys = {key(item) for item in other(scope)}
    return [item for item in found if key(item) not in keys]


def _iif(
    found: Collection, scope: Scope, criterion: Evaluator, yes: Evaluator, no: Evaluator | None = None
) -> Collection:
    inner = scope if len(found) != 1 else scope.at(found[0], scope.index)
    if as_boolean(criterion(inner)):
        return yes(inner)
    return no(inner) if no else []


# Conversion -----------------------------------------------------------------------------------------------------------

_TRUE_TEXTS = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE_TEXTS = frozenset({"false", "f", "no", "n", "0", "0.0"})
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?)(?:\s*(?:'([^']+)'|([a-z]+)))?")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_DECIMAL = re.compile(r"[+-]?\d{1,50}(?:\.\d{1,50})?")


def _to_boolean(item: Item) -> Item | None:
    text = item.value.lower() if isinstance(item.value, str) else str(item.value).lower()
    if text in _TRUE_TEXTS:
        return items.TRUE
    return items.FALSE if text in _FALSE_TEXTS else None


def _to_integer(item: Item) -> Item | None:
    if isinstance(item.value, bool):
        return system(int(item.value), "Integer")
    if isinstance(item.value, int):
        return system(item.value, "Integer")
    is_whole = isinstance(item.value, str) and _INTEGER.fullmatch(item.value)
    return system(int(item.value), "Integer") if is_whole else None


def _to_decimal(item: Item) -> Item | None:
    if isinstance(item.value, bool | int | Decimal):
        return system(Decimal(item.value), "Decimal")
    is_decimal = isinstance(item.value, str) and _DECIMAL.fullmatch(item.value)
    return system(Decimal(item.value), "Decimal") if is_decimal else None


def _to_string(item: Item) -> Item | None:
    value = item.value
    if isinstance(value, bool):
        return system("true" if value else "false", "String")
    if isinstance(value, str | int | Decimal):
        return system(str(value), "String")
    if (amount := quantity(item)) is not None and item.system_type == "Quantity":
        number, unit = amount
        return system(f"{number} {unit}" if unit in CALENDAR_UNITS else f"{number} '{unit}'", "String")
    return None


def _to_quantity(item: Item) -> Item | None:
    if isinstance(item.value, bool | int | Decimal):
        return Item((Decimal(item.value), "1"), "System.Quantity")
    if item.system_type == "Quantity":
        found = quantity(item)
        return Item(found, "System.Quantity") if found else None
    parts = _QUANTITY.fullmatch(item.value) if isinstance(item.value, str) else None
    if parts is None or (parts[3] and parts[3] not in CALENDAR_UNITS):
        return None
    unit = CALENDAR_UNITS[parts[3]] if parts[3] else parts[2] or "1"
    return Item((Decimal(parts[1]), unit), "System.Quantity")


def _to_date(item: Item) -> Item | None:
    text = item.value[:10] if isinstance(item.value, str) and "T" in item.value else item.value
    return system(text, "Date") if primitives.is_date(text) else None


def _to_date_time(item: Item) -> Item | None:
    text = item.value
    is_moment = isinstance(text, str) and re.fullmatch(r"\d{4}(-\d\d(-\d\d(T.*)?)?)?", text) is not None
    if not is_moment:
        return None
    try:
        items.moment_parts(text)
    except items.IncomparableError:
        return None
    return system(text, "DateTime")


def _to_time(item: Item) -> Item | None:
    is_time = isinstance(item.value, str) and re.fullmatch(r"\d\d(:\d\d(:\d\d(\.\d+)?)?)?", item.value) is not None
    return system(item.value, "Time") if is_time else None


def _conversion(convert: Callable[[Item], Item | None]) -> _Run:
    def run(found: Collection, scope: Scope, *_: Evaluator) -> Collection:
        item = singleton(found)
        result = convert(item) if item else None
        return [result] if result else []

    return run


def _convertible(convert: Callable[[Item], Item | None]) -> _Run:
    def run(found: Collection, scope: Scope, *_: Evaluator) -> Collection:
        item = singleton(found)
        return truth(None if item is None else convert(item) is not None)

    return run


# Strings --------------------------------------------------------------------------------------------------------------


def _on_text(run: Callable[..., Any], kind: str) -> _Run:
    """A function of a string whose arguments are strings; empty when one of them is missing."""

    def call(found: Collection, scope: Scope, *arguments: Evaluator) -> Collection:
        text = as_text(found)
        values = [as_text(argument(scope)) for argument in arguments]
        if text is None or any(value is None for value in values):
            return []
        return [system(run(text, *values), kind)]

    return call


def _substring(found: Collection, scope: Scope, start: Evaluator, length: Evaluator | None = None) -> Collection:
    text = as_text(found)
    first = singleton(start(scope))
    if text is None or first is None:
        return []
    begin = int(first.value)
    if not 0 <= begin < len(text):
        return []
    count = singleton(length(scope)) if length else None
    end = len(text) if count is None else begin + max(int(count.value), 0)
    return [system(text[begin:end], "String")]


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.DOTALL)
    except re.error as error:
        raise FhirPathError(f"no regular expression: {error}") from error


def _replaced(text: str, pattern: str, substitution: str) -> str:
    groups = re.sub(r"\$(\d+)", r"\\g<\1>", substitution)
    return _pattern(pattern).sub(groups, text) if pattern else text


def _to_chars(found: Collection, scope: Scope) -> Collection:
    return [system(character, "String") for character in as_text(found) or ""]


def _split(found: Collection, scope: Scope, separator: Evaluator) -> Collection:
    text, by = as_text(found), as_text(separator(scope))
    if text is None or by is None:
        return []
    return [system(part, "String") for part in (text.split(by) if by else text)]


def _join(found: Collection, scope: Scope, separator: Evaluator | None = None) -> Collection:
    by = (as_text(separator(scope)) or "") if separator else ""
    return [system(by.join(as_text([item]) or "" for item in found), "String")]


# Numbers --------------------------------------------------------------------------------------------------------------


def _on_number(run: Callable[..., Any]) -> _Run:
    def call(found: Collection, scope: Scope, *arguments: Evaluator) -> Collection:
        item = singleton(found)
        operands = [singleton(argument(scope)) for argument in arguments]
        if item is None or any(operand is None for operand in operands):
            return []
        if isinstance(item.value, tuple):
            return [Item((run(item.value[0]), item.value[1]), item.type)]
        if not item.is_number:
            raise FhirPathError("a number is expected")
        try:
            value = run(item.value, *(operand.value for operand in operands if operand))
        except (ValueError, ArithmeticError):
            return []
        return [system(value, "Decimal" if isinstance(value, Decimal) else "Integer")]

    return call


def _real(run: Callable[..., float]) -> Callable[..., Decimal]:
    return lambda *numbers: Decimal(str(run(*(float(number) for number in numbers))))


def _power(base: Any, exponent: Any) -> int | Decimal:
    if isinstance(base, int) and isinstance(exponent, int) and 0 <= exponent <= 1024:
        return int(base**exponent)
    result = Decimal(base) ** Decimal(exponent)
    if not result.is_finite():
        raise InvalidOperation
    return result


def _rounded(number: Any, places: int = 0) -> Decimal:
    return Decimal(number).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


# Navigation and FHIR --------------------------------------------------------------------------------------------------


def _extension(found: Collection, scope: Scope, url: Evaluator) -> Collection:
    wanted = as_text(url(scope))
    return [each for item in found for each in items.child(item, "extension") if _url(each) == wanted]


def _url(extension: Item) -> Any:
    return extension.value.get("url") if isinstance(extension.value, dict) else None


def _has_value(found: Collection, scope: Scope) -> Collection:
    return truth(len(found) == 1 and found[0].value is not None and not isinstance(found[0].value, dict))


def _get_value(found: Collection, scope: Scope) -> Collection:
    is_primitive = len(found) == 1 and found[0].value is not None and not isinstance(found[0].value, dict)
    return [system(found[0].value, found[0].system_type)] if is_primitive else []


def _resolve(found: Collection, scope: Scope) -> Collection:
    resolved: Collection = []
    for item in found:
        text = item.value.get("reference") if isinstance(item.value, dict) else item.value
        resource = scope.environment.resolve(text) if isinstance(text, str) else None
        if resource is not None:
            resolved.append(Item(resource, items.type_of(resource, "Resource")))
    return resolved


def _asked(ask: Callable[[Scope], Callable[[Item, str], bool | None]]) -> _Run:
    def run(found: Collection, scope: Scope, url: Evaluator) -> Collection:
        item, wanted = singleton(found), as_text(url(scope))
        if item is None or wanted is None:
            return []
        answer = ask(scope)(item, wanted)
        if answer is None:
            raise FhirPathError(f"{wanted} cannot be checked here")
        return truth(answer)

    return run


def _html_checks(found: Collection, scope: Scope) -> Collection:
    text = as_text(found)
    return [] if text is None else truth(not any(problem.code == "invariant" for problem in narrative.problems(text)))


def _type(found: Collection, scope: Scope) -> Collection:
    return [system(_type_info(item.type), "TypeInfo") for item in found]


def _type_info(name: str) -> dict[str, str]:
    if name.startswith("System."):
        return {"namespace": "System", "name": name[7:]}
    return {"namespace": "FHIR", "name": "BackboneElement" if "." in name else name}


def _moment(form: str, kind: str) -> _Run:
    return lambda found, scope: [system(scope.environment.now.strftime(form), kind)]


def _now(found: Collection, scope: Scope) -> Collection:
    return [system(scope.environment.now.isoformat(timespec="milliseconds"), "DateTime")]


_CONVERSIONS: dict[str, Callable[[Item], Item | None]] = {
    "Boolean": _to_boolean,
    "Integer": _to_integer,
    "Decimal": _to_decimal,
    "String": _to_string,
    "Quantity": _to_quantity,
    "Date": _to_date,
    "DateTime": _to_date_time,
    "Time": _to_time,
}

FUNCTIONS: dict[str, Function] = {
    # existence
    "empty": Function(lambda found, scope: truth(not found), 0, 0),
    "exists": Function(_exists, 0, 1),
    "all": Function(_all, 1, 1),
    "allTrue": Function(_booleans(all), 0, 0),
    "anyTrue": Function(_booleans(any), 0, 0),
    "allFalse": Function(_booleans(lambda found: not any(found)), 0, 0),
    "anyFalse": Function(_booleans(lambda found: not all(found)), 0, 0),
    "subsetOf": Function(lambda found, scope, other: _subset(found, other(scope)), 1, 1),
    "supersetOf": Function(lambda found, scope, other: _subset(other(scope), found), 1, 1),
    "count": Function(lambda found, scope: [system(len(found), "Integer")], 0, 0),
    "distinct": Function(lambda found, scope: unique(found), 0, 0),
    "isDistinct": Function(lambda found, scope: truth(len(unique(found)) == len(found)), 0, 0),
    "not": Function(_not, 0, 0),
    # filtering, projection, combination
    "where": Function(_where, 1, 1),
    "select": Function(_select, 1, 1),
    "repeat": Function(_repeat, 1, 1),
    "aggregate": Function(_aggregate, 1, 2),
    "single": Function(_single, 0, 0),
    "first": Function(lambda found, scope: found[:1], 0, 0),
    "last": Function(lambda found, scope: found[-1:], 0, 0),
    "tail": Function(lambda found, scope: found[1:], 0, 0),
    "skip": Function(_skip, 1, 1),
    "take": Function(_take, 1, 1),
    "intersect": Function(_intersect, 1, 1),
    "exclude": Function(_exclude, 1, 1),
    "union": Function(lambda found, scope, other: unique([*found, *other(scope)]), 1, 1),
    "combine": Function(lambda found, scope, other: [*found, *other(scope)], 1, 1),
    "iif": Function(_iif, 2, 3),
    # conversion
    **{f"to{name}": Function(_conversion(convert), 0, 1) for name, convert in _CONVERSIONS.items()},
    **{f"convertsTo{name}": Function(_convertible(convert), 0, 1) for name, convert in _CONVERSIONS.items()},
    # strings
    "indexOf": Function(_on_text(str.find, "Integer"), 1, 1),
    "lastIndexOf": Function(_on_text(str.rfind, "Integer"), 1, 1),
    "substring": Function(_substring, 1, 2),
    "startsWith": Function(_on_text(str.startswith, "Boolean"), 1, 1),
    "endsWith": Function(_on_text(str.endswith, "Boolean"), 1, 1),
    "contains": Function(_on_text(lambda text, part: part in text, "Boolean"), 1, 1),
    "upper": Function(_on_text(str.upper, "String"), 0, 0),
    "lower": Function(_on_text(str.lower, "String"), 0, 0),
    "trim": Function(_on_text(str.strip, "String"), 0, 0),
    "length": Function(_on_text(len, "Integer"), 0, 0),
    "replace": Function(_on_text(str.replace, "String"), 2, 2),
    "matches": Function(_on_text(lambda text, by: _pattern(by).search(text) is not None, "Boolean"), 1, 1),
    "matchesFull": Function(_on_text(lambda text, by: _pattern(by).fullmatch(text) is not None, "Boolean"), 1, 1),
    "replaceMatches": Function(_on_text(_replaced, "String"), 2, 2),
    "toChars": Function(_to_chars, 0, 0),
    "split": Function(_split, 1, 1),
    "join": Function(_join, 0, 1),
    # numbers
    "abs": Function(_on_number(abs), 0, 0),
    "ceiling": Function(_on_number(lambda number: int(Decimal(number).to_integral_value(ROUND_CEILING))), 0, 0),
    "floor": Function(_on_number(lambda number: int(Decimal(number).to_integral_value(ROUND_FLOOR))), 0, 0),
    "truncate": Function(_on_number(int), 0, 0),
    "round": Function(_on_number(_rounded), 0, 1),
    "exp": Function(_on_number(_real(math.exp)), 0, 0),
    "ln": Function(_on_number(_real(math.log)), 0, 0),
    "log": Function(_on_number(_real(math.log)), 1, 1),
    "sqrt": Function(_on_number(_real(math.sqrt)), 0, 0),
    "power": Function(_on_number(_power), 1, 1),
    # navigation
    "children": Function(lambda found, scope: [each for item in found for each in items.children(item)], 0, 0),
    "descendants": Function(lambda found, scope: [each for item in found for each in items.descendants(item)], 0, 0),
    "type": Function(_type, 0, 0),
    "trace": Function(lambda found, scope, *_: found, 1, 2),
    "now": Function(_now, 0, 0),
    "today": Function(_moment("%Y-%m-%d", "Date"), 0, 0),
    "timeOfDay": Function(_moment("%H:%M:%S", "Time"), 0, 0),
    # FHIR
    "extension": Function(_extension, 1, 1),
    "hasValue": Function(_has_value, 0, 0),
    "getValue": Function(_get_value, 0, 0),
    "resolve": Function(_resolve, 0, 0),
    "memberOf": Function(_asked(lambda scope: scope.environment.member_of), 1, 1),
    "conformsTo": Function(_asked(lambda scope: scope.environment.conforms_to), 1, 1),
    "htmlChecks": Function(_html_checks, 0, 0),
    "htmlChecks2": Function(_html_checks, 0, 0),
}
"""Every function by name. `is`, `as` and `ofType` take a type and are compiled by the engine."""
