"""Bulk export of everything, or of what concerns patients, as NDJSON files (https://hl7.org/fhir/uv/bulkdata/ 1.0).

A job writes the files; each resource is on one line, as it is served.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, select

from relais.profiles import definitions
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.jobs import KINDS, Job, Kind
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.parameters import moment_since, simple_parameters
from relais.server.fhir.repository import instant
from relais.server.search.parameters import index_name
from relais.server.store import schema
from relais.server.store.store import to_microseconds

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade

NDJSON = "application/fhir+ndjson"
_NAMES = frozenset({NDJSON, "application/ndjson", "ndjson"})
_PARAMETERS = frozenset({"_outputFormat", "_since", "_type"})
_DEFINITION = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/{}-export"
_BATCH = 1000  # resources read at once
_LINES = 100_000  # of one file


@operation("$export", level="system", methods=("GET", "POST"), definition=_DEFINITION.format(""), produces=_NAMES)
def export_everything(facade: Facade, call: Call) -> Reply:
    """Order an export of every resource: 202 and the address of its status. Asks for `Prefer: respond-async`."""
    return _order(facade, call, facade.registry.resource_types, of_patients=False)


@operation(
    "$export",
    level="type",
    resource_types=("Patient",),
    methods=("GET", "POST"),
    definition=_DEFINITION.format("patient"),
    produces=_NAMES,
)
def export_patients(facade: Facade, call: Call) -> Reply:
    """Order an export of all patients and of the resources in their compartments."""
    types = facade.registry.resource_types & definitions.compartments()["Patient"].keys() | {"Patient"}
    return _order(facade, call, types, of_patients=True)


@operation(
    "$export-file", level="system", methods=("GET",), address="/$export-file/<id>/<file>", produces=(*_NAMES, "*/*")
)
def export_file(facade: Facade, call: Call) -> Reply:
    """A file of an export; a part of it for a Range, so that a broken download goes on where it stopped."""
    path = _folder(facade, call.id) / call.file
    if not path.is_file():
        raise FhirError.of(404, "not-found", "there is no such file")
    return Reply(200, content_type=NDJSON, file=path)


def _order(facade: Facade, call: Call, types: frozenset[str], *, of_patients: bool) -> Reply:
    if not call.prefer.asynchronous:
        raise FhirError.of(400, "required", "an export is asynchronous: ask with Prefer: respond-async")
    given = simple_parameters(call, _PARAMETERS)
    values = dict(given)
    if values.get("_outputFormat", NDJSON).replace(" ", "+") not in _NAMES:
        raise FhirError.of(400, "value", f"exports are written as {NDJSON}", "_outputFormat")
    asked = {name.strip() for key, value in given if key == "_type" for name in value.split(",") if name.strip()}
    if asked - types:
        raise FhirError.of(400, "value", "_type names resource types that are exported, by commas", "_type")
    since = to_microseconds(moment_since(values["_since"])) if "_since" in values else None
    request: dict[str, Any] = {"types": sorted(asked or types), "since": since, "patients": of_patients}
    address = f"{facade.repository.base}/{'Patient/' if of_patients else ''}$export"
    request["address"] = f"{address}?{call.query}" if call.query else address
    return facade.jobs.submit("export", request)


def _run(facade: Facade, job: Job) -> dict[str, Any]:
    folder = _folder(facade, job.id)
    shutil.rmtree(folder, ignore_errors=True)  # of a start that was interrupted
    folder.mkdir(mode=0o700, parents=True)
    output = []
    for done, resource_type in enumerate(job.request["types"]):
        job.report(f"{resource_type}, {done} of {len(job.request['types'])} types done")
        for name, count in _write(facade, job, resource_type, folder):
            url = f"{facade.repository.base}/$export-file/{job.id}/{name}"
            output.append({"type": resource_type, "url": url, "count": count})
    return {
        "transactionTime": instant(job.submitted),
        "request": job.request["address"],
        "requiresAccessToken": False,
        "output": output,
        "error": [],
    }


def _write(facade: Facade, job: Job, resource_type: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Write the files of a type; gives name and number of lines of each."""
    key, number = 0, 0
    more = True
    while more:
        number += 1
        name, lines = f"{resource_type}.{number}.ndjson", 0
        with (folder / name).open("xb") as file:
            while lines < _LINES and more:
                batch = _read(facade, job, resource_type, key)
                more = len(batch) == _BATCH
                for key, content in batch:  # noqa: B007 - the last key is where the next batch starts
                    file.write(content + b"\n")
                lines += len(batch)
                job.report(f"{resource_type}, {(number - 1) * _LINES + lines} resources")
        if lines:
            yield name, lines
        else:
            (folder / name).unlink()


def _read(facade: Facade, job: Job, resource_type: str, after: int) -> list[tuple[int, bytes]]:
    resource = schema.resource
    statement = select(resource.c.key, resource.c.content).where(
        resource.c.type == resource_type, resource.c.key > after, resource.c.content.is_not(None)
    )
    if job.request["since"] is not None:
        statement = statement.where(resource.c.last_updated >= job.request["since"])
    if job.request["patients"] and resource_type != "Patient":
        index = schema.reference_index
        codes = definitions.compartments()["Patient"][resource_type]
        concerns = exists().where(
            index.c.resource_key == resource.c.key,
            index.c.parameter.in_([index_name(resource_type, code) for code in codes]),
            index.c.target_type == "Patient",
        )
        statement = statement.where(concerns)
    with facade.repository.snapshot() as connection:
        rows = connection.execute(statement.order_by(resource.c.key).limit(_BATCH)).all()
    return [(key, bytes(content)) for key, content in rows]


def _discard(facade: Facade, number: str) -> None:
    shutil.rmtree(_folder(facade, number), ignore_errors=True)


def _folder(facade: Facade, number: str) -> Path:
    return Path(facade.settings.export_folder).absolute() / number


KINDS["export"] = Kind(_run, "application/json", _discard)
