"""What a person does with a DMP by hand: `relais dmp`, for those who test, support and answer for a connection.

Every function asks in the name of who answers for this installation (settings `responsible_…`, `organization_…`) and
raises DeliveryError. A patient is a matricule INS; its OID is that of the environment unless given.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from relais.cda import xds_registry
from relais.cda.datatypes import dtm_from_datetime
from relais.cda.errors import Issue, RelaisError
from relais.cda.templates import INS_NIR, INS_NIR_TEST
from relais.cda.xds import SubmissionSet
from relais.cda.xds_registry import RegisteredEntry
from relais.cda.xds_types import CX
from relais.mappings.document_metadata import usual_content_type
from relais.mappings.identity import may_leave
from relais.server.delivery import dmp_web, lot_author, vihf, visibility
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.dmp_patients import DmpPatients, Existence
from relais.server.delivery.dmp_soap import Dmp, failure
from relais.server.delivery.visibility import MASKS, Audience
from relais.server.delivery.xds_client import DmpDocuments
from relais.server.delivery.xds_errors import is_settled_by_looking
from relais.server.delivery.xds_queries import Criteria
from relais.server.private_files import write_private
from relais.server.settings import Settings

STATUSES = {
    "approved": xds_registry.APPROVED,
    "deprecated": xds_registry.DEPRECATED,
    "archived": xds_registry.ARCHIVED,
    "deleted": xds_registry.DELETED,
}
_SHORT = {urn: name for name, urn in STATUSES.items()}

Change = Literal["archive", "unarchive", "delete"]


@dataclass(frozen=True, slots=True)
class Target:
    """One patient's DMP, and who asks."""

    settings: Settings
    ins: str
    oid: str = ""

    @property
    def patient(self) -> str:
        """The CX of the patient. Raises RelaisError for what is no INS, or one of the other environment."""
        production = self.settings.ins_environment == "production"
        patient = CX(self.ins, self.oid or (INS_NIR if production else INS_NIR_TEST), "NH")
        problems = patient.problems()
        if not may_leave(patient.oid, self.settings.deployment):
            problems.append(f"an INS that may not leave an instance in {self.settings.ins_environment} mode")
        if problems:
            raise RelaisError([Issue("error", "value", problem, "INS", "Référentiel INS") for problem in problems])
        return str(patient)


def status(target: Target) -> Existence:
    """Whether the patient has a DMP, and whether it is open (TD0.2)."""
    with closing(Dmp(target.settings)) as dmp:
        return DmpPatients(dmp).status(target.patient, vihf.requester(target.settings))


def web_address(target: Target, page: str) -> str:
    """The address of the Web access on this patient (TD0.9)."""
    return dmp_web.web_address(target.patient, target.settings, page)


def find(target: Target, statuses: Sequence[str]) -> list[dict[str, Any]]:
    """The documents of those statuses (keys of STATUSES), as a list fit for JSON; no identity of the patient."""
    wanted = tuple(STATUSES[name] for name in statuses) or (xds_registry.APPROVED,)
    with closing(Dmp(target.settings)) as dmp:
        found = _documents(dmp).find(target.patient, Criteria(status=wanted))
    return [_summary(entry) for entry in found]


def retrieve(target: Target, unique_id: str, output: Path) -> dict[str, Any]:
    """Write the bytes of a document to a file."""
    with closing(Dmp(target.settings)) as dmp:
        documents = _documents(dmp)
        entry = _entry(documents, target, unique_id)
        found = documents.retrieve(target.patient, [entry])
    if not found:
        raise RelaisError(Issue("error", "not-found", "the repository does not give the document", unique_id))
    write_private(output, found[0].content)
    return _summary(entry) | {"file": str(output)}


def change_visibility(target: Target, unique_id: str, audiences: Sequence[Audience], *, hide: bool) -> dict[str, Any]:
    """Hide a document from those, or show it to them again; the entry as it is afterwards."""
    masks = [MASKS[name] for name in audiences]
    with closing(Dmp(target.settings)) as dmp:
        documents = _documents(dmp)
        entry = _entry(documents, target, unique_id)
        lot = change_lot(target.settings, entry)

        def is_done(found: RegisteredEntry | None) -> bool:
            hidden = visibility.hidden_by(found.entry.confidentiality) if found else frozenset()
            return found is not None and (hidden >= set(audiences) if hide else hidden.isdisjoint(audiences))

        made = _changed(documents, entry, lambda: documents.change_visibility(lot, entry, masks, hide=hide), is_done)
        return _summary(made)


def change_status(target: Target, unique_id: str, change: Change) -> dict[str, Any]:
    """Archive, take back from the archives, or delete a document; the entry as it is afterwards."""
    with closing(Dmp(target.settings)) as dmp:
        documents = _documents(dmp)
        entry = _entry(documents, target, unique_id)
        lot = change_lot(target.settings, entry)
        if change == "delete":
            _refuse_deletion_by_others(lot, entry)
            found = _changed(
                documents,
                entry,
                lambda: documents.delete(lot, entry),
                lambda found: found is None or found.status == xds_registry.DELETED,
            )
            return _summary(replace(found, status=xds_registry.DELETED))
        back = change == "unarchive"
        status = xds_registry.APPROVED if back else xds_registry.ARCHIVED
        found = _changed(
            documents,
            entry,
            lambda: documents.archive(lot, entry, back=back),
            lambda found: found is not None and found.status == status,
        )
        return _summary(found)


def _refuse_deletion_by_others(lot: SubmissionSet, entry: RegisteredEntry) -> None:
    """Who else may hide or archive a document (the patient's own doctor may) the DMP alone knows."""
    if not lot_author.may_change(lot.author, entry.entry.authors):
        message = (
            "only the author of a document or the structure of the author deletes it: neither is that of the settings"
            " (responsible_rpps, organization_finess)"
        )
        raise RelaisError(Issue("error", "business-rule", message, "authorInstitution", "SEL-MP-037: TD3.3c"))


def _changed(
    documents: DmpDocuments,
    entry: RegisteredEntry,
    change: Callable[[], object],
    is_done: Callable[[RegisteredEntry | None], bool],
) -> RegisteredEntry:
    """The entry as it stands after a change, which the registry is asked for whatever it answered to the change.

    Raises DeliveryError when the change is not made; `is_done` is asked of the entry that is shown.
    """
    refusal = failure("conflict", "the DMP says that it made the change, and shows the entry without it", rule="ITI-57")
    try:
        change()
    except DeliveryError as error:
        if not is_settled_by_looking(error):
            raise
        refusal = error
    found = documents.current(entry.entry.patient_id, entry.entry.unique_id)
    if not is_done(found):
        raise refusal
    return found or entry


def change_lot(settings: Settings, entry: RegisteredEntry) -> SubmissionSet:
    """A new lot for a change of `entry`, in the name of who answers for this installation."""
    return SubmissionSet(
        unique_id=f"2.25.{uuid.uuid4().int}",
        source_id=settings.source_oid,
        patient_id=entry.entry.patient_id,
        submission_time=dtm_from_datetime(datetime.now(UTC)),
        content_type=usual_content_type(entry.entry.facility_type),
        author=lot_author.responsible(settings),
    )


def _documents(dmp: Dmp) -> DmpDocuments:
    return DmpDocuments(dmp, vihf.requester(dmp.settings))


def _entry(documents: DmpDocuments, target: Target, unique_id: str) -> RegisteredEntry:
    entry = documents.current(target.patient, unique_id)
    if entry is None:
        raise RelaisError(Issue("error", "not-found", "the registry shows no such document", unique_id, "TD3.1b"))
    return entry


def _summary(entry: RegisteredEntry) -> dict[str, Any]:
    described = entry.entry
    return {
        "uniqueId": described.unique_id,
        "entryUUID": entry.entry_uuid,
        "version": entry.version,
        "status": _SHORT.get(entry.status, entry.status),
        "type": described.type_code.code,
        "title": described.title,
        "created": described.creation_time,
        "confidentiality": [code.code for code in described.confidentiality],
        "size": described.size,
        "sha1": described.hash,
    }


def as_text(found: Sequence[dict[str, Any]]) -> str:
    """One line for each document."""
    lines = [
        " ".join(
            [
                one["created"],
                one["status"],
                one["type"],
                ",".join(one["confidentiality"]),
                one["uniqueId"],
                one["title"],
            ]
        )
        for one in found
    ]
    return "\n".join(lines) or "no document"
