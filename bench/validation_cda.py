"""Validation by the official rules, on one core and through warm processes: documents per second, and where time goes.

python bench/validation_cda.py [documents] [processes]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from relais.cda import consistency
from relais.cda.parsing import parse
from relais.cda.rule_sets import CODE_SYSTEM_FILES, GENERIC_PROFILES
from relais.cda.validation import Validator
from relais.cda.validation_pool import ValidationPool
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
        opened = sorted((pack / "cda" / CODE_SYSTEM_FILES).glob("*.rdf"))
        for one in GENERIC_PROFILES:
            files = opened if one.name == "terminologies" else []
            compiled = validator.compiled(one)
            run = lambda compiled=compiled, source=source, files=files: compiled.validate(source, files)  # noqa: E731
            print(f"  {one.name:24} {measure(run)}")


def throughput(pack: Path, documents: int, processes: int) -> None:
    """Documents per second through a pool, its start apart."""
    data = (pack / "cda" / "examples" / "PPS-PAERPA_2022.01.xml").read_bytes()
    with ValidationPool(pack, processes=processes) as pool, ThreadPoolExecutor(processes) as executor:
        start = time.perf_counter()
        pool.warm_up()
        print(f"{processes} processes ready after {time.perf_counter() - start:.1f} s")
        for _ in executor.map(pool.run, [data] * 10 * processes):
            pass
        start = time.perf_counter()
        for _ in executor.map(pool.run, [data] * documents):
            pass
        rate = documents / (time.perf_counter() - start)
        print(f"{documents} copies of the official PPS: {rate:.1f} documents/s, {rate / processes:.1f} per process")


if __name__ == "__main__":
    folder = Settings.load().rules_folder
    if folder is None:
        raise SystemExit("official CI-SIS rules not found: set RELAIS_CISIS_PACK")
    profile(folder)
    numbers = [int(text) for text in sys.argv[1:]]
    throughput(folder, *(numbers + [200, 2][len(numbers) :]))
