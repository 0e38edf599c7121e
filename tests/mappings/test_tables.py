"""The tables of docs/mapping-*.md against the code: what they name is written, changes what is written, and comes back.

A CDA path counts as written when some document of the tests has it; a FHIR path as read when taking the element away
changes what is written, or said; a path of *comes back as* as made when some imported Bundle has it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lxml import etree

from relais.cda.errors import RelaisError
from relais.cda.parsing import SDTC, V3, parse
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import Emission
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda import convert
from support.appointments import AGENDAS
from support.header_cases import HEADERS
from support.notifications import EMISSION as NOTICE_EMISSION
from support.notifications import NOTICES
from support.plans import EMISSION, PLANS

Resource = dict[str, Any]

DOCS = Path(__file__).parent.parent.parent / "docs"
_STEP = r"[a-z][A-Za-z]*(?:\[[\w.-]+\]|\([\w.-]+\))?"
_FHIR = re.compile(rf"([A-Z][A-Za-z]+)((?:\.{_STEP})+)")
_CDA = re.compile(r"(?:@?(?:sdtc:)?[A-Za-z][A-Za-z]*(?:\[[A-Z0-9]+\])?)(?:/@?(?:sdtc:)?[A-Za-z]+(?:\[[A-Z0-9]+\])?)*")


class Row(NamedTuple):
    """A row of a table: its place, and its cells by the heading of their columns."""

    place: str
    cells: dict[str, str]


def rows(name: str) -> list[Row]:
    """The rows of every table of a page."""
    found, head, title = [], [], ""
    for line in (DOCS / name).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        title = line.lstrip("# ") if line.startswith("#") else title
        if not cells:
            head = []
        elif not head:
            head = cells
        elif not set(line) <= set("|- "):
            found.append(Row(f"{title}: {cells[0]}", dict(zip(head, cells, strict=False))))
    return found


def named(cell: str, pattern: re.Pattern[str]) -> list[str]:
    """The paths that a cell names between backticks."""
    return [token for token in re.findall(r"`([^`]+)`", cell) if pattern.fullmatch(token)]


# --- the corpus ---------------------------------------------------------------------------------------------------


@cache
def documents() -> list[tuple[Resource, Emission, bytes]]:
    """Bundles and the documents they give: those of the tests, and what each of these documents comes back as."""
    stated = [
        *((bundle, EMISSION) for bundle in (*HEADERS.values(), *PLANS.values(), *AGENDAS.values())),
        *((bundle, NOTICE_EMISSION) for bundle in NOTICES.values()),
    ]
    found = [(bundle, emission, written(bundle, emission)) for bundle, emission in stated]
    back = [(to_bundle(read(data).document, data).bundle, emission) for _, emission, data in found]
    return [*found, *((bundle, emission, written(bundle, emission)) for bundle, emission in back)]


def written(bundle: Resource, emission: Emission) -> bytes:
    """The document of a Bundle, then what is said of it; what is said alone when there is none."""
    try:
        mapped = convert(bundle, emission)
    except RelaisError as error:
        return str(error).encode()
    return write(mapped.document)


@cache
def imported() -> list[Resource]:
    """What the documents of the tests come back as."""
    found = documents()
    return [bundle for bundle, _, _ in found[len(found) // 2 :]]


@cache
def trees() -> list[etree._Element]:
    """The documents of the tests, parsed."""
    return [parse(data).getroot() for _, _, data in documents() if data.startswith(b"<?xml")]


# --- paths --------------------------------------------------------------------------------------------------------


def xpath(path: str) -> str:
    """The XPath of a path of the tables, wherever it stands; a word in brackets is the value of an attribute."""
    steps = []
    for step in path.split("/"):
        name, _, bracket = step.partition("[")
        bracket = bracket.rstrip("]")
        prefixed = name if name.startswith(("@", "sdtc:")) else f"v3:{name}"
        steps.append(prefixed + (f"[{bracket}]" if bracket.isdigit() else f"[@*='{bracket}']" if bracket else ""))
    return "//" + "/".join(steps)


def places(bundle: Resource, path: str) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every element at a FHIR path of the tables: `name[use]` and `extension(name)` choose items."""
    match = _FHIR.fullmatch(path)
    assert match is not None, path
    kind, steps = match[1], re.findall(_STEP, match[2])
    nodes = [one for one in resources(bundle) if one.get("resourceType") == kind]
    for index, step in enumerate(steps):
        found = list(chain.from_iterable(_children(node, step) for node in nodes))
        if index == len(steps) - 1:
            yield from found
        nodes = [one for holder, key in found for one in _items(holder[key])]


def resources(bundle: Resource) -> Iterator[Resource]:
    """The Bundle itself, its resources, and those that these contain."""
    yield bundle
    for entry in bundle["entry"]:
        yield entry["resource"]
        yield from entry["resource"].get("contained", ())


def _children(node: Any, step: str) -> Iterator[tuple[Any, Any]]:
    name, chosen = re.fullmatch(r"(\w+)[\[(]?([\w.-]*)[\])]?", step).groups()  # type: ignore[union-attr]
    for key in (name, f"_{name}"):
        if isinstance(node, dict) and key in node:
            if chosen:
                items = node[key]
                yield from ((items, at) for at, item in enumerate(items) if _is_chosen(item, chosen))
            else:
                yield node, key


def _is_chosen(item: Resource, word: str) -> bool:
    return any(isinstance(one, str) and (one == word or one.endswith(f"/{word}")) for one in item.values())


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def without(bundle: Resource, path: str) -> Resource | None:
    """The Bundle without the elements at a path; None when it has none."""
    changed = copy.deepcopy(bundle)
    found = list(places(changed, path))
    for holder, key in reversed(found):
        del holder[key]
    return changed if found else None


def is_read(path: str) -> bool:
    """Whether taking the element away changes some document."""
    return any(
        changed is not None and written(changed, emission) != data
        for bundle, emission, data in documents()
        for changed in (without(bundle, path),)
    )


def is_made(path: str) -> bool:
    """Whether the element is in some imported Bundle."""
    return any(next(places(bundle, path), None) is not None for bundle in imported())


def is_written(path: str) -> bool:
    """Whether some document has that element or attribute."""
    find = etree.XPath(f"boolean({xpath(path)})", namespaces={"v3": V3, "sdtc": SDTC})
    return any(find(tree) for tree in trees())


def missing(paths: list[str], holds: Callable[[str], bool]) -> list[str]:
    """Those that do not hold."""
    return [path for path in paths if not holds(path)]


# --- the header ---------------------------------------------------------------------------------------------------

HEADER = [row for row in rows("mapping-header.md") if "card." in row.cells]


def test_the_table_of_the_header_is_complete() -> None:
    assert len(HEADER) > 80
    assert all(set(row.cells) == set(HEADER[0].cells) for row in HEADER)


@pytest.mark.parametrize("row", HEADER, ids=[row.place for row in HEADER])
def test_the_header_is_as_its_table_says(row: Row) -> None:
    cda, fhir = named(row.cells["CDA path"], _CDA), named(row.cells["FHIR path"], _FHIR)
    back = row.cells["comes back as"]
    assert cda
    assert missing(cda, is_written) == []
    assert missing(fhir, is_read) == []
    assert missing(named(back, _FHIR), is_made) == []
    assert not back.startswith("=") or any(map(is_made, fhir))
