"""A CDA document that was received: as a FHIR document Bundle, and filed with its bytes untouched.

What a document says is stored under ids that follow from the document, so that filing it again changes nothing. Its
patient is the stored one who bears the INS, if there is one; everybody else is who the document says. The next version
of a document makes the next versions of what it says (`meta.source` is the lineage).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from relais.cda.datatypes import urn_from_root
from relais.cda.errors import Issue, RelaisError
from relais.cda.model import II, Document, Header
from relais.cda.reader import read
from relais.cda.templates import INS_ROOTS
from relais.mappings import identity
from relais.mappings.context import Deployment, Resource
from relais.mappings.from_cda import to_bundle
from relais.server import documents, patient_matching
from relais.server.delivery import visibility
from relais.server.delivery.visibility import Audience
from relais.server.documents import IssuedDocument
from relais.server.fhir import references
from relais.server.fhir.deposits import deposited, fiches_of, number_of
from relais.server.fhir.json_format import load
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Stored, Transaction
from relais.server.search import search

REPLACEMENT_RULE = "CI-SIS Structuration minimale, relatedDocument"
_RELATED = "ClinicalDocument/relatedDocument"
_RELATIONS = {"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"}
"""DocumentReference.relatesTo.code of each relatedDocument/@typeCode: only a replacement supersedes."""

_AT_ONCE = 50  # identifiers in one search

_OF_ONE_DOCUMENT = frozenset(
    {
        *("Binary", "CareTeam", "Composition", "Device", "DocumentReference", "HealthcareService", "Location"),
        *("Organization", "Patient", "Practitioner", "PractitionerRole", "Provenance", "RelatedPerson"),
    }
)
"""Types whose resources are those of one version: who is who, and the document itself."""


@dataclass(frozen=True, slots=True)
class Received:
    """A document: `data` as it came, the model, the document Bundle, and what could not be carried over.

    `hidden_from`: from whom its sender hides it, which no CDA says; `only_them`: and from nobody else any more.
    """

    data: bytes
    document: Document
    bundle: Resource
    issues: tuple[Issue, ...]
    hidden_from: frozenset[Audience] = frozenset()
    only_them: bool = False

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


def receive(data: bytes, hidden_from: Collection[Audience] = (), *, only_them: bool = False) -> Received:
    """Read a CDA document. Raises UnreadableError; MappingError when it does not say which it is, or of whom.

    From whom it is hidden is what the metadata or the message say that brought it (XDS confidentialityCode,
    MetaDMPMSS).
    """
    found = read(data)
    imported = to_bundle(found.document, data)
    issues = tuple(dict.fromkeys([*found.issues, *imported.issues]))
    return Received(data, found.document, imported.bundle, issues, frozenset(hidden_from), only_them)


def refuse_other_environment(document: Document, deployment: Deployment) -> None:
    """Raise RelaisError for an INS of the other environment: test and production never meet (Référentiel INS)."""
    for index, ii in enumerate(document.header.patient.ids, 1):
        if ii.root in INS_ROOTS and not identity.may_leave(ii.root, deployment):
            message = f"an INS that may not enter an instance in {deployment.ins_environment} mode"
            place = f"{patient_matching.PLACE}/id[{index}]"
            raise RelaisError(Issue("error", "business-rule", message, place, "Référentiel INS: OIDs"))


def file(transaction: Transaction, received: Received) -> Filed:
    """Store the Bundle of a document, its bytes among it, and make it known for transmission; once.

    Raises RelaisError when its id names another document or its setId documents of another patient, FhirError 409 or
    412 when its patient cannot be told without doubt, 409 when it was withdrawn here, taken from its patient or
    deposited before, 422 for what the policy of the server refuses.
    """
    reference = received.first("DocumentReference")
    transaction.exclusively(f"import of {reference['id']}")
    transaction.exclusively(f"lineage {documents.lineage_of(received.document.header)}")
    registered = documents.register(transaction.connection, received.data, transaction.now)
    known = transaction.current("DocumentReference", reference["id"])
    if known is not None and not known.deleted:
        reference = load(known.content or b"")
        _refuse_changed(reference)
        known = _hidden_as_told(transaction, known, reference, received)
        return Filed((known, *_beside(transaction, received, reference)), frozenset(), received.issues)
    _refuse_deposited(transaction, reference["masterIdentifier"], received.document.header.id)
    matched = patient_matching.match(transaction, received.first("Patient"))
    names = _names(transaction, received, matched)
    newest = documents.newest_of(transaction.connection, registered.lineage)
    late = newest is not None and newest.version > registered.version
    resources = list(_to_write(transaction, received, names, late=late))
    related = list(_related(transaction, received, resources[0]["subject"]["reference"]))
    earlier = list(_earlier(transaction, registered, resources[0]["subject"]["reference"]))
    remarks = list(_chain(resources[0], registered, related, late=late))
    if matched:
        remarks += patient_matching.not_taken_over(received.first("Patient"), transaction.load("Patient", matched))
    remarks += transaction.repository.check([(one, one["resourceType"]) for one in resources])
    created = frozenset(_name(one) for one in resources if _current(transaction, _name(one)) is None)
    replaced = [*earlier, *(one.former for one in related if one.code == "replaces")]
    with transaction.unwatched():  # a received document orders nothing
        written = {_name(one): transaction.update(one, checked=True) for one in resources}
        for former in {_name(one): one for one in replaced if one["status"] == "current"}.values():
            transaction.update(former | {"status": "superseded"})
    beside = [name for name in dict.fromkeys(names.values()) if name not in written]
    stored = (*written.values(), *(transaction.read(*name.split("/")) for name in beside))
    return Filed(stored, created, (*received.issues, *remarks))


def _refuse_changed(reference: Resource) -> None:
    """Refuse a document that somebody here withdrew since, or took from its patient."""
    place = "ClinicalDocument/id"
    if reference["status"] == "entered-in-error":
        message = "this document was withdrawn here: only another one, under its own id, can be filed"
        raise FhirError(409, Issue("error", "conflict", message, place, "DocumentReference.status"))
    if "reference" not in reference.get("subject", {}):
        message = "the DocumentReference of this document names no patient here any more"
        raise FhirError(409, Issue("error", "conflict", message, place, "DocumentReference.subject"))


def _refuse_deposited(transaction: Transaction, number: Resource, document_id: II) -> None:
    """A fiche that somebody deposited names its document as FHIR or as XDS does."""
    as_in_xds = {"system": identity.URI_SYSTEM, "value": f"urn:oid:{documents.name_of(document_id)}"}
    if deposited(transaction, number, as_in_xds):
        message = "the document was deposited here before: it has a DocumentReference already"
        place = "ClinicalDocument/id"
        raise FhirError(409, Issue("error", "duplicate", message, place, "PDSm: one fiche a document"))


def _hidden_as_told(transaction: Transaction, known: Stored, reference: Resource, received: Received) -> Stored:
    """The DocumentReference of a document that came again: another way that hides it from fewer shows it to nobody."""
    told = visibility.labelled(reference, received.hidden_from, alone=received.only_them)
    if told == reference:
        return known
    with transaction.unwatched():
        return transaction.update(told)


def _name(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _current(transaction: Transaction, name: str) -> Stored | None:
    """The resource as it stands; None for one that was never there or is gone."""
    stored = transaction.current(*name.split("/"))
    return stored if stored is not None and not stored.deleted else None


def _names(transaction: Transaction, received: Received, patient_id: str | None) -> dict[str, str]:
    """What each fullUrl of the Bundle is stored as.

    What an earlier version of the document said of the same thing, by its identifier, is the same resource here.
    """
    source = _source(received.document.header)
    found = {}
    for entry in received.bundle["entry"]:
        resource = entry["resource"]
        name = _name(resource)
        if resource["resourceType"] == "Patient" and patient_id:
            name = f"Patient/{patient_id}"
        elif resource["resourceType"] not in _OF_ONE_DOCUMENT:
            name = _stated_before(transaction, received, resource, source) or name
        found[entry["fullUrl"]] = name
    return found


def _stated_before(transaction: Transaction, received: Received, resource: Resource, source: str) -> str | None:
    """The one resource of the lineage that bears an identifier which nothing else in the document bears."""
    kind = resource["resourceType"]
    for identifier in resource.get("identifier", ()):
        bearers = [
            one
            for one in received.resources()
            if one["resourceType"] == kind and number_of(identifier) in map(number_of, one.get("identifier", ()))
        ]
        asked = [("_source", source), ("identifier", identity.token(identifier))]
        if len(bearers) == 1:
            with transaction.snapshot() as connection:
                matches = search(connection, transaction.repository.base, kind, asked).matches
            if len(matches) == 1:
                return f"{kind}/{matches[0].id}"
    return None


def _source(header: Header) -> str:
    """Meta.source of what a document says: its lineage."""
    lineage = header.set_id or header.id
    root = urn_from_root(lineage.root or "") or ""
    return f"{root}#{quote(lineage.extension, safe='')}" if lineage.extension else root


def _to_write(transaction: Transaction, received: Received, names: dict[str, str], *, late: bool) -> Iterator[Resource]:
    """The resources to write, the DocumentReference first; their references name what they are stored as.

    A Patient who is stored already is not among them, nor what a later version (`late`) has said otherwise.
    """
    source = _source(received.document.header)
    entries = sorted(
        received.bundle["entry"], key=lambda entry: entry["resource"]["resourceType"] != "DocumentReference"
    )
    for entry in entries:
        kind, resource_id = names[entry["fullUrl"]].split("/")
        if kind == "Patient" and _current(transaction, f"{kind}/{resource_id}"):
            continue
        if late and resource_id != entry["resource"]["id"]:
            continue
        resource = copy.deepcopy(entry["resource"]) | {"id": resource_id}
        if kind == "DocumentReference":
            resource = visibility.labelled(resource, received.hidden_from)
        references.rewrite(resource, lambda _path, link: names.get(link, link))
        if kind != "Patient":
            resource["meta"] = resource.get("meta", {}) | {"source": source}
        yield resource


def _beside(transaction: Transaction, received: Received, reference: Resource) -> Iterator[Stored]:
    """What was stored beside the DocumentReference of a document that was filed before."""
    subject = references.restful(reference["subject"]["reference"])
    names = _names(transaction, received, subject[2] if subject else None)
    for name in dict.fromkeys(names.values()):
        stored = _current(transaction, name)
        if stored is not None and stored.type != "DocumentReference":
            yield stored


# --- versions ---------------------------------------------------------------------------------------------------------


class _Related(NamedTuple):
    """A stored DocumentReference to which the document relates, and how (DocumentReference.relatesTo.code)."""

    code: str
    former: Resource


def _related(transaction: Transaction, received: Received, subject: str) -> Iterator[_Related]:
    """What is stored of the documents to which the document relates. Raises FhirError 409."""
    for related in received.document.header.related_documents:
        code = _RELATIONS.get(related.type_code)
        for identifier in filter(None, map(identity.identifier_of, related.parent_ids if code else ())):
            for former in fiches_of(transaction, identifier):
                _refuse_other_subject(former, subject, f"{_RELATED}/parentDocument")
                yield _Related(str(code), former)


def _earlier(transaction: Transaction, registered: IssuedDocument, subject: str) -> Iterator[Resource]:
    """The current ones of the versions before the document, whether it names them or not. Raises FhirError 409."""
    ids = documents.earlier_of(transaction.connection, registered.lineage, registered.version)
    numbers = list(filter(None, map(identity.identifier_of, ids)))
    for start in range(0, len(numbers), _AT_ONCE):
        for former in fiches_of(transaction, *numbers[start : start + _AT_ONCE]):
            if former["status"] == "current":
                _refuse_other_subject(former, subject, "ClinicalDocument/setId")
                yield former


def _refuse_other_subject(former: Resource, subject: str, place: str) -> None:
    if former.get("subject", {}).get("reference") != subject:
        message = "the document to which it relates is filed with another patient"
        raise FhirError(409, Issue("error", "conflict", message, place, REPLACEMENT_RULE))


def _chain(reference: Resource, registered: IssuedDocument, related: list[_Related], *, late: bool) -> Iterator[Issue]:
    """Say in the DocumentReference what the document relates to, and that a later version is known already."""
    if related:
        reference["relatesTo"] = [{"code": one.code, "target": {"reference": _name(one.former)}} for one in related]
    if registered.identity.replaces is not None and all(one.code != "replaces" for one in related):
        message = "the version that it replaces is not filed here"
        yield Issue("information", "informational", message, _RELATED, REPLACEMENT_RULE)
    if late:
        reference["status"] = "superseded"
        message = "a later version is known here: filed as superseded"
        yield Issue("information", "informational", message, _RELATED, REPLACEMENT_RULE)
