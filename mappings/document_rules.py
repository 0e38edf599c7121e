"""What may go where: the destinations that accept a document, by its type, its format and the sector of its place.

JDV_J66 and JDV_J60 (types and formats of the DMP, column `dmp` of `data/xds_type_class.tsv` and `data/xds_format.tsv`),
JDV_J61 (its secteurs d'activité, which lack some that a document may state); ASS_X04 (types of the CI-SIS), which
MSSanté and the HL7v2 volet go by.
"""

from __future__ import annotations

from typing import Literal, get_args

from relais.cda.errors import Issue
from relais.cda.model import Code, Document
from relais.mappings.document_metadata import format_row, type_row
from relais.mappings.terminology import concept

Destination = Literal["dmp", "mss", "hl7v2", "mhd"]
"""A way out: the DMP, a mailbox of MSSanté, another system of the structure by HL7v2, a FHIR document share (PDSm)."""

FACILITY_PATH = "ClinicalDocument/componentOf/encompassingEncounter/location/healthCareFacility/code"
DESTINATIONS: tuple[Destination, ...] = get_args(Destination)


def destinations(kind: Code) -> frozenset[Destination]:
    """Where a document of that type may go: an agenda (56446-8) everywhere but the DMP, a PPS (18776-5) everywhere.

    A type that the CI-SIS does not class goes nowhere: no metadata can be made for it.
    """
    row = type_row(kind)
    if row is None:
        return frozenset()
    return frozenset(one for one in DESTINATIONS if one != "dmp" or row["dmp"] == "yes")


def refusals(document: Document, destination: Destination) -> list[Issue]:
    """Why a document may not go there; nothing when it may."""
    found = []
    kind = document.header.code
    if destination not in destinations(kind):
        message = (
            "the list of types of the DMP does not hold the type of this document: MSSanté or HL7v2 take it"
            if destination == "dmp" and destinations(kind)
            else "the CI-SIS classes no such type of document"
        )
        found.append(Issue("error", "not-supported", message, "ClinicalDocument/code", "JDV_J66, ASS_X04"))
    row = format_row(document)
    if destination == "dmp" and row is not None and row["dmp"] == "no":
        message = "the list of formats of the DMP does not hold the format of this document"
        found.append(Issue("error", "not-supported", message, "ClinicalDocument/templateId", "JDV_J60"))
    if destination == "dmp" and not _is_sector_of_dmp(document):
        message = "the list of secteurs d'activité of the DMP does not hold that of the place of care"
        found.append(Issue("error", "not-supported", message, FACILITY_PATH, "JDV_J61"))
    return found


def _is_sector_of_dmp(document: Document) -> bool:
    """True also without any: what a document lacks for its metadata is said where they are made."""
    encounter = document.header.encounter
    code = encounter.facility.code if encounter and encounter.facility else None
    return code is None or code.code is None or concept("J61", code.code, code.system) is not None
