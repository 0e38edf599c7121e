"""Faults a counterpart plays on demand: one per exchange, as they were asked for, or one until further notice."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

FaultT = TypeVar("FaultT")


class Faults(Generic[FaultT]):
    """A queue of faults, shared between the caller and the threads of a server.

    `standing` says which fault is played while none is queued, and is asked in each exchange.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[FaultT] = deque()
        self.standing: Callable[[], FaultT | None] = lambda: None

    def play(self, *faults: FaultT) -> None:
        """Play these in the next exchanges, one in each."""
        with self._lock:
            self._waiting.extend(faults)

    def take(self, *wanted: FaultT) -> FaultT | None:
        """The next fault when it is one of `wanted`, which is played only once; else the one that stands."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft() if self._waiting[0] in wanted else None
        standing = self.standing()
        return standing if standing in wanted else None
