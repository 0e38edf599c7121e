"""Who keeps a document and who receives it: custodian and informationRecipient of the header (CI-SIS Structuration
minimale; docs/mapping-header.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from relais.cda import templates
from relais.cda.model import NamePart, Organization, PersonName, Recipient, Telecom
from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.identity import codes
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import telecoms
from relais.mappings.to_cda.header_sources import Carrier, participations
from relais.mappings.to_cda.parties import (
    emitter,
    is_national_structure,
    organization,
    party_addresses,
    party_ids,
    party_name,
    party_telecoms,
    read_party,
)
from relais.mappings.to_cda.relatives import related_entities

_FOR_INFORMATION = "TRC"  # any other is PRCP, to whom the document is addressed (CDA R2)
CUSTODIAN_OF_PATIENTS = "1.2.250.1.213.4.1"


def custodian(conversion: Conversion, carrier: Carrier, composition: Resource) -> Organization:
    """Exactly one legal id, one telecom and one address at most."""
    stated = [(composition["custodian"], "Composition.custodian")] if "custodian" in composition else []
    for reference, path in [*stated, *carrier.custodians]:
        structure = conversion.resolve(reference, path, composition if stated else carrier.resource)
        if structure is not None:
            found = organization(conversion, structure, f"{path}.resolve()")
            break
    else:
        found = emitter(conversion.deployment) or Organization()
        path = carrier.custodian_path or f"{carrier.path}.extension('{extensions.CUSTODIAN}').value"
    if not is_national_structure(found.ids) and not any(ii.root == CUSTODIAN_OF_PATIENTS for ii in found.ids):
        conversion.refuse(
            f"{path}.resolve().identifier",
            "FINESS or SIREN of the structure that keeps the document (or the setting organization_finess)",
            "CI-SIS Structuration minimale, custodian",
        )
    return replace(
        found, telecoms=found.telecoms[:1], addresses=found.addresses[:1], names=found.names[:1], industry_class=None
    )


def recipients(conversion: Conversion, carrier: Carrier, composition: Resource) -> Iterator[Recipient]:
    """informationRecipient: those of the Composition, else those of the carrier."""
    stated = [
        (parts.get("party") or {}, path, _FOR_INFORMATION if _FOR_INFORMATION in codes(parts.get("type")) else None)
        for parts, path in participations(composition, extensions.INFORMATION_RECIPIENT)
    ]
    for reference, path, type_code in stated or [(*named, None) for named in carrier.recipients]:
        target = conversion.resolve(reference, path, composition if stated else carrier.resource)
        recipient = _recipient(conversion, target, reference, path)
        if recipient is None:
            if target is not None:
                conversion.inform(
                    path,
                    "this kind of recipient has no place in the header",
                    "CI-SIS Structuration minimale, informationRecipient",
                )
            continue
        recipient.telecoms = [*recipient.telecoms, *_endpoint(conversion, reference, path)]
        recipient.type_code = type_code
        yield recipient


def _recipient(conversion: Conversion, target: Resource | None, reference: Resource, path: str) -> Recipient | None:
    """A professional or a structure with national number; the person or a relative by name, never by id."""
    if target is None:
        name = (reference.get("display") or "").strip()
        return Recipient(name=PersonName(families=[NamePart(name)])) if name else None
    if target.get("resourceType") == "RelatedPerson":
        conversion.same_patient(target, "patient", f"{path}.resolve()")
        entities = related_entities(conversion, target, f"{path}.resolve()")[:1]
        return next((Recipient([], one.addresses, one.telecoms, one.name) for one in entities), None)
    party = read_party(conversion, target, f"{path}.resolve()")
    if party is None or party.source.get("resourceType") == "Device":
        return None
    ids = party_ids(conversion, party) if party.is_professional else []
    structure = party.structure
    return Recipient(
        ids=[ii for ii in ids if ii.root == templates.PS_IDNAT],
        addresses=party_addresses(conversion, party),
        telecoms=party_telecoms(conversion, party),
        name=party_name(conversion, party),
        organization=_received(organization(conversion, structure, f"{party.path}.organization"))
        if structure
        else None,
    )


def _endpoint(conversion: Conversion, reference: Resource, path: str) -> list[Telecom]:
    """Where a recipient wants to be reached; a scheme that is written twice counts once (volet NdE)."""
    url = (extensions.value(reference, extensions.RECIPIENT_ENDPOINT) or "").strip()
    scheme, _, rest = url.partition(":")
    if scheme and rest.startswith(f"{scheme}:"):
        conversion.inform(
            f"{path}.extension", "the scheme of the address is written twice", "CI-SIS NdE, recipient-endpoint"
        )
        url = rest
    return telecoms(conversion, [{"system": "url", "value": url}] if url else [], path, "Destinataire")


def _received(structure: Organization) -> Organization:
    return replace(
        structure, ids=[ii for ii in structure.ids if ii.root == templates.STRUCT_IDNAT], industry_class=None
    )
