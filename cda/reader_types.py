"""Reads the data types of HL7 V3 as CI-SIS restricts them: texts, codes, intervals, names, addresses, typed values.

They are most of the elements of a document.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import cast

from lxml import etree

from relais.cda.model import (
    II,
    Address,
    Boolean,
    Code,
    Integer,
    Interval,
    Media,
    NamePart,
    PersonName,
    Qualifier,
    Quantity,
    String,
    Telecom,
    Text,
    Timestamp,
    Unmodelled,
    Value,
)
from relais.cda.parsing import V3, XSI
from relais.cda.reader_tables import XML, Account, Read, each, leaf, moment, one, reader, same

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_WHITE_SPACE = " \t\r\n"
_XSI_TYPE = f"{{{XSI}}}type"


# --- text and simple values -----------------------------------------------------------------------------------


def _attribute(name: str) -> Read[str]:
    """Reads an element that has nothing but that attribute."""

    def read_attribute(element: XML, account: Account) -> str | None:
        if len(element.keys()) != 1 or len(element):
            account.is_complete = False
        return element.get(name) or None

    return read_attribute


value_of = _attribute("value")
code_of = _attribute("code")


def string(element: XML, account: Account) -> str | None:
    """The text of an element that has nothing else, white space at its ends removed."""
    if len(element) or element.keys():
        account.is_complete = False
        return text_of(element, account)
    if (text := element.text) is None:
        return None
    account.texts.append(text)
    return text.strip(_WHITE_SPACE) or None


def text_of(element: XML, account: Account) -> str | None:
    """The text of an element without that of its children, white space at the ends removed."""
    if not len(element):
        if (text := element.text) is None:
            return None
        account.texts.append(text)
        return text.strip(_WHITE_SPACE) or None
    pieces = [piece for piece in [element.text, *[child.tail for child in element[:]]] if piece]
    if not pieces:
        return None
    account.texts += pieces
    return " ".join(stripped for piece in pieces if (stripped := piece.strip(_WHITE_SPACE))) or None


def _number(element: XML, account: Account) -> int | None:
    """The attribute `value` as an integer."""
    text = element.get("value")
    number = int(text) if text and _INTEGER.fullmatch(text) else None
    if text is not None and text != str(number):
        account.is_complete = False
    return number


def flag(name: str) -> Read[bool]:
    """Reads an attribute that is a Boolean."""

    def read_flag(element: XML, account: Account) -> bool | None:
        value = element.get(name)
        if value is None:
            return None
        if value not in _BOOLEANS:
            account.is_complete = False
        return _BOOLEANS.get(value)

    return read_flag


integer: Read[int] = reader(same, {}, {"value": ""}, ("part", _number))
boolean: Read[bool] = reader(same, {}, {"value": ""}, ("part", flag("value")))


# --- data types -----------------------------------------------------------------------------------------------

_NULL_FLAVOR = {"nullFlavor": "null_flavor"}
_REFERENCE = f"{{{V3}}}reference"

# Half of the elements are identifiers, codes and pointers to the narrative: these are recognised in the forms that they
# nearly always have, and read by a table in any other.


def ii(element: XML, account: Account) -> II | None:
    """An identifier."""
    if not len(element):
        match element.items():
            case [("root", root)] if root:
                return II(root)
            case [("root", root), ("extension", extension)] if root and extension:
                return II(root, extension)
    return _any_ii(element, account)


_any_ii = leaf(II, {"root": "root", "extension": "extension"} | _NULL_FLAVOR)


def text(element: XML, account: Account) -> Text | None:
    """Words, or where in the narrative they stand."""
    if len(element) == 1 and not element.keys():
        reference = element[0]
        around = f"{element.text or ''}{reference.tail or ''}"
        if reference.tag == _REFERENCE and not len(reference) and not around.strip(_WHITE_SPACE):
            match reference.items():
                case [("value", place)] if place:
                    return Text(None, place)
    return _any_text(element, account)


_any_text = reader(Text, {"reference": moment("reference", "reference_null_flavor")}, _NULL_FLAVOR, ("value", text_of))


def code(element: XML, account: Account) -> Code | None:
    """A coded value."""
    if len(element):
        return _full_code(element, account)
    match element.items():
        case [("code", token), ("displayName", display), ("codeSystem", system)] if token and display and system:
            return Code(token, system, display)
        case [("code", token), ("displayName", display), ("codeSystem", system), ("codeSystemName", name)] if (
            token and display and system and name
        ):
            return Code(token, system, display, name)
    return _plain_code(element, account)


_CODE = {
    "code": "code",
    "codeSystem": "system",
    "displayName": "display",
    "codeSystemName": "system_name",
    "codeSystemVersion": "system_version",
} | _NULL_FLAVOR
_plain_code = leaf(Code, _CODE)
_qualifier = reader(Qualifier, {"name": one("name", code), "value": one("value", code)})
_full_code = reader(
    Code,
    {"originalText": one("original_text", text), "translation": each("translations", code)}
    | {"qualifier": each("qualifiers", _qualifier)},
    _CODE,
)
_BOUNDS = {"low": moment("low", "low_null_flavor"), "high": moment("high", "high_null_flavor")}
_bounds = reader(Interval, _BOUNDS, {"value": "value"} | _NULL_FLAVOR)
_point = leaf(Interval, {"value": "value"} | _NULL_FLAVOR)


def interval(element: XML, account: Account) -> Interval | None:
    """A time, or the bounds of one."""
    return _bounds(element, account) if len(element) else _point(element, account)


def _make_name_part(text: str | None = None, qualifier: str | None = None) -> NamePart | None:
    return NamePart(text, qualifier) if text else None


_qualified_part = reader(_make_name_part, {}, {"qualifier": "qualifier"}, ("text", text_of))


def _name_part(element: XML, account: Account) -> NamePart | None:
    return _qualified_part(element, account) if element.keys() else _make_name_part(string(element, account))


name = reader(
    PersonName,
    {
        "family": each("families", _name_part),
        "given": each("givens", _name_part),
        "prefix": one("prefix", string),
        "suffix": one("suffix", string),
    },
    _NULL_FLAVOR,
    ("text", text_of),
)
address = reader(
    Address,
    {
        "houseNumber": one("house_number", string),
        "houseNumberNumeric": one("house_number_numeric", string),
        "streetNameType": one("street_name_type", string),
        "streetName": one("street_name", string),
        "additionalLocator": one("additional_locator", string),
        "unitID": one("unit_id", string),
        "postBox": one("post_box", string),
        "precinct": one("precinct", string),
        "postalCode": one("postal_code", string),
        "city": one("city", string),
        "state": one("state", string),
        "county": one("county", string),
        "country": one("country", string),
        "streetAddressLine": each("lines", string),
    },
    {"use": "use"} | _NULL_FLAVOR,
)
_any_telecom = leaf(Telecom, {"value": "value", "use": "use"} | _NULL_FLAVOR)


def telecom(element: XML, account: Account) -> Telecom | None:
    """A telephone number, a mailbox…"""
    if not len(element):
        match element.items():
            case [("use", use), ("value", url)] | [("value", url), ("use", use)] if use and url:
                return Telecom(url, use)
    return _any_telecom(element, account)


# --- media and typed values -----------------------------------------------------------------------------------


def _payload(element: XML, account: Account) -> bytes | None:
    """The decoded bytes; text that is not Base64 although it should be is left out, which `losses` says."""
    text, representation = text_of(element, account), element.get("representation")
    if representation is None:
        return text.encode() if text else None
    digits = "".join((text or "").split())
    data = _decoded(digits) if representation == "B64" else (text or "").encode()
    if representation != "B64" or not data or not _is_canonical(digits, data):
        account.is_complete = False
    return data or None


def _is_canonical(digits: str, data: bytes) -> bool:
    """Whether `data` would be encoded in these very digits: only the last bits of Base64 leave a choice."""
    quantums = (len(data) - 1) // 3
    return b64encode(data[3 * quantums :]).decode() == digits[4 * quantums :]


def _decoded(digits: str) -> bytes | None:
    try:
        return b64decode(digits, validate=True) or None
    except ValueError:
        return None


media = reader(
    Media,
    {"reference": one("reference", value_of)},
    {"mediaType": "media_type", "representation": ""} | _NULL_FLAVOR,
    ("data", _payload),
)


def value(element: XML, account: Account) -> Value | None:
    """A value of the type that its xsi:type names."""
    kind = (element.get(_XSI_TYPE) or "").rpartition(":")[2]
    return _VALUES[kind](element, account) if kind in _VALUES else _unmodelled(element, account)


def _encapsulated(element: XML, account: Account) -> Media | Text | None:
    is_media = element.get("mediaType") is not None or element.get("representation") is not None
    return media(element, account) if is_media else text(element, account)


def _unmodelled(element: XML, account: Account) -> Unmodelled:
    """The element as canonical XML, with the namespaces that its xsi:type values name."""
    account.is_complete = False  # such values are rare: the comparison may judge them
    whole = cast(etree._Element, element)
    types = [node.get(_XSI_TYPE, "") for node in whole.iter()]
    prefixes = sorted({prefix for prefix, colon, _ in (name.partition(":") for name in types) if colon})
    canonical = etree.tostring(
        whole, method="c14n", exclusive=True, inclusive_ns_prefixes=prefixes or None, with_tail=False
    )
    return Unmodelled(canonical.decode())


_TYPED = _NULL_FLAVOR | {_XSI_TYPE: ""}
_VALUES: dict[str, Read[Value]] = {
    "CD": code,
    "CE": code,
    "CV": code,
    "CS": code,
    "ED": _encapsulated,
    "IVL_TS": reader(Interval, _BOUNDS, {"value": "value"} | _TYPED),
    "PQ": reader(Quantity, {}, {"value": "value", "unit": "unit"} | _TYPED),
    "ST": reader(String, {}, _TYPED, ("value", text_of)),
    "BL": reader(Boolean, {}, {"value": ""} | _TYPED, ("value", flag("value"))),
    "INT": reader(Integer, {}, {"value": ""} | _TYPED, ("value", _number)),
    "TS": reader(Timestamp, {}, {"value": "value"} | _TYPED),
}
