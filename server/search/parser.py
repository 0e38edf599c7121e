"""From the pairs of a query string to a query tree; every mistake names its parameter and is told at once.

FHIR R4 §3.1.1.3 (parameters, modifiers, prefixes, escaping) and §3.1.1.5 (paging, sorting, including).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import get_args

from relais.cda.errors import Issue
from relais.profiles import definitions
from relais.profiles.definitions import SearchParameter
from relais.profiles.terminology import Terminology, TerminologyError
from relais.server.search import literals, terminological
from relais.server.search.errors import SearchError
from relais.server.search.filters import Both, Comparison, Either, Node, Not, Step, parse_filter
from relais.server.search.indexer import index_plan, reference_row
from relais.server.search.literals import Refused
from relais.server.search.parameters import ABSENT_MEANS, FULL_TEXT, ON_THE_RESOURCE, aliases, index_name, parameters
from relais.server.search.query import (
    AllOf,
    AnyOf,
    Chain,
    CompositeValue,
    Criterion,
    DateValue,
    FullText,
    Has,
    Include,
    Match,
    Missing,
    Negation,
    OfType,
    Prefix,
    Query,
    ReferenceValue,
    Sort,
    StringValue,
    TokenSetValue,
    TokenValue,
    Total,
    UriValue,
    Value,
)
from relais.server.search.values import (
    Span,
    date_span,
    normalise_text,
    words,
)
from relais.server.search.waiting import is_waiting
from relais.server.store import fold
from relais.server.store.store import to_microseconds

DEFAULT_COUNT = 50
MAXIMUM_COUNT = 1000
_MAXIMUM_TERMS = 200  # values of one query, all parameters together
_MAXIMUM_DEPTH = 6  # links of a chain
_MAXIMUM_TARGETS = 12  # resource types of a link that names none
_MAXIMUM_SORTS = 5
_LONGEST_VALUE = 2000  # characters
_MAXIMUM_CODES = 5000  # that value sets and hierarchies of one query stand for

_MODIFIERS: dict[str, frozenset[str]] = {
    "token": frozenset({"not", "text", "of-type"}),
    "string": frozenset({"exact", "contains"}),
    "uri": frozenset({"above", "below"}),
    "reference": frozenset({"identifier"}),
}
# The modifier of Match that stands for an operator of `_filter`, by type of parameter; prefixes and `pr` are apart.
_FILTER_MODIFIERS: dict[str, dict[str, str]] = {
    "token": {"eq": "", "ne": "differs", "ss": "below", "sb": "above", "in": "in", "ni": "not-in"},
    "string": {"eq": "equals", "ne": "differs", "co": "contains", "sw": "", "ew": "ends"},
    "reference": {"eq": "", "ne": "differs", "re": ""},
    "uri": {"eq": "", "ne": "differs", "sw": "below"},
    "composite": {"eq": ""},
}
_FILTER_ONLY = frozenset({"equals", "ends", "differs"})
_PREFIXES = frozenset(get_args(Prefix))
_PREFIXED_TYPES = frozenset({"date", "number", "quantity"})
_TO_ESCAPE = re.compile(r",|\\(?![|$])")  # in a value of `_filter`, where commas do not separate
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_OFFSET_WITH_SPACE = re.compile(r" (\d\d:\d\d)$")  # a `+` that was not percent-encoded


def parse_query(
    resource_type: str,
    pairs: Iterable[tuple[str, str]],
    base: str,
    *,
    strict: bool = True,
    now: datetime | None = None,
    within: tuple[str, str] | None = None,
    terminology: Callable[[], Terminology] | None = None,
) -> tuple[Query, list[Issue]]:
    """The tree of a query on a served resource type (empty: on those that `_type` names), and what was ignored of it.

    `pairs` are decoded, without the parameters of the HTTP layer (`_format`, `_pretty`); `base` is the server's own
    base URL; `now` is what `ap` measures the distance from. Raises SearchError with everything that is wrong; unless
    `strict`, unknown parameters and modifiers are ignored and reported instead. `within` is the type and id of a
    resource in whose compartment (R4 §2.4.2) the matches must be; `terminology` gives what `:in` and its like are read
    by.
    """
    types = (resource_type,) if resource_type else ()
    parser = _Parser(types, base, strict, now or datetime.now(UTC), terminology)
    given = [(name, value) for name, value in pairs if value]
    given.sort(key=lambda pair: pair[0] != "_type")  # the others are read by the types that it names
    if not resource_type and (not given or given[0][0] != "_type"):
        raise SearchError(Issue("error", "required", "a search over all types names them by _type", "_type"))
    for name, value in given:
        parser.take(name, value)
    if parser.errors:
        raise SearchError(parser.errors)
    if within is not None:
        parser.criteria.insert(0, _in_compartment(parser.types, *within))
    return parser.query(), parser.ignored


def _in_compartment(types: tuple[str, ...], owner: str, owner_id: str) -> Criterion:
    """Resources of those types in a compartment: those that refer to its owner by the parameters R4 names.

    The owner itself is found by a search of its own type only: beside others, its id may be theirs too.
    """
    target = ReferenceValue(owner, owner_id, None)
    criteria: list[Criterion] = []
    for resource_type in types:
        known = parameters(resource_type)
        codes = definitions.compartments()[owner].get(resource_type, ())
        criteria += [Match(resource_type, known[code], "", (target,)) for code in codes if code in known]
        if types == (owner,):
            criteria.append(Match(owner, known["_id"], "", (TokenValue(None, owner_id),)))
    if not criteria:
        raise SearchError(Issue("error", "not-supported", f"nothing of that type is in the compartment of a {owner}"))
    return criteria[0] if len(criteria) == 1 else AnyOf(tuple(criteria))


@dataclass
class _Parser:
    types: tuple[str, ...]
    base: str
    strict: bool
    now: datetime
    terminology: Callable[[], Terminology] | None
    errors: list[Issue] = field(default_factory=list)
    ignored: list[Issue] = field(default_factory=list)
    criteria: list[Criterion] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    applied: list[tuple[str, str]] = field(default_factory=list)
    sort: tuple[Sort, ...] = ()
    count: int = DEFAULT_COUNT
    total: Total = "none"
    terms: int = 0
    codes: int = 0

    def query(self) -> Query:
        """What has been taken so far."""
        return Query(
            self.types,
            tuple(dict.fromkeys(self.criteria)),
            self.sort,
            self.count,
            self.total,
            tuple(dict.fromkeys(self.includes)),
            tuple(dict.fromkeys(self.applied)),
        )

    def take(self, name: str, value: str) -> None:
        """Read one pair; a mistake goes to `errors`, or to `ignored` where a lenient search may go on without it."""
        try:
            _refuse_unstorable(name, value)
            control = _CONTROLS.get(name.partition(":")[0])
            if control:
                control(self, name, value)
            else:
                self.criteria.append(self._of_the_types(lambda one: self.criterion(one, name, value)))
            self.applied.append((self._meant(name), value))
        except Refused as refused:
            if refused.code == "not-supported" and not self.strict:
                self.ignored.append(Issue("warning", refused.code, f"ignored: {refused}", name))
            else:
                self.errors.append(Issue("error", refused.code, str(refused), name))

    # --- Criteria

    def _of_the_types(self, read: Callable[[str], Criterion]) -> Criterion:
        """What `read` gives for the searched type; of several types, for each its own, which all of them must have."""
        if not self.types:
            raise Refused("not-supported", "_type must name the types before anything else is searched by")
        criteria = {resource_type: read(resource_type) for resource_type in self.types}
        first = criteria[self.types[0]]
        if len(set(criteria.values())) == 1 or _is_on_the_resource(first):
            return first
        if isinstance(first, Match) and all(_ask_the_same(first, one) for one in criteria.values()):
            return replace(first, others=self.types[1:])
        return AnyOf(tuple(one if _is_of_type(one) else OfType(name, one) for name, one in criteria.items()))

    def _meant(self, name: str) -> str:
        """The name without aliases, as far as its links name their types."""
        return _meant(self.types[0], name) if len(self.types) == 1 else name

    def criterion(self, resource_type: str, name: str, value: str, depth: int = 0) -> Criterion:
        """The criterion of a parameter name, with modifiers and links, and its value."""
        if depth > _MAXIMUM_DEPTH:
            raise Refused("too-costly", f"more than {_MAXIMUM_DEPTH} links in a chain")
        if name.startswith("_has:"):
            return self._has(resource_type, name, lambda source, rest: self.criterion(source, rest, value, depth + 1))
        name = _without_alias(resource_type, name)
        head, chained, rest = name.partition(".")
        code, _, modifier = head.partition(":")
        if code in FULL_TEXT:
            return self._full_text(FULL_TEXT[code], modifier, value)
        if code == "_list":
            return self._listed(modifier, value)
        parameter = _parameter(resource_type, code)
        if chained:
            return self._chain(
                resource_type, parameter, modifier, lambda target: self.criterion(target, rest, value, depth + 1)
            )
        if modifier == "missing":
            return Missing(resource_type, _present(parameter), literals.boolean(value))
        return self._match(resource_type, parameter, modifier, value)

    def _match(self, resource_type: str, parameter: SearchParameter, modifier: str, value: str) -> Criterion:
        several = [one for one in literals.split(value, ",") if one]
        if parameter.type == "token" and modifier in terminological.MODIFIERS:
            return self._of_terminology(resource_type, parameter, modifier, several)
        read = self._reader(resource_type, parameter, modifier)
        self.terms += len(several)
        if self.terms > _MAXIMUM_TERMS:
            raise Refused("too-costly", f"more than {_MAXIMUM_TERMS} values in one query")
        if not several:
            raise Refused("value", "no value between the commas")
        match = Match(resource_type, parameter, modifier, tuple(dict.fromkeys(read(one) for one in several)))
        absent = ABSENT_MEANS.get(parameter.code)
        if absent and not modifier and any(isinstance(v, TokenValue) and v.code == absent for v in match.values):
            return AnyOf((match, Missing(resource_type, parameter, True)))
        return match

    def _of_terminology(
        self, resource_type: str, parameter: SearchParameter, modifier: str, texts: list[str]
    ) -> Criterion:
        """`:in` and `:not-in` of value sets, `:above` and `:below` of codes, as the codes they stand for."""
        if self.terminology is None or parameter.code in ON_THE_RESOURCE:
            raise Refused("not-supported", f"modifier :{modifier} is not served for {parameter.code} here")
        if not texts:
            raise Refused("value", "no value between the commas")
        terminology, values = self.terminology(), list[TokenSetValue]()
        for text in texts:
            try:
                if modifier in ("in", "not-in"):
                    values += terminological.of_value_set(terminology, literals.plain(text))
                else:
                    values += terminological.of_hierarchy(terminology, modifier, *literals.system_and_code(text))
            except TerminologyError as error:
                raise Refused("not-found", str(error)) from None
        self.codes += sum(len(value.codes) for value in values)
        if self.codes > _MAXIMUM_CODES:
            raise Refused("too-costly", f"the value sets stand for more than {_MAXIMUM_CODES} codes")
        return Match(resource_type, parameter, "not" if modifier == "not-in" else "", tuple(values))

    def _full_text(self, part: str, modifier: str, value: str) -> FullText:
        """Words by spaces, all of which must occur; `OR` between two of them: one is enough."""
        if modifier:
            raise Refused("not-supported", f"modifier :{modifier} is not served for a text")
        groups: list[list[str]] = []
        joined = False
        for word in literals.plain(value).replace("(", " ").replace(")", " ").split():
            if word.upper() in ("AND", "OR"):
                joined = word.upper() == "OR"
                continue
            if word.upper() == "NOT":
                raise Refused("not-supported", "NOT is not served in a text search")
            found = [[part] for part in words(word)]
            if joined and groups and len(found) == 1:
                groups[-1] += found[0]
            else:
                groups += found
            joined = False
        self.terms += sum(map(len, groups))
        if self.terms > _MAXIMUM_TERMS:
            raise Refused("too-costly", f"more than {_MAXIMUM_TERMS} values in one query")
        if not groups:
            raise Refused("value", "no word to search for")
        return FullText(part, tuple(tuple(group) for group in groups))

    def _listed(self, modifier: str, value: str) -> Criterion:
        """`_list`: the entries of a List of this server."""
        if modifier:
            raise Refused("not-supported", "modifiers are not served for _list")
        if value.startswith("$"):
            raise Refused("not-supported", "lists by function ($current-…) are not served")
        if not _ID.fullmatch(value):
            raise Refused("value", "the id of a List is expected")
        named = Match("List", parameters("List")["_id"], "", (TokenValue(None, value),))
        return Has("List", parameters("List")["item"], named)

    @staticmethod
    def _chain(
        resource_type: str, parameter: SearchParameter, target: str, read: Callable[[str], Criterion]
    ) -> Criterion:
        """The criterion that `read` gives for the type that is referred to; of several types, for one at least."""
        if parameter.type != "reference":
            raise Refused("not-supported", f"{parameter.code} is no reference: nothing can be chained to it")
        if target and target not in definitions.resource_types():
            raise Refused("not-supported", f"{target} is no resource type")
        if target and parameter.targets and target not in parameter.targets:
            raise Refused("not-supported", f"{parameter.code} cannot refer to {target}")
        targets: list[tuple[str, Criterion]] = []
        refusals: list[Refused] = []
        for candidate in (target,) if target else parameter.targets or sorted(definitions.resource_types()):
            try:
                targets.append((candidate, read(candidate)))
            except Refused as refused:
                refusals.append(refused)
        if not targets:
            raise refusals[0]
        if any(refused.code != "not-supported" for refused in refusals):
            raise next(refused for refused in refusals if refused.code != "not-supported")
        if len(targets) > _MAXIMUM_TARGETS:
            raise Refused(
                "too-costly", f"{len(targets)} resource types are possible: name one ({parameter.code}:Type.…)"
            )
        return Chain(resource_type, parameter, tuple(targets))

    def _has(self, resource_type: str, name: str, read: Callable[[str, str], Criterion]) -> Criterion:
        """The criterion that `read` gives for the type that refers to this one, and the rest of the name."""
        parts = name.split(":", 3)
        if len(parts) < 4:
            raise Refused("value", "_has:Type:reference:parameter is expected")
        _, source, code, rest = parts
        if source not in definitions.resource_types():
            raise Refused("not-supported", f"{source} is no resource type")
        parameter = _parameter(source, code)
        if parameter.type != "reference" or (parameter.targets and resource_type not in parameter.targets):
            raise Refused("not-supported", f"{code} of {source} does not refer to {resource_type}")
        return Has(source, parameter, read(source, rest))

    # --- _filter

    def _filtered(self, resource_type: str, node: Node) -> Criterion:
        """What a filter asks of resources of a type."""
        match node:
            case Both(left, right):
                return AllOf((self._filtered(resource_type, left), self._filtered(resource_type, right)))
            case Either(left, right):
                return AnyOf((self._filtered(resource_type, left), self._filtered(resource_type, right)))
            case Not(negated):
                return Negation(self._filtered(resource_type, negated))
            case Comparison(path=path):
                return self._tested(resource_type, path, node)

    def _tested(self, resource_type: str, path: tuple[Step, ...], test: Comparison) -> Criterion:
        """What the test at the end of a path asks of resources of the type at its beginning."""
        step, rest = path[0], path[1:]
        if len(test.path) - len(path) > _MAXIMUM_DEPTH or step.name.count("_has:") > _MAXIMUM_DEPTH:
            raise Refused("too-costly", f"more than {_MAXIMUM_DEPTH} links in a chain")
        if step.name.startswith("_has:"):
            return self._has(
                resource_type,
                step.name,
                lambda source, name: self._tested(source, (Step(name, step.where), *rest), test),
            )
        code, _, target = step.name.partition(":")
        if not rest:
            if target:
                raise Refused("not-supported", "a filter has operators, no modifiers")
            return self._compared(resource_type, code, test)

        def of_target(candidate: str) -> Criterion:
            reached = self._tested(candidate, rest, test)
            return AllOf((self._filtered(candidate, step.where), reached)) if step.where else reached

        return self._chain(resource_type, _parameter(resource_type, code), target, of_target)

    def _compared(self, resource_type: str, code: str, test: Comparison) -> Criterion:
        """The operators of R4 §3.1.3, as far as they make sense for the type of the parameter."""
        _refuse_unstorable(code, test.value)  # a string may have escaped it
        if code in FULL_TEXT and test.operator == "co":
            return self._full_text(FULL_TEXT[code], "", test.value)
        parameter, operator = _parameter(resource_type, code), test.operator
        value = _TO_ESCAPE.sub(r"\\\g<0>", test.value)
        if operator == "pr":
            self.terms += 1
            return Missing(resource_type, _present(parameter), not literals.boolean(value))
        if parameter.type in _PREFIXED_TYPES and operator in _PREFIXES:
            return self._match(resource_type, parameter, "", operator + value)
        if parameter.type == "date" and operator == "po":
            overlapping = DateValue("ap", literals.read(date_span, test.value))
            return Match(resource_type, parameter, "", (overlapping,))
        modifier = _FILTER_MODIFIERS.get(parameter.type, {}).get(operator)
        if modifier is None:
            raise Refused("not-supported", f"{operator} is not served for {code}, of type {parameter.type}")
        if modifier not in _FILTER_ONLY:
            return self._match(resource_type, parameter, modifier, value)
        found = self._match(resource_type, parameter, "", value)
        if not isinstance(found, Match) or code in ON_THE_RESOURCE or code in ABSENT_MEANS:
            return Negation(found)
        return replace(found, modifier=modifier)

    # --- Values

    def _reader(self, resource_type: str, parameter: SearchParameter, modifier: str) -> Callable[[str], Value]:
        """The function that reads one value of a parameter with that modifier."""
        kind = parameter.type
        if parameter.code in ON_THE_RESOURCE and modifier:
            raise Refused("not-supported", f"modifier :{modifier} is not served for {parameter.code}")
        if parameter.code == "_id":
            return lambda text: TokenValue(None, literals.plain(text))
        if kind == "reference" and modifier in definitions.resource_types():
            return lambda text: replace(self._reference(parameter, text), type=modifier)
        if modifier and modifier not in _MODIFIERS.get(kind, ()):
            raise Refused("not-supported", f"modifier :{modifier} is not served for a {kind} parameter")
        match kind, modifier:
            case ("token", "of-type"):
                return literals.of_type
            case ("token", "text"):
                return literals.string
            case ("token", _) | ("reference", "identifier"):
                return literals.token
            case ("string", "exact"):
                return lambda text: StringValue(normalise_text(literals.plain(text)), literals.plain(text))
            case ("string", _):
                return literals.string
            case ("uri", _):
                return lambda text: UriValue(literals.plain(text))
            case ("reference", _):
                return lambda text: self._reference(parameter, text)
            case ("date", _):
                return self._date
            case ("number", _):
                return literals.number
            case ("quantity", _):
                return literals.quantity
            case ("composite", _):
                return lambda text: self._composite(resource_type, parameter, text)
            case ("special", _) if parameter.code == "near":
                return literals.near
        raise Refused("not-supported", f"parameters of type {kind} are not served")

    def _reference(self, parameter: SearchParameter, text: str) -> ReferenceValue:
        target = literals.plain(text)
        url, bar, version = target.rpartition("|")
        if bar:
            return ReferenceValue("", fold(url), version)
        if _ID.fullmatch(target):
            only = parameter.targets[0] if len(parameter.targets) == 1 else None
            return ReferenceValue(only, target, None)
        row = reference_row("", target, self.base)
        return ReferenceValue(row.target_type, row.target, None)

    def _date(self, text: str) -> DateValue:
        prefix, moment = literals.prefixed(literals.plain(text))
        span = literals.read(date_span, _OFFSET_WITH_SPACE.sub(r"+\1", moment))
        if prefix == "ap":
            tenth = abs(to_microseconds(self.now) - span.low) // 10
            span = Span(span.low - tenth, span.high + tenth)
        return DateValue(prefix, span)

    def _composite(self, resource_type: str, parameter: SearchParameter, text: str) -> CompositeValue:
        parts = literals.split(text, "$")
        if len(parts) != len(parameter.components):
            raise Refused("value", f"{len(parameter.components)} values joined by $ are expected")
        components = (parameters(resource_type)[component.code] for component in parameter.components)
        readers = (self._reader(resource_type, component, "") for component in components)
        return CompositeValue(tuple(read(part) for read, part in zip(readers, parts, strict=True)))

    # --- Result parameters

    def take_count(self, _name: str, value: str) -> None:
        """`_count`: 0 asks for the total only."""
        if not value.isascii() or not value.isdecimal() or len(value) > 9:
            raise Refused("value", "a whole number from 0 is expected")
        self.count = min(int(value), MAXIMUM_COUNT)
        if not self.count:
            self.total = "accurate"

    def take_sort(self, _name: str, value: str) -> None:
        """`_sort`: keys by commas, a minus for descending."""
        if not self.types:
            raise Refused("not-supported", "_type must name the types before anything is sorted by")
        keys: dict[str, Sort] = {}
        for key in value.split(","):
            code = key.removeprefix("-")
            if len(self.types) > 1 and code not in ON_THE_RESOURCE:
                raise Refused("not-supported", "several types are sorted by _id or _lastUpdated only")
            parameter = _parameter(self.types[0], _without_alias(self.types[0], code))
            if parameter.type in ("composite", "special"):
                raise Refused("not-supported", f"results are not sorted by parameters of type {parameter.type}")
            keys.setdefault(parameter.code, Sort(parameter, key.startswith("-")))
        if len(keys) > _MAXIMUM_SORTS:
            raise Refused("too-costly", f"at most {_MAXIMUM_SORTS} keys to sort by")
        self.sort = tuple(keys.values())

    def take_type(self, _name: str, value: str) -> None:
        """`_type`: the resource types of a search of the whole system."""
        if self.criteria or self.sort:
            raise Refused("not-supported", "_type belongs to a search of the whole system")
        asked = tuple(dict.fromkeys(value.split(",")))
        if self.types and not set(self.types) <= set(asked):
            raise Refused("value", "_type leaves out the type that the address names")
        for resource_type in asked:
            if resource_type not in definitions.resource_types():
                raise Refused("value", f"{resource_type[:64]} is no resource type")
        self.types = self.types or asked

    def take_filter(self, _name: str, value: str) -> None:
        """`_filter`: one expression, over all that each searched type can be searched by."""
        node = literals.read(parse_filter, value)
        self.criteria.append(self._of_the_types(lambda one: self._filtered(one, node)))

    def take_contained(self, _name: str, value: str) -> None:
        """`_contained`: no, which is the default; what contains them is found by chains through the reference."""
        if value not in ("false", "true", "both"):
            raise Refused("value", "false, true or both is expected")
        if value != "false":
            raise Refused("not-supported", "contained resources are found by a chain, with what contains them")

    def take_contained_type(self, _name: str, value: str) -> None:
        """`_containedType`: what to show of contained resources, where they are matches."""
        if value not in ("container", "contained"):
            raise Refused("value", "container or contained is expected")

    def take_total(self, _name: str, value: str) -> None:
        """`_total`: an estimate is answered by the accurate number."""
        if value not in ("none", "estimate", "accurate"):
            raise Refused("value", "none, estimate or accurate is expected")
        if value != "none":
            self.total = "accurate"

    def take_include(self, name: str, value: str) -> None:
        """`_include`, `_revinclude`, with `:iterate` (or a former name of it); `*` alone or `Type:*`."""
        directive, _, modifier = name.partition(":")
        if modifier not in ("", "iterate", "recurse", "recursive"):
            raise Refused("not-supported", f"modifier :{modifier} is not served for {directive}")
        reverse, iterate = directive == "_revinclude", bool(modifier)
        if value == "*" and not reverse:
            self.includes.append(Include(None, None, None, iterate, reverse))
            return
        if ":" not in value and value.count(".") == 1:
            value = value.replace(".", ":")  # as a published CapabilityStatement writes it
        source, code, target = [*value.split(":", 2), "", ""][:3]
        for name_of_type in (source, target):
            if name_of_type and name_of_type not in definitions.resource_types():
                raise Refused("not-supported", f"{name_of_type} is no resource type")
        if not source or not code:
            raise Refused("value", "Type:parameter, Type:parameter:Target or Type:* is expected")
        if code != "*" and _parameter(source, code).type != "reference":
            raise Refused("not-supported", f"{code} of {source} is no reference")
        self.includes.append(Include(source, None if code == "*" else code, target or None, iterate, reverse))


_CONTROLS: dict[str, Callable[[_Parser, str, str], None]] = {
    "_count": _Parser.take_count,
    "_sort": _Parser.take_sort,
    "_type": _Parser.take_type,
    "_total": _Parser.take_total,
    "_filter": _Parser.take_filter,
    "_contained": _Parser.take_contained,
    "_containedType": _Parser.take_contained_type,
    "_include": _Parser.take_include,
    "_revinclude": _Parser.take_include,
}


def _is_on_the_resource(criterion: Criterion) -> bool:
    """Whether it is the same for every type."""
    return isinstance(criterion, Match) and criterion.parameter.code in ON_THE_RESOURCE


def _ask_the_same(match: Match, other: Criterion) -> bool:
    """Whether one condition on index rows can stand for both."""
    if not isinstance(other, Match) or match.parameter.type in ("composite", "special"):
        return False
    asked = (match.parameter.code, match.parameter.type, match.modifier, match.values)
    return asked == (other.parameter.code, other.parameter.type, other.modifier, other.values)


def _is_of_type(criterion: Criterion) -> bool:
    """Whether resources of no other type than its own can fulfil it: it wants index rows, whose names tell."""
    match criterion:
        case Match(parameter=parameter, modifier=modifier):
            return modifier != "not" and parameter.code not in ON_THE_RESOURCE
        case Missing(missing=missing):
            return not missing
        case Chain():
            return True
    return False


def _without_alias(resource_type: str, name: str) -> str:
    """The name with its first alias, if the type has such a one, replaced by what it means."""
    known = aliases(resource_type)
    for end in range(len(name), 0, -1):
        if (end == len(name) or name[end] in ".:") and name[:end] in known:
            return known[name[:end]] + name[end:]
    return name


def _meant(resource_type: str, name: str) -> str:
    name = _without_alias(resource_type, name)
    head, chained, rest = name.partition(".")
    code, _, target = head.partition(":")
    if not chained:
        return name
    found = parameters(resource_type).get(code)
    if not target and found is not None and len(found.targets) == 1:
        target = found.targets[0]
    return f"{head}.{_meant(target, rest)}" if target in definitions.resource_types() else name


def _parameter(resource_type: str, code: str) -> SearchParameter:
    parameter = parameters(resource_type).get(code)
    if parameter is None:
        raise Refused("not-supported", f"{resource_type} has no search parameter {code[:64]}")
    if code in index_plan(resource_type).unsupported or code in FULL_TEXT:
        raise Refused("not-supported", f"search parameter {code} is not served")
    if is_waiting(index_name(resource_type, code)):
        raise Refused("incomplete", f"resources stored before {code} was added are not indexed by it yet: $reindex")
    return parameter


def _present(parameter: SearchParameter) -> SearchParameter:
    if parameter.type == "composite" or parameter.code in ON_THE_RESOURCE:
        raise Refused("not-supported", f"modifier :missing is not served for {parameter.code}")
    return parameter


def _refuse_unstorable(name: str, value: str) -> None:
    if len(value) > _LONGEST_VALUE:
        raise Refused("too-long", f"a value has at most {_LONGEST_VALUE} characters")
    if "\0" in value or "\0" in name:
        raise Refused("value", "a value cannot hold the NUL character")
    try:
        (name + value).encode()
    except UnicodeEncodeError:
        raise Refused("value", "a value is not Unicode text") from None
