"""From whom a document is hidden: the masks of its metadata, and what may not be ordered together.

TRE_A07 (StatutVisibiliteDocument, JDV_J08 and JDV_J58), SEL-MP-037 for the DMP, HL7 v2 volet for mailboxes. A mask goes
with the document by every way: to the DMP it hides the entry, to a platform it is a flag, in an archive it tells the
receiver. To hide from professionals does not keep a mail from those it is addressed to (HL7 v2 volet, 2.1.1). A secret
connection to the DMP of a minor (VIHF) is for what is hidden from the legal representatives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import date
from typing import Literal, get_args

from relais.cda.errors import Issue
from relais.cda.model import Code, Document
from relais.cda.xds import CodedValue
from relais.cda.xds_attributes import MASKING_SYSTEM
from relais.cda.xds_registry import HIDDEN_FROM_PATIENT, HIDDEN_FROM_PROFESSIONALS, HIDDEN_FROM_REPRESENTATIVES
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import concept
from relais.server.settings import Settings

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


MINORS_RULE = "SEL-MP-037: connexion secrète"


def secret_objections(
    document: Document, hidden: Collection[Audience], channels: Collection[str], settings: Settings, on: date
) -> Iterator[Issue]:
    """Why a document may not go by a secret connection: it is for the DMP of a minor, hidden from the representatives.

    The DMP must have switched it on (parameter file); of the DMP behind a platform the platform knows.
    """

    def refusal(code: str, message: str) -> Issue:
        return Issue("error", code, message, "secretConnection", MINORS_RULE)

    if not {"dmp", "hl7v2"} & set(channels):
        yield refusal("invalid", "a secret connection is one to the DMP: by dmp, or by hl7v2")
    if "dmp" in channels and not settings.dmp_minors:
        yield refusal("not-supported", "the DMP has not switched the functions for minors on (setting dmp_minors)")
    if "representatives" not in hidden:
        yield refusal("business-rule", "by a secret connection goes only what is hidden from the representatives")
    born = document.header.patient.birth_time
    if not born or not _is_minor(born, settings.dmp_majority, on):
        yield refusal("business-rule", "a secret connection is for the DMP of a minor")


def minor_objections(
    document: Document, hidden: Collection[Audience], settings: Settings, on: date, place: str
) -> Iterator[Issue]:
    """Why a document may not go to the mailbox of its patient, which those read who represent a minor."""
    born = document.header.patient.birth_time
    if "representatives" in hidden and born and _is_minor(born, settings.dmp_majority, on):
        message = "the legal representatives of a minor read the minor's mailbox: the document is hidden from them"
        yield Issue("error", "business-rule", message, place, "HL7v2 volet: INVISIBLE_REP_LEGAUX")


def _is_minor(born: str, majority: int, on: date) -> bool:
    """Whether who was born then (TS, of which the earliest day counts) is a minor on that day."""
    return f"{on.year - majority:04}{on:%m%d}" < born[:8] + "0101"[len(born[4:8]) :]


def hidden_by(codes: Iterable[CodedValue]) -> frozenset[Audience]:
    """From whom the confidentiality codes of an entry hide it."""
    named = {(code.system, code.code) for code in codes}
    return frozenset(audience for audience, mask in MASKS.items() if (mask.system, mask.code) in named)


def hidden_by_labels(resource: Resource) -> frozenset[Audience]:
    """From whom a resource says that it is hidden: `securityLabel` of a DocumentReference, as PDSm writes it, and
    `meta.security` of any."""
    named = {coding.get("code") for coding in _stated_masks(resource)}
    return frozenset(audience for audience, mask in MASKS.items() if mask.code in named)


def unknown_masks(resource: Resource) -> Iterator[Issue]:
    """The masks of a resource that no receiver is told of: from social professionals, from third persons (JDV_J110)."""
    known = {mask.code for mask in MASKS.values()}
    place = "securityLabel" if "securityLabel" in resource else "meta.security"
    for coding in _stated_masks(resource):
        code = coding.get("code") or ""
        if code.startswith(("MASQUE_", "INVISIBLE_")) and code not in known:
            message = f"{code}: no metadata of a document say so, it would be shown"
            yield Issue("error", "business-rule", message, place, "JDV_J08, JDV_J110")


def _stated_masks(resource: Resource) -> Iterator[Resource]:
    labels = (coding for label in resource.get("securityLabel", ()) for coding in label.get("coding", ()))
    stated = (*labels, *resource.get("meta", {}).get("security", ()))
    return (coding for coding in stated if coding.get("system") in _SYSTEMS)


def labelled(reference: Resource, hidden: Collection[Audience], *, alone: bool = False) -> Resource:
    """A DocumentReference that says from whom its document is hidden: from those, too; `alone`: from nobody else."""
    wanted = set(hidden) if alone else hidden_by_labels(reference) | set(hidden)
    if wanted == hidden_by_labels(reference):
        return reference
    labels = [*_other_labels(reference), *(_label(MASKS[audience]) for audience in AUDIENCES if audience in wanted)]
    changed = {name: content for name, content in reference.items() if name != "securityLabel"}
    return changed | ({"securityLabel": labels} if labels else {})


def _other_labels(reference: Resource) -> Iterator[Resource]:
    """The labels, without the masks that stand in them."""
    masks = {mask.code for mask in MASKS.values()}
    for label in reference.get("securityLabel", ()):
        stated = label.get("coding", ())
        others = [one for one in stated if one.get("system") not in _SYSTEMS or one.get("code") not in masks]
        if len(others) == len(stated):
            yield label
        elif others:
            yield label | {"coding": others}


def _label(mask: CodedValue) -> Resource:
    return concept(Code(mask.code, mask.system, display=mask.display))


def contradictions(hidden: Collection[Audience], *, to_patient: bool, place: str) -> Iterator[Issue]:
    """What may not be: both masks that leave nobody to read, and a mail to whom the document is hidden from."""
    if {"professionals", "patient"} <= set(hidden):
        message = "a document is not hidden from professionals and from the patient at once"
        yield Issue("error", "business-rule", message, place, "EX_2.1-1050")
    if "patient" in hidden and to_patient:
        message = "a document that is hidden from the patient is not sent to the patient"
        yield Issue("error", "business-rule", message, place, "MSSanté, HL7v2 volet: M1, M3")
