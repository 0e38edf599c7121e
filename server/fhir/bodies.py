"""The body of an operation that takes one kind of resource: there, of that type, and structurally sound R4."""

from __future__ import annotations

from dataclasses import astuple

from relais.cda.errors import Issue
from relais.mappings.context import Resource
from relais.profiles.issues import is_readable
from relais.profiles.structure import check
from relais.server.fhir.outcome import FhirError


def sound_body(body: Resource | None, resource_type: str) -> Resource:
    """The body, structurally sound and of that type: nothing else has looked at it. Raises FhirError 400 or 422."""
    if body is None or body["resourceType"] != resource_type:
        raise FhirError.of(400, "invalid", f"a {resource_type} resource is expected as body", "resourceType")
    errors = [issue for issue in check(body) if issue.severity in ("fatal", "error")]
    if errors:
        raise FhirError(422 if is_readable(errors) else 400, [Issue(*astuple(error)) for error in errors])
    return body
