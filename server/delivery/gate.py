"""What may leave by which way: asked when an order is accepted, and again before every attempt.

Settings may have changed between the two, and a document may have been made elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from relais.cda.errors import Issue
from relais.cda.model import Document
from relais.cda.templates import INS_ROOTS
from relais.mappings import document_rules
from relais.mappings.document_rules import Destination
from relais.mappings.identity import may_leave
from relais.mappings.terminology import concept
from relais.server.settings import Settings

CHANNELS: tuple[Destination, ...] = document_rules.DESTINATIONS
REPLACING = frozenset({"dmp", "mhd"})
"""Channels whose receiver is told which entry a document replaces; elsewhere its header says so."""
WITHDRAWING = frozenset({"dmp", "hl7v2", "mhd"})
"""Channels by which a document can be withdrawn. A mail that was taken cannot."""
ACKNOWLEDGING = frozenset({"mss", "hl7v2"})
"""Channels whose receivers can be asked for acknowledgements."""


def is_configured(channel: str, settings: Settings) -> bool:
    """Whether the settings say where a channel leads."""
    configured = {
        "mss": settings.mss_sender,
        "dmp": settings.dmp_url,
        "hl7v2": settings.hl7v2_host,
        "mhd": settings.mhd_url,
    }
    return bool(configured.get(channel))


def missing_settings(channel: str, settings: Settings) -> list[str]:
    """What a configured channel cannot send anything without, and the settings lack."""
    needed = {"hl7v2": ("hl7v2_receiving_application", "hl7v2_receiving_facility")}  # MSH-5 and MSH-6
    return [name for name in needed.get(channel, ()) if not getattr(settings, name)]


def destination(channel: str, settings: Settings) -> str:
    """Where a channel leads, for people and for the circuit that all deliveries to that place share."""
    places = {
        "mss": f"{settings.mss_host}:{settings.mss_port}",
        "dmp": urlsplit(settings.dmp_url).netloc,
        "hl7v2": f"{settings.hl7v2_host}:{settings.hl7v2_port}",
        "mhd": urlsplit(settings.mhd_url).netloc,
    }
    return f"{channel} {places.get(channel, '')}".rstrip()


def refusals(document: Document, channel: Destination, settings: Settings) -> list[Issue]:
    """Why a document may not leave by a channel; nothing when it may."""
    return [
        *document_rules.refusals(document, channel),
        *_environment(document, settings),
        *_confidentiality(document, channel),
        *_own_sector(channel, settings),
    ]


def _confidentiality(document: Document, channel: Destination) -> Iterator[Issue]:
    """The DMP takes what is of normal confidentiality; what is hidden there is said by masks beside it."""
    code = document.header.confidentiality
    if channel == "dmp" and (code is None or code.code != "N"):
        message = "the DMP takes documents of confidentiality N only"
        yield Issue("error", "business-rule", message, "ClinicalDocument/confidentialityCode", "JDV_J58")


def _own_sector(channel: Destination, settings: Settings) -> Iterator[Issue]:
    """The VIHF names the secteur d'activité of this structure by a code of the DMP's own list."""
    if channel == "dmp" and concept("J61", settings.facility_type) is None:
        message = "the list of secteurs d'activité of the DMP does not hold that of this structure"
        yield Issue("error", "not-supported", message, "facility_type", "VIHF: Secteur_Activite, JDV_J61")


def _environment(document: Document, settings: Settings) -> Iterator[Issue]:
    """An INS of production never leaves a test instance, nor one of test a production instance (Référentiel INS)."""
    for index, identifier in enumerate(document.header.patient.ids, start=1):
        if identifier.root in INS_ROOTS and not may_leave(identifier.root, settings.deployment):
            yield Issue(
                "error",
                "business-rule",
                f"an INS that may not leave an instance in {settings.ins_environment} mode",
                f"ClinicalDocument/recordTarget/patientRole/id[{index}]",
                "Référentiel INS: OIDs of test and production",
            )
