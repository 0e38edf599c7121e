"""The reliability trial at its full size: deliveries to a sandbox that fails, by workers that are killed.

    python bench/delivery_faults.py [sqlite|postgresql] [deliveries] [deaths of each of two workers] [seed]

Ends with an error when an accepted order does not end, when a receiver holds two documents for one order, or when a
document is not the patient's it was ordered for. docs/operations.md tells the outcome.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from servers import fresh_database

from support.reliability import failing, mortal_workers, trial


def main(engine: str, deliveries: int, deaths: int, seed: int) -> None:
    """One trial; what came of it on standard output."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relais-faults-")))
        url = stack.enter_context(fresh_database(engine))
        run = stack.enter_context(trial(folder, url))
        start = time.monotonic()
        run.order(deliveries, seed)
        print(f"{engine}: {len(run.ordered)} orders accepted in {time.monotonic() - start:.0f} s")
        start = time.monotonic()
        with failing(run.sandbox, 0.15, seed), mortal_workers(run, 2, deaths, seed):
            run.wait(patience=3600)
        print(f"ended after {time.monotonic() - start:.0f} s: {dict(run.verdict())}")
        for log in sorted(folder.glob("mortal-*.log")):
            print("died while", log.read_text().strip().splitlines()[-1])


if __name__ == "__main__":
    given = [*sys.argv[1:], *("sqlite", "1000", "150", "1")[len(sys.argv) - 1 :]]
    main(given[0], int(given[1]), int(given[2]), int(given[3]))
