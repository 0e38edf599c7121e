"""What validation says, in short, for tests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from relais.cda.validation import Validator
from relais.server.settings import Settings
from relais.server.validation.files import Job
from relais.server.validation.judge import Judge
from relais.server.validation.report import Report

AFTER_ALL = datetime(2100, 1, 1, tzinfo=UTC)
"""Later than every time in a document of the tests, whatever the clock of the machine."""


@pytest.fixture(scope="session")
def judge(validator: Validator) -> Judge:
    """A judge whose official rules are those of the session, already warm; no FHIR package."""
    made = Judge(Settings(fhir_packages="none"), clock=lambda: AFTER_ALL)
    made._validators = [validator]
    return made


def rules(report: Report, place: str | None = None) -> list[str]:
    """The rules of the errors of a report, or of one of its parts; what was not run counts."""
    return [
        finding.rule
        for part in report.parts
        if place in (None, part.place)
        for check in part.checks
        for finding in (*check.findings, *check.not_run)
        if finding.is_error
    ]


def outcomes(report: Report) -> dict[str, str]:
    """The outcome of each check, by part and name."""
    return {f"{part.place}|{check.name}": check.outcome for part in report.parts for check in part.checks}


def troubled() -> Callable[[Job], Report]:
    """What a process of a pool runs that is killed by one job, hangs on another, and answers the others."""

    def answer(job: Job) -> Report:
        if job.data == b"{kill":
            os.abort()
        if job.data == b"{hang":
            time.sleep(600)
        return Report(job.name, ())

    return answer


def echo() -> Callable[[bytes], bytes]:
    """What a process of a pool runs that answers with the job."""
    return bytes
