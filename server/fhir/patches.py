"""The three kinds of patch that FHIR R4 §3.1.0.8 knows, by media type or as a resource in a Bundle.

JSON Merge Patch (RFC 7396) is served besides, because fhirpy sends it, as application/json.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from werkzeug.http import parse_options_header

from relais.cda.parsing import parse as parse_xml
from relais.mappings.context import Resource
from relais.server.fhir import fhirpath_patch, json_format, json_patch, xml_patch
from relais.server.fhir.outcome import FhirError

JSON_PATCH = "application/json-patch+json"
XML_PATCH = "application/xml-patch+xml"
MERGE_PATCH = "application/merge-patch+json"

Patch = Callable[[Resource], Resource]
"""From a resource to the patched one, which may be anything: it must be checked. Raises FhirError 422."""

_IMMUTABLE = (("resourceType",), ("id",), ("meta", "versionId"), ("meta", "lastUpdated"))


def is_patch_type(header: str) -> bool:
    """Whether a Content-Type is that of a patch which is no resource."""
    return parse_options_header(header)[0] in (JSON_PATCH, XML_PATCH, MERGE_PATCH)


def of_content(data: bytes, content_type: str, max_depth: int) -> Patch:
    """The patch written in `data`. Raises FhirError 400 or 415, UnreadableError."""
    media_type = parse_options_header(content_type)[0]
    if media_type == JSON_PATCH:
        return json_patch.compile_patch(json_format.parse_value(data, max_depth))
    if media_type == XML_PATCH:
        return xml_patch.compile_patch(parse_xml(data).getroot())
    if media_type == MERGE_PATCH:
        return merge(json_format.parse_value(data, max_depth))
    raise FhirError.of(415, "not-supported", f"a patch is {JSON_PATCH}, {XML_PATCH} or a Parameters resource")


def merge(changes: Any) -> Patch:
    """A JSON Merge Patch: what it names is replaced, null takes away. Raises FhirError 400 for no object."""
    if not isinstance(changes, dict):
        raise FhirError.of(400, "structure", "a JSON Merge Patch is an object")
    return lambda resource: _merged(resource, changes)


def _merged(value: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    kept = value if isinstance(value, dict) else {}
    left = {name: item for name, item in kept.items() if changes.get(name, item) is not None}
    return left | {name: _merged(kept.get(name), item) for name, item in changes.items() if item is not None}


def of_resource(resource: Resource, max_depth: int) -> Patch:
    """The patch that a resource holds: Parameters (FHIRPath Patch), or a Binary of one of the other two.

    Raises FhirError 400 or 415, UnreadableError.
    """
    if resource.get("resourceType") == "Parameters":
        return fhirpath_patch.compile_patch(resource)
    if resource.get("resourceType") != "Binary":
        raise FhirError.of(400, "invalid", "a patch is a Parameters or a Binary resource", "resourceType")
    try:
        data = base64.b64decode(resource.get("data", ""))
    except binascii.Error as error:
        raise FhirError.of(400, "value", "not Base64", "Binary.data") from error
    return of_content(data, resource["contentType"], max_depth)


def patched(resource: Resource, patch: Patch) -> Resource:
    """The resource after the patch, for the structure check to judge.

    Raises FhirError 422 for a patch that does not apply, or that changes what only the server writes.
    """
    changed = patch(resource)
    if not isinstance(changed, dict):
        raise FhirError.of(422, "business-rule", "the patch leaves no resource")
    for path in _IMMUTABLE:
        if _value(changed, path) != _value(resource, path):
            place = f"{resource['resourceType']}.{'.'.join(path)}"
            raise FhirError.of(422, "business-rule", "no patch can change this element", place)
    return changed


def _value(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
