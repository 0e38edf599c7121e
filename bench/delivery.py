"""Speed of delivery against the sandbox, which runs in this process and takes its share of the machine.

    python bench/delivery.py [sqlite|postgresql] [documents]

Orders accepted and deliveries by channel with one worker process, by the clock and in processor time (of Relais and the
sandbox together), and the time from an accepted order to its delivery when nothing else is done. The official rules are
left out. Figures are in docs/performance.md.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from servers import fresh_database

from relais.server.delivery import outbox, service
from relais.server.settings import Settings
from support.mortal import check_of
from support.reliability import Trial, trial

_ALONE = 15  # orders, one after another


def main(engine: str, documents: int) -> None:
    """Measure; one line for each figure on standard output."""
    for channel in ("mss", "dmp", "hl7v2"):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relais-speed-")))
            url = stack.enter_context(fresh_database(engine))
            run = stack.enter_context(trial(folder, url, worker_threads=4, mss_pdf=True))
            with _measured(f"{engine} {channel}: orders accepted", documents):
                for number in range(documents):
                    run.place(number, (channel,))
            with _working(run):
                with _measured(f"{engine} {channel}: deliveries", documents):
                    run.wait(patience=600)
                delays = sorted(_delay(run, documents + number, channel) for number in range(_ALONE))
            print(
                f"{engine} {channel}: order to delivery {statistics.median(delays) * 1000:.0f} ms at the median,"
                f" {delays[-1] * 1000:.0f} ms at most"
            )


@contextmanager
def _measured(what: str, number: int) -> Iterator[None]:
    """Say how many a second, and how much processor time each took in this process, the sandbox included."""
    start, used = time.perf_counter(), time.process_time()
    yield
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    print(f"{what}: {number / elapsed:.0f} a second, {used / number * 1000:.1f} ms of processor time each")


class _working:  # noqa: N801 - used as a with statement only
    """One worker process's threads, in this process."""

    def __init__(self, run: Trial) -> None:
        self._stop = threading.Event()
        settings = Settings.of(run.settings)
        self._thread = threading.Thread(target=service.run, args=(settings, check_of(settings), self._stop))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _delay(run: Trial, number: int, channel: str) -> float:
    """Seconds from an accepted order to the delivery that is recorded."""
    time.sleep(0.2)  # the worker is idle again
    repository = run.repository()
    run.place(number, (channel,))
    start = time.perf_counter()
    while outbox.pending(repository.store):
        time.sleep(0.002)
    repository.store.close()
    return time.perf_counter() - start


if __name__ == "__main__":
    given = [*sys.argv[1:], *("sqlite", "200")[len(sys.argv) - 1 :]]
    main(given[0], int(given[1]))
