"""Who had a version of an appointment by mail, and takes part in it no more: a Task asks people to tell them.

A mail cannot be taken back, and no later version goes to who is outside of the care by now (code de la santé publique,
L1110-4). The volet has no cancellation for one participant: a cancelled version would cancel it for everybody.
"""

from __future__ import annotations

import uuid

from relais.cda.datatypes import PARIS
from relais.mappings.context import Resource
from relais.server import documents
from relais.server.delivery import outbox
from relais.server.delivery.recipients import CareTeamMailboxes, patient_reference
from relais.server.delivery.task import recipient_input
from relais.server.delivery.trust_space import TrustSpace
from relais.server.fhir.json_format import load
from relais.server.fhir.repository import Transaction, instant

_TASKS = uuid.UUID("9c1d7a52-0f0e-5b0b-8c63-5b0a7c1f4c19")
_WHAT = "Prévenir d'anciens participants"
_WHY = (
    "Ces boîtes aux lettres ont reçu le rendez-vous et ne sont plus celles de ses participants : ses nouvelles versions"
    " ne leur sont pas envoyées. Prévenez leurs titulaires."
)


def ask_to_tell(transaction: Transaction, appointment: Resource, trust: TrustSpace) -> None:
    """Write the Task that names the mailboxes of former participants; cancel it when there are none any more.

    It is the same Task for the same appointment, written again only when it would name others.
    """
    carrier = f"Appointment/{appointment['id']}"
    named = _former(transaction, carrier, appointment, trust)
    task_id = str(uuid.uuid5(_TASKS, carrier))
    current = transaction.current("Task", task_id)
    known = load(current.content) if current and current.content else {}
    inputs = [recipient_input(mailbox) for mailbox in named]
    if inputs == known.get("input", []):
        return
    task: Resource = {
        "resourceType": "Task",
        "id": task_id,
        "status": "requested" if inputs else "cancelled",
        "intent": "proposal",
        "code": {"text": _WHAT},
        "description": _WHY,
        "focus": {"reference": carrier},
        "authoredOn": known.get("authoredOn", instant(transaction.now)),
        "lastModified": instant(transaction.now),
    }
    patient = patient_reference(appointment)
    task |= {"for": {"reference": patient}} if patient else {}
    transaction.update(task | ({"input": inputs} if inputs else {}))


def _former(transaction: Transaction, carrier: str, appointment: Resource, trust: TrustSpace) -> list[str]:
    """The mailboxes that were looked up for the appointment, got a version of it, and would get none now."""
    connection = transaction.connection
    last = documents.last_issued(connection, carrier)
    sent = outbox.consignments(connection, last.lineage, "mss") if last else []
    looked_up = {(document, box) for document, made in sent if made.looked_up_for for box in made.recipients}
    if not looked_up:
        return []
    states = {document: outbox.mailboxes(connection, document) for document, _ in looked_up}
    reached = {box for document, box in looked_up if states[document].get(box) in ("delivered", "unconfirmed")}
    today = transaction.now.astimezone(PARIS).date()
    invited = [one | {"status": "accepted"} for one in appointment.get("participant", ())]  # who declined knows
    mailboxes = CareTeamMailboxes(connection, transaction.repository.base, trust, today)
    team = mailboxes.of_carrier(appointment | {"participant": invited})
    return sorted(reached - {box.lower() for box in team})
