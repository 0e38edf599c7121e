"""The PDF of a document: complete, archivable, the same each time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import unicodedata
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from pypdf import PdfReader

from relais.cda import pdf
from relais.cda.errors import RelaisError
from relais.cda.model import Document, Media, Statement
from relais.cda.narrative import Element, Node, bullet_list, content, paragraph, table
from relais.cda.pdf import to_pdf
from relais.cda.presentation.nodes import clean
from relais.cda.reader import read
from relais.mappings.to_cda import convert
from support import plans
from support.documents import small_document
from support.narratives import HOSTILE_TEXTS, document_with, leaves, narratives
from support.rules import EXAMPLES, UNSTRUCTURED, example

LONG_WORD = 10
VERAPDF = os.environ.get("VERAPDF_JAR", "")
STRUCTURED = [name for name in EXAMPLES if name != UNSTRUCTURED]


def squeezed(text: str) -> str:
    return "".join(text.split())


def text_of(data: bytes) -> str:
    """The text of a PDF without white space: where lines and cells end is up to the layout."""
    return squeezed("".join(page.extract_text() for page in PdfReader(BytesIO(data)).pages))


def assert_laid_out(narrative: list[Node], text: str) -> None:
    """Every word is in the text of the page; a long one may be broken, among the lines of the cells beside it."""
    for leaf in leaves(narrative):
        for word in clean(unicodedata.normalize("NFC", leaf)).split():
            shown = "".join(sign if sign in text else f"[U+{ord(sign):04X}]" for sign in word)
            assert len(shown) > LONG_WORD or shown in text


def conformance(data: bytes) -> str:
    """The PDF/A part and level that the metadata declare."""
    metadata = PdfReader(BytesIO(data)).xmp_metadata
    assert metadata is not None
    return f"{metadata.pdfaid_part}{metadata.pdfaid_conformance}"


def refusal(document: Document) -> tuple[str, str]:
    with pytest.raises(RelaisError) as caught:
        to_pdf(document)
    (issue,) = caught.value.issues
    return issue.code, issue.path


def unstructured(media_type: str, data: bytes | None) -> Document:
    return Document(small_document().header, non_xml_body=Media(media_type, data))


def image(mode: str, kind: str, size: tuple[int, int] = (40, 20), **options: object) -> bytes:
    written = BytesIO()
    Image.new(mode, size).save(written, kind, **options)
    return written.getvalue()


def with_image(media_type: str, data: bytes) -> Document:
    document = document_with([Element("renderMultiMedia", {"referencedObject": "m"})])
    media = Statement("observationMedia", "OBS", "EVN", xml_id="m", values=[Media(media_type, data)])
    document.sections[0].entries = [media]
    return document


def images_in(data: bytes) -> list[Image.Image]:
    return [found.image for page in PdfReader(BytesIO(data)).pages for found in page.images if found.image]


# --- content ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRUCTURED)
def test_official_example_is_laid_out_whole(cisis: Path, name: str) -> None:
    document = read(example(cisis, name)).document
    found = to_pdf(document)
    text = text_of(found)
    for expected in ("279035121518989", "PAT-TROIS", "28/03/1979", document.header.custodian.name or "?"):
        assert squeezed(expected) in text
    for section in document.sections:
        assert squeezed(section.title or "?") in text
        assert_laid_out(section.text, text)


@pytest.mark.parametrize("name", ["minimal", "full", "full-ppcs", "markup-in-text", "long-accented-text"])
def test_plan_is_laid_out_whole(name: str) -> None:
    document = convert(plans.PLANS[name], plans.EMISSION).document
    found = to_pdf(document)
    text = text_of(found)
    for section in document.sections:
        assert_laid_out(section.text, text)


def test_page_holds_header_narrative_notes_and_names_the_patient_on_every_page() -> None:
    narrative: list[Node] = [
        paragraph("Œdème ≥ 3 cm, 5 µg, Ÿ, 20 €", Element("footnote", {}, ["Note de bas de page"])),
        bullet_list([["un"], ["deux"]]),
        table(["Colonne"], [[[f"ligne {number}"]] for number in range(100)]),
        Element("linkHtml", {"href": "https://example.fr/a"}, ["lien"]),
    ]
    reader = PdfReader(BytesIO(to_pdf(document_with(narrative))))
    text = squeezed("".join(page.extract_text() for page in reader.pages))
    for expected in (
        "Œdème ≥ 3 cm, 5 µg, Ÿ, 20 €[1]",
        "Note de bas de page",
        "ligne 99",
        "lien (https://example.fr/a)",
    ):
        assert squeezed(expected) in text
    for expected in ("Dr Hélène LEMOINE", "RPPS 10101234564", "Cabinet des Tilleuls", "279035121518989", "Commentaire"):
        assert squeezed(expected) in text
    assert len(reader.pages) > 2
    for page in reader.pages[1:]:
        assert "DOMINIQUE PATTERSON, née le 28/03/1979" in page.extract_text()
        assert "Colonne" in page.extract_text() or page is reader.pages[-1]
    links = [annotation.get_object()["/A"]["/URI"] for page in reader.pages for annotation in page.get("/Annots", [])]
    assert links == ["https://example.fr/a"]


def test_page_holds_nothing_but_the_document() -> None:
    document = document_with(["texte de la section"])
    title, people = (
        "Plan personnalisé de santé Plan personnalisé de soins · 12/01/2026 à 09:00 · version 1",
        "Intervenants",
    )
    patient = "DOMINIQUE PATTERSON, née le 28/03/1979 Nom de naissance PATTERSON"
    text = text_of(to_pdf(document))
    assert text.startswith(squeezed(title + patient))
    assert text.index(squeezed("51215")) < text.index(people)
    assert squeezed("Commentaire texte de la section Contexte Acte documenté") in text
    assert text.endswith(squeezed("/ 2022.01 Plan personnalisé de soins · 12/01/2026 à 09:00 · version 1 Page 1 sur 1"))


def test_footnote_keeps_its_paragraphs_lists_and_tables() -> None:
    note = Element("footnote", {}, ["avant ", table(["titre"], [[["cellule"]]]), bullet_list([["point"]]), "après"])
    assert "[1]avanttitrecellule•pointaprès" in text_of(to_pdf(document_with([note])))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(narratives)
def test_any_narrative_is_laid_out_with_all_its_text(narrative: list[Node]) -> None:
    text = text_of(to_pdf(document_with(narrative)))
    for leaf in leaves(narrative):
        for word in re.findall("[a-zé]+", clean(leaf)):
            assert len(word) > LONG_WORD or word in text


@pytest.mark.parametrize("text", [*HOSTILE_TEXTS, "= Titre", "- point", "#sys.inputs", "\\u{41}", "https://x.fr // y"])
def test_text_is_never_evaluated(text: str) -> None:
    assert squeezed(text) in text_of(to_pdf(document_with([text])))


def test_character_that_no_font_has_is_told_by_its_number() -> None:
    text = text_of(to_pdf(document_with(["sourire \U0001f600, puce \uf0b7, e\u0301, \ufffe"])))
    assert "sourire[U+1F600],puce[U+F0B7],é,�" in text


def test_long_word_is_broken_and_stays_whole_in_the_text() -> None:
    word = "mot" * 100
    found = to_pdf(document_with([table(["a", "b", "c"], [[[word], ["x"], ["y"]]])]))
    text = text_of(found)
    assert "\u200b" not in text
    assert text.count("mot") >= 80  # some are cut at the end of a line
    assert word in text_of(to_pdf(document_with([word])))


# --- form ---------------------------------------------------------------------------------------------------------


def test_pdf_declares_a_1a_is_tagged_and_embeds_its_fonts() -> None:
    data = to_pdf(document_with([content("gras", style="Bold"), " et ☐ ≥"]))
    reader = PdfReader(BytesIO(data))
    assert data.startswith(b"%PDF-1.4")
    assert conformance(data) == "1A"
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
    assert reader.trailer["/Root"]["/Lang"] == "fr"
    assert reader.metadata is not None
    assert reader.metadata.title == "Plan personnalisé de santé"
    assert reader.metadata.creation_date is not None
    assert reader.metadata.creation_date.isoformat() == "2026-01-12T08:00:00+00:00"
    fonts = [font.get_object() for page in reader.pages for font in page["/Resources"]["/Font"].values()]
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
        assert descriptor.keys() & {"/FontFile2", "/FontFile3"}
    assert not reader.attachments


def test_text_too_long_for_tags_is_laid_out_at_level_b() -> None:
    pieces = [content(f"mot{number} ", style="Bold" if number % 2 else "Italics") for number in range(9_000)]
    data = to_pdf(document_with([paragraph(*pieces)]))
    assert conformance(data) == "1B"
    assert "mot8999" in text_of(data)


def test_same_document_gives_the_same_bytes() -> None:
    document = document_with([table(["a"], [[["1"]]])])
    assert to_pdf(document) == to_pdf(document_with([table(["a"], [[["1"]]])]))
    assert to_pdf(document) != to_pdf(document_with([table(["a"], [[["2"]]])]))


@pytest.mark.skipif(
    not VERAPDF or not shutil.which("java"), reason="VERAPDF_JAR names no veraPDF jar (greenfield-apps)"
)
def test_verapdf_finds_every_kind_of_page_conformant(tmp_path: Path, cisis: Path) -> None:
    documents = [read(example(cisis, name)).document for name in STRUCTURED]
    documents += [
        convert(plans.PLANS[name], plans.EMISSION).document for name in ("minimal", "full", "long-accented-text")
    ]
    documents += [document_with([text]) for text in HOSTILE_TEXTS]
    documents += [with_image("image/png", image("LA", "PNG")), with_image("image/jpeg", image("CMYK", "JPEG"))]
    documents += [unstructured("text/plain", b"a  b"), unstructured("image/tiff", image("RGB", "TIFF"))]
    documents += [document_with([Element("linkHtml", {"href": "https://example.fr"}, ["\U0001f600 ☐ سلام"])])]
    for number, document in enumerate(documents):
        (tmp_path / f"{number}.pdf").write_bytes(to_pdf(document))
    command = ["java", "-cp", VERAPDF, "org.verapdf.apps.GreenfieldCliWrapper", "--format", "text", "-f", "1a"]
    report = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert report.count("PASS ") == len(documents), report


# --- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/png", image("RGB", "PNG")),
        ("image/png", image("RGBA", "PNG")),
        ("image/png", image("LA", "PNG")),
        ("image/png", image("I;16", "PNG")),
        ("image/jpeg", image("RGB", "JPEG")),
        ("image/jpeg", image("L", "JPEG")),
        ("image/jpeg", image("CMYK", "JPEG")),
        ("image/gif", image("P", "GIF", transparency=0)),
        ("image/jpeg", image("RGB", "PNG")),
        ("image/png", image("RGB", "TIFF")),
        ("image/png", image("RGB", "PNG", size=(10, 6000))),
        ("image/png", image("RGB", "PNG", size=(6000, 10))),
    ],
)
def test_image_is_shown_without_transparency(media_type: str, data: bytes) -> None:
    found = to_pdf(with_image(media_type, data))
    assert conformance(found) == "1A"
    assert [picture.size for picture in images_in(found)] == [Image.open(BytesIO(data)).size]


def test_transparent_image_is_shown_on_white_and_a_turned_one_upright() -> None:
    (white,) = images_in(to_pdf(with_image("image/png", image("RGBA", "PNG"))))
    assert white.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    (turned,) = images_in(to_pdf(with_image("image/jpeg", image("RGB", "JPEG", exif=exif))))
    assert turned.size == (20, 40)


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/png", image("RGB", "PNG")[:50]),
        ("image/jpeg", image("RGB", "JPEG", size=(400, 400))[:400]),
        ("application/pdf", image("RGB", "PNG")),
        ("image/png", image("1", "PNG", size=(8000, 7000))),
        ("image/svg+xml", b"<svg/>"),
        ("application/pdf", b"%PDF-1.4\n%%EOF"),
    ],
)
def test_file_that_is_no_readable_image_is_told(media_type: str, data: bytes) -> None:
    found = to_pdf(with_image(media_type, data))
    assert images_in(found) == []
    assert squeezed("Fichier joint au document, non reproduit ici : Commentaire (") in text_of(found)


# --- unstructured documents -----------------------------------------------------------------------------------------


def test_pdf_of_an_unstructured_document_is_the_very_one_it_holds(cisis: Path) -> None:
    document = read(example(cisis, UNSTRUCTURED)).document
    assert document.non_xml_body is not None
    assert to_pdf(document) == document.non_xml_body.data


def test_text_and_image_bodies_are_laid_out() -> None:
    assert "Résultat:3,5g/l" in text_of(to_pdf(unstructured("text/plain", "Résultat :\n   3,5 g/l".encode())))
    frames = [Image.new("RGB", (30, 30)), Image.new("L", (20, 20))]
    written = BytesIO()
    frames[0].save(written, "TIFF", save_all=True, append_images=frames[1:])
    assert [found.size for found in images_in(to_pdf(unstructured("image/tiff", written.getvalue())))] == [
        (30, 30),
        (20, 20),
    ]


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("text/rtf", b"{\\rtf1 x}"),
        ("image/tiff", b"II*\0"),
        ("image/jpeg", None),
        ("application/pdf", b"not a PDF"),
        ("application/pdf", None),
        ("text/plain", None),
    ],
)
def test_body_that_cannot_be_shown_is_refused(media_type: str, data: bytes | None) -> None:
    assert refusal(unstructured(media_type, data)) == (
        "not-supported",
        "/ClinicalDocument/component/nonXMLBody/text",
    )


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", [None, "hier"])
def test_document_without_date_is_refused(date: str | None) -> None:
    document = small_document()
    document.header.effective_time = date
    assert refusal(document) == ("required", "/ClinicalDocument/effectiveTime/@value")


def test_document_too_long_is_refused() -> None:
    assert refusal(document_with(["x" * pdf.MAX_PAGE])) == ("too-costly", "/ClinicalDocument/component")


def test_failed_layout_is_told_without_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "_template", lambda: b'#panic(json("page.json").patient)')
    with pytest.raises(RelaisError) as caught:
        to_pdf(small_document())
    assert "PATTERSON" not in str(caught.value)
    assert "not-supported" in {issue.code for issue in caught.value.issues}


def test_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "find_spec", lambda name: None)
    with pytest.raises(RelaisError, match=r"pip install 'relais\[pdf\]'"):
        to_pdf(small_document())
