"""The words of a file at the place of a finding, short enough to show."""

from __future__ import annotations

import re
from itertools import islice

from lxml import etree

from relais.cda.parsing import SDTC, V3, XSI
from relais.cda.schematron import line_of
from relais.cda.style_sheets import INSTRUCTION, document_of, instruction_of

_LONGEST = 200
_STEP = re.compile(r"/(?P<tag>\{[^}]*\}[^/\[]+|[^/\[{@]+)(?:\[(?P<index>\d+)\])?")
_PREFIXES = {"sdtc": SDTC, "xsi": XSI}


class Lines:
    """The lines of a text; long ones are cut around a column."""

    def __init__(self, data: bytes, encoding: str = "utf-8") -> None:
        try:
            text = data.decode(encoding, "replace")
        except LookupError:  # one that the XML parser knows and Python does not
            text = data.decode("latin-1")
        self._lines = text.splitlines()

    def at(self, line: int, column: int = 1) -> str:
        """The line of that number (from 1), without the blanks around it; empty when there is none."""
        if not 0 < line <= len(self._lines):
            return ""
        text = self._lines[line - 1]
        if len(text) > _LONGEST:
            start = max(0, min(column - 1 - _LONGEST // 4, len(text) - _LONGEST))
            text = text[start : start + _LONGEST]
        return text.strip()


class Elements:
    """The elements of a CDA document, by the XPaths that findings give; lines are those of the file."""

    def __init__(self, data: bytes, tree: etree._ElementTree) -> None:
        encoding = tree.docinfo.encoding or "utf-8"
        instruction = instruction_of(tree)
        self._around = {"/*": line_of(tree.getroot())}
        if instruction is not None:
            self._around[INSTRUCTION] = line_of(instruction)
        self._root = document_of(tree).getroot()
        self._start_tags: dict[etree._Element, str] = {}
        self._children: dict[tuple[etree._Element, str], list[etree._Element]] = {}
        self._lines = Lines(data, "utf-8" if encoding.upper() == "ASCII" else encoding)

    def at(self, path: str, line: int) -> str:
        """The start tag of the element at a path, or the line when it is not found."""
        element = self._element(path)
        if element is None:
            return self._lines.at(line)
        if element not in self._start_tags:
            self._start_tags[element] = start_tag(element)
        return self._start_tags[element]

    def line(self, path: str) -> int:
        """The line of the element at a path; 0 when it is not found."""
        element = self._element(path)
        return line_of(element) if element is not None else self._around.get(path, 0)

    def _element(self, path: str) -> etree._Element | None:
        element = self._root if path == "/" else None
        for step in _STEP.finditer(path):
            tag = _clark(step["tag"])
            if element is None:
                if tag != self._root.tag:
                    return None
                element = self._root
                continue
            if (element, tag) not in self._children:
                self._children[element, tag] = element.findall(tag)
            children = self._children[element, tag]
            index = int(step["index"] or 1)
            if index > len(children):
                return element
            element = children[index - 1]
        return element


def _clark(step: str) -> str:
    if step.startswith("{"):
        return step.removeprefix("{}")
    prefix, _, name = step.rpartition(":")
    return f"{{{_PREFIXES.get(prefix, V3)}}}{name}"


def start_tag(element: etree._Element, values: str = "") -> str:
    """The start tag as a reader knows it: local names, no namespace declarations; then its words, or those given."""
    parts = [etree.QName(element).localname]
    names = islice(element.attrib, _LONGEST // len(' a=""'))  # more would be cut
    parts += [f'{etree.QName(name).localname}="{element.get(name)}"' for name in names]
    text = " ".join(parts)
    words = " ".join(((element.text or "") if len(element) == 0 else values).split())
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return f"<{cut}>{words[: _LONGEST // 2]}"
