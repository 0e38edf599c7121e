"""Whom a relatedEntity of the header names (CI-SIS Structuration minimale, informant)."""

from __future__ import annotations

from collections.abc import Iterable

from relais.cda.model import NamePart, Patient, RelatedEntity


def is_patient(entity: RelatedEntity, patient: Patient) -> bool:
    """Whether a relatedEntity is the patient: of class PAT, without a name or with one of the patient.

    PAT is the patient in HL7 V3; in jdv-role-informateur-cisis it is the person whom the patient helps (*aidé*).
    """
    return entity.class_code == "PAT" and (
        entity.name is None
        or (
            _words(entity.name.families) <= _words(patient.name.families)
            and _words(entity.name.givens) <= _words(patient.name.givens)
        )
    )


def _words(parts: Iterable[NamePart]) -> set[str]:
    return {word for part in parts for word in part.text.casefold().split()}
