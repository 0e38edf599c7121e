"""From whom a document is hidden: the masks of its metadata, and what may not be ordered together.

TRE_A07 (StatutVisibiliteDocument, JDV_J08 and JDV_J58), SEL-MP-037 for the DMP, HL7 v2 volet for mailboxes. A mask goes
with the document by every way: to the DMP it hides the entry, to a platform it is a flag, in an archive it tells the
receiver. To hide from professionals does not keep a mail from those it is addressed to (HL7 v2 volet, 2.1.1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Literal, get_args

from relais.cda.errors import Issue
from relais.cda.xds import CodedValue
from relais.cda.xds_attributes import MASKING_SYSTEM
from relais.cda.xds_registry import HIDDEN_FROM_PATIENT, HIDDEN_FROM_PROFESSIONALS, HIDDEN_FROM_REPRESENTATIVES
from relais.mappings.context import Resource

Audience = Literal["professionals", "patient", "representatives"]
"""From whom a document can be hidden."""
AUDIENCES: tuple[Audience, ...] = get_args(Audience)
MASKS: dict[Audience, CodedValue] = {
    "professionals": HIDDEN_FROM_PROFESSIONALS,
    "patient": HIDDEN_FROM_PATIENT,
    "representatives": HIDDEN_FROM_REPRESENTATIVES,
}
"""confidentialityCode of the metadata."""
_SYSTEMS = (
    f"urn:oid:{MASKING_SYSTEM}",
    "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument",
)


def hidden_by(codes: Iterable[CodedValue]) -> frozenset[Audience]:
    """From whom the confidentiality codes of an entry hide it."""
    named = {(code.system, code.code) for code in codes}
    return frozenset(audience for audience, mask in MASKS.items() if (mask.system, mask.code) in named)


def hidden_by_labels(reference: Resource) -> frozenset[Audience]:
    """From whom a DocumentReference says that its document is hidden (securityLabel, as PDSm writes it)."""
    named = {
        coding.get("code")
        for label in reference.get("securityLabel", ())
        for coding in label.get("coding", ())
        if coding.get("system") in _SYSTEMS
    }
    return frozenset(audience for audience, mask in MASKS.items() if mask.code in named)


def contradictions(hidden: Collection[Audience], *, to_patient: bool, place: str) -> Iterator[Issue]:
    """What may not be: both masks that leave nobody to read, and a mail to whom the document is hidden from."""
    if {"professionals", "patient"} <= set(hidden):
        message = "a document is not hidden from professionals and from the patient at once"
        yield Issue("error", "business-rule", message, place, "EX_2.1-1050")
    if "patient" in hidden and to_patient:
        message = "a document that is hidden from the patient is not sent to the patient"
        yield Issue("error", "business-rule", message, place, "MSSanté, HL7v2 volet: M1, M3")
