"""Section 1 of the PPS, *problèmes actifs / ALD* → Condition: inverse of `to_cda.problems`."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda.datatypes import datetime_from_ts
from relais.cda.model import Code, Section, Statement
from relais.cda.templates import CERTAINTY, COMMENT, PROBLEM, PROBLEM_CONCERN
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import concept, identifiers, stated_concept
from relais.mappings.from_cda.plan import (
    CLINICAL_STATUSES,
    RULE,
    VERIFICATION_STATUSES,
    Plan,
    ProblemConcept,
    has_template,
    is_no_fact,
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

_CERTAINTIES = {
    "refuted": frozenset({"410516002", "410594000", "723511001", "refuted"}),
    "confirmed": frozenset({"410605003", "410515003", "59156000", "confirmed"}),
}
"""Condition.verificationStatus of the values of FR-Certitude (SNOMED CT context values, condition-ver-status)."""

_STATUSES = {"active": "active", "suspended": "inactive", "aborted": "inactive", "completed": "resolved"}


def read_problems(reading: Reading, section: Section, plan: Plan, path: str) -> list[Resource]:
    """References to the Conditions of the section, in its order."""
    found = []
    for index, entry in enumerate(section.entries, 1):
        place = f"{path}/entry[{index}]/{entry.kind}"
        problems = list(_observations(entry, place))
        if is_no_fact(reading, entry, place):
            continue
        if not has_template(entry, PROBLEM_CONCERN) or not problems:
            reading.inform(place, "not a problem of the volet: narrative only", SECTION_RULE)
            continue
        stated = [(problem, each) for problem, each in problems if not is_no_fact(reading, problem, each)]
        found += [_condition(reading, plan, entry, problem, each) for problem, each in stated]
    plan.addresses += found
    return found


def _observations(entry: Statement, path: str) -> Iterator[tuple[Statement, str]]:
    return ((one, place) for one, place in subentries(entry, path) if has_template(one, PROBLEM))


def _condition(reading: Reading, plan: Plan, concern: Statement, problem: Statement, path: str) -> Resource:
    report_unread(reading, concern, path, "ids", "code", "time", "relationships")
    report_unread(reading, problem, path, "ids", "code", "time", "values", "target_sites", "relationships")
    what = _what(reading, problem, path)
    onset, end = _bounds(reading, problem, path)
    status = status_of(reading, concern, f"{path}/../..", _STATUSES, "active")
    if end and status == "active":
        status, end = _ended(reading, problem, end, f"{path}/effectiveTime/high")
    elements: Resource = {
        "identifier": identifiers(problem.ids),
        "clinicalStatus": {"coding": [{"system": CLINICAL_STATUSES, "code": status}]},
        "verificationStatus": _refuted(reading, problem, path)
        or _certainty(reading, problem, path)
        or what.verification,
        "category": _categories(problem, what),
        "code": what.concept,
        "subject": plan.subject,
        "onsetDateTime": onset,
        "abatementDateTime": end,
        "recordedDate": _recorded(reading, concern, onset, path),
        "note": _notes(reading, problem, path),
        "bodySite": [
            stated_concept(reading, one, f"{path}/targetSiteCode") for one in problem.target_sites if one.code
        ],
        **problem_remarks(reading, problem, status),
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
    if value is not None and any(code.qualifiers for code in (value, *value.translations)):
        reading.warn(
            f"{path}/value/qualifier", "it may change what the problem is (a side, a degree): narrative only", RULE
        )
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


def _ended(reading: Reading, problem: Statement, end: str, path: str) -> tuple[str, str | None]:
    """Clinical status and end of a problem that has an end under a concern that is active: a problem that is over,
    which is still watched, unless the end lies after the document (IHE PCC Problem Entry: `high` is there when the
    problem is no longer known to be true)."""
    written = reading.document.header.effective_time
    high = problem.time.high if problem.time else None
    if high and written and datetime_from_ts(high) > datetime_from_ts(written):
        reading.warn(path, "an end to come: the problem is active, the end is left out", RULE)
        return "active", None
    reading.warn(path, "an end, and a concern that is still active: read as inactive", RULE)
    return "inactive", end


def _certainty(reading: Reading, problem: Statement, path: str) -> Resource | None:
    """Condition.verificationStatus of a FR-Certitude: what it does not call certain is no established fact."""
    for certainty, place in subentries(problem, path):
        if not has_template(certainty, CERTAINTY):
            continue
        values = [value for value in certainty.values if isinstance(value, Code)]
        stated = {code.code for value in values for code in (value, *value.translations)}
        code = next((found for found, tokens in _CERTAINTIES.items() if not tokens.isdisjoint(stated)), "unconfirmed")
        if code != "confirmed":
            reading.warn(place, f"the problem is not said to be certain: {code}", RULE)
        return {"coding": [{"system": VERIFICATION_STATUSES, "code": code}]}
    return None


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
        if has_template(comment, CERTAINTY):
            continue
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
