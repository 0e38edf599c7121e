"""Code systems with their supplements (https://hl7.org/fhir/R4/codesystem.html): concepts, hierarchies, filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relais.profiles.packages import Resource

_PARENT_PROPERTIES = frozenset({"parent", "subsumedBy"})


@dataclass(frozen=True, slots=True)
class Coding:
    """A code as a value set or a concept map gives it."""

    system: str
    code: str
    display: str = ""


@dataclass(slots=True)
class Concept:
    """A concept of a code system; `designations` are (language, text), `parents` the codes directly above."""

    code: str
    display: str = ""
    definition: str = ""
    designations: list[tuple[str, str]] = field(default_factory=list)
    properties: list[tuple[str, Any]] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)


class CodeSystem:
    """A code system with its supplements: concepts by code, and who stands below whom."""

    def __init__(self, resource: Resource, supplements: Iterable[Resource] = ()) -> None:
        self.url = str(resource["url"])
        self.version = str(resource.get("version", ""))
        self.name = str(resource.get("name", ""))
        self.is_complete = resource.get("content") == "complete"
        self._folds = resource.get("caseSensitive") is False
        self.concepts: dict[str, Concept] = {}
        self._children: dict[str, list[str]] = {}
        self._read(resource.get("concept", ()), None)
        for supplement in supplements:
            self._supplement(supplement.get("concept", ()))
        for concept in self.concepts.values():
            for parent in concept.parents:
                self._children.setdefault(parent, []).append(concept.code)
        self._folded = {code.casefold(): code for code in self.concepts} if self._folds else {}

    def find(self, code: str) -> Concept | None:
        """The concept of a code, in any case where the system does not tell them apart."""
        return self.concepts.get(code) or self.concepts.get(self._folded.get(code.casefold(), ""))

    def below(self, code: str) -> set[str]:
        """The codes below a code, at any depth."""
        found: set[str] = set()
        waiting = [code]
        while waiting:
            fresh = [child for child in self._children.get(waiting.pop(), ()) if child not in found]
            found.update(fresh)
            waiting.extend(fresh)
        return found

    def above(self, code: str) -> set[str]:
        """The codes above a code, at any height."""
        found: set[str] = set()
        waiting = [code]
        while waiting:
            concept = self.concepts.get(waiting.pop())
            fresh = [parent for parent in (concept.parents if concept else ()) if parent not in found]
            found.update(fresh)
            waiting.extend(fresh)
        return found

    def _read(self, concepts: Iterable[Resource], parent: str | None) -> None:
        for each in concepts:
            concept = self.concepts.setdefault(each["code"], Concept(each["code"]))
            concept.display = each.get("display", "")
            concept.definition = each.get("definition", "")
            _describe(concept, each)
            concept.parents.extend([parent] if parent else [])
            concept.parents.extend(str(value) for name, value in concept.properties if name in _PARENT_PROPERTIES)
            for name, value in concept.properties:
                if name == "child":
                    self.concepts.setdefault(value, Concept(value)).parents.append(concept.code)
            self._read(each.get("concept", ()), concept.code)

    def _supplement(self, concepts: Iterable[Resource]) -> None:
        for each in concepts:
            if known := self.concepts.get(each["code"]):
                _describe(known, each)
            self._supplement(each.get("concept", ()))


def _describe(concept: Concept, source: Resource) -> None:
    for each in source.get("designation", ()):
        concept.designations.append((each.get("language", ""), each.get("value", "")))
    for each in source.get("property", ()):
        value = next((value for key, value in each.items() if key.startswith("value")), None)
        concept.properties.append((each.get("code", ""), value))


# Filters --------------------------------------------------------------------------------------------------------------


def _texts(concept: Concept, name: str) -> list[str]:
    """What a filter sees of a concept under the name of a property."""
    if name in ("code", "concept"):
        return [concept.code]
    if name == "display":
        return [concept.display]
    values = (value for known, value in concept.properties if known == name)
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value["code"]) if isinstance(value, dict) else str(value)


Filter = Callable[[CodeSystem, str, str], set[str]]
"""The codes of a system that pass, given the property and the value of the filter."""


def _by_value(test: Callable[[list[str], str], bool]) -> Filter:
    def passing(system: CodeSystem, name: str, value: str) -> set[str]:
        return {concept.code for concept in system.concepts.values() if test(_texts(concept, name), value)}

    return passing


FILTERS: Mapping[str, Filter] = {
    "is-a": lambda system, _, value: {value} | system.below(value),
    "descendent-of": lambda system, _, value: system.below(value),
    "is-not-a": lambda system, _, value: set(system.concepts) - system.below(value) - {value},
    "generalizes": lambda system, _, value: {value} | system.above(value),
    "=": _by_value(lambda found, value: value in found),
    "in": _by_value(lambda found, value: bool({part.strip() for part in value.split(",")} & set(found))),
    "not-in": _by_value(lambda found, value: not {part.strip() for part in value.split(",")} & set(found)),
    "regex": _by_value(lambda found, value: any(re.fullmatch(value, text) for text in found)),
    "exists": _by_value(lambda found, value: bool(found) == (value == "true")),
}
"""The filter operators of `ValueSet.compose.include.filter.op`."""
