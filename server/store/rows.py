"""Index rows: what a search can find a resource by, one shape per kind of search parameter.

`parameter` is `<resource type>.<search parameter code>`, for derived indexes followed by a modifier
(`Patient.identifier:of-type`). `occurrence` numbers the elements that a composite parameter looks into. The rows are
made by relais.server.search and can always be made again from the content.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

_LONGEST_KEY = 200  # characters; an index entry of PostgreSQL holds 2,704 bytes in all
_KEPT_OF_LONG_KEY = 120


def fold(value: str) -> str:
    """`value` short enough for an index entry: itself, or its beginning and a SHA-256 of the whole."""
    if len(value) <= _LONGEST_KEY:
        return value
    return f"{value[:_KEPT_OF_LONG_KEY]}#{hashlib.sha256(value.encode()).hexdigest()}"


class TokenRow(NamedTuple):
    """A code or an identifier. `system` is empty where the token has none."""

    parameter: str
    system: str
    code: str
    occurrence: int = 0


class StringRow(NamedTuple):
    """A text: `normalised` for searches blind to case and accents, `exact` as written."""

    parameter: str
    normalised: str
    exact: str
    occurrence: int = 0


class DateRow(NamedTuple):
    """A span of time `[low, high)` in microseconds since 1970 UTC."""

    parameter: str
    low: int
    high: int
    occurrence: int = 0


class ReferenceRow(NamedTuple):
    """A target: type and id on this server, or an empty type and a URL; `version` of a canonical or versioned URL."""

    parameter: str
    target_type: str
    target: str
    version: str
    occurrence: int = 0


class QuantityRow(NamedTuple):
    """A number with its precision as `[low, high]`, and its unit: code in a system, and the unit as displayed."""

    parameter: str
    low: float
    high: float
    system: str
    code: str
    unit: str
    occurrence: int = 0


class UriRow(NamedTuple):
    """A URI, compared character by character."""

    parameter: str
    uri: str
    occurrence: int = 0


class TextRow(NamedTuple):
    """The words of a resource: of its narrative, and of all its texts. Words are of letters and digits, by spaces."""

    narrative: str
    everything: str


IndexRow = TokenRow | StringRow | DateRow | ReferenceRow | QuantityRow | UriRow
