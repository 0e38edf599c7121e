"""What may be ordered: legal combinations of flags, and the parties each destination needs.

CI-SIS volet, closed list of combinations for MSSanté. Its own examples and release notes contradict that list, so a
tolerant receiver refuses only what is unsafe: a document reaching someone it is hidden from, or someone not meant.
"""

from __future__ import annotations

from relais.cda.identifiers import ins_is_valid
from relais.cda.model import Header
from relais.mappings.hl7v2 import tables
from relais.mappings.hl7v2.context import Context
from relais.mappings.hl7v2.er7 import Segment
from relais.mappings.hl7v2.findings import Place
from relais.mappings.hl7v2.metadata import Metadata
from relais.mappings.hl7v2.order import PATIENT_DOMAIN, Action, Flags, Party
from relais.mappings.hl7v2.parties import Parties
from relais.mappings.hl7v2.patient import PatientId

_COMBINATION = "hl7v2.combination"
_RECIPIENTS = "hl7v2.recipients"
_DMP = "hl7v2.dmp"


def is_listed(flags: Flags) -> bool:
    """Whether the volet lists this combination; it lists those that send by MSSanté only."""
    if not (flags.to_professionals or flags.to_patient):
        return True
    return any(_fits(flags, row) for row in tables.rows("matrix"))


def _fits(flags: Flags, row: tables.Row) -> bool:
    columns = (name for name in row if name != "row")
    return all(row[name] in ("*", "Y" if getattr(flags, name) else "N") for name in columns)


def check_legality(
    context: Context,
    action: Action | None,
    metadata: Metadata,
    parties: Parties,
    ids: tuple[PatientId, ...],
    header: Header | None,
) -> None:
    """Add what may not be ordered, or not without this sender and these recipients."""
    if not metadata.places:  # the flags could not be read
        return
    _check_flags(context, action, metadata)
    _check_recipients(context, metadata, parties, ids)
    if parties.sender is None:
        message = "the sender is recommended always"
        context.findings.warn("101", Place("PRT"), message, "hl7v2.sender")
    if metadata.flags.to_dmp:
        _check_dmp(context, metadata, parties, ids, header)


def _check_flags(context: Context, action: Action | None, metadata: Metadata) -> None:
    flags, refuse, warn = metadata.flags, context.findings.refuse, context.findings.warn
    if flags.visibility_change_only and action not in ("replace", None):
        place = metadata.places["visibility_change_only"].place(5)
        refuse("906", place, "a change of visibility is carried by a replacement", _COMBINATION)
    if flags.to_patient and flags.hidden_from_patient:
        place = metadata.places["to_patient"].place(5)
        refuse("906", place, "the document is hidden from the patient it would be sent to", _COMBINATION)
    elif not is_listed(flags):
        place, message = Place("OBX", 2, 5), "not a combination that the volet lists"
        if context.policy.strict:
            refuse("906", place, message, _COMBINATION)
        else:
            warn("207", place, message, _COMBINATION)
    if not (context.to_lps or flags.to_dmp or flags.to_professionals or flags.to_patient):
        place = metadata.places["to_dmp"].place(5)
        warn("207", place, "nothing to do: no destination is asked for", _COMBINATION)


def _check_recipients(context: Context, metadata: Metadata, parties: Parties, ids: tuple[PatientId, ...]) -> None:
    """To a platform, each flag has its recipients and each recipient its flag; a patient is the one of PID-3."""
    for segment, party in parties.recipients:
        if party.is_patient:
            _check_patient(context, segment, party, ids)
    if context.to_lps:
        return
    kinds = (("to_professionals", False, "professional or organisation"), ("to_patient", True, "patient"))
    for flag, is_patient, name in kinds:
        wanted = getattr(metadata.flags, flag)
        found = [segment for segment, party in parties.recipients if party.is_patient == is_patient]
        if wanted and not found:
            message = f"no recipient (RCT) is a {name}"
            context.findings.error("101", metadata.places[flag].place(5), message, _RECIPIENTS)
        for segment in () if wanted else found:
            message = f"a {name} is a recipient, its flag says N"
            context.findings.refuse("906", segment.place(4), message, _RECIPIENTS)


def _check_patient(context: Context, prt: Segment, party: Party, ids: tuple[PatientId, ...]) -> None:
    """The patient's mailbox is that of the matricule of PID-3, and so is the identifier."""
    matricule = next((identifier.value for identifier in ids if identifier.is_ins), None)
    refuse = context.findings.refuse
    if party.person and not ins_is_valid(party.person.id):
        context.findings.error("102", prt.place(5), "not a matricule INS with its key", _RECIPIENTS)
    if party.person and (party.person.id != matricule or not party.person.is_patient):
        refuse("904", prt.place(5), "the patient to send to is not the one of PID-3", _RECIPIENTS)
    if party.mailbox.lower() != f"{matricule}@{PATIENT_DOMAIN}".lower():
        refuse("904", prt.place(15, component=4), "not the mailbox of the patient of PID-3", _RECIPIENTS)


def _check_dmp(
    context: Context, metadata: Metadata, parties: Parties, ids: tuple[PatientId, ...], header: Header | None
) -> None:
    """Feeding the DMP takes an INS, a type and a confidentiality it accepts, and a sender with a structure."""
    place, refuse = metadata.places["to_dmp"].place(5), context.findings.refuse
    if not any(identifier.is_ins for identifier in ids):
        refuse("903", place, "the DMP needs a patient with a qualified INS", _DMP)
    obr = context.message.first("OBR")
    system = tables.TERMINOLOGIES.get(obr.text(4, 3).strip())
    if system and not tables.is_dmp_type(obr.text(4).strip(), system):
        context.findings.error("103", obr.place(4), "not a type of document that the DMP takes (JDV_J66)", _DMP)
    if header is not None and (header.confidentiality is None or header.confidentiality.code != "N"):
        refuse("906", place, "the DMP takes documents of confidentiality N only", _DMP)
    structure = parties.sender.structure if parties.sender else None
    if structure is None or not structure.id:
        place_of_sender = context.message.first("PRT").place(8) if parties.sender else Place("PRT")
        message = "feeding the DMP needs a sender (SB) with the identifier of its structure"
        context.findings.error("101", place_of_sender, message, "hl7v2.sender")
    flags = metadata.flags
    if flags.hidden_from_patient and flags.hidden_from_professionals and not context.policy.may_mask_and_hide:
        message = "the DMP does not take a document hidden from the patient and from professionals together"
        refuse("906", place, message, _DMP)
