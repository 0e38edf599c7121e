"""IHE_XDM archives that were unpacked: the folder that holds README.TXT, INDEX.HTM and IHE_XDM (IHE XDM, ITI-32).

Read under the limits of an archive, so that a folder is judged as its ZIP would be.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from relais.cda.errors import ArchiveError, Issue
from relais.cda.xdm import GUIDES, METADATA_PATH, Limits

_TOP = "ihe_xdm"


def archive_folder(folder: Path) -> Path | None:
    """The folder that holds the files of an archive: this one, or the one above if this is its IHE_XDM or SUBSETnn."""
    here = folder.resolve()
    for candidate in (here, *here.parents[:2]):
        if any(here in (candidate, subset, subset.parent) for subset in _subsets(candidate)):
            return candidate
    return None


def holds_archive(folder: Path) -> bool:
    """Whether a folder holds an archive: IHE_XDM/SUBSETnn/METADATA.XML."""
    return next(_subsets(folder), None) is not None


def is_member(path: Path, folder: Path) -> bool:
    """Whether something in a folder that holds an archive belongs to the archive."""
    first, *others = path.relative_to(folder).parts
    return first.casefold() == _TOP or (not others and first.upper() in GUIDES)


def read_folder(folder: Path, limits: Limits | None = None) -> dict[str, bytes]:
    """The files of the archive in a folder, by their names in the archive.

    Raises ArchiveError for a link or a device, and for more than an archive may hold; OSError.
    """
    limits = limits or Limits()
    files: dict[str, bytes] = {}
    left = limits.expanded
    for path in _members(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            _refuse("neither a file nor a folder (symbolic link, device)", ascii(name)[1:-1], code="security")
        if len(files) == limits.entries:
            _refuse(f"more than {limits.entries} entries")
        left -= path.stat().st_size
        if left < 0:
            _refuse(f"expands to more than {limits.expanded} bytes")
        files[name] = path.read_bytes()
    return files


def digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 of what `sha256sum` prints of the files, in the order of their names."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _subsets(folder: Path) -> Iterator[Path]:
    """The folders SUBSETnn of an archive in a folder."""
    for top in _folders(folder):
        if top.name.casefold() == _TOP:
            for subset in _folders(top):
                names = (path.relative_to(folder).as_posix() for path in _content(subset))
                if any(METADATA_PATH.fullmatch(name) for name in names):
                    yield subset


def _members(folder: Path) -> Iterator[Path]:
    """Whatever belongs to the archive and is no folder, by name."""
    for path in _content(folder):
        if not is_member(path, folder):
            continue
        if path.is_symlink() or not path.is_dir():
            yield path
        for parent, folders, names in os.walk(path):
            folders.sort()
            links = [name for name in folders if (Path(parent) / name).is_symlink()]
            yield from (Path(parent) / name for name in sorted((*names, *links)))


def _folders(folder: Path) -> list[Path]:
    return [path for path in _content(folder) if path.is_dir() and not path.is_symlink()]


def _content(folder: Path) -> list[Path]:
    """What is in a folder, by name; nothing when it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _refuse(message: str, path: str = "", *, code: str = "too-costly") -> NoReturn:
    raise ArchiveError(Issue("fatal", code, message, path, "xdm.archive"))
