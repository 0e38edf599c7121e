"""One call for whatever comes: the content is recognised, and each thing in it is checked by all that applies to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property

from relais.cda.errors import Issue, UnreadableError
from relais.cda.parsing import parse
from relais.cda.validation import Validator
from relais.mappings.hl7v2.context import Policy
from relais.profiles.messages import Language
from relais.server.conformance import Conformance
from relais.server.settings import Settings
from relais.server.validation.archives import archive_parts, folder_parts, metadata_checks
from relais.server.validation.contents import is_xml, recognise
from relais.server.validation.documents import document_checks
from relais.server.validation.findings import of_issue, of_issues, stated_place
from relais.server.validation.messages import message_parts
from relais.server.validation.report import Check, Part, Report, RuleSetUsed
from relais.server.validation.resources import resource_parts

LARGEST = 100_000_000
"""Bytes of the largest file that is read."""

_DEEPEST = 3  # a message that holds an archive that holds a document
_RECOGNITION = "recognition"


def _now() -> datetime:
    return datetime.now(UTC)


class Judge:
    """Checks files by the rule sets and packages of the settings. Compiled rules stay warm; serves one thread.

    `rule_sets` are names, or `name=folder`, in place of those of the settings; `profiles` are the canonical URLs that
    FHIR resources must meet besides those that they claim. `clock` tells the moment of a check, with which times in a
    document are compared. Raises RulesError for a rule set that is not there.
    """

    def __init__(
        self,
        settings: Settings,
        rule_sets: Iterable[str] = (),
        profiles: Iterable[str] = (),
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._profiles = tuple(profiles)
        named = tuple(rule_sets) or settings.rule_set_names
        folder = settings.rules_folder
        self._validators = [Validator(folder, name) for name in named] if folder else []
        self._used = tuple(RuleSetUsed(one.rule_set.name, one.rule_set.digest) for one in self._validators)
        self._policy = Policy(ins_environment=settings.deployment.ins_environment)

    @cached_property
    def _conformance(self) -> Conformance:
        return Conformance.load(self._settings)

    def warm_up(self) -> None:
        """Compile what every document needs: takes seconds, once."""
        for validator in self._validators:
            validator.warm_up()

    def judge(self, data: bytes, name: str = "", language: Language = "en") -> Report:
        """The verdict on some bytes, whatever they are. What cannot be read is a finding."""
        return self._report(name, tuple(self._parts(data, "", language, _DEEPEST)))

    def judge_folder(self, files: Mapping[str, bytes], name: str = "", language: Language = "en") -> Report:
        """The verdict on the files of an IHE_XDM archive that was unpacked, by their names in it."""

        def inside(content: bytes, where: str) -> Iterator[Part]:
            return self._parts(content, where, language, _DEEPEST - 1)

        return self._report(name, tuple(folder_parts(files, inside, language)))

    def _report(self, name: str, parts: tuple[Part, ...]) -> Report:
        kinds = {part.kind for part in parts}
        used = self._used if "cda" in kinds else ()
        packages: tuple[str, ...] = ()
        if "fhir" in kinds:
            packages = tuple(package.label for package in self._conformance.registry.packages)
        return Report(name, parts, used, packages)

    def _parts(self, data: bytes, place: str, language: Language, depth: int) -> Iterator[Part]:
        def inside(content: bytes, where: str) -> Iterator[Part]:
            return self._parts(content, where, language, depth - 1)

        kind = recognise(data)
        if not depth:
            yield unreadable(data, place, "too-costly", "too many contents inside one another", language)
        elif kind == "cda":
            yield Part.of(place, kind, data, document_checks(data, self._validators, self._clock(), language))
        elif kind == "xdm":
            yield from archive_parts(data, place, inside, language)
        elif kind == "metadata":
            yield Part.of(place, kind, data, metadata_checks(data, language))
        elif kind == "hl7v2":
            yield from message_parts(data, place, self._policy, inside, language)
        elif kind == "fhir":
            max_depth = self._settings.max_depth
            yield from resource_parts(data, place, self._conformance, self._profiles, max_depth, inside, language)
        else:
            yield _unrecognised(data, place, language)


def unreadable(data: bytes, place: str, code: str, reason: str, language: Language) -> Part:
    """A part of which nothing could be checked."""
    finding = of_issue(Issue("fatal", code, reason, "", "relais-content"), language)
    return Part.of(place, "unknown", data, [Check(_RECOGNITION, "relais", not_run=(finding,))])


def _unrecognised(data: bytes, place: str, language: Language) -> Part:
    """A part of which nothing could be checked; of XML also why it cannot be read, which may be why it is unknown."""
    part = unreadable(data, place, "not-supported", _not_recognised(data), language)
    try:
        if is_xml(data):
            parse(data)
    except UnreadableError as error:
        [check] = part.checks
        found = of_issues(error.issues, language, stated_place(data))
        return replace(part, checks=(replace(check, not_run=(*found, *check.not_run)),))
    return part


def _not_recognised(data: bytes) -> str:
    if not data.strip():
        return "the file is empty"
    return "neither a CDA document, an IHE_XDM archive, XDS metadata, an HL7 v2 message nor a FHIR resource"
