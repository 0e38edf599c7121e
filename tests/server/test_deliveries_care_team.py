"""The circle of care at the moment a mail leaves: who has left the care team since the order gets nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relais.mappings.context import Resource
from relais.server.delivery import outbox
from relais.server.store import Store
from support.orders import Office, refused, trouble
from support.plans import PLANS

NURSE = "isabelle.lefranc@exemple.mssante.fr"
DOCTOR = "medecin.traitant@cabinet.mssante.fr"
YESTERDAY = "2026-03-01"


class Team:
    """A stored plan, its care team of a doctor (by his role) and a nurse, both with a mailbox of their own."""

    def __init__(self, office: Office) -> None:
        stored = office.post_all(PLANS["full"])
        self.office = office
        self.plan = next(name for name in stored if name.startswith("CarePlan/"))
        self.address = next(name for name in stored if name.startswith("CareTeam/"))
        members = [one["member"]["reference"] for one in office.read(self.address)["participant"]]
        self.role, self.nurse = members[:2]
        office.change(self.role, telecom=[{"system": "email", "value": DOCTOR}])

    def participants(self, change: Callable[[Resource], None]) -> None:
        """Change the participation of the nurse."""
        participants = self.office.read(self.address)["participant"]
        change(participants[1])
        self.office.change(self.address, participant=participants)


def removed(team: Team) -> None:
    participants = team.office.read(team.address)["participant"]
    team.office.change(team.address, participant=[participants[0], *participants[2:]])


def participation_ended(team: Team) -> None:
    team.participants(lambda one: one.update(period={"end": YESTERDAY}))


def other_mailbox(team: Team) -> None:
    team.office.change(team.nurse, telecom=[{"system": "email", "value": "autre.lefranc@exemple.mssante.fr"}])


def mailbox_given_up(team: Team) -> None:
    team.office.change(team.nurse, telecom=[{"system": "email", "value": NURSE, "use": "old"}])


def no_longer_active(team: Team) -> None:
    team.office.change(team.nurse, active=False)


LEAVING = (removed, participation_ended, other_mailbox, mailbox_given_up, no_longer_active)


@pytest.mark.parametrize("leave", LEAVING)
def test_who_has_left_the_care_team_gets_nothing_and_the_others_do(lite: Store, leave: Callable[[Team], None]) -> None:
    office = Office(lite)
    team = Team(office)
    task = office.order(team.plan, "mss")
    leave(team)
    office.work()
    assert [sent.recipients for sent in office.channels["mss"].taken] == [(DOCTOR,)]
    states = {one.recipient: (one.state, one.reason) for one in office.deliveries(task)}
    assert states[DOCTOR] == ("delivered", "")
    assert (states[NURSE][0], "care team" in states[NURSE][1]) == ("dead", True)
    told = office.task(task)
    assert (told["status"], f"MSSanté {NURSE} : " in told["statusReason"]["text"]) == ("failed", True)


def test_between_two_attempts_too(lite: Store) -> None:
    office = Office(lite)
    team = Team(office)
    office.channels["mss"].failures = [trouble("timeout"), trouble()]
    task = office.order(team.plan, "mss")
    office.work()
    removed(team)
    office.wait(minutes=5)
    office.work()
    states = {one.recipient: one.state for one in office.deliveries(task)}
    assert states[DOCTOR] == "delivered"
    assert states[NURSE] in ("dead", "unconfirmed")
    assert [sent.recipients for sent in office.channels["mss"].taken] == [(DOCTOR,)]


def test_a_mailbox_that_was_named_gets_the_document_whoever_has_left(store: Store) -> None:
    office = Office(store)
    team = Team(office)
    task = office.order(team.plan, "mss", recipient=NURSE)
    removed(team)
    office.work()
    assert office.task(task)["status"] == "completed"


def test_who_comes_back_gets_the_document_when_the_order_is_resumed(store: Store) -> None:
    office = Office(store)
    team = Team(office)
    task = office.order(team.plan, "mss")
    before = office.read(team.address)["participant"]
    removed(team)
    office.work()
    office.change(team.address, participant=before)
    with office.backstage.transaction() as transaction:
        assert outbox.resume(transaction.connection, task["id"], office.now) == 1
    office.work()
    assert office.task(task)["status"] == "completed"


def test_a_plan_that_is_gone_has_no_care_team_to_write_to(lite: Store) -> None:
    office = Office(lite)
    team = Team(office)
    task = office.order(team.plan, "mss")
    office.call("DELETE", team.plan)
    office.work()
    assert office.channels["mss"].taken == []
    assert {one.state for one in office.deliveries(task)} == {"dead"}


@pytest.mark.parametrize(
    "changes", [{"status": "inactive"}, {"status": "entered-in-error"}, {"period": {"end": YESTERDAY}}]
)
def test_a_team_that_does_not_act_any_more_is_not_written_to(lite: Store, changes: dict[str, Any]) -> None:
    office = Office(lite)
    team = Team(office)
    task = office.order(team.plan, "mss")
    office.change(team.address, **changes)
    office.work()
    assert {one.state for one in office.deliveries(task)} == {"dead"}
    office.change(team.plan, title="Un autre titre")
    assert refused(office, team.plan, "mss")[0].path == "recipient"


def test_a_role_that_has_ended_is_not_written_to(lite: Store) -> None:
    office = Office(lite)
    team = Team(office)
    office.change(team.role, period={"end": YESTERDAY})
    task = office.order(team.plan, "mss")
    assert [one.recipient for one in office.deliveries(task)] == [NURSE]
