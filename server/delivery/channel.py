"""What every delivery channel has in common: the shipment it sends, the receipt it returns, how it fails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from relais.cda.errors import Issue, RelaisError
from relais.cda.xds import Submission


@dataclass(frozen=True, slots=True)
class Shipment:
    """Everything a channel needs to send one document; fixed when the order is accepted, the same on every attempt."""

    document: bytes
    submission: Submission
    recipients: tuple[str, ...]  # mailboxes; empty for the DMP
    message_id: str  # RFC 5322 Message-ID, with angle brackets


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the counterpart answered when it took the document, in one line fit for the Task."""

    detail: str


class DeliveryError(RelaisError):
    """A failed attempt. `retry` says whether the same shipment may be sent again."""

    def __init__(self, issues: Issue | Iterable[Issue], *, retry: bool) -> None:
        super().__init__(issues)
        self.retry = retry


class Channel(Protocol):
    """One way out of Relais."""

    name: str

    def send(self, shipment: Shipment) -> Receipt:
        """Send once, within the configured time. Raises DeliveryError."""
        ...
