"""The mailboxes of the sandbox operator: folders of messages in memory, shared by its SMTP and its IMAP server."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

INBOX = "INBOX"


@dataclass(slots=True)
class Message:
    """One message of a folder; `uid` is never given twice there."""

    uid: int
    content: bytes
    flags: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Folder:
    """A folder; a new `validity` says that uids known so far mean nothing any more (RFC 3501 §2.3.1.1).

    The folders of an earlier run are gone, and their uids are given again.
    """

    validity: int = field(default_factory=lambda: int(time.time()))
    next_uid: int = 1
    messages: list[Message] = field(default_factory=list)

    def add(self, content: bytes, flags: set[str] | None = None) -> Message:
        """Append a message."""
        message = Message(self.next_uid, content, set(flags or ()))
        self.next_uid += 1
        self.messages.append(message)
        return message


class Mailboxes:
    """Every mailbox of the operator, made when first named. Use `lock` around what reads several folders."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._boxes: dict[str, dict[str, Folder]] = {}

    def folders(self, mailbox: str) -> dict[str, Folder]:
        """The folders of a mailbox by name; there is always an inbox."""
        return self._boxes.setdefault(mailbox.lower(), {INBOX: Folder()})

    def deliver(self, mailbox: str, content: bytes, *, sender: str) -> None:
        """Put a message into the inbox, as a delivery agent does (Return-Path, RFC 5321 §4.4)."""
        with self.lock:
            self.folders(mailbox)[INBOX].add(b"Return-Path: <%b>\r\n%b" % (sender.encode(), content))

    def contents(self, mailbox: str, folder: str = INBOX) -> list[bytes]:
        """The messages of a folder, oldest first."""
        with self.lock:
            return [message.content for message in self.folders(mailbox).get(folder, Folder()).messages]

    def renumber(self, mailbox: str) -> None:
        """Give every message of the inbox a new uid, as after the operator has restored it."""
        with self.lock:
            former = self.folders(mailbox)[INBOX]
            renewed = Folder(former.validity + 1)
            for message in former.messages:
                renewed.add(message.content, message.flags)
            self.folders(mailbox)[INBOX] = renewed
