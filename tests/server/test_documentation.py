"""README and docs name what there is: links, headings, files, modules, commands and settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import click
import pytest

from relais.server import cli
from relais.server.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md")])
OF_OTHERS = re.compile(  # settings of PostgreSQL and Dovecot, a table
    r"(archive_mode|auth_\w+|autovacuum_\w+|effective_cache_size|full_page_writes|max_connections|max_wal_size"
    r"|pg_\w+|random_page_cost|received_mail|shared_buffers|synchronous_commit)"
)

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def words(path: Path) -> list[str]:
    """What stands between backticks, outside of blocks of code."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL))


def anchors(path: Path) -> Iterator[str]:
    """The anchors of the headings of a page: those of GitHub, or the one in braces."""
    for heading in re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        if named := re.search(r"\{#(.+)\}$", heading):
            yield named[1]
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@page
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        found = path.parent / name if name else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


BUILT = "ig/build"
"""What `./run guide` writes: not there on a fresh machine."""


@page
def test_files_that_are_named_are_there(path: Path) -> None:
    rooms = "server|cda|mappings|profiles|tests|bench|ig|docs"
    for name in re.findall(rf"(?<![\w./:-])(?:{rooms})/[\w./*-]*\w", " ".join(words(path))):
        assert name.startswith(BUILT) or any(ROOT.glob(f"{name}*")), name


@page
def test_modules_that_are_named_are_there(path: Path) -> None:
    for name in re.findall(r"\brelais(?:\.\w+)+", " ".join(words(path))):
        if name.partition(".")[2] not in ("dump", "example", "sqlite"):
            assert _resolves(name), name


def test_contracts_are_of_modules_and_functions_that_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    assert len(rows) > 40
    for modules, functions in rows:
        first, sources = "", ""
        for name in re.findall(r"`([\w.]+)`", modules):
            first = first if name.startswith(".") else name
            whole = first.rpartition(".")[0] + name if name.startswith(".") else name
            sources += _source(ROOT / whole.replace(".", "/"))
        assert sources, modules
        for code in re.findall(r"`([^`]+)`", functions):
            name = re.findall(r"\w+", re.sub(r"\(.*?\)+|\[.*?\]| -> .*", "", code))[-1]
            assert re.search(rf"(?:def|class) {name}\b|^ *{name}(?::|\b.* = )", sources, re.MULTILINE), (modules, name)


@page
def test_commands_that_are_named_are_there(path: Path) -> None:
    for line in re.findall(r"(?:^|[`(&] ?)relais ([a-z][\w -]*)", path.read_text(encoding="utf-8"), re.MULTILINE):
        command: click.Command = cli.main
        for word in line.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, line
            command = command.commands[word]


def test_settings_that_operations_names_are_there() -> None:
    known = {one.name for one in fields(Settings)}
    named = {word for word in words(ROOT / "docs" / "operations.md") if re.fullmatch(r"[a-z0-9]+(?:_[a-z0-9]+)+", word)}
    assert len(named) > 60
    assert {name for name in named if not OF_OTHERS.fullmatch(name)} <= known


def _source(module: Path) -> str:
    """The text of a module, or of all modules of a package."""
    files = sorted(module.glob("*.py")) or [module.with_suffix(".py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files if path.exists())


def _resolves(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False
