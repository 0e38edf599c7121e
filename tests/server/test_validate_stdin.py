"""`relais validate -`: what comes through a pipe is judged as a file would be."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from relais.server.validation.judge import LARGEST

COMMAND = [sys.executable, "-m", "relais.server.cli", "validate"]
PATIENT = b'{"resourceType": "Patient"}'


def piped(data: bytes, *arguments: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    environ = os.environ | {"RELAIS_FHIR_PACKAGES": "none"}
    return subprocess.run([*COMMAND, *arguments], input=data, cwd=folder, env=environ, capture_output=True, timeout=240)


def test_pipe_is_judged_beside_files_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(PATIENT)
    done = piped(b'{"resourceType": "Patient", "gender": "x"}', "a.json", "-", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    reports = json.loads(done.stdout)
    assert [(report["file"], report["verdict"]) for report in reports] == [
        ("a.json", "conformant"),
        ("stdin", "not-conformant"),
    ]


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"", 4, "the file is empty"),
        (b" " * (LARGEST + 1), 4, f"larger than {LARGEST} bytes"),
    ],
    ids=["empty", "large"],
)
def test_pipe_that_cannot_be_judged_says_why(data: bytes, code: int, said: str, tmp_path: Path) -> None:
    done = piped(data, "-", "--language", "en", folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(b"stdin: COULD NOT BE JUDGED")
    assert said in done.stdout.decode()


def test_archive_from_a_pipe_is_an_archive(cisis: Path, tmp_path: Path) -> None:
    written, folder = BytesIO(), cisis / "xdm" / "VSM"
    with ZipFile(written, "w") as zipped:
        for path in sorted(folder.rglob("*")):
            zipped.write(path, path.relative_to(folder))
    archive = written.getvalue()
    done = piped(archive, "-", "--json", "-o", "report.json", folder=tmp_path)
    [report] = json.loads((tmp_path / "report.json").read_bytes())
    assert (report["file"], report["kind"], report["sha256"]) == ("stdin", "xdm", hashlib.sha256(archive).hexdigest())
    assert {part["kind"] for part in report["parts"]} == {"xdm", "metadata", "cda", "agreement"}
    assert done.returncode == {"not-conformant": 1, "doubtful": 3}[report["verdict"]]
    assert "règles officielles" in done.stderr.decode()  # compiled before the first job


def test_report_of_a_pipe_has_a_file_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert piped(PATIENT, "-", "--format", "svrl", "-o", "out", folder=tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stdin.svrl"]


def test_closed_standard_input_is_told(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "-"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=240)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"standard input is closed" in done.stderr
    assert b"Traceback" not in done.stderr
