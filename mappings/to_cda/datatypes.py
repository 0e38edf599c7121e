"""FHIR R4 data types → CDA data types as CI-SIS restricts them: names, addresses, telecoms, codes."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from relais.cda.identifiers import spelled_ins
from relais.cda.model import Address, Code, Interval, NamePart, PersonName, Telecom, Text
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import INS_RULE, Conversion

PATIENT_DOMAIN = "patient.mssante.fr"
DATA_ABSENT_REASON = f"{extensions.HL7}data-absent-reason"
NULL_FLAVORS = {
    "unknown": "UNK",
    "not-asked": "NASK",
    "asked-unknown": "ASKU",
    "temp-unknown": "NAV",
    "masked": "MSK",
}
"""data-absent-reason codes → nullFlavors that `addr` and `telecom` accept."""

_ADDRESS_USES = {"home": "H", "work": "WP", "temp": "TMP"}
_TELECOM_USES = {"home": "H", "work": "WP", "mobile": "MC"}
_TELECOM_SCHEMES = {"phone": "tel", "fax": "fax", "email": "mailto", "pager": "tel", "sms": "tel"}
_FIXED_USES = {"pager": "PG", "sms": "MC"}
_NOT_CALLED = frozenset({"http", "ftp", "mllp"})
_URL_SCHEMES = _NOT_CALLED | {"tel", "fax", "mailto"}
_CITIZENS = f"@{PATIENT_DOMAIN}"
_INS_LENGTH = 15
_PHONE_NOISE = str.maketrans("", "", " .-()\u00a0\u202f")
_COUNTRIES = dict.fromkeys(("FR", "FRA", "99100"), "FRANCE")  # ISO 3166, and TRE_R20 of the Annuaire Santé

_ADDRESS_PARTS = {url: part for part, url in extensions.ADDRESS_PARTS.items()}

_PREFIXES = {
    **dict.fromkeys(("M", "MR", "MONSIEUR"), "M"),
    **dict.fromkeys(("MME", "MLLE", "MRS", "MADAME", "MADEMOISELLE"), "MME"),
}
_SUFFIXES = {
    "DR": "DR",
    "DOCTEUR": "DR",
    "PR": "PR",
    "PROFESSEUR": "PR",
    "MC": "MC",
    "MG": "MG",
    "PC": "PC",
    "PG": "PG",
}
_READ_AS = {"M": "M.", "MME": "Mme", "DR": "Dr", "PR": "Pr"}
"""Codes of JDV_J245 and J246 as one reads them, as in the header that is shown (`cda.presentation`)."""

_NAME_USES = ("usual", "official", None, "nickname", "anonymous", "temp", "maiden")


# --- names ------------------------------------------------------------------------------------------------------


def current_name(names: Iterable[Resource]) -> Resource | None:
    """The name a person goes by: usual, then official, then any that is not a former one."""
    current = [name for name in names if name.get("use") != "old"]
    if len(current) == 1:
        return current[0]
    return min(current, key=lambda name: _NAME_USES.index(name.get("use")), default=None)


def person_name(conversion: Conversion, name: Resource | None, path: str, *, titled: bool) -> PersonName | None:
    """PN of a professional (`titled`) or relative: one family, one given, civilité and titre of the lists.

    None when there is neither family nor text. A civilité outside the lists goes to the narrative.
    """
    family = (name or {}).get("family") or (name or {}).get("text")
    if name is None or not family or not family.strip():
        return None
    person = PersonName(families=[NamePart(family.strip())])
    given = [part.strip() for part in name.get("given", ()) if part and part.strip()]
    if given and name.get("family"):
        person.givens = [NamePart(given[0])]
        if len(given) > 1:
            conversion.inform(
                f"{path}.given", "only the first given name is written", "CI-SIS Structuration minimale, name"
            )
    for part in (*name.get("prefix", ()), *name.get("suffix", ())):
        normal = (part or "").strip().rstrip(".").upper()
        if normal in _PREFIXES and person.prefix is None:
            person.prefix = _PREFIXES[normal]
        elif normal in _SUFFIXES and titled and person.suffix is None:
            person.suffix = _SUFFIXES[normal]
        elif normal and not (normal in _PREFIXES or normal in _SUFFIXES):
            conversion.inform(
                f"{path}.prefix",
                "title outside JDV_J245 and J246: narrative only",
                "CI-SIS Structuration minimale, name",
            )
            conversion.remarks.append(f"{display_name(name)} : {part.strip()}")
    return person


def display_name(name: Resource | None) -> str:
    """A HumanName as one reads it in French: titles, those of exercise (JDV_J246) too, given names, family."""
    if not name:
        return ""
    titles, others = name.get("prefix", ()), name.get("suffix", ())
    if others:
        titles = [*titles, *(part for part in others if part in _SUFFIXES)]
        others = [part for part in others if part not in _SUFFIXES]
    titles = [_READ_AS.get(part, part) for part in titles]
    return _written(name, titles, others)


def names_read_as(name: Resource | None) -> frozenset[str]:
    """How documents name that person: as `display_name` does, or each part as it stands, the suffix last, as others do.

    Empty for nobody.
    """
    said = {display_name(name), _written(name, name.get("prefix", ()), name.get("suffix", ())) if name else ""}
    return frozenset(said - {""})


def _written(name: Resource, before: Iterable[str], after: Iterable[str]) -> str:
    parts = [*before, *name.get("given", ()), name.get("family"), *after]
    written = " ".join([part.strip() for part in parts if part and part.strip()])
    return written or (name.get("text") or "").strip()


# --- addresses ----------------------------------------------------------------------------------------------------


def addresses(elements: Iterable[Resource]) -> list[Address]:
    """AD of every address that is not a former one."""
    found = [address(element) for element in elements if element.get("use") != "old"]
    return [one for one in found if one is not None]


def address(element: Resource) -> Address | None:
    """AD with components; None when the element holds nothing CDA can carry."""
    if null_flavor := _null_flavor(element):
        return Address(null_flavor=null_flavor)
    country = _stripped(element, "country").upper()
    result = Address(
        postal_code=_stripped(element, "postalCode") or None,
        city=_stripped(element, "city") or None,
        state=_stripped(element, "state") or None,
        county=insee_code(element) or None,
        country=_COUNTRIES.get(country, country) or None,
        use=_ADDRESS_USES.get(element.get("use", "")),
    )
    has_place = result.postal_code or result.city or result.state or result.county or result.country
    filled = _fill_street(result, element) or bool(has_place)
    if not filled and element.get("text"):
        result.lines = [line.strip() for line in element["text"].splitlines() if line.strip()][:7]
    return result if filled or result.lines else None


def _stripped(element: Resource, name: str) -> str:
    return (element.get(name) or "").strip()


def insee_code(element: Resource) -> str | None:
    """The COG code of an Address: its extension, else `district` when that holds a code of five characters."""
    coding = extensions.value(element, extensions.INSEE_CODE)
    if coding and coding.get("code"):
        return str(coding["code"]).strip()
    district = _stripped(element, "district").upper()
    is_code = len(district) == 5 and district.isalnum() and district[0].isdigit() and district[2:].isdigit()
    return district if is_code else None


def _fill_street(result: Address, element: Resource) -> bool:
    if parts := _structured_street(element):
        for part, content in parts.items():
            setattr(result, part, content)
        return True
    lines = [line.strip() for line in element.get("line", ()) if line and line.strip()]
    if lines:
        result.street_name = lines[-1]
        result.unit_id = lines[-2] if len(lines) > 1 else None
        result.additional_locator = ", ".join(lines[:-2]) or None
    return bool(lines)


def _structured_street(element: Resource) -> dict[str, str]:
    parts: dict[str, str] = {}
    for line in element.get("_line", ()):
        for extension in line.get("extension", ()) if line else ():
            part, content = _ADDRESS_PARTS.get(extension.get("url")), (extension.get("valueString") or "").strip()
            if part and content:
                parts.setdefault(part, content)
    return parts


# --- telecoms -----------------------------------------------------------------------------------------------------


def telecoms(conversion: Conversion, elements: Iterable[Resource], path: str, owner: str) -> list[Telecom]:
    """TEL of every contact point in use. What CDA refuses (https) goes to the narrative, under `owner`."""
    result = []
    for index, element in enumerate(elements):
        if element.get("use") == "old":
            continue
        if "period" in element and not identity.covers(element["period"], conversion.today):
            conversion.inform(
                f"{path}.telecom[{index}].period", "not in use today: not written", "FHIR R4 ContactPoint"
            )
            continue
        content = (element.get("value") or "").strip()
        if _spells_another_ins(conversion, content):
            conversion.warn(f"{path}.telecom[{index}]", "it spells an INS that may not leave: left out", INS_RULE)
        elif null_flavor := _null_flavor(element):
            result.append(Telecom(null_flavor=null_flavor))
        elif one := _telecom(element, content):
            result.append(one)
        elif content:
            conversion.inform(
                f"{path}.telecom[{index}]", "no CDA form: narrative only", "CI-SIS Structuration minimale, telecom"
            )
            conversion.remarks.append(f"{owner} : {content}" if owner else content)
    return result


def _null_flavor(element: Resource) -> str | None:
    """The nullFlavor of an Address or ContactPoint that says why it is absent."""
    return NULL_FLAVORS.get(extensions.value(element, DATA_ABSENT_REASON) or "") if "extension" in element else None


def _spells_another_ins(conversion: Conversion, content: str) -> bool:
    """Whether a contact point gives away an INS other than the one that the document bears.

    A citizen mailbox is made of one, whatever stands before the @.
    """
    if len(content) < _INS_LENGTH:
        return False
    content = unquote(content).strip()
    spelled = spelled_ins(content)
    if content.lower().endswith(_CITIZENS):
        spelled.append("".join(content.rpartition("@")[0].rpartition(":")[2].split()))
    return bool(spelled) and set(spelled) != {conversion.ins}


def _telecom(element: Resource, content: str) -> Telecom | None:
    if not content:
        return None
    system = element.get("system", "")
    use = _FIXED_USES.get(system) or _TELECOM_USES.get(element.get("use", ""))
    before, _, rest = content.partition(":")
    scheme = before.lower()
    if rest and scheme in _URL_SCHEMES:
        if scheme in _NOT_CALLED and system in _TELECOM_SCHEMES:
            return None
        content = rest
    elif system in _TELECOM_SCHEMES:
        scheme = _TELECOM_SCHEMES[system]
    else:
        return None
    if scheme in ("tel", "fax"):
        content = content.translate(_PHONE_NOISE)
    return Telecom(f"{scheme}:{content.replace(' ', '%20')}", use) if content else None


# --- codes --------------------------------------------------------------------------------------------------------


def coded(coding: Resource) -> Code | None:
    """CD of a Coding, or None when it has no code or its system has no known OID."""
    system = terminology.oid_of(coding.get("system"))
    if system is None or not coding.get("code"):
        return None
    return Code(coding["code"], system, coding.get("display") or coding["code"], terminology.name_of(system))


def codings(concept: Resource | None) -> list[Code]:
    """CD of every Coding of a CodeableConcept that has one."""
    return [code for coding in (concept or {}).get("coding", ()) if (code := coded(coding))]


def concept_text(concept: Resource | None) -> str:
    """What one reads of a CodeableConcept: its text, else the first display, else nothing."""
    if not concept:
        return ""
    if text := (concept.get("text") or "").strip():
        return str(text)
    for coding in concept.get("coding", ()):
        if display := (coding.get("display") or "").strip():
            return str(display)
    return ""


def from_jdv(name: str, concepts: Iterable[Resource]) -> Code | None:
    """The first Coding, in any of the CodeableConcepts, that belongs to that value set, with its published label."""
    known = terminology.value_set(name)
    for concept in concepts:
        for coding in concept.get("coding", ()):
            found = known.get(coding.get("code"))
            if found is not None and terminology.oid_of(coding.get("system")) == found.system:
                return found.as_code()
    return None


def original(reference: str, *codes: Code) -> Code:
    """A CD whose text is in the narrative at `#reference`; the first code is its code, the others translations."""
    text = Text(reference=f"#{reference}")
    if not codes:
        return Code(original_text=text)
    first, *others = codes
    return Code(
        first.code, first.system, first.display, first.system_name, original_text=text, translations=list(others)
    )


def period(conversion: Conversion, element: Resource | None, path: str) -> Interval | None:
    """IVL_TS of a Period, or None when it says nothing. An end before the start is refused."""
    if not element:
        return None
    low = conversion.time(element["start"], f"{path}.start") if "start" in element else None
    high = conversion.time(element["end"], f"{path}.end") if "end" in element else None
    if low and high:
        digits = min(len(low), len(high), 14)
        if high[:digits] < low[:digits]:
            conversion.refuse(path, "end before start", "HL7 V3 data types, IVL_TS", "value")
    return Interval(low=low, high=high) if low or high else None


def span(conversion: Conversion, element: Resource | None, path: str) -> Interval | None:
    """IVL_TS of a Period in the header, whose rules refuse equal bounds (dtr1-6): one moment or day is the value."""
    found = period(conversion, element, path)
    return Interval(value=found.low) if found and found.low and found.low == found.high else found
