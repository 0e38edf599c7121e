"""Relais against mail servers that are not ours: Postfix, Dovecot, and mails that swaks submits."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from relais.server import reception
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.mail_inbox import received_table
from relais.server.delivery.mail_message import compose
from relais.server.delivery.mail_reports import parse, read_reports
from relais.server.delivery.mss import MssChannel
from relais.server.fhir.repository import Repository
from relais.server.settings import Settings
from relais.server.store import Store
from support.mail_servers import BOUNCING, SENDER, MailServers, ServersUnavailableError, mail_servers
from support.shipments import NURSE, PROFESSIONAL, small_shipment

DONE, QUARANTINE = "Relais-traites", "Relais-quarantaine"


@pytest.fixture(scope="module")
def servers() -> Iterator[MailServers]:
    context = mail_servers(NURSE, PROFESSIONAL)
    try:
        running = context.__enter__()
    except ServersUnavailableError as error:
        pytest.skip(f"no mail servers: {error}")
    yield running
    context.__exit__(None, None, None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    yield opened
    opened.close()


def send(settings: Settings, number: int, mailbox: str = NURSE) -> str:
    channel = MssChannel(settings)
    name = f"<{number}@relais.mssante.fr>"
    try:
        channel.send(replace(small_shipment(recipients=(mailbox,)), message_id=name))
    finally:
        channel.close()
    return name


def states(repository: Repository) -> list[str]:
    with repository.snapshot() as connection:
        return list(connection.scalars(select(received_table.c.state).order_by(received_table.c.key)))


def test_postfix_takes_many_messages_over_one_connection_and_reports_their_delivery(servers: MailServers) -> None:
    channel = MssChannel(servers.settings())
    for number in range(3):
        channel.send(replace(small_shipment(recipients=(PROFESSIONAL,)), message_id=f"<p{number}@relais.mssante.fr>"))
    channel.close()
    assert len(servers.wait_for(PROFESSIONAL, 3)) == 3
    reports = [report for path in servers.wait_for(SENDER, 3) for report in read_reports(parse(path.read_bytes()))]
    assert {(report.message_id, report.recipient, report.outcome) for report in reports} == {
        (f"<p{number}@relais.mssante.fr>", PROFESSIONAL, "positive") for number in range(3)
    }


def test_a_bounce_of_postfix_is_understood(servers: MailServers) -> None:
    known = set(servers.mails(SENDER))
    name = send(servers.settings(), 10, BOUNCING)
    servers.wait_for(SENDER, len(known) + 2)  # one tells that the address led elsewhere, one that this failed
    came = set(servers.mails(SENDER)) - known
    reports = [report for path in came for report in read_reports(parse(path.read_bytes()))]
    assert {(report.message_id, report.recipient) for report in reports} == {(name, BOUNCING)}
    [refused] = [report for report in reports if report.outcome == "negative"]
    assert "5.1.1" in refused.detail


def test_postfix_refuses_who_shows_no_certificate_and_what_is_too_large(servers: MailServers) -> None:
    with pytest.raises(DeliveryError) as caught:
        send(servers.settings(mss_certificate=""), 20)
    assert "nothing was" in str(caught.value) or "No client certificate" in str(caught.value)
    with pytest.raises(DeliveryError) as unknown:
        send(servers.settings(), 21, "inconnu@cabinet.mssante.fr")
    assert (unknown.value.retry, unknown.value.issues[0].code) == (False, "not-found")
    assert not servers.mails(NURSE)


def test_dovecot_hands_over_what_is_filed_and_the_receipt_comes_back(servers: MailServers, store: Store) -> None:
    settings = servers.reader(NURSE)
    repository = reception.repository_of(settings, store)
    name = send(settings, 30)
    servers.wait_for(NURSE, 1)
    known = set(servers.mails(SENDER))
    assert reception.read_mailboxes_once(repository, settings) == 1
    assert (states(repository), len(servers.mails(NURSE, DONE)), servers.mails(NURSE)) == (["imported"], 1, [])
    servers.wait_for(SENDER, len(known) + 1)
    receipts = [read_reports(parse(path.read_bytes())) for path in set(servers.mails(SENDER)) - known]
    assert (name, "reading", "positive") in [(r.message_id, r.kind, r.outcome) for found in receipts for r in found]


def test_dovecot_refuses_who_shows_no_certificate(servers: MailServers, store: Store) -> None:
    settings = servers.settings(mailboxes=NURSE, mss_certificate="")
    with pytest.raises(DeliveryError):
        reception.read_mailboxes_once(reception.repository_of(settings, store), settings)


def test_a_mail_of_swaks_arrives_and_one_without_archive_is_set_aside(
    servers: MailServers, store: Store, tmp_path: Path
) -> None:
    swaks = shutil.which("swaks")
    if swaks is None:
        pytest.skip("swaks not found (Debian package: swaks)")
    settings = servers.reader(PROFESSIONAL)
    repository = reception.repository_of(settings, store)
    reception.read_mailboxes_once(repository, settings)
    taken = len(states(repository))
    good = compose(replace(small_shipment(recipients=(PROFESSIONAL,)), message_id="<s1@relais.mssante.fr>"), settings)
    empty = "Subject: XDM/1.0/DDM+Plan\nFrom: {0}\nTo: {1}\nMessage-ID: <s2@relais.mssante.fr>\n\nrien\n"
    for number, content in enumerate((good, empty.format(SENDER, PROFESSIONAL).encode())):
        data = tmp_path / f"{number}.eml"
        data.write_bytes(content)
        _swaks(swaks, servers, data)
    servers.wait_for(PROFESSIONAL, 2)
    deadline = time.monotonic() + 60
    while len(states(repository)) < taken + 2 and time.monotonic() < deadline:
        reception.read_mailboxes_once(repository, settings)
    assert sorted(states(repository)[taken:]) == ["imported", "quarantined"]
    assert len(servers.mails(PROFESSIONAL, QUARANTINE)) == 1


def _swaks(program: str, servers: MailServers, data: Path) -> None:
    options = ["--server", f"127.0.0.1:{servers.smtp_port}", "--from", SENDER, "--to", PROFESSIONAL, "--tls"]
    certificate = ["--tls-cert", str(servers.certificate), "--tls-key", str(servers.certificate)]
    done = subprocess.run(
        [program, *options, *certificate, "--data", f"@{data}", "--hide-all"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
