"""The checks of an IHE_XDM archive: its tree, its metadata, its documents, and whether they agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from relais.cda import xdm, xdm_folder
from relais.cda.errors import ArchiveError, Issue, UnreadableError
from relais.cda.parsing import parse
from relais.cda.schematron import line_of
from relais.cda.xds import examine as examine_metadata
from relais.mappings.document_metadata import check_archive, check_codes
from relais.profiles.messages import Language
from relais.server.validation.contents import recognise
from relais.server.validation.excerpts import start_tag
from relais.server.validation.findings import Locate, not_run, nowhere, of_issues
from relais.server.validation.report import Check, Part

PartsOf = Callable[[bytes, str], Iterator[Part]]
"""The parts of something inside, under its place."""

_XDM = "IHE XDM"
_XDS = "IHE XDS metadata, CI-SIS"
_AGREEMENT = frozenset({"xdm.hash", "xdm.size", "xdm.document-missing", "xdm.document-orphan"})
_OBJECT = re.compile(r"(DocumentEntry|Association)\[(\d+)\]|SubmissionSet")
_RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
_TAGS = {
    "DocumentEntry": f"{{{_RIM}}}ExtrinsicObject",
    "Association": f"{{{_RIM}}}Association",
    "SubmissionSet": f"{{{_RIM}}}RegistryPackage",
}
_NOT_CDA = "described as another type than CDA: its content is not checked"


def archive_parts(data: bytes, place: str, parts_of: PartsOf, language: Language) -> Iterator[Part]:
    """The archive itself, its metadata, each document, and their agreement; an unsafe archive alone."""
    return _parts(lambda: xdm.examine(data), Part.of(place, "xdm", data, ()), parts_of, language)


def folder_parts(files: Mapping[str, bytes], parts_of: PartsOf, language: Language) -> Iterator[Part]:
    """The same, of the files of an archive that was unpacked; the SHA-256 is that of `xdm_folder.digest`."""
    whole = Part("", "xdm", xdm_folder.digest(files), sum(map(len, files.values())), ())
    return _parts(lambda: xdm.examine_files(files), whole, parts_of, language)


def refused_folder(error: ArchiveError, language: Language) -> Part:
    """A folder that could not be read as an archive."""
    return Part("", "xdm", "", 0, (_archive_check(error.issues, language),))


def _parts(examine: Callable[[], xdm.Archive], whole: Part, parts_of: PartsOf, language: Language) -> Iterator[Part]:
    try:
        archive = examine()
    except ArchiveError as error:
        yield replace(whole, checks=(_archive_check(error.issues, language),))
        return
    said: dict[str, list[Issue]] = {"archive": [], "metadata": [], "agreement": []}
    for issue in (*archive.issues, *check_archive(archive)):
        said[_about(issue, archive.metadata.path)].append(issue)
    yield replace(whole, checks=(_archive_check(said["archive"], language),))
    yield from _inside(archive, said, whole.place, parts_of, language)


def _inside(
    archive: xdm.Archive, said: Mapping[str, list[Issue]], place: str, parts_of: PartsOf, language: Language
) -> Iterator[Part]:
    metadata = archive.metadata
    locate = _locator(metadata.data)
    metadata_check = Check("metadata", _XDS, findings=of_issues(said["metadata"], language, locate))
    yield Part.of(_join(place, metadata.path), "metadata", metadata.data, [metadata_check])
    for document in archive.documents:
        inside = _join(place, document.path)
        if document.entry.mime_type in xdm.CDA_MIME_TYPES or recognise(document.data) != "unknown":
            yield from parts_of(document.data, inside)
        else:
            check = Check("content", _XDM, not_run=(not_run("xdm.not-cda", _NOT_CDA, language),))
            yield Part.of(inside, "unknown", document.data, [check])
    agreement = Check("agreement", _XDS, findings=of_issues(said["agreement"], language, locate))
    yield Part.of(_join(place, "METADATA.XML ⇄ documents"), "agreement", metadata.data, [agreement])


def _archive_check(issues: Iterable[Issue], language: Language) -> Check:
    return Check("archive", _XDM, findings=of_issues(issues, language))


def metadata_checks(data: bytes, language: Language) -> Iterator[Check]:
    """The checks of metadata that came without their archive."""
    try:
        root = parse(data).getroot()
    except UnreadableError as error:
        yield Check("XML", "XML 1.0", findings=of_issues(error.issues, language))
        return
    examined = examine_metadata(root)
    issues = [*examined.issues]
    if examined.submission is not None:
        issues += check_codes(examined.submission, dmp=False)
    yield Check("metadata", _XDS, findings=of_issues(issues, language, _locator(data)))


def _about(issue: Issue, metadata_path: str) -> str:
    """Which check an issue belongs to."""
    if issue.rule in _AGREEMENT or issue.rule.startswith("xdm.mismatch."):
        return "agreement"
    if issue.path.startswith((metadata_path, "DocumentEntry", "SubmissionSet", "Association")):
        return "metadata"
    return "archive"


def _join(place: str, path: str) -> str:
    return f"{place}!{path}" if place else path


def _locator(data: bytes) -> Locate:
    """Lines of the objects that places in metadata name."""
    try:
        root = parse(data).getroot()
    except UnreadableError:
        return nowhere

    def locate(path: str) -> tuple[int, str]:
        named = _OBJECT.search(path)
        if named is None:
            return 0, ""
        objects = list(root.iter(_TAGS[named[1] or "SubmissionSet"]))
        number = int(named[2] or 1)
        if number > len(objects):
            return 0, ""
        return line_of(objects[number - 1]), start_tag(objects[number - 1])

    return locate
