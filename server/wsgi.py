"""Runs the application under gunicorn: prefork workers with threads, graceful stop, a log without health data."""

from __future__ import annotations

import gc
import sys
from typing import Any
from urllib.parse import quote

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from relais.server.app import create_app
from relais.server.balance import ConnectionCounts, EvenWorker
from relais.server.faults import described
from relais.server.fhir.facade import Facade
from relais.server.settings import Settings

# Method, path, status, bytes, microseconds. No query string, no header: they may name a person.
_ACCESS_LOG = '%(t)s "%(m)s %(U)s" %(s)s %(B)s %(D)s'


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; running requests are finished first. Raises RelaisError before it listens."""
    run(settings, create_app(settings))


def run(settings: Settings, application: Flask) -> None:
    """Run any WSGI application under the server settings of Relais until SIGTERM or SIGINT."""
    _Server(settings, application).run()


class _Log(Logger):  # type: ignore[misc]
    """The log of gunicorn: no client can write a line of its own into it, and no query or header is quoted."""

    def atoms(self, *arguments: Any) -> dict[str, Any]:
        atoms: dict[str, Any] = super().atoms(*arguments)
        return atoms | {"U": quote(atoms["U"], safe="/$*._-", encoding="latin-1"), "m": quote(atoms["m"])}

    def warning(self, message: str, *arguments: Any, **options: Any) -> None:
        # What gunicorn cannot read it quotes, a request line with its query or a header.
        told = message.partition(": ")[0] if message.startswith("Invalid request") else message
        super().warning(told, *arguments, **options)

    def exception(self, message: str, *arguments: Any, **options: Any) -> None:
        # The arguments are an address with its query, the messages of exceptions quote values.
        error = sys.exc_info()[1]
        super().error("%s: %s", message.partition("%")[0].strip(), described(error) if error else "")


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn configured by our settings instead of its command line."""

    def __init__(self, settings: Settings, application: Flask) -> None:
        self._settings = settings
        self._application = application
        super().__init__()

    def load_config(self) -> None:
        EvenWorker.counts = ConnectionCounts(self._settings.workers)
        options: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": self._settings.workers,
            "threads": self._settings.threads,
            "worker_class": EvenWorker,
            "preload_app": True,
            "accesslog": "-",
            "logger_class": _Log,
            "access_log_format": _ACCESS_LOG,
            "loglevel": "warning",
            "keepalive": 75,
            "graceful_timeout": 30,
            "limit_request_line": 8190,
            "control_socket_disable": True,
            "pre_fork": _before_fork,
            "post_worker_init": _after_start,
            "worker_exit": _before_exit,
            "child_exit": _after_exit,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._application


def _before_fork(_arbiter: Any, worker: EvenWorker) -> None:
    gc.freeze()  # keeps the pages of the definitions shared
    worker.place = EvenWorker.counts.enter()


def _after_start(worker: EvenWorker) -> None:
    if facade := _facade(worker):
        facade.content_judge.warm_up()


def _before_exit(_arbiter: Any, worker: EvenWorker) -> None:
    if facade := _facade(worker):
        facade.content_judge.close()


def _facade(worker: EvenWorker) -> Facade | None:
    """The facade of the application that a process runs, unless that is another application."""
    facade: Facade | None = worker.app.wsgi().extensions.get("relais")
    return facade


def _after_exit(_arbiter: Any, worker: EvenWorker) -> None:
    if worker.place is not None:
        EvenWorker.counts.leave(worker.place)
