"""Token modifiers that need a terminology: `:in`, `:not-in`, `:above`, `:below` (FHIR R4 §3.1.1.4.10)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from sqlalchemy import Connection

from relais.profiles.terminology import Terminology
from relais.server.search.query import TokenSetValue
from relais.server.search.values import canonical_system, normalise_code

MODIFIERS = frozenset({"in", "not-in", "above", "below"})

TerminologySource = Callable[[Connection], Terminology]
"""The terminology as a connection sees it: stored value sets count too."""


def of_value_set(terminology: Terminology, url: str) -> list[TokenSetValue]:
    """The codes of a value set. Raises TerminologyError when it cannot be expanded."""
    return _by_system((coding.system, coding.code) for coding in terminology.expand(url))


def of_hierarchy(terminology: Terminology, modifier: str, system: str, code: str) -> list[TokenSetValue]:
    """A code and those `above` or `below` it. Raises TerminologyError for a code or a system that is not loaded."""
    related = terminology.above if modifier == "above" else terminology.below
    return _by_system((system, each) for each in [code, *sorted(related(system, code))])


def _by_system(codes: Iterable[tuple[str, str]]) -> list[TokenSetValue]:
    found: dict[str, list[str]] = defaultdict(list)
    for system, code in codes:
        found[canonical_system(system)].append(normalise_code(code))
    return [TokenSetValue(system, tuple(dict.fromkeys(each))) for system, each in found.items()]
