"""Validation in processes of its own: SaxonC holds the interpreter lock for as long as it runs, and 200 MB of rules.

Each process is a fresh interpreter (never a fork: SaxonC does not survive one), started when first needed, compiles
the rules once and serves one job at a time over a socket. It ends when that socket closes: with the pool, or with the
process that owns the pool, however that one dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from relais.cda.errors import Issue, RelaisError
from relais.cda.rule_sets import CURRENT
from relais.cda.validation import Report, Validator

Job = TypeVar("Job")
Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)
_START_TIMEOUT = 120.0
_READY = "ready"
_RULE = "relais-process"


class ValidationUnavailableError(RelaisError):
    """No verdict could be had: validation took too long, or its process died twice."""


class ProcessPool(Generic[Job, Answer]):
    """Answers jobs in `processes` separate processes. Safe to share between threads.

    `start` is what a process runs first; it gives the function that answers jobs. It, jobs and answers are pickled.
    After a fork the child process starts its own processes when it needs them.
    """

    def __init__(self, start: Callable[[], Callable[[Job], Answer]], processes: int = 1) -> None:
        self._workers: list[_Worker[Job, Answer]] = [_Worker(start) for _ in range(processes)]
        self._idle = self._new_queue()
        self._closed = False
        forget = weakref.WeakMethod(self._forget_parent)
        os.register_at_fork(after_in_child=lambda: method() if (method := forget()) else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the processes that run."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    @property
    def is_ready(self) -> bool:
        """Whether some process has its rules compiled."""
        return any(worker.is_ready for worker in self._workers)

    def warm_up(self) -> None:
        """Start every process and wait until its rules are compiled. Raises RelaisError."""
        workers = [self._idle.get() for _ in self._workers]
        try:
            for worker in workers:
                worker.launch()
            for worker in workers:
                worker.wait_until_ready()
        except (EOFError, OSError):
            raise _unavailable("exception", "a validation process died while it started") from None
        finally:
            for worker in workers:
                self._idle.put(worker)

    def run(self, job: Job, timeout: float = 60.0) -> Answer:
        """The answer to a job, within `timeout` seconds once the process is ready.

        A process found dead is replaced, and the job given to the new one. Raises the RelaisError that the job raises,
        ValidationUnavailableError when no answer can be had.
        """
        try:
            worker = self._idle.get(timeout=timeout)
        except queue.Empty:
            raise _unavailable("timeout", "every validation process stayed busy") from None
        try:
            for _ in range(2):
                if self._closed:
                    raise _unavailable("exception", "the validation processes are closed")
                with contextlib.suppress(EOFError, OSError):
                    return worker.run(job, timeout)
                worker.stop()
            raise _unavailable("exception", "the validation process died twice on this document")
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes, for good. A validation under way fails."""
        self._closed = True
        for worker in self._workers:
            worker.close()
        for worker in [self._idle.get() for _ in self._workers]:
            worker.stop()
            self._idle.put(worker)

    def _new_queue(self) -> queue.LifoQueue[_Worker[Job, Answer]]:
        idle = queue.LifoQueue[_Worker[Job, Answer]]()
        for worker in self._workers:
            idle.put(worker)
        return idle

    def _forget_parent(self) -> None:
        """In a forked child: the processes belong to the parent, whose sockets must not stay open here."""
        for worker in self._workers:
            worker.forget()
        self._idle = self._new_queue()


class ValidationPool(ProcessPool[bytes, Report]):
    """Judges documents by one rule set; `pack` is the folder that holds `cda/`. A job is the bytes of a document."""

    def __init__(self, pack: Path, rule_set: str = CURRENT, processes: int = 1) -> None:
        super().__init__(partial(_document_judge, pack, rule_set), processes)


def _document_judge(pack: Path, rule_set: str) -> Callable[[bytes], Report]:
    validator = Validator(pack, rule_set)
    validator.warm_up()
    return validator.validate


class _Worker(Generic[Job, Answer]):
    """One validation process, seen from the pool."""

    def __init__(self, start: Callable[[], Callable[[Job], Answer]]) -> None:
        self._start = start
        self.process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._started = 0.0
        self._closed = False
        self.is_ready = False

    def launch(self) -> Connection[Any, Any]:
        """Start the process unless it runs; its rules are not compiled yet."""
        if self.process is not None and self.process.poll() is not None:
            self.stop()
        if self._connection is None:
            self._connection, theirs = Pipe()
            with theirs:
                code = f"from {__name__} import serve; serve({theirs.fileno()})"
                command = [sys.executable, "-P", "-c", code]
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])  # noqa: S603
            if self._closed:  # meanwhile, when there was no process yet to end
                self.kill()
            self._started = time.monotonic()
            _log.info("validation process %d starts: it compiles the official rules, a few seconds", self.process.pid)
            self._connection.send(self._start)
        return self._connection

    def wait_until_ready(self) -> None:
        """Wait for the rules to be compiled. Raises EOFError or OSError when the process died, RelaisError."""
        connection = self.launch()
        if not self.is_ready:
            try:
                with self._within(_START_TIMEOUT):
                    _receive(connection)
            except RelaisError:
                self.stop()
                raise
            self.is_ready = True
            _log.info("validation process ready after %.1f s", time.monotonic() - self._started)

    def run(self, job: Job, timeout: float) -> Answer:
        """The answer to a job. Raises EOFError or OSError when the process died, RelaisError."""
        self.wait_until_ready()
        connection = self.launch()
        with self._within(timeout):
            connection.send(job)
            answer: Answer = _receive(connection)
        return answer

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Kill the process if it takes longer: sending to it may block as well as receiving."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError):
            if expired.is_set():
                self.stop()
                raise _unavailable("timeout", "validation took too long") from None
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process for good, also one that another thread is just starting."""
        self._closed = True
        self.kill()

    def kill(self) -> None:
        """End the process at once; `stop` then forgets it."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        """End the process by closing its socket, and wait for its end."""
        if self._connection is not None:
            self._connection.close()
        if self.process is not None:
            self.process.wait()
        self.process = self._connection = None
        self.is_ready = False

    def forget(self) -> None:
        """Close the socket and leave the process alone: it is another's."""
        if self._connection is not None:
            self._connection.close()
        if self.process is not None:
            self.process.returncode = 0  # not ours to wait for
        self.process = self._connection = None
        self.is_ready = False


def _receive(connection: Connection[Any, Any]) -> Any:
    """The answer of a validation process. Raises the error it answers with."""
    answer, error = connection.recv()
    if error is not None:
        kind, issues = error
        raise kind(issues)
    return answer


def _unavailable(code: str, message: str) -> ValidationUnavailableError:
    return ValidationUnavailableError(Issue("fatal", code, message, "", _RULE))


def serve(descriptor: int) -> None:
    """Body of a validation process: answer jobs until the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted terminal ends the owner, which ends this
    with Connection(descriptor) as connection:
        try:
            _serve(connection)
        except (EOFError, OSError):
            return  # the owner is gone


def _serve(connection: Connection[Any, Any]) -> None:
    try:
        answer = connection.recv()()
    except RelaisError as error:
        connection.send((None, (type(error), error.issues)))
        return
    connection.send((_READY, None))
    while True:
        job = connection.recv()
        try:
            found, refusal = answer(job), None
        except RelaisError as error:
            found, refusal = None, (type(error), error.issues)
        except Exception as fault:  # noqa: BLE001 - a bug here must not end the process, nor print what it quotes
            message = f"the check itself failed ({type(fault).__name__})"
            found, refusal = None, (ValidationUnavailableError, (Issue("fatal", "exception", message, "", _RULE),))
        connection.send((found, refusal))
