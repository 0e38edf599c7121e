"""FHIR → CDA → FHIR over generated resources of the three documents: what a document holds of them comes back the same.

The first document decides what CDA keeps; from then on nothing may change, however often it goes there and back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import Emission, Mapped
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda import convert
from support.appointments import agendas, snapshot
from support.notifications import EMISSION as NOTICE_EMISSION
from support.notifications import notices, notify
from support.plans import EMISSION, bundles

Resource = dict[str, Any]

_ABOUT_THE_BYTES = frozenset({"Binary", "DocumentReference", "Provenance"})


def returned(mapped: Mapped) -> Resource:
    """The Bundle that a document comes back as."""
    data = write(mapped.document)
    return to_bundle(read(data).document, data).bundle


def content(bundle: Resource) -> dict[str, Resource]:
    """The resources by their names; not those that only describe the bytes, nor the narrative, which is made anew from
    the others, nor the code of the act, which a document of one appointment takes from it."""
    kept = {
        entry["fullUrl"]: copy.deepcopy(entry["resource"])
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] not in _ABOUT_THE_BYTES
    }
    (composition,) = (one for one in kept.values() if one["resourceType"] == "Composition")
    for section in composition["section"]:
        section.pop("text", None)
    for event in composition.get("event", ()):
        event.pop("code", None)
    return kept


def assert_stable(first: Mapped, emission: Emission) -> None:
    """The resources of a document, and of the document made of these."""
    once = returned(first)
    again = returned(convert(once, emission))
    assert content(again) == content(once)


CASES: dict[str, tuple[Callable[[], st.SearchStrategy[Resource]], Callable[[Resource], Mapped], Emission]] = {
    "plan": (bundles, lambda bundle: convert(bundle, EMISSION), EMISSION),
    "agenda": (agendas, snapshot, EMISSION),
    "notification": (notices, notify, NOTICE_EMISSION),
}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_resources_come_back_the_same(name: str, data: st.DataObject) -> None:
    generate, make, emission = CASES[name]
    assert_stable(make(data.draw(generate())), emission)
