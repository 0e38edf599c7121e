"""What a write that breaks a profile or an identity rule meets: nothing, a remark, or a refusal; by resource type.

Settings `profiles` (`CarePlan=refuse,*=warn`), `required_profiles` (`CarePlan=https://…`) and `identity_rules`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from relais.cda.errors import Issue
from relais.mappings.context import Resource
from relais.profiles import definitions
from relais.profiles.issues import Issue as StructureIssue
from relais.profiles.messages import Language
from relais.server import deposit_rules, identity_rules
from relais.server.conformance import Conformance
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import moved
from relais.server.settings import Settings, SettingsError, named_values

Mode = Literal["off", "warn", "refuse"]
_MODES: tuple[Mode, ...] = get_args(Mode)
_ANY = "*"
_ENTRY = re.compile(r"Bundle\.entry\[(\d+)\]\.resource(.*)", re.DOTALL)
_log = logging.getLogger(__name__)

Placed = tuple[Resource, str]
"""A resource and its FHIRPath in what the client sent."""


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """The policy of one server. `modes` says what a broken profile meets by resource type; `*` is any other type."""

    conformance: Conformance
    modes: Mapping[str, Mode]
    required: Mapping[str, tuple[str, ...]]
    identity: Mode
    ins_environment: str

    @classmethod
    def of(cls, settings: Settings, conformance: Conformance) -> WritePolicy:
        """Read the settings. Raises SettingsError: unknown type or mode, a required profile that is not loaded."""
        modes = _modes(settings.profiles)
        required = _required(settings.required_profiles, conformance)
        idle = [name for name in required if modes.get(name, modes[_ANY]) == "off"]
        if idle:
            raise _wrong("required_profiles", f"the setting profiles does not say what {idle[0]} meets: warn or refuse")
        conformance.validator.prepare(url for urls in required.values() for url in urls)
        by_environment: Mode = "refuse" if settings.ins_environment == "production" else "warn"
        identity = next((mode for mode in _MODES if mode == settings.identity_rules), by_environment)
        return cls(conformance, modes, required, identity, settings.ins_environment)

    def mode(self, resource_type: str) -> Mode:
        """What a broken profile meets."""
        return self.modes.get(resource_type, self.modes[_ANY])

    def judge(self, resources: Iterable[Placed], language: Language) -> list[Issue]:
        """What is to be remarked of resources that are R4 and are about to be written.

        Raises FhirError 422 with every issue of those that are refused.
        """
        verdict = _Verdict()
        for resource, place in resources:
            if (mode := self.mode(resource["resourceType"])) != "off":
                found = self.conformance.validator.validate(resource, language=language, required=self.required)
                verdict.add(found, mode, place)
            self._judge_identity(resource, place, verdict, language)
        return verdict.given()

    def judge_transaction(self, bundle: Resource, places: Iterable[str], language: Language) -> list[Issue]:
        """As `judge`, for a transaction: its entries see one another, and the Bundle has profiles of its own.

        `places` are the FHIRPaths of the resources that entries are to write.
        """
        verdict = _Verdict()
        written = set(places)
        entries = {place: resource for index, resource in _entries(bundle) if (place := _place(index)) in written}
        modes = {place: self.mode(str(resource["resourceType"])) for place, resource in entries.items()}
        own = self.mode("Bundle")
        if own != "off" or any(mode != "off" for mode in modes.values()):
            for issue in self.conformance.validator.validate(bundle, language=language, required=self.required):
                inside = _ENTRY.fullmatch(issue.path)
                place = _place(int(inside[1])) if inside else ""
                verdict.add([issue], modes.get(place, "off") if inside else own, "")
        if deposit_rules.concerns(bundle):
            verdict.add(deposit_rules.check(bundle, language), "refuse", "")  # never by halves
        for place, resource in entries.items():
            self._judge_identity(resource, place, verdict, language)
        return verdict.given()

    def _judge_identity(self, resource: Resource, place: str, verdict: _Verdict, language: Language) -> None:
        if self.identity != "off" and identity_rules.concerns(resource):
            verdict.add(identity_rules.check(resource, self.ins_environment, language), self.identity, place)


class _Verdict:
    """Issues of one request; those of a resource that is refused are all told."""

    def __init__(self) -> None:
        self._remarks: list[Issue] = []
        self._refused: list[Issue] = []

    def add(self, issues: Iterable[StructureIssue], mode: Mode, place: str) -> None:
        """Take the issues of a resource under its mode."""
        if mode == "off":
            return
        found = [moved(issue, place) for issue in issues]
        if mode == "refuse":
            self._refused += [issue for issue in found if issue.severity in ("fatal", "error")]
            found = [issue for issue in found if issue.severity not in ("fatal", "error")]
        self._remarks += found

    def given(self) -> list[Issue]:
        """The remarks, none of them an error any more, for the write is done. Raises FhirError 422."""
        if self._refused:
            raise FhirError(422, [*self._refused, *self._remarks])
        broken = sorted({issue.rule for issue in self._remarks if issue.severity in ("fatal", "error")})
        if broken:
            _log.info("written in spite of broken rules: %s", ", ".join(broken))
        return [
            replace(issue, severity="warning") if issue.severity in ("fatal", "error") else issue
            for issue in self._remarks
        ]


def _entries(bundle: Resource) -> Iterator[tuple[int, Resource]]:
    for index, entry in enumerate(bundle.get("entry", ())):
        if isinstance(resource := entry.get("resource"), dict):
            yield index, resource


def _place(index: int) -> str:
    return f"Bundle.entry[{index}].resource"


# Settings -------------------------------------------------------------------------------------------------------------


def _modes(text: str) -> dict[str, Mode]:
    modes: dict[str, Mode] = {_ANY: "off"}
    for name, given in named_values("profiles", text):
        mode = next((mode for mode in _MODES if mode == given), None)
        if mode is None:
            raise _wrong("profiles", f"{given} is none of {', '.join(_MODES)}")
        if name != _ANY:
            _check_type("profiles", name)
        modes[name] = mode
    return modes


def _required(text: str, conformance: Conformance) -> dict[str, tuple[str, ...]]:
    required: dict[str, tuple[str, ...]] = {}
    for name, url in named_values("required_profiles", text):
        _check_type("required_profiles", name)
        found = conformance.registry.find("StructureDefinition", url)
        if found is None or found.header.type != name:
            raise _wrong("required_profiles", f"no loaded package has a profile {url} on {name}")
        required[name] = (*required.get(name, ()), url)
    return required


def _check_type(setting: str, name: str) -> None:
    if name not in definitions.resource_types():
        raise _wrong(setting, f"{name} is no resource type")


def _wrong(setting: str, message: str) -> SettingsError:
    return SettingsError(Issue("error", "value", message, setting))
