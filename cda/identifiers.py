"""National identifiers of persons and structures: shapes and check digits.

INS: Référentiel INS (ANS). PS_IdNat and Struct_IdNat: CI-SIS, identifiers of roots 1.2.250.1.71.4.2.1 and .2.
SIREN, SIRET: INSEE. RPPS and FINESS: Luhn, as for SIREN. Nothing here keeps or prints a number.
"""

from __future__ import annotations

import re

_CORSICA = {"2A": "19", "2B": "18"}
_INS_BODY = re.compile(r"[0-9]{5}(?:[0-9]{2}|2[AB])[0-9]{6}")
_FINESS = r"(?:[0-9]{2}|2[AB])[0-9]{7}"
_PS_IDNAT = re.compile(
    r"8[0-9]{11}"  # RPPS
    r"|0[0-9][0-9AB][0-9]{7}"  # ADELI
    rf"|3{_FINESS}/.+|4[0-9]{{9}}/.+|5[0-9]{{14}}/.+"  # internal id in a structure: FINESS, SIREN, SIRET
    r"|[16][0-9A-Z]+/.+"  # internal id in a cabinet: ADELI, RPPS
)
_STRUCT_IDNAT = re.compile(
    rf"1{_FINESS}|2[0-9]{{9}}|3[0-9]{{14}}"  # FINESS, SIREN, SIRET
    r"|[04][0-9A-Z]+"  # cabinet: ADELI, RPPS and rank
)
_LA_POSTE = "356000000"

_DIGIT, _CORSICAN, _GAP = "[0-9]", "[0-9AB]", "[ -]?"
MATRICULE = re.compile(
    rf"(?<![0-9.]){_GAP.join([*[_DIGIT] * 5, *[_CORSICAN] * 2, *[_DIGIT] * 6])}(?:{_GAP}{_DIGIT}{_GAP}{_DIGIT})?"
    r"(?!\.?[0-9])"
)
"""A matricule INS as people write it in a text: 15 characters (13 without its key), in groups or not, or right after a
word; not an arc of an OID, nor a part of a longer number."""


def ins_key(body: str) -> str:
    """The key of the 13 first characters of an INS: 97 minus the number modulo 97, Corsica counted as 19 and 18.

    Raises ValueError when `body` is not 13 digits, or digits with 2A or 2B in places 6 and 7.
    """
    if not _INS_BODY.fullmatch(body):
        raise ValueError("an INS has 13 digits (2A or 2B possible in places 6 and 7) before its key")
    number = body[:5] + _CORSICA.get(body[5:7], body[5:7]) + body[7:]
    return f"{97 - int(number) % 97:02d}"


def ins_is_well_formed(ins: str) -> bool:
    """Whether `ins` is 15 characters of the right form, whatever its key."""
    return _INS_BODY.fullmatch(ins[:13]) is not None and re.fullmatch("[0-9]{2}", ins[13:]) is not None


def is_place_code(code: str) -> bool:
    """Whether `code` has the form of a COG code of INSEE: 5 digits, or 2A or 2B and 3 digits."""
    return re.fullmatch(r"(?:[0-9]{2}|2[AB])[0-9]{3}", code) is not None


def ins_is_valid(ins: str) -> bool:
    """Whether `ins` is 15 characters of the right form whose key agrees."""
    body, key = ins[:13], ins[13:]
    return len(key) == 2 and _INS_BODY.fullmatch(body) is not None and key == ins_key(body)


def spelled_ins(text: str) -> list[str]:
    """The INS (15 characters, right key) that a text spells, without blanks."""
    found = ["".join(filter(str.isalnum, match[0])) for match in MATRICULE.finditer(text)]
    return [ins for ins in found if ins_is_valid(ins)]


def rpps_is_valid(rpps: str) -> bool:
    """Whether `rpps` (without the 8 of PS_IdNat) is 11 digits whose last is their Luhn key."""
    return _luhn(rpps, 11)


def siren_is_valid(siren: str) -> bool:
    """Whether `siren` is 9 digits whose last is their Luhn key."""
    return _luhn(siren, 9)


def siret_is_valid(siret: str) -> bool:
    """Whether `siret` is 14 digits whose last is their Luhn key; for La Poste, whose sum is a multiple of 5."""
    if siret.startswith(_LA_POSTE) and len(siret) == 14 and siret.isascii() and siret.isdigit():
        return sum(map(int, siret)) % 5 == 0 or _luhn(siret, 14)
    return _luhn(siret, 14)


def finess_is_valid(finess: str) -> bool:
    """Whether `finess` is 9 digits whose last is their Luhn key; of a Corsican one (2A, 2B) only the shape is told."""
    return _luhn(finess, 9) or (finess[:2] in _CORSICA and re.fullmatch(_FINESS, finess) is not None)


def is_ps_idnat(extension: str) -> bool:
    """Whether `extension` has the shape of a PS_IdNat: type digit, then the number of that type."""
    return _PS_IDNAT.fullmatch(extension) is not None


def is_struct_idnat(extension: str) -> bool:
    """Whether `extension` has the shape of a Struct_IdNat: type digit, then the number of that type."""
    return _STRUCT_IDNAT.fullmatch(extension) is not None


def _luhn(number: str, length: int) -> bool:
    if len(number) != length or not (number.isascii() and number.isdigit()):
        return False
    doubled = (divmod(int(digit) * (1 + place % 2), 10) for place, digit in enumerate(reversed(number)))
    return sum(tens + units for tens, units in doubled) % 10 == 0
