"""The official judges on every agenda, single and as a snapshot: schema and every generic Schematron profile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from relais.cda.datatypes import datetime_from_ts
from relais.cda.reader import read
from relais.cda.validation import Report, Validator
from relais.cda.writer import write
from relais.mappings.context import DocumentVersion, Mapped
from relais.profiles import structure
from support.appointments import AGENDAS, agendas, single, snapshot
from support.events import assert_events
from support.plans import BARE_EMISSION, EMISSION
from support.rules import INVENTED

Resource = dict[str, Any]

PROFILES = {"structurationMinimale", "IHE", "ModelesDeContenusCDA", "terminologies"}


def assert_conformant(report: Report, *, with_documents: bool = False) -> None:
    """No failed assert at all, every generic profile ran and had something to say, and Relais' own checks agree."""
    assert report.conformant, report.to_text()
    assert report.acceptable, report.to_text()
    expected = PROFILES | ({"Modeles_ANS"} if with_documents else set())
    assert {profile.name for profile in report.profiles if profile.fired} == expected
    assert [problem for profile in report.profiles for problem in profile.problems] == []
    assert [issue for issue in report.consistency if issue.rule not in INVENTED] == []


def has_documents(mapped: Mapped) -> bool:
    """Whether sections of ANS models stand beside the appointments."""
    return len(mapped.document.sections) > 1


@pytest.mark.parametrize("name", AGENDAS)
def test_the_agendas_are_valid_fhir(name: str) -> None:
    assert structure.check(AGENDAS[name]) == []


def test_the_agendas_are_many() -> None:
    assert len(AGENDAS) >= 20


@pytest.mark.parametrize("name", AGENDAS)
def test_one_appointment_before_the_judges(validator: Validator, name: str) -> None:
    mapped = single(AGENDAS[name])
    assert_conformant(validator.validate(write(mapped.document)), with_documents=has_documents(mapped))


@pytest.mark.parametrize("name", AGENDAS)
def test_the_whole_agenda_before_the_judges(validator: Validator, name: str) -> None:
    mapped = snapshot(AGENDAS[name])
    assert_conformant(validator.validate(write(mapped.document)), with_documents=has_documents(mapped))


def test_a_replacing_version_before_the_judges(validator: Validator) -> None:
    first = single(AGENDAS["minimal"])
    version = DocumentVersion(2, first.document.header.id)
    second = single(AGENDAS["minimal"], replace(EMISSION, version=version))
    assert_conformant(validator.validate(write(second.document)))


def test_an_emitter_that_states_nothing_before_the_judges(validator: Validator) -> None:
    assert_conformant(validator.validate(write(single(AGENDAS["every-detail"], BARE_EMISSION).document)))


@pytest.mark.parametrize("name", AGENDAS)
def test_what_the_template_demands_and_no_judge_verifies(name: str) -> None:
    for mapped in (single(AGENDAS[name]), snapshot(AGENDAS[name])):
        assert_events(write(mapped.document))


@pytest.mark.parametrize("name", AGENDAS)
def test_what_is_written_is_read_back(name: str) -> None:
    for mapped in (single(AGENDAS[name]), snapshot(AGENDAS[name])):
        again = read(write(mapped.document))
        assert again.issues == []
        assert write(again.document) == write(mapped.document)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(agendas())
def test_any_agenda_before_the_judges(validator: Validator, bundle: Resource) -> None:
    for mapped in (single(bundle), snapshot(bundle)):
        assert_conformant(validator.validate(write(mapped.document)))


@settings(max_examples=60, deadline=None)
@given(agendas())
def test_any_agenda_is_the_same_twice_and_says_every_appointment(bundle: Resource) -> None:
    mapped = snapshot(bundle)
    assert write(mapped.document) == write(snapshot(bundle).document)
    appointments = [
        entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Appointment"
    ]
    entries = mapped.document.sections[0].entries
    stated = {ii.extension for entry in entries for ii in entry.ids}
    assert {one["identifier"][0]["value"] for one in appointments} <= stated
    assert_events(write(mapped.document))
    starts = [datetime_from_ts(entry.time.low or "") for entry in entries if entry.time]
    assert starts == sorted(starts)
