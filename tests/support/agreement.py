"""The corpus on which Relais and HAPI's validator are compared, and what HAPI said of it (tests/profiles/agreement).

Cases are made anew each time: for every official resource profile the smallest resource, one with all that the profile
names, one for each constraint that it breaks, and random changes; base cases by hand. `hapi.tsv` holds HAPI's errors, a
digest of each resource, and which optional elements it was made with.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from relais.profiles.packages import Registry
from support.agreement_cases import BASE_CASES
from support.instances import Instances

FOLDER = Path(__file__).parent.parent / "profiles" / "agreement"
VERDICTS = FOLDER / "hapi.tsv"
WANTED = FOLDER / "wanted.json"
CHANGES_PER_PROFILE = 10

Resource = dict[str, Any]


class Case(NamedTuple):
    """A resource and the profile it is to be validated against (none: those it claims)."""

    name: str
    profile: str
    resource: Resource

    @property
    def digest(self) -> str:
        """What tells whether HAPI's verdict is about this resource."""
        return hashlib.sha256(msgspec.json.encode(self.resource, order="sorted")).hexdigest()[:12]


class Error(NamedTuple):
    """An error of HAPI: where (FHIRPath as Relais writes it), which rule."""

    path: str
    rule: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What HAPI said of a case."""

    digest: str
    errors: tuple[Error, ...]


# Cases ----------------------------------------------------------------------------------------------------------------


def resource_profiles(registry: Registry) -> list[str]:
    """The official profiles of resources, R4's own left out."""
    return [
        definition.header.url
        for definition in registry.definitions("StructureDefinition")
        if definition.header.kind == "resource" and not definition.package.startswith("hl7.fhir.r4.core#")
    ]


def base_cases() -> Iterator[Case]:
    """Cases of base R4, written by hand."""
    for name, resource in BASE_CASES.items():
        yield Case(f"R4 {name}", "", resource)


def profile_cases(instances: Instances, profile: str, wanted: frozenset[str]) -> Iterator[Case]:
    """The cases of one profile."""
    name = profile.rpartition("/")[2]
    yield Case(f"{name} smallest", profile, instances.minimal(profile))
    whole = instances.minimal(profile, wanted)
    yield Case(f"{name} whole", profile, whole)
    for breach, broken in instances.breaches(profile, wanted):
        yield Case(str(breach), profile, broken)
    for change, changed in changes(whole, random.Random(name)):
        yield Case(f"{name} {change}", profile, changed)


@cache
def wanted() -> dict[str, frozenset[str]]:
    """The optional elements that the whole resource of each profile was made with."""
    return {profile: frozenset(ids) for profile, ids in json.loads(WANTED.read_text()).items()}


# Random changes -------------------------------------------------------------------------------------------------------


def changes(resource: Resource, chance: random.Random) -> Iterator[tuple[str, Resource]]:
    """Copies of a resource, each with one random change, and what was changed."""
    places = [place for place in _places(resource, ()) if place[-1] != "resourceType"]
    for place in chance.sample(places, min(CHANGES_PER_PROFILE, len(places))):
        changed = copy.deepcopy(resource)
        owner: Any = changed
        for step in place[:-1]:
            owner = owner[step]
        kind = chance.choice(_kinds(owner, place[-1]))
        _change(owner, place[-1], kind)
        yield f"{kind} {'.'.join(map(str, place))}", changed


def _places(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from _places(each, (*path, key))


def _kinds(owner: Any, key: str | int) -> list[str]:
    """The changes that make sense, apart from emptying arrays: HAPI reads an empty array as an absent one."""
    value = owner[key]
    kinds = ["remove"] if isinstance(key, str) or len(owner) > 1 else ["repeat"]
    if isinstance(key, int):
        kinds.append("repeat")
    if isinstance(value, str):
        kinds += ["alter", "alter"]
        if key == "reference":
            kinds += ["misdirect"]
    if isinstance(value, bool):
        kinds.append("negate")
    if isinstance(key, str) and key.startswith("value") and len(key) > len("value"):
        kinds += ["retype"]
    return kinds


def _change(owner: Any, key: Any, kind: str) -> None:
    value = owner[key]
    if kind == "remove":
        del owner[key]
    elif kind == "repeat":
        owner.append(copy.deepcopy(value))
    elif kind == "alter":
        owner[key] = f"{value}-altered"
    elif kind == "misdirect":
        owner[key] = "Basic/1"
    elif kind == "negate":
        owner[key] = not value
    else:
        del owner[key]
        owner["valueBoolean" if key == "valueString" else "valueString"] = True if key == "valueString" else "sample"


# Verdicts -------------------------------------------------------------------------------------------------------------


@cache
def verdicts() -> dict[str, Verdict]:
    """What HAPI said, by the name of the case."""
    with VERDICTS.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {
            row["case"]: Verdict(
                row["digest"], tuple(Error(*each.split("|")) for each in row["errors"].split(" ; ") if each)
            )
            for row in rows
        }


_CONTAINER = re.compile(r"/\*.*?\*/|\[url='[^']*'\]|\[x\]")
_REASONS = {
    "could not be found": "system-missing",
    "TRE-R13-CommuneOM": "system-missing",
    "#null'": "code-missing",
}


def normalised(issues: Sequence[dict[str, Any]]) -> list[Error]:
    """HAPI's errors, each once, with places as Relais writes them and rules without their base URL."""
    found = [
        Error(
            _CONTAINER.sub("", each["path"] or ""),
            next(
                (rule for text, rule in _REASONS.items() if text in each["message"]),
                (each["rule"] or "parse").rpartition("#")[2],
            ),
        )
        for each in issues
        if each["severity"] in ("error", "fatal")
    ]
    return list(dict.fromkeys(found))


def are_near(first: str, second: str) -> bool:
    """Whether two places are the same, or one within two steps of the other."""
    shorter, longer = sorted((first, second), key=len)
    is_inside = longer == shorter or longer.startswith((f"{shorter}.", f"{shorter}["))
    return is_inside and longer.count(".") - shorter.count(".") <= 2
