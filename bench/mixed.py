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
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

from load import get, post, read_answer
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
    entries = [{"resource": each, "request": {"method": "POST", "url": each["resourceType"]}} for each in resources]
    entries[0]["fullUrl"] = subject
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _body(resource: dict[str, Any]) -> bytes:
    return json.dumps(resource).encode()


def _update(chance: random.Random, patients: int) -> bytes:
    number = chance.randrange(patients)
    body = _body({**patient(number), "id": f"p{number}", "active": True})
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


def main() -> None:
    """Fill, serve, measure, print a table and a JSON line."""
    asked = _arguments()
    with nullcontext(asked.database) if asked.database else fresh_database(asked.engine) as url:
        filled = fill(url, asked.resources)
        with running(url, workers=asked.workers) as server:
            run(server.base, asked.resources // PER_PATIENT, 2, asked.clients)  # warm up
            latencies, elapsed = run(server.base, asked.resources // PER_PATIENT, asked.seconds, asked.clients)
            memory = server.memory()
    count = sum(map(len, latencies.values()))
    speed = f"filled at {asked.resources / filled:.0f}/s" if filled else "filled before"
    print(f"{asked.engine}, {asked.resources} resources ({speed})")
    print(f"{asked.workers} processes, {asked.clients} clients")
    print(f"ready in {server.start_up:.2f} s, {memory:.0f} MB, {count / elapsed:.0f} requests/s")
    table = {}
    for kind, found in sorted(latencies.items(), key=lambda pair: list(MIX).index(pair[0])):
        found.sort()
        table[kind] = {"n": len(found)} | {f"p{p}": round(_share(found, p / 100), 2) for p in (50, 95, 99)}
        print(f"{kind:12}" + "".join(f"{name:>5} {value:<9}" for name, value in table[kind].items()))
    figures = {
        "bench": "mixed",
        "engine": asked.engine,
        "resources": asked.resources,
        "workers": asked.workers,
        "clients": asked.clients,
        "per_second": round(count / elapsed),
        "memory_mb": round(memory),
        "start_up_s": round(server.start_up, 2),
    }
    print(json.dumps(figures | {"latency_ms": table}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A mixed workload on a store of a given size.")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    for name, default in (("resources", 10_000), ("workers", 2), ("seconds", 10), ("clients", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--database", help="SQLAlchemy URL of a database to fill once and keep")
    return parser.parse_args()


def fill(url: str, resources: int) -> float:
    """Store that many resources; the seconds it took, 0 when they were there."""
    started = time.monotonic()
    repository = Repository(Store.open(url), "http://bench/fhir", check_references=False)
    if repository.current("Patient", f"p{(resources - 1) // PER_PATIENT}"):
        repository.store.close()
        return 0
    for start in range(0, resources, BATCH):
        with repository.transaction() as transaction:
            for number in range(start, min(start + BATCH, resources)):
                owner, place = divmod(number, PER_PATIENT)
                subject = f"Patient/p{owner}"
                if place == 0:
                    transaction.create(patient(owner), resource_id=f"p{owner}")
                else:
                    transaction.create(plan(subject) if place == 1 else observation(number, subject))
    repository.store.close()
    return time.monotonic() - started


def run(base: str, patients: int, seconds: float, clients: int) -> tuple[dict[str, list[float]], float]:
    """Latencies in milliseconds by kind of request."""
    context = multiprocessing.get_context("fork")
    with context.Pool(clients) as pool:
        jobs = [pool.apply_async(_client, (base, patients, seconds, number)) for number in range(clients)]
        results = [job.get() for job in jobs]
    latencies: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for kind, latency in result:
            latencies[kind].append(1000 * latency)
    return latencies, seconds


def _client(base: str, patients: int, seconds: float, number: int) -> list[tuple[str, float]]:
    chance = random.Random(f"{number} {time.time()}")
    place = urlsplit(base)
    found: list[tuple[str, float]] = []
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + seconds
        for kind in iter(lambda: chance.choices(list(MIX), list(MIX.values()))[0], None):
            request = KINDS[kind](chance, patients)
            before = time.perf_counter()
            if before > end:
                break
            connection.sendall(request)
            read_answer(connection)
            found.append((kind, time.perf_counter() - before))
    return found


def _share(latencies: list[float], share: float) -> float:
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))]


if __name__ == "__main__":
    main()
