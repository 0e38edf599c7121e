"""Sections that no resource holds: CDA → FHIR → CDA keeps their titles, codes and words."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from relais.cda import templates
from relais.cda.errors import MappingError
from relais.cda.model import II, Code, Document, Section, Statement
from relais.cda.narrative import Element, Node, bullet_list, content, paragraph, plain_text, table
from relais.cda.parsing import parse
from relais.cda.reader import read
from relais.cda.validation import Validator
from relais.cda.writer import write
from relais.mappings.context import Mapped
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda import convert
from relais.mappings.to_cda.kept import MADE_AGAIN
from relais.mappings.to_cda.xhtml import narrative
from relais.profiles import structure
from support.appointments import AGENDAS, single
from support.notifications import EMISSION as NOTICE_EMISSION
from support.notifications import NOTICES, notify
from support.plans import EMISSION, PLANS

Resource = dict[str, Any]

RESULTS = Code("30954-2", templates.LOINC, "Résultats", "LOINC")
TEXT: list[Node] = [
    paragraph("Hémoglobine : ", content("12 g/dL", id="hb", style="Bold"), Element("br"), "stable"),
    bullet_list([["Premier"], ["Second ", Element("sub", {}, ["2"])]]),
    table(["Analyse", "Valeur"], [[["CRP"], ["3 mg/L"]], [["TSH"], [paragraph("1,2")]]]),
    Element("linkHtml", {"href": "https://example.org/"}, ["Référence"]),
]
FOREIGN = Section(
    template_ids=[II("1.2.3.4.5")],
    code=RESULTS,
    title="Résultats",
    text=TEXT,
    entries=[Statement("observation", "OBS", "EVN", code=RESULTS)],
    sections=[Section(title="Détail", text=[paragraph("Sous-section")])],
)


def with_foreign(document: Document) -> bytes:
    """The document with a section of another model in its middle."""
    document.sections.insert(1, FOREIGN)
    return write(document)


def imported(data: bytes) -> Resource:
    """The Bundle of a document."""
    return to_bundle(read(data).document, data).bundle


DOCUMENTS = {
    "plan": (lambda: convert(PLANS["full"], EMISSION).document, EMISSION),
    "agenda": (lambda: single(AGENDAS["minimal"]).document, EMISSION),
    "notice": (lambda: notify(NOTICES["attachments"]).document, NOTICE_EMISSION),
}


@pytest.fixture(params=DOCUMENTS)
def returned(request: pytest.FixtureRequest) -> Mapped:
    """What comes back of each kind of document with a foreign section."""
    make, emission = DOCUMENTS[request.param]
    return convert(imported(with_foreign(make())), emission)


@pytest.mark.parametrize(("status", "said"), [("additional", 1), ("generated", 0)])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_words_that_no_entry_holds_are_said_to_be_lost_once(kind: str, status: str, said: int) -> None:
    make, emission = DOCUMENTS[kind]
    bundle = imported(write(make()))
    for section in bundle["entry"][0]["resource"]["section"]:
        section["text"]["status"] = status
    found = [issue for issue in convert(bundle, emission).issues if issue.message == MADE_AGAIN]
    assert [issue.path for issue in found] == ["Composition.section.text"] * said


def test_the_section_comes_back_as_narrative(returned: Mapped) -> None:
    found = returned.document.sections[-1]
    assert found.title == "Résultats"
    assert (found.code or Code()).code == "30954-2"
    assert plain_text(found.text) == plain_text(TEXT)
    assert [(one.title, plain_text(one.text)) for one in found.sections] == [("Détail", "Sous-section")]
    assert (found.template_ids, found.entries) == ([], [])


def test_what_it_loses_is_said(returned: Mapped) -> None:
    (said,) = [issue for issue in returned.issues if issue.path.endswith("].section[0]")]
    (whole,) = [issue for issue in returned.issues if f"{issue.path}.section[0]" == said.path]
    assert whole.severity == "information"
    assert "narrative" in whole.message


def test_it_is_not_written_twice_and_other_sections_are_those_of_before(returned: Mapped) -> None:
    again = convert(imported(write(returned.document)), NOTICE_EMISSION)
    assert [section.title for section in again.document.sections] == [
        section.title for section in returned.document.sections
    ]
    assert len([one for one in again.document.sections if one.title == "Résultats"]) == 1


def test_it_stands_before_the_judges(validator: Validator, returned: Mapped) -> None:
    report = validator.validate(write(returned.document))
    assert report.conformant, report.to_text()


def test_the_bundle_is_valid() -> None:
    for make, _ in DOCUMENTS.values():
        assert structure.check(imported(with_foreign(make()))) == []


def test_a_narrative_that_is_no_xml_is_refused_with_its_place() -> None:
    bundle = imported(with_foreign(DOCUMENTS["plan"][0]()))
    composition = bundle["entry"][0]["resource"]
    composition["section"][1]["text"]["div"] = "<div>DUPONT<br></div>"
    with pytest.raises(MappingError) as caught:
        convert(bundle, EMISSION)
    assert caught.value.issues[0].path == "Composition.section[1].text.div"
    assert "DUPONT" not in str(caught.value)


@pytest.mark.parametrize("beside", [False, True])
def test_words_whose_entry_no_mapping_reads_are_kept_or_the_loss_is_said(*, beside: bool) -> None:
    bundle = imported(with_foreign(DOCUMENTS["plan"][0]()))
    composition = bundle["entry"][0]["resource"]
    entries = [{"reference": "urn:uuid:0b1f9f6e-65a1-4d0e-9a55-6f7a3b1f2c11"}]
    foreign = {"resourceType": "AllergyIntolerance", "id": "allergy", "patient": composition["subject"]}
    bundle["entry"].append({"fullUrl": entries[0]["reference"], "resource": foreign})
    if beside:
        entries.append(composition["section"][0]["entry"][0])
    text = {"status": "generated", "div": _div("<p>Pénicilline</p>")}
    composition["section"].append({"title": "Allergies", "text": text, "entry": entries})
    place = f"Composition.section[{len(composition['section']) - 1}]"
    mapped = convert(bundle, EMISSION)
    titles = [section.title for section in mapped.document.sections]
    assert ("Allergies" in titles) is not beside
    said = [issue.path for issue in mapped.issues if issue.path.startswith(place)]
    assert said == ([f"{place}.entry[0]"] if beside else [place])


# --- XHTML → StrucDoc ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema(cisis: Path) -> etree.XMLSchema:
    """The schema of CDA with the extensions of ANS."""
    return etree.XMLSchema(etree.parse(str(cisis / "cda" / "infrastructure" / "cda" / "CDA_extended.xsd")))


def _div(inner: str) -> str:
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>'


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ("<h1>Titre</h1><p>Texte<br/>suite</p>", "Titre Texte suite"),
        ("un <b>deux</b> <i>trois</i> <span style='text-decoration: underline'>quatre</span>", "un deux trois quatre"),
        ("<ul><li>a<ul><li>b</li></ul></li></ul>", "a b"),
        ("<table><tr><td>a<table><tr><td>b</td></tr></table></td></tr></table>", "a b"),
        ("<table><thead><tr><th><p>a</p></th></tr></thead></table>", "a"),
        ("<p>x<ul><li>y</li></ul></p>", "x y"),
        ("<div><div>a</div><p>b</p></div>", "a b"),
        ("<a href='#n'>lien</a><span id='n'>cible</span><a name='m'>ancre</a>", "lien cible ancre"),
        ("<img src='x.png' alt='courbe'/>", "[Image : courbe]"),
        ("<script>alert(1)</script><style>p</style>reste", "reste"),
        ("<a href='https://x.example'>un <b>lien</b><br/>long</a>", "un lien long"),
        ("<dl><dt>terme</dt><dd>sens</dd></dl>", "terme sens"),
        ("<sup><b>2</b></sup><tt>code</tt>", "2code"),
        ("<ul><li>a</li><ul><li>b</li></ul>c</ul>", "a b c"),
        ("<ul>a<p>b</p><b>c</b><li>d</li></ul>", "a b c d"),
        ("<ul><caption>a</caption></ul>", "a"),
        ("<dl><div><dt>a</dt><dd>b</dd></div></dl>", "a b"),
        ("<table><caption>a</caption><caption>b</caption><tr><td>c</td></tr>d</table>", "a b c d"),
        ("<table><thead><tr><td>a</td></tr></thead><thead><tr><td>b</td></tr></thead></table>", "a b"),
        ("<table><caption>a</caption><thead><tr><td><p>b</p><ul><li>c</li></ul></td></tr></thead></table>", "a b c"),
        ("<table><tbody>a<tr>b<td>c</td><p>d</p></tr><p>e</p></tbody><tr/><tfoot/></table>", "a b c d e"),
    ],
)
def test_the_words_of_xhtml_are_kept_and_valid(schema: etree.XMLSchema, inner: str, words: str) -> None:
    nodes = narrative(_div(inner), "s1-")
    spaced = " ".join(part for part in _texts(nodes) if part.strip())
    assert "".join(spaced.split()) == "".join(words.split())
    _assert_valid(schema, nodes)


def _texts(nodes: list[Node]) -> list[str]:
    return [text for node in nodes for text in ([node] if isinstance(node, str) else _texts(node.children))]


def _assert_valid(schema: etree.XMLSchema, nodes: list[Node]) -> None:
    document = convert(PLANS["minimal"], EMISSION).document
    document.sections.append(Section(title="x", text=nodes))
    schema.assertValid(parse(write(document)))


_runs = st.text("aé<&\"' \n", min_size=1, max_size=8).map(escape)


def _tagged(*names: str) -> Callable[[st.SearchStrategy[str]], st.SearchStrategy[str]]:
    def tagged(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        content = st.lists(inner, max_size=3).map("".join)
        return st.builds(lambda name, text: f"<{name} id='n'>{text}</{name}>", st.sampled_from(names), content)

    return tagged


def _structured(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    cells = st.lists(_tagged("td", "th")(inner), min_size=1, max_size=3).map("".join)
    rows = st.lists(cells.map(lambda row: f"<tr>{row}</tr>"), min_size=1, max_size=2).map("".join)
    parts = st.builds(lambda head, body: f"<table><thead>{head}</thead><tbody>{body}</tbody></table>", rows, rows)
    lists = st.lists(_tagged("li")(inner), min_size=1, max_size=3).map(lambda items: f"<ul>{''.join(items)}</ul>")
    return st.one_of(parts, lists, _tagged("p", "div", "h2", "span", "b", "em", "sup", "a", "blockquote")(inner))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.recursive(_runs, _structured, max_leaves=12), max_size=3).map("".join))
def test_any_xhtml_keeps_its_words_and_is_valid(schema: etree.XMLSchema, inner: str) -> None:
    nodes = narrative(re.sub(" id='n'", "", _div(inner)), "s1-")
    assert "".join("".join(_texts(nodes)).split()) == "".join(html.unescape(re.sub(r"<[^>]*>", "", inner)).split())
    _assert_valid(schema, nodes)


def test_a_document_that_no_resource_holds_is_refused_with_the_way_to_send_it(cisis: Path) -> None:
    data = (cisis / "cda" / "examples" / "LDL-SES_2022.01.xml").read_bytes()
    with pytest.raises(MappingError, match="goes on as received"):
        convert(imported(data), EMISSION)
