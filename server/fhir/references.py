"""References inside a resource (FHIR R4 §2.3): found wherever they stand, extensions and contained resources included.

A reference is the string element `reference` of the data type Reference. A fullUrl of a transaction may also stand in
elements of type uri, url, oid and uuid and in links of the narrative (§3.1.0.11.2); canonical values and identifier
values are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from relais.mappings.context import Resource

_LINK_ELEMENTS = frozenset(
    {"reference", "url", "uri", "valueUri", "valueUrl", "valueOid", "valueUuid", "instantiatesUri", "implicitRules"}
)
_NARRATIVE_LINK = re.compile(r"""((?:href|src)\s*=\s*)(["'])([^"']+)\2""")
_RESTFUL = re.compile(
    r"(?:(?P<base>https?://[^\s?#]+)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?"
)


_CONDITIONAL = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?(?P<query>.+)")


def find(resource: Resource) -> Iterator[tuple[str, str]]:
    """(FHIRPath, reference string) of every reference in the resource, in document order."""
    return _find(resource, str(resource.get("resourceType", "")))


def rewrite(resource: Resource, replacement: Callable[[str, str], str]) -> None:
    """Put `replacement(path, link)` in place of every reference, uri-typed value and narrative link of the resource."""
    _rewrite(resource, str(resource.get("resourceType", "")), replacement)


def restful(reference: str) -> tuple[str, str, str] | None:
    """(base URL or "", type, id) of `Type/id` or `http://base/Type/id`, versioned or not; None for any other form."""
    match = _RESTFUL.fullmatch(reference)
    return (match["base"] or "", match["type"], match["id"]) if match else None


def conditional(reference: str) -> tuple[str, str] | None:
    """(type, query) of a conditional reference `Patient?identifier=…`; None for any other form."""
    match = _CONDITIONAL.fullmatch(reference)
    return (match["type"], match["query"]) if match else None


def _find(node: dict[str, Any] | list[Any], path: str) -> Iterator[tuple[str, str]]:
    for name, value in _children(node, path):
        kind = type(value)
        if kind is dict or kind is list:
            yield from _find(value, name)
        elif kind is str and name.endswith(".reference"):
            yield name, value


def _rewrite(node: dict[str, Any] | list[Any], path: str, replacement: Callable[[str, str], str]) -> None:
    keys = node.keys() if isinstance(node, dict) else range(len(node))
    for key in list(keys):
        value = node[key]  # type: ignore[index]
        place = f"{path}.{key}" if isinstance(node, dict) else f"{path}[{key}]"
        if isinstance(value, dict | list):
            _rewrite(value, place, replacement)
        elif isinstance(value, str):
            name = key if isinstance(key, str) else path.rpartition(".")[2]
            node[key] = _rewritten(name, place, value, replacement)  # type: ignore[index]


def _rewritten(name: str, place: str, value: str, replacement: Callable[[str, str], str]) -> str:
    if name in _LINK_ELEMENTS:
        return replacement(place, value)
    if name == "div":
        return _NARRATIVE_LINK.sub(lambda link: f"{link[1]}{link[2]}{replacement(place, link[3])}{link[2]}", value)
    return value


def _children(node: dict[str, Any] | list[Any], path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{path}.{key}", value
    else:
        for index, value in enumerate(node):
            yield f"{path}[{index}]", value
