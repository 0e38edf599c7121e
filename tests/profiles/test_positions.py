"""Lines and columns of issues in JSON and XML files."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from relais.profiles.positions import JsonPositions, Position, xml_position

TEXT = r"""{
  "resourceType": "Bundle",
  "entry": [ {"fullUrl": "urn:\"uuid\": [1],"},
    {"resource": {"resourceType": "Observation",
      "valueQuantity": {"value": 1.50},
      "note": [{"text": "a"}, {"text": "b"}],
      "_status": {"extension": []}, "component": [],
      "code": {} }} ],
  "type" : "collection"
}"""


@pytest.mark.parametrize(
    ("expression", "line", "column"),
    [
        ("Bundle", 1, 1),
        ("Bundle.type", 9, 3),
        ("Bundle.entry", 3, 3),
        ("Bundle.entry[0]", 3, 14),
        ("Bundle.entry[0].fullUrl", 3, 15),
        ("Bundle.entry[1].resource.value.ofType(Quantity).value", 5, 25),
        ("Bundle.entry[1].resource.note[1].text", 6, 32),
        ("Bundle.entry[1].resource.code", 8, 7),
        # what is absent is placed where it is missing
        ("Bundle.entry[1].resource.subject", 4, 6),
        ("Bundle.entry[7].resource", 3, 3),
    ],
)
def test_places_in_json(expression: str, line: int, column: int) -> None:
    assert JsonPositions(TEXT).find(expression) == Position(line, column)


def test_long_text_costs_little_more_than_itself() -> None:
    text = json.dumps({"resourceType": "Binary", "data": "A\\n" * 1_000_000, "id": "a"})
    tracemalloc.start()
    try:
        positions = JsonPositions(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert positions.find("Binary.id") == Position(1, text.index('"id"') + 1)
    assert peak < 3 * len(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.from_regex("[a-z]{1,4}", fullmatch=True), inner),
)


@given(st.dictionaries(st.from_regex("[a-z]{1,4}", fullmatch=True), VALUES), st.sampled_from([None, 1]))
def test_every_property_of_any_json_is_found(value: dict[str, object], indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    lines = text.split("\n")
    positions = JsonPositions(text)
    for key in value:
        line, column = positions.find(f"Root.{key}")
        assert lines[line - 1][column - 1 :].startswith(json.dumps(key))


def test_places_in_xml() -> None:
    root = etree.fromstring(
        '<Bundle xmlns="http://hl7.org/fhir">\n<entry>\n<resource><Patient>\n<name>\n<given value="a"/>\n'
        '<given value="b"/></name></Patient></resource></entry></Bundle>'
    )
    assert xml_position(root, "Bundle.entry[0].resource.name[0].given[1]") == Position(6, 0)
    assert xml_position(root, "Bundle.entry[0].resource.name[0].family") == Position(4, 0)
    assert xml_position(root, "Bundle") == Position(1, 0)
