"""Body of a PPS or PPCS → CarePlan and its resources: inverse of `to_cda.pps`."""

from __future__ import annotations

from collections.abc import Callable

from relais.cda import templates
from relais.cda.model import Code, Document, Section
from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import concept
from relais.mappings.from_cda.directives import read_directives
from relais.mappings.from_cda.goals import read_goals
from relais.mappings.from_cda.narrative import words
from relais.mappings.from_cda.parties import party
from relais.mappings.from_cda.plan import RULE, Plan, has_template, is_denied
from relais.mappings.from_cda.problems import read_problems
from relais.mappings.from_cda.reading import SECTION_RULE, Reading
from relais.mappings.from_cda.remarks import notes, reasons
from relais.mappings.from_cda.social import read_provisions
from relais.mappings.terminology import RELAIS_CODES
from relais.mappings.to_cda.datatypes import concept_text
from relais.mappings.to_cda.goals import is_given_up
from relais.mappings.to_cda.pps import PPCS_TITLE, STATE, STATES, UNREACHED_TITLE
from relais.mappings.to_cda.pps import STATUSES as DOCUMENT_STATUSES
from relais.mappings.to_cda.social import PLAN_NOTE, TOP_LEVEL, note_label

PLAN_CATEGORIES = f"{RELAIS_CODES}plan-category"

_STATUSES = {
    "385651009": "draft",
    "9571008": "active",
    "29179001": "completed",
    "398166005": "completed",  # réalisé, in the generic list only
    "GEN-034": "draft",
    "GEN-068": "active",
    "GEN-069": "completed",
}
"""Status of the document (SNOMED CT; before 2022 TerminologieCISIS) → CarePlan.status."""

_Reader = Callable[[Reading, Section, Plan, str], list[Resource]]


def is_pps(document: Document) -> bool:
    """Whether the document says it is a PPS, of any year."""
    return any(ii.root == templates.PPS_PAERPA for ii in document.header.template_ids)


class CarePlanReading:
    """Reads the sections of a PPS one by one; `finish` completes the CarePlan that they are about."""

    def __init__(self, reading: Reading, composition: Resource, team: Resource | None) -> None:
        self._reading, self._composition, self._team = reading, composition, team
        self._plan = Plan(reading.add("CarePlan", (), {}), composition["subject"])

    def read(self, section: Section, path: str) -> list[Resource] | None:
        """References to what the section is about, at least the plan; None for a section unknown to the volet."""
        if section.of_another:
            self._reading.warn(f"{path}/subject", "about somebody else than the patient: narrative only", RULE)
            return []
        roots = {ii.root for ii in section.template_ids}
        for template, reader in _READERS.items():
            if template in roots:
                found = reader(self._reading, section, self._plan, path)
                return [self._plan.reference, *found] if template == templates.CARE_PLAN[-1] or not found else found
        return None

    def finish(self) -> None:
        """Complete the CarePlan."""
        reading, plan, head = self._reading, self._plan, self._composition
        authors = [{"reference": one["reference"]} for one in head["author"] if "reference" in one]
        event = head["event"][0] if head["event"] else {}
        elements: Resource = {
            "meta": _updated(reading, plan),
            "extension": [*_custodian(head), *_approval(reading, plan)],
            "identifier": [head["identifier"]] if head["identifier"] else [],
            "status": plan.status or "unknown",
            "intent": "plan",
            "category": _categories(reading),
            "title": reading.document.header.title,
            "description": plan.description,
            "subject": head["subject"],
            "period": event.get("period"),
            "created": _created(reading),
            "author": next(iter(authors), None),
            "contributor": authors[1:],
            "careTeam": [self._team] if self._team else [],
            "addresses": plan.addresses,
            "supportingInfo": plan.supporting_info,
            "goal": plan.goals,
            "activity": plan.activities,
        }
        _explain(reading, plan)
        if plan.status is None:
            reading.warn("component/structuredBody", "no section says the status of the plan", RULE, "required")
        resource = reading.resource(plan.reference)
        resource |= {name: content for name, content in elements.items() if content not in (None, [], {})}
        _annotate(reading, plan)


# --- sections -----------------------------------------------------------------------------------------------------


def _read_synthesis(reading: Reading, section: Section, plan: Plan, path: str) -> list[Resource]:
    """The free synthesis is the description of the plan; why goals were not reached belongs to them."""
    if section.title == UNREACHED_TITLE:
        plan.reasons |= reasons(section)
    elif text := words(section.text):
        plan.description = f"{plan.description}\n{text}" if plan.description else text
    if section.entries:
        reading.inform(path, "only the narrative is kept: no mapping is known for its entries", SECTION_RULE)
    return []


def _read_status(reading: Reading, section: Section, plan: Plan, path: str) -> list[Resource]:
    for index, entry in enumerate(section.entries, 1):
        place = f"{path}/entry[{index}]/{entry.kind}"
        value = next((one for one in entry.values if isinstance(one, Code)), Code())
        if is_denied(reading, entry, place):
            continue
        if not has_template(entry, templates.DOCUMENT_STATUS_ENTRY):
            reading.inform(place, "not a status of the volet: narrative only", SECTION_RULE)
        elif value.code not in _STATUSES:
            reading.warn(f"{place}/value", "not a status of the volet", RULE, "code-invalid")
        elif plan.status in (None, exact := _exact_status(section, _STATUSES[value.code])):
            plan.status = exact
            plan.status_time = entry.time.value or entry.time.low if entry.time else None
        else:
            reading.warn(f"{place}/value", "another status than the one before: read as unknown", RULE)
            plan.status, plan.status_time = "unknown", None
            break
    return []


def _exact_status(section: Section, status: str) -> str:
    """The status that the narrative says more exactly than the code: a plan that is suspended, or was stopped."""
    lines = words(section.text).splitlines()
    told = (exact for exact, known in STATES.items() if f"{STATE}{known}" in lines)
    return next((exact for exact in told if _STATUSES[DOCUMENT_STATUSES[exact]] == status), status)


_READERS: dict[str, _Reader] = {
    templates.ACTIVE_PROBLEMS[-1]: read_problems,
    templates.ADVANCE_DIRECTIVES[-1]: read_directives,
    templates.SOCIAL_PROVISIONS[-1]: read_provisions,
    templates.CARE_PLAN[-1]: read_goals,
    templates.DOCUMENT_STATUS[-1]: _read_status,
    templates.COMMENT_SECTION[-1]: _read_synthesis,
}
"""Reader of each section of the volet, by its CI-SIS template."""


def _explain(reading: Reading, plan: Plan) -> None:
    """Give each goal the reason that the section of unreached goals states for it."""
    for reference in plan.goals:
        goal = reading.resource(reference)
        reason = plan.reasons.get(" ".join(concept_text(goal["description"]).split()))
        if reason and is_given_up(goal):
            goal.setdefault("statusReason", reason)


def _annotate(reading: Reading, plan: Plan) -> None:
    """Give the plan and its dispositions the notes that the narrative states."""
    stated = notes(reading)
    annotated = [(PLAN_NOTE, plan.reference)] if stated else []
    for reference in plan.supporting_info if stated else ():
        found = {one.get("code") for one in reading.resource(reference).get("code", {}).get("coding", ())}
        annotated += [(note_label(code), reference) for code in TOP_LEVEL if code in found]
    for label, reference in annotated:
        if own := [{"text": line.removeprefix(label)} for line in stated if line.startswith(label)]:
            reading.resource(reference)["note"] = own


# --- the plan itself ------------------------------------------------------------------------------------------------


def _categories(reading: Reading) -> list[Resource]:
    header = reading.document.header
    found = [kind] if (kind := concept(header.code)) else []
    if header.title == PPCS_TITLE:
        found.append({"coding": [{"system": PLAN_CATEGORIES, "code": "ppcs"}]})
    return found


def _custodian(composition: Resource) -> list[Resource]:
    custodian = composition.get("custodian")
    return [{"url": extensions.CUSTODIAN, "valueReference": custodian}] if custodian else []


def _created(reading: Reading) -> str | None:
    author = next(iter(reading.document.header.authors), None)
    return reading.moment(author.time, "author[1]/time") if author else None


def _approval(reading: Reading, plan: Plan) -> list[Resource]:
    """When an active plan was approved; by whom, when somebody authenticated it at that very time."""
    date = reading.moment(plan.status_time, "section/entry/observation/effectiveTime")
    if plan.status != "active" or date is None:
        return []
    parts: list[Resource] = [{"url": "date", "valueDateTime": date}]
    for index, signer in enumerate(reading.document.header.authenticators, 1):
        if signer.time == plan.status_time and (who := party(reading, signer.assigned, f"authenticator[{index}]")):
            parts.insert(0, {"url": "who", "valueReference": who})
            break
    return [{"url": extensions.APPROVAL, "extension": parts}]


def _updated(reading: Reading, plan: Plan) -> Resource:
    """The status of a plan that is not approved dates from its last update, when the document says the very time."""
    date = reading.moment(plan.status_time, "section/entry/observation/effectiveTime")
    if plan.status == "active" or date is None:
        return {}
    if "T" in date:
        return {"lastUpdated": date}
    created, period_end = _created(reading), _event_end(reading)
    if date not in (created, period_end):
        message = "a day, which no element of a CarePlan holds: kept in the narrative"
        reading.inform("section/entry/observation/effectiveTime", message, RULE)
    return {}


def _event_end(reading: Reading) -> str | None:
    act = next(iter(reading.document.header.service_events), None)
    return reading.moment(act.time.high, "documentationOf[1]") if act and act.time else None
