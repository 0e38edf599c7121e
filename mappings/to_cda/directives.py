"""Consent, Observation, DocumentReference → section 2 of the PPS-PAERPA 2022.01, *directives anticipées*."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda import sections
from relais.cda.media import PDF
from relais.cda.model import Interval, Section, Statement
from relais.cda.narrative import Element, Node, table
from relais.mappings import terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.consents import consents, is_directive, is_directive_consent
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import concept_text, from_jdv, period
from relais.mappings.to_cda.enclosures import read_media
from relais.mappings.to_cda.prose import french_date, french_period, marked

RULE = "CI-SIS PPS-PAERPA 2022.01, section 2"
DIRECTIVES, OTHER_DIRECTIVE = "42348-3", "75793-0"
_DOCUMENT_CODES = frozenset({DIRECTIVES, OTHER_DIRECTIVE})
_EXISTS = {"active": True, "inactive": False, "rejected": False}
_FACTS = frozenset({"final", "amended", "corrected"})


def directive_section(conversion: Conversion) -> Section | None:
    """Section 2; None when the resources record nothing: the lack of a resource never means "no directive"."""
    entries: list[Statement] = []
    rows: list[list[list[Node]]] = []
    for entry, row in _directives(conversion):
        entries.append(entry)
        rows.append(row)
    if not entries:
        return None
    text: list[Node] = [table(("Directive", "Existence", "Date", "Document"), rows)]
    return sections.section(sections.ADVANCE_DIRECTIVES, conversion.computed_id("section", "directives"), text, entries)


def _directives(conversion: Conversion) -> Iterator[tuple[Statement, list[list[Node]]]]:
    for number, (resource, path, exists) in enumerate(_facts(conversion), 1):
        yield _entry(conversion, resource, path, exists, f"directive-{number}")


def _facts(conversion: Conversion) -> Iterator[tuple[Resource, str, bool]]:
    for consent, path in consents(conversion):
        if is_directive_consent(consent):
            exists = _EXISTS.get(consent.get("status", ""))
            if exists is None:
                conversion.inform(f"{path}.status", "neither in force nor ended: not written", RULE)
            else:
                yield consent, path, exists
    for observation, path in conversion.shared("Observation"):
        is_fact = observation.get("status") in _FACTS and is_directive([observation.get("code", {})])
        if is_fact and conversion.same_patient(observation, "subject", path):
            conversion.reached.add(id(observation))
            if "valueBoolean" in observation:
                yield observation, path, observation["valueBoolean"]
            else:
                conversion.refuse(f"{path}.valueBoolean", "whether the directive exists", RULE)
    for document, path in conversion.shared("DocumentReference"):
        kinds = [document.get("type", {}), *document.get("category", ())]
        is_current = document.get("status") == "current" and is_directive(kinds)
        if is_current and conversion.same_patient(document, "subject", path):
            conversion.reached.add(id(document))
            yield document, path, True


def _entry(
    conversion: Conversion, resource: Resource, path: str, exists: bool, narrative_id: str
) -> tuple[Statement, list[list[Node]]]:
    concepts = [*resource.get("category", ()), resource.get("code", {}), resource.get("type", {})]
    code = from_jdv("directive", concepts) or terminology.coded("directive", DIRECTIVES)
    attachment, place = _attachment(conversion, resource, path)
    media = _media(conversion, attachment, resource, place, exists, narrative_id)
    if media is not None and code.code not in _DOCUMENT_CODES:
        code = terminology.coded("directive", OTHER_DIRECTIVE)
    time, when = _time(conversion, resource, path)
    entry = sections.advance_directive(
        conversion.entry_id(resource, path), code, text=narrative_id, time=time, exists=exists, media=media
    )
    words = "Oui" if exists else "Non"
    return entry, [
        [marked(code.display or "", narrative_id)],
        [words],
        [when],
        [*_document_cell(resource, attachment, media)],
    ]


def _time(conversion: Conversion, resource: Resource, path: str) -> tuple[Interval | None, str]:
    bounds = resource.get("provision", {}).get("period") or resource.get("effectivePeriod")
    if bounds:
        return period(conversion, bounds, f"{path}.period"), french_period(bounds)
    moment = resource.get("dateTime") or resource.get("effectiveDateTime") or resource.get("date")
    value = conversion.time(moment, f"{path}.dateTime")
    return (Interval(value=value) if value else None), french_date(moment)


def _attachment(conversion: Conversion, resource: Resource, path: str) -> tuple[Resource, str]:
    contents = resource.get("content", ())
    if len(contents) > 1:
        conversion.inform(f"{path}.content", "a directive has one document: the first one is written", RULE)
    if contents:
        return contents[0].get("attachment", {}), f"{path}.content[0].attachment"
    return resource.get("sourceAttachment", {}), f"{path}.sourceAttachment"


def _media(
    conversion: Conversion, attachment: Resource, container: Resource, path: str, exists: bool, narrative_id: str
) -> Statement | None:
    """The PDF of a directive in force, in the attachment or in the Binary that it points to.

    Anything that is not what it says to be is refused; what is not written is said.
    """
    binary = conversion.resources.resolve(attachment.get("url"), container)
    holder = binary if binary is not None and binary.get("resourceType") == "Binary" else attachment
    if not holder.get("data"):
        if "url" in attachment and not attachment["url"].startswith("https://"):
            conversion.inform(f"{path}.url", "no address that a receiver can follow: not written", RULE)
        return None
    if not exists:
        conversion.inform(f"{path}.data", "the document of a directive that is not in force: not written", RULE)
        return None
    media = read_media(conversion, holder, attachment, path)
    if media is not None and media.media_type != PDF:
        conversion.refuse(f"{path}.contentType", "a directive is attached as PDF", RULE, "value")
        return None
    return sections.attached_media(f"{narrative_id}-document", media) if media else None


def _document_cell(resource: Resource, attachment: Resource, media: Statement | None) -> list[Node]:
    title = attachment.get("title") or concept_text(resource.get("type")) or "Document"
    if media is not None and media.xml_id:
        return [title, " ", Element("renderMultiMedia", {"referencedObject": media.xml_id})]
    url = attachment.get("url", "")
    return [Element("linkHtml", {"href": url}, [title])] if url.startswith("https://") else []
