"""Sections of a Composition that no resource holds → narrative sections, as an imported document has them.

A section that states entries is made again from these; one without, or whose entries no mapping reads, is known by its
words alone (CDA R2: the narrative of a section says all that a reader must know).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from relais.cda.errors import UnreadableError
from relais.cda.model import II, Section
from relais.cda.narrative import Node
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import codings, concept_text
from relais.mappings.to_cda.xhtml import narrative

RULE = "HL7 CDA R2, narrative of a section"
MADE_AGAIN = "sections with entries are made again from these: what only their words say is not written"
_STATED = frozenset({"title", "code", "text", "entry", "section", "mode", "emptyReason", "orderedBy"})

_READ = frozenset(
    {
        *("Appointment", "Binary", "CarePlan", "CareTeam", "Communication", "CommunicationRequest", "Condition"),
        *("Consent", "Coverage", "Device", "DocumentReference", "Encounter", "Goal", "HealthcareService", "Location"),
        *("NutritionOrder", "Observation", "Organization", "Patient", "Practitioner", "PractitionerRole"),
        *("Provenance", "RelatedPerson", "Schedule", "ServiceRequest", "Slot", "Task"),
    }
)
"""Types of which the mappings write elements of CDA."""


def kept_sections(conversion: Conversion, composition: Resource) -> list[Section]:
    """The sections of the Composition that have words and no entry that is written, in order, with their subsections.

    Title, code and narrative are written; the templates are not, since what they demand of entries is not there (said).
    """
    return list(_kept(conversion, composition, composition, "Composition"))


def _kept(conversion: Conversion, composition: Resource, holder: Resource, path: str) -> Iterator[Section]:
    """What `holder` has of such sections; those inside a section with entries stand by themselves."""
    for index, stated in enumerate(holder.get("section", ())):
        place = f"{path}.section[{index}]"
        unread = list(_unread(conversion, stated, composition, place))
        has_words = stated.get("section") or stated.get("text", {}).get("status", "empty") != "empty"
        if stated.get("entry") and (len(unread) < len(stated["entry"]) or not has_words):
            for entry in unread:
                conversion.inform(entry, "no mapping reads it: not written", RULE)
            if stated.get("text", {}).get("status") == "additional":
                conversion.inform("Composition.section.text", MADE_AGAIN, RULE)  # said once for all sections
            yield from _kept(conversion, composition, stated, place)
        elif has_words:
            yield _section(conversion, stated, place)


def _unread(conversion: Conversion, stated: Resource, composition: Resource, path: str) -> Iterator[str]:
    """The places of the entries of a section that no mapping reads."""
    for index, entry in enumerate(stated.get("entry", ())):
        target = conversion.resources.resolve(entry, composition)
        if target is None or target["resourceType"] not in _READ:
            yield f"{path}.entry[{index}]"


def _section(conversion: Conversion, stated: Resource, path: str) -> Section:
    section_id = conversion.computed_id("section", "kept", path)
    conversion.inform(path, "no resource holds it: written as narrative, without template nor entries", RULE)
    for name in sorted(stated.keys() - _STATED):
        conversion.inform(f"{path}.{name}", "not written: the section is narrative only", RULE)
    codes = codings(stated.get("code"))
    return Section(
        id=section_id,
        code=replace(codes[0], translations=codes[1:]) if codes else None,
        title=stated.get("title") or concept_text(stated.get("code")) or None,
        text=_narrative(conversion, stated.get("text", {}), section_id, path),
        sections=[
            _section(conversion, one, f"{path}.section[{index}]") for index, one in enumerate(stated.get("section", ()))
        ],
    )


def _narrative(conversion: Conversion, text: Resource, section_id: II, path: str) -> list[Node]:
    number = (section_id.root or "").rpartition(".")[2][-8:]
    try:
        return narrative(text["div"], f"s{number}-") if text.get("div") else []
    except UnreadableError as error:
        conversion.refuse(f"{path}.text.div", str(error.issues[0].message), "FHIR R4 Narrative", "structure")
        return []
