"""Alarms of what takes too long, and the one thread that looks after them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from relais.server.delivery import alarms
from relais.server.delivery.alarms import Alarm


def test_an_action_comes_when_the_time_is_over_and_again_until_the_block_is_left() -> None:
    calls: list[float] = []
    thrice = threading.Event()

    def act() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            thrice.set()

    began = time.monotonic()
    with Alarm(0.2, act):
        assert thrice.wait(30)
    number = len(calls)
    assert calls[0] - began >= 0.2
    time.sleep(3 * alarms.TICK)
    assert len(calls) == number


def test_what_ends_in_time_is_left_alone() -> None:
    calls: list[int] = []
    for number in range(100):
        with Alarm(60, lambda number=number: calls.append(number)):
            pass
    rung = threading.Event()
    with Alarm(0, rung.set):
        assert rung.wait(30)
    assert calls == []


def test_an_action_that_fails_or_leaves_its_block_does_not_hold_the_others_up() -> None:
    rung, left = threading.Event(), threading.Event()

    def leave() -> None:
        own.__exit__(None, None, None)
        left.set()

    own = Alarm(0, leave)
    own.__enter__()
    with Alarm(0, lambda: 1 / 0), Alarm(0.3, rung.set):
        assert left.wait(30)
        assert rung.wait(30)


def test_a_thread_that_sleeps_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "_LINGERING", 2)
    watch = alarms._Watch()
    with watch._changed:
        watch.add(Alarm(60, lambda: None))
        watch._alarms.clear()
    deadline = time.monotonic() + 60
    while not watch._sleeps and time.monotonic() < deadline:
        time.sleep(alarms.TICK)
    assert watch._sleeps
    rung = threading.Event()
    watch.add(Alarm(0, rung.set))
    assert rung.wait(30)


def test_a_forked_process_has_a_thread_of_its_own() -> None:
    ended = subprocess.run([sys.executable, "-c", _FORKING], timeout=60, check=False)
    assert ended.returncode == 0


_FORKING = """
import os, threading
from relais.server.delivery.alarms import Alarm

with Alarm(60, lambda: None):
    child = os.fork()
    rung = threading.Event()
    with Alarm(0, rung.set):
        rung.wait(30)
    if child == 0:
        os._exit(0 if rung.is_set() else 1)
raise SystemExit(os.waitpid(child, 0)[1])
"""
