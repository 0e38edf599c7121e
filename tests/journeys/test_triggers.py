"""Each event that orders, watched whole: a write over HTTP, the Task, the worker, what the sandbox got."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relais.cda.reader import read
from relais.mappings.context import Resource
from relais.server.sandbox import Sandbox, switch_faults
from support.appointments import Agenda
from support.facade import RunningFacade, running_facade
from support.notifications import NOTICES
from support.plans import PLANS
from support.worker import worker_thread

NURSE = "isabelle.lefranc@exemple.mssante.fr"
DOCTOR, SUBSTITUTE = "claire.orme@exemple.mssante.fr", "paul.if@exemple.mssante.fr"
RECEIVER = "c.orme@cabinet.mssante.fr"
TRIGGERS = "validated-plan=dmp+mss, moved-appointment=mss+hl7v2, declared-event=mss+hl7v2"
PATIENCE = 60.0


def _business_status(task: Resource) -> str:
    return str(task["businessStatus"]["coding"][0]["code"]) if "businessStatus" in task else ""


class Region:
    """A facade whose writes order, a worker, and the counterparts that both lead to."""

    def __init__(self, facade: RunningFacade, sandbox: Sandbox) -> None:
        self.facade = facade
        self.sandbox = sandbox

    def post(self, bundle: Resource) -> dict[str, str]:
        """Carry out a transaction: `Type/[id]` by type (the last of each)."""
        answer = self.facade.post("", copy.deepcopy(bundle))
        assert answer.status_code == 200, answer.text
        stored = [entry["response"]["location"].split("/_history/")[0] for entry in answer.json()["entry"]]
        return {name.partition("/")[0]: name for name in stored}

    def change(self, name: str, **elements: Any) -> None:
        """Store the next version of a resource."""
        answer = self.facade.put(name, self.facade.get(name).json() | elements)
        assert answer.status_code == 200, answer.text

    def tasks(self, focus: str) -> list[Resource]:
        """The Tasks about a resource, oldest first."""
        found = self.facade.get(f"Task?focus={focus}&_sort=_lastUpdated").json()
        return [entry["resource"] for entry in found.get("entry", ())]

    def ended(self, focus: str, number: int = 1, expected: str = "completed") -> list[Resource]:
        """The orders about a resource once so many of them have ended as expected."""
        return self._awaited(focus, lambda tasks: [task["status"] for task in tasks] == [expected] * number)

    def refused(self, focus: str) -> None:
        """Wait until an attempt of an order about a resource has failed and another one is due."""
        self._awaited(focus, lambda tasks: any(_business_status(task) == "waiting" for task in tasks))

    def _awaited(self, focus: str, is_reached: Callable[[list[Resource]], bool]) -> list[Resource]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            tasks = [task for task in self.tasks(focus) if task["intent"] == "order"]
            if is_reached(tasks):
                return tasks
            time.sleep(0.1)
        raise AssertionError(f"the orders did not get there: {tasks}")

    def mails(self, mailbox: str) -> int:
        """How many mails a mailbox got."""
        return sum(mailbox in message.recipients for message in self.sandbox.messages())


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    folder: Path = tmp_path_factory.mktemp("region")
    with Sandbox(folder / "sandbox") as sandbox:
        settings: dict[str, Any] = {
            "database_url": f"sqlite:///{folder / 'relais.sqlite'}",
            "workers": 1,
            "mss_sender": "coordination@dac.mssante.fr",
            "mss_product_reference": "relais-test",
            "hl7v2_sending_facility": "DAC DE TEST",
            "responsible_rpps": "10101234567",
            "responsible_family": "ORME",
            "responsible_given": "Claire",
            "organization_name": "Maison de santé",
            "organization_finess": "910019447",
            "retry_base": 0.2,
            "circuit_pause": 1,  # refusals that a test asks for do not hold the others up
            "triggers": TRIGGERS,
            "fhir_packages": "none",
            **sandbox.settings,
        }
        with running_facade(folder, **settings) as facade, worker_thread(settings):
            yield Region(facade, sandbox)


def test_a_validated_plan_arrives_without_anybody_ordering_it(region: Region) -> None:
    plan = region.post(PLANS["full"])["CarePlan"]
    [task] = region.ended(plan)
    assert [one["valueCode"] for one in task["input"] if "valueCode" in one] == ["dmp", "mss"]
    assert region.mails(NURSE) == 1
    assert read(region.sandbox.documents()[-1].path.read_bytes()).document.header.version_number == 1
    region.change(plan, title="Plan revu")
    region.ended(plan, 2)
    former, current = region.sandbox.documents()[-2:]
    assert (former.status, current.status, region.mails(NURSE)) == ("Deprecated", "Approved", 2)


def agenda() -> Agenda:
    """An appointment with a doctor who has a mailbox, and a substitute who has one."""
    made = Agenda("moved")
    structure = made.ref("cabinet")
    made.practitioner("substitute", "IF", "Paul", "10109876540", structure=structure)
    for key, mailbox in (("doctor-person", DOCTOR), ("substitute-person", SUBSTITUTE)):
        made[key]["telecom"] = [{"system": "email", "value": mailbox}]
    made.appointment()
    return made


def test_a_moved_appointment_goes_to_who_takes_part_and_who_does_not_any_more_is_told_of(region: Region) -> None:
    stored = region.post(agenda().bundle())
    appointment = stored["Appointment"]
    assert region.tasks(appointment) == []  # it was made, not moved
    region.change(appointment, start="2026-03-10T08:00:00Z", end="2026-03-10T08:30:00Z")
    region.ended(appointment)
    assert (region.mails(DOCTOR), region.mails(SUBSTITUTE)) == (1, 0)
    taken = region.sandbox.platform_messages()[-1].document.read_bytes()
    assert read(taken).document.header.version_number == 1

    resource = region.facade.get(appointment).json()
    patient, doctor = resource["participant"]
    other = {"actor": {"reference": stored["PractitionerRole"]}, "status": "accepted"}
    assert doctor["actor"]["reference"] != other["actor"]["reference"]
    moved = {"start": "2026-03-11T08:00:00Z", "end": "2026-03-11T08:30:00Z", "participant": [patient, other]}
    region.change(appointment, **moved)
    region.ended(appointment, 2)
    assert (region.mails(DOCTOR), region.mails(SUBSTITUTE)) == (1, 1)
    [told] = [task for task in region.tasks(appointment) if task["intent"] == "proposal"]
    assert (told["status"], [one["valueString"] for one in told["input"]]) == ("requested", [DOCTOR])
    assert "Prévenez leurs titulaires" in told["description"]

    region.change(appointment, participant=[patient, doctor, other])
    [told] = [task for task in region.tasks(appointment) if task["intent"] == "proposal"]
    assert told["status"] == "cancelled"


def test_a_declared_event_arrives_at_who_receives_it_and_at_the_platform(region: Region) -> None:
    bundle = copy.deepcopy(NOTICES["note"])
    people = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Practitioner"]
    [receiver] = [one for one in people if one["name"][0]["family"] == "ORME"]
    receiver["telecom"] = [{"system": "email", "value": RECEIVER}]
    before = len(region.sandbox.platform_messages())
    communication = region.post(bundle)["Communication"]
    [task] = region.ended(communication)
    assert (task["priority"], region.mails(RECEIVER)) == ("urgent", 1)
    [taken] = region.sandbox.platform_messages()[before:]
    assert "Plaie propre, pansement refait." in taken.document.read_bytes().decode()
    region.change(communication, note=[{"text": "Vu"}])  # completed before already: it is declared once
    time.sleep(0.5)
    assert len(region.ended(communication)) == 1


def test_what_the_patient_opposes_meanwhile_does_not_leave(region: Region) -> None:
    bundle = copy.deepcopy(PLANS["full"])
    [stated] = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "CarePlan"]
    stated["identifier"] = [{"system": "urn:oid:1.2.250.1.999.42.2", "value": "PPS-OPPOSED"}]
    before = region.mails(NURSE)
    switch_faults(region.sandbox.folder, ["smtp=refuse"])  # for now: it is tried again
    try:
        plan = region.post(bundle)["CarePlan"]
        region.refused(plan)
        opposed = {
            "resourceType": "Consent",
            "status": "active",
            "scope": {"coding": [{"code": "patient-privacy"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "patient": region.facade.get(plan).json()["subject"],
            "policyRule": {"coding": [{"code": "OPTOUT"}]},
        }
        assert region.facade.post("Consent", opposed).status_code == 201
    finally:
        switch_faults(region.sandbox.folder, ["smtp=none"])
    [task] = region.ended(plan, expected="failed")
    assert "la personne s'oppose au partage" in task["statusReason"]["text"]
    assert region.mails(NURSE) == before
