"""The Task that answers for a delivery order: written from the outbox rows alone, so that it never says otherwise.

Task.status: `requested` (no attempt has ended yet), `in-progress` (at least one has, not finished), `completed` (every
receiver has the document), `failed` (one was given up), `cancelled`. Task.businessStatus says what to look at: a
delivery that waits for another attempt, one that may have arrived, an acknowledgement that did not come or that says
no, what there is to know of one that ended well. Each attempt and each acknowledgement is an output (FHIR R4 §8.11,
Task).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from relais.cda.datatypes import urn_from_root
from relais.cda.errors import Issue
from relais.mappings.context import Resource
from relais.mappings.extensions import CANONICAL_BASE
from relais.server.delivery.acknowledgements import Awaited
from relais.server.delivery.outbox import Attempt, Delivery, Order
from relais.server.delivery.words import french
from relais.server.fhir.repository import instant

CODE_SYSTEM = f"{CANONICAL_BASE}/CodeSystem/relais-transmission"
_KINDS = {"send": ("transmit", "Transmission d'un document"), "withdraw": ("withdraw", "Retrait d'un document")}
_ACKNOWLEDGEMENTS = {"reception": "Accusé de réception", "reading": "Accusé de lecture"}
_REFUSED = uuid.UUID("3b0f3c1e-3c35-5d5a-9a39-6f0b8f6f6a52")
CHANNEL_NAMES = {"mss": "MSSanté", "dmp": "DMP", "hl7v2": "HL7v2", "mhd": "PDSm"}


def task_of(
    order: Order, deliveries: tuple[Delivery, ...], acknowledged: Mapping[int, tuple[Awaited, ...]]
) -> Resource:
    """The Task of an order, with every attempt made so far; `acknowledged` by key of the delivery."""
    status = _status(deliveries)
    said = [(delivery, one) for delivery in deliveries for one in acknowledged.get(delivery.key, ())]
    task: Resource = {
        "resourceType": "Task",
        "id": order.task,
        "status": status,
        "intent": "order",
        "priority": order.priority,
        "code": _concept(*_KINDS[order.action]),
        "authoredOn": instant(order.placed),
        "lastModified": instant(_last_change(order, deliveries, said)),
        "input": [_channel(channel) for channel in dict.fromkeys(delivery.channel for delivery in deliveries)]
        + [recipient_input(delivery.recipient) for delivery in deliveries if delivery.recipient],
        "output": [_document(order)]
        + [_attempt(d, a) for d in deliveries for a in d.attempts]
        + [_acknowledgement(delivery, one) for delivery, one in said],
    }
    if order.requester:
        task["requester"] = {"reference": order.requester}
    if order.focus:
        task["focus"] = {"reference": order.focus}
    if order.subject:
        task["for"] = {"reference": order.subject}
    if status in ("failed", "cancelled", "completed"):
        told = [f"{_name(delivery)} : {french(delivery.reason)}" for delivery in deliveries if delivery.reason]
        task |= {"statusReason": {"text": " ; ".join(told)}} if told else {}
    if flag := _flag(deliveries, said):
        task["businessStatus"] = _concept(*flag)
    return task


def _flag(deliveries: tuple[Delivery, ...], said: list[tuple[Delivery, Awaited]]) -> tuple[str, str] | None:
    """What to look at, the most pressing first."""
    states = {delivery.state for delivery in deliveries}
    answers = {one.state for _, one in said}
    flags = (
        ("unconfirmed" in states, "unconfirmed", "Arrivée incertaine : à vérifier auprès du destinataire"),
        ("negative" in answers, "refused-later", "Refusé par un destinataire après remise"),
        ("overdue" in answers, "acknowledgement-overdue", "Accusé attendu non reçu"),
        (
            any(d.state == "waiting" and d.attempts for d in deliveries),
            "waiting",
            "En attente d'une nouvelle tentative",
        ),
        ("awaited" in answers, "acknowledgement-awaited", "Remis, accusé attendu"),
        (any(d.state == "delivered" and d.reason for d in deliveries), "remark", "Terminé, avec une remarque"),
    )
    return next(((code, text) for raised, code, text in flags if raised), None)


def _status(deliveries: tuple[Delivery, ...]) -> str:
    states = {delivery.state for delivery in deliveries}
    if states == {"delivered"}:
        return "completed"
    if states <= {"delivered", "cancelled"}:
        return "cancelled"
    if "waiting" not in states:
        return "failed"
    return "in-progress" if any(delivery.attempts for delivery in deliveries) else "requested"


def _last_change(order: Order, deliveries: tuple[Delivery, ...], said: list[tuple[Delivery, Awaited]]) -> datetime:
    times = [a.ended or a.started for d in deliveries for a in d.attempts]
    return max([order.placed, *times, *(one.received for _, one in said if one.received)])


def _name(delivery: Delivery) -> str:
    name = CHANNEL_NAMES.get(delivery.channel, delivery.channel)
    return f"{name} {delivery.recipient}" if delivery.recipient else name


def _concept(code: str, display: str, text: str = "") -> Resource:
    return {"coding": [{"system": CODE_SYSTEM, "code": code, "display": display}], "text": text or display}


def _channel(channel: str) -> Resource:
    return {"type": _concept("channel", "Canal"), "valueCode": channel}


def recipient_input(mailbox: str) -> Resource:
    """Task.input that names a mailbox."""
    return {"type": _concept("recipient", "Destinataire"), "valueString": mailbox}


def document_identifier(key: str) -> Resource:
    """The Identifier of a document by its key in `relais.server.documents`."""
    root, _, extension = key.partition("^")
    name = urn_from_root(root) or root
    return {"system": name, "value": extension} if extension else {"system": "urn:ietf:rfc:3986", "value": name}


def _document(order: Order) -> Resource:
    return {
        "type": _concept("document", "Document transmis"),
        "valueIdentifier": document_identifier(order.document),
    }


def _attempt(delivery: Delivery, attempt: Attempt) -> Resource:
    outcome = attempt.outcome or "under-way"
    text = f"{_name(delivery)}, tentative {attempt.number}"
    line = f"{instant(attempt.ended or attempt.started)} {french(outcome)}"
    return {
        "type": _concept("attempt", "Tentative", text),
        "valueString": f"{line} : {french(attempt.detail)}" if attempt.detail else line,
    }


def _acknowledgement(delivery: Delivery, awaited: Awaited) -> Resource:
    text = f"{_name(delivery)}, {_ACKNOWLEDGEMENTS[awaited.kind].lower()}"
    since = "since" if awaited.state == "overdue" else "until"
    waiting = f"{awaited.state} {since} {instant(awaited.due)}"
    line = french(f"{instant(awaited.received)} {awaited.state}" if awaited.received else waiting)
    return {
        "type": _concept("acknowledgement", "Accusé", text),
        "valueString": f"{line} : {french(awaited.detail)}" if awaited.detail else line,
    }


def refused_order(
    focus: str, subject: str | None, channels: Sequence[str], issues: Iterable[Issue], now: datetime
) -> Resource:
    """The Task of an order that an event would have placed and the rules refuse; there are no deliveries behind it.

    One for each focus and channels: refused again, the order is told by the next version of its Task.
    """
    task: Resource = {
        "resourceType": "Task",
        "id": str(uuid.uuid5(_REFUSED, " ".join((focus, *channels)))),
        "status": "rejected",
        "statusReason": {"text": french("; ".join(str(one) for one in issues if one.severity in ("fatal", "error")))},
        "intent": "order",
        "code": _concept(*_KINDS["send"]),
        "focus": {"reference": focus},
        "authoredOn": instant(now),
        "lastModified": instant(now),
        "input": [_channel(channel) for channel in channels],
    }
    return task | {"for": {"reference": subject}} if subject else task
