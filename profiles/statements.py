"""Single statements of an ElementDefinition as checks: values, types, lengths, limits, references, invariants
(http://hl7.org/fhir/R4/elementdefinition.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from relais.profiles import definitions
from relais.profiles.fhirpath import FhirPathError, FhirPathSyntaxError, compile_expression
from relais.profiles.fhirpath.items import IncomparableError, Item, compare
from relais.profiles.issues import Severity
from relais.profiles.messages import Message, RuleText
from relais.profiles.places import Spot
from relais.profiles.prose import prose_check
from relais.profiles.references import type_named
from relais.profiles.run import Check, Run

_SHOWN_CHARACTERS = 160
_BEST_PRACTICE = "http://hl7.org/fhir/StructureDefinition/elementdefinition-bestpractice"
_ANY_RESOURCE = frozenset({"Resource", "DomainResource"})
_RESOURCES = definitions.resource_types()


# Values ---------------------------------------------------------------------------------------------------------------


def value_check(kind: str, expected: Any, profile: str) -> Check:
    """A fixed value (`kind` fixed: nothing else, nothing more) or a pattern (at least that)."""
    matches = is_same if kind == "fixed" else matches_pattern
    message = Message(f"value-{kind}", expected=_shown(expected), profile=profile)

    def check_value(spot: Spot, run: Run) -> None:
        if not matches(spot.value, expected):
            run.error("invariant", spot.where, message, kind)

    return check_value


def is_same(value: Any, expected: Any) -> bool:
    """Whether a value is exactly another; `true` is not 1."""
    if isinstance(expected, dict):
        return (
            isinstance(value, dict)
            and value.keys() == expected.keys()
            and all(is_same(value[key], each) for key, each in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(value, list)
            and len(value) == len(expected)
            and all(is_same(one, each) for one, each in zip(value, expected, strict=True))
        )
    return type(value) is type(expected) and value == expected


def matches_pattern(value: Any, pattern: Any) -> bool:
    """Whether a value has at least what a pattern has; each item of a list in the pattern is matched by some item."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(matches_pattern(value.get(key), each) for key, each in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches_pattern(one, each) for one in value) for each in pattern)
    return is_same(value, pattern)


def _shown(expected: Any) -> str:
    text = expected if isinstance(expected, str) else msgspec.json.encode(expected).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def type_check(allowed: frozenset[str], profile: str) -> Check:
    """A value of one of these types."""
    message = Message("type", types=", ".join(sorted(allowed)), profile=profile)

    def check_type(spot: Spot, run: Run) -> None:
        if spot.type not in allowed:
            run.error("invariant", spot.where, message, "type")

    return check_type


def length_check(definition: Mapping[str, Any], profile: str) -> Iterator[Check]:
    """`maxLength`."""
    if "maxLength" not in definition:
        return
    most = int(definition["maxLength"])
    message = Message("too-long", maximum=most, profile=profile)

    def check_length(spot: Spot, run: Run) -> None:
        if isinstance(spot.value, str) and len(spot.value) > most:
            run.error("too-long", spot.where, message, "length")

    yield check_length


def limit_check(definition: Mapping[str, Any], profile: str) -> Iterator[Check]:
    """`minValue[x]` and `maxValue[x]`."""
    for key, value in definition.items():
        for prefix, sign in (("minValue", -1), ("maxValue", 1)):
            if key.startswith(prefix):
                type_name = key.removeprefix(prefix)
                limit = Item(value, type_name if type_name == "Quantity" else type_name[0].lower() + type_name[1:])
                yield _limit(limit, sign, Message(prefix, limit=_shown(value), profile=profile))


def _limit(limit: Item, sign: int, message: Message) -> Check:
    def check_limit(spot: Spot, run: Run) -> None:
        if spot.value is None:
            return
        try:
            difference = compare(spot, limit)
        except IncomparableError:
            return  # another type of the choice
        if difference == sign:
            run.error("invariant", spot.where, message, "limit")

    return check_limit


# References -----------------------------------------------------------------------------------------------------------


def reference_check(
    targets: Mapping[str, str | None], aggregation: Iterable[str], known: Iterable[str], profile: str
) -> Check:
    """A Reference whose target is one of `targets` (resource type by profile, None where the profile is unknown).

    The target is looked into when it is contained or in the same Bundle. `known` are the types that the base check
    compares with what the reference itself says.
    """
    types = frozenset(name for name in targets.values() if name)
    is_open = None in targets.values() or bool(types & _ANY_RESOURCE)
    is_known = types == frozenset(known)
    ways = frozenset(aggregation)
    wrong_type = Message("reference-type", types=", ".join(sorted(types)), profile=profile)
    wrong_way = Message("reference-aggregation", ways=", ".join(sorted(ways)), profile=profile)

    def check_reference(spot: Spot, run: Run) -> None:
        text = spot.value.get("reference") if isinstance(spot.value, dict) else None
        target = run.resolve(text) if isinstance(text, str) else None
        named = target.type if target is not None else type_named(spot.value)
        stated = spot.value.get("type") if isinstance(spot.value, dict) else None
        if not is_open and not types.issuperset(name for name in (named, stated) if isinstance(name, str)):
            is_said = is_known and (target is None or str(text).startswith("#")) and stated in (None, *_RESOURCES)
            if not is_said:
                run.error("invariant", spot.where, wrong_type, "reference-target")
            return
        if ways and isinstance(text, str) and not _is_reached(text, target, ways):
            run.error("invariant", spot.where, wrong_way, "reference-aggregation")
        if target is not None:
            _check_target(spot, target, targets, run)

    return check_reference


def _is_reached(text: str, target: Spot | None, ways: frozenset[str]) -> bool:
    if text.startswith("#"):
        return "contained" in ways
    return "referenced" in ways or ("bundled" in ways and target is not None)


def _check_target(spot: Spot, target: Spot, targets: Mapping[str, str | None], run: Run) -> None:
    candidates = [url for url, name in targets.items() if name is None or name == target.type or name in _ANY_RESOURCE]
    if any(_is_base(url, target.type) for url in candidates):
        return
    checks = [run.profiles.profile_check(url) for url in candidates]
    if not any(run.conforms(check, target) for check in checks):
        names = ", ".join(url.rpartition("/")[2] for url in candidates)
        run.error("invariant", spot.where, Message("reference-profile", profiles=names), "reference-profile")


def _is_base(url: str, type_name: str) -> bool:
    """Whether a target says no more than a type: what every resource of the type is checked for anyway."""
    name = url.partition("|")[0].removeprefix("http://hl7.org/fhir/StructureDefinition/")
    return name == type_name or name in _ANY_RESOURCE


# Invariants -----------------------------------------------------------------------------------------------------------


def invariant_check(constraint: Mapping[str, Any], profile: str) -> Check:
    """A rule in FHIRPath. One without an expression, or that cannot be evaluated, is reported as not checked."""
    key = str(constraint.get("key", ""))
    text = constraint.get("expression")
    if not text:
        if (coded := prose_check(key, profile)) is not None:
            return coded
        return _never_checked(key, Message("invariant-prose", key=key, human=constraint.get("human", "")))
    try:
        expression = compile_expression(str(text))
    except FhirPathSyntaxError as error:
        return _never_checked(key, Message("invariant-error", key=key, reason=str(error)))
    origin = str(constraint.get("source") or _origin(key, str(text)) or profile).rpartition("/")[2]
    human = RuleText(key, str(constraint.get("human", "")))
    message = Message("invariant", human=human, profile=origin.partition("|")[0])
    severity = _severity(constraint)

    def check_invariant(spot: Spot, run: Run) -> None:
        try:
            if not expression.holds(spot, run.environment):
                run.add(severity, "invariant", spot.where, message, key)
        except FhirPathError as error:
            run.not_checked(spot.where, Message("invariant-error", key=key, reason=str(error)), "warning")

    return check_invariant


def _origin(key: str, expression: str) -> str:
    """The type of R4 whose rule it is, or empty."""
    rules = definitions.all_invariants().items()
    return next((path for path, filed in rules if any((r.key, r.expression) == (key, expression) for r in filed)), "")


def _severity(constraint: Mapping[str, Any]) -> Severity:
    is_advice = any(
        each.get("url") == _BEST_PRACTICE and each.get("valueBoolean") is True
        for each in constraint.get("extension", ())
    )
    return "warning" if is_advice or constraint.get("severity") == "warning" else "error"


def _never_checked(key: str, reason: Message) -> Check:
    def check_nothing(spot: Spot, run: Run) -> None:
        run.not_checked_once(spot.where, reason, "invariant", key)

    return check_nothing
