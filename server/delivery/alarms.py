"""What must happen when something takes too long: one thread of the process looks after all of it.

A thread for each attempt, which almost always ends in time, would cost more than the rest of the waiting.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

from relais.server.faults import described

log = logging.getLogger("relais.delivery")

TICK = 0.1
"""Seconds between two looks: an action may come that much late."""

_LINGERING = 50  # looks without anything to look after before the thread sleeps


class Alarm:
    """Calls `action` once `seconds` are over and then at every look, until the block is left."""

    def __init__(self, seconds: float, action: Callable[[], object]) -> None:
        """`action` runs in the thread that looks after all alarms: it must not wait for anything."""
        self._seconds = seconds
        self.action = action
        self.at = 0.0

    def __enter__(self) -> Alarm:
        self.at = time.monotonic() + self._seconds
        _watch.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """The action neither runs now nor later."""
        _watch.discard(self)


class _Watch:
    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())  # held while actions run; one may leave its own block
        self._alarms: set[Alarm] = set()
        self._thread: threading.Thread | None = None
        self._sleeps = False

    def add(self, alarm: Alarm) -> None:
        with self._changed:
            self._alarms.add(alarm)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="alarms", daemon=True)
                self._thread.start()
            elif self._sleeps:
                self._changed.notify()

    def discard(self, alarm: Alarm) -> None:
        with self._changed:
            self._alarms.discard(alarm)

    def _look(self) -> None:
        idle = 0
        with self._changed:
            while True:
                idle = 0 if self._alarms else idle + 1
                self._sleeps = idle > _LINGERING
                self._changed.wait(None if self._sleeps else TICK)
                now = time.monotonic()
                for alarm in [alarm for alarm in self._alarms if alarm.at <= now]:
                    self._call(alarm)

    @staticmethod
    def _call(alarm: Alarm) -> None:
        try:
            alarm.action()
        except Exception as error:  # noqa: BLE001 - the other alarms need their thread
            log.error("an alarm failed: %s", described(error))


_watch = _Watch()


def _begin_anew() -> None:
    """A forked process has none of the threads of its parent."""
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_begin_anew)
