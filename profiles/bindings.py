"""Bindings of coded elements as checks (http://hl7.org/fhir/R4/terminologies.html#strength): required is an error,
extensible a warning, preferred information; what the loaded packages cannot tell is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from relais.profiles import run as runs
from relais.profiles.issues import Severity
from relais.profiles.messages import Message
from relais.profiles.places import Spot
from relais.profiles.run import Run, codes_of
from relais.profiles.terminology import Check

_SEVERITIES: Mapping[str, Severity] = {"required": "error", "extensible": "warning", "preferred": "information"}
_MAXIMUM = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet"
CODED_TYPES = frozenset({"code", "Coding", "CodeableConcept", "Quantity", "string", "uri", "canonical", "url"})


def binding_check(binding: Mapping[str, Any], profile: str) -> Iterator[runs.Check]:
    """The checks of a binding: of its value set, and of the maximum one that an extension may state."""
    value_set = binding.get("valueSet")
    strength = str(binding.get("strength", ""))
    if value_set and strength in _SEVERITIES:
        yield _membership(str(value_set), strength, profile)
    for each in binding.get("extension", ()):
        if each.get("url") == _MAXIMUM and each.get("valueCanonical"):
            yield _membership(str(each["valueCanonical"]), "required", profile)


def _membership(value_set: str, strength: str, profile: str) -> runs.Check:
    severity = _SEVERITIES[strength]
    outside = Message(f"binding-{strength}", value_set=value_set, profile=profile)
    without = Message(f"binding-{strength}-code", value_set=value_set, profile=profile)

    def check_membership(spot: Spot, run: Run) -> None:
        if spot.type not in CODED_TYPES:
            return
        codes = codes_of(spot)
        if not codes:
            if strength != "preferred" and (spot.type != "Quantity" or strength == "required"):
                run.add(severity, "required", spot.where, without, "binding")
            return
        is_single = spot.type == "Coding"
        answers = [_answer(run, value_set, code, system, is_single=is_single) for system, code in codes]
        if any(answer.result for answer in answers):
            return
        unknown = next((answer.reason for answer in answers if answer.result is None), None)
        if unknown is None:
            run.add(severity, "code-invalid", spot.where, outside, "binding")
        elif strength != "preferred":
            reason = Message("binding-unchecked", value_set=value_set, reason=unknown)
            run.not_checked(spot.where, reason, "warning" if strength == "required" else "information")

    return check_membership


def _answer(run: Run, value_set: str, code: str, system: str | None, *, is_single: bool) -> Check:
    """Whether a value set holds a code. A Coding that names no system may mean the right one: that is not checked."""
    if system != "":
        return run.terminology.check(value_set, code, system)
    if is_single and run.terminology.check(value_set, code).result:
        return Check(None, Message("coding-system"))
    return Check(result=False)
