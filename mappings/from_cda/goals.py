"""Section 4 of the PPS, *plan de soins / plan d'aides* → Goal, ServiceRequest, Observation:
inverse of `to_cda.goals` and `to_cda.actions`."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda.model import II, Code, EntryAuthor, Section, Statement
from relais.cda.templates import REQUEST, SIMPLE_OBSERVATION
from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import codings, concept, identifiers, period
from relais.mappings.from_cda.parties import party
from relais.mappings.from_cda.performers import performer
from relais.mappings.from_cda.plan import (
    OTHER_PROBLEM,
    RULE,
    Plan,
    has_template,
    is_denied,
    is_no_fact,
    report_unread,
    stated,
    status_of,
    subentries,
    value_text,
)
from relais.mappings.from_cda.problems import goal_problem
from relais.mappings.from_cda.reading import SECTION_RULE, Reading, key_of
from relais.mappings.from_cda.remarks import achievement, action_remarks, goal_remarks
from relais.mappings.from_cda.social import effective, observation_status, observed_value
from relais.mappings.to_cda.goals import NO_GOAL, PRELIMINARY, UNSPECIFIED_PROBLEM

_LIFECYCLES = {
    "new": "proposed",
    "active": "active",
    "held": "on-hold",
    "suspended": "on-hold",
    "completed": "completed",
    "cancelled": "cancelled",
    "aborted": "cancelled",
}
"""statusCode → Goal.lifecycleStatus; one that was aborted is abandoned: that the person refused it, words alone say."""

_REQUESTS = {
    "new": "draft",
    "active": "active",
    "held": "on-hold",
    "suspended": "on-hold",
    "completed": "completed",
    "cancelled": "revoked",
    "aborted": "revoked",
}


def read_goals(reading: Reading, section: Section, plan: Plan, path: str) -> list[Resource]:
    """References to the Goals, actions and assessments of the section, goal by goal."""
    found: list[Resource] = []
    for index, entry in enumerate(section.entries, 1):
        place = f"{path}/entry[{index}]/{entry.kind}"
        if is_denied(reading, entry, place):
            continue
        if has_template(entry, REQUEST) and not _has_happened(reading, entry, place):
            found += _row(reading, plan, entry, index, place)
        else:
            reading.inform(place, "not a goal of the volet: narrative only", SECTION_RULE)
    _report_shared_ids(reading, section, path)
    return list({one["reference"]: one for one in found}.values())


def _row(reading: Reading, plan: Plan, entry: Statement, number: int, path: str) -> list[Resource]:
    """A top-level entry: its goal, unless it only carries actions that have none."""
    goal = None if _is_carrier(reading, entry) else _goal(reading, plan, entry, path)
    found = [goal] if goal else []
    actions = [
        _action(reading, plan, action, goal, number, place)
        for action, place in subentries(entry, path, "SPRT")
        if not is_denied(reading, action, place) and not _has_happened(reading, action, place)
    ]
    _enlist(plan, actions)
    assessments = [
        reference
        for assessment, place in subentries(entry, path, "GEVL")
        if not is_no_fact(reading, assessment, place)
        for reference in _assessment(reading, plan, assessment, goal, place)
    ]
    if goal is not None and assessments:
        reading.resource(goal)["outcomeReference"] = assessments
    elif assessments and actions:
        activity = next(one for one in plan.activities if one["reference"] == actions[0])
        activity.setdefault("outcomeReference", []).extend(assessments)
    for relation in entry.relationships:
        if relation.type_code not in ("SPRT", "GEVL"):
            reading.inform(path, "an entry of another relation than SPRT and GEVL: narrative only", RULE)
    return [*found, *actions, *assessments]


def _has_happened(reading: Reading, entry: Statement, path: str) -> bool:
    """Whether an entry is an event, and no goal nor intention; which is said."""
    if entry.mood_code == "EVN":
        reading.warn(f"{path}/@moodCode", "an event, neither goal nor action to come: narrative only", RULE)
    return entry.mood_code == "EVN"


def _is_carrier(reading: Reading, entry: Statement) -> bool:
    """Whether the entry only carries actions without goal, as `to_cda` writes it."""
    value = _coded_value(entry)
    words = reading.words.find(entry.text.reference) if entry.text and entry.text.reference else None
    without_goal = value is None or (value.null_flavor is not None and not stated(value.original_text))
    return without_goal and words == NO_GOAL and (entry.code is None or entry.code.code in (None, OTHER_PROBLEM))


def _coded_value(entry: Statement) -> Code | None:
    return next((one for one in entry.values if isinstance(one, Code)), None)


# --- goals --------------------------------------------------------------------------------------------------------


def _goal(reading: Reading, plan: Plan, entry: Statement, path: str) -> Resource:
    elements: Resource = {
        "identifier": identifiers(entry.ids),
        "lifecycleStatus": status_of(reading, entry, path, _LIFECYCLES, "active"),
        "description": _description(reading, entry, path),
        "subject": plan.subject,
        "startDate": reading.day(_start(entry), f"{path}/effectiveTime"),
        "target": _targets(reading, entry, path),
        "addresses": _addressed(reading, plan, entry, path),
        **goal_remarks(reading, entry, plan.subject),
        **_expressed_by(reading, entry, path),
    }
    report_unread(reading, entry, path, "ids", "code", "time", "values", "authors", "relationships")
    reference = reading.add("Goal", (path,), elements)
    plan.goals.append(reference)
    return reference


def _start(entry: Statement) -> str | None:
    return entry.time.low or entry.time.value if entry.time else None


def _description(reading: Reading, entry: Statement, path: str) -> Resource:
    value = _coded_value(entry)
    found = concept(value, value_text(reading, value, f"{path}/value")) if value else {}
    if not found:
        reading.warn(f"{path}/value", "the goal is not said in words", RULE, "required")
        return {"text": NO_GOAL}
    return found


def _addressed(reading: Reading, plan: Plan, entry: Statement, path: str) -> list[Resource]:
    words = reading.words.find(entry.text.reference) if entry.text and entry.text.reference else None
    if words == UNSPECIFIED_PROBLEM and not codings(entry.code):
        return []
    problem = goal_problem(reading, plan, entry, path)
    return [problem] if problem else []


def _expressed_by(reading: Reading, entry: Statement, path: str) -> Resource:
    """The professional who wants the goal, and when that was said."""
    author = next(iter(entry.authors), None)
    reference = party(reading, author.assigned, f"{path}/author/assignedAuthor") if author else None
    if author is None or reference is None:
        return {}
    return {"expressedBy": reference, "statusDate": _said(reading, author, entry, path)}


def _said(reading: Reading, author: EntryAuthor, entry: Statement, path: str) -> str | None:
    return reading.day(author.time, f"{path}/author/time") if author.time != _start(entry) else None


def _targets(reading: Reading, entry: Statement, path: str) -> list[Resource]:
    """What tells that the goal is reached, and by when."""
    due = reading.day(entry.time.high, f"{path}/effectiveTime") if entry.time else None
    criteria = [
        text
        for assessment, place in subentries(entry, path, "GEVL")
        if assessment.status != "nullified" and not assessment.of_another
        for criterion in assessment.criteria
        if (text := reading.text(criterion, f"{place}/precondition/criterion/text/reference"))
    ]
    targets: list[Resource] = [{"measure": {"text": text}} for text in criteria]
    if due:
        targets = targets or [{}]
        targets[0]["dueDate"] = due
    return targets


# --- actions --------------------------------------------------------------------------------------------------------


def _action(
    reading: Reading, plan: Plan, entry: Statement, goal: Resource | None, goal_number: int, path: str
) -> Resource:
    """The ServiceRequest of an action; one that the document repeats under several goals is one resource."""
    performers = []
    for index, participant in enumerate(entry.participants, 1):
        if reference := performer(reading, participant, f"{path}/participant[{index}]"):
            performers.append(reference)
    elements: Resource = {
        "identifier": identifiers(_own_id(ii, goal_number) for ii in entry.ids),
        "status": status_of(reading, entry, path, _REQUESTS, "unknown"),
        "intent": "proposal" if entry.mood_code == "PRP" else "plan",
        "category": [coded for kind in entry.methods if (coded := concept(kind))],
        "code": _what(reading, entry, path),
        "subject": plan.subject,
        **action_remarks(reading, entry, _occurrence(reading, entry, path)),
        "performer": performers,
    }
    report_unread(reading, entry, path, "ids", "code", "time", "values", "methods", "participants")
    if entry.status == "aborted":
        reading.inform(f"{path}/statusCode", "an aborted action is revoked: written back as cancelled", RULE)
    key = ("action", key_of(elements)) if elements["identifier"] else ("action", path)
    reference = reading.add("ServiceRequest", key, elements)
    if goal is not None:
        pertains = {"url": extensions.PERTAINS_TO_GOAL, "valueReference": goal}
        reading.resource(reference).setdefault("extension", []).append(pertains)
    return reference


def _enlist(plan: Plan, actions: list[Resource]) -> None:
    """Put the actions of a goal among those of the plan, so that the order of every goal's actions is kept: new ones
    stand before the next one that is already there."""
    waiting: list[Resource] = []
    for action in actions:
        known = next((place for place, one in enumerate(plan.activities) if one["reference"] == action), None)
        waiting.append({"reference": action})
        if known is not None:
            plan.activities[known:known] = waiting[:-1]
            waiting = []
    plan.activities += waiting


def _own_id(ii: II, goal_number: int) -> II:
    """The id of an action without the number of the goal, which marks its copy under each of several goals."""
    return II(ii.root) if ii.extension == str(goal_number) else ii


def _what(reading: Reading, entry: Statement, path: str) -> Resource:
    value = _coded_value(entry)
    words = reading.text(entry.text, f"{path}/text/reference")
    if words is None and value is not None:
        words = value_text(reading, value, f"{path}/value")
    found = {"coding": [*codings(entry.code), *codings(value)], "text": words}
    if not words:
        reading.warn(f"{path}/text", "the action is not said in words", RULE, "required")
    return {name: content for name, content in found.items() if content}


def _occurrence(reading: Reading, entry: Statement, path: str) -> Resource:
    when = period(reading, entry.time, f"{path}/effectiveTime")
    if entry.time is not None and entry.time.value:
        return {"occurrenceDateTime": when["start"]} if when else {}
    return {"occurrencePeriod": when} if when else {}


# --- assessments ------------------------------------------------------------------------------------------------------


def _assessment(reading: Reading, plan: Plan, entry: Statement, goal: Resource | None, path: str) -> Iterator[Resource]:
    """The Observation of a *bilan d'étape*; none for an entry that only carries criteria, or the status of the goal."""
    if not has_template(entry, SIMPLE_OBSERVATION):
        reading.inform(path, "not a bilan of the volet: narrative only", SECTION_RULE)
        return
    report_unread(reading, entry, path, "ids", "code", "time", "values", "criteria")
    value = observed_value(reading, entry, path)
    if "dataAbsentReason" in value and entry.criteria:
        return
    status, value = _unmarked(observation_status(reading, entry, path), value)
    if goal is not None and (reached := achievement(value.get("valueString", ""))):
        date = reading.day(entry.time.value, f"{path}/effectiveTime") if entry.time else None
        reading.resource(goal).update(reached | ({"statusDate": date} if date else {}))
        return
    elements: Resource = {
        "identifier": identifiers(entry.ids),
        "basedOn": [plan.reference],
        "status": status,
        "code": concept(entry.code) or {"text": "Bilan d'étape"},
        "subject": plan.subject,
        "focus": [goal] if goal else [],
        **effective(reading, entry, path),
        **value,
    }
    yield reading.add("Observation", ("assessment", path), elements)


def _unmarked(status: str, value: Resource) -> tuple[str, Resource]:
    """Status and value of an assessment whose words begin by saying that it is provisional, without these words."""
    coded = value.get("valueCodeableConcept", {})
    said = value.get("valueString") or coded.get("text") or ""
    if not said.startswith(PRELIMINARY):
        return status, value
    words = said.removeprefix(PRELIMINARY)
    plain: Resource = {"valueCodeableConcept": coded | {"text": words}} if coded else {"valueString": words}
    return "preliminary", value | plain


# --- identity ---------------------------------------------------------------------------------------------------------


def _report_shared_ids(reading: Reading, section: Section, path: str) -> None:
    """Ids that several entries bear: the official example of the volet has such."""
    seen: set[tuple[str | None, str | None]] = set()
    for entry in section.entries:
        for one in (entry, *(relation.statement for relation in entry.relationships)):
            for ii in one.ids:
                if (ii.root, ii.extension) in seen:
                    reading.inform(
                        path, "several entries bear one id: each resource keeps it", "docs/mapping-pps.md, Identifiers"
                    )
                seen.add((ii.root, ii.extension))
