"""Parts of resources and of histories over HTTP (FHIR R4 §3.1.1.5.8): _summary, _elements, _at."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.facade import RunningFacade, issues

PLAN: dict[str, Any] = {
    "resourceType": "CarePlan",
    "meta": {"tag": [{"system": "http://example.org/tags", "code": "a"}]},
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'},
    "extension": [{"url": "http://example.org/x", "valueString": "x"}],
    "status": "active",
    "intent": "plan",
    "title": "Plan",
    "period": {"start": "2026-01-01"},
    "note": [{"text": "x"}],
    "activity": [{"detail": {"status": "scheduled", "description": "x"}}],
}
MANDATORY = {"status", "intent", "subject"}
HEAD = {"resourceType", "id", "meta"}


def stored(facade: RunningFacade) -> str:
    patient = facade.created({"resourceType": "Patient", "name": [{"family": "Essai"}], "birthDate": "1970-01-01"})
    return facade.created(PLAN | {"subject": {"reference": patient}})


def tags(resource: dict[str, Any]) -> list[str]:
    return [tag["code"] for tag in resource["meta"].get("tag", ())]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("_summary=true", MANDATORY | {"title", "period"}),
        ("_summary=text", MANDATORY | {"text"}),
        ("_summary=data", MANDATORY | {"extension", "title", "period", "note", "activity"}),
        ("_elements=note,period", MANDATORY | {"note", "period"}),
        ("_elements=CarePlan.note", MANDATORY | {"note"}),
        ("_elements=note&_elements=title", MANDATORY | {"note", "title"}),
    ],
)
def test_parts_of_a_resource(facade: RunningFacade, asked: str, shown: set[str]) -> None:
    name = stored(facade)
    answer = facade.get(f"{name}?{asked}")
    assert answer.json().keys() == HEAD | shown
    assert tags(answer.json()) == ["a", "SUBSETTED"]
    assert facade.get(f"{name}?{asked}", If_None_Match='W/"1"').status_code == 200  # 304 is for the whole form
    (found,) = facade.get(f"CarePlan?_id={name.partition('/')[2]}&{asked}").json()["entry"]
    assert found["resource"] == answer.json()
    history = facade.get(f"{name}/_history?{asked}").json()
    assert history["entry"][0]["resource"] == answer.json()
    assert facade.get(f"{name}/_history/1?{asked}").json() == answer.json()


def test_summary_false_is_the_whole_resource(facade: RunningFacade) -> None:
    name = stored(facade)
    assert facade.get(f"{name}?_summary=false").content == facade.get(name).content


def test_a_summary_reaches_into_data_types(facade: RunningFacade) -> None:
    attachment = {"contentType": "text/plain", "data": "eA==", "title": "x"}
    document = {"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": attachment}]}
    shown = facade.get(f"{facade.created(document)}?_summary=true").json()
    assert shown["content"] == [{"attachment": {"contentType": "text/plain", "title": "x"}}]


def test_summary_count_shows_the_total_only(facade: RunningFacade) -> None:
    name = stored(facade)
    answer = facade.get(f"CarePlan?_id={name.partition('/')[2]}&_summary=count").json()
    assert (answer["total"], "entry" in answer) == (1, False)
    assert answer["link"][0]["url"].endswith("&_summary=count")


def test_elements_speak_of_matches_unless_a_type_is_named(facade: RunningFacade) -> None:
    name = stored(facade)
    query = f"CarePlan?_id={name.partition('/')[2]}&_include=CarePlan:subject"
    plain = {e["search"]["mode"]: e["resource"] for e in facade.get(f"{query}&_elements=title").json()["entry"]}
    assert (plain["match"].keys(), "birthDate" in plain["include"]) == (HEAD | MANDATORY | {"title"}, True)
    named = {e["search"]["mode"]: e["resource"] for e in facade.get(f"{query}&_elements=Patient.name").json()["entry"]}
    assert (named["include"].keys(), "note" in named["match"]) == (HEAD | {"name"}, True)


@pytest.mark.parametrize(
    "asked",
    ["_summary=some", "_elements=nothing", "_elements=,", "_elements=Nothing.name", "_summary=true&_elements=title"],
)
def test_parts_that_do_not_exist(facade: RunningFacade, asked: str) -> None:
    name = stored(facade)
    for path in (f"{name}?{asked}", f"CarePlan?{asked}", f"CarePlan/_history?{asked}"):
        answer = facade.get(path)
        assert (answer.status_code, bool(issues(answer))) == (400, True), path
    assert facade.get(f"{name}?_summary=count").status_code == 400
    assert facade.get("CarePlan?_summary=text&_include=CarePlan:subject").status_code == 400


def test_a_part_is_never_stored_in_the_place_of_the_whole(facade: RunningFacade) -> None:
    name = stored(facade)
    part = facade.get(f"{name}?_elements=title").json()
    answer = facade.put(name, part)
    assert (answer.status_code, issues(answer)[0]["expression"]) == (422, ["CarePlan.meta.tag"])


def test_history_of_a_moment(facade: RunningFacade) -> None:
    name = facade.created({"resourceType": "Patient"})
    body = {"resourceType": "Patient", "id": name.partition("/")[2]}
    moments = [facade.get(name).json()["meta"]["lastUpdated"]]
    for gender in ("male", "other"):
        time.sleep(0.01)
        moments.append(facade.put(name, body | {"gender": gender}).json()["meta"]["lastUpdated"])

    def current(at: str) -> list[str]:
        history = facade.get(f"{name}/_history?_at={at}").json()
        assert history["total"] == len(history["entry"])
        return [entry["resource"]["meta"]["versionId"] for entry in history["entry"]]

    assert [current(moment) for moment in moments] == [["1"], ["2"], ["3"]]
    assert current(moments[0][:4]) == ["3", "2", "1"]
    assert current("2001-01-01") == []
    assert current("2100-01-01") == ["3"]
    assert current("ge2001&_at=le2100") == ["3", "2", "1"]
    assert current(f"lt{moments[1]}") == ["1"]
    assert current(f"gt{moments[1]}") == ["3", "2"]
    assert current(f"ge{moments[1]}&_at=lt{moments[2]}") == ["2"]
    links = facade.get(f"{name}/_history?_at=ge2001&_at=le2100&_count=1").json()["link"]
    assert facade.get(links[1]["url"]).json()["entry"][0]["response"]["etag"] == 'W/"2"'


@pytest.mark.parametrize("query", ["_at=then", "_at=ap2026", "_at=ge2026&_at=lt2026", "_at=gt0001-13", "_at=²2"])
def test_moments_that_cannot_be_read(facade: RunningFacade, query: str) -> None:
    answer = facade.get(f"_history?{query}")
    assert (answer.status_code, issues(answer)[0]["expression"]) == (400, ["_at"])
