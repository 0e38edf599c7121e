"""The facade as a document share: deposits of PDSm (flux 01 and 09) and their way back, on both engines."""

from __future__ import annotations

import base64
import copy
import hashlib
import itertools
from typing import Any

import pytest

from relais.cda.model import II
from relais.mappings import pdsm
from relais.server.fhir.deposits import SIMPLIFIED_PROFILE
from support.documents import small_document
from support.facade import RunningFacade, issues
from support.shipments import small_shipment, with_entry

_numbers = itertools.count(5000)
TEXT = "Bonjour Hélène".encode()


def deposit() -> dict[str, Any]:
    """A flux 01 with a document of its own."""
    number = next(_numbers)
    document = small_document()
    document.header.id = II(f"2.25.{number}")
    sent = with_entry(small_shipment(document), entry_id=f"urn:uuid:00000000-0000-4000-8000-{number:012}")
    return pdsm.deposit(document, sent.document, sent.submission)


def fiche_of(bundle: dict[str, Any]) -> dict[str, Any]:
    return next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DocumentReference")


def stored(facade: RunningFacade, bundle: dict[str, Any]) -> str:
    """The name of the fiche after the deposit."""
    answer = facade.post("", bundle)
    assert answer.status_code == 200, answer.text
    entries = answer.json()["entry"]
    assert len(entries) == len(bundle["entry"])
    return str(entries[1]["response"]["location"].partition("/_history")[0])


def simplified(**more: Any) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "resourceType": "DocumentReference",
        "meta": {"profile": [SIMPLIFIED_PROFILE]},
        "masterIdentifier": {"use": "usual", "system": pdsm.URI, "value": f"urn:oid:2.25.{number}"},
        "status": "current",
        "date": "2026-11-20T10:00:00+01:00",
        "content": [
            {
                "attachment": {
                    "contentType": "text/plain",
                    "data": base64.b64encode(TEXT).decode(),
                    "title": "Note",
                }
            }
        ],
        **more,
    }


def test_a_deposit_is_read_back_byte_for_byte(facade: RunningFacade) -> None:
    bundle = deposit()
    fiche = facade.get(stored(facade, bundle)).json()
    attachment = fiche["content"][0]["attachment"]
    document = facade.get(attachment["url"], Accept=attachment["contentType"]).content
    assert base64.b64encode(hashlib.sha1(document, usedforsecurity=False).digest()).decode() == attachment["hash"]
    assert facade.get(attachment["url"], Accept="image/png").status_code == 406
    found = facade.get(f"DocumentReference?patient={fiche['subject']['reference']}&status=current").json()
    assert fiche["id"] in [entry["resource"]["id"] for entry in found["entry"]]


def test_a_document_is_deposited_once(facade: RunningFacade) -> None:
    bundle = deposit()
    stored(facade, bundle)
    again = facade.post("", bundle)
    assert (again.status_code, issues(again)[0]["code"]) == (422, "duplicate")
    assert "masterIdentifier" in issues(again)[0]["expression"][0]


def test_the_share_supersedes_what_is_replaced(facade: RunningFacade) -> None:
    former = stored(facade, deposit())
    bundle = deposit()
    fiche_of(bundle)["relatesTo"] = [{"code": "replaces", "target": {"reference": former}}]
    current = stored(facade, bundle)
    assert facade.get(former).json()["status"] == "superseded"
    found = facade.get(f"DocumentReference?relatesto={former}").json()["entry"]
    assert [f"DocumentReference/{entry['resource']['id']}" for entry in found] == [current]
    late = deposit()
    fiche_of(late)["relatesTo"] = [{"code": "replaces", "target": {"reference": former}}]
    refused = facade.post("", late)
    assert (refused.status_code, "is not current" in refused.text) == (422, True)


def test_a_document_of_another_patient_is_not_replaced(facade: RunningFacade) -> None:
    former = stored(facade, deposit())
    other = facade.created({"resourceType": "Patient"})
    note = simplified(subject={"reference": other})
    note["relatesTo"] = [{"code": "replaces", "target": {"reference": former}}]
    refused = facade.post("DocumentReference", note)
    assert (refused.status_code, "another patient" in refused.text) == (422, True)
    assert facade.get(former).json()["status"] == "current"
    note["relatesTo"] = [{"code": "replaces", "target": {"reference": "DocumentReference/nobody"}}]
    assert facade.post("DocumentReference", note).status_code == 422


@pytest.mark.parametrize("what", ["hash", "size", "listed", "content", "patient"])
def test_a_deposit_whose_parts_disagree_leaves_nothing(facade: RunningFacade, what: str) -> None:
    bundle = copy.deepcopy(deposit())
    attachment = fiche_of(bundle)["content"][0]["attachment"]
    if what == "hash":
        attachment["hash"] = base64.b64encode(b"x" * 20).decode()
    elif what == "size":
        attachment["size"] += 1
    elif what == "listed":
        del bundle["entry"][0]["resource"]["entry"]
    elif what == "content":
        attachment["url"] = "urn:uuid:00000000-0000-4000-8000-000000000000"
    else:
        fiche_of(bundle)["subject"] = {"identifier": {"system": "urn:oid:1.2.3", "value": "another"}}
    before = facade.get("DocumentReference?_summary=count").json()["total"]
    refused = facade.post("", bundle)
    assert refused.status_code == 422, refused.text
    assert issues(refused)[0]["severity"] == "error"
    assert facade.get("DocumentReference?_summary=count").json()["total"] == before


def test_a_simplified_publication_gets_its_binary_and_its_lot(facade: RunningFacade) -> None:
    patient = facade.created({"resourceType": "Patient"})
    answer = facade.post("DocumentReference", simplified(subject={"reference": patient}))
    assert answer.status_code == 201, answer.text
    fiche = answer.json()
    attachment = fiche["content"][0]["attachment"]
    assert "data" not in attachment
    assert (attachment["size"], attachment["title"]) == (len(TEXT), "Note")
    assert facade.get(attachment["url"], Accept="text/plain").content == TEXT
    lots = facade.get(f"List?patient={patient}&code=submissionset&status=current").json()
    assert lots["total"] == 1
    assert lots["entry"][0]["resource"]["entry"] == [{"item": {"reference": f"DocumentReference/{fiche['id']}"}}]
    again = simplified(masterIdentifier=fiche["masterIdentifier"])
    assert issues(facade.post("DocumentReference", again))[0]["code"] == "duplicate"


@pytest.mark.parametrize(
    ("attachment", "status"),
    [
        ({"contentType": "text/plain", "url": "Binary/x"}, 422),
        ({"contentType": "text/plain", "data": "Ym9uam91cg==", "size": 3}, 422),
        ({"contentType": "text/plain", "data": "Ym9uam91cg==", "hash": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}, 422),
        ({"contentType": "text/plain", "data": "***"}, 400),
        ({"data": "Ym9uam91cg=="}, 422),
    ],
)
def test_a_simplified_publication_that_contradicts_itself(
    facade: RunningFacade, attachment: dict[str, Any], status: int
) -> None:
    before = facade.get("Binary?_summary=count").json()["total"]
    refused = facade.post("DocumentReference", simplified(content=[{"attachment": attachment}]))
    assert (refused.status_code, bool(issues(refused))) == (status, True)
    assert facade.get("Binary?_summary=count").json()["total"] == before
