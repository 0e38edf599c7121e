"""`$meta`, `$meta-add` and `$meta-delete` (FHIR R4 §3.3): profiles, tags and security labels of resources.

A change of them is a new version, and says in the history that it happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from relais.mappings.context import Resource
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.interactions import check_match
from relais.server.fhir.json_format import dump, load
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.parameters import simple_parameters
from relais.server.fhir.repository import existing, refuse_wrong_structure
from relais.server.search.labels import labels_in_use, profiles_in_use

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade

_DEFINITION = "http://hl7.org/fhir/OperationDefinition/Resource-{}"
_LISTS = ("profile", "security", "tag")


@operation("$meta", level="instance", methods=("GET", "POST"), definition=_DEFINITION.format("meta"))
def meta(facade: Facade, call: Call) -> Reply:
    """The meta of a resource."""
    simple_parameters(call, ())
    stored = facade.repository.read(call.resource_type, call.id)
    return _reply(load(stored.content or b"")["meta"])


@operation("$meta", level="system", methods=("GET", "POST"), definition=_DEFINITION.format("meta"))
@operation("$meta", level="type", methods=("GET", "POST"), definition=_DEFINITION.format("meta"))
def metas(facade: Facade, call: Call) -> Reply:
    """Every profile, tag and label that resources of the type, or any resources, have now."""
    simple_parameters(call, ())
    types = [call.resource_type] if call.resource_type else sorted(facade.registry.resource_types)
    with facade.repository.snapshot() as connection:
        found: Resource = {"profile": profiles_in_use(connection, types)}
        for name in ("security", "tag"):
            found[name] = [_coding(*label) for label in labels_in_use(connection, types, f"_{name}")]
    return _reply({name: values for name, values in found.items() if values})


@operation("$meta-add", level="instance", definition=_DEFINITION.format("meta-add"))
def meta_add(facade: Facade, call: Call) -> Reply:
    """Add the profiles, tags and labels that the resource has not yet."""
    return _change(facade, call, lambda held, given: [*held, *(one for one in given if _key(one) not in _keys(held))])


@operation("$meta-delete", level="instance", definition=_DEFINITION.format("meta-delete"))
def meta_delete(facade: Facade, call: Call) -> Reply:
    """Take profiles, tags and labels away."""
    return _change(facade, call, lambda held, given: [one for one in held if _key(one) not in _keys(given)])


def _change(facade: Facade, call: Call, combine: Callable[[list[Any], list[Any]], list[Any]]) -> Reply:
    given = _given(call)
    with facade.repository.transaction() as transaction:
        stored = existing(transaction.current(call.resource_type, call.id), call.resource_type, call.id)
        check_match(stored, call)
        resource = load(stored.content or b"")
        lists = {name: combine(resource["meta"].get(name, []), given.get(name, [])) for name in _LISTS}
        others = {name: value for name, value in resource["meta"].items() if name not in _LISTS}
        resource["meta"] = others | {name: value for name, value in lists.items() if value}
        changed = transaction.update(resource, keep_labels=False)
    return _reply(load(changed.content or b"")["meta"])


def _given(call: Call) -> Resource:
    body = call.body
    if body is None or body.get("resourceType") != "Parameters":
        raise FhirError.of(400, "required", "a Parameters resource with a parameter meta is expected as body")
    refuse_wrong_structure([(body, "")])
    found: list[Resource] = [
        parameter["valueMeta"]
        for parameter in body.get("parameter", ())
        if parameter["name"] == "meta" and "valueMeta" in parameter
    ]
    if len(found) != 1 or len(body["parameter"]) != 1:
        raise FhirError.of(400, "required", "one parameter is expected: meta, a valueMeta", "Parameters.parameter")
    return found[0]


def _coding(system: str, code: str) -> dict[str, str]:
    return {"system": system, "code": code} if system else {"code": code}


def _key(item: Any) -> Any:
    return (item.get("system"), item.get("code")) if isinstance(item, dict) else item


def _keys(items: list[Any]) -> set[Any]:
    return {_key(item) for item in items}


def _reply(found: Resource) -> Reply:
    parameter = {"name": "return", "valueMeta": found}
    return Reply(200, dump({"resourceType": "Parameters", "parameter": [parameter]}))
