"""XPaths of elements, and what very many of them cost: a document is never worth more time than its size."""

from __future__ import annotations

import time

from lxml import etree

from relais.cda import consistency
from relais.cda.errors import MOST_ALIKE, Issue, limited
from relais.cda.parsing import Places, parse
from relais.cda.reader import read
from relais.cda.writer import write
from support.documents import small_document

MANY = 40_000
BEARABLE = 15.0  # seconds; counting the siblings of each element anew takes far longer


def crowded(content: str) -> bytes:
    """The small document with that content, MANY times, before recordTarget."""
    before, separator, after = write(small_document()).partition(b"<recordTarget>")
    return before + content.encode() * MANY + separator + after


def test_paths_number_the_elements_that_share_a_name() -> None:
    root = parse(b"<a xmlns='urn:hl7-org:v3'><b/><!-- c --><c/><b><d/><x xmlns='urn:x'/></b></a>").getroot()
    places = Places()
    found = [places.of(element) for element in root.iter() if isinstance(element.tag, str)]
    assert found == ["/a", "/a/b[1]", "/a/c", "/a/b[2]", "/a/b[2]/d", "/a/b[2]/{urn:x}x"]
    assert found == [Places().of(element) for element in root.iter() if isinstance(element.tag, str)]


def test_unknown_siblings_cost_no_more_than_their_number() -> None:
    started = time.monotonic()
    issues = read(crowded("<foo xmlns='urn:x'/>")).issues
    assert time.monotonic() - started < BEARABLE
    assert issues[0].path == "/ClinicalDocument/{urn:x}foo[1]"
    assert [issue.message for issue in issues[MOST_ALIKE:]] == [f"{MANY - MOST_ALIKE} more findings of this kind"]


def test_repeated_ids_cost_no_more_than_their_number() -> None:
    tree = parse(crowded("<text ID='same'/>"))
    started = time.monotonic()
    found = [issue for issue in consistency.check(tree) if issue.rule == "relais-narrative-id"]
    assert time.monotonic() - started < BEARABLE
    assert len(found) == MOST_ALIKE + 1
    assert found[-1].message == f"{MANY - 1 - MOST_ALIKE} more findings of this kind"
    assert found[-1].severity == "error"


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
