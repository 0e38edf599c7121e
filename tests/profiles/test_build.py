"""The command that makes the tables of R4: the committed tables are its output, and it takes no other package."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from relais.profiles import build

TABLES = Path(build.__file__).parent / "r4"
GROUP, NAME, VERSION = build.ARTIFACT.split(":")


@pytest.fixture
def jar() -> Path:
    """The package in the local Maven repository."""
    path = Path.home() / ".m2" / "repository" / Path(*GROUP.split(".")) / NAME / VERSION / f"{NAME}-{VERSION}.jar"
    if not path.exists():
        pytest.skip(f"{build.ARTIFACT} is not in the local Maven repository")
    return path


def test_the_committed_tables_are_what_the_command_makes(jar: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(build.main, ["--jar", str(jar), "--output", str(tmp_path)])
    assert made.exit_code == 0, made.output
    assert {path.name for path in TABLES.iterdir()} == {path.name for path in tmp_path.iterdir()}
    for path in TABLES.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_another_package_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.jar"
    other.write_bytes(b"PK")
    refused = CliRunner().invoke(build.main, ["--jar", str(other), "--output", str(tmp_path / "r4")])
    assert refused.exit_code == 1
    assert "SHA-256" in refused.output
    assert not (tmp_path / "r4").exists()


def test_the_tables_stay_small() -> None:
    assert sum(path.stat().st_size for path in TABLES.iterdir()) < 1_500_000
