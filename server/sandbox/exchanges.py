"""What was said over each connection of the sandbox DMP, for people: a file for each connection.

A file is a MIME message (RFC 2046 multipart/mixed) whose parts are the requests and their answers in turn, each with
its own Content-Type; those of a request say when and where it came.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from relais.server.sandbox.https_server import Answer, Request


class ExchangeLog:
    """The files of one folder, which is made for the first exchange; safe for threads that share no connection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, request: Request, answer: Answer) -> None:
        """Write an exchange at the end of the file of its connection; the message is whole after each."""
        name = request.connection
        path, last = self._folder / f"{name}.mime", f"\r\n--{name}--\r\n".encode()
        pieces = [_head(name, request), request.body, _head(name, answer), answer.body, last]
        try:
            with path.open("r+b") as file:
                file.seek(-len(last), os.SEEK_END)
                file.writelines(pieces)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.writelines([f'Content-Type: multipart/mixed; boundary="{name}"\r\n'.encode(), *pieces])


def _head(boundary: str, said: Request | Answer) -> bytes:
    """What stands before a request or an answer."""
    fields = f"Content-Type: {said.content_type}\r\n"
    if isinstance(said, Request):
        fields += f"Date: {format_datetime(datetime.now(UTC))}\r\nContent-Location: {said.url}\r\n"
    return f"\r\n--{boundary}\r\n{fields}\r\n".encode()
