"""The search parameters of each resource type, and the names their index rows are kept under.

They come from the R4 definitions and from the volets' own definitions (relais.server.search.volets).
"""

from __future__ import annotations

from collections.abc import Mapping

from relais.profiles import definitions
from relais.profiles.definitions import SearchParameter

ON_THE_RESOURCE = frozenset({"_id", "_lastUpdated"})
"""Parameters answered from the resource row itself: they need no index rows."""

TEXT, OF_TYPE, IDENTIFIER = ":text", ":of-type", ":identifier"
"""Derived indexes of a token (its texts; type and value of an identifier) and of a reference (its identifier)."""


def parameters(resource_type: str) -> Mapping[str, SearchParameter]:
    """The search parameters of a resource type by code. Raises UnknownDefinitionError."""
    return definitions.search_parameters(resource_type)


def index_name(resource_type: str, code: str) -> str:
    """The `parameter` of index rows."""
    return f"{resource_type}.{code}"


def component_code(composite: SearchParameter, number: int) -> str:
    """The code that the rows of one component of a composite parameter are kept under; numbers start at 1."""
    return f"{composite.code}${number}"
