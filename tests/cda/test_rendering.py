"""The HTML page of a document: complete, safe, well made."""

from __future__ import annotations

import hashlib
import re
import tracemalloc
from base64 import b64decode, b64encode
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from lxml import html as lxml_html

from relais.cda.errors import RelaisError
from relais.cda.model import (
    II,
    Address,
    AssignedEntity,
    Code,
    Device,
    Document,
    EntryAuthor,
    Guardian,
    Informant,
    Interval,
    Media,
    NamePart,
    Order,
    Organization,
    Participant,
    PersonName,
    RelatedDocument,
    RelatedEntity,
    Section,
    Statement,
    Telecom,
    Text,
)
from relais.cda.narrative import (
    Element,
    Node,
    bullet_list,
    content,
    paragraph,
    plain_text,
    table,
    text_styles,
)
from relais.cda.presentation import words
from relais.cda.presentation.document import MAX_ELEMENTS
from relais.cda.presentation.narrative import MAX_COLUMNS
from relais.cda.presentation.nodes import clean
from relais.cda.reader import read
from relais.cda.rendering import to_html
from relais.mappings.to_cda import convert
from support import plans
from support.documents import small_document
from support.narratives import document_with, leaves, narratives
from support.rules import EXAMPLES, PPS, example
from support.rules import UNSTRUCTURED as UNSTRUCTURED_EXAMPLE

PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PDF = b"%PDF-1.4\n%%EOF\n"
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "nav",
        "main",
        "section",
        "div",
        "span",
        "p",
        "pre",
        "br",
    ),
    *("h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "a", "figure", "img"),
    *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"),
    *("strong", "em", "u", "sub", "sup", "ins", "del"),
}
ATTRIBUTES = {
    *("charset", "content", "http-equiv", "name", "lang", "class", "id", "aria-label"),
    *("scope", "colspan", "rowspan", "href", "rel", "download", "src", "alt"),
}


class Tokens(HTMLParser):
    """Every tag with its attributes, as a second parser sees them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_pi(self, data: str) -> None:
        raise AssertionError("a processing instruction")

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")


def page_of(narrative: list[Node]) -> lxml_html.HtmlElement:
    """The narrative part of a page, parsed."""
    (found,) = lxml_html.document_fromstring(to_html(document_with(narrative))).find_class("narrative")
    return found


def markup(narrative: list[Node]) -> str:
    """The HTML of a narrative, without the heading of its section."""
    found = page_of(narrative)
    return "".join(lxml_html.tostring(child, encoding="unicode", with_tail=False) for child in found[1:])


def squeezed(text: str) -> str:
    return "".join(text.split())


def text_of(page: str) -> str:
    return squeezed(lxml_html.document_fromstring(page).text_content())


def cell(*children: Node, tag: str = "td", **attributes: str) -> Element:
    return Element(tag, attributes, list(children))


def row(*cells: Element) -> Element:
    return Element("tr", {}, list(cells))


def rows(*found: Element) -> Element:
    return Element("table", {}, [Element("tbody", {}, list(found))])


# --- safety -----------------------------------------------------------------------------------------------------


def assert_inert(page: str) -> None:
    styles = 0
    for tag, attributes in Tokens(page).tags:
        assert tag in TAGS
        assert attributes.keys() <= ATTRIBUTES
        styles += tag == "style"
        if tag == "a":
            href = attributes["href"]
            assert href.startswith(("https://", "http://", "mailto:", "#", "data:"))
            assert ("download" in attributes) == href.startswith("data:")
            assert ("rel" in attributes) == href.startswith(("http", "mailto:"))
        if tag == "img":
            assert attributes["src"].startswith(("data:image/png;", "data:image/jpeg;", "data:image/gif;"))
    assert styles == 1


@settings(deadline=None, max_examples=150)
@given(narratives)
def test_any_narrative_gives_an_inert_page_with_all_its_text(narrative: list[Node]) -> None:
    page = to_html(document_with(narrative))
    assert_inert(page)
    shown = text_of(page)
    for leaf in leaves(narrative):
        for line in clean(leaf).split():
            assert line in shown


def test_policy_names_the_style_sheet_and_nothing_else() -> None:
    page = lxml_html.document_fromstring(to_html(small_document()))
    style = files("relais.cda").joinpath("data", "document.css").read_bytes()
    digest = b64encode(hashlib.sha256(style).digest()).decode()
    (policy,) = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert page.findtext(".//style") == style.decode()
    assert not re.search(r"url\(|@import|</", style.decode())


@pytest.mark.parametrize(
    "address",
    [
        *("javascript:alert(1)", " JAVASCRIPT:alert(1)", "java\tscript:alert(1)", "vbscript:x", "data:text/html,x"),
        *("//evil.example", "file:///etc/passwd", "https:evil", "ftp://example.fr", "http://a b", "https://é.fr"),
        *("https://example.fr/\u202egpj", "#absent", "x.html", "https://example.fr/" + "a" * 2000),
    ],
)
def test_unsafe_address_is_shown_and_leads_nowhere(address: str) -> None:
    found = page_of([Element("linkHtml", {"href": address}, ["Voir"])])
    assert not found.findall(".//a")
    assert squeezed(clean(address)) in squeezed(found.text_content())


@pytest.mark.parametrize(
    "address", ["https://example.fr/a?b=c&d=<e>", "http://example.fr", "mailto:a@b.mssante.fr", "HTTPS://X.FR"]
)
def test_safe_address_is_a_link_that_shows_where_it_leads(address: str) -> None:
    (link,) = page_of([Element("linkHtml", {"href": address}, ["Voir"])]).findall(".//a")
    assert (link.get("href"), link.get("rel"), link.text) == (address, "noopener noreferrer", "Voir")
    assert link.tail == f" ({address})"


def test_address_that_is_its_own_text_is_not_said_twice() -> None:
    address = "https://example.fr/"
    assert page_of([Element("linkHtml", {"href": address}, [address])]).text_content().count(address) == 1
    (link,) = page_of([Element("linkHtml", {"href": address})]).findall(".//a")
    assert link.text == address


def test_text_that_only_seems_markup_stays_text_everywhere() -> None:
    hostile = '<img src=x onerror="alert(1)">'
    document = document_with([hostile])
    document.header.title = document.sections[0].title = hostile
    document.header.language = '"><script>'
    document.header.patient.name.families[0].text = hostile
    document.header.custodian.names = [hostile]
    page = to_html(document)
    assert_inert(page)
    assert text_of(page).count(squeezed(hostile)) >= 6


def test_direction_overrides_and_control_characters_are_made_visible() -> None:
    assert "5�0 mg" in page_of(["5\u202e0 mg"]).text_content()
    assert page_of(["a\x00b\x1fc\ud800"]).text_content().endswith("a�b�c�")


def test_narrative_beyond_measure_is_refused() -> None:
    with pytest.raises(RelaisError) as caught:
        to_html(document_with([Element("br")] * (MAX_ELEMENTS + 1)))
    assert [(issue.code, issue.path) for issue in caught.value.issues] == [
        ("too-costly", "/ClinicalDocument/component/structuredBody")
    ]


def test_document_of_two_patients_is_not_shown() -> None:
    document = small_document()
    document.header.other_patients = [document.header.patient]
    with pytest.raises(RelaisError, match="exactly one patient"):
        to_html(document)


def test_large_table_is_shown_whole() -> None:
    page = page_of([table(["N°", "Texte"], [[[str(number)], ["é" * 20]] for number in range(5_000)])])
    assert len(page.findall(".//tr")) == 5_001


def test_nesting_as_deep_as_the_reader_lets_pass_keeps_its_text() -> None:
    node: Node = "au fond"
    for number in range(16):
        text = f"niveau-{number}."
        node = bullet_list([[text, node]]) if number % 2 else rows(row(cell(text, node)))
    node = Element("content", {}, [node])
    for _ in range(30):
        node = Element("content", {"styleCode": "Bold"}, [node])
    shown = page_of([node]).text_content()
    assert "au fond" in shown
    assert all(f"niveau-{number}." in shown for number in range(16))


# --- narrative ----------------------------------------------------------------------------------------------------

NARRATIVE: list[tuple[Node, str]] = [
    (content("gras", style="Bold"), "<p><strong>gras</strong></p>"),
    (content("les deux", style="Bold Italics xUnknown"), "<p><em><strong>les deux</strong></em></p>"),
    (content("important", style="Emphasis"), "<p><em>important</em></p>"),
    (content("vital", style="BoldItalics"), "<p><em><strong>vital</strong></em></p>"),
    (content("fort", style="bold"), "<p><strong>fort</strong></p>"),
    (content("maigre", style="notbold NoUnderline BoldX"), "<p>maigre</p>"),
    (content("long", style=f"{'x' * 100} Bold"), "<p><strong>long</strong></p>"),
    (content("souligné", style="Underline"), "<p><u>souligné</u></p>"),
    (Element("content", {"revised": "delete"}, ["ôté"]), "<p><del>ôté</del></p>"),
    (Element("content", {"revised": "insert"}, ["mis"]), "<p><ins>mis</ins></p>"),
    (paragraph("CO", Element("sub", {}, ["2"]), "/m", Element("sup", {}, ["2"])),
     "<p>CO<sub>2</sub>/m<sup>2</sup></p>"),
    (paragraph("  un \n\t", content(" deux "), Element("br"), "  trois  "), "<p>un deux<br>trois</p>"),
    (paragraph("a\u00a0b"), "<p>a\u00a0b</p>"),
    (
        Element("paragraph", {}, [Element("caption", {}, ["Titre"]), "texte"]),
        "<p><strong>Titre</strong></p><p>texte</p>",
    ),
    (bullet_list([["un"], [paragraph("deux"), paragraph("trois")]]),
     '<ul class="disc"><li>un</li><li><p>deux</p><p>trois</p></li></ul>'),
    (Element("list", {"listType": "ordered"}, [Element("item", {}, ["un"])]), '<ol class="decimal"><li>un</li></ol>'),
    (Element("list", {"listType": "ordered", "styleCode": "LittleRoman"}, [Element("item", {}, ["un"])]),
     '<ol class="lower-roman"><li>un</li></ol>'),
    (Element("list", {}, [Element("caption", {}, ["Titre"]), Element("item", {}, ["un"]), "perdu"]),
     '<p><strong>Titre</strong></p><p>perdu</p><ul class="disc"><li>un</li></ul>'),
    (Element("inconnu", {}, ["texte"]), "<p>texte</p>"),
    (Element("td", {}, ["cellule égarée"]), "<p>cellule égarée</p>"),
    (table(["A", "B"], [[["1"], [content("2", id="x")]]]),
     '<div class="wide"><table><thead><tr><th scope="col">A</th><th scope="col">B</th></tr></thead>'
     "<tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "expected"), NARRATIVE)
def test_narrative_element(node: Node, expected: str) -> None:
    assert markup([node]) == expected


def test_long_style_codes_of_documents_do_not_stay_in_memory() -> None:
    tracemalloc.start()
    try:
        for number in range(10):
            text_styles(f"{'x' * 100_000}{number}")
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_table_keeps_spans_alignment_headings_caption_and_strays() -> None:
    narrative: list[Node] = [
        Element(
            "table",
            {"border": "1"},
            [
                Element("caption", {}, ["Légende"]),
                Element("colgroup", {}, [Element("col", {"width": "20%"})]),
                Element("tfoot", {}, [row(cell("total", colspan="2"))]),
                Element(
                    "tbody", {"align": "right"}, [row(cell("ligne", tag="th"), cell("1", align="center")), "perdu"]
                ),
                row(cell("hors groupe", styleCode="Bold"), cell("2")),
            ],
        )
    ]
    assert markup(narrative) == (
        "<p>perdu</p>"
        '<div class="wide"><table><caption><strong>Légende</strong></caption>'
        '<tbody><tr><th class="right" scope="row">ligne</th><td class="center">1</td></tr>'
        "<tr><td><strong>hors groupe</strong></td><td>2</td></tr></tbody>"
        '<tfoot><tr><td colspan="2">total</td></tr></tfoot></table></div>'
    )


def test_rows_of_headings_that_begin_a_table_without_head_become_its_head() -> None:
    shown = page_of([rows(row(cell("A", tag="th"), cell("B", tag="th")), row(cell("1"), cell("2")))])
    assert [th.text for th in shown.findall(".//thead/tr/th")] == ["A", "B"]
    only_headings = page_of([rows(row(cell("A", tag="th")))])
    assert only_headings.findall(".//thead") == []


def test_span_beyond_the_table_is_cut_to_it() -> None:
    shown = page_of([rows(row(cell("titre", colspan="99")), row(cell("1", rowspan="99"), cell("2")), row(cell("3")))])
    assert [(td.text, td.get("colspan"), td.get("rowspan")) for td in shown.findall(".//td")] == [
        ("titre", "2", None),
        ("1", None, "2"),
        ("2", None, None),
        ("3", None, None),
    ]


def test_cell_never_covers_one_that_comes_down_from_above() -> None:
    shown = page_of(
        [rows(row(cell("a"), cell("haut", rowspan="2"), cell("c")), row(cell("large", colspan="3"), cell("d")))]
    )
    assert [(td.text, td.get("colspan")) for td in shown.findall(".//tr[2]/td")] == [("large", None), ("d", None)]


def test_table_too_wide_for_a_grid_is_shown_cell_by_cell() -> None:
    shown = page_of([rows(row(*(cell(f"c{number}") for number in range(MAX_COLUMNS + 1))))])
    assert shown.findall(".//table") == []
    assert [p.text for p in shown.findall("p")] == [f"c{number}" for number in range(MAX_COLUMNS + 1)]


def test_footnotes_are_numbered_through_the_document_and_reached_by_links() -> None:
    document = document_with(["Un", Element("footnote", {"ID": "n1"}, ["Note ", content("première")])])
    second = [Element("footnoteRef", {"IDREF": "n1"}), Element("footnote", {}, ["Seconde"])]
    document.sections.append(Section(title="Suite", text=[*second, Element("footnoteRef", {"IDREF": "absente"})]))
    page = lxml_html.document_fromstring(to_html(document))
    marks = [(a.get("href"), a.text_content()) for a in page.xpath("//*[@class='narrative']//a")]
    assert marks == [("#note-1", "[1]"), ("#note-1", "[1]"), ("#note-2", "[2]"), ("#note-3", "[3]")]
    notes = [(li.get("id"), li.text_content()) for li in page.xpath("//*[@class='notes']//li")]
    assert notes == [
        ("note-1", "Note première"),
        ("note-2", "Seconde"),
        ("note-3", "Note absente du document."),
    ]


def test_two_footnotes_of_the_same_id_are_both_there() -> None:
    page = to_html(document_with([Element("footnote", {"ID": "n"}, [text]) for text in ("une", "autre")]))
    notes = lxml_html.document_fromstring(page).xpath("//*[@class='notes']//li")
    assert [note.text for note in notes] == ["une", "autre"]


def test_link_inside_the_document_leads_to_its_target() -> None:
    shown = page_of([Element("linkHtml", {"href": "#but"}, ["voir"]), rows(row(cell("ici", ID="but")))])
    assert shown.find(".//a").get("href") == "#n-but"
    assert shown.find(".//td/span").get("id") == "n-but"


def test_sections_nest_by_their_headings() -> None:
    document = document_with(["texte"])
    deepest = Section(title="Six", text=["f"])
    for title in ("Cinq", "Quatre", "Trois", "Deux"):
        deepest = Section(title=title, sections=[deepest])
    document.sections.append(Section(code=Code("1", display="Titre du code"), sections=[deepest], text=[]))
    page = lxml_html.document_fromstring(to_html(document))
    headings = [(heading.tag, heading.text) for heading in page.xpath("//*[@class='narrative']/*[1]")]
    assert headings == [
        ("h2", "Commentaire"),
        ("h2", "Titre du code"),
        ("h3", "Deux"),
        ("h4", "Trois"),
        ("h5", "Quatre"),
        ("h6", "Cinq"),
        ("h6", "Six"),
    ]
    targets = {a.get("href")[1:] for a in page.xpath("//nav//a")}
    assert targets <= {heading.get("id") for heading in page.xpath("//h2")}


def test_section_without_text_says_so_and_section_authors_are_named() -> None:
    document = small_document()
    person = PersonName([NamePart("CHÊNE")], [NamePart("Marc")], suffix="PR")
    author = EntryAuthor(AssignedEntity(person=person), "20260112")
    document.sections = [Section(title="Vide", authors=[author])]
    shown = lxml_html.document_fromstring(to_html(document)).find_class("narrative")[0].text_content()
    assert "Cette section n'a pas de texte lisible." in shown
    assert "Auteur de la section : Pr Marc CHÊNE, 12/01/2026" in shown


# --- media --------------------------------------------------------------------------------------------------------


def with_media(*items: tuple[str | None, Media], shows: str = "") -> Document:
    document = document_with(
        [Element("renderMultiMedia", {"referencedObject": shows}, [Element("caption", {}, ["Vue"])])]
    )
    document.sections[0].entries = [
        Statement("observationMedia", "OBS", "EVN", xml_id=name, values=[item]) for name, item in items
    ]
    return document


def test_image_stands_where_the_narrative_shows_it() -> None:
    page = lxml_html.document_fromstring(to_html(with_media(("m", Media("image/png", PNG)), shows="m")))
    (image,) = page.xpath("//*[@class='narrative']//img")
    assert image.get("src") == f"data:image/png;base64,{b64encode(PNG).decode()}"
    assert image.get("alt") == "Commentaire (PNG, 1 ko)"
    assert "Vue" in page.find_class("narrative")[0].text_content()


def test_image_is_shown_as_what_it_is_whatever_it_is_called() -> None:
    page = lxml_html.document_fromstring(to_html(with_media(("m", Media("image/jpeg", PNG)), shows="m")))
    (image,) = page.xpath("//*[@class='narrative']//img")
    assert image.get("src") == f"data:image/png;base64,{b64encode(PNG).decode()}"
    assert image.get("alt") == "Commentaire (PNG, 1 ko)"


@pytest.mark.parametrize(
    ("item", "kind", "said"),
    [
        (Media("application/pdf", PDF), "application/pdf", "Commentaire (PDF, 1 ko)"),
        (Media("image/tiff", b"II*\0" + b"x" * 2_345_000), "image/tiff", "Commentaire (TIF, 2,3 Mo)"),
        (Media("image/svg+xml", b"<svg onload='alert(1)'/>"), "application/octet-stream", "image/svg+xml, 1 ko"),
        (Media("image/jpeg", PDF), "application/octet-stream", "type annoncé non confirmé : image/jpeg"),
        (Media("application/pdf", PNG), "application/octet-stream", "type annoncé non confirmé : application/pdf"),
        (Media("text/html", b"<script>"), "application/octet-stream", "type annoncé non confirmé : text/html"),
        (Media("image/png", b"<script>"), "application/octet-stream", "type annoncé non confirmé : image/png"),
        (Media(None, b"x"), "application/octet-stream", "type non précisé"),
    ],
)
def test_other_file_is_offered_for_download_with_a_type_it_really_has(item: Media, kind: str, said: str) -> None:
    page = to_html(with_media(("m", item), shows="m"))
    assert_inert(page)
    (link,) = lxml_html.document_fromstring(page).xpath("//*[@class='narrative']//a")
    head, _, data = link.get("href").partition(",")
    assert (head, b64decode(data)) == (f"data:{kind};base64", item.data)
    assert said in link.text


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (Media("image/png", None, "MSK"), "[Commentaire : masqué]"),
        (Media("image/png", None), "[Commentaire : contenu absent ou illisible]"),
        (Media("image/png", None, reference="https://example.fr/i.png"), "[Commentaire : https://example.fr/i.png]"),
    ],
)
def test_media_without_bytes_says_why(item: Media, said: str) -> None:
    shown = lxml_html.document_fromstring(to_html(with_media(("m", item), shows="m")))
    assert said in shown.find_class("narrative")[0].text_content()
    assert not shown.xpath("//img")


def test_media_that_no_narrative_shows_is_listed_and_a_missing_one_is_said() -> None:
    document = with_media((None, Media("application/pdf", PDF)), ("m", Media("image/png", PNG)), shows="absent")
    page = lxml_html.document_fromstring(to_html(document))
    assert "[Image ou fichier absent du document]" in page.find_class("narrative")[0].text_content()
    (listed,) = page.xpath("//section[h2='Pièces jointes']")
    assert [element.tag for element in listed[1:]] == ["p", "figure"]


def test_two_media_of_the_same_id_are_both_there() -> None:
    document = with_media(("m", Media("image/png", PNG)), ("m", Media("application/pdf", PDF)), shows="m")
    page = lxml_html.document_fromstring(to_html(document))
    assert len(page.xpath("//img")) == 1
    assert [a.get("download") for a in page.xpath("//section[h2='Pièces jointes']//a")] == ["piece-2.pdf"]


# --- unstructured body --------------------------------------------------------------------------------------------


def unstructured_page(body: Media) -> lxml_html.HtmlElement:
    document = Document(small_document().header, non_xml_body=body)
    (part,) = lxml_html.document_fromstring(to_html(document)).xpath("//section[h2='Document']")
    return part


def test_pdf_body_is_a_download() -> None:
    (link,) = unstructured_page(Media("application/pdf", PDF)).findall(".//a")
    assert (link.get("download"), link.text) == ("piece-1.pdf", "Télécharger : Document (PDF, 1 ko)")
    assert link.get("href") == f"data:application/pdf;base64,{b64encode(PDF).decode()}"


@pytest.mark.parametrize(
    "data", ["\ufeffPremière ligne\n  État <stable>\n\n".encode(), "Première ligne\r\n  État <stable>".encode("cp1252")]
)
def test_text_body_is_shown_line_by_line(data: bytes) -> None:
    (shown,) = unstructured_page(Media("text/plain", data)).findall("pre")
    assert shown.text == "Première ligne\n  État <stable>"


def test_image_body_is_shown_and_an_absent_one_said() -> None:
    jpeg = b"\xff\xd8\xff\xe0"
    assert unstructured_page(Media("image/jpeg", jpeg)).find(".//img") is not None
    assert "contenu absent ou illisible" in unstructured_page(Media("application/pdf")).text_content()


# --- header -------------------------------------------------------------------------------------------------------


def header_text(document: Document) -> str:
    return " ".join(lxml_html.document_fromstring(to_html(document)).text_content().split())


def facts(document: Document) -> dict[str, list[str]]:
    page = lxml_html.document_fromstring(to_html(document))
    return {div.findtext("dt"): [dd.text for dd in div.findall("dd")] for div in page.xpath("//dl/div")}


def people(document: Document, title: str = "Intervenants") -> list[list[str]]:
    page = lxml_html.document_fromstring(to_html(document))
    found = page.xpath("//section[h2=$title]//tbody/tr", title=title)
    return [
        [" | ".join(part.strip() for part in column.itertext() if part.strip()) for column in line] for line in found
    ]


def test_patient_is_identified_by_every_trait() -> None:
    document = small_document()
    patient = document.header.patient
    patient.ids.append(II("1.2.250.1.999.1", "P-1"))
    patient.name.families.append(NamePart("DURAND", "CL"))
    patient.addresses = [Address(house_number="3", street_name="rue des Lilas", postal_code="91000", city="ÉVRY")]
    patient.telecoms = [Telecom("tel:0144534551", "H"), Telecom("mailto:a.b@patient.mssante.fr")]
    patient.multiple_birth_order, patient.deceased_time = 2, "20260110"
    assert facts(document) | {
        "Nom de naissance": ["PATTERSON"],
        "Premier prénom de naissance": ["DOMINIQUE"],
        "Prénoms de naissance": ["DOMINIQUE MARIE-LOUISE"],
        "Nom utilisé": ["DURAND"],
        "Sexe": ["Féminin"],
        "Date de naissance": ["28/03/1979"],
        "Lieu de naissance": ["DOMPREMY"],
        "Code INSEE du lieu de naissance": ["51215"],
        "Matricule INS-NIR de test": ["279035121518989"],
        "Autre identifiant": ["P-1 (domaine 1.2.250.1.999.1)"],
        "Adresse": ["3 rue des Lilas, 91000 ÉVRY"],
        "Contact": ["Tél. (domicile) : 0144534551", "MSSanté : a.b@patient.mssante.fr"],
        "Naissance multiple": ["oui, rang 2"],
        "Décès": ["10/01/2026"],
    } == facts(document)
    assert "DOMINIQUE DURAND (nom de naissance : PATTERSON), née le 28/03/1979" in header_text(document)


def test_one_person_in_several_parts_is_one_row() -> None:
    assert people(small_document()) == [
        [
            "Auteur | 12/01/2026 à 09:00 | Responsable du document | 12/01/2026 à 09:00 | Exécutant de l'acte",
            "Dr Hélène LEMOINE | RPPS\u00a010101234564",
            "Cabinet des Tilleuls | FINESS\u00a0750099996 | Ambulatoire",
        ],
        ["Conservation du document", "", "Cabinet des Tilleuls | FINESS\u00a0750099996"],
    ]


def test_participants_relatives_and_guardians_are_told_with_their_parts() -> None:
    document = small_document()
    document.header.participants = [
        Participant(
            "INF",
            function_code=Code("PCP", display="Médecin traitant", original_text=Text("depuis peu")),
            time=Interval(low="202501"),
            name=PersonName([NamePart("CHÊNE")], [NamePart("Marc")], prefix="M"),
            telecoms=[Telecom("tel:0160000000", "WP"), Telecom(null_flavor="UNK")],
            organization=Organization(names=["Maison de santé"], addresses=[Address(null_flavor="MSK")]),
        ),
        Participant("PRF", function_code=Code(null_flavor="UNK"), name=PersonName(text="Équipe mobile")),
    ]
    document.header.informants = [
        Informant(related=RelatedEntity("NOK", Code("SIS", display="Sœur"), name=PersonName([NamePart("NESSI")]))),
        Informant(related=RelatedEntity("ECON", Code("SIS", display="Sœur"), name=PersonName([NamePart("NESSI")]))),
        Informant(related=RelatedEntity("PAT", Code("DAUC", display="Fille"), name=PersonName([NamePart("ROC")]))),
        Informant(related=RelatedEntity("PAT", name=document.header.patient.name)),
    ]
    document.header.patient.guardians = [Guardian(organization=Organization(names=["Tutelles du Val"]))]
    assert people(document)[1:3] == [
        [
            "Médecin traitant – depuis peu | depuis le 01/2025",
            "M. Marc CHÊNE",
            "Maison de santé",
            "Tél. (travail) : 0160000000 | adresse masquée",
        ],
        ["Exécutant", "Équipe mobile", "", ""],
    ]
    assert people(document, "Entourage") == [
        ["Représentant légal", "", "Tutelles du Val"],
        ["Personne de confiance | Personne à prévenir en cas d'urgence", "NESSI | Sœur", ""],
        ["Personne aidée", "ROC | Fille", ""],
        ["Patient", "DOMINIQUE PATTERSON", ""],
    ]


def test_codes_of_the_header_are_told_with_their_words_and_translations() -> None:
    def stated(label: str) -> Code:
        return Code("1", "1.2.3", label, original_text=Text("en bref"), translations=[Code("2", "1.2.4", "Scanner")])

    document = small_document()
    header = document.header
    header.code = stated("Compte rendu")
    header.authors[0].function_code = stated("Membre de l'équipe")
    header.service_events[0].performers[0].function_code = stated("Manipulateur")
    header.service_events[0].code = stated("Examen")
    header.orders = [Order([], Code(null_flavor="NA", original_text=Text("avis demandé")))]
    roles = people(document)[0][0]
    assert "Auteur – Membre de l'équipe – en bref – Scanner" in roles
    assert "Exécutant de l'acte – Manipulateur – en bref – Scanner" in roles
    shown = facts(document)
    assert shown["Acte documenté"][0].startswith("Examen – en bref – Scanner")
    assert shown["Type de document"] == ["Compte rendu – en bref – Scanner"]
    assert shown["Prescription"] == ["avis demandé"]


def test_device_author_and_replaced_version_are_told() -> None:
    document = small_document()
    document.header.authors[0].assigned.person = None
    document.header.authors[0].assigned.device = Device("Modèle A", "Logiciel B")
    document.header.related_documents = [RelatedDocument([II("2.25.7")], parent_version=1)]
    assert people(document)[0][1].startswith("Logiciel B – Modèle A")
    assert facts(document)["Remplace"] == ["2.25.7, version 1"]
    assert facts(document)["Type de document"] == ["Plan personnalisé de soins"]
    assert facts(document)["Confidentialité"] == ["Normal"]


def test_page_tells_its_languages() -> None:
    document = small_document()
    document.header.language = None
    page = lxml_html.document_fromstring(to_html(document, language="br"))
    assert (page.get("lang"), page.find_class("narrative")[0].get("lang")) == ("fr", "br")
    document.header.language = "fr-FR"
    assert lxml_html.document_fromstring(to_html(document)).find_class("narrative")[0].get("lang") == "fr-FR"


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        ("2021", "2021"),
        ("202108", "08/2021"),
        ("20210824", "24/08/2021"),
        ("2021082409", "24/08/2021 à 09 h"),
        ("202108240930", "24/08/2021 à 09:30"),
        ("20210824093014+0200", "24/08/2021 à 09:30"),
        ("20210824093014.5+0100", "24/08/2021 à 09:30 (UTC+01:00)"),
        ("20210824093014-0330", "24/08/2021 à 09:30 (UTC-03:30)"),
        ("hier", "hier"),
        (None, ""),
    ],
)
def test_time_is_told_as_it_was_written(ts: str | None, expected: str) -> None:
    assert words.time(ts) == expected


# --- whole documents ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_official_example_is_shown_whole(cisis: Path, name: str) -> None:
    document = read(example(cisis, name)).document
    page = to_html(document)
    assert_inert(page)
    shown = text_of(page)
    assert "279035121518989" in shown
    assert squeezed(document.header.title or "?") in shown
    for author in document.header.authors:
        assert author.assigned.person is not None
        assert squeezed(author.assigned.person.families[0].text) in shown
    for section in document.sections:
        assert squeezed(section.title or "?") in shown
        for leaf in leaves(section.text):
            assert squeezed(leaf) in shown


def test_official_tables_keep_every_cell(cisis: Path) -> None:
    document = read(example(cisis, PPS)).document
    page = lxml_html.document_fromstring(to_html(document))
    cells = [plain_text([td.text_content()]) for td in page.xpath("//*[@class='narrative']//*[self::td or self::th]")]
    expected = [
        plain_text(element.children)
        for section in document.sections
        for element in _walk(section.text)
        if element.tag in ("td", "th")
    ]
    assert sorted(cells) == sorted(expected)


def _walk(nodes: list[Node]) -> list[Element]:
    found = []
    for node in nodes:
        if isinstance(node, Element):
            found += [node, *_walk(node.children)]
    return found


def test_official_unstructured_example_offers_its_pdf(cisis: Path) -> None:
    document = read(example(cisis, UNSTRUCTURED_EXAMPLE)).document
    page = lxml_html.document_fromstring(to_html(document))
    (link,) = page.xpath("//a[@download='piece-1.pdf']")
    assert document.non_xml_body is not None
    assert b64decode(link.get("href").partition(",")[2]) == document.non_xml_body.data


@pytest.mark.parametrize("name", ["full", "full-ppcs", "markup-in-text", "long-accented-text", "every-kind-of-action"])
def test_plan_is_shown_whole(name: str) -> None:
    document = convert(plans.PLANS[name], plans.EMISSION).document
    page = to_html(document)
    assert_inert(page)
    shown = text_of(page)
    for section in document.sections:
        for leaf in leaves(section.text):
            assert squeezed(leaf) in shown


def test_same_document_gives_the_same_page() -> None:
    assert to_html(small_document()) == to_html(small_document())
