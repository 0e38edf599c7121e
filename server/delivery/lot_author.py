"""Who sends a lot: its author, who need not be that of the documents in it (XDS SubmissionSet.author, SEL-MP-037).

The structure is the one that sends: the DMP wants it to be that of the VIHF and of the certificate. Of the authors of a
document the first who is of this structure sends it; what others wrote, who answers for this installation sends.
"""

from __future__ import annotations

from collections.abc import Iterable

from relais.cda.templates import PS_IDNAT, STRUCT_IDNAT
from relais.cda.xds import MetadataAuthor
from relais.cda.xds_types import XCN, XON
from relais.server.delivery import vihf
from relais.server.settings import Settings


def responsible(settings: Settings) -> MetadataAuthor:
    """Who answers for this installation (settings `responsible_…`). Raises DeliveryError naming missing settings."""
    who = vihf.requester(settings)
    person = XCN(who.identifier, settings.responsible_family, settings.responsible_given, PS_IDNAT, "D", "IDNPS")
    structure = XON(settings.organization_name, who.structure, STRUCT_IDNAT, "IDNST")
    return MetadataAuthor(str(person), (str(structure),))


def sender(authors: Iterable[MetadataAuthor], settings: Settings) -> MetadataAuthor:
    """Who sends a document of these authors; the first of them where the settings name no structure.

    Raises DeliveryError naming the settings that are missing when none of the authors is of this structure.
    """
    own = f"1{settings.organization_finess}"
    for author in authors:
        if not settings.organization_finess or own in (XON.parse(text).id for text in author.institutions):
            return author
    return responsible(settings)
