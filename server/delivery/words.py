"""What care staff read of a delivery, in French: the reasons and outcomes that Task shows, by the table `french.tsv`.

The store, `relais deliveries` and AuditEvents keep the English. What the table does not know, the words of counterparts
and technical detail, stays as it is.
"""

from __future__ import annotations

import re

from relais.server.validation.language import translated

_PACKAGE, _CHECKS = "relais.server.delivery", "relais.server.validation"
_BETWEEN = re.compile(r"; (?=(?:fatal|error|warning|information): )")
_ISSUE = re.compile(r"(?:fatal|error|warning|information): (?P<said>.*?)(?P<rule> \[[^\[\]]*\])?", re.DOTALL)
_OWN = re.compile(r" \[(?:relais-|XML 1\.0)")
"""Rules of the checks that the validator makes of its own."""
_PLACE = re.compile(r"(?P<place>\S+): (?P<said>.*)", re.DOTALL)


def french(told: str) -> str:
    """A word, a sentence, several of them, or issues as `Issue` writes them, with `; ` between, in French."""
    return " ; ".join(_one(part) for part in _BETWEEN.split(told))


def _one(part: str) -> str:
    if found := _ISSUE.fullmatch(part):
        rule = found["rule"] or ""
        return f"{_placed(found['said'], _CHECKS if _OWN.match(rule) else _PACKAGE)}{rule}"
    known = translated(part, "fr", _PACKAGE)
    if known != part or "; " not in part:
        return known
    return " ; ".join(translated(sentence, "fr", _PACKAGE) for sentence in part.split("; "))


def _placed(said: str, package: str) -> str:
    """The message of an issue by the table of a package, after the path of its place if it has one."""
    known = translated(said, "fr", package)
    if known == said and (found := _PLACE.fullmatch(said)):
        return f"{found['place']} : {translated(found['said'], 'fr', package)}"
    return known
