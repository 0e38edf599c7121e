"""References inside a resource (FHIR R4 §2.3): found wherever they stand, extensions and contained resources included.

A reference is the string element `reference` of the data type Reference. A fullUrl of a transaction may also stand in
elements of type uri, url, oid and uuid and in links of the narrative (§3.1.0.11.2); canonical values and identifier
values are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from relais.mappings.context import Resource
from relais.profiles import definitions

_NARRATIVE_LINK = re.compile(r"""((?:href|src)\s*=\s*)(["'])([^"']+)\2""")
_RESTFUL = re.compile(
    r"(?:(?P<base>https?://[^\s?#]+)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?"
)


_URI_TYPES = frozenset({"uri", "url", "oid", "uuid"})
_CONDITIONAL = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?(?P<query>.+)")


@cache
def _link_elements() -> frozenset[str]:
    """The JSON names under which a URI may stand, and `reference`."""
    named = (element.json_names() for found in definitions.types().values() for element in found.elements)
    return frozenset(name for names in named for name, kind in names.items() if kind in _URI_TYPES) | {"reference"}


def of(resource: Resource) -> set[str]:
    """Every reference string of the resource."""
    found: set[str] = set()
    _collect(resource, found)
    return found


def located(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """(FHIRPath, reference string) of every reference in document order; `place` is the path of `node`."""
    for name, value in _children(node, place):
        if isinstance(value, dict | list):
            yield from located(value, name)
        elif isinstance(value, str) and name.endswith(".reference"):
            yield name, value


def rewrite(node: dict[str, Any], replacement: Callable[[str, str], str], place: str = "") -> None:
    """Put `replacement(path, link)` in place of every reference, uri-typed value and narrative link.

    `place` is the path of `node`, by default its resource type.
    """
    place = place or str(node.get("resourceType", ""))
    for name, value in node.items():
        node[name] = _rewritten(name, f"{place}.{name}", value, replacement)


def restful(reference: str) -> tuple[str, str, str] | None:
    """(base URL or "", type, id) of `Type/id` or `http://base/Type/id`, versioned or not; None for any other form."""
    match = _RESTFUL.fullmatch(reference)
    return (match["base"] or "", match["type"], match["id"]) if match else None


def conditional(reference: str) -> tuple[str, str] | None:
    """(type, query) of a conditional reference `Patient?identifier=…`; None for any other form."""
    match = _CONDITIONAL.fullmatch(reference)
    return (match["type"], match["query"]) if match else None


def _collect(node: dict[str, Any] | list[Any], found: set[str]) -> None:
    if type(node) is dict:
        reference = node.get("reference")
        if type(reference) is str:
            found.add(reference)
        node = list(node.values())
    for child in node:
        if type(child) is dict or type(child) is list:
            _collect(child, found)


def _rewritten(name: str, path: str, value: Any, replacement: Callable[[str, str], str]) -> Any:
    if isinstance(value, dict):
        rewrite(value, replacement, path)
    elif isinstance(value, list):
        return [_rewritten(name, f"{path}[{index}]", item, replacement) for index, item in enumerate(value)]
    elif isinstance(value, str) and name in _link_elements():
        return replacement(path, value)
    elif isinstance(value, str) and name == "div":
        return _NARRATIVE_LINK.sub(lambda link: f"{link[1]}{link[2]}{replacement(path, link[3])}{link[2]}", value)
    return value


def _children(node: dict[str, Any] | list[Any], path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{path}.{key}", value
    else:
        for index, value in enumerate(node):
            yield f"{path}[{index}]", value
