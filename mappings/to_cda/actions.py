"""What a plan does, from every resource that can say it → one Action (CI-SIS PPS-PAERPA 2022.01, section 4).

ServiceRequest, Task, Appointment, MedicationRequest, NutritionOrder… behind `CarePlan.activity.reference`, or
`activity.detail`: each is read once into the same form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from relais.cda import sections
from relais.cda.model import II, Code, EntryParticipant, Interval
from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import (
    addresses,
    codings,
    concept_text,
    current_name,
    display_name,
    from_jdv,
    period,
    telecoms,
)
from relais.mappings.to_cda.parties import (
    party_addresses,
    party_ids,
    party_telecoms,
    read_party,
    speciality,
    structure_ids,
)
from relais.mappings.to_cda.prose import (
    annotation,
    as_needed,
    dosage,
    french_date,
    french_period,
    measure,
    quantity,
    readable,
    rhythm,
)
from relais.mappings.to_cda.relatives import kinship

RULE = "CI-SIS PPS-PAERPA 2022.01, section 4"
ACTION = "ORG-014"

_REQUEST = {
    "draft": "new",
    "active": "active",
    "on-hold": "suspended",
    "completed": "completed",
    "revoked": "cancelled",
    "cancelled": "cancelled",
    "stopped": "aborted",
}
_TASK = {
    **dict.fromkeys(("draft", "requested", "received", "accepted", "ready"), "new"),
    "in-progress": "active",
    "on-hold": "suspended",
    "completed": "completed",
    "cancelled": "cancelled",
    "rejected": "cancelled",
    "failed": "aborted",
}
_APPOINTMENT = {
    "proposed": "new",
    "pending": "held",
    "waitlist": "suspended",
    "booked": "active",
    "arrived": "active",
    "checked-in": "active",
    "fulfilled": "completed",
    "cancelled": "cancelled",
    "noshow": "aborted",
}
_DETAIL = {
    "not-started": "new",
    "scheduled": "active",
    "in-progress": "active",
    "on-hold": "suspended",
    "completed": "completed",
    "cancelled": "cancelled",
    "stopped": "aborted",
}
STATUSES = {"Task": _TASK, "Appointment": _APPOINTMENT, "": _DETAIL}
"""statusCode by type of resource; every other request has the request statuses of FHIR."""

STATUS = "Statut : "
STATUS_WORDS = {
    "new": "à venir",
    "held": "en attente",
    "suspended": "suspendue",
    "completed": "terminée",
    "cancelled": "annulée",
    "aborted": "abandonnée",
}
"""statusCode of an action in the words of the narrative; one that is active goes without saying."""

PRECISE_WORDS = {
    "unknown": "inconnu",
    "rejected": "refusée",
    "failed": "échec",
    "stopped": "arrêtée",
    "noshow": "la personne ne s'est pas présentée",
    "waitlist": "sur liste d'attente",
}
"""Statuses of FHIR of which the statusCode says less, or another thing, in the words of the narrative."""

INTENTIONS = {"proposal": "proposition", "option": "une des options"}
INTENTION = "Intention : "
"""ServiceRequest.intent of what nobody has decided yet, in the words of the narrative."""

_CODED = ("code", "medicationCodeableConcept", "codeCodeableConcept", "serviceType", "productCodeableConcept")
_NAMED = ("medicationReference", "codeReference", "productReference")
_DETAILS = {
    "reasonCode": "Motif",
    "orderDetail": "Précision",
    "bodySite": "Site",
    "performerType": "Intervenant souhaité",
    "statusReason": "Motif du statut",
    "cancelationReason": "Motif d'annulation",
    "foodPreferenceModifier": "Préférence alimentaire",
    "excludeFoodModifier": "À exclure",
}
_AMOUNTS = {"quantity": "Quantité", "dailyAmount": "Quantité par jour"}
_PRIORITIES = {"urgent": "urgente", "asap": "dès que possible", "stat": "immédiate"}
"""Elements without place in the volet, in the words of the narrative; a priority `routine` goes without saying."""

_DETAILED = frozenset(
    {
        *("priority", "asNeededBoolean", "asNeededCodeableConcept", "quantityQuantity", "quantityRatio"),
        *("quantityRange", *_DETAILS, *_AMOUNTS),
    }
)
"""Every name of such an element: most actions have none of them."""

_TIMES = (("occurrenceDateTime", "occurrenceTiming"), ("scheduledDateTime", "scheduledTiming"))
"""Elements that say when, other than by a Period."""

_PERIODS = ("occurrencePeriod", "scheduledPeriod", "executionPeriod")
"""A Period that says when, whatever it is called."""

_SUBJECTS = {"Task": "for", "NutritionOrder": "patient"}
"""Element that names the patient, where it is not `subject`."""


class Action(msgspec.Struct, gc=False):
    """An action of the plan. `extra` is said in the narrative only; `goals` and `conditions` are resources."""

    source: Resource  # the resource, or the activity.detail
    path: str
    text: str
    codes: list[Code]
    status: str
    kind: Code | None = None
    time: Interval | None = None
    extra: list[str] = []
    goals: list[Resource] = []
    conditions: list[Resource] = []
    performers: list[EntryParticipant] = []
    performer_names: list[str] = []
    progress: list[Resource] = []  # Annotations
    outcomes: list[Resource] = []  # Observations


def read_actions(conversion: Conversion, plan: Resource) -> list[Action]:
    """The actions of the plan in its order; those entered in error are left out."""
    found = []
    for index, activity in enumerate(plan.get("activity", ())):
        path = f"CarePlan.activity[{index}]"
        action = _read_activity(conversion, plan, activity, path)
        if action is not None:
            action.progress = activity.get("progress", [])
            for reference, outcome, place in conversion.references(activity, "outcomeReference", path, plan):
                if outcome is None:
                    conversion.say_named(reference, place, "Bilan")
                else:
                    action.outcomes.append(outcome)
            action.extra += [concept_text(outcome) for outcome in activity.get("outcomeCodeableConcept", ())]
            found.append(action)
    return found


def _read_activity(conversion: Conversion, plan: Resource, activity: Resource, path: str) -> Action | None:
    if "reference" in activity and "detail" in activity:
        conversion.refuse(path, "reference or detail, not both", "FHIR R4 cpl-3", "invariant")
        return None
    if "detail" in activity:
        return _read(conversion, activity["detail"], f"{path}.detail", plan)
    target = conversion.resolve(activity.get("reference"), f"{path}.reference", plan)
    if target is None:
        if not activity.get("reference", {}).get("reference"):
            conversion.refuse(path, "a reference to the action, or its detail", RULE)
        return None
    place = f"{path}.reference.resolve()"
    kind = target.get("resourceType", "")
    if kind != "Appointment":
        conversion.same_patient(target, _SUBJECTS.get(kind, "subject"), place)
    return _read(conversion, target, place, target)


def _read(conversion: Conversion, source: Resource, path: str, container: Resource) -> Action | None:
    kind = source.get("resourceType", "")
    if source.get("status") == "entered-in-error":
        conversion.inform(f"{path}.status", "entered in error: not written", RULE)
        return None
    if source.get("doNotPerform"):
        conversion.refuse(f"{path}.doNotPerform", "a prohibition, which an action cannot say", RULE, "business-rule")
    what = _concepts(conversion, source, path, container)
    text = _text(conversion, source, what, container)
    if not text:
        conversion.refuse(f"{path}.{'description' if kind != 'ServiceRequest' else 'code.text'}", "what is to do", RULE)
    reasons = list(_reason_references(conversion, source, path, container))
    action = Action(
        source=source,
        path=path,
        text=" – ".join([one for one in (text, *_details(source), *_reasons(reasons)) if one]),
        codes=[code for concept in what for code in codings(concept) if code.code != ACTION],
        status=STATUSES.get(kind, _REQUEST).get(source.get("status", ""), "active"),
        kind=from_jdv("pps_care_kind", _listed(source.get("category"))),
        goals=list(_goals(conversion, source, path, container)),
        conditions=[one for _, one in reasons if one is not None and one.get("resourceType") == "Condition"],
    )
    action.time, action.extra = _time(conversion, source, path)
    if state := PRECISE_WORDS.get(source.get("status", "")) or STATUS_WORDS.get(action.status):
        action.extra.insert(0, f"{STATUS}{state}")
    if intention := INTENTIONS.get(source.get("intent", "")):
        action.extra.append(f"{INTENTION}{intention}")
    for place in _places(source):
        if words := _place(conversion, place, path, container):
            action.extra.append(words)
    for reference, place in _performers(source, path):
        _add_performer(conversion, action, reference, place, container)
    return action


# --- what -------------------------------------------------------------------------------------------------------


def _concepts(conversion: Conversion, source: Resource, path: str, container: Resource) -> list[Resource]:
    """What is to do, coded: in the resource, or in the medication, device or product that it refers to."""
    stated = [concept for name in _CODED if name in source for concept in _listed(source[name])]
    for name in _NAMED:
        if name not in source:
            continue
        reference = source[name]
        target = conversion.resolve(reference, f"{path}.{name}", container) or {}
        known = target.get("code") or target.get("type")
        stated += _listed(known) if known else [{"text": reference["display"]}] if "display" in reference else []
    return stated


def _listed(element: Any) -> list[Resource]:
    """The CodeableConcepts of an element that some resources repeat and others do not (Coding aside)."""
    if not element:
        return []
    found = element if isinstance(element, list) else [element]
    return [one for one in found if isinstance(one, dict)]


def _text(conversion: Conversion, source: Resource, what: list[Resource], container: Resource) -> str:
    """The action in words: description or code, then notes and instructions."""
    said = [source.get("description") or _named(what), source.get("patientInstruction", "")]
    if "note" in source:
        said += [annotation(conversion, note, container) for note in source["note"]]
    if "dosageInstruction" in source:
        said += [dosage(one) for one in source["dosageInstruction"]]
    if "oralDiet" in source:
        said.append(_diet(source["oralDiet"]))
    return " – ".join([part.strip() for part in said if part and part.strip()])


def _named(concepts: list[Resource]) -> str:
    """The first words of the concepts, that of the code for any action apart."""
    for concept in concepts:
        if words := concept_text(_without_action_code(concept)):
            return words
    return ""


def _details(source: Resource) -> Iterator[str]:
    """What the volet has no element for: urgency, condition, reason, site, amount, kind of professional."""
    kinds = [one for one in _listed(source.get("category")) if from_jdv("pps_care_kind", [one]) is None]
    if kinds and (words := ", ".join(filter(None, map(readable, kinds)))):
        yield f"Catégorie : {words}"
    if _DETAILED.isdisjoint(source):
        return
    if urgency := _PRIORITIES.get(source.get("priority", "")):
        yield f"Priorité : {urgency}"
    if condition := as_needed(source):
        yield condition
    for name, label in _DETAILS.items():
        if name in source and (words := ", ".join(filter(None, map(readable, _listed(source[name]))))):
            yield f"{label} : {words}"
    for name, label in _AMOUNTS.items():
        if amount := quantity(source[name]) if name in source else measure(source, name):
            yield f"{label} : {amount}"


def _diet(diet: Resource) -> str:
    """Kind of diet, textures and of which food, nutrients, fluids, when, and instructions."""
    concepts = [readable(kind) for kind in diet.get("type", ())]
    for texture in diet.get("texture", ()):
        food = map(readable, (texture.get("modifier"), texture.get("foodType")))
        concepts.append(" pour ".join(filter(None, food)))
    for nutrient in diet.get("nutrient", ()):
        amount = (readable(nutrient.get("modifier")), quantity(nutrient.get("amount", {})))
        concepts.append(" : ".join(filter(None, amount)))
    concepts += [readable(kind) for kind in diet.get("fluidConsistencyType", ())]
    concepts += [rhythm(schedule) for schedule in diet.get("schedule", ())]
    return ", ".join(filter(None, (*concepts, diet.get("instruction", ""))))


def _without_action_code(concept: Resource) -> Resource:
    codings = [coding for coding in concept.get("coding", ()) if coding.get("code") != ACTION]
    return {"text": concept.get("text"), "coding": codings}


# --- when and where -----------------------------------------------------------------------------------------------


def _time(conversion: Conversion, source: Resource, path: str) -> tuple[Interval | None, list[str]]:
    """effectiveTime, and the schedule in words."""
    for date_time, timing_name in _TIMES:
        if moment := source.get(date_time):
            value = conversion.time(moment, f"{path}.{date_time}")
            return (Interval(value=value) if value else None), [french_date(moment)]
        if timing := source.get(timing_name):
            bounds = timing.get("repeat", {}).get("boundsPeriod")
            time = period(conversion, bounds, f"{path}.{timing_name}.repeat.boundsPeriod")
            return time, [words for words in (rhythm(timing), french_period(bounds)) if words]
    if words := (source.get("scheduledString") or "").strip():
        return None, [words]
    bounds = _bounds(source)
    words = french_period(bounds)
    return period(conversion, bounds, f"{path}.period"), [words] if words else []


def _bounds(source: Resource) -> Resource | None:
    """The Period in which the action takes place, whatever the element is called."""
    if source.get("resourceType") == "Appointment":
        return {name: source[name] for name in ("start", "end") if name in source}
    for name in _PERIODS:
        if stated := source.get(name):
            return dict(stated)
    return dict(source.get("restriction", {}).get("period", {}))


def _places(source: Resource) -> Iterator[Any]:
    """Where, whatever the element is called."""
    for name in ("locationCode", "locationReference"):
        if name in source:
            yield from source[name]
    if "location" in source:
        yield source["location"]


def _place(conversion: Conversion, place: Any, path: str, container: Resource) -> str:
    """Where, in words: a CodeableConcept, or a Reference to a Location."""
    if not isinstance(place, dict):
        return ""
    if "reference" in place:
        target = conversion.resolve(place, f"{path}.location", container) or {}
        return f"Lieu : {target.get('name') or place.get('display') or ''}".strip()
    words = place.get("display") or concept_text(place)
    return f"Lieu : {words}" if words else ""


# --- for which goal -----------------------------------------------------------------------------------------------


def _goals(conversion: Conversion, source: Resource, path: str, container: Resource) -> Iterator[Resource]:
    references = [one.get("valueReference", {}) for one in extensions.extensions(source, extensions.PERTAINS_TO_GOAL)]
    for index, reference in enumerate([*references, *source.get("goal", ())]):
        goal = conversion.resolve(reference, f"{path}.goal[{index}]", container)
        if goal is not None:
            yield goal


def _reasons(reasons: list[tuple[Resource, Resource | None]]) -> Iterator[str]:
    """Reasons that are no Condition, or that are only named, in words; a Condition tells under which goal one acts."""
    for reference, reason in reasons:
        if reason is None or reason.get("resourceType") != "Condition":
            words = readable((reason or {}).get("code")) or (reference.get("display") or "").strip()
            value = measure(reason or {}, "value")
            yield f"Motif : {words}{f' : {value}' if value else ''}" if words else ""


def _reason_references(
    conversion: Conversion, source: Resource, path: str, container: Resource
) -> Iterator[tuple[Resource, Resource | None]]:
    references = source.get("reasonReference", ())
    for index, reference in enumerate([references] if isinstance(references, dict) else references):
        place = f"{path}.reasonReference[{index}]"
        reason = conversion.resolve(reference, place, container)
        if reason is None or conversion.same_patient(reason, "subject", f"{place}.resolve()"):
            yield reference, reason


# --- by whom ------------------------------------------------------------------------------------------------------


def _performers(source: Resource, path: str) -> Iterator[tuple[Resource, str]]:
    """References of those who act, whatever the element is called."""
    if source.get("resourceType") == "Appointment":
        for index, participant in enumerate(source.get("participant", ())):
            if participant.get("status") != "declined" and "actor" in participant:
                yield participant["actor"], f"{path}.participant[{index}].actor"
        return
    performers = source.get("performer", [])
    for index, reference in enumerate([performers] if isinstance(performers, dict) else performers):
        yield reference, f"{path}.performer[{index}]"
    if "owner" in source:
        yield source["owner"], f"{path}.owner"


def _add_performer(conversion: Conversion, action: Action, reference: Resource, path: str, container: Resource) -> None:
    target = conversion.resolve(reference, path, container)
    if target is None:
        if name := (reference.get("display") or "").strip():
            _add(action, sections.performer(name), name)
        return
    kind = target.get("resourceType")
    if kind in ("Patient", "RelatedPerson"):
        if kind == "RelatedPerson":
            conversion.same_patient(target, "patient", f"{path}.resolve()")
        _add_relative(conversion, action, target, reference, path)
    elif kind == "Location":
        action.extra.append(f"Lieu : {target.get('name') or reference.get('display') or ''}".strip())
    else:
        _add_professional(conversion, action, target, reference, path)


def _add(action: Action, participant: EntryParticipant, name: str) -> None:
    action.performers.append(participant)
    action.performer_names.append(name)


def _add_relative(conversion: Conversion, action: Action, target: Resource, reference: Resource, path: str) -> None:
    if conversion.is_patient(target):
        _add(action, sections.performer("La personne"), "La personne")
        return
    if target.get("resourceType") == "Patient":
        conversion.refuse_other_patient(path)
        return
    relation = kinship(target.get("relationship", ()))
    name = display_name(current_name(target.get("name", ()))) or reference.get("display", "")
    words = " ".join(part for part in (name, f"({relation.display})" if relation else "") if part)
    if not words:
        conversion.refuse(f"{path}.resolve().name", "the name of who acts", RULE)
        return
    contacts = telecoms(conversion, target.get("telecom", ()), f"{path}.resolve()", name)
    participant = sections.performer(words, addresses=addresses(target.get("address", ())), telecoms=contacts)
    _add(action, participant, words)


def _add_professional(conversion: Conversion, action: Action, target: Resource, reference: Resource, path: str) -> None:
    """A professional, with structure; a structure or a service by its name alone."""
    party = read_party(conversion, target, f"{path}.resolve()")
    if party is None:
        name = target.get("name") or reference.get("display") or ""
        name = name if isinstance(name, str) else reference.get("display", "")
        if name.strip():
            _add(action, sections.performer(name.strip()), name.strip())
        else:
            conversion.refuse(f"{path}.display", "the name of who acts", RULE)
        return
    code = speciality(conversion, party)
    structure = party.structure or {}
    scope: list[II] = structure_ids(conversion, structure, f"{path}.resolve()")
    name = party.display or reference.get("display") or (code.display if code else None) or structure.get("name") or ""
    if not name.strip():
        conversion.refuse(f"{path}.resolve().name", "the name of who acts", RULE)
        return
    participant = sections.performer(
        name.strip(),
        ids=party_ids(conversion, party) if party.is_professional else (),
        code=code,
        addresses=party_addresses(conversion, party),
        telecoms=party_telecoms(conversion, party),
        structure_id=scope[0] if scope else None,
        structure_name=structure.get("name"),
    )
    function = f" ({code.display})" if code and party.is_professional else ""
    _add(action, participant, f"{name.strip()}{function}")
