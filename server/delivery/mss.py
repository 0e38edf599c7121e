"""The MSSanté channel: one document as IHE_XDM.ZIP in a mail, submitted by SMTP with STARTTLS.

Référentiel socle MSSanté #2 (clients de messageries, requirements ECO.*), CI-SIS volet Échange de documents de santé
(IHE XDM, ITI-32), RFC 5321. The same shipment always gives the same bytes, so that a message sent twice is recognised.
This version attaches no PDF rendering of the document, asks for no DSN and presents no client certificate.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import smtplib
import ssl
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from relais.cda import reader, xdm
from relais.cda.errors import Issue
from relais.cda.identifiers import ins_is_valid
from relais.cda.model import Header, NamePart, Patient
from relais.cda.templates import INS_NIR, INS_ROOTS
from relais.cda.xds_types import XCN, XON
from relais.server.delivery.channel import DeliveryError, Receipt, Shipment, check_integrity, making_the_message, quoted
from relais.server.delivery.deadline import ATTEMPT, Deadline
from relais.server.settings import Settings

PATIENT_DOMAIN = "patient.mssante.fr"
INVISIBLE_TO_PATIENT = "INVISIBLE_PATIENT"
LABEL_LENGTH = 40
# A folded Subject may begin with an empty line, which receivers read as a space before the XDM marker; 998 is the
# longest line of RFC 5322.
_ONE_LINE_HEADERS = SMTP.clone(max_line_length=998)

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_MAILBOX = re.compile(rf"(?=.{{1,64}}@)(?=.{{1,254}}\Z){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
_LIGATURES = str.maketrans({"Œ": "OE", "œ": "oe", "Æ": "AE", "æ": "ae", "’": "'"})
_BODY = """\
Bonjour,

Un document de santé structuré est joint à ce message, dans l'archive IHE_XDM.ZIP : « {title} ».
Intégrez l'archive avec votre logiciel, qui en lira le contenu.

Message émis par le logiciel {software}.
"""


class MssChannel:
    """Sends one document to the mailboxes of a shipment through the submission server of the settings."""

    name = "mss"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, shipment: Shipment) -> Receipt:
        """Submit once; the Message-ID is the shipment's, so receivers recognise a second submission.

        A recipient that is refused, for good or for now, does not deprive the others: the message goes to them, and the
        error that is raised says who was refused and who was served. It is then not sent again, since those served
        would get it twice: who was refused needs an order of their own. While nobody is served and somebody may be
        later, the whole shipment may be sent again. Raises DeliveryError.
        """
        settings = self._settings
        message = compose(shipment, settings).as_bytes()
        with Deadline(ATTEMPT * settings.sender_timeout) as deadline:
            try:
                with self._connection(deadline) as smtp:
                    return _submit(smtp, settings.mss_sender, shipment.recipients, message, settings.mss_max_size)
            except OSError as error:  # which smtplib.SMTPException is
                raise _transport_failure(TimeoutError() if deadline.expired else error) from error

    @contextlib.contextmanager
    def _connection(self, deadline: Deadline) -> Iterator[smtplib.SMTP]:
        """A connection that has said EHLO, under TLS when the settings demand it; always closed."""
        settings = self._settings
        smtp = _Session(
            deadline,
            settings.mss_host,
            settings.mss_port,
            local_hostname=settings.mss_sender.rpartition("@")[2],
            timeout=settings.sender_timeout,
        )
        try:
            smtp.ehlo_or_helo_if_needed()
            if settings.mss_starttls:
                _start_tls(smtp, settings.mss_ca_file)
            if deadline.expired:  # while TLS was being set up nothing could be shut down
                raise TimeoutError
            yield smtp
        finally:
            smtp.close()


class _Session(smtplib.SMTP):
    """An SMTP session that a deadline watches from the greeting on, which the constructor already waits for."""

    def __init__(self, deadline: Deadline, host: str, port: int, *, local_hostname: str, timeout: float) -> None:
        self._deadline = deadline
        deadline.watch(lambda: self.sock)
        super().__init__(host, port, local_hostname=local_hostname, timeout=timeout)

    def getreply(self) -> tuple[int, bytes]:
        """The next reply; what there is of one when the time runs out is none."""
        reply = super().getreply()
        if self._deadline.expired:
            self.close()
            raise TimeoutError
        return reply


# --- message --------------------------------------------------------------------------------------------------------


def compose(shipment: Shipment, settings: Settings) -> EmailMessage:
    """The message of a shipment: the same bytes each time.

    Raises DeliveryError (never to be retried): the metadata do not describe the document, the document cannot be read,
    a mailbox is not one or may not receive this document, sender or product reference are not set.
    """
    check_integrity(shipment)
    _check_envelope(shipment, settings)
    with making_the_message():
        header = reader.read(shipment.document).document.header
        archive = _archive(shipment, settings)
    qualified = has_qualified_ins(header.patient)
    _check_recipients(shipment, header, qualified=qualified or settings.ins_environment == "test")
    message = EmailMessage(policy=_ONE_LINE_HEADERS)
    message["From"] = Address(" ".join(settings.organization_name.split()), addr_spec=settings.mss_sender)
    message["To"] = [Address(addr_spec=recipient) for recipient in shipment.recipients]
    message["Subject"] = subject(header)
    message["Date"] = _utc(shipment.submission.submission_set.submission_time)
    message["Message-ID"] = shipment.message_id
    message["Disposition-Notification-To"] = settings.mss_sender
    message["X-MSS-NIL"] = settings.mss_product_reference
    message["X-MSS-CODECDA"] = header.code.code or ""
    message["X-MSS-INS"] = "O" if qualified else "N"
    body = _BODY.format(title=" ".join((header.title or "").split()), software=settings.deployment.software_name)
    message.set_content(body, cte="quoted-printable")
    message.add_attachment(
        archive, maintype="application", subtype="zip", filename=xdm.ARCHIVE_NAME, params={"name": xdm.ARCHIVE_NAME}
    )
    message.set_boundary(f"=_relais_{hashlib.sha256(shipment.message_id.encode()).hexdigest()[:32]}")
    return message


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
    decomposed = unicodedata.normalize("NFKD", " ".join(text.split()).translate(_LIGATURES))
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _birth_name(parts: Sequence[NamePart]) -> str:
    ordered = sorted(parts, key=lambda part: part.qualifier != "BR")
    return ordered[0].text if ordered else ""


def _archive(shipment: Shipment, settings: Settings) -> bytes:
    author = shipment.submission.submission_set.author
    person, deployment = XCN.parse(author.person or ""), settings.deployment
    sender = xdm.Sender(
        name=f"{person.given} {person.family}".strip(),
        organization=XON.parse(author.institutions[0]).name if author.institutions else settings.organization_name,
        application=deployment.software_name,
        vendor=deployment.software_vendor,
    )
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
    if not _MESSAGE_ID.fullmatch(shipment.message_id):
        raise _failure("invalid", "not a message identifier", "message_id", rule="RFC 5322")
    if not re.fullmatch(r"\d{14}", shipment.submission.submission_set.submission_time):
        raise _failure("invalid", "not a time in UTC to the second", "submission.submission_set.submission_time")


def _check_recipients(shipment: Shipment, header: Header, *, qualified: bool) -> None:
    """What `check_recipients` says; and a patient's mailbox receives nothing that is hidden from the patient."""
    issues = check_recipients(header, shipment.recipients)
    to_patient = any(_is_of_patient(recipient) for recipient in shipment.recipients)
    if to_patient and not qualified and not issues:
        issues.append(_issue("business-rule", "the INS of the document is not qualified", "recipients", "ECO.2.2.6"))
    if to_patient and any(code.code == INVISIBLE_TO_PATIENT for code in shipment.submission.entries[0].confidentiality):
        issues.append(_issue("business-rule", "the document is not visible to the patient", "recipients", "MSSanté"))
    if issues:
        raise DeliveryError(issues, retry=False)


def check_recipients(header: Header, recipients: Sequence[str]) -> list[Issue]:
    """Why a document with that header may not be sent to those mailboxes; nothing when it may.

    Each is one plain address, named once. A patient's mailbox is that of the INS of the document, and receives alone.
    """
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
        elif _is_of_patient(recipient):
            issues += _patient_mailbox(header.patient, recipient, path, alone=len(recipients) == 1)
    return issues


def _patient_mailbox(patient: Patient, recipient: str, path: str, *, alone: bool) -> Iterator[Issue]:
    if not alone:
        yield _issue("business-rule", "a patient's mailbox receives a message of its own", path, "ECO.2.1.1")
    number = recipient.rpartition("@")[0]
    if not ins_is_valid(number) or number not in {ii.extension for ii in patient.ids if ii.root in INS_ROOTS}:
        yield _issue("business-rule", "the mailbox is not that of the INS of the document", path, "ECO.2.2.6")


def _is_of_patient(mailbox: str) -> bool:
    return mailbox.rpartition("@")[2].lower() == PATIENT_DOMAIN


def _is_mailbox(text: str) -> bool:
    """Whether `text` is a plain address: no display name, no quotes, no comment, a domain of at least two labels."""
    return _MAILBOX.fullmatch(text) is not None


# --- submission -----------------------------------------------------------------------------------------------------


def _start_tls(smtp: smtplib.SMTP, ca_file: str) -> None:
    if not smtp.has_extn("starttls"):
        raise _failure("security", "the mail server offers no STARTTLS: nothing was sent", "mss_starttls", rule="TLS")
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except FileNotFoundError as error:
        raise _failure("not-found", "no such file", "mss_ca_file") from error
    smtp.starttls(context=context)
    smtp.ehlo()


Reply = tuple[int, bytes]


def _submit(smtp: smtplib.SMTP, sender: str, recipients: Sequence[str], message: bytes, max_size: int) -> Receipt:
    """One transaction, for every recipient that the server takes."""
    options = _announce_size(smtp, len(message), max_size)
    _expect(smtp.mail(sender, options), 250)
    replies = {number: smtp.rcpt(recipient) for number, recipient in enumerate(recipients)}
    refused = {number: reply for number, reply in replies.items() if reply[0] not in (250, 251)}
    if len(refused) == len(recipients):
        raise DeliveryError(_refusals(refused), retry=any(code < 500 for code, _ in refused.values()))
    answer = _transfer(smtp, message)
    with contextlib.suppress(OSError):  # the message is taken: nothing after this matters
        smtp.quit()
    served = f"{len(recipients) - len(refused)} of {len(recipients)} recipients"
    detail = quoted(f"taken by the mail server for {served}: {answer}")
    if refused:
        raise DeliveryError([*_refusals(refused), Issue("information", "informational", detail)], retry=False)
    return Receipt(detail)


def _announce_size(smtp: smtplib.SMTP, size: int, max_size: int) -> list[str]:
    """The SIZE parameter of MAIL FROM (RFC 1870), once the message is known not to exceed what the server takes."""
    announced = smtp.esmtp_features.get("size", "")
    limit = int(announced) if announced.isdecimal() and int(announced) else max_size
    if size > limit:
        raise _failure("too-long", f"the message has {size} bytes, the server takes {limit}", rule="RFC 1870")
    return [f"size={size}"] if smtp.has_extn("size") else []


def _transfer(smtp: smtplib.SMTP, message: bytes) -> str:
    """What the server says when it has taken the message."""
    try:
        reply = smtp.data(message)
    except smtplib.SMTPResponseException:
        raise
    except OSError as error:  # which smtplib.SMTPException is
        text = "the connection was lost after DATA: the message may have been taken"
        raise _failure("incomplete", text, retry=True, rule="RFC 5321") from error
    _expect(reply, 250)
    return _text(reply[1])


def _expect(reply: Reply, code: int) -> None:
    if reply[0] != code:
        raise smtplib.SMTPResponseException(reply[0], reply[1])


def _refusals(refused: Mapping[int, Reply]) -> list[Issue]:
    return [
        _issue(
            "not-found" if code >= 500 else "transient",
            quoted(f"refused{'' if code >= 500 else ' for now'}: {code} {_text(reply)}"),
            f"recipients[{number}]",
            "RFC 5321",
        )
        for number, (code, reply) in refused.items()
    ]


def _transport_failure(error: OSError) -> DeliveryError:
    """RFC 5321 §4.2.1: 4xx may be tried again, 5xx not. A connection that fails may, a certificate that fails not."""
    if isinstance(error, smtplib.SMTPResponseException):
        transient = 400 <= error.smtp_code < 500
        message = quoted(f"the mail server answers {error.smtp_code} {_text(error.smtp_error)}")
        return _failure("transient" if transient else "processing", message, retry=transient, rule="RFC 5321")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _failure("security", "the certificate of the mail server is not trusted", "mss_ca_file", rule="TLS")
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return _failure("timeout", "the mail server does not answer in time: nothing was sent", retry=True)
    return _failure("transient", "the connection to the mail server failed: nothing was sent", retry=True)


def _text(reply: bytes | str) -> str:
    return reply if isinstance(reply, str) else reply.decode("utf-8", "replace")


def _failure(code: str, message: str, path: str = "", *, retry: bool = False, rule: str = "") -> DeliveryError:
    return DeliveryError(_issue(code, message, path, rule), retry=retry)


def _issue(code: str, message: str, path: str = "", rule: str = "") -> Issue:
    return Issue("error", code, message, path, rule)
