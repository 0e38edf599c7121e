"""Observation, Coverage → section 3 of the PPS-PAERPA 2022.01, *dispositions médico-sociales*."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from relais.cda import sections
from relais.cda.datatypes import datetime_from_ts
from relais.cda.model import II, Boolean, Code, Integer, Interval, Section, Statement, Value
from relais.cda.narrative import Node, paragraph, table
from relais.cda.templates import TERMINOLOGIE_CISIS
from relais.mappings import identity, terminology
from relais.mappings.context import Resource
from relais.mappings.identity import codes
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import NULL_FLAVORS, concept_text, original, period
from relais.mappings.to_cda.prose import annotation, marked

RULE = "CI-SIS PPS-PAERPA 2022.01, section 3"
TOP_LEVEL = ("PAT-009", "PAT-008", "PAT-001", "PAT-002", "PAT-006", "ORG-013")
"""Dispositions in the order of the volet; the others are nested in one of these."""

NESTED = {"PAT-003": "PAT-001", "PAT-004": "PAT-001", "PAT-005": "PAT-001", "PAT-007": "PAT-006"}
NOTE = "Note "
PLAN_NOTE = f"{NOTE}du plan : "
_TEXTS = frozenset({"PAT-009", "PAT-008", "PAT-001"})
_FACTS = frozenset({"final", "amended", "corrected"})
_INSURANCE = "PAT-002"
_AID = "PAT-006"
_GIR = "PAT-007"
_GIR_CLASSES = range(1, 7)
_PENSION_COVERAGE = frozenset({"RETIRE", "retraite"})
_COMPLEMENTARY_COVERAGE = frozenset({"AMC", "complementaire"})
_WITH_AID = range(1, 5)
"""GIR classes that give right to the APA (code de l'action sociale et des familles, article L. 232-2)."""

_NO_NAME = re.compile(
    r"(?:non|pas encore|aucune?|néant|inconnue?|ignoré|ne sait|nsp|oui|true|false)(?!\w)"
    r"|(?:sans|pas(?: de| d['’])?)\s*(?:(?:mutuelle|complémentaire|assurance|assureur|couverture|contrat|organisme"
    r"|objet|réponse|information|renseignée?|connue?|précisée?|communiquée?)s?(?!\w)|[?!.]*$)"
    r"|[?./-]*$",
    re.IGNORECASE,
)
"""Words in the place of the name of an insurer that name none: to have one must not be read from them. *Sans* and *pas
de* begin real names too: they name none alone, or before what they deny."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_ENDED = frozenset({"completed", "cancelled", "rejected"})


_ABSENT = {"ASKU": "Demandé, non connu", "NASK": "Non demandé", "MSK": "Masqué"}
"""nullFlavor of a disposition without value, in words; of any other one knows nothing."""


class Provision(msgspec.Struct, gc=False):
    """One disposition: its value (text, Boolean or GIR class), when it was observed, what it details."""

    code: str
    text: str | None = None
    flag: bool | None = None
    gir: int | None = None
    absent: str = "UNK"  # why there is none of these, as a nullFlavor
    source: Resource = {}
    path: str = ""

    @property
    def is_stated(self) -> bool:
        """Whether it has a value of its own, neither an absent one nor details alone."""
        return self.flag is not None or self.gir is not None or self.text is not None

    @property
    def answer(self) -> bool | None:
        """Yes or no, as a Boolean or by a GIR class that gives right to the aid."""
        return True if self.gir in _WITH_AID else self.flag

    def contradicts(self, other: Provision) -> bool:
        """Whether at most one of the two is true: words alone never contradict each other."""
        return self.answer != other.answer or (None not in (self.gir, other.gir) and self.gir != other.gir)

    @property
    def words(self) -> str:
        """The value as one reads it."""
        if self.text:
            return self.text
        if self.gir is not None:
            return str(self.gir)
        return _ABSENT.get(self.absent, "Non renseigné") if self.flag is None else _yes(self.flag)


def social_section(conversion: Conversion, plan: Resource, goals: list[Resource]) -> Section:
    """Section 3, which is always there: without any disposition it says so and has no entry."""
    found = _provisions(conversion)
    _fall_back(conversion, found, plan, goals)
    entries: list[Statement] = []
    rows: list[list[list[Node]]] = []
    for code in TOP_LEVEL:
        nested = [found[one] for one, parent in NESTED.items() if parent == code and one in found]
        provision = found.get(code)
        if provision is None and nested:  # the volet has no other place for them
            provision = Provision(code, path=nested[0].path)
        if provision is not None:
            entries.append(_entry(conversion, provision, nested, rows))
    section_id = conversion.computed_id("section", "social")
    if not entries:
        return sections.section(sections.SOCIAL_PROVISIONS, section_id, [paragraph("Aucune disposition renseignée")])
    text: list[Node] = [table(("Disposition", "Précision"), rows)]
    return sections.section(sections.SOCIAL_PROVISIONS, section_id, text, entries)


# --- reading ------------------------------------------------------------------------------------------------------


def _provisions(conversion: Conversion) -> dict[str, Provision]:
    """The dispositions that Observations and their components record: the most recent of each code."""
    stated: dict[str, list[Provision]] = {}
    for observation, path in conversion.shared("Observation"):
        code = _code_of(observation.get("code", {}))
        if code is None or not conversion.same_patient(observation, "subject", path):
            continue
        conversion.reached.add(id(observation))
        if observation.get("status") not in _FACTS:
            conversion.inform(f"{path}.status", "not a final result: not written", RULE)
            continue
        for position, component in enumerate(observation.get("component", ())):
            part = _code_of(component.get("code", {}))
            if part is not None:
                place = f"{path}.component[{position}]"
                stated.setdefault(part, []).append(_provision(conversion, part, component, observation, place))
        stated.setdefault(code, []).append(_provision(conversion, code, observation, observation, path))
    found = {code: _most_recent(conversion, provisions) for code, provisions in stated.items()}
    for provision in found.values():
        if provision.code == _code_of(provision.source.get("code", {})):
            own = provision.source.get("note", ())
            notes = (" ".join(annotation(conversion, note, provision.source).split()) for note in own)
            conversion.remarks += [f"{note_label(provision.code)}{note}" for note in notes if note]
    _imply_aid(conversion, found)
    return found


def _most_recent(conversion: Conversion, provisions: list[Provision]) -> Provision:
    """The one that was observed last; of those of one time, one with a value, and rather a class or words than a yes.
    Refuses another of that time of which one at most is true; says it when words alone differ."""
    if len(provisions) == 1:
        return provisions[0]
    dated = [(_observed(conversion, one), one) for one in provisions]
    last = max(moment for moment, _ in dated)
    latest = [one for moment, one in dated if moment == last]
    stated = [one for one in latest if one.is_stated] or latest
    chosen = next((one for one in reversed(stated) if one.gir is not None or one.text), stated[-1])
    for one in stated:
        if one.contradicts(chosen):
            message = "another value of the same disposition and of the same time: which one holds?"
            conversion.refuse(f"{one.path}.value", message, RULE, "business-rule")
        elif one.text not in (None, chosen.text):
            conversion.warn(f"{one.path}.value", "other words of the same time are written instead", RULE)
    return chosen


def _observed(conversion: Conversion, provision: Provision) -> datetime:
    """When it was observed, whatever the precision and the offset; what has no time is older than anything else."""
    observation = provision.source
    bounds = observation.get("effectivePeriod", {})
    moment = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    moment = moment or bounds.get("start") or bounds.get("end")
    time = conversion.time(moment, f"{provision.path}.effectiveDateTime")
    return datetime_from_ts(time) if time else _LONG_AGO


def note_label(code: str) -> str:
    """How a line of the narrative begins that is a note of the disposition of that code."""
    return f"{NOTE}– {terminology.coded('pps', code).display} : "


def _code_of(concept: Resource) -> str | None:
    for coding in concept.get("coding", ()):
        code = coding.get("code")
        if (code in TOP_LEVEL or code in NESTED) and terminology.oid_of(coding.get("system")) == TERMINOLOGIE_CISIS:
            return str(code)
    return None


def _provision(conversion: Conversion, code: str, element: Resource, source: Resource, path: str) -> Provision:
    """The value of an Observation or component, in the type that the volet gives this code."""
    result = Provision(code, source=source, path=path)
    flag = element.get("valueBoolean")
    text = (element.get("valueString") or concept_text(element.get("valueCodeableConcept"))).strip()
    has_value = [name for name in element if name.startswith("value")] != []
    if not has_value and "dataAbsentReason" in element:
        reasons = codes(element["dataAbsentReason"])
        result.absent = next((NULL_FLAVORS[one] for one in reasons if one in NULL_FLAVORS), "UNK")
        return result
    if code == _GIR or (code == _AID and flag is None and has_value):
        result.gir = _gir(conversion, element, path)
    elif code in _TEXTS:
        result.text = text or None
    elif code == _INSURANCE and not _NO_NAME.match(text):
        result.flag, result.text = True, text
    elif code == "ORG-013" and text:
        result.text = text
    else:
        result.flag = flag
    missing = result.text is None and result.flag is None and result.gir is None and code != _GIR
    if missing and (has_value or not element.get("component")):
        message = "a value of the type that this disposition has"
        if code == _INSURANCE and text:
            message = "a name of an insurer; valueBoolean says that there is one, or none"
        conversion.refuse(f"{path}.value", message, RULE)
    return result


def _gir(conversion: Conversion, element: Resource, path: str) -> int | None:
    """GIR class 1 to 6, given as number or as code MED-339 to MED-344."""
    classes = list(terminology.value_set("gir"))
    coded = {code for code in codes(element.get("valueCodeableConcept")) if code in classes}
    if len(coded) == 1:
        return classes.index(coded.pop()) + 1
    amount = element.get("valueQuantity", {})
    number = element.get("valueInteger", amount.get("value"))
    if number is None or number not in _GIR_CLASSES or "comparator" in amount:
        conversion.refuse(f"{path}.value", "GIR class 1 to 6, as number or code MED-339 to MED-344", RULE, "value")
        return None
    return int(number)


def _imply_aid(conversion: Conversion, found: dict[str, Provision]) -> None:
    """A GIR class given as the value of the APA itself means that class; and the APA, when it gives right to it."""
    aid = found.get(_AID)
    if aid is not None and aid.gir is not None:
        found.setdefault(_GIR, Provision(_GIR, gir=aid.gir, source=aid.source, path=aid.path))
        if aid.gir not in _WITH_AID:
            conversion.warn(f"{aid.path}.value", "a GIR class without right to the APA: not said to be had", RULE)
        aid.gir, aid.flag = None, True if aid.gir in _WITH_AID else None


def _fall_back(conversion: Conversion, found: dict[str, Provision], plan: Resource, goals: list[Resource]) -> None:
    """Other resources that say the same, where no Observation does."""
    wishes = [
        concept_text(goal.get("description"))
        for goal in goals
        if "high-priority" in codes(goal.get("priority"))
        and goal.get("lifecycleStatus") not in _ENDED
        and conversion.designates_patient(goal.get("expressedBy", {}), goal)
    ]
    own: list[Resource] = []
    others: list[Resource] = []
    for note in plan.get("note", ()):
        by_patient = conversion.designates_patient(note.get("authorReference", {}), plan)
        (own if by_patient and "PAT-008" not in found else others).append(note)
    preferences = [note.get("text", "") for note in own]
    for code, texts in (("PAT-009", wishes), ("PAT-008", preferences)):
        text = "\n".join(one.strip() for one in texts if one and one.strip())
        if text and code not in found:
            found[code] = Provision(code, text=text, path="CarePlan")
    notes = [annotation(conversion, note, plan) for note in others]
    conversion.remarks += [f"{PLAN_NOTE}{' '.join(one.split())}" for one in notes if one.strip()]
    for coverage, path in conversion.shared("Coverage"):
        kind = set(codes(coverage.get("type")))
        if coverage.get("status") == "active" and conversion.same_patient(coverage, "beneficiary", path):
            if not identity.covers(coverage.get("period", {}), conversion.today):
                conversion.inform(f"{path}.period", "not a coverage of today: not written", RULE)
                continue
            payer = _payer(conversion, coverage, path)
            if kind & _PENSION_COVERAGE and payer and "PAT-001" not in found:
                found["PAT-001"] = Provision("PAT-001", text=payer, source=coverage, path=path)
            elif kind & _COMPLEMENTARY_COVERAGE and _INSURANCE not in found:
                found[_INSURANCE] = Provision(_INSURANCE, text=payer, flag=True, source=coverage, path=path)


def _payer(conversion: Conversion, coverage: Resource, path: str) -> str | None:
    for reference in coverage.get("payor", ()):
        payer = conversion.resolve(reference, f"{path}.payor[0]", coverage) or {}
        return str(payer.get("name") or reference.get("display") or "") or None
    return None


# --- writing ------------------------------------------------------------------------------------------------------


def _entry(
    conversion: Conversion, provision: Provision, nested: list[Provision], rows: list[list[list[Node]]]
) -> Statement:
    details = []
    value, words = _value(provision), provision.words
    insurer = provision.text if provision.code == _INSURANCE else None
    if insurer:
        value, words = Boolean(True), _yes(True)
    entry = _observation(conversion, provision, value, words, rows)
    if insurer:
        details.append(_observation(conversion, provision, None, insurer, rows, "nom"))
    details += [_observation(conversion, one, _value(one), one.words, rows) for one in nested]
    entry.relationships = [sections.subject_of(detail) for detail in details]
    return entry


def _observation(
    conversion: Conversion,
    provision: Provision,
    value: Value | None,
    words: str,
    rows: list[list[list[Node]]],
    role: str = "",
) -> Statement:
    """One row of the narrative and the observation that says the same; without `value` the words are the value."""
    narrative_id = "-".join(filter(None, (provision.code.lower(), role)))
    code = terminology.coded("pps", provision.code)
    label = f"{code.display} ({role})" if role else code.display or ""
    rows.append([[label], [marked(words, narrative_id)]])
    source = provision.source
    return sections.simple_observation(
        _entry_id(conversion, provision, role),
        code,
        [value or original(narrative_id)],
        text=narrative_id,
        time=_time(conversion, source, provision.path),
    )


def _entry_id(conversion: Conversion, provision: Provision, role: str) -> II:
    source = provision.source
    if not source:
        return conversion.computed_id("provision", provision.code, role)
    own = provision.code == _code_of(source.get("code", {})) and not role
    path = provision.path.partition(".component")[0]
    return conversion.entry_id(source, path, "" if own else f"{provision.code}{role}")


def _value(provision: Provision) -> Value | None:
    if provision.text is not None:
        return None
    if provision.gir is not None:
        return Integer(provision.gir)
    if provision.flag is not None:
        return Boolean(provision.flag)
    return Code(null_flavor=provision.absent)


def _time(conversion: Conversion, source: Resource, path: str) -> Interval | None:
    if "effectivePeriod" in source:
        return period(conversion, source["effectivePeriod"], f"{path}.effectivePeriod")
    value = conversion.time(source.get("effectiveDateTime"), f"{path}.effectiveDateTime")
    return Interval(value=value) if value else None


def _yes(flag: bool) -> str:
    return "Oui" if flag else "Non"
