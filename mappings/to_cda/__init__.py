"""FHIR to CDA: resources in, `relais.cda.model.Document` out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relais.cda.errors import Issue, MappingError
from relais.mappings import identity
from relais.mappings.context import Emission, Mapped, Resource
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda.agenda import agenda_document, appointment_document
from relais.mappings.to_cda.notification import notification_document
from relais.mappings.to_cda.pps import pps_document
from relais.mappings.to_cda.relatives import is_guardian

__all__ = ["convert"]

RULE = "docs/mapping-pps.md"

CARRIERS = (("CarePlan",), ("CommunicationRequest", "Communication"), ("Appointment",))
"""What a document can be about, first things first: a plan has appointments among its actions, not the reverse."""


_AROUND = frozenset(
    {"Binary", "CareTeam", "Composition", "Consent", "OperationOutcome", "PractitionerRole", "Provenance"}
)
"""Types that nothing need refer to: who else takes part, what the person agrees to, how the Bundle came about."""


def convert(bundle: Resource, emission: Emission) -> Mapped:
    """The document of a Bundle: of what its Composition presents, else of its only CarePlan or notification, else of
    its Appointments.

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
    first, *others = carriers = _carriers(resources, composition)
    kind = first["resourceType"]
    if kind == "CarePlan":
        return pps_document(first, resources, emission, composition=composition, document_id=document_id)
    if kind != "Appointment":
        mapped = notification_document(first, resources, emission, composition=composition, document_id=document_id)
    elif not others:
        mapped = appointment_document(first, resources, emission, composition=composition, document_id=document_id)
    else:
        patient = _patient(resources, composition)
        mapped = agenda_document(
            patient, carriers, resources, emission, composition=composition, document_id=document_id
        )
    return Mapped(mapped.document, [*mapped.issues, *_unreached(bundle, resources, [*carriers, composition])])


def _unreached(bundle: Resource, resources: ResourceSet, waiting: list[Resource]) -> Iterator[Issue]:
    """What of a Bundle neither what the document is about nor its Composition (`waiting`) lead to: it is not written.

    A professional leads to his roles; legal representatives are looked for. The description of the document itself,
    which an imported one has, is no news.
    """
    reached: set[int] = set()
    roles: dict[int, list[Resource]] = {}
    for role in resources.of_type("PractitionerRole"):
        roles.setdefault(id(resources.resolve(role.get("practitioner"), role)), []).append(role)
    relatives = resources.of_type("RelatedPerson")
    waiting += [one for one in relatives if is_guardian(one.get("relationship", ()))]
    while waiting:
        one = waiting.pop()
        if id(one) not in reached:
            reached.add(id(one))
            targets = (resources.resolve(reference, one) for reference in _references(one))
            waiting += [target for target in targets if target is not None]
            waiting += roles.get(id(one), [])
    for resource in resources:
        is_description = "identifier" in bundle and resource.get("masterIdentifier") == bundle["identifier"]
        if id(resource) not in reached and resource["resourceType"] not in _AROUND and not is_description:
            message = "nothing of the document refers to it: not written"
            yield Issue("information", "informational", message, resources.place(resource), RULE)


def _references(element: Any) -> Iterator[str]:
    """Every reference below an element, and every address of a Binary."""
    if isinstance(element, dict):
        for name, value in element.items():
            if name in ("reference", "url") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(element, list):
        for one in element:
            yield from _references(one)


def _carriers(resources: ResourceSet, composition: Resource) -> list[Resource]:
    """The resources that the document is about: one, or several appointments."""
    presented = [
        target
        for section in composition.get("section", ())
        for entry in section.get("entry", ())
        if (target := resources.resolve(entry, composition)) is not None
    ]
    for kinds in CARRIERS:
        found = [one for one in presented if one.get("resourceType") in kinds]
        if found:
            return found if kinds == ("Appointment",) else found[:1]
    for kinds in CARRIERS:
        found = [one for kind in kinds for one in resources.of_type(kind)]
        if len(found) == 1 or (found and kinds == ("Appointment",)):
            return found
        if found:
            raise _refusal(kinds[0], f"one {kinds[0]} is expected, or a Composition that presents one: several found")
    message = "a CarePlan, a CommunicationRequest, a Communication or Appointments are expected: none found"
    if composition.get("section"):
        message += "; a document known by header and narrative alone goes on as received (its DocumentReference)"
    raise _refusal("CarePlan", message)


def _patient(resources: ResourceSet, composition: Resource) -> Resource:
    """The patient of several appointments: the subject of the Composition, else the only Patient."""
    subject = resources.resolve(composition.get("subject"), composition)
    found = [subject] if subject is not None else resources.of_type("Patient")
    if len(found) != 1:
        raise _refusal("Patient", "one Patient is expected: a document has one patient")
    return found[0]


def _refusal(resource_type: str, message: str) -> MappingError:
    return MappingError(Issue("error", "not-found", message, f"Bundle.entry.resource.ofType({resource_type})", RULE))
