"""Changes of metadata (ITI-57) as the sandbox registry takes them: status, or visibility, of an entry in force.

ITI TF-2 §3.57 with the limits of the DMP: only the author of a document or its structure changes it, nothing but the
confidentiality codes of an entry may differ from the version that was read, nothing is ever erased.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lxml import etree

from relais.cda import xds
from relais.cda.xds import DocumentEntry, SubmissionSet
from relais.server.sandbox.registry import (
    APPROVED,
    ARCHIVED,
    DELETED,
    DEPRECATED,
    HAS_MEMBER,
    RIM,
    STATUS_URNS,
    Registry,
    StoredDocument,
    contributors,
)
from relais.server.sandbox.soap import RegistryError

UPDATE_STATUS = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
_TRANSITIONS = {(APPROVED, ARCHIVED), (ARCHIVED, APPROVED), (APPROVED, DELETED), (ARCHIVED, DELETED)}
_SHORT = {urn: name for name, urn in STATUS_URNS.items()}


@dataclass(frozen=True, slots=True)
class StatusChange:
    """One version and the statuses, before and after; an unknown URN is an empty string."""

    entry_uuid: str
    original: str
    new: str


@dataclass(frozen=True, slots=True)
class NewVersion:
    """One entry sent again with other confidentiality codes."""

    symbolic_id: str
    logical_id: str
    previous_version: str
    element: etree._Element


@dataclass(frozen=True, slots=True)
class Update:
    """An ITI-57 request."""

    submission_set: SubmissionSet
    statuses: tuple[StatusChange, ...]
    versions: tuple[NewVersion, ...]
    request: etree._Element

    @classmethod
    def read(cls, request: etree._Element) -> Update:
        """What a lcm:SubmitObjectsRequest asks for. Raises ValueError with what is wrong with its form."""
        packages = request.findall(f".//{{{RIM}}}RegistryPackage")
        if len(packages) != 1:
            raise ValueError("exactly one submission set is needed")
        lot = str(packages[0].get("id"))
        associations = request.findall(f".//{{{RIM}}}Association")
        elements = {str(one.get("id")): one for one in request.iter(f"{{{RIM}}}ExtrinsicObject")}
        statuses, versions = [], []
        for one in associations:
            kind, target = one.get("associationType"), str(one.get("targetObject"))
            if one.get("sourceObject") != lot:
                raise ValueError("an association does not start at the lot")
            if kind == UPDATE_STATUS:
                original, new = (_SHORT.get(_slot(one, name), "") for name in ("OriginalStatus", "NewStatus"))
                statuses.append(StatusChange(target, original, new))
            elif kind == HAS_MEMBER and target in elements and _slot(one, "SubmissionSetStatus") == "Original":
                element = elements.pop(target)
                versions.append(NewVersion(target, element.get("lid", ""), _slot(one, "PreviousVersion"), element))
            else:
                raise ValueError("an association is neither UpdateAvailabilityStatus nor HasMember of an entry")
        if elements or not (statuses or versions):
            raise ValueError("an entry has no HasMember association, or nothing is asked for")
        submission_set = xds.registered_set(packages[0])
        return cls(submission_set, tuple(statuses), tuple(versions), request)

    def errors(self, registry: Registry) -> Iterator[RegistryError]:
        """Why the registry refuses the change."""
        for change in self.statuses:
            target = registry.version(change.entry_uuid)
            if target is None:
                yield RegistryError("UnresolvedReferenceException", "no such entry", change.entry_uuid)
                continue
            yield from self._common_errors(target)
            if target.status != change.original or (change.original, change.new) not in _TRANSITIONS:
                yield RegistryError(
                    "XDSMetadataUpdateOperationError", "this change of status is not possible", change.entry_uuid
                )
        for version in self.versions:
            newest = _newest(registry, version.logical_id)
            if newest is None:
                yield RegistryError("XDSMetadataUpdateError", "no entry has this logical id", version.symbolic_id)
                continue
            yield from self._common_errors(newest)
            if version.previous_version != str(newest.version) or newest.status not in (APPROVED, ARCHIVED):
                yield RegistryError("XDSMetadataVersionError", "not the version in force", version.symbolic_id)
            sent = replace(xds.registered_entry(version.element), entry_id="", confidentiality=())
            if sent != replace(newest.entry, entry_id="", confidentiality=(), uri=None):
                yield RegistryError(
                    "UnmodifiableMetadataError", "more than the visibility differs", version.symbolic_id
                )

            yield from visibility_errors(xds.registered_entry(version.element), version.symbolic_id)

    def _common_errors(self, target: StoredDocument) -> Iterator[RegistryError]:
        lot = self.submission_set
        if target.entry.patient_id != lot.patient_id:
            yield RegistryError("XDSPatientIdDoesNotMatch", "the document is another patient's", target.entry_uuid)
        if not contributors(target.entry.authors) & contributors([lot.author]):
            yield RegistryError("LocalPolicyRestrictionError", "only its author changes a document", target.entry_uuid)

    def apply(self, registry: Registry, uuids: Mapping[str, str]) -> None:
        """Carry the change out; `uuids` are the entryUUIDs of new versions by symbolic id."""
        for change in self.statuses:
            registry.set_status(change.entry_uuid, change.new)
        request = etree.tostring(self.request, encoding="unicode", with_tail=False)
        for version in self.versions:
            former = _newest(registry, version.logical_id)
            if former is None:
                continue
            confidentiality = xds.registered_entry(version.element).confidentiality
            registry.add(
                replace(
                    former,
                    entry_uuid=uuids[version.symbolic_id],
                    entry=replace(former.entry, entry_id=version.symbolic_id, confidentiality=confidentiality),
                    version=former.version + 1,
                    request=request,
                )
            )
            registry.set_status(former.entry_uuid, DEPRECATED)


def visibility_errors(entry: DocumentEntry, place: str) -> Iterator[RegistryError]:
    """Both masks that leave nobody to read are not taken together (EX_2.1-1050)."""
    if {"MASQUE_PS", "INVISIBLE_PATIENT"} <= {code.code for code in entry.confidentiality}:
        message = "hidden from professionals and from the patient at once"
        yield RegistryError("XDSRegistryMetadataError", message, place)


def _newest(registry: Registry, logical_id: str) -> StoredDocument | None:
    found = [one for one in registry.versions() if one.logical_id == logical_id]
    return found[-1] if found else None


def _slot(element: etree._Element, name: str) -> str:
    text = element.findtext(f"{{{RIM}}}Slot[@name='{name}']/{{{RIM}}}ValueList/{{{RIM}}}Value")
    return (text or "").strip()
