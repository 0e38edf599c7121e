"""`relais validate`: files and folders through warm processes, a report in the form asked for, an exit code."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from relais.cda.errors import Issue, RelaisError
from relais.cda.rule_sets import RuleSet
from relais.profiles.messages import Language
from relais.server.reports.formats import FORMS
from relais.server.reports.words import Words, writable
from relais.server.settings import Settings
from relais.server.validation.files import Input, find, judge_files, judge_pool, needs_rules
from relais.server.validation.report import Report, Verdict, worst

EXIT_CODES: dict[Verdict, int] = {"conformant": 0, "not-conformant": 1, "doubtful": 3, "not-judged": 4}
"""`REFUSED` is none of them: a verdict is about the files."""

REFUSED = 2
"""Exit code of a command that cannot be run as it was asked for: as click's own for wrong usage."""

INTERRUPTED = 130
"""Exit code of a command that was interrupted: as a shell gives it."""

Command = TypeVar("Command", bound=Callable[..., Any])

_LONGEST = 86_400.0  # seconds for one file
_EVERY = 10.0  # seconds between two lines of progress where no terminal shows a bar


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for. `output` is a file, or a folder that gets one report for each file."""

    rule_sets: tuple[str, ...]
    profiles: tuple[str, ...]
    form: str
    output: Path | None
    language: Language
    processes: int | None
    timeout: float


def run(paths: Sequence[Path], asked: Asked) -> int:
    """`validate` by the settings of the environment; what it refuses is told on standard error."""
    try:
        return validate(paths, Settings.load(), asked)
    except RelaisError as error:
        for issue in error.issues:
            _say(str(issue))
    except KeyboardInterrupt:
        _say(Words(asked.language)("interrupted: not every file was judged"))
        return INTERRUPTED
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return REFUSED


def validate(paths: Sequence[Path], settings: Settings, asked: Asked) -> int:
    """Judge what is found at the paths and write the reports; the exit code. Raises RelaisError."""
    words = Words(asked.language)
    files, left_out = find(paths)
    for file in left_out:
        _say(f"{file}: {words('left out: nothing that can be validated')}")
    if not files:
        raise RelaisError(Issue("error", "not-found", "nothing to validate"))
    _refuse_unknown(settings, asked.rule_sets)
    warm = settings.rules_folder is not None and needs_rules(files)
    if warm:
        _say(words("compiling the official rules: a few seconds, once"))
    logging.getLogger("relais.cda.validation_pool").setLevel(logging.WARNING)  # said above, once
    processes = min(asked.processes or os.cpu_count() or 1, len(files))
    with judge_pool(settings, asked.rule_sets, processes, asked.profiles, warm=warm) as pool:
        reports = judge_files(files, pool, processes, asked.language, asked.timeout)
        with _progress(reports, len(files), words, on_terminal=asked.output is None) as shown:
            verdict = _write(shown, files, asked)
    return EXIT_CODES[verdict]


def _refuse_unknown(settings: Settings, named: Iterable[str]) -> None:
    """Refuse a rule set that is not there before any process starts."""
    if settings.rules_folder:
        for name in tuple(named) or settings.rule_set_names:
            RuleSet.load(settings.rules_folder, name)


def _write(reports: Iterable[Report], files: Sequence[Input], asked: Asked) -> Verdict:
    form = FORMS[asked.form]
    verdicts: list[Verdict] = []
    if asked.output is not None and (asked.output.is_dir() or (len(files) > 1 and not asked.output.suffix)):
        asked.output.mkdir(parents=True, exist_ok=True)
        names = _names(files, form.extension)
        for report, name in zip(reports, names, strict=True):
            (asked.output / name).write_bytes(form.write([report], asked.language))
            verdicts.append(report.verdict)
    elif asked.output is None and asked.form == "text":
        for report in reports:
            click.echo(form.write([report], asked.language).decode(), nl=False)
            verdicts.append(report.verdict)
    else:
        every = list(reports)
        content = form.write(every, asked.language)
        if asked.output is None:
            sys.stdout.buffer.write(content)
        else:
            asked.output.write_bytes(content)
        verdicts += [report.verdict for report in every]
    return worst(verdicts)


def _names(files: Sequence[Input], extension: str) -> list[str]:
    """A name for the report of each file, never twice the same: below the folder that they share."""
    places = [Path(str(file)).absolute() for file in files]
    shared = Path(os.path.commonpath([place.parent for place in places]))
    names: list[str] = []
    for place in places:
        stem = "_".join(place.relative_to(shared).parts)
        number = sum(name == f"{stem}.{extension}" or name.startswith(f"{stem}~") for name in names)
        names.append(f"{stem}~{number}.{extension}" if number else f"{stem}.{extension}")
    return names


@contextmanager
def _progress(reports: Iterator[Report], total: int, words: Words, *, on_terminal: bool) -> Iterator[Iterable[Report]]:
    """The reports, with a bar on a terminal that does not show them, or a line now and then."""
    if total > 1 and sys.stderr.isatty() and not (on_terminal and sys.stdout.isatty()):
        with click.progressbar(reports, length=total, label=words("validation"), file=sys.stderr) as bar:
            yield bar
    else:
        yield _told(reports, total, words)


def _told(reports: Iterator[Report], total: int, words: Words) -> Iterator[Report]:
    said = time.monotonic()
    for number, report in enumerate(reports, 1):
        yield report
        if time.monotonic() - said > _EVERY and number < total:
            said = time.monotonic()
            _say(f"{number}/{total} {words('files')}")


def _say(line: str) -> None:
    click.echo(writable(line), err=True)


def _seconds(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if not 0 < value <= _LONGEST:
        raise click.BadParameter(f"more than 0 and at most {_LONGEST:.0f} seconds")
    return value


def options(command: Command) -> Command:
    """The options of `relais validate`."""
    for option in reversed(
        (
            click.option("--rule-set", "rule_sets", multiple=True, help="Rule set, by name; repeats: all must be met."),
            click.option(
                "--profile", "profiles", multiple=True, help="Profile that FHIR resources must meet; repeats."
            ),
            click.option("--format", "form", type=click.Choice(list(FORMS)), default="text", show_default=True),
            click.option("--json", "as_json", is_flag=True, help="As --format json."),
            click.option(
                "-o", "--output", type=click.Path(path_type=Path), help="File, or folder: one report for each file."
            ),
            click.option("--language", type=click.Choice(["fr", "en"]), default="fr", show_default=True),
            click.option("--processes", type=click.IntRange(1), help="As many as cores otherwise."),
            click.option(
                "--timeout",
                type=float,
                default=60.0,
                show_default=True,
                callback=_seconds,
                help="Seconds for one file.",
            ),
        )
    ):
        command = option(command)
    return command
