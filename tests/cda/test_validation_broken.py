"""Broken copies of the official examples, one for each rule broken: Relais and the ISO skeleton say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from relais.cda.validation import Validator
from support.broken import Row, broken, digest, rows
from support.iso_skeleton import IsoSkeleton
from support.rules import PROFILES

BROKEN = rows()
QUICK = [row for row in BROKEN if row["profile"] not in ("structurationMinimale", "IHE", "ModelesDeContenusCDA")]


def name(row: Row) -> str:
    return f"{row['profile']}-{row['rule'].rpartition('/')[2]}"


def test_there_are_enough_and_each_breaks_another_rule() -> None:
    assert len({(row["profile"], row["rule"]) for row in BROKEN}) == len(BROKEN) >= 60


@pytest.mark.parametrize("row", BROKEN, ids=name)
def test_broken_rule_is_reported_as_the_iso_skeleton_reported_it(validator: Validator, cisis: Path, row: Row) -> None:
    report = validator.validate(broken(cisis, row))
    result = next(profile for profile in report.profiles if profile.name == row["profile"])
    assert row["rule"] in {problem.rule for problem in result.problems if problem.is_error}
    assert result.verdict == "failed"
    assert not report.conformant
    texts = [problem.text for problem in result.problems]
    assert (str(result.fired), str(len(texts)), digest(texts)) == (row["fired"], row["findings"], row["texts"])


def test_what_was_recorded_is_what_the_skeleton_says(cisis: Path) -> None:
    skeleton = IsoSkeleton()
    assert len(QUICK) >= 5
    for row in QUICK:
        opinion = skeleton.judge(cisis / "cda" / PROFILES[row["profile"]].file, broken(cisis, row))
        said = (str(opinion.fired), str(len(opinion.texts)), digest(opinion.texts))
        assert said == (row["fired"], row["findings"], row["texts"]), name(row)
