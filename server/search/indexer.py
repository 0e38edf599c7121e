"""From a resource to its index rows, driven by the search-parameter definitions of its type.

FHIR R4 §3.1.1.4: which data types each kind of search parameter reads, and which of their parts it compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from html import unescape
from typing import Any

from relais.profiles import definitions
from relais.profiles.definitions import SearchParameter
from relais.server.search.errors import UnsupportedExpressionError
from relais.server.search.expressions import Item, Resource, compile_expression, compile_relative
from relais.server.search.parameters import (
    CANONICAL,
    FULL_TEXT,
    IDENTIFIER,
    INSIDE,
    OF_TYPE,
    ON_THE_RESOURCE,
    TEXT,
    UNTYPED,
    X,
    Y,
    Z,
    forget_with_parameters,
    index_name,
    parameters,
)
from relais.server.search.sharing import component_index, holders
from relais.server.search.units import canonical_unit
from relais.server.search.values import (
    AFTER_ALL,
    BEFORE_ALL,
    Span,
    canonical_system,
    date_span,
    normalise_code,
    normalise_text,
    on_sphere,
    words,
)
from relais.server.store import (
    DateRow,
    IndexRow,
    QuantityRow,
    ReferenceRow,
    StringRow,
    TextRow,
    TokenRow,
    UriRow,
    fold,
)

_BOOLEAN_SYSTEM = "http://terminology.hl7.org/CodeSystem/special-values"
_NAME_PARTS = ("family", "given", "prefix", "suffix", "text")
_ADDRESS_PARTS = ("line", "city", "district", "state", "postalCode", "country", "text")
_ROOT = re.compile(r"\s*\(?\s*[A-Z]\w+\.(\w+)")
_ALWAYS = re.compile(r"!=|\band\b|exists")  # an absent element may have a value too
_MARKUP = re.compile(r"<[^>]*>")
_NO_WORDS = frozenset({"resourceType", "data", "system", "url", "reference", "lastUpdated", "versionId"})
_RELATIVE = re.compile(r"([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")

Rows = Iterator[IndexRow]
RowMaker = Callable[[str, Item, str], Rows]
"""From the name of an index, an item and the base URL of the server to rows."""


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """How resources of one type are indexed, and which of its parameters cannot be, with the reason.

    Rows are made where the resource has one of the named elements (None: always).
    """

    rows: tuple[tuple[frozenset[str] | None, Callable[[Resource, str], Rows]], ...]
    references: dict[str, Callable[[Resource], list[Item]]]
    unsupported: dict[str, str]


def index_rows(resource: Resource, base: str) -> list[IndexRow | TextRow]:
    """The index rows of a resource, some perhaps twice; `base` is the server's own base URL, without trailing slash.

    The structure of the resource has been checked before.
    """
    plan = index_plan(resource["resourceType"])
    rows: list[IndexRow | TextRow] = [*_rows(plan, resource, base)]
    if resource.get("contained"):
        rows += _contained_rows(resource, base)
    rows.append(full_text(resource))
    return rows


def _rows(plan: IndexPlan, resource: Resource, base: str) -> Rows:
    for elements, make in plan.rows:
        if elements is None or not elements.isdisjoint(resource):
            yield from make(resource, base)


def _contained_rows(resource: Resource, base: str) -> Rows:
    """Rows of the contained resources under the references that lead to them, for chains through those.

    A contained resource that refers to another one leads on to it; R4 contains no deeper than that.
    """
    contained = {f"#{held.get('id')}": held for held in resource["contained"]}

    def inside(holder: Resource, prefix: str, passed: tuple[str, ...]) -> Rows:
        for code, extract in index_plan(holder["resourceType"]).references.items():
            name = prefix + index_name(holder["resourceType"], code) + INSIDE
            for _, reference, _ in extract(holder):
                link = reference.get("reference") if isinstance(reference, dict) else None
                if link not in contained or link in passed:
                    continue
                held = contained[link]
                for row in _rows(index_plan(held["resourceType"]), held, base):
                    yield row._replace(parameter=name + row.parameter)
                yield from inside(held, name, (*passed, link))

    yield from inside(resource, "", ())


@cache
def index_plan(resource_type: str) -> IndexPlan:
    """The plan of a resource type; parameters that cannot be indexed are listed in it, never dropped in silence."""
    rows, references, unsupported = [], {}, {}
    for parameter in parameters(resource_type).values():
        if parameter.code in ON_THE_RESOURCE or parameter.code in FULL_TEXT:
            continue
        try:
            indexing = _indexing(resource_type, parameter)
            if holders(resource_type, parameter.code) == (parameter.code,):
                rows.append((_elements(resource_type, parameter.expression), indexing))
            if parameter.type == "reference":
                references[parameter.code] = compile_expression(parameter.expression)
        except UnsupportedExpressionError as error:
            unsupported[parameter.code] = str(error)
    return IndexPlan(tuple(rows), references, unsupported)


forget_with_parameters(index_plan.cache_clear)


def _elements(resource_type: str, expression: str) -> frozenset[str] | None:
    """The JSON names of the elements without which the expression selects nothing; None where that is not known."""
    if _ALWAYS.search(expression):
        return None
    known = {element.stem: element.json_names() for element in definitions.elements(resource_type)}
    names: set[str] = set()
    for alternative in expression.split("|"):
        root = _ROOT.match(alternative)
        if root is None or root[1] not in known:
            return None
        names.update(known[root[1]], (f"_{name}" for name in known[root[1]]))
    return frozenset(names)


def _indexing(resource_type: str, parameter: SearchParameter) -> Callable[[Resource, str], Rows]:
    if not parameter.expression:
        raise UnsupportedExpressionError("its definition has no expression")
    if parameter.type == "composite":
        return _indexing_composite(resource_type, parameter)
    name, make = index_name(resource_type, parameter.code), _row_maker(parameter)
    extract = compile_expression(parameter.expression)

    def rows(resource: Resource, base: str) -> Rows:
        for item in extract(resource):
            yield from make(name, item, base)

    return rows


def _indexing_composite(resource_type: str, parameter: SearchParameter) -> Callable[[Resource, str], Rows]:
    """Rows of each component under a name of its own; rows of the same element carry the same occurrence.

    An element that lacks a component cannot be found by the others: it has no rows.
    """
    extract = compile_expression(parameter.expression)
    components = [
        (
            *component_index(resource_type, parameter.code, number),
            compile_relative(component.expression),
            _row_maker(parameters(resource_type)[component.code]),
        )
        for number, component in enumerate(parameter.components, start=1)
    ]

    def rows(resource: Resource, base: str) -> Rows:
        for occurrence, element in enumerate(extract(resource)):
            found: list[IndexRow] = []
            for name, own, select, make in components:
                part = [row for item in select(element, resource) for row in make(name, item, base)]
                if not part:
                    break
                if own:
                    found += part
            else:
                for row in found:
                    yield row._replace(occurrence=occurrence)

    return rows


def _row_maker(parameter: SearchParameter) -> RowMaker:
    makers = _MAKERS.get(parameter.type)
    if makers is None:
        raise UnsupportedExpressionError(f"parameters of type {parameter.type} are not indexed")

    def make(name: str, item: Item, base: str) -> Rows:
        maker = makers.get(item[0])
        return maker(name, item, base) if maker else iter(())

    return make


# --- token -----------------------------------------------------------------------------------------------------------


def _token(name: str, system: str | None, code: str | None) -> TokenRow:
    return TokenRow(name, fold(canonical_system(system)) if system else "", fold(normalise_code(code)) if code else "")


def _text(name: str, text: str | None) -> Rows:
    if text:
        yield StringRow(name + TEXT, normalise_text(text), text)


def _coding(name: str, item: Item, _base: str) -> Rows:
    coding = item[1]
    yield _token(name, coding.get("system"), coding.get("code"))
    yield from _text(name, coding.get("display"))


def _concept(name: str, item: Item, base: str) -> Rows:
    concept = item[1]
    codings: Iterable[Resource] = concept.get("coding") or ({},)  # a concept in words only still counts as present
    for coding in codings:
        yield from _coding(name, ("Coding", coding, ""), base)
    yield from _text(name, concept.get("text"))


def _identifier(name: str, item: Item, _base: str) -> Rows:
    identifier = item[1]
    value = identifier.get("value")
    yield _token(name, identifier.get("system"), value)
    kind = identifier.get("type") or {}
    yield from _text(name, kind.get("text"))
    for coding in kind.get("coding") or ():
        if value and coding.get("code"):
            yield _token(name + OF_TYPE, coding.get("system"), f"{coding['code']}|{normalise_code(value)}")


def _contact_point(name: str, item: Item, _base: str) -> Rows:
    contact = item[1]
    for system in ("", contact.get("system"), contact.get("use")):
        if system is not None:
            yield TokenRow(name, system, fold(contact.get("value", "")))


def _code(name: str, item: Item, _base: str) -> Rows:
    _, code, binding = item
    yield _token(name, _system_of(code, binding), code)


@cache
def _systems_by_code(value_set: str) -> dict[str, str]:
    systems = definitions.value_set(value_set) or {}
    return {code: system for system, codes in systems.items() for code in codes}


def _system_of(code: str, value_set: str) -> str | None:
    return _systems_by_code(value_set).get(code) if value_set else None


def _boolean(name: str, item: Item, _base: str) -> Rows:
    yield TokenRow(name, _BOOLEAN_SYSTEM, "true" if item[1] else "false")


def _plain_token(name: str, item: Item, _base: str) -> Rows:
    yield _token(name, None, str(item[1]))


# --- string ----------------------------------------------------------------------------------------------------------


def _string(name: str, item: Item, _base: str) -> Rows:
    yield StringRow(name, normalise_text(item[1]), item[1])


def _parts(*parts: str) -> RowMaker:
    def make(name: str, item: Item, _base: str) -> Rows:
        for part in parts:
            value = item[1].get(part)
            for text in value if isinstance(value, list) else (value,):
                if text:
                    yield StringRow(name, normalise_text(text), text)

    return make


# --- date ------------------------------------------------------------------------------------------------------------


def _date(name: str, item: Item, _base: str) -> Rows:
    span = date_span(item[1])
    yield DateRow(name, span.low, span.high)


def _period_span(period: Resource) -> Span:
    start, end = period.get("start"), period.get("end")
    return Span(date_span(start).low if start else BEFORE_ALL, date_span(end).high if end else AFTER_ALL)


def _period(name: str, item: Item, _base: str) -> Rows:
    span = _period_span(item[1])
    yield DateRow(name, span.low, span.high)


def _timing(name: str, item: Item, _base: str) -> Rows:
    """From the first to the last known moment: events, and the bounds of a repetition where they are a period."""
    timing = item[1]
    spans = [date_span(moment) for moment in timing.get("event") or () if moment]
    if bounds := (timing.get("repeat") or {}).get("boundsPeriod"):
        spans.append(_period_span(bounds))
    if spans:
        yield DateRow(name, min(span.low for span in spans), max(span.high for span in spans))


# --- reference -------------------------------------------------------------------------------------------------------


def _reference(name: str, item: Item, base: str) -> Rows:
    reference = item[1]
    target = reference.get("reference") or ""
    if not target.startswith("#"):
        yield reference_row(name, target, base)
    if identifier := reference.get("identifier"):
        token = _token(name + IDENTIFIER, identifier.get("system"), identifier.get("value"))
        yield token
        if not target:
            yield token._replace(parameter=f"{name}{INSIDE}{reference.get('type') or UNTYPED}.identifier")


def reference_row(name: str, target: str, base: str) -> ReferenceRow:
    """The row of a reference: type and id of a target on this server, else its URL; an empty one has no target."""
    local = _RELATIVE.fullmatch(target.removeprefix(f"{base}/"))
    if local and local[1] in definitions.resource_types():
        return ReferenceRow(name, local[1], local[2], "")
    return ReferenceRow(name, "", fold(target), "")


def _canonical(name: str, item: Item, base: str) -> Rows:
    """By its URL and version, and by type and id too where it is an address of this server."""
    url, _, version = item[1].partition("|")
    yield ReferenceRow(name, "", fold(url), fold(version))
    local = reference_row(name, url, base)
    if local.target_type:
        yield local


# --- number, quantity ------------------------------------------------------------------------------------------------


def _number(name: str, item: Item, _base: str) -> Rows:
    yield QuantityRow(name, float(item[1]), float(item[1]), "", "", "")


def _bounds(quantity: Resource) -> tuple[float, float]:
    value = float(quantity["value"])
    match quantity.get("comparator"):
        case "<" | "<=":
            return float("-inf"), value
        case ">" | ">=":
            return value, float("inf")
    return value, value


def _quantity(name: str, item: Item, _base: str) -> Rows:
    quantity = item[1]
    if quantity.get("value") is not None:
        yield _quantity_row(name, *_bounds(quantity), quantity)
        if canonical := canonical_unit(quantity.get("system") or "", quantity.get("code") or ""):
            unit, factor = canonical
            same = {**quantity, "value": Decimal(quantity["value"]) * factor, "code": unit, "unit": ""}
            yield _quantity_row(name + CANONICAL, *_bounds(same), same)


def _quantity_row(name: str, low: float, high: float, unit: Resource) -> QuantityRow:
    system = canonical_system(unit.get("system") or "")
    return QuantityRow(name, low, high, fold(system), fold(unit.get("code") or ""), fold(unit.get("unit") or ""))


def _money(name: str, item: Item, _base: str) -> Rows:
    money = item[1]
    if money.get("value") is not None:
        value, currency = float(money["value"]), money.get("currency", "")
        yield QuantityRow(name, value, value, "urn:iso:std:iso:4217", currency, currency)


def _range(name: str, item: Item, _base: str) -> Rows:
    low, high = item[1].get("low") or {}, item[1].get("high") or {}
    if "value" in low or "value" in high:
        bounds = float(low.get("value", "-inf")), float(high.get("value", "inf"))
        yield _quantity_row(name, *bounds, low if "value" in low else high)


def _sampled(name: str, item: Item, _base: str) -> Rows:
    """The limits of the samples where the data states them."""
    sampled = item[1]
    origin, factor = sampled.get("origin") or {}, sampled.get("factor", 1)
    if "lowerLimit" in sampled and "upperLimit" in sampled:
        low, high = (origin.get("value", 0) + sampled[limit] * factor for limit in ("lowerLimit", "upperLimit"))
        yield _quantity_row(name, float(low), float(high), origin)


# --- special ---------------------------------------------------------------------------------------------------------


def _position(name: str, item: Item, _base: str) -> Rows:
    """The point on the unit sphere, so that a distance is plain arithmetic in both databases."""
    point = item[1]
    for suffix, value in zip((X, Y, Z), on_sphere(float(point["latitude"]), float(point["longitude"])), strict=True):
        yield QuantityRow(name + suffix, value, value, "", "", "")


# --- full text -------------------------------------------------------------------------------------------------------


def full_text(resource: Resource) -> TextRow:
    """The words of the narrative, and of every string value of the resource."""
    narrative = _MARKUP.sub(" ", (resource.get("text") or {}).get("div") or "")
    texts: list[str] = []
    _collect_texts(resource, texts)
    return TextRow(" ".join(words(unescape(narrative))), " ".join(words(unescape(" ".join(texts)))))


def _collect_texts(node: Any, texts: list[str]) -> None:
    for key, value in node.items() if type(node) is dict else (("", child) for child in node):
        if type(value) is str:
            if key not in _NO_WORDS:
                texts.append(_MARKUP.sub(" ", value) if key == "div" else value)
        elif type(value) is dict or type(value) is list:
            _collect_texts(value, texts)


# --- uri -------------------------------------------------------------------------------------------------------------


def _uri(name: str, item: Item, _base: str) -> Rows:
    yield UriRow(name, fold(item[1]))


def _each(names: Iterable[str], maker: RowMaker) -> dict[str, RowMaker]:
    return dict.fromkeys(names, maker)


_TEXT_TYPES = ("string", "markdown", "code", "id", "uri", "url", "canonical", "oid", "uuid")
_NUMBER_TYPES = ("decimal", "integer", "positiveInt", "unsignedInt")

_MAKERS: dict[str, dict[str, RowMaker]] = {
    "token": {
        **_each((*_TEXT_TYPES, *_NUMBER_TYPES, "date", "dateTime", "instant", "time"), _plain_token),
        "code": _code,
        "boolean": _boolean,
        "Coding": _coding,
        "CodeableConcept": _concept,
        "Identifier": _identifier,
        "ContactPoint": _contact_point,
    },
    "string": {
        **_each(_TEXT_TYPES, _string),
        "HumanName": _parts(*_NAME_PARTS),
        "Address": _parts(*_ADDRESS_PARTS),
        "CodeableConcept": _parts("text"),
        "ContactPoint": _parts("value"),
        "Annotation": _parts("text"),
    },
    "date": {**_each(("date", "dateTime", "instant"), _date), "Period": _period, "Timing": _timing},
    "reference": {"Reference": _reference, **_each(("canonical", "uri", "url", "oid", "uuid"), _canonical)},
    "number": {**_each(_NUMBER_TYPES, _number), "Quantity": _quantity},
    "quantity": {
        **_each(("Quantity", "Age", "Count", "Distance", "Duration"), _quantity),
        **_each(_NUMBER_TYPES, _number),
        "Money": _money,
        "Range": _range,
        "SampledData": _sampled,
    },
    "uri": _each(_TEXT_TYPES, _uri),
    "special": {"Location.position": _position},
}
