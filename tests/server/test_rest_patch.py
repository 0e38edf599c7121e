"""Patches over HTTP (FHIR R4 §3.1.0.8): JSON Patch, XML Patch and FHIRPath Patch on the real server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import requests

from relais.server.fhir import json_patch
from relais.server.fhir.outcome import FhirError
from support.facade import RunningFacade, issues, running_facade

JSON_PATCH, XML_PATCH = "application/json-patch+json", "application/xml-patch+xml"
TAG = {"system": "http://example.org/tags", "code": "a"}
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "meta": {"tag": [TAG]},
    "extension": [{"url": "http://example.org/x", "valueString": "old"}],
    "name": [{"use": "official", "family": "Essai", "given": ["Hélène", "Ève"]}, {"use": "usual", "family": "Test"}],
    "gender": "female",
    "birthDate": "1970-01-01",
    "deceasedBoolean": False,
}


def json_patched(facade: RunningFacade, name: str, *operations: Any, **headers: str) -> requests.Response:
    return facade.request("PATCH", name, json.dumps(operations).encode(), Content_Type=JSON_PATCH, **headers)


def parameters(*operations: dict[str, Any]) -> dict[str, Any]:
    """FHIRPath Patch: each value is a (type, value) pair or a list of parts."""
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "operation", "part": _parts(one)} for one in operations],
    }


def _parts(operation: dict[str, Any]) -> list[dict[str, Any]]:
    parts = []
    for name, value in operation.items():
        if name == "value":
            parts.append({"name": name, **value})
        elif isinstance(value, int):
            parts.append({"name": name, "valueInteger": value})
        else:
            parts.append({"name": name, "valueCode" if name == "type" else "valueString": value})
    return parts


def diff(*operations: str) -> bytes:
    return f'<diff xmlns="http://hl7.org/fhir" xmlns:f="http://hl7.org/fhir">{"".join(operations)}</diff>'.encode()


def changed(answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["ETag"] == 'W/"2"'
    body: dict[str, Any] = answer.json()
    return {key: value for key, value in body.items() if key not in ("id", "meta")}


def expected(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (PATIENT | changes).items() if key != "meta" and value is not None}


RENAMED = [{**PATIENT["name"][0], "family": "Autre"}, PATIENT["name"][1]]
SAME_CHANGE = [
    (
        {"gender": "other"},
        {"op": "replace", "path": "/gender", "value": "other"},
        {"type": "replace", "path": "Patient.gender", "value": {"valueCode": "other"}},
        '<replace sel="f:Patient/f:gender/@value">other</replace>',
    ),
    (
        {"birthDate": None},
        {"op": "remove", "path": "/birthDate"},
        {"type": "delete", "path": "Patient.birthDate"},
        '<remove sel="Patient/birthDate"/>',
    ),
    (
        {"active": True},
        {"op": "add", "path": "/active", "value": True},
        {"type": "add", "path": "Patient", "name": "active", "value": {"valueBoolean": True}},
        '<add sel="f:Patient/f:name[1]" pos="before"><active value="true"/></add>',
    ),
    (
        {"name": RENAMED},
        {"op": "replace", "path": "/name/0/family", "value": "Autre"},
        {"type": "replace", "path": "Patient.name.where(use = 'official').family", "value": {"valueString": "Autre"}},
        "<replace sel=\"Patient/name[use/@value='official']/family\"><family value='Autre'/></replace>",
    ),
    (
        {"name": [{**PATIENT["name"][0], "given": ["Hélène"]}, PATIENT["name"][1]]},
        {"op": "remove", "path": "/name/0/given/1"},
        {"type": "delete", "path": "name[0].given.last()"},
        '<remove sel="f:Patient/f:name[1]/f:given[2]"/>',
    ),
]


@pytest.mark.parametrize(("changes", "by_json", "by_fhirpath", "by_xml"), SAME_CHANGE)
def test_three_ways_to_the_same_change(
    facade: RunningFacade, changes: dict[str, Any], by_json: Any, by_fhirpath: Any, by_xml: str
) -> None:
    wanted = expected(**changes)
    assert changed(json_patched(facade, facade.created(PATIENT), by_json)) == wanted
    assert changed(facade.request("PATCH", facade.created(PATIENT), parameters(by_fhirpath))) == wanted
    answer = facade.request("PATCH", facade.created(PATIENT), diff(by_xml), Content_Type=XML_PATCH)
    assert changed(answer) == wanted


@pytest.mark.parametrize(
    ("operation", "changes"),
    [
        (
            {"type": "insert", "path": "Patient.name[0].given", "value": {"valueString": "Zoé"}, "index": 1},
            {"name": [{**PATIENT["name"][0], "given": ["Hélène", "Zoé", "Ève"]}, PATIENT["name"][1]]},
        ),
        (
            {"type": "move", "path": "Patient.name", "source": 0, "destination": 1},
            {"name": [PATIENT["name"][1], PATIENT["name"][0]]},
        ),
        (
            {"type": "add", "path": "Patient", "name": "contact", "value": {"part": [
                {"name": "gender", "valueCode": "male"}, {"name": "name", "valueHumanName": {"family": "Proche"}}]}},
            {"contact": [{"name": {"family": "Proche"}, "gender": "male"}]},
        ),
        (
            {"type": "replace", "path": "Patient.deceased", "value": {"valueDateTime": "2026-01-01"}},
            {"deceasedBoolean": None, "deceasedDateTime": "2026-01-01"},
        ),
        (
            {"type": "add", "path": "Patient", "name": "multipleBirth", "value": {"valueInteger": 2}},
            {"multipleBirthInteger": 2},
        ),
        (
            {"type": "replace", "path": "extension('http://example.org/x').value", "value": {"valueString": "n"}},
            {"extension": [{"url": "http://example.org/x", "valueString": "n"}]},
        ),
        (
            {"type": "delete", "path": "Patient.extension.where(url='http://example.org/x' and value.exists())"},
            {"extension": None},
        ),
        ({"type": "delete", "path": "Patient.photo"}, {}),
    ],
)  # fmt: skip
def test_fhirpath_patch(facade: RunningFacade, operation: dict[str, Any], changes: dict[str, Any]) -> None:
    assert changed(facade.request("PATCH", facade.created(PATIENT), parameters(operation))) == expected(**changes)


def test_xml_patch_adds_at_the_four_places(facade: RunningFacade) -> None:
    name = facade.created({"resourceType": "Patient", "name": [{"given": ["B"]}]})
    patch = diff(
        '<add sel="f:Patient/f:name/f:given[1]" pos="before"><given value="A"/></add>',
        '<add sel="f:Patient/f:name/f:given[2]" pos="after"><given value="C"/></add>',
        '<add sel="f:Patient/f:name" pos="prepend"><family value="F"/></add>',
        '<add sel="f:Patient"><birthDate value="2000"/></add>',
        '<add sel="f:Patient/f:name" type="@id">n</add>',
        '<remove sel="f:Patient/f:name/@id"/>',
    )
    answer = changed(facade.request("PATCH", name, patch, Content_Type=XML_PATCH))
    assert (answer["name"], answer["birthDate"]) == ([{"family": "F", "given": ["A", "B", "C"]}], "2000")


@pytest.mark.parametrize("content_type", ["application/merge-patch+json", "application/json"])
def test_merge_patch(facade: RunningFacade, content_type: str) -> None:
    patch = {"gender": "other", "birthDate": None, "maritalStatus": {"text": "x"}}
    answer = facade.request("PATCH", facade.created(PATIENT), patch, Content_Type=content_type)
    assert changed(answer) == expected(**patch)
    assert facade.request("PATCH", facade.created(PATIENT), b"[]", Content_Type=content_type).status_code == 400


def test_a_patch_may_take_tags_away(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    assert "tag" not in json_patched(facade, name, {"op": "remove", "path": "/meta/tag"}).json()["meta"]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (JSON_PATCH, b"{", 400),
        (JSON_PATCH, b"{}", 400),
        (JSON_PATCH, b'[{"op":"brew","path":"/x"}]', 400),
        (JSON_PATCH, b'[{"op":"add","path":"/gender"}]', 400),
        (JSON_PATCH, b'[{"op":"remove","path":"gender"}]', 400),
        (JSON_PATCH, b'[{"op":"remove","path":"/photo"}]', 422),
        (JSON_PATCH, b'[{"op":"remove","path":""}]', 422),
        (JSON_PATCH, b'[{"op":"remove","path":"/name/07"}]', 422),
        (JSON_PATCH, b'[{"op":"test","path":"/gender","value":"male"}]', 422),
        (JSON_PATCH, b'[{"op":"replace","path":"/gender","value":"woman"}]', 422),
        (JSON_PATCH, b'[{"op":"add","path":"/nam","value":"x"}]', 400),
        (JSON_PATCH, b'[{"op":"replace","path":"/id","value":"x"}]', 422),
        (JSON_PATCH, b'[{"op":"replace","path":"/resourceType","value":"Group"}]', 422),
        (JSON_PATCH, b'[{"op":"replace","path":"/meta/versionId","value":"7"}]', 422),
        (JSON_PATCH, b'[{"op":"remove","path":"/meta"}]', 422),
        (XML_PATCH, b"<diff", 400),
        (XML_PATCH, b"<patch/>", 400),
        (XML_PATCH, diff("<brew sel='f:Patient'/>"), 400),
        (XML_PATCH, diff("<remove sel='count(//*)'/>"), 400),
        (XML_PATCH, diff("<remove sel='x:Patient/x:gender'/>"), 400),
        (XML_PATCH, diff("<remove sel='f:Patient/f:photo'/>"), 422),
        (XML_PATCH, diff("<remove sel='f:Patient'/>"), 422),
        (XML_PATCH, diff("<remove sel='f:Patient/f:name'/>"), 422),
        (XML_PATCH, diff("<add sel='f:Patient'><active value='true'/></add>"), 422),
        ("application/fhir+json", json.dumps({"resourceType": "Patient"}).encode(), 400),
        ("application/fhir+json", json.dumps({"resourceType": "Parameters"}).encode(), 400),
        ("application/fhir+json", json.dumps(parameters({"type": "brew", "path": "x"})).encode(), 400),
        ("application/fhir+json", json.dumps(parameters({"type": "delete"})).encode(), 400),
        ("application/fhir+json", json.dumps(parameters({"type": "delete", "path": "Patient.name"})).encode(), 422),
        ("application/fhir+json", json.dumps(parameters({"type": "delete", "path": "a.repeat(b)"})).encode(), 400),
        ("application/fhir+json", json.dumps(parameters({"type": "delete", "path": "Patient"})).encode(), 422),
        (
            "application/fhir+json",
            json.dumps(
                parameters({"type": "add", "path": "Patient", "name": "gender", "value": {"valueCode": "male"}})
            ).encode(),
            422,
        ),
        ("text/plain", b"{}", 415),
    ],
)  # fmt: skip
def test_patch_that_is_refused(facade: RunningFacade, content_type: str, body: bytes, status: int) -> None:
    name = facade.created(PATIENT)
    answer = facade.request("PATCH", name, body, Content_Type=content_type)
    assert answer.status_code == status, answer.text
    assert issues(answer)
    assert ("Accept-Patch" in answer.headers) == (status == 415)
    assert facade.get(name).headers["ETag"] == 'W/"1"'


def test_patch_of_what_is_not_there(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    facade.request("DELETE", name)
    operation = {"op": "remove", "path": "/gender"}
    assert json_patched(facade, name, operation).status_code == 410
    assert json_patched(facade, "Patient/never-was", operation).status_code == 404


def test_patch_honours_if_match(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    operation = {"op": "replace", "path": "/gender", "value": "male"}
    assert json_patched(facade, name, operation, If_Match='W/"2"').status_code == 412
    assert json_patched(facade, name, operation, If_Match='W/"1"').status_code == 200


def test_conditional_patch(facade: RunningFacade) -> None:
    facade.created(PATIENT | {"identifier": [{"value": "patch-1"}]})
    operation = {"op": "replace", "path": "/gender", "value": "male"}
    assert json_patched(facade, "Patient?identifier=patch-1", operation).json()["gender"] == "male"
    assert json_patched(facade, "Patient?identifier=patch-0", operation).status_code == 404
    facade.created(PATIENT | {"identifier": [{"value": "patch-1"}]})
    assert json_patched(facade, "Patient?identifier=patch-1", operation).status_code == 412


def test_patches_in_a_transaction(facade: RunningFacade) -> None:
    by_parameters, by_binary = facade.created(PATIENT), facade.created(PATIENT)
    general = {"type": "add", "path": "Patient", "name": "generalPractitioner"}
    general |= {"value": {"valueReference": {"reference": "urn:uuid:1"}}}
    data = base64.b64encode(b'[{"op":"replace","path":"/gender","value":"male"}]').decode()
    binary = {"resourceType": "Binary", "contentType": JSON_PATCH, "data": data}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": parameters(general), "request": {"method": "PATCH", "url": by_parameters}},
            {"resource": binary, "request": {"method": "PATCH", "url": by_binary}},
            {
                "fullUrl": "urn:uuid:1",
                "resource": {"resourceType": "Organization", "name": "Cabinet"},
                "request": {"method": "POST", "url": "Organization"},
            },
        ],
    }
    answer = facade.post("", bundle)
    assert answer.status_code == 200, answer.text
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == ["200 OK", "200 OK", "201 Created"]
    made = answer.json()["entry"][2]["response"]["location"].partition("/_history")[0]
    assert facade.get(by_parameters).json()["generalPractitioner"] == [{"reference": made}]
    assert facade.get(by_binary).json()["gender"] == "male"


def test_types_that_are_changed_under_if_match_only(tmp_path: Path) -> None:
    with running_facade(tmp_path, versioned_update_types="Patient, Task", workers=1) as strict:
        name = strict.created(PATIENT)
        body = PATIENT | {"id": name.partition("/")[2]}
        assert strict.put(name, body).status_code == 428
        assert json_patched(strict, name, {"op": "remove", "path": "/gender"}).status_code == 428
        assert strict.put(name, body, If_Match='W/"1"').status_code == 200
        resources = strict.get("metadata").json()["rest"][0]["resource"]
        versioning = {resource["type"]: resource["versioning"] for resource in resources}
        assert (versioning["Patient"], versioning["Goal"]) == ("versioned-update", "versioned")


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        ({"a/b": 1}, {"op": "replace", "path": "/a~1b", "value": 2}, {"a/b": 2}),
        ({"~1": 1}, {"op": "remove", "path": "/~01"}, {}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": 2}, {"a": [1, 2]}),
        ({"a": [1]}, {"op": "add", "path": "/a/0", "value": 2}, {"a": [2, 1]}),
        ({"a": [1, 2]}, {"op": "move", "from": "/a/0", "path": "/a/1"}, {"a": [2, 1]}),
        ({"a": {"b": 1}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1}, {"op": "add", "path": "", "value": {"b": 2}}, {"b": 2}),
        ({"a": {"b": [1]}}, {"op": "test", "path": "/a", "value": {"b": [1]}}, {"a": {"b": [1]}}),
        ({"a": True}, {"op": "test", "path": "/a", "value": 1}, None),
        ({"a": 1}, {"op": "add", "path": "/b/c", "value": 1}, None),
        ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 1}, None),
        ({"a": [1]}, {"op": "remove", "path": "/a/-"}, None),
        ({"a": "x"}, {"op": "add", "path": "/a/0", "value": 1}, None),
    ],
)
def test_json_patch_as_rfc_6902_says(before: Any, operation: Any, after: Any) -> None:
    apply = json_patch.compile_patch([operation])
    if after is None:
        with pytest.raises(FhirError):
            apply(before)
    else:
        assert apply(before) == after


def test_copies_of_copies_are_bounded() -> None:
    doubling = {"op": "copy", "from": "/a", "path": "/a/-"}
    with pytest.raises(FhirError) as refused:
        json_patch.compile_patch([doubling] * 100)({"a": [[]]})
    assert refused.value.issues[0].code == "too-costly"
