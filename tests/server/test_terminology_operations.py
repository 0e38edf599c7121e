"""Terminology operations over HTTP, on packages and on stored resources; what cannot be known is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests

from relais.profiles.structure import check
from support.facade import RunningFacade, issues, running_facade
from support.packages import BASE, write

SYSTEM = f"{BASE}/CodeSystem/animals"
ALL, BIRDS, LATIN = f"{BASE}/ValueSet/animals", f"{BASE}/ValueSet/birds", f"{BASE}/ConceptMap/latin"
SNOMED = "http://snomed.info/sct"

ANIMALS: dict[str, Any] = {
    "resourceType": "CodeSystem",
    "id": "animals",
    "url": SYSTEM,
    "version": "1.0",
    "name": "Animals",
    "status": "active",
    "content": "complete",
    "concept": [
        {
            "code": "animal",
            "display": "Animal",
            "concept": [
                {
                    "code": "bird",
                    "display": "Bird",
                    "definition": "It flies.",
                    "designation": [{"language": "fr-FR", "value": "Oiseau"}],
                    "property": [{"code": "legs", "valueInteger": 2}],
                },
                {"code": "cat", "display": "Cat", "designation": [{"language": "fr", "value": "Chat"}]},
            ],
        }
    ],
}


def value_set(url: str, *includes: dict[str, Any]) -> dict[str, Any]:
    named = url.rpartition("/")[2]
    return {
        "resourceType": "ValueSet",
        "id": named,
        "url": url,
        "status": "active",
        "compose": {"include": list(includes)},
    }


OF_BIRDS = value_set(BIRDS, {"system": SYSTEM, "filter": [{"property": "concept", "op": "is-a", "value": "bird"}]})
OF_ALL = value_set(ALL, {"system": SYSTEM})
TO_LATIN: dict[str, Any] = {
    "resourceType": "ConceptMap",
    "id": "latin",
    "url": LATIN,
    "status": "active",
    "group": [
        {
            "source": SYSTEM,
            "target": f"{BASE}/latin",
            "element": [{"code": "bird", "target": [{"code": "avis", "display": "Avis", "equivalence": "wider"}]}],
        }
    ],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    """A facade whose package has the code system and a value set; another value set and a concept map are stored."""
    folder = tmp_path_factory.mktemp("terminology")
    write(folder / "packages", "org.example.animals", [ANIMALS, OF_ALL])
    with running_facade(folder, fhir_packages=folder / "packages") as facade:
        for resource in (OF_BIRDS, TO_LATIN):
            assert facade.put(f"{resource['resourceType']}/{resource['id']}", resource).status_code == 201
        yield facade


def asked(facade: RunningFacade, path: str, **headers: str) -> dict[str, Any]:
    answer = facade.get(path, **headers)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    assert [issue for issue in check(shown) if issue.severity in ("fatal", "error")] == []
    return shown


def values(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        one["name"]: next((value for key, value in one.items() if key.startswith("value")), None)
        for one in parameters["parameter"]
    }


def codes(shown: dict[str, Any]) -> list[str]:
    return [one["code"] for one in shown["expansion"].get("contains", ())]


def refused(answer: requests.Response) -> tuple[int, str]:
    (issue,) = issues(answer)
    return answer.status_code, issue["code"]


def parameters(**given: Any) -> dict[str, Any]:
    listed = []
    for name, value in given.items():
        if isinstance(value, dict) and "resourceType" in value:
            listed.append({"name": name, "resource": value})
        elif isinstance(value, dict):
            listed.append({"name": name, ("valueCodeableConcept" if "coding" in value else "valueCoding"): value})
        elif isinstance(value, int):
            listed.append({"name": name, "valueInteger": value})
        else:
            listed.append({"name": name, "valueString": value})
    return {"resourceType": "Parameters", "parameter": listed}


# $expand --------------------------------------------------------------------------------------------------------------


def test_value_sets_of_packages_and_of_the_store_are_expanded(served: RunningFacade) -> None:
    assert codes(asked(served, f"ValueSet/$expand?url={ALL}")) == ["animal", "bird", "cat"]
    assert codes(asked(served, f"ValueSet/$expand?url={BIRDS}")) == ["bird"]
    shown = asked(served, "ValueSet/birds/$expand")
    assert (codes(shown), shown["url"]) == (["bird"], BIRDS)
    posted = served.post("ValueSet/$expand", parameters(valueSet=OF_BIRDS | {"url": ALL}))
    assert codes(posted.json()) == ["bird"]
    assert codes(asked(served, "ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender")) == [
        *("female", "male", "other", "unknown")
    ]


def test_an_expansion_is_filtered_and_cut(served: RunningFacade) -> None:
    assert codes(asked(served, f"ValueSet/$expand?url={ALL}&filter=CAT")) == ["cat"]
    shown = asked(served, f"ValueSet/$expand?url={ALL}&count=1&offset=1")
    assert (codes(shown), shown["expansion"]["total"], shown["expansion"]["offset"]) == (["bird"], 3, 1)
    assert codes(asked(served, f"ValueSet/$expand?url={ALL}&count=0")) == []


def test_displays_are_french_for_who_reads_french(served: RunningFacade) -> None:
    def display(path: str, **headers: str) -> list[str]:
        return [one["display"] for one in asked(served, path, **headers)["expansion"]["contains"]]

    address = f"ValueSet/$expand?url={BIRDS}"
    assert display(address) == ["Bird"]
    assert display(address, Accept_Language="fr") == ["Oiseau"]
    assert display(f"{address}&displayLanguage=fr") == ["Oiseau"]
    assert display(f"{address}&displayLanguage=de") == ["Bird"]
    shown = asked(served, f"{address}&includeDesignations=true")["expansion"]["contains"]
    assert shown[0]["designation"] == [{"language": "fr-FR", "value": "Oiseau"}]


def test_what_cannot_be_expanded_is_refused(served: RunningFacade) -> None:
    expected = {
        "url=http://example.org/nowhere": (404, "not-found"),
        "url=http://hl7.org/fhir/ValueSet/all-languages": (422, "not-supported"),
        f"url={ALL}&count=x": (400, "value"),
        f"url={ALL}&other=x": (400, "not-supported"),
        f"url={ALL}&url={BIRDS}": (400, "value"),
        "filter=x": (400, "required"),
    }
    assert {query: refused(served.get(f"ValueSet/$expand?{query}")) for query in expected} == expected
    assert served.get("ValueSet/nobody/$expand").status_code == 404
    snomed = value_set(f"{BASE}/ValueSet/s", {"system": SNOMED})
    assert refused(served.post("ValueSet/$expand", parameters(valueSet=snomed))) == (404, "not-found")
    slow = value_set(
        f"{BASE}/s", {"system": SYSTEM, "filter": [{"property": "code", "op": "regex", "value": "(a+)+$"}]}
    )
    assert refused(served.post("ValueSet/$expand", parameters(valueSet=slow))) == (422, "not-supported")
    broken = parameters(valueSet={"resourceType": "ValueSet", "status": "maybe"})
    assert served.post("ValueSet/$expand", broken).status_code in (400, 422)
    assert refused(served.post("ValueSet/$expand", OF_ALL)) == (400, "invalid")


def test_a_large_expansion_is_asked_for_in_parts(served: RunningFacade) -> None:
    large = value_set(f"{BASE}/l", {"system": SYSTEM, "concept": [{"code": f"c{number}"} for number in range(1200)]})
    assert refused(served.post("ValueSet/$expand", parameters(valueSet=large))) == (422, "too-costly")
    part = served.post("ValueSet/$expand", parameters(valueSet=large, count=300, offset=1000)).json()
    assert (len(codes(part)), part["expansion"]["total"]) == (200, 1200)


def test_value_sets_that_hold_each_other_many_times_are_bounded(served: RunningFacade) -> None:
    names = [f"{BASE}/ValueSet/nest{number}" for number in range(40)]
    for name, inner in zip(names, [*names[1:], ALL], strict=True):
        served.put(f"ValueSet/{name.rpartition('/')[2]}", value_set(name, {"valueSet": [inner]}, {"valueSet": [inner]}))
    assert codes(asked(served, f"ValueSet/$expand?url={names[0]}")) == ["animal", "bird", "cat"]
    query = f"url={names[0]}&system={SYSTEM}&code=cat"
    assert values(asked(served, f"ValueSet/$validate-code?{query}"))["result"] is True


# $validate-code -------------------------------------------------------------------------------------------------------


def test_a_code_is_looked_for_in_a_value_set(served: RunningFacade) -> None:
    address = f"ValueSet/$validate-code?url={BIRDS}&system={SYSTEM}"
    assert values(asked(served, f"{address}&code=bird")) == {"result": True, "display": "Bird"}
    assert values(asked(served, f"{address}&code=cat"))["result"] is False
    wrong = values(asked(served, f"{address}&code=bird&display=Cat", Accept_Language="fr"))
    assert (wrong["result"], wrong["display"]) == (False, "Oiseau")
    assert "libellé" in wrong["message"]
    assert values(asked(served, f"{address}&code=bird&display=oiseau"))["result"] is True
    assert values(asked(served, f"ValueSet/birds/$validate-code?system={SYSTEM}&code=bird"))["result"] is True
    concept = {"coding": [{"system": SNOMED, "code": "1"}, {"system": SYSTEM, "code": "bird"}]}
    posted = served.post("ValueSet/$validate-code", parameters(url=BIRDS, codeableConcept=concept))
    assert values(posted.json())["result"] is True


def test_a_code_is_looked_for_in_a_code_system(served: RunningFacade) -> None:
    address = f"CodeSystem/$validate-code?url={SYSTEM}"
    assert values(asked(served, f"{address}&code=cat"))["result"] is True
    unknown = values(asked(served, f"{address}&code=dragon"))
    assert (unknown["result"], "message" in unknown) == (False, True)
    coding = {"system": SYSTEM, "code": "cat"}
    posted = served.post("CodeSystem/$validate-code", parameters(coding=coding))
    assert values(posted.json())["result"] is True


def test_what_cannot_be_checked_is_never_valid(served: RunningFacade) -> None:
    answer = served.get(f"CodeSystem/$validate-code?url={SNOMED}&code=138875005")
    assert refused(answer) == (404, "not-found")
    assert issues(answer)[0]["diagnostics"].startswith("not checked: ")
    of_snomed = parameters(valueSet=value_set(f"{BASE}/s", {"system": SNOMED}), system=SNOMED, code="1")
    assert refused(served.post("ValueSet/$validate-code", of_snomed)) == (404, "not-found")
    assert refused(served.get("CodeSystem/$validate-code?code=cat")) == (400, "required")
    assert refused(served.get(f"ValueSet/$validate-code?url={ALL}")) == (400, "required")


# $lookup, $subsumes, $translate ---------------------------------------------------------------------------------------


def test_a_code_is_looked_up(served: RunningFacade) -> None:
    found = asked(served, f"CodeSystem/$lookup?system={SYSTEM}&code=bird", Accept_Language="fr")
    assert {name: values(found)[name] for name in ("name", "version", "display")} == {
        "name": "Animals",
        "version": "1.0",
        "display": "Oiseau",
    }
    properties = [values({"parameter": one["part"]}) for one in found["parameter"] if one["name"] == "property"]
    assert {one["code"]: one["value"] for one in properties} == {
        "definition": "It flies.",
        "legs": 2,
        "parent": "animal",
    }
    posted = served.post("CodeSystem/$lookup", parameters(coding={"system": SYSTEM, "code": "cat"}))
    assert values(posted.json())["display"] == "Cat"
    assert refused(served.get(f"CodeSystem/$lookup?system={SYSTEM}&code=dragon")) == (404, "not-found")
    assert refused(served.get(f"CodeSystem/$lookup?system={SNOMED}&code=1")) == (404, "not-found")
    assert refused(served.get("CodeSystem/$lookup?code=bird")) == (400, "required")


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("animal", "cat", "subsumes"),
        ("cat", "animal", "subsumed-by"),
        ("cat", "cat", "equivalent"),
        ("cat", "bird", "not-subsumed"),
    ],
)
def test_codes_subsume_each_other(served: RunningFacade, first: str, second: str, outcome: str) -> None:
    address = f"CodeSystem/$subsumes?system={SYSTEM}&codeA={first}&codeB={second}"
    assert values(asked(served, address))["outcome"] == outcome


def test_subsumption_across_systems_is_refused(served: RunningFacade) -> None:
    ends = {"codingA": {"system": SYSTEM, "code": "cat"}, "codingB": {"system": SNOMED, "code": "1"}}
    assert refused(served.post("CodeSystem/$subsumes", parameters(**ends))) == (400, "invalid")
    assert refused(served.get(f"CodeSystem/$subsumes?system={SYSTEM}&codeA=cat")) == (400, "required")


def test_a_code_is_translated(served: RunningFacade) -> None:
    def matches(path: str) -> list[tuple[str, str]]:
        found = asked(served, path)
        parts = [values({"parameter": one["part"]}) for one in found["parameter"] if one["name"] == "match"]
        assert values(found)["result"] is bool(parts)
        return [(part["equivalence"], part["concept"]["code"]) for part in parts]

    query = f"system={SYSTEM}&code=bird"
    assert matches(f"ConceptMap/$translate?url={LATIN}&{query}") == [("wider", "avis")]
    assert matches(f"ConceptMap/latin/$translate?{query}") == [("wider", "avis")]
    assert matches(f"ConceptMap/$translate?{query}&targetsystem={BASE}/latin") == [("wider", "avis")]
    assert matches(f"ConceptMap/$translate?{query}&targetsystem={BASE}/greek") == []
    assert matches(f"ConceptMap/latin/$translate?system={BASE}/latin&code=avis&reverse=true") == [("narrower", "bird")]
    assert matches(f"ConceptMap/$translate?system={SYSTEM}&code=cat") == []
    assert refused(served.get(f"ConceptMap/$translate?url={BASE}/no&{query}")) == (404, "not-found")
    assert refused(served.get("ConceptMap/$translate?code=bird")) == (400, "required")


def test_the_capabilities_name_the_code_systems(served: RunningFacade) -> None:
    stated = asked(served, "metadata?mode=terminology")
    assert {"uri": SYSTEM, "version": [{"code": "1.0"}]} in stated["codeSystem"]


def test_a_package_is_right_where_a_stored_value_set_bears_its_name(served: RunningFacade) -> None:
    impostor = value_set(ALL, {"system": SYSTEM, "concept": [{"code": "cat"}]}) | {"id": "impostor"}
    assert served.put("ValueSet/impostor", impostor).status_code == 201
    assert codes(asked(served, f"ValueSet/$expand?url={quote(ALL)}")) == ["animal", "bird", "cat"]
    assert codes(asked(served, "ValueSet/impostor/$expand")) == ["cat"]
    assert served.request("DELETE", "ValueSet/impostor").status_code == 204
