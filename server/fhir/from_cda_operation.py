"""`$from-cda`: a CDA document as FHIR resources, answered or stored."""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Any, NamedTuple

from relais.mappings.context import Resource
from relais.server import document_imports
from relais.server.document_forms import CDA_TYPES
from relais.server.document_imports import Filed, Received
from relais.server.fhir.bodies import sound_body
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump, load
from relais.server.fhir.negotiation import etag
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError, all_well, operation_outcome
from relais.server.fhir.parameters import simple_parameters
from relais.server.fhir.repository import instant

_ANSWERS = {"true": True, "false": False}


class _Asked(NamedTuple):
    data: bytes
    store: bool


@operation("$from-cda", level="system", consumes=CDA_TYPES)
def from_cda(facade: Facade, call: Call) -> Reply:
    """A CDA document as a FHIR document Bundle, or stored with its bytes untouched and its patient matched by INS.

    The body is the CDA itself (text/xml), a Binary, or Parameters: `document` (a Binary) and `store`. What could not be
    carried over is an OperationOutcome at the end of the Bundle. With `store=true` the answer is a Bundle of what was
    stored, the DocumentReference first (201, or 200 for a document that was filed before), whose outcome holds it.
    """
    asked = _asked(call)
    received = document_imports.receive(asked.data)
    if not asked.store:
        return _answer(call, received)
    document_imports.refuse_other_environment(received.document, facade.settings.deployment)
    with facade.repository.transaction() as transaction:
        filed = document_imports.file(transaction, received)
    return _filed(call, filed)


def _asked(call: Call) -> _Asked:
    """The bytes of the document, and whether to store them. Raises FhirError 400 or 422."""
    body, store, place = call.body, "false", "Binary.data"
    if body is not None and body["resourceType"] == "Parameters":
        body, store, place = _of_parameters(sound_body(body, "Parameters"))
    else:
        body = sound_body(body, "Binary")
    for name, value in simple_parameters(Call("GET", query=call.query), ("store",)):
        store = value
        if value not in _ANSWERS:
            raise FhirError.of(400, "value", "true or false is expected", name)
    try:
        return _Asked(base64.b64decode("".join(body.get("data", "").split()), validate=True), _ANSWERS[store])
    except binascii.Error:
        raise FhirError.of(400, "value", "the content is no whole base64", place) from None


def _of_parameters(parameters: Resource) -> tuple[Resource, str, str]:
    """The Binary, `store` as text, and the place of the content."""
    binary, store, place = None, "false", ""
    for index, parameter in enumerate(parameters.get("parameter", ())):
        at, name = f"Parameters.parameter[{index}]", parameter["name"]
        if name == "store" and isinstance(parameter.get("valueBoolean"), bool):
            store = "true" if parameter["valueBoolean"] else "false"
        elif name == "document" and parameter.get("resource", {}).get("resourceType") == "Binary" and binary is None:
            binary, place = parameter["resource"], f"{at}.resource.data"
        else:
            message = "document (one Binary) and store (a valueBoolean) are expected"
            raise FhirError.of(400, "not-supported", message, at)
    if binary is None:
        raise FhirError.of(400, "required", "the parameter document, a Binary, is missing", "Parameters.parameter")
    return binary, store, place


def _answer(call: Call, received: Received) -> Reply:
    """The document Bundle, closed by the remarks."""
    outcome = operation_outcome(received.issues)
    if call.prefer.returned == "OperationOutcome":
        return Reply(200, dump(outcome if received.issues else all_well("everything was carried over")))
    if not received.issues:
        return Reply(200, dump(received.bundle))
    name = uuid.uuid5(uuid.UUID(received.first("DocumentReference")["id"]), "remarks").urn
    entry = {"fullUrl": name, "resource": outcome}
    return Reply(200, dump(received.bundle | {"entry": [*received.bundle["entry"], entry]}))


def _filed(call: Call, filed: Filed) -> Reply:
    """A Bundle of type transaction-response."""
    entries = [_entry(call, filed, number) for number in range(len(filed.stored))]
    reference = filed.stored[0]
    location = f"DocumentReference/{reference.id}/_history/{reference.version}"
    body = dump({"resourceType": "Bundle", "type": "transaction-response", "entry": entries})
    return Reply(201 if filed.new else 200, body, reference.version, reference.last_updated, location)


def _entry(call: Call, filed: Filed, number: int) -> Resource:
    stored = filed.stored[number]
    response: dict[str, Any] = {
        "status": "201 Created" if f"{stored.type}/{stored.id}" in filed.created else "200 OK",
        "location": f"{stored.type}/{stored.id}/_history/{stored.version}",
        "etag": etag(stored.version),
        "lastModified": instant(stored.last_updated),
    }
    if number == 0 and filed.issues:
        response["outcome"] = operation_outcome(filed.issues)
    shown = call.prefer.returned == "representation" and stored.content
    return {"resource": load(stored.content or b""), "response": response} if shown else {"response": response}
