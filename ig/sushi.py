"""Compiles the FSH sources with SUSHI, offline: the packages it reads are links to those of the CI-SIS folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Resource = dict[str, Any]

HERE = Path(__file__).parent
SUSHI = HERE / "node_modules" / ".bin" / "sushi"
_MESSAGE = re.compile(r"(error|warn|info)\s")
_EXPECTED = re.compile(
    r"Failed to load automatically-provided"  # packages that SUSHI adds by itself and this guide does not use
    r"|The (copyrightYear|releaseLabel) configuration"  # would be parameters of codes that R4 does not have
)
_NO_REGISTRY = "http://127.0.0.1:9"  # refuses at once: what is not in the folder is not fetched


class GuideError(Exception):
    """The guide cannot be built; the message says what to mend."""


def check_tools() -> None:
    """Raises GuideError when Node.js or SUSHI is not here."""
    if shutil.which("node") is None:
        raise GuideError("Node.js 18 or newer is needed to compile the guide: no `node` on the PATH")
    if not SUSHI.exists():
        raise GuideError("SUSHI is not installed: npm ci --prefix ig")


def compile_sources(work: Path, packages: Path, made: Iterable[Resource]) -> list[Resource]:
    """Every resource of the guide: those that SUSHI makes of the FSH sources, and `made`, which FSH may refer to.

    `work` is a folder that is emptied first. The ImplementationGuide is the first. Raises GuideError with what SUSHI
    finds wrong or doubtful.
    """
    shutil.rmtree(work, ignore_errors=True)
    vocabulary = work / "input" / "vocabulary"
    vocabulary.mkdir(parents=True)
    shutil.copy(HERE / "sushi-config.yaml", work)
    shutil.copytree(HERE / "input" / "fsh", work / "input" / "fsh")
    kept = list(made)
    for resource in kept:
        path = vocabulary / f"{resource['resourceType']}-{resource['id']}.json"
        path.write_text(json.dumps(resource, ensure_ascii=False), encoding="utf-8")
    _run(work, _cache(work / "home", packages))
    compiled = [json.loads(path.read_bytes()) for path in sorted((work / "fsh-generated" / "resources").glob("*.json"))]
    compiled.sort(key=lambda resource: resource["resourceType"] != "ImplementationGuide")
    return [*compiled, *kept]


def _cache(home: Path, packages: Path) -> Path:
    """A home folder whose FHIR package cache holds the official packages. An extract stands for its whole package."""
    cache = home / ".fhir" / "packages"
    cache.mkdir(parents=True)
    for folder in sorted(packages.glob("*#*")):
        (cache / folder.name.removesuffix("-extract")).symlink_to(folder.resolve())
    return home


def _run(work: Path, home: Path) -> None:
    environment = os.environ | {"HOME": str(home), "FPL_REGISTRY": _NO_REGISTRY, "NO_UPDATE_NOTIFIER": "1"}
    result = subprocess.run(  # noqa: S603 - a fixed command
        [str(SUSHI), "build", str(work)], env=environment, capture_output=True, text=True, check=False
    )
    said = list(_faults(result.stdout))
    if result.returncode or said:
        raise GuideError("\n".join(["SUSHI refuses the sources:", *(said or [result.stdout, result.stderr])]))


def _faults(output: str) -> Iterator[str]:
    """The errors and warnings of SUSHI that are not expected, each with the lines that say where."""
    meant = False
    for line in output.splitlines():
        if kind := _MESSAGE.match(line):
            meant = kind[1] != "info" and not _EXPECTED.search(line)
        if meant and line.strip():
            yield line
