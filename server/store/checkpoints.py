"""Checkpoints of a SQLite file beside its writers: what was committed moves from the WAL into the file.

Left to SQLite, the writer whose commit makes the WAL long copies it before anybody else may write. Here it is copied
while others write on, then in a turn of its own the little that came meanwhile: only then can the WAL begin anew
(https://sqlite.org/wal.html#ckpt).
"""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, closing, suppress

from relais.server.store.errors import StoreError

LONGEST_WAL = 32_000  # pages, after which a writer copies them after all
DUE = 4_000  # rows changed by this process, about as many pages


def checkpoint(database: str, turn: AbstractContextManager[object]) -> None:
    """Copy the WAL of the file at the path `database`; `turn` keeps every writer out during its block.

    What cannot be copied now, because a reader needs it or the turn does not come, stays for the next time.
    """
    with suppress(sqlite3.Error, StoreError), closing(sqlite3.connect(database, isolation_level=None)) as connection:
        _copy(connection)
        with turn:
            _copy(connection)


def _copy(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
