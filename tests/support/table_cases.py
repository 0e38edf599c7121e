"""Invented Bundles that state what those of `plans`, `appointments` and `notifications` leave to defaults: with them,
every row of the mapping tables has an example."""

from __future__ import annotations

import copy
from typing import Any

from relais.mappings import extensions
from support.appointments import AGENDAS
from support.notifications import NOTICES
from support.plans import LOINC, PLAN_NUMBERS, R02, Plan, concept, full_plan, minimal_plan

Resource = dict[str, Any]

PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
LOINC_PLAN = concept(LOINC, "18776-5")


def _composed() -> Resource:
    """A document Bundle whose Composition says everything otherwise than its plan and the emitter would."""
    plan = full_plan("composed")
    keeper = plan.organization("keeper", "Groupement du Val", "910023456")
    signer = plan.practitioner("signer", "SAULE", "Anne", "10100000068", structure=keeper)
    doer = plan.practitioner("doer", "FRÊNE", "Luc", "10100000076", structure=keeper)
    plan["doer-person"]["address"] = [{"line": ["3 quai du Port"], "city": "ÉVRY"}]
    plan["keeper"] |= {
        "telecom": [{"system": "phone", "value": "0160000000"}],
        "address": [{"line": ["1 place du Val"], "city": "ÉVRY"}],
    }
    plan["nurse-person"]["address"] = [{"line": ["4 rue du Bac"], "city": "ÉVRY"}]
    plan["sister"]["address"] = [{"line": ["2 rue du Lac"], "city": "ÉVRY"}]
    place = plan.add(
        "place",
        "Location",
        identifier=[{"system": "https://finess.esante.gouv.fr", "value": "910024561"}],
        name="Clinique du Val",
        type=[concept(R02, "SA01")],
        address={"line": ["5 rue du Val"], "city": "ÉVRY"},
    )
    encounter = plan.add(
        "encounter",
        "Encounter",
        status="finished",
        identifier=[{"system": PLAN_NUMBERS, "value": "SEJ-1"}],
        subject=plan.ref("patient"),
        period={"start": "2026-01-05", "end": "2026-01-10"},
        hospitalization={"dischargeDisposition": concept("urn:oid:1.2.250.1.213.2.14", "8", "Domicile")},
        location=[{"location": place}],
        participant=[
            {"type": [concept(PARTICIPATION, "RESP")], "individual": signer},
            {"type": [concept(PARTICIPATION, "ATND")], "individual": doer},
        ],
        **{"class": {"system": ACT_CODE, "code": "IMP"}},
    )
    _composition(plan, keeper, signer, doer, encounter)
    bundle = plan.bundle()
    bundle["entry"].insert(0, bundle["entry"].pop())
    for entry in bundle["entry"]:
        del entry["request"]
    number = {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.1.999.77.2"}
    return bundle | {"type": "document", "identifier": number, "timestamp": "2026-02-10T10:00:00+01:00"}


def _composition(plan: Plan, keeper: Resource, signer: Resource, doer: Resource, encounter: Resource) -> None:
    role = concept(PARTICIPATION, "PRF")
    written = {"url": extensions.AUTHOR_TIME, "valueDateTime": "2026-02-09T08:00:00Z"}
    plan.add(
        "composition",
        "Composition",
        language="en-GB",
        identifier={"system": PLAN_NUMBERS, "value": "LIGNEE-1"},
        status="final",
        type=concept(LOINC, "34112-3"),
        subject=plan.ref("patient"),
        encounter=encounter,
        date="2026-02-10T10:00:00+01:00",
        author=[plan.ref("nurse") | {"extension": [written]}],
        title="Plan partagé",
        confidentiality="R",
        attester=[
            {"mode": "legal", "time": "2026-02-10T09:00:00Z", "party": signer},
            {"mode": "professional", "time": "2026-02-10T09:30:00Z", "party": doer},
        ],
        custodian=keeper,
        relatesTo=[
            {
                "code": "replaces",
                "targetIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.1.999.77.1"},
            }
        ],
        event=[
            {"code": [LOINC_PLAN], "period": {"start": "2026-01-15", "end": "2026-02-15"}, "detail": [doer]},
            {"code": [concept(LOINC, "34117-2", "Bilan")], "period": {"start": "2026-01-20"}},
        ],
        section=[{"title": "Plan", "entry": [plan.ref("plan")]}],
        extension=[
            {"url": extensions.COMPOSITION_VERSION, "valueString": "2"},
            _taking_part(extensions.DATA_ENTERER, concept(PARTICIPATION, "ENT"), plan.ref("coordinator")),
            _taking_part(extensions.INFORMANT, concept(PARTICIPATION, "INF"), plan.ref("sister")),
            _taking_part(extensions.INFORMATION_RECIPIENT, concept(PARTICIPATION, "PRCP"), plan.ref("pharmacist")),
            _taking_part(extensions.PARTICIPANT, role, plan.ref("coordinator")),
            {
                "url": extensions.EVENT_BASED_ON,
                "valueReference": {
                    "type": "ServiceRequest",
                    "identifier": {"system": PLAN_NUMBERS, "value": "DEMANDE-1"},
                },
            },
        ],
    )


def _taking_part(url: str, kind: Resource, party: Resource) -> Resource:
    return {
        "url": url,
        "extension": [{"url": "type", "valueCodeableConcept": kind}, {"url": "party", "valueReference": party}],
    }


def _kept_by_the_team() -> Resource:
    plan = full_plan("kept-by-team")
    plan["plan"]["extension"] = plan["plan"]["extension"][1:]
    plan["plan"]["meta"] = {
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]
    }
    plan["plan"]["title"] = "Plan de Dominique"
    plan["plan"]["period"]["end"] = "2026-12-31"
    plan["team"]["participant"][1]["onBehalfOf"] = plan.ref("dac")
    return plan.bundle()


def _person(**elements: Any) -> Resource:
    plan = minimal_plan("person")
    plan["patient"] |= elements
    return plan.bundle()


def _device() -> Resource:
    plan = minimal_plan("device-model")
    device = plan.add(
        "software",
        "Device",
        deviceName=[{"name": "Logiciel de coordination", "type": "user-friendly-name"}],
        modelNumber="4.2",
        identifier=[{"system": "urn:oid:1.2.250.1.999.7", "value": "LC-1"}],
        owner=plan.ref("cabinet"),
    )
    plan["plan"]["contributor"] = [device]
    return plan.bundle()


def _qualified() -> Resource:
    plan = minimal_plan("qualified")
    role = plan["doctor"]
    plan["doctor-person"]["qualification"] = [{"code": code} for code in role.pop("code")]
    plan["doctor-person"]["telecom"] = [{"system": "phone", "value": "0160000001"}]
    return plan.bundle()


def _periods() -> Resource:
    plan = minimal_plan("periods")
    plan.condition(
        "asthma",
        concept("http://hl7.org/fhir/sid/icd-10", "J45", "Asthme"),
        onsetPeriod={"start": "2019-05"},
        abatementPeriod={"start": "2025-01-02"},
    )
    plan["asthma"]["clinicalStatus"]["coding"][0]["code"] = "resolved"
    plan.add(
        "directive",
        "Observation",
        status="final",
        code=concept(LOINC, "42348-3"),
        subject=plan.ref("patient"),
        effectivePeriod={"start": "2024-06-01"},
        valueBoolean=True,
    )
    return plan.bundle()


def _outcomes() -> Resource:
    plan = minimal_plan("outcomes")
    plan.action("walk", "Marcher chaque jour", plan.ref("goal-1"))
    for key, words in (("half", "À mi-chemin"), ("done", "Marche une heure")):
        plan.observation(key, "ORG-012", valueString=words, effectiveDateTime="2026-02-20")
    plan["plan"].pop("supportingInfo")
    plan["goal-1"]["outcomeReference"] = [plan.ref("half")]
    plan["plan"]["activity"][0]["outcomeReference"] = [plan.ref("done")]
    return plan.bundle()


def _changed(bundle: Resource, resource_type: str, **elements: Any) -> Resource:
    changed = copy.deepcopy(bundle)
    for entry in changed["entry"]:
        if entry["resource"]["resourceType"] == resource_type:
            entry["resource"] |= elements
    return changed


RESTRICTED = {"security": [{"system": CONFIDENTIALITY, "code": "R"}]}

PLAN_CASES: dict[str, Resource] = {
    "composed": _composed(),
    "kept-by-the-team": _kept_by_the_team(),
    "address-in-words": _person(address=[{"use": "temp", "text": "Chez sa sœur\n3 rue des Lilas"}]),
    "date-of-death": _person(deceasedDateTime="2026-02-20", multipleBirthInteger=2),
    "alive": _person(deceasedBoolean=False, multipleBirthBoolean=True),
    "device-with-model": _device(),
    "qualified": _qualified(),
    "periods": _periods(),
    "outcomes": _outcomes(),
}
AGENDA_CASES: dict[str, Resource] = {
    "restricted": _changed(AGENDAS["minimal"], "Appointment", meta=RESTRICTED),
}
NOTICE_CASES: dict[str, Resource] = {
    "suspended": _changed(
        NOTICES["discharge"],
        "CommunicationRequest",
        status="on-hold",
        statusReason={"text": "Sortie reportée"},
        reasonReference=[{"display": "Chute à domicile"}],
    ),
}

WITHDRAWN = _changed(
    NOTICES["discharge"], "CommunicationRequest", status="revoked", statusReason={"text": "Déclarée par erreur"}
)
"""A notification that is withdrawn: the next version of one that was sent."""
