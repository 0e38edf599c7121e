"""What differs between two CDA documents as the reader sees them: every field, texts by their words."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from relais.cda.model import Document, NamePart, Text
from relais.cda.narrative import text_by_id


class Difference(NamedTuple):
    """A place of the document model, what the first document has there, what the second has."""

    path: str
    first: Any
    second: Any


class Tolerance(NamedTuple):
    """A difference that is none of content: where (pattern of the whole path), why, and how both sides must agree."""

    path: str
    reason: str
    agree: Callable[[Any, Any], bool] = lambda first, second: True

    def covers(self, difference: Difference) -> bool:
        """Whether the difference is one of these."""
        return re.fullmatch(self.path, difference.path) is not None and self.agree(difference.first, difference.second)


def untolerated(differences: Iterable[Difference], tolerances: list[Tolerance]) -> list[Difference]:
    """The differences that no tolerance covers."""
    return [one for one in differences if not any(tolerance.covers(one) for tolerance in tolerances)]


def unused(differences: Iterable[Difference], tolerances: list[Tolerance]) -> list[Tolerance]:
    """The tolerances that cover no difference: they would hide one to come."""
    listed = list(differences)
    return [tolerance for tolerance in tolerances if not any(tolerance.covers(one) for one in listed)]


def differences(first: Document, second: Document) -> list[Difference]:
    """Header and entries, field by field; a text is the words it holds or points to, however the narrative names them.

    Parts of a name have no order, but for those of one qualifier. The layout of the narratives is not compared.
    """
    return list(_differ(_spoken(first), _spoken(second), ""))


def _spoken(document: Document) -> Document:
    """A copy whose texts are words, without narratives."""
    result = copy.deepcopy(document)
    words: dict[str, str] = {}
    for section in result.sections:
        words |= text_by_id(section.text)
        section.text = []
    spoken = _speak(result, words)
    assert isinstance(spoken, Document)
    return spoken


def _speak(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, Text):
        return words.get((value.reference or "").removeprefix("#")) if value.reference else value.value
    if isinstance(value, list):
        return [_speak(one, words) for one in value]
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            setattr(value, field.name, _speak(getattr(value, field.name), words))
    return value


def _differ(first: Any, second: Any, path: str) -> Iterator[Difference]:
    if isinstance(first, msgspec.Struct) and type(first) is type(second):
        for field in msgspec.structs.fields(first):
            place = f"{path}.{field.name}".removeprefix(".")
            yield from _differ(getattr(first, field.name), getattr(second, field.name), place)
    elif isinstance(first, list) and isinstance(second, list):
        yield from _differ_in_list(first, second, path)
    elif first != second:
        yield Difference(path, first, second)


def _differ_in_list(first: list[Any], second: list[Any], path: str) -> Iterator[Difference]:
    if any(isinstance(one, NamePart) for one in (*first, *second)):
        yield from (Difference(path, one, None) for one in first if one not in second)
        yield from (Difference(path, None, one) for one in second if one not in first)
        return
    for index in range(max(len(first), len(second))):
        one = first[index] if index < len(first) else None
        other = second[index] if index < len(second) else None
        yield from _differ(one, other, f"{path}[{index}]")
