"""`relais dmp` as a tester of a connection uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from relais.server.cli import main
from relais.server.delivery.dmp import DmpChannel
from relais.server.sandbox import Sandbox
from support.dmp import RESPONSIBLE, dmp_settings
from support.shipments import small_shipment

INS = "279035121518989"
DOCUMENT = small_shipment().submission.entries[0].unique_id


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("cli") / "sandbox") as running:
        DmpChannel(dmp_settings(running)).send(small_shipment())
        yield running


def relais(sandbox: Sandbox, *arguments: str, code: int = 0, **changes: str) -> str:
    values = {**sandbox.settings, **RESPONSIBLE, "sender_timeout": 20, **changes}
    environ = {f"RELAIS_{name.upper()}": str(value) for name, value in values.items()}
    done = CliRunner().invoke(main, ["dmp", *arguments], env=environ)
    assert done.exit_code == code, done.output
    return done.output


def test_from_existence_to_deletion(sandbox: Sandbox, tmp_path: Path) -> None:
    assert relais(sandbox, "status", INS) == "open\n"
    [found] = json.loads(relais(sandbox, "find", INS, "--json"))["documents"]
    assert (found["uniqueId"], found["status"], found["confidentiality"]) == (DOCUMENT, "approved", ["N"])
    relais(sandbox, "retrieve", INS, DOCUMENT, "-o", str(tmp_path / "document.xml"))
    assert (tmp_path / "document.xml").read_bytes() == small_shipment().document
    assert "N,MASQUE_PS" in relais(sandbox, "hide", INS, DOCUMENT, "--from", "professionals")
    assert "MASQUE_PS" not in relais(sandbox, "show", INS, DOCUMENT, "--to", "professionals")
    assert " archived " in relais(sandbox, "change", INS, DOCUMENT, "archive")
    assert " approved " in relais(sandbox, "change", INS, DOCUMENT, "unarchive")
    assert " deleted " in relais(sandbox, "change", INS, DOCUMENT, "delete")
    assert relais(sandbox, "find", INS) == "no document\n"
    assert DOCUMENT in relais(sandbox, "find", INS, "--status", "deleted")


def test_the_web_access(sandbox: Sandbox) -> None:
    template = "https://dmp.example/{page}?ins={ins}"
    assert relais(sandbox, "web", INS, dmp_web_url=template) == f"https://dmp.example/TableauDeBord?ins={INS}\n"


@pytest.mark.parametrize(
    ("arguments", "changes", "expected"),
    [
        (("find", "279035121518988"), {}, "right key"),
        (("find", INS, "--oid", "1.2.250.1.213.1.4.8"), {}, "may not leave an instance in test mode"),
        (("retrieve", INS, "2.25.404", "-o", "x.xml"), {}, "shows no such document"),
        (("find", INS), {"dmp_mode": "INDIRECTE"}, "mode INDIRECTE"),
        (("find", INS), {"responsible_rpps": ""}, "responsible_rpps"),
        (("status", INS), {"dmp_url": "http://127.0.0.1/"}, "https address"),
        (("web", INS), {}, "dmp_web_url"),
    ],
)
def test_refusals_are_one_line_and_name_no_patient(
    sandbox: Sandbox, arguments: tuple[str, ...], changes: dict[str, str], expected: str
) -> None:
    said = relais(sandbox, *arguments, code=1, **changes)
    assert expected in said
    assert INS not in said
    assert "Traceback" not in said
