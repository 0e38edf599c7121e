"""The IMAP side of the sandbox operator: IMAP4rev1 (RFC 3501) as far as software that empties a mailbox uses it.

STARTTLS before the login, which is by the client certificate (SASL EXTERNAL) or by password; IDLE, MOVE, UIDPLUS. What
is not here is answered BAD. A thread for each connection.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable

from relais.cda.errors import Issue, RelaisError
from relais.server.delivery.socket_server import SocketServer
from relais.server.sandbox.faults import Faults
from relais.server.sandbox.mailboxes import INBOX, Folder, Mailboxes, Message

_LINE = 65_536
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\((?:[^()"]|"[^"]*")*\)|[^\s()]+')
_CAPABILITIES = "IMAP4rev1 IDLE MOVE UIDPLUS SASL-IR"
_GLANCE = 0.2
_MOST_CONNECTIONS = 1_000
_SECOND = "$Second"  # the flag of what TWICE has added: it is not doubled again
SLOWNESS = 1.0


class ImapFault(enum.Enum):
    """What the IMAP server can do wrong."""

    CUT_IN_FETCH = "the connection is cut in the middle of a message"
    CUT_AFTER_MOVE = "the messages are moved, the connection is cut before the answer"
    REFUSE_LOGIN = "the login is refused"
    TWICE = "the message that is fetched comes a second time, as another one"
    SLOW = "messages come after `SLOWNESS` seconds"
    NONSENSE = "an answer that is not IMAP instead of the message"


class ImapServer:
    """Listens at `host`:`port` and serves `mailboxes`. Without a context there is no TLS, and no EXTERNAL.

    `password` is that of every mailbox; empty: none is taken. A mailbox may be opened with any certificate that the
    context accepts.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        context: ssl.SSLContext | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        password: str = "",
    ) -> None:
        self.faults: Faults[ImapFault] = Faults()
        self.mailboxes = mailboxes
        self.host, self.port = host, port
        self.context = context
        self.password = password
        self._server: SocketServer | None = None

    def start(self) -> None:
        """Listen; a port 0 becomes a free one, kept for later starts. Raises RelaisError when it cannot."""
        try:
            self._server = SocketServer((self.host, self.port), self._serve, None, _MOST_CONNECTIONS)
        except OSError as error:
            message = f"cannot listen on {self.host}:{self.port}: {error.strerror}"
            raise RelaisError(Issue("fatal", "conflict", message, rule="sandbox")) from error
        self.port = self._server.server_address[1]
        self._server.start("sandbox-imap")

    def _serve(self, connection: socket.socket) -> None:
        assert self._server is not None  # noqa: S101 - it serves
        _Session(self, self._server, connection).run()

    def stop(self) -> None:
        """Cut every connection and stop listening."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> ImapServer:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


class _RefusedError(Exception):
    """A command that is answered NO or BAD, with the text of the answer."""


class _Session:
    """One IMAP session."""

    def __init__(self, service: ImapServer, server: SocketServer, connection: socket.socket) -> None:
        self._service, self._server, self._accepted = service, server, connection
        self._user: str | None = None
        self._folder: Folder | None = None
        self._told = 0  # messages that the client knows of
        self._connection = connection
        self._is_secure = False
        self._reader = connection.makefile("rb")

    def run(self) -> None:
        """Serve until the client says goodbye or is gone."""
        with contextlib.suppress(OSError):
            self._say(f"* OK [CAPABILITY {self._capabilities()}] Relais sandbox")
            while line := self._reader.readline(_LINE):
                if not self._command(line.decode("utf-8", "replace").rstrip("\r\n")):
                    break
        self._reader.close()

    # --- commands ---

    def _command(self, line: str) -> bool:
        """Carry out a line; False ends the session."""
        tag, _, rest = line.partition(" ")
        name, _, arguments = rest.partition(" ")
        name = name.upper()
        if name == "UID":
            sub, _, arguments = arguments.partition(" ")
            name = f"UID_{sub.upper()}"
        if name == "UID_FETCH" and self._service.faults.take(ImapFault.SLOW):
            time.sleep(SLOWNESS)
        try:
            answer = self._execute(name, tag, arguments)
        except _RefusedError as refused:
            answer = str(refused)
        self._say(f"{tag} {answer}")
        if name == "STARTTLS" and answer.startswith("OK"):
            self._secure()
        return name != "LOGOUT"

    def _execute(self, name: str, tag: str, arguments: str) -> str:
        command: Callable[[str, str], str] | None = getattr(self, f"_do_{name.lower()}", None)
        if command is None:
            raise _RefusedError("BAD unknown command")
        if self._user is None and name not in _BEFORE_LOGIN:
            raise _RefusedError("NO log in first")
        with self._service.mailboxes.lock if name != "IDLE" else contextlib.nullcontext():
            return command(tag, arguments)

    def _do_capability(self, _tag: str, _arguments: str) -> str:
        self._say(f"* CAPABILITY {self._capabilities()}")
        return "OK done"

    def _do_noop(self, _tag: str, _arguments: str) -> str:
        return "OK done"

    def _do_logout(self, _tag: str, _arguments: str) -> str:
        self._say("* BYE goodbye")
        return "OK done"

    def _do_starttls(self, _tag: str, _arguments: str) -> str:
        if self._service.context is None or self._is_secure:
            raise _RefusedError("BAD no TLS here")
        return "OK begin"

    def _do_login(self, _tag: str, arguments: str) -> str:
        user, password = map(_unquoted, _arguments(arguments, 2))
        return self._log_in(user, password == self._service.password and bool(password))

    def _do_authenticate(self, _tag: str, arguments: str) -> str:
        mechanism, _, response = arguments.partition(" ")
        if not response:
            self._say("+ ")
            response = self._reader.readline(_LINE).decode("ascii", "replace").strip()
        try:
            said = base64.b64decode(response, validate=True).decode() if response != "=" else ""
        except (binascii.Error, UnicodeDecodeError):
            raise _RefusedError("BAD not base64") from None
        if mechanism.upper() == "EXTERNAL":
            certificate = self._connection.getpeercert() if isinstance(self._connection, ssl.SSLSocket) else None
            return self._log_in(said, bool(certificate) and "@" in said)
        if mechanism.upper() == "PLAIN":
            _, user, password = [*said.split("\0"), "", ""][:3]
            return self._log_in(user, password == self._service.password and bool(password))
        raise _RefusedError("NO mechanism not offered")

    def _log_in(self, user: str, proven: bool) -> str:
        if self._service.context is not None and not self._is_secure:
            raise _RefusedError("NO [PRIVACYREQUIRED] STARTTLS first")
        if not proven or self._service.faults.take(ImapFault.REFUSE_LOGIN):
            raise _RefusedError("NO [AUTHENTICATIONFAILED] refused")
        self._user = user
        return f"OK [CAPABILITY {self._capabilities()}] logged in"

    def _do_list(self, _tag: str, arguments: str) -> str:
        pattern = _unquoted(_arguments(arguments, 2)[1])
        wanted = re.compile(re.escape(pattern).replace(r"\*", ".*").replace("%", "[^/]*"))
        for name in self._folders():
            if wanted.fullmatch(name):
                self._say(f'* LIST (\\HasNoChildren) "/" "{name}"')
        return "OK done"

    def _do_create(self, _tag: str, arguments: str) -> str:
        name = _unquoted(arguments)
        if name in self._folders():
            raise _RefusedError("NO [ALREADYEXISTS] there is one")
        self._folders()[name] = Folder()
        return "OK done"

    def _do_select(self, _tag: str, arguments: str) -> str:
        self._folder = folder = self._named(arguments)
        self._say(r"* FLAGS (\Answered \Flagged \Deleted \Seen \Draft)")
        self._told = len(folder.messages)
        self._say(f"* {self._told} EXISTS")
        self._say("* 0 RECENT")
        self._say(f"* OK [UIDVALIDITY {folder.validity}] valid")
        self._say(f"* OK [UIDNEXT {folder.next_uid}] next")
        return "OK [READ-WRITE] selected"

    def _do_append(self, _tag: str, _arguments: str) -> str:
        raise _RefusedError("NO read this mailbox only")

    def _do_idle(self, _tag: str, _arguments: str) -> str:
        """Tell what comes until the client says DONE."""
        folder = self._selected()
        self._say("+ idling")
        while not self._has_something_to_say():
            if len(folder.messages) != self._told:
                self._told = len(folder.messages)
                self._say(f"* {self._told} EXISTS")
        done = self._reader.readline(_LINE)
        return "OK done" if done.strip().upper() == b"DONE" else "BAD DONE expected"

    def _has_something_to_say(self) -> bool:
        """Whether the client says something, or is gone; waits a moment."""
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return True
        return bool(select.select([self._connection], [], [], _GLANCE)[0])

    # --- messages ---

    def _do_uid_search(self, _tag: str, arguments: str) -> str:
        criteria = arguments.upper()
        if criteria not in ("ALL", "UNSEEN"):
            raise _RefusedError("BAD only ALL and UNSEEN")
        found = [m.uid for m in self._selected().messages if criteria == "ALL" or "\\Seen" not in m.flags]
        self._say(" ".join(["* SEARCH", *map(str, found)]))
        return "OK done"

    def _do_uid_fetch(self, _tag: str, arguments: str) -> str:
        uids, _, items = arguments.partition(" ")
        names = items.upper().strip("()").split()
        for number, message in self._found(uids):
            parts = [b"UID %d" % message.uid]
            for name in names:
                if name == "RFC822.SIZE":
                    parts.append(b"RFC822.SIZE %d" % len(message.content))
                elif name == "FLAGS":
                    parts.append(b"FLAGS (%b)" % " ".join(sorted(message.flags)).encode())
                elif name in ("BODY.PEEK[]", "BODY.PEEK[HEADER]"):
                    parts.append(self._body(message, name))
                elif name != "UID":
                    raise _RefusedError("BAD item not known")
            self._send(b"* %d FETCH (%b)\r\n" % (number, b" ".join(parts)))
        return "OK done"

    def _body(self, message: Message, name: str) -> bytes:
        head = message.content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        data = message.content if name == "BODY.PEEK[]" else head
        literal = b"%b {%d}\r\n%b" % (name.replace(".PEEK", "").encode(), len(data), data)
        fault = self._service.faults.take(ImapFault.CUT_IN_FETCH, ImapFault.TWICE, ImapFault.NONSENSE)
        if fault is ImapFault.CUT_IN_FETCH:
            self._send(b"* 1 FETCH (UID %d %b" % (message.uid, literal[: len(literal) // 2]))
            self._cut()
        elif fault is ImapFault.NONSENSE:
            self._say("HTTP/1.1 200 OK")
            self._cut()
        elif fault is ImapFault.TWICE and _SECOND not in message.flags:
            self._selected().add(message.content, {_SECOND})
        return literal

    def _do_uid_store(self, _tag: str, arguments: str) -> str:
        uids, action, flags = _arguments(arguments, 3)
        if action.upper() not in ("+FLAGS", "+FLAGS.SILENT"):
            raise _RefusedError("BAD only +FLAGS")
        for number, message in self._found(uids):
            message.flags |= set(flags.strip("()").split())
            if not action.upper().endswith("SILENT"):
                self._say(f"* {number} FETCH (UID {message.uid} FLAGS ({' '.join(sorted(message.flags))}))")
        return "OK done"

    def _do_uid_copy(self, _tag: str, arguments: str) -> str:
        uids, _, name = arguments.partition(" ")
        self._copy(uids, name)
        return "OK done"

    def _do_uid_move(self, _tag: str, arguments: str) -> str:
        uids, _, name = arguments.partition(" ")
        moved = self._copy(uids, name)
        if self._service.faults.take(ImapFault.CUT_AFTER_MOVE):
            self._selected().messages = [m for m in self._selected().messages if m not in moved]
            self._cut()
        self._remove(moved)
        return "OK done"

    def _do_expunge(self, _tag: str, _arguments: str) -> str:
        self._remove([m for m in self._selected().messages if "\\Deleted" in m.flags])
        return "OK done"

    def _do_uid_expunge(self, _tag: str, arguments: str) -> str:
        self._remove([m for _, m in self._found(arguments) if "\\Deleted" in m.flags])
        return "OK done"

    def _copy(self, uids: str, name: str) -> list[Message]:
        target = self._named(name)
        found = [message for _, message in self._found(uids)]
        for message in found:
            target.add(message.content, message.flags - {"\\Deleted"})
        return found

    def _remove(self, gone: list[Message]) -> None:
        folder = self._selected()
        for message in gone:
            number = next(at for at, one in enumerate(folder.messages, 1) if one is message)
            folder.messages.remove(message)
            self._told -= 1
            self._say(f"* {number} EXPUNGE")

    def _found(self, uids: str) -> Iterable[tuple[int, Message]]:
        """The messages of a set of uids, with their numbers."""
        folder = self._selected()
        highest = max((message.uid for message in folder.messages), default=0)
        wanted = _uid_set(uids, highest)
        return [(number, message) for number, message in enumerate(folder.messages, 1) if message.uid in wanted]

    # --- session ---

    def _folders(self) -> dict[str, Folder]:
        return self._service.mailboxes.folders(self._user or "")

    def _named(self, name: str) -> Folder:
        found = _unquoted(name)
        folder = self._folders().get(INBOX if found.upper() == INBOX else found)
        if folder is None:
            raise _RefusedError("NO [TRYCREATE] no such folder")
        return folder

    def _selected(self) -> Folder:
        if self._folder is None:
            raise _RefusedError("BAD select a folder first")
        return self._folder

    def _capabilities(self) -> str:
        if self._service.context is not None and not self._is_secure:
            return f"{_CAPABILITIES} STARTTLS LOGINDISABLED"
        return f"{_CAPABILITIES} AUTH=EXTERNAL AUTH=PLAIN"

    def _secure(self) -> None:
        assert self._service.context is not None  # noqa: S101 - _do_starttls has looked
        self._reader.close()
        self._connection = self._server.secure(self._accepted, self._service.context)
        self._reader = self._connection.makefile("rb")
        self._is_secure = True

    def _say(self, line: str) -> None:
        self._send(line.encode() + b"\r\n")

    def _send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def _cut(self) -> None:
        socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
        raise ConnectionAbortedError


_BEFORE_LOGIN = frozenset({"CAPABILITY", "NOOP", "LOGOUT", "STARTTLS", "LOGIN", "AUTHENTICATE"})


def _arguments(text: str, count: int) -> list[str]:
    """The first arguments of a command, empty where they are missing."""
    return [*_TOKEN.findall(text), *[""] * count][:count]


def _unquoted(text: str) -> str:
    text = text.strip()
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _uid_set(text: str, highest: int) -> set[int]:
    """`1,3:5,7:*` as numbers. Raises _RefusedError when it is none."""
    wanted: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition(":")
        try:
            low, high = (highest if bound == "*" else int(bound) for bound in (first, last or first))
        except ValueError:
            raise _RefusedError("BAD not a set of uids") from None
        wanted |= set(range(min(low, high), min(max(low, high), highest) + 1))
    return wanted
