"""Speed of delivery: Relais in one or several worker processes, the sandbox in a process of its own.

    python bench/delivery.py [--engine sqlite] [--channel dmp]… [--documents 200] [--workers 1] [--threads 4]
                             [--no-pdf] [--rules]

For each channel: orders accepted in a second; deliveries in a second, with the processor time that each takes of the
workers and of the sandbox (a busy machine changes it less than the clock); the time from an accepted order to its
delivery when nothing else is done. Each document is of a patient of its own. The rules of the volets are asked before
each delivery, the official Schematrons only with `--rules`. Figures are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mail import processor_seconds
from servers import fresh_database

from relais.cda.errors import Issue
from relais.server.commands import departure_check
from relais.server.delivery import service
from relais.server.delivery.worker import Check
from relais.server.sandbox import Sandbox
from relais.server.settings import Settings
from support.mortal import check_of
from support.reliability import Trial, trial_settings

_ALONE = 21  # orders, one after another
_WARM_UP = 10


def main(asked: argparse.Namespace) -> None:
    """Measure; a line for each channel and figure on standard output."""
    for channel in asked.channel or ("dmp", "mss", "hl7v2"):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relais-speed-")))
            url = stack.enter_context(fresh_database(asked.engine))
            sandbox, named = stack.enter_context(_sandbox(folder))
            more = {"worker_threads": asked.threads, "mss_pdf": not asked.no_pdf, "sender_timeout": 60}
            run = Trial(folder, trial_settings(url, named, **more), None)  # type: ignore[arg-type]  # is elsewhere
            stack.callback(run.close)
            gate, workers = stack.enter_context(_workers(run.settings, asked.workers, rules=asked.rules))
            _measure(f"{asked.engine} {channel}", run, channel, asked.documents, gate, workers, sandbox)


def _measure(name: str, run: Trial, channel: str, documents: int, gate: Any, workers: list[int], sandbox: int) -> None:
    _order(run, channel, 0, _WARM_UP)
    run.wait(patience=600)
    gate.clear()
    start, used = time.perf_counter(), time.process_time()
    _order(run, channel, _WARM_UP, documents)
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    print(f"{name}: {documents / elapsed:.0f} orders accepted a second, {used / documents * 1000:.1f} ms each")
    time.sleep(1)  # every worker has leased what it will begin with
    before = sum(map(processor_seconds, workers)), processor_seconds(sandbox)
    start = time.perf_counter()
    gate.set()
    run.wait(patience=600)
    elapsed = time.perf_counter() - start
    relais, other = sum(map(processor_seconds, workers)) - before[0], processor_seconds(sandbox) - before[1]
    print(
        f"{name}: {documents / elapsed:.0f} deliveries a second;"
        f" workers {relais / documents * 1000:.1f} ms, sandbox {other / documents * 1000:.1f} ms each"
    )
    delays = sorted(_delay(run, _WARM_UP + documents + number, channel) for number in range(_ALONE))
    print(f"{name}: order to delivery {statistics.median(delays) * 1000:.0f} ms, {delays[-1] * 1000:.0f} ms at most")


def _order(run: Trial, channel: str, first: int, number: int) -> None:
    for index in range(first, first + number):
        run.place(index, (channel,))


def _delay(run: Trial, number: int, channel: str) -> float:
    """Seconds from an accepted order to the delivery that is recorded."""
    time.sleep(0.2)  # the worker is idle again
    run.place(number, (channel,))
    start = time.perf_counter()
    while run.pending():
        time.sleep(0.002)
    return time.perf_counter() - start


# --- the other processes ----------------------------------------------------------------------------------------------


@contextmanager
def _sandbox(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of its process, and the settings that lead there."""
    found: Any = multiprocessing.Queue()
    process = multiprocessing.Process(target=_serve, args=(folder / "sandbox", found), daemon=True)
    process.start()
    try:
        yield process.pid or 0, found.get(timeout=60)
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, found: Any) -> None:
    logging.disable(logging.WARNING)
    with Sandbox(folder) as sandbox:
        found.put(dict(sandbox.settings))
        threading.Event().wait()


@contextmanager
def _workers(values: dict[str, Any], number: int, *, rules: bool) -> Iterator[tuple[Any, list[int]]]:
    """A gate, open now, before which deliveries wait when it is shut, and the numbers of the processes."""
    gate, stop = multiprocessing.Event(), multiprocessing.Event()
    gate.set()
    processes = [multiprocessing.Process(target=_work, args=(values, rules, gate, stop)) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield gate, [process.pid or 0 for process in processes]
    finally:
        gate.set()
        stop.set()
        for process in processes:
            process.join()


def _work(values: dict[str, Any], rules: bool, gate: Any, stop: Any) -> None:
    """One worker process: as `relais worker`, but for the gate."""
    logging.disable(logging.WARNING)
    settings, ended = Settings.of(values), threading.Event()
    check: Check = departure_check(settings) if rules else check_of(settings)

    def gated(content: bytes, channel: str) -> list[Issue]:
        gate.wait()
        return check(content, channel)

    threading.Thread(target=lambda: (stop.wait(), ended.set()), daemon=True).start()
    service.run(settings, gated, ended)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--channel", action="append", choices=("dmp", "mss", "hl7v2"), help="each by default")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--threads", type=int, default=4, help="of each process")
    parser.add_argument("--no-pdf", action="store_true", help="mails without a PDF")
    parser.add_argument("--rules", action="store_true", help="ask the official rules, as production does")
    return parser.parse_args()


if __name__ == "__main__":
    main(_asked())
