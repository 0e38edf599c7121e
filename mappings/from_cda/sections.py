"""Sections → Composition.section: title, code and narrative of each, whatever it is (cda-documents §9.1)."""

from __future__ import annotations

from relais.cda.model import Section
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import concept
from relais.mappings.from_cda.narrative import XHTML, xhtml

EMPTY = f'<div xmlns="{XHTML}">Section sans texte.</div>'


def composition_section(section: Section, entries: list[Resource]) -> Resource:
    """The section with its narrative and subsections; `entries` are the resources made of it."""
    div = xhtml(section.text)
    found: Resource = {
        "title": section.title,
        "code": concept(section.code),
        "text": {"status": "additional", "div": div} if div else None,
        "entry": entries,
        "section": [composition_section(nested, []) for nested in section.sections],
    }
    if not (div or entries or section.sections):
        found["text"] = {"status": "empty", "div": EMPTY}
    return {name: content for name, content in found.items() if content}
