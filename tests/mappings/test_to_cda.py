"""FHIR → CDA header, row by row of docs/mapping-header.md: what comes out of a plan, seen in the document model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from relais.cda import templates
from relais.cda.errors import MappingError
from relais.cda.model import II, Code, Header, Interval, NamePart, PersonName, Telecom
from relais.cda.narrative import plain_text
from relais.cda.writer import write
from relais.mappings import extensions, terminology
from relais.mappings.context import DocumentVersion, Emission, Mapped
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda import convert, datatypes
from relais.mappings.to_cda.patient import LUNAR_DATE
from relais.mappings.to_cda.pps import pps_document
from support.plans import (
    BARE_EMISSION,
    DEPLOYMENT,
    EMISSION,
    INS_TEST,
    IPP,
    NOW,
    PLAN_NUMBERS,
    PLANS,
    R216,
    R260,
    Plan,
    bundles,
    concept,
    full_plan,
    minimal_plan,
)

Resource = dict[str, Any]


def header_of(plan: Plan | Resource, emission: Emission = EMISSION) -> Header:
    """The header a plan gives."""
    return convert(plan.bundle() if isinstance(plan, Plan) else plan, emission).document.header


def messages(mapped: Mapped) -> list[str]:
    """The issues of a conversion, as lines."""
    return [str(issue) for issue in mapped.issues]


# --- the document -------------------------------------------------------------------------------------------------


def test_identity_of_the_document() -> None:
    header = header_of(PLANS["minimal"])
    assert header.set_id == II(PLAN_NUMBERS.removeprefix("urn:oid:"), "PPS-minimal")
    assert header.id.root is not None
    assert header.id.root.startswith("2.25.")
    assert header.id.extension is None
    assert header.version_number == 1
    assert header.related_documents == []
    assert header.effective_time == "20260302103000+0100"
    assert [(ii.root, ii.extension) for ii in header.template_ids] == [
        (templates.HL7_FRANCE, None),
        (templates.CISIS_HEADER, None),
        (templates.PPS_PAERPA, "2022.01"),
    ]
    assert (header.code.code, header.code.system) == ("18776-5", templates.LOINC)
    assert header.language == "fr-FR"
    assert header.title == "Plan personnalisé de santé"


def test_the_next_version_replaces_the_one_the_receivers_know() -> None:
    first = header_of(PLANS["minimal"])
    second = header_of(PLANS["minimal"], replace(EMISSION, version=DocumentVersion(2, first.id)))
    assert second.set_id == first.set_id
    assert second.id != first.id
    assert second.version_number == 2
    assert [(one.type_code, one.parent_ids, one.parent_version) for one in second.related_documents] == [
        ("RPLC", [first.id], 1)
    ]


def test_ids_under_the_arc_of_the_emitter() -> None:
    emission = replace(EMISSION, deployment=replace(DEPLOYMENT, oid_arc="1.2.250.1.999.1"))
    assert (header_of(PLANS["minimal"], emission).id.root or "").startswith("1.2.250.1.999.1.1.")


def test_a_stored_plan_converts_like_a_posted_one() -> None:
    bundle = PLANS["full"]
    resources = [entry["resource"] for entry in bundle["entry"]]
    plan = next(one for one in resources if one["resourceType"] == "CarePlan")
    mapped = pps_document(plan, ResourceSet.of_bundle(bundle), EMISSION)
    assert write(mapped.document) == write(convert(bundle, EMISSION).document)


@pytest.mark.parametrize("name", PLANS)
def test_the_same_plan_gives_the_same_bytes(name: str) -> None:
    assert write(convert(PLANS[name], EMISSION).document) == write(convert(PLANS[name], EMISSION).document)


@pytest.mark.parametrize(
    ("labels", "confidentiality"),
    [([], "N"), (["R"], "R"), (["V", "N"], "V"), (["L"], "N"), (["U"], "N")],
)
def test_confidentiality_is_never_lowered(labels: list[str], confidentiality: str) -> None:
    plan = minimal_plan()
    system = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
    plan["plan"]["meta"] = {"security": [{"system": system, "code": label} for label in labels]}
    mapped = convert(plan.bundle(), EMISSION)
    found = mapped.document.header.confidentiality
    assert found is not None
    assert (found.code, found.system) == (confidentiality, templates.CONFIDENTIALITY)
    assert found.display
    assert any("N, R and V" in line for line in messages(mapped)) is bool({"L", "U"}.intersection(labels))


# --- the patient --------------------------------------------------------------------------------------------------


def test_a_number_of_no_domain_or_of_former_times_is_no_number_of_the_patient() -> None:
    plan = minimal_plan()
    ended = {"system": "urn:oid:1.2.250.1.999.42.9", "value": "8", "period": {"end": "2020-01-01"}}
    plan["patient"]["identifier"] += [{"value": "1234"}, ended]
    mapped = convert(plan.bundle(), EMISSION)
    assert {ii.extension for ii in mapped.document.header.patient.ids}.isdisjoint({"1234", "8"})
    said = [issue.path for issue in mapped.issues if "left out" in issue.message]
    assert said == ["Patient.identifier[2].system", "Patient.identifier[3]"]
    plan["patient"]["identifier"] = [{"value": "1234"}]
    with pytest.raises(MappingError) as raised:
        convert(plan.bundle(), EMISSION)
    assert "Patient.identifier" in [issue.path for issue in raised.value.issues if issue.severity == "error"]


def test_of_two_names_of_birth_the_current_one_is_written_or_none() -> None:
    plan = minimal_plan()
    [official] = [name for name in plan["patient"]["name"] if name["use"] == "official"]
    former = official | {"family": "AUTREFOIS", "period": {"end": "2019-05-01"}}
    plan["patient"]["name"].insert(0, former)
    assert header_of(plan.bundle()).patient.name.families[0].text == official["family"]
    again = official | {"family": official["family"].title()}
    plan["patient"]["name"][0] = again  # the same name in other letters
    assert header_of(plan.bundle()).patient.name.families[0].text == again["family"]
    plan["patient"]["name"][0] = former
    del former["period"]
    with pytest.raises(MappingError) as raised:
        convert(plan.bundle(), EMISSION)
    assert [(issue.path, issue.code) for issue in raised.value.issues if issue.severity == "error"] == [
        ("Patient.name.where(use='official')", "duplicate")
    ]


@pytest.mark.parametrize(
    ("stated", "written"),
    [("1979-00-00", "19790000"), ("1979-02-31", "19790231"), ("31/02/1979", "19790328"), ("31-02-1979", None)],
)
def test_a_date_that_no_calendar_knows_is_that_of_the_birth(stated: str, written: str | None) -> None:
    plan = minimal_plan()
    plan["patient"]["birthDate"] = "1979-03-28"
    plan["patient"]["extension"].append({"url": LUNAR_DATE, "valueString": stated})
    if written is None:
        with pytest.raises(MappingError, match="another year"):
            convert(plan.bundle(), EMISSION)
        return
    mapped = convert(plan.bundle(), EMISSION)
    assert mapped.document.header.patient.birth_time == written
    assert any("not written as YYYY-MM-DD" in line for line in messages(mapped)) is (written == "19790328")


def test_qualified_patient() -> None:
    patient = header_of(PLANS["full"]).patient
    assert patient.ids == [
        II(INS_TEST.removeprefix("urn:oid:"), "279035121518989"),
        II(IPP.removeprefix("urn:oid:"), "P-2026-0001"),
    ]
    assert patient.name.families == [NamePart("PAT-TROIS", "BR"), NamePart("PAT-TROIS", "CL")]
    assert patient.name.givens == [
        NamePart("DOMINIQUE MARIE-LOUISE"),
        NamePart("DOMINIQUE", "BR"),
        NamePart("Dominique", "CL"),
    ]
    assert patient.gender == Code("F", templates.ADMINISTRATIVE_GENDER, "Féminin")
    assert patient.birth_time == "19790328"
    assert patient.birthplace is not None
    assert patient.birthplace.address is not None
    assert (patient.birthplace.address.county, patient.birthplace.address.city) == ("63220", "MAZOIRES")
    assert patient.telecoms == [Telecom("tel:0144534551", "H"), Telecom("tel:+33647151010", "MC")]
    address = patient.addresses[0]
    assert (address.house_number, address.street_name) == ("28", "avenue de Breteuil")
    assert (address.postal_code, address.city, address.country, address.use) == ("75007", "PARIS", "FRANCE", "H")


@pytest.mark.parametrize(
    ("said", "written"), [("fr ", "FRANCE"), ("FRA", "FRANCE"), ("99100", "FRANCE"), ("be", "BE"), ("Suisse", "SUISSE")]
)
def test_the_country_of_an_address(said: str, written: str) -> None:
    found = datatypes.address({"city": "Paris", "country": said})
    assert found is not None
    assert found.country == written


def test_an_ins_that_is_not_qualified_stays_inside() -> None:
    mapped = convert(PLANS["ins-not-qualified"], EMISSION)
    assert [ii.root for ii in mapped.document.header.patient.ids] == [IPP.removeprefix("urn:oid:")]
    assert any(line.startswith("warning") and "not qualified" in line for line in messages(mapped))
    assert b"279035121518989" not in write(mapped.document)


def test_a_citizen_mailbox_leaves_with_its_ins_only() -> None:
    mailbox = {"system": "email", "value": "279035121518989@patient.mssante.fr"}
    plan = minimal_plan()
    plan["patient"]["telecom"] = [mailbox, {"system": "phone", "value": "0144534551"}]
    assert len(header_of(plan).patient.telecoms) == 2
    plan["patient"]["extension"][0]["extension"][0]["valueCoding"]["code"] = "PROV"
    assert header_of(plan).patient.telecoms == [Telecom("tel:0144534551")]
    assert b"279035121518989" not in write(convert(plan.bundle(), EMISSION).document)


def test_a_local_identity_needs_no_birth_traits() -> None:
    patient = header_of(PLANS["local-identity"]).patient
    assert patient.name == PersonName([NamePart("SORBIER", "CL")], [NamePart("Léa")])
    assert patient.birthplace is None


@pytest.mark.parametrize(
    ("name", "county"),
    [("born-abroad", "99109"), ("born-in-south-corsica", "2A004"), ("born-in-upper-corsica", "2B033")],
)
def test_places_of_birth(name: str, county: str) -> None:
    patient = header_of(PLANS[name]).patient
    assert patient.birthplace is not None
    assert patient.birthplace.address is not None
    assert patient.birthplace.address.county == county
    assert len(patient.ids[0].extension or "") == 15


def test_an_identity_document_may_know_a_date_no_calendar_knows() -> None:
    plan = minimal_plan()
    lunar = f"{extensions.FR_CORE}fr-core-lunar-date"
    plan["patient"]["extension"].append({"url": lunar, "valueString": "1979-03-00"})
    assert header_of(plan).patient.birth_time == "19790300"


def test_deceased_twin() -> None:
    patient = header_of(PLANS["deceased"]).patient
    assert (patient.deceased, patient.deceased_time) == (True, "20260225")
    assert (patient.multiple_birth, patient.multiple_birth_order) == (True, 2)


def test_disagreement_of_the_ins_is_a_warning() -> None:
    plan = minimal_plan()
    plan["patient"]["birthDate"] = "1979-04-28"
    assert any("Patient.birthDate" in line and "warning" in line for line in messages(convert(plan.bundle(), EMISSION)))


def test_guardians() -> None:
    person = header_of(PLANS["guardian"]).patient.guardians
    assert [one.person for one in person] == [PersonName([NamePart("NESSI")], [NamePart("Jeanne")], prefix="MME")]
    curator = header_of(PLANS["curator-organisation"]).patient.guardians
    assert [(one.person, one.organization and one.organization.name) for one in curator] == [
        (None, "Association tutélaire de l'Essonne")
    ]
    relative = header_of(PLANS["guardian-relative"])
    assert len(relative.patient.guardians) == 1
    assert [one.related.class_code for one in relative.informants if one.related] == ["ECON"]


# --- relatives ----------------------------------------------------------------------------------------------------


def test_relatives_by_role_and_kinship() -> None:
    informants = [one.related for one in header_of(PLANS["relatives"]).informants if one.related]
    assert [
        (one.class_code, one.code.code if one.code else None, one.name.families[0].text if one.name else None)
        for one in informants
    ] == [
        ("CAREGIVER", "DAUC", "SAULE"),
        ("CON", "COUSN", "SAULE"),  # v2-0131 N, "next of kin", is no personne de confiance
        ("ECON", "FAMMEMB", "SAULE"),
        ("NOK", "SIGOTHR", "SAULE"),
        ("ECON", "NBOR", "Mme Voisine"),
    ]


@pytest.mark.parametrize(
    ("system", "code", "role"),
    [
        (R260, "QUAL", "NOK"),  # TRE_R260: personne de confiance
        (R260, "NOK", "NOK"),
        ("https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-contact-relationship", "K", "NOK"),
        ("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "QUAL", "CON"),  # HL7: a qualified entity
        ("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PAT", "CON"),  # HL7: a patient
        ("http://terminology.hl7.org/CodeSystem/v2-0131", "N", "CON"),  # HL7: next of kin
        ("https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-contact-relationship", "P", "CON"),
    ],
)
def test_who_is_the_personne_de_confiance(system: str, code: str, role: str) -> None:
    plan = minimal_plan()
    plan.relative("relative", "SAULE", "Anne", concept(system, code))
    (informant,) = header_of(plan.bundle()).informants
    assert informant.related is not None
    assert informant.related.class_code == role


def test_a_role_that_no_relative_has_is_in_words() -> None:
    plan = minimal_plan()
    plan.relative("relative", "SAULE", "Anne", concept(R260 or "", "POLHOLD", "Assuré ouvrant droit"))
    document = convert(plan.bundle(), EMISSION).document
    assert "Anne SAULE : Assuré ouvrant droit" in " ".join(plain_text(one.text) for one in document.sections)


def test_a_relative_with_two_roles_is_written_twice() -> None:
    informants = [one.related for one in header_of(PLANS["full"]).informants if one.related]
    assert [(one.class_code, one.telecoms) for one in informants] == [
        ("ECON", [Telecom("tel:0647150100", "MC")]),
        ("NOK", [Telecom("tel:0647150100", "MC")]),
        ("CON", []),
    ]


def test_a_relative_without_name_is_said_to_be_left_out() -> None:
    plan = minimal_plan()
    plan.relative("nobody", "", "", concept(R260 or "", "ECON"), concept(R216 or "", "SIS"))
    del plan["nobody"]["name"]
    mapped = convert(plan.bundle(), EMISSION)
    assert mapped.document.header.informants == []
    assert any("RelatedPerson[0].name" in line for line in messages(mapped))


# --- professionals and structures -----------------------------------------------------------------------------------


def test_author_signatory_performer_and_responsible_are_the_referent() -> None:
    header = header_of(PLANS["full"])
    (author,) = header.authors
    number = II(templates.PS_IDNAT, "810101234567")
    assert author.time == "20260112090000+0100"
    assert author.function_code is not None
    assert author.function_code.code == "PCP"
    assert author.assigned.ids == [number]
    assert author.assigned.code is not None
    assert (author.assigned.code.code, author.assigned.code.display) == (
        "G15_10/SM26",
        "Médecin - Qualifié en Médecine Générale (SM)",
    )
    assert author.assigned.person == PersonName([NamePart("ORME")], [NamePart("Claire")])
    assert author.assigned.organization is not None
    assert author.assigned.organization.ids == [II(templates.STRUCT_IDNAT, "1910019447")]
    assert header.legal_authenticator is not None
    assert header.legal_authenticator.assigned.ids == [number]
    assert header.legal_authenticator.time == header.effective_time
    event = header.service_events[0]
    assert event.performers[0].assigned.ids == [number]
    assert event.performers[0].assigned.organization is not None
    assert event.performers[0].assigned.organization.industry_class is not None
    assert event.performers[0].assigned.organization.industry_class.code == "AMBULATOIRE"
    assert event.time == Interval(low="20260112")
    assert header.encounter is not None
    assert header.encounter.responsible is not None
    assert header.encounter.responsible.ids == [number]


def test_custodian_is_the_extension_then_the_team_then_the_emitter() -> None:
    assert header_of(PLANS["minimal"]).custodian.name == "Cabinet du docteur Orme"
    plan = full_plan()
    plan["plan"]["extension"] = plan["plan"]["extension"][1:]
    assert header_of(plan).custodian.name == "DAC du Val d'Orge"
    plan["team"]["managingOrganization"] = []
    custodian = header_of(plan).custodian
    assert (custodian.name, custodian.ids) == (DEPLOYMENT.organization_name, [II(templates.STRUCT_IDNAT, "1910019447")])


def test_names_and_telecoms_of_professionals_are_normalised() -> None:
    mapped = convert(PLANS["awkward-names"], EMISSION)
    assigned = mapped.document.header.authors[0].assigned
    assert assigned.person == PersonName([NamePart("ORME")], [NamePart("Claire")], prefix="M", suffix="DR")
    assert assigned.telecoms == [
        Telecom("tel:0160000000", "WP"),
        Telecom("mailto:claire.orme@exemple.mssante.fr"),
    ]
    text = write(mapped.document).decode()
    assert 'value="https:' not in text
    assert "https://cabinet-orme.exemple.fr/rendez-vous" in text
    assert "https://exemple.fr/luc" in text
    assert "PhD" in text


def test_circle_of_care() -> None:
    participants = header_of(PLANS["full"]).participants
    assert [
        (
            one.type_code,
            one.function_code.code if one.function_code else None,
            one.name.families[0].text if one.name else None,
            one.organization.name if one.organization else None,
        )
        for one in participants
    ] == [
        ("INF", "PCP", "ORME", "Cabinet du docteur Orme"),
        ("PRF", "353", "LEFRANC", "Cabinet du docteur Orme"),
        ("PRF", "330", "TILLEUL", "DAC du Val d'Orge"),
        ("INF", "CORRE", "MARTIN", "Pharmacie des Tilleuls"),
        ("PRF", "ST-COORD", None, "DAC du Val d'Orge"),
    ]
    assert participants[1].time == Interval(low="20260112")
    assert participants[0].time == Interval(null_flavor="NA")
    assert participants[3].code is not None
    assert participants[3].code.code == "G15_21/A"
    assert all(one.class_code == "PROV" for one in participants)


def test_general_practitioner_and_approver() -> None:
    header = header_of(PLANS["general-practitioner"])
    assert [(one.type_code, one.function_code and one.function_code.code) for one in header.participants] == [
        ("INF", "PCP")
    ]
    assert [(one.time, one.assigned.ids) for one in header.authenticators] == [
        ("20260203110000+0100", [II(templates.PS_IDNAT, "810100000043")])
    ]


def test_the_author_of_the_plan_who_approves_it_signs_once() -> None:
    assert header_of(PLANS["minimal"]).authenticators == []


def test_device_and_human_authors() -> None:
    authors = header_of(PLANS["device-author"]).authors
    assert [one.assigned.person is not None for one in authors] == [True, False]
    device = authors[1].assigned
    assert device.device is not None
    assert (device.device.model_name, device.device.software_name) == (
        "Éditeur inventé",
        "Logiciel de coordination",
    )
    assert device.ids == [II(templates.PS_IDNAT, "3910019447/LC-1")]
    assert device.code is not None
    assert device.code.code == "DISPOSITIF"


def test_structures_in_the_team() -> None:
    participants = header_of(PLANS["structures-in-team"]).participants
    assert [
        (one.function_code.code if one.function_code else None, one.organization.ids if one.organization else None)
        for one in participants
    ] == [
        ("HEBERG", [II(templates.STRUCT_IDNAT, "1910800003")]),
        ("ORG-SOC", [II(templates.STRUCT_IDNAT, "2219102270")]),
        ("ST-INF", []),
    ]
    assert all(one.name is None and one.ids == [] for one in participants)


def test_an_author_without_profession_is_a_warning() -> None:
    mapped = convert(PLANS["author-without-profession"], EMISSION)
    assert mapped.document.header.authors[0].assigned.code is None
    assert any("JDV_J01" in line and line.startswith("warning") for line in messages(mapped))


@pytest.mark.parametrize(
    ("code", "specialty", "written"),
    [
        (concept(terminology.TRE_G15, "10"), concept(terminology.TRE_R38, "SM26"), "G15_10/SM26"),
        (concept(terminology.TRE_G15, "10"), concept(terminology.TRE_R38, "SM999"), "G15_10"),
        (concept(terminology.TRE_G15, "60"), None, "G15_60"),
        (concept(terminology.uri_of("1.2.250.1.213.1.1.4.5") or "", "G15_10/SM36"), None, "G15_10/SM36"),
        (concept(terminology.uri_of("1.2.250.1.213.1.6.1.107") or "", "318"), None, "318"),
        (concept(terminology.uri_of("1.2.250.1.213.1.6.1.4") or "", "41"), None, "41"),
        (concept("https://exemple.fr/metiers", "voyant"), None, None),
    ],
)
def test_professions(code: Resource, specialty: Resource | None, written: str | None) -> None:
    plan = minimal_plan()
    plan["doctor"] |= {"code": [code], "specialty": [specialty] if specialty else []}
    found = header_of(plan).authors[0].assigned.code
    assert (found.code if found else None) == written


def test_a_role_characterises_who_is_no_health_professional() -> None:
    plan = full_plan()
    plan["nurse"]["code"] = [concept(terminology.uri_of("1.2.250.1.213.1.6.1.107") or "", "318")]
    assert [one.class_code for one in header_of(plan).participants][1] == "AGNT"


# --- context ------------------------------------------------------------------------------------------------------


def test_without_encounter_it_is_virtual() -> None:
    encounter = header_of(PLANS["minimal"], BARE_EMISSION).encounter
    assert encounter is not None
    assert encounter.code is not None
    assert encounter.code.code == "VR"
    assert encounter.time == Interval(null_flavor="NA")
    assert encounter.facility is not None
    assert encounter.facility.code is not None
    assert encounter.facility.code.code == "SA07"


def test_the_configured_facility_stands_in() -> None:
    plan = minimal_plan()
    del plan["cabinet"]["type"]
    encounter = header_of(plan).encounter
    assert encounter is not None
    assert encounter.facility is not None
    assert encounter.facility.code == terminology.coded("J02", "SA63")


def test_consent_to_share() -> None:
    (consent,) = header_of(PLANS["full"]).consents
    assert consent.code is not None
    assert (consent.code.code, consent.code.system) == ("IDSCL", templates.ACT_CODE)
    assert header_of(PLANS["minimal"]).consents == []


def test_an_opposition_wins_over_a_permit() -> None:
    mapped = convert(PLANS["consent-refused"], EMISSION)
    assert mapped.document.header.consents == []
    assert any(line.startswith("warning") and "opposes" in line for line in messages(mapped))


@pytest.mark.parametrize("change", [{"status": "inactive"}, {"status": "draft"}, {"provision": {"type": "deny"}}])
def test_only_an_active_permit_authorises(change: Resource) -> None:
    plan = minimal_plan()
    plan.sharing_consent(**change)
    assert header_of(plan).consents == []


def test_information_of_the_team_is_no_consent_to_share() -> None:
    plan = minimal_plan()
    informed = concept("https://relais.example/fhir/CodeSystem/consent-category", "info-non-opposition")
    plan.consent("informed", "patient-privacy", informed, provision={"type": "permit"})
    assert header_of(plan).consents == []


# --- a Composition wins ---------------------------------------------------------------------------------------------


def document_bundle(plan: Plan, **composition: Any) -> Resource:
    """A document Bundle around a plan."""
    bundle = plan.bundle()
    elements: Resource = {
        "resourceType": "Composition",
        "status": "final",
        "type": concept("http://loinc.org", "18776-5"),
        "subject": plan.ref("patient"),
        "date": "2024-08-24T09:49:14+02:00",
        "author": [plan.ref("doctor")],
        "title": "Titre d'origine",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.4"},
        "section": [{"entry": [plan.ref("plan")]}],
    }
    bundle |= {"type": "document", "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.4.5"}}
    bundle["entry"] = [
        {"fullUrl": plan.ref("composition")["reference"], "resource": elements | composition},
        *bundle["entry"],
    ]
    return bundle


def test_an_imported_document_keeps_its_identity() -> None:
    plan = full_plan()
    version = {"url": extensions.COMPOSITION_VERSION, "valueString": "3"}
    replaced = {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.4.2"}
    header = header_of(
        document_bundle(
            plan,
            extension=[version],
            relatesTo=[{"code": "replaces", "targetIdentifier": replaced}],
            confidentiality="R",
            language="fr",
            attester=[
                {"mode": "legal", "time": "2024-08-25T10:00:00+02:00", "party": plan.ref("coordinator")},
                {"mode": "professional", "time": "2024-08-25T11:00:00+02:00", "party": plan.ref("nurse")},
            ],
            custodian=plan.ref("cabinet"),
        )
    )
    assert (header.id, header.set_id, header.version_number) == (II("1.2.3.4.5"), II("1.2.3.4"), 3)
    assert header.related_documents[0].parent_ids == [II("1.2.3.4.2")]
    assert (header.title, header.effective_time) == ("Titre d'origine", "20240824094914+0200")
    assert header.confidentiality is not None
    assert header.confidentiality.code == "R"
    assert header.language == "fr-FR"
    assert header.authors[0].time == "20240824094914+0200"
    assert header.legal_authenticator is not None
    assert header.legal_authenticator.time == "20240825100000+0200"
    assert header.legal_authenticator.assigned.ids == [II(templates.PS_IDNAT, "810100000027")]
    assert [one.time for one in header.authenticators] == ["20240825110000+0200"]
    assert header.custodian.name == "Cabinet du docteur Orme"


def participation(url: str, party: Resource, **parts: Resource) -> Resource:
    """A participation extension of a Composition."""
    found = [{"url": name, **value} for name, value in parts.items()]
    return {"url": url, "extension": [*found, {"url": "party", "valueReference": party}]}


def test_participations_of_a_composition_stand_for_all() -> None:
    plan = full_plan()
    verifier = {"valueCodeableConcept": concept(terminology.uri_of("2.16.840.1.113883.5.90") or "", "VRF")}
    function = {"valueCodeableConcept": concept(terminology.uri_of("1.2.250.1.213.1.6.1.107") or "", "353")}
    copy_to = {"valueCodeableConcept": concept(terminology.uri_of("2.16.840.1.113883.5.90") or "", "TRC")}
    header = header_of(
        document_bundle(
            plan,
            extension=[
                participation(extensions.PARTICIPANT, plan.ref("nurse"), type=verifier, function=function),
                participation(extensions.INFORMANT, plan.ref("friend")),
                participation(extensions.INFORMANT, plan.ref("nurse")),
                participation(extensions.INFORMATION_RECIPIENT, plan.ref("pharmacist")),
                participation(extensions.INFORMATION_RECIPIENT, plan.ref("sister"), type=copy_to),
                participation(extensions.DATA_ENTERER, plan.ref("nurse"), time={"valueDateTime": "2024-08-24"}),
                {"url": extensions.CONSENT, "valueReference": plan.ref("sharing")},
                {"url": extensions.EVENT_BASED_ON, "valueReference": {"identifier": {"system": IPP, "value": "R1"}}},
            ],
        )
    )
    assert [(one.type_code, one.function_code and one.function_code.code) for one in header.participants] == [
        ("VRF", "353")
    ]
    assert [
        one.related.class_code if one.related else one.assigned and one.assigned.ids for one in header.informants
    ] == [
        "CON",
        [II(templates.PS_IDNAT, "810100000019")],
    ]
    assert [(len(one.ids), one.name is not None, one.type_code) for one in header.recipients] == [
        (1, True, None),
        (0, True, "TRC"),
    ]
    assert header.data_enterer is not None
    assert header.data_enterer.time == "20240824"
    assert len(header.consents) == 1
    assert header.orders[0].ids == [II(IPP.removeprefix("urn:oid:"), "R1")]


@pytest.mark.parametrize("kind", ["ACUTE", "SS"])  # a short stay is an admission, no session
def test_encounter_of_a_composition(kind: str) -> None:
    plan = full_plan()
    location = plan.add(
        "ward", "Location", name="Gériatrie", type=[concept(terminology.uri_of("1.2.250.1.71.4.2.4") or "", "SA01")]
    )
    participation_type = terminology.uri_of("2.16.840.1.113883.5.90") or ""
    stay = plan.add(
        "stay",
        "Encounter",
        status="finished",
        **{"class": {"code": kind}},
        subject=plan.ref("patient"),
        identifier=[{"system": IPP, "value": "S1"}],
        period={"start": "2024-08-01", "end": "2024-08-20"},
        location=[{"location": location}],
        participant=[
            {"type": [concept(participation_type, "RESP")], "individual": plan.ref("nurse")},
            {
                "type": [concept(participation_type, "CON")],
                "individual": plan.ref("coordinator"),
                "period": {"start": "2024-08-03"},
            },
        ],
    )
    encounter = header_of(document_bundle(plan, encounter=stay)).encounter
    assert encounter is not None
    assert encounter.code is not None
    assert encounter.code.code == "IMP"
    assert encounter.time == Interval(low="20240801", high="20240820")
    assert encounter.ids == [II(IPP.removeprefix("urn:oid:"), "S1")]
    assert encounter.facility is not None
    assert encounter.facility.code is not None
    assert (encounter.facility.code.code, encounter.facility.name) == ("SA01", "Gériatrie")
    assert encounter.responsible is not None
    assert encounter.responsible.ids == [II(templates.PS_IDNAT, "810100000019")]
    assert [(one.type_code, one.assigned.ids, one.time) for one in encounter.participants] == [
        ("CON", [II(templates.PS_IDNAT, "810100000027")], Interval(low="20240803"))
    ]


def test_the_act_of_a_composition() -> None:
    plan = full_plan()
    event = {"period": {"start": "2023-01-01", "end": "2023-02-01"}, "detail": [plan.ref("nurse")]}
    header = header_of(document_bundle(plan, event=[event, {"code": [concept("http://loinc.org", "34133-9")]}]))
    main, other = header.service_events
    assert main.time == Interval(low="20230101", high="20230201")
    assert main.performers[0].assigned.ids == [II(templates.PS_IDNAT, "810100000019")]
    assert other.code is not None
    assert other.code.code == "34133-9"


# --- every legal plan -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(bundles())
def test_any_legal_plan_becomes_a_document_with_unique_ids_that_resolve(bundle: Resource) -> None:
    mapped = convert(bundle, replace(EMISSION, now=NOW))
    data = write(mapped.document).decode()
    ids = [part.split('"')[0] for part in data.split(' ID="')[1:]]
    pointers = [part.split('"')[0] for part in data.split('<reference value="#')[1:]]
    assert len(ids) == len(set(ids))
    assert set(pointers) <= set(ids)


def test_findings_never_quote_health_data() -> None:
    plan = full_plan()
    plan["patient"]["identifier"][0]["value"] = "279035121518900"
    with pytest.raises(MappingError) as refused:
        convert(plan.bundle(), EMISSION)
    assert "279035" not in str(refused.value)
