"""The mixed workload on Relais and on HAPI FHIR (JPA, H2 on disk), in turn, on the same machine and the same resources.

    .venv/bin/python bench/compare_hapi.py --resources 10000 --seconds 20 --warm-up 60 --rounds 2

Both are filled over HTTP, then asked the same searches, which must find the same resources. In each round each server
is started alone on its store, warmed up with the mix until it gets no faster (Java compiles meanwhile), measured on the
mix, and on each kind of request by itself, which gives a throughput by kind. `bench/hapi` is HAPI's server: it needs
Java 17 and Maven. A line on standard error for each slice of the warm-up shows whether it was long enough.

Two things are in HAPI's favour: H2, as it comes, writes a commit down up to half a second after it was answered, while
Relais does so before; and a search that was asked in the last minute is answered by HAPI from what it found then.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import requests
from mixed import MIX, PER_PATIENT, SYSTEM, Run, belongings, run
from servers import Server, build_hapi, running, running_hapi

BATCH = 10  # patients in a transaction of the filling
SAMPLES = 20  # patients whose searches must find the same on both
SLICES = 6  # of the warm-up, at least
PATIENCE = 4  # times the warm-up is lengthened at most, while a server still gets faster
FASTER = 1.05  # by which one of the last two slices beats all before them
SHARES = ("p50", "p95", "p99")
ALONE = ("read", "token", "date", "chained", "history", "update", "create", "transaction")  # what makes it grow last

Start = Callable[[str], AbstractContextManager[Server]]


@dataclass
class Contender:
    """A server and what was found about it, a figure for each round."""

    name: str
    start: Start  # from the path whose answer means that it is ready
    software: str = ""
    filled: float = 0  # resources per second
    found: list[dict[str, list[str]]] = field(default_factory=list)
    warm_ups: list[list[float]] = field(default_factory=list)  # requests per second of each slice
    start_ups: list[float] = field(default_factory=list)  # seconds
    memories: list[float] = field(default_factory=list)  # MB
    mixes: list[Run] = field(default_factory=list)
    alone: dict[str, list[Run]] = field(default_factory=lambda: {kind: [] for kind in MIX})

    def figures(self) -> dict[str, Any]:
        """Everything, for the line of JSON."""
        return {
            "software": self.software,
            "per_second": round(fmean(mix.per_second for mix in self.mixes), 1),
            "per_second_alone": {kind: round(self.rate(kind), 1) for kind in MIX},
            "latency_ms": self.latencies().table(),
            "refused": dict(sum((each.refused for each in self.runs()), Counter[str]())),
            "warm_up_per_second": [[round(rate) for rate in rates] for rates in self.warm_ups],
            "memory_mb": [round(memory) for memory in self.memories],
            "start_up_s": [round(start_up, 2) for start_up in self.start_ups],
            "filled_per_second": round(self.filled),
        }

    def runs(self) -> Sequence[Run]:
        """Every measured run."""
        return [*self.mixes, *(each for runs in self.alone.values() for each in runs)]

    def rate(self, kind: str) -> float:
        """Requests per second of that kind by itself."""
        return fmean(each.per_second for each in self.alone[kind])

    def latencies(self) -> Run:
        """The mixes of all rounds as one."""
        pooled = {kind: [found for mix in self.mixes for found in mix.latencies.get(kind, ())] for kind in MIX}
        return Run({kind: found for kind, found in pooled.items() if found}, Counter(), 0)


def main() -> None:
    """Build HAPI, fill and compare both, print tables and a JSON line."""
    asked = _arguments()
    try:
        classpath = build_hapi()
    except RuntimeError as error:
        sys.exit(str(error))
    patients = asked.resources // PER_PATIENT
    with tempfile.TemporaryDirectory() as folder:
        relais = Contender("Relais", partial(_relais, Path(folder), asked.workers))
        hapi = Contender("HAPI", partial(_hapi, classpath, Path(folder), asked.heap))
        for contender in (relais, hapi):
            _prepare(contender, patients)
        _same(relais, hapi)
        for number in range(asked.rounds):
            for contender in (relais, hapi):
                print(f"round {number + 1} of {asked.rounds}: {contender.name}", file=sys.stderr, flush=True)
                _round(contender, patients, asked)
    _print(relais, hapi)
    figures = {"bench": "hapi"} | vars(asked) | {"relais": relais.figures(), "hapi": hapi.figures()}
    print(json.dumps(figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The mixed workload on Relais and on HAPI FHIR.")
    for name, default, meaning in (
        ("resources", 10_000, "stored before measuring"),
        ("clients", 8, "at once"),
        ("workers", 2, "web processes of Relais"),
        ("rounds", 2, "times that each server is started and measured"),
        ("warm-up", 60, "seconds of the mix before measuring, longer while a server gets faster"),
        ("seconds", 20, "of the mix measured"),
        ("alone", 6, "seconds of each kind of request by itself"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} ({default})")
    parser.add_argument("--heap", default="2g", help="the most that HAPI's heap may take (2g)")
    return parser.parse_args()


def _relais(folder: Path, workers: int, ready: str) -> AbstractContextManager[Server]:
    return running(f"sqlite:///{folder}/relais.sqlite", workers=workers, ready=ready)


def _hapi(classpath: str, folder: Path, heap: str, ready: str) -> AbstractContextManager[Server]:
    return running_hapi(classpath, folder / "hapi", heap=heap, ready=ready)


def _prepare(contender: Contender, patients: int) -> None:
    """Fill its store and note what some searches find there."""
    print(f"filling {contender.name}", file=sys.stderr, flush=True)
    with contender.start("metadata") as server, requests.Session() as session:
        software = session.get(f"{server.base}/metadata", timeout=120).json()["software"]
        contender.software = f"{software['name']} {software['version']}"
        started = time.monotonic()
        for first in range(0, patients, BATCH):
            _store(session, server.base, range(first, min(first + BATCH, patients)))
        contender.filled = patients * PER_PATIENT / (time.monotonic() - started)
        for number in range(0, patients, max(1, patients // SAMPLES)):
            contender.found.append(_answers(session, server.base, number))


def _store(session: requests.Session, base: str, owners: range) -> None:
    entries = [
        {"resource": resource | {"id": name.partition("/")[2]}, "request": {"method": "PUT", "url": name}}
        for owner in owners
        for place, resource in enumerate(belongings(owner))
        for name in [_name(resource["resourceType"], owner, place)]
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = session.post(base, json=bundle, headers={"Content-Type": "application/fhir+json"}, timeout=120)
    if not answer.ok:
        raise RuntimeError(f"the filling was refused: {answer.status_code} {answer.text[:1000]}")


def _name(kind: str, owner: int, place: int) -> str:
    return f"Patient/p{owner}" if kind == "Patient" else f"{kind}/r{owner}-{place}"


def _answers(session: requests.Session, base: str, number: int) -> dict[str, list[str]]:
    """What the searches and the history of the mix find about a patient, by query: resource versions or a count."""
    day = next(each["effectiveDateTime"] for each in belongings(number) if each["resourceType"] == "Observation")
    queries = (
        f"Patient?identifier={SYSTEM}|9{number:0>14}",
        f"Observation?patient.identifier={SYSTEM}|9{number:0>14}&_count=20",
        f"Observation?date={day}&_summary=count",
        f"Patient/p{number}/_history",
    )
    found = {}
    for query in queries:
        answer = session.get(f"{base}/{query}", timeout=120)
        answer.raise_for_status()
        bundle = answer.json()
        resources = [entry["resource"] for entry in bundle.get("entry", [])]
        names = [f"{each['resourceType']}/{each['id']}/{each['meta']['versionId']}" for each in resources]
        found[query] = sorted(names) or [f"{bundle['total'] or 'nothing'}"]
    return found


def _same(relais: Contender, hapi: Contender) -> None:
    for ours, theirs in zip(relais.found, hapi.found, strict=True):
        for query, found in ours.items():
            if found != theirs[query]:
                raise RuntimeError(f"{query} finds {found} on Relais and {theirs[query]} on HAPI")
            if found == ["nothing"]:
                raise RuntimeError(f"{query} finds nothing")


def _round(contender: Contender, patients: int, asked: argparse.Namespace) -> None:
    with contender.start("Patient/p0") as server:
        contender.warm_ups.append(_warm_up(server.base, patients, asked))
        contender.mixes.append(run(server.base, patients, asked.seconds, asked.clients))
        contender.memories.append(server.memory())
        for kind in ALONE:
            contender.alone[kind].append(run(server.base, patients, asked.alone, asked.clients, {kind: 1}))
        contender.start_ups.append(server.start_up)


def _warm_up(base: str, patients: int, asked: argparse.Namespace) -> list[float]:
    """Requests per second of each slice of the mix, until the last two were no faster than those before."""
    rates: list[float] = []
    while len(rates) < SLICES or (len(rates) < PATIENCE * SLICES and max(rates[-2:]) > FASTER * max(rates[:-2])):
        rates.append(run(base, patients, asked.warm_up / SLICES, asked.clients).per_second)
        print(f"warming up: {rates[-1]:.0f}/s", file=sys.stderr, flush=True)
    return rates


def _print(relais: Contender, hapi: Contender) -> None:
    ours, theirs = relais.latencies().table(), hapi.latencies().table()
    print(f"{relais.software}, {hapi.software}")
    print("latency in the mix, ms: Relais, HAPI, and how many times HAPI's is longer")
    print(f"{'':12}" + "".join(f"{share:>10}{'':10}{'':8}" for share in SHARES))
    for kind in (kind for kind in MIX if kind in ours and kind in theirs):
        pairs = [(ours[kind][share], theirs[kind][share]) for share in SHARES]
        print(f"{kind:12}" + "".join(_pair(us, them, them / us) for us, them in pairs))
    print("requests per second of each kind by itself, and how many times Relais answers more")
    for kind in MIX:
        print(f"{kind:12}{_pair(relais.rate(kind), hapi.rate(kind), relais.rate(kind) / (hapi.rate(kind) or 1))}")
    we, they = relais.figures(), hapi.figures()
    print(f"{'the mix':12}{_pair(we['per_second'], they['per_second'], we['per_second'] / they['per_second'])}")
    memory, start_up = (max(relais.memories), max(hapi.memories)), (fmean(relais.start_ups), fmean(hapi.start_ups))
    print(f"{'memory, MB':12}{_pair(*memory, memory[1] / memory[0])}  (PSS after the mix, the most of a round)")
    print(f"{'ready, s':12}{_pair(*start_up, start_up[1] / start_up[0])}  (first read answered, store filled, mean)")
    print(f"{'filled, /s':12}{_pair(relais.filled, hapi.filled, relais.filled / hapi.filled)}")
    for contender in (relais, hapi):
        if refused := contender.figures()["refused"]:
            print(f"refused by {contender.name}: {refused}")


def _pair(ours: float, theirs: float, ratio: float) -> str:
    return f"{ours:10.1f}{theirs:10.1f}{ratio:7.1f}×"


if __name__ == "__main__":
    main()
