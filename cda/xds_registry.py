"""What a registry holds, as ITI-18 answers it, and the requests of ITI-57 that change it.

IHE ITI TF-2 §3.18, §3.57 and TF-3 §4.2.3; statuses and visibility codes of the CI-SIS volet Partage de documents
de santé (JDV_J52, TRE_A07). A change sends the whole entry back as it was read: what Relais does not know stays.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from lxml import etree

from relais.cda import xds
from relais.cda.xds import RIM, Association, CodedValue, DocumentEntry, SubmissionSet
from relais.cda.xds_attributes import DOCUMENT_ENTRY, MASKING_SYSTEM

APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
ARCHIVED = "urn:asip:ci-sis:2010:StatusType:Archived"
DELETED = "urn:asip:ci-sis:2010:StatusType:Deleted"
UPDATE_STATUS = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"

HIDDEN_FROM_PROFESSIONALS = CodedValue("MASQUE_PS", "Masqué aux professionnels de santé", MASKING_SYSTEM)
HIDDEN_FROM_PATIENT = CodedValue("INVISIBLE_PATIENT", "Non visible par le patient", MASKING_SYSTEM)
HIDDEN_FROM_REPRESENTATIVES = CodedValue(
    "INVISIBLE_REPRESENTANTS_LEGAUX", "Non visible par les représentants légaux du patient", MASKING_SYSTEM
)
SIGNATURE_CLASS = "urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1"
"""classCode of the signature of a lot, which stands in a registry as one more document."""

_CONFIDENTIALITY = next(coded for coded in DOCUMENT_ENTRY.codes if coded.field == "confidentiality")


@dataclass(frozen=True, slots=True)
class RegisteredEntry:
    """An entry as a registry answered it. The entryUUID changes with every version, the logical id does not."""

    entry: DocumentEntry
    entry_uuid: str
    logical_id: str
    version: str
    status: str
    repository_id: str
    element: etree._Element = field(repr=False, compare=False)

    @property
    def is_signature(self) -> bool:
        """Whether it is the signature of a lot rather than a document for people."""
        return self.entry.class_code.code == SIGNATURE_CLASS


@dataclass(frozen=True, slots=True)
class RegisteredSet:
    """A lot as a registry answered it."""

    submission_set: SubmissionSet
    entry_uuid: str
    status: str


@dataclass(frozen=True, slots=True)
class RegistryObjects:
    """What a stored query answers; `references` are ids of objects that were not asked for in full."""

    entries: tuple[RegisteredEntry, ...]
    sets: tuple[RegisteredSet, ...]
    associations: tuple[Association, ...]
    references: tuple[str, ...]


def read_objects(objects: etree._Element) -> RegistryObjects:
    """Read a rim:RegistryObjectList. Attributes that are missing read as empty: a registry is not judged here."""
    classified = {
        str(one.get("classifiedObject"))
        for one in objects.iter(f"{{{RIM}}}Classification")
        if one.get("classificationNode") == xds.SUBMISSION_SET_CLASS
    }
    packages = [one for one in objects.iterfind(f"{{{RIM}}}RegistryPackage") if one.get("id") in classified]
    return RegistryObjects(
        entries=tuple(_entry(one) for one in objects.iterfind(f"{{{RIM}}}ExtrinsicObject")),
        sets=tuple(
            RegisteredSet(xds.registered_set(one), one.get("id", ""), one.get("status", "")) for one in packages
        ),
        associations=tuple(
            Association(one.get("associationType", ""), one.get("sourceObject", ""), one.get("targetObject", ""))
            for one in objects.iterfind(f"{{{RIM}}}Association")
        ),
        references=tuple(one.get("id", "") for one in objects.iterfind(f"{{{RIM}}}ObjectRef")),
    )


def _entry(element: etree._Element) -> RegisteredEntry:
    version = element.find(f"{{{RIM}}}VersionInfo")
    repository = element.findtext(f"{{{RIM}}}Slot[@name='repositoryUniqueId']/{{{RIM}}}ValueList/{{{RIM}}}Value")
    return RegisteredEntry(
        entry=xds.registered_entry(element),
        entry_uuid=element.get("id", ""),
        logical_id=element.get("lid", ""),
        version="" if version is None else version.get("versionName", ""),
        status=element.get("status", ""),
        repository_id=(repository or "").strip(),
        element=element,
    )


def status_change(lot: SubmissionSet, entry: RegisteredEntry, status: str) -> etree._Element:
    """The request that gives an entry another availability status: delete (TD3.3c), archive and back (TD3.3d)."""
    request = xds.lot_request(lot)
    association = Association(UPDATE_STATUS, xds.SET_ID, entry.entry_uuid)
    xds.add_association(request[0], "Association01", association, {"OriginalStatus": entry.status, "NewStatus": status})
    return request


def visibility_change(
    lot: SubmissionSet, entry: RegisteredEntry, confidentiality: tuple[CodedValue, ...]
) -> etree._Element:
    """The request that gives an entry other confidentiality codes (TD3.3a, TD3.3b), and leaves all else as it was."""
    request = xds.lot_request(lot)
    element = copy.deepcopy(entry.element)
    element.attrib.pop("status", "")
    element.set("id", "Document01")
    former = [
        one
        for one in element.findall(f"{{{RIM}}}Classification")
        if one.get("classificationScheme") == _CONFIDENTIALITY.scheme
    ]
    first_identifier = element.find(f"{{{RIM}}}ExternalIdentifier")
    place = len(element) if first_identifier is None else element.index(first_identifier)
    for one in former:
        element.remove(one)
    place -= len(former)
    for number, code in enumerate(confidentiality, 1):
        element.insert(place, xds.classify(element, f"Document01_v{number:02}", _CONFIDENTIALITY.scheme, code))
        place += 1
    for child in element:
        for link in ("classifiedObject", "registryObject"):
            if child.get(link) is not None:
                child.set(link, "Document01")
    request[0].append(element)
    slots = {"SubmissionSetStatus": "Original", "PreviousVersion": entry.version}
    xds.add_association(request[0], "Association01", Association(xds.HAS_MEMBER, xds.SET_ID, "Document01"), slots)
    return request


def with_masks(entry: DocumentEntry, *masks: CodedValue, hide: bool) -> tuple[CodedValue, ...]:
    """The confidentiality codes of an entry once `masks` are put on (`hide`) or taken off; the others stay."""
    names = {mask.code for mask in masks}
    kept = tuple(code for code in entry.confidentiality if code.system != MASKING_SYSTEM or code.code not in names)
    return (*kept, *masks) if hide else kept
