"""The main job on real processes and sockets: a plan goes in as FHIR and arrives in a mailbox and in a repository."""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from relais.cda import xdm
from relais.cda.errors import RelaisError
from relais.cda.reader import read
from relais.cda.validation import Validator
from relais.mappings.context import Resource
from relais.server import commands
from relais.server.delivery.transmit import Wanted, transmit_document
from relais.server.sandbox import Sandbox
from relais.server.sandbox.mail_server import MailFault
from relais.server.sandbox.xds_server import RepositoryFault
from relais.server.settings import Settings
from support.facade import RunningFacade, issues, running_facade
from support.plans import PLANS
from support.worker import RunningWorker, running_worker

MAILBOX = "medecin.traitant@cabinet.mssante.fr"


class Site:
    """One installation: facade, worker and the counterparts it sends to."""

    def __init__(
        self, facade: RunningFacade, worker: RunningWorker, sandbox: Sandbox, settings: dict[str, Any]
    ) -> None:
        self.settings = settings
        self.facade = facade
        self.worker = worker
        self.sandbox = sandbox

    def post_plan(self, name: str = "full") -> str:
        """Store a plan; its `CarePlan/[id]`. Every plan of a test is another patient's plan with its own number."""
        bundle = copy.deepcopy(PLANS[name])
        plan = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "CarePlan")
        plan["identifier"] = [{"system": "urn:oid:1.2.250.1.999.42.2", "value": f"PPS-{time.time_ns()}"}]
        answer = self.facade.post("", bundle)
        assert answer.status_code == 200, answer.text
        stored = [entry["response"]["location"].split("/_history/")[0] for entry in answer.json()["entry"]]
        return next(place for place in stored if place.startswith("CarePlan/"))

    def order(self, plan: str, *channels: str, recipients: tuple[str, ...] = (MAILBOX,)) -> Resource:
        """Order a transmission and wait for the end of it; the Task."""
        parameters: list[dict[str, Any]] = [{"name": "channel", "valueCode": channel} for channel in channels]
        if "mss" in channels:
            parameters += [{"name": "recipient", "valueString": mailbox} for mailbox in recipients]
        answer = self.facade.post(f"{plan}/$transmit", {"resourceType": "Parameters", "parameter": parameters})
        assert answer.status_code == 201, answer.text
        assert answer.headers["Location"].startswith(f"{self.facade.base}/Task/{answer.json()['id']}")
        return self.finished(answer.json()["id"])

    def finished(self, task: str, patience: float = 60) -> Resource:
        """The Task once it has ended."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            found: Resource = self.facade.get(f"Task/{task}").json()
            if found["status"] in ("completed", "failed"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"the order did not end: {found}\n{self.worker.log.read_text()[-2000:]}")

    def change(self, plan: str, **elements: object) -> None:
        """Store the next version of a plan."""
        resource = self.facade.get(plan).json()
        answer = self.facade.put(plan, resource | elements)
        assert answer.status_code == 200, answer.text

    def mailed(self) -> list[bytes]:
        """Documents in the mailbox, oldest first."""
        found = []
        for message in self.sandbox.messages():
            mail = message_from_bytes(message.path.read_bytes(), policy=policy.default)
            zipped = next(part for part in mail.iter_attachments() if part.get_content_type() == "application/zip")
            found += [packed.data for packed in xdm.unpack(zipped.get_content()).documents]
        return found

    def deposited(self) -> list[bytes]:
        """Documents in the repository, oldest first."""
        return [document.path.read_bytes() for document in self.sandbox.documents()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, cisis: Path) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with Sandbox(folder / "sandbox") as sandbox:
        settings: dict[str, Any] = {
            "database_url": f"sqlite:///{folder / 'relais.sqlite'}",
            "mss_sender": "coordination@dac.mssante.fr",
            "mss_product_reference": "relais-test",
            "cisis_pack": cisis,
            "hl7v2_sending_facility": "DAC DE TEST",
            "retry_base": 0.2,
            "retry_attempts": 4,
            "sender_timeout": 1,
            **sandbox.settings,
        }
        with running_facade(folder, **settings) as facade, running_worker(folder, **settings) as worker:
            yield Site(facade, worker, sandbox, settings | {"cisis_pack": str(cisis)})


@pytest.fixture
def site(running: Site) -> Site:
    return running


def _outcomes(task: Resource) -> list[str]:
    attempts = [output for output in task["output"] if output["type"]["coding"][0]["code"] == "attempt"]
    return [output["valueString"].split(" ")[1].rstrip(",") for output in attempts]


def test_a_plan_arrives_on_both_channels_and_the_official_rules_accept_it(site: Site, validator: Validator) -> None:
    plan = site.post_plan()
    document = site.facade.get(f"{plan}/$to-cda").content
    assert validator.validate(document).conformant
    task = site.order(plan, "mss", "dmp")
    assert task["status"] == "completed"
    assert _outcomes(task) == ["remis", "remis"]
    assert site.mailed()[-1] == document
    assert site.deposited()[-1] == document


def test_each_mailbox_is_served_by_itself(site: Site) -> None:
    plan, absent = site.post_plan(), "absent@cabinet.mssante.fr"
    site.sandbox.mail.unknown.add(absent)
    before = len(site.mailed())
    task = site.order(plan, "mss", recipients=(MAILBOX, absent))
    assert (task["status"], len(site.mailed())) == ("failed", before + 1)
    assert absent in task["statusReason"]["text"]
    site.sandbox.mail.unknown.discard(absent)
    assert site.order(plan, "mss", recipients=(absent,))["status"] == "completed"
    assert [message.recipients for message in site.sandbox.messages()[-2:]] == [(MAILBOX,), (absent,)]


def test_a_plan_arrives_at_the_platform_of_a_hospital(site: Site) -> None:
    plan = site.post_plan()
    task = site.order(plan, "hl7v2")
    assert task["status"] == "completed", task.get("statusReason")
    assert site.sandbox.platform_messages()[-1].document.read_bytes() == site.facade.get(f"{plan}/$to-cda").content


def test_the_document_as_a_binary(site: Site) -> None:
    plan = site.post_plan("minimal")
    binary = site.facade.get(f"{plan}/$to-cda", Accept="application/fhir+json").json()
    assert (binary["resourceType"], binary["contentType"]) == ("Binary", "text/xml")


def test_a_posted_bundle_is_converted_and_not_stored(site: Site, validator: Validator) -> None:
    before = site.facade.count()
    answer = site.facade.post("$to-cda", PLANS["full"])
    assert answer.status_code == 200, answer.text
    assert validator.validate(answer.content).conformant
    assert site.facade.count() == before


def test_a_new_version_replaces_the_one_at_the_repository(site: Site) -> None:
    plan = site.post_plan()
    site.order(plan, "dmp")
    site.change(plan, title="Plan revu")
    task = site.order(plan, "dmp")
    assert task["status"] == "completed", task.get("statusReason")
    former, current = site.sandbox.documents()[-2:]
    assert (former.status, current.status) == ("Deprecated", "Approved")
    assert current.replaces == former.entry_uuid
    header = read(current.path.read_bytes()).document.header
    assert header.version_number == 2
    assert header.related_documents[0].parent_ids[0].root == former.entry.unique_id


def test_an_unchanged_document_is_not_sent_to_the_dmp_twice(site: Site) -> None:
    plan = site.post_plan()
    site.order(plan, "dmp")
    order = {"resourceType": "Parameters", "parameter": [{"name": "channel", "valueCode": "dmp"}]}
    refused = site.facade.post(f"{plan}/$transmit", order)
    assert (refused.status_code, issues(refused)[0]["code"]) == (409, "duplicate")


@pytest.mark.parametrize(
    ("plan", "channels", "place"),
    [
        ("ins-not-qualified", ["dmp"], "recordTarget"),
        ("active-without-approval", ["dmp"], "approval"),
        ("consent-refused", ["dmp"], "Consent"),
        ("minimal", [], "channel"),
        ("minimal", ["fax"], "channel"),
        ("minimal", ["mss"], "recipient"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused_at_once(
    site: Site, plan: str, channels: list[str], place: str
) -> None:
    stored = site.post_plan(plan)
    before = site.facade.count()
    order = {"resourceType": "Parameters", "parameter": [{"name": "channel", "valueCode": code} for code in channels]}
    refused = site.facade.post(f"{stored}/$transmit", order if channels else {"resourceType": "Parameters"})
    assert refused.status_code == 422, refused.text
    assert any(place in (issue.get("expression") or [""])[0] for issue in issues(refused)), refused.text
    assert site.facade.count() == before


def test_what_passes_by_itself_is_tried_again_and_delivered_once(site: Site) -> None:
    plan = site.post_plan()
    site.sandbox.dmp.faults.play(RepositoryFault.BUSY, RepositoryFault.UNAVAILABLE)
    site.sandbox.mail.faults.play(MailFault.BUSY)
    before = len(site.mailed()), len(site.deposited())
    task = site.order(plan, "dmp", "mss")
    assert task["status"] == "completed", task.get("statusReason")
    assert sorted(_outcomes(task)) == ["remis", "remis", "échec", "échec", "échec"]
    assert (len(site.mailed()), len(site.deposited())) == (before[0] + 1, before[1] + 1)


def test_a_mail_server_that_is_down_is_waited_for(site: Site) -> None:
    plan = site.post_plan()
    site.sandbox.mail.stop()
    order = {
        "resourceType": "Parameters",
        "parameter": [{"name": "channel", "valueCode": "mss"}, {"name": "recipient", "valueString": MAILBOX}],
    }
    task = site.facade.post(f"{plan}/$transmit", order).json()["id"]
    while not _outcomes(site.facade.get(f"Task/{task}").json()):
        time.sleep(0.05)
    site.sandbox.mail.start()
    assert site.finished(task)["status"] == "completed"


def test_a_repository_that_refuses_ends_the_order_with_its_reason(site: Site) -> None:
    plan = site.post_plan()
    site.sandbox.dmp.faults.play(RepositoryFault.UNKNOWN_CODE)
    before = len(site.deposited())
    task = site.order(plan, "dmp")
    assert task["status"] == "failed"
    assert "SandboxInventedError" in task["statusReason"]["text"]
    assert len(site.deposited()) == before


def test_half_an_answer_never_makes_a_second_document(site: Site) -> None:
    plan = site.post_plan()
    before = len(site.deposited())
    site.sandbox.dmp.faults.play(RepositoryFault.HALF_ANSWER)
    task = site.order(plan, "dmp")
    assert len(site.deposited()) == before + 1
    assert task["status"] == "completed"
    assert any("le DMP détient ce document" in output.get("valueString", "") for output in task["output"])


def test_what_was_registered_without_an_answer_is_replaced_by_the_next_version(site: Site) -> None:
    plan = site.post_plan()
    site.sandbox.dmp.faults.play(RepositoryFault.HALF_ANSWER)
    assert site.order(plan, "dmp")["status"] == "completed"
    site.change(plan, title="Plan revu")
    assert site.order(plan, "dmp")["status"] == "completed"
    former, current = site.sandbox.documents()[-2:]
    assert (former.status, current.replaces) == ("Deprecated", former.entry_uuid)


def test_what_was_refused_is_not_named_as_replaced(site: Site) -> None:
    plan = site.post_plan()
    site.sandbox.dmp.faults.play(RepositoryFault.UNKNOWN_CODE)
    assert site.order(plan, "dmp")["status"] == "failed"
    site.change(plan, title="Plan revu")
    assert site.order(plan, "dmp")["status"] == "completed"
    assert site.sandbox.documents()[-1].replaces is None


def test_the_header_replaces_what_was_sent_not_what_was_only_looked_at(site: Site) -> None:
    plan = site.post_plan()
    site.order(plan, "dmp")
    sent = read(site.deposited()[-1]).document.header.id
    site.change(plan, title="Projet")
    site.facade.get(f"{plan}/$to-cda")
    site.change(plan, title="Version retenue")
    assert site.order(plan, "dmp")["status"] == "completed"
    header = read(site.deposited()[-1]).document.header
    assert header.version_number == 3
    assert [related.parent_ids for related in header.related_documents] == [[sent]]
    assert site.sandbox.documents()[-1].replaces == site.sandbox.documents()[-2].entry_uuid


def test_plans_of_other_people_are_never_replaced(site: Site) -> None:
    plans = [site.post_plan("full"), site.post_plan("born-abroad")]
    for plan in plans:
        assert site.order(plan, "dmp")["status"] == "completed"
    assert [document.replaces for document in site.sandbox.documents()[-2:]] == [None, None]


def test_a_plan_that_is_deleted_after_it_was_sent_holds_nobody_up(site: Site) -> None:
    gone, other = site.post_plan(), site.post_plan()
    site.worker.end(signal.SIGKILL)
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "channel", "valueCode": "dmp"}]}
    first = site.facade.post(f"{gone}/$transmit", parameters).json()["id"]
    assert site.facade.request("DELETE", gone).status_code == 204
    site.worker.start()
    assert site.order(other, "dmp")["status"] == "completed"
    assert site.finished(first)["status"] == "completed"


def test_an_older_version_never_follows_a_newer_one(site: Site, tmp_path: Path) -> None:
    plan = site.post_plan()
    site.change(plan, title="Version 1")
    older = site.facade.get(f"{plan}/$to-cda").content
    site.change(plan, title="Version 2")
    assert site.order(plan, "dmp")["status"] == "completed"
    settings = Settings.of(site.settings)
    repository = commands.open_repository(settings)
    with pytest.raises(RelaisError, match="a later version"), repository.transaction() as transaction:
        transmit_document(transaction, older, Wanted(("dmp",)), settings, transaction.now)
    repository.store.close()


def test_an_ins_of_the_wrong_environment_does_not_leave(site: Site) -> None:
    document = site.facade.get(f"{site.post_plan()}/$to-cda").content
    production = document.replace(b".213.1.4.10", b".213.1.4.8").replace(b"2.25.", b"2.26.").replace(b"PPS-", b"PPX-")
    settings = Settings.of(site.settings)
    repository = commands.open_repository(settings)
    with pytest.raises(RelaisError, match="test mode"), repository.transaction() as transaction:
        transmit_document(transaction, production, Wanted(("dmp",)), settings, transaction.now)
    repository.store.close()


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Bundle", "type": "collection", "entry": [5]},
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": "x"}]},
        {"resourceType": "Bundle", "type": "collection", "colour": "red"},
        {"resourceType": "Patient"},
    ],
)
def test_a_body_that_is_no_sound_bundle(site: Site, body: Resource) -> None:
    answer = site.facade.post("$to-cda", body)
    assert answer.status_code == 400
    assert issues(answer)


@pytest.mark.parametrize(
    "parameter", ["x", ["x"], [{"name": []}], [{"name": "colour", "valueCode": "red"}], [{"name": "channel"}]]
)
def test_parameters_that_are_not_sound(site: Site, parameter: Any) -> None:
    answer = site.facade.post("CarePlan/none/$transmit", {"resourceType": "Parameters", "parameter": parameter})
    assert answer.status_code in (400, 422)
    assert issues(answer)


def test_remarks_of_the_mapping_on_request(site: Site) -> None:
    plan = site.post_plan("ins-not-qualified")
    remarks = site.facade.get(f"{plan}/$to-cda", Prefer="return=OperationOutcome").json()
    assert any(issue["severity"] == "warning" for issue in remarks["issue"])


def test_a_worker_that_is_killed_loses_nothing(site: Site) -> None:
    plan = site.post_plan()
    site.worker.end(signal.SIGKILL)
    parameters = [{"name": "channel", "valueCode": "mss"}, {"name": "recipient", "valueString": MAILBOX}]
    answer = site.facade.post(f"{plan}/$transmit", {"resourceType": "Parameters", "parameter": parameters})
    assert answer.json()["status"] == "requested"
    site.worker.start()
    assert site.finished(answer.json()["id"])["status"] == "completed"
    assert site.mailed()[-1] == site.facade.get(f"{plan}/$to-cda").content
