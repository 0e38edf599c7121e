"""HL7 v2 messages: what is made, that it reads back as ordered, and that each rule refuses for its own reason."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relais.cda import templates
from relais.cda.model import II, Address, Code, Document, EncompassingEncounter, Interval, NamePart, Telecom
from relais.cda.writer import write
from relais.mappings.hl7v2.findings import MessageError
from relais.mappings.hl7v2.legality import is_listed
from relais.mappings.hl7v2.order import (
    Encounter,
    Flags,
    Party,
    Person,
    ReceivedMail,
    Structure,
    TransmissionOrder,
)
from relais.mappings.hl7v2.patient import PatientId
from relais.mappings.hl7v2.reading import Policy, examine, read
from relais.mappings.hl7v2.writing import compose
from support.documents import small_document
from support.hl7v2 import (
    FORMER,
    INS,
    NURSE,
    PATIENT,
    POLICY,
    SENDER,
    STRICT,
    adding,
    inserted,
    joined,
    lines,
    message,
    moved,
    order,
    replacing,
    to_both,
    with_field,
    without,
)


def segment(data: bytes, name: str, number: int = 1) -> str:
    return [line for line in lines(data) if line.startswith(f"{name}|")][number - 1]


def errors(data: bytes, policy: Policy = POLICY) -> list[tuple[str, str, str]]:
    """Code, place and rule of each error; a message with one is never handed over."""
    examined = examine(data, policy)
    assert (examined.received is None) == bool(examined.findings.errors)
    return [(error.code, str(error.place), error.rule) for error in examined.findings.errors]


def warnings(data: bytes, policy: Policy = POLICY) -> list[tuple[str, str, str]]:
    examined = examine(data, policy)
    assert not examined.findings.errors
    return [(finding.code, str(finding.place), finding.rule) for finding in examined.findings]


# --- what is made -------------------------------------------------------------------------------------------------


def test_mdm() -> None:
    data = message()
    encoded = base64.b64encode(write(small_document())).decode()
    assert [line.replace(encoded, "…") for line in lines(data)[:12]] == [
        "MSH|^~\\&|RELAIS|DAC du Val|PFI|GHT|20260112090500+0100||MDM^T02^MDM_T02|RELAIS0001|P|2.6|||||FRA|"
        "UNICODE UTF-8|||2.1^CISIS_CDA_HL7_V2",
        "EVN||20260112090500+0100",
        "PID|||279035121518989^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||PATTERSON^DOMINIQUE^DOMINIQUE "
        "MARIE-LOUISE^^^^L||19790328|F|||^^DOMPREMY^^^^BDL^^51215|||||||||||||||||||||VALI",
        "PV1||N",
        "ORC|NW",
        "OBR||||18776-5^Plan personnalisé de soins^LN",
        "TXA|1|18776-5|TEXT|||||||||2.25.301245378217395437813294710347591823401|||||AU",
        "OBX|1|ED|18776-5^Plan personnalisé de soins^LN||^text^XML^Base64^…||||||F",
        "PRT||UC||SB^Send by^participation|810101234564^LEMOINE^Hélène^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^"
        "IDNPS|||Cabinet des Tilleuls^^^^^ASIP-SANTE-ST&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750099996",
        "PRT||UC||RCT^Result Copies To^participation|810109876540^PETIT \\T\\ FILS^Zoé^^^^^^ASIP-SANTE-PS"
        "&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS||||||||||^^X.400^infirmier@ssiad.mssante.fr",
        "PRT||UC||RCT^Result Copies To^participation|279035121518989^PATTERSON^DOMINIQUE^^^^^^&1.2.250.1.213.1.4.10"
        "&ISO^L^^^INS||||||||||^^X.400^279035121518989@patient.mssante.fr",
        "OBX|2|CWE|MASQUE_PS^Masqué aux professionnels de Santé^MetaDMPMSS||N^^expandedYes-NoIndicator||||||F",
    ]
    metadata = [line.split("|") for line in lines(data)[11:]]
    assert [(line[1], line[3].split("^")[0], line[5][0]) for line in metadata] == [
        ("2", "MASQUE_PS", "N"),
        ("3", "INVISIBLE_PATIENT", "N"),
        ("4", "INVISIBLE_REP_LEGAUX", "N"),
        ("5", "CONNEXION_SECRETE", "N"),
        ("6", "MODIF_CONF_CODE", "N"),
        ("7", "DESTDMP", "Y"),
        ("8", "DESTMSSANTEPS", "Y"),
        ("9", "DESTMSSANTEPAT", "Y"),
        ("10", "ACK_RECEPTION", "Y"),
        ("11", "ACK_LECTURE_MSS", "N"),
    ]
    assert examine(data, STRICT).findings == []


def test_oru() -> None:
    data = message(to_both(message="ORU"))
    names = [line.split("|")[0] for line in lines(data)]
    assert names == ["MSH", "PID", "PV1", "ORC", "OBR", "OBX", "PRT", "PRT", "PRT", *["OBX"] * 10]
    assert segment(data, "MSH").split("|")[8:12] == ["ORU^R01^ORU_R01", "RELAIS0001", "P", "2.5"]
    assert "^TEXT^XML^Base64^" in segment(data, "OBX")
    assert segment(data, "OBX", 2).startswith("OBX|2|CE|MASQUE_PS^")
    assert examine(data, STRICT).findings == []


@pytest.mark.parametrize(
    ("action", "event", "orc", "status"),
    [("initial", "T02", "NW", "F"), ("replace", "T10", "RO", "C"), ("delete", "T04", "CA", "D")],
)
def test_actions(action: str, event: str, orc: str, status: str) -> None:
    data = message(order(action=action))
    assert segment(data, "MSH").split("|")[8] == f"MDM^{event}^MDM_T02"
    assert (segment(data, "ORC"), segment(data, "OBX").split("|")[11]) == (f"ORC|{orc}", status)
    replaced = [*segment(data, "TXA").split("|"), ""][13]
    assert replaced == (FORMER if action == "replace" else "")


def test_document_id_with_an_extension() -> None:
    document = small_document()
    document.header.id = II("1.2.250.1.999.1", "doc&1")
    data = message(document=document)
    assert segment(data, "TXA").split("|")[12] == "doc\\T\\1^^1.2.250.1.999.1^ISO"
    assert errors(data) == []


def test_patient_and_encounter() -> None:
    document = small_document()
    patient = document.header.patient
    patient.ids.append(II("1.2.250.1.999.7", "IPP^1"))
    patient.name.families.append(NamePart("D'USAGE", "CL"))
    patient.name.givens.append(NamePart("Domi", "CL"))
    patient.addresses = [
        Address("3", street_name_type="rue", street_name="Haute", unit_id="Esc. A", postal_code="75002", city="PARIS"),
        Address(lines=["Lieu-dit", "La Forge"], city="DOMPREMY", use="WP"),
        Address(null_flavor="UNK"),
    ]  # fmt: skip
    patient.telecoms = [
        Telecom("tel:+33144534551", "H"),
        Telecom("tel:+33647151010", "MC"),
        Telecom("mailto:domi@example.org"),
        Telecom(null_flavor="UNK"),
    ]
    document.header.encounter = EncompassingEncounter(
        ids=[II("1.2.250.1.999.8", "V42")], time=Interval(low="20260110", high="20260112")
    )
    data = message(to_both(encounter=Encounter("I")), document)
    pid = segment(data, "PID").split("|")
    assert pid[3].split("~")[1] == "IPP\\S\\1^^^&1.2.250.1.999.7&ISO^PI"
    assert pid[5].split("~")[1] == "D'USAGE^Domi^^^^^D"
    assert pid[11].split("~") == [
        "3 rue Haute^Esc. A^PARIS^^75002^^H",
        "Lieu-dit^La Forge^DOMPREMY^^^^O",
        "^^DOMPREMY^^^^BDL^^51215",
    ]
    assert pid[13].split("~") == [
        "^PRN^PH^^^^^^^^^+33144534551",
        "^PRN^CP^^^^^^^^^+33647151010",
        "^NET^Internet^domi@example.org",
    ]
    pv1 = segment(data, "PV1").split("|")
    assert (pv1[2], pv1[19], pv1[44], pv1[45]) == ("I", "V42^^^&1.2.250.1.999.8&ISO^VN", "20260110", "20260112")
    received = read(data, STRICT)
    assert received.patient_ids == (PatientId(INS, templates.INS_NIR_TEST), PatientId("IPP^1", "1.2.250.1.999.7"))
    assert received.order.encounter == Encounter("I", "V42", "1.2.250.1.999.8", "20260110", "20260112")


def test_bodies_and_answers() -> None:
    wanted = to_both(
        body_for_professionals="Chère consœur,\n| ^ & ~ \\ 3 €",
        body_for_patient="Bonjour",
        patient_may_reply=False,
        reply_to=("secretariat@cabinet.mssante.fr",),
    )
    data = message(wanted)
    names = [line.split("|")[0] for line in lines(data)]
    assert names[names.index("NTE") - 1] == "OBX"
    assert segment(data, "NTE") == "NTE|1|||FIN"
    assert segment(data, "PRT", 4) == (
        "PRT||UC||REPLY^Reply To^participation|||||||||||^^X.400^secretariat@cabinet.mssante.fr"
    )
    assert segment(data, "OBX", 13).startswith(
        "OBX|13|ED|CORPSMAIL_PATIENT^Corps du mail pour le patient^MetaDMPMSS||^text^^Base64^"
    )
    assert read(data, STRICT).order == replace(wanted, identity_status="VALI")


# --- there and back -----------------------------------------------------------------------------------------------

WORDS = (
    st.text(st.characters(codec="iso-8859-15", exclude_categories=("Cc",)), min_size=1, max_size=15)
    .map(str.strip)
    .filter(bool)
)
STRUCTURES = st.builds(Structure, WORDS, st.just("750099996"), st.just(templates.STRUCT_IDNAT), st.just("FINEG"))
PERSONS = st.builds(Person, st.just("810109876540"), WORDS, WORDS, st.just(templates.PS_IDNAT), st.just("IDNPS"))
BOXES = st.from_regex(r"[a-z]{1,8}\.[a-z]{1,8}@[a-z]{1,8}\.mssante\.fr", fullmatch=True)
PARTIES = st.builds(Party, st.none() | PERSONS, st.none() | STRUCTURES, st.just("") | WORDS, BOXES)


@st.composite
def orders(draw: st.DrawFn) -> TransmissionOrder:
    """Any order that a tolerant receiver takes."""
    to_patient, to_professionals = draw(st.booleans()), draw(st.booleans())
    hidden_from_professionals = draw(st.booleans())
    action = draw(st.sampled_from(["initial", "replace", "delete"]))
    flags = Flags(
        hidden_from_professionals=hidden_from_professionals,
        hidden_from_patient=not to_patient and not hidden_from_professionals and draw(st.booleans()),
        hidden_from_representatives=draw(st.booleans()),
        secret_connection=draw(st.booleans()),
        visibility_change_only=action == "replace" and draw(st.booleans()),
        to_dmp=draw(st.booleans()),
        to_professionals=to_professionals,
        to_patient=to_patient,
        want_reception=draw(st.booleans()),
        want_reading=draw(st.booleans()),
    )
    others = draw(st.lists(PARTIES, min_size=1, max_size=3)) if to_professionals else []
    return order(
        control_id=draw(st.text("ABCDEFGHIJ0123456789", min_size=1, max_size=20)),
        action=action,
        flags=flags,
        message=draw(st.sampled_from(["MDM", "ORU"])),
        charset=draw(st.sampled_from(["UNICODE UTF-8", "8859/15"])),
        sender=Party(draw(PERSONS), draw(STRUCTURES)),
        recipients=(*others, *([PATIENT] if to_patient else [])),
        reply_to=tuple(draw(st.lists(BOXES, max_size=2))),
        encounter=Encounter(
            draw(st.sampled_from(["N", "I", "E", "O", "R"])), draw(WORDS), "1.2.250.1.999.8", "20260110", ""
        ),
        body_for_professionals=draw(st.just("") | st.text(st.characters(codec="utf-8"), max_size=50)),
        patient_may_reply=not to_patient or draw(st.booleans()),
        identity_status="VALI",
    )


@settings(max_examples=40, deadline=None)
@given(orders())
def test_an_order_reads_back_as_it_was(wanted: TransmissionOrder) -> None:
    document = small_document() if wanted.action == "initial" else replacing()
    data = write(document)
    received = read(compose(document, data, wanted, POLICY), POLICY)
    if wanted.message == "ORU":
        wanted = replace(wanted, event_time="")
    assert received.order == wanted
    assert received.document == data
    assert received.cda.header.id == document.header.id


def test_the_same_order_gives_the_same_bytes() -> None:
    assert message() == message()


def test_a_message_to_the_lps() -> None:
    mail = ReceivedMail("<a&b|1@hopital.mssante.fr>", "XDM/1.0/DDM+CR & synthèse", "Bonjour,\nci-joint.")
    wanted = order(
        action="replace",
        flags=Flags(hidden_from_patient=True),
        sender=Party(SENDER.person, mailbox="medecin@hopital.mssante.fr"),
        recipients=(
            Party(
                structure=Structure("Néphrologie", "UFNEPH", "1.2.250.1.999.3", "UF"), mailbox="nephro@ght.mssante.fr"
            ),
        ),
        mail=mail,
    )
    data = message(wanted)
    assert segment(data, "MSH").endswith("|1.1^CISIS_CDA_HL7_LPS")
    assert segment(data, "OBX", 2).startswith(
        "OBX|2|ED|<a\\T\\b\\F\\1@hopital.mssante.fr>^XDM/1.0/DDM+CR \\T\\ synthèse||^text^^Base64^"
    )
    assert [line.split("|")[3].split("^")[0] for line in lines(data) if line.startswith("OBX|")][2:] == [
        "MASQUE_PS",
        "INVISIBLE_PATIENT",
        "INVISIBLE_REP_LEGAUX",
        "MODIF_CONF_CODE",
    ]
    assert read(data, STRICT).order == replace(wanted, identity_status="VALI")
    assert errors(with_field(data, "PV1-2", "I")) == [
        ("103", "PV1-2.1", "hl7v2.value"),
        ("101", "PV1-19", "hl7v2.encounter"),
    ]
    assert errors(with_field(data, "PRT-15", "")) == [("101", "PRT-15", "hl7v2.mailbox")]
    assert errors(with_field(data, "MSH-9", "ORU^R01^ORU_R01")) != []


# --- what is refused when a message is made -------------------------------------------------------------------------


def foreign(document: Document) -> None:
    document.header.patient.ids = [II("1.2.250.1.999.7", "IPP1")]


def secret(document: Document) -> None:
    document.header.confidentiality = Code("R", templates.CONFIDENTIALITY)


def not_for_the_dmp(document: Document) -> None:
    document.header.code = Code("EXPORT_DUI", "1.2.250.1.213.1.1.4.12", "Export du DUI")


def unknown_type(document: Document) -> None:
    document.header.code = Code("99999-9", templates.LOINC, "Inconnu")


@pytest.mark.parametrize(
    ("change", "wanted", "expected"),
    [
        (foreign, order(), [("903", "OBX[7]-5")]),
        (secret, order(), [("906", "OBX[7]-5")]),
        (not_for_the_dmp, order(), [(None, "OBR-4")]),
        (unknown_type, order(), [(None, "OBR-4"), (None, "OBR-4")]),
        (None, order(sender=None), [(None, "PRT")]),
        (None, order(recipients=()), [(None, "OBX[8]-5")]),
        (None, order(recipients=(NURSE, PATIENT)), [("906", "PRT[3]-4")]),
        (None, order(action="replace"), [(None, "TXA-13"), ("906", "OBX-5")]),
        (None, order(flags=Flags(to_dmp=True), recipients=(NURSE,)), [("906", "PRT[2]-4")]),
        (None, order(encounter=Encounter("I")), [(None, "PV1-19")]),
        (None, order(recipients=(replace(NURSE, mailbox="zoe@example.org"),)), [("906", "PRT[2]-15.4")]),
        (None, order(recipients=(replace(NURSE, mailbox="zoe"),)), [(None, "PRT[2]-15.4")]),
        (None, order(recipients=(Party(NURSE.person),)), [(None, "PRT[2]-15")]),
        (None, order(control_id=""), [(None, "MSH-10.1")]),
        (None, order(control_id="x" * 21, message="ORU"), [(None, "MSH-10")]),
        (None, order(time="yesterday"), [(None, "MSH-7")]),
    ],
)  # fmt: skip
def test_an_order_that_breaks_a_rule_makes_no_message(
    change: Callable[[Document], None] | None, wanted: TransmissionOrder, expected: list[tuple[str | None, str]]
) -> None:
    document = small_document()
    if change:
        change(document)
    with pytest.raises(MessageError) as caught:
        compose(document, write(document), wanted, POLICY)
    assert [(finding.application, str(finding.place)) for finding in caught.value.findings] == expected


def test_bytes_that_are_not_those_of_the_document() -> None:
    other = small_document()
    other.header.patient.ids = [II(templates.INS_NIR_TEST, "277076322082910")]
    with pytest.raises(MessageError) as caught:
        compose(small_document(), write(other), to_both(), POLICY)
    assert [(finding.application, str(finding.place)) for finding in caught.value.findings] == [("904", "PID-3")]


def test_an_ins_of_the_other_environment_never_leaves() -> None:
    with pytest.raises(MessageError, match="production"):
        compose(small_document(), write(small_document()), to_both(), Policy(ins_environment="production"))


def test_errors_name_no_health_data() -> None:
    other = small_document()
    other.header.patient.ids = [II(templates.INS_NIR_TEST, "277076322082910")]
    other.header.patient.name.families = [NamePart("AUTRE", "BR")]
    with pytest.raises(MessageError) as caught:
        compose(small_document(), write(other), to_both(), POLICY)
    for word in ("279035121518989", "277076322082910", "AUTRE", "PATTERSON"):
        assert word not in str(caught.value)


# --- what is refused when a message is read: one change, one reason ---------------------------------------------------

GRAMMAR, STRUCTURE, VALUE, PATIENT_RULE = "hl7v2.grammar", "hl7v2.structure", "hl7v2.value", "hl7v2.patient"
BASE64, HEADER, PARTICIPATION = "hl7v2.base64", "hl7v2.header", "hl7v2.participation"


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("MSH-3", "", ("101", "MSH-3.1", "hl7v2.required")),
        ("MSH-7", "2026-01-12", ("102", "MSH-7", "hl7v2.time")),
        ("MSH-9", "ADT^A01^ADT_A01", ("200", "MSH-9.1", HEADER)),
        ("MSH-9", "MDM^T11^MDM_T02", ("201", "MSH-9.2", HEADER)),
        ("MSH-9", "MDM^T02^MDM_T01", ("103", "MSH-9.3", HEADER)),
        ("MSH-9", "MDM^T02^MDM_T02^MDM_T02", ("102", "MSH-9", HEADER)),
        ("MSH-10", "", ("101", "MSH-10.1", "hl7v2.required")),
        ("MSH-11", "X", ("202", "MSH-11.1", HEADER)),
        ("MSH-12", "2.5", ("203", "MSH-12.1", HEADER)),
        ("MSH-17", "USA", ("103", "MSH-17.1", HEADER)),
        ("MSH-21", "2.0^CISIS_CDA_HL7_V2", ("203", "MSH-21", HEADER)),
        ("MSH-21", "", ("203", "MSH-21", HEADER)),
        ("EVN-2", "20261312", ("102", "EVN-2", "hl7v2.time")),
        ("PID-3", "", ("101", "PID-3", STRUCTURE)),
        ("PID-3", lambda cx: cx.replace("^INS", "^PI"), ("102", "PID-3.5", PATIENT_RULE)),
        ("PID-3", lambda cx: f"{cx}~^^^&1.2.3&ISO^PI", ("101", "PID-3", STRUCTURE)),
        ("PID-3", lambda cx: f"{cx}~1^^^LOCAL^PI", ("102", "PID-3(2).4", PATIENT_RULE)),
        ("PID-5", lambda xpn: xpn.replace("PATTERSON", "AUTRE"), ("207", "PID-5.1", PATIENT_RULE)),
        ("PID-5", lambda xpn: xpn.replace("^DOMINIQUE^", "^ANNE^"), ("207", "PID-5.2", PATIENT_RULE)),
        ("PID-5", lambda xpn: xpn.replace("PATTERSON", ""), ("207", "PID-5", PATIENT_RULE)),
        ("PID-7", "", ("207", "PID-7", PATIENT_RULE)),
        ("PID-7", "19790329", ("207", "PID-7", PATIENT_RULE)),
        ("PID-8", "M", ("207", "PID-8", PATIENT_RULE)),
        ("PID-32", "PROV", ("207", "PID-32", PATIENT_RULE)),
        ("PV1-2", "Z", ("103", "PV1-2", "hl7v2.encounter")),
        ("PV1-2", "", ("101", "PV1-2", STRUCTURE)),
        ("PV1-2", "I", ("101", "PV1-19", "hl7v2.encounter")),
        ("PV1-44", "hier", ("102", "PV1-44", "hl7v2.time")),
        ("ORC-1", "RO", ("207", "ORC-1", "hl7v2.action")),
        ("ORC-1", "XX", ("103", "ORC-1", "hl7v2.action")),
        ("ORC-1", "", ("101", "ORC-1", STRUCTURE)),
        ("OBX-11", "C", ("207", "ORC-1", "hl7v2.action")),
        ("TXA-1", "2", ("103", "TXA-1.1", VALUE)),
        ("TXA-2", "11488-4", ("207", "TXA-2", "hl7v2.type")),
        ("TXA-3", "PDF", ("103", "TXA-3.1", VALUE)),
        ("TXA-12", "1.2.3", ("207", "TXA-12", "hl7v2.document-id")),
        ("TXA-12", "", ("101", "TXA-12", STRUCTURE)),
        ("TXA-17", "LA", ("103", "TXA-17.1", VALUE)),
        ("OBX-1", "2", ("103", "OBX-1.1", VALUE)),
        ("OBX-2", "TX", ("103", "OBX-2.1", VALUE)),
        ("OBX-3", "11488-4^CR^LN", ("207", "OBX-3", "hl7v2.type")),
        ("OBX-5", lambda ed: "x" + ed, ("103", "OBX-5.1", VALUE)),
        ("OBX-5", lambda ed: ed.replace("text", "PDF"), ("103", "OBX-5.2", VALUE)),
        ("OBX-5", lambda ed: ed.replace("Base64", "A"), ("103", "OBX-5.4", VALUE)),
        ("OBX-5", lambda ed: f"{ed}^again", ("102", "OBX-5", "hl7v2.obx")),
        ("OBX-5", lambda ed: f"{ed}~{ed}", ("102", "OBX-5", "hl7v2.obx")),
        ("OBX-5", "^text^XML^Base64^QUJDR", ("102", "OBX-5.5", BASE64)),
        ("OBX-5", "^text^XML^Base64^QUJD*A==", ("102", "OBX-5.5", BASE64)),
        ("OBX-5", "^text^XML^Base64^QUJé", ("102", "OBX-5.5", BASE64)),
        ("OBX-5", "^text^XML^Base64^", ("101", "OBX-5.5", BASE64)),
        ("OBX-5", "^text^XML^Base64^QUJD", ("207", "OBX-5", "hl7v2.cda")),
        ("OBX[2]-2", "CE", ("103", "OBX[2]-2.1", VALUE)),
        ("OBX[2]-3", lambda cwe: cwe.replace("MetaDMPMSS", "L"), ("103", "OBX[2]-3.3", VALUE)),
        ("OBX[2]-3", lambda cwe: cwe.replace("MASQUE", "MASK"), ("198", "OBX[2]-3", "hl7v2.metadata")),
        ("OBX[3]-5", "O^^expandedYes-NoIndicator", ("103", "OBX[3]-5", "hl7v2.metadata")),
        ("OBX[3]-11", "P", ("103", "OBX[3]-11.1", VALUE)),
        ("OBX[4]-1", "3", ("103", "OBX[4]-1.1", VALUE)),
        ("PRT-2", "AD", ("103", "PRT-2.1", VALUE)),
        ("PRT-4", "SB^Send by", ("101", "PRT-4.3", VALUE)),
        ("PRT-8", "", ("101", "PRT-8", "hl7v2.sender")),
        ("PRT[2]-5", lambda xcn: xcn.replace("810109876540", ""), ("101", "PRT[2]-5.1", "hl7v2.required")),
        ("PRT[2]-15", lambda xtn: xtn.replace("X.400", "SMTP"), ("103", "PRT[2]-15.3", VALUE)),
        ("PRT[2]-15", lambda xtn: xtn + ".example", ("207", "PRT[2]-15.4", "hl7v2.mailbox")),
        ("PRT[3]-15", lambda xtn: xtn.replace(INS, "277076322082910"), ("207", "PRT[3]-15.4", "hl7v2.recipients")),
        ("PRT[3]-5", lambda xcn: xcn.replace(INS, "277076322082910"), ("207", "PRT[3]-5", "hl7v2.recipients")),
        ("TXA-24", "x", ("102", "TXA", STRUCTURE)),
        ("MSH-99", "x", ("102", "MSH", STRUCTURE)),
        ("PID-7", "19790328^A", ("102", "PID-7", STRUCTURE)),
    ],
)  # fmt: skip
def test_one_field_changed(place: str, value: str | Callable[[str], str], expected: tuple[str, str, str]) -> None:
    assert errors(with_field(message(), place, value)) == [expected]


RECIPIENTS = "hl7v2.recipients"


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (
            "PID-3",
            lambda cx: cx.replace("18989", "18988"),
            [
                ("102", "PID-3.1", PATIENT_RULE),
                ("207", "PID-3", PATIENT_RULE),
                ("207", "PRT[3]-5", RECIPIENTS),
                ("207", "PRT[3]-15.4", RECIPIENTS),
            ],
        ),
        (
            "PID-3",
            lambda cx: cx.replace(INS, "277076322082910"),
            [("207", "PID-3", PATIENT_RULE), ("207", "PRT[3]-5", RECIPIENTS), ("207", "PRT[3]-15.4", RECIPIENTS)],
        ),
        (
            "PID-3",
            lambda cx: cx.replace("4.10", "4.8"),
            [("103", "PID-3.4", "hl7v2.ins-environment"), ("207", "PID-3", PATIENT_RULE)],
        ),
        ("OBX[3]-5", "", [("103", "OBX[3]-5", "hl7v2.metadata"), ("101", "OBX[3]-5.3", VALUE)]),
        ("PRT-4", "AUT^x^participation", [("103", "PRT-4", PARTICIPATION), ("101", "PRT", "hl7v2.sender")]),
        (
            "PRT[3]-5",
            lambda xcn: xcn.replace(INS, f"27707{INS}"),
            [("102", "PRT[3]-5", RECIPIENTS), ("207", "PRT[3]-5", RECIPIENTS)],
        ),
    ],
)
def test_one_field_changed_that_several_rules_look_at(
    place: str, value: str | Callable[[str], str], expected: list[tuple[str, str, str]]
) -> None:
    assert errors(with_field(message(), place, value)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: without(data, "EVN"), ("100", "PID", GRAMMAR)),
        (lambda data: without(data, "PID"), ("100", "PV1", GRAMMAR)),
        (lambda data: without(data, "PV1"), ("100", "ORC", GRAMMAR)),
        (lambda data: without(data, "ORC"), ("100", "OBR", GRAMMAR)),
        (lambda data: without(data, "OBR"), ("100", "TXA", GRAMMAR)),
        (lambda data: without(data, "TXA"), ("100", "OBX", GRAMMAR)),
        (lambda data: moved(data, "PV1", "PID"), ("100", "PV1", GRAMMAR)),
        (lambda data: moved(data, "PRT", "OBX"), ("100", "PRT", GRAMMAR)),
        (lambda data: inserted(data, "PID|1", "PV1"), ("100", "PID[2]", GRAMMAR)),
        (lambda data: inserted(data, "ZZZ|1", "PV1"), ("100", "ZZZ", GRAMMAR)),
        (lambda data: joined(lines(data)[:7]), ("100", "TXA", GRAMMAR)),
        (lambda data: joined([*lines(data), *["NTE|1"] * 600]), ("198", "MSH", GRAMMAR)),
        (lambda data: with_field(data, "PID-11", "^" * 30_000), ("198", "MSH", GRAMMAR)),
        (lambda data: joined([*lines(data)[:-1]]), ("198", "OBX[10]-3", "hl7v2.metadata")),
        (lambda data: joined([*lines(data), lines(data)[-1]]), ("198", "OBX[12]-3", "hl7v2.metadata")),
        (lambda data: joined([*lines(data)[:12], lines(data)[13], lines(data)[12], *lines(data)[14:]]),
         ("198", "OBX[3]-3", "hl7v2.metadata")),
        (lambda data: joined([*lines(data), segment(data, "PRT")]), ("100", "PRT[4]-4", PARTICIPATION)),
        (lambda data: inserted(data, segment(data, "PRT", 2), "PRT"), ("100", "PRT[2]-4", PARTICIPATION)),
        (lambda data: inserted(data, segment(data, "PRT"), "PRT"), ("198", "PRT-4", PARTICIPATION)),
        (lambda data: with_field(data, "PRT[2]-16", "^^X.400^a@b.mssante.fr"), ("102", "PRT[2]-16", STRUCTURE)),
    ],
)  # fmt: skip
def test_segments_changed(change: Callable[[bytes], bytes], expected: tuple[str, str, str]) -> None:
    found = [(code, place, rule) for code, place, rule in errors(change(message())) if rule != "hl7v2.value"]
    assert found == [expected]


def test_a_field_after_prt_15_is_explained() -> None:
    (finding,) = examine(with_field(message(), "PRT[2]-16", "x"), POLICY).findings.errors
    assert "PRT-15" in finding.message


def test_a_replacement_of_another_document() -> None:
    data = message(order(action="replace"))
    assert errors(with_field(data, "TXA-13", "1.2.3")) == [("207", "TXA-13", "hl7v2.replacement")]
    assert errors(with_field(data, "TXA-13", "")) == [("101", "TXA-13", "hl7v2.replacement")]


def test_an_addendum_replaces_nothing() -> None:
    initial = message(document=adding())
    assert examine(initial, STRICT).findings == []
    with pytest.raises(MessageError) as caught:
        message(order(action="replace"), adding())
    assert {(str(error.place), error.rule) for error in caught.value.findings} == {
        ("TXA-13", "hl7v2.replacement"),
        ("OBX-5", "hl7v2.replacement"),
    }


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("PRT-4", "SB^^participation", ("101", "PRT-4.2", PARTICIPATION)),
        ("PRT[2]-15", lambda xtn: xtn.replace("^^X", "^NET^X"), None),
        ("PRT-8", lambda xon: xon + "\xa0 ", ("102", "PRT-8.10", "hl7v2.spaces")),
        ("MSH-21", "2.1^ CISIS_CDA_HL7_V2", ("102", "MSH-21.2", "hl7v2.spaces")),
        ("PRT-5", lambda x: re.sub("ASIP-SANTE-PS&(.+)&ISO", r"\1", x), ("102", "PRT-5.9", "hl7v2.authority")),
        ("PRT-5", lambda x: x.replace("SANTE-PS", "SANTE- PS"), ("102", "PRT-5.9", "hl7v2.authority")),
        ("PRT-5", lambda x: x.replace("810101234564", "10101234564"), ("102", "PRT-5", PARTICIPATION)),
        ("PRT-8", lambda x: x.replace("^1750099996", "^750099996"), ("102", "PRT-8.10", PARTICIPATION)),
        ("TXA-12", lambda ei: ei + "^Organisation", ("102", "TXA-12.2", "hl7v2.document-id")),
        ("TXA-13", "1.2.3", ("102", "TXA-13", "hl7v2.replacement")),
        ("OBX-5", lambda ed: ed[:60] + "\\.br\\" + ed[60:], ("102", "OBX-5.5", BASE64)),
        ("OBX-5", lambda ed: ed[:60] + "\\X0D\\\\X0A\\ " + ed[60:], ("102", "OBX-5.5", BASE64)),
        ("OBX-5", lambda ed: ed.replace("^text^XML^Base64", "^Text^xml^BASE64"), None),
        ("OBX[2]-3", "MASQUE_PS^Autre^MetaDMPMSS", ("103", "OBX[2]-3.2", "hl7v2.metadata")),
        ("OBX[2]-5", "N^^HL70136", ("103", "OBX[2]-5.3", "hl7v2.metadata")),
        ("PID-3", lambda cx: cx + "~77^^^&1.2.250.1.999.7&ISO^PI", ("102", "PID-3", PATIENT_RULE)),
        ("PID-5", lambda xpn: xpn.replace("PATTERSON", "Pâtterson"), None),
        ("OBX-12", "", None),
    ],
)
def test_harmless_differences_are_said_and_accepted(
    place: str, value: str | Callable[[str], str], expected: tuple[str, str, str] | None
) -> None:
    assert warnings(with_field(message(), place, value)) == ([expected] if expected else [])


def test_a_bar_at_the_end_of_each_segment_is_legal() -> None:
    assert warnings(joined([f"{line}|" for line in lines(message())])) == []


def test_lost_padding_is_restored_or_refused() -> None:
    whole = message()
    document = read(whole, POLICY).document
    padded = write(small_document()) + b" " * (-len(document) % 3 + 2)
    data = with_field(whole, "OBX-5", f"^text^XML^Base64^{base64.b64encode(padded).decode().rstrip('=')}")
    assert warnings(data) == [("102", "OBX-5.5", BASE64)]
    assert read(data, POLICY).document == padded
    assert errors(data, STRICT) == [("102", "OBX-5.5", BASE64)]


def test_a_mail_body_that_is_no_base64() -> None:
    data = message(to_both(body_for_professionals="Bonjour"))
    cut = with_field(data, "OBX[12]-5", "^text^^Base64^QUJDR")
    assert warnings(cut) == [("102", "OBX[12]-5.5", BASE64)]
    assert read(cut, POLICY).order.body_for_professionals == ""
    assert errors(cut, STRICT) == [("102", "OBX[12]-5.5", BASE64)]
    foreign_text = with_field(data, "OBX[12]-5", "^text^^Base64^/w==")
    assert errors(foreign_text) == [("102", "OBX[12]-5.5", "hl7v2.metadata")]


def test_every_error_of_a_message_is_said_at_once() -> None:
    data = with_field(
        with_field(with_field(message(), "PID-7", "19800101"), "TXA-12", "1.2.3"),
        "OBX[3]-5",
        "X^^expandedYes-NoIndicator",
    )
    assert [place for _, place, _ in errors(data)] == ["PID-7", "TXA-12", "OBX[3]-5"]


# --- legal combinations -------------------------------------------------------------------------------------------

NAMES = [field.name for field in fields(Flags)][:8]


def listed_by_hand(
    masked: bool, patient: bool, family: bool, secret_one: bool, change: bool, dmp: bool, ps: bool, pat: bool
) -> bool:
    """The closed list of the volet, as sentences rather than a table."""
    if not ps and not pat:
        return True
    if ps and pat:
        return not (masked or patient or family)
    if ps:
        return patient and not masked and not family
    return not patient and not secret_one and not dmp


def test_every_combination_of_flags() -> None:
    legal = 0
    for values in itertools.product((False, True), repeat=8):
        flags = Flags(**dict(zip(NAMES, values, strict=True)))
        assert is_listed(flags) == listed_by_hand(*values), values
        legal += is_listed(flags) and (flags.to_patient or flags.to_professionals)
    assert legal == 8 + 8 + 8


@pytest.mark.parametrize("strict", [False, True])
def test_combinations_in_messages(strict: bool) -> None:
    """A tolerant receiver refuses what is unsafe only, a strict one what the volet does not list as well."""
    policy = replace(POLICY, strict=strict, may_mask_and_hide=True)
    data = message(order(action="replace"))
    to_nurse, to_patient = (segment(message(to_both()), "PRT", number) for number in (2, 3))
    for values in itertools.product((False, True), repeat=6):
        masked, patient, family, secret_one, ps, pat = values
        flags = dict(zip(("OBX[2]", "OBX[3]", "OBX[4]", "OBX[5]", "OBX[8]", "OBX[9]"), values, strict=True))
        changed = data
        for place, value in flags.items():
            changed = with_field(changed, f"{place}-5", f"{'Y' if value else 'N'}^^expandedYes-NoIndicator")
        changed = without(changed, "PRT")
        for line in [to_nurse] * ps + [to_patient] * pat:
            changed = _under_document(changed, line)
        changed = _under_document(changed, segment(data, "PRT"), first=True)
        unsafe = pat and patient
        expected = unsafe or (strict and not listed_by_hand(masked, patient, family, secret_one, False, True, ps, pat))
        assert bool(errors(changed, policy)) == expected, values
        assert {rule for _, _, rule in errors(changed, policy)} <= {"hl7v2.combination"}


def _under_document(data: bytes, line: str, *, first: bool = False) -> bytes:
    segments = lines(data)
    at = next(index for index, text in enumerate(segments) if text.startswith("OBX|1|")) + 1
    while not first and segments[at].startswith("PRT|"):
        at += 1
    return joined([*segments[:at], line, *segments[at:]])


def test_masked_and_hidden_together_is_not_for_the_dmp() -> None:
    wanted = order(flags=Flags(hidden_from_professionals=True, hidden_from_patient=True, to_dmp=True), recipients=())
    with pytest.raises(MessageError, match="together"):
        message(wanted)
    data = compose(small_document(), write(small_document()), wanted, replace(POLICY, may_mask_and_hide=True))
    assert errors(data) == [("207", "OBX[7]-5", "hl7v2.dmp")]


def test_a_change_of_visibility_is_a_replacement() -> None:
    flags = Flags(to_dmp=True, visibility_change_only=True)
    with pytest.raises(MessageError, match="visibility"):
        message(order(flags=flags, recipients=()))
    assert errors(message(order(flags=flags, recipients=(), action="replace"))) == []


def test_an_order_for_nobody_is_said() -> None:
    assert warnings(message(order(flags=Flags(), recipients=()))) == [("207", "OBX[7]-5", "hl7v2.combination")]


# --- sizes and rubbish ----------------------------------------------------------------------------------------------


def test_a_document_of_20_megabytes() -> None:
    document = small_document()
    data = write(document)
    large = data.replace(b"<component>", b"<!--" + b"x" * 1_000 * 20_000 + b"--><component>", 1)
    assert len(large) > 20_000_000
    received = read(compose(document, large, to_both(), POLICY), POLICY)
    assert received.document == large


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_damaged_message_is_refused_or_the_same(data: st.DataObject) -> None:
    """Cut, doubled or changed anywhere, a message gives findings, never another failure; the patient never changes."""
    whole = message(order())
    start = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 30))
    piece = data.draw(st.binary(max_size=6) | st.sampled_from([b"|", b"^", b"~", b"\r", b"\\X0D\\", b"&"]))
    damaged = whole[:start] + piece + whole[start + length :]
    examined = examine(damaged, POLICY)
    assert (examined.received is None) == bool(examined.findings.errors)
    if examined.received is not None:
        assert PatientId(INS, templates.INS_NIR_TEST) in examined.received.patient_ids


def test_a_contact_point_keeps_what_it_is() -> None:
    document = small_document()
    document.header.patient.telecoms = [
        Telecom("tel:+33612345678", "MC"),
        Telecom("fax:+33140000000", "WP"),
        Telecom("tel:+33140000001", "PG"),
        Telecom("http://exemple.fr/moi"),
    ]
    written = segment(message(document=document), "PID").split("|")[13]
    assert written.split("~") == [
        "^PRN^CP^^^^^^^^^+33612345678",
        "^WPN^FX^^^^^^^^^+33140000000",
        "^PRN^BP^^^^^^^^^+33140000001",
    ]
