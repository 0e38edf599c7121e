"""What the CI-SIS volets and French practice ask of searches beyond R4: their own parameters and names, chains through
contained and logical references, places, units, full text, lists, several types, parameters of packages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relais.profiles import definitions
from relais.server.search import declare, index_rows, parameters
from relais.server.search.indexer import index_plan
from relais.server.search.parameters import aliases, declared, forget_declared, table
from relais.server.search.units import canonical_unit
from relais.server.store import Store, TextRow
from support.searches import BASE, add, ids, run

MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition"
ARCHIVED = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-ext-is-archived"
RPPS = "https://rpps.esante.gouv.fr"
UCUM = "http://unitsofmeasure.org"


def near(resource_id: str, latitude: float, longitude: float) -> dict[str, Any]:
    position = {"latitude": latitude, "longitude": longitude}
    return {"resourceType": "Location", "id": resource_id, "position": position}


def weight(resource_id: str, value: float, code: str) -> dict[str, Any]:
    quantity = {"value": value, "unit": code, "system": UCUM, "code": code}
    code_of_weight = {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}
    return {"resourceType": "Observation", "id": resource_id, "code": code_of_weight, "valueQuantity": quantity}


RESOURCES: list[dict[str, Any]] = [
    {
        "resourceType": "DocumentReference",
        "id": "contained",
        "status": "current",
        "extension": [{"url": ARCHIVED, "valueBoolean": True}],
        "contained": [
            {
                "resourceType": "PractitionerRole",
                "id": "role",
                "practitioner": {"reference": "#doctor"},
                "specialty": [{"coding": [{"code": "SM26"}]}],
            },
            {
                "resourceType": "Practitioner",
                "id": "doctor",
                "identifier": [{"system": RPPS, "value": "10001234567"}],
                "name": [{"family": "Lefèvre", "given": ["Anaïs"]}],
            },
            {"resourceType": "Patient", "id": "source", "name": [{"family": "Source"}]},
        ],
        "subject": {"reference": "Patient/helene"},
        "author": [{"reference": "#role"}, {"reference": "#doctor"}],
        "context": {
            "sourcePatientInfo": {"reference": "#source"},
            "period": {"start": "2026-01-02", "end": "2026-01-05"},
        },
        "content": [{"attachment": {"contentType": "text/xml", "creation": "2026-01-03T10:00:00+01:00"}}],
    },
    {
        "resourceType": "DocumentReference",
        "id": "outside",
        "status": "current",
        "contained": [
            {"resourceType": "PractitionerRole", "id": "role", "practitioner": {"reference": "Practitioner/petit"}}
        ],
        "author": [{"reference": "#role"}],
    },
    {
        "resourceType": "DocumentReference",
        "id": "logical",
        "status": "current",
        "subject": {"type": "Patient", "identifier": {"system": "urn:oid:1.2.3", "value": "42"}},
        "author": [{"identifier": {"system": RPPS, "value": "10001234567"}}],
        "extension": [{"url": ARCHIVED, "valueBoolean": False}],
    },
    {"resourceType": "Patient", "id": "helene", "identifier": [{"system": "urn:oid:1.2.3", "value": "42"}]},
    {"resourceType": "Practitioner", "id": "petit", "name": [{"family": "Petit"}]},
    {"resourceType": "PractitionerRole", "id": "petit", "practitioner": {"reference": "Practitioner/petit"}},
    {
        "resourceType": "CareTeam",
        "id": "team",
        "period": {"start": "2026-01", "end": "2026-06"},
        "participant": [
            {"member": {"reference": "PractitionerRole/petit"}, "period": {"start": "2026-02-01", "end": "2026-03-01"}}
        ],
        "managingOrganization": [{"reference": "Organization/cpts"}],
    },
    {
        "resourceType": "Patient",
        "id": "born",
        "extension": [
            {
                "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
                "valueAddress": {"city": "L'Haÿ-les-Roses"},
            }
        ],
    },
    {
        "resourceType": "List",
        "id": "lot",
        "status": "current",
        "mode": "working",
        "extension": [
            {"url": f"{MHD}/ihe-designationType", "valueCodeableConcept": {"coding": [{"code": "04"}]}},
            {"url": f"{MHD}/ihe-sourceId", "valueIdentifier": {"value": "urn:oid:1.2.3.4"}},
        ],
        "contained": [{"resourceType": "Patient", "id": "p", "name": [{"family": "Ève", "given": ["Zoé"]}]}],
        "source": {
            "reference": "#p",
            "extension": [{"url": f"{MHD}/ihe-authorOrg", "valueReference": {"reference": "Organization/cpts"}}],
        },
        "entry": [{"item": {"reference": "DocumentReference/contained"}}, {"item": {"reference": "Patient/helene"}}],
    },
    {
        "resourceType": "Appointment",
        "id": "rdv",
        "status": "booked",
        "start": "2026-02-03T09:00:00+01:00",
        "priority": 5,
    },
    {
        "resourceType": "CommunicationRequest",
        "id": "event",
        "extension": [
            {
                "url": "https://interop.esante.gouv.fr/ig/fhir/nde/StructureDefinition/event-type",
                "valueCodeableConcept": {"coding": [{"code": "ADM"}]},
            }
        ],
    },
    near("paris", 48.8566, 2.3522),
    near("versailles", 48.8049, 2.1204),  # 17.9 km from Paris
    near("taveuni", -16.8, 179.99),
    near("fiji-east", -16.8, -179.99),  # across the antimeridian, 2.1 km
    weight("light", 0.0625, "kg"),
    weight("heavy", 62500, "mg"),
    {
        "resourceType": "Condition",
        "id": "asthma",
        "text": {"status": "additional", "div": "<div>Asthme <b>sévère</b> de l&apos;enfant</div>"},
        "note": [{"text": "Récidive après l'hiver"}],
        "meta": {"tag": [{"system": "urn:t", "code": "shared"}]},
    },
]

MATCHES = {
    # contained and logical
    f"DocumentReference?author:Practitioner.identifier={RPPS}|10001234567": ["contained", "logical"],
    "DocumentReference?author:Practitioner.family=lefevre": ["contained"],
    "DocumentReference?author:Practitioner.given=anais&author:Practitioner.family=lefevre": ["contained"],
    f"DocumentReference?author:PractitionerRole.practitioner.identifier={RPPS}|10001234567": ["contained"],
    "DocumentReference?author:PractitionerRole.specialty=SM26": ["contained"],
    "DocumentReference?author:PractitionerRole.practitioner.family=petit": ["outside"],
    "DocumentReference?author:PractitionerRole.practitioner:Practitioner.family:exact=Petit": ["outside"],
    "DocumentReference?author:Organization.identifier=10001234567": ["logical"],
    "DocumentReference?patient.identifier=urn:oid:1.2.3|42": ["contained", "logical"],
    "DocumentReference?subject:Patient.identifier=42": ["contained", "logical"],
    "DocumentReference?subject:Group.identifier=42": [],
    "DocumentReference?author:Practitioner.family:missing=false": ["contained"],
    "DocumentReference?author:Practitioner.family:not-a-modifier=x": None,
    "Patient?family=source": [],  # a contained resource is never a match
    "Patient?_has:DocumentReference:author:status=current": None,
    "List?source:Patient.given=zoe": ["lot"],
    "List?source:Patient.family:exact=Ève": ["lot"],
    # parameters of the volets
    "DocumentReference?isArchived=true": ["contained"],
    "DocumentReference?isArchived=false": ["outside", "logical"],
    "DocumentReference?isArchived:missing=true": ["outside"],
    "DocumentReference?period-start=ge2026-01-02&period-end=le2026-01-05": ["contained"],
    "DocumentReference?creation=2026-01-03": ["contained"],
    "List?designationType=04&sourceId=urn:oid:1.2.3.4": ["lot"],
    "List?authorOrg=Organization/cpts": ["lot"],
    "CareTeam?start=2026-01&end=ge2026-06": ["team"],
    "CareTeam?participant-start=le2026-02-15&participant-end=ge2026-02-15": ["team"],
    "CareTeam?managingOrganization=cpts": ["team"],
    "Patient?birthplace=l hay": ["born"],
    "Appointment?start=ge2026-02-03&start=lt2026-02-04": ["rdv"],
    "Appointment?priority=5": ["rdv"],
    "CommunicationRequest?event-type=ADM": ["event"],
    # names of other statements
    "DocumentReference?PDSm_isArchived=true": ["contained"],
    "List?DesignationType=04": ["lot"],
    "List?PDSm_List_PatientAsSource:Patient.family=eve": ["lot"],
    "Appointment?GAP_Appointment_priority=5": ["rdv"],
    "PractitionerRole?name=petit": ["petit"],
    "DocumentReference?author:PractitionerRole.name=lefevre": ["contained"],
    "CareTeam?participant:PractitionerRole.family=petit": ["team"],
    # near
    "Location?near=48.8566|2.3522|10": ["paris"],
    "Location?near=48.8566|2.3522|18|km": ["paris", "versailles"],
    "Location?near=48.8566|2.3522|17800|m": ["paris"],
    "Location?near=48.8566|2.3522": ["paris", "versailles"],
    "Location?near=-16.8|180|5": ["taveuni", "fiji-east"],
    "Location?near=0|0|1,48.8049|2.1204|1": ["versailles"],
    "Location?near=0|0|30000": ["paris", "versailles", "taveuni", "fiji-east"],
    "Location?near:missing=false&_id=paris": ["paris"],
    # units
    f"Observation?value-quantity=62.5|{UCUM}|g": ["light", "heavy"],
    f"Observation?value-quantity=gt62|{UCUM}|g": ["light", "heavy"],
    f"Observation?value-quantity=gt62.5|{UCUM}|g": [],
    f"Observation?value-quantity=0.0625|{UCUM}|kg": ["light", "heavy"],
    f"Observation?value-quantity=62.5|{UCUM}|mg": [],
    "Observation?value-quantity=62500": ["heavy"],
    "Observation?value-quantity=0.0625||kg": ["light"],
    f"Observation?code-value-quantity=29463-7$62.5|{UCUM}|g": ["light", "heavy"],
    # full text
    "Condition?_text=asthme": ["asthma"],
    "Condition?_text=SEVERE asthme": ["asthma"],
    "Condition?_text=recidive": [],
    "Condition?_content=récidive enfant": ["asthma"],
    "Condition?_content=bronchite OR hiver": ["asthma"],
    "Condition?_content=bronchite hiver": [],
    'Condition?_content=b"ronchite': [],
    "Condition?_text=asthme&_tag=shared": ["asthma"],
    # lists
    "DocumentReference?_list=lot": ["contained"],
    "Patient?_list=lot&identifier=42": ["helene"],
    "Patient?_list=none": [],
    # several types
    "?_type=Practitioner,PractitionerRole": ["petit", "petit"],
    "?_type=Patient,Condition&_tag=urn:t|shared": ["asthma"],
    "?_type=Patient,DocumentReference&_list=lot": ["contained", "helene"],
    "?_type=Patient,Condition&_content=hiver": ["asthma"],
    "?_id=helene&_type=Patient,Condition": ["helene"],
    "?_type=Patient&identifier=42": ["helene"],
    "Patient?_type=Patient&identifier=42": ["helene"],
}


def test_what_matches(store: Store) -> None:
    add(store, *RESOURCES)
    expected = {query: found for query, found in MATCHES.items() if found is not None}
    assert {query: ids(store, query) for query in expected} == expected


@pytest.mark.parametrize("first", ["status=current", "date:missing=true", "isArchived=true"])
def test_chains_hold_beside_a_criterion_that_drives(store: Store, first: str) -> None:
    add(store, *RESOURCES)
    assert ids(store, f"DocumentReference?{first}&author:Practitioner.family=lefevre&_id=contained,outside") == [
        "contained"
    ]


def test_full_text_follows_the_current_version(store: Store) -> None:
    add(store, {"resourceType": "Condition", "id": "a", "note": [{"text": "asthme"}]})
    add(store, {"resourceType": "Condition", "id": "a", "note": [{"text": "bronchite"}]})
    assert ids(store, "Condition?_content=asthme") == []
    assert ids(store, "Condition?_content=bronchite") == ["a"]
    with store.transaction() as transaction:
        transaction.delete("Condition", "a", 3, transaction.read("Condition", "a").last_updated)  # type: ignore[union-attr]
    assert ids(store, "Condition?_content=bronchite") == []


def test_words_are_those_a_reader_sees() -> None:
    div = '<div title="hidden"><p>Né&#233;</p><p>Œdème&nbsp;A1</p></div>'
    rows = index_rows({"resourceType": "Basic", "id": "x", "text": {"div": div}, "code": {"text": "b"}}, BASE)
    (text,) = (row for row in rows if isinstance(row, TextRow))
    assert text.narrative == "nee oedeme a1"
    assert set(text.everything.split()) >= {"nee", "oedeme", "a1", "b"}
    assert "hidden" not in text.everything


def test_applied_shows_what_an_alias_means(store: Store) -> None:
    applied = {
        "Slot?GAP_Slot_earliestStart=ge2026": "start",
        "Slot?schedule.actor:PractitionerRole.name=x": "schedule.actor:PractitionerRole.practitioner.name",
        "Slot?GAP_Schedule_Actor:Location.name=x": "schedule.actor:Location.name",
        "List?source:PractitionerRole.partOf.family-ex:exact=x": "source:PractitionerRole.practitioner.family:exact",
        "PractitionerRole?name:contains=x": "practitioner.name:contains",
        "AuditEvent?altId=x": "altid",
    }
    assert {query: run(store, query).applied[0][0] for query in applied} == applied


def test_every_alias_means_a_parameter_that_is_served() -> None:
    for owner, written, meant in table("aliases"):
        assert written not in parameters(owner)
        assert meant.partition(".")[0] in parameters(owner)
        assert aliases(owner)[written] == meant


def test_every_parameter_of_the_volets_can_be_indexed() -> None:
    for base, code, *_ in table("volet_parameters"):
        assert code in parameters(base)
        assert code not in index_plan(base).unsupported


def test_the_official_search_parameters_say_the_same(cisis: Any) -> None:
    """Each SearchParameter of the published packages is served under its code with its type."""
    guides = ("gap#", "nde#", "cds#", "cdl#", "pdsm#", "tde#")
    for path in sorted((cisis / "fhir").glob("ans.fhir.fr.*/package/SearchParameter-*.json")):
        if not any(guide in str(path) for guide in guides):
            continue
        official = json.loads(path.read_text())
        for base in official["base"]:
            served = parameters(base)[official["code"]]
            assert served.type == official["type"], path.name


def test_units_convert_exactly() -> None:
    for code, canonical, factor in table("units"):
        assert canonical_unit(UCUM, code) is not None
        assert canonical_unit(UCUM, canonical) == (canonical, 1)
        assert float(factor) > 0


@pytest.fixture
def undeclared() -> Any:
    """Nothing is declared before the test, nor after it."""
    forget_declared()
    yield
    forget_declared()


@pytest.mark.usefixtures("undeclared")
def test_search_parameters_of_packages_are_served(store: Store) -> None:
    declare(
        [
            {
                "resourceType": "SearchParameter",
                "url": "http://example.org/SearchParameter/eye",
                "code": "eye",
                "base": ["Patient"],
                "type": "token",
                "expression": "Patient.extension('http://example.org/eye').value",
            }
        ]
    )
    eye = {"url": "http://example.org/eye", "valueCode": "blue"}
    add(store, {"resourceType": "Patient", "id": "a", "extension": [eye]}, {"resourceType": "Patient", "id": "b"})
    assert ids(store, "Patient?eye=blue") == ["a"]
    assert ids(store, "Patient?eye:missing=true") == ["b"]
    assert "eye" not in definitions.search_parameters("Patient")


@pytest.mark.usefixtures("undeclared")
def test_a_search_parameter_that_cannot_be_served_is_named() -> None:
    broken = {"url": "u", "code": "odd", "base": ["Patient"], "type": "string", "expression": "Patient.name.first()"}
    named = {**broken, "expression": "Patient.name", "url": "v"}
    issues = declare([broken, {**named, "base": ["Nothing"]}, {**named, "type": "composite"}, {**named, "code": None}])
    assert [issue.path for issue in issues] == ["u", "v", "v", "v"]
    assert "odd" not in parameters("Patient")
    assert declared() == {}


@pytest.mark.usefixtures("undeclared")
def test_what_is_served_already_keeps_its_meaning() -> None:
    other = {"url": "u", "code": "family", "base": ["Patient"], "type": "token", "expression": "Patient.gender"}
    assert declare([other]) == []
    assert parameters("Patient")["family"].type == "string"
    assert declared() == {}
