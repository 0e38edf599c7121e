"""Section 1 of the PPS, *problèmes actifs / ALD* → Condition: inverse of `to_cda.problems`."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda.model import Code, Section, Statement
from relais.cda.templates import COMMENT, PROBLEM, PROBLEM_CONCERN
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import concept, identifiers
from relais.mappings.from_cda.plan import (
    CLINICAL_STATUSES,
    RULE,
    VERIFICATION_STATUSES,
    Plan,
    ProblemConcept,
    has_template,
    is_nullified,
    problem_concept,
    report_unread,
    status_of,
    subentries,
    value_text,
)
from relais.mappings.from_cda.reading import SECTION_RULE, Reading
from relais.mappings.from_cda.remarks import problem_remarks
from relais.mappings.terminology import RELAIS_CODES

CONDITION_CATEGORIES = f"{RELAIS_CODES}condition-category"

_STATUSES = {"active": "active", "suspended": "inactive", "aborted": "inactive", "completed": "resolved"}


def read_problems(reading: Reading, section: Section, plan: Plan, path: str) -> list[Resource]:
    """References to the Conditions of the section, in its order."""
    found = []
    for index, entry in enumerate(section.entries, 1):
        place = f"{path}/entry[{index}]/{entry.kind}"
        problems = list(_observations(entry, place))
        if is_nullified(reading, entry, place):
            continue
        if not has_template(entry, PROBLEM_CONCERN) or not problems:
            reading.inform(place, "not a problem of the volet: narrative only", SECTION_RULE)
            continue
        stated = [(problem, each) for problem, each in problems if not is_nullified(reading, problem, each)]
        found += [_condition(reading, plan, entry, problem, each) for problem, each in stated]
    plan.addresses += found
    return found


def _observations(entry: Statement, path: str) -> Iterator[tuple[Statement, str]]:
    return ((one, place) for one, place in subentries(entry, path) if has_template(one, PROBLEM))


def _condition(reading: Reading, plan: Plan, concern: Statement, problem: Statement, path: str) -> Resource:
    report_unread(reading, concern, path, "ids", "code", "time", "relationships")
    report_unread(reading, problem, path, "ids", "code", "time", "values", "relationships")
    what = _what(reading, problem, path)
    onset, end = _bounds(reading, problem, path)
    status = status_of(reading, concern, f"{path}/../..", _STATUSES, "active")
    if end and status == "active":
        reading.warn(
            f"{path}/effectiveTime/high", "an end, and a status that is still active: the end is left out", RULE
        )
        end = None
    elements: Resource = {
        "identifier": identifiers(problem.ids),
        "clinicalStatus": {"coding": [{"system": CLINICAL_STATUSES, "code": status}]},
        "verificationStatus": _refuted(reading, problem, path) or what.verification,
        "category": _categories(problem, what),
        "code": what.concept,
        "subject": plan.subject,
        "onsetDateTime": onset,
        "abatementDateTime": end,
        "recordedDate": _recorded(reading, concern, onset, path),
        "note": _notes(reading, problem, path),
        **problem_remarks(reading, problem),
    }
    if len({(ii.root, ii.extension) for ii in (*concern.ids, *problem.ids)}) > 1:
        reading.inform(f"{path}/../../id", "a Condition is one thing: the id of the wrapping act is not kept", RULE)
    reference = reading.add("Condition", ("problem", path), elements)
    plan.conditions.setdefault(what.key, reference)
    return reference


def _what(reading: Reading, problem: Statement, path: str) -> ProblemConcept:
    value = next((one for one in problem.values if isinstance(one, Code)), None)
    words = value_text(reading, value, f"{path}/value") if value else None
    words = words or reading.text(problem.text, f"{path}/text/reference")
    found = problem_concept(value, words)
    if not found.concept:
        reading.warn(f"{path}/value", "neither code nor words say what the problem is", RULE, "required")
        return ProblemConcept({"text": "Problème non précisé"})
    return found


def _bounds(reading: Reading, problem: Statement, path: str) -> tuple[str | None, str | None]:
    time = problem.time
    if time is None:
        return None, None
    return (
        reading.moment(time.low or time.value, f"{path}/effectiveTime"),
        reading.moment(time.high, f"{path}/effectiveTime"),
    )


def _recorded(reading: Reading, concern: Statement, onset: str | None, path: str) -> str | None:
    """When the problem was noted, unless that only repeats when it began."""
    low = concern.time.low or concern.time.value if concern.time else None
    recorded = reading.moment(low, f"{path}/../../effectiveTime")
    return recorded if recorded != onset else None


def _refuted(reading: Reading, problem: Statement, path: str) -> Resource | None:
    if not problem.negation:
        return None
    reading.warn(f"{path}/@negationInd", "the problem is denied: refuted, and not written back", RULE)
    return {"coding": [{"system": VERIFICATION_STATUSES, "code": "refuted"}]}


def _categories(problem: Statement, what: ProblemConcept) -> list[Resource]:
    kind = concept(problem.code)
    ald = {"coding": [{"system": CONDITION_CATEGORIES, "code": "ald"}]}
    return [*([kind] if kind else []), *([ald] if what.is_ald else [])]


def _notes(reading: Reading, problem: Statement, path: str) -> list[Resource]:
    notes = []
    for comment, place in subentries(problem, path):
        if not has_template(comment, COMMENT):
            reading.inform(place, "not a comment: narrative only", SECTION_RULE)
        elif text := reading.text(comment.text, f"{place}/text/reference"):
            notes.append({"text": text})
    return notes


def goal_problem(reading: Reading, plan: Plan, goal: Statement, path: str) -> Resource | None:
    """The Reference to the Condition that a goal addresses: one of section 1 when it is the same; None without any."""
    words = reading.text(goal.text, f"{path}/text/reference")
    what = problem_concept(goal.code, words)
    if not what.concept:
        return None
    if what.key not in plan.conditions:
        elements: Resource = {
            "clinicalStatus": {"coding": [{"system": CLINICAL_STATUSES, "code": "active"}]},
            "verificationStatus": what.verification,
            "code": what.concept,
            "subject": plan.subject,
        }
        reference = reading.add("Condition", ("goal", what.key), elements)
        plan.conditions[what.key] = reference
        plan.addresses.append(reference)
    return plan.conditions[what.key]
