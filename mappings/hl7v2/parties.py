"""PRT, pre-adopted from HL7 2.9: who sends, who receives, where answers go.

CI-SIS volet §PRT: under the OBX of the document only, in the order SB, RCT…, REPLY…. Recipients come from here, never
from informationRecipient of the document.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from relais.cda.identifiers import is_ps_idnat, is_struct_idnat
from relais.cda.templates import PS_IDNAT
from relais.mappings.hl7v2.context import Context
from relais.mappings.hl7v2.er7 import Segment
from relais.mappings.hl7v2.order import Party, Person, Structure

ROLES = ("SB", "RCT", "REPLY")
_RULE = "hl7v2.participation"
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@(?P<domain>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
_FINESS = re.compile(r"(?:[0-9]{2}|2[AB])[0-9]{7}")


class Parties(NamedTuple):
    """Who takes part; `recipients` are paired with their segment."""

    sender: Party | None
    recipients: tuple[tuple[Segment, Party], ...]
    reply_to: tuple[str, ...]


def read_parties(context: Context) -> Parties:
    """The participations of a message; adds what is wrong with each and with their order."""
    senders: list[Party] = []
    recipients: list[tuple[Segment, Party]] = []
    replies: list[str] = []
    last = 0
    for segment in _placed(context):
        role = _role(context, segment)
        if role is None:
            continue
        if ROLES.index(role) < last:
            context.findings.error("100", segment.place(4), f"the order is {', '.join(ROLES)}", _RULE)
        last = max(last, ROLES.index(role))
        party = _party(context, segment, with_mailbox=role != "SB" or context.to_lps)
        if role == "SB":
            senders.append(party)
        elif role == "RCT":
            recipients.append((segment, party))
        else:
            replies.append(party.mailbox)
    if len(senders) > 1:
        context.findings.error("198", context.message.first("PRT").place(4), "one sender is expected", _RULE)
    return Parties(senders[0] if senders else None, tuple(recipients), tuple(replies))


def _placed(context: Context) -> list[Segment]:
    """The PRT under the OBX of the document; any other is an error."""
    found, observations = [], 0
    for segment in context.message.segments:
        observations += segment.name == "OBX"
        if segment.name == "PRT" and observations == 1:
            found.append(segment)
        elif segment.name == "PRT":
            context.findings.error("100", segment.place(4), "only under the OBX of the document", _RULE)
    return found


def _role(context: Context, prt: Segment) -> str | None:
    context.fixed(prt, 2, "UC")
    context.fixed(prt, 4, "participation", 3)
    role = context.text(prt, 4)
    if not context.text(prt, 4, 2):
        context.findings.warn("101", prt.place(4, component=2), "the label of the role is missing", _RULE)
    if role not in ROLES:
        context.findings.error("103", prt.place(4), f"the role is none of {', '.join(ROLES)}", _RULE)
        return None
    return role


def _party(context: Context, prt: Segment, *, with_mailbox: bool) -> Party:
    return Party(
        person=_person(context, prt) if prt.field(5) else None,
        structure=_structure(context, prt) if prt.field(8) else None,
        device=context.text(prt, 10),
        mailbox=_mailbox(context, prt, required=with_mailbox),
    )


def _person(context: Context, prt: Segment) -> Person:
    person = Person(
        id=context.required(prt, 5),
        family=context.text(prt, 5, 2),
        given=context.text(prt, 5, 3),
        authority=context.authority(prt, 5, 9),
        id_type=context.text(prt, 5, 13),
        name_type=context.text(prt, 5, 10),
    )
    if person.id and not person.authority:
        context.findings.error("101", prt.place(5, component=9), "the domain of the identifier is required", _RULE)
    if person.authority == PS_IDNAT and person.id_type == "IDNPS" and not is_ps_idnat(person.id):
        context.findings.warn("102", prt.place(5), "has not the shape of a PS_IdNat", _RULE)
    return person


def _structure(context: Context, prt: Segment) -> Structure:
    structure = Structure(
        name=context.text(prt, 8),
        id=context.text(prt, 8, 10),
        authority=context.authority(prt, 8, 6),
        id_type=context.text(prt, 8, 7),
    )
    place = prt.place(8, component=10)
    if structure.id and not structure.id_type:
        context.findings.error("101", prt.place(8, component=7), "the type of the identifier is required", _RULE)
    if structure.id_type in ("FINEG", "FINEJ") and not _FINESS.fullmatch(structure.id):
        context.findings.warn("102", place, "has not the shape of a FINESS (9 characters)", _RULE)
    if structure.id_type == "IDNST" and not is_struct_idnat(structure.id):
        context.findings.warn("102", place, "has not the shape of a Struct_IdNat", _RULE)
    return structure


def _mailbox(context: Context, prt: Segment, *, required: bool) -> str:
    if not prt.field(15):
        if required:
            context.findings.error("101", prt.place(15), "the MSSanté address is required", "hl7v2.mailbox")
        return ""
    context.fixed(prt, 15, "X.400", 3)
    mailbox = context.required(prt, 15, 4)
    match = _MAILBOX.fullmatch(mailbox)
    if mailbox and match is None:
        context.findings.error("102", prt.place(15, component=4), "not a mail address", "hl7v2.mailbox")
    elif match and not _trusted(match["domain"].lower(), context.policy.mailbox_domains):
        context.findings.refuse("906", prt.place(15, component=4), "outside the MSSanté trust space", "hl7v2.mailbox")
    return mailbox


def _trusted(domain: str, domains: tuple[str, ...]) -> bool:
    return domain in domains or any(trusted.startswith(".") and domain.endswith(trusted) for trusted in domains)
