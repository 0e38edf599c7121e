"""Values as both sides of a search see them: what is indexed and what is asked for are normalised by the same code.

FHIR R4 §3.1.1.4 (search parameter types). Times are spans `[low, high)` in microseconds since 1970 UTC; a date without
a zone is a French one.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from relais.mappings import terminology

BEFORE_ALL, AFTER_ALL = -(2**62), 2**62  # instants beyond every FHIR date
LOCAL_ZONE = ZoneInfo("Europe/Paris")

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock arithmetic; the zone's offset is applied by hand
_MICROSECOND = timedelta(microseconds=1)
_END_OF_TIME = (datetime(9999, 12, 31) - _EPOCH) // _MICROSECOND + 86_400_000_000  # noqa: DTZ001 - as _EPOCH
_DATE = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?:T(?P<hour>\d\d):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_LETTERS = str.maketrans(
    {"œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
    | dict.fromkeys("'’‘ʼ′`´-‐‑‒–—−_.,;", " ")
)
_INS = re.compile(r"[1-8]\d{4}(?:\d\d|2A|2B)\d{8}", re.ASCII)
_WORD = re.compile(r"[^\W_]+")
_LONGEST_WORD, _MOST_WORDS = 100, 20_000
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_LARGEST_EXPONENT = 300


def normalise_text(text: str) -> str:
    """`text` without case, accents, hyphens, apostrophes and punctuation marks: `Hélène` and `HELENE` are one."""
    if text.isascii():
        return " ".join(text.casefold().translate(_LETTERS).split())
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    letters = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    return " ".join(letters.translate(_LETTERS).split())


def normalise_code(code: str) -> str:
    """A code or identifier value; an INS matricule loses the spaces it is often written with."""
    compact = "".join(code.split())
    return compact if _INS.fullmatch(compact) else code


def words(text: str) -> list[str]:
    """The words of a text, normalised, each once, in order."""
    found = (word[:_LONGEST_WORD] for word in _WORD.findall(normalise_text(text)))
    return list(dict.fromkeys(itertools.islice(found, _MOST_WORDS)))


# --- Places ----------------------------------------------------------------------------------------------------------

EARTH_RADIUS = 6371.0088  # km, mean


def on_sphere(latitude: float, longitude: float) -> tuple[float, float, float]:
    """A place (degrees) as a point on the unit sphere."""
    up, east = math.radians(latitude), math.radians(longitude)
    return math.cos(up) * math.cos(east), math.cos(up) * math.sin(east), math.sin(up)


def chord(kilometres: float) -> float:
    """The straight distance, on the unit sphere, of two places that far apart."""
    return 2 * math.sin(min(kilometres / EARTH_RADIUS, math.pi) / 2)


# --- Dates -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time `[low, high)`."""

    low: int
    high: int


def date_span(text: str) -> Span:
    """The span that a FHIR date, dateTime or instant stands for, by its precision. Raises ValueError."""
    match = _DATE.fullmatch(text)
    if not match:
        raise ValueError("not a date: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss][zone] is expected")
    part = match.groupdict()
    low = datetime(int(part["year"]), int(part["month"] or 1), int(part["day"] or 1))  # noqa: DTZ001 - as _EPOCH
    if part["hour"] is None:
        return Span(_utc(low, LOCAL_ZONE, 0), _utc(_next_date(low, part), LOCAL_ZONE, 0))
    second = int(part["second"] or 0)
    leap = second == 60
    low = low.replace(hour=int(part["hour"]), minute=int(part["minute"]), second=59 if leap else second)
    zone = _zone(part["zone"])
    shift = 1_000_000 * leap + int((part["fraction"] or "")[:6].ljust(6, "0"))
    start, start_if_repeated = _utc(low, zone, 0) + shift, _utc(low, zone, 1) + shift
    # An hour that the clocks repeat in autumn is meant twice; one that they skip in spring is meant once.
    return Span(start, max(start, start_if_repeated) + _precision(part))


def _next_date(low: datetime, part: dict[str, str | None]) -> datetime | None:
    """The start of the following year, month or day; None after the last one."""
    try:
        if part["month"] is None:
            return low.replace(year=low.year + 1)
        if part["day"] is None:
            return (low + timedelta(days=31)).replace(day=1)
        return low + timedelta(days=1)
    except (ValueError, OverflowError):
        return None


def _precision(part: dict[str, str | None]) -> int:
    if part["second"] is None:
        return 60_000_000
    return int(10 ** max(0, 6 - len(part["fraction"] or "")))


def _zone(text: str | None) -> tzinfo:
    if text is None:
        return LOCAL_ZONE
    if text == "Z":
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 14 or minutes > 59:
        raise ValueError("not a time zone: at most 14:00")
    return timezone((1 if text[0] == "+" else -1) * timedelta(hours=hours, minutes=minutes))


def _utc(local: datetime | None, zone: tzinfo, fold: int) -> int:
    if local is None:
        return _END_OF_TIME
    offset = local.replace(tzinfo=zone, fold=fold).utcoffset()
    return ((local - _EPOCH) - (offset or timedelta())) // _MICROSECOND


# --- Numbers ---------------------------------------------------------------------------------------------------------


def parse_number(text: str) -> Decimal:
    """A FHIR decimal. Raises ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    if len(text) > _LARGEST_EXPONENT or abs(Decimal(text).adjusted()) > _LARGEST_EXPONENT:
        raise ValueError("a number too large or too small to compare")
    return Decimal(text)


def precision_of(text: str) -> Decimal:
    """Half of the last digit written: `100` stands for 99.5 to 100.5, and `1e2` for 95 to 105 as R4 has it."""
    mantissa, exponent_mark, _ = text.lower().partition("e")
    exponent = int(Decimal(text).as_tuple().exponent)
    if exponent_mark and "." not in mantissa:
        exponent -= 1
    return Decimal(5).scaleb(exponent - 1)


# --- Systems ---------------------------------------------------------------------------------------------------------

# Value-set OIDs and outdated addresses that published CI-SIS examples write where a code system belongs
# (CI-SIS volets CdL 3.0.0 and PDSm 3.1.1, read 2026-11).
_NOTE_TYPE = "https://mos.esante.gouv.fr/NOS/TRE_R234-TypeNote/FHIR/TRE-R234-TypeNote"
_MISNAMED_SYSTEMS = {
    "urn:oid:1.2.250.1.213.1.1.5.98": _NOTE_TYPE,
    "urn:oid:1.2.250.1.213.1.1.4.334": _NOTE_TYPE,
    "http://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes": "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes",
}


@lru_cache(maxsize=4096)
def canonical_system(system: str) -> str:
    """The one name of a system that is known by several: its OID, its URL, an older URL."""
    system = _MISNAMED_SYSTEMS.get(system, system)
    return terminology.uri_of(terminology.oid_of(system)) or system
