"""Code tables: complete, well formed, equal to the published value sets."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from lxml import etree

from relais.cda.datatypes import is_oid
from relais.mappings import terminology

PUBLISHED = {
    "J01": "JDV_J01_XdsAuthorSpecialty_CISIS",
    "J02": "JDV_J02_XdsHealthcareFacilityTypeCode_CISIS",
    "J04": "JDV_J04_XdsPracticeSettingCode_CISIS",
    "J07": "JDV_J07_XdsTypeCode_CISIS",
    "J11": "JDV_J11_RelationPatient_CISIS",
    "J140": "JDV_J140_EncounterParticipationType_CISIS",
    "J142": "JDV_J142_TypeRencontre_CISIS",
    "J143": "JDV_J143_AdministrativeGender_CISIS",
    "J144": "JDV_J144_ParticipationType_CISIS",
    "J245": "JDV_J245_Civilite_CISIS",
    "J246": "JDV_J246_Titre_CISIS",
    "J47": "JDV_J47_FunctionCode_CISIS",
    "act_priority": "jdv-hl7-v3-ActPriority-cisis",
    "directive": "jdv-type-directive-anticipee-cisis",
    "event_motive": "jdv-motif-non-realisation-evenement-cisis",
    "event_status": "JDV_J281_StatutsRessourcesMS",
    "gir": "jdv-gir-cisis",
    "pps_care_kind": "JDV_TypePriseEnChargePPSPAERPA_CISIS",
    "pps_problem": "JDV_ProblemePPSPAERPA_CISIS",
    "pps_status": "JDV_StatutDocPPSPAERPA_CISIS",
    "problem_kind": "jdv-code-probleme-cisis",
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_valid_code_of_the_published_value_set(cisis: Path, name: str) -> None:
    published = etree.parse(cisis / "cda" / "jeuxDeValeurs" / f"{PUBLISHED[name]}.xml")
    concepts = {
        concept.get("code"): (concept.get("codeSystem"), " ".join((concept.get("displayName") or "").split()))
        for concept in published.iter("{urn:ihe:iti:svs:2008}Concept")
        if not concept.get("dateFin") and is_oid(concept.get("codeSystem") or "")
    }
    assert {code: (one.system, one.display) for code, one in terminology.value_set(name).items()} == concepts


@pytest.mark.parametrize("name", [*sorted(PUBLISHED), "J61", "code_systems", "kinship", "pps"])
def test_every_table_says_where_it_comes_from_and_of_when_it_is(name: str) -> None:
    text = files("relais.mappings").joinpath("data", f"{name}.tsv").read_text(encoding="utf-8")
    head = "".join(line for line in text.splitlines() if line.startswith("#"))
    assert "ANS" in head or "HL7" in head
    assert any(str(year) in head for year in range(2010, 2027))


def test_the_sectors_of_the_dmp_are_those_of_its_list(cisis: Path) -> None:
    folder = cisis / "fhir" / "ans.fr.terminologies#1.12.0-extract" / "package"
    [path] = folder.glob("ValueSet-JDV-J61-*.json")
    included = json.loads(path.read_text(encoding="utf-8"))["compose"]["include"]
    published = {one["code"]: one["display"] for part in included for one in part["concept"]}
    known = {code: one.display for code, one in terminology.value_set("J61").items()}
    assert known == {code: " ".join(text.split()) for code, text in published.items()}
    sectors = {code: one.system for code, one in terminology.value_set("J61").items()}
    assert {terminology.value_set("J02")[code].system == sectors[code] for code in sectors if code != "SA11"} == {True}
    assert terminology.value_set("J02").keys() - sectors.keys() == {"SA66", "SA67"}


def test_kinship_leads_into_the_relation_list() -> None:
    assert all(one.display in terminology.value_set("J11") for one in terminology.value_set("kinship").values())


@pytest.mark.parametrize(
    ("system", "oid"),
    [
        ("http://loinc.org", "2.16.840.1.113883.6.1"),
        ("urn:oid:1.2.3", "1.2.3"),
        ("1.2.3", "1.2.3"),
        ("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "2.16.840.1.113883.5.110"),
        ("https://exemple.fr/inconnu", None),
        (None, None),
    ],
)
def test_oid_of_a_system(system: str | None, oid: str | None) -> None:
    assert terminology.oid_of(system) == oid


def test_uri_of_an_oid_comes_back_to_it() -> None:
    for oid in ("2.16.840.1.113883.6.1", "2.16.840.1.113883.5.110", "1.2.250.1.213.1.1.4.322", "1.2.3.4"):
        assert terminology.oid_of(terminology.uri_of(oid)) == oid


def test_a_code_of_another_system_is_not_in_the_set() -> None:
    assert terminology.concept("J47", "PCP", "http://terminology.hl7.org/CodeSystem/v3-ParticipationFunction")
    assert terminology.concept("J47", "PCP", "http://loinc.org") is None
    assert terminology.concept("J47", "PCP", "") is None
    assert terminology.concept("J47", "inconnu") is None
    assert terminology.concept("J47", None) is None
