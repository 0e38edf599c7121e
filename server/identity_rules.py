"""National identifiers and identity traits of FHIR resources, judged: what profiles cannot say.

Référentiel INS (form, key, OIDs of test), RNIV (traits and status of an identity), COG of INSEE, check digits of RPPS,
FINESS, SIREN and SIRET. The numbers themselves are never in a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from relais.cda.identifiers import (
    finess_is_valid,
    ins_is_valid,
    ins_is_well_formed,
    is_place_code,
    is_ps_idnat,
    is_struct_idnat,
    rpps_is_valid,
    siren_is_valid,
    siret_is_valid,
)
from relais.cda.templates import INS_NIA, INS_NIR, INS_ROOTS, PS_IDNAT, STRUCT_IDNAT
from relais.mappings import extensions, identity
from relais.mappings.context import Resource
from relais.profiles.issues import Issue, Severity
from relais.profiles.messages import Language, Message

INS_RULE, RNIV_RULE, NUMBER_RULE = "ins", "rniv", "national-number"
_PRODUCTION_ROOTS = (INS_NIR, INS_NIA)
_UNKNOWN_PLACE = "99999"
_RPPS_DIGIT, _FINESS_DIGIT, _SIREN_DIGIT, _SIRET_DIGIT = "8", "1", "2", "3"


class Finding(NamedTuple):
    """What a rule says of a place: severity, FHIRPath, message, rule."""

    severity: Severity
    path: str
    message: Message
    rule: str


def check(resource: Any, ins_environment: str, language: Language = "en") -> list[Issue]:
    """What the identity rules say of a resource and of those it contains or bundles.

    `ins_environment` is `production` or `test`. An INS that cannot be one, or that belongs to the other environment
    (test numbers in production), is an error; anything else is a warning or less. Takes any JSON value.
    """
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        return []
    try:
        found = list(_walk(resource, resource["resourceType"], ins_environment))
    except (AttributeError, KeyError, TypeError, ValueError):
        return []  # not R4: the structure check says so
    return [Issue(one.severity, "business-rule", one.message.render(language), one.path, one.rule) for one in found]


def concerns(resource: Resource) -> bool:
    """Whether there is anything here that the rules speak of."""
    return resource.get("resourceType") in _RULES or "contained" in resource


def _walk(resource: Resource, place: str, environment: str) -> Iterator[Finding]:
    if rules := _RULES.get(resource.get("resourceType", "")):
        yield from rules(resource, place, environment)
    for index, inner in enumerate(resource.get("contained", ())):
        yield from _walk(inner, f"{place}.contained[{index}]", environment)
    if resource.get("resourceType") == "Bundle":
        for index, entry in enumerate(resource.get("entry", ())):
            yield from _walk(entry.get("resource", {}), f"{place}.entry[{index}].resource", environment)


# Patient --------------------------------------------------------------------------------------------------------------


def _patient(patient: Resource, place: str, environment: str) -> Iterator[Finding]:
    for index, identifier in enumerate(patient.get("identifier", ())):
        at = f"{place}.identifier[{index}]"
        if identity.identifier_domain(identifier) in INS_ROOTS:
            yield from _ins(identifier, at, environment)
            yield from _agreement(identifier, patient, place, at)
        elif _is_typed_as_ins(identifier):
            yield Finding("warning", f"{at}.system", Message("id-ins-system"), INS_RULE)
    if identity.ins_identifiers(patient):
        yield from _traits(patient, place)


def _ins(identifier: Resource, at: str, environment: str) -> Iterator[Finding]:
    """Form, key and domain of an INS."""
    number = str(identifier.get("value", ""))
    if not number:
        return
    if not ins_is_well_formed(number):
        yield Finding("error", f"{at}.value", Message("id-ins-form"), INS_RULE)
    elif not ins_is_valid(number):
        yield Finding("error", f"{at}.value", Message("id-ins-key"), INS_RULE)
    is_production = identity.identifier_domain(identifier) in _PRODUCTION_ROOTS
    if environment == "production" and not is_production:
        yield Finding("error", f"{at}.system", Message("id-ins-test"), INS_RULE)
    elif environment != "production" and is_production:
        yield Finding("warning", f"{at}.system", Message("id-ins-production"), INS_RULE)


def _is_typed_as_ins(identifier: Resource) -> bool:
    return not frozenset(identity.INS_TYPE_CODES.values()).isdisjoint(identity.codes(identifier.get("type")))


def _agreement(identifier: Resource, patient: Resource, place: str, at: str) -> Iterator[Finding]:
    """Doubts: what the digits say and the traits do not."""
    number = str(identifier.get("value", ""))
    if not ins_is_valid(number) or not identity.is_current(identifier):
        return
    for trait in identity.ins_mismatches(number, patient):
        yield Finding("warning", f"{place}.{trait}", Message("id-ins-trait", trait=trait), RNIV_RULE)


def _traits(patient: Resource, place: str) -> Iterator[Finding]:
    """An INS goes with five traits, and leaves only with a qualified identity (RNIV)."""
    if not identity.is_qualified(patient):
        yield Finding("information", place, Message("id-unqualified"), RNIV_RULE)
        return
    official = [name for name in patient.get("name", ()) if name.get("use") == "official"]
    name = official[0] if official else {}
    present = {
        "name.family": bool(name.get("family")),
        "name.given": bool(name.get("given")),
        "gender": patient.get("gender") in ("male", "female", "unknown"),
        "birthDate": len(patient.get("birthDate", "")) == len("YYYY-MM-DD"),
    }
    for trait, is_there in present.items():
        if not is_there:
            yield Finding("warning", place, Message("id-trait", trait=trait), RNIV_RULE)
    code = _birth_place_code(patient)
    if not code:
        yield Finding("warning", place, Message("id-trait", trait="patient-birthPlace"), RNIV_RULE)
    elif not is_place_code(code):
        yield Finding("warning", place, Message("id-place-form"), RNIV_RULE)
    elif code == _UNKNOWN_PLACE:
        yield Finding("warning", place, Message("id-place-unknown"), RNIV_RULE)


def _birth_place_code(patient: Resource) -> str:
    for extension in extensions.extensions(patient, extensions.BIRTH_PLACE):
        for code in extensions.extensions(extension.get("valueAddress", {}), extensions.INSEE_CODE):
            return str(code.get("valueCoding", {}).get("code", ""))
    return ""


# Professionals and structures -----------------------------------------------------------------------------------------


def _ps_idnat_is_valid(number: str) -> bool:
    return is_ps_idnat(number) and (number[0] != _RPPS_DIGIT or rpps_is_valid(number[1:]))


def _struct_idnat_is_valid(number: str) -> bool:
    check = {_FINESS_DIGIT: finess_is_valid, _SIREN_DIGIT: siren_is_valid, _SIRET_DIGIT: siret_is_valid}.get(number[:1])
    return is_struct_idnat(number) and (check is None or check(number[1:]))


_NUMBERS: Mapping[str, tuple[str, Callable[[str], bool]]] = {
    identity.RPPS: ("RPPS", rpps_is_valid),
    identity.FINESS: ("FINESS", finess_is_valid),
    identity.SIRENE: ("SIREN, SIRET", lambda number: siren_is_valid(number) or siret_is_valid(number)),
    f"urn:oid:{PS_IDNAT}": ("PS_IdNat", _ps_idnat_is_valid),
    f"urn:oid:{STRUCT_IDNAT}": ("Struct_IdNat", _struct_idnat_is_valid),
}
"""By identifier system: what the number is called, and whether it can be one."""


def _numbered(resource: Resource, place: str, _environment: str) -> Iterator[Finding]:
    for index, identifier in enumerate(resource.get("identifier", ())):
        name, is_valid = _NUMBERS.get(identifier.get("system", ""), ("", None))
        if is_valid and identifier.get("value") and not is_valid(identifier["value"]):
            at = f"{place}.identifier[{index}].value"
            yield Finding("warning", at, Message("id-number", name=name), NUMBER_RULE)


_RULES: Mapping[str, Callable[[Resource, str, str], Iterator[Finding]]] = {
    "Patient": _patient,
    **dict.fromkeys(("Practitioner", "PractitionerRole", "Organization", "HealthcareService", "Location"), _numbered),
}
