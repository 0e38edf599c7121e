"""From a query tree to one SQL statement, the same for SQLite and PostgreSQL.

Each criterion is a set of resource keys read from an index table. The most selective one drives the statement (an
index range, in the order of the keys where it can be); the others are tested on each key that it yields. FHIR R4
§3.1.1.4.5 (dates) and §3.1.1.5 (prefixes) are the comparisons.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Table,
    and_,
    cast,
    exists,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from relais.profiles.definitions import SearchParameter
from relais.server.search.comparisons import Condition, compared, within
from relais.server.search.parameters import (
    CANONICAL,
    IDENTIFIER,
    INSIDE,
    OF_TYPE,
    ON_THE_RESOURCE,
    TEXT,
    UNTYPED,
    X,
    Y,
    Z,
    index_name,
    parameters,
)
from relais.server.search.query import (
    AllOf,
    AnyOf,
    Chain,
    CompositeValue,
    Criterion,
    FullText,
    Has,
    Match,
    Missing,
    NearValue,
    Negation,
    OfType,
    QuantityValue,
    Query,
    ReferenceValue,
    Sort,
    TokenValue,
    Value,
)
from relais.server.search.sharing import component_index, holders, index_names
from relais.server.store import schema
from relais.server.store.store import resource_columns

Keys = Select[*tuple[Any, ...]]
"""A statement whose only column is the key of a resource."""

_MILLISECOND = 1000  # microseconds: what an instant of `meta.lastUpdated` lasts

TABLES: dict[str, Table] = {
    "token": schema.token_index,
    "string": schema.string_index,
    "date": schema.date_index,
    "reference": schema.reference_index,
    "number": schema.quantity_index,
    "quantity": schema.quantity_index,
    "uri": schema.uri_index,
    "special": schema.quantity_index,
}
_DERIVED: dict[str, tuple[str, str]] = {
    "text": ("string", TEXT),
    "of-type": ("token", OF_TYPE),
    "identifier": ("token", IDENTIFIER),
}
_SORT_COLUMNS: dict[str, str] = {"_id": "id", "_lastUpdated": "last_updated"}
# The column of the smallest value of a resource, and of the largest.
_SORTED_BY: dict[str, tuple[str, str]] = {
    "token": ("code", "code"),
    "string": ("normalised", "normalised"),
    "date": ("low", "high"),
    "reference": ("target", "target"),
    "number": ("low", "high"),
    "quantity": ("low", "high"),
    "uri": ("uri", "uri"),
}
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
    "special": 5,
}
_UNSELECTIVE = 9


# --- Statements ------------------------------------------------------------------------------------------------------


def page_statement(
    query: Query, after: tuple[Any, ...] | None, dialect: str, *, backwards: bool = False
) -> Select[*tuple[Any, ...]]:
    """Rows of matches in order, one more than a page holds; `after` is `position` of the last row already served.

    A row is the resource, then the sort keys that are not columns of it. `backwards` turns the order round.
    """
    statement, key = _Statement(dialect).matching(query, select(*resource_columns))
    order = [_Key(column, descending=False) for column in (key,)]
    if any(sort.code not in _SORT_COLUMNS for sort in query.sort):
        values = [_sort_value(query.types[0], sort).label(_label(number)) for number, sort in enumerate(query.sort)]
        found = statement.add_columns(*values).subquery()
        statement = select(*found.c)
        order = [_Key(found.c.key, descending=False)]
        order[:0] = [
            _Key(found.c[_label(number)], sort.descending, may_be_missing=True)
            for number, sort in enumerate(query.sort)
        ]
    else:
        order[:0] = [_Key(schema.resource.c[_SORT_COLUMNS[sort.code]], sort.descending) for sort in query.sort]
    if after is not None:
        statement = statement.where(_beyond(order, after, backwards=backwards))
    columns = [column for key in order for column in key.columns(backwards=backwards)]
    return statement.order_by(*columns).limit(query.count + 1)


def position(query: Query, row: Any) -> tuple[Any, ...]:
    """Where a row of `page_statement` stands in the order."""
    if any(sort.code not in _SORT_COLUMNS for sort in query.sort):
        return *(getattr(row, _label(number)) for number in range(len(query.sort))), row.key
    return *(getattr(row, _SORT_COLUMNS[sort.code]) for sort in query.sort), row.key


def count_statement(query: Query, dialect: str) -> Select[int]:
    """The number of matches."""
    return _Statement(dialect).matching(query, select(func.count()))[0]


@dataclass(frozen=True)
class _Key:
    """One key of an order; rows in which it is missing come last in both directions."""

    column: ColumnElement[Any]
    descending: bool
    may_be_missing: bool = False

    def columns(self, *, backwards: bool) -> list[ColumnElement[Any]]:
        ordered = self.column.desc() if self.descending != backwards else self.column.asc()
        missing = self.column.is_(None)
        return [missing.desc() if backwards else missing, ordered] if self.may_be_missing else [ordered]

    def beyond(self, value: Any, *, backwards: bool) -> Condition | None:
        """Rows behind those with `value`, or before them; None: there are no such rows."""
        if value is None:
            return self.column.is_not(None) if backwards else None
        beyond = self.column < value if self.descending != backwards else self.column > value
        return or_(beyond, self.column.is_(None)) if self.may_be_missing and not backwards else beyond

    def same(self, value: Any) -> Condition:
        """Rows with `value`."""
        return self.column.is_(None) if value is None else self.column == value


def _beyond(order: list[_Key], position: tuple[Any, ...], *, backwards: bool) -> Condition:
    """Strictly behind `position`, or before it."""
    alternatives: list[Condition] = []
    same: list[Condition] = []
    for key, value in zip(order, position, strict=True):
        if (beyond := key.beyond(value, backwards=backwards)) is not None:
            alternatives.append(and_(*same, beyond))
        same.append(key.same(value))
    return or_(*alternatives)


def _label(number: int) -> str:
    return f"sort_{number}"


def _sort_value(resource_type: str, sort: Sort) -> ColumnElement[Any]:
    """What a resource is sorted by: the first of its values in the direction of the sort."""
    resource = schema.resource
    if sort.code in _SORT_COLUMNS:
        return resource.c[_SORT_COLUMNS[sort.code]]
    kind = sort.parameter.type
    table = TABLES[kind].alias()
    ascending, descending = _SORTED_BY[kind]
    value = func.max(table.c[descending]) if sort.descending else func.min(table.c[ascending])
    named = _named(table, index_names(resource_type, sort.code))
    return select(value).where(table.c.resource_key == resource.c.key, named).correlate(resource).scalar_subquery()


def _rank(criterion: Criterion) -> int:
    match criterion:
        case Match(parameter=SearchParameter(code="_id")):
            return 0
        case Match(parameter=SearchParameter(code="_lastUpdated")) | Match(modifier="not" | "differs") | Missing():
            return _UNSELECTIVE
        case Match(parameter=SearchParameter(code="identifier")):
            return 1
        case Match(parameter=parameter):
            return _SELECTIVITY[parameter.type]
        case Chain() | Has():
            return 2
        case FullText():
            return 3
        case AnyOf(criteria=criteria):
            return max(map(_rank, criteria))
        case AllOf(criteria=criteria):
            return min(map(_rank, criteria))
        case Negation():
            return _UNSELECTIVE
        case OfType(criterion=inner):
            return _rank(inner)
    raise AssertionError(criterion)


# --- Criteria --------------------------------------------------------------------------------------------------------


class _Statement:
    """The conditions of one statement. Each use of a table has an alias of its own, made once for all statements.

    `inside` is what precedes the index names of a criterion: empty, or `List.source>` where the criterion is about the
    contained resource that a reference leads to; its index rows carry the key of the container.
    """

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._uses: Counter[Table] = Counter()

    def _alias(self, table: Table) -> FromClause:
        self._uses[table] += 1
        return _numbered(table, self._uses[table])

    def matching(
        self, query: Query, statement: Select[*tuple[Any, ...]]
    ) -> tuple[Select[*tuple[Any, ...]], ColumnElement[int]]:
        """`statement` restricted to the matches, and the column to order their keys by."""
        resource = schema.resource
        of_type = resource.c.type == query.types[0] if len(query.types) == 1 else resource.c.type.in_(query.types)
        statement = statement.select_from(resource).where(of_type, resource.c.content.is_not(None))
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
            case Match(parameter=SearchParameter(code=code), resource_type=one, others=others) if any(
                len(holders(each, code)) > 1 for each in (one, *others)
            ):
                return None
            case Match(modifier="", values=(TokenValue(system=str(), code=str()),)):
                return self._index_rows(criterion, "")
            case Match(modifier="", values=(ReferenceValue(type=str(), version=None),)):
                return self._index_rows(criterion, "")
        return None

    def _holds(self, criterion: Criterion, resource: FromClause, *, driving: bool) -> Condition:
        """Whether a criterion holds for rows of `resource`; `driving` lets its own index find them."""
        match criterion:
            case Match(parameter=SearchParameter(code="_id"), values=values):
                return resource.c.id.in_([value.code for value in values if isinstance(value, TokenValue)])
            case Match(parameter=SearchParameter(code="_lastUpdated"), values=values):
                moment = resource.c.last_updated
                return or_(*(within(moment, moment, value, _MILLISECOND) for value in values))
            case Match(modifier="not"):
                return ~self._present_in([*self._keys(criterion, "", driving=False)], resource)
            case Missing(missing=True):
                return ~self._present_in([self._present(criterion, "")], resource)
            case AnyOf(criteria=criteria):
                return or_(*(self._holds(one, resource, driving=driving) for one in criteria))
            case AllOf(criteria=criteria):
                best = min(criteria, key=_rank)
                return and_(*(self._holds(one, resource, driving=driving and one is best) for one in criteria))
            case Negation(criterion=inner):
                return not_(self._holds(inner, resource, driving=False))
            case OfType(resource_type=resource_type, criterion=inner):
                return and_(resource.c.type == resource_type, self._holds(inner, resource, driving=driving))
        keys = self._keys(criterion, "", driving=driving)
        if not driving:
            return self._present_in(keys, resource)
        return resource.c.key.in_(keys[0] if len(keys) == 1 else union_all(*keys))

    @staticmethod
    def _present_in(keys: list[Keys], resource: FromClause) -> Condition:
        return or_(
            *(exists(some.where(some.selected_columns[0] == resource.c.key).correlate(resource)) for some in keys)
        )

    def _keys(self, criterion: Criterion, inside: str, *, driving: bool) -> list[Keys]:
        """Statements that together give the keys of all resources for which the criterion holds."""
        match criterion:
            case Match(parameter=SearchParameter(type="composite")):
                return [self._composite_keys(criterion, inside)]
            case Match():
                table, condition = self._index_rows(criterion, inside)
                return [select(table.c.resource_key).where(condition)]
            case Missing():
                return [self._present(criterion, inside)]
            case FullText():
                return self._text_keys(criterion)
            case Has():
                return [self._referring_keys(criterion, driving=driving)]
            case Chain(targets=targets):
                return [
                    keys
                    for target, inner in targets
                    for keys in (
                        self._link(criterion, target, inner, inside, driving=driving),
                        *self._keys_inside(criterion, target, inner, inside, driving=driving),
                    )
                ]
        raise AssertionError(criterion)

    def _index_rows(self, criterion: Match, inside: str) -> tuple[FromClause, Condition]:
        kind, suffix = _DERIVED.get(criterion.modifier, (criterion.parameter.type, ""))
        table = self._alias(TABLES[kind])
        types = (criterion.resource_type, *criterion.others)
        names = [inside + name + suffix for one in types for name in index_names(one, criterion.parameter.code)]
        if kind == "special":
            return self._near_rows(table, names[0], criterion)
        by_variant: dict[str, list[Condition]] = defaultdict(list)
        for value in criterion.values:
            by_variant[_variant(value)].append(compared(table, value, criterion.modifier))
        return table, or_(*(and_(_named(table, names, one), or_(*values)) for one, values in by_variant.items()))

    def _near_rows(self, table: FromClause, name: str, criterion: Match) -> tuple[FromClause, Condition]:
        """Rows of the third coordinate within reach, whose resource is within reach in all three."""
        alternatives: list[Condition] = []
        for value in criterion.values:
            if not isinstance(value, NearValue):
                raise AssertionError(value)
            x, y = self._alias(TABLES["special"]), self._alias(TABLES["special"])
            squares = sum(
                ((row.c.low - at) * (row.c.low - at) for row, at in ((x, value.x), (y, value.y), (table, value.z))),
                start=literal(0.0),
            )
            reach = exists(
                select(x.c.resource_key)
                .join(y, y.c.resource_key == x.c.resource_key)
                .where(
                    x.c.resource_key == table.c.resource_key,
                    x.c.parameter == name + X,
                    y.c.parameter == name + Y,
                    squares <= value.chord**2,
                )
                .correlate(table)
            )
            alternatives.append(and_(table.c.low.between(value.z - value.chord, value.z + value.chord), reach))
        return table, and_(table.c.parameter == name + Z, or_(*alternatives))

    def _present(self, criterion: Missing, inside: str) -> Keys:
        table = self._alias(TABLES[criterion.parameter.type])
        names = [inside + name for name in index_names(criterion.resource_type, criterion.parameter.code)]
        return select(table.c.resource_key).where(
            _named(table, names, Z if criterion.parameter.type == "special" else "")
        )

    def _text_keys(self, criterion: FullText) -> list[Keys]:
        if self._dialect == "sqlite":
            return [_settled_keys(criterion), _recent_keys(criterion)]
        asked = " & ".join("(" + " | ".join(f"'{word}'" for word in group) + ")" for group in criterion.groups)
        column = schema.text_index.c[criterion.part]
        return [select(schema.text_index.c.resource_key).where(column.op("@@")(cast(asked, TSQUERY)))]

    def _composite_keys(self, criterion: Match, inside: str) -> Keys:
        """Keys of resources that have all parts of a value at one occurrence of the element."""
        owner = criterion.resource_type
        known = parameters(owner)
        tables = [self._alias(TABLES[known[part.code].type]) for part in criterion.parameter.components]
        first = tables[0]
        same_element = [
            condition
            for table in tables[1:]
            for condition in (table.c.resource_key == first.c.resource_key, table.c.occurrence == first.c.occurrence)
        ]
        alternatives = (
            and_(
                *(
                    and_(
                        table.c.parameter == inside + component_index(owner, holder, number)[0] + _variant(part),
                        compared(table, part, ""),
                    )
                    for number, (table, part) in enumerate(zip(tables, value.parts, strict=True), start=1)
                )
            )
            for value in criterion.values
            if isinstance(value, CompositeValue)
            for holder in holders(owner, criterion.parameter.code)
        )
        return select(first.c.resource_key).where(*same_element, or_(*alternatives))

    def _link(self, chain: Chain, target_type: str, criterion: Criterion, inside: str, *, driving: bool) -> Keys:
        """Keys of resources that refer to another resource of this server for which the criterion holds."""
        reference, target = self._alias(schema.reference_index), self._alias(schema.resource)
        return (
            select(reference.c.resource_key)
            .join(target, and_(target.c.type == reference.c.target_type, target.c.id == reference.c.target))
            .where(
                reference.c.parameter == inside + index_name(chain.resource_type, chain.parameter.code),
                reference.c.target_type == target_type,
                target.c.content.is_not(None),
                self._holds(criterion, target, driving=driving),
            )
        )

    def _keys_inside(
        self, chain: Chain, target_type: str, criterion: Criterion, inside: str, *, driving: bool
    ) -> list[Keys]:
        """Keys of resources that refer to a contained resource, or to an identifier, for which the criterion holds.

        What such a target lacks is not indexed, so `:not` and `:missing=true` find none of them.
        """
        leads = inside + index_name(chain.resource_type, chain.parameter.code) + INSIDE
        if not _found_by_rows(criterion):
            return []
        keys = self._keys(criterion, leads, driving=driving)
        if isinstance(criterion, Match) and criterion.parameter.code == "identifier" and not criterion.modifier:
            untyped = self._alias(schema.token_index)
            values = or_(*(compared(untyped, value, "") for value in criterion.values))
            condition = and_(untyped.c.parameter == f"{leads}{UNTYPED}.identifier", values)
            keys.append(select(untyped.c.resource_key).where(condition))
        return keys

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
                source.c.type == has.source,
                self._holds(has.criterion, source, driving=driving),
            )
        )


def _settled_keys(criterion: FullText) -> Keys:
    """Keys of texts in the full-text table of SQLite that no newer one replaces."""
    table, recent = schema.text_index, schema.text_index_recent
    asked = " AND ".join("(" + " OR ".join(f'"{word}"' for word in group) + ")" for group in criterion.groups)
    matches = literal_column(table.name).op("MATCH")(f"{criterion.part} : ({asked})")
    return select(table.c.rowid).where(matches, table.c.rowid.not_in(select(recent.c.resource_key)))


def _recent_keys(criterion: FullText) -> Keys:
    """Keys of the newest texts, which are few: each of them is read."""
    recent = schema.text_index_recent
    words = literal(" ") + recent.c[criterion.part] + literal(" ")
    groups = (or_(*(func.instr(words, f" {word} ") > 0 for word in group)) for group in criterion.groups)
    return select(recent.c.resource_key).where(*groups)


def _found_by_rows(criterion: Criterion) -> bool:
    """Whether index rows of a contained resource can show that the criterion holds for it."""
    match criterion:
        case Match(parameter=SearchParameter(code=code), modifier=modifier):
            return code not in ON_THE_RESOURCE and modifier != "not"
        case Missing(missing=missing):
            return not missing
        case Chain(targets=targets):
            return all(_found_by_rows(inner) for _, inner in targets)
    return False


def _named(table: FromClause, names: list[str], suffix: str = "") -> Condition:
    """Rows of one of these indexes."""
    column = table.c.parameter
    return column == names[0] + suffix if len(names) == 1 else column.in_([name + suffix for name in names])


def _variant(value: Value) -> str:
    """The suffix of the index that holds values in the unit of this one."""
    return CANONICAL if isinstance(value, QuantityValue) and value.canonical else ""


@cache
def _numbered(table: Table, number: int) -> FromClause:
    return table.alias(f"{table.name}_{number}")


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
