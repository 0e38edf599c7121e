"""A mixed workload on a store of a given size: throughput, latency by kind of request, memory, start-up.

    .venv/bin/python bench/mixed.py --engine sqlite --resources 10000 --workers 2 --seconds 10 --clients 8

The store is filled first: one patient in ten, the rest observations and care plans of theirs. With `--database URL` it
is filled there unless it is so already, and stays, so that a large one is made once. Clients are processes
with one kept-alive connection each and take kinds of request at random by the weights of `MIX`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from load import RefusedError, get, post, read_answer
from servers import fresh_database, running

from relais.server.fhir.repository import Repository
from relais.server.store import Store

SYSTEM = "urn:oid:1.2.250.1.213.1.4.10"
LOINC = "http://loinc.org"
CODES = ("8310-5", "85354-9", "29463-7", "8302-2", "8867-4")
PER_PATIENT = 10  # resources, the patient included
BATCH = 500

Requests = dict[str, Callable[[random.Random, int], bytes]]


def patient(number: int | str) -> dict[str, Any]:
    """An invented patient."""
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": f"9{number:0>14}"}],
        "name": [{"use": "official", "family": f"TEST{number}", "given": ["DOMINIQUE"]}],
        "gender": "female",
        "birthDate": "1979-03-28",
    }


def observation(number: int, subject: str) -> dict[str, Any]:
    """An observation on one of two thousand days."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": CODES[number % len(CODES)]}]},
        "subject": {"reference": subject},
        "effectiveDateTime": f"{2020 + number % 5}-{1 + number // 5 % 12:02}-{1 + number // 60 % 28:02}",
        "valueQuantity": {"value": 10 + number % 90, "system": "http://unitsofmeasure.org", "code": "kg"},
    }


def plan(subject: str) -> dict[str, Any]:
    """A care plan."""
    return {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": {"reference": subject}}


def _transaction(chance: random.Random, _patients: int) -> dict[str, Any]:
    subject = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
    resources = [patient(f"t{chance.randrange(10**9)}"), *(observation(n, subject) for n in range(19))]
    entries: list[dict[str, Any]] = [
        {"resource": each, "request": {"method": "POST", "url": each["resourceType"]}} for each in resources
    ]
    entries[0]["fullUrl"] = subject
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _body(resource: dict[str, Any]) -> bytes:
    return json.dumps(resource).encode()


def _update(chance: random.Random, patients: int) -> bytes:
    number = chance.randrange(patients)
    # A new birth date: a server may leave an unchanged resource as it is.
    body = _body({**patient(number), "id": f"p{number}", "birthDate": _day(chance)})
    return post(f"/fhir/Patient/p{number}", body).replace(b"POST", b"PUT", 1)


def _identifier(chance: random.Random, patients: int) -> str:
    return f"{SYSTEM}|9{chance.randrange(patients):0>14}"


def _day(chance: random.Random) -> str:
    return f"{2020 + chance.randrange(5)}-{1 + chance.randrange(12):02}-{1 + chance.randrange(28):02}"


KINDS: Requests = {
    "read": lambda chance, n: get(f"/fhir/Patient/p{chance.randrange(n)}"),
    "create": lambda chance, n: post(
        "/fhir/Observation", _body(observation(chance.randrange(9999), f"Patient/p{chance.randrange(n)}"))
    ),
    "update": _update,
    "token": lambda chance, n: get(f"/fhir/Patient?identifier={_identifier(chance, n)}"),
    "date": lambda chance, _: get(f"/fhir/Observation?date={_day(chance)}&_count=20"),
    "chained": lambda chance, n: get(f"/fhir/Observation?patient.identifier={_identifier(chance, n)}&_count=20"),
    "history": lambda chance, n: get(f"/fhir/Patient/p{chance.randrange(n)}/_history"),
    "transaction": lambda chance, n: post("/fhir/", _body(_transaction(chance, n))),
}
MIX = {"read": 40, "create": 10, "update": 8, "token": 16, "date": 6, "chained": 10, "history": 8, "transaction": 2}


@dataclass(frozen=True)
class Run:
    """What the clients met: latencies in milliseconds by kind of request, refusals by kind and status, their time."""

    latencies: dict[str, list[float]]
    refused: Counter[str]
    seconds: float

    @property
    def per_second(self) -> float:
        """Accepted requests of all clients."""
        return sum(map(len, self.latencies.values())) / self.seconds

    def table(self) -> dict[str, dict[str, float]]:
        """Count and percentiles by kind, in the order of the mix."""
        return {kind: _percentiles(self.latencies[kind]) for kind in MIX if kind in self.latencies}


def main() -> None:
    """Fill, serve, measure, print a table and a JSON line."""
    asked = _arguments()
    with nullcontext(asked.database) if asked.database else fresh_database(asked.engine) as url:
        filled = fill(url, asked.resources)
        with running(url, workers=asked.workers) as server:
            run(server.base, asked.resources // PER_PATIENT, 2, asked.clients)  # warm up
            found = run(server.base, asked.resources // PER_PATIENT, asked.seconds, asked.clients)
            memory = server.memory()
    if found.refused:
        sys.exit(f"refused: {dict(found.refused)}")
    speed = f"filled at {asked.resources / filled:.0f}/s" if filled else "filled before"
    print(f"{asked.engine}, {asked.resources} resources ({speed})")
    print(f"{asked.workers} processes, {asked.clients} clients")
    print(f"ready in {server.start_up:.2f} s, {memory:.0f} MB, {found.per_second:.0f} requests/s")
    for kind, line in found.table().items():
        print(f"{kind:12}" + "".join(f"{name:>5} {value:<9}" for name, value in line.items()))
    figures = {
        "bench": "mixed",
        "engine": asked.engine,
        "resources": asked.resources,
        "workers": asked.workers,
        "clients": asked.clients,
        "per_second": round(found.per_second),
        "memory_mb": round(memory),
        "start_up_s": round(server.start_up, 2),
    }
    print(json.dumps(figures | {"latency_ms": found.table()}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A mixed workload on a store of a given size.")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    for name, default in (("resources", 10_000), ("workers", 2), ("seconds", 10), ("clients", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--database", help="SQLAlchemy URL of a database to fill once and keep")
    return parser.parse_args()


def belongings(owner: int) -> Iterator[dict[str, Any]]:
    """A patient and the care plan and observations of theirs: `PER_PATIENT` resources."""
    subject = f"Patient/p{owner}"
    yield patient(owner)
    yield plan(subject)
    for place in range(2, PER_PATIENT):
        yield observation(PER_PATIENT * owner + place, subject)


def fill(url: str, resources: int) -> float:
    """Store that many resources; the seconds it took, 0 when they were there."""
    started = time.monotonic()
    repository = Repository(Store.open(url), "http://bench/fhir", check_references=False)
    if repository.current("Patient", f"p{resources // PER_PATIENT - 1}"):
        repository.store.close()
        return 0
    for start in range(0, resources, BATCH):
        with repository.transaction() as transaction, transaction.together():
            for owner in range(start // PER_PATIENT, min(start + BATCH, resources) // PER_PATIENT):
                head, *others = belongings(owner)
                transaction.create(head, resource_id=f"p{owner}")
                for resource in others:
                    transaction.create(resource)
    repository.store.close()
    return time.monotonic() - started


def run(base: str, patients: int, seconds: float, clients: int, mix: Mapping[str, int] = MIX) -> Run:
    """Requests of the kinds of `mix`, by their weights, from that many clients for that long."""
    context = multiprocessing.get_context("fork")
    with context.Pool(clients) as pool:
        jobs = [pool.apply_async(_client, (base, patients, seconds, number, mix)) for number in range(clients)]
        results = [job.get() for job in jobs]
    latencies: dict[str, list[float]] = defaultdict(list)
    for accepted, _refused, _elapsed in results:
        for kind, latency in accepted:
            latencies[kind].append(1000 * latency)
    refused = sum((found for _accepted, found, _elapsed in results), Counter[str]())
    return Run(dict(latencies), refused, sum(elapsed for _accepted, _refused, elapsed in results) / clients)


def _client(
    base: str, patients: int, seconds: float, number: int, mix: Mapping[str, int]
) -> tuple[list[tuple[str, float]], Counter[str], float]:
    chance = random.Random(f"{number} {time.time()}")
    kinds, weights = list(mix), list(mix.values())
    place = urlsplit(base)
    accepted: list[tuple[str, float]] = []
    refused: Counter[str] = Counter()
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = before = time.perf_counter()
        while before < started + seconds:
            kind = chance.choices(kinds, weights)[0]
            request = KINDS[kind](chance, patients)
            before = time.perf_counter()
            connection.sendall(request)
            try:
                read_answer(connection)
                accepted.append((kind, time.perf_counter() - before))
            except RefusedError as refusal:
                refused[f"{kind} {refusal.status}"] += 1
    return accepted, refused, time.perf_counter() - started


def _percentiles(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    last = len(ordered) - 1
    return {"n": len(ordered)} | {f"p{p}": round(ordered[min(last, len(ordered) * p // 100)], 2) for p in (50, 95, 99)}


if __name__ == "__main__":
    main()
