"""The HL7 v2 counterpart: a platform (PFI) that takes MDM and ORU over MLLP, answers ACK and sends ZAM on request.

CI-SIS volet "Transmission de documents CDA-R2 en HL7v2" 2.1. A message is taken only when the reader of Relais and the
second reading of `hl7v2_checks` agree to it. Taken twice, it gets the acknowledgement of the first time.
"""

from __future__ import annotations

import enum
import hashlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from relais.cda.datatypes import ts_from_datetime
from relais.cda.errors import Issue, RelaisError
from relais.mappings.hl7v2 import er7
from relais.mappings.hl7v2.acknowledgement import (
    Acknowledgement,
    ErrorCondition,
    acknowledge,
    read_acknowledgement,
)
from relais.mappings.hl7v2.document import replaced_ids
from relais.mappings.hl7v2.er7 import Segment
from relais.mappings.hl7v2.findings import Finding, Place, answer_code
from relais.mappings.hl7v2.order import TransmissionOrder
from relais.mappings.hl7v2.reading import Policy, Received, examine, read
from relais.mappings.hl7v2.zam import Trigger, Zam, write_zam
from relais.server.delivery import mllp
from relais.server.delivery.mllp import MllpClient, MllpServer
from relais.server.sandbox.faults import Faults
from relais.server.sandbox.files import write_whole
from relais.server.sandbox.hl7v2_checks import second_opinion

MAX_MESSAGE = 50_000_000
SILENCE = 60.0
"""Seconds without an answer when a fault asks for silence; the end of the platform cuts it short."""

_RULE = "sandbox"
_UNKNOWN_MAILBOX = ErrorCondition("207", application="550", application_label="Boîte aux lettres inconnue")
_NOT_REPLACED = ErrorCondition("207", application="XDSReplaceFailed", application_label="Document à remplacer inconnu")


class PlatformFault(enum.Enum):
    """What the platform can do wrong, and whether it keeps the message when it does."""

    REFUSES = "AE 207, nothing kept"
    SILENT_BEFORE = "no answer, nothing kept"
    SLOW = "the answer comes after `slowness` seconds, message kept"
    SILENT_AFTER = "no answer, message kept"
    CUT_AFTER = "the connection is cut, message kept"
    OTHER_ID = "the ACK of another message, message kept"
    GARBAGE = "an answer that is not HL7, message kept"
    ACK_TWICE = "the acknowledgement comes twice, message kept"


_BEFORE = (PlatformFault.REFUSES, PlatformFault.SILENT_BEFORE)
_AFTER = tuple(fault for fault in PlatformFault if fault not in _BEFORE)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message taken by the platform."""

    control_id: str
    event: str  # T02, R01…
    path: Path
    document: Path

    def __str__(self) -> str:
        """One line that names no patient."""
        return f"{self.control_id} ({self.event}), {self.path}"


class Hl7v2Platform:
    """Listens at `host`:`port`. `folder` keeps messages, documents and acknowledgements of what was taken (`taken/`)
    and what was refused beside its reasons (`refused/`).

    `dmp_error` is what a Z01 reports instead of success; `unknown` names the mailboxes of which a Z02 says no.
    """

    def __init__(
        self,
        folder: Path,
        context: ssl.SSLContext | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        policy: Policy | None = None,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self.faults: Faults[PlatformFault] = Faults()
        self.slowness = 1.0
        self.dmp_error: ErrorCondition | None = None
        self.unknown: set[str] = set()
        self._taken, self._refused = folder / "taken", folder / "refused"
        self._policy = policy or Policy(ins_environment="test")
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        tls = None if context is None else lambda: context
        self._server = MllpServer(self._handle, host=host, port=port, context=tls, max_size=max_message)
        for place in (self._taken, self._refused):
            place.mkdir(parents=True, exist_ok=True)

    @property
    def host(self) -> str:
        """Address it listens on."""
        return self._server.host

    @property
    def port(self) -> int:
        """Port it listens on, known once started."""
        return self._server.port

    def start(self) -> None:
        """Listen; a port 0 becomes a free one, kept for later starts. Raises RelaisError when it cannot."""
        self._stopping.clear()
        try:
            self._server.start()
        except OSError as error:
            message = f"cannot listen on {self.host}:{self.port}: {error.strerror}"
            raise RelaisError(Issue("fatal", "conflict", message, rule=_RULE)) from error

    def stop(self) -> None:
        """Cut every connection and stop listening; what was taken stays in the folder."""
        self._stopping.set()
        self._server.stop()

    def __enter__(self) -> Hl7v2Platform:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def messages(self) -> list[StoredMessage]:
        """Every message taken, oldest first."""
        paths = sorted(self._taken.glob("*.er7"), key=lambda path: path.stat().st_mtime_ns)
        return [_stored(path) for path in paths]

    # --- messages in ---

    def _handle(self, received: mllp.Received) -> bytes | None:
        header = er7.header_of(received.message)
        if received.kind == "too-long":
            return _answer(header, Finding.error("199", Place("MSH"), "longer than this platform takes", _RULE))
        fault = self.faults.take(*_BEFORE)
        if fault is PlatformFault.REFUSES:
            return _answer(header, Finding.error("207", Place("MSH"), "asked of the sandbox", _RULE, "906"))
        if fault is PlatformFault.SILENT_BEFORE:
            self._stopping.wait(SILENCE)
            return None
        with self._lock:
            answer = self._take(received.message, header)
        return self._spoiled(answer, header)

    def _take(self, message: bytes, header: Segment | None) -> bytes:
        name = _key(header) if header else hashlib.sha256(message).hexdigest()[:32]
        path = self._taken / f"{name}.er7"
        if path.exists() and path.read_bytes() == message:
            return path.with_suffix(".ack").read_bytes()
        examined = examine(message, self._policy)
        errors = examined.findings.errors
        if path.exists():
            text = "another message was taken under this MSH-10"
            errors = [Finding.error("207", Place("MSH", 1, 10), text, _RULE, "906")]
        elif not errors:
            errors = [_objection(text) for text in second_opinion(er7.parse(message).source)]
        if errors or examined.received is None:
            write_whole(self._refused / f"{name}.er7", message)
            write_whole(self._refused / f"{name}.txt", "\n".join(str(error.issue) for error in errors).encode())
            return _answer(header, *errors)
        answer = _answer(header)
        write_whole(path.with_suffix(".xml"), examined.received.document)
        write_whole(path.with_suffix(".ack"), answer)
        write_whole(path, message)  # last: it is what makes the message taken
        return answer

    def _spoiled(self, answer: bytes, header: Segment | None) -> bytes | None:
        """The answer, or what a fault makes of it."""
        fault = self.faults.take(*_AFTER)
        if fault is PlatformFault.SLOW:
            self._stopping.wait(self.slowness)
        elif fault is PlatformFault.SILENT_AFTER:
            self._stopping.wait(SILENCE)
            return None
        elif fault is PlatformFault.CUT_AFTER:
            return None
        elif fault is PlatformFault.OTHER_ID and header is not None:
            fields = [*header.fields, *[""] * 10]
            fields[9] = f"X{uuid4().hex[:8]}"
            return _answer(replace(header, fields=tuple(fields)))
        elif fault is PlatformFault.GARBAGE:
            return b"<html><body>Maintenance</body></html>"
        elif fault is PlatformFault.ACK_TWICE:
            return b"".join((answer, mllp.END, mllp.CR, mllp.START, answer))
        return answer

    # --- ZAM out ---

    def zams(self, control_id: str) -> list[bytes]:
        """The business acknowledgements owed for a message taken, in the order DMP, reception, reading.

        Raises KeyError when no such message was taken.
        """
        stored = next((found for found in self.messages() if found.control_id == control_id), None)
        if stored is None:
            raise KeyError(control_id)
        received = read(stored.path.read_bytes(), self._policy)
        return [write_zam(zam) for zam in self._owed(received, self._is_known(received, stored))]

    def emit(
        self, control_id: str, host: str, port: int, *, timeout: float = 10.0, context: ssl.SSLContext | None = None
    ) -> list[Acknowledgement]:
        """Send them to the sender's own MLLP port; what it answers to each. Raises OSError, KeyError."""
        make = None if context is None else lambda: context
        with MllpClient(host, port, timeout=timeout, context=make) as client:
            return [read_acknowledgement(client.exchange(message, lambda _: True)) for message in self.zams(control_id)]

    def _owed(self, received: Received, known: bool) -> Iterator[Zam]:
        order = received.order
        if order.flags.want_reception and order.flags.to_dmp:
            yield _zam(order, "Z01", self.dmp_error or (None if known else _NOT_REPLACED))
        wanted: tuple[tuple[Trigger, bool], ...] = (
            ("Z02", order.flags.want_reception),
            ("Z03", order.flags.want_reading),
        )
        for trigger, is_wanted in wanted:
            for party in order.recipients if is_wanted else ():
                unknown = party.mailbox in self.unknown
                if trigger == "Z02" or not unknown:  # nobody reads in a mailbox that does not exist
                    error = _UNKNOWN_MAILBOX if unknown else None
                    yield replace(_zam(order, trigger, error), mailbox=party.mailbox)

    def _is_known(self, received: Received, stored: StoredMessage) -> bool:
        """Whether what the document replaces was taken before, if it replaces something."""
        replaced = replaced_ids(received.cda.header)
        if received.order.action != "replace":
            return True
        others = (found for found in self.messages() if found.path != stored.path)
        return any(read(other.path.read_bytes(), self._policy).cda.header.id in replaced for other in others)


def _zam(order: TransmissionOrder, trigger: Trigger, error: ErrorCondition | None) -> Zam:
    return Zam(
        trigger=trigger,
        control_id=_new_id(),
        acknowledges=order.control_id,
        positive=error is None,
        time=_now(),
        sending=order.receiving,
        receiving=order.sending,
        error=error,
        processing=order.processing,
    )


def _answer(header: Segment | None, *errors: Finding) -> bytes:
    return acknowledge(header, answer_code(errors), errors, control_id=_new_id(), time=_now())


def _objection(text: str) -> Finding:
    """A line of the second opinion, `PLACE: reason`."""
    place, _, reason = text.partition(": ")
    segment, _, field = place.partition("-")
    return Finding.error(
        "207", Place(segment, 1, int(field) if field else None), reason, "sandbox.second-opinion", "906"
    )


def _key(header: Segment) -> str:
    """Name under which a message is kept: the same for the same sender (MSH-3) and MSH-10."""
    return hashlib.sha256(f"{header.text(3)}\n{header.text(10)}".encode()).hexdigest()[:32]


def _stored(path: Path) -> StoredMessage:
    header = er7.header_of(path.read_bytes()) or Segment("MSH", 1, ())
    return StoredMessage(header.text(10), header.text(9, 2), path, path.with_suffix(".xml"))


def _now() -> str:
    return ts_from_datetime(datetime.now(UTC))


def _new_id() -> str:
    return f"PFI{uuid4().hex[:16].upper()}"
