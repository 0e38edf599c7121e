"""The search parameters of each resource type, and the names their index rows are kept under."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from msgspec.structs import replace

from relais.profiles import definitions
from relais.profiles.definitions import Component, SearchParameter

_ONLY_TARGET = re.compile(r"\.where\(resolve\(\) is (\w+)\)\s*$")

ON_THE_RESOURCE = frozenset({"_id", "_lastUpdated"})
"""Parameters answered from the resource row itself: they need no index rows."""

TEXT, OF_TYPE, IDENTIFIER = ":text", ":of-type", ":identifier"
"""Derived indexes of a token (its texts; type and value of an identifier) and of a reference (its identifier)."""


# R4 4.0.1 names the two components of DocumentReference-relationship the wrong way round: its own expressions select a
# code for `relatesto` and a Reference for `relation`.
_CORRECTED_COMPONENTS = {
    ("DocumentReference", "relationship"): (Component("relation", "code"), Component("relatesto", "target")),
}


@cache
def parameters(resource_type: str) -> Mapping[str, SearchParameter]:
    """The search parameters of a resource type by code. Raises UnknownDefinitionError."""
    found = {code: _narrowed(one) for code, one in definitions.search_parameters(resource_type).items()}
    for (owner, code), components in _CORRECTED_COMPONENTS.items():
        if owner == resource_type:
            found[code] = replace(found[code], components=components)
    return found


def _narrowed(parameter: SearchParameter) -> SearchParameter:
    """The parameter without the targets that its own expression leaves out (`patient` is defined for groups too)."""
    left = {
        match[1] if (match := _ONLY_TARGET.search(alternative)) else ""
        for alternative in parameter.expression.split("|")
    }
    if parameter.type != "reference" or "" in left:
        return parameter
    return replace(parameter, targets=tuple(sorted(left)))


def index_name(resource_type: str, code: str) -> str:
    """The `parameter` of index rows."""
    return f"{resource_type}.{code}"


def component_code(composite: SearchParameter, number: int) -> str:
    """The code that the rows of one component of a composite parameter are kept under; numbers start at 1."""
    return f"{composite.code}${number}"
