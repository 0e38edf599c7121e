"""XDS metadata derived from a CDA header, what a header lacks for them, and their agreement with the document."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relais.cda import templates, xdm
from relais.cda.errors import MappingError
from relais.cda.model import (
    II,
    Address,
    AssignedEntity,
    Author,
    Code,
    Device,
    Document,
    Interval,
    Media,
    NamePart,
    Order,
    Organization,
    PersonName,
    ServiceEvent,
    Telecom,
)
from relais.cda.reader import read
from relais.cda.writer import write
from relais.cda.xds import CodedValue, DocumentEntry, Submission, submit_objects_request
from relais.cda.xds_types import XCN
from relais.mappings.document_metadata import (
    Destination,
    check_agreement,
    check_archive,
    check_codes,
    document_entry,
    submission_set,
    usual_content_type,
)
from support.documents import small_document
from support.shipments import AUTHOR, PATIENT_ID, small_entry, small_submission_set

NOW = datetime(2026, 1, 12, 8, 5, tzinfo=UTC)
LOT = "2.25.301245378217395437813294710347591823499"
IPP = II("1.2.250.1.999.2", "0042/A&B")

Change = Callable[[Document], object]


def _entry(document: Document, destination: Destination = "dmp") -> DocumentEntry:
    return document_entry(document, write(document), destination=destination)


def _lacks(document: Document, destination: Destination = "dmp") -> dict[str, str]:
    """Path → code of what the header lacks."""
    with pytest.raises(MappingError) as caught:
        document_entry(document, b"<a/>", destination=destination)
    return {issue.path.removeprefix("/ClinicalDocument/"): issue.code for issue in caught.value.issues}


# --- deriving -------------------------------------------------------------------------------------------------


def test_the_fiche_of_the_small_document() -> None:
    """Against the fiche written by hand; only the patient's fields and one published label say more."""
    document = small_document()
    data = write(document)
    expected = replace(
        small_entry(document, data),
        source_patient_info=(
            f"PID-3|{PATIENT_ID}",
            "PID-5|PATTERSON^DOMINIQUE^DOMINIQUE MARIE-LOUISE^^^^L",
            "PID-7|19790328",
            "PID-8|F",
            "PID-11|^^DOMPREMY^^^^BDL^^51215",
        ),
        format_code=CodedValue(
            "urn:asip:ci-sis:pps-paerpa:2017", "Plan Personnalisé de Santé - PAERPA", "1.2.250.1.213.1.1.4.2.282"
        ),
    )
    assert document_entry(document, data) == expected
    assert document_entry(document, data, entry_id="Document07", uri="DOC00007.XML", destination="mss") == replace(
        expected, entry_id="Document07", uri="DOC00007.XML"
    )


@pytest.mark.parametrize(
    ("data", "size", "digest"),
    [
        (b"<a/>", 4, "db9aa86632c6f2cc99684a2dd15d2b64828e7622"),
        (b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>', 42, "fb4dce2394e0927d829970afd5b3b2ad0f9c1899"),
    ],
)
def test_hash_and_size_are_those_of_the_exact_bytes(data: bytes, size: int, digest: str) -> None:
    entry = document_entry(small_document(), data)
    assert (entry.size, entry.hash) == (size, digest)


def test_times_are_in_utc_and_keep_their_precision() -> None:
    document = small_document()
    document.header.effective_time = "20240705143000+0200"
    document.header.service_events[0].time = Interval(low="20240705", high="202407051500+0200")
    entry = _entry(document)
    assert (entry.creation_time, entry.service_start, entry.service_stop) == (
        "20240705123000",
        "20240705",
        "202407051300",
    )


def test_each_author_is_one_author() -> None:
    document = small_document()
    device = AssignedEntity(
        ids=[II(templates.PS_IDNAT, "3750100125/88")],
        code=Code("DISPOSITIF", "1.2.250.1.213.1.1.4.6", "Dispositif médical"),
        device=Device(model_name="Modèle 2", software_name="Relais"),
    )
    patient = AssignedEntity(
        ids=[II(templates.INS_NIR_TEST, "279035121518989")],
        person=PersonName(families=[NamePart("PATTERSON", "BR")], givens=[NamePart("DOMINIQUE", "BR")]),
        organization=Organization(names=["Domicile"]),
    )
    internal = AssignedEntity(
        ids=[II("1.2.3.4", "12"), II(templates.PS_IDNAT, "3750100125/1453")],
        person=PersonName(families=[NamePart("D^OR", "CL")]),
        organization=Organization(ids=[II("1.3.2", "123456782")], names=["Éditeur"]),
    )
    header = document.header
    header.authors[0].function_code = Code("PCP", "2.16.840.1.113883.5.88", "Médecin traitant")
    header.authors += [Author("20260112", assigned) for assigned in (device, patient, internal)]
    professional, machine, person, colleague = _entry(document).authors
    assert professional == replace(AUTHOR, roles=("Médecin traitant",))
    assert machine.person == "3750100125/88^Relais^Modèle 2^^^^^^&1.2.250.1.71.4.2.1&ISO^U^^^RI"
    assert machine.specialties == ("DISPOSITIF^Dispositif médical^1.2.250.1.213.1.1.4.6",)
    assert person.person == "279035121518989^PATTERSON^DOMINIQUE^^^^^^&1.2.250.1.213.1.4.10&ISO^D^^^NH"
    assert person.institutions == ()
    assert colleague.person == "3750100125/1453^D\\S\\OR^^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^EI"
    assert colleague.institutions == ("Éditeur^^^^^&1.3.2&ISO^SIREN^^^123456782",)


def test_what_a_hospital_sends_is_of_any_activity() -> None:
    sector = "1.2.250.1.71.4.2.4"
    hospital, cabinet = CodedValue("SA01", "", sector), CodedValue("SA07", "", sector)
    found = usual_content_type(hospital, CodedValue("SA04", "", sector), None)
    assert (found.code, found.system) == ("97", "1.2.250.1.213.2.2")
    assert usual_content_type(hospital, cabinet) == CodedValue("SA07", "Cabinet individuel", sector)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (
            [II("1.2.3", "SERVICE-4"), II("1.3.2", "123456782"), II(templates.STRUCT_IDNAT, "1750099996")],
            "Éditeur^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750099996",
        ),
        ([II("1.2.3", "SERVICE-4"), II("1.3.2", "123456782")], "Éditeur^^^^^&1.3.2&ISO^SIREN^^^123456782"),
        ([II("1.2.3", "SERVICE-4")], "Éditeur"),
    ],
)
def test_a_structure_is_named_by_its_national_number(ids: list[II], expected: str) -> None:
    document = small_document()
    document.header.authors[0].assigned.organization = Organization(ids=ids, names=["Éditeur"])
    assert _entry(document).authors[0].institutions == (expected,)


def test_the_patient_is_described() -> None:
    document = small_document()
    patient = document.header.patient
    patient.ids.append(IPP)
    patient.name.families.append(NamePart("O'NEIL|X", "CL"))
    patient.name.givens.append(NamePart("Domi", "CL"))
    patient.addresses = [Address(house_number="12", street_name="rue des Lilas", unit_id="Bât. B", city="RENNES")]
    patient.telecoms = [Telecom("tel:0299000000", "WP"), Telecom("tel:+33612345678", "MC")]
    entry = _entry(document)
    assert entry.patient_id == PATIENT_ID
    assert entry.source_patient_id == "0042/A\\T\\B^^^&1.2.250.1.999.2&ISO^PI"
    assert entry.source_patient_info == (
        f"PID-3|{PATIENT_ID}~0042/A\\T\\B^^^&1.2.250.1.999.2&ISO^PI",
        "PID-5|PATTERSON^DOMINIQUE^DOMINIQUE MARIE-LOUISE^^^^L~O'NEIL\\F\\X^Domi^^^^^D",
        "PID-7|19790328",
        "PID-8|F",
        "PID-11|12 rue des Lilas^Bât. B^RENNES^^^~^^DOMPREMY^^^^BDL^^51215",
        "PID-13|^PRN^CP^^^^^^^^^+33612345678",
    )


def test_the_production_ins_comes_first() -> None:
    document = small_document()
    ids = document.header.patient.ids
    ids.insert(0, II(templates.INS_NIA, "277076322082910"))
    ids.append(II(templates.INS_NIR, "255069999999934"))
    assert _entry(document).patient_id == "255069999999934^^^&1.2.250.1.213.1.4.8&ISO^NH"


def test_acts_and_orders_are_referenced() -> None:
    document = small_document()
    header = document.header
    header.service_events[0].code = Code("18776-5", templates.LOINC, "Plan personnalisé de soins")
    header.service_events.append(ServiceEvent(code=Code("AMY", "1.2.250.1.213.2.10")))
    header.service_events.append(ServiceEvent(code=Code(null_flavor="NA")))
    header.orders = [Order(ids=[II("1.2.3", "42")]), Order(ids=[II("1.2.4")])]
    entry = _entry(document)
    assert entry.event_codes == (
        CodedValue("18776-5", "Plan personnalisé de soins", templates.LOINC),
        CodedValue("AMY", "AMY", "1.2.250.1.213.2.10"),
    )
    assert entry.reference_ids == ("42^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:order",)


@pytest.mark.parametrize(
    ("template", "code", "system"),
    [
        ("1.2.250.1.213.1.1.1.13", "urn:asip:ci-sis:vsm:2012", "1.2.250.1.213.1.1.4.2.282"),
        ("1.2.250.1.213.1.1.1.26", "urn:asip:ci-sis:pps-cancer:2017", "1.2.250.1.213.1.1.4.2.282"),
        ("1.2.250.1.999.77", "urn:asipSante:modelesHorsProfils:2011", "1.2.250.1.213.1.1.4.2.282"),
    ],
)
def test_the_format_follows_the_model(template: str, code: str, system: str) -> None:
    document = small_document()
    document.header.template_ids[2] = II(template)
    assert (_entry(document).format_code.code, _entry(document).format_code.system) == (code, system)


@pytest.mark.parametrize(
    ("media_type", "code"),
    [
        ("application/pdf", "urn:ihe:iti:xds-sd:pdf:2008"),
        ("text/plain", "urn:ihe:iti:xds-sd:text:2008"),
        ("text/rtf", "urn:ihe:iti-fr:xds-sd:rtf:2010"),
        ("image/jpeg", "urn:ihe:iti-fr:xds-sd:jpeg:2010"),
        ("image/tiff", "urn:ihe:iti-fr:xds-sd:tiff:2010"),
    ],
)
def test_the_format_follows_the_media_type_of_an_unstructured_body(media_type: str, code: str) -> None:
    document = small_document()
    document.non_xml_body = Media(media_type, b"x")
    entry = document_entry(document, b"x")
    assert (entry.format_code.code, entry.format_code.system) == (code, "1.3.6.1.4.1.19376.1.2.3")
    document.non_xml_body = Media("application/msword", b"x")
    with pytest.raises(MappingError, match="mediaType"):
        document_entry(document, b"x")


def test_labels_that_the_header_leaves_out_are_the_published_ones() -> None:
    document = small_document()
    header = document.header
    header.code.display = None
    header.confidentiality = Code("N", templates.CONFIDENTIALITY)
    assert _entry(document).type_code.display == "Plan personnalisé de soins"
    assert _entry(document).confidentiality[0].display == "Normal"


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1))
def test_any_name_makes_sound_metadata(name: str) -> None:
    if not name.strip():
        return
    document = small_document()
    header = document.header
    header.title = header.patient.name.families[0].text = name
    professional = header.authors[0].assigned
    assert professional.person is not None and professional.organization is not None
    professional.person.families[0].text = professional.organization.names[0] = name
    entry = _entry(document)
    lot = submission_set(document, unique_id=LOT, source_id="1.2.250.1.999.1", time=NOW)
    submit_objects_request(Submission(lot, (entry,)))
    assert XCN.parse(entry.authors[0].person or "").family == " ".join(name.split())
    assert check_agreement(entry, document, write(document)) == []


# --- refusing -------------------------------------------------------------------------------------------------


def _drop_ins(document: Document) -> None:
    document.header.patient.ids = [IPP]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda d: setattr(d.header, "id", II()), "id/@root"),
        (lambda d: setattr(d.header, "id", II("F3B2A1D0-1111-4222-8333-444455556666")), "id/@root"),
        (lambda d: setattr(d.header, "title", None), "title"),
        (lambda d: setattr(d.header, "language", None), "languageCode"),
        (lambda d: setattr(d.header, "effective_time", None), "effectiveTime/@value"),
        (lambda d: setattr(d.header, "effective_time", "hier"), "effectiveTime/@value"),
        (lambda d: setattr(d.header, "code", Code("00000-0", templates.LOINC, "Inconnu")), "code"),
        (lambda d: setattr(d.header, "code", Code(null_flavor="UNK")), "code"),
        (lambda d: setattr(d.header, "confidentiality", None), "confidentialityCode"),
        (lambda d: setattr(d.header.patient, "ids", []), "recordTarget/patientRole/id"),
        (
            lambda d: d.header.patient.ids.append(II(templates.INS_NIR_TEST, "277076322082910")),
            "recordTarget/patientRole/id",
        ),
        (
            lambda d: setattr(d.header.patient, "ids", [II(templates.INS_NIR_TEST, "279035121518988")]),
            "recordTarget/patientRole/id",
        ),
        (lambda d: setattr(d.header, "authors", []), "author"),
        (lambda d: setattr(d.header.authors[0].assigned, "person", None), "author/assignedAuthor"),
        (lambda d: setattr(d.header.authors[0].assigned, "ids", []), "author/assignedAuthor"),
        (lambda d: d.header.authors.append(Author("2026")), "author[2]/assignedAuthor"),
        (lambda d: setattr(d.header, "legal_authenticator", None), "legalAuthenticator"),
        (
            lambda d: setattr(d.header.legal_authenticator.assigned, "person", PersonName()),
            "legalAuthenticator/assignedEntity",
        ),
        (
            lambda d: setattr(d.header.service_events[0], "time", None),
            "documentationOf/serviceEvent/effectiveTime/low/@value",
        ),
        (
            lambda d: setattr(d.header.service_events[0], "performers", []),
            "documentationOf/serviceEvent/performer/assignedEntity/representedOrganization/standardIndustryClassCode",
        ),
        (
            lambda d: setattr(d.header, "encounter", None),
            "componentOf/encompassingEncounter/location/healthCareFacility/code",
        ),
    ],
)
@pytest.mark.parametrize("destination", ["dmp", "mhd", "mss"])
def test_a_header_that_lacks_one_thing(change: Change, path: str, destination: Destination) -> None:
    document = small_document()
    change(document)
    with pytest.raises(MappingError) as caught:
        document_entry(document, b"<a/>", destination=destination)
    assert {issue.path for issue in caught.value.issues} == {f"/ClinicalDocument/{path}"}
    assert "27903512151" not in str(caught.value) and "PATTERSON" not in str(caught.value)


def test_everything_that_is_missing_is_listed() -> None:
    document = small_document()
    header = document.header
    header.title = header.effective_time = header.encounter = header.legal_authenticator = None
    assert len(_lacks(document)) == 4


def test_what_only_the_dmp_refuses() -> None:
    without_ins, with_extension, not_dmp_type = small_document(), small_document(), small_document()
    _drop_ins(without_ins)
    with_extension.header.id.extension = "7"
    not_dmp_type.header.code = Code("56446-8", templates.LOINC, "Notification de rendez-vous")
    assert _lacks(without_ins) == {"recordTarget/patientRole/id": "required"}
    assert _lacks(with_extension) == {"id/@extension": "not-supported"}
    assert _lacks(not_dmp_type) == {"code": "not-supported"}
    local = _entry(without_ins, "mss")
    assert local.patient_id == local.source_patient_id == "0042/A\\T\\B^^^&1.2.250.1.999.2&ISO^PI"
    without_ins.header.patient.ids.insert(0, II("1.2.250.1.213.1.4.13", "279035121518989"))  # of a family, perhaps
    insured = _entry(without_ins, "mss")
    assert (insured.patient_id, insured.source_patient_info) == (local.patient_id, local.source_patient_info)
    assert _entry(with_extension, "mss").unique_id == f"{with_extension.header.id.root}^7"
    assert _entry(not_dmp_type, "mss").class_code.code == "95"


def test_an_obsolete_ins_names_nobody() -> None:
    document = small_document()
    document.header.patient.ids = [II("1.2.250.1.213.1.4.2", "0218805328320789819507")]
    assert _lacks(document, "mss") == {"recordTarget/patientRole/id": "required"}


# --- the lot --------------------------------------------------------------------------------------------------


def test_the_lot_of_the_small_document() -> None:
    lot = submission_set(small_document(), unique_id=LOT, source_id="1.2.250.1.999.1", time=NOW)
    sector = CodedValue("SA07", "Cabinet individuel", "1.2.250.1.71.4.2.4")
    assert lot == replace(small_submission_set(), content_type=sector)


def test_the_sender_may_say_who_and_what_for() -> None:
    document = small_document()
    document.header.authors = []
    content = small_submission_set().content_type
    lot = submission_set(
        document,
        unique_id=LOT,
        source_id="1.2.250.1.999.1",
        time=NOW,
        content_type=content,
        author=AUTHOR,
        title="Plan",
        comments="Suivi",
    )
    assert lot == replace(small_submission_set(), title="Plan", comments="Suivi")


def test_a_lot_that_lacks_something() -> None:
    document = small_document()
    assert document.header.encounter is not None and document.header.encounter.facility is not None
    document.header.encounter.facility.code = Code("SA01", "1.2.250.1.71.4.2.4", "Etablissement public de santé")
    document.header.patient.ids = []
    with pytest.raises(MappingError) as caught:
        submission_set(document, unique_id=document.header.id.root or "", source_id="urn:oid:1.2.3", time=NOW)
    paths = {issue.path for issue in caught.value.issues}
    assert paths == {"/ClinicalDocument/recordTarget/patientRole/id", "source_id", "unique_id", "content_type"}


# --- agreement ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "attribute", "severity"),
    [
        ({"size": 1}, "size", "error"),
        ({"hash": "0" * 40}, "hash", "error"),
        ({"unique_id": "2.25.7"}, "uniqueId", "error"),
        ({"type_code": CodedValue("34133-9", "Synthèse", templates.LOINC)}, "typeCode", "error"),
        ({"type_code": CodedValue("18776-5", "Plan", "1.2.250.1.213.1.1.4.12")}, "typeCode", "error"),
        ({"title": "Autre"}, "title", "error"),
        ({"creation_time": "20260112090000"}, "creationTime", "error"),
        ({"language": "en-US"}, "languageCode", "error"),
        (
            {"confidentiality": (CodedValue("R", "Restreint", templates.CONFIDENTIALITY),)},
            "confidentialityCode",
            "error",
        ),
        ({"authors": (AUTHOR, AUTHOR)}, "author", "error"),
        ({"authors": (replace(AUTHOR, person="810101234570^X^^^^^^^&1.2.3&ISO^D^^^EI"),)}, "author", "error"),
        ({"legal_authenticator": "8^X^^^^^^^&1.2.3&ISO^D^^^EI"}, "legalAuthenticator", "error"),
        ({"patient_id": PATIENT_ID.replace("4.10&", "4.8&")}, "patientId", "error"),
        ({"patient_id": "277076322082910^^^&1.2.250.1.213.1.4.10&ISO^NH"}, "patientId", "error"),
        ({"patient_id": "42^^^&1.2.250.1.999.2&ISO^PI"}, "patientId", "error"),
        ({"source_patient_id": "43^^^&1.2.250.1.999.2&ISO^PI"}, "sourcePatientId", "error"),
        ({"source_patient_info": ("PID-7|19790329",)}, "sourcePatientInfo", "error"),
        ({"source_patient_info": ("PID-8|M",)}, "sourcePatientInfo", "error"),
        ({"class_code": CodedValue("11", "Synthèse", "1.2.250.1.213.1.1.4.1")}, "classCode", "warning"),
        ({"format_code": CodedValue("urn:x", "x", "1.2.3")}, "formatCode", "warning"),
        ({"facility_type": CodedValue("SA08", "x", "1.2.250.1.71.4.2.4")}, "healthcareFacilityTypeCode", "warning"),
        ({"practice_setting": CodedValue("HAD", "x", "1.2.250.1.213.1.1.4.9")}, "practiceSettingCode", "warning"),
        ({"service_start": "2026"}, "serviceStartTime", "warning"),
        ({"service_stop": "2026"}, "serviceStopTime", "warning"),
    ],
)
def test_every_disagreement_is_found(changes: dict[str, object], attribute: str, severity: str) -> None:
    document = small_document()
    document.header.patient.ids.append(II("1.2.250.1.999.2", "42"))
    data = write(document)
    entry = document_entry(document, data)
    assert check_agreement(entry, document, data) == []
    found = check_agreement(replace(entry, **changes), document, data)  # type: ignore[arg-type]
    assert [(issue.rule, issue.severity) for issue in found] == [(f"xdm.mismatch.{attribute}", severity)]
    assert "27903512151" not in str(found) and "Autre" not in str(found)


def test_what_the_sender_adds_is_no_disagreement() -> None:
    document = small_document()
    data = write(document)
    entry = document_entry(document, data)
    masked = CodedValue("MASQUE_PS", "Masqué aux professionnels de santé", "1.2.250.1.213.1.1.4.13")
    added = replace(
        entry,
        hash="",
        size=0,
        comments="Suivi",
        title=f"  {entry.title} ",
        confidentiality=(*entry.confidentiality, masked),
    )
    assert check_agreement(added, document, data) == []


def test_codes_outside_their_value_sets() -> None:
    document = small_document()
    entry = document_entry(document, write(document))
    lot = submission_set(document, unique_id=LOT, source_id="1.2.250.1.999.1", time=NOW)
    assert check_codes(Submission(lot, (entry,)), dmp=True) == []
    wrong = replace(
        entry,
        type_code=CodedValue("56446-8", "Notification de rendez-vous", templates.LOINC),
        facility_type=CodedValue("SA99", "x", "1.2.250.1.71.4.2.4"),
        practice_setting=CodedValue("AMBULATOIRE", "x", "1.2.3"),
        format_code=CodedValue("urn:asip:ci-sis:export-dui:2023", "x", "1.2.250.1.213.1.1.4.2.282"),
        confidentiality=(CodedValue("U", "x", templates.CONFIDENTIALITY),),
    )
    submission = Submission(replace(lot, content_type=CodedValue("SA01", "x", "1.2.250.1.71.4.2.4")), (wrong,))
    found = {issue.path.rpartition(".")[2]: issue.severity for issue in check_codes(submission, dmp=True)}
    assert found == dict.fromkeys(
        (
            "contentTypeCode",
            "typeCode",
            "classCode",
            "formatCode",
            "healthcareFacilityTypeCode",
            "practiceSettingCode",
            "confidentialityCode",
        ),
        "error",
    )
    in_a_mail = {issue.path.rpartition(".")[2]: issue.severity for issue in check_codes(submission, dmp=False)}
    assert in_a_mail["classCode"] == "error"
    assert set(in_a_mail) == set(found) - {"typeCode", "formatCode"}
    assert set(in_a_mail.values()) == {"error", "warning"}
    of_prevention = replace(entry, facility_type=CodedValue("SA66", "x", "1.2.250.1.71.4.2.4"))
    assert check_codes(Submission(lot, (of_prevention,)), dmp=False) == []
    [issue] = check_codes(Submission(lot, (of_prevention,)), dmp=True)
    assert issue.path == "DocumentEntry[1].healthcareFacilityTypeCode"


def test_an_archive_whose_metadata_speak_of_another_document() -> None:
    document = small_document()
    data = write(document)
    lot = submission_set(document, unique_id=LOT, source_id="1.2.250.1.999.1", time=NOW)
    entry = document_entry(document, data)
    sender = xdm.Sender("Hélène LEMOINE", "Cabinet des Tilleuls")
    sane = xdm.unpack(xdm.pack([(data, entry)], lot, sender=sender))
    assert check_archive(sane) == []
    other = replace(entry, title="Autre")
    found = check_archive(xdm.unpack(xdm.pack([(data, other)], lot, sender=sender)))
    assert [(issue.rule, issue.path) for issue in found] == [
        ("xdm.mismatch.title", "IHE_XDM/SUBSET01/DOC00001.XML#DocumentEntry.title")
    ]


def test_a_cda_that_its_metadata_call_something_else_is_compared_all_the_same() -> None:
    document = small_document()
    data = write(document)
    lot = submission_set(document, unique_id=LOT, source_id="1.2.250.1.999.1", time=NOW)
    entry = document_entry(document, data)
    sane = xdm.unpack(xdm.pack([(data, entry)], lot, sender=xdm.Sender("Hélène LEMOINE", "Cabinet des Tilleuls")))
    [packed] = sane.documents
    as_pdf = replace(packed, entry=replace(entry, title="Autre", mime_type="application/pdf"))
    found = {issue.rule: issue.severity for issue in check_archive(replace(sane, documents=(as_pdf,)))}
    assert found["xdm.mismatch.mimeType"] == "error"
    assert "xdm.mismatch.title" in found
    real_pdf = replace(as_pdf, data=b"%PDF-1.4")
    assert check_archive(replace(sane, documents=(real_pdf,))) == []


# --- official examples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "class_code", "format_code"),
    [
        ("CANCER-PPS_2025.01", "18776-5", "44", "urn:asip:ci-sis:pps-cancer:2017"),
        ("DOC_NON_STRUCTURE_CDA-R2-N1", "11502-2", "10", "urn:ihe:iti:xds-sd:pdf:2008"),
        ("LDL-SES_2022.01", "11490-0", "10", "urn:asip:ci-sis:ldl-ses:2017"),
        ("PPS-PAERPA_2022.01", "18776-5", "44", "urn:asip:ci-sis:pps-paerpa:2017"),
    ],
)
def test_official_documents_make_an_archive(
    cisis: Path, name: str, kind: str, class_code: str, format_code: str
) -> None:
    data = (cisis / "cda" / "examples" / f"{name}.xml").read_bytes()
    document = read(data).document
    entry = document_entry(document, data)
    assert (entry.type_code.code, entry.class_code.code, entry.format_code.code) == (kind, class_code, format_code)
    assert entry.source_patient_id == "1234567890121^^^&1.2.3.4.567.8.9.10&ISO^PI"
    content = CodedValue("07", "Consultations soins externes", "1.2.250.1.213.2.2")
    lot = submission_set(document, unique_id=LOT, source_id="1.2.250.1.999.1", time=NOW, content_type=content)
    assert lot.patient_id == entry.patient_id == PATIENT_ID
    archive = xdm.unpack(xdm.pack([(data, entry)], lot, sender=xdm.Sender("Relais", "Cabinet")))
    assert archive.documents[0].data == data
    assert [issue.rule for issue in archive.issues] == ["xdm.style-sheet"]  # which the examples name and do not bring
    assert check_archive(archive) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # the class has the scheme of the types; the times of the act are those of the document, the CDA has its day
        ("VSM", {"xdm.mismatch.classCode", "xdm.mismatch.serviceStartTime", "xdm.mismatch.serviceStopTime"}),
        # a format code that the association table does not have (any more)
        ("CRRTN", {"xdm.mismatch.formatCode", "xdm.metadata-attribute"}),
    ],
)
def test_published_archives_disagree_with_their_documents_in_lesser_things(
    cisis: Path, name: str, expected: set[str]
) -> None:
    output, root = io.BytesIO(), cisis / "xdm" / name
    with zipfile.ZipFile(output, "w") as opened:
        for path in (path for path in root.rglob("*") if path.is_file()):
            opened.write(path, path.relative_to(root).as_posix())
    issues = check_archive(xdm.examine(output.getvalue()))
    assert {issue.rule for issue in issues} == expected
    assert {issue.severity for issue in issues} == {"warning"}
