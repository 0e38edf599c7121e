"""What delivery does when resources are written: it keeps what tells of orders to itself, and lets events order.

The setting `triggers` names events and channels (`validated-plan=dmp+mss,moved-appointment=mss`): a CarePlan that is
active and approved, an Appointment whose time changes or that is cancelled, a Communication that is completed. The
order is placed in the transaction of the write; mails go to the care team. An order that the rules refuse does not
hold the write up, nor does what one channel refuses hold the others up: a Task with status `rejected` says why. Who
took part in an appointment and does not any more is told by people: a Task asks them to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.mappings.to_cda.pps import APPROVAL_RULE
from relais.server.delivery import gate, outbox
from relais.server.delivery.former_recipients import ask_to_tell
from relais.server.delivery.recipients import patient_reference
from relais.server.delivery.story import RECORD
from relais.server.delivery.task import refused_order
from relais.server.delivery.transmit import Wanted, transmit
from relais.server.delivery.trust_space import TrustSpace
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Stored, Transaction
from relais.server.settings import Settings, SettingsError
from relais.server.store import StoreError, VersionConflictError

Event = Literal["validated-plan", "moved-appointment", "declared-event"]
EVENTS: tuple[Event, ...] = get_args(Event)
OWN_TASKS_RULE = "the Task of an order, and what records it, are written from its deliveries"
_CHANGES = ("start", "end", "minutesDuration")
_KNOWN = frozenset({"pending", "booked", "arrived", "checked-in"})
"""Statuses of an Appointment that those who take part know of."""


class DeliveryWatch:
    """The watcher of a facade's repository."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for triggers that cannot be understood."""
        self._settings = settings
        self._triggers = dict(_triggers(settings))

    def before_change(self, transaction: Transaction, former: Stored) -> None:
        """Raises FhirError 405 for the Task of an order, which only its deliveries change, and for what records it."""
        if former.type == "Task" and outbox.is_order(transaction.connection, former.id):
            message = "this Task follows a delivery order: `relais deliveries` resumes or cancels the order"
        elif former.type in ("AuditEvent", "Provenance") and _is_record(former):
            message = "this says who ordered a delivery, or how it ended: it stays as it was written"
        else:
            return
        raise FhirError(
            405, Issue("error", "not-supported", message, former.type, OWN_TASKS_RULE), {"Allow": "GET, HEAD"}
        )

    def before_commit(self, transaction: Transaction, written: Sequence[tuple[Stored, Stored | None]]) -> None:
        """Place the orders of what happened."""
        if not self._triggers:
            return
        happened = dict.fromkeys(event for stored, former in written for event in _events(transaction, stored, former))
        for event, carrier in happened:
            if event in self._triggers:
                self._order(transaction, carrier, self._triggers[event])
        if "mss" in self._triggers.get("moved-appointment", ()):
            for stored, former in written:
                if stored.type == "Appointment" and stored.content and former is not None:
                    ask_to_tell(transaction, load(stored.content), TrustSpace.of(self._settings))

    def _order(self, transaction: Transaction, carrier: str, channels: tuple[str, ...]) -> None:
        """One order by all channels; where the rules refuse it, one by each, and a Task for each reason."""
        found = self._refused(transaction, carrier, channels)
        apart = {channels: found}
        if found and len(channels) > 1:
            apart = {(channel,): self._refused(transaction, carrier, (channel,)) for channel in channels}
        told: dict[tuple[Issue, ...], tuple[str, ...]] = {}
        for those, issues in apart.items():
            if issues and not any(_is_no_news(issue) for issue in issues):
                told[issues] = (*told.get(issues, ()), *those)
        for issues, those in told.items():
            patient = patient_reference(transaction.load(*carrier.split("/")))
            transaction.update(refused_order(carrier, patient, those, issues, transaction.now))

    def _refused(self, transaction: Transaction, carrier: str, channels: tuple[str, ...]) -> tuple[Issue, ...]:
        """Place an order, or say why it is refused."""
        try:
            with transaction.connection.begin_nested():
                transmit(transaction, carrier, Wanted(channels), self._settings, transaction.now)
        except (StoreError, VersionConflictError):
            raise  # no rule has refused the order: the write fails with it, and is made again
        except RelaisError as error:
            return error.issues
        return ()


def _is_no_news(issue: Issue) -> bool:
    """Whether the document says nothing new, or waits for the approval that will trigger its order."""
    return issue.code == "duplicate" or issue.rule == APPROVAL_RULE


def _is_record(stored: Stored) -> bool:
    tags = load(stored.content or b"").get("meta", {}).get("tag", ())
    return any({"system": tag.get("system"), "code": tag.get("code")} == RECORD for tag in tags)


def _events(transaction: Transaction, stored: Stored, former: Stored | None) -> Iterator[tuple[Event, str]]:
    """What a write says that happened, and to which resource."""
    if stored.type not in ("CarePlan", "Provenance", "Appointment", "Communication"):
        return
    resource, before = load(stored.content or b""), load(former.content) if former and former.content else None
    carrier = f"{stored.type}/{stored.id}"
    if stored.type == "CarePlan" and resource.get("status") == "active":
        yield "validated-plan", carrier
    elif stored.type == "Provenance":
        yield from (("validated-plan", plan) for plan in _active_plans(transaction, resource))
    elif stored.type == "Appointment" and before is not None and _moved(before, resource):
        yield "moved-appointment", carrier
    elif stored.type == "Communication" and _completed(resource) and not (before and _completed(before)):
        yield "declared-event", carrier


def _active_plans(transaction: Transaction, provenance: Resource) -> Iterator[str]:
    """The plans that a Provenance, perhaps an approval, is about."""
    for target in provenance.get("target", ()):
        named = references.restful(target.get("reference", ""))
        if named and named[1] == "CarePlan" and named[0] in ("", transaction.repository.base):
            stored = transaction.current("CarePlan", named[2])
            if stored and stored.content and load(stored.content).get("status") == "active":
                yield f"CarePlan/{named[2]}"


def _completed(communication: Resource) -> bool:
    return communication.get("status") == "completed"


def _moved(before: Resource, after: Resource) -> bool:
    """Whether an appointment that people know of has another time now, or is cancelled."""
    if after.get("status") == "cancelled":
        return before.get("status") in _KNOWN
    return after.get("status") in _KNOWN and any(before.get(name) != after.get(name) for name in _CHANGES)


def _triggers(settings: Settings) -> Iterator[tuple[Event, tuple[str, ...]]]:
    for part in filter(None, map(str.strip, settings.triggers.split(","))):
        name, _, asked = part.partition("=")
        event = next((one for one in EVENTS if one == name.strip()), None)
        channels = tuple(channel.strip() for channel in asked.split("+") if channel.strip())
        if event is None or not channels:
            message = f"event=channel+channel is expected, the event one of {', '.join(EVENTS)}"
            raise SettingsError(Issue("error", "value", message, "triggers"))
        wrong = [channel for channel in channels if not gate.is_configured(channel, settings)]
        if wrong:
            raise SettingsError(Issue("error", "value", f"channel {wrong[0]} is not configured here", "triggers"))
        yield event, channels
