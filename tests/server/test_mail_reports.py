"""What is read from reports about mails, and the receipts that are written: published forms, and malformed ones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relais.server.delivery.mail_reports import (
    Reader,
    Refusal,
    Report,
    answer_to,
    is_automatic,
    is_xdm,
    notification,
    parse,
    read_reports,
)
from relais.server.sandbox.mail_checks import check_report
from relais.server.sandbox.mail_reports import MdnForm, delivery_report, read_receipt
from relais.server.settings import Settings
from support.mails import message_of
from support.shipments import PROFESSIONAL, small_shipment

SENDER = "plateforme@relais.mssante.fr"
NAME = "<2f5c9a04-53ce-4d5f-8b4c-6a2f6d1f0b11@relais.mssante.fr>"
READER = Reader(PROFESSIONAL, "Relais 1.0", "REF-0001")
NOW = datetime(2026, 1, 12, 9, tzinfo=UTC)


def mail(returned: str = SENDER, **headers: str) -> bytes:
    """A mail as a mailbox holds it."""
    settings = Settings.of(
        {"mss_sender": SENDER, "mss_product_reference": "REF", "organization_name": "DAC", "mss_pdf": False}
    )
    message = message_of(small_shipment(), settings)
    for name, value in headers.items():
        del message[name.replace("_", "-")]
        message[name.replace("_", "-")] = value
    return b"Return-Path: <%b>\r\n%b" % (returned.encode(), message.as_bytes())


# --- delivery reports -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "status", "outcome"),
    [
        ("delivered", "2.0.0", "positive"),
        ("relayed", "2.0.0", "positive"),
        ("delayed", "4.4.1", "waiting"),
        ("expanded", "2.0.0", "waiting"),
        ("failed", "5.1.1", "negative"),
    ],
)
def test_delivery_reports(action: str, status: str, outcome: str) -> None:
    dsn = delivery_report(NAME, NAME.strip("<>"), PROFESSIONAL, action, status, SENDER)
    [report] = read_reports(parse(dsn))
    assert (report.message_id, report.recipient, report.kind, report.outcome) == (
        NAME,
        PROFESSIONAL,
        "reception",
        outcome,
    )
    assert report.detail.startswith(f"{action}: {status}")


def test_without_an_envelope_id_the_headers_returned_tell() -> None:
    [report] = read_reports(parse(delivery_report(NAME, "", PROFESSIONAL, "failed", "5.1.1", SENDER)))
    assert report.message_id == NAME


def test_an_envelope_id_in_xtext_is_decoded() -> None:
    dsn = delivery_report("<x@y.fr>", "a+2Bb@relais.mssante.fr", "x+2By@cabinet.mssante.fr", "failed", "5.1.1", SENDER)
    [report] = read_reports(parse(dsn))
    assert (report.message_id, report.recipient) == ("<a+b@relais.mssante.fr>", "x+y@cabinet.mssante.fr")


def test_a_bounce_in_plain_text_tells_nothing() -> None:
    assert (
        read_reports(parse(b"From: MAILER-DAEMON@x.fr\r\nSubject: failure\r\n\r\nUser unknown " + NAME.encode())) == []
    )


def test_matricules_in_a_report_are_masked() -> None:
    dsn = delivery_report(NAME, "", PROFESSIONAL, "failed", "5.1.1 279035121518989@patient.mssante.fr", SENDER)
    assert "279035121518989" not in read_reports(parse(dsn))[0].detail


# --- read receipts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", MdnForm)
@pytest.mark.parametrize("error", ["", "902^Identifiant de patient inconnu^applicationErrorCondition"])
def test_read_receipts_of_both_forms(form: MdnForm, error: str) -> None:
    mdn = read_receipt(NAME, "XDM/1.0/DDM+Plan", PROFESSIONAL, SENDER, error, form)
    [report] = read_reports(parse(mdn))
    assert (report.message_id, report.recipient, report.kind) == (NAME, PROFESSIONAL, "reading")
    assert (report.outcome == "negative", "902^Identifiant" in report.detail) == (bool(error), bool(error))


def test_a_refusal_by_an_ordinary_mail_is_read_from_its_subject() -> None:
    ko = (
        b"From: Cabinet <medecin@cabinet.mssante.fr>\r\nIn-Reply-To: <1@relais.mssante.fr>\r\n"
        b"Subject: [=?utf-8?q?Erreur_d'int=C3=A9gration?= !][902] XDM/1.0/DDM+Plan\r\n\r\n"
    )
    [report] = read_reports(parse(ko))
    assert report == Report(
        "<1@relais.mssante.fr>",
        PROFESSIONAL,
        "reading",
        "negative",
        "refused by the receiving software: 902 Identifiant de patient inconnu",
    )


def test_a_mail_deleted_unread_says_nothing_for_sure() -> None:
    mdn = read_receipt(NAME, "x", PROFESSIONAL, SENDER).replace(b"processed", b"deleted")
    assert read_reports(parse(mdn))[0].outcome == "waiting"


@given(st.binary(max_size=400), st.integers(0, 2000))
def test_nothing_received_breaks_the_reader(noise: bytes, place: int) -> None:
    mdn = read_receipt(NAME, "x", PROFESSIONAL, SENDER, "902^x")
    message = parse(mdn[: place % len(mdn)] + noise + mdn[place % len(mdn) :])
    assert isinstance(read_reports(message), list)
    assert isinstance(answer_to(message), str)
    assert is_automatic(message) in (True, False)


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [None, Refusal("904", ("RNIV: another birth date",))])
def test_the_receipt_written_is_right_and_read_back(refusal: Refusal | None) -> None:
    written = notification(mail(), READER, NOW, refusal).as_bytes()
    assert check_report(written, [SENDER]) == []
    [report] = read_reports(parse(written))
    assert (report.message_id, report.recipient) == (NAME, PROFESSIONAL)
    assert (report.outcome, "904" in report.detail) == (("negative", True) if refusal else ("positive", False))
    assert written == notification(mail(), READER, NOW, refusal).as_bytes()
    [*_, original] = parse(written).iter_parts()
    assert original.get_payload()[0].as_bytes() == parse(mail()).as_bytes()


def test_who_is_answered() -> None:
    assert answer_to(parse(mail())) == SENDER
    assert answer_to(parse(mail("autre@relais.mssante.fr"))) == ""  # RFC 8098 §2.1: a person would have to confirm
    assert answer_to(parse(mail("")[len("Return-Path: <>\r\n") :])) == ""
    assert answer_to(parse(mail(Disposition_Notification_To=f"{SENDER}, x@relais.mssante.fr"))) == ""
    assert answer_to(parse(notification(mail(), READER, NOW).as_bytes())) == ""
    assert answer_to(parse(delivery_report(NAME, "", PROFESSIONAL, "failed", "5.1.1", SENDER))) == ""


@pytest.mark.parametrize(
    ("subject", "found"),
    [
        ("XDM/1.0/DDM+Plan", True),
        ("[Annule et remplace] XDM/1.0/DDM+Plan", True),
        ("Tr: XDM/1.0/DDM Plan", True),
        ("Re: Fwd: [x] XDM/1.0/DDM+Plan", True),
        ("Plan XDM/1.0/DDM+", False),
        ("Bonjour", False),
    ],
)
def test_the_marker_of_a_subject(subject: str, found: bool) -> None:
    assert is_xdm(parse(f"Subject: {subject}\r\n\r\n".encode())) == found
