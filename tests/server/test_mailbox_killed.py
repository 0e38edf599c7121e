"""`relais mailbox` killed again and again while mails come: every document is filed once, every mail ends somewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from sqlalchemy import select

from relais.server import reception
from relais.server.delivery.mail_inbox import received_table
from relais.server.search import search
from relais.server.settings import Settings
from relais.server.store import Store
from support.mails import mail
from support.operator import SENDER, operator
from support.shipments import NURSE, other_document

MAILS = 12
DONE, QUARANTINE = "Relais-traites", "Relais-quarantaine"


def test_killed_at_any_moment_nothing_is_lost_or_filed_twice(tmp_path: Path) -> None:
    with operator(tmp_path) as post:
        settings = post.settings(
            mailboxes=NURSE, fhir_packages="none", database_url=f"sqlite:///{tmp_path / 'store.sqlite'}", imap_poll=1
        )
        boxes = post.mail.mailboxes
        for number in range(MAILS):
            boxes.deliver(NURSE, mail(other_document(100 + number), number), sender=SENDER)
        boxes.deliver(NURSE, b"Subject: XDM/1.0/DDM+Plan\r\nFrom: a@b.mssante.fr\r\n\r\n", sender=SENDER)
        for moved in (1, 5, 9):
            process = start(settings)
            until(lambda least=moved: len(boxes.contents(NURSE, DONE)) >= least)
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=30)
        process = start(settings)
        until(lambda: len(boxes.contents(NURSE, DONE)) == MAILS and len(boxes.contents(NURSE, QUARANTINE)) == 1)
        until(lambda: len(post.mail.reports()) == MAILS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        store = Store.open(settings.database_url)
        repository = reception.repository_of(settings, store)
        with repository.snapshot() as connection:
            states = sorted(connection.scalars(select(received_table.c.state)))
            filed = search(connection, repository.base, "DocumentReference", [("_count", "100")]).matches
        store.close()
    assert states == ["imported"] * MAILS + ["quarantined"]
    assert len(filed) == MAILS
    assert boxes.contents(NURSE) == []
    assert (len(boxes.contents(NURSE, DONE)), len(post.mail.reports())) == (MAILS, MAILS)


def start(settings: Settings) -> subprocess.Popen[bytes]:
    values = {f"RELAIS_{one.name.upper()}": str(getattr(settings, one.name)) for one in fields(settings)}
    return subprocess.Popen([sys.executable, "-m", "relais.server.cli", "mailbox"], env=os.environ | values)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()
