"""The search parameters of each resource type, and the names their index rows are kept under."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, get_args

from msgspec.structs import replace

from relais.cda.errors import Issue
from relais.profiles import definitions
from relais.profiles.definitions import Component, SearchParameter
from relais.server.search.errors import UnsupportedExpressionError
from relais.server.search.expressions import compile_expression

_ONLY_TARGET = re.compile(r"\.where\(resolve\(\) is (\w+)\)\s*$")

_CODE = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_ANY_TYPE = frozenset({"Resource", "DomainResource"})

ON_THE_RESOURCE = frozenset({"_id", "_lastUpdated"})
"""Parameters answered from the resource row itself: they need no index rows."""

FULL_TEXT = {"_text": "narrative", "_content": "everything"}
"""Parameters answered from the full text of a resource."""

ABSENT_MEANS = {"isArchived": "false"}
"""Boolean parameters whose element, when absent, stands for a value (CI-SIS PDSm 3.1.1)."""

TEXT, OF_TYPE, IDENTIFIER, CANONICAL = ":text", ":of-type", ":identifier", ":canonical"
"""Derived indexes: texts of a token, type and value of an identifier, identifier of a reference, quantity in the
canonical unit of its dimension."""

INSIDE = ">"
"""Joins the index name of a reference to one of the contained resource it refers to: `List.source>Patient.family`."""

UNTYPED = "?"
"""Stands for the type of the target of a logical reference: `CarePlan.subject>?.identifier`."""

X, Y, Z = "$x", "$y", "$z"
"""Suffixes of the coordinates, on the unit sphere, of a `near` parameter."""


# R4 4.0.1 names the two components of DocumentReference-relationship the wrong way round: its own expressions select a
# code for `relatesto` and a Reference for `relation`.
_CORRECTED_COMPONENTS = {
    ("DocumentReference", "relationship"): (Component("relation", "code"), Component("relatesto", "target")),
}


@cache
def parameters(resource_type: str) -> Mapping[str, SearchParameter]:
    """The search parameters of a resource type by code: of R4, of the CI-SIS volets, and declared ones.

    Raises UnknownDefinitionError.
    """
    found = {code: _narrowed(one) for code, one in definitions.search_parameters(resource_type).items()}
    for (owner, code), components in _CORRECTED_COMPONENTS.items():
        if owner == resource_type:
            found[code] = replace(found[code], components=components)
    for base, parameter in _of_the_volets():
        if base == resource_type or base in _ANY_TYPE:
            found[parameter.code] = parameter
    for base, parameter in _declared:
        if base == resource_type or base in _ANY_TYPE:
            found.setdefault(parameter.code, parameter)
    return found


_declared: list[tuple[str, SearchParameter]] = []


def declare(search_parameters: Iterable[Mapping[str, Any]], *, only: bool = False) -> list[Issue]:
    """Serve SearchParameter resources of packages too, in this process and those it forks; before anything is indexed.

    What was stored before is found by them after `reindex`. A code that a type has already keeps its meaning. `only`
    forgets what was declared before. Gives what is not served, and why: composite parameters, expressions outside of
    what is served, unknown types.
    """
    issues: list[Issue] = []
    found: list[tuple[str, SearchParameter]] = [] if only else [*_declared]
    for resource in search_parameters:
        code = str(resource.get("code", ""))
        if reason := _unserved(resource):
            issues.append(Issue("warning", "not-supported", reason, str(resource.get("url") or code)))
            continue
        parameter = SearchParameter(
            str(resource["url"]), code, resource["type"], resource["expression"], tuple(resource.get("target", ()))
        )
        found.extend(pair for base in resource["base"] if (pair := (base, parameter)) not in found)
    if found != _declared:
        _declared[:] = found
        _forget()
    return issues


def declared() -> dict[str, SearchParameter]:
    """What packages have added, by the name of its index (`CareTeam.managingOrganization`)."""
    own = {parameter for _, parameter in _declared}
    types = definitions.resource_types() if own else ()
    return {
        index_name(resource_type, code): parameter
        for resource_type in sorted(types)
        for code, parameter in parameters(resource_type).items()
        if parameter in own
    }


_DECLARABLE = frozenset(get_args(definitions.SearchType)) - {"composite", "special"}


def _unserved(resource: Mapping[str, Any]) -> str:
    """Why a SearchParameter is not served, or nothing."""
    code, expression = resource.get("code"), resource.get("expression")
    if not isinstance(code, str) or not _CODE.fullmatch(code) or not isinstance(resource.get("url"), str):
        return "it has no code that can be searched by, or no url"
    if resource.get("type") not in _DECLARABLE or not isinstance(expression, str):
        return f"parameters of type {resource.get('type')} that a package defines are not served"
    try:
        compile_expression(expression)
    except UnsupportedExpressionError as error:
        return str(error)
    bases = resource.get("base")
    known = definitions.resource_types() | _ANY_TYPE
    if not isinstance(bases, list) or not bases or not known.issuperset(map(str, bases)):
        return "one of its bases is no resource type"
    return ""


def forget_declared() -> None:
    """Serve again what is built in, and nothing else."""
    _declared.clear()
    _forget()


def _forget() -> None:
    parameters.cache_clear()
    for forget in _dependents:
        forget()


_dependents: list[Callable[[], None]] = []


def forget_with_parameters(forget: Callable[[], None]) -> None:
    """Have `forget` called when parameters are declared: it clears what was made of them."""
    _dependents.append(forget)


@cache
def _of_the_volets() -> tuple[tuple[str, SearchParameter], ...]:
    """Parameters that the volets GAP, NdE, CDS, PDSm and TDE (and IHE MHD) add; CdL adds none."""
    return tuple(
        (base, SearchParameter(url, code, kind, expression, tuple(filter(None, targets.split(",")))))  # type: ignore[arg-type]
        for base, code, kind, url, targets, expression in table("volet_parameters")
    )


@cache
def aliases(resource_type: str) -> Mapping[str, str]:
    """Names that published CapabilityStatements and older guides write, and what they mean."""
    return {written: meant for owner, written, meant in table("aliases") if owner == resource_type}


@cache
def table(name: str) -> tuple[list[str], ...]:
    """The rows of a table of this package, without its heading."""
    text = files("relais.server.search").joinpath("data", f"{name}.tsv").read_text(encoding="utf-8")
    return tuple(line.split("\t") for line in text.splitlines()[1:])


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
