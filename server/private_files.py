"""Files that hold health data: their owner alone reads them, whatever the umask is."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def write_private(path: Path, content: bytes | memoryview) -> None:
    """Write a file, in the place of what it held, that only its owner reads and writes. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # one that was there may be open to others
            os.fchmod(descriptor, 0o600)
        file.write(content)
