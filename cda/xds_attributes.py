"""The attributes of XDS metadata as data: where each stands in ebRIM 3.0, with which codes, and what makes it right.

IHE ITI TF-3 tables 4.2.3.2-1 (DocumentEntry) and 4.2.3.3-1 (SubmissionSet), with the cardinalities and coding schemes
of the CI-SIS volets Partage and Échange de documents de santé. `xds` writes and reads by these tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from relais.cda.templates import CONFIDENTIALITY, LOINC
from relais.cda.xds_types import CX, XCN, XON, is_document_id, is_dtm, is_short_oid

CLASS_SYSTEM = "1.2.250.1.213.1.1.4.1"  # TRE_A03
TYPE_SYSTEM = "1.2.250.1.213.1.1.4.12"  # TRE_A05
FORMAT_SYSTEM = "1.2.250.1.213.1.1.4.2.282"  # TRE_A06
IHE_FORMAT_SYSTEM = "1.3.6.1.4.1.19376.1.2.3"  # TRE_A11
MASKING_SYSTEM = "1.2.250.1.213.1.1.4.13"  # TRE_A07
ACTIVITY_SYSTEM = "1.2.250.1.213.2.2"  # TRE_R209
ACTIVITY_FORM_SYSTEM = "1.2.250.1.213.1.6.1.128"  # TRE_R276
SECTOR_SYSTEM = "1.2.250.1.71.4.2.4"  # TRE_R02
PRACTICE_SYSTEM = "1.2.250.1.213.1.1.4.9"  # TRE_A01
PRODUCER_SYSTEM = "1.2.250.1.213.1.1.4.6"  # TRE_A00

Check = Callable[[str], Iterable[str]]
"""What is wrong with a value, in words that do not quote it."""

SIZE = re.compile(r"[0-9]{1,15}")
_HASH = re.compile(r"[0-9A-Fa-f]{40}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?")
_PID_FIELD = re.compile(r"PID-[0-9]+\|.+")
_PARTIAL_BIRTH_DATE = re.compile(r"PID-7\|.{0,7}")
_SPECIALTY = re.compile(r"[^^]+\^[^^]*\^[^^]+")
_REFERENCE_ID = re.compile(r"[^^]+\^\^\^[^^]*\^urn:[^^]+")


def _shape(holds: Callable[[str], Any], message: str) -> Check:
    return lambda text: () if holds(text) else (message,)


def nothing(_: str) -> tuple[str, ...]:
    """That nothing is wrong with any value."""
    return ()


def _patient(text: str) -> list[str]:
    return CX.parse(text).problems()


def _person(text: str) -> list[str]:
    return XCN.parse(text).problems()


def _doubtful_person(text: str) -> list[str]:
    return XCN.parse(text).doubts()


def _organization(text: str) -> list[str]:
    return XON.parse(text).problems()


_oid = _shape(is_short_oid, "is not an OID of at most 64 characters")
utc_time = _shape(is_dtm, "is not a DTM in UTC: YYYY[MM[DD[hh[mm[ss]]]]] without offset")


class Slot(NamedTuple):
    """An attribute written as a slot; `field` is that of the dataclass, `doubts` only warn."""

    name: str
    field: str
    problems: Check
    required: bool = False
    repeats: bool = False
    doubts: Check = nothing


class Coded(NamedTuple):
    """A coded attribute: a Classification of `scheme`, whose coding scheme is one of `systems`."""

    name: str
    field: str
    scheme: str
    systems: tuple[str, ...]  # empty: any
    required: bool = True
    repeats: bool = False


class Identifier(NamedTuple):
    """An attribute written as an ExternalIdentifier of `scheme`; always required."""

    name: str
    field: str
    scheme: str
    problems: Check


class ObjectForm(NamedTuple):
    """Where the attributes of one kind of object stand."""

    name: str
    author_scheme: str
    author_field: str
    slots: tuple[Slot, ...]
    codes: tuple[Coded, ...]
    identifiers: tuple[Identifier, ...]


ACTION = "action"  # the exact slot name is not published: some name that ends so, after a colon

AUTHOR_SLOTS = (
    Slot("authorInstitution", "institutions", _organization, repeats=True),
    Slot("authorPerson", "person", _person, required=True, doubts=_doubtful_person),
    Slot("authorRole", "roles", nothing, repeats=True),
    Slot(
        "authorSpecialty", "specialties", _shape(_SPECIALTY.fullmatch, "has not the form code^label^OID"), repeats=True
    ),
)
SUBMISSION_SET = ObjectForm(
    "XDSSubmissionSet",
    "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d",
    "author",
    (Slot("submissionTime", "submission_time", utc_time, required=True),),
    (
        Coded(
            "contentTypeCode",
            "content_type",
            "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500",
            (ACTIVITY_SYSTEM, ACTIVITY_FORM_SYSTEM, SECTOR_SYSTEM, PRODUCER_SYSTEM),
        ),
    ),
    (
        Identifier("patientId", "patient_id", "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446", _patient),
        Identifier("sourceId", "source_id", "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832", _oid),
        Identifier("uniqueId", "unique_id", "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", _oid),
    ),
)
# The systems ASTM and URN are those of the signature of the lot, which travels as one more document.
DOCUMENT_ENTRY = ObjectForm(
    "XDSDocumentEntry",
    "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d",
    "authors",
    (
        Slot("creationTime", "creation_time", utc_time, required=True),
        Slot("hash", "hash", _shape(_HASH.fullmatch, "is not a SHA-1 in hexadecimal (40 digits)")),
        Slot(
            "languageCode",
            "language",
            _shape(_LANGUAGE.fullmatch, "is not a language code such as fr-FR"),
            required=True,
        ),
        Slot("legalAuthenticator", "legal_authenticator", _person, required=True, doubts=_doubtful_person),
        Slot("serviceStartTime", "service_start", utc_time, required=True),
        Slot("serviceStopTime", "service_stop", utc_time),
        Slot("size", "size", _shape(SIZE.fullmatch, "is not a number of bytes")),
        Slot("sourcePatientId", "source_patient_id", _patient, required=True),
        Slot(
            "sourcePatientInfo",
            "source_patient_info",
            _shape(_PID_FIELD.fullmatch, "has not the form PID-n|…"),
            repeats=True,
            doubts=_shape(lambda text: not _PARTIAL_BIRTH_DATE.fullmatch(text), "PID-7 is not a whole date of birth"),
        ),
        Slot("URI", "uri", nothing),
        Slot(
            "urn:ihe:iti:xds:2013:referenceIdList",
            "reference_ids",
            _shape(_REFERENCE_ID.fullmatch, "has not the form id^^^&OID&ISO^urn:…"),
            repeats=True,
        ),
        Slot(ACTION, "action", _shape(("C", "D").__contains__, "is neither C (replacement) nor D (deletion)")),
    ),
    (
        Coded("classCode", "class_code", "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a", (CLASS_SYSTEM, "URN")),
        Coded("typeCode", "type_code", "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983", (LOINC, TYPE_SYSTEM, "ASTM")),
        Coded(
            "formatCode",
            "format_code",
            "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d",
            (FORMAT_SYSTEM, IHE_FORMAT_SYSTEM, "URN"),
        ),
        Coded(
            "healthcareFacilityTypeCode",
            "facility_type",
            "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
            (SECTOR_SYSTEM, PRODUCER_SYSTEM),
        ),
        Coded(
            "practiceSettingCode",
            "practice_setting",
            "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead",
            (PRACTICE_SYSTEM, PRODUCER_SYSTEM),
        ),
        Coded(
            "confidentialityCode",
            "confidentiality",
            "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f",
            (CONFIDENTIALITY, MASKING_SYSTEM),
            repeats=True,
        ),
        Coded(
            "eventCodeList",
            "event_codes",
            "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4",
            (),
            required=False,
            repeats=True,
        ),
    ),
    (
        Identifier("patientId", "patient_id", "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", _patient),
        Identifier(
            "uniqueId",
            "unique_id",
            "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab",
            _shape(is_document_id, "is neither an OID of at most 64 characters nor OID^extension"),
        ),
    ),
)
