"""`$from-cda` over HTTP, on both engines: official examples, our own documents, storing once and without doubt."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from relais.cda import templates
from relais.cda.model import II, Document, RelatedDocument
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings import identity
from relais.mappings.context import DocumentVersion, Resource
from relais.mappings.to_cda import convert
from relais.server import commands
from relais.server.settings import Settings
from support.appointments import AGENDAS, Agenda
from support.documents import small_document
from support.facade import RunningFacade, issues
from support.notifications import EMISSION, NOTICES
from support.plans import PLANS, full_ins

XML = "text/xml"
OFFICIAL = (
    *("cda/examples/PPS-PAERPA_2022.01.xml", "cda/examples/CANCER-PPS_2025.01.xml", "cda/examples/LDL-SES_2022.01.xml"),
    *("cda/examples/DOC_NON_STRUCTURE_CDA-R2-N1.xml", "xdm/VSM/IHE_XDM/SUBSET01/DOC00001.XML"),
    *("xdm/CRRTN/IHE_XDM/SUBSET01/CR-RTN.xml", "hl7v2/mdm-init/CR_Radio_CDAN1_v1.XML"),
    "hl7v2/oru-init/SEGUR_CR-BIO_2023.01_Electrophorese.xml",
)
OURS = {"pps": PLANS["full"], "agenda": AGENDAS["every-detail"], "notification": NOTICES["attachments"]}


def post(facade: RunningFacade, content: bytes, query: str = "", **headers: str) -> requests.Response:
    """The document as it is."""
    return facade.post(f"$from-cda{query}", content, Content_Type=XML, **headers)


def file(facade: RunningFacade, content: bytes, status: int = 201) -> list[str]:
    """Store the document; what was stored, the DocumentReference first."""
    answer = post(facade, content, "?store=true")
    assert answer.status_code == status, answer.text
    bundle = answer.json()
    assert bundle["type"] == "transaction-response"
    locations = [entry["response"]["location"].partition("/_history")[0] for entry in bundle["entry"]]
    assert answer.headers["Location"].startswith(f"{facade.base}/{locations[0]}/_history/")
    return locations


def of_type(names: list[str], resource_type: str) -> str:
    return next(name for name in names if name.startswith(f"{resource_type}/"))


def refused(answer: requests.Response, status: int) -> Resource:
    assert answer.status_code == status, answer.text
    return next(issue for issue in issues(answer) if issue["severity"] == "error")


def new_document(ins: str = "", ipp: str = "", **traits: Any) -> Document:
    """A document of a patient of its own: each call another one."""
    document = small_document()
    document.header.id = II(f"2.25.{uuid.uuid4().int}")
    document.header.set_id = II(f"2.25.{uuid.uuid4().int}")
    numbers = [II(templates.INS_NIR_TEST, ins)] if ins else []
    document.header.patient.ids = [*numbers, *([II("1.2.250.1.999.77", ipp)] if ipp else [])]
    for name, value in traits.items():
        setattr(document.header.patient, name, value)
    return document


def new_ins() -> str:
    """An INS of the test domain that no other test bears."""
    return full_ins(f"2790351{uuid.uuid4().int % 10**6:06}")


def next_version(former: Document) -> Document:
    document = new_document()
    document.header.patient.ids = former.header.patient.ids
    document.header.set_id = former.header.set_id
    document.header.version_number = (former.header.version_number or 1) + 1
    document.header.related_documents = [RelatedDocument([former.header.id])]
    return document


# --- official documents, and ours -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OFFICIAL)
def test_an_official_document_is_filed_with_its_bytes(facade: RunningFacade, cisis: Path, path: str) -> None:
    content = (cisis / path).read_bytes()
    names = file(facade, content)
    reference = facade.get(names[0]).json()
    header = read(content).document.header
    original = reference["content"][0]["attachment"]
    assert facade.get(original["url"], Accept=XML).content == content
    assert facade.get(f"{names[0]}/$to-cda").content == content
    assert (original["size"], original["contentType"]) == (len(content), XML)
    assert base64.b64decode(original["hash"]) == hashlib.sha1(content, usedforsecurity=False).digest()
    assert identity.any_ii_of(reference["masterIdentifier"]) == header.id
    assert reference["type"]["coding"][0]["code"] == header.code.code
    composition = facade.get(of_type(names, "Composition")).json()
    assert composition["subject"]["reference"] == reference["subject"]["reference"] == of_type(names, "Patient")
    assert composition["section"]


@pytest.mark.parametrize("kind", OURS)
def test_our_documents_come_back_with_what_they_are_about(facade: RunningFacade, kind: str) -> None:
    mapped = convert(OURS[kind], EMISSION)
    mapped.document.header.patient.ids = [II("1.2.250.1.999.77", kind)]
    mapped.document.header.id = II(f"2.25.{uuid.uuid4().int}")
    names = file(facade, write(mapped.document))
    carrier = {"pps": "CarePlan", "agenda": "Appointment", "notification": "Communication"}[kind]
    found = facade.get(of_type(names, carrier)).json()
    assert of_type(names, "Patient") in str(found)


def test_without_store_the_answer_is_what_the_command_gives_and_nothing_is_stored(
    facade: RunningFacade, cisis: Path
) -> None:
    content, before = (cisis / OFFICIAL[0]).read_bytes(), facade.count()
    answer = post(facade, content).json()
    imported, remarks = commands.import_document(content)
    *entries, last = answer["entry"]
    assert answer | {"entry": entries} == requests.models.complexjson.loads(imported)
    assert last["resource"]["resourceType"] == "OperationOutcome"
    assert len(last["resource"]["issue"]) == len(remarks)
    assert {issue["severity"] for issue in last["resource"]["issue"]} <= {"warning", "information"}
    assert facade.count() == before


def test_the_three_ways_to_send_a_document_are_one(facade: RunningFacade) -> None:
    content = write(new_document(ipp="three-ways"))
    binary = {"resourceType": "Binary", "contentType": XML, "data": base64.b64encode(content).decode()}
    body = {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": binary}]}
    answers = [post(facade, content), facade.post("$from-cda", binary), facade.post("$from-cda", body)]
    assert answers[0].json() == answers[1].json() == answers[2].json()
    body["parameter"].append({"name": "store", "valueBoolean": True})
    assert facade.post("$from-cda", body).status_code == 201
    assert post(facade, content, "?store=true").status_code == 200


def test_remarks_of_what_is_filed_stand_with_the_document_reference(facade: RunningFacade, cisis: Path) -> None:
    content = (cisis / OFFICIAL[4]).read_bytes()
    post(facade, content, "?store=true")
    first, *others = post(facade, content, "?store=true").json()["entry"]
    assert first["response"]["outcome"]["issue"]
    assert not any("outcome" in entry["response"] for entry in others)
    shown = post(facade, content, "?store=true", Prefer="return=representation").json()["entry"]
    assert shown[0]["resource"]["resourceType"] == "DocumentReference"


# --- once -------------------------------------------------------------------------------------------------------


def test_the_same_document_again_changes_nothing(facade: RunningFacade) -> None:
    content = write(new_document(new_ins()))
    first, count = file(facade, content), facade.count()
    assert sorted(file(facade, content, 200)) == sorted(first)
    assert facade.count() == count


def test_writers_at_once_file_a_document_once_and_create_its_patient_once(facade: RunningFacade) -> None:
    ins = new_ins()
    contents = [write(new_document(ins))] * 3 + [write(new_document(ins)) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda content: post(facade, content, "?store=true"), contents))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 201, 201, 201, 201]
    found = facade.get(f"Patient?identifier=urn:oid:{templates.INS_NIR_TEST}|{ins}").json()
    assert found["total"] == 1


def test_another_document_under_the_same_id_is_refused(facade: RunningFacade) -> None:
    content = write(new_document(new_ins()))
    file(facade, content)
    count = facade.count()
    issue = refused(post(facade, content.replace(b"<title>", b"<title>X"), "?store=true"), 409)
    assert (issue["code"], issue["expression"]) == ("duplicate", ["ClinicalDocument/id"])
    assert facade.count() == count


def test_a_document_that_was_deleted_can_be_filed_again(facade: RunningFacade) -> None:
    content = write(new_document(new_ins()))
    names = file(facade, content)
    assert facade.request("DELETE", names[0]).status_code == 204
    assert file(facade, content)[0] == names[0]


# --- whose document ---------------------------------------------------------------------------------------------


def test_the_patient_who_bears_the_ins_is_the_subject_and_is_not_changed(facade: RunningFacade) -> None:
    ins = new_ins()
    stored = facade.created(
        {
            "resourceType": "Patient",
            "identifier": [{"system": f"urn:oid:{templates.INS_NIR_TEST}", "value": ins}],
            "name": [{"use": "official", "family": "Patterson", "given": ["Dominique"]}],
            "birthDate": "1979-03-28",
        }
    )
    before = facade.get(stored).json()
    names = file(facade, write(new_document(ins)))
    assert of_type(names, "Patient") == stored
    assert facade.get(names[0]).json()["subject"]["reference"] == stored
    assert facade.get(stored).json() == before


@pytest.mark.parametrize(
    ("trait", "value", "word"),
    [
        ("birthDate", "1979-03-29", "birthDate"),
        ("gender", "male", "gender"),
        ("name", [{"use": "official", "family": "AUTRE", "given": ["Dominique"]}], "birth name"),
        ("name", [{"use": "official", "family": "PATTERSON", "given": ["Odile"]}], "first given name"),
    ],
)
def test_a_trait_that_contradicts_is_refused_and_names_no_value(
    facade: RunningFacade, trait: str, value: Any, word: str
) -> None:
    ins = new_ins()
    facade.created(
        {
            "resourceType": "Patient",
            "identifier": [{"system": f"urn:oid:{templates.INS_NIR_TEST}", "value": ins}],
            trait: value,
        }
    )
    count = facade.count()
    answer = post(facade, write(new_document(ins)), "?store=true")
    issue = refused(answer, 409)
    assert (issue["code"], issue["expression"]) == ("conflict", ["ClinicalDocument/recordTarget/patientRole"])
    assert word in issue["diagnostics"]
    assert ins not in answer.text
    assert "PATTERSON" not in answer.text
    assert facade.count() == count


def test_a_local_number_of_somebody_with_another_ins_is_refused(facade: RunningFacade) -> None:
    file(facade, write(new_document(new_ins(), ipp="shared-number")))
    issue = refused(post(facade, write(new_document(new_ins(), ipp="shared-number")), "?store=true"), 409)
    assert "INS" in issue["diagnostics"]


def test_a_patient_known_by_a_local_number_only_is_found_by_it(facade: RunningFacade) -> None:
    first = file(facade, write(new_document(ipp="local-only")))
    second = file(facade, write(new_document(ipp="local-only")))
    assert of_type(first, "Patient") == of_type(second, "Patient")


def test_two_patients_who_bear_the_number_are_a_doubt(facade: RunningFacade) -> None:
    ins = new_ins()
    for _ in range(2):
        facade.created(
            {
                "resourceType": "Patient",
                "identifier": [{"system": f"urn:oid:{templates.INS_NIR_TEST}", "value": ins}],
            }
        )
    assert refused(post(facade, write(new_document(ins)), "?store=true"), 412)["code"] == "multiple-matches"


def test_a_patient_is_never_changed_by_a_document_that_is_filed_again(facade: RunningFacade) -> None:
    content = write(new_document(new_ins()))
    names = file(facade, content)
    patient = facade.get(of_type(names, "Patient")).json()
    assert facade.put(of_type(names, "Patient"), patient | {"active": True}).status_code == 200
    facade.request("DELETE", names[0])
    assert sorted(file(facade, content)) == sorted(names)
    assert facade.get(of_type(names, "Patient")).json()["active"] is True


def test_a_former_number_and_a_merged_record_name_nobody(facade: RunningFacade) -> None:
    ins = new_ins()
    number = {"system": f"urn:oid:{templates.INS_NIR_TEST}", "value": ins}
    kept = facade.created({"resourceType": "Patient", "identifier": [number]})
    facade.created({"resourceType": "Patient", "identifier": [number | {"use": "old"}]})
    merged = {"type": "replaced-by", "other": {"reference": kept}}
    facade.created({"resourceType": "Patient", "identifier": [number], "link": [merged]})
    assert of_type(file(facade, write(new_document(ins))), "Patient") == kept


def test_patients_without_number_are_each_somebody_else(facade: RunningFacade) -> None:
    first, second = file(facade, write(new_document())), file(facade, write(new_document()))
    assert of_type(first, "Patient") != of_type(second, "Patient")


# --- versions ---------------------------------------------------------------------------------------------------


def test_the_next_version_supersedes_the_one_it_replaces(facade: RunningFacade) -> None:
    former = new_document(new_ins())
    latter = next_version(former)
    first, second = file(facade, write(former)), file(facade, write(latter))
    assert facade.get(first[0]).json()["status"] == "superseded"
    reference = facade.get(second[0]).json()
    assert reference["status"] == "current"
    assert reference["relatesTo"] == [{"code": "replaces", "target": {"reference": first[0]}}]


def test_a_version_that_comes_late_is_filed_as_superseded(facade: RunningFacade) -> None:
    former = new_document(new_ins())
    second = file(facade, write(next_version(former)))
    first = file(facade, write(former))
    assert facade.get(first[0]).json()["status"] == "superseded"
    assert facade.get(second[0]).json()["status"] == "current"


def agenda_version(number: int, former: Document | None, ins: str, **appointment: Any) -> Document:
    """The document of one appointment of that patient, and what it says by then."""
    agenda = Agenda(ins)
    agenda.appointment(**appointment)
    version = DocumentVersion(number, former.header.id if former else None)
    document = agenda.single(emission=replace(EMISSION, version=version)).document
    document.header.patient.ids = [II("1.2.250.1.999.77", ins)]
    return document


def test_the_next_version_makes_the_next_version_of_what_it_says(facade: RunningFacade) -> None:
    key = str(uuid.uuid4())
    first = agenda_version(1, None, key)
    second = agenda_version(2, first, key, status="cancelled")
    booked = of_type(file(facade, write(first)), "Appointment")
    names = file(facade, write(second))
    assert of_type(names, "Appointment") == booked
    found = facade.get(booked).json()
    assert (found["status"], found["meta"]["versionId"]) == ("cancelled", "2")
    assert sorted(file(facade, write(second), 200)) == sorted(names)


def test_a_version_that_comes_late_does_not_take_back_what_the_later_one_says(facade: RunningFacade) -> None:
    key = str(uuid.uuid4())
    first = agenda_version(1, None, key)
    cancelled = of_type(file(facade, write(agenda_version(2, first, key, status="cancelled"))), "Appointment")
    assert of_type(file(facade, write(first)), "Appointment") == cancelled
    found = facade.get(cancelled).json()
    assert (found["status"], found["meta"]["versionId"]) == ("cancelled", "1")


def test_an_appointment_of_our_own_is_not_taken_over_by_a_document(facade: RunningFacade) -> None:
    key = str(uuid.uuid4())
    agenda = Agenda(key)
    agenda.appointment()
    answer = facade.post("", agenda.bundle()).json()
    own = next(e["response"]["location"] for e in answer["entry"] if "Appointment/" in e["response"]["location"])
    own = own.partition("/_history")[0]
    filed = of_type(file(facade, write(agenda_version(1, None, key, status="cancelled"))), "Appointment")
    assert filed != own
    assert facade.get(own).json()["status"] == "booked"


def test_a_version_about_another_patient_is_refused(facade: RunningFacade) -> None:
    former = new_document(new_ins())
    latter = next_version(former)
    latter.header.patient.ids = [II(templates.INS_NIR_TEST, new_ins())]
    file(facade, write(former))
    assert refused(post(facade, write(latter), "?store=true"), 422)["code"] == "conflict"


# --- received documents go out ----------------------------------------------------------------------------------


def test_a_document_that_is_moved_to_another_patient_does_not_go_out(facade: RunningFacade) -> None:
    names = file(facade, write(new_document(new_ins())))
    other = facade.created(
        {
            "resourceType": "Patient",
            "identifier": [{"system": f"urn:oid:{templates.INS_NIR_TEST}", "value": new_ins()}],
        }
    )
    reference = facade.get(names[0]).json()
    assert facade.put(names[0], reference | {"subject": {"reference": other}}).status_code == 200
    assert refused(facade.get(f"{names[0]}/$to-cda"), 422)["expression"] == ["DocumentReference.subject"]


def test_a_received_document_has_no_other_level(facade: RunningFacade) -> None:
    names = file(facade, write(new_document(new_ins())))
    assert refused(facade.get(f"{names[0]}/$to-cda?level=n1"), 400)["expression"] == ["level"]


def test_a_reference_without_document_here_has_none_to_give(facade: RunningFacade) -> None:
    names = file(facade, write(new_document(new_ins())))
    reference = facade.get(names[0]).json()
    elsewhere = {"attachment": {"contentType": XML, "url": "https://ailleurs.example/1.xml"}}
    assert facade.put(names[0], reference | {"content": [elsewhere]}).status_code == 200
    issue = refused(facade.get(f"{names[0]}/$to-cda"), 422)
    assert issue["expression"] == ["DocumentReference.content[0].attachment.url"]


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<html/>", 400),
        (b"%PDF-1.4", 400),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><ClinicalDocument xmlns='urn:hl7-org:v3'/>", 400),
        (b"<ClinicalDocument xmlns='urn:hl7-org:v3'/>", 422),
    ],
)
def test_what_is_no_document_is_refused(facade: RunningFacade, content: bytes, status: int) -> None:
    for query in ("", "?store=true"):
        answer = post(facade, content, query)
        assert answer.status_code == status, answer.text
        assert issues(answer)[0]["severity"] in ("error", "fatal")


def test_two_patients_are_refused(facade: RunningFacade) -> None:
    content = write(new_document(new_ins())).decode()
    target = re.search("<recordTarget>.*</recordTarget>", content)
    assert target is not None
    answer = post(facade, content.replace(target[0], target[0] * 2).encode(), "?store=true")
    assert "recordTarget" in refused(answer, 422)["expression"][0]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"resourceType": "Binary", "contentType": XML, "data": "PD94bW"}, "Binary.data"),
        ({"resourceType": "Patient"}, "resourceType"),
        ({"resourceType": "Parameters", "parameter": []}, "Parameters.parameter"),
        (
            {"resourceType": "Parameters", "parameter": [{"name": "store", "valueCode": "yes"}]},
            "Parameters.parameter[0]",
        ),
        (
            {"resourceType": "Parameters", "parameter": [{"name": "level", "valueCode": "n1"}]},
            "Parameters.parameter[0]",
        ),
    ],
)
def test_a_body_that_holds_no_document_is_refused(facade: RunningFacade, body: Resource, place: str) -> None:
    answer = facade.post("$from-cda", body)
    assert answer.status_code == 400, answer.text
    assert issues(answer)[0]["expression"] == [place]


@pytest.mark.parametrize("query", ["?store=maybe", "?keep=true"])
def test_a_parameter_that_is_not_known_is_refused(facade: RunningFacade, query: str) -> None:
    assert post(facade, write(new_document()), query).status_code == 400


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_files_a_document_that_the_facade_then_knows(facade: RunningFacade) -> None:
    content = write(new_document(new_ins()))
    settings = Settings.of({"port": facade.port, "database_url": facade.settings["database_url"]})
    filed = commands.store_document(content, settings)
    assert filed.new
    assert not commands.store_document(content, settings).new
    assert file(facade, content, 200)[0] == f"DocumentReference/{filed.stored[0].id}"
