"""`$to-cda`: the document of a stored resource, or of a posted Bundle, over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from flask import request

from relais.cda.datatypes import PARIS
from relais.cda.errors import Issue
from relais.mappings.context import Emission
from relais.mappings.to_cda import convert
from relais.server import documents
from relais.server.delivery import stored_documents
from relais.server.document_forms import CDA_TYPES, at_level, serialised
from relais.server.document_sources import CARRIERS
from relais.server.fhir.cda_parameters import of_bundle, of_carrier
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump
from relais.server.fhir.negotiation import FHIR_JSON, FHIR_XML
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import all_well, operation_outcome
from relais.server.fhir.parameters import simple_parameters

CDA_TYPE = CDA_TYPES[0]


@operation("$to-cda", level="instance", resource_types=CARRIERS, methods=("GET", "POST"), produces=CDA_TYPES)
def stored_to_cda(facade: Facade, call: Call) -> Reply:
    """The CDA document of a stored resource: PPS, agenda, notification.

    Unchanged sources give the same bytes, a change gives the next version. Parameters: `level` (n3, n1); of a Patient
    `model` (agenda), `start` and `end` or `period`, `status` (repeats). With `Prefer: return=OperationOutcome` the
    remarks of the mapping are answered instead of the document.
    """
    wanted = of_carrier(call)
    deployment, carrier = facade.settings.deployment, f"{call.resource_type}/{call.id}"
    with facade.repository.transaction() as transaction:
        document = documents.issue(
            transaction, carrier, deployment, transaction.now, selection=wanted.selection, level=wanted.level
        )
    return _answer(call, document.content, document.issues)


@operation(
    "$to-cda", level="instance", resource_types=("DocumentReference",), methods=("GET", "POST"), produces=CDA_TYPES
)
def received_to_cda(facade: Facade, call: Call) -> Reply:
    """The CDA document that a DocumentReference points to, byte for byte, when it is about the subject."""
    simple_parameters(call, ())
    with facade.repository.transaction() as transaction:
        reference = transaction.load(call.resource_type, call.id)
        content = stored_documents.content_of(transaction, reference)
        document = documents.register(transaction.connection, content, transaction.now)
        stored_documents.check_patient(transaction, reference, document)
    return _answer(call, document.content, document.issues)


@operation("$to-cda", level="system", produces=CDA_TYPES)
def bundle_to_cda(facade: Facade, call: Call) -> Reply:
    """The document of a posted Bundle, or the remarks of the mapping as for a stored resource; nothing is stored.

    Parameters: `resource`, unless the Bundle is the body; `level` (n3, n1); `stylesheet`, a relative address.
    """
    wanted, deployment = of_bundle(call), facade.settings.deployment
    mapped = convert(wanted.bundle, Emission(deployment, facade.repository.clock().astimezone(PARIS)))
    content = serialised(at_level(mapped.document, wanted.level, deployment), wanted.style_sheet)
    return _answer(call, content, mapped.issues)


def _answer(call: Call, content: bytes, issues: Iterable[Issue]) -> Reply:
    """The CDA itself, a Binary for a client that asks for FHIR, or what the mapping wanted said."""
    if call.prefer.returned == "OperationOutcome":
        found = list(issues)
        return Reply(200, dump(operation_outcome(found) if found else all_well("nothing to remark")))
    if _wants_fhir():
        data = base64.b64encode(content).decode("ascii")
        return Reply(200, dump({"resourceType": "Binary", "contentType": CDA_TYPE, "data": data}))
    return Reply(200, content, content_type=f"{CDA_TYPE}; charset=utf-8")


def _wants_fhir() -> bool:
    """Whether `_format`, else the Accept header, prefers FHIR to CDA."""
    if asked := request.args.get("_format"):
        return asked not in CDA_TYPES
    offered = [*CDA_TYPES, FHIR_JSON, FHIR_XML, "application/json"]
    return request.accept_mimetypes.best_match(offered, default=CDA_TYPE) not in CDA_TYPES
