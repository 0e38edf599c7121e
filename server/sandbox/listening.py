"""A listening socket for a counterpart."""

from __future__ import annotations

import socket

from relais.cda.errors import Issue, RelaisError


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket that listens on `host`:`port`; port 0 is a free one. Raises RelaisError when it cannot.

    What connections send does not wait for the receipt of what they sent before (TCP_NODELAY, which they inherit).
    """
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror}"
        raise RelaisError(Issue("fatal", "conflict", message, rule="sandbox")) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
