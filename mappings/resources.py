"""A closed set of resources and the resolution of references inside it.

FHIR R4 "References between resources" and "Resolving references in Bundles": a relative reference means the server that
its own entry comes from, an absolute one means exactly what it says. Another server's `Patient/1` is another patient.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from relais.cda.errors import Issue, MappingError
from relais.mappings.context import Resource

RULE = "FHIR R4 Bundle, resolving references"
_RESTFUL = re.compile(r"(?:(?P<base>https?://[^\s?#]+)/)?(?P<name>[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})")
_VERSION = "/_history/"


class ResourceSet:
    """Resources by every name they can be referred to with."""

    def __init__(self, entries: Iterable[tuple[str | None, Resource]], home: str = "") -> None:
        """`entries` are (fullUrl or None, resource) pairs, `home` is the server of what is none of them, as a copy.

        Raises MappingError when two resources have one name.
        """
        self._home = home
        self._by_name: dict[str, Resource] = {}
        self._all: list[Resource] = []
        self._by_type: defaultdict[str | None, list[Resource]] = defaultdict(list)
        self._bases: dict[int, str] = {}  # server of each resource, contained or not, that is not `home`, by identity
        self._holders: dict[int, Resource] = {}  # by identity of the contained resource
        self._placed: dict[str | None, list[tuple[Resource, str]]] = {}  # by type
        self._places: dict[str | None, dict[int, str]] = {}  # by type, then by identity
        issues: list[Issue] = []
        for index, (full_url, resource) in enumerate(entries):
            self._add(index, full_url, resource, issues)
        if issues:
            raise MappingError(issues)

    @classmethod
    def of_bundle(cls, bundle: Resource) -> ResourceSet:
        """The set of a Bundle's entries."""
        entries = bundle.get("entry", ())
        return cls([(entry.get("fullUrl"), entry["resource"]) for entry in entries if "resource" in entry])

    @classmethod
    def of(cls, resources: Iterable[Resource], base: str = "") -> ResourceSet:
        """The set of resources stored at the server `base`: `Type/id` and `base/Type/id` name the same one."""
        home = base.rstrip("/")
        root = f"{home}/" if home else ""
        return cls(((f"{root}{resource['resourceType']}/{resource['id']}", resource) for resource in resources), home)

    def _add(self, index: int, full_url: str | None, resource: Resource, issues: list[Issue]) -> None:
        """Take a resource in under its fullUrl; without a server's address, under `Type/id` too."""
        kind = resource.get("resourceType")
        own = f"{kind}/{resource['id']}" if "id" in resource else None
        restful = _RESTFUL.fullmatch(full_url) if full_url else None
        base = (restful["base"] or "") if restful else ""
        if restful and own and restful["name"] != own:
            issues.append(_wrong_address(index, "invalid", "not the address of a resource of that type and id"))
        for name in (full_url,) if base or own == full_url else (full_url, own):
            if name and name in self._by_name:
                issues.append(_wrong_address(index, "duplicate", "another resource has the same address"))
            elif name:
                self._by_name[name] = resource
        self._all.append(resource)
        self._by_type[kind].append(resource)
        if base != self._home:
            self._bases[id(resource)] = base
        if "contained" in resource:
            self._add_contained(resource, base)

    def _add_contained(self, resource: Resource, base: str) -> None:
        for contained in resource["contained"]:
            self._holders[id(contained)] = resource
            if base != self._home:
                self._bases[id(contained)] = base

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._all)

    def of_type(self, resource_type: str) -> list[Resource]:
        """Every resource of that type, in the order given."""
        return list(self._by_type.get(resource_type, ()))

    def placed(self, resource_type: str | None) -> list[tuple[Resource, str]]:
        """Every resource of that type with its place."""
        if resource_type not in self._placed:
            self._placed[resource_type] = list(places(self._by_type.get(resource_type, ())))
        return self._placed[resource_type]

    def place(self, resource: Resource) -> str:
        """The place of one of the resources among those of its type."""
        kind = resource.get("resourceType")
        if kind not in self._places:
            self._places[kind] = {id(one): place for one, place in self.placed(kind)}
        return self._places[kind][id(resource)]

    def resolve(self, reference: Resource | str | None, container: Resource | None = None) -> Resource | None:
        """The resource that a Reference (or its `reference` string) names, in whatever version is at hand, or None.

        `container` is the resource that holds the reference: a relative one is looked up at its server, `#id` among its
        contained resources, or among those beside it when it is contained itself. `is_other_version` tells whether the
        version found is the one asked for.
        """
        name = reference.get("reference") if isinstance(reference, dict) else reference
        if not isinstance(name, str):
            return None
        if _VERSION in name:
            name = name.partition(_VERSION)[0]
        if name[:1] == "#":
            contained = self._holders.get(id(container), container or {}).get("contained", ())
            return next((resource for resource in contained if resource.get("id") == name[1:]), None)
        base = self._bases.get(id(container), self._home) if self._bases else self._home
        if base and (restful := _RESTFUL.fullmatch(name)) and not restful["base"]:
            name = f"{base}/{name}"
        return self._by_name.get(name)


def places(resources: Iterable[Resource]) -> Iterator[tuple[Resource, str]]:
    """Resources of one type, each with its name in findings: `Goal/<id>`; without an id `Goal[2]`, the third one."""
    for index, resource in enumerate(resources):
        kind = resource.get("resourceType")
        yield resource, f"{kind}/{resource['id']}" if "id" in resource else f"{kind}[{index}]"


def _wrong_address(index: int, code: str, message: str) -> Issue:
    return Issue("error", code, message, f"Bundle.entry[{index}].fullUrl", RULE)


def is_other_version(reference: Resource | str | None, resource: Resource) -> bool:
    """Whether a Reference (or its string) asks for a version that `resource` is not, or does not say it is."""
    target = reference.get("reference") if isinstance(reference, dict) else reference
    if not isinstance(target, str) or _VERSION not in target:
        return False
    version = target.partition(_VERSION)[2]
    return version != "" and resource.get("meta", {}).get("versionId") != version
