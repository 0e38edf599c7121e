"""What a counterpart has taken, in the order in which it came: a file that only grows, a line of JSON for each.

A line is written in one step and does not wait for the disk: it survives the end of the process, not a power cut. One
that a kill cut short was never answered for, and is cut off when the file is read again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from relais.cda.errors import Issue, RelaisError

RecordT = TypeVar("RecordT", bound=msgspec.Struct)


class Journal(Generic[RecordT]):
    """The records kept under `path`. Not safe for threads by itself."""

    def __init__(self, path: Path, kind: type[RecordT]) -> None:
        self.path = path
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(kind)

    def read(self) -> Iterator[RecordT]:
        """Every record, oldest first. Raises RelaisError for a line that is none."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            end = 0
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    file.truncate(end)
                    return
                end += len(line)
                yield self._decoded(line, number)

    def append(self, record: RecordT) -> None:
        """Keep one more. Raises OSError when there is no room for it, and keeps none of it then."""
        line = self._encoder.encode(record) + b"\n"
        with self.path.open("ab", buffering=0) as file:
            end, written = file.tell(), 0
            try:
                written = file.write(line)
            finally:
                if written < len(line):
                    file.truncate(end)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _decoded(self, line: bytes, number: int) -> RecordT:
        try:
            return self._decoder.decode(line)
        except msgspec.MsgspecError as error:
            message = f"line {number} is no record: not written by this version of the sandbox, empty the folder"
            raise RelaisError(Issue("fatal", "structure", message, str(self.path), "sandbox")) from error
