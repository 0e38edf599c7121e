"""What checks say, in English and French: the table `messages.tsv` holds the words, code holds keys and arguments."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

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


@cache
def table() -> Mapping[str, Mapping[Language, str]]:
    """The words by key and language; `{name}` marks an argument."""
    lines = (files("relais.profiles") / "messages.tsv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["key"]: {language: row[language] for language in LANGUAGES} for row in rows}
