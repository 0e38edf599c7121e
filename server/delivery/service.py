"""The delivery service of one process: its channels, its workers in threads, from the settings."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from datetime import timedelta

from relais.server.conformance import Conformance
from relais.server.delivery import circuits, gate
from relais.server.delivery.channel import Channel
from relais.server.delivery.dmp import DmpChannel
from relais.server.delivery.hl7v2 import Hl7v2Channel
from relais.server.delivery.mhd import MhdChannel
from relais.server.delivery.mss import MssChannel
from relais.server.delivery.trust_space import TrustSpace
from relais.server.delivery.wakeup import waker
from relais.server.delivery.worker import Check, Conduct, Worker
from relais.server.fhir.repository import Repository
from relais.server.settings import Settings
from relais.server.store import Store

LEASE = timedelta(seconds=30)  # how long a killed worker holds a delivery up
_MAKERS: dict[str, Callable[[Settings], Channel]] = {
    "mss": MssChannel,
    "dmp": DmpChannel,
    "hl7v2": Hl7v2Channel,
    "mhd": MhdChannel,
}


def run(settings: Settings, check: Check, stop: threading.Event, *, lease: timedelta = LEASE) -> None:
    """Deliver until `stop` is set. Raises RelaisError when the store or a channel cannot be opened."""
    conformance = Conformance.load(settings)  # Tasks are indexed as the facade does
    # A Task may name a plan that was deleted after it was sent: that must not hold deliveries up.
    repository = Repository(Store.open(settings.database_url), settings.fhir_base, check_references=False)
    try:
        conformance.settle(repository.store)
        workers = [worker(repository, settings, check, lease=lease) for _ in range(max(1, settings.worker_threads))]
        gc.freeze()  # what was read to begin with stays: no full collection goes through it, with every worker waiting
        others = [threading.Thread(target=one.run, args=(stop,), name="worker") for one in workers[1:]]
        for thread in others:
            thread.start()
        workers[0].run(stop)
        for thread in others:
            thread.join()
    finally:
        repository.store.close()


def worker(repository: Repository, settings: Settings, check: Check, *, lease: timedelta = LEASE) -> Worker:
    """One worker, with channels and connections of its own. Raises RelaisError when a channel cannot be opened."""
    configured = [name for name in _MAKERS if gate.is_configured(name, settings)]
    return Worker(
        repository,
        {name: _MAKERS[name](settings) for name in configured},
        {name: gate.destination(name, settings) for name in configured},
        check,
        conduct(settings, lease),
        waker(settings.database_url),
    )


def conduct(settings: Settings, lease: timedelta = LEASE) -> Conduct:
    """How the settings want workers to behave. Raises RelaisError when the list of the trust space cannot be read."""
    return Conduct(
        lease=lease,
        retry_base=timedelta(seconds=settings.retry_base),
        retry_attempts=settings.retry_attempts,
        circuit=circuits.Policy(settings.circuit_failures, timedelta(seconds=settings.circuit_pause)),
        acknowledgement=timedelta(days=settings.acknowledgement_days),
        evidence=timedelta(days=settings.evidence_days),
        trust=TrustSpace.of(settings),
    )
