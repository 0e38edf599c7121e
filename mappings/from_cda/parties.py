"""Professionals, structures, devices and relatives of a document → FHIR resources (CI-SIS Structuration minimale).

One resource per person or structure, however often the document repeats it: the same number and the same name, since
documents are met that give one number to two persons. Who has no number is the same when everything said is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from relais.cda.model import (
    II,
    AssignedEntity,
    Code,
    Device,
    Organization,
    Participant,
    PersonName,
    Recipient,
    RelatedEntity,
)
from relais.cda.relatives import is_patient
from relais.cda.templates import PS_IDNAT, STRUCT_IDNAT
from relais.mappings import terminology
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import addresses, concept, human_names, identifiers, stated_concept, telecoms
from relais.mappings.from_cda.reading import Reading, key_of
from relais.mappings.to_cda.relatives import ROLE_CLASS

RULE = "CI-SIS Structuration minimale"
_ORDINAL_SPECIALTY = re.compile(r"(?:SM|SI|SP|SCD)\d+")
"""Know-how of TRE_R38; competences, DESC, capacités and the sections of the pharmacists stand in other tables."""


# --- professionals ------------------------------------------------------------------------------------------------


def party(reading: Reading, assigned: AssignedEntity, path: str) -> Resource | None:
    """The Reference to who an assignedEntity or assignedAuthor is: the patient, a device, a professional, a structure.

    None when it names nobody.
    """
    for known, reference in reading.parties:
        if known == assigned:
            return reference and dict(reference)
    findings = len(reading.issues)
    found = _party(reading, assigned, path)
    if len(reading.issues) == findings:  # what there is to say of it is said at each place
        reading.parties.append((assigned, found))
    return found


def _party(reading: Reading, assigned: AssignedEntity, path: str) -> Resource | None:
    if _is_patient(reading, assigned):
        return patient_reference(reading)
    if assigned.device is not None:
        return _device(reading, assigned, assigned.device, path)
    numbers = [ii for ii in assigned.ids if ii.root]
    by_number = assigned.person is None and any(ii.root == STRUCT_IDNAT for ii in numbers)
    if assigned.person is not None or (numbers and not by_number):
        return professional(reading, assigned, path)
    stated = assigned.organization or (Organization(ids=numbers) if by_number else None)
    structure = organization(reading, stated, path) if stated else None
    place, contacts = addresses(reading, assigned.addresses, path), telecoms(reading, assigned.telecoms, path)
    if structure is not None:
        _join(reading, structure, _at_work(reading, place, path), _at_work(reading, contacts, path), path)
    if _profession(reading, assigned.code, path):  # of somebody who is not named
        if structure is None and (place or contacts):
            reading.warn(path, "a profession without name and structure: its address and telecoms are left out", RULE)
        return role_of(reading, None, assigned.code, structure, path)
    return structure


def _is_patient(reading: Reading, assigned: AssignedEntity) -> bool:
    known = [(ii.root, ii.extension) for ii in reading.document.header.patient.ids if ii.extension]
    return any((ii.root, ii.extension) in known for ii in assigned.ids)


def patient_reference(reading: Reading) -> Resource:
    """The Reference to the patient of the document."""
    return reading.add("Patient", (), {})


def professional(reading: Reading, assigned: AssignedEntity, path: str) -> Resource:
    """The Reference to the PractitionerRole of a professional, for a structure or not."""
    practitioner = _practitioner(reading, assigned, path)
    structure = organization(reading, assigned.organization, path) if assigned.organization else None
    return role_of(reading, practitioner, assigned.code, structure, path)


def role_of(
    reading: Reading, practitioner: Resource | None, code: Code | None, structure: Resource | None, path: str
) -> Resource:
    """The Reference to the PractitionerRole of that profession for that structure."""
    profession = _key(code.system, code.code) if code else ""
    key = ((practitioner or {}).get("reference", ""), profession, (structure or {}).get("reference", ""))
    if known := reading.known("PractitionerRole", key):
        _report_other_terms(reading, known, code, path)
        return known
    elements: Resource = {"practitioner": practitioner, "organization": structure, **_profession(reading, code, path)}
    return reading.add("PractitionerRole", key, elements)


def _report_other_terms(reading: Reading, role: Resource, code: Code | None, path: str) -> None:
    """Say where a profession that is known has words or translations besides."""
    if code is not None and (code.original_text or code.translations or code.qualifiers):
        stated = _profession(reading, code, path).get("code", [])
        if any(one not in reading.resource(role).get("code", ()) for one in stated):
            reading.inform(f"{path}/code", "said otherwise elsewhere in the document: kept once", RULE)


def _practitioner(reading: Reading, assigned: AssignedEntity, path: str) -> Resource:
    names = human_names(assigned.person)
    for ii in assigned.ids:
        if ii.root == PS_IDNAT and len(ii.extension or "") == 11 and (ii.extension or "").isdigit():
            reading.inform(
                f"{path}/id", "RPPS without its type digit: read as an RPPS", "CI-SIS Structuration minimale, PS_IdNat"
            )
    place = addresses(reading, assigned.addresses, path)
    contacts = telecoms(reading, assigned.telecoms, path)
    numbers = _id_key(assigned.ids)
    key = (*numbers, _name_key(assigned.person))
    if not numbers:
        key = (*key, key_of(place, contacts), _key((assigned.code or Code()).code))
    elements = {"identifier": identifiers(assigned.ids), "name": names}
    reference = reading.add("Practitioner", key, elements)
    _join_titles(reading, reference, names, path)
    _join(reading, reference, place, contacts, path)
    return reference


def _profession(reading: Reading, code: Code | None, path: str) -> Resource:
    """PractitionerRole.code and specialty of a code of JDV_J01: `G15_10/SM26` is profession 10, know-how SM26."""
    stated = stated_concept(reading, code, f"{path}/code")
    if code is None or not stated:
        return {}
    token = code.code or ""
    if code.system != terminology.PROFESSION_KNOW_HOW or not token.startswith("G15_"):
        return {"code": [stated]}
    profession, _, know_how = token.removeprefix("G15_").partition("/")
    label = terminology.concept("J01", f"G15_{profession}")
    plain = {"system": terminology.TRE_G15, "code": profession} | ({"display": label.display} if label else {})
    found: Resource = {"code": [stated | {"coding": [plain, *stated["coding"]]}]}
    if _ORDINAL_SPECIALTY.fullmatch(know_how):
        found["specialty"] = [{"coding": [{"system": terminology.TRE_R38, "code": know_how}]}]
    return found


def _device(reading: Reading, assigned: AssignedEntity, device: Device, path: str) -> Resource:
    owner = organization(reading, assigned.organization, path) if assigned.organization else None
    names = [
        {"name": name, "type": kind}
        for name, kind in ((device.software_name, "user-friendly-name"), (device.model_name, "model-name"))
        if name
    ]
    key = (*_id_key(assigned.ids), device.software_name or "", device.model_name or "")
    kind = assigned.code or device.code
    elements = {
        "identifier": identifiers(assigned.ids),
        "deviceName": names,
        "type": stated_concept(reading, kind, f"{path}/code"),
        "owner": owner,
    }
    return reading.add("Device", key, elements)


# --- structures ---------------------------------------------------------------------------------------------------


def organization(reading: Reading, structure: Organization, path: str) -> Resource | None:
    """The Reference to an Organization; None when the element says nothing."""
    place = _at_work(reading, addresses(reading, structure.addresses, path), path)
    contacts = _at_work(reading, telecoms(reading, structure.telecoms, path), path)
    ids = [ii for ii in structure.ids if ii.root]
    if not (ids or structure.name or place or contacts or structure.industry_class):
        return None
    key = (*_id_key(ids), _words(structure.name))
    if not ids:
        key = (*key, key_of(place, contacts))
    elements: Resource = {"identifier": identifiers(ids), "name": structure.name}
    if not ids and not structure.name:
        elements["name"] = "Structure sans nom"
        reading.warn(path, "a structure with neither identifier nor name", RULE)
    reference = reading.add("Organization", key, elements)
    _join(reading, reference, place, contacts, path)
    kind = stated_concept(reading, structure.industry_class, f"{path}/standardIndustryClassCode")
    _join_names(reading.resource(reference), structure.names[1:])
    _join_kind(reading, reading.resource(reference), kind, path)
    return reference


def _join_names(resource: Resource, names: list[str]) -> None:
    """Add the other names of a structure that it has not."""
    if others := [name for name in names if name not in resource.get("alias", ())]:
        resource["alias"] = [*resource.get("alias", ()), *others]


def _join_kind(reading: Reading, resource: Resource, kind: Resource, path: str) -> None:
    """Add the cadre d'exercice of a structure that it has not; say where it is the same in other words."""
    known = resource.get("type", [])
    same = [other for other in known if _same_code(kind, other)]
    if kind and not same:
        resource["type"] = [*known, kind]
    elif kind and "text" in kind and kind not in same:
        place = f"{path}/standardIndustryClassCode"
        reading.inform(place, "said otherwise elsewhere in the document: kept once", RULE)


def _at_work(reading: Reading, elements: list[Resource], path: str) -> list[Resource]:
    """Addresses or contact points of a structure, which has none at home (FHIR R4 org-2, org-3)."""
    if all(element.get("use") != "home" for element in elements):
        return elements
    reading.inform(f"{path}/@use", "a structure has no home: the use is left out", "FHIR R4 org-2, org-3")
    return [{name: part for name, part in element.items() if (name, part) != ("use", "home")} for element in elements]


def _same_code(one: Resource, other: Resource) -> bool:
    return [(coding.get("system"), coding.get("code")) for coding in one.get("coding", ())] == [
        (coding.get("system"), coding.get("code")) for coding in other.get("coding", ())
    ]


# --- participants and recipients ------------------------------------------------------------------------------------


def participant_party(reading: Reading, participant: Participant, path: str) -> Resource | None:
    """The Reference to the party of a header participant: a professional, or the structure when there is no person."""
    assigned = AssignedEntity(
        ids=participant.ids,
        code=participant.code,
        addresses=participant.addresses,
        telecoms=participant.telecoms,
        person=participant.name,
        organization=participant.organization,
    )
    return party(reading, assigned, path)


def recipient_party(reading: Reading, recipient: Recipient, path: str) -> Resource | None:
    """The Reference to an intendedRecipient; without number nor structure the person is a relative."""
    assigned = AssignedEntity(
        ids=recipient.ids,
        addresses=recipient.addresses,
        telecoms=recipient.telecoms,
        person=recipient.name,
        organization=recipient.organization,
    )
    if recipient.ids or recipient.organization or recipient.name is None:
        return party(reading, assigned, path)
    entity = RelatedEntity("", None, recipient.addresses, recipient.telecoms, recipient.name)
    return relative(reading, entity, path)


# --- relatives ------------------------------------------------------------------------------------------------------

_ROLES = {"NOK": "QUAL"}
"""Codes of TRE_R260 that are not spelt as the relatedEntity/@classCode: the *personne de confiance*."""


def relative(reading: Reading, entity: RelatedEntity, path: str) -> Resource:
    """The Reference to a RelatedPerson; the same relative in several roles is one resource with all of them."""
    if is_patient(entity, reading.document.header.patient):
        return patient_reference(reading)
    kinship = stated_concept(reading, entity.code, f"{path}/code")
    elements: Resource = {
        "patient": patient_reference(reading),
        "name": human_names(entity.name),
        "telecom": telecoms(reading, entity.telecoms, path),
        "address": addresses(reading, entity.addresses, path),
    }
    reference = reading.add("RelatedPerson", (key_of(elements, kinship),), elements)
    roles = reading.resource(reference).setdefault("relationship", [])
    if entity.class_code.strip():
        role = concept(Code(_ROLES.get(entity.class_code, entity.class_code), ROLE_CLASS))
        if role not in roles:
            roles.insert(len(roles) - bool(kinship in roles), role)
    if kinship and kinship not in roles:
        roles.append(kinship)
    if not roles:
        del reading.resource(reference)["relationship"]
    return reference


# --- identity ---------------------------------------------------------------------------------------------------------


def _id_key(ids: Iterable[II]) -> tuple[str, ...]:
    return tuple(_key(ii.root, ii.extension) for ii in ids if ii.root)


def _key(*parts: str | None) -> str:
    return "|".join([(part or "").upper() for part in parts])


def _name_key(name: PersonName | None) -> str:
    if name is None:
        return ""
    return _words(" ".join([name.text or "", *(part.text for part in (*name.families, *name.givens))]))


def _words(text: str | None) -> str:
    return " ".join((text or "").casefold().split())


def _join_titles(reading: Reading, reference: Resource, names: list[Resource], path: str) -> None:
    """Add titles that the name of a professional has not; say where it is spelt otherwise."""
    known = reading.resource(reference).get("name", names)
    if known == names or not names:
        return
    for title in ("prefix", "suffix"):
        if title in names[0]:
            known[0].setdefault(title, names[0][title])
    if any(known[0].get(part) != content for part, content in names[0].items()) or known[1:] != names[1:]:
        reading.inform(f"{path}/name", "spelt otherwise elsewhere in the document: kept once", RULE)


def _join(reading: Reading, reference: Resource, places: list[Resource], contacts: list[Resource], path: str) -> None:
    """Add addresses and contact points that the resource has not; the same in other letters is not another one."""
    resource = reading.resource(reference)
    for name, elements in (("address", places), ("telecom", contacts)):
        for element in elements:
            known = resource.setdefault(name, [])
            if element in known:
                continue
            if any(_words(key_of(element)) == _words(key_of(other)) for other in known):
                reading.inform(f"{path}/{name}", "spelt otherwise elsewhere in the document: kept once", RULE)
            else:
                known.append(element)
