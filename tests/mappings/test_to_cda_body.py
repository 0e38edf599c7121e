"""FHIR → CDA sections of the PPS and PPCS, row by row of docs/mapping-pps.md."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from relais.cda import templates
from relais.cda.errors import MappingError
from relais.cda.model import (
    II,
    Boolean,
    Code,
    Integer,
    Interval,
    Media,
    PersonName,
    Section,
    Statement,
    Text,
)
from relais.cda.narrative import plain_text, text_by_id
from relais.cda.writer import write
from relais.mappings.context import Emission, Mapped
from relais.mappings.to_cda import convert
from support.plans import CISIS, DEPLOYMENT, EMISSION, PLANS, Plan, concept, minimal_plan

Resource = dict[str, Any]


def section_of(plan: Plan | Resource, template: str, emission: Emission = EMISSION) -> Section | None:
    """The section with that CI-SIS template."""
    bundle = plan.bundle() if isinstance(plan, Plan) else plan
    found = [
        section
        for section in convert(bundle, emission).document.sections
        if any(ii.root == template for ii in section.template_ids)
    ]
    return found[0] if found else None


def some_section(plan: Plan | Resource, template: str, emission: Emission = EMISSION) -> Section:
    """The same, which must be there."""
    section = section_of(plan, template, emission)
    assert section is not None
    return section


PROBLEMS = templates.ACTIVE_PROBLEMS[-1]
DIRECTIVES = templates.ADVANCE_DIRECTIVES[-1]
SOCIAL = templates.SOCIAL_PROVISIONS[-1]
PLAN_OF_CARE = templates.CARE_PLAN[-1]
STATUS = templates.DOCUMENT_STATUS[-1]
COMMENT = templates.COMMENT_SECTION[-1]


def said(section: Section, text: Text | None) -> str:
    """The narrative that a reference points to."""
    assert text is not None
    assert text.reference is not None
    return text_by_id(section.text)[text.reference.removeprefix("#")]


def value_of(statement: Statement) -> Code:
    """The only value of an observation, which is coded."""
    (value,) = statement.values
    assert isinstance(value, Code)
    return value


def related(statement: Statement, type_code: str) -> list[Statement]:
    """Statements linked by that type."""
    return [one.statement for one in statement.relationships if one.type_code == type_code]


def walk(statements: list[Statement]) -> Iterator[Statement]:
    """Every statement, depth first."""
    for statement in statements:
        yield statement
        yield from walk([one.statement for one in statement.relationships])


# --- order --------------------------------------------------------------------------------------------------------


def test_sections_stand_in_the_order_of_the_volet() -> None:
    sections = convert(PLANS["full-ppcs"], EMISSION).document.sections
    assert [section.template_ids[-1].root for section in sections] == [
        COMMENT,
        PROBLEMS,
        DIRECTIVES,
        SOCIAL,
        PLAN_OF_CARE,
        COMMENT,
        STATUS,
    ]
    assert all(section.id and section.title and section.text for section in sections)


def test_a_minimal_plan_has_only_what_is_mandatory() -> None:
    sections = convert(PLANS["minimal"], EMISSION).document.sections
    assert [section.template_ids[-1].root for section in sections] == [SOCIAL, PLAN_OF_CARE, STATUS]


@pytest.mark.parametrize("name", PLANS)
def test_ids_of_entries_and_sections_are_unique(name: str) -> None:
    sections = convert(PLANS[name], EMISSION).document.sections
    ids = [ii for section in sections for one in walk(section.entries) for ii in one.ids]
    ids += [section.id for section in sections if section.id]
    keys = [(ii.root, ii.extension) for ii in ids]
    assert len(keys) == len(set(keys))


def test_ids_do_not_depend_on_the_version_of_the_document() -> None:
    later = replace(EMISSION, now=EMISSION.now.replace(month=4))
    first = some_section(PLANS["full"], PLAN_OF_CARE)
    second = some_section(PLANS["full"], PLAN_OF_CARE, later)
    assert first == second


# --- problems -----------------------------------------------------------------------------------------------------


def test_problems_of_the_plan() -> None:
    section = some_section(PLANS["full"], PROBLEMS)
    diabetes, fracture = section.entries
    (problem,) = related(diabetes, "SUBJ")
    assert diabetes.status == "active"
    assert diabetes.time == Interval(low="20260112")
    assert diabetes.ids != problem.ids
    value = value_of(problem)
    assert (value.code, value.system) == ("E11.9", templates.ICD_10)
    assert [one.code for one in value.translations] == ["MED-320"]
    assert said(section, value.original_text) == "Diabète de type 2"
    assert said(section, problem.text) == "Diabète de type 2"
    assert problem.time == Interval(low="200905")
    assert problem.code is not None
    assert problem.code.code == "55607006"
    (comment,) = related(problem, "SUBJ")
    assert said(section, comment.text) == "Suivi deux fois par an."
    (past,) = related(fracture, "SUBJ")
    assert fracture.status == "completed"
    assert fracture.time == Interval(low="20251203", high="20260210")
    assert past.time == Interval(low="20251203", high="20260210")
    assert value_of(past).code is None


@pytest.mark.parametrize(
    ("status", "written", "time"),
    [
        ("active", "active", Interval(low_null_flavor="UNK")),
        ("recurrence", "active", Interval(low_null_flavor="UNK")),
        ("remission", "suspended", Interval(low_null_flavor="UNK")),
        ("inactive", "suspended", Interval(low_null_flavor="UNK")),
        ("resolved", "completed", Interval(low_null_flavor="UNK", high_null_flavor="UNK")),
    ],
)
def test_status_of_a_problem(status: str, written: str, time: Interval) -> None:
    plan = minimal_plan()
    clinical = concept("http://terminology.hl7.org/CodeSystem/condition-clinical", status)
    plan.condition("pain", {"text": "Douleurs"}, clinicalStatus=clinical)
    (entry,) = some_section(plan, PROBLEMS).entries
    assert (entry.status, entry.time) == (written, time)


@pytest.mark.parametrize("status", ["refuted", "entered-in-error"])
def test_what_is_no_problem_is_not_written(status: str) -> None:
    plan = minimal_plan()
    refuted = concept("http://terminology.hl7.org/CodeSystem/condition-ver-status", status)
    plan.condition("wrong", {"text": "Erreur"}, verificationStatus=refuted)
    assert section_of(plan, PROBLEMS) is None


def test_number_of_long_term_conditions() -> None:
    section = some_section(PLANS["ald"], PROBLEMS)
    (ald,) = related(section.entries[0], "SUBJ")
    assert value_of(ald).code == "MED-320"
    (comment,) = related(ald, "SUBJ")
    assert comment.text == Text(reference="#nombre-ALD")
    assert said(section, comment.text) == "2"


def test_a_problem_that_only_names_a_goal_is_not_repeated() -> None:
    section = some_section(PLANS["clinical-codes"], PROBLEMS)
    assert [said(section, related(entry, "SUBJ")[0].text) for entry in section.entries] == [
        "Diabète",
        "Troubles nutritionnels / difficulté à avoir une alimentation adaptée : Dénutrition",
    ]


# --- directives ---------------------------------------------------------------------------------------------------


def test_directives_exist_or_not() -> None:
    (entry,) = some_section(PLANS["full"], DIRECTIVES).entries
    assert entry.values == [Boolean(True)]
    assert entry.time == Interval(value="20241105")
    assert entry.code is not None
    assert entry.code.code == "42348-3"
    (entry,) = some_section(PLANS["directive-no"], DIRECTIVES).entries
    assert entry.values == [Boolean(False)]


def test_a_directive_as_document() -> None:
    section = some_section(PLANS["directive-document"], DIRECTIVES)
    document, ventilation = section.entries
    (media,) = related(document, "SUBJ")
    assert not document.values
    assert document.time == Interval(low="20250101")
    assert media.values == [Media("application/pdf", b"%PDF-1.4\n%%EOF\n")]
    assert ventilation.code is not None
    assert ventilation.code.code == "75787-2"
    assert ventilation.time == Interval(value="202502")
    assert ventilation.values == [Boolean(False)]


RESUSCITATION = concept("http://loinc.org", "75779-9")


def decided(**elements: Any) -> tuple[Statement, str, Mapped]:
    """The entry and the words of a directive about resuscitation."""
    plan = minimal_plan()
    plan.consent("resuscitation", "adr", elements.pop("category", RESUSCITATION), **elements)
    mapped = convert(plan.bundle(), EMISSION)
    section = next(one for one in mapped.document.sections if one.template_ids[-1].root == DIRECTIVES)
    (entry,) = section.entries
    return entry, plain_text(section.text), mapped


@pytest.mark.parametrize(
    ("decision", "value", "words"),
    [("permit", True, "Autorisé par la personne"), ("deny", False, "Refusé par la personne")],
)
def test_the_value_of_an_intervention_is_what_the_person_decides(decision: str, value: bool, words: str) -> None:
    """Never whether the directive exists: "true" would allow what the person refuses (E_directiveAnticipee_fr)."""
    entry, text, mapped = decided(provision={"type": decision}, policyRule={"text": "Avec ma fille"})
    assert entry.code is not None
    assert (entry.code.code, entry.values) == ("75779-9", [Boolean(value)])
    assert f"Réanimation cardiaque et respiratoire : Avec ma fille{words}" in text
    assert not [issue for issue in mapped.issues if "Consent[0].provision" in (issue.path or "")]


def test_an_intervention_of_which_no_decision_is_known_has_no_value() -> None:
    entry, text, mapped = decided(policyRule={"coding": [{"code": "OPTIN"}], "text": "À voir avec le médecin"})
    assert entry.code is not None
    assert (entry.code.code, list(entry.values)) == ("75793-0", [])
    assert "Réanimation cardiaque et respiratoire : À voir avec le médecin" in text
    assert ("warning", "Consent[0].provision.type") in {(one.severity, one.path) for one in mapped.issues}


def test_the_document_of_an_intervention_bears_its_name_and_the_decision() -> None:
    pdf = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()
    attachment = {"contentType": "application/pdf", "data": pdf}
    entry, text, _ = decided(provision={"type": "deny"}, sourceAttachment=attachment)
    assert entry.code is not None
    assert (entry.code.code, list(entry.values)) == ("75793-0", [])
    assert "Réanimation cardiaque et respiratoire – Refusé par la personne" in text


def test_a_decision_that_is_no_longer_in_force_is_not_written() -> None:
    plan = minimal_plan()
    plan.consent("resuscitation", "adr", RESUSCITATION, status="inactive", provision={"type": "deny"})
    mapped = convert(plan.bundle(), EMISSION)
    assert DIRECTIVES not in {one.template_ids[-1].root for one in mapped.document.sections}
    assert "Consent[0].status" in {issue.path for issue in mapped.issues}


@pytest.mark.parametrize("name", ["provision", "purpose", "actor", "dataPeriod"])
def test_a_decision_with_conditions_has_no_value(name: str) -> None:
    """Which exceptions there are, a Boolean cannot say: "true" would allow what one of them refuses."""
    limits = {name: {"start": "2026"} if name == "dataPeriod" else [{"type": "deny"}]}
    entry, text, mapped = decided(provision={"type": "permit", **limits})
    assert entry.code is not None
    assert (entry.code.code, list(entry.values)) == ("75793-0", [])
    assert "avec des conditions ou des exceptions" in text
    assert "Autorisé" not in text
    assert ("warning", "Consent[0].provision") in {(one.severity, one.path) for one in mapped.issues}


def test_a_provision_may_repeat_what_it_is_about() -> None:
    entry, _, _ = decided(provision={"type": "deny", "code": [RESUSCITATION]})
    assert entry.values == [Boolean(False)]


def test_a_decision_out_of_its_period_is_not_written() -> None:
    plan = minimal_plan()
    provision = {"type": "permit", "period": {"end": "2020-12-31"}}
    plan.consent("resuscitation", "adr", RESUSCITATION, provision=provision)
    mapped = convert(plan.bundle(), EMISSION)
    assert DIRECTIVES not in {one.template_ids[-1].root for one in mapped.document.sections}
    assert ("warning", "Consent[0].provision.period") in {(one.severity, one.path) for one in mapped.issues}


@pytest.mark.parametrize("dates", [("2024-01-01", "2025-01-01"), ("2025-01-01", "2024-01-01")])
def test_of_two_contrary_decisions_the_later_one_holds(dates: tuple[str, str]) -> None:
    plan = minimal_plan()
    for decision, date in zip(("permit", "deny"), dates, strict=True):
        plan.consent(decision, "adr", RESUSCITATION, dateTime=date, provision={"type": decision})
    (entry,) = some_section(plan, DIRECTIVES).entries
    assert entry.values == [Boolean(dates[0] > dates[1])]


@pytest.mark.parametrize("dates", [("2024-01-01", "2024-01-01"), ("2024-01-01", None)])
def test_two_contrary_decisions_of_which_none_is_the_later_one_are_refused(dates: tuple[str, str | None]) -> None:
    plan = minimal_plan()
    for decision, date in zip(("permit", "deny"), dates, strict=True):
        plan.consent(
            decision, "adr", RESUSCITATION, provision={"type": decision}, **({"dateTime": date} if date else {})
        )
    with pytest.raises(MappingError, match="which one holds"):
        convert(plan.bundle(), EMISSION)


@pytest.mark.parametrize(
    ("dates", "values"),
    [
        (("2020-01-01", "2021-01-01"), [[]]),
        (("2021-01-01", "2020-01-01"), [[Boolean(False)], []]),
        (("2020-01-01", "2020-01-01"), [[Boolean(False)], []]),
        ((None, "2021-01-01"), [[Boolean(False)], []]),
    ],
)
def test_a_later_decision_with_conditions_overrides_a_plain_one(
    dates: tuple[str | None, str], values: list[list[Boolean]]
) -> None:
    plan = minimal_plan()
    limited: Resource = {"type": "permit", "provision": [{"type": "deny"}]}
    for key, provision, date in zip(("plain", "limited"), ({"type": "deny"}, limited), dates, strict=True):
        plan.consent(key, "adr", RESUSCITATION, provision=provision, **({"dateTime": date} if date else {}))
    mapped = convert(plan.bundle(), EMISSION)
    entries = some_section(plan, DIRECTIVES).entries
    assert [list(entry.values) for entry in entries] == values
    is_said = ("warning", "Consent[0]") in {(one.severity, one.path) for one in mapped.issues}
    assert is_said == (len(values) == 1)


def test_directives_that_were_replaced_do_not_say_that_there_are_none() -> None:
    plan = minimal_plan()
    general = concept("http://loinc.org", "42348-3")
    plan.consent("old", "adr", general, status="inactive", dateTime="2020-01-01")
    plan.consent("new", "adr", general, dateTime="2025-01-01")
    (entry,) = some_section(plan, DIRECTIVES).entries
    assert entry.values == [Boolean(True)]


@pytest.mark.parametrize("status", ["preliminary", "entered-in-error"])
def test_a_draft_is_no_directive(status: str) -> None:
    plan = minimal_plan()
    deposited(plan, {"url": "https://exemple.fr/d.pdf"})
    plan["deposit"]["docStatus"] = status
    assert section_of(plan, DIRECTIVES) is None


def test_what_a_directive_says_beside_its_decision_is_said() -> None:
    both = {"coding": [*RESUSCITATION["coding"], {"system": "http://loinc.org", "code": "75787-2"}]}
    entry, _, mapped = decided(category=both, provision={"type": "deny", "provision": [{"type": "permit"}]})
    assert entry.code is not None
    assert (entry.code.code, list(entry.values)) == ("75793-0", [])  # the value would say more than the person does
    assert {"Consent[0].category", "Consent[0].provision.provision"} <= {issue.path for issue in mapped.issues}


def test_an_intervention_wins_over_directives_as_such() -> None:
    both = {"coding": [{"system": "http://loinc.org", "code": "42348-3"}, *RESUSCITATION["coding"]]}
    entry, _, _ = decided(category=both, provision={"type": "deny"})
    assert entry.code is not None
    assert (entry.code.code, entry.values) == ("75779-9", [Boolean(False)])


def test_a_document_about_an_intervention_decides_nothing() -> None:
    plan = minimal_plan()
    deposited(plan, {"url": "https://exemple.fr/d.pdf", "title": "Réanimation"})
    plan["deposit"]["type"] = RESUSCITATION
    (entry,) = some_section(plan, DIRECTIVES).entries
    assert entry.code is not None
    assert (entry.code.code, list(entry.values)) == ("75793-0", [])


def test_directives_by_observation_and_document_reference() -> None:
    plan = minimal_plan()
    code = concept("http://loinc.org", "75779-9")
    plan.add("resuscitation", "Observation", status="final", code=code, subject=plan.ref("patient"), valueBoolean=False)
    attachment = {"url": "https://exemple.fr/directives.pdf", "title": "Directives déposées"}
    plan.add(
        "deposit",
        "DocumentReference",
        status="current",
        type=concept("http://loinc.org", "42348-3"),
        subject=plan.ref("patient"),
        content=[{"attachment": attachment}],
    )
    section = some_section(plan, DIRECTIVES)
    assert [entry.values for entry in section.entries] == [[Boolean(False)], [Boolean(True)]]
    assert "Directives déposées" in plain_text(section.text)


def deposited(plan: Plan, *attachments: Resource) -> None:
    """A directive of the plan that is a document."""
    plan.add(
        "deposit",
        "DocumentReference",
        status="current",
        type=concept("http://loinc.org", "42348-3"),
        subject=plan.ref("patient"),
        content=[{"attachment": attachment} for attachment in attachments],
    )


def test_the_document_of_a_directive_may_be_in_a_binary() -> None:
    plan = minimal_plan()
    data = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()
    url = plan.add("bytes", "Binary", contentType="application/pdf", data=data)["reference"]
    deposited(plan, {"url": url})
    (entry,) = some_section(plan, DIRECTIVES).entries
    (media,) = related(entry, "SUBJ")
    assert media.values == [Media("application/pdf", b"%PDF-1.4\n%%EOF\n")]
    plan["bytes"]["contentType"] = "text/plain"
    with pytest.raises(MappingError, match="attached as PDF"):
        convert(plan.bundle(), EMISSION)


def test_what_is_not_written_of_the_document_of_a_directive_is_said() -> None:
    plan = minimal_plan()
    deposited(plan, {"url": "Binary/elsewhere", "title": "Mes volontés"}, {"url": "https://exemple.fr/d.pdf"})
    mapped = convert(plan.bundle(), EMISSION)
    paths = {issue.path for issue in mapped.issues}
    assert {"DocumentReference[0].content", "DocumentReference[0].content[0].attachment.url"} <= paths
    assert b"Binary/elsewhere" not in write(mapped.document)


# --- dispositions -------------------------------------------------------------------------------------------------


def test_no_disposition_is_said() -> None:
    section = some_section(PLANS["minimal"], SOCIAL)
    assert section.entries == []
    assert plain_text(section.text) == "Aucune disposition renseignée"


def test_every_disposition() -> None:
    section = some_section(PLANS["all-provisions"], SOCIAL)
    assert [entry.code.code if entry.code else None for entry in section.entries] == [
        "PAT-009",
        "PAT-008",
        "PAT-001",
        "PAT-002",
        "PAT-006",
        "ORG-013",
    ]
    priorities, _, pension, insurance, aid, housing = section.entries
    assert said(section, value_of(priorities).original_text) == "Retrouver son autonomieRevoir sa famille"
    assert said(section, value_of(pension).original_text) == "Caisse de retraite d'Angers"
    assert pension.time == Interval(value="20260112")
    assert [(one.code and one.code.code, one.values) for one in related(pension, "SUBJ")] == [
        ("PAT-003", [Boolean(True)]),
        ("PAT-004", [Boolean(False)]),
        ("PAT-005", [Boolean(False)]),
    ]
    assert insurance.values == [Boolean(True)]
    (name,) = related(insurance, "SUBJ")
    assert said(section, value_of(name).original_text) == "Mutuelle d'Angers"
    assert aid.values == [Boolean(True)]
    assert [one.values for one in related(aid, "SUBJ")] == [[Integer(4)]]
    assert housing.values == [Boolean(False)]
    assert all(entry.negation is False for entry in walk(section.entries))


def test_nested_dispositions_get_a_carrier() -> None:
    section = some_section(PLANS["nested-provisions"], SOCIAL)
    wish, pension, insurance, aid, housing = section.entries
    assert said(section, value_of(wish).original_text) == "Rester"  # the most recent one
    assert value_of(pension) == Code(null_flavor="UNK")
    assert [one.values for one in related(pension, "SUBJ")] == [[Boolean(True)]]
    assert insurance.values == [Boolean(False)]
    assert value_of(aid) == Code(null_flavor="UNK")
    assert [one.values for one in related(aid, "SUBJ")] == [[Integer(3)]]
    assert said(section, value_of(housing).original_text) == "Oui, en EHPAD"


def test_gir_as_code_and_as_number_are_the_same() -> None:
    (aid,) = some_section(PLANS["gir-as-value"], SOCIAL).entries
    assert aid.values == [Boolean(True)]
    assert [one.values for one in related(aid, "SUBJ")] == [[Integer(2)]]
    plan = minimal_plan()
    plan.observation("aid", "PAT-006", valueInteger=2)
    (same,) = some_section(plan, SOCIAL).entries
    assert [one.values for one in related(same, "SUBJ")] == [[Integer(2)]]


def test_coverages_and_notes_stand_in() -> None:
    section = some_section(PLANS["coverages"], SOCIAL)
    pension, insurance = section.entries
    assert said(section, value_of(pension).original_text) == "Mutuelle générale inventée"
    assert insurance.values == [Boolean(True)]
    plan = minimal_plan()
    plan["plan"]["note"] = [{"text": "Préfère le matin", "authorReference": plan.ref("patient")}]
    high = concept("http://terminology.hl7.org/CodeSystem/goal-priority", "high-priority")
    plan["goal-1"] |= {"priority": high, "expressedBy": plan.ref("patient")}
    section = some_section(plan, SOCIAL)
    priorities, preferences = section.entries
    assert said(section, value_of(priorities).original_text) == "Remarcher sans aide dans le logement"
    assert said(section, value_of(preferences).original_text) == "Préfère le matin"


def test_a_note_of_somebody_else_is_no_preference_of_the_person() -> None:
    plan = minimal_plan()
    plan["plan"]["note"] = [{"text": "Refuse les visites", "authorReference": plan.ref("doctor")}, {"text": "À revoir"}]
    assert some_section(plan, SOCIAL).entries == []
    words = plain_text(some_section(plan, PLAN_OF_CARE).text)
    assert "Note du plan : Refuse les visites" in words
    assert "Note du plan : À revoir" in words


@pytest.mark.parametrize("status", ["completed", "cancelled", "rejected"])
def test_a_goal_that_is_no_longer_pursued_is_no_priority(status: str) -> None:
    plan = minimal_plan()
    high = concept("http://terminology.hl7.org/CodeSystem/goal-priority", "high-priority")
    plan["goal-1"] |= {"priority": high, "expressedBy": plan.ref("patient"), "lifecycleStatus": status}
    assert some_section(plan, SOCIAL).entries == []


@pytest.mark.parametrize(
    "words",
    [
        *("Non", "aucune", "Pas de mutuelle", "Sans", "néant", "inconnue", "oui", "?", "Ne sait pas"),
        *("Non, trop cher", "Sans mutuelle depuis 2020", "Pas d'assurance", "Pas renseignée", "pas de", "Sans objet."),
    ],
)
def test_words_that_name_no_insurer_do_not_say_that_there_is_one(words: str) -> None:
    plan = minimal_plan()
    plan.observation("insurance", "PAT-002", valueString=words)
    with pytest.raises(MappingError, match="a name of an insurer"):
        convert(plan.bundle(), EMISSION)


@pytest.mark.parametrize(
    "words",
    [
        *("Pasteur Mutualité", "Nonagénaires de France", "Ouistreham Prévoyance", "MGEN"),
        *("Sans Frontières Mutuelle", "Pas de Calais Mutuelle"),
    ],
)
def test_an_insurer_may_be_called_anything(words: str) -> None:
    plan = minimal_plan()
    plan.observation("insurance", "PAT-002", valueString=words)
    (entry,) = some_section(plan, SOCIAL).entries
    assert entry.values == [Boolean(True)]


@pytest.mark.parametrize(("gir", "value"), [(4, Boolean(True)), (5, Code(null_flavor="UNK"))])
def test_a_gir_class_without_right_to_the_aid_does_not_say_that_it_is_had(gir: int, value: object) -> None:
    plan = minimal_plan()
    plan.observation("aid", "PAT-006", valueInteger=gir)
    (entry,) = some_section(plan, SOCIAL).entries
    assert entry.values == [value]
    assert related(entry, "SUBJ")[0].values == [Integer(gir)]


@pytest.mark.parametrize(
    "value",
    [
        {"valueQuantity": {"comparator": "<", "value": 4}},
        {"valueCodeableConcept": {"coding": [{"code": "MED-341"}, {"code": "MED-342"}]}},
    ],
)
def test_a_gir_class_that_is_none_or_two_is_refused(value: Resource) -> None:
    plan = minimal_plan()
    plan.observation("aid", "PAT-007", **value)
    with pytest.raises(MappingError, match="GIR class"):
        convert(plan.bundle(), EMISSION)


@pytest.mark.parametrize(
    ("reason", "flavor", "words"),
    [
        ("asked-unknown", "ASKU", "Demandé, non connu"),
        ("masked", "MSK", "Masqué"),
        ("unknown", "UNK", "Non renseigné"),
        ("error", "UNK", "Non renseigné"),
    ],
)
@pytest.mark.parametrize("code", ["PAT-006", "ORG-013", "PAT-008"])
def test_what_is_not_known_is_neither_yes_nor_no(code: str, reason: str, flavor: str, words: str) -> None:
    plan = minimal_plan()
    absent = concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", reason)
    plan.observation("unknown", code, dataAbsentReason=absent)
    section = some_section(plan, SOCIAL)
    assert section.entries[0].values == [Code(null_flavor=flavor)]
    assert words in plain_text(section.text)


def test_the_most_recent_disposition_is_so_by_the_clock() -> None:
    plan = minimal_plan()
    plan.observation("later", "PAT-006", effectiveDateTime="2026-01-12T08:30:00Z", valueBoolean=False)
    plan.observation("earlier", "PAT-006", effectiveDateTime="2026-01-12T09:00:00+01:00", valueBoolean=True)
    (entry,) = some_section(plan, SOCIAL).entries
    assert entry.values == [Boolean(False)]


@pytest.mark.parametrize("time", [{"effectiveDateTime": "2026-01-12"}, {}])
def test_two_dispositions_of_one_time_that_contradict_each_other_are_refused(time: Resource) -> None:
    plan = minimal_plan()
    for key, value in (("one", True), ("other", False)):
        plan.observation(key, "PAT-006", valueBoolean=value, **time)
    with pytest.raises(MappingError, match="which one holds"):
        convert(plan.bundle(), EMISSION)


ABSENT = {"dataAbsentReason": concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "unknown")}


@pytest.mark.parametrize(
    ("other", "gir"),
    [
        (ABSENT, []),
        ({"component": [{"code": concept(CISIS, "PAT-007"), "valueInteger": 5}]}, [[Integer(5)]]),
        ({"valueInteger": 3}, [[Integer(3)]]),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_dispositions_of_one_time_that_agree_are_one(other: Resource, gir: list[list[Integer]], is_first: bool) -> None:
    plan = minimal_plan()
    for value in (other, {"valueBoolean": True}) if is_first else ({"valueBoolean": True}, other):
        plan.observation(f"aid-{len(value)}-{next(iter(value))}", "PAT-006", effectiveDateTime="2026-01-12", **value)
    (aid,) = some_section(plan, SOCIAL).entries
    assert aid.values == [Boolean(True)]
    assert [one.values for one in related(aid, "SUBJ")] == gir


@pytest.mark.parametrize("value", [{"valueInteger": 5}, {"valueBoolean": False}])
def test_a_class_of_one_time_that_does_not_agree_is_refused(value: Resource) -> None:
    plan = minimal_plan()
    plan.observation("class", "PAT-006", valueInteger=3)
    plan.observation("other", "PAT-006", **value)
    with pytest.raises(MappingError, match="which one holds"):
        convert(plan.bundle(), EMISSION)


def test_the_name_of_an_insurer_is_not_lost_beside_a_yes_of_the_same_time() -> None:
    plan = minimal_plan()
    plan.observation("name", "PAT-002", valueString="MGEN")
    plan.observation("yes", "PAT-002", valueBoolean=True)
    (insurance,) = some_section(plan, SOCIAL).entries
    assert len(related(insurance, "SUBJ")) == 1


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        ({"effectiveInstant": "2026-01-12T09:00:00+01:00"}, {"effectiveInstant": "2026-01-11T09:00:00+01:00"}),
        ({"effectivePeriod": {"end": "2026-01-12"}}, {}),
    ],
)
def test_an_instant_and_the_end_of_a_period_are_times(later: Resource, earlier: Resource) -> None:
    plan = minimal_plan()
    plan.observation("later", "PAT-006", valueBoolean=False, **later)
    plan.observation("earlier", "PAT-006", valueBoolean=True, **earlier)
    (entry,) = some_section(plan, SOCIAL).entries
    assert entry.values == [Boolean(False)]


# --- goals --------------------------------------------------------------------------------------------------------


def test_goals_of_the_plan() -> None:
    section = some_section(PLANS["full"], PLAN_OF_CARE)
    assert len(section.entries) == 4
    walking = section.entries[1]
    assert (walking.kind, walking.mood_code, walking.status) == ("observation", "GOL", "active")
    assert walking.ids[0].extension == "full-walking"
    assert walking.time == Interval(low="20260115", high="20260630")
    assert said(section, walking.text) == "Problème de mobilité : Risque de chute"
    assert said(section, value_of(walking).original_text) == "Marcher jusqu'au marché"
    assert section.entries[3].status == "new"
    narrative = plain_text(section.text)
    assert "Exprimé par la personne" in narrative
    assert "Priorité : haute" in narrative


def test_a_professional_who_wants_a_goal_is_its_author() -> None:
    company = some_section(PLANS["full"], PLAN_OF_CARE).entries[2]
    (author,) = company.authors
    assert author.assigned.ids == [II(templates.PS_IDNAT, "810100000019")]
    assert author.time_null_flavor == "UNK"


@pytest.mark.parametrize(
    ("mode", "pps", "code", "null_flavor", "translations"),
    [
        ("current", "MED-057", None, "OTH", ["MED-057"]),
        ("2022", "MED-057", "MED-057", None, []),
        ("current", "ORG-011", "ORG-011", None, []),
        ("2022", "ORG-011", "ORG-011", None, []),
        ("current", "GEN-092.01.01", "GEN-092.01.01", None, []),
    ],
)
def test_problem_codes_by_mode(
    mode: str, pps: str, code: str | None, null_flavor: str | None, translations: list[str]
) -> None:
    plan = minimal_plan()
    plan["goal-1"]["addresses"] = [plan.condition("problem", concept(CISIS, pps, text="Précision"))]
    emission = replace(EMISSION, deployment=replace(DEPLOYMENT, problem_codes="2022" if mode == "2022" else "current"))
    section = some_section(plan, PLAN_OF_CARE, emission)
    found = section.entries[0].code
    assert found is not None
    assert (found.code, found.null_flavor, [one.code for one in found.translations]) == (
        code,
        null_flavor,
        translations,
    )
    if null_flavor:
        assert said(section, found.original_text).endswith(": Précision")


def test_problems_outside_the_list_of_the_volet() -> None:
    section = some_section(PLANS["clinical-codes"], PLAN_OF_CARE)
    none, balance, weight, papers = (entry.code for entry in section.entries)
    assert none is not None
    assert balance is not None
    assert weight is not None
    assert papers is not None
    assert (none.code, none.null_flavor) == (None, "UNK")
    assert said(section, none.original_text) == "Problème non précisé"
    assert (balance.null_flavor, [one.code for one in balance.translations]) == ("OTH", ["73211009", "E11.9"])
    assert (weight.null_flavor, [one.code for one in weight.translations]) == ("OTH", ["MED-061", "E46"])
    assert papers.code == "GEN-092.01.01"
    assert value_of(section.entries[1]).code == "708119003"


def test_a_problem_in_words_only_is_another_problem() -> None:
    section = some_section(PLANS["actions-without-goal"], PLAN_OF_CARE)
    code = section.entries[1].code
    assert code is not None
    assert code.code == "GEN-092.01.01"
    assert said(section, section.entries[1].text) == "Douleurs"


def test_status_of_goals() -> None:
    entries = some_section(PLANS["every-goal-status"], PLAN_OF_CARE).entries
    assert [entry.status for entry in entries[1:]] == [
        "new",
        "new",
        "active",
        "suspended",
        "completed",
        "cancelled",
        "aborted",
    ]


# --- actions ------------------------------------------------------------------------------------------------------


def test_actions_and_who_does_them() -> None:
    section = some_section(PLANS["full"], PLAN_OF_CARE)
    physio, visits = related(section.entries[1], "SPRT")
    assert physio.code is not None
    assert (physio.code.code, physio.mood_code) == ("ORG-014", "GOL")
    assert said(section, physio.text) == "Rééducation à la marche à domicile"
    assert value_of(physio) == Code(null_flavor="NAV")
    assert [method.code for method in physio.methods] == ["ORG-009"]
    assert physio.time == Interval(low="20260120", high="20260420")
    nurse, kine = physio.participants
    assert nurse.ids == [II(templates.PS_IDNAT, "810100000019")]
    assert nurse.name == PersonName(text="Mme Isabelle LEFRANC")
    assert nurse.code is not None
    assert nurse.code.code == "G15_60"
    assert nurse.scoping_id == II(templates.STRUCT_IDNAT, "1910019447")
    assert kine.name == PersonName(text="Kinésithérapeute du quartier")
    assert kine.ids == []
    assert [one.name.text if one.name else None for one in visits.participants] == [
        "Sophie NESSI (Soeur)",
        "La personne",
    ]
    narrative = plain_text(section.text)
    assert "2 fois par semaine" in narrative
    assert "Prise en charge médicale" in narrative


def test_an_action_of_two_goals_shares_one_root() -> None:
    section = some_section(PLANS["full"], PLAN_OF_CARE)
    first = related(section.entries[1], "SPRT")[1].ids[0]
    second = related(section.entries[2], "SPRT")[0].ids[0]
    assert first.root == second.root
    assert (first.extension, second.extension) == ("2", "3")


def test_every_kind_of_action() -> None:
    section = some_section(PLANS["every-kind-of-action"], PLAN_OF_CARE)
    goal, carrier = section.entries
    task, visit, detail = related(goal, "SPRT")
    medicine, meals, coded = related(carrier, "SPRT")
    assert [(said(section, one.text), one.status, one.time) for one in (task, visit, detail)] == [
        ("Faire le dossier d'APA", "active", Interval(low="20260201", high="20260301")),
        ("Consultation gériatrique", "active", Interval(low="20260401090000+0200", high="20260401093000+0200")),
        ("Aménager la salle de bains", "active", Interval(null_flavor="NAV")),
    ]
    assert [said(section, one.text) for one in (medicine, meals, coded)] == [
        "Vitamine D – Une ampoule par trimestre",
        "Portage de repas enrichis",
        "Étirements",
    ]
    assert value_of(coded).code == "229070002"
    assert said(section, value_of(coded).original_text) == "Étirements"
    narrative = plain_text(section.text)
    assert "avant l'été" in narrative
    assert "Domicile" in narrative
    assert [one.name.text if one.name else None for one in visit.participants] == [
        "La personne",
        "Claire ORME",
        "Salle 3",
    ]
    (progress,) = related(goal, "GEVL")
    assert said(section, value_of(progress).original_text) == "Dossier déposé"
    assert progress.time == Interval(value="20260210")


def test_actions_without_goal() -> None:
    section = some_section(PLANS["actions-without-goal"], PLAN_OF_CARE)
    _, relief, carrier = section.entries
    assert [said(section, one.text) for one in related(relief, "SPRT")] == ["Massages"]  # same problem
    assert [said(section, one.text) for one in related(carrier, "SPRT")] == [
        "Action qui ne sert aucun objectif",
        "Autre action sans objectif",
    ]
    assert carrier.code is not None
    assert carrier.code.code == "GEN-092.01.01"
    assert value_of(carrier) == Code(null_flavor="NAV")
    assert said(section, carrier.text) == "Sans objectif formulé"


def test_structures_that_act() -> None:
    (care,) = related(some_section(PLANS["structures-in-team"], PLAN_OF_CARE).entries[0], "SPRT")
    assert [(one.name.text if one.name else None, one.scoping_id) for one in care.participants] == [
        ("SSIAD des Deux Vallées", II(templates.STRUCT_IDNAT, "1910800003")),
        ("CCAS", II(templates.STRUCT_IDNAT, "2219102270")),
        ("Club des aînés", None),
    ]


def test_an_action_entered_in_error_is_not_written() -> None:
    plan = minimal_plan()
    plan.action("mistake", "Erreur", plan.ref("goal-1"), status="entered-in-error")
    assert related(some_section(plan, PLAN_OF_CARE).entries[0], "SPRT") == []


# --- assessments ----------------------------------------------------------------------------------------------------


def test_assessments_oldest_first_with_the_criterion_on_the_first() -> None:
    section = some_section(PLANS["full"], PLAN_OF_CARE)
    first, second = related(section.entries[1], "GEVL")
    assert [one.time for one in (first, second)] == [Interval(value="20260215"), Interval(value="20260228")]
    assert said(section, value_of(first).original_text) == "Sort de l'immeuble accompagnée"
    assert [said(section, one) for one in first.criteria] == ["Distance parcourue : 500 m"]
    assert not second.criteria
    assert first.negation is None


def test_everything_that_assesses_a_goal() -> None:
    section = some_section(PLANS["assessments-and-criteria"], PLAN_OF_CARE)
    found = related(section.entries[0], "GEVL")
    assert [(said(section, value_of(one).original_text), one.time) for one in found] == [
        ("La personne est encouragée", Interval(value="20260201110000+0100")),
        ("Marche avec une canne", Interval(value="20260220")),
        ("Atteinte de l'objectif : en progrès", Interval(value="20260220")),
    ]
    assert [said(section, one) for one in found[0].criteria] == [
        "Monter un étage",
        "Score : à partir de 2, jusqu'à 5",
        "Douleur : absente (échéance : 3 mois)",
    ]


def test_a_criterion_alone_is_carried_by_an_assessment_without_value() -> None:
    plan = minimal_plan()
    plan["goal-1"]["target"] = [{"measure": {"text": "Sort seule"}}]
    section = some_section(plan, PLAN_OF_CARE)
    (carrier,) = related(section.entries[0], "GEVL")
    assert value_of(carrier) == Code(null_flavor="NAV")
    assert carrier.time == Interval(null_flavor="NAV")
    assert [said(section, one) for one in carrier.criteria] == ["Sort seule"]


# --- status -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "since", "words"),
    [
        ("minimal", "9571008", "20260201", "approuvé le 01/02/2026"),
        ("status-draft", "385651009", "20260112090000+0100", "en cours d'exécution le 12/01/2026 à 09:00"),
        ("status-on-hold", "385651009", "20260220090000+0100", "en cours d'exécution le 20/02/2026 à 09:00"),
        ("status-completed", "29179001", "20260228", "clôturé le 28/02/2026"),
        ("status-revoked", "29179001", "20260112090000+0100", "clôturé le 12/01/2026 à 09:00"),
    ],
)
def test_status_of_the_document(name: str, code: str, since: str, words: str) -> None:
    section = some_section(PLANS[name], STATUS)
    (entry,) = section.entries
    assert entry.code is not None
    assert entry.code.code == "GEN-065"
    assert value_of(entry).code == code
    assert entry.time == Interval(value=since)
    assert said(section, entry.text) == f"Statut du document : {words}"


def test_an_active_plan_without_approval_is_a_warning() -> None:
    issues = convert(PLANS["active-without-approval"], EMISSION).issues
    assert any(issue.severity == "warning" and "approval" in issue.message for issue in issues)
    assert all("approval" not in issue.message for issue in convert(PLANS["minimal"], EMISSION).issues)


def test_the_date_of_the_status_is_not_in_the_future() -> None:
    plan = minimal_plan()
    plan["plan"] |= {"status": "completed", "period": {"start": "2026-01-12", "end": "2026-12-31"}}
    mapped = convert(plan.bundle(), EMISSION)
    assert mapped.document.sections[-1].entries[0].time == Interval(value="20260112090000+0100")
    assert any("future" in issue.message for issue in mapped.issues)


# --- PPCS ---------------------------------------------------------------------------------------------------------


def test_ppcs() -> None:
    document = convert(PLANS["ppcs"], EMISSION).document
    assert document.header.title == "Plan personnalisé de coordination en santé"
    synthesis, *_, unreached, _ = document.sections
    assert (synthesis.title, synthesis.entries) == ("Synthèse de la situation", [])
    assert plain_text(synthesis.text).startswith("Situation complexe")
    assert unreached.title == "Objectifs partagés non réalisés"
    assert plain_text(unreached.text) == (
        "Changer de logement – motif : Pas de logement disponibleReprendre la conduite – motif : Ne le souhaite plus"
    )


def test_free_text_survives_with_its_markup_and_lines() -> None:
    section = some_section(PLANS["markup-in-text"], PLAN_OF_CARE)
    text = said(section, value_of(section.entries[0]).original_text)
    assert "<i>IMC</i>" in text
    assert "&amp;" in text
    assert "Deuxième ligne" in text
