"""The official judges on every notification: schema and every generic Schematron profile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from relais.cda.model import II
from relais.cda.reader import read
from relais.cda.validation import Report, Validator
from relais.cda.writer import write
from relais.mappings.context import DocumentVersion, Mapped
from relais.profiles import structure
from support.events import assert_events
from support.notifications import EMISSION, NOTICES, bundle_of, notices, notify, request
from support.rules import INVENTED

Resource = dict[str, Any]

PROFILES = {"structurationMinimale", "IHE", "ModelesDeContenusCDA", "terminologies"}
ANS_MODELS = {"Documents joints", "Documents référencés"}


def assert_conformant(report: Report, mapped: Mapped) -> None:
    """No failed assert at all, every generic profile ran and had something to say, and Relais' own checks agree."""
    assert report.conformant, report.to_text()
    assert report.acceptable, report.to_text()
    with_documents = any(section.title in ANS_MODELS for section in mapped.document.sections)
    expected = PROFILES | ({"Modeles_ANS"} if with_documents else set())
    assert {profile.name for profile in report.profiles if profile.fired} == expected
    assert [problem for profile in report.profiles for problem in profile.problems] == []
    assert [issue for issue in report.consistency if issue.rule not in INVENTED] == []


@pytest.mark.parametrize("name", NOTICES)
def test_the_notifications_are_valid_fhir(name: str) -> None:
    assert structure.check(NOTICES[name]) == []


def test_the_notifications_are_many() -> None:
    assert len(NOTICES) >= 20


@pytest.mark.parametrize("name", NOTICES)
def test_a_notification_before_the_judges(validator: Validator, name: str) -> None:
    mapped = notify(NOTICES[name])
    assert_conformant(validator.validate(write(mapped.document)), mapped)


def test_a_withdrawal_before_the_judges(validator: Validator) -> None:
    version = DocumentVersion(2, II("2.25.1"))
    mapped = notify(bundle_of(request(status="revoked")), replace(EMISSION, version=version))
    assert_conformant(validator.validate(write(mapped.document)), mapped)


@pytest.mark.parametrize("name", NOTICES)
def test_what_the_template_demands_and_no_judge_verifies(name: str) -> None:
    assert_events(write(notify(NOTICES[name]).document))


@pytest.mark.parametrize("name", NOTICES)
def test_what_is_written_is_read_back(name: str) -> None:
    written = write(notify(NOTICES[name]).document)
    again = read(written)
    assert again.issues == []
    assert write(again.document) == written


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(notices())
def test_any_notification_before_the_judges(validator: Validator, bundle: Resource) -> None:
    assert structure.check(bundle) == []
    mapped = notify(bundle)
    assert_conformant(validator.validate(write(mapped.document)), mapped)
    assert write(mapped.document) == write(notify(bundle).document)
