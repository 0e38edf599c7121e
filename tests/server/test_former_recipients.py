"""Who is named as a former participant to tell, and who is not."""

from __future__ import annotations

from typing import Any

import pytest

from relais.mappings.context import Resource
from relais.server.store import Store
from support.appointments import Agenda
from support.orders import Office

DOCTOR, NAMED = "claire.orme@exemple.mssante.fr", "secretariat@cabinet.mssante.fr"


@pytest.fixture
def office(lite: Store) -> Office:
    return Office(lite, triggers="moved-appointment=mss")


def booked(office: Office) -> str:
    """An appointment with a doctor who has a mailbox."""
    agenda = Agenda("former")
    agenda["doctor-person"]["telecom"] = [{"system": "email", "value": DOCTOR}]
    agenda.appointment()
    return office.post(agenda.bundle(), "Appointment")


def move(office: Office, appointment: str, hour: int, **changes: Any) -> None:
    times = {"start": f"2026-03-10T{hour:02}:00:00Z", "end": f"2026-03-10T{hour:02}:30:00Z"}
    office.change(appointment, **times, **changes)


def told(office: Office) -> list[Resource]:
    found = office.read("Task?intent=proposal")
    return [entry["resource"] for entry in found.get("entry", ())]


def without_doctor(office: Office, appointment: str) -> list[Resource]:
    return [
        one for one in office.read(appointment)["participant"] if "PractitionerRole" not in one["actor"]["reference"]
    ]


def test_who_had_it_and_is_taken_out_is_named_though_it_does_not_move(office: Office) -> None:
    appointment = booked(office)
    move(office, appointment, 8)
    office.work()
    office.change(appointment, participant=without_doctor(office, appointment))
    [task] = told(office)
    assert ([one["valueString"] for one in task["input"]], task["focus"]["reference"]) == ([DOCTOR], appointment)
    office.change(f"Task/{task['id']}", status="completed")  # somebody has called
    office.change(appointment, comment="Rien de neuf")
    assert [one["status"] for one in told(office)] == ["completed"]


def test_who_never_had_it_is_not_named(office: Office) -> None:
    appointment = booked(office)
    move(office, appointment, 8)  # ordered, not sent yet
    office.change(appointment, participant=without_doctor(office, appointment))
    office.work()
    assert office.channels["mss"].taken == []
    assert told(office) == []


def test_who_declined_knows(office: Office) -> None:
    appointment = booked(office)
    move(office, appointment, 8)
    office.work()
    people = office.read(appointment)["participant"]
    office.change(appointment, participant=[one | {"status": "declined"} for one in people])
    assert told(office) == []


def test_whom_an_order_named_is_not_looked_for_among_participants(office: Office) -> None:
    appointment = booked(office)
    office.order(appointment, "mss", recipient=NAMED)
    office.work()
    move(office, appointment, 9, participant=without_doctor(office, appointment))
    assert told(office) == []
