"""CarePlan → PPS document (PPS-PAERPA 2022.01) and PPCS (HAS model, same path): docs/mapping-pps.md."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda import sections, templates
from relais.cda.datatypes import datetime_from_ts
from relais.cda.model import II, Code, Document, Interval, Section
from relais.cda.narrative import Node, bullet_list, paragraph
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Emission, Mapped, Resource
from relais.mappings.identity import codes
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda.actions import read_actions
from relais.mappings.to_cda.approval import APPROVAL_RULE, Approval, approval_date, read_approval
from relais.mappings.to_cda.consents import OPPOSITION_RULE, read_oppositions
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import concept_text
from relais.mappings.to_cda.directives import directive_section
from relais.mappings.to_cda.goals import Row, is_given_up, plan_section, read_rows
from relais.mappings.to_cda.header import header
from relais.mappings.to_cda.header_sources import Carrier
from relais.mappings.to_cda.kept import kept_sections
from relais.mappings.to_cda.problems import Problem, problem_section, read_problem
from relais.mappings.to_cda.prose import french_date, lines, marked, remarks_block
from relais.mappings.to_cda.social import social_section
from relais.mappings.to_cda.unwritten import say_unwritten

__all__ = ["APPROVAL_RULE", "OPPOSITION_RULE", "pps_document"]

PPS_TITLE = "Plan personnalisé de santé"
PPCS_TITLE = "Plan personnalisé de coordination en santé"
SYNTHESIS_TITLE = "Synthèse de la situation"
UNREACHED_TITLE = "Objectifs partagés non réalisés"

STATUSES = {
    "draft": "385651009",
    "on-hold": "385651009",
    "active": "9571008",
    "completed": "29179001",
    "revoked": "29179001",
}
"""CarePlan.status → status of the document (SNOMED CT); other statuses have no document."""

STATES = {"draft": "projet", "on-hold": "suspendu", "revoked": "interrompu"}
"""CarePlan.status that the status of the document does not tell from another, in the words of the narrative."""

STATE = "État du plan : "
_APPROVED, _CLOSED = "9571008", "29179001"
_CLINICAL_DETAILS = frozenset({"note", "severity", "bodySite", "stage"})


def pps_document(
    care_plan: Resource,
    resources: ResourceSet,
    emission: Emission,
    *,
    composition: Resource | None = None,
    document_id: II | None = None,
) -> Mapped:
    """The PPS (or PPCS, by category) of a CarePlan, from the closed set of resources around it.

    The resources are structurally valid FHIR R4 (`profiles.structure`). `composition` and `document_id` (from
    Bundle.identifier) keep the identity of a document that was imported. Raises MappingError that lists everything
    that is missing, each with the FHIRPath to fill.
    """
    conversion = Conversion(resources, emission)
    composition = composition or {}
    patient = conversion.resolve(care_plan.get("subject"), "CarePlan.subject", care_plan)
    if patient is None or patient.get("resourceType") != "Patient":
        if not conversion.has_refused("CarePlan.subject"):
            conversion.refuse(
                "CarePlan.subject",
                "a reference to the Patient of the plan",
                "CI-SIS Structuration minimale, recordTarget",
            )
        conversion.finish()
    conversion.patient = patient or {}
    conversion.lineage = _lineage(conversion, care_plan, composition)
    if composition:
        conversion.same_patient(composition, "subject", "Composition")
    read_oppositions(conversion)
    conversion.say_opposed(care_plan, "CarePlan")
    approval = read_approval(conversion, care_plan)
    document = Document(
        header(conversion, _carrier(conversion, care_plan, approval), composition, document_id),
        [
            *_body(conversion, care_plan, approval_date(conversion, care_plan, approval)),
            *kept_sections(conversion, composition),
        ],
    )
    say_unwritten(conversion, imported=bool(composition))
    return Mapped(document, conversion.finish())


def _lineage(conversion: Conversion, care_plan: Resource, composition: Resource) -> II:
    """setId: as known already, else Composition.identifier, else the plan's first identifier, else its id."""
    stated = conversion.emission.version.set_id or identity.ii_of(composition.get("identifier", {}))
    found = stated or identity.set_id(care_plan, "pps", conversion.deployment)
    if found is None:
        conversion.refuse(
            "CarePlan.identifier",
            "an identifier that all versions of the plan share",
            "CI-SIS Structuration minimale, setId",
        )
    return found or II()


def _carrier(conversion: Conversion, plan: Resource, approval: Approval | None) -> Carrier:
    custodian = extensions.value(plan, extensions.CUSTODIAN)
    custodians = [(custodian, f"CarePlan.extension('{extensions.CUSTODIAN}').value")] if custodian else []
    teams = []
    for reference, team, path in conversion.references(plan, "careTeam", "CarePlan"):
        if team is None:
            conversion.say_named(reference, path, "Équipe")
        elif team.get("status") in ("inactive", "entered-in-error"):
            conversion.warn(f"{path}.status", "a team that is not, or no longer, one: left out", "FHIR R4 CareTeam")
        elif conversion.same_patient(team, "subject", path):
            teams.append((team, path))
            custodians += [
                (reference, f"{path}.managingOrganization[{index}]")
                for index, reference in enumerate(team.get("managingOrganization", ()))
            ]
    contributors = [
        (reference, f"CarePlan.contributor[{index}]") for index, reference in enumerate(plan.get("contributor", ()))
    ]
    devices = [pair for pair in contributors if _is_device(conversion, pair[0], plan)]
    return Carrier(
        resource=plan,
        path="CarePlan",
        kind="pps",
        templates=[
            II(templates.HL7_FRANCE),
            II(templates.CISIS_HEADER),
            II(templates.PPS_PAERPA, templates.PPS_PAERPA_VERSION),
        ],
        code=Code("18776-5", templates.LOINC, "Plan personnalisé de soins", "LOINC"),
        title=PPCS_TITLE if _is_ppcs(plan) else PPS_TITLE,
        authored=plan.get("created"),
        event=plan.get("period"),
        act=Code("18776-5", templates.LOINC, "Plan personnalisé de soins", "LOINC"),
        authors=[*([(plan["author"], "CarePlan.author")] if "author" in plan else []), *devices],
        custodians=custodians,
        contributors=contributors,
        teams=teams,
        approver=(approval.who, approval.path, approval.container) if approval else None,
        approved=approval.date if approval else None,
    )


def _is_device(conversion: Conversion, reference: Resource, plan: Resource) -> bool:
    target = conversion.resources.resolve(reference, plan)
    return target is not None and target.get("resourceType") == "Device"


def _is_ppcs(plan: Resource) -> bool:
    return any("ppcs" in codes(category) for category in plan.get("category", ()))


# --- body ---------------------------------------------------------------------------------------------------------


def _body(conversion: Conversion, plan: Resource, approved: tuple[str, str] | None) -> list[Section]:
    """The sections in the order of the volet; the free synthesis first, what was not reached after the plan.

    `approved` is the date of the approval, and its path.
    """
    problems: dict[int, Problem | None] = {}
    for reference, condition, path in conversion.references(plan, "addresses", "CarePlan"):
        if condition is None:
            conversion.say_named(reference, path, "Problème")
        elif id(condition) not in problems:
            problems[id(condition)] = read_problem(conversion, condition, path)
    for reference in plan.get("supportingInfo", ()):
        if "reference" not in reference:
            conversion.say_named(reference, "CarePlan.supportingInfo", "Information associée")
    rows = read_rows(conversion, plan, problems, read_actions(conversion, plan))
    goals = [row.goal for row in rows if row.goal]
    if not rows and not conversion.has_refused("CarePlan.goal") and not conversion.has_refused("CarePlan.activity"):
        conversion.refuse("CarePlan.goal", "at least one goal or activity", "CI-SIS PPS-PAERPA 2022.01, section 4")
    addressed = {id(condition) for row in rows for condition in row.conditions}
    clinical = [
        problem
        for problem in problems.values()
        if problem is not None and not (id(problem.resource) in addressed and _only_names_a_goal(problem))
    ]
    plan_of_care = plan_section(conversion, rows)
    found = [
        _synthesis(conversion, plan),
        problem_section(conversion, clinical),
        directive_section(conversion),
        social_section(conversion, plan, goals),
        plan_of_care,
        _unreached(conversion, rows),
        _status(conversion, plan, approved),
    ]
    plan_of_care.text += remarks_block(conversion.remarks)
    return [section for section in found if section is not None]


def _only_names_a_goal(problem: Problem) -> bool:
    """Whether a Condition that a goal addresses says nothing but that problem, which the goal carries itself."""
    course = set(codes(problem.resource.get("clinicalStatus"))) - {"active"}
    clinical = course or problem.others or problem.is_ald or not _CLINICAL_DETAILS.isdisjoint(problem.resource)
    return not clinical and not [name for name in problem.resource if name.startswith(("onset", "abatement"))]


def _synthesis(conversion: Conversion, plan: Resource) -> Section | None:
    text = (plan.get("description") or "").strip()
    if not text:
        summaries = (
            impression.get("summary", "").strip()
            for impression, path in conversion.shared("ClinicalImpression")
            if conversion.same_patient(impression, "subject", path) and _stands(conversion, impression, path)
        )
        text = "\n".join(summary for summary in summaries if summary)
    if not text:
        return None
    section_id = conversion.computed_id("section", "synthesis")
    return sections.section(sections.COMMENT, section_id, [paragraph(*lines(text))], title=SYNTHESIS_TITLE)


def _stands(conversion: Conversion, impression: Resource, path: str) -> bool:
    """Whether an impression was not entered in error, which is said."""
    stands = impression.get("status") != "entered-in-error"
    if not stands:
        conversion.inform(f"{path}.status", "entered in error: not written", "docs/mapping-pps.md, Body")
    return stands


def _unreached(conversion: Conversion, rows: list[Row]) -> Section | None:
    """Shared goals that were formulated and not reached, with the reason (PPCS part 4)."""
    items: list[list[Node]] = []
    for row in rows:
        goal = row.goal
        if is_given_up(goal):
            reason = (goal.get("statusReason") or "").strip()
            items.append([concept_text(goal.get("description")), f" – motif : {reason}" if reason else ""])
    if not items:
        return None
    section_id = conversion.computed_id("section", "unreached")
    return sections.section(sections.COMMENT, section_id, [bullet_list(items)], title=UNREACHED_TITLE)


def _status(conversion: Conversion, plan: Resource, approved: tuple[str, str] | None) -> Section | None:
    """Section 5: the status of the document and its date, never later than the document."""
    status = STATUSES.get(plan.get("status", ""))
    if status is None:
        conversion.refuse(
            "CarePlan.status",
            "draft, active, on-hold, completed or revoked",
            "CI-SIS PPS-PAERPA 2022.01, section 5",
            "code-invalid",
        )
        return None
    since, time = _since(conversion, plan, status, approved)
    code = terminology.coded("pps_status", status)
    code.system_name = "SNOMED CT"
    words = f"Statut du document : {code.display}{f' le {french_date(since)}' if since else ''}"
    entry = sections.document_status(
        conversion.computed_id("status"),
        terminology.coded("pps", "GEN-065"),
        code,
        text="statutDoc",
        time=Interval(value=time) if time else None,
    )
    section_id = conversion.computed_id("section", "status")
    text: list[Node] = [marked(words, "statutDoc")]
    if state := STATES.get(plan["status"]):
        text.append(paragraph(f"{STATE}{state}"))
    return sections.section(sections.DOCUMENT_STATUS, section_id, text, [entry])


def _since(
    conversion: Conversion, plan: Resource, status: str, approved: tuple[str, str] | None
) -> tuple[str | None, str | None]:
    """The FHIR date of the status and its TS: the first known one that is not in the future."""
    for moment, path in _status_dates(plan, status, approved):
        time = conversion.time(moment, path)
        if time and datetime_from_ts(time) <= conversion.emission.now:
            return moment, time
        if time:
            conversion.warn(path, "in the future: not the date of the status", "docs/mapping-pps.md, Status")
    return None, None


def _status_dates(plan: Resource, status: str, approved: tuple[str, str] | None) -> Iterator[tuple[str, str]]:
    if status == _APPROVED and approved:
        yield approved
    if status == _CLOSED and plan.get("period", {}).get("end"):
        yield plan["period"]["end"], "CarePlan.period.end"
    if plan.get("meta", {}).get("lastUpdated"):
        yield plan["meta"]["lastUpdated"], "CarePlan.meta.lastUpdated"
    if plan.get("created"):
        yield plan["created"], "CarePlan.created"
