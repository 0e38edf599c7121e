"""Whose record a document made elsewhere is about, where this store holds it: found by the identifiers of its header.

So that a file which is sent without naming a patient is judged by what is known here of the patient (RNIV).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from relais.cda.errors import Issue, RelaisError
from relais.mappings import identity
from relais.server.delivery import same_patient
from relais.server.documents import IssuedDocument
from relais.server.fhir.json_format import load
from relais.server.search import search


def subject_of(connection: Connection, base: str, document: IssuedDocument, *, qualified: bool) -> str | None:
    """`Patient/[id]` of the record that the document may leave for; None when nobody here bears its identifiers.

    `qualified` as `same_patient.standing`. Raises RelaisError, with what is said of the first of them, when it may
    leave for none of the records that bear them.
    """
    refused: list[Issue] = []
    for subject in _bearers(connection, base, document):
        found = list(same_patient.standing(connection, base, subject, document, qualified=qualified))
        if not found:
            return subject
        refused = refused or found
    if refused:
        raise RelaisError(refused)
    return None


def _bearers(connection: Connection, base: str, document: IssuedDocument) -> Iterator[str]:
    """The records that bear an identifier of the document's patient which is not said to be a former one."""
    found: dict[str, None] = {}
    for ii in document.identity.patient:
        identifier = identity.identifier_of(ii)
        asked = [("identifier", identity.token(identifier))] if identifier else []
        for match in search(connection, base, "Patient", asked).matches if asked else ():
            current = filter(identity.is_current, load(match.content or b"").get("identifier", ()))
            if identity.decisive_numbers([one for one in map(identity.any_ii_of, current) if one], [ii]):
                found[f"Patient/{match.id}"] = None
    yield from found
