"""FHIR to CDA: resources in, `relais.cda.model.Document` out."""

from __future__ import annotations

from relais.cda.errors import Issue, MappingError
from relais.mappings import identity
from relais.mappings.context import Emission, Mapped, Resource
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda.pps import pps_document

__all__ = ["convert"]

RULE = "cda-documents §4.6"


def convert(bundle: Resource, emission: Emission) -> Mapped:
    """The document of a Bundle: of the CarePlan its Composition presents, else of its only CarePlan.

    What a document Bundle says of the document (Bundle.identifier, Composition) wins, so that an imported document
    comes back with the same identity. Raises MappingError.
    """
    if bundle.get("resourceType") != "Bundle":
        raise MappingError(Issue("error", "invalid", "a Bundle is expected", "Bundle", RULE))
    resources = ResourceSet.of_bundle(bundle)
    composition = next(iter(resources.of_type("Composition")), {})
    document_id = None
    if bundle.get("type") == "document":
        document_id = identity.ii_of(bundle.get("identifier", {}))
    return pps_document(
        _carrier(resources, composition), resources, emission, composition=composition, document_id=document_id
    )


def _carrier(resources: ResourceSet, composition: Resource) -> Resource:
    """The CarePlan that the document is about."""
    plans = resources.of_type("CarePlan")
    presented = [
        plan
        for section in composition.get("section", ())
        for entry in section.get("entry", ())
        if (plan := resources.resolve(entry, composition)) is not None and plan.get("resourceType") == "CarePlan"
    ]
    candidates = presented[:1] or plans
    if len(candidates) != 1:
        found = "several" if candidates else "none"
        message = f"one CarePlan is expected, or a Composition that presents one: {found} found"
        raise MappingError(Issue("error", "not-found", message, "Bundle.entry.resource.ofType(CarePlan)", RULE))
    return candidates[0]
