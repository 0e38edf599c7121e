"""The lexical rules of the FHIR R4 primitive types (http://hl7.org/fhir/R4/datatypes.html#primitive) on JSON values.

Each test takes a value as parsed from JSON (decimals as `Decimal`) and answers whether the type may hold it.
"""

from __future__ import annotations

import binascii
import calendar
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

PrimitiveTest = Callable[[Any], bool]

_YEAR = r"(?!0000)[0-9]{4}"
_MONTH = r"(?:0[1-9]|1[0-2])"
_DAY = r"(?:0[1-9]|[12][0-9]|3[01])"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

_date = re.compile(rf"{_YEAR}(?:-{_MONTH}(?:-{_DAY})?)?").fullmatch
_date_time = re.compile(rf"{_YEAR}(?:-{_MONTH}(?:-{_DAY}(?:T{_TIME}{_ZONE})?)?)?").fullmatch
_instant = re.compile(rf"{_YEAR}-{_MONTH}-{_DAY}T{_TIME}{_ZONE}").fullmatch
_time = re.compile(_TIME).fullmatch
_id = re.compile(r"[A-Za-z0-9\-.]{1,64}").fullmatch
_code = re.compile(r"[^\s]+(?: [^\s]+)*").fullmatch
_uri = re.compile(r"\S+").fullmatch
_oid = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+").fullmatch
_uuid = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_forbidden_character = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]").search

_INTEGER_MAXIMUM = 2**31 - 1
_SHORTEST_DATE_WITH_DAY = len("2000-01-01")


def is_string(value: Any) -> bool:
    """A string that is not empty and holds only characters that XML can carry too."""
    return type(value) is str and value != "" and (value.isprintable() or not _forbidden_character(value))


def is_boolean(value: Any) -> bool:
    """`true` or `false`."""
    return value is True or value is False


def is_integer(value: Any) -> bool:
    """A whole number of 32 bits."""
    return type(value) is int and -_INTEGER_MAXIMUM - 1 <= value <= _INTEGER_MAXIMUM


def is_unsigned_int(value: Any) -> bool:
    """Zero or a positive whole number of 31 bits."""
    return type(value) is int and 0 <= value <= _INTEGER_MAXIMUM


def is_positive_int(value: Any) -> bool:
    """A whole number of 31 bits from one on."""
    return type(value) is int and 1 <= value <= _INTEGER_MAXIMUM


def is_decimal(value: Any) -> bool:
    """A number that kept its digits: an `int` or a finite `Decimal`, not a binary float."""
    return type(value) is int or (type(value) is Decimal and value.is_finite())


def is_date(value: Any) -> bool:
    """Year, year and month, or a day that the calendar has."""
    return type(value) is str and _date(value) is not None and _day_exists(value)


def is_date_time(value: Any) -> bool:
    """A date, or a date with a time to the second and a zone."""
    return type(value) is str and _date_time(value) is not None and _day_exists(value)


def is_instant(value: Any) -> bool:
    """A date with a time to the second and a zone."""
    return type(value) is str and _instant(value) is not None and _day_exists(value)


def is_time(value: Any) -> bool:
    """A time of day to the second, without a zone."""
    return type(value) is str and _time(value) is not None


def is_id(value: Any) -> bool:
    """1 to 64 letters, digits, hyphens and full stops (ASCII)."""
    return type(value) is str and _id(value) is not None


def is_code(value: Any) -> bool:
    """Words with single spaces between them."""
    return is_string(value) and _code(value) is not None


def is_uri(value: Any) -> bool:
    """A URI reference: any characters but white space."""
    return is_string(value) and _uri(value) is not None


def is_oid(value: Any) -> bool:
    """An OID as `urn:oid:…`."""
    return type(value) is str and _oid(value) is not None


def is_uuid(value: Any) -> bool:
    """A UUID as `urn:uuid:…` in lower case."""
    return type(value) is str and _uuid(value) is not None


def is_base64(value: Any) -> bool:
    """Base 64 with padding (RFC 4648); white space between the characters is allowed."""
    if type(value) is not str or not value.isascii():
        return False
    return _decodes(value) or _decodes("".join(value.split()))


def _decodes(value: str) -> bool:
    try:
        return len(value) % 4 == 0 and binascii.a2b_base64(value, strict_mode=True) != b""
    except binascii.Error:
        return False


def _day_exists(value: str) -> bool:
    if len(value) < _SHORTEST_DATE_WITH_DAY or (day := int(value[8:10])) <= 28:
        return True
    return day <= calendar.monthrange(int(value[:4]), int(value[5:7]))[1]


TESTS: dict[str, PrimitiveTest] = {
    "base64Binary": is_base64,
    "boolean": is_boolean,
    "canonical": is_uri,
    "code": is_code,
    "date": is_date,
    "dateTime": is_date_time,
    "decimal": is_decimal,
    "id": is_id,
    "instant": is_instant,
    "integer": is_integer,
    "markdown": is_string,
    "oid": is_oid,
    "positiveInt": is_positive_int,
    "string": is_string,
    "time": is_time,
    "unsignedInt": is_unsigned_int,
    "uri": is_uri,
    "url": is_uri,
    "uuid": is_uuid,
    "xhtml": is_string,
}
"""The test of each primitive type; `messages.tsv` says in words what it expects (`type-…`)."""
