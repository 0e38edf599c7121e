"""Professionals, structures and devices → assignedEntity and its kin (CI-SIS Structuration minimale).

A `Party` is read once from Practitioner, PractitionerRole, Organization, Device or Patient; header and entries make of
it what their element needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import msgspec

from relais.cda.model import II, Address, AssignedEntity, Code, Device, Organization, PersonName, Telecom
from relais.cda.templates import PS_IDNAT, STRUCT_IDNAT
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Deployment, Resource
from relais.mappings.to_cda.conversion import Conversion, Made
from relais.mappings.to_cda.datatypes import (
    addresses,
    codings,
    current_name,
    display_name,
    from_jdv,
    person_name,
    telecoms,
)

RULE_ID = "CI-SIS Structuration minimale, PS_IdNat and Struct_IdNat"
SECTOR = "1.2.250.1.71.4.2.4"
PRACTICE_SETTING = "1.2.250.1.213.1.1.4.9"

PRACTICE_SETTINGS = {
    **dict.fromkeys(("SA05", "SA07", "SA08", "SA52"), "AMBULATOIRE"),
    **dict.fromkeys(("SA01", "SA02", "SA03", "SA04"), "ETABLISSEMENT"),
    **dict.fromkeys(("SA16", "SA17", "SA18", "SA19", "SA20", "SA21", "SA41"), "ESSMS"),
}
"""Secteur d'activité (TRE_R02) → cadre d'exercice (JDV_J04); a project decision (docs/mapping-pps.md)."""


_STRUCTURE_TYPE_DIGITS = {"1": "3", "2": "4", "3": "5"}
"""Type digit of a structure number in Struct_IdNat → in a PS_IdNat made of it: FINESS, SIREN, SIRET."""


_NO_ROLE: Resource = {}
_PERSON_NUMBER = "an identifier: RPPS or another number of the person"
_NUMBERS = {
    "Organization": "an identifier: FINESS, SIREN or another number of the structure",
    "Device": "an identifier: a number of the device",
}
"""What is asked of who has no identifier, by type of resource."""


class Party(msgspec.Struct, gc=False):
    """Who takes part: a person, a structure, or a person for a structure. `source` is the resource of the person,
    or of the structure when there is no person; `role` the PractitionerRole, when there is one. A party mostly plays
    several parts: what was `made` of it for one serves the others."""

    source: Resource
    path: str
    role: Resource = msgspec.field(default_factory=lambda: _NO_ROLE)
    structure: Resource | None = None
    display: str = ""
    made: Made = {}

    @property
    def is_professional(self) -> bool:
        """Whether a human professional takes part."""
        return self.source.get("resourceType") == "Practitioner"


def read_party(
    conversion: Conversion, target: Resource | None, path: str, on_behalf_of: Resource | None = None
) -> Party | None:
    """The party that `target` (Practitioner, PractitionerRole, Organization, Device, Patient) is, or None.

    A bare Practitioner is taken with its PractitionerRole when the resources hold one: profession and structure are
    there. `on_behalf_of` is the structure that the participation names, which wins. A Patient takes part only as the
    patient of the document: another one is refused.
    """
    kind = target.get("resourceType") if target else None
    if target is None or kind not in ("Practitioner", "PractitionerRole", "Organization", "Device", "Patient"):
        return None
    made = conversion.made_of(target)
    if kind == "Organization":
        return Party(target, path, structure=target, display=target.get("name", ""), made=made)
    if kind == "Patient":
        if not conversion.is_patient(target):
            conversion.refuse_other_patient(path)
            return None
        own = conversion.patient
        return Party(own, path, display=display_name(current_name(own.get("name", ()))), made=made)
    if kind == "Device":
        owner = conversion.resolve(target.get("owner"), f"{path}.owner", target)
        return Party(target, path, structure=owner, made=made)
    role, person, display = conversion.once(made, _professional, target, path)
    made = conversion.made_of(role or person)
    structure = on_behalf_of or conversion.once(made, _structure, role, path)
    return Party(person, path, role, structure, display, made)


def _professional(conversion: Conversion, target: Resource, path: str) -> tuple[Resource, Resource, str]:
    """Role, person and the name that one reads."""
    role, person = _role_and_person(conversion, target, path)
    name = extensions.value(role, extensions.ROLE_NAME) or current_name(person.get("name", ()))
    return role, person, display_name(name) or role.get("practitioner", {}).get("display", "")


def _structure(conversion: Conversion, role: Resource, path: str) -> Resource | None:
    return conversion.resolve(role.get("organization"), f"{path}.organization", role)


def _role_and_person(conversion: Conversion, target: Resource, path: str) -> tuple[Resource, Resource]:
    if target["resourceType"] == "PractitionerRole":
        person = conversion.resolve(target.get("practitioner"), f"{path}.practitioner", target)
        return target, person or {"resourceType": "Practitioner"}
    roles = [role for role in conversion.roles_of(target) if role.get("active", True)]
    if len(roles) > 1:
        conversion.inform(path, "several PractitionerRoles: the first one is taken", "docs/mapping-pps.md")
    return (roles[0] if roles else _NO_ROLE), target


# --- what the elements need ---------------------------------------------------------------------------------------
#
# What was made of a party for one element serves the others, so it is never changed.


def assigned_entity(conversion: Conversion, party: Party, *, with_structure: bool = True) -> AssignedEntity:
    """assignedEntity or assignedAuthor of a party. Refuses one without id; names and codes are the caller's demand.

    It is the caller's own: one may change it, but not what stands in it.
    """
    assigned = copy(conversion.once(party.made, _assigned_entity, party))
    if with_structure and party.structure:
        assigned.organization = organization(conversion, party.structure, f"{party.path}.organization.resolve()")
    return assigned


def _assigned_entity(conversion: Conversion, party: Party) -> AssignedEntity:
    return AssignedEntity(
        ids=_party_ids(conversion, party, required=True),
        code=speciality(conversion, party),
        addresses=party_addresses(conversion, party),
        telecoms=party_telecoms(conversion, party),
        person=party_name(conversion, party),
        device=_device(party, conversion.deployment),
    )


def party_ids(conversion: Conversion, party: Party) -> list[II]:
    """At most one id: PS_IdNat of a professional, Struct_IdNat of a structure, else any identifier with an OID."""
    return _party_ids(conversion, party, required=False)


def _party_ids(conversion: Conversion, party: Party, *, required: bool) -> list[II]:
    kind = party.source.get("resourceType")
    if kind == "Patient":
        return conversion.patient_ids[:1]
    if kind == "Organization":
        found = structure_ids(conversion, party.source, party.path)
    elif kind == "Device":
        found = _device_ids(party, conversion)
    else:
        found = conversion.once(party.made, _professional_ids, party)
    if required and not found and not conversion.has_refused(f"{party.path}.identifier"):
        conversion.refuse(f"{party.path}.identifier", _NUMBERS.get(kind or "", _PERSON_NUMBER), RULE_ID)
    return found[:1]


def _professional_ids(conversion: Conversion, party: Party) -> list[II]:
    identifiers = [*party.source.get("identifier", ()), *party.role.get("identifier", ())]
    return national_ids(conversion, identifiers, party.path, identity.PROFESSIONAL) or other_ids(identifiers)


def national_ids(
    conversion: Conversion, identifiers: Iterable[Resource], path: str, kind: identity.NationalNumber
) -> list[II]:
    """National numbers of that kind among the identifiers.

    A bare number of the wrong length is refused; one whose system holds prefixed numbers is written as it is, with a
    warning when its form is unknown.
    """
    found = []
    for identifier in identifiers:
        if identifier.get("use") == "old":
            continue
        if ii := kind.normalise(identifier):
            found.append(ii)
            if not kind.is_well_formed(ii.extension or ""):
                conversion.warn(f"{path}.identifier.value", "no known form of a national number", RULE_ID, "value")
        elif identifier.get("system") in kind.systems:
            conversion.refuse(f"{path}.identifier.value", "not a number of that system: wrong length", RULE_ID, "value")
    return found


def other_ids(identifiers: Iterable[Resource]) -> list[II]:
    """Identifiers of a domain known by OID or UUID, with root and extension."""
    return [
        ii
        for identifier in identifiers
        if identity.identifier_domain(identifier) and (ii := identity.ii_of(identifier)) and ii.extension
    ]


def speciality(conversion: Conversion, party: Party) -> Code | None:
    """Profession and know-how in JDV_J01: `G15_10/SM26` from TRE_G15 and TRE_R38, or a code of the list itself.

    A pair outside the list falls back to the profession, with a warning.
    """
    return conversion.once(party.made, _speciality, party)


def _speciality(conversion: Conversion, party: Party) -> Code | None:
    if party.source.get("resourceType") == "Device":
        return from_jdv("J01", [party.source.get("type", {})]) or terminology.coded("J01", "DISPOSITIF")
    concepts = [*party.role.get("code", ()), *(one.get("code", {}) for one in party.source.get("qualification", ()))]
    direct = from_jdv("J01", concepts)
    if direct and direct.system == terminology.PROFESSION_KNOW_HOW:
        return direct
    know_how = [*party.role.get("specialty", ()), *concepts]
    for concept in concepts:
        for coding in concept.get("coding", ()):
            profession = coding.get("code")
            if coding.get("system") == terminology.TRE_G15 and profession:
                return _composite(conversion, profession, know_how, party.path) or direct
    return direct


def _composite(conversion: Conversion, profession: str, know_how: list[Resource], path: str) -> Code | None:
    wanted = [
        coding["code"]
        for concept in know_how
        for coding in concept.get("coding", ())
        if coding.get("code") and coding.get("system") != terminology.TRE_G15
    ]
    for code in wanted:
        if found := terminology.concept("J01", f"G15_{profession}/{code}"):
            return found.as_code()
    alone = terminology.concept("J01", f"G15_{profession}")
    if wanted and alone:
        conversion.warn(f"{path}.specialty", "pair outside JDV_J01: the profession alone is written", "JDV_J01")
    return alone.as_code() if alone else None


def party_name(conversion: Conversion, party: Party) -> PersonName | None:
    """The name a professional (or the patient) works under."""
    return conversion.once(party.made, _party_name, party)


def _party_name(conversion: Conversion, party: Party) -> PersonName | None:
    if party.source.get("resourceType") not in ("Practitioner", "Patient"):
        return None
    named = extensions.value(party.role, extensions.ROLE_NAME)
    name = named or current_name(party.source.get("name", ()))
    if name is None and party.display:
        name = {"text": party.display}
    return person_name(conversion, name, f"{party.path}.name", titled=True)


def party_addresses(conversion: Conversion, party: Party) -> list[Address]:
    """Addresses of the person; a structure's own stand with the structure."""
    if not party.is_professional or "address" not in party.source:
        return []
    return conversion.once(party.made, _party_addresses, party)


def _party_addresses(_conversion: Conversion, party: Party) -> list[Address]:
    return addresses(party.source["address"])


def party_telecoms(conversion: Conversion, party: Party) -> list[Telecom]:
    """Contact points of the role, else of the person."""
    if party.source.get("resourceType") != "Practitioner":
        return []
    return conversion.once(party.made, _party_telecoms, party)


def _party_telecoms(conversion: Conversion, party: Party) -> list[Telecom]:
    contacts = party.role.get("telecom") or party.source.get("telecom", ())
    return telecoms(conversion, contacts, party.path, party.display)


def _device(party: Party, deployment: Deployment) -> Device | None:
    if party.source.get("resourceType") != "Device":
        return None
    names = {name.get("type"): name.get("name") for name in party.source.get("deviceName", ())}
    model = party.source.get("modelNumber") or names.get("model-name") or party.source.get("manufacturer")
    software = names.get("user-friendly-name") or names.get("manufacturer-name") or names.get("other")
    return Device(model or deployment.software_vendor, software or deployment.software_name)


def _device_ids(party: Party, conversion: Conversion) -> list[II]:
    """*structure id*/*system id*, the structure being the owner of the device, else the emitter."""
    identifiers = party.source.get("identifier", ())
    if own := [ii for ii in other_ids(identifiers) if ii.root == PS_IDNAT]:
        return own
    numbers = [identifier["value"] for identifier in identifiers if identifier.get("value")]
    owner = structure_ids(conversion, party.structure or {}, f"{party.path}.owner.resolve()")
    for ii in [*owner, *emitter_ids(conversion.deployment)]:
        number = ii.extension or ""
        if ii.root == STRUCT_IDNAT and number[:1] in _STRUCTURE_TYPE_DIGITS:
            system = numbers[0] if numbers else conversion.deployment.software_name
            return [II(PS_IDNAT, f"{_STRUCTURE_TYPE_DIGITS[number[0]]}{number[1:]}/{system}")]
    return other_ids(identifiers)


# --- structures ---------------------------------------------------------------------------------------------------


def structure_ids(conversion: Conversion, structure: Resource, path: str) -> list[II]:
    """Ids of an Organization: Struct_IdNat first, else other domains known by OID or UUID."""
    if "identifier" not in structure:
        return []
    return conversion.once(conversion.made_of(structure), _structure_ids, structure, path)


def _structure_ids(conversion: Conversion, structure: Resource, path: str) -> list[II]:
    identifiers = structure["identifier"]
    found = national_ids(conversion, identifiers, path, identity.STRUCTURE)
    return (
        found
        or other_ids(identifiers)
        or [ii for identifier in identifiers if (ii := identity.ii_of(identifier)) and ii.root and not ii.extension]
    )


def emitter_ids(deployment: Deployment) -> list[II]:
    """The id of the emitting structure, when its FINESS is configured."""
    ii = identity.finess_id(deployment.organization_finess) if deployment.organization_finess else None
    return [ii] if ii else []


def configured_responsible(deployment: Deployment) -> list[Resource]:
    """The professional who answers for documents that nobody signs, as a Practitioner; none unless configured."""
    if not deployment.responsible_rpps or not deployment.responsible_family:
        return []
    name: Resource = {"family": deployment.responsible_family}
    if deployment.responsible_given:
        name["given"] = [deployment.responsible_given]
    number = {"system": identity.RPPS, "value": deployment.responsible_rpps}
    return [{"resourceType": "Practitioner", "identifier": [number], "name": [name]}]


def organization(conversion: Conversion, structure: Resource, path: str) -> Organization:
    """An Organization resource as representedOrganization, scopingOrganization…"""
    return conversion.once(conversion.made_of(structure), _organization, structure, path)


def _organization(conversion: Conversion, structure: Resource, path: str) -> Organization:
    name = (structure.get("name") or "").strip()
    return Organization(
        ids=structure_ids(conversion, structure, path)[:1],
        names=[name] if name else [],
        telecoms=telecoms(conversion, structure.get("telecom", ()), path, name),
        addresses=addresses(structure.get("address", ())),
        industry_class=practice_setting(structure),
    )


def emitter(deployment: Deployment) -> Organization | None:
    """The emitting structure as configured, or None when nothing is."""
    ids = emitter_ids(deployment)
    if not ids and not deployment.organization_name:
        return None
    return Organization(
        ids=ids,
        names=[deployment.organization_name] if deployment.organization_name else [],
        industry_class=configured_setting(deployment),
    )


def practice_setting(structure: Resource) -> Code | None:
    """Cadre d'exercice (JDV_J04): a type of that system, else derived from the secteur d'activité."""
    types = _types(structure)
    for code in types:
        if code.system == PRACTICE_SETTING and (found := terminology.concept("J04", code.code, code.system)):
            return found.as_code()
    sector = _sector(types)
    setting = PRACTICE_SETTINGS.get((sector.code if sector else None) or "")
    return terminology.coded("J04", setting) if setting else None


def configured_setting(deployment: Deployment) -> Code | None:
    """The emitter's cadre d'exercice."""
    found = terminology.concept("J04", deployment.practice_setting)
    return found.as_code() if found else None


def sector_of(structure: Resource | None) -> Code | None:
    """Secteur d'activité (JDV_J02) among the types of an Organization."""
    return _sector(_types(structure)) if structure else None


def _sector(types: list[Code]) -> Code | None:
    for code in types:
        if code.system == SECTOR and (found := terminology.concept("J02", code.code, code.system)):
            return found.as_code()
    return None


def _types(structure: Resource) -> list[Code]:
    return [code for concept in structure.get("type", ()) for code in codings(concept)]


def is_national_structure(ids: Iterable[II]) -> bool:
    """Whether the first id is a Struct_IdNat."""
    return any(ii.root == STRUCT_IDNAT for ii in ids)
