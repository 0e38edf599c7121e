"""One interaction with the facade, whether it came as an HTTP request or as an entry of a Bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from relais.cda.errors import Issue
from relais.mappings.context import Resource
from relais.profiles.messages import Language
from relais.server.fhir.negotiation import CONTENT_TYPE, DEFAULT_PREFER, Format, Prefer
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.patches import Patch


@dataclass(slots=True)
class Call:
    """What is asked for. Empty strings and None mean: not part of this call."""

    method: str
    resource_type: str = ""
    id: str = ""
    version: str = ""
    compartment: str = ""  # type of the resource, named by `id`, in whose compartment is searched
    file: str = ""
    query: str = ""  # raw query string; for POST _search the form is appended
    body: Resource | None = None
    patch: Patch | None = None  # a patch that came as no resource
    place: str = ""  # FHIRPath of the body in what the client sent, e.g. Bundle.entry[3].resource
    accept: str = ""  # for operations that write other media types
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_none_exist: str | None = None
    prefer: Prefer = DEFAULT_PREFER
    format: Format = "json"  # of the answer over HTTP; Replies are JSON until they leave
    pretty: bool = False
    language: Language = "en"  # of what the answer says to people
    remarks: list[Issue] = field(default_factory=list)  # what the policy says of a resource that it lets pass

    def resource(self) -> Resource:
        """The body. Raises FhirError 400 when there is none or when it is of another type than the address."""
        if self.body is None:
            raise FhirError.of(400, "required", "a resource is expected as body", self.place)
        if self.body.get("resourceType") != self.resource_type:
            message = f"resourceType must be {self.resource_type}, as in the address"
            raise FhirError.of(400, "invalid", message, f"{self.place or self.resource_type}.resourceType")
        return self.body


@dataclass(slots=True)
class Reply:
    """What is answered.

    `version` and `last_updated` become ETag and Last-Modified, `location` is relative to the base.
    """

    status: int
    body: bytes = b""
    version: int | None = None
    last_updated: datetime | None = None
    location: str = ""
    content_type: str = CONTENT_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    file: Path | None = None  # answered in place of `body`, in parts where the client asks for a range
