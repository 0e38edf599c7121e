"""The HL7 v2 channel: one document as MDM or ORU to a platform (PFI) that feeds the DMP and sends by MSSanté.

CI-SIS volet "Transmission de documents CDA-R2 en HL7v2" 2.1, MLLP. The acknowledgement (AA) means that the platform
has taken the message; whether the DMP and the mailboxes got the document comes later, as ZAM (`mappings.hl7v2.zam`).
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from relais.cda import reader
from relais.cda.errors import Issue, RelaisError
from relais.cda.model import II, Document, Header, NamePart, Organization, Participant, PersonName, Recipient, Telecom
from relais.cda.templates import CONFIDENTIALITY, INS_ROOTS, PS_IDNAT, STRUCT_IDNAT
from relais.cda.xds import DocumentEntry, MetadataAuthor
from relais.cda.xds_types import XCN, XON
from relais.mappings.document_rules import refusals
from relais.mappings.hl7v2 import tables
from relais.mappings.hl7v2.acknowledgement import Acknowledgement as Answer
from relais.mappings.hl7v2.acknowledgement import read_acknowledgement
from relais.mappings.hl7v2.context import Policy
from relais.mappings.hl7v2.document import replaced_ids
from relais.mappings.hl7v2.order import (
    PATIENT_DOMAIN,
    Action,
    Endpoint,
    Flags,
    MessageType,
    Party,
    Person,
    Structure,
    TransmissionOrder,
)
from relais.mappings.hl7v2.writing import compose
from relais.server.delivery.channel import (
    EVERY_ACKNOWLEDGEMENT,
    Acknowledgement,
    DeliveryError,
    Receipt,
    Shipment,
    UnsentError,
    check_integrity,
    making_the_message,
    quoted,
    record,
)
from relais.server.delivery.mllp import MllpClient, UnansweredError
from relais.server.delivery.tls import client_context, failure
from relais.server.delivery.trust_space import NATIONAL, TrustSpace
from relais.server.settings import Settings

_HIDDEN = {
    "MASQUE_PS": "hidden_from_professionals",
    "INVISIBLE_PATIENT": "hidden_from_patient",
    "INVISIBLE_REPRESENTANTS_LEGAUX": "hidden_from_representatives",
}
"""confidentialityCode of a fiche, and the flag it becomes."""

_KEPT = "the platform has it, and was asked to pass it on to nobody: neither to the DMP nor to a mailbox"
_BEGINS_WITH_UUID = re.compile(r"<([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-[0-9a-f]{12}@", re.IGNORECASE)
_ACTIONS: dict[str, Action] = {"C": "replace", "D": "delete"}  # the national extra-metadata `action` of a fiche


class Hl7v2Channel:
    """Sends one document to the platform of the settings and waits for its acknowledgement."""

    name = "hl7v2"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = policy_of(settings)
        self._client: MllpClient | None = None

    def send(self, shipment: Shipment) -> Receipt:
        """Send once; MSH-10 is made of the shipment's message id, so that the platform recognises a second sending.

        Raises DeliveryError: to be tried again when the platform could not be reached or did not answer, not when it
        refuses.
        """
        check_integrity(shipment)
        with making_the_message():
            document = reader.read(shipment.document).document
            order = order_of(shipment, document, self._settings)
            message = compose(document, shipment.document, order, self._policy)
        started, answer = datetime.now(UTC), None
        try:
            answer = self._connection().exchange(message, lambda data: _answers(data, order.control_id))
        except OSError as error:
            raise _transport_failure(error) from error
        finally:
            record("MLLP", f"mllp://{self._settings.hl7v2_host}:{self._settings.hl7v2_port}", started, message, answer)
        acknowledgement = read_acknowledgement(answer)
        if acknowledgement.code != "AA":
            raise DeliveryError(_refusals(acknowledgement), retry=False)
        remark = "" if acknowledgements(order.flags) else _KEPT
        return Receipt(quoted(f"taken by the platform: {acknowledgement}"), remark)

    def close(self) -> None:
        """Close the connection kept for the next sending."""
        if self._client is not None:
            self._client.close()

    def _connection(self) -> MllpClient:
        if self._client is None:
            settings = self._settings
            self._client = MllpClient(
                settings.hl7v2_host,
                settings.hl7v2_port,
                timeout=settings.hl7v2_timeout,
                context=(lambda: client_context(settings, "hl7v2")) if settings.hl7v2_tls else None,
            )
        return self._client


# --- order --------------------------------------------------------------------------------------------------------


def order_of(shipment: Shipment, document: Document, settings: Settings) -> TransmissionOrder:
    """The transmission order of a shipment: the same each time."""
    entry, lot = shipment.submission.entries[0], shipment.submission.submission_set
    known = _by_mailbox(document.header)
    recipients = tuple(_recipient(mailbox, known, document.header) for mailbox in shipment.recipients)
    facility = settings.organization_finess or settings.organization_name
    message: dict[str, MessageType] = {"MDM": "MDM", "ORU": "ORU"}
    flags = {_HIDDEN[code.code]: True for code in entry.confidentiality if code.code in _HIDDEN}
    replaces = shipment.follows and bool(replaced_ids(document.header))
    action = _action(shipment, entry.action, replaces=replaces)
    return TransmissionOrder(
        control_id=control_id(shipment.message_id),
        time=f"{lot.submission_time}+0000",
        action=action,
        sending=Endpoint(settings.hl7v2_sending_application, settings.hl7v2_sending_facility or facility),
        receiving=Endpoint(settings.hl7v2_receiving_application, settings.hl7v2_receiving_facility),
        flags=Flags(
            to_dmp=settings.hl7v2_to_dmp and not shipment.dmp_is_fed and _is_for_dmp(entry, document),
            to_professionals=any(not party.is_patient for party in recipients),
            to_patient=any(party.is_patient for party in recipients),
            want_reception="reception" in shipment.acknowledgements,
            want_reading="reading" in shipment.acknowledgements,
            secret_connection=shipment.secret and not shipment.dmp_is_fed,
            visibility_change_only=shipment.visibility_only and action == "replace",
            **flags,
        ),
        message=message[settings.hl7v2_message],
        processing=settings.hl7v2_processing,
        sender=_sender(lot.author),
        recipients=recipients,
        reply_to=(settings.mss_reply_to,) if recipients and settings.mss_reply_to else (),
        patient_may_reply=settings.mss_patient_may_answer,
    )


def acknowledgements(flags: Flags) -> tuple[Acknowledgement, ...]:
    """What a platform can say later: reception of the DMP and of mailboxes, reading of mailboxes alone.

    Nothing when it is asked to pass the document on to nobody (volet: nothing to do).
    """
    if flags.to_professionals or flags.to_patient:
        return EVERY_ACKNOWLEDGEMENT
    return ("reception",) if flags.to_dmp else ()


def _is_for_dmp(entry: DocumentEntry, document: Document) -> bool:
    """Whether the DMP takes the document: its type, format, sector, confidentiality, a patient with a qualified INS."""
    normal = any(code.system == CONFIDENTIALITY and code.code == "N" for code in entry.confidentiality)
    qualified = any(ii.root in INS_ROOTS and ii.extension for ii in document.header.patient.ids)
    of_dmp = tables.is_dmp_type(entry.type_code.code, entry.type_code.system) and not refusals(document, "dmp")
    return normal and qualified and of_dmp


def _action(shipment: Shipment, stated: str | None, *, replaces: bool) -> Action:
    if shipment.action == "withdraw":
        return "delete"
    return _ACTIONS.get(stated or "", "replace" if replaces else "initial")


def control_id(message_id: str) -> str:
    """MSH-10 of a shipment: 20 characters (the length of HL7 v2.5) of its message id.

    The first 20 hexadecimal digits of the UUID it begins with, so that `message_ids` finds it again; of one that does
    not begin with a UUID, a hash.
    """
    if found := _BEGINS_WITH_UUID.match(message_id):
        return "".join(found.groups()).upper()
    return base64.b32encode(hashlib.sha256(message_id.encode()).digest()).decode("ascii")[:20]


def beginning_of_message_id(control_id: str) -> str:
    """How the message ids begin whose `control_id` that is; empty when there is none."""
    digits = control_id.lower()
    if not re.fullmatch(r"[0-9a-f]{20}", digits):
        return ""
    return f"<{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:]}-"


def policy_of(settings: Settings) -> Policy:
    """How messages are read and written here. Raises RelaisError when the list of the trust space cannot be read."""
    listed = TrustSpace.of(settings).domains
    return Policy(
        strict=settings.hl7v2_strict,
        ins_environment=settings.deployment.ins_environment,
        mailbox_domains=(NATIONAL, f".{NATIONAL}") if listed is None else tuple(sorted(listed)),
    )


def _sender(author: MetadataAuthor) -> Party:
    """The author of the lot: a professional or a system, and its structure."""
    who = XCN.parse(author.person) if author.person else None
    where = XON.parse(author.institutions[0]) if author.institutions else None
    is_system = who is not None and who.type == "RI"
    kind = "INS" if who is not None and who.oid in INS_ROOTS else who.type if who is not None else ""
    return Party(
        person=Person(who.id, who.family, who.given, who.oid, kind) if who and not is_system else None,
        structure=Structure(where.name, where.id, where.oid, where.type) if where else None,
        device=who.id if who and is_system else "",
    )


def _recipient(mailbox: str, known: dict[str, Party], header: Header) -> Party:
    """Who holds a mailbox: the patient, somebody of the document whose mailbox it is, else nobody in particular."""
    if mailbox.rpartition("@")[2].lower() == PATIENT_DOMAIN:
        return Party(_patient(header), mailbox=mailbox)
    return replace(known.get(mailbox.lower(), Party()), mailbox=mailbox)


def _patient(header: Header) -> Person | None:
    name = header.patient.name
    for ii in header.patient.ids:
        if ii.root in INS_ROOTS and ii.extension:
            return Person(ii.extension, _first(name.families), _first(name.givens), ii.root, "INS", "L")
    return None


def _first(parts: list[NamePart]) -> str:
    """The birth name if it is told, else the first."""
    return next((part.text for part in sorted(parts, key=lambda part: part.qualifier != "BR")), "")


def _by_mailbox(header: Header) -> dict[str, Party]:
    """Who holds each mailbox of the document; nobody in particular of several whose mailbox it is."""
    holders: dict[str, list[tuple[str, Party]]] = {}
    for mailbox, name, party in _parties(header):
        holders.setdefault(mailbox, []).append((name, party))
    found = {}
    for mailbox, holding in holders.items():
        names = {name for name, _ in holding if name}
        persons = {party.person.id: party.person for _, party in holding if party.person}
        structures = {party.structure.id: party.structure for _, party in holding if party.structure}
        person = next(iter(persons.values()), None) if len(persons) < 2 and len(names) < 2 else None
        structure = next(iter(structures.values()), None) if len(structures) < 2 else None
        found[mailbox] = Party(person, structure)
    return found


def _parties(header: Header) -> Iterator[tuple[str, str, Party]]:
    """The professionals and structures of a document: mailbox, words of the name, and what a message says of them."""
    acting = [author.assigned for author in header.authors]
    acting += [performer.assigned for event in header.service_events for performer in event.performers]
    acting += [header.legal_authenticator.assigned] if header.legal_authenticator else []
    for assigned in acting:
        yield from _mailboxes(assigned.telecoms, assigned.ids, assigned.person, assigned.organization)
    named_parties: list[Participant | Recipient] = [*header.participants, *header.recipients]
    for named in named_parties:
        yield from _mailboxes(named.telecoms, named.ids, named.name, named.organization)


def _mailboxes(
    telecoms: list[Telecom], ids: list[II], name: PersonName | None, organization: Organization | None
) -> Iterator[tuple[str, str, Party]]:
    number = _id(ids, PS_IDNAT)
    words = " ".join([part.text for part in (*name.families, *name.givens)] or [name.text or ""]) if name else ""
    person = None
    if number and name:
        kind = "EI" if "/" in number else "IDNPS"  # an internal id stands behind that of its structure
        person = Person(number, _first(name.families), _first(name.givens), PS_IDNAT, kind)
    structure = None
    if organization and (structure_number := _id(organization.ids, STRUCT_IDNAT)):
        structure = Structure(organization.name or "", structure_number, STRUCT_IDNAT, "IDNST")
    for telecom in telecoms:
        scheme, _, mailbox = (telecom.value or "").partition(":")
        if scheme == "mailto":
            yield mailbox.lower(), " ".join(words.casefold().split()), Party(person, structure)


def _id(ids: list[II], root: str) -> str:
    return next((ii.extension for ii in ids if ii.root == root and ii.extension), "")


# --- answer -------------------------------------------------------------------------------------------------------


def _answers(data: bytes, awaited: str) -> bool:
    """Whether `data` is the ACK of the message `awaited`."""
    try:
        return read_acknowledgement(data).acknowledges == awaited
    except RelaisError:
        return False


def _refusals(acknowledgement: Answer) -> list[Issue]:
    told = [
        Issue("error", "processing", quoted(f"the platform answers {acknowledgement.code}: {error}"), rule="HL7 v2 ERR")
        for error in acknowledgement.errors
    ]
    return told or [_issue("processing", f"the platform answers {acknowledgement.code} without a reason", "HL7 v2 MSA")]


def _transport_failure(error: OSError) -> DeliveryError:
    """What may be tried again: an answer that did not come, a platform out of reach; not a certificate refused."""
    if isinstance(error, UnansweredError):
        message = f"{error}: the platform may have the message, the same one will be sent again"
        return DeliveryError(_issue("timeout", message, "HL7 v2 ACK"), retry=True)
    if isinstance(error, ssl.SSLError) and (final := failure(error, "hl7v2", "the platform")):
        return final
    if isinstance(error, TimeoutError):
        return UnsentError(_issue("timeout", "the platform cannot be reached in time: nothing was sent"))
    why = f" ({error.strerror})" if error.strerror else ""
    return UnsentError(_issue("transient", f"the platform cannot be reached{why}: nothing was sent"))


def _issue(code: str, message: str, rule: str = "", path: str = "") -> Issue:
    return Issue("error", code, message, path, rule)
