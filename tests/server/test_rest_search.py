"""Searches and conditional interactions over HTTP (FHIR R4 §3.1.1, §3.1.0), on the real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fhirpy import SyncFHIRClient

from support.facade import RunningFacade, issues, running_facade

SYSTEM = "urn:oid:1.2.3"


def patient(value: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": value}], **more}


def plan(subject: str) -> dict[str, Any]:
    return {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": {"reference": subject}}


def found(facade: RunningFacade, query: str, mode: str = "match") -> list[str]:
    answer = facade.get(query)
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", [])
    return [one["fullUrl"].removeprefix(f"{facade.base}/") for one in entries if one["search"]["mode"] == mode]


def test_searchset(facade: RunningFacade) -> None:
    name = facade.created(patient("s-1", name=[{"family": "Éloïse"}]))
    answer = facade.get(f"Patient?identifier={SYSTEM}|s-1").json()
    assert (answer["resourceType"], answer["type"], answer["total"]) == ("Bundle", "searchset", 1)
    assert answer["link"] == [{"relation": "self", "url": f"{facade.base}/Patient?identifier={SYSTEM}|s-1"}]
    (only,) = answer["entry"]
    assert only["fullUrl"] == f"{facade.base}/{name}"
    assert only["resource"] == facade.get(name).json()
    assert answer["meta"]["lastUpdated"] and answer["id"]


@pytest.mark.parametrize(
    "query",
    ["_id={id}", "identifier=s-2", "family=helene", "_lastUpdated=ge2026&identifier=s-2", "_id={id}&_total=accurate"],
)
def test_ways_to_find_a_patient(facade: RunningFacade, query: str) -> None:
    name = found(facade, f"Patient?identifier={SYSTEM}|s-2") or [
        facade.created(patient("s-2", name=[{"family": "Hélène"}]))
    ]
    assert found(facade, f"Patient?{query.format(id=name[0].partition('/')[2])}") == name


def test_include_adds_what_matches_refer_to(facade: RunningFacade) -> None:
    subject = facade.created(patient("s-3"))
    name = facade.created(plan(subject))
    query = f"CarePlan?patient={subject}&_include=CarePlan:subject"
    assert found(facade, query) == [name]
    assert found(facade, query, "include") == [subject]
    assert found(facade, f"CarePlan?patient:Patient.identifier={SYSTEM}|s-3") == [name]


def test_post_search_joins_form_and_address(facade: RunningFacade) -> None:
    name = facade.created(patient("s-4", gender="other"))
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    for path, body in (
        ("Patient/_search", f"identifier={SYSTEM}%7Cs-4&gender=other"),
        ("Patient/_search?gender=other", "identifier=s-4"),
        ("Patient/_search?gender=other&identifier=s-4", ""),
    ):
        answer = facade.request("POST", path, body.encode(), **form)
        assert answer.status_code == 200, answer.text
        assert [one["fullUrl"] for one in answer.json()["entry"]] == [f"{facade.base}/{name}"]
    wrong = facade.request("POST", "Patient/_search", b"identifier=x", Content_Type="application/fhir+json")
    assert wrong.status_code == 415


def test_pages_are_followed_to_the_end(facade: RunningFacade) -> None:
    names = [facade.created(patient(f"page-{number}", active=True, language="fr-FR")) for number in range(7)]
    address: str | None = "Patient?active=true&_count=3"
    seen: list[str] = []
    while address:
        seen += found(facade, address)
        links = {link["relation"]: link["url"] for link in facade.get(address).json()["link"]}
        address = links.get("next")
    assert seen == names
    assert found(facade, links["previous"]) == names[3:6]
    assert found(facade, links["first"]) == names[:3]
    back = {link["relation"]: link["url"] for link in facade.get(links["previous"]).json()["link"]}
    assert found(facade, back["previous"]) == names[:3]
    assert found(facade, back["next"]) == names[6:]


@pytest.mark.parametrize("general", ["_format=json", "_format=xml&_pretty=true"])
def test_conditions_may_hold_what_clients_add_to_every_address(facade: RunningFacade, general: str) -> None:
    """HAPI's client writes `_format` into the criteria of conditional interactions too."""
    kind = general.count("&")
    criteria = f"{general}&identifier={SYSTEM}|general-{kind}"
    name = facade.created(patient(f"general-{kind}"))
    again = facade.post("Patient", patient(f"general-{kind}"), If_None_Exist=f"{facade.base}/Patient?{criteria}")
    assert (again.status_code, name in again.headers["Location"]) == (200, True)
    assert facade.put(f"Patient?{criteria}", patient(f"general-{kind}")).status_code == 200
    patch = b'[{"op": "add", "path": "/active", "value": true}]'
    changed = facade.request("PATCH", f"Patient?{criteria}", patch, Content_Type="application/json-patch+json")
    assert changed.status_code == 200
    assert facade.request("DELETE", f"Patient?{general}").status_code == 412
    assert facade.request("DELETE", f"Patient?{criteria}").status_code == 204
    assert facade.get(name).status_code == 410


def test_unknown_parameter_is_refused_unless_asked_otherwise(facade: RunningFacade) -> None:
    strict = facade.get("Patient?colour=blue")
    assert (strict.status_code, issues(strict)[0]["expression"]) == (400, ["colour"])
    lenient = facade.get("Patient?colour=blue&identifier=none", Prefer="handling=lenient").json()
    assert lenient["link"][0]["url"] == f"{facade.base}/Patient?identifier=none"
    (told,) = lenient["entry"]
    assert told["search"]["mode"] == "outcome"
    assert told["resource"]["issue"][0]["severity"] == "warning"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("birthdate=yesterday", 400),
        ("name:mostly=x", 400),
        ("_count=many", 400),
        ("_page=nonsense", 400),
        ("name=%ff", 400),
        ("name=%00", 400),
        ("identifier=" + ",".join(map(str, range(300))), 422),
        ("_include=Patient", 400),
        ("_summary=some", 400),
    ],
)
def test_bad_queries(facade: RunningFacade, query: str, status: int) -> None:
    answer = facade.get(f"Patient?{query}")
    assert answer.status_code == status
    assert issues(answer)


def test_every_stated_search_parameter_is_served(facade: RunningFacade) -> None:
    sample = {
        "date": "2026",
        "number": "1",
        "quantity": "1",
        "uri": "urn:x",
        "reference": "Patient/1",
        "special": "1|2",
    }
    for resource in facade.get("metadata").json()["rest"][0]["resource"]:
        for parameter in resource["searchParam"]:
            if parameter["type"] == "composite":
                continue
            query = f"{resource['type']}?{parameter['name']}={sample.get(parameter['type'], 'x')}"
            assert facade.get(query).status_code == 200, query


@pytest.mark.parametrize("criteria", ["identifier=urn:oid:1.2.3|c-1", "?identifier=c-1", "Patient?identifier=c-1"])
def test_conditional_create(facade: RunningFacade, criteria: str) -> None:
    first = facade.post("Patient", patient("c-1"), If_None_Exist=f"identifier={SYSTEM}|c-1")
    again = facade.post("Patient", patient("c-1"), If_None_Exist=criteria)
    assert first.status_code in (200, 201)
    assert again.status_code == 200
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == first.json()


def test_conditional_create_that_matches_several(facade: RunningFacade) -> None:
    facade.created(patient("c-2"))
    facade.created(patient("c-2"))
    answer = facade.post("Patient", patient("c-2"), If_None_Exist="identifier=c-2")
    assert (answer.status_code, issues(answer)[0]["code"]) == (412, "multiple-matches")


@pytest.mark.parametrize("criteria", ["", "?", "_count=1", "identifier="])
def test_conditions_that_select_nothing(facade: RunningFacade, criteria: str) -> None:
    before = facade.count()
    assert facade.post("Patient", patient("c-3"), If_None_Exist=criteria).status_code == 412
    assert facade.request("DELETE", f"Patient?{criteria}").status_code == 412
    assert facade.put(f"Patient?{criteria}", patient("c-3")).status_code == 412
    assert facade.count() == before


def test_parallel_conditional_creates_make_one_resource(facade: RunningFacade) -> None:
    def create(_: int) -> int:
        return facade.post("Patient", patient("c-4"), If_None_Exist=f"identifier={SYSTEM}|c-4").status_code

    with ThreadPoolExecutor(16) as pool:
        answers = sorted(pool.map(create, range(64)))
    assert answers == [200] * 63 + [201]
    assert len(found(facade, "Patient?identifier=c-4")) == 1


def test_conditional_update(facade: RunningFacade) -> None:
    query = f"Patient?identifier={SYSTEM}|c-5"
    created = facade.put(query, patient("c-5"))
    assert created.status_code == 201
    updated = facade.put(query, patient("c-5", gender="male"))
    assert (updated.status_code, updated.headers["ETag"]) == (200, 'W/"2"')
    assert updated.json()["id"] == created.json()["id"]
    assert facade.put(query, patient("c-5", id="another")).status_code == 400
    assert facade.put(query, patient("c-5"), If_Match='W/"1"').status_code == 412
    named = facade.put("Patient?identifier=c-6", patient("c-6", id="c-six"))
    assert (named.status_code, named.json()["id"]) == (201, "c-six")
    facade.created(patient("c-5"))
    assert facade.put(query, patient("c-5")).status_code == 412


def test_conditional_delete(facade: RunningFacade) -> None:
    name = facade.created(patient("c-7"))
    assert facade.request("DELETE", "Patient?identifier=c-7").status_code == 204
    assert facade.get(name).status_code == 410
    assert facade.request("DELETE", "Patient?identifier=c-7").status_code == 204
    assert found(facade, "Patient?identifier=c-7") == []


def test_conditional_delete_of_several(tmp_path: Path) -> None:
    with running_facade(tmp_path, most_deleted=2, workers=1) as facade:
        names = [facade.created(patient("c-8")) for _ in range(3)]
        refused = facade.request("DELETE", "Patient?identifier=c-8")
        assert (refused.status_code, issues(refused)[0]["code"]) == (412, "multiple-matches")
        assert len(found(facade, "Patient?identifier=c-8")) == 3
        facade.request("DELETE", names[0])
        assert facade.request("DELETE", "Patient?identifier=c-8").status_code == 204
        assert [facade.get(name).status_code for name in names] == [410, 410, 410]
        stated = facade.get("metadata").json()["rest"][0]["resource"][0]
        assert stated["conditionalDelete"] == "multiple"


def test_fhirpy_searches(facade: RunningFacade) -> None:
    client = SyncFHIRClient(facade.base)
    subject = facade.created(patient("f-1"))
    facade.created(plan(subject))
    found_plan = client.resources("CarePlan").search(patient=subject).include("CarePlan", "subject").fetch_raw()
    assert {one.resource["resourceType"] for one in found_plan.entry} == {"CarePlan", "Patient"}
    assert client.resources("Patient").search(identifier=f"{SYSTEM}|f-1").first().to_reference().reference == subject
    assert client.resources("Patient").search(identifier="f-1").count() == 1


def test_search_of_the_whole_system(facade: RunningFacade) -> None:
    """R4 §3.1.1.1: without type and without `_type` it is about every resource there is."""
    tagged = {"meta": {"tag": [{"system": SYSTEM, "code": "s-all"}]}}
    subject = facade.created(patient("s-all", **tagged))
    names = [subject, facade.created({**plan(subject), **tagged})]
    assert found(facade, f"?_tag={SYSTEM}|s-all") == names
    assert found(facade, f"?_tag={SYSTEM}|s-all&_sort=-_lastUpdated") == names[::-1]
    assert set(names) <= set(found(facade, "?_count=1000"))
    assert not set(names) & set(found(facade, f"?_tag:not={SYSTEM}|s-all&_count=1000"))
    answer = facade.request("POST", "_search", b"_tag=s-all", Content_Type="application/x-www-form-urlencoded")
    assert [entry["resource"]["resourceType"] for entry in answer.json()["entry"]] == ["Patient", "CarePlan"]
    assert facade.get("?_tag=s-all").json()["link"][0]["url"] == f"{facade.base}/?_tag=s-all"
    assert facade.get("?name=x").status_code == 400  # not every type has it


def test_search_of_several_types_by_what_they_have_in_common(facade: RunningFacade) -> None:
    subject, other = facade.created(patient("s-both", gender="male")), facade.created(patient("s-neither"))
    names = [facade.created(plan(subject)), facade.created({**TEAM, "subject": {"reference": subject}})]
    facade.created(plan(other))
    assert found(facade, f"?_type=CarePlan,CareTeam&patient={subject}") == names
    assert found(facade, f"?_type=CarePlan,CareTeam&patient.identifier={SYSTEM}|s-both") == names
    assert found(facade, f"?_type=CarePlan,CareTeam&patient={subject}&status:not=active") == names[1:]
    assert found(facade, f"?_type=CarePlan,CareTeam&patient={subject}&status:missing=true") == names[1:]
    assert facade.get(f"?_type=CarePlan,CareTeam&intent=plan&patient={subject}").status_code == 400


TEAM = {"resourceType": "CareTeam"}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_contained=false", 200),
        ("_contained=false&_containedType=container", 200),
        ("_contained=true", 400),
        ("_contained=both", 400),
        ("_contained=some", 400),
        ("_containedType=some", 400),
        ("_query=some", 400),
    ],
)
def test_contained_resources_are_no_matches(facade: RunningFacade, query: str, status: int) -> None:
    answer = facade.get(f"Patient?{query}&_count=1")
    assert answer.status_code == status
    if status == 200:
        assert query in answer.json()["link"][0]["url"]
    else:
        assert issues(answer)[0]["expression"] == [query.partition("=")[0]]


def test_a_filter_is_a_criterion_of_conditional_interactions(facade: RunningFacade) -> None:
    criteria = f'_filter=identifier eq "{SYSTEM}|s-filter" and gender ne male'
    first = facade.post("Patient", patient("s-filter", gender="female"), If_None_Exist=criteria)
    second = facade.post("Patient", patient("s-filter", gender="female"), If_None_Exist=criteria)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert found(facade, f"Patient?{criteria}") == [f"Patient/{first.json()['id']}"]
