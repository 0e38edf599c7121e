"""What a server knows beyond base R4: the FHIR packages that its settings name, loaded once, before processes fork."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from relais.cda.errors import Issue as RelaisIssue
from relais.cda.errors import RelaisError
from relais.cda.parsing import parse as parse_xml
from relais.profiles.issues import Issue
from relais.profiles.messages import Language
from relais.profiles.packages import DEFINITION_FAULTS, MISSING, PackageError, Registry, Resource, load
from relais.profiles.positions import JsonPositions, Position, xml_position
from relais.profiles.validator import Mode, Validator
from relais.server import deposit_rules, identity_rules
from relais.server.fhir import json_format, xml_format
from relais.server.search import declare, settle
from relais.server.settings import Settings
from relais.server.store import Store

_log = logging.getLogger(__name__)
_R4 = "hl7.fhir.r4.core"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NOT_REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Located(NamedTuple):
    """An issue and where in the file it is; both numbers count from 1, the column is 0 where XML does not tell it."""

    issue: Issue
    position: Position


class Conformance:
    """The packages of a server and the validator over them. `issues` say what is missing, broken or not served."""

    def __init__(self, registry: Registry, settings: Settings, issues: Iterable[Issue] = ()) -> None:
        self.registry = registry
        self.validator = Validator(registry)
        self.issues = [*registry.issues, *issues]
        self._environment = settings.ins_environment
        self._max_depth = settings.max_depth

    @classmethod
    def load(cls, settings: Settings) -> Conformance:
        """Read the packages and serve their search parameters: in this process and in those that it forks.

        What cannot be read is logged and left out, what is missing is left to `report`. Raises RelaisError for a folder
        or a package that a setting names and that cannot be used.
        """
        absent = [folder for folder in settings.package_folders if settings.fhir_packages and not folder.is_dir()]
        if absent:
            raise RelaisError(RelaisIssue("fatal", "not-found", f"no folder {absent[0]}", "fhir_packages"))
        names = tuple(name.strip() for name in settings.fhir_package_names.split(",") if name.strip())
        folders = [folder for folder in settings.package_folders if folder.is_dir()]
        try:
            registry = load(folders, names)
        except PackageError as error:
            raise RelaisError(RelaisIssue("fatal", "not-found", str(error), "fhir_package_names")) from error
        for issue in registry.issues:
            if issue.severity == "error":
                _log.warning("FHIR packages: %s", issue)
        return cls(registry, settings, _served(registry))

    def settle(self, store: Store) -> None:
        """Say which search parameters of the packages wait for a reindex of what was stored before."""
        if waiting := settle(store):
            _log.warning(
                "not searched by until $reindex has run, for resources were stored before: %s", ", ".join(waiting)
            )

    @property
    def missing(self) -> list[str]:
        """The packages that loaded ones depend on and that are not here: what only they define is not checked."""
        here = {package.name for package in self.registry.packages}
        return sorted({name for package in self.registry.packages for name in package.dependencies} - here)

    def report(self) -> None:
        """Log what was loaded, what is missing, and what of it is not used."""
        if self.registry.packages:
            _log.info("FHIR packages: %s", ", ".join(package.label for package in self.registry.packages))
        if self.missing:
            _log.warning("FHIR packages not here, what only they define is not checked: %s", ", ".join(self.missing))
        for issue in self.issues:
            if issue.severity == "warning" and issue.rule != MISSING:
                _log.warning("FHIR packages: %s", issue)

    def validate(
        self,
        resource: Any,
        profiles: Iterable[str] = (),
        mode: Mode | None = None,
        *,
        language: Language = "en",
        required: Mapping[str, tuple[str, ...]] = _NOT_REQUIRED,
    ) -> list[Issue]:
        """Every issue of a resource: R4, profiles claimed, asked for or `required`, identity, deposits."""
        wanted = tuple(profiles)
        found = self.validator.validate(resource, wanted, mode, language=language, required=required)
        if mode != "delete":
            found += identity_rules.check(resource, self._environment, language)
            if deposit_rules.concerns(resource, wanted):
                found += deposit_rules.check(resource, language)
        return found

    def validate_file(self, data: bytes, profiles: Iterable[str] = (), language: Language = "en") -> list[Located]:
        """The issues of a resource written in JSON or XML, most severe first, each with its line and column.

        Raises UnreadableError for what is neither.
        """
        text = data.removeprefix(_BYTE_ORDER_MARK)
        find: Callable[[str], Position]
        if text.lstrip()[:1] == b"<":
            resource = xml_format.parse(data, self._max_depth)
            find = partial(xml_position, parse_xml(data).getroot())
        else:
            resource = json_format.parse(data, self._max_depth)
            find = JsonPositions(text.decode()).find
        return [Located(issue, find(issue.path)) for issue in self.validate(resource, profiles, language=language)]

    def supported_profiles(self) -> dict[str, list[str]]:
        """The canonical URLs of the profiles that packages other than R4's own define, by resource type."""
        found: dict[str, list[str]] = defaultdict(list)
        for definition in self.registry.definitions("StructureDefinition"):
            header = definition.header
            is_profile = header.derivation == "constraint" and header.kind == "resource"
            if is_profile and not definition.package.startswith(f"{_R4}#"):
                found[str(header.type)].append(definition.canonical)
        return {name: sorted(urls) for name, urls in found.items()}

    def guides(self) -> list[str]:
        """The canonical URLs of the implementation guides whose packages are loaded, with their versions."""
        found = self.registry.definitions("ImplementationGuide")
        return sorted(one.canonical for one in found if not one.package.startswith(f"{_R4}#"))


def _served(registry: Registry) -> list[Issue]:
    """Serve the search parameters of these packages, and of no others; what cannot be served."""
    resources: list[Resource] = []
    issues: list[Issue] = []
    for definition in registry.definitions("SearchParameter"):
        try:
            resources.append(definition.resource)
        except DEFINITION_FAULTS:
            issues.append(Issue("warning", "structure", "is no FHIR JSON", definition.canonical, "search-parameter"))
    unserved = (issue for issue in declare(resources, only=True))
    return [*issues, *(Issue("warning", one.code, one.message, one.path, "search-parameter") for one in unserved)]
