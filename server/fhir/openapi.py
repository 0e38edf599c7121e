"""The OpenAPI 3.0 description of the facade (https://spec.openapis.org/oas/v3.0.3), made from the registry.

Served at `[base]/openapi.json`. Types stand in the address as one parameter, since all of them have the same
interactions; an operation of some types only has an address for each.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from relais.server.fhir.negotiation import FHIR_JSON, FHIR_XML, FORM
from relais.server.fhir.operations import Operation
from relais.server.fhir.patches import JSON_PATCH, XML_PATCH
from relais.server.fhir.registry import SEGMENTS, Endpoint, Interaction, Registry

_RESOURCE = {"type": "object", "required": ["resourceType"], "properties": {"resourceType": {"type": "string"}}}
_PATCH_OPERATION = {
    "type": "object",
    "required": ["op", "path"],
    "properties": {
        "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
        "path": {"type": "string"},
        "from": {"type": "string"},
        "value": {},
    },
}
_QUERY: dict[str, tuple[str, dict[str, Any]]] = {
    "_format": ("Format of the answer, before the Accept header.", {"type": "string", "enum": ["json", "xml"]}),
    "_pretty": ("Whether the answer is indented.", {"type": "boolean"}),
    "mode": ("Kind of statement.", {"type": "string", "enum": ["full", "normative", "terminology"]}),
    "_summary": ("Part of the resource.", {"type": "string", "enum": ["true", "text", "data", "false"]}),
    "_elements": ("Elements to show, by commas.", {"type": "string"}),
    "_count": ("Size of a page.", {"type": "integer", "minimum": 0}),
    "_since": ("Instant to start from.", {"type": "string", "format": "date-time"}),
    "_at": ("Moment to look at.", {"type": "string"}),
    "_type": ("Resource types, by commas.", {"type": "string"}),
    "_id": ("Ids, by commas.", {"type": "string"}),
    "_lastUpdated": ("Time of the last change.", {"type": "string"}),
    "_sort": ("Keys to sort by.", {"type": "string"}),
    "_include": ("References to follow.", {"type": "string"}),
    "_filter": ("An expression of FHIR R4 §3.1.3.", {"type": "string"}),
}
_QUERY_OF = {
    "search-type": ("_count", "_id", "_lastUpdated", "_sort", "_include", "_summary", "_elements", "_filter"),
    "search-system": ("_type", "_count", "_id", "_lastUpdated", "_sort", "_filter"),
    "history-instance": ("_count", "_since", "_at"),
    "history-type": ("_count", "_since", "_at"),
    "history-system": ("_count", "_since", "_at"),
}
_HEADERS = {
    "read": ("If-None-Match", "If-Modified-Since"),
    "create": ("If-None-Exist", "Prefer"),
    "update": ("If-Match", "Prefer"),
    "patch": ("If-Match", "Prefer"),
    "delete": ("If-Match",),
}


def describe(registry: Registry, base: str) -> dict[str, Any]:
    """The description, as JSON; `base` is the public FHIR base URL."""
    paths: dict[str, dict[str, Any]] = {}
    endpoints: tuple[Endpoint, ...] = (*registry.interactions, *registry.operations)
    for endpoint in endpoints:
        for path, resource_type in _addresses(endpoint):
            for method in endpoint.methods:
                operation = _operation(endpoint, path, method, resource_type, sorted(registry.resource_types))
                paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.0.3",
        "info": {"title": "Relais FHIR R4 facade", "version": version("relais")},
        "servers": [{"url": base}],
        "paths": paths,
        "components": {"schemas": {"Resource": _RESOURCE}},
    }


def summary(endpoint: Endpoint) -> str:
    """What an endpoint does: the first sentence of its function's documentation."""
    text = " ".join((endpoint.run.__doc__ or "").split())
    return text.partition(". ")[0].rstrip(".")


def _addresses(endpoint: Endpoint) -> list[tuple[str, str]]:
    """(path, resource type) pairs; the type is empty where the path names it as a parameter, or none."""
    template = re.sub("<([a-z_]+)>", r"{\1}", endpoint.path)
    types = endpoint.resource_types if isinstance(endpoint, Operation) else ()
    if not types or "{resource_type}" not in template:
        return [(template, "")]
    return [(template.replace("{resource_type}", name), name) for name in types]


def _operation(endpoint: Endpoint, path: str, method: str, resource_type: str, types: list[str]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": summary(endpoint),
        "description": " ".join((endpoint.run.__doc__ or "").split()),
        "operationId": re.sub(r"[^A-Za-z0-9]+", "-", f"{method.lower()} {path}").strip("-"),
        "parameters": [*_path_parameters(path, types), *_query_parameters(endpoint), *_header_parameters(endpoint)],
        "responses": {"default": {"description": "A resource, or an OperationOutcome.", "content": _content()}},
    }
    if body := _body(endpoint, method):
        described["requestBody"] = body
    return described


def _path_parameters(path: str, types: list[str]) -> list[dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = {
        name: {"type": "string", "pattern": f"^({pattern})$"} for name, pattern in SEGMENTS.items()
    }
    schemas["resource_type"] = {"type": "string", "enum": types}
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas[name]}
        for name in re.findall(r"\{([a-z_]+)\}", path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = ["_format", "_pretty"]
    if isinstance(endpoint, Interaction):
        names += [*endpoint.parameters, *_QUERY_OF.get(endpoint.code, ())]
    return [
        {"name": name, "in": "query", "description": _QUERY[name][0], "schema": _QUERY[name][1]}
        for name in dict.fromkeys(names)
    ]


def _header_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = _HEADERS.get(endpoint.code, ()) if isinstance(endpoint, Interaction) else ()
    return [{"name": name, "in": "header", "schema": {"type": "string"}} for name in names]


def _content() -> dict[str, Any]:
    return {FHIR_JSON: {"schema": {"$ref": "#/components/schemas/Resource"}}, FHIR_XML: {"schema": {"type": "string"}}}


def _body(endpoint: Endpoint, method: str) -> dict[str, Any] | None:
    if isinstance(endpoint, Operation):
        read = _content() | {name: {"schema": {"type": "string"}} for name in sorted(endpoint.consumes)}
        return {"required": False, "content": read} if method == "POST" else None
    if endpoint.takes_body:
        return {"required": True, "content": _content()}
    if endpoint.takes_patch:
        patches = {
            JSON_PATCH: {"schema": {"type": "array", "items": _PATCH_OPERATION}},
            XML_PATCH: {"schema": {"type": "string"}},
        }
        return {"required": True, "content": patches | _content()}
    if endpoint.method == "POST":
        return {"required": False, "content": {FORM: {"schema": {"type": "object"}}}}
    return None
