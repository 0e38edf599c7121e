"""Invariants of FHIR R4 as Python predicates: those that need nothing but the element they stand on.

Each predicate takes an element that is well formed (types and formats checked) and answers whether the rule holds.
Severity and wording come from the tables. Left to an evaluator of FHIRPath: StructureDefinition, ElementDefinition and
the test resources, rules that resolve references (ctm-1), and ppc-2 to ppc-5, which test for codes that do not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

Node = dict[str, Any]
Predicate = Callable[[Node], bool]

_UCUM = "http://unitsofmeasure.org"
_VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_ALLERGY_VERIFICATION = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
_COMPUTABLE_NAME = re.compile("[A-Z][A-Za-z0-9_]{0,254}").fullmatch
_PATIENT_CLASSES = ("C", "CM", "CD", "CV")


# Presence -------------------------------------------------------------------------------------------------------------


def has(name: str) -> Predicate:
    """The element is present, with a value or with extensions only; `value[x]` stands for any type of the choice."""
    if name.endswith("[x]"):
        stems = (name.removesuffix("[x]"), "_" + name.removesuffix("[x]"))
        return lambda node: any(key.startswith(stems) for key in node)
    extended = f"_{name}"
    return lambda node: name in node or extended in node


def any_of(*names: str) -> Predicate:
    """At least one of the elements is present."""
    present = [has(name) for name in names]
    return lambda node: any(test(node) for test in present)


def not_both(first: str, second: str) -> Predicate:
    """The two elements exclude each other."""
    has_first, has_second = has(first), has(second)
    return lambda node: not (has_first(node) and has_second(node))


def exactly_one(first: str, second: str) -> Predicate:
    """One of the two elements is present, and not both."""
    has_first, has_second = has(first), has(second)
    return lambda node: has_first(node) != has_second(node)


def both_or_none(first: str, second: str) -> Predicate:
    """The two elements come together."""
    has_first, has_second = has(first), has(second)
    return lambda node: has_first(node) == has_second(node)


def needs(first: str, *others: str) -> Predicate:
    """The first element comes only together with at least one of the others."""
    has_first, has_others = has(first), any_of(*others)
    return lambda node: not has_first(node) or has_others(node)


def only_when(name: str, field: str, *codes: str) -> Predicate:
    """The element is allowed only when `field` has one of the codes."""
    present = has(name)
    return lambda node: not present(node) or node.get(field) in codes


def required_when(name: str, field: str, *codes: str) -> Predicate:
    """The element must be present when `field` has one of the codes."""
    present = has(name)
    return lambda node: node.get(field) not in codes or present(node)


def excluded_when(name: str, field: str, *codes: str) -> Predicate:
    """The element must be absent when `field` has one of the codes."""
    present = has(name)
    return lambda node: node.get(field) not in codes or not present(node)


def every(*predicates: Predicate) -> Predicate:
    """All of the predicates hold."""
    return lambda node: all(test(node) for test in predicates)


def distinct(values: Iterable[Any]) -> bool:
    """No value comes twice."""
    found = list(values)
    return len(set(found)) == len(found)


def children(node: Node, *names: str) -> Iterator[Node]:
    """The elements at a path of repeating elements."""
    if not names:
        yield node
        return
    value = node.get(names[0])
    for child in value if isinstance(value, list) else (value,):
        if isinstance(child, dict):
            yield from children(child, *names[1:])


def descendants(node: Node, name: str) -> Iterator[Node]:
    """The elements nested below in the same repeating element (`item.item…`)."""
    for child in children(node, name):
        yield child
        yield from descendants(child, name)


def _has_code(concept: Node | None, system: str, *codes: str) -> bool:
    codings = children(concept or {}, "coding")
    return any(coding.get("system") == system and coding.get("code") in codes for coding in codings)


# Moments --------------------------------------------------------------------------------------------------------------

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
_CLOCK = re.compile(r"T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_DAY = 86400
_EARLIEST_ZONE, _LATEST_ZONE = 14 * 3600, -12 * 3600

Moment = tuple[int, str]  # seconds since day 0 in UTC, digits of the fraction


def not_after(start: str, end: str) -> bool:
    """Whether a date or dateTime can lie before or at another, whatever its missing digits and zone would be."""
    if len(start) <= 10 and len(end) <= 10:
        shared = min(len(start), len(end))
        return start[:shared] <= end[:shared]
    return _bounds(start)[0] <= _bounds(end)[1]


def _bounds(text: str) -> tuple[Moment, Moment]:
    """The first and the last moment that a date or dateTime may mean."""
    if clock := _CLOCK.search(text):
        hours, minutes, seconds, fraction, zone = clock.groups()
        day = date.fromisoformat(text[:10]).toordinal() * _DAY
        moment = day + int(hours) * 3600 + int(minutes) * 60 + int(seconds) - _offset(zone)
        exact = (moment, (fraction or "").rstrip("0"))
        return exact, exact
    found = _DATE.match(text)
    year, month, day_of_month = found.groups() if found else ("1", None, None)
    first = date(int(year), int(month or 1), int(day_of_month or 1))
    days = 1 if day_of_month else 31 if month else 366
    start = first.toordinal() * _DAY
    return (start - _EARLIEST_ZONE, ""), (start + days * _DAY - _LATEST_ZONE, "")


def _offset(zone: str) -> int:
    if zone == "Z":
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return -seconds if zone[0] == "-" else seconds


def in_order(start: str, end: str) -> Predicate:
    """The moment in the first element is not after the one in the second, when both have values."""

    def holds(node: Node) -> bool:
        first, second = node.get(start), node.get(end)
        return first is None or second is None or not_after(first, second)

    return holds


# Rules that are more than presence ------------------------------------------------------------------------------------


def _quantity_coded(node: Node) -> bool:
    return (has("code")(node) or not has("value")(node)) and node.get("system", _UCUM) == _UCUM


def _positive(node: Node) -> bool:
    return bool(node.get("value", 1) > 0)


def _counts(node: Node) -> bool:
    value = node.get("value", 1)
    whole = not (isinstance(value, Decimal) and "." in str(value))
    return _quantity_coded(node) and node.get("code", "1") == "1" and whole


def _duration_coded(node: Node) -> bool:
    return not has("code")(node) or (node.get("system") == _UCUM and has("value")(node))


def _ratio_complete(node: Node) -> bool:
    numerator = has("numerator")(node)
    return numerator == has("denominator")(node) and (numerator or has("extension")(node))


def _range_in_order(node: Node) -> bool:
    low, high = node.get("low", {}), node.get("high", {})
    comparable = "value" in low and "value" in high and all(low.get(key) == high.get(key) for key in ("system", "code"))
    return not comparable or bool(low["value"] <= high["value"])


def _not_negative(name: str) -> Predicate:
    return lambda node: bool(node.get(name, 0) >= 0)


def _offset_follows_event(node: Node) -> bool:
    if not has("offset")(node):
        return True
    return has("when")(node) and not any(code in _PATIENT_CLASSES for code in node.get("when", ()))


def _trigger_complete(node: Node) -> bool:
    kind = node.get("type", "")
    return (
        (kind != "named-event" or has("name")(node))
        and (kind != "periodic" or has("timing[x]")(node))
        and (not kind.startswith("data-") or has("data")(node))
    )


def _appointment_timed(node: Node) -> bool:
    return (has("start")(node) and has("end")(node)) or node.get("status") in ("proposed", "cancelled", "waitlist")


def _entries_distinct(node: Node) -> bool:
    if node.get("type") == "history":
        return True
    return distinct(
        (entry["fullUrl"], (entry.get("resource") or {}).get("meta", {}).get("versionId"))
        for entry in children(node, "entry")
        if "fullUrl" in entry
    )


def _entries_have(name: str, *types: str) -> Predicate:
    """Every entry has the element when the Bundle is of one of the types, and no entry has it otherwise."""
    present = has(name)
    return lambda node: all(present(entry) == (node.get("type") in types) for entry in children(node, "entry"))


def _first_entry_is(bundle_type: str, resource_type: str) -> Predicate:
    def holds(node: Node) -> bool:
        if node.get("type") != bundle_type:
            return True
        first = next(children(node, "entry"), {})
        return bool(first.get("resource", {}).get("resourceType") == resource_type)

    return holds


def _document_identified(node: Node) -> bool:
    identifier = node.get("identifier", {})
    return node.get("type") != "document" or (has("system")(identifier) and has("value")(identifier))


def _condition_has_status(node: Node) -> bool:
    listed = any(
        coding.get("code") == "problem-list-item"
        for category in children(node, "category")
        for coding in children(category, "coding")
    )
    entered_in_error = _has_code(node.get("verificationStatus"), _VERIFICATION, "entered-in-error")
    return has("clinicalStatus")(node) or entered_in_error or not listed


def _abated_is_not_active(node: Node) -> bool:
    ended = _has_code(node.get("clinicalStatus"), _CLINICAL, "resolved", "remission", "inactive")
    return not has("abatement[x]")(node) or ended


def _no_status_of_an_error(system: str) -> Predicate:
    def holds(node: Node) -> bool:
        entered_in_error = _has_code(node.get("verificationStatus"), system, "entered-in-error")
        return not entered_in_error or not has("clinicalStatus")(node)

    return holds


def _allergy_has_status(node: Node) -> bool:
    entered_in_error = _has_code(node.get("verificationStatus"), _ALLERGY_VERIFICATION, "entered-in-error")
    return entered_in_error or has("clinicalStatus")(node)


def _components_differ(node: Node) -> bool:
    if not has("value[x]")(node):
        return True
    codes = list(children(node, "code", "coding"))
    return not any(coding in codes for coding in children(node, "component", "code", "coding"))


def _not_home(name: str) -> Predicate:
    return lambda node: not any(each.get("use") == "home" for each in children(node, name))


def _parameter_holds_one(node: Node) -> bool:
    value, resource = has("value[x]")(node), has("resource")(node)
    return not (value or resource) if has("part")(node) else value != resource


def _item_nested_rightly(node: Node) -> bool:
    return required_when("item", "type", "group")(node) and excluded_when("item", "type", "display")(node)


def _one_initial_value(node: Node) -> bool:
    return node.get("repeats") is True or len(node.get("initial", ())) <= 1


def _behavior_given(node: Node) -> bool:
    return len(node.get("enableWhen", ())) <= 2 or has("enableBehavior")(node)


def _equivalence_explained(node: Node) -> bool:
    return has("comment")(node) or node.get("equivalence") not in ("narrower", "inexact")


def _instance_described(node: Node) -> bool:
    return node.get("kind") != "capability" or (not has("implementation")(node) and has("software")(node))


def _requirements_bare(node: Node) -> bool:
    return node.get("kind") != "requirements" or not any_of("implementation", "software")(node)


def _messaging_endpoint(node: Node) -> bool:
    return node.get("kind") == "instance" or not any(has("endpoint")(each) for each in children(node, "messaging"))


def _documents_distinct(node: Node) -> bool:
    return distinct((each.get("profile"), each.get("mode")) for each in children(node, "document"))


def _distinct_values(path: str, name: str) -> Predicate:
    return lambda node: distinct(each[name] for each in children(node, path) if name in each)


def _distinct_descendants(path: str, name: str) -> Predicate:
    return lambda node: distinct(each[name] for each in descendants(node, path) if name in each)


def _changes_only(node: Node) -> bool:
    return node.get("mode") == "changes" or not any(has("deleted")(entry) for entry in children(node, "entry"))


def _dates_only_when_working(node: Node) -> bool:
    return node.get("mode") == "working" or not any(has("date")(entry) for entry in children(node, "entry"))


def _name_is_computable(node: Node) -> bool:
    name = node.get("name")
    return name is None or _COMPUTABLE_NAME(name) is not None


PREDICATES: dict[str, dict[str, Predicate]] = {
    # data types
    "Age": {"age-1": every(_quantity_coded, _positive)},
    "Attachment": {"att-1": needs("data", "contentType")},
    "ContactPoint": {"cpt-2": needs("value", "system")},
    "Count": {"cnt-3": _counts},
    "DataRequirement.codeFilter": {"drq-1": exactly_one("path", "searchParam")},
    "DataRequirement.dateFilter": {"drq-2": exactly_one("path", "searchParam")},
    "Distance": {"dis-1": _quantity_coded},
    "Duration": {"drt-1": _duration_coded},
    "Expression": {"exp-1": any_of("expression", "reference")},
    "Extension": {"ext-1": exactly_one("extension", "value[x]")},
    "Period": {"per-1": in_order("start", "end")},
    "Quantity": {"qty-3": needs("code", "system")},
    "Range": {"rng-2": _range_in_order},
    "Ratio": {"rat-1": _ratio_complete},
    "Timing.repeat": {
        "tim-1": needs("duration", "durationUnit"),
        "tim-2": needs("period", "periodUnit"),
        "tim-4": _not_negative("duration"),
        "tim-5": _not_negative("period"),
        "tim-6": needs("periodMax", "period"),
        "tim-7": needs("durationMax", "duration"),
        "tim-8": needs("countMax", "count"),
        "tim-9": _offset_follows_event,
        "tim-10": not_both("timeOfDay", "when"),
    },
    "TriggerDefinition": {
        "trd-1": not_both("data", "timing[x]"),
        "trd-2": needs("condition", "data"),
        "trd-3": _trigger_complete,
    },
    # resources
    "AllergyIntolerance": {"ait-1": _allergy_has_status, "ait-2": _no_status_of_an_error(_ALLERGY_VERIFICATION)},
    "Appointment": {
        "app-2": both_or_none("start", "end"),
        "app-3": _appointment_timed,
        # The published expression tests for `no-show`; the code of the value set is `noshow`.
        "app-4": only_when("cancelationReason", "status", "noshow", "cancelled"),
    },
    "Appointment.participant": {"app-1": any_of("type", "actor")},
    "AppointmentResponse": {"apr-1": any_of("participantType", "actor")},
    "AuditEvent.entity": {"sev-1": not_both("name", "query")},
    "Bundle": {
        "bdl-1": only_when("total", "type", "searchset", "history"),
        "bdl-2": lambda node: (
            node.get("type") == "searchset" or not any(has("search")(entry) for entry in children(node, "entry"))
        ),
        "bdl-3": _entries_have("request", "batch", "transaction", "history"),
        "bdl-4": _entries_have("response", "batch-response", "transaction-response", "history"),
        "bdl-7": _entries_distinct,
        "bdl-9": _document_identified,
        "bdl-10": required_when("timestamp", "type", "document"),
        "bdl-11": _first_entry_is("document", "Composition"),
        "bdl-12": _first_entry_is("message", "MessageHeader"),
    },
    "Bundle.entry": {
        "bdl-5": any_of("resource", "request", "response"),
        "bdl-8": lambda node: "/_history/" not in node.get("fullUrl", ""),
    },
    "CapabilityStatement": {
        "cpb-1": any_of("rest", "messaging", "document"),
        "cpb-2": any_of("description", "software", "implementation"),
        "cpb-3": _messaging_endpoint,
        "cpb-7": _documents_distinct,
        "cpb-14": required_when("implementation", "kind", "instance"),
        "cpb-15": _instance_described,
        "cpb-16": _requirements_bare,
    },
    "CapabilityStatement.rest": {"cpb-9": _distinct_values("resource", "type")},
    "CapabilityStatement.rest.resource": {"cpb-12": _distinct_values("searchParam", "name")},
    "CarePlan.activity": {"cpl-3": not_both("detail", "reference")},
    "CodeSystem": {"csd-1": _distinct_descendants("concept", "code")},
    "Composition.section": {
        "cmp-1": any_of("text", "entry", "section"),
        "cmp-2": not_both("emptyReason", "entry"),
    },
    "ConceptMap.group.element.target": {"cmd-1": _equivalence_explained},
    "ConceptMap.group.unmapped": {
        "cmd-2": required_when("code", "mode", "fixed"),
        "cmd-3": required_when("url", "mode", "other-map"),
    },
    "Condition": {
        "con-3": _condition_has_status,
        "con-4": _abated_is_not_active,
        "con-5": _no_status_of_an_error(_VERIFICATION),
    },
    "Condition.evidence": {"con-2": any_of("code", "detail")},
    "Condition.stage": {"con-1": any_of("summary", "assessment")},
    "Consent": {"ppc-1": any_of("policy", "policyRule")},
    "FamilyMemberHistory": {
        "fhs-1": not_both("age[x]", "born[x]"),
        "fhs-2": needs("estimatedAge", "age[x]"),
    },
    "Goal.target": {"gol-1": needs("detail[x]", "measure")},
    "Group": {"grp-1": lambda node: not has("member")(node) or node.get("actual") is True},
    "Immunization.education": {"imm-1": any_of("documentType", "reference")},
    "List": {
        "lst-1": not_both("emptyReason", "entry"),
        "lst-2": _changes_only,
        "lst-3": _dates_only_when_working,
    },
    "MedicationAdministration.dosage": {"mad-1": any_of("dose", "rate[x]")},
    "MedicationDispense": {"mdd-1": in_order("whenPrepared", "whenHandedOver")},
    "Observation": {
        "obs-6": not_both("dataAbsentReason", "value[x]"),
        "obs-7": _components_differ,
    },
    "Observation.referenceRange": {"obs-3": any_of("low", "high", "text")},
    "OperationDefinition.parameter": {
        "opd-1": any_of("type", "part"),
        "opd-2": only_when("searchType", "type", "string"),
        "opd-3": only_when("targetProfile", "type", "Reference", "canonical"),
    },
    "Organization": {
        "org-1": any_of("identifier", "name"),
        "org-2": _not_home("address"),
        "org-3": _not_home("telecom"),
    },
    "Parameters.parameter": {"inv-1": _parameter_holds_one},
    "Patient.contact": {"pat-1": any_of("name", "telecom", "address", "organization")},
    "Questionnaire": {"que-2": _distinct_descendants("item", "linkId")},
    "Questionnaire.item": {
        "que-1": _item_nested_rightly,
        "que-3": excluded_when("code", "type", "display"),
        "que-4": not_both("answerOption", "answerValueSet"),
        "que-5": every(
            *(
                only_when(
                    name,
                    "type",
                    *("choice", "open-choice", "decimal", "integer", "date", "dateTime", "time", "string", "quantity"),
                )
                for name in ("answerValueSet", "answerOption")
            )
        ),
        "que-6": every(excluded_when("required", "type", "display"), excluded_when("repeats", "type", "display")),
        "que-8": excluded_when("initial", "type", "group", "display"),
        "que-9": excluded_when("readOnly", "type", "display"),
        "que-10": only_when(
            "maxLength", "type", "boolean", "decimal", "integer", "string", "text", "url", "open-choice"
        ),
        "que-11": not_both("answerOption", "initial"),
        "que-12": _behavior_given,
        "que-13": _one_initial_value,
    },
    "Questionnaire.item.enableWhen": {
        "que-7": lambda node: node.get("operator") != "exists" or has("answerBoolean")(node)
    },
    "QuestionnaireResponse.item": {"qrs-1": not_both("answer", "item")},
    "RequestGroup.action": {"rqg-1": exactly_one("resource", "action")},
    "SearchParameter": {
        "spd-1": needs("xpath", "xpathUsage"),
        "spd-2": only_when("chain", "type", "reference"),
    },
    "ServiceRequest": {"prr-1": needs("orderDetail", "code")},
    "Task": {"inv-1": in_order("authoredOn", "lastModified")},
    "ValueSet.compose.include": {
        "vsd-1": any_of("valueSet", "system"),
        "vsd-2": every(needs("concept", "system"), needs("filter", "system")),
        "vsd-3": not_both("concept", "filter"),
    },
    "ValueSet.expansion.contains": {
        "vsd-6": any_of("code", "display"),
        "vsd-9": lambda node: has("code")(node) or node.get("abstract") is True,
        "vsd-10": needs("code", "system"),
    },
}
"""Predicates by the type or backbone path whose elements they judge, then by the key of the invariant."""

COMPUTABLE_NAME: Predicate = _name_is_computable
"""The rule that every conformance resource repeats under its own key (`vsd-0`, `que-0`…): a warning."""
