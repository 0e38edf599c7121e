"""FHIRPath expressions of search parameters, compiled once into plain functions.

FHIR R4 §2.1.21 (SearchParameter.expression), FHIRPath N1. Served: paths, indexers, literals, `%resource`, `|`, `is`,
`as`, `=`, `!=`, `and`, and the functions where, exists, as, ofType, resolve (for its type only) and extension.
Anything else raises UnsupportedExpressionError. Tests prove the results equal to those of fhirpathpy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from relais.profiles import definitions
from relais.server.search.errors import UnsupportedExpressionError

Resource = dict[str, Any]
Item = tuple[str, Any, str]
"""FHIR type, JSON value, and the required value set of a code (empty for everything else)."""
Extractor = Callable[[Resource], list[Item]]
_Step = Callable[[list[Item], Resource], list[Item]]

_TOKEN = re.compile(
    r"""\s*(?: (?P<string>'(?:[^'\\]++|\\.)*+') | (?P<number>\d+) | (?P<name>[A-Za-z_][A-Za-z0-9_]*|`[^`]+`)
    | (?P<symbol>!=|[.()|=\[\]%$]) )""",
    re.VERBOSE,
)


def compile_expression(expression: str) -> Extractor:
    """A function from a resource to the items that `expression` selects.

    Raises UnsupportedExpressionError.
    """
    step = _Compiler(expression).compile()

    def extract(resource: Resource) -> list[Item]:
        return step([(resource["resourceType"], resource, "")], resource)

    return extract


def compile_relative(expression: str) -> Callable[[Item, Resource], list[Item]]:
    """As `compile_expression`, for an expression that starts at an item (a component of a composite parameter)."""
    step = _Compiler(expression).compile()
    return lambda item, resource: step([item], resource)


def reference_type(reference: Any, resource: Resource) -> str | None:
    """The resource type that a Reference or a canonical names, as far as its own text or `contained` tells."""
    if not isinstance(reference, dict):
        return None
    if isinstance(target := reference.get("reference"), str):
        if target.startswith("#"):
            contained = (held for held in resource.get("contained", ()) if held.get("id") == target[1:])
            return next((held.get("resourceType") for held in contained), None)
        name = target.partition("/_history/")[0].split("/")
        if len(name) > 1 and name[-2] in definitions.resource_types():
            return name[-2]
    return reference.get("type")


class _Compiler:
    """Recursive descent; each method reads one level of precedence and gives the function that evaluates it."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = list(_tokens(expression))
        self._position = 0

    def compile(self) -> _Step:
        step = self._conjunction()
        if self._position != len(self._tokens):
            raise self._unsupported()
        return step

    def _conjunction(self) -> _Step:
        step = self._equality()
        while self._take("and"):
            step = _both(step, self._equality())
        return step

    def _equality(self) -> _Step:
        step = self._union()
        for symbol, wanted in (("=", True), ("!=", False)):
            if self._take(symbol):
                return _equal(step, self._union(), wanted)
        return step

    def _union(self) -> _Step:
        steps = [self._typed()]
        while self._take("|"):
            steps.append(self._typed())
        return steps[0] if len(steps) == 1 else _united(steps)

    def _typed(self) -> _Step:
        step = self._path()
        while True:
            if self._take("as"):
                step = _chained(step, _of_type(self._type_name()))
            elif self._take("is"):
                step = _chained(step, _is_type(self._type_name()))
            else:
                return step

    def _path(self) -> _Step:
        step = self._start()
        while True:
            if self._take("."):
                step = _chained(step, self._invocation())
            elif self._take("["):
                step = _chained(step, _at(int(self._next())))
                self._expect("]")
            else:
                return step

    def _start(self) -> _Step:
        token = self._peek()
        if self._take("("):
            step = self._conjunction()
            self._expect(")")
            return step
        if token.startswith("'"):
            return _constant("string", _unquoted(self._next()))
        if token.isdigit():
            return _constant("integer", int(self._next()))
        if token in ("true", "false"):
            return _constant("boolean", self._next() == "true")
        if self._take("%"):
            self._expect("resource")
            return _whole_resource
        if token[:1].isupper():
            return _of_type(self._type_name())
        return self._invocation()

    def _invocation(self) -> _Step:
        name = self._next()
        if not self._take("("):
            return _child(name.strip("`"))
        step = self._function(name)
        self._expect(")")
        return step

    def _function(self, name: str) -> _Step:
        match name:
            case "where":
                return _where(self._conjunction())
            case "extension":
                return _extension(_unquoted(self._next()))
            case "as" | "ofType":
                return _of_type(self._type_name())
            case "exists":
                return _exists
            case "resolve":
                return _resolved_type
        raise self._unsupported()

    def _type_name(self) -> str:
        name = self._next()
        known = definitions.types()
        for candidate in (name, name[0].lower() + name[1:]):  # R4 writes `as(DateTime)` once
            if candidate in known:
                return candidate
        raise self._unsupported()

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise self._unsupported()
        self._position += 1
        return token

    def _take(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self._position += 1
        return True

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._unsupported()

    def _unsupported(self) -> UnsupportedExpressionError:
        place = self._peek() or "its end"
        return UnsupportedExpressionError(f"not served at {place}: {self._expression}")


def _tokens(expression: str) -> list[str]:
    tokens, position, end = [], 0, len(expression.rstrip())
    while position < end:
        match = _TOKEN.match(expression, position)
        if not match:
            raise UnsupportedExpressionError(f"not served at {expression[position:]}: {expression}")
        tokens.append(match.group().strip())
        position = match.end()
    return tokens


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])


# --- Steps: from items (and the whole resource) to items -------------------------------------------------------------


def _chained(first: _Step, second: _Step) -> _Step:
    def step(items: list[Item], resource: Resource) -> list[Item]:
        found = first(items, resource)
        return second(found, resource) if found else second([], resource) if second is _exists else []

    return step


def _united(steps: list[_Step]) -> _Step:
    return lambda items, resource: [found for step in steps for found in step(items, resource)]


def _child(name: str) -> _Step:
    def step(items: list[Item], _resource: Resource) -> list[Item]:
        found: list[Item] = []
        for item_type, value, _ in items:
            if type(value) is not dict:
                continue
            for json_name, child_type, binding in _children(item_type, name):
                child = value.get(json_name)
                if child is None:
                    continue
                several = child if type(child) is list else (child,)
                found.extend((_actual(child_type, one), one, binding) for one in several if one is not None)
        return found

    return step


def _actual(declared: str, value: Any) -> str:
    """The type of a value: that of its element, or of the resource that stands there."""
    if declared == "Resource" and isinstance(value, dict):
        return str(value.get("resourceType"))
    return declared


@cache
def _children(type_name: str, name: str) -> tuple[tuple[str, str, str], ...]:
    """JSON names of the element `name`, each with the type and the required value set it stands for."""
    if type_name not in definitions.types():
        return ()
    return tuple(
        (json_name, child_type, element.binding)
        for element in definitions.elements(type_name)
        if element.stem == name
        for json_name, child_type in element.json_names().items()
    )


def _of_type(name: str) -> _Step:
    return lambda items, _: [item for item in items if _is_a(item[0], name)]


def _is_type(name: str) -> _Step:
    return lambda items, _: [("boolean", _is_a(items[0][0], name), "")] if len(items) == 1 else []


@cache
def _is_a(type_name: str, wanted: str) -> bool:
    """A resource is also of its supertypes; a value is of the one type its element was written with."""
    known = definitions.types()
    if known[wanted].kind != "resource":
        return type_name == wanted
    while type_name and type_name != wanted:
        type_name = known[type_name].base if type_name in known else ""
    return bool(type_name)


def _where(criterion: _Step) -> _Step:
    return lambda items, resource: [item for item in items if _truth(criterion([item], resource))]


def _extension(url: str) -> _Step:
    extensions = _child("extension")
    return lambda items, resource: [item for item in extensions(items, resource) if item[1].get("url") == url]


def _exists(items: list[Item], _resource: Resource) -> list[Item]:
    return [("boolean", bool(items), "")]


def _resolved_type(items: list[Item], resource: Resource) -> list[Item]:
    types = (reference_type(value, resource) for _, value, _ in items)
    return [(found, None, "") for found in types if found]


def _at(index: int) -> _Step:
    return lambda items, _: items[index : index + 1]


def _constant(type_name: str, value: Any) -> _Step:
    items: list[Item] = [(type_name, value, "")]
    return lambda _items, _resource: items


def _whole_resource(_items: list[Item], resource: Resource) -> list[Item]:
    return [(resource["resourceType"], resource, "")]


def _equal(left: _Step, right: _Step, wanted: bool) -> _Step:
    def step(items: list[Item], resource: Resource) -> list[Item]:
        one = [item[1] for item in left(items, resource)]
        other = [item[1] for item in right(items, resource)]
        same = len(one) == len(other) and all(type(a) is type(b) and a == b for a, b in zip(one, other, strict=True))
        return [("boolean", same is wanted, "")] if one and other else []

    return step


def _both(left: _Step, right: _Step) -> _Step:
    def step(items: list[Item], resource: Resource) -> list[Item]:
        truths = [_truth(side(items, resource)) for side in (left, right)]
        if False in truths:
            return [("boolean", False, "")]
        return [] if None in truths else [("boolean", True, "")]

    return step


def _truth(items: list[Item]) -> bool | None:
    """The truth of a result; None when it is empty."""
    return bool(items[0][1]) if items else None
