"""The grammar of FHIRPath N1 (http://hl7.org/fhirpath/N1/#grammar): tokens, precedence, tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

_TOKENS = re.compile(
    r"""
      (?P<space> \s+ | //[^\n]* | /\*.*?\*/ )
    | (?P<string> '(?:[^'\\]++|\\.)*+' )
    | (?P<datetime> @\d{4}(?:-\d\d(?:-\d\d)?)?(?:T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)?(?:Z|[+-]\d\d:\d\d)?)? )
    | (?P<time> @T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)? )
    | (?P<number> \d+(?:\.\d+)? )
    | (?P<variable> %(?:[A-Za-z_][\w-]*|`[^`]*`|'[^']*') )
    | (?P<special> \$(?:this|index|total)\b )
    | (?P<name> [A-Za-z_]\w* )
    | (?P<quoted> `(?:[^`\\]++|\\.)*+` )
    | (?P<symbol> <= | >= | != | !~ | [-+*/&|=~<>.,()\[\]{}] )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}

_BINDING_POWERS: dict[str, int] = {
    "implies": 1,
    "or": 2,
    "xor": 2,
    "and": 3,
    "in": 4,
    "contains": 4,
    "=": 5,
    "~": 5,
    "!=": 5,
    "!~": 5,
    "<": 6,
    ">": 6,
    "<=": 6,
    ">=": 6,
    "|": 7,
    "is": 8,
    "as": 8,
    "+": 9,
    "-": 9,
    "&": 9,
    "*": 10,
    "/": 10,
    "div": 10,
    "mod": 10,
}
_UNARY_POWER = 11
_UNITS = ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
CALENDAR_UNITS = {name: unit for unit in _UNITS for name in (unit, f"{unit}s")}
"""Calendar words of quantities (`3 days`) to their singular."""
_MAX_DEPTH = 100


class FhirPathSyntaxError(ValueError):
    """Text that is no FHIRPath expression. The message names the position."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A value written in the expression; `type` is a System type, or empty for `{}`."""

    value: Any
    type: str


@dataclass(frozen=True, slots=True)
class Variable:
    """`%name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Special:
    """`$this`, `$index` or `$total`."""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """An element by name; `of` is None at the start of a path."""

    of: Node | None
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function; `of` is None at the start of a path."""

    of: Node | None
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """`of[position]`."""

    of: Node
    position: Node


@dataclass(frozen=True, slots=True)
class Unary:
    """`-of` or `+of`."""

    operator: str
    of: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands; for `is` and `as` the right one is a path that names a type."""

    operator: str
    left: Node
    right: Node


Node = Constant | Variable | Special | Member | Call | Index | Unary | Binary


class _Token(NamedTuple):
    kind: str  # the name of a group of _TOKENS, or `end`
    text: str
    position: int


def parse(expression: str) -> Node:
    """The tree of an expression. Raises FhirPathSyntaxError."""
    return _Parser(expression).parse()


def type_name(node: Node) -> str:
    """The name that a type specifier spells (`FHIR.Patient`, `System.String`). Raises FhirPathSyntaxError."""
    match node:
        case Member(None, name):
            return name
        case Member(Member(None, namespace), name):
            return f"{namespace}.{name}"
    raise FhirPathSyntaxError("a type name is expected")


def _tokens(expression: str) -> Iterator[_Token]:
    position = 0
    while position < len(expression):
        found = _TOKENS.match(expression, position)
        if found is None:
            raise FhirPathSyntaxError(f"unexpected character at position {position}")
        if found.lastgroup != "space":
            yield _Token(found.lastgroup or "", found[0], position)
        position = found.end()
    yield _Token("end", "", position)


def _unescaped(text: str) -> str:
    def replace(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(replace, text[1:-1])


class _Parser:
    """Precedence climbing over the tokens."""

    def __init__(self, expression: str) -> None:
        self._tokens = list(_tokens(expression))
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._expression(0)
        if self._next.kind != "end":
            raise self._unexpected()
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _take_if(self, symbol: str) -> bool:
        if self._next.kind == "symbol" and self._next.text == symbol:
            self._at += 1
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._take_if(symbol):
            raise self._unexpected()

    def _unexpected(self) -> FhirPathSyntaxError:
        token = self._next
        what = f"unexpected '{token.text}'" if token.text else "unexpected end"
        return FhirPathSyntaxError(f"{what} at position {token.position}")

    def _expression(self, power: int) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FhirPathSyntaxError("nested too deeply")
        left = self._unary()
        while (found := self._operator()) is not None and _BINDING_POWERS[found] > power:
            self._take()
            left = Binary(found, left, self._expression(_BINDING_POWERS[found]))
        self._depth -= 1
        return left

    def _operator(self) -> str | None:
        token = self._next
        return token.text if token.kind in ("symbol", "name") and token.text in _BINDING_POWERS else None

    def _unary(self) -> Node:
        if self._next.kind == "symbol" and self._next.text in "+-":
            operator = self._take().text
            return Unary(operator, self._expression(_UNARY_POWER))
        return self._path()

    def _path(self) -> Node:
        node = self._term()
        while True:
            if self._take_if("."):
                node = self._invocation(node)
            elif self._take_if("["):
                node = Index(node, self._expression(0))
                self._expect("]")
            else:
                return node

    def _term(self) -> Node:
        token = self._next
        if self._take_if("("):
            node = self._expression(0)
            self._expect(")")
            return node
        if self._take_if("{"):
            self._expect("}")
            return Constant(None, "")
        if token.kind in ("name", "quoted") and token.text not in ("true", "false"):
            return self._invocation(None)
        if token.kind in ("symbol", "end"):
            raise self._unexpected()
        self._take()
        if token.kind == "number":
            return self._number(token.text)
        return _literal(token)

    def _invocation(self, of: Node | None) -> Node:
        token = self._next
        if token.kind == "special":
            raise self._unexpected()
        if token.kind not in ("name", "quoted"):
            raise self._unexpected()
        self._take()
        name = _unescaped(token.text) if token.kind == "quoted" else token.text
        if not self._take_if("("):
            return Member(of, name)
        arguments: list[Node] = []
        if not self._take_if(")"):
            arguments.append(self._expression(0))
            while self._take_if(","):
                arguments.append(self._expression(0))
            self._expect(")")
        return Call(of, name, tuple(arguments))

    def _number(self, text: str) -> Node:
        value: int | Decimal = Decimal(text) if "." in text else int(text)
        token = self._next
        if token.kind == "string":
            self._take()
            return Constant((Decimal(value), _unescaped(token.text)), "System.Quantity")
        if token.kind == "name" and token.text in CALENDAR_UNITS:
            self._take()
            return Constant((Decimal(value), CALENDAR_UNITS[token.text]), "System.Quantity")
        return Constant(value, "System.Decimal" if "." in text else "System.Integer")


def _literal(token: _Token) -> Node:
    text = token.text
    match token.kind:
        case "string":
            return Constant(_unescaped(text), "System.String")
        case "datetime":
            return Constant(text[1:].removesuffix("T"), "System.DateTime" if "T" in text else "System.Date")
        case "time":
            return Constant(text[2:], "System.Time")
        case "variable":
            return Variable(text[1:].strip("`'"))
        case "special":
            return Special(text)
    return Constant(text == "true", "System.Boolean")
