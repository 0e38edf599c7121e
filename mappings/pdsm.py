"""A document and its XDS metadata as the Bundle that deposits it in a FHIR document share.

Volet PDSm 3.1.1, flux 01 (`pdsm-comprehensive-provide-document-bundle`) and 09 (`pdsm-simplified-publish`), IHE MHD 4.2
ITI-65 and ITI-105. The fiche says what the XDS metadata say: codes, identifiers, size and SHA-1 are carried over, never
made again.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from relais.cda.datatypes import datetime_from_ts
from relais.cda.model import II, Code, Document
from relais.cda.xds import CodedValue, DocumentEntry, MetadataAuthor, Submission, SubmissionSet
from relais.cda.xds_types import XCN, XON
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.mappings.from_cda import to_bundle
from relais.mappings.from_cda.datatypes import concept, identifiers

PDSM = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition"
BUNDLE_PROFILE = f"{PDSM}/pdsm-comprehensive-provide-document-bundle"
SIMPLIFIED_PROFILE = f"{PDSM}/pdsm-simplified-publish"
FICHE_PROFILE = f"{PDSM}/pdsm-comprehensive-document-reference"
LOT_PROFILE = f"{PDSM}/pdsm-submissionset-comprehensive"
URI = "urn:ietf:rfc:3986"

_MHD = "https://profiles.ihe.net/ITI/MHD"
LISTS = f"{_MHD}/CodeSystem/MHDlistTypes"
_TYPES_OF_NUMBERS = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"
_LINKS_OF_PATIENT = frozenset({"generalPractitioner", "managingOrganization", "link", "contact"})
_PARTIES: dict[str, frozenset[str]] = {
    "Practitioner": frozenset({"identifier", "name", "telecom", "qualification"}),
    "PractitionerRole": frozenset({"practitioner", "organization", "code", "specialty", "telecom"}),
    "Organization": frozenset({"identifier", "type", "name", "telecom"}),
    "Device": frozenset({"identifier", "deviceName", "owner"}),
    "RelatedPerson": frozenset({"identifier", "patient", "relationship", "name"}),
    "Patient": frozenset({"extension", "identifier", "name", "telecom", "gender", "birthDate", "address"}),
}
"""What a fiche says of the parties that it contains: who they are, as XDS metadata do."""


def unique_id(entry: DocumentEntry) -> Resource:
    """The masterIdentifier of a document."""
    return {"use": "usual", "system": URI, "value": f"urn:oid:{entry.unique_id}"}


def deposit(document: Document, data: bytes, submission: Submission, *, replaced: str | None = None) -> Resource:
    """The transaction that deposits `document`, whose bytes are `data`, with the one entry of its submission.

    `replaced` is the reference (`DocumentReference/[id]`) of the fiche that it takes the place of, on the share, which
    becomes `superseded` in the same transaction. The patient is found there by INS, or created. The same submission
    gives the same Bundle. Raises MappingError for a document without identity or patient.
    """
    entry, lot = submission.entries[0], submission.submission_set
    imported = to_bundle(document, data).bundle
    resources = {one["fullUrl"]: one["resource"] for one in imported["entry"]}
    original = next(one for one in resources.values() if one["resourceType"] == "DocumentReference")
    names = _Names(lot.unique_id)
    patient = resources[original["subject"]["reference"]]
    attachment = original["content"][0]["attachment"]
    binary = resources[attachment["url"]]
    attachment |= {"url": names.of("Binary")}
    parts = _Parts(FICHE_PROFILE, names.of("Patient"), attachment, replaced)
    entries = [
        _created(names.of("List"), _lot(lot, entry, original, resources, names)),
        _created(names.of("DocumentReference"), _fiche(entry, lot, original, resources, parts)),
        _created(names.of("Binary"), _without_id(binary)),
        _created(names.of("Patient"), _without_id(patient), none_exist=_criteria(patient)),
    ]
    if replaced:
        entries.append(superseding(replaced))
    return {"resourceType": "Bundle", "meta": {"profile": [BUNDLE_PROFILE]}, "type": "transaction", "entry": entries}


def simplified(
    document: Document, data: bytes, submission: Submission, patient: str, *, replaced: str | None = None
) -> Resource:
    """The DocumentReference that deposits `document` by itself, its bytes inside: flux 09, ITI-105.

    `patient` and `replaced` are references on the share, which makes the lot and supersedes what is replaced. Raises
    as `deposit`.
    """
    entry, lot = submission.entries[0], submission.submission_set
    imported = to_bundle(document, data).bundle
    resources = {one["fullUrl"]: one["resource"] for one in imported["entry"]}
    original = next(one for one in resources.values() if one["resourceType"] == "DocumentReference")
    attachment = {name: one for name, one in original["content"][0]["attachment"].items() if name != "url"}
    attachment |= {"data": base64.b64encode(data).decode("ascii")}
    fiche = _fiche(entry, lot, original, resources, _Parts(SIMPLIFIED_PROFILE, patient, attachment, replaced))
    return {name: element for name, element in fiche.items() if name != "identifier"}  # the profile has none


def superseding(fiche: str) -> Resource:
    """The entry of a transaction that takes a fiche (`DocumentReference/[id]`) out of use: flux 03."""
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "DocumentReference.status"},
        {"name": "value", "valueCode": "superseded"},
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    return {"resource": patch, "request": {"method": "PATCH", "url": fiche}}


class _Parts(NamedTuple):
    """What a fiche says as the transaction wants it: profile, subject, attachment, and the fiche that it replaces."""

    profile: str
    subject: str
    attachment: Resource
    replaced: str | None


class _Names:
    """The fullUrls of one deposit: they follow from the lot."""

    def __init__(self, lot: str) -> None:
        self._lot = lot

    def of(self, resource_type: str) -> str:
        return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, f'{self._lot}/{resource_type}')}"


def _created(full_url: str, resource: Resource, *, none_exist: str = "") -> Resource:
    request = {"method": "POST", "url": resource["resourceType"]}
    if none_exist:
        request["ifNoneExist"] = none_exist
    return {"fullUrl": full_url, "resource": resource, "request": request}


def _criteria(patient: Resource) -> str:
    """How the share tells the patient from others: by INS, else by the first local number."""
    numbers = [*identity.ins_identifiers(patient), *identity.local_identifiers(patient)]
    return identity.criteria(numbers[0]) if numbers else ""


# --- fiche and lot ----------------------------------------------------------------------------------------------------


def _fiche(
    entry: DocumentEntry,
    lot: SubmissionSet,
    original: Resource,
    resources: Mapping[str, Resource],
    parts: _Parts,
) -> Resource:
    parties = _Contained(resources)
    context = original.get("context", {})
    numbers = [unique_id(entry)["value"], entry.entry_id]
    found: Resource = {
        "resourceType": "DocumentReference",
        "meta": {"profile": [parts.profile]},
        "masterIdentifier": unique_id(entry),
        "identifier": [
            {"use": "official", "system": URI, "value": entry.entry_id},
            *({"use": "secondary"} | one for one in original.get("identifier", ()) if one.get("value") not in numbers),
        ],
        "status": "current",
        "type": _concept(entry.type_code),
        "category": [_concept(entry.class_code)],
        "subject": {"reference": parts.subject},
        "date": _instant(lot.submission_time),
        "author": parties.local(original["author"]),
        "authenticator": parties.local(original.get("authenticator")),
        "custodian": parties.local(original["custodian"]),
        "relatesTo": [{"code": "replaces", "target": {"reference": parts.replaced}}] if parts.replaced else [],
        "description": original.get("description"),
        "securityLabel": [_concept(code) for code in entry.confidentiality],
        "content": [
            {
                "attachment": parts.attachment | {"title": entry.title},
                "format": _coding(entry.format_code),
            }
        ],
        "context": {
            "event": [_concept(code) for code in entry.event_codes],
            "period": context.get("period"),
            "facilityType": _concept(entry.facility_type),
            "practiceSetting": _concept(entry.practice_setting),
            "sourcePatientInfo": parties.local(original["subject"]),
        },
    }
    return _present(found | {"contained": parties.contained()})


def _lot(
    lot: SubmissionSet, entry: DocumentEntry, original: Resource, resources: Mapping[str, Resource], names: _Names
) -> Resource:
    sender = _sender(lot.author)
    parties = _Contained({**resources, **sender})
    same = len(entry.authors) == len(original["author"])
    written = dict(zip(entry.authors, original["author"], strict=True)) if same else {}
    source = written.get(lot.author, {"reference": next(iter(sender))})
    found: Resource = {
        "resourceType": "List",
        "meta": {"profile": [LOT_PROFILE]},
        "extension": [
            {
                "url": f"{_MHD}/StructureDefinition/ihe-designationType",
                "valueCodeableConcept": _concept(lot.content_type),
            },
            {
                "url": f"{_MHD}/StructureDefinition/ihe-sourceId",
                "valueIdentifier": {"use": "usual", "system": URI, "value": f"urn:oid:{lot.source_id}"},
            },
        ],
        "identifier": [{"use": "usual", "system": URI, "value": f"urn:oid:{lot.unique_id}"}],
        "status": "current",
        "mode": "working",
        "title": lot.title or original.get("description"),
        "code": {"coding": [{"system": LISTS, "code": "submissionset"}]},
        "subject": {"reference": names.of("Patient")},
        "date": _instant(lot.submission_time),
        "source": parties.local(source),
        "entry": [{"item": {"reference": names.of("DocumentReference")}}],
    }
    return _present(found | {"contained": parties.contained()})


def _sender(author: MetadataAuthor) -> dict[str, Resource]:
    """Who sends without having written, by reference: first the one to refer to, then what that refers to."""
    person, structures = XCN.parse(author.person or ""), [XON.parse(text) for text in author.institutions[:1]]
    numbers = identifiers([II(person.oid, person.id)])
    found: dict[str, Resource] = {}
    if person.type == "RI":
        name = [{"name": person.family, "type": "user-friendly-name"}]
        found["sender"] = {"resourceType": "Device", "identifier": numbers, "deviceName": name}
    else:
        found["sender"] = {"resourceType": "PractitionerRole", "practitioner": {"reference": "sender-person"}}
        names = [{"family": person.family, "given": [person.given] if person.given else None}]
        found["sender-person"] = {"resourceType": "Practitioner", "identifier": numbers, "name": names}
    for structure in structures:
        numbers = identifiers([II(structure.oid, structure.id)]) if structure.id else []
        found["sender-structure"] = {"resourceType": "Organization", "identifier": numbers, "name": structure.name}
        owner = "owner" if person.type == "RI" else "organization"
        found["sender"][owner] = {"reference": "sender-structure"}
    return {name: {"id": name} | resource for name, resource in found.items()}


class _Contained:
    """The parties that a resource refers to, contained in it."""

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        self._resources = resources
        self._found: dict[str, Resource] = {}

    def local(self, element: Any) -> Any:
        """The element with references to what is contained."""
        if isinstance(element, list):
            return [self.local(one) for one in element]
        if not isinstance(element, dict):
            return element
        party = self._resources.get(element.get("reference", ""))
        if party is None or party["resourceType"] not in _PARTIES:
            return {name: self.local(value) for name, value in element.items()}
        self._contain(party)
        return element | {"reference": f"#{party['id']}"}

    def _contain(self, party: Resource) -> None:
        if party["id"] in self._found:
            return
        self._found[party["id"]] = {}
        kept = {"resourceType", "id", *_PARTIES[party["resourceType"]]}
        shown = {name: value for name, value in party.items() if name in kept}
        if party["resourceType"] == "Practitioner":
            shown["identifier"] = [_typed(one) for one in party.get("identifier", ())]
        self._found[party["id"]] = self.local(shown)

    def contained(self) -> list[Resource]:
        """What was referred to."""
        return list(self._found.values())


# --- data types -------------------------------------------------------------------------------------------------------


def _concept(code: CodedValue) -> Resource:
    return concept(Code(code.code, code.system, display=code.display))


def _coding(code: CodedValue) -> Resource:
    found: Resource = _concept(code)["coding"][0]
    return found


def _instant(dtm: str) -> str:
    """A DTM, which is UTC, as an instant."""
    return datetime_from_ts(f"{dtm}+0000").isoformat()


def _typed(identifier: Resource) -> Resource:
    """With its type, which the directory profiles ask of the numbers of professionals."""
    if identifier.get("system") != identity.RPPS or "type" in identifier:
        return identifier
    return {"type": {"coding": [{"system": _TYPES_OF_NUMBERS, "code": "RPPS"}]}} | identifier


def _present(resource: Resource) -> Resource:
    """Without what is empty, which FHIR does not know."""
    return {name: value for name, one in resource.items() if (value := _filled(one)) not in (None, [], {}, "")}


def _filled(element: Any) -> Any:
    if isinstance(element, dict):
        return _present(element)
    return [_filled(one) for one in element] if isinstance(element, list) else element


def _without_id(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if name not in ("id", *_LINKS_OF_PATIENT)}
