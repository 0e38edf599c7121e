"""Which stored Patient a received document is about: by INS or local number, never in spite of another trait.

RNIV (strict traits: birth name, birth given names, birth date, sex) and référentiel INS. A doubt is refused: a document
filed with the wrong person harms both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date

from relais.cda.datatypes import PARIS
from relais.cda.errors import Issue
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.server.fhir.json_format import load
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Transaction
from relais.server.fhir.searchset import matching

PLACE = "ClinicalDocument/recordTarget/patientRole"
RULE = "RNIV: identification by INS and strict traits"
_MOST_CANDIDATES = 20


def match(transaction: Transaction, patient: Resource) -> str | None:
    """The id of the stored Patient who is `patient`, or None when nobody here bears any of the identifiers.

    `patient` bears the id under which it would be stored. Until the transaction ends nobody else creates a Patient
    conditionally. Raises FhirError 409 when a trait or the INS of who bears the number contradicts, or who has that id
    bears other numbers; 412 when several patients bear it.
    """
    numbers = [*identity.ins_identifiers(patient), *identity.local_identifiers(patient)]
    today = transaction.now.astimezone(PARIS).date()
    found = _bearers(transaction, numbers, today)
    if not found:
        _check_former(transaction, patient, numbers, today)
        return None
    if len(found) > 1:
        message = "several stored patients bear the identifiers of the document: they are to be merged first"
        raise FhirError(412, Issue("error", "multiple-matches", message, f"{PLACE}/id", RULE))
    _refuse_contradictions(patient, found[0], today)
    if not _numbers(patient, today) & _numbers(found[0], today) and (missing := list(_not_compared(patient, found[0]))):
        message = f"a local number alone names nobody: {', '.join(missing)} cannot be compared with who bears it here"
        raise FhirError(409, Issue("error", "conflict", message, PLACE, RULE))
    return str(found[0]["id"])


def not_taken_over(patient: Resource, stored: Resource) -> Iterator[Issue]:
    """One remark for each element of `patient` that the stored Patient, who is not changed, lacks."""
    borne = {(one.get("system"), one.get("value")) for one in stored.get("identifier", ())}
    lacking = [
        *("identifier" for one in patient.get("identifier", ()) if (one.get("system"), one.get("value")) not in borne),
        *sorted(patient.keys() - stored.keys() - {"resourceType", "id", "meta", "text", "identifier"}),
    ]
    for name in lacking:
        message = f"Patient.{name} is stated by the document and not by the stored patient, who is not changed"
        yield Issue("information", "informational", message, PLACE, RULE)


def _refuse_contradictions(patient: Resource, stored: Resource, on: date) -> None:
    if contradicting := list(contradictions(patient, stored, on)):
        message = f"who bears this identifier here has another {', '.join(contradicting)}: not filed with that patient"
        raise FhirError(409, Issue("error", "conflict", message, PLACE, RULE))


def _check_former(transaction: Transaction, patient: Resource, numbers: list[Resource], on: date) -> None:
    """Refuse the Patient whom an earlier document made of the same numbers, if they are somebody else's by now."""
    stored = transaction.current("Patient", patient["id"])
    if stored is None or stored.deleted:
        return
    if numbers:
        message = "the patient made of these identifiers bears none of them any more: not filed with that patient"
        raise FhirError(409, Issue("error", "conflict", message, f"{PLACE}/id", RULE))
    _refuse_contradictions(patient, load(stored.content or b""), on)


def _bearers(transaction: Transaction, identifiers: list[Resource], on: date) -> list[Resource]:
    """The stored patients who bear one of the identifiers that day; no record that was merged into another."""
    found: dict[str, Resource] = {}
    for identifier in identifiers:
        system, value = identifier.get("system"), identifier.get("value")
        if not system or not value:
            continue
        criteria = identity.criteria(identifier)
        for stored_id in matching(transaction, "Patient", criteria, "the identifier of the patient", _MOST_CANDIDATES):
            stored = transaction.load("Patient", stored_id)
            bears = any(
                (own.get("system"), own.get("value")) == (system, value) and identity.is_current(own, on)
                for own in stored.get("identifier", ())
            )
            if bears and not any(link.get("type") == "replaced-by" for link in stored.get("link", ())):
                found[stored_id] = stored
    return list(found.values())


# --- traits -----------------------------------------------------------------------------------------------------------


def contradictions(one: Resource, other: Resource, on: date | None = None) -> Iterator[str]:
    """The traits that two records of a person state differently. What only one of them states contradicts nothing.

    Of the INS those count that are current that day (by default: that are not said to be former).
    """
    numbers = [_numbers(record, on) for record in (one, other)]
    if all(numbers) and not numbers[0] & numbers[1]:
        yield "INS"
    sexes = {record.get("gender") for record in (one, other)}
    if sexes == {"male", "female"}:
        yield "gender"
    births = [record.get("birthDate", "") for record in (one, other)]
    shared = min(map(len, births))
    if births[0][:shared] != births[1][:shared]:
        yield "birthDate"
    families = [_families(record) for record in (one, other)]
    if all(families) and not families[0] & families[1]:
        yield "birth name"
    givens = [_given(record) for record in (one, other)]
    shared = min(map(len, givens))
    if givens[0][:shared] != givens[1][:shared] and "".join(givens[0]) != "".join(givens[1]):
        yield "first given name"


def _not_compared(one: Resource, other: Resource) -> Iterator[str]:
    """The traits without which a local number proves nothing, where one of the records lacks them."""
    if not (one.get("birthDate") and other.get("birthDate")):
        yield "birthDate"
    if not (_families(one) and _families(other)):
        yield "birth name"
    if not (_given(one) and _given(other)):  # without which one twin is the other
        yield "first given name"


def _numbers(patient: Resource, on: date | None) -> set[tuple[str | None, str | None]]:
    return {(one.get("system"), one.get("value")) for one in identity.ins_identifiers(patient, on)}


def _names(patient: Resource) -> list[Resource]:
    """The names of birth (`official`); of a record without any, all its names."""
    names: list[Resource] = patient.get("name", [])
    return [name for name in names if name.get("use") == "official"] or names


def _families(patient: Resource) -> set[str]:
    return {letters for name in _names(patient) if (letters := _letters(name.get("family", "")))}


def _given(patient: Resource) -> list[str]:
    """The birth given names, word by word: *Marie-Louise* and *MARIE LOUISE* are the same, *Marielle* is not."""
    return next((words for name in _names(patient) if (words := _words(" ".join(name.get("given", ()))))), [])


def _words(text: str) -> list[str]:
    return [letters for word in re.split(r"[\s'’-]+", text) if (letters := _letters(word))]


def _letters(text: str) -> str:
    """The letters without case and accents, as identities are compared."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text).casefold() if letter.isalpha())
