"""Documents issued for stored plans, on both engines: identity, versions, what belongs to a plan."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta

import pytest

from relais.cda.errors import MappingError, RelaisError, UnreadableError
from relais.cda.narrative import plain_text
from relais.cda.reader import read
from relais.server import documents
from relais.server.documents import IssuedDocument
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Repository
from relais.server.store import Store
from support.desk import BASE, Desk
from support.plans import DEPLOYMENT, PLANS


class PlanDesk(Desk):
    """A desk with the full plan."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, PLANS["full"])

    def again(self, plan: str, **elements: object) -> str:
        """Store another plan, its CarePlan changed; the `CarePlan/[id]`."""
        bundle = copy.deepcopy(PLANS[plan])
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] == "CarePlan":
                entry["resource"] |= elements
        return next(name for name in self.store(bundle) if name.startswith("CarePlan/"))

    def issue_plan(self) -> IssuedDocument:
        """The plan's document as it stands."""
        return self.issue(self.first("CarePlan"))


@pytest.fixture
def desk(store: Store) -> PlanDesk:
    return PlanDesk(store)


def test_unchanged_sources_give_the_same_bytes(desk: PlanDesk) -> None:
    first = desk.issue_plan()
    desk.now += timedelta(days=3)
    assert desk.issue_plan() == first
    header = read(first.content).document.header
    assert (header.version_number, header.related_documents) == (1, [])


def test_a_change_gives_the_next_version_which_replaces_the_last(desk: PlanDesk) -> None:
    first = desk.issue_plan()
    desk.change("Goal", description={"text": "Marcher jusqu'au marché"})
    second = desk.issue_plan()
    before, after = read(first.content).document.header, read(second.content).document.header
    assert after.set_id == before.set_id
    assert after.id != before.id
    assert after.version_number == 2
    assert [document.parent_ids for document in after.related_documents] == [[before.id]]
    assert "Marcher jusqu'au marché" in second.content.decode()


def test_several_changes_between_two_documents_make_one_version(desk: PlanDesk) -> None:
    desk.issue_plan()
    desk.change("CarePlan", title="Plan revu")
    desk.change("CarePlan", title="Plan revu deux fois")
    assert read(desk.issue_plan().content).document.header.version_number == 2


def test_a_change_elsewhere_gives_no_new_version(desk: PlanDesk) -> None:
    first = desk.issue_plan()
    desk.create({"resourceType": "Organization", "name": "Sans rapport"})
    assert desk.issue_plan() == first


def test_what_is_recorded_about_the_patient_belongs_to_the_plan(desk: PlanDesk) -> None:
    desk.issue_plan()
    patient = desk.first("Patient")
    desk.create(
        {
            "resourceType": "RelatedPerson",
            "patient": {"reference": patient},
            "name": [{"family": "VOISIN", "given": ["Paule"]}],
            "relationship": [
                {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0131", "code": "C"}]},
            ],
        }
    )
    informants = read(desk.issue_plan().content).document.header.informants
    names = {
        part.text
        for informant in informants
        if informant.related and informant.related.name
        for part in informant.related.name.families
    }
    assert "VOISIN" in names


def test_a_refused_plan_issues_nothing(desk: PlanDesk) -> None:
    first = desk.issue_plan()
    desk.change("CarePlan", status="unknown")
    with pytest.raises(MappingError, match=r"CarePlan\.status"):
        desk.issue_plan()
    with desk.repository.snapshot() as connection:
        last = documents.last_issued(connection, desk.first("CarePlan"))
    assert last == first


def test_plans_with_identifiers_of_one_domain_are_lineages_of_their_own(desk: PlanDesk) -> None:
    identifier = {"system": "urn:oid:1.2.250.1.999.42.2", "value": "PPS-other"}
    other = desk.issue(desk.again("minimal", identifier=[identifier]))
    assert other.version == 1
    assert other.lineage != desk.issue_plan().lineage


def test_a_second_plan_with_the_same_identifier_is_refused_while_the_first_lives(desk: PlanDesk) -> None:
    plan = desk.load(desk.first("CarePlan"))
    twin = desk.again("full", identifier=plan["identifier"])
    first = desk.issue_plan()
    with pytest.raises(RelaisError, match="has issued documents under this identifier"):
        desk.issue(twin)
    desk.delete(desk.first("CarePlan"))
    heir = desk.issue(twin)
    assert (heir.version, heir.lineage) == (2, first.lineage)
    assert heir.identity.replaces == first.identity.id


def test_a_lineage_never_passes_to_another_patient(desk: PlanDesk) -> None:
    plan = desk.load(desk.first("CarePlan"))
    stranger = desk.again("born-abroad", identifier=plan["identifier"])
    desk.issue_plan()
    desk.delete(desk.first("CarePlan"))
    with pytest.raises(RelaisError, match="about another patient"):
        desk.issue(stranger)


def test_the_lineage_outlives_a_change_of_identifiers(desk: PlanDesk) -> None:
    first = desk.issue_plan()
    desk.change("CarePlan", identifier=[{"system": "urn:oid:1.2.250.1.999.42.3", "value": "NEW"}])
    desk.change("CarePlan", title="Plan renommé")
    second = desk.issue_plan()
    assert (second.lineage, second.version) == (first.lineage, 2)


def test_no_plan_no_document(store: Store) -> None:
    repository = Repository(store, BASE)
    with pytest.raises(FhirError, match="CarePlan/none does not exist"), repository.transaction() as transaction:
        documents.issue(transaction, "CarePlan/none", DEPLOYMENT, datetime.now(UTC))


def test_a_document_made_elsewhere_is_kept_once_and_never_confused(desk: PlanDesk) -> None:
    content = desk.issue_plan().content.replace(b"2.25.", b"2.26.")
    with desk.repository.transaction() as transaction:
        kept = documents.register(transaction.connection, content, desk.now)
        assert documents.register(transaction.connection, content, desk.now) == kept
        with pytest.raises(RelaisError, match="another document has this id"):
            documents.register(transaction.connection, content.replace(b"<title>", b"<title>X"), desk.now)
        with pytest.raises(UnreadableError):
            documents.register(transaction.connection, b"<html/>", desk.now)


def test_the_narrative_shows_the_state_that_was_stored(desk: PlanDesk) -> None:
    desk.change("CarePlan", description="Situation revue en réunion")
    sections = read(desk.issue_plan().content).document.sections
    assert any("Situation revue en réunion" in plain_text(section.text) for section in sections)
