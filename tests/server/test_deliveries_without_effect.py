"""Orders that end well and change nothing, or less than people may think: their Task says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from relais.cda.reader import read
from relais.mappings.context import Resource
from relais.server.delivery import circuits, gate, ledger, outbox
from relais.server.delivery.hl7v2 import order_of
from relais.server.store import Store
from support.appointments import AGENDAS
from support.orders import Office, refused, trouble
from support.plans import PLANS

DOCTOR = "medecin.traitant@cabinet.mssante.fr"


@pytest.fixture
def office(lite: Store) -> Office:
    return Office(lite, mhd_url="https://share.test/fhir")


def told(task: Resource) -> tuple[str, str]:
    """Status and business status of a Task."""
    return task["status"], task.get("businessStatus", {}).get("coding", [{}])[0].get("code", "")


@pytest.mark.parametrize("channel", ["dmp", "hl7v2", "mhd"])
def test_a_withdrawal_of_what_never_arrived_says_so_and_nothing_leaves(office: Office, channel: str) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.channels[channel].failures = [trouble("processing", retry=False)]
    sent = office.order(plan, channel)
    withdrawn = office.order(plan, channel, intent="withdraw")
    office.work()
    assert office.channels[channel].taken == []
    assert told(office.task(sent)) == ("failed", "")
    task = office.task(withdrawn)
    assert told(task) == ("completed", "remark")
    assert "n'est jamais parvenu au destinataire" in task["statusReason"]["text"]
    [event] = office.read(f"AuditEvent?entity=Task/{withdrawn['id']}")["entry"]
    assert "never reached the receiver" in event["resource"]["outcomeDesc"]
    with office.backstage.transaction() as transaction:
        assert outbox.resume(transaction.connection, sent["id"], office.now) == 0


def test_a_withdrawal_that_went_nowhere_says_nothing_of_the_destination(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    sent = office.order(plan, "hl7v2")
    office.order(plan, "hl7v2", intent="withdraw")
    ledger.cancel(office.backstage, sent["id"], "ordered by mistake")
    destination = gate.destination("hl7v2", office.settings)
    with office.backstage.transaction() as transaction:
        for _ in range(3):
            circuits.failed(transaction.connection, destination, "down", office.now, circuits.Policy(3, timedelta(0)))
    office.wait(minutes=2)
    assert office.work() == 1
    with office.store.snapshot() as connection:
        assert [(one.destination, one.failures) for one in circuits.known(connection)] == [(destination, 3)]


def test_what_was_cancelled_before_it_left_needs_no_withdrawal(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    sent = office.order(plan, "hl7v2")
    withdrawn = office.order(plan, "hl7v2", intent="withdraw")
    ledger.cancel(office.backstage, sent["id"], "ordered by mistake")
    office.work()
    assert office.channels["hl7v2"].taken == []
    assert told(office.task(withdrawn)) == ("completed", "remark")


def test_a_withdrawal_of_what_may_have_arrived_leaves(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.channels["hl7v2"].failures = [trouble("timeout")] * 4
    office.order(plan, "hl7v2")
    for _ in range(6):
        office.work()
        office.wait(hours=2)
    task = office.order(plan, "hl7v2", intent="withdraw")
    office.work()
    assert [sent.action for sent in office.channels["hl7v2"].taken] == ["withdraw"]
    assert told(office.task(task)) == ("completed", "")


# --- platforms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("carrier", "kind", "parameters", "awaited"),
    [
        (PLANS["full"], "CarePlan", {"recipient": DOCTOR}, ("reception", "reading")),
        (PLANS["full"], "CarePlan", {}, ("reception",)),
        (AGENDAS["every-detail"], "Appointment", {}, ()),
    ],
)
def test_of_a_platform_only_those_acknowledgements_are_awaited_that_can_come(
    office: Office, carrier: Resource, kind: str, parameters: dict[str, Any], awaited: tuple[str, ...]
) -> None:
    task = office.order(office.post(carrier, kind), "hl7v2", **parameters)
    office.work()
    [sent] = office.channels["hl7v2"].taken
    flags = order_of(sent, read(sent.document).document, office.settings).flags
    assert (sent.acknowledgements, flags.want_reception, flags.want_reading) == (
        awaited,
        "reception" in awaited,
        "reading" in awaited,
    )
    assert told(office.task(task)) == ("completed", "acknowledgement-awaited" if awaited else "")
    office.now += timedelta(days=10)
    office.worker._keep_house()
    assert told(office.task(task)) == ("completed", "acknowledgement-overdue" if awaited else "")


def test_an_acknowledgement_that_nobody_can_give_is_refused(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    assert [one.path for one in refused(office, plan, "hl7v2", acknowledgement="reading")] == ["acknowledgement"]
    office.order(plan, "hl7v2", "mss", acknowledgement="reading", recipient=DOCTOR)
