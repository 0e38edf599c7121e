"""What checks say, in English and French: the table `messages.tsv` holds the words, code holds keys and arguments;
`invariants.tsv` and `package_invariants.tsv` hold the French of the rules that R4 and packages publish in English.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from relais.profiles import definitions
from relais.profiles.definitions import Invariant

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


class Message:
    """Words by key, with what is to be filled in; rendered when the language is known. An argument may be a Message."""

    __slots__ = ("arguments", "key")

    def __init__(self, key: str, /, **arguments: Any) -> None:
        self.key = key
        self.arguments = arguments

    def render(self, language: Language) -> str:
        """The text in a language."""
        values = {
            name: value.render(language) if isinstance(value, Message) else value
            for name, value in self.arguments.items()
        }
        return table()[self.key][language].format_map(values)


class RuleText(Message):
    """What an invariant says: as published, or the French of `invariants.tsv` where there is one."""

    __slots__ = ("_human",)

    def __init__(self, key: str, human: str) -> None:
        super().__init__(key)
        self._human = human

    def render(self, language: Language) -> str:
        """The text in a language."""
        if language == "en":
            return self._human
        known = _french_rules().get((self.key, self._human))
        return known or _french_package_rules().get((self.key, text_digest(self._human)), self._human)


def rule_text(rule: Invariant) -> Message:
    """What an invariant of R4 says."""
    return RuleText(rule.key, rule.human)


@cache
def _french_rules() -> Mapping[tuple[str, str], str]:
    """The French of invariants of R4 by key and published English."""
    return {
        (rule.key, rule.human): row["fr"]
        for row in _rows("invariants.tsv")
        for rule in definitions.invariants(row["path"])
        if rule.key == row["key"]
    }


@cache
def _french_package_rules() -> Mapping[tuple[str, str], str]:
    """The French of invariants that packages publish in English, by key and digest of the published text."""
    return {(row["key"], row["digest"]): row["fr"] for row in _rows("package_invariants.tsv")}


def text_digest(text: str) -> str:
    """What tells whether a published text is the one that was translated."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def table() -> Mapping[str, Mapping[Language, str]]:
    """The words by key and language; `{name}` marks an argument."""
    return {row["key"]: {language: row[language] for language in LANGUAGES} for row in _rows("messages.tsv")}


def _rows(name: str) -> csv.DictReader[str]:
    lines = (files("relais.profiles") / name).read_text(encoding="utf-8").splitlines()
    return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
