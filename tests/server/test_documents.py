"""Documents issued for stored plans, on both engines: identity, versions, what belongs to a plan."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta

import pytest

from relais.cda.errors import MappingError, RelaisError, UnreadableError
from relais.cda.narrative import plain_text
from relais.cda.reader import read
from relais.mappings.context import Resource
from relais.server import documents
from relais.server.documents import IssuedDocument
from relais.server.fhir.exchange import Call
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import load
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Repository
from relais.server.settings import Settings
from relais.server.store import Store
from support.plans import DEPLOYMENT, PLANS

BASE = "http://relais.test/fhir"


class Desk:
    """A repository that holds one plan, and a clock that can be moved."""

    def __init__(self, store: Store, plan: str) -> None:
        self.now = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
        self._facade = Facade(Settings(base_url=BASE), store)
        self.repository = self._facade.repository
        self.repository.clock = lambda: self.now
        self.stored = self._store(copy.deepcopy(PLANS[plan]))

    def _store(self, bundle: Resource) -> list[str]:
        interaction, _ = self._facade.registry.find("POST", "")
        answer = load(interaction.run(self.repository, Call("POST", body=bundle)).body)
        return [entry["response"]["location"].split("/_history/")[0] for entry in answer["entry"]]

    def again(self, plan: str, **elements: object) -> str:
        """Store another plan, its CarePlan changed; the id of the CarePlan."""
        bundle = copy.deepcopy(PLANS[plan])
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] == "CarePlan":
                entry["resource"] |= elements
        return next(name for name in self._store(bundle) if name.startswith("CarePlan/")).partition("/")[2]

    def issue_of(self, care_plan: str) -> IssuedDocument:
        """The document of a plan as it stands."""
        with self.repository.transaction() as transaction:
            return documents.issue(transaction, f"CarePlan/{care_plan}", DEPLOYMENT, self.now)

    def first(self, resource_type: str) -> str:
        """Id of the first stored resource of a type."""
        return next(name for name in self.stored if name.startswith(f"{resource_type}/")).partition("/")[2]

    def issue(self) -> IssuedDocument:
        """The plan's document as it stands."""
        return self.issue_of(self.first("CarePlan"))

    def change(self, resource_type: str, **elements: object) -> None:
        """Store a new version of the first resource of a type, some time later."""
        self.now += timedelta(hours=1)
        with self.repository.transaction() as transaction:
            resource = transaction.load(resource_type, self.first(resource_type))
            transaction.update(resource | elements)

    def create(self, resource: Resource) -> None:
        """Store another resource."""
        with self.repository.transaction() as transaction:
            transaction.create(resource)


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store, "full")


def test_unchanged_sources_give_the_same_bytes(desk: Desk) -> None:
    first = desk.issue()
    desk.now += timedelta(days=3)
    assert desk.issue() == first
    header = read(first.content).document.header
    assert (header.version_number, header.related_documents) == (1, [])


def test_a_change_gives_the_next_version_which_replaces_the_last(desk: Desk) -> None:
    first = desk.issue()
    desk.change("Goal", description={"text": "Marcher jusqu'au marché"})
    second = desk.issue()
    before, after = read(first.content).document.header, read(second.content).document.header
    assert after.set_id == before.set_id
    assert after.id != before.id
    assert after.version_number == 2
    assert [document.parent_ids for document in after.related_documents] == [[before.id]]
    assert "Marcher jusqu'au marché" in second.content.decode()


def test_several_changes_between_two_documents_make_one_version(desk: Desk) -> None:
    desk.issue()
    desk.change("CarePlan", title="Plan revu")
    desk.change("CarePlan", title="Plan revu deux fois")
    assert read(desk.issue().content).document.header.version_number == 2


def test_a_change_elsewhere_gives_no_new_version(desk: Desk) -> None:
    first = desk.issue()
    desk.create({"resourceType": "Organization", "name": "Sans rapport"})
    assert desk.issue() == first


def test_what_is_recorded_about_the_patient_belongs_to_the_plan(desk: Desk) -> None:
    desk.issue()
    patient = f"Patient/{desk.first('Patient')}"
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
    informants = read(desk.issue().content).document.header.informants
    names = {
        part.text
        for informant in informants
        if informant.related and informant.related.name
        for part in informant.related.name.families
    }
    assert "VOISIN" in names


def test_a_refused_plan_issues_nothing(desk: Desk) -> None:
    first = desk.issue()
    desk.change("CarePlan", status="unknown")
    with pytest.raises(MappingError, match=r"CarePlan\.status"):
        desk.issue()
    with desk.repository.snapshot() as connection:
        last = documents.last_issued(connection, f"CarePlan/{desk.first('CarePlan')}")
    assert last == first


def test_plans_with_identifiers_of_one_domain_are_lineages_of_their_own(desk: Desk) -> None:
    identifier = {"system": "urn:oid:1.2.250.1.999.42.2", "value": "PPS-other"}
    other = desk.issue_of(desk.again("minimal", identifier=[identifier]))
    assert other.version == 1
    assert other.lineage != desk.issue().lineage


def test_a_second_plan_with_the_same_identifier_is_refused_while_the_first_lives(desk: Desk) -> None:
    plan = load(desk.repository.read("CarePlan", desk.first("CarePlan")).content or b"")
    twin = desk.again("full", identifier=plan["identifier"])
    first = desk.issue()
    with pytest.raises(RelaisError, match="has issued documents under this identifier"):
        desk.issue_of(twin)
    with desk.repository.transaction() as transaction:
        transaction.delete("CarePlan", desk.first("CarePlan"))
    heir = desk.issue_of(twin)
    assert (heir.version, heir.lineage) == (2, first.lineage)
    assert heir.identity.replaces == first.identity.id


def test_a_lineage_never_passes_to_another_patient(desk: Desk) -> None:
    plan = load(desk.repository.read("CarePlan", desk.first("CarePlan")).content or b"")
    stranger = desk.again("born-abroad", identifier=plan["identifier"])
    desk.issue()
    with desk.repository.transaction() as transaction:
        transaction.delete("CarePlan", desk.first("CarePlan"))
    with pytest.raises(RelaisError, match="about another patient"):
        desk.issue_of(stranger)


def test_the_lineage_outlives_a_change_of_identifiers(desk: Desk) -> None:
    first = desk.issue()
    desk.change("CarePlan", identifier=[{"system": "urn:oid:1.2.250.1.999.42.3", "value": "NEW"}])
    desk.change("CarePlan", title="Plan renommé")
    second = desk.issue()
    assert (second.lineage, second.version) == (first.lineage, 2)


def test_no_plan_no_document(store: Store) -> None:
    repository = Repository(store, BASE)
    with pytest.raises(FhirError, match="CarePlan/none does not exist"), repository.transaction() as transaction:
        documents.issue(transaction, "CarePlan/none", DEPLOYMENT, datetime.now(UTC))


def test_a_document_made_elsewhere_is_kept_once_and_never_confused(desk: Desk) -> None:
    content = desk.issue().content.replace(b"2.25.", b"2.26.")
    with desk.repository.transaction() as transaction:
        kept = documents.register(transaction.connection, content, desk.now)
        assert documents.register(transaction.connection, content, desk.now) == kept
        with pytest.raises(RelaisError, match="another document has this id"):
            documents.register(transaction.connection, content.replace(b"<title>", b"<title>X"), desk.now)
        with pytest.raises(UnreadableError):
            documents.register(transaction.connection, b"<html/>", desk.now)


def test_the_narrative_shows_the_state_that_was_stored(desk: Desk) -> None:
    desk.change("CarePlan", description="Situation revue en réunion")
    sections = read(desk.issue().content).document.sections
    assert any("Situation revue en réunion" in plain_text(section.text) for section in sections)
