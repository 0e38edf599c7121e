"""Who somebody is, in both directions: identifiers as FHIR and CDA write them, and when an INS may leave.

RNIV (identity status), CI-SIS structuration minimale (PS_IdNat, Struct_IdNat), référentiel INS; docs/mapping-pps.md
(Identifiers). A number that cannot be put in its official form gives None: the caller says where.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from relais.cda.datatypes import root_from_urn, urn_from_root, uuid_oid
from relais.cda.identifiers import ins_is_valid, is_ps_idnat, is_struct_idnat
from relais.cda.model import II
from relais.cda.templates import INS_NIA, INS_NIR, INS_NIR_DEMO, INS_NIR_TEST, INS_ROOTS, PS_IDNAT, STRUCT_IDNAT
from relais.mappings import extensions
from relais.mappings.context import Deployment, Resource

URI_SYSTEM = "urn:ietf:rfc:3986"
RPPS = "https://rpps.esante.gouv.fr"
ADELI = "https://adeli.esante.gouv.fr"
FINESS = "https://finess.esante.gouv.fr"
SIRENE = "https://sirene.fr"
RPPS_RANK = "https://rppsrang.esante.gouv.fr"

SOCIAL_SECURITY_ROOTS = frozenset({"1.2.250.1.213.1.4.13", "1.2.250.1.213.1.4.14"})
"""NSS-NIR and NSS-NIA, which those whom one person insures may share."""

NOT_PATIENT_ROOTS = SOCIAL_SECURITY_ROOTS | {"1.2.250.1.213.1.4.2"}
"""NSS-NIR, NSS-NIA and INS-C: social security numbers and the obsolete INS are never the patient id of a document."""

_PERSON_NUMBER_ROOTS = NOT_PATIENT_ROOTS.union(INS_ROOTS)

ENVIRONMENT_INS_ROOTS = {"production": (INS_NIR, INS_NIA), "test": (INS_NIR_TEST, INS_NIR_DEMO)}
"""INS OIDs that may leave an instance, by `Deployment.ins_environment`."""

_PERSON_NUMBER_TYPES = frozenset({"INS-NIR", "INS-NIA", "INS-NIR-TEST", "INS-NIR-DEMO", "INS-C", "NH", "SS"})
"""Identifier.type of the national numbers of a person (fr-core-cs-v2-0203, v2-0203), whatever their system says."""

INS_TYPE_CODES = {INS_NIR: "INS-NIR", INS_NIA: "INS-NIA", INS_NIR_TEST: "INS-NIR-TEST", INS_NIR_DEMO: "INS-NIR-DEMO"}
"""Identifier.type of each INS OID (fr-core-cs-v2-0203)."""

_ESCAPED = re.compile(r"[\\$,|]")


# --- any identifier -------------------------------------------------------------------------------------------


def identifier_domain(identifier: Resource) -> str | None:
    """The OID or UUID root of an Identifier's system, or None when the system is a URL (or absent)."""
    return root_from_urn((identifier.get("system") or "").strip())


@lru_cache(maxsize=1024)
def is_of_persons(system: str | None) -> bool:
    """Whether that system of identifiers is one of national numbers of persons."""
    return root_from_urn((system or "").strip()) in _PERSON_NUMBER_ROOTS


def is_person_number(identifier: Resource) -> bool:
    """Whether an Identifier is an INS or a social security number.

    By its domain, by its type, or by a value that has the form and the key of an INS, whatever the domain.
    """
    if is_of_persons(identifier.get("system")):
        return True
    if "type" in identifier and not _PERSON_NUMBER_TYPES.isdisjoint(codes(identifier["type"])):
        return True
    value = identifier.get("value") or ""
    return len(value) >= 15 and ins_is_valid("".join(value.split()).upper())


def ii_of(identifier: Resource) -> II | None:
    """A FHIR Identifier as an II, or None without a value, and for the national number of a person.

    Only the patient of a document bears an INS, and only when the identity is qualified: nothing else is named by one.
    """
    return None if is_person_number(identifier) else any_ii_of(identifier)


def any_ii_of(identifier: Resource) -> II | None:
    """A FHIR Identifier of whatever kind as an II, or None without a value or a system: elsewhere it names another one.

    A system that is neither an OID nor a UUID gets a root under 2.25 computed from it, so that the value survives.
    """
    system, value = identifier.get("system"), identifier.get("value")
    if not value or not system or system.isspace():
        return None
    if system == URI_SYSTEM:
        root = root_from_urn(value)
        return II(root) if root else II(uuid_oid("uri", value))
    return II(identifier_domain(identifier) or uuid_oid("system", system), value)


def identifier_of(ii: II) -> Resource | None:
    """The FHIR Identifier of an II: inverse of `ii_of` for OID and UUID roots. None for a nullFlavor."""
    urn = urn_from_root(ii.root) if ii.root else None
    if urn is None:
        return None
    if ii.extension is None:
        return {"system": URI_SYSTEM, "value": urn}
    return {"system": urn, "value": ii.extension}


def token(identifier: Resource) -> str:
    """An Identifier as a search parameter of type token (FHIR R4 §3.1.1.4.5, escaping)."""
    return "|".join(_ESCAPED.sub(r"\\\g<0>", identifier.get(part) or "") for part in ("system", "value"))


def criteria(identifier: Resource) -> str:
    """The query that finds who or what bears an Identifier, as `ifNoneExist` or after the `?` of a search."""
    return f"identifier={quote(token(identifier), safe='')}"


# --- patient --------------------------------------------------------------------------------------------------


def ins_identifiers(patient: Resource, on: date | None = None) -> list[Resource]:
    """The INS identifiers of a Patient that are current on that day (by default: that are not said to be former)."""
    return [
        identifier
        for identifier in patient.get("identifier", ())
        if identifier_domain(identifier) in INS_ROOTS and is_current(identifier, on)
    ]


def is_current(identifier: Resource, on: date | None = None) -> bool:
    """Whether an Identifier is neither `old` nor, on that day, outside its period (which counts whole days)."""
    return identifier.get("use") != "old" and (on is None or covers(identifier.get("period", {}), on))


def covers(period: Resource, on: date) -> bool:
    """Whether a Period includes that day, at the precision of its bounds; an absent bound is open."""
    if not period:
        return True
    today, start, end = on.isoformat(), period.get("start", "")[:10], period.get("end", "")[:10]
    return bool(start <= today[: len(start)] and today[: len(end)] <= end)


def local_identifiers(patient: Resource, on: date | None = None) -> list[Resource]:
    """The current identifiers of a Patient that are neither an INS nor a social security number: IPP first."""
    local = [
        identifier
        for identifier in patient.get("identifier", ())
        if identifier.get("value") and not is_person_number(identifier) and is_current(identifier, on)
    ]
    return sorted(local, key=lambda identifier: "PI" not in codes(identifier.get("type")))


def identity_statuses(patient: Resource) -> list[str]:
    """RNIV statuses of a Patient: VALI, PROV… (extension fr-core-identity-reliability)."""
    return [
        part["valueCoding"]["code"]
        for reliability in extensions.extensions(patient, extensions.IDENTITY_RELIABILITY)
        for part in extensions.extensions(reliability, "identityStatus")
        if part.get("valueCoding", {}).get("code")
    ]


def decisive_numbers(one: Iterable[II], other: Iterable[II]) -> set[tuple[str | None, str]]:
    """The numbers, as domain and extension, that show two lists to be of one person; empty when they are not.

    Where both hold an INS of one domain, that INS decides; else any number in common. A person who had an INS-NIA and
    now has an INS-NIR is known by the number of the structure (référentiel INS: the NIA is only provisional). A social
    security number may be that of the insured, whom children and spouses share: it shows nothing.
    """
    ours, theirs = ({_domain_and_number(ii) for ii in numbers} for numbers in (one, other))
    domains = {root for root, _ in ours} & {root for root, _ in theirs} & set(INS_ROOTS)
    common = {name for name in ours & theirs if name[0] not in SOCIAL_SECURITY_ROOTS}
    return {name for name in common if not domains or name[0] in domains}


def _domain_and_number(ii: II) -> tuple[str | None, str]:
    """People write an INS in groups."""
    return ii.root, "".join((ii.extension or "").split())


def is_qualified(patient: Resource) -> bool:
    """Whether the identity is *qualifiée*: validated, and nothing else, with an INS (RNIV)."""
    return set(identity_statuses(patient)) == {"VALI"} and bool(ins_identifiers(patient))


def may_leave(root: str | None, deployment: Deployment) -> bool:
    """Whether an INS of that OID may leave this instance: test and production never mix (Référentiel INS)."""
    return root in ENVIRONMENT_INS_ROOTS[deployment.ins_environment]


_SEXES = {**dict.fromkeys("137", "male"), **dict.fromkeys("248", "female")}
"""First digit of a NIR; from 3 on of those who are still to be registered (NIA)."""


def ins_mismatches(ins: str, patient: Resource) -> Iterator[str]:
    """Traits (`gender`, `birthDate`) that disagree with a 15 character INS: a doubt to report, never a refusal.

    Months from 20 on stand for births of unknown or foreign registration and say nothing.
    """
    expected = _SEXES.get(ins[0])
    if expected and patient.get("gender") in ("male", "female") and patient["gender"] != expected:
        yield "gender"
    year, month = ins[1:3], ins[3:5]
    birth = patient.get("birthDate", "")
    if (birth[2:4] and birth[2:4] != year) or ("01" <= month <= "12" and birth[5:7] and birth[5:7] != month):
        yield "birthDate"


# --- professionals and structures -------------------------------------------------------------------------------


def professional_id(identifier: Resource) -> II | None:
    """PS_IdNat: a bare RPPS or ADELI number gets its type digit.

    None when the length is wrong, and for identifiers of other domains.
    """
    value = "".join((identifier.get("value") or "").split())
    system = identifier.get("system")
    if system == RPPS or (identifier_domain(identifier) == PS_IDNAT and _is_digits(value, 11)):
        return II(PS_IDNAT, number) if (number := _prefixed(value, "8", 11)) else None
    if system == ADELI:
        return II(PS_IDNAT, number) if (number := _prefixed(value, "0", 9, digits=False)) else None
    return II(PS_IDNAT, value) if identifier_domain(identifier) == PS_IDNAT and value else None


def structure_id(identifier: Resource) -> II | None:
    """Struct_IdNat: FINESS, SIREN, SIRET or RPPS rank with its type digit; None when the length is wrong."""
    value = "".join((identifier.get("value") or "").split())
    system, number = identifier.get("system"), None
    if system == FINESS:
        number = _prefixed(value, "1", 9, digits=False)
    elif system == SIRENE:
        number = _prefixed(value, "2", 9) or _prefixed(value, "3", 14)
    elif system == RPPS_RANK:
        number = f"4{value}" if value else None
    elif identifier_domain(identifier) == STRUCT_IDNAT:
        number = value or None
    return II(STRUCT_IDNAT, number) if number else None


def finess_id(finess: str) -> II | None:
    """Struct_IdNat of a FINESS number."""
    return structure_id({"system": FINESS, "value": finess})


def _prefixed(value: str, prefix: str, length: int, *, digits: bool = True) -> str | None:
    """`value` with its type digit: as it is when it already bears it, None when it has neither length."""
    well_formed = value.isascii() and (value.isdigit() if digits else value.isalnum())
    if well_formed and len(value) == length:
        return prefix + value
    return value if well_formed and len(value) == length + 1 and value[0] == prefix else None


def _is_digits(value: str, length: int) -> bool:
    return len(value) == length and value.isascii() and value.isdigit()


class NationalNumber(NamedTuple):
    """A kind of national number: systems of the bare numbers, to which CDA adds a type digit; their official form."""

    systems: frozenset[str]
    normalise: Callable[[Resource], II | None]
    is_well_formed: Callable[[str], bool]


PROFESSIONAL = NationalNumber(frozenset({RPPS, ADELI}), professional_id, is_ps_idnat)
STRUCTURE = NationalNumber(frozenset({FINESS, SIRENE, RPPS_RANK}), structure_id, is_struct_idnat)


# --- helpers ----------------------------------------------------------------------------------------------------


def codes(concept: Resource | None) -> list[str]:
    """The codes of a CodeableConcept, whatever their systems."""
    return [coding["code"] for coding in concept.get("coding", ()) if coding.get("code")] if concept else []


def set_id(resource: Resource, kind: str, deployment: Deployment) -> II | None:
    """The identity of a document lineage (setId): first business identifier of its source, else type and id."""
    for identifier in resource.get("identifier", ()):
        if found := ii_of(identifier):
            return found
    if resource.get("id"):
        return made_set_id(deployment, kind, resource["resourceType"], resource["id"])
    return None


def made_set_id(deployment: Deployment, kind: str, *key: str) -> II:
    """A setId made of what names the source at this emitter."""
    return II(uuid_oid("set", kind, *deployment.emitter, *key))


def document_id(lineage: II, kind: str, version: int, deployment: Deployment) -> II:
    """The identity of one version of a document: one OID, the same whenever this emitter makes that version again."""
    parts, arc = (kind, lineage.root or "", lineage.extension or ""), deployment.oid_arc
    if arc is None:
        return II(uuid_oid("document", *deployment.emitter, *parts, str(version)))
    serial = int(uuid_oid("lineage", *parts).removeprefix("2.25.")) >> 32  # 96 bits keep the OID within 64 characters
    return II(f"{arc}.{_SERIES[kind]}.{serial}.{version}")


_SERIES = {"pps": 1, "agenda": 2, "notification": 3, "unstructured": 4}
"""Arc of each kind of document under the emitter's own arc."""


def model_id(kind: str, arc: str | None) -> II:
    """The templateId of a document model that no volet publishes: under `arc`, else fixed under 2.25."""
    return II(f"{arc}.{_MODELS[kind]}" if arc else uuid_oid("model", kind))


_MODELS = {"agenda": 1, "notification": 2}
