"""Who answers for a document and signs it: legalAuthenticator and authenticator of the header (CI-SIS Structuration
minimale; docs/mapping-header.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda import templates
from relais.cda.model import Authenticator
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.header_authors import demand_name, with_structure
from relais.mappings.to_cda.header_sources import Carrier, attesters
from relais.mappings.to_cda.parties import Party, assigned_entity, read_party


def answering(conversion: Conversion, carrier: Carrier, composition: Resource) -> Party | None:
    """The professional who answers for a document that software may have made."""
    for resource, path in carrier.responsible:
        party = read_party(conversion, resource, path)
        if party is not None and party.is_professional:
            return party
    for attester, path in attesters(composition, "legal"):
        target = conversion.resolve(attester.get("party"), f"{path}.party", composition)
        party = read_party(conversion, target, f"{path}.party.resolve()")
        if party is not None and party.is_professional:
            return party
    return None


def legal_authenticator(
    conversion: Conversion, composition: Resource, lead: Party | None, time: str
) -> Authenticator | None:
    """The attester who answers for the content, else the first human author."""
    for attester, path in attesters(composition, "legal"):
        target = conversion.resolve(attester.get("party"), f"{path}.party", composition)
        party = read_party(conversion, target, f"{path}.party.resolve()")
        if party is not None:
            signed = conversion.time(attester.get("time"), f"{path}.time")
            return Authenticator(signed or time, assigned_entity(conversion, party))
    if lead is None:
        return None
    assigned = with_structure(conversion, assigned_entity(conversion, lead), lead)
    demand_name(conversion, assigned, lead)
    return Authenticator(time, assigned)


def authenticators(
    conversion: Conversion, carrier: Carrier, composition: Resource, lead: Party | None
) -> Iterator[Authenticator]:
    """Professional attesters; without a Composition, who approved the plan when that is not its author."""
    signers = [
        (attester.get("party"), attester.get("time"), f"{path}.party", composition)
        for attester, path in attesters(composition, "professional")
    ]
    if not composition and carrier.approver:
        approver, said_at, said_by = carrier.approver
        signers = [(approver, carrier.approved, said_at, said_by)]
    for reference, time, path, container in signers:
        party = read_party(conversion, conversion.resolve(reference, path, container), f"{path}.resolve()")
        if party is None or (not composition and lead is not None and party.source is lead.source):
            continue
        signed = conversion.time(time, path)
        assigned = assigned_entity(conversion, party)
        if signed and assigned.ids and assigned.ids[0].root == templates.PS_IDNAT:
            yield Authenticator(signed, assigned)
        else:
            conversion.warn(
                path,
                "an authenticator needs a national number and a time: not written",
                "CI-SIS Structuration minimale, authenticator",
            )
