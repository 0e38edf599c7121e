"""A private PostgreSQL server for tests: free port, temporary folder, stopped and removed at the end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_UNPRIVILEGED = "postgres"  # PostgreSQL refuses to run as root
_DEBIAN = "/usr/lib/postgresql"


class ServerUnavailableError(Exception):
    """No PostgreSQL can be started here; the message says why."""


class RestartableServer:
    """A server that can be stopped and started again on its port; `url` is that of an empty database."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder = folder
        self._port = _free_port()
        settings = ("-c", "listen_addresses=127.0.0.1", "-k", str(folder), "-p", str(self._port))
        self._command = (_program("postgres"), "-D", str(data), *settings)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql+psycopg://relais@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start and wait until it answers. Raises ServerUnavailableError."""
        log = self._folder / "server.log"
        self._process = _start(*self._command, log=log)
        _wait_until_ready(self._process, self._port, log)

    def stop(self) -> None:
        """Disconnect every client and end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=30)
            self._process = None


@contextmanager
def server() -> Iterator[str]:
    """A running server; gives the URL of an empty database. Raises ServerUnavailableError."""
    with restartable_server() as running:
        yield running.url


@contextmanager
def restartable_server() -> Iterator[RestartableServer]:
    """A running server of its own. Raises ServerUnavailableError."""
    initdb = _program("initdb")
    folder = Path(tempfile.mkdtemp(prefix="relais-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _UNPRIVILEGED)
        data = folder / "data"
        options = ("--auth=trust", "--username=relais", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        made = _start(initdb, "--pgdata", str(data), *options, log=folder / "initdb.log")
        if made.wait(timeout=60):
            raise ServerUnavailableError((folder / "initdb.log").read_text(errors="replace"))
        running = RestartableServer(folder, data)
        try:
            running.start()
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(server_url: str, name: str) -> Iterator[str]:
    """A new database of that name on a running server, dropped at the end; gives its URL."""
    plain = server_url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield server_url.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _program(name: str) -> str:
    found = shutil.which(name) or next((str(path) for path in sorted(Path(_DEBIAN).glob(f"*/bin/{name}"))), None)
    if found is None:
        raise ServerUnavailableError(f"{name} not found (Debian package: postgresql)")
    return found


def _start(*command: str, log: Path) -> subprocess.Popen[bytes]:
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, user=user, group=user, cwd="/")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="relais", dbname="postgres").close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailableError(log.read_text(errors="replace")) from error
            time.sleep(0.05)
        else:
            return
