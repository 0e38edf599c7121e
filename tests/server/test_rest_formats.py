"""Formats over HTTP (FHIR R4 §2.6, §3.1.0.1.11): XML in and out, gzip, native Binary content, other origins."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import requests
from lxml import etree

from relais.profiles.xml import from_xml, to_xml
from support.facade import RunningFacade, issues, running_facade

JSON, XML = "application/fhir+json", "application/fhir+xml"
RICH: dict[str, Any] = {
    "resourceType": "Patient",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>É <b>a</b><i>b</i></p></div>'},
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Cabinet"}],
    "extension": [{"url": "http://example.org/x", "valueQuantity": {"value": "__number__"}}],
    "name": [
        {
            "family": "Essai",
            "given": ["Hélène", None],
            "_given": [None, {"extension": [{"url": "http://example.org/z", "valueBoolean": True}]}],
        }
    ],
    "birthDate": "1970-01",
    "_birthDate": {"extension": [{"url": "http://example.org/y", "valueBoolean": True}]},
    "managingOrganization": {"reference": "#o"},
}
BODY = json.dumps(RICH, ensure_ascii=False).replace('"__number__"', "1.00").encode()


def xml(answer: requests.Response) -> etree._Element:
    assert answer.headers["Content-Type"] == "application/fhir+xml;charset=utf-8", answer.text
    return etree.fromstring(answer.content)


def without_meta(body: bytes) -> bytes:
    head, _, tail = body.partition(b'"meta":{')
    return tail.partition(b"},")[2] if head else body


def test_a_resource_passes_through_xml_unchanged(facade: RunningFacade) -> None:
    created = facade.post("Patient", BODY)
    assert created.status_code == 201, created.text
    shown = facade.get(f"Patient/{created.json()['id']}", Accept=XML)
    again = facade.post("Patient", shown.content, Content_Type=XML)
    assert again.status_code == 201, again.text
    assert without_meta(again.content) == without_meta(created.content)
    assert b'"value":1.00' in again.content


@pytest.mark.parametrize(
    "accept", [XML, "application/xml", "text/xml", "application/xml+fhir", f"{XML};q=0.9, {JSON};q=0.5"]
)
def test_names_of_xml(facade: RunningFacade, accept: str) -> None:
    name = facade.created({"resourceType": "Patient"})
    for path in (
        "metadata",
        name,
        f"{name}/_history",
        f"{name}/_history/1",
        "Patient?_count=2",
        "Patient/_history?_count=1",
    ):
        answer = facade.get(path, Accept=accept)
        assert answer.status_code == 200
        assert from_xml(xml(answer))["resourceType"] in ("CapabilityStatement", "Patient", "Bundle")
    refused = facade.get("Patient/never-was", Accept=accept)
    assert (refused.status_code, xml(refused).tag) == (404, "{http://hl7.org/fhir}OperationOutcome")


def test_xml_of_a_search_says_the_same_as_json(facade: RunningFacade) -> None:
    name = facade.created({"resourceType": "Patient", "name": [{"family": "Égal"}]})
    query = f"Patient?_id={name.partition('/')[2]}"
    shown, told = from_xml(xml(facade.get(query, Accept=XML))), facade.get(query).json()
    assert shown["entry"] == told["entry"]


def test_transaction_in_xml(facade: RunningFacade) -> None:
    entry = {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}
    bundle = to_xml({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    answer = facade.post("", etree.tostring(bundle), Content_Type=XML, Accept=XML)
    assert from_xml(xml(answer))["entry"][0]["response"]["status"] == "201 Created"


def test_pretty_xml_leaves_the_narrative_alone(facade: RunningFacade) -> None:
    name = facade.created(RICH | {"extension": [{"url": "http://example.org/x", "valueString": "x"}]})
    text = facade.get(f"{name}?_pretty=true&_format=xml").text
    assert '\n  <id value="' in text
    assert "<p>É <b>a</b><i>b</i></p>" in text


@pytest.mark.parametrize(
    "body",
    [
        b"<Patient",
        b"<Patient/>",
        b'<!DOCTYPE x [<!ENTITY e "e">]><Patient xmlns="http://hl7.org/fhir"/>',
        b'<Patient xmlns="http://hl7.org/fhir"><nam value="x"/></Patient>',
        b'<Patient xmlns="http://hl7.org/fhir">text</Patient>',
        b'<Patient xmlns="http://hl7.org/fhir"><birthDate value="1970"/><active value="true"/></Patient>',
        b'{"resourceType":"Patient"}',
        b'<Patient xmlns="http://hl7.org/fhir"><active value="perhaps"/></Patient>',
        b'<Patient xmlns="http://hl7.org/fhir"><multipleBirthInteger value="1e9999"/></Patient>',
    ],
)
def test_unreadable_xml(facade: RunningFacade, body: bytes) -> None:
    answer = facade.post("Patient", body, Content_Type=XML)
    assert answer.status_code == 400, answer.text
    assert issues(answer)


def test_large_answers_are_compressed_for_who_reads_gzip(facade: RunningFacade) -> None:
    small = facade.get(facade.created({"resourceType": "Patient"}), Accept_Encoding="gzip")
    assert "Content-Encoding" not in small.headers
    large, plain = facade.get("metadata", Accept_Encoding="gzip"), facade.get("metadata", Accept_Encoding="identity")
    assert large.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in large.headers["Vary"]
    assert large.content == plain.content  # requests has decompressed it
    assert int(large.headers["Content-Length"]) < len(plain.content) / 4
    assert "Content-Encoding" not in facade.get("metadata", Accept_Encoding="gzip;q=0").headers


def test_compressed_requests(facade: RunningFacade) -> None:
    body = gzip.compress(b'{"resourceType":"Patient"}')
    assert facade.post("Patient", body, Content_Encoding="gzip").status_code == 201
    for wrong, coding, status in (
        (body[:-4], "gzip", 400),
        (body + b"x", "gzip", 400),
        (b"{}", "gzip", 400),
        (body, "br", 415),
        (gzip.compress(b" " * 30_000_000), "gzip", 413),
    ):
        answer = facade.post("Patient", wrong, Content_Encoding=coding)
        assert (answer.status_code, bool(issues(answer))) == (status, True)


def test_binary_in_its_own_type(facade: RunningFacade) -> None:
    document = b"<ClinicalDocument xmlns='urn:hl7-org:v3'/>"
    created = facade.post("Binary", document, Content_Type="text/xml")
    assert created.status_code == 201, created.text
    assert created.json()["contentType"] == "text/xml"
    name = f"Binary/{created.json()['id']}"
    for accept in ("*/*", "text/xml", "text/*", "image/png;q=0.1, text/xml"):
        native = facade.get(name, Accept=accept)
        assert (native.content, native.headers["Content-Type"]) == (document, "text/xml")
        assert native.headers["X-Content-Type-Options"] == "nosniff"
        assert native.headers["ETag"] == 'W/"1"'
    for accept in (JSON, "application/json"):
        assert facade.get(name, Accept=accept).json()["contentType"] == "text/xml"
    assert from_xml(xml(facade.get(name, Accept=XML)))["contentType"] == "text/xml"
    assert facade.get(f"{name}?_format=json").json()["resourceType"] == "Binary"
    assert facade.get(name, Accept="image/png").status_code == 406
    assert facade.get(name, If_None_Match='W/"1"').status_code == 304
    assert facade.request("HEAD", name, Accept="*/*").headers["Content-Type"] == "text/xml"
    assert facade.put(name, b"%PDF", Content_Type="application/pdf").status_code == 200
    assert facade.get(name, Accept="application/pdf").content == b"%PDF"


def test_binary_names_its_security_context(facade: RunningFacade) -> None:
    patient = facade.created({"resourceType": "Patient"})
    created = facade.post("Binary", b"x", Content_Type="text/plain", X_Security_Context=patient)
    assert created.json()["securityContext"] == {"reference": patient}
    assert facade.get(f"Binary/{created.json()['id']}").headers["X-Security-Context"] == patient
    nowhere = facade.post("Binary", b"x", Content_Type="text/plain", X_Security_Context="Patient/nobody")
    assert nowhere.status_code == 422


def test_browsers_of_other_origins_are_served_only_by_setting(facade: RunningFacade, tmp_path: Path) -> None:
    origin = "https://app.example"
    asked = {"Origin": origin, "Access_Control_Request_Method": "PUT"}
    assert "Access-Control-Allow-Origin" not in facade.get("metadata", Origin=origin).headers
    assert facade.request("OPTIONS", "Patient", **asked).status_code == 405
    with running_facade(tmp_path, cors_origins=f"https://other.example, {origin}", workers=1) as shared:
        preflight = shared.request("OPTIONS", "Patient/x", **asked)
        assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (204, origin)
        assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
        answer = shared.get("Patient/x", Origin=origin)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (404, origin)
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Origin" not in shared.get("metadata", Origin="https://evil.example").headers
