"""The header of a document as a reader needs it: who the patient is, who cares, who stands by, what the document is.

CI-SIS volet Structuration minimale; traits of identity as RNIV asks for. One person in several parts is one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relais.cda.model import (
    II,
    AssignedEntity,
    Code,
    EncompassingEncounter,
    Header,
    Organization,
    Participant,
    Patient,
    RelatedDocument,
    ServiceEvent,
)
from relais.cda.presentation import words
from relais.cda.presentation.nodes import Break, Cell, Fact, Facts, Flow, Inline, Paragraph, Row, Run, Table, one_line
from relais.cda.relatives import is_patient

_GENDERS = {"M": "Masculin", "F": "Féminin", "UN": "Inconnu"}
_CONFIDENTIALITY = {"N": "Normal", "R": "Restreint", "V": "Très restreint"}
_RELATIVES = {
    "ECON": "Personne à prévenir en cas d'urgence",
    "NOK": "Personne de confiance",
    "CAREGIVER": "Aidant",
    "CON": "Contact",
    "PAT": "Personne aidée",
}
_PARTICIPATIONS = {
    "REF": "Prescripteur ou référent",
    "REFB": "Adresseur",
    "INF": "Informateur",
    "RESP": "Responsable",
    "PRF": "Exécutant",
    "CON": "Consultant",
    "VRF": "Vérificateur",
    "ADM": "Responsable de l'admission",
    "ATND": "Responsable pendant la prise en charge",
    "DIS": "Responsable de la sortie",
}


class _Person(NamedTuple):
    """A row: a role, when it was played, and the cells after that."""

    role: str
    when: str
    who: tuple[str, ...]
    structure: tuple[str, ...]
    contact: tuple[str, ...]


# --- patient --------------------------------------------------------------------------------------------------


def patient_line(patient: Patient) -> str:
    """The patient in one line: name and birth date."""
    born = words.time(patient.birth_time)
    gender = patient.gender.code if patient.gender else None
    verb = {"F": "née", "M": "né"}.get(gender or "", "né(e)")
    return one_line(words.joined((words.person(patient.name), f"{verb} le {born}" if born else "")))


def identity(patient: Patient) -> Facts:
    """The traits of the patient, the INS with its nature, other numbers, where to find the person."""
    name, birthplace = patient.name, patient.birthplace
    place = birthplace.address if birthplace else None
    town = words.joined((birthplace.name, words.address(place) if place else "")) if birthplace else ""
    return _facts(
        ("Nom de naissance", words.parts(name.families, "BR")),
        ("Premier prénom de naissance", words.parts(name.givens, "BR")),
        ("Prénoms de naissance", words.parts(name.givens, None)),
        ("Nom utilisé", words.parts(name.families, "CL", "SP")),
        ("Prénom utilisé", words.parts(name.givens, "CL")),
        ("Nom", words.joined((words.parts(name.families, None), name.text), " ") or words.absence(name.null_flavor)),
        ("Sexe", _gender(patient)),
        ("Date de naissance", words.time(patient.birth_time) or words.absence(patient.birth_time_null_flavor)),
        ("Lieu de naissance", town),
        ("Code INSEE du lieu de naissance", place.county if place else None),
        *((f"Matricule {words.ins_nature(ii)}", ii.extension) for ii in patient.ids if words.ins_nature(ii)),
        ("Autre identifiant", [_patient_number(ii) for ii in patient.ids if not words.ins_nature(ii)]),
        ("Naissance multiple", _multiple_birth(patient)),
        ("Décès", words.time(patient.deceased_time) or ("oui" if patient.deceased else "")),
        ("Adresse", map(words.address, patient.addresses)),
        ("Contact", map(words.telecom, patient.telecoms)),
    )


def _gender(patient: Patient) -> str:
    gender = patient.gender
    return _GENDERS.get((gender.code if gender else None) or "", "") or words.code(gender)


def _patient_number(identifier: II) -> str:
    number = identifier.extension
    return f"{number} (domaine {identifier.root})" if number and identifier.root else words.identifier(identifier)


def _multiple_birth(patient: Patient) -> str:
    if patient.multiple_birth_order is not None:
        return f"oui, rang {patient.multiple_birth_order}"
    return "oui" if patient.multiple_birth else ""


# --- people ---------------------------------------------------------------------------------------------------


def care_team(header: Header) -> Table | None:
    """Professionals and structures of the header: role, person, structure, contact."""
    return _table(("Rôle", "Professionnel", "Structure", "Coordonnées"), _professionals(header))


def relatives(header: Header) -> Table | None:
    """Legal representatives and relatives: role, person, contact."""
    return _table(("Rôle", "Personne", "Structure", "Coordonnées"), _close_people(header))


def _professionals(header: Header) -> Iterator[_Person]:
    for author in header.authors:
        role = words.joined(("Auteur", _function(author.function_code)), " – ")
        yield _assigned(role, words.time(author.time), author.assigned)
    if header.legal_authenticator:
        validator = header.legal_authenticator
        yield _assigned("Responsable du document", words.time(validator.time), validator.assigned)
    for validator in header.authenticators:
        yield _assigned("Validateur", words.time(validator.time), validator.assigned)
    if enterer := header.data_enterer:
        yield _assigned("Opérateur de saisie", words.time(enterer.time), enterer.assigned)
    for informant in header.informants:
        if informant.assigned:
            yield _assigned("Informateur", "", informant.assigned)
    yield from map(_participant, header.participants)
    for event in header.service_events:
        for performer in event.performers:
            role = words.joined(("Exécutant de l'acte", _function(performer.function_code)), " – ")
            yield _assigned(role, words.interval(performer.time), performer.assigned)
    yield from _encounter_people(header.encounter)
    custodian = header.custodian
    yield _Person("Conservation du document", "", (), tuple(words.organization(custodian)), _contact(custodian))
    for recipient in header.recipients:
        contact = words.contact(recipient.addresses, recipient.telecoms)
        who = _lines(words.person(recipient.name), words.joined(map(words.number, recipient.ids)))
        structure = tuple(words.organization(recipient.organization))
        yield _Person("Destinataire", "", who, structure, (*contact, *_contact(recipient.organization)))


def _encounter_people(encounter: EncompassingEncounter | None) -> Iterator[_Person]:
    if encounter is None:
        return
    if encounter.responsible:
        yield _assigned("Responsable de la prise en charge", "", encounter.responsible)
    for participant in encounter.participants:
        role = _PARTICIPATIONS.get(participant.type_code, participant.type_code)
        yield _assigned(role, words.interval(participant.time), participant.assigned)


def _assigned(role: str, when: str, assigned: AssignedEntity) -> _Person:
    device = assigned.device
    who = _lines(
        words.person(assigned.person),
        words.joined((device.software_name, device.model_name, words.code(device.code)), " – ") if device else "",
        words.code(assigned.code),
        words.joined(map(words.number, assigned.ids)),
    )
    contact = (*words.contact(assigned.addresses, assigned.telecoms), *_contact(assigned.organization))
    return _Person(role, when, who, tuple(words.organization(assigned.organization)), contact)


def _participant(participant: Participant) -> _Person:
    role = _function(participant.function_code) or _PARTICIPATIONS.get(participant.type_code, participant.type_code)
    who = _lines(
        words.person(participant.name),
        words.code(participant.code),
        words.joined(map(words.number, participant.ids)),
    )
    contact = (*words.contact(participant.addresses, participant.telecoms), *_contact(participant.organization))
    return _Person(
        role, words.interval(participant.time), who, tuple(words.organization(participant.organization)), contact
    )


def _function(code: Code | None) -> str:
    """What somebody does, in full; nothing for a function that is not known."""
    return words.in_full(code) if words.label(code) else ""


def _close_people(header: Header) -> Iterator[_Person]:
    for guardian in header.patient.guardians:
        structure = tuple(words.organization(guardian.organization))
        contact = (*words.contact(guardian.addresses, guardian.telecoms), *_contact(guardian.organization))
        who = _lines(words.person(guardian.person), words.code(guardian.code))
        yield _Person("Représentant légal", "", who, structure, contact)
    for informant in header.informants:
        if related := informant.related:
            who = _lines(words.person(related.name), words.code(related.code))
            known = is_patient(related, header.patient)
            role = "Patient" if known else _RELATIVES.get(related.class_code, related.class_code)
            yield _Person(role, "", who, (), tuple(words.contact(related.addresses, related.telecoms)))


def _contact(organization: Organization | None) -> tuple[str, ...]:
    return tuple(words.contact(organization.addresses, organization.telecoms)) if organization else ()


def _table(titles: tuple[str, ...], people: Iterable[_Person]) -> Table | None:
    """One row per person, with every role played; a column that says nothing is left out."""
    played: dict[tuple[tuple[str, ...], ...], dict[tuple[str, str], None]] = {}
    for person in people:
        cells = tuple(_lines(*cell) for cell in (person.who, person.structure, person.contact))
        if any(cells):
            played.setdefault(cells, {})[one_line(person.role), one_line(person.when)] = None
    rows = [(_roles(roles), *map(_stack, cells)) for cells, roles in played.items()]
    kept = [column for column in range(len(titles)) if any(row[column] for row in rows)]
    head = Row(tuple(Cell((Run(titles[column]),), x, heading="col") for x, column in enumerate(kept)))
    body = (
        Row(tuple(Cell(row[column], x, heading=None if x else "row") for x, column in enumerate(kept))) for row in rows
    )
    return Table(len(kept), (head,), tuple(body)) if rows else None


def _roles(roles: Iterable[tuple[str, str]]) -> Flow:
    """Each role, and under it when it was played."""
    nodes: list[Inline] = []
    for role, when in roles:
        nodes += [Break()] if nodes else []
        nodes.append(Run(role, ("bold",)))
        nodes += (Break(), Run(when)) if when else ()
    return tuple(nodes)


# --- the document ---------------------------------------------------------------------------------------------


def context(header: Header) -> Facts:
    """The documented acts, the stay, consents, prescriptions."""
    return _facts(
        ("Acte documenté", map(_event, header.service_events)),
        *_encounter(header.encounter),
        ("Consentement", [words.in_full(consent.code) for consent in header.consents]),
        ("Prescription", map(_order_line, ((order.ids, order.code) for order in header.orders))),
    )


def references(header: Header) -> Facts:
    """What the document is: type, version, what it replaces, confidentiality, identifiers."""
    confidentiality = header.confidentiality
    label = words.code(confidentiality)
    level = _CONFIDENTIALITY.get((confidentiality.code if confidentiality else None) or "", label)
    return _facts(
        ("Type de document", words.in_full(header.code)),
        ("Date de création", words.time(header.effective_time)),
        ("Version", None if header.version_number is None else str(header.version_number)),
        ("Remplace", map(_replaced, header.related_documents)),
        ("Confidentialité", level),
        ("Langue", header.language),
        ("Identifiant du document", words.identifier(header.id)),
        ("Identifiant du lot de versions", words.identifier(header.set_id)),
        ("Modèles", [words.identifier(template) for template in header.template_ids]),
    )


def _event(event: ServiceEvent) -> str:
    return words.joined((words.in_full(event.code) or "Acte", words.interval(event.time)), ", ")


def _encounter(encounter: EncompassingEncounter | None) -> Iterator[tuple[str, str | Iterable[str]]]:
    if encounter is None:
        return
    numbers = words.joined(f"n° {ii.extension}" for ii in encounter.ids if ii.extension)
    yield "Prise en charge", words.joined((words.in_full(encounter.code), words.interval(encounter.time), numbers))
    yield "Mode de sortie", words.code(encounter.discharge_disposition)
    if facility := encounter.facility:
        place = words.address(facility.address) if facility.address else ""
        yield (
            "Lieu de prise en charge",
            words.joined((facility.name, words.code(facility.code), *map(words.number, facility.ids), place)),
        )


def _order_line(order: tuple[list[II], Code | None]) -> str:
    ids, code = order
    return words.joined((words.in_full(code), *map(words.identifier, ids)))


def _replaced(related: RelatedDocument) -> str:
    version = f"version {related.parent_version}" if related.parent_version is not None else ""
    lineage = words.identifier(related.parent_set_id)
    verb = "" if related.type_code == "RPLC" else related.type_code
    return words.joined((verb, *map(words.identifier, related.parent_ids), version, lineage))


# --- small parts ----------------------------------------------------------------------------------------------


def _facts(*rows: tuple[str, str | Iterable[str] | None]) -> Facts:
    """Labelled values; a label without any value is left out."""
    facts = []
    for label, values in rows:
        found = _lines(*([values] if isinstance(values, str) else values or ()))
        facts += [Fact(label, found)] if found else []
    return Facts(tuple(facts))


def _lines(*lines: str) -> tuple[str, ...]:
    """The lines that say something, cleaned, each once."""
    return tuple(dict.fromkeys(line for line in map(one_line, lines) if line))


def _stack(lines: tuple[str, ...]) -> Flow:
    return tuple(Paragraph((Run(line),)) for line in lines)
