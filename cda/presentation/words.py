"""Header data types in French, as care staff read them: names, dates, addresses, phone numbers, identifiers, codes.

CI-SIS volet Structuration minimale. An empty string means that there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from relais.cda import templates
from relais.cda.datatypes import PARIS, datetime_from_ts, is_ts
from relais.cda.identifiers import is_ps_idnat, is_struct_idnat
from relais.cda.model import II, Address, Code, Interval, NamePart, Organization, PersonName, Telecom

_NULLS = {
    "UNK": "inconnu",
    "NASK": "non demandé",
    "ASKU": "demandé, non connu",
    "NAV": "indisponible pour le moment",
    "NA": "sans objet",
    "NI": "non renseigné",
    "MSK": "masqué",
    "OTH": "autre",
}
_CIVILITIES = {"MME": "Mme", "M": "M."}
_TITLES = {"DR": "Dr", "PR": "Pr"}
_SCHEMES = {"tel": "Tél.", "fax": "Fax", "mailto": "Courriel", "http": "Site", "https": "Site"}
_USES = {"MC": "mobile", "H": "domicile", "HP": "domicile", "HV": "vacances", "WP": "travail", "EC": "urgence"}
_MSSANTE = ".mssante.fr"
_NUMBERS = {
    templates.PS_IDNAT: (is_ps_idnat, {"8": "RPPS", "0": "ADELI"}),
    templates.STRUCT_IDNAT: (is_struct_idnat, {"1": "FINESS", "2": "SIREN", "3": "SIRET"}),
}
_INS_NATURES = {
    templates.INS_NIR: "INS-NIR",
    templates.INS_NIA: "INS-NIA",
    templates.INS_NIR_TEST: "INS-NIR de test",
    templates.INS_NIR_DEMO: "INS-NIR de démonstration",
}


def joined(parts: Iterable[str | None], separator: str = ", ") -> str:
    """The parts that say something, joined."""
    return separator.join(part for part in parts if part)


def absence(null_flavor: str | None) -> str:
    """Why a value is absent, in words."""
    return _NULLS.get(null_flavor, null_flavor) if null_flavor else ""


# --- times ----------------------------------------------------------------------------------------------------


def time(ts: str | None) -> str:
    """A TS as it was written, as precise as it is: `24/08/2021`, `08/2021`, `24/08/2021 à 09:30`.

    An offset that is not that of Paris at that moment is said; what is no TS is shown as it stands.
    """
    if not ts or not is_ts(ts):
        return ts or ""
    day = joined((ts[6:8] if ts[:8].isdigit() else "", ts[4:6] if ts[:6].isdigit() else "", ts[:4]), "/")
    digits = ts.partition("+")[0].partition("-")[0]
    if len(digits) <= 8:
        return day
    clock = joined((digits[8:10], digits[10:12]), ":") if len(digits) >= 12 else f"{digits[8:10]} h"
    return f"{day} à {clock}{_foreign_offset(ts)}"


def _foreign_offset(ts: str) -> str:
    start = datetime_from_ts(ts)
    same = start.utcoffset() == start.astimezone(PARIS).utcoffset()
    return "" if same else f" (UTC{ts[-5:-2]}:{ts[-2:]})"


def interval(period: Interval | None) -> str:
    """An IVL_TS in words: `du 12/01/2026 au 28/02/2026`."""
    if period is None:
        return ""
    low, high = time(period.low), time(period.high)
    if period.value:
        return time(period.value)
    if low and high:
        return f"du {low} au {high}"
    return f"depuis le {low}" if low else f"jusqu'au {high}" if high else ""


# --- people ---------------------------------------------------------------------------------------------------


def parts(names: Iterable[NamePart], *qualifiers: str | None) -> str:
    """The name parts that have one of these qualifiers."""
    return joined((name.text for name in names if name.qualifier in qualifiers), " ")


def person(name: PersonName | None) -> str:
    """A name as one writes it: civility, title, given names, family names; a birth name that differs follows."""
    if name is None:
        return ""
    used = parts(name.families, "CL", "SP") or parts(name.families, None) or parts(name.families, "BR")
    given = parts(name.givens, "CL") or parts(name.givens, "BR") or parts(name.givens, None)
    birth = parts(name.families, "BR")
    whole = joined((_CIVILITIES.get(name.prefix or "", name.prefix), _title(name), given, used), " ")
    whole = f"{whole} (nom de naissance : {birth})" if birth and birth != used else whole
    return joined((whole, name.text), " ") or absence(name.null_flavor)


def _title(name: PersonName) -> str | None:
    return _TITLES.get(name.suffix or "", name.suffix)


def address(place: Address) -> str:
    """An address on one line."""
    street = joined((place.house_number, place.house_number_numeric, place.street_name_type, place.street_name), " ")
    box = f"BP {place.post_box}" if place.post_box else ""
    town = joined((place.postal_code, place.city), " ")
    before = (place.additional_locator, place.unit_id, street, place.precinct, box)
    line = joined((*before, *place.lines, town, place.state, place.country))
    return line or ("adresse masquée" if place.null_flavor == "MSK" else "")


def telecom(contact: Telecom) -> str:
    """A phone number or an e-mail address with its kind: `Tél. (mobile) : 0647151010`."""
    if not contact.value:
        return "coordonnées masquées" if contact.null_flavor == "MSK" else ""
    scheme, colon, rest = contact.value.partition(":")
    known = _SCHEMES.get(scheme.lower()) if colon else None
    if known == "Courriel" and rest.lower().endswith(_MSSANTE):
        known = "MSSanté"
    use = _USES.get(contact.use or "")
    kind = f"{known} ({use})" if known and use else known
    value = contact.value if scheme.lower() in ("http", "https") else unquote(rest)
    return f"{kind} : {value}" if kind else contact.value


def contact(addresses: Iterable[Address], telecoms: Iterable[Telecom]) -> list[str]:
    """Addresses and phone numbers, one line each."""
    return [line for line in (*map(address, addresses), *map(telecom, telecoms)) if line]


# --- identifiers ----------------------------------------------------------------------------------------------


def number(identifier: II) -> str:
    """`RPPS 10001234567`, `FINESS 750099996` (no-break space) for a well-formed national number; another as it is."""
    extension = identifier.extension or ""
    is_well_formed, kinds = _NUMBERS.get(identifier.root or "", (str.isalnum, {}))
    kind = kinds.get(extension[:1]) if is_well_formed(extension) else None
    return f"{kind}\u00a0{extension[1:]}" if kind else (f"n° {extension}" if extension else "")


def ins_nature(identifier: II) -> str:
    """`INS-NIR`, `INS-NIA`…, for an INS; nothing for another identifier."""
    return _INS_NATURES.get(identifier.root or "", "")


def identifier(value: II | None) -> str:
    """An identifier in full: root, and extension when there is one."""
    return joined((value.root, value.extension), " / ") if value else ""


# --- codes, structures ----------------------------------------------------------------------------------------


def label(value: Code | None) -> str:
    """The label of a code; without one its own words, or the code itself."""
    if value is None:
        return ""
    words = value.original_text.value if value.original_text else None
    return value.display or words or value.code or next(filter(None, map(label, value.translations)), "")


def code(value: Code | None) -> str:
    """The label of a code, or why there is none."""
    return label(value) or (absence(value.null_flavor) if value else "")


def in_full(value: Code | None) -> str:
    """The label of a code with what says it more closely: its own words and its translations. Or why there is none."""
    if value is None:
        return ""
    own = value.original_text.value if value.original_text else None
    return joined(dict.fromkeys((label(value), own, *map(label, value.translations))), " – ") or code(value)


def organization(structure: Organization | None) -> list[str]:
    """Names, numbers and sector of a structure, one line each."""
    if structure is None:
        return []
    numbers = map(number, structure.ids)
    named = structure.names or [absence(structure.name_null_flavor)]
    return [line for line in (*named, joined(numbers), code(structure.industry_class)) if line]
