"""The command line as a user meets it: one line per refusal, exit codes, JSON on request."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.plans import PLANS

pytestmark = pytest.mark.usefixtures("cisis")


def relais(*arguments: object, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command in `folder`."""
    command = [sys.executable, "-m", "relais.server.cli", *map(str, arguments)]
    environ = os.environ | {"RELAIS_DATABASE_URL": f"sqlite:///{folder / 'relais.sqlite'}"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan and the document made of it."""
    made = tmp_path_factory.mktemp("cli")
    (made / "plan.json").write_text(json.dumps(PLANS["full"]), encoding="utf-8")
    converted = relais("convert", "plan.json", "-o", "pps.xml", folder=made)
    assert converted.returncode == 0, converted.stderr
    return made


def refusal(done: subprocess.CompletedProcess[bytes]) -> str:
    """The refusal of a command that must fail with exit code 1, without stack trace."""
    assert done.returncode == 1, done.stdout
    text = done.stderr.decode()
    assert "Traceback" not in text
    return text


def test_convert_validate_pack_unpack_give_the_document_back(folder: Path) -> None:
    validated = relais("validate", "pps.xml", "--json", folder=folder)
    assert validated.returncode == 0, validated.stdout
    assert json.loads(validated.stdout)[0]["verdict"] == "conformant"
    assert relais("pack", "pps.xml", "-o", "IHE_XDM.ZIP", folder=folder).returncode == 0
    unpacked = relais("unpack", "IHE_XDM.ZIP", "-o", "out", "--json", folder=folder)
    assert unpacked.returncode == 0, unpacked.stderr
    (written,) = json.loads(unpacked.stdout)["written"]
    assert (folder / written).read_bytes() == (folder / "pps.xml").read_bytes()


def test_what_was_imported_converts_back(folder: Path) -> None:
    imported = relais("import", "pps.xml", "-o", "back.json", folder=folder)
    assert imported.returncode == 0, imported.stderr
    converted = relais("convert", "back.json", "-o", "back.xml", folder=folder)
    assert converted.returncode == 0, converted.stderr


def test_a_document_that_is_refused_has_exit_code_1_and_says_where(folder: Path) -> None:
    broken = (folder / "pps.xml").read_text().replace('<languageCode code="fr-FR"/>', '<languageCode code="fr"/>')
    (folder / "broken.xml").write_text(broken)
    done = relais("validate", "broken.xml", folder=folder)
    assert done.returncode == 1
    assert "languageCode" in done.stdout.decode()


def test_a_fhir_resource_is_judged_by_base_r4(folder: Path) -> None:
    (folder / "patient.json").write_text('{"resourceType": "Patient", "colour": "red"}')
    done = relais("validate", "patient.json", "--json", folder=folder)
    assert done.returncode == 1
    [report] = json.loads(done.stdout)
    assert report["parts"][0]["checks"][0]["findings"][0]["path"] == "Patient.colour"


@pytest.mark.parametrize(
    ("command", "content", "expected"),
    [
        ("convert", b"{", "not JSON"),
        ("convert", b'{"resourceType": "Patient"}', "a Bundle is expected"),
        ("convert", b'{"resourceType": "Bundle", "type": "collection", "colour": 1}', "Bundle.colour"),
        ("import", b"<ClinicalDocument", "XML"),
        ("import", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', "DTD"),
        ("import", b"<html/>", "ClinicalDocument"),
        ("pack", b"<html/>", "ClinicalDocument"),
    ],
)
def test_unreadable_input_is_one_line(tmp_path: Path, command: str, content: bytes, expected: str) -> None:
    (tmp_path / "input").write_bytes(content)
    text = refusal(relais(command, "input", folder=tmp_path))
    assert expected in text
    assert len(text.strip().splitlines()) <= 2


def test_a_plan_that_lacks_what_the_pps_requires_names_every_place(tmp_path: Path) -> None:
    bundle = json.loads(json.dumps(PLANS["minimal"]))
    for entry in bundle["entry"]:
        entry["resource"].pop("gender", None)
        if entry["resource"]["resourceType"] == "CarePlan":
            entry["resource"].pop("goal")
    (tmp_path / "plan.json").write_text(json.dumps(bundle))
    text = refusal(relais("convert", "plan.json", folder=tmp_path))
    assert "Patient.gender" in text
    assert "CarePlan.goal" in text


def test_a_zip_bomb_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IHE_XDM/SUBSET01/METADATA.XML", b"0" * 200_000_000)
    (tmp_path / "bomb.zip").write_bytes(packed.getvalue())
    assert "xdm.archive" in refusal(relais("unpack", "bomb.zip", "-o", "out", folder=tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "start"), [("pps.html", b"<!DOCTYPE html>"), ("pps.pdf", b"%PDF-")])
def test_a_document_is_shown(folder: Path, name: str, start: bytes) -> None:
    assert relais("render", "pps.xml", "-o", name, folder=folder).returncode == 0
    assert (folder / name).read_bytes().lower().startswith(start.lower())


def test_nothing_is_overwritten_by_unpack(folder: Path, tmp_path: Path) -> None:
    relais("pack", "pps.xml", "-o", "again.zip", folder=folder)
    assert relais("unpack", "again.zip", "-o", tmp_path, folder=folder).returncode == 0
    assert "the file exists" in refusal(relais("unpack", "again.zip", "-o", tmp_path, folder=folder))


def test_an_ins_of_production_is_not_packed_by_a_test_instance(folder: Path) -> None:
    content = (folder / "pps.xml").read_text().replace("1.2.250.1.213.1.4.10", "1.2.250.1.213.1.4.8")
    (folder / "production.xml").write_text(content)
    assert "test mode" in refusal(relais("pack", "production.xml", folder=folder))


def test_an_order_is_placed_for_a_document_made_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAIS_DMP_URL", "https://127.0.0.1:1/repository")
    sent = relais("send", "pps.xml", "--channel", "dmp", "--json", folder=folder)
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["status"] == "requested"
    again = relais("send", "pps.xml", "--channel", "dmp", folder=folder)
    assert "or is on its way" in refusal(again)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["send", "CarePlan/none", "--channel", "dmp"], "does not exist"),
        (["send", "nothing.xml", "--channel", "dmp"], "No such file"),
        (["send", "CarePlan/none", "--channel", "hl7v2"], "not configured"),
        (["send", "CarePlan/none", "--channel", "fax"], "one of dmp, mss, hl7v2, mhd"),
        (["send", "CarePlan/none", "--channel", "mss"], "does not exist"),
    ],
)
def test_an_order_that_cannot_be_placed(
    tmp_path: Path, arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAIS_DMP_URL", "https://127.0.0.1:1/repository")
    monkeypatch.setenv("RELAIS_MSS_SENDER", "coordination@dac.mssante.fr")
    assert expected in refusal(relais(*arguments, folder=tmp_path))


def test_a_wrong_setting_stops_the_start(tmp_path: Path) -> None:
    environ = os.environ | {"RELAIS_PORT": "eighty"}
    command = [sys.executable, "-m", "relais.server.cli", "worker"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, timeout=30, check=False)
    assert "port: 'eighty' is not a int" in refusal(done)
