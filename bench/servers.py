"""A running server for a benchmark: Relais on SQLite or a private PostgreSQL, or HAPI FHIR; its memory and start-up.

HAPI FHIR is the yardstick of `compare_hapi.py` only: Relais and its tests need neither Java nor Maven.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import requests

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support import postgres

_HAPI = Path(__file__).parent / "hapi"


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
def running(database_url: str, *, workers: int = 2, threads: int = 4, ready: str = "metadata") -> Iterator[Server]:
    """Relais on that database; it is ready when it first answers a read of `ready`."""
    port = _free_port()
    settings = {
        "RELAIS_PORT": str(port),
        "RELAIS_DATABASE_URL": database_url,
        "RELAIS_WORKERS": str(workers),
        "RELAIS_THREADS": str(threads),
        "RELAIS_VALIDATION_AT_START": "false",
    }
    command = [sys.executable, "-m", "relais.server.cli", "serve"]
    with _started(command, port, ready, patience=30, environ=settings) as server:
        yield server


def build_hapi() -> str:
    """Compile `bench/hapi`; the class path of its server. RuntimeError when Java or Maven is missing or fails."""
    for tool, package in (("java", "a JDK 17 or later"), ("mvn", "Maven")):
        if shutil.which(tool) is None:
            raise RuntimeError(f"the comparison with HAPI FHIR needs {package}: no '{tool}' on the path")
    goals = ["compile", "dependency:build-classpath", f"-Dmdep.outputFile={_HAPI}/target/classpath"]
    built = subprocess.run(["mvn", "-q", "-B", "-f", str(_HAPI), *goals], capture_output=True, text=True, check=False)
    if built.returncode:
        raise RuntimeError(f"Maven could not build {_HAPI}:\n{built.stdout[-2000:]}{built.stderr[-2000:]}")
    return f"{_HAPI}/target/classes:{(_HAPI / 'target/classpath').read_text().strip()}"


@contextmanager
def running_hapi(classpath: str, database: Path, *, heap: str = "2g", ready: str = "metadata") -> Iterator[Server]:
    """HAPI FHIR on that H2 file; `heap` as Java's -Xmx takes it, `ready` as for `running`."""
    port = _free_port()
    command = ["java", f"-Xmx{heap}", "-cp", classpath, "HapiServer", str(port), str(database)]
    with _started(command, port, ready, patience=300) as server:
        yield server


@contextmanager
def _started(
    command: list[str], port: int, ready: str, *, patience: float, environ: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = subprocess.Popen(command, env=os.environ | environ, stdout=log, stderr=log)
        try:
            base = f"http://127.0.0.1:{port}/fhir"
            try:
                _wait(f"{base}/{ready}", process, patience)
            except RuntimeError as error:
                log.seek(0)
                raise RuntimeError(f"{error}\n{log.read()[-4000:].decode(errors='replace')}") from error
            yield Server(base, process.pid, time.monotonic() - started)
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str, process: subprocess.Popen[bytes], patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            if requests.get(url, timeout=patience).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"no answer from {url}")


def _proportional(pid: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
