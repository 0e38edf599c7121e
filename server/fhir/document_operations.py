"""`$to-cda` and `$transmit`: the document of a plan over HTTP, and the order to deliver it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import astuple
from typing import Any

from flask import request

from relais.cda.datatypes import PARIS
from relais.cda.errors import Issue
from relais.cda.writer import write
from relais.mappings.context import Emission, Resource
from relais.mappings.to_cda import convert
from relais.profiles.issues import is_readable
from relais.profiles.structure import check
from relais.server import documents
from relais.server.delivery.transmit import Wanted, transmit_plan
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump
from relais.server.fhir.negotiation import FHIR_JSON
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError, all_well, operation_outcome

CDA_TYPE = "text/xml"
_XML_TYPES = (CDA_TYPE, "application/xml")


@operation("$to-cda", level="instance", resource_types=("CarePlan",), methods=("GET", "POST"), produces=_XML_TYPES)
def plan_to_cda(facade: Facade, call: Call) -> Reply:
    """The PPS of a stored plan. Unchanged sources give the same bytes, a change gives the next version.

    With `Prefer: return=OperationOutcome` the remarks of the mapping are answered instead of the document.
    """
    with facade.repository.transaction() as transaction:
        document = documents.issue(transaction, call.id, facade.settings.deployment, transaction.now)
    return _answer(call, document.content, document.issues)


@operation("$to-cda", level="system", produces=_XML_TYPES)
def bundle_to_cda(facade: Facade, call: Call) -> Reply:
    """The PPS of a posted Bundle, or the remarks of the mapping as for a stored plan; nothing is stored."""
    bundle = _checked(call.body, "Bundle")
    mapped = convert(bundle, Emission(facade.settings.deployment, facade.repository.clock().astimezone(PARIS)))
    return _answer(call, write(mapped.document), mapped.issues)


@operation("$transmit", level="instance", resource_types=("CarePlan",))
def transmit(facade: Facade, call: Call) -> Reply:
    """Order the delivery of a plan's document: parameters `channel` (repeats) and `recipient` (mailboxes).

    Answers at once with the Task that follows the order.
    """
    wanted = _wanted(_checked(call.body, "Parameters"))
    with facade.repository.transaction() as transaction:
        task = transmit_plan(transaction, call.id, wanted, facade.settings, transaction.now)
    location = f"Task/{task.id}/_history/{task.version}"
    return Reply(201, task.content or b"", task.version, task.last_updated, location)


def _checked(body: Resource | None, resource_type: str) -> Resource:
    """The body, structurally sound and of that type: nothing else has looked at it. Raises FhirError 400 or 422."""
    if body is None or body["resourceType"] != resource_type:
        raise FhirError.of(400, "invalid", f"a {resource_type} resource is expected as body", "resourceType")
    errors = [issue for issue in check(body) if issue.severity in ("fatal", "error")]
    if errors:
        raise FhirError(422 if is_readable(errors) else 400, [Issue(*astuple(error)) for error in errors])
    return body


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


def _answer(call: Call, content: bytes, issues: Iterable[Issue]) -> Reply:
    """The CDA itself, a Binary for a client that asks for FHIR JSON, or what the mapping wanted said."""
    if call.prefer.returned == "OperationOutcome":
        found = list(issues)
        return Reply(200, dump(operation_outcome(found) if found else all_well("nothing to remark")))
    chosen = request.accept_mimetypes.best_match([*_XML_TYPES, FHIR_JSON, "application/json"], default=CDA_TYPE)
    if chosen.endswith("json"):
        data = base64.b64encode(content).decode("ascii")
        return Reply(200, dump({"resourceType": "Binary", "contentType": CDA_TYPE, "data": data}))
    return Reply(200, content, content_type=f"{CDA_TYPE}; charset=utf-8")
