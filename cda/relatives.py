"""Whom a relatedEntity of the header names (CI-SIS Structuration minimale, informant)."""

from __future__ import annotations

from relais.cda.model import Patient, PersonName, RelatedEntity


def is_patient(entity: RelatedEntity, patient: Patient) -> bool:
    """Whether a relatedEntity is the patient: of class PAT, with no word for a name that the patient's has not.

    PAT is the patient in HL7 V3; in jdv-role-informateur-cisis it is the person whom the patient helps (*aidé*).
    """
    return entity.class_code == "PAT" and (entity.name is None or _words(entity.name) <= _words(patient.name))


def _words(name: PersonName) -> set[str]:
    texts = [name.text or "", *(part.text for part in (*name.families, *name.givens))]
    return {word for text in texts for word in text.casefold().split()}
