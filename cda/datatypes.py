"""Identifiers and times of CDA documents, and their FHIR and XDS forms.

HL7 V3 data types II and TS as CI-SIS restricts them, FHIR R4 date and dateTime, IHE ITI TF-3 DTM. A conversion never
adds precision: a month stays a month. A wrong value is a ValueError that states the rule without the value (it may be
health data); the caller knows the place and says it.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
"""Zone in which documents state their times, and that a time without offset is read in."""

OID_PATTERN = r"[0-2](\.(0|[1-9][0-9]*))+"
_OID = re.compile(OID_PATTERN)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_TS = re.compile(
    r"(\d{4}|\d{6}|\d{8}|\d{10}|\d{12}|\d{14})(?:(?<=\d{14})\.\d+)?"  # digits
    r"([+-]\d\d[0-5]\d)?",  # offset
    re.ASCII,
)
_FHIR_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)
_FHIR_TIME = re.compile(
    r"(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?P<offset>Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
_FIRST_INSTANT = "00000101000000"  # completes a TS of lower precision to a whole instant
_WHOLE_MINUTES = len("2026-01-12T09:00:00+01:00")  # an offset with seconds makes a time longer
_NO_PUNCTUATION = str.maketrans("", "", "-:T")
_UUID5_FIELDS, _UUID5_BITS = 0xF000_C000_0000_0000_0000, 0x5000_8000_0000_0000_0000  # version, variant
_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))  # its first digit leaves two bits free (RFC 9562)
_PROJECT_NAMESPACE = bytes.fromhex("99e0cf503b614fad8b1cb979d2f64210")
_BEGUN = hashlib.sha1(_PROJECT_NAMESPACE, usedforsecurity=False)


# --- identifiers ----------------------------------------------------------------------------------------------


def is_oid(text: str) -> bool:
    """Whether `text` is a dotted OID: first arc 0 to 2, no leading zero in an arc, at least two arcs."""
    return _OID.fullmatch(text) is not None


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its 36 character form, either case."""
    return _UUID.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def root_from_urn(urn: str) -> str | None:
    """The II root that `urn:oid:…` or `urn:uuid:…` names (a UUID in upper case), or None for anything else.

    The scheme may be in upper or lower case (RFC 8141).
    """
    scheme, _, name = urn.rpartition(":")
    if scheme.lower() == "urn:oid" and is_oid(name):
        return name
    if scheme.lower() == "urn:uuid" and is_uuid(name):
        return name.upper()
    return None


@lru_cache(maxsize=1024)
def urn_from_root(root: str) -> str | None:
    """`urn:oid:…` or `urn:uuid:…` (lower case) for an II root, or None when it is neither OID nor UUID."""
    if is_oid(root):
        return f"urn:oid:{root}"
    if is_uuid(root):
        return f"urn:uuid:{root.lower()}"
    return None


def stable_uuid(*parts: str) -> str:
    """A UUIDv5 of `parts`, in lower case: the same parts always give the same one."""
    return _uuid_text(_hashed(parts))


def uuid_oid(*parts: str) -> str:
    """The OID under 2.25 of `stable_uuid(*parts)`, at most 44 characters."""
    return f"2.25.{_uuid5(parts)}"


class UuidSeries:
    """`stable_uuid` of parts that all begin alike: `UuidSeries(a, b).uuid(c)` is `stable_uuid(a, b, c)`."""

    def __init__(self, *first: str) -> None:
        self._begun = _hashed(first)

    def uuid(self, *parts: str) -> str:
        """The UUIDv5 of the first parts and these."""
        return _uuid_text(_hashed(parts, self._begun))


class OidSeries:
    """`uuid_oid` of parts that all begin alike: `OidSeries(a, b).oid(c)` is `uuid_oid(a, b, c)`."""

    def __init__(self, *first: str) -> None:
        self._begun = _hashed(first)

    def oid(self, *parts: str) -> str:
        """The OID under 2.25 of the first parts and these."""
        return f"2.25.{_uuid5(parts, self._begun)}"


def _uuid5(parts: tuple[str, ...], begun: hashlib._Hash = _BEGUN) -> int:
    """The UUIDv5 of `parts` as its 128 bits (RFC 9562, 5.5): `uuid.uuid5` takes several times as long."""
    digest = _hashed(parts, begun).digest()
    return int.from_bytes(digest[:16]) & ~_UUID5_FIELDS | _UUID5_BITS


def _uuid_text(hashed: hashlib._Hash) -> str:
    """The UUIDv5 of a hash: the digits of its version and variant are not those of the hash."""
    digits = hashed.hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:32]}"


def _hashed(parts: tuple[str, ...], begun: hashlib._Hash = _BEGUN) -> hashlib._Hash:
    """The hash of what was `begun`, then `parts`, each after its length: ("ab", "c") is not ("a", "bc")."""
    hashed = begun.copy()
    hashed.update("".join([f"{len(part)}:{part}" for part in parts]).encode())
    return hashed


# --- times ----------------------------------------------------------------------------------------------------


class _Ts(NamedTuple):
    """A TS taken apart: its digits (4 to 14), and the instant at which they begin."""

    digits: str
    start: datetime


def _read_ts(ts: str) -> _Ts:
    match = _TS.fullmatch(ts)
    if match is None:
        raise ValueError("not an HL7 TS: YYYY[MM[DD[HH[MM[SS]]]]][±ZZZZ] expected")
    digits, offset = match.groups()
    whole = digits + _FIRST_INSTANT[len(digits) :]
    try:
        start = datetime.fromisoformat(f"{whole[:8]}T{whole[8:]}{offset or ''}")
    except ValueError:
        raise ValueError("not an HL7 TS: no such date, time or offset") from None
    return _Ts(digits, start if offset else start.replace(tzinfo=PARIS))


def _with_whole_minutes(instant: datetime) -> datetime:
    """The same instant at an offset that can be written: until 1911 Paris was 9 minutes 21 seconds before UTC."""
    offset = instant.utcoffset() or timedelta()
    return instant.astimezone(UTC) if offset.seconds % 60 else instant


def _digits(instant: datetime) -> str:
    return instant.isoformat()[:19].translate(_NO_PUNCTUATION)


def is_ts(text: str) -> bool:
    """Whether `text` is an HL7 TS that names a real date or time."""
    try:
        _read_ts(text)
    except ValueError:
        return False
    return True


def datetime_from_ts(ts: str) -> datetime:
    """The aware instant at which a TS begins: `202401` is 1 January 2024, 00:00 in Paris.

    A TS without offset is read in Europe/Paris. Raises ValueError.
    """
    return _read_ts(ts).start


def ts_from_datetime(instant: datetime) -> str:
    """An aware datetime as a TS to the second in Europe/Paris: `20260112090000+0100`. Fractions are dropped.

    Raises ValueError for a naive datetime.
    """
    if instant.tzinfo is None:
        raise ValueError("a time without offset is not an instant")
    local = instant.astimezone(PARIS).isoformat(timespec="seconds")
    if len(local) > _WHOLE_MINUTES:
        local = instant.astimezone(UTC).isoformat(timespec="seconds")
    return f"{local[:19].translate(_NO_PUNCTUATION)}{local[19:22]}{local[23:]}"


def ts_from_fhir(value: str) -> str:
    """A FHIR date, dateTime or instant as a TS: `2026-01` gives `202601`, `2026-01-12T08:00:00Z` `20260112090000+0100`.

    Precision is kept; fractions of a second are dropped. Raises ValueError.
    """
    if _FHIR_DATE.fullmatch(value):
        try:
            date.fromisoformat(f"{value}-01-01"[:10])
        except ValueError:
            raise ValueError("not a FHIR date: no such day") from None
        return value.replace("-", "")
    match = _FHIR_TIME.fullmatch(value)
    if match is None:
        raise ValueError("not a FHIR date or dateTime: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss±zz:zz expected")
    try:
        return ts_from_datetime(datetime.fromisoformat(match["second"] + match["offset"]))
    except (ValueError, OverflowError):
        raise ValueError("not a FHIR dateTime: no such date, time or offset") from None


def fhir_from_ts(ts: str) -> str:
    """A TS as a FHIR date (no hour in it) or dateTime with its offset.

    FHIR knows no time without minutes: a TS to the hour becomes a date. Seconds that are absent are written `00`, as
    FHIR demands. A time without offset is read in Europe/Paris. Raises ValueError.
    """
    if usual := _usual_fhir(ts):
        return usual
    digits, start = _read_ts(ts)
    return _fhir_date(digits) if len(digits) <= 10 else _with_whole_minutes(start).isoformat()


def fhir_date_from_ts(ts: str) -> str:
    """A TS as a FHIR date: year, month or day as precise as it is; the time of day is left out. Raises ValueError."""
    if usual := _usual_fhir(ts):
        return usual[:10]
    return _fhir_date(_read_ts(ts).digits)


def _usual_fhir(ts: str) -> str | None:
    """A TS that is a day, or a time to the second with its offset, as nearly all are; None for any other."""
    if not ts.isascii():
        return None
    try:
        if len(ts) == 8 and ts.isdigit():
            return date.fromisoformat(ts).isoformat()
        if len(ts) == 19 and ts[:14].isdigit() and ts[14] in "+-" and ts[15:].isdigit() and ts[17] < "6":
            return datetime.fromisoformat(f"{ts[:8]}T{ts[8:]}").isoformat()
    except ValueError:
        return None
    return None


def _fhir_date(digits: str) -> str:
    return "-".join([part for part in (digits[:4], digits[4:6], digits[6:8]) if part])


def dtm_from_ts(ts: str) -> str:
    """A TS as an XDS DTM, which is in UTC: `20240705143000+0200` gives `20240705123000`.

    Without an hour there is nothing to shift: `20240705` stays. A time without offset is read in Europe/Paris.
    Raises ValueError.
    """
    digits, start = _read_ts(ts)
    if len(digits) <= 8:
        return digits
    try:
        return _digits(start.astimezone(UTC))[: len(digits)]
    except OverflowError:
        raise ValueError("not an HL7 TS: no such date in UTC") from None


def dtm_from_datetime(instant: datetime) -> str:
    """An aware datetime as an XDS DTM of 14 digits in UTC. Raises ValueError for a naive datetime."""
    return dtm_from_ts(ts_from_datetime(instant))
