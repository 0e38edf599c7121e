"""Identifiers and times: HL7 TS and II, FHIR date and dateTime, XDS DTM."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relais.cda import datatypes


@pytest.mark.parametrize(
    ("fhir", "ts"),
    [
        ("2026", "2026"),
        ("2026-01", "202601"),
        ("2026-01-12", "20260112"),
        ("2026-01-12T08:00:00Z", "20260112090000+0100"),
        ("2026-07-12T08:00:00Z", "20260712100000+0200"),
        ("2026-01-12T08:00:00.987654321Z", "20260112090000+0100"),
        ("2026-01-12T23:30:00-05:00", "20260113053000+0100"),
        ("1905-01-12T08:00:00Z", "19050112080000+0000"),  # Paris was then +00:09:21, which no offset can say
    ],
)
def test_ts_from_fhir(fhir: str, ts: str) -> None:
    assert datatypes.ts_from_fhir(fhir) == ts


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "26",
        "2026-13",
        "2026-02-30",
        "2026-1-2",
        "2026-01-12T08:00",
        "2026-01-12T08:00:00",
        "2026-01-12T25:00:00Z",
        "2026-01-12T08:00:00+0100",
        "20260112",
        "2026-01-12 08:00:00Z",
        "2026-01-12T08:00:60Z",
        "२०२६",
        "0001-01-01T00:00:00+14:00",
        "2026-01-12T08:00:00+99:00",
    ],
)
def test_wrong_fhir_times_are_refused_without_quoting_them(wrong: str) -> None:
    with pytest.raises(ValueError, match="not a") as caught:
        datatypes.ts_from_fhir(wrong)
    assert not wrong or wrong not in str(caught.value)


@pytest.mark.parametrize(
    ("ts", "fhir"),
    [
        ("2024", "2024"),
        ("202407", "2024-07"),
        ("20240705", "2024-07-05"),
        ("2024070514", "2024-07-05"),  # FHIR has no hour without minutes, and none is invented
        ("202407051430+0200", "2024-07-05T14:30:00+02:00"),
        ("20240705143000+0200", "2024-07-05T14:30:00+02:00"),
        ("20240705143000.123+0200", "2024-07-05T14:30:00+02:00"),
        ("20240705143000", "2024-07-05T14:30:00+02:00"),  # no offset: legal time in France
        ("20240105143000", "2024-01-05T14:30:00+01:00"),
        ("20240705143000-0330", "2024-07-05T14:30:00-03:30"),
        ("20240705+0200", "2024-07-05"),
    ],
)
def test_fhir_from_ts(ts: str, fhir: str) -> None:
    assert datatypes.fhir_from_ts(ts) == fhir


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "24",
        "20241",
        "20241305",
        "20240230",
        "2024-07-05",
        "20240705T143000",
        "20240705143000Z",
        "20240705143000+02",
        "20240705253000",
        "20240705143060",
        "20240705.5",
        "20240705143000+0299",
        "20240705143000+9900",
        "00000101",
    ],
)
def test_wrong_ts_is_refused(wrong: str) -> None:
    assert not datatypes.is_ts(wrong)
    for convert in (datatypes.fhir_from_ts, datatypes.dtm_from_ts, datatypes.datetime_from_ts):
        with pytest.raises(ValueError, match="not an HL7 TS"):
            convert(wrong)


@pytest.mark.parametrize(
    ("ts", "dtm"),
    [
        ("20240705143000+0200", "20240705123000"),
        ("20240705003000+0200", "20240704223000"),
        ("20240705143000", "20240705123000"),
        ("202407051430+0200", "202407051230"),
        ("2024070514+0200", "2024070512"),
        ("20240705", "20240705"),
        ("202407", "202407"),
        ("2024", "2024"),
    ],
)
def test_dtm_is_in_utc_and_keeps_its_precision(ts: str, dtm: str) -> None:
    assert datatypes.dtm_from_ts(ts) == dtm


def test_dtm_before_the_first_year_is_refused() -> None:
    with pytest.raises(ValueError, match="UTC"):
        datatypes.dtm_from_ts("00010101000000+0200")


def test_datetimes() -> None:
    instant = datetime(2026, 1, 12, 8, 0, 0, 999_999, tzinfo=UTC)
    assert datatypes.ts_from_datetime(instant) == "20260112090000+0100"
    assert datatypes.dtm_from_datetime(instant) == "20260112080000"
    assert datatypes.datetime_from_ts("20260112090000+0100") == instant.replace(microsecond=0)
    assert datatypes.datetime_from_ts("202601") == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert datatypes.fhir_date_from_ts("20260112003000+0100") == "2026-01-12"
    assert datatypes.fhir_date_from_ts("202601") == "2026-01"
    with pytest.raises(ValueError, match="offset"):
        datatypes.ts_from_datetime(datetime(2026, 1, 12))  # noqa: DTZ001


_OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1), timezones=_OFFSETS))  # noqa: DTZ001
def test_an_instant_survives_fhir_and_ts(instant: datetime) -> None:
    instant = instant.replace(microsecond=0)
    ts = datatypes.ts_from_fhir(instant.isoformat())
    assert len(ts) == 19
    assert datatypes.datetime_from_ts(ts) == instant
    assert datetime.fromisoformat(datatypes.fhir_from_ts(ts)) == instant
    assert datatypes.ts_from_fhir(datatypes.fhir_from_ts(ts)) == ts


@given(st.dates(), st.sampled_from([4, 7, 10]))
def test_a_date_keeps_its_precision_both_ways(day: date, length: int) -> None:
    fhir = day.isoformat()[:length]
    assert datatypes.fhir_from_ts(datatypes.ts_from_fhir(fhir)) == fhir


@pytest.mark.parametrize("text", ["1.2.250.1.213.1.1.3.48", "2.25.0", "0.9"])
def test_oids(text: str) -> None:
    assert datatypes.is_oid(text)
    assert datatypes.root_from_urn(f"urn:oid:{text}") == text
    assert datatypes.urn_from_root(text) == f"urn:oid:{text}"


@pytest.mark.parametrize("text", ["", "1", "3.1", "1.2.07.1", "1..2", "1.2.", ".1.2", "1.2.a", "1.2\n", "urn:oid:1.2"])
def test_not_oids(text: str) -> None:
    assert not datatypes.is_oid(text)
    assert datatypes.root_from_urn(f"urn:oid:{text}") is None
    assert datatypes.urn_from_root(text) is None


def test_uuids() -> None:
    lower = "2ed5ef29-8305-4383-8945-c13f2a988d5e"
    assert datatypes.is_uuid(lower)
    assert datatypes.is_uuid(lower.upper())
    assert not datatypes.is_uuid(lower[:-1])
    assert not datatypes.is_uuid(f"{{{lower}}}")
    assert datatypes.root_from_urn(f"urn:uuid:{lower}") == lower.upper()
    assert datatypes.urn_from_root(lower.upper()) == f"urn:uuid:{lower}"


@pytest.mark.parametrize("urn", ["", "1.2.3", "urn:oid", "urn:uuid:1.2", "urn:oid:2ed5ef29", "https://example.org/1.2"])
def test_other_uris_name_no_root(urn: str) -> None:
    assert datatypes.root_from_urn(urn) is None


def test_uuid_oid_is_deterministic_and_tells_parts_apart() -> None:
    made = datatypes.uuid_oid("document", "ab", "c")
    assert made == datatypes.uuid_oid("document", "ab", "c")
    assert len({made, datatypes.uuid_oid("document", "a", "bc"), datatypes.uuid_oid("document", "abc")}) == 3
    assert made == "2.25.219557618518610638776200544688630187118"


@given(st.lists(st.text(), min_size=1))
def test_uuid_oid_is_an_oid_short_enough_for_xds(parts: list[str]) -> None:
    made = datatypes.uuid_oid(*parts)
    assert datatypes.is_oid(made)
    assert len(made) <= 44


# --- names --------------------------------------------------------------------------------------------------------


@given(first=st.lists(st.text(), max_size=3), rest=st.lists(st.text(), max_size=3))
def test_the_names_of_a_series_are_those_of_all_their_parts(first: list[str], rest: list[str]) -> None:
    written = "".join(f"{len(part)}:{part}" for part in [*first, *rest])
    expected = uuid.uuid5(uuid.UUID("99e0cf50-3b61-4fad-8b1c-b979d2f64210"), written)
    assert datatypes.stable_uuid(*first, *rest) == str(expected)
    assert datatypes.UuidSeries(*first).uuid(*rest) == str(expected)
    assert datatypes.OidSeries(*first).oid(*rest) == datatypes.uuid_oid(*first, *rest) == f"2.25.{expected.int}"
