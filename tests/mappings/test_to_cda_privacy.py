"""What must not leave with a plan: an INS that is not qualified, another patient's data, what the person opposes, and a
plan that nobody approved."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from relais.cda.errors import Issue, MappingError
from relais.cda.writer import write
from relais.mappings import extensions, identity
from relais.mappings.identity import RPPS
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.pps import APPROVAL_RULE, OPPOSITION_RULE
from support.plans import EMISSION, INS_TEST, Plan, concept, full_plan, minimal_plan

Resource = dict[str, Any]
Change = Callable[[Plan], Any]

INS = "279035121518989"
OTHER_INS = "277076322082910"
MAILBOX = f"{INS}@patient.mssante.fr"
NSS = "urn:oid:1.2.250.1.213.1.4.13"
FR_TYPES = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"
V2_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
VERIFIER = concept("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "verifier")


def xml_of(plan: Plan) -> str:
    """The document of a plan."""
    return write(convert(plan.bundle(), EMISSION).document).decode()


def issues_of(plan: Plan) -> list[Issue]:
    """What is said about a plan."""
    return convert(plan.bundle(), EMISSION).issues


def unqualified() -> Plan:
    """A plan whose patient has an INS and no identity status."""
    plan = minimal_plan()
    plan["patient"]["extension"] = plan["patient"]["extension"][1:]
    return plan


# --- the INS ------------------------------------------------------------------------------------------------------


def _email(value: str) -> Resource:
    return {"system": "email", "value": value}


def _identified(**changes: Any) -> Change:
    def change(plan: Plan) -> None:
        plan["patient"]["identifier"][0] |= changes

    return change


def _with_mailbox(change: Change) -> Change:
    def both(plan: Plan) -> None:
        change(plan)
        plan["patient"]["telecom"] = [_email(MAILBOX)]

    return both


def _no_ins(plan: Plan) -> None:
    del plan["patient"]["identifier"][0]


def _relative(plan: Plan) -> None:
    plan.relative("sister", "PAT", "Anne", identifier=[{"system": INS_TEST, "value": INS}], telecom=[_email(MAILBOX)])


def _contact(plan: Plan) -> None:
    plan["patient"]["contact"] = [{"name": {"family": "PAT", "given": ["Anne"]}, "telecom": [_email(MAILBOX)]}]


def _mailbox(value: str) -> Change:
    def change(plan: Plan) -> None:
        plan["patient"]["telecom"] = [_email(value)]

    return change


def _business_identifier(key: str) -> Change:
    def change(plan: Plan) -> None:
        plan[key]["id"] = key
        plan[key]["identifier"] = [{"system": INS_TEST, "value": INS}]

    return change


def _disposition(plan: Plan) -> None:
    plan.observation("apa", "PAT-006", valueBoolean=True, identifier=[{"system": NSS, "value": INS}])


def _professional(plan: Plan) -> None:
    plan["doctor-person"]["identifier"].insert(0, {"system": "urn:oid:1.2.3.4", "value": INS})
    plan["cabinet"]["identifier"].append({"system": "urn:oid:1.2.3.4", "value": INS})


LEAKS: dict[str, Change] = {
    "not qualified": lambda plan: None,
    "citizen mailbox": _mailbox(MAILBOX),
    "citizen mailbox in groups": _mailbox("2 79 03 51 215 189 89@patient.mssante.fr"),
    "citizen mailbox as a URL": _mailbox(f"mailto:{INS}%40patient.mssante.fr"),
    "another mailbox that spells it": _mailbox(f"p{INS}@exemple.fr"),
    "mailbox without INS": _with_mailbox(_no_ins),
    "mailbox with a former INS": _with_mailbox(_identified(use="old")),
    "mailbox with an ended INS": _with_mailbox(_identified(period={"end": "2020-01-01"})),
    "mailbox with an NSS": _with_mailbox(_identified(system=NSS)),
    "mailbox of a relative": _relative,
    "mailbox of a contact": _contact,
    "OID in upper case": _identified(system="URN:OID:1.2.250.1.213.1.4.10"),
    "OID between blanks": _identified(system=" urn:oid:1.2.250.1.213.1.4.10 "),
    "URL and type INS-NIR": _identified(system="https://exemple.fr/ins", type=concept(FR_TYPES, "INS-NIR")),
    "URL and type NH": _identified(system="https://exemple.fr/nss", type=concept(V2_TYPES, "NH")),
    "URL without type": _identified(system="https://exemple.fr/numero"),
    "local OID": _identified(system="urn:oid:1.2.3.4"),
    "identifier of the plan": _business_identifier("plan"),
    "identifier of a goal": _business_identifier("goal-1"),
    "identifier of a disposition": _disposition,
    "identifier of a professional": _professional,
}


@pytest.mark.parametrize("name", LEAKS)
def test_an_ins_that_is_not_qualified_leaves_nowhere(name: str) -> None:
    plan = unqualified()
    LEAKS[name](plan)
    mapped = convert(plan.bundle(), EMISSION)
    document = write(mapped.document).decode()
    assert INS not in document
    assert "2 79 03" not in document
    assert any(issue.severity == "warning" and "left out" in issue.message for issue in mapped.issues)
    assert all(INS not in str(issue) for issue in mapped.issues)


def test_the_qualified_ins_leaves_with_its_mailbox_and_no_other() -> None:
    plan = minimal_plan()
    plan["patient"]["telecom"] = [_email(MAILBOX), _email(f"{OTHER_INS}@patient.mssante.fr"), _email("p@exemple.fr")]
    document = xml_of(plan)
    assert f"mailto:{MAILBOX}" in document
    assert "mailto:p@exemple.fr" in document
    assert OTHER_INS not in document


@pytest.mark.parametrize("change", [{"use": "old"}, {"period": {"end": "2026-03-01"}}, {"period": {"start": "2027"}}])
def test_a_qualified_identity_needs_a_current_ins(change: Resource) -> None:
    plan = minimal_plan()
    plan["patient"]["identifier"][0] |= change
    mapped = convert(plan.bundle(), EMISSION)
    assert INS not in write(mapped.document).decode()
    assert any("outside its period" in issue.message for issue in mapped.issues)


def test_a_former_ins_does_not_hide_the_current_one() -> None:
    plan = minimal_plan()
    former = plan["patient"]["identifier"][0] | {"value": OTHER_INS, "period": {"end": "2025"}}
    plan["patient"]["identifier"].insert(0, former)
    document = xml_of(plan)
    assert INS in document
    assert OTHER_INS not in document


@pytest.mark.parametrize("period", [{}, {"end": "2026-03-02"}, {"start": "2026", "end": "2026"}, {"start": "2026-03"}])
def test_periods_count_whole_days(period: Resource) -> None:
    assert identity.covers(period, EMISSION.now.date())


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"active": False}, "Patient.active"),
        ({"link": [{"other": {"display": "autre"}, "type": "replaced-by"}]}, "Patient.link[0]"),
    ],
)
def test_a_record_that_is_no_longer_in_use_is_said(change: Resource, path: str) -> None:
    plan = minimal_plan()
    assert path not in [issue.path for issue in issues_of(plan)]
    plan["patient"] |= change
    assert [issue.severity for issue in issues_of(plan) if issue.path == path] == ["warning"]


def test_a_temporary_ins_is_said() -> None:
    plan = minimal_plan()
    plan["patient"]["identifier"][0]["use"] = "temp"
    assert any("never temporary" in issue.message for issue in issues_of(plan))


# --- another patient ----------------------------------------------------------------------------------------------


def stranger(plan: Plan) -> Resource:
    """The Reference to another patient."""
    plan["other"] = copy.deepcopy(plan["patient"])
    plan["other"]["identifier"] = [{"system": "urn:oid:1.2.3.4", "value": "Z"}]
    plan["other"]["name"] = [{"use": "official", "family": "SECRET", "given": ["Zoe"]}]
    return plan.ref("other")


def composed(plan: Plan, **elements: Any) -> None:
    """Add a Composition that presents the plan."""
    known = {"date": "2026-01-12", "author": [plan.ref("doctor")], "section": [{"entry": [plan.ref("plan")]}]}
    plan.add("composition", "Composition", status="final", subject=plan.ref("patient"), **(known | elements))


STRANGERS: dict[str, tuple[Callable[[Plan, Resource], Any], str]] = {
    "goal": (
        lambda plan, who: plan["goal-1"].update(expressedBy=who),
        "CarePlan.goal[0].resolve().expressedBy.resolve()",
    ),
    "author": (
        lambda plan, who: composed(plan, author=[who, plan.ref("doctor")]),
        "Composition.author[0].resolve()",
    ),
    "legal attester": (
        lambda plan, who: composed(plan, attester=[{"mode": "legal", "party": who, "time": "2026-01-12"}]),
        "Composition.attester[0].party.resolve()",
    ),
    "member of the team": (
        lambda plan, who: plan["plan"].update(
            careTeam=[plan.add("team", "CareTeam", subject=plan.ref("patient"), participant=[{"member": who}])]
        ),
        "CarePlan.careTeam[0].resolve().participant[0].member.resolve()",
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_another_patient_takes_no_part(name: str) -> None:
    plan = minimal_plan()
    change, path = STRANGERS[name]
    change(plan, stranger(plan))
    with pytest.raises(MappingError) as refused:
        convert(plan.bundle(), EMISSION)
    errors = [issue for issue in refused.value.issues if issue.severity == "error"]
    assert [issue.path for issue in errors] == [path]
    assert errors[0].message == "another patient than the subject of the document"


def test_a_relative_of_another_patient_wants_nothing_here() -> None:
    plan = minimal_plan()
    plan["goal-1"]["expressedBy"] = plan.relative("theirs", "SECRET", "Zoe", patient=stranger(plan), active=False)
    with pytest.raises(MappingError) as refused:
        convert(plan.bundle(), EMISSION)
    assert refused.value.issues[0].path == "CarePlan.goal[0].resolve().expressedBy.resolve().patient"


def test_a_contained_copy_of_the_patient_is_the_patient() -> None:
    plan = minimal_plan()
    copied = {**copy.deepcopy(plan["patient"]), "id": "p", "name": [{"family": "COPIE"}]}
    plan["goal-1"] |= {"contained": [copied], "expressedBy": {"reference": "#p"}}
    document = xml_of(plan)
    assert "Exprimé par la personne" in document
    assert "COPIE" not in document


# --- opposition ---------------------------------------------------------------------------------------------------


def oppositions(plan: Plan) -> list[str]:
    """The places that forbid the transmission."""
    return [issue.path for issue in issues_of(plan) if issue.rule == OPPOSITION_RULE]


def denying(**provision: Any) -> Resource:
    """A permission with one exception."""
    return {"type": "permit", "provision": [{"type": "deny", **provision}]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"provision": {"type": "deny"}}, ["Consent[0]"]),
        ({"provision": {"type": "deny"}, "status": "inactive"}, []),
        ({"provision": {"type": "deny", "period": {"end": "2026-01-01"}}}, []),
        ({"provision": {"type": "deny", "period": {"end": "2026-12-31"}}}, ["Consent[0]"]),
        (
            {"provision": denying(actor=[{"reference": {"display": "un professionnel"}}])},
            ["Consent[0].provision.provision[0]"],
        ),
        ({"provision": denying(period={"end": "2020"})}, []),
    ],
)
def test_an_opposition_forbids_the_transmission(change: Resource, expected: list[str]) -> None:
    plan = minimal_plan()
    plan.sharing_consent(**change)
    assert oppositions(plan) == expected


def test_an_opposition_inside_the_team_forbids_it_too() -> None:
    plan = minimal_plan()
    informed = concept("https://relais.example/fhir/CodeSystem/consent-category", "info-non-opposition")
    plan.consent("informed", "patient-privacy", informed, provision={"type": "deny"})
    assert oppositions(plan) == ["Consent[0]"]


def test_a_denial_wins_over_the_consent_that_a_composition_names() -> None:
    plan = minimal_plan()
    permit = plan.sharing_consent()
    plan.consent("denial", "patient-privacy", concept("http://loinc.org", "59284-0"), provision={"type": "deny"})
    composed(plan, extension=[{"url": extensions.CONSENT, "valueReference": permit}])
    assert oppositions(plan) == ["Consent[1]"]
    assert convert(plan.bundle(), EMISSION).document.header.consents == []


def test_what_the_person_opposes_stays_out() -> None:
    plan = minimal_plan()
    plan.observation("apa", "PAT-006", valueBoolean=True)
    plan.observation("pension", "PAT-001", valueString="Caisse du Val")
    assert "PAT-006" in xml_of(plan)
    hidden = {"meaning": "instance", "reference": plan.ref("apa")}
    plan.sharing_consent(provision=denying(data=[hidden]))
    document = xml_of(plan)
    assert "PAT-006" not in document
    assert "Caisse du Val" in document
    assert oppositions(plan) == []
    assert [issue.path for issue in issues_of(plan) if "opposes its sharing" in issue.message] == ["Observation[0]"]


def test_a_plan_made_of_what_the_person_opposes_is_not_transmitted() -> None:
    plan = minimal_plan()
    plan.sharing_consent(provision=denying(data=[{"meaning": "instance", "reference": plan.ref("goal-1")}]))
    assert oppositions(plan) == ["CarePlan.goal[0]"]


def test_an_exception_for_more_than_one_resource_cannot_be_judged() -> None:
    plan = minimal_plan()
    plan.sharing_consent(provision=denying(data=[{"meaning": "related", "reference": plan.ref("goal-1")}]))
    assert oppositions(plan) == ["Consent[0].provision.provision[0]", "CarePlan.goal[0]"]


# --- approval -----------------------------------------------------------------------------------------------------

APPROVAL = f"CarePlan.extension('{extensions.APPROVAL}')"


def unapproved(plan: Plan) -> list[str]:
    """Why the plan may not be transmitted yet."""
    return [issue.message for issue in issues_of(plan) if issue.rule == APPROVAL_RULE]


def without_approval(status: str = "active") -> Plan:
    """A plan that nobody approved."""
    plan = minimal_plan()
    plan["plan"]["status"] = status
    plan["plan"]["extension"] = [one for one in plan["plan"]["extension"] if one["url"] != extensions.APPROVAL]
    return plan


def verified(plan: Plan, target: str, **changes: Any) -> None:
    """Add a Provenance that says who verified the plan."""
    elements: Resource = {
        "target": [{"reference": target}],
        "recorded": "2026-02-01T10:00:00Z",
        "agent": [{"type": VERIFIER, "who": plan.ref("doctor")}],
    }
    plan.add("provenance", "Provenance", **(elements | changes))


@pytest.mark.parametrize("status", ["draft", "on-hold", "active", "completed", "revoked"])
def test_no_plan_leaves_without_approval(status: str) -> None:
    assert unapproved(without_approval(status)) == ["no approval is recorded: inside the circle of care only"]
    approved = minimal_plan()
    approved["plan"]["status"] = status
    assert unapproved(approved) == []


def _approved_by(**parts: Any) -> Change:
    def change(plan: Plan) -> None:
        known = {"who": {"valueReference": plan.ref("doctor")}, "date": {"valueDateTime": "2026-02-01"}}
        stated = {name: part(plan) if callable(part) else part for name, part in (known | parts).items()}
        sub = [{"url": name, **part} for name, part in stated.items() if part]
        plan["plan"]["extension"] = [{"url": extensions.APPROVAL, "extension": sub}]

    return change


def _by(key: str) -> Callable[[Plan], Resource]:
    return lambda plan: {"valueReference": plan.ref(key)}


WEAK: dict[str, tuple[Change, str]] = {
    "nobody": (_approved_by(who=None), "nobody is named"),
    "the patient": (_approved_by(who=_by("patient")), "no professional"),
    "a structure": (_approved_by(who=_by("cabinet")), "no professional"),
    "a name": (_approved_by(who={"valueReference": {"display": "Dr X"}}), "no professional"),
    "a number": (
        _approved_by(who={"valueReference": {"identifier": {"system": RPPS, "value": "10101234567"}}}),
        "no professional",
    ),
    "no date": (_approved_by(date=None), "no date"),
    "tomorrow": (_approved_by(date={"valueDateTime": "2099-01-01"}), "in the future"),
}


@pytest.mark.parametrize("name", WEAK)
def test_an_approval_has_a_professional_and_a_date(name: str) -> None:
    plan = without_approval()
    _approved_by()(plan)
    assert unapproved(plan) == []
    change, reason = WEAK[name]
    change(plan)
    (message,) = unapproved(plan)
    assert reason in message


def test_a_relative_approves_nothing() -> None:
    plan = without_approval()
    plan.relative("sister", "PAT", "Anne")
    _approved_by(who=_by("sister"))(plan)
    assert "no professional" in unapproved(plan)[0]


@pytest.mark.parametrize(
    ("status", "version", "counts"),
    [
        ("active", None, True),
        ("active", "2", True),
        ("active", "1", False),
        ("draft", "1", False),
        ("completed", "1", True),  # approved once, closed since
        ("revoked", "1", True),
    ],
)
def test_a_version_that_was_approved_is_not_the_next_one(status: str, version: str | None, counts: bool) -> None:
    plan = without_approval(status)
    plan["plan"]["meta"] = {"versionId": "2"}
    verified(plan, plan.ref("plan")["reference"] + (f"/_history/{version}" if version else ""))
    found = unapproved(plan)
    assert (not found) is counts
    assert counts or "another version" in found[0]


def test_an_approval_of_an_unknown_version_does_not_count() -> None:
    plan = without_approval()
    verified(plan, f"{plan.ref('plan')['reference']}/_history/1")
    assert "another version" in unapproved(plan)[0]


def test_one_good_approval_is_enough_and_signs() -> None:
    plan = full_plan()
    plan["plan"]["extension"] = [one for one in plan["plan"]["extension"] if one["url"] != extensions.APPROVAL]
    plan["plan"]["meta"] = {"versionId": "2"}
    approver = plan.practitioner("approver", "TRAITANT", "Luc", "10101234567")
    weak = {"url": extensions.APPROVAL, "extension": [{"url": "date", "valueDateTime": "2026-01-31"}]}
    plan["plan"]["extension"].append(weak)
    verified(plan, f"{plan.ref('plan')['reference']}/_history/2", agent=[{"type": VERIFIER, "who": approver}])
    mapped = convert(plan.bundle(), EMISSION)
    assert [issue for issue in mapped.issues if issue.rule == APPROVAL_RULE] == []
    names = [one.assigned.person for one in mapped.document.header.authenticators]
    assert [name.families[0].text for name in names if name] == ["TRAITANT"]
