"""The definitions of FHIR R4 4.0.1, read from the tables in `profiles/r4`: types, search parameters, compartments,
required value sets and invariants. `relais.profiles.build` makes the tables from the published specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, TypeVar

import msgspec

FHIR_VERSION = "4.0.1"

Kind = Literal["resource", "complex", "primitive", "backbone"]
SearchType = Literal["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]
_T = TypeVar("_T")


class Element(msgspec.Struct, frozen=True, omit_defaults=True):
    """One element of a type. R4 types know no maximum besides one and many, so two flags hold the cardinality.

    `types` are type names: primitives, data types, backbone paths (`CarePlan.activity`), or `Resource` for any.
    `targets` are the resource types a Reference may name (none: any), `binding` is the value set of a
    *required* binding.
    """

    name: str  # as in the definition: a choice is written `value[x]`
    types: tuple[str, ...]
    required: bool = False
    many: bool = False
    targets: tuple[str, ...] = ()
    binding: str = ""
    simple_quantity: bool = False  # the Quantity is a SimpleQuantity: no comparator
    xml_attribute: bool = False
    summary: bool = False  # shown under `_summary=true`

    @property
    def is_choice(self) -> bool:
        """Whether the JSON name carries the type (`valueString`)."""
        return self.name.endswith("[x]")

    @property
    def stem(self) -> str:
        """The name without `[x]`: what FHIRPath calls the element."""
        return self.name.removesuffix("[x]")

    def json_names(self) -> dict[str, str]:
        """Type by JSON property name: one pair, or one for each type of a choice."""
        if not self.is_choice:
            return {self.name: self.types[0]}
        return {f"{self.stem}{name[0].upper()}{name[1:]}": name for name in self.types}


class TypeDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A resource type, data type, or backbone element (named by its path); `elements` are those it adds to its base."""

    kind: Kind
    base: str = ""
    abstract: bool = False
    elements: tuple[Element, ...] = ()


class Invariant(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule of the specification in FHIRPath, evaluated on the type or element it is filed under."""

    key: str
    severity: Literal["error", "warning"]
    human: str
    expression: str = ""


class Component(msgspec.Struct, frozen=True):
    """One part of a composite parameter: the code of a parameter of the same type, and its own expression."""

    code: str
    expression: str


class SearchParameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A search parameter as it applies to one resource type: `expression` holds only that type's alternatives.

    `expression` is empty for the parameters that no element carries (`_text`, `_content`, `_query`).
    """

    url: str
    code: str
    type: SearchType
    expression: str = ""
    targets: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()


class UnknownDefinitionError(LookupError):
    """R4 4.0.1 defines nothing of that name."""


@cache
def types() -> Mapping[str, TypeDefinition]:
    """Every type by name: resources, data types, primitives, and backbone elements by path."""
    return _table("types.json", _types)


@cache
def resource_types() -> frozenset[str]:
    """The names a resource may carry as `resourceType`."""
    return frozenset(name for name, found in types().items() if found.kind == "resource" and not found.abstract)


@cache
def primitive_types() -> frozenset[str]:
    """The names of the primitive types, `xhtml` included."""
    return frozenset(name for name, found in types().items() if found.kind == "primitive")


def type_definition(name: str) -> TypeDefinition:
    """The definition of a type; raises UnknownDefinitionError."""
    try:
        return types()[name]
    except KeyError:
        raise UnknownDefinitionError(name) from None


@cache
def elements(name: str) -> tuple[Element, ...]:
    """All elements of a type in the order of the specification, inherited ones first; raises UnknownDefinitionError."""
    found = type_definition(name)
    return (elements(found.base) if found.base else ()) + found.elements


@cache
def search_parameters(resource_type: str) -> Mapping[str, SearchParameter]:
    """The standard search parameters of a resource type by code, the common ones (`_id`, `_lastUpdated`…) included.

    Raises UnknownDefinitionError when R4 has no such resource type.
    """
    if resource_type not in resource_types():
        raise UnknownDefinitionError(resource_type)
    return _search_parameters_of(resource_type)


@cache
def compartments() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Of each compartment (`Patient`, `Practitioner`…): resource type → search parameters that make it a member.

    The resource that the compartment is named after is always in its own compartment.
    """
    return _table("compartments.json", _compartments)


@cache
def value_set(url: str) -> Mapping[str, frozenset[str]] | None:
    """The codes of a required value set by code system, or None when R4 does not enumerate them (BCP 13, UCUM…)."""
    return _value_sets().get(url)


def invariants(path: str) -> tuple[Invariant, ...]:
    """The invariants filed under a type name or an element path (`Period`, `CarePlan.activity`, `Narrative.div`)."""
    return all_invariants().get(path, ())


@cache
def all_invariants() -> Mapping[str, tuple[Invariant, ...]]:
    """Every invariant of R4 by the type or element path it is filed under."""
    return _table("invariants.json", _invariants)


@cache
def _search_parameter_tables() -> Mapping[str, tuple[SearchParameter, ...]]:
    return _table("search_parameters.json", _parameters)


def _search_parameters_of(name: str) -> dict[str, SearchParameter]:
    base = types()[name].base
    own = {parameter.code: parameter for parameter in _search_parameter_tables().get(name, ())}
    return (_search_parameters_of(base) if base else {}) | own


@cache
def _value_sets() -> Mapping[str, Mapping[str, frozenset[str]]]:
    return _table("value_sets.json", _codes)


# Made here, in the one thread that imports: msgspec prepares a type when it first meets it, and threads that meet one
# at the same time crash the process.
_types = msgspec.json.Decoder(dict[str, TypeDefinition])
_compartments = msgspec.json.Decoder(dict[str, dict[str, tuple[str, ...]]])
_invariants = msgspec.json.Decoder(dict[str, tuple[Invariant, ...]])
_parameters = msgspec.json.Decoder(dict[str, tuple[SearchParameter, ...]])
_codes = msgspec.json.Decoder(dict[str, dict[str, frozenset[str]]])


def _table(name: str, decoder: msgspec.json.Decoder[_T]) -> _T:
    return decoder.decode((files("relais.profiles") / "r4" / name).read_bytes())
