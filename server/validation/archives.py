"""The checks of an IHE_XDM archive: its tree, its metadata, its documents, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from lxml import etree

from relais.cda import xdm, xdm_folder
from relais.cda.errors import ArchiveError, Issue, UnreadableError, limited
from relais.cda.parsing import parse
from relais.cda.schematron import line_of
from relais.cda.xds import examine as examine_metadata
from relais.cda.xds_places import MetadataPlaces
from relais.mappings.document_metadata import check_archive, check_codes
from relais.profiles.messages import Language
from relais.server.validation.contents import recognise
from relais.server.validation.excerpts import start_tag
from relais.server.validation.findings import Locate, not_run, of_issues, stated_place
from relais.server.validation.report import Check, Finding, Part

PartsOf = Callable[[bytes, str], Iterator[Part]]
"""The parts of something inside, under its place."""

_XDM = "IHE XDM"
_XDS = "IHE XDS metadata, CI-SIS"
_AGREEMENT = frozenset({"xdm.hash", "xdm.size", "xdm.document-missing", "xdm.document-orphan"})
_LABELS = frozenset({"Name", "Description"})
_UNREAD_METADATA = "the metadata cannot be read: what they say of the documents is not known"
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
    except xdm.RefusedMetadataError as error:
        yield from _of_refused_metadata(error, whole, parts_of, language)
    except ArchiveError as error:
        yield replace(whole, checks=(_archive_check(error.issues, language),))
    else:
        yield from _of_archive(archive, whole, parts_of, language)


def _of_archive(archive: xdm.Archive, whole: Part, parts_of: PartsOf, language: Language) -> Iterator[Part]:
    metadata, place = archive.metadata, whole.place
    said = _sorted((*archive.issues, *check_archive(archive)), metadata.path)
    locate = _locator(metadata, [document.path for document in archive.documents])
    yield replace(whole, checks=(_archive_check(said["archive"], language),))
    yield _metadata_part(metadata, place, of_issues(said["metadata"], language, locate))
    for document in archive.documents:
        inside = _join(place, document.path)
        if document.entry.mime_type in xdm.CDA_MIME_TYPES or recognise(document.data) != "unknown":
            yield from parts_of(document.data, inside)
        else:
            check = Check("content", _XDM, not_run=(not_run("xdm.not-cda", _NOT_CDA, language),))
            yield Part.of(inside, "unknown", document.data, [check])
    agreement = Check("agreement", _XDS, findings=of_issues(said["agreement"], language, locate))
    yield _agreement_part(metadata, place, agreement)


def _of_refused_metadata(
    error: xdm.RefusedMetadataError, whole: Part, parts_of: PartsOf, language: Language
) -> Iterator[Part]:
    """The documents are those beside the metadata that tell by their bytes what they are."""
    metadata, place = error.metadata, whole.place
    said = _sorted(error.issues, metadata.path)
    yield replace(whole, checks=(_archive_check(said["archive"], language),))
    yield _metadata_part(metadata, place, of_issues(said["metadata"], language, _locator(metadata)))
    for file in error.beside:
        if recognise(file.data) == "cda":
            yield from parts_of(file.data, _join(place, file.path))
    unread = not_run("xdm.metadata-invalid", _UNREAD_METADATA, language)
    yield _agreement_part(metadata, place, Check("agreement", _XDS, not_run=(unread,)))


def _metadata_part(metadata: xdm.PackedFile, place: str, findings: tuple[Finding, ...]) -> Part:
    check = Check("metadata", _XDS, findings=findings)
    return Part.of(_join(place, metadata.path), "metadata", metadata.data, [check])


def _agreement_part(metadata: xdm.PackedFile, place: str, check: Check) -> Part:
    return Part.of(_join(place, "METADATA.XML ⇄ documents"), "agreement", metadata.data, [check])


def _archive_check(issues: Iterable[Issue], language: Language) -> Check:
    return Check("archive", _XDM, findings=of_issues(issues, language))


def metadata_checks(data: bytes, language: Language) -> Iterator[Check]:
    """The checks of metadata that came without their archive."""
    try:
        root = parse(data).getroot()
    except UnreadableError as error:
        yield Check("XML", "XML 1.0", findings=of_issues(error.issues, language, stated_place(data)))
        return
    examined = examine_metadata(root)
    issues = [*examined.issues]
    if examined.submission is not None:
        issues += check_codes(examined.submission, dmp=False)
    yield Check("metadata", _XDS, findings=of_issues(limited(issues), language, _locator(xdm.PackedFile(data, ""))))


def _sorted(issues: Iterable[Issue], metadata_path: str) -> dict[str, list[Issue]]:
    """The issues by the check that they belong to."""
    said: dict[str, list[Issue]] = {"archive": [], "metadata": [], "agreement": []}
    for issue in limited(issues):
        said[_about(issue, metadata_path)].append(issue)
    return said


def _about(issue: Issue, metadata_path: str) -> str:
    """Which check an issue belongs to."""
    if issue.rule in _AGREEMENT or issue.rule.startswith("xdm.mismatch."):
        return "agreement"
    if issue.path.startswith((metadata_path, "DocumentEntry", "SubmissionSet", "Association")):
        return "metadata"
    return "archive"


def _join(place: str, path: str) -> str:
    return f"{place}!{path}" if place else path


def _locator(metadata: xdm.PackedFile, documents: Sequence[str] = ()) -> Locate:
    """Lines of METADATA.XML; `documents` are the paths of those that its entries describe, in their order."""
    try:
        places = MetadataPlaces(parse(metadata.data).getroot())
    except UnreadableError:
        return stated_place(metadata.data)
    entries = {path: f"DocumentEntry[{number}]" for number, path in enumerate(documents, 1)}
    known = {"", metadata.path, *entries}

    def locate(path: str) -> tuple[int, str]:
        file, _, place = path.rpartition("#") if path != metadata.path else ("", "", "")
        if file not in known:
            return 0, ""  # the name of a stray file, which may hold anything
        if file in entries:
            place = place.replace("DocumentEntry", entries[file], 1)
        element = places.element(place)
        return (0, "") if element is None else (line_of(element), _words(element))

    return locate


def _words(element: etree._Element) -> str:
    """The start tag of a part of the metadata, with the values of a slot or the label of a name."""
    kind = etree.QName(element).localname
    if kind == "Slot":
        return start_tag(element, " ".join(map(str, element.itertext())))
    return start_tag(element, element[0].get("value", "") if kind in _LABELS and len(element) else "")
