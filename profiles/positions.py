"""Where in a file an issue is: line and column of the element that a FHIRPath expression of an issue names."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree

# The quantifiers keep no state to go back to: a string of 20 MB would otherwise cost 2 GB.
_TOKEN = re.compile(r'[{}\[\],:]|"(?:[^"\\]++|\\.)*+"|[^\s{}\[\],:"]++', re.DOTALL)
_STEP = re.compile(r"([A-Za-z]\w*)(?:\.ofType\((\w+)\))?(?:\[(\d+)\])?")
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_FHIR = "{http://hl7.org/fhir}"

_JsonPath = tuple[str | int, ...]


class Position(NamedTuple):
    """A place in a file; both count from 1. The column is 0 where the parser does not tell it (XML)."""

    line: int
    column: int


class JsonPositions:
    """The positions of the elements of a JSON text that was parsed without error."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._offsets = dict(_offsets(text))

    def find(self, expression: str) -> Position:
        """The position of what an issue names: the property, or the nearest element around it that is there."""
        path = _json_path(expression)
        while path and path not in self._offsets:
            path = path[:-1]
        offset = self._offsets.get(path, 0)
        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)


def xml_position(root: etree._Element, expression: str) -> Position:
    """The line of what an issue names in the XML form of a resource, or of the nearest element around it."""
    node = root
    for name, type_name, index in _steps(expression):
        tag = f"{_FHIR}{_property(name, type_name)}"
        children = [child for child in node if child.tag == tag]
        if index >= len(children):
            break
        node = children[index]
        if name in ("resource", "contained") and len(node) == 1:
            node = node[0]
    line = node.sourceline
    return Position(line if isinstance(line, int) else 0, 0)


def _steps(expression: str) -> Iterator[tuple[str, str, int]]:
    """Name, type of a choice, index of each step below the resource."""
    steps = [(found[1], found[2] or "", int(found[3] or 0)) for found in _STEP.finditer(expression)]
    yield from steps[1:]


def _property(name: str, type_name: str) -> str:
    return f"{name}{type_name[0].upper()}{type_name[1:]}" if type_name else name


def _json_path(expression: str) -> _JsonPath:
    path: list[str | int] = []
    for found in list(_STEP.finditer(expression))[1:]:
        path.append(_property(found[1], found[2] or ""))
        if found[3]:
            path.append(int(found[3]))
    return tuple(path)


def _offsets(text: str) -> Iterator[tuple[_JsonPath, int]]:
    """The path and the offset of every value; of a property, the offset of its name."""
    path: list[str | int] = []
    offset: int | None = None
    expects_name = False
    for found in _TOKEN.finditer(text):
        part = found[0]
        if expects_name and part.startswith('"'):
            path[-1], offset, expects_name = _unquoted(part), found.start(), False
        elif part == ":":
            continue
        elif part in "}]":
            path.pop()
            offset = None
            expects_name = False
        elif part == ",":
            last = path[-1]
            expects_name = isinstance(last, str)
            if isinstance(last, int):
                path[-1] = last + 1
        else:
            yield tuple(path), found.start() if offset is None else offset
            offset = None
            if part in "{[":
                expects_name = part == "{"
                path.append("" if expects_name else 0)


def _unquoted(quoted: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], quoted[1:-1])
