"""Reads any CI-SIS CDA R2 document into the document model, and says what the model cannot hold.

Tolerant: official rules judge a document, not its reader. Element names and order are those of HL7 CDA R2 with the
extensions of ANS. Comments, processing instructions and schema locations are no content and are passed over.
"""

from __future__ import annotations

import copy
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from lxml import etree
from msgspec.structs import replace

from relais.cda.errors import Issue, UnreadableError, limited
from relais.cda.losses import is_implied, losses
from relais.cda.model import (
    II,
    Address,
    AssignedEntity,
    Authenticator,
    Author,
    Birthplace,
    Boolean,
    Code,
    Consent,
    DataEnterer,
    Device,
    Document,
    EncompassingEncounter,
    EncounterParticipant,
    EntryAuthor,
    EntryParticipant,
    ExternalReference,
    Guardian,
    Header,
    HealthCareFacility,
    Informant,
    Integer,
    Interval,
    Media,
    NamePart,
    Order,
    Organization,
    Participant,
    Patient,
    Performer,
    PersonName,
    Product,
    Qualifier,
    Quantity,
    Recipient,
    RelatedDocument,
    RelatedEntity,
    Relationship,
    Section,
    ServiceEvent,
    Statement,
    String,
    Telecom,
    Text,
    Timestamp,
    Unmodelled,
    Value,
)
from relais.cda.narrative import Element, Node, is_name
from relais.cda.parsing import SDTC, V3, XSI, local_name, parse
from relais.cda.style_sheets import document_of
from relais.cda.writer import write

__all__ = ["ReadDocument", "parse", "read", "read_header"]

_XML = etree._Element
_Part = TypeVar("_Part")
_Fields = dict[str, Any]
"""What was found of a part of the model: its fields by name."""

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_WHITE_SPACE = " \t\r\n"
_XSI_TYPE = f"{{{XSI}}}type"
_NONCHARACTER = "\U0010fffe".encode()
_REFERENCES = re.compile(rb"&#(x0*10fffe|0*1114110);", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document as read; `issues` lists, with its XPath, every element and attribute that the model cannot hold."""

    document: Document
    issues: list[Issue]


def read(data: bytes) -> ReadDocument:
    """The document in `data`, also inside the style sheet of a self-displaying one (*auto-présentable*).

    Nothing can be dropped unseen: the reader accounts for what it takes in. Unless that is every element, attribute and
    text, the document is written again and compared with the original, which finds what the model cannot hold.
    Raises UnreadableError for what is not XML (see `parse`) or not a ClinicalDocument.
    """
    tree = parse(data)
    clinical = _clinical_document(tree)
    etree.strip_tags(clinical, etree.Comment, etree.ProcessingInstruction)
    account = _Account()
    document = _document(clinical, account)
    document.self_displaying = clinical is not tree.getroot()
    if account.is_balanced(clinical) and not _may_hold_noncharacter(data):
        return ReadDocument(document, [])
    return ReadDocument(document, list(limited(losses(clinical, parse(write(document)).getroot()))))


def read_header(tree: etree._ElementTree) -> Document:
    """The document in a tree, which is left as it is, without its sections: for those who need only the header.

    What the model cannot hold is not told. Raises UnreadableError for what is not a ClinicalDocument.
    """
    clinical = _clinical_document(tree)
    if next(clinical.iter(etree.Comment, etree.ProcessingInstruction), None) is not None:
        clinical = copy.deepcopy(clinical)
        etree.strip_tags(clinical, etree.Comment, etree.ProcessingInstruction)
    document = _document(clinical, _Account(), _fill_header)
    document.self_displaying = tree.getroot().tag != clinical.tag
    return document


def _clinical_document(tree: etree._ElementTree) -> _XML:
    clinical = document_of(tree).getroot()
    if clinical.tag != f"{{{V3}}}ClinicalDocument":
        message = "not a CDA document: the root must be ClinicalDocument in the namespace urn:hl7-org:v3"
        raise UnreadableError(Issue("fatal", "structure", message, f"/{etree.QName(clinical).localname}", "CDA R2"))
    return clinical


def _may_hold_noncharacter(data: bytes) -> bool:
    """Whether U+10FFFE may stand in a document, which `write` refuses: as such, as a reference, or in UTF-16."""
    return (
        (b"\xf4" in data and _NONCHARACTER in data)  # one byte is looked for fifty times as fast as four
        or (b"&" in data and _REFERENCES.search(data) is not None)
        or b"\0" in data[:8]
    )


class _Account:
    """What the readers take in of a document.

    They clear `is_complete` at an element or attribute that they do not know, make nothing of, or take otherwise than
    `write` would write it. Text is reckoned up at the end, since it may stand anywhere.
    """

    __slots__ = ("is_complete", "texts")

    def __init__(self) -> None:
        self.is_complete = True
        self.texts: list[str] = []  # the text nodes that were taken in, each of them once

    def is_balanced(self, clinical: _XML) -> bool:
        """Whether everything in the document was taken in: written again, it would lose nothing."""
        if not self.is_complete:
            return False
        taken = _visible("".join(self.texts).encode())
        return taken == _visible(etree.tostring(clinical, method="text", encoding="UTF-8", with_tail=False))


def _visible(text: bytes) -> int:
    """How many bytes of UTF-8 are no white space of XML."""
    return len(text.translate(None, b" \t\r\n"))


# --- tables ---------------------------------------------------------------------------------------------------
#
# Most parts of the model are read by a table: child of the element, by name (`sdtc:` prefixed for that namespace), →
# what it fills. Every element is gone through once, and of children that the model has once the first counts.

_Read = Callable[[_XML, _Account], _Part | None]
_Fill = Callable[[_Fields, _XML, _Account], None]


class _Slot(NamedTuple):
    """What a child says: the field that `read` gives, or the fields that `fill` puts among those found so far."""

    field: str = ""
    read: _Read[Any] | None = None
    fill: _Fill | None = None
    repeats: bool = False


_Children = Mapping[str, _Slot]
_Attributes = Mapping[str, str]
"""Attribute → field; no field when the attribute is taken in elsewhere."""
_Supposed = Mapping[str, Mapping[str, str]]
"""Children that `write` always writes, for which the model has no field, with their attributes."""


def _reader(
    make: Callable[..., _Part | None],
    children: _Children,
    attributes: _Attributes | None = None,
    own: tuple[str, _Read[Any]] | None = None,
    supposed: _Supposed | None = None,
) -> _Read[_Part]:
    """Reads a part of the model, which `make` makes of the fields found; None when the element says nothing.

    `own` is a field, and what gives it from the element itself.
    """
    fill = _filler(children, attributes, supposed)

    def read_part(element: _XML, account: _Account) -> _Part | None:
        found: _Fields = {}
        fill(found, element, account)
        if own and (content := own[1](element, account)) is not None:
            found[own[0]] = content
        return make(**found) if found else None

    return read_part


def _below(name: str, read_part: _Read[_Part]) -> _Read[_Part]:
    """Reads the first child of that name instead of the element."""
    return _reader(_same, {name: _one("part", read_part)})


def _same(part: _Part) -> _Part:
    return part


def _filler(children: _Children, attributes: _Attributes | None = None, supposed: _Supposed | None = None) -> _Fill:
    """Puts what an element says among the fields found so far, and accounts for all its attributes and children."""
    known = attributes or {}
    parts = {_clark(name): (slot.field, slot.read, slot.repeats) for name, slot in children.items() if slot.read}
    inner = {_clark(name): (slot.fill, slot.repeats) for name, slot in children.items() if slot.fill}
    fixed = {_clark(name): [stated] for name, stated in (supposed or {}).items()}

    def fill(found: _Fields, element: _XML, account: _Account) -> None:
        items: list[tuple[str, str]] = element.items()  # type: ignore[assignment]  # lxml-stubs: may be bytes, never is
        for name, value in items:
            if (field := known.get(name)) and value:
                found[field] = value
            elif (field is None or not value) and not is_implied(element, name, value):
                account.is_complete = False
        if not len(element):
            return
        past: tuple[str, ...] = ()  # children that the model has once and that have come
        for child in element:
            tag = child.tag
            if past and tag in past:
                account.is_complete = False
            elif known_part := parts.get(tag):
                field, read_part, repeats = known_part
                part = read_part(child, account)
                if part is None:
                    account.is_complete = False
                    past = past if repeats else (*past, tag)
                elif field not in found:
                    found[field] = [part] if repeats else part
                elif repeats:
                    found[field].append(part)
                else:
                    account.is_complete = False
            elif tag in inner:
                fill_part, repeats = inner[tag]
                before = len(found)
                fill_part(found, child, account)
                if len(found) == before:
                    account.is_complete = False
                past = past if repeats else (*past, tag)
            elif tag not in fixed:
                account.is_complete = False

    def fill_checked(found: _Fields, element: _XML, account: _Account) -> None:
        fill(found, element, account)
        for tag, stated in fixed.items():
            if [dict(child.items()) for child in element.iterchildren(tag) if not len(child)] != stated:
                account.is_complete = False

    return fill_checked if fixed else fill


def _clark(name: str) -> str:
    prefix, _, local = name.rpartition(":")
    return f"{{{SDTC if prefix else V3}}}{local}"


def _one(field: str, read_part: _Read[Any]) -> _Slot:
    """The field is what `read_part` makes of the child."""
    return _Slot(field, read_part)


def _each(field: str, read_part: _Read[Any]) -> _Slot:
    """The field lists what `read_part` makes of each child of that name."""
    return _Slot(field, read_part, repeats=True)


def _inside(
    children: _Children,
    attributes: _Attributes | None = None,
    supposed: _Supposed | None = None,
    *,
    repeats: bool = False,
) -> _Slot:
    """The child has no part of its own in the model: what it holds belongs to that of its parent."""
    return _Slot(fill=_filler(children, attributes, supposed), repeats=repeats)


def _moment(value: str, null_flavor: str) -> _Slot:
    """One field is the value of the child, another its nullFlavor."""
    return _inside({}, {"value": value, "nullFlavor": null_flavor})


def _moved(read_part: _Read[_Part]) -> _Read[_Part]:
    """Reads what `write` writes in another place."""

    def read_moved(element: _XML, account: _Account) -> _Part | None:
        account.is_complete = False
        return read_part(element, account)

    return read_moved


# --- text and simple values -----------------------------------------------------------------------------------


def _attribute(name: str) -> _Read[str]:
    """Reads an element that has nothing but that attribute."""

    def read_attribute(element: _XML, account: _Account) -> str | None:
        items = element.items()
        if len(items) != 1 or len(element):
            account.is_complete = False
        return element.get(name) or None

    return read_attribute


_value_of = _attribute("value")
_code_of = _attribute("code")


def _string(element: _XML, account: _Account) -> str | None:
    """The text of an element that has nothing else, white space at its ends removed."""
    if len(element) or element.items():
        account.is_complete = False
    return _text_of(element, account)


def _text_of(element: _XML, account: _Account) -> str | None:
    """The text of an element without that of its children, white space at the ends removed."""
    if not len(element):
        if (text := element.text) is None:
            return None
        account.texts.append(text)
        return text.strip(_WHITE_SPACE) or None
    pieces = [piece for piece in [element.text, *[child.tail for child in element]] if piece]
    if not pieces:
        return None
    account.texts += pieces
    return " ".join(stripped for piece in pieces if (stripped := piece.strip(_WHITE_SPACE))) or None


def _number(element: _XML, account: _Account) -> int | None:
    """The attribute `value` as an integer."""
    text = element.get("value")
    number = int(text) if text and _INTEGER.fullmatch(text) else None
    if text is not None and text != str(number):
        account.is_complete = False
    return number


def _flag(name: str) -> _Read[bool]:
    """Reads an attribute that is a Boolean."""

    def read_flag(element: _XML, account: _Account) -> bool | None:
        value = element.get(name)
        if value is None:
            return None
        if value not in _BOOLEANS:
            account.is_complete = False
        return _BOOLEANS.get(value)

    return read_flag


_integer: _Read[int] = _reader(_same, {}, {"value": ""}, ("part", _number))
_boolean: _Read[bool] = _reader(_same, {}, {"value": ""}, ("part", _flag("value")))


# --- data types -----------------------------------------------------------------------------------------------

_NULL_FLAVOR = {"nullFlavor": "null_flavor"}

_ii = _reader(II, {}, {"root": "root", "extension": "extension"} | _NULL_FLAVOR)
_text = _reader(Text, {"reference": _moment("reference", "reference_null_flavor")}, _NULL_FLAVOR, ("value", _text_of))
_qualifier = _reader(
    Qualifier,
    {
        "name": _one("name", lambda element, account: _code(element, account)),
        "value": _one("value", lambda element, account: _code(element, account)),
    },
)
_code: _Read[Code] = _reader(
    Code,
    {
        "originalText": _one("original_text", _text),
        "translation": _each("translations", lambda element, account: _code(element, account)),
        "qualifier": _each("qualifiers", _qualifier),
    },
    {
        "code": "code",
        "codeSystem": "system",
        "displayName": "display",
        "codeSystemName": "system_name",
        "codeSystemVersion": "system_version",
    }
    | _NULL_FLAVOR,
)
_BOUNDS = {"low": _moment("low", "low_null_flavor"), "high": _moment("high", "high_null_flavor")}
_interval = _reader(Interval, _BOUNDS, {"value": "value"} | _NULL_FLAVOR)


def _make_name_part(text: str | None = None, qualifier: str | None = None) -> NamePart | None:
    return NamePart(text, qualifier) if text else None


_name_part = _reader(_make_name_part, {}, {"qualifier": "qualifier"}, ("text", _text_of))
_name = _reader(
    PersonName,
    {
        "family": _each("families", _name_part),
        "given": _each("givens", _name_part),
        "prefix": _one("prefix", _string),
        "suffix": _one("suffix", _string),
    },
    _NULL_FLAVOR,
    ("text", _text_of),
)
_address = _reader(
    Address,
    {
        "houseNumber": _one("house_number", _string),
        "houseNumberNumeric": _one("house_number_numeric", _string),
        "streetNameType": _one("street_name_type", _string),
        "streetName": _one("street_name", _string),
        "additionalLocator": _one("additional_locator", _string),
        "unitID": _one("unit_id", _string),
        "postBox": _one("post_box", _string),
        "precinct": _one("precinct", _string),
        "postalCode": _one("postal_code", _string),
        "city": _one("city", _string),
        "state": _one("state", _string),
        "county": _one("county", _string),
        "country": _one("country", _string),
        "streetAddressLine": _each("lines", _string),
    },
    {"use": "use"} | _NULL_FLAVOR,
)
_telecom = _reader(Telecom, {}, {"value": "value", "use": "use"} | _NULL_FLAVOR)


def _payload(element: _XML, account: _Account) -> bytes | None:
    """The decoded bytes; text that is not Base64 although it should be is left out, which `losses` says."""
    text, representation = _text_of(element, account), element.get("representation")
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


_media = _reader(
    Media,
    {"reference": _one("reference", _value_of)},
    {"mediaType": "media_type", "representation": ""} | _NULL_FLAVOR,
    ("data", _payload),
)


def _value(element: _XML, account: _Account) -> Value | None:
    kind = element.get(_XSI_TYPE, "").rpartition(":")[2]
    return _VALUES[kind](element, account) if kind in _VALUES else _unmodelled(element, account)


def _encapsulated(element: _XML, account: _Account) -> Media | Text | None:
    is_media = "mediaType" in element.attrib or "representation" in element.attrib
    return _media(element, account) if is_media else _text(element, account)


def _unmodelled(element: _XML, account: _Account) -> Unmodelled:
    """The element as canonical XML, with the namespaces that its xsi:type values name."""
    account.is_complete = False  # such values are rare: the comparison may judge them
    types = [node.get(_XSI_TYPE, "") for node in element.iter()]
    prefixes = sorted({prefix for prefix, colon, _ in (name.partition(":") for name in types) if colon})
    canonical = etree.tostring(
        element, method="c14n", exclusive=True, inclusive_ns_prefixes=prefixes or None, with_tail=False
    )
    return Unmodelled(canonical.decode())


_TYPED = _NULL_FLAVOR | {_XSI_TYPE: ""}
_VALUES: dict[str, _Read[Value]] = {
    "CD": _code,
    "CE": _code,
    "CV": _code,
    "CS": _code,
    "ED": _encapsulated,
    "IVL_TS": _reader(Interval, _BOUNDS, {"value": "value"} | _TYPED),
    "PQ": _reader(Quantity, {}, {"value": "value", "unit": "unit"} | _TYPED),
    "ST": _reader(String, {}, _TYPED, ("value", _text_of)),
    "BL": _reader(Boolean, {}, {"value": ""} | _TYPED, ("value", _flag("value"))),
    "INT": _reader(Integer, {}, {"value": ""} | _TYPED, ("value", _number)),
    "TS": _reader(Timestamp, {}, {"value": "value"} | _TYPED),
}


# --- people and organisations ---------------------------------------------------------------------------------


def _fill_organization_name(found: _Fields, element: _XML, account: _Account) -> None:
    """A name; why there is none, as long as none was found."""
    null_flavor = element.get("nullFlavor")
    text = _text_of(element, account)
    if len(element) or len(element.items()) > (null_flavor is not None) or (text and null_flavor is not None):
        account.is_complete = False
    if text:
        found.setdefault("names", []).append(text)
        found.pop("name_null_flavor", None)
    elif "names" not in found and null_flavor:
        found.setdefault("name_null_flavor", null_flavor)


_CONTACT = {"addr": _each("addresses", _address), "telecom": _each("telecoms", _telecom)}
_ROLE = {"id": _each("ids", _ii), "code": _one("code", _code)} | _CONTACT
"""What every role has."""

_organization = _reader(
    Organization,
    {
        "id": _each("ids", _ii),
        "name": _Slot(fill=_fill_organization_name, repeats=True),
        "standardIndustryClassCode": _one("industry_class", _code),
    }
    | _CONTACT,
)
_person = _below("name", _name)
_device = _reader(
    Device,
    {
        "manufacturerModelName": _one("model_name", _string),
        "softwareName": _one("software_name", _string),
        "code": _one("code", _code),
    },
)
_assigned = _reader(
    AssignedEntity,
    {
        "assignedPerson": _one("person", _person),
        "assignedAuthoringDevice": _one("device", _device),
        "representedOrganization": _one("organization", _organization),
    }
    | _ROLE,
)
_related = _reader(
    partial(RelatedEntity, class_code=""),
    {"code": _one("code", _code), "relatedPerson": _one("name", _person)} | _CONTACT,
    {"classCode": "class_code"},
)
_author = _reader(
    Author,
    {
        "functionCode": _one("function_code", _code),
        "time": _moment("time", "time_null_flavor"),
        "assignedAuthor": _one("assigned", _assigned),
    },
)
_entry_author = _reader(
    EntryAuthor,
    {"time": _moment("time", "time_null_flavor"), "assignedAuthor": _one("assigned", _assigned)},
)
_informant = _reader(
    Informant, {"assignedEntity": _one("assigned", _assigned), "relatedEntity": _one("related", _related)}
)


# --- header ---------------------------------------------------------------------------------------------------

_guardian = _reader(
    Guardian,
    {"guardianPerson": _one("person", _person), "guardianOrganization": _one("organization", _organization)} | _ROLE,
)
_birthplace = _reader(Birthplace, {"name": _one("name", _string), "addr": _one("address", _address)})
_patient = _reader(
    Patient,
    {
        "id": _each("ids", _ii),
        "patient": _inside(
            {
                "name": _one("name", _name),
                "administrativeGenderCode": _one("gender", _code),
                "birthTime": _moment("birth_time", "birth_time_null_flavor"),
                "sdtc:deceasedInd": _one("deceased", _boolean),
                "sdtc:deceasedTime": _one("deceased_time", _value_of),
                "sdtc:multipleBirthInd": _one("multiple_birth", _boolean),
                "sdtc:multipleBirthOrderNumber": _one("multiple_birth_order", _integer),
                "guardian": _each("guardians", _guardian),
                "birthplace": _one("birthplace", _below("place", _birthplace)),
            }
        ),
    }
    | _CONTACT,
)
_stated_record_target: _Read[list[Patient]] = _reader(_same, {"patientRole": _each("part", _patient)})


def _record_target(element: _XML, account: _Account) -> list[Patient] | None:
    """The patients of one recordTarget, which `write` gives one each."""
    patients = _stated_record_target(element, account)
    if patients and len(patients) > 1:
        account.is_complete = False
    return patients


_data_enterer = _reader(DataEnterer, {"time": _one("time", _value_of), "assignedEntity": _one("assigned", _assigned)})
_recipient = _reader(
    Recipient,
    {
        "intendedRecipient": _inside(
            {
                "id": _each("ids", _ii),
                "informationRecipient": _one("name", _person),
                "receivedOrganization": _one("organization", _organization),
            }
            | _CONTACT
        )
    },
    {"typeCode": "type_code"},
)
_stated_authenticator = _reader(
    Authenticator,
    {"time": _one("time", _value_of), "assignedEntity": _one("assigned", _assigned)},
    supposed={"signatureCode": {"code": "S"}},
)


def _authenticator(element: _XML, account: _Account) -> Authenticator:
    return _stated_authenticator(element, account) or Authenticator()


_participant = _reader(
    partial(Participant, type_code="", class_code=""),
    {
        "functionCode": _one("function_code", _code),
        "time": _one("time", _interval),
        "associatedEntity": _inside(
            {"associatedPerson": _one("name", _person), "scopingOrganization": _one("organization", _organization)}
            | _ROLE,
            {"classCode": "class_code"},
        ),
    },
    {"typeCode": "type_code"},
)
_order = _reader(Order, {"order": _inside({"id": _each("ids", _ii), "code": _one("code", _code)})})
_PERFORMER = {"time": _one("time", _interval), "assignedEntity": _one("assigned", _assigned)}
_FUNCTION = _one("function_code", _code)
_MOVED_FUNCTION = _one("function_code", _moved(_code))


def _performer(children: dict[str, _Slot]) -> _Slot:
    read_stated = _reader(Performer, children | _PERFORMER, {"typeCode": "type_code"})

    def read_performer(element: _XML, account: _Account) -> Performer:
        return read_stated(element, account) or Performer()

    return _each("performers", read_performer)


_event_performer = _performer({"functionCode": _FUNCTION, "sdtc:functionCode": _MOVED_FUNCTION})
_entry_performer = _performer({"functionCode": _MOVED_FUNCTION, "sdtc:functionCode": _FUNCTION})
_service_event = _reader(
    ServiceEvent,
    {
        "serviceEvent": _inside(
            {
                "id": _each("ids", _ii),
                "code": _one("code", _code),
                "effectiveTime": _one("time", _interval),
                "performer": _event_performer,
            },
            {"classCode": "class_code"},
        )
    },
)
_related_document = _reader(
    partial(RelatedDocument, type_code=""),
    {
        "parentDocument": _inside(
            {
                "id": _each("parent_ids", _ii),
                "setId": _one("parent_set_id", _ii),
                "versionNumber": _one("parent_version", _integer),
            }
        )
    },
    {"typeCode": "type_code"},
)
_stated_consent = _reader(
    Consent,
    {
        "consent": _inside(
            {"id": _each("ids", _ii), "code": _one("code", _code)}, supposed={"statusCode": {"code": "completed"}}
        )
    },
)


def _consent(element: _XML, account: _Account) -> Consent:
    stated = _stated_consent(element, account)
    if stated is None:
        account.is_complete = False
    return stated or Consent()


_facility = _reader(
    HealthCareFacility,
    {
        "id": _each("ids", _ii),
        "code": _one("code", _code),
        "location": _inside({"name": _one("name", _string), "addr": _one("address", _address)}),
    },
)
_encounter_participant = _reader(
    partial(EncounterParticipant, type_code=""),
    {"time": _one("time", _interval), "assignedEntity": _one("assigned", _assigned)},
    {"typeCode": "type_code"},
)
_encounter = _reader(
    EncompassingEncounter,
    {
        "id": _each("ids", _ii),
        "code": _one("code", _code),
        "effectiveTime": _one("time", _interval),
        "dischargeDispositionCode": _one("discharge_disposition", _code),
        "responsibleParty": _one("responsible", _below("assignedEntity", _assigned)),
        "encounterParticipant": _each("participants", _encounter_participant),
        "location": _one("facility", _below("healthCareFacility", _facility)),
    },
)


_HEADER = {
    "templateId": _each("template_ids", _ii),
    "id": _one("id", _ii),
    "code": _one("code", _code),
    "title": _one("title", _string),
    "effectiveTime": _one("effective_time", _value_of),
    "confidentialityCode": _one("confidentiality", _code),
    "languageCode": _one("language", _code_of),
    "setId": _one("set_id", _ii),
    "versionNumber": _one("version_number", _integer),
    "recordTarget": _each("record_targets", _record_target),
    "author": _each("authors", _author),
    "dataEnterer": _one("data_enterer", _data_enterer),
    "informant": _each("informants", _informant),
    "custodian": _inside(
        {"assignedCustodian": _inside({"representedCustodianOrganization": _one("custodian", _organization)})}
    ),
    "informationRecipient": _each("recipients", _recipient),
    "legalAuthenticator": _one("legal_authenticator", _authenticator),
    "authenticator": _each("authenticators", _authenticator),
    "participant": _each("participants", _participant),
    "inFulfillmentOf": _each("orders", _order),
    "documentationOf": _each("service_events", _service_event),
    "relatedDocument": _each("related_documents", _related_document),
    "authorization": _each("consents", _consent),
    "componentOf": _one("encounter", _below("encompassingEncounter", _encounter)),
}


# --- body -----------------------------------------------------------------------------------------------------


def _narrative(element: _XML, account: _Account) -> list[Node]:
    nodes: list[Node] = []
    if text := element.text:
        nodes.append(text)
        account.texts.append(text)
    for child in element if len(element) else ():
        if name := _narrative_name(child.tag):
            items: list[tuple[str, str]] = child.items()  # type: ignore[assignment]
            attributes = {key: said for key, said in items if is_name(key)} if items else {}
            if len(attributes) != len(items):
                account.is_complete = False
            nodes.append(Element(name, attributes, _narrative(child, account)))
        else:
            account.is_complete = False
        if tail := child.tail:
            account.texts.append(tail)
            previous = nodes.pop() if nodes and isinstance(nodes[-1], str) else ""
            nodes.append(f"{previous}{tail}")
    return nodes


@lru_cache(maxsize=256)
def _narrative_name(tag: str) -> str | None:
    """The name of a narrative element; None for an element that a narrative does not have."""
    name = local_name(tag)  # one outside HL7 V3 has a prefix
    return name if is_name(name) else None


def _fill_narrative(found: _Fields, element: _XML, account: _Account) -> None:
    if nodes := _narrative(element, account):
        found["text"] = nodes
    items: list[tuple[str, str]] = element.items()  # type: ignore[assignment]
    for name, value in items:
        if name == "ID" and value:
            found["text_id"] = value
        elif not is_implied(element, name, value):
            account.is_complete = False


_product = _reader(
    Product,
    {
        "manufacturedProduct": _inside(
            {
                "templateId": _each("template_ids", _ii),
                "manufacturedMaterial": _inside({"code": _one("code", _code), "name": _one("name", _string)}),
            }
        )
    },
)
_entry_participant = _reader(
    partial(EntryParticipant, type_code=""),
    {
        "templateId": _each("template_ids", _ii),
        "time": _one("time", _interval),
        "participantRole": _inside(
            {
                "playingEntity": _inside(
                    {
                        "code": _one("entity_code", _code),
                        "name": _one("name", _name),
                        "desc": _one("description", _string),
                    },
                    {"classCode": "entity_class"},
                ),
                "scopingEntity": _inside({"id": _one("scoping_id", _ii), "desc": _one("scoping_description", _string)}),
                "playingDevice": _one("device", _device),
            }
            | _ROLE,
            {"classCode": "role_class"},
        ),
    },
    {"typeCode": "type_code"},
)


def _external(kind: str) -> _Slot:
    read_target = _reader(
        partial(ExternalReference, type_code="", kind=kind),
        {
            "id": _each("ids", _ii),
            "code": _one("code", _code),
            "text": _one("text", _text),
            "setId": _one("set_id", _ii),
            "versionNumber": _one("version_number", _integer),
        },
    )
    return _one("target", read_target)


def _make_reference(type_code: str = "", target: ExternalReference | None = None) -> ExternalReference | None:
    return replace(target, type_code=type_code) if target else None


_EXTERNALS = ("externalDocument", "externalAct", "externalObservation", "externalProcedure")
_reference = _reader(_make_reference, {kind: _external(kind) for kind in _EXTERNALS}, {"typeCode": "type_code"})


def _make_statement(kind: str, class_code: str = "", **fields: Any) -> Statement:
    return Statement(kind, class_code, **fields)


def _make_relationship(
    type_code: str = "",
    statement: Statement | None = None,
    inversion: bool | None = None,
    sequence_number: int | None = None,
) -> Relationship | None:
    return Relationship(type_code, statement, inversion, sequence_number) if statement else None


def _statement(kind: str) -> _Slot:
    """The first statement below an entry, an entryRelationship or an organizer's component."""
    children = {
        "templateId": _each("template_ids", _ii),
        "id": _each("ids", _ii),
        "code": _one("code", _code),
        "sdtc:text" if kind == "organizer" else "text": _one("text", _text),
        "statusCode": _one("status", _code_of),
        "effectiveTime": _one("time", _interval),
        "priorityCode": _one("priority", _code),
        "languageCode": _one("language", _code_of),
        "value": _each("values", _media if kind == "observationMedia" else _value),
        "interpretationCode": _each("interpretations", _code),
        "methodCode": _each("methods", _code),
        "targetSiteCode": _each("target_sites", _code),
        "performer": _entry_performer,
        "author": _each("authors", _entry_author),
        "informant": _each("informants", _informant),
        "participant": _each("participants", _entry_participant),
        "reference": _each("references", _reference),
        "precondition": _each("criteria", _below("criterion", _below("text", _text))),
        "product" if kind == "supply" else "consumable": _one("product", _product),
    }
    if kind == "organizer":
        children["component"] = _each("relationships", lambda element, account: _component(element, account))
    else:
        children["entryRelationship"] = _each("relationships", lambda element, account: _relationship(element, account))
    attributes = {"classCode": "class_code", "moodCode": "mood_code", "negationInd": "", "ID": "xml_id"}
    make = partial(_make_statement, kind)
    return _one("statement", _reader(make, children, attributes, ("negation", _flag("negationInd"))))


_STATEMENTS = {
    kind: _statement(kind)
    for kind in (
        "observation",
        "act",
        "encounter",
        "organizer",
        "procedure",
        "substanceAdministration",
        "supply",
        "observationMedia",
    )
}
_RELATED = {"sequenceNumber": _one("sequence_number", _integer)} | _STATEMENTS
_RELATION = {"typeCode": "type_code", "inversionInd": ""}
_INVERSION = ("inversion", _flag("inversionInd"))
_relationship = _reader(_make_relationship, _RELATED, _RELATION, _INVERSION)
_stated_component = _reader(partial(_make_relationship, type_code="COMP"), _RELATED, _RELATION, _INVERSION)


def _component(element: _XML, account: _Account) -> Relationship | None:
    """The component of an organizer, which `write` writes without attributes."""
    if element.get("typeCode", "COMP") != "COMP" or element.get("inversionInd") is not None:
        account.is_complete = False
    return _stated_component(element, account)


_entry: _Read[Statement] = _reader(lambda statement: statement, _STATEMENTS)
_section: _Read[Section] = _reader(
    Section,
    {
        "section": _inside(
            {
                "templateId": _each("template_ids", _ii),
                "id": _one("id", _ii),
                "code": _one("code", _code),
                "title": _one("title", _string),
                "text": _Slot(fill=_fill_narrative),
                "author": _each("authors", _entry_author),
                "entry": _each("entries", _entry),
                "component": _each("sections", lambda element, account: _section(element, account)),
            }
        )
    },
)
_FILE = {"nonXMLBody": _inside({"text": _one("non_xml_body", _media)})}
_SECTIONS = {"structuredBody": _inside({"component": _each("sections", _section)})}
_ALWAYS = {"realmCode": {"code": "FR"}, "typeId": {"root": "2.16.840.1.113883.1.3", "extension": "POCD_HD000040"}}
_fill_document = _filler(_HEADER | {"component": _inside(_SECTIONS | _FILE)}, supposed=_ALWAYS)
_fill_header = _filler(_HEADER | {"component": _inside(_FILE)}, supposed=_ALWAYS)


def _document(clinical: _XML, account: _Account, fill: _Fill = _fill_document) -> Document:
    found: _Fields = {}
    fill(found, clinical, account)
    found.setdefault("language", None)
    patient, *others = chain(*found.pop("record_targets", [[Patient()]]))
    body = {name: found.pop(name) for name in ("sections", "non_xml_body") if name in found}
    return Document(Header(patient=patient, other_patients=others, **found), **body)
