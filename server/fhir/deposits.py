"""Documents deposited in the facade as the volet PDSm has it: one fiche a document, and a replaced one is superseded.

PDSm 3.1.1, flux 01 (IHE MHD ITI-65) and flux 09 (ITI-105), told by the profile that a DocumentReference claims. What
the parts of a flux 01 must agree on is in `relais.server.deposit_rules`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from relais.mappings.context import Resource
from relais.mappings.identity import token
from relais.mappings.pdsm import FICHE_PROFILE, LISTS, SIMPLIFIED_PROFILE, URI
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Transaction, instant, new_id
from relais.server.search import search


def accepted(transaction: Transaction, resource: Resource, resource_id: str, place: str) -> Resource:
    """The resource to create under `resource_id` for one that was sent: itself, unless it is a fiche of PDSm.

    The fiche that it replaces is superseded; a simplified one gets its Binary and its lot. Raises FhirError 422 when
    the document is known already, or replaces one that is not there, not current or of another patient.
    """
    claimed = {str(url).partition("|")[0] for url in resource.get("meta", {}).get("profile", ())}
    if resource["resourceType"] != "DocumentReference" or not claimed & {FICHE_PROFILE, SIMPLIFIED_PROFILE}:
        return resource
    number = resource.get("masterIdentifier")
    if number and deposited(transaction, number):
        message = "the document was deposited before"
        raise FhirError.of(422, "duplicate", message, f"{place or 'DocumentReference'}.masterIdentifier")
    for index, related in enumerate(resource.get("relatesTo", ())):
        if related.get("code") == "replaces":
            where = f"{place or 'DocumentReference'}.relatesTo[{index}].target"
            _supersede(transaction, related["target"], resource.get("subject"), where)
    if SIMPLIFIED_PROFILE in claimed:
        return _published(transaction, resource, resource_id, place or "DocumentReference")
    return resource


def deposited(transaction: Transaction, *numbers: Resource) -> list[Resource]:
    """As `fiches_of`; until the transaction ends nobody else deposits a document of these numbers."""
    for number in sorted(numbers, key=token):
        transaction.exclusively(f"deposit of {token(number)}")
    return fiches_of(transaction, *numbers)


def fiches_of(transaction: Transaction, *numbers: Resource) -> list[Resource]:
    """The stored DocumentReferences whose masterIdentifier is one of these."""
    asked, wanted = [("identifier", ",".join(map(token, numbers)))], set(map(number_of, numbers))
    found: list[Resource] = []
    page: str | None = ""
    while page is not None:
        with transaction.snapshot() as connection:
            base = transaction.repository.base
            result = search(connection, base, "DocumentReference", asked, page=page or None)
        found += [load(one.content or b"") for one in result.matches]
        page = result.next_page
    return [one for one in found if number_of(one.get("masterIdentifier", {})) in wanted]


def number_of(identifier: Resource) -> tuple[Any, Any]:
    """What makes two identifiers the same."""
    return identifier.get("system"), identifier.get("value")


def _supersede(transaction: Transaction, target: Resource, subject: Resource | None, place: str) -> None:
    named = references.restful(target.get("reference", ""))
    here = named is not None and named[0] in ("", transaction.repository.base)
    stored = transaction.current(named[1], named[2]) if named and here else None
    if stored is None or stored.type != "DocumentReference" or stored.deleted:
        raise FhirError.of(422, "not-found", "the document to replace is not here", place)
    former = load(stored.content or b"")
    if former.get("subject", {}).get("reference") != (subject or {}).get("reference"):
        raise FhirError.of(422, "business-rule", "the document to replace is about another patient", place)
    if former["status"] != "current":
        raise FhirError.of(422, "business-rule", "the document to replace is not current", place)
    transaction.update(former | {"status": "superseded"})


def _published(transaction: Transaction, fiche: Resource, resource_id: str, place: str) -> Resource:
    """The fiche whose content stands in a Binary of its own; its lot is stored beside it."""
    first, *others = fiche["content"]
    attachment = first["attachment"]
    if others or "data" not in attachment or "url" in attachment:
        message = "one content is expected, with its data and without url"
        raise FhirError.of(422, "required", message, f"{place}.content")
    try:
        data = base64.b64decode("".join(attachment["data"].split()), validate=True)
    except binascii.Error as error:
        raise FhirError.of(400, "value", "no base64", f"{place}.content[0].attachment.data") from error
    digest = base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
    for name, found in (("size", len(data)), ("hash", digest)):
        if attachment.get(name, found) != found:
            message = f"{name} is not that of the data"
            raise FhirError.of(422, "business-rule", message, f"{place}.content[0].attachment.{name}")
    binary = {"resourceType": "Binary", "contentType": attachment["contentType"], "data": attachment["data"]}
    stored = transaction.create(binary)
    described = {name: value for name, value in attachment.items() if name != "data"}
    described |= {"url": f"Binary/{stored.id}", "size": len(data), "hash": digest}
    transaction.create(_lot(transaction, fiche, resource_id))
    return fiche | {"content": [first | {"attachment": described}]}


def _lot(transaction: Transaction, fiche: Resource, resource_id: str) -> Resource:
    """The submission set that the server makes of a simplified publication."""
    lot: Resource = {
        "resourceType": "List",
        "identifier": [{"use": "usual", "system": URI, "value": f"urn:uuid:{new_id()}"}],
        "status": "current",
        "mode": "working",
        "code": {"coding": [{"system": LISTS, "code": "submissionset"}]},
        "date": instant(transaction.now),
        "entry": [{"item": {"reference": f"DocumentReference/{resource_id}"}}],
    }
    subject = fiche.get("subject", {})
    return lot if subject.get("reference", "").startswith("#") or not subject else lot | {"subject": subject}
