"""XHTML of narratives: what is allowed, what is not XHTML, what breaks txt-1 and txt-2."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relais.profiles import narrative

XMLNS = 'xmlns="http://www.w3.org/1999/xhtml"'


def rules(text: str) -> list[tuple[str, str]]:
    return [(problem.code, problem.rule) for problem in narrative.problems(text)]


@pytest.mark.parametrize(
    "text",
    [
        f"<div {XMLNS}>Texte</div>",
        f'\n<div {XMLNS} xml:lang="fr" lang="fr"><p class="a" style="b">é &amp; &#160;</p></div>\n',
        f'<div {XMLNS}><table border="1"><tr><td colspan="2">1</td></tr></table><a href="#a" name="b">x</a></div>',
        f'<div {XMLNS}><img src="#image" alt=""/></div>',
        f"<div {XMLNS}><!-- remarque -->texte<?instruction?></div>",
        '<h:div xmlns:h="http://www.w3.org/1999/xhtml"><h:p>x</h:p></h:div>',
    ],
)
def test_allowed(text: str) -> None:
    assert rules(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "texte",
        "<div>texte</div>",
        f"<p {XMLNS}>texte</p>",
        f"<div {XMLNS}>texte",
        f"<div {XMLNS}>a</div><div {XMLNS}>b</div>",
        f"<div {XMLNS}>&nbsp;</div>",
        f'<!DOCTYPE div [<!ENTITY x "y">]><div {XMLNS}>&x;</div>',
        f'<?xml version="1.0"?><div {XMLNS}>texte</div>',
        f"<div {XMLNS}>" + "<b>" * 5000 + "x" + "</b>" * 5000 + "</div>",
    ],
)
def test_not_one_xhtml_div(text: str) -> None:
    assert rules(text) == [("structure", "xhtml")]


@pytest.mark.parametrize(
    ("inner", "rule"),
    [
        ("x<script>1</script>", "txt-1"),
        ("x<form/>", "txt-1"),
        ('<p onclick="a()">x</p>', "txt-1"),
        ('<p xmlns="urn:other">x</p>', "txt-1"),
        ('<a href="javascript:a()">x</a>', "txt-1"),
        ('<a href=" java&#10;script:a()">x</a>', "txt-1"),
        ('<img src="data:text/html,x"/>', "txt-1"),
        (" <br/>&#160;".replace("&#160;", ""), "txt-2"),
        ("<!-- x -->", "txt-2"),
        ('<img alt="x"/>', "txt-2"),
    ],
)
def test_broken_rules(inner: str, rule: str) -> None:
    assert rules(f"<div {XMLNS}>{inner}</div>") == [("invariant", rule)]


@given(st.text() | st.text(alphabet='<>div/&;!x "=?[]-'))
def test_any_text_gives_an_answer(text: str) -> None:
    list(narrative.problems(text))


def test_the_allowed_names_are_those_of_the_specification(cisis: Path) -> None:
    path = cisis / "fhir" / "hl7.fhir.r4.core#4.0.1" / "package" / "StructureDefinition-Narrative.json"
    if not path.exists():
        pytest.skip("package hl7.fhir.r4.core#4.0.1 not found")
    elements = json.loads(path.read_text())["snapshot"]["element"]
    constraints = [each for found in elements for each in found.get("constraint", ())]
    (xpath,) = (each["xpath"] for each in constraints if each["key"] == "txt-1")
    names, attributes = (set(re.findall("'([^']+)'", part)) for part in xpath.split(" and "))
    assert names == narrative.ELEMENTS
    assert attributes == narrative.ATTRIBUTES
