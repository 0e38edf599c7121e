"""Whether a document is still about the patient of its order, as that patient is known now.

RNIV and Référentiel INS: an identity may be put in doubt again, and an INS be found to be somebody else's, between the
order and the attempt. Asked when a stored document is ordered, and before every attempt; a withdrawal is never held up.
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
from relais.server.fhir.json_format import load
from relais.server.store.store import read_current

QUALIFYING = frozenset({"dmp", "hl7v2", "mhd"})
"""Channels whose receivers file by the INS that the document bears."""
_RULE = "RNIV, Référentiel INS"


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


def changes(connection: Connection, leased: Leased, document: IssuedDocument | None) -> tuple[Issue, ...]:
    """Why a delivery may not be tried: what has become of the patient since its order; nothing when it may."""
    if leased.action != "send" or document is None or leased.subject is None:
        return ()
    stored = read_current(connection, *leased.subject.split("/"))
    if stored is None or stored.deleted:
        return (_objection("conflict", "the patient of the order is not held here any more"),)
    to_patient = any(map(is_of_patient, leased.consignment.recipients))
    own = document.carrier != ""  # made here, it bears an INS only because the identity was qualified
    qualified = own or to_patient or leased.channel in QUALIFYING
    return tuple(objections(load(stored.content or b""), document.identity.patient, qualified=qualified))


def _objection(code: str, message: str) -> Issue:
    return Issue("error", code, message, "ClinicalDocument/recordTarget/patientRole/id", _RULE)
