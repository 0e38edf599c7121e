"""The validator: a resource against R4, the profiles it claims and those it is asked to meet
(http://hl7.org/fhir/R4/validation.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from threading import RLock
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from relais.profiles import definitions
from relais.profiles.issues import Issue
from relais.profiles.messages import Language, Message
from relais.profiles.packages import Registry
from relais.profiles.places import Spot, render
from relais.profiles.resources import ResourceRules
from relais.profiles.rules import RuleCompiler
from relais.profiles.run import Run
from relais.profiles.snapshots import TYPE_URL
from relais.profiles.structure import check as check_structure
from relais.profiles.terminology import Terminology

Mode = Literal["create", "update", "delete", "profile"]
"""What `$validate` is asked about: the resource as it would be written, the deletion of it, or its profile only."""

MODES: tuple[Mode, ...] = get_args(Mode)

_NOT_REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Validator:
    """Validates resources against the profiles of a registry. One for each process: what is compiled is kept.

    Threads may share it; they validate one after the other, for what one needs is compiled for all.
    """

    def __init__(self, registry: Registry, language: Language = "en") -> None:
        self.registry = registry
        self.terminology = Terminology(registry)
        self._language: Language = language
        self._compiler = RuleCompiler(registry)
        self._resource_rules = ResourceRules(registry)
        self._turn = RLock()

    def validate(
        self,
        resource: Any,
        profiles: Iterable[str] = (),
        mode: Mode | None = None,
        *,
        language: Language | None = None,
        must_support: bool = False,
        required: Mapping[str, tuple[str, ...]] = _NOT_REQUIRED,
    ) -> list[Issue]:
        """Every issue of a resource as parsed from JSON (numbers as `int` and `Decimal`), most severe first.

        Checks base R4, the profiles in `meta.profile` of the resource and of those inside it, and `profiles` (canonical
        URLs, with or without version) and those that `required` names for the type of a resource, whatever it claims.
        What cannot be checked is an issue with the rule `not-checked`: a warning where it was asked for, claimed or
        required, else information. `must_support` adds information for every element that must be supported and is
        absent. Takes any JSON value and never raises.
        """
        language = language or self._language
        if mode == "delete":
            return []
        with self._turn:
            return self._validate(resource, tuple(profiles), mode, language, required, must_support=must_support)

    def prepare(self, profiles: Iterable[str]) -> None:
        """Compile profiles now rather than when they are first needed: for processes that fork from this one."""
        with self._turn:
            for url in profiles:
                self._compiler.profile_check(url)

    def _validate(
        self,
        resource: Any,
        profiles: tuple[str, ...],
        mode: Mode | None,
        language: Language,
        required: Mapping[str, tuple[str, ...]],
        *,
        must_support: bool,
    ) -> list[Issue]:
        found = check_structure(resource, language)
        if _is_resource(resource):
            run = Run(self._compiler, self.terminology, required, must_support=must_support)
            run.broken = tuple(_broken_places(found))
            root = Spot(resource, resource["resourceType"], (None, resource["resourceType"], None))
            self._check(root, run, profiles, mode)
            found = [*found, *(finding.issue(language) for finding in run.findings)]
        return _in_order(found)

    def _check(self, spot: Spot, run: Run, profiles: tuple[str, ...], mode: Mode | None) -> None:
        try:
            if mode == "update" and "id" not in spot.value:
                run.error("required", spot.where, Message("update-id"), "update-id")
            held = self._check_rules(spot, run)
            run.broken += tuple(render(finding.where) for finding in run.findings if finding.severity == "error")
            self._check_profiles(held, run, profiles)
        except RecursionError:
            run.not_checked(spot.where, Message("too-deep"), "warning")

    def _check_rules(self, spot: Spot, run: Run) -> _Held:
        """Check what holds for every resource, in the resource and in those inside it."""
        inside: list[_Held] = []
        with run.inside(spot):
            self._resource_rules.check(spot, run, lambda inner, _: inside.append(self._check_rules(inner, run)))
        return _Held(spot, inside)

    def _check_profiles(self, held: _Held, run: Run, profiles: tuple[str, ...] = ()) -> None:
        """Check the profiles that are asked for, claimed or required, or else what R4 says of the type."""
        spot = held.spot
        if spot.type not in definitions.resource_types():
            return  # the base check reports it
        wanted = dict.fromkeys((*profiles, *_claims(spot.value), *run.required.get(spot.type, ())))
        known = [url for url in wanted if self._is_known(url, spot, run)]
        with run.inside(spot):
            for url in known or self._definition_of_type(spot.type):
                run.findings.extend(run.trial(self._compiler.profile_check(url), spot))
            for inner in held.inside:
                self._check_profiles(inner, run)

    def _definition_of_type(self, name: str) -> list[str]:
        """What R4 publishes of a type; without its package, the base check has said what it can."""
        url = f"{TYPE_URL}{name}"
        return [url] if self.registry.find("StructureDefinition", url) else []

    def _is_known(self, url: str, spot: Spot, run: Run) -> bool:
        if self.registry.find("StructureDefinition", url) is not None:
            return True
        other = self.registry.find("StructureDefinition", url.partition("|")[0])
        version = other.header.version if other else ""
        reason = Message("profile-version" if other else "profile-unknown", profile=url, version=version)
        run.not_checked(spot.where, reason, "warning")
        return False


def _is_resource(value: Any) -> bool:
    name = value.get("resourceType") if isinstance(value, dict) else None
    return isinstance(name, str) and name in definitions.resource_types()


class _Held(NamedTuple):
    """A resource, and those that stand inside it."""

    spot: Spot
    inside: list[_Held]


def _claims(resource: dict[str, Any]) -> list[str]:
    meta = resource.get("meta")
    claims = meta.get("profile") if isinstance(meta, dict) else None
    return [url for url in claims if isinstance(url, str)] if isinstance(claims, list) else []


_SEVERITIES = ("fatal", "error", "warning", "information")


def _in_order(issues: Iterable[Issue]) -> list[Issue]:
    """Each issue once, most severe first, in the order of discovery."""
    return sorted(dict.fromkeys(issues), key=lambda issue: _SEVERITIES.index(issue.severity))


def _broken_places(issues: Iterable[Issue]) -> Iterator[str]:
    """Where a resource breaks R4 itself; what is wrong with containment is a fault of the container."""
    for issue in issues:
        if issue.severity in ("fatal", "error"):
            is_containment = issue.rule.startswith("dom-")
            yield issue.path.rpartition(".")[0] if is_containment else issue.path
