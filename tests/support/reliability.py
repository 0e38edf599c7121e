"""Many deliveries to a sandbox that fails, by workers that are killed: what was accepted, what the receivers hold."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from relais.cda import templates, xdm
from relais.cda.model import II, Document, RelatedDocument
from relais.cda.reader import read
from relais.cda.writer import write
from relais.server.delivery import outbox
from relais.server.delivery.hl7v2 import control_id
from relais.server.delivery.transmit import Wanted, transmit_document
from relais.server.fhir.repository import Repository
from relais.server.sandbox import Sandbox
from relais.server.sandbox.faults import Faults
from relais.server.sandbox.hl7v2_platform import PlatformFault
from relais.server.sandbox.mail_server import MailFault
from relais.server.sandbox.xds_server import RepositoryFault
from relais.server.settings import Settings
from relais.server.store import Store
from support.documents import small_document
from support.plans import full_ins

CHANNELS = (("dmp",), ("mss",), ("hl7v2",), ("dmp", "mss", "hl7v2"))
_TESTS = Path(__file__).resolve().parents[1]
# Silence, and what is no answer, lasts a whole time-out each time: left to the tests of each channel.
FAULTS: Mapping[str, tuple[Any, ...]] = {
    "dmp": tuple(fault for fault in RepositoryFault if not fault.name.startswith(("SILENT", "SLOW"))),
    "mail": (MailFault.BUSY, MailFault.BUSY_AFTER_DATA, MailFault.CUT_AFTER_DATA, MailFault.FAREWELL),
    "hl7v2": (PlatformFault.REFUSES, *[PlatformFault.CUT_AFTER] * 3),
}


@dataclass(slots=True)
class Ordered:
    """One accepted order: its Task, the exact bytes, the patient it is about."""

    task: str
    content: bytes
    matricule: str
    unique_id: str
    replaces: str | None


@dataclass(slots=True)
class Trial:
    """One run: a store, a sandbox, orders."""

    folder: Path
    settings: dict[str, Any]
    sandbox: Sandbox
    ordered: list[Ordered] = field(default_factory=list)
    _repository: Repository | None = None
    _read_settings: Settings | None = None

    def repository(self) -> Repository:
        """The stored resources; close its store."""
        settings = Settings.of(self.settings)
        return Repository(Store.open(settings.database_url), settings.fhir_base, check_references=False)

    def order(self, deliveries: int, seed: int) -> None:
        """Place orders until there are so many deliveries; every fourth document has a second version at once."""
        settings, chance = Settings.of(self.settings), random.Random(seed)
        repository, placed, number = self.repository(), 0, 0
        try:
            while placed < deliveries:
                number += 1
                channels = chance.choice(CHANNELS)
                first = document_of(number, 1)
                versions = [first, document_of(number, 2)] if number % 4 == 0 else [first]
                for document in versions:
                    self._place(repository, settings, document, channels, number)
                    placed += len(channels)
        finally:
            repository.store.close()

    def place(self, number: int, channels: tuple[str, ...]) -> None:
        """Place the order of one document."""
        if self._read_settings is None:
            self._read_settings = Settings.of(self.settings)
        self._place(self._kept(), self._read_settings, document_of(number, 1), channels, number)

    def _kept(self) -> Repository:
        if self._repository is None:
            self._repository = self.repository()
        return self._repository

    def close(self) -> None:
        """Close the connections that are kept."""
        if self._repository is not None:
            self._repository.store.close()

    def _place(
        self, repository: Repository, settings: Settings, document: Document, channels: tuple[str, ...], number: int
    ) -> None:
        content = write(document)
        mailboxes = (f"p{number}@cabinet.mssante.fr",) if "mss" in channels else ()
        with repository.transaction() as transaction:
            wanted = Wanted(channels, mailboxes)
            stored = transmit_document(transaction, content, wanted, settings, transaction.now)
        header = document.header
        related = [parent.root for one in header.related_documents for parent in one.parent_ids]
        self.ordered.append(
            Ordered(
                stored.id,
                content,
                header.patient.ids[0].extension or "",
                header.id.root or "",
                next(iter(related), None),
            )
        )

    # --- what came of it ---

    def pending(self) -> int:
        """Deliveries that have not ended."""
        return outbox.pending(self._kept().store)

    def wait(self, patience: float) -> None:
        """Until every delivery has ended. Raises AssertionError when that takes too long."""
        deadline = time.monotonic() + patience
        while left := self.pending():
            if time.monotonic() > deadline:
                raise AssertionError(f"{left} deliveries have not ended")
            time.sleep(0.2)

    def verdict(self) -> Counter[str]:
        """How many deliveries ended how. Raises AssertionError for what must never happen."""
        repository = self.repository()
        try:
            with repository.store.snapshot() as connection:
                found = {one.task: outbox.order(connection, one.task) for one in self.ordered}
        finally:
            repository.store.close()
        held = _Held(self.sandbox)
        ended: Counter[str] = Counter()
        for ordered in self.ordered:
            order = found[ordered.task]
            assert order is not None, "an accepted order is gone"
            for delivery in order[1]:
                assert delivery.state in ("delivered", "dead", "unconfirmed"), delivery.state
                assert delivery.state == "delivered" or delivery.reason, "given up without a reason"
                held.check(ordered, delivery)
                ended[delivery.state] += 1
                ended["attempts"] += len(delivery.attempts)
        held.check_nothing_else(self.ordered)
        return ended


class _Held:
    """What the receivers hold."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._stored: dict[str, list[tuple[bytes, str, str | None]]] = {}
        for document in sandbox.documents():
            row = (document.path.read_bytes(), document.entry.patient_id, document.replaces)
            self._stored.setdefault(document.entry.unique_id, []).append(row)
        self._mailed: dict[str, list[tuple[bytes, tuple[str, ...]]]] = {}
        for message in sandbox.messages():
            self._mailed.setdefault(message.message_id, []).append((_archived(message.path), message.recipients))
        self._taken: dict[str, set[bytes]] = {}
        for taken in sandbox.platform_messages():
            self._taken.setdefault(taken.control_id, set()).add(taken.document.read_bytes())
        self._known: set[str] = set()

    def check(self, ordered: Ordered, delivery: outbox.Delivery) -> None:
        """One delivery: its receiver holds the document once, or not at all when it says so, and nobody else's."""
        if delivery.channel == "dmp":
            copies = [row[0] for row in self._stored.get(ordered.unique_id, ())]
            patients = [row[1] for row in self._stored.get(ordered.unique_id, ())]
            assert all(ordered.matricule in patient for patient in patients), "a document reached another patient"
        elif delivery.channel == "mss":
            copies = [row[0] for row in self._mailed.get(delivery.message_id, ())]
            boxes = [row[1] for row in self._mailed.get(delivery.message_id, ())]
            assert all(box == (delivery.recipient,) for box in boxes), "a mail reached another mailbox"
        else:
            copies = list(self._taken.get(control_id(delivery.message_id), ()))
        assert len(copies) <= 1, "a receiver holds a document twice"
        assert all(copy == ordered.content for copy in copies), "a receiver holds another document"
        if delivery.state == "delivered":
            assert copies, f"{delivery.channel}: said to be delivered, and not there"
        if delivery.state == "dead":
            assert not copies, f"{delivery.channel}: said not to be there, and held: {delivery.reason}"
        self._known.update(hashlib.sha256(copy).hexdigest() for copy in copies)

    def check_nothing_else(self, ordered: list[Ordered]) -> None:
        """No receiver holds what was never ordered; about whom a document is, its own bytes say."""
        expected = {hashlib.sha256(one.content).hexdigest(): one.matricule for one in ordered}
        held = [row[0] for rows in self._stored.values() for row in rows]
        held += [row[0] for rows in self._mailed.values() for row in rows]
        held += [content for contents in self._taken.values() for content in contents]
        for content in held:
            matricule = expected[hashlib.sha256(content).hexdigest()]
            assert matricule in [one.extension for one in read(content).document.header.patient.ids]


def _archived(path: Path) -> bytes:
    mail = message_from_bytes(path.read_bytes(), policy=policy.default)
    zipped = next(part for part in mail.iter_attachments() if part.get_content_type() == "application/zip")
    (packed,) = xdm.unpack(zipped.get_content()).documents
    return packed.data


def document_of(number: int, version: int) -> Document:
    """A document about a patient of its own, invented as its number."""
    document = small_document()
    header = document.header
    header.id = II(f"2.25.77{number:06}{version}")
    header.set_id = II(f"2.25.77{number:06}0")
    header.version_number = version
    header.patient.ids = [II(templates.INS_NIR_TEST, full_ins(f"27903512{number:05}"))]
    header.title = f"Plan {number}, version {version}"
    if version > 1:
        header.related_documents = [RelatedDocument([II(f"2.25.77{number:06}{version - 1}")])]
    return document


@contextmanager
def trial(folder: Path, database_url: str, **more: Any) -> Iterator[Trial]:
    """A trial on an empty database, with its sandbox running."""
    with Sandbox(folder / "sandbox") as sandbox:
        run = Trial(folder, trial_settings(database_url, sandbox.settings, **more), sandbox)
        yield run
        run.close()


def trial_settings(database_url: str, sandbox: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Settings that lead to a sandbox (`sandbox` are those it names) and lose no time over a failure."""
    return {
        "database_url": database_url,
        "organization_name": "DAC DE TEST",
        "mss_sender": "coordination@dac.mssante.fr",
        "mss_product_reference": "relais-test",
        "hl7v2_sending_facility": "DAC DE TEST",
        "dmp_existence_check": False,
        "retry_base": 0.05,
        "retry_attempts": 12,
        "circuit_failures": 4,
        "circuit_pause": 0.1,
        "sender_timeout": 5,
        "hl7v2_timeout": 5,
        **sandbox,
        **more,
    }


class RandomFaults(Faults[Any]):
    """Faults at random: one of `menu` in some of the exchanges."""

    def __init__(self, menu: tuple[Any, ...], share: float, seed: int) -> None:
        super().__init__()
        self._menu, self._share, self._chance = menu, share, random.Random(seed)

    def take(self, *wanted: Any) -> Any:
        """See Faults."""
        possible = [fault for fault in self._menu if fault in wanted]
        return self._chance.choice(possible) if possible and self._chance.random() < self._share else None


@contextmanager
def failing(sandbox: Sandbox, share: float, seed: int) -> Iterator[None]:
    """Inside the block each counterpart plays a fault in that share of exchanges, before or after it stores."""
    former = sandbox.dmp.faults, sandbox.mail.faults, sandbox.hl7v2.faults
    sandbox.dmp.faults = RandomFaults(FAULTS["dmp"], share, seed)
    sandbox.mail.faults = RandomFaults(FAULTS["mail"], share, seed)
    sandbox.hl7v2.faults = RandomFaults(FAULTS["hl7v2"], share, seed)
    try:
        yield
    finally:
        sandbox.dmp.faults, sandbox.mail.faults, sandbox.hl7v2.faults = former


@contextmanager
def mortal_workers(trial: Trial, number: int, deaths: int, seed: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many workers at a time, each killed so often before one lives; stopped at the end of the block."""
    stop = trial.folder / "stop"
    stop.unlink(missing_ok=True)
    environment = os.environ | {f"RELAIS_{name.upper()}": str(value) for name, value in trial.settings.items()}
    environment["PYTHONPATH"] = os.pathsep.join([str(_TESTS), environment.get("PYTHONPATH", "")])
    processes = []
    try:
        for index in range(number):
            with (trial.folder / f"mortal-{index}.log").open("ab") as log:
                command = [sys.executable, "-m", "support.mortal", str(deaths), str(seed + index), str(stop)]
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        yield processes
    finally:
        stop.touch()
        for process in processes:
            process.wait(timeout=60)
