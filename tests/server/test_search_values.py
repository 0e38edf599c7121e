"""Texts, dates, numbers and systems are normalised the same way for the index and for the query."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relais.server.search.literals import plain, split
from relais.server.search.values import (
    AFTER_ALL,
    BEFORE_ALL,
    LOCAL_ZONE,
    Span,
    canonical_system,
    date_span,
    normalise_code,
    normalise_text,
    parse_number,
    precision_of,
)
from relais.server.store.store import to_microseconds

HOUR = 3_600_000_000


def at(text: str) -> int:
    return to_microseconds(datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hélène", "HELENE"),
        ("He\u0301le\u0300ne", "Hélène"),  # decomposed, composed
        ("L'Haÿ-les-Roses", "l’hay les roses"),
        ("Jean‑Pierre", "JEAN PIERRE"),
        ("Œuvre", "oeuvre"),
        ("Lætitia", "LAETITIA"),
        ("Groß", "GROSS"),
        ("  de  la\tTour ", "de la tour"),
        ("ﬁn", "fin"),
        ("Ａ１", "a1"),
        ("Łukasz Đoković", "lukasz dokovic"),
    ],
)
def test_texts_that_are_one(one: str, other: str) -> None:
    assert normalise_text(one) == normalise_text(other)


def test_texts_that_are_two() -> None:
    assert normalise_text("Martin") != normalise_text("Marin")


@given(st.text())
def test_normalising_again_changes_nothing(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once


@given(st.text())
def test_composition_and_case_do_not_matter(text: str) -> None:
    assert normalise_text(unicodedata.normalize("NFD", text)) == normalise_text(unicodedata.normalize("NFC", text))
    assert normalise_text(text.upper().lower()) == normalise_text(text.upper())


@pytest.mark.parametrize(
    ("given_code", "kept"),
    [
        ("2 79 03 51 215 189 89", "279035121518989"),
        ("279035121518989", "279035121518989"),
        ("1 60 01 2A 004 001 78", "160012A00400178"),
        ("a b", "a b"),
        ("12 34", "12 34"),
    ],
)
def test_an_ins_loses_its_spaces_and_nothing_else_does(given_code: str, kept: str) -> None:
    assert normalise_code(given_code) == kept


def test_one_system_has_one_name() -> None:
    assert canonical_system("urn:oid:2.16.840.1.113883.6.1") == "http://loinc.org"
    assert canonical_system("http://loinc.org") == "http://loinc.org"
    assert canonical_system("urn:oid:1.2.250.1.213.1.4.8") == "urn:oid:1.2.250.1.213.1.4.8"
    assert canonical_system("urn:oid:1.2.250.1.213.1.1.5.98") == canonical_system("urn:oid:1.2.250.1.213.1.1.4.334")
    assert canonical_system("http://example.org/x") == "http://example.org/x"
    assert canonical_system("") == ""


# --- Dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2024", "2024-01-01T00:00+01:00", "2025-01-01T00:00+01:00"),
        ("2024-02", "2024-02-01T00:00+01:00", "2024-03-01T00:00+01:00"),
        ("2024-12", "2024-12-01T00:00+01:00", "2025-01-01T00:00+01:00"),
        ("2024-02-29", "2024-02-29T00:00+01:00", "2024-03-01T00:00+01:00"),
        ("2024-07-14", "2024-07-14T00:00+02:00", "2024-07-15T00:00+02:00"),
        ("2024-03-31", "2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"),  # 23 hours
        ("2024-10-27", "2024-10-27T00:00+02:00", "2024-10-28T00:00+01:00"),  # 25 hours
        ("2024-07-14T12:30", "2024-07-14T12:30+02:00", "2024-07-14T12:31+02:00"),
        ("2024-07-14T12:30:05Z", "2024-07-14T12:30:05+00:00", "2024-07-14T12:30:06+00:00"),
        ("2024-07-14T12:30:05.2Z", "2024-07-14T12:30:05.2+00:00", "2024-07-14T12:30:05.3+00:00"),
        ("2024-07-14T12:30:05.123-03:30", "2024-07-14T12:30:05.123-03:30", "2024-07-14T12:30:05.124-03:30"),
        ("2024-10-27T02:30", "2024-10-27T02:30+02:00", "2024-10-27T02:31+01:00"),  # the clock shows it twice
        ("2024-03-31T02:30", "2024-03-31T02:30+01:00", "2024-03-31T02:31+01:00"),  # the clock never shows it
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00", "2017-01-01T00:00:01+00:00"),
    ],
)
def test_a_date_is_the_span_that_its_precision_gives(text: str, low: str, high: str) -> None:
    assert date_span(text) == Span(at(low), at(high))


def test_the_two_days_of_summer_time() -> None:
    spring, autumn = date_span("2024-03-31"), date_span("2024-10-27")
    assert (spring.high - spring.low, autumn.high - autumn.low) == (23 * HOUR, 25 * HOUR)


def test_more_digits_than_microseconds_are_cut() -> None:
    assert date_span("2024-01-01T00:00:00.123456789Z") == date_span("2024-01-01T00:00:00.123456Z")


NO_DATES = (
    ["", "24", "2024-13", "2024-02-30", "2024-1-1", "2024-01-01T25:00", "2024-01-01T12", "2024-01-01 12:00", "today"],
    ["0000", "2024-01-01T10:00+15:00", "2024-01-01T10:00+01:60", "２０２４", "2024-01-01T10:00:61Z", "2024-01-01\n"],
)


@pytest.mark.parametrize("text", [text for texts in NO_DATES for text in texts])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        date_span(text)


@given(st.dates())
def test_days_follow_each_other_and_fill_months_and_years(day: date) -> None:
    text = day.isoformat()
    span, month, year = date_span(text), date_span(text[:7]), date_span(text[:4])
    assert BEFORE_ALL < year.low <= month.low <= span.low < span.high <= month.high <= year.high < AFTER_ALL
    if day < date.max:
        assert date_span((day + timedelta(days=1)).isoformat()).low == span.high


@given(
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)),  # noqa: DTZ001 - zone drawn below
    st.integers(min_value=-14 * 60, max_value=14 * 60),
    st.sampled_from(["minutes", "seconds", "milliseconds"]),
)
def test_an_instant_is_where_python_says(local: datetime, offset: int, precision: str) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=offset)))
    span = date_span(moment.isoformat(timespec=precision))
    width = {"minutes": 60_000_000, "seconds": 1_000_000, "milliseconds": 1000}[precision]
    assert span.high - span.low == width
    assert span.low <= to_microseconds(moment) < span.high


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2037, 12, 31)))  # noqa: DTZ001 - French below
def test_a_moment_lies_in_its_french_day(moment: datetime) -> None:
    utc = moment.replace(tzinfo=UTC)
    span = date_span(utc.astimezone(LOCAL_ZONE).date().isoformat())
    assert span.low <= to_microseconds(utc) < span.high


# --- Numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "half"),
    [("100", "0.5"), ("100.00", "0.005"), ("1e2", "5"), ("5.4", "0.05"), ("-3", "0.5"), ("1.0e2", "5"), ("0", "0.5")],
)
def test_precision_is_half_of_the_last_digit(text: str, half: str) -> None:
    assert precision_of(text) == Decimal(half)


@pytest.mark.parametrize("text", ["", "a", "1,5", "1e", "0x1", "NaN", "Infinity", "1e999", "1" * 400, "--1", "١"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_number(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=3))
def test_a_written_number_is_read_exactly_and_known_to_its_last_digit(number: Decimal) -> None:
    assert parse_number(f"{number:f}") == number
    assert precision_of(f"{number:f}") == Decimal("0.0005")


# --- Escapes ----------------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    for character in "\\,|$":
        text = text.replace(character, f"\\{character}")
    return text


@given(st.lists(st.text(), min_size=1), st.sampled_from(",|$"))
def test_escaped_values_survive_joining_and_splitting(values: list[str], separator: str) -> None:
    joined = separator.join(escaped(value) for value in values)
    assert [plain(part) for part in split(joined, separator)] == values


def test_a_backslash_before_anything_else_is_itself() -> None:
    assert plain(r"C:\dir\\x\,") == "C:\\dir\\x,"
