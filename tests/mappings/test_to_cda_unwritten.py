"""Nothing that a plan states is dropped in silence: it is in the document, in the issues, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from relais.cda.errors import Issue, MappingError
from relais.cda.narrative import plain_text
from relais.cda.writer import write
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.unwritten import MODIFIER_RULE
from support.plans import CISIS, EMISSION, R260, SNOMED, Plan, concept, full_plan, minimal_plan

Resource = dict[str, Any]

ENDED = {"start": "2020-01-01", "end": "2025-12-31"}
LOST: list[tuple[str, Resource]] = [
    ("patient", {"maritalStatus": {"text": "Marié"}}),
    ("patient", {"communication": [{"language": {"text": "Polonais"}}]}),
    ("patient", {"extension": [{"url": "https://example.org/x", "valueString": "x"}]}),
    ("doctor", {"availabilityExceptions": "Fermé le mercredi"}),
    ("doctor-person", {"gender": "female"}),
    ("cabinet", {"alias": ["Les Ormes"]}),
    ("sister", {"birthDate": "1980-01-01"}),
    ("plan", {"partOf": [{"display": "Autre plan"}]}),
    ("plan", {"encounter": {"display": "Séjour"}}),
    ("team", {"name": "Équipe du quartier"}),
    ("diabetes", {"evidence": [{"code": [{"text": "HbA1c"}]}]}),
    ("diabetes", {"asserter": {"display": "Dr Orme"}}),
    ("walking", {"extension": [{"url": "https://example.org/x", "valueString": "x"}]}),
    ("physio", {"requester": {"display": "Dr Orme"}}),
    ("physio", {"supportingInfo": [{"display": "Radiographie"}]}),
    ("review-1", {"performer": [{"display": "Dr Orme"}]}),
    ("directive", {"policy": [{"uri": "https://example.org/policy"}]}),
]


def issues(plan: Plan) -> list[Issue]:
    """What the conversion says of the plan."""
    return convert(plan.bundle(), EMISSION).issues


def words(plan: Plan) -> str:
    """Everything that one reads in the document."""
    return " ".join(plain_text(section.text) for section in convert(plan.bundle(), EMISSION).document.sections)


def others(plan: Plan, base: Plan) -> list[str]:
    """The paths of the issues that the base does not have."""
    known = issues(base)
    return [issue.path for issue in issues(plan) if issue not in known]


@pytest.mark.parametrize(("key", "elements"), LOST, ids=[f"{key}.{next(iter(one))}" for key, one in LOST])
def test_an_element_without_place_is_said(key: str, elements: Resource) -> None:
    plan = full_plan()
    for name, value in elements.items():
        stated = plan[key].get(name)
        plan[key][name] = [*stated, *value] if isinstance(stated, list) else value
    (path,) = others(plan, full_plan())
    kind = plan[key]["resourceType"]
    assert path.startswith(f"{kind}[")
    assert f"].{next(iter(elements))}" in path


def test_what_has_an_id_is_named_by_it() -> None:
    plan = full_plan()
    plan["walking"] |= {"id": "g1", "outcomeNote": "x"}
    plan.add("nobody", "Goal", id="g9", lifecycleStatus="active", description={"text": "Seul"})
    said = [issue.path for issue in issues(plan)]
    assert {"Goal/g1.outcomeNote", "Goal/g9"} <= {*said}
    assert not any(path.startswith("Goal[0]") for path in said)


@pytest.mark.parametrize("key", ["patient", "plan", "walking", "physio", "diabetes", "team", "review-1"])
@pytest.mark.parametrize(
    "element", [{"modifierExtension": [{"url": "https://example.org/not"}]}, {"implicitRules": "x"}]
)
def test_what_may_change_the_meaning_is_refused(key: str, element: Resource) -> None:
    plan = full_plan()
    plan[key] |= element
    with pytest.raises(MappingError) as refusal:
        convert(plan.bundle(), EMISSION)
    assert [issue.rule for issue in refusal.value.issues if issue.severity == "error"] == [MODIFIER_RULE]


@pytest.mark.parametrize("kind", ["Goal", "Condition", "ServiceRequest", "CareTeam"])
def test_what_the_plan_does_not_refer_to_is_said(kind: str) -> None:
    plan = minimal_plan()
    patient = {"subject": plan.ref("patient")}
    about = {
        "Goal": {"lifecycleStatus": "active", "description": {"text": "Lire"}},
        "Condition": {"code": {"text": "Cécité"}},
        "ServiceRequest": {"status": "active", "intent": "plan", "code": {"text": "Lecture"}},
        "CareTeam": {"status": "active"},
    }
    plan.add("alone", kind, **about[kind], **patient)
    said = [(issue.severity, issue.message) for issue in issues(plan) if issue.path.startswith(f"{kind}[")]
    assert said == [("warning", "nothing of the plan refers to it: not written")]


@pytest.mark.parametrize(
    ("kind", "elements", "message"),
    [
        (
            "Observation",
            {"status": "final", "code": concept(SNOMED, "27113001")},
            "no section is about it: not written",
        ),
        ("DocumentReference", {"status": "current", "content": []}, "no section is about it: not written"),
        ("QuestionnaireResponse", {"status": "completed"}, "this type of resource has no place in the document"),
        ("AllergyIntolerance", {"code": {"text": "Iode"}}, "this type of resource has no place in the document"),
    ],
)
def test_supporting_information_that_no_section_is_about_is_said(kind: str, elements: Resource, message: str) -> None:
    plan = minimal_plan()
    plan["plan"]["supportingInfo"] = [plan.add("other", kind, **elements)]
    assert [issue.message for issue in issues(plan) if issue.path == f"{kind}[0]"] == [message]


def test_what_is_only_named_is_in_words() -> None:
    plan = minimal_plan()
    plan["plan"] |= {
        "addresses": [{"display": "Dénutrition"}],
        "supportingInfo": [{"display": "Grille AGGIR"}],
        "careTeam": [{"display": "Équipe du quartier"}],
        "contributor": [{"display": "Mme Hêtre"}],
    }
    plan["plan"]["goal"].append({"display": "Manger mieux"})
    plan["goal-1"]["addresses"] = [{"display": "Chutes"}]
    plan.action("meals", "Portage de repas", reasonReference=[{"display": "Perte de poids"}])
    said = words(plan)
    for line in (
        "Problème : Dénutrition",
        "Information associée : Grille AGGIR",
        "Équipe : Équipe du quartier",
        "Contributeur : Mme Hêtre",
        "Objectif : Manger mieux",
        "Problème d'un objectif : Chutes",
        "Portage de repas – Motif : Perte de poids",
    ):
        assert line in said


def test_members_and_roles_that_the_header_cannot_hold_are_in_words() -> None:
    plan = full_plan()
    plan["team"]["participant"] += [
        {"member": {"display": "Mme Cèdre, bénévole"}},
        {"member": plan.ref("pharmacist"), "role": [{"text": "Préparation des piluliers"}]},
    ]
    plan["team"]["participant"] += [
        {"member": plan.ref("patient"), "role": [{"text": "Décide des horaires"}]},
        {"member": plan.ref("sister"), "role": [{"coding": [{"system": SNOMED, "code": "133932002"}]}]},
    ]
    said = words(plan)
    assert "Dominique PAT-TROIS : Décide des horaires" in said
    assert "Sophie NESSI : 133932002" in said
    assert "Membre de l'équipe : Mme Cèdre, bénévole" in said
    assert "Jean MARTIN : Préparation des piluliers" in said


@pytest.mark.parametrize("status", ["inactive", "entered-in-error"])
def test_a_team_that_is_none_any_more_is_left_out(status: str) -> None:
    plan = full_plan()
    plan["team"]["status"] = status
    mapped = convert(plan.bundle(), EMISSION)
    assert not mapped.document.header.participants
    assert "CarePlan.careTeam[0].resolve().status" in [issue.path for issue in mapped.issues]


def test_a_relation_outside_the_lists_is_in_words() -> None:
    plan = minimal_plan()
    plan.relative("in-law", "HOUX", "Rose", {"text": "belle-sœur par alliance"})
    plan.relative("agent", "IF", "Ann", concept("http://terminology.hl7.org/CodeSystem/v3-RoleCode", "POWATT"))
    plan.relative("mother", "BUIS", "Eve", concept("http://terminology.hl7.org/CodeSystem/v3-RoleCode", "MTH"))
    assert "Rose HOUX : belle-sœur par alliance" in words(plan)
    said = [issue.path for issue in issues(plan) if "no relation of JDV_J11" in issue.message]
    assert said == ["RelatedPerson[1].relationship[0]"]


# --- what has ended -----------------------------------------------------------------------------------------------


def test_a_relation_that_has_ended_is_left_out() -> None:
    plan = minimal_plan()
    plan.relative("tutor", "ANCIEN", "Luc", concept(R260, "GUARD"), period=ENDED)
    plan.relative("carer", "PARTIE", "Zoé", concept(R260, "CAREGIVER"), period=ENDED)
    plan["patient"]["contact"] = [
        {"relationship": [concept(R260, "GUARD")], "name": {"family": "RETRAITE"}, "period": ENDED},
        {"relationship": [concept(R260, "ECON")], "name": {"family": "MUETTE"}, "period": ENDED},
    ]
    mapped = convert(plan.bundle(), EMISSION)
    header = mapped.document.header
    assert (header.patient.guardians, header.informants) == ([], [])
    paths = {issue.path for issue in mapped.issues}
    assert {f"RelatedPerson[{n}].period" for n in (0, 1)} | {f"Patient.contact[{n}].period" for n in (0, 1)} <= paths


def test_a_former_address_contact_point_or_name_is_left_out() -> None:
    plan = minimal_plan()
    patient = plan["patient"]
    patient["address"] = [{"city": "LYON", "period": ENDED}, {"city": "PARIS"}]
    patient["telecom"] = [{"system": "phone", "value": "0123456789", "period": ENDED}]
    patient["name"] += [{"use": "usual", "family": "EPOUX", "period": ENDED}, {"use": "maiden", "family": "JEUNE"}]
    mapped = convert(plan.bundle(), EMISSION)
    written = write(mapped.document)
    assert not any(one in written for one in (b"LYON", b"0123456789", b"EPOUX", b"JEUNE"))
    assert [one.city for one in mapped.document.header.patient.addresses] == ["PARIS"]
    paths = [issue.path for issue in mapped.issues]
    expected = {"Patient.address[0].period", "Patient.telecom[0].period", "Patient.name[1].period", "Patient.name"}
    assert expected <= set(paths)


def test_an_action_for_a_reason_that_is_an_observation_says_it() -> None:
    plan = minimal_plan()
    reason = plan.add("weight", "Observation", status="final", code=concept(CISIS, "X", text="Poids"))
    plan.action("meals", "Portage de repas", reasonReference=[reason])
    assert "Portage de repas – Motif : Poids" in words(plan)
