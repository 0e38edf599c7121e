"""The document that a stored DocumentReference points to: its bytes, and whether they are what the reference says.

FHIR R4 DocumentReference (§10.2) with the document inline or as a Binary of this server.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.server.delivery import same_patient
from relais.server.documents import IssuedDocument
from relais.server.fhir import references
from relais.server.fhir.repository import Transaction

CDA_TYPES = frozenset({"text/xml", "application/xml", "application/hl7-v3+xml"})
_RULE = "FHIR R4 DocumentReference"


def content_of(transaction: Transaction, reference: Resource) -> bytes:
    """The CDA document of a DocumentReference that may leave, byte for byte.

    Raises RelaisError when the reference is not current or not final, and as `held_by`.
    """
    if reference.get("status") != "current":
        raise _refusal("business-rule", "only a current DocumentReference is sent", "status")
    if reference.get("docStatus") in ("preliminary", "entered-in-error"):
        raise _refusal("business-rule", "a document that is not final is not sent", "docStatus")
    return held_by(transaction, reference)


def held_by(transaction: Transaction, reference: Resource) -> bytes:
    """The CDA document of a DocumentReference, whatever its status.

    Raises RelaisError when it holds no CDA or several, points outside of this server, or when the bytes do not have the
    size and the SHA-1 that the attachment states; FhirError when the Binary does not exist.
    """
    found = list(_cda_attachments(reference))
    if len(found) != 1:
        raise _refusal("not-supported", f"one CDA document is expected, {len(found)} found", "content.attachment")
    index, attachment = found[0]
    place = f"content[{index}].attachment"
    data = _bytes_of(transaction, attachment, place)
    if attachment.get("size", len(data)) != len(data):
        raise _refusal("invalid", "the size differs from the document", f"{place}.size")
    stated = attachment.get("hash")
    if stated and base64.b64decode(stated) != hashlib.sha1(data, usedforsecurity=False).digest():
        raise _refusal("invalid", "the hash (SHA-1) differs from the document", f"{place}.hash")
    return data


def subject_of(transaction: Transaction, reference: Resource) -> str:
    """`Patient/[id]` of a DocumentReference. Raises RelaisError when it is none of this server."""
    target = references.restful(reference.get("subject", {}).get("reference", ""))
    if target is None or target[1] != "Patient" or target[0] not in ("", transaction.repository.base):
        raise _refusal("required", "a Patient of this server is expected", "subject")
    return f"Patient/{target[2]}"


def check_patient(transaction: Transaction, reference: Resource, document: IssuedDocument) -> None:
    """Raises RelaisError for a document about somebody else than the subject of the DocumentReference."""
    patient = transaction.load(*subject_of(transaction, reference).split("/"))
    _refuse_subject(same_patient.objections(patient, document.identity.patient, qualified=False))


def check_leaving(transaction: Transaction, reference: Resource, document: IssuedDocument, *, qualified: bool) -> None:
    """Raises RelaisError for a document that may not leave as about the subject; `qualified` as `standing`."""
    base, subject = transaction.repository.base, subject_of(transaction, reference)
    _refuse_subject(same_patient.standing(transaction.connection, base, subject, document, qualified=qualified))


def _refuse_subject(found: Iterable[Issue]) -> None:
    if issues := [replace(issue, path="DocumentReference.subject") for issue in found]:
        raise RelaisError(issues)


def _cda_attachments(reference: Resource) -> Iterator[tuple[int, Resource]]:
    for index, content in enumerate(reference.get("content", ())):
        attachment = content.get("attachment", {})
        if attachment.get("contentType", "").partition(";")[0].strip().lower() in CDA_TYPES:
            yield index, attachment


def _bytes_of(transaction: Transaction, attachment: Resource, place: str) -> bytes:
    if "data" in attachment:
        return base64.b64decode(attachment["data"])
    target = references.restful(attachment.get("url", ""))
    if target is None or target[1] != "Binary" or target[0] not in ("", transaction.repository.base):
        raise _refusal("not-supported", "the document is no Binary of this server", f"{place}.url")
    return base64.b64decode(transaction.load("Binary", target[2]).get("data", ""))


def _refusal(code: str, message: str, place: str) -> RelaisError:
    return RelaisError(Issue("error", code, message, f"DocumentReference.{place}", _RULE))
