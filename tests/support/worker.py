"""The real worker in a process of its own, for tests that deliver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relais.server.delivery import service
from relais.server.settings import Settings


class RunningWorker:
    """`relais worker`, which can be killed and started again."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """Settings by name, as in `relais.server.settings.Settings`."""
        self.log = folder / "worker.log"
        self._environment = os.environ | {f"RELAIS_{name.upper()}": str(value) for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it needs a few seconds to compile the official rules."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "relais.server.cli", "worker"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it (SIGTERM: it finishes what it does) or kill it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None


@contextmanager
def running_worker(folder: Path, **settings: Any) -> Iterator[RunningWorker]:
    """A worker that runs during the block."""
    worker = RunningWorker(folder, **settings)
    worker.start()
    try:
        yield worker
    finally:
        worker.end()


@contextmanager
def worker_thread(settings: dict[str, Any]) -> Iterator[None]:
    """A worker in this process, which does not ask the official rules; settings by name."""
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(Settings.of(settings), lambda _content, _channel: [], stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
