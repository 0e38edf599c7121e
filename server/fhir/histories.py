"""History Bundles (FHIR R4 §3.1.0.9): versions of a resource, of a type or of everything, newest first, in pages."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from relais.mappings.context import Resource
from relais.server.fhir.exchange import Call
from relais.server.fhir.negotiation import etag
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.parameters import GENERAL, Pairs, moment_since
from relais.server.fhir.repository import Reader, Stored, instant, new_id
from relais.server.fhir.subsets import PARAMETERS as SUBSET_PARAMETERS
from relais.server.fhir.subsets import Subset, subset_of
from relais.server.search.values import Span, date_span
from relais.server.store.store import to_datetime, to_microseconds

_PARAMETERS = frozenset({"_since", "_at", "_count", "_page", *GENERAL, *SUBSET_PARAMETERS})
_DEFAULT_COUNT = 50
_LARGEST_COUNT = 500
_START, _END = (to_microseconds(datetime(year, 1, 1, tzinfo=UTC)) for year in (1, 9999))


def history_bundle(reader: Reader, call: Call) -> Resource:
    """The Bundle that answers `call`: `_since` (inclusive), `_at` and `_count` are honoured, `next` goes back in time.

    Raises FhirError 400 for a parameter that cannot be read and 404 for an instance that never existed.
    """
    pairs = _pairs(call.query)
    parameters = dict(pairs)
    subset = subset_of(pairs, call.resource_type)
    repository = reader.repository
    if call.id and reader.current(call.resource_type, call.id) is None:
        raise FhirError.of(404, "not-found", f"{call.resource_type}/{call.id} does not exist")
    found = repository.store.history(
        call.resource_type or None,
        call.id or None,
        since=moment_since(parameters["_since"]) if "_since" in parameters else None,
        at=_at([value for name, value in pairs if name == "_at"]),
        page=_read_page(parameters["_page"]) if "_page" in parameters else None,
        limit=_count(parameters.get("_count")),
    )
    address = "/".join(part for part in (repository.base, call.resource_type, call.id, "_history") if part)
    links = [_link("self", address, pairs)]
    if found.next_page:
        others = [pair for pair in pairs if pair[0] != "_page"]
        links.append(_link("next", address, [*others, ("_page", _write_page(found.next_page))]))
    return {
        "resourceType": "Bundle",
        "id": new_id(),
        "meta": {"lastUpdated": instant(repository.clock())},
        "type": "history",
        "total": found.total,
        "link": links,
        "entry": [_entry(version, repository.base, subset) for version in found.versions],
    }


def _entry(stored: Stored, base: str, subset: Subset | None) -> dict[str, Any]:
    name = f"{stored.type}/{stored.id}"
    created = stored.version == 1 and stored.method == "POST"
    status = {"DELETE": "204"}.get(stored.method, "201" if stored.version == 1 else "200")
    entry: dict[str, Any] = {"fullUrl": f"{base}/{name}"}
    if stored.content is not None:
        entry["resource"] = msgspec.Raw(subset.of(stored.content) if subset else stored.content)
    entry["request"] = {"method": stored.method, "url": stored.type if created else name}
    entry["response"] = {
        "status": status,
        "etag": etag(stored.version),
        "lastModified": instant(stored.last_updated),
    }
    return entry


def _pairs(query: str) -> Pairs:
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, _ in pairs:
        if name not in _PARAMETERS:
            raise FhirError.of(400, "not-supported", f"the parameter {name[:64]} is not offered on _history", name[:64])
    return [(name, value) for name, value in pairs if value]


def _at(values: list[str]) -> tuple[datetime, datetime] | None:
    """A moment or a day, month, year: what was current at any time of it; with prefixes, of the time they bound."""
    if not values:
        return None
    bounds = [_span(value) for value in values]
    first, last = max(span.low for span in bounds), min(span.high for span in bounds)
    if first >= last:
        raise FhirError.of(400, "value", "the values of _at leave no time between them", "_at")
    return to_datetime(first), to_datetime(last)


def _span(value: str) -> Span:
    """The time that one `_at` means; R4 refers to the prefixes of searches."""
    prefix, moment = value[:2], value[2:]
    if prefix[:1].isdigit():
        prefix, moment = "eq", value
    try:
        span = date_span(moment.replace(" ", "+"))
        to_datetime(span.low), to_datetime(span.high)
    except (ValueError, OverflowError) as error:
        raise FhirError.of(400, "value", "_at is a date, or a date and time", "_at") from error
    match prefix:
        case "eq":
            return span
        case "ge" | "gt" | "sa":
            return Span(span.low if prefix == "ge" else span.high, _END)
        case "le" | "lt" | "eb":
            return Span(_START, span.high if prefix == "le" else span.low)
    raise FhirError.of(400, "value", "the prefixes of _at are eq, ge, gt, le, lt, sa and eb", "_at")


def _count(value: str | None) -> int:
    if value is None:
        return _DEFAULT_COUNT
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and int(value)):
        raise FhirError.of(400, "value", "_count is a positive number", "_count")
    return min(int(value), _LARGEST_COUNT)


def _write_page(page: tuple[int, int, int]) -> str:
    return base64.urlsafe_b64encode(",".join(map(str, page)).encode()).decode().rstrip("=")


def _read_page(value: str) -> tuple[int, int, int]:
    try:
        text = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("ascii")
        time, key, version = (int(number) for number in text.split(","))
    except (ValueError, binascii.Error) as error:
        raise FhirError.of(400, "value", "_page is not one of our links", "_page") from error
    if max(abs(time), abs(key), abs(version)) >= 1 << 63:
        raise FhirError.of(400, "value", "_page is not one of our links", "_page")
    return time, key, version


def _link(relation: str, address: str, pairs: Pairs) -> dict[str, str]:
    return {"relation": relation, "url": f"{address}?{urlencode(pairs)}" if pairs else address}
