"""What the narrative of a plan says beside the words that entries point to, where Relais and others write what has no
element in CDA: schedule and place of an action, priority of a goal, who wants it, why it was not reached.
"""

from __future__ import annotations

import re

from relais.cda.model import Code, Section, Statement
from relais.cda.narrative import walk
from relais.mappings import terminology
from relais.mappings.context import Resource
from relais.mappings.from_cda.narrative import first_words, words
from relais.mappings.from_cda.plan import CLINICAL_STATUSES
from relais.mappings.from_cda.reading import Reading
from relais.mappings.terminology import LEGAL_PROTECTION
from relais.mappings.to_cda.actions import INTENTION, INTENTIONS, PRECISE_WORDS, STATUS
from relais.mappings.to_cda.goals import (
    ACHIEVEMENTS,
    CATEGORY,
    PRIORITIES,
    START,
    STATUS_DATE,
    STATUS_REASON,
    STATUS_WORDS,
    STATUSES,
)
from relais.mappings.to_cda.goals import STATUS as GOAL_STATUS
from relais.mappings.to_cda.problems import COURSE, COURSES, SEVERITY, SITE, STAGE
from relais.mappings.to_cda.prose import french_date, french_period
from relais.mappings.to_cda.social import NOTE

PRIORITY_CODES = "http://terminology.hl7.org/CodeSystem/goal-priority"
ACHIEVEMENT_CODES = "http://terminology.hl7.org/CodeSystem/goal-achievement"
PRIORITY, WANTED_BY, PLACE = "Priorité : ", "Exprimé par ", "Lieu : "
MEASURE = "Mesure de protection : "
REASON, ACHIEVEMENT = " – motif : ", "Atteinte de l'objectif : "
THE_PERSON = "la personne"

_DAY = re.compile(r"(?:(?:\d\d/)?\d\d/)?\d{4}", re.ASCII)
_PARENTHESES = re.compile(r"\((.+)\)", re.DOTALL)


_COURSES = {f"{COURSE}{known}": code for code, known in COURSES.items()}
_GOAL_STATUSES = {f"{GOAL_STATUS}{known}": code for code, known in STATUS_WORDS.items()}
_INTENTIONS = {f"{INTENTION}{known}": code for code, known in INTENTIONS.items()}
_UNKNOWN = f"{STATUS}{PRECISE_WORDS['unknown']}"


def problem_remarks(reading: Reading, problem: Statement, status: str) -> Resource:
    """Condition.clinicalStatus when the lines under the problem say it more exactly than `status`, that of the entry;
    severity, bodySite and stage."""
    found: Resource = {}
    for line in _beside_value(reading, problem).splitlines():
        if line.startswith(SEVERITY):
            found["severity"] = {"text": line.removeprefix(SEVERITY)}
        elif line.startswith(SITE):
            found["bodySite"] = [{"text": line.removeprefix(SITE)}]
        elif line.startswith(STAGE):
            found["stage"] = [{"summary": {"text": line.removeprefix(STAGE)}}]
        elif (course := _COURSES.get(line)) and (course == "remission") == (status == "inactive"):
            found["clinicalStatus"] = {"coding": [{"system": CLINICAL_STATUSES, "code": course}]}
    return found


def goal_remarks(reading: Reading, entry: Statement, subject: Resource) -> Resource:
    """What the lines under the goal say: its exact status, priority, who wants it, category, status since when and why,
    start."""
    found: Resource = {}
    dated = entry.time is not None and (entry.time.low or entry.time.value)
    for line in _beside_value(reading, entry).splitlines():
        if line.startswith(PRIORITY):
            found["priority"] = _priority(line.removeprefix(PRIORITY))
        elif line == f"{WANTED_BY}{THE_PERSON}":
            found["expressedBy"] = subject
        elif line.startswith(WANTED_BY):
            found["expressedBy"] = {"display": line.removeprefix(WANTED_BY)}
        elif line.startswith(CATEGORY):
            found["category"] = [{"text": line.removeprefix(CATEGORY)}]
        elif line.startswith(STATUS_REASON):
            found["statusReason"] = line.removeprefix(STATUS_REASON)
        elif line.startswith(STATUS_DATE) and (day := _DAY.fullmatch(line.removeprefix(STATUS_DATE))):
            found["statusDate"] = "-".join(reversed(day[0].split("/")))
        elif (status := _GOAL_STATUSES.get(line)) and STATUSES[status] == entry.status:
            found["lifecycleStatus"] = status
        elif line.startswith(START) and not dated:
            found["startCodeableConcept"] = {"text": line.removeprefix(START)}
    return found


def _beside_value(reading: Reading, entry: Statement) -> str:
    texts = (getattr(value, "original_text", None) for value in entry.values)
    text = next((one for one in texts if one is not None and one.reference), None)
    return reading.words.beside(text.reference) if text and text.reference else ""


def _priority(word: str) -> Resource:
    code = next((code for code, known in PRIORITIES.items() if known == word), None)
    return {"coding": [{"system": PRIORITY_CODES, "code": code}]} if code else {"text": word}


def action_remarks(reading: Reading, entry: Statement, occurrence: Resource) -> Resource:
    """The elements of a ServiceRequest that say when and where, from `occurrence` and the words in parentheses; its
    status and intent, when they say these more exactly than the entry."""
    reference = entry.text.reference if entry.text else None
    match = _PARENTHESES.fullmatch(reading.words.beside(reference)) if reference else None
    if match is None:
        return occurrence
    bounds = occurrence.get("occurrencePeriod")
    known = {french_period(bounds), french_date(occurrence.get("occurrenceDateTime"))}
    parts = [part for part in match[1].split(" ; ") if part not in known]
    said = [part for part in parts if not part.startswith((STATUS, INTENTION))]
    places = [{"text": part.removeprefix(PLACE)} for part in said if part.startswith(PLACE)]
    schedule = " ; ".join(part for part in said if not part.startswith(PLACE))
    found: Resource = {"locationCode": places} if places else {}
    if intent := next((_INTENTIONS[part] for part in parts if part in _INTENTIONS), None):
        found["intent"] = intent
    if _UNKNOWN in parts and entry.status == "active":
        found["status"] = "unknown"
    if not schedule or "occurrenceDateTime" in occurrence:
        return found | occurrence
    repeat = {"repeat": {"boundsPeriod": bounds}} if bounds else {}
    return found | {"occurrenceTiming": {**repeat, "code": {"text": schedule}}}


def achievement(text: str) -> Resource:
    """Goal.achievementStatus and statusReason of an assessment that states them; empty for any other."""
    word, _, reason = text.removeprefix(ACHIEVEMENT).partition(" – ")
    code = next((code for code, known in ACHIEVEMENTS.items() if known == word), None)
    if not text.startswith(ACHIEVEMENT) or code is None:
        return {}
    found: Resource = {"achievementStatus": {"coding": [{"system": ACHIEVEMENT_CODES, "code": code}]}}
    return found | ({"statusReason": reason} if reason else {})


def protection_measures(sections: list[Section]) -> dict[str, Code]:
    """The legal protection measure (TRE_R217) that each guardian carries out, by the name of the guardian."""
    found = {}
    labels = {one.display: one for one in terminology.value_set("J11").values() if one.system == LEGAL_PROTECTION}
    for section in sections:
        for element in walk(section.text):
            text = words(element.children) if element.tag == "item" else ""
            label, _, owner = text.removeprefix(MEASURE).partition(" (")
            if text.startswith(MEASURE) and label in labels and owner.endswith(")"):
                found[owner[:-1]] = labels[label].as_code()
    return found


def notes(reading: Reading) -> list[str]:
    """The lines of the narrative that are notes, of the plan or of a disposition."""
    begin = NOTE.strip()
    items = [one.children for one in reading.words.items]
    likely = [words(item) for item in items if begin.startswith(first_words(item)[: len(begin)])]
    return [item for item in likely if item.startswith(NOTE)]


def reasons(section: Section) -> dict[str, str]:
    """Why goals were not reached, by the words of the goal."""
    items = (words(element.children) for element in walk(section.text) if element.tag == "item")
    pairs = (item.partition(REASON) for item in items)
    return {" ".join(goal.split()): reason for goal, _, reason in pairs if reason}
