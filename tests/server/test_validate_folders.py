"""An IHE_XDM archive that was unpacked is judged whole, as its ZIP is."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from relais.cda import xdm_folder
from relais.cda.errors import ArchiveError
from relais.cda.writer import write
from relais.cda.xdm import Limits, Sender, pack
from relais.server.settings import Settings
from relais.server.validate_command import validate
from relais.server.validation.files import JudgePool, find, judge_files
from relais.server.validation.judge import Judge
from support.commands import asked
from support.documents import small_document
from support.judged import rules, troubled
from support.shipments import small_entry, small_submission_set

SUBSET = "IHE_XDM/SUBSET01"
METADATA = f"{SUBSET}/METADATA.XML"
AGREEMENT = "METADATA.XML ⇄ documents"


def packed() -> bytes:
    """An archive of the small document."""
    document = small_document()
    data = write(document)
    return pack([(data, small_entry(document, data))], small_submission_set(), sender=Sender("Hélène", "Cabinet"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The archive, unpacked."""
    with zipfile.ZipFile(io.BytesIO(packed())) as archive:
        archive.extractall(tmp_path / "received")
    return tmp_path / "received"


def test_folder_is_judged_as_its_zip(judge: Judge, folder: Path) -> None:
    unpacked, zipped = judge.judge_folder(xdm_folder.read_folder(folder)), judge.judge(packed())
    assert len(unpacked.parts) == 4
    assert unpacked.parts[0].checks == zipped.parts[0].checks
    assert unpacked.parts[1:] == zipped.parts[1:]


def test_sha256_is_that_of_what_sha256sum_prints(judge: Judge, folder: Path) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    printed = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    report = judge.judge_folder(xdm_folder.read_folder(folder))
    assert report.sha256 == hashlib.sha256(printed).hexdigest()
    assert report.size == sum((folder / name).stat().st_size for name in names)


def test_what_does_not_agree_is_said_of_the_folder(judge: Judge, folder: Path) -> None:
    with (folder / SUBSET / "DOC00001.XML").open("ab") as document:
        document.write(b"\n")
    (folder / SUBSET / "DOC00002.XML").write_bytes(b"<ClinicalDocument/>")
    report = judge.judge_folder(xdm_folder.read_folder(folder))
    assert set(rules(report, AGREEMENT)) == {"xdm.hash", "xdm.size", "xdm.document-orphan"}


@pytest.mark.parametrize("named", [".", "IHE_XDM", SUBSET])
def test_archive_is_found_from_each_of_its_folders(folder: Path, named: str) -> None:
    assert find([folder / named]) == ([folder / named], [])
    assert xdm_folder.archive_folder(folder / named) == folder


def test_what_lies_beside_an_archive_is_judged_by_itself(folder: Path, tmp_path: Path) -> None:
    (folder / "patient.json").write_text('{"resourceType": "Patient"}')
    (folder / "photo.png").write_bytes(b"\x89PNG")
    (folder / "more").mkdir()
    (folder / "more" / "README.TXT").write_text("another")
    (folder / "more" / "b.json").write_text("{}")
    (tmp_path / "a.json").write_text("{}")
    found = find([tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == [
        "a.json",
        "received",
        "received/patient.json",
        "received/more/b.json",
    ]
    assert [path.name for path in found.left_out] == ["photo.png", "README.TXT"]
    assert {name.rpartition("/")[2] for name in xdm_folder.read_folder(folder)} == {
        "README.TXT",
        "INDEX.HTM",
        "METADATA.XML",
        "DOC00001.XML",
    }


def test_folder_without_metadata_is_a_folder_of_files(folder: Path) -> None:
    (folder / METADATA).unlink()
    assert [path.name for path in find([folder]).files] == ["DOC00001.XML"]


def test_links_and_excess_are_refused_as_in_an_archive(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not part of it")
    (folder / SUBSET / "DOC00002.XML").symlink_to(tmp_path / "secret")
    with JudgePool(troubled) as pool:
        [report] = judge_files([folder], pool, 1, "en", 60.0)
    assert (report.kind, report.verdict, rules(report)) == ("xdm", "not-conformant", ["xdm.archive"])
    (folder / SUBSET / "DOC00002.XML").unlink()
    for limits, said in ((Limits(entries=3), "3 entries"), (Limits(expanded=1000), "1000 bytes")):
        with pytest.raises(ArchiveError, match=said):
            xdm_folder.read_folder(folder, limits)
    (folder / "IHE_XDM" / "linked").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ArchiveError, match="IHE_XDM/linked"):
        xdm_folder.read_folder(folder)


def test_command_gives_one_verdict_for_the_folder(
    folder: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / SUBSET / "DOC00001.XML").unlink()
    assert validate([Path("IHE_XDM")], Settings(fhir_packages="none"), asked()) == 1
    [report] = json.loads(capsysbinary.readouterr().out)
    assert (report["file"], report["kind"], report["verdict"]) == ("IHE_XDM", "xdm", "not-conformant")
    assert [part["place"] for part in report["parts"]] == ["", METADATA, AGREEMENT]
