"""Invented event notifications (volet NdE) as FHIR transaction Bundles: `NOTICES` holds varied ones by name.

A CommunicationRequest carries its patient and its people as contained resources, as the volet wants; a Communication
refers to stored ones. `notices()` generates more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from relais.mappings import extensions, terminology
from relais.mappings.context import Emission, Mapped
from relais.mappings.identity import FINESS, RPPS
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda.notification import notification_document
from support.appointments import PDF, base64_of
from support.plans import DEPLOYMENT, LOINC, NOW, R02, R216, R260, SNOMED, Plan, concept, dates, texts

Resource = dict[str, Any]

NUMBERS = "urn:oid:1.2.250.1.999.42.4"
R254 = f"{terminology.NOS}TRE_R254-TypeEvenement/FHIR/TRE-R254-TypeEvenement"
R200 = f"{terminology.NOS}TRE_R200-CanalCommunication/FHIR/TRE-R200-CanalCommunication"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ENCOUNTER_CLASS = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

EMISSION = Emission(
    replace(DEPLOYMENT, responsible_rpps="10101234567", responsible_family="ORME", responsible_given="Claire"), NOW
)
"""An emitter that names who answers for what no professional declares."""


def contained_patient() -> Resource:
    """The patient of the plans, as a contained resource `pat`."""
    plan = Plan("contained")
    plan.patient()
    return plan["patient"] | {"id": "pat"}


def hospital() -> Resource:
    """The structure that declares an event, contained as `org`."""
    return {
        "resourceType": "Organization",
        "id": "org",
        "identifier": [{"system": FINESS, "value": "910020254"}],
        "type": [concept(R02, "SA01")],
        "name": "Hôpital des Ormes",
    }


def doctor(key: str = "doc") -> Resource:
    """A professional, contained."""
    return {
        "resourceType": "Practitioner",
        "id": key,
        "identifier": [{"system": RPPS, "value": "10100000019"}],
        "name": [{"family": "LEFRANC", "given": ["Isabelle"], "prefix": ["Mme"]}],
        "qualification": [{"code": concept(terminology.TRE_G15, "60")}],
    }


def sister() -> Resource:
    """A relative of the patient, contained as `rel`."""
    return {
        "resourceType": "RelatedPerson",
        "id": "rel",
        "patient": {"reference": "#pat"},
        "relationship": [concept(R260, "CAREGIVER"), concept(R216, "SIS")],
        "name": [{"family": "NESSI", "given": ["Sophie"]}],
        "telecom": [{"system": "phone", "value": "06 47 15 01 00", "use": "mobile"}],
    }


def event(code: str | None = "SOR", time: str | None = "2026-02-28T14:00:00+01:00") -> list[Resource]:
    """The extensions that say which event, and when."""
    found: list[Resource] = []
    if code:
        found.append({"url": extensions.EVENT_TYPE, "valueCodeableConcept": concept(R254, code)})
    if time:
        found.append({"url": extensions.EVENT_TIME, "valueDateTime": time})
    return found


def endpoint(reference: str, url: str) -> Resource:
    """A recipient and where to reach it."""
    return {"reference": reference, "extension": [{"url": extensions.RECIPIENT_ENDPOINT, "valueUrl": url}]}


def request(*contained: Resource, **changes: Any) -> Resource:
    """A CommunicationRequest: the discharge of the patient, declared by a hospital, and who is referred to.

    A change to None takes an element away.
    """
    elements: Resource = {
        "resourceType": "CommunicationRequest",
        "identifier": [{"system": NUMBERS, "value": "NDE-1"}],
        "extension": event(),
        "status": "active",
        "subject": {"reference": "#pat"},
        "requester": {"reference": "#org"},
        "authoredOn": "2026-02-28T15:00:00+01:00",
        "payload": [{"contentString": "Sortie de la personne ce jour à 14 h."}],
    }
    stated = {name: value for name, value in (elements | changes).items() if value is not None}
    people = [contained_patient(), hospital(), *contained]
    return stated | {"contained": [one for one in people if f"'#{one['id']}'" in str([stated, contained])]}


def text_attachment(text: str, **more: Any) -> Resource:
    """A payload of words in text/plain."""
    return {"contentAttachment": {"contentType": "text/plain; charset=utf-8", "data": base64_of(text.encode()), **more}}


def bundle_of(*resources: Resource) -> Resource:
    """A transaction Bundle."""
    entries = [
        {"resource": copy.deepcopy(one), "request": {"method": "POST", "url": one["resourceType"]}} for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def notify(bundle: Resource, emission: Emission = EMISSION, **options: Any) -> Mapped:
    """The document of the only notification of a Bundle."""
    resources = ResourceSet.of_bundle(bundle)
    (source,) = [*resources.of_type("CommunicationRequest"), *resources.of_type("Communication")]
    return notification_document(source, resources, emission, **options)


# --- notifications ------------------------------------------------------------------------------------------------


def _admission(**period: str) -> Resource:
    encounter = {
        "resourceType": "Encounter",
        "id": "stay",
        "identifier": [{"system": NUMBERS, "value": "SEJ-1"}],
        "status": "in-progress",
        "class": {"system": ENCOUNTER_CLASS, "code": "EMER"},
        "subject": {"reference": "#pat"},
        "period": {"start": "2026-02-27T22:10:00+01:00"} | period,
    }
    return bundle_of(
        request(
            encounter,
            extension=event("ADM", "2026-02-27T22:10:00+01:00"),
            encounter={"reference": "#stay"},
            priority="stat",
            reasonCode=[{"text": "Chute à domicile"}],
        )
    )


def _order() -> Resource:
    emission = {"url": extensions.EVENT_EMISSION_TIME, "valueDateTime": "2026-02-28T14:30:00+01:00"}
    return bundle_of(
        request(
            sister(),
            extension=[*event(), emission],
            basedOn=[{"reference": "Subscription/s1", "type": "Subscription"}],
            medium=[concept(R200, "3")],
            recipient=[endpoint("#rel", "mailto:mailto:sophie@exemple.fr")],
        ),
        {
            "resourceType": "Subscription",
            "id": "s1",
            "status": "active",
            "reason": "x",
            "criteria": "CommunicationRequest?",
            "channel": {"type": "email"},
        },
    )


def _deposit() -> Resource:
    letter = {
        "resourceType": "DocumentReference",
        "id": "letter",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.1.999.42.78.1"},
        "status": "current",
        "type": concept(LOINC, "34133-9", "Synthèse d'épisode de soins"),
        "description": "Lettre de liaison à la sortie",
        "content": [{"attachment": {"contentType": "application/pdf", "url": "https://dmp.example/doc/78"}}],
    }
    return bundle_of(request(letter, extension=event("DOC"), payload=[{"contentReference": {"reference": "#letter"}}]))


def _attachments() -> Resource:
    payload = [
        {"contentString": "Première ligne\nSeconde ligne"},
        text_attachment("Été à l'hôpital : « revoir » le 3/03"),
        text_attachment("Consignes de retour", title="Consignes"),
        {
            "contentAttachment": {
                "contentType": "application/pdf",
                "data": base64_of(PDF),
                "title": "Lettre de sortie",
                "creation": "2026-02-28",
                "size": len(PDF),
            }
        },
        {
            "contentAttachment": {
                "contentType": "text/plain",
                "data": base64_of("Tracé".encode("cp1252")),
                "title": "Trace",
            }
        },
        {"contentAttachment": {"url": "https://hopital.example/plan", "title": "Plan d'accès"}},
        {"contentReference": {"display": "Le carnet de suivi papier"}},
    ]
    return bundle_of(request(payload=payload, note=[{"text": "Aidante prévenue"}, {"text": "Taxi réservé"}]))


def _stored(**changes: Any) -> Resource:
    """A Communication between stored professionals."""
    plan = Plan("stored")
    patient = plan.patient()
    structure = plan.organization("cabinet", "Cabinet infirmier des Lilas", "910019447")
    nurse = plan.practitioner("nurse", "LEFRANC", "Isabelle", "10100000019", ("60", None), structure)
    other = plan.practitioner("doctor", "ORME", "Claire", "10101234567", structure=structure)
    elements: Resource = {
        "identifier": [{"system": NUMBERS, "value": "COM-1"}],
        "status": "completed",
        "category": [concept(R254, "NOT", "Note")],
        "subject": patient,
        "sender": nurse,
        "recipient": [other, structure, patient, {"display": "Service d'aide à domicile"}],
        "sent": "2026-02-28T18:00:00+01:00",
        "received": "2026-02-28T18:05:00+01:00",
        "payload": [{"contentString": "Plaie propre, pansement refait."}],
    }
    plan.add("note", "Communication", **{k: v for k, v in (elements | changes).items() if v is not None})
    return plan.bundle()


NOTICES: dict[str, Resource] = {
    "discharge": bundle_of(request()),
    "admission": _admission(),
    "one-day-stay": _admission(start="2026-02-27", end="2026-02-27"),
    "order": _order(),
    "deposit": _deposit(),
    "attachments": _attachments(),
    "note": _stored(),
    "note-restricted": _stored(meta={"security": [{"system": CONFIDENTIALITY, "code": "R"}]}),
    "note-about": _stored(about=[{"display": "Pansement du talon"}], topic={"text": "Suivi de plaie"}),
    "by-professional": bundle_of(request(doctor(), requester={"reference": "#doc"})),
    "by-professional-for-structure": bundle_of(
        request(doctor(), requester={"reference": "#doc"}, sender={"reference": "#org"})
    ),
    "device-event": bundle_of(request(extension=event("POS", "2026-02-20"))),
    "announced": bundle_of(request(extension=event("SOR", "2026-03-04T10:00:00+01:00"))),
    "period": bundle_of(
        request(
            extension=event("ADM", None),
            occurrencePeriod={"start": "2026-02-20T08:00:00+01:00", "end": "2026-02-21T12:00:00+01:00"},
        )
    ),
    "emission-only": bundle_of(request(extension=event("DOC", None), payload=[{"contentString": "Document déposé"}])),
    "on-hold": bundle_of(
        request(status="on-hold", priority="routine", statusReason={"text": "Accord de la personne attendu"})
    ),
    "to-professional": bundle_of(
        request(doctor(), recipient=[endpoint("#doc", "mailto:isabelle.lefranc@exemple.mssante.fr")])
    ),
    "to-structure": bundle_of(request(recipient=[endpoint("#org", "https://hopital.example/fhir")])),
    "prescribed": bundle_of(
        request(
            {
                "resourceType": "ServiceRequest",
                "id": "order",
                "identifier": [{"system": NUMBERS, "value": "PRESC-1"}],
                "status": "active",
                "intent": "order",
                "code": concept(SNOMED, "16310003", "Échographie"),
                "subject": {"reference": "#pat"},
            },
            basedOn=[{"reference": "#order"}],
        )
    ),
    "markup": bundle_of(request(payload=[{"contentString": '<b>1 & 2</b> "x" ]]> <!-- -->\r\nfin'}])),
    "by-relative": bundle_of(request(sister(), requester={"reference": "#rel"})),
    "silent": bundle_of(request(payload=None)),
}
"""Every notification by name; the Bundles are shared, change a copy."""


# --- generated notifications --------------------------------------------------------------------------------------

_payloads: list[Callable[[str], Resource]] = [
    lambda text: {"contentString": text},
    text_attachment,
    lambda text: {"contentAttachment": {"contentType": "application/pdf", "data": base64_of(PDF), "title": text}},
    lambda text: {"contentAttachment": {"url": "https://documents.example/1", "title": text}},
    lambda text: {"contentReference": {"display": text}},
]


@st.composite
def notices(draw: st.DrawFn) -> Resource:
    """Bundles of one legal CommunicationRequest."""
    code = draw(st.sampled_from(sorted(terminology.value_set("J46"))))
    changes: Resource = {
        "extension": event(code, draw(dates)),
        "payload": [draw(st.sampled_from(_payloads))(draw(texts)) for _ in range(draw(st.integers(0, 4)))] or None,
        "note": [{"text": draw(texts)} for _ in range(draw(st.integers(0, 2)))] or None,
        "priority": draw(st.sampled_from([None, "routine", "urgent", "asap", "stat"])),
        "recipient": [{"display": draw(texts)}] if draw(st.booleans()) else None,
        "status": draw(st.sampled_from(["active", "completed", "on-hold"])),
    }
    return bundle_of(request(**changes))
