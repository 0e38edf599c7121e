"""What a plan cannot become a document without: each missing item is named by its FHIRPath, all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relais.cda.errors import Issue, MappingError
from relais.cda.model import II
from relais.mappings import extensions
from relais.mappings.context import DocumentVersion, Emission
from relais.mappings.identity import RPPS
from relais.mappings.to_cda import convert
from support.plans import (
    BARE_EMISSION,
    CISIS,
    EMISSION,
    INS_TEST,
    IPP,
    PLANS,
    Plan,
    concept,
    full_ins,
    full_plan,
    minimal_plan,
)

Resource = dict[str, Any]


def refusals(bundle: Resource, emission: Emission = EMISSION) -> list[Issue]:
    """The errors with which a Bundle is refused."""
    with pytest.raises(MappingError) as refused:
        convert(bundle, emission)
    errors = [issue for issue in refused.value.issues if issue.severity == "error"]
    assert errors == list(refused.value.issues[: len(errors)])  # what must be mended comes first
    assert all(issue.path and issue.message and issue.rule for issue in errors)
    return errors


def paths(bundle: Resource, emission: Emission = EMISSION) -> list[str]:
    """The places of those errors."""
    return [issue.path for issue in refusals(bundle, emission)]


def without(key: str, element: str) -> Callable[[Plan], None]:
    """A change that takes an element away."""

    def change(plan: Plan) -> None:
        del plan[key][element]

    return change


def _official_name(**changes: Any) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan["patient"]["name"][0] |= changes

    return change


def _no_birth_names(plan: Plan) -> None:
    plan["patient"]["name"][0]["extension"] = []


def _no_birth_place_code(plan: Plan) -> None:
    plan["patient"]["extension"][1]["valueAddress"]["extension"] = []


def _rpps(value: str) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan["doctor-person"]["identifier"] = [{"system": RPPS, "value": value}]

    return change


def _ins(system: str, value: str) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan["patient"]["identifier"][0] |= {"system": system, "value": value}

    return change


def _false_ins_alone(plan: Plan) -> None:
    _ins("urn:oid:1.2.250.1.213.1.4.10", "279035121518988")(plan)
    plan["patient"]["identifier"] = [
        one for one in plan["patient"]["identifier"] if one["system"].startswith("urn:oid:1.2.250.1.213.1.4.")
    ]


def _two_ins(plan: Plan) -> None:
    first = plan["patient"]["identifier"][0]
    plan["patient"]["identifier"].append(first | {"value": "277076322082910"})


def _no_identifier(plan: Plan) -> None:
    plan["patient"]["identifier"] = []


def _nothing_planned(plan: Plan) -> None:
    plan["plan"]["goal"] = []


def _nameless_doctor(plan: Plan) -> None:
    plan["doctor-person"]["name"] = []


def _patient_author(plan: Plan) -> None:
    plan["plan"]["author"] = plan.ref("patient")


def _structure_author(plan: Plan) -> None:
    plan["plan"]["author"] = plan.ref("cabinet")


def _dangling(element: str, *, many: bool) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        reference = {"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}
        plan["plan"][element] = [reference] if many else reference

    return change


def _dangling_action(plan: Plan) -> None:
    plan["plan"]["activity"] = [{"reference": {"reference": "ServiceRequest/absent"}}]


def _custodian_without_number(plan: Plan) -> None:
    plan["cabinet"]["identifier"] = []


def _status(status: str) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan["plan"]["status"] = status

    return change


def _no_dates(plan: Plan) -> None:
    del plan["plan"]["period"], plan["plan"]["created"]


def _goal_without_text(plan: Plan) -> None:
    plan["goal-1"]["description"] = {}


def _action_without_text(plan: Plan) -> None:
    plan.action("silent", "", plan.ref("goal-1"))
    plan["silent"]["code"] = concept(CISIS, "ORG-014", "Actions dont ETP")


def _activity_of_both_kinds(plan: Plan) -> None:
    plan.action("both", "Action", plan.ref("goal-1"))
    plan["plan"]["activity"][0]["detail"] = {"status": "scheduled", "description": "Autre"}


def _gir(value: int) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan.observation("gir", "PAT-007", valueInteger=value)

    return change


def _provision_of_wrong_type(plan: Plan) -> None:
    plan.observation("pension", "PAT-003", valueString="oui")


def _assessment_without_words(plan: Plan) -> None:
    plan.observation("review", "ORG-012", focus=[plan.ref("goal-1")])


def _problem_without_words(plan: Plan) -> None:
    plan.condition("problem", {"coding": [{"system": "https://exemple.fr", "code": "x"}]})


def _false_pdf(plan: Plan) -> None:
    attachment = {"contentType": "application/pdf", "data": "UEsDBA=="}
    plan.consent("directive", "adr", concept("http://loinc.org", "42348-3"), sourceAttachment=attachment)


def _directive_in_words(plan: Plan) -> None:
    attachment = {"contentType": "text/plain", "data": "SmUgdmV1eC4="}
    plan.consent("directive", "adr", concept("http://loinc.org", "42348-3"), sourceAttachment=attachment)


def _not_base64(plan: Plan) -> None:
    attachment = {"contentType": "application/pdf", "data": "pas du base64"}
    plan.consent("directive", "adr", concept("http://loinc.org", "42348-3"), sourceAttachment=attachment)


def _backwards(plan: Plan) -> None:
    plan["plan"]["period"] = {"start": "2026-02-01", "end": "2026-01-01"}


def _impossible_date(plan: Plan) -> None:
    plan["patient"]["birthDate"] = "1979-02-30"


def _nameless_guardian(plan: Plan) -> None:
    plan["patient"]["contact"] = [
        {"relationship": [concept("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "GUARD")]}
    ]


BIRTH = "Patient.name.where(use='official')"
INS = "Patient.identifier.where(system.startsWith('urn:oid:1.2.250.1.213.1.4.'))"

REFUSED: dict[str, tuple[Callable[[Plan], None], str]] = {
    "no subject": (without("plan", "subject"), "CarePlan.subject"),
    "subject of nothing": (_dangling("subject", many=False), "CarePlan.subject"),
    "no identifier of the plan": (without("plan", "identifier"), "CarePlan.identifier"),
    "no author": (without("plan", "author"), "CarePlan.author"),
    "author is the patient": (_patient_author, "CarePlan.author"),
    "author is a structure": (_structure_author, "CarePlan.author"),
    "author without name": (_nameless_doctor, "CarePlan.author.resolve().name.family"),
    "author without number": (without("doctor-person", "identifier"), "CarePlan.author.resolve().identifier"),
    "RPPS too short": (_rpps("1010123456"), "CarePlan.author.resolve().identifier.value"),
    "custodian without number": (
        _custodian_without_number,
        f"CarePlan.extension('{extensions.CUSTODIAN}').value.resolve().identifier",
    ),
    "status without document": (_status("entered-in-error"), "CarePlan.status"),
    "unknown status": (_status("unknown"), "CarePlan.status"),
    "no date": (_no_dates, "CarePlan.period.start"),
    "period backwards": (_backwards, "CarePlan.period"),
    "nothing planned": (_nothing_planned, "CarePlan.goal"),
    "goal of nothing": (_dangling("goal", many=True), "CarePlan.goal[0]"),
    "problem of nothing": (_dangling("addresses", many=True), "CarePlan.addresses[0]"),
    "team of nothing": (_dangling("careTeam", many=True), "CarePlan.careTeam[0]"),
    "action of nothing": (_dangling_action, "CarePlan.activity[0].reference"),
    "action twice": (_activity_of_both_kinds, "CarePlan.activity[0]"),
    "action without words": (_action_without_text, "CarePlan.activity[0].reference.resolve().code.text"),
    "goal without words": (_goal_without_text, "CarePlan.goal[0].resolve().description.text"),
    "problem without words": (_problem_without_words, "CarePlan.addresses[0].resolve().code.text"),
    "assessment without words": (_assessment_without_words, "Observation[0].value"),
    "GIR 0": (_gir(0), "Observation[0].value"),
    "GIR 7": (_gir(7), "Observation[0].value"),
    "disposition of the wrong type": (_provision_of_wrong_type, "Observation[0].value"),
    "directive that is not the PDF it says": (_false_pdf, "Consent[0].sourceAttachment.data"),
    "directive that is no PDF": (_directive_in_words, "Consent[0].sourceAttachment.contentType"),
    "directive that is not Base64": (_not_base64, "Consent[0].sourceAttachment.data"),
    "no identifier of the patient": (_no_identifier, "Patient.identifier"),
    "INS key": (_ins("urn:oid:1.2.250.1.213.1.4.10", "279035121518988"), f"{INS}.value"),
    "INS key, and no other number": (_false_ins_alone, f"{INS}.value"),
    "INS length": (_ins("urn:oid:1.2.250.1.213.1.4.10", "2790351215189"), f"{INS}.value"),
    "INS of production": (_ins("urn:oid:1.2.250.1.213.1.4.8", "279035121518989"), f"{INS}.system"),
    "two INS": (_two_ins, INS),
    "no birth family name": (_official_name(family=""), f"{BIRTH}.family"),
    "no first birth given name": (_official_name(given=[]), f"{BIRTH}.given"),
    "no birth given names": (_no_birth_names, f"{BIRTH}.extension('{extensions.BIRTH_GIVEN_NAMES}').value"),
    "no birth place": (
        _no_birth_place_code,
        f"Patient.extension('{extensions.BIRTH_PLACE}').value.extension('{extensions.INSEE_CODE}').value.code",
    ),
    "no gender": (without("patient", "gender"), "Patient.gender"),
    "no birth date": (without("patient", "birthDate"), "Patient.birthDate"),
    "impossible birth date": (_impossible_date, "Patient.birthDate"),
    "guardian without name": (_nameless_guardian, "Patient.contact[0].name"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_missing_item_is_named(name: str) -> None:
    change, path = REFUSED[name]
    plan = minimal_plan()
    convert(plan.bundle(), EMISSION)  # nothing else is wrong
    change(plan)
    assert paths(plan.bundle()) == [path]


def test_everything_that_is_missing_is_named_at_once() -> None:
    plan = minimal_plan()
    for name in ("no author", "no gender", "no birth place", "no date", "nothing planned", "unknown status"):
        REFUSED[name][0](plan)
    assert set(paths(plan.bundle())) == {REFUSED[name][1] for name in REFUSED} & set(paths(plan.bundle()))
    assert len(paths(plan.bundle())) == 6


def test_the_emitter_must_state_what_the_resources_do_not() -> None:
    plan = minimal_plan()
    plan["plan"]["extension"] = plan["plan"]["extension"][1:]
    del plan["cabinet"]["type"]
    convert(plan.bundle(), EMISSION)
    assert paths(plan.bundle(), BARE_EMISSION) == [
        f"CarePlan.extension('{extensions.CUSTODIAN}').value.resolve().identifier",
        "CarePlan.author.resolve().organization.resolve().type",
        "PractitionerRole.organization.resolve().type",
    ]


def test_a_test_ins_never_leaves_a_production_instance() -> None:
    deployment = replace(EMISSION.deployment, ins_environment="production")
    assert paths(PLANS["minimal"], replace(EMISSION, deployment=deployment)) == [f"{INS}.system"]


def test_a_later_version_must_say_what_it_replaces() -> None:
    emission = replace(EMISSION, version=DocumentVersion(2))
    assert paths(PLANS["minimal"], emission) == ["Composition.relatesTo.where(code='replaces').targetIdentifier"]
    first = replace(EMISSION, version=DocumentVersion(1, II("1.2.3")))
    assert paths(PLANS["minimal"], first) == ["Composition.relatesTo"]


# --- another patient ----------------------------------------------------------------------------------------------

OTHERS = {
    "goal-1": ("subject", "CarePlan.goal[0].resolve().subject"),
    "walking": ("subject", "CarePlan.goal[1].resolve().subject"),
    "mobility": ("subject", "CarePlan.addresses[0].resolve().subject"),
    "physio": ("subject", "CarePlan.activity[0].reference.resolve().subject"),
    "team": ("subject", "CarePlan.careTeam[0].resolve().subject"),
    "review-1": ("subject", "Observation[0].subject"),
    "insurer": ("subject", "Observation[3].subject"),
    "directive": ("patient", "Consent[0].patient"),
    "sharing": ("patient", "Consent[1].patient"),
    "sister": ("patient", "RelatedPerson[0].patient"),
}


@pytest.mark.parametrize("key", OTHERS)
@pytest.mark.parametrize("resolved", [True, False])
def test_a_resource_of_another_patient_is_refused(key: str, resolved: bool) -> None:
    plan = full_plan()
    other = plan.add("other", "Patient", id="other") if resolved else {"reference": "Patient/other"}
    element, path = OTHERS[key]
    plan[key][element] = other
    found = refusals(plan.bundle())
    assert path in [issue.path for issue in found]
    assert {issue.message for issue in found} == {"another patient than the subject of the document"}


def test_another_patient_may_not_act() -> None:
    plan = full_plan()
    plan["physio"]["performer"] = [plan.add("other", "Patient", id="other")]
    assert paths(plan.bundle()) == ["CarePlan.activity[0].reference.resolve().performer[0]"]


def test_a_logical_reference_to_the_patient_is_enough() -> None:
    plan = minimal_plan()
    identifier = {name: plan["patient"]["identifier"][1][name] for name in ("system", "value")}
    plan["goal-1"]["subject"] = {"identifier": identifier}
    convert(plan.bundle(), EMISSION)
    plan["goal-1"]["subject"] = {"identifier": identifier | {"value": "autre"}}
    assert paths(plan.bundle()) == ["CarePlan.goal[0].resolve().subject"]


# --- Bundles --------------------------------------------------------------------------------------------------------


def test_a_bundle_needs_one_plan() -> None:
    plan = minimal_plan()
    del plan.resources["plan"]
    assert [str(issue) for issue in refusals_of(plan.bundle())] == [
        "error: Bundle.entry.resource.ofType(CarePlan): a CarePlan, a CommunicationRequest, a Communication or "
        "Appointments are expected: none found [docs/mapping-pps.md]"
    ]
    two = minimal_plan()
    two.add("second", "CarePlan", status="draft", intent="plan", subject=two.ref("patient"))
    assert "several found" in str(refusals_of(two.bundle())[0])


def refusals_of(bundle: Resource) -> list[Issue]:
    """Every finding with which a Bundle is refused."""
    with pytest.raises(MappingError) as refused:
        convert(bundle, EMISSION)
    return list(refused.value.issues)


def test_a_composition_says_which_plan() -> None:
    plan = minimal_plan()
    plan.add("second", "CarePlan", status="draft", intent="plan", subject=plan.ref("patient"))
    plan.add(
        "composition",
        "Composition",
        status="final",
        subject=plan.ref("patient"),
        date="2026-03-01",
        author=[plan.ref("doctor")],
        section=[{"entry": [plan.ref("plan")]}],
    )
    assert convert(plan.bundle(), EMISSION).document.header.set_id is not None


def test_only_a_bundle_is_converted() -> None:
    assert [issue.path for issue in refusals_of({"resourceType": "CarePlan"})] == ["Bundle"]


@pytest.mark.parametrize("version", ["0", "-1", "1.0", "deux", "²"])
def test_the_version_of_a_composition_is_a_positive_integer(version: str) -> None:
    plan = minimal_plan()
    plan.add(
        "composition",
        "Composition",
        subject=plan.ref("patient"),
        extension=[{"url": extensions.COMPOSITION_VERSION, "valueString": version}],
    )
    assert paths(plan.bundle()) == [f"Composition.extension('{extensions.COMPOSITION_VERSION}').value"]


def test_the_type_of_a_composition_is_a_document_type() -> None:
    plan = minimal_plan()
    plan.add("composition", "Composition", subject=plan.ref("patient"), type=concept("http://loinc.org", "1-8"))
    assert paths(plan.bundle()) == ["Composition.type"]


# --- of whom ----------------------------------------------------------------------------------------------------------

NSS = "urn:oid:1.2.250.1.213.1.4.13"


def _twin(identifiers: list[Resource]) -> Plan:
    """A plan whose goal is of a contained Patient with these identifiers."""
    plan = minimal_plan()
    plan["patient"]["identifier"].append({"system": NSS, "value": "269054958815780"})
    twin = {"resourceType": "Patient", "id": "twin", "identifier": identifiers}
    plan["goal-1"] |= {"contained": [twin], "subject": {"reference": "#twin"}}
    return plan


@pytest.mark.parametrize(
    "identifiers",
    [
        [{"system": NSS, "value": "269054958815780"}],
        [{"system": IPP, "value": "P-2026-0001"}, {"system": INS_TEST, "value": full_ins("2790363220123")}],
    ],
    ids=["a social security number that a family shares", "another INS"],
)
def test_a_twin_is_another_patient(identifiers: list[Resource]) -> None:
    assert "CarePlan.goal[0].resolve().subject" in paths(_twin(identifiers).bundle())


def test_a_copy_of_the_patient_is_no_other_one() -> None:
    convert(_twin([{"system": IPP, "value": "P-2026-0001"}]).bundle(), EMISSION)
