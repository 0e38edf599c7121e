"""Files that appear whole or not at all, whenever the sandbox is killed; they do not wait for the disk."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

UNFINISHED = ".new-"
"""Start of the name of what was not complete when the process ended."""


def write_whole(path: Path, *pieces: bytes) -> None:
    """Write `pieces` under `path` in one step: a reader, or a restart, never sees half a file."""
    new = path.with_name(f"{UNFINISHED}{uuid4().hex}")
    try:
        write_new(new, *pieces)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(new, *pieces)
    new.replace(path)


def write_new(path: Path, *pieces: bytes) -> None:
    """Write a file that is not there yet."""
    with path.open("xb") as file:
        file.writelines(pieces)
