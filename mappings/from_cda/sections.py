"""Sections → Composition.section: title, code, authors and narrative of each, whatever it is."""

from __future__ import annotations

from relais.cda.model import Section
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import concept
from relais.mappings.from_cda.narrative import XHTML, xhtml
from relais.mappings.from_cda.parties import party
from relais.mappings.from_cda.reading import SECTION_RULE, Reading

EMPTY = f'<div xmlns="{XHTML}">Section sans texte.</div>'


def composition_section(reading: Reading, section: Section, path: str, entries: list[Resource] | None) -> Resource:
    """The section with its narrative and subsections; `entries` are the resources made of it, None when nothing reads
    its entries."""
    div = xhtml(section.text)
    authors = [party(reading, author.assigned, f"{path}/author") for author in section.authors]
    nested = [
        composition_section(reading, one, f"{path}/component[{index}]/section", None)
        for index, one in enumerate(section.sections, 1)
    ]
    if section.entries and entries is None:
        reading.inform(path, "only the narrative is kept: no mapping is known for its entries", SECTION_RULE)
    if section.id is not None:
        reading.inform(f"{path}/id", "the section of a Composition has no identifier", SECTION_RULE)
    found: Resource = {
        "title": section.title,
        "code": concept(section.code),
        "author": [author for author in authors if author],
        "text": {"status": "additional", "div": div} if div else None,
        "entry": entries,
        "section": nested,
    }
    if not (div or entries or nested):
        found["text"] = {"status": "empty", "div": EMPTY}
    return {name: content for name, content in found.items() if content}
