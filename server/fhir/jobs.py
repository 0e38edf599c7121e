"""Work too long for a request (FHIR asynchronous pattern): jobs in the database, done by a thread of a web process.

A job belongs to who holds its lease. A process that stops or is killed lets the lease run out; then whoever asks for
the status of the job, or brings another one, starts it again from its beginning.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Integer, Row, Table, Text, delete, func, insert, or_, select, update

from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError
from relais.server.store import metadata
from relais.server.store.store import to_datetime, to_microseconds

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade

_log = logging.getLogger(__name__)
_LEASE = timedelta(seconds=20)
_MOST_WAITING = 20
_MOST_STARTS = 3  # of a job whose process dies each time
_RETRY_AFTER = ("Retry-After", "1")

job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),  # waiting, done, failed
    Column("request", Text, nullable=False),  # JSON, as its kind understands it
    Column("progress", Text, nullable=False),
    Column("result", Text, nullable=False),  # JSON of what its status answers in the end
    Column("submitted", BigInteger, nullable=False),
    Column("lease", BigInteger, nullable=False),  # who does it must renew it before
    Column("starts", Integer, nullable=False),
)


class JobLostError(Exception):
    """The job was deleted, or another process has taken it: what is left of it must not be done here."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job at work. `report` tells how far it is, renews the lease, and raises JobLostError."""

    id: str
    request: dict[str, Any]
    submitted: datetime
    report: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be done: `run` gives what the status answers in the end, `discard` removes what a job left behind."""

    run: Callable[[Facade, Job], dict[str, Any]]
    content_type: str
    discard: Callable[[Facade, str], None]


KINDS: dict[str, Kind] = {}


class Jobs:
    """The jobs of one facade. At most one thread of a process works on them."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, kind: str, request: dict[str, Any]) -> Reply:
        """Take a job: 202, with the address of its status. Raises FhirError 429 when too many wait."""
        repository, number = self._facade.repository, str(uuid.uuid4())
        with repository.transaction() as transaction:
            waiting = select(func.count()).select_from(job).where(job.c.state == "waiting")
            if (transaction.connection.scalar(waiting) or 0) >= _MOST_WAITING:
                raise FhirError.of(429, "throttled", "too many jobs wait already", Retry_After="60")
            new = insert(job).values(
                id=number,
                kind=kind,
                state="waiting",
                request=json.dumps(request),
                progress="",
                result="",
                submitted=to_microseconds(transaction.now),
                lease=0,
                starts=0,
            )
            transaction.connection.execute(new)
        self.wake()
        return Reply(202, headers=(("Content-Location", f"{repository.base}/$job/{number}"),))

    def status(self, number: str) -> Reply:
        """202 while it lasts, its result when it is done. Raises FhirError 404, or 500 for a job that failed."""
        with self._facade.repository.snapshot() as connection:
            found = connection.execute(select(job).where(job.c.id == number)).first()
        if found is None:
            raise _unknown()
        if found.state == "failed":
            raise FhirError.of(500, "exception", f"the job failed; its id is {number}")
        if found.state == "done":
            return Reply(200, found.result.encode(), content_type=KINDS[found.kind].content_type)
        self.wake()
        return Reply(202, headers=(("X-Progress", found.progress or "waiting"), _RETRY_AFTER))

    def discard(self, number: str) -> Reply:
        """Stop a job and remove what it made: 202. Raises FhirError 404."""
        with self._facade.repository.transaction() as transaction:
            found = transaction.connection.execute(select(job.c.kind).where(job.c.id == number)).first()
            transaction.connection.execute(delete(job).where(job.c.id == number))
        if found is None:
            raise _unknown()
        KINDS[found.kind].discard(self._facade, number)
        return Reply(202)

    def wake(self) -> None:
        """Let this process see what is to be done."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        try:
            while found := self._lease():
                self._do(found)
        except Exception as error:  # noqa: BLE001 - a thread has nobody to tell
            _log.error("the jobs stopped: %s\n%s", type(error).__name__, _places(error))

    def _lease(self) -> Row[Any] | None:
        with self._facade.repository.transaction() as transaction:
            now = to_microseconds(transaction.now)
            free = select(job).where(job.c.state == "waiting", or_(job.c.lease < now, job.c.lease == 0))
            found = transaction.connection.execute(free.order_by(job.c.submitted).limit(1).with_for_update()).first()
            if found is not None:
                state = "waiting" if found.starts < _MOST_STARTS else "failed"
                values = {
                    "lease": to_microseconds(transaction.now + _LEASE),
                    "starts": found.starts + 1,
                    "state": state,
                }
                transaction.connection.execute(update(job).where(job.c.id == found.id).values(**values))
        return found

    def _do(self, found: Row[Any]) -> None:
        start = found.starts + 1
        if start > _MOST_STARTS:
            return

        def report(progress: str) -> None:
            self._write(found.id, start, progress=progress)

        try:
            submitted = to_datetime(found.submitted)
            result = KINDS[found.kind].run(self._facade, Job(found.id, json.loads(found.request), submitted, report))
            self._write(found.id, start, state="done", result=json.dumps(result))
        except JobLostError:
            KINDS[found.kind].discard(self._facade, found.id)
        except Exception as error:  # noqa: BLE001 - whatever it is, its job has failed
            _log.error("job %s failed: %s\n%s", found.id, type(error).__name__, _places(error))
            self._write(found.id, start, state="failed")

    def _write(self, number: str, start: int, **values: str) -> None:
        with self._facade.repository.transaction() as transaction:
            lease = to_microseconds(transaction.now + _LEASE)
            mine = update(job).where(job.c.id == number, job.c.starts == start)
            if not transaction.connection.execute(mine.values(lease=lease, **values)).rowcount:
                raise JobLostError


@operation("$job", level="system", methods=("GET", "DELETE"), address="/$job/<id>", produces=("application/json",))
def job_status(facade: Facade, call: Call) -> Reply:
    """The status of an asynchronous job, its result when it is done; DELETE stops it and removes its files."""
    return facade.jobs.discard(call.id) if call.method == "DELETE" else facade.jobs.status(call.id)


def _unknown() -> FhirError:
    return FhirError.of(404, "not-found", "there is no such job")


def _places(error: Exception) -> str:
    """Where it happened; the message of the error may quote values."""
    return "".join(traceback.format_tb(error.__traceback__))
