"""The DMP channel: one document to the DMP of its patient, replaced or deleted there, and doubt settled by asking.

The order of calls of SEL-MP-037: existence test (TD0.2), the entry to replace as it is now (TD3.1b), ITI-41. When the
answer is lost, or the registry knows the identifier already, its entry of that identifier decides: the same bytes mean
that the document has arrived, other bytes that it never will.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from relais.cda import xds
from relais.cda.xds import Association, DocumentEntry, Submission
from relais.cda.xds_registry import APPROVED, DELETED, RegisteredEntry
from relais.server.delivery import vihf, visibility
from relais.server.delivery.channel import DeliveryError, Receipt, Shipment, UnsentError, check_integrity, entry_uuid
from relais.server.delivery.dmp_patients import DmpPatients
from relais.server.delivery.dmp_soap import Dmp, failure
from relais.server.delivery.https import LostAnswerError
from relais.server.delivery.xds_client import PROVIDE_AND_REGISTER, DmpDocuments
from relais.server.delivery.xds_errors import DUPLICATE, is_settled_by_looking
from relais.server.settings import Settings

_OID = "urn:oid:"
_IS_THERE = frozenset({"XDSRegistryDeprecatedDocumentError", *DUPLICATE.codes})
"""What a registry says only of a document that it holds."""


class DmpChannel:
    """Sends one document to the DMP that the settings name."""

    name = "dmp"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dmp = Dmp(settings)
        self._patients = DmpPatients(self._dmp)

    def send(self, shipment: Shipment) -> Receipt:
        """Carry the shipment out; every attempt has the same identifiers of document and lot, and the same signature.

        The target of an RPLC association is the entryUUID of the document to replace, or better its uniqueId as
        `urn:oid:…`: the entry in force is looked up. Raises DeliveryError; after one with `retry` the document may have
        been stored, and the same shipment may be sent again: the registry is asked first what it holds.
        """
        check_integrity(shipment)
        self._dmp.address(PROVIDE_AND_REGISTER.endpoint)
        self._check_size(shipment)
        lot = shipment.submission.submission_set
        who = replace(vihf.sender(lot.author, self._settings), secret=shipment.secret)
        documents = DmpDocuments(self._dmp, who)
        if shipment.action == "withdraw":
            return self._withdraw(shipment, documents)
        try:
            with _asking_first():
                if self._settings.dmp_existence_check:
                    self._patients.check_open(lot.patient_id, who)
                submission, unseen, remarks = _replacing(shipment, documents)
            warnings = _provide(submission, unseen, shipment.document, documents, remarks)
        except DeliveryError as error:
            return _settled(shipment.submission.entries[0], documents, error)
        return Receipt("; ".join(["stored by the repository", *remarks, *warnings]), "; ".join(remarks))

    def _check_size(self, shipment: Shipment) -> None:
        if len(shipment.document) > self._settings.dmp_max_size:
            message = f"the document has {len(shipment.document)} bytes, more than {self._settings.dmp_max_size}"
            raise failure("too-long", message, "dmp_max_size")

    @staticmethod
    def _withdraw(shipment: Shipment, documents: DmpDocuments) -> Receipt:
        sent = shipment.submission.entries[0]
        with _asking_first():
            found = documents.current(sent.patient_id, sent.unique_id)
        if found is None:
            raise failure("not-found", "the registry shows no document to delete under this identifier", rule="TD3.1b")
        _check_same(sent, found)
        if found.status == DELETED:
            return Receipt("deleted already")
        try:
            warnings = documents.delete(shipment.submission.submission_set, found)
        except DeliveryError as error:
            return _deleted_all_the_same(sent, documents, error)
        return Receipt("; ".join(["deleted in the registry", *warnings]))


@contextmanager
def _asking_first() -> Iterator[None]:
    """What fails for now inside the block fails before anything was sent: the DMP surely does not have it."""
    try:
        yield
    except DeliveryError as error:
        raise UnsentError(error.issues) if error.retry else error from None


def _provide(
    submission: Submission,
    unseen: Sequence[Association],
    content: bytes,
    documents: DmpDocuments,
    remarks: list[str],
) -> list[str]:
    """Send the document; as a new one, with a remark, where the registry refuses to replace what it does not show."""
    contents = {submission.entries[0].entry_id: content}
    try:
        return documents.provide_and_register(submission, contents)
    except DeliveryError as error:
        if not unseen or error.retry or any(issue.rule in _IS_THERE for issue in error.issues):
            raise
    seen = tuple(one for one in submission.associations if one not in unseen)
    warnings = documents.provide_and_register(replace(submission, associations=seen), contents)
    remarks.append("the document it replaces is not in the registry: sent as a new one")
    return warnings


def _replacing(shipment: Shipment, documents: DmpDocuments) -> tuple[Submission, list[Association], list[str]]:
    """The submission whose replacements name entries in force, those that are not shown, what there is to say.

    What is not shown may be there, hidden from who asks: it is named as it was sent. What was hidden on the DMP since
    the last order stays hidden, unless the order says from whom.
    """
    submission = shipment.submission
    associations, unseen, entries, remarks = [], [], submission.entries, []
    for association in submission.associations:
        if association.type != xds.REPLACE:
            associations.append(association)
            continue
        found = _target(association, submission.submission_set.patient_id, documents)
        if found is None:
            unseen.append(replace(association, target=_as_sent(association.target)))
            associations.append(unseen[-1])
        elif found.status != APPROVED:
            message = "the document to replace is no longer in force in the registry"
            raise failure("conflict", message, association.source, rule="XDSRegistryDeprecatedDocumentError")
        else:
            associations.append(replace(association, target=found.entry_uuid))
            if shipment.as_before:
                entries = tuple(_as_hidden(entry, found.entry) for entry in entries)
    if entries != submission.entries:
        remarks.append("hidden on the DMP from whom the version before it is")
    return replace(submission, entries=entries, associations=tuple(associations)), unseen, remarks


def _as_sent(target: str) -> str:
    """The entryUUID under which Relais sends the document that an association names."""
    return entry_uuid(target.removeprefix(_OID)) if target.startswith(_OID) else target


def _as_hidden(entry: DocumentEntry, former: DocumentEntry) -> DocumentEntry:
    """The entry, hidden from those, too, whom the one in force is hidden from. Raises DeliveryError for both masks."""
    hidden = visibility.hidden_by(entry.confidentiality)
    more = sorted(visibility.hidden_by(former.confidentiality) - hidden)
    refused = list(visibility.contradictions((*hidden, *more), to_patient=False, place="hideFrom"))
    if refused:
        raise DeliveryError(refused, retry=False)
    return replace(entry, confidentiality=(*entry.confidentiality, *(visibility.MASKS[one] for one in more)))


def _target(association: Association, patient: str, documents: DmpDocuments) -> RegisteredEntry | None:
    if association.target.startswith(_OID):
        return documents.current(patient, association.target.removeprefix(_OID))
    named = documents.get(patient, entry_uuids=[association.target]).entries
    if not named or named[0].status == APPROVED:
        return named[0] if named else None
    return documents.current(patient, named[0].entry.unique_id)  # an entry gets another id when it is changed


def _settled(sent: DocumentEntry, documents: DmpDocuments, error: DeliveryError) -> Receipt:
    """The receipt of a document that has arrived all the same. Raises DeliveryError when it has not, or not surely."""
    lost = isinstance(error, LostAnswerError)
    if not is_settled_by_looking(error):
        raise error
    try:
        found = documents.current(sent.patient_id, sent.unique_id)
    except DeliveryError:
        raise _in_doubt(error) if lost else error from None
    if found is None:
        raise _in_doubt(error) if lost else error
    _check_same(sent, found)
    if found.status == DELETED:
        raise failure("conflict", "the registry holds this document as deleted: its identifier is used up", "uniqueId")
    how = "the answer was lost" if lost else "an earlier attempt had stored it"
    return Receipt(f"the registry holds this document: {how}")


def _deleted_all_the_same(sent: DocumentEntry, documents: DmpDocuments, error: DeliveryError) -> Receipt:
    """The receipt of a deletion that is made though nobody says so. Raises `error` when it is not, or not surely."""
    if is_settled_by_looking(error):
        try:
            found = documents.current(sent.patient_id, sent.unique_id)
        except DeliveryError:
            raise error from None
        if found is not None and found.status == DELETED:
            return Receipt("the registry holds this document as deleted, whatever it answered")
    raise error


def _in_doubt(error: DeliveryError) -> DeliveryError:
    """Not shown by the registry (yet): the repository may still be at work on it."""
    issues = [replace(issue, message=f"{issue.message}: the document may have been stored") for issue in error.issues]
    return DeliveryError(issues, retry=error.retry)


def _check_same(sent: DocumentEntry, found: RegisteredEntry) -> None:
    if found.entry.hash.lower() != sent.hash.lower():
        message = (
            "the registry holds another document under this identifier: its bytes are not ours; look at it with"
            " relais dmp retrieve, and send ours under another identifier"
        )
        raise failure("conflict", message, "uniqueId", rule="XDSNonIdenticalHash")
