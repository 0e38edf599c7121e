"""What care staff read of a delivery, in French: the reasons and outcomes that Task shows, by the table `french.tsv`.

The store, `relais deliveries` and AuditEvents keep the English. What the table does not know, the words of counterparts
and technical detail, stays as it is.
"""

from __future__ import annotations

import re

from relais.server.validation.language import translated

_PACKAGE = "relais.server.delivery"
_BETWEEN = re.compile(r"; (?=(?:fatal|error|warning|information): )")
_ISSUE = re.compile(r"(?:fatal|error|warning|information): (?P<said>.*?)(?P<rule> \[[^\[\]]*\])?", re.DOTALL)
_PLACE = re.compile(r"(?P<place>\S+): (?P<said>.*)", re.DOTALL)


def french(told: str) -> str:
    """A word, a sentence, several of them, or issues as `Issue` writes them, with `; ` between, in French."""
    return " ; ".join(_one(part) for part in _BETWEEN.split(told))


def _one(part: str) -> str:
    if found := _ISSUE.fullmatch(part):
        return f"{_placed(found['said'])}{found['rule'] or ''}"
    known = translated(part, "fr", _PACKAGE)
    if known != part or "; " not in part:
        return known
    return " ; ".join(translated(sentence, "fr", _PACKAGE) for sentence in part.split("; "))


def _placed(said: str) -> str:
    """The message of an issue, after the path of its place if it has one."""
    known = translated(said, "fr", _PACKAGE)
    if known == said and (found := _PLACE.fullmatch(said)):
        return f"{found['place']} : {translated(found['said'], 'fr', _PACKAGE)}"
    return known
