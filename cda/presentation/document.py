"""A whole document as a page: patient, people, narrative, attached files, what the document is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relais.cda import media
from relais.cda.errors import Issue, RelaisError
from relais.cda.model import Document, EntryAuthor, Media, Section, Statement
from relais.cda.narrative import Node as Narrative
from relais.cda.narrative import walk
from relais.cda.presentation import header, words
from relais.cda.presentation.narrative import NarrativeReader, link_targets
from relais.cda.presentation.nodes import (
    Attachment,
    Block,
    Facts,
    Figure,
    File,
    Paragraph,
    Part,
    Preformatted,
    Presentation,
    Run,
    clean,
    one_line,
)

MAX_ELEMENTS = 300_000
"""Narrative elements that a page may have: more would take minutes to lay out."""


def present(document: Document, language: str = "fr") -> Presentation:
    """The page of a document; `language` (BCP 47) is that of its narrative when it states none.

    Raises RelaisError for a document of two patients, and for a narrative of more than MAX_ELEMENTS elements.
    """
    _check_patient(document)
    _check_cost(document)
    return _Page(document).presentation(language)


def _check_patient(document: Document) -> None:
    if document.header.other_patients:
        message = "a document has exactly one patient: whose narrative is it?"
        rule = "CI-SIS Structuration minimale, recordTarget"
        raise RelaisError(Issue("error", "business-rule", message, "/ClinicalDocument/recordTarget", rule))


def _check_cost(document: Document) -> None:
    count = sum(1 for _, section in _sections(document.sections) for _ in walk(section.text))
    if count > MAX_ELEMENTS:
        message = f"the narrative has more than {MAX_ELEMENTS} elements: too many to show"
        raise RelaisError(Issue("error", "too-costly", message, "/ClinicalDocument/component/structuredBody"))


class _Page:
    """The page of one document while it is made; files get their numbers as they are met."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.files: list[File] = []
        self._sections = list(_sections(document.sections))
        narratives = [node for _, section in self._sections for node in section.text]
        shown: dict[str, Block] = {}
        self._unreferenced: list[Block] = []
        referenced = _referenced_media(narratives)
        for name, title, item in _media(self._sections):
            if name in referenced and name not in shown:
                shown[name] = self._show(item, title)
            else:
                self._unreferenced.append(self._show(item, title))
        self._reader = NarrativeReader(shown, link_targets(narratives))

    def presentation(self, language: str) -> Presentation:
        head = self.document.header
        body = [*self._narrative(), *self._body()]
        when = words.time(head.effective_time)
        subtitle = (words.code(head.code), when, f"version {head.version_number}" if head.version_number else "")
        return Presentation(
            title=one_line(head.title or words.code(head.code)) or "Document sans titre",
            subtitle=one_line(words.joined(subtitle, " · ")),
            patient=header.patient_line(head.patient),
            identity=header.identity(head.patient),
            parts=(
                *_part("Intervenants", header.care_team(head)),
                *_part("Entourage", header.relatives(head)),
                *body,
                *_part("Pièces jointes", *self._unreferenced),
                *_part("Contexte", header.context(head)),
                *_part("Références du document", header.references(head)),
            ),
            notes=self._reader.notes,
            files=tuple(self.files),
            language=one_line(head.language or language),
            date=head.effective_time,
        )

    # --- body -----------------------------------------------------------------------------------------------------

    def _narrative(self) -> Iterator[Part]:
        for level, section in self._sections:
            content = self._reader.read(section.text)
            if not content and not section.sections:
                content = (Paragraph((Run("Cette section n'a pas de texte lisible.", ("italic",)),)),)
            authors = [f"Auteur de la section : {line}" for line in map(_author, section.authors) if line]
            content += tuple(Paragraph((Run(one_line(line), ("italic",)),)) for line in authors)
            title = one_line(section.title or words.code(section.code)) or "Section sans titre"
            yield Part(title, content, level, narrative=True)

    def _body(self) -> Iterator[Part]:
        """The body of an unstructured document."""
        body = self.document.non_xml_body
        if body is None:
            return
        if media.is_what_it_says(body.media_type, body.data) and body.media_type == media.PLAIN_TEXT:
            text = "\n".join(clean(media.decoded_text(body.data or b"")).splitlines())
            content: Block = Preformatted(text.strip("\n"))
        else:
            content = self._show(body, "Document")
        yield Part("Document", (content,), narrative=True)

    def _show(self, item: Media, title: str) -> Block:
        """The node that shows a media: an image, a file to open, or why there is nothing to see."""
        if not item.data:
            reason = words.absence(item.null_flavor) or item.reference or "contenu absent ou illisible"
            return Paragraph((Run(one_line(f"[{title} : {reason}]"), ("italic",)),))
        shown = media.with_its_type(item)
        number = len(self.files)
        name = f"piece-{number + 1}.{media.extension(shown.media_type)}"
        self.files.append(File(name, one_line(shown.media_type or ""), item.data))
        return (Figure if media.is_shown(shown) else Attachment)(number, _label(title, shown))


def _label(title: str, item: Media) -> str:
    """What a file is: `Document (PDF, 312 ko)`."""
    size = len(item.data or b"")
    amount = f"{size / 1_000_000:.1f} Mo".replace(".", ",") if size >= 1_000_000 else f"{max(size // 1000, 1)} ko"
    kind = media.extension(item.media_type).upper() if media.is_what_it_says(item.media_type, item.data) else ""
    declared = f"type annoncé non confirmé : {item.media_type}" if item.media_type else "type non précisé"
    return one_line(f"{title} ({kind or declared}, {amount})")


def _sections(sections: Iterable[Section], level: int = 1) -> Iterator[tuple[int, Section]]:
    for section in sections:
        yield level, section
        yield from _sections(section.sections, level + 1)


def _part(title: str, *content: Block | None) -> Iterator[Part]:
    found = tuple(node for node in content if node is not None and node != Facts(()))
    if found:
        yield Part(title, found)


def _author(author: EntryAuthor) -> str:
    assigned = author.assigned
    structure = assigned.organization.name if assigned.organization else None
    device = assigned.device.software_name if assigned.device else None
    return words.joined((words.person(assigned.person), device, structure, words.time(author.time)))


# --- media ------------------------------------------------------------------------------------------------------


def _referenced_media(narrative: Iterable[Narrative]) -> frozenset[str]:
    elements = (element for element in walk(narrative) if element.tag == "renderMultiMedia")
    return frozenset(name for element in elements for name in element.attributes.get("referencedObject", "").split())


def _media(sections: Iterable[tuple[int, Section]]) -> Iterator[tuple[str | None, str, Media]]:
    """(ID, title of its section, media) of every observationMedia."""
    for _, section in sections:
        title = one_line(section.title or "") or "Pièce jointe"
        for statement in _statements(section.entries):
            if statement.kind == "observationMedia":
                for value in statement.values:
                    if isinstance(value, Media):
                        yield statement.xml_id, title, value


def _statements(statements: Iterable[Statement]) -> Iterator[Statement]:
    for statement in statements:
        yield statement
        yield from _statements(relationship.statement for relationship in statement.relationships)
