"""Searches over HTTP (FHIR R4 §3.1.1): from a query string to a searchset Bundle, and the one match of a condition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from relais.mappings.context import Resource
from relais.profiles import definitions
from relais.server.fhir.exchange import Call
from relais.server.fhir.outcome import FhirError, operation_outcome
from relais.server.fhir.parameters import GENERAL, Pairs
from relais.server.fhir.registry import RESOURCE_TYPES
from relais.server.fhir.repository import Reader, Stored, Transaction, instant, new_id
from relais.server.fhir.subsets import PARAMETERS, Subset, subset_of
from relais.server.search import SearchResult, search

_PAGE = "_page"
_NOT_SEARCHED = frozenset({*GENERAL, _PAGE, *PARAMETERS})
_RESULT_PARAMETERS = frozenset(
    {"_count", "_sort", "_total", "_include", "_revinclude", "_type", "_contained", "_containedType"}
)
_OTHER_WORDS = {("_totalMethod", "count"): ("_total", "accurate")}  # how fhirpy's `count()` asks


def search_bundle(reader: Reader, call: Call) -> Resource:
    """The searchset that answers `call`. Raises SearchError, or FhirError 400 for a query that is no UTF-8."""
    pairs = _pairs(call.query)
    page = dict(pairs).get(_PAGE)
    subset, shown = _subset(pairs, call.resource_type)
    asked = [(name, value) for name, value in pairs if name not in _NOT_SEARCHED]
    _refuse_unserved(asked)
    within = (call.compartment, call.id) if call.compartment else None
    implied = _implied(call, asked, subset)
    asked = [*(pair for pair in asked if pair[0] not in dict(implied)), *implied]
    base = reader.repository.base
    with reader.snapshot() as connection:
        result = search(
            connection,
            base,
            call.resource_type,
            asked,
            strict=call.prefer.strict,
            page=page,
            within=within,
            terminology=reader.repository.terminology,
        )
    bundle: Resource = {
        "resourceType": "Bundle",
        "id": new_id(),
        "meta": {"lastUpdated": instant(reader.repository.clock())},
        "type": "searchset",
    }
    if result.total is not None:
        bundle["total"] = result.total
    applied = [pair for pair in result.applied if pair not in implied]
    bundle["link"] = _links(_address(base, call), [*applied, *shown], result, page)
    if entries := _entries(result, base, subset):
        bundle["entry"] = entries
    return bundle


def single_match(transaction: Transaction, resource_type: str, query: str, what: str) -> str | None:
    """The id of the one resource that `query` matches, or None when there is none; `what` names it in refusals.

    Raises FhirError as `matching` does.
    """
    return next(iter(matching(transaction, resource_type, query, what, 1)), None)


def matching(transaction: Transaction, resource_type: str, query: str, what: str, most: int) -> list[str]:
    """The ids of the resources that `query` matches, `most` at most.

    Until the transaction ends, no other one gets an answer for that type: what does not exist now can be created
    without a rival. Raises FhirError 412 for more matches and for criteria that select nothing.
    """
    pairs = [pair for pair in _pairs(query) if pair[0] not in GENERAL]
    if not any(value and name.partition(":")[0] not in _RESULT_PARAMETERS for name, value in pairs):
        raise FhirError.of(412, "invalid", f"{what} holds no search criterion")
    transaction.exclusively(f"conditional {resource_type}")
    repository = transaction.repository
    asked = [*pairs, ("_count", str(most + 1))]
    with transaction.snapshot() as connection:
        found = search(connection, repository.base, resource_type, asked, terminology=repository.terminology).matches
    if len(found) > most:
        several = "several" if most == 1 else f"more than {most}"
        raise FhirError.of(412, "multiple-matches", f"{what} matches {several} resources")
    return [stored.id for stored in found]


def _pairs(query: str) -> Pairs:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise FhirError.of(400, "value", "the query is not UTF-8") from error
    return [_OTHER_WORDS.get(pair, pair) for pair in pairs]


def _implied(call: Call, asked: Pairs, subset: Subset | None) -> Pairs:
    """What the request says without a parameter of the search itself; `self` does not repeat it."""
    implied = [("_count", "0")] if subset and subset.counts_only else []
    if not call.resource_type and "_type" not in dict(asked):
        members: Iterable[str] = RESOURCE_TYPES
        if call.compartment:
            members = definitions.compartments()[call.compartment].keys() - {call.compartment}
        implied.append(("_type", ",".join(sorted(members))))
    return implied


def _refuse_unserved(asked: Pairs) -> None:
    """An address with such a type is no address either; nothing would be found, whatever there is elsewhere."""
    named = {resource_type for name, value in asked if name == "_type" for resource_type in value.split(",")}
    if unserved := sorted((named & definitions.resource_types()) - set(RESOURCE_TYPES)):
        raise FhirError.of(400, "not-supported", f"resource type {unserved[0]} is not served", "_type")


def _address(base: str, call: Call) -> str:
    """The address that was searched, as GET would write it."""
    if call.compartment:
        return f"{base}/{call.compartment}/{call.id}/{call.resource_type or '*'}"
    return f"{base}/{call.resource_type}"


def _subset(pairs: Pairs, resource_type: str) -> tuple[Subset | None, Pairs]:
    """The part of the matches to show, and the pairs that ask for it. Raises FhirError 400."""
    subset = subset_of(pairs, resource_type)
    if subset and subset.summary == "text" and any(name.startswith(("_include", "_revinclude")) for name, _ in pairs):
        raise FhirError.of(400, "invalid", "_summary=text excludes _include and _revinclude", "_summary")
    return subset, [(name, value) for name, value in pairs if name in PARAMETERS and value]


def _links(address: str, applied: Pairs, result: SearchResult, page: str | None) -> list[dict[str, str]]:
    links = [_link("self", address, applied, page)]
    if page is not None:
        links.append(_link("first", address, applied, None))
    around = (("previous", result.previous_page), ("next", result.next_page))
    return links + [_link(relation, address, applied, found) for relation, found in around if found is not None]


def _link(relation: str, address: str, applied: Iterable[tuple[str, str]], page: str | None) -> dict[str, str]:
    query = urlencode([*applied, *([(_PAGE, page)] if page else [])], safe=":,|/$")
    return {"relation": relation, "url": f"{address}?{query}" if query else address}


def _entries(result: SearchResult, base: str, subset: Subset | None) -> list[dict[str, Any]]:
    entries = [_entry(stored, base, "match", subset) for stored in result.matches]
    entries += [_entry(stored, base, "include", subset) for stored in result.includes]
    if result.issues:
        entries.append({"resource": operation_outcome(result.issues), "search": {"mode": "outcome"}})
    return entries


def _entry(stored: Stored, base: str, mode: str, subset: Subset | None) -> dict[str, Any]:
    content = stored.content or b""
    return {
        "fullUrl": f"{base}/{stored.type}/{stored.id}",
        "resource": msgspec.Raw(subset.of(content, is_match=mode == "match") if subset else content),
        "search": {"mode": mode},
    }
