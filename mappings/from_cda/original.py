"""The document as received: its exact bytes in a Binary, a DocumentReference that describes it, a Provenance."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from relais.cda.datatypes import datetime_from_ts
from relais.cda.model import Media
from relais.cda.xdm import CDA_MIME_TYPES
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import absent, concept, stated_concept
from relais.mappings.from_cda.header import FACILITY
from relais.mappings.from_cda.reading import Reading
from relais.mappings.from_cda.refusals import BODY

PROVENANCE_AGENTS = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


def document_reference(reading: Reading, composition: Resource, data: bytes) -> Resource:
    """The Reference to the DocumentReference of the original; an unstructured body (N1) is a second format of it."""
    header = reading.document.header
    body = reading.document.non_xml_body
    media_type = CDA_MIME_TYPES[reading.document.self_displaying]
    contents = [_content(reading, "document", data, media_type, composition)]
    if body is not None and body.data is not None:
        reading.warn_of_end(body, BODY)
        contents.append(_content(reading, "body", body.data, _media_type(reading, body), composition))
    label = stated_concept(reading, header.confidentiality, "confidentialityCode")
    elements: Resource = {
        "masterIdentifier": identity.identifier_of(header.id),
        "identifier": [composition["identifier"]] if composition.get("identifier") else [],
        "status": "current",
        "docStatus": "final",
        "type": concept(header.code),
        "subject": composition["subject"],
        "date": instant(header.effective_time),
        "author": [_bare(author) for author in composition["author"] if "reference" in author],
        "authenticator": next((one["party"] for one in composition["attester"] if "party" in one), None),
        "custodian": composition["custodian"],
        "description": composition["title"],
        "securityLabel": [label] if label else [],
        "content": contents,
        "context": _context(reading, composition),
    }
    return reading.add("DocumentReference", (), elements)


def provenance(reading: Reading, target: Resource, original: Resource, composition: Resource) -> Resource:
    """The Provenance of the Composition: made from the original by its authors, at the time it bears."""
    authors = [_bare(author) for author in composition["author"] if "reference" in author]
    kind = {"coding": [{"system": PROVENANCE_AGENTS, "code": "author"}]}
    elements: Resource = {
        "target": [target],
        "recorded": instant(reading.document.header.effective_time),
        "agent": [{"type": kind, "who": author} for author in authors] or [{"type": kind, "who": absent("UNK")}],
        "entity": [{"role": "source", "what": original}],
    }
    return reading.add("Provenance", (), elements)


def instant(ts: str | None) -> str | None:
    """The instant at which a TS begins."""
    return datetime_from_ts(ts).isoformat() if ts else None


def _bare(reference: Resource) -> Resource:
    return {"reference": reference["reference"]}


def _media_type(reading: Reading, body: Media) -> str:
    if body.media_type:
        return body.media_type
    reading.warn(
        "component/nonXMLBody/text/@mediaType",
        "missing: what the body is, is not known",
        "CI-SIS Structuration minimale, corps non structuré",
        "required",
    )
    return "application/octet-stream"


def _content(reading: Reading, role: str, data: bytes, media_type: str, composition: Resource) -> Resource:
    elements = {"contentType": media_type, "data": _base64(data)}
    binary = reading.add("Binary", (role,), elements)
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    attachment: dict[str, Any] = {
        "contentType": media_type,
        "language": composition.get("language") or None,
        "url": binary["reference"],
        "size": len(data),
        "hash": _base64(digest),
        "title": composition.get("title"),
        "creation": composition.get("date"),
    }
    return {"attachment": {name: content for name, content in attachment.items() if content is not None}}


def _base64(data: bytes) -> str:
    return str(msgspec.to_builtins(data))  # faster than `base64`: the largest part of a Bundle


def _context(reading: Reading, composition: Resource) -> Resource:
    """Codes of the act and of its place, which only XDS metadata and this resource hold."""
    header = reading.document.header
    act = header.service_events[0] if header.service_events else None
    structure = act.performers[0].assigned.organization if act and act.performers else None
    facility = header.encounter.facility if header.encounter else None
    found: Resource = {
        "encounter": [composition["encounter"]] if composition.get("encounter") else [],
        "event": [code for event in composition["event"] for code in event.get("code", ())],
        "period": composition["event"][0].get("period") if composition["event"] else None,
        "facilityType": stated_concept(reading, facility.code, f"{FACILITY}/code") if facility else None,
        "practiceSetting": concept(structure.industry_class) if structure else None,
        "sourcePatientInfo": composition["subject"],
    }
    return {name: content for name, content in found.items() if content}
