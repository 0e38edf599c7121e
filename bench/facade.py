"""Read and create on the facade, requests per second, against a bare Flask view on the same server.

    .venv/bin/python bench/facade.py [seconds] [clients]

The baseline is the smallest Flask application that answers the same bytes, run by the same gunicorn settings: one view
that returns the stored resource for a GET, and one that reads the body and returns 201 for a POST.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from load import Figures, get, measure, post

PATIENT = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:oid:1.2.250.1.213.1.4.10", "value": "279035121518989"}],
    "name": [{"use": "official", "family": "TEST", "given": ["DOMINIQUE"]}],
    "gender": "female",
    "birthDate": "1979-03-28",
}


def main() -> None:
    """Measure both servers one after the other and print a table and a JSON line."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 9.0
    clients = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    body = json.dumps(PATIENT).encode()
    with tempfile.TemporaryDirectory() as folder:
        with _server([sys.executable, "-m", "relais.server.cli", "serve"], Path(folder)) as base:
            created = requests.post(f"{base}/fhir/Patient", data=body, headers=_JSON, timeout=10)
            created.raise_for_status()
            path = f"/fhir/Patient/{created.json()['id']}"
            read = _median(base, clients, seconds, [get(path)])
            create = _median(base, clients, seconds, [post("/fhir/Patient", body)])
        answer = Path(folder, "answer.json")
        answer.write_bytes(created.content)
        with _server([sys.executable, str(Path(__file__).with_name("bare.py")), str(answer)], Path(folder)) as base:
            bare_read = _median(base, clients, seconds, [get("/fhir/Patient/1")])
            bare_create = _median(base, clients, seconds, [post("/fhir/Patient", body)])
    _print("read", bare_read, read)
    _print("create", bare_create, create)
    print(
        json.dumps(
            {
                "bench": "facade",
                "clients": clients,
                "read": {"bare": bare_read.per_second, "relais": read.per_second},
                "create": {"bare": bare_create.per_second, "relais": create.per_second},
            }
        )
    )


def _median(base: str, clients: int, seconds: float, requests: list[bytes]) -> Figures:
    """The median of nine rounds on new connections.

    How many of the connections each web process happens to accept changes a single round by a factor of three.
    """
    rounds = [measure(base, clients=clients, seconds=seconds / 9, requests=requests) for _ in range(9)]
    return sorted(rounds, key=lambda figures: figures.per_second)[4]


_JSON = {"Content-Type": "application/fhir+json"}


def _print(name: str, bare: Figures, relais: Figures) -> None:
    for label, figures in (("bare Flask", bare), ("Relais", relais)):
        print(
            f"{name:8}{label:12}{figures.per_second:8.0f}/s   p50 {figures.p50:6.2f} ms   "
            f"p95 {figures.p95:6.2f} ms   p99 {figures.p99:6.2f} ms"
        )
    print(f"{name:8}ratio       {relais.per_second / bare.per_second:8.2f}")


@contextmanager
def _server(command: list[str], folder: Path) -> Iterator[str]:
    """Run a server with the settings of this benchmark; its origin, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | {
        "RELAIS_PORT": str(port),
        "RELAIS_DATABASE_URL": f"sqlite:///{folder / 'bench.sqlite'}",
        "RELAIS_VALIDATION_AT_START": "false",
    }
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            _wait(f"http://127.0.0.1:{port}/fhir/metadata")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait(url: str) -> None:
    for _ in range(200):
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"no answer from {url}")


if __name__ == "__main__":
    main()
