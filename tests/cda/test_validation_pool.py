"""Validation in separate processes: they are replaced when killed, and never outlive their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from relais.cda.errors import UnreadableError
from relais.cda.rule_sets import RulesError
from relais.cda.validation import Validator
from relais.cda.validation_pool import ProcessPool, ValidationPool, ValidationUnavailableError
from support.judged import echo
from support.rules import UNSTRUCTURED, example

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def pool(cisis: Path) -> Iterator[ValidationPool]:
    with ValidationPool(cisis) as pool:
        yield pool


@pytest.fixture
def echoes(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessPool[bytes, bytes]]:
    """Processes that have nothing to compile."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # processes import what they run
    with ProcessPool(echo) as pool:
        yield pool


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_pool_gives_the_verdict_of_a_validator(pool: ValidationPool, validator: Validator, cisis: Path) -> None:
    data = example(cisis, UNSTRUCTURED)
    assert pool.pids == []
    assert pool.run(data) == validator.validate(data)
    with pytest.raises(UnreadableError, match="not well-formed"):
        pool.run(b"<ClinicalDocument>")
    assert len(pool.pids) == 1


def test_killed_processes_are_replaced_and_hung_ones_ended(echoes: ProcessPool[bytes, bytes]) -> None:
    assert echoes.run(b"one") == b"one"
    [first] = echoes.pids

    os.kill(first, signal.SIGKILL)
    assert echoes.run(b"two") == b"two"
    [second] = echoes.pids
    assert second != first

    os.kill(second, signal.SIGSTOP)
    with pytest.raises(ValidationUnavailableError, match="too long"):
        echoes.run(b"three", timeout=0.2)
    assert ended(second)
    assert echoes.pids == []


def test_closed_pool_has_no_process_and_refuses(pool: ValidationPool) -> None:
    pool.close()
    pool.close()
    with pytest.raises(ValidationUnavailableError, match="closed"):
        pool.run(b"<x/>")
    assert pool.pids == []


def test_process_that_starts_while_the_pool_is_closed_is_ended(
    echoes: ProcessPool[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, closing = threading.Event(), threading.Event()
    [worker] = echoes._workers
    open_process, kill = subprocess.Popen, worker.kill

    def opening(*arguments: Any, **options: Any) -> Any:
        process = open_process(*arguments, **options)
        started.set()
        assert closing.wait(60)
        return process

    def killing() -> None:
        kill()
        closing.set()

    monkeypatch.setattr(subprocess, "Popen", opening)
    monkeypatch.setattr(worker, "kill", killing)
    with ThreadPoolExecutor() as executor:
        running = executor.submit(echoes.run, b"one", 600.0)
        assert started.wait(60)
        echoes.close()
        with pytest.raises(ValidationUnavailableError, match="closed"):
            running.result(60)


def test_absent_rules_are_told(tmp_path: Path) -> None:
    with ValidationPool(tmp_path) as pool:
        for _ in range(2):
            with pytest.raises(RulesError, match="not found"):
                pool.run(b"<x/>")
        with pytest.raises(RulesError, match="not found"):
            pool.warm_up()


def test_busy_pool_lets_nobody_wait_longer_than_asked(pool: ValidationPool) -> None:
    worker = pool._idle.get()
    with pytest.raises(ValidationUnavailableError, match="busy"):
        pool.run(b"<x/>", timeout=0.05)
    pool._idle.put(worker)


OWNER = """
    import os, time
    from relais.cda.validation_pool import ProcessPool
    from support.judged import echo

    pool = ProcessPool(echo)
    pool._workers[0].launch()
    if os.fork() == 0:  # a forked process must not keep the validation process of its parent alive
        os.write(1, f"{pool.pids}\\n".encode())  # whole lines: both processes write to one pipe
        time.sleep(60)
        os._exit(0)
    os.write(1, f"{pool.pids}\\n".encode())
    time.sleep(60)
"""


def test_processes_end_with_an_owner_that_is_killed_even_if_it_forked() -> None:
    command = [sys.executable, "-c", textwrap.dedent(OWNER)]
    environ = os.environ | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environ) as owner:
        assert owner.stdout is not None
        lines = sorted([owner.stdout.readline(), owner.stdout.readline()])
        [pid] = [int(line.strip("[]\n")) for line in lines if line != "[]\n"]
        assert "[]\n" in lines  # the forked process knows none
        owner.kill()
        owner.wait()
        deadline = time.monotonic() + 60
        while not ended(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        try:
            assert ended(pid)
        finally:
            os.killpg(owner.pid, signal.SIGKILL)
