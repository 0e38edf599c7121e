"""MLLP on real sockets: frames however the network cuts them, faults of the other side, TLS, no thread left behind."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from relais.server.delivery import mllp
from relais.server.delivery.mllp import FrameReader, MllpClient, MllpServer, Received, UnansweredError, frame

MESSAGE = b"MSH|^~\\&|A\rEVN\r"
TIMEOUT = 1.0


def found(data: bytes, sizes: list[int] | None = None, max_size: int = 1_000) -> list[tuple[str, bytes]]:
    """What a reader finds in `data` cut into pieces of those sizes, then the end."""
    reader, results = FrameReader(max_size), list[Received]()
    for size in sizes or []:
        results += reader.feed(data[:size])
        data = data[size:]
    results += [*reader.feed(data), *reader.finish()]
    return [(result.kind, result.message) for result in results]


# --- frames -------------------------------------------------------------------------------------------------------


def test_frame_bytes() -> None:
    assert frame(b"MSH|") == b"\x0bMSH|\x1c\x0d"


CONTENT = st.binary(max_size=60).map(lambda data: re.sub(rb"[\x0b\x1c]", b"", data))


@settings(deadline=None)
@given(st.lists(CONTENT, max_size=5), st.lists(st.integers(0, 40), max_size=20))
def test_frames_survive_any_cut(messages: list[bytes], sizes: list[int]) -> None:
    data = b"".join(map(frame, messages))
    assert found(data, sizes) == [("whole", message) for message in messages]


@settings(deadline=None)
@given(CONTENT, CONTENT, st.lists(st.integers(0, 40), max_size=20))
def test_noise_around_frames_is_passed_over(before: bytes, after: bytes, sizes: list[int]) -> None:
    assert found(before + frame(MESSAGE) + after + frame(b"two"), sizes) == [("whole", MESSAGE), ("whole", b"two")]


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 40), max_size=20))
def test_any_bytes_give_the_same_whatever_the_cut(data: bytes, sizes: list[int]) -> None:
    assert found(data, sizes) == found(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x0bone\r\x0btwo\x1c\r", [("broken", b"one\r"), ("whole", b"two")]),  # FS missing
        (b"\x0bone\x1c\x0btwo\x1c\r", [("broken", b"one"), ("whole", b"two")]),  # CR missing
        (b"\x0bone\x1cx\r\x0btwo\x1c\r", [("broken", b"one"), ("whole", b"two")]),
        (b"\x0bone", [("broken", b"one")]),
        (b"one\x1c\r", []),
        (b"\x0b\x1c\r", [("whole", b"")]),
    ],
)
def test_broken_frames(data: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert found(data) == expected
    assert found(data, [1] * len(data)) == expected


def test_noise_between_frames_is_passed_over() -> None:
    reader = FrameReader()
    assert [*reader.feed(b"xyz"), *reader.feed(b"\n" + frame(MESSAGE) + b"\r\n")] == [Received("whole", MESSAGE)]


def test_a_frame_is_bounded() -> None:
    assert found(b"\x0b" + b"x" * 1_000 + b"\x1c\r") == [("whole", b"x" * 1_000)]
    data = b"\x0b" + b"x" * 9_000 + b"\x1c\r" + frame(b"two")
    assert found(data, [500] * 18) == [("too-long", b"x" * 1_499), ("whole", b"two")]
    assert found(b"\x0b" + b"x" * 9_000, max_size=5_000) == [("too-long", b"x" * 4_096)]


# --- sockets ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def echo(received: Received) -> bytes:
    return received.kind.encode() + b":" + received.message


def client(server: MllpServer, **options: object) -> MllpClient:
    return MllpClient(server.host, server.port, **({"timeout": TIMEOUT} | options))  # type: ignore[arg-type]


def anything(_answer: bytes) -> bool:
    return True


class Script:
    """A listener that plays a scene on its first connections, one after the other, in a thread."""

    def __init__(self, *scenes: Callable[[socket.socket], object]) -> None:
        self._scenes = scenes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.closed = threading.Semaphore(0)  # released each time a connection is closed
        self._thread = threading.Thread(target=self._play)

    def __enter__(self) -> Script:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _play(self) -> None:
        for scene in self._scenes:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(5)
                scene(connection)
            self.closed.release()


def read_frame(connection: socket.socket) -> bytes:
    reader = FrameReader()
    while data := connection.recv(65_536):
        for received in reader.feed(data):
            return received.message
    return b""


def test_exchange_and_again_on_the_same_connection() -> None:
    peers = set[object]()

    def scene(connection: socket.socket) -> None:
        for _ in range(2):
            peers.add(connection)
            connection.sendall(frame(read_frame(connection)))

    with Script(scene) as script, MllpClient("127.0.0.1", script.port, timeout=2) as sender:
        assert sender.exchange(b"one", anything) == b"one"
        assert sender.exchange(b"two", anything) == b"two"
    assert len(peers) == 1


def test_a_connection_that_grew_old_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its certificates were looked at long ago."""
    monkeypatch.setattr(mllp, "LONGEST", 0.0)

    def scene(connection: socket.socket) -> None:
        connection.sendall(frame(read_frame(connection)))
        connection.recv(1)  # until the sender closes it: a second message would stay without an answer

    with Script(scene, scene) as script, MllpClient("127.0.0.1", script.port, timeout=4) as sender:
        assert [sender.exchange(message, anything) for message in (b"one", b"two")] == [b"one", b"two"]


def test_a_large_message_arrives_whole() -> None:
    message = b"x" * 28_000_000
    with MllpServer(echo) as server, client(server, timeout=20) as sender:
        assert sender.exchange(message, anything) == b"whole:" + message


def test_a_message_too_long_is_told_and_the_connection_goes_on() -> None:
    with MllpServer(echo, max_size=100_000) as server, client(server, timeout=5) as sender:
        assert sender.exchange(b"MSH" + b"x" * 1_000_000, anything).startswith(b"too-long:MSHxx")
        assert sender.exchange(b"small", anything) == b"whole:small"


def test_only_the_awaited_answer_is_returned() -> None:
    def scene(connection: socket.socket) -> None:
        read_frame(connection)
        connection.sendall(b"noise" + frame(b"other") + frame(b"mine")[:3])
        connection.sendall(frame(b"mine")[3:])

    with Script(scene) as script, MllpClient("127.0.0.1", script.port, timeout=2) as sender:
        assert sender.exchange(MESSAGE, lambda answer: answer == b"mine") == b"mine"


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (lambda c: (read_frame(c), c.recv(1)), "no answer in time"),
        (lambda c: read_frame(c), "the connection was closed before the answer"),
        (lambda c: (read_frame(c), c.sendall(b"\x0bhalf")), "the connection was closed before the answer"),
        (
            lambda c: (read_frame(c), c.sendall(frame(b"x") * 2)),
            "closed before the answer; messages that are not its answer: 2",
        ),
        (lambda c: (read_frame(c), c.sendall(b"noise"), c.recv(1)), "no answer in time"),
    ],
)
def test_no_answer(scene: Callable[[socket.socket], object], reason: str) -> None:
    with (
        Script(scene) as script,
        MllpClient("127.0.0.1", script.port, timeout=TIMEOUT) as sender,
        pytest.raises(UnansweredError, match=reason),
    ):
        sender.exchange(MESSAGE, lambda answer: answer == b"mine")


def test_a_reset_is_no_answer() -> None:
    def scene(connection: socket.socket) -> None:
        read_frame(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with (
        Script(scene) as script,
        MllpClient("127.0.0.1", script.port, timeout=2) as sender,
        pytest.raises(UnansweredError, match="lost before the answer"),
    ):
        sender.exchange(MESSAGE, anything)


def test_a_connection_the_receiver_closed_is_opened_anew() -> None:
    def first(connection: socket.socket) -> None:
        connection.sendall(frame(b"first:" + read_frame(connection)))

    def second(connection: socket.socket) -> None:
        connection.sendall(frame(b"second:" + read_frame(connection)))

    with Script(first, second) as script, MllpClient("127.0.0.1", script.port, timeout=2) as sender:
        assert sender.exchange(b"a", anything) == b"first:a"
        assert script.closed.acquire(timeout=5)
        assert sender.exchange(b"b", anything) == b"second:b"


def test_a_late_answer_is_never_taken_for_the_next_one() -> None:
    def late(connection: socket.socket) -> None:
        read_frame(connection)
        connection.recv(1)  # until the sender gives up
        with contextlib.suppress(OSError):
            connection.sendall(frame(b"late"))

    def prompt(connection: socket.socket) -> None:
        connection.sendall(frame(b"prompt:" + read_frame(connection)))

    with Script(late, prompt) as script, MllpClient("127.0.0.1", script.port, timeout=TIMEOUT) as sender:
        with pytest.raises(UnansweredError):
            sender.exchange(b"a", anything)
        assert sender.exchange(b"b", anything) == b"prompt:b"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with MllpClient("127.0.0.1", port, timeout=TIMEOUT) as sender, pytest.raises(ConnectionRefusedError):
        sender.exchange(MESSAGE, anything)


def test_a_client_nobody_closed_leaves_no_socket() -> None:
    with MllpServer(echo) as server:
        sender = client(server)
        sender.exchange(MESSAGE, anything)
        del sender  # a ResourceWarning would fail the test


def test_the_server_closes_silent_connections() -> None:
    with MllpServer(echo, timeout=0.1) as server, socket.create_connection((server.host, server.port)) as connection:
        connection.settimeout(5)
        connection.sendall(b"\x0bhalf a frame")
        assert connection.recv(1) == b""


def _ended(connection: socket.socket) -> bool:
    """Whether the other side ends the connection in the next moment."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


def test_a_message_that_drips_is_cut() -> None:
    with MllpServer(echo, timeout=0.2) as server, socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.sendall(b"\x0b")
        with contextlib.suppress(OSError):  # each byte comes in time, the message never
            while not _ended(peer):
                peer.sendall(b"x")


def test_noise_does_not_keep_a_connection_open() -> None:
    server = MllpServer(echo, timeout=0.2)
    with server, socket.create_connection(("127.0.0.1", server.port)) as peer, contextlib.suppress(OSError):
        while not _ended(peer):
            peer.sendall(b"x")


def test_connections_beyond_the_most_are_closed() -> None:
    with MllpServer(echo, max_connections=1, timeout=20) as server, client(server, timeout=10) as first:
        assert first.exchange(b"one", anything) == b"whole:one"
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as second:
            assert second.recv(1) == b""
        assert first.exchange(b"two", anything) == b"whole:two"


def test_messages_that_are_too_long_together_do_not_fill_the_memory() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(MllpServer(echo, max_size=600_000, memory=1_000_000, timeout=20))
        slow = stack.enter_context(socket.create_connection((server.host, server.port), 20))
        slow.sendall(b"\x0b" + b"x" * 500_000)
        until(lambda: server._budget.held == 500_000)
        other = stack.enter_context(socket.create_connection((server.host, server.port), 20))
        with contextlib.suppress(ConnectionError):
            other.sendall(b"\x0b" + b"x" * 590_000)
            assert other.recv(1) == b""
        short = stack.enter_context(client(server, timeout=20))
        assert short.exchange(b"a" * 400_000, anything) == b"whole:" + b"a" * 400_000
        slow.sendall(b"\x1c\r")
        assert read_frame(slow) == b"whole:" + b"x" * 500_000
        until(lambda: server._budget.held == 0)
        assert short.exchange(b"b" * 590_000, anything) == b"whole:" + b"b" * 590_000


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_many_broken_frames_make_one_line_and_a_fault_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    value = "PATTERSON"

    def fail(_: Received) -> bytes:
        raise KeyError(value)

    with MllpServer(fail) as server, socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(b"\x0b" * 1_000 + frame(MESSAGE))
        assert connection.recv(1) == b""
    assert caplog.text.count("without its end") == 1
    assert ("KeyError" in caplog.text, value in caplog.text) == (True, False)


def test_the_server_passes_over_broken_frames() -> None:
    with MllpServer(echo) as server, socket.create_connection((server.host, server.port)) as connection:
        connection.settimeout(5)
        connection.sendall(b"noise\x0bnever ended\r" + frame(b"one") + frame(b"two"))
        received = b""
        while received.count(b"\x1c\r") < 2:
            received += connection.recv(1_000)
        assert received == frame(b"whole:one") + frame(b"whole:two")


@pytest.mark.parametrize("timeout", [5])
def test_stopping_cuts_connections_that_wait(timeout: float) -> None:
    server = MllpServer(echo, timeout=60)
    server.start()
    with socket.create_connection((server.host, server.port)) as connection:
        connection.settimeout(timeout)
        connection.sendall(frame(b"one"))
        assert connection.recv(100) == frame(b"whole:one")
        server.stop()
        assert connection.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port))


def test_a_handler_that_fails_gives_no_answer() -> None:
    def fail(_received: Received) -> bytes:
        raise ValueError("a fault")

    with MllpServer(fail) as server, client(server) as sender, pytest.raises(UnansweredError, match="closed"):
        sender.exchange(MESSAGE, anything)


def test_clients_of_several_threads_take_turns() -> None:
    answers = dict[bytes, bytes]()
    with MllpServer(echo) as server, client(server, timeout=5) as sender:

        def work(number: int) -> None:
            message = b"%d" % number
            answers[message] = sender.exchange(message, anything)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {b"%d" % number: b"whole:%d" % number for number in range(8)}


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, host: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def always(context: ssl.SSLContext) -> Callable[[], ssl.SSLContext]:
    return lambda: context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_exchange(authority: trustme.CA) -> None:
    message = b"x" * 3_000_000
    with (
        MllpServer(echo, context=always(server_context(authority))) as server,
        client(server, timeout=5, context=lambda: client_context(authority)) as sender,
    ):
        assert sender.exchange(message, anything) == b"whole:" + message
        assert sender.exchange(b"again", anything) == b"whole:again"


@pytest.mark.parametrize("host", ["127.0.0.1", "other.example"])
def test_tls_refuses_what_it_does_not_trust(authority: trustme.CA, host: str) -> None:
    heard = list[Received]()

    def listen(received: Received) -> bytes:
        heard.append(received)
        return b""

    trusted = trustme.CA() if host == "127.0.0.1" else authority
    with (
        MllpServer(listen, context=always(server_context(authority, host))) as server,
        client(server, timeout=5, context=lambda: client_context(trusted)) as sender,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        sender.exchange(MESSAGE, anything)
    assert heard == []


def test_tls_asks_for_a_client_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    strict = server_context(authority)
    strict.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(strict)
    with MllpServer(echo, context=always(strict)) as server:
        with client(server, timeout=5, context=lambda: client_context(authority)) as sender, pytest.raises(OSError):
            sender.exchange(MESSAGE, anything)
        known = client_context(authority)
        authority.issue_cert("client.example").configure_cert(known)
        with client(server, timeout=5, context=lambda: known) as sender:
            assert sender.exchange(b"one", anything) == b"whole:one"


def test_a_slow_handshake_stops_nobody(authority: trustme.CA) -> None:
    with (
        MllpServer(echo, context=always(server_context(authority)), timeout=30) as server,
        socket.create_connection((server.host, server.port)),
        client(server, timeout=5, context=lambda: client_context(authority)) as sender,
    ):
        assert sender.exchange(b"one", anything) == b"whole:one"
