"""CDA → FHIR: the body of a PPS as other software writes it, legacy codes and faults included."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace

from relais.cda import sections, templates
from relais.cda.errors import RelaisError
from relais.cda.model import (
    II,
    Address,
    Boolean,
    Code,
    Document,
    EntryAuthor,
    EntryParticipant,
    Informant,
    Integer,
    Interval,
    Media,
    NamePart,
    PersonName,
    Qualifier,
    Quantity,
    RelatedEntity,
    Relationship,
    Section,
    Statement,
    String,
    Telecom,
    Text,
    Unmodelled,
)
from relais.cda.narrative import Element, content, paragraph
from relais.cda.reader import parse, read
from relais.cda.writer import write
from relais.mappings import extensions, terminology
from relais.mappings.context import Imported
from relais.mappings.from_cda import to_bundle
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda import convert
from relais.profiles import structure
from support.documents import small_pps, small_professional
from support.plans import EMISSION, PLANS
from support.rules import remove

Resource = dict[str, Any]

CISIS = templates.TERMINOLOGIE_CISIS
RATIO = (
    '<value xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="RTO">'
    '<numerator value="1"/><denominator value="2"/></value>'
)


def bring_in(document: Document) -> Imported:
    """The import of a document, as its bytes are read; always a valid Bundle."""
    data = write(document)
    result = to_bundle(read(data).document, data)
    assert structure.check(result.bundle) == []
    return result


def of_type(imported: Imported, resource_type: str) -> list[Resource]:
    """The resources of one type."""
    return ResourceSet.of_bundle(imported.bundle).of_type(resource_type)


def messages(imported: Imported, severity: str) -> list[str]:
    """The issues of that severity, as lines."""
    return [str(issue) for issue in imported.issues if issue.severity == severity]


def code(value: str, display: str = "", system: str = CISIS) -> Code:
    """A coded value."""
    return Code(value, system, display or None)


def with_section(model: sections.SectionModel, text: list[Any], *entries: Statement) -> Document:
    """The small PPS with one more section, before its own."""
    document = small_pps()
    document.sections.insert(0, sections.section(model, II("2.25.900"), text, list(entries)))
    return document


# --- status and description -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "system", "status"),
    [
        ("385651009", templates.SNOMED_CT, "draft"),
        ("9571008", templates.SNOMED_CT, "active"),
        ("29179001", templates.SNOMED_CT, "completed"),
        ("398166005", templates.SNOMED_CT, "completed"),
        ("GEN-034", CISIS, "draft"),
        ("GEN-068", CISIS, "active"),
        ("GEN-069", CISIS, "completed"),
    ],
)
def test_status_of_this_year_and_of_before(value: str, system: str, status: str) -> None:
    document = small_pps()
    document.sections[-1].entries[0].values = [code(value, "…", system)]
    (plan,) = of_type(bring_in(document), "CarePlan")
    assert plan["status"] == status


def test_a_status_entered_in_error_is_none() -> None:
    document = small_pps()
    document.sections[-1].entries[0].status = "nullified"
    result = bring_in(document)
    assert of_type(result, "CarePlan")[0]["status"] == "unknown"


def test_two_statuses_that_contradict_each_other_are_none() -> None:
    document = small_pps()
    entry = document.sections[-1].entries[0]
    other = replace(entry, ids=[II("2.25.77")], values=[code("29179001", "clôturé", templates.SNOMED_CT)])
    document.sections[-1].entries.append(other)
    result = bring_in(document)
    assert of_type(result, "CarePlan")[0]["status"] == "unknown"
    assert any("another status" in line for line in messages(result, "warning"))


def test_a_status_said_twice_is_that_status_with_the_words_that_make_it_exact() -> None:
    document = small_pps()
    section = document.sections[-1]
    first = section.entries[0]
    first.values = [code("385651009", "en cours", templates.SNOMED_CT)]
    section.entries.append(replace(first, ids=[II("2.25.77")]))
    section.text.append(paragraph("État du plan : suspendu"))
    result = bring_in(document)
    assert of_type(result, "CarePlan")[0]["status"] == "on-hold"
    assert not any("another status" in line for line in messages(result, "warning"))


def test_a_later_section_does_not_settle_a_contradiction() -> None:
    document = small_pps()
    section = document.sections[-1]
    first = section.entries[0]
    closed = replace(first, ids=[II("2.25.77")], values=[code("29179001", "clôturé", templates.SNOMED_CT)])
    again = sections.section(
        sections.DOCUMENT_STATUS, II("2.25.78"), section.text, [replace(first, ids=[II("2.25.79")])]
    )
    section.entries.append(closed)
    document.sections.append(again)
    assert of_type(bring_in(document), "CarePlan")[0]["status"] == "unknown"


@pytest.mark.parametrize("values", [[code("77", "?")], []])
def test_no_known_status(values: list[Any]) -> None:
    document = small_pps()
    document.sections[-1].entries[0].values = values
    result = bring_in(document)
    (plan,) = of_type(result, "CarePlan")
    assert plan["status"] == "unknown"
    assert any("no section says the status" in line for line in messages(result, "warning"))


def test_the_care_plan_of_a_small_document() -> None:
    (plan,) = of_type(bring_in(small_pps()), "CarePlan")
    assert plan["identifier"][0]["value"] == "urn:oid:2.25.301245378217395437813294710347591823400"
    assert plan["title"] == "Plan personnalisé de santé"
    assert plan["period"] == {"start": "2026-01-12T09:00:00+01:00"}
    assert plan["category"][0]["coding"][0]["code"] == "18776-5"
    (approval,) = extensions.extensions(plan, extensions.APPROVAL)
    assert approval["extension"] == [{"url": "date", "valueDateTime": "2026-01-12"}]


def test_who_approved_is_who_signed_at_that_time() -> None:
    bundle = to_fhir("general-practitioner")
    plan = of_type(bundle, "CarePlan")[0]
    (approval,) = extensions.extensions(plan, extensions.APPROVAL)
    who = ResourceSet.of_bundle(bundle.bundle).resolve(extensions.value(approval, "who")) or {}
    person = ResourceSet.of_bundle(bundle.bundle).resolve(who["practitioner"]) or {}
    assert person["name"][0]["family"] == "CHÊNE"


def to_fhir(name: str) -> Imported:
    """The import of a plan's document."""
    return bring_in(convert(PLANS[name], EMISSION).document)


def test_synthesis_is_the_description() -> None:
    text = [paragraph("Vit seule.", Element("br"), "Chute en décembre.")]
    document = with_section(sections.COMMENT, text)
    document.sections[0].title = "Évaluation"
    (plan,) = of_type(bring_in(document), "CarePlan")
    assert plan["description"] == "Vit seule.\nChute en décembre."


def test_unknown_sections_keep_their_narrative_and_are_reported() -> None:
    document = small_pps()
    entry = Statement("act", "ACT", "EVN", code=code("x"))
    document.sections.insert(0, Section([II("1.2.3.4")], title="Résultats", text=["Tout va bien"], entries=[entry]))
    result = bring_in(document)
    section = result.bundle["entry"][0]["resource"]["section"][0]
    assert section["title"] == "Résultats"
    assert "Tout va bien" in section["text"]["div"]
    assert any("no mapping is known" in line for line in messages(result, "information"))


@pytest.mark.parametrize(
    "model",
    [
        sections.ACTIVE_PROBLEMS,
        sections.ADVANCE_DIRECTIVES,
        sections.SOCIAL_PROVISIONS,
        sections.CARE_PLAN,
        sections.DOCUMENT_STATUS,
        sections.COMMENT,
    ],
)
def test_unknown_entries_of_known_sections_are_reported(model: sections.SectionModel) -> None:
    entry = Statement("act", "ACT", "EVN", template_ids=[II("1.2.3.4")], code=code("x"))
    result = bring_in(with_section(model, ["Texte"], entry))
    assert any("entry" in line or "entries" in line for line in messages(result, "information"))
    assert "Texte" in result.bundle["entry"][0]["resource"]["section"][0]["text"]["div"]


# --- references to the narrative --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "said", "severity"),
    [("#o", "Marcher", None), ("o", "Marcher", "information"), ("#nowhere", "Objectif codé", "warning")],
)
def test_references_to_the_narrative(reference: str, said: str, severity: str | None) -> None:
    value = Code("1", "1.2.3", "Objectif codé", original_text=Text(reference=reference))
    goal = sections.request(II("2.25.1"), Code(null_flavor="UNK"), value, text="p", status="active", time=None)
    goal.text = None
    result = bring_in(with_section(sections.CARE_PLAN, [content("Marcher", id="o")], goal))
    description = of_type(result, "Goal")[0]["description"]
    assert description.get("text", description["coding"][0]["display"]) == said
    place = "value/originalText/reference"
    found = {issue.severity for issue in result.issues if issue.path.endswith(place)}
    assert found == ({severity} if severity else set())


# --- problems -------------------------------------------------------------------------------------------------------


def problem(value: Code, *, status: str = "active", **more: Any) -> Statement:
    """A problem of section 1, whose words are at #p."""
    observation = sections.problem(
        II("2.25.11"),
        kind=code("282291009", "interprétation diagnostique", templates.SNOMED_CT),
        value=value,
        text="p",
        time=more.pop("time", Interval(low="2020")),
        comments=more.pop("comments", ()),
    )
    for name, changed in more.items():
        setattr(observation, name, changed)
    return sections.problem_concern(II("2.25.10"), status=status, time=Interval(low="20210101"), problem=observation)


def conditions(*entries: Statement, words: str = "Diabète") -> tuple[list[Resource], Imported]:
    """The Conditions of section 1."""
    text = [paragraph(content(words, id="p"), content("Note", id="n"))]
    result = bring_in(with_section(sections.ACTIVE_PROBLEMS, text, *entries))
    return of_type(result, "Condition"), result


def test_a_problem() -> None:
    value = Code("E11.9", templates.ICD_10, "Diabète de type 2", original_text=Text(reference="#p"))
    (condition,), result = conditions(problem(value, comments=[sections.comment("n")]))
    assert condition["code"] == {
        "coding": [
            {"system": "http://hl7.org/fhir/sid/icd-10", "code": "E11.9", "display": "Diabète de type 2"},
        ],
        "text": "Diabète",
    }
    assert condition["identifier"][0]["value"] == "urn:oid:2.25.11"
    assert (condition["onsetDateTime"], condition["recordedDate"]) == ("2020", "2021-01-01")
    assert condition["note"] == [{"text": "Note"}]
    assert condition["category"][0]["coding"][0]["code"] == "282291009"
    assert any("wrapping act" in line for line in messages(result, "information"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [("active", "inactive"), ("suspended", "inactive"), ("aborted", "inactive"), ("completed", "resolved")],
)
def test_status_and_end_of_a_problem(status: str, expected: str) -> None:
    """What has ended is not active, though somebody still watches it (IHE PCC Problem Entry, `high`)."""
    entry = problem(Code(original_text=Text(reference="#p")), status=status, time=Interval(low="2020", high="2021"))
    (condition,), result = conditions(entry)
    assert condition["clinicalStatus"]["coding"][0]["code"] == expected
    assert condition["abatementDateTime"] == "2021"
    assert any("still active" in line for line in messages(result, "warning")) == (status == "active")


def test_a_problem_whose_end_is_to_come_is_active() -> None:
    """The end of the rights of an ALD, for one."""
    entry = problem(Code(original_text=Text(reference="#p")), status="active", time=Interval(low="2020", high="2090"))
    (condition,), result = conditions(entry)
    assert condition["clinicalStatus"]["coding"][0]["code"] == "active"
    assert "abatementDateTime" not in condition
    assert any("an end to come" in line for line in messages(result, "warning"))


def certainty(value: Code) -> Relationship:
    """FR-Certitude of a problem."""
    kind = code("66455-7", "Certitude", templates.LOINC)
    statement = Statement("observation", "OBS", "EVN", code=kind, status="completed", values=[value])
    statement.template_ids = [II(templates.CERTAINTY[-1])]
    return Relationship("SUBJ", statement, inversion=True)


@pytest.mark.parametrize(
    ("value", "verification"),
    [
        (code("415684004", "Suspecté", templates.SNOMED_CT), "unconfirmed"),
        (code("probable"), "unconfirmed"),
        (Code(null_flavor="UNK"), "unconfirmed"),
        (code("410516002", "Absence connue", templates.SNOMED_CT), "refuted"),
        (code("410605003", "Présence confirmée", templates.SNOMED_CT), "confirmed"),
    ],
)
def test_how_certain_a_problem_is(value: Code, verification: str) -> None:
    entry = problem(Code(original_text=Text(reference="#p")))
    entry.relationships[0].statement.relationships = [certainty(value)]
    (condition,), result = conditions(entry)
    assert condition["verificationStatus"]["coding"][0]["code"] == verification
    assert any("not said to be certain" in line for line in messages(result, "warning")) == (
        verification != "confirmed"
    )


def test_site_and_side_of_a_problem() -> None:
    side = Qualifier(
        code("272741003", "latéralité", templates.SNOMED_CT), code("7771000", "gauche", templates.SNOMED_CT)
    )
    value = code("S52.5", "Fracture", templates.ICD_10)
    value.qualifiers = [side]
    entry = problem(value)
    entry.relationships[0].statement.target_sites = [code("8205005", "poignet", templates.SNOMED_CT)]
    (condition,), result = conditions(entry)
    assert condition["bodySite"][0]["coding"][0]["display"] == "poignet"
    assert any(line.endswith("narrative only") or "/qualifier" in line for line in messages(result, "warning"))


@pytest.mark.parametrize("mood", ["INT", "GOL", "PRP"])
def test_a_problem_that_has_not_happened_is_no_condition(mood: str) -> None:
    entry = problem(Code(original_text=Text(reference="#p")))
    entry.relationships[0].statement.mood_code = mood
    found, result = conditions(entry)
    assert found == []
    assert any("@moodCode" in line for line in messages(result, "warning"))


SUBJECT = (
    '<subject xmlns="urn:hl7-org:v3"><relatedSubject classCode="{}">'
    '<code code="MTH" codeSystem="2.16.840.1.113883.5.111"/></relatedSubject></subject>'
)


def with_subject(template: str, before: str, kind: str = "PRS") -> Imported:
    """The import of the full plan, where the first entry or section of that template is about somebody else."""
    root = parse(full_document()).getroot()
    holder = root.xpath(f"(//*[*[local-name()='templateId'][@root='{template}']])[1]")[0]
    followers = [one for one in holder if etree.QName(one).localname in before.split()]
    followers[0].addprevious(etree.fromstring(SUBJECT.format(kind)))
    data = etree.tostring(root)
    result = to_bundle(read(data).document, data)
    assert structure.check(result.bundle) == []
    return result


@pytest.mark.parametrize(
    ("template", "before", "resource_type", "fewer"),
    [
        (templates.PROBLEM[-1], "entryRelationship", "Condition", 1),
        (templates.PROBLEM_CONCERN[-1], "entryRelationship", "Condition", 1),
        (templates.ACTIVE_PROBLEMS[-1], "entry", "Condition", 2),
        (templates.SIMPLE_OBSERVATION[-1], "entryRelationship author performer", "Observation", 1),
    ],
)
def test_what_is_said_of_somebody_else_is_not_said_of_the_patient(
    template: str, before: str, resource_type: str, fewer: int
) -> None:
    """The diabetes of a mother (CDA R2 subject, relatedSubject)."""
    if template == templates.SIMPLE_OBSERVATION[-1]:
        entry = provision(Boolean(True))
        entry.of_another = True
        document = with_section(sections.SOCIAL_PROVISIONS, [content("x", id="v")], entry)
        result = to_bundle(document, b"")
        assert of_type(result, resource_type) == []
    else:
        whole = of_type(to_bundle(read(full_document()).document, full_document()), resource_type)
        result = with_subject(template, before)
        assert len(of_type(result, resource_type)) == len(whole) - fewer
        assert len(of_type(with_subject(template, before, "PAT"), resource_type)) == len(whole)
    assert any("somebody else" in line for line in messages(result, "warning"))


def test_a_denied_problem_is_refuted() -> None:
    (condition,), result = conditions(problem(code("E11.9", "Diabète", templates.ICD_10), negation=True))
    assert condition["verificationStatus"]["coding"][0]["code"] == "refuted"
    assert any("denied" in line for line in messages(result, "warning"))


def test_a_problem_that_nothing_says() -> None:
    (condition,), result = conditions(problem(Code(null_flavor="UNK"), text=None))
    assert condition["code"] == {"text": "Problème non précisé"}
    assert any("neither code nor words" in line for line in messages(result, "warning"))


@pytest.mark.parametrize(
    ("value", "words", "codes", "ald"),
    [
        (code("MED-320", "Affection longue durée (ALD)"), "Affection longue durée (ALD)", ["MED-320"], False),
        (code("MED-320", "Affection longue durée (ALD)"), "Cancer", [], True),
        (
            Code("E11.9", templates.ICD_10, "Diabète", translations=[code("MED-320", "ALD")]),
            "Diabète",
            ["E11.9"],
            True,
        ),
    ],
)
def test_long_term_illness(value: Code, words: str, codes: list[str], ald: bool) -> None:
    value.original_text = Text(reference="#p")
    (condition,), _ = conditions(problem(value), words=words)
    assert [one["code"] for one in condition["code"].get("coding", ())] == codes
    categories = [one["code"] for concept in condition["category"] for one in concept["coding"]]
    assert ("ald" in categories) == ald
    assert condition["code"]["text"] == words


# --- goals ----------------------------------------------------------------------------------------------------------


def goal(identifier: str = "2.25.20", **more: Any) -> Statement:
    """A goal whose problem is at #p and words at #o."""
    entry = sections.request(
        II(identifier),
        more.pop("code", code("MED-057", "Problème de mobilité")),
        more.pop("value", Code(original_text=Text(reference="#o"))),
        text="p",
        status=more.pop("status", "active"),
        time=more.pop("time", None),
    )
    for name, changed in more.items():
        setattr(entry, name, changed)
    return entry


def action(identifier: II, text: str = "a", **more: Any) -> Relationship:
    """An action whose words are at #a."""
    entry = sections.request(
        identifier,
        code("ORG-014", "Actions dont ETP"),
        more.pop("value", Code(null_flavor="NAV")),
        text=text,
        status=more.pop("status", "active"),
        time=more.pop("time", None),
    )
    for name, changed in more.items():
        setattr(entry, name, changed)
    return sections.supported_by(entry)


def plan_of(*entries: Statement, problem_words: str = "Risque de chute") -> Imported:
    """The import of a plan of these goals."""
    words = [("p", problem_words), ("o", "Marcher"), ("a", "Kiné"), ("c", "500 m"), ("b", "En progrès")]
    text = [Element("list", {}, [Element("item", {}, [content(text, id=name)]) for name, text in words])]
    return bring_in(with_section(sections.CARE_PLAN, text, *entries))


@pytest.mark.parametrize(
    ("status", "lifecycle"),
    [
        ("new", "proposed"),
        ("active", "active"),
        ("held", "on-hold"),
        ("suspended", "on-hold"),
        ("completed", "completed"),
        ("cancelled", "cancelled"),
        ("aborted", "cancelled"),
    ],
)
def test_a_goal(status: str, lifecycle: str) -> None:
    entry = goal(status=status, time=Interval(low="20260101", high="20260630120000+0200"))
    result = plan_of(entry)
    (found,) = of_type(result, "Goal")
    assert found["lifecycleStatus"] == lifecycle
    assert found["description"] == {"text": "Marcher"}
    assert (found["startDate"], found["target"]) == ("2026-01-01", [{"dueDate": "2026-06-30"}])
    (condition,) = of_type(result, "Condition")
    assert condition["code"]["text"] == "Risque de chute"
    assert [one["code"] for one in condition["code"]["coding"]] == ["MED-057"]
    assert any("time of day" in line for line in messages(result, "information"))


@pytest.mark.parametrize(
    ("coded", "words", "concept"),
    [
        (code("MED-058", "Isolement"), "Isolement : Vit seule", {"codes": ["MED-058"], "text": "Vit seule"}),
        (
            code("MED-058", "Isolement"),
            "Isolement : Isolement géographique",
            {"codes": ["MED-058"], "text": "Isolement : Isolement géographique"},
        ),
        (code("GEN-092.01.01", "Autre problème"), "Douleurs", {"codes": [], "text": "Douleurs"}),
        (
            code("GEN-092.01.01", "Autre problème"),
            "Autre problème : Papiers",
            {"codes": ["GEN-092.01.01"], "text": "Papiers"},
        ),
        (
            Code(null_flavor="OTH", translations=[code("MED-059", "Précarité")]),
            "Précarité : Loyer",
            {"codes": ["MED-059"], "text": "Loyer"},
        ),
        (Code(null_flavor="UNK"), "Problème non précisé", None),
    ],
)
def test_the_problem_of_a_goal(coded: Code, words: str, concept: Resource | None) -> None:
    found = of_type(plan_of(goal(code=coded), problem_words=words), "Condition")
    said = [
        {"codes": [one["code"] for one in each["code"].get("coding", ())], "text": each["code"]["text"]}
        for each in found
    ]
    assert said == ([concept] if concept else [])


def test_goals_of_one_problem_share_its_condition() -> None:
    result = plan_of(goal("2.25.20"), goal("2.25.21"))
    assert len(of_type(result, "Goal")) == 2
    assert len(of_type(result, "Condition")) == 1


def test_a_denied_goal_or_action_is_no_resource() -> None:
    result = plan_of(
        goal("2.25.20", negation=True),
        goal("2.25.21", relationships=[action(II("2.25.30"), negation=True)]),
    )
    assert len(of_type(result, "Goal")) == 1
    assert of_type(result, "ServiceRequest") == []
    assert sum("a denied entry" in line for line in messages(result, "warning")) == 2


def test_what_was_entered_in_error_is_no_resource() -> None:
    result = plan_of(
        goal("2.25.20", status="nullified"),
        goal("2.25.21", relationships=[action(II("2.25.30"), status="nullified")]),
    )
    assert len(of_type(result, "Goal")) == 1
    assert of_type(result, "ServiceRequest") == []
    assert sum("entered in error" in line for line in messages(result, "warning")) == 2
    found, result = conditions(problem(code("E11.9", "Diabète", templates.ICD_10), status="nullified"))
    assert found == []
    assert any("entered in error" in line for line in messages(result, "warning"))


def test_a_status_outside_the_volet_is_said() -> None:
    result = plan_of(goal(status="obsolete", relationships=[action(II("2.25.30"), status="obsolete")]))
    assert [one["lifecycleStatus"] for one in of_type(result, "Goal")] == ["active"]
    assert [one["status"] for one in of_type(result, "ServiceRequest")] == ["unknown"]
    assert sum("no status of the volet" in line for line in messages(result, "warning")) == 2


def test_who_wants_a_goal() -> None:
    author = EntryAuthor(small_professional(), "20260105")
    (found,) = of_type(plan_of(goal(authors=[author])), "Goal")
    assert found["statusDate"] == "2026-01-05"
    assert "reference" in found["expressedBy"]


def test_an_assessment_entered_in_error_says_nothing_of_its_goal() -> None:
    text = Code(original_text=Text(reference="#b"))
    wrong = sections.simple_observation(II("2.25.40"), code("ORG-012"), [text], text="b", time=None)
    wrong.status = "nullified"
    document = with_section(
        sections.CARE_PLAN,
        [content("Marcher", id="o"), content("Atteinte de l'objectif : atteint", id="b")],
        goal(relationships=[sections.evaluated_by(wrong)]),
    )
    (found,) = of_type(bring_in(document), "Goal")[:1]
    assert "achievementStatus" not in found
    assert "outcomeReference" not in found


@pytest.mark.parametrize("what", ["goal", "action"])
def test_an_event_is_neither_goal_nor_action(what: str) -> None:
    done = action(II("2.25.30"))
    entry = goal(relationships=[done])
    (entry if what == "goal" else done.statement).mood_code = "EVN"
    result = plan_of(entry)
    assert of_type(result, "ServiceRequest") == []
    assert len(of_type(result, "Goal")) == (what == "action")
    assert any("@moodCode" in line for line in messages(result, "warning"))


def test_one_id_borne_by_two_goals() -> None:
    result = plan_of(goal("2.25.20"), goal("2.25.20", code=code("MED-058", "Isolement")))
    first, second = of_type(result, "Goal")
    assert first["identifier"] == second["identifier"]
    assert first["id"] != second["id"]
    assert any("several entries bear one id" in line for line in messages(result, "information"))


# --- actions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mood", ["GOL", "INT", "PRP"])
def test_an_action_of_any_mood(mood: str) -> None:
    entry = goal(
        relationships=[
            action(
                II("2.25.30"),
                mood_code=mood,
                value=Code("229070002", templates.SNOMED_CT, "Étirements", original_text=Text(reference="#a")),
                methods=[code("ORG-009", "Prise en charge médicale")],
                time=Interval(value="20260301"),
            )
        ]
    )
    result = plan_of(entry)
    (request,) = of_type(result, "ServiceRequest")
    intent = "proposal" if mood == "PRP" else "plan"
    assert (request["intent"], request["status"], request["occurrenceDateTime"]) == (intent, "active", "2026-03-01")
    assert [one["code"] for one in request["code"]["coding"]] == ["ORG-014", "229070002"]
    assert request["code"]["text"] == "Kiné"
    assert request["category"][0]["coding"][0]["code"] == "ORG-009"
    (plan,) = of_type(result, "CarePlan")
    found = ResourceSet.of_bundle(result.bundle)
    assert found.resolve(plan["activity"][0]["reference"]) is request
    assert found.resolve(extensions.value(request, extensions.PERTAINS_TO_GOAL)) is of_type(result, "Goal")[0]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("new", "draft"),
        ("held", "on-hold"),
        ("suspended", "on-hold"),
        ("completed", "completed"),
        ("cancelled", "revoked"),
        ("aborted", "revoked"),
        (None, "unknown"),
    ],
)
def test_status_of_an_action(status: str | None, expected: str) -> None:
    result = plan_of(goal(relationships=[action(II("2.25.30"), status=status)]))
    assert of_type(result, "ServiceRequest")[0]["status"] == expected


def two_goals(first: Relationship, second: Relationship) -> list[Resource]:
    """The actions of two goals, with one action each."""
    other = goal("2.25.21", code=code("MED-058", "Isolement"), relationships=[second])
    return of_type(plan_of(goal(relationships=[first]), other), "ServiceRequest")


def test_copies_of_an_action_under_several_goals_are_one() -> None:
    (merged,) = two_goals(action(II("2.25.30", "1")), action(II("2.25.30", "2")))
    assert merged["identifier"] == [{"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.25.30"}]
    assert len(merged["extension"]) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (action(II("2.25.30", "1")), action(II("2.25.30", "2"), text="b")),  # other words
        (action(II("1.2.3", "17")), action(II("1.2.3", "18"))),  # two numbers of one domain
        (action(II("2.25.30")), action(II("2.25.30"), participants=[sections.performer("Kiné")])),  # other performer
    ],
)
def test_different_actions_are_never_merged(first: Relationship, second: Relationship) -> None:
    assert len(two_goals(first, second)) == 2


def performers_of(*participants: EntryParticipant) -> tuple[list[Resource], ResourceSet]:
    """The performers of an action, resolved when they are resources."""
    document_action = action(II("2.25.30"), participants=list(participants))
    result = plan_of(goal(relationships=[document_action]))
    found = ResourceSet.of_bundle(result.bundle)
    (request,) = of_type(result, "ServiceRequest")
    return [found.resolve(one) or one for one in request.get("performer", [])], found


def test_performers_by_name_alone() -> None:
    performers, _ = performers_of(sections.performer("Assistante sociale"), sections.performer("La personne"))
    assert performers[0] == {"display": "Assistante sociale"}
    assert performers[1]["resourceType"] == "Patient"


@pytest.mark.parametrize(
    ("kinds", "participant", "resource_type"),
    [
        (["DAU"], sections.performer("Anne PAT"), "RelatedPerson"),
        (["DAU", "SIS"], sections.performer("Anne PAT"), None),  # which of the two?
        (["DAU", "SIS"], sections.performer("Anne PAT (Soeur)"), "RelatedPerson"),
        (
            ["DAU"],
            sections.performer("Anne PAT", code=code("G15_60", "", terminology.PROFESSION_KNOW_HOW)),
            "PractitionerRole",
        ),
    ],
)
def test_a_relative_who_acts_is_the_only_one_of_that_name(
    kinds: list[str], participant: EntryParticipant, resource_type: str | None
) -> None:
    document = with_section(
        sections.CARE_PLAN,
        [content("Marcher", id="o")],
        goal(relationships=[action(II("2.25.30"), participants=[participant])]),
    )
    name = PersonName(families=[NamePart("PAT")], givens=[NamePart("Anne")])
    for kind in kinds:
        relation = terminology.coded("J11", kind)
        document.header.informants.append(Informant(related=RelatedEntity("CON", relation, [], [], name)))
    result = bring_in(document)
    (request,) = of_type(result, "ServiceRequest")
    found = ResourceSet.of_bundle(result.bundle).resolve(request["performer"][0])
    assert (found or {}).get("resourceType") == resource_type
    if len(kinds) > 1 and found:
        assert found["relationship"][-1]["coding"][0]["code"] == "SIS"


@pytest.mark.parametrize("words", ["MME Anne PAT", "Mme Anne PAT", "MME Anne PAT (Soeur)", "Mme Anne PAT (Soeur)"])
def test_a_relative_who_acts_is_known_with_the_civility_as_a_code_or_as_one_writes_it(words: str) -> None:
    document = with_section(
        sections.CARE_PLAN,
        [content("Marcher", id="o")],
        goal(relationships=[action(II("2.25.30"), participants=[sections.performer(words)])]),
    )
    name = PersonName([NamePart("PAT")], [NamePart("Anne")], prefix="MME")
    sister = RelatedEntity("CON", terminology.coded("J11", "SIS"), [], [], name)
    document.header.informants.append(Informant(related=sister))
    result = bring_in(document)
    (request,) = of_type(result, "ServiceRequest")
    found = ResourceSet.of_bundle(result.bundle).resolve(request["performer"][0]) or {}
    assert found["resourceType"] == "RelatedPerson"


@pytest.mark.parametrize(
    ("prefix", "words"),
    [("MME", "MME Léa PIN DR"), ("MME", "Mme Dr Léa PIN"), (None, "Léa PIN DR"), (None, "Dr Léa PIN")],
)
def test_a_professional_who_acts_is_known_with_titles_as_codes_or_as_one_writes_them(
    prefix: str | None, words: str
) -> None:
    number = II(templates.PS_IDNAT, "810101234564")
    document = with_section(
        sections.CARE_PLAN,
        [content("Marcher", id="o")],
        goal(relationships=[action(II("2.25.30"), participants=[sections.performer(words, ids=[number])])]),
    )
    author = document.header.authors[0].assigned
    author.ids, author.person = [number], PersonName([NamePart("PIN")], [NamePart("Léa")], prefix=prefix, suffix="DR")
    result = bring_in(document)
    found = ResourceSet.of_bundle(result.bundle)
    (request,) = of_type(result, "ServiceRequest")
    role = found.resolve(request["performer"][0]) or {}
    known = found.resolve(found.of_type("Composition")[0]["author"][0]) or {}
    assert role["practitioner"] == known["practitioner"]


def test_a_performer_of_the_header_is_the_same_resource() -> None:
    number = II(templates.PS_IDNAT, "810101234564")
    (role, other), found = performers_of(
        sections.performer("Dr Hélène LEMOINE", ids=[number], structure_name="Cabinet des Tilleuls"),
        sections.performer("Quelqu'un d'autre", ids=[number]),  # the same number, another name
    )
    known = found.of_type("Composition")[0]["author"][0]
    author = found.resolve(known) or {}
    assert role["practitioner"] == author["practitioner"]
    assert other["practitioner"] != author["practitioner"]
    assert len(found.of_type("Organization")) == 1


def test_performers_that_the_header_does_not_know() -> None:
    (person, place, nurse), found = performers_of(
        sections.performer("Luc ORGE", telecoms=[Telecom("tel:0600000000")]),
        sections.performer("SSIAD", structure_id=II(templates.STRUCT_IDNAT, "1910800003"), structure_name="SSIAD"),
        EntryParticipant(
            "PRF",
            code=code("G15_60", "Infirmier", terminology.PROFESSION_KNOW_HOW),
            addresses=[Address(city="PARIS")],
            name=PersonName([NamePart("ROUX")], [NamePart("Ana")]),
        ),
    )
    luc = found.resolve(person["practitioner"]) or {}
    assert (luc["name"], luc["telecom"][0]["value"]) == ([{"text": "Luc ORGE"}], "0600000000")
    assert (place["resourceType"], place["identifier"][0]["value"]) == ("Organization", "910800003")
    assert (found.resolve(nurse["practitioner"]) or {})["name"] == [{"family": "ROUX", "given": ["Ana"]}]


def test_actions_without_goal() -> None:
    carrier = goal(
        code=code("GEN-092.01.01", "Autre problème"),
        value=Code(null_flavor="NAV"),
        relationships=[action(II("2.25.30"))],
    )
    result = plan_of(carrier, problem_words="Sans objectif formulé")
    assert of_type(result, "Goal") == []
    (request,) = of_type(result, "ServiceRequest")
    assert "extension" not in request


def test_a_goal_without_words_is_still_one_when_it_names_a_problem() -> None:
    result = plan_of(goal(value=Code(null_flavor="NAV"), relationships=[action(II("2.25.30"))]))
    assert len(of_type(result, "Goal")) == 1
    assert any("not said in words" in line for line in messages(result, "warning"))


# --- assessments ----------------------------------------------------------------------------------------------------


def assessment(value: Any, **more: Any) -> Relationship:
    """A bilan d'étape."""
    entry = sections.simple_observation(
        II("2.25.40"),
        code("ORG-012", "Bilan d'étape"),
        [value],
        text="b",
        time=more.pop("time", Interval(value="20260201")),
        negation=None,
        criteria=more.pop("criteria", []),
    )
    return sections.evaluated_by(entry)


def test_assessment_and_criteria() -> None:
    said = Code(original_text=Text(reference="#b"))
    criteria = [Text(reference="c")]  # without #, as in the official example
    result = plan_of(goal(relationships=[assessment(said, criteria=criteria)], time=Interval(high="20260630")))
    (found,) = of_type(result, "Goal")
    assert found["target"] == [{"measure": {"text": "500 m"}, "dueDate": "2026-06-30"}]
    (observation,) = of_type(result, "Observation")
    assert (observation["valueString"], observation["effectiveDateTime"]) == ("En progrès", "2026-02-01")
    resources = ResourceSet.of_bundle(result.bundle)
    assert resources.resolve(observation["focus"][0]) is found
    assert resources.resolve(observation["basedOn"][0]) is of_type(result, "CarePlan")[0]
    assert resources.resolve(found["outcomeReference"][0]) is observation


def test_an_entry_that_only_carries_criteria() -> None:
    carrier = assessment(Code(null_flavor="NAV"), time=Interval(null_flavor="NAV"), criteria=[Text(reference="#c")])
    result = plan_of(goal(relationships=[carrier]))
    assert of_type(result, "Observation") == []
    assert of_type(result, "Goal")[0]["target"] == [{"measure": {"text": "500 m"}}]


# --- dispositions and directives ------------------------------------------------------------------------------------


def provision(value: Any, name: str = "PAT-008", **more: Any) -> Statement:
    """A disposition."""
    entry = sections.simple_observation(
        II("2.25.50"), code(name), [value] if value else [], text="v", time=more.pop("time", None)
    )
    for field, changed in more.items():
        setattr(entry, field, changed)
    return entry


def dispositions(*entries: Statement) -> tuple[list[Resource], Imported]:
    """The Observations of section 3."""
    result = bring_in(with_section(sections.SOCIAL_PROVISIONS, [content("Rester", id="v")], *entries))
    return of_type(result, "Observation"), result


@pytest.mark.parametrize(
    ("value", "element", "expected"),
    [
        (Boolean(False), "valueBoolean", False),
        (Integer(3), "valueInteger", 3),
        (String("texte"), "valueString", "texte"),
        (Code(original_text=Text(reference="#v")), "valueString", "Rester"),
        (Quantity("1.50", "h"), "valueQuantity", {"value": pytest.approx(1.5), "unit": "h"}),
    ],
)
def test_values(value: Any, element: str, expected: Any) -> None:
    (observation,), _ = dispositions(provision(value))
    found = observation[element]
    if element == "valueQuantity":
        assert str(found["value"]) == "1.50"
        found = found | {"value": float(found["value"])}
    assert found == expected
    assert observation["status"] == "final"


def test_a_coded_value_keeps_code_and_words() -> None:
    (observation,), _ = dispositions(provision(Code("MED-340", CISIS, "GIR-2", original_text=Text(reference="#v"))))
    assert observation["valueCodeableConcept"]["text"] == "Rester"
    assert observation["valueCodeableConcept"]["coding"][0]["code"] == "MED-340"


@pytest.mark.parametrize(
    ("value", "more", "reason"),
    [
        (Boolean(null_flavor="MSK"), {}, "masked"),
        (Code(null_flavor="NA"), {}, "not-applicable"),
        (None, {}, "unknown"),
        (Boolean(True), {"negation": True}, "unknown"),
        (Quantity("un peu"), {}, "unknown"),
        (Integer(2**31), {}, "unknown"),
        (Unmodelled(RATIO), {}, "unknown"),
    ],
)
def test_absent_values(value: Any, more: Resource, reason: str) -> None:
    (observation,), _ = dispositions(provision(value, **more))
    assert observation["dataAbsentReason"]["coding"][0]["code"] == reason
    assert not [name for name in observation if name.startswith("value")]


def test_nested_dispositions_are_components() -> None:
    nested = [sections.subject_of(provision(Boolean(True), "PAT-003", time=Interval(value="2025")))]
    parent = provision(Code(original_text=Text(reference="#v")), "PAT-001", relationships=nested)
    (observation,), result = dispositions(parent)
    assert observation["valueString"] == "Rester"
    assert [one["valueBoolean"] for one in observation["component"]] == [True]
    told = messages(result, "information")
    assert any("component of an Observation has no identifier" in line for line in told)
    assert any("component has the time of its Observation" in line for line in told)


def test_a_parent_that_stands_for_nothing_is_no_resource() -> None:
    nested = [sections.subject_of(provision(Boolean(True), "PAT-004"))]
    parent = provision(Code(null_flavor="UNK"), "PAT-001", relationships=nested)
    (observation,), _ = dispositions(parent)
    assert observation["code"]["coding"][0]["code"] == "PAT-004"


@pytest.mark.parametrize(("flag", "expected"), [(True, "Rester"), (False, False)])
def test_insurer(flag: bool, expected: Any) -> None:
    name = sections.subject_of(provision(Code(original_text=Text(reference="#v")), "PAT-002"))
    (observation,), result = dispositions(provision(Boolean(flag), "PAT-002", relationships=[name]))
    assert observation.get("valueString", observation.get("valueBoolean")) == expected
    assert any("said not to have" in line for line in messages(result, "warning")) == (not flag)


def test_an_aborted_observation_is_cancelled() -> None:
    (observation,), _ = dispositions(provision(Boolean(True), status="aborted"))
    assert observation["status"] == "cancelled"


def test_parts_that_nothing_reads_are_reported() -> None:
    entry = provision(Boolean(True), interpretations=[code("A")], target_sites=[code("B")])
    _, result = dispositions(entry)
    told = messages(result, "information")
    assert any("interpretations of this kind of entry" in line for line in told)
    assert any("target_sites of this kind of entry" in line for line in told)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("new", "registered"), ("held", "preliminary"), ("completed", "final"), (None, "final"), ("odd", "unknown")],
)
def test_status_of_a_disposition(status: str | None, expected: str) -> None:
    (observation,), _ = dispositions(provision(Boolean(True), status=status))
    assert observation["status"] == expected


def test_a_part_that_was_entered_in_error_is_no_component() -> None:
    wrong = sections.subject_of(provision(Integer(2), "PAT-007", status="nullified"))
    (observation,), result = dispositions(provision(Boolean(True), relationships=[wrong]))
    assert "component" not in observation
    assert any("entered in error" in line for line in messages(result, "warning"))


@pytest.mark.parametrize("status", ["aborted", "suspended", "cancelled", "nullified"])
def test_a_directive_that_does_not_stand(status: str) -> None:
    found, result = directive(lambda entry: setattr(entry, "status", status))
    assert found == []
    assert messages(result, "warning")


def directive(change: Callable[[Statement], object], media: Statement | None = None) -> tuple[list[Resource], Imported]:
    """The Consents of section 2."""
    kind = code("42348-3", "Directives anticipées", templates.LOINC)
    entry = sections.advance_directive(II("2.25.60"), kind, text="d", time=None, value=True, media=media)
    change(entry)
    shown = paragraph("Mes directives ", Element("renderMultiMedia", {"referencedObject": "m"}))
    text = [shown, content("oui", id="d")]
    result = bring_in(with_section(sections.ADVANCE_DIRECTIVES, text, entry))
    return of_type(result, "Consent"), result


@pytest.mark.parametrize(("exists", "status"), [(True, "active"), (False, "inactive")])
def test_directives(exists: bool, status: str) -> None:
    def change(entry: Statement) -> None:
        entry.values, entry.time = [Boolean(exists)], Interval(low="20210824100000", high="20210824101000")

    (consent,), _ = directive(change)
    assert (consent["status"], consent["scope"]["coding"][0]["code"]) == (status, "adr")
    assert consent["category"][0]["coding"][0]["code"] == "42348-3"
    assert consent["provision"]["period"] == {
        "start": "2021-08-24T10:00:00+02:00",
        "end": "2021-08-24T10:10:00+02:00",
    }


@pytest.mark.parametrize(("allowed", "decision"), [(True, "permit"), (False, "deny")])
def test_what_the_person_decides_of_an_intervention(allowed: bool, decision: str) -> None:
    """A refusal is a directive in force, not the lack of one."""

    def change(entry: Statement) -> None:
        entry.code, entry.values = code("75779-9", "Réanimation", templates.LOINC), [Boolean(allowed)]

    (consent,), _ = directive(change)
    assert (consent["status"], consent["provision"]["type"]) == ("active", decision)


def test_a_directive_in_words() -> None:
    def change(entry: Statement) -> None:
        entry.code, entry.values = code("75793-0", "Autre directive", templates.LOINC), []

    (consent,), _ = directive(change)
    assert (consent["status"], consent["policyRule"]["text"]) == ("active", "oui")
    assert "provision" not in consent


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: setattr(entry, "values", []),
        lambda entry: setattr(entry, "values", [Boolean(null_flavor="UNK")]),
        lambda entry: setattr(entry, "negation", True),
    ],
)
def test_a_directive_that_does_not_say_whether_it_exists(change: Callable[[Statement], object]) -> None:
    found, result = directive(change)
    assert found == []
    assert messages(result, "warning")


def test_the_document_of_a_directive() -> None:
    media = sections.attached_media("m", Media("application/pdf", b"%PDF-1.4"))
    (consent,), _ = directive(lambda entry: None, media)
    assert consent["sourceAttachment"] == {
        "contentType": "application/pdf",
        "data": "JVBERi0xLjQ=",
        "title": "Mes directives",
    }


def test_no_health_data_in_the_issues() -> None:
    document = convert(PLANS["full"], EMISSION).document
    for section in document.sections:
        for entry in section.entries:
            entry.text = Text(reference="#Diabète")
    told = " ".join(str(issue) for issue in bring_in(document).issues)
    assert "Diabète" not in told
    assert "PAT-TROIS" not in told


# --- anything ---------------------------------------------------------------------------------------------------------

ODD_VALUES = st.sampled_from(
    ["", "  ", "é", "a b", "1e400", "99999999999", "-1", "javascript:x", "20240230", "#", "1.2..3", "A" * 300, "\u2028"]
)


@functools.cache
def full_document() -> bytes:
    """The document of the full plan."""
    return write(convert(PLANS["full"], EMISSION).document)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_a_document_says_the_bundle_is_valid_or_the_document_refused(data: st.DataObject) -> None:
    root = parse(full_document()).getroot()
    for _ in range(data.draw(st.integers(1, 4))):
        element = data.draw(st.sampled_from([one for one in root.iter() if one is not root]))
        change = data.draw(st.sampled_from(["attribute", "text", "remove", "absent"]))
        if change == "remove":
            remove(element)
        elif change == "text":
            element.text = data.draw(ODD_VALUES)
        elif change == "attribute" and element.attrib:
            element.set(data.draw(st.sampled_from(sorted(map(str, element.attrib)))), data.draw(ODD_VALUES))
        else:
            element.attrib.clear()
            element.set("nullFlavor", data.draw(st.sampled_from(["UNK", "NA", "MSK", "other"])))
    try:
        read_back = read(etree.tostring(root))
        result = to_bundle(read_back.document, etree.tostring(root))
    except RelaisError as refusal:
        assert refusal.issues
    else:
        assert structure.check(result.bundle) == []
