"""Reads any CI-SIS CDA R2 document into the document model, and says what the model cannot hold.

Tolerant: official rules judge a document, not its reader. Element names and order are those of HL7 CDA R2 with the
extensions of ANS. Comments, processing instructions and schema locations are no content and are passed over.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

from lxml import etree
from msgspec.structs import replace

from relais.cda.errors import Issue, UnreadableError, limited
from relais.cda.losses import losses
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
from relais.cda.writer import write

__all__ = ["ReadDocument", "parse", "read"]

_XML = etree._Element
_Part = TypeVar("_Part")
_Fields = dict[str, Any]
"""What was found of a part of the model: its fields by name."""

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_WHITE_SPACE = " \t\r\n"
_STYLE_SHEET = "{http://www.w3.org/1999/XSL/Transform}stylesheet"
_SELF_DISPLAYED = f"{{urn:asip-sante:ci-sis}}Contenu/{{{V3}}}ClinicalDocument"
_XSI_TYPE = f"{{{XSI}}}type"


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document as read; `issues` lists, with its XPath, every element and attribute that the model cannot hold."""

    document: Document
    issues: list[Issue]


def read(data: bytes) -> ReadDocument:
    """The document in `data`, also inside the style sheet of a self-displaying one (*auto-présentable*).

    What the model cannot hold is found by writing the document again and comparing: nothing can be dropped unseen.
    Raises UnreadableError for what is not XML (see `parse`) or not a ClinicalDocument.
    """
    root = parse(data).getroot()
    clinical = root.find(_SELF_DISPLAYED) if root.tag == _STYLE_SHEET else root
    if clinical is None or clinical.tag != f"{{{V3}}}ClinicalDocument":
        message = "not a CDA document: the root must be ClinicalDocument in the namespace urn:hl7-org:v3"
        raise UnreadableError(Issue("fatal", "structure", message, f"/{etree.QName(root).localname}", "CDA R2"))
    etree.strip_tags(clinical, etree.Comment, etree.ProcessingInstruction)
    document = _document(clinical)
    document.self_displaying = clinical is not root
    copy = write(document)
    if copy == data:
        return ReadDocument(document, [])
    return ReadDocument(document, list(limited(losses(clinical, parse(copy).getroot()))))


# --- tables ---------------------------------------------------------------------------------------------------
#
# Most parts of the model are read by a table: child of the element, by name (`sdtc:` prefixed for that namespace), →
# what it fills. Every element is gone through once, and of children that the model has once the first counts.


class _Slot(NamedTuple):
    """Puts what a child says among the fields found so far."""

    fill: Callable[[_Fields, _XML], None]
    repeats: bool = False


_Children = Mapping[str, _Slot]
_Attributes = Mapping[str, str]
"""Attribute → field."""

_Read = Callable[[_XML], _Part | None]


def _reader(
    make: Callable[..., _Part | None],
    children: _Children,
    attributes: _Attributes | None = None,
    own: tuple[str, Callable[[_XML], object]] | None = None,
) -> _Read[_Part]:
    """Reads a part of the model, which `make` makes of the fields found; None when the element says nothing.

    `own` is a field, and what gives it from the element itself.
    """
    fill = _filler(children, attributes)

    def read_part(element: _XML) -> _Part | None:
        found: _Fields = {}
        fill(found, element)
        if own and (content := own[1](element)) is not None:
            found[own[0]] = content
        return make(**found) if found else None

    return read_part


def _below(name: str, read_part: _Read[_Part]) -> _Read[_Part]:
    """Reads the first child of that name instead of the element."""
    tag = _clark(name)

    def read_child(element: _XML) -> _Part | None:
        child = next(element.iterchildren(tag), None)
        return None if child is None else read_part(child)

    return read_child


def _filler(children: _Children, attributes: _Attributes | None = None) -> Callable[[_Fields, _XML], None]:
    slots = {_clark(name): slot for name, slot in children.items()}

    def fill(found: _Fields, element: _XML) -> None:
        if attributes:
            for name, value in element.items():
                if value and name in attributes:
                    found[attributes[name]] = value  # type: ignore[index]  # lxml-stubs: may be bytes, never is
        if not len(element):
            return
        seen = set()
        for child in element:
            tag = child.tag
            if tag in slots and tag not in seen:
                fill_slot, repeats = slots[tag]
                if not repeats:
                    seen.add(tag)
                fill_slot(found, child)

    return fill


def _clark(name: str) -> str:
    prefix, _, local = name.rpartition(":")
    return f"{{{SDTC if prefix else V3}}}{local}"


def _one(field: str, read_part: Callable[[_XML], object]) -> _Slot:
    """The field is what `read_part` makes of the child."""

    def fill(found: _Fields, element: _XML) -> None:
        part = read_part(element)
        if part is not None:
            found.setdefault(field, part)

    return _Slot(fill)


def _each(field: str, read_part: Callable[[_XML], object]) -> _Slot:
    """The field lists what `read_part` makes of each child of that name."""

    def fill(found: _Fields, element: _XML) -> None:
        part = read_part(element)
        if part is not None:
            found.setdefault(field, []).append(part)

    return _Slot(fill, repeats=True)


def _inside(children: _Children, attributes: _Attributes | None = None, *, repeats: bool = False) -> _Slot:
    """The child has no part of its own in the model: what it holds belongs to that of its parent."""
    return _Slot(_filler(children, attributes), repeats)


def _moment(value: str, null_flavor: str) -> _Slot:
    """One field is the value of the child, another its nullFlavor."""
    return _inside({}, {"value": value, "nullFlavor": null_flavor})


# --- text and simple values -----------------------------------------------------------------------------------


def _value_of(element: _XML) -> str | None:
    return element.get("value") or None


def _code_of(element: _XML) -> str | None:
    return element.get("code") or None


def _string(element: _XML) -> str | None:
    """The text of an element, white space at its ends removed; that of a mixed element without its children's."""
    if not len(element):
        return (element.text or "").strip(_WHITE_SPACE) or None
    pieces = [element.text, *(child.tail for child in element)]
    return " ".join(stripped for piece in pieces if piece and (stripped := piece.strip(_WHITE_SPACE))) or None


def _integer(element: _XML) -> int | None:
    text = element.get("value")
    return int(text) if text and _INTEGER.fullmatch(text) else None


def _boolean(element: _XML, name: str = "value") -> bool | None:
    return _BOOLEANS.get(element.get(name, ""))


# --- data types -----------------------------------------------------------------------------------------------

_NULL_FLAVOR = {"nullFlavor": "null_flavor"}

_ii = _reader(II, {}, {"root": "root", "extension": "extension"} | _NULL_FLAVOR)
_text = _reader(Text, {"reference": _moment("reference", "reference_null_flavor")}, _NULL_FLAVOR, ("value", _string))
_qualifier = _reader(
    Qualifier,
    {"name": _one("name", lambda element: _code(element)), "value": _one("value", lambda element: _code(element))},
)
_code: _Read[Code] = _reader(
    Code,
    {
        "originalText": _one("original_text", _text),
        "translation": _each("translations", lambda element: _code(element)),
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
_interval = _reader(
    Interval,
    {"low": _moment("low", "low_null_flavor"), "high": _moment("high", "high_null_flavor")},
    {"value": "value"} | _NULL_FLAVOR,
)


def _name_part(element: _XML) -> NamePart | None:
    text = _string(element)
    return NamePart(text, element.get("qualifier") or None) if text else None


_name = _reader(
    PersonName,
    {
        "family": _each("families", _name_part),
        "given": _each("givens", _name_part),
        "prefix": _one("prefix", _string),
        "suffix": _one("suffix", _string),
    },
    _NULL_FLAVOR,
    ("text", _string),
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


def _payload(element: _XML) -> bytes | None:
    """The decoded bytes; text that is not Base64 although it should be is left out, and `losses` says so."""
    text = _string(element)
    if text is None:
        return None
    if element.get("representation") != "B64":
        return text.encode()
    try:
        return b64decode("".join(text.split()), validate=True) or None
    except ValueError:
        return None


_media = _reader(
    Media, {"reference": _one("reference", _value_of)}, {"mediaType": "media_type"} | _NULL_FLAVOR, ("data", _payload)
)


def _value(element: _XML) -> Value | None:
    kind = element.get(_XSI_TYPE, "").rpartition(":")[2]
    return _VALUES[kind](element) if kind in _VALUES else _unmodelled(element)


def _encapsulated(element: _XML) -> Media | Text | None:
    is_media = "mediaType" in element.attrib or "representation" in element.attrib
    return _media(element) if is_media else _text(element)


def _unmodelled(element: _XML) -> Unmodelled:
    """The element as canonical XML, with the namespaces that its xsi:type values name."""
    types = [node.get(_XSI_TYPE, "") for node in element.iter()]
    prefixes = sorted({prefix for prefix, colon, _ in (name.partition(":") for name in types) if colon})
    canonical = etree.tostring(
        element, method="c14n", exclusive=True, inclusive_ns_prefixes=prefixes or None, with_tail=False
    )
    return Unmodelled(canonical.decode())


_VALUES: dict[str, Callable[[_XML], Value | None]] = {
    "CD": _code,
    "CE": _code,
    "CV": _code,
    "CS": _code,
    "ED": _encapsulated,
    "IVL_TS": _interval,
    "PQ": _reader(Quantity, {}, {"value": "value", "unit": "unit"} | _NULL_FLAVOR),
    "ST": _reader(String, {}, _NULL_FLAVOR, ("value", _string)),
    "BL": _reader(Boolean, {}, _NULL_FLAVOR, ("value", _boolean)),
    "INT": _reader(Integer, {}, _NULL_FLAVOR, ("value", _integer)),
    "TS": _reader(Timestamp, {}, {"value": "value"} | _NULL_FLAVOR),
}


# --- people and organisations ---------------------------------------------------------------------------------


def _fill_organization_name(found: _Fields, element: _XML) -> None:
    """A name; why there is none, as long as none was found."""
    if text := _string(element):
        found.setdefault("names", []).append(text)
        found.pop("name_null_flavor", None)
    elif "names" not in found and (null_flavor := element.get("nullFlavor")):
        found.setdefault("name_null_flavor", null_flavor)


_CONTACT = {"addr": _each("addresses", _address), "telecom": _each("telecoms", _telecom)}
_ROLE = {"id": _each("ids", _ii), "code": _one("code", _code)} | _CONTACT
"""What every role has."""

_organization = _reader(
    Organization,
    {
        "id": _each("ids", _ii),
        "name": _Slot(_fill_organization_name, repeats=True),
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
    Authenticator, {"time": _one("time", _value_of), "assignedEntity": _one("assigned", _assigned)}
)


def _authenticator(element: _XML) -> Authenticator:
    return _stated_authenticator(element) or Authenticator()


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
_stated_performer = _reader(
    Performer,
    {
        "functionCode": _one("function_code", _code),  # of a serviceEvent
        "sdtc:functionCode": _one("function_code", _code),  # of an entry
        "time": _one("time", _interval),
        "assignedEntity": _one("assigned", _assigned),
    },
    {"typeCode": "type_code"},
)


def _performer(element: _XML) -> Performer:
    return _stated_performer(element) or Performer()


_service_event = _reader(
    ServiceEvent,
    {
        "serviceEvent": _inside(
            {
                "id": _each("ids", _ii),
                "code": _one("code", _code),
                "effectiveTime": _one("time", _interval),
                "performer": _each("performers", _performer),
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
_stated_consent = _reader(Consent, {"consent": _inside({"id": _each("ids", _ii), "code": _one("code", _code)})})


def _consent(element: _XML) -> Consent:
    return _stated_consent(element) or Consent()


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


def _make_header(patients: Sequence[Patient] = (), language: str | None = None, **fields: Any) -> Header:
    patient, *others = patients or [Patient()]
    return Header(patient=patient, other_patients=others, language=language, **fields)


_header = _reader(
    _make_header,
    {
        "templateId": _each("template_ids", _ii),
        "id": _one("id", _ii),
        "code": _one("code", _code),
        "title": _one("title", _string),
        "effectiveTime": _one("effective_time", _value_of),
        "confidentialityCode": _one("confidentiality", _code),
        "languageCode": _one("language", _code_of),
        "setId": _one("set_id", _ii),
        "versionNumber": _one("version_number", _integer),
        "recordTarget": _inside({"patientRole": _each("patients", _patient)}, repeats=True),
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
    },
)


# --- body -----------------------------------------------------------------------------------------------------


def _narrative(element: _XML) -> list[Node]:
    nodes: list[Node] = [element.text] if element.text else []
    for child in element if len(element) else ():
        if name := _narrative_name(child.tag):
            attributes = {str(key): str(said) for key, said in child.items() if _narrative_name(str(key))}
            nodes.append(Element(name, attributes, _narrative(child)))
        if child.tail:
            previous = nodes.pop() if nodes and isinstance(nodes[-1], str) else ""
            nodes.append(f"{previous}{child.tail}")
    return nodes


@lru_cache(maxsize=256)
def _narrative_name(tag: str) -> str | None:
    """The name of a narrative element or attribute; None for one that a narrative does not have."""
    name = local_name(tag)  # gives names outside HL7 V3 a prefix
    return name if is_name(name) else None


def _fill_narrative(found: _Fields, element: _XML) -> None:
    if nodes := _narrative(element):
        found["text"] = nodes
    if text_id := element.get("ID"):
        found["text_id"] = text_id


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


def _make_statement(kind: str, class_code: str = "", negation: str = "", **fields: Any) -> Statement:
    return Statement(kind, class_code, negation=_BOOLEANS.get(negation), **fields)


def _make_relationship(
    type_code: str = "", statement: Statement | None = None, inversion: str = "", sequence_number: int | None = None
) -> Relationship | None:
    if statement is None:
        return None
    return Relationship(type_code, statement, _BOOLEANS.get(inversion), sequence_number)


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
        "performer": _each("performers", _performer),
        "author": _each("authors", _entry_author),
        "informant": _each("informants", _informant),
        "participant": _each("participants", _entry_participant),
        "reference": _each("references", _reference),
        "precondition": _each("criteria", _below("criterion", _below("text", _text))),
        "product" if kind == "supply" else "consumable": _one("product", _product),
    }
    if kind == "organizer":
        children["component"] = _each("relationships", lambda element: _component(element))
    else:
        children["entryRelationship"] = _each("relationships", lambda element: _relationship(element))
    attributes = {"classCode": "class_code", "moodCode": "mood_code", "negationInd": "negation", "ID": "xml_id"}
    return _one("statement", _reader(partial(_make_statement, kind), children, attributes))


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
_RELATION = {"typeCode": "type_code", "inversionInd": "inversion"}
_relationship = _reader(_make_relationship, _RELATED, _RELATION)
_component = _reader(partial(_make_relationship, type_code="COMP"), _RELATED, _RELATION)


def _make_entry(statement: Statement) -> Statement:
    return statement


_entry = _reader(_make_entry, _STATEMENTS)
_section: _Read[Section] = _reader(
    Section,
    {
        "section": _inside(
            {
                "templateId": _each("template_ids", _ii),
                "id": _one("id", _ii),
                "code": _one("code", _code),
                "title": _one("title", _string),
                "text": _Slot(_fill_narrative),
                "author": _each("authors", _entry_author),
                "entry": _each("entries", _entry),
                "component": _each("sections", lambda element: _section(element)),
            }
        )
    },
)
_body = _filler(
    {
        "component": _inside(
            {
                "structuredBody": _inside({"component": _each("sections", _section)}),
                "nonXMLBody": _inside({"text": _one("non_xml_body", _media)}),
            }
        )
    },
)


def _document(clinical: _XML) -> Document:
    found: _Fields = {}
    _body(found, clinical)
    return Document(_header(clinical) or _make_header(), **found)
