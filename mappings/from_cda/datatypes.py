"""CDA data types → FHIR R4 data types: identifiers, names, addresses, telecoms, codes, absence (cda-documents §9).

Each function is the inverse of one of `to_cda.datatypes` or `identity`, and takes more than those write: legacy
qualifiers, numbers without type digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from relais.cda.datatypes import is_oid
from relais.cda.model import II, Address, Code, Interval, PersonName, Telecom
from relais.cda.templates import PS_IDNAT, STRUCT_IDNAT
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Resource
from relais.mappings.from_cda.reading import Reading
from relais.mappings.to_cda.datatypes import DATA_ABSENT_REASON, NULL_FLAVORS

ABSENT_REASONS = {flavor: reason for reason, flavor in NULL_FLAVORS.items()} | {"NA": "not-applicable", "NI": "unknown"}
"""nullFlavor → data-absent-reason; any other is `unknown`."""

COG = f"{terminology.NOS}TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM"

_ADDRESS_USES = {"H": "home", "HP": "home", "HV": "temp", "WP": "work", "TMP": "temp"}
_TELECOM_USES = {"H": "home", "HP": "home", "HV": "temp", "WP": "work", "DIR": "work", "PUB": "work", "MC": "mobile"}
_TELECOM_SYSTEMS = {"tel": "phone", "fax": "fax", "mailto": "email", "http": "url", "ftp": "url", "mllp": "url"}
_EXACT_ADDRESS_USES = frozenset({None, "H", "WP", "TMP"})
_EXACT_TELECOM_USES = frozenset({None, "H", "WP", "MC", "PG"})
_LINES = (
    ("additional_locator",),
    ("unit_id",),
    ("house_number", "house_number_numeric", "street_name_type", "street_name"),
    ("post_box",),
    ("precinct",),
)
"""Parts of a French postal address, line by line."""


# --- absence --------------------------------------------------------------------------------------------------------


def absent(null_flavor: str | None) -> Resource:
    """An element that says why it has no value."""
    reason = ABSENT_REASONS.get(null_flavor or "", "unknown")
    return {"extension": [{"url": DATA_ABSENT_REASON, "valueCode": reason}]}


# --- identifiers ----------------------------------------------------------------------------------------------------


def identifiers(iis: Iterable[II]) -> list[Resource]:
    """The Identifiers of IIs; those of professionals and structures under the public system of their number."""
    return [one for ii in iis if (one := national_identifier(ii) or identity.identifier_of(ii))]


def national_identifier(ii: II) -> Resource | None:
    """RPPS, ADELI, FINESS, SIREN, SIRET or RPPS rank without the type digit of CDA; None for another number."""
    number = ii.extension or ""
    if ii.root == PS_IDNAT:
        if _is_number(number, "8", 12) or (len(number) == 11 and number.isascii() and number.isdigit()):
            return {"system": identity.RPPS, "value": number[-11:]}
        return {"system": identity.ADELI, "value": number[1:]} if _is_number(number, "0", 10) else None
    if ii.root != STRUCT_IDNAT:
        return None
    for prefix, length, system in (("1", 10, identity.FINESS), ("2", 10, identity.SIRENE), ("3", 15, identity.SIRENE)):
        if _is_number(number, prefix, length):
            return {"system": system, "value": number[1:]}
    return None


def _is_number(number: str, prefix: str, length: int) -> bool:
    return number.isascii() and number.isalnum() and number.startswith(prefix) and len(number) == length


# --- names ----------------------------------------------------------------------------------------------------------


def human_names(name: PersonName | None) -> list[Resource]:
    """The names of a professional or relative: the one in use first, then a birth name that differs."""
    if name is None:
        return []
    born = [part.text for part in name.families if part.qualifier == "BR"]
    used = [part.text for part in name.families if part.qualifier != "BR"]
    found: Resource = {}
    if name.text:
        found["text"] = name.text
    if family := " ".join(used or born):
        found["family"] = family
    if name.givens:
        found["given"] = list(dict.fromkeys([part.text for part in name.givens]))
    if name.prefix:
        found["prefix"] = [name.prefix]
    if name.suffix:
        found["suffix"] = [name.suffix]
    names = [found] if found else []
    if used and born and born != used:
        names.append({"use": "maiden", "family": " ".join(born)})
    return names


# --- addresses ------------------------------------------------------------------------------------------------------


def addresses(reading: Reading, elements: Iterable[Address], path: str) -> list[Resource]:
    """FHIR Addresses; an absent one says why."""
    written = []
    for element in elements:
        if element.use not in _EXACT_ADDRESS_USES:
            _report_use(reading, f"{path}/addr")
        if found := address(element):
            written.append(found)
    return written


def address(element: Address) -> Resource:
    """A FHIR Address: components as lines that keep their parts (ISO 21090 extensions)."""
    if element.null_flavor:
        return absent(element.null_flavor)
    found: Resource = {}
    if use := _ADDRESS_USES.get(element.use or ""):
        found["use"] = use
    lines = _street_lines(element)
    if lines or element.lines:
        found["line"] = [*(" ".join(parts.values()) for parts in lines), *element.lines]
    if lines:
        found["_line"] = [{"extension": _parts(parts)} for parts in lines] + [None] * len(element.lines)
    for name, content in (("city", element.city), ("state", element.state), ("postalCode", element.postal_code)):
        if content:
            found[name] = content
    if element.country:
        found["country"] = element.country
    if element.county:
        _put_county(found, element.county)
    return found


def _street_lines(element: Address) -> list[dict[str, str]]:
    """The parts of each line that is there, by name."""
    lines = []
    for names in _LINES:
        line: dict[str, str] = {}
        for name in names:
            if part := getattr(element, name):
                line[name] = part
        if line:
            lines.append(line)
    return lines


def _parts(parts: dict[str, str]) -> list[Resource]:
    return [{"url": extensions.ADDRESS_PARTS[name], "valueString": part} for name, part in parts.items()]


def _put_county(found: Resource, county: str) -> None:
    """`county` holds the INSEE code of the commune; anything else is a district."""
    if len(county) == 5 and county[0].isdigit() and county[2:].isdigit():
        found["extension"] = [{"url": extensions.INSEE_CODE, "valueCoding": {"system": COG, "code": county}}]
    else:
        found["district"] = county


# --- telecoms -------------------------------------------------------------------------------------------------------


def telecoms(reading: Reading, elements: Iterable[Telecom], path: str) -> list[Resource]:
    """FHIR ContactPoints; an absent one says why."""
    written = []
    for element in elements:
        if element.use not in _EXACT_TELECOM_USES:
            _report_use(reading, f"{path}/telecom")
        if found := _telecom(element):
            written.append(found)
    return written


def _report_use(reading: Reading, path: str) -> None:
    reading.inform(
        f"{path}/@use",
        "a use that FHIR does not tell apart: the nearest one, or none",
        "CI-SIS Structuration minimale, addr and telecom",
    )


def _telecom(element: Telecom) -> Resource:
    if element.null_flavor:
        return absent(element.null_flavor)
    scheme, _, rest = (element.value or "").partition(":")
    system = _TELECOM_SYSTEMS.get(scheme.lower())
    if not element.value:
        return {}
    found = {"system": system or "other", "value": rest if system and system != "url" else element.value}
    if element.use == "PG":
        found["system"] = "pager"
    if use := _TELECOM_USES.get(element.use or ""):
        found["use"] = use
    return found


# --- codes ----------------------------------------------------------------------------------------------------------


def coding(code: Code) -> Resource | None:
    """The Coding of a code, without its translations; None when there is no code."""
    token = code.code
    if token and (" " in token or not token.isprintable()):
        token = " ".join(token.split())
    if not token:
        return None
    found = {"code": token}
    if code.system and (system := _system(code.system)):
        found["system"] = system
    if code.system_version:
        found["version"] = code.system_version
    if code.display:
        found["display"] = code.display
    return found


@lru_cache(maxsize=1024)
def _system(oid: str) -> str | None:
    return terminology.uri_of(oid) if is_oid(oid) else None


def codings(code: Code | None) -> list[Resource]:
    """The Codings of a code and of its translations."""
    if code is None:
        return []
    found = coding(code)
    stated = [found] if found else []
    if code.translations:
        stated += [one for each in code.translations if (one := coding(each))]
    return stated


def concept(code: Code | None, text: str | None = None) -> Resource:
    """The CodeableConcept of a code with its translations and words; empty when it says nothing."""
    found: Resource = {}
    if coded := codings(code):
        found["coding"] = coded
    if text:
        found["text"] = text
    return found


def stated_concept(reading: Reading, code: Code | None, path: str) -> Resource:
    """The CodeableConcept of a code, with its original text; its qualifiers, which a Coding has not, are said."""
    if code is None:
        return {}
    if code.original_text is None and not code.qualifiers and not code.translations:  # nearly always
        return concept(code)
    _say_unkept(reading, code, path)
    return concept(code, reading.text(code.original_text, f"{path}/originalText"))


def say_code_alone(reading: Reading, code: Code | None, path: str) -> None:
    """Say what of a code has no place where FHIR takes the code alone."""
    if code is None:
        return
    _say_unkept(reading, code, path)
    _say_words(reading, code, path)
    if code.translations:
        reading.inform(f"{path}/translation", "the element of FHIR is one code: not kept", "FHIR R4 code")


def _say_unkept(reading: Reading, code: Code, path: str) -> None:
    if code.qualifiers:
        reading.inform(f"{path}/qualifier", "a Coding has no qualifiers: not kept", "FHIR R4 Coding")
    for index, translation in enumerate(code.translations, 1):
        place = f"{path}/translation[{index}]"
        _say_unkept(reading, translation, place)
        _say_words(reading, translation, place)


def _say_words(reading: Reading, code: Code, path: str) -> None:
    if code.original_text is not None and (code.original_text.value or code.original_text.reference):
        reading.inform(f"{path}/originalText", "the words of a Coding are its label: not kept", "FHIR R4 Coding")


def is_integer(number: int) -> bool:
    """Whether a number is an integer of FHIR, which has 32 bits."""
    return -(2**31) <= number < 2**31


# --- times ----------------------------------------------------------------------------------------------------------


def period(reading: Reading, time: Interval | None, path: str) -> Resource:
    """The Period of an interval; empty when it has no bound. A bare value is its start."""
    if time is None:
        return {}
    found = {}
    if start := reading.moment(time.low or time.value, path):
        found["start"] = start
    if end := reading.moment(time.high, path):
        found["end"] = end
    return found


def span(reading: Reading, time: Interval | None, path: str) -> Resource:
    """The Period of an interval of the header, whose value is one moment or day: its start and its end."""
    found = period(reading, time, path)
    return found | {"end": found["start"]} if time is not None and time.value and "start" in found else found
