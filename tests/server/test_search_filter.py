"""`_filter` (FHIR R4 §3.1.3): its grammar, what each operator finds on both engines, what is refused."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relais.server.search import SearchError
from relais.server.search.filters import Both, Comparison, Either, FilterError, Not, Step, parse_filter
from relais.server.search.parser import parse_query
from relais.server.store import Store
from support.searches import BASE, add, ids

A, B, C = (Comparison((Step(name),), "eq", name.upper()) for name in "abc")

TREES: dict[str, Any] = {
    "a eq A": A,
    ' a  eq\t"A" ': A,
    "a eq A and b eq B or c eq C": Either(Both(A, B), C),
    "a eq A or b eq B and c eq C": Both(Either(A, B), C),
    "a eq A or (b eq B and c eq C)": Either(A, Both(B, C)),
    "not (a eq A) and not(b eq B)": Both(Not(A), Not(B)),
    "((a eq A))": A,
    "(a eq A)and(b eq B)": Both(A, B),
    "notes eq x": Comparison((Step("notes"),), "eq", "x"),
    "subject:Patient.name co pet": Comparison((Step("subject:Patient"), Step("name")), "co", "pet"),
    "subject[a eq A or b eq B].name sw d": Comparison((Step("subject", Either(A, B)), Step("name")), "sw", "d"),
    r'a eq "says \"no\" (é, \u00e9]"': Comparison((Step("a"),), "eq", 'says "no" (é, é]'),
    "code in http://example.org/ValueSet/x|1": Comparison((Step("code"),), "in", "http://example.org/ValueSet/x|1"),
}


@pytest.mark.parametrize(("text", "tree"), TREES.items())
def test_grammar(text: str, tree: Any) -> None:
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the name of a search parameter is expected at character 1"),
        ("a", "one of eq, ne, "),
        ("a is b", "before character 6"),
        ("a eq", "a value is expected at character 5"),
        ('a eq "b', "a value is expected at character 6"),
        (r'a eq "\x"', "no JSON string"),
        ("a eq A b", "and, or, or the end is expected at character 8"),
        ("a eq A and", "the name of a search parameter is expected at character 11"),
        ("(a eq A", ") is expected at character 8"),
        ("a eq A)", "and, or, or the end is expected at character 7"),
        ("not a eq A", "one of eq, ne, "),
        ("a[b eq B] eq A", "a point and the name"),
        ("a. eq A", "the name of a search parameter is expected at character 3"),
        ("(" * 21 + "a eq A" + ")" * 21, "more than 20 levels"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(FilterError) as raised:
        parse_filter(text)
    assert message in str(raised.value)


@given(st.text(alphabet='ab()[]. "\\,not:eq|$', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SearchError):
        query, _ = parse_query("Patient", [("_filter", text)], BASE)
        assert not text or query.criteria


SYSTEM = "urn:oid:1.2.3"
RESOURCES: list[dict[str, Any]] = [
    {
        "resourceType": "Patient",
        "id": "helene",
        "meta": {"tag": [{"code": "seen"}]},
        "active": True,
        "identifier": [{"system": SYSTEM, "value": "1,2"}, {"system": SYSTEM, "value": r"back\slash"}],
        "name": [{"family": "Éon-Martin", "given": ["Hélène", "Marie"]}],
        "gender": "female",
        "birthDate": "1979-03-05",
    },
    {
        "resourceType": "Patient",
        "id": "paul",
        "name": [{"family": "Martin", "given": ["Paul"]}],
        "gender": "male",
        "birthDate": "1980-06",
        "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Un voisin</div>'},
    },
    {"resourceType": "Patient", "id": "nobody"},
    {
        "resourceType": "Observation",
        "id": "weight",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "subject": {"reference": "Patient/helene"},
        "effectivePeriod": {"start": "2026-01-10", "end": "2026-01-20"},
        "valueQuantity": {"value": 62.5, "system": "http://unitsofmeasure.org", "code": "kg"},
    },
    {
        "resourceType": "Observation",
        "id": "height",
        "status": "amended",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8302-2"}]},
        "subject": {"reference": "Patient/paul"},
        "effectiveDateTime": "2026-02-01",
    },
    {
        "resourceType": "List",
        "id": "old",
        "status": "current",
        "mode": "working",
        "extension": [
            {
                "url": "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-ext-is-archived",
                "valueBoolean": True,
            }
        ],
    },
    {"resourceType": "List", "id": "new", "status": "current", "mode": "working"},
    {"resourceType": "ValueSet", "id": "set", "status": "active", "url": "http://example.org/v/set"},
]

MATCHES: dict[tuple[str, str], list[str]] = {
    # strings
    ("Patient", "given eq helene"): ["helene"],
    ("Patient", "given eq hel"): [],
    ("Patient", "given sw hel"): ["helene"],
    ("Patient", 'name co "on mar"'): ["helene"],
    ("Patient", "family ew MARTIN"): ["helene", "paul"],
    ("Patient", "given ne marie"): ["helene", "paul"],
    ("Patient", "not (given eq marie)"): ["paul", "nobody"],
    # tokens
    ("Patient", "gender eq female"): ["helene"],
    ("Patient", "gender ne female"): ["paul"],
    ("Patient", "identifier eq urn:oid:1.2.3|1,2"): ["helene"],
    ("Patient", r'identifier eq "urn:oid:1.2.3|back\\slash"'): ["helene"],
    ("Patient", "_tag eq seen"): ["helene"],
    ("Patient", "_id eq paul or _id eq nobody"): ["paul", "nobody"],
    ("Patient", "_id ne paul"): ["helene", "nobody"],
    ("List", "isArchived eq false"): ["new"],
    ("List", "isArchived ne true"): ["new"],
    # presence
    ("Patient", "birthdate pr true"): ["helene", "paul"],
    ("Patient", "birthdate pr false and active pr false"): ["nobody"],
    # dates, numbers
    ("Patient", "birthdate eq 1979"): ["helene"],
    ("Patient", "birthdate ne 1979"): ["paul"],
    ("Patient", "birthdate gt 1979-03-05 and birthdate le 1980"): ["paul"],
    ("Patient", "_lastUpdated gt 2025 and gender eq male"): ["paul"],
    ("Observation", "date po 2026-01-15"): ["weight"],
    ("Observation", "date eq 2026-01-15"): [],
    ("Observation", "date sa 2026-01-20"): ["height"],
    ("Observation", "date eb 2026-02"): ["weight"],
    ("Observation", "value-quantity gt 62"): ["weight"],
    ("Observation", "value-quantity ap 60||kg"): ["weight"],
    ("Observation", "code-value-quantity eq http://loinc.org|29463-7$gt60"): ["weight"],
    # references, chains
    ("Observation", "subject re Patient/helene"): ["weight"],
    ("Observation", "subject ne Patient/helene"): ["height"],
    ("Observation", "patient.name co martin and not (patient.gender eq male)"): ["weight"],
    ("Observation", "subject:Patient[gender eq female].family ew martin"): ["weight"],
    ("Observation", "subject:Patient[gender eq female and given eq paul].family ew martin"): [],
    ("Patient", "_has:Observation:patient:code eq 8302-2"): ["paul"],
    ("Patient", "_has:Observation:patient:date ge 2026-02 or birthdate pr false"): ["paul", "nobody"],
    # uri, texts
    ("ValueSet", "url eq http://example.org/v/set"): ["set"],
    ("ValueSet", "url sw http://example.org/"): ["set"],
    ("ValueSet", "url ne http://example.org/"): ["set"],
    ("Patient", "_text co voisin"): ["paul"],
    # grouping
    ("Patient", "gender eq male or gender eq female and active eq true"): ["helene"],
    ("Patient", "gender eq male or (gender eq female and active eq true)"): ["helene", "paul"],
}


def test_what_filters_find(store: Store) -> None:
    add(store, *RESOURCES)
    found = {asked: ids(store, f"{asked[0]}?{urlencode({'_filter': asked[1]})}") for asked in MATCHES}
    assert found == MATCHES


def test_filters_beside_other_parameters(store: Store) -> None:
    add(store, *RESOURCES)
    filters = urlencode({"_filter": "gender eq male or gender eq female"})
    assert ids(store, f"Patient?{filters}&given=paul") == ["paul"]
    assert ids(store, f"Patient?{filters}&{urlencode({'_filter': 'active eq true'})}") == ["helene"]
    assert ids(store, f"Patient?{filters}&_sort=-birthdate") == ["paul", "helene"]


def test_filters_over_several_types(store: Store) -> None:
    add(store, *RESOURCES)
    filters = urlencode({"_filter": "not (subject re Patient/paul)"})
    assert ids(store, f"?_type=Observation,List&{filters}") == ["weight", "old", "new"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nothing eq x", "not-supported"),
        ("given:exact eq x", "not-supported"),
        ("birthdate co 1979", "not-supported"),
        ("given gt x", "not-supported"),
        ("birthdate eq x", "value"),
        (r'_id eq "\u0000"', "value"),
        (r'_text co "\ud800"', "value"),
        ("birthdate pr maybe", "value"),
        ("gender in http://example.org/v", "not-supported"),  # no terminology here
        ("gender.name eq x", "not-supported"),
        ("_has:Observation:code:status eq x", "not-supported"),
        (" or ".join(["given eq x"] * 120), "too-costly"),
        ("patient." * 9 + "name eq x", "not-supported"),
    ],
)
def test_filters_that_are_refused(text: str, code: str) -> None:
    texts = [text] if code != "too-costly" else [text, text]
    with pytest.raises(SearchError) as raised:
        parse_query("Patient", [("_filter", one) for one in texts], BASE)
    assert raised.value.issues[0].path == "_filter"
    assert raised.value.issues[0].code == code
