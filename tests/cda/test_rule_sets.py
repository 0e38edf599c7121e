"""Rule sets of other folders: the model that a document is judged by, files that are absent or named in other capitals.

`models.tsv` says of ANS's two repositories of rules which document models they hold, and of each of their example
documents (how many have these templates and this type code) which Schematron its `SCHSchema` names.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from relais.cda.validation import DOCUMENT_MODEL, ProfileResult, Report, Validator
from support.rule_sets import document, schematron, write_rule_set

TABLE = Path(__file__).parent / "models.tsv"
ROWS = list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
EXAMPLES = [row for row in ROWS if row["documents"] != "0"]

VAC = "1.2.250.1.213.1.1.1.37"
VSM = "1.2.250.1.213.1.1.1.13"
LABORATORY = "1.3.6.1.4.1.19376.1.3.3 1.2.250.1.213.1.1.1.55"
UNSTRUCTURED = "1.3.6.1.4.1.19376.1.2.20"

Judge = Callable[..., Report]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Write a rule set, and judge a document by it."""

    def run(data: bytes, *held: str, files: Mapping[str, str] | None = None) -> Report:
        return Validator(Path("nowhere"), write_rule_set(tmp_path, held, files)).validate(data)

    return run


def models(report: Report) -> list[ProfileResult]:
    return list(report.profiles[5:])


# --- the model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Validator]:
    """Rule sets that hold the document models of ANS's repositories, by name only."""
    made = {}
    for repository in {row["repository"] for row in ROWS}:
        held = {row["schematron"] for row in ROWS if row["repository"] == repository and row["schematron"]}
        folder = tmp_path_factory.mktemp("official")
        made[repository] = Validator(Path("nowhere"), write_rule_set(folder, held))
    return made


def test_official_examples_are_judged_by_their_own_model_or_by_none(official: dict[str, Validator]) -> None:
    """None: the templateId have no extension, and versions 2021.01 and 2024.01 of the model have such examples."""
    undecided = 0
    for row in EXAMPLES:
        results = models(official[row["repository"]].validate(document(row["templates"], row["code"])))
        run = [result.name for result in results if result.fired]
        if run != [name for name in [row["schematron"]] if name]:
            assert run == [], row
            assert row["schematron"].startswith("BIO-CR-BIO_"), row
            assert row["templates"].endswith(LABORATORY), row
            assert "2021.01, 2023.01, 2024.01" in results[0].not_run[0].reason
            undecided += int(row["documents"])
    assert (sum(int(row["documents"]) for row in EXAMPLES), undecided) == (148, 8)


@pytest.mark.parametrize(
    ("templates", "held", "run"),
    [
        (f"{VAC}^2023.01", ["VAC_2021.01", "VAC_2023.01", "VAC-NOTE_2023.01"], "VAC_2023.01"),
        (VAC, ["VAC_2023.01", "VAC-NOTE_2023.01"], "VAC_2023.01"),
        (f"{VSM}^201310", ["VSM_1.4_2022.01", "VSM_2023.01"], "VSM_1.4_2022.01"),
        (f"{VSM}^2023.01", ["VSM_1.4_2022.01", "VSM_2023.01"], "VSM_2023.01"),
        (f"{LABORATORY}^2024.01", ["BIO-CR-BIO_2021.01", "BIO-CR-BIO_2024.01"], "BIO-CR-BIO_2024.01"),
        ("1.3.6.1.4.1.19376.1.3.3^2021.01", ["CR-BIO_2021.01"], "CR-BIO_2021.01"),
    ],
)
def test_version_of_the_model_is_the_extension_of_its_template(
    judge: Judge, templates: str, held: list[str], run: str
) -> None:
    assert [result.name for result in models(judge(document(templates), *held))] == [run]


@pytest.mark.parametrize(
    ("templates", "held", "reason"),
    [
        (VAC, ["VAC_2021.01", "VAC_2023.01"], "does not say which version of its model applies; held here: 2021.01, 2"),
        (f"{VAC}^2024.01", ["VAC_2021.01", "VAC_2023.01"], "a version of its model that is not held here; held here: "),
        (f"{VAC}^2021.01", ["VAC_2023.01"], "a version of its model that is not held here; held here: 2023.01"),
    ],
)
def test_model_of_no_or_another_version_is_not_run_and_said(
    judge: Judge, templates: str, held: list[str], reason: str
) -> None:
    report = judge(document(templates), *held)
    [result] = models(report)
    assert (result.name, result.fired) == ("VAC", 0)
    assert reason in result.not_run[0].reason
    assert not report.conformant


@pytest.mark.parametrize(
    ("templates", "code", "held", "names"),
    [
        (f"{VAC}^2023.01", "11369-6", ["VSM_2023.01"], [DOCUMENT_MODEL]),
        (UNSTRUCTURED, "85208-7", ["TLM-CR_2022.01"], ["TLM-CR_2022.01"]),
        (UNSTRUCTURED, "85208-7", [], [DOCUMENT_MODEL]),
        (UNSTRUCTURED, "11502-2", ["TLM-CR_2022.01"], []),
        (f"{UNSTRUCTURED} {VSM}^2023.01", "11502-2", ["VAC_2023.01"], [DOCUMENT_MODEL]),
        (f"{VAC}^2023.01 {VSM}^2023.01", "11369-6", ["VAC_2023.01"], ["VAC_2023.01", DOCUMENT_MODEL]),
        ("1.2.3", "11369-6", ["VAC_2023.01"], [DOCUMENT_MODEL]),
    ],
)
def test_model_that_is_not_held_is_said_and_unstructured_documents_have_one_by_their_type(
    judge: Judge, templates: str, code: str, held: list[str], names: list[str]
) -> None:
    report = judge(document(templates, code), *held)
    assert [result.name for result in models(report)] == names
    assert report.conformant


def test_model_that_is_not_held_is_named_beside_one_that_is(judge: Judge) -> None:
    _vac, lacking = models(judge(document(f"{VAC}^2023.01 {VSM}^2023.01"), "VAC_2023.01"))
    assert [limit.reason for limit in lacking.limits] == [
        "the templateId of the document name a document model whose rules are not held here: VSM"
    ]


# --- names --------------------------------------------------------------------------------------------------------

MODEL = "schematrons/CI-SIS_VAC_2023.01.sch"
CODES = """<pattern><rule context="cda:code"><assert test="document('../jeuxDeValeurs/JDV_Codes.xml')//v = @code">code
not in the value set</assert><assert test="@displayName">no display name</assert></rule></pattern>"""


def test_files_in_other_capitals_are_read_and_the_report_says_so(tmp_path: Path) -> None:
    part = (
        '<pattern xmlns="http://purl.oclc.org/dsdl/schematron"><rule context="/*"><assert test="false()">part</assert>'
    )
    files = {
        MODEL: schematron(f'<include href="Include/part.sch"/>{CODES}'),
        "schematrons/include/Part.sch": f"{part}</rule></pattern>",
        "jeuxDeValeurs/JDV_codes.xml": "<l><v>11369-6</v></l>",
    }
    validator = Validator(Path("nowhere"), write_rule_set(tmp_path, files=files))
    [result] = models(validator.validate(document(VAC, "11369-6")))
    assert [problem.text for problem in result.problems] == ["part", "no display name"]
    assert result.not_run == ()
    said = "{} differs in capitals only from the file that is read: {}"
    assert [(limit.rule, limit.reason) for limit in result.limits] == [
        (f"{MODEL}:2", said.format("schematrons/Include/part.sch", "schematrons/include/Part.sch")),
        (f"{MODEL}:2", said.format("jeuxDeValeurs/JDV_Codes.xml", "jeuxDeValeurs/JDV_codes.xml")),
    ]
    again = Validator(Path("nowhere"), f"invented={tmp_path}")
    assert again.rule_set.digest == validator.rule_set.digest


def test_name_that_several_files_have_in_other_capitals_is_not_read(judge: Judge) -> None:
    files = {MODEL: schematron(CODES), "jeuxDeValeurs/JDV_codes.xml": "<v/>", "jeuxDeValeurs/JDV_CODES.xml": "<v/>"}
    [result] = models(judge(document(VAC), files=files))
    assert [item.code for item in result.not_run] == ["FODC0002"]
    assert [limit.reason for limit in result.limits] == [
        "jeuxDeValeurs/JDV_Codes.xml is absent, and several differ in capitals only, none is read: "
        "jeuxDeValeurs/JDV_CODES.xml and jeuxDeValeurs/JDV_codes.xml"
    ]


@pytest.mark.parametrize("linked", [True, False])
def test_name_in_other_capitals_never_leads_out_of_the_rule_set(tmp_path: Path, linked: bool) -> None:
    outside = tmp_path / "outside" / "JDV_codes.xml"
    outside.parent.mkdir()
    outside.write_text("<v>34133-9</v>", encoding="utf-8")
    path = "../jeuxDeValeurs/JDV_Codes.xml" if linked else "../../../outside/JDV_Codes.xml"
    codes = CODES.replace("../jeuxDeValeurs/JDV_Codes.xml", path)
    name = write_rule_set(tmp_path / "rules", files={MODEL: schematron(codes), "jeuxDeValeurs/x.xml": "<v/>"})
    if linked:
        (tmp_path / "rules/cda/jeuxDeValeurs/JDV_codes.xml").symlink_to(outside)
    [result] = models(Validator(Path("nowhere"), name).validate(document(VAC)))
    assert [item.code for item in result.not_run] == ["FODC0002"]


def test_check_whose_file_is_absent_is_named_and_all_others_run(judge: Judge) -> None:
    report = judge(document(VAC), files={MODEL: schematron(CODES)})
    [result] = models(report)
    assert [problem.text for problem in result.problems] == ["no display name"]
    assert [(item.rule, item.path, item.reason) for item in result.not_run] == [
        (
            f"{MODEL}:2",
            "/ClinicalDocument/code",
            "a file of the rules is absent, or no XML: jeuxDeValeurs/JDV_Codes.xml",
        )
    ]
