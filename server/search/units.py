"""Units that measure the same thing, made one: a factor to the canonical unit of the dimension (UCUM).

Only units that differ by a factor; temperatures do not, and are compared as they are written.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache

from relais.server.search.parameters import table

UCUM = "http://unitsofmeasure.org"


def canonical_unit(system: str, code: str) -> tuple[str, Decimal] | None:
    """The canonical unit of a UCUM code and what to multiply a value by; None where the code is not in the table."""
    return _units().get(code) if system == UCUM else None


@cache
def _units() -> dict[str, tuple[str, Decimal]]:
    return {code: (canonical, Decimal(factor)) for code, canonical, factor in table("units")}
