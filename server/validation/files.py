"""Many files through warm processes: each is judged in one of them, and reported in the order asked for.

A file that cannot be read, a process that dies or takes too long give a report that says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from relais.cda import xdm_folder
from relais.cda.errors import ArchiveError, Issue, RelaisError
from relais.cda.validation_pool import ProcessPool
from relais.profiles.messages import Language
from relais.server.settings import Settings
from relais.server.validation.archives import refused_folder
from relais.server.validation.contents import HEAD, STYLE_SHEET, is_foreign, recognise
from relais.server.validation.findings import of_issues
from relais.server.validation.judge import LARGEST, Judge
from relais.server.validation.report import Check, Part, Report

_NEED_RULES = frozenset({"cda", "xdm", "hl7v2"})


class Job(NamedTuple):
    """What a process is given: the bytes of a file, or the files of an IHE_XDM archive that was unpacked."""

    data: bytes | Mapping[str, bytes]
    name: str
    language: Language


JudgePool = ProcessPool[Job, Report]

STANDARD_INPUT = Path("-")
"""Stands on a command line for what comes through standard input."""


@dataclass(frozen=True, slots=True)
class Piped:
    """What came through standard input, one byte more than LARGEST at most."""

    data: bytes

    def __str__(self) -> str:
        """Its name in reports."""
        return "stdin"


Input = Path | Piped
"""What is judged under one name: a file, a folder that is an IHE_XDM archive, standard input."""


class Found(NamedTuple):
    """What to judge, and the files that are left out because they are of a form that is none of ours."""

    files: list[Input]
    left_out: list[Path]


def find(paths: Sequence[Path]) -> Found:
    """The files of some paths: those named, and those in named folders, by name, links to folders not followed.

    STANDARD_INPUT is read, to its end. Raises RelaisError when it is closed.
    """
    found = Found([], [])
    for path in paths:
        if path == STANDARD_INPUT:
            found.files.append(_piped())
        elif not path.is_dir():
            found.files.append(path)
        elif xdm_folder.archive_folder(path) in (None, path.resolve()):
            _walk(path, found)
        else:
            found.files.append(path)  # within an archive, which is judged whole
    return found


def _walk(path: Path, found: Found) -> None:
    for parent, folders, names in os.walk(path):
        folders.sort()
        folder = Path(parent)
        files = [folder / name for name in sorted(names)]
        if xdm_folder.holds_archive(folder):
            found.files.append(folder)
            folders[:] = [name for name in folders if not xdm_folder.is_member(folder / name, folder)]
            files = [file for file in files if not xdm_folder.is_member(file, folder)]
        for file in files:
            (found.left_out if is_foreign(_head(file), file.name) else found.files).append(file)


def _piped() -> Piped:
    if sys.stdin is None:  # as Python has it when the descriptor is closed
        raise RelaisError(Issue("error", "not-found", "standard input is closed", "", "relais-file"))
    return Piped(sys.stdin.buffer.read(LARGEST + 1))


def judge_pool(
    settings: Settings,
    rule_sets: Sequence[str] = (),
    processes: int = 1,
    profiles: Sequence[str] = (),
    *,
    warm: bool = True,
) -> JudgePool:
    """Processes that each hold a Judge; `warm` ones compile the official rules before their first job."""
    return ProcessPool(partial(_start, settings, tuple(rule_sets), tuple(profiles), warm), processes)


def needs_rules(files: Sequence[Input]) -> bool:
    """Whether some of the files will be checked by the official rules."""
    return any(_is_folder(file) or recognise(_head(file)) in _NEED_RULES for file in files)


def judge_files(
    files: Sequence[Input], pool: JudgePool, processes: int, language: Language, timeout: float
) -> Iterator[Report]:
    """The reports, in the order of the files. Whoever stops before the end closes the pool."""
    with ThreadPoolExecutor(processes) as executor:
        try:
            yield from executor.map(lambda file: _judge_file(file, pool, language, timeout), files)
        except BaseException:
            pool.close()  # or the executor would wait for what is under way
            raise


def could_not_be_run(name: str, data: bytes | Mapping[str, bytes], error: RelaisError, language: Language) -> Report:
    """The report on a file that no process could judge."""
    checks = (_not_run(error, language),)
    if isinstance(data, bytes):
        return Report(name, (Part.of("", recognise(data), data, checks),))
    return Report(name, (Part("", "xdm", xdm_folder.digest(data), sum(map(len, data.values())), checks),))


def _judge_file(file: Input, pool: JudgePool, language: Language, timeout: float) -> Report:
    try:
        data = _read(file)
    except ArchiveError as error:
        return Report(str(file), (refused_folder(error, language),))
    except RelaisError as error:
        return Report(str(file), (Part("", "unknown", "", 0, (_not_run(error, language),)),))
    try:
        return pool.run(Job(data, str(file), language), timeout)
    except RelaisError as error:
        return could_not_be_run(str(file), data, error, language)


def _is_folder(file: Input) -> bool:
    return isinstance(file, Path) and file.is_dir()


def _read(file: Input) -> bytes | Mapping[str, bytes]:
    """The bytes of a file, or the files of an archive. Raises RelaisError for what cannot be read, or is too large."""
    if isinstance(file, Piped):
        if len(file.data) > LARGEST:
            raise _too_large()
        return file.data
    try:
        if folder := file.is_dir() and xdm_folder.archive_folder(file):
            return xdm_folder.read_folder(folder)
        if not file.is_file():
            raise RelaisError(Issue("fatal", "not-found", "not a file", "", "relais-file"))
        if file.stat().st_size > LARGEST:
            raise _too_large()
        return file.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise RelaisError(Issue("fatal", "exception", reason, "", "relais-file")) from error


def _too_large() -> RelaisError:
    return RelaisError(Issue("fatal", "too-costly", f"larger than {LARGEST} bytes", "", "relais-file"))


def _not_run(error: RelaisError, language: Language) -> Check:
    return Check("validation", "relais", not_run=of_issues(error.issues, language))


def _start(
    settings: Settings, rule_sets: tuple[str, ...], profiles: tuple[str, ...], warm: bool
) -> Callable[[Job], Report]:
    judge = Judge(settings, rule_sets, profiles)
    if warm:
        judge.warm_up()

    def answer(job: Job) -> Report:
        if isinstance(job.data, bytes):
            return judge.judge(job.data, job.name, job.language)
        return judge.judge_folder(job.data, job.name, job.language)

    return answer


def _head(file: Input) -> bytes:
    if isinstance(file, Piped):
        return file.data
    if not file.is_file():  # opening a pipe would wait for who writes to it
        return b""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD)
            return head + opened.read(LARGEST) if STYLE_SHEET in head else head
    except OSError:
        return b""
