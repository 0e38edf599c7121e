"""The tables of the CI-SIS HL7 v2 volets: actions, metadata, legal combinations, error codes, acknowledgements.

Data files `hl7v2_*.tsv` under `mappings/data`, each with its source in the first line.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

Row = dict[str, str]


def rows(name: str) -> tuple[Row, ...]:
    """The rows of table `hl7v2_<name>.tsv`, by column name."""
    return _read(f"hl7v2_{name}")


@cache
def row(name: str, column: str, value: str) -> Row | None:
    """The row of a table whose `column` is `value`; None when there is none."""
    return next((found for found in rows(name) if found[column] == value), None)


def label(name: str, code: str) -> str:
    """The label of a code of a table; empty when the table lacks it."""
    found = row(name, "code", code)
    return found["label"] if found else ""


@cache
def metadata(*, to_lps: bool) -> tuple[Row, ...]:
    """The rows of MetaDMPMSS that a message bears, in order."""
    return tuple(found for found in rows("metadata") if not to_lps or found["lps"] == "yes")


TERMINOLOGIES = {"LN": "2.16.840.1.113883.6.1", "TRE_A05": "1.2.250.1.213.1.1.4.12"}
"""Coding systems of OBR-4 and their OIDs: LOINC and the complementary types of documents."""


@cache
def is_dmp_type(code: str, system: str) -> bool:
    """Whether the DMP takes documents of that type (JDV_J66); `system` is an OID."""
    return any((row["code"], row["system"], row["dmp"]) == (code, system, "yes") for row in _read("xds_type_class"))


@cache
def _read(name: str) -> tuple[Row, ...]:
    text = files("relais.mappings").joinpath("data", f"{name}.tsv").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return tuple(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
