"""What `pip install relais` gives: every module and data file of the packages, and a command that needs no extra."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
ROOMS = {name: ROOT / folder for name, folder in TOOL["package-dir"].items()}
PLAN = ROOT / "server" / "demo_plan.json"

# The command where the extras are not installed.
BARE = """
import sys
sys.modules |= dict.fromkeys(("aiosmtpd", "hl7", "PIL", "psycopg", "trustme", "typst"))
from relais.server.cli import main
main()
"""


def packages() -> dict[str, Path]:
    """Every package of the tree by name, with its folder."""
    folders = {name: sorted(path.parent for path in folder.rglob("__init__.py")) for name, folder in ROOMS.items()}
    return {
        ".".join((name, *folder.relative_to(ROOMS[name]).parts)): folder
        for name, found in folders.items()
        for folder in found
    }


def test_every_package_is_installed() -> None:
    assert set(TOOL["packages"]) == set(packages())


@pytest.mark.parametrize("name", TOOL["packages"])
def test_every_data_file_is_installed(name: str) -> None:
    folder, patterns = packages()[name], [*TOOL["package-data"]["*"], *TOOL["package-data"].get(name, ())]
    installed = {path for pattern in patterns for path in folder.glob(pattern)}
    below = [other for other in packages().values() if other != folder and folder in other.parents]
    files = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    own = {path for path in files if not any(other in path.parents for other in below)}
    assert {path for path in own if path.suffix != ".py"} <= installed


def bare(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BARE, *arguments],
        cwd=folder,
        env={"RELAIS_FHIR_PACKAGES": "none", "RELAIS_CISIS_PACK": "none", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a document, `pps.xml`, that an installation without extras has made."""
    made = tmp_path_factory.mktemp("bare")
    ended = bare(made, "convert", str(PLAN), "-o", "pps.xml")
    assert ended.returncode == 0, ended.stderr
    return made


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "import pps.xml -o plan.json",
        "import --store pps.xml",
        "pack pps.xml -o IHE_XDM.ZIP",
        "render pps.xml -o pps.html",
        "deliveries list",
    ],
)
def test_a_command_that_needs_no_extra(folder: Path, command: str) -> None:
    ended = bare(folder, *command.split())
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("command", "environ", "extra"),
    [
        ("render pps.xml -o pps.pdf", {}, "relais[pdf]"),
        ("sandbox", {}, "relais[sandbox]"),
        ("serve", {"RELAIS_DATABASE_URL": "postgresql+psycopg://nobody@localhost/none"}, "relais[postgresql]"),
    ],
)
def test_what_needs_an_extra_names_it(folder: Path, command: str, environ: dict[str, str], extra: str) -> None:
    ended = bare(folder, *command.split(), **environ)
    assert (ended.returncode, extra in ended.stderr, "Traceback" in ended.stderr) == (1, True, False), ended.stderr


def test_a_file_is_named_from_where_the_command_is_typed(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("no environment made by ./run here")
    (tmp_path / "plan.json").write_bytes(PLAN.read_bytes())
    made = subprocess.run(
        [ROOT / "run", "convert", "plan.json", "-o", "plan.xml"],
        cwd=tmp_path,
        env=os.environ | {"RELAIS_PRACTICE_SETTING": "AMBULATOIRE", "RELAIS_FACILITY_TYPE": "SA07"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "plan.xml").exists()
