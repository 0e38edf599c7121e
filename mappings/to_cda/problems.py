"""Condition → section 1 of the PPS-PAERPA 2022.01, *problèmes actifs / ALD*, and problem codes of goals."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from relais.cda import sections
from relais.cda.model import Code, Interval, Section, Statement
from relais.cda.narrative import Element, content, paragraph, table
from relais.cda.templates import TERMINOLOGIE_CISIS
from relais.mappings import terminology
from relais.mappings.context import Resource
from relais.mappings.identity import codes
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import codings, concept_text, from_jdv, original
from relais.mappings.to_cda.prose import annotation, french_date, marked, measure, readable

RULE = "CI-SIS PPS-PAERPA 2022.01, section 1"
ALD = "MED-320"
CURRENT_PROBLEM_CODES = frozenset({"ORG-011", "GEN-092.01.01"})
"""Problem codes of the volet that TerminologieCISIS still holds; the others were withdrawn."""

_STATUS = {
    "active": "active",
    "recurrence": "active",
    "relapse": "active",
    "remission": "suspended",
    "inactive": "suspended",
    "resolved": "completed",
}
_STATUS_WORDS = {"active": "actif", "suspended": "inactif", "completed": "résolu"}
COURSES = {"recurrence": "récidive", "relapse": "rechute", "remission": "en rémission"}
"""Condition.clinicalStatus that the statusCode of the volet does not tell apart, in words."""

COURSE, SEVERITY, SITE, STAGE = "Évolution : ", "Gravité : ", "Site : ", "Stade : "
_KINDS = {"encounter-diagnosis": "282291009", "diagnosis": "282291009", "problem-list-item": "55607006"}
_NOT_A_FACT = frozenset({"refuted", "entered-in-error"})
DOUBTS = {
    "unconfirmed": "non confirmé",
    "provisional": "diagnostic provisoire",
    "differential": "hypothèse diagnostique",
}
"""Condition.verificationStatus of what is no established fact, in the words that follow those of the problem."""


class Problem(msgspec.Struct, gc=False):
    """A Condition of the plan, once read."""

    resource: Resource
    path: str
    text: str
    pps: Code | None  # problem code of the volet
    others: list[Code]  # clinical codes
    doubt: str | None  # why it is no established fact, in words
    is_ald: bool  # an *affection longue durée*, by its category or its code
    is_coded_ald: bool  # by its code

    @property
    def label(self) -> str:
        """Problem code in words, then what the team wrote of it, and what is doubtful."""
        known = (self.pps.display if self.pps else None) or ""
        named = self.text if not known or self.text.startswith(known) else f"{known} : {self.text}"
        named = named if self.text and self.text != known else known
        return f"{named} ({self.doubt})" if self.doubt else named


def read_problem(conversion: Conversion, condition: Resource, path: str) -> Problem | None:
    """The problem that a Condition records, or None when it is refuted, an error, or another patient's."""
    verification = codes(condition.get("verificationStatus"))
    if not _NOT_A_FACT.isdisjoint(verification):
        conversion.inform(path, "refuted or entered in error: not written", RULE)
        return None
    if not conversion.same_patient(condition, "subject", path):
        return None
    concept = condition.get("code", {})
    pps = from_jdv("pps_problem", [concept])
    others = [code for code in codings(concept) if pps is None or code.code != pps.code]
    text = concept_text(concept)
    if len(others) + (pps is not None) < len(concept.get("coding", ())):
        conversion.inform(f"{path}.code.coding.system", "code system without OID: only the words are written", RULE)
    if not text and not pps:
        conversion.refuse(f"{path}.code.text", "the problem in words or coded", RULE)
    doubt = next((DOUBTS[one] for one in verification if one in DOUBTS), None)
    coded_ald = ALD in [code.code for code in others if code.system == TERMINOLOGIE_CISIS]
    ald = coded_ald or "ald" in [code for category in condition.get("category", ()) for code in codes(category)]
    return Problem(condition, path, text, pps, others, doubt, ald, coded_ald)


def goal_code(conversion: Conversion, problem: Problem | None, narrative_id: str) -> Code:
    """`code` of a goal: the problem of the volet, or nullFlavor with what is known in translation."""
    if problem is None:
        return Code(null_flavor="UNK", original_text=sections.pointer(narrative_id))
    if problem.pps is None and not problem.others:
        return terminology.coded("pps_problem", "GEN-092.01.01")
    if problem.pps is not None and _may_write(conversion, problem.pps) and not problem.doubt:
        return replace(problem.pps, translations=problem.others)
    return _outside(narrative_id, [code for code in (problem.pps, *problem.others) if code])


def _may_write(conversion: Conversion, pps: Code) -> bool:
    """Whether that problem code may stand as a code: always in mode 2022, else when it was not withdrawn."""
    return conversion.deployment.problem_codes == "2022" or pps.code in CURRENT_PROBLEM_CODES


def _outside(narrative_id: str, translations: list[Code]) -> Code:
    return Code(null_flavor="OTH", original_text=sections.pointer(narrative_id), translations=translations)


def problem_section(conversion: Conversion, problems: list[Problem]) -> Section | None:
    """Section 1 from the clinical problems of the plan; None when there are none."""
    if not problems:
        return None
    rows, entries = [], []
    ald = len([problem for problem in problems if problem.is_ald and not problem.is_coded_ald])
    for number, problem in enumerate(problems, 1):
        entry, row = _problem_entry(conversion, problem, number, ald)
        entries.append(entry)
        rows.append(row)
    text = [table(("Problème", "Statut", "Début", "Fin", "ALD", "Commentaire"), rows)]
    section_id = conversion.computed_id("section", "problems")
    return sections.section(sections.ACTIVE_PROBLEMS, section_id, [*text], entries)


def _problem_entry(
    conversion: Conversion, problem: Problem, number: int, ald: int
) -> tuple[Statement, list[list[str | Element]]]:
    condition, path, narrative_id = problem.resource, problem.path, f"pb-{number}"
    status = _STATUS.get(next(iter(codes(condition.get("clinicalStatus"))), ""), "active")
    onset, abatement = _moment(condition, "onset"), _moment(condition, "abatement")
    low = conversion.time(onset, f"{path}.onset")
    high = conversion.time(abatement, f"{path}.abatement")
    observed = conversion.entry_id(condition, path)
    comments = _comments(conversion, condition, number)
    if problem.is_coded_ald and not comments and ald:
        comments = [content(str(ald), id="nombre-ALD")]
    entry = sections.problem_concern(
        conversion.entry_id(condition, path, "concern"),
        status=status,
        time=_concern_time(conversion, problem, status, low, high),
        problem=sections.problem(
            observed,
            kind=_kind(condition),
            value=_value(conversion, problem, narrative_id),
            text=narrative_id,
            time=Interval(low=low, high=high, low_null_flavor=None if low else "UNK"),
            comments=[sections.comment(one.attributes["ID"]) for one in comments],
        ),
    )
    return entry, [
        [marked(problem.label, narrative_id), *(paragraph(words) for words in _details(condition))],
        [_STATUS_WORDS[status]],
        [_when(condition, "onset")],
        [_when(condition, "abatement")],
        ["Oui" if problem.is_ald else ""],
        [*comments],
    ]


def _details(condition: Resource) -> Iterator[str]:
    """What the volet has no element for: course, severity, site, stage."""
    course = next((COURSES[code] for code in codes(condition.get("clinicalStatus")) if code in COURSES), "")
    sites = ", ".join(filter(None, map(readable, condition.get("bodySite", ()))))
    stages = ", ".join(filter(None, (readable(stage.get("summary")) for stage in condition.get("stage", ()))))
    severity = readable(condition.get("severity"))
    for label, words in ((COURSE, course), (SEVERITY, severity), (SITE, sites), (STAGE, stages)):
        if words:
            yield f"{label}{words}"


def _moment(condition: Resource, prefix: str) -> str | None:
    """The date in onset[x] or abatement[x]; ages and words stay in the narrative."""
    moment = condition.get(f"{prefix}DateTime") or condition.get(f"{prefix}Period", {}).get("start")
    return moment if isinstance(moment, str) else None


def _when(condition: Resource, prefix: str) -> str:
    """onset[x] or abatement[x] as one reads it: a date, both bounds of a Period, an age, words."""
    return french_date(condition.get(f"{prefix}DateTime")) or measure(condition, prefix)


def _concern_time(conversion: Conversion, problem: Problem, status: str, low: str | None, high: str | None) -> Interval:
    recorded = conversion.time(problem.resource.get("recordedDate"), f"{problem.path}.recordedDate") or low
    time = Interval(low=recorded, low_null_flavor=None if recorded else "UNK")
    if status == "completed":
        time.high, time.high_null_flavor = high, None if high else "UNK"
    return time


def _kind(condition: Resource) -> Code:
    kind = from_jdv("problem_kind", condition.get("category", ()))
    if kind is None:
        categories = [code for concept in condition.get("category", ()) for code in codes(concept)]
        kind = terminology.coded("problem_kind", next((_KINDS[one] for one in categories if one in _KINDS), "55607006"))
    kind.system_name = "SNOMED CT"
    return kind


def _value(conversion: Conversion, problem: Problem, narrative_id: str) -> Code:
    """What the problem is: its clinical code, the problem code of the volet when that is all there is."""
    known = list(problem.others)
    if problem.is_ald and not problem.is_coded_ald:
        known.append(terminology.coded("pps", ALD))
    if problem.doubt and (stated := [*known, *([problem.pps] if problem.pps else [])]):
        return _outside(narrative_id, stated)  # a reader of codes takes a value for a fact
    if problem.pps is None:
        return original(narrative_id, *known)
    if known or _may_write(conversion, problem.pps):
        return original(narrative_id, *known, problem.pps)
    return _outside(narrative_id, [problem.pps])


def _comments(conversion: Conversion, condition: Resource, number: int) -> list[Element]:
    notes = filter(None, (annotation(conversion, note, condition) for note in condition.get("note", ())))
    return [marked(note, f"pb-{number}-commentaire-{index}") for index, note in enumerate(notes, 1)]
