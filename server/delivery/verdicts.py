"""What the official rules say of a document, asked once: its bytes do not change, nor do the rules of a process.

A validator serves one thread, and workers are several: it lives in a thread of its own.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from relais.cda.errors import Issue

ValidatorT = TypeVar("ValidatorT")

_REMEMBERED = 1_000  # documents


class Verdicts(Generic[ValidatorT]):
    """What forbids documents to leave, by their bytes."""

    def __init__(self, make: Callable[[], ValidatorT], judge: Callable[[ValidatorT, bytes], Sequence[Issue]]) -> None:
        """`make` makes the validator, in the thread that will use it. Raises what it raises."""
        self._judge = judge
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="official-rules")
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Sequence[Issue]] = OrderedDict()
        self._validator = self._thread.submit(make).result()

    def of(self, content: bytes) -> list[Issue]:
        """What forbids the document to leave; empty when nothing does."""
        key = hashlib.sha256(content).digest()
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._thread.submit(self._judge, self._validator, content).result()
            with self._lock:
                self._known[key] = known
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return list(known)
