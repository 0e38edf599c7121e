"""Relais' structure check beside the fhir.resources models: what Relais passes, the models read too."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relais.profiles import definitions
from relais.profiles.structure import check
from support.r4_samples import SAMPLES, changed
from support.second_opinion import refusals

VALUES: list[Any] = [
    *(
        None,
        True,
        0,
        1,
        -1,
        Decimal("1.50"),
        "",
        "x",
        "a b",
        "2026",
        "2026-02-29",
        "2024-02-29",
        "2026-01-01T10:00:00Z",
    ),
    *("urn:x", "Patient/1", "AAAA", "10:00:00", [], {}, ["x"], [{}], [None], {"text": "x"}, {"value": 1}, {"id": "a"}),
    *({"reference": "Patient/1"}, [{"reference": "Patient/1"}], {"start": "2026"}, {"extension": [{"url": "a"}]}),
    *([{"system": "urn:x", "value": "1"}], [{"text": "x"}], {"coding": [{"code": "a"}]}),
]


def objects_in(node: Any, place: str = "") -> list[str]:
    """The places of all objects in a resource, the root as an empty place."""
    found = [place] if isinstance(node, dict) else []
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return found + [
        each for key, value in children for each in objects_in(value, f"{place}.{key}" if place else str(key))
    ]


NAMES = sorted(
    {name for found in definitions.types().values() for each in found.elements for name in each.json_names()}
)


@pytest.mark.parametrize("sample", SAMPLES)
def test_both_accept_valid_resources(sample: str) -> None:
    assert check(SAMPLES[sample]) == []
    assert refusals(SAMPLES[sample]) == []


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_what_relais_passes_the_models_read(data: st.DataObject) -> None:
    sample = SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))]
    place = data.draw(st.sampled_from(objects_in(sample)))
    node: Any = sample
    for step in place.split(".") if place else ():
        node = node[int(step)] if isinstance(node, list) else node[step]
    name = data.draw(st.sampled_from(sorted(node)) | st.sampled_from(NAMES))
    assume(name != "resourceType")
    value = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
    resource = changed(sample, f"{place}.{name}" if place else name, value)
    if not check(resource):
        assert refusals(resource) == []
