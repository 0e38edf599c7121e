"""Parts of resources: `_summary` and `_elements` (FHIR R4 §3.1.1.5.8, §3.1.1.5.9), tagged SUBSETTED.

What is mandatory stays, and so do the elements that change the meaning of others (implicitRules, modifierExtension).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from relais.mappings.context import Resource
from relais.profiles import definitions
from relais.server.fhir.json_format import dump, load
from relais.server.fhir.outcome import FhirError

PARAMETERS = ("_summary", "_elements")
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}

_SUMMARIES = ("true", "text", "data", "count", "false")
_ALWAYS = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})
_IN_DATA_TYPES = frozenset({"id", "extension", "modifierExtension"})

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Subset:
    """What to show. `summary` is empty when `elements` says it: (type, element) pairs, type empty for the searched."""

    summary: str
    elements: frozenset[tuple[str, str]] = frozenset()

    @property
    def counts_only(self) -> bool:
        """Whether nothing but the number of matches is asked for."""
        return self.summary == "count"

    def of(self, content: bytes, *, is_match: bool = True) -> bytes:
        """The part of a resource, as JSON; unqualified `_elements` speak of matches, not of what is included."""
        resource = load(content)
        kept = _summarised(resource, self.summary) if self.summary else self._selected(resource, is_match=is_match)
        if len(kept) == len(resource) and self.summary != "true":
            return content
        meta = dict(kept.get("meta", {}))
        meta["tag"] = [*(tag for tag in meta.get("tag", ()) if not is_subsetted(tag)), SUBSETTED]
        return dump(kept | {"meta": meta})

    def _selected(self, resource: Resource, *, is_match: bool) -> Resource:
        name = resource["resourceType"]
        wanted = {element for owner, element in self.elements if owner == name or (not owner and is_match)}
        return _only(resource, _names(name, wanted)) if wanted else resource


def subset_of(pairs: Pairs, resource_type: str = "") -> Subset | None:
    """What `_summary` and `_elements` ask for, None for whole resources; `resource_type` is the type in the address.

    Raises FhirError 400 for values that R4 does not know and for both at once.
    """
    summary, elements = "", ""
    for name, value in pairs:
        if name == "_summary":
            summary = value
        elif name == "_elements" and value:
            elements = f"{elements},{value}" if elements else value
    if summary and summary not in _SUMMARIES:
        raise FhirError.of(400, "value", f"_summary is one of {', '.join(_SUMMARIES)}", "_summary")
    if summary in ("", "false"):
        return Subset("", _read_elements(elements, resource_type)) if elements else None
    if elements:
        raise FhirError.of(400, "invalid", "_summary and _elements exclude each other", "_elements")
    return Subset(summary)


def is_subsetted(tag: Any) -> bool:
    """Whether a tag says that the resource is not whole."""
    return isinstance(tag, dict) and (tag.get("system"), tag.get("code")) == tuple(SUBSETTED.values())


def _read_elements(text: str, resource_type: str) -> frozenset[tuple[str, str]]:
    found = set()
    for name in filter(None, (part.strip() for part in text.split(","))):
        owner, _, element = name.rpartition(".")
        element = "id" if element == "resourceType" else element  # fhirpy asks for both, which are always shown
        stem = element.removesuffix("[x]")
        checked = owner or resource_type
        if checked and (checked not in definitions.resource_types() or stem not in _elements_of(checked)):
            raise FhirError.of(400, "value", "_elements names elements of a resource, by commas", "_elements")
        found.add((owner, stem))
    if not found:
        raise FhirError.of(400, "value", "_elements names elements of a resource, by commas", "_elements")
    return frozenset(found)


def _summarised(resource: Resource, summary: str) -> Resource:
    name = resource["resourceType"]
    match summary:
        case "data":
            return {key: value for key, value in resource.items() if key != "text"}
        case "text":
            return _only(resource, _names(name, {"text"}))
    return {
        key: _summary_of(value, _type_of(name, key)) for key, value in _only(resource, _summary_names(name)).items()
    }


def _summary_of(value: Any, type_name: str) -> Any:
    """What a summary keeps of an element: of data types that flag nothing, everything."""
    if isinstance(value, list):
        return [_summary_of(item, type_name) for item in value]
    if not isinstance(value, dict) or type_name in ("Resource", "") or not _has_summary(type_name):
        return value
    kept = {key: item for key, item in value.items() if key.removeprefix("_") in _summary_names(type_name)}
    return {key: _summary_of(item, _type_of(type_name, key)) for key, item in kept.items()} or value


def _only(resource: Resource, names: Iterable[str]) -> Resource:
    return {key: value for key, value in resource.items() if key.removeprefix("_") in names}


@cache
def _elements_of(type_name: str) -> frozenset[str]:
    return frozenset(element.stem for element in definitions.elements(type_name))


def _names(resource_type: str, wanted: Iterable[str]) -> frozenset[str]:
    """The JSON names of the wanted elements and of the mandatory ones."""
    stems = set(wanted)
    found = (element for element in definitions.elements(resource_type) if element.required or element.stem in stems)
    return _ALWAYS.union(*(element.json_names() for element in found))


@cache
def _summary_names(type_name: str) -> frozenset[str]:
    found = (element for element in definitions.elements(type_name) if element.required or element.summary)
    always = _ALWAYS if type_name in definitions.resource_types() else _IN_DATA_TYPES
    return always.union(*(element.json_names() for element in found))


@cache
def _has_summary(type_name: str) -> bool:
    return any(element.summary and element.stem != "modifierExtension" for element in definitions.elements(type_name))


@cache
def _type_of(type_name: str, key: str) -> str:
    for element in definitions.elements(type_name):
        if found := element.json_names().get(key):
            return "" if found in definitions.primitive_types() else found
    return ""
