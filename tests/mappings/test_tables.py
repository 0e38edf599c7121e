"""The tables of docs/mapping-*.md against the code: what they name is written, changes what is written, and comes back.

A CDA path counts as written when some document of the tests has it; a FHIR path as read when taking the element away
changes what is written, or said; a path of *comes back as* as made when some imported Bundle has it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lxml import etree

from relais.cda.errors import RelaisError
from relais.cda.model import II
from relais.cda.parsing import SDTC, V3, parse
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import DocumentVersion, Emission
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda import convert
from relais.profiles.definitions import elements
from support.appointments import AGENDAS
from support.notifications import EMISSION as NOTICE_EMISSION
from support.notifications import NOTICES
from support.plans import EMISSION, PLANS
from support.table_cases import AGENDA_CASES, NOTICE_CASES, PLAN_CASES, WITHDRAWN

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
        *((bundle, EMISSION) for cases in (PLAN_CASES, PLANS, AGENDA_CASES, AGENDAS) for bundle in cases.values()),
        *((bundle, NOTICE_EMISSION) for cases in (NOTICE_CASES, NOTICES) for bundle in cases.values()),
        (WITHDRAWN, replace(NOTICE_EMISSION, version=DocumentVersion(2, II("1.2.250.1.999.77.1")))),
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
    if next(places(bundle, path), None) is None:
        return None
    changed = copy.deepcopy(bundle)
    for holder, key in reversed(list(places(changed, path))):
        del holder[key]
    return changed


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


# --- the bodies ---------------------------------------------------------------------------------------------------

PAGES = {
    "mapping-pps.md": {
        "1. Problems": ("Condition",),
        "2. Directives": ("Consent", "Observation"),
        "4. Plan": ("Goal", "ServiceRequest", "Task", "Appointment", "CarePlan", "Observation"),
        "": ("CarePlan",),
    },
    "mapping-agenda.md": {"": ("Appointment",)},
    "mapping-notification.md": {"": ("CommunicationRequest", "Communication")},
}
"""Types whose elements the tables of a page name, by the beginning of the heading above the table."""


def body_rows() -> Iterator[tuple[str, Row, tuple[str, ...]]]:
    """(page, row, types) of every row that says what is read and what is written."""
    for page, by_heading in PAGES.items():
        for row in rows(page):
            if "FHIR path" in row.cells:
                types = next(types for heading, types in by_heading.items() if row.place.startswith(heading))
                yield page, row, types


def fhir_paths(cell: str, types: tuple[str, ...]) -> list[list[str]]:
    """The paths that a cell names, each as it is in every type that has it; words that are no elements are passed."""
    found = []
    for token in re.findall(r"`([^`]+)`", cell):
        plain = re.sub(r"\[(\d|\.|\*)+\]", "", token)
        if _FHIR.fullmatch(plain):
            found.append([plain])
        elif re.fullmatch(rf"{_STEP}(\.{_STEP})*|[a-z]\w+\[x\]", plain):
            first = re.split(r"[.\[(]", plain)[0]
            spelt = [f"{kind}.{name}" for kind in types for name in _spellings(kind, first)]
            found.append([path + plain.removesuffix("[x]").removeprefix(first) for path in spelt])
    return [paths for paths in found if paths]


def _spellings(kind: str, name: str) -> list[str]:
    """The JSON names of an element of a type: one, or one for each type of a choice."""
    return [one for element in elements(kind) for one in element.json_names() if name in (one, element.name)]


BODIES = list(body_rows())
GIVEN_AS_ARGUMENTS = {"Schedule.planningHorizon"}
"""What a whole agenda takes from its caller: `test_agenda` has it."""


def test_the_tables_of_the_bodies_are_found() -> None:
    assert len(BODIES) > 110
    assert sum(len(fhir_paths(row.cells["FHIR path"], types)) for _, row, types in BODIES) > 120


@pytest.mark.parametrize(("page", "row", "types"), BODIES, ids=[f"{page} {row.place}" for page, row, _ in BODIES])
def test_a_body_is_as_its_table_says(page: str, row: Row, types: tuple[str, ...]) -> None:
    written_as = next(cell for name, cell in row.cells.items() if name.startswith("CDA path"))
    assert missing(named(written_as, _CDA), is_written) == []
    if written_as != "–":  # else the row says what is refused, or left out and said
        paths = [
            paths for paths in fhir_paths(row.cells["FHIR path"], types) if not GIVEN_AS_ARGUMENTS.issuperset(paths)
        ]
        assert [each for each in paths if not any(map(is_read, each))] == []


BACK = [(page, row, types[""]) for page, types in PAGES.items() for row in rows(page) if "comes back" in row.cells]


@pytest.mark.parametrize(("page", "row", "types"), BACK, ids=[f"{page} {row.place}" for page, row, _ in BACK])
def test_what_comes_back_is_as_its_table_says(page: str, row: Row, types: tuple[str, ...]) -> None:
    paths = fhir_paths(row.cells["FHIR"], (*types, "Composition"))
    assert [each for each in paths if not any(map(is_made, each))] == []
