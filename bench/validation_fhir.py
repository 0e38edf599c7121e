"""What FHIR validation costs: `python bench/validation_fhir.py PACKAGES [LIBRARY]`.

PACKAGES is the folder of the official packages. With LIBRARY (the jars of tests/profiles/agreement/pom.xml) and Java,
HAPI's validator measures the same resources in the same run. Times are medians of processor time, in milliseconds:
other work on the machine counts in neither.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from relais.profiles.packages import Registry, load
from relais.profiles.structure import check
from relais.profiles.validator import Validator

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from support.agreement import wanted
from support.instances import Instances
from support.plans import PLANS

FR = "https://hl7.fr/ig/fhir/core/StructureDefinition/"
ANNUAIRE = "https://interop.esante.gouv.fr/ig/fhir/annuaire/StructureDefinition/"
CDS = "https://interop.esante.gouv.fr/ig/fhir/cds/StructureDefinition/"
CLAIMS = {
    "Patient": f"{FR}fr-core-patient-ins",
    "Practitioner": f"{ANNUAIRE}as-practitioner",
    "PractitionerRole": f"{ANNUAIRE}as-practitionerrole",
    "Organization": f"{ANNUAIRE}as-organization",
    "RelatedPerson": f"{FR}fr-core-related-person",
    "CareTeam": f"{CDS}cds-ihe-careteam",
}
ENTRIES = 20
ROUNDS = 30
HARNESS = Path(__file__).parent.parent / "tests" / "profiles" / "agreement" / "Oracle.java"

Resource = dict[str, Any]


def transaction() -> Resource:
    """A plan of care as a transaction of 20 entries, each of which claims the official profile of its type, if any."""
    bundle: Resource = msgspec.json.Decoder(float_hook=Decimal).decode(msgspec.json.encode(PLANS["full"]))
    bundle["entry"] = bundle["entry"][:ENTRIES]
    for entry in bundle["entry"]:
        if claim := CLAIMS.get(entry["resource"]["resourceType"]):
            entry["resource"].setdefault("meta", {})["profile"] = [claim]
    return bundle


def median(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Milliseconds of processor time."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1000


def samples(registry: Registry, validator: Validator, bundle: Resource) -> dict[str, tuple[Resource, list[str]]]:
    """What is measured: name, resource, profiles that are asked for."""
    instances = Instances(validator)
    profiles = [*CLAIMS.values(), f"{CDS}cds-bundle-transaction-creation"]
    made = {
        profile.rpartition("/")[2]: (instances.minimal(profile, wanted()[profile]), [profile]) for profile in profiles
    }
    plan = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "CarePlan")
    return {"CarePlan (R4 only)": (plan, []), f"transaction of {ENTRIES} entries": (bundle, []), **made}


def hapi(cases: dict[str, tuple[Resource, list[str]]], packages: Path, library: Path) -> dict[str, float]:
    """HAPI's medians on the same resources, after as many rounds of warming up."""
    lines = [
        msgspec.json.encode({"id": name, "profiles": profiles, "resource": value})
        for name, (value, profiles) in cases.items()
        for _ in range(2 * ROUNDS)
    ]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["javac", "-cp", f"{library}/*", "-d", folder, HARNESS], check=True)
        command = ["java", "-cp", f"{library}/*:{folder}", "Oracle", packages]
        result = subprocess.run(command, input=b"\n".join(lines) + b"\n", capture_output=True, check=True)
    answers = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    return {
        name: statistics.median([each["microseconds"] for each in answers if each["id"] == name][ROUNDS:]) / 1000
        for name in cases
    }


def main(packages: Path, library: Path | None) -> None:
    """Print the figures."""
    start = time.process_time()
    registry = load(packages)
    print(f"load {len(registry.packages)} packages: {(time.process_time() - start) * 1000:.0f} ms")
    validator, bundle = Validator(registry), transaction()
    start = time.process_time()
    validator.validate(bundle)
    print(f"first transaction, profiles compiled on the way: {(time.process_time() - start) * 1000:.0f} ms")
    cases = samples(registry, validator, bundle)
    theirs = hapi(cases, packages, library) if library and shutil.which("java") else {}
    print(f"\n{'':40}{'base':>8}{'full':>8}{'HAPI':>8}  {'bytes':>8}")
    for name, (value, profiles) in cases.items():
        base = median(lambda value=value: check(value))  # type: ignore[misc]
        full = median(lambda value=value, profiles=profiles: validator.validate(value, profiles))  # type: ignore[misc]
        other = f"{theirs[name]:8.2f}" if name in theirs else f"{'':8}"
        print(f"{name:40}{base:8.3f}{full:8.2f}{other}  {len(msgspec.json.encode(value)):8}")
    print(f"\nmemory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
