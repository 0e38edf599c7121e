"""RelatedPerson and Patient.contact → informant/relatedEntity (CI-SIS Structuration minimale).

NOK is in France the *personne de confiance*, a legal designation (jdv-role-informateur-cisis); FHIR says it by TRE_R260
`QUAL` or fr-core `K`, and documents that were imported by NOK. Trap of the source: v2-0131 `N` ("next of kin") is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relais.cda.model import Code, RelatedEntity
from relais.mappings import identity, terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import addresses, concept_text, current_name, display_name, person_name, telecoms

ROLE_CLASS = "2.16.840.1.113883.5.110"
ROLE_CODE = "2.16.840.1.113883.5.111"
RULE = "CI-SIS Structuration minimale, informant"
_CLASSES = {"ECON": "ECON", "QUAL": "NOK", "NOK": "NOK", "CAREGIVER": "CAREGIVER", "CON": "CON", "PAT": "PAT"}
"""relatedEntity/@classCode of the roles of TRE_R260 that an informant has; PAT is whom the patient helps (*aidé*)."""

_V3_ROLE_CLASS = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"  # of one OID with TRE_R260
_OTHERWISE_IN_V3 = frozenset({"QUAL", "PAT"})
"""Codes that mean something else there: a qualified entity, a patient."""

_CONTACT_RELATIONSHIP = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-contact-relationship"
_GUARDIANS = frozenset({(ROLE_CLASS, "GUARD"), (ROLE_CODE, "GUARD"), (ROLE_CODE, "RESPRSN")})
"""Legal representatives in TRE_R260, v3-RoleCode and TRE_R216; every code of TRE_R217 is one as well."""
_PROTECTION = {"GRD": "TUTEUR", "CURTL": "CURATEUR", "SVG": "MSVG", "CUR": None, "WRD": None}
"""Those of fr-core contact-relationship, with the protection measure of TRE_R217 that each names, if it does."""


def relationships(conversion: Conversion) -> Iterator[tuple[Resource, str]]:
    """The RelatedPersons of the patient who are so today, with their paths. One of another patient is refused."""
    for person, path in conversion.resources.placed("RelatedPerson"):
        if not person.get("active", True):
            conversion.inform(f"{path}.active", "no longer in use: left out", RULE)
        elif conversion.same_patient(person, "patient", path) and _is_current(conversion, person, path):
            yield person, path


def contacts(conversion: Conversion) -> Iterator[tuple[Resource, str]]:
    """The contacts of the patient whose period covers the present, with their paths."""
    for index, contact in enumerate(conversion.patient.get("contact", ())):
        path = f"Patient.contact[{index}]"
        if _is_current(conversion, contact, path):
            yield contact, path


def _is_current(conversion: Conversion, person: Resource, path: str) -> bool:
    """Whether the period of a relation covers the present; said when it does not."""
    current = identity.covers(person.get("period", {}), conversion.today)
    if not current:
        conversion.warn(f"{path}.period", "not a relation of today: left out", RULE)
    return current


def role_classes(concepts: Iterable[Resource]) -> list[str]:
    """The relatedEntity/@classCode values that relationship codes stand for, in the order given.

    A relation that names no role is CON; a legal guardian alone has none.
    """
    found: list[str] = []
    guardian = False
    for concept in concepts:
        for coding in concept.get("coding", ()):
            if role := _role_class(coding):
                found.append(role)
            guardian = guardian or _is_guardian_code(coding)
    if not found and not guardian:
        found.append("CON")
    return list(dict.fromkeys(found))


def _role_class(coding: Resource) -> str | None:
    """The relatedEntity/@classCode that one relationship code stands for, if any."""
    system, code = coding.get("system"), coding.get("code", "")
    if system == terminology.V2_CONTACT_ROLE:
        return "ECON" if code == "C" else "CON"
    if system == _CONTACT_RELATIONSHIP:
        return "NOK" if code == "K" else None
    if terminology.oid_of(system) != ROLE_CLASS or (system == _V3_ROLE_CLASS and code in _OTHERWISE_IN_V3):
        return None
    return _CLASSES.get(code)


def is_guardian(concepts: Iterable[Resource]) -> bool:
    """Whether the relationship codes name a legal representative, or the protection measure that one carries out."""
    return any(_is_guardian_code(coding) for concept in concepts for coding in concept.get("coding", ()))


def _is_guardian_code(coding: Resource) -> bool:
    if coding.get("system") == _CONTACT_RELATIONSHIP:
        return coding.get("code") in _PROTECTION
    system = terminology.oid_of(coding.get("system"))
    return system == terminology.LEGAL_PROTECTION or (system, coding.get("code")) in _GUARDIANS


def protection_measure(concepts: Iterable[Resource]) -> Code | None:
    """The protection measure of TRE_R217 that the relationship codes name, if any."""
    for concept in concepts:
        for coding in concept.get("coding", ()):
            system, code = terminology.oid_of(coding.get("system")), coding.get("code")
            if coding.get("system") == _CONTACT_RELATIONSHIP:
                system, code = terminology.LEGAL_PROTECTION, _PROTECTION.get(code or "")
            if system == terminology.LEGAL_PROTECTION and (found := terminology.concept("J11", code, system)):
                return found.as_code()
    return None


def kinship(concepts: Iterable[Resource]) -> Code | None:
    """The relation to the patient in JDV_J11; kin outside the list is FAMMEMB, any other relation FRND."""
    for concept in concepts:
        for coding in concept.get("coding", ()):
            system, code = terminology.oid_of(coding.get("system")), coding.get("code")
            if found := terminology.concept("J11", code, system):
                return found.as_code()
            if system == ROLE_CODE and code and not _is_guardian_code(coding):
                near = terminology.concept("kinship", code)
                return terminology.coded("J11", near.display if near else "FRND")
    return None


def _is_said_by_code(coding: Resource) -> bool:
    """Whether relatedEntity or guardian has a code for that relationship."""
    system, code = terminology.oid_of(coding.get("system")), coding.get("code")
    coded = _role_class(coding) or terminology.concept("J11", code, system)
    return coded is not None or _is_guardian_code(coding)


def _say_relations(conversion: Conversion, relations: Iterable[Resource], path: str, name: str) -> None:
    """Put in words, or say, the relations that no role nor code of JDV_J11 stands for."""
    for index, relation in enumerate(relations):
        known = any(map(_is_said_by_code, relation.get("coding", ())))
        if not known and (words := concept_text(relation)):
            conversion.remarks.append(f"{name} : {words}")
        elif not known:
            conversion.inform(f"{path}.relationship[{index}]", "no relation of JDV_J11: the nearest one", RULE)


def related_entities(conversion: Conversion, source: Resource, path: str) -> list[RelatedEntity]:
    """One relatedEntity per role of a RelatedPerson or Patient.contact; none without a name (said in the issues)."""
    relations = source.get("relationship", ())
    classes = role_classes(relations)
    names = source.get("name", ())
    name = current_name([names] if isinstance(names, dict) else names)
    person = person_name(conversion, name, f"{path}.name", titled=False) if classes else None
    if person is None:
        if classes:
            conversion.inform(f"{path}.name", "a relative without a name is not written", RULE)
        return []
    words = display_name(name)
    _say_relations(conversion, relations, path, words)
    places = source.get("address", ())
    home = addresses([places] if isinstance(places, dict) else places)
    contacts = telecoms(conversion, source.get("telecom", ()), path, words)
    relation = kinship(relations)
    return [RelatedEntity(role, relation, home, contacts, person) for role in classes]
