"""Extension URLs that the mappings read and write, and how to reach into an extension.

Sources: fr-core 2.1.0, HL7 R4 and R5 (cross-version extensions), HL7 FHIR Clinical Document 1.1.0 (header items that
only CDA has, as the ANS document guides use them), ISO 21090 address parts. `RELAIS` is the base of our own guide.
"""

from __future__ import annotations

from typing import Any

from relais.mappings.context import Resource

CANONICAL_BASE = "https://relais.example/fhir"
"""Of the definitions that Relais publishes: the guide in `ig/`."""

RELAIS = f"{CANONICAL_BASE}/StructureDefinition/"
FR_CORE = "https://hl7.fr/ig/fhir/core/StructureDefinition/"
NDE = "https://interop.esante.gouv.fr/ig/fhir/nde/StructureDefinition/"
HL7 = "http://hl7.org/fhir/StructureDefinition/"
CLINICAL_DOCUMENT = "http://hl7.org/fhir/uv/fhir-clinical-document/StructureDefinition/"

# Patient
BIRTH_GIVEN_NAMES = (
    f"{FR_CORE}fr-core-patient-birth-list-given-name"  # Patient.name; valueString: all birth given names
)
IDENTITY_RELIABILITY = f"{FR_CORE}fr-core-identity-reliability"  # Patient; sub-extension identityStatus (valueCoding)
BIRTH_PLACE = f"{HL7}patient-birthPlace"  # Patient; valueAddress
INSEE_CODE = f"{FR_CORE}fr-core-address-insee-code"  # Address; valueCoding: COG code of a commune or a country

# Composition
COMPOSITION_VERSION = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Composition.version"  # valueString
INFORMANT = (
    f"{CLINICAL_DOCUMENT}informant-extension"  # sub-extensions type (valueCodeableConcept), party (valueReference)
)
DATA_ENTERER = f"{CLINICAL_DOCUMENT}data-enterer-extension"  # type, party, time (valueDateTime)
PARTICIPANT = (
    f"{CLINICAL_DOCUMENT}ParticipantExtension"  # type, function (valueCodeableConcept), time (valuePeriod), party
)
INFORMATION_RECIPIENT = f"{CLINICAL_DOCUMENT}information-recipient-extension"  # type, party
CONSENT = f"{CLINICAL_DOCUMENT}consent-extension"  # valueReference
EVENT_BASED_ON = f"{HL7}event-basedOn"  # valueReference to a ServiceRequest: inFulfillmentOf
AUTHOR_TIME = f"{RELAIS}author-time"  # on Composition.author[n]; valueDateTime: author/time

# CarePlan and its entries
CUSTODIAN = "http://hl7.org/fhir/5.0/StructureDefinition/extension-CarePlan.custodian"  # valueReference to Organization
APPROVAL = f"{RELAIS}approval"  # CarePlan; sub-extensions who (valueReference), date (valueDateTime)
PERTAINS_TO_GOAL = f"{HL7}resource-pertainsToGoal"  # ServiceRequest, Task, Appointment; valueReference to Goal

# Appointments and notifications (volets GAP and NdE)
OPERATOR = f"{FR_CORE}fr-core-appointment-operator"  # Appointment; valueReference: who made the booking
EVENT_TYPE = f"{NDE}event-type"  # CommunicationRequest; valueCodeableConcept (JDV_J46)
EVENT_TIME = f"{NDE}event-time"  # CommunicationRequest; valueDateTime: when the event happened
EVENT_EMISSION_TIME = f"{NDE}event-emission-time"  # CommunicationRequest; valueDateTime: when it was declared
RECIPIENT_ENDPOINT = f"{NDE}recipient-endpoint"  # on CommunicationRequest.recipient; valueUrl

# Professionals and devices
ROLE_NAME = "https://interop.esante.gouv.fr/ig/fhir/annuaire/StructureDefinition/as-ext-practitionerrole-name"

# Address.line: parts of an address, by name of the CDA component
ADDRESS_PARTS = {
    "house_number": f"{HL7}iso21090-ADXP-houseNumber",
    "house_number_numeric": f"{HL7}iso21090-ADXP-buildingNumberSuffix",
    "street_name_type": f"{HL7}iso21090-ADXP-streetNameType",
    "street_name": f"{HL7}iso21090-ADXP-streetName",
    "additional_locator": f"{HL7}iso21090-ADXP-additionalLocator",
    "unit_id": f"{HL7}iso21090-ADXP-unitID",
    "post_box": f"{HL7}iso21090-ADXP-postBox",
    "precinct": f"{HL7}iso21090-ADXP-precinct",
}


def extensions(element: Resource, url: str) -> list[Resource]:
    """Every extension of `element` with that URL."""
    stated = element.get("extension")
    return [extension for extension in stated if extension.get("url") == url] if stated else []


def value(element: Resource, url: str) -> Any:
    """The value[x] of the first extension with that URL, or None."""
    for extension in element.get("extension", ()):
        if extension.get("url") == url:
            for name, content in extension.items():
                if name.startswith("value"):
                    return content
    return None
