"""Reads any CI-SIS CDA R2 document into the document model, and says what the model cannot hold.

Tolerant: official rules judge a document, not its reader. Element names and order are those of HL7 CDA R2 with the
extensions of ANS. Comments, processing instructions and schema locations are no content and are passed over.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from lxml import etree

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
from relais.cda.parsing import V3, XSI, local_name, parse
from relais.cda.writer import write

__all__ = ["ReadDocument", "parse", "read"]

_XML = etree._Element
_Part = TypeVar("_Part")

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_WHITE_SPACE = " \t\r\n"
_STYLE_SHEET = "{http://www.w3.org/1999/XSL/Transform}stylesheet"
_SELF_DISPLAYED = f"{{urn:asip-sante:ci-sis}}Contenu/{{{V3}}}ClinicalDocument"
_XSI_TYPE = f"{{{XSI}}}type"
_STATEMENTS = (
    "observation",
    "act",
    "encounter",
    "organizer",
    "procedure",
    "substanceAdministration",
    "supply",
    "observationMedia",
)
_EXTERNALS = ("externalDocument", "externalAct", "externalObservation", "externalProcedure")


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


# --- XML access -----------------------------------------------------------------------------------------------


class _Parts:
    """The children of an element by name (`sdtc:` prefixed for that namespace), in document order."""

    __slots__ = ("_by_name",)

    def __init__(self, element: _XML | None) -> None:
        self._by_name: dict[str, list[_XML]] = {}
        for child in element if element is not None else ():
            name = local_name(child.tag)
            if name in self._by_name:
                self._by_name[name].append(child)
            else:
                self._by_name[name] = [child]

    def first(self, name: str) -> _XML | None:
        found = self._by_name.get(name)
        return found[0] if found else None

    def every(self, name: str, read_one: Callable[[_XML], _Part | None]) -> list[_Part]:
        """What `read_one` makes of each child of that name; a child that says nothing is left out."""
        found = self._by_name.get(name)
        return [part for element in found if (part := read_one(element)) is not None] if found else []

    def within(self, *names: str) -> _Parts:
        """The parts of a descendant: the first child of the first name, its first child of the second…"""
        parts = self
        for name in names:
            parts = _parts(parts.first(name))
        return parts


_NO_PARTS = _Parts(None)


def _parts(element: _XML | None) -> _Parts:
    return _NO_PARTS if element is None or not len(element) else _Parts(element)


_NOTHING: dict[type, object] = {
    type(part): part
    for part in (
        *(II(), Code(), Qualifier(), Text(), Interval(), PersonName(), Address(), Telecom(), Media()),
        *(Quantity(), String(), Boolean(), Integer(), Timestamp(), Birthplace(), Order(), ServiceEvent(), Section()),
        *(Organization(), Device(), AssignedEntity(), RelatedEntity(""), Author(), EntryAuthor(AssignedEntity())),
        *(Informant(), Guardian(), DataEnterer(AssignedEntity()), Recipient(), Participant("", ""), Product()),
        *(RelatedDocument([], ""), EncompassingEncounter(), EncounterParticipant("", AssignedEntity())),
        *(HealthCareFacility(), EntryParticipant(""), Patient()),
    )
}
"""What an empty element would give, by type: never handed out."""


def _said(part: _Part) -> _Part | None:
    """The part; None when it says nothing."""
    return None if part == _NOTHING[type(part)] else part


def _get(element: _XML | None, name: str) -> str | None:
    return (element.get(name) or None) if element is not None else None


def _value_of(element: _XML | None) -> str | None:
    return _get(element, "value")


def _string(element: _XML | None) -> str | None:
    """The text of an element, white space at its ends removed; that of a mixed element without its children's."""
    if element is None:
        return None
    if not len(element):
        return (element.text or "").strip(_WHITE_SPACE) or None
    pieces = [element.text, *(child.tail for child in element)]
    return " ".join(stripped for piece in pieces if piece and (stripped := piece.strip(_WHITE_SPACE))) or None


def _integer(text: str | None) -> int | None:
    return int(text) if text and _INTEGER.fullmatch(text) else None


def _boolean(text: str | None) -> bool | None:
    return _BOOLEANS.get(text) if text else None


# --- data types -----------------------------------------------------------------------------------------------


def _ii(element: _XML | None) -> II | None:
    if element is None:
        return None
    root, extension, null_flavor = element.get("root"), element.get("extension"), element.get("nullFlavor")
    return II(root or None, extension or None, null_flavor or None) if root or extension or null_flavor else None


def _code(element: _XML | None) -> Code | None:
    if element is None:
        return None
    get = element.get
    code = Code(
        code=get("code") or None,
        system=get("codeSystem") or None,
        display=get("displayName") or None,
        system_name=get("codeSystemName") or None,
        system_version=get("codeSystemVersion") or None,
        null_flavor=get("nullFlavor") or None,
    )
    if len(element):
        parts = _Parts(element)
        code.original_text = _text(parts.first("originalText"))
        code.translations = parts.every("translation", _code)
        code.qualifiers = parts.every("qualifier", _qualifier)
    return _said(code)


def _qualifier(element: _XML) -> Qualifier | None:
    parts = _parts(element)
    return _said(Qualifier(_code(parts.first("name")), _code(parts.first("value"))))


def _text(element: _XML | None) -> Text | None:
    if element is None:
        return None
    reference = _parts(element).first("reference")
    text = Text(
        value=_string(element),
        reference=_value_of(reference),
        null_flavor=_get(element, "nullFlavor"),
        reference_null_flavor=_get(reference, "nullFlavor"),
    )
    return _said(text)


def _interval(element: _XML | None) -> Interval | None:
    if element is None:
        return None
    parts = _parts(element)
    low, high = parts.first("low"), parts.first("high")
    interval = Interval(
        value=_value_of(element),
        low=_value_of(low),
        high=_value_of(high),
        null_flavor=_get(element, "nullFlavor"),
        low_null_flavor=_get(low, "nullFlavor"),
        high_null_flavor=_get(high, "nullFlavor"),
    )
    return _said(interval)


def _name(element: _XML | None) -> PersonName | None:
    if element is None:
        return None
    parts = _parts(element)
    name = PersonName(
        families=parts.every("family", _name_part),
        givens=parts.every("given", _name_part),
        prefix=_string(parts.first("prefix")),
        suffix=_string(parts.first("suffix")),
        text=_string(element),
        null_flavor=_get(element, "nullFlavor"),
    )
    return _said(name)


def _name_part(element: _XML) -> NamePart | None:
    text = _string(element)
    return NamePart(text, _get(element, "qualifier")) if text else None


def _address(element: _XML | None) -> Address | None:
    if element is None:
        return None
    address = Address(use=_get(element, "use"), null_flavor=_get(element, "nullFlavor"))
    parts = _parts(element)
    for name, field in _ADDRESS_PARTS.items():
        if (part := parts.first(name)) is not None:
            setattr(address, field, _string(part))
    address.lines = parts.every("streetAddressLine", _string)
    return _said(address)


_ADDRESS_PARTS = {
    "houseNumber": "house_number",
    "houseNumberNumeric": "house_number_numeric",
    "streetNameType": "street_name_type",
    "streetName": "street_name",
    "additionalLocator": "additional_locator",
    "unitID": "unit_id",
    "postBox": "post_box",
    "precinct": "precinct",
    "postalCode": "postal_code",
    "city": "city",
    "state": "state",
    "county": "county",
    "country": "country",
}
"""Component of an address → field of the model."""


def _telecom(element: _XML) -> Telecom | None:
    return _said(Telecom(_value_of(element), _get(element, "use"), _get(element, "nullFlavor")))


def _media(element: _XML) -> Media | None:
    media = Media(
        media_type=_get(element, "mediaType"),
        data=_payload(element),
        null_flavor=_get(element, "nullFlavor"),
        reference=_value_of(_parts(element).first("reference")),
    )
    return _said(media)


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


def _quantity(element: _XML) -> Quantity | None:
    return _said(Quantity(_value_of(element), _get(element, "unit"), _get(element, "nullFlavor")))


_VALUES: dict[str, Callable[[_XML], Value | None]] = {
    "CD": _code,
    "CE": _code,
    "CV": _code,
    "CS": _code,
    "ED": _encapsulated,
    "IVL_TS": _interval,
    "PQ": _quantity,
    "ST": lambda element: _said(String(_string(element), _get(element, "nullFlavor"))),
    "BL": lambda element: _said(Boolean(_boolean(_value_of(element)), _get(element, "nullFlavor"))),
    "INT": lambda element: _said(Integer(_integer(_value_of(element)), _get(element, "nullFlavor"))),
    "TS": lambda element: _said(Timestamp(_value_of(element), _get(element, "nullFlavor"))),
}


# --- people and organisations ---------------------------------------------------------------------------------


def _organization(element: _XML | None) -> Organization | None:
    if element is None:
        return None
    parts = _parts(element)
    names = parts.every("name", _string)
    organization = Organization(
        ids=parts.every("id", _ii),
        names=names,
        telecoms=parts.every("telecom", _telecom),
        addresses=parts.every("addr", _address),
        industry_class=_code(parts.first("standardIndustryClassCode")),
        name_null_flavor=None if names else _get(parts.first("name"), "nullFlavor"),
    )
    return _said(organization)


def _person(element: _XML | None) -> PersonName | None:
    return _name(_parts(element).first("name"))


def _device(element: _XML | None) -> Device | None:
    parts = _parts(element)
    device = Device(
        model_name=_string(parts.first("manufacturerModelName")),
        software_name=_string(parts.first("softwareName")),
        code=_code(parts.first("code")),
    )
    return _said(device)


def _assigned(element: _XML | None) -> AssignedEntity | None:
    parts = _parts(element)
    assigned = AssignedEntity(
        ids=parts.every("id", _ii),
        code=_code(parts.first("code")),
        addresses=parts.every("addr", _address),
        telecoms=parts.every("telecom", _telecom),
        person=_person(parts.first("assignedPerson")),
        device=_device(parts.first("assignedAuthoringDevice")),
        organization=_organization(parts.first("representedOrganization")),
    )
    return _said(assigned)


def _assigned_or_empty(element: _XML | None) -> AssignedEntity:
    return _assigned(element) or AssignedEntity()


def _related(element: _XML | None) -> RelatedEntity | None:
    if element is None:
        return None
    parts = _parts(element)
    related = RelatedEntity(
        class_code=element.get("classCode", ""),
        code=_code(parts.first("code")),
        addresses=parts.every("addr", _address),
        telecoms=parts.every("telecom", _telecom),
        name=_person(parts.first("relatedPerson")),
    )
    return _said(related)


def _author(element: _XML) -> Author | None:
    parts = _parts(element)
    time = parts.first("time")
    author = Author(
        time=_value_of(time),
        assigned=_assigned_or_empty(parts.first("assignedAuthor")),
        function_code=_code(parts.first("functionCode")),
        time_null_flavor=_get(time, "nullFlavor"),
    )
    return _said(author)


def _entry_author(element: _XML) -> EntryAuthor | None:
    parts = _parts(element)
    time = parts.first("time")
    author = EntryAuthor(
        assigned=_assigned_or_empty(parts.first("assignedAuthor")),
        time=_value_of(time),
        time_null_flavor=_get(time, "nullFlavor"),
    )
    return _said(author)


def _informant(element: _XML) -> Informant | None:
    parts = _parts(element)
    informant = Informant(_assigned(parts.first("assignedEntity")), _related(parts.first("relatedEntity")))
    return _said(informant)


# --- header ---------------------------------------------------------------------------------------------------


def _document(root: _XML) -> Document:
    parts = _parts(root)
    body = parts.within("component")
    text = body.within("nonXMLBody").first("text")
    return Document(
        header=_header(parts),
        sections=body.within("structuredBody").every("component", _section_component),
        non_xml_body=_media(text) if text is not None else None,
    )


def _header(parts: _Parts) -> Header:
    targets = parts.every("recordTarget", lambda element: _parts(element).every("patientRole", _patient))
    patient, *others = list(chain.from_iterable(targets)) or [Patient()]
    return Header(
        template_ids=parts.every("templateId", _ii),
        id=_ii(parts.first("id")) or II(),
        code=_code(parts.first("code")) or Code(),
        title=_string(parts.first("title")),
        effective_time=_value_of(parts.first("effectiveTime")),
        confidentiality=_code(parts.first("confidentialityCode")),
        language=_get(parts.first("languageCode"), "code"),
        set_id=_ii(parts.first("setId")),
        version_number=_integer(_value_of(parts.first("versionNumber"))),
        patient=patient,
        other_patients=others,
        authors=parts.every("author", _author),
        data_enterer=_data_enterer(parts.first("dataEnterer")),
        informants=parts.every("informant", _informant),
        custodian=_organization(
            parts.within("custodian", "assignedCustodian").first("representedCustodianOrganization")
        )
        or Organization(),
        recipients=parts.every("informationRecipient", _recipient),
        legal_authenticator=_authenticator(parts.first("legalAuthenticator")),
        authenticators=parts.every("authenticator", _authenticator),
        participants=parts.every("participant", _participant),
        orders=parts.every("inFulfillmentOf", _order),
        service_events=parts.every("documentationOf", _service_event),
        related_documents=parts.every("relatedDocument", _related_document),
        consents=parts.every("authorization", _consent),
        encounter=_encounter(parts.within("componentOf").first("encompassingEncounter")),
    )


def _patient(element: _XML) -> Patient | None:
    role = _parts(element)
    parts = role.within("patient")
    birth_time = parts.first("birthTime")
    patient = Patient(
        ids=role.every("id", _ii),
        addresses=role.every("addr", _address),
        telecoms=role.every("telecom", _telecom),
        name=_name(parts.first("name")) or PersonName(),
        gender=_code(parts.first("administrativeGenderCode")),
        birth_time=_value_of(birth_time),
        birth_time_null_flavor=_get(birth_time, "nullFlavor"),
        deceased=_boolean(_value_of(parts.first("sdtc:deceasedInd"))),
        deceased_time=_value_of(parts.first("sdtc:deceasedTime")),
        multiple_birth=_boolean(_value_of(parts.first("sdtc:multipleBirthInd"))),
        multiple_birth_order=_integer(_value_of(parts.first("sdtc:multipleBirthOrderNumber"))),
        guardians=parts.every("guardian", _guardian),
        birthplace=_birthplace(parts.within("birthplace").first("place")),
    )
    return _said(patient)


def _guardian(element: _XML) -> Guardian | None:
    parts = _parts(element)
    guardian = Guardian(
        ids=parts.every("id", _ii),
        code=_code(parts.first("code")),
        addresses=parts.every("addr", _address),
        telecoms=parts.every("telecom", _telecom),
        person=_person(parts.first("guardianPerson")),
        organization=_organization(parts.first("guardianOrganization")),
    )
    return _said(guardian)


def _birthplace(place: _XML | None) -> Birthplace | None:
    parts = _parts(place)
    return _said(Birthplace(_string(parts.first("name")), _address(parts.first("addr"))))


def _data_enterer(element: _XML | None) -> DataEnterer | None:
    parts = _parts(element)
    enterer = DataEnterer(_assigned_or_empty(parts.first("assignedEntity")), _value_of(parts.first("time")))
    return _said(enterer)


def _custodian(parts: _Parts) -> Organization | None:
    return _organization(parts.first("representedCustodianOrganization"))


def _recipient(element: _XML) -> Recipient | None:
    parts = _parts(element).within("intendedRecipient")
    recipient = Recipient(
        ids=parts.every("id", _ii),
        addresses=parts.every("addr", _address),
        telecoms=parts.every("telecom", _telecom),
        name=_person(parts.first("informationRecipient")),
        organization=_organization(parts.first("receivedOrganization")),
        type_code=_get(element, "typeCode"),
    )
    return _said(recipient)


def _authenticator(element: _XML | None) -> Authenticator | None:
    if element is None:
        return None
    parts = _parts(element)
    return Authenticator(_value_of(parts.first("time")), _assigned_or_empty(parts.first("assignedEntity")))


def _participant(element: _XML) -> Participant | None:
    parts = _parts(element)
    entity = parts.first("associatedEntity")
    role = _parts(entity)
    participant = Participant(
        type_code=element.get("typeCode", ""),
        class_code=_get(entity, "classCode") or "",
        function_code=_code(parts.first("functionCode")),
        time=_interval(parts.first("time")),
        ids=role.every("id", _ii),
        code=_code(role.first("code")),
        addresses=role.every("addr", _address),
        telecoms=role.every("telecom", _telecom),
        name=_person(role.first("associatedPerson")),
        organization=_organization(role.first("scopingOrganization")),
    )
    return _said(participant)


def _order(element: _XML) -> Order | None:
    parts = _parts(element).within("order")
    return _said(Order(parts.every("id", _ii), _code(parts.first("code"))))


def _service_event(element: _XML) -> ServiceEvent | None:
    event = _parts(element).first("serviceEvent")
    parts = _parts(event)
    service_event = ServiceEvent(
        ids=parts.every("id", _ii),
        code=_code(parts.first("code")),
        time=_interval(parts.first("effectiveTime")),
        performers=parts.every("performer", _performer),
        class_code=_get(event, "classCode"),
    )
    return _said(service_event)


def _performer(element: _XML) -> Performer | None:
    """Of a serviceEvent or of an entry, where the function is sdtc:functionCode and typeCode has PRF as default."""
    parts = _parts(element)
    function = parts.first("functionCode")
    return Performer(
        assigned=_assigned_or_empty(parts.first("assignedEntity")),
        type_code=_get(element, "typeCode") or "PRF",
        time=_interval(parts.first("time")),
        function_code=_code(function if function is not None else parts.first("sdtc:functionCode")),
    )


def _related_document(element: _XML) -> RelatedDocument | None:
    parts = _parts(element).within("parentDocument")
    related = RelatedDocument(
        parent_ids=parts.every("id", _ii),
        type_code=element.get("typeCode", ""),
        parent_set_id=_ii(parts.first("setId")),
        parent_version=_integer(_value_of(parts.first("versionNumber"))),
    )
    return _said(related)


def _consent(element: _XML) -> Consent:
    parts = _parts(element).within("consent")
    return Consent(parts.every("id", _ii), _code(parts.first("code")))


def _encounter(element: _XML | None) -> EncompassingEncounter | None:
    parts = _parts(element)
    encounter = EncompassingEncounter(
        ids=parts.every("id", _ii),
        code=_code(parts.first("code")),
        time=_interval(parts.first("effectiveTime")),
        discharge_disposition=_code(parts.first("dischargeDispositionCode")),
        responsible=_assigned(parts.within("responsibleParty").first("assignedEntity")),
        participants=parts.every("encounterParticipant", _encounter_participant),
        facility=_facility(parts.within("location").first("healthCareFacility")),
    )
    return _said(encounter)


def _encounter_participant(element: _XML) -> EncounterParticipant | None:
    parts = _parts(element)
    participant = EncounterParticipant(
        type_code=element.get("typeCode", ""),
        assigned=_assigned_or_empty(parts.first("assignedEntity")),
        time=_interval(parts.first("time")),
    )
    return _said(participant)


def _facility(element: _XML | None) -> HealthCareFacility | None:
    parts = _parts(element)
    location = parts.within("location")
    facility = HealthCareFacility(
        ids=parts.every("id", _ii),
        code=_code(parts.first("code")),
        name=_string(location.first("name")),
        address=_address(location.first("addr")),
    )
    return _said(facility)


# --- body -----------------------------------------------------------------------------------------------------


def _section_component(element: _XML) -> Section | None:
    parts = _parts(element).within("section")
    text = parts.first("text")
    section = Section(
        template_ids=parts.every("templateId", _ii),
        id=_ii(parts.first("id")),
        code=_code(parts.first("code")),
        title=_string(parts.first("title")),
        text=_narrative(text) if text is not None else [],
        entries=parts.every("entry", _entry),
        sections=parts.every("component", _section_component),
        authors=parts.every("author", _entry_author),
        text_id=_get(text, "ID"),
    )
    return _said(section)


def _narrative(element: _XML) -> list[Node]:
    nodes: list[Node] = [element.text] if element.text else []
    for child in element:
        name = local_name(str(child.tag))
        if is_name(name):  # local_name gives names outside HL7 V3 a prefix
            attributes = {str(key): str(value) for key, value in child.items() if is_name(str(key))}
            nodes.append(Element(name, attributes, _narrative(child)))
        if child.tail:
            previous = nodes.pop() if nodes and isinstance(nodes[-1], str) else ""
            nodes.append(f"{previous}{child.tail}")
    return nodes


def _entry(element: _XML) -> Statement | None:
    """The first statement below an entry, an entryRelationship or an organizer's component."""
    parts = _parts(element)
    return next((_statement(child, kind) for kind in _STATEMENTS if (child := parts.first(kind)) is not None), None)


def _statement(element: _XML, kind: str) -> Statement | None:
    parts = _parts(element)
    statement = Statement(
        kind=kind,
        class_code=element.get("classCode", ""),
        mood_code=_get(element, "moodCode"),
        negation=_boolean(_get(element, "negationInd")),
        xml_id=_get(element, "ID"),
        template_ids=parts.every("templateId", _ii),
        ids=parts.every("id", _ii),
        code=_code(parts.first("code")),
        text=_text(parts.first("sdtc:text" if kind == "organizer" else "text")),
        status=_get(parts.first("statusCode"), "code"),
        time=_interval(parts.first("effectiveTime")),
        priority=_code(parts.first("priorityCode")),
        language=_get(parts.first("languageCode"), "code"),
        values=parts.every("value", _media if kind == "observationMedia" else _value),
        interpretations=parts.every("interpretationCode", _code),
        methods=parts.every("methodCode", _code),
        target_sites=parts.every("targetSiteCode", _code),
        performers=parts.every("performer", _performer),
        authors=parts.every("author", _entry_author),
        informants=parts.every("informant", _informant),
        participants=parts.every("participant", _entry_participant),
        relationships=parts.every("component" if kind == "organizer" else "entryRelationship", _relationship),
        references=parts.every("reference", _reference),
        criteria=parts.every("precondition", _criterion),
        product=_product(parts.first("product" if kind == "supply" else "consumable")),
    )
    return None if statement == Statement(kind, "") else statement


def _relationship(element: _XML) -> Relationship | None:
    statement = _entry(element)
    if statement is None:
        return None
    return Relationship(
        type_code=element.get("typeCode", "COMP" if local_name(str(element.tag)) == "component" else ""),
        statement=statement,
        inversion=_boolean(_get(element, "inversionInd")),
        sequence_number=_integer(_value_of(_parts(element).first("sequenceNumber"))),
    )


def _entry_participant(element: _XML) -> EntryParticipant | None:
    parts = _parts(element)
    role_element = parts.first("participantRole")
    role = _parts(role_element)
    entity, scoping = role.within("playingEntity"), role.within("scopingEntity")
    participant = EntryParticipant(
        type_code=element.get("typeCode", ""),
        template_ids=parts.every("templateId", _ii),
        time=_interval(parts.first("time")),
        role_class=_get(role_element, "classCode"),
        ids=role.every("id", _ii),
        code=_code(role.first("code")),
        addresses=role.every("addr", _address),
        telecoms=role.every("telecom", _telecom),
        entity_class=_get(role.first("playingEntity"), "classCode"),
        entity_code=_code(entity.first("code")),
        name=_name(entity.first("name")),
        description=_string(entity.first("desc")),
        scoping_id=_ii(scoping.first("id")),
        scoping_description=_string(scoping.first("desc")),
        device=_device(role.first("playingDevice")),
    )
    return _said(participant)


def _reference(element: _XML) -> ExternalReference | None:
    children = _parts(element)
    kind = next((kind for kind in _EXTERNALS if children.first(kind) is not None), None)
    if kind is None:
        return None
    parts = children.within(kind)
    reference = ExternalReference(
        type_code=element.get("typeCode", ""),
        ids=parts.every("id", _ii),
        code=_code(parts.first("code")),
        text=_text(parts.first("text")),
        kind=kind,
        set_id=_ii(parts.first("setId")),
        version_number=_integer(_value_of(parts.first("versionNumber"))),
    )
    return None if reference == ExternalReference("", kind=kind) else reference


def _criterion(element: _XML) -> Text | None:
    return _text(_parts(element).within("criterion").first("text"))


def _product(element: _XML | None) -> Product | None:
    parts = _parts(element).within("manufacturedProduct")
    material = parts.within("manufacturedMaterial")
    product = Product(
        template_ids=parts.every("templateId", _ii),
        code=_code(material.first("code")),
        name=_string(material.first("name")),
    )
    return _said(product)
