"""Submission over connections that are kept: reuse, what ends them, what is never sent twice; certificates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relais.server.delivery import tls
from relais.server.delivery.channel import DeliveryError, recording
from relais.server.delivery.mail_reports import parse, read_reports
from relais.server.delivery.mss import MssChannel
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.mail_server import MailFault, MailServer
from support.operator import SENDER, Operator, operator
from support.shipments import NURSE, PROFESSIONAL, small_shipment


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Operator]:
    with operator(tmp_path) as running:
        yield running


@pytest.fixture
def channel(post: Operator) -> Iterator[MssChannel]:
    opened = MssChannel(post.settings())
    yield opened
    opened.close()


def shipment(number: int, mailbox: str = PROFESSIONAL) -> object:
    return replace(small_shipment(recipients=(mailbox,)), message_id=f"<{number}@relais.mssante.fr>")


def contents(post: Operator, mailbox: str) -> list[bytes]:
    """The mails of a mailbox, once all that were taken are judged."""
    post.mail.settle()
    return post.mail.mailboxes.contents(mailbox)


def until(condition: Callable[[], bool]) -> bool:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_one_connection_serves_many_messages(post: Operator, channel: MssChannel) -> None:
    for number in range(5):
        channel.send(shipment(number))
    assert (len(post.mail.messages()), post.mail.connections) == (5, 1)


def test_a_connection_that_grew_old_is_not_used_again(
    post: Operator, channel: MssChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificates were looked at long ago."""
    monkeypatch.setattr(tls, "LONGEST", 0.0)
    for number in range(2):
        channel.send(shipment(number))
    assert post.mail.connections == 2


def test_threads_have_a_connection_each(post: Operator, channel: MssChannel) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: channel.send(shipment(number)), range(9)))
    assert len(post.mail.messages()) == 9
    assert post.mail.connections <= 3


def test_a_connection_nobody_uses_is_closed(post: Operator) -> None:
    channel = MssChannel(post.settings(mss_idle=0.1))
    channel.send(shipment(1))
    assert until(lambda: not channel._client._kept)
    channel.send(shipment(2))
    channel.close()
    assert post.mail.connections == 2
    assert until(lambda: not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)])


def test_a_server_that_was_restarted_gets_a_new_connection(post: Operator, channel: MssChannel) -> None:
    channel.send(shipment(1))
    post.mail.stop()
    post.mail.start()
    channel.send(shipment(2))
    assert len(post.mail.messages()) == 2


def test_a_farewell_before_the_message_costs_no_attempt(post: Operator, channel: MssChannel) -> None:
    channel.send(shipment(1))
    post.mail.faults.play(MailFault.FAREWELL)
    channel.send(shipment(2))
    assert (len(post.mail.messages()), post.mail.connections) == (2, 2)


@pytest.mark.parametrize("fault", [MailFault.CUT_AFTER_DATA, MailFault.NONSENSE])
def test_what_may_have_arrived_is_not_sent_again_by_itself(
    post: Operator, channel: MssChannel, fault: MailFault
) -> None:
    channel.send(shipment(1))
    post.mail.faults.play(fault)
    with pytest.raises(DeliveryError) as caught:
        channel.send(shipment(2))
    assert len(contents(post, PROFESSIONAL)) == 2
    assert caught.value.issues[0].code in ("incomplete", "processing")
    channel.send(shipment(3))
    assert len(contents(post, PROFESSIONAL)) == 3


def test_a_refusal_leaves_the_connection_for_the_next(post: Operator, channel: MssChannel) -> None:
    post.mail.unknown.add(NURSE)
    with pytest.raises(DeliveryError, match="No such mailbox"):
        channel.send(shipment(1, NURSE))
    channel.send(shipment(2))
    assert post.mail.connections == 1


@pytest.mark.parametrize("fault", [MailFault.BUSY, MailFault.BUSY_AFTER_DATA])
def test_a_server_that_is_busy_keeps_the_connection(post: Operator, channel: MssChannel, fault: MailFault) -> None:
    post.mail.faults.play(fault)
    with pytest.raises(DeliveryError, match="451"):
        channel.send(shipment(1))
    channel.send(shipment(2))
    assert ([stored.message_id for stored in post.mail.messages()], post.mail.connections) == (
        ["<2@relais.mssante.fr>"],
        1,
    )


def test_the_exchange_is_evidence(post: Operator, channel: MssChannel) -> None:
    with recording() as exchanges:
        channel.send(shipment(1))
        channel.send(shipment(2))
    [_, second] = exchanges
    [_, stored] = post.mail.messages()
    assert (second.step, second.endpoint) == ("SMTP", f"smtp://127.0.0.1:{post.mail.port}")
    assert second.request == stored.path.read_bytes()
    assert (
        second.response == b"250 2.1.0 OK\r\n250 2.1.5 OK\r\n354 End data with <CR><LF>.<CR><LF>\r\n250 2.6.0 Taken\r\n"
    )


def test_delivery_reports_are_asked_for_as_ordered(post: Operator, channel: MssChannel) -> None:
    channel.send(replace(shipment(1), acknowledgements=("reading",)))
    assert contents(post, SENDER) == []
    channel.send(shipment(2))
    [report] = contents(post, SENDER)
    assert b"Original-Envelope-Id: 2@relais.mssante.fr" in report


def test_mailboxes_that_behave_by_their_name(post: Operator, channel: MssChannel) -> None:
    with pytest.raises(DeliveryError, match="No such mailbox"):
        channel.send(shipment(1, "inconnu.medecin@cabinet.mssante.fr"))
    for number, name in enumerate(("retour", "lecteur", "refus"), start=2):
        channel.send(shipment(number, f"{name}.medecin@cabinet.mssante.fr"))
    came = [report for mail in contents(post, SENDER) for report in read_reports(parse(mail))]
    assert sorted((report.message_id[1], report.kind, report.outcome) for report in came) == [
        ("2", "reception", "negative"),
        ("3", "reading", "positive"),
        ("3", "reception", "positive"),
        ("4", "reading", "negative"),
        ("4", "reception", "positive"),
    ]


# --- certificates ---------------------------------------------------------------------------------------------------


def refused(post: Operator, **changes: object) -> DeliveryError:
    channel = MssChannel(post.settings(**changes))
    with pytest.raises(DeliveryError) as caught:
        channel.send(shipment(1))
    channel.close()
    assert post.mail.messages() == []
    return caught.value


def test_our_expired_certificate_stays_at_home(post: Operator) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = post.authority.client_certificate(
        "expired", not_before=yesterday - timedelta(days=9), not_after=yesterday
    )
    error = refused(post, mss_certificate=str(expired))
    assert (error.retry, "has expired" in str(error)) == (False, True)


def test_our_revoked_certificate_is_refused(tmp_path: Path, post: Operator) -> None:
    revoked = post.authority.client_certificate("revoked")
    post.authority.revoke(revoked)
    server = MailServer(tmp_path / "strict", post.authority.server_context(clients=True))
    server.start()
    error = refused(post, mss_certificate=str(revoked), mss_port=server.port)
    server.stop()
    assert server.messages() == []
    assert error.retry or error.issues[0].path == "mss_certificate"


def test_without_a_certificate_nothing_is_taken(post: Operator) -> None:
    error = refused(post, mss_certificate="", mss_login="none")
    assert "mss_certificate" in str(error)
    assert error.retry or error.issues[0].path == "mss_certificate"


def test_a_server_that_is_revoked_hears_nothing(tmp_path: Path) -> None:
    with operator(tmp_path) as post:
        server = tmp_path / "server.pem"
        [chain] = post.authority._server.cert_chain_pems[:1]
        server.write_bytes(chain.bytes())
        post.authority.revoke(server)
        error = refused(post)
        assert (error.retry, "was revoked" in str(error)) == (False, True)


def test_a_server_of_another_name_hears_nothing(tmp_path: Path, post: Operator) -> None:
    error = refused(post, mss_host="localhost", mss_ca_file=str(Authority(tmp_path, "other.example").ca_file))
    assert (error.retry, error.issues[0].code) == (False, "security")
