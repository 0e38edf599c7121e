"""Broken copies of the official examples, as `tests/cda/broken.tsv` lists them, and what the ISO skeleton says of each.

`PYTHONPATH=tests python -m support.broken` runs the skeleton again and writes its opinions down: it takes minutes for
the biggest profiles, too long for a test.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lxml import etree

from relais.server.settings import Settings
from support.iso_skeleton import IsoSkeleton
from support.rules import PROFILES, altered, attribute, example, remove, text

TABLE = Path(__file__).resolve().parents[1] / "cda" / "broken.tsv"
Row = dict[str, str]


def rows() -> list[Row]:
    """The table: document, profile, rule, where and how the document is changed, the opinion recorded."""
    return list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines(), delimiter="\t"))


def broken(cisis: Path, row: Row) -> bytes:
    """The document of a row, changed."""
    return altered(example(cisis, row["document"]), row["xpath"], _change(row))


def digest(texts: Iterable[str]) -> str:
    """What stands for the texts of all findings, in any order."""
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]


def _change(row: Row) -> Callable[[etree._Element], object]:
    if row["change"] == "remove":
        return remove
    return text(row["value"]) if row["change"] == "text" else attribute(row["change"][1:], row["value"])


def _record(cisis: Path) -> None:
    skeleton, found = IsoSkeleton(), rows()
    for row in found:
        opinion = skeleton.judge(cisis / "cda" / PROFILES[row["profile"]].file, broken(cisis, row))
        row |= {"fired": str(opinion.fired), "findings": str(len(opinion.texts)), "texts": digest(opinion.texts)}
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[Any] = csv.DictWriter(file, list(found[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    folder = Settings.load().rules_folder
    if folder is None:
        raise SystemExit("official CI-SIS rules not found")
    _record(folder)
