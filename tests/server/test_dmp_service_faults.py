"""Each fault of the services of the DMP beside ITI-41: delivered, tried again or given up with the reason, never twice.

The real worker and `relais dmp` against the sandbox, whose faults are switched on as `relais sandbox-fault` does.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from relais.mappings.context import Resource
from relais.server.cli import main
from relais.server.delivery.channel import Shipment
from relais.server.delivery.dmp import DmpChannel
from relais.server.sandbox import Sandbox, switch_faults
from relais.server.store import Store
from support.dmp import RESPONSIBLE, dmp_settings
from support.orders import Office
from support.plans import PLANS
from support.sandbox_faults import switching
from support.shipments import other_shipment

INS = "279035121518989"
PASSING = ("refuse", "drop", "unavailable", "wrong-relation")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("services") / "sandbox") as started:
        yield started


@pytest.fixture
def sandbox(running: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, which plays nothing any more afterwards."""
    with switching(running) as sandbox:
        yield sandbox


@pytest.fixture
def office(lite: Store, sandbox: Sandbox) -> Office:
    """A facade and a worker that sends to the DMP of the sandbox."""
    found = Office(lite, **dict(sandbox.settings), sender_timeout=20)
    found.channels["dmp"] = DmpChannel(found.settings)  # type: ignore[assignment]
    return found


def plan_of(office: Office) -> str:
    """A plan with a number of its own."""
    bundle = copy.deepcopy(PLANS["full"])
    plan = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "CarePlan")
    plan["identifier"] = [{"system": "urn:oid:1.2.250.1.999.42.2", "value": f"PPS-FAULT-{next(_numbers)}"}]
    return office.post(bundle, "CarePlan")


def sent(office: Office) -> str:
    """A plan that is on the DMP."""
    plan = plan_of(office)
    assert ended(office, office.order(plan, "dmp"))[0] == "delivered"
    return plan


def ended(office: Office, task: Resource) -> tuple[str, str, list[str | None]]:
    """State, reason and outcomes of the only delivery once it has ended."""
    for _ in range(8):
        office.work()
        office.wait(minutes=10)
    (delivery,) = office.deliveries(task)
    assert delivery.state != "waiting"
    assert "fault of Relais" not in str(delivery.attempts)
    return delivery.state, delivery.reason or "", [attempt.outcome for attempt in delivery.attempts]


# --- the worker ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("service", ["dmp-patients", "dmp-registry"])
def test_what_cannot_be_asked_first_is_asked_again_and_the_document_goes_once(
    office: Office, sandbox: Sandbox, service: str, fault: str
) -> None:
    plan, before = sent(office) if service == "dmp-registry" else plan_of(office), len(sandbox.documents())
    office.change(plan, title="Plan revu")
    if service == "dmp-patients":
        office.channels["dmp"] = DmpChannel(office.settings)  # type: ignore[assignment]  # knows no open DMP yet
    switch_faults(sandbox.folder, [f"{service}={fault}"])
    task = office.order(plan, "dmp")
    office.work()
    switch_faults(sandbox.folder, [f"{service}=none"])
    assert ended(office, task) == ("delivered", "", ["retry", "delivered"])
    assert len(sandbox.documents()) == before + 1


@pytest.mark.parametrize(
    ("service", "fault", "told"),
    [
        *(("dmp-patients", fault, "") for fault in (*PASSING, "blind")),
        ("dmp-patients", "wrong", "the DMP answers about another patient"),
        *(("dmp-registry", fault, "") for fault in PASSING),
    ],
)
def test_given_up_before_anything_was_sent_it_is_surely_not_there(
    office: Office, sandbox: Sandbox, service: str, fault: str, told: str
) -> None:
    plan = sent(office) if service == "dmp-registry" else plan_of(office)
    office.change(plan, title="Plan revu")
    before = len(sandbox.documents())
    switch_faults(sandbox.folder, [f"{service}={fault}"])
    state, reason, outcomes = ended(office, office.order(plan, "dmp"))
    assert (state, outcomes[-1], len(sandbox.documents())) == ("dead", "refused", before)
    assert reason
    assert told in reason


@pytest.mark.parametrize("fault", ["slow", "duplicate"])
@pytest.mark.parametrize("service", ["dmp-patients", "dmp-registry"])
def test_late_answers_and_answers_that_come_double_do_no_harm(
    office: Office, sandbox: Sandbox, service: str, fault: str
) -> None:
    plan = sent(office) if service == "dmp-registry" else plan_of(office)
    office.change(plan, title="Plan revu")
    before = len(sandbox.documents())
    switch_faults(sandbox.folder, [f"{service}={fault}"])
    assert ended(office, office.order(plan, "dmp")) == ("delivered", "", ["delivered"])
    assert len(sandbox.documents()) == before + 1


def test_what_the_registry_does_not_show_is_replaced_all_the_same(office: Office, sandbox: Sandbox) -> None:
    plan = sent(office)
    office.change(plan, title="Plan revu")
    switch_faults(sandbox.folder, ["dmp-registry=wrong"])
    assert ended(office, office.order(plan, "dmp"))[:2] == ("delivered", "")
    former, current = sandbox.documents()[-2:]
    assert (former.status, current.status, current.replaces) == ("Deprecated", "Approved", former.entry_uuid)


def test_what_others_wrote_and_was_hidden_is_replaced_though_it_is_not_shown_here(
    lite: Store, sandbox: Sandbox
) -> None:
    office = Office(lite, **dict(sandbox.settings), sender_timeout=20, organization_finess="750000013")
    office.channels["dmp"] = DmpChannel(office.settings)  # type: ignore[assignment]
    plan, before = plan_of(office), len(sandbox.documents())
    for parameters in ({"hideFrom": "professionals"}, {"intent": "reissue", "hideFrom": "none"}):
        assert ended(office, office.order(plan, "dmp", **parameters))[:2] == ("delivered", "")
    assert [one.status for one in sandbox.documents()[before:]] == ["Deprecated", "Approved"]


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [
        ("slow", ["delivered"]),
        ("refuse", ["retry", "delivered"]),
        ("unavailable", ["retry", "delivered"]),
        ("drop", ["delivered"]),
        ("wrong", ["delivered"]),
        ("duplicate", ["delivered"]),
    ],
)
def test_a_withdrawal_deletes_once_whatever_the_registry_says(
    office: Office, sandbox: Sandbox, fault: str, outcomes: list[str]
) -> None:
    plan = sent(office)
    switch_faults(sandbox.folder, [f"dmp-update={fault}"])
    task = office.order(plan, "dmp", intent="withdraw")
    office.work()
    switch_faults(sandbox.folder, ["dmp-update=none"])
    assert ended(office, task) == ("delivered", "", outcomes)
    assert sandbox.documents()[-1].status == "Deleted"


def test_a_withdrawal_that_is_refused_to_the_end_has_deleted_nothing(office: Office, sandbox: Sandbox) -> None:
    plan = sent(office)
    switch_faults(sandbox.folder, ["dmp-update=refuse"])
    state, reason, _ = ended(office, office.order(plan, "dmp", intent="withdraw"))
    assert (state, sandbox.documents()[-1].status) == ("dead", "Approved")
    assert "XDSRegistryBusy" in reason


# --- relais dmp ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shipment(sandbox: Sandbox) -> Shipment:
    """A document on the DMP, of the structure of the settings."""
    found = other_shipment(1000 + next(_numbers))
    DmpChannel(dmp_settings(sandbox)).send(found)
    return found


def relais(sandbox: Sandbox, *arguments: str, code: int = 0, **changes: str) -> str:
    values = {**sandbox.settings, **RESPONSIBLE, "sender_timeout": 20, **changes}
    environ = {f"RELAIS_{name.upper()}": str(value) for name, value in values.items()}
    done = CliRunner().invoke(main, ["dmp", *arguments], env=environ)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


def of(shipment: Shipment) -> str:
    return shipment.submission.entries[0].unique_id


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("refuse", "XDSRepositoryBusy"),
        ("drop", "the connection was cut"),
        ("wrong", "size or SHA-1 of the document are not those of its entry"),
        ("unavailable", "HTTP 503"),
        ("wrong-relation", "does not relate to our message"),
        ("blind", "does not give the document"),
    ],
)
def test_a_document_that_cannot_be_read_is_not_written(
    sandbox: Sandbox, shipment: Shipment, tmp_path: Path, fault: str, told: str
) -> None:
    switch_faults(sandbox.folder, [f"dmp-retrieve={fault}"])
    assert told in relais(sandbox, "retrieve", INS, of(shipment), "-o", str(tmp_path / "read.xml"), code=1)
    assert not (tmp_path / "read.xml").exists()


@pytest.mark.parametrize("fault", ["slow", "duplicate"])
def test_a_document_that_comes_late_or_twice_is_written(
    sandbox: Sandbox, shipment: Shipment, tmp_path: Path, fault: str
) -> None:
    switch_faults(sandbox.folder, [f"dmp-retrieve={fault}"])
    relais(sandbox, "retrieve", INS, of(shipment), "-o", str(tmp_path / "read.xml"))
    assert (tmp_path / "read.xml").read_bytes() == shipment.document


@pytest.mark.parametrize("fault", ["drop", "duplicate", "wrong"])
def test_a_change_that_is_made_is_told_as_made(sandbox: Sandbox, shipment: Shipment, fault: str) -> None:
    switch_faults(sandbox.folder, [f"dmp-update={fault}"])
    assert "MASQUE_PS" in relais(sandbox, "hide", INS, of(shipment), "--from", "professionals")
    assert " archived " in relais(sandbox, "change", INS, of(shipment), "archive")
    assert " deleted " in relais(sandbox, "change", INS, of(shipment), "delete")


@pytest.mark.parametrize(
    ("fault", "told"),
    [("refuse", "XDSRegistryBusy"), ("unavailable", "HTTP 503"), ("blind", "shows the entry without it")],
)
def test_a_change_that_is_not_made_is_told_as_not_made(
    sandbox: Sandbox, shipment: Shipment, fault: str, told: str
) -> None:
    switch_faults(sandbox.folder, [f"dmp-update={fault}"])
    assert told in relais(sandbox, "hide", INS, of(shipment), "--from", "professionals", code=1)
    assert told in relais(sandbox, "change", INS, of(shipment), "delete", code=1)


def test_a_registry_that_tells_everything_twice_is_listed_once(sandbox: Sandbox, shipment: Shipment) -> None:
    switch_faults(sandbox.folder, ["dmp-registry=duplicate"])
    found = json.loads(relais(sandbox, "find", INS, "--json"))["documents"]
    assert [one["uniqueId"] for one in found].count(of(shipment)) == 1


@pytest.mark.parametrize(
    ("fault", "told"), [("refuse", "SOAP fault Receiver"), ("wrong", "about another patient"), ("drop", "was cut")]
)
def test_an_existence_test_that_fails_says_why(sandbox: Sandbox, fault: str, told: str) -> None:
    switch_faults(sandbox.folder, [f"dmp-patients={fault}"])
    assert told in relais(sandbox, "status", INS, code=1)


# --- whose document it is -----------------------------------------------------------------------------------------


def test_a_document_of_others_is_not_deleted_and_nothing_is_asked_for(sandbox: Sandbox, shipment: Shipment) -> None:
    switch_faults(sandbox.folder, ["dmp-update=refuse"])  # what a request would be told
    others = {"responsible_rpps": "10109876540", "organization_finess": "750000013"}
    said = relais(sandbox, "change", INS, of(shipment), "delete", code=1, **others)
    assert "only the author of a document or the structure of the author deletes it" in said
    assert "TD3.3c" in said
    assert "XDSRegistryBusy" in relais(sandbox, "change", INS, of(shipment), "archive", code=1, **others)


def test_a_colleague_of_the_same_structure_deletes_it(sandbox: Sandbox, shipment: Shipment) -> None:
    assert " deleted " in relais(sandbox, "change", INS, of(shipment), "delete", responsible_rpps="10109876540")
