"""The CapabilityStatement (FHIR R4 §5.2), made from the registry: it states what is routed and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from relais.mappings.context import Resource
from relais.mappings.extensions import CANONICAL_BASE
from relais.profiles.definitions import FHIR_VERSION, SearchParameter, compartments
from relais.server.fhir.negotiation import FHIR_JSON, FHIR_XML
from relais.server.fhir.operations import Operation
from relais.server.fhir.patches import JSON_PATCH, XML_PATCH
from relais.server.fhir.registry import Registry
from relais.server.fhir.repository import instant, utc_now
from relais.server.search.indexer import index_plan
from relais.server.search.parameters import parameters
from relais.server.settings import Settings

EXPANSION_PARAMETERS = (
    *("activeOnly", "count", "displayLanguage", "excludeNested", "filter"),
    *("includeDefinition", "includeDesignations", "offset", "url", "valueSet", "valueSetVersion"),
)
"""The parameters of `$expand` that are understood."""

_SYSTEM_CODES = ("transaction", "batch", "search-system", "history-system")


def statement(
    registry: Registry, settings: Settings, profiles: Mapping[str, Sequence[str]], guides: Sequence[str] = ()
) -> Resource:
    """The statement of a facade; `profiles` are the canonical URLs of those that are loaded, by resource type.

    `guides` are the canonical URLs of the implementation guides that they come from.
    """
    release = version("relais")
    return {
        "resourceType": "CapabilityStatement",
        "name": "Relais",
        "title": "Relais",
        "status": "active",
        "date": instant(utc_now()),
        "kind": "instance",
        "software": {"name": "Relais", "version": release},
        "implementation": {"description": "Relais FHIR facade", "url": settings.fhir_base},
        "fhirVersion": FHIR_VERSION,
        "format": ["json", "xml", "application/fhir+json", "application/fhir+xml"],
        "patchFormat": [JSON_PATCH, XML_PATCH, FHIR_JSON, FHIR_XML],
        **({"implementationGuide": list(guides)} if guides else {}),
        "rest": [
            {
                "mode": "server",
                "resource": [_resource(name, registry, settings, profiles) for name in sorted(registry.resource_types)],
                "interaction": [{"code": code} for code in _system_codes(registry)],
                "searchParam": _common(registry),
                "compartment": [f"http://hl7.org/fhir/CompartmentDefinition/{_kebab(name)}" for name in compartments()],
                **_operations(one for one in registry.operations if one.level == "system"),
            }
        ],
    }


def _resource(
    name: str, registry: Registry, settings: Settings, profiles: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    served = [interaction for interaction in registry.interactions if interaction.level in ("type", "instance")]
    stated: dict[str, Any] = {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "supportedProfile": list(profiles.get(name, ())),
        "interaction": [{"code": code} for code in dict.fromkeys(interaction.code for interaction in served)],
    }
    for interaction in served:
        stated |= interaction.capability
    if name in settings.versioned_types:
        stated["versioning"] = "versioned-update"
    stated["conditionalDelete"] = "multiple" if settings.most_deleted > 1 else "single"
    stated["updateCreate"] = settings.update_creates
    stated["referencePolicy"] = ["literal", "logical", *(["enforced"] if settings.check_references else [])]
    found_by = searched(name)
    stated["searchInclude"] = ["*", *(f"{name}:{found.code}" for found in found_by if found.type == "reference")]
    stated["searchRevInclude"] = _referring(name, registry)
    stated["searchParam"] = [{"name": found.code, "definition": found.url, "type": found.type} for found in found_by]
    mine = (operation for operation in registry.operations if operation.level != "system" and operation.serves(name))
    return {key: value for key, value in stated.items() if value != []} | _operations(mine)


def _common(registry: Registry) -> list[dict[str, str]]:
    """What every type can be searched by, and what is no parameter of a type at all."""
    each = [{(found.code, found.url, found.type) for found in searched(name)} for name in registry.resource_types]
    common = [*sorted(set.intersection(*each)), ("_filter", "http://hl7.org/fhir/SearchParameter/filter", "special")]
    return [{"name": code, "definition": url, "type": kind} for code, url, kind in common]


def searched(name: str) -> list[SearchParameter]:
    """The search parameters of a resource type that are served."""
    unsupported = index_plan(name).unsupported
    return [parameter for code, parameter in parameters(name).items() if code not in unsupported]


def _referring(name: str, registry: Registry) -> list[str]:
    """The reference parameters of every served type that may point to `name`."""
    return [
        f"{source}:{found.code}"
        for source in sorted(registry.resource_types)
        for found in searched(source)
        if found.type == "reference" and name in found.targets
    ]


def _operations(operations: Iterable[Operation]) -> dict[str, list[dict[str, str]]]:
    """`operation`, once per name, or nothing when there is none."""
    named = {operation.name: operation.definition for operation in operations if not operation.address}
    stated = [
        {
            "name": name.removeprefix("$"),
            "definition": definition or f"{CANONICAL_BASE}/OperationDefinition/relais-{name[1:]}",
        }
        for name, definition in named.items()
    ]
    return {"operation": stated} if stated else {}


def _kebab(name: str) -> str:
    """`RelatedPerson` as R4 names its compartment: `relatedPerson`."""
    return name[0].lower() + name[1:]


def _system_codes(registry: Registry) -> list[str]:
    codes = {interaction.code for interaction in registry.interactions if interaction.level == "system"}
    if "transaction" in codes:
        codes.add("batch")  # one address serves both
    return [code for code in _SYSTEM_CODES if code in codes]


def terminology_statement(systems: Iterable[tuple[str, str]], settings: Settings) -> Resource:
    """The TerminologyCapabilities of a facade; `systems` are the (URL, version) pairs of its code systems."""
    found: dict[str, list[str]] = {}
    for url, number in systems:
        found.setdefault(url, []).extend([number] if number else [])
    return {
        "resourceType": "TerminologyCapabilities",
        "status": "active",
        "date": instant(utc_now()),
        "kind": "instance",
        "software": {"name": "Relais", "version": version("relais")},
        "implementation": {"description": "Relais FHIR facade", "url": settings.fhir_base},
        "codeSystem": [
            {"uri": url, **({"version": [{"code": one} for one in versions]} if versions else {})}
            for url, versions in found.items()
        ],
        "expansion": {
            "hierarchical": False,
            "paging": True,
            "incomplete": False,
            "parameter": [{"name": name} for name in EXPANSION_PARAMETERS],
        },
        "validateCode": {"translations": False},
        "translation": {"needsMap": False},
    }
