"""Where an expression is being evaluated: the focus, the place in an iteration, the surroundings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relais.profiles.fhirpath.items import Collection, Item

if TYPE_CHECKING:
    from relais.profiles.fhirpath.engine import Environment


class FhirPathError(ValueError):
    """An expression that cannot be evaluated on what it was given. The message never holds a value of the data."""


class Scope:
    """The focus (`$this`) and, in an iteration, `$index` and `$total`."""

    __slots__ = ("context", "environment", "index", "this", "total")

    def __init__(self, this: Collection, environment: Environment) -> None:
        self.this = this
        self.context = this
        self.environment = environment
        self.index = 0
        self.total: Collection = []

    def at(self, item: Item, index: int, total: Collection | None = None) -> Scope:
        """The scope of one step of an iteration."""
        inner = Scope([item], self.environment)
        inner.context = self.context
        inner.index = index
        inner.total = self.total if total is None else total
        return inner


Evaluator = Callable[[Scope], Collection]
"""A compiled expression."""
