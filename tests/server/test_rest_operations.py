"""Operations over HTTP (FHIR R4 §3.2): $meta, $everything, $expunge, $reindex, $export; compartments; batches."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from support.facade import RunningFacade, issues, running_facade

TAGS = "http://example.org/tags"
ASYNC = {"Prefer": "respond-async"}


def tagged(*codes: str) -> dict[str, Any]:
    meta = {"tag": [{"system": TAGS, "code": code} for code in codes]}
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}


def flag(subject: str, start: str = "2026-01-01") -> dict[str, Any]:
    flag = {"resourceType": "Flag", "status": "active", "code": {"text": "x"}, "subject": {"reference": subject}}
    return flag | {"period": {"start": start, "end": start}}


def names(bundle: dict[str, Any], base: str, mode: str = "match") -> list[str]:
    return [
        entry["fullUrl"].removeprefix(f"{base}/")
        for entry in bundle.get("entry", [])
        if entry["search"]["mode"] == mode
    ]


def finished(facade: RunningFacade, order: requests.Response) -> requests.Response:
    assert order.status_code == 202, order.text
    address = order.headers["Content-Location"]
    deadline = time.monotonic() + 30
    while (answer := facade.get(address)).status_code == 202:
        assert answer.headers["X-Progress"]
        assert int(answer.headers["Retry-After"]) > 0
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return answer


def test_meta_is_read_added_to_and_taken_from(facade: RunningFacade) -> None:
    name = facade.created({"resourceType": "Patient", "meta": {"tag": [{"system": TAGS, "code": "a"}]}})
    assert facade.get(f"{name}/$meta").json()["parameter"][0]["valueMeta"]["versionId"] == "1"
    added = facade.post(f"{name}/$meta-add", tagged("a", "b")).json()["parameter"][0]["valueMeta"]
    assert ([tag["code"] for tag in added["tag"]], added["versionId"]) == (["a", "b"], "2")
    left = facade.post(f"{name}/$meta-delete", tagged("a")).json()["parameter"][0]["valueMeta"]
    assert [tag["code"] for tag in left["tag"]] == ["b"]
    assert facade.get(name).json()["meta"] == left
    assert facade.post(f"{name}/$meta-delete", tagged("b"), If_Match='W/"1"').status_code == 412
    assert facade.post(f"{name}/$meta-add", {"resourceType": "Parameters"}).status_code == 400
    assert facade.post("Patient/nobody/$meta-add", tagged("a")).status_code == 404


def test_meta_of_a_type_and_of_the_system(facade: RunningFacade) -> None:
    profile = "http://example.org/StructureDefinition/somebody"
    both = {"profile": [profile], "tag": [{"system": TAGS, "code": "shared"}, {"code": "bare"}]}
    facade.created({"resourceType": "Patient", "meta": both})
    gone = facade.created({"resourceType": "Patient", "meta": {"tag": [{"system": TAGS, "code": "gone"}]}})
    facade.request("DELETE", gone)
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    facade.created({"resourceType": "Organization", "name": "x", "meta": {"security": [label], "tag": both["tag"]}})
    of_type = facade.get("Patient/$meta").json()["parameter"][0]["valueMeta"]
    assert profile in of_type["profile"]
    assert {"system": TAGS, "code": "shared"} in of_type["tag"]
    assert {"code": "bare"} in of_type["tag"]
    assert "gone" not in [tag["code"] for tag in of_type["tag"]]
    assert label not in of_type.get("security", [])
    of_all = facade.get("$meta").json()["parameter"][0]["valueMeta"]
    assert label in of_all["security"]
    assert of_all["tag"].count({"system": TAGS, "code": "shared"}) == 1
    assert facade.get("Patient/$meta?x=1").status_code == 400


def test_everything_of_a_patient(facade: RunningFacade) -> None:
    organization = facade.created({"resourceType": "Organization", "name": "Cabinet"})
    doctor = facade.created({"resourceType": "Practitioner"})
    patient = facade.created({"resourceType": "Patient", "managingOrganization": {"reference": organization}})
    other = facade.created({"resourceType": "Patient"})
    mine = [facade.created(flag(patient, f"2026-0{month}-01")) for month in (1, 2, 3)]
    facade.created(flag(other))
    plan = {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": {"reference": patient}}
    mine.append(facade.created(plan | {"author": {"reference": doctor}}))
    answer = facade.get(f"{patient}/$everything").json()
    assert names(answer, facade.base) == [patient, *mine]
    assert set(names(answer, facade.base, "include")) == {organization, doctor}
    seen: list[str] = []
    address: str | None = f"{patient}/$everything?_count=2"
    while address:
        page = facade.get(address).json()
        seen += names(page, facade.base)
        address = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    assert seen == [patient, *mine]
    assert names(facade.get(f"{patient}/$everything?_type=Flag").json(), facade.base) == mine[:3]
    dated = facade.get(f"{patient}/$everything?start=2026-02-01&end=2026-02-28&_type=Flag").json()
    assert names(dated, facade.base) == [mine[1]]
    assert names(facade.get(f"{patient}/$everything?_since=2100-01-01T00:00:00Z").json(), facade.base) == [patient]
    for wrong in ("start=then", "_since=then", "_type=Nothing", "_x=1", "_page=x", "_count=x"):
        refused = facade.get(f"{patient}/$everything?{wrong}")
        assert (refused.status_code, issues(refused)[0]["expression"]) == (400, [wrong.partition("=")[0]])
    assert facade.get("Patient/nobody/$everything").status_code == 404


def test_compartments(facade: RunningFacade) -> None:
    patient, other = facade.created({"resourceType": "Patient"}), facade.created({"resourceType": "Patient"})
    mine = [facade.created(flag(patient)) for _ in range(3)]
    facade.created(flag(other))
    answer = facade.get(f"{patient}/Flag?_count=2").json()
    assert names(answer, facade.base) == mine[:2]
    links = {link["relation"]: link["url"] for link in answer["link"]}
    assert links["self"].startswith(f"{facade.base}/{patient}/Flag")
    assert names(facade.get(links["next"]).json(), facade.base) == mine[2:]
    assert names(facade.get(f"{patient}/Flag?_id={mine[0].partition('/')[2]}").json(), facade.base) == mine[:1]
    assert names(facade.get(f"{other}/Flag?_id={mine[0].partition('/')[2]}").json(), facade.base) == []
    assert names(facade.get(f"{patient}/*").json(), facade.base) == mine
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    posted = facade.request("POST", f"{patient}/Flag/_search", b"_count=2", **form).json()
    assert names(posted, facade.base) == mine[:2]
    assert posted["link"][0]["url"].startswith(f"{facade.base}/{patient}/Flag?")
    assert names(facade.request("POST", f"{patient}/_search", b"", **form).json(), facade.base) == mine
    assert names(facade.get(f"{patient}/Patient").json(), facade.base) == [patient]
    assert facade.get("Patient/nobody/Flag").status_code == 404
    assert facade.get(f"{patient}/Location").status_code == 400
    doctor = facade.created({"resourceType": "Practitioner"})
    plan = {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": {"reference": patient}}
    performed = facade.created(
        plan | {"activity": [{"detail": {"status": "scheduled", "performer": [{"reference": doctor}]}}]}
    )
    assert names(facade.get(f"{doctor}/CarePlan").json(), facade.base) == [performed]


def test_search_of_several_types(facade: RunningFacade) -> None:
    tag = {"meta": {"tag": [{"system": TAGS, "code": "several"}]}}
    made = [facade.created({"resourceType": kind, **tag}) for kind in ("Patient", "Practitioner", "Patient")]
    query = f"_type=Patient,Practitioner&_tag={TAGS}|several"
    answer = facade.get(f"?{query}").json()
    assert names(answer, facade.base) == made
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    posted = facade.request("POST", "_search", query.replace("|", "%7C").encode(), **form)
    assert names(posted.json(), facade.base) == made
    assert issues(facade.get("?_type=Nothing"))


def test_operations_in_a_batch(facade: RunningFacade) -> None:
    patient = {"resourceType": "Patient"}
    name = facade.created(patient)
    entries = [
        {"request": {"method": "GET", "url": f"{name}/$meta"}},
        {"request": {"method": "POST", "url": "Patient/$validate"}, "resource": {**patient, "nam": 1}},
        {"request": {"method": "POST", "url": f"{name}/$meta-add"}, "resource": tagged("batch")},
        {"request": {"method": "GET", "url": f"{name}/$nothing"}},
    ]
    answer = facade.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries}).json()["entry"]
    assert [entry["response"]["status"][:3] for entry in answer] == ["200", "200", "200", "404"]
    assert [entry["resource"]["resourceType"] for entry in answer[:2]] == ["Parameters", "OperationOutcome"]
    assert facade.get(name).json()["meta"]["tag"][0]["code"] == "batch"
    refused = facade.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries[:1]})
    assert (refused.status_code, issues(refused)[0]["expression"]) == (422, ["Bundle.entry[0].request.url"])


@pytest.fixture(scope="module")
def exported(facade: RunningFacade) -> tuple[RunningFacade, dict[str, Any], str, str]:
    """An export of patients, with one that concerns them and one that does not."""
    patient = facade.created({"resourceType": "Patient", "name": [{"family": "Éxport"}]})
    concerns = facade.created(flag(patient))
    order = facade.get("Patient/$export?_type=Patient,Flag", **ASYNC)
    return facade, finished(facade, order).json() | {"address": order.headers["Content-Location"]}, patient, concerns


def test_export_of_patients(exported: tuple[RunningFacade, dict[str, Any], str, str]) -> None:
    facade, manifest, patient, concerns = exported
    assert manifest["request"] == f"{facade.base}/Patient/$export?_type=Patient,Flag"
    assert not manifest["requiresAccessToken"]
    files = {output["type"]: output for output in manifest["output"]}
    for name in (patient, concerns):
        output = files[name.partition("/")[0]]
        answer = facade.get(output["url"], Accept="application/fhir+ndjson")
        assert answer.headers["Content-Type"] == "application/fhir+ndjson"
        lines = answer.content.splitlines()
        assert len(lines) == output["count"]
        assert facade.get(name).content in lines
        assert all(json.loads(line)["resourceType"] == output["type"] for line in lines)


def test_a_broken_download_goes_on(exported: tuple[RunningFacade, dict[str, Any], str, str]) -> None:
    facade, manifest, _, _ = exported
    url = manifest["output"][0]["url"]
    whole = facade.get(url)
    rest = facade.get(url, Range="bytes=10-", If_Range=whole.headers["ETag"])
    assert (rest.status_code, rest.content) == (206, whole.content[10:])
    assert facade.get(f"{url.rpartition('/')[0]}/Patient.9.ndjson").status_code == 404
    assert facade.get(f"{url.rpartition('/')[0]}/..%2F..%2Frelais.sqlite").status_code == 404


def test_export_of_the_system_is_deleted_when_asked(facade: RunningFacade) -> None:
    facade.created({"resourceType": "Location"})
    body = {"resourceType": "Parameters", "parameter": [{"name": "_since", "valueInstant": "2000-01-01T00:00:00Z"}]}
    order = facade.post("$export", body, **ASYNC)
    manifest = finished(facade, order).json()
    assert "Location" in {output["type"] for output in manifest["output"]}
    assert facade.request("DELETE", order.headers["Content-Location"]).status_code == 202
    assert facade.get(order.headers["Content-Location"]).status_code == 404
    assert facade.get(manifest["output"][0]["url"]).status_code == 404


def test_export_of_nothing_new(facade: RunningFacade) -> None:
    order = facade.get("$export?_since=2100-01-01T00:00:00Z", **ASYNC)
    assert finished(facade, order).json()["output"] == []


@pytest.mark.parametrize(
    "query", ["_outputFormat=csv", "_type=Nothing", "_since=then", "_typeFilter=x", "_type=Patient&_x=1"]
)
def test_exports_that_are_refused(facade: RunningFacade, query: str) -> None:
    answer = facade.get(f"$export?{query}", **ASYNC)
    assert (answer.status_code, bool(issues(answer))) == (400, True)
    assert facade.get("$export").status_code == 400  # not asked to be asynchronous
    assert facade.get("$job/nothing").status_code == 404


def test_an_export_survives_a_kill(tmp_path: Path) -> None:
    facade = RunningFacade(tmp_path, workers=1)
    facade.start()
    try:
        patient = facade.created({"resourceType": "Patient"})
        order = facade.get("Patient/$export", **ASYNC)
        facade.kill()
        facade.start()
        deadline = time.monotonic() + 60
        while (answer := facade.get(order.headers["Content-Location"])).status_code == 202:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        files = [facade.get(output["url"]).content for output in answer.json()["output"]]
        assert facade.get(patient).content + b"\n" in files
    finally:
        facade.stop()


def test_what_only_an_administrator_does(facade: RunningFacade, tmp_path: Path) -> None:
    removal = {"resourceType": "Parameters", "parameter": [{"name": "expungePreviousVersions", "valueBoolean": True}]}
    assert facade.post("Patient/x/$expunge", removal).status_code == 404
    with running_facade(tmp_path, administration=True, workers=1) as own:
        name = own.created({"resourceType": "Patient"})
        for _ in range(3):
            own.put(name, {"resourceType": "Patient", "id": name.partition("/")[2]})
        assert own.post(f"{name}/$expunge", {"resourceType": "Parameters"}).status_code == 400
        assert own.post("Patient/nobody/$expunge", removal).status_code == 404
        assert own.post(f"{name}/$expunge", removal).json()["parameter"][0]["valueInteger"] == 3
        assert own.get(f"{name}/_history/1").status_code == 404
        assert own.get(name).headers["ETag"] == 'W/"4"'
        assert own.post("$expunge", removal).json()["parameter"][0]["valueInteger"] == 0
        done = finished(own, own.post("Patient/$reindex", {"resourceType": "Parameters"}))
        assert done.json()["parameter"][0] == {"name": "count", "valueInteger": 1}
        assert names(own.get(f"Patient?_id={name.partition('/')[2]}").json(), own.base) == [name]


@pytest.mark.parametrize("query", ["_type=%C3%92&_id=x", "_type=x&_sort=_id", "_type=Patient,x", "_type=Medication"])
def test_search_of_types_that_do_not_exist(facade: RunningFacade, query: str) -> None:
    answer = facade.get(f"?{query}")
    assert (answer.status_code, bool(issues(answer))) == (400, True)
