"""Patient → recordTarget: identity traits, INS, guardians (CI-SIS Structuration minimale, Référentiel INS)."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda.identifiers import ins_is_valid
from relais.cda.model import II, Birthplace, Code, Guardian, NamePart, Organization, Patient, PersonName
from relais.cda.templates import INS_NIA, INS_ROOTS
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import INS_RULE, Conversion
from relais.mappings.to_cda.datatypes import (
    address,
    addresses,
    concept_text,
    current_name,
    display_name,
    insee_code,
    person_name,
    telecoms,
)
from relais.mappings.to_cda.relatives import contacts, is_guardian, protection_measure, relationships

RULE = "CI-SIS Structuration minimale, recordTarget"
LUNAR_DATE = f"{extensions.FR_CORE}fr-core-lunar-date"
_GENDERS = {"male": "M", "female": "F", "other": "UN", "unknown": "UN"}


def record_target(conversion: Conversion) -> Patient:
    """The patientRole of `conversion.patient`, whose ids it also keeps as `conversion.patient_ids`.

    Refuses what the header rules demand and the Patient lacks.
    """
    patient = conversion.patient
    _check_record(conversion, patient)
    ids = conversion.patient_ids = _ids(conversion, patient)
    with_ins = bool(ids) and ids[0].root in INS_ROOTS
    birth_place = extensions.value(patient, extensions.BIRTH_PLACE) or {}
    if with_ins and not insee_code(birth_place):
        conversion.refuse(
            f"Patient.extension('{extensions.BIRTH_PLACE}').value.extension('{extensions.INSEE_CODE}').value.code",
            "an INS needs the INSEE code of the place of birth",
            RULE,
        )
    return Patient(
        ids=ids,
        addresses=addresses(_current_addresses(conversion, patient)),
        telecoms=telecoms(conversion, patient.get("telecom", ()), "Patient", "La personne"),
        name=_name(conversion, patient, with_ins=with_ins),
        gender=_gender(conversion, patient),
        birth_time=_birth_time(conversion, patient),
        deceased=patient.get("deceasedBoolean", True if "deceasedDateTime" in patient else None),
        deceased_time=conversion.time(patient.get("deceasedDateTime"), "Patient.deceasedDateTime"),
        multiple_birth=patient.get("multipleBirthBoolean", True if "multipleBirthInteger" in patient else None),
        multiple_birth_order=patient.get("multipleBirthInteger"),
        guardians=list(_guardians(conversion)),
        birthplace=_birthplace(birth_place),
    )


# --- identifiers --------------------------------------------------------------------------------------------------


def _check_record(conversion: Conversion, patient: Resource) -> None:
    """Say that another record may be the good one: this one is inactive, or was merged into another."""
    if patient.get("active") is False:
        conversion.warn("Patient.active", "the record of the patient is no longer in use", "RNIV")
    for index, link in enumerate(patient.get("link", ())):
        if link.get("type") == "replaced-by":
            conversion.warn(f"Patient.link[{index}]", "another record replaces this one", "RNIV")


def _ids(conversion: Conversion, patient: Resource) -> list[II]:
    ids = [ii for ii in (_ins(conversion, patient),) if ii]
    for identifier in identity.local_identifiers(patient, conversion.today):
        ii = identity.ii_of(identifier)
        if ii and ii.root and ii.extension and ii not in ids:
            ids.append(ii)
            if identity.identifier_domain(identifier) is None:
                conversion.inform(
                    "Patient.identifier.system", "not an OID: written under a computed OID", "docs/mapping-pps.md"
                )
    _say_left_out(conversion, patient)
    if not ids and not conversion.has_refused("Patient.identifier"):
        conversion.refuse("Patient.identifier", "an INS of a qualified identity or a local identifier (IPP)", RULE)
    return ids


def _say_left_out(conversion: Conversion, patient: Resource) -> None:
    """Numbers that look like an INS or a social security number, and stand under a domain that is for neither; those
    of no domain, which another structure gives to somebody else; former ones."""
    for index, identifier in enumerate(patient.get("identifier", ())):
        place = f"Patient.identifier[{index}]"
        if not identifier.get("value"):
            continue
        if identity.is_person_number(identifier):
            if not identity.is_of_persons(identifier.get("system")):
                message = "an INS or a social security number under another domain: left out"
                conversion.warn(place, message, INS_RULE)
        elif not (identifier.get("system") or "").strip():
            conversion.warn(f"{place}.system", "a number without its domain names nobody elsewhere: left out", RULE)
        elif not identity.is_current(identifier, conversion.today):
            conversion.inform(place, "a former number, or one outside its period: left out", RULE)


def _ins(conversion: Conversion, patient: Resource) -> II | None:
    """The INS, when the identity is qualified; refused when it is wrong, ambiguous or of the other environment."""
    path = "Patient.identifier.where(system.startsWith('urn:oid:1.2.250.1.213.1.4.'))"
    candidates = identity.ins_identifiers(patient, conversion.today)
    if not candidates:
        if any(identity.identifier_domain(one) in INS_ROOTS for one in patient.get("identifier", ())):
            conversion.warn(path, "a former INS, or one outside its period: left out", INS_RULE)
        return None
    if any(one.get("use") == "temp" and identity.identifier_domain(one) != INS_NIA for one in candidates):
        conversion.warn(f"{path}.use", "an INS-NIR is never temporary", INS_RULE)
    if not identity.is_qualified(patient):
        conversion.warn(path, "identity not qualified: the INS is left out", "RNIV")
        return None
    official = [one for one in candidates if one.get("use") == "official"] or candidates
    numbers = {(identity.identifier_domain(one), "".join((one.get("value") or "").split())) for one in official}
    if len(numbers) > 1:
        conversion.refuse(path, "several current INS: which one is the identity?", INS_RULE, "duplicate")
        return None
    root, number = numbers.pop()
    if not ins_is_valid(number):
        conversion.refuse(f"{path}.value", "not an INS: 15 characters whose key agrees", RULE, "value")
        return None
    if not identity.may_leave(root, conversion.deployment):
        conversion.refuse(f"{path}.system", "INS of another environment (setting ins_environment)", RULE, "security")
        return None
    for trait in identity.ins_mismatches(number, patient):
        conversion.warn(f"Patient.{trait}", "disagrees with the INS", INS_RULE)
    return II(root, number)


# --- traits -------------------------------------------------------------------------------------------------------


def _name(conversion: Conversion, patient: Resource, *, with_ins: bool) -> PersonName:
    names = list(_current_names(conversion, patient))
    official = _official(conversion, names)
    usual = next((name for name in names if name.get("use") == "usual"), None)
    birth = official or (None if with_ins else current_name(names))
    for name in names:
        if not any(name is one for one in (birth, usual)):
            conversion.inform("Patient.name", "neither the birth name nor the used one: not written", RULE)
    result = PersonName()
    _birth_name(conversion, birth, result, with_ins=with_ins)
    if usual is not None and usual is not birth:
        if usual.get("family"):
            result.families.append(NamePart(usual["family"].strip(), "CL"))
        if used := _given(usual):
            result.givens.append(NamePart(used[0], "CL"))
    return result


def _official(conversion: Conversion, names: list[Resource]) -> Resource | None:
    """The name of birth: the one whose period covers the present, where several are said to be it."""
    official = [name for name in names if name.get("use") == "official"]
    found = [name for name in official if identity.covers(name.get("period", {}), conversion.today)] or official
    if len({words for name in found if (words := _spelt(name))}) > 1:
        message = "several names of birth: which one is it?"
        conversion.refuse("Patient.name.where(use='official')", message, RULE, "duplicate")
    return next(iter(found), None)


def _spelt(name: Resource) -> tuple[str, ...]:
    """The words of a name, whatever their case."""
    return tuple(" ".join([name.get("family") or "", *_given(name)]).casefold().split())


def _current_names(conversion: Conversion, patient: Resource) -> Iterator[Resource]:
    """The names of the patient that are no former ones; a birth name (`official`) is never one."""
    today = conversion.today
    for index, name in enumerate(patient.get("name", ())):
        if name.get("use") == "official" or identity.covers(name.get("period", {}), today):
            yield name
        else:
            conversion.inform(f"Patient.name[{index}].period", "a former name: not written", RULE)


def _birth_name(conversion: Conversion, name: Resource | None, result: PersonName, *, with_ins: bool) -> None:
    """Family and given names of birth: three of the six traits that an INS demands."""
    place = "Patient.name.where(use='official')"
    given = _given(name or {})
    all_given = (extensions.value(name or {}, extensions.BIRTH_GIVEN_NAMES) or "").strip()
    family = ((name or {}).get("family") or "").strip()
    if not family:
        conversion.refuse(f"{place}.family", "the birth family name", RULE)
    if with_ins and not given:
        conversion.refuse(f"{place}.given", "an INS needs the first birth given name", RULE)
    if with_ins and not all_given:
        conversion.refuse(
            f"{place}.extension('{extensions.BIRTH_GIVEN_NAMES}').value", "an INS needs all birth given names", RULE
        )
    if not with_ins and not given and not all_given:
        conversion.refuse(f"{place}.given", "at least one given name", RULE)
    qualifier = "CL" if name and name.get("use") == "usual" else "BR"
    if family:
        result.families.append(NamePart(family, qualifier))
    if all_given or given:
        result.givens.append(NamePart(all_given or " ".join(given)))
    if given and (with_ins or all_given):
        result.givens.append(NamePart(given[0], "BR"))


def _given(name: Resource) -> list[str]:
    return [part.strip() for part in name.get("given", ()) if part and part.strip()]


def _gender(conversion: Conversion, patient: Resource) -> Code | None:
    gender = _GENDERS.get(patient.get("gender", ""))
    if gender is None:
        conversion.refuse("Patient.gender", "the administrative gender", RULE)
        return None
    return terminology.coded("J143", gender)


def _birth_time(conversion: Conversion, patient: Resource) -> str | None:
    """birthTime: the date of the INS traits, which an identity document may write as no calendar knows it."""
    if not patient.get("birthDate"):
        conversion.refuse("Patient.birthDate", "the date of birth", RULE)
        return None
    place, stated = f"Patient.extension('{LUNAR_DATE}').value", extensions.value(patient, LUNAR_DATE) or ""
    lunar = "".join(stated.split("-"))
    if not stated or not (len(lunar) == 8 and lunar.isascii() and lunar.isdigit()):
        if stated:
            conversion.warn(place, "not written as YYYY-MM-DD: birthDate is written", RULE, "value")
        return conversion.time(patient["birthDate"], "Patient.birthDate")
    if lunar[:4] != patient["birthDate"][:4]:
        conversion.refuse(place, "another year than that of birthDate: which one is it?", RULE, "conflict")
    return lunar


def _current_addresses(conversion: Conversion, patient: Resource) -> Iterator[Resource]:
    """The addresses of the patient whose period covers the present; the others are said."""
    today = conversion.today
    for index, place in enumerate(patient.get("address", ())):
        if identity.covers(place.get("period", {}), today):
            yield place
        else:
            conversion.inform(f"Patient.address[{index}].period", "not an address of today: not written", RULE)


def _birthplace(place: Resource) -> Birthplace | None:
    where = address({part: place[part] for part in ("city", "country", "district", "extension") if part in place})
    if where is not None:
        where.county = insee_code(place)
    return Birthplace(address=where) if where is not None else None


# --- guardians ----------------------------------------------------------------------------------------------------


def _guardians(conversion: Conversion) -> Iterator[Guardian]:
    for contact, path in contacts(conversion):
        if is_guardian(contact.get("relationship", ())):
            structure = conversion.resolve(contact.get("organization"), f"{path}.organization", conversion.patient)
            yield from _guardian(conversion, contact, [contact["name"]] if "name" in contact else [], structure, path)
    for person, path in relationships(conversion):
        if is_guardian(person.get("relationship", ())):
            yield from _guardian(conversion, person, person.get("name", ()), None, path)


def _guardian(
    conversion: Conversion, source: Resource, names: list[Resource], structure: Resource | None, path: str
) -> Iterator[Guardian]:
    """One guardian: the organisation when there is no person (never both)."""
    places = source.get("address", ())
    places = [places] if isinstance(places, dict) else places
    name = current_name(names)
    owner = display_name(name) or (structure or {}).get("name", "")
    result = Guardian(
        addresses=addresses(places),
        telecoms=telecoms(conversion, source.get("telecom", ()), path, owner),
        person=person_name(conversion, name, f"{path}.name", titled=False),
    )
    if result.person is None and structure and structure.get("name"):
        result.organization = Organization(names=[structure["name"]])
        result.addresses = result.addresses or addresses(structure.get("address", ()))
        result.telecoms = result.telecoms or telecoms(conversion, structure.get("telecom", ()), path, owner)
    if result.person is None and result.organization is None:
        conversion.refuse(f"{path}.name", "the name of the guardian, person or organisation", RULE)
        return
    measure = protection_measure(source.get("relationship", ()))
    if measure is not None:
        conversion.remarks.append(f"Mesure de protection : {measure.display} ({owner})")
    elif text := concept_text(source.get("relationship", [{}])[0]):
        conversion.remarks.append(f"Représentant légal : {owner} ({text})")
    yield result
