"""Connections spread over the web processes: eight clients of two processes are four each, also after a crash."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import requests

from relais.server.balance import ConnectionCounts

_SERVER = """
import os
from flask import Flask
from relais.server.settings import Settings
from relais.server.balance import EvenWorker
from relais.server.wsgi import run
EvenWorker.patience = 10.0  # whatever else the machine is busy with
app = Flask(__name__)
app.add_url_rule("/", view_func=lambda: str(os.getpid()))
run(Settings.of({"port": int(os.environ["PORT"]), "workers": 2, "threads": 4}), app)
"""


@pytest.fixture
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELAIS_")}
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER], env=environment | {"PORT": str(port)}, stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str, processes: int = 2) -> None:
    """Until that many processes answer."""
    seen: set[str] = set()
    deadline = time.monotonic() + 60
    while len(seen) < processes:
        assert time.monotonic() < deadline
        try:
            clients = [requests.Session() for _ in range(4)]
            seen |= {client.get(address, timeout=20).text for client in clients}
            for client in clients:
                client.close()
        except requests.ConnectionError:
            time.sleep(0.1)


def _spread(address: str, clients: int = 8) -> Counter[str]:
    sessions = [requests.Session() for _ in range(clients)]
    first = [session.get(address, timeout=20).text for session in sessions]
    again = [session.get(address, timeout=20).text for session in sessions]
    for session in sessions:
        session.close()
    assert first == again  # the connections were kept
    time.sleep(0.5)  # the processes see them go
    return Counter(first)


def test_every_process_gets_its_share(address: str) -> None:
    for _ in range(5):
        assert sorted(_spread(address).values()) == [4, 4]


def test_a_process_that_was_killed_is_counted_no_more(address: str) -> None:
    killed = next(iter(_spread(address)))
    os.kill(int(killed), signal.SIGKILL)
    _wait_for(address)
    after = _spread(address)
    assert sorted(after.values()) == [4, 4]
    assert killed not in after


def test_places_are_used_again() -> None:
    counts = ConnectionCounts(2)
    places = [counts.enter() for _ in range(3)]
    counts.put(places[0], 7)
    counts.put(places[1], 5)
    counts.put(places[2], 6)
    assert counts.least() == 5
    counts.leave(places[1])
    assert counts.least() == 6
    assert counts.enter() == places[1]
    assert counts.least() == 0
