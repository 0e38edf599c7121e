"""Binary in its own media type (FHIR R4 §2.41.4): the content itself in and out, no resource around it."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

from relais.mappings.context import Resource
from relais.server.fhir.exchange import Reply
from relais.server.fhir.json_format import load

# The content is a stranger's: no browser may run it as a page of this server, nor guess another type for it.
_GUARDED: tuple[tuple[str, str], ...] = (("X-Content-Type-Options", "nosniff"), ("Content-Security-Policy", "sandbox"))
_HEADER_VALUE = re.compile(r"[!-~]+(?: [!-~]+)*").fullmatch


def of_content(data: bytes, content_type: str, resource_id: str, security_context: str | None) -> Resource:
    """The Binary of a body that is content; `security_context` is the X-Security-Context header, a reference."""
    binary: Resource = {"resourceType": "Binary", "contentType": content_type}
    if resource_id:
        binary["id"] = resource_id
    if security_context:
        binary["securityContext"] = {"reference": security_context}
    if data:
        binary["data"] = base64.b64encode(data).decode("ascii")
    return binary


def native(reply: Reply) -> Reply | None:
    """The content of the Binary that `reply` shows, under its own media type; None when it cannot be shown so."""
    if not reply.body:
        return None
    binary = load(reply.body)
    content_type, context = binary["contentType"], binary.get("securityContext", {}).get("reference")
    if not _HEADER_VALUE(content_type) or (context and not _HEADER_VALUE(context)):
        return None
    headers = (*_GUARDED, ("X-Security-Context", context)) if context else _GUARDED
    content = base64.b64decode(binary.get("data", ""))
    return replace(reply, body=content, content_type=content_type, headers=headers)
