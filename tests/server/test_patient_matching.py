"""Which traits contradict each other (RNIV), and which only look different."""

from __future__ import annotations

import pytest

from relais.cda.templates import INS_NIR_TEST
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.server.patient_matching import contradictions


def official(family: str, *given: str) -> Resource:
    """A name of birth."""
    return {"name": [{"use": "official", "family": family, "given": list(given)}]}


def ins(value: str, **more: str) -> Resource:
    """An INS of the test domain."""
    return {"identifier": [{"system": f"urn:oid:{INS_NIR_TEST}", "value": value, **more}]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"birthDate": "1979-03-28"}, {}),
        ({"birthDate": "1979-03-28"}, {"birthDate": "1979"}),
        ({"gender": "female"}, {"gender": "unknown"}),
        (official("LE GOFF", "Anne-Marie"), official("Le Goff", "ANNE MARIE")),
        (official("NOËL", "Zoé"), official("NOEL", "ZOE")),
        (official("PAT", "MARIELOUISE"), official("PAT", "Marie-Louise")),
        (official("PAT", "Marie"), official("PAT", "Marie-Louise", "Anne")),
        (official("PAT-TROIS", "Dominique"), official("PATTROIS", "DOMINIQUE", "MARIE-LOUISE")),
        (official("PAT", "Anne"), {"name": [{"use": "usual", "family": "PAT", "given": ["Anne"]}]}),
        (ins("279035121518989"), ins("279035121518989")),
        (ins("279035121518989"), ins("255069999999934", use="old")),
    ],
)
def test_what_agrees_or_is_not_stated_contradicts_nothing(one: Resource, other: Resource) -> None:
    assert list(contradictions(one, other)) == []
    assert list(contradictions(other, one)) == []


@pytest.mark.parametrize(
    ("one", "other", "trait"),
    [
        ({"birthDate": "1979-03-28"}, {"birthDate": "1979-03-29"}, "birthDate"),
        ({"birthDate": "1979-03-28"}, {"birthDate": "1980"}, "birthDate"),
        ({"gender": "female"}, {"gender": "male"}, "gender"),
        (official("PAT"), official("PATTERSON"), "birth name"),
        (official("PAT", "Anne"), official("PAT", "Marie"), "first given name"),
        (official("PAT", "Marie"), official("PAT", "Marielle"), "first given name"),
        (official("PAT", "ANNETTE"), official("PAT", "Anne", "Marie"), "first given name"),
        (ins("279035121518989"), ins("255069999999934"), "INS"),
    ],
)
def test_what_differs_is_named(one: Resource, other: Resource, trait: str) -> None:
    assert list(contradictions(one, other)) == [trait]
    assert list(contradictions(other, one)) == [trait]


def test_a_number_with_signs_of_the_query_language_is_searched_as_it_is() -> None:
    assert identity.token({"system": "urn:oid:1.2", "value": "A|B,C$D\\E"}) == "urn:oid:1.2|A\\|B\\,C\\$D\\\\E"
