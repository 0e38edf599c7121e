"""Searches on both engines: what matches, what is included, how pages follow each other, what is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import delete

from relais.cda.errors import Issue
from relais.server.search import SearchError, explain, index_rows, reindex, search
from relais.server.search.parser import parse_query
from relais.server.search.query import Query
from relais.server.store import Store, indexes, schema
from support.searches import BASE, START, add, run

LOINC = "http://loinc.org"
INS = "urn:oid:1.2.250.1.213.1.4.10"

RESOURCES: list[dict[str, Any]] = [
    {
        "resourceType": "Patient",
        "id": "helene",
        "active": True,
        "identifier": [
            {"system": INS, "value": "279035121518989"},
            {
                "system": "urn:oid:1.2.3",
                "value": "A|1,b$c\\d",
                "type": {
                    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PI"}],
                    "text": "N° interne",
                },
            },
        ],
        "name": [{"family": "D'ÉON-Martin", "given": ["Hélène", "Marie"]}],
        "telecom": [{"system": "email", "use": "home", "value": "helene@example.org"}],
        "gender": "female",
        "birthDate": "1979-03-05",
        "address": [{"city": "L'Haÿ-les-Roses", "postalCode": "94240"}],
        "generalPractitioner": [{"reference": f"{BASE}/Practitioner/doc"}],
    },
    {
        "resourceType": "Patient",
        "id": "paul",
        "active": False,
        "identifier": [{"system": "urn:oid:1.2.3", "value": "a|1,b$c\\d"}, {"value": "no-system"}],
        "name": [{"family": "Martin", "given": ["Paul"]}],
        "gender": "male",
        "birthDate": "1979-03",
        "deceasedDateTime": "2020-01-01",
        "generalPractitioner": [{"reference": "https://elsewhere.example/fhir/Practitioner/doc"}],
    },
    {"resourceType": "Patient", "id": "nobody"},
    {"resourceType": "Group", "id": "helene", "type": "person", "actual": True},
    {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "Lœwe"}]},
    {"resourceType": "Practitioner", "id": "nurse", "name": [{"family": "Petit"}]},
    {
        "resourceType": "CareTeam",
        "id": "team",
        "subject": {"reference": "Patient/helene"},
        "participant": [
            {"member": {"reference": "Practitioner/doc"}},
            {"member": {"reference": "Practitioner/nurse/_history/1"}},
            {"member": {"identifier": {"system": "https://rpps.esante.gouv.fr", "value": "10001234567"}}},
        ],
    },
    {
        "resourceType": "CarePlan",
        "id": "plan",
        "status": "active",
        "intent": "plan",
        "subject": {"reference": "Patient/helene"},
        "careTeam": [{"reference": "CareTeam/team"}],
        "period": {"start": "2024-03-31", "end": "2024-10-27"},
        "instantiatesCanonical": [
            "http://example.org/plan|1.0",
            f"{BASE}/PlanDefinition/pps|1",
            f"{BASE}/PlanDefinition/pps|2",
        ],
        "instantiatesUri": ["http://example.org/guides/pps/2022"],
    },
    {
        "resourceType": "CarePlan",
        "id": "group-plan",
        "status": "draft",
        "intent": "plan",
        "subject": {"reference": "Group/helene"},
        "period": {"start": "2025"},
    },
    {
        "resourceType": "Observation",
        "id": "temperature",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "8310-5", "display": "Température corporelle"}]},
        "subject": {"reference": "Patient/helene"},
        "effectiveDateTime": "2024-03-31T10:00:00+02:00",
        "valueQuantity": {"value": 37.50, "unit": "°C", "system": "http://unitsofmeasure.org", "code": "Cel"},
    },
    {
        "resourceType": "Observation",
        "id": "pressure",
        "status": "amended",
        "code": {"coding": [{"system": LOINC, "code": "85354-9"}], "text": "Pression"},
        "subject": {"reference": "Patient/paul"},
        "effectiveInstant": "2024-04-01T00:30:00+02:00",
        "component": [
            {
                "code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
                "valueQuantity": {"value": 120, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
            },
            {
                "code": {"coding": [{"system": LOINC, "code": "8462-4"}]},
                "valueQuantity": {"value": 80, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
            },
        ],
    },
    {
        "resourceType": "DocumentReference",
        "id": "reply",
        "status": "current",
        "content": [{"attachment": {"url": "http://x"}}],
        "relatesTo": [{"code": "appends", "target": {"reference": "DocumentReference/note"}}],
    },
]

Ids = Callable[..., list[str]]


def parse(query: str) -> tuple[Query, list[Issue]]:
    resource_type, _, parameters = query.partition("?")
    return parse_query(resource_type, parse_qsl(parameters), BASE)


@pytest.fixture
def ids(store: Store) -> Ids:
    """Ids of the matches of a query on a store with RESOURCES."""
    add(store, *RESOURCES)
    return lambda query, **options: [match.id for match in run(store, query, **options).matches]


MATCHES = {
    # all, by id
    "Patient": ["helene", "paul", "nobody"],
    "Patient?_id=paul": ["paul"],
    "Patient?_id=paul,helene,none": ["helene", "paul"],
    "CareTeam?_id=plan": [],
    "Patient?_id=system|paul": [],
    "Slot": [],
    # token
    f"Patient?identifier={INS}|279035121518989": ["helene"],
    f"Patient?identifier={INS}|2 79 03 51 215 189 89": ["helene"],
    "Patient?identifier=279035121518989": ["helene"],
    "Patient?identifier=|no-system": ["paul"],
    "Patient?identifier=|279035121518989": [],
    "Patient?identifier=urn:oid:1.2.3|": ["helene", "paul"],
    r"Patient?identifier=urn:oid:1.2.3|A\|1\,b\$c\\d": ["helene"],
    "Patient?identifier=279035121518989,no-system": ["helene", "paul"],
    "Patient?identifier=279035121518989&identifier=no-system": [],
    "Patient?identifier:not=no-system": ["helene", "nobody"],
    "Patient?identifier:missing=true": ["nobody"],
    "Patient?identifier:missing=false": ["helene", "paul"],
    r"Patient?identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|PI|A\|1\,b\$c\\d": ["helene"],
    "Patient?identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|PI|279035121518989": [],
    "Patient?identifier:text=n° interne": ["helene"],
    "Patient?gender=female": ["helene"],
    "Patient?gender=http://hl7.org/fhir/administrative-gender|female": ["helene"],
    "Patient?gender=http://example.org|female": [],
    "Patient?gender=FEMALE": [],
    "Patient?gender:not=female": ["paul", "nobody"],
    "Patient?active=true": ["helene"],
    "Patient?active=false": ["paul"],
    "Patient?deceased=true": ["paul"],
    "Patient?deceased=false": ["helene", "nobody"],
    "Patient?email=helene@example.org": ["helene"],
    "Patient?telecom=email|helene@example.org": ["helene"],
    "Patient?phone=helene@example.org": [],
    "Observation?code=8310-5": ["temperature"],
    "Observation?code=urn:oid:2.16.840.1.113883.6.1|8310-5": ["temperature"],
    "Observation?code:text=temperature": ["temperature"],
    "Observation?code:text=pression": ["pressure"],
    "Observation?status=final,amended": ["temperature", "pressure"],
    # string
    "Patient?name=HELENE": ["helene"],
    "Patient?name=hélè": ["helene"],
    "Patient?given=mar": ["helene"],
    "Patient?family=d éon martin": ["helene"],
    "Patient?family=D’EON": ["helene"],
    "Patient?family=martin": ["paul"],
    "Patient?family:contains=MARTIN": ["helene", "paul"],
    "Patient?family:contains=_": None,
    "Patient?family:exact=Martin": ["paul"],
    "Patient?family:exact=MARTIN": [],
    "Patient?given:exact=Hélène": ["helene"],
    "Patient?given:exact=Helene": [],
    "Patient?address=l hay": ["helene"],
    "Patient?address-postalcode=94": ["helene"],
    "Practitioner?name=loewe": ["doc"],
    "Patient?name:missing=true": ["nobody"],
    # date
    "Patient?birthdate=1979-03-05": ["helene"],
    "Patient?birthdate=1979-03": ["helene", "paul"],
    "Patient?birthdate=1979": ["helene", "paul"],
    "Patient?birthdate=ne1979-03-05": ["paul"],
    "Patient?birthdate=gt1979-03-05": ["paul"],
    "Patient?birthdate=ge1979-03-05": ["helene", "paul"],
    "Patient?birthdate=lt1979-03-05": ["paul"],
    "Patient?birthdate=sa1979-03-04": ["helene"],
    "Patient?birthdate=eb1979-03-06": ["helene"],
    "Patient?birthdate=sa1979-03-05": [],
    "Patient?birthdate=ge1979-03-01&birthdate=le1979-03-31": ["helene", "paul"],
    "Patient?birthdate=ap1979": ["helene", "paul"],
    "Patient?birthdate=ap1960": [],
    "Patient?birthdate:missing=true": ["nobody"],
    "Observation?date=2024-03-31": ["temperature"],
    "Observation?date=2024-04-01": ["pressure"],
    "Observation?date=2024-03": ["temperature"],
    "Observation?date=2024-03-31T08:00:00Z": ["temperature"],
    "Observation?date=2024-03-31T10:00:00 02:00": ["temperature"],
    "CarePlan?date=ge2024-10-27": ["group-plan"],  # plan ends on that day: neither above it nor inside it
    "CarePlan?date=ge2024-10-26": ["plan", "group-plan"],
    "CarePlan?date=gt2024-10-27": ["group-plan"],
    "CarePlan?date=sa2024-12-31": ["group-plan"],
    "CarePlan?date=2024": ["plan"],
    "CarePlan?date=eb2025": ["plan"],
    "CarePlan?date=2030": [],
    # reference
    "CarePlan?patient=helene": ["plan"],
    "CarePlan?patient=Patient/helene": ["plan"],
    f"CarePlan?patient={BASE}/Patient/helene": ["plan"],
    "CarePlan?patient=Group/helene": [],
    "CarePlan?subject=helene": ["plan", "group-plan"],
    "CarePlan?subject=Group/helene": ["group-plan"],
    "CarePlan?subject:Group=helene": ["group-plan"],
    "CarePlan?subject:Patient=helene": ["plan"],
    "Patient?general-practitioner=doc": ["helene"],
    "Patient?general-practitioner=https://elsewhere.example/fhir/Practitioner/doc": ["paul"],
    "CareTeam?participant=nurse": ["team"],
    "CareTeam?participant:identifier=https://rpps.esante.gouv.fr|10001234567": ["team"],
    "CareTeam?participant:identifier=80001234567": [],
    "CarePlan?care-team:missing=true": ["group-plan"],
    "CarePlan?instantiates-canonical=http://example.org/plan": ["plan"],
    "CarePlan?instantiates-canonical=http://example.org/plan|1.0": ["plan"],
    "CarePlan?instantiates-canonical=http://example.org/plan|2.0": [],
    f"CarePlan?instantiates-canonical={BASE}/PlanDefinition/pps": ["plan"],
    f"CarePlan?instantiates-canonical={BASE}/PlanDefinition/pps|2": ["plan"],
    "CarePlan?instantiates-canonical=PlanDefinition/pps": ["plan"],
    # uri
    "CarePlan?instantiates-uri=http://example.org/guides/pps/2022": ["plan"],
    "CarePlan?instantiates-uri=http://example.org/guides": [],
    "CarePlan?instantiates-uri:below=http://example.org/guides": ["plan"],
    "CarePlan?instantiates-uri:above=http://example.org/guides/pps/2022/annex/1": ["plan"],
    # quantity
    "Observation?value-quantity=37.5": ["temperature"],
    "Observation?value-quantity=37": [],
    "Observation?value-quantity=38": ["temperature"],
    "Observation?value-quantity=37.50||°C": ["temperature"],
    "Observation?value-quantity=37.5|http://unitsofmeasure.org|Cel": ["temperature"],
    "Observation?value-quantity=37.5|http://unitsofmeasure.org|K": [],
    "Observation?value-quantity=gt37.5": [],
    "Observation?value-quantity=ge37.5": ["temperature"],
    "Observation?value-quantity=lt37.51": ["temperature"],
    "Observation?value-quantity=ne37.5": [],
    "Observation?value-quantity=ap40": ["temperature"],
    "Observation?value-quantity=ap50": [],
    "Observation?component-value-quantity=gt100": ["pressure"],
    # composite
    "Observation?code-value-quantity=8310-5$37.5": ["temperature"],
    f"Observation?component-code-value-quantity={LOINC}|8480-6$gt100": ["pressure"],
    f"Observation?component-code-value-quantity={LOINC}|8462-4$gt100": [],
    "Observation?component-code-value-quantity=8462-4$gt100,8462-4$lt100": ["pressure"],
    "Observation?code-value-quantity=8310-5$38.5": [],
    "Observation?code-value-quantity=8480-6$gt100": [],
    # parameters that others' rows stand for
    "Observation?combo-code=8310-5": ["temperature"],
    f"Observation?combo-code={LOINC}|8480-6": ["pressure"],
    "Observation?combo-code=8310-5,8480-6": ["temperature", "pressure"],
    "Observation?combo-code:not=8480-6": ["temperature"],
    "Observation?combo-code:missing=true": [],
    "Observation?combo-code:text=temperature": ["temperature"],
    "Observation?combo-value-quantity=gt100": ["pressure"],
    "Observation?combo-value-quantity=37.5|http://unitsofmeasure.org|Cel": ["temperature"],
    "Observation?combo-code-value-quantity=8310-5$37.5": ["temperature"],
    "Observation?combo-code-value-quantity=8480-6$gt100": ["pressure"],
    "Observation?combo-code-value-quantity=8462-4$gt100": [],
    "Patient?phonetic=helene": ["helene"],
    "Patient?_has:Observation:patient:combo-code=8480-6": ["paul"],
    # words
    "Patient?_content=hélène": ["helene"],
    "Patient?_content=nobodyhere": [],
    "DocumentReference?relationship=appends$DocumentReference/note": ["reply"],
    "DocumentReference?relationship=replaces$DocumentReference/note": [],
    # chains
    f"CarePlan?patient.identifier={INS}|279035121518989": ["plan"],
    "CarePlan?subject:Patient.name=helene": ["plan"],
    "CarePlan?subject.name=helene": None,
    "CarePlan?care-team.participant:Practitioner.family=loewe": ["plan"],
    "CarePlan?care-team.participant:Practitioner.family=martin": [],
    "CarePlan?care-team.participant:Practitioner.family:missing=false": ["plan"],
    "CarePlan?patient.gender:not=male": ["plan"],
    "CarePlan?patient._id=helene": ["plan"],
    "Patient?_has:Observation:patient:code=8310-5": ["helene"],
    "Patient?_has:CareTeam:subject:_has:CarePlan:care-team:status=active": ["helene"],
    "Patient?_has:Observation:patient:code=8310-5&gender=male": [],
    # several
    "CarePlan?status=active&patient=helene&date=ge2024&_id=plan": ["plan"],
    "CarePlan?status=active&patient=paul": [],
    "Patient?_lastUpdated=gt2020&gender=male": ["paul"],
    "Patient?_lastUpdated=lt2020": [],
    "Patient?name=": ["helene", "paul", "nobody"],
}


def test_what_matches(ids: Ids) -> None:
    """One store for all: each query is checked on both engines."""
    expected = {query: found for query, found in MATCHES.items() if found is not None}
    assert {query: ids(query) for query in expected} == expected


def test_a_query_reads_the_same_in_any_order_of_its_criteria(ids: Ids) -> None:
    """Whichever criterion drives the statement, the result is the same."""
    terms = [
        "status=active",
        "patient=helene",
        "date=ge2024",
        "patient.name=hel",
        "status:not=draft",
        "_id=plan,group-plan",
    ]
    for some in itertools.permutations(terms, 3):
        assert ids(f"CarePlan?{'&'.join(some)}") == ["plan"]


def test_last_updated_is_a_span_of_a_millisecond(store: Store) -> None:
    patient = {"resourceType": "Patient", "id": "a"}
    with store.transaction() as transaction:
        transaction.put(
            "Patient", "a", 1, b"{}", datetime(2026, 1, 1, 12, 0, 0, 5000, tzinfo=UTC), index_rows(patient, BASE)
        )
    found = {
        value: len(run(store, f"Patient?_lastUpdated={value}").matches)
        for value in (
            "2026-01-01T12:00:00.005Z",
            "2026-01-01T12:00:00Z",
            "ge2026-01-01T12:00:00.005Z",
            "gt2026-01-01T12:00:00.005Z",
            "le2026-01-01T12:00:00.005Z",
            "lt2026-01-01T12:00:00.005Z",
            "sa2026-01-01T12:00:00.004Z",
            "eb2026-01-01T12:00:00.006Z",
            "ne2026-01-01",
        )
    }
    assert list(found.values()) == [1, 1, 1, 0, 1, 0, 1, 1, 0]


# --- Includes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "included"),
    [
        ("CarePlan?_id=plan&_include=CarePlan:patient", ["helene"]),
        ("CarePlan?_include=CarePlan:subject:Group", ["helene"]),
        ("CarePlan?_id=plan&_include=CarePlan:care-team&_include=CareTeam:participant", ["team", "doc", "nurse"]),
        ("CarePlan?_id=plan&_include=CarePlan:*", ["helene", "team"]),
        ("CarePlan?_id=plan&_include=*", ["helene", "team"]),
        ("CarePlan?_id=plan&_include:iterate=*", ["helene", "team", "doc", "nurse"]),
        ("CarePlan?_id=plan&_include:recurse=CarePlan:care-team", ["team"]),
        ("Patient?_id=helene&_revinclude=CarePlan:patient", ["plan"]),
        ("Patient?_id=helene&_revinclude=CarePlan:subject:Group", []),
        ("Patient?_id=helene&_revinclude=CarePlan:*&_revinclude=Observation:subject", ["plan", "temperature"]),
        (
            "Practitioner?_id=nurse&_revinclude=CareTeam:participant&_revinclude:iterate=CarePlan:care-team",
            ["team", "plan"],
        ),
        ("Patient?_id=paul&_include=Patient:general-practitioner", []),
        ("Patient?_id=none&_include=Patient:general-practitioner", []),
    ],
)
def test_includes(store: Store, ids: Ids, query: str, included: list[str]) -> None:
    found = run(store, query).includes
    assert sorted(version.id for version in found) == sorted(included)
    assert ids(query) == ids(query.partition("&_")[0].partition("?_inc")[0])


def test_a_match_is_not_included_and_deleted_resources_are_neither(store: Store, ids: Ids) -> None:
    add(store, {"resourceType": "Practitioner", "id": "doc"})
    with store.transaction() as transaction:
        transaction.delete("Practitioner", "nurse", 2, START)
        transaction.delete("Patient", "paul", 2, START)
    found = run(store, "CareTeam?_include=CareTeam:participant")
    assert [version.id for version in found.includes] == ["doc"]
    assert ids("Patient") == ["helene", "nobody"]
    assert ids("Patient?family=martin") == []
    assert ids("Patient?birthdate:missing=true") == ["nobody"]
    assert ids("Observation?patient.family=martin") == []


# --- Pages ------------------------------------------------------------------------------------------------------------


def every_page(store: Store, query: str, between: Callable[[], None] = lambda: None) -> list[str]:
    found, page = [], None
    while True:
        result = run(store, query, page=page)
        found += [match.id for match in result.matches]
        page = result.next_page
        if page is None:
            return found
        between()


@pytest.mark.parametrize("sort", ["", "&_sort=_id", "&_sort=-_id", "&_sort=_lastUpdated", "&_sort=-_lastUpdated,_id"])
@pytest.mark.parametrize("criterion", ["gender=male", "gender=male,female", "family=m", "_lastUpdated=gt2000"])
def test_pages_hold_everything_once_and_in_order(store: Store, sort: str, criterion: str) -> None:
    names = [f"p{number * 7 % 11:02}" for number in range(11)]
    add(
        store,
        *(
            {"resourceType": "Patient", "id": name, "gender": "male", "name": [{"family": "M"}, {"family": "Mo"}]}
            for name in names
        ),
    )
    found = every_page(store, f"Patient?_count=3&{criterion}{sort}")
    by = {
        "&_sort=_id": sorted(names),
        "&_sort=-_id": sorted(names, reverse=True),
        "&_sort=-_lastUpdated,_id": names[::-1],
    }
    assert found == by.get(sort, names)


def test_pages_stand_while_others_write(store: Store) -> None:
    """Everything that matches from the first page to the last is found exactly once."""
    patient = {"resourceType": "Patient", "gender": "male"}
    add(store, *({**patient, "id": f"p{number}"} for number in range(20)))
    numbers = itertools.count()

    def write() -> None:
        number = next(numbers)
        add(store, {**patient, "id": f"new{number}"}, {**patient, "id": f"p{number * 3}", "active": True})
        with store.transaction() as transaction:
            current = transaction.read("Patient", f"p{19 - number}")
            assert current is not None
            transaction.delete("Patient", f"p{19 - number}", current.version + 1, START)

    found = every_page(store, "Patient?gender=male&_count=4", write)
    assert len(found) == len(set(found))
    assert set(found) >= {name.id for name in run(store, "Patient?gender=male").matches if name.id.startswith("p")}


def test_totals(store: Store, ids: Ids) -> None:
    assert run(store, "Patient").total == 3
    assert run(store, "Patient?_count=2").total is None
    assert run(store, "Patient?_count=2&_total=accurate").total == 3
    assert run(store, "Patient?_count=2&_total=estimate&gender=male,female").total == 2
    nothing = run(store, "Patient?_count=0&family:contains=martin")
    assert (nothing.total, nothing.matches, nothing.next_page) == (2, [], None)
    assert run(store, "Patient?_total=none&_count=1").total is None


@pytest.mark.parametrize(
    "page", ["x", "", "W10", "WzFd" * 3, "WyJhIl0", "WzEuNV0", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OV0", "é"]
)
def test_a_page_that_nobody_gave_is_refused(store: Store, page: str) -> None:
    if page:
        with pytest.raises(SearchError) as raised:
            run(store, "Patient", page=page)
        assert raised.value.issues[0].path == "_page"
    else:
        assert run(store, "Patient", page=page).matches == []


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("Patient?unknown=1", "not-supported"),
        ("Patient?Gender=male", "not-supported"),
        ("Patient?_text=--", "value"),
        ("Patient?_text=a NOT b", "not-supported"),
        ("Patient?_content:exact=a", "not-supported"),
        ("Location?near=1", "value"),
        ("Location?near=91|2|3", "value"),
        ("Location?near=1|2|3|leagues", "value"),
        ("Patient?_list=$current-problems", "not-supported"),
        ("Patient?_list=a/b", "value"),
        ("Observation?code:in=http://example.org/vs", "not-supported"),
        ("Observation?code:not-in=http://example.org/vs", "not-supported"),
        ("Observation?code:below=8310-5", "not-supported"),
        ("?_type=Patient,Nothing", "value"),
        ("Patient?gender:below=x", "not-supported"),
        ("Patient?gender:Patient=x", "not-supported"),
        ("Patient?name:not=x", "not-supported"),
        ("Patient?_id:missing=true", "not-supported"),
        ("Patient?_id:not=paul", "not-supported"),
        ("Patient?_lastUpdated:exact=2020", "not-supported"),
        ("Patient?birthdate=soon", "value"),
        ("Patient?birthdate=xx2020", "value"),
        ("Patient?birthdate=2020,2021-13", "value"),
        ("Patient?identifier=a|b|c", "value"),
        ("Patient?identifier=|", "value"),
        ("Patient?identifier:missing=maybe", "value"),
        ("Patient?identifier:of-type=a|b", "value"),
        ("Patient?identifier=,,", "value"),
        ("Patient?name=--", "value"),
        ("Patient?name=a%00b", "value"),
        (f"Patient?name={'a' * 2001}", "too-long"),
        (f"Patient?identifier={','.join(map(str, range(201)))}", "too-costly"),
        ("Observation?value-quantity=abc", "value"),
        ("Observation?value-quantity=1|a", "value"),
        ("Observation?value-quantity=1e999", "value"),
        ("Observation?code-value-quantity=8310-5", "value"),
        ("CarePlan?status.name=x", "not-supported"),
        ("CarePlan?patient:Group.name=x", "not-supported"),
        ("CarePlan?patient:Nothing.name=x", "not-supported"),
        ("CarePlan?patient.unknown=x", "not-supported"),
        ("CarePlan?patient.birthdate=x", "value"),
        ("List?item._id=x", "too-costly"),
        (f"Organization?{'partof.' * 8}name=x", "too-costly"),
        ("Patient?_has:Observation:patient=x", "value"),
        ("Patient?_has:Nothing:patient:code=x", "not-supported"),
        ("Patient?_has:Observation:code:code=x", "not-supported"),
        ("Patient?_has:Device:location:status=x", "not-supported"),
        ("Patient?_count=-1", "value"),
        ("Patient?_count=many", "value"),
        ("Patient?_sort=nothing", "not-supported"),
        ("Observation?_sort=code-value-quantity", "not-supported"),
        ("Patient?_sort=name,family,given,gender,birthdate,identifier", "too-costly"),
        ("Patient?_total=all", "value"),
        ("Patient?_include=Patient", "value"),
        ("Patient?_include=Patient:nothing", "not-supported"),
        ("Patient?_include=Patient:gender", "not-supported"),
        ("Patient?_include=Nothing:link", "not-supported"),
        ("Patient?_include:other=Patient:link", "not-supported"),
        ("Patient?_revinclude=*", "not-supported"),
    ],
)
def test_mistakes_are_named(query: str, code: str) -> None:
    name = query.partition("?")[2].partition("=")[0]
    with pytest.raises(SearchError) as raised:
        parse(query)
    assert [(issue.code, issue.path) for issue in raised.value.issues] == [(code, name)]


def test_every_mistake_is_told_and_no_value_repeated() -> None:
    with pytest.raises(SearchError) as raised:
        parse("Patient?unknown=dupont&birthdate=dupont&gender:below=dupont&name=ok")
    assert [issue.path for issue in raised.value.issues] == ["unknown", "birthdate", "gender:below"]
    assert "dupont" not in str(raised.value)


def test_a_lenient_search_ignores_and_says_so(ids: Ids, store: Store) -> None:
    result = run(store, "Patient?unknown=1&gender=male&gender:below=x&_sort=nothing", strict=False)
    assert [match.id for match in result.matches] == ["paul"]
    assert [issue.path for issue in result.issues] == ["unknown", "gender:below", "_sort"]
    assert result.applied == (("gender", "male"),)
    with pytest.raises(SearchError):
        run(store, "Patient?birthdate=x", strict=False)


def test_applied_tells_what_was_searched() -> None:
    query, _ = parse("CarePlan?status=active&_count=5000&_include=CarePlan:patient&status=active&date=")
    assert query.applied == (
        ("status", "active"),
        ("_count", "5000"),
        ("_include", "CarePlan:patient"),
    )


# --- The index --------------------------------------------------------------------------------------------------------


def test_a_transaction_finds_its_own_writes(store: Store) -> None:
    patient = {"resourceType": "Patient", "id": "a", "gender": "male"}
    with store.transaction() as transaction:
        transaction.put("Patient", "a", 1, b"{}", START, index_rows(patient, BASE))
        assert len(search(transaction.connection, BASE, "Patient", [("gender", "male")]).matches) == 1
        assert run(store, "Patient?gender=male").matches == []


def test_only_the_current_version_is_found(store: Store, ids: Ids) -> None:
    add(store, {"resourceType": "Patient", "id": "paul", "gender": "female"})
    assert ids("Patient?gender=male") == []


def test_reindexing_restores_every_row(store: Store, ids: Ids) -> None:
    with store.transaction() as transaction:
        for table in schema.INDEX_TABLES.values():
            transaction.connection.execute(delete(table))
        transaction.delete("Group", "helene", 2, START)
    assert ids("Patient?gender=male") == []
    seen: list[int] = []
    assert reindex(store, BASE, json.loads, resource_type="Patient", progress=seen.append) == 3
    assert seen == [3]
    assert ids("Patient?gender=male") == ["paul"]
    assert ids("CarePlan?status=active") == []
    assert reindex(store, BASE, json.loads) == len(RESOURCES)
    assert ids("CarePlan?status=active") == ["plan"]
    assert ids("CarePlan?patient.name=hel") == ["plan"]


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_words_are_found_wherever_they_are_kept(store: Store, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """New texts, settled ones, replaced ones, and those of what is deleted."""
    monkeypatch.setattr(indexes, "_MOST_RECENT", most)
    monkeypatch.setattr(indexes, "_LOOK_EVERY", 1)

    def found(words: str) -> list[str]:
        return [match.id for match in run(store, f"Basic?_content={words}").matches]

    def basic(number: int, *words: str) -> dict[str, Any]:
        return {"resourceType": "Basic", "id": f"b{number}", "code": {"text": " ".join(words)}}

    for number in range(5):
        add(store, basic(number, "every", f"only{number}"))
    everyone = [f"b{number}" for number in range(5)]
    assert found("every") == everyone
    assert found("every only3") == ["b3"]
    assert found("only") == found("every only9") == []
    assert found("only1 OR only4") == ["b1", "b4"]
    with store.transaction() as transaction:
        changed = transaction.read("Basic", "b1")
        assert changed is not None
        transaction.reindex(changed.key, index_rows(basic(1, "other"), BASE))
        transaction.delete("Basic", "b2", 2, START)
    assert found("every") == ["b0", "b3", "b4"]
    assert found("only1") == []
    assert found("other") == ["b1"]
    assert [match.id for match in run(store, "Basic?_content=other&_content=b1").matches] == ["b1"]


DRIVEN = {
    "Patient?identifier=a|b": "token_index_by_value (parameter=? AND code=? AND system=?)",
    "Patient?identifier=b": "token_index_by_value (parameter=? AND code=?)",
    "Patient?family=m": "string_index_by_value (parameter=? AND <expr>>? AND <expr><?)",
    "CarePlan?patient=a": "reference_index_by_value (parameter=? AND target=? AND target_type=?)",
    "CarePlan?patient.identifier=a": "reference_index_by_value (parameter=? AND target=? AND target_type=?)",
    "Patient?_has:Observation:patient:code=a": "token_index_by_value (parameter=? AND code=?)",
    "Observation?date=2024": "date_index_by_low (parameter=? AND low>? AND low<?",
    "Observation?date=ge2024": "date_index_by_high (parameter=? AND high>?)",
    "Observation?status=final&subject=Patient/a": "token_index_1 USING PRIMARY KEY (resource_key=? AND parameter=?)",
    "Observation?value-quantity=gt5": "quantity_index_by_low (parameter=? AND low>?)",
    "Observation?value-quantity=ge5": "quantity_index_by_high (parameter=? AND high>?)",
    "Observation?combo-code=a|b": "token_index_by_value (parameter=? AND code=? AND system=?)",
    "Patient": "resource_by_type (type=?)",
}


@pytest.mark.parametrize("query", DRIVEN)
def test_sqlite_finds_by_index_from_the_first_resource_on(store: Store, query: str) -> None:
    resource_type, _, parameters = query.partition("?")
    with store.snapshot() as connection:
        if connection.dialect.name != "sqlite":
            pytest.skip("PostgreSQL plans by its own statistics")
        found = explain(connection, BASE, resource_type, parse_qsl(parameters))
    assert not [line for line in found["plan"] if line.startswith("SCAN")]
    assert any(DRIVEN[query] in line for line in found["plan"]), found["plan"]


def test_explain_shows_tree_statement_and_plan(store: Store) -> None:
    with store.snapshot() as connection:
        found = explain(connection, BASE, "Patient", [("family", "dupont"), ("birthdate", "ge2000")])
    assert found["tree"].types == ("Patient",)
    assert "string_index" in found["sql"]
    assert found["plan"]
