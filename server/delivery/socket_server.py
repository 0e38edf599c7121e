"""A listener over TCP or TLS with a thread for each connection, which can cut them all."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable

from relais.server.faults import described

log = logging.getLogger("relais.connections")


class SocketServer(socketserver.ThreadingTCPServer):
    """Accepts connections, each served by a thread of its own, and knows those that are open.

    It accepts in a thread of its own, from `start` to `stop`.
    """

    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        serve: Callable[[socket.socket], None],
        context: Callable[[], ssl.SSLContext] | None,
        max_connections: int,
    ) -> None:
        """`serve` is given each connection, before the TLS handshake where there is a `context`. Raises OSError.

        `context` makes the TLS of each connection; one for which it raises OSError is closed.
        """
        self._max_connections = max_connections
        self._serve = serve
        self._context = context
        self._open: dict[socket.socket, socket.socket] = {}
        """What is said over each connection: the connection itself, or TLS over it."""
        self._lock = threading.Lock()
        self._acceptor = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        super().__init__(address, socketserver.BaseRequestHandler)

    def start(self, name: str) -> None:
        """Accept connections from now on, in a thread of that name."""
        self._acceptor.name = name
        self._acceptor.start()

    def stop(self) -> None:
        """Stop listening, cut every connection, wait for their threads."""
        self.shutdown()
        self._cut()
        self.server_close()
        self._acceptor.join()

    def _cut(self) -> None:
        """Cut every open connection: whoever reads from it or writes to it stops."""
        with self._lock:
            for connection in self._open.values():
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not SSLSocket's: it breaks its readers

    def secure(self, connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Begin TLS on a connection that was served in the clear (STARTTLS). Raises OSError."""
        with self._lock:
            secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._open[connection] = secured
        secured.do_handshake()
        return secured

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept; the TLS handshake is left to the connection's thread, so that nobody waits for a slow client."""
        connection, address = super().get_request()
        try:
            if self._context is not None:
                context = self._tls(self._context)
                connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._open[connection] = connection
        return connection, address

    @staticmethod
    def _tls(context: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        try:
            return context()
        except OSError as error:
            log.error("certificates or revocation lists cannot be used, a connection is closed: %s", described(error))
            raise

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether there is room for another connection."""
        with self._lock:
            fits = len(self._open) <= self._max_connections
        if not fits:
            log.warning("more than %d connections at once: one is closed", self._max_connections)
        return fits

    def finish_request(self, request: object, client_address: object) -> None:
        """Called in the thread of the connection."""
        assert isinstance(request, socket.socket)  # noqa: S101 - tells the type checker
        self._serve(request)

    def close_request(self, request: object) -> None:
        """Called when the connection ends."""
        assert isinstance(request, socket.socket)  # noqa: S101 - tells the type checker
        with self._lock:
            connection = self._open.pop(request, request)
        connection.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A fault of whoever serves: the connection ends without an answer."""
        fault = sys.exception()
        log.error("a request could not be handled: %s", described(fault) if fault else "")
