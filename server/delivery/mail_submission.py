"""Submission of mails by SMTP (RFC 5321, RFC 6409): one session serves many messages, each is submitted at most once.

STARTTLS (RFC 3207) with a client certificate, DSN asked for (RFC 3461), SIZE announced (RFC 1870). A session that the
server ended meanwhile is replaced before anything of the message is lost: only what comes after the final dot of DATA
leaves doubt, and is said to. What fails before it has surely not arrived.
"""

from __future__ import annotations

import contextlib
import re
import select
import smtplib
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ssl import SSLError

from relais.cda.errors import Issue
from relais.server.delivery import tls
from relais.server.delivery.channel import DeliveryError, Receipt, UnsentError, quoted, record
from relais.server.delivery.deadline import ATTEMPT, Deadline
from relais.server.delivery.mail_login import password
from relais.server.settings import Settings

_SERVER = "the mail server"
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_LONGEST_ENVID = 100  # RFC 3461 §4.4
_FAREWELL = 421  # the server ends the session

Reply = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who a message goes from and to; `envelope_id` is asked back in delivery reports, which are asked for by it."""

    sender: str  # empty: nobody is told when it does not arrive (reports, RFC 8098 §2.1)
    recipients: tuple[str, ...]
    envelope_id: str = ""


class StaleSessionError(OSError):
    """The server had ended the session before it took anything of the message."""


class SubmissionClient:
    """Submits messages through the server of the settings; several threads may use it, each with its own session.

    A session that nobody used for `mss_idle` seconds is closed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: list[_Session] = []
        self._sweeper: threading.Timer | None = None

    def submit(self, envelope: Envelope, message: bytes) -> Receipt:
        """Submit once, to every recipient that the server takes.

        A recipient that is refused, for good or for now, does not deprive the others; the error that is raised says who
        was refused and who was served, and forbids a second try, since those served would get it twice. Raises
        DeliveryError.
        """
        with Deadline(ATTEMPT * self._settings.sender_timeout) as deadline:
            try:
                session = self._take()
                if session is not None:
                    with contextlib.suppress(StaleSessionError):
                        return self._converse(session, deadline, envelope, message)
                return self._converse(None, deadline, envelope, message)
            except OSError as error:  # which smtplib.SMTPException is
                failed = TimeoutError() if deadline.expired else error
                raise _transport_failure(failed, certified=bool(self._settings.mss_certificate)) from error

    def close(self) -> None:
        """End every session that is kept."""
        with self._lock:
            kept, self._kept = self._kept, []
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
        for session in kept:
            session.end()

    def _converse(self, session: _Session | None, deadline: Deadline, envelope: Envelope, message: bytes) -> Receipt:
        """One transaction; the session is kept when the server is still with us."""
        if session is None:
            session = _open(self._settings, deadline)
        else:
            session.resume(deadline)
        started = datetime.now(UTC)
        try:
            receipt = _transaction(session, envelope, message, self._settings.mss_max_size)
        except StaleSessionError:
            session.close()
            raise
        except DeliveryError:  # the server speaks: the session may go on
            self._keep(session)
            raise
        except smtplib.SMTPResponseException as error:
            if 400 <= error.smtp_code < 600 and error.smtp_code != _FAREWELL:
                self._keep(session)
            else:
                session.close()
            raise
        except BaseException:
            session.close()
            raise
        finally:
            endpoint = f"smtp://{self._settings.mss_host}:{self._settings.mss_port}"
            record("SMTP", endpoint, started, message, b"".join(session.heard) or None)
        self._keep(session)
        return receipt

    # --- sessions kept ---

    def _take(self) -> _Session | None:
        """A session that is still open, if one is kept."""
        while True:
            with self._lock:
                session = self._kept.pop() if self._kept else None
            if session is None or session.is_quiet():
                return session
            session.close()

    def _keep(self, session: _Session) -> None:
        if session.sock is None or not session.reset():
            session.close()
            return
        if session.is_old:
            session.end()
            return
        session.idle_since = time.monotonic()
        with self._lock:
            self._kept.append(session)
            self._sweep_later()

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = threading.Timer(self._settings.mss_idle, self._sweep)
            self._sweeper.daemon = True
            self._sweeper.start()

    def _sweep(self) -> None:
        """Close what nobody used for long; look again later when something is left."""
        limit = time.monotonic() - self._settings.mss_idle
        with self._lock:
            idle = [session for session in self._kept if session.idle_since <= limit]
            self._kept = [session for session in self._kept if session.idle_since > limit]
            self._sweeper = None
            if self._kept:
                self._sweep_later()
        for session in idle:
            session.end()


class _Session(smtplib.SMTP):
    """An SMTP session that a deadline watches from the greeting on, which the constructor already waits for."""

    def __init__(self, deadline: Deadline, host: str, port: int, *, local_hostname: str, timeout: float) -> None:
        self.idle_since = 0.0
        self.opened = time.monotonic()
        self.heard: list[bytes] = []
        """The lines the server has said since it was connected to or resumed."""
        self.is_reused = False
        self._used = False  # a transaction has begun that RSET has to end
        self._watch(deadline)
        super().__init__(host, port, local_hostname=local_hostname, timeout=timeout)
        if self.sock is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the dot does not wait for the body's ACK

    def resume(self, deadline: Deadline) -> None:
        """Serve another message, watched by its deadline."""
        self.is_reused = True
        self.heard = []
        self._watch(deadline)

    def _watch(self, deadline: Deadline) -> None:
        self._deadline = deadline
        deadline.watch(lambda: getattr(self, "sock", None))

    def getreply(self) -> Reply:
        """The next reply; what there is of one when the time runs out is none."""
        reply = super().getreply()
        if self._deadline.expired:
            self.close()
            raise TimeoutError
        self.heard += (b"%d %b\r\n" % (reply[0], line) for line in reply[1].split(b"\n"))
        return reply

    @property
    def is_old(self) -> bool:
        """Whether it is time to look at the certificates again."""
        return time.monotonic() - self.opened >= tls.LONGEST

    def is_quiet(self) -> bool:
        """Whether nothing waits to be read: neither the end of the session nor a farewell."""
        return self.sock is not None and not select.select([self.sock], [], [], 0)[0]

    def begin(self, sender: str, options: Sequence[str]) -> None:
        """MAIL FROM. Raises StaleSessionError when a session that was kept turns out to be over."""
        self._used = True
        try:
            reply = self.mail(sender, options)
        except OSError as error:
            if self.is_reused and not self._deadline.expired:
                raise StaleSessionError from error
            raise
        if self.is_reused and reply[0] == _FAREWELL:
            raise StaleSessionError
        _expect(reply, 250)

    def transfer(self, message: bytes) -> str:
        """DATA; what the server says when it has taken the message."""
        _expect(self.docmd("DATA"), 354)
        self.send(_dot_stuffed(message))
        try:
            self.send(b".\r\n")
            reply = self.getreply()
        except OSError as error:  # which smtplib.SMTPException is
            text = "the connection was lost after the end of the message: it may have been taken"
            raise _failure("incomplete", text, retry=True, rule="RFC 5321") from error
        _expect(reply, 250)
        self._used = False
        return _text(reply[1])

    def reset(self) -> bool:
        """Leave a transaction that was not finished; False when the server does not follow."""
        if not self._used:
            return True
        try:
            self._used = self.rset()[0] != 250
        except OSError:
            return False
        return not self._used

    def end(self) -> None:
        """Say goodbye and close."""
        with contextlib.suppress(OSError):
            if self.sock is not None:
                self.sock.settimeout(1.0)
            self.quit()
        self.close()


def _open(settings: Settings, deadline: Deadline) -> _Session:
    """A session that has said EHLO, under TLS and logged in as the settings demand."""
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
            _start_tls(smtp, settings)
        if settings.mss_login != "none":
            _log_in(smtp, settings)
    except BaseException:
        smtp.close()
        raise
    if deadline.expired:  # while TLS was being set up nothing could be shut down
        smtp.close()
        raise TimeoutError
    return smtp


def _start_tls(smtp: smtplib.SMTP, settings: Settings) -> None:
    if not smtp.has_extn("starttls"):
        raise _failure("security", "the mail server offers no STARTTLS: nothing was sent", "mss_starttls", rule="TLS")
    smtp.starttls(context=tls.client_context(settings, "mss"))
    smtp.ehlo()


def _log_in(smtp: smtplib.SMTP, settings: Settings) -> None:
    """SASL EXTERNAL (RFC 4422): the certificate is the proof; PLAIN (RFC 4616): a password."""
    try:
        if settings.mss_login == "external":
            smtp.auth("EXTERNAL", lambda _challenge=None: settings.mss_sender)
        else:
            smtp.user, smtp.password = settings.mss_sender, password(settings)
            smtp.auth("PLAIN", smtp.auth_plain)
    except smtplib.SMTPResponseException as error:
        if 400 <= error.smtp_code < 500:
            raise
        message = quoted(f"the mail server refuses the login: {error.smtp_code} {_text(error.smtp_error)}")
        raise _failure("security", message, "mss_login", rule="RFC 4954") from error


# --- one transaction ------------------------------------------------------------------------------------------------


def _transaction(smtp: _Session, envelope: Envelope, message: bytes, max_size: int) -> Receipt:
    """One message, to every recipient that the server takes."""
    size = _announced_size(smtp, len(message), max_size)
    reports = smtp.has_extn("dsn") and bool(envelope.envelope_id)
    eight_bits = () if message.isascii() or not smtp.has_extn("8bitmime") else ("BODY=8BITMIME",)
    smtp.begin(envelope.sender, [*size, *eight_bits, *(_report_options(envelope.envelope_id) if reports else ())])
    replies = {
        number: smtp.rcpt(recipient, _recipient_options(recipient) if reports else ())
        for number, recipient in enumerate(envelope.recipients)
    }
    refused = {number: reply for number, reply in replies.items() if reply[0] not in (250, 251)}
    if len(refused) == len(replies):
        why = _refusals(refused)
        raise UnsentError(why) if any(code < 500 for code, _ in refused.values()) else DeliveryError(why, retry=False)
    answer = smtp.transfer(message)
    detail = quoted(
        f"taken by the mail server for {len(replies) - len(refused)} of {len(replies)} recipients: {answer}"
    )
    if refused:
        raise DeliveryError([*_refusals(refused), Issue("information", "informational", detail)], retry=False)
    return Receipt(detail)


def _announced_size(smtp: smtplib.SMTP, size: int, max_size: int) -> list[str]:
    """The SIZE parameter of MAIL FROM (RFC 1870), once the message is known not to exceed what the server takes."""
    announced = smtp.esmtp_features.get("size", "")
    limit = int(announced) if announced.isdecimal() and int(announced) else max_size
    if size > limit:
        raise _failure("too-long", f"the message has {size} bytes, the server takes {limit}", rule="RFC 1870")
    return [f"size={size}"] if smtp.has_extn("size") else []


def _report_options(envelope_id: str) -> list[str]:
    """RFC 3461: headers are enough of what did not arrive, and the report repeats the envelope id."""
    written = _xtext(envelope_id)
    return ["RET=HDRS", *([f"ENVID={written}"] if len(written) <= _LONGEST_ENVID else ())]


def _recipient_options(recipient: str) -> list[str]:
    return ["NOTIFY=SUCCESS,FAILURE,DELAY", f"ORCPT=rfc822;{_xtext(recipient)}"]


def _xtext(text: str) -> str:
    """RFC 3461 §4: printable ASCII, with `+` and `=` in hexadecimal."""
    return "".join(char if "!" <= char <= "~" and char not in "+=" else f"+{ord(char):02X}" for char in text)


def _dot_stuffed(message: bytes) -> bytes:
    """The lines of a message as DATA carries them, the final dot not yet among them."""
    ends = message.count(b"\r\n")
    if not message.count(b"\n") == message.count(b"\r") == ends:
        message = _LINE_ENDS.sub(b"\r\n", message)
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def _expect(reply: Reply, code: int) -> None:
    if reply[0] != code:
        raise smtplib.SMTPResponseException(reply[0], reply[1])


def _refusals(refused: Mapping[int, Reply]) -> list[Issue]:
    return [
        Issue(
            "error",
            "not-found" if code >= 500 else "transient",
            quoted(f"refused{'' if code >= 500 else ' for now'}: {code} {_text(reply)}"),
            f"recipients[{number}]",
            "RFC 5321",
        )
        for number, (code, reply) in refused.items()
    ]


def _transport_failure(error: OSError, *, certified: bool) -> DeliveryError:
    """RFC 5321 §4.2.1: 4xx may be tried again, 5xx not. A connection that fails may, a certificate that fails not."""
    if isinstance(error, smtplib.SMTPResponseException):
        transient = 400 <= error.smtp_code < 500
        message = quoted(f"the mail server answers {error.smtp_code} {_text(error.smtp_error)}")
        issue = Issue("error", "transient" if transient else "processing", message, rule="RFC 5321")
        return UnsentError(issue) if transient else DeliveryError(issue, retry=False)
    secured = next((cause for cause in _causes(error) if isinstance(cause, SSLError)), None)
    final = tls.failure(secured, "mss", _SERVER) if secured is not None else None
    if final is not None:
        return final
    if any(isinstance(cause, TimeoutError) for cause in _causes(error)):
        return UnsentError(Issue("error", "timeout", "the mail server does not answer in time: nothing was sent"))
    why = f" ({error.strerror})" if error.strerror and not isinstance(error, smtplib.SMTPException) else ""
    if isinstance(error, smtplib.SMTPServerDisconnected) and not certified:
        why = " (it hung up: without mss_certificate no certificate was shown to it)"  # TLS 1.3 tells nobody else
    return UnsentError(Issue("error", "transient", f"the connection to the mail server failed{why}: nothing was sent"))


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error and what it was raised from: smtplib wraps what the socket says."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__context__
    return found


def _text(reply: bytes | str) -> str:
    return reply if isinstance(reply, str) else reply.decode("utf-8", "replace")


def _failure(code: str, message: str, path: str = "", *, retry: bool = False, rule: str = "") -> DeliveryError:
    return DeliveryError(Issue("error", code, message, path, rule), retry=retry)
