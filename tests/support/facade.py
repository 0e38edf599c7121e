"""The real facade in a process of its own, on a free port, with a SQLite file: for tests that speak HTTP.

with running_facade(tmp_path) as facade:
    requests.get(f"{facade.base}/Patient", timeout=10)
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

_SERVE = "from relais.server.settings import Settings; from relais.server.wsgi import serve; serve(Settings.load())"
_PATIENCE = 30.0  # seconds until it must be ready


class RunningFacade:
    """A server that can be stopped, killed and started again on the same port and file."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """Settings by name, as in `relais.server.settings.Settings`; the database is a file in `folder`, no package,
        and official rules are compiled when first needed.
        """
        self.folder = folder
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}/fhir"
        self.log = folder / "facade.log"
        given = {"port": self.port, "database_url": f"sqlite:///{folder / 'relais.sqlite'}", "fhir_packages": "none"}
        self.settings = {**given, "validation_at_start": "false", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers. Raises AssertionError with its log when it does not."""
        environment = {f"RELAIS_{name.upper()}": str(value) for name, value in self.settings.items()}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE],
                env=os.environ | environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the facade did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to stop (SIGTERM) and wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill every process of it (SIGKILL), as a power cut would."""
        self._end(signal.SIGKILL)

    def processes(self) -> list[int]:
        """Process ids of the facade and of all that it started, in its session or not."""
        parents: dict[int, int] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        found = [self._process.pid] if self._process else []
        for pid in found:  # grows
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def pids(self) -> list[int]:
        """Its processes."""
        if self._process is None:
            return []
        found = [self._process.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found += map(int, children)
        return found

    def request(self, method: str, path: str = "", body: Any = None, **headers: str) -> requests.Response:
        """One request below the base; `body` is bytes or a resource, header names are written with underscores."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            named.setdefault("Content-Type", "application/fhir+json")
        url = path if path.startswith("http") else f"{self.base}/{path}".rstrip("/")
        return requests.request(method, url, data=data, headers=named, timeout=30, allow_redirects=False)

    def get(self, path: str, **headers: str) -> requests.Response:
        """GET below the base."""
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        """POST below the base."""
        return self.request("POST", path, body, **headers)

    def put(self, path: str, body: Any, **headers: str) -> requests.Response:
        """PUT below the base."""
        return self.request("PUT", path, body, **headers)

    def created(self, resource: dict[str, Any]) -> str:
        """Create the resource and return its `Type/id`. Raises AssertionError when it is refused."""
        answer = self.post(resource["resourceType"], resource)
        if answer.status_code != 201:
            raise AssertionError(answer.text)
        return f"{resource['resourceType']}/{answer.json()['id']}"

    def count(self) -> int:
        """How many versions it holds in all: unchanged when a refused request left nothing behind."""
        total: int = self.get("_history?_count=1").json()["total"]
        return total

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if how == signal.SIGKILL:
            os.killpg(self._process.pid, how)  # its own process group: no worker outlives it
        else:
            self._process.send_signal(how)
        self._process.wait(timeout=_PATIENCE)
        self._process = None

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.base}/metadata", timeout=5).ok
        except requests.ConnectionError:
            return False


@contextmanager
def running_facade(folder: Path, **settings: Any) -> Iterator[RunningFacade]:
    """A facade that runs during the block."""
    facade = RunningFacade(folder, **settings)
    facade.start()
    try:
        yield facade
    finally:
        facade.stop()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def issues(answer: requests.Response) -> list[dict[str, Any]]:
    """The issues of an OperationOutcome."""
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome", outcome
    found: list[dict[str, Any]] = outcome["issue"]
    return found
