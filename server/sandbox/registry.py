"""The objects of the sandbox registry: entries with all their versions, lots, associations.

ebRIM 3.0 as ITI TF-3 §4.2 uses it. What was registered is kept as the XML that came: a query gives it back, unknown
slots included, with what a registry adds (ids, version, status, hash, size, repository).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from lxml import etree

from relais.cda import parsing
from relais.cda.xds import DocumentEntry, MetadataAuthor, SubmissionSet
from relais.cda.xds_types import XCN, XON
from relais.server.sandbox.lot_checks import is_signature

RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
REPOSITORY_ID = "1.2.250.1.213.4.1.1.1.2"
APPROVED, DEPRECATED, ARCHIVED, DELETED = "Approved", "Deprecated", "Archived", "Deleted"
STATUS_URNS = {
    APPROVED: "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved",
    DEPRECATED: "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated",
    ARCHIVED: "urn:asip:ci-sis:2010:StatusType:Archived",
    DELETED: "urn:asip:ci-sis:2010:StatusType:Deleted",
}
HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
HIDDEN_FROM_PROFESSIONALS = "MASQUE_PS"

_ASSOCIATION = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Association"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """One version of an entry, and the file of its document. `replaces` is the entryUUID of the one it replaces.

    The signature of a lot has no file of its own: `signature` are its bytes, `path` is that of the journal.
    """

    entry_uuid: str
    entry: DocumentEntry
    path: Path
    replaces: str | None
    status: str  # key of STATUS_URNS
    logical_id: str
    request: str = field(repr=False, compare=False)  # lcm:SubmitObjectsRequest, where it has the id of `entry`
    version: int = 1
    signature: bytes | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """One line that names no patient."""
        return f"{self.status} {self.entry.type_code.code} {self.entry.title} {self.entry.unique_id} {self.path}"

    def content(self) -> bytes:
        """The document as it was received."""
        return self.path.read_bytes() if self.signature is None else self.signature

    def registry_object(self) -> etree._Element:
        """The rim:ExtrinsicObject as a query answers it."""
        element = _submitted(self.request, "ExtrinsicObject", self.entry.entry_id)
        added = {"hash": self.entry.hash, "size": str(self.entry.size), "repositoryUniqueId": REPOSITORY_ID}
        for name, value in added.items():
            if element.find(f"{{{RIM}}}Slot[@name='{name}']") is None:
                _set_slot(element, name, value)
        _set_version(element, self.version)
        element.set("lid", self.logical_id)
        _set_identity(element, self.entry_uuid, self.status)
        return element


@dataclass(frozen=True, slots=True)
class StoredSet:
    """One lot."""

    entry_uuid: str
    submission_set: SubmissionSet
    request: str = field(repr=False, compare=False)  # lcm:SubmitObjectsRequest

    def registry_object(self) -> etree._Element:
        """The rim:RegistryPackage as a query answers it."""
        element = _submitted(self.request, "RegistryPackage")
        _set_identity(element, self.entry_uuid, APPROVED)
        return element


@dataclass(frozen=True, slots=True)
class RegisteredAssociation:
    """One association between ids of the registry."""

    own_id: str
    type: str
    source: str
    target: str

    def registry_object(self) -> etree._Element:
        """The rim:Association as a query answers it."""
        element = etree.Element(
            f"{{{RIM}}}Association",
            id=self.own_id,
            objectType=_ASSOCIATION,
            associationType=self.type,
            sourceObject=self.source,
            targetObject=self.target,
        )
        if self.type == HAS_MEMBER:
            _set_slot(element, "SubmissionSetStatus", "Original")
        return element


class Registry:
    """What is registered, in the order in which it came. Not safe for threads by itself."""

    def __init__(self) -> None:
        self._versions: dict[str, StoredDocument] = {}
        self._newest: dict[str, str] = {}  # entryUUID by uniqueId
        self._sets: dict[str, StoredSet] = {}
        self._associations: list[RegisteredAssociation] = []

    def versions(self) -> list[StoredDocument]:
        """Every version of every entry, signatures included, oldest first."""
        return list(self._versions.values())

    def documents(self) -> list[StoredDocument]:
        """The newest version of every entry that is no signature, in the order of their first."""
        newest = {one.logical_id: one for one in self._versions.values()}
        return [one for one in newest.values() if not is_signature(one.entry)]

    def sets(self) -> list[StoredSet]:
        """Every lot, oldest first."""
        return list(self._sets.values())

    def associations(self) -> list[RegisteredAssociation]:
        """Every association."""
        return list(self._associations)

    def version(self, entry_uuid: str) -> StoredDocument | None:
        """A version by its entryUUID."""
        return self._versions.get(entry_uuid)

    def newest(self, unique_id: str) -> StoredDocument | None:
        """The newest version of the entry of a document."""
        found = self._newest.get(unique_id)
        return None if found is None else self._versions[found]

    def add(self, document: StoredDocument) -> None:
        """Register a version."""
        self._versions[document.entry_uuid] = document
        self._newest[document.entry.unique_id] = document.entry_uuid

    def add_set(self, lot: StoredSet) -> None:
        """Register a lot."""
        self._sets[lot.entry_uuid] = lot

    def associate(self, kind: str, source: str, target: str) -> None:
        """Register an association."""
        self._associations.append(RegisteredAssociation(f"urn:uuid:{uuid4()}", kind, source, target))

    def set_status(self, entry_uuid: str, status: str) -> None:
        """Give a version another status."""
        if entry_uuid in self._versions:
            self._versions[entry_uuid] = replace(self._versions[entry_uuid], status=status)


def _submitted(request: str, name: str, own_id: str | None = None) -> etree._Element:
    """The object of a request that has that name and id."""
    objects = parsing.parse(request.encode()).getroot().iter(f"{{{RIM}}}{name}")
    return next(one for one in objects if own_id in (None, one.get("id")))


def _set_identity(element: etree._Element, own_id: str, status: str) -> None:
    """Give an object its id, by which its children name it, and its status."""
    element.set("id", own_id)
    element.set("status", STATUS_URNS[status])
    for child in element:
        for link in ("classifiedObject", "registryObject"):
            if child.get(link) is not None:
                child.set(link, own_id)


def _set_version(element: etree._Element, version: int) -> None:
    found = element.find(f"{{{RIM}}}VersionInfo")
    if found is None:
        found = etree.Element(f"{{{RIM}}}VersionInfo")
        after = [child for child in element if etree.QName(child).localname in ("Slot", "Name", "Description")]
        element.insert(len(after), found)
    found.set("versionName", str(version))


def _set_slot(element: etree._Element, name: str, value: str) -> None:
    slot = etree.Element(f"{{{RIM}}}Slot", name=name)
    values = etree.SubElement(slot, f"{{{RIM}}}ValueList")
    etree.SubElement(values, f"{{{RIM}}}Value").text = value
    element.insert(0, slot)


def contributors(authors: Iterable[MetadataAuthor]) -> set[str]:
    """The persons and structures of authors, by their identifiers; by name where they have none."""
    found: set[str] = set()
    for author in authors:
        if author.person:
            found.add(XCN.parse(author.person).id or author.person)
        for text in author.institutions:
            found.add(XON.parse(text).id or text)
    return found
