"""Whether a document is still about the patient of its order, as that patient is known now.

RNIV and Référentiel INS: an identity may be put in doubt again, and an INS be found to be somebody else's, between the
order and the attempt; a record may be merged into another, or go out of use. Asked when a document is ordered, and
before every attempt; a withdrawal is never held up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from relais.cda.errors import Issue
from relais.cda.model import II
from relais.cda.templates import INS_ROOTS
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.server.delivery.mail_message import is_of_patient
from relais.server.delivery.outbox import Leased
from relais.server.documents import IssuedDocument
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.patient_matching import contradictions
from relais.server.store.store import read_current

QUALIFYING = frozenset({"dmp", "hl7v2", "mhd"})
"""Channels whose receivers file by the INS that the document bears."""
_RULE = "RNIV, Référentiel INS"
_MERGED_RULE = "RNIV: merged identities (FHIR R4 Patient.link, replaced-by)"
_UNUSED_RULE = "FHIR R4 Patient.active"


def objections(patient: Resource, ids: Sequence[II], *, qualified: bool) -> Iterator[Issue]:
    """Why a document whose patient has those `ids` is not about `patient`; nothing when it is.

    An INS of one domain on both sides decides, else any identifier in common. `qualified`: an INS that the document
    bears must be that of a qualified identity.
    """
    current = [one for one in patient.get("identifier", ()) if identity.is_current(one)]
    decisive = identity.decisive_numbers([ii for one in current if (ii := identity.any_ii_of(one))], ids)
    if not decisive:
        yield _objection("conflict", "the document is about another patient: no identifier in common")
    elif qualified and any(ii.root in INS_ROOTS for ii in ids):
        if not identity.is_qualified(patient):
            yield _objection(
                "business-rule", "the document bears an INS, and the identity of the patient is not qualified"
            )
        elif not any(root in INS_ROOTS for root, _ in decisive):
            yield _objection("conflict", "the INS of the document is not that of the patient")


def standing(
    connection: Connection, base: str, subject: str, document: IssuedDocument, *, qualified: bool
) -> Iterator[Issue]:
    """Why a document is not about the patient `subject` (`Patient/[id]`) as the record stands; as `objections`.

    Nothing leaves about a record that is not in use, unless its patient has died. Of one that was merged, what leaves
    is about the surviving patient: it bears the qualified INS of that one, and no trait contradicts.
    """
    patient = _held(connection, subject)
    if patient is None:
        yield _objection("conflict", "the patient of the order is not held here any more")
    elif _successors(patient):
        yield from _of_merged(connection, base, patient, document)
    else:
        yield from _out_of_use(patient)
        yield from objections(patient, document.identity.patient, qualified=qualified)


def _of_merged(connection: Connection, base: str, patient: Resource, document: IssuedDocument) -> Iterator[Issue]:
    survivor = _survivor(connection, base, patient)
    if survivor is None:
        message = "the record of the patient was merged into another one, which is not told or not held here"
        yield Issue("error", "conflict", message, "Patient.link", _MERGED_RULE)
        return
    ids = [ii for one in identity.ins_identifiers(survivor) if (ii := identity.any_ii_of(one))]
    bears_its_ins = any(root in INS_ROOTS for root, _ in identity.decisive_numbers(ids, document.identity.patient))
    if not (bears_its_ins and identity.is_qualified(survivor)) or any(contradictions(patient, survivor)):
        message = (
            f"the record of the patient was merged: the right one is Patient/{survivor['id']}, order it for that one"
        )
        yield Issue("error", "conflict", message, "Patient.link", _MERGED_RULE)
    yield from _out_of_use(survivor)


def _out_of_use(patient: Resource) -> Iterator[Issue]:
    has_died = patient.get("deceasedBoolean") or patient.get("deceasedDateTime")
    if patient.get("active") is False and not has_died:
        message = "the record of the patient is not in use (active is false)"
        yield Issue("error", "business-rule", message, "Patient.active", _UNUSED_RULE)


def lives_on_in(connection: Connection, base: str, former: str, current: str) -> bool:
    """Whether two patients (`Patient/[id]`) are one, or the first was merged into the second."""
    patient = None if former == current else _held(connection, former)
    survivor = patient and _survivor(connection, base, patient)
    return former == current or (survivor is not None and f"Patient/{survivor['id']}" == current)


def _survivor(connection: Connection, base: str, patient: Resource) -> Resource | None:
    """The record that a merged one lives on in, through as many merges as there were; None where it is not known."""
    seen: set[str] = set()
    found: Resource | None = patient
    while found is not None and found["id"] not in seen and (successors := _successors(found)):
        seen.add(found["id"])
        target = references.restful(successors[0]) if len(successors) == 1 else None
        is_held = target is not None and target[0] in ("", base) and target[1] == "Patient"
        found = _held(connection, f"Patient/{target[2]}") if target and is_held else None
    return None if found is None or found["id"] in seen else found


def _successors(patient: Resource) -> list[str]:
    """The references to the records that a record was merged into."""
    links = (link for link in patient.get("link", ()) if link.get("type") == "replaced-by")
    return list(dict.fromkeys(link.get("other", {}).get("reference", "") for link in links))


def _held(connection: Connection, subject: str) -> Resource | None:
    stored = read_current(connection, *subject.split("/"))
    return None if stored is None or stored.deleted else load(stored.content or b"")


def changes(connection: Connection, base: str, leased: Leased, document: IssuedDocument | None) -> tuple[Issue, ...]:
    """Why a delivery may not be tried: what has become of the patient since its order; nothing when it may."""
    if leased.action != "send" or document is None or leased.subject is None:
        return ()
    to_patient = any(map(is_of_patient, leased.consignment.recipients))
    own = document.carrier != ""  # made here, it bears an INS only because the identity was qualified
    qualified = own or to_patient or leased.channel in QUALIFYING
    return tuple(standing(connection, base, leased.subject, document, qualified=qualified))


def _objection(code: str, message: str) -> Issue:
    return Issue("error", code, message, "ClinicalDocument/recordTarget/patientRole/id", _RULE)
