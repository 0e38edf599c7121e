"""What is kept for a time and then erased; clocks that leap: one that nobody vouches for erases nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from relais.server import cli, reception
from relais.server.delivery import acknowledgements
from relais.server.delivery.clean_up import clean_up
from relais.server.delivery.evidence import exchange_table
from relais.server.delivery.mail_inbox import Mail, MailInbox, received_table
from relais.server.delivery.mail_submission import SubmissionClient
from relais.server.fhir.repository import Repository
from relais.server.settings import Settings
from relais.server.store import Store
from support.mails import mail
from support.operator import SENDER
from support.orders import Office
from support.plans import PLANS
from support.shipments import NURSE, other_document


class Clock:
    """A clock that tests move; it starts at the true time, which exchanges bear."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, days: float) -> None:
        self.now += timedelta(days=days)


@pytest.fixture
def office(store: Store) -> Office:
    """An office whose clock is right, with the exchange of one delivery."""
    made = Office(store)
    made.now = datetime.now(UTC)
    made.order(made.post(PLANS["full"], "CarePlan"), "dmp")
    assert made.work() == 1
    return made


def tidy(office: Office) -> None:
    """What a worker does now and then."""
    office.worker._house_kept = 0.0
    office.worker._keep_house()


def kept(office: Office) -> int:
    """Exchanges that have their bytes."""
    with office.store.snapshot() as connection:
        count = select(func.count()).select_from(exchange_table).where(exchange_table.c.request.is_not(None))
        return connection.scalar(count) or 0


# --- evidence -------------------------------------------------------------------------------------------------------


def test_evidence_goes_when_its_retention_is_over(office: Office) -> None:
    for _ in range(4):
        tidy(office)
        office.wait(days=29)
        assert kept(office) == 1
    tidy(office)
    assert kept(office) == 0


def test_a_clock_that_leaps_erases_nothing(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    tidy(office)
    office.wait(days=4_000)
    with caplog.at_level(logging.ERROR, "relais.retention"):
        tidy(office)
        tidy(office)
    assert [record.getMessage().split(":")[1] for record in caplog.records] == [
        " the clock is 4000 days ahead of the last clean-up, nothing is erased"
    ]
    office.order(
        office.post(PLANS["born-abroad"], "CarePlan"), "dmp"
    )  # what is done under the wrong clock proves it not
    office.work()
    tidy(office)
    assert kept(office) == 2
    office.wait(days=-4_000)
    tidy(office)
    assert kept(office) == 2


def test_after_a_long_stop_an_operator_says_that_the_clock_is_right(office: Office) -> None:
    tidy(office)
    office.wait(days=200)
    tidy(office)
    assert clean_up(office.backstage, office.settings, clock_is_right=False) == {"evidence": None, "mails": 0}
    assert clean_up(office.backstage, office.settings, clock_is_right=True) == {"evidence": 1, "mails": 0}
    tidy(office)
    assert kept(office) == 0


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAIS_DATABASE_URL", f"sqlite:///{tmp_path / 'relais.sqlite'}")
    monkeypatch.setenv("RELAIS_FHIR_PACKAGES", "none")
    answer = CliRunner().invoke(cli.main, ["clean-up", "--json"])
    assert (answer.exit_code, json.loads(answer.output)) == (0, {"evidence": 0, "mails": 0})
    assert "evidence: 0 erased" in CliRunner().invoke(cli.main, ["clean-up", "--clock-is-right"]).output


# --- acknowledgements -----------------------------------------------------------------------------------------------


def test_an_acknowledgement_that_was_awaited_by_a_clock_ahead_is_still_flagged_in_time(office: Office) -> None:
    with office.store.transaction() as transaction:
        far = office.now + timedelta(days=4_000)
        acknowledgements.expect(transaction.connection, 1, ("reading",), far)
    tidy(office)
    with office.store.snapshot() as connection:
        [awaited] = acknowledgements.of_delivery(connection, 1)
    assert awaited.due == office.now + timedelta(days=office.settings.acknowledgement_days)


# --- mails ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox(store: Store, clock: Clock) -> Iterator[MailInbox]:
    settings = Settings(fhir_packages="none", mss_sender=NURSE)
    repository = Repository(store, settings.fhir_base, check_references=False, clock=clock)
    made = MailInbox(repository, settings, reception.file_document)
    yield made
    made.close()


def document() -> bytes:
    """A mail with a document, as a delivery agent hands it over; it asks for an answer."""
    return b"Return-Path: <%b>\r\n%b" % (SENDER.encode(), mail(other_document(1)))


def contents(store: Store) -> list[bool]:
    """Of each mail, whether its bytes are kept."""
    with store.snapshot() as connection:
        rows = connection.scalars(select(received_table.c.content).order_by(received_table.c.key))
        return [bool(content) for content in rows]


def test_a_mail_goes_once_its_retention_is_over_and_it_is_answered(
    store: Store, inbox: MailInbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inbox.take(Mail(NURSE, 1, 1, document())) == "imported"
    assert inbox.take(Mail(NURSE, 1, 2, b"Subject: Bonjour\r\n\r\nA demain\r\n")) == "other"
    for _ in range(4):
        inbox.forget()
        clock.move(29)
        assert contents(store) == [True, True]
    inbox.forget()
    assert contents(store) == [True, False]  # the first one's answer is still owed
    monkeypatch.setattr(SubmissionClient, "submit", lambda *_: None)
    assert inbox.answer() == 1
    clock.move(1)
    inbox.forget()
    assert contents(store) == [False, False]
    assert inbox.known(NURSE, 1, 1) == {1: "imported", 2: "other"}
    assert inbox.take(Mail(NURSE, 2, 1, document())) == "duplicate"  # still recognised


def test_a_clock_that_leaps_erases_no_mail(store: Store, inbox: MailInbox, clock: Clock) -> None:
    inbox.forget()
    inbox.take(Mail(NURSE, 1, 1, b"Subject: Bonjour\r\n\r\nA demain\r\n"))
    clock.move(4_000)
    inbox.forget()
    assert contents(store) == [True]


def test_an_answer_that_was_put_off_by_a_clock_ahead_is_sent(
    inbox: MailInbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.move(400)
    assert inbox.take(Mail(NURSE, 1, 1, document())) == "imported"
    clock.move(-400)
    sent: list[bytes] = []
    monkeypatch.setattr(SubmissionClient, "submit", lambda _self, _envelope, content: sent.append(content))
    assert (inbox.answer(), inbox.answer(), len(sent)) == (1, 0, 1)
