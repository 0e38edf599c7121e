"""Values at a place: what the checks of profiles pass on, rendered as FHIRPath only when something is found."""

from __future__ import annotations

from typing import Any

from relais.profiles.fhirpath.items import Item

Where = tuple[Any, str, int | None]
"""A place as a chain: (place of the parent or None, element name, index or None)."""


def render(where: Where | None) -> str:
    """A place as a FHIRPath expression (`Patient.name[0].given[1]`, `Observation.value.ofType(Quantity)`)."""
    steps: list[str] = []
    while where is not None:
        where, name, index = where
        steps.append(name if index is None else f"{name}[{index}]")
    return ".".join(reversed(steps))


class Spot(Item):
    """A value with its type, its place, and what JSON keeps of a primitive under `_name` (`extra`)."""

    __slots__ = ("where",)

    def __init__(self, value: Any, type_name: str, where: Where, extra: Any = None) -> None:
        super().__init__(value, type_name, extra)
        self.where = where

    def has_value(self) -> bool:
        """Whether there is a value, not only extensions."""
        return self.value is not None
