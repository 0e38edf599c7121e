"""docs/analysis.md is true: its export commands and its queries run, on a real facade, and count right."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.facade import running_facade

duckdb = pytest.importorskip("duckdb")
PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the export of two patients, three plans and a team, fetched by the commands of the page."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    folder, data = tmp_path_factory.mktemp("analysis"), tmp_path_factory.mktemp("facade")
    with running_facade(data, workers=1) as facade:
        old = facade.created({"resourceType": "Patient", "birthDate": "1931-05-01"})
        young = facade.created({"resourceType": "Patient", "birthDate": "2001-05-01"})
        doctor = facade.created({"resourceType": "Practitioner"})
        for subject, status, activities in ((old, "active", 3), (old, "active", 0), (young, "revoked", 1)):
            facade.created(plan(subject, status, activities))
        members = [{"member": {"reference": name}} for name in (doctor, old)]
        facade.created({"resourceType": "CareTeam", "subject": {"reference": old}, "participant": members})
        (commands,) = blocks("sh")
        commands = re.sub(r"(?m)^base=.*$", f"base={facade.base}", commands)
        subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, timeout=120)
        assert facade.get("metadata").status_code == 200
    return folder


def plan(subject: str, status: str, activities: int) -> dict[str, Any]:
    detail = {"detail": {"status": "scheduled", "description": "Visite"}}
    found = {"resourceType": "CarePlan", "status": status, "intent": "plan", "subject": {"reference": subject}}
    return found | ({"activity": [detail] * activities} if activities else {})


def test_every_query_of_the_page_counts_right(files: Path) -> None:
    queries = [query.replace("read_json('", f"read_json('{files}/") for query in blocks("sql")]
    by_status, by_age, by_member = [duckdb.sql(query).fetchall() for query in queries]
    assert by_status == [("active", 2, 1.5), ("revoked", 1, 1.0)]
    assert [(people, plans) for _, people, plans in by_age] == [(1, 1), (1, 2)]
    assert by_age[0][0] < by_age[1][0]
    assert by_member == [("Patient", 1, 1), ("Practitioner", 1, 1)]
