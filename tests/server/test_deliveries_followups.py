"""What follows a first sending, and the patient's mailbox: threads of mails, withdrawals by a platform, INS-NIA."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from relais.cda.reader import read
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.server.delivery import hl7v2
from relais.server.store import Store
from support.notifications import NOTICES
from support.orders import Office, document_of, refused, stored_document
from support.plans import PLANS

DOCTOR = "medecin.traitant@cabinet.mssante.fr"
NURSE = "isabelle.lefranc@exemple.mssante.fr"


def test_a_mail_that_replaces_answers_the_one_it_annuls(lite: Store) -> None:
    office = Office(lite)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "mss", recipient=DOCTOR)
    office.work()
    office.change(plan, title="Un autre titre")
    office.order(plan, "mss", recipient=[DOCTOR, NURSE])
    office.work()
    first, second, other = office.channels["mss"].taken
    assert (first.annuls, second.annuls, other.annuls) == ("", first.message_id, "")


def test_a_platform_is_told_whom_the_withdrawn_document_went_to(lite: Store) -> None:
    office = Office(lite)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "hl7v2", recipient=DOCTOR)
    office.work()
    office.order(plan, "hl7v2", intent="withdraw")
    office.work()
    sent, withdrawn = office.channels["hl7v2"].taken
    assert (withdrawn.action, withdrawn.recipients) == ("withdraw", sent.recipients)
    order = hl7v2.order_of(withdrawn, read(withdrawn.document).document, office.settings)
    assert (order.action, order.flags.to_professionals) == ("delete", True)


def of_nia(bundle: Resource) -> Resource:
    """The patient of a plan under an INS-NIA of production."""
    found: dict[str, Any] = copy.deepcopy(bundle)
    [patient] = [one["resource"] for one in found["entry"] if one["resource"]["resourceType"] == "Patient"]
    for one in identity.ins_identifiers(patient):
        one["system"] = "urn:oid:1.2.250.1.213.1.4.9"
    return found


def test_in_production_the_mailbox_of_a_patient_is_made_of_an_ins_nir(lite: Store) -> None:
    office = Office(lite, ins_environment="production")
    plan = office.post(of_nia(PLANS["full"]), "CarePlan")
    issues = refused(office, plan, "mss", recipient=DOCTOR, patient=True)
    assert [(one.path, one.rule) for one in issues] == [("recipient[1]", "ECO.2.2.6")]
    office.order(plan, "mss", recipient=DOCTOR)


def hidden(office: Office, channel: str) -> list[str]:
    """The masks of what left last."""
    [entry] = office.channels[channel].taken[-1].submission.entries
    return [code.code for code in entry.confidentiality[1:]]


def test_a_new_version_does_not_show_what_was_hidden(lite: Store) -> None:
    office = Office(lite)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp", hideFrom="patient")
    office.work()
    office.change(plan, title="Un autre titre")
    issues = refused(office, plan, "mss", recipient=DOCTOR, patient=True)
    assert [one.rule for one in issues] == ["MSSanté, HL7v2 volet: M1, M3"]
    office.order(plan, "dmp")
    office.work()
    assert hidden(office, "dmp") == ["INVISIBLE_PATIENT"]
    office.change(plan, title="Encore un autre titre")
    office.order(plan, "dmp", hideFrom="none")
    office.order(plan, "mss", recipient=DOCTOR, patient=True)
    office.work()
    assert hidden(office, "dmp") == hidden(office, "mss") == []


@pytest.mark.parametrize("parameters", [{"hideFrom": ["none", "patient"]}, {"intent": "withdraw", "hideFrom": "none"}])
def test_to_hide_from_nobody_stands_alone(lite: Store, parameters: dict[str, Any]) -> None:
    office = Office(lite)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp")
    office.work()
    refused(office, plan, "dmp", **parameters)


def test_a_platform_that_has_no_former_version_gets_an_initial_sending(lite: Store) -> None:
    office = Office(lite)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "mss", recipient=DOCTOR)
    office.work()
    actions = []
    for title in ("Deuxième", "Troisième"):
        office.change(plan, title=title)
        office.order(plan, "hl7v2", recipient=DOCTOR)
        office.work()
        sent = office.channels["hl7v2"].taken[-1]
        document = read(sent.document).document
        assert document.header.related_documents
        actions.append(hl7v2.order_of(sent, document, office.settings).action)
    assert actions == ["initial", "replace"]


def test_what_was_withdrawn_is_neither_withdrawn_again_nor_sent_again_under_its_identifier(lite: Store) -> None:
    office = Office(lite)
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp")
    office.work()
    office.order(plan, "dmp", intent="withdraw")
    for _ in ("on its way", "done"):
        assert "nothing to withdraw" in refused(office, plan, "dmp", intent="withdraw")[0].message
        [issue] = refused(office, plan, "dmp")
        assert (issue.code, "was withdrawn" in issue.message) == ("duplicate", True)
        office.work()
    office.change(plan, title="Un autre titre")
    office.order(plan, "dmp")
    office.work()
    assert [sent.action for sent in office.channels["dmp"].taken] == ["send", "withdraw", "send"]
    assert office.channels["dmp"].taken[-1].submission.associations == ()


def test_a_hospital_sends_too(lite: Store) -> None:
    office = Office(lite, facility_type="SA01", practice_setting="ETABLISSEMENT")
    office.order(office.post(NOTICES["admission"], "CommunicationRequest"), "mss", recipient=DOCTOR)
    office.work()
    [sent] = office.channels["mss"].taken
    assert sent.submission.submission_set.content_type.code == "97"


@pytest.mark.parametrize("sector", ["SA66", "SA67"])
def test_the_dmp_takes_nothing_of_a_sector_that_its_list_does_not_hold(lite: Store, sector: str) -> None:
    office = Office(lite, facility_type=sector)
    plan = office.post(PLANS["full"], "CarePlan")
    assert ("facility_type", "VIHF: Secteur_Activite, JDV_J61") in [
        (issue.path, issue.rule) for issue in refused(office, plan, "dmp")
    ]
    office.order(plan, "mss", recipient=DOCTOR)


def test_a_platform_is_not_asked_to_feed_the_dmp_with_what_happened_in_such_a_sector(lite: Store) -> None:
    office = Office(lite)
    plan = office.post(PLANS["full"], "CarePlan")
    patient = office.read(plan)["subject"]["reference"]
    content = document_of(office, plan).replace(b'root="2.25.', b'root="2.25.9')
    content, places = re.subn(rb'(<healthCareFacility\b.*?\bcode=")SA[0-9]{2}', rb"\g<1>SA67", content)
    assert places == 1
    reference = stored_document(office, patient, content)
    assert [issue.rule for issue in refused(office, reference, "dmp")] == ["JDV_J61"]
    office.order(reference, "hl7v2", recipient=DOCTOR)
    office.work()
    [sent] = office.channels["hl7v2"].taken
    assert not hl7v2.order_of(sent, read(sent.document).document, office.settings).flags.to_dmp
