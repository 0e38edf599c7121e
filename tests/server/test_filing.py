"""What filing a received or a deposited document refuses, keeps and says: the facade without a socket, on SQLite."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from relais.cda.model import II
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
        self.client: FlaskClient = create_app(Settings.of(given)).test_client()

    def put(self, resource: Resource) -> Resource:
        """The resource as stored under its id."""
        answer = self.client.put(f"/fhir/{resource['resourceType']}/{resource['id']}", json=resource, headers=FHIR)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.get_json())


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
