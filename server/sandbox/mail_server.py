"""The MSSanté operator on the wire: SMTP submission with STARTTLS, which judges what it takes and then delivers it.

As an operator does, it refuses at once what the envelope shows (no TLS, sender, recipients, size); a message is taken
first and judged afterwards. One that conforms lies in the mailboxes of the recipients, which `imap_server` shows; one
that does not comes back to its sender as a delivery report (RFC 3464). Other reports (RFC 3461) and read receipts come
by themselves to who asked for them where `bounces` and `readers` say so, or on demand.
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
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from relais.server.sandbox import mail_reports
from relais.server.sandbox.faults import Faults
from relais.server.sandbox.files import write_whole
from relais.server.sandbox.listening import listen
from relais.server.sandbox.mail_checks import check_report
from relais.server.sandbox.mail_judge import Judge
from relais.server.sandbox.mail_queue import MailQueue, Taken
from relais.server.sandbox.mail_reports import NO_MAILBOX, MdnForm
from relais.server.sandbox.mailboxes import Mailboxes

logging.getLogger("mail.log").setLevel(logging.ERROR)  # the library warns of client certificates, which are meant

MAX_MESSAGE = 10_000_000
TRUST_SPACE = ".mssante.fr"
BEHAVIOURS = {
    "inconnu": "refused at once",
    "plein": "refused for now: its quota is used up",
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


_judge = Judge()


class MailServer:
    """Submission at `host`:`port`. A message that was taken waits in `folder`/taken until it is judged, in the order in
    which they came; then it is in `folder`/accepted, or beside the reasons in `folder`/refused. Reports are in
    `folder`/reports. What waits when the process ends is judged after the next start.

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
        """Without `checks` any mail is delivered: to measure others than this server."""
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
        self._taken = MailQueue(folder / "taken", self._conclude)
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
        self._taken.start()
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Cut every connection, stop listening, judge what waits; the port refuses connections afterwards."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = None
        self._taken.stop()

    def settle(self) -> None:
        """Wait until every message that was taken so far is judged and delivered, or refused."""
        self._taken.settle()

    def messages(self) -> list[StoredMessage]:
        """Every message that was taken and conforms, oldest first, once all are judged."""
        self.settle()
        paths = sorted(self._accepted.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        return [_stored(path) for path in paths]

    def reports(self) -> list[bytes]:
        """The reports (MDN) that were submitted, in no order."""
        return [path.read_bytes() for path in self._reports.glob("*.eml")]

    def report(self, message_id: str, recipient: str, action: str, status: str) -> None:
        """Send the DSN of one recipient of a message that was accepted to its sender. Raises KeyError."""
        stored = self._stored(message_id)
        self._report(message_id, stored.sender, recipient, action, status)

    def acknowledge(self, message_id: str, recipient: str, error: str = "", form: MdnForm = MdnForm.RFC) -> None:
        """Send the MDN of a recipient to the sender of a message that was accepted. Raises KeyError."""
        stored = self._stored(message_id)
        self._answer(_head(stored.path.read_bytes()), stored.sender, recipient, error, form)

    def _stored(self, message_id: str) -> StoredMessage:
        self.settle()
        path = self._place(message_id)
        if not path.exists():
            raise KeyError(message_id)
        return _stored(path)

    def _place(self, message_id: str) -> Path:
        """The file of an accepted message."""
        return self._accepted / f"{hashlib.sha256(message_id.encode('utf-8', 'replace')).hexdigest()[:32]}.eml"

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
            self._max_message,
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
            return NO_MAILBOX
        if _behaviour(address) == "plein":
            return "452 4.2.2 Mailbox full"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The message itself."""
        if self.faults.take(MailFault.BUSY_AFTER_DATA):
            return "451 4.3.0 Busy, try again later"
        raw = envelope.original_content or b""
        sender = "" if envelope.mail_from == NOBODY else envelope.mail_from or ""
        if sender:
            reply = self._take(raw, sender, envelope.rcpt_tos, wants_report="NOTIFY" in envelope.rcpt_options)
        else:
            reply = self._take_report(raw, envelope.rcpt_tos)
        fault = self.faults.take(MailFault.CUT_AFTER_DATA, MailFault.SILENT_AFTER_DATA, MailFault.NONSENSE)
        if fault is MailFault.CUT_AFTER_DATA:
            _cut(server)
        elif fault is MailFault.SILENT_AFTER_DATA:
            await asyncio.sleep(SILENCE)
        elif fault is MailFault.NONSENSE:
            return "nonsense"
        return reply

    # --- what was taken ---

    def _take(self, raw: bytes, sender: str, recipients: list[str], *, wants_report: bool) -> str:
        """Keep a message to be judged; another one under the Message-ID of an earlier one is refused."""
        name = _message_id(_head(raw))
        place = self._place(name)
        earlier = [taken.raw for taken in self._taken.unsettled() if taken.message_id == name]
        if place.exists():
            earlier.append(place.read_bytes())
        if name and any(one != raw for one in earlier):
            return "554 5.6.0 Another message was taken under this Message-ID"
        fault = self.faults.take(MailFault.TWICE, MailFault.REPORT_TWICE)
        twice = fault is MailFault.TWICE, fault is MailFault.REPORT_TWICE
        self._taken.add(Taken(self._taken.new_path(), raw, name, sender, recipients, wants_report, *twice))
        return "250 2.6.0 Already taken" if raw in earlier else "250 2.6.0 Taken"

    def _conclude(self, taken: Taken) -> None:
        """Deliver a message that conforms, return any other to its sender."""
        reasons = _judge.reasons(taken.path, taken.sender, taken.recipients) if self._checks else []
        if reasons:
            place = self._refused / f"{hashlib.sha256(taken.raw).hexdigest()[:16]}.eml"
            write_whole(place.with_suffix(".txt"), "\n".join(reasons).encode())
            taken.path.replace(place)
            self._return(taken, _reply("554 5.6.0", "; ".join(reasons)))
        else:
            taken.path.replace(self._place(taken.message_id))
            self._deliver(taken)

    def _return(self, taken: Taken, reason: str) -> None:
        """Tell the sender that nobody got the message, and why."""
        for recipient in taken.recipients:
            self._report(taken.message_id, taken.sender, recipient, "failed", "5.6.0", reason)

    def _deliver(self, taken: Taken) -> None:
        """Into the mailboxes of this operator; who asked is told of it, and everybody of a failure (RFC 3461 §4.1)."""
        for recipient in taken.recipients:
            arrives = self._has_mailbox(recipient)
            for _ in range(arrives + (arrives and taken.extra_copy)):
                self.mailboxes.deliver(recipient, taken.raw, sender=taken.sender)
            outcome = ("delivered", "2.0.0") if arrives else ("failed", "5.1.1")
            for _ in range((taken.wants_report or not arrives) + (taken.wants_report and taken.extra_report)):
                self._report(taken.message_id, taken.sender, recipient, *outcome)
            answer = self.readers.get(recipient, _ANSWERS.get(_behaviour(recipient)))
            if arrives and answer is not None:
                head = _head(taken.raw)
                if "Disposition-Notification-To" in head:
                    self._answer(head, taken.sender, recipient, answer, self.mdn_form)

    def _has_mailbox(self, recipient: str) -> bool:
        return recipient not in self.bounces and _behaviour(recipient) != "retour"

    def _report(
        self, message_id: str, sender: str, recipient: str, action: str, status: str, reason: str = NO_MAILBOX
    ) -> None:
        envelope_id = message_id.strip("<>")
        dsn = mail_reports.delivery_report(message_id, envelope_id, recipient, action, status, sender, reason)
        self.mailboxes.deliver(sender, dsn, sender="")

    def _answer(self, head: Message, sender: str, recipient: str, error: str, form: MdnForm) -> None:
        mdn = mail_reports.read_receipt(_message_id(head), str(head["Subject"]), recipient, sender, error, form)
        self.mailboxes.deliver(sender, mdn, sender="")

    def _take_report(self, raw: bytes, recipients: list[str]) -> str:
        """A report has no sender who could be told of what becomes of it; only reports have none."""
        issues = check_report(raw, recipients)
        if issues:
            return _reply("554 5.6.0", "; ".join(map(str, issues)))
        write_whole(self._reports / f"{hashlib.sha256(raw).hexdigest()[:32]}.eml", raw)
        for recipient in filter(self._has_mailbox, recipients):
            self.mailboxes.deliver(recipient, raw, sender="")
        return "250 2.6.0 Report taken"


class _Submission(SMTP):
    """A session that knows the parameters of RFC 3461, which the library refuses, and reads a message in one piece."""

    def __init__(self, handler: MailServer, max_message: int, **options: Any) -> None:
        self._max_message = max_message
        super().__init__(handler, data_size_limit=max_message, **options)

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """MAIL FROM, with RET and ENVID."""
        await super().smtp_MAIL(_without(arg, "RET", "ENVID"))

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RCPT TO, with NOTIFY and ORCPT."""
        await super().smtp_RCPT(_without(arg, "NOTIFY", "ORCPT"))
        if arg and " NOTIFY=" in arg.upper() and self.envelope is not None:
            self.envelope.rcpt_options.append("NOTIFY")

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """DATA; the library reads line by line, which takes longer than all the rest of a message."""
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        if self.envelope is None or not self.envelope.rcpt_tos or arg:
            await self.push("503 5.5.1 DATA stands alone, after RCPT")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        content = await self._content()
        if content is None:
            answer = "552 5.3.4 Too much mail data"
        elif max(map(len, content.split(_LINE_END))) > _LONGEST_LINE:
            answer = "500 5.6.0 Line too long (RFC 5321 4.5.3.1.6)"
        else:
            self.envelope.content = self.envelope.original_content = content
            answer = await self._call_handler_hook("DATA")
        self._set_post_data_state()  # type: ignore[no-untyped-call]
        await self.push(answer)

    async def _content(self) -> bytes | None:
        """What comes before the final dot, without the dots that hide others; None for too much, which is dropped."""
        data = bytearray(_LINE_END)  # of the line before: so an empty message ends like any other
        searched, is_whole = 0, True
        while (end := data.find(_END_OF_DATA, searched)) < 0:
            if len(data) > self._max_message:
                is_whole = False
                del data[: 1 - len(_END_OF_DATA)]
            searched = max(0, len(data) + 1 - len(_END_OF_DATA))
            chunk = await self._reader.read(_CHUNK)
            if not chunk:
                raise ConnectionResetError
            data += chunk
        if rest := data[end + len(_END_OF_DATA) :]:
            self._reader.feed_data(rest)
        if not is_whole or end > self._max_message:
            return None
        return bytes(data[: end + len(_LINE_END)].replace(_LINE_END + b".", _LINE_END)[len(_LINE_END) :])


_LINE_END, _END_OF_DATA = b"\r\n", b"\r\n.\r\n"
_LONGEST_LINE = 998
_CHUNK = 1_000_000
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


def _message_id(head: Message) -> str:
    return str(head.get("Message-ID", "")).strip()


def _header(message: EmailMessage, name: str) -> str:
    return "".join(str(message.get(name, "")).split())
