"""A document that a platform was asked to bring to the DMP does not come there a second time from Relais."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relais.mappings.context import Resource
from relais.mappings.hl7v2.acknowledgement import ErrorCondition
from relais.mappings.hl7v2.order import Endpoint
from relais.mappings.hl7v2.zam import Zam
from relais.server import reception
from relais.server.delivery.dmp import DmpChannel
from relais.server.delivery.hl7v2 import control_id
from relais.server.sandbox import Sandbox
from relais.server.store import Store
from support.orders import Office, refused, trouble
from support.plans import PLANS

DOCTOR = "medecin.traitant@cabinet.mssante.fr"


@pytest.fixture
def office(lite: Store) -> Office:
    return Office(lite)


def by_platform(office: Office, plan: str, **parameters: str) -> Resource:
    """Order a plan by the platform, which takes it; the Task."""
    task = office.order(plan, "hl7v2", **parameters)
    office.work()
    return task


def test_what_a_platform_feeds_the_dmp_with_is_not_sent_there(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "hl7v2")
    [issue] = refused(office, plan, "dmp")
    assert (issue.code, "DESTDMP" in issue.rule) == ("duplicate", True)
    office.work()
    assert [one.code for one in refused(office, plan, "dmp")] == ["duplicate"]


def test_what_it_was_not_asked_for_is_sent(office: Office) -> None:
    silent = Office(office.store, hl7v2_to_dmp=False)
    plan = silent.post(PLANS["full"], "CarePlan")
    by_platform(silent, plan, recipient=DOCTOR)
    assert office.order(plan, "dmp")["status"] == "requested"


def test_what_the_platform_did_not_take_is_sent(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.channels["hl7v2"].failures = [trouble("invalid", retry=False)]
    by_platform(office, plan)
    assert office.order(plan, "dmp")["status"] == "requested"


@pytest.mark.parametrize("positive", [True, False])
def test_what_the_dmp_refused_from_the_platform_may_be_sent(office: Office, positive: bool) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    by_platform(office, plan)
    [shipment] = office.channels["hl7v2"].taken
    error = None if positive else ErrorCondition("207", application="550", application_label="Refus")
    zam = Zam(
        "Z01",
        "PFI0001",
        control_id(shipment.message_id),
        positive,
        "20260112090501+0100",
        Endpoint("PFI", "GHT"),
        Endpoint("RELAIS", "DAC"),
        mailbox="",
        error=error,
    )
    with office.backstage.transaction() as transaction:
        reception.take_zam(transaction, zam)
    if positive:
        refused(office, plan, "dmp")
    else:
        assert office.order(plan, "dmp")["status"] == "requested"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


def test_the_next_version_replaces_the_one_that_the_platform_brought(lite: Store, sandbox: Sandbox) -> None:
    office = Office(lite, **dict(sandbox.settings), sender_timeout=20)
    dmp = DmpChannel(office.settings)
    office.channels["dmp"] = dmp  # type: ignore[assignment]
    plan = office.post(PLANS["full"], "CarePlan")
    by_platform(office, plan)
    [brought] = office.channels["hl7v2"].taken
    entry = replace(brought.submission.entries[0], uri=None)
    dmp.send(replace(brought, submission=replace(brought.submission, entries=(entry,))))  # as the platform does
    office.change(plan, title="Plan revu")
    office.order(plan, "dmp")
    office.work()
    former, current = sandbox.documents()
    assert (former.status, current.status, current.replaces) == ("Deprecated", "Approved", former.entry_uuid)


def test_the_next_version_is_new_where_the_platform_has_brought_nothing(lite: Store, sandbox: Sandbox) -> None:
    office = Office(lite, **dict(sandbox.settings), sender_timeout=20)
    office.channels["dmp"] = DmpChannel(office.settings)  # type: ignore[assignment]
    plan = office.post(PLANS["full"], "CarePlan")
    by_platform(office, plan)
    office.change(plan, title="Plan revu")
    task = office.order(plan, "dmp")
    office.work()
    [delivery] = office.deliveries(task)
    assert (delivery.state, "sent as a new one" in delivery.reason) == ("delivered", True)
