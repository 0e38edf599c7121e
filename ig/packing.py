"""Finishes the resources of the guide, judges them, and packs them as a FHIR NPM package.

https://confluence.hl7.org/display/FHIR/NPM+Package+Specification: definitions in `package/`, examples in
`package/example/`, `.index.json` version 2 in both.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ig.sushi import GuideError
from relais.profiles.issues import Issue
from relais.profiles.packages import Registry, load
from relais.profiles.snapshots import Snapshots
from relais.profiles.validator import Validator

Resource = dict[str, Any]

_FROM_THE_GUIDE = ("version", "publisher", "date", "jurisdiction")
_INDEXED = ("resourceType", "id", "url", "version", "kind", "type", "supplements", "content")


@dataclass
class Guide:
    """The resources of the guide, finished, and what is known of them.

    `registry` holds the official packages and the definitions; `issues` what the validator says of each resource, by
    `Type/id`.
    """

    guide: Resource
    definitions: list[Resource]
    examples: list[Resource]
    registry: Registry
    issues: dict[str, list[Issue]] = field(default_factory=dict)

    @property
    def resources(self) -> Iterator[Resource]:
        """All of them, the ImplementationGuide first."""
        yield self.guide
        yield from self.definitions
        yield from self.examples

    def described(self, resource: Resource) -> Resource:
        """What the ImplementationGuide says of a resource: name, description."""
        listed: Iterable[Resource] = self.guide["definition"]["resource"]
        return next(one for one in listed if one["reference"]["reference"] == key(resource))


def key(resource: Resource) -> str:
    """`Type/id`."""
    return f"{resource['resourceType']}/{resource['id']}"


def assemble(compiled: list[Resource], packages: Path) -> Guide:
    """The guide from what SUSHI compiled. Raises GuideError when a snapshot cannot be made."""
    guide, *rest = compiled
    if not guide["definition"].get("parameter"):
        guide["definition"].pop("parameter", None)  # SUSHI writes an empty list
    examples = [one for one in rest if _is_example(guide, one)]
    definitions = [one for one in rest if one not in examples]
    shared = {name: guide[name] for name in _FROM_THE_GUIDE if name in guide}
    registry = load(packages)
    for definition in definitions:
        definition.update(shared)
        registry.add_resource(definition, guide["packageId"])
    snapshots = Snapshots(registry)
    for definition in definitions:
        if definition["resourceType"] == "StructureDefinition":
            definition["snapshot"] = {"element": [_without_example(element) for element in snapshots.of(definition)]}
        definition["text"] = _narrative(definition)
    return Guide(guide, definitions, examples, registry)


def _without_example(element: Resource) -> Resource:
    """An element without the examples it inherits: one of R4 (Consent.identifier) is not valid itself."""
    return {name: value for name, value in element.items() if name != "example"}


def _narrative(definition: Resource) -> Resource:
    words = "".join(f"<p>{escape(definition[name])}</p>" for name in ("title", "description") if name in definition)
    start = '<div xmlns="http://www.w3.org/1999/xhtml" lang="fr" xml:lang="fr">'
    return {"status": "generated", "div": f"{start}{words}</div>"}


def _is_example(guide: Resource, resource: Resource) -> bool:
    for listed in guide["definition"]["resource"]:
        if listed["reference"]["reference"] == key(resource):
            return bool(listed.get("exampleBoolean") or listed.get("exampleCanonical"))
    return False


def judge(guide: Guide) -> None:
    """Validate every resource against R4 and its profiles. Raises GuideError naming every error."""
    validator = Validator(guide.registry, language="fr")
    for resource in guide.resources:
        guide.issues[key(resource)] = validator.validate(resource)
    wrong = [
        f"{name}: {issue.path}: {issue.message}"
        for name, issues in guide.issues.items()
        for issue in issues
        if issue.severity in ("fatal", "error")
    ]
    if wrong:
        raise GuideError("\n".join(["resources of the guide are not valid:", *wrong]))


def manifest(guide: Resource) -> Resource:
    """`package.json`."""
    return {
        "name": guide["packageId"],
        "version": guide["version"],
        "type": "IG",
        "title": guide["title"],
        "description": guide["description"],
        "canonical": guide["url"].partition("/ImplementationGuide/")[0],
        "url": guide["url"].partition("/ImplementationGuide/")[0],
        "fhirVersions": guide["fhirVersion"],
        "author": guide["publisher"],
        "license": guide["license"],
        "dependencies": {"hl7.fhir.r4.core": "4.0.1"}
        | {one["packageId"]: one["version"] for one in guide["dependsOn"]},
    }


def pack(guide: Guide) -> bytes:
    """`package.tgz`: the same resources give the same bytes."""
    files = {"package/package.json": manifest(guide.guide)}
    for folder, resources in (
        ("package/", [guide.guide, *guide.definitions]),
        ("package/example/", guide.examples),
    ):
        named = {f"{one['resourceType']}-{one['id']}.json": one for one in resources}
        files |= {f"{folder}{name}": one for name, one in named.items()}
        files[f"{folder}.index.json"] = _index(named)
    held = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=held, mode="wb", filename="", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in sorted(files.items()):
            data = json.dumps(content, ensure_ascii=False).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return held.getvalue()


def _index(named: dict[str, Resource]) -> Resource:
    rows = [
        {"filename": name} | {element: one[element] for element in _INDEXED if isinstance(one.get(element), str)}
        for name, one in sorted(named.items())
    ]
    return {"index-version": 2, "files": rows}
