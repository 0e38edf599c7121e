"""From a query tree to one SQL statement, the same for SQLite and PostgreSQL.

Each criterion is a set of resource keys read from an index table. The most selective one drives the statement (an
index range, in the order of the keys where it can be); the others are tested on each key that it yields. FHIR R4
§3.1.1.4.5 (dates) and §3.1.1.5 (prefixes) are the comparisons.
"""

from __future__ import annotations

import operator
from collections import Counter
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Table, and_, exists, func, or_, select, tuple_, union_all

from relais.profiles.definitions import SearchParameter
from relais.server.search.parameters import IDENTIFIER, OF_TYPE, TEXT, component_code, index_name, parameters
from relais.server.search.query import (
    Chain,
    CompositeValue,
    Criterion,
    DateValue,
    Has,
    Match,
    Missing,
    QuantityValue,
    Query,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
    Value,
)
from relais.server.store import fold, schema
from relais.server.store.store import resource_columns

Condition = ColumnElement[bool]
Keys = Select[*tuple[Any, ...]]
"""A statement whose only column is the key of a resource."""

_LAST_CHARACTER = "\U0010ffff"
_MILLISECOND = 1000  # microseconds: what an instant of `meta.lastUpdated` lasts

TABLES: dict[str, Table] = {
    "token": schema.token_index,
    "string": schema.string_index,
    "date": schema.date_index,
    "reference": schema.reference_index,
    "number": schema.quantity_index,
    "quantity": schema.quantity_index,
    "uri": schema.uri_index,
}
_DERIVED: dict[str, tuple[str, str]] = {
    "text": ("string", TEXT),
    "of-type": ("token", OF_TYPE),
    "identifier": ("token", IDENTIFIER),
}
_SORT_COLUMNS: dict[str, str] = {"_id": "id", "_lastUpdated": "last_updated"}
# Which kind of criterion leaves fewest resources, as a rule: the smallest number drives.
_SELECTIVITY = {
    "reference": 2,
    "uri": 3,
    "string": 4,
    "token": 5,
    "composite": 5,
    "quantity": 6,
    "number": 6,
    "date": 7,
}
_UNSELECTIVE = 9


# --- Statements ------------------------------------------------------------------------------------------------------


def page_statement(query: Query, after: tuple[Any, ...] | None) -> Select[*tuple[Any, ...]]:
    """Rows of matches in order, one more than a page holds; `after` is `position` of the last row already served."""
    statement, key = _Statement().matching(query, select(*resource_columns))
    order: list[tuple[ColumnElement[Any], bool]] = [
        *((schema.resource.c[_SORT_COLUMNS[sort.code]], sort.descending) for sort in query.sort),
        (key, False),
    ]
    if after is not None:
        statement = statement.where(_after(order, after))
    ordered = (column.desc() if descending else column.asc() for column, descending in order)
    return statement.order_by(*ordered).limit(query.count + 1)


def position(query: Query, row: Any) -> tuple[Any, ...]:
    """Where a row of `page_statement` stands in the order."""
    return *(getattr(row, _SORT_COLUMNS[sort.code]) for sort in query.sort), row.key


def count_statement(query: Query) -> Select[int]:
    """The number of matches."""
    return _Statement().matching(query, select(func.count()))[0]


def _after(order: list[tuple[ColumnElement[Any], bool]], position: tuple[Any, ...]) -> Condition:
    """Strictly behind `position` in an order of mixed directions."""
    alternatives: list[Condition] = []
    same: list[Condition] = []
    for (column, descending), value in zip(order, position, strict=True):
        alternatives.append(and_(*same, column < value if descending else column > value))
        same.append(column == value)
    return or_(*alternatives)


def _rank(criterion: Criterion) -> int:
    match criterion:
        case Match(parameter=SearchParameter(code="_id")):
            return 0
        case Match(parameter=SearchParameter(code="_lastUpdated")) | Match(modifier="not") | Missing():
            return _UNSELECTIVE
        case Match(parameter=SearchParameter(code="identifier")):
            return 1
        case Match(parameter=parameter):
            return _SELECTIVITY[parameter.type]
        case Chain() | Has():
            return 2
    raise AssertionError(criterion)


# --- Criteria --------------------------------------------------------------------------------------------------------


class _Statement:
    """The conditions of one statement. Each use of a table has an alias of its own, made once for all statements."""

    def __init__(self) -> None:
        self._uses: Counter[Table] = Counter()

    def _alias(self, table: Table) -> FromClause:
        self._uses[table] += 1
        return _numbered(table, self._uses[table])

    def matching(
        self, query: Query, statement: Select[*tuple[Any, ...]]
    ) -> tuple[Select[*tuple[Any, ...]], ColumnElement[int]]:
        """`statement` restricted to the matches, and the column to order their keys by."""
        resource = schema.resource
        statement = statement.select_from(resource).where(resource.c.type == query.resource_type)
        statement = statement.where(resource.c.content.is_not(None))
        driver = min(query.criteria, key=_rank, default=None)
        key: ColumnElement[int] = resource.c.key
        for criterion in query.criteria:
            if criterion is driver and _rank(criterion) < _UNSELECTIVE:
                if (rows := self._one_row_each(criterion)) is not None:
                    table, condition = rows
                    statement = statement.join(table, table.c.resource_key == resource.c.key).where(condition)
                    key = table.c.resource_key
                else:
                    statement = statement.where(self._holds(criterion, resource, driving=True))
            else:
                statement = statement.where(self._holds(criterion, resource, driving=False))
        return statement, key

    def _one_row_each(self, criterion: Criterion) -> tuple[FromClause, Condition] | None:
        """The index rows of a criterion that no resource has two of, or None when it may.

        Such rows can be joined as they are, in the order of the index, without removing duplicates.
        """
        match criterion:
            case Match(modifier="", values=(TokenValue(system=str(), code=str()),)):
                return self._index_rows(criterion)
            case Match(modifier="", values=(ReferenceValue(type=str(), version=None),)):
                return self._index_rows(criterion)
        return None

    def _holds(self, criterion: Criterion, resource: FromClause, *, driving: bool) -> Condition:
        """Whether a criterion holds for rows of `resource`; `driving` lets its own index find them."""
        match criterion:
            case Match(parameter=SearchParameter(code="_id"), values=values):
                return resource.c.id.in_([value.code for value in values if isinstance(value, TokenValue)])
            case Match(parameter=SearchParameter(code="_lastUpdated"), values=values):
                moment = resource.c.last_updated
                return or_(*(_within(moment, moment, value, _MILLISECOND) for value in values))
            case Match(modifier="not"):
                return ~_member(self._keys(criterion, driving=False), resource, driving=False)
            case Missing(missing=missing):
                present = _member(self._present(criterion), resource, driving=False)
                return ~present if missing else present
            case Chain(targets=targets):
                links = [self._link(criterion, target, inner, driving=driving) for target, inner in targets]
                if driving:
                    return resource.c.key.in_(union_all(*links))
                return or_(*(_member(link, resource, driving=False) for link in links))
        return _member(self._keys(criterion, driving=driving), resource, driving=driving)

    def _keys(self, criterion: Criterion, *, driving: bool) -> Keys:
        match criterion:
            case Match(parameter=SearchParameter(type="composite")):
                return self._composite_keys(criterion)
            case Match():
                table, condition = self._index_rows(criterion)
                return select(table.c.resource_key).where(condition)
            case Has():
                return self._referring_keys(criterion, driving=driving)
        raise AssertionError(criterion)

    def _index_rows(self, criterion: Match) -> tuple[FromClause, Condition]:
        kind, suffix = _DERIVED.get(criterion.modifier, (criterion.parameter.type, ""))
        table = self._alias(TABLES[kind])
        name = index_name(criterion.resource_type, criterion.parameter.code) + suffix
        values = or_(*(_value(table, value, criterion.modifier) for value in criterion.values))
        return table, and_(table.c.parameter == name, values)

    def _present(self, criterion: Missing) -> Keys:
        table = self._alias(TABLES[criterion.parameter.type])
        name = index_name(criterion.resource_type, criterion.parameter.code)
        return select(table.c.resource_key).where(table.c.parameter == name)

    def _composite_keys(self, criterion: Match) -> Keys:
        """Keys of resources that have all parts of a value at one occurrence of the element."""
        components = criterion.parameter.components
        types = [parameters(criterion.resource_type)[component.code].type for component in components]
        tables = [self._alias(TABLES[kind]) for kind in types]
        first = tables[0]
        conditions: list[Condition] = []
        for number, table in enumerate(tables, start=1):
            name = index_name(criterion.resource_type, component_code(criterion.parameter, number))
            same_element = table.c.resource_key == first.c.resource_key, table.c.occurrence == first.c.occurrence
            conditions += [table.c.parameter == name, *(same_element if number > 1 else ())]
        alternatives = (
            and_(*(_value(table, part, "") for table, part in zip(tables, value.parts, strict=True)))
            for value in criterion.values
            if isinstance(value, CompositeValue)
        )
        return select(first.c.resource_key).where(*conditions, or_(*alternatives))

    def _link(self, chain: Chain, target_type: str, criterion: Criterion, *, driving: bool) -> Keys:
        reference, target = self._alias(schema.reference_index), self._alias(schema.resource)
        return (
            select(reference.c.resource_key)
            .join(target, and_(target.c.type == reference.c.target_type, target.c.id == reference.c.target))
            .where(
                reference.c.parameter == index_name(chain.resource_type, chain.parameter.code),
                reference.c.target_type == target_type,
                target.c.content.is_not(None),
                self._holds(criterion, target, driving=driving),
            )
        )

    def _referring_keys(self, has: Has, *, driving: bool) -> Keys:
        reference, source, target = (
            self._alias(schema.reference_index),
            self._alias(schema.resource),
            self._alias(schema.resource),
        )
        return (
            select(target.c.key)
            .join(reference, and_(target.c.type == reference.c.target_type, target.c.id == reference.c.target))
            .join(source, source.c.key == reference.c.resource_key)
            .where(
                reference.c.parameter == index_name(has.source, has.parameter.code),
                self._holds(has.criterion, source, driving=driving),
            )
        )


@cache
def _numbered(table: Table, number: int) -> FromClause:
    return table.alias(f"{table.name}_{number}")


def _member(keys: Keys, resource: FromClause, *, driving: bool) -> Condition:
    if driving:
        return resource.c.key.in_(keys)
    return exists(keys.where(keys.selected_columns[0] == resource.c.key).correlate(resource))


# --- Values ----------------------------------------------------------------------------------------------------------


def _value(table: FromClause, value: Value, modifier: str) -> Condition:
    """Whether an index row has the value."""
    match value:
        case TokenValue():
            return _token(table, value)
        case StringValue():
            return _string(table, value, modifier)
        case DateValue():
            return _within(table.c.low, table.c.high, value, 0)
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
    head = schema.string_head(table)
    start = value.normalised[: schema.STRING_HEAD]
    if modifier == "exact":
        return and_(head == start, table.c.exact == value.text)
    begins = _begins(head, start)
    return begins if start == value.normalised else and_(begins, _begins(table.c.normalised, value.normalised))


def _begins(column: ColumnElement[str], start: str) -> Condition:
    return and_(column >= start, column < start + _LAST_CHARACTER)


def _within(low: ColumnElement[int], high: ColumnElement[int], value: Value, width: int) -> Condition:
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


_NUMBER_COMPARISONS = {
    "gt": ("high", operator.gt),
    "ge": ("high", operator.ge),
    "lt": ("low", operator.lt),
    "le": ("low", operator.le),
    "sa": ("low", operator.gt),
    "eb": ("high", operator.lt),
}


def _quantity(table: FromClause, value: QuantityValue) -> Condition:
    if value.prefix in _NUMBER_COMPARISONS:
        bound, compare = _NUMBER_COMPARISONS[value.prefix]
        number: Condition = compare(table.c[bound], value.number)
    elif value.prefix == "eq":
        number = and_(table.c.low >= value.low, table.c.high < value.high)
    elif value.prefix == "ne":
        number = or_(table.c.low < value.low, table.c.high >= value.high)
    else:
        number = and_(table.c.low <= value.high, table.c.high >= value.low)
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


# --- Included resources ----------------------------------------------------------------------------------------------


def referred_statement(keys: list[int], indexes: list[str], target_type: str | None) -> Select[*tuple[Any, ...]]:
    """Rows of the resources that those with `keys` refer to by the indexes; one row for each such reference."""
    reference, resource = schema.reference_index, schema.resource
    target = and_(resource.c.type == reference.c.target_type, resource.c.id == reference.c.target)
    statement = select(*resource_columns).join(reference, target)
    statement = statement.where(
        reference.c.resource_key.in_(keys), reference.c.parameter.in_(indexes), resource.c.content.is_not(None)
    )
    return statement if target_type is None else statement.where(resource.c.type == target_type)


def referring_statement(targets: list[tuple[str, str]], indexes: list[str]) -> Select[*tuple[Any, ...]]:
    """Rows of the resources that refer to `targets` (type, id) by the indexes; one row for each such reference."""
    reference, resource = schema.reference_index, schema.resource
    statement = select(*resource_columns).join(reference, resource.c.key == reference.c.resource_key)
    return statement.where(
        reference.c.parameter.in_(indexes), tuple_(reference.c.target_type, reference.c.target).in_(targets)
    )
