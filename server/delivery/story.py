"""What the stored resources tell of an order: its Task, the Provenance of the sending, the AuditEvent of each outcome.

FHIR R4 Task (§8.11), Provenance (§6.3) and AuditEvent (§6.4, codes of DICOM and of IHE ITI). They name the patient by a
reference and the document by its identifier; no other health data.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime

from relais.cda.errors import RelaisError
from relais.mappings.context import Resource
from relais.server.delivery import acknowledgements, outbox
from relais.server.delivery.outbox import Delivery, Order
from relais.server.delivery.task import CODE_SYSTEM, document_identifier, task_of
from relais.server.fhir.repository import Stored, Transaction, instant
from relais.server.store import StoreError, VersionConflictError

log = logging.getLogger("relais.delivery")

_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_ACTIVITIES = {"send": ("transmit", "Transmission d'un document"), "withdraw": ("withdraw", "Retrait d'un document")}
_OUTCOMES = {"delivered": "0", "unconfirmed": "8", "dead": "8", "cancelled": "4"}
"""AuditEvent.outcome: 0 success, 4 minor failure, 8 serious failure."""
RECORD = {"system": CODE_SYSTEM, "code": "record"}
"""Tag of the Provenance and the AuditEvents of an order: Relais' own words, which clients do not change."""


def write_task(transaction: Transaction, task: str, ended: Collection[int] = ()) -> None:
    """Say in the Task where the order stands, and by an AuditEvent how each delivery has `ended` that just did.

    Whatever is wrong with these resources must not hold deliveries up.
    """
    transaction.current("Task", task)  # nobody settles another delivery of the order between reading and writing
    found = outbox.order(transaction.connection, task)
    if found is None:
        return
    order, deliveries = found
    said = {one.key: acknowledgements.of_delivery(transaction.connection, one.key) for one in deliveries}
    _write(transaction, task_of(order, deliveries, said))
    for one in deliveries:
        if one.key in ended:
            _write(transaction, audit_event(order, one, transaction.now))


def write_order(transaction: Transaction, order: Order, deliveries: tuple[Delivery, ...], organization: str) -> Stored:
    """Create the Task of a new order and the Provenance that says who ordered it."""
    task = transaction.create(task_of(order, deliveries, {}), resource_id=order.task)
    transaction.create(provenance(order, organization))
    return task


def provenance(order: Order, organization: str) -> Resource:
    """Who ordered the transmission of which document, of what it was made."""
    code, text = _ACTIVITIES[order.action]
    targets = [{"reference": f"Task/{order.task}"}]
    who: Resource = {"reference": order.requester} if order.requester else {"display": organization or "Relais"}
    entity: Resource = {"what": {"identifier": document_identifier(order.document)}, "role": "source"}
    said: Resource = {
        "resourceType": "Provenance",
        "meta": {"tag": [RECORD]},
        "target": targets,
        "recorded": instant(order.placed),
        "activity": {"coding": [{"system": CODE_SYSTEM, "code": code, "display": text}], "text": text},
        "agent": [{"who": who}],
        "entity": [entity],
    }
    if order.focus:
        said["entity"].append({"what": {"reference": order.focus}, "role": "derivation"})
    return said


def audit_event(order: Order, delivery: Delivery, now: datetime) -> Resource:
    """That a document left, or did not, for which receiver, on whose order."""
    who: Resource = {"reference": order.requester} if order.requester else {"display": "Relais"}
    receiver: Resource = {
        "requestor": False,
        "name": delivery.channel,
        "network": {"address": delivery.recipient or delivery.channel, "type": "5" if delivery.recipient else "1"},
    }
    remark = [delivery.reason] if delivery.state == "delivered" and delivery.reason else []
    entities: list[Resource] = [{"what": {"identifier": document_identifier(order.document)}}]
    entities.append({"what": {"reference": f"Task/{order.task}"}})
    if order.subject:
        entities.append({"what": {"reference": order.subject}})
    return {
        "resourceType": "AuditEvent",
        "meta": {"tag": [RECORD]},
        "type": {"system": _DICOM, "code": "110106", "display": "Export"},
        "subtype": [{"system": CODE_SYSTEM, "code": order.action}],
        "action": "R",
        "recorded": instant(now),
        "outcome": _OUTCOMES[delivery.state],
        "outcomeDesc": ": ".join([delivery.state, *remark]),
        "agent": [{"requestor": True, "who": who}, receiver],
        "source": {"observer": {"display": "Relais"}},
        "entity": entities,
    }


def _write(transaction: Transaction, resource: Resource) -> None:
    """What is wrong with a resource is found before anything is written, so nothing has to be undone."""
    try:
        if "id" in resource:
            transaction.update(resource)
        else:
            transaction.create(resource)
    except (StoreError, VersionConflictError):
        raise  # the whole transaction is tried again
    except RelaisError as error:
        codes = ", ".join(issue.code for issue in error.issues)
        log.error("%s of an order cannot be written: %s", resource["resourceType"], codes)
