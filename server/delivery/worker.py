"""The worker: leases due deliveries, checks the document once more with the official rules, sends, records.

Several workers may run on one database; a worker that is killed loses nothing, its lease runs out.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from relais.cda.errors import Issue, RelaisError
from relais.server import documents
from relais.server.delivery import outbox
from relais.server.delivery.channel import Channel, DeliveryError, Receipt, Shipment
from relais.server.delivery.outbox import Leased
from relais.server.delivery.task import task_of
from relais.server.fhir.repository import Repository, Transaction

log = logging.getLogger("relais.delivery")

_LONGEST_WAIT = timedelta(hours=1)
_IDLE = 0.2  # seconds between two looks at an empty outbox

Check = Callable[[bytes], list[Issue]]
"""The official rules: what they refuse in a document, empty when they pass. May raise DeliveryError(retry=True)."""


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
            except Exception:
                log.exception("the worker could not use the store; it tries again")
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
        assert document is not None  # noqa: S101 - an order is written with its document
        try:
            with self._holding(leased):
                receipt = self._attempt(leased, document.content)
        except DeliveryError as error:
            self._failed(leased, error)
        except Exception:
            log.exception("delivery %d, attempt %d: a fault of Relais", leased.key, leased.attempt)
            self._failed(
                leased, DeliveryError(Issue("error", "exception", "a fault of Relais, see its log"), retry=True)
            )
        else:
            self._settle(leased, "delivered", receipt.detail, "delivered", None)
        return True

    def _attempt(self, leased: Leased, content: bytes) -> Receipt:
        if leased.attempt > self._retry_attempts:
            gave_up = "every attempt ended without an answer; whether the receiver has the document is not known"
            raise DeliveryError(Issue("error", "timeout", gave_up), retry=False)
        refused = self._check(content)
        if refused:
            raise DeliveryError(refused, retry=False)
        channel = self._channels.get(leased.channel)
        if channel is None:
            raise DeliveryError(
                Issue("error", "not-supported", f"channel {leased.channel} is not configured"), retry=False
            )
        consignment = leased.consignment
        return channel.send(Shipment(content, consignment.submission, consignment.recipients, consignment.message_id))

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
            self._settle(leased, "refused", str(error), "dead", None)

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
        found = outbox.order(transaction.connection, task)
        assert found is not None  # noqa: S101 - a delivery is written with its order
        transaction.update(task_of(*found))
