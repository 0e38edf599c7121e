"""Reports about mails: delivery reports (DSN, RFC 3464), disposition notifications (MDN, RFC 8098), refusals (« KO »).

Référentiel socle MSSanté #2 and CI-SIS volet "Transmission au LPS" 1.1: what is read is whatever is in circulation, the
two published forms of an error among it; what is written is the form of RFC 8098. Correlation is by envelope id, then
by the Message-ID of the mail reported about; a report that names none tells nothing, and nothing is guessed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage, Message
from email.policy import SMTP
from email.utils import getaddresses
from typing import Any, Literal

from relais.server.delivery.channel import Acknowledgement, quoted

Outcome = Literal["positive", "negative", "waiting"]

_ONE_LINE_HEADERS = SMTP.clone(max_line_length=998)
_NOTIFICATIONS = uuid.UUID("1b6bd57e-54c0-5ad2-8a0e-27b5d5d0a4a1")
_DELIVERED = frozenset({"delivered", "relayed"})
_KO = re.compile(r"\[(?:KO Int[ée]gration syst[èe]me|Erreur d'int[ée]gration) ?!\]\s*\[(?P<code>\d+)\]", re.IGNORECASE)
_XDM = re.compile(r"(?:\[[^\]]*\]|(?:re|tr|fwd?) ?:|\s)*XDM/1\.0/DDM", re.IGNORECASE)
_DISPOSITION = re.compile(
    r"[^;]*;\s*(?P<type>[a-z-]+)\s*(?:/\s*(?P<modifier>[a-z-]+)\s*(?::(?P<text>.*))?)?", re.I | re.S
)
_ENVELOPE_ID = re.compile(r"[!-;=?A-~]+@[!-;=?A-~]+")
_STUMBLES = (ValueError, IndexError, AttributeError)  # of the standard library over odd headers
_HEXADECIMAL = re.compile(r"\+([0-9A-F]{2})")
_LABELS = {
    "902": "Identifiant de patient inconnu",
    "903": "Document sans INS",
    "904": "INS ou traits différents de ceux du dossier",
    "906": "Autre",
}
_DONE = """\
Bonjour,

Votre message « {subject} » a été intégré automatiquement par le logiciel {software}.
"""
_REFUSED = """\
Bonjour,

Votre message « {subject} » n'a pas pu être intégré par le logiciel {software}.

Code : {code}
Motif : {label}
{reasons}
Le message d'origine est joint.
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a mailbox says of a message; `recipient` is empty when the report does not name it."""

    message_id: str  # with angle brackets
    recipient: str
    kind: Acknowledgement
    outcome: Outcome
    detail: str


def parse(content: bytes) -> EmailMessage:
    """A mail as received; malformed ones are read as far as they can be."""
    return message_from_bytes(content, policy=policy.default)


def is_automatic(message: EmailMessage) -> bool:
    """Whether software wrote a mail by itself, a report among them: nothing may be answered to it."""
    if message.get_content_type() == "multipart/report":
        return True
    return _text(message, "Auto-Submitted").lower() == "auto-replied" or _KO.match(_subject(message)) is not None


def senders(message: EmailMessage) -> list[str]:
    """The addresses of From; more than one, or none, where a mail is not what it should be."""
    return [address for _, address in getaddresses(_texts(message, "From"))]


def is_xdm(message: EmailMessage) -> bool:
    """Whether a mail says that it brings an XDM archive."""
    return _XDM.match(_subject(message)) is not None


def read_reports(message: EmailMessage) -> list[Report]:
    """What a mail reports; nothing when it is no report, or does not say of which message."""
    found: list[Report] = []
    for part in message.walk():
        if part.get_content_type() == "message/delivery-status":
            found += _delivery(message, part)
        elif part.get_content_type() == "message/disposition-notification":
            found += _disposition(part)
    if not found and (refusal := _KO.match(_subject(message))):
        label = f"refused by the receiving software: {refusal['code']} {_LABELS.get(refusal['code'], '')}".strip()
        found = [Report(_original_id(message), _sender(message), "reading", "negative", label)]
    return [report for report in found if report.message_id]


# --- DSN ------------------------------------------------------------------------------------------------------------


def _delivery(message: EmailMessage, part: Message) -> Iterator[Report]:
    blocks = [block for block in _payload(part) if block.keys()]
    if not blocks:
        return
    envelope_id = _from_xtext(_text(blocks[0], "Original-Envelope-Id"))
    name = f"<{envelope_id}>" if _ENVELOPE_ID.fullmatch(envelope_id) else _original_id(message)
    for block in blocks:
        action = _text(block, "Action").lower()
        if not action:
            continue
        recipient = _mailbox(_text(block, "Original-Recipient") or _text(block, "Final-Recipient"))
        said = " ".join(filter(None, (_text(block, "Status"), _text(block, "Diagnostic-Code"))))
        detail = quoted(f"{action}: {said}" if said else action)
        yield Report(name, recipient, "reception", _outcome(action), detail)


def _outcome(action: str) -> Outcome:
    if action in _DELIVERED:
        return "positive"
    return "negative" if action == "failed" else "waiting"


def _original_id(message: EmailMessage) -> str:
    """The Message-ID of the mail that is returned, whole or by its headers; else of the one answered to."""
    for part in message.walk():
        returned: Any = None
        if part.get_content_type() == "message/rfc822":
            returned = next(iter(_payload(part)), None)
        elif part.get_content_type() == "text/rfc822-headers":
            returned = message_from_bytes(_decoded(part), policy=policy.default)
        if returned is not None and (found := _text(returned, "Message-ID")):
            return found
    return _text(message, "In-Reply-To").partition(" ")[0]


# --- MDN ------------------------------------------------------------------------------------------------------------


def _disposition(part: Message) -> Iterator[Report]:
    for fields in _payload(part):
        found = _DISPOSITION.fullmatch(_text(fields, "Disposition"))
        if found is None:
            continue
        recipient = _mailbox(_text(fields, "Original-Recipient") or _text(fields, "Final-Recipient"))
        error = " ".join(filter(None, ((found["text"] or "").strip(), _text(fields, "Error"))))
        kind = found["type"].lower()
        refused = (
            bool(error) or (found["modifier"] or "").lower() in ("error", "failed") or kind in ("failed", "denied")
        )
        detail = quoted(f"{kind}, error: {error}" if refused else kind)
        outcome: Outcome = "negative" if refused else "positive" if kind in ("displayed", "processed") else "waiting"
        yield Report(_text(fields, "Original-Message-ID"), recipient, "reading", outcome, detail)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a mail was not integrated: a code of the volet (900 to 906) and reasons that name nobody."""

    code: str
    reasons: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What the code means."""
        return _LABELS.get(self.code, _LABELS["906"])


@dataclass(frozen=True, slots=True)
class Reader:
    """Who answers: the mailbox that was read, the software and its product reference (X-MSS-NIL)."""

    mailbox: str
    software: str
    product_reference: str


def answer_to(message: EmailMessage) -> str:
    """The mailbox that may be answered by software; empty when none is.

    RFC 8098 §2.1: the one address of Disposition-Notification-To, if it is that of Return-Path; never for a report.
    """
    asked = [address for _, address in getaddresses(_texts(message, "Disposition-Notification-To"))]
    returned = [address for _, address in getaddresses(_texts(message, "Return-Path")[:1])]
    if is_automatic(message) or len(asked) != 1 or not asked[0]:
        return ""
    return asked[0] if [address.lower() for address in returned] == [asked[0].lower()] else ""


def notification(content: bytes, reader: Reader, now: datetime, refusal: Refusal | None = None) -> EmailMessage:
    """The MDN « processed » of a mail, or the one that says why it was refused; the same Message-ID each time."""
    original = parse(content)
    subject, software = _subject(original), reader.software
    answer = EmailMessage(policy=_ONE_LINE_HEADERS)
    answer["From"] = Address(addr_spec=reader.mailbox)
    answer["To"] = Address(addr_spec=answer_to(original))
    answer["Subject"] = f"[KO Intégration système !][{refusal.code}] {subject}" if refusal else subject
    answer["Date"] = now
    answer["Message-ID"] = _own_id(original, reader.mailbox)
    if name := _text(original, "Message-ID"):
        answer["In-Reply-To"] = answer["References"] = name
    answer["Auto-Submitted"] = "auto-replied"
    answer["X-MSS-NIL"] = reader.product_reference
    answer.add_header("Content-Type", "multipart/report", **{"report-type": "disposition-notification"})
    answer.attach(_words(subject, software, refusal))
    answer.attach(_fields(original, reader, refusal))
    answer.attach(_returned(original))
    answer.set_boundary(f"=_relais_{uuid.uuid5(_NOTIFICATIONS, str(answer['Message-ID'])).hex}")
    answer["MIME-Version"] = "1.0"
    return answer


def _words(subject: str, software: str, refusal: Refusal | None) -> EmailMessage:
    part = EmailMessage(policy=SMTP)
    if refusal is None:
        text = _DONE.format(subject=subject, software=software)
    else:
        reasons = "".join(f"- {reason}\n" for reason in refusal.reasons)
        text = _REFUSED.format(
            subject=subject, software=software, code=refusal.code, label=refusal.label, reasons=reasons
        )
    part.set_content(text, cte="quoted-printable")
    del part["MIME-Version"]
    return part


def _fields(original: EmailMessage, reader: Reader, refusal: Refusal | None) -> EmailMessage:
    fields = EmailMessage(policy=_ONE_LINE_HEADERS)
    fields["Reporting-UA"] = f"{reader.mailbox.rpartition('@')[2]}; {reader.software}"
    fields["Original-Recipient"] = _text(original, "Original-Recipient") or f"rfc822;{reader.mailbox}"
    fields["Final-Recipient"] = f"rfc822;{reader.mailbox}"
    if name := _text(original, "Message-ID"):
        fields["Original-Message-ID"] = name
    processed = "automatic-action/MDN-sent-automatically; processed"
    fields["Disposition"] = f"{processed}/error" if refusal else processed
    if refusal:
        fields["Error"] = f"{refusal.code}^{refusal.label}^applicationErrorCondition|E^Error^errorSeverity"
    part = EmailMessage(policy=SMTP)
    part["Content-Type"] = "message/disposition-notification"
    part.set_payload([fields])
    return part


def _returned(original: EmailMessage) -> EmailMessage:
    part = EmailMessage(policy=SMTP)
    part["Content-Type"] = "message/rfc822"
    part.set_payload([original])
    return part


def _own_id(original: EmailMessage, mailbox: str) -> str:
    name = f"{mailbox.lower()}\n{_text(original, 'Message-ID')}"
    return f"<{uuid.uuid5(_NOTIFICATIONS, name)}@{mailbox.rpartition('@')[2]}>"


# --- headers --------------------------------------------------------------------------------------------------------


def _payload(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [one for one in payload if isinstance(one, Message)] if isinstance(payload, list) else []


def _decoded(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text(fields: Message, name: str) -> str:
    """The value of a header on one line; empty when absent or unreadable."""
    try:
        value = fields.get(name)
    except _STUMBLES:
        return ""
    return " ".join(str(value).split()) if value is not None else ""


def _texts(fields: Message, name: str) -> list[str]:
    """The values of every header of that name; none where one of them is unreadable."""
    try:
        return [" ".join(str(value).split()) for value in fields.get_all(name, [])]
    except _STUMBLES:
        return []


def _subject(message: EmailMessage) -> str:
    return _text(message, "Subject")


def _sender(message: EmailMessage) -> str:
    return next((address for _, address in getaddresses([_text(message, "From")])), "")


def _mailbox(field: str) -> str:
    """The address of `rfc822;address`, which DSN writes in xtext."""
    return _from_xtext(field.partition(";")[2].strip() or field).strip("<>").lower()


def _from_xtext(text: str) -> str:
    return _HEXADECIMAL.sub(lambda found: chr(int(found[1], 16)), text)
