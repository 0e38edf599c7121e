"""Rules that guides publish in words only, with a key and without an expression: those of PDSm 3.1.1, as code.

A code from another system is a warning here, though the guide says error: it lets a project narrow the value sets, and
the bindings of the same elements are preferred ones. What the words leave open is not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relais.profiles.fhirpath import Item
from relais.profiles.messages import Message
from relais.profiles.places import Spot
from relais.profiles.run import Check, Run, codes_of


def _nos(name: str) -> str:
    """The URL of a code system of the NOS (nomenclatures des objets de santé)."""
    return f"https://mos.esante.gouv.fr/NOS/{name}/FHIR/{name.replace('_', '-')}"


_PRODUCER = (_nos("TRE_A00-ProducteurDocNonPS"), _nos("TRE_R02-SecteurActivite"))

SYSTEMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("constr-bind-type", "type"): (
        _nos("TRE_A05-TypeDocComplementaire"),
        _nos("TRE_A12-NomenclatureASTM"),
        "http://loinc.org",
    ),
    ("constr-bind-category", "category"): (_nos("TRE_A03-ClasseDocument"), _nos("TRE_A10-NomenclatureURN")),
    ("constr-bind-format", "format"): (
        _nos("TRE_A06-FormatCodeComplementaire"),
        _nos("TRE_A11-IheFormatCode"),
        _nos("TRE_A09-DICOMuidRegistry"),
        _nos("TRE_A10-NomenclatureURN"),
    ),
    ("constr-bind-ProducteurDoc", "facilityType"): _PRODUCER,
    ("constr-bind-designationtype", "extension"): (*_PRODUCER, _nos("TRE_R209-TypeActivite")),
}
"""The code systems that a rule allows, by its key and the element it stands on. On `practiceSetting`, PDSm repeats the
rule of `facilityType` against its own value set: it is not checked there."""

_ALWAYS_HOLD = frozenset({"constr-bind-context-event", "constr-bind-ProducteurDoc-simplified"})
"""Rules that end in `or any other`, or that only recommend."""


def prose_check(key: str, profile: str) -> Check | None:
    """The check of a rule in words, None when there is no code for it."""
    if key in _ALWAYS_HOLD:
        return _nothing
    if key == "constr-bind-relatesTo":
        return _one_replacement(profile)
    return _systems_check(key, profile) if any(named == key for named, _ in SYSTEMS) else None


def _nothing(_spot: Spot, _run: Run) -> None:
    pass


def _systems_check(key: str, profile: str) -> Check:
    def check_systems(spot: Spot, run: Run) -> None:
        systems = SYSTEMS.get((key, spot.where[1]))
        if systems is None:
            run.not_checked_once(spot.where, Message("prose-unclear", key=key), "invariant", key)
        elif not any(system in systems for system, _ in codes_of(_coded(spot))):
            message = Message("prose-systems", systems=", ".join(systems), profile=profile)
            run.add("warning", "code-invalid", spot.where, message, key)

    return check_systems


def _coded(spot: Spot) -> Item:
    """The coded value itself; of an extension, its value."""
    if spot.type == "Extension" and isinstance(spot.value, dict):
        return Item(spot.value.get("valueCodeableConcept"), "CodeableConcept")
    return spot


def _one_replacement(profile: str) -> Callable[[Spot, Run], None]:
    message = Message("prose-replaces", profile=profile)

    def check_replacement(spot: Spot, run: Run) -> None:
        related = run.frame.resource.value.get("relatesTo") if run.frame else None
        listed = related if isinstance(related, list) else []
        replaced = [each for each in listed if isinstance(each, dict) and each.get("code") == "replaces"]
        if spot.value in replaced[1:]:
            run.error("invariant", spot.where, message, "constr-bind-relatesTo")

    return check_replacement
