"""Lexical rules of the primitive types."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relais.profiles import definitions
from relais.profiles.primitives import TESTS

VALID: dict[str, list[Any]] = {
    "base64Binary": ["AA==", "AAA=", "AAAA", "AAAA\nAAAA", " AAAA "],
    "boolean": [True, False],
    "canonical": ["http://a.example/x|1.0", "#contained"],
    "code": ["a", "in progress", "é"],
    "date": ["0001", "2024", "2024-02", "2024-02-29", "9999-12-31"],
    "dateTime": [
        "2024",
        "2024-02-29",
        "2024-02-29T00:00:00Z",
        "2024-02-29T23:59:60.5-12:00",
        "2024-01-01T00:00:00+14:00",
    ],
    "decimal": [0, -1, 10**20, Decimal("1.00"), Decimal("1E+3"), Decimal("-0.0")],
    "id": ["a", "A-1.b", "0" * 64],
    "instant": ["2024-02-29T10:00:00Z", "2024-02-29T10:00:00.123456+01:00"],
    "integer": [0, -(2**31), 2**31 - 1],
    "markdown": ["# titre\n\ntexte"],
    "oid": ["urn:oid:1.2.250", "urn:oid:2.999.0"],
    "positiveInt": [1, 2**31 - 1],
    "string": [" ", "ligne\r\n\tligne", "é\u00a0𝄞"],
    "time": ["00:00:00", "23:59:60.25"],
    "unsignedInt": [0, 2**31 - 1],
    "uri": ["", "urn:x", "é/à"][1:],
    "url": ["mailto:a@b.example", "Binary/1"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
    "xhtml": ["<div/>"],
}

INVALID: dict[str, list[Any]] = {
    "base64Binary": ["", " ", "A", "AA", "AAAA=", "AA=A", "AAA*", "é===", 1],
    "boolean": ["true", 1, 0],
    "canonical": ["", "a b"],
    "code": ["", " a", "a ", "a  b", "a\tb", "a\n"],
    "date": [
        "",
        "0000",
        "24",
        "2024-2",
        "2024-13",
        "2024-00",
        "2023-02-29",
        "2024-04-31",
        "2024-01-01T00:00:00Z",
        "2024\n",
    ],
    "dateTime": [
        *("2024-02-29T10", "2024-02-29T10:00Z", "2024-02-29T10:00:00", "2024-02-29 10:00:00Z", "2024-02-29T24:00:00Z"),
        *("2024-02-29T10:00:00+14:01", "2024-02-29T10:00:00+1:00", "2024-02-29T10:00:00.Z", "2023-02-29T10:00:00Z"),
    ],
    "decimal": [1.0, True, "1", Decimal("NaN"), Decimal("Infinity"), float("nan")],
    "id": ["", "a b", "a_b", "é", "0" * 65, "a\n", 1],
    "instant": ["2024", "2024-02-29", "2024-02-29T10:00:00", "2024-02-30T10:00:00Z"],
    "integer": [2**31, -(2**31) - 1, 1.0, True, Decimal(1), "1"],
    "markdown": ["", "\x07"],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1", "urn:oid:1.02"],
    "positiveInt": [0, -1, 2**31, True],
    "string": ["", "\x00", "\x0b", "\ud800", "\uffff", 1, None, []],
    "time": ["10:00", "24:00:00", "10:00:00Z", "10:60:00"],
    "unsignedInt": [-1, False, 1.0],
    "uri": ["", "a b", "a\u00a0b", "a\n"],
    "url": ["", "\ta"],
    "uuid": ["c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520", "urn:uuid:1"],
    "xhtml": ["", None],
}


def cases(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, values in table.items() for value in values]


def test_every_primitive_type_has_a_test() -> None:
    assert set(TESTS) == set(VALID) == set(INVALID) == definitions.primitive_types()


@pytest.mark.parametrize(("name", "value"), cases(VALID))
def test_a_right_value_passes(name: str, value: Any) -> None:
    assert TESTS[name](value)


@pytest.mark.parametrize(("name", "value"), cases(INVALID))
def test_a_wrong_value_fails(name: str, value: Any) -> None:
    assert not TESTS[name](value)


PUBLISHED = {
    "dateTime": r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1])(T("
    r"[01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?",
    "id": r"[A-Za-z0-9\-\.]{1,64}",
    "oid": r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+",
    "time": r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?",
    "uuid": r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}


@pytest.mark.parametrize("name", PUBLISHED)
@given(data=st.data())
def test_what_the_published_pattern_allows_passes(name: str, data: st.DataObject) -> None:
    value = data.draw(st.from_regex(re.compile(PUBLISHED[name]), fullmatch=True))
    assert TESTS[name](value) or (name == "dateTime" and re.match(r"....-(02-(29|30|31)|(04|06|09|11)-31)", value))


@pytest.mark.parametrize("name", PUBLISHED)
@given(value=st.text(alphabet="0123456789-:.TZ+urn:oidabcf", max_size=40))
def test_what_the_published_pattern_refuses_fails(name: str, value: str) -> None:
    assert re.fullmatch(PUBLISHED[name], value) or not TESTS[name](value)
