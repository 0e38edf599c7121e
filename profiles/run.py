"""One validation in progress: findings, the container that references are resolved in, what was tried already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from relais.profiles.fhirpath import Environment, Item
from relais.profiles.issues import Issue, Severity
from relais.profiles.messages import Language, Message
from relais.profiles.places import Spot, Where, render
from relais.profiles.references import BundleIndex, resource_by_reference
from relais.profiles.terminology import Terminology

NOT_CHECKED = "not-checked"
"""The rule of every finding that says what could not be checked."""

Check = Callable[[Spot, "Run"], None]
"""Checks a value; what is wrong goes to the run."""


class Finding(NamedTuple):
    """An issue before it is put into words."""

    severity: Severity
    code: str
    where: Where
    message: Message
    rule: str

    def issue(self, language: Language) -> Issue:
        """The finding in a language."""
        return Issue(self.severity, self.code, self.message.render(language), render(self.where), self.rule)


class ProfileSource(Protocol):
    """Gives the check of a profile by canonical URL; the check itself reports a profile that cannot be used."""

    def profile_check(self, canonical: str) -> Check:
        """The check of every rule of a profile."""
        ...


@dataclass(slots=True)
class Frame:
    """The resource being checked, the one that contains it (itself, unless it is contained), and its Bundle."""

    resource: Spot
    root: Spot
    bundle: BundleIndex | None = None
    full_url: str = ""
    environment: Environment | None = field(default=None, repr=False)

    def resolve(self, reference: str) -> Spot | None:
        """The resource that a reference names, in the same resource or Bundle; None when it is elsewhere."""
        if reference.startswith("#"):
            return resource_by_reference(self.root, reference)
        return self.bundle.find(reference, self.full_url) if self.bundle else None


class Run:
    """A validation in progress."""

    def __init__(
        self,
        profiles: ProfileSource,
        terminology: Terminology,
        required: Mapping[str, tuple[str, ...]],
        *,
        must_support: bool = False,
    ) -> None:
        self.profiles = profiles
        self.terminology = terminology
        self.required = required
        self.must_support = must_support
        self.findings: list[Finding] = []
        self.frame: Frame | None = None
        self.broken: tuple[str, ...] = ()
        self._tried: dict[tuple[int, int, Where], list[Finding] | None] = {}
        self._said: set[tuple[Any, ...]] = set()

    def add(self, severity: Severity, code: str, where: Where, message: Message, rule: str) -> None:
        """Report a finding."""
        self.findings.append(Finding(severity, code, where, message, rule))

    def error(self, code: str, where: Where, message: Message, rule: str) -> None:
        """Report an error."""
        self.findings.append(Finding("error", code, where, message, rule))

    def not_checked(self, where: Where, reason: Message, severity: Severity = "information") -> None:
        """Report what could not be checked, and why."""
        self.findings.append(
            Finding(severity, "not-supported", where, Message("not-checked", reason=reason), NOT_CHECKED)
        )

    def not_checked_once(self, where: Where, reason: Message, *key: Any) -> None:
        """As `not_checked`, for a reason that holds wherever it comes up: said where it comes up first."""
        if key not in self._said:
            self._said.add(key)
            self.not_checked(where, reason)

    def trial(self, check: Check, spot: Spot) -> list[Finding]:
        """The findings of a check that are not yet anybody's; kept, for profiles are tried again and again.

        A trial inside the same trial (profiles that refer to each other through their targets) finds nothing.
        """
        key = (id(check), id(spot.value), spot.where)
        if key not in self._tried:
            self._tried[key] = None
            outer, self.findings = self.findings, []
            try:
                with self.inside(spot):
                    check(spot, self)
                self._tried[key] = self.findings
            finally:
                self.findings = outer
        return self._tried[key] or []

    def conforms(self, check: Check, spot: Spot) -> bool:
        """Whether a check finds no error, and `broken` names no place in the value that breaks R4 itself."""
        if self.broken and self._is_broken(render(spot.where)):
            return False
        return not any(finding.severity == "error" for finding in self.trial(check, spot))

    def _is_broken(self, place: str) -> bool:
        return any(each == place or each.startswith((f"{place}.", f"{place}[")) for each in self.broken)

    # Surroundings

    @contextmanager
    def inside(self, spot: Spot) -> Iterator[None]:
        """Check what follows as part of a resource, when the value is one."""
        outer = self.frame
        if type(spot.value) is dict and "resourceType" in spot.value:
            self.frame = self._frame_of(spot)
        try:
            yield
        finally:
            self.frame = outer

    def _frame_of(self, spot: Spot) -> Frame:
        outer = self.frame
        if outer is not None and outer.resource.value is spot.value:
            return outer
        if spot.type == "Bundle":
            return Frame(spot, spot, BundleIndex(spot))
        if outer is not None and spot.where[1] == "contained":
            return Frame(spot, outer.root, outer.bundle, outer.full_url)
        bundle = outer.bundle if outer else None
        return Frame(spot, spot, bundle, bundle.full_url(spot) if bundle else "")

    def resolve(self, reference: str) -> Spot | None:
        """The resource that a reference in the current one names, when it is at hand."""
        return self.frame.resolve(reference) if self.frame else None

    @property
    def environment(self) -> Environment:
        """What FHIRPath expressions see of the current resource."""
        frame = self.frame
        if frame is None:
            return Environment()
        if frame.environment is None:
            frame.environment = Environment(
                resource=frame.resource,
                root=frame.root,
                resolve=lambda reference: found.value if (found := frame.resolve(reference)) else None,
                member_of=self._member_of,
                conforms_to=self._conforms_to,
            )
        return frame.environment

    def _member_of(self, item: Item, value_set: str) -> bool | None:
        answers = [self.terminology.check(value_set, code, system).result for system, code in codes_of(item)]
        if any(answers):
            return True
        return None if None in answers else False

    def _conforms_to(self, item: Item, profile: str) -> bool | None:
        spot = item if isinstance(item, Spot) else Spot(item.value, item.type, (None, "$this", None), item.extra)
        found = self.trial(self.profiles.profile_check(profile), spot)
        if any(finding.severity == "error" for finding in found):
            return False
        return None if any(finding.rule == NOT_CHECKED and finding.severity == "warning" for finding in found) else True


def codes_of(item: Item) -> list[tuple[str | None, str]]:
    """The (system, code) pairs of a coded value; those without a code are left out, `code` has no system."""
    value = item.value
    if isinstance(value, str):
        return [(None, value)]
    if not isinstance(value, dict):
        return []
    codings = value.get("coding", ()) if item.type == "CodeableConcept" else (value,)
    listed = codings if isinstance(codings, list | tuple) else ()
    return [
        (each["system"] if isinstance(each.get("system"), str) else "", each["code"])
        for each in listed
        if isinstance(each, dict) and isinstance(each.get("code"), str)
    ]
