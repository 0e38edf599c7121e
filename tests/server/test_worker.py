"""The worker and its operators, on both stores: circuits, resuming, acknowledgements, clocks, evidence, upgrades."""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from alembic import command
from alembic.config import Config
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import pkcs7
from sqlalchemy import delete, text

from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.server import cli, commands
from relais.server.conformance import Conformance
from relais.server.delivery import acknowledgements, circuits, evidence, ledger, outbox, redaction, service, wakeup
from relais.server.delivery.channel import (
    DeliveryError,
    Exchange,
    Shipment,
    UnsentError,
    record,
    recording,
)
from relais.server.delivery.https import LostAnswerError
from relais.server.delivery.verdicts import Verdicts
from relais.server.fhir.outcome import status_of
from relais.server.fhir.repository import Repository
from relais.server.search import parameters, settle
from relais.server.search.parameters import forget_declared
from relais.server.settings import Settings
from relais.server.store import Store, StoreError, migrations, schema
from relais.server.store.database import Database
from support.orders import NOW, Office, settings_of, trouble
from support.packages import search_parameter, write
from support.plans import PLANS
from support.shipments import small_shipment

DMP = "dmp dmp.test"


@pytest.fixture
def office(store: Store) -> Office:
    return Office(store)


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Office]:
    """On SQLite, for what does not depend on the engine."""
    store = Store.open(f"sqlite:///{tmp_path / 'orders.sqlite'}")
    yield Office(store)
    store.close()


def plan_of(office: Office, number: int = 0) -> str:
    """A plan of its own lineage."""
    bundle = json.loads(json.dumps(PLANS["minimal"]))
    plan = next(entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "CarePlan")
    plan["identifier"] = [{"system": "urn:oid:1.2.250.1.999.42.2", "value": f"PPS-{number}"}]
    return office.post(bundle, "CarePlan")


def flag(task: Resource) -> str | None:
    return task.get("businessStatus", {}).get("coding", [{}])[0].get("code")


# --- circuits ---------------------------------------------------------------------------------------------------


def test_a_destination_that_fails_is_left_alone_then_probed_then_used(office: Office) -> None:
    office.channels["dmp"].failures = [trouble() for _ in range(4)]
    tasks = [office.order(plan_of(office, number), "dmp") for number in range(6)]
    assert office.work() == 3  # the third failure opens the circuit, the others do not even try
    with office.store.snapshot() as connection:
        (circuit,) = circuits.known(connection)
    assert (circuit.destination, circuit.state(office.now), circuit.failures) == (DMP, "open", 3)
    office.wait(seconds=80)
    assert office.work() == 1  # one probe, which fails: open for longer
    office.wait(seconds=80)
    assert office.work() == 0
    office.wait(seconds=80)
    assert office.work() == 6
    assert {office.task(task)["status"] for task in tasks} == {"completed"}
    with office.store.snapshot() as connection:
        assert circuits.known(connection) == []


def test_other_destinations_do_not_wait_for_one_that_is_down(lite: Office) -> None:
    lite.channels["dmp"].failures = [trouble() for _ in range(9)]
    plans = [plan_of(lite, number) for number in range(4)]
    for plan in plans:
        lite.order(plan, "dmp", "hl7v2")
    lite.work()
    assert len(lite.channels["hl7v2"].taken) == 4


def test_only_one_worker_probes(office: Office) -> None:
    office.channels["dmp"].failures = [trouble() for _ in range(3)]
    for number in range(5):
        office.order(plan_of(office, number), "dmp")
    office.work()
    office.wait(seconds=80)
    during: list[object] = []

    def look(_: Shipment) -> None:
        with office.store.transaction() as transaction:
            during.append(circuits.passable(transaction.connection, [DMP], office.now))

    office.channels["dmp"].on_send = look
    office.worker.step()
    assert during == [(frozenset(), frozenset())]


def test_what_one_mailbox_refuses_for_now_opens_no_circuit(lite: Office) -> None:
    busy = DeliveryError(Issue("error", "transient", "451", "recipients[0]"), retry=True)
    lite.channels["mss"].failures = [busy] * 3
    for number in range(3):
        lite.order(plan_of(lite, number), "mss", recipient=f"n{number}@cabinet.mssante.fr")
    lite.work()
    with lite.store.snapshot() as connection:
        assert circuits.known(connection) == []


# --- given up, resumed, cancelled -------------------------------------------------------------------------------


def give_up(office: Office, **order: Any) -> Resource:
    """An order whose destination refused it."""
    office.channels["dmp"].failures = [DeliveryError(Issue("error", "invalid", "unknown code"), retry=False)]
    task = office.order(plan_of(office), "dmp", **order)
    office.work()
    assert office.task(task)["status"] == "failed"
    return task


def test_what_was_given_up_is_resumed_with_the_same_identifiers(office: Office) -> None:
    task = give_up(office)
    refused: list[Shipment] = []
    office.channels["dmp"].on_send = refused.append
    assert ledger.resume(office.backstage, task["id"]) == 1
    assert office.task(task)["status"] == "in-progress"
    office.work()
    assert office.task(task)["status"] == "completed"
    (delivery,) = office.deliveries(task)
    assert refused[0].message_id == delivery.message_id
    assert [attempt.outcome for attempt in delivery.attempts] == ["refused", "delivered"]


def test_attempts_made_before_it_was_resumed_do_not_count(lite: Office) -> None:
    lite.channels["hl7v2"].failures = [trouble("conflict") for _ in range(7)]
    task = lite.order(plan_of(lite), "hl7v2")
    for _ in range(8):
        lite.work()
        lite.wait(hours=1)
    assert (lite.task(task)["status"], flag(lite.task(task))) == ("failed", "unconfirmed")
    assert len(lite.deliveries(task)[0].attempts) == 4
    ledger.resume(lite.backstage, task["id"])
    for _ in range(4):
        lite.work()
        lite.wait(hours=1)
    assert lite.task(task)["status"] == "completed"


def test_a_version_that_was_overtaken_is_not_resumed(office: Office) -> None:
    plan = plan_of(office)
    office.channels["dmp"].failures = [DeliveryError(Issue("error", "invalid", "unknown code"), retry=False)]
    former = office.order(plan, "dmp")
    office.work()
    office.change(plan, title="Plan revu")
    office.order(plan, "dmp")
    office.work()
    with pytest.raises(RelaisError, match="later version"):
        ledger.resume(office.backstage, former["id"])
    assert ledger.resume_dead(office.backstage) == 0


def test_a_version_waits_for_the_former_one_at_the_same_destination(office: Office) -> None:
    plan = plan_of(office)
    office.channels["dmp"].failures = [trouble()]
    office.order(plan, "dmp")
    office.work()
    office.change(plan, title="Plan revu")
    office.order(plan, "dmp", priority="stat")
    assert office.work() == 0
    office.wait(seconds=5)
    assert office.work() == 2
    assert [len(shipment.submission.associations) for shipment in office.channels["dmp"].taken] == [0, 1]


def test_what_waits_is_cancelled_and_what_was_delivered_stays(office: Office) -> None:
    office.channels["dmp"].failures = [trouble()]
    task = office.order(plan_of(office), "dmp", "hl7v2")
    office.work()
    assert ledger.cancel(office.backstage, task["id"], "ordered by mistake") == 1
    ended = office.task(task)
    assert (ended["status"], "ordered by mistake" in ended["statusReason"]["text"]) == ("cancelled", True)
    assert [one.state for one in office.deliveries(task)] == ["cancelled", "delivered"]
    office.wait(hours=2)
    assert office.work() == 0
    with pytest.raises(RelaisError, match="nothing to cancel"):
        ledger.cancel(office.backstage, task["id"], "again")


def test_a_cancelled_delivery_that_may_have_arrived_is_unconfirmed(office: Office) -> None:
    office.channels["dmp"].failures = [trouble("timeout")]
    plan = plan_of(office)
    task = office.order(plan, "dmp")
    office.work()
    assert ledger.cancel(office.backstage, task["id"], "ordered by mistake") == 1
    assert [one.state for one in office.deliveries(task)] == ["unconfirmed"]
    assert (office.task(task)["status"], flag(office.task(task))) == ("failed", "unconfirmed")
    office.change(plan, title="Plan revu")
    office.order(plan, "dmp")
    office.work()
    assert len(office.channels["dmp"].taken[0].submission.associations) == 1


@pytest.mark.parametrize("channel", ["mss", "hl7v2"])
def test_what_may_have_arrived_is_resumed_and_not_ordered_again(lite: Office, channel: str) -> None:
    named = {"recipient": "infirmier@ssiad.mssante.fr"} if channel == "mss" else {}
    lite.channels[channel].failures = [trouble("timeout") for _ in range(4)]
    plan = plan_of(lite)
    task = lite.order(plan, channel, **named)
    for _ in range(10):
        lite.work()
        lite.wait(hours=2)
    assert [one.state for one in lite.deliveries(task)] == ["unconfirmed"]
    with pytest.raises(RelaisError, match="resume that order") as raised:
        lite.order(plan, channel, **named)
    assert status_of(raised.value) == 409
    assert ledger.resume(lite.backstage, task["id"]) == 1


def test_the_listing_tells_orders_counts_and_circuits(lite: Office) -> None:
    lite.channels["dmp"].failures = [trouble() for _ in range(3)]
    tasks = [lite.order(plan_of(lite, number), "dmp", "hl7v2") for number in range(3)]
    lite.work()
    said = ledger.listing(lite.backstage, ("waiting",), 2)
    assert [one["task"] for one in said["orders"]] == [tasks[2]["id"], tasks[1]["id"]]
    counts = {(one["channel"], one["state"]): one["deliveries"] for one in said["counts"]}
    assert counts == {("dmp", "waiting"): 3, ("hl7v2", "delivered"): 3}
    assert "circuit open" in ledger.listing_as_text(said)
    shown = ledger.shown(lite.backstage, tasks[0]["id"])
    assert [one["exchanges"] for one in shown["deliveries"]] == [1, 1]
    assert "tried 1 time" in ledger.as_text(shown)
    with pytest.raises(RelaisError, match="no delivery order"):
        ledger.shown(lite.backstage, "none")


# --- acknowledgements -------------------------------------------------------------------------------------------


def acknowledge(office: Office, message_id: str, kind: Any, *, positive: bool = True) -> list[str]:
    with office.backstage.transaction() as transaction:
        return acknowledgements.record(
            transaction.connection, message_id, kind, positive=positive, detail="said so", now=office.now
        )


def test_an_acknowledgement_that_does_not_come_raises_a_flag_until_it_comes(office: Office) -> None:
    task = office.order(plan_of(office), "hl7v2")
    office.work()
    assert (office.task(task)["status"], flag(office.task(task))) == ("completed", "acknowledgement-awaited")
    office.wait(days=3)
    office.worker._house_kept = 0.0
    office.worker._keep_house()
    assert flag(office.task(task)) == "acknowledgement-overdue"
    (delivery,) = office.deliveries(task)
    for kind in ("reception", "reading"):
        assert acknowledge(office, delivery.message_id, kind) == [task["id"]]
    assert acknowledge(office, "<unknown@x>", "reading") == []
    with office.store.snapshot() as connection:
        said = acknowledgements.of_delivery(connection, delivery.key)
    assert [(one.kind, one.state) for one in said] == [("reading", "positive"), ("reception", "positive")]


def test_an_acknowledgement_may_come_before_the_attempt_is_recorded(lite: Office) -> None:
    task = lite.order(plan_of(lite), "hl7v2", recipient="infirmier@ssiad.mssante.fr")
    lite.channels["hl7v2"].on_send = lambda shipment: acknowledge(lite, shipment.message_id, "reception")
    lite.work()
    (delivery,) = lite.deliveries(task)
    with lite.store.snapshot() as connection:
        said = {one.kind: one.state for one in acknowledgements.of_delivery(connection, delivery.key)}
    assert said == {"reception": "positive", "reading": "awaited"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_nobody_reads_what_has_bounced(lite: Office, when: str) -> None:
    task = lite.order(plan_of(lite), "mss", recipient="infirmier@ssiad.mssante.fr")
    if when == "before":
        lite.channels["mss"].on_send = lambda sent: acknowledge(lite, sent.message_id, "reception", positive=False)
    lite.work()
    (delivery,) = lite.deliveries(task)
    if when == "after":
        acknowledge(lite, delivery.message_id, "reception", positive=False)
    with lite.store.snapshot() as connection:
        said = {one.kind: one.state for one in acknowledgements.of_delivery(connection, delivery.key)}
    assert said == {"reception": "negative"}
    listing = ledger.listing_as_text(ledger.listing(lite.backstage, (), 10))
    assert "reception: negative" in listing and "said so" in listing
    acknowledge(lite, delivery.message_id, "reading")
    with lite.store.snapshot() as connection:
        said = {one.kind: one.state for one in acknowledgements.of_delivery(connection, delivery.key)}
    assert said == {"reception": "negative", "reading": "positive"}


def test_none_is_awaited_where_none_was_asked_for(lite: Office) -> None:
    task = lite.order(plan_of(lite), "hl7v2", acknowledgement="none")
    lite.work()
    assert flag(lite.task(task)) is None


# --- clocks and stores ------------------------------------------------------------------------------------------


def test_a_clock_set_back_does_not_hold_deliveries_up(office: Office) -> None:
    office.channels["dmp"].failures = [trouble()]
    tasks = [office.order(plan_of(office, number), "dmp") for number in range(2)]
    office.worker.step()
    leased = _lease(office)
    assert leased is not None
    office.wait(days=-400)
    assert office.work() == 0
    office.worker._house_kept = 0.0
    office.worker._keep_house()
    assert office.work() == 1  # what waited for another attempt; the lease may still be held
    office.wait(seconds=31)
    assert office.work() == 1
    assert [office.task(task)["status"] for task in tasks] == ["completed", "completed"]


def _lease(office: Office) -> outbox.Leased | None:
    with office.store.transaction() as transaction:
        return outbox.lease(transaction.connection, office.now, timedelta(seconds=30))


def test_a_store_that_is_down_is_one_line_of_the_log(
    lite: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()

    @contextmanager
    def down() -> Iterator[None]:
        stop.set()
        raise StoreError(Issue("error", "transient", "the database is unavailable"))
        yield

    monkeypatch.setattr(lite.worker._repository, "transaction", down)
    lite.worker.run(stop)
    [said] = [record.getMessage() for record in caplog.records if record.name == "relais.delivery"]
    assert said.endswith("it tries again: error: the database is unavailable")


def test_an_outcome_waits_for_a_store_that_is_down(lite: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = lite.worker._repository
    real, outages = repository.transaction, iter([True, True])

    @contextmanager
    def failing() -> Iterator[Any]:
        if next(outages, False):
            raise StoreError(Issue("error", "transient", "down"))
        with real() as transaction:
            yield transaction

    lite.channels["dmp"].on_send = lambda _: monkeypatch.setattr(repository, "transaction", failing)
    task = lite.order(plan_of(lite), "dmp")
    lite.worker._conduct = _quick(lite)
    assert lite.worker.step()
    assert lite.task(task)["status"] == "completed"
    assert len(lite.channels["dmp"].taken) == 1


def _quick(office: Office) -> Any:
    return replace(office.worker._conduct, retry_base=timedelta())


def test_a_waiting_worker_is_woken_by_an_order(office: Office, store_url: str) -> None:
    waker, woken = wakeup.waker(store_url), threading.Event()
    waker.wait(threading.Event(), 0.2)  # connects

    def wait() -> None:
        waker.wait(threading.Event(), 60)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not woken.wait(0.3)
    office.order(plan_of(office), "dmp")
    assert woken.wait(30)
    thread.join()
    waker.close()


def test_a_waker_stops_when_told(store_url: str, store: Store) -> None:
    stop, waker = threading.Event(), wakeup.waker(store_url)
    stop.set()
    waker.wait(stop, 60)
    waker.wait(stop, 60)
    waker.close()


# --- evidence ---------------------------------------------------------------------------------------------------


def unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(files.pop("manifest.json")), files


def test_evidence_holds_the_exact_bytes_of_every_attempt(lite: Office) -> None:
    lite.channels["dmp"].failures = [trouble()]
    task = lite.order(plan_of(lite), "dmp")
    lite.work()
    lite.wait(seconds=10)
    lite.work()
    content = ledger.evidence_pack(lite.backstage, task["id"], lite.settings, redacted=False)
    manifest, files = unpacked(content)
    document = lite.channels["dmp"].taken[0].document
    (key,) = (delivery.key for delivery in lite.deliveries(task))
    assert files[f"{key}/01-01-FAKE-request.bin"] == files[f"{key}/02-01-FAKE-request.bin"] == document
    assert [files[f"{key}/0{n}-01-FAKE-response.bin"][:2] for n in (1, 2)] == [b"KO", b"OK"]
    assert [one["attempt"] for one in manifest["exchanges"]] == [1, 2]
    assert manifest["deliveries"][0]["state"] == "delivered"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE delivery_exchange SET endpoint = 'elsewhere' WHERE attempt = 1",
        "UPDATE delivery_exchange SET response_hash = request_hash WHERE attempt = 1",
        "UPDATE delivery_exchange SET request = response WHERE attempt = 2",
        "DELETE FROM delivery_exchange WHERE attempt = 1",
    ],
)
def test_evidence_that_was_changed_is_not_given_out(lite: Office, change: str) -> None:
    lite.channels["dmp"].failures = [trouble()]
    task = lite.order(plan_of(lite), "dmp")
    lite.work()
    lite.wait(seconds=10)
    lite.work()
    with lite.store.transaction() as transaction:
        transaction.connection.execute(text(change))
    with pytest.raises(RelaisError, match="changed after it was written"):
        ledger.evidence_pack(lite.backstage, task["id"], lite.settings, redacted=False)


def test_after_the_retention_the_bytes_are_gone_and_the_chain_holds(lite: Office) -> None:
    task = lite.order(plan_of(lite), "dmp")
    lite.work()
    with lite.store.transaction() as transaction:
        later = datetime.now(UTC) + timedelta(days=1)  # exchanges bear the time of the wire
        assert evidence.forget(transaction.connection, later) == 1
    manifest, files = unpacked(ledger.evidence_pack(lite.backstage, task["id"], lite.settings, redacted=False))
    assert (len(manifest["exchanges"]), files) == (1, {})


def test_what_was_forgotten_is_not_looked_through_again(lite: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[datetime, datetime | None]] = []
    real = evidence.forget

    def forget(connection: Any, before: datetime, since: datetime | None) -> int:
        asked.append((before, since))
        return real(connection, before, since)

    monkeypatch.setattr(evidence, "forget", forget)
    lite.order(plan_of(lite), "dmp")
    lite.work()
    for days in (0, 1):
        lite.wait(days=days)
        lite.worker._house_kept = 0.0
        lite.worker._keep_house()
    ended = [before for before, _ in asked]
    assert [since for _, since in asked] == [None, *ended[:-1]]
    with lite.store.transaction() as transaction:
        later = datetime.now(UTC) + timedelta(days=1)
        assert evidence.forget(transaction.connection, later, later) == 0
        assert evidence.forget(transaction.connection, later, ended[-1] - timedelta(days=999)) == 1


def test_an_answer_that_makes_no_sense_leaves_a_doubt(lite: Office) -> None:
    lite.channels["dmp"].failures = [LostAnswerError("structure", "no FHIR")]
    task = lite.order(plan_of(lite), "dmp")
    lite.work()
    ledger.cancel(lite.backstage, task["id"], "not wanted")
    assert [one.state for one in lite.deliveries(task)] == ["unconfirmed"]


def test_no_evidence_is_kept_where_none_is_wanted(lite: Office) -> None:
    office = Office(lite.store, evidence_days=0.0)
    task = office.order(plan_of(office), "dmp")
    office.work()
    assert ledger.shown(office.backstage, task["id"])["deliveries"][0]["exchanges"] == 0


def test_a_signed_manifest(lite: Office, tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("relais.test")
    certificate = tmp_path / "sign.pem"
    certificate.write_bytes(issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes())
    office = Office(lite.store, dmp_signing_certificate=str(certificate))
    task = office.order(plan_of(office), "dmp")
    office.work()
    _, files = unpacked(ledger.evidence_pack(office.backstage, task["id"], office.settings, redacted=True))
    (signer,) = pkcs7.load_der_pkcs7_certificates(files["manifest.p7s"])
    assert issued.cert_chain_pems[0].bytes().strip() in certificate.read_bytes()
    assert "relais.test" in str(signer.extensions)
    wrong = Office(lite.store, dmp_signing_certificate=str(tmp_path / "absent.pem"))
    with pytest.raises(RelaisError, match="dmp_signing_certificate"):
        ledger.evidence_pack(wrong.backstage, task["id"], wrong.settings, redacted=True)


MAIL = (
    b"From: a@b.mssante.fr\r\nTo: 279035121518989@patient.mssante.fr\r\nSubject: XDM/1.0/DDM+PATTERSON Dominique\r\n"
    b'Message-ID: <1@b>\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\n'
    b"Bonjour Dominique PATTERSON\r\n\r\nPATTERSON: a line of the text\r\n--x\r\n"
    b'Content-Type: application/pdf; name="20260112_Plan_PATTERSON_DOMINIQUE.pdf"\r\n\r\nJVBERi0=\r\n--x--\r\n'
)
SOAP = (
    b'Content-Type: application/soap+xml\r\n\r\n<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    b' xmlns:a="http://www.w3.org/2005/08/addressing" xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">'
    b"<s:Header><a:Action>urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b</a:Action></s:Header>"
    b'<s:Body><r:ExternalIdentifier value="279035121518989^^^"/><r:Slot name="sourcePatientInfo">'
    b"<r:Value>PID-5|PATTERSON^DOMINIQUE</r:Value></r:Slot></s:Body></s:Envelope>"
)
MDM = b"MSH|^~\\&|RELAIS|DAC|PFI|CHU|20260302||MDM^T02|ID1|P|2.6\rPID|||279035121518989||PATTERSON^DOMINIQUE\r"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (MAIL, "Message-ID: <1@b>"),
        (MAIL, "Content-Type: application/pdf; name=…\n"),
        (SOAP, "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"),
        (MDM, "MDM^T02|ID1"),
        (b"\x0bMSH|^~\\&|PFI|HOP|||||ACK|A1|P|2.5||Dominique\rMSA|AE|ID1|PATTERSON inconnu\r\x1c\r", "MSA|AE|ID1|(17)"),
        (b"250 2.1.0 Dominique PATTERSON 279035121518989\r\n554 5.6.0 PATTERSON\r\n", "554 5.6.0"),
    ],
)
def test_an_outline_tells_how_it_went_and_nothing_of_the_patient(data: bytes, shown: str) -> None:
    outline = redaction.redacted(data)
    assert shown in outline
    assert not re.search(r"PATTERSON|Dominique|DOMINIQUE|279035121518989", outline)


def test_redacted_evidence_names_no_patient(lite: Office) -> None:
    task = lite.order(plan_of(lite), "mss", patient=True)
    lite.work()
    content = ledger.evidence_pack(lite.backstage, task["id"], lite.settings, redacted=True)
    manifest, files = unpacked(content)
    whole = json.dumps(manifest) + b"".join(files.values()).decode()
    patient = lite.read(lite.read(task["focus"]["reference"].split("/_history")[0])["subject"]["reference"])
    names = [name["family"] for name in patient["name"]] + [one["value"] for one in patient["identifier"]]
    assert names
    assert not any(name in whole for name in names)
    assert manifest["redacted"]


def test_exchanges_are_collected_only_while_an_attempt_records_them() -> None:
    record("FAKE", "fake://x", NOW, b"lost", None)
    with recording() as exchanges:
        record("FAKE", "fake://x", NOW, b"kept", None)
    record("FAKE", "fake://x", NOW, b"lost", None)
    assert [one.request for one in exchanges] == [b"kept"]


def test_seals_of_a_delivery_chain_over_its_attempts(lite: Office) -> None:
    task = lite.order(plan_of(lite), "dmp")
    (delivery,) = lite.deliveries(task)
    with lite.store.transaction() as transaction:
        for attempt in (1, 2):
            exchange = Exchange("FAKE", "fake://x", NOW, NOW, (b"sa", b"me"), b"same")
            evidence.keep(transaction.connection, delivery.key, attempt, evidence.packed([exchange, exchange]))
        kept = evidence.of_delivery(transaction.connection, delivery.key)
    assert len({one.seal for one in kept}) == 4
    assert evidence.broken(kept) == []
    assert evidence.broken(kept[1:]) == [kept[1]]


# --- upgrade ----------------------------------------------------------------------------------------------------

FORMER = (
    "CREATE TABLE delivery_order (task TEXT {c} NOT NULL PRIMARY KEY, document TEXT {c} NOT NULL, focus TEXT,"
    " subject TEXT, placed BIGINT NOT NULL)",
    "CREATE TABLE delivery (key {serial}, task TEXT {c} NOT NULL REFERENCES delivery_order (task),"
    " channel TEXT NOT NULL, recipient TEXT {c} NOT NULL, lineage TEXT {c} NOT NULL, consignment {blob} NOT NULL,"
    " state TEXT NOT NULL, attempts INTEGER NOT NULL, due BIGINT NOT NULL, leased_until BIGINT,"
    " UNIQUE (task, channel, recipient))",
    "CREATE INDEX delivery_due ON delivery (state, due)",
    "CREATE INDEX delivery_lineage ON delivery (lineage, channel, key)",
)


def test_orders_of_a_store_made_before_there_were_revisions_are_delivered(store_url: str) -> None:
    database = Database(store_url)
    words = {"c": "", "serial": "INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", "blob": "BLOB"}
    if not database.is_sqlite:
        words = {"c": 'COLLATE "C"', "serial": "BIGSERIAL PRIMARY KEY NOT NULL", "blob": "BYTEA"}
    shipment = small_shipment()
    consignment = outbox._encode(outbox.Consignment(shipment.submission, (), "<1@b.mssante.fr>"))
    with database.write() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        command.upgrade(config, "0002")
        for statement in FORMER:
            connection.execute(text(statement.format(**words)))
        connection.execute(text("INSERT INTO delivery_order VALUES ('t1', '2.25.1', NULL, NULL, 5)"))
        connection.execute(
            text(
                "INSERT INTO delivery (task, channel, recipient, lineage, consignment, state, attempts, due)"
                " VALUES ('t1', 'dmp', '', '2.25.9', :consignment, 'waiting', 0, 5)"
            ),
            {"consignment": consignment},
        )
    database.close()
    store = Store.open(store_url)
    with store.transaction() as transaction:
        leased = outbox.lease(transaction.connection, NOW, timedelta(seconds=30))
        found = outbox.order(transaction.connection, "t1")
    assert leased is not None
    assert leased.consignment.acknowledgements == ("reception", "reading")
    assert found is not None
    assert (found[0].priority, found[0].action, found[1][0].message_id) == ("routine", "send", "<1@b.mssante.fr>")
    store.close()


# --- official rules ---------------------------------------------------------------------------------------------


def test_a_document_is_judged_once_and_by_one_thread() -> None:
    judged: list[tuple[int, bytes]] = []

    def judge(validator: int, content: bytes) -> list[Issue]:
        assert threading.get_ident() == validator
        judged.append((validator, content))
        return [Issue("error", "invalid", "no")] if content == b"wrong" else []

    verdicts = Verdicts(threading.get_ident, judge)
    found: list[list[Issue]] = []
    threads = [threading.Thread(target=lambda: found.append(verdicts.of(b"wrong"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [issue.code for issues in found for issue in issues] == ["invalid"] * 4
    count = len(judged)
    assert verdicts.of(b"wrong") == found[0]
    assert verdicts.of(b"right") == []
    assert len(judged) == count + 1


def test_a_refusal_after_an_attempt_that_nobody_answered_leaves_a_doubt(lite: Office) -> None:
    refusal = DeliveryError(Issue("error", "invalid", "no"), retry=False)
    states = []
    for number, first in enumerate((trouble("timeout"), trouble("transient"))):
        lite.channels["hl7v2"].failures = [first, refusal]
        task = lite.order(plan_of(lite, number), "hl7v2")
        lite.work()
        lite.wait(seconds=10)
        lite.work()
        states.append([lite.deliveries(task)[0].state, *(one.outcome for one in lite.deliveries(task)[0].attempts)])
    assert states == [["unconfirmed", "unanswered", "refused"], ["dead", "retry", "refused"]]


def test_what_never_left_is_not_in_doubt_however_often_it_was_tried(lite: Office) -> None:
    """The last attempt of the second delivery never left either, and the first one may have arrived."""
    states = []
    unsent = UnsentError(Issue("error", "timeout", "nobody answers the connection"))
    lite.channels["hl7v2"].on_send = lambda _: record("FAKE", "fake://x", NOW, b"written, never sent", None)
    for number, first in enumerate((unsent, trouble("timeout"))):
        lite.channels["hl7v2"].failures = [first, unsent, unsent, unsent]
        task = lite.order(plan_of(lite, number), "hl7v2")
        for _ in range(6):
            lite.work()
            lite.wait(hours=1)
        states.append([lite.deliveries(task)[0].state, *(one.outcome for one in lite.deliveries(task)[0].attempts)])
    assert states == [
        ["dead", "retry", "retry", "retry", "refused"],
        ["unconfirmed", "unanswered", "retry", "retry", "refused"],
    ]


def open_and_stop(settings: Settings) -> None:
    """A worker that opens the store and is stopped before it takes anything."""
    stopped = threading.Event()
    stopped.set()
    service.run(settings, lambda _content, _channel: [], stopped)


@pytest.mark.parametrize("opening", ["worker", "operator"])
def test_what_is_written_of_orders_is_indexed_as_the_facade_does(tmp_path: Path, opening: str) -> None:
    write(tmp_path, "example.tasks", [search_parameter("told", "Task", "string", "Task.statusReason.text")])
    url = f"sqlite:///{tmp_path / 'orders.sqlite'}"
    settings = settings_of(database_url=url, fhir_packages=str(tmp_path), dmp_url="", hl7v2_host="", mss_sender="")
    forget_declared()
    try:
        if opening == "worker":
            open_and_stop(settings)
        else:
            with ledger.opened(settings):
                pass
        assert "told" in parameters("Task")
    finally:
        forget_declared()


@pytest.mark.parametrize("opening", ["worker", "order"])
def test_what_a_process_stores_first_is_searched_by_from_then_on(
    tmp_path: Path, store_url: str, opening: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "example.tasks", [search_parameter("told", "Task", "string", "Task.statusReason.text")])
    settings = settings_of(
        database_url=store_url, fhir_packages=str(tmp_path), dmp_url="", hl7v2_host="", mss_sender=""
    )
    forget_declared()
    store = Store.open(store_url)
    try:
        if opening == "worker":
            open_and_stop(settings)
        else:
            commands.open_repository(settings).store.close()
        with Repository(store, settings.fhir_base).transaction() as transaction:
            transaction.create({"resourceType": "Task", "status": "ready", "intent": "order"})
        Conformance.load(settings).settle(store)
        assert "$reindex" not in caplog.text
    finally:
        store.close()
        forget_declared()


def test_processes_that_start_at_once_settle_alike(tmp_path: Path, store_url: str) -> None:
    write(tmp_path, "example.tasks", [search_parameter("told", "Task", "string", "Task.statusReason.text")])
    forget_declared()
    stores = [Store.open(store_url) for _ in range(4)]
    try:
        Conformance.load(settings_of(database_url=store_url, fhir_packages=str(tmp_path)))
        with ThreadPoolExecutor(len(stores)) as pool:
            for _ in range(5):
                assert list(pool.map(settle, stores)) == [[]] * len(stores)
                with stores[0].transaction() as transaction:
                    transaction.connection.execute(delete(schema.secret))
    finally:
        for store in stores:
            store.close()
        forget_declared()


def test_the_command_line_of_deliveries(lite: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAIS_DATABASE_URL", f"sqlite:///{tmp_path / 'orders.sqlite'}")
    task = give_up(lite)["id"]
    run = CliRunner()

    def deliveries(*words: str, code: int = 0) -> str:
        answer = run.invoke(cli.main, ["deliveries", *words])
        assert answer.exit_code == code, answer.output
        return answer.output

    assert f"Task/{task}" in deliveries("list", "--state", "dead")
    assert json.loads(deliveries("list", "--json"))["orders"][0]["task"] == task
    assert "unknown code" in deliveries("show", task)
    assert "1 delivery resumed" in deliveries("resume", "--all")
    assert "1 delivery cancelled" in deliveries("cancel", task, "--reason", "not wanted any more")
    assert "nothing to resume" in deliveries("resume", task, code=1)
    deliveries("resume", code=2)
    (tmp_path / "pack.zip").touch(0o644)
    deliveries("evidence", task, "-o", str(tmp_path / "pack.zip"), "--redacted")
    assert zipfile.is_zipfile(tmp_path / "pack.zip")
    assert (tmp_path / "pack.zip").stat().st_mode & 0o777 == 0o600
    assert "no delivery order" in deliveries("show", "none", code=1)
