"""Sections → Composition.section: title, code, authors and narrative of each, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda.model import Section
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import stated_concept
from relais.mappings.from_cda.narrative import XHTML, xhtml
from relais.mappings.from_cda.parties import party
from relais.mappings.from_cda.reading import SECTION_RULE, Reading

EMPTY = f'<div xmlns="{XHTML}">Section sans texte.</div>'


def composition_section(reading: Reading, section: Section, path: str, entries: list[Resource] | None) -> Resource:
    """The section with its narrative and subsections; `entries` are the resources made of it, None when nothing reads
    its entries."""
    div = xhtml(section.text)
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
        "code": stated_concept(reading, section.code, f"{path}/code"),
        "author": list(_authors(reading, section, path)),
        "text": {"status": "additional", "div": div} if div else None,
        "entry": entries,
        "section": nested,
    }
    if not (div or entries or nested):
        found["text"] = {"status": "empty", "div": EMPTY}
    return {name: content for name, content in found.items() if content}


def _authors(reading: Reading, section: Section, path: str) -> Iterator[Resource]:
    for index, author in enumerate(section.authors, 1):
        place = f"{path}/author[{index}]"
        if author.time is not None:
            reading.inform(f"{place}/time", "the author of a section has no time of its own", SECTION_RULE)
        if reference := party(reading, author.assigned, f"{place}/assignedAuthor"):
            yield reference
        else:
            reading.warn(place, "names nobody: left out", SECTION_RULE, "required")
