"""Concept maps (https://hl7.org/fhir/R4/conceptmap.html): what a code becomes, in either direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from relais.profiles.code_systems import Coding
from relais.profiles.packages import Resource


@dataclass(frozen=True, slots=True)
class Match:
    """One translation of a code: its equivalence (http://hl7.org/fhir/concept-map-equivalence) and the target."""

    equivalence: str
    target: Coding
    concept_map: str


def ends(concept_map: Resource, side: str) -> tuple[str, ...]:
    """The value sets that a concept map goes from (`source`) or to (`target`)."""
    return tuple(str(concept_map[key]) for key in (f"{side}Uri", f"{side}Canonical") if key in concept_map)


_SEEN_FROM_TARGET: Mapping[str, str] = {
    "wider": "narrower",
    "narrower": "wider",
    "subsumes": "specializes",
    "specializes": "subsumes",
}


def reversed_map(concept_map: Resource) -> Resource:
    """The concept map read from its targets to its sources."""
    groups: list[Resource] = []
    for group in concept_map.get("group", ()):
        elements = [
            {
                "code": target.get("code"),
                "target": [
                    {
                        "code": element.get("code", ""),
                        "display": element.get("display", ""),
                        "equivalence": _SEEN_FROM_TARGET.get(equivalence, equivalence),
                    }
                ],
            }
            for element in group.get("element", ())
            for target in element.get("target", ())
            if (equivalence := str(target.get("equivalence", ""))) != "unmatched"
        ]
        groups.append({"source": group.get("target", ""), "target": group.get("source", ""), "element": elements})
    return {"url": concept_map.get("url", ""), "group": groups}


def matches(concept_map: Resource, code: str, system: str) -> Iterator[Match]:
    """Every translation of a code that a concept map holds, those for unmapped codes included."""
    url = str(concept_map.get("url", ""))
    for group in concept_map.get("group", ()):
        if group.get("source", system) != system:
            continue
        into = group.get("target", "")
        elements = [each for each in group.get("element", ()) if each.get("code") == code]
        for each in elements:
            for target in each.get("target", ()):
                coding = Coding(into, target.get("code", ""), target.get("display", ""))
                yield Match(target.get("equivalence", ""), coding, url)
        unmapped = group.get("unmapped", {})
        if not elements and unmapped.get("mode") == "fixed":
            yield Match("inexact", Coding(into, unmapped.get("code", ""), unmapped.get("display", "")), url)
        elif not elements and unmapped.get("mode") == "provided":
            yield Match("equal", Coding(into, code), url)
