"""The official judges on every plan: schema and every Schematron profile, newest and of the volet's time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

import relais.server
from relais.cda.rule_sets import CURRENT, OF_2023_12
from relais.cda.validation import Report, Validator
from relais.cda.writer import write
from relais.mappings.to_cda import convert
from relais.profiles import structure
from support.plans import DEPLOYMENT, EMISSION, PLANS, bundles

Resource = dict[str, Any]

MODE_2022 = replace(EMISSION, deployment=replace(DEPLOYMENT, problem_codes="2022"))
PROFILES = {
    "structurationMinimale",
    "IHE",
    "ModelesDeContenusCDA",
    "Modeles_ANS",
    "terminologies",
    "PPS-PAERPA_2022.01",
    "PPS-PAERPA_2022.01 header (orphan pattern)",
}


@pytest.fixture(scope="module")
def newest(cisis: Path) -> Validator:
    """The newest official rules."""
    return Validator(cisis, CURRENT)


@pytest.fixture(scope="module")
def of_the_volet(cisis: Path) -> Validator:
    """The official rules of December 2023, the last to hold the volet's codes."""
    return Validator(cisis, OF_2023_12)


def assert_conformant(report: Report) -> None:
    """No failed assert at all, every profile ran and had something to say, and Relais' own checks agree."""
    assert report.conformant, report.to_text()
    assert report.acceptable, report.to_text()
    assert {profile.name for profile in report.profiles if profile.fired} == PROFILES
    assert [problem for profile in report.profiles for problem in profile.problems] == []


@pytest.mark.parametrize("name", PLANS)
def test_the_plans_are_valid_fhir(name: str) -> None:
    assert structure.check(PLANS[name]) == []


def test_the_plans_are_many() -> None:
    assert len(PLANS) >= 30


@pytest.mark.parametrize("name", PLANS)
def test_newest_rules(newest: Validator, name: str) -> None:
    assert_conformant(newest.validate(write(convert(PLANS[name], EMISSION).document)))


@pytest.mark.parametrize("name", PLANS)
def test_rules_of_the_volet_in_mode_2022(of_the_volet: Validator, name: str) -> None:
    assert_conformant(of_the_volet.validate(write(convert(PLANS[name], MODE_2022).document)))


@pytest.mark.parametrize(("name", "withdrawn"), [("minimal", 0), ("full", 2), ("several-problems-and-goals", 6)])
def test_mode_2022_fails_the_newest_rules_only_where_they_contradict_each_other(
    newest: Validator, name: str, withdrawn: int
) -> None:
    report = newest.validate(write(convert(PLANS[name], MODE_2022).document))
    assert len(report.official_errors) == withdrawn, report.to_text()
    assert report.expected_failures == report.official_errors
    assert report.conformant is (withdrawn == 0)
    assert report.acceptable


def test_the_plan_of_the_demo_is_valid_approved_and_conformant(newest: Validator) -> None:
    plan = msgspec.json.decode(Path(relais.server.__file__).with_name("demo_plan.json").read_bytes())
    assert structure.check(plan) == []
    mapped = convert(plan, EMISSION)
    assert {issue.severity for issue in mapped.issues} <= {"information"}  # what the volet has no place for
    assert_conformant(newest.validate(write(mapped.document)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bundle=bundles())
def test_generated_plans(newest: Validator, bundle: Resource) -> None:
    assert structure.check(bundle) == []
    assert_conformant(newest.validate(write(convert(bundle, EMISSION).document)))
