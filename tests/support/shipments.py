"""A shipment of the small document, its metadata written out by hand: an oracle that owes nothing to the mappings."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from relais.cda import templates
from relais.cda.model import II, Document
from relais.cda.writer import write
from relais.cda.xds import CodedValue, DocumentEntry, MetadataAuthor, Submission, SubmissionSet
from relais.server.delivery.channel import Shipment
from support.documents import small_document, small_organization, small_professional

PATIENT_ID = f"279035121518989^^^&{templates.INS_NIR_TEST}&ISO^NH"
AUTHOR = MetadataAuthor(
    person=f"{small_professional().ids[0].extension}^LEMOINE^Hélène^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
    institutions=(f"Cabinet des Tilleuls^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^{small_organization().ids[0].extension}",),
)
PROFESSIONAL = "medecin@cabinet.mssante.fr"
NURSE = "infirmier@ssiad.mssante.fr"


def small_shipment(document: Document | None = None, *, recipients: tuple[str, ...] = (PROFESSIONAL,)) -> Shipment:
    """A shipment of `document` (the small one by default) whose metadata describe it."""
    document = document or small_document()
    data = write(document)
    return Shipment(
        document=data,
        submission=Submission(small_submission_set(), (small_entry(document, data),)),
        recipients=recipients,
        message_id="<2f5c9a04-53ce-4d5f-8b4c-6a2f6d1f0b11@relais.mssante.fr>",
    )


def small_submission_set() -> SubmissionSet:
    """The lot of the small document."""
    return SubmissionSet(
        unique_id="2.25.301245378217395437813294710347591823499",
        source_id="1.2.250.1.999.1",
        patient_id=PATIENT_ID,
        submission_time="20260112080500",
        content_type=CodedValue("07", "Consultations et soins externes", "1.2.250.1.213.2.2"),
        author=AUTHOR,
    )


def small_entry(document: Document, data: bytes) -> DocumentEntry:
    """The fiche of the small document; identity and title follow `document`, size and hash `data`."""
    header = document.header
    return DocumentEntry(
        entry_id="Document01",
        unique_id=header.id.root or "",
        patient_id=PATIENT_ID,
        source_patient_id=PATIENT_ID,
        mime_type="text/xml",
        title=header.title or "",
        language="fr-FR",
        creation_time="20260112080000",
        hash=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        size=len(data),
        class_code=CodedValue("44", "Plan de soins, protocole de soins", "1.2.250.1.213.1.1.4.1"),
        type_code=CodedValue("18776-5", "Plan personnalisé de soins", templates.LOINC),
        format_code=CodedValue(
            "urn:asip:ci-sis:pps-paerpa:2017", "Plan Personnalisé de Santé", "1.2.250.1.213.1.1.4.2.282"
        ),
        facility_type=CodedValue("SA07", "Cabinet individuel", "1.2.250.1.71.4.2.4"),
        practice_setting=CodedValue("AMBULATOIRE", "Ambulatoire", "1.2.250.1.213.1.1.4.9"),
        authors=(AUTHOR,),
        confidentiality=(CodedValue("N", "Normal", templates.CONFIDENTIALITY),),
        legal_authenticator=AUTHOR.person,
        service_start="20260112080000",
        source_patient_info=("PID-5|PATTERSON^DOMINIQUE^^^^^L", "PID-7|19790328", "PID-8|F"),
    )


def with_entry(shipment: Shipment, **changes: object) -> Shipment:
    """The shipment with some attributes of its entry changed."""
    entry = replace(shipment.submission.entries[0], **changes)  # type: ignore[arg-type]
    return replace(shipment, submission=replace(shipment.submission, entries=(entry,)))


def other_document(number: int, **header: Any) -> Document:
    """The small document under another identity."""
    document = small_document()
    document.header.id = II(f"2.25.{number}")
    for name, value in header.items():
        setattr(document.header, name, value)
    return document


def other_shipment(number: int, **changes: Any) -> Shipment:
    """A shipment of another document, in its own lot."""
    shipment = small_shipment(other_document(number))
    lot = replace(shipment.submission.submission_set, unique_id=f"2.25.{number}1")
    return replace(shipment, submission=replace(shipment.submission, submission_set=lot, **changes))
