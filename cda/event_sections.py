"""Sections and entries about events and about documents that go with them, by template.

CI-SIS content models FR-Evenements (published with the volet Dossier usager informatisé), FR-Documents-ajoutes and
FR-Documents-references. Builders know the fixed parts of a template, as in `sections`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec.structs import replace

from relais.cda import templates
from relais.cda.model import (
    II,
    Address,
    Code,
    EntryAuthor,
    EntryParticipant,
    ExternalReference,
    Informant,
    Interval,
    Media,
    Performer,
    PersonName,
    Qualifier,
    Relationship,
    Statement,
    Telecom,
    Text,
    Timestamp,
    Value,
)
from relais.cda.sections import SectionModel, attached_media, comment, pointer, roots, simple_observation

Mood = Literal["INT", "EVN"]
"""Moods of FR-Evenement: planned, happened."""

EVENTS = SectionModel(templates.EVENTS, "89793-4", "Evènements", "Évènements")
ATTACHED_DOCUMENTS = SectionModel(templates.ATTACHED_DOCUMENTS, "55107-7", "Documents ajoutés", "Documents joints")
REFERENCED_DOCUMENTS = SectionModel(
    templates.REFERENCED_DOCUMENTS, "55107-7", "Documents référencés", "Documents référencés"
)

AGENDA = Code("GEN-367", templates.TERMINOLOGIE_CISIS, "Agenda de l'usager")
RESOURCE_USED = Code("GEN-349", templates.TERMINOLOGIE_CISIS, "Ressource utilisée")
STATUS_MOTIVE = Code("GEN-348", templates.TERMINOLOGIE_CISIS, "Motif du statut métier")
STATUS = Code("106199-3", templates.LOINC, "Statut", "LOINC")
LAST_UPDATE = Code("106177-9", templates.LOINC, "Date de dernière mise à jour", "LOINC")


# --- the event ------------------------------------------------------------------------------------------------


def event(
    ids: list[II],
    code: Code,
    *,
    mood: Mood,
    text: str,
    status: str,
    time: Interval | None,
    priority: Code | None = None,
    performers: Sequence[Performer] = (),
    authors: Sequence[EntryAuthor] = (),
    informants: Sequence[Informant] = (),
    participants: Sequence[EntryParticipant] = (),
    observations: Iterable[Statement] = (),
    remark: str | None = None,
) -> Statement:
    """FR-Evenement. `text` and `remark` (FR-Commentaire-ER) are IDs of the narrative; `status` is an ActStatus."""
    relationships = [Relationship("COMP", observation, inversion=False) for observation in observations]
    if remark is not None:
        relationships.append(Relationship("SUBJ", comment(remark), inversion=True))
    return Statement(
        kind="encounter",
        class_code="ENC",
        mood_code=mood,
        template_ids=roots(templates.EVENT[mood]),
        ids=ids,
        code=code,
        text=pointer(text),
        status=status,
        time=time,
        priority=priority,
        performers=list(performers),
        authors=list(authors),
        informants=list(informants),
        participants=list(participants),
        relationships=relationships,
    )


def business_status(
    entry_id: II, status: Code, *, text: str, time: Interval | None, motive: Code | None = None
) -> Statement:
    """FR-Statut: the status of an event as people know it (JDV_J281); ANNULE demands a `motive`."""
    if motive is not None:
        status = replace(status, qualifiers=[Qualifier(STATUS_MOTIVE, motive)])
    return _detail(entry_id, STATUS, status, text=text, time=time, template_ids=templates.EVENT_STATUS)


def resource_used(entry_id: II, resource: Code, *, text: str) -> Statement:
    """FR-Simple-Observation GEN-349: a device or another resource that the event takes up."""
    return _detail(entry_id, RESOURCE_USED, resource, text=text)


def last_update(entry_id: II, time: str, *, text: str) -> Statement:
    """FR-Simple-Observation 106177-9: when the event was last changed."""
    return _detail(entry_id, LAST_UPDATE, Timestamp(time), text=text)


def _detail(
    entry_id: II,
    code: Code,
    value: Value,
    *,
    text: str,
    time: Interval | None = None,
    template_ids: tuple[str, ...] = templates.SIMPLE_OBSERVATION,
) -> Statement:
    return simple_observation(entry_id, code, [value], text=text, time=time, negation=None, template_ids=template_ids)


# --- where, and under whose responsibility ----------------------------------------------------------------------


def location(
    name: str, *, ids: Sequence[II] = (), addresses: Sequence[Address] = (), telecoms: Sequence[Telecom] = ()
) -> EntryParticipant:
    """FR-Participant: the place of an event."""
    return EntryParticipant(
        type_code="LOC",
        template_ids=roots(templates.PARTICIPANT),
        role_class="SDLOC",
        ids=list(ids),
        addresses=list(addresses),
        telecoms=list(telecoms),
        entity_class="PLC",
        name=PersonName(text=name),
    )


def responsible_structure(name: str, structure_id: II | None) -> EntryParticipant:
    """FR-Participant: the structure that answers for an event."""
    return EntryParticipant(
        type_code="RESP",
        template_ids=roots(templates.PARTICIPANT),
        name=PersonName(text=name),
        scoping_id=structure_id or II(null_flavor="UNK"),
        scoping_description=name,
    )


# --- documents ------------------------------------------------------------------------------------------------


def attached_document(
    entry_id: II, type_id: II, kind: Code, media: Media, *, text: str, xml_id: str, time: str | None
) -> Statement:
    """FR-Document-attache: a document and its bytes.

    `kind` says what it is, `text` is the ID of its title in the narrative, `xml_id` what renderMultiMedia refers to,
    `time` when the document was made.
    """
    described = simple_observation(
        type_id,
        Code("69764-9", templates.LOINC, "Document", "LOINC"),
        [kind],
        text=text,
        time=Interval(value=time) if time else Interval(null_flavor="NA"),
        negation=None,
        template_ids=templates.ATTACHED_DOCUMENT_TYPE,
    )
    return Statement(
        kind="organizer",
        class_code="CLUSTER",
        mood_code="EVN",
        template_ids=roots(templates.ATTACHED_DOCUMENT),
        ids=[entry_id],
        code=Code("55107-7", templates.LOINC, "Document attaché", "LOINC"),
        status="completed",
        relationships=[Relationship("COMP", described), Relationship("COMP", attached_media(xml_id, media))],
    )


def external_document(
    entry_id: II, document_ids: Sequence[II], *, text: str, kind: Code | None = None, url: str | None = None
) -> Statement:
    """FR-References-externes: a document that is elsewhere, by its ids and by its address."""
    reference = ExternalReference("REFR", ids=list(document_ids), code=kind, text=Text(reference=url) if url else None)
    return Statement(
        kind="act",
        class_code="ACT",
        mood_code="EVN",
        template_ids=roots(templates.EXTERNAL_REFERENCES),
        ids=[entry_id],
        code=Code(null_flavor="NA"),
        text=pointer(text),
        references=[reference],
    )
