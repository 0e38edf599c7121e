"""Record what HAPI's validator says of the corpus, in `hapi.tsv` and `wanted.json` (Java 17 and Maven; minutes):

mvn -q -f tests/profiles/agreement dependency:copy-dependencies -DoutputDirectory=LIBRARY
PYTHONPATH=tests python tests/profiles/agreement/record.py PACKAGES LIBRARY
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from relais.profiles.packages import load
from relais.profiles.validator import Validator
from support.agreement import FOLDER, VERDICTS, WANTED, Case, base_cases, normalised, profile_cases, resource_profiles
from support.instances import Instances


def main(packages: Path, library: Path) -> None:
    """Write the cases, ask HAPI, store the answers."""
    validator = Validator(load(packages))
    instances = Instances(validator)
    wanted = {profile: instances.full(profile)[1] for profile in resource_profiles(validator.registry)}
    WANTED.write_text(
        json.dumps({profile: sorted(ids) for profile, ids in wanted.items()}, indent=0, ensure_ascii=False) + "\n"
    )
    cases = [*base_cases(), *(case for each, ids in wanted.items() for case in profile_cases(instances, each, ids))]
    answers = ask(cases, packages, library)
    rows = ["case\tdigest\terrors"]
    for case, answer in zip(cases, answers, strict=True):
        if "failure" in answer:  # HAPI itself broke down: no verdict
            print(case.name, answer["failure"], file=sys.stderr)
            continue
        errors = " ; ".join("|".join(error) for error in normalised(answer["issues"]))
        rows.append(f"{case.name}\t{case.digest}\t{errors}")
    VERDICTS.write_text("\n".join(rows) + "\n")


def ask(cases: Iterable[Case], packages: Path, library: Path) -> list[dict[str, Any]]:
    """HAPI's answers to the cases, in their order. Compiles the harness into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["javac", "-cp", f"{library}/*", "-d", folder, FOLDER / "Oracle.java"], check=True)
        lines = b"\n".join(
            msgspec.json.encode(
                {"id": case.name, "profiles": [case.profile] if case.profile else [], "resource": case.resource}
            )
            for case in cases
        )
        command = ["java", "-cp", f"{library}/*:{folder}", "Oracle", packages]
        result = subprocess.run(command, input=lines + b"\n", stdout=subprocess.PIPE, check=True)
    return [msgspec.json.decode(line) for line in result.stdout.splitlines()]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
