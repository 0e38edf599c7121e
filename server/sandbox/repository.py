"""The sandbox DMP behind its wire: decides on submissions and changes, keeps what it takes, forgets nothing.

Each derived value is recomputed from the document itself; what is not shown to be right is refused (ITI TF-3 §4.2,
CI-SIS volet Partage de documents de santé). A submission is one folder, which appears in one step: `<lot uniqueId>/
submission.xml` as received, behind a processing instruction that says under which ids, `01.xml`… the documents bit for
bit. A change (ITI-57) is a folder of the same form without documents. What is registered is what those folders say,
read again in their order at a start.
Not checked here: CI-SIS schema and Schematron of the document; who sends is checked by `vihf_checks`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from lxml import etree

from relais.cda import parsing, reader, xds
from relais.cda.errors import Issue, RelaisError
from relais.cda.templates import INS_NIR_DEMO, INS_NIR_TEST
from relais.cda.xds import DocumentEntry, Submission, SubmissionSet
from relais.cda.xds_types import CX, XCN, XON, is_short_oid
from relais.mappings import document_metadata
from relais.server.sandbox import lot_checks
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.files import UNFINISHED, write_new
from relais.server.sandbox.lot_checks import is_signature
from relais.server.sandbox.registry import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    REPOSITORY_ID,
    RIM,
    STATUS_URNS,
    Registry,
    StoredDocument,
    StoredSet,
    contributors,
    link_children,
    registered,
)
from relais.server.sandbox.soap import ProvideAndRegister, RegistryError
from relais.server.sandbox.updates import Update, visibility_errors
from relais.server.sandbox.vihf_checks import Caller

TEST_PATIENT_DOMAINS = frozenset({INS_NIR_TEST, INS_NIR_DEMO})
"""OIDs of the INS of test and demonstration: a sandbox takes no real person."""

_SUBMISSION, _RECEIPT = "submission.xml", "receipt"

_METADATA_CODES = {
    ("xdm.patient", "conflict"): "XDSPatientIdDoesNotMatch",
    ("xdm.metadata-attribute", "duplicate"): "XDSRegistryDuplicateUniqueIdInMessage",
}
"""Error codes of what `xds.read_submission` finds, by rule and code of its issue; the others are metadata errors."""

_UUID_URN = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RefusedError(Exception):
    """A submission that is not stored, and why."""

    def __init__(self, errors: Iterable[RegistryError]) -> None:
        self.errors = tuple(errors)
        super().__init__(", ".join(error.code for error in self.errors))


class Repository:
    """Documents and registry kept in `folder`; safe for the threads of one process."""

    def __init__(
        self,
        folder: Path,
        patient_domains: frozenset[str] = TEST_PATIENT_DOMAINS,
        authority: Authority | None = None,
    ) -> None:
        """`authority` is who issues the certificates that sign lots; None: anybody's will do."""
        self._folder = folder
        self._patient_domains = patient_domains
        self._authority = authority
        self._lock = threading.Lock()
        self._lots: set[str] = set()
        self._registry = Registry()
        folder.mkdir(parents=True, exist_ok=True)
        kept = [path for path in folder.iterdir() if not path.name.startswith(UNFINISHED)]
        for lot in sorted(kept, key=lambda path: (path / _SUBMISSION).stat().st_mtime_ns):
            self._load(lot)

    def documents(self) -> list[StoredDocument]:
        """Every document as it is now, oldest first; signatures of lots are left out."""
        with self._lock:
            return self._registry.documents()

    def reading(self) -> AbstractContextManager[Registry]:
        """The registry, which nothing changes inside the block."""
        return _Locked(self._lock, self._registry)

    def register(self, request: ProvideAndRegister, caller: Caller) -> None:
        """Store the whole submission, or raise RefusedError and store nothing."""
        submission = _read_metadata(request.metadata)
        _refuse(_sender_errors(submission.submission_set, caller))
        _refuse(_pair_errors(submission, request.documents))
        documents = dict(request.documents)
        for check in (_byte_errors, _identifier_errors, _association_errors, _code_errors, _content_errors):
            _refuse(check(submission, documents))
        _refuse(lot_checks.errors(submission, documents, self._authority))
        _refuse(self._patient_errors(submission))
        submission = _measured(submission, documents)
        with self._lock:
            _refuse(self._duplicate_errors(submission))
            _refuse(self._replacement_errors(submission))
            self._store(submission, request)

    def update(self, update: Update, message_id: str, caller: Caller) -> None:
        """Carry out a change of metadata, or raise RefusedError and change nothing."""
        _refuse(_sender_errors(update.submission_set, caller))
        with self._lock:
            lot = update.submission_set.unique_id
            if lot in self._lots:
                _refuse([RegistryError("XDSDuplicateUniqueIdInRegistry", f"lot {lot} is already registered", "lot")])
            _refuse(update.errors(self._registry))
            uuids = {one.symbolic_id: f"urn:uuid:{uuid4()}" for one in update.versions}
            receipt = {"messageId": message_id, "entryUUID": uuids, "update": True}
            self._load(self._keep(lot, update.request, {}, receipt))

    # --- what needs the repository's own knowledge ---

    def _patient_errors(self, submission: Submission) -> Iterator[RegistryError]:
        patient = CX.parse(submission.submission_set.patient_id)
        if patient.type != "NH" or patient.oid not in self._patient_domains:
            yield RegistryError("XDSUnknownPatientId", "patientId is not an INS this repository knows", "patientId")

    def _duplicate_errors(self, submission: Submission) -> Iterator[RegistryError]:
        for entry in _documents_of(submission):
            stored = self._registry.newest(entry.unique_id)
            if stored is not None:
                same = stored.entry.hash == entry.hash
                code = "XDSDuplicateUniqueIdInRegistry" if same else "XDSNonIdenticalHash"
                yield RegistryError(code, f"document {entry.unique_id} is already registered", entry.entry_id)
            elif self._registry.version(entry.entry_id) is not None:
                yield RegistryError("XDSRegistryMetadataError", "this entryUUID names another document", entry.entry_id)
        lot = submission.submission_set.unique_id
        if lot in self._lots:
            yield RegistryError("XDSDuplicateUniqueIdInRegistry", f"lot {lot} is already registered", "SubmissionSet")

    def _replacement_errors(self, submission: Submission) -> Iterator[RegistryError]:
        entries = {entry.entry_id: entry for entry in submission.entries}
        for association in submission.associations:
            if association.type != xds.REPLACE:
                continue
            target, new = self._registry.version(association.target), entries[association.source]
            if target is None:
                yield RegistryError("XDSReplaceFailed", "the document to replace is not registered", new.entry_id)
            elif target.status != APPROVED:
                yield RegistryError(
                    "XDSRegistryDeprecatedDocumentError", "the document to replace is not in force", new.entry_id
                )
            elif target.entry.patient_id != new.patient_id:
                yield RegistryError(
                    "XDSPatientIdDoesNotMatch", "the document to replace is another patient's", new.entry_id
                )
            elif not contributors(target.entry.authors) & contributors(new.authors):
                yield RegistryError("XDSReplaceFailed", "only its author may replace a document", new.entry_id)

    # --- storage ---

    def _store(self, submission: Submission, request: ProvideAndRegister) -> None:
        documents = dict(request.documents)
        uuids = {entry.entry_id: _entry_uuid(entry.entry_id) for entry in submission.entries}
        files = {name: documents[entry.entry_id] for name, entry in _named(submission)}
        receipt = {"messageId": request.message_id, "entryUUID": uuids}
        folder = self._keep(submission.submission_set.unique_id, request.metadata, files, receipt)
        self._register(submission, request.metadata, uuids, folder)

    def _keep(
        self, lot: str, metadata: etree._Element, files: Mapping[str, bytes], receipt: Mapping[str, object]
    ) -> Path:
        said = json.dumps(receipt).replace(">", "\\u003e")  # "?>" would end the instruction
        new = self._folder / f"{UNFINISHED}{uuid4().hex}"
        new.mkdir()
        for name, data in files.items():
            write_new(new / name, data)
        write_new(new / _SUBMISSION, f"<?{_RECEIPT} {said}?>\n".encode(), etree.tostring(metadata, encoding="UTF-8"))
        return new.rename(self._folder / lot)

    def _load(self, folder: Path) -> None:
        request = parsing.parse((folder / _SUBMISSION).read_bytes()).getroot()
        said = request.getprevious()
        if not isinstance(said, etree._ProcessingInstruction) or said.target != _RECEIPT:
            message = "holds no receipt: the folder was not written by this version of the sandbox, empty it"
            raise RelaisError(Issue("fatal", "structure", message, str(folder / _SUBMISSION), "sandbox"))
        receipt = json.loads(said.text or "")
        if receipt.get("update"):
            update = Update.read(request)
            update.apply(self._registry, receipt["entryUUID"])
            self._lots.add(update.submission_set.unique_id)
            return
        submission = xds.read_submission(request)
        documents = {entry.entry_id: (folder / name).read_bytes() for name, entry in _named(submission)}
        self._register(_measured(submission, documents), request, receipt["entryUUID"], folder)

    def _register(
        self, submission: Submission, request: etree._Element, uuids: Mapping[str, str], folder: Path
    ) -> None:
        elements = {one.get("id"): one for one in request.iter(f"{{{RIM}}}ExtrinsicObject")}
        replaced = {one.source: one.target for one in submission.associations if one.type == xds.REPLACE}
        lot = self._register_lot(submission, request)
        self._lots.add(submission.submission_set.unique_id)
        for name, entry in _named(submission):
            entry_uuid = uuids[entry.entry_id]
            added = {"hash": entry.hash, "size": str(entry.size), "repositoryUniqueId": REPOSITORY_ID}
            self._registry.add(
                StoredDocument(
                    entry_uuid=entry_uuid,
                    entry=entry,
                    path=folder / name,
                    replaces=replaced.get(entry.entry_id),
                    status=APPROVED,
                    logical_id=entry_uuid,
                    element=registered(elements[entry.entry_id], entry_uuid, entry_uuid, 1, added),
                )
            )
            self._registry.associate(HAS_MEMBER, lot, entry_uuid)
        for association in submission.associations:
            target = lot if association.type == xds.SIGNS else association.target
            self._registry.associate(association.type, uuids[association.source], target)
            if association.type == xds.REPLACE:
                self._registry.set_status(target, DEPRECATED)

    def _register_lot(self, submission: Submission, request: etree._Element) -> str:
        [package] = map(copy.deepcopy, request.iter(f"{{{RIM}}}RegistryPackage"))
        own_id = f"urn:uuid:{uuid4()}"
        package.set("id", own_id)
        package.set("status", STATUS_URNS[APPROVED])
        link_children(package, own_id)
        self._registry.add_set(StoredSet(own_id, submission.submission_set, package))
        return own_id


@dataclass(frozen=True, slots=True)
class _Locked:
    lock: threading.Lock
    registry: Registry

    def __enter__(self) -> Registry:
        self.lock.acquire()
        return self.registry

    def __exit__(self, *_: object) -> None:
        self.lock.release()


# --- checks of a submission on its own ------------------------------------------------------------------------------


def _refuse(errors: Iterable[RegistryError]) -> None:
    found = tuple(errors)
    if found:
        raise RefusedError(found)


def _sender_errors(lot: SubmissionSet, caller: Caller) -> Iterator[RegistryError]:
    """The lot must be of the patient and the structure of the VIHF, and of its person unless a software sends it."""
    if lot.patient_id != caller.patient:
        yield RegistryError("XDSPatientIdDoesNotMatch", "the VIHF is about another patient", "SubmissionSet.patientId")
    if caller.structure not in {XON.parse(text).id for text in lot.author.institutions}:
        yield RegistryError(
            "XDSRepositoryMetadataError", "the VIHF is of another structure", "SubmissionSet.authorInstitution"
        )
    person = XCN.parse(lot.author.person or "")
    if person.type != "RI" and person.id != caller.identifier:
        yield RegistryError("XDSRepositoryMetadataError", "the VIHF is of another person", "SubmissionSet.authorPerson")


def _read_metadata(metadata: etree._Element) -> Submission:
    try:
        return xds.read_submission(metadata)
    except RelaisError as error:
        raise RefusedError(
            RegistryError(
                _METADATA_CODES.get((issue.rule, issue.code), "XDSRegistryMetadataError"), issue.message, issue.path
            )
            for issue in error.issues
        ) from error


def _pair_errors(submission: Submission, documents: Iterable[tuple[str, bytes]]) -> Iterator[RegistryError]:
    """Documents and entries must go one to one."""
    sent = Counter(name for name, _ in documents)
    described = {entry.entry_id for entry in submission.entries}
    for name in sorted(described - sent.keys()):
        yield RegistryError("XDSMissingDocument", "an entry has no document", name)
    for name in sorted(sent.keys() - described):
        yield RegistryError("XDSMissingDocumentMetadata", "a document has no entry", name)
    for name in sorted(name for name, count in sent.items() if count > 1):
        yield RegistryError("XDSRepositoryMetadataError", "two documents have the same id", name)


def _byte_errors(submission: Submission, documents: Mapping[str, bytes]) -> Iterator[RegistryError]:
    """Size and SHA-1 are recomputed; a sender may leave them out, but not give wrong ones."""
    for given, measured in zip(submission.entries, _measured(submission, documents).entries, strict=True):
        if given.size and given.size != measured.size:
            yield RegistryError(
                "XDSRepositoryMetadataError", "size differs from the document", f"{given.entry_id}/size"
            )
        elif given.hash and given.hash.lower() != measured.hash:
            yield RegistryError(
                "XDSRepositoryMetadataError", "hash differs from the document", f"{given.entry_id}/hash"
            )


def _measured(submission: Submission, documents: Mapping[str, bytes]) -> Submission:
    """The submission with the size and SHA-1 its documents really have."""
    entries = tuple(
        replace(entry, size=len(data), hash=hashlib.sha1(data, usedforsecurity=False).hexdigest())
        for entry in submission.entries
        for data in [documents[entry.entry_id]]
    )
    return replace(submission, entries=entries)


def _identifier_errors(submission: Submission, _: Mapping[str, bytes]) -> Iterator[RegistryError]:
    """The DMP takes no extension after the OID of a document."""
    for entry in submission.entries:
        if not is_short_oid(entry.unique_id):
            yield RegistryError("XDSRegistryMetadataError", "uniqueId is not an OID", f"{entry.entry_id}/uniqueId")


def _association_errors(submission: Submission, _: Mapping[str, bytes]) -> Iterator[RegistryError]:
    """Beyond membership and signature, only the replacement of a registered document by one of the message."""
    entries = {entry.entry_id for entry in _documents_of(submission)}
    for association in submission.associations:
        if association.type == xds.SIGNS:
            continue
        if association.type != xds.REPLACE or association.source not in entries:
            yield RegistryError(
                "XDSRegistryMetadataError", "association is not RPLC from a document", association.source
            )


def _code_errors(submission: Submission, _: Mapping[str, bytes]) -> Iterator[RegistryError]:
    """Codes must be of the value sets of the DMP."""
    without_signature = replace(submission, entries=_documents_of(submission))
    for issue in document_metadata.check_codes(without_signature, dmp=True):
        if issue.severity == "error":
            yield RegistryError("XDSRegistryMetadataError", issue.message, issue.path)
    for entry in without_signature.entries:
        yield from visibility_errors(entry, entry.entry_id)


def _content_errors(submission: Submission, documents: Mapping[str, bytes]) -> Iterator[RegistryError]:
    """The metadata must say what the document says."""
    for entry in _documents_of(submission):
        for issue in _disagreements(entry, documents[entry.entry_id]):
            if issue.severity in ("fatal", "error"):
                yield RegistryError("InvalidDocumentContent", issue.message, f"{entry.entry_id}/{issue.path}")


def _disagreements(entry: DocumentEntry, data: bytes) -> Iterable[Issue]:
    try:
        return document_metadata.check_agreement(entry, reader.read(data).document, data)
    except RelaisError as error:
        return error.issues


def _documents_of(submission: Submission) -> tuple[DocumentEntry, ...]:
    """The entries of documents for people."""
    return tuple(entry for entry in submission.entries if not is_signature(entry))


def _entry_uuid(entry_id: str) -> str:
    """ITI TF-3 §4.2.3.2.6: an id that is a UUID stays, a symbolic one is replaced."""
    return entry_id if _UUID_URN.fullmatch(entry_id) else f"urn:uuid:{uuid4()}"


def _named(submission: Submission) -> Iterator[tuple[str, DocumentEntry]]:
    for number, entry in enumerate(submission.entries, 1):
        yield f"{number:02}.xml", entry
