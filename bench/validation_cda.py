"""Validation by the official rules: where the time of one core goes, then a folder of documents through the command.

python bench/validation_cda.py [documents] [processes]
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from relais.cda import consistency
from relais.cda.parsing import parse
from relais.cda.rule_sets import GENERIC_PROFILES
from relais.cda.validation import Validator
from relais.server.settings import Settings

ROUNDS = 15


def measure(action: Callable[[], object]) -> str:
    """Processor time of one run in milliseconds: best and median of some."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        action()
        times.append(1000 * (time.process_time() - start))
    return f"{min(times):7.1f} {statistics.median(times):7.1f}"


def profile(pack: Path) -> None:
    """Compilation, then every part of the verdict on each official example, warm."""
    start = time.process_time()
    validator = Validator(pack)
    print(f"load and hash the rules {time.process_time() - start:.2f} s")
    for one in GENERIC_PROFILES:
        start = time.process_time()
        validator.compiled(one)
        print(f"compile {one.name:24} {time.process_time() - start:.2f} s")
    for example in sorted((pack / "cda" / "examples").glob("*.xml")):
        data = example.read_bytes()
        for _ in range(10):
            validator.validate(data)
        tree = parse(data)
        source = validator._processor.source(tree)
        print(f"{example.name}, ms of one core, best and median of {ROUNDS}")
        print(f"  whole verdict            {measure(lambda data=data: validator.validate(data))}")
        print(f"  parse                    {measure(lambda data=data: parse(data))}")
        print(f"  hand over to Saxon       {measure(lambda tree=tree: validator._processor.source(tree))}")
        print(f"  XML schema               {measure(lambda tree=tree: list(validator._schema_problems(tree)))}")
        print(f"  consistency              {measure(lambda tree=tree: consistency.check(tree))}")
        opened = list(validator._opened(tree))
        for one in GENERIC_PROFILES:
            files = opened if one.name == "terminologies" else []
            compiled = validator.compiled(one)
            run = lambda compiled=compiled, source=source, files=files: compiled.validate(source, files)  # noqa: E731
            print(f"  {one.name:24} {measure(run)}")


def folder_of(pack: Path, documents: int, processes: int) -> None:
    """`relais validate` on a folder of official examples: documents per second, and memory as it goes."""
    examples = sorted((pack / "cda" / "examples").glob("*.xml"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "documents")
        folder.mkdir()
        for number, example in zip(range(documents), itertools.cycle(examples), strict=False):
            shutil.copy(example, folder / f"{number:05}.xml")
        command = [sys.executable, "-m", "relais.server.cli", "validate", str(folder), "--processes", str(processes)]
        start, seen = time.perf_counter(), list[tuple[float, int, dict[int, int]]]()
        with subprocess.Popen([*command, "-o", f"{place}/reports", "--json"]) as run:
            while run.poll() is None:
                done = sum(1 for _ in Path(place).glob("reports/*.json"))
                seen.append((time.perf_counter() - start, done, memory(run.pid)))
                time.sleep(1)
        seen.append((time.perf_counter() - start, documents, {}))
    for seconds, done, used in seen[:: max(1, len(seen) // 12)]:
        print(f"{seconds:6.1f} s {done:6} documents, MB: {' '.join(str(size // 1024) for size in used.values())}")
    warm = next(seconds for seconds, done, _ in seen if done)
    rate = documents / (seen[-1][0] - warm)
    print(f"exit code {run.returncode}; {rate:.1f} documents/s on {processes} processes, first after {warm:.1f} s")


def memory(pid: int) -> dict[int, int]:
    """Resident memory in KB of a process and its children, by process id."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    every = {pid, *map(int, children), *(int(child) for file in threads for child in file.read_text().split())}
    used = {}
    for one in sorted(every):
        status = Path(f"/proc/{one}/status")
        if status.exists():
            [size] = re.findall(r"VmRSS:\s+(\d+) kB", status.read_text()) or ["0"]
            used[one] = int(size)
    return used


if __name__ == "__main__":
    rules = Settings.load().rules_folder
    if rules is None:
        raise SystemExit("official CI-SIS rules not found: set RELAIS_CISIS_PACK")
    profile(rules)
    numbers = [int(text) for text in sys.argv[1:]]
    folder_of(rules, *(numbers + [200, os.cpu_count() or 1][len(numbers) :]))
