"""What the guide takes from the registry of the facade: its CapabilityStatement, and where each operation is served."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ig.sushi import GuideError
from ig.tables import BASE
from relais.server.app import create_app
from relais.server.fhir.operations import OPERATIONS, Operation
from relais.server.settings import Settings

Resource = dict[str, Any]

_OF_AN_INSTANCE = ("software", "implementation", "text")


def statement(guide: Resource, definitions: Iterable[Resource], packages: Path) -> Resource:
    """What a facade with the official packages and every operation offers, as requirements; our profiles by type."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            base_url=BASE.removesuffix("/"),
            administration=True,
            database_url=f"sqlite:///{Path(folder) / 'guide.sqlite'}",
            fhir_packages=str(packages),
        )
        found: Resource = create_app(settings).test_client().get("/fhir/metadata").get_json()
    profiles: dict[str, list[str]] = {}
    for one in definitions:
        if one["resourceType"] == "StructureDefinition" and one["derivation"] == "constraint":
            profiles.setdefault(one["type"], []).append(f"{one['url']}|{guide['version']}")
    for served in found["rest"][0]["resource"]:
        if mine := profiles.get(served["type"]):
            served["supportedProfile"] = [*served.get("supportedProfile", ()), *mine]
    return {name: value for name, value in found.items() if name not in _OF_AN_INSTANCE} | {
        "id": "relais-facade",
        "url": f"{BASE}CapabilityStatement/relais-facade",
        "name": "RelaisFacade",
        "title": "Façade Relais",
        "status": "draft",
        "date": guide["date"],
        "kind": "requirements",
        "format": [media for media in found["format"] if "/" in media],
        "description": (
            "Ce que sert la façade : fait de son registre, il ne peut pas dire autre chose. Les opérations "
            "d'administration n'y sont que là où le réglage `administration` les offre."
        ),
    }


def state_levels(definitions: Iterable[Resource]) -> None:
    """Write into each OperationDefinition of ours where the facade serves it.

    Raises GuideError when the facade serves an operation of its own that has no definition, or the other way round.
    """
    served = own_operations()
    defined = {one["code"]: one for one in definitions if one["resourceType"] == "OperationDefinition"}
    if served.keys() != defined.keys():
        differing = ", ".join(sorted(f"${code}" for code in served.keys() ^ defined.keys()))
        raise GuideError(f"served by the facade or defined in ig/input/fsh/operations.fsh, but not both: {differing}")
    for code, offered in served.items():
        levels = {one.level for one in offered}
        types = sorted({name for one in offered for name in one.resource_types})
        defined[code].update({level: level in levels for level in ("system", "type", "instance")})
        if levels != {"system"}:
            defined[code]["resource"] = types or ["Resource"]


def own_operations() -> dict[str, list[Operation]]:
    """The operations of the facade that no other guide defines, by code."""
    found: dict[str, list[Operation]] = {}
    for one in OPERATIONS:
        if not one.definition and not one.address:
            found.setdefault(one.name.removeprefix("$"), []).append(one)
    return found
