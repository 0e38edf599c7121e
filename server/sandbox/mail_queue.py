"""Messages that the sandbox operator has taken and not concluded yet: on disk, in the order in which they came."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relais.server.sandbox.files import write_whole

log = logging.getLogger("relais.sandbox")


@dataclass(frozen=True, slots=True)
class Taken:
    """A message in a file of the queue, its envelope in another beside it."""

    path: Path
    raw: bytes
    message_id: str
    sender: str
    recipients: list[str]
    wants_report: bool
    extra_copy: bool = False  # to be delivered twice
    extra_report: bool = False  # to be reported twice

    def keep(self) -> None:
        """Write it; the message last: once it is there, it is taken."""
        envelope = [self.message_id, self.sender, self.recipients, self.wants_report]
        write_whole(_envelope(self.path), json.dumps(envelope).encode())
        write_whole(self.path, self.raw)

    def forget(self) -> None:
        """Take it out of the queue; its file may have gone elsewhere."""
        self.path.unlink(missing_ok=True)
        _envelope(self.path).unlink()


class MailQueue:
    """Hands each message to `conclude`, one after another, in a thread from `start` to `stop`.

    `conclude` may move the file away. What waits in `folder` when the process ends is concluded after the next start.
    """

    def __init__(self, folder: Path, conclude: Callable[[Taken], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._conclude = folder, conclude
        self._waiting: queue.SimpleQueue[Taken | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._unsettled: dict[Path, Taken] = {}
        self._number = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Conclude what comes, and first what an earlier run has left."""
        for path in sorted(self._folder.glob("*.eml")):
            self._number = max(self._number, int(path.stem))
            self._put(Taken(path, path.read_bytes(), *json.loads(_envelope(path).read_bytes())))
        self._thread = threading.Thread(target=self._run, name="sandbox-mails", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Conclude what waits, then end."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def new_path(self) -> Path:
        """The file of the message that comes next."""
        self._number += 1
        return self._folder / f"{self._number:012}.eml"

    def add(self, taken: Taken) -> None:
        """Take a message: it is on disk when this returns."""
        taken.keep()
        self._put(taken)

    def _put(self, taken: Taken) -> None:
        with self._changed:
            self._unsettled[taken.path] = taken
        self._waiting.put(taken)

    def unsettled(self) -> list[Taken]:
        """What waits, and what is being concluded."""
        with self._changed:
            return list(self._unsettled.values())

    def settle(self) -> None:
        """Wait until nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unsettled)

    def _run(self) -> None:
        for taken in iter(self._waiting.get, None):
            try:
                self._conclude(taken)
                taken.forget()
            except OSError as error:
                log.error("a mail waits in %s for the next start: %s", taken.path, error.strerror)
            with self._changed:
                del self._unsettled[taken.path]
                self._changed.notify_all()


def _envelope(path: Path) -> Path:
    return path.with_suffix(".json")
