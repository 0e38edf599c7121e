"""The MSSanté operator on the wire: SMTP submission with STARTTLS that takes conforming messages only.

What it takes lies in the mailboxes of the recipients, which `imap_server` shows; delivery reports (RFC 3461) and read
receipts come by themselves to who asked for them where `bounces` and `readers` say so, or on demand.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import logging
import socket
import ssl
import threading
import weakref
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.utils import getaddresses
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from relais.server.sandbox import mail_reports
from relais.server.sandbox.faults import Faults
from relais.server.sandbox.files import write_whole
from relais.server.sandbox.listening import listen
from relais.server.sandbox.mail_checks import check, check_report
from relais.server.sandbox.mail_reports import MdnForm
from relais.server.sandbox.mailboxes import Mailboxes

logging.getLogger("mail.log").setLevel(logging.ERROR)  # the library warns of client certificates, which are meant

MAX_MESSAGE = 10_000_000
TRUST_SPACE = ".mssante.fr"
BEHAVIOURS = {
    "inconnu": "refused at once",
    "retour": "taken, then bounced",
    "lecteur": "answers that it has integrated the mail",
    "refus": "answers that the patient is unknown (902)",
}
"""What the first word of a mailbox makes it do (`retour.medecin@cabinet.mssante.fr`)."""

UNKNOWN_PATIENT = "902^Identifiant de patient inconnu^applicationErrorCondition"
NOBODY = "<>"
"""The sender of a report, as the library names it."""
SILENCE = 60.0
"""Seconds without an answer when a fault asks for silence; the end of the server cuts it short."""


class MailFault(enum.Enum):
    """What the submission server can do wrong, and whether it keeps the message when it does."""

    BUSY = "451 after MAIL FROM, nothing kept"
    BUSY_AFTER_DATA = "451 after DATA, nothing kept"
    CUT_AFTER_DATA = "the connection is cut after DATA, message kept"
    SILENT_AFTER_DATA = "no answer after DATA, message kept"
    SLOW = "every answer of one message comes after `slowness` seconds"
    FAREWELL = "421 after MAIL FROM and the end of the connection, nothing kept"
    TWICE = "the message is delivered twice to each mailbox"
    REPORT_TWICE = "the delivery report of each recipient comes twice"
    NONSENSE = "an answer that is not SMTP after DATA, message kept"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message taken by the mailbox."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    codes: tuple[str, ...]  # X-MSS-CODECDA
    path: Path

    def __str__(self) -> str:
        """One line that names no patient."""
        return f"{self.message_id} from {self.sender}, documents {','.join(self.codes)}, {self.path}"


class MailServer:
    """Submission at `host`:`port`. Messages taken are in `folder`/accepted, refused ones beside their reason in
    `folder`/refused, reports in `folder`/reports.

    `unknown` names the mailboxes that are refused at once, `bounces` those that are taken and found missing later,
    `readers` those whose software answers what it reads, and with which error (empty: none). So do mailboxes whose name
    begins with a word of `BEHAVIOURS`.
    """

    def __init__(
        self,
        folder: Path,
        context: ssl.SSLContext | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_message: int = MAX_MESSAGE,
        mailboxes: Mailboxes | None = None,
        checks: bool = True,
    ) -> None:
        """Without `checks` any mail is taken: to measure others than this server."""
        self._checks = checks
        self.faults: Faults[MailFault] = Faults()
        self.unknown: set[str] = set()
        self.bounces: set[str] = set()
        self.readers: dict[str, str] = {}
        self.mdn_form = MdnForm.RFC
        self.slowness = 1.0
        self.mailboxes = mailboxes or Mailboxes()
        self.connections = 0
        """Connections made so far."""
        self.host, self.port = host, port
        self._accepted, self._refused, self._reports = folder / "accepted", folder / "refused", folder / "reports"
        self._context, self._max_message = context, max_message
        self._connections: weakref.WeakSet[SMTP] = weakref.WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()
        for place in (self._accepted, self._refused, self._reports):
            place.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Listen; a port 0 becomes a free one, kept for later starts."""
        listener = listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener, ready)), name="sandbox-smtp", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Cut every connection and stop listening; the port refuses connections afterwards."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = None

    def messages(self) -> list[StoredMessage]:
        """Every message taken, oldest first."""
        paths = sorted(self._accepted.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        return [_stored(path) for path in paths]

    def reports(self) -> list[bytes]:
        """The reports (MDN) that were submitted, in no order."""
        return [path.read_bytes() for path in self._reports.glob("*.eml")]

    def report(self, message_id: str, recipient: str, action: str, status: str) -> None:
        """Send the DSN of one recipient of a message that was taken to its sender. Raises KeyError."""
        self._send_report(message_id, self._stored(message_id).sender, recipient, action, status)

    def _send_report(self, message_id: str, sender: str, recipient: str, action: str, status: str) -> None:
        envelope_id = message_id.strip("<>")
        dsn = mail_reports.delivery_report(message_id, envelope_id, recipient, action, status, sender)
        self.mailboxes.deliver(sender, dsn, sender="")

    def acknowledge(self, message_id: str, recipient: str, error: str = "", form: MdnForm = MdnForm.RFC) -> None:
        """Send the MDN of a recipient to the sender of a message that was taken. Raises KeyError."""
        stored = self._stored(message_id)
        subject = str(message_from_bytes(stored.path.read_bytes(), policy=policy.default)["Subject"])
        mdn = mail_reports.read_receipt(message_id, subject, recipient, stored.sender, error, form)
        self.mailboxes.deliver(stored.sender, mdn, sender="")

    def _stored(self, message_id: str) -> StoredMessage:
        found = next((stored for stored in self.messages() if stored.message_id == message_id), None)
        if found is None:
            raise KeyError(message_id)
        return found

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(self._connection, sock=listener)
        ready.set()
        await self._stopping.wait()
        server.close()
        for connection in list(self._connections):
            _cut(connection)
        await server.wait_closed()

    def _connection(self) -> SMTP:
        self.connections += 1
        connection = _Submission(
            self,
            data_size_limit=self._max_message,
            hostname="localhost",
            ident="Relais sandbox",
            tls_context=self._context,
            require_starttls=self._context is not None,
            auth_require_tls=self._context is not None,
            auth_exclude_mechanism=("LOGIN",),
            loop=self._loop,
        )
        self._connections.add(connection)
        return connection

    # --- hooks of aiosmtpd: each returns the SMTP reply ---

    async def auth_EXTERNAL(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """The certificate that the handshake has checked is the proof (RFC 4422)."""
        tls = server.transport.get_extra_info("ssl_object") if server.transport else None
        return AuthResult(success=bool(tls and tls.getpeercert()))

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Announce delivery reports."""
        session.host_name = hostname
        return [*responses[:-1], "250-DSN", responses[-1]]

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """MAIL FROM."""
        fault = self.faults.take(MailFault.BUSY, MailFault.FAREWELL, MailFault.SLOW)
        if fault is MailFault.BUSY:
            return "451 4.3.0 Busy, try again later"
        if fault is MailFault.FAREWELL:
            asyncio.get_running_loop().call_soon(_end, server)
            return "421 4.4.2 Too many messages"
        if fault is MailFault.SLOW:
            await asyncio.sleep(self.slowness)
        if address != NOBODY and not address.lower().endswith(TRUST_SPACE):
            return "550 5.7.1 Sender outside the trust space"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """RCPT TO, one recipient at a time."""
        if not address.lower().endswith(TRUST_SPACE):
            return "550 5.7.1 Recipient outside the trust space"
        if address in self.unknown or _behaviour(address) == "inconnu":
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The message itself."""
        if self.faults.take(MailFault.BUSY_AFTER_DATA):
            return "451 4.3.0 Busy, try again later"
        raw = envelope.original_content or b""
        sender = "" if envelope.mail_from == NOBODY else envelope.mail_from or ""
        reply = self._take(raw, sender, envelope.rcpt_tos)
        if reply.startswith("250"):
            self._deliver(raw, sender, envelope.rcpt_tos, wants_report="NOTIFY" in envelope.rcpt_options)
        fault = self.faults.take(MailFault.CUT_AFTER_DATA, MailFault.SILENT_AFTER_DATA, MailFault.NONSENSE)
        if fault is MailFault.CUT_AFTER_DATA:
            _cut(server)
        elif fault is MailFault.SILENT_AFTER_DATA:
            await asyncio.sleep(SILENCE)
        elif fault is MailFault.NONSENSE:
            return "nonsense"
        return reply

    def _deliver(self, raw: bytes, sender: str, recipients: list[str], *, wants_report: bool) -> None:
        """Into the mailboxes of this operator; who asked is told of it."""
        fault = self.faults.take(MailFault.TWICE, MailFault.REPORT_TWICE)
        for recipient in recipients:
            arrives = recipient not in self.bounces and _behaviour(recipient) != "retour"
            for _ in range(arrives + (arrives and fault is MailFault.TWICE)):
                self.mailboxes.deliver(recipient, raw, sender=sender)
            if not sender:
                continue
            message = _head(raw)
            for _ in range(wants_report + (wants_report and fault is MailFault.REPORT_TWICE)):
                action, status = ("delivered", "2.0.0") if arrives else ("failed", "5.1.1")
                self._send_report(str(message["Message-ID"]).strip(), sender, recipient, action, status)
            answer = self.readers.get(recipient, _ANSWERS.get(_behaviour(recipient)))
            if arrives and answer is not None and "Disposition-Notification-To" in message:
                self.acknowledge(str(message["Message-ID"]).strip(), recipient, answer, self.mdn_form)

    def _take(self, raw: bytes, sender: str, recipients: list[str]) -> str:
        if not sender:
            return self._take_report(raw, recipients)
        issues = check(raw, sender, recipients) if self._checks else []
        if issues:
            name = hashlib.sha256(raw).hexdigest()[:16]
            write_whole(self._refused / f"{name}.eml", raw)
            write_whole(self._refused / f"{name}.txt", "\n".join(map(str, issues)).encode())
            return _reply("554 5.6.0", "; ".join(map(str, issues)))
        message_id = str(_head(raw)["Message-ID"]).strip()
        path = self._accepted / f"{hashlib.sha256(message_id.encode()).hexdigest()[:32]}.eml"
        if not path.exists():
            write_whole(path, raw)
            return "250 2.6.0 Taken"
        if path.read_bytes() == raw:
            return "250 2.6.0 Already taken"
        return "554 5.6.0 Another message was taken under this Message-ID"

    def _take_report(self, raw: bytes, recipients: list[str]) -> str:
        """A report has no sender who could be told of what becomes of it; only reports have none."""
        issues = check_report(raw, recipients)
        if issues:
            return _reply("554 5.6.0", "; ".join(map(str, issues)))
        write_whole(self._reports / f"{hashlib.sha256(raw).hexdigest()[:32]}.eml", raw)
        return "250 2.6.0 Report taken"


class _Submission(SMTP):
    """A session that knows the parameters of RFC 3461, which the library refuses."""

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """MAIL FROM, with RET and ENVID."""
        await super().smtp_MAIL(_without(arg, "RET", "ENVID"))

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RCPT TO, with NOTIFY and ORCPT."""
        await super().smtp_RCPT(_without(arg, "NOTIFY", "ORCPT"))
        if arg and " NOTIFY=" in arg.upper() and self.envelope is not None:
            self.envelope.rcpt_options.append("NOTIFY")


_ANSWERS = {"lecteur": "", "refus": UNKNOWN_PATIENT}


def _behaviour(mailbox: str) -> str:
    return mailbox.partition("@")[0].partition(".")[0].lower()


def _without(arg: str | None, *names: str) -> str | None:
    if arg is None:
        return None
    words = arg.split(" ")
    return " ".join(word for word in words if word.partition("=")[0].upper() not in names or "=" not in word)


def _end(connection: SMTP) -> None:
    if isinstance(connection.transport, asyncio.WriteTransport):
        connection.transport.close()


def _cut(connection: SMTP) -> None:
    if isinstance(connection.transport, asyncio.WriteTransport):
        connection.transport.abort()


def _reply(code: str, text: str) -> str:
    """One reply line within the 512 bytes of RFC 5321."""
    return f"{code} {text}".encode("ascii", "replace").decode()[:500]


def _stored(path: Path) -> StoredMessage:
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    to = [address for _, address in getaddresses([str(message.get("To", "")), str(message.get("Cc", ""))]) if address]
    return StoredMessage(
        message_id=str(message["Message-ID"]),
        sender=getaddresses([str(message["From"])])[0][1],
        recipients=tuple(to),
        codes=tuple(_header(message, "X-MSS-CODECDA").split(",")),
        path=path,
    )


def _head(raw: bytes) -> Message:
    """The headers of a message; its body is not parsed."""
    return message_from_bytes(raw[: raw.find(b"\r\n\r\n") + 4])


def _header(message: EmailMessage, name: str) -> str:
    return "".join(str(message.get(name, "")).split())
