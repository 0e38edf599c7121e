"""A listening socket for a counterpart."""

from __future__ import annotations

import socket

from relais.cda.errors import Issue, RelaisError


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket that listens on `host`:`port`; port 0 is a free one. Raises RelaisError when it cannot."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror}"
        raise RelaisError(Issue("fatal", "conflict", message, rule="sandbox")) from error
