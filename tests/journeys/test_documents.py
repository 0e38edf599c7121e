"""Documents between two structures that each run Relais: agenda, notification and an official document, both ways."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from relais.cda.reader import read
from relais.cda.validation import Validator
from relais.mappings.context import Resource
from support.appointments import AGENDAS
from support.facade import RunningFacade, issues, running_facade
from support.notifications import NOTICES
from support.rules import PPS, example

EMITTER = {
    "organization_name": "Dispositif d'appui à la coordination du Val d'Orge",
    "organization_finess": "910019447",
    "responsible_rpps": "10101234567",
    "responsible_family": "ORME",
    "responsible_given": "Claire",
}


class Structure:
    """One structure, by its facade."""

    def __init__(self, facade: RunningFacade, validator: Validator) -> None:
        self.facade = facade
        self.validator = validator

    def post(self, bundle: Resource) -> dict[str, str]:
        """Store a Bundle, its patient once; the `Type/[id]` of the first resource of each type."""
        bundle = copy.deepcopy(bundle)
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] == "Patient":
                number = entry["resource"]["identifier"][0]
                entry["request"]["ifNoneExist"] = f"identifier={number['system']}|{number['value']}"
        answer = self.facade.post("", bundle)
        assert answer.status_code == 200, answer.text
        names = [entry["response"]["location"].split("/_history/")[0] for entry in answer.json()["entry"]]
        return {name.partition("/")[0]: name for name in reversed(names)}

    def change(self, name: str, **elements: object) -> None:
        """Store the next version of a resource."""
        answer = self.facade.put(name, self.facade.get(name).json() | elements)
        assert answer.status_code == 200, answer.text

    def document(self, name: str, query: str = "") -> bytes:
        """The document of a resource, which the official rules accept."""
        answer = self.facade.get(f"{name}/$to-cda{query}")
        assert answer.status_code == 200, answer.text
        report = self.validator.validate(answer.content)
        assert report.conformant, report.to_text()
        return answer.content

    def receive(self, content: bytes) -> dict[str, str]:
        """File a document; the `Type/[id]` of the first resource of each type."""
        answer = self.facade.post("$from-cda?store=true", content, Content_Type="text/xml")
        assert answer.status_code in (200, 201), answer.text
        names = [entry["response"]["location"].partition("/_history/")[0] for entry in answer.json()["entry"]]
        return {name.partition("/")[0]: name for name in reversed(names)}


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory, validator: Validator) -> Iterator[tuple[Structure, Structure]]:
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    with running_facade(here, **EMITTER) as emitter, running_facade(there) as receiver:
        yield Structure(emitter, validator), Structure(receiver, validator)


def test_an_appointment_is_posted_moved_and_cancelled_and_the_other_structure_follows(
    structures: tuple[Structure, Structure],
) -> None:
    here, there = structures
    appointment = here.post(AGENDAS["minimal"])["Appointment"]
    first = here.document(appointment)
    booked = there.receive(first)
    here.change(appointment, start="2026-03-10T14:00:00Z", end="2026-03-10T14:30:00Z")
    second = here.document(appointment)
    before, after = read(first).document.header, read(second).document.header
    assert (after.set_id, after.version_number) == (before.set_id, 2)
    assert [(one.type_code, one.parent_ids) for one in after.related_documents] == [("RPLC", [before.id])]
    moved = there.receive(second)
    assert there.facade.get(moved["Appointment"]).json()["start"].startswith("2026-03-10T15:00:00+01:00")
    here.change(appointment, status="cancelled")
    cancelled = there.receive(here.document(appointment))
    assert booked["Appointment"] == moved["Appointment"] == cancelled["Appointment"]
    assert there.facade.get(cancelled["Appointment"]).json()["status"] == "cancelled"
    states = [there.facade.get(one["DocumentReference"]).json()["status"] for one in (booked, moved, cancelled)]
    assert states == ["superseded", "superseded", "current"]


def test_the_agenda_of_a_patient_goes_over_at_both_levels(structures: tuple[Structure, Structure]) -> None:
    here, there = structures
    patient = here.post(AGENDAS["week"])["Patient"]
    agenda = there.receive(here.document(patient, "?model=agenda&start=2026-03-01"))
    found = there.facade.get(f"Appointment?patient={agenda['Patient']}&date=ge2026-03-12").json()
    assert found["total"] >= 4
    printed = there.receive(here.document(patient, "?model=agenda&start=2026-03-01&level=n1"))
    formats = there.facade.get(printed["DocumentReference"]).json()["content"]
    assert [one["attachment"]["contentType"] for one in formats] == ["text/xml", "application/pdf"]


def test_a_notification_goes_over_and_is_withdrawn(structures: tuple[Structure, Structure]) -> None:
    here, there = structures
    request = here.post(NOTICES["discharge"])["CommunicationRequest"]
    told = there.receive(here.document(request))
    here.change(request, status="revoked", statusReason={"text": "Erreur de personne"})
    withdrawn = there.receive(here.document(request))
    assert told["Communication"] == withdrawn["Communication"]
    assert there.facade.get(withdrawn["Communication"]).json()["status"] == "stopped"


def test_an_official_document_is_received_and_passed_on_byte_for_byte(
    structures: tuple[Structure, Structure], cisis: Path
) -> None:
    here, there = structures
    content = example(cisis, PPS)
    reference = here.receive(content)["DocumentReference"]
    assert here.facade.get(f"{reference}/$to-cda").content == content
    passed_on = there.receive(here.facade.get(f"{reference}/$to-cda").content)
    binary = there.facade.get(passed_on["DocumentReference"]).json()["content"][0]["attachment"]["url"]
    assert there.facade.get(binary, Accept="text/xml").content == content


def test_the_document_of_somebody_else_under_the_same_number_is_not_received(
    structures: tuple[Structure, Structure], cisis: Path
) -> None:
    _, there = structures
    content = example(cisis, PPS)
    patient = there.receive(content)["Patient"]
    there.change(patient, birthDate="1931-01-31")
    other = content.replace(read(content).document.header.id.root.encode(), b"2.25.77", 1)  # type: ignore[union-attr]
    answer = there.facade.post("$from-cda?store=true", other, Content_Type="text/xml")
    assert answer.status_code == 409
    assert {issue["code"] for issue in issues(answer)} == {"conflict"}
