"""The profile validator: each kind of statement kept and broken, on small profiles of our own over R4 and on the
official ones; what it cannot check; what no input may do to it.
"""

from __future__ import annotations

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relais.profiles.issues import Issue
from relais.profiles.packages import PackageError, Registry, load
from relais.profiles.structure import check
from relais.profiles.validator import Validator

Resource = dict[str, Any]

BASE = "http://example.org/StructureDefinition/"
R4 = "http://hl7.org/fhir/StructureDefinition/"
FR = "https://hl7.fr/ig/fhir/core/StructureDefinition/"
CISIS = "https://interop.esante.gouv.fr/ig/fhir/"
V2_0203 = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"
GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"


def sliced(path: str, kind: str, at: str, rules: str = "open", **more: Any) -> Resource:
    discriminator = [{"type": kind, "path": at}]
    return {"id": path, "path": path, "slicing": {"discriminator": discriminator, "rules": rules, **more}}


def element(element_id: str, **statements: Any) -> Resource:
    path = ".".join(step.partition(":")[0] for step in element_id.split("."))
    name = element_id.rpartition(".")[2].partition(":")[2]
    return {"id": element_id, "path": path, **({"sliceName": name} if name else {}), **statements}


def profile(base: str, *elements: Resource, base_url: str = "") -> Resource:
    return {"base": base, "base_url": base_url, "elements": elements}


def typed(code: str, *profiles: str, targets: tuple[str, ...] = (), **more: Any) -> list[Resource]:
    stated: Resource = {"code": code, **more}
    if profiles:
        stated["profile"] = list(profiles)
    if targets:
        stated["targetProfile"] = list(targets)
    return [stated]


PROFILES: dict[str, Resource] = {
    "cardinality": profile(
        "Patient",
        element("Patient.birthDate", min=1),
        element("Patient.name", min=1, max="2"),
        element("Patient.photo", max="0"),
        element("Patient.name.given", max="1"),
    ),
    "values": profile(
        "Patient",
        element("Patient.gender", fixedCode="female"),
        element("Patient.maritalStatus", patternCodeableConcept={"coding": [{"system": "urn:m", "code": "M"}]}),
        element("Patient.multipleBirth[x]", type=typed("integer"), minValueInteger=1, maxValueInteger=4),
        element("Patient.name.family", maxLength=5),
    ),
    "quantity": profile("Observation", element("Observation.value[x]", fixedQuantity={"value": 1, "unit": "g"})),
    "by-value": profile(
        "Patient",
        sliced("Patient.identifier", "value", "system", "closed"),
        element("Patient.identifier:ins", min=1, max="1"),
        element("Patient.identifier:ins.system", min=1, fixedUri="urn:ins"),
        element("Patient.identifier:ins.value", min=1),
        element("Patient.identifier:local", max="2"),
        element("Patient.identifier:local.system", min=1, patternUri="urn:local"),
    ),
    "by-pattern": profile(
        "Patient",
        sliced("Patient.maritalStatus.coding", "pattern", "$this"),
        element("Patient.maritalStatus.coding:ours", min=1, patternCoding={"system": "urn:ours"}),
    ),
    "by-binding": profile(
        "Observation",
        sliced("Observation.component", "value", "code"),
        element("Observation.component:sex", max="1"),
        element("Observation.component:sex.code", binding={"strength": "required", "valueSet": GENDER}),
        element("Observation.component:sex.value[x]", min=1),
    ),
    "by-existence": profile(
        "Patient",
        sliced("Patient.telecom", "exists", "period", "closed"),
        element("Patient.telecom:dated"),
        element("Patient.telecom:dated.period", min=1),
        element("Patient.telecom:dated.period.end", min=1),
        element("Patient.telecom:undated"),
        element("Patient.telecom:undated.period", max="0"),
    ),
    "by-type": profile(
        "Observation",
        sliced("Observation.value[x]", "type", "$this", "closed"),
        element("Observation.value[x]:valueQuantity", type=typed("Quantity")),
        element("Observation.value[x]:valueQuantity.unit", min=1),
        element("Observation.value[x]:valueString", type=typed("string")),
    ),
    "by-target-type": profile(
        "CareTeam",
        sliced("CareTeam.participant", "type", "member.resolve()"),
        element("CareTeam.participant:person", min=1),
        element("CareTeam.participant:person.member", type=typed("Reference", targets=(f"{R4}Patient",))),
        element("CareTeam.participant:person.role", min=1),
    ),
    "by-profile": profile(
        "Bundle",
        sliced("Bundle.entry", "profile", "resource"),
        element("Bundle.entry:patient", min=1, max="1"),
        element("Bundle.entry:patient.resource", type=typed("Patient", f"{BASE}cardinality")),
    ),
    "in-order": profile(
        "Patient",
        sliced("Patient.contact", "value", "gender", "openAtEnd", ordered=True),
        element("Patient.contact:first"),
        element("Patient.contact:first.gender", fixedCode="female"),
        element("Patient.contact:second"),
        element("Patient.contact:second.gender", fixedCode="male"),
    ),
    "default": profile(
        "Patient",
        sliced("Patient.telecom", "value", "system", "closed"),
        element("Patient.telecom:phone"),
        element("Patient.telecom:phone.system", fixedCode="phone"),
        element("Patient.telecom:@default"),
        element("Patient.telecom:@default.rank", min=1),
    ),
    "slices-of-slices": profile(
        "Patient",
        sliced("Patient.telecom", "value", "system"),
        element(
            "Patient.telecom:phone",
            slicing={"discriminator": [{"type": "value", "path": "use"}], "rules": "closed"},
        ),
        element("Patient.telecom:phone.system", fixedCode="phone"),
        element("Patient.telecom:phone/home", max="1"),
        element("Patient.telecom:phone/home.use", fixedCode="home"),
    ),
    "ambiguous": profile(
        "Patient",
        sliced("Patient.telecom", "exists", "rank"),
        element("Patient.telecom:a"),
        element("Patient.telecom:a.rank", min=1),
        element("Patient.telecom:b"),
        element("Patient.telecom:b.rank", min=1),
    ),
    "undecidable": profile(
        "Patient",
        sliced("Patient.telecom", "value", "rank"),
        element("Patient.telecom:a", min=1),
    ),
    "strange-path": profile(
        "Patient",
        sliced("Patient.telecom", "value", "where(rank > 1)"),
        element("Patient.telecom:a", min=1),
    ),
    "bindings": profile(
        "Observation",
        element("Observation.code", binding={"strength": "required", "valueSet": GENDER}),
        element("Observation.method", binding={"strength": "extensible", "valueSet": GENDER}),
        element("Observation.bodySite", binding={"strength": "preferred", "valueSet": GENDER}),
        element("Observation.value[x]", binding={"strength": "required", "valueSet": GENDER}),
        element(
            "Observation.interpretation",
            binding={
                "strength": "preferred",
                "valueSet": "http://example.org/ValueSet/unknown",
                "extension": [{"url": f"{R4}elementdefinition-maxValueSet", "valueCanonical": GENDER}],
            },
        ),
    ),
    "unknown-values": profile(
        "Observation",
        element(
            "Observation.code", binding={"strength": "required", "valueSet": "http://snomed.info/sct?fhir_vs=isa/1"}
        ),
    ),
    "rules": profile(
        "Patient",
        element(
            "Patient",
            constraint=[
                {"key": "mine-1", "severity": "error", "human": "named", "expression": "name.exists()"},
                {"key": "mine-2", "severity": "warning", "human": "dated", "expression": "birthDate.exists()"},
                {
                    "key": "mine-3",
                    "severity": "error",
                    "human": "advice",
                    "expression": "gender.exists()",
                    "extension": [{"url": f"{R4}elementdefinition-bestpractice", "valueBoolean": True}],
                },
                {
                    "key": "mine-4",
                    "severity": "error",
                    "human": "active organisation",
                    "expression": "managingOrganization.resolve().ofType(Organization).all(active)",
                },
                {"key": "mine-5", "severity": "error", "human": "prose only"},
                {"key": "mine-6", "severity": "error", "human": "broken", "expression": "name.("},
                {"key": "mine-7", "severity": "error", "human": "several", "expression": "name.single().exists()"},
                {
                    "key": "mine-8",
                    "severity": "error",
                    "human": "of a set",
                    "expression": f"gender.empty() or gender.memberOf('{GENDER}')",
                },
                {
                    "key": "mine-9",
                    "severity": "error",
                    "human": "of a profile",
                    "expression": f"managingOrganization.resolve().all(conformsTo('{R4}Organization'))",
                },
            ],
        ),
        element(
            "Patient.telecom",
            constraint=[{"key": "tel-1", "severity": "error", "human": "one way", "expression": "rank > 0"}],
        ),
    ),
    "references": profile(
        "Patient",
        element(
            "Patient.managingOrganization",
            type=typed("Reference", targets=(f"{BASE}active-organization",)),
        ),
        element(
            "Patient.generalPractitioner",
            type=typed("Reference", targets=(f"{R4}Practitioner",), aggregation=["contained"]),
        ),
    ),
    "active-organization": profile("Organization", element("Organization.active", min=1)),
    "names": profile(
        "HumanName",
        element("HumanName.family", min=1),
        element("HumanName.given", min=1, max="3"),
        base_url="HumanName",
    ),
    "named": profile("Patient", element("Patient.name", type=typed("HumanName", f"{BASE}names"))),
    "supported": profile("Patient", element("Patient.birthDate", mustSupport=True)),
    "nested": profile("QuestionnaireResponse", element("QuestionnaireResponse.item.text", min=1)),
    "mutual-a": profile(
        "Organization", element("Organization.partOf", type=typed("Reference", targets=(f"{BASE}mutual-b",)))
    ),
    "mutual-b": profile(
        "Organization", element("Organization.partOf", type=typed("Reference", targets=(f"{BASE}mutual-a",)))
    ),
    "of-unknown-target": profile(
        "Patient",
        element("Patient.managingOrganization", type=typed("Reference", targets=(f"{BASE}nowhere",))),
    ),
    "of-unknown-type": profile("Patient", element("Patient.name", type=typed("HumanName", f"{BASE}nowhere"))),
    "cycle": {"base": "Patient", "base_url": f"{BASE}cycle", "elements": ()},
    "orphan": {"base": "Patient", "base_url": f"{BASE}nowhere", "elements": ()},
    "misplaced": profile("Patient", element("Patient.nothing", min=1)),
}

EXTENSIONS: dict[str, Resource] = {
    "on-patient": {"context": [{"type": "element", "expression": "Patient"}]},
    "on-name": {"context": [{"type": "element", "expression": "HumanName"}]},
    "on-family": {"context": [{"type": "element", "expression": "HumanName.family"}]},
    "on-anything": {"context": [{"type": "element", "expression": "Element"}]},
    "inside": {"context": [{"type": "extension", "expression": f"{BASE}on-anything"}]},
    "by-path": {"context": [{"type": "fhirpath", "expression": "Patient.contact.where(gender = 'male').name"}]},
    "adults": {
        "context": [{"type": "element", "expression": "Patient"}],
        "contextInvariant": ["birthDate < @2008"],
    },
}


@pytest.fixture(scope="module")
def ours(packages: Path) -> Validator:
    """A validator over the official packages and the profiles above."""
    registry = load(packages)
    common = {"resourceType": "StructureDefinition", "status": "draft", "fhirVersion": "4.0.1", "abstract": False}
    for name, stated in PROFILES.items():
        base = stated["base"]
        registry.add_resource(
            {
                **common,
                "url": f"{BASE}{name}",
                "name": name,
                "kind": "complex-type" if base == "HumanName" else "resource",
                "type": base,
                "baseDefinition": stated["base_url"] if ":" in stated["base_url"] else f"{R4}{base}",
                "derivation": "constraint",
                "differential": {"element": [{"id": base, "path": base}, *stated["elements"]]},
            }
        )
    for name, stated in EXTENSIONS.items():
        registry.add_resource(
            {
                **common,
                **stated,
                "url": f"{BASE}{name}",
                "name": name,
                "kind": "complex-type",
                "type": "Extension",
                "baseDefinition": f"{R4}Extension",
                "derivation": "constraint",
                "differential": {
                    "element": [
                        element("Extension"),
                        element("Extension.url", fixedUri=f"{BASE}{name}"),
                        element("Extension.value[x]", min=0, type=typed("string")),
                    ]
                },
            }
        )
    return Validator(registry)


def patient(**more: Any) -> Resource:
    return {"resourceType": "Patient", **more}


def observation(**more: Any) -> Resource:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **more}


def found(validator: Validator, resource: Resource, name: str = "", **more: Any) -> set[tuple[str, str, str]]:
    """(severity, path, rule) of each issue, narrative advice left out."""
    profiles = [f"{BASE}{name}"] if name else []
    return {
        (issue.severity, issue.path, issue.rule)
        for issue in validator.validate(resource, profiles, **more)
        if issue.rule != "dom-6"
    }


def broken(validator: Validator, resource: Resource, name: str = "") -> set[tuple[str, str]]:
    """(path, rule) of the errors."""
    return {(path, rule) for severity, path, rule in found(validator, resource, name) if severity == "error"}


CONTACT = {"name": {"family": "A"}}
BIRD, MALE = {"coding": [{"system": "urn:b", "code": "b"}]}, {"coding": [
    {"system": "http://hl7.org/fhir/administrative-gender", "code": "male"}]}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "resource", "expected"),
    [
        # cardinality
        ("cardinality", patient(birthDate="2000", name=[{"given": ["a"]}]), set()),
        ("cardinality", patient(_birthDate={"extension": [{"url": "urn:x",
         "valueString": "x"}]}, name=[{"text": "a"}]), set()),
        ("cardinality", patient(), {("Patient", "cardinality")}),
        ("cardinality", patient(birthDate="2000", name=[{"text": "a"}] * 3), {("Patient", "cardinality")}),
        ("cardinality", patient(birthDate="2000", name=[{"given": ["a", "b"]}]), {("Patient.name[0]", "cardinality")}),
        ("cardinality", patient(birthDate="2000", name=[{"text": "a"}], photo=[{"url": "urn:x"}]), {("Patient",
         "cardinality")}),
        # fixed and pattern values, limits
        ("values", patient(gender="female", maritalStatus={"text": "x", "coding": [
            {"system": "urn:x", "code": "M"}, {"system": "urn:m", "code": "M", "display": "x"}]}), set()),
        ("values", patient(gender="male"), {("Patient.gender", "fixed")}),
        ("values", patient(maritalStatus={"coding": [{"system": "urn:m", "code": "S"}]}), {("Patient.maritalStatus",
         "pattern")}),
        ("values", patient(multipleBirthInteger=1), set()),
        ("values", patient(multipleBirthInteger=5), {("Patient.multipleBirth.ofType(integer)", "limit")}),
        ("values", patient(multipleBirthInteger=0), {("Patient.multipleBirth.ofType(integer)", "limit")}),
        ("values", patient(multipleBirthBoolean=True), {("Patient.multipleBirth.ofType(boolean)", "type")}),
        ("values", patient(name=[{"family": "Abcde"}]), set()),
        ("values", patient(name=[{"family": "Abcdef"}]), {("Patient.name[0].family", "length")}),
        ("quantity", observation(valueQuantity={"value": Decimal("1"), "unit": "g"}),
         {("Observation.value.ofType(Quantity)", "fixed")}),
        ("quantity", observation(valueQuantity={"value": 1, "unit": "g"}), set()),
        ("quantity", observation(valueQuantity={"value": 1, "unit": "g", "code": "g", "system": "urn:u"}),
         {("Observation.value.ofType(Quantity)", "fixed")}),
        # slices by each kind of discriminator
        ("by-value", patient(identifier=[{"system": "urn:ins", "value": "1"}, {"system": "urn:local"}]), set()),
        ("by-value", patient(identifier=[{"system": "urn:local"}]), {("Patient", "slice-min")}),
        ("by-value", patient(identifier=[{"system": "urn:ins"}]), {("Patient.identifier[0]", "cardinality")}),
        ("by-value", patient(identifier=[{"system": "urn:ins", "value": "1"}] * 2), {("Patient.identifier",
         "slice-max")}),
        ("by-value", patient(identifier=[{"system": "urn:ins", "value": "1"}, {"system": "urn:x"}]),
         {("Patient.identifier[1]", "slice-closed")}),
        ("by-pattern", patient(maritalStatus={"coding": [{"system": "urn:ours",
         "code": "1"}, {"system": "urn:x"}]}), set()),
        ("by-pattern", patient(maritalStatus={"coding": [{"system": "urn:x"}]}), {("Patient.maritalStatus",
         "slice-min")}),
        ("by-pattern", patient(), set()),
        ("by-binding", observation(component=[{"code": BIRD}, {"code": MALE, "valueString": "x"}]), set()),
        ("by-binding", observation(component=[{"code": MALE}]), {("Observation.component[0]", "cardinality")}),
        ("by-existence", patient(telecom=[{"rank": 1}, {"rank": 1, "period": {"end": "2020"}}]), set()),
        ("by-existence", patient(telecom=[{"rank": 1, "period": {"start": "2020"}}]),
         {("Patient.telecom[0].period", "cardinality")}),
        ("by-type", observation(valueString="x"), set()),
        ("by-type", observation(valueQuantity={"value": 1, "unit": "g"}), set()),
        ("by-type", observation(valueQuantity={"value": 1}), {("Observation.value.ofType(Quantity)", "cardinality")}),
        ("by-type", observation(valueBoolean=True), {("Observation.value.ofType(boolean)", "slice-closed")}),
        ("in-order", patient(contact=[{**CONTACT, "gender": "female"}, {**CONTACT, "gender": "male"}, CONTACT]), set()),
        ("in-order", patient(contact=[{**CONTACT, "gender": "male"}, {**CONTACT, "gender": "female"}]),
         {("Patient.contact[1]", "slice-order")}),
        ("in-order", patient(contact=[CONTACT, {**CONTACT, "gender": "female"}]), {("Patient.contact[1]",
         "slice-order")}),
        ("default", patient(telecom=[{"system": "phone"}, {"system": "email", "rank": 1}]), set()),
        ("default", patient(telecom=[{"system": "email"}]), {("Patient.telecom[0]", "cardinality")}),
        ("slices-of-slices", patient(telecom=[{"system": "email", "use": "work"}, {"system": "phone",
         "use": "home"}]), set()),
        ("slices-of-slices", patient(telecom=[{"system": "phone", "use": "work"}]), {("Patient.telecom[0]",
         "slice-closed")}),
        ("slices-of-slices", patient(telecom=[{"system": "phone", "use": "home"}] * 2), {("Patient.telecom",
         "slice-max")}),
        ("ambiguous", patient(telecom=[{"rank": 1}]), {("Patient.telecom[0]", "slice-ambiguous")}),
        # profiles of types, content that refers to itself
        ("named", patient(name=[{"family": "A", "given": ["b"]}]), set()),
        ("named", patient(name=[{"family": "A"}]), {("Patient.name[0]", "cardinality")}),
        ("nested", {"resourceType": "QuestionnaireResponse", "status": "completed", "item": [
            {"linkId": "1", "text": "a", "item": [{"linkId": "1.1", "item": [{"linkId": "1.1.1", "text": "c"}]}]}]},
         {("QuestionnaireResponse.item[0].item[0]", "cardinality")}),
    ],
)  # fmt: skip
def test_statements(ours: Validator, name: str, resource: Resource, expected: set[tuple[str, str]]) -> None:
    assert broken(ours, resource, name) == expected


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (observation(code=MALE, method=MALE, bodySite=MALE, valueCodeableConcept=MALE, interpretation=[MALE]), set()),
        (observation(code=BIRD), {("error", "Observation.code", "binding")}),
        (observation(code={"text": "x"}), {("error", "Observation.code", "binding")}),
        (observation(code={"coding": [{"code": "male"}]}), {
            ("error", "Observation.code", "binding"), ("information", "Observation.code.coding[0]", "coding-system")}),
        (observation(code=MALE, method=BIRD), {("warning", "Observation.method", "binding")}),
        (observation(code=MALE, method={"text": "x"}), {("warning", "Observation.method", "binding")}),
        (observation(code=MALE, bodySite=BIRD), {("information", "Observation.bodySite", "binding")}),
        (observation(code=MALE, bodySite={"text": "x"}), set()),
        (observation(code=MALE, valueString="bird"), {("error", "Observation.value.ofType(string)", "binding")}),
        (observation(code=MALE, valueString="male"), set()),
        (observation(code=MALE, valueBoolean=True), set()),
        (observation(code=MALE, interpretation=[BIRD]), {("error", "Observation.interpretation[0]", "binding")}),
    ],
)  # fmt: skip
def test_bindings_by_strength(ours: Validator, resource: Resource, expected: set[tuple[str, str, str]]) -> None:
    assert found(ours, resource, "bindings") == expected


def test_invariants(ours: Validator) -> None:
    organization = {"resourceType": "Organization", "id": "o", "name": "x", "active": False}
    resource = patient(
        contained=[organization],
        managingOrganization={"reference": "#o"},
        name=[{"text": "a"}, {"text": "b"}],
        telecom=[{"rank": 1}, {"use": "home"}],
    )
    assert found(ours, resource, "rules") == {
        ("warning", "Patient", "mine-2"),
        ("warning", "Patient", "mine-3"),
        ("error", "Patient", "mine-4"),
        ("error", "Patient.telecom[1]", "tel-1"),
        ("information", "Patient", "not-checked"),  # mine-5: prose, mine-6: no FHIRPath
        ("warning", "Patient", "not-checked"),  # mine-7: cannot be evaluated
    }
    messages = [issue.message for issue in ours.validate(resource, [f"{BASE}rules"]) if issue.rule == "not-checked"]
    assert [key for key in ("mine-5", "mine-6", "mine-7") if any(key in text for text in messages)] == [
        "mine-5", "mine-6", "mine-7"
    ]  # fmt: skip
    assert all(text.startswith("not checked: ") for text in messages)


def test_references_look_into_what_is_at_hand(ours: Validator) -> None:
    def of(organization: Resource) -> set[tuple[str, str]]:
        resource = patient(contained=[{**organization, "id": "o"}], managingOrganization={"reference": "#o"})
        return broken(ours, resource, "references")

    assert of({"resourceType": "Organization", "name": "x", "active": True}) == set()
    assert of({"resourceType": "Organization", "name": "x"}) == {("Patient.managingOrganization", "reference-profile")}
    elsewhere = patient(managingOrganization={"reference": "Organization/1"})
    assert broken(ours, elsewhere, "references") == set()
    wrong = patient(managingOrganization={"type": "Practitioner", "display": "x"})
    assert broken(ours, wrong, "references") == {("Patient.managingOrganization", "reference-target")}
    outside = patient(generalPractitioner=[{"reference": "Practitioner/1"}])
    assert broken(ours, outside, "references") == {("Patient.generalPractitioner[0]", "reference-aggregation")}


def entry(uuid: int, resource: Resource) -> Resource:
    url = f"urn:uuid:4b7a4a9c-6d1e-4f0c-9a0b-{uuid:012}"
    return {"fullUrl": url, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}


def transaction(*resources: Resource) -> Resource:
    entries = [entry(number, resource) for number, resource in enumerate(resources)]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def to(uuid: int) -> Resource:
    return {"reference": f"urn:uuid:4b7a4a9c-6d1e-4f0c-9a0b-{uuid:012}"}


def test_references_inside_a_bundle(ours: Validator) -> None:
    person, team = patient(), {"resourceType": "CareTeam", "participant": [{"member": to(0), "role": [{"text": "x"}]}]}
    claims = {"meta": {"profile": [f"{BASE}by-target-type"]}}
    assert broken(ours, transaction(person, {**team, **claims})) == set()
    without_role = {**team, **claims, "participant": [{"member": to(0)}]}
    assert broken(ours, transaction(person, without_role)) == {
        ("Bundle.entry[1].resource.participant[0]", "cardinality")
    }
    organization = {"resourceType": "Organization", "name": "x"}
    assert broken(ours, transaction(organization, {**team, **claims})) == {("Bundle.entry[1].resource", "slice-min")}
    wrong = transaction(organization, observation(subject=to(0)))
    assert broken(ours, wrong) == {("Bundle.entry[1].resource.subject", "reference-target")}
    managed = patient(meta={"profile": [f"{BASE}references"]}, managingOrganization=to(0))
    assert broken(ours, transaction(organization, managed)) == {
        ("Bundle.entry[1].resource.managingOrganization", "reference-profile")
    }


def test_slices_by_profile(ours: Validator) -> None:
    good, poor = patient(birthDate="2000", name=[{"text": "a"}]), patient(birthDate="2000")
    assert broken(ours, transaction(good, observation()), "by-profile") == set()
    assert broken(ours, transaction(good, good), "by-profile") == {("Bundle.entry", "slice-max")}
    assert broken(ours, transaction(poor), "by-profile") == {("Bundle", "slice-min")}
    explained = [
        issue for issue in ours.validate(transaction(poor), [f"{BASE}by-profile"]) if issue.rule == "slice-profile"
    ]
    assert [(issue.severity, issue.path) for issue in explained] == [("information", "Bundle.entry[0].resource")]
    assert "name: at least 1 required" in explained[0].message
    unreadable = patient(birthDate="2000", name=[{"text": "a"}], gender=3)
    assert ("Bundle", "slice-min") in broken(ours, transaction(unreadable), "by-profile")


def test_bundle_rules(ours: Validator) -> None:
    def bundle(kind: str, *entries: Resource, **more: Any) -> set[tuple[str, str]]:
        return broken(ours, {"resourceType": "Bundle", "type": kind, "entry": list(entries), **more})

    url = "http://example.org/fhir/Patient/1"
    assert bundle("collection", {"fullUrl": url, "resource": patient(id="1")}) == set()
    assert bundle("collection", {"resource": patient(id="1")}) == {("Bundle.entry[0]", "bundle-full-url")}
    assert bundle("collection", {"fullUrl": "Patient/1", "resource": patient(id="1")}) == {
        ("Bundle.entry[0]", "bundle-full-url")
    }
    for resource in (patient(id="2"), {"resourceType": "Basic", "id": "1", "code": {"text": "x"}}):
        assert bundle("collection", {"fullUrl": url, "resource": resource}) == {("Bundle.entry[0]", "bundle-full-url")}
    mode = {"search": {"mode": "match"}}
    assert bundle("searchset", {"fullUrl": "urn:uuid:4b7a4a9c-6d1e-4f0c-9a0b-000000000001",
        "resource": patient(), **mode}) == {
        ("Bundle.entry[0].resource", "bundle-result-id")
    }  # fmt: skip
    composition = {
        "resourceType": "Composition", "id": "1", "status": "final", "type": {"text": "x"}, "date": "2020",
        "author": [{"display": "x"}], "title": "x", "subject": {"reference": "Patient/1"},
    }  # fmt: skip
    head = {"fullUrl": "http://example.org/fhir/Composition/1", "resource": composition}
    document = {"identifier": {"system": "urn:x", "value": "1"}, "timestamp": "2020-01-01T00:00:00Z"}
    assert bundle("document", head, {"fullUrl": url, "resource": patient(id="1")}, **document) == set()
    assert bundle("document", head, **document) == {("Bundle.entry[0].resource.subject", "bundle-reference")}


def extended(name: str, **more: Any) -> list[Resource]:
    return [{"url": f"{BASE}{name}", "valueString": "x", **more}]


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (patient(extension=extended("on-patient")), set()),
        (patient(extension=extended("on-anything")), set()),
        (patient(name=[{"text": "a", "extension": extended("on-name")}]), set()),
        (patient(contact=[{"name": {"text": "a", "extension": extended("on-name")}}]), set()),
        (patient(name=[{"family": "a", "_family": {"extension": extended("on-family")}}]), set()),
        (patient(name=[{"given": ["a"], "_given": [{"extension": extended("on-anything")}]}]), set()),
        (patient(contact=[{"gender": "male", "name": {"text": "a", "extension": extended("by-path")}}]), set()),
        (patient(birthDate="2000", extension=extended("adults")), set()),
        (patient(extension=[{"url": f"{BASE}on-anything", "extension": extended("inside")}]), set()),
        (patient(extension=extended("on-name")), {("Patient.extension[0]", "extension-context")}),
        (patient(name=[{"given": ["a"], "_given": [{"extension": extended("on-family")}]}]),
         {("Patient.name[0].given[0].extension[0]", "extension-context")}),
        (patient(extension=extended("inside")), {("Patient.extension[0]", "extension-context")}),
        (patient(contact=[{"gender": "female", "name": {"text": "a", "extension": extended("by-path")}}]),
         {("Patient.contact[0].name.extension[0]", "extension-context")}),
        (patient(birthDate="2010", extension=extended("adults")), {("Patient.extension[0]", "extension-context")}),
        (patient(extension=[{"url": f"{BASE}on-patient", "valueBoolean": True}]),
         {("Patient.extension[0].value.ofType(boolean)", "type")}),
        (patient(modifierExtension=extended("on-patient")), {("Patient.modifierExtension[0]", "extension-modifier")}),
        (patient(extension=[{"url": "relative", "valueString": "x"}]), {("Patient.extension[0]", "extension-url")}),
        (patient(extension=[{"url": f"{FR}fr-core-identity-reliability",
                             "extension": [{"url": "nonsense", "valueString": "x"}]}]),
         {("Patient.extension[0].extension[0]", "extension-part")}),
    ],
)  # fmt: skip
def test_extensions(ours: Validator, resource: Resource, expected: set[tuple[str, str]]) -> None:
    assert broken(ours, resource) == expected


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (patient(identifier=[{"system": "abc"}]), {("Patient.identifier[0]", "identifier-system")}),
        (patient(identifier=[{"system": "urn:ietf:rfc:3986", "value": "abc"}]), {("Patient.identifier[0]",
         "identifier-uri")}),
        (patient(identifier=[{"system": "urn:oid:1.02", "value": "1"}]), {("Patient.identifier[0].system", "urn")}),
        (patient(photo=[{"contentType": "image/png", "data": "AAAA", "size": 3}]), set()),
        (patient(photo=[{"contentType": "image/png", "data": "AAAA", "size": 4}]), {("Patient.photo[0]",
         "attachment-size")}),
        (patient(photo=[{"contentType": "image/png", "data": "AAAA", "hash": "AAAA"}]), {("Patient.photo[0]",
         "attachment-hash")}),
        (patient(photo=[{"contentType": "image/png", "data": "AAAA", "hash": "KeyKjZQUSJVsZMBlJJ+0S4tnlNk="}]), None),
        (patient(maritalStatus={"coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "no"}]}),
         {("Patient.maritalStatus.coding[0]", "code")}),
    ],
)  # fmt: skip
def test_rules_of_data_types(ours: Validator, resource: Resource, expected: set[tuple[str, str]] | None) -> None:
    result = broken(ours, resource)
    assert (result == expected) if expected is not None else result <= {("Patient.photo[0]", "attachment-hash")}


def test_displays_are_compared_in_french(ours: Validator) -> None:
    def of(display: str) -> set[tuple[str, str, str]]:
        coding = {"system": V2_0203, "code": "INS-NIR", "display": display}
        return {each for each in found(ours, patient(identifier=[{"type": {"coding": [coding]}}])) if "display" in each}

    assert of("n'importe quoi") == {("warning", "Patient.identifier[0].type.coding[0]", "display")}
    known = ours.terminology.displays(V2_0203, "INS-NIR")
    assert known
    assert all(of(text) == set() for text in known)


# What cannot be checked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "name", "expected"),
    [
        (patient(), "nowhere", ("warning", "Patient")),
        (patient(meta={"profile": ["http://example.org/nowhere"]}), "", ("warning", "Patient")),
        (patient(meta={"profile": [f"{FR}fr-core-patient|9.9"]}), "", ("warning", "Patient")),
        (patient(), "cycle", ("warning", "Patient")),
        (patient(), "orphan", ("warning", "Patient")),
        (patient(), "misplaced", ("warning", "Patient")),
        (patient(name=[{"text": "x"}]), "of-unknown-type", ("warning", "Patient.name[0]")),
        (patient(extension=[{"url": "http://example.org/ext", "valueString": "x"}]), "", ("information",
         "Patient.extension[0]")),
        (patient(modifierExtension=[{"url": "http://example.org/ext", "valueString": "x"}]), "",
         ("warning", "Patient.modifierExtension[0]")),
        (patient(telecom=[{"rank": 1}]), "undecidable", ("information", "Patient.telecom")),
        (patient(telecom=[{"rank": 1}]), "strange-path", ("information", "Patient.telecom")),
        (observation(code={"coding": [{"system": "http://snomed.info/sct", "code": "1"}]}), "unknown-values",
         ("warning", "Observation.code")),
    ],
)  # fmt: skip
def test_not_checked_is_said(ours: Validator, resource: Resource, name: str, expected: tuple[str, str]) -> None:
    issues = [issue for issue in ours.validate(resource, [f"{BASE}{name}"] if name else []) if issue.rule != "dom-6"]
    assert [(issue.severity, issue.path, issue.rule) for issue in issues] == [(*expected, "not-checked")]
    assert issues[0].message.startswith("not checked: ")


def test_unknown_targets_are_not_checked(ours: Validator) -> None:
    organization = {"resourceType": "Organization", "id": "o", "name": "x"}
    resource = patient(contained=[organization], managingOrganization={"reference": "#o"})
    assert broken(ours, resource, "of-unknown-target") == set()


def test_profiles_that_refer_to_each_other_end(ours: Validator) -> None:
    one = {"resourceType": "Organization", "name": "a", "meta": {"profile": [f"{BASE}mutual-a"]}, "partOf": to(1)}
    other = {"resourceType": "Organization", "name": "b", "partOf": to(0)}
    assert broken(ours, transaction(one, other)) == set()
    assert broken(ours, transaction(one, patient())) == {("Bundle.entry[0].resource.partOf", "reference-target")}


def test_profile_for_another_type(ours: Validator) -> None:
    assert broken(ours, observation(), "cardinality") == {("Observation", "profile-type")}


def test_logical_models_are_not_checked(validator: Validator) -> None:
    url = f"{CISIS}pdsm4dmp/StructureDefinition/DocumentEntry"
    assert [issue.severity for issue in validator.validate(patient(), [url]) if issue.rule == "not-checked"] == [
        "warning"
    ]


# Options --------------------------------------------------------------------------------------------------------------


def test_must_support_is_information_on_demand(ours: Validator) -> None:
    assert found(ours, patient(), "supported") == set()
    expected = {("information", "Patient", "must-support")}
    assert found(ours, patient(), "supported", must_support=True) == expected
    assert found(ours, patient(birthDate="2000"), "supported", must_support=True) == set()


def test_modes(ours: Validator) -> None:
    assert broken(ours, patient()) == set()
    assert {issue.rule for issue in ours.validate(patient(), mode="update")} == {"update-id", "dom-6"}
    assert {issue.rule for issue in ours.validate(patient(id="1"), mode="update")} == {"dom-6"}
    assert ours.validate(patient(), [f"{BASE}cardinality"], "delete") == []
    assert any(issue.rule == "cardinality" for issue in ours.validate(patient(), [f"{BASE}cardinality"], "create"))


def test_languages(ours: Validator) -> None:
    french = Validator(ours.registry, "fr")
    texts = {issue.message for issue in french.validate(patient(), [f"{BASE}cardinality", f"{BASE}nowhere"])}
    assert "birthDate : 1 au moins attendu(s), 0 trouvé(s) (cardinality)" in texts
    assert "Une ressource devrait avoir un texte narratif. (DomainResource)" in texts
    assert any(text.startswith("non vérifié : ") for text in texts)
    english = {issue.message for issue in french.validate(patient(), [f"{BASE}cardinality"], language="en")}
    assert "birthDate: at least 1 required, 0 found (cardinality)" in english


def test_most_severe_first_and_each_once(ours: Validator) -> None:
    resource = patient(extension=[{"url": "http://example.org/ext", "valueString": "x"}])
    issues = ours.validate(resource, [f"{BASE}cardinality", f"{BASE}cardinality", f"{BASE}named"])
    order = ["fatal", "error", "warning", "information"]
    assert [issue.severity for issue in issues] == sorted((issue.severity for issue in issues), key=order.index)
    assert len(set(issues)) == len(issues)


def test_messages_name_no_value_of_the_resource(ours: Validator) -> None:
    secret = "Secretissime"
    resource = patient(
        gender=secret, name=[{"family": secret, "given": [secret, secret]}], maritalStatus={"coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": secret, "display": secret}]},
        identifier=[{"system": secret, "value": secret}],
    )  # fmt: skip
    issues = ours.validate(
        resource, [f"{BASE}cardinality", f"{BASE}values", f"{BASE}rules", f"{FR}fr-core-patient-ins"]
    )
    assert len(issues) > 10
    assert not any(secret in str(issue) for issue in issues)


# The official profiles ------------------------------------------------------------------------------------------------

INS = {"resourceType": "Patient", "meta": {"profile": [f"{FR}fr-core-patient-ins"]}, "extension": [
    {"url": f"{FR}fr-core-identity-reliability", "extension": [
        {"url": "identityStatus", "valueCoding": {
            "system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0445", "code": "VALI"}}]},
    {"url": f"{R4}patient-birthPlace", "valueAddress": {"city": "Rennes", "extension": [
        {"url": f"{FR}fr-core-address-insee-code", "valueCoding": {
            "system": "https://mos.esante.gouv.fr/NOS/TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM", "code": "35238"}}]}}],
    "identifier": [{"use": "official", "system": "urn:oid:1.2.250.1.213.1.4.8", "value": "277076322082910", "type": {
        "coding": [{"system": V2_0203, "code": "INS-NIR"}]}}],
    "name": [{"use": "official", "family": "Test", "given": ["Anne"], "extension": [
        {"url": f"{FR}fr-core-patient-birth-list-given-name", "valueString": "Anne Lise"}]}],
    "gender": "female", "birthDate": "1977-07-13"}  # fmt: skip
SLOT = {"resourceType": "Slot", "schedule": {"reference": "Schedule/1"}, "status": "free",
        "start": "2024-05-06T07:00:00Z", "end": "2024-05-06T08:00:00Z"}  # fmt: skip
PRESSURE = {
    "resourceType": "Observation", "meta": {"profile": [f"{FR}fr-core-observation-body-weight"]}, "status": "final",
    "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
    "code": "vital-signs"}]}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}, "subject": {"reference": "Patient/1"},
    "effectiveDateTime": "2024-05-06", "valueQuantity": {
        "value": 70, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}}  # fmt: skip


def without(resource: Resource, *path: str | int) -> Resource:
    changed = copy.deepcopy(resource)
    owner: Any = changed
    for step in path[:-1]:
        owner = owner[step]
    del owner[path[-1]]
    return changed


def with_value(resource: Resource, value: Any, *path: str | int) -> Resource:
    changed = copy.deepcopy(resource)
    owner: Any = changed
    for step in path[:-1]:
        owner = owner[step]
    if isinstance(owner, list) and path[-1] == len(owner):
        owner.append(value)
    else:
        owner[path[-1]] = value
    return changed


FAULTS: dict[str, tuple[Resource, set[tuple[str, str]]]] = {
    "gender outside the French set": (with_value(INS, "other", "gender"), {("Patient.gender", "binding")}),
    "no birth date": (without(INS, "birthDate"), {("Patient", "cardinality")}),
    "no INSEE code of the birth place": (
        without(INS, "extension", 1, "valueAddress", "extension"),
        {("Patient.extension[1].value.ofType(Address)", "cardinality"),
         ("Patient.extension[1].value.ofType(Address)", "slice-min")},
    ),
    "no official name": (
        with_value(INS, "usual", "name", 0, "use"), {("Patient", "slice-min")}
    ),
    "two official names": (with_value(INS, INS["name"][0], "name", 1), {("Patient.name", "slice-max")}),
    "two first names": (with_value(INS, ["Anne", "Lise"], "name", 0, "given"), {("Patient.name[0]", "cardinality")}),
    "no list of given names": (
        without(INS, "name", 0, "extension"), {("Patient.name[0]", "cardinality"), ("Patient.name[0]", "slice-min")}
    ),
    "wrong use in the INS": (with_value(INS, "home", "identifier", 0, "use"), {("Patient.identifier[0].use",
    "pattern"), ("Patient.identifier[0].use", "binding")}),
    "wrong system in the INS": (
        with_value(INS, "urn:oid:1.2.3", "identifier", 0, "system"),
        {("Patient.identifier[0].system", "pattern"), ("Patient", "fr-core-1")},
    ),
    "no reliability of the identity": (
        without(INS, "extension", 0), {("Patient", "cardinality"), ("Patient", "slice-min")}
    ),
    "reliability with an unknown status": (
        with_value(INS, "NIMP", "extension", 0, "extension", 0, "valueCoding", "code"),
        {("Patient.extension[0].extension[0].value.ofType(Coding)", "code")},
    ),
    "extension value of another type": (
        with_value(without(INS, "name", 0, "extension", 0, "valueString"), True, "name", 0, "extension", 0,
            "valueBoolean"),
        {("Patient.name[0].extension[0].value.ofType(boolean)", "type")},
    ),
    "unknown part of an extension": (
        with_value(INS, "nonsense", "extension", 0, "extension", 0, "url"),
        {("Patient.extension[0].extension[0]", "extension-part")},
    ),
    "extension in the wrong place": (
        with_value(INS, INS["name"][0]["extension"], "identifier", 0, "extension"),
        {("Patient.identifier[0].extension[0]", "extension-context")},
    ),
    "unknown status code": (with_value(SLOT, "open", "status"), {("Slot.status", "binding")}),
    "instant without zone": (with_value(SLOT, "2024-05-06T07:00:00", "start"), {("Slot.start", "instant")}),
    "reference to another type": (
        with_value(SLOT, {"reference": "Patient/1"}, "schedule"), {("Slot.schedule", "reference-target")}
    ),
    "unknown element": (with_value(SLOT, "x", "zone"), {("Slot.zone", "unknown-element")}),
    "measurement in another code": (
        with_value(PRESSURE, "8302-2", "code", "coding", 0, "code"), {("Observation.code", "slice-min")}
    ),
    "measurement without a value": (without(PRESSURE, "valueQuantity"), {("Observation", "vs-2")}),
    "measurement of another unit": (
        with_value(PRESSURE, "m", "valueQuantity", "code"), {("Observation.value.ofType(Quantity).code", "binding")}
    ),
    "measurement with a year only": (
        with_value(PRESSURE, "2024", "effectiveDateTime"), {("Observation.effective.ofType(dateTime)", "vs-1")}
    ),
    "measurement of another category": (
        with_value(PRESSURE, "exam", "category", 0, "coding", 0, "code"), {("Observation", "slice-min")}
    ),
}  # fmt: skip


def test_sound_samples_pass(validator: Validator) -> None:
    assert [broken(validator, each) for each in (INS, SLOT, PRESSURE)] == [set()] * 3


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(validator: Validator, name: str) -> None:
    resource, expected = FAULTS[name]
    assert broken(validator, resource) == expected


def test_the_order_of_a_document_stands_where_the_extension_pack_allows_it(validator: Validator) -> None:
    order = {"url": "http://hl7.org/fhir/StructureDefinition/event-basedOn", "valueReference": {"display": "x"}}
    assert not {rule for _, rule in broken(validator, {"resourceType": "Composition", "extension": [order]})} & {
        "extension-context"
    }
    assert ("Observation.extension[0]", "extension-context") in broken(
        validator, {"resourceType": "Observation", "extension": [order]}
    )


def test_every_official_profile_compiles(validator: Validator) -> None:
    """Each can be applied to something of its type, and only the logical models cannot be used."""
    unusable = []
    for definition in validator.registry.definitions("StructureDefinition"):
        header = definition.header
        resource = {"resourceType": header.type if header.kind == "resource" else "Basic"}
        issues = validator.validate(resource, [header.url])
        if any("cannot be used" in issue.message for issue in issues):
            unusable.append(header.kind)
    assert set(unusable) == {"logical"}


# Any input ------------------------------------------------------------------------------------------------------------

NAMES = ["resourceType", "meta", "profile", "extension", "url", "identifier", "system", "value", "coding", "contained",
         "entry", "resource", "fullUrl", "name", "given", "_given", "reference", "managingOrganization",
         "id"]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from([f"{FR}fr-core-patient-ins", f"{FR}fr-core-identity-reliability", "#", "#a", "urn:oid:1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=300)
@given(
    st.sampled_from(["Patient", "Bundle", "Observation", "CareTeam"]),
    st.dictionaries(st.sampled_from(NAMES), ANYTHING),
    st.sampled_from([f"{FR}fr-core-patient-ins", f"{CISIS}cds/StructureDefinition/cds-bundle-transaction-creation"]),
)
def test_nothing_raises(validator: Validator, kind: str, content: Resource, url: str) -> None:
    for resource in (content, {**content, "resourceType": kind}):
        issues = validator.validate(resource, [url])
        assert all(isinstance(issue, Issue) and issue.message and issue.rule for issue in issues)


@settings(max_examples=100)
@given(ANYTHING)
def test_anything_at_all_may_be_validated(validator: Validator, value: Any) -> None:
    assert all(issue.rule for issue in validator.validate(value))


def test_deep_nesting_is_said(validator: Validator) -> None:
    item: Resource = {"linkId": "0"}
    for number in range(3000):
        item = {"linkId": str(number), "item": [item]}
    resource = {"resourceType": "QuestionnaireResponse", "status": "completed", "item": [item]}
    issues = validator.validate(resource)
    assert issues[0].rule == "json-depth"


def test_large_resources_are_no_problem(validator: Validator) -> None:
    """5 MB of values, in a slice and with extensions."""
    identifier = {**INS["identifier"][0], "extension": [{"url": "http://example.org/x", "valueString": "x" * 1000}]}
    resource = with_value(
        INS, [*INS["identifier"], *[{**identifier, "value": str(n)} for n in range(4000)]], "identifier"
    )
    start = time.perf_counter()
    issues = validator.validate(resource)
    assert time.perf_counter() - start < 10
    assert any(issue.rule == "slice-max" or issue.rule == "not-checked" for issue in issues)


def test_base_check_stays_fast(validator: Validator) -> None:
    plan = {
        "resourceType": "CarePlan", "status": "active", "intent": "plan", "title": "x",
        "subject": {"reference": "Patient/1"},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "18776-5"}]}] * 2,
        "period": {"start": "2024-05-06"}, "author": {"reference": "PractitionerRole/1"},
        "goal": [{"reference": f"Goal/{n}"} for n in range(5)],
        "activity": [{"detail": {"status": "scheduled", "description": "x"}}] * 6,
    }  # fmt: skip
    check(plan)
    start = time.perf_counter()
    for _ in range(200):
        check(plan)
    assert (time.perf_counter() - start) / 200 < 0.001  # 0.1 ms on an idle machine


DAMAGES = st.sampled_from([None, [], {}, "", "x", 3, True, [None], [[]], [{}], {"x": {}}, ["x"]])


def damaged(value: Any, draw: Any) -> Any:
    """A copy of a definition in which one part is lost or something else."""
    path: list[Any] = []
    here = value
    while isinstance(here, dict | list) and here and (not path or draw(st.integers(0, 5))):
        step = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else list(range(len(here)))))
        path.append(step)
        here = here[step]
    changed = copy.deepcopy(value)
    owner = changed
    for step in path[:-1]:
        owner = owner[step]
    if draw(st.booleans()):
        del owner[path[-1]]
    else:
        owner[path[-1]] = draw(DAMAGES)
    return changed


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_definitions_raise_nothing(validator: Validator, data: st.DataObject) -> None:
    kinds = {
        f"{FR}fr-core-patient-ins": "StructureDefinition",
        f"{FR}fr-core-identity-reliability": "StructureDefinition",
        f"{R4}Identifier": "StructureDefinition",
        "https://hl7.fr/ig/fhir/core/ValueSet/fr-core-vs-patient-gender-INS": "ValueSet",
        V2_0203: "CodeSystem",
    }
    url = data.draw(st.sampled_from(sorted(kinds)))
    registry = Registry([])
    for kind in ("StructureDefinition", "ValueSet", "CodeSystem"):
        for definition in validator.registry.definitions(kind):
            if definition.header.url != url:
                registry.add(definition)
    sound = validator.registry.find(kinds[url], url)
    assert sound is not None
    try:
        registry.add_resource(damaged(sound.resource, data.draw))
    except PackageError:
        return  # told apart when it is read
    assert all(issue.rule for issue in Validator(registry).validate(INS))


def test_required_profiles_count_whatever_is_claimed(packages: Path) -> None:
    validator = Validator(load(packages))
    url = f"{FR}fr-core-patient-ins"
    patient = {"resourceType": "Patient"}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001", "resource": patient}],
    }
    for resource, place in ((patient, "Patient"), (bundle, "Bundle.entry[0].resource")):
        assert not any(one.severity == "error" for one in validator.validate(resource))
        required = validator.validate(resource, required={"Patient": (url,)})
        assert place in {one.path for one in required if one.severity == "error"}
    assert not any(
        one.severity == "error"
        for one in validator.validate({"resourceType": "Basic", "code": {"text": "x"}}, required={"Patient": (url,)})
    )


def test_threads_share_a_validator(packages: Path) -> None:
    fresh, known = Validator(load(packages)), Validator(load(packages))
    resource = {"resourceType": "Patient", "name": [{"family": "X"}], "meta": {"profile": [f"{FR}fr-core-patient-ins"]}}
    expected = known.validate(resource)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fresh.validate(resource), range(16)))
    assert found == [expected] * 16
