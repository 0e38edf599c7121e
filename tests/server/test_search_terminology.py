"""Searches by value set and by code hierarchy, on both stores, through chains, and what cannot be searched by."""

from __future__ import annotations

from typing import Any

import pytest

from support.facade import RunningFacade, issues

SYSTEM = "http://example.org/CodeSystem/animals"
BIRDS = "http://example.org/ValueSet/birds"

ANIMALS = {
    "resourceType": "CodeSystem",
    "id": "animals",
    "url": SYSTEM,
    "status": "active",
    "content": "complete",
    "concept": [
        {
            "code": "animal",
            "concept": [{"code": "bird", "display": "Oiseau", "concept": [{"code": "owl"}]}, {"code": "cat"}],
        }
    ],
}
VALUE_SET = {
    "resourceType": "ValueSet",
    "id": "birds",
    "url": BIRDS,
    "status": "active",
    "compose": {"include": [{"system": SYSTEM, "filter": [{"property": "concept", "op": "is-a", "value": "bird"}]}]},
}
CODES = ("animal", "bird", "owl", "cat")


@pytest.fixture(scope="module")
def zoo(facade: RunningFacade) -> RunningFacade:
    """A facade with a code system, a value set, and a Condition for each code."""
    for resource in (ANIMALS, VALUE_SET):
        answer = facade.put(f"{resource['resourceType']}/{resource['id']}", resource)
        assert answer.status_code == 201, answer.text
    for code in CODES:
        facade.put(f"Patient/{code}", {"resourceType": "Patient", "id": code, "gender": "female"})
        facade.put(f"Condition/{code}", condition(code, {"coding": [{"system": SYSTEM, "code": code}]}))
    facade.put("Condition/other", condition("other", {"coding": [{"system": "http://example.org/o", "code": "owl"}]}))
    facade.put("Condition/words", condition("words", {"text": "owl"}))
    return facade


def condition(resource_id: str, code: dict[str, Any]) -> dict[str, Any]:
    subject = {"reference": f"Patient/{resource_id if resource_id in CODES else 'cat'}"}
    return {"resourceType": "Condition", "id": resource_id, "code": code, "subject": subject}


def found(facade: RunningFacade, query: str) -> list[str]:
    answer = facade.get(query)
    assert answer.status_code == 200, answer.text
    return sorted(entry["resource"]["id"] for entry in answer.json().get("entry", []))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"Condition?code:in={BIRDS}", ["bird", "owl"]),
        ("Condition?code:in=ValueSet/birds", ["bird", "owl"]),
        (f"Condition?code:in={BIRDS},ValueSet/birds", ["bird", "owl"]),
        (f"Condition?code:not-in={BIRDS}", ["animal", "cat", "other", "words"]),
        (f"Condition?code:below={SYSTEM}|bird", ["bird", "owl"]),
        (f"Condition?code:above={SYSTEM}|bird", ["animal", "bird"]),
        (f"Condition?code:below={SYSTEM}|owl,{SYSTEM}|cat", ["cat", "owl"]),
        (f"Condition?code:in={BIRDS}&code:below={SYSTEM}|owl", ["owl"]),
        (f"Patient?_has:Condition:subject:code:in={BIRDS}", ["bird", "owl"]),
        (f"Patient?_has:Condition:subject:code:above={SYSTEM}|owl", ["animal", "bird", "owl"]),
        ("Condition?subject:Patient.gender:in=http://hl7.org/fhir/ValueSet/administrative-gender", [*CODES, "other"]),
        ("Patient?gender:not-in=http://hl7.org/fhir/ValueSet/administrative-gender", []),
        (f"Condition?_filter=code in {BIRDS} and not (code eq owl)", ["bird"]),
        (f"Condition?_filter=code ni {BIRDS}", ["animal", "cat", "other", "words"]),
        (f"Condition?_filter=code ss {SYSTEM}|bird", ["bird", "owl"]),
        (f"Condition?_filter=code sb {SYSTEM}|bird", ["animal", "bird"]),
    ],
)
def test_value_sets_and_hierarchies_are_searched_by(zoo: RunningFacade, query: str, expected: list[str]) -> None:
    wanted = sorted([*expected, "words"]) if "subject:Patient" in query else sorted(expected)
    assert found(zoo, query) == wanted


def test_pages_of_a_value_set_search_follow_each_other(zoo: RunningFacade) -> None:
    first = zoo.get(f"Condition?code:in={BIRDS}&_count=1").json()
    (following,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
    second = zoo.get(following).json()
    assert {one["entry"][0]["resource"]["id"] for one in (first, second)} == {"bird", "owl"}
    (own,) = [link["url"] for link in first["link"] if link["relation"] == "self"]
    assert "code%3Ain=" in own or "code:in=" in own


def test_a_changed_value_set_counts_at_once(zoo: RunningFacade) -> None:
    url = "http://example.org/ValueSet/changing"
    stored = VALUE_SET | {"id": "changing", "url": url, "compose": {"include": [{"system": SYSTEM}]}}
    assert zoo.put("ValueSet/changing", stored).status_code == 201
    assert found(zoo, f"Condition?code:in={url}") == sorted(CODES)
    only_cats = {"include": [{"system": SYSTEM, "concept": [{"code": "cat"}]}]}
    assert zoo.put("ValueSet/changing", stored | {"compose": only_cats}).status_code == 200
    assert found(zoo, f"Condition?code:in={url}") == ["cat"]
    assert zoo.request("DELETE", "ValueSet/changing").status_code == 204
    assert zoo.get(f"Condition?code:in={url}").status_code == 400


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("code:in=http://example.org/nowhere", "not-found", "is not in the loaded packages"),
        ("code:below=http://snomed.info/sct|138875005", "not-found", "is not in the loaded packages"),
        (f"code:below={SYSTEM}|dragon", "not-found", "not in the code system"),
        ("code:above=owl", "value", "system|code"),
        (f"code:below={SYSTEM}|", "value", "system|code"),
        ("code:in=,", "value", "no value"),
        ("code:in=http://hl7.org/fhir/ValueSet/all-languages", "not-found", "cannot be enumerated"),
        ("_id:in=x", "not-supported", "_id"),
        ("subject:in=x", "not-supported", "reference"),
    ],
)
def test_what_cannot_be_searched_by_is_refused(zoo: RunningFacade, query: str, code: str, said: str) -> None:
    answer = zoo.get(f"Condition?{query}")
    assert answer.status_code == 400
    (issue,) = issues(answer)
    assert (issue["code"], issue["expression"]) == (code, [query.partition("=")[0]])
    assert said in issue["diagnostics"]


def test_a_value_set_that_cannot_be_expanded_is_never_ignored(zoo: RunningFacade) -> None:
    answer = zoo.get("Condition?code:in=http://example.org/nowhere", Prefer="handling=lenient")
    assert answer.status_code == 400


def test_a_value_set_of_too_many_codes_is_refused(zoo: RunningFacade) -> None:
    url = "http://example.org/ValueSet/many"
    listed = [{"code": f"c{number}"} for number in range(5001)]
    many = VALUE_SET | {"id": "many", "url": url, "compose": {"include": [{"system": SYSTEM, "concept": listed}]}}
    assert zoo.put("ValueSet/many", many).status_code == 201
    answer = zoo.get(f"Condition?code:in={url}")
    assert (answer.status_code, issues(answer)[0]["code"]) == (422, "too-costly")


def test_value_sets_in_a_circle_are_refused(zoo: RunningFacade) -> None:
    urls = [f"http://example.org/ValueSet/circle{number}" for number in (0, 1)]
    for number, url in enumerate(urls):
        compose = {"include": [{"valueSet": [urls[1 - number]]}, {"valueSet": [urls[1 - number]]}]}
        zoo.put(f"ValueSet/circle{number}", VALUE_SET | {"id": f"circle{number}", "url": url, "compose": compose})
    answer = zoo.get(f"Condition?code:in={urls[0]}")
    assert (answer.status_code, issues(answer)[0]["code"]) == (400, "not-found")


def test_a_conditional_write_reads_value_sets_too(zoo: RunningFacade) -> None:
    answer = zoo.request("PUT", f"Condition?code:below={SYSTEM}|owl", condition("owl", {"text": "seen"}))
    assert answer.status_code == 200, answer.text
    zoo.put("Condition/owl", condition("owl", {"coding": [{"system": SYSTEM, "code": "owl"}]}))
