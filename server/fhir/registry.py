"""The one registry of interactions and resource types: routes, Bundle entries and CapabilityStatement come from it.

FHIR R4 §3.1.0 (RESTful API). Adding a type is adding its name; adding an interaction is adding its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from relais.profiles import definitions
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.operations import Operation
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Repository, new_id, refuse_wrong_structure

Level = Literal["system", "type", "instance", "compartment"]

RESOURCE_TYPES: tuple[str, ...] = (
    "Appointment",
    "AuditEvent",
    "Binary",
    "CapabilityStatement",
    "CarePlan",
    "CareTeam",
    "CodeSystem",
    "Communication",
    "CommunicationRequest",
    "CompartmentDefinition",
    "Composition",
    "ConceptMap",
    "Condition",
    "Consent",
    "Coverage",
    "Device",
    "DocumentReference",
    "Encounter",
    "Endpoint",
    "EpisodeOfCare",
    "Flag",
    "Goal",
    "Group",
    "HealthcareService",
    "ImplementationGuide",
    "List",
    "Location",
    "NamingSystem",
    "Observation",
    "OperationDefinition",
    "Organization",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "Schedule",
    "SearchParameter",
    "ServiceRequest",
    "Slot",
    "StructureDefinition",
    "Subscription",
    "Task",
    "ValueSet",
)

SEGMENTS: Mapping[str, str] = MappingProxyType(
    {
        "resource_type": r"[A-Za-z]+",
        "id": r"[A-Za-z0-9\-.]{1,64}",
        "version": r"[A-Za-z0-9\-.]{1,64}",
        "compartment": "|".join(definitions.compartments()),
        "file": r"[A-Za-z]+\.[0-9]+\.ndjson",
    }
)
"""Variable segments of an interaction's path, each with its regular expression."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """One thing a client can ask for.

    `code` is its name in CapabilityStatement.rest(.resource).interaction, `path` a template below the base whose
    variable segments are those of SEGMENTS. `takes_body`: a resource of the type in the
    address; `takes_patch`: a change to one. `parameters` are those it offers besides `_format` and `_pretty`;
    `takes_query`: it reads the whole query itself. `capability` is what else it lets CapabilityStatement.rest.resource
    state.
    """

    code: str
    level: Level
    method: str
    path: str
    run: Callable[[Any, Call], Reply]  # first a Reader, or a Transaction when it writes
    writes: bool = False
    takes_body: bool = False
    takes_patch: bool = False
    takes_query: bool = False
    parameters: tuple[str, ...] = ()
    capability: Mapping[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """Its one method, as an Operation has several."""
        return (self.method,)

    def serves(self, resource_type: str) -> bool:
        """Every served type has every interaction."""
        return bool(resource_type)

    def perform(self, repository: Repository, call: Call) -> Reply:
        """Run it by itself, in a transaction of its own when it writes.

        Bodies are checked and their index rows made before writers wait.
        """
        if not self.writes:
            return self.run(repository, call)
        prepared = []
        if self.takes_body:
            call.remarks = repository.check([(call.resource(), call.place)], call.language)
            if self.code == "create" and call.if_none_exist is None:
                call.id = new_id()
            if call.id:
                prepared.append(repository.prepare(call.resource(), call.id))
        elif self.takes_patch and call.body is not None:
            refuse_wrong_structure([(call.body, call.place)])
        with repository.transaction(prepared) as transaction:
            return self.run(transaction, call)


Endpoint = Interaction | Operation


class Registry:
    """Interactions, operations and resource types that one facade serves."""

    def __init__(
        self,
        interactions: tuple[Interaction, ...],
        operations: Iterable[Operation] = (),
        resource_types: tuple[str, ...] = RESOURCE_TYPES,
    ) -> None:
        self.interactions = interactions
        self.operations = tuple(operations)
        self.resource_types = frozenset(resource_types)
        self._spelling = {name.lower(): name for name in resource_types}
        endpoints: dict[str, list[Endpoint]] = {}
        every: tuple[Endpoint, ...] = (*self.interactions, *self.operations)
        for endpoint in every:
            endpoints.setdefault(endpoint.path, []).append(endpoint)
        self._addresses = [(_pattern(path), served) for path, served in endpoints.items()]

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        """What `path` (below the base, without leading slash) names, and its variable segments.

        Raises FhirError 404 (nothing there, type not served) or 405 (not with this method).
        """
        wanted = "GET" if method == "HEAD" else method
        for pattern, endpoints in self._addresses:
            if match := pattern.fullmatch(path):
                names = match.groupdict()
                served = self._serving(endpoints, names.get("resource_type"))
                for endpoint in served:
                    if wanted in endpoint.methods:
                        return endpoint, names
                raise _not_offered(method, served)
        raise FhirError.of(404, "not-found", "no such address below the base")

    def _serving(self, endpoints: list[Endpoint], resource_type: str | None) -> list[Endpoint]:
        """Those that resources of a type have. A type written in the wrong case is told its right spelling."""
        if resource_type is None:
            return endpoints
        if resource_type not in self.resource_types:
            meant = self._spelling.get(resource_type.lower())
            hint = f"; did you mean {meant}?" if meant else ""
            raise FhirError.of(404, "not-supported", f"resource type {resource_type} is not served{hint}")
        served = [endpoint for endpoint in endpoints if endpoint.serves(resource_type)]
        if not served:
            raise FhirError.of(404, "not-supported", f"{resource_type} has no such operation")
        return served


def _not_offered(method: str, served: list[Endpoint]) -> FhirError:
    allowed = {method for endpoint in served for method in endpoint.methods}
    if "GET" in allowed:
        allowed.add("HEAD")
    return FhirError.of(405, "not-supported", f"{method} is not offered here", Allow=", ".join(sorted(allowed)))


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"<(\w+)>", path.strip("/"))
    named = (f"(?P<{part}>{SEGMENTS[part]})" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile("".join(named))
