"""Rules that PDSm publishes in words only: which are coded, and what they say of a DocumentReference and a List."""

from __future__ import annotations

from typing import Any

import pytest

from relais.profiles.packages import Registry
from relais.profiles.prose import SYSTEMS, prose_check
from relais.profiles.run import NOT_CHECKED
from relais.profiles.validator import Validator

PDSM = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/"
SHARED = f"{PDSM}pdsm-comprehensive-document-reference"
OTHER = {"coding": [{"system": "http://example.org/other", "code": "x"}]}


def concept(key: str, element: str) -> dict[str, Any]:
    return {"coding": [{"system": SYSTEMS[key, element][0], "code": "x"}]}


def found(validator: Validator, **elements: Any) -> dict[str, list[str]]:
    """Rules of PDSm by severity, for a DocumentReference of these elements."""
    resource = {"resourceType": "DocumentReference", "status": "current", "content": [], **elements}
    issues = [one for one in validator.validate(resource, [SHARED]) if one.rule.startswith("constr-")]
    return {level: [one.rule for one in issues if one.severity == level] for level in ("error", "warning")}


@pytest.mark.parametrize(
    ("key", "path"),
    [("constr-bind-type", "type"), ("constr-bind-category", "category")],
)
def test_the_system_of_a_code_is_one_that_the_guide_names(validator: Validator, key: str, path: str) -> None:
    right, wrong = concept(key, path), OTHER
    many = path == "category"
    assert key not in found(validator, **{path: [right] if many else right})["warning"]
    assert key in found(validator, **{path: [wrong] if many else wrong})["warning"]


def test_the_producer_of_a_document_is_of_the_nos(validator: Validator) -> None:
    assert found(validator, context={"facilityType": OTHER})["warning"] == ["constr-bind-ProducteurDoc"]
    right = concept("constr-bind-ProducteurDoc", "facilityType")
    assert found(validator, context={"facilityType": right})["warning"] == []


def test_a_rule_that_contradicts_the_value_set_is_not_checked(validator: Validator) -> None:
    resource = {"resourceType": "DocumentReference", "context": {"practiceSetting": OTHER}}
    told = [one.message for one in validator.validate(resource, [SHARED]) if one.rule == NOT_CHECKED]
    assert any("constr-bind-ProducteurDoc" in message for message in told)


def test_a_document_replaces_one_other(validator: Validator) -> None:
    def related(*codes: str) -> list[dict[str, Any]]:
        targets = enumerate(codes)
        return [{"code": code, "target": {"reference": f"DocumentReference/{number}"}} for number, code in targets]

    assert found(validator, relatesTo=related("replaces", "appends"))["error"] == []
    assert found(validator, relatesTo=related("replaces", "replaces"))["error"] == ["constr-bind-relatesTo"]


def test_designation_of_a_lot(validator: Validator) -> None:
    url = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/ihe-designationType"
    for coded, expected in ((OTHER, 1), (concept("constr-bind-designationtype", "extension"), 0)):
        lot = {"resourceType": "List", "extension": [{"url": url, "valueCodeableConcept": coded}]}
        issues = validator.validate(lot, [f"{PDSM}pdsm-submissionset-comprehensive"])
        assert [one.rule for one in issues].count("constr-bind-designationtype") == expected


def test_every_system_is_one_that_packages_know(registry: Registry) -> None:
    named = {system for systems in SYSTEMS.values() for system in systems}
    unknown = {system for system in named if registry.find("CodeSystem", system) is None}
    assert unknown == {"http://loinc.org"}


def test_rules_of_other_guides_are_left_alone() -> None:
    assert prose_check("constr-cdr-rempl", "p") is None
    assert prose_check("mine-1", "p") is None
