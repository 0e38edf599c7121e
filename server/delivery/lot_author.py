"""Who sends a lot: its author, who need not be that of the documents in it (XDS SubmissionSet.author, SEL-MP-037).

The structure is the one that sends: the DMP wants it to be that of the VIHF and of the certificate. Of the authors of a
document the first who is of this structure sends it; what others wrote, who answers for this installation sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version

from relais.cda.templates import PS_IDNAT, STRUCT_IDNAT
from relais.cda.xdm import Sender
from relais.cda.xds import MetadataAuthor
from relais.cda.xds_types import XCN, XON
from relais.server.delivery import vihf
from relais.server.delivery.channel import DeliveryError
from relais.server.settings import Settings

_VERSION = version("relais")  # which is read from files each time that it is asked for


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


def may_change(author: MetadataAuthor, authors: Iterable[MetadataAuthor]) -> bool:
    """Whether the author of a lot is one of these of a document, or of the structure of one: the DMP lets no other
    withdraw it."""
    return any(_who(author) & _who(one) for one in authors)


def _who(author: MetadataAuthor) -> set[str]:
    """The person and the structures of an author, by their identifiers; whole where they have none."""
    person = {XCN.parse(author.person).id or author.person} if author.person else set()
    return person | {XON.parse(text).id or text for text in author.institutions}


def sender_if_known(authors: Sequence[MetadataAuthor], settings: Settings) -> MetadataAuthor:
    """As `sender`; the first author where the settings do not say who answers: but the DMP nobody asks for more."""
    try:
        return sender(authors, settings)
    except DeliveryError:
        return authors[0]


def named_in_archives(author: MetadataAuthor, settings: Settings) -> Sender:
    """Who sends a lot, as README.TXT and INDEX.HTM of its archive tell people; address and phone are those of the
    structure of the settings, for no other one."""
    person, deployment = XCN.parse(author.person or ""), settings.deployment
    structures = [XON.parse(text) for text in author.institutions]
    own = f"1{settings.organization_finess}" if settings.organization_finess else ""
    is_ours = not structures or any(
        (own and one.id == own) or one.name == settings.organization_name for one in structures
    )
    return Sender(
        name=person.family if person.type == "RI" else f"{person.given} {person.family}".strip(),
        organization=structures[0].name if structures else settings.organization_name,
        address=settings.organization_address if is_ours else None,
        phone=settings.organization_phone if is_ours else None,
        application=deployment.software_name,
        version=_VERSION,
        vendor=deployment.software_vendor,
    )
