"""What XDS metadata say: a submission set, its document entries and the associations between them.

IHE ITI TF-3 §4.2, restricted by CI-SIS volet Partage de documents de santé; names and numbers of ebRIM 3.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relais.cda.errors import Issue, RelaisError

LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
REPLACE = "urn:ihe:iti:2007:AssociationType:RPLC"
SIGNS = "urn:ihe:iti:2007:AssociationType:signs"
SET_ID = "SubmissionSet01"
"""The symbolic id of the submission set in what is written here."""


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
    """The fiche of one document. Times are DTM in UTC; `hash` is SHA-1 in hexadecimal of the exact bytes.

    A sender of ITI-41 may leave hash and size to the repository: they then read as "" and 0, and are not written.
    Of a registered entry `entry_id` is the entryUUID.
    """

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
    action: str | None = None  # received only, national extra-metadata: C replaces, D deletes a document sent before


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
    """A link between two ids of the message, or from one to the entryUUID that RPLC replaces; `type` is its URN."""

    type: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission set, its entries and the associations beyond HasMember (which is implied)."""

    submission_set: SubmissionSet
    entries: tuple[DocumentEntry, ...]
    associations: tuple[Association, ...] = field(default=())


SUBMISSION_SET_CLASS = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
STABLE_DOCUMENT = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ASSOCIATION_TYPE = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Association"


class MetadataError(RelaisError):
    """XDS metadata that are refused, received or about to be sent; `rule` names the receiver check (`xdm.patient`…)."""


@dataclass(frozen=True, slots=True)
class ExaminedSubmission:
    """What could be read of received metadata, None when they are no submission at all, and what is wrong with them.

    An attribute that is missing but required reads as an empty string and has its issue.
    """

    submission: Submission | None
    issues: tuple[Issue, ...]
