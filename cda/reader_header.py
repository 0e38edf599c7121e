"""Reads the header of a document (CI-SIS Structuration minimale), in the order in which it stands there."""

from __future__ import annotations

from functools import partial

from relais.cda.model import (
    Authenticator,
    Birthplace,
    Consent,
    DataEnterer,
    EncompassingEncounter,
    EncounterParticipant,
    Guardian,
    HealthCareFacility,
    Order,
    Participant,
    Patient,
    Recipient,
    RelatedDocument,
    ServiceEvent,
)
from relais.cda.reader_parties import CONTACT, ROLE, assigned, author, event_performer, informant, organization, person
from relais.cda.reader_tables import XML, Account, Read, below, each, inside, moment, one, reader, same
from relais.cda.reader_types import address, boolean, code, code_of, ii, integer, interval, name, string, value_of

_guardian = reader(
    Guardian,
    {"guardianPerson": one("person", person), "guardianOrganization": one("organization", organization)} | ROLE,
)
_birthplace = reader(Birthplace, {"name": one("name", string), "addr": one("address", address)})
_patient = reader(
    Patient,
    {
        "id": each("ids", ii),
        "patient": inside(
            {
                "name": one("name", name),
                "administrativeGenderCode": one("gender", code),
                "birthTime": moment("birth_time", "birth_time_null_flavor"),
                "sdtc:deceasedInd": one("deceased", boolean),
                "sdtc:deceasedTime": one("deceased_time", value_of),
                "sdtc:multipleBirthInd": one("multiple_birth", boolean),
                "sdtc:multipleBirthOrderNumber": one("multiple_birth_order", integer),
                "guardian": each("guardians", _guardian),
                "birthplace": one("birthplace", below("place", _birthplace)),
            }
        ),
    }
    | CONTACT,
)
_stated_record_target: Read[list[Patient]] = reader(same, {"patientRole": each("part", _patient)})


def _record_target(element: XML, account: Account) -> list[Patient] | None:
    """The patients of one recordTarget, which `write` gives one each."""
    patients = _stated_record_target(element, account)
    if patients and len(patients) > 1:
        account.is_complete = False
    return patients


_data_enterer = reader(DataEnterer, {"time": one("time", value_of), "assignedEntity": one("assigned", assigned)})
_recipient = reader(
    Recipient,
    {
        "intendedRecipient": inside(
            {
                "id": each("ids", ii),
                "informationRecipient": one("name", person),
                "receivedOrganization": one("organization", organization),
            }
            | CONTACT
        )
    },
    {"typeCode": "type_code"},
)
_stated_authenticator = reader(
    Authenticator,
    {"time": one("time", value_of), "assignedEntity": one("assigned", assigned)},
    supposed={"signatureCode": {"code": "S"}},
)


def _authenticator(element: XML, account: Account) -> Authenticator:
    return _stated_authenticator(element, account) or Authenticator()


_participant = reader(
    partial(Participant, type_code="", class_code=""),
    {
        "functionCode": one("function_code", code),
        "time": one("time", interval),
        "associatedEntity": inside(
            {"associatedPerson": one("name", person), "scopingOrganization": one("organization", organization)} | ROLE,
            {"classCode": "class_code"},
        ),
    },
    {"typeCode": "type_code"},
)
_order = reader(Order, {"order": inside({"id": each("ids", ii), "code": one("code", code)})})
_service_event = reader(
    ServiceEvent,
    {
        "serviceEvent": inside(
            {
                "id": each("ids", ii),
                "code": one("code", code),
                "effectiveTime": one("time", interval),
                "performer": event_performer,
            },
            {"classCode": "class_code"},
        )
    },
)
_related_document = reader(
    partial(RelatedDocument, type_code=""),
    {
        "parentDocument": inside(
            {
                "id": each("parent_ids", ii),
                "setId": one("parent_set_id", ii),
                "versionNumber": one("parent_version", integer),
            }
        )
    },
    {"typeCode": "type_code"},
)
_stated_consent = reader(
    Consent,
    {
        "consent": inside(
            {"id": each("ids", ii), "code": one("code", code)}, supposed={"statusCode": {"code": "completed"}}
        )
    },
)


def _consent(element: XML, account: Account) -> Consent:
    stated = _stated_consent(element, account)
    if stated is None:
        account.is_complete = False
    return stated or Consent()


_facility = reader(
    HealthCareFacility,
    {
        "id": each("ids", ii),
        "code": one("code", code),
        "location": inside({"name": one("name", string), "addr": one("address", address)}),
    },
)
_encounter_participant = reader(
    partial(EncounterParticipant, type_code=""),
    {"time": one("time", interval), "assignedEntity": one("assigned", assigned)},
    {"typeCode": "type_code"},
)
_encounter = reader(
    EncompassingEncounter,
    {
        "id": each("ids", ii),
        "code": one("code", code),
        "effectiveTime": one("time", interval),
        "dischargeDispositionCode": one("discharge_disposition", code),
        "responsibleParty": one("responsible", below("assignedEntity", assigned)),
        "encounterParticipant": each("participants", _encounter_participant),
        "location": one("facility", below("healthCareFacility", _facility)),
    },
)


HEADER = {
    "templateId": each("template_ids", ii),
    "id": one("id", ii),
    "code": one("code", code),
    "title": one("title", string),
    "effectiveTime": one("effective_time", value_of),
    "confidentialityCode": one("confidentiality", code),
    "languageCode": one("language", code_of),
    "setId": one("set_id", ii),
    "versionNumber": one("version_number", integer),
    "recordTarget": each("record_targets", _record_target),
    "author": each("authors", author),
    "dataEnterer": one("data_enterer", _data_enterer),
    "informant": each("informants", informant),
    "custodian": inside(
        {"assignedCustodian": inside({"representedCustodianOrganization": one("custodian", organization)})}
    ),
    "informationRecipient": each("recipients", _recipient),
    "legalAuthenticator": one("legal_authenticator", _authenticator),
    "authenticator": each("authenticators", _authenticator),
    "participant": each("participants", _participant),
    "inFulfillmentOf": each("orders", _order),
    "documentationOf": each("service_events", _service_event),
    "relatedDocument": each("related_documents", _related_document),
    "authorization": each("consents", _consent),
    "componentOf": one("encounter", below("encompassingEncounter", _encounter)),
}
