"""FHIR packages: folders and archives, versions and pins, what is missing, broken or hostile."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from relais.profiles import packages as module
from relais.profiles.packages import PackageError, Registry, load, newest, read_package, satisfies

Resource = dict[str, Any]


def value_set(name: str, version: str = "1.0.0") -> Resource:
    return {"resourceType": "ValueSet", "id": name, "url": f"http://example.org/ValueSet/{name}", "version": version}


def write(folder: Path, name: str, *resources: Resource, needs: dict[str, str] | None = None) -> Path:
    """A package folder `id#version`."""
    package_id, _, version = name.partition("#")
    inner = folder / name / "package"
    inner.mkdir(parents=True)
    manifest = {"name": package_id, "version": version, "dependencies": needs or {}}
    (inner / "package.json").write_text(json.dumps(manifest))
    (inner / ".index.json").write_text('{"index-version": 2, "files": []}')
    for resource in resources:
        (inner / f"{resource['resourceType']}-{resource['id']}.json").write_text(json.dumps(resource))
    return folder / name


def archive(path: Path, *members: tuple[str, bytes], links: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        for link in links:
            made.addfile(link)
    return path


MANIFEST = ("package/package.json", b'{"name": "a", "version": "1.0.0"}')


def rules(registry: Registry) -> list[tuple[str, str]]:
    return [(issue.path, issue.rule) for issue in registry.issues]


def test_folder_and_archive_say_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path, "a#1.0.0", value_set("v"))
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as made:
        made.add(folder / "package", "package")
        made.addfile(tarfile.TarInfo("package/example/"))
    for path in (folder, folder / "package", tmp_path / "a.tgz"):
        package = read_package(path)
        assert package.manifest.label == "a#1.0.0"
        assert [(each.canonical, each.resource["id"]) for each in package.definitions] == [
            ("http://example.org/ValueSet/v|1.0.0", "v")
        ]


def test_dependencies_come_along_and_first(tmp_path: Path) -> None:
    write(tmp_path, "a#1.0.0", needs={"b": "2.0.x"})
    write(tmp_path, "b#2.0.1", needs={"c": "latest"})
    write(tmp_path, "c#0.1.0")
    write(tmp_path, "d#1.0.0")
    registry = load(tmp_path, ["a"])
    assert [each.label for each in registry.packages] == ["c#0.1.0", "b#2.0.1", "a#1.0.0"]
    assert registry.issues == []
    assert len(load(tmp_path).packages) == 4


def test_packages_that_need_each_other_load_once(tmp_path: Path) -> None:
    write(tmp_path, "a#1.0.0", needs={"b": "1.0.0"})
    write(tmp_path, "b#1.0.0", needs={"a": "1.0.0"})
    assert {each.label for each in load(tmp_path, ["a"]).packages} == {"a#1.0.0", "b#1.0.0"}


def test_newest_version_unless_pinned_or_named(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0", "1.10.0-ballot"):
        write(tmp_path, f"a#{version}", value_set("v", version))
    write(tmp_path, "b#1.0.0", needs={"a": "1.9.0"})
    assert [each.label for each in load(tmp_path, ["a"]).packages] == ["a#1.10.0"]
    assert [each.label for each in load(tmp_path, ["a#1.9.0"]).packages] == ["a#1.9.0"]
    assert rules(load(tmp_path)) == [("b#1.0.0", "package-version")]
    pinned = load(tmp_path, pins={"a": "1.9.0"})
    assert pinned.issues == []
    found = pinned.find("ValueSet", "http://example.org/ValueSet/v")
    assert found is not None
    assert found.header.version == "1.9.0"


@pytest.mark.parametrize(("named", "pins"), [(["x"], {}), (["a#9"], {}), ([], {"a": "9"}), ([], {"x": "1"})])
def test_named_packages_must_be_there(tmp_path: Path, named: list[str], pins: dict[str, str]) -> None:
    write(tmp_path, "a#1.0.0")
    with pytest.raises(PackageError) as error:
        load(tmp_path, named, pins)
    assert error.value.issue.rule == "package-missing"


def test_missing_dependency_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a#1.0.0", value_set("v"), needs={"gone": "1.0.0"})
    registry = load(tmp_path)
    assert rules(registry) == [("a#1.0.0", "package-missing")]
    assert "gone#1.0.0" in registry.issues[0].message
    assert registry.find("ValueSet", "http://example.org/ValueSet/v")


@pytest.mark.parametrize(
    ("name", "content"),
    [("package.json", "{"), ("package.json", "[]"), ("package.json", '{"name": "b"}'), ("ValueSet-x.json", "{]")],
)
def test_corrupt_folder_is_left_out_and_said(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, "a#1.0.0", value_set("v"))
    broken = write(tmp_path, "b#1.0.0")
    (broken / "package" / name).write_text(content)
    registry = load(tmp_path)
    assert [each.label for each in registry.packages] == ["a#1.0.0"]
    assert [issue.rule for issue in registry.issues] == ["package"]
    assert "b" in registry.issues[0].path


def test_a_file_that_is_no_conformance_resource_is_passed_over(tmp_path: Path) -> None:
    folder = write(tmp_path, "a#1.0.0", {"resourceType": "Bundle", "id": "b"}, value_set("v"))
    assert [each.header.id for each in read_package(folder).definitions] == ["v"]


def test_same_url_twice_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a#1.0.0", value_set("v"))
    write(tmp_path, "b#1.0.0", value_set("v"))
    registry = load(tmp_path)
    assert rules(registry) == [("b#1.0.0", "package-duplicate")]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "package"),
        (b"not an archive", "package"),
        (gzip.compress(b"neither"), "package"),
        (gzip.compress(b"x" * 1000)[:-20], "package"),
    ],
    ids=["empty", "text", "not a tar", "cut short"],
)
def test_unreadable_archive(tmp_path: Path, data: bytes, rule: str) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(data)
    with pytest.raises(PackageError) as error:
        read_package(path)
    assert error.value.issue.rule == rule
    assert load(tmp_path).packages == []


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "package/../../evil.json", "package\\..\\evil.json"]
)
def test_traversal_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.tgz", MANIFEST, (name, b"{}"))
    with pytest.raises(PackageError) as error:
        read_package(path)
    assert error.value.issue.rule == "package-traversal"
    assert [each.name for each in tmp_path.iterdir()] == ["a.tgz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("package/x.json")
    link.type, link.linkname = kind, "/etc/passwd"
    with pytest.raises(PackageError) as error:
        read_package(archive(tmp_path / "a.tgz", MANIFEST, links=(link,)))
    assert error.value.issue.rule == "package-link"


def test_bomb_is_refused_before_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    with gzip.open(path, "wb", compresslevel=9) as bomb:
        info = tarfile.TarInfo("package/bomb.json")
        info.size = 2 * 2**30
        bomb.write(info.tobuf())
        for _ in range(64):
            bomb.write(bytes(2**20))
    start = time.perf_counter()
    with pytest.raises(PackageError) as error:
        read_package(path)
    assert error.value.issue.rule == "package-size"
    assert time.perf_counter() - start < 2


def test_limits_hold_for_the_whole_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a.tgz", MANIFEST, *((f"package/{n}.json", b"{}" + bytes(5000)) for n in range(20)))
    monkeypatch.setattr(module, "MAX_PACKAGE_BYTES", 60_000)
    with pytest.raises(PackageError) as error:
        read_package(path)
    assert error.value.issue.rule == "package-size"
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_FILES", 5)
    with pytest.raises(PackageError) as error:
        read_package(path)
    assert error.value.issue.rule == "package-size"


def test_member_twice_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tgz", MANIFEST, ("package/v.json", b"{}"), ("package/v.json", b"{}"))
    with pytest.raises(PackageError) as error:
        read_package(path)
    assert error.value.issue.rule == "package-duplicate"


@pytest.mark.parametrize(
    ("version", "requirement", "expected"),
    [
        ("4.0.1", "4.0.1", True),
        ("4.0.1", "4.0.x", True),
        ("4.0.1-ballot", "4.0.x", True),
        ("4.1.0", "4.0.x", False),
        ("4.01", "4.0.x", False),
        ("4.0.1", "4.0.0", False),
        ("4.0.1", "latest", True),
        ("4.0.1", "current", True),
    ],
)
def test_version_requirements(version: str, requirement: str, expected: bool) -> None:
    assert satisfies(version, requirement) is expected


def test_order_of_versions() -> None:
    assert newest(["1.0.0", "1.0.0-ballot", "0.9.9"]) == "1.0.0"
    assert newest(["1.2.0", "1.10.0", "1.9.9"]) == "1.10.0"
    assert newest(["20200101", "20260629120000"]) == "20260629120000"


def test_versions_in_canonicals(tmp_path: Path) -> None:
    write(tmp_path, "a#1.0.0", value_set("v", "1.0.0"))
    write(tmp_path, "b#1.0.0", value_set("v", "2.0.0"))
    registry = load(tmp_path)
    url = "http://example.org/ValueSet/v"
    found = {
        name: each and each.header.version
        for name in ("", "|1.0.0", "|2.0.0", "|3.0.0", "#part")
        for each in [registry.find("ValueSet", url + name)]
    }
    assert found == {"": "2.0.0", "|1.0.0": "1.0.0", "|2.0.0": "2.0.0", "|3.0.0": None, "#part": "2.0.0"}
    fallback = registry.find_any_version("ValueSet", f"{url}|3.0.0")
    assert fallback is not None
    assert fallback.header.version == "2.0.0"
    assert registry.find("CodeSystem", url) is None
    assert [each.header.version for each in registry.definitions("ValueSet")] == ["2.0.0"]


def test_official_packages_load_quickly(packages: Path) -> None:
    start = time.perf_counter()
    registry = load(packages)
    assert time.perf_counter() - start < 3
    assert len(registry.packages) == 14
    assert {issue.rule for issue in registry.issues} == {"package-missing", "package-version"}
    assert sum(1 for _ in registry.definitions("StructureDefinition")) == 514


def test_packages_of_several_folders(tmp_path: Path) -> None:
    write(tmp_path / "one", "a#1.0.0", needs={"b": "1.0.0"})
    write(tmp_path / "two", "b#1.0.0", value_set("v"))
    registry = load([tmp_path / "one", tmp_path / "two", tmp_path / "absent"])
    assert [package.label for package in registry.packages] == ["b#1.0.0", "a#1.0.0"]
    assert rules(registry) == []


def test_a_named_package_that_cannot_be_read_is_told_with_the_fault(tmp_path: Path) -> None:
    archive(tmp_path / "a.tgz", ("package/package.json", b"{"))
    with pytest.raises(PackageError, match=r"not among the packages that can be read .*package\.json"):
        load(tmp_path, ["a"])
