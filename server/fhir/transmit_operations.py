"""`$transmit`: the order to deliver the document of a plan."""

from __future__ import annotations

from typing import Any

from relais.mappings.context import Resource
from relais.server.delivery.transmit import Wanted, transmit_plan
from relais.server.fhir.bodies import sound_body
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError


@operation("$transmit", level="instance", resource_types=("CarePlan",))
def transmit(facade: Facade, call: Call) -> Reply:
    """Order the delivery of a plan's document: parameters `channel` (repeats) and `recipient` (mailboxes).

    Answers at once with the Task that follows the order.
    """
    wanted = _wanted(sound_body(call.body, "Parameters"))
    with facade.repository.transaction() as transaction:
        task = transmit_plan(transaction, call.id, wanted, facade.settings, transaction.now)
    location = f"Task/{task.id}/_history/{task.version}"
    return Reply(201, task.content or b"", task.version, task.last_updated, location)


def _wanted(parameters: Resource) -> Wanted:
    given: dict[str, list[str]] = {"channel": [], "recipient": []}
    for index, parameter in enumerate(parameters.get("parameter", ())):
        place = f"Parameters.parameter[{index}]"
        if parameter["name"] not in given:
            raise FhirError.of(400, "not-supported", "unknown parameter; channel and recipient are known", place)
        given[parameter["name"]].append(_text(parameter, place))
    return Wanted(tuple(given["channel"]), tuple(given["recipient"]))


def _text(parameter: dict[str, Any], place: str) -> str:
    for element in ("valueCode", "valueString", "valueUri"):
        if isinstance(parameter.get(element), str):
            return str(parameter[element]).removeprefix("mailto:")
    raise FhirError.of(400, "value", "a valueCode or a valueString is expected", place)
