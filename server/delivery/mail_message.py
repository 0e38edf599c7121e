"""The mail of a shipment: one document as IHE_XDM.ZIP, a PDF for people beside it, a text for who receives it.

Référentiel socle MSSanté #2 (clients de messageries, requirements ECO.*), CI-SIS volet Échange de documents de santé
(IHE XDM, ITI-32). The same shipment always gives the same bytes, so that a message sent twice is recognised.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email import quoprimime
from email.headerregistry import Address
from email.policy import SMTP
from email.utils import format_datetime
from functools import lru_cache
from itertools import starmap

from relais.cda import reader, xdm
from relais.cda.errors import Issue
from relais.cda.identifiers import ins_is_valid
from relais.cda.model import Header, NamePart, Patient
from relais.cda.pdf import to_pdf
from relais.cda.templates import INS_NIR, INS_ROOTS
from relais.server.delivery import lot_author
from relais.server.delivery.channel import DeliveryError, Shipment, check_integrity, making_the_message
from relais.server.delivery.trust_space import TrustSpace
from relais.server.settings import Settings

PATIENT_DOMAIN = "patient.mssante.fr"
INVISIBLE_TO_PATIENT = "INVISIBLE_PATIENT"
LABEL_LENGTH = 40
PATIENT_MAX_SIZE = 25_000_000
"""Bytes of the largest mail that a patient's mailbox takes (Mon espace santé)."""

# A folded Subject may begin with an empty line, which receivers read as a space before the XDM marker; 998 is the
# longest line of RFC 5322.
_LONGEST_LINE = 998
_ONE_LINE_HEADERS = SMTP.clone(max_line_length=_LONGEST_LINE)
_ENCODED_LINE = 76
"""The longest line of an encoded part (RFC 2045 §6.7, §6.8)."""
_BYTES_OF_LINE = _ENCODED_LINE // 4 * 3
"""Bytes in one line of base64."""
_ENCODED_WORD = 45
"""Bytes that one encoded word holds in base64: `=?utf-8?b?…?=`."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_MAILBOX = re.compile(rf"(?=.{{1,64}}@)(?=.{{1,254}}\Z){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
_UNDECOMPOSED = str.maketrans(
    {"Œ": "OE", "œ": "oe", "Æ": "AE", "æ": "ae", "ß": "ss", "ẞ": "SS", "Þ": "Th", "þ": "th", "’": "'"}
    | dict(zip("ŁłØøĐđÐðĦħı", "LlOoDdDdHhi", strict=True))
)
"""Letters that Unicode does not take apart into a letter and its accent."""

_TO_PROFESSIONALS = """\
Bonjour,

{organization} vous transmet un document de santé structuré : « {title} ».

- IHE_XDM.ZIP : à intégrer avec votre logiciel, qui en lira le contenu.
{readable}
Message émis par le logiciel {software}.
"""
_PDF_FOR_PROFESSIONALS = "- {name} : le même document, pour la lecture.\n"
_TO_PATIENT = """\
Bonjour,

{organization} vous adresse un document qui concerne votre santé : « {title} ».

{readable}Le fichier IHE_XDM.ZIP est destiné aux logiciels des professionnels de santé : vous n'avez pas à l'ouvrir.

{answer}
Ce message ne convient pas aux urgences : en cas d'urgence, appelez le 15 ou le 112.

Message émis par le logiciel {software}.
"""
_PDF_FOR_PATIENT = "Pour le lire, ouvrez le fichier {name}.\n"
_MAY_ANSWER = "Vous pouvez répondre à ce message depuis Mon espace santé."
_MAY_NOT_ANSWER = "Il n'est pas possible de répondre à ce message."


def compose(shipment: Shipment, settings: Settings, trust: TrustSpace | None = None) -> bytes:
    """The message of a shipment as it is submitted, lines ended by CRLF: the same bytes each time.

    Raises DeliveryError (never to be retried): the metadata do not describe the document, the document cannot be read
    or shown as PDF, a mailbox is not one, is outside `trust` or may not receive this document, sender or product
    reference are not set.
    """
    check_integrity(shipment)
    _check_envelope(shipment, settings)
    with making_the_message():
        header = _header(shipment.document)
        qualified = has_qualified_ins(header.patient)
        _check_recipients(shipment, header, trust, qualified=qualified or settings.ins_environment == "test")
        archive = _archive(shipment, settings)
        readable = _readable(shipment.document) if settings.mss_pdf else b""
    to_patient = any(is_of_patient(recipient) for recipient in shipment.recipients)
    name = pdf_name(header) if readable else ""
    body = _text_for_patient(header, name, settings) if to_patient else _text_for_professionals(header, name, settings)
    parts = [_text_part(body), _attachment("application/zip", xdm.ARCHIVE_NAME, _base64(archive))]
    if readable:
        parts.append(_attachment("application/pdf", name, readable))
    delimiter = f"=_relais_{hashlib.sha256(shipment.message_id.encode()).hexdigest()[:32]}"
    fields = {
        **_fields(shipment, settings, header, qualified=qualified, to_patient=to_patient),
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/mixed; boundary="{delimiter}"',
    }
    return _multipart(fields, delimiter.encode(), parts)


def _fields(
    shipment: Shipment, settings: Settings, header: Header, *, qualified: bool, to_patient: bool
) -> dict[str, str]:
    """The header fields that tell of the document and its sender."""
    named = Address(_display_name(settings.organization_name), addr_spec=settings.mss_sender)
    fields = {
        "From": str(named),
        "To": ", ".join(shipment.recipients),
        "Reply-To": settings.mss_reply_to,
        "Subject": subject(header),
        "Date": format_datetime(_utc(shipment.submission.submission_set.submission_time)),
        "Message-ID": shipment.message_id,
        "In-Reply-To": shipment.annuls,
        "References": shipment.annuls,
        "Disposition-Notification-To": settings.mss_sender if "reading" in shipment.acknowledgements else "",
        "X-MSS-NIL": settings.mss_product_reference,
        "X-MSS-CODECDA": header.code.code or "",
        "X-MSS-INS": "O" if qualified else "N",
        "X-MSS-MES": "FIN" if to_patient and not settings.mss_patient_may_answer else "",
    }
    return {name: value for name, value in fields.items() if value or name == "X-MSS-CODECDA"}


# --- MIME -----------------------------------------------------------------------------------------------------------
# Written here: the policies of `email` make every field an object and fold it back, ten times the work.


def _multipart(fields: Mapping[str, str], delimiter: bytes, parts: Sequence[bytes]) -> bytes:
    """A message of several parts (RFC 2046 §5.1.1)."""
    written = [_head(fields)]
    for part in parts:
        written += (b"--", delimiter, b"\r\n", part, b"\r\n")
    return b"".join([*written, b"--", delimiter, b"--\r\n"])


def _text_part(text: str) -> bytes:
    head = {"Content-Type": 'text/plain; charset="utf-8"', "Content-Transfer-Encoding": "quoted-printable"}
    lines = "\n".join(text.splitlines()) + "\n"
    written = quoprimime.body_encode(lines.encode().decode("latin-1"), _ENCODED_LINE)  # one character for each byte
    return _head(head) + written.replace("\n", "\r\n").encode("ascii")


def _attachment(media_type: str, name: str, encoded: bytes) -> bytes:
    head = {
        "Content-Transfer-Encoding": "base64",
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Type": f'{media_type}; name="{name}"',
        "MIME-Version": "1.0",
    }
    return _head(head) + encoded


def _base64(data: bytes) -> bytes:
    lines = (b2a_base64(data[at : at + _BYTES_OF_LINE], newline=False) for at in range(0, len(data), _BYTES_OF_LINE))
    return b"\r\n".join([*lines, b""])


def _head(fields: Mapping[str, str]) -> bytes:
    return b"".join([*starmap(_field, fields.items()), b"\r\n"])


def _field(name: str, value: str) -> bytes:
    """One header field: as it is where it is plain and short, otherwise by the rules of RFC 2047 and RFC 5322."""
    plainly = value.isascii() and value.isprintable() and value == value.strip() and "=?" not in value
    if plainly and len(name) + len(": ") + len(value) <= _LONGEST_LINE:
        return f"{name}: {value}\r\n".encode("ascii")
    return _ONE_LINE_HEADERS.fold_binary(*_ONE_LINE_HEADERS.header_store_parse(name, value))


def _text_for_professionals(header: Header, pdf: str, settings: Settings) -> str:
    return _TO_PROFESSIONALS.format(
        readable=_PDF_FOR_PROFESSIONALS.format(name=pdf) if pdf else "", **_common(header, settings)
    )


def _text_for_patient(header: Header, pdf: str, settings: Settings) -> str:
    return _TO_PATIENT.format(
        readable=_PDF_FOR_PATIENT.format(name=pdf) if pdf else "",
        answer=_MAY_ANSWER if settings.mss_patient_may_answer else _MAY_NOT_ANSWER,
        **_common(header, settings),
    )


def _common(header: Header, settings: Settings) -> dict[str, str]:
    return {
        "organization": " ".join(settings.organization_name.split()) or "L'expéditeur",
        "title": " ".join((header.title or "").split()),
        "software": settings.deployment.software_name,
    }


# One document goes to several mailboxes, each in a message of its own.


@lru_cache(maxsize=4)
def _header(document: bytes) -> Header:
    return reader.read_header(reader.parse(document)).header


@lru_cache(maxsize=4)
def _readable(document: bytes) -> bytes:
    """The PDF of a document, in base64."""
    return _base64(to_pdf(reader.read(document).document))


def pdf_name(header: Header) -> str:
    """`<AAAAMMJJ of the act>_<type>_<NOM>_<prénom>.pdf` in ASCII (ECO.2.1.6)."""
    act = next((event.time for event in header.service_events if event.time), None)
    words = [
        ((act and (act.low or act.value)) or header.effective_time or "")[:8],
        plain(header.code.display or "")[:LABEL_LENGTH],
        plain(_birth_name(header.patient.name.families)).upper(),
        plain(_birth_name(header.patient.name.givens)),
    ]
    return "_".join(filter(None, (re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in words))) + ".pdf"


def subject(header: Header) -> str:
    """`XDM/1.0/DDM+<label> <NOM> <prénom> <JJ/MM/AAAA>` without accents, marked when it replaces (ECO.2.1.3)."""
    patient = header.patient
    birth = (patient.birth_time or "")[:8]
    words = [
        plain(header.code.display or "")[:LABEL_LENGTH].strip(),
        plain(_birth_name(patient.name.families)).upper(),
        plain(_birth_name(patient.name.givens)),
        f"{birth[6:]}/{birth[4:6]}/{birth[:4]}" if len(birth) == 8 else "",
    ]
    replaces = any(related.type_code == "RPLC" for related in header.related_documents)
    return f"{'[Annule et remplace] ' if replaces else ''}XDM/1.0/DDM+{' '.join(word for word in words if word)}"


def has_qualified_ins(patient: Patient) -> bool:
    """Whether X-MSS-INS is `O`: an INS-NIR with a right key and its four traits (ECO.2.4.2).

    An INS of test or demonstration, and an INS-NIA (whose status is not settled), do not count.
    """
    traits = (
        any(part.qualifier == "BR" for part in patient.name.families),
        any(part.qualifier == "BR" for part in patient.name.givens),
        bool(patient.birth_time),
        patient.gender is not None and bool(patient.gender.code),
    )
    return all(traits) and any(ii.root == INS_NIR and ins_is_valid(ii.extension or "") for ii in patient.ids)


def plain(text: str) -> str:
    """`text` on one line without accents and ligatures; hyphen and apostrophe stay."""
    decomposed = unicodedata.normalize("NFKD", " ".join(text.split()).translate(_UNDECOMPOSED))
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _display_name(name: str) -> str:
    """`name` on one line; without accents where the words that have some need more than one encoded word (RFC 2047 §2):
    a header field of ours is one line, and an encoded word has 75 characters at most."""
    words = name.split()
    accented = [index for index, word in enumerate(words) if not word.isascii()]
    encoded = " ".join(words[accented[0] : accented[-1] + 1]).encode() if accented else b""
    return " ".join(words) if len(encoded) <= _ENCODED_WORD else plain(name)


def _birth_name(parts: Sequence[NamePart]) -> str:
    ordered = sorted(parts, key=lambda part: part.qualifier != "BR")
    return ordered[0].text if ordered else ""


def _archive(shipment: Shipment, settings: Settings) -> bytes:
    sender = lot_author.named_in_archives(shipment.submission.submission_set.author, settings)
    return xdm.pack(
        [(shipment.document, shipment.submission.entries[0])], shipment.submission.submission_set, sender=sender
    )


def _utc(dtm: str) -> datetime:
    return datetime.strptime(dtm, "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _check_envelope(shipment: Shipment, settings: Settings) -> None:
    if not settings.mss_product_reference:
        raise _failure("required", "every MSSanté message names its product", "mss_product_reference", rule="ECO.2.4.3")
    if not _is_mailbox(settings.mss_sender):
        raise _failure("required", "the mailbox that sends is not set, or not an address", "mss_sender")
    if settings.mss_reply_to and not _is_mailbox(settings.mss_reply_to):
        raise _failure("invalid", "not a mail address", "mss_reply_to")
    for name, identifier in (("message_id", shipment.message_id), ("annuls", shipment.annuls)):
        if not _MESSAGE_ID.fullmatch(identifier) and (identifier or name == "message_id"):
            raise _failure("invalid", "not a message identifier", name, rule="RFC 5322")
    if not re.fullmatch(r"\d{14}", shipment.submission.submission_set.submission_time):
        raise _failure("invalid", "not a time in UTC to the second", "submission.submission_set.submission_time")


def _check_recipients(shipment: Shipment, header: Header, trust: TrustSpace | None, *, qualified: bool) -> None:
    """What `check_recipients` says; and a patient's mailbox receives nothing that is hidden from the patient."""
    issues = check_recipients(header, shipment.recipients, trust)
    to_patient = any(is_of_patient(recipient) for recipient in shipment.recipients)
    if to_patient and not qualified and not issues:
        issues.append(_issue("business-rule", "the INS of the document is not qualified", "recipients", "ECO.2.2.6"))
    if to_patient and any(code.code == INVISIBLE_TO_PATIENT for code in shipment.submission.entries[0].confidentiality):
        issues.append(_issue("business-rule", "the document is not visible to the patient", "recipients", "MSSanté"))
    if issues:
        raise DeliveryError(issues, retry=False)


def check_recipients(header: Header, recipients: Sequence[str], trust: TrustSpace | None = None) -> list[Issue]:
    """Why a document with that header may not be sent to those mailboxes; nothing when it may.

    Each is one plain address of the trust space, named once. A patient's mailbox is that of the INS of the document,
    and receives alone.
    """
    trust = trust or TrustSpace()
    if not recipients:
        return [_issue("required", "no recipient", "recipients")]
    seen: set[str] = set()
    issues = []
    for index, recipient in enumerate(recipients):
        path = f"recipients[{index}]"
        if recipient.lower() in seen:
            issues.append(_issue("duplicate", "the mailbox is named twice", path))
        seen.add(recipient.lower())
        if not _is_mailbox(recipient):
            issues.append(_issue("invalid", "not a mail address", path, "RFC 5321"))
        elif not trust.holds(recipient):
            issues.append(_issue("security", "the mailbox is outside the trust space", path, "MSSanté"))
        elif is_of_patient(recipient):
            issues += _patient_mailbox(header.patient, recipient, path, alone=len(recipients) == 1)
    return issues


def _patient_mailbox(patient: Patient, recipient: str, path: str, *, alone: bool) -> Iterator[Issue]:
    if not alone:
        yield _issue("business-rule", "a patient's mailbox receives a message of its own", path, "ECO.2.1.1")
    number = recipient.rpartition("@")[0]
    if not ins_is_valid(number) or number not in {ii.extension for ii in patient.ids if ii.root in INS_ROOTS}:
        yield _issue("business-rule", "the mailbox is not that of the INS of the document", path, "ECO.2.2.6")


def is_of_patient(mailbox: str) -> bool:
    """Whether a mailbox is one of Mon espace santé."""
    return mailbox.rpartition("@")[2].lower() == PATIENT_DOMAIN


def _is_mailbox(text: str) -> bool:
    """Whether `text` is a plain address: no display name, no quotes, no comment, a domain of at least two labels."""
    return _MAILBOX.fullmatch(text) is not None


def _failure(code: str, message: str, path: str = "", *, rule: str = "") -> DeliveryError:
    return DeliveryError(_issue(code, message, path, rule), retry=False)


def _issue(code: str, message: str, path: str = "", rule: str = "") -> Issue:
    return Issue("error", code, message, path, rule)
