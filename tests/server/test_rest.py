"""Instances over HTTP (FHIR R4 §3.1.0): the real server, asked as clients ask it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound

from support.facade import RunningFacade, issues, running_facade

PATIENT = {"resourceType": "Patient", "name": [{"family": "Essai", "given": ["Hélène"]}], "gender": "female"}


def test_create_answers_where_the_resource_is(facade: RunningFacade) -> None:
    answer = facade.post("Patient", PATIENT | {"id": "chosen-by-the-client"})
    created = answer.json()
    assert answer.status_code == 201
    assert created["id"] != "chosen-by-the-client"
    assert created["meta"]["versionId"] == "1"
    assert answer.headers["Location"] == f"{facade.base}/Patient/{created['id']}/_history/1"
    assert answer.headers["ETag"] == 'W/"1"'
    assert answer.headers["Content-Type"] == "application/fhir+json;charset=utf-8"
    assert "Last-Modified" in answer.headers
    assert facade.get(answer.headers["Location"]).content == answer.content
    assert facade.get(f"Patient/{created['id']}").content == answer.content


def test_what_was_stored_comes_back_exactly(facade: RunningFacade) -> None:
    written = (
        '"identifier":[{"value":"é","system":"urn:oid:1.2"}],"name":[{"given":["A",null],"_given":[null,{"extension":'
        '[{"url":"http://example.org/x","valueDecimal":1.00}]}]}],"extension":[{"url":"http://example.org/y",'
        '"valueDecimal":0.0010},{"url":"http://example.org/z","valueDecimal":12345678901234567890.123456789}]'
    )
    answer = facade.post("Patient", f'{{"resourceType":"Patient",{written}}}'.encode())
    assert answer.status_code == 201, answer.text
    assert written in facade.get(f"Patient/{answer.json()['id']}").content.decode()


def test_meta_of_the_client_is_kept_except_what_the_server_states(facade: RunningFacade) -> None:
    meta = {"versionId": "9", "lastUpdated": "2001-01-01T00:00:00Z", "profile": ["http://example.org/p"]}
    created = facade.post("Patient", PATIENT | {"meta": meta}).json()
    assert created["meta"]["profile"] == ["http://example.org/p"]
    assert created["meta"]["versionId"] == "1"
    assert created["meta"]["lastUpdated"] > "2026"


@pytest.mark.parametrize(
    ("prefer", "shown"),
    [("return=minimal", ""), ("return=OperationOutcome", "OperationOutcome"), ("return=representation", "Patient")],
)
def test_prefer_chooses_the_body(facade: RunningFacade, prefer: str, shown: str) -> None:
    answer = facade.post("Patient", PATIENT, Prefer=f"respond-async, {prefer}")
    assert answer.status_code == 201
    assert (answer.json()["resourceType"] if answer.content else "") == shown
    assert "Location" in answer.headers


def test_head_has_the_headers_and_no_body(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    head, get = facade.request("HEAD", name), facade.get(name)
    assert head.content == b""
    for header in ("ETag", "Last-Modified", "Content-Type", "Content-Length"):
        assert head.headers[header] == get.headers[header]


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("If_None_Match", 'W/"1"', 304),
        ("If_None_Match", '"1"', 304),
        ("If_None_Match", 'W/"7", W/"1"', 304),
        ("If_None_Match", "*", 304),
        ("If_None_Match", 'W/"2"', 200),
        ("If_Modified_Since", "Fri, 01 Jan 2100 00:00:00 GMT", 304),
        ("If_Modified_Since", "Sat, 01 Jan 2000 00:00:00 GMT", 200),
        ("If_Modified_Since", "yesterday", 200),
    ],
)
def test_conditional_read(facade: RunningFacade, header: str, value: str, status: int) -> None:
    answer = facade.get(facade.created(PATIENT), **{header: value})
    assert answer.status_code == status
    assert answer.headers["ETag"] == 'W/"1"'
    assert (answer.content == b"") == (status == 304)


def test_update_makes_a_version_and_keeps_the_former(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    changed = PATIENT | {"id": name.partition("/")[2], "gender": "other"}
    answer = facade.put(name, changed)
    assert (answer.status_code, answer.headers["ETag"]) == (200, 'W/"2"')
    assert facade.get(name).json()["gender"] == "other"
    assert facade.get(f"{name}/_history/1").json()["gender"] == "female"
    assert facade.put(name, changed).headers["ETag"] == 'W/"3"'  # the same content is a version too
    assert facade.get(f"{name}/_history/4").status_code == 404
    assert facade.get(f"{name}/_history/one").status_code == 404


def test_update_creates_under_the_id_of_the_client(facade: RunningFacade) -> None:
    answer = facade.put("Patient/p-1", PATIENT | {"id": "p-1"})
    assert (answer.status_code, answer.json()["id"]) == (201, "p-1")
    assert facade.put("Patient/p-1", PATIENT | {"id": "p-1"}).status_code == 200


def test_update_creates_only_where_the_setting_says_so(tmp_path: Path) -> None:
    with running_facade(tmp_path, update_creates=False, workers=1) as closed:
        answer = closed.put("Patient/p-1", PATIENT | {"id": "p-1"})
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
        stated = closed.get("metadata").json()["rest"][0]["resource"]
        assert not any(resource["updateCreate"] for resource in stated)


@pytest.mark.parametrize(
    ("tag", "status"), [('W/"1"', 200), ('"1"', 200), ("*", 200), ('W/"2"', 412), ('W/"0"', 412), ("nonsense", 412)]
)
def test_if_match(facade: RunningFacade, tag: str, status: int) -> None:
    name = facade.created(PATIENT)
    answer = facade.put(name, PATIENT | {"id": name.partition("/")[2]}, If_Match=tag)
    assert answer.status_code == status
    assert facade.get(name).headers["ETag"] == ('W/"2"' if status == 200 else 'W/"1"')


def test_if_match_without_a_resource(facade: RunningFacade) -> None:
    assert facade.put("Patient/p-2", PATIENT | {"id": "p-2"}, If_Match='W/"1"').status_code == 412
    assert facade.get("Patient/p-2").status_code == 404


def test_if_none_match_keeps_a_write_from_what_is_there(facade: RunningFacade) -> None:
    body = PATIENT | {"id": "p-3"}
    assert facade.put("Patient/p-3", body, If_None_Match="*").status_code == 201
    for method in ("PUT", "DELETE"):
        refused = facade.request(method, "Patient/p-3", body, If_None_Match="*")
        assert (refused.status_code, refused.headers["ETag"]) == (412, 'W/"1"')
    assert facade.put("Patient/p-3", body, If_None_Match='W/"7"').status_code == 200
    assert facade.request("DELETE", "Patient/p-3").status_code == 204
    assert facade.put("Patient/p-3", body, If_None_Match="*").status_code == 201


def test_two_writers_at_once_never_lose_an_update(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    body = PATIENT | {"id": name.partition("/")[2]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: facade.put(name, body, If_Match='W/"1"').status_code, range(8)))
    assert sorted(answers) == [200] + [412] * 7
    assert facade.get(name).headers["ETag"] == 'W/"2"'


def test_security_labels_and_tags_are_carried_forward(facade: RunningFacade) -> None:
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    tag = {"system": "http://example.org/tags", "code": "a"}
    name = facade.created(PATIENT | {"meta": {"security": [label], "tag": [tag]}})
    other = {"system": "http://example.org/tags", "code": "b"}
    body = PATIENT | {"id": name.partition("/")[2], "meta": {"tag": [other, tag]}}
    updated = facade.put(name, body).json()
    assert updated["meta"]["security"] == [label]
    assert updated["meta"]["tag"] == [other, tag]


def test_delete(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    assert facade.request("DELETE", name).status_code == 204
    gone = facade.get(name)
    assert (gone.status_code, issues(gone)[0]["code"]) == (410, "deleted")
    assert facade.get(f"{name}/_history/2").status_code == 410
    assert facade.get(f"{name}/_history/1").status_code == 200
    assert facade.request("DELETE", name).status_code == 204
    assert facade.request("DELETE", "Patient/never-was").status_code == 204
    again = facade.put(name, PATIENT | {"id": name.partition("/")[2]})
    assert (again.status_code, again.headers["ETag"]) == (201, 'W/"3"')


def test_delete_honours_if_match(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    assert facade.request("DELETE", name, If_Match='W/"2"').status_code == 412
    assert facade.request("DELETE", name, If_Match='W/"1"').status_code == 204


def test_history_of_an_instance(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    facade.put(name, PATIENT | {"id": name.partition("/")[2]})
    facade.request("DELETE", name)
    history = facade.get(f"{name}/_history").json()
    assert (history["type"], history["total"]) == ("history", 3)
    assert [entry["request"]["method"] for entry in history["entry"]] == ["DELETE", "PUT", "POST"]
    assert [entry["response"]["etag"] for entry in history["entry"]] == ['W/"3"', 'W/"2"', 'W/"1"']
    assert "resource" not in history["entry"][0]
    assert history["entry"][2]["resource"]["meta"]["versionId"] == "1"
    assert facade.get("Patient/never-was/_history").status_code == 404


def test_history_of_a_type_in_pages(facade: RunningFacade) -> None:
    names = [facade.created({"resourceType": "Flag", **_flag(facade)}) for _ in range(5)]
    seen: list[str] = []
    address: str | None = "Flag/_history?_count=2"
    while address:
        page = facade.get(address).json()
        seen += [entry["fullUrl"].removeprefix(f"{facade.base}/") for entry in page["entry"]]
        address = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    assert seen == list(reversed(names))


def _flag(facade: RunningFacade) -> dict[str, Any]:
    return {"status": "active", "code": {"text": "x"}, "subject": {"reference": facade.created(PATIENT)}}


def test_history_since(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    moment = facade.get(name).json()["meta"]["lastUpdated"]
    since = facade.get(f"Patient/_history?_since={moment}").json()
    assert name in {entry["fullUrl"].removeprefix(f"{facade.base}/") for entry in since["entry"]}
    assert facade.get("Patient/_history?_since=2100-01-01T00:00:00Z").json()["total"] == 0


@pytest.mark.parametrize(
    "query",
    [
        "_since=today",
        "_since=2026-01-01",
        "_since=0001-01-01T00:00:00%2B14:00",
        "_count=0",
        "_count=x",
        "_page=%C3%A9",
        "_x=1",
    ],
)
def test_history_refuses_what_it_cannot_read(facade: RunningFacade, query: str) -> None:
    answer = facade.get(f"Patient/_history?{query}")
    assert answer.status_code == 400
    assert issues(answer)[0]["expression"] == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "accept",
    [
        "application/fhir+json",
        "application/json;q=0.5, text/html",
        "*/*",
        "application/*;q=0.1",
        "application/fhir+json; fhirVersion=4.0",
        "text/html,application/xhtml+xml,*/*;q=0.8",
    ],
)
def test_accepted_formats(facade: RunningFacade, accept: str) -> None:
    assert facade.get("metadata", Accept=accept).status_code == 200


@pytest.mark.parametrize(
    "accept", ["application/pdf", "image/*", "application/fhir+json; fhirVersion=3.0", "application/json;q=0"]
)
def test_formats_not_written(facade: RunningFacade, accept: str) -> None:
    answer = facade.get("metadata", Accept=accept)
    assert (answer.status_code, issues(answer)[0]["code"]) == (406, "not-supported")


def test_format_parameter_overrides_accept(facade: RunningFacade) -> None:
    assert facade.get("metadata?_format=json", Accept="application/fhir+xml").status_code == 200
    assert facade.get("metadata?_format=application/fhir+json", Accept="text/html").status_code == 200
    assert facade.get("metadata?_format=xml", Accept="application/fhir+json").content.startswith(b"<?xml")
    assert facade.get("metadata?_format=html", Accept="application/fhir+json").status_code == 406


def test_pretty(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    assert facade.get(f"{name}?_pretty=true").text.startswith('{\n  "resourceType": "Patient"')


def test_addresses_that_lead_nowhere(facade: RunningFacade) -> None:
    hinted = facade.get("Careteam/1")
    assert (hinted.status_code, issues(hinted)[0]["code"]) == (404, "not-supported")
    assert "CareTeam" in issues(hinted)[0]["diagnostics"]
    for path in ("Patient/1/2/3", "Patient/a_b", "Patient//1", "Medication/1", "Patient/1/$nothing"):
        assert facade.get(path).status_code == 404, path
        assert issues(facade.get(path))


def test_method_not_offered_names_those_that_are(facade: RunningFacade) -> None:
    answer = facade.request("POST", "Patient/1", PATIENT)
    assert answer.status_code == 405
    assert {"GET", "PUT", "PATCH", "DELETE"} <= set(answer.headers["Allow"].replace(" ", "").split(","))
    assert facade.get("Patient/_search").status_code == 405


def test_request_id_is_echoed_or_made(facade: RunningFacade) -> None:
    assert facade.get("metadata", X_Request_Id="abc-1").headers["X-Request-Id"] == "abc-1"
    made = facade.get("metadata", X_Request_Id="bad id<").headers["X-Request-Id"]
    assert made and made != "bad id<"


def test_every_stated_interaction_is_served(facade: RunningFacade) -> None:
    statement = facade.get("metadata").json()
    assert (statement["kind"], statement["fhirVersion"]) == ("instance", "4.0.1")
    (rest,) = statement["rest"]
    assert {interaction["code"] for interaction in rest["interaction"]} >= {"transaction", "batch", "history-system"}
    asked = {
        "read": ("GET", "/x"),
        "vread": ("GET", "/x/_history/1"),
        "update": ("PUT", "/x"),
        "patch": ("PATCH", "/x"),
        "delete": ("DELETE", "/x"),
        "create": ("POST", ""),
        "search-type": ("GET", ""),
        "history-instance": ("GET", "/x/_history"),
        "history-type": ("GET", "/_history"),
    }
    for resource in rest["resource"]:
        for interaction in resource["interaction"]:
            method, path = asked[interaction["code"]]
            answer = facade.request(method, f"{resource['type']}{path}")
            assert answer.status_code not in (405, 500, 501), (resource["type"], interaction)


def test_validate_stores_nothing(facade: RunningFacade) -> None:
    before = facade.count()
    for path in ("$validate", "Patient/$validate", f"{facade.created(PATIENT)}/$validate"):
        good = facade.post(path, PATIENT)
        assert good.status_code == 200
        assert [issue["severity"] for issue in issues(good)] == ["information"]
    wrapped = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": {**PATIENT, "nam": 1}}]}
    wrong = facade.post("Patient/$validate", wrapped)
    assert wrong.status_code == 200
    assert issues(wrong)[0]["expression"] == ["Patient.nam"]
    assert facade.post("CarePlan/$validate", PATIENT).status_code == 400
    assert facade.count() == before + 1


def test_everything_is_kept_when_the_server_is_killed(tmp_path: Path) -> None:
    facade = RunningFacade(tmp_path)
    facade.start()
    try:
        stored = {name: facade.get(name).content for name in (facade.created(PATIENT) for _ in range(5))}
        facade.kill()
        with pytest.raises(requests.ConnectionError):
            facade.get("metadata")
        facade.start()
        assert {name: facade.get(name).content for name in stored} == stored
        assert facade.count() == 5
    finally:
        facade.stop()


def test_a_kill_under_load_loses_no_acknowledged_write(tmp_path: Path) -> None:
    facade = RunningFacade(tmp_path)
    facade.start()
    acknowledged: dict[str, bytes] = {}

    def write_until_it_dies(_: int) -> None:
        while True:
            try:
                answer = facade.post("Patient", PATIENT)
            except requests.RequestException:
                return
            acknowledged[answer.json()["id"]] = answer.content

    try:
        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write_until_it_dies, number) for number in range(4)]
            while len(acknowledged) < 50:
                time.sleep(0.01)
            facade.kill()
            for writer in writers:
                writer.result(timeout=30)
        facade.start()
        assert all(facade.get(f"Patient/{name}").content == content for name, content in acknowledged.items())
        assert len(acknowledged) <= facade.count() <= len(acknowledged) + 4  # a write may lose its answer
    finally:
        facade.stop()


def test_fhirpy_reads_writes_and_is_told_of_conflicts(facade: RunningFacade) -> None:
    client = SyncFHIRClient(facade.base)
    patient = client.resource("Patient", **{key: value for key, value in PATIENT.items() if key != "resourceType"})
    patient.save()
    patient["gender"] = "other"
    patient.save()
    again = client.reference("Patient", patient.id).to_resource()
    assert (again["gender"], again["meta"]["versionId"]) == ("other", "2")
    again.delete()
    with pytest.raises(ResourceNotFound):
        client.reference("Patient", "never-was").to_resource()
    with pytest.raises(OperationOutcome):
        client.resource("CarePlan", status="active").save()
