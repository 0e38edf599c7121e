"""Style sheets of documents: named by an instruction, or around a document that shows itself."""

from __future__ import annotations

import pytest

from relais.cda import style_sheets
from relais.cda.errors import Issue
from relais.cda.parsing import parse

DOCUMENT = '<ClinicalDocument xmlns="urn:hl7-org:v3"/>'
AROUND = """<?xml version="1.0"?>
<?xml-stylesheet type="text/xsl" href="#"?>
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:template match="/"><html><xsl:value-of select="//c:title" xmlns:c="urn:hl7-org:v3"/></html></xsl:template>
<a:Contenu xmlns:a="urn:asip-sante:ci-sis"><c:ClinicalDocument xmlns:c="urn:hl7-org:v3">
<c:title/></c:ClinicalDocument></a:Contenu></xsl:stylesheet>"""


def found(text: str) -> list[Issue]:
    return style_sheets.check(parse(text.encode()))


@pytest.mark.parametrize("href", ["CDA.XSL", "../style/cda.xsl", "#", "#style", "./a:b.xsl"])
def test_relative_address_may_be_named(href: str) -> None:
    assert found(f'<?xml-stylesheet type="text/xsl" href="{href}"?>{DOCUMENT}') == []


@pytest.mark.parametrize(
    "href",
    ["http://example.org/x.xsl", "//example.org/x.xsl", "/x.xsl", "file:///x.xsl", " HTTPS:x", "data:,x", "\\\\x\\y"],
)
def test_style_sheet_elsewhere_is_an_error_at_the_instruction(href: str) -> None:
    [issue] = found(f'<?xml version="1.0"?>\n<?xml-stylesheet type="text/xsl" href="{href}"?>{DOCUMENT}')
    assert (issue.severity, issue.code, issue.path) == ("error", "security", style_sheets.INSTRUCTION)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [('<?xml-stylesheet type="text/xsl"?>', "no href"), ('<?xml-stylesheet href="x.xsl"?>', "type of the instruction")],
)
def test_instruction_that_says_too_little(instruction: str, message: str) -> None:
    [issue] = found(instruction + DOCUMENT)
    assert message in issue.message


def test_other_instructions_do_not_matter() -> None:
    assert found(f'<?oxygen SCHSchema="http://example.org/x.sch"?><!-- {DOCUMENT} -->{DOCUMENT}') == []


def test_document_that_shows_itself_is_taken_out_with_its_lines() -> None:
    assert found(AROUND) == []
    tree = style_sheets.document_of(parse(AROUND.encode()))
    assert tree.getroot().tag == "{urn:hl7-org:v3}ClinicalDocument"
    assert [element.sourceline for element in tree.getroot().iter()] == [5, 6]
    assert [element.tag.partition("}")[2] for element in tree.getroot().xpath("//*")] == ["ClinicalDocument", "title"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (' version="1.0" xmlns:xsl', " xmlns:xsl", "no version"),
        ("xsl:template", "xsl:templates", "no template"),
        ("//c:title", "c:title[", "does not compile"),
        ("<xsl:template", '<xsl:import href="http://127.0.0.1:9/x.xsl"/><xsl:template', "loads another"),
        ("<xsl:template", '<xsl:include href="x.xsl"/><xsl:template', "loads another"),
        ('<?xml-stylesheet type="text/xsl" href="#"?>', "", "no xml-stylesheet instruction"),
    ],
)
def test_what_stands_around_a_document_is_a_style_sheet_that_stands_alone(old: str, new: str, message: str) -> None:
    [issue] = found(AROUND.replace(old, new))
    assert message in issue.message
