"""`Patient/[id]/$everything` (https://hl7.org/fhir/R4/operation-patient-everything.html): a patient's compartment in
pages, and the professionals, structures and places that it refers to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from relais.mappings.context import Resource
from relais.profiles import definitions
from relais.server.fhir import references
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.json_format import dump, load
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.parameters import Pairs, simple_parameters
from relais.server.fhir.repository import Stored, instant, new_id
from relais.server.search import index_rows, search
from relais.server.search.values import Span, date_span
from relais.server.store import DateRow

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade

_PARAMETERS = frozenset({"start", "end", "_since", "_type", "_count", "_page"})
_REFERENCED = frozenset(
    {"Practitioner", "PractitionerRole", "Organization", "Location", "HealthcareService", "Device", "Endpoint"}
)
_ROUNDS = 3  # from a resource to a role, from there to the professional, from there on

# The search parameter that tells when the care took place; types that have none are in any range.
_CARE_DATES = {
    "ServiceRequest": "occurrence",
    "Task": "period",
    "Communication": "sent",
    "CommunicationRequest": "occurrence",
    "Goal": "start-date",
    "Condition": "onset-date",
    "QuestionnaireResponse": "authored",
    "Provenance": "recorded",
    "Schedule": "date",
}


@operation(
    "$everything",
    level="instance",
    resource_types=("Patient",),
    methods=("GET", "POST"),
    definition="http://hl7.org/fhir/OperationDefinition/Patient-everything",
)
def everything(facade: Facade, call: Call) -> Reply:
    """The patient, the compartment, what it refers to: `start`, `end` (of care), `_since`, `_type`, `_count`."""
    pairs = simple_parameters(call, _PARAMETERS)
    given, page = dict(pairs), dict(pairs).get("_page")
    care, asked = _care(given), _types(facade, given.get("_type", ""))
    patient = facade.repository.read("Patient", call.id)
    found = [patient] if page is None and (not asked or "Patient" in asked) else []
    next_page = None
    base = facade.repository.base
    if types := _of_compartment(facade, asked):
        searched = [("_type", ",".join(types)), *_passed(given)]
        with facade.repository.snapshot() as connection:
            result = search(connection, base, "", searched, page=page, within=("Patient", call.id))
        found += [one for one in result.matches if _took_place(one, care, base)]
        next_page = result.next_page
    others = [one for one in _referred(facade, found) if not asked or one.type in asked]
    address = f"{base}/Patient/{call.id}/$everything"
    asked_for = [(name, value) for name, value in pairs if name != "_page"]
    links = [_link("self", address, [*asked_for, *([("_page", page)] if page else [])])]
    if next_page:
        links.append(_link("next", address, [*asked_for, ("_page", next_page)]))
    bundle: Resource = {
        "resourceType": "Bundle",
        "id": new_id(),
        "meta": {"lastUpdated": instant(facade.repository.clock())},
        "type": "searchset",
        "link": links,
    }
    entries = [_entry(one, base, "match") for one in found] + [_entry(one, base, "include") for one in others]
    return Reply(200, dump(bundle | ({"entry": entries} if entries else {})))


def _types(facade: Facade, text: str) -> frozenset[str]:
    asked = frozenset(name.strip() for name in text.split(",") if name.strip())
    if asked - facade.registry.resource_types:
        raise FhirError.of(400, "value", "_type names resource types that are served, by commas", "_type")
    return asked


def _of_compartment(facade: Facade, asked: frozenset[str]) -> list[str]:
    types = facade.registry.resource_types & definitions.compartments()["Patient"].keys() - {"Patient"}
    return sorted(types & asked if asked else types)


def _passed(given: dict[str, str]) -> Pairs:
    """The parameters that a search understands."""
    passed = [("_count", given["_count"])] if "_count" in given else []
    return [*passed, ("_lastUpdated", f"ge{given['_since']}")] if _time(given, "_since") else passed


def _care(given: dict[str, str]) -> Span | None:
    """The time of care that is asked for, None for any. Raises FhirError 400."""
    start, end = _time(given, "start"), _time(given, "end")
    if start is None and end is None:
        return None
    return Span(start.low if start else -(1 << 62), end.high if end else 1 << 62)


def _time(given: dict[str, str], name: str) -> Span | None:
    try:
        return date_span(given[name]) if name in given else None
    except ValueError as error:
        raise FhirError.of(400, "value", f"{name} is a date, or a date with a time", name) from error


def _took_place(stored: Stored, care: Span | None, base: str) -> bool:
    """Whether the care that a resource tells of overlaps the time asked for; without a date it does."""
    if care is None:
        return True
    name = f"{stored.type}.{_CARE_DATES.get(stored.type, 'date')}"
    rows = index_rows(load(stored.content or b""), base)
    dates = [row for row in rows if isinstance(row, DateRow) and row.parameter == name]
    return not dates or any(row.low < care.high and row.high > care.low for row in dates)


def _referred(facade: Facade, found: list[Stored]) -> list[Stored]:
    """The professionals, structures and places that resources refer to, by whatever element, each once."""
    known: dict[tuple[str, str], Stored | None] = {(one.type, one.id): one for one in found}
    latest, referred = found, []
    for _ in range(_ROUNDS):
        links = sorted({link for one in latest for link in references.of(load(one.content or b""))})
        latest = []
        for target in filter(None, map(references.restful, links)):
            name = target[1:]
            if target[0] in ("", facade.repository.base) and name[0] in _REFERENCED and name not in known:
                known[name] = stored = facade.repository.current(*name)
                latest += [stored] if stored and not stored.deleted else []
        referred += latest
    return referred


def _entry(stored: Stored, base: str, mode: str) -> dict[str, Any]:
    full_url = f"{base}/{stored.type}/{stored.id}"
    return {"fullUrl": full_url, "resource": msgspec.Raw(stored.content or b""), "search": {"mode": mode}}


def _link(relation: str, address: str, pairs: Pairs) -> dict[str, str]:
    return {"relation": relation, "url": f"{address}?{urlencode(pairs)}" if pairs else address}
