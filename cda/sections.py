"""Sections and entries of CI-SIS content models, by template, from values that are already CDA.

CI-SIS "Modèles de contenus CDA" and volet PPS-PAERPA 2022.01. Builders know the
fixed parts of a template (templateIds, classCode, moodCode, fixed codes); what varies is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from relais.cda import templates
from relais.cda.model import (
    II,
    Address,
    Boolean,
    Code,
    EntryAuthor,
    EntryParticipant,
    Interval,
    Media,
    PersonName,
    Relationship,
    Section,
    Statement,
    Telecom,
    Text,
    Value,
)
from relais.cda.narrative import Node

UNKNOWN_TIME = "UNK"


class SectionModel(NamedTuple):
    """What is fixed in a section: templateIds, LOINC code with its French label, usual title."""

    templates: tuple[str, ...]
    code: str
    display: str
    title: str


ACTIVE_PROBLEMS = SectionModel(
    templates.ACTIVE_PROBLEMS, "11450-4", "Liste des problèmes actifs", "Problèmes actifs et ALD"
)
ADVANCE_DIRECTIVES = SectionModel(
    templates.ADVANCE_DIRECTIVES, "42348-3", "Directives anticipées", "Directives anticipées"
)
SOCIAL_PROVISIONS = SectionModel(
    templates.SOCIAL_PROVISIONS, "34841-7", "Dispositions médico-sociales", "Dispositions médico-sociales"
)
CARE_PLAN = SectionModel(templates.CARE_PLAN, "18776-5", "Plan de soins", "Plan de soins / Plan d'aides")
DOCUMENT_STATUS = SectionModel(templates.DOCUMENT_STATUS, "33557-0", "Etat d'achèvement", "Statut du document")
COMMENT = SectionModel(templates.COMMENT_SECTION, "55112-7", "Commentaire", "Commentaire")


def section(
    model: SectionModel,
    section_id: II,
    text: list[Node],
    entries: list[Statement] | None = None,
    title: str | None = None,
) -> Section:
    """A section of that model with its narrative and its entries."""
    return Section(
        template_ids=roots(model.templates),
        id=section_id,
        code=Code(model.code, templates.LOINC, model.display, "LOINC"),
        title=title or model.title,
        text=text,
        entries=entries or [],
    )


# --- observations -------------------------------------------------------------------------------------------------


def simple_observation(
    entry_id: II,
    code: Code,
    values: list[Value],
    *,
    text: str,
    time: Interval | None,
    negation: bool | None = False,
    relationships: list[Relationship] | None = None,
    criteria: list[Text] | None = None,
    template_ids: tuple[str, ...] = templates.SIMPLE_OBSERVATION,
) -> Statement:
    """FR-Simple-Observation. `text` is the ID of the narrative that says the same; `time` None is unknown."""
    return Statement(
        kind="observation",
        class_code="OBS",
        mood_code="EVN",
        negation=negation,
        template_ids=roots(template_ids),
        ids=[entry_id],
        code=code,
        text=pointer(text),
        status="completed",
        time=time or Interval(null_flavor=UNKNOWN_TIME),
        values=values,
        relationships=relationships or (),
        criteria=criteria or (),
    )


def document_status(entry_id: II, code: Code, status: Code, *, text: str, time: Interval | None) -> Statement:
    """FR-Statut-document: the status of the document and since when."""
    return simple_observation(
        entry_id, code, [status], text=text, time=time, negation=None, template_ids=templates.DOCUMENT_STATUS_ENTRY
    )


def advance_directive(
    entry_id: II, code: Code, *, text: str, time: Interval | None, value: bool | None, media: Statement | None = None
) -> Statement:
    """FR-Directive-anticipee: a Boolean `value`, or the document itself as `media`, never both; neither when words
    alone say it."""
    return Statement(
        kind="observation",
        class_code="OBS",
        mood_code="EVN",
        template_ids=roots(templates.ADVANCE_DIRECTIVE),
        ids=[entry_id],
        code=code,
        text=pointer(text),
        status="completed",
        time=time or Interval(null_flavor=UNKNOWN_TIME),
        values=[Boolean(value)] if media is None and value is not None else (),
        relationships=[Relationship("SUBJ", media)] if media is not None else (),
    )


def attached_media(xml_id: str, media: Media) -> Statement:
    """observationMedia: the bytes of a document, which the narrative can show."""
    return Statement(kind="observationMedia", class_code="OBS", mood_code="EVN", xml_id=xml_id, values=[media])


# --- problems -----------------------------------------------------------------------------------------------------


def problem_concern(entry_id: II, *, status: str, time: Interval, problem: Statement) -> Statement:
    """FR-Liste-des-problemes: `time.high` if and only if the status is completed or aborted."""
    return Statement(
        kind="act",
        class_code="ACT",
        mood_code="EVN",
        template_ids=roots(templates.PROBLEM_CONCERN),
        ids=[entry_id],
        code=Code(null_flavor="NA"),
        status=status,
        time=time,
        relationships=[Relationship("SUBJ", problem, inversion=False)],
    )


def problem(
    entry_id: II, *, kind: Code, value: Code, text: str, time: Interval, comments: Iterable[Statement] = ()
) -> Statement:
    """FR-Probleme: what it is (`value`), what kind of statement (`kind`), since when."""
    return Statement(
        kind="observation",
        class_code="OBS",
        mood_code="EVN",
        negation=False,
        template_ids=roots(templates.PROBLEM),
        ids=[entry_id],
        code=kind,
        text=pointer(text),
        status="completed",
        time=time,
        values=[value],
        relationships=[Relationship("SUBJ", comment, inversion=True) for comment in comments],
    )


def comment(text: str) -> Statement:
    """FR-Commentaire-ER: a remark whose words are in the narrative."""
    return Statement(
        kind="act",
        class_code="ACT",
        mood_code="EVN",
        template_ids=roots(templates.COMMENT),
        code=Code("48767-8", templates.LOINC, "Commentaire", "LOINC"),
        text=pointer(text),
        status="completed",
    )


# --- plan ---------------------------------------------------------------------------------------------------------


def request(
    entry_id: II,
    code: Code,
    value: Code,
    *,
    text: str,
    status: str,
    time: Interval | None,
    mood: str = "GOL",
    methods: list[Code] | None = None,
    authors: list[EntryAuthor] | None = None,
    participants: list[EntryParticipant] | None = None,
    relationships: list[Relationship] | None = None,
) -> Statement:
    """FR-Demande-d-examen-ou-de-suivi: a shared goal (top level) or an action that supports it."""
    return Statement(
        kind="observation",
        class_code="OBS",
        mood_code=mood,
        template_ids=roots(templates.REQUEST),
        ids=[entry_id],
        code=code,
        text=pointer(text),
        status=status,
        time=time or Interval(null_flavor="NAV"),
        values=[value],
        methods=methods or (),
        authors=authors or (),
        participants=participants or (),
        relationships=relationships or (),
    )


def supported_by(action: Statement) -> Relationship:
    """The link from a goal to an action."""
    return Relationship("SPRT", action)


def evaluated_by(assessment: Statement) -> Relationship:
    """The link from a goal to a *bilan d'étape*."""
    return Relationship("GEVL", assessment)


def subject_of(detail: Statement) -> Relationship:
    """The link from an observation to one that details it."""
    return Relationship("SUBJ", detail)


def performer(
    name: str,
    *,
    ids: Sequence[II] = (),
    code: Code | None = None,
    addresses: Sequence[Address] = (),
    telecoms: Sequence[Telecom] = (),
    structure_id: II | None = None,
    structure_name: str | None = None,
) -> EntryParticipant:
    """FR-Participant of an action: who does it, for which structure; what is unknown is said to be."""
    return EntryParticipant(
        type_code="PRF",
        template_ids=roots(templates.PARTICIPANT),
        time=Interval(null_flavor="UNK"),
        ids=list(ids),
        code=code,
        addresses=list(addresses) or [Address(null_flavor="UNK")],
        telecoms=list(telecoms) or [Telecom(null_flavor="UNK")],
        name=PersonName(text=name),
        scoping_id=structure_id,
        scoping_description=structure_name,
    )


# --- small parts --------------------------------------------------------------------------------------------------


def roots(oids: Iterable[str]) -> list[II]:
    """templateIds without extension."""
    return list(map(II, oids))


def pointer(narrative_id: str) -> Text:
    """A reference to the narrative of the same document."""
    return Text(reference=f"#{narrative_id}")
