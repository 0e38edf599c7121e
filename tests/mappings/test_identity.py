"""Identifiers both ways, national numbers, and when an INS may leave."""

from __future__ import annotations

import pytest

from relais.cda.model import II
from relais.cda.templates import INS_NIA, INS_NIR, INS_NIR_DEMO, INS_NIR_TEST, PS_IDNAT, STRUCT_IDNAT
from relais.mappings import identity
from relais.mappings.context import Deployment
from support.plans import DEPLOYMENT, INS_TEST, IPP, full_ins, minimal_plan

UUID = "3c36b17f-b79b-4dd1-abef-f109673428c6"


@pytest.mark.parametrize(
    ("identifier", "ii"),
    [
        ({"system": "urn:oid:1.2.3", "value": "A1"}, II("1.2.3", "A1")),
        ({"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.4"}, II("1.2.3.4")),
        ({"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{UUID}"}, II(UUID.upper())),
        ({"system": f"urn:uuid:{UUID}", "value": "7"}, II(UUID.upper(), "7")),
    ],
)
def test_identifiers_with_a_root_go_both_ways(identifier: dict[str, str], ii: II) -> None:
    assert identity.ii_of(identifier) == ii
    assert identity.identifier_of(ii) == identifier


def test_a_url_system_gets_a_computed_root_and_keeps_its_value() -> None:
    first = identity.ii_of({"system": "https://exemple.fr/plans", "value": "12"})
    second = identity.ii_of({"system": "https://exemple.fr/plans", "value": "13"})
    other = identity.ii_of({"system": "https://exemple.fr/objectifs", "value": "12"})
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.root is not None
    assert first.root.startswith("2.25.")
    assert (first.root, first.extension, second.extension) == (second.root, "12", "13")
    assert other.root != first.root


def test_an_identifier_without_value_or_domain_is_nothing() -> None:
    assert identity.ii_of({"system": "urn:oid:1.2.3"}) is None
    assert identity.any_ii_of({"value": "12"}) is None  # the same number of another structure is another person's
    assert identity.any_ii_of({"system": " ", "value": "12"}) is None
    assert identity.identifier_of(II(null_flavor="UNK")) is None


@pytest.mark.parametrize(
    ("system", "value", "extension"),
    [
        (identity.RPPS, "10101234567", "810101234567"),
        (identity.RPPS, "810101234567", "810101234567"),  # published examples put the prefixed number here
        (identity.RPPS, "1010123456", None),
        (identity.RPPS, "1010123456A", None),
        (identity.RPPS, "910101234567", None),
        (identity.ADELI, "759312345", "0759312345"),
        (f"urn:oid:{PS_IDNAT}", "10101234567", "810101234567"),  # a published CDA example leaves the prefix out
        (f"urn:oid:{PS_IDNAT}", "3750100125/1453", "3750100125/1453"),
        ("urn:oid:1.2.3", "10101234567", None),
    ],
)
def test_ps_idnat(system: str, value: str, extension: str | None) -> None:
    expected = II(PS_IDNAT, extension) if extension else None
    assert identity.professional_id({"system": system, "value": value}) == expected


@pytest.mark.parametrize(
    ("system", "value", "extension"),
    [
        (identity.FINESS, "910019447", "1910019447"),
        (identity.FINESS, "91 001 944 7", "1910019447"),
        (identity.FINESS, "1910019447", "1910019447"),
        (identity.FINESS, "2A0000014", "12A0000014"),
        (identity.FINESS, "91001944", None),
        (identity.SIRENE, "219102270", "2219102270"),
        (identity.SIRENE, "21910227000019", "321910227000019"),
        (identity.SIRENE, "2191022", None),
        (identity.RPPS_RANK, "1010123456701", "41010123456701"),
        (f"urn:oid:{STRUCT_IDNAT}", "1910019447", "1910019447"),
        ("urn:oid:1.2.3", "910019447", None),
    ],
)
def test_struct_idnat(system: str, value: str, extension: str | None) -> None:
    expected = II(STRUCT_IDNAT, extension) if extension else None
    assert identity.structure_id({"system": system, "value": value}) == expected


@pytest.mark.parametrize(
    ("statuses", "qualified"),
    [(["VALI"], True), (["PROV"], False), ([], False), (["VALI", "DOUT"], False), (["FICT"], False)],
)
def test_only_a_validated_identity_with_an_ins_is_qualified(statuses: list[str], qualified: bool) -> None:
    plan = minimal_plan()
    plan["patient"]["extension"][0]["extension"] = [
        {"url": "identityStatus", "valueCoding": {"code": status}} for status in statuses
    ]
    assert identity.is_qualified(plan["patient"]) is qualified


def test_a_validated_identity_without_ins_is_not_qualified() -> None:
    plan = minimal_plan()
    plan["patient"]["identifier"][0]["use"] = "old"
    assert not identity.is_qualified(plan["patient"])


def test_social_security_numbers_and_former_ins_are_no_identifiers_of_a_document() -> None:
    patient = {
        "identifier": [
            {"system": "urn:oid:1.2.250.1.213.1.4.13", "value": "1"},
            {"system": "urn:oid:1.2.250.1.213.1.4.14", "value": "2"},
            {"system": "urn:oid:1.2.250.1.213.1.4.2", "value": "3"},
            {"system": INS_TEST, "value": "4", "use": "old"},
            {"system": "urn:oid:1.2.9", "value": "5"},
            {"system": IPP, "value": "6", "type": {"coding": [{"code": "PI"}]}},
        ]
    }
    assert identity.ins_identifiers(patient) == []
    assert [one["value"] for one in identity.local_identifiers(patient)] == ["6", "5"]


@pytest.mark.parametrize(
    ("environment", "root", "may_leave"),
    [
        ("test", INS_NIR_TEST, True),
        ("test", INS_NIR_DEMO, True),
        ("test", INS_NIR, False),
        ("production", INS_NIR, True),
        ("production", INS_NIA, True),
        ("production", INS_NIR_TEST, False),
    ],
)
def test_test_and_production_ins_never_mix(environment: str, root: str, may_leave: bool) -> None:
    deployment = Deployment(ins_environment="production" if environment == "production" else "test")
    assert identity.may_leave(root, deployment) is may_leave


@pytest.mark.parametrize(
    ("ins", "gender", "birth", "mismatches"),
    [
        ("279035121518989", "female", "1979-03-28", []),
        ("279035121518989", "male", "1979-03-28", ["gender"]),
        ("279035121518989", "female", "1979-04-28", ["birthDate"]),
        ("279035121518989", "female", "1980-03-28", ["birthDate"]),
        ("255229999999934", "female", "1955-06-01", []),  # month 22: unknown, says nothing
        ("279035121518989", "unknown", "1979", []),
        (full_ins("7790351215189"), "female", "1979-03-28", ["gender"]),
        (full_ins("8790351215189"), "female", "1979-03-28", []),
    ],
)
def test_ins_and_traits_that_disagree(ins: str, gender: str, birth: str, mismatches: list[str]) -> None:
    assert list(identity.ins_mismatches(ins, {"gender": gender, "birthDate": birth})) == mismatches


def test_document_ids_are_stable_and_differ_by_version() -> None:
    lineage = II("1.2.3", "P1")
    first = identity.document_id(lineage, "pps", 1, DEPLOYMENT)
    assert first == identity.document_id(lineage, "pps", 1, DEPLOYMENT)
    assert first != identity.document_id(lineage, "pps", 2, DEPLOYMENT)
    assert first != identity.document_id(II("1.2.3", "P2"), "pps", 1, DEPLOYMENT)
    assert first.extension is None
    assert first.root is not None
    assert len(first.root) <= 44


def test_two_emitters_make_no_common_ids() -> None:
    plan, lineage = {"resourceType": "CarePlan", "id": "1"}, II("1.2.3", "P1")
    emitters = [
        DEPLOYMENT,
        Deployment(organization_finess="750000001"),
        Deployment(organization_finess="750000019"),
        Deployment(organization_name="DAC"),
        Deployment(oid_arc="1.2.250.1.999.1"),
    ]
    assert len({str(identity.set_id(plan, "pps", one)) for one in emitters}) == len(emitters)
    assert len({str(identity.document_id(lineage, "pps", 1, one)) for one in emitters}) == len(emitters)


def test_document_ids_under_the_arc_of_the_emitter_fit_xds() -> None:
    arc = "1.2.250.1.213.99999.1"
    found = identity.document_id(II("1.2.3", "P1"), "pps", 9999, Deployment(oid_arc=arc))
    assert found.root is not None
    assert found.root.startswith(f"{arc}.1.")
    assert found.root.endswith(".9999")
    assert len(found.root) <= 64


def test_lineage_is_the_business_identifier_then_the_logical_id() -> None:
    plan = {"resourceType": "CarePlan", "id": "a1"}
    named = plan | {"identifier": [{"system": "urn:oid:1.2.3", "value": "P1"}]}
    assert identity.set_id(named, "pps", DEPLOYMENT) == II("1.2.3", "P1")
    assert identity.set_id(plan, "pps", DEPLOYMENT) == identity.set_id({**plan, "status": "active"}, "pps", DEPLOYMENT)
    assert identity.set_id(plan, "pps", DEPLOYMENT) != identity.set_id(plan, "agenda", DEPLOYMENT)
    assert identity.set_id({"resourceType": "CarePlan"}, "pps", DEPLOYMENT) is None


def test_the_emitter_of_the_tests_has_a_finess() -> None:
    assert identity.finess_id(DEPLOYMENT.organization_finess or "") == II(STRUCT_IDNAT, "1910019447")


@pytest.mark.parametrize(
    ("one", "other", "decisive"),
    [
        ([II(INS_NIR, "1")], [II(INS_NIR, "1 "), II(IPP, "9")], {(INS_NIR, "1")}),
        ([II(INS_NIR, "1"), II(IPP, "9")], [II(INS_NIR, "2"), II(IPP, "9")], set()),
        ([II(INS_NIA, "1"), II(IPP, "9")], [II(INS_NIR, "2"), II(IPP, "9")], {(IPP, "9")}),
        ([II(INS_NIA, "1"), II(INS_NIR, "2")], [II(INS_NIR, "2")], {(INS_NIR, "2")}),
        ([II(IPP, "9")], [II(INS_NIR, "2"), II(IPP, "9")], {(IPP, "9")}),
        ([II(IPP, "9")], [II(IPP, "8")], set()),
        ([II(INS_NIA, "1")], [II(INS_NIR, "1")], set()),
        ([], [], set()),
        ([II("1.2.250.1.213.1.4.13", "279035121518989")], [II("1.2.250.1.213.1.4.13", "279035121518989")], set()),
    ],
)
def test_numbers_that_show_one_person(one: list[II], other: list[II], decisive: set[tuple[str, str]]) -> None:
    assert identity.decisive_numbers(one, other) == decisive
    assert identity.decisive_numbers(other, one) == decisive
