"""What a plan says and the volet has no element for stands in the narrative; what would change a meaning is refused."""

from __future__ import annotations

from typing import Any

import pytest

from relais.cda import templates
from relais.cda.errors import MappingError
from relais.cda.model import Code
from relais.cda.narrative import plain_text
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.datatypes import display_name
from relais.mappings.to_cda.problems import DOUBTS
from relais.mappings.to_cda.prose import dosage, rhythm
from support.plans import CISIS, EMISSION, ICD10, LOINC, Plan, concept, minimal_plan

Resource = dict[str, Any]

VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"


def narrative(plan: Plan, template: str) -> str:
    """The words of the section with that CI-SIS template."""
    sections = convert(plan.bundle(), EMISSION).document.sections
    (found,) = [one for one in sections if any(ii.root == template for ii in one.template_ids)]
    return plain_text(found.text)


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"prefix": ["MME"], "suffix": ["DR"]}, "Mme Dr Claire ORME"),
        ({"suffix": ["PR"]}, "Pr Claire ORME"),
        ({"prefix": ["M"]}, "M. Claire ORME"),
        ({"prefix": ["Mme"], "suffix": ["MC", "fille"]}, "Mme MC Claire ORME fille"),
        ({}, "Claire ORME"),
    ],
)
def test_a_name_as_one_reads_it(parts: Resource, words: str) -> None:
    assert display_name({"given": ["Claire"], "family": "ORME"} | parts) == words


# --- actions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ServiceRequest", "MedicationRequest", "detail"])
def test_a_prohibition_is_no_action(kind: str) -> None:
    plan = minimal_plan()
    if kind == "detail":
        detail = {"status": "not-started", "description": "Contention", "doNotPerform": True}
        plan["plan"]["activity"] = [{"detail": detail}]
    else:
        plan.action("restraint", "Contention", doNotPerform=True)
        plan["restraint"]["resourceType"] = kind
    with pytest.raises(MappingError, match="a prohibition") as refusal:
        convert(plan.bundle(), EMISSION)
    assert refusal.value.issues[0].path.endswith(".doNotPerform")


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"priority": "urgent"}, "Priorité : urgente"),
        ({"asNeededBoolean": True}, "si besoin"),
        ({"asNeededCodeableConcept": {"text": "douleur"}}, "si besoin : douleur"),
        ({"reasonCode": [{"text": "chutes"}]}, "Motif : chutes"),
        ({"bodySite": [{"text": "genou"}, {"text": "cheville"}]}, "Site : genou, cheville"),
        ({"orderDetail": [{"text": "en balnéothérapie"}]}, "Précision : en balnéothérapie"),
        ({"performerType": {"text": "Ergothérapeute"}}, "Intervenant souhaité : Ergothérapeute"),
        ({"quantityQuantity": {"value": 12, "unit": "séances"}}, "Quantité : 12 séances"),
    ],
)
def test_details_of_an_action_are_in_its_words(elements: Resource, words: str) -> None:
    plan = minimal_plan()
    plan.action("physio", "Kinésithérapie", **elements)
    assert f"Kinésithérapie – {words}" in narrative(plan, templates.CARE_PLAN[-1])


def test_amounts_of_an_activity_are_in_its_words() -> None:
    plan = minimal_plan()
    detail = {"status": "in-progress", "description": "Compléments"}
    amounts = {"quantity": {"value": 60, "unit": "flacons"}, "dailyAmount": {"value": 2, "unit": "flacons"}}
    plan["plan"]["activity"] = [{"detail": detail | amounts}]
    words = narrative(plan, templates.CARE_PLAN[-1])
    assert "Compléments – Quantité : 60 flacons – Quantité par jour : 2 flacons" in words


@pytest.mark.parametrize(
    ("elements", "times"),
    [
        ({}, 1),
        ({"achievementStatus": {"text": "en bonne voie"}}, 0),  # an assessment has the date
        ({"expressedBy": {"reference": "doctor"}}, 0),  # so has the author
    ],
)
def test_since_when_a_goal_has_its_status_is_in_words_unless_an_entry_says_it(elements: Resource, times: int) -> None:
    plan = minimal_plan()
    plan["goal-1"] |= elements | {"statusDate": "2026-01-20"}
    if "expressedBy" in elements:
        plan["goal-1"]["expressedBy"] = plan.ref("doctor")
    words = narrative(plan, templates.CARE_PLAN[-1])
    assert words.count("Date du statut : 20/01/2026") == times
    assert b"20260120" in write(convert(plan.bundle(), EMISSION).document) or times


@pytest.mark.parametrize(
    ("status", "words"),
    [("draft", "à venir"), ("on-hold", "suspendue"), ("completed", "terminée"), ("revoked", "annulée")],
)
def test_the_status_of_an_action_is_in_words_and_comes_back(status: str, words: str) -> None:
    plan = minimal_plan()
    plan.action("physio", "Kinésithérapie", status=status, occurrenceTiming={"code": {"text": "à jeun"}})
    assert f"Kinésithérapie (Statut : {words} ; à jeun)" in narrative(plan, templates.CARE_PLAN[-1])
    data = write(convert(plan.bundle(), EMISSION).document)
    resources = [entry["resource"] for entry in to_bundle(read(data).document, data).bundle["entry"]]
    (back,) = [one for one in resources if one["resourceType"] == "ServiceRequest"]
    assert back["status"] == status
    assert back["occurrenceTiming"] == {"code": {"text": "à jeun"}}


def test_an_action_under_way_says_no_status() -> None:
    plan = minimal_plan()
    plan.action("physio", "Kinésithérapie")
    assert "Kinésithérapie (" not in narrative(plan, templates.CARE_PLAN[-1])


def test_a_routine_action_that_is_not_conditional_says_nothing_more() -> None:
    plan = minimal_plan()
    plan.action("physio", "Kinésithérapie", priority="routine", asNeededBoolean=False)
    assert "Kinésithérapie –" not in narrative(plan, templates.CARE_PLAN[-1])


def test_a_medication_is_named_by_the_resource_and_its_dosage_made_of_the_structure() -> None:
    plan = minimal_plan()
    medication = plan.add("drug", "Medication", code={"text": "Paracétamol 1 g"})
    dose = {
        "timing": {"repeat": {"frequency": 3, "period": 1, "periodUnit": "d", "when": ["CM", "CV"]}},
        "route": {"text": "voie orale"},
        "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "comprimé"}}],
        "asNeededBoolean": True,
    }
    request = plan.add(
        "prescription",
        "MedicationRequest",
        status="active",
        intent="plan",
        subject=plan.ref("patient"),
        medicationReference=medication,
        dosageInstruction=[dose],
    )
    plan["plan"]["activity"] = [{"reference": request}]
    expected = "Paracétamol 1 g – 1 comprimé, voie orale, 3 fois par jour, au petit-déjeuner, au dîner, si besoin"
    assert expected in narrative(plan, templates.CARE_PLAN[-1])


def test_a_dosage_in_words_is_taken_as_it_is() -> None:
    assert dosage({"text": " Une ampoule par mois ", "route": {"text": "orale"}}) == "Une ampoule par mois"


@pytest.mark.parametrize(
    ("repeat", "words"),
    [
        ({"dayOfWeek": ["mon", "thu"], "timeOfDay": ["09:30:00"]}, "le lundi, le jeudi, à 09:30"),
        ({"frequency": 2, "frequencyMax": 3, "period": 1, "periodUnit": "wk"}, "2 à 3 fois par semaine"),
        ({"count": 10, "duration": 45, "durationUnit": "min"}, "10 fois en tout, durée : 45 min"),
        ({"boundsDuration": {"value": 6, "unit": "semaines"}}, "pendant 6 semaines"),
    ],
)
def test_the_rhythm_of_an_action(repeat: Resource, words: str) -> None:
    assert rhythm({"repeat": repeat}) == words


# --- problems -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "words"), DOUBTS.items())
def test_a_doubtful_diagnosis_is_no_fact_and_comes_back_as_doubtful(status: str, words: str) -> None:
    plan = minimal_plan()
    plan.condition(
        "suspected",
        concept(ICD10, "G30.9", "Maladie d'Alzheimer", "Maladie d'Alzheimer"),
        verificationStatus=concept(VERIFICATION, status),
    )
    data = write(convert(plan.bundle(), EMISSION).document)
    document = read(data).document
    (section,) = [
        one for one in document.sections if any(ii.root == templates.ACTIVE_PROBLEMS[-1] for ii in one.template_ids)
    ]
    (value,) = section.entries[0].relationships[0].statement.values
    assert isinstance(value, Code)
    assert (value.code, value.null_flavor, [one.code for one in value.translations]) == (None, "OTH", ["G30.9"])
    assert f"Maladie d'Alzheimer ({words})" in plain_text(section.text)
    resources = [entry["resource"] for entry in to_bundle(document, data).bundle["entry"]]
    (back,) = [one for one in resources if one["resourceType"] == "Condition"]
    assert back["verificationStatus"]["coding"][0]["code"] == status
    assert back["code"]["text"] == "Maladie d'Alzheimer"


def test_a_confirmed_diagnosis_is_a_fact() -> None:
    plan = minimal_plan()
    plan.condition(
        "known", concept(ICD10, "G30.9", text="Alzheimer"), verificationStatus=concept(VERIFICATION, "confirmed")
    )
    words = narrative(plan, templates.ACTIVE_PROBLEMS[-1])
    assert "Alzheimer" in words
    assert not any(doubt in words for doubt in DOUBTS.values())


def test_severity_site_and_stage_of_a_problem_are_in_its_words() -> None:
    plan = minimal_plan()
    plan.condition(
        "ulcer",
        {"text": "Escarre"},
        severity={"text": "modérée"},
        bodySite=[{"text": "talon gauche"}],
        stage=[{"summary": {"text": "stade 2"}}],
    )
    plan.goal("healed", "Cicatrisation", plan.ref("ulcer"))
    words = narrative(plan, templates.ACTIVE_PROBLEMS[-1])
    assert all(one in words for one in ("Gravité : modérée", "Site : talon gauche", "Stade : stade 2"))


# --- goals and the plan -------------------------------------------------------------------------------------------


def test_start_reason_and_category_of_a_goal_are_in_its_words() -> None:
    plan = minimal_plan()
    plan["goal-1"] |= {
        "lifecycleStatus": "on-hold",
        "statusReason": "Hospitalisation",
        "startCodeableConcept": {"text": "au retour à domicile"},
        "category": [{"text": "Autonomie"}],
    }
    words = narrative(plan, templates.CARE_PLAN[-1])
    assert "Motif du statut : Hospitalisation" in words
    assert "Début : au retour à domicile" in words
    assert "Catégorie : Autonomie" in words


def test_who_wrote_a_note_is_in_its_words() -> None:
    plan = minimal_plan()
    notes: list[Resource] = [
        {"text": "Marche mieux", "authorString": "Sa fille"},
        {"text": "Reste fatiguée", "authorReference": plan.ref("doctor")},
    ]
    plan["goal-1"]["note"] = notes
    plan.action("physio", "Kinésithérapie", note=notes[:1])
    plan.condition("asthma", {"text": "Asthme"}, note=notes[1:])
    words = narrative(plan, templates.CARE_PLAN[-1])
    assert "Marche mieux (Sa fille)" in words
    assert "Reste fatiguée (Claire ORME)" in words
    assert "Kinésithérapie – Marche mieux (Sa fille)" in words
    assert "Reste fatiguée (Claire ORME)" in narrative(plan, templates.ACTIVE_PROBLEMS[-1])


def test_codes_without_words_are_readable() -> None:
    plan = minimal_plan()
    coded = {"coding": [{"system": LOINC, "code": "4548-4"}]}
    quantity = {"comparator": "<", "value": 7, "unit": "%"}
    plan["goal-1"] |= {"target": [{"measure": coded, "detailQuantity": quantity}], "outcomeCode": [coded]}
    plan.action("dose", "Dosage", reasonCode=[coded])
    words = narrative(plan, templates.CARE_PLAN[-1])
    assert "4548-4 : < 7 %" in words
    assert words.count("4548-4") == 3


def test_a_coverage_that_has_ended_is_left_out() -> None:
    plan = minimal_plan()
    period = {"start": "2019-01-01", "end": "2024-12-31"}
    kind = concept("https://relais.example/fhir/CodeSystem/coverage-type", "complementaire")
    beneficiary = plan.ref("patient")
    payor = [{"display": "Mutuelle du Val"}]
    elements = {"status": "active", "type": kind, "beneficiary": beneficiary, "payor": payor}
    plan.add("insurer", "Coverage", **elements, period=period)
    assert "Mutuelle" not in narrative(plan, templates.SOCIAL_PROVISIONS[-1])
    plan["insurer"]["period"] = {"start": "2019-01-01"}
    assert "Mutuelle du Val" in narrative(plan, templates.SOCIAL_PROVISIONS[-1])


def test_the_interpretation_of_an_assessment_is_in_its_words() -> None:
    plan = minimal_plan()
    goal = plan.ref("goal-1")
    plan.observation(
        "review", "ORG-012", focus=[goal], valueString="Marche 200 m", interpretation=[{"text": "en progrès"}]
    )
    assert "Interprétation : en progrès" in narrative(plan, templates.CARE_PLAN[-1])


def test_notes_of_the_plan_are_kept_beside_the_preferences_and_come_back() -> None:
    plan = minimal_plan()
    plan["plan"]["note"] = [{"text": "Accepte les visites."}]
    plan.observation(
        "preferences", "PAT-008", valueString="Rester chez elle", note=[{"text": "Dit en présence de sa fille"}]
    )
    data = write(convert(plan.bundle(), EMISSION).document)
    words = " ".join(plain_text(section.text) for section in read(data).document.sections)
    assert "Note du plan : Accepte les visites." in words
    assert "Note – Préférences de la personne : Dit en présence de sa fille" in words
    resources = [entry["resource"] for entry in to_bundle(read(data).document, data).bundle["entry"]]
    (back,) = [one for one in resources if one["resourceType"] == "CarePlan"]
    assert back["note"] == plan["plan"]["note"]


def test_a_doubtful_problem_of_a_goal_is_coded_as_a_translation_only() -> None:
    plan = minimal_plan()
    doubtful = concept(CISIS, "ORG-011", text="Suivi à organiser")
    problem = plan.condition("maybe", doubtful, verificationStatus=concept(VERIFICATION, "provisional"))
    plan.goal("organised", "Organiser", problem)
    sections = convert(plan.bundle(), EMISSION).document.sections
    (section,) = [one for one in sections if any(ii.root == templates.CARE_PLAN[-1] for ii in one.template_ids)]
    code = section.entries[1].code
    assert code is not None
    assert (code.code, code.null_flavor) == (None, "OTH")
    assert [one.code for one in code.translations] == ["ORG-011"]
