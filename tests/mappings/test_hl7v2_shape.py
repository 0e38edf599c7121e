"""The shape of a message, which hl7apy judges in its place: the verdict is that on the message, values and all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relais.mappings.hl7v2 import er7, grammar
from relais.mappings.hl7v2.findings import Finding
from support.hl7v2 import INS, message, order, replacing, to_both

MESSAGES = {
    "MDM": (message(to_both()), "MDM_T02"),
    "T10": (message(order(action="replace"), replacing()), "MDM_T02"),
    "ORU": (message(to_both(message="ORU")), "ORU_R01"),
}


def judged(source: str, structure: str) -> tuple[Finding, ...]:
    """What hl7apy has against a message as it stands; nothing remembered."""
    return grammar._judged.__wrapped__(source, structure, source.split("|")[11])


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_is_written_is_valid_by_hl7apy_with_its_values(kind: str) -> None:
    data, structure = MESSAGES[kind]
    assert judged(data.decode(), structure) == ()


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_shape_has_the_build_of_its_message_and_none_of_its_values(kind: str) -> None:
    source = MESSAGES[kind][0].decode()
    shape = grammar.shape(source)
    assert [line.count("|") for line in shape.split("\r")] == [line.count("|") for line in source.split("\r")]
    assert [shape.count(mark) for mark in "~^&"] == [source.count(mark) for mark in "~^&"]
    assert [line[:3] for line in shape.split("\r")] == [line[:3] for line in source.split("\r")]
    assert all(value not in shape for value in (INS, "PATTERSON", "19790328", "LEMOINE", "mssante"))
    assert len(shape) < len(source) / 3


def test_messages_of_one_shape_are_judged_once() -> None:
    first = message(to_both(control_id="FIRST")).decode()
    second = message(to_both(control_id="SECOND", time="20270112090500+0100")).decode()
    assert first != second
    assert grammar.shape(first) == grammar.shape(second)
    assert grammar.shape(first) != grammar.shape(message(order()).decode())


PIECES = st.sampled_from(
    [
        "",
        "|",
        "||",
        "^",
        "^^",
        "~",
        "&",
        "&&",
        " ",
        "X",
        "0",
        "-1",
        "20261399",
        "A B",
        "é",
        "\\T\\",
        '""',
        "\u00a0",
        "9" * 300,
    ]
)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(sorted(MESSAGES)),
    changes=st.lists(st.tuples(st.floats(0.02, 0.999), st.integers(0, 6), PIECES), min_size=1, max_size=4),
)
def test_the_verdict_on_the_shape_is_that_on_the_message(kind: str, changes: list[tuple[float, int, str]]) -> None:
    data, structure = MESSAGES[kind]
    source = _without_document(data.decode())
    for place, removed, piece in changes:
        at = _inside_a_field(source, int(place * len(source)))
        end = min(at + removed, source.index("\r", at))
        source = source[:at] + piece + source[end:]
    assert judged(grammar.shape(source), structure) == judged(source, structure)


def _without_document(source: str) -> str:
    """The document makes nine tenths of a message and is one value: changes are to hit the others."""
    longest = max((part for line in source.split("\r") for part in line.split("^")), key=len)
    return source.replace(longest, "QUJD")


def _inside_a_field(source: str, at: int) -> int:
    """The next place that is no name of a segment and none of the fields that say which message it is."""
    start = source.rfind("\r", 0, at) + 1
    if source.startswith("MSH", start):
        start = source.index("\r") + 1
        at = start + 4
    return max(at, start + 4) if start + 4 < len(source) else len(source) - 1


@pytest.mark.parametrize("value", ["", " ", "20261399", "abc", "-1.5", "99999999999999999999", '""', "é" * 70_000])
def test_no_value_of_any_type_changes_the_verdict(value: str) -> None:
    """Dates, times, numbers and sets of identifiers alike."""
    for data, structure in MESSAGES.values():
        lines = _without_document(data.decode()).split("\r")
        source = "\r".join([lines[0], *("|".join([line[:3], *_filled(line, value)]) for line in lines[1:-1]), ""])
        assert judged(grammar.shape(source), structure) == judged(source, structure)


def _filled(line: str, value: str) -> list[str]:
    fields = line.split("|")[1:]
    return [
        field if "^" in field or not field or (len(value) > 100 and index > 2) else value
        for index, field in enumerate(fields)
    ]


def test_the_official_examples(cisis: Path) -> None:
    paths = sorted(path for path in (cisis / "hl7v2").rglob("*") if path.suffix in (".er7", ".hl7"))
    assert len(paths) > 3
    for path in paths:
        parsed = er7.parse(er7.from_file(path.read_bytes()), assumed_charset="UNICODE UTF-8")
        structure = next((found for found in grammar.GRAMMARS if parsed.header.text(9) == found[:3]), "MDM_T02")
        assert judged(grammar.shape(parsed.source), structure) == judged(parsed.source, structure), path.name
