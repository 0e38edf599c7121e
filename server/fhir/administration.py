"""What only an administrator does: `$reindex`, and `$expunge` of superseded versions. Offered by setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.jobs import KINDS, Job, Kind
from relais.server.fhir.json_format import dump, load
from relais.server.fhir.negotiation import CONTENT_TYPE
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.parameters import simple_parameters
from relais.server.search import reindex

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade

_SETTING = "administration"
_BATCH = 1000  # versions removed in one transaction


@operation("$expunge", level="system", setting=_SETTING)
@operation("$expunge", level="type", setting=_SETTING)
@operation("$expunge", level="instance", setting=_SETTING)
def expunge(facade: Facade, call: Call) -> Reply:
    """Remove superseded versions for ever: parameters `expungePreviousVersions` (must be true) and `limit`."""
    given = dict(simple_parameters(call, ("expungePreviousVersions", "limit")))
    if given.get("expungePreviousVersions") != "true":
        message = "say what is to be removed: expungePreviousVersions = true"
        raise FhirError.of(400, "required", message, "expungePreviousVersions")
    limit = given.get("limit", "1000000000")
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 11):
        raise FhirError.of(400, "value", "limit is a whole number", "limit")
    if call.id and facade.repository.current(call.resource_type, call.id) is None:
        raise FhirError.of(404, "not-found", f"{call.resource_type}/{call.id} does not exist")
    removed, left = 0, int(limit)
    while left > removed:
        with facade.repository.store.transaction() as transaction:
            batch = min(_BATCH, left - removed)
            count = transaction.expunge_history(call.resource_type or None, call.id or None, batch)
        removed += count
        if count < batch:
            break
    return Reply(200, dump(_parameters(count=removed)))


@operation("$reindex", level="system", setting=_SETTING)
@operation("$reindex", level="type", setting=_SETTING)
def order_reindex(facade: Facade, call: Call) -> Reply:
    """Make the index of stored resources again: 202 and the address of its status."""
    simple_parameters(call, ())
    return facade.jobs.submit("reindex", {"type": call.resource_type or None})


def _reindex(facade: Facade, job: Job) -> dict[str, Any]:
    done = reindex(
        facade.store,
        facade.repository.base,
        load,
        resource_type=job.request["type"],
        progress=lambda count: job.report(f"{count} resources"),
    )
    return _parameters(count=done)


def _parameters(**counts: int) -> dict[str, Any]:
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": name, "valueInteger": count} for name, count in counts.items()],
    }


def _nothing_left_behind(_facade: Facade, _number: str) -> None:
    """Half a reindex is an index."""


KINDS["reindex"] = Kind(_reindex, CONTENT_TYPE, _nothing_left_behind)
