"""The terminology service over the loaded packages (http://hl7.org/fhir/R4/terminology-service.html): membership,
expansion, lookup, subsumption, translation. What the packages do not hold is "not checked": never valid, never invalid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from relais.profiles import definitions
from relais.profiles.code_systems import FILTERS, CodeSystem, Coding, Concept
from relais.profiles.concept_maps import Match, ends, matches, reversed_map
from relais.profiles.messages import Message
from relais.profiles.packages import DEFINITION_FAULTS, Definition, Registry, Resource

Subsumption = Literal["equivalent", "subsumes", "subsumed-by", "not-subsumed"]

_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?(?:-[A-Za-z0-9]{1,8})*")
_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][\w!#$&^.+-]*/[A-Za-z0-9*][\w!#$&^.+-]*(?: ?; ?[\w!#$&^.+-]+=(?:[^\s;\"]+|\"[^\"]*\"))*"
    r"|xml|json|ttl"  # how R4 names its own formats (CapabilityStatement.format)
)

GRAMMARS: Mapping[str, re.Pattern[str]] = {"urn:ietf:bcp:13": _MEDIA_TYPE, "urn:ietf:bcp:47": _LANGUAGE_TAG}
"""Code systems that are a grammar rather than a list: media types (RFC 6838), language tags (RFC 5646)."""

POSTED = "posted"
"""Stands for the package of a resource that a client gave: its regular expressions are not evaluated."""

_MAX_SETS = 100
"""Most value sets that one value set may be made of."""

_MAX_LISTED = 500_000
"""Most codes that the parts of one value set may list, and most that an expansion may gather."""


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a code belongs: `result` is None when it could not be checked; `reason` says why, or why not."""

    result: bool | None
    reason: Message | None = None


_YES = Check(result=True)

WHOLE_SYSTEMS: Mapping[str, str] = {"http://hl7.org/fhir/ValueSet/all-languages": "urn:ietf:bcp:47"}
"""Value sets of R4 that hold every code of a grammar, known without a package."""


class TerminologyError(LookupError):
    """A question that the loaded packages cannot answer. `message` says which part is missing."""

    def __init__(self, message: Message) -> None:
        self.message = message
        super().__init__(message.render("en"))


@dataclass(slots=True)
class _Part:
    """One include or exclude. `codes` (display by code) is None where the system cannot be enumerated: see `reason`."""

    system: str | None
    system_definition: CodeSystem | None
    codes: Mapping[str, str] | None
    reason: Message | None
    value_sets: tuple[str, ...]


@dataclass(slots=True)
class _ValueSet:
    url: str
    includes: list[_Part]
    excludes: list[_Part]
    reason: Message | None = None
    """Why it cannot be used."""


class Terminology:
    """The terminology service. Value sets and code systems are read when first asked for, and kept."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._systems: dict[str, CodeSystem | None] = {}
        self._sets: dict[str, _ValueSet] = {}
        self._supplements: dict[str, list[Resource]] | None = None
        self._implicit: dict[str, str] | None = None

    # Code systems

    def code_system(self, url: str) -> CodeSystem | None:
        """The code system of a URL (with or without version), or None when no package holds it."""
        url = url.partition("|")[0]
        if url not in self._systems:
            found = self._registry.find("CodeSystem", url)
            if found is None:
                return None
            self._systems[url] = self._read_code_system(found.resource)
        return self._systems[url]

    def code_systems(self) -> Iterator[tuple[str, str]]:
        """URL and version of every code system that has concepts here."""
        for definition in self._registry.definitions("CodeSystem"):
            if definition.resource.get("content") in ("complete", "fragment", "example"):
                yield definition.header.url, definition.header.version

    def _read_code_system(self, resource: Resource) -> CodeSystem | None:
        if resource.get("content") == "not-present":
            return None
        try:
            return CodeSystem(resource, self._supplements_of(str(resource["url"])))
        except DEFINITION_FAULTS:
            return None

    def _supplements_of(self, url: str) -> list[Resource]:
        if self._supplements is None:
            found: dict[str, list[Resource]] = {}
            for definition in self._registry.definitions("CodeSystem"):
                resource = definition.resource
                if resource.get("content") == "supplement" and "supplements" in resource:
                    found.setdefault(resource["supplements"].partition("|")[0], []).append(resource)
            self._supplements = found
        return self._supplements.get(url, [])

    def lookup(self, system: str, code: str) -> Concept:
        """A concept. Raises TerminologyError when the code is unknown or its system is not loaded."""
        found = self._known_system(system)
        concept = found.find(code)
        if concept is None:
            raise TerminologyError(Message("code-unknown", system=system))
        return concept

    def subsumes(self, system: str, first: str, second: str) -> Subsumption:
        """How two codes of a system relate, seen from the first. Raises TerminologyError as `lookup` does."""
        one, other = self.lookup(system, first), self.lookup(system, second)
        if one.code == other.code:
            return "equivalent"
        found = self._known_system(system)
        if other.code in found.below(one.code):
            return "subsumes"
        return "subsumed-by" if one.code in found.below(other.code) else "not-subsumed"

    def below(self, system: str, code: str) -> set[str]:
        """The codes below a code. Raises TerminologyError as `lookup`, and where not all concepts are loaded."""
        return self._whole_system(system).below(self.lookup(system, code).code)

    def above(self, system: str, code: str) -> set[str]:
        """The codes above a code. Raises TerminologyError as `below`."""
        return self._whole_system(system).above(self.lookup(system, code).code)

    def _whole_system(self, url: str) -> CodeSystem:
        found = self._known_system(url)
        if not found.is_complete:
            raise TerminologyError(Message("system-incomplete", system=url))
        return found

    def _known_system(self, url: str) -> CodeSystem:
        found = self.code_system(url)
        if found is None:
            raise TerminologyError(Message("system-unknown", system=url))
        return found

    def check_code(self, system: str, code: str) -> Check:
        """Whether a code system has a code."""
        if grammar := GRAMMARS.get(system):
            return (
                _YES if grammar.fullmatch(code) else Check(result=False, reason=Message("code-unknown", system=system))
            )
        found = self.code_system(system)
        if found is None:
            return Check(None, Message("system-unknown", system=system))
        if found.find(code) is not None:
            return _YES
        if not found.is_complete:
            return Check(None, Message("system-incomplete", system=system))
        return Check(result=False, reason=Message("code-unknown", system=system))

    def displays(self, system: str, code: str, value_set: str = "") -> set[str]:
        """Every text that the loaded packages give a code, in any language; empty when they hold none."""
        found = self.code_system(system)
        concept = found.find(code) if found else None
        texts = {concept.display, *(text for _, text in concept.designations)} if concept else set()
        known = self._value_set(value_set) if value_set else None
        for part in known.includes if known else ():
            if part.system == system and part.codes and code in part.codes:
                texts.add(part.codes[code])
        return texts - {""}

    def check_display(self, system: str, code: str, display: str, value_set: str = "") -> Check:
        """Whether a display is one that the packages give the code, apart from case and white space."""
        known = self.displays(system, code, value_set)
        if not known:
            return Check(None, Message("display-unknown"))
        if _plain(display) in {_plain(text) for text in known}:
            return _YES
        return Check(result=False, reason=Message("display-other"))

    # Membership

    def check(self, value_set: str, code: str, system: str | None = None) -> Check:
        """Whether a value set holds a code; without a system, in any of its systems (elements of type `code`)."""
        return self._holds(value_set, code, system, {})

    def _holds(self, url: str, code: str, system: str | None, known: dict[str, Check]) -> Check:
        """`known` has the answers of the value sets that this one is part of: each is asked once, a circle never."""
        if url not in known:
            known[url] = Check(None, Message("value-set-nested", value_set=url))
            known[url] = self._asked(url, code, system, known) if len(known) <= _MAX_SETS else known[url]
        return known[url]

    def _asked(self, url: str, code: str, system: str | None, known: dict[str, Check]) -> Check:
        found = self._value_set(url)
        if found is None:
            return Check(None, Message("value-set-unknown", value_set=url))
        if found.reason:
            return Check(None, found.reason)
        included = _any(self._part_holds(part, code, system, known) for part in found.includes)
        if included.result is False or not found.excludes:
            return included
        excluded = _any(self._part_holds(part, code, system, known) for part in found.excludes)
        if excluded.result:
            return Check(result=False)
        return included if excluded.result is False else excluded

    def _part_holds(self, part: _Part, code: str, system: str | None, known: dict[str, Check]) -> Check:
        checks = [self._holds(url, code, system, known) for url in part.value_sets]
        if part.system is not None:
            checks.append(self._listed(part, code, system))
        if any(check.result is False for check in checks):
            return Check(result=False)
        return next((check for check in checks if check.result is None), _YES)

    def _listed(self, part: _Part, code: str, system: str | None) -> Check:
        if system is not None and system != part.system:
            return Check(result=False)
        if part.codes is None:
            grammar = GRAMMARS.get(part.system or "")
            return (
                Check(grammar.fullmatch(code) is not None) if grammar and not part.reason else Check(None, part.reason)
            )
        if code in part.codes:
            return _YES
        concept = part.system_definition.find(code) if part.system_definition else None
        return Check(concept is not None and concept.code in part.codes)

    # Expansion

    def expand(self, value_set: str, text: str = "") -> list[Coding]:
        """The codes of a value set, in its order; with `text`, those whose code or display contains it.

        Raises TerminologyError when a part of the set cannot be enumerated from the loaded packages.
        """
        wanted = _plain(text)
        return [
            coding
            for coding in self._expanded(value_set, {})
            if wanted in _plain(coding.display) or wanted in _plain(coding.code)
        ]

    def _expanded(self, url: str, known: dict[str, list[Coding] | None]) -> list[Coding]:
        """`known` has the value sets that were expanded on the way, and None for those that this one is part of."""
        if url not in known:
            known[url] = None
            known[url] = self._gathered(url, known)
        expanded = known[url]
        if expanded is None or len(known) > _MAX_SETS:
            raise TerminologyError(Message("value-set-nested", value_set=url))
        return expanded

    def _gathered(self, url: str, known: dict[str, list[Coding] | None]) -> list[Coding]:
        found = self._value_set(url)
        if found is None:
            raise TerminologyError(Message("value-set-unknown", value_set=url))
        if found.reason:
            raise TerminologyError(found.reason)
        listed: dict[tuple[str, str], Coding] = {}
        read = 0
        for parts, is_included in ((found.includes, True), (found.excludes, False)):
            for part in parts:
                codings = self._expanded_part(part, known)
                read += len(codings)
                if read > _MAX_LISTED:
                    raise TerminologyError(Message("value-set-large", value_set=url))
                for coding in codings:
                    if is_included:
                        listed.setdefault((coding.system, coding.code), coding)
                    else:
                        listed.pop((coding.system, coding.code), None)
        return list(listed.values())

    def _expanded_part(self, part: _Part, known: dict[str, list[Coding] | None]) -> list[Coding]:
        lists = [self._expanded(url, known) for url in part.value_sets]
        if part.system is not None:
            if part.codes is None:
                raise TerminologyError(part.reason or Message("system-grammar", system=part.system))
            lists.insert(0, [Coding(part.system, code, display) for code, display in part.codes.items()])
        common = (
            set.intersection(*({(each.system, each.code) for each in codes} for codes in lists)) if lists else set()
        )
        return [each for each in lists[0] if (each.system, each.code) in common] if lists else []

    # Reading value sets

    def _value_set(self, url: str) -> _ValueSet | None:
        if url not in self._sets:
            found = self._registry.find_any_version("ValueSet", url)
            made = self._read_value_set(url, found) if found else self._implicit_value_set(url)
            if made is None:
                return None
            self._sets[url] = made
        return self._sets[url]

    def _read_value_set(self, url: str, definition: Definition) -> _ValueSet | None:
        is_posted = definition.package == POSTED
        found = _ValueSet(url, [], [])
        try:
            compose = definition.resource.get("compose")
            if compose is None:
                found.includes = self._expansion_parts(definition.resource)
                return found
            read = 0
            for parts, key in ((found.includes, "include"), (found.excludes, "exclude")):
                for each in compose.get(key, ()):
                    part = self._part(each, is_posted=is_posted)
                    parts.append(part)
                    read += len(part.codes or ())
                    if read > _MAX_LISTED:
                        return _ValueSet(url, [], [], Message("value-set-large", value_set=url))
        except DEFINITION_FAULTS:
            return None
        return found

    def _implicit_value_set(self, url: str) -> _ValueSet | None:
        plain = url.partition("|")[0]
        if listed := definitions.value_set(plain):
            return _ValueSet(url, [self._listed_part(system, codes) for system, codes in listed.items()], [])
        system = WHOLE_SYSTEMS.get(plain) or self._system_of_implicit_set(plain)
        return _ValueSet(url, [self._part({"system": system})], []) if system else None

    def _listed_part(self, system: str, codes: Iterable[str]) -> _Part:
        """Codes of a required value set of R4, which Relais knows without a package."""
        known = self.code_system(system)
        found = {code: known.find(code) if known else None for code in sorted(codes)}
        displays = {code: concept.display if concept else "" for code, concept in found.items()}
        return _Part(system, known, displays, None, ())

    def _system_of_implicit_set(self, url: str) -> str | None:
        """The code system whose `valueSet` names the value set of all its codes."""
        if self._implicit is None:
            self._implicit = {
                definition.resource["valueSet"].partition("|")[0]: definition.header.url
                for definition in self._registry.definitions("CodeSystem")
                if "valueSet" in definition.resource
            }
        return self._implicit.get(url)

    def _expansion_parts(self, value_set: Resource) -> list[_Part]:
        codes: dict[str, dict[str, str]] = {}
        for each in _contained(value_set.get("expansion", {}).get("contains", ())):
            if "code" in each:
                codes.setdefault(each.get("system", ""), {})[each["code"]] = each.get("display", "")
        return [_Part(system, self.code_system(system), listed, None, ()) for system, listed in codes.items()]

    def _part(self, include: Resource, *, is_posted: bool = False) -> _Part:
        system = include.get("system")
        value_sets = tuple(include.get("valueSet", ()))
        if system is None:
            return _Part(None, None, None, None, value_sets)
        definition = self.code_system(system)
        codes, reason = self._codes(include, system, definition, is_posted=is_posted)
        return _Part(system, definition, codes, reason, value_sets)

    def _codes(
        self, include: Resource, system: str, definition: CodeSystem | None, *, is_posted: bool
    ) -> tuple[Mapping[str, str] | None, Message | None]:
        """The codes of an include by code with their displays, or None and the reason why they cannot be enumerated."""
        if "concept" in include:
            return {each["code"]: each.get("display", "") for each in include["concept"]}, None
        filters = include.get("filter", ())
        if definition is None:
            is_grammar = system in GRAMMARS and not filters
            return None, None if is_grammar else Message("system-unknown", system=system)
        if not definition.is_complete:
            return None, Message("system-incomplete", system=system)
        kept = set(definition.concepts)
        for each in filters:
            passing = FILTERS.get(each.get("op", ""))
            if passing is None or (is_posted and each["op"] == "regex"):
                return None, Message("filter-unknown", operator=each.get("op", ""))
            try:
                kept &= passing(definition, each.get("property", ""), each.get("value", ""))
            except re.error:
                return None, Message("filter-unknown", operator="regex")
        return {code: concept.display for code, concept in definition.concepts.items() if code in kept}, None

    # Translation

    def with_value_set(self, resource: Resource) -> tuple[Terminology, str]:
        """A terminology that has a value set besides, which a client gave, and the name of that value set in it."""
        name = "urn:relais:posted"
        registry = self._registry.copy()
        registry.add_address(name, Definition.of(msgspec.json.encode(resource), POSTED))
        return Terminology(registry), name

    def translate(
        self, code: str, system: str, concept_map: str = "", target: str = "", *, reverse: bool = False
    ) -> list[Match]:
        """What a code becomes, by one concept map or by all, into one target system or value set or into any.

        `reverse` goes from the targets of the maps to their sources. Raises TerminologyError when the concept map is
        not loaded.
        """
        found = self._registry.find("ConceptMap", concept_map) if concept_map else None
        if concept_map and found is None:
            raise TerminologyError(Message("concept-map-unknown", concept_map=concept_map))
        definitions = [found] if found else self._registry.definitions("ConceptMap")
        return [
            match
            for definition in definitions
            for match in matches(reversed_map(definition.resource) if reverse else definition.resource, code, system)
            if target in ("", match.target.system, *ends(definition.resource, "source" if reverse else "target"))
        ]


def _any(checks: Iterable[Check]) -> Check:
    """The first yes; else what could not be checked; else no."""
    unknown: Check | None = None
    for check in checks:
        if check.result:
            return check
        if check.result is None:
            unknown = check
    return unknown or Check(result=False)


def _contained(contains: Iterable[Resource]) -> Iterator[Resource]:
    for each in contains:
        yield each
        yield from _contained(each.get("contains", ()))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
