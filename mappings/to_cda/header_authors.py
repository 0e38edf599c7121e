"""author and dataEnterer of the header (CI-SIS Structuration minimale; docs/mapping-header.md)."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda.model import AssignedEntity, Author, Code, DataEnterer
from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.header_sources import Carrier, participations
from relais.mappings.to_cda.header_team import Member
from relais.mappings.to_cda.parties import Party, assigned_entity, emitter, read_party

_AUTOMATON = ("1.2.250.1.213.1.1.4.6", "AUTOMATE")


def authors(
    conversion: Conversion,
    carrier: Carrier,
    composition: Resource,
    members: list[Member],
    time: str,
    lead: Party | None,
) -> Iterator[tuple[Author, Party]]:
    """author: professionals and devices, with who each is; `lead` answers for a document that software made."""
    stated = [
        (reference, f"Composition.author[{index}]") for index, reference in enumerate(composition.get("author", ()))
    ]
    found = False
    for reference, path in stated or carrier.authors:
        target = conversion.resolve(reference, path, composition if stated else carrier.resource)
        party = read_party(conversion, target, f"{path}.resolve()")
        if carrier.by_software and party is not None and party.source.get("resourceType") == "Organization":
            party = _software(party.path, party.structure)
        if party is None or party.source.get("resourceType") == "Organization":
            if target is not None:
                conversion.inform(
                    path,
                    "an author is a professional or a device: not written",
                    "CI-SIS Structuration minimale, author",
                )
            continue
        own_time = extensions.value(reference, extensions.AUTHOR_TIME) or (None if stated else carrier.authored)
        functions = [one for member in members if member.party.source is party.source for one in member.functions]
        written = conversion.time(own_time, f"{path}.time") or time
        found = True
        yield _author(conversion, party, written, functions), party
    if not found and carrier.by_software:
        known = conversion.deployment.organization_finess or lead is None
        party = _software(f"{carrier.path}.author", None if known or lead is None else lead.structure)
        yield _author(conversion, party, conversion.time(carrier.authored, f"{carrier.path}.author") or time, []), party


def _software(path: str, structure: Resource | None) -> Party:
    """The emitter's software as an author, working for that structure; the emitter when none is given."""
    kind = {"coding": [{"system": f"urn:oid:{_AUTOMATON[0]}", "code": _AUTOMATON[1]}]}
    return Party({"resourceType": "Device", "type": kind}, path, structure=structure)


def _author(conversion: Conversion, party: Party, time: str, functions: list[Code]) -> Author:
    assigned = with_structure(conversion, assigned_entity(conversion, party), party)
    if party.is_professional:
        demand_name(conversion, assigned, party)
        if assigned.code is None:
            conversion.warn(
                f"{party.path}.code",
                "no profession of JDV_J01: XDS authorSpecialty stays empty",
                "CI-SIS Structuration minimale, author",
            )
    return Author(time, assigned, functions[0] if functions and party.is_professional else None)


def with_structure(conversion: Conversion, assigned: AssignedEntity, party: Party) -> AssignedEntity:
    """An author acts for a structure: the emitter as configured when the resources name none."""
    if assigned.organization is None and party.source.get("resourceType") != "Patient":
        assigned.organization = emitter(conversion.deployment)
    return assigned


def demand_name(conversion: Conversion, assigned: AssignedEntity, party: Party) -> None:
    """Refuse a professional of whom no name is known."""
    if assigned.person is None:
        conversion.refuse(
            f"{party.path}.name.family", "the name of the professional", "CI-SIS Structuration minimale, assignedPerson"
        )


def data_enterer(conversion: Conversion, composition: Resource) -> DataEnterer | None:
    """dataEnterer: the first that the Composition names."""
    for parts, path in participations(composition, extensions.DATA_ENTERER):
        party = read_party(conversion, conversion.resolve(parts.get("party"), path, composition), f"{path}.resolve()")
        if party is not None:
            return DataEnterer(assigned_entity(conversion, party), conversion.time(parts.get("time"), path))
    return None
