"""FHIRPath trees compiled into closures: each node once, whatever it is evaluated on later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from relais.profiles.fhirpath import items, operators, syntax
from relais.profiles.fhirpath.functions import FUNCTIONS
from relais.profiles.fhirpath.items import Collection, Item, system, truth
from relais.profiles.fhirpath.scope import Evaluator, FhirPathError, Scope
from relais.profiles.fhirpath.syntax import Binary, Call, Constant, Index, Member, Node, Special, Unary, Variable

_CONSTANTS: Mapping[str, str] = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}
_NAMED_URLS = {"vs-": "http://hl7.org/fhir/ValueSet/", "ext-": "http://hl7.org/fhir/StructureDefinition/"}
_COMPILED = 4096


def _unknown(*_: Any) -> None:
    return None


@dataclass(slots=True)
class Environment:
    """What an expression may ask of its surroundings.

    `resource` is the resource that holds the focus (`%resource`), `root` the one that contains it (`%rootResource`).
    `resolve` gives the resource that a reference names or None; `member_of` and `conforms_to` answer True, False, or
    None for "cannot be told", which raises FhirPathError in an expression that asks.
    """

    resource: Item | None = None
    root: Item | None = None
    resolve: Callable[[str], dict[str, Any] | None] = _unknown
    member_of: Callable[[Item, str], bool | None] = _unknown
    conforms_to: Callable[[Item, str], bool | None] = _unknown
    variables: Mapping[str, Any] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


class Expression:
    """A compiled expression."""

    __slots__ = ("_run", "text")

    def __init__(self, text: str, run: Evaluator) -> None:
        self.text = text
        self._run = run

    def evaluate(self, focus: Item, environment: Environment | None = None) -> Collection:
        """The items that the expression selects. Raises FhirPathError."""
        try:
            return self._run(Scope([focus], environment or Environment(resource=focus, root=focus)))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise FhirPathError(str(error)) from error

    def holds(self, focus: Item, environment: Environment | None = None) -> bool:
        """Whether the result is true; an empty one is not, one that is no boolean is. Raises FhirPathError."""
        result = self.evaluate(focus, environment)
        if len(result) == 1 and isinstance(result[0].value, bool):
            return result[0].value
        return bool(result)


@lru_cache(maxsize=_COMPILED)
def compile_expression(text: str) -> Expression:
    """Compile an expression. Raises FhirPathSyntaxError, also for functions that do not exist."""
    return Expression(text, _compile(syntax.parse(text)))


# Nodes ----------------------------------------------------------------------------------------------------------------


def _compile(node: Node) -> Evaluator:
    match node:
        case Constant(value, type_name):
            constant = [Item(value, type_name)] if type_name else []
            return lambda scope: constant
        case Variable(name):
            return _variable(name)
        case Special("$this"):
            return lambda scope: scope.this
        case Special("$index"):
            return lambda scope: [system(scope.index, "Integer")]
        case Special():
            return lambda scope: scope.total
        case Member(None, name):
            return _start(name)
        case Member(of, name) if of is not None:
            return _member(_compile(of), name)
        case Call(of, name, arguments):
            return _call(of, name, arguments)
        case Index(of, position):
            return _index(_compile(of), _compile(position))
        case Unary(operator, of):
            return _unary(operator, _compile(of))
        case Binary("is" | "as" as operator, left, right):
            return _call(left, operator, (right,))
        case Binary(operator, left, right):
            return operators.compile_binary(operator, _compile(left), _compile(right))
    raise syntax.FhirPathSyntaxError(f"unexpected {type(node).__name__}")


def _variable(name: str) -> Evaluator:
    if name in _CONSTANTS:
        constant = [system(_CONSTANTS[name], "String")]
        return lambda scope: constant
    for prefix, url in _NAMED_URLS.items():
        if name.startswith(prefix):
            named = [system(url + name.removeprefix(prefix), "String")]
            return lambda scope: named

    def read(scope: Scope) -> Collection:
        environment = scope.environment
        if name == "context":
            return scope.context
        if name in ("resource", "rootResource"):
            found = environment.resource if name == "resource" else environment.root
            return [found] if found else []
        if name not in environment.variables:
            raise FhirPathError(f"the variable %{name} is not defined")
        return _as_collection(environment.variables[name])

    return read


def _as_collection(value: Any) -> Collection:
    if isinstance(value, Item):
        return [value]
    kind = {bool: "Boolean", int: "Integer", Decimal: "Decimal"}.get(type(value), "String")
    return [system(value, kind)]


def _start(name: str) -> Evaluator:
    """The first step of a path: an element of the focus, or the focus itself when the name is that of its type."""
    if not name[0].isupper():
        return lambda scope: [found for item in scope.this for found in items.child(item, name)]
    return lambda scope: [
        found for item in scope.this for found in ([item] if items.is_a(item, name) else items.child(item, name))
    ]


def _member(of: Evaluator, name: str) -> Evaluator:
    child = items.child
    return lambda scope: [found for item in of(scope) for found in child(item, name)]


def _index(of: Evaluator, position: Evaluator) -> Evaluator:
    def run(scope: Scope) -> Collection:
        at = operators.singleton(position(scope))
        found = of(scope)
        if at is None:
            return []
        return [found[at.value]] if isinstance(at.value, int) and 0 <= at.value < len(found) else []

    return run


def _unary(operator: str, of: Evaluator) -> Evaluator:
    def run(scope: Scope) -> Collection:
        item = operators.singleton(of(scope))
        if item is None:
            return []
        if isinstance(item.value, tuple):
            return [Item((-item.value[0], item.value[1]), item.type)] if operator == "-" else [item]
        if not item.is_number:
            raise FhirPathError(f"{operator} needs a number")
        return [system(-item.value if operator == "-" else item.value, item.system_type)]

    return run


def _call(of: Node | None, name: str, arguments: tuple[Node, ...]) -> Evaluator:
    source: Evaluator = _compile(of) if of is not None else lambda scope: scope.this
    if name in ("is", "as", "ofType"):
        return _type_test(source, name, arguments)
    found = FUNCTIONS.get(name)
    if found is None:
        raise syntax.FhirPathSyntaxError(f"the function {name}() does not exist")
    if not found.fewest <= len(arguments) <= found.most:
        raise syntax.FhirPathSyntaxError(f"{name}() does not take {len(arguments)} arguments")
    function, compiled = found.run, tuple(_compile(each) for each in arguments)
    return lambda scope: function(source(scope), scope, *compiled)


def _type_test(source: Evaluator, name: str, arguments: tuple[Node, ...]) -> Evaluator:
    if len(arguments) != 1:
        raise syntax.FhirPathSyntaxError(f"{name}() takes one type")
    wanted = syntax.type_name(arguments[0])
    if name == "ofType":
        return lambda scope: [item for item in source(scope) if items.is_exactly(item, wanted)]

    def run(scope: Scope) -> Collection:
        item = operators.singleton(source(scope))
        if item is None:
            return []
        if name == "is":
            return truth(items.is_a(item, wanted))
        return [item] if items.is_exactly(item, wanted) else []

    return run
