"""The element tree of a profile as rows of a table: cardinality, flags, types, bindings, what is constrained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Element = dict[str, Any]

_TYPE_URL = "http://hl7.org/fhir/StructureDefinition/"
_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."
_FIXED = ("fixed", "pattern")
_STRENGTHS = {
    "required": "obligatoire",
    "extensible": "extensible",
    "preferred": "préféré",
    "example": "exemple",
}


@dataclass(frozen=True)
class Link:
    """Words that lead somewhere: `canonical` is a URL of FHIR, empty for words only."""

    text: str
    canonical: str = ""


@dataclass(frozen=True)
class Row:
    """One element. `depth` is 0 for the root; `cardinality` is that of the snapshot, `changed` whether it is ours."""

    id: str
    name: str
    depth: int
    is_slice: bool
    flags: tuple[tuple[str, str], ...]
    cardinality: str
    changed: bool
    types: tuple[Link, ...]
    short: str
    details: tuple[tuple[str, Link], ...]


@dataclass(frozen=True)
class Invariant:
    """A constraint that the profile itself adds."""

    key: str
    severity: str
    human: str
    expression: str
    place: str


def differential(structure: Element) -> list[Row]:
    """What the profile changes, with the elements above each change so that the tree holds together."""
    changes = {element["id"]: element for element in structure["differential"]["element"]}
    wanted = {ancestor for element_id in changes for ancestor in _upwards(element_id)}
    return [
        _row(element, changes.get(element["id"]), changes.get(element["id"], {}))
        for element in structure["snapshot"]["element"]
        if element["id"] in wanted
    ]


def snapshot(structure: Element) -> list[Row]:
    """Every element."""
    changes = {element["id"]: element for element in structure["differential"]["element"]}
    return [_row(element, changes.get(element["id"]), element) for element in structure["snapshot"]["element"]]


def invariants(structure: Element) -> list[Invariant]:
    """The constraints of the differential."""
    return [
        Invariant(rule["key"], rule["severity"], rule["human"], rule.get("expression", ""), element["path"])
        for element in structure["differential"]["element"]
        for rule in element.get("constraint", ())
    ]


def _upwards(element_id: str) -> Iterator[str]:
    """The element and those above it; above a slice stands what is sliced."""
    parts = element_id.split(".")
    for end in range(len(parts), 0, -1):
        here = ".".join(parts[:end])
        yield here
        stem, colon, _ = here.rpartition(":")
        if colon and "." not in here[len(stem) :]:
            yield stem


def _row(element: Element, change: Element | None, shown: Element) -> Row:
    """`shown` is where the details come from: the change, or the whole element."""
    element_id = str(element["id"])
    *above, last = element_id.split(".")
    name, _, slice_name = last.partition(":")
    return Row(
        id=element_id,
        name=slice_name or name,
        depth=len(above) + element_id.count(":"),
        is_slice=bool(slice_name),
        flags=tuple(_flags(element)),
        cardinality=f"{element.get('min', 0)}..{element.get('max', '*')}",
        changed=change is not None,
        types=tuple(_types(element)),
        short=str(element.get("short", "")),
        details=tuple(_details(shown)),
    )


def _flags(element: Element) -> Iterator[tuple[str, str]]:
    if element.get("mustSupport"):
        yield "MS", "à prendre en charge (must support)"
    if element.get("isModifier"):
        yield "?!", "change le sens de la ressource"
    if element.get("isSummary"):
        yield "Σ", "fait partie du résumé"
    if any(not str(rule["key"]).startswith(("ele-", "ext-")) for rule in element.get("constraint", ())):
        yield "C", "porte une contrainte"


def _types(element: Element) -> Iterator[Link]:
    if reference := element.get("contentReference"):
        yield Link(f"voir {str(reference).rpartition('#')[2]}")
    for kind in element.get("type", ()):
        code = str(kind["code"])
        if code.startswith(_SYSTEM_TYPE):
            code = code.removeprefix(_SYSTEM_TYPE).lower()
        profiles, targets = kind.get("profile", ()), kind.get("targetProfile", ())
        if not profiles and not targets:
            yield Link(code, f"{_TYPE_URL}{code}")
        yield from (Link(f"{code} ({_last(url)})", url) for url in profiles)
        yield from (Link(f"{code}({_last(url)})", url) for url in targets)


def _details(element: Element) -> Iterator[tuple[str, Link]]:
    if slicing := element.get("slicing"):
        keys = ", ".join(f"{one['type']} {one['path']}" for one in slicing.get("discriminator", ()))
        yield "Tranches", Link(f"{keys} ({'fermées' if slicing.get('rules') == 'closed' else 'ouvertes'})")
    for name, value in element.items():
        if name.startswith(_FIXED):
            yield ("Valeur" if name.startswith("fixed") else "Motif"), Link(_value(value))
    if binding := element.get("binding"):
        canonical = str(binding.get("valueSet", ""))
        strength = _STRENGTHS.get(binding.get("strength", ""), "sans force dite")
        yield f"Jeu de valeurs ({strength})", Link(_last(canonical) or "non nommé", canonical)
    for rule in element.get("constraint", ()):
        if str(rule["key"]).startswith("rel-"):
            yield str(rule["key"]), Link(str(rule["human"]))
    if comment := element.get("comment"):
        yield "Note", Link(str(comment))


def _value(value: Any) -> str:
    """A fixed or pattern value in few words."""
    if isinstance(value, dict):
        codings: Iterable[Element] = value.get("coding") or ([value] if "code" in value else ())
        told = [f"{_last(str(one.get('system', '')))}#{one.get('code', '')}" for one in codings]
        return ", ".join(told) or json.dumps(value, ensure_ascii=False)
    return str(value)


def _last(canonical: str) -> str:
    return canonical.partition("|")[0].rpartition("/")[2]
