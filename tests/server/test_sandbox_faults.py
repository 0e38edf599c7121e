"""The faults of the sandbox that are switched on and off while it runs, for each counterpart."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relais.cda.errors import RelaisError
from relais.server import reception
from relais.server.delivery import circuits
from relais.server.delivery.channel import Channel, DeliveryError, UnsentError
from relais.server.delivery.dmp import DmpChannel
from relais.server.delivery.hl7v2 import Hl7v2Channel
from relais.server.delivery.mail_inbox import MailInbox
from relais.server.delivery.mailbox import Mailbox
from relais.server.delivery.mss import MssChannel
from relais.server.sandbox import Sandbox, switch_faults
from relais.server.sandbox.switches import COUNTERPARTS
from relais.server.settings import Settings
from relais.server.store import Store
from support.sandbox_faults import switching
from support.shipments import other_shipment, small_shipment

_CHANNELS: dict[str, type[DmpChannel] | type[MssChannel] | type[Hl7v2Channel]] = {
    "dmp": DmpChannel,
    "smtp": MssChannel,
    "hl7v2": Hl7v2Channel,
}
_TWICE = "deux@cabinet.mssante.fr"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("faults") / "sandbox") as running:
        yield running


@pytest.fixture
def switched(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, which plays nothing any more afterwards."""
    with switching(sandbox):
        yield sandbox


def settings(sandbox: Sandbox, patience: float = 20) -> Settings:
    values = {
        "mss_sender": "plateforme@relais.mssante.fr",
        "mss_product_reference": "REF-0001",
        "organization_name": "DAC",
        "sender_timeout": 20,
        "hl7v2_timeout": patience,
        "dmp_existence_check": False,
    }
    return Settings.of(values | dict(sandbox.settings))


@contextlib.contextmanager
def channel_to(counterpart: str, sandbox: Sandbox, patience: float = 20) -> Iterator[Channel]:
    channel = _CHANNELS[counterpart](settings(sandbox, patience))
    yield channel
    if not isinstance(channel, DmpChannel):  # keeps no connection to close
        channel.close()


@pytest.mark.parametrize(
    ("counterpart", "fault"),
    [("dmp", "refuse"), *((name, fault) for name in ("smtp", "hl7v2") for fault in ("refuse", "drop", "wrong"))],
)
def test_a_fault_stands_until_it_is_switched_off(switched: Sandbox, counterpart: str, fault: str) -> None:
    assert switch_faults(switched.folder, [f"{counterpart}={fault}"]) == {counterpart: fault}
    with channel_to(counterpart, switched, patience=1) as channel:
        for _ in range(2):
            with pytest.raises(DeliveryError):
                channel.send(small_shipment())
    assert switch_faults(switched.folder, [f"{counterpart}=none"]) == {}
    with channel_to(counterpart, switched) as channel:
        assert channel.send(small_shipment())


@pytest.mark.parametrize("fault", ["drop", "wrong"])
def test_a_dmp_whose_answer_is_lost_has_the_document(switched: Sandbox, fault: str) -> None:
    shipment = other_shipment(71 if fault == "drop" else 72)
    switch_faults(switched.folder, [f"dmp={fault}", "dmp-registry=wrong"])
    with channel_to("dmp", switched) as channel:
        with pytest.raises(DeliveryError, match="may have been stored"):
            channel.send(shipment)
        switch_faults(switched.folder, ["dmp-registry=none"])
        assert "the registry holds this document" in channel.send(shipment).detail


@pytest.mark.parametrize("counterpart", _CHANNELS)
def test_slow_and_twice_do_no_harm(switched: Sandbox, counterpart: str) -> None:
    with channel_to(counterpart, switched) as channel:
        for fault in ("slow", "duplicate"):
            switch_faults(switched.folder, [f"{counterpart}={fault}"])
            assert channel.send(small_shipment())


@pytest.mark.parametrize("fault", ["refuse", "drop", "wrong"])
def test_a_mailbox_that_cannot_be_read_is_read_later(switched: Sandbox, fault: str, tmp_path: Path) -> None:
    mailbox = filled(switched, f"{fault}@cabinet.mssante.fr", tmp_path)
    switch_faults(switched.folder, [f"imap={fault}"])
    with pytest.raises(RelaisError):
        mailbox.read_once()
    switch_faults(switched.folder, ["imap=none"])
    assert mailbox.read_once() == 1


def test_a_mail_that_comes_twice_comes_no_third_time(switched: Sandbox, tmp_path: Path) -> None:
    mailbox = filled(switched, _TWICE, tmp_path)
    switch_faults(switched.folder, ["imap=duplicate"])
    assert [mailbox.read_once() for _ in range(3)] == [1, 1, 0]
    switch_faults(switched.folder, ["imap=slow"])
    switched.mail.mailboxes.deliver(_TWICE, b"Subject: autre\r\n\r\nautre", sender="x@y.mssante.fr")
    assert mailbox.read_once() == 1


def filled(sandbox: Sandbox, address: str, folder: Path) -> Mailbox:
    """A mailbox with one mail in it."""
    values = settings(sandbox)
    repository = reception.repository_of(values, Store.open(f"sqlite:///{folder / 'relais.sqlite'}"))
    sandbox.mail.mailboxes.deliver(address, b"Subject: un mail\r\n\r\nbonjour", sender="x@y.mssante.fr")
    return Mailbox(values, address, MailInbox(repository, values, reception.file_document))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("dmp=sloww", "slow, refuse, drop, duplicate, wrong"),
        ("fax=slow", "dmp, dmp-registry, dmp-retrieve, dmp-update, dmp-patients, smtp, imap, hl7v2"),
        ("dmp", "counterpart=fault"),
    ],
)
def test_an_unknown_name_is_refused_with_the_list(switched: Sandbox, asked: str, told: str) -> None:
    switch_faults(switched.folder, ["hl7v2=drop"])
    with pytest.raises(RelaisError, match=told):
        switch_faults(switched.folder, ["hl7v2=slow", asked])
    assert switch_faults(switched.folder, []) == {"hl7v2": "drop"}


def test_where_no_sandbox_was_started_nothing_is_switched(tmp_path: Path) -> None:
    with pytest.raises(RelaisError, match="no sandbox was started"):
        switch_faults(tmp_path, ["dmp=slow"])


def test_every_counterpart_has_the_usual_faults() -> None:
    usual = {"slow", "refuse", "drop", "duplicate", "wrong"}
    assert [name for name, found in COUNTERPARTS.items() if not usual <= set(found.named())] == []


def test_the_command_changes_the_sandbox_of_another_process(switched: Sandbox) -> None:
    command = [sys.executable, "-m", "relais.server.cli", "sandbox-fault", "--folder", str(switched.folder), "--json"]
    done = subprocess.run([*command, "dmp=refuse"], capture_output=True, timeout=120, check=True)
    assert json.loads(done.stdout)["faults"] == {"dmp": "refuse"}
    with channel_to("dmp", switched) as channel, pytest.raises(DeliveryError, match="XDSRepositoryBusy"):
        channel.send(small_shipment())
    refused = subprocess.run([*command, "dmp=nothing"], capture_output=True, timeout=120, check=False)
    assert (refused.returncode, b"Traceback" in refused.stderr) == (1, False)


def test_a_mailbox_that_is_full_is_tried_again_and_holds_no_other_one_up(switched: Sandbox) -> None:
    with channel_to("smtp", switched) as channel:
        full = replace(small_shipment(), recipients=("plein.medecin@cabinet.mssante.fr",))
        with pytest.raises(UnsentError, match="Mailbox full") as caught:
            channel.send(full)
        assert not circuits.is_trouble(caught.value.issues)
        assert channel.send(small_shipment())
