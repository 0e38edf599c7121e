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
from relais.mappings.to_cda.pps import STATES, UNREACHED_TITLE
from relais.mappings.to_cda.problems import DOUBTS
from relais.mappings.to_cda.prose import dosage, measure, rhythm
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


def test_the_reason_of_an_action_under_no_goal_is_in_its_words() -> None:
    plan = minimal_plan()
    doubt = concept(VERIFICATION, "provisional")
    reason = plan.condition("reason", {"text": "Sténose"}, verificationStatus=doubt)
    plan["plan"].pop("addresses", None)
    plan.action("scan", "Échographie", reasonReference=[reason])
    assert "Échographie – Motif : Sténose (diagnostic provisoire)" in narrative(plan, templates.CARE_PLAN[-1])


def test_a_reason_of_another_patient_is_refused() -> None:
    plan = minimal_plan()
    other = plan.add("other", "Patient", name=[{"family": "AUTRE"}])
    code = {"text": "Chute"}
    fall = plan.add("fall", "Observation", status="final", code=code, subject=other, valueBoolean=True)
    plan.action("physio", "Kinésithérapie", reasonReference=[fall])
    with pytest.raises(MappingError, match="another patient"):
        convert(plan.bundle(), EMISSION)


def back_from(plan: Plan, resource_type: str) -> list[Resource]:
    """The resources of one type after the document of the plan was imported."""
    data = write(convert(plan.bundle(), EMISSION).document)
    resources = [entry["resource"] for entry in to_bundle(read(data).document, data).bundle["entry"]]
    return [one for one in resources if one["resourceType"] == resource_type]


@pytest.mark.parametrize(
    ("elements", "words", "back"),
    [
        ({"status": "unknown"}, "Statut : inconnu", {"status": "unknown", "intent": "plan"}),
        ({"intent": "proposal"}, "Intention : proposition", {"status": "active", "intent": "proposal"}),
        ({"intent": "option"}, "Intention : une des options", {"status": "active", "intent": "option"}),
    ],
)
def test_what_nobody_knows_or_has_decided_is_no_action_under_way(
    elements: Resource, words: str, back: Resource
) -> None:
    plan = minimal_plan()
    plan.action("physio", "Kinésithérapie", **elements)
    assert f"Kinésithérapie ({words})" in narrative(plan, templates.CARE_PLAN[-1])
    (request,) = back_from(plan, "ServiceRequest")
    assert {name: request[name] for name in back} == back
    assert "occurrenceTiming" not in request


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("MedicationRequest", "stopped", "arrêtée"),
        ("Task", "rejected", "refusée"),
        ("Task", "failed", "échec"),
    ],
)
def test_a_status_is_said_as_fhir_means_it(kind: str, status: str, words: str) -> None:
    plan = minimal_plan()
    plan.action("physio", "Kinésithérapie", status=status)
    plan["physio"]["resourceType"] = kind
    assert f"Statut : {words}" in narrative(plan, templates.CARE_PLAN[-1])


def test_a_diet_says_of_which_food_how_much_and_when() -> None:
    plan = minimal_plan()
    diet = {
        "type": [concept("http://snomed.info/sct", "1055204001")],
        "texture": [{"modifier": {"text": "mixée"}, "foodType": {"text": "viande"}}],
        "nutrient": [{"modifier": {"text": "sel"}, "amount": {"comparator": "<", "value": 2, "unit": "g"}}],
        "schedule": [{"repeat": {"frequency": 3, "period": 1, "periodUnit": "d"}}],
    }
    order = plan.add("diet", "NutritionOrder", status="active", intent="plan", dateTime="2026-01-12", oralDiet=diet)
    plan["diet"]["patient"] = plan.ref("patient")
    plan["plan"].setdefault("activity", []).append({"reference": order})
    words = "1055204001, mixée pour viande, sel : < 2 g, 3 fois par jour"
    assert words in narrative(plan, templates.CARE_PLAN[-1])


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
    ("instruction", "words"),
    [
        ({"text": "1 comprimé", "asNeededBoolean": True}, "1 comprimé, si besoin"),
        ({"text": "1 comprimé si besoin", "asNeededBoolean": True}, "1 comprimé si besoin"),
        (
            {"text": "Adapter aux besoins hydriques", "asNeededBoolean": True},
            "Adapter aux besoins hydriques, si besoin",
        ),
        ({"text": "1 cp au besoin", "asNeededBoolean": True}, "1 cp au besoin"),
        (
            {"text": "1 cp si besoin", "asNeededCodeableConcept": {"text": "douleur"}},
            "1 cp si besoin, si besoin : douleur",
        ),
        (
            {"text": "1 cp Si besoin : douleur", "asNeededCodeableConcept": {"text": "Douleur"}},
            "1 cp Si besoin : douleur",
        ),
        ({"asNeededCodeableConcept": {"coding": [{"code": "25064002"}]}}, "si besoin : 25064002"),
        ({"asNeededCodeableConcept": {}}, "si besoin"),
        ({"asNeededBoolean": False, "text": "1 comprimé"}, "1 comprimé"),
        (
            {
                "text": "1 comprimé",
                "maxDosePerPeriod": {"numerator": {"value": 4, "unit": "g"}, "denominator": {"value": 1, "unit": "j"}},
            },
            "1 comprimé, maximum : 4 g / 1 j",
        ),
        ({"text": "a", "maxDosePerAdministration": {"value": 1, "unit": "g"}}, "a, maximum : 1 g par prise"),
        ({"text": "a", "maxDosePerLifetime": {"value": 500, "unit": "mg"}}, "a, maximum : 500 mg au total"),
        ({"route": {"coding": [{"code": "26643006"}]}, "method": {"text": "à sucer"}}, "26643006, à sucer"),
        ({"timing": {"code": {"coding": [{"code": "BID"}]}}}, "2 fois par jour"),
        ({"timing": {"code": {"coding": [{"code": "QXH"}]}}}, "QXH"),
        (
            {"doseAndRate": [{"type": {"text": "calculée"}, "doseQuantity": {"value": 8, "unit": "mg"}}]},
            "8 mg (calculée)",
        ),
    ],
)
def test_what_bounds_a_dose_is_said(instruction: Resource, words: str) -> None:
    assert dosage(instruction) == words


@pytest.mark.parametrize(
    ("element", "words"),
    [
        ({"valueDateTime": "2026-03-01T08:00:00+01:00"}, "01/03/2026 à 08:00"),
        ({"valueAge": {"value": 62, "system": "http://unitsofmeasure.org", "code": "a"}}, "62 an(s)"),
        ({"valueQuantity": {"comparator": "<", "value": 7, "unit": "%"}}, "< 7 %"),
        ({"valueCodeableConcept": {"coding": [{"code": "LA6576-8"}]}}, "LA6576-8"),
        ({"valueBoolean": False}, "non"),
    ],
)
def test_a_value_in_words(element: Resource, words: str) -> None:
    assert measure(element, "value") == words


@pytest.mark.parametrize(
    ("repeat", "words"),
    [
        ({"frequency": 1, "period": 4, "periodMax": 6, "periodUnit": "h"}, "1 fois toutes les 4 à 6 heures"),
        ({"frequency": 2}, "2 fois"),
        ({"when": ["AC"], "offset": 30}, "30 min avant le repas"),
        ({"count": 3, "countMax": 5}, "3 à 5 fois en tout"),
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


@pytest.mark.parametrize(
    ("status", "words"),
    [("remission", "en rémission"), ("recurrence", "récidive"), ("relapse", "rechute"), ("inactive", "inactif")],
)
def test_the_course_of_a_problem_is_in_its_words_and_comes_back(status: str, words: str) -> None:
    plan = minimal_plan()
    course = concept("http://terminology.hl7.org/CodeSystem/condition-clinical", status)
    plan.condition("cancer", {"text": "Cancer du sein"}, clinicalStatus=course)
    assert words in narrative(plan, templates.ACTIVE_PROBLEMS[-1])
    found = {one["code"]["text"]: one for one in back_from(plan, "Condition")}
    assert found["Cancer du sein"]["clinicalStatus"]["coding"][0]["code"] == status


def test_both_bounds_of_when_a_problem_began_are_said() -> None:
    plan = minimal_plan()
    plan.condition("fall", {"text": "Chute"}, onsetPeriod={"start": "2025-10", "end": "2025-12"})
    assert "du 10/2025 au 12/2025" in narrative(plan, templates.ACTIVE_PROBLEMS[-1])


def test_a_problem_that_is_over_is_not_carried_by_a_goal_alone() -> None:
    plan = minimal_plan()
    over = concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "resolved")
    problem = plan.condition("alone", concept(CISIS, "MED-058", text="Vit seule"), clinicalStatus=over)
    plan.goal("visits", "Voir du monde", problem)
    assert "résolu" in narrative(plan, templates.ACTIVE_PROBLEMS[-1])
    found = {one["code"].get("text"): one for one in back_from(plan, "Condition")}
    assert found["Vit seule"]["clinicalStatus"]["coding"][0]["code"] == "resolved"


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


@pytest.mark.parametrize(
    ("status", "words"),
    [("proposed", "proposé"), ("rejected", "refusé"), ("cancelled", "abandonné"), ("accepted", "accepté")],
)
def test_the_status_of_a_goal_is_said_as_fhir_means_it(status: str, words: str) -> None:
    plan = minimal_plan()
    plan["goal-1"]["lifecycleStatus"] = status
    assert f"Statut : {words}" in narrative(plan, templates.CARE_PLAN[-1])


def test_a_goal_that_was_reached_is_not_among_those_that_were_not() -> None:
    plan = minimal_plan()
    achieved = concept("http://terminology.hl7.org/CodeSystem/goal-achievement", "achieved")
    plan["goal-1"] |= {"lifecycleStatus": "cancelled", "achievementStatus": achieved}
    titles = {section.title for section in convert(plan.bundle(), EMISSION).document.sections}
    assert UNREACHED_TITLE not in titles


@pytest.mark.parametrize(("status", "state"), STATES.items())
def test_a_plan_that_is_not_carried_out_says_so(status: str, state: str) -> None:
    """The list of the volet has no other code for what is suspended or was stopped."""
    plan = minimal_plan()
    plan["plan"]["status"] = status
    assert f"État du plan : {state}" in narrative(plan, templates.DOCUMENT_STATUS[-1])


def test_a_provisional_assessment_says_so_and_comes_back() -> None:
    plan = minimal_plan()
    parts = [{"code": {"text": "Toilette"}, "valueString": "seule"}]
    plan.observation("bilan", "ORG-012", focus=[plan.ref("goal-1")], valueString="Marche", component=parts)
    plan["bilan"]["status"] = "preliminary"
    words = narrative(plan, templates.CARE_PLAN[-1])
    assert "Provisoire : Marche" in words
    assert "Toilette : seule" in words
    (observation,) = back_from(plan, "Observation")
    assert (observation["status"], observation["valueString"]) == ("preliminary", "Marche\nToilette : seule")


def test_an_impression_entered_in_error_is_no_synthesis() -> None:
    plan = minimal_plan()
    plan.add(
        "impression",
        "ClinicalImpression",
        status="entered-in-error",
        subject=plan.ref("patient"),
        summary="Démence sévère",
    )
    mapped = convert(plan.bundle(), EMISSION)
    assert b"mence s" not in write(mapped.document)
    assert any(one.path == "ClinicalImpression[0].status" for one in mapped.issues)


@pytest.mark.parametrize("kind", ["AllergyIntolerance", "Flag", "DetectedIssue"])
def test_what_who_reads_should_know_and_the_volet_has_no_place_for_is_a_warning(kind: str) -> None:
    plan = minimal_plan()
    plan.add("allergy", kind, code={"text": "Pénicilline"})
    found = [one for one in convert(plan.bundle(), EMISSION).issues if one.path == f"{kind}[0]"]
    assert [one.severity for one in found] == ["warning"]


@pytest.mark.parametrize(
    ("key", "element"),
    [
        ("goal-1", {"target": [{"measure": {"text": "Pas"}, "modifierExtension": [{"url": "urn:x"}]}]}),
        ("bilan", {"component": [{"code": {"text": "x"}, "modifierExtension": [{"url": "urn:x"}]}]}),
        ("refusal", {"provision": {"type": "deny", "modifierExtension": [{"url": "urn:x"}]}}),
        ("message", {"modifierExtension": [{"url": "urn:x"}]}),
    ],
)
def test_what_may_change_the_meaning_of_a_part_is_refused(key: str, element: Resource) -> None:
    plan = minimal_plan()
    plan.observation("bilan", "ORG-012", focus=[plan.ref("goal-1")], valueString="Marche")
    plan.consent("refusal", "adr", concept(LOINC, "75779-9"))
    message = plan.add("message", "CommunicationRequest", status="active", subject=plan.ref("patient"))
    plan["message"]["note"] = [{"text": "Appeler"}]
    plan["plan"].setdefault("activity", []).append({"reference": message})
    plan[key] |= element
    with pytest.raises(MappingError, match="it may change the meaning"):
        convert(plan.bundle(), EMISSION)


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
