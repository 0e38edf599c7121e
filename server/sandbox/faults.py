"""Faults a counterpart plays on demand: one per exchange, in the order they were asked for."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

FaultT = TypeVar("FaultT")


class Faults(Generic[FaultT]):
    """A queue of faults, shared between the caller and the threads of a server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[FaultT] = deque()

    def play(self, *faults: FaultT) -> None:
        """Play these in the next exchanges, one in each."""
        with self._lock:
            self._waiting.extend(faults)

    def take(self, *wanted: FaultT) -> FaultT | None:
        """The next fault when it is one of `wanted`; it is played only once."""
        with self._lock:
            if self._waiting and self._waiting[0] in wanted:
                return self._waiting.popleft()
            return None
