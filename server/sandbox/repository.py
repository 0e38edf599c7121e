"""The sandbox DMP behind its wire: decides on submissions and changes, keeps what it takes, forgets nothing.

Each derived value is recomputed from the document itself; what is not shown to be right is refused (ITI TF-3 §4.2,
CI-SIS volet Partage de documents de santé). A document is the file `<uniqueId>.xml`, bit for bit. Submissions and
changes (ITI-57) are records of a journal, metadata as received and under which ids they were registered; what is
registered is what the journal says, read again at a start: a document without a record was never taken.
Not checked here: CI-SIS schema and Schematron of the document; who sends is checked by `vihf_checks`.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import msgspec
from lxml import etree

from relais.cda import parsing, reader, xds
from relais.cda.errors import Issue, RelaisError
from relais.cda.templates import INS_NIR_DEMO, INS_NIR_TEST
from relais.cda.xds import DocumentEntry, Submission, SubmissionSet
from relais.cda.xds_types import CX, XCN, XON, is_short_oid
from relais.mappings import document_metadata
from relais.server.sandbox import lot_checks
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.documents import Documents
from relais.server.sandbox.journal import Journal
from relais.server.sandbox.lot_checks import is_signature
from relais.server.sandbox.registry import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    Registry,
    StoredDocument,
    StoredSet,
    contributors,
)
from relais.server.sandbox.soap import ProvideAndRegister, RegistryError
from relais.server.sandbox.updates import Update, visibility_errors
from relais.server.sandbox.vihf_checks import Caller

TEST_PATIENT_DOMAINS = frozenset({INS_NIR_TEST, INS_NIR_DEMO})
"""OIDs of the INS of test and demonstration: a sandbox takes no real person."""

_JOURNAL = "journal.jsonl"

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


class _Record(msgspec.Struct, omit_defaults=True):
    """A submission or a change that was taken: its metadata, the ids given to entries by those of the message."""

    lot: str
    message_id: str
    entry_uuids: dict[str, str]
    metadata: str
    signatures: dict[str, bytes] = {}  # by their ids in the message
    is_update: bool = False


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
        for path in folder.iterdir():
            if path.is_dir():
                message = "not written by this version of the sandbox: empty the folder"
                raise RelaisError(Issue("fatal", "structure", message, str(path), "sandbox"))
        self._journal = Journal(folder / _JOURNAL, _Record)
        for record in self._journal.read():
            self._load(record)

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
        documents = Documents(request.documents)
        measured = _measured(submission, documents)
        _refuse(_byte_errors(submission, measured))
        for check in (_identifier_errors, _association_errors, _code_errors):
            _refuse(check(submission))
        _refuse(_content_errors(submission, documents))
        _refuse(lot_checks.errors(submission, documents, self._authority))
        _refuse(self._patient_errors(submission))
        with self._lock:
            _refuse(self._duplicate_errors(measured))
            _refuse(self._replacement_errors(measured))
            self._store(measured, request, documents)

    def update(self, update: Update, message_id: str, caller: Caller) -> None:
        """Carry out a change of metadata, or raise RefusedError and change nothing."""
        _refuse(_sender_errors(update.submission_set, caller))
        with self._lock:
            lot = update.submission_set.unique_id
            if lot in self._lots:
                _refuse([RegistryError("XDSDuplicateUniqueIdInRegistry", f"lot {lot} is already registered", "lot")])
            _refuse(update.errors(self._registry))
            uuids = {one.symbolic_id: f"urn:uuid:{uuid4()}" for one in update.versions}
            self._journal.append(_Record(lot, message_id, uuids, _text(update.request), is_update=True))
            self._apply(update, uuids)

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

    def _store(self, submission: Submission, request: ProvideAndRegister, documents: Documents) -> None:
        uuids = {entry.entry_id: _entry_uuid(entry.entry_id) for entry in submission.entries}
        signatures = {}
        for entry in submission.entries:
            data = documents[entry.entry_id]
            if is_signature(entry):
                signatures[entry.entry_id] = data
            else:
                self._path(entry).write_bytes(data)
        lot = submission.submission_set.unique_id
        record = _Record(lot, request.message_id, uuids, _text(request.metadata), signatures)
        self._journal.append(record)
        self._register(submission, record)

    def _path(self, entry: DocumentEntry) -> Path:
        return self._folder / f"{entry.unique_id}.xml"

    def _load(self, record: _Record) -> None:
        """Register again what a record says."""
        request = parsing.parse(record.metadata.encode()).getroot()
        if record.is_update:
            self._apply(Update.read(request), record.entry_uuids)
            return
        submission = xds.read_submission(request)
        files = [(one.entry_id, self._path(one).read_bytes()) for one in _documents_of(submission)]
        measured = _measured(submission, Documents([*files, *record.signatures.items()]))
        self._register(measured, record)

    def _apply(self, update: Update, uuids: Mapping[str, str]) -> None:
        update.apply(self._registry, uuids)
        self._lots.add(update.submission_set.unique_id)

    def _register(self, submission: Submission, record: _Record) -> None:
        replaced = {one.source: one.target for one in submission.associations if one.type == xds.REPLACE}
        lot, uuids = f"urn:uuid:{uuid4()}", record.entry_uuids
        self._registry.add_set(StoredSet(lot, submission.submission_set, record.metadata))
        self._lots.add(record.lot)
        for entry in submission.entries:
            entry_uuid, signature = uuids[entry.entry_id], record.signatures.get(entry.entry_id)
            self._registry.add(
                StoredDocument(
                    entry_uuid=entry_uuid,
                    entry=entry,
                    path=self._path(entry) if signature is None else self._journal.path,
                    replaces=replaced.get(entry.entry_id),
                    status=APPROVED,
                    logical_id=entry_uuid,
                    request=record.metadata,
                    signature=signature,
                )
            )
            self._registry.associate(HAS_MEMBER, lot, entry_uuid)
        for association in submission.associations:
            target = lot if association.type == xds.SIGNS else association.target
            self._registry.associate(association.type, uuids[association.source], target)
            if association.type == xds.REPLACE:
                self._registry.set_status(target, DEPRECATED)


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


def _byte_errors(submission: Submission, measured: Submission) -> Iterator[RegistryError]:
    """Size and SHA-1 are recomputed; a sender may leave them out, but not give wrong ones."""
    for given, found in zip(submission.entries, measured.entries, strict=True):
        if given.size and given.size != found.size:
            yield RegistryError(
                "XDSRepositoryMetadataError", "size differs from the document", f"{given.entry_id}/size"
            )
        elif given.hash and given.hash.lower() != found.hash:
            yield RegistryError(
                "XDSRepositoryMetadataError", "hash differs from the document", f"{given.entry_id}/hash"
            )


def _measured(submission: Submission, documents: Documents) -> Submission:
    """The submission with the size and SHA-1 its documents really have."""
    entries = tuple(
        replace(entry, size=len(data), hash=hashlib.sha1(data, usedforsecurity=False).hexdigest())
        for entry in submission.entries
        for data in [documents[entry.entry_id]]
    )
    return replace(submission, entries=entries)


def _identifier_errors(submission: Submission) -> Iterator[RegistryError]:
    """The DMP takes no extension after the OID of a document."""
    for entry in submission.entries:
        if not is_short_oid(entry.unique_id):
            yield RegistryError("XDSRegistryMetadataError", "uniqueId is not an OID", f"{entry.entry_id}/uniqueId")


def _association_errors(submission: Submission) -> Iterator[RegistryError]:
    """Beyond membership and signature, only the replacement of a registered document by one of the message."""
    entries = {entry.entry_id for entry in _documents_of(submission)}
    for association in submission.associations:
        if association.type == xds.SIGNS:
            continue
        if association.type != xds.REPLACE or association.source not in entries:
            yield RegistryError(
                "XDSRegistryMetadataError", "association is not RPLC from a document", association.source
            )


def _code_errors(submission: Submission) -> Iterator[RegistryError]:
    """Codes must be of the value sets of the DMP."""
    without_signature = replace(submission, entries=_documents_of(submission))
    for issue in document_metadata.check_codes(without_signature, dmp=True):
        if issue.severity == "error":
            yield RegistryError("XDSRegistryMetadataError", issue.message, issue.path)
    for entry in without_signature.entries:
        yield from visibility_errors(entry, entry.entry_id)


def _content_errors(submission: Submission, documents: Documents) -> Iterator[RegistryError]:
    """The metadata must say what the header of the document says."""
    for entry in _documents_of(submission):
        for issue in _disagreements(entry, documents):
            if issue.severity in ("fatal", "error"):
                yield RegistryError("InvalidDocumentContent", issue.message, f"{entry.entry_id}/{issue.path}")


def _disagreements(entry: DocumentEntry, documents: Documents) -> Iterable[Issue]:
    try:
        document = reader.read_header(documents.tree(entry.entry_id))
    except RelaisError as error:
        return error.issues
    return document_metadata.check_header(entry, document)


def _documents_of(submission: Submission) -> tuple[DocumentEntry, ...]:
    """The entries of documents for people."""
    return tuple(entry for entry in submission.entries if not is_signature(entry))


def _entry_uuid(entry_id: str) -> str:
    """ITI TF-3 §4.2.3.2.6: an id that is a UUID stays, a symbolic one is replaced."""
    return entry_id if _UUID_URN.fullmatch(entry_id) else f"urn:uuid:{uuid4()}"


def _text(element: etree._Element) -> str:
    return etree.tostring(element, encoding="unicode", with_tail=False)
