"""One value of a query string as the typed value that it stands for (FHIR R4 §3.1.1.4): escapes, prefixes, formats."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import TypeVar, get_args

from relais.server.search.query import NearValue, Prefix, QuantityValue, StringValue, TokenValue
from relais.server.search.units import canonical_unit
from relais.server.search.values import (
    canonical_system,
    chord,
    normalise_code,
    normalise_text,
    on_sphere,
    parse_number,
    precision_of,
)

_T = TypeVar("_T")

_NEAR = 25.0  # km, when a place is given without a distance
_KILOMETRES = {"km": 1.0, "m": 0.001, "[mi_us]": 1.609347, "[mi_i]": 1.609344, "mi": 1.609344}
_PREFIXED = re.compile(f"({'|'.join(get_args(Prefix))})?(.*)", re.DOTALL)


class Refused(Exception):  # noqa: N818 - the parser makes a SearchError of it, which names the parameter
    """Why one parameter is refused; `code` is the FHIR issue type."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def boolean(value: str) -> bool:
    """`true` or `false`. Raises Refused."""
    if value not in ("true", "false"):
        raise Refused("value", "true or false is expected")
    return value == "true"


def split(text: str, separator: str) -> list[str]:
    """`text` between separators that no backslash escapes; the parts keep their escapes."""
    parts, start, position = [], 0, 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == separator:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]


def plain(text: str) -> str:
    r"""`text` without its escapes: `\,` `\|` `\$` `\\` stand for the character. Other backslashes stay."""
    return re.sub(r"\\([,|$\\])", r"\1", text)


def prefixed(text: str) -> tuple[Prefix, str]:
    """The prefix of a value, `eq` where it has none, and the rest."""
    match = _PREFIXED.fullmatch(text)
    prefix: Prefix | None = match[1] if match else None  # type: ignore[assignment]
    return prefix or "eq", match[2] if match else text


def read(function: Callable[[str], _T], text: str) -> _T:
    """What `function` makes of the text. Raises Refused for its ValueError."""
    try:
        return function(text)
    except ValueError as error:
        raise Refused("value", str(error)) from None


def string(text: str) -> StringValue:
    """A text to compare without case, accents and punctuation. Raises Refused for one that has nothing else."""
    unescaped = plain(text)
    normalised = normalise_text(unescaped)
    if not normalised:
        raise Refused("value", "a value without letters or digits would match everything")
    return StringValue(normalised, unescaped)


def token(text: str) -> TokenValue:
    """`code`, `system|code`, `|code` or `system|`. Raises Refused."""
    parts = split(text, "|")
    if len(parts) > 2:
        raise Refused("value", "system|code is expected; a bar inside a code is written \\|")
    code = normalise_code(plain(parts[-1]))
    if len(parts) == 1:
        return TokenValue(None, code)
    system = canonical_system(plain(parts[0]))
    if not system and not code:
        raise Refused("value", "a system or a code is expected")
    return TokenValue(system, code or None)


def system_and_code(text: str) -> tuple[str, str]:
    """`system|code`, both of them. Raises Refused."""
    parts = [plain(part) for part in split(text, "|")]
    if len(parts) != 2 or not all(parts):
        raise Refused("value", "system|code is expected: a hierarchy belongs to a code system")
    return parts[0], parts[1]


def of_type(text: str) -> TokenValue:
    """`system|code|value`, an identifier of a type. Raises Refused."""
    parts = [plain(part) for part in split(text, "|")]
    if len(parts) != 3 or not all(parts[1:]):
        raise Refused("value", "system|code|value is expected: the type of the identifier, then its value")
    system, code, value = parts
    return TokenValue(canonical_system(system), f"{code}|{normalise_code(value)}")


def number(text: str, factor: Decimal = Decimal(1)) -> QuantityValue:
    """`[prefix]number`, times `factor`, with the interval that its precision means. Raises Refused."""
    prefix, digits = prefixed(plain(text))
    exact = read(parse_number, digits) * factor
    half = abs(exact) / 10 if prefix == "ap" else precision_of(digits) * factor
    return QuantityValue(prefix, float(exact), float(exact - half), float(exact + half), None, None)


def quantity(text: str) -> QuantityValue:
    """`[prefix]number|system|code`, in the canonical unit where it has one. Raises Refused."""
    digits, *unit = split(text, "|")
    value = number(digits)
    if not unit:
        return value
    if len(unit) != 2:
        raise Refused("value", "a number, or number|system|code, or number||unit is expected")
    system, code = (plain(part) for part in unit)
    system = canonical_system(system)
    if (canonical := canonical_unit(system, code)) is not None:
        return replace(number(digits, canonical[1]), system=system, unit=canonical[0], canonical=True)
    return replace(value, system=system or None, unit=code or None)


def near(text: str) -> NearValue:
    """`latitude|longitude|distance|unit`, the last two optional. Raises Refused."""
    parts = [plain(part) for part in split(text, "|")]
    if not 2 <= len(parts) <= 4:
        raise Refused("value", "latitude|longitude|distance|unit is expected")
    latitude, longitude = (float(read(parse_number, part)) for part in parts[:2])
    distance = float(read(parse_number, parts[2])) if len(parts) > 2 and parts[2] else _NEAR
    unit = parts[3] if len(parts) > 3 and parts[3] else "km"
    if abs(latitude) > 90 or abs(longitude) > 180 or distance < 0:
        raise Refused("value", "not a place on earth and a distance from it")
    if unit not in _KILOMETRES:
        raise Refused("value", f"the unit of a distance is one of {', '.join(_KILOMETRES)}")
    return NearValue(*on_sphere(latitude, longitude), chord(distance * _KILOMETRES[unit]))
