"""A running Relais for a benchmark: a fresh database, on SQLite or a private PostgreSQL, web processes and memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support import postgres


@dataclass(frozen=True)
class Server:
    """A server that answers: its FHIR base URL, its process, and how long it took to be ready."""

    base: str
    pid: int
    start_up: float  # seconds

    def memory(self) -> float:
        """Megabytes of all its processes, what they share counted once (PSS)."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_proportional(pid) for pid in (str(self.pid), *children)) / 1024


@contextmanager
def fresh_database(engine: str) -> Iterator[str]:
    """URL of an empty database; `engine` is sqlite or postgresql."""
    with ExitStack() as stack:
        if engine == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            yield f"sqlite:///{folder}/relais.sqlite"
        else:
            yield stack.enter_context(postgres.server())


@contextmanager
def running(database_url: str, *, workers: int = 2, threads: int = 4) -> Iterator[Server]:
    """A server on that database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "RELAIS_PORT": str(port),
        "RELAIS_DATABASE_URL": database_url,
        "RELAIS_WORKERS": str(workers),
        "RELAIS_THREADS": str(threads),
    }
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        command = [sys.executable, "-m", "relais.server.cli", "serve"]
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
        try:
            base = f"http://127.0.0.1:{port}/fhir"
            _wait(f"{base}/metadata")
            yield Server(base, process.pid, time.monotonic() - started)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"no answer from {url}")


def _proportional(pid: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
