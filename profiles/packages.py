"""FHIR packages (https://confluence.hl7.org/display/FHIR/NPM+Package+Specification): folders `<id>#<version>/package/`
and `package.tgz` files, chosen by version, indexed by canonical URL. Archives are never unpacked to disk.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from relais.profiles.issues import Issue, Severity

Resource = dict[str, Any]

MAX_FILES = 20_000
MAX_FILE_BYTES = 64 * 2**20
MAX_PACKAGE_BYTES = 256 * 2**20

DEFINITION_FAULTS = (AttributeError, LookupError, TypeError, ValueError)
"""What reading a definition raises when it is no valid FHIR: packages come from outside."""

MISSING = "package-missing"
"""The rule of an issue that says that a package is not there."""

_NOT_DEFINITIONS = frozenset({"package.json", ".index.json"})
_TOO_LARGE = "the package is larger than Relais accepts"
_FLOATING = frozenset({"latest", "current", "dev"})
_NO_PINS: Mapping[str, str] = MappingProxyType({})
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class PackageError(ValueError):
    """A package that cannot be used. `issue` names the package, the file and the fault."""

    def __init__(self, issue: Issue) -> None:
        self.issue = issue
        super().__init__(str(issue))

    @classmethod
    def of(cls, place: str, message: str, rule: str = "package") -> PackageError:
        """An error at a package or at a file of one."""
        return cls(Issue("error", "structure", message, place, rule))


class Manifest(msgspec.Struct, frozen=True):
    """What Relais reads of `package.json`."""

    name: str
    version: str
    dependencies: dict[str, str] = {}

    @property
    def label(self) -> str:
        """`id#version`."""
        return f"{self.name}#{self.version}"


class Header(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of a conformance resource that find it; `type`, `kind` and `derivation` are those of structures."""

    resource_type: str = ""
    url: str = ""
    version: str = ""
    id: str = ""
    type: Any = None
    kind: Any = None
    derivation: Any = None


_read_header = msgspec.json.Decoder(Header).decode
_read_manifest = msgspec.json.Decoder(Manifest).decode


class Content(Protocol):
    """Gives the bytes of one file of a package."""

    def __call__(self) -> bytes: ...


class Definition:
    """A conformance resource of a package: its header at once, its content when first needed."""

    def __init__(self, header: Header, package: str, content: Content) -> None:
        self.header = header
        self.package = package
        self._content = content

    @classmethod
    def of(cls, data: bytes, package: str) -> Definition:
        """The definition that JSON bytes hold. Raises PackageError."""
        return cls(_header(package, _held(data)), package, _held(data))

    @property
    def canonical(self) -> str:
        """The canonical URL with the version, when there is one."""
        return f"{self.header.url}|{self.header.version}" if self.header.version else self.header.url

    @cached_property
    def resource(self) -> Resource:
        """The resource as parsed, numbers as `int` and `Decimal`. Not to be changed."""
        found: Resource = _decode(self._content())
        return found


class Package:
    """A package that was read; `definitions` are its conformance resources that have a canonical URL."""

    def __init__(self, manifest: Manifest, definitions: Iterable[Definition]) -> None:
        self.manifest = manifest
        self.definitions = tuple(definitions)


# Reading --------------------------------------------------------------------------------------------------------------


def read_package(path: Path) -> Package:
    """Read a package folder (the one that holds `package.json`, or its parent) or a `.tgz` file.

    Raises PackageError.
    """
    files = dict(_folder_files(path) if path.is_dir() else _archive_files(path))
    if "package.json" not in files:
        raise PackageError.of(path.name, "holds no package/package.json")
    try:
        manifest = _read_manifest(files["package.json"]())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PackageError.of(f"{path.name}: package.json", f"is no package manifest: {error}") from error
    definitions = (
        Definition(header, manifest.label, content)
        for name, content in files.items()
        if name not in _NOT_DEFINITIONS and (header := _header(f"{manifest.label}: {name}", content)).url
    )
    return Package(manifest, definitions)


def _header(place: str, content: Content) -> Header:
    try:
        return _read_header(content())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PackageError.of(place, f"is no FHIR JSON: {error}") from error


def _folder_files(path: Path) -> Iterator[tuple[str, Content]]:
    folder = path / "package" if (path / "package").is_dir() else path
    for file in sorted(folder.glob("*.json")):
        yield file.name, file.read_bytes


def _archive_files(path: Path) -> Iterator[tuple[str, Content]]:
    """The JSON files directly in `package/`. Raises PackageError for an archive that is broken, hostile or too big."""
    seen: set[str] = set()
    try:
        with _Bounded(path) as data, tarfile.open(fileobj=data, mode="r|") as archive:
            for count, member in enumerate(archive):
                place = f"{path.name}: {member.name}"
                if count >= MAX_FILES or member.size > MAX_FILE_BYTES:
                    raise PackageError.of(place, _TOO_LARGE, "package-size")
                _refuse_hostile(member, place)
                name = PurePosixPath(member.name)
                if not member.isfile() or name.suffix != ".json" or name.parts[:-1] not in (("package",), ()):
                    continue
                if name.name in seen:
                    raise PackageError.of(place, "stands twice in the archive", "package-duplicate")
                seen.add(name.name)
                stream = archive.extractfile(member)
                yield name.name, _held(stream.read() if stream else b"")
    except PackageError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise PackageError.of(path.name, f"is no readable package archive: {error}") from error


class _Bounded(gzip.GzipFile):
    """A stream that gives no more bytes than a package may have, whatever the headers of the archive ask for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._left = MAX_PACKAGE_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes. Raises PackageError when there are more than may come."""
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise PackageError.of(Path(self.name).name, _TOO_LARGE, "package-size")
        return data


def _refuse_hostile(member: tarfile.TarInfo, place: str) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        raise PackageError.of(place, "leads out of the package", "package-traversal")
    if not (member.isfile() or member.isdir()):
        raise PackageError.of(place, "is neither a file nor a folder", "package-link")


def _held(data: bytes) -> Content:
    return lambda: data


# Choosing -------------------------------------------------------------------------------------------------------------


def load(folders: Path | Iterable[Path], packages: Iterable[str] = (), pins: Mapping[str, str] = _NO_PINS) -> Registry:
    """The packages in one folder or several (as folders and `.tgz` files) and a registry of their definitions.

    `packages` names those to start from (`id` or `id#version`; none: all); what they depend on comes with them. One
    version of each package is loaded: the one in `pins` (version by package id), else the one named in `packages`, else
    the newest. What is broken, missing or replaced by another version is said in `Registry.issues`. Raises
    PackageError when a pinned or named package is not there.
    """
    issues: list[Issue] = []
    available = _available([folders] if isinstance(folders, Path) else folders, issues)
    chosen = _choose(available, tuple(packages), pins, issues)
    return Registry(chosen, issues)


def _available(folders: Iterable[Path], issues: list[Issue]) -> dict[str, dict[str, Package]]:
    found: dict[str, dict[str, Package]] = {}
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())):
        is_folder = path.is_dir() and ((path / "package.json").exists() or (path / "package" / "package.json").exists())
        if not is_folder and not (path.is_file() and path.suffix == ".tgz"):
            continue
        try:
            package = read_package(path)
        except PackageError as error:
            issues.append(error.issue)
            continue
        found.setdefault(package.manifest.name, {})[package.manifest.version] = package
    return found


def _choose(
    available: Mapping[str, Mapping[str, Package]], named: tuple[str, ...], pins: Mapping[str, str], issues: list[Issue]
) -> list[Package]:
    """The packages to load, each after those it depends on."""
    wanted = dict(pins)
    roots = [name.partition("#")[0] for name in named] or [*available]
    wanted.update((name.partition("#")[0], name.partition("#")[2]) for name in named if "#" in name)
    for name in {*roots, *wanted}:
        if (version := wanted.get(name)) and version not in available.get(name, {}):
            raise _missing(f"{name}#{version}", issues)
        if name not in available:
            raise _missing(name, issues)
    chosen: dict[str, Package | None] = {}  # None while what it depends on is being chosen

    def choose(name: str) -> None:
        if name in chosen:
            return
        chosen[name] = None
        package = available[name][wanted.get(name) or newest(available[name])]
        for needed, requirement in package.manifest.dependencies.items():
            if needed in available:
                choose(needed)
            _report_dependency(package.manifest, needed, requirement, available, wanted, issues)
        del chosen[name]
        chosen[name] = package

    for name in roots:
        choose(name)
    return [package for package in chosen.values() if package is not None]


def _missing(name: str, unreadable: Iterable[Issue]) -> PackageError:
    """A package that was asked for by name and is not there; it may be among those that cannot be read."""
    faults = "; ".join(str(issue) for issue in unreadable)
    message = f"is not among the packages that can be read ({faults})" if faults else "is not in the package folder"
    return PackageError.of(name, message, MISSING)


def _report_dependency(
    manifest: Manifest,
    needed: str,
    requirement: str,
    available: Mapping[str, Mapping[str, Package]],
    wanted: Mapping[str, str],
    issues: list[Issue],
) -> None:
    if needed not in available:
        message = f"needs {needed}#{requirement}, which is not here: what only that package defines is not checked"
        issues.append(_dependency_issue("warning", manifest, message, MISSING))
        return
    version = wanted.get(needed) or newest(available[needed])
    if not satisfies(version, requirement):
        message = f"needs {needed}#{requirement}, {version} is loaded in its place"
        issues.append(_dependency_issue("information", manifest, message, "package-version"))


def _dependency_issue(severity: Severity, manifest: Manifest, message: str, rule: str) -> Issue:
    return Issue(severity, "not-found", message, manifest.label, rule)


def satisfies(version: str, requirement: str) -> bool:
    """Whether a version is what a dependency asks for: the same, one of `4.0.x`, or any for `latest` and `current`."""
    if requirement in _FLOATING or version == requirement:
        return True
    stem, star, _ = requirement.partition(".x")
    return bool(star) and (version == stem or version.startswith((f"{stem}.", f"{stem}-")))


def newest(versions: Iterable[str]) -> str:
    """The highest version; a release stands above its previews (`1.1.0` above `1.1.0-ballot`)."""
    return max(versions, key=_precedence)


def _precedence(version: str) -> tuple[list[int], bool, str]:
    numbers, _, label = version.partition("-")
    return [int(number) for number in re.findall(r"\d+", numbers)], not label, label


# Looking up -----------------------------------------------------------------------------------------------------------


class Registry:
    """The conformance resources of the loaded packages by canonical URL.

    `packages` holds the manifests in loading order, `issues` what was wrong with packages or dependencies.
    """

    def __init__(self, packages: Iterable[Package], issues: Iterable[Issue] = ()) -> None:
        self.packages: list[Manifest] = []
        self.issues = list(issues)
        self._found: dict[tuple[str, str], dict[str, Definition]] = {}
        self._by_address: dict[tuple[str, str], Definition] = {}
        for package in packages:
            self.packages.append(package.manifest)
            for definition in package.definitions:
                self.add(definition)

    def add(self, definition: Definition) -> None:
        """Make a definition known; one with the same URL and version that is there already stays and is reported."""
        header = definition.header
        versions = self._found.setdefault((header.resource_type, header.url), {})
        kept = versions.setdefault(header.version, definition)
        if kept is not definition:
            message = f"{definition.canonical} is also defined by {kept.package}, which is used"
            self.issues.append(Issue("warning", "duplicate", message, definition.package, "package-duplicate"))

    def add_resource(self, resource: Resource, package: str = "") -> None:
        """Make a conformance resource known that is in no package (one under test, one that a client posted)."""
        self.add(Definition.of(msgspec.json.encode(resource), package or str(resource.get("url", ""))))

    def add_address(self, address: str, definition: Definition) -> None:
        """Have a definition found by another URL too; it is not listed twice."""
        self._by_address[definition.header.resource_type, address] = definition

    def copy(self) -> Registry:
        """Another registry of the same definitions, to add to."""
        other = Registry((), self.issues)
        other.packages = [*self.packages]
        other._found = {key: dict(versions) for key, versions in self._found.items()}
        other._by_address = dict(self._by_address)
        return other

    def find(self, resource_type: str, canonical: str) -> Definition | None:
        """The definition of a canonical URL (a `#fragment` is ignored): the version it names, else the newest."""
        url, _, version = canonical.partition("#")[0].partition("|")
        versions = self._found.get((resource_type, url))
        if not versions:
            return self._by_address.get((resource_type, url))
        return versions.get(version) if version else versions[newest(versions)]

    def find_any_version(self, resource_type: str, canonical: str) -> Definition | None:
        """As `find`; where the version that is named is not here, the newest. For references between packages."""
        return self.find(resource_type, canonical) or self.find(resource_type, canonical.partition("|")[0])

    def definitions(self, resource_type: str) -> Iterator[Definition]:
        """Every definition of a type of conformance resource, newest versions only, in loading order."""
        for (found_type, _), versions in self._found.items():
            if found_type == resource_type:
                yield versions[newest(versions)]
