"""Reading of MSSanté mailboxes by IMAP (RFC 3501 and 9051): what is new is taken, then moved where it belongs.

STARTTLS with the client certificate, IDLE (RFC 2177) where the server has it, else a look now and then, MOVE (RFC 6851)
or its three steps. Nothing is deleted: mails go to the folder of those processed or to that of the quarantined, and
what is for people stays. A connection that is lost is made anew; a mail is only moved once the database has it.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Iterator

from imapclient import SEEN, IMAPClient, SocketTimeout
from imapclient.exceptions import CapabilityError, IMAPClientError, LoginError

from relais.cda.errors import Issue, RelaisError
from relais.server.delivery import tls
from relais.server.delivery.channel import DeliveryError, quoted
from relais.server.delivery.mail_inbox import Mail, MailInbox, State
from relais.server.delivery.mail_login import password
from relais.server.faults import described
from relais.server.settings import Settings

log = logging.getLogger("relais.mailbox")

_INBOX = "INBOX"
_SERVER = "the IMAP server"
_BATCH = 100  # messages whose sizes are asked for at once
_GLANCE = 1.0  # seconds between two looks whether to stop
_RECONNECT = 5.0
_MOVED: tuple[State, ...] = ("imported", "report", "duplicate", "quarantined")


class Mailbox:
    """One mailbox, read by one connection at a time."""

    def __init__(self, settings: Settings, address: str, inbox: MailInbox) -> None:
        self._settings = settings
        self._address = address
        self._inbox = inbox

    def run(self, stop: threading.Event) -> None:
        """Read what is there and what comes, until `stop` is set; a server or store that is down is waited for."""
        while not stop.is_set():
            try:
                with self._connected() as client:
                    while not stop.is_set():
                        if not self._sweep(client, stop):  # what comes meanwhile is told with its answers, not by IDLE
                            self._wait(client, stop)
            except Exception as error:  # noqa: BLE001 - nothing ends the reading of a mailbox but `stop`
                log.error("mailbox %s: %s; it is tried again", self._address, self._explained(error))
                stop.wait(_RECONNECT)

    def read_once(self) -> int:
        """Take what is there now; how many mails were taken. Raises DeliveryError when the mailbox cannot be read."""
        try:
            with self._connected() as client:
                return self._sweep(client, threading.Event())
        except (OSError, IMAPClientError) as error:
            raise DeliveryError(Issue("error", "transient", self._explained(error), rule="IMAP"), retry=True) from error

    # --- taking ---

    def _sweep(self, client: IMAPClient, stop: threading.Event) -> int:
        """Take every mail that was not taken yet, move those that are done with, send the answers owed."""
        validity = int(client.select_folder(_INBOX)[b"UIDVALIDITY"])
        uids = sorted(client.search("ALL"))
        known = self._inbox.known(self._address, validity, uids[0]) if uids else {}
        waiting = [uid for uid in uids if known.get(uid) != "other"]
        taken = 0
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            for uid, found in sorted(client.fetch(batch, ["RFC822.SIZE"]).items()):
                if stop.is_set():
                    return taken
                state = known.get(uid, "new")
                if state == "new":
                    state = self._take(client, validity, uid, int(found[b"RFC822.SIZE"]))
                    taken += state != "new"
                if state in _MOVED:
                    self._move(client, uid, state)
        self._inbox.answer()
        self._inbox.forget()
        return taken

    def _take(self, client: IMAPClient, validity: int, uid: int, size: int) -> State:
        fits = size <= self._settings.imap_max_size
        part = "BODY.PEEK[]" if fits else "BODY.PEEK[HEADER]"
        fetched = client.fetch([uid], [part]).get(uid)
        if fetched is None:  # another reader has moved it
            return "new"
        content = next(value for name, value in fetched.items() if name.startswith(b"BODY["))
        mail = Mail(self._address, validity, uid, content)
        try:
            if fits:
                return self._inbox.take(mail)
            return self._inbox.refuse(mail, f"the mail has {size} bytes, {self._settings.imap_max_size} are fetched")
        except RelaisError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a mail does, the others are read
            log.error("mailbox %s, mail %d: a fault of Relais: %s", self._address, uid, described(error))
            return "new"

    def _move(self, client: IMAPClient, uid: int, state: State) -> None:
        settings = self._settings
        folder = settings.imap_quarantine_folder if state == "quarantined" else settings.imap_done_folder
        if not client.folder_exists(folder):
            client.create_folder(folder)
        if state != "quarantined":
            client.add_flags([uid], [SEEN])
        if client.has_capability("MOVE"):
            client.move([uid], folder)
            return
        client.copy([uid], folder)
        client.delete_messages([uid])
        client.expunge([uid] if client.has_capability("UIDPLUS") else None)

    def _wait(self, client: IMAPClient, stop: threading.Event) -> None:
        """Until something comes, the time between two looks is over, or `stop` is set."""
        if not client.has_capability("IDLE"):
            stop.wait(self._settings.imap_poll)
            return
        until = time.monotonic() + self._settings.imap_poll
        client.idle()
        try:
            while not stop.is_set() and time.monotonic() < until:
                if client.idle_check(timeout=_GLANCE):
                    break
        finally:
            client.idle_done()

    # --- connecting ---

    @contextlib.contextmanager
    def _connected(self) -> Iterator[IMAPClient]:
        """A connection that is logged in; always ended."""
        settings = self._settings
        timeout = SocketTimeout(settings.sender_timeout, settings.sender_timeout)
        client = IMAPClient(settings.imap_host or settings.mss_host, settings.imap_port, ssl=False, timeout=timeout)
        try:
            if settings.imap_starttls:
                client.starttls(tls.client_context(settings, "mss"))
            self._log_in(client)
            yield client
        finally:
            with contextlib.suppress(OSError, IMAPClientError):
                client.logout()
            with contextlib.suppress(OSError, IMAPClientError):
                client.shutdown()

    def _log_in(self, client: IMAPClient) -> None:
        if self._settings.mss_login == "plain":
            client.login(self._address, password(self._settings))
        else:
            client.sasl_login("EXTERNAL", lambda _challenge: self._address.encode())

    def _explained(self, error: Exception) -> str:
        """What went wrong, for the log and the operator."""
        if isinstance(error, RelaisError):
            return str(error)
        if isinstance(error, ssl.SSLError) and (final := tls.failure(error, "mss", _SERVER)):
            return "; ".join(f"{issue.path}: {issue.message}" for issue in final.issues)
        if isinstance(error, CapabilityError):
            return quoted(f"{_SERVER} lacks what is needed: {error}")
        if isinstance(error, LoginError):
            return quoted(f"{_SERVER} refuses the login: {error}")
        if isinstance(error, TimeoutError):
            return f"{_SERVER} does not answer in time"
        if isinstance(error, ConnectionError):
            return f"{_SERVER} cannot be reached"
        return described(error)
