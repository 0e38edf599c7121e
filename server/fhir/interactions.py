"""The interactions of FHIR R4 (§3.1.0) on instances and types, as functions from a Call to a Reply.

Those that write run inside a transaction that the caller opened, an HTTP request one of its own, a transaction Bundle
one for all its entries. The caller has also checked the structure of the body, outside of the transaction.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from relais.server.fhir import deposits
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.histories import history_bundle
from relais.server.fhir.json_format import dump, load
from relais.server.fhir.negotiation import etag, parse_etags, unchanged
from relais.server.fhir.outcome import FhirError, all_well, operation_outcome
from relais.server.fhir.patches import of_resource, patched
from relais.server.fhir.registry import Interaction
from relais.server.fhir.repository import Reader, Stored, Transaction, existing, new_id
from relais.server.fhir.searchset import matching, search_bundle, single_match
from relais.server.fhir.subsets import PARAMETERS, subset_of

_PATCH_DEPTH = 60  # levels of a patch inside a Bundle


def read(reader: Reader, call: Call) -> Reply:
    """GET [base]/[type]/[id]: the current version, or 304 when the client has it."""
    return _content(reader.read(call.resource_type, call.id), call)


def vread(reader: Reader, call: Call) -> Reply:
    """GET [base]/[type]/[id]/_history/[vid]."""
    return _content(reader.vread(call.resource_type, call.id, call.version), call)


def create(transaction: Transaction, call: Call) -> Reply:
    """POST [base]/[type]; with If-None-Exist only when nothing matches (200 and the match otherwise)."""
    if not call.id and (found := identify_create(transaction, call)):
        return found
    resource = deposits.accepted(transaction, call.resource(), call.id, call.place)
    stored = transaction.create(resource, resource_id=call.id, place=call.place, checked=True)
    return written(stored, 201, call)


def identify_create(transaction: Transaction, call: Call) -> Reply | None:
    """Give the resource to create its id, or answer with the one that If-None-Exist matches (in `call.id` then)."""
    if call.if_none_exist is not None:
        criteria = call.if_none_exist.rpartition("?")[2]  # tolerated: `?identifier=…`, `Patient?identifier=…`
        match = single_match(transaction, call.resource_type, criteria, "If-None-Exist")
        if match is not None:
            call.id = match
            return written(transaction.read(call.resource_type, match), 200, call)
    call.id = new_id()
    return None


def update(transaction: Transaction, call: Call) -> Reply:
    """PUT [base]/[type]/[id] and PUT [base]/[type]?criteria: 200, or 201 for a new resource."""
    identify_update(transaction, call)
    current = transaction.current(call.resource_type, call.id)
    check_match(current, call, versioned=call.resource_type in transaction.repository.versioned_types)
    new = current is None or current.deleted
    if new and not call.query and not transaction.repository.update_creates:
        raise FhirError.of(405, "not-supported", "ids are given by this server: create with POST", Allow="GET")
    resource = deposits.accepted(transaction, call.resource(), call.id, call.place) if new else call.resource()
    stored = transaction.update(resource, place=call.place, checked=True)
    return written(stored, 201 if new else 200, call)


def identify_update(transaction: Transaction, call: Call) -> None:
    """Find the id of the resource to update, by the address or by the criteria of a conditional update.

    One match is updated, none creates; raises FhirError 412 for several, 400 when the body carries another id.
    """
    resource = call.resource()
    given = resource.get("id")
    if not call.id:
        match = single_match(transaction, call.resource_type, call.query, "the query")
        call.id = match or given or new_id()
        resource.setdefault("id", call.id)
        given = resource["id"]
    if given != call.id:
        message = "the body must carry the id of the resource to update"
        raise FhirError.of(400, "invalid", message, f"{call.place or call.resource_type}.id")


def patch(transaction: Transaction, call: Call) -> Reply:
    """PATCH [base]/[type]/[id] and PATCH [base]/[type]?criteria; what comes out is checked as an update is."""
    identify_patch(transaction, call)
    current = existing(transaction.current(call.resource_type, call.id), call.resource_type, call.id)
    check_match(current, call, versioned=call.resource_type in transaction.repository.versioned_types)
    if call.patch is None and call.body is None:
        raise FhirError.of(400, "required", "a patch is expected as body", call.place)
    changes = call.patch or of_resource(call.body or {}, _PATCH_DEPTH)
    resource = patched(load(current.content or b""), changes)
    call.remarks = transaction.repository.check([(resource, "")], call.language)
    return written(transaction.update(resource, checked=True, keep_labels=False), 200, call)


def identify_patch(transaction: Transaction, call: Call) -> None:
    """Find the id of the resource to patch by the criteria, where the address names none. Raises FhirError 404, 412."""
    if not call.id:
        call.id = single_match(transaction, call.resource_type, call.query, "the query") or ""
    if not call.id:
        raise FhirError.of(404, "not-found", "the query matches nothing to patch")


def delete(transaction: Transaction, call: Call) -> Reply:
    """DELETE [base]/[type]/[id]: 204 whether it existed or not."""
    check_match(transaction.current(call.resource_type, call.id), call)
    return _deleted(transaction.delete(call.resource_type, call.id), call)


def conditional_delete(transaction: Transaction, call: Call) -> Reply:
    """DELETE [base]/[type]?criteria: deletes what matches, 412 when that is more than a setting allows."""
    most = transaction.repository.most_deleted
    gone = [
        transaction.delete(call.resource_type, found)
        for found in matching(transaction, call.resource_type, call.query, "the query", most)
    ]
    first = gone[0] if gone else None
    call.id = first.id if first else ""
    return _deleted(first, call)


def history(reader: Reader, call: Call) -> Reply:
    """GET _history of an instance, of a type or of everything, newest first."""
    return Reply(200, dump(history_bundle(reader, call)))


def search(reader: Reader, call: Call) -> Reply:
    """GET [base]/[type]?… and POST [base]/[type]/_search; without a type, of all, or those that `_type` names."""
    return Reply(200, dump(search_bundle(reader, call)))


def search_compartment(reader: Reader, call: Call) -> Reply:
    """GET [base]/[compartment]/[id]/[type]?… and POST …/_search; `*`: all types but that of the compartment."""
    reader.read(call.compartment, call.id)
    return search(reader, call)


INTERACTIONS: tuple[Interaction, ...] = (
    Interaction(
        "read",
        "instance",
        "GET",
        "/<resource_type>/<id>",
        read,
        parameters=PARAMETERS,
        capability={"conditionalRead": "full-support"},
    ),
    Interaction(
        "vread",
        "instance",
        "GET",
        "/<resource_type>/<id>/_history/<version>",
        vread,
        parameters=PARAMETERS,
        capability={"versioning": "versioned", "readHistory": True},
    ),
    Interaction("update", "instance", "PUT", "/<resource_type>/<id>", update, writes=True, takes_body=True),
    Interaction(
        "update",
        "type",
        "PUT",
        "/<resource_type>",
        update,
        writes=True,
        takes_body=True,
        takes_query=True,
        capability={"conditionalUpdate": True},
    ),
    Interaction("patch", "instance", "PATCH", "/<resource_type>/<id>", patch, writes=True, takes_patch=True),
    Interaction("patch", "type", "PATCH", "/<resource_type>", patch, writes=True, takes_patch=True, takes_query=True),
    Interaction("delete", "instance", "DELETE", "/<resource_type>/<id>", delete, writes=True),
    Interaction(
        "delete",
        "type",
        "DELETE",
        "/<resource_type>",
        conditional_delete,
        writes=True,
        takes_query=True,
    ),
    Interaction("history-instance", "instance", "GET", "/<resource_type>/<id>/_history", history, takes_query=True),
    Interaction("history-type", "type", "GET", "/<resource_type>/_history", history, takes_query=True),
    Interaction("history-system", "system", "GET", "/_history", history, takes_query=True),
    Interaction(
        "create",
        "type",
        "POST",
        "/<resource_type>",
        create,
        writes=True,
        takes_body=True,
        capability={"conditionalCreate": True},
    ),
    Interaction("search-type", "type", "GET", "/<resource_type>", search, takes_query=True),
    Interaction("search-type", "type", "POST", "/<resource_type>/_search", search, takes_query=True),
    Interaction("search-system", "system", "GET", "/", search, takes_query=True),
    Interaction("search-system", "system", "POST", "/_search", search, takes_query=True),
    Interaction(
        "search-type",
        "compartment",
        "GET",
        "/<compartment>/<id>/<resource_type>",
        search_compartment,
        takes_query=True,
    ),
    Interaction(
        "search-type",
        "compartment",
        "POST",
        "/<compartment>/<id>/<resource_type>/_search",
        search_compartment,
        takes_query=True,
    ),
    Interaction("search-system", "compartment", "GET", "/<compartment>/<id>/*", search_compartment, takes_query=True),
    Interaction(
        "search-system", "compartment", "POST", "/<compartment>/<id>/_search", search_compartment, takes_query=True
    ),
)


def written(stored: Stored, status: int, call: Call) -> Reply:
    """The answer to a write that left `stored`, as Prefer asks."""
    match call.prefer.returned:
        case "minimal":
            body = b""
        case "OperationOutcome":
            said = all_well("Stored." if status == 201 else "The resource is up to date.")
            said["issue"] += operation_outcome(call.remarks)["issue"]
            body = dump(said)
        case _:
            body = stored.content or b""
    location = f"{stored.type}/{stored.id}/_history/{stored.version}"
    return Reply(status, body, stored.version, stored.last_updated, location)


def check_match(current: Stored | None, call: Call, *, versioned: bool = False) -> None:
    """Refuse (412) a write by its If-Match and If-None-Match (RFC 9110 §13.1), (428) one without where `versioned`."""
    missing = current is None or current.deleted
    if current is not None and not missing and parse_etags(call.if_none_match or "") & {str(current.version), "*"}:
        message = "the resource is there already: If-None-Match does not want it"
        raise FhirError.of(412, "conflict", message, ETag=etag(current.version))
    if call.if_match is None:
        if versioned and not missing:
            raise FhirError.of(428, "required", "resources of this type are changed under If-Match only", call.place)
        return
    if current is None or current.deleted:
        raise FhirError.of(412, "conflict", "If-Match names a version, but there is no such resource")
    if not parse_etags(call.if_match) & {str(current.version), "*"}:
        raise FhirError.of(
            412, "conflict", "the resource has changed: If-Match is not its version", ETag=etag(current.version)
        )


def _content(stored: Stored, call: Call) -> Reply:
    """The version, the part of it that is asked for, or 304; only the whole form can be unchanged."""
    subset = (
        subset_of(parse_qsl(call.query), stored.type) if "_summary" in call.query or "_elements" in call.query else None
    )
    if subset and subset.counts_only:
        raise FhirError.of(400, "value", "_summary=count belongs to searches", "_summary")
    if subset:
        return Reply(200, subset.of(stored.content or b""), stored.version, stored.last_updated)
    not_modified = unchanged(stored.version, stored.last_updated, call.if_none_match, call.if_modified_since)
    body = b"" if not_modified else stored.content or b""
    return Reply(304 if not_modified else 200, body, stored.version, stored.last_updated)


def _deleted(stored: Stored | None, call: Call) -> Reply:
    version = stored.version if stored else None
    if call.prefer.returned == "OperationOutcome":
        return Reply(200, dump(all_well("Deleted." if stored else "There was nothing to delete.")), version)
    return Reply(204, version=version)
