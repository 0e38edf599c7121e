"""Profiles compiled into checks: each element of a snapshot once, without what the base check of R4 has done already.

The base check (`relais.profiles.structure`) knows the cardinalities, types, required value sets, reference targets and
most invariants of R4. What a snapshot says beyond that becomes a list of closures over values; an element that says
nothing more has none and is never visited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import zip_longest
from typing import Any

from relais.profiles import definitions
from relais.profiles.bindings import binding_check
from relais.profiles.definitions import Element
from relais.profiles.elements import ElementNode, ElementTree
from relais.profiles.fhirpath.items import type_of
from relais.profiles.invariants import PREDICATES
from relais.profiles.messages import Message
from relais.profiles.packages import DEFINITION_FAULTS, Registry
from relais.profiles.places import Spot, Where
from relais.profiles.run import Check, Run
from relais.profiles.slicing import Slicing, compile_slicing
from relais.profiles.snapshots import TYPE_URL, SnapshotError, Snapshots
from relais.profiles.statements import (
    invariant_check,
    length_check,
    limit_check,
    reference_check,
    type_check,
    value_check,
)

_IN_CODE = frozenset({"dom-2", "dom-3", "dom-4", "dom-5", "ele-1", "ext-1", "ref-1", "txt-1", "txt-2", "sqty-1"})
_ANY_RESOURCE = frozenset({"Resource", "DomainResource"})


class RuleCompiler:
    """Compiles profiles and types when they are first needed, and keeps them."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.snapshots = Snapshots(registry)
        self._trees: dict[str, ElementTree] = {}
        self._profiles: dict[str, Check] = {}
        self._types: dict[str, tuple[Check, ...]] = {}
        self._speaking: dict[str, bool] = {}

    # Profiles

    def tree(self, canonical: str) -> ElementTree:
        """The snapshot of a structure as a tree. Raises SnapshotError for one that is unknown or faulty."""
        if canonical not in self._trees:
            found = self.registry.find_any_version("StructureDefinition", canonical)
            if found is None:
                raise SnapshotError(canonical, "profile-unknown", profile=canonical)
            self._trees[canonical] = ElementTree(found.resource, self.snapshots.of(found.resource))
        return self._trees[canonical]

    def _typed_tree(self, canonical: str) -> ElementTree:
        """As `tree`, of a structure that describes resources or data types of FHIR."""
        tree = self.tree(canonical)
        if tree.type not in definitions.types():
            raise SnapshotError(canonical, "profile-logical")
        return tree

    def profile_check(self, canonical: str) -> Check:
        """The check of all rules of a profile; one that cannot be used is reported as not checked."""
        if canonical not in self._profiles:
            self._profiles[canonical] = self._compile_profile(canonical)
        return self._profiles[canonical]

    def _compile_profile(self, canonical: str) -> Check:
        try:
            tree = self._typed_tree(canonical)
            checks = self.value_checks(tree.root, tree.type, None)
        except SnapshotError as error:
            return _unusable(error)
        except DEFINITION_FAULTS:
            return _unusable(SnapshotError(canonical, "profile-faulty"))
        expected = tree.type

        def check_profile(spot: Spot, run: Run) -> None:
            if type(spot.value) is dict and not _is_of_type(spot.type, expected):
                message = Message("profile-type", profile=tree.name, type=expected)
                run.error("invariant", spot.where, message, "profile-type")
                return
            for check in checks:
                check(spot, run)

        return check_profile

    # Values

    def value_checks(self, node: ElementNode, owner_type: str, base: Element | None) -> tuple[Check, ...]:
        """What one value of an element must satisfy; `owner_type` is the type of a root, or the one that has it."""
        return tuple(self._value_checks(node, owner_type, base))

    def _value_checks(self, node: ElementNode, owner_type: str, base: Element | None) -> Iterator[Check]:
        codes = [owner_type] if base is None else node.type_codes() or list(base.types)
        profile = node.tree.name
        if base is not None and (allowed := _narrowed(codes, base)):
            yield type_check(allowed, profile)
        if expected := node.expected():
            yield value_check(*expected, profile)
        if (binding := node.definition.get("binding")) and not _is_bound_alike(binding, base):
            yield from binding_check(binding, profile)
        yield from length_check(node.definition, profile)
        yield from limit_check(node.definition, profile)
        for constraint in node.definition.get("constraint", ()):
            if not _is_native(constraint):
                yield invariant_check(constraint, profile)
        if base is not None:
            yield from self._type_statements(node, base)
        yield from self._children(node, codes, base)

    def _type_statements(self, node: ElementNode, base: Element) -> Iterator[Check]:
        """Reference targets, and the profiles that a type names."""
        for stated in node.types():
            if stated.get("code") == "Reference" and (targets := stated.get("targetProfile")):
                types = {name: self._type_of_profile(name) for name in targets}
                yield reference_check(types, stated.get("aggregation", ()), base.targets, node.tree.name)
            if profiles := stated.get("profile"):
                yield self._conformance(str(stated["code"]), [str(each) for each in profiles], node)

    def _type_of_profile(self, canonical: str) -> str | None:
        """The resource type that a profile is about, None when the profile is unknown."""
        found = self.registry.find_any_version("StructureDefinition", canonical)
        if found is not None:
            return str(found.header.type)
        name = canonical.partition("|")[0].removeprefix(TYPE_URL)
        return name if name in definitions.resource_types() or name in _ANY_RESOURCE else None

    def _conformance(self, code: str, profiles: list[str], node: ElementNode) -> Check:
        """A value of the type conforms to one of the profiles."""
        if len(profiles) == 1:
            only = profiles[0]

            def check_only(spot: Spot, run: Run) -> None:
                if _is_of_type(spot.type, code):
                    run.findings.extend(run.trial(self.profile_check(only), spot))

            return check_only

        def check_any(spot: Spot, run: Run) -> None:
            if not _is_of_type(spot.type, code):
                return
            if not any(run.conforms(self.profile_check(each), spot) for each in profiles):
                names = ", ".join(each.rpartition("/")[2] for each in profiles)
                run.error("invariant", spot.where, Message("profile-none", profiles=names), "profile")

        return check_any

    # Children

    def _children(self, node: ElementNode, codes: list[str], base: Element | None) -> Iterator[Check]:
        described = node.referred()
        if described is not node:
            yield self._lazily(described, base)
        elif node.children:
            type_name = _owner_of_children(codes, base)
            fields = tuple(self._fields(node, type_name))
            if fields:
                yield _object_check(fields)
            if base is not None:
                yield from self._type_root_checks(type_name)
        elif base is not None and any(self._speaks(code) for code in codes):
            yield self._check_by_type

    def _lazily(self, node: ElementNode, base: Element | None) -> Check:
        """The children of an element that a content reference names: compiled when first met, for it may be above."""
        found: list[tuple[Check, ...]] = []

        def check_content(spot: Spot, run: Run) -> None:
            if not found:
                found.append(self._content_checks(node, base))
            for check in found[0]:
                check(spot, run)

        return check_content

    def _content_checks(self, node: ElementNode, base: Element | None) -> tuple[Check, ...]:
        try:
            return tuple(self._children(node, list(base.types) if base else [], base))
        except SnapshotError as error:
            return (_unusable(error),)
        except DEFINITION_FAULTS:
            return (_unusable(SnapshotError(node.tree.url, "profile-faulty")),)

    def _fields(self, node: ElementNode, type_name: str) -> Iterator[Field]:
        known = {element.stem: element for element in definitions.elements(type_name)}
        for name, child in node.children.items():
            if (base := known.get(name)) is not None:
                field = self._field(child, base, type_name)
                if field.says_something:
                    yield field

    def _field(self, node: ElementNode, base: Element, owner_type: str) -> Field:
        checks = self.value_checks(node, owner_type, base)
        return Field(node, base, checks, compile_slicing(node, base, owner_type, self))

    # Types

    def _check_by_type(self, spot: Spot, run: Run) -> None:
        """What the definition of a data type says beyond the base check."""
        for check in self._type_checks(spot.type):
            check(spot, run)

    def _type_checks(self, name: str) -> tuple[Check, ...]:
        if name not in self._types:
            self._types[name] = ()
            self._types[name] = self._checks_of_data_type(name)
        return self._types[name]

    def _checks_of_data_type(self, name: str) -> tuple[Check, ...]:
        """Compiled when a value of the type is first met, so a faulty definition is reported there as not checked."""
        try:
            tree = self._data_type(name)
            return self.value_checks(tree.root, name, None) if tree else ()
        except SnapshotError as error:
            return (_unusable(error),)
        except DEFINITION_FAULTS:
            return (_unusable(SnapshotError(f"{TYPE_URL}{name}", "profile-faulty")),)

    def _type_root_checks(self, name: str) -> Iterator[Check]:
        """The invariants of a data type, which a snapshot that unfolds the type does not repeat."""
        tree = self._data_type(name)
        for constraint in tree.root.definition.get("constraint", ()) if tree else ():
            if not _is_native(constraint):
                yield invariant_check(constraint, name)

    def _data_type(self, name: str) -> ElementTree | None:
        known = definitions.types().get(name)
        if known is None or known.kind != "complex":
            return None
        try:
            return self.tree(f"{TYPE_URL}{name}")
        except SnapshotError:
            return None

    def _speaks(self, name: str) -> bool:
        """Whether a data type, or one below it, says something that the base check does not check."""
        if name not in self._speaking:
            reached, waiting = {name}, [name]
            while waiting:
                for element in definitions.elements(waiting.pop()):
                    fresh = {each for each in element.types if each not in reached and _is_complex(each)}
                    reached |= fresh
                    waiting.extend(fresh)
            self._speaking[name] = any(self._says_something(each) for each in reached)
        return self._speaking[name]

    def _says_something(self, name: str) -> bool:
        tree = self._data_type(name)
        if tree is None:
            return False
        known = {element.stem: element for element in definitions.elements(name)}
        return any(
            not _is_native(constraint) for node in tree for constraint in node.definition.get("constraint", ())
        ) or any(
            "binding" in child.definition
            and child.definition["binding"].get("strength") != "example"
            and not _is_bound_alike(child.definition["binding"], known.get(stem))
            for stem, child in tree.root.children.items()
        )


# Fields ---------------------------------------------------------------------------------------------------------------


class Field:
    """One element of an object: its values, how many there may be, its slices."""

    __slots__ = (
        "_checks",
        "_maximum",
        "_minimum",
        "_must_support",
        "_names",
        "_profile",
        "_slicing",
        "_step",
        "_variants",
        "_wants_values",
    )

    def __init__(self, node: ElementNode, base: Element, checks: tuple[Check, ...], slicing: Slicing | None) -> None:
        self._checks = checks
        self._slicing = slicing
        self._profile = node.tree.name
        self._step = base.stem
        self._minimum = node.minimum if node.minimum > int(base.required) else 0
        most = node.maximum
        self._maximum = most if most is not None and (base.many or most == 0) else None
        self._must_support = bool(node.definition.get("mustSupport"))
        self._variants = tuple(_variant(key, name, base) for key, name in base.json_names().items())
        self._names = frozenset(name for key, extended, _, _ in self._variants for name in (key, extended))
        self._wants_values = bool(self._minimum or self._must_support or (slicing and slicing.wants_values))

    @property
    def says_something(self) -> bool:
        """Whether there is anything here that the base check does not check."""
        limited = self._minimum or self._maximum is not None
        return bool(limited or self._checks or self._slicing or self._must_support)

    def check(self, owner: Spot, run: Run) -> None:
        """Check the element in an object."""
        if self._names.isdisjoint(owner.value):
            if self._wants_values:
                self._check_values(owner, [], run)
        else:
            self._check_values(owner, self._values(owner), run)

    def _check_values(self, owner: Spot, spots: list[Spot], run: Run) -> None:
        count = len(spots)
        if count < self._minimum:
            message = Message("too-few", name=self._step, minimum=self._minimum, found=count, profile=self._profile)
            run.error("required", owner.where, message, "cardinality")
        elif self._maximum is not None and count > self._maximum:
            key = "too-many" if self._maximum else "forbidden"
            message = Message(key, name=self._step, maximum=self._maximum, found=count, profile=self._profile)
            run.error("invariant", owner.where, message, "cardinality")
        if not count and self._must_support and run.must_support:
            message = Message("must-support", name=self._step, profile=self._profile)
            run.add("information", "informational", owner.where, message, "must-support")
        for spot in spots:
            for check in self._checks:
                check(spot, run)
        if self._slicing is not None:
            self._slicing.check(owner, spots, run)

    def _values(self, owner: Spot) -> list[Spot]:
        """The values of the element; those of a primitive with what JSON keeps beside them."""
        found: list[Spot] = []
        for key, extended, step, type_name in self._variants:
            value, extra = owner.value.get(key), owner.value.get(extended)
            if value is not None or extra is not None:
                found.extend(_spots(value, extra, type_name, owner.where, step))
        return found


def _variant(key: str, type_name: str, base: Element) -> tuple[str, str, str, str]:
    """JSON property, the one beside it, step of the place, type."""
    return key, f"_{key}", f"{base.stem}.ofType({type_name})" if base.is_choice else key, type_name


def _spots(value: Any, extra: Any, type_name: str, owner: Where, step: str) -> Iterable[Spot]:
    if type(value) is not list and type(extra) is not list:
        return (Spot(value, type_of(value, type_name), (owner, step, None), extra),)
    if extra is None:
        return [Spot(each, type_of(each, type_name), (owner, step, index)) for index, each in enumerate(value)]
    values = value if type(value) is list else []
    extras = extra if type(extra) is list else []
    return [
        Spot(each, type_of(each, type_name), (owner, step, index), more)
        for index, (each, more) in enumerate(zip_longest(values, extras))
    ]


def _object_check(fields: tuple[Field, ...]) -> Check:
    checks: tuple[Callable[[Spot, Run], None], ...] = tuple(field.check for field in fields)

    def check_object(spot: Spot, run: Run) -> None:
        if type(spot.value) is dict:
            owner = spot
        elif spot.type in definitions.primitive_types():
            owner = Spot(spot.extra if type(spot.extra) is dict else {}, spot.type, spot.where)
        else:
            return  # the base check reports it
        for check in checks:
            check(owner, run)

    return check_object


# What the base check has done -----------------------------------------------------------------------------------------


def _is_native(constraint: dict[str, Any]) -> bool:
    """Whether the base check evaluates an invariant in code, with the expression and the severity that R4 publishes."""
    stated = tuple(str(constraint.get(name)) for name in ("key", "severity", "expression"))
    return stated in _native_rules()


@cache
def _native_rules() -> frozenset[tuple[str, ...]]:
    coded = {key for keys in PREDICATES.values() for key in keys} | _IN_CODE
    return frozenset(
        (rule.key, rule.severity, rule.expression)
        for rules in definitions.all_invariants().values()
        for rule in rules
        if rule.key in coded or rule.expression.startswith("name.matches(")
    )


def _is_bound_alike(binding: dict[str, Any], base: Element | None) -> bool:
    """Whether a binding is the required one of R4, whose codes the base check has."""
    if base is None or binding.get("strength") != "required":
        return False
    url = str(binding.get("valueSet", "")).partition("|")[0]
    return url == base.binding and definitions.value_set(url) is not None


def _narrowed(codes: list[str], base: Element) -> frozenset[str]:
    """The types that are allowed, when they are fewer than those of R4."""
    allowed = frozenset(codes)
    if not allowed or allowed >= frozenset(base.types) or allowed & _ANY_RESOURCE:
        return frozenset()
    if not base.is_choice and base.types != ("Resource",):
        return frozenset()
    return allowed


def _owner_of_children(codes: list[str], base: Element | None) -> str:
    """The type whose elements the children are."""
    if base is not None and len(base.types) == 1 and base.types[0] != "Resource":
        return base.types[0]
    return codes[0] if len(codes) == 1 else "Element"


def _is_of_type(name: str, wanted: str) -> bool:
    """Whether a type is another or derived from it (`SimpleQuantity` of a snapshot is a Quantity)."""
    while name:
        if name == wanted:
            return True
        found = definitions.types().get(name)
        name = found.base if found else ""
    return False


def _is_complex(name: str) -> bool:
    return definitions.type_definition(name).kind in ("complex", "backbone")


def _unusable(error: SnapshotError) -> Check:
    message = Message("profile-unusable", profile=error.issue.path, reason=error.message)

    def check_nothing(spot: Spot, run: Run) -> None:
        run.not_checked(spot.where, message, "warning")

    return check_nothing
