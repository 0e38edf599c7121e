"""What filing a received or a deposited document refuses, keeps and says: the facade without a socket, on SQLite."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from relais.cda.model import II, Document, RelatedDocument
from relais.cda.templates import INS_NIR, INS_NIR_TEST
from relais.cda.writer import write
from relais.mappings import pdsm
from relais.mappings.context import Resource
from relais.server.app import create_app
from relais.server.settings import Settings
from support.documents import small_document
from support.shipments import small_shipment

DOMAIN = "1.2.250.1.999.77"
FHIR = {"Content-Type": "application/fhir+json"}


class Facade:
    """A facade of its own."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        database = f"sqlite:///{folder / 'relais.sqlite'}"
        given = {"fhir_packages": "none", "database_url": database} | settings
        chosen = Settings.of(given)
        self.base = f"{chosen.fhir_base}/"
        self.client: FlaskClient = create_app(chosen).test_client()

    def post(self, resource: Resource) -> TestResponse:
        """The answer of a creation."""
        return self.client.post(f"/fhir/{resource['resourceType']}", json=resource, headers=FHIR)

    def put(self, resource: Resource) -> Resource:
        """The resource as stored under its id."""
        answer = self.client.put(f"/fhir/{resource['resourceType']}/{resource['id']}", json=resource, headers=FHIR)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.get_json())

    def get(self, name: str) -> Resource:
        """The resource `Type/[id]`."""
        answer = self.client.get(f"/fhir/{name}")
        assert answer.status_code == 200, answer.text
        return dict(answer.get_json())

    def delete(self, name: str) -> None:
        """Take the resource `Type/[id]` away."""
        assert self.client.delete(f"/fhir/{name}").status_code == 204

    def file(self, document: Document) -> TestResponse:
        """The answer of `$from-cda`."""
        query = {"store": "true"}
        return self.client.post("/fhir/$from-cda", data=write(document), query_string=query, content_type="text/xml")

    def filed(self, document: Document, kind: str = "DocumentReference") -> str:
        """The resource of that type that a new document was stored as."""
        answer = self.file(document)
        assert answer.status_code == 201, answer.text
        names = [entry["response"]["location"].partition("/_history")[0] for entry in answer.get_json()["entry"]]
        return next(name for name in names if name.startswith(f"{kind}/"))


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Facade:
    return Facade(tmp_path_factory.mktemp("filing"))


# --- deposits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["123,456", "1|456", "1$456", "1&identifier=456", "1\\,456", "1+456"])
def test_a_deposit_names_its_patient_and_nobody_else(facade: Facade, number: str) -> None:
    other = str(uuid.uuid4())
    values = ["456", "1", "123", "1 456"]
    numbers = [{"system": system, "value": value} for value in values for system in (f"urn:oid:{DOMAIN}", "urn:other")]
    facade.put({"resourceType": "Patient", "id": other, "identifier": numbers})
    document = small_document()
    document.header.patient.ids = [II(DOMAIN, number)]
    document.header.id = II(f"2.25.{uuid.uuid4().int}")
    sent = small_shipment(document)
    entry = pdsm.deposit(document, sent.document, sent.submission)["entry"][3]
    for status in (201, 200):
        given = FHIR | {"If-None-Exist": entry["request"]["ifNoneExist"]}
        answer = facade.client.post("/fhir/Patient", json=entry["resource"], headers=given)
        assert answer.status_code == status, answer.text
        assert answer.get_json()["id"] != other


def fiche(**more: Any) -> Resource:
    """A fiche of PDSm, of a document of its own."""
    number = {"system": pdsm.URI, "value": f"urn:oid:2.25.{uuid.uuid4().int}"}
    content = [{"attachment": {"contentType": "text/plain", "url": "https://elsewhere.example/1"}}]
    meta = {"profile": [pdsm.FICHE_PROFILE]}
    fixed = {"resourceType": "DocumentReference", "id": str(uuid.uuid4()), "meta": meta, "status": "current"}
    return fixed | {"masterIdentifier": number, "content": content} | more


def test_a_document_of_another_server_supersedes_none_of_ours(facade: Facade) -> None:
    former = facade.put(fiche())
    for base, status in (("https://other.example/fhir/", 422), (facade.base, 201)):
        target = {"reference": f"{base}DocumentReference/{former['id']}"}
        answer = facade.post(fiche(relatesTo=[{"code": "replaces", "target": target}]))
        assert answer.status_code == status, answer.text
        expected = "superseded" if status == 201 else "current"
        assert facade.get(f"DocumentReference/{former['id']}")["status"] == expected


def test_a_relation_whose_code_is_only_extended_is_no_replacement(facade: Facade) -> None:
    reason = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
    former = f"DocumentReference/{facade.put(fiche())['id']}"
    relation = {"_code": {"extension": [reason]}, "target": {"reference": former}}
    assert facade.post(fiche(relatesTo=[relation])).status_code == 201
    assert facade.get(former)["status"] == "current"


def test_every_way_to_create_a_fiche_knows_what_was_deposited(facade: Facade) -> None:
    first = facade.put(fiche())
    again = fiche(masterIdentifier=first["masterIdentifier"])
    for address in (f"DocumentReference/{again['id']}", "DocumentReference?identifier=urn:nobody|1"):
        answer = facade.client.put(f"/fhir/{address}", json=again, headers=FHIR)
        assert (answer.status_code, answer.get_json()["issue"][0]["code"]) == (422, "duplicate")
    facade.put(first | {"description": "Compte rendu"})


def test_a_deposit_is_no_batch(facade: Facade) -> None:
    bundle = {"resourceType": "Bundle", "type": "batch", "meta": {"profile": [pdsm.BUNDLE_PROFILE]}}
    answer = facade.client.post("/fhir/", json=bundle, headers=FHIR)
    assert (answer.status_code, answer.get_json()["issue"][0]["expression"]) == (422, ["Bundle.type"])


@pytest.mark.parametrize("extension", ["", "77"])
def test_a_document_that_was_deposited_gets_no_second_reference(facade: Facade, extension: str) -> None:
    document = new_document()
    document.header.id.extension = extension or None
    number = f"urn:oid:{document.header.id.root}" + (f"^{extension}" if extension else "")
    facade.put(fiche(masterIdentifier={"system": pdsm.URI, "value": number}))
    answer = facade.file(document)
    assert (answer.status_code, answer.get_json()["issue"][0]["code"]) == (409, "duplicate")


# --- received documents -----------------------------------------------------------------------------------------------


def new_document(number: str = "", version: int = 1, lineage: II | None = None, **related: II) -> Document:
    """A document of the patient of that local number, and how it relates to others (`RPLC`, `APND` …)."""
    document = small_document()
    document.header.id = II(f"2.25.{uuid.uuid4().int}")
    document.header.set_id = lineage or II(f"2.25.{uuid.uuid4().int}")
    document.header.version_number = version
    document.header.patient.ids = [II(DOMAIN, number or str(uuid.uuid4()))]
    document.header.related_documents = [RelatedDocument([parent], code) for code, parent in related.items()]
    return document


def after(former: Document, version: int, **related: II) -> Document:
    """A version of the lineage of `former`, of its patient."""
    header = former.header
    return new_document(header.patient.ids[0].extension or "", version, header.set_id, **related)


def test_only_a_replacement_supersedes(facade: Facade) -> None:
    former = new_document()
    number = former.header.patient.ids[0].extension or ""
    first = facade.filed(former)
    addendum = facade.filed(new_document(number, APND=former.header.id))
    translation = facade.filed(new_document(number, XFRM=former.header.id))
    assert facade.get(first)["status"] == "current"
    target = {"reference": first}
    assert facade.get(addendum)["relatesTo"] == [{"code": "appends", "target": target}]
    assert facade.get(translation)["relatesTo"] == [{"code": "transforms", "target": target}]
    facade.filed(after(former, 2, RPLC=former.header.id))
    assert facade.get(first)["status"] == "superseded"


def test_a_withdrawn_document_stays_withdrawn(facade: Facade) -> None:
    document = new_document()
    name = facade.filed(document)
    facade.put(facade.get(name) | {"status": "entered-in-error"})
    again = facade.file(document)
    assert (again.status_code, again.get_json()["issue"][0]["expression"]) == (409, ["ClinicalDocument/id"])
    latter = facade.filed(after(document, 2, RPLC=document.header.id))
    assert facade.get(name)["status"] == "entered-in-error"
    assert facade.get(latter)["relatesTo"][0]["target"] == {"reference": name}


# --- whose documents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbered", [True, False])
def test_the_patient_of_an_earlier_document_who_became_somebody_else_is_a_doubt(
    facade: Facade, *, numbered: bool
) -> None:
    document = new_document()
    if not numbered:
        document.header.patient.ids = []
    name = facade.filed(document)
    patient = facade.get(facade.get(name)["subject"]["reference"])
    number = [{"system": f"urn:oid:{DOMAIN}", "value": str(uuid.uuid4())}]
    facade.put(patient | {"identifier": number, "birthDate": "1950-01-01"})
    facade.delete(name)
    again = facade.file(document)
    assert (again.status_code, again.get_json()["issue"][0]["code"]) == (409, "conflict")
    facade.put(patient)
    assert facade.filed(document) == name


@pytest.mark.parametrize(
    "traits",
    [
        {},
        {"name": [{"use": "official", "family": "PATTERSON"}]},
        {"birthDate": "1979-03-28"},
        {"name": [{"use": "official", "family": "PATTERSON"}], "birthDate": "1979-03-28"},  # a twin, as far as is known
    ],
)
def test_a_local_number_alone_names_nobody(facade: Facade, traits: Resource) -> None:
    number = str(uuid.uuid4())
    stored = {"resourceType": "Patient", "id": str(uuid.uuid4())}
    facade.put(stored | {"identifier": [{"system": f"urn:oid:{DOMAIN}", "value": number}]} | traits)
    answer = facade.file(new_document(number))
    assert (answer.status_code, number in answer.text, "PATTERSON" in answer.text) == (409, False, False)
    assert "cannot be compared" in answer.get_json()["issue"][0]["diagnostics"]


def test_a_number_whose_period_is_over_names_nobody(facade: Facade) -> None:
    number, former = str(uuid.uuid4()), str(uuid.uuid4())
    ended = {"system": f"urn:oid:{DOMAIN}", "value": number, "period": {"end": "2001-01-01"}}
    facade.put({"resourceType": "Patient", "id": former, "identifier": [ended]})
    assert facade.filed(new_document(number), "Patient") != f"Patient/{former}"


@pytest.mark.parametrize(("environment", "root"), [("production", INS_NIR_TEST), ("test", INS_NIR)])
def test_test_and_production_never_meet(tmp_path: Path, environment: str, root: str) -> None:
    document = new_document()
    document.header.patient.ids.append(II(root, "279035121518989"))
    answer = Facade(tmp_path, ins_environment=environment).file(document)
    place = "ClinicalDocument/recordTarget/patientRole/id[2]"
    assert (answer.status_code, answer.get_json()["issue"][0]["expression"]) == (422, [place])
    assert "279035121518989" not in answer.text


def test_a_document_taken_from_its_patient_is_not_answered_as_filed(facade: Facade) -> None:
    document = new_document()
    name = facade.filed(document)
    facade.put({key: value for key, value in facade.get(name).items() if key != "subject"})
    again = facade.file(document)
    assert (again.status_code, again.get_json()["issue"][0]["code"]) == (409, "conflict")


def test_every_earlier_version_is_superseded(facade: Facade) -> None:
    former = new_document()
    number = former.header.patient.ids[0].extension or ""
    first, other = facade.filed(former), facade.filed(new_document(number))
    latest = facade.filed(after(former, 4, RPLC=II("2.25.404")))
    assert facade.get(first)["status"] == "superseded"
    late = facade.filed(after(former, 2, RPLC=former.header.id))
    assert [facade.get(name)["status"] for name in (first, late, latest, other)] == [
        *("superseded", "superseded", "current", "current")
    ]


def test_what_the_stored_patient_lacks_is_said(facade: Facade) -> None:
    number, ins = {"system": f"urn:oid:{DOMAIN}", "value": str(uuid.uuid4())}, "255069999999934"
    traits = {
        "name": [{"use": "official", "family": "PATTERSON", "given": ["Dominique"]}],
        "birthDate": "1979-03-28",
    }
    stored = {"resourceType": "Patient", "id": str(uuid.uuid4()), "identifier": [number]} | traits
    before = facade.put(stored)
    document = new_document(number["value"])
    document.header.patient.ids.append(II(INS_NIR_TEST, ins))
    answer = facade.file(document)
    assert answer.status_code == 201, answer.text
    remarks = answer.get_json()["entry"][0]["response"]["outcome"]["issue"]
    said = [one["diagnostics"].split()[0] for one in remarks if "not changed" in one["diagnostics"]]
    assert {"Patient.identifier", "Patient.gender"} <= set(said)
    assert (said.count("Patient.identifier"), "Patient.birthDate" in said, ins in str(remarks)) == (1, False, False)
    assert facade.get(f"Patient/{stored['id']}") == before
