"""`$to-cda` and `$transmit`: the document of a plan over HTTP, and the order to deliver it."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from flask import request

from relais.cda.writer import write
from relais.mappings.context import Emission, Resource
from relais.mappings.to_cda import convert
from relais.server import documents
from relais.server.delivery.transmit import Wanted, transmit_plan
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump
from relais.server.fhir.negotiation import FHIR_JSON
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError

CDA_TYPE = "text/xml"
_XML_TYPES = (CDA_TYPE, "application/xml")
_PARIS = ZoneInfo("Europe/Paris")


@operation("$to-cda", level="instance", resource_types=("CarePlan",), methods=("GET", "POST"), produces=_XML_TYPES)
def plan_to_cda(facade: Facade, call: Call) -> Reply:
    """The PPS of a stored plan. Unchanged sources give the same bytes, a change gives the next version."""
    with facade.repository.transaction() as transaction:
        document = documents.issue(transaction, call.id, facade.settings.deployment, transaction.now)
    return _document(document.content)


@operation("$to-cda", level="system", produces=_XML_TYPES)
def bundle_to_cda(facade: Facade, call: Call) -> Reply:
    """The PPS of a posted Bundle; nothing is stored."""
    bundle = _bundle(call.body)
    now: datetime = facade.repository.clock().astimezone(_PARIS)
    return _document(write(convert(bundle, Emission(facade.settings.deployment, now)).document))


@operation("$transmit", level="instance", resource_types=("CarePlan",))
def transmit(facade: Facade, call: Call) -> Reply:
    """Order the delivery of a plan's document: parameters `channel` (mss, dmp; repeats) and `recipient` (mailboxes).

    Answers at once with the Task that follows the order.
    """
    wanted = _wanted(call.body)
    with facade.repository.transaction() as transaction:
        task = transmit_plan(transaction, call.id, wanted, facade.settings, transaction.now)
    location = f"Task/{task.id}/_history/{task.version}"
    return Reply(201, task.content or b"", task.version, task.last_updated, location)


def _bundle(body: Resource | None) -> Resource:
    if body is None or body["resourceType"] != "Bundle":
        raise FhirError.of(400, "invalid", "a Bundle is expected as body", "resourceType")
    return body


def _wanted(body: Resource | None) -> Wanted:
    if body is None or body["resourceType"] != "Parameters":
        raise FhirError.of(400, "invalid", "a Parameters resource is expected as body", "resourceType")
    given: dict[str, list[str]] = {"channel": [], "recipient": []}
    for index, parameter in enumerate(body.get("parameter", ())):
        name = parameter.get("name")
        place = f"Parameters.parameter[{index}]"
        if name not in given:
            raise FhirError.of(400, "not-supported", "unknown parameter; channel and recipient are known", place)
        given[name].append(_text(parameter, place))
    return Wanted(tuple(given["channel"]), tuple(given["recipient"]))


def _text(parameter: dict[str, Any], place: str) -> str:
    for element in ("valueCode", "valueString", "valueUri"):
        if isinstance(parameter.get(element), str):
            return str(parameter[element]).removeprefix("mailto:")
    raise FhirError.of(400, "value", "a valueCode or a valueString is expected", place)


def _document(content: bytes) -> Reply:
    """The CDA itself, or a Binary for a client that asks for FHIR JSON."""
    chosen = request.accept_mimetypes.best_match([*_XML_TYPES, FHIR_JSON, "application/json"], default=CDA_TYPE)
    if chosen.endswith("json"):
        data = base64.b64encode(content).decode("ascii")
        return Reply(200, dump({"resourceType": "Binary", "contentType": CDA_TYPE, "data": data}))
    return Reply(200, content, content_type=f"{CDA_TYPE}; charset=utf-8")
