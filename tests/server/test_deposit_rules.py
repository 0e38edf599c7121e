"""What the parts of a PDSm deposit must agree on."""

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from relais.profiles.packages import Registry
from relais.server.conformance import Conformance
from relais.server.deposit_rules import PROFILE, check, concerns
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.write_policy import WritePolicy
from relais.server.settings import Settings

DATA = b"A letter about somebody who does not exist."
SHA_1 = hashlib.sha1(DATA, usedforsecurity=False)

Bundle = dict[str, Any]


def entry(number: int, resource: dict[str, Any]) -> dict[str, Any]:
    return {"fullUrl": f"urn:uuid:{number}", "resource": resource, "request": {"method": "POST", "url": "x"}}


def deposit() -> Bundle:
    """A lot of one sheet and its content."""
    subject = {"reference": "Patient/p"}
    attachment = {
        "contentType": "text/plain",
        "url": "urn:uuid:3",
        "size": len(DATA),
        "hash": base64.b64encode(SHA_1.digest()).decode(),
    }
    lot = {"resourceType": "List", "subject": subject, "entry": [{"item": {"reference": "urn:uuid:2"}}]}
    sheet = {"resourceType": "DocumentReference", "subject": subject, "content": [{"attachment": attachment}]}
    content = {"resourceType": "Binary", "contentType": "text/plain", "data": base64.b64encode(DATA).decode()}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "meta": {"profile": [PROFILE]},
        "entry": [entry(number, resource) for number, resource in enumerate((lot, sheet, content), start=1)],
    }


def resource(bundle: Bundle, index: int) -> dict[str, Any]:
    found: dict[str, Any] = bundle["entry"][index]["resource"]
    return found


def attachment(bundle: Bundle) -> dict[str, Any]:
    found: dict[str, Any] = resource(bundle, 1)["content"][0]["attachment"]
    return found


def test_a_deposit_that_agrees_passes() -> None:
    assert check(deposit()) == []


SHEET, AT = "Bundle.entry[1].resource", "Bundle.entry[1].resource.content[0].attachment"


@pytest.mark.parametrize(
    ("damage", "places"),
    [
        (lambda bundle: attachment(bundle).update(size=1), [f"{AT}.size"]),
        (lambda bundle: attachment(bundle).update(hash="x"), [f"{AT}.hash"]),
        (lambda bundle: attachment(bundle).update(contentType="a/b"), [f"{AT}.contentType"]),
        (lambda bundle: attachment(bundle).update(url="urn:uuid:9"), [f"{AT}.url", "Bundle.entry[2].resource"]),
        (lambda bundle: bundle["entry"].append(entry(4, resource(bundle, 2))), ["Bundle.entry[3].resource"]),
        (lambda bundle: bundle["entry"].append(entry(4, resource(bundle, 1))), None),
        (lambda bundle: resource(bundle, 0).update(entry=[]), [SHEET]),
        (
            lambda bundle: resource(bundle, 0)["entry"].append({"item": {"reference": "urn:uuid:9"}}),
            ["Bundle.entry[0].resource.entry[1].item"],
        ),
        (lambda bundle: resource(bundle, 1).update(subject={"reference": "Patient/q"}), [f"{SHEET}.subject"]),
        (
            lambda bundle: resource(bundle, 1).update(subject={"identifier": {"system": "s", "value": "v"}}),
            [f"{SHEET}.subject"],
        ),
    ],
)
def test_what_does_not_agree_is_an_error(damage: Callable[[Bundle], Any], places: list[str] | None) -> None:
    bundle = copy.deepcopy(deposit())
    damage(bundle)
    found = check(bundle)
    assert {(one.severity, one.rule) for one in found} == {("error", "pdsm-deposit")}
    assert places is None or [one.path for one in found] == places


def test_a_hash_in_hexadecimal_is_a_warning() -> None:
    bundle = deposit()
    attachment(bundle)["hash"] = base64.b64encode(SHA_1.hexdigest().encode()).decode()
    (issue,) = check(bundle, "fr")
    assert (issue.severity, "hexadécimal" in issue.message) == ("warning", True)


def test_only_a_deposit_is_judged() -> None:
    other = {"resourceType": "Bundle", "type": "transaction"}
    assert not concerns(other)
    assert concerns(other, [f"{PROFILE}|3.1.1"])
    assert concerns(deposit())
    assert not concerns({"resourceType": "List"}, [PROFILE])
    assert not concerns(None)


@pytest.mark.parametrize("broken", [{"entry": 3}, {"entry": [3]}, {"entry": [{"resource": {}}]}])
def test_what_is_no_bundle_is_left_to_the_structure_check(broken: dict[str, Any]) -> None:
    assert check({"resourceType": "Bundle", **broken}) == []


@pytest.mark.parametrize("given", ["Bundle=refuse", "Bundle=warn", ""])
def test_a_deposit_that_contradicts_itself_is_refused_whatever_the_policy(given: str) -> None:
    bundle = deposit()
    resource(bundle, 0)["entry"] = []
    settings = Settings(fhir_packages="none", profiles=given)
    policy = WritePolicy.of(settings, Conformance(Registry(()), settings))
    with pytest.raises(FhirError) as raised:
        policy.judge_transaction(bundle, [SHEET], "en")
    assert SHEET in [issue.path for issue in raised.value.issues if issue.rule == "pdsm-deposit"]
