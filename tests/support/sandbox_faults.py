"""A sandbox that tests switch faults of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from relais.server.sandbox import Sandbox, switch_faults
from relais.server.sandbox.switches import COUNTERPARTS


@contextmanager
def switching(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, which plays nothing any more afterwards."""
    yield sandbox
    switch_faults(sandbox.folder, [f"{counterpart}=none" for counterpart in COUNTERPARTS])
