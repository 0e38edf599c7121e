"""Profiles of packages decide on writes, by type: off, warn, refuse; on every way a resource can be written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from relais.cda.errors import RelaisError
from relais.profiles.packages import Registry
from relais.server.conformance import Conformance
from relais.server.demo import PLAN as DEMO_PLAN
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.write_policy import WritePolicy
from relais.server.search.parameters import forget_declared
from relais.server.settings import Settings, SettingsError
from support.facade import RunningFacade, issues, running_facade
from support.packages import BORN, EYES, TITLED, example, write

PROFILED = {"resourceType": "Patient", "meta": {"profile": [BORN]}}
RULE = "cardinality"


def plan(patient: str = "", **more: Any) -> dict[str, Any]:
    subject = {"reference": patient} if patient else {"display": "someone"}
    return {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": subject, **more}


@pytest.fixture(autouse=True)
def undeclared() -> Iterator[None]:
    """Forgets the search parameters of packages that a test loads in this process."""
    yield
    forget_declared()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    """A facade that refuses broken profiles of Patient, warns of any other, and wants a title of every CarePlan."""
    folder = tmp_path_factory.mktemp("strict")
    packages = folder / "packages"
    example(packages)
    settings = {
        "fhir_packages": packages,
        "profiles": "Patient=refuse, Bundle=refuse, *=warn, AuditEvent=off",
        "required_profiles": f"CarePlan={TITLED}",
    }
    with running_facade(folder, **settings) as facade:
        yield facade


def rules(answer: requests.Response) -> list[str]:
    return [issue["details"]["text"] for issue in issues(answer) if "details" in issue]


def test_a_create_that_breaks_its_profile_is_refused(strict: RunningFacade) -> None:
    before = strict.count()
    answer = strict.post("Patient", PROFILED)
    assert answer.status_code == 422
    (issue,) = [one for one in issues(answer) if one["severity"] == "error"]
    assert (issue["details"]["text"], issue["expression"]) == (RULE, ["Patient"])
    assert "birthDate" in issue["diagnostics"]
    assert strict.count() == before
    assert strict.post("Patient", PROFILED | {"birthDate": "1970-01-01"}).status_code == 201
    assert strict.post("Patient", {"resourceType": "Patient"}).status_code == 201


def test_the_refusal_is_in_french_where_it_is_preferred(strict: RunningFacade) -> None:
    answer = strict.post("Patient", PROFILED, Accept_Language="fr-FR,fr;q=0.9,en;q=0.5")
    assert "au moins attendu" in issues(answer)[0]["diagnostics"]
    assert "Accept-Language" in answer.headers["Vary"]


def test_an_update_and_a_conditional_update_are_judged(strict: RunningFacade) -> None:
    assert strict.put("Patient/u", PROFILED | {"id": "u"}).status_code == 422
    assert strict.get("Patient/u").status_code == 404
    assert strict.put("Patient?_id=u", PROFILED).status_code == 422
    assert strict.put("Patient/u", PROFILED | {"id": "u", "birthDate": "1970"}).status_code == 201


def test_what_a_patch_makes_is_judged(strict: RunningFacade) -> None:
    name = strict.created(PROFILED | {"birthDate": "1970"})
    patch = b'[{"op": "remove", "path": "/birthDate"}]'
    answer = strict.request("PATCH", name, patch, Content_Type="application/json-patch+json")
    assert (answer.status_code, rules(answer)) == (422, [RULE])
    entry = {"resource": parameters_patch(), "request": {"method": "PATCH", "url": name}}
    answer = strict.post("", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    assert answer.status_code == 422
    assert strict.get(name).json()["birthDate"] == "1970"


def parameters_patch() -> dict[str, Any]:
    parts = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.birthDate"}]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}


def test_a_claim_that_is_added_later_is_judged(strict: RunningFacade) -> None:
    name = strict.created({"resourceType": "Patient"})
    claim = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"profile": [BORN]}}]}
    assert strict.post(f"{name}/$meta-add", claim).status_code == 422


def entry(resource: dict[str, Any], number: int = 1) -> dict[str, Any]:
    full_url = f"urn:uuid:00000000-0000-4000-8000-{number:012}"
    return {
        "fullUrl": full_url,
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"]},
    }


def test_one_broken_entry_undoes_a_transaction(strict: RunningFacade) -> None:
    before = strict.count()
    patient = entry({"resourceType": "Patient"})
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [patient, entry(PROFILED, 2)]}
    answer = strict.post("", bundle)
    assert answer.status_code == 422
    errors = [one for one in issues(answer) if one["severity"] == "error"]
    assert [one["expression"] for one in errors] == [["Bundle.entry[1].resource"]]
    assert strict.count() == before


def test_one_broken_entry_fails_alone_in_a_batch(strict: RunningFacade) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [entry({"resourceType": "Patient"}), entry(PROFILED, 2)],
    }
    told = [one["response"] for one in strict.post("", bundle).json()["entry"]]
    assert [one["status"][:3] for one in told] == ["201", "422"]
    assert told[1]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[1].resource"]


def test_remarks_are_told_to_who_asks(strict: RunningFacade) -> None:
    quiet = strict.post("CarePlan", plan())
    assert (quiet.status_code, quiet.json()["resourceType"]) == (201, "CarePlan")
    told = strict.post("CarePlan", plan(), Prefer="return=OperationOutcome")
    assert told.status_code == 201
    assert [(one["severity"], one["code"]) for one in issues(told)] == [
        ("information", "informational"),
        ("warning", "required"),
    ]
    fine = strict.post("CarePlan", plan(title="Plan"), Prefer="return=OperationOutcome")
    assert [one["severity"] for one in issues(fine)] == ["information"]


def test_remarks_of_a_transaction_stand_at_their_entry(strict: RunningFacade) -> None:
    patient = entry({"resourceType": "Patient"})
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [patient, entry(plan(patient["fullUrl"]), 2)]}
    told = [one["response"] for one in strict.post("", bundle).json()["entry"]]
    assert "outcome" not in told[0]
    (issue,) = told[1]["outcome"]["issue"]
    assert (issue["severity"], issue["expression"]) == ("warning", ["Bundle.entry[1].resource"])


def test_an_unknown_claim_is_not_checked_and_said(strict: RunningFacade) -> None:
    unknown = {"resourceType": "Patient", "meta": {"profile": ["http://example.org/nowhere"]}}
    answer = strict.post("Patient", unknown, Prefer="return=OperationOutcome")
    assert answer.status_code == 201
    assert [one["diagnostics"] for one in issues(answer) if one["severity"] == "warning"] == [
        "not checked: the profile http://example.org/nowhere is not in the loaded packages"
    ]


def test_profiles_that_are_loaded_are_stated(strict: RunningFacade) -> None:
    stated = {one["type"]: one for one in strict.get("metadata").json()["rest"][0]["resource"]}
    assert stated["Patient"]["supportedProfile"] == [f"{BORN}|1.0.0"]
    assert stated["CarePlan"]["supportedProfile"] == [f"{TITLED}|1.0.0"]
    assert "supportedProfile" not in stated["Task"]


def test_guides_that_are_loaded_are_stated(tmp_path: Path) -> None:
    guide = {"resourceType": "ImplementationGuide", "id": "g", "url": "http://example.org/guide", "version": "2.1"}
    write(tmp_path, "org.example.guide", [guide])
    settings = Settings.of({"fhir_packages": str(tmp_path)})
    assert Conformance.load(settings).guides() == ["http://example.org/guide|2.1"]


def test_off_means_that_nothing_is_judged(tmp_path: Path) -> None:
    example(tmp_path / "packages")
    with running_facade(tmp_path, fhir_packages=tmp_path / "packages") as facade:
        answer = facade.post("Patient", PROFILED, Prefer="return=OperationOutcome")
        assert (answer.status_code, len(issues(answer))) == (201, 1)
        asked = facade.post("Patient/$validate", PROFILED)
        assert (asked.status_code, rules(asked)) == (200, [RULE])


# $validate ------------------------------------------------------------------------------------------------------------


def validated(facade: RunningFacade, path: str, body: Any, **headers: str) -> list[tuple[str, str]]:
    answer = facade.post(path, body, **headers)
    assert answer.status_code == 200, answer.text
    return [(one["severity"], one.get("details", {}).get("text", "")) for one in issues(answer)]


def asked(resource: dict[str, Any], **parameters: str) -> dict[str, Any]:
    given = [{"name": name, "valueUri": value} for name, value in parameters.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": resource}, *given]}


WELL = [("information", "")]


def test_a_resource_is_validated_against_a_profile(strict: RunningFacade) -> None:
    patient = {"resourceType": "Patient"}
    assert validated(strict, "Patient/$validate", patient) == WELL
    assert validated(strict, f"Patient/$validate?profile={BORN}", patient) == [("error", RULE)]
    assert validated(strict, "Patient/$validate", asked(patient, profile=BORN)) == [("error", RULE)]
    assert validated(strict, "$validate", asked(patient, profile=f"{BORN}|1.0.0")) == [("error", RULE)]
    assert validated(strict, f"Patient/$validate?profile={BORN}|2.0", patient) == [("warning", "not-checked")]
    assert validated(strict, "Patient/$validate?profile=http://example.org/no", patient) == [("warning", "not-checked")]
    assert validated(strict, f"Patient/$validate?profile={TITLED}", patient) == [("error", "profile-type")]


def test_a_stored_resource_is_validated(strict: RunningFacade) -> None:
    name = strict.created({"resourceType": "Patient"})
    answer = strict.get(f"{name}/$validate?profile={BORN}")
    assert (answer.status_code, rules(answer)) == (200, [RULE])
    assert strict.get(f"{name}/$validate").json()["issue"][0]["severity"] == "information"
    assert strict.get("Patient/nobody/$validate").status_code == 404


def test_the_mode_says_what_for(strict: RunningFacade) -> None:
    name = strict.created({"resourceType": "Patient"})
    patient = {"resourceType": "Patient"}
    assert validated(strict, "Patient/$validate?mode=create", patient) == WELL
    assert validated(strict, "Patient/$validate?mode=update", patient) == [("error", "update-id")]
    assert validated(strict, f"{name}/$validate?mode=delete", None) == WELL
    assert strict.post("Patient/nobody/$validate?mode=delete", None).status_code == 404
    assert validated(strict, "CarePlan/$validate?mode=create", plan()) == [("error", RULE)]
    assert validated(strict, "CarePlan/$validate?mode=profile", plan()) == WELL
    assert strict.post("Patient/$validate?mode=other", patient).status_code == 400
    assert strict.post("Patient/$validate?mode=create&mode=create", patient).status_code == 400
    assert strict.post("Patient/$validate?other=x", patient).status_code == 400
    assert strict.post("Patient/$validate", plan()).status_code == 400
    assert strict.post("Patient/$validate", None).status_code == 400


def test_the_verdict_is_in_french_where_it_is_preferred(strict: RunningFacade) -> None:
    path = f"Patient/$validate?profile={BORN}"
    french = issues(strict.post(path, {"resourceType": "Patient"}, Accept_Language="fr"))
    english = issues(strict.post(path, {"resourceType": "Patient"}, Accept_Language="de, en;q=0.1"))
    assert ("attendu" in french[0]["diagnostics"], "required" in english[0]["diagnostics"]) == (True, True)


# Packages -------------------------------------------------------------------------------------------------------------


def test_what_is_missing_or_broken_is_logged_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    example(tmp_path)
    (tmp_path / "broken.tgz").write_bytes(b"no archive")
    conformance = Conformance.load(Settings(fhir_packages=str(tmp_path)))
    assert [package.label for package in conformance.registry.packages] == ["org.example.plans#1.0.0"]
    assert conformance.missing == ["hl7.absent"]
    assert "broken.tgz" in caplog.text
    assert "hl7.absent" not in caplog.text
    conformance.report()
    assert "hl7.absent" in caplog.text


def test_a_package_that_is_asked_for_by_name_must_be_there(tmp_path: Path) -> None:
    example(tmp_path)
    (tmp_path / "other.tgz").write_bytes(b"no archive")
    for names in ("org.example.other", "org.example.plans#2.0.0"):
        with pytest.raises(RelaisError, match=r"not among the packages that can be read .*other\.tgz"):
            Conformance.load(Settings(fhir_packages=str(tmp_path), fhir_package_names=names))
    Conformance.load(Settings(fhir_packages=str(tmp_path), fhir_package_names="org.example.plans#1.0.0"))
    with pytest.raises(RelaisError, match="no folder"):
        Conformance.load(Settings(fhir_packages=f"{tmp_path},{tmp_path / 'absent'}"))


def test_a_profile_in_a_circle_is_said_and_nothing_breaks(tmp_path: Path) -> None:
    first, second = (
        {"resourceType": "StructureDefinition", "id": f"p{number}", "url": f"http://example.org/p{number}"}
        | {"kind": "resource", "type": "Patient", "derivation": "constraint"}
        | {"baseDefinition": f"http://example.org/p{1 - number}", "differential": {"element": []}}
        for number in (0, 1)
    )
    write(tmp_path, "org.example.circle", [first, second])
    conformance = Conformance.load(Settings(fhir_packages=str(tmp_path)))
    found = conformance.validate({"resourceType": "Patient"}, ["http://example.org/p0"], language="fr")
    assert [(one.severity, one.rule) for one in found] == [("warning", "not-checked")]
    assert "dérive de lui-même" in found[0].message


@pytest.mark.parametrize(
    "given",
    [
        {"profiles": "Patient"},
        {"profiles": "Patient=maybe"},
        {"profiles": "Patience=warn"},
        {"required_profiles": f"Patient={BORN}"},  # whose policy is off
        {"profiles": "*=warn", "required_profiles": f"CarePlan={BORN}"},  # of another type
        {"profiles": "*=warn", "required_profiles": "Patient=http://example.org/nowhere"},
    ],
)
def test_a_policy_that_cannot_be_meant_stops_the_start(tmp_path: Path, given: dict[str, str]) -> None:
    example(tmp_path)
    settings = Settings(fhir_packages=str(tmp_path), **given)
    with pytest.raises(SettingsError):
        WritePolicy.of(settings, Conformance.load(settings))


def test_a_policy_without_packages_judges_nothing() -> None:
    settings = Settings(fhir_packages="none")
    policy = WritePolicy.of(settings, Conformance(Registry(()), settings))
    assert policy.judge([(PROFILED, "")], "en") == []


# What packages define is served ---------------------------------------------------------------------------------------


def test_their_value_sets_and_search_parameters_are_served(strict: RunningFacade) -> None:
    expansion = strict.get(f"ValueSet/$expand?url={EYES}").json()["expansion"]
    assert [one["display"] for one in expansion["contains"]] == ["Bleu"]
    eye = {"url": "http://example.org/eye", "valueCode": "blue"}
    name = strict.created({"resourceType": "Patient", "extension": [eye]})
    for _ in range(5):  # whichever process answers
        (found,) = requests.get(f"{strict.base}/Patient?eye=blue", timeout=30).json()["entry"]
        assert found["fullUrl"].endswith(name)
    stated = {one["type"]: one for one in strict.get("metadata").json()["rest"][0]["resource"]}
    assert "eye" in {one["name"] for one in stated["Patient"]["searchParam"]}


def test_a_search_parameter_waits_until_what_was_stored_before_is_indexed(tmp_path: Path) -> None:
    eye = {"url": "http://example.org/eye", "valueCode": "blue"}
    facade = RunningFacade(tmp_path, administration="true")
    facade.start()
    try:
        name = facade.created({"resourceType": "Patient", "extension": [eye]})
        assert issues(facade.get("Patient?eye=blue"))[0]["code"] == "not-supported"
        facade.stop()
        example(tmp_path / "packages")
        facade.settings["fhir_packages"] = tmp_path / "packages"
        facade.start()
        assert "Patient.eye" in facade.log.read_text()
        waiting = facade.get("Patient?eye=blue", Prefer="handling=lenient")
        assert (waiting.status_code, issues(waiting)[0]["code"]) == (503, "incomplete")
        order = facade.post("$reindex", None, Prefer="respond-async")
        while facade.get(order.headers["Content-Location"]).status_code == 202:
            pass
        for _ in range(5):
            (found,) = facade.get("Patient?eye=blue").json()["entry"]
            assert found["fullUrl"].endswith(name)
    finally:
        facade.stop()


def test_places_of_a_transaction_are_read_once_however_many_entries_it_has() -> None:
    settings = Settings(fhir_packages="none", identity_rules="refuse")
    policy = WritePolicy.of(settings, Conformance(Registry(()), settings))
    wrong_key = {"system": "urn:oid:1.2.250.1.213.1.4.10", "value": "279035121518988"}
    patient = {"resourceType": "Patient", "identifier": [wrong_key]}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient}] * 3}
    places = [f"Bundle.entry[{index}].resource" for index in range(3)]
    with pytest.raises(FhirError) as raised:
        policy.judge_transaction(bundle, iter(places), "en")
    assert {issue.path.partition(".identifier")[0] for issue in raised.value.issues} == set(places)


def test_the_plan_of_the_demo_breaks_no_profile_that_it_claims(cisis: Path) -> None:
    conformance = Conformance.load(Settings(cisis_pack=str(cisis)))
    issues_found = conformance.validate_file(DEMO_PLAN.read_bytes())
    assert [issue for issue, _ in issues_found if issue.severity in ("fatal", "error")] == []
