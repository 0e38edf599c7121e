"""The grammar of `_filter` (FHIR R4 §3.1.3): from its text to a tree of tests, free of search parameters.

`and` and `or` bind alike, from left to right, as R4 says; parentheses group.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

Operator = Literal[
    "eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss", "sb", "in", "ni", "re"
]

_MOST_LEVELS = 20  # of parentheses and brackets
_SPACES = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-:]*")
_WORD = re.compile(r"[A-Za-z]+")
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"')
_TOKEN = re.compile(r'[^\s)\]"][^\s)\]]*')
_NEGATION = re.compile(r"not\s*\(")


class FilterError(ValueError):
    """A filter that cannot be read; the message says what was expected at which character."""


@dataclass(frozen=True, slots=True)
class Step:
    """One name of a path, and what must hold of the resource that it leads to."""

    name: str
    where: Node | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`path operator value`; the last step has no `where`."""

    path: tuple[Step, ...]
    operator: Operator
    value: str


@dataclass(frozen=True, slots=True)
class Both:
    """`and`."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Either:
    """`or`."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not:
    """`not (…)`."""

    negated: Node


Node = Comparison | Both | Either | Not


def parse_filter(text: str) -> Node:
    """The tree of a filter. Raises FilterError."""
    reader = _Reader(text)
    node = reader.expression(0)
    if not reader.at_end():
        raise reader.expected("and, or, or the end")
    return node


class _Reader:
    """A recursive descent, one method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip()

    def at_end(self) -> bool:
        return self._at == len(self._text)

    def expected(self, what: str) -> FilterError:
        return FilterError(f"{what} is expected at character {self._at + 1}")

    def expression(self, level: int) -> Node:
        if level > _MOST_LEVELS:
            raise FilterError(f"more than {_MOST_LEVELS} levels of parentheses")
        node = self._operand(level)
        while (word := self._next(_WORD)) in ("and", "or"):
            self._take(_WORD)
            right = self._operand(level)
            node = Both(node, right) if word == "and" else Either(node, right)
        return node

    def _operand(self, level: int) -> Node:
        if self._next(_NEGATION):
            self._take(_WORD)
            return Not(self._group("(", ")", level))
        if self._next(_character("(")):
            return self._group("(", ")", level)
        return self._comparison(level)

    def _group(self, opening: str, closing: str, level: int) -> Node:
        self._expect(opening)
        node = self.expression(level + 1)
        self._expect(closing)
        return node

    def _comparison(self, level: int) -> Comparison:
        path = [self._step(level)]
        while self._text.startswith(".", self._at):
            self._at += 1
            path.append(self._step(level))
        if path[-1].where is not None:
            raise self.expected("a point and the name of a search parameter")
        word = self._take(_WORD)
        for operator in get_args(Operator):
            if word == operator:
                return Comparison(tuple(path), operator, self._value())
        raise FilterError(f"one of {', '.join(get_args(Operator))} is expected before character {self._at + 1}")

    def _step(self, level: int) -> Step:
        found = _NAME.match(self._text, self._at)
        if not found:
            raise self.expected("the name of a search parameter")
        self._at = found.end()
        where = self._group("[", "]", level) if self._text.startswith("[", self._at) else None
        if not self._text.startswith(".", self._at):
            self._skip()
        return Step(found[0], where)

    def _value(self) -> str:
        if quoted := self._take(_STRING):
            try:
                return str(json.loads(quoted, strict=False))
            except ValueError:
                raise FilterError(f"the string before character {self._at + 1} is no JSON string") from None
        if not (token := self._take(_TOKEN)):
            raise self.expected("a value")
        return token

    def _expect(self, character: str) -> None:
        if not self._take(_character(character)):
            raise self.expected(character)

    def _next(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        return found[0] if found else ""

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = self._next(pattern)
        self._at += len(found)
        if found:
            self._skip()
        return found

    def _skip(self) -> None:
        spaces = _SPACES.match(self._text, self._at)
        self._at = spaces.end() if spaces else self._at


@cache
def _character(character: str) -> re.Pattern[str]:
    return re.compile(re.escape(character))
