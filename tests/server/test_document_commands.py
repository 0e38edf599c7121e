"""`relais convert` at both levels, and `relais import --store`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relais.cda.reader import read
from relais.cda.writer import write
from relais.server.cli import main
from relais.server.store import Store
from support.appointments import AGENDAS
from support.documents import small_document


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a Bundle and a received document."""
    (tmp_path / "agenda.json").write_text(json.dumps(AGENDAS["week"]), encoding="utf-8")
    (tmp_path / "received.xml").write_bytes(write(small_document()))
    return tmp_path


def relais(folder: Path, *arguments: str) -> Result:
    """Run the command; names of files are those of the folder."""
    given = [str(folder / one) if one.endswith((".json", ".xml")) else one for one in arguments]
    environ = {"RELAIS_DATABASE_URL": f"sqlite:///{folder / 'relais.sqlite'}"}
    return CliRunner().invoke(main, given, env=environ)


def filed(folder: Path) -> dict[str, Any]:
    done = relais(folder, "import", "--store", "received.xml", "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("level", "unstructured"), [("n3", False), ("n1", True)])
def test_convert_writes_either_level(folder: Path, level: str, unstructured: bool) -> None:
    done = relais(folder, "convert", "agenda.json", "-o", "made.xml", "--level", level)
    assert done.exit_code == 0, done.output
    document = read((folder / "made.xml").read_bytes()).document
    assert (document.non_xml_body is not None) == unstructured


def test_convert_names_a_style_sheet(folder: Path) -> None:
    assert relais(folder, "convert", "agenda.json", "-o", "made.xml", "--stylesheet", "cda.xsl").exit_code == 0
    content = (folder / "made.xml").read_bytes()
    assert b'?>\n<?xml-stylesheet type="text/xsl" href="cda.xsl"?><ClinicalDocument ' in content
    assert read(content).document.header.code.code == "56446-8"


def test_an_unknown_level_and_a_foreign_style_sheet_are_refused(folder: Path) -> None:
    assert relais(folder, "convert", "agenda.json", "--level", "n2").exit_code == 2
    refused = relais(folder, "convert", "agenda.json", "--stylesheet", "https://ailleurs.example/cda.xsl")
    assert refused.exit_code == 1
    assert "stylesheet" in refused.stderr


def test_a_document_is_stored_once_and_its_bytes_with_it(folder: Path) -> None:
    first, second = filed(folder), filed(folder)
    assert (first["new"], second["new"]) == (True, False)
    assert sorted(first["stored"]) == sorted(second["stored"])
    assert first["stored"][0].startswith("DocumentReference/")
    store = Store.open(f"sqlite:///{folder / 'relais.sqlite'}")
    binary = next(name for name in first["stored"] if name.startswith("Binary/"))
    stored = store.read(*binary.split("/"))
    store.close()
    assert stored is not None


def test_what_is_stored_is_not_written_to_a_file(folder: Path) -> None:
    assert relais(folder, "import", "--store", "received.xml", "-o", "out.json").exit_code == 2


def test_a_document_of_somebody_else_is_refused_in_one_line(folder: Path) -> None:
    filed(folder)
    other = small_document()
    other.header.id.root = "2.25.1"
    other.header.set_id = None
    other.header.patient.birth_time = "19790329"
    (folder / "received.xml").write_bytes(write(other))
    refused = relais(folder, "import", "--store", "received.xml")
    assert refused.exit_code == 1
    assert "birthDate" in refused.stderr
    assert "1979" not in refused.stderr
