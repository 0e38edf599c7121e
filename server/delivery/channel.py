"""What every delivery channel has in common: the shipment it sends, the receipt it returns, how it fails, its evidence.

A channel hands the bytes of each exchange to `record`, as they crossed the wire: they are the evidence of the attempt
(`relais deliveries evidence`). Whoever makes the attempt collects them inside `recording`; elsewhere they are dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from relais.cda.errors import Issue, RelaisError
from relais.cda.identifiers import MATRICULE
from relais.cda.xds import Submission

MAX_QUOTE = 300

Action = Literal["send", "withdraw"]
"""`send` a document, which may replace the former version; `withdraw` one that was sent before."""

Acknowledgement = Literal["reception", "reading"]
"""What a receiver may be asked to say later: the mailbox has the message, somebody has read or integrated it."""

EVERY_ACKNOWLEDGEMENT: tuple[Acknowledgement, ...] = ("reception", "reading")


@dataclass(frozen=True, slots=True)
class Shipment:
    """Everything a channel needs to send one document; fixed when the order is accepted, the same on every attempt.

    What is hidden from whom stands in the confidentiality codes of the entry. To `withdraw`, the document and its entry
    are those that were sent. `annuls` is the Message-ID of the mail that brought the former version to the recipient.
    `follows`: the receiver has, or may have, a version that a document which replaces one takes the place of. `secret`:
    the DMP is to keep the access from the legal representatives of a minor. `visibility_only`: the document says what
    the version before it said, and is hidden from others. `as_before`: nobody said from whom it is to be hidden, so
    what was hidden by hand where it lies stays hidden. `dmp_is_fed`: Relais brings the document to the DMP itself, so
    no platform is asked to.
    """

    document: bytes
    submission: Submission
    recipients: tuple[str, ...]  # mailboxes; empty for the DMP
    message_id: str  # RFC 5322 Message-ID, with angle brackets
    action: Action = "send"
    acknowledgements: tuple[Acknowledgement, ...] = EVERY_ACKNOWLEDGEMENT
    annuls: str = ""
    follows: bool = True
    secret: bool = False
    visibility_only: bool = False
    as_before: bool = False
    dmp_is_fed: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the counterpart answered when it took the document, in one line fit for the Task.

    `remark` is what to know of an attempt that ended well and changed nothing, or not what people may think.
    """

    detail: str
    remark: str = ""


class DeliveryError(RelaisError):
    """A failed attempt. `retry` says whether the same shipment may be sent again."""

    def __init__(self, issues: Issue | Iterable[Issue], *, retry: bool) -> None:
        super().__init__(issues)
        self.retry = retry


class UnsentError(DeliveryError):
    """A failed attempt that may be made again, after which the receiver surely does not have the document.

    It was not reached, or said for now that it does not take it.
    """

    def __init__(self, issues: Issue | Iterable[Issue]) -> None:
        super().__init__(issues, retry=True)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came back, byte for byte; `response` is None when nothing came.

    The request is kept in the pieces in which it was made, so that a large document in it is not copied.
    `step` is the transaction (`ITI-41`, `SMTP`, `MLLP`), `endpoint` the address without secrets. HTTP bytes begin with
    the header fields that tell how to read the body; of SMTP the request is the message as submitted after DATA, the
    response every line the server said.
    """

    step: str
    endpoint: str
    started: datetime
    ended: datetime
    pieces: tuple[bytes, ...]
    response: bytes | None

    @property
    def request(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


_recorded: ContextVar[list[Exchange] | None] = ContextVar("recorded", default=None)


@contextlib.contextmanager
def recording() -> Iterator[list[Exchange]]:
    """Collect the exchanges that are recorded inside the block, by this thread."""
    exchanges: list[Exchange] = []
    token = _recorded.set(exchanges)
    try:
        yield exchanges
    finally:
        _recorded.reset(token)


def record(
    step: str, endpoint: str, started: datetime, request: bytes | Iterable[bytes], response: bytes | None
) -> None:
    """Keep an exchange that ends now as evidence of the attempt under way; call it before judging the answer."""
    pieces = (request,) if isinstance(request, bytes) else tuple(request)
    exchanges = _recorded.get()
    if exchanges is not None:
        exchanges.append(Exchange(step, endpoint, started, datetime.now(UTC), pieces, response))


_ENTRIES = uuid.UUID("6f0c8e0a-5d0b-5a53-9f4e-0f6a3c1b7e21")


def entry_uuid(document: str) -> str:
    """The entryUUID of a document (`root` or `root^extension` of its id) in the registry.

    Chosen here, the same on every attempt, and kept by a registry that lets senders choose.
    """
    return f"urn:uuid:{uuid.uuid5(_ENTRIES, document)}"


class Channel(Protocol):
    """One way out of Relais."""

    name: str

    def send(self, shipment: Shipment) -> Receipt:
        """Carry out the action of the shipment once, within the configured time. Raises DeliveryError."""
        ...


def check_integrity(shipment: Shipment) -> None:
    """Refuse a shipment whose metadata do not describe exactly its document (one entry, same size, same SHA-1)."""
    entries = shipment.submission.entries
    if len(entries) != 1:
        raise _refusal(f"one document is sent at a time, the metadata describe {len(entries)}", "entries", "XDS")
    if entries[0].size != len(shipment.document):
        raise _refusal("size differs from the document", "entries[0].size", "XDSNonIdenticalSize")
    if entries[0].hash.lower() != hashlib.sha1(shipment.document, usedforsecurity=False).hexdigest():
        raise _refusal("hash differs from the document", "entries[0].hash", "XDSNonIdenticalHash")


def _refusal(message: str, path: str, rule: str) -> DeliveryError:
    return DeliveryError(Issue("error", "invalid", message, f"submission.{path}", rule), retry=False)


@contextlib.contextmanager
def making_the_message() -> Iterator[None]:
    """What makes a message impossible to compose will do so on every attempt: a DeliveryError without retry."""
    try:
        yield
    except DeliveryError:
        raise
    except RelaisError as error:
        raise DeliveryError(error.issues, retry=False) from error


def quoted(text: str) -> str:
    """A counterpart's own words as one short line, any matricule INS in them masked."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    line = MATRICULE.sub("…", line)
    return line if len(line) <= MAX_QUOTE else line[: MAX_QUOTE - 1] + "…"
