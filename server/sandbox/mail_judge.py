"""Mails judged after they were taken, by a process of its own that leaves the processor to whoever takes them.

It reads requests on its standard input, one line of JSON each, and answers one line with the reasons against a mail.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

_MODULE = "relais.server.sandbox.mail_judge"
_NICENESS = 10
_ATTEMPTS = 2
_PATIENCE = 60.0
UNJUDGED = "the mail could not be judged"


class Judge:
    """Judges one mail after another; its process starts with the first, and again when it was ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def reasons(self, path: Path, sender: str, recipients: Sequence[str]) -> list[str]:
        """Everything wrong with the mail in a file, with its envelope; empty when it conforms."""
        request = json.dumps([str(path.resolve()), sender, [*recipients]]).encode() + b"\n"
        with self._lock:
            for _ in range(_ATTEMPTS):
                if answer := self._ask(request):
                    return [str(reason) for reason in json.loads(answer)]
        return [UNJUDGED]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, request: bytes) -> bytes:
        """The answer, empty when the process ended, or was ended after a minute, before it gave one."""
        if self._process is None:
            command = [sys.executable, "-m", _MODULE]
            self._process = subprocess.Popen(  # noqa: S603 - nothing of it comes from outside
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        assert self._process.stdin and self._process.stdout  # noqa: S101 - tells the type checker
        patience = threading.Timer(_PATIENCE, self._process.kill)
        patience.start()
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = b""
        finally:
            patience.cancel()
        if not answer.endswith(b"\n"):
            self._end()
            return b""
        return answer

    def _end(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def main() -> None:
    """Judge what standard input names, until it ends."""
    from relais.server.sandbox.mail_checks import check

    os.nice(_NICENESS)
    for request in sys.stdin:
        path, sender, recipients = json.loads(request)
        try:
            reasons = [str(issue) for issue in check(Path(path).read_bytes(), sender, recipients)]
        except Exception as error:  # noqa: BLE001 - whatever a mail does to those who read it, it is not accepted
            reasons = [f"{UNJUDGED}: {type(error).__name__}"]
        print(json.dumps(reasons), flush=True)


if __name__ == "__main__":
    main()
