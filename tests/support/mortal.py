"""Workers that die: `python -m support.mortal <deaths> <seed>` forks one worker after another and lets each be killed.

Each worker kills itself with SIGKILL at one step of one of its next deliveries, or somewhere inside an exchange; what
the kernel does then is what it does when somebody else sends the signal. After so many deaths the next worker lives
until the file `stop` beside the database settings says so. The process that forks has one thread and no connection.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from relais.cda.errors import Issue
from relais.cda.reader import parse, read_header
from relais.server.delivery import gate, outbox, service
from relais.server.delivery.worker import Worker
from relais.server.fhir.repository import Repository
from relais.server.settings import Settings
from relais.server.store import Store

LEASE = timedelta(seconds=1)
STEPS = ("leasing", "leased", "exchange", "answered", "settling", "settled")


class Mortal(Worker):
    """A worker that dies at the `visits`-th time that it comes to `step`; at none if `step` is empty."""

    step_of_death = ""
    visits = 0
    longest_exchange = 0.05

    def _lease(self, connection: Any) -> outbox.Leased | None:
        leased = super()._lease(connection)
        if leased is not None:
            self._at("leasing")  # written, not committed
        return leased

    def _try(self, taken: Any) -> Any:
        self._at("leased")
        with self._dying_inside():
            settlement = super()._try(taken)
        self._at("answered")
        return settlement

    def _settle(self, leased: outbox.Leased, settlement: Any, exchanges: Any) -> Any:
        with self._repository.transaction() as transaction:  # one around the other: both or none
            following = self._repository_in(transaction, leased, settlement, exchanges)
            self._at("settling")
        self._at("settled")
        return following

    def _repository_in(self, transaction: Any, leased: Any, settlement: Any, exchanges: Any) -> Any:
        original = self._repository.transaction

        @contextmanager
        def joined() -> Iterator[Any]:
            yield transaction

        self._repository.transaction = joined  # type: ignore[method-assign]
        try:
            return super()._settle(leased, settlement, exchanges)
        finally:
            self._repository.transaction = original  # type: ignore[method-assign]

    @contextmanager
    def _dying_inside(self) -> Iterator[None]:
        if self.step_of_death != "exchange" or self._is_not_yet():
            yield
            return
        timer = threading.Timer(random.uniform(0, self.longest_exchange), _die)
        timer.daemon = True
        timer.start()
        yield
        _die()

    def _at(self, step: str) -> None:
        if step == self.step_of_death and not self._is_not_yet():
            _die()

    def _is_not_yet(self) -> bool:
        self.visits -= 1
        return self.visits > 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def check_of(settings: Settings) -> Any:
    """What may leave at all, without the official rules: they are not what is tried here."""

    def check(content: bytes, channel: str) -> list[Issue]:
        document = read_header(parse(content))
        return [found for name in gate.CHANNELS if name == channel for found in gate.refusals(document, name, settings)]

    return check


def _live(settings: Settings, step: str, visits: int, stop: threading.Event) -> None:
    repository = Repository(Store.open(settings.database_url), settings.fhir_base, check_references=False)
    worker = service.worker(repository, settings, check_of(settings), lease=LEASE)
    worker.__class__ = Mortal
    assert isinstance(worker, Mortal)
    worker.step_of_death, worker.visits = step, visits
    worker.run(stop)


def main(deaths: int, seed: int, stop_file: Path) -> None:
    """Fork workers until the last one has stopped; says how many died at which step."""
    settings, chance = Settings.load(), random.Random(seed)
    died = dict.fromkeys(STEPS, 0)
    while sum(died.values()) < deaths and not stop_file.exists():
        step = chance.choice(STEPS)
        if _forked(settings, step, chance.randint(1, 4), stop_file) == signal.SIGKILL:
            died[step] += 1
    if not stop_file.exists():
        _forked(settings, "", 0, stop_file)
    print(died)


def _forked(settings: Settings, step: str, visits: int, stop_file: Path) -> int:
    """Run a worker in a fork to its end; the signal that ended it, 0 when it ended by itself."""
    child = os.fork()
    if child == 0:
        stop = threading.Event()
        threading.Thread(target=_watch, args=(stop_file, stop), daemon=True).start()
        try:
            random.seed()
            _live(settings, step, visits, stop)
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def _watch(stop_file: Path, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        if stop_file.exists():
            stop.set()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
