"""The sandbox repository behind its wire: decides on a submission, keeps what it takes, forgets nothing.

Each derived value is recomputed from the document itself; what is not shown to be right is refused (ITI TF-3 §4.2,
CI-SIS volet Partage de documents de santé). A submission is one folder, which appears in one step:
`<lot uniqueId>/submission.xml` as received, `01.xml`… the documents bit for bit, `receipt.json`.
Not checked here: CI-SIS schema and Schematron of the document, the lot signature, the VIHF.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from lxml import etree

from relais.cda import parsing, reader, xds
from relais.cda.errors import Issue, RelaisError
from relais.cda.templates import INS_NIR_DEMO, INS_NIR_TEST
from relais.cda.xds import DocumentEntry, Submission
from relais.cda.xds_types import CX, is_short_oid
from relais.mappings import document_metadata
from relais.server.sandbox.soap import ProvideAndRegister, RegistryError

TEST_PATIENT_DOMAINS = frozenset({INS_NIR_TEST, INS_NIR_DEMO})
"""OIDs of the INS of test and demonstration: a sandbox takes no real person."""

_UNFINISHED = ".new-"
"""Start of the name of a folder that was not complete when the process ended."""

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


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """One document of the repository. `replaces` is the entryUUID of the one it replaces."""

    entry_uuid: str
    entry: DocumentEntry
    path: Path
    replaces: str | None
    status: str  # Approved or Deprecated

    def __str__(self) -> str:
        """One line that names no patient."""
        return f"{self.status} {self.entry.type_code.code} {self.entry.title} {self.entry.unique_id} {self.path}"


class Repository:
    """Documents kept in `folder`; safe for the threads of one process."""

    def __init__(self, folder: Path, patient_domains: frozenset[str] = TEST_PATIENT_DOMAINS) -> None:
        self._folder = folder
        self._patient_domains = patient_domains
        self._lock = threading.Lock()
        self._lots: set[str] = set()
        self._documents: dict[str, StoredDocument] = {}  # by uniqueId
        folder.mkdir(parents=True, exist_ok=True)
        kept = [path for path in folder.iterdir() if not path.name.startswith(_UNFINISHED)]
        for submission in sorted(kept, key=lambda path: (path / "receipt.json").stat().st_mtime_ns):
            self._load(submission)

    def documents(self) -> list[StoredDocument]:
        """Every document, oldest first."""
        with self._lock:
            return list(self._documents.values())

    def register(self, request: ProvideAndRegister) -> None:
        """Store the whole submission, or raise RefusedError and store nothing."""
        submission = _read_metadata(request.metadata)
        _refuse(_pair_errors(submission, request.documents))
        documents = dict(request.documents)
        for check in (_byte_errors, _identifier_errors, _association_errors, _code_errors, _content_errors):
            _refuse(check(submission, documents))
        _refuse(self._patient_errors(submission))
        submission = _measured(submission, documents)
        with self._lock:
            _refuse(self._duplicate_errors(submission))
            _refuse(self._replacement_errors(submission))
            self._store(submission, request)

    # --- what needs the repository's own knowledge ---

    def _patient_errors(self, submission: Submission) -> Iterator[RegistryError]:
        patient = CX.parse(submission.submission_set.patient_id)
        if patient.type != "NH" or patient.oid not in self._patient_domains:
            yield RegistryError("XDSUnknownPatientId", "patientId is not an INS this repository knows", "patientId")

    def _duplicate_errors(self, submission: Submission) -> Iterator[RegistryError]:
        for entry in submission.entries:
            stored = self._documents.get(entry.unique_id)
            if stored is not None:
                same = stored.entry.hash == entry.hash
                code = "XDSDuplicateUniqueIdInRegistry" if same else "XDSNonIdenticalHash"
                yield RegistryError(code, f"document {entry.unique_id} is already registered", entry.entry_id)
            elif entry.entry_id in {document.entry_uuid for document in self._documents.values()}:
                yield RegistryError("XDSRegistryMetadataError", "this entryUUID names another document", entry.entry_id)
        lot = submission.submission_set.unique_id
        if lot in self._lots:
            yield RegistryError("XDSDuplicateUniqueIdInRegistry", f"lot {lot} is already registered", "SubmissionSet")

    def _replacement_errors(self, submission: Submission) -> Iterator[RegistryError]:
        known = {document.entry_uuid: document for document in self._documents.values()}
        entries = {entry.entry_id: entry for entry in submission.entries}
        for association in submission.associations:
            target, new = known.get(association.target), entries[association.source]
            if target is None:
                yield RegistryError("XDSReplaceFailed", "the document to replace is not registered", new.entry_id)
            elif target.status != "Approved":
                yield RegistryError(
                    "XDSRegistryDeprecatedDocumentError", "the document to replace is deprecated", new.entry_id
                )
            elif target.entry.patient_id != new.patient_id:
                yield RegistryError(
                    "XDSPatientIdDoesNotMatch", "the document to replace is another patient's", new.entry_id
                )
            elif not _contributors(target.entry) & _contributors(new):
                yield RegistryError("XDSReplaceFailed", "only its author may replace a document", new.entry_id)

    # --- storage ---

    def _store(self, submission: Submission, request: ProvideAndRegister) -> None:
        documents = dict(request.documents)
        uuids = {entry.entry_id: _entry_uuid(entry.entry_id) for entry in submission.entries}
        new = Path(tempfile.mkdtemp(dir=self._folder, prefix=_UNFINISHED))
        _write(new / "submission.xml", etree.tostring(request.metadata, xml_declaration=True, encoding="UTF-8"))
        for name, entry in _named(submission):
            _write(new / name, documents[entry.entry_id])
        receipt = {"messageId": request.message_id, "entryUUID": uuids}
        _write(new / "receipt.json", json.dumps(receipt, indent=1).encode())
        self._load(new.rename(self._folder / submission.submission_set.unique_id))

    def _load(self, folder: Path) -> None:
        submission = xds.read_submission(parsing.parse((folder / "submission.xml").read_bytes()).getroot())
        uuids: dict[str, str] = json.loads((folder / "receipt.json").read_text())["entryUUID"]
        replaced = {association.source: association.target for association in submission.associations}
        documents = {entry.entry_id: (folder / name).read_bytes() for name, entry in _named(submission)}
        for name, entry in _named(_measured(submission, documents)):
            document = StoredDocument(
                uuids[entry.entry_id], entry, folder / name, replaced.get(entry.entry_id), "Approved"
            )
            self._documents[entry.unique_id] = document
        self._lots.add(submission.submission_set.unique_id)
        self._deprecate(set(replaced.values()))

    def _deprecate(self, entry_uuids: set[str]) -> None:
        for unique_id, document in self._documents.items():
            if document.entry_uuid in entry_uuids:
                self._documents[unique_id] = replace(document, status="Deprecated")


# --- checks of a submission on its own ------------------------------------------------------------------------------


def _refuse(errors: Iterable[RegistryError]) -> None:
    found = tuple(errors)
    if found:
        raise RefusedError(found)


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
    """Beyond membership, only the replacement of a registered document by one of the message."""
    entries = {entry.entry_id for entry in submission.entries}
    for association in submission.associations:
        if association.type != xds.REPLACE or association.source not in entries:
            yield RegistryError(
                "XDSRegistryMetadataError", "association is not RPLC from a document", association.source
            )


def _code_errors(submission: Submission, _: Mapping[str, bytes]) -> Iterator[RegistryError]:
    """Codes must be of the value sets of the DMP."""
    for issue in document_metadata.check_codes(submission, dmp=True):
        if issue.severity == "error":
            yield RegistryError("XDSRegistryMetadataError", issue.message, issue.path)


def _content_errors(submission: Submission, documents: Mapping[str, bytes]) -> Iterator[RegistryError]:
    """The metadata must say what the document says."""
    for entry in submission.entries:
        for issue in _disagreements(entry, documents[entry.entry_id]):
            if issue.severity in ("fatal", "error"):
                yield RegistryError("InvalidDocumentContent", issue.message, f"{entry.entry_id}/{issue.path}")


def _disagreements(entry: DocumentEntry, data: bytes) -> Iterable[Issue]:
    try:
        return document_metadata.check_agreement(entry, reader.read(data).document, data)
    except RelaisError as error:
        return error.issues


def _contributors(entry: DocumentEntry) -> set[str]:
    return {name for author in entry.authors for name in (author.person, *author.institutions) if name}


def _entry_uuid(entry_id: str) -> str:
    """ITI TF-3 §4.2.3.2.6: an id that is a UUID stays, a symbolic one is replaced."""
    return entry_id if _UUID_URN.fullmatch(entry_id) else f"urn:uuid:{uuid4()}"


def _named(submission: Submission) -> Iterator[tuple[str, DocumentEntry]]:
    for number, entry in enumerate(submission.entries, 1):
        yield f"{number:02}.xml", entry


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
