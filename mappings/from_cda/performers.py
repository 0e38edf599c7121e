"""FR-Participant of an action → who performs it: the resource the header already gave, or a new one."""

from __future__ import annotations

from relais.cda.model import II, AssignedEntity, EntryParticipant, Organization, PersonName
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import identifiers
from relais.mappings.from_cda.parties import organization, patient_reference, professional, role_of
from relais.mappings.from_cda.reading import Reading
from relais.mappings.to_cda.datatypes import current_name, names_read_as
from relais.mappings.to_cda.relatives import kinship

THE_PERSON = "La personne"
"""How `to_cda.actions` names the patient among those who act."""


def performer(reading: Reading, participant: EntryParticipant, path: str) -> Resource | None:
    """The Reference to who performs: with a `display` alone when the document only names them. None for nobody."""
    words = _words(participant)
    ids = [ii for ii in participant.ids if ii.root]
    structure = _structure(participant)
    if not ids:
        if words == THE_PERSON:
            return patient_reference(reading)
        if structure and words in (None, participant.scoping_description):
            return _known_structure(reading, words) or organization(reading, structure, path)
        if words and not participant.code and not structure and (known := _relative(reading, words)):
            return known
    elif words and (known := _professional(reading, participant, ids, words, structure, path)):
        return known
    contacts = [one for one in participant.telecoms if one.value]
    places = [one for one in participant.addresses if not one.null_flavor]
    if ids or participant.code or structure or contacts or places:
        name = participant.name or (PersonName(text=words) if words else None)
        assigned = AssignedEntity(ids, participant.code, places, contacts, name, organization=structure)
        return professional(reading, assigned, path)
    return {"display": words} if words else None


def _words(participant: EntryParticipant) -> str | None:
    name = participant.name
    if name is None:
        return participant.description
    parts = [name.prefix, *(part.text for part in (*name.givens, *name.families)), name.suffix]
    return name.text or " ".join(part for part in parts if part) or participant.description


def _structure(participant: EntryParticipant) -> Organization | None:
    ids = [participant.scoping_id] if participant.scoping_id and participant.scoping_id.root else []
    names = [participant.scoping_description] if participant.scoping_description else []
    return Organization(ids=ids, names=names) if ids or names else None


def _known_structure(reading: Reading, name: str | None) -> Resource | None:
    """The only structure of that name, if there is one."""
    found = [reference for reference, resource in reading.of_type("Organization") if resource.get("name") == name]
    return found[0] if len(found) == 1 and name else None


def _relative(reading: Reading, words: str) -> Resource | None:
    """The relative whose name, with the relation or without, is `words`; None when that is said of several."""
    found = []
    for reference, resource in reading.of_type("RelatedPerson"):
        names = names_read_as(current_name(resource.get("name", ())))
        relation = kinship(resource.get("relationship", ())) if words.startswith(tuple(names)) else None
        if words in names or (relation and words.removesuffix(f" ({relation.display})") in names):
            found.append(reference)
    return found[0] if len(found) == 1 else None


def _professional(
    reading: Reading,
    participant: EntryParticipant,
    ids: list[II],
    words: str,
    structure: Organization | None,
    path: str,
) -> Resource | None:
    """A known professional of the same number and the same name, for the structure that is named."""
    numbers = identifiers(ids)
    for reference, resource in reading.of_type("Practitioner"):
        known = resource.get("identifier", ())
        is_same = any(number in known for number in numbers)
        if is_same and words in names_read_as(current_name(resource.get("name", ()))):
            scope = None
            if structure is not None:
                scope = _known_structure(reading, structure.name) or organization(reading, structure, path)
            return role_of(reading, reference, participant.code, scope, path)
    return None
