"""Mails that a submission server accepts in a second, and what their parts cost.

    .venv/bin/python bench/mail.py [--seconds 8] [--senders 2]

Each sender is a process with a channel of its own, against a server in one more process, under mutual TLS:

- submission: a mail made beforehand, over one connection that is kept, or over a new one each time;
- channel: the mail is made as well, of one document for many mailboxes (the PDF is made once), of a new document each
  time, and of a new document without PDF.

Beside mails a second stands the processor time of one, for sender, server, and the process in which the sandbox judges
what it has taken: a busy machine changes it less. The server is the sandbox, which keeps every mail on disk, judging
each as it does for integrators or taking any; with Postfix installed also smtp-sink, which keeps nothing and speaks
without TLS. Mails a second are those that were answered 250; all are judged before the next line is measured.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from relais.cda.model import II
from relais.server.delivery.channel import Shipment
from relais.server.delivery.mail_message import compose
from relais.server.delivery.mail_submission import Envelope, SubmissionClient
from relais.server.delivery.mss import MssChannel
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.mail_server import MailServer
from relais.server.settings import Settings
from support.documents import small_document
from support.shipments import PROFESSIONAL, small_shipment

JUDGES = "sandbox that judges"
SENDER = "plateforme@relais.mssante.fr"
Job = Callable[[Settings], Callable[[], object]]


def message_id() -> str:
    return f"<{uuid.uuid4()}@relais.mssante.fr>"


def shipment(*, new_document: bool) -> Shipment:
    """The small document, as itself or under another id."""
    document = small_document()
    if new_document:
        document.header.id = II(f"2.25.{uuid.uuid4().int}")
    made = small_shipment(document)
    lot = replace(made.submission.submission_set, unique_id=f"2.25.{uuid.uuid4().int}")  # each order's is its own
    return replace(made, submission=replace(made.submission, submission_set=lot), message_id=message_id())


def submission(*, kept: bool) -> Job:
    def prepare(settings: Settings) -> Callable[[], object]:
        client, content = SubmissionClient(settings), compose(shipment(new_document=False), settings)
        name = content.split(b"Message-ID: ")[1].split(b"\r\n")[0]

        def send() -> None:
            own = message_id()
            envelope = Envelope(SENDER, (PROFESSIONAL,), own.strip("<>"))
            client.submit(envelope, content.replace(name, own.encode()))
            if not kept:
                client.close()

        return send

    return prepare


def channel(*, new_document: bool) -> Job:
    def prepare(settings: Settings) -> Callable[[], object]:
        opened = MssChannel(settings)
        return lambda: opened.send(shipment(new_document=new_document))

    return prepare


JOBS: dict[str, tuple[Job, dict[str, Any]]] = {
    "submission, one connection": (submission(kept=True), {}),
    "submission, a connection each": (submission(kept=False), {}),
    "channel, one document for all": (channel(new_document=False), {}),
    "channel, a new document each": (channel(new_document=True), {}),
    "channel, a new document each, no PDF": (channel(new_document=True), {"mss_pdf": False}),
}


def run(name: str, values: dict[str, Any], seconds: float, counts: Any) -> None:
    """One sender: warm up, then send until the time is over."""
    job, changes = JOBS[name]
    send = job(Settings.of(values | changes))
    send()
    until, used, count = time.perf_counter() + seconds, time.process_time(), 0
    while time.perf_counter() < until:
        send()
        count += 1
    counts.put((count, time.process_time() - used))


@dataclass(frozen=True, slots=True)
class Server:
    """A submission server in a process, and where it keeps what it has yet to judge."""

    process: int
    values: dict[str, Any]
    waiting: Path | None = None

    def used(self) -> tuple[float, float]:
        """Processor seconds so far: its own, and those of the process that judges."""
        if self.waiting is not None:
            while any(self.waiting.iterdir()):
                time.sleep(0.05)
        judging = sum(map(processor_seconds, _children(self.process)))
        return processor_seconds(self.process) - judging, judging


def measure(name: str, server: Server, common: dict[str, Any], seconds: float, senders: int) -> str:
    """Mails a second, and the processor time that one takes of sender, server and judge."""
    counts: Any = multiprocessing.Queue()
    before, values = server.used(), common | server.values
    processes = [multiprocessing.Process(target=run, args=(name, values, seconds, counts)) for _ in range(senders)]
    for process in processes:
        process.start()
    found = [counts.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    mails, sending = sum(count for count, _ in found), sum(used for _, used in found)
    serving, judging = (
        1000 * (now - then) / (mails + senders) for now, then in zip(server.used(), before, strict=True)
    )
    return f"{mails / seconds:8.1f}/s {1000 * sending / mails:8.1f} ms {serving:8.1f} ms {judging:8.1f} ms"


def processor_seconds(process: int) -> float:
    """What a process, and those it has started, have used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(processor_seconds, _children(process)))


def _children(process: int) -> list[int]:
    threads = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in threads for child in path.read_text().split()]


def serve(folder: str, checks: bool, found: Any) -> None:
    """The sandbox's submission server, in its process."""
    logging.disable(logging.WARNING)
    authority = Authority(Path(folder), "127.0.0.1")
    server = MailServer(Path(folder) / "mail", authority.server_context(clients=True), checks=checks)
    server.start()
    found.put((server.port, str(authority.ca_file), str(authority.client_certificate())))
    time.sleep(3_600)


@contextmanager
def sandbox(checks: bool) -> Iterator[Server]:
    folder = tempfile.mkdtemp(prefix="relais-bench-mail-")
    found = multiprocessing.Queue()
    process = multiprocessing.Process(target=serve, args=(folder, checks, found), daemon=True)
    process.start()
    port, ca_file, certificate = found.get(timeout=60)
    try:
        values = {"mss_port": port, "mss_ca_file": ca_file, "mss_certificate": certificate}
        yield Server(process.pid or 0, values, Path(folder) / "mail" / "taken")
    finally:
        process.terminate()
        process.join()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def sink() -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = shutil.which("smtp-sink", path="/usr/sbin") or ""
    process = subprocess.Popen([program, "-u", "nobody", f"127.0.0.1:{port}", "100"])
    time.sleep(0.5)
    try:
        yield Server(process.pid, {"mss_port": port, "mss_starttls": False})
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--senders", type=int, default=2)
    asked = parser.parse_args()
    servers: dict[str, Any] = {"sandbox that takes any": sandbox(False), JUDGES: sandbox(True)}
    if shutil.which("smtp-sink", path="/usr/sbin"):
        servers["smtp-sink"] = sink()
    common = {"mss_sender": SENDER, "mss_product_reference": "BENCH", "organization_name": "DAC du Val"}
    for title, context in servers.items():
        with context as server:
            for name in JOBS:
                if title != JUDGES or "no PDF" not in name:
                    found = measure(name, server, common, asked.seconds, asked.senders)
                    print(f"{title:24} {name:40} {found}", flush=True)


if __name__ == "__main__":
    main()
