"""Verdicts: the official rules on official documents and on altered ones, the known defects of the rules, rendering."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

from relais.cda import templates
from relais.cda.errors import MOST_ALIKE, UnreadableError
from relais.cda.parsing import parse
from relais.cda.rule_sets import OF_2023_12, STRUCTURE, RulesError, RuleSet
from relais.cda.validation import Problem, ProfileResult, Report, Validator
from support.rules import (
    CANCER_PPS,
    DISCHARGE_LETTER,
    EXAMPLES,
    MODELS,
    ORPHAN,
    PPS,
    PROFILES,
    UNSTRUCTURED,
    altered,
    attribute,
    example,
    insert,
    remove,
    text,
)

HEADER = "schematrons/profils/structurationMinimale/include/1.2.250.1.213.1.1.1.1-2017-12-13T103531.sch"
TYPES = "schematrons/profils/structurationMinimale/include"
VALUE_SET = "schematrons/abstract/dansJeuDeValeurs.sch:55"
CODE_LOOK_UP = "schematrons/profils/terminologies/schematron/terminologie.sch:30"
BIRTH_NAME = "//v3:recordTarget//v3:given[@qualifier='CL' or not(@qualifier)][1]"
BIRTH_GIVEN = '<given qualifier="BR">INVENTEE</given>'
PROBLEM_CODE = "//v3:observation[v3:templateId/@root='1.3.6.1.4.1.19376.1.5.3.1.1.20.3.1']/v3:code"
UNSTRUCTURED_TEMPLATE = f"/*/v3:templateId[@root='{templates.UNSTRUCTURED}']"
TELECOM = "//v3:recordTarget/v3:patientRole/v3:telecom[1]"

Change = Callable[[etree._Element], object]


Verdict = Callable[[str], Report]


@pytest.fixture(scope="module")
def verdict(validator: Validator, cisis: Path) -> Verdict:
    """The verdict on an official example as it is, by the newest rules."""
    return cache(lambda name: validator.validate(example(cisis, name)))


def profile(report: Report, name: str) -> ProfileResult:
    return next(result for result in report.profiles if result.name == name)


def rules(report: Report) -> set[tuple[str, str, str]]:
    return {(result.name, found.rule, found.path) for result in report.profiles for found in result.problems}


# --- official documents -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CANCER_PPS, DISCHARGE_LETTER, UNSTRUCTURED])
def test_official_example_is_conformant(verdict: Verdict, name: str) -> None:
    report = verdict(name)
    assert report.conformant
    assert report.schema_valid
    assert report.not_run == ()


def test_report_names_the_bytes_and_the_rules(verdict: Verdict, validator: Validator) -> None:
    report = verdict(UNSTRUCTURED)
    assert report.sha256 == "577431957f439238959a0d25d521733b8cd05aabccdaac03eed5022f147d28d6"
    assert report.rule_set == f"tcc-3.0@{validator.rule_set.digest[:12]}"


def test_profile_without_rule_fired_applies_to_nothing_and_is_no_pass(verdict: Verdict) -> None:
    report = verdict(UNSTRUCTURED)
    assert profile(report, "IHE").verdict == "nothing applies"
    assert profile(report, "structurationMinimale").verdict == "passed"
    assert "IHE: nothing applies" in report.to_text()


def test_model_profile_is_the_one_of_the_template(verdict: Verdict) -> None:
    names = [result.name for result in verdict(PPS).profiles]
    assert names[5:] == ["PPS-PAERPA_2022.01", ORPHAN]
    assert len(verdict(UNSTRUCTURED).profiles) == 5


def test_every_model_of_the_rules_is_picked_by_some_template(cisis: Path) -> None:
    held = {f"schematrons/{path.name}" for path in (cisis / "cda" / "schematrons").glob("CI-SIS_*.sch")}
    assert held == {PROFILES[name].file for name in MODELS.values()}


@pytest.mark.parametrize("template", MODELS)
def test_document_of_a_template_is_judged_by_its_model(validator: Validator, cisis: Path, template: str) -> None:
    """No example of most: the unstructured one, under their template. A model asks for its own template by a check."""
    data = altered(example(cisis, UNSTRUCTURED), UNSTRUCTURED_TEMPLATE, attribute("root", template))
    results = validator.validate(data).profiles
    orphan = [ORPHAN] if template == templates.PPS_PAERPA else []
    assert [result.name for result in results[5:]] == [MODELS[template], *orphan]
    assert any(result.fired for result in results[5:])
    texts = [problem.text for result in results[5:] for problem in result.problems]
    assert not [text for text in texts if template in text and "templateId" in text]


def test_document_of_two_models_is_judged_by_both(validator: Validator, cisis: Path) -> None:
    other = '<templateId xmlns="urn:hl7-org:v3" root="1.2.250.1.213.1.1.1.29"/>'
    first = "/*/v3:templateId[1]"
    data = altered(example(cisis, CANCER_PPS), first, lambda node: node.addnext(etree.fromstring(other)))
    assert {"CANCER-PPS_2025.01", "LDL-SES_2022.01"} <= {result.name for result in validator.validate(data).profiles}


def test_document_of_an_unknown_model_says_so(validator: Validator, cisis: Path) -> None:
    data = altered(example(cisis, UNSTRUCTURED), UNSTRUCTURED_TEMPLATE, attribute("root", "1.2.250.1.213.1.1.1.999"))
    model = profile(validator.validate(data), "document model")
    assert model.verdict == "nothing applies"
    assert [item.rule for item in model.limits] == ["relais-document-model"]


# --- the two rule sets ------------------------------------------------------------------------------------------------


def test_contradiction_of_the_current_rules_is_shown_and_marked_expected(validator: Validator, cisis: Path) -> None:
    data = altered(example(cisis, PPS), BIRTH_NAME, insert(BIRTH_GIVEN))
    report = validator.validate(data)
    assert not report.conformant
    assert [problem.rule for problem in report.official_errors] == [CODE_LOOK_UP] * 2
    assert report.expected_failures == report.official_errors
    assert "expected" in report.to_text()
    issues = [issue for issue in report.to_issues() if issue.code == "code-invalid"]
    assert [issue.severity for issue in issues] == ["warning", "warning"]


def test_rules_of_2023_12_find_nothing_wrong_with_the_codes(
    validator_of_2023_12: Validator, validator: Validator, cisis: Path
) -> None:
    assert validator_of_2023_12.rule_set.identity.startswith("tcc-2023-12@")
    assert validator_of_2023_12.rule_set.digest != validator.rule_set.digest
    report = validator_of_2023_12.validate(example(cisis, PPS))
    assert profile(report, "terminologies").problems == ()
    assert profile(report, "terminologies").fired == 56
    [failure] = report.official_errors
    assert failure.rule == f"{HEADER}:52"
    assert validator_of_2023_12.validate(altered(example(cisis, PPS), BIRTH_NAME, insert(BIRTH_GIVEN))).conformant


def test_expectation_does_not_cover_other_codes_or_documents(validator: Validator, cisis: Path) -> None:
    unknown = altered(example(cisis, PPS), "//v3:code[@code='MED-057']", attribute("code", "XYZ-001"))
    found = profile(validator.validate(unknown), "terminologies").problems
    assert [problem.expected for problem in found] == [False, True]
    elsewhere = altered(example(cisis, DISCHARGE_LETTER), "//v3:code[@code='ORG-070']", attribute("code", "MED-057"))
    [problem] = profile(validator.validate(elsewhere), "terminologies").problems
    assert not problem.expected


def test_unknown_rule_set_and_absent_pack_are_refused(cisis: Path, tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="unknown rule set tcc-9"):
        RuleSet.load(cisis, "tcc-9")
    with pytest.raises(RulesError, match="not found"):
        RuleSet.load(tmp_path, OF_2023_12)
    with pytest.raises(RulesError, match="not found"):
        RuleSet.load(cisis, f"segur={tmp_path}")
    with pytest.raises(RulesError, match="under a new name"):
        RuleSet.load(cisis, f"{OF_2023_12}={tmp_path}")


def test_another_folder_is_a_rule_set_under_its_own_name(validator: Validator, cisis: Path) -> None:
    other = RuleSet.load(Path("nowhere"), f"segur={cisis}")
    assert other.identity == f"segur@{validator.rule_set.digest[:12]}"


# --- altered documents: each breaks one rule, and is told so ----------------------------------------------------------

PERSON = "/ClinicalDocument/recordTarget/patientRole/patient"
BODY = "/ClinicalDocument/component/structuredBody"

ALTERATIONS: list[tuple[str, str, Change, str, str, str]] = [
    # document, what is altered, how, profile, rule, place
    (
        UNSTRUCTURED,
        "//v3:patient/v3:name/v3:family[@qualifier='BR']",
        remove,
        STRUCTURE,
        f"{HEADER}:52",
        "/ClinicalDocument",
    ),
    (
        UNSTRUCTURED,
        "//v3:patient//v3:family[@qualifier='BR']",
        attribute("qualifier", "SP"),
        STRUCTURE,
        f"{HEADER}:481",
        f"{PERSON}/name",
    ),
    (UNSTRUCTURED, "/*/v3:setId", remove, STRUCTURE, f"{HEADER}:46", "/ClinicalDocument"),
    (
        UNSTRUCTURED,
        "/*/v3:confidentialityCode",
        attribute("code", "U"),
        STRUCTURE,
        f"{HEADER}:183",
        "/ClinicalDocument/confidentialityCode",
    ),
    (
        UNSTRUCTURED,
        "/*/v3:languageCode",
        attribute("code", "fr"),
        STRUCTURE,
        f"{HEADER}:195",
        "/ClinicalDocument/languageCode",
    ),
    (UNSTRUCTURED, "/*/v3:code", attribute("code", "00000-0"), STRUCTURE, f"{HEADER}:146", "/ClinicalDocument/code"),
    (
        UNSTRUCTURED,
        "/*/v3:id",
        attribute("root", "1.2.250.1.07.1"),
        STRUCTURE,
        f"{TYPES}/DTr1_II.sch:33",
        "/ClinicalDocument/id",
    ),
    (
        UNSTRUCTURED,
        "//v3:birthTime",
        attribute("value", "19610229"),
        STRUCTURE,
        f"{TYPES}/DTr1_TS.sch:33",
        f"{PERSON}/birthTime",
    ),
    (
        UNSTRUCTURED,
        "//v3:author//v3:name/v3:prefix",
        text("MR"),
        STRUCTURE,
        f"{HEADER}:1087",
        "/ClinicalDocument/author",
    ),
    (
        UNSTRUCTURED,
        "//v3:patient/v3:administrativeGenderCode",
        attribute("code", "U"),
        "ModelesDeContenusCDA",
        VALUE_SET,
        f"{PERSON}/administrativeGenderCode",
    ),
    (
        PPS,
        "//v3:section/v3:code[@code='42348-3']",
        attribute("code", "42349-1"),
        "IHE",
        "schematrons/include/sections/S_advanceDirectives.sch:23",
        f"{BODY}/component[2]/section",
    ),
    (
        PPS,
        "//v3:entry/v3:act/v3:statusCode",
        remove,
        "IHE",
        "schematrons/include/entrees/E_concernEntry_int.sch:45",
        f"{BODY}/component[1]/section/entry/act",
    ),
    (
        PPS,
        "//v3:component[v3:section/v3:templateId/@root='1.2.250.1.213.1.1.2.44']",
        remove,
        "PPS-PAERPA_2022.01",
        "schematrons/CI-SIS_PPS-PAERPA_2022.01.sch:48",
        BODY,
    ),
    (
        PPS,
        PROBLEM_CODE,
        attribute("code", "MED-999"),
        "PPS-PAERPA_2022.01",
        VALUE_SET,
        f"{BODY}/component[4]/section/entry[1]/observation/code",
    ),
    (
        PPS,
        "/*/v3:code",
        attribute("code", "34133-9"),
        ORPHAN,
        "schematrons/include/specificationsVolets/PPS-PAERPA_2022.01/Entete/Entete_PPS-PAERPA.sch:18",
        "/ClinicalDocument",
    ),
    (
        CANCER_PPS,
        "//v3:section[v3:templateId/@root='1.2.250.1.213.1.1.2.243']/v3:title",
        text("Autre"),
        "Modeles_ANS",
        "schematrons/include/sections/S_documentPDFCopie_ANS.sch:27",
        f"{BODY}/component[12]/section",
    ),
    (
        CANCER_PPS,
        "//v3:component[v3:section/v3:templateId/@root='1.2.250.1.213.1.1.2.27']",
        remove,
        "CANCER-PPS_2025.01",
        "schematrons/CI-SIS_CANCER-PPS_2025.01.sch:86",
        BODY,
    ),
    (
        DISCHARGE_LETTER,
        "//v3:code[@code='ORG-070']",
        attribute("code", "ORG-999"),
        "terminologies",
        CODE_LOOK_UP,
        f"{BODY}/component[3]/section/entry[1]/observation/code",
    ),
    (
        DISCHARGE_LETTER,
        "/*/v3:code",
        attribute("code", "34133-9"),
        "LDL-SES_2022.01",
        "schematrons/include/specificationsVolets/LDL-SES_2022.01/Entete/Entete_LDL-SES.sch:18",
        "/ClinicalDocument",
    ),
    (
        DISCHARGE_LETTER,
        "//v3:encounter",
        attribute("moodCode", "RQO"),
        "IHE",
        "schematrons/include/entrees/E_encounter_int.sch:66",
        f"{BODY}/component[7]/section/entry[3]/encounter",
    ),
]


@pytest.mark.parametrize(("document", "xpath", "change", "name", "rule", "path"), ALTERATIONS)
def test_alteration_is_reported_with_its_rule_and_place(
    validator: Validator,
    verdict: Verdict,
    cisis: Path,
    document: str,
    xpath: str,
    change: Change,
    name: str,
    rule: str,
    path: str,
) -> None:
    after = validator.validate(altered(example(cisis, document), xpath, change))
    assert (name, rule, path) in rules(after) - rules(verdict(document))
    assert not after.acceptable
    assert not after.conformant or not profile(after, name).official


def test_schema_error_is_a_problem_with_its_place(validator: Validator, cisis: Path) -> None:
    data = altered(example(cisis, UNSTRUCTURED), "/*/v3:realmCode", insert("<unheardOf/>"))
    report = validator.validate(data)
    [problem] = report.schema_problems
    assert problem.path == "/ClinicalDocument/unheardOf"
    assert problem.line > 0
    assert not report.conformant


@pytest.mark.parametrize("address", ["tel:", "mailto: ", "http://", "//", "tel:#x"])
def test_address_with_nothing_after_its_scheme_is_a_schema_error(
    validator: Validator, cisis: Path, address: str
) -> None:
    report = validator.validate(altered(example(cisis, UNSTRUCTURED), TELECOM, attribute("value", address)))
    assert [problem.path for problem in report.schema_problems] == [
        "/ClinicalDocument/recordTarget/patientRole/telecom[1]"
    ]
    assert not report.conformant


@pytest.mark.parametrize("address", ["tel:0", "mailto:?x", "http:///", "#", "", "fax:/"])
def test_address_with_something_after_its_scheme_is_none(validator: Validator, cisis: Path, address: str) -> None:
    report = validator.validate(altered(example(cisis, UNSTRUCTURED), TELECOM, attribute("value", address)))
    assert report.schema_valid


def test_bytes_that_are_not_xml_are_refused(validator: Validator) -> None:
    with pytest.raises(UnreadableError):
        validator.validate(b"<ClinicalDocument")
    with pytest.raises(UnreadableError):
        validator.validate(b'<!DOCTYPE x [<!ENTITY e "v">]><x>&e;</x>')


# --- known defects of the rules ---------------------------------------------------------------------------------------


def test_document_without_the_right_type_id_is_refused_as_fatal(validator: Validator, cisis: Path) -> None:
    data = altered(example(cisis, UNSTRUCTURED), "/*/v3:typeId", attribute("extension", "POCD_HD000041"))
    report = validator.validate(data)
    [problem] = [item for item in profile(report, "structurationMinimale").problems if item.path == "/"]
    assert problem.severity == "fatal"
    assert not report.conformant


def test_xml_that_is_no_cda_is_not_conformant(validator: Validator) -> None:
    report = validator.validate(b"<other/>")
    assert not report.conformant
    assert not report.acceptable


def test_orphan_header_pattern_counts_for_acceptance_only(validator_of_2023_12: Validator, cisis: Path) -> None:
    complete = altered(example(cisis, PPS), BIRTH_NAME, insert(BIRTH_GIVEN))
    report = validator_of_2023_12.validate(altered(complete, "/*/v3:code", attribute("code", "34133-9")))
    assert report.conformant
    assert not report.acceptable
    assert not profile(report, ORPHAN).official
    assert "not part of the official profiles" in report.to_text()


@pytest.mark.parametrize(("name", "verified"), [(PPS, 19), (CANCER_PPS, 50), (DISCHARGE_LETTER, 15), (UNSTRUCTURED, 0)])
def test_code_systems_that_no_rule_looks_into_are_listed(verdict: Verdict, name: str, verified: int) -> None:
    report = verdict(name)
    assert sum(use.verified for use in report.code_systems) == verified
    loinc = next(use for use in report.code_systems if use.system == "2.16.840.1.113883.6.1")
    assert loinc.verified == 0
    assert loinc.unverified > 0
    assert any(issue.code == "incomplete" and loinc.system in issue.message for issue in report.to_issues())


def test_code_system_that_is_no_oid_never_reaches_the_terminologies_profile(validator: Validator, cisis: Path) -> None:
    code = "/*/v3:component//v3:code[@codeSystem]"
    data = altered(example(cisis, PPS), code, attribute("codeSystem", "../../../../../secret"))
    report = validator.validate(data)
    result = profile(report, "terminologies")
    assert result.verdict == "not entirely run"
    assert result.fired == 0
    assert [item.rule for item in result.not_run] == ["relais-code-system"]
    assert all(use.verified == 0 for use in report.code_systems)
    assert not report.conformant


def test_units_of_max_dose_quantity_are_told_not_verified(verdict: Verdict) -> None:
    [limit] = profile(verdict(DISCHARGE_LETTER), "terminologies").limits
    assert "maxDoseQuantity" in limit.reason
    assert profile(verdict(PPS), "terminologies").limits == ()


def test_value_with_a_prefixed_type_is_told_not_verified(validator: Validator, verdict: Verdict, cisis: Path) -> None:
    prefixed = example(cisis, PPS).replace(b'xsi:type="CD"', b'xsi:type="c:CD"')
    data = prefixed.replace(b"<ClinicalDocument", b'<ClinicalDocument xmlns:c="urn:hl7-org:v3"', 1)
    before = profile(verdict(PPS), "terminologies")
    after = profile(validator.validate(data), "terminologies")
    assert after.fired < before.fired
    assert any("prefix" in limit.reason for limit in after.limits)


def test_bound_given_twice_stops_three_checks_of_that_node_only(validator: Validator, cisis: Path) -> None:
    low = "//v3:encompassingEncounter/v3:effectiveTime/v3:low[@value]"
    data = altered(example(cisis, UNSTRUCTURED), low, insert('<low value="20200101"/>'))
    report = validator.validate(data)
    assert {item.code for item in report.not_run} == {"XPTY0004"}
    assert 1 <= len(report.not_run) <= 3
    assert {item.path for item in report.not_run} == {
        "/ClinicalDocument/componentOf/encompassingEncounter/effectiveTime"
    }
    assert all(item.line > 0 for item in report.not_run)
    assert profile(report, "structurationMinimale").fired == 159 + 1  # the second low
    assert not report.schema_valid
    assert not report.conformant


@pytest.mark.parametrize(("value", "code"), [("no such:name", "FOCA0002"), ("unbound:CE", "FONS0004")])
def test_type_that_is_no_name_stops_the_checks_that_read_it(
    validator: Validator, cisis: Path, value: str, code: str
) -> None:
    xsi = "{http://www.w3.org/2001/XMLSchema-instance}type"
    data = altered(example(cisis, UNSTRUCTURED), "/*/v3:confidentialityCode", attribute(xsi, value))
    report = validator.validate(data)
    assert {(item.code, item.path) for item in report.not_run} == {(code, "/ClinicalDocument/confidentialityCode")}
    assert profile(report, "structurationMinimale").fired == 159
    assert not report.conformant


def test_failure_of_a_rule_known_to_be_wrong_is_told_with_a_note(validator: Validator, cisis: Path) -> None:
    reference = (
        '<entryRelationship typeCode="COMP" inversionCode="true"><act classCode="ACT" moodCode="EVN">'
        '<templateId root="1.3.6.1.4.1.19376.1.5.3.1.4.4.1"/></act></entryRelationship>'
    )
    procedure = "//v3:procedure[v3:templateId/@root='1.3.6.1.4.1.19376.1.5.3.1.4.19']/v3:entryRelationship"
    data = altered(example(cisis, CANCER_PPS), procedure, insert(reference))
    report = validator.validate(data)
    rule = "schematrons/include/entrees/E_procedureEntry_int.sch:61"
    [problem] = [item for item in profile(report, "IHE").problems if item.rule == rule]
    assert problem.severity == "error"
    assert "known to be wrong" in problem.note


# --- rendering --------------------------------------------------------------------------------------------------------


def broken_everywhere(cisis: Path) -> bytes:
    """A PPS with recognisable values wrong for the schema, the header rules and the terminologies."""
    data = altered(example(cisis, PPS), "//v3:birthTime", attribute("value", "ZORGLUB1"))
    data = altered(data, "/*/v3:id", attribute("root", "ZORGLUB 2"))
    data = altered(data, PROBLEM_CODE, attribute("code", "ZORGLUB3"))
    data = altered(data, "//v3:recordTarget//v3:telecom", attribute("value", "https://ZORGLUB4"))
    return altered(data, "//v3:recordTarget//v3:patientRole/v3:id", attribute("extension", "ZORGLUB5"))


def test_issues_never_quote_the_document(validator: Validator, cisis: Path) -> None:
    report = validator.validate(broken_everywhere(cisis))
    text_of_all = report.to_text()
    assert all(quoted in text_of_all for quoted in ("ZORGLUB1", "ZORGLUB 2", "ZORGLUB3"))
    assert not any("ZORGLUB" in str(issue) for issue in report.to_issues())


def test_issues_hold_every_problem(validator: Validator, cisis: Path) -> None:
    report = validator.validate(broken_everywhere(cisis))
    issues = report.to_issues()
    problems: list[Problem] = [
        *report.schema_problems,
        *(item for result in report.profiles for item in result.problems),
    ]
    assert len(report.schema_problems) >= 2
    placed = {(issue.path, issue.rule.rpartition(" ")[2]) for issue in issues}
    assert {(problem.path, problem.rule) for problem in problems} <= placed
    assert set(report.consistency) <= set(issues)


@pytest.mark.parametrize("name", EXAMPLES)
def test_text_says_every_profile_and_problem(verdict: Verdict, name: str) -> None:
    report = verdict(name)
    lines = report.to_text().splitlines()
    assert lines[0].startswith("conformant" if report.conformant else "not conformant")
    for result in report.profiles:
        assert any(line.startswith(f"{result.name}: {result.verdict}") for line in lines)
        assert all(any(problem.text in line for line in lines) for problem in result.problems)


def test_problem_names_the_test_and_the_context_of_its_rule(verdict: Verdict) -> None:
    [problem] = profile(verdict(PPS), STRUCTURE).problems
    assert problem.context.startswith("//hl7:ClinicalDocument")
    assert "hl7:" in problem.test
    assert not problem.is_report


def test_processing_instructions_and_comments_do_not_matter(
    validator: Validator, verdict: Verdict, cisis: Path
) -> None:
    tree = parse(example(cisis, UNSTRUCTURED))
    tree.getroot().insert(0, etree.Comment("comment"))
    tree.getroot().insert(0, etree.ProcessingInstruction("target", "x"))
    assert rules(validator.validate(etree.tostring(tree))) == rules(verdict(UNSTRUCTURED))


# --- many findings --------------------------------------------------------------------------------------------


def test_very_many_wrong_template_ids_have_their_verdict(validator: Validator, cisis: Path) -> None:
    many = MOST_ALIKE + 9_000  # looking at the siblings of each would take minutes
    document = example(cisis, UNSTRUCTURED)
    report = validator.validate(
        document.replace(b"<templateId", b'<templateId root="1.2.3"/>' * many + b"<templateId", 1)
    )
    problems = profile(report, STRUCTURE).problems
    alike = [problem for problem in problems if problem.rule == f"{TYPES}/DTr1_II.sch:44"]
    assert [problem.path for problem in alike[:MOST_ALIKE]] == [
        f"/ClinicalDocument/templateId[{number}]" for number in range(1, MOST_ALIKE + 1)
    ]
    [rest] = alike[MOST_ALIKE:]
    assert (rest.text, rest.fixed_text) == ("9000 more findings of this kind",) * 2
    assert (rest.path, rest.severity) == ("/ClinicalDocument", "error")
    assert not report.conformant


def test_of_codes_that_cannot_be_looked_up_the_first_are_listed(validator: Validator, cisis: Path) -> None:
    code = b'<entry><observation classCode="OBS" moodCode="EVN"><code code="x" codeSystem="no"/></observation></entry>'
    document = example(cisis, DISCHARGE_LETTER).replace(b"<entry", code * (MOST_ALIKE + 5) + b"<entry", 1)
    not_run = profile(validator.validate(document), "terminologies").not_run
    assert len(not_run) == MOST_ALIKE + 1
    assert not_run[-1].reason == "5 more findings of this kind"


def test_prefixes_bound_anywhere_name_the_place_of_a_schema_error(validator: Validator, cisis: Path) -> None:
    wrong = b'<x:id xmlns:x="urn:hl7-org:v3" extention="1"/><setId'
    report = validator.validate(example(cisis, UNSTRUCTURED).replace(b"<setId", wrong, 1))
    assert [problem.path for problem in report.schema_problems] == ["/ClinicalDocument/id[2]"]
