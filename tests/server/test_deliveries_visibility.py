"""Documents sent anew though they say nothing new, and secret connections to the DMP of a minor."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from relais.cda.reader import read
from relais.mappings.hl7v2.order import Flags
from relais.server.delivery import hl7v2
from relais.server.delivery.channel import Shipment
from relais.server.delivery.mail_message import is_of_patient
from relais.server.delivery.visibility import labelled, secret_objections, unknown_masks
from relais.server.store import Store
from support.documents import small_document
from support.orders import Office, document_of, refused, settings_of, stored_document, trouble
from support.plans import PLANS

DOCTOR = "medecin.traitant@cabinet.mssante.fr"


@pytest.fixture
def office(lite: Store) -> Office:
    return Office(lite, mhd_url="https://share.test/fhir", dmp_minors=True)


def flags(office: Office, sent: Shipment) -> tuple[str, Flags]:
    """The action and the flags of a message to a platform."""
    order = hl7v2.order_of(sent, read(sent.document).document, office.settings)
    return order.action, order.flags


def masks(sent: Shipment) -> list[str]:
    return [code.code for code in sent.submission.entries[0].confidentiality[1:]]


# --- sent anew --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["dmp", "hl7v2", "mhd"])
@pytest.mark.parametrize("level", ["n3", "n1"])
def test_what_was_withdrawn_is_sent_again_as_a_new_version(office: Office, channel: str, level: str) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    for intent in ("send", "withdraw"):
        office.order(plan, channel, intent=intent, level=level)
        office.work()
    [issue] = refused(office, plan, channel, level=level)
    assert "intent reissue" in issue.message
    office.order(plan, channel, intent="reissue", level=level)
    office.work()
    first, _, again = office.channels[channel].taken
    headers = [read(sent.document).document.header for sent in (first, again)]
    assert headers[0].set_id == headers[1].set_id
    assert (headers[0].version_number, headers[1].version_number) == (1, 2)
    assert again.submission.associations == ()
    assert not again.visibility_only
    if channel == "hl7v2":
        assert flags(office, again)[0] == "initial"


def test_whom_an_unchanged_document_is_hidden_from_changes_by_a_new_version(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp", "hl7v2", recipient=DOCTOR)
    office.work()
    assert "intent reissue" in refused(office, plan, "dmp", hideFrom="patient")[0].message
    office.order(plan, "dmp", "hl7v2", recipient=DOCTOR, intent="reissue", hideFrom="patient")
    office.work()
    first, second = office.channels["dmp"].taken
    assert masks(second) == ["INVISIBLE_PATIENT"]
    assert [one.target for one in second.submission.associations] == [
        f"urn:oid:{first.submission.entries[0].unique_id}"
    ]
    action, told = flags(office, office.channels["hl7v2"].taken[1])
    assert (action, told.visibility_change_only, told.hidden_from_patient) == ("replace", True, True)
    office.order(plan, "dmp", "hl7v2", recipient=DOCTOR, intent="reissue", hideFrom="none")
    office.work()
    assert masks(office.channels["dmp"].taken[2]) == []
    assert flags(office, office.channels["hl7v2"].taken[2])[1].visibility_change_only


def test_a_version_that_says_something_new_is_no_mere_change_of_visibility(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "hl7v2")
    office.change(plan, title="Un autre titre")
    office.order(plan, "hl7v2", intent="reissue", hideFrom="patient")
    office.work()
    assert [flags(office, sent)[1].visibility_change_only for sent in office.channels["hl7v2"].taken] == [False, False]


def test_a_change_of_visibility_of_what_never_arrived_is_an_initial_sending(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.channels["hl7v2"].failures = [trouble("processing", retry=False)]
    office.order(plan, "hl7v2")
    office.order(plan, "hl7v2", intent="reissue", hideFrom="patient")
    office.work()
    [sent] = office.channels["hl7v2"].taken
    action, told = flags(office, sent)
    assert (action, told.visibility_change_only) == ("initial", False)


@pytest.mark.parametrize("parameters", [{}, {"hideFrom": "none"}])
def test_an_unchanged_document_is_not_sent_again_for_nothing(office: Office, parameters: dict[str, Any]) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp", intent="reissue")  # never sent: as it is
    office.work()
    [issue] = refused(office, plan, "dmp", intent="reissue", **parameters)
    assert (issue.code, issue.path, issue.rule) == ("duplicate", "intent", "SEL-MP-037 EX_GEN-1060")


def test_a_document_that_was_made_elsewhere_keeps_its_identifier(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    content = document_of(office, plan).replace(b"PPS-", b"PPX-").replace(b'root="2.25.', b'root="2.25.9')
    reference = stored_document(office, office.read(plan)["subject"]["reference"], content)
    assert refused(office, reference, "dmp", intent="reissue")[0].path == "intent"
    for intent in ("send", "withdraw"):
        office.order(reference, "dmp", intent=intent)
        office.work()
    assert "another one" in refused(office, reference, "dmp")[0].message


# --- secret connections -----------------------------------------------------------------------------------------


def of_a_minor(office: Office) -> str:
    """A plan of a patient of ten years."""
    plan = office.post(PLANS["full"], "CarePlan")
    office.change(office.read(plan)["subject"]["reference"], birthDate="2015-03-28")
    return plan


@pytest.mark.parametrize("channel", ["mss", "hl7v2"])
def test_what_is_hidden_from_representatives_does_not_go_to_the_mailbox_of_a_minor(
    office: Office, channel: str
) -> None:
    parameters = {"hideFrom": "representatives", "patient": True, "recipient": DOCTOR}
    [issue] = refused(office, of_a_minor(office), channel, **parameters)
    assert (issue.path, issue.rule) == ("hideFrom", "HL7v2 volet: INVISIBLE_REP_LEGAUX")


def test_a_person_of_age_reads_what_is_hidden_from_representatives(office: Office) -> None:
    office.order(office.post(PLANS["full"], "CarePlan"), "mss", hideFrom="representatives", patient=True)
    office.work()
    assert any(map(is_of_patient, (box for sent in office.channels["mss"].taken for box in sent.recipients)))


def test_a_secret_connection_goes_with_every_version_until_it_is_called_off(office: Office) -> None:
    plan = of_a_minor(office)
    office.order(plan, "dmp", "hl7v2", secretConnection=True, hideFrom="representatives")
    office.work()
    office.change(plan, title="Un autre titre")
    office.order(plan, "dmp", "hl7v2")
    office.work()
    office.order(plan, "dmp", "hl7v2", intent="withdraw")
    office.work()
    for name in ("dmp", "hl7v2"):
        assert [sent.secret for sent in office.channels[name].taken] == [True, True, True]
    assert not any(flags(office, sent)[1].secret_connection for sent in office.channels["hl7v2"].taken)
    office.change(plan, title="Encore un autre titre")
    office.order(plan, "dmp", secretConnection=False)
    office.work()
    assert not office.channels["dmp"].taken[-1].secret


def test_a_platform_that_feeds_the_dmp_is_told_of_a_secret_connection(office: Office) -> None:
    office.order(of_a_minor(office), "hl7v2", secretConnection=True, hideFrom="representatives")
    office.work()
    [told] = [flags(office, sent)[1] for sent in office.channels["hl7v2"].taken]
    assert told.secret_connection and told.to_dmp


@pytest.mark.parametrize(
    ("channel", "parameters", "said"),
    [
        ("dmp", {}, "hidden from the representatives"),
        ("hl7v2", {"hideFrom": "patient"}, "hidden from the representatives"),
        ("mss", {"hideFrom": "representatives", "recipient": DOCTOR}, "one to the DMP"),
    ],
)
def test_what_is_no_secret_connection_is_refused(
    office: Office, channel: str, parameters: dict[str, Any], said: str
) -> None:
    plan = of_a_minor(office)
    [issue] = refused(office, plan, channel, secretConnection=True, **parameters)
    assert (issue.path, issue.rule, said in issue.message) == (
        "secretConnection",
        "SEL-MP-037: connexion secrète",
        True,
    )


def test_a_platform_that_does_not_feed_the_dmp_needs_no_secret_connection(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'other.sqlite'}")
    office = Office(store, hl7v2_to_dmp=False)
    asked = {"secretConnection": True, "hideFrom": "representatives"}
    assert "not asked to feed" in refused(office, of_a_minor(office), "hl7v2", **asked)[0].message
    store.close()


def test_a_dmp_that_knows_no_minors_has_no_secret_connections(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'other.sqlite'}")
    office = Office(store)
    plan = of_a_minor(office)
    asked = {"secretConnection": True, "hideFrom": "representatives"}
    assert "dmp_minors" in refused(office, plan, "dmp", **asked)[0].message
    office.order(plan, "hl7v2", **asked)
    store.close()


@pytest.mark.parametrize(
    ("born", "minor"),
    [("20080303", True), ("20080302", False), ("200803", False), ("200804", True), ("2009", True), ("2008", False)],
)
def test_a_secret_connection_is_for_a_minor(born: str, minor: bool) -> None:
    document = small_document()
    document.header.patient.birth_time = born
    settings = settings_of(dmp_minors=True)
    found = list(secret_objections(document, ["representatives"], ["dmp"], settings, date(2026, 3, 2)))
    assert [issue.message for issue in found] == [] if minor else ["a secret connection is for the DMP of a minor"]


# --- hidden by hand ---------------------------------------------------------------------------------------------


def test_an_order_says_whether_somebody_decided_from_whom_to_hide(office: Office) -> None:
    """Where nobody did, the DMP channel keeps what was hidden by hand since."""
    plan = office.post(PLANS["full"], "CarePlan")
    office.order(plan, "dmp")
    office.work()
    for hidden in ("professionals", "none"):
        office.order(plan, "dmp", intent="reissue", hideFrom=hidden)
        office.work()
    first, hidden_anew, shown_anew = office.channels["dmp"].taken
    assert (first.as_before, hidden_anew.as_before, shown_anew.as_before) == (True, False, False)


def test_a_further_mask_leaves_what_else_a_label_says() -> None:
    masks = "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"
    level = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    both = [{"system": masks, "code": "INVISIBLE_PATIENT"}, {"system": masks, "code": "MASQUE_PSOCIAL"}, level]
    made = labelled({"resourceType": "DocumentReference", "securityLabel": [{"coding": both}]}, ["professionals"])
    codes = [one["code"] for label in made["securityLabel"] for one in label["coding"]]
    assert codes[:2] == ["MASQUE_PSOCIAL", "R"]
    assert {"INVISIBLE_PATIENT", "MASQUE_PS"} <= set(codes)
    assert len(list(unknown_masks(made))) == 1
