"""The transmission order: everything an HL7 v2 message says that the document it carries does not.

CI-SIS volet "Transmission de documents CDA-R2 en HL7v2" 2.1 (to a platform) and volet "Transmission au LPS" 1.1 (mail
received, handed to a software: `mail`). Times are HL7 TS strings. A message read gives the order it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from relais.cda.templates import INS_ROOTS

Action = Literal["initial", "replace", "delete"]
MessageType = Literal["MDM", "ORU"]

PATIENT_DOMAIN = "patient.mssante.fr"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An application and its facility: MSH-3 and 4, or MSH-5 and 6."""

    application: str
    facility: str


@dataclass(frozen=True, slots=True)
class Flags:
    """The table MetaDMPMSS, in its order. `to_*` say where the platform sends, `want_*` which ZAM it returns."""

    hidden_from_professionals: bool = False
    hidden_from_patient: bool = False
    hidden_from_representatives: bool = False
    secret_connection: bool = False
    visibility_change_only: bool = False
    to_dmp: bool = False
    to_professionals: bool = False  # professionals, organisations, application mailboxes
    to_patient: bool = False
    want_reception: bool = False
    want_reading: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """A professional or the patient: PRT-5. `authority` is the OID of the domain of `id`."""

    id: str
    family: str
    given: str
    authority: str
    id_type: str  # IDNPS, RPPS, EI; INS for the patient
    name_type: str = "D"

    @property
    def is_patient(self) -> bool:
        """Whether this person is designated by an INS."""
        return self.id_type == "INS" or self.authority in INS_ROOTS


@dataclass(frozen=True, slots=True)
class Structure:
    """An organisation, service or unit: PRT-8."""

    name: str
    id: str = ""
    authority: str = ""
    id_type: str = ""  # FINEG, FINEJ, IDNST; UF, SVR inside a structure


@dataclass(frozen=True, slots=True)
class Party:
    """A sender or a recipient: who it is as far as known, and its MSSanté mailbox."""

    person: Person | None = None
    structure: Structure | None = None
    device: str = ""  # PRT-10
    mailbox: str = ""  # PRT-15

    @property
    def is_patient(self) -> bool:
        """Whether this is the patient: by the identifier or by the mailbox."""
        by_mailbox = self.mailbox.rpartition("@")[2].lower() == PATIENT_DOMAIN
        return by_mailbox or (self.person is not None and self.person.is_patient)


@dataclass(frozen=True, slots=True)
class Encounter:
    """PV1: `kind` is a code of table 0004, N for a document without venue. Number and times of the document's own
    encounter are added when a message is made."""

    kind: str = "N"
    number: str = ""
    authority: str = ""
    admission: str = ""
    discharge: str = ""


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """The mail that brought the document: only in a message to the LPS."""

    message_id: str
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class TransmissionOrder:
    """One order. `control_id` (MSH-10) and `time` (MSH-7, EVN-2) are fixed when it is accepted, so that a second
    sending is the same message."""

    control_id: str
    time: str
    action: Action
    sending: Endpoint
    receiving: Endpoint
    flags: Flags = field(default_factory=Flags)
    message: MessageType = "MDM"
    processing: str = "P"  # P production, T training, D debugging
    charset: str = "UNICODE UTF-8"
    event_time: str = ""  # EVN-6
    identity_status: str = ""  # PID-32; empty when made: VALI if the document bears an INS
    encounter: Encounter = field(default_factory=Encounter)
    sender: Party | None = None
    recipients: tuple[Party, ...] = ()
    reply_to: tuple[str, ...] = ()
    body_for_professionals: str = ""
    body_for_patient: str = ""
    patient_may_reply: bool = True
    mail: ReceivedMail | None = None
