"""Legal representatives: every code of the official value sets that means one is a guardian, and one comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from relais.cda.model import Header, NamePart, PersonName
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import Resource
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.relatives import is_guardian
from support.plans import EMISSION, R216, R217, R260, concept, minimal_plan

FR_CORE = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-contact-relationship"
V3 = "http://terminology.hl7.org/CodeSystem/"
REPRESENTATIVE = re.compile(r"tuteur|tutelle|curat|légal|sauvegarde|juridique", re.IGNORECASE)

CODES = [
    (R260, "GUARD", None),
    (V3 + "v3-RoleClass", "GUARD", None),
    (V3 + "v3-RoleCode", "GUARD", None),
    (R216, "RESPRSN", None),
    (R217, "TUTEUR", "TUTEUR"),
    (R217, "CURATEUR", "CURATEUR"),
    (R217, "MSVG", "MSVG"),
    (FR_CORE, "GRD", "TUTEUR"),
    (FR_CORE, "CURTL", "CURATEUR"),
    (FR_CORE, "SVG", "MSVG"),
    (FR_CORE, "CUR", None),
    (FR_CORE, "WRD", None),
]


def plan_with(*relations: Resource) -> Any:
    plan = minimal_plan()
    plan.relative("one", "NESSI", "Jeanne", *relations)
    return convert(plan.bundle(), EMISSION)


@pytest.mark.parametrize(("system", "code", "measure"), CODES)
def test_code_of_a_legal_representative_is_a_guardian_and_comes_back(
    system: str, code: str, measure: str | None
) -> None:
    mapped = plan_with(concept(system, code))
    header: Header = mapped.document.header
    [guardian] = header.patient.guardians
    assert guardian.person == PersonName([NamePart("NESSI")], [NamePart("Jeanne")])
    assert header.informants == []
    imported = to_bundle(mapped.document, write(mapped.document)).bundle
    [patient] = [entry["resource"] for entry in imported["entry"] if entry["resource"]["resourceType"] == "Patient"]
    [contact] = patient["contact"]
    codings = [one for relation in contact["relationship"] for one in relation["coding"]]
    expected = [(R260, "GUARD")] + ([(R217, measure)] if measure else [])
    assert [(one["system"], one["code"]) for one in codings] == expected
    assert is_guardian(contact["relationship"])


def test_measure_is_found_beside_kinship_and_role() -> None:
    mapped = plan_with(concept(R216, "RESPRSN"), concept(R216, "SIS"), concept(R260, "ECON"), concept(R217, "TUTEUR"))
    assert len(mapped.document.header.patient.guardians) == 1
    [informant] = mapped.document.header.informants
    assert (informant.related.class_code, informant.related.code.code) == ("ECON", "SIS")
    assert b"Mesure de protection : Tuteur (" in write(mapped.document)


@pytest.mark.parametrize("owner", ["MME Sophie NESSI", "Mme Sophie NESSI"])
def test_measure_of_a_guardian_is_found_with_the_civility_as_a_code_or_as_one_writes_it(owner: str) -> None:
    plan = minimal_plan()
    name = {"family": "NESSI", "given": ["Sophie"], "prefix": ["MME"]}
    plan["patient"]["contact"] = [{"relationship": [concept(R217, "TUTEUR")], "name": name}]
    document = convert(plan.bundle(), EMISSION).document
    data = write(document).replace(b"(Mme Sophie NESSI)", f"({owner})".encode())
    assert f"Mesure de protection : Tuteur ({owner})".encode() in data
    imported = to_bundle(read(data).document, data).bundle
    [patient] = [entry["resource"] for entry in imported["entry"] if entry["resource"]["resourceType"] == "Patient"]
    codings = [one for relation in patient["contact"][0]["relationship"] for one in relation["coding"]]
    assert [one["code"] for one in codings] == ["GUARD", "TUTEUR"]


@pytest.mark.parametrize("code", ["EDUREF", "K", "P", "MTH", "FRND"])
def test_other_codes_of_fr_core_are_none(code: str) -> None:
    assert not is_guardian([concept(FR_CORE, code)])
    assert plan_with(concept(FR_CORE, code)).document.header.patient.guardians == []


def test_every_representative_of_the_published_lists_is_known(cisis: Path) -> None:
    found = set()
    packages = cisis / "fhir"
    for name in ("CodeSystem-fr-core-cs-contact-relationship", "CodeSystem-TRE-R2[16]*"):
        for file in packages.glob(f"*/package/{name}.json"):
            system = json.loads(file.read_text(encoding="utf-8"))
            if system["url"] in (FR_CORE, R216, R217, R260):
                concepts = system["concept"]
                named = {one["code"] for one in concepts if REPRESENTATIVE.search(one.get("display", ""))}
                found |= {(system["url"], code) for code in named}
    assert found == {(system, code) for system, code, _ in CODES if not system.startswith(V3)}


def test_a_contact_who_is_guardian_and_more_is_both() -> None:
    plan = minimal_plan()
    relations = [concept(R260, "GUARD"), concept(R260, "ECON"), concept(R260, "QUAL")]
    name = {"family": "NESSI", "given": ["Jeanne"]}
    plan["patient"]["contact"] = [{"relationship": relations, "name": name}]
    header = convert(plan.bundle(), EMISSION).document.header
    assert len(header.patient.guardians) == 1
    assert [one.related.class_code for one in header.informants if one.related] == ["ECON", "NOK"]
