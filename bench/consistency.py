"""Do parallel conditional creates ever duplicate? Each client sends the same If-None-Exist again and again.

    .venv/bin/python bench/consistency.py [sqlite|postgresql] [clients] [times]

Every answer must name the same resource, exactly one of them says 201, and one resource is left.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import requests
from servers import fresh_database, running

PATIENT = {"resourceType": "Patient", "identifier": [{"system": "urn:oid:1.2.3", "value": "same"}]}
CRITERION = "identifier=urn:oid:1.2.3|same"


def main() -> None:
    """Print the answers by status and how many resources are left; fail when it is not one."""
    engine = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    clients = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    times = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    with fresh_database(engine) as url, running(url) as server:
        started = time.monotonic()
        answers = storm(server.base, clients, times)
        seconds = time.monotonic() - started
        left = requests.get(f"{server.base}/Patient", params={"_total": "accurate"}, timeout=10).json()["total"]
    statuses = Counter(status for status, _ in answers)
    locations = {location for _, location in answers}
    print(f"{engine}: {len(answers)} conditional creates from {clients} clients in {seconds:.1f} s")
    print(f"answers {dict(statuses)}, distinct resources named {len(locations)}, resources left {left}")
    print(json.dumps({"bench": "consistency", "engine": engine, "statuses": dict(statuses), "left": left}))
    if left != 1 or len(locations) != 1 or statuses[201] != 1 or set(statuses) - {200, 201}:
        sys.exit("duplicates or refusals")


def storm(base: str, clients: int, times: int) -> list[tuple[int, str]]:
    """(status, Location) of every answer."""
    barrier = Barrier(clients)

    def client(_number: int) -> list[tuple[int, str]]:
        headers = {"Content-Type": "application/fhir+json", "If-None-Exist": CRITERION, "Prefer": "return=minimal"}
        body = json.dumps(PATIENT)
        with requests.Session() as session:
            barrier.wait(60)
            answers = [session.post(f"{base}/Patient", data=body, headers=headers, timeout=60) for _ in range(times)]
        return [(answer.status_code, answer.headers.get("Location", "")) for answer in answers]

    with ThreadPoolExecutor(clients) as pool:
        return [answer for answers in pool.map(client, range(clients)) for answer in answers]


if __name__ == "__main__":
    main()
