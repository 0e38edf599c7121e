"""What the sandbox mailbox demands of an MSSanté message (référentiel socle MSSanté #2, CI-SIS volet Échange).

Everything is recomputed from the attachment, never believed from the sender: the CDA documents are read by XPath here,
not through the document model the sender composed from. A message is taken only when no check finds anything.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

from lxml import etree

from relais.cda import parsing, xdm
from relais.cda.errors import Issue, RelaisError
from relais.mappings import document_metadata

PATIENT_DOMAIN = "patient.mssante.fr"

_HL7 = {"h": "urn:hl7-org:v3"}
_INS = "1.2.250.1.213.1.4.8"
_PATIENT = "/h:ClinicalDocument/h:recordTarget/h:patientRole"
_SINGLE_HEADERS = (
    "From",
    "To",
    "Cc",
    "Date",
    "Message-ID",
    "Subject",
    "MIME-Version",
    "X-MSS-NIL",
    "X-MSS-CODECDA",
    "X-MSS-INS",
    "X-MSS-MES",
    "Disposition-Notification-To",
)
_REQUIRED_HEADERS = ("From", "To", "Date", "Message-ID", "Subject", "MIME-Version", "X-MSS-NIL")
_SUBJECT = re.compile(r"(?P<replaces>\[Annule et remplace\] )?XDM/1\.0/DDM\+(?P<label>.+)")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")


@dataclass(slots=True)
class Mail:
    """A received message, its envelope, and the CDA documents found in its archive (in order)."""

    raw: bytes
    sender: str
    recipients: Sequence[str]
    message: EmailMessage
    documents: list[etree._ElementTree] = field(default_factory=list)

    def header(self, name: str) -> str:
        """The value of a header, empty when absent."""
        return _field(self.message, name)

    def addresses(self, *names: str) -> list[str]:
        """The mailboxes of some headers."""
        return [address for _, address in getaddresses([self.header(name) for name in names if name in self.message])]


def _parse(raw: bytes) -> EmailMessage:
    """The message, its header fields as they stand: `email` would read each as an object whenever one is asked for."""
    read: Callable[..., EmailMessage] = message_from_bytes  # the stubs want policies of EmailMessage's own
    return read(raw, EmailMessage, policy=policy.compat32)


def _field(message: EmailMessage, name: str) -> str:
    """The value of a header field, unfolded and decoded (RFC 2047), empty when absent."""
    value = "".join(str(message.get(name, "")).splitlines())
    return str(policy.default.header_factory(name, value)) if "=?" in value else value.strip()


def check(raw: bytes, sender: str, recipients: Sequence[str]) -> list[Issue]:
    """Everything wrong with a message as received, with its envelope; empty when it may be taken."""
    message = _parse(raw)
    mail = Mail(raw, sender, recipients, message)
    issues = [*_raw_headers(mail), *_envelope(mail), *_structure(mail)]
    if issues:
        return issues
    issues = _open_archive(mail)
    if issues:
        return issues
    return [issue for checks in (one_patient, _cda_headers, _subject, _mailboxes, _readable) for issue in checks(mail)]


def check_report(raw: bytes, recipients: Sequence[str]) -> list[Issue]:
    """Everything wrong with a read receipt (RFC 8098, référentiel MSSanté §MDN); empty when it may be taken."""
    message = _parse(raw)
    mail = Mail(raw, "", recipients, message)
    issues = [issue for issue in _raw_headers(mail) if issue.path != "Sender"]
    parts = [part.get_content_type() for part in message.iter_parts()] if message.is_multipart() else []
    if message.get_content_type() != "multipart/report" or parts[1:] != ["message/disposition-notification", _RFC822]:
        return [*issues, _issue("text, notification and original are expected", "body", "RFC 8098")]
    fields = _first_message(list(message.iter_parts())[1])
    original = _first_message(list(message.iter_parts())[2])
    if mail.addresses("To") != [_field(original, "Disposition-Notification-To")]:
        issues.append(_issue("not to who asked for it", "To", "RFC 8098"))
    if _field(fields, "Original-Message-ID") != _field(original, "Message-ID"):
        issues.append(_issue("not about the message that is returned", "Original-Message-ID", "RFC 8098"))
    disposition = re.fullmatch(_DISPOSITION, _field(fields, "Disposition"))
    if disposition is None or bool(disposition["error"]) != ("Error" in fields):
        issues.append(_issue("not processed, or an error without its field", "Disposition", "RFC 8098"))
    refused = mail.header("Subject").startswith("[KO Intégration système !][")
    if disposition is not None and bool(disposition["error"]) != refused:
        issues.append(_issue("the subject tells errors, and only errors", "Subject", "CI-SIS"))
    mailboxes = ("Original-Recipient", "Final-Recipient")
    missing = [name for name in mailboxes if not _field(fields, name).startswith("rfc822;")]
    return [*issues, *(_issue("the mailbox that answers is missing", name, "RFC 8098") for name in missing)]


_RFC822 = "message/rfc822"
_DISPOSITION = r"automatic-action/MDN-sent-automatically; processed(?P<error>/error)?"


def _first_message(part: Any) -> EmailMessage:
    found: EmailMessage = part.get_payload()[0]
    return found


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


# --- headers and envelope -------------------------------------------------------------------------------------------


def _raw_headers(mail: Mail) -> Iterator[Issue]:
    block = re.split(rb"\r?\n\r?\n", mail.raw, maxsplit=1)[0]
    if not block.isascii():
        yield _issue("headers must be ASCII (RFC 2047)", "header", "RFC 5322")
    if any(len(line.rstrip(b"\r")) > 998 for line in block.split(b"\n")):
        yield _issue("a header line has more than 998 characters", "header", "RFC 5322")
    counts = Counter(name.lower() for name in mail.message)
    for name in _SINGLE_HEADERS:
        if counts[name.lower()] > 1:
            yield _issue("the header stands more than once", name, "RFC 5322")
    for name in _REQUIRED_HEADERS:
        if not mail.header(name).strip():
            yield _issue("the header is missing or empty", name, "ECO.2.4.3" if name == "X-MSS-NIL" else "RFC 5322")
    if counts["sender"]:
        yield _issue("the header is not used", "Sender", "CI-SIS")


def _envelope(mail: Mail) -> Iterator[Issue]:
    if mail.addresses("From") != [mail.sender]:
        yield _issue("From differs from the envelope", "From", "ECO.2.2.7")
    if sorted(mail.addresses("To", "Cc")) != sorted(mail.recipients):
        yield _issue("To and Cc differ from the envelope", "To", "CI-SIS")
    if not _MESSAGE_ID.fullmatch(mail.header("Message-ID").strip()):
        yield _issue("not a message identifier", "Message-ID", "ECO.2.2.1")
    notify = mail.addresses("Disposition-Notification-To")
    if notify and notify != [mail.sender]:
        yield _issue("receipts go to another mailbox than the sender's", "Disposition-Notification-To", "ECO.2.3.2")
    if "Date" in mail.message and not _is_aware(mail.header("Date")):
        yield _issue("not a date with an offset", "Date", "RFC 5322")


def _is_aware(date: str) -> bool:
    try:
        return parsedate_to_datetime(date).tzinfo is not None
    except ValueError:
        return False


# --- attachment -----------------------------------------------------------------------------------------------------


def _structure(mail: Mail) -> Iterator[Issue]:
    if mail.message.defects:
        yield _issue(f"MIME malformed: {type(mail.message.defects[0]).__name__}", "body", "MIME")
    if mail.message.get_content_type() != "multipart/mixed":
        yield _issue("the message must be multipart/mixed", "Content-Type", "ECO.2.2.3")
        return
    parts = list(mail.message.iter_parts())
    body = parts[0] if parts else None
    if body is None or body.get_content_type() not in ("text/plain", "multipart/alternative"):
        yield _issue("the first part must be the text", "body", "ECO.2.2.4")
    elif body.get_content_type() == "text/plain" and body.get_content_charset() != "utf-8":
        yield _issue("the text must be UTF-8", "body", "ECO.2.2.3")
    if len(_archives(mail)) != 1:
        yield _issue("exactly one application/zip named IHE_XDM.ZIP is needed", "attachment", "CI-SIS")


def _readable(mail: Mail) -> Iterator[Issue]:
    """One PDF for each document, named after it; that of an unstructured document is the one it holds."""
    pdfs = [part for part in mail.message.iter_attachments() if part.get_content_type() == "application/pdf"]
    if len(pdfs) != len(mail.documents):
        yield _issue(f"{len(mail.documents)} PDF are expected, {len(pdfs)} attached", "attachment", "ECO.2.1.5")
        return
    for part, document in zip(pdfs, mail.documents, strict=True):
        content = _content(part)
        held = document.findtext("h:component/h:nonXMLBody/h:text[@mediaType='application/pdf']", None, _HL7)
        if held is None and not content.startswith(b"%PDF-1.4"):
            yield _issue("not a PDF/A-1", "attachment", "ECO.2.1.5")
        if held is not None and base64.b64decode(held) != content:
            yield _issue("not the PDF that the document holds", "attachment", "ECO.2.1.5")
        if not re.fullmatch(r"\d{4,8}_[A-Za-z0-9-]{1,40}_[A-Z0-9-]+_[A-Za-z0-9-]+\.pdf", part.get_filename() or ""):
            yield _issue("not <date>_<type>_<NOM>_<prénom>.pdf", "attachment", "ECO.2.1.6")


def _archives(mail: Mail) -> list[bytes]:
    return [
        _content(part)
        for part in mail.message.iter_attachments()
        if (part.get_filename() or "").upper() == "IHE_XDM.ZIP" and part.get_content_type() == "application/zip"
    ]


def _open_archive(mail: Mail) -> list[Issue]:
    """Unpack, check metadata against documents; the documents are then parsed into `mail`."""
    try:
        archive = xdm.unpack(_archives(mail)[0])
        issues = document_metadata.check_archive(archive)
        mail.documents = [parsing.parse(document.data) for document in archive.documents]
    except RelaisError as error:
        return list(error.issues)
    return [issue for issue in issues if issue.severity in ("fatal", "error")]


# --- what the attachment says of the message ------------------------------------------------------------------------


def one_patient(mail: Mail) -> Iterator[Issue]:
    """Every document must bear the same patient identifiers."""
    patients = {frozenset(_patient_ids(document)) for document in mail.documents}
    if len(patients) != 1:
        yield _issue("the documents must all concern one patient", "attachment", "ECO.2.1.1")


def _cda_headers(mail: Mail) -> Iterator[Issue]:
    codes = ",".join(_value(document, "/h:ClinicalDocument/h:code/@code") for document in mail.documents)
    if "".join(mail.header("X-MSS-CODECDA").split()) != codes:
        yield _issue("differs from the codes of the documents", "X-MSS-CODECDA", "ECO.2.4.1")
    qualified = "O" if all(map(_has_qualified_ins, mail.documents)) else "N"
    if mail.header("X-MSS-INS") != qualified:
        yield _issue(f"must be {qualified} for these documents", "X-MSS-INS", "ECO.2.4.2")


def _subject(mail: Mail) -> Iterator[Issue]:
    match = _SUBJECT.fullmatch(mail.header("Subject"))
    if match is None:
        yield _issue("not an XDM subject", "Subject", "ECO.2.1.3")
        return
    first = mail.documents[0]
    replacement = "h:relatedDocument[@typeCode='RPLC']"
    replaces = any(document.getroot().find(replacement, _HL7) is not None for document in mail.documents)
    if replaces != bool(match["replaces"]):
        yield _issue("[Annule et remplace] must stand for a replacement, and only then", "Subject", "ECO.2.1.3")
    label = _value(first, "/h:ClinicalDocument/h:code/@displayName")
    what = _plain(label)[:40].strip() if len(mail.documents) == 1 else f"{len(mail.documents)} documents"
    who = f"{_plain(_birth_name(first, 'family')).upper()} {_plain(_birth_name(first, 'given'))}"
    birth = _value(first, f"{_PATIENT}/h:patient/h:birthTime/@value")[:8]
    dated = f"{what} {who} {birth[6:8]}/{birth[4:6]}/{birth[:4]}"
    if match["label"] not in (f"{what} {who}", dated):
        yield _issue("label, name or birth date differ from the document, or are not plain", "Subject", "ECO.2.1.3")


def _mailboxes(mail: Mail) -> Iterator[Issue]:
    to_patient = [address for address in mail.recipients if address.lower().endswith(f"@{PATIENT_DOMAIN}")]
    if mail.header("X-MSS-MES") not in ("", "FIN") or (mail.header("X-MSS-MES") and not to_patient):
        yield _issue("only FIN, and only to a patient", "X-MSS-MES", "ECO.2.2.8")
    if to_patient and len(mail.recipients) > 1:
        yield _issue("a message to a patient goes to this patient only", "To", "CI-SIS")
    known = {extension for document in mail.documents for _, extension in _patient_ids(document)}
    if any(address.partition("@")[0] not in known for address in to_patient):
        yield _issue("the mailbox belongs to another patient than the documents", "To", "ECO.2.2.6")


# --- reading CDA ----------------------------------------------------------------------------------------------------


def _value(document: etree._ElementTree, path: str) -> str:
    found = document.xpath(f"string({path})", namespaces=_HL7)
    return " ".join(str(found).split())


def _patient_ids(document: etree._ElementTree) -> list[tuple[str, str]]:
    found = document.getroot().iterfind("h:recordTarget/h:patientRole/h:id", _HL7)
    return [(element.get("root", ""), element.get("extension", "")) for element in found]


def _birth_name(document: etree._ElementTree, part: str) -> str:
    path = f"{_PATIENT}/h:patient/h:name/h:{part}"
    return _value(document, f"{path}[@qualifier='BR']") or _value(document, path)


def _has_qualified_ins(document: etree._ElementTree) -> bool:
    """Matricule with a right key under the OID of the INS, and the four traits that go with it."""
    patient = f"{_PATIENT}/h:patient"
    traits = (
        f"{patient}/h:name/h:family[@qualifier='BR']",
        f"{patient}/h:name/h:given[@qualifier='BR']",
        f"{patient}/h:birthTime/@value",
        f"{patient}/h:administrativeGenderCode/@code",
    )
    matricules = [extension for root, extension in _patient_ids(document) if root == _INS]
    return any(map(_right_key, matricules)) and all(_value(document, path) for path in traits)


def _right_key(matricule: str) -> bool:
    if not re.fullmatch(r"\d{5}(?:\d\d|2[AB])\d{8}", matricule):
        return False
    number = int(matricule[:13].replace("2A", "19").replace("2B", "18"))
    return 97 - number % 97 == int(matricule[13:])


def _plain(text: str) -> str:
    """Without accents and ligatures."""
    text = text.translate({0x152: "OE", 0x153: "oe", 0xC6: "AE", 0xE6: "ae", 0x2019: "'"})
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


def _issue(message: str, path: str, rule: str) -> Issue:
    return Issue("error", "invalid", message, path, rule)
