"""The worker: leases due deliveries, checks the document once more with the official rules, sends, records.

Several workers may run on one database; a worker that is killed loses nothing, its lease runs out.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from relais.cda.errors import Issue, RelaisError
from relais.cda.xds import REPLACE, Association
from relais.server import documents
from relais.server.delivery import outbox
from relais.server.delivery.channel import Channel, DeliveryError, Receipt, Shipment, entry_uuid
from relais.server.delivery.outbox import Leased
from relais.server.delivery.task import task_of
from relais.server.documents import IssuedDocument
from relais.server.faults import described
from relais.server.fhir.repository import Repository, Transaction

log = logging.getLogger("relais.delivery")

_LONGEST_WAIT = timedelta(hours=1)
_IDLE = 0.2  # seconds between two looks at an empty outbox

Check = Callable[[bytes, str], list[Issue]]
"""What forbids a document to leave by a channel, empty when nothing does. May raise DeliveryError(retry=True)."""


class Worker:
    """Delivers what the outbox owes."""

    def __init__(
        self,
        repository: Repository,
        channels: Mapping[str, Channel],
        check: Check,
        *,
        lease: timedelta,
        retry_base: timedelta,
        retry_attempts: int,
    ) -> None:
        """A lease is renewed while its attempt lasts; `lease` is how long a killed worker holds a delivery up."""
        self._repository = repository
        self._channels = channels
        self._check = check
        self._lease = lease
        self._retry_base = retry_base
        self._retry_attempts = retry_attempts

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; a store that is down is waited for."""
        while not stop.is_set():
            try:
                worked = self.step()
            except Exception as error:  # noqa: BLE001 - a worker outlives any fault
                log.error("the worker could not use the store; it tries again: %s", described(error))
                worked = False
                stop.wait(self._retry_base.total_seconds())
            if not worked:
                stop.wait(_IDLE)

    def step(self) -> bool:
        """Make one attempt at the delivery that has been due longest; False when nothing is due."""
        with self._repository.transaction() as transaction:
            leased = outbox.lease(transaction.connection, self._repository.clock(), self._lease)
            if leased is None:
                return False
            document = documents.issued(transaction.connection, leased.document)
            self._write_task(transaction, leased.task)
        try:
            with self._holding(leased):
                receipt = self._attempt(leased, document)
        except DeliveryError as error:
            self._failed(leased, error)
        except Exception as error:  # noqa: BLE001 - as above, and the attempt must be settled
            log.error("delivery %d, attempt %d: a fault of Relais: %s", leased.key, leased.attempt, described(error))
            self._failed(
                leased, DeliveryError(Issue("error", "exception", "a fault of Relais, see its log"), retry=True)
            )
        else:
            self._settle(leased, "delivered", receipt.detail, "delivered", None)
        return True

    def _attempt(self, leased: Leased, document: IssuedDocument | None) -> Receipt:
        if leased.attempt > self._retry_attempts:
            gave_up = "every attempt ended without an answer; whether the receiver has the document is not known"
            raise DeliveryError(Issue("error", "timeout", gave_up), retry=True)
        if document is None:
            raise DeliveryError(Issue("error", "not-found", "the document of the order is not kept"), retry=False)
        channel = self._channels.get(leased.channel)
        if channel is None:
            message = f"channel {leased.channel} is not configured for this worker"
            raise DeliveryError(Issue("error", "not-supported", message), retry=True)
        refused = self._check(document.content, leased.channel)
        if refused:
            raise DeliveryError(refused, retry=False)
        return channel.send(_shipment(leased, document.content))

    @contextmanager
    def _holding(self, leased: Leased) -> Iterator[None]:
        """Renew the lease from another thread while the block runs."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._lease.total_seconds() / 3):
                try:
                    with self._repository.transaction() as transaction:
                        outbox.renew(transaction.connection, leased, self._repository.clock() + self._lease)
                except RelaisError as error:
                    log.warning("delivery %d: its lease could not be renewed: %s", leased.key, error)

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _failed(self, leased: Leased, error: DeliveryError) -> None:
        if error.retry and leased.attempt < self._retry_attempts:
            self._settle(leased, "retry", str(error), "waiting", self._next_try(leased.attempt))
        else:
            self._settle(leased, "refused", str(error), _last_state(leased, error), None)

    def _next_try(self, attempt: int) -> datetime:
        doubled = self._retry_base * float(2 ** min(attempt - 1, 20))
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, no secret
        return self._repository.clock() + min(doubled, _LONGEST_WAIT) * jitter

    def _settle(
        self, leased: Leased, outcome: outbox.Outcome, detail: str, state: outbox.State, due: datetime | None
    ) -> None:
        with self._repository.transaction() as transaction:
            now = self._repository.clock()
            outbox.settle(transaction.connection, leased, outcome, detail, now, state=state, due=due)
            self._write_task(transaction, leased.task)
        log.info("delivery %d, attempt %d on %s: %s", leased.key, leased.attempt, leased.channel, outcome)

    def _write_task(self, transaction: Transaction, task: str) -> None:
        """Say in the Task where the order stands. Whatever is wrong with the Task must not hold deliveries up."""
        found = outbox.order(transaction.connection, task)
        if found is None:
            return
        try:
            with transaction.connection.begin_nested():
                transaction.update(task_of(*found))
        except RelaisError as error:
            log.error("Task %s cannot be written: %s", task, ", ".join(issue.code for issue in error.issues))


def _shipment(leased: Leased, content: bytes) -> Shipment:
    """The consignment, with the association to the entry it replaces when the repository holds one from Relais."""
    consignment = leased.consignment
    submission = consignment.submission
    if leased.channel == "dmp" and leased.replaced is not None:
        association = Association(REPLACE, submission.entries[0].entry_id, entry_uuid(leased.replaced))
        submission = replace(submission, associations=(association,))
    return Shipment(content, submission, consignment.recipients, consignment.message_id)


def _last_state(leased: Leased, error: DeliveryError) -> outbox.State:
    """Given up after failures that pass by themselves, or refused as a duplicate of itself: it may have arrived."""
    repeated = leased.attempt > 1 and any(issue.code == "duplicate" for issue in error.issues)
    return "unconfirmed" if error.retry or repeated else "dead"
