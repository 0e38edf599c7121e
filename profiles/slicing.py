"""Slices: which values belong to which, how many there must be (http://hl7.org/fhir/R4/profiling.html#slicing).

A value belongs to the first slice whose discriminators it all meets; those for which a slice states nothing that could
be tested do not count. Where none is left the value is undecided: that is not checked, and the slice is not missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from relais.profiles.definitions import Element
from relais.profiles.elements import ElementNode
from relais.profiles.fhirpath import FhirPathError, FhirPathSyntaxError, compile_expression, syntax
from relais.profiles.fhirpath.items import is_a
from relais.profiles.fhirpath.syntax import Call, Constant, Member, Node, Special
from relais.profiles.messages import Message
from relais.profiles.places import Spot
from relais.profiles.run import Check, Run, codes_of
from relais.profiles.snapshots import SnapshotError
from relais.profiles.statements import is_same, matches_pattern

if TYPE_CHECKING:
    from relais.profiles.rules import RuleCompiler

Test = Callable[[list[Spot], Run], bool | None]
"""Whether what stands at the path of a discriminator is what a slice states; None when that cannot be told."""

_DEFAULT = "@default"


class Slicing:
    """The slices of an element."""

    def __init__(self, node: ElementNode, slices: list[Slice]) -> None:
        stated = node.definition.get("slicing", {})
        self._rules = str(stated.get("rules", "open"))
        self._is_ordered = bool(stated.get("ordered"))
        self._slices = [each for each in slices if each.name.rpartition("/")[2] != _DEFAULT]
        self._default = next((each for each in slices if each.name.rpartition("/")[2] == _DEFAULT), None)
        self._name = node.name
        self._profile = node.tree.name
        self.wants_values = any(each.minimum for each in slices)

    def check(self, owner: Spot, spots: list[Spot], run: Run) -> None:
        """Give each value to its slice, check it there, count."""
        members: dict[Slice, list[Spot]] = {each: [] for each in self._slices}
        rest: list[Spot] = []
        undecided = False
        last = -1
        for spot in spots:
            position, unsure = self._slice_of(spot, run)
            undecided = undecided or unsure
            if position is not None:
                self._check_order(position, last, rest, spot, run)
                last = max(last, position)
                members[self._slices[position]].append(spot)
            elif not unsure:
                rest.append(spot)
                self._check_unmatched(spot, run)
        for each, found in members.items():
            each.check(owner, found, run, undecided=undecided)
        if self._default is not None:
            self._default.check(owner, rest, run, undecided=undecided)
        if undecided:
            where = (owner.where, self._name, None)
            run.not_checked_once(where, Message("slice-undecided", name=self._name, profile=self._profile), id(self))

    def _slice_of(self, spot: Spot, run: Run) -> tuple[int | None, bool]:
        """The position of the slice that a value belongs to, and whether some slice could not be decided."""
        unsure = False
        found: list[int] = []
        for position, each in enumerate(self._slices):
            answer = each.holds(spot, run)
            if answer:
                found.append(position)
            unsure = unsure or answer is None
        if len(found) > 1:
            names = ", ".join(self._slices[position].name for position in found)
            message = Message("slice-ambiguous", name=self._name, slices=names, profile=self._profile)
            run.error("invariant", spot.where, message, "slice-ambiguous")
        return (found[0], False) if found else (None, unsure)

    def _check_order(self, position: int, last: int, rest: list[Spot], spot: Spot, run: Run) -> None:
        if self._is_ordered and position < last:
            message = Message("slice-order", slice=self._slices[position].name, profile=self._profile)
            run.error("invariant", spot.where, message, "slice-order")
        if rest and self._rules == "openAtEnd":
            message = Message("slice-end", slice=self._slices[position].name, profile=self._profile)
            run.error("invariant", spot.where, message, "slice-order")

    def _check_unmatched(self, spot: Spot, run: Run) -> None:
        if self._default is not None:
            return
        if self._rules == "closed":
            message = Message("slice-closed", name=self._name, profile=self._profile)
            run.error("invariant", spot.where, message, "slice-closed")
        else:
            for each in self._slices:
                each.explain(spot, run)


class Slice:
    """One slice: what makes a value belong to it, what such a value must satisfy, the slices inside it."""

    def __init__(self, node: ElementNode, tests: list[Discriminator], checks: tuple[Check, ...]) -> None:
        self.name = node.slice_name
        self._tests = tests
        self._checks = checks
        self.minimum = node.minimum
        self._maximum = node.maximum
        self._profile = node.tree.name
        self._element = node.name
        self.inner: Slicing | None = None

    def holds(self, spot: Spot, run: Run) -> bool | None:
        """Whether a value belongs to the slice; None when that cannot be told."""
        unsure = not self._tests
        for test in self._tests:
            answer = test.holds(spot, run)
            if answer is False:
                return False
            unsure = unsure or answer is None
        return None if unsure else True

    def check(self, owner: Spot, spots: list[Spot], run: Run, *, undecided: bool) -> None:
        """Check the values that belong to the slice, and how many there are."""
        for spot in spots:
            for check in self._checks:
                check(spot, run)
        if self.inner is not None:
            self.inner.check(owner, spots, run)
        count = len(spots)
        names = {"name": self._element, "slice": self.name, "profile": self._profile, "found": count}
        if count < self.minimum and not undecided:
            run.error("required", owner.where, Message("slice-too-few", minimum=self.minimum, **names), "slice-min")
        if self._maximum is not None and count > self._maximum:
            where = (owner.where, self._element, None)
            run.error("invariant", where, Message("slice-too-many", maximum=self._maximum, **names), "slice-max")

    def explain(self, spot: Spot, run: Run) -> None:
        """Say why a value that matched no slice is not in this one, where its profile alone keeps it out."""
        for test in self._tests:
            test.explain(self.name, spot, run)


# Discriminators -------------------------------------------------------------------------------------------------------


class Discriminator:
    """One discriminator of one slice: where to look, what must be there."""

    def __init__(self, path: str, statement: Statement) -> None:
        self._statement = statement
        self._step = path
        self._path = None if path == "$this" else compile_expression(path)

    def holds(self, spot: Spot, run: Run) -> bool | None:
        """Whether the value meets it; None when that cannot be told."""
        found = self._at(spot, run)
        return None if found is None else self._statement.test(found, run)

    def _at(self, spot: Spot, run: Run) -> list[Spot] | None:
        if self._path is None:
            return [spot]
        try:
            found = self._path.evaluate(spot, run.environment)
        except FhirPathError:
            return None
        where = (spot.where, self._step, None)
        return [item if isinstance(item, Spot) else Spot(item.value, item.type, where, item.extra) for item in found]

    def explain(self, name: str, spot: Spot, run: Run) -> None:
        """For a profile: that the value is of the right type, and why it does not conform."""
        profiles = self._statement.profiles
        for inner in (self._at(spot, run) or ()) if profiles else ():
            for url in (url for url, type_name in profiles if inner.type == type_name):
                found = run.trial(run.profiles.profile_check(url), inner)
                first = next((each for each in found if each.severity == "error"), None)
                if first is not None:
                    message = Message("slice-near", slice=name, profile=url.rpartition("/")[2], reason=first.message)
                    run.add("information", "informational", first.where, message, "slice-profile")


class Statement:
    """What a slice states at the path of a discriminator."""

    def __init__(self, test: Test, profiles: tuple[tuple[str, str | None], ...] = ()) -> None:
        self.test = test
        self.profiles = profiles


def compile_slicing(node: ElementNode, base: Element, owner_type: str, compiler: RuleCompiler) -> Slicing | None:
    """The slices of an element; None where it has none."""
    if not node.slices:
        return None
    discriminators = node.definition.get("slicing", {}).get("discriminator", ())
    slices = []
    for each in node.slices:
        tests = [
            Discriminator(one["path"], statement)
            for one in discriminators
            if (statement := _statement(one["type"], one["path"], each, compiler)) is not None
        ]
        made = Slice(each, tests, compiler.value_checks(each, owner_type, base))
        made.inner = compile_slicing(each, base, owner_type, compiler)
        slices.append(made)
    return Slicing(node, slices)


def _statement(kind: str, path: str, node: ElementNode, compiler: RuleCompiler) -> Statement | None:
    try:
        steps = list(_steps(syntax.parse(path)))
    except FhirPathSyntaxError:
        return None
    places = list(_reach(node, steps, compiler))
    makers: dict[str, Callable[[list[_Place], RuleCompiler], Statement | None]] = {
        "value": _value_statement,
        "pattern": _value_statement,
        "exists": _exists_statement,
        "type": _type_statement,
        "profile": _profile_statement,
    }
    maker = makers.get(kind)
    return maker(places, compiler) if maker else None


def _steps(node: Node) -> Iterator[tuple[str, str]]:
    """The path of a discriminator as (kind, argument) steps. Raises FhirPathSyntaxError for anything else."""
    match node:
        case Special("$this"):
            return
        case Member(of, name):
            yield from _steps(of) if of is not None else ()
            yield "member", name
        case Call(of, "extension", (Constant(str(url), _),)):
            yield from _steps(of) if of is not None else ()
            yield "extension", url
        case Call(of, "resolve", ()):
            yield from _steps(of) if of is not None else ()
            yield "resolve", ""
        case Call(of, "ofType", (Member(None, name),)):
            yield from _steps(of) if of is not None else ()
            yield "ofType", name
        case _:
            raise FhirPathSyntaxError("a path that no discriminator may have")


# What a slice states at a path ----------------------------------------------------------------------------------------


class _Place:
    """What is stated at a path: an element of a snapshot, or a part of a fixed or pattern value above it."""

    __slots__ = ("node", "part")

    def __init__(self, node: ElementNode | None, part: tuple[str, Any] | None = None) -> None:
        self.node = node
        self.part = part


def _reach(node: ElementNode, steps: list[tuple[str, str]], compiler: RuleCompiler) -> Iterator[_Place]:
    """Every place that a path leads to: in the snapshot, in the profiles its types name, inside fixed values."""
    if not steps:
        yield _Place(node)
        yield from (_Place(root) for root in _described(node, compiler))
        return
    (kind, argument), rest = steps[0], steps[1:]
    if kind == "resolve":
        targets = [url for each in node.types() for url in each.get("targetProfile", ())]
        for root in _roots(targets, compiler):
            yield from _reach(root, rest, compiler)
        return
    if kind == "ofType":
        yield from _reach(node, rest, compiler)
        return
    expected = node.expected()
    if expected is not None and all(each == "member" for each, _ in steps):
        for part in _parts(expected[1], [name for _, name in steps]):
            yield _Place(None, (expected[0], part))
    for owner in (node, *_described(node, compiler)):
        for child in _children(owner, kind, argument):
            yield from _reach(child, rest, compiler)


def _children(node: ElementNode, kind: str, argument: str) -> Iterator[ElementNode]:
    if kind == "member":
        child = node.referred().children.get(argument)
        if child is not None:
            yield child
            yield from child.slices
        return
    extension = node.children.get("extension")
    for each in extension.slices if extension else ():
        if argument in (url.partition("|")[0] for url in each.profiles()) or (
            (url := each.children.get("url")) is not None and url.expected() == ("fixed", argument)
        ):
            yield each


def _described(node: ElementNode, compiler: RuleCompiler) -> Iterator[ElementNode]:
    """The roots of the profiles that the types of an element name."""
    if node.tree.root is not node:
        yield from _roots(node.profiles(), compiler)


def _roots(urls: list[str], compiler: RuleCompiler) -> Iterator[ElementNode]:
    for url in urls:
        try:
            yield compiler.tree(url).root
        except SnapshotError:
            continue


def _parts(value: Any, names: list[str]) -> list[Any]:
    """What stands in a value at a path of names."""
    found = [value]
    for name in names:
        found = [
            part
            for each in found
            if isinstance(each, dict) and name in each
            for part in (each[name] if isinstance(each[name], list) else [each[name]])
        ]
    return found


# Statements -----------------------------------------------------------------------------------------------------------


def _value_statement(places: list[_Place], compiler: RuleCompiler) -> Statement | None:
    """A fixed or pattern value, or a required value set; of an element that is sliced itself, its first slice's."""
    tests = (test for place in places if (test := _value_test_of(place)) is not None)
    test = next(tests, None)
    return Statement(test) if test is not None else None


def _value_test_of(place: _Place) -> Test | None:
    expected = place.part or (place.node.expected() if place.node else None)
    if expected is not None:
        return _value_test(*expected)
    binding = place.node.definition.get("binding", {}) if place.node else {}
    if binding.get("strength") == "required" and binding.get("valueSet"):
        return _binding_test(str(binding["valueSet"]))
    return None


def _value_test(kind: str, expected: Any) -> Test:
    matches = is_same if kind == "fixed" else matches_pattern
    return lambda found, run: any(matches(item.value, expected) for item in found)


def _binding_test(value_set: str) -> Test:
    def test(found: list[Spot], run: Run) -> bool | None:
        codes = [pair for item in found for pair in codes_of(item)]
        if not codes and any(isinstance(item.value, str) for item in found):
            codes = [(None, item.value) for item in found]
        answers = [run.terminology.check(value_set, code, system).result for system, code in codes]
        return True if any(answers) else None if None in answers else False

    return test


def _exists_statement(places: list[_Place], compiler: RuleCompiler) -> Statement | None:
    for place in places:
        if place.node is None:
            continue
        if place.node.maximum == 0:
            return Statement(lambda found, run: not found)
        if place.node.minimum:
            return Statement(lambda found, run: bool(found))
    return None


def _type_statement(places: list[_Place], compiler: RuleCompiler) -> Statement | None:
    for place in places:
        if place.node is None:
            continue
        is_root = place.node.tree.root is place.node
        names = [place.node.tree.type] if is_root else place.node.type_codes()
        if names:
            return Statement(_type_test(tuple(names)))
    return None


def _type_test(names: tuple[str, ...]) -> Test:
    return lambda found, run: bool(found) and all(any(is_a(spot, name) for name in names) for spot in found)


def _profile_statement(places: list[_Place], compiler: RuleCompiler) -> Statement | None:
    for place in places:
        if place.node is None:
            continue
        is_root = place.node.tree.root is place.node
        urls = [place.node.tree.url] if is_root else place.node.profiles()
        if urls:
            return Statement(_profile_test(urls, compiler), tuple((url, _type_of(url, compiler)) for url in urls))
    return _type_statement(places, compiler)


def _type_of(url: str, compiler: RuleCompiler) -> str | None:
    found = compiler.registry.find_any_version("StructureDefinition", url)
    return str(found.header.type) if found else None


def _profile_test(urls: list[str], compiler: RuleCompiler) -> Test:
    is_known = all(_type_of(url, compiler) for url in urls)

    def test(found: list[Spot], run: Run) -> bool | None:
        for spot in found:
            if any(run.conforms(run.profiles.profile_check(url), spot) for url in urls):
                return True
        return False if is_known else None

    return test
