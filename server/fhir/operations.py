"""Operations (FHIR R4 §3.2): a registry that other rooms add to, and `$validate` of the base structure.

    @operation("$to-cda", level="instance", resource_types=("CarePlan",), methods=("GET", "POST"))
    def to_cda(facade: Facade, call: Call) -> Reply: ...

The module that holds the function is imported by `relais.server.app`; routes and CapabilityStatement follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relais.mappings.context import Resource
from relais.profiles.structure import check
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.json_format import dump
from relais.server.fhir.outcome import FhirError, all_well, operation_outcome

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade
    from relais.server.fhir.registry import Level

Run = Callable[["Facade", Call], Reply]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation at one level.

    `resource_types` is empty when every served type (or the system) has it. `produces` names media types that it
    writes besides FHIR; it reads the Accept header itself then. `address` is where it stands when that is not below
    its name; such a helper of another operation is not stated as one. `setting` names the setting that offers it.
    """

    name: str
    level: Level
    run: Run
    methods: tuple[str, ...]
    resource_types: tuple[str, ...] = ()
    definition: str = ""
    produces: frozenset[str] = frozenset()
    address: str = ""
    setting: str = ""

    def serves(self, resource_type: str) -> bool:
        """Whether resources of that type have it."""
        return not self.resource_types or resource_type in self.resource_types

    @property
    def path(self) -> str:
        """Template below the base, as in `relais.server.fhir.registry.Interaction`."""
        if self.address:
            return self.address
        start = {"system": "/", "type": "/<resource_type>/", "instance": "/<resource_type>/<id>/"}[self.level]
        return start + self.name


OPERATIONS: list[Operation] = []
"""Every registered operation, in the order of registration."""


def operation(
    name: str,
    *,
    level: Level,
    resource_types: tuple[str, ...] = (),
    methods: tuple[str, ...] = ("POST",),
    definition: str = "",
    produces: Iterable[str] = (),
    address: str = "",
    setting: str = "",
) -> Callable[[Run], Run]:
    """Register the decorated function as an operation; may be stacked to offer it at several levels.

    GET may be among `methods` only when the operation changes nothing. `definition` is the canonical URL of its
    OperationDefinition.
    """

    def register(run: Run) -> Run:
        OPERATIONS.append(
            Operation(name, level, run, methods, resource_types, definition, frozenset(produces), address, setting)
        )
        return run

    return register


def resource_parameter(call: Call, name: str = "resource") -> Resource:
    """The resource an operation is asked about: the body itself, or the parameter `name` of a Parameters body.

    Raises FhirError 400 when there is none.
    """
    body = call.body
    if body is None:
        raise FhirError.of(400, "required", "a resource or a Parameters resource is expected as body")
    if body["resourceType"] != "Parameters":
        return body
    for parameter in body.get("parameter", ()):
        if (
            isinstance(parameter, dict)
            and parameter.get("name") == name
            and isinstance(parameter.get("resource"), dict)
        ):
            resource: Resource = parameter["resource"]
            return resource
    raise FhirError.of(400, "required", f"the parameter {name} is missing", "Parameters.parameter")


@operation("$validate", level="system", definition="http://hl7.org/fhir/OperationDefinition/Resource-validate")
@operation("$validate", level="type", definition="http://hl7.org/fhir/OperationDefinition/Resource-validate")
@operation("$validate", level="instance", definition="http://hl7.org/fhir/OperationDefinition/Resource-validate")
def validate(facade: Facade, call: Call) -> Reply:
    """Check a resource against base R4 without storing it: always 200 with an OperationOutcome."""
    resource = _stored(facade, call) if call.id and call.body is None else resource_parameter(call)
    if call.resource_type and resource.get("resourceType") != call.resource_type:
        raise FhirError.of(400, "invalid", f"a {call.resource_type} is expected", "resourceType")
    issues = check(resource)
    return Reply(
        200, dump(operation_outcome(issues) if issues else all_well("No issue: the resource is valid base R4"))
    )


def _stored(facade: Facade, call: Call) -> Resource:
    return facade.repository.load(call.resource_type, call.id)
