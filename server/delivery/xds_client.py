"""The transactions of the DMP on documents: feed, look up, read, change.

ITI-41 (TD2.1, TD2.2), ITI-18 (TD3.1), ITI-43 (TD3.2) and ITI-57 (TD3.3), as the DMP opens them to a structure that
authenticates itself: INDIRECTE feeds, replaces, deletes and finds its own documents again; INDIRECTE_RENFORCEE also
reads, masks and archives.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import uuid4

from lxml import etree

from relais.cda import xds, xds_registry
from relais.cda.errors import UnreadableError
from relais.cda.xds import RIM, CodedValue, Submission, SubmissionSet
from relais.cda.xds_registry import APPROVED, ARCHIVED, DELETED, DEPRECATED, RegisteredEntry, RegistryObjects
from relais.cda.xds_types import CX
from relais.server.delivery import dmp_identity, lot_signature, mtom, visibility, xds_errors, xds_queries
from relais.server.delivery.channel import DeliveryError, making_the_message
from relais.server.delivery.dmp_soap import Dmp, Transaction, failure
from relais.server.delivery.vihf import Requester
from relais.server.delivery.xds_queries import QUERY, Criteria, Slots

XDS = "urn:ihe:iti:xds-b:2007"

PROVIDE_AND_REGISTER = Transaction("ITI-41", "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b", "dmp_url", True)
STORED_QUERY = Transaction("ITI-18", "urn:ihe:iti:2007:RegistryStoredQuery", "dmp_registry_url")
RETRIEVE = Transaction("ITI-43", "urn:ihe:iti:2007:RetrieveDocumentSet", "dmp_url")
UPDATE = Transaction("ITI-57", "urn:ihe:iti:2010:UpdateDocumentSet", "dmp_registry_url", True)

BATCH = 20
"""Most documents named in one query or retrieval (EX_3.1-1020)."""
MAX_RETRIEVED = 250_000_000

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A document as the repository holds it: its bytes are those its entry describes."""

    entry: RegisteredEntry
    mime_type: str
    content: memoryview


class DmpDocuments:
    """The documents of DMPs, in the name of `who`. Every method raises DeliveryError."""

    def __init__(self, dmp: Dmp, who: Requester) -> None:
        self._dmp = dmp
        self._who = who

    # --- ITI-41 ---

    def provide_and_register(self, submission: Submission, documents: Mapping[str, bytes]) -> list[str]:
        """Send the documents of a submission (bytes by `entry_id`), signed as a lot; the warnings of the answer.

        Raises LostAnswerError when they may have been stored all the same.
        """
        with making_the_message():
            signer = dmp_identity.signer(self._dmp.settings)
            digest = self._dmp.settings.dmp_lot_digest
            signed, signature = lot_signature.signed(submission, documents, signer, digest)
            payload, attachments = provide_and_register(signed, {**documents, lot_signature.ENTRY_ID: signature})
        patient = submission.submission_set.patient_id
        return xds_errors.check(self._call(PROVIDE_AND_REGISTER, payload, patient, attachments))

    # --- ITI-18 ---

    def find(self, patient: str, criteria: Criteria | None = None) -> list[RegisteredEntry]:
        """FindDocuments: the entries of `patient` (CX) that this caller may see, without signatures of lots."""
        self._check_reading()
        slots = [("$XDSDocumentEntryPatientId", xds_queries.text(patient)), *(criteria or Criteria()).slots()]
        found = self._query(xds_queries.FIND_DOCUMENTS, slots, patient).entries
        return [entry for entry in found if not entry.is_signature]

    def find_by_reference(
        self, patient: str, references: Sequence[str], criteria: Criteria | None = None
    ) -> list[RegisteredEntry]:
        """FindDocumentsByReferenceId: entries that bear one of these references (CXi: accession number, order…)."""
        self._check_reading()
        slots = [
            ("$XDSDocumentEntryPatientId", xds_queries.text(patient)),
            ("$XDSDocumentEntryReferenceIdList", xds_queries.texts(references)),
            *(criteria or Criteria()).slots(),
        ]
        return list(self._query(xds_queries.FIND_BY_REFERENCE, slots, patient).entries)

    def find_sets(self, patient: str, since: str = "") -> RegistryObjects:
        """FindSubmissionSets: the lots of `patient`, those submitted from `since` (DTM) on."""
        self._check_reading()
        slots = [
            ("$XDSSubmissionSetPatientId", xds_queries.text(patient)),
            ("$XDSSubmissionSetStatus", xds_queries.texts([APPROVED])),
        ]
        if since:
            slots.append(("$XDSSubmissionSetSubmissionTimeFrom", since))
        return self._query(xds_queries.FIND_SETS, slots, patient)

    def get(self, patient: str, unique_ids: Sequence[str] = (), entry_uuids: Sequence[str] = ()) -> RegistryObjects:
        """GetDocuments by uniqueId or by entryUUID (TD3.1b): every version that is shown."""
        return self._get(xds_queries.GET_DOCUMENTS, patient, unique_ids, entry_uuids)

    def get_with_associations(
        self, patient: str, unique_ids: Sequence[str] = (), entry_uuids: Sequence[str] = ()
    ) -> RegistryObjects:
        """GetDocumentsAndAssociations."""
        return self._get(xds_queries.GET_DOCUMENTS_AND_ASSOCIATIONS, patient, unique_ids, entry_uuids)

    def associations(self, patient: str, entry_uuids: Sequence[str]) -> RegistryObjects:
        """GetAssociations of entries and lots."""
        self._check_reading()
        return self._query(xds_queries.GET_ASSOCIATIONS, [("$uuid", xds_queries.texts(entry_uuids))], patient)

    def sets_of(self, patient: str, entry_uuids: Sequence[str]) -> RegistryObjects:
        """GetSubmissionSets: the lots that entries came with."""
        self._check_reading()
        return self._query(xds_queries.GET_SETS, [("$uuid", xds_queries.texts(entry_uuids))], patient)

    def contents(self, patient: str, unique_id: str) -> RegistryObjects:
        """GetSubmissionSetAndContents: a lot by its uniqueId, with its entries and associations."""
        self._check_reading()
        slots = [("$XDSSubmissionSetUniqueId", xds_queries.text(unique_id))]
        return self._query(xds_queries.GET_SET_AND_CONTENTS, slots, patient)

    def related(self, patient: str, unique_id: str, types: Sequence[str] = (xds.REPLACE,)) -> RegistryObjects:
        """GetRelatedDocuments: what replaces, or was replaced by, a document."""
        self._check_reading()
        slots = [
            ("$XDSDocumentEntryUniqueId", xds_queries.text(unique_id)),
            ("$AssociationTypes", xds_queries.texts(types)),
        ]
        return self._query(xds_queries.GET_RELATED, slots, patient)

    def all(self, patient: str) -> RegistryObjects:
        """GetAll: everything of `patient` that is in force."""
        self._check_reading()
        kinds = ("XDSDocumentEntry", "XDSSubmissionSet", "XDSFolder")
        slots = [("$patientId", xds_queries.text(patient))]
        slots += [(f"${kind}Status", xds_queries.texts([APPROVED])) for kind in kinds]
        return self._query(xds_queries.GET_ALL, slots, patient)

    def current(self, patient: str, unique_id: str) -> RegisteredEntry | None:
        """The newest version of an entry by the uniqueId of its document, of whatever status; None: none is shown."""
        entries = [one for one in self.get(patient, [unique_id]).entries if one.entry.unique_id == unique_id]
        standing = [one for one in entries if one.status != DEPRECATED] or entries
        return max(standing, key=lambda one: int(one.version) if one.version.isdecimal() else 0, default=None)

    def _get(self, query: str, patient: str, unique_ids: Sequence[str], entry_uuids: Sequence[str]) -> RegistryObjects:
        named = [("$XDSDocumentEntryUniqueId", unique_ids), ("$XDSDocumentEntryEntryUUID", entry_uuids)]
        answers = [
            self._query(query, [(slot, xds_queries.texts(batch))], patient)
            for slot, ids in named
            for batch in _batches(ids)
        ]
        return RegistryObjects(
            entries=tuple(itertools.chain.from_iterable(answer.entries for answer in answers)),
            sets=tuple(itertools.chain.from_iterable(answer.sets for answer in answers)),
            associations=tuple(itertools.chain.from_iterable(answer.associations for answer in answers)),
            references=tuple(itertools.chain.from_iterable(answer.references for answer in answers)),
        )

    def _query(self, query: str, slots: Slots, patient: str) -> RegistryObjects:
        response = self._call(STORED_QUERY, etree.tostring(xds_queries.request(query, slots)), patient)
        xds_errors.check(response, partial=True)
        objects = response.find(f"{{{RIM}}}RegistryObjectList")
        if response.tag != f"{{{QUERY}}}AdhocQueryResponse" or objects is None:
            raise STORED_QUERY.unclear("the answer to the query holds no RegistryObjectList")
        found = xds_registry.read_objects(objects)
        if any(_named(entry.entry.patient_id) != _named(patient) for entry in found.entries):
            raise failure("conflict", "the registry answers with a document of another patient", rule="ITI-18")
        return replace(found, entries=tuple({entry.entry_uuid: entry for entry in found.entries}.values()))

    # --- ITI-43 ---

    def retrieve(self, patient: str, entries: Sequence[RegisteredEntry]) -> list[Retrieved]:
        """Read documents; what the repository does not give is left out. Size and SHA-1 are those of the entries."""
        self._check_reading()
        return [found for batch in _batches(entries) for found in self._retrieve(patient, batch)]

    def _retrieve(self, patient: str, entries: Sequence[RegisteredEntry]) -> list[Retrieved]:
        payload = etree.Element(f"{{{XDS}}}RetrieveDocumentSetRequest", nsmap={"xds": XDS})
        for entry in entries:
            request = etree.SubElement(payload, f"{{{XDS}}}DocumentRequest")
            etree.SubElement(request, f"{{{XDS}}}RepositoryUniqueId").text = entry.repository_id
            etree.SubElement(request, f"{{{XDS}}}DocumentUniqueId").text = entry.entry.unique_id
        reply = self._dmp.call(RETRIEVE, etree.tostring(payload), self._who, patient, limit=MAX_RETRIEVED)
        response = reply.body.find(f"{{{xds_errors.RS}}}RegistryResponse")
        if reply.body.tag != f"{{{XDS}}}RetrieveDocumentSetResponse" or response is None:
            raise RETRIEVE.unclear("the answer holds no RetrieveDocumentSetResponse")
        xds_errors.check(response, partial=True)
        wanted = {entry.entry.unique_id: entry for entry in entries}
        read = [
            _retrieved(element, reply.parts, wanted) for element in reply.body.iterfind(f"{{{XDS}}}DocumentResponse")
        ]
        return list({one.entry.entry_uuid: one for one in read}.values())

    # --- ITI-57 ---

    def delete(self, lot: SubmissionSet, entry: RegisteredEntry) -> list[str]:
        """Delete a document, which only its author or its structure may (TD3.3c)."""
        return self._change_status(lot, entry, DELETED)

    def archive(self, lot: SubmissionSet, entry: RegisteredEntry, *, back: bool = False) -> list[str]:
        """Put a document into the archives, or take it `back` (TD3.3d)."""
        self._check_reading()
        return self._change_status(lot, entry, APPROVED if back else ARCHIVED)

    def change_visibility(
        self, lot: SubmissionSet, entry: RegisteredEntry, masks: Iterable[CodedValue], *, hide: bool
    ) -> list[str]:
        """Put masks on a document or take them off (TD3.3a, TD3.3b); the entry gets another entryUUID by that."""
        self._check_reading()
        codes = xds_registry.with_masks(entry.entry, *masks, hide=hide)
        refused = visibility.contradictions(visibility.hidden_by(codes), to_patient=False, place="confidentialityCode")
        if issues := list(refused) if hide else []:
            raise DeliveryError(issues, retry=False)
        return self._update(lot, xds_registry.visibility_change(lot, entry, codes))

    def _change_status(self, lot: SubmissionSet, entry: RegisteredEntry, status: str) -> list[str]:
        return self._update(lot, xds_registry.status_change(lot, entry, status))

    def _update(self, lot: SubmissionSet, request: etree._Element) -> list[str]:
        return xds_errors.check(self._call(UPDATE, etree.tostring(request), lot.patient_id))

    # --- common ---

    def _check_reading(self) -> None:
        if self._dmp.settings.dmp_mode == "INDIRECTE":
            message = "mode INDIRECTE opens neither reading, masking nor archiving on the DMP"
            raise failure("business-rule", message, "dmp_mode", rule="SEL-MP-037 §2")

    def _call(
        self,
        transaction: Transaction,
        payload: bytes,
        patient: str,
        attachments: Sequence[mtom.Attachment] = (),
    ) -> etree._Element:
        body = self._dmp.call(transaction, payload, self._who, patient, attachments).body
        if etree.QName(body).localname not in ("RegistryResponse", "AdhocQueryResponse"):
            raise transaction.unclear("no RegistryResponse in the answer")
        return body


def provide_and_register(submission: Submission, documents: Mapping[str, bytes]) -> tuple[bytes, list[mtom.Attachment]]:
    """The ITI-41 request and its attachments; each document travels as its own part, byte for byte.

    Raises MetadataError when the metadata are not fit to be sent.
    """
    entries = tuple(replace(entry, uri=None) for entry in submission.entries)  # no names of files in an archive
    attachments = [
        mtom.Attachment(f"{uuid4()}@relais", entry.mime_type, documents[entry.entry_id]) for entry in entries
    ]
    request = xds.written(replace(submission, entries=entries))
    named = "".join(
        f'<xds:Document id="{xds.escaped(entry.entry_id)}">'
        f"{etree.tostring(mtom.include(part.content_id), encoding='unicode')}</xds:Document>"
        for entry, part in zip(entries, attachments, strict=True)
    )
    return b"".join(
        (f'<{_REQUEST} xmlns:xds="{XDS}">'.encode(), request, f"{named}</{_REQUEST}>".encode())
    ), attachments


_REQUEST = "xds:ProvideAndRegisterDocumentSetRequest"


def _retrieved(
    element: etree._Element, parts: Mapping[str, memoryview], wanted: Mapping[str, RegisteredEntry]
) -> Retrieved:
    unique_id = (element.findtext(f"{{{XDS}}}DocumentUniqueId") or "").strip()
    document = element.find(f"{{{XDS}}}Document")
    if unique_id not in wanted or document is None:
        raise failure("conflict", "the repository answers with a document that was not asked for", rule="ITI-43")
    entry = wanted[unique_id]
    try:
        content = mtom.binary_content(document, parts)
    except UnreadableError as error:
        raise failure("incomplete", error.issues[0].message, rule="MTOM") from error
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    if (len(content), digest) != (entry.entry.size, entry.entry.hash.lower()):
        raise failure("conflict", "size or SHA-1 of the document are not those of its entry", rule="ITI-43")
    return Retrieved(entry, (element.findtext(f"{{{XDS}}}mimeType") or "").strip(), content)


def _named(patient: str) -> tuple[str, str]:
    """Who a CX names: number and domain."""
    identifier = CX.parse(patient)
    return identifier.id, identifier.oid


def _batches(items: Sequence[ItemT]) -> list[Sequence[ItemT]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
