"""What Relais says of its own, in French: the table `french.tsv` of a package, by the English text. Official messages
stay as they are published.

`{}` in a text stands for whatever was filled in: another text of the table, why a parser or the system gave up
(`reasons.tsv`), or what has no language.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from importlib.resources import files

from relais.profiles.messages import Language

_DEEPEST = 3  # texts filled into one another: what a client sends may pretend any number of them


def translated(text: str, language: Language, package: str = "relais.server.validation", depth: int = _DEEPEST) -> str:
    """The text in a language; as it is where the table of the package does not know it, or below so many others."""
    if language == "en" or not text or not depth:
        return text
    exact, patterns = _table(package)
    if text in exact:
        return exact[text]
    for pattern, french in patterns:
        if found := pattern.fullmatch(text):
            return french.format(*(_filled_in(part, language, package, depth - 1) for part in found.groups()))
    return text


def _filled_in(part: str, language: Language, package: str, depth: int) -> str:
    reasons, _ = _table("relais.server.validation", "reasons.tsv")
    return reasons.get(part) or translated(part, language, package, depth)


@cache
def _table(package: str, name: str = "french.tsv") -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    exact = {row["en"]: row["fr"] for row in rows if "{}" not in row["en"]}
    filled = [row for row in rows if "{}" in row["en"]]
    patterns = [("(.*)".join(map(re.escape, row["en"].split("{}"))), row["fr"]) for row in filled]
    return exact, [(re.compile(pattern, re.DOTALL), french) for pattern, french in patterns]
