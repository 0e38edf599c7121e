"""Resources made from snapshots: the smallest that conform to a profile, and one for each constraint that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from relais.profiles import definitions
from relais.profiles.code_systems import Coding
from relais.profiles.definitions import Element
from relais.profiles.elements import ElementNode, ElementTree
from relais.profiles.rules import RuleCompiler
from relais.profiles.snapshots import TYPE_URL, SnapshotError
from relais.profiles.terminology import Terminology, TerminologyError
from relais.profiles.validator import Validator

Resource = dict[str, Any]
Fault = Literal["missing", "too-many", "forbidden", "value", "code", "type", "target"]

SAMPLES: dict[str, Any] = {
    "base64Binary": "AAAA",
    "boolean": True,
    "canonical": "http://example.org/canonical",
    "code": "sample",
    "date": "2024-05-06",
    "dateTime": "2024-05-06",
    "decimal": 1,
    "id": "sample",
    "instant": "2024-05-06T07:08:09Z",
    "integer": 1,
    "markdown": "sample",
    "oid": "urn:oid:1.2.3",
    "positiveInt": 1,
    "string": "sample",
    "time": "07:08:09",
    "unsignedInt": 1,
    "uri": "http://example.org/uri",
    "url": "http://example.org/url",
    "uuid": "urn:uuid:4b7a4a9c-6d1e-4f0c-9a0b-2f6f3c9d1e52",
    "xhtml": '<div xmlns="http://www.w3.org/1999/xhtml">sample</div>',
}

COMPANIONS: dict[str, Resource] = {
    # what invariants of R4 want besides required elements
    "Address": {"city": "Sample"},
    "Age": {"value": 3, "unit": "a", "system": "http://unitsofmeasure.org", "code": "a"},
    "Annotation": {"text": "sample"},
    "Appointment": {"start": "2024-05-06T07:08:09Z", "end": "2024-05-06T08:08:09Z"},
    "Appointment.participant": {"actor": {"display": "sample"}},
    "Attachment": {"url": "http://example.org/document"},
    "Bundle.entry": {"fullUrl": "urn:uuid:4b7a4a9c-6d1e-4f0c-9a0b-2f6f3c9d1e52"},
    "CodeableConcept": {"text": "sample"},
    "Coding": {"display": "sample"},
    "ContactPoint": {"system": "phone", "value": "0102030405"},
    "Duration": {"value": 3, "unit": "h", "system": "http://unitsofmeasure.org", "code": "h"},
    "HumanName": {"family": "Sample"},
    "Identifier": {"system": "urn:oid:1.2.3.4", "value": "1"},
    "Meta": {"versionId": "1"},
    "Organization": {"name": "Sample"},
    "Parameters.parameter": {"valueString": "sample"},
    "Patient.contact": {"name": {"family": "Sample"}},
    "Period": {"start": "2024-05-06"},
    "Quantity": {"value": 1},
    "Range": {"low": {"value": 1}},
    "Ratio": {"numerator": {"value": 1}, "denominator": {"value": 1}},
    "Reference": {"display": "sample"},
    "SampledData": {"origin": {"value": 1}, "period": 1, "dimensions": 1},
    "Timing": {"event": ["2024-05-06"]},
}

NEEDED: dict[str, tuple[str, ...]] = {
    "fr-core-1": ("Patient.identifier:INS-NIR", "Patient.extension:identityReliability"),
    "vs-2": ("Observation.value[x]",),
    "vs-3": ("Observation.component.value[x]",),
}
"""Elements (ids or paths) that invariants of profiles ask for, by the key of the invariant."""

_PREFERRED_CODES = {
    "http://hl7.org/fhir/ValueSet/bundle-type": "collection",
    "http://hl7.org/fhir/ValueSet/http-verb": "POST",
}
_ALWAYS_WHOLE = frozenset({"ContactPoint", "Identifier"})
_WITH_REQUEST = frozenset({"batch", "transaction", "history"})
_FREE = frozenset({"uri", "url", "canonical"})
_USES = "http://example.org/uses"
_MAX_DEPTH = 14
_WRONG_TARGET = "Basic"


@dataclass(frozen=True, slots=True)
class Breach:
    """One constraint of a snapshot and how it is to be broken."""

    profile: str
    element: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.profile.rpartition('/')[2]} {self.element} {self.fault}"


class Instances:
    """Makes resources for the profiles that a validator knows."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator
        self._compiler = RuleCompiler(validator.registry)
        self._codes = _FirstCodes(Terminology(validator.registry))

    def tree(self, profile: str) -> ElementTree:
        """The snapshot of a profile."""
        return self._compiler.tree(profile)

    def minimal(self, profile: str, wanted: frozenset[str] = frozenset(), breach: Breach | None = None) -> Resource:
        """The smallest resource that a profile asks for, with the optional elements in `wanted` (ids)."""
        return _Builder(self._compiler, self._codes, wanted | self._needed(profile), breach).resource(profile)

    def _needed(self, profile: str) -> frozenset[str]:
        """Optional elements without which invariants of the profile do not hold."""
        tree = self.tree(profile)
        keys = {each["key"] for node in tree for each in node.definition.get("constraint", ())}
        named = {name for key in keys & NEEDED.keys() for name in NEEDED[key]}
        return frozenset(node.id for node in tree if node.id in named or node.definition["path"] in named)

    def full(self, profile: str) -> tuple[Resource, frozenset[str]]:
        """A resource with every element that the differential names, as far as the result is valid; and their ids."""
        named = [
            str(element["id"])
            for element in self._source(profile).get("differential", {}).get("element", ())
            if "." in element.get("id", "")
        ]
        everything = frozenset(each for name in named for each in _with_owners(name))
        if self._is_valid(self.minimal(profile, everything), profile):
            return self.minimal(profile, everything), everything
        kept: frozenset[str] = frozenset()
        for name in named:
            candidate = kept | frozenset(_with_owners(name))
            if candidate != kept and self._is_valid(self.minimal(profile, candidate), profile):
                kept = candidate
        return self.minimal(profile, kept), kept

    def breaches(self, profile: str, wanted: frozenset[str]) -> Iterator[tuple[Breach, Resource]]:
        """Every constraint that a resource with the wanted elements can break, and the resource that breaks it."""
        sound: dict[frozenset[str], Resource] = {}
        for node in self.tree(profile):
            faults = faults_of(node)
            extended = wanted | frozenset(_with_owners(node.id))
            if faults and extended not in sound:
                sound[extended] = self.minimal(profile, extended)
            for fault in faults:
                breach = Breach(profile, node.id, fault)
                broken = self.minimal(profile, extended, breach)
                if broken != sound[extended]:
                    yield breach, broken

    def _source(self, profile: str) -> Resource:
        found = self._validator.registry.find("StructureDefinition", profile)
        assert found is not None
        return found.resource

    def _is_valid(self, resource: Resource, profile: str) -> bool:
        return not errors(self._validator, resource, profile)


def errors(validator: Validator, resource: Any, *profiles: str) -> list[Any]:
    """The errors of a resource against profiles."""
    return [issue for issue in validator.validate(resource, profiles) if issue.severity in ("fatal", "error")]


def faults_of(node: ElementNode) -> list[Fault]:
    """The ways in which an element of a profile can be broken, beyond what R4 says of it."""
    if node.tree.root is node:
        return []
    definition = node.definition
    base = definition.get("base", {})
    faults: list[Fault] = []
    if node.minimum > base.get("min", 0) or (node.slice_name and node.minimum):
        faults.append("missing")
    if node.maximum == 0:
        return ["forbidden"] if base.get("max") != "0" else []
    if node.maximum is not None and base.get("max") != str(node.maximum) and base.get("max") != "1":
        faults.append("too-many")
    if node.expected() is not None:
        faults.append("value")
    if definition.get("binding", {}).get("strength") == "required" and "valueSet" in definition["binding"]:
        faults.append("code")
    if node.is_choice and len(node.type_codes()) < 5:
        faults.append("type")
    if any("targetProfile" in each for each in node.types()):
        faults.append("target")
    return faults


def _with_owners(element_id: str) -> Iterator[str]:
    steps = element_id.split(".")
    for count in range(2, len(steps) + 1):
        name = ".".join(steps[:count])
        yield name
        head, colon, _ = name.rpartition(":")
        if colon and "." not in name[len(head) :]:
            yield head


class _FirstCodes:
    """The code of each value set that instances take: the first."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology
        self._known: dict[str, Coding | None] = {}

    def of(self, value_set: str) -> Coding | None:
        """None for a value set without codes, or that cannot be enumerated."""
        if value_set not in self._known:
            try:
                self._known[value_set] = next(iter(self._terminology.expand(value_set)), None)
            except TerminologyError:
                self._known[value_set] = None
        return self._known[value_set]


class _Builder:
    """Builds one resource from the views that describe it: elements of a profile, profiles that their types name."""

    def __init__(
        self, compiler: RuleCompiler, codes: _FirstCodes, wanted: frozenset[str], breach: Breach | None
    ) -> None:
        self._compiler = compiler
        self._codes = codes
        self._wanted = wanted
        self._breach = breach
        self._contained: list[Resource] = []
        self._serial = 0
        self._bundle_type = ""

    def resource(self, profile: str) -> Resource:
        tree = self._compiler.tree(profile)
        return self._resource([tree.root], tree.type, 0)

    def _resource(self, views: list[ElementNode], type_name: str, depth: int) -> Resource:
        """A resource with what its references want it to contain."""
        outer, self._contained = self._contained, []
        made = {"resourceType": type_name, **self._object(views, type_name, depth)}
        contained = [*made.get("contained", ()), *self._contained]
        self._contained = outer
        if contained:
            made["contained"] = contained
            for each in contained:
                each.setdefault("id", self._id())
            uses = [{"url": _USES, "valueReference": {"reference": f"#{each['id']}"}} for each in contained]
            made["extension"] = [*made.get("extension", ()), *uses]
        return made

    def _id(self) -> str:
        self._serial += 1
        return f"c{self._serial}"

    def _is_broken(self, views: list[ElementNode], fault: Fault) -> bool:
        breach = self._breach
        return (
            breach is not None
            and breach.fault == fault
            and any(view.id == breach.element and view.tree.url == breach.profile for view in views)
        )

    # Objects

    def _object(self, views: list[ElementNode], type_name: str, depth: int) -> Resource:
        made: Resource = {}
        for element in definitions.elements(type_name) if depth < _MAX_DEPTH else ():
            children = [child for view in views if (child := view.referred().children.get(element.stem)) is not None]
            self._element(made, element, children, depth)
            if element.name == "type" and type_name == "Bundle":
                self._bundle_type = made["type"]
        if type_name == "Extension":
            self._complete_extension(made, views, depth)
        if type_name == "Bundle.entry":
            self._complete_entry(made, views, depth)
        companions = COMPANIONS.get(type_name, {})
        is_whole = not made or definitions.type_definition(type_name).kind != "complex" or type_name in _ALWAYS_WHOLE
        for key in companions if is_whole else ():
            stated = (child.expected() for view in views if (child := view.children.get(key)) is not None)
            expected = next((each[1] for each in stated if each is not None), companions[key])
            made.setdefault(key, copy.deepcopy(expected))
        return made

    def _complete_entry(self, made: Resource, views: list[ElementNode], depth: int) -> None:
        """Give an entry a resource, and a request where its Bundle wants one."""
        if "resource" not in made:
            made["resource"] = {"resourceType": "Basic", "code": {"text": "sample"}}
        if self._bundle_type in _WITH_REQUEST and "request" not in made:
            known = {element.stem: element for element in definitions.elements("Bundle.entry")}
            stated = [child for view in views if (child := view.children.get("request")) is not None]
            made["request"] = self._value(stated, known["request"], depth)[1]

    def _complete_extension(self, made: Resource, views: list[ElementNode], depth: int) -> None:
        """Give an extension a value, or its first part, when nothing in it is required."""
        if made.keys() - {"url"}:
            return
        known = {element.stem: element for element in definitions.elements("Extension")}
        children = {
            stem: [child for view in views if (child := view.children.get(stem)) is not None]
            for stem in ("value", "extension")
        }
        if not any(view.maximum == 0 for view in children["value"]):
            key, value = self._value(children["value"], known["value"], depth)
            made[key] = value
            return
        part = next(each for view in children["extension"] for each in view.slices)
        made["extension"] = [self._value([part, *children["extension"]], known["extension"], depth)[1]]

    def _element(self, made: Resource, element: Element, views: list[ElementNode], depth: int) -> None:
        """Add an element with its slices, when it is required or wanted."""
        if not views and not element.required:
            return
        slices = [each for view in views for each in view.slices]
        values: list[tuple[str, Any]] = []
        for each in slices:
            if self._is_broken([each], "missing"):
                continue
            count = each.minimum or (each.id in self._wanted and each.maximum != 0) or 0
            if self._is_broken([each], "too-many"):
                count = (each.maximum or 0) + 1
            if self._is_broken([each], "forbidden"):
                count = 1
            values.extend(self._value([each, *views], element, depth) for _ in range(count))
        needed = max([int(element.required), *(view.minimum for view in views)])
        is_wanted = any(view.id in self._wanted for view in views) and not values
        needed = max(needed, int(is_wanted))
        if any(view.maximum == 0 for view in views):
            needed = 0
        if self._is_broken(views, "too-many"):
            needed = max(view.maximum or 0 for view in views if view.id == self._breach.element) + 1  # type: ignore[union-attr]
        if self._is_broken(views, "forbidden"):
            needed = 1
        if self._is_broken(views, "missing"):
            needed, values = 0, []
        while len(values) < needed:
            values.append(self._value(views, element, depth))
        for key, value in values:
            if element.many:
                made.setdefault(key, []).append(value)
            else:
                made[key] = value

    # Values

    def _value(self, views: list[ElementNode], element: Element, depth: int) -> tuple[str, Any]:
        """One value of an element, under its JSON name."""
        names = element.json_names()
        codes = next((view.type_codes() for view in views if view.type_codes()), list(element.types))
        if element.is_choice:
            allowed = [code for code in codes if code in names.values()] or list(names.values())
            if self._is_broken(views, "type"):
                allowed = [
                    each
                    for each in ("boolean", "dateTime", "string", "Period")
                    if each in names.values() and each not in allowed
                ]
                allowed = allowed or list(names.values())
            key = next(key for key, name in names.items() if name == allowed[0])
            type_name = allowed[0]
        else:
            key, type_name = element.name, element.types[0]
        if type_name == "Resource":
            type_name = next((code for code in codes if code in definitions.resource_types()), "Basic")
        views = [*views, *self._described(views, type_name)]
        value = self._plain_value(views, element, type_name, depth)
        if self._is_broken(views, "value"):
            value = _different(value)
        return key, value

    def _described(self, views: list[ElementNode], type_name: str) -> list[ElementNode]:
        """The roots of the profiles that the views name for the type."""
        found = []
        for view in views:
            for stated in view.types():
                profiles = stated.get("profile", ())
                if profiles and stated.get("code") == type_name:
                    try:
                        found.append(self._compiler.tree(profiles[0]).root)
                    except SnapshotError:
                        continue
        return found

    def _plain_value(self, views: list[ElementNode], element: Element, type_name: str, depth: int) -> Any:
        expected = next((view.expected() for view in views if view.expected()), None)
        if expected is not None and expected[0] == "fixed":
            return copy.deepcopy(expected[1])
        if type_name in definitions.primitive_types():
            return expected[1] if expected else self._primitive(views, element, type_name)
        if type_name in definitions.resource_types():
            return self._resource(views, type_name, depth + 1)
        built = self._object(views, type_name, depth + 1) if depth < _MAX_DEPTH else {}
        stated = {key: value for key, value in built.items() if value != COMPANIONS.get(type_name, {}).get(key)}
        if type_name == "Reference":
            made = self._reference(views, element, depth)
            if "type" in stated:
                made["type"] = made["reference"].partition("/")[0]
            return _merged(stated, made)
        if expected is not None:
            return _merged(stated, expected[1])
        if not stated.keys() & {"coding", "code", "system"} and (coded := self._coded(views, type_name)) is not None:
            return _merged(stated, coded)
        return built or copy.deepcopy(COMPANIONS.get(type_name, {}))

    def _primitive(self, views: list[ElementNode], element: Element, type_name: str) -> Any:
        if self._is_broken(views, "code"):
            return "no-such-code"
        if type_name in _FREE:
            return self._uuid() if element.name == "fullUrl" else SAMPLES[type_name]
        if element.binding in _PREFERRED_CODES:
            return _PREFERRED_CODES[element.binding]
        for value_set in [*self._value_sets(views), element.binding]:
            if value_set and (listed := self._codes.of(value_set)):
                return listed.code
        if element.name == "contentType":
            return "application/pdf"
        if element.name == "language":
            return "fr"
        return SAMPLES[type_name]

    def _coded(self, views: list[ElementNode], type_name: str) -> Resource | None:
        if type_name not in ("Coding", "CodeableConcept", "Quantity"):
            return None
        coding = None
        for value_set in self._value_sets(views):
            if listed := self._codes.of(value_set):
                coding = {"system": listed.system, "code": listed.code}
                break
            if system := self._unlisted_system(value_set):
                coding = {"system": system, "code": "sample"}
        if self._is_broken(views, "code"):
            coding = {"system": "http://example.org/no-such-system", "code": "no-such-code"}
        if coding is None:
            return None
        if type_name == "Quantity":
            return {"value": 1, **coding}
        return coding if type_name == "Coding" else {"coding": [coding]}

    def _value_sets(self, views: list[ElementNode]) -> list[str]:
        bindings = [view.definition.get("binding", {}) for view in views]
        return [str(each["valueSet"]) for each in bindings if "valueSet" in each and each.get("strength") != "example"]

    def _unlisted_system(self, value_set: str) -> str:
        """The code system of a value set that cannot be enumerated."""
        found = self._compiler.registry.find_any_version("ValueSet", value_set)
        includes = found.resource.get("compose", {}).get("include", ()) if found else ()
        return next((each["system"] for each in includes if "system" in each), "")

    def _reference(self, views: list[ElementNode], element: Element, depth: int) -> Resource:
        stated = next((each for view in views for each in view.types() if each.get("targetProfile")), {})
        targets = [str(url) for url in stated.get("targetProfile", ())]
        target = targets[0] if targets else f"{TYPE_URL}{(element.targets or ('Patient',))[0]}"
        name = self._type_of(target)
        if self._is_broken(views, "target"):
            return {"reference": f"{_WRONG_TARGET}/1"}
        if stated.get("aggregation") == ["contained"] and depth < 6:
            inner = self._resource([self._compiler.tree(target).root], name, depth + 4)
            inner["id"] = self._id()
            self._contained.append(inner)
            return {"reference": f"#{inner['id']}"}
        return {"reference": f"{name}/1"}

    def _type_of(self, target: str) -> str:
        try:
            name = self._compiler.tree(target).type
        except SnapshotError:
            name = target.rpartition("/")[2]
        return name if name in definitions.resource_types() else "Patient"

    def _uuid(self) -> str:
        self._serial += 1
        return f"urn:uuid:4b7a4a9c-6d1e-4f0c-9a0b-{self._serial:012x}"


def _merged(base: Any, over: Any) -> Any:
    """One value with what another adds or replaces; lists side by side."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {
            **base,
            **{key: _merged(base[key], value) if key in base else copy.deepcopy(value) for key, value in over.items()},
        }
    if isinstance(base, list) and isinstance(over, list):
        rest = base[len(over) :]
        return [*(_merged(one, other) for one, other in zip(base, over, strict=False)), *over[len(base) :], *rest]
    return copy.deepcopy(over)


def _different(value: Any) -> Any:
    """Another value of the same shape."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}x" if not value.startswith(("http", "urn")) else f"{value}/other"
    if isinstance(value, dict):
        return {key: each if key == "extension" else _different(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_different(each) for each in value]
    return value + 1
