"""Valid FHIR R4 resources of invented people, as parsed JSON; and one-fault changes of them."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

Resource = dict[str, Any]

ABSENT = object()
"""As a value for `changed`: take the property away."""


def changed(resource: Resource, place: str, value: Any) -> Resource:
    """A copy in which the property at `place` (`activity.0.detail.status`) has the value, or is gone (ABSENT)."""
    found = copy.deepcopy(resource)
    *parents, last = [int(step) if step.isdigit() else step for step in place.split(".")]
    node: Any = found
    for step in parents:
        node = node[step]
    if value is ABSENT:
        del node[last]
    elif isinstance(node, list) and last == len(node):
        node.append(value)
    else:
        node[last] = value
    return found


def concept(system: str, code: str, display: str) -> Resource:
    """A CodeableConcept with one coding."""
    return {"coding": [{"system": system, "code": code, "display": display}]}


PATIENT: Resource = {
    "resourceType": "Patient",
    "id": "pat-1",
    "meta": {"profile": ["https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-patient"]},
    "text": {
        "status": "generated",
        "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>Hélène <b>DURAND</b></p></div>',
    },
    "extension": [
        {
            "url": "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-patient-birth-place",
            "valueAddress": {"city": "Lyon", "extension": [{"url": "https://example.org/cog", "valueString": "69123"}]},
        }
    ],
    "identifier": [{"use": "official", "system": "urn:oid:1.2.250.1.213.1.4.10", "value": "279035121518989"}],
    "active": True,
    "name": [{"use": "official", "family": "DURAND", "given": ["Hélène", "Marie"], "_given": [{"id": "g1"}, None]}],
    "telecom": [{"system": "phone", "value": "+33102030405", "use": "home", "rank": 1}],
    "gender": "female",
    "birthDate": "1979-03-05",
    "_birthDate": {
        "extension": [
            {
                "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
                "valueDateTime": "1979-03-05T14:35:45+01:00",
            }
        ]
    },
    "deceasedBoolean": False,
    "address": [{"line": ["1 rue des Lilas"], "city": "Lyon", "postalCode": "69003", "period": {"start": "2020"}}],
    "contact": [{"name": {"family": "DURAND", "given": ["Paul"]}, "period": {"start": "2020-01", "end": "2030-01-01"}}],
    "generalPractitioner": [{"reference": "Practitioner/prac-1", "display": "Dr Anne MARTIN"}],
    "managingOrganization": {"reference": "https://fhir.example.org/Organization/org-1"},
}

CARE_PLAN: Resource = {
    "resourceType": "CarePlan",
    "id": "pps-1",
    "meta": {"versionId": "1", "lastUpdated": "2026-01-05T10:00:00.000+01:00"},
    "contained": [
        {
            "resourceType": "Goal",
            "id": "g1",
            "lifecycleStatus": "active",
            "description": {"text": "Marcher"},
            "subject": {"reference": "Patient/pat-1"},
        }
    ],
    "identifier": [{"system": "urn:oid:1.2.250.1.213.1.4.99", "value": "PPS-2026-1"}],
    "status": "active",
    "intent": "plan",
    "category": [concept("http://snomed.info/sct", "736373009", "Plan")],
    "title": "Plan personnalisé de santé",
    "subject": {"reference": "Patient/pat-1", "type": "Patient"},
    "period": {"start": "2026-01-05", "end": "2026-12-31"},
    "created": "2026-01-05",
    "author": {"reference": "urn:uuid:0a8b3a0e-4f3a-4c5f-9a7e-0f6f2a1b7c11"},
    "careTeam": [{"reference": "CareTeam/team-1/_history/2"}],
    "addresses": [{"reference": "Condition/cond-1"}],
    "goal": [{"reference": "#g1"}, {"identifier": {"system": "urn:oid:1.2.3", "value": "b2"}, "type": "Goal"}],
    "activity": [
        {
            "detail": {
                "kind": "ServiceRequest",
                "code": {"text": "Passage infirmier"},
                "status": "in-progress",
                "scheduledTiming": {"repeat": {"frequency": 1, "period": Decimal("1.0"), "periodUnit": "wk"}},
                "performer": [{"reference": "PractitionerRole/role-1"}],
                "dailyAmount": {"value": Decimal("2.50"), "system": "http://unitsofmeasure.org", "code": "mg"},
            }
        },
        {"reference": {"reference": "Appointment/rdv-1"}, "progress": [{"text": "Fait"}]},
    ],
}

CONDITION: Resource = {
    "resourceType": "Condition",
    "clinicalStatus": concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "Active"),
    "verificationStatus": concept(
        "http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed", "Confirmed"
    ),
    "code": concept("http://hl7.org/fhir/sid/icd-10", "I10", "Hypertension"),
    "subject": {"reference": "Patient/pat-1"},
    "onsetDateTime": "2019-06",
}

OBSERVATION: Resource = {
    "resourceType": "Observation",
    "status": "final",
    "code": concept("http://loinc.org", "29463-7", "Poids"),
    "subject": {"reference": "Patient/pat-1"},
    "effectiveDateTime": "2026-01-05T09:30:00Z",
    "valueQuantity": {"value": Decimal("61.50"), "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
    "referenceRange": [{"low": {"value": 50}, "high": {"value": 70}}],
}

APPOINTMENT: Resource = {
    "resourceType": "Appointment",
    "status": "booked",
    "priority": 0,
    "start": "2026-02-01T10:00:00+01:00",
    "end": "2026-02-01T10:30:00+01:00",
    "minutesDuration": 30,
    "participant": [{"actor": {"reference": "Patient/pat-1"}, "status": "accepted"}],
}

QUESTIONNAIRE_RESPONSE: Resource = {
    "resourceType": "QuestionnaireResponse",
    "questionnaire": "https://example.org/Questionnaire/autonomy|1.0",
    "status": "completed",
    "item": [{"linkId": "1", "item": [{"linkId": "1.1", "answer": [{"valueTime": "10:30:00"}, {"valueInteger": -3}]}]}],
}

DOCUMENT_REFERENCE: Resource = {
    "resourceType": "DocumentReference",
    "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.1.999.1"},
    "status": "current",
    "date": "2026-01-05T10:00:00Z",
    "content": [
        {
            "attachment": {
                "contentType": "text/xml",
                "url": "Binary/doc-1",
                "size": 12,
                "hash": "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
            },
            "format": {"system": "urn:oid:1.2.250.1.213.1.1.4.2.322", "code": "urn:asip:ci-sis:pps-paerpa:2021"},
        }
    ],
}

TRANSACTION: Resource = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": "urn:uuid:8fbb8f4e-6f0b-4d1a-9a5c-1d1d0b9a4c01",
            "resource": PATIENT,
            "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:oid:1.2.3|9"},
        },
        {
            "fullUrl": "urn:uuid:8fbb8f4e-6f0b-4d1a-9a5c-1d1d0b9a4c02",
            "resource": CARE_PLAN,
            "request": {"method": "PUT", "url": "CarePlan/pps-1"},
        },
    ],
}

PARAMETERS: Resource = {
    "resourceType": "Parameters",
    "parameter": [
        {"name": "plan", "resource": CARE_PLAN},
        {"name": "options", "part": [{"name": "strict", "valueBoolean": True}]},
    ],
}

SAMPLES: dict[str, Resource] = {
    sample["resourceType"]: sample
    for sample in (
        PATIENT,
        CARE_PLAN,
        CONDITION,
        OBSERVATION,
        APPOINTMENT,
        QUESTIONNAIRE_RESPONSE,
        DOCUMENT_REFERENCE,
        TRANSACTION,
        PARAMETERS,
    )
}
"""One valid resource of each of several types, by type."""
