"""The typed document model between FHIR and XML: one CDA R2 document as plain dataclasses.

Mappings produce and consume it; only `writer` and `reader` know XML. Names follow HL7 CDA R2 in Python spelling
(`recordTarget` is `record_target`). Times are HL7 TS strings (`20260112090000+0100`) so that precision is kept as
received; `datatypes` converts them. Absent means `None` or an empty list, never an empty string.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relais.cda.narrative import Node

# --- data types (HL7 V3 abstract data types, as CI-SIS restricts them) ---------------------------------------


@dataclass(slots=True)
class II:
    """Instance identifier: an OID or UUID root, and an extension when the root is a domain."""

    root: str | None = None
    extension: str | None = None
    null_flavor: str | None = None


@dataclass(slots=True)
class Text:
    """An ED used as text: inline `value`, or a `reference` to the narrative (`#objectif-1`)."""

    value: str | None = None
    reference: str | None = None
    null_flavor: str | None = None
    reference_null_flavor: str | None = None


@dataclass(slots=True)
class Code:
    """A coded value (CD, CE, CV, CS). `system` is the OID of the code system."""

    code: str | None = None
    system: str | None = None
    display: str | None = None
    system_name: str | None = None
    system_version: str | None = None
    null_flavor: str | None = None
    original_text: Text | None = None
    translations: list[Code] = field(default_factory=list)
    qualifiers: list[Qualifier] = field(default_factory=list)


@dataclass(slots=True)
class Qualifier:
    """CR: a named modifier of a CD."""

    name: Code | None = None
    value: Code | None = None


@dataclass(slots=True)
class Interval:
    """IVL_TS: either one `value`, or `low`/`high`; each bound may carry its own nullFlavor."""

    value: str | None = None
    low: str | None = None
    high: str | None = None
    null_flavor: str | None = None
    low_null_flavor: str | None = None
    high_null_flavor: str | None = None


@dataclass(slots=True)
class Boolean:
    """BL."""

    value: bool | None = None
    null_flavor: str | None = None


@dataclass(slots=True)
class Integer:
    """INT."""

    value: int | None = None
    null_flavor: str | None = None


@dataclass(slots=True)
class Quantity:
    """PQ: the number keeps its digits, so it stays a string; `unit` is UCUM."""

    value: str | None = None
    unit: str | None = None
    null_flavor: str | None = None


@dataclass(slots=True)
class String:
    """ST."""

    value: str | None = None
    null_flavor: str | None = None


@dataclass(slots=True)
class Timestamp:
    """TS used as an observation value."""

    value: str | None = None
    null_flavor: str | None = None


@dataclass(slots=True)
class Media:
    """ED carrying bytes (Base64 in XML), or the text of a `text/*` body; `data` holds the decoded bytes."""

    media_type: str | None = None
    data: bytes | None = None
    null_flavor: str | None = None
    reference: str | None = None


@dataclass(slots=True)
class Unmodelled:
    """A value of a type the model does not know: kept as its XML text so that nothing is dropped."""

    xml: str


Value = Code | Boolean | Integer | Quantity | String | Timestamp | Interval | Media | Text | Unmodelled


@dataclass(slots=True)
class NamePart:
    """A family or given name; `qualifier` is BR (birth), CL (used), SP (legacy) or None."""

    text: str
    qualifier: str | None = None


@dataclass(slots=True)
class PersonName:
    """PN. `prefix` is the civilité (M, MME), `suffix` the titre (DR, PR…)."""

    families: list[NamePart] = field(default_factory=list)
    givens: list[NamePart] = field(default_factory=list)
    prefix: str | None = None
    suffix: str | None = None
    text: str | None = None
    null_flavor: str | None = None


@dataclass(slots=True)
class Address:
    """AD: structured components, or `lines` (streetAddressLine), never both (CI-SIS)."""

    house_number: str | None = None
    house_number_numeric: str | None = None
    street_name_type: str | None = None
    street_name: str | None = None
    additional_locator: str | None = None
    unit_id: str | None = None
    post_box: str | None = None
    precinct: str | None = None
    postal_code: str | None = None
    city: str | None = None
    state: str | None = None
    county: str | None = None
    country: str | None = None
    lines: list[str] = field(default_factory=list)
    use: str | None = None
    null_flavor: str | None = None


@dataclass(slots=True)
class Telecom:
    """TEL: `value` is a URL (`tel:+33144534551`, `mailto:…`)."""

    value: str | None = None
    use: str | None = None
    null_flavor: str | None = None


# --- header ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Organization:
    """An organisation; `industry_class` is standardIndustryClassCode (cadre d'exercice, JDV_J04)."""

    ids: list[II] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    telecoms: list[Telecom] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)
    industry_class: Code | None = None
    name_null_flavor: str | None = None

    @property
    def name(self) -> str | None:
        """The first name, if any."""
        return self.names[0] if self.names else None


@dataclass(slots=True)
class Device:
    """A device or software. As an author CI-SIS requires both names; `code` is its category (EMDN for an implant)."""

    model_name: str | None = None
    software_name: str | None = None
    code: Code | None = None


@dataclass(slots=True)
class AssignedEntity:
    """assignedEntity or assignedAuthor: a professional (or device, for an author) and the structure acted for."""

    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    addresses: list[Address] = field(default_factory=list)
    telecoms: list[Telecom] = field(default_factory=list)
    person: PersonName | None = None
    device: Device | None = None
    organization: Organization | None = None


@dataclass(slots=True)
class Guardian:
    """Legal representative of the patient: a person or an organisation."""

    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    addresses: list[Address] = field(default_factory=list)
    telecoms: list[Telecom] = field(default_factory=list)
    person: PersonName | None = None
    organization: Organization | None = None


@dataclass(slots=True)
class Birthplace:
    """birthplace/place; the INSEE COG code is `address.county`."""

    name: str | None = None
    address: Address | None = None


@dataclass(slots=True)
class Patient:
    """recordTarget/patientRole with its patient."""

    ids: list[II] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)
    telecoms: list[Telecom] = field(default_factory=list)
    name: PersonName = field(default_factory=PersonName)
    gender: Code | None = None
    birth_time: str | None = None
    birth_time_null_flavor: str | None = None
    deceased: bool | None = None
    deceased_time: str | None = None
    multiple_birth: bool | None = None
    multiple_birth_order: int | None = None
    guardians: list[Guardian] = field(default_factory=list)
    birthplace: Birthplace | None = None


@dataclass(slots=True)
class Author:
    """author: when it contributed and who (person or device)."""

    time: str | None = None
    assigned: AssignedEntity = field(default_factory=AssignedEntity)
    function_code: Code | None = None
    time_null_flavor: str | None = None


@dataclass(slots=True)
class DataEnterer:
    """dataEnterer."""

    assigned: AssignedEntity = field(default_factory=AssignedEntity)
    time: str | None = None


@dataclass(slots=True)
class RelatedEntity:
    """A relative; `class_code` is ECON (urgence), NOK (personne de confiance), CAREGIVER (aidant), CON or PAT."""

    class_code: str
    code: Code | None = None
    addresses: list[Address] = field(default_factory=list)
    telecoms: list[Telecom] = field(default_factory=list)
    name: PersonName | None = None


@dataclass(slots=True)
class Informant:
    """informant: exactly one of a professional or a relative."""

    assigned: AssignedEntity | None = None
    related: RelatedEntity | None = None


@dataclass(slots=True)
class Recipient:
    """informationRecipient/intendedRecipient."""

    ids: list[II] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)
    telecoms: list[Telecom] = field(default_factory=list)
    name: PersonName | None = None
    organization: Organization | None = None
    type_code: str | None = None


@dataclass(slots=True)
class Authenticator:
    """legalAuthenticator or authenticator."""

    time: str | None = None
    assigned: AssignedEntity = field(default_factory=AssignedEntity)


@dataclass(slots=True)
class Participant:
    """Header participant: `type_code` from JDV_J144, `class_code` PROV or AGNT."""

    type_code: str
    class_code: str = "PROV"
    function_code: Code | None = None
    time: Interval | None = None
    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    addresses: list[Address] = field(default_factory=list)
    telecoms: list[Telecom] = field(default_factory=list)
    name: PersonName | None = None
    organization: Organization | None = None


@dataclass(slots=True)
class Order:
    """inFulfillmentOf/order."""

    ids: list[II] = field(default_factory=list)
    code: Code | None = None


@dataclass(slots=True)
class Performer:
    """Performer of a serviceEvent or of an entry."""

    assigned: AssignedEntity = field(default_factory=AssignedEntity)
    type_code: str = "PRF"
    time: Interval | None = None
    function_code: Code | None = None


@dataclass(slots=True)
class ServiceEvent:
    """documentationOf/serviceEvent; the first of a document is its main act."""

    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    time: Interval | None = None
    performers: list[Performer] = field(default_factory=list)
    class_code: str | None = None


@dataclass(slots=True)
class RelatedDocument:
    """relatedDocument: CI-SIS allows RPLC only."""

    parent_ids: list[II] = field(default_factory=list)
    type_code: str = "RPLC"
    parent_set_id: II | None = None
    parent_version: int | None = None


@dataclass(slots=True)
class Consent:
    """authorization/consent; its status is always `completed`."""

    ids: list[II] = field(default_factory=list)
    code: Code | None = None


@dataclass(slots=True)
class HealthCareFacility:
    """location/healthCareFacility; `code` is the secteur d'activité (JDV_J02)."""

    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    name: str | None = None
    address: Address | None = None


@dataclass(slots=True)
class EncounterParticipant:
    """encounterParticipant, JDV_J140."""

    type_code: str
    assigned: AssignedEntity = field(default_factory=AssignedEntity)
    time: Interval | None = None


@dataclass(slots=True)
class EncompassingEncounter:
    """componentOf/encompassingEncounter."""

    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    time: Interval | None = None
    discharge_disposition: Code | None = None
    responsible: AssignedEntity | None = None
    participants: list[EncounterParticipant] = field(default_factory=list)
    facility: HealthCareFacility | None = None


@dataclass(slots=True)
class Header:
    """The CI-SIS header (structuration minimale, template 1.2.250.1.213.1.1.1.1), in document order.

    `other_patients` are those of further recordTargets, which CDA allows and CI-SIS does not.
    """

    template_ids: list[II] = field(default_factory=list)
    id: II = field(default_factory=II)
    code: Code = field(default_factory=Code)
    title: str | None = None
    effective_time: str | None = None
    confidentiality: Code | None = None
    language: str | None = "fr-FR"
    set_id: II | None = None
    version_number: int | None = None
    patient: Patient = field(default_factory=Patient)
    other_patients: list[Patient] = field(default_factory=list)
    authors: list[Author] = field(default_factory=list)
    data_enterer: DataEnterer | None = None
    informants: list[Informant] = field(default_factory=list)
    custodian: Organization = field(default_factory=Organization)
    recipients: list[Recipient] = field(default_factory=list)
    legal_authenticator: Authenticator | None = None
    authenticators: list[Authenticator] = field(default_factory=list)
    participants: list[Participant] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    service_events: list[ServiceEvent] = field(default_factory=list)
    related_documents: list[RelatedDocument] = field(default_factory=list)
    consents: list[Consent] = field(default_factory=list)
    encounter: EncompassingEncounter | None = None


# --- body -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class EntryAuthor:
    """author inside an entry or a section."""

    assigned: AssignedEntity = field(default_factory=AssignedEntity)
    time: str | None = None
    time_null_flavor: str | None = None


@dataclass(slots=True)
class EntryParticipant:
    """participant inside an entry (FR-Participant and others): a role, an entity that plays it, one that scopes it."""

    type_code: str
    template_ids: list[II] = field(default_factory=list)
    time: Interval | None = None
    role_class: str | None = None
    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    addresses: list[Address] = field(default_factory=list)
    telecoms: list[Telecom] = field(default_factory=list)
    entity_class: str | None = None
    entity_code: Code | None = None
    name: PersonName | None = None
    description: str | None = None
    scoping_id: II | None = None
    scoping_description: str | None = None
    device: Device | None = None


@dataclass(slots=True)
class Product:
    """consumable or product: manufacturedProduct/manufacturedMaterial, a medicine."""

    template_ids: list[II] = field(default_factory=list)
    code: Code | None = None
    name: str | None = None


@dataclass(slots=True)
class ExternalReference:
    """reference/externalDocument, externalAct or externalObservation; `type_code` is REFR, SPRT…"""

    type_code: str
    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    text: Text | None = None
    kind: str = "externalDocument"
    set_id: II | None = None
    version_number: int | None = None


@dataclass(slots=True)
class Relationship:
    """entryRelationship, or component of an organizer (`type_code` COMP)."""

    type_code: str
    statement: Statement
    inversion: bool | None = None
    sequence_number: int | None = None


@dataclass(slots=True)
class Statement:
    """A clinical statement. `kind` is the element name: observation, act, encounter, organizer, procedure,
    substanceAdministration, supply, observationMedia. Fields stand in the order of the schema."""

    kind: str
    class_code: str
    mood_code: str | None = None
    negation: bool | None = None
    xml_id: str | None = None
    template_ids: list[II] = field(default_factory=list)
    ids: list[II] = field(default_factory=list)
    code: Code | None = None
    text: Text | None = None
    status: str | None = None
    time: Interval | None = None
    priority: Code | None = None
    language: str | None = None
    values: list[Value] = field(default_factory=list)
    interpretations: list[Code] = field(default_factory=list)
    methods: list[Code] = field(default_factory=list)
    target_sites: list[Code] = field(default_factory=list)
    performers: list[Performer] = field(default_factory=list)
    authors: list[EntryAuthor] = field(default_factory=list)
    informants: list[Informant] = field(default_factory=list)
    participants: list[EntryParticipant] = field(default_factory=list)
    relationships: list[Relationship] = field(default_factory=list)
    references: list[ExternalReference] = field(default_factory=list)
    criteria: list[Text] = field(default_factory=list)
    product: Product | None = None


@dataclass(slots=True)
class Section:
    """A section: coded title, narrative (the text a human signs), entries, subsections.

    `text_id` is the ID of the whole narrative, when an entry points to it rather than to a part.
    """

    template_ids: list[II] = field(default_factory=list)
    id: II | None = None
    code: Code | None = None
    title: str | None = None
    text: list[Node] = field(default_factory=list)
    entries: list[Statement] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    authors: list[EntryAuthor] = field(default_factory=list)
    text_id: str | None = None


@dataclass(slots=True)
class Document:
    """A whole document: header, and either sections (N3) or an unstructured body (N1).

    `self_displaying`: it was read inside the style sheet that shows it (*auto-présentable*); it is written without.
    """

    header: Header
    sections: list[Section] = field(default_factory=list)
    non_xml_body: Media | None = None
    self_displaying: bool = False
