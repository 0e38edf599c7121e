"""Who sends a document, as the author of its lot: whom the VIHF, the MDM (PRT SB) and README.TXT name.

CI-SIS volet Partage de documents de santé, SEL-MP-037: SubmissionSet.author is who sends, whoever wrote the document;
its structure is that of the VIHF and of the certificate.
"""

from __future__ import annotations

from collections.abc import Sequence

from relais.cda.templates import PS_IDNAT, STRUCT_IDNAT
from relais.cda.xds import MetadataAuthor
from relais.cda.xds_types import XCN, XON
from relais.server.delivery.vihf import AUTOMATON
from relais.server.settings import Settings


def lot_author(authors: Sequence[MetadataAuthor], settings: Settings) -> MetadataAuthor:
    """The first author of a document who works in the structure of the settings, else who answers for it there.

    Where the settings name no structure, the first author: each sends for the own one.
    """
    if not settings.organization_finess:
        return authors[0]
    own = f"1{settings.organization_finess}"
    ours = (author for author in authors if own in {XON.parse(text).id for text in author.institutions})
    return next(ours, None) or _emitter(own, settings)


def _emitter(structure: str, settings: Settings) -> MetadataAuthor:
    """The professional of `responsible_…`, else the software, in the structure of the settings."""
    institution = str(XON(settings.organization_name, structure, STRUCT_IDNAT, "IDNST"))
    family, given = settings.responsible_family, settings.responsible_given
    if settings.responsible_rpps and family:
        person = XCN(f"8{settings.responsible_rpps}", family, given, PS_IDNAT, "D", "IDNPS")
        return MetadataAuthor(str(person), (institution,))
    software = settings.deployment.software_name
    device = XCN(f"3{settings.organization_finess}/{software}", software, software, PS_IDNAT, "U", "RI")
    specialty = f"{AUTOMATON.code}^{AUTOMATON.display}^{AUTOMATON.system}"
    return MetadataAuthor(str(device), (institution,), specialties=(specialty,))
