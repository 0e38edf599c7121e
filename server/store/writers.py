"""The writers of a SQLite file: one at a time, in the order they came, several to one commit.

Left to SQLite's own retries, waiting writers sleep by chance and some of them very long. Here threads queue on a
condition, processes on two lock files that a dead process lets go. A writer that ends while others of its process wait
leaves its transaction to the next one instead of committing: each but the first has a savepoint of its own, one commit
(one wait for the disk) serves them all, and none of them returns before it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine

from relais.server.store.checkpoints import DUE, checkpoint
from relais.server.store.errors import locked, unavailable

_PATIENCE = 10.0  # seconds a writer waits for its turn
_POLL = 0.0002  # seconds between two tries of a lock file
_LARGEST_GROUP = 16  # writers that share a commit
_LONGEST_GROUP = 0.02  # seconds after which a group takes no further writer


class Writers:
    """The writers of one process."""

    def __init__(self, engine: Engine, database: str) -> None:
        """`engine` begins with BEGIN IMMEDIATE; `database` is the path of the file."""
        self._engine = engine
        self._database = database
        self._changes = 0  # rows since this process has last copied the WAL
        self._turn, self._next = f"{database}.turn", f"{database}.next"
        self._free = threading.Condition()
        self._busy = False
        self._waiting = 0
        self._open: _Group | None = None  # left for the next writer

    @contextmanager
    def turn(self) -> Iterator[Connection]:
        """The connection of a writer, alone during the block; what it wrote stands when the block is left.

        Raises StoreError when the turn does not come in time, or when the commit fails.
        """
        group = self._enter()
        try:
            with group.member():
                yield group.connection
        finally:
            self._leave(group)
            group.wait()

    def _enter(self) -> _Group:
        deadline = time.monotonic() + _PATIENCE
        with self._free:
            self._waiting += 1
            came = self._free.wait_for(lambda: not self._busy, _PATIENCE)
            self._waiting -= 1
            if not came:
                raise locked()
            self._busy = True
        group, self._open = self._open, None
        try:
            return group or self._begin(deadline)
        except BaseException:
            self._let_go()
            raise

    def _begin(self, deadline: float) -> _Group:
        with ExitStack() as resources:
            with _locked(self._next, deadline):  # so that no process takes two turns while another waits
                resources.enter_context(_locked(self._turn, deadline))
            connection = resources.enter_context(self._engine.connect())
            connection.begin()
            return _Group(connection, resources.pop_all())

    def _leave(self, group: _Group) -> None:
        with self._free:
            if self._waiting and group.takes_another():
                self._open = group
                self._busy = False
                self._free.notify()
                return
        self._changes += group.changes()
        due = self._changes >= DUE
        if due:
            self._changes = 0
        try:
            group.commit()
        finally:
            self._let_go()
        if due:
            checkpoint(self._database, self.turn())

    def _let_go(self) -> None:
        with self._free:
            self._busy = False
            self._free.notify()


class _Group:
    """Writers of one transaction."""

    def __init__(self, connection: Connection, resources: ExitStack) -> None:
        self.connection = connection
        self._resources = resources
        self._changed_before = self._driver.total_changes
        self._since = time.monotonic()
        self._members = 0
        self._undone = False  # its only member failed
        self._lost = False  # SQLite gave up the whole transaction: disk full, input or output error
        self._failure: BaseException | None = None
        self._done = threading.Event()

    @property
    def _driver(self) -> Any:
        return self.connection.connection.dbapi_connection

    def changes(self) -> int:
        """Rows that the members have written."""
        return int(self._driver.total_changes - self._changed_before)

    @contextmanager
    def member(self) -> Iterator[None]:
        """A member's writes, undone by an exception without touching those of the others."""
        self._members += 1
        driver = self._driver
        if self._members == 1:  # alone until it ends: a savepoint would keep a copy of each page it changes
            try:
                yield
            except BaseException:
                self._undone = True
                raise
            return
        driver.execute("SAVEPOINT writer")
        try:
            yield
        except BaseException:
            self._lost = not driver.in_transaction
            if not self._lost:
                driver.execute("ROLLBACK TO writer")
            raise
        else:
            driver.execute("RELEASE writer")

    def takes_another(self) -> bool:
        """Whether the transaction may be left open for another writer."""
        fresh = time.monotonic() - self._since < _LONGEST_GROUP
        return fresh and self._members < _LARGEST_GROUP and not self._lost and not self._undone

    def commit(self) -> None:
        """Commit for all members and let the database go."""
        try:
            with self._resources:  # closes the connection, which undoes what is not committed
                if not self._lost and not self._undone:
                    self.connection.commit()
        except BaseException as error:  # noqa: BLE001 - told to every member
            self._failure = error
        if self._lost:
            self._failure = unavailable()
        self._done.set()

    def wait(self) -> None:
        """Until the commit; raises what it failed with."""
        self._done.wait()
        if self._failure is not None:
            raise self._failure


@contextmanager
def _locked(path: str, deadline: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise locked() from None
                time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)
