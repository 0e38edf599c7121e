"""Each native invariant on an element that keeps it and one that breaks it, beside a FHIRPath engine's verdict."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import fhirpathpy
import pytest
from fhirpathpy.models import models
from hypothesis import given
from hypothesis import strategies as st

from relais.profiles import definitions
from relais.profiles.invariants import COMPUTABLE_NAME, PREDICATES, not_after
from relais.profiles.structure import check
from support.r4_samples import concept

Node = dict[str, Any]

UCUM = "http://unitsofmeasure.org"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
ALLERGY_CLINICAL = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
ALLERGY_VERIFICATION = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
CATEGORY = "http://terminology.hl7.org/CodeSystem/condition-category"
PATIENT = {"reference": "Patient/1"}
CODE = {"text": "x"}
DATA = [{"type": "Patient"}]
REQUEST = {"method": "GET", "url": "Patient/1"}
RESPONSE = {"status": "200"}
BASIC = {"resourceType": "Basic", "code": CODE}


def coded(*codes: str) -> Node:
    return {"coding": [{"system": "urn:x", "code": code} for code in codes]}


def bundle(bundle_type: str, *entries: Node, **more: Any) -> Node:
    return {"resourceType": "Bundle", "type": bundle_type, "entry": list(entries), **more}


EXAMPLES: dict[tuple[str, str], tuple[list[Node], list[Node]]] = {
    # data types: what keeps the rule, what breaks it
    ("Age", "age-1"): (
        [{"value": 3, "code": "a", "system": UCUM}, {"code": "a", "system": UCUM}],
        [{"value": 3}, {"value": 0, "code": "a", "system": UCUM}, {"value": 3, "code": "a", "system": "urn:x"}],
    ),
    ("Attachment", "att-1"): ([{"data": "AAAA", "contentType": "a/b"}, {"url": "a"}], [{"data": "AAAA"}]),
    ("ContactPoint", "cpt-2"): ([{"value": "1", "system": "phone"}, {"use": "home"}], [{"value": "1"}]),
    ("Count", "cnt-3"): (
        [{"value": 3, "code": "1", "system": UCUM}],
        [{"value": Decimal("3.0"), "code": "1", "system": UCUM}, {"value": 3, "code": "2", "system": UCUM}],
    ),
    ("DataRequirement.codeFilter", "drq-1"): ([{"path": "a"}], [{"path": "a", "searchParam": "b"}, {"code": [CODE]}]),
    ("DataRequirement.dateFilter", "drq-2"): ([{"searchParam": "a"}], [{"path": "a", "searchParam": "b"}]),
    ("Distance", "dis-1"): ([{"value": 1, "code": "m", "system": UCUM}], [{"value": 1}]),
    ("Duration", "drt-1"): (
        [{"value": 1, "code": "h", "system": UCUM}, {"unit": "h"}],
        [{"value": 1, "code": "h", "system": "urn:x"}, {"code": "h", "system": UCUM}],
    ),
    ("Expression", "exp-1"): ([{"expression": "a"}, {"reference": "urn:x"}], [{"description": "a"}]),
    ("Extension", "ext-1"): (
        [{"url": "a", "valueString": "b"}, {"url": "a", "extension": [{"url": "c"}]}],
        [{"url": "a"}, {"url": "a", "valueString": "b", "extension": [{"url": "c"}]}],
    ),
    ("Period", "per-1"): (
        [{"start": "2020-01-01", "end": "2020-01-01"}, {"start": "2020-01-01"}, {"end": "2020-01-01"}],
        [{"start": "2020-01-02", "end": "2020-01-01"}, {"start": "2021", "end": "2020"}],
    ),
    ("Quantity", "qty-3"): ([{"code": "a", "system": "b"}, {"value": 1}], [{"code": "a"}]),
    ("Range", "rng-2"): (
        [{"low": {"value": 1}, "high": {"value": 2}}, {"low": {"value": 2}}],
        [{"low": {"value": 2}, "high": {"value": 1}}],
    ),
    ("Ratio", "rat-1"): (
        [{"numerator": {"value": 1}, "denominator": {"value": 2}}, {"extension": [{"url": "a", "valueString": "b"}]}],
        [{"numerator": {"value": 1}}, {"denominator": {"value": 1}}, {"id": "a"}],
    ),
    ("Timing.repeat", "tim-1"): ([{"duration": 1, "durationUnit": "h"}], [{"duration": 1}]),
    ("Timing.repeat", "tim-2"): ([{"period": 1, "periodUnit": "h"}], [{"period": 1}]),
    ("Timing.repeat", "tim-4"): ([{"duration": 0}], [{"duration": Decimal("-0.5")}]),
    ("Timing.repeat", "tim-5"): ([{"period": 0}], [{"period": -1}]),
    ("Timing.repeat", "tim-6"): ([{"periodMax": 2, "period": 1}], [{"periodMax": 2}]),
    ("Timing.repeat", "tim-7"): ([{"durationMax": 2, "duration": 1}], [{"durationMax": 2}]),
    ("Timing.repeat", "tim-8"): ([{"countMax": 2, "count": 1}], [{"countMax": 2}]),
    ("Timing.repeat", "tim-9"): (
        [{"offset": 10, "when": ["ACM"]}, {"when": ["CM"]}],
        [{"offset": 10}, {"offset": 10, "when": ["CM"]}],
    ),
    ("Timing.repeat", "tim-10"): ([{"timeOfDay": ["10:00:00"]}], [{"timeOfDay": ["10:00:00"], "when": ["ACM"]}]),
    ("TriggerDefinition", "trd-1"): (
        [{"type": "periodic", "timingDate": "2020"}],
        [{"type": "periodic", "timingDate": "2020", "data": DATA}],
    ),
    ("TriggerDefinition", "trd-2"): (
        [{"type": "data-added", "data": DATA, "condition": {"language": "a"}}],
        [{"type": "data-added", "condition": {"language": "a"}}],
    ),
    ("TriggerDefinition", "trd-3"): (
        [{"type": "named-event", "name": "a"}, {"type": "data-added", "data": DATA}],
        [{"type": "named-event"}, {"type": "periodic"}, {"type": "data-added"}],
    ),
    # resources
    ("AllergyIntolerance", "ait-1"): (
        [
            {"clinicalStatus": concept(ALLERGY_CLINICAL, "active", "Active")},
            {"verificationStatus": concept(ALLERGY_VERIFICATION, "entered-in-error", "Error")},
        ],
        [{"code": CODE}],
    ),
    ("AllergyIntolerance", "ait-2"): (
        [{"verificationStatus": concept(ALLERGY_VERIFICATION, "entered-in-error", "Error")}],
        [
            {
                "clinicalStatus": concept(ALLERGY_CLINICAL, "active", "Active"),
                "verificationStatus": concept(ALLERGY_VERIFICATION, "entered-in-error", "Error"),
            }
        ],
    ),
    ("Appointment", "app-2"): (
        [{"start": "2020-01-01T10:00:00Z", "end": "2020-01-01T11:00:00Z"}, {"status": "proposed"}],
        [{"start": "2020-01-01T10:00:00Z"}, {"end": "2020-01-01T10:00:00Z"}],
    ),
    ("Appointment", "app-3"): (
        [{"status": "booked", "start": "2020-01-01T10:00:00Z", "end": "2020-01-01T11:00:00Z"}, {"status": "waitlist"}],
        [{"status": "booked"}, {"status": "booked", "start": "2020-01-01T10:00:00Z"}],
    ),
    ("Appointment", "app-4"): (
        [{"status": "cancelled", "cancelationReason": CODE}, {"status": "booked"}],
        [{"status": "booked", "cancelationReason": CODE}],
    ),
    ("Appointment.participant", "app-1"): ([{"type": [CODE]}, {"actor": PATIENT}], [{"status": "accepted"}]),
    ("AppointmentResponse", "apr-1"): ([{"actor": PATIENT}], [{"participantStatus": "accepted"}]),
    ("AuditEvent.entity", "sev-1"): ([{"name": "a"}], [{"name": "a", "query": "AAAA"}]),
    ("Bundle", "bdl-1"): ([bundle("searchset", total=1), bundle("history", total=1)], [bundle("batch", total=1)]),
    ("Bundle", "bdl-2"): (
        [bundle("searchset", {"search": {"mode": "match"}}), bundle("batch", {"request": REQUEST})],
        [bundle("batch", {"search": {"mode": "match"}})],
    ),
    ("Bundle", "bdl-3"): (
        [bundle("batch", {"request": REQUEST}), bundle("collection", {"resource": BASIC})],
        [bundle("transaction", {"resource": BASIC}), bundle("collection", {"request": REQUEST})],
    ),
    ("Bundle", "bdl-4"): (
        [bundle("batch-response", {"response": RESPONSE}), bundle("collection", {"resource": BASIC})],
        [bundle("batch-response", {"resource": BASIC}), bundle("collection", {"response": RESPONSE})],
    ),
    ("Bundle", "bdl-7"): (
        [
            bundle("collection", {"fullUrl": "urn:a"}, {"fullUrl": "urn:b"}, {"resource": BASIC}, {"resource": BASIC}),
            bundle("history", {"fullUrl": "urn:a"}, {"fullUrl": "urn:a"}),
            bundle(
                "collection",
                {"fullUrl": "urn:a", "resource": {**BASIC, "meta": {"versionId": "1"}}},
                {"fullUrl": "urn:a", "resource": {**BASIC, "meta": {"versionId": "2"}}},
            ),
        ],
        [bundle("collection", {"fullUrl": "urn:a"}, {"fullUrl": "urn:a"})],
    ),
    ("Bundle", "bdl-9"): (
        [bundle("document", identifier={"system": "a", "value": "b"}), bundle("batch")],
        [bundle("document"), bundle("document", identifier={"value": "b"})],
    ),
    ("Bundle", "bdl-10"): (
        [bundle("document", timestamp="2020-01-01T10:00:00Z"), bundle("batch")],
        [bundle("document")],
    ),
    ("Bundle", "bdl-11"): (
        [bundle("document", {"resource": {"resourceType": "Composition"}}), bundle("batch")],
        [bundle("document", {"resource": BASIC}, {"resource": {"resourceType": "Composition"}})],
    ),
    ("Bundle", "bdl-12"): (
        [bundle("message", {"resource": {"resourceType": "MessageHeader"}})],
        [bundle("message", {"resource": BASIC})],
    ),
    ("Bundle.entry", "bdl-5"): (
        [{"resource": BASIC}, {"request": REQUEST}, {"response": RESPONSE}],
        [{"fullUrl": "urn:a"}],
    ),
    ("Bundle.entry", "bdl-8"): (
        [{"fullUrl": "http://a.example/Patient/1"}],
        [{"fullUrl": "http://a.example/Patient/1/_history/1"}],
    ),
    ("CapabilityStatement", "cpb-1"): ([{"rest": [{"mode": "server"}]}], [{"name": "A"}]),
    ("CapabilityStatement", "cpb-2"): ([{"description": "a"}, {"software": {"name": "a"}}], [{"name": "A"}]),
    ("CapabilityStatement", "cpb-3"): (
        [{"kind": "instance", "messaging": [{"endpoint": [{"address": "a"}]}]}, {"messaging": [{"reliableCache": 1}]}],
        [{"kind": "capability", "messaging": [{"endpoint": [{"address": "a"}]}]}],
    ),
    ("CapabilityStatement", "cpb-7"): (
        [{"document": [{"mode": "producer", "profile": "a"}, {"mode": "consumer", "profile": "a"}]}],
        [{"document": [{"mode": "producer", "profile": "a"}, {"mode": "producer", "profile": "a"}]}],
    ),
    ("CapabilityStatement", "cpb-14"): (
        [{"kind": "instance", "implementation": {"description": "a"}}, {"kind": "requirements"}],
        [{"kind": "instance"}],
    ),
    ("CapabilityStatement", "cpb-15"): (
        [{"kind": "capability", "software": {"name": "a"}}, {"kind": "instance"}],
        [{"kind": "capability"}, {"kind": "capability", "implementation": {"description": "a"}}],
    ),
    ("CapabilityStatement", "cpb-16"): (
        [{"kind": "requirements"}, {"kind": "instance", "software": {"name": "a"}}],
        [{"kind": "requirements", "software": {"name": "a"}}],
    ),
    ("CapabilityStatement.rest", "cpb-9"): (
        [{"resource": [{"type": "Patient"}, {"type": "Task"}]}],
        [{"resource": [{"type": "Patient"}, {"type": "Patient"}]}],
    ),
    ("CapabilityStatement.rest.resource", "cpb-12"): (
        [{"searchParam": [{"name": "a"}, {"name": "b"}]}],
        [{"searchParam": [{"name": "a"}, {"name": "a"}]}],
    ),
    ("CarePlan.activity", "cpl-3"): (
        [{"detail": {"status": "scheduled"}}, {"reference": PATIENT}, {"progress": []}],
        [{"detail": {"status": "scheduled"}, "reference": PATIENT}],
    ),
    ("CodeSystem", "csd-1"): (
        [{"concept": [{"code": "a", "concept": [{"code": "b"}]}]}],
        [
            {"concept": [{"code": "a", "concept": [{"code": "a"}]}]},
            {"concept": [{"code": "a"}, {"code": "a"}]},
            {"concept": [{"code": "a", "concept": [{"code": "c"}]}, {"code": "b", "concept": [{"code": "c"}]}]},
        ],
    ),
    ("Composition.section", "cmp-1"): (
        [{"entry": [PATIENT]}, {"section": [{"title": "a"}]}, {"text": {"status": "empty"}}],
        [{"title": "a"}],
    ),
    ("Composition.section", "cmp-2"): ([{"emptyReason": CODE}], [{"emptyReason": CODE, "entry": [PATIENT]}]),
    ("ConceptMap.group.element.target", "cmd-1"): (
        [{"equivalence": "narrower", "comment": "a"}, {"equivalence": "equal"}],
        [{"equivalence": "narrower"}, {"equivalence": "inexact"}],
    ),
    ("ConceptMap.group.unmapped", "cmd-2"): (
        [{"mode": "fixed", "code": "a"}, {"mode": "provided"}],
        [{"mode": "fixed"}],
    ),
    ("ConceptMap.group.unmapped", "cmd-3"): ([{"mode": "other-map", "url": "a"}], [{"mode": "other-map"}]),
    ("Condition", "con-3"): (
        [
            {
                "category": [concept(CATEGORY, "problem-list-item", "x")],
                "clinicalStatus": concept(CLINICAL, "active", "x"),
            },
            {"code": CODE},
            {"category": [concept(CATEGORY, "encounter-diagnosis", "x")]},
        ],
        [{"category": [concept(CATEGORY, "problem-list-item", "x")]}],
    ),
    ("Condition", "con-4"): (
        [
            {"abatementString": "a", "clinicalStatus": concept(CLINICAL, "resolved", "x")},
            {"clinicalStatus": concept(CLINICAL, "active", "x")},
        ],
        [{"abatementString": "a", "clinicalStatus": concept(CLINICAL, "active", "x")}, {"abatementAge": {"value": 1}}],
    ),
    ("Condition", "con-5"): (
        [{"verificationStatus": concept(VERIFICATION, "entered-in-error", "x")}],
        [
            {
                "verificationStatus": concept(VERIFICATION, "entered-in-error", "x"),
                "clinicalStatus": concept(CLINICAL, "active", "x"),
            }
        ],
    ),
    ("Condition.evidence", "con-2"): ([{"code": [CODE]}, {"detail": [PATIENT]}], [{"id": "a"}]),
    ("Condition.stage", "con-1"): ([{"summary": CODE}], [{"type": CODE}]),
    ("Consent", "ppc-1"): ([{"policy": [{"uri": "a"}]}, {"policyRule": CODE}], [{"status": "active"}]),
    ("FamilyMemberHistory", "fhs-1"): ([{"ageString": "a"}], [{"ageString": "a", "bornString": "b"}]),
    ("FamilyMemberHistory", "fhs-2"): ([{"ageString": "a", "estimatedAge": True}], [{"estimatedAge": True}]),
    ("Goal.target", "gol-1"): ([{"detailString": "a", "measure": CODE}, {"measure": CODE}], [{"detailString": "a"}]),
    ("Group", "grp-1"): (
        [{"actual": True, "member": [{"entity": PATIENT}]}],
        [{"actual": False, "member": [{"entity": PATIENT}]}],
    ),
    ("Immunization.education", "imm-1"): ([{"documentType": "a"}], [{"publicationDate": "2020"}]),
    ("List", "lst-1"): ([{"emptyReason": CODE}], [{"emptyReason": CODE, "entry": [{"item": PATIENT}]}]),
    ("List", "lst-2"): (
        [{"mode": "changes", "entry": [{"deleted": True}]}, {"mode": "working", "entry": [{"item": PATIENT}]}],
        [{"mode": "working", "entry": [{"item": PATIENT}, {"deleted": True}]}],
    ),
    ("List", "lst-3"): (
        [{"mode": "working", "entry": [{"date": "2020"}]}],
        [{"mode": "changes", "entry": [{"date": "2020"}]}],
    ),
    ("MedicationAdministration.dosage", "mad-1"): ([{"dose": {"value": 1}}, {"rateRatio": {}}], [{"text": "a"}]),
    ("MedicationDispense", "mdd-1"): (
        [{"whenPrepared": "2020-01-01", "whenHandedOver": "2020-01-02"}, {"whenPrepared": "2020-01-01"}],
        [{"whenPrepared": "2020-01-02", "whenHandedOver": "2020-01-01"}],
    ),
    ("Observation", "obs-6"): ([{"valueString": "a"}], [{"valueString": "a", "dataAbsentReason": CODE}]),
    ("Observation", "obs-7"): (
        [
            {"code": coded("a"), "valueString": "v", "component": [{"code": coded("b")}]},
            {"code": coded("a"), "component": [{"code": coded("a")}]},
        ],
        [{"code": coded("a", "c"), "valueString": "v", "component": [{"code": coded("b")}, {"code": coded("c")}]}],
    ),
    ("Observation.referenceRange", "obs-3"): ([{"low": {"value": 1}}, {"text": "a"}], [{"type": CODE}]),
    ("OperationDefinition.parameter", "opd-1"): ([{"type": "string"}, {"part": [{"name": "a"}]}], [{"name": "a"}]),
    ("OperationDefinition.parameter", "opd-2"): (
        [{"type": "string", "searchType": "token"}],
        [{"type": "code", "searchType": "token"}],
    ),
    ("OperationDefinition.parameter", "opd-3"): (
        [{"type": "Reference", "targetProfile": ["a"]}],
        [{"type": "code", "targetProfile": ["a"]}],
    ),
    ("Organization", "org-1"): ([{"name": "a"}, {"identifier": [{"value": "a"}]}], [{"active": True}]),
    ("Organization", "org-2"): ([{"address": [{"use": "work"}]}], [{"address": [{"use": "work"}, {"use": "home"}]}]),
    ("Organization", "org-3"): ([{"telecom": [{"use": "work"}]}], [{"telecom": [{"use": "home"}]}]),
    ("Parameters.parameter", "inv-1"): (
        [{"valueString": "a"}, {"resource": BASIC}, {"part": [{"name": "a"}]}],
        [{"name": "a"}, {"valueString": "a", "resource": BASIC}, {"valueString": "a", "part": [{"name": "a"}]}],
    ),
    ("Patient.contact", "pat-1"): ([{"name": {"text": "a"}}, {"organization": PATIENT}], [{"gender": "male"}]),
    ("Questionnaire", "que-2"): (
        [{"item": [{"linkId": "1", "item": [{"linkId": "2"}]}]}],
        [{"item": [{"linkId": "1", "item": [{"linkId": "1"}]}]}, {"item": [{"linkId": "1"}, {"linkId": "1"}]}],
    ),
    ("Questionnaire.item", "que-1"): (
        [{"type": "group", "item": [{"linkId": "a"}]}, {"type": "display"}, {"type": "string"}],
        [{"type": "group"}, {"type": "display", "item": [{"linkId": "a"}]}],
    ),
    ("Questionnaire.item", "que-3"): (
        [{"type": "string", "code": [{"code": "a"}]}],
        [{"type": "display", "code": [{"code": "a"}]}],
    ),
    ("Questionnaire.item", "que-4"): (
        [{"type": "choice", "answerValueSet": "a"}],
        [{"type": "choice", "answerValueSet": "a", "answerOption": [{"valueString": "a"}]}],
    ),
    ("Questionnaire.item", "que-5"): (
        [{"type": "choice", "answerValueSet": "a"}, {"type": "boolean"}],
        [{"type": "boolean", "answerValueSet": "a"}, {"type": "group", "answerOption": [{"valueString": "a"}]}],
    ),
    ("Questionnaire.item", "que-6"): (
        [{"type": "string", "required": True}, {"type": "display"}],
        [{"type": "display", "required": False}, {"type": "display", "repeats": True}],
    ),
    ("Questionnaire.item", "que-8"): (
        [{"type": "string", "initial": [{"valueString": "a"}]}],
        [{"type": "group", "initial": [{"valueString": "a"}]}, {"type": "display", "initial": [{"valueString": "a"}]}],
    ),
    ("Questionnaire.item", "que-9"): ([{"type": "string", "readOnly": True}], [{"type": "display", "readOnly": True}]),
    ("Questionnaire.item", "que-10"): ([{"type": "string", "maxLength": 3}], [{"type": "date", "maxLength": 3}]),
    ("Questionnaire.item", "que-11"): (
        [{"type": "choice", "initial": [{"valueString": "a"}]}],
        [{"type": "choice", "initial": [{"valueString": "a"}], "answerOption": [{"valueString": "a"}]}],
    ),
    ("Questionnaire.item", "que-12"): (
        [{"enableWhen": [{"question": "a"}] * 2}, {"enableWhen": [{"question": "a"}] * 3, "enableBehavior": "all"}],
        [{"enableWhen": [{"question": "a"}] * 3}],
    ),
    ("Questionnaire.item", "que-13"): (
        [
            {"initial": [{"valueString": "a"}]},
            {"repeats": True, "initial": [{"valueString": "a"}, {"valueString": "b"}]},
        ],
        [{"repeats": False, "initial": [{"valueString": "a"}, {"valueString": "b"}]}],
    ),
    ("Questionnaire.item.enableWhen", "que-7"): (
        [{"operator": "exists", "answerBoolean": True}, {"operator": "=", "answerString": "a"}],
        [{"operator": "exists", "answerString": "a"}],
    ),
    ("QuestionnaireResponse.item", "qrs-1"): (
        [{"answer": [{"valueString": "a"}]}, {"item": [{"linkId": "a"}]}],
        [{"answer": [{"valueString": "a"}], "item": [{"linkId": "a"}]}],
    ),
    ("RequestGroup.action", "rqg-1"): (
        [{"resource": PATIENT}],
        [{"resource": PATIENT, "action": [{"title": "a"}]}, {"title": "a"}],
    ),
    ("SearchParameter", "spd-1"): ([{"xpath": "a", "xpathUsage": "normal"}], [{"xpath": "a"}]),
    ("SearchParameter", "spd-2"): ([{"type": "reference", "chain": ["a"]}], [{"type": "token", "chain": ["a"]}]),
    ("ServiceRequest", "prr-1"): ([{"orderDetail": [CODE], "code": CODE}], [{"orderDetail": [CODE]}]),
    ("Task", "inv-1"): (
        [{"authoredOn": "2020-01-01", "lastModified": "2020-01-02"}, {"lastModified": "2020-01-02"}],
        [{"authoredOn": "2020-01-02", "lastModified": "2020-01-01"}],
    ),
    ("ValueSet.compose.include", "vsd-1"): ([{"system": "a"}, {"valueSet": ["a"]}], [{"version": "a"}]),
    ("ValueSet.compose.include", "vsd-2"): (
        [{"system": "a", "concept": [{"code": "a"}]}],
        [{"valueSet": ["a"], "concept": [{"code": "a"}]}, {"valueSet": ["a"], "filter": [{"op": "="}]}],
    ),
    ("ValueSet.compose.include", "vsd-3"): (
        [{"system": "a", "filter": [{"op": "="}]}],
        [{"system": "a", "filter": [{"op": "="}], "concept": [{"code": "a"}]}],
    ),
    ("ValueSet.expansion.contains", "vsd-6"): ([{"code": "a"}, {"display": "a"}], [{"version": "a"}]),
    ("ValueSet.expansion.contains", "vsd-9"): ([{"code": "a"}, {"abstract": True}], [{"display": "a"}]),
    ("ValueSet.expansion.contains", "vsd-10"): ([{"code": "a", "system": "b"}], [{"code": "a"}]),
}

NOT_COMPARED = {
    "con-3": "the expression compares a CodeableConcept with a string: it fails every Condition that has a category",
    "rng-2": "the engine does not order quantities",
    "que-7": "the engine takes a boolean of FHIR for no Boolean",
}

HAS_VALUE = {"hasValue": {"fn": lambda nodes: [len(nodes) == 1 and not isinstance(nodes[0], dict)], "arity": {0: []}}}

CASES = [
    pytest.param(path, key, node, expected, id=f"{path}:{key}:{expected}{index}")
    for (path, key), pair in EXAMPLES.items()
    for expected, nodes in zip((True, False), pair, strict=True)
    for index, node in enumerate(nodes)
]


def test_every_predicate_has_examples_of_both_kinds() -> None:
    assert set(EXAMPLES) == {(path, key) for path, rules in PREDICATES.items() for key in rules}
    assert all(kept and broken for kept, broken in EXAMPLES.values())


@pytest.mark.parametrize(("path", "key", "node", "expected"), CASES)
def test_the_predicate_tells_them_apart(path: str, key: str, node: Node, expected: bool) -> None:
    assert PREDICATES[path][key](node) is expected


COMPARED = [case for case in CASES if case.values[1] not in NOT_COMPARED]


@pytest.mark.parametrize(("path", "key", "node", "expected"), COMPARED)
def test_the_published_expression_says_the_same(path: str, key: str, node: Node, expected: bool) -> None:
    assert published_verdict(path, key, node) is expected


def published_verdict(path: str, key: str, node: Node) -> bool:
    """What fhirpathpy makes of the expression of the specification; an empty answer is no."""
    place, rule = next(
        (place, rule)
        for place, rules in definitions.all_invariants().items()
        for rule in rules
        if rule.key == key and path in (place, place.rpartition(".")[0])
    )
    is_resource = path in definitions.resource_types()
    resource = {"resourceType": path, **node} if is_resource else node
    subject = resource if place == path else node[place.rpartition(".")[2]]
    asked = rule.expression if is_resource else {"base": path, "expression": rule.expression}
    variables = {"resource": resource, "ucum": UCUM}
    answer = fhirpathpy.evaluate(subject, asked, variables, models["r4"], {"userInvocationTable": HAS_VALUE})
    return bool(answer == [True])


def test_a_missed_appointment_may_have_its_reason() -> None:
    missed = {"status": "noshow", "cancelationReason": CODE}  # the expression asks for `no-show`, which is no code
    assert PREDICATES["Appointment"]["app-4"](missed)


def test_a_rule_of_a_base_type_binds_its_specialisations() -> None:
    resource = {
        "resourceType": "Condition",
        "subject": PATIENT,
        "onsetAge": {"value": 3, "code": "a", "unit": "a"},
    }
    rules = {(issue.path, issue.rule) for issue in check(resource)}
    assert ("Condition.onset.ofType(Age)", "qty-3") in rules


def test_no_predicate_is_silently_misspelt() -> None:
    for path, rules in PREDICATES.items():
        filed = {
            rule.key
            for place in definitions.all_invariants()
            if path in (place, place.rpartition(".")[0])
            for rule in definitions.invariants(place)
        }
        assert set(rules) <= filed, path


@pytest.mark.parametrize(("name", "expected"), [("PlanDeSante", True), ("plan", False), ("Plan de santé", False)])
def test_computable_names(name: str, expected: bool) -> None:
    assert COMPUTABLE_NAME({"name": name}) is expected
    assert COMPUTABLE_NAME({})


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2020", "2020-06-15", True),
        ("2020-06-15", "2020", True),
        ("2020-06-15", "2020-06", True),
        ("2020-07-01", "2020-06", False),
        ("2020-06-15T10:00:00+02:00", "2020-06-15T08:00:00Z", True),
        ("2020-06-15T10:00:00+02:00", "2020-06-15T07:59:59Z", False),
        ("2020-06-15T10:00:00.5Z", "2020-06-15T10:00:00.49Z", False),
        ("2020-06-15T10:00:00.10Z", "2020-06-15T10:00:00.1Z", True),
        ("2020-06-15T23:00:00-10:00", "2020-06-15", True),  # that day has not ended everywhere
        ("2020-06-17T13:00:00Z", "2020-06-15", False),
        ("2020-06-15", "2020-06-14T11:00:00Z", True),
        ("2020-06-15", "2020-06-14T09:00:00Z", False),
        ("0001-01-01T00:00:00+14:00", "0001", True),
        ("9999", "9999-12-31T23:59:60-12:00", True),
    ],
)
def test_moments_of_different_precision(start: str, end: str, expected: bool) -> None:
    assert not_after(start, end) is expected


@given(st.datetimes(), st.datetimes(), st.timezones(), st.timezones())
def test_moments_with_zones_compare_as_datetimes(first: Any, second: Any, here: Any, there: Any) -> None:
    start, end = first.replace(tzinfo=here), second.replace(tzinfo=there)
    if any(moment.utcoffset().seconds % 60 or not 1 < moment.year < 9999 for moment in (start, end)):
        return  # offsets with seconds have no place in FHIR; the ends of the calendar have no UTC
    assert not_after(start.isoformat(), end.isoformat()) is (start <= end)
