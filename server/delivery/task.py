"""The Task that answers for a delivery order: written from the outbox rows alone, so that it never says otherwise.

Task.status: `requested` (nothing tried yet), `in-progress` (at least one attempt, not finished), `completed` (every
channel delivered), `failed` (a channel was given up). Each attempt is an output (FHIR R4 §8.11, Task).
"""

from __future__ import annotations

from datetime import datetime

from relais.cda.datatypes import urn_from_root
from relais.mappings.context import Resource
from relais.server.delivery.outbox import Attempt, Delivery, Order
from relais.server.fhir.repository import instant

CODE_SYSTEM = "https://relais.example/fhir/CodeSystem/relais-transmission"
CHANNEL_NAMES = {"mss": "MSSanté", "dmp": "DMP", "hl7v2": "HL7v2"}


def task_of(order: Order, deliveries: tuple[Delivery, ...]) -> Resource:
    """The Task of an order, with every attempt made so far."""
    status = _status(deliveries)
    task: Resource = {
        "resourceType": "Task",
        "id": order.task,
        "status": status,
        "intent": "order",
        "code": _concept("transmit", "Transmission d'un document"),
        "authoredOn": instant(order.placed),
        "lastModified": instant(_last_change(order, deliveries)),
        "input": [_channel(channel) for channel in dict.fromkeys(delivery.channel for delivery in deliveries)]
        + [_recipient(delivery.recipient) for delivery in deliveries if delivery.recipient],
        "output": [_document(order)] + [_attempt(d, a) for d in deliveries for a in d.attempts],
    }
    if order.focus and order.subject:
        task |= {"focus": {"reference": order.focus}, "for": {"reference": order.subject}}
    if status == "failed":
        dead = [delivery for delivery in deliveries if delivery.state in ("dead", "unconfirmed")]
        task["statusReason"] = {"text": "; ".join(f"{_name(d)}: {_last_detail(d)}" for d in dead)}
    return task


def _status(deliveries: tuple[Delivery, ...]) -> str:
    states = {delivery.state for delivery in deliveries}
    if states == {"delivered"}:
        return "completed"
    if "waiting" not in states:
        return "failed"
    return "in-progress" if any(delivery.attempts for delivery in deliveries) else "requested"


def _last_change(order: Order, deliveries: tuple[Delivery, ...]) -> datetime:
    times = [a.ended or a.started for d in deliveries for a in d.attempts]
    return max(times, default=order.placed)


def _last_detail(delivery: Delivery) -> str:
    return next((a.detail for a in reversed(delivery.attempts) if a.detail), "")


def _name(delivery: Delivery) -> str:
    name = CHANNEL_NAMES.get(delivery.channel, delivery.channel)
    return f"{name} {delivery.recipient}" if delivery.recipient else name


def _concept(code: str, text: str) -> Resource:
    return {"coding": [{"system": CODE_SYSTEM, "code": code, "display": text}], "text": text}


def _channel(channel: str) -> Resource:
    return {"type": _concept("channel", "Canal"), "valueCode": channel}


def _recipient(mailbox: str) -> Resource:
    return {"type": _concept("recipient", "Destinataire"), "valueString": mailbox}


def _document(order: Order) -> Resource:
    root, _, extension = order.document.partition("^")
    name = urn_from_root(root) or root
    identifier = {"system": name, "value": extension} if extension else {"system": "urn:ietf:rfc:3986", "value": name}
    return {"type": _concept("document", "Document transmis"), "valueIdentifier": identifier}


def _attempt(delivery: Delivery, attempt: Attempt) -> Resource:
    outcome = attempt.outcome or "under-way"
    text = f"{_name(delivery)}, tentative {attempt.number}"
    line = f"{instant(attempt.ended or attempt.started)} {outcome}"
    return {
        "type": _concept("attempt", text),
        "valueString": f"{line}: {attempt.detail}" if attempt.detail else line,
    }
