"""recordTarget → Patient: inverse of `to_cda.patient` (CI-SIS Structuration minimale)."""

from __future__ import annotations

from relais.cda.datatypes import is_ts
from relais.cda.errors import Issue, MappingError
from relais.cda.identifiers import ins_is_valid
from relais.cda.model import II, Birthplace, Code, Guardian, NamePart, Organization, Patient, PersonName
from relais.cda.templates import INS_ROOTS
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import (
    absent,
    address,
    addresses,
    coding,
    human_names,
    is_integer,
    say_code_alone,
    telecoms,
)
from relais.mappings.from_cda.parties import organization, patient_reference
from relais.mappings.from_cda.reading import Reading
from relais.mappings.from_cda.remarks import protection_measures
from relais.mappings.to_cda.datatypes import names_read_as
from relais.mappings.to_cda.patient import LUNAR_DATE
from relais.mappings.to_cda.relatives import ROLE_CLASS

RULE = "CI-SIS Structuration minimale, recordTarget"
PATH = "recordTarget/patientRole"
BIRTH_TIME = f"{extensions.HL7}patient-birthTime"
IDENTIFIER_TYPES = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"
IDENTITY_STATUSES = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0445"
V2_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"

_GENDERS = {"M": "male", "F": "female", "UN": "unknown", "U": "unknown"}


def read_patient(reading: Reading) -> Resource:
    """The Reference to the patient. Raises MappingError when the document does not say who that is."""
    patient = reading.document.header.patient
    ids = [ii for ii in patient.ids if ii.root and ii.extension]
    _require_somebody(patient, ids)
    reference = patient_reference(reading)
    resource = reading.resource(reference)
    measures = protection_measures(reading.document.sections) if patient.guardians else {}
    elements: Resource = {
        "extension": [*_reliability(reading, ids), *_birth_place(patient.birthplace)],
        "identifier": [_identifier(ii) for ii in ids],
        "name": _names(reading, patient.name, with_ins=any(ii.root in INS_ROOTS for ii in ids)),
        "telecom": telecoms(reading, patient.telecoms, PATH),
        **_gender(reading, patient),
        **_birth(reading, patient, f"{PATH}/patient/birthTime"),
        **_death(reading, patient),
        "address": addresses(reading, patient.addresses, PATH),
        **_multiple_birth(patient),
        "contact": [
            contact
            for index, guardian in enumerate(patient.guardians, 1)
            if (contact := _guardian(reading, guardian, index, measures))
        ],
    }
    birth = elements.pop("birth_extension", None)
    elements["extension"] += [birth] if birth else []
    resource |= {name: content for name, content in elements.items() if content not in (None, [], {})}
    return reference


def _require_somebody(patient: Patient, ids: list[II]) -> None:
    by_domain: dict[str | None, set[str | None]] = {}
    for ii in ids:
        if ii.root in INS_ROOTS:
            by_domain.setdefault(ii.root, set()).add(ii.extension)
    if any(len(numbers) > 1 for numbers in by_domain.values()):
        raise MappingError(Issue("error", "duplicate", "two INS of one domain: of whom is it?", f"{PATH}/id", RULE))
    if not ids and not patient.name.families:
        raise MappingError(Issue("error", "required", "a patient with an identifier or a name", PATH, RULE))


# --- identity -----------------------------------------------------------------------------------------------------


def _identifier(ii: II) -> Resource:
    found: Resource = identity.identifier_of(ii) or {"value": ii.extension}
    code = identity.INS_TYPE_CODES.get(ii.root or "")
    if code:
        return {"use": "official", "type": {"coding": [{"system": IDENTIFIER_TYPES, "code": code}]}, **found}
    if ii.root in identity.NOT_PATIENT_ROOTS:
        return {"use": "secondary", **found}
    return {"use": "usual", "type": {"coding": [{"system": V2_IDENTIFIER_TYPES, "code": "PI"}]}, **found}


def _reliability(reading: Reading, ids: list[II]) -> list[Resource]:
    """A document bears an INS only when the identity is qualified (RNIV); one whose key is wrong proves nothing."""
    numbers = [ii.extension or "" for ii in ids if ii.root in INS_ROOTS]
    if not numbers:
        return []
    if not all(ins_is_valid(number) for number in numbers):
        reading.warn(f"{PATH}/id", "not an INS: its form or key is wrong; identity not qualified", RULE, "value")
        return []
    status = {"system": IDENTITY_STATUSES, "code": "VALI", "display": "Identité validée"}
    return [
        {
            "url": extensions.IDENTITY_RELIABILITY,
            "extension": [{"url": "identityStatus", "valueCoding": status}],
        }
    ]


def _names(reading: Reading, name: PersonName, *, with_ins: bool) -> list[Resource]:
    """The name of birth (`official`) and the name in use (`usual`); legacy `SP` is a name in use when there is no `CL`.

    Names of other qualifiers are kept beside them.
    Beside an INS, a given name without qualifier is the list of all birth given names; else it may be the only one.
    """
    families, givens = _by_qualifier(name.families), _by_qualifier(name.givens)
    official: Resource = {"use": "official"}
    first, listed = givens.get("BR", []), " ".join(givens.get("", []))
    if listed and (first or with_ins):
        official["extension"] = [{"url": extensions.BIRTH_GIVEN_NAMES, "valueString": listed}]
    if name.text:
        official["text"] = name.text
    if born := families.get("BR", []) or families.get("", []):
        official["family"] = " ".join(born)
    if given := first or ([listed] if listed and not with_ins else []):
        official["given"] = given
    usual: Resource = {"use": "usual"}
    if used := families.get("CL", []) or families.get("SP", []):
        usual["family"] = " ".join(used)
    if called := givens.get("CL", []) or givens.get("SP", []):
        usual["given"] = called
    for path, parts in (("family", families), ("given", givens)):
        if "SP" in parts and "CL" not in parts:
            reading.inform(f"{PATH}/patient/name/{path}", "qualifier SP: read as the name in use", RULE)
    _complete(official, usual)
    for extra in (name.prefix, name.suffix):
        if extra:
            target = usual if len(usual) > 1 else official
            target.setdefault("prefix" if extra is name.prefix else "suffix", []).append(extra)
    further = _further_names(families, givens)
    if further:
        message = "neither the name of birth nor the one in use: kept beside them, not written back"
        reading.inform(f"{PATH}/patient/name", message, RULE)
    return [*(one for one in (official, usual) if len(one) > 1), *further]


def _further_names(families: dict[str, list[str]], givens: dict[str, list[str]]) -> list[Resource]:
    """The names by qualifier, unless they are the name of birth or the name in use."""
    family_taken = ("BR" if "BR" in families else "", "CL" if "CL" in families else "SP")
    given_taken = ("BR", "", "CL" if "CL" in givens else "SP")
    found: dict[str, Resource] = {}
    for qualifier, parts in families.items():
        if qualifier not in family_taken:
            found.setdefault(qualifier, {})["family"] = " ".join(parts)
    for qualifier, parts in givens.items():
        if qualifier not in given_taken:
            found.setdefault(qualifier, {})["given"] = parts
    return list(found.values())


def _complete(official: Resource, usual: Resource) -> None:
    """A document without INS may give given names without qualifier to the only name it has, the one in use."""
    if "family" not in official and "given" in official and "family" in usual and "given" not in usual:
        usual["given"] = official.pop("given")


def _by_qualifier(parts: list[NamePart]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in parts:
        found.setdefault(part.qualifier or "", []).append(part.text)
    return found


# --- traits -------------------------------------------------------------------------------------------------------


def _gender(reading: Reading, patient: Patient) -> Resource:
    code, path = patient.gender, f"{PATH}/patient/administrativeGenderCode"
    if code is None:
        return {}
    say_code_alone(reading, code, path)
    if code.null_flavor or not code.code:
        return {"_gender": absent(code.null_flavor)}
    gender = _GENDERS.get(code.code)
    if gender is None:
        reading.warn(path, "not a gender of JDV_J143", RULE, "code-invalid")
        return {"_gender": absent("UNK")}
    return {"gender": gender}


def _birth(reading: Reading, patient: Patient, path: str) -> Resource:
    """birthDate; a date that no calendar knows is kept as written, beside the part of it that exists."""
    ts = patient.birth_time
    if ts is None:
        return {"_birthDate": absent(patient.birth_time_null_flavor)} if patient.birth_time_null_flavor else {}
    if is_ts(ts):
        date = reading.day(ts[:8], path)
        time = reading.moment(ts, path) if len(ts) > 10 else None
        extension = {"extension": [{"url": BIRTH_TIME, "valueDateTime": time}]} if time else None
        return {"birthDate": date, "_birthDate": extension}
    known = next((ts[:length] for length in (6, 4) if is_ts(ts[:length])), None)
    if known is None or not (len(ts) == 8 and ts.isascii() and ts.isdigit()):
        reading.warn(path, "not a date: left out", RULE, "value")
        return {}
    reading.inform(path, "no such day: kept as written, beside the part that exists", "fr-core, fr-core-lunar-date")
    written = f"{ts[:4]}-{ts[4:6]}-{ts[6:]}"
    return {
        "birthDate": reading.day(known, path),
        "birth_extension": {"url": LUNAR_DATE, "valueString": written},
    }


def _death(reading: Reading, patient: Patient) -> Resource:
    if when := reading.moment(patient.deceased_time, f"{PATH}/patient/deceasedTime"):
        return {"deceasedDateTime": when}
    return {"deceasedBoolean": patient.deceased}


def _multiple_birth(patient: Patient) -> Resource:
    if patient.multiple_birth_order is not None and is_integer(patient.multiple_birth_order):
        return {"multipleBirthInteger": patient.multiple_birth_order}
    return {"multipleBirthBoolean": patient.multiple_birth}


def _birth_place(place: Birthplace | None) -> list[Resource]:
    if place is None:
        return []
    found = address(place.address) if place.address else {}
    if place.name:
        found["text"] = place.name
    return [{"url": extensions.BIRTH_PLACE, "valueAddress": found}] if found else []


# --- guardians ----------------------------------------------------------------------------------------------------


def _guardian(reading: Reading, guardian: Guardian, index: int, measures: dict[str, Code]) -> Resource | None:
    """A legal representative as Patient.contact, which has one name and one address; None for nobody."""
    path = f"{PATH}/patient/guardian[{index}]"
    relations = [{"coding": [{"system": terminology.uri_of(ROLE_CLASS), "code": "GUARD"}]}]
    name = next(iter(human_names(guardian.person)), None)
    structure = organization(reading, guardian.organization, path) if guardian.organization else None
    called = names_read_as(name) or {(guardian.organization or Organization()).name}
    known = guardian.code or next((measure for owner, measure in measures.items() if owner in called), None)
    if known and (measure := coding(known)):
        relations.append({"coding": [measure]})
    for number, _ in enumerate(guardian.ids, 1):
        reading.inform(f"{path}/id[{number}]", "the contact of a Patient has no identifier", "FHIR R4 Patient.contact")
    if len(guardian.addresses) > 1:
        reading.inform(f"{path}/addr", "the contact of a Patient has one address: the first is kept", RULE)
    elements: Resource = {
        "name": name,
        "telecom": telecoms(reading, guardian.telecoms, path),
        "address": next(iter(addresses(reading, guardian.addresses, path)), None),
        "organization": structure,
    }
    said = {element: content for element, content in elements.items() if content}
    if not said:
        reading.warn(path, "names nobody: left out", RULE, "required")
    return {"relationship": relations, **said} if said else None
