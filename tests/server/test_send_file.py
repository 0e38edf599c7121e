"""`relais send FILE`: a document made elsewhere is judged by the record of its patient, where the store has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings import extensions, identity
from relais.mappings.context import Resource
from relais.mappings.to_cda.unstructured import unstructured
from relais.server.cli import main
from relais.server.store import Store
from support import orders
from support.orders import BASE, CHANNELS, Office, document_of, stored_document
from support.plans import PLANS

OTHER_INS = "277076322082910"


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'send.sqlite'}"


@pytest.fixture
def office(database: str) -> Any:
    store = Store.open(database)
    yield Office(store)
    store.close()


@pytest.fixture
def patient(office: Office) -> str:
    """The record of the patient whose plan is sent as a file."""
    return str(office.read(office.post(PLANS["full"], "CarePlan"))["subject"]["reference"])


@pytest.fixture
def file(office: Office, patient: str, tmp_path: Path) -> Path:
    """The document of the plan, as if another software had made it."""
    [plan] = [entry["resource"] for entry in office.read("CarePlan")["entry"]]
    content = document_of(office, f"CarePlan/{plan['id']}")
    found = tmp_path / "document.xml"
    found.write_bytes(content.replace(b"PPS-", b"PPX-").replace(b'root="2.25.', b'root="2.25.9'))
    return found


def send(database: str, file: Path, *arguments: str) -> Result:
    settings = {
        **CHANNELS,
        "database_url": database,
        "base_url": BASE,
        "fhir_packages": "none",
        "organization_name": "DAC",
    }
    environ = {f"RELAIS_{name.upper()}": str(value) for name, value in settings.items()}
    return CliRunner().invoke(main, ["send", str(file), *arguments], env=environ)


def refused(database: str, file: Path, *arguments: str) -> str:
    done = send(database, file, *arguments)
    assert (done.exit_code, "Traceback" in done.output) == (1, False), done.output
    return done.output


def test_its_task_names_the_patient(database: str, file: Path, patient: str) -> None:
    done = send(database, file, "--channel", "hl7v2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["for"] == {"reference": patient}


def test_nothing_leaves_about_a_record_that_is_not_in_use(
    database: str, file: Path, office: Office, patient: str
) -> None:
    office.change(patient, active=False)
    assert "Patient.active" in refused(database, file, "--channel", "hl7v2")


def test_a_record_that_was_merged_into_one_without_the_ins(
    database: str, file: Path, office: Office, patient: str
) -> None:
    twin = {name: value for name, value in office.read(patient).items() if name not in ("id", "meta", "identifier")}
    survivor = office.call("POST", "Patient", twin).location.split("/_history")[0].split("/fhir/")[-1]
    office.change(patient, link=[{"other": {"reference": survivor}, "type": "replaced-by"}], active=False)
    assert survivor in refused(database, file, "--channel", "hl7v2")


def test_a_survivor_who_bears_the_ins_is_the_patient(database: str, file: Path, office: Office, patient: str) -> None:
    twin = {name: value for name, value in office.read(patient).items() if name not in ("id", "meta")}
    survivor = office.call("POST", "Patient", twin).location.split("/_history")[0].split("/fhir/")[-1]
    office.change(patient, link=[{"other": {"reference": survivor}, "type": "replaced-by"}], active=False)
    done = send(database, file, "--channel", "hl7v2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["for"]["reference"] in (patient, survivor)


def test_a_number_of_this_house_with_the_ins_of_somebody_else(
    database: str, file: Path, office: Office, patient: str
) -> None:
    resource = office.read(patient)
    for one in identity.ins_identifiers(resource):
        one["value"] = OTHER_INS
    resource["identifier"].append({"system": "urn:oid:1.2.250.1.999.42.1", "value": "IPP-1"})
    office.change(patient, identifier=resource["identifier"])
    local = b'<id extension="IPP-1" root="1.2.250.1.999.42.1"/>'
    content = file.read_bytes()
    at = content.index(b"<id ", content.index(b"<patientRole"))
    file.write_bytes(content[:at] + local + content[at:])
    assert "another patient" in refused(database, file, "--channel", "hl7v2")


def doubted(patient: Resource) -> Resource:
    for reliability in extensions.extensions(patient, extensions.IDENTITY_RELIABILITY):
        for part in extensions.extensions(reliability, "identityStatus"):
            part["valueCoding"] = {"code": "PROV"}
    return patient


def test_an_identity_that_is_not_qualified_files_by_no_ins(
    database: str, file: Path, office: Office, patient: str
) -> None:
    office.change(patient, extension=doubted(office.read(patient))["extension"])
    assert "not qualified" in refused(database, file, "--channel", "hl7v2")
    done = send(database, file, "--channel", "mss", "--recipient", "medecin@cabinet.mssante.fr")
    assert done.exit_code == 0, done.output


def test_what_the_patient_opposes(database: str, file: Path, office: Office, patient: str) -> None:
    consent = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": patient},
        "policyRule": {"coding": [{"code": "OPTOUT"}]},
    }
    office.call("POST", "Consent", consent)
    assert "the person opposes sharing" in refused(database, file, "--channel", "hl7v2")


def test_a_patient_whom_nobody_knows_here(file: Path, tmp_path: Path) -> None:
    done = send(f"sqlite:///{tmp_path / 'empty.sqlite'}", file, "--channel", "hl7v2", "--json")
    assert done.exit_code == 0, done.output
    assert "for" not in json.loads(done.output)


def cut(content: bytes) -> bytes:
    """The unstructured form of a document, by another software that lost the end of the PDF."""
    pdf = b"%PDF-1.4 <pdfaid:part>1</pdfaid:part> %%EOF"
    made = unstructured(read(content).document, pdf)
    assert made.non_xml_body is not None
    made.non_xml_body.data = pdf[:-5]
    return write(made)


def test_a_file_in_it_that_is_cut_short_is_refused_with_its_place(
    database: str, file: Path, office: Office, patient: str
) -> None:
    file.write_bytes(cut(file.read_bytes()))
    said = refused(database, file, "--channel", "hl7v2")
    assert "/ClinicalDocument/component/nonXMLBody/text" in said
    assert "relais-media-end" in said
    [issue] = orders.refused(office, stored_document(office, patient, file.read_bytes()), "hl7v2")
    assert (issue.path, issue.rule) == ("/ClinicalDocument/component/nonXMLBody/text", "relais-media-end")
