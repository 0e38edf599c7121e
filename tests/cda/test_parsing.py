"""XPaths of elements, and what very many of them cost: a document is never worth more time than its size."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from lxml import etree

from relais.cda import consistency
from relais.cda.errors import MOST_ALIKE, Issue, limited
from relais.cda.parsing import Places, parse
from relais.cda.reader import read
from relais.cda.writer import write
from support.documents import small_document

MANY = 5_000


def crowded(content: str, times: int = MANY) -> bytes:
    """The small document with that content, many times, before recordTarget."""
    before, separator, after = write(small_document()).partition(b"<recordTarget>")
    return before + content.encode() * times + separator + after


def cost(run: Callable[[], Any]) -> int:
    """How many functions a run calls, those of C included: it does not depend on the machine."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many siblings are walked through, each time that some are, to write XPaths."""
    walks: list[int] = []
    original = Places._count

    def count(places: Places, element: etree._Element) -> None:
        parent = element.getparent()
        walks.append(1 if parent is None else len(parent))
        original(places, element)

    monkeypatch.setattr(Places, "_count", count)
    return walks


def test_paths_number_the_elements_that_share_a_name() -> None:
    root = parse(
        b"<a xmlns='urn:hl7-org:v3'><b/><!-- c --><c/><b><d/><x xmlns='urn:x'/></b><n xmlns=''/></a>"
    ).getroot()
    places = Places()
    found = [places.of(element) for element in root.iter() if isinstance(element.tag, str)]
    assert found == ["/a", "/a/b[1]", "/a/c", "/a/b[2]", "/a/b[2]/d", "/a/b[2]/{urn:x}x", "/a/{}n"]
    assert found == [Places().of(element) for element in root.iter() if isinstance(element.tag, str)]


def test_unknown_siblings_cost_no_more_than_their_number(counted: list[int]) -> None:
    issues = read(crowded("<foo xmlns='urn:x'/>")).issues
    assert issues[0].path == "/ClinicalDocument/{urn:x}foo[1]"
    assert [issue.message for issue in issues[MOST_ALIKE:]] == [f"{MANY - MOST_ALIKE} more findings of this kind"]
    assert len([walk for walk in counted if walk > MANY]) <= 2  # of the document, and of what was written of it
    few, many = (crowded("<foo xmlns='urn:x'/>", times) for times in (MANY, 2 * MANY))
    assert cost(lambda: read(many)) < 3 * cost(lambda: read(few))


def test_repeated_ids_cost_no_more_than_their_number(counted: list[int]) -> None:
    found = [issue for issue in consistency.check(parse(crowded("<text ID='same'/>"))) if issue.code == "duplicate"]
    assert len(found) == MOST_ALIKE + 1
    assert found[-1].message == f"{MANY - 1 - MOST_ALIKE} more findings of this kind"
    assert found[-1].severity == "error"
    assert len([walk for walk in counted if walk > MANY]) == 1
    few, many = (parse(crowded("<text ID='same'/>", times)) for times in (MANY, 2 * MANY))
    assert cost(lambda: consistency.check(many)) < 3 * cost(lambda: consistency.check(few))


def test_an_error_is_never_hidden_behind_many_warnings() -> None:
    warnings = [Issue("warning", "value", "w", f"/a[{number}]", "rule") for number in range(2 * MOST_ALIKE)]
    error = Issue("error", "value", "e", "/b", "rule")
    shown = list(limited([*warnings, error]))
    assert shown[MOST_ALIKE] == error
    assert shown[-1] == Issue("warning", "value", f"{MOST_ALIKE} more findings of this kind", rule="rule")


def test_places_hold_while_elements_come_and_go() -> None:
    tree = etree.ElementTree(etree.fromstring(b"<a xmlns='urn:hl7-org:v3'>" + b"<b/>" * 50 + b"</a>"))
    places = Places()
    assert [places.of(tree.getroot()[index]) for index in (49, 0, 20)] == ["/a/b[50]", "/a/b[1]", "/a/b[21]"]
