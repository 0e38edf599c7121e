"""When an index row has a value, as SQL conditions: FHIR R4 §3.1.1.4.5 (dates) and §3.1.1.5 (prefixes) compare so."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, and_, not_, or_

from relais.server.search.query import (
    DateValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenSetValue,
    TokenValue,
    UriValue,
    Value,
)
from relais.server.store import fold, schema

Condition = ColumnElement[bool]

_LAST_CHARACTER = "\U0010ffff"


def compared(table: FromClause, value: Value, modifier: str) -> Condition:
    """Whether an index row has the value, or, as `modifier` says, stands to it."""
    if modifier == "differs":
        return not_(compared(table, value, "equals"))
    match value:
        case TokenValue():
            return _token(table, value)
        case TokenSetValue():
            return and_(table.c.system == fold(value.system), table.c.code.in_([fold(code) for code in value.codes]))
        case StringValue():
            return _string(table, value, modifier)
        case DateValue():
            return within(table.c.low, table.c.high, value, 0)
        case QuantityValue():
            return _quantity(table, value)
        case ReferenceValue():
            return _reference(table, value)
        case UriValue():
            return _uri(table, value, modifier)
    raise AssertionError(value)


def _token(table: FromClause, value: TokenValue) -> Condition:
    conditions = []
    if value.code is not None:
        conditions.append(table.c.code == fold(value.code))
    if value.system is not None:
        conditions.append(table.c.system == fold(value.system))
    return and_(*conditions)


def _string(table: FromClause, value: StringValue, modifier: str) -> Condition:
    if modifier == "contains":
        return table.c.normalised.contains(value.normalised, autoescape=True)
    if modifier == "ends":
        return table.c.normalised.endswith(value.normalised, autoescape=True)
    head = schema.string_head(table)
    start = value.normalised[: schema.STRING_HEAD]
    if modifier == "exact":
        return and_(head == start, table.c.exact == value.text)
    if modifier == "equals":
        return and_(head == start, table.c.normalised == value.normalised)
    begins = _begins(head, start)
    return begins if start == value.normalised else and_(begins, _begins(table.c.normalised, value.normalised))


def _begins(column: ColumnElement[str], start: str) -> Condition:
    return and_(column >= start, column < start + _LAST_CHARACTER)


def within(low: ColumnElement[int], high: ColumnElement[int], value: Value, width: int) -> Condition:
    """Whether the span `[low, high + width)` of a row stands to the value's span as its prefix says."""
    if not isinstance(value, DateValue):
        raise AssertionError(value)
    start, end = value.span.low, value.span.high
    inside = and_(low >= start, low < end, high <= end - width)  # the second follows, and bounds the index range
    match value.prefix:
        case "eq":
            return inside
        case "ne":
            return or_(low < start, high > end - width)
        case "gt":
            return high > end - width
        case "lt":
            return low < start
        case "ge":
            return and_(high > start - width, or_(high > end - width, inside))
        case "le":
            return and_(low < end, or_(low < start, inside))
        case "sa":
            return low >= end
        case "eb":
            return high <= start - width
        case "ap":
            return and_(low < end, high > start - width)


def _number(low: ColumnElement[float], high: ColumnElement[float], value: QuantityValue) -> Condition:
    """Whether the interval of a row stands to the number as its prefix says.

    The index by the high bound holds true intervals only (`low < high`): a single number is found by its low bound.
    """
    interval, number = low < high, value.number
    match value.prefix:
        case "eq":
            return and_(low >= value.low, low < value.high, high < value.high)
        case "ne":
            return or_(low < value.low, high >= value.high)
        case "gt":
            return or_(low > number, and_(interval, high > number))
        case "ge":
            return or_(low >= number, and_(interval, high >= number))
        case "lt":
            return low < number
        case "le":
            return low <= number
        case "sa":
            return low > number
        case "eb":
            return and_(low < number, high < number)
        case "ap":
            inside = and_(low >= value.low, low <= value.high)
            return or_(inside, and_(interval, low <= value.high, high >= value.low))
    raise AssertionError(value)


def _quantity(table: FromClause, value: QuantityValue) -> Condition:
    number = _number(table.c.low, table.c.high, value)
    if value.system is not None:
        number = and_(number, table.c.system == fold(value.system))
    if value.unit is None:
        return number
    unit = fold(value.unit)
    if value.system is not None:
        return and_(number, table.c.code == unit)
    return and_(number, or_(table.c.code == unit, table.c.unit == unit))


def _reference(table: FromClause, value: ReferenceValue) -> Condition:
    conditions = [table.c.target == value.target]
    if value.type is not None:
        conditions.append(table.c.target_type == value.type)
    if value.version is not None:
        conditions.append(table.c.version == fold(value.version))
    return and_(*conditions)


def _uri(table: FromClause, value: UriValue, modifier: str) -> Condition:
    match modifier:
        case "below":
            return _begins(table.c.uri, value.uri)
        case "above":
            parts = value.uri.split("/")
            return table.c.uri.in_([fold("/".join(parts[:length])) for length in range(1, len(parts) + 1)])
    return table.c.uri == fold(value.uri)
