"""The one registry of interactions and resource types: routes, Bundle entries and CapabilityStatement come from it.

FHIR R4 §3.1.0 (RESTful API). Adding a type is adding its name; adding an interaction is adding its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Repository

Level = Literal["system", "type", "instance"]

RESOURCE_TYPES: tuple[str, ...] = (
    "Appointment",
    "AuditEvent",
    "Binary",
    "CarePlan",
    "CareTeam",
    "Communication",
    "CommunicationRequest",
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
    "List",
    "Location",
    "Observation",
    "Organization",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "Schedule",
    "ServiceRequest",
    "Slot",
    "Subscription",
    "Task",
)

SEGMENTS: Mapping[str, str] = MappingProxyType(
    {
        "resource_type": r"[A-Za-z]+",
        "id": r"[A-Za-z0-9\-.]{1,64}",
        "version": r"[A-Za-z0-9\-.]{1,64}",
    }
)
"""Variable segments of an interaction's path, each with its regular expression."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """One thing a client can ask for.

    `code` is its name in CapabilityStatement.rest(.resource).interaction, `path` a template below the base whose
    variable segments are those of SEGMENTS. `takes_query`: its parameters are more than `_format` and `_pretty`.
    `capability` is what else it lets CapabilityStatement.rest.resource state.
    """

    code: str
    level: Level
    method: str
    path: str
    run: Callable[[Any, Call], Reply]  # first a Reader, or a Transaction when it writes
    writes: bool = False
    takes_body: bool = False
    takes_query: bool = False
    capability: Mapping[str, Any] = field(default_factory=dict)

    def perform(self, repository: Repository, call: Call) -> Reply:
        """Run it by itself, in a transaction of its own when it writes."""
        if not self.writes:
            return self.run(repository, call)
        with repository.transaction() as transaction:
            return self.run(transaction, call)


class Registry:
    """Interactions and resource types that one facade serves."""

    def __init__(self, interactions: tuple[Interaction, ...], resource_types: tuple[str, ...] = RESOURCE_TYPES) -> None:
        self.interactions = interactions
        self.resource_types = frozenset(resource_types)
        self._spelling = {name.lower(): name for name in resource_types}
        self._patterns = [(_pattern(interaction.path), interaction) for interaction in interactions]

    def check_type(self, resource_type: str | None) -> None:
        """Refuse (404) a type that is not served; a wrong case is told its right spelling."""
        if resource_type is None or resource_type in self.resource_types:
            return
        meant = self._spelling.get(resource_type.lower())
        hint = f"; did you mean {meant}?" if meant else ""
        raise FhirError.of(404, "not-supported", f"resource type {resource_type} is not served{hint}")

    def find(self, method: str, path: str) -> tuple[Interaction, dict[str, str]]:
        """The interaction that `path` (below the base, without leading slash) names, and its variable segments.

        Raises FhirError 404 (nothing there) or 405 (not with this method).
        """
        wanted = "GET" if method == "HEAD" else method
        allowed: set[str] = set()
        for pattern, interaction in self._patterns:
            if match := pattern.fullmatch(path):
                if interaction.method == wanted:
                    self.check_type(match.groupdict().get("resource_type"))
                    return interaction, match.groupdict()
                allowed.add(interaction.method)
        if allowed:
            raise FhirError.of(405, "not-supported", f"{method} is not offered here", Allow=", ".join(sorted(allowed)))
        raise FhirError.of(404, "not-found", "no such address below the base")


def _pattern(path: str) -> re.Pattern[str]:
    expression = re.sub(r"<(\w+)>", lambda segment: f"(?P<{segment[1]}>{SEGMENTS[segment[1]]})", path.strip("/"))
    return re.compile(expression)
