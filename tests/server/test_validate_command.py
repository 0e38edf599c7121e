"""`relais validate` as a conformance tester meets it: official examples, folders, forms, exit codes, bad files."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relais.cda import consistency
from relais.cda.errors import RelaisError
from relais.cda.rule_sets import RulesError
from relais.cda.validation import Validator
from relais.cda.writer import write
from relais.server import cli, commands, validate_command
from relais.server.settings import Settings
from relais.server.validate_command import validate
from relais.server.validation.files import JudgePool, find, judge_files, needs_rules
from relais.server.validation.judge import Judge
from relais.server.validation.language import translated
from relais.server.validation.report import Check, Part, Report
from support.commands import asked
from support.documents import small_document
from support.hl7v2 import message
from support.judged import troubled
from support.rules import CANCER_PPS, DISCHARGE_LETTER, EXAMPLES, PPS, UNSTRUCTURED, altered, example, remove

FHIR_ONLY = Settings(fhir_packages="none")
MESSAGE = re.compile(r"(?!v3:|self::)\w[\w']* [^@=]* [^@=]*[\w)]")
PATIENT = b'{"resourceType": "Patient"}'


@pytest.fixture(scope="module")
def run(cisis: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
    """One run of the command on a folder of the official examples and other files."""
    folder = tmp_path_factory.mktemp("validate")
    for name in EXAMPLES:
        (folder / name).write_bytes(example(cisis, name))
    (folder / "message.er7").write_bytes(message())
    (folder / "patient.txt").write_bytes(PATIENT)
    (folder / "README.md").write_text("# Not for us")
    (folder / "empty.xml").touch()
    command = [sys.executable, "-m", "relais.server.cli", "validate", str(folder), "--json", "--language", "en"]
    environ = os.environ | {"RELAIS_FHIR_PACKAGES": "none"}
    return folder, subprocess.run(command, cwd=folder, env=environ, capture_output=True, timeout=240, check=False)


def reports(run: tuple[Path, subprocess.CompletedProcess[bytes]]) -> dict[str, Any]:
    return {Path(report["file"]).name: report for report in json.loads(run[1].stdout)}


def test_folder_is_judged_in_the_order_of_its_names_and_the_worst_verdict_is_the_exit_code(
    run: tuple[Path, subprocess.CompletedProcess[bytes]],
) -> None:
    folder, done = run
    assert done.returncode == 1, done.stderr
    verdicts = {name: report["verdict"] for name, report in reports(run).items()}
    assert list(verdicts) == sorted({path.name for path in folder.iterdir()} - {"README.md"})
    assert verdicts == {
        CANCER_PPS: "doubtful",  # conformant for ANS; references of its narrative lead nowhere
        UNSTRUCTURED: "conformant",
        DISCHARGE_LETTER: "doubtful",
        PPS: "not-conformant",
        "empty.xml": "not-judged",
        "message.er7": "not-conformant",
        "patient.txt": "conformant",
    }
    said = done.stderr.decode()
    assert "README.md: left out" in said
    assert "compiling the official rules" in said


@pytest.mark.parametrize("name", EXAMPLES)
def test_verdict_on_an_official_example_is_the_recorded_one(
    run: tuple[Path, subprocess.CompletedProcess[bytes]], cisis: Path, name: str
) -> None:
    baseline = json.loads((cisis / "cda" / "baseline.json").read_text(encoding="utf-8"))["profiles"]
    [part] = reports(run)[name]["parts"]
    official = [check for check in part["checks"] if check["official"] and check["name"] in baseline]
    assert len(official) >= 5
    for check in official:
        expected = baseline[check["name"]]["examples"][name]
        assert (check["rules_fired"], check["checks_made"]) == (expected["fired"], expected["checked"])
        found = sorted((item["rule"], item["line"], item["message"]) for item in check["findings"])
        assert found == sorted((item["rule"], item["line"], item["text"]) for item in expected["failed"])
        assert check["not_run"] == expected["not_run"] == []
    failed = any(baseline[check["name"]]["examples"][name]["failed"] for check in official)
    assert (reports(run)[name]["verdict"] == "not-conformant") == failed


def test_two_rule_sets_are_judged_side_by_side(
    validator: Validator, validator_of_2023_12: Validator, cisis: Path
) -> None:
    both = Judge(Settings(cisis_pack=str(cisis), fhir_packages="none"), ("tcc-3.0", "tcc-2023-12"))
    both._validators = [validator, validator_of_2023_12]
    report = both.judge(example(cisis, PPS))
    assert [used.name for used in report.rule_sets] == ["tcc-3.0", "tcc-2023-12"]
    outcomes = {
        check.authority.partition("@")[0]: check.outcome
        for check in report.parts[0].checks
        if check.name == "terminologies"
    }
    assert outcomes == {"tcc-3.0": "failed", "tcc-2023-12": "passed"}


def test_unknown_rule_set_is_refused_before_anything_starts(cisis: Path, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_bytes(b"<ClinicalDocument/>")
    with pytest.raises(RulesError, match="unknown rule set"):
        validate([tmp_path / "x.xml"], Settings(cisis_pack=str(cisis)), asked(rule_sets=("tcc-9",)))


def test_without_the_official_rules_a_document_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_bytes(write(small_document()))
    settings = Settings(cisis_pack=str(tmp_path), fhir_packages="none")
    assert validate([tmp_path / "x.xml"], settings, asked(output=tmp_path / "report.json")) == 4
    assert "RELAIS_CISIS_PACK" in (tmp_path / "report.json").read_text()


def test_output_is_a_file_or_a_folder_with_a_report_for_each(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for place in ("a", "b"):
        (source / place).mkdir(parents=True)
        (source / place / "patient.json").write_bytes(PATIENT)
    assert validate([source], FHIR_ONLY, asked(form="html", output=tmp_path / "all.html")) == 0
    assert (tmp_path / "all.html").read_text().count("<article") == 2
    assert validate([source], FHIR_ONLY, asked(form="svrl", output=tmp_path / "each")) == 0
    assert sorted(path.name for path in (tmp_path / "each").iterdir()) == ["a_patient.json.svrl", "b_patient.json.svrl"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--timeout", "-1", "patient.json"],
        ["--timeout", "nan", "patient.json"],
        ["--rule-set", "tcc-9", "patient.json"],
        ["--format", "svrl", "patient.json", "patient.json"],
        ["empty"],
        ["-o", "no/such/folder.json", "patient.json"],
    ],
)
def test_what_cannot_be_run_has_an_exit_code_of_its_own(
    arguments: list[str], cisis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report("patient.json", (Part("", "fhir", "", 0, (Check("resource", "R4"),)),))
    monkeypatch.setattr(validate_command, "judge_files", lambda files, *_: iter([report] * len(files)))
    monkeypatch.setenv("RELAIS_CISIS_PACK", str(cisis))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "patient.json").write_bytes(PATIENT)
    done = CliRunner().invoke(cli.main, ["validate", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr
    assert CliRunner().invoke(cli.main, ["validate", "patient.json"]).exit_code == 0


def test_nothing_to_validate_is_said(tmp_path: Path) -> None:
    with pytest.raises(RelaisError, match="nothing to validate"):
        validate([tmp_path], FHIR_ONLY, asked())


def test_files_that_cannot_be_read_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tmp_path / "large.xml"
    with large.open("wb") as file:
        file.truncate(200_000_000)
    os.mkfifo(tmp_path / "pipe")
    paths = [tmp_path / "absent.xml", large, tmp_path / "pipe"]
    with JudgePool(lambda: None) as pool:  # type: ignore[arg-type, return-value]  # never started
        found = list(judge_files(paths, pool, 1, "en", 1.0))
    messages = [report.parts[0].checks[0].not_run[0].message for report in found]
    assert messages == ["not a file", "larger than 100000000 bytes", "not a file"]
    assert {report.verdict for report in found} == {"not-judged"}


def test_pipe_in_a_folder_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.xml")
    (tmp_path / "a.json").write_bytes(PATIENT)
    opened = Path.open

    def opening(path: Path, *arguments: Any) -> Any:
        assert path.name != "pipe.xml"  # it would wait for who writes to it
        return opened(path, *arguments)

    monkeypatch.setattr(Path, "open", opening)
    found = find([tmp_path])
    assert [path.name for path in found.files] == ["a.json", "pipe.xml"]
    assert not needs_rules(found.files)


def test_folders_are_walked_by_name_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z.json").write_bytes(PATIENT)
    (tmp_path / "a.json").write_bytes(PATIENT)
    (tmp_path / "b" / "back").symlink_to(tmp_path, target_is_directory=True)
    found = find([tmp_path, tmp_path / "b" / "z.json"])
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == ["a.json", "b/z.json", "b/z.json"]


def test_damaged_files_of_a_folder_are_judged_and_other_forms_left_out(tmp_path: Path) -> None:
    document = b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>'
    damaged = {
        "byte-before": b"x" + document,
        "two-marks": b"\xef\xbb\xbf\xef\xbb\xbf" + document,
        "utf-16": "x".encode("utf-16-le") + document.decode().encode("utf-16-le"),
        "batch": b"FHS|^~\\&|\rBHS|^~\\&|\rMSH|^~\\&|",
        "no-namespace": b"<Bundle><type value='document'/></Bundle>",
        "list": b'[{"resourceType": "Patient"}]',
        "pdf.XML": b"%PDF-1.7",
    }
    foreign = {
        "a.pdf": b"%PDF-1.7 ClinicalDocument",
        "b.png": b"\x89PNG\r\n",
        "c.htm": b"<!DOCTYPE html><html>ClinicalDocument",
        "c2.htm": b'<?xml version="1.0"?>\r\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd"><html/>',
        "d.xsl": b'<x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform" xmlns:h="urn:hl7-org:v3"/>',
        "e.txt": b"Lisez-moi",
    }
    for name, data in (damaged | foreign).items():
        (tmp_path / name).write_bytes(data)
    found = find([tmp_path])
    assert {path.name for path in found.files} == set(damaged)
    assert {path.name for path in found.left_out} == set(foreign)
    judge = Judge(FHIR_ONLY)
    assert {judge.judge(data).verdict for data in damaged.values()} == {"not-judged"}


def test_process_that_dies_or_hangs_gives_a_report_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))  # processes import what they run
    for name, data in {"1": b"{kill", "2": b"{hang", "3": b"{fine"}.items():
        (tmp_path / name).write_bytes(data)
    with JudgePool(troubled) as pool:
        killed, hung, fine = judge_files([tmp_path / "1", tmp_path / "2", tmp_path / "3"], pool, 1, "en", 2.0)
    assert "died twice" in killed.parts[0].checks[0].not_run[0].message
    assert "too long" in hung.parts[0].checks[0].not_run[0].message
    assert killed.verdict == hung.verdict == "not-judged"
    assert fine.parts == ()


INTERRUPTED = """
    import sys
    from pathlib import Path
    from relais.server import validate_command
    from relais.server.validation.files import JudgePool
    from support.commands import asked
    from support.judged import troubled

    validate_command.judge_pool = lambda *_, **__: JudgePool(troubled)
    sys.exit(validate_command.run([Path(sys.argv[1])], asked(timeout=600.0)))
"""


def test_interrupted_command_ends_at_once_with_its_processes(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"{hang")
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), str(tmp_path / "1")]
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "RELAIS_CISIS_PACK": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as run:
        try:
            deadline = time.monotonic() + 60
            while not (children := started_by(run.pid)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert children
            run.send_signal(signal.SIGINT)
            _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert (run.returncode, said) == (validate_command.INTERRUPTED, "interrupted: not every file was judged\n")
    assert not [process for process in children if Path(f"/proc/{process}").exists()]


def started_by(pid: int) -> list[int]:
    """Processes that threads of a process have started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def test_every_verdict_has_its_exit_code() -> None:
    assert validate_command.EXIT_CODES == {"conformant": 0, "not-conformant": 1, "doubtful": 3, "not-judged": 4}


def test_a_document_leaves_only_when_every_rule_set_lets_it(
    validator: Validator, validator_of_2023_12: Validator, cisis: Path
) -> None:
    both = [validator, validator_of_2023_12]
    assert commands._forbidding(both, example(cisis, UNSTRUCTURED)) == []
    broken = altered(example(cisis, UNSTRUCTURED), "/*/v3:setId", remove)
    alone, together = commands._forbidding(both[:1], broken), commands._forbidding(both, broken)
    assert alone == together != []  # said once


def test_messages_of_relais_own_checks_have_their_french() -> None:
    source = ast.parse(Path(consistency.__file__).read_text(encoding="utf-8"))
    messages = {
        node.value
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and MESSAGE.fullmatch(node.value)
    }
    assert len(messages) > 15
    assert [text for text in messages if translated(text, "fr") == text] == []
