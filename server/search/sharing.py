"""Search parameters that need no index rows of their own, because those of others stand for them.

R4 defines several parameters of a type on the same elements: `Observation.combo-code` selects what `code` and
`component-code` select together, `Patient.phonetic` what `name` selects.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from relais.profiles import definitions
from relais.profiles.definitions import SearchParameter
from relais.server.search.parameters import component_code, forget_with_parameters, index_name, parameters

_SHARED_KINDS = frozenset({"token", "string", "date", "number", "quantity", "composite"})


class _Selection(NamedTuple):
    """What rows a parameter has: of which kind and parts, and of the elements that each alternative selects."""

    kind: str
    parts: tuple[tuple[str, str], ...]  # of a composite: expression and kind of each component
    alternatives: frozenset[str]

    def within(self, other: _Selection) -> bool:
        return self[:2] == other[:2] and self.alternatives <= other.alternatives


def index_names(resource_type: str, code: str) -> list[str]:
    """The `parameter` of the index rows that a parameter is answered from."""
    return [index_name(resource_type, holder) for holder in holders(resource_type, code)]


@cache
def holders(resource_type: str, code: str) -> tuple[str, ...]:
    """The parameters whose index rows stand for those of `code`; as a rule itself alone.

    Only parameters of R4 share rows: one that a package declares may be gone tomorrow.
    """
    own = _selections(resource_type).get(code)
    if own is None:
        return (code,)
    others = {
        other: selection
        for other, selection in _selections(resource_type).items()
        if selection.within(own) and (selection != own or other < code)
    }
    if frozenset().union(*(selection.alternatives for selection in others.values())) != own.alternatives:
        return (code,)
    same = [other for other, selection in others.items() if selection == own]
    parts = [min(same)] if same else others
    return tuple(sorted({holder for part in parts for holder in holders(resource_type, part)}))


@cache
def component_index(resource_type: str, composite: str, number: int) -> tuple[str, bool]:
    """The `parameter` of the index rows of one component of a composite (numbers start at 1), and whether they are its
    own: the code in `Observation.code-value-quantity` is that of the resource, which is indexed already.
    """
    known = parameters(resource_type)
    component = known[composite].components[number - 1]
    whole = known[composite].expression == resource_type
    if whole and known[component.code].expression == f"{resource_type}.{component.expression}":
        return index_name(resource_type, component.code), False
    return index_name(resource_type, component_code(known[composite], number)), True


@cache
def _selections(resource_type: str) -> dict[str, _Selection]:
    """The selections of the parameters of R4 whose rows may be shared."""
    known = parameters(resource_type)
    found = ((code, known[code]) for code in sorted(definitions.search_parameters(resource_type)))
    return {
        code: selection
        for code, parameter in found
        if parameter.type in _SHARED_KINDS and (selection := _selection(resource_type, parameter))
    }


def _selection(resource_type: str, parameter: SearchParameter) -> _Selection | None:
    alternatives = [alternative.strip() for alternative in parameter.expression.split("|")]
    if not all(one and one.count("(") == one.count(")") for one in alternatives):
        return None
    known = parameters(resource_type)
    parts = tuple((component.expression, known[component.code].type) for component in parameter.components)
    return _Selection(parameter.type, parts, frozenset(alternatives))


forget_with_parameters(holders.cache_clear)
forget_with_parameters(component_index.cache_clear)
forget_with_parameters(_selections.cache_clear)
