"""The typed document model between FHIR and XML: one CDA R2 document as plain structs.

Mappings produce and consume it; only `writer` and `reader` know XML. Names follow HL7 CDA R2 in Python spelling
(`recordTarget` is `record_target`). Times are HL7 TS strings (`20260112090000+0100`) so that precision is kept as
received; `datatypes` converts them. Absent means `None` or nothing in a list, never an empty string. What most parts of
a document lack is the empty tuple, which costs nothing, where others have lists of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from relais.cda.narrative import Node


class Part(msgspec.Struct, gc=False):
    """A part of a document: a mutable struct, equal to another that says the same.

    A document is a tree, never a cycle, so the garbage collector need not look at its parts. `msgspec.structs` has
    what `dataclasses` has for dataclasses (`replace`, `fields`, `asdict`).
    """


# --- data types (HL7 V3 abstract data types, as CI-SIS restricts them) ---------------------------------------


class II(Part):
    """Instance identifier: an OID or UUID root, and an extension when the root is a domain."""

    root: str | None = None
    extension: str | None = None
    null_flavor: str | None = None


class Text(Part):
    """An ED used as text: inline `value`, or a `reference` to the narrative (`#objectif-1`)."""

    value: str | None = None
    reference: str | None = None
    null_flavor: str | None = None
    reference_null_flavor: str | None = None


class Code(Part):
    """A coded value (CD, CE, CV, CS). `system` is the OID of the code system."""

    code: str | None = None
    system: str | None = None
    display: str | None = None
    system_name: str | None = None
    system_version: str | None = None
    null_flavor: str | None = None
    original_text: Text | None = None
    translations: Sequence[Code] = ()
    qualifiers: Sequence[Qualifier] = ()


class Qualifier(Part):
    """CR: a named modifier of a CD."""

    name: Code | None = None
    value: Code | None = None


class Interval(Part):
    """IVL_TS: either one `value`, or `low`/`high`; each bound may carry its own nullFlavor."""

    value: str | None = None
    low: str | None = None
    high: str | None = None
    null_flavor: str | None = None
    low_null_flavor: str | None = None
    high_null_flavor: str | None = None


class Boolean(Part):
    """BL."""

    value: bool | None = None
    null_flavor: str | None = None


class Integer(Part):
    """INT."""

    value: int | None = None
    null_flavor: str | None = None


class Quantity(Part):
    """PQ: the number keeps its digits, so it stays a string; `unit` is UCUM."""

    value: str | None = None
    unit: str | None = None
    null_flavor: str | None = None


class String(Part):
    """ST."""

    value: str | None = None
    null_flavor: str | None = None


class Timestamp(Part):
    """TS used as an observation value."""

    value: str | None = None
    null_flavor: str | None = None


class Media(Part):
    """ED carrying bytes (Base64 in XML), or the text of a `text/*` body; `data` holds the decoded bytes."""

    media_type: str | None = None
    data: bytes | None = None
    null_flavor: str | None = None
    reference: str | None = None


class Unmodelled(Part):
    """A value of a type the model does not know: kept as its XML text so that nothing is dropped."""

    xml: str


Value = Code | Boolean | Integer | Quantity | String | Timestamp | Interval | Media | Text | Unmodelled


class NamePart(Part):
    """A family or given name; `qualifier` is BR (birth), CL (used), SP (legacy) or None."""

    text: str
    qualifier: str | None = None


class PersonName(Part):
    """PN. `prefix` is the civilité (M, MME), `suffix` the titre (DR, PR…)."""

    families: list[NamePart] = []
    givens: list[NamePart] = []
    prefix: str | None = None
    suffix: str | None = None
    text: str | None = None
    null_flavor: str | None = None


class Address(Part):
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
    lines: Sequence[str] = ()
    use: str | None = None
    null_flavor: str | None = None


class Telecom(Part):
    """TEL: `value` is a URL (`tel:+33144534551`, `mailto:…`)."""

    value: str | None = None
    use: str | None = None
    null_flavor: str | None = None


# --- header ---------------------------------------------------------------------------------------------------


class Organization(Part):
    """An organisation; `industry_class` is standardIndustryClassCode (cadre d'exercice, JDV_J04)."""

    ids: list[II] = []
    names: list[str] = []
    telecoms: list[Telecom] = []
    addresses: list[Address] = []
    industry_class: Code | None = None
    name_null_flavor: str | None = None

    @property
    def name(self) -> str | None:
        """The first name, if any."""
        return self.names[0] if self.names else None


class Device(Part):
    """A device or software. As an author CI-SIS requires both names; `code` is its category (EMDN for an implant)."""

    model_name: str | None = None
    software_name: str | None = None
    code: Code | None = None


class AssignedEntity(Part):
    """assignedEntity or assignedAuthor: a professional (or device, for an author) and the structure acted for."""

    ids: list[II] = []
    code: Code | None = None
    addresses: list[Address] = []
    telecoms: list[Telecom] = []
    person: PersonName | None = None
    device: Device | None = None
    organization: Organization | None = None


class Guardian(Part):
    """Legal representative of the patient: a person or an organisation."""

    ids: list[II] = []
    code: Code | None = None
    addresses: list[Address] = []
    telecoms: list[Telecom] = []
    person: PersonName | None = None
    organization: Organization | None = None


class Birthplace(Part):
    """birthplace/place; the INSEE COG code is `address.county`."""

    name: str | None = None
    address: Address | None = None


class Patient(Part):
    """recordTarget/patientRole with its patient."""

    ids: list[II] = []
    addresses: list[Address] = []
    telecoms: list[Telecom] = []
    name: PersonName = msgspec.field(default_factory=PersonName)
    gender: Code | None = None
    birth_time: str | None = None
    birth_time_null_flavor: str | None = None
    deceased: bool | None = None
    deceased_time: str | None = None
    multiple_birth: bool | None = None
    multiple_birth_order: int | None = None
    guardians: list[Guardian] = []
    birthplace: Birthplace | None = None


class Author(Part):
    """author: when it contributed and who (person or device)."""

    time: str | None = None
    assigned: AssignedEntity = msgspec.field(default_factory=AssignedEntity)
    function_code: Code | None = None
    time_null_flavor: str | None = None


class DataEnterer(Part):
    """dataEnterer."""

    assigned: AssignedEntity = msgspec.field(default_factory=AssignedEntity)
    time: str | None = None


class RelatedEntity(Part):
    """A relative; `class_code` is ECON (urgence), NOK (personne de confiance), CAREGIVER (aidant), CON or PAT."""

    class_code: str
    code: Code | None = None
    addresses: list[Address] = []
    telecoms: list[Telecom] = []
    name: PersonName | None = None


class Informant(Part):
    """informant: exactly one of a professional or a relative."""

    assigned: AssignedEntity | None = None
    related: RelatedEntity | None = None


class Recipient(Part):
    """informationRecipient/intendedRecipient."""

    ids: list[II] = []
    addresses: list[Address] = []
    telecoms: list[Telecom] = []
    name: PersonName | None = None
    organization: Organization | None = None
    type_code: str | None = None


class Authenticator(Part):
    """legalAuthenticator or authenticator."""

    time: str | None = None
    assigned: AssignedEntity = msgspec.field(default_factory=AssignedEntity)


class Participant(Part):
    """Header participant: `type_code` from JDV_J144, `class_code` PROV or AGNT."""

    type_code: str
    class_code: str = "PROV"
    function_code: Code | None = None
    time: Interval | None = None
    ids: list[II] = []
    code: Code | None = None
    addresses: list[Address] = []
    telecoms: list[Telecom] = []
    name: PersonName | None = None
    organization: Organization | None = None


class Order(Part):
    """inFulfillmentOf/order."""

    ids: list[II] = []
    code: Code | None = None


class Performer(Part):
    """Performer of a serviceEvent or of an entry."""

    assigned: AssignedEntity = msgspec.field(default_factory=AssignedEntity)
    type_code: str = "PRF"
    time: Interval | None = None
    function_code: Code | None = None


class ServiceEvent(Part):
    """documentationOf/serviceEvent; the first of a document is its main act."""

    ids: list[II] = []
    code: Code | None = None
    time: Interval | None = None
    performers: list[Performer] = []
    class_code: str | None = None


class RelatedDocument(Part):
    """relatedDocument: CI-SIS allows RPLC only."""

    parent_ids: list[II] = []
    type_code: str = "RPLC"
    parent_set_id: II | None = None
    parent_version: int | None = None


class Consent(Part):
    """authorization/consent; its status is always `completed`."""

    ids: list[II] = []
    code: Code | None = None


class HealthCareFacility(Part):
    """location/healthCareFacility; `code` is the secteur d'activité (JDV_J02)."""

    ids: list[II] = []
    code: Code | None = None
    name: str | None = None
    address: Address | None = None


class EncounterParticipant(Part):
    """encounterParticipant, JDV_J140."""

    type_code: str
    assigned: AssignedEntity = msgspec.field(default_factory=AssignedEntity)
    time: Interval | None = None


class EncompassingEncounter(Part):
    """componentOf/encompassingEncounter."""

    ids: list[II] = []
    code: Code | None = None
    time: Interval | None = None
    discharge_disposition: Code | None = None
    responsible: AssignedEntity | None = None
    participants: list[EncounterParticipant] = []
    facility: HealthCareFacility | None = None


class Header(Part):
    """The CI-SIS header (structuration minimale, template 1.2.250.1.213.1.1.1.1), in document order.

    `other_patients` are those of further recordTargets, which CDA allows and CI-SIS does not.
    """

    template_ids: list[II] = []
    id: II = msgspec.field(default_factory=II)
    code: Code = msgspec.field(default_factory=Code)
    title: str | None = None
    effective_time: str | None = None
    confidentiality: Code | None = None
    language: str | None = "fr-FR"
    set_id: II | None = None
    version_number: int | None = None
    patient: Patient = msgspec.field(default_factory=Patient)
    other_patients: list[Patient] = []
    authors: list[Author] = []
    data_enterer: DataEnterer | None = None
    informants: list[Informant] = []
    custodian: Organization = msgspec.field(default_factory=Organization)
    recipients: list[Recipient] = []
    legal_authenticator: Authenticator | None = None
    authenticators: list[Authenticator] = []
    participants: list[Participant] = []
    orders: list[Order] = []
    service_events: list[ServiceEvent] = []
    related_documents: list[RelatedDocument] = []
    consents: list[Consent] = []
    encounter: EncompassingEncounter | None = None


# --- body -----------------------------------------------------------------------------------------------------


class EntryAuthor(Part):
    """author inside an entry or a section."""

    assigned: AssignedEntity = msgspec.field(default_factory=AssignedEntity)
    time: str | None = None
    time_null_flavor: str | None = None


class EntryParticipant(Part):
    """participant inside an entry (FR-Participant and others): a role, an entity that plays it, one that scopes it."""

    type_code: str
    template_ids: list[II] = []
    time: Interval | None = None
    role_class: str | None = None
    ids: list[II] = []
    code: Code | None = None
    addresses: list[Address] = []
    telecoms: list[Telecom] = []
    entity_class: str | None = None
    entity_code: Code | None = None
    name: PersonName | None = None
    description: str | None = None
    scoping_id: II | None = None
    scoping_description: str | None = None
    device: Device | None = None


class Product(Part):
    """consumable or product: manufacturedProduct/manufacturedMaterial, a medicine."""

    template_ids: list[II] = []
    code: Code | None = None
    name: str | None = None


class ExternalReference(Part):
    """reference/externalDocument, externalAct or externalObservation; `type_code` is REFR, SPRT…"""

    type_code: str
    ids: list[II] = []
    code: Code | None = None
    text: Text | None = None
    kind: str = "externalDocument"
    set_id: II | None = None
    version_number: int | None = None


class Relationship(Part):
    """entryRelationship, or component of an organizer (`type_code` COMP)."""

    type_code: str
    statement: Statement
    inversion: bool | None = None
    sequence_number: int | None = None


class Statement(Part):
    """A clinical statement. `kind` is the element name: observation, act, encounter, organizer, procedure,
    substanceAdministration, supply, observationMedia. Fields stand in the order of the schema."""

    kind: str
    class_code: str
    mood_code: str | None = None
    negation: bool | None = None
    xml_id: str | None = None
    template_ids: Sequence[II] = ()
    ids: Sequence[II] = ()
    code: Code | None = None
    text: Text | None = None
    status: str | None = None
    time: Interval | None = None
    priority: Code | None = None
    language: str | None = None
    values: Sequence[Value] = ()
    interpretations: Sequence[Code] = ()
    methods: Sequence[Code] = ()
    target_sites: Sequence[Code] = ()
    performers: Sequence[Performer] = ()
    authors: Sequence[EntryAuthor] = ()
    informants: Sequence[Informant] = ()
    participants: Sequence[EntryParticipant] = ()
    relationships: Sequence[Relationship] = ()
    references: Sequence[ExternalReference] = ()
    criteria: Sequence[Text] = ()
    product: Product | None = None
    of_another: bool = False  # read only: a `subject` says that it is about somebody else than the patient


class Section(Part):
    """A section: coded title, narrative (the text a human signs), entries, subsections.

    `text_id` is the ID of the whole narrative, when an entry points to it rather than to a part.
    """

    template_ids: list[II] = []
    id: II | None = None
    code: Code | None = None
    title: str | None = None
    text: list[Node] = []
    entries: list[Statement] = []
    sections: list[Section] = []
    authors: list[EntryAuthor] = []
    text_id: str | None = None
    of_another: bool = False  # read only, as of a Statement


class Document(Part):
    """A whole document: header, and either sections (N3) or an unstructured body (N1).

    `self_displaying`: it was read inside the style sheet that shows it (*auto-présentable*); it is written without.
    """

    header: Header
    sections: list[Section] = []
    non_xml_body: Media | None = None
    self_displaying: bool = False
