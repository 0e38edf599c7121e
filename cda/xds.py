"""XDS metadata: a submission set and its document entries, and their ebRIM 3.0 form.

IHE ITI TF-3 §4.2, restricted by CI-SIS volet Partage de documents de santé. The same form is METADATA.XML of an
IHE_XDM archive (ITI-32) and the metadata of Provide and Register Document Set-b (ITI-41).
Strings follow the HL7 v2 data types of ITI TF-3 table 4.2.3.1.7-2: XCN (person), XON (organisation), CX (identifier),
DTM (UTC, `YYYYMMDDhhmmss`).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CodedValue:
    """A code, its label and the OID (or URN) of its system: one ebRIM Classification."""

    code: str
    display: str
    system: str


@dataclass(frozen=True, slots=True)
class MetadataAuthor:
    """author: `person` XCN, `institutions` XON, `specialties` as `code^label^OID`."""

    person: str | None = None
    institutions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    specialties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """The fiche of one document. Times are DTM in UTC; `hash` is SHA-1 in hexadecimal of the exact bytes."""

    entry_id: str  # symbolic id in the message: Document01
    unique_id: str
    patient_id: str  # CX
    source_patient_id: str  # CX
    mime_type: str
    title: str
    language: str
    creation_time: str
    hash: str
    size: int
    class_code: CodedValue
    type_code: CodedValue
    format_code: CodedValue
    facility_type: CodedValue
    practice_setting: CodedValue
    authors: tuple[MetadataAuthor, ...]
    confidentiality: tuple[CodedValue, ...]
    legal_authenticator: str | None = None  # XCN
    service_start: str | None = None
    service_stop: str | None = None
    source_patient_info: tuple[str, ...] = ()  # "PID-3|…"
    event_codes: tuple[CodedValue, ...] = ()
    reference_ids: tuple[str, ...] = ()  # CXi
    comments: str | None = None
    uri: str | None = None  # file name, IHE_XDM only


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """The lot de soumission: who sends, what for, when. `submission_time` is DTM in UTC, 14 digits."""

    unique_id: str
    source_id: str
    patient_id: str  # CX
    submission_time: str
    content_type: CodedValue
    author: MetadataAuthor
    title: str | None = None
    comments: str | None = None


@dataclass(frozen=True, slots=True)
class Association:
    """HasMember or RPLC between two ids of the message (or an entryUUID for the target of RPLC)."""

    type: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission set, its entries and the associations beyond HasMember (which is implied)."""

    submission_set: SubmissionSet
    entries: tuple[DocumentEntry, ...]
    associations: tuple[Association, ...] = field(default=())
