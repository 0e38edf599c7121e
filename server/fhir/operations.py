"""Operations (FHIR R4 §3.2): a registry that other rooms add to, and `$validate`.

    @operation("$to-cda", level="instance", resource_types=("CarePlan",), methods=("GET", "POST"))
    def to_cda(facade: Facade, call: Call) -> Reply: ...

The module that holds the function is imported by `relais.server.app`; routes and CapabilityStatement follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from relais.mappings.context import Resource
from relais.profiles.messages import Language
from relais.profiles.validator import MODES, Mode
from relais.server.fhir.content_validation import CONTENT_TYPES, PAGE, answer, content_of, resource_in
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.json_format import dump
from relais.server.fhir.outcome import FhirError, all_well, operation_outcome
from relais.server.fhir.parameters import GENERAL, Pairs, primitive_parameters

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade
    from relais.server.fhir.registry import Level

Run = Callable[["Facade", Call], Reply]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation at one level.

    `resource_types` is empty when every served type (or the system) has it. `produces` names media types that it
    writes besides FHIR; it reads the Accept header itself then. `consumes` names those that it reads besides FHIR: a
    body of such a type reaches it as a Binary. `address` is where it stands when that is not below its name; such a
    helper of another operation is not stated as one. `setting` names the setting that offers it.
    """

    name: str
    level: Level
    run: Run
    methods: tuple[str, ...]
    resource_types: tuple[str, ...] = ()
    definition: str = ""
    produces: frozenset[str] = frozenset()
    consumes: frozenset[str] = frozenset()
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
    consumes: Iterable[str] = (),
    address: str = "",
    setting: str = "",
) -> Callable[[Run], Run]:
    """Register the decorated function as an operation; may be stacked to offer it at several levels.

    GET may be among `methods` only when the operation changes nothing. `definition` is the canonical URL of its
    OperationDefinition.
    """

    def register(run: Run) -> Run:
        OPERATIONS.append(
            Operation(
                name,
                level,
                run,
                methods,
                resource_types,
                definition,
                frozenset(produces),
                frozenset(consumes),
                address,
                setting,
            )
        )
        return run

    return register


_VALIDATE = "http://hl7.org/fhir/OperationDefinition/Resource-validate"


@operation("$validate", level="system", definition=_VALIDATE, consumes=CONTENT_TYPES, produces=(PAGE,))
@operation("$validate", level="type", definition=_VALIDATE, consumes=CONTENT_TYPES, produces=(PAGE,))
@operation("$validate", level="instance", methods=("GET", "POST"), definition=_VALIDATE)
def validate(facade: Facade, call: Call) -> Reply:
    """Check a resource without storing it, against R4 and profiles: `resource`, `profile`, `mode`; always 200.

    What a Binary holds is judged in its place: a CDA document, an IHE_XDM archive, an HL7 v2 message, a resource.

    Profiles that the policy requires count unless the mode is `profile`. The answer is in French where the client
    prefers it. Raises FhirError 400 for parameters that cannot be understood, 404 or 410 for an instance not there.
    """
    resource, profiles, mode = _asked(call)
    if call.id and (resource is None or mode == "delete"):
        stored = facade.repository.load(call.resource_type, call.id)
        resource = stored if resource is None else resource
    if resource is None:
        if mode != "delete":
            raise FhirError.of(400, "required", "a resource or a Parameters resource is expected as body")
        return Reply(200, dump(all_well(_NOTHING_FORBIDS[call.language])))
    resource = resource_in(resource, facade.settings.max_depth)
    if call.resource_type and resource.get("resourceType") != call.resource_type:
        raise FhirError.of(400, "invalid", f"a {call.resource_type} is expected", "resourceType")
    if content := content_of(resource):
        return answer(facade, call, content)
    required = {} if mode == "profile" else facade.policy.required
    issues = facade.conformance.validate(resource, profiles, mode, language=call.language, required=required)
    return Reply(200, dump(operation_outcome(issues) if issues else all_well(_NO_ISSUE[call.language])))


_NO_ISSUE: Mapping[Language, str] = {"en": "No issue: the resource is valid", "fr": "Aucun constat : ressource valide"}
_NOTHING_FORBIDS: Mapping[Language, str] = {
    "en": "No issue: nothing forbids the deletion",
    "fr": "Aucun constat : rien n'interdit la suppression",
}


def _asked(call: Call) -> tuple[Resource | None, list[str], Mode | None]:
    """The resource to validate where one is given, the profiles, and the mode."""
    pairs = [(name, value) for name, value in parse_qsl(call.query) if name not in GENERAL]
    resource = call.body
    if resource is not None and resource.get("resourceType") == "Parameters" and call.resource_type != "Parameters":
        resource, found = _of_parameters(resource)
        pairs += found
    for name, _ in pairs:
        if name not in ("profile", "mode"):
            raise FhirError.of(400, "not-supported", f"the parameter {name[:64]} is not offered here", name[:64])
    given = [value for name, value in pairs if name == "mode"]
    mode = next((mode for mode in MODES if [mode] == given), None)
    if given and mode is None:
        raise FhirError.of(400, "value", f"mode is one of {', '.join(MODES)}, once", "mode")
    return resource, [value for name, value in pairs if name == "profile"], mode


def _of_parameters(parameters: Resource) -> tuple[Resource | None, Pairs]:
    """The parameter `resource`, and the others as text."""
    listed = parameters.get("parameter", [])
    resource: Resource | None = None
    others: list[Any] = []
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("name") == "resource" and isinstance(one.get("resource"), dict):
            resource = one["resource"]
        else:
            others.append(one)
    return resource, list(primitive_parameters(others))
