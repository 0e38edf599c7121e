"""Goal, actions, assessments → section 4 of the PPS, *plan de soins / plan d'aides* (CI-SIS PPS-PAERPA 2022.01).

One row of the narrative per goal, one top-level entry per goal, from the same object.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from relais.cda import sections
from relais.cda.model import Code, EntryAuthor, Interval, Relationship, Section, Statement, Text
from relais.cda.narrative import Element, Node, bullet_list, paragraph, table
from relais.mappings import terminology
from relais.mappings.context import Resource
from relais.mappings.identity import codes
from relais.mappings.to_cda.actions import ACTION, Action
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import codings, concept_text, original, period
from relais.mappings.to_cda.parties import assigned_entity, read_party
from relais.mappings.to_cda.problems import Problem, goal_code, read_problem
from relais.mappings.to_cda.prose import annotation, french_date, marked, measure, readable

RULE = "CI-SIS PPS-PAERPA 2022.01, section 4"
ASSESSMENT = "ORG-012"
COLUMNS = (
    "Problème",
    "Objectifs partagés",
    "Actions (dont ETP)",
    "Intervenants",
    "Critères d'atteinte des résultats",
    "Bilan d'étape (avec date)",
)
UNSPECIFIED_PROBLEM = "Problème non précisé"
NO_GOAL = "Sans objectif formulé"

STATUSES = {
    "proposed": "new",
    "planned": "new",
    "accepted": "active",
    "active": "active",
    "on-hold": "suspended",
    "completed": "completed",
    "cancelled": "cancelled",
    "rejected": "aborted",
}
STATUS = "Statut : "
STATUS_WORDS = {
    "proposed": "proposé",
    "planned": "à venir",
    "accepted": "accepté",
    "active": "en cours",
    "on-hold": "suspendu",
    "completed": "terminé",
    "cancelled": "abandonné",
    "rejected": "refusé",
}
"""Goal.lifecycleStatus in the words of the narrative, which tell more of them apart than the statusCode does."""

ACHIEVEMENTS = {
    "in-progress": "en cours",
    "improving": "en progrès",
    "worsening": "en recul",
    "no-change": "sans changement",
    "achieved": "atteint",
    "sustaining": "atteint et maintenu",
    "not-achieved": "non atteint",
    "no-progress": "sans progrès",
    "not-attainable": "non atteignable",
}
"""Goal.achievementStatus in the words of the assessment."""

UNREACHED, REACHED = frozenset({"not-achieved", "not-attainable"}), frozenset({"achieved", "sustaining"})
PRELIMINARY = "Provisoire : "
"""How an assessment begins that is no final result."""

START, CATEGORY, STATUS_REASON = "Début : ", "Catégorie : ", "Motif du statut : "
STATUS_DATE = "Date du statut : "
PRIORITIES = {"high-priority": "haute", "medium-priority": "moyenne", "low-priority": "basse"}
"""Goal.priority in the words of the narrative."""

_FACTS = frozenset({"final", "amended", "corrected", "preliminary"})


class Assessment(msgspec.Struct, gc=False):
    """A *bilan d'étape*: when (FHIR dateTime or None), what; `source` gives its id."""

    time: str | None
    text: str
    codes: list[Code]
    source: Resource
    path: str
    role: str = ""


class Row(msgspec.Struct, gc=False):
    """A goal of the plan with everything that hangs under it. The carrier of actions without goal has no resource."""

    goal: Resource
    path: str
    problems: list[Problem]
    conditions: list[Resource] = []
    actions: list[Action] = []
    assessments: list[Assessment] = []

    @property
    def is_carrier(self) -> bool:
        """Whether this row only carries actions that belong to no goal."""
        return not self.goal


def plan_section(conversion: Conversion, rows: list[Row]) -> Section:
    """Section 4 from the rows of the plan."""
    action_counts: dict[int, int] = {}
    for row in rows:
        for action in row.actions:
            action_counts[id(action)] = action_counts.get(id(action), 0) + 1
    entries, cells = [], []
    for number, row in enumerate(rows, 1):
        entry, cell = _goal_entry(conversion, row, number, action_counts)
        entries.append(entry)
        cells.append(cell)
    text: list[Node] = [table(COLUMNS, cells)]
    return sections.section(sections.CARE_PLAN, conversion.computed_id("section", "plan"), text, entries)


# --- goals --------------------------------------------------------------------------------------------------------


def read_rows(
    conversion: Conversion, plan: Resource, problems: dict[int, Problem | None], actions: list[Action]
) -> list[Row]:
    """The goals of the plan, each with its actions and assessments; actions without goal share one last row.

    `problems` are the Conditions read so far, by identity of the resource; it receives those that only goals address.
    """
    rows: list[Row] = []
    for reference, goal, path in conversion.references(plan, "goal", "CarePlan"):
        if goal is None:
            conversion.say_named(reference, path, "Objectif")
        if goal is None or any(row.goal is goal for row in rows) or not conversion.same_patient(goal, "subject", path):
            continue
        if goal.get("lifecycleStatus") == "entered-in-error":
            conversion.inform(f"{path}.lifecycleStatus", "entered in error: not written", RULE)
            continue
        row = Row(goal, path, [])
        for reference, condition, place in conversion.references(goal, "addresses", path):
            if condition is None:
                conversion.say_named(reference, place, "Problème d'un objectif")
            elif condition.get("resourceType") != "Condition":
                conversion.inform(place, "only Conditions are written as problems of a goal", RULE)
            else:
                if id(condition) not in problems:
                    problems[id(condition)] = _late_problem(conversion, condition, place)
                problem = problems[id(condition)]
                row.conditions.append(condition)
                row.problems += [problem] if problem else []
        rows.append(row)
    _hang_actions(conversion, rows, actions)
    stated = [pair for pair in conversion.shared("Observation") if ASSESSMENT in codes(pair[0].get("code"))]
    for row in rows:
        found = _assessments(conversion, row, stated)
        row.assessments = sorted(found, key=lambda one: (one.time is None, one.time or ""))
    return rows


def _late_problem(conversion: Conversion, condition: Resource, path: str) -> Problem | None:
    conversion.warn(path, "the problem of a goal is not among those the plan addresses", "docs/mapping-pps.md")
    return read_problem(conversion, condition, path)


def _hang_actions(conversion: Conversion, rows: list[Row], actions: list[Action]) -> None:
    """Each action under its goals; else under the goals of the same problem; else under a row of its own."""
    orphans = []
    for action in actions:
        goals = [id(goal) for goal in action.goals]
        targets = [row for row in rows if id(row.goal) in goals]
        if action.goals and not targets:
            conversion.inform(f"{action.path}.goal", "the goal is not one of the plan", RULE)
        if not targets:
            reasons = {id(condition) for condition in action.conditions}
            targets = [row for row in rows if not reasons.isdisjoint(map(id, row.conditions))]
        known = {id(condition) for row in targets for condition in row.conditions}
        for condition in action.conditions:
            if id(condition) not in known and (problem := read_problem(conversion, condition, action.path)):
                action.text = f"{action.text} – Motif : {problem.label}"
        for row in targets:
            row.actions.append(action)
        if not targets:
            orphans.append(action)
    if orphans:
        rows.append(Row({}, "CarePlan.activity", [], actions=orphans))


def _goal_entry(
    conversion: Conversion, row: Row, number: int, action_counts: dict[int, int]
) -> tuple[Statement, list[list[Node]]]:
    goal, path = row.goal, row.path
    problem_id, goal_id = f"probleme-{number}", f"objectif-{number}"
    labels = [problem.label for problem in row.problems if problem.label]
    problem_text = " ; ".join(labels) or (NO_GOAL if row.is_carrier else UNSPECIFIED_PROBLEM)
    relationships: list[Relationship] = []
    action_cell, who_cell = _actions(conversion, row, number, action_counts, relationships)
    criteria_cell, assessment_cell = _evaluations(conversion, row, number, relationships)
    status = STATUSES.get(goal.get("lifecycleStatus", ""), "active")
    if row.is_carrier:
        code, value = terminology.coded("pps_problem", "GEN-092.01.01"), Code(null_flavor="NAV")
        entry_id, goal_cell = conversion.computed_id("carrier"), list[Node]()
    else:
        code = goal_code(conversion, row.problems[0] if row.problems else None, problem_id)
        value = original(goal_id, *codings(goal.get("description")))
        entry_id = conversion.entry_id(goal, path)
        goal_cell = _goal_cell(conversion, row, goal_id)
    authors = _author(conversion, goal, path)
    if not authors and (since := _status_date(row)):
        goal_cell.append(paragraph(f"{STATUS_DATE}{since}"))
    entry = sections.request(
        entry_id,
        code,
        value,
        text=problem_id,
        status=status,
        time=_goal_time(conversion, goal, path),
        authors=authors,
        relationships=relationships,
    )
    cells: list[list[Node]] = [
        [marked(problem_text, problem_id)],
        goal_cell,
        action_cell,
        who_cell,
        criteria_cell,
        assessment_cell,
    ]
    return entry, cells


def _goal_cell(conversion: Conversion, row: Row, goal_id: str) -> list[Node]:
    """The goal in words, then what has no element: status, dates, priority, who wants it."""
    goal = row.goal
    text = concept_text(goal.get("description"))
    if not text:
        conversion.refuse(f"{row.path}.description.text", "the goal in words", RULE)
    said = [f"{STATUS}{STATUS_WORDS.get(goal.get('lifecycleStatus', ''), STATUS_WORDS['active'])}"]
    if reason := _status_reason(goal):
        said.append(f"{STATUS_REASON}{reason}")
    if start := french_date(goal.get("startDate")) or concept_text(goal.get("startCodeableConcept")):
        said.append(f"{START}{start}")
    if due := goal.get("target", [{}])[0].get("dueDate"):
        said.append(f"Échéance : {french_date(due)}")
    known = next((PRIORITIES[code] for code in codes(goal.get("priority")) if code in PRIORITIES), "")
    if word := known or concept_text(goal.get("priority")):
        said.append(f"Priorité : {word}")
    if who := _wanted_by(conversion, goal, row.path):
        said.append(f"Exprimé par {who}")
    if kinds := ", ".join(filter(None, map(readable, goal.get("category", ())))):
        said.append(f"{CATEGORY}{kinds}")
    return [marked(text, goal_id), *map(paragraph, said)]


def _status_reason(goal: Resource) -> str:
    """Why a goal has its status, when neither an assessment nor the list of what was not reached says so."""
    if "statusReason" not in goal or "achievementStatus" in goal or is_given_up(goal):
        return ""
    return (goal["statusReason"] or "").strip()


def _status_date(row: Row) -> str:
    """Since when a goal has its status, when no assessment says so."""
    if "statusDate" not in row.goal:
        return ""
    date = row.goal["statusDate"]
    told = any(one.source is row.goal and one.time == date for one in row.assessments)
    return "" if told else french_date(date)


def is_given_up(goal: Resource) -> bool:
    """Whether a goal was formulated and not reached: what was reached is not, whatever became of the goal."""
    stands = codes(goal.get("achievementStatus"))
    given_up = goal.get("lifecycleStatus") in ("cancelled", "rejected") and REACHED.isdisjoint(stands)
    return given_up or not UNREACHED.isdisjoint(stands)


def _wanted_by(conversion: Conversion, goal: Resource, path: str) -> str:
    reference = goal.get("expressedBy")
    target = conversion.resolve(reference, f"{path}.expressedBy", goal)
    if target is not None and conversion.is_patient(target):
        return "la personne"
    if target is not None and target.get("resourceType") == "RelatedPerson":
        conversion.same_patient(target, "patient", f"{path}.expressedBy.resolve()")
    if party := read_party(conversion, target, f"{path}.expressedBy.resolve()"):
        return party.display
    return (reference or {}).get("display", "") or ("un proche" if target else "")


def _goal_time(conversion: Conversion, goal: Resource, path: str) -> Interval | None:
    due = goal.get("target", [{}])[0].get("dueDate")
    return period(conversion, {"start": goal.get("startDate"), "end": due}, path)


def _author(conversion: Conversion, goal: Resource, path: str) -> list[EntryAuthor]:
    """Who wants the goal, when that is a professional with a number; others stand in the narrative."""
    target = conversion.resolve(goal.get("expressedBy"), f"{path}.expressedBy", goal)
    party = read_party(conversion, target, f"{path}.expressedBy.resolve()")
    if party is None or not party.is_professional or not (party.source.get("identifier")):
        return []
    assigned = assigned_entity(conversion, party, with_structure=False)
    time = conversion.time(goal.get("statusDate") or goal.get("startDate"), f"{path}.statusDate")
    return [EntryAuthor(assigned, time, None if time else "UNK")]


# --- actions ------------------------------------------------------------------------------------------------------


def _actions(
    conversion: Conversion, row: Row, number: int, counts: dict[int, int], relationships: list[Relationship]
) -> tuple[list[Node], list[Node]]:
    """SPRT entries of a goal; the cells of what is done and by whom."""
    what: list[list[Node]] = []
    who: list[list[Node]] = []
    for position, action in enumerate(row.actions, 1):
        narrative_id = f"action-{number}-{position}"
        relationships.append(
            sections.supported_by(_action_entry(conversion, action, narrative_id, number, counts[id(action)]))
        )
        kind = [f"{action.kind.display} : "] if action.kind else []
        extra = [f" ({' ; '.join(action.extra)})"] if any(action.extra) else []
        what.append([*kind, marked(action.text, narrative_id), *extra])
        who += [[name] for name in action.performer_names if [name] not in who]
    return ([bullet_list(what)] if what else []), ([bullet_list(who)] if who else [])


def _action_entry(conversion: Conversion, action: Action, narrative_id: str, goal_number: int, goals: int) -> Statement:
    if goals == 1:
        entry_id = conversion.entry_id(action.source, action.path)
    else:
        entry_id = conversion.shared_id(action.source, action.path, str(goal_number))
    return sections.request(
        entry_id,
        terminology.coded("pps", ACTION),
        original(narrative_id, *action.codes) if action.codes else Code(null_flavor="NAV"),
        text=narrative_id,
        status=action.status,
        time=action.time,
        methods=[action.kind] if action.kind else [],
        participants=action.performers,
    )


# --- assessments and criteria -------------------------------------------------------------------------------------


def _evaluations(
    conversion: Conversion, row: Row, number: int, relationships: list[Relationship]
) -> tuple[list[Node], list[Node]]:
    """GEVL entries of a goal, the criteria on the first; the cells of criteria and assessments."""
    criteria = [
        marked(text, f"critere-{number}" if position == 1 else f"critere-{number}-{position}")
        for position, text in enumerate(_criteria(row.goal), 1)
    ]
    preconditions = [sections.pointer(one.attributes["ID"]) for one in criteria]
    items: list[list[Node]] = []
    for position, assessment in enumerate(row.assessments, 1):
        narrative_id = f"bilan-{number}-{position}"
        relationships.append(
            sections.evaluated_by(_assessment_entry(conversion, assessment, narrative_id, preconditions))
        )
        preconditions = []
        when = [f"{french_date(assessment.time)} : "] if assessment.time else []
        items.append([*when, marked(assessment.text, narrative_id)])
    if preconditions:
        entry = sections.simple_observation(
            conversion.entry_id(row.goal, row.path, "criteria"),
            terminology.coded("pps", ASSESSMENT),
            [Code(null_flavor="NAV")],
            text=criteria[0].attributes["ID"],
            time=Interval(null_flavor="NAV"),
            negation=None,
            criteria=preconditions,
        )
        relationships.append(sections.evaluated_by(entry))
    return [_as_list(criteria)] if criteria else [], [bullet_list(items)] if items else []


def _as_list(elements: list[Element]) -> Node:
    return elements[0] if len(elements) == 1 else bullet_list([[element] for element in elements])


def _criteria(goal: Resource) -> Iterator[str]:
    """What tells that the goal is reached, one text per target; later due dates in words."""
    for position, target in enumerate(goal.get("target", ())):
        parts = [part for part in (readable(target.get("measure")), measure(target, "detail")) if part]
        due = measure(target, "due")
        late = f" (échéance : {french_date(due) if 'dueDate' in target else due})"
        if parts or (position and due):
            yield " : ".join(parts) + (late if due and (position or "dueDate" not in target) else "")


def _assessment_entry(
    conversion: Conversion, assessment: Assessment, narrative_id: str, criteria: list[Text]
) -> Statement:
    time = conversion.time(assessment.time, f"{assessment.path}.time")
    return sections.simple_observation(
        conversion.entry_id(assessment.source, assessment.path, assessment.role),
        terminology.coded("pps", ASSESSMENT),
        [original(narrative_id, *assessment.codes)],
        text=narrative_id,
        time=Interval(value=time) if time else None,
        negation=None,
        criteria=criteria,
    )


def _assessments(conversion: Conversion, row: Row, stated: list[tuple[Resource, str]]) -> Iterator[Assessment]:
    """Everything that says how a goal stands: Observations, outcome codes, achievement, notes, progress.

    `stated` are the Observations that assess goals, with their paths.
    """
    goal, path = row.goal, row.path
    seen: list[Resource] = []
    for observation, place in stated:
        focused = [id(conversion.resources.resolve(focus, observation)) for focus in observation.get("focus", ())]
        if id(goal) in focused:
            yield from _observed(conversion, observation, place, seen)
    for reference, outcome, place in conversion.references(goal, "outcomeReference", path):
        if outcome is not None and outcome.get("resourceType") == "Observation":
            yield from _observed(conversion, outcome, place, seen)
        elif outcome is None:
            conversion.say_named(reference, place, "Bilan")
        else:
            conversion.inform(place, "only Observations are written as assessments", RULE)
    for action in row.actions:
        for outcome in action.outcomes:
            if outcome.get("resourceType") == "Observation":
                yield from _observed(conversion, outcome, action.path, seen)
        for index, note in enumerate(action.progress):
            place = f"{action.path}.progress"
            yield from _noted(conversion, note, goal or action.source, place, f"progress-{index}")
    yield from _goal_outcomes(conversion, goal, path)


def _observed(conversion: Conversion, observation: Resource, path: str, seen: list[Resource]) -> Iterator[Assessment]:
    if any(observation is one for one in seen):
        return
    conversion.reached.add(id(observation))
    seen.append(observation)
    if observation.get("status") not in _FACTS or not conversion.same_patient(observation, "subject", path):
        conversion.inform(path, "not a final result of this patient: not written", RULE)
        return
    notes = [annotation(conversion, note, observation) for note in observation.get("note", ())]
    notes += [f"Interprétation : {words}" for one in observation.get("interpretation", ()) if (words := readable(one))]
    parts = [
        f"{readable(part.get('code'))} : {words}"
        for part in observation.get("component", ())
        if (words := measure(part, "value"))
    ]
    said = (measure(observation, "value"), *parts, *notes)
    text = "\n".join(part.strip() for part in said if part and part.strip())
    if text and observation["status"] == "preliminary":
        text = f"{PRELIMINARY}{text}"
    if not text:
        conversion.refuse(f"{path}.value", "the assessment in words", RULE)
        return
    moment = observation.get("effectiveDateTime") or observation.get("effectivePeriod", {}).get("start")
    found = codings(observation.get("valueCodeableConcept"))
    yield Assessment(moment, text, found, observation, path)


def _goal_outcomes(conversion: Conversion, goal: Resource, path: str) -> Iterator[Assessment]:
    when = goal.get("statusDate")
    for index, outcome in enumerate(goal.get("outcomeCode", ())):
        if text := readable(outcome):
            yield Assessment(when, text, codings(outcome), goal, f"{path}.outcomeCode[{index}]", f"outcome-{index}")
    achievement = codes(goal.get("achievementStatus"))
    words = ACHIEVEMENTS.get(achievement[0]) if achievement else None
    if words := words or readable(goal.get("achievementStatus")):
        reason = f" – {goal['statusReason'].strip()}" if goal.get("statusReason") else ""
        yield Assessment(
            when, f"Atteinte de l'objectif : {words}{reason}", [], goal, f"{path}.achievementStatus", "achievement"
        )
    for index, note in enumerate(goal.get("note", ())):
        yield from _noted(conversion, note, goal, f"{path}.note[{index}]", f"note-{index}")


def _noted(conversion: Conversion, note: Resource, source: Resource, path: str, role: str) -> Iterator[Assessment]:
    if text := annotation(conversion, note, source):
        yield Assessment(note.get("time"), text, [], source, path, role)
