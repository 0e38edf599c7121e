"""informant of the header: relatives, and professionals that a Composition names (CI-SIS Structuration minimale;
docs/mapping-header.md).
"""

from __future__ import annotations

from relais.cda.model import Informant
from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.header_sources import Carrier, participations
from relais.mappings.to_cda.parties import assigned_entity, read_party
from relais.mappings.to_cda.relatives import contacts, related_entities, relationships


def informants(conversion: Conversion, carrier: Carrier, composition: Resource) -> list[Informant]:
    """Relatives, one informant per role; professionals only when a Composition names them."""
    found: list[Informant] = []
    stated = list(participations(composition, extensions.INFORMANT))
    for parts, path in stated:
        target = conversion.resolve(parts.get("party"), path, composition)
        if target is None:
            continue
        if target.get("resourceType") == "RelatedPerson":
            if conversion.same_patient(target, "patient", f"{path}.resolve()"):
                _add_relatives(conversion, found, target, f"{path}.resolve()")
        elif party := read_party(conversion, target, f"{path}.resolve()"):
            found.append(Informant(assigned=assigned_entity(conversion, party)))
    if not stated and carrier.relatives:
        for person, path in relationships(conversion):
            _add_relatives(conversion, found, person, path)
        for contact, path in contacts(conversion):
            _add_relatives(conversion, found, contact, path)
    return found


def _add_relatives(conversion: Conversion, found: list[Informant], source: Resource, path: str) -> None:
    """Add the roles of a relative that are not there yet: two resources may describe the same person."""
    for entity in related_entities(conversion, source, path):
        same = (one for one in found if one.related and one.related.class_code == entity.class_code)
        if all(one.related is None or one.related.name != entity.name for one in same):
            found.append(Informant(related=entity))
