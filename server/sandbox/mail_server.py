"""The MSSanté counterpart on the wire: SMTP submission with STARTTLS that takes conforming messages only."""

from __future__ import annotations

import asyncio
import enum
import hashlib
import socket
import ssl
import threading
import weakref
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from relais.server.sandbox.faults import Faults
from relais.server.sandbox.files import write_whole
from relais.server.sandbox.listening import listen
from relais.server.sandbox.mail_checks import check

MAX_MESSAGE = 10_000_000
TRUST_SPACE = ".mssante.fr"
SILENCE = 60.0
"""Seconds without an answer when a fault asks for silence; the end of the server cuts it short."""


class MailFault(enum.Enum):
    """What the submission server can do wrong, and whether it keeps the message when it does."""

    BUSY = "451 after MAIL FROM, nothing kept"
    BUSY_AFTER_DATA = "451 after DATA, nothing kept"
    CUT_AFTER_DATA = "the connection is cut after DATA, message kept"
    SILENT_AFTER_DATA = "no answer after DATA, message kept"


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
    `folder`/refused. `unknown` names the mailboxes that do not exist."""

    def __init__(
        self,
        folder: Path,
        context: ssl.SSLContext | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self.faults: Faults[MailFault] = Faults()
        self.unknown: set[str] = set()
        self.host, self.port = host, port
        self._accepted, self._refused = folder / "accepted", folder / "refused"
        self._context, self._max_message = context, max_message
        self._connections: weakref.WeakSet[SMTP] = weakref.WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()
        for place in (self._accepted, self._refused):
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
        connection = SMTP(
            self,
            data_size_limit=self._max_message,
            hostname="localhost",
            ident="Relais sandbox",
            tls_context=self._context,
            require_starttls=True,
            loop=self._loop,
        )
        self._connections.add(connection)
        return connection

    # --- hooks of aiosmtpd: each returns the SMTP reply ---

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """MAIL FROM."""
        if self.faults.take(MailFault.BUSY):
            return "451 4.3.0 Busy, try again later"
        if not address.lower().endswith(TRUST_SPACE):
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
        if address in self.unknown:
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The message itself."""
        if self.faults.take(MailFault.BUSY_AFTER_DATA):
            return "451 4.3.0 Busy, try again later"
        raw = envelope.original_content or b""
        reply = self._take(raw, envelope.mail_from or "", envelope.rcpt_tos)
        fault = self.faults.take(MailFault.CUT_AFTER_DATA, MailFault.SILENT_AFTER_DATA)
        if fault is MailFault.CUT_AFTER_DATA:
            _cut(server)
        elif fault is MailFault.SILENT_AFTER_DATA:
            await asyncio.sleep(SILENCE)
        return reply

    def _take(self, raw: bytes, sender: str, recipients: list[str]) -> str:
        issues = check(raw, sender, recipients)
        if issues:
            name = hashlib.sha256(raw).hexdigest()[:16]
            write_whole(self._refused / f"{name}.eml", raw)
            write_whole(self._refused / f"{name}.txt", "\n".join(map(str, issues)).encode())
            return _reply("554 5.6.0", "; ".join(map(str, issues)))
        message_id = str(message_from_bytes(raw, policy=policy.default)["Message-ID"])
        path = self._accepted / f"{hashlib.sha256(message_id.encode()).hexdigest()[:32]}.eml"
        if not path.exists():
            write_whole(path, raw)
            return "250 2.6.0 Taken"
        if path.read_bytes() == raw:
            return "250 2.6.0 Already taken"
        return "554 5.6.0 Another message was taken under this Message-ID"


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


def _header(message: EmailMessage, name: str) -> str:
    return "".join(str(message.get(name, "")).split())
