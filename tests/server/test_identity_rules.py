"""Identity rules on FHIR resources: INS, traits, national numbers; what writes that break them meet."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from relais.profiles.packages import Registry
from relais.server.conformance import Conformance
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.write_policy import WritePolicy
from relais.server.identity_rules import check
from relais.server.settings import Settings

NIR, NIA, TEST, DEMO = (f"urn:oid:1.2.250.1.213.1.4.{arc}" for arc in (8, 9, 10, 11))
FR_CORE = "https://hl7.fr/ig/fhir/core/StructureDefinition/"
VALID = "279035121518989"

QUALIFIED: dict[str, Any] = {
    "resourceType": "Patient",
    "extension": [
        {
            "url": f"{FR_CORE}fr-core-identity-reliability",
            "extension": [{"url": "identityStatus", "valueCoding": {"code": "VALI"}}],
        },
        {
            "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
            "valueAddress": {
                "extension": [{"url": f"{FR_CORE}fr-core-address-insee-code", "valueCoding": {"code": "51215"}}]
            },
        },
    ],
    "identifier": [{"use": "official", "system": TEST, "value": VALID}],
    "name": [{"use": "official", "family": "PAT-TROIS", "given": ["DOMINIQUE"]}],
    "gender": "female",
    "birthDate": "1979-03-15",
}


def patient(*identifiers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": list(identifiers), **more}


def ins(value: str, system: str = TEST) -> dict[str, Any]:
    return {"system": system, "value": value}


def found(resource: Any, environment: str = "test") -> list[tuple[str, str]]:
    """(severity, path) of everything but what says that an identity is not qualified."""
    issues = check(resource, environment)
    return [(one.severity, one.path) for one in issues if one.severity != "information"]


def test_a_qualified_identity_passes() -> None:
    assert check(QUALIFIED, "test") == []


@pytest.mark.parametrize("value", [VALID, "277076322082910", "255069999999934", "260052B03300224", "160012A00400178"])
def test_right_keys_pass(value: str) -> None:
    assert found(patient(ins(value))) == []


@pytest.mark.parametrize(
    "value",
    [
        "279035121518988",  # key
        "123456789012244",  # key
        "27903512151898",  # length
        "2 79 03 51 215 189 89",  # spaces
        "279032C21518989",  # 2C
        "A79035121518989",
        "٢٧٩٠٣٥١٢١٥١٨٩٨٩",  # digits, but not these
    ],
)
def test_wrong_numbers_are_errors_that_do_not_repeat_them(value: str) -> None:
    issues = [one for one in check(patient(ins(value)), "test") if one.severity == "error"]
    assert [(one.path, one.rule) for one in issues] == [("Patient.identifier[0].value", "ins")]
    assert value not in issues[0].message


def test_each_environment_has_its_oids() -> None:
    assert found(patient(ins(VALID)), "production") == [("error", "Patient.identifier[0].system")]
    assert found(patient(ins(VALID, DEMO)), "production") == [("error", "Patient.identifier[0].system")]
    for system in (NIR, NIA):
        assert found(patient(ins(VALID, system)), "production") == []
        assert found(patient(ins(VALID, system)), "test") == [("warning", "Patient.identifier[0].system")]


def test_a_type_of_ins_under_another_system_is_doubtful() -> None:
    typed = {"type": {"coding": [{"code": "INS-NIR"}]}, "system": "urn:oid:1.2.3", "value": VALID}
    assert found(patient(typed)) == [("warning", "Patient.identifier[0].system")]


def test_an_ins_without_a_qualified_identity_is_said_to_stay() -> None:
    (issue,) = check(patient(ins(VALID)), "test", "fr")
    assert (issue.severity, issue.path) == ("information", "Patient")
    assert "ne sort pas" in issue.message


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"gender": "male"}, "Patient.gender"),
        ({"birthDate": "1980-03-15"}, "Patient.birthDate"),
        ({"birthDate": "1979-04-15"}, "Patient.birthDate"),
        ({"birthDate": "1979"}, "Patient"),
        ({"gender": "other"}, "Patient"),
        ({"name": [{"use": "official", "given": ["DOMINIQUE"]}]}, "Patient"),
        ({"name": [{"use": "usual", "family": "PAT-TROIS", "given": ["DOMINIQUE"]}]}, "Patient"),
    ],
)
def test_traits_that_are_missing_or_disagree_are_doubts(change: dict[str, Any], path: str) -> None:
    issues = found(QUALIFIED | change)
    assert issues
    assert set(issues) == {("warning", path)}


@pytest.mark.parametrize(("code", "passes"), [("2A004", True), ("99127", True), ("99999", False), ("5121", False)])
def test_the_place_of_birth_is_a_cog_code(code: str, passes: bool) -> None:
    changed = copy.deepcopy(QUALIFIED)
    changed["extension"][1]["valueAddress"]["extension"][0]["valueCoding"]["code"] = code
    assert found(changed) == ([] if passes else [("warning", "Patient")])


@pytest.mark.parametrize(
    ("resource_type", "system", "right", "wrong"),
    [
        ("Practitioner", "https://rpps.esante.gouv.fr", "10001234565", "10001234566"),
        ("Practitioner", "urn:oid:1.2.250.1.71.4.2.1", "810001234565", "810001234566"),
        ("Practitioner", "urn:oid:1.2.250.1.71.4.2.1", "810001234565", "10001234565"),
        ("Organization", "https://finess.esante.gouv.fr", "010000008", "010000009"),
        ("Organization", "https://sirene.fr", "356000000", "356000001"),
        ("Organization", "https://sirene.fr", "35600000000048", "35600000000049"),
        ("Organization", "urn:oid:1.2.250.1.71.4.2.2", "1010000008", "1010000009"),
        ("Organization", "urn:oid:1.2.250.1.71.4.2.2", "335600000000048", "335600000000049"),
    ],
)
def test_check_digits_of_professionals_and_structures(resource_type: str, system: str, right: str, wrong: str) -> None:
    def numbered(value: str) -> dict[str, Any]:
        return {"resourceType": resource_type, "identifier": [{"system": system, "value": value}]}

    assert found(numbered(right)) == []
    assert found(numbered(wrong)) == [("warning", f"{resource_type}.identifier[0].value")]


def test_contained_and_bundled_resources_are_judged() -> None:
    wrong = patient(ins("123456789012244"))
    task = {"resourceType": "Task", "contained": [wrong]}
    bundle = {"resourceType": "Bundle", "entry": [{}, {"resource": task}]}
    assert found(bundle) == [("error", "Bundle.entry[1].resource.contained[0].identifier[0].value")]


@pytest.mark.parametrize("value", [None, 1, [], {}, {"resourceType": 1}, {"resourceType": "Patient", "identifier": 3}])
def test_what_is_no_resource_has_no_identity(value: Any) -> None:
    assert check(value, "test") == []


# Policy ---------------------------------------------------------------------------------------------------------------


def policy(**settings: str) -> WritePolicy:
    given = Settings(fhir_packages="none", **settings)  # type: ignore[arg-type]
    return WritePolicy.of(given, Conformance(Registry(()), given))


WRONG = patient(ins("279035121518988", NIR))


def test_production_refuses_what_cannot_be_an_ins() -> None:
    with pytest.raises(FhirError) as raised:
        policy(ins_environment="production").judge([(WRONG, "Bundle.entry[0].resource")], "fr")
    assert raised.value.status == 422
    assert raised.value.issues[0].path == "Bundle.entry[0].resource.identifier[0].value"
    assert "clé" in raised.value.issues[0].message


def test_a_test_instance_warns() -> None:
    remarks = policy().judge([(WRONG, "")], "en")
    assert ("warning", "Patient.identifier[0].value") in [(one.severity, one.path) for one in remarks]


def test_the_setting_wins_over_the_environment() -> None:
    assert policy(ins_environment="production", identity_rules="off").judge([(WRONG, "")], "en") == []
    assert policy(ins_environment="production", identity_rules="warn").judge([(WRONG, "")], "en") != []
    with pytest.raises(FhirError):
        policy(identity_rules="refuse").judge([(WRONG, "")], "en")


def test_doubts_are_never_refused() -> None:
    doubtful = QUALIFIED | {"gender": "male"}
    assert [one.severity for one in policy(identity_rules="refuse").judge([(doubtful, "")], "en")] == ["warning"]
