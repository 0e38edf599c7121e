"""The worker: leases due deliveries, checks the document once more with the official rules, sends, records.

Several workers may run on one database; a worker that is killed loses nothing, its lease runs out.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from relais.cda.datatypes import PARIS
from relais.cda.errors import Issue, RelaisError
from relais.cda.xds import REPLACE, Association
from relais.server import documents
from relais.server.delivery import (
    acknowledgements,
    circuits,
    evidence,
    oppositions,
    outbox,
    recipients,
    same_patient,
    story,
)
from relais.server.delivery.alarms import Alarm
from relais.server.delivery.channel import (
    Channel,
    DeliveryError,
    Exchange,
    Receipt,
    Shipment,
    UnsentError,
    recording,
)
from relais.server.delivery.gate import ACKNOWLEDGING, REPLACING
from relais.server.delivery.https import LostAnswerError
from relais.server.delivery.outbox import Leased
from relais.server.delivery.retention import Retention
from relais.server.delivery.trust_space import TrustSpace
from relais.server.delivery.wakeup import Waker
from relais.server.documents import IssuedDocument
from relais.server.faults import described
from relais.server.fhir.repository import Repository
from relais.server.store import StoreError
from relais.server.store.statements import without_waiting

log = logging.getLogger("relais.delivery")

LONGEST_WAIT = timedelta(hours=1)
_IDLE = 0.25  # longest time, in seconds, between two looks for deliveries whose time has come
_HOUSEKEEPING = 10.0  # seconds
_UNANSWERED = frozenset({"timeout", "incomplete", "exception"})  # issue codes of an answer that was lost

Check = Callable[[bytes, str], list[Issue]]
"""What forbids a document to leave by a channel, empty when nothing does. May raise DeliveryError(retry=True)."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How workers behave.

    A lease is renewed while its attempt lasts; `lease` is how long a killed worker holds a delivery up. `evidence` is
    how long the bytes of exchanges are kept, `acknowledgement` after how long a missing one is flagged. `trust` is the
    space in which mailboxes are looked up.
    """

    lease: timedelta
    retry_base: timedelta
    retry_attempts: int
    circuit: circuits.Policy
    acknowledgement: timedelta
    evidence: timedelta
    trust: TrustSpace


class Worker:
    """Delivers what the outbox owes by the channels it has, one delivery at a time."""

    def __init__(
        self,
        repository: Repository,
        channels: Mapping[str, Channel],
        destinations: Mapping[str, str],
        check: Check,
        conduct: Conduct,
        waker: Waker,
    ) -> None:
        """`destinations` says where each channel leads: what shares a destination shares its circuit."""
        self._repository = repository
        self._channels = channels
        self._destinations = destinations
        self._check = check
        self._conduct = conduct
        self._waker = waker
        self._stop = threading.Event()
        self._goes_on = False  # takes the next delivery in the transaction that settles one
        self._taken: _Taken | None = None
        self._house_kept = 0.0
        self._retention = Retention("evidence", conduct.evidence)
        self._forgotten: datetime | None = None  # what ended before that has no bytes any more

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; a store that is down is waited for."""
        self._stop, self._goes_on = stop, True
        while not stop.is_set():
            try:
                self._keep_house()
                worked = self.step()
                while self._taken is not None:
                    self.step()
            except Exception as error:  # noqa: BLE001 - a worker outlives any fault
                why = str(error) if isinstance(error, StoreError) else described(error)  # one that is down is no fault
                log.error("the worker could not use the store; it tries again: %s", why)
                worked = False
                stop.wait(self._conduct.retry_base.total_seconds())
            if not worked:
                self._waker.wait(stop, _IDLE)
        self._waker.close()

    def step(self) -> bool:
        """Make one attempt at the next delivery that is due; False when none is."""
        taken, self._taken = self._taken, None
        if taken is None:
            with self._repository.transaction() as transaction:
                taken = self._take(transaction.connection)
        if taken is None:
            return False
        with recording() as exchanges:
            settlement = _seen(self._try(taken), exchanges)
        self._taken = self._record(taken.leased, settlement, exchanges)
        return True

    # --- one attempt --------------------------------------------------------------------------------------------------

    def _take(self, connection: Connection) -> _Taken | None:
        leased = self._lease(connection)
        if leased is None:
            return None
        document = documents.issued(connection, leased.document)
        needless = leased.action == "withdraw" and not outbox.is_held(connection, leased)
        return _Taken(leased, document, self._objections(connection, leased, document), needless)

    def _objections(self, connection: Connection, leased: Leased, document: IssuedDocument | None) -> tuple[Issue, ...]:
        """What has changed since the order that forbids the attempt: the patient, an opposition, the care team."""
        today, base = self._repository.clock().astimezone(PARIS).date(), self._repository.base
        departures = recipients.departures(connection, base, self._conduct.trust, leased, today)
        opposed = oppositions.changes(connection, base, leased, document, today)
        return (*same_patient.changes(connection, base, leased, document), *opposed, *departures)

    def _lease(self, connection: Connection) -> Leased | None:
        now, duration = self._repository.clock(), self._conduct.lease
        half_open, closed = circuits.passable(connection, self._destinations.values(), now)
        probe = outbox.lease(connection, now, duration, self._leading_to(half_open), sparing=True)
        leased = probe or outbox.lease(connection, now, duration, self._leading_to(closed))
        if probe is not None:
            circuits.probe(connection, self._destinations[probe.channel], now + duration)
        return leased

    def _leading_to(self, destinations: frozenset[str]) -> list[str]:
        return [channel for channel, destination in self._destinations.items() if destination in destinations]

    def _try(self, taken: _Taken) -> _Settlement:
        leased = taken.leased
        try:
            with self._holding(leased):
                receipt = _NEEDLESS if taken.needless else self._attempt(leased, taken.document, taken.objections)
        except DeliveryError as error:
            return self._failed(leased, error)
        except Exception as error:  # noqa: BLE001 - the attempt must be settled
            log.error("delivery %d, attempt %d: a fault of Relais: %s", leased.key, leased.attempt, described(error))
            fault = Issue("error", "exception", "a fault of Relais, see its log")
            return self._failed(leased, DeliveryError(fault, retry=True))
        return _Settlement("delivered", receipt.detail, "delivered", remark=receipt.remark)

    def _attempt(self, leased: Leased, document: IssuedDocument | None, objections: Sequence[Issue]) -> Receipt:
        if leased.tries > self._conduct.retry_attempts:
            gave_up = "every attempt ended without an answer; whether the receiver has the document is not known"
            raise DeliveryError(Issue("error", "timeout", gave_up), retry=True)
        if document is None:
            raise DeliveryError(Issue("error", "not-found", "the document of the order is not kept"), retry=False)
        refused = objections or self._check(document.content, leased.channel)
        if refused:
            raise DeliveryError(refused, retry=False)
        return self._channels[leased.channel].send(_shipment(leased, document))

    @contextmanager
    def _holding(self, leased: Leased) -> Iterator[None]:
        """Renew the lease while the block runs, from a thread of its own once the block has taken long."""
        done, threads = threading.Event(), list[threading.Thread]()
        pause = self._conduct.lease.total_seconds() / 3

        def renew() -> None:
            while not done.is_set():
                try:
                    with self._repository.transaction() as transaction:
                        until = self._repository.clock() + self._conduct.lease
                        outbox.renew(transaction.connection, leased, until)
                except RelaisError as error:
                    log.warning("delivery %d: its lease could not be renewed: %s", leased.key, error)
                done.wait(pause)

        def begin() -> None:
            if not threads:
                threads.append(threading.Thread(target=renew, name="lease", daemon=True))
                threads[0].start()

        try:
            with Alarm(pause, begin):
                yield
        finally:
            done.set()
            for thread in threads:
                thread.join()

    def _failed(self, leased: Leased, error: DeliveryError) -> _Settlement:
        """A destination that is not to be trusted now (an expired certificate) may be mended: it is tried again."""
        trouble = circuits.is_trouble(error.issues)
        if (error.retry or trouble) and leased.tries < self._conduct.retry_attempts:
            due = self._next_try(leased.tries)
            lost = isinstance(error, LostAnswerError)
            unsent = isinstance(error, UnsentError)
            unanswered = lost or (not unsent and any(issue.code in _UNANSWERED for issue in error.issues))
            return _Settlement("retry", str(error), "waiting", due, trouble, unanswered, unsent)
        return _Settlement("refused", str(error), _last_state(leased, error), trouble=trouble)

    def _next_try(self, tries: int) -> datetime:
        doubled = self._conduct.retry_base * float(2 ** min(tries - 1, 20))
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, no secret
        return self._repository.clock() + min(doubled, LONGEST_WAIT) * jitter

    # --- what came of it ----------------------------------------------------------------------------------------------

    def _record(self, leased: Leased, settlement: _Settlement, exchanges: Sequence[Exchange]) -> _Taken | None:
        """Write how the attempt ended; a store that is down is waited for, since the receiver may have the document.

        The next delivery, when there is one and the worker goes on.
        """
        kept = evidence.packed(exchanges) if self._conduct.evidence else []
        while True:
            try:
                following = self._settle(leased, settlement, kept)
            except StoreError as error:
                if self._stop.is_set():
                    raise
                log.warning("delivery %d: the outcome waits for the store: %s", leased.key, error)
                self._stop.wait(self._conduct.retry_base.total_seconds())
            else:
                break
        log.info("delivery %d, attempt %d on %s: %s", leased.key, leased.attempt, leased.channel, settlement.outcome)
        return following

    def _settle(self, leased: Leased, settlement: _Settlement, kept: Sequence[evidence.Packed]) -> _Taken | None:
        """One transaction: the outcome, its evidence, what resources tell of it, and the lease of the next delivery."""
        with self._repository.transaction() as transaction:
            connection, now = transaction.connection, self._repository.clock()
            with without_waiting(connection):
                mine = outbox.settle(
                    connection,
                    leased,
                    settlement.outcome,
                    settlement.detail,
                    now,
                    state=settlement.state,
                    due=settlement.due,
                    remark=settlement.remark,
                )
                evidence.keep(connection, leased.key, leased.attempt, kept)
            self._tell_circuit(connection, leased, settlement, now)
            if mine and settlement.state == "delivered" and leased.channel in ACKNOWLEDGING:
                wanted = leased.consignment.acknowledgements if leased.action == "send" else ()
                acknowledgements.expect(connection, leased.key, wanted, now + self._conduct.acknowledgement)
            ended = [leased.key] if mine and settlement.state != "waiting" else []
            story.write_task(transaction, leased.task, ended)
            goes_on = self._goes_on and not self._stop.is_set() and not self._is_house_due()
            return self._take(connection) if goes_on else None

    def _tell_circuit(self, connection: Connection, leased: Leased, settlement: _Settlement, now: datetime) -> None:
        destination = self._destinations[leased.channel]
        if settlement.trouble:
            if circuits.failed(connection, destination, settlement.detail, now, self._conduct.circuit):
                log.warning("%s: too many failures, its circuit is open", destination)
        elif settlement.answered:
            circuits.worked(connection, destination)
        elif settlement.untried:
            circuits.spared(connection, destination, now)

    # --- housekeeping -------------------------------------------------------------------------------------------------

    def _keep_house(self) -> None:
        """Now and then: mend what a clock set back has left, flag what did not come, forget what is old."""
        if not self._is_house_due():
            return
        with self._repository.transaction() as transaction:
            connection, now = transaction.connection, self._repository.clock()
            if mended := outbox.mend_times(connection, now, self._conduct.lease):
                log.warning("the clock was set back: deliveries that waited for a time in the future: %d", mended)
            circuits.mend_times(connection, now)
            acknowledgements.mend_times(connection, now + self._conduct.acknowledgement)
            for task in acknowledgements.flag_overdue(connection, now):
                log.warning("Task %s: an acknowledgement did not come in time", task)
                story.write_task(transaction, task)
            expired = self._retention.limit(connection, now)
            if expired is not None:
                evidence.forget(connection, expired, self._forgotten)
        self._forgotten = expired or self._forgotten
        self._house_kept = time.monotonic()

    def _is_house_due(self) -> bool:
        return not self._house_kept or time.monotonic() - self._house_kept >= _HOUSEKEEPING


@dataclass(frozen=True, slots=True)
class _Taken:
    """A delivery that is leased, its document, and why it may not leave any more.

    `needless`: it would withdraw what never arrived.
    """

    leased: Leased
    document: IssuedDocument | None
    objections: tuple[Issue, ...]
    needless: bool


@dataclass(frozen=True, slots=True)
class _Settlement:
    """How an attempt ended and what the delivery owes next.

    `trouble`: because of the destination. `unanswered`: the document may have arrived. `unsent`: the last exchange, if
    there is one, never left. `answered`: the destination said something. `untried`: it was asked nothing.
    """

    outcome: outbox.Outcome
    detail: str
    state: outbox.State
    due: datetime | None = None
    trouble: bool = False
    unanswered: bool = False
    unsent: bool = False
    remark: str = ""
    answered: bool = False
    untried: bool = False


_NOTHING = "nothing to withdraw: the document never reached the receiver, and was not asked back"
_NEEDLESS = Receipt(_NOTHING, _NOTHING)


def _shipment(leased: Leased, document: IssuedDocument) -> Shipment:
    """The consignment, with the association to the document it replaces, which the channel looks up in the registry.

    What a document made elsewhere replaces may have come to the receiver by another way than Relais.
    """
    consignment = leased.consignment
    submission = consignment.submission
    if leased.channel in REPLACING and leased.action == "send" and leased.replaced is not None:
        association = Association(REPLACE, submission.entries[0].entry_id, f"urn:oid:{leased.replaced}")
        submission = replace(submission, associations=(association,))
    return Shipment(
        document.content,
        submission,
        consignment.recipients,
        consignment.message_id,
        leased.action,
        consignment.acknowledgements,
        consignment.annuls,
        leased.replaced is not None or not document.carrier,
        consignment.secret,
        consignment.visibility_only,
        consignment.as_before,
        consignment.dmp_is_fed,
    )


def _last_state(leased: Leased, error: DeliveryError) -> outbox.State:
    """Given up after a failure that may have arrived all the same, or refused after such an attempt."""
    repeated = leased.attempt > 1 and any(issue.code == "duplicate" for issue in error.issues)
    lost = error.retry and not isinstance(error, UnsentError)
    return "unconfirmed" if lost or leased.doubtful or repeated else "dead"


def _seen(settlement: _Settlement, exchanges: Sequence[Exchange]) -> _Settlement:
    """The settlement with what the exchanges show: whether the destination answered.

    `unanswered` where a request that went out got no answer, or none that says how it ended.
    """
    made = exchanges[:-1] if settlement.unsent else exchanges
    silent = any(exchange.response is None for exchange in made)
    doubted = settlement.outcome == "retry" and (silent or settlement.unanswered)
    outcome: outbox.Outcome = "unanswered" if doubted else settlement.outcome
    answered = any(exchange.response for exchange in exchanges)
    return replace(settlement, outcome=outcome, answered=answered, untried=not exchanges)
