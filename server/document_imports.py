"""A CDA document that was received: as a FHIR document Bundle, and filed with its bytes untouched.

What a document says is stored under ids that follow from the document and never change, so that filing it again changes
nothing. Its patient is the stored one who bears the INS, if there is one; everybody else is who the document says.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relais.cda.errors import Issue
from relais.cda.model import Document
from relais.cda.reader import read
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.mappings.from_cda import to_bundle
from relais.server import documents, patient_matching
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Stored, Transaction
from relais.server.search import search

REPLACEMENT_RULE = "CI-SIS Structuration minimale, relatedDocument"


@dataclass(frozen=True, slots=True)
class Received:
    """A document: `data` as it came, the model, the document Bundle, and what could not be carried over."""

    data: bytes
    document: Document
    bundle: Resource
    issues: tuple[Issue, ...]

    def resources(self) -> Iterator[Resource]:
        """The resources of the Bundle, in order."""
        for entry in self.bundle["entry"]:
            yield entry["resource"]

    def first(self, resource_type: str) -> Resource:
        """The first resource of a type; a document Bundle has a Patient and a DocumentReference."""
        return next(one for one in self.resources() if one["resourceType"] == resource_type)


@dataclass(frozen=True, slots=True)
class Filed:
    """What filing led to: the stored versions, the DocumentReference first, and whether the document is `new` here.

    `created` names those that were written now (`Type/[id]`).
    """

    stored: tuple[Stored, ...]
    created: frozenset[str]
    issues: tuple[Issue, ...]

    @property
    def new(self) -> bool:
        """Whether the document was not filed before."""
        return bool(self.created)


def receive(data: bytes) -> Received:
    """Read a CDA document. Raises UnreadableError; MappingError when it does not say which it is, or of whom."""
    found = read(data)
    imported = to_bundle(found.document, data)
    return Received(data, found.document, imported.bundle, tuple(dict.fromkeys([*found.issues, *imported.issues])))


def file(transaction: Transaction, received: Received) -> Filed:
    """Store the Bundle of a document, its bytes among it, and make it known for transmission; once.

    Raises RelaisError when its id names another document or its setId documents of another patient, FhirError 409 or
    412 when its patient cannot be told without doubt, 422 for what the policy of the server refuses.
    """
    reference = received.first("DocumentReference")
    transaction.exclusively(f"import of {reference['id']}")
    transaction.exclusively(f"lineage {documents.lineage_of(received.document.header)}")
    registered = documents.register(transaction.connection, received.data, transaction.now)
    known = transaction.current("DocumentReference", reference["id"])
    if known is not None and not known.deleted:
        return Filed(tuple(_known(transaction, received, known)), frozenset(), received.issues)
    matched = patient_matching.match(transaction, received.first("Patient"))
    resources = _named(received, matched)
    replaced = _replaced(transaction, received, resources)
    remarks = list(_chain(transaction, registered, resources[0], replaced))
    remarks += transaction.repository.check([(one, one["resourceType"]) for one in resources])
    stored = [transaction.update(one, checked=True) for one in resources]
    created = frozenset(f"{one.type}/{one.id}" for one in stored)
    for former in replaced:
        transaction.update(former | {"status": "superseded"})
    beside = [transaction.read("Patient", matched)] if matched else []
    return Filed((*stored, *beside), created, (*received.issues, *remarks))


def _named(received: Received, matched: str | None) -> list[Resource]:
    """The resources to write, the DocumentReference first; their references name what they will be stored as."""
    patient = received.first("Patient")
    names = {
        entry["fullUrl"]: f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
        for entry in received.bundle["entry"]
    }
    if matched:
        names = {
            url: f"Patient/{matched}" if name == f"Patient/{patient['id']}" else name for url, name in names.items()
        }
    found = [copy.deepcopy(one) for one in received.resources() if not (matched and one is patient)]
    for resource in found:
        references.rewrite(resource, lambda _path, link: names.get(link, link))
    return sorted(found, key=lambda resource: resource["resourceType"] != "DocumentReference")


def _known(transaction: Transaction, received: Received, reference: Stored) -> Iterator[Stored]:
    """What was stored of a document that was filed before, the DocumentReference first."""
    yield reference
    subject = references.restful(load(reference.content or b"")["subject"]["reference"])
    for resource in received.resources():
        kind, resource_id = resource["resourceType"], resource["id"]
        if kind == "Patient" and subject:
            resource_id = subject[2]
        stored = transaction.current(kind, resource_id)
        if stored is not None and not stored.deleted and kind != "DocumentReference":
            yield stored


# --- versions ---------------------------------------------------------------------------------------------------------


def _replaced(transaction: Transaction, received: Received, resources: list[Resource]) -> list[Resource]:
    """The stored DocumentReferences of the versions that the document replaces."""
    subject = resources[0]["subject"]["reference"]
    found: list[Resource] = []
    for related in received.document.header.related_documents:
        for identifier in filter(None, map(identity.identifier_of, related.parent_ids)):
            former = _by_number(transaction, identifier)
            if any(one.get("subject", {}).get("reference") != subject for one in former):
                message = "the document that it replaces is filed with another patient"
                place = "ClinicalDocument/relatedDocument/parentDocument"
                raise FhirError(409, Issue("error", "conflict", message, place, REPLACEMENT_RULE))
            found += former
    return found


def _by_number(transaction: Transaction, identifier: Resource) -> list[Resource]:
    """The stored DocumentReferences whose masterIdentifier is that."""
    asked = [("identifier", f"{identifier['system']}|{identifier['value']}")]
    with transaction.snapshot() as connection:
        matches = search(connection, transaction.repository.base, "DocumentReference", asked).matches
    found = [load(one.content or b"") for one in matches]
    number = (identifier["system"], identifier["value"])
    return [one for one in found if _pair(one.get("masterIdentifier", {})) == number]


def _pair(identifier: dict[str, Any]) -> tuple[Any, Any]:
    return identifier.get("system"), identifier.get("value")


def _chain(
    transaction: Transaction,
    registered: documents.IssuedDocument,
    reference: Resource,
    replaced: list[Resource],
) -> Iterator[Issue]:
    """Place the document in its lineage: what it replaces, and whether a later version is known already."""
    place = "ClinicalDocument/relatedDocument"
    if replaced:
        reference["relatesTo"] = [
            {"code": "replaces", "target": {"reference": f"DocumentReference/{one['id']}"}} for one in replaced
        ]
    elif registered.identity.replaces is not None:
        message = "the version that it replaces is not filed here"
        yield Issue("information", "informational", message, place, REPLACEMENT_RULE)
    newest = documents.newest_of(transaction.connection, registered.lineage)
    if newest is not None and newest.version > registered.version:
        reference["status"] = "superseded"
        message = "a later version is known here: filed as superseded"
        yield Issue("information", "informational", message, place, REPLACEMENT_RULE)
