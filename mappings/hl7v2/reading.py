"""An HL7 v2 message of the volets, read: its order, its document, and every finding; refused or taken as a whole.

CI-SIS volets "Transmission de documents CDA-R2 en HL7v2" 2.1 and "Transmission au LPS" 1.1. Three steps, each only
after the one before passed: can this receiver read such a message (MSH), is it built as it should, is it right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relais.cda.model import Document
from relais.mappings.hl7v2 import er7, grammar, tables
from relais.mappings.hl7v2.context import Context, Policy
from relais.mappings.hl7v2.document import check_document, read_action, read_cda, read_document
from relais.mappings.hl7v2.er7 import Message, Segment
from relais.mappings.hl7v2.findings import Findings, MessageError, answer_code
from relais.mappings.hl7v2.legality import check_legality
from relais.mappings.hl7v2.metadata import Metadata, read_metadata
from relais.mappings.hl7v2.order import Action, Encounter, Endpoint, MessageType, TransmissionOrder
from relais.mappings.hl7v2.parties import Parties, read_parties
from relais.mappings.hl7v2.patient import PatientId, read_patient

__all__ = ["Examined", "Policy", "Received", "examine", "read"]

TO_PLATFORM = ("2.1", "CISIS_CDA_HL7_V2")
TO_LPS = ("1.1", "CISIS_CDA_HL7_LPS")
"""MSH-21 of a message to a platform, and to an LPS."""

_TYPES: dict[str, tuple[MessageType, str, str, int]] = {
    "MDM": ("MDM", "MDM_T02", "2.6", 199),
    "ORU": ("ORU", "ORU_R01", "2.5", 20),
}
"""MSH-9.1: structure (MSH-9.3), version (MSH-12), length of MSH-10."""

_PATIENT_CLASSES = frozenset("BCEINOPRU")  # table 0004
_WITH_VENUE = frozenset("EIOR")
_HEADER = "hl7v2.header"


@dataclass(frozen=True, slots=True)
class Received:
    """A message without error: `document` is the exact bytes, `cda` the same read, `patient_ids` PID-3."""

    order: TransmissionOrder
    document: bytes
    cda: Document
    patient_ids: tuple[PatientId, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """What reading a message gave: `received` unless a finding is an error; `header` unless there is no MSH."""

    header: Segment | None = None
    received: Received | None = None
    findings: Findings = field(default_factory=Findings)

    @property
    def acknowledgement(self) -> str:
        """MSA-1 of the answer."""
        return answer_code(self.findings.errors)


def read(data: bytes, policy: Policy) -> Received:
    """The message, or MessageError with everything that makes it refused."""
    examined = examine(data, policy)
    if examined.received is None:
        raise MessageError(examined.findings.errors)
    return examined.received


def examine(data: bytes, policy: Policy) -> Examined:
    """Read a message and say everything about it; raises nothing."""
    try:
        message = er7.parse(data)
    except MessageError as error:
        return Examined(er7.header_of(data), None, Findings(error.findings))
    context = _recognise(message, policy)
    structure = _TYPES[context.type][1]
    if context.findings.errors or not grammar.check(message, structure, context.findings):
        return Examined(message.header, None, context.findings)
    return Examined(message.header, _read(context), context.findings)


# --- MSH ----------------------------------------------------------------------------------------------------------


def _recognise(message: Message, policy: Policy) -> Context:
    """Whether this receiver reads such a message, and MSH itself."""
    msh = message.header
    context = Context(message, policy, "MDM", to_lps=False)
    kind = _TYPES.get(msh.text(9))
    if kind is None:
        context.findings.error("200", msh.place(9, component=1), "MDM or ORU is expected", _HEADER)
        return context
    context.type, structure, version, longest = kind
    events = [row["trigger"] for row in tables.rows("actions")] if context.type == "MDM" else ["R01"]
    expected = {
        (9, 2): ("201", events),
        (9, 3): ("103", [structure]),
        (11, 1): ("202", sorted(policy.processing)),
        (12, 1): ("203", [version]),
        (17, 1): ("103", ["FRA"]),
    }
    for (number, component), (code, values) in expected.items():
        if context.text(msh, number, component) not in values:
            message_text = f"{' or '.join(values)} is expected"
            context.findings.error(code, msh.place(number, component=component), message_text, _HEADER)
    if len(msh.field(9).split("^")) > 3:
        context.findings.error("102", msh.place(9), "three components are expected", _HEADER)
    for number in (3, 4, 5, 6, 7, 10):
        context.required(msh, number)
    if len(msh.text(10)) > longest:
        message_text = f"longer than {longest} characters"
        context.findings.error("102", msh.place(10), message_text, _HEADER)
    context.time(msh, 7)
    _check_guide(context)
    return context


def _check_guide(context: Context) -> None:
    """MSH-21 names the volet and its version."""
    msh = context.message.header
    guide = (context.text(msh, 21), context.text(msh, 21, 2))
    context.to_lps = guide == TO_LPS
    if guide != TO_PLATFORM and not (context.to_lps and context.type == "MDM"):
        message = f"{'^'.join(TO_PLATFORM)}, or {'^'.join(TO_LPS)} for an MDM, is expected"
        context.findings.error("203", msh.place(21), message, _HEADER)


# --- content ------------------------------------------------------------------------------------------------------


def _read(context: Context) -> Received | None:
    action = read_action(context)
    document = read_document(context)
    cda = read_cda(context, document) if document is not None else None
    header = cda.header if cda else None
    ids = read_patient(context, header.patient if header else None)
    check_document(context, action, header)
    encounter = _encounter(context)
    metadata, parties = read_metadata(context), read_parties(context)
    check_legality(context, action, metadata, parties, ids, header)
    order = _order(context, action or "initial", encounter, metadata, parties)
    if context.findings.errors or document is None or cda is None:
        return None
    return Received(order, document, cda, ids)


def _encounter(context: Context) -> Encounter:
    pv1 = context.message.first("PV1")
    if not pv1.fields:  # an ORU may lack it
        return Encounter()
    kind, number = context.text(pv1, 2), context.text(pv1, 19)
    if context.to_lps:
        context.fixed(pv1, 2, "N")
    elif kind not in _PATIENT_CLASSES:
        context.findings.error("103", pv1.place(2), "not a code of table 0004", "hl7v2.encounter")
    if kind in _WITH_VENUE and not number:
        context.findings.error("101", pv1.place(19), "required with a venue (E, I, O, R)", "hl7v2.encounter")
    authority, file_authority = context.text(pv1, 19, 4, 2), context.text(context.message.first("PID"), 18, 4, 2)
    if authority and file_authority and authority != file_authority:
        place = context.message.first("PID").place(18, component=4)
        context.findings.warn("102", place, "not the authority of PV1-19", "hl7v2.encounter")
    return Encounter(kind, number, authority, context.time(pv1, 44), context.time(pv1, 45))


def _order(
    context: Context, action: Action, encounter: Encounter, metadata: Metadata, parties: Parties
) -> TransmissionOrder:
    msh, evn = context.message.header, context.message.first("EVN")
    context.time(evn, 2)
    return TransmissionOrder(
        control_id=context.text(msh, 10),
        time=context.text(msh, 7),
        action=action,
        sending=Endpoint(context.text(msh, 3), context.text(msh, 4)),
        receiving=Endpoint(context.text(msh, 5), context.text(msh, 6)),
        flags=metadata.flags,
        message=context.type,
        processing=context.text(msh, 11),
        charset=context.text(msh, 18),
        event_time=context.time(evn, 6),
        identity_status=context.text(context.message.first("PID"), 32),
        encounter=encounter,
        sender=parties.sender,
        recipients=tuple(party for _, party in parties.recipients),
        reply_to=parties.reply_to,
        body_for_professionals=metadata.bodies.get("CORPSMAIL_PS", ""),
        body_for_patient=metadata.bodies.get("CORPSMAIL_PATIENT", ""),
        patient_may_reply=metadata.patient_may_reply,
        mail=metadata.mail,
    )
