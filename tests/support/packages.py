"""Small FHIR packages for tests, written into a folder: invented profiles, value sets and search parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BASE = "http://example.org/fhir"
BORN = f"{BASE}/StructureDefinition/born-patient"
TITLED = f"{BASE}/StructureDefinition/titled-plan"
EYES = f"{BASE}/ValueSet/eyes"

Resource = dict[str, Any]


def profile(url: str, base: str, *elements: Resource, **more: Any) -> Resource:
    """A profile by differential on a resource type; `elements` are ElementDefinitions."""
    return {
        "resourceType": "StructureDefinition",
        "id": url.rpartition("/")[2],
        "url": url,
        "version": "1.0.0",
        "name": url.rpartition("/")[2].replace("-", "_"),
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": base,
        "baseDefinition": f"http://hl7.org/fhir/StructureDefinition/{base}",
        "derivation": "constraint",
        "differential": {"element": [{"id": base, "path": base}, *elements]},
        **more,
    }


def element(path: str, **rules: Any) -> Resource:
    """An ElementDefinition."""
    return {"id": path, "path": path, **rules}


def search_parameter(code: str, base: str, kind: str, expression: str) -> Resource:
    """A SearchParameter."""
    return {
        "resourceType": "SearchParameter",
        "id": code,
        "url": f"{BASE}/SearchParameter/{code}",
        "name": code,
        "status": "active",
        "description": code,
        "code": code,
        "base": [base],
        "type": kind,
        "expression": expression,
    }


def write(folder: Path, name: str, resources: Iterable[Resource], version: str = "1.0.0", **needs: str) -> Path:
    """Write a package as a folder below `folder`; `needs` are its dependencies, dots written as `_`."""
    package = folder / f"{name}#{version}" / "package"
    package.mkdir(parents=True)
    dependencies = {needed.replace("_", "."): wanted for needed, wanted in needs.items()}
    manifest = {"name": name, "version": version, "fhirVersions": ["4.0.1"], "dependencies": dependencies}
    (package / "package.json").write_text(json.dumps(manifest))
    for resource in resources:
        (package / f"{resource['resourceType']}-{resource['id']}.json").write_text(json.dumps(resource))
    return package.parent


def snapshot(base: str) -> Resource:
    """A definition of a resource type that says nothing beyond R4: profiles start from it without R4's own package."""
    return {
        "resourceType": "StructureDefinition",
        "id": base,
        "url": f"http://hl7.org/fhir/StructureDefinition/{base}",
        "version": "4.0.1",
        "name": base,
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": base,
        "snapshot": {
            "element": [
                element(base, min=0, max="*"),
                *(element(f"{base}.{name}", **rules) for name, rules in _ELEMENTS[base].items()),
            ]
        },
    }


_ELEMENTS: dict[str, dict[str, Resource]] = {
    "Patient": {
        "birthDate": {"min": 0, "max": "1", "type": [{"code": "date"}]},
        "gender": {"min": 0, "max": "1", "type": [{"code": "code"}]},
    },
    "CarePlan": {
        "title": {"min": 0, "max": "1", "type": [{"code": "string"}]},
        "subject": {"min": 1, "max": "1", "type": [{"code": "Reference"}]},
    },
}


def example(folder: Path) -> Path:
    """The package most tests use: a Patient with a birth date, a CarePlan with a title, a value set, a search."""
    born = profile(BORN, "Patient", element("Patient.birthDate", min=1))
    titled = profile(TITLED, "CarePlan", element("CarePlan.title", min=1))
    eyes = {
        "resourceType": "ValueSet",
        "id": "eyes",
        "url": EYES,
        "version": "1.0.0",
        "name": "eyes",
        "status": "active",
        "compose": {"include": [{"system": f"{BASE}/eyes", "concept": [{"code": "blue", "display": "Bleu"}]}]},
    }
    searched = search_parameter("eye", "Patient", "token", "Patient.extension('http://example.org/eye').value")
    resources = [snapshot("Patient"), snapshot("CarePlan"), born, titled, eyes, searched]
    return write(folder, "org.example.plans", resources, hl7_absent="1.0.0")
