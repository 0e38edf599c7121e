"""A small HTTP/1.1 load generator: client processes with one kept-alive connection each, raw sockets, no parsing.

It costs little beside a Python server, so that on a small machine the figure is the server's and not its own.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

_LAST_CHUNK = b"\r\n0\r\n\r\n"  # nothing else ends so: JSON on one line has no line feed


@dataclass(frozen=True)
class Figures:
    """Requests per second over all clients, and latencies in milliseconds."""

    per_second: float
    p50: float
    p95: float
    p99: float


def measure(url: str, *, clients: int, seconds: float, requests: Sequence[bytes]) -> Figures:
    """Send `requests` (complete HTTP requests) in turn from `clients` processes for `seconds`."""
    place = urlsplit(url)
    context = multiprocessing.get_context("fork")
    with context.Pool(clients) as pool:
        jobs = [
            pool.apply_async(_client, (place.hostname, place.port, requests, seconds, offset))
            for offset in range(clients)
        ]
        results = [job.get() for job in jobs]
    latencies = sorted(latency for latencies, _elapsed in results for latency in latencies)
    rate = sum(len(latencies) / elapsed for latencies, elapsed in results)
    return Figures(rate, *(1000 * latencies[int(len(latencies) * share)] for share in (0.50, 0.95, 0.99)))


def get(path: str) -> bytes:
    """The bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: application/fhir+json\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """The bytes of a POST request of FHIR JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/fhir+json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _client(host: str, port: int, requests: Sequence[bytes], seconds: float, offset: int) -> tuple[list[float], float]:
    latencies: list[float] = []
    started = time.perf_counter()
    count = offset
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (before := time.perf_counter()) - started < seconds:
            connection.sendall(requests[count % len(requests)])
            read_answer(connection)
            latencies.append(time.perf_counter() - before)
            count += 1
    return latencies, time.perf_counter() - started


class RefusedError(RuntimeError):
    """An answer that is no 2xx; it was read to its end, so that the connection can be used again."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server refused: {status}")
        self.status = status


def read_answer(connection: socket.socket) -> None:
    """Wait for the whole answer; raises RefusedError when it is no 2xx."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    if b"content-length" in fields:
        missing = int(fields[b"content-length"]) - len(body)
        while missing > 0:
            missing -= len(_receive(connection))
    elif b"transfer-encoding" in fields:
        while not body.endswith(_LAST_CHUNK):
            body += _receive(connection)
    status = int(head[9:12])
    if status not in range(200, 300):
        raise RefusedError(status)


def _receive(connection: socket.socket) -> bytes:
    chunk = connection.recv(65536)
    if not chunk:
        raise RuntimeError("the server closed the connection")
    return chunk
