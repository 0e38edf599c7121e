"""IHE_XDM.ZIP: documents and their XDS metadata in one archive, for secure mail (IHE XDM, ITI-32).

Layout and content after the CI-SIS volet Échange de documents de santé: README.TXT and INDEX.HTM for a human, then
IHE_XDM/SUBSET01 with METADATA.XML and the documents. The archive of given documents is always the same bytes.
An archive received is hostile until checked: nothing is expanded before its directory has been found sane.
"""

from __future__ import annotations

import hashlib
import html
import io
import posixpath
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import NoReturn
from urllib.parse import unquote

from lxml import etree

from relais.cda import style_sheets
from relais.cda.errors import ArchiveError, Issue, Severity, UnreadableError
from relais.cda.parsing import V3, parse
from relais.cda.xds import DocumentEntry, Submission, SubmissionSet, submit_objects_request
from relais.cda.xds import examine as examine_metadata

ARCHIVE_NAME = "IHE_XDM.ZIP"
GUIDES = ("README.TXT", "INDEX.HTM")
METADATA_PATH = re.compile(r"IHE_XDM/SUBSET[0-9]{2}/METADATA\.XML", re.IGNORECASE)
CDA_MIME_TYPES = ("text/xml", "application/xslt+xml")  # the second when the document carries its style sheet

_SUBSET = "IHE_XDM/SUBSET01"
_METADATA = "METADATA.XML"
_DEEPER = re.compile(r"(?P<tree>[^/]+/(?:.+?/)?IHE_XDM)/", re.IGNORECASE)
_TOO_DEEP = (
    "IHE_XDM must stand at the root of the archive (IHE ITI TF-2 §3.32.4.1.2), and stands in another folder: pack what"
    " that folder holds, not the folder itself"
)
_OUT_OF_PLACE = (
    "METADATA.XML must stand in IHE_XDM/SUBSETnn, nn being two digits (IHE ITI TF-2 §3.32.4.1.2, CI-SIS Échange de"
    " documents de santé)"
)
_STYLE_SUFFIXES = (".xsl", ".xslt", ".css")
_ISO_9660_NAME = re.compile(r"[A-Z0-9_]{1,8}(\.[A-Z0-9_]{1,3})?")
_TYPE_ID = ("2.16.840.1.113883.1.3", "POCD_HD000040")


# --- writing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sender:
    """Who README.TXT and INDEX.HTM say has sent the archive; what is None is said to be not given."""

    name: str
    organization: str
    address: str | None = None
    phone: str | None = None
    application: str = "Relais"
    version: str | None = None
    vendor: str = "Relais"


def pack(documents: Sequence[tuple[bytes, DocumentEntry]], submission_set: SubmissionSet, *, sender: Sender) -> bytes:
    """The bytes of IHE_XDM.ZIP with these CDA documents, described by their entries.

    Documents are named DOC00001.XML and so on, in the order given, whatever the `uri` of their entry. Raises
    ArchiveError when an entry does not describe its bytes, MetadataError when the metadata are not fit to be sent.
    """
    named = [(data, replace(entry, uri=f"DOC{number:05}.XML")) for number, (data, entry) in enumerate(documents, 1)]
    issues = [issue for data, entry in named for issue in _check_described(data, entry)]
    if issues:
        raise ArchiveError(issues)
    request = submit_objects_request(Submission(submission_set, tuple(entry for _, entry in named)))
    files = {
        "README.TXT": _readme(sender, [str(entry.uri) for _, entry in named]),
        "INDEX.HTM": _index(sender, [entry for _, entry in named]),
        f"{_SUBSET}/{_METADATA}": etree.tostring(request, xml_declaration=True, encoding="UTF-8"),
    }
    return _zip(files | {f"{_SUBSET}/{entry.uri}": data for data, entry in named})


def _check_described(data: bytes, entry: DocumentEntry) -> list[Issue]:
    path = f"{_SUBSET}/{entry.uri}"
    if entry.mime_type not in CDA_MIME_TYPES:
        return [_issue("xdm.not-cda", "only CDA documents are packed", path)]
    return _check_bytes(data, entry, path) + _check_cda(data, path)


def _zip(files: Mapping[str, bytes]) -> bytes:
    """A deflated archive whose bytes depend on `files` only: fixed time, order and attributes."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, whatever the machine: the next line is read in its terms
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    return output.getvalue()


def _readme(sender: Sender, names: Sequence[str]) -> bytes:
    blocks = {
        "Émetteur": {
            "Nom": sender.name,
            "Organisme": sender.organization,
            "Adresse": sender.address,
            "Téléphone": sender.phone,
        },
        "Application de l'émetteur": {
            "Nom": sender.application,
            "Version": sender.version,
            "Éditeur": sender.vendor,
        },
    }
    lines: list[str] = []
    for heading, fields in blocks.items():
        lines += [heading, "=" * len(heading)]
        lines += [f"    {label} : {_line(value)}" for label, value in fields.items()]
        lines.append("")
    lines += ["Instructions", "============"]
    lines += ["    Ouvrez les documents reçus avec votre logiciel de professionnel de santé.", ""]
    lines += ["Arborescence", "============", *(f"    {name}" for name in GUIDES), "    IHE_XDM", "        SUBSET01"]
    lines += [f"            {name}" for name in (_METADATA, *names)]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _line(text: str | None) -> str:
    text = text or "non communiqué"
    printable = text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())


_INDEX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="fr" lang="fr">
<head><title>Documents de santé</title></head>
<body>
<h1>Documents de santé</h1>
<p>Émetteur : {organization}, téléphone : {phone}</p>
<ul>
{links}
</ul>
<p>Mode d'emploi : <a href="README.TXT">README.TXT</a></p>
</body>
</html>
"""


def _index(sender: Sender, entries: Sequence[DocumentEntry]) -> bytes:
    links = (f'<li><a href="{_SUBSET}/{entry.uri}">{html.escape(_line(entry.title))}</a></li>' for entry in entries)
    page = _INDEX.format(
        organization=html.escape(_line(sender.organization)),
        phone=html.escape(_line(sender.phone)),
        links="\n".join(links),
    )
    return page.replace("\n", "\r\n").encode()


# --- reading --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may cost; sizes are bytes.

    `ratio` is expanded over compressed size; up to `small` expanded bytes it does not count, as honest text that
    repeats itself may compress a thousandfold.
    """

    archive: int = 50_000_000
    entries: int = 500
    expanded: int = 100_000_000
    ratio: int = 200
    small: int = 1_000_000


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """A document of an archive: its fiche, its exact bytes and its path in the archive."""

    entry: DocumentEntry
    data: bytes
    path: str


@dataclass(frozen=True, slots=True)
class PackedFile:
    """The bytes of a file and its path in the archive."""

    data: bytes
    path: str


@dataclass(frozen=True, slots=True)
class Archive:
    """What an archive holds; `issues` are warnings only when it comes from `unpack`. `metadata` is METADATA.XML."""

    documents: tuple[PackedDocument, ...]
    submission: Submission
    issues: tuple[Issue, ...]
    metadata: PackedFile


class RefusedMetadataError(ArchiveError):
    """METADATA.XML, which is `metadata`, cannot be read: no XML that is taken, or no submission. `beside` are the files
    that stand in its folder, which nothing describes.
    """

    def __init__(self, issues: Iterable[Issue], metadata: PackedFile, beside: Iterable[PackedFile]) -> None:
        super().__init__(issues)
        self.metadata = metadata
        self.beside = tuple(beside)


def unpack(data: bytes, *, limits: Limits | None = None) -> Archive:
    """The content of an IHE_XDM archive that passes every receiver check; raises ArchiveError listing what does not.

    Agreement of the metadata with the header of the documents is `relais.mappings.document_metadata.check_archive`.
    """
    archive = examine(data, limits=limits)
    errors = [issue for issue in archive.issues if issue.severity in ("error", "fatal")]
    if errors:
        raise ArchiveError(errors)
    return archive


def examine(data: bytes, *, limits: Limits | None = None) -> Archive:
    """The content of an IHE_XDM archive with every issue found, for the one who must say what is wrong with it.

    Raises ArchiveError when the archive is unsafe or holds no metadata, RefusedMetadataError when they cannot be read.
    Never deliver to a patient record what `unpack` refuses.
    """
    return examine_files(_read_files(data, limits or Limits()))


def examine_files(files: Mapping[str, bytes]) -> Archive:
    """As `examine`, of the files of an archive by their names in it.

    Raises ArchiveError when there are no metadata, RefusedMetadataError when they cannot be read.
    """
    metadata_path, issues = _find_metadata(files)
    metadata = PackedFile(files[metadata_path], metadata_path)
    submission = _read_metadata(files, metadata, issues)
    documents, described = _match(files, metadata_path, submission, issues)
    _check_orphans(files, metadata_path, described, issues)
    for document in documents:
        issues += _check_bytes(document.data, document.entry, document.path)
        if document.entry.mime_type in CDA_MIME_TYPES:
            issues += _check_cda(document.data, document.path, files)
        else:
            message = "described as another type than CDA: its content is not checked"
            issues.append(_issue("xdm.not-cda", message, document.path, "warning"))
    return Archive(tuple(documents), submission, tuple(issues), metadata)


def _issue(rule: str, message: str, path: str = "", severity: Severity = "error", code: str = "invalid") -> Issue:
    return Issue(severity, code, message, path, rule)


def _refuse(message: str, path: str = "", *, code: str = "invalid", rule: str = "xdm.archive") -> NoReturn:
    raise ArchiveError(_issue(rule, message, path, "fatal", code))


# the container

_END_OF_DIRECTORY = struct.Struct("<4s4H2LH")
_LOCAL_HEADER = struct.Struct("<26x2H")  # of which the lengths of name and extra field
_DESCRIPTOR_FLAG = 0x0008
_DESCRIPTOR, _DESCRIPTOR_SIGNATURE = 12, b"PK\x07\x08"
_DIRECTORY_ENTRY_SIZE = 46
_LONGEST_NAME = 260
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_SIZE = 20
_ENCRYPTED_FLAGS = 0x0041


def _read_files(data: bytes, limits: Limits) -> dict[str, bytes]:
    """Every file by its name in the archive, expanded only once the directory has been found sane."""
    if len(data) > limits.archive:
        _refuse(f"larger than {limits.archive} bytes", code="too-costly")
    end = _check_directory_size(data, limits)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check_directory(infos, len(data), limits)
            _check_layout(data, infos, end)
            return {info.filename: _expanded(archive, info) for info in infos if not info.is_dir()}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, struct.error):
        _refuse("not a readable ZIP archive (truncated or damaged)", code="structure")


def _expanded(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        _refuse("damaged: it does not expand to what the archive says of it", _shown(info), code="structure")


def _check_directory_size(data: bytes, limits: Limits) -> int:
    """Refuse a directory of countless entries before anything reads it: `zipfile` would build an object for each.

    Returns where the end record of the directory begins.
    """
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - 65_535 - _END_OF_DIRECTORY.size))
    if end < 0 or len(data) - end < _END_OF_DIRECTORY.size:
        _refuse("not a ZIP archive, or a truncated one", code="structure")
    if data[max(0, end - _ZIP64_LOCATOR_SIZE) :][:4] == _ZIP64_LOCATOR:
        _refuse("ZIP64 is refused: no IHE_XDM archive needs it")
    directory_size = _END_OF_DIRECTORY.unpack_from(data, end)[5]
    if directory_size > limits.entries * (_DIRECTORY_ENTRY_SIZE + _LONGEST_NAME):
        _refuse(f"more than {limits.entries} entries", code="too-costly")
    return end


def _check_layout(data: bytes, infos: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse bytes that belong to no entry: what this reader skips, another may show (PKWARE APPNOTE §4.3.6)."""
    *_, size, start, comment = _END_OF_DIRECTORY.unpack_from(data, end)
    place = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset != place:
            message = "entries do not follow one another from the first byte on: bytes before this one belong to none"
            _refuse(message, _shown(info), code="security")
        place = _end_of_entry(data, info)
    if (place, start + size, end + _END_OF_DIRECTORY.size + comment) != (start, end, len(data)):
        _refuse("bytes before, inside or after the archive that belong to no entry", code="security")


def _end_of_entry(data: bytes, info: zipfile.ZipInfo) -> int:
    """Where the bytes of an entry end: header, name, extra field, content, and data descriptor if it has one."""
    name, extra = _LOCAL_HEADER.unpack_from(data, info.header_offset)
    place: int = info.header_offset + _LOCAL_HEADER.size + name + extra + info.compress_size
    if info.flag_bits & _DESCRIPTOR_FLAG:
        place += _DESCRIPTOR + len(_DESCRIPTOR_SIGNATURE) * data.startswith(_DESCRIPTOR_SIGNATURE, place)
    return place


def _check_directory(infos: Sequence[zipfile.ZipInfo], archive_size: int, limits: Limits) -> None:
    if len(infos) > limits.entries:
        _refuse(f"more than {limits.entries} entries", code="too-costly")
    expanded = sum(info.file_size for info in infos)
    largest = _shown(max(infos, key=lambda info: info.file_size)) if infos else ""
    if expanded > limits.expanded:
        _refuse(f"expands to more than {limits.expanded} bytes", largest, code="too-costly")
    if expanded > max(limits.small, limits.ratio * archive_size):
        _refuse(f"expands to more than {limits.ratio} times its size", largest, code="too-costly")
    for info in infos:
        _check_file(info, limits)
    named: set[str] = set()
    for info in infos:
        if (name := info.filename.rstrip("/").casefold()) in named:
            _refuse("two entries have the same name, letter case apart", _shown(info), code="duplicate")
        named.add(name)


def _check_file(info: zipfile.ZipInfo, limits: Limits) -> None:
    shown = _shown(info)
    parts = info.filename.removesuffix("/").split("/")
    if info.orig_filename != info.filename or any(part in ("", ".", "..") for part in parts):
        _refuse("a name that leaves its folder, is absolute or is not plain", shown, code="security")
    if any(char in r"\:" or not char.isprintable() for char in info.filename):
        _refuse("a name with a backslash, a colon or a control character", shown, code="security")
    if len(info.filename) > _LONGEST_NAME:
        _refuse(f"a name of more than {_LONGEST_NAME} characters", shown[:_LONGEST_NAME], code="too-long")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        _refuse("neither a file nor a folder (symbolic link, device)", shown, code="security")
    if info.flag_bits & _ENCRYPTED_FLAGS:
        _refuse("encrypted", shown, code="not-supported")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        _refuse("neither stored nor deflated", shown, code="not-supported")
    if info.file_size > max(limits.small, limits.ratio * info.compress_size):
        _refuse(f"expands to more than {limits.ratio} times its compressed size", shown, code="too-costly")


def _shown(info: zipfile.ZipInfo) -> str:
    return ascii(info.orig_filename)[1:-1]


# metadata and documents


def _find_metadata(files: Mapping[str, bytes]) -> tuple[str, list[Issue]]:
    """The path of the one METADATA.XML, and what is unusual about the names."""
    paths = [name for name in files if METADATA_PATH.fullmatch(name)]
    if not paths:
        message, place = _misplaced(files)
        _refuse(message, place, code="not-found", rule="xdm.metadata-missing")
    if len(paths) > 1:
        _refuse(f"{len(paths)} submission sets: one is taken at a time, none of them was read", code="not-supported")
    issues = [_issue("xdm.archive", "missing", guide, "warning", "not-found") for guide in GUIDES if guide not in files]
    issues += [
        _issue("xdm.archive", "the name is not 8.3 in upper case (ISO 9660 level 1)", name, "warning")
        for name in files
        if not all(_ISO_9660_NAME.fullmatch(part) for part in name.split("/"))
    ]
    return paths[0], issues


def _misplaced(files: Iterable[str]) -> tuple[str, str]:
    """Why there are no metadata where they belong, and what stands elsewhere (IHE ITI TF-2 §3.32.4.1.2)."""
    for name in sorted(files):
        if inside := _DEEPER.match(name):
            return _TOO_DEEP, ascii(inside["tree"])[1:-1]
    for name in sorted(files):
        if name.rpartition("/")[2].upper() == _METADATA:
            return _OUT_OF_PLACE, ascii(name)[1:-1]
    return "no IHE_XDM/SUBSETnn/METADATA.XML in the archive", "IHE_XDM"


def _read_metadata(files: Mapping[str, bytes], metadata: PackedFile, issues: list[Issue]) -> Submission:
    """The submission in METADATA.XML; adds what is wrong with it."""
    path = metadata.path
    try:
        examined = examine_metadata(parse(metadata.data).getroot())
    except UnreadableError as error:
        issues += (
            replace(issue, path=f"{path} {issue.path}".rstrip(), rule="xdm.metadata-invalid") for issue in error.issues
        )
        raise RefusedMetadataError(issues, metadata, _beside(files, path)) from None
    issues += (replace(issue, path=f"{path}#{issue.path}".rstrip("#")) for issue in examined.issues)
    if examined.submission is None:
        raise RefusedMetadataError(issues, metadata, _beside(files, path))
    return examined.submission


def _beside(files: Mapping[str, bytes], metadata_path: str) -> Iterator[PackedFile]:
    """The files in the folder of METADATA.XML."""
    folder = metadata_path.rpartition("/")[0]
    for path, data in files.items():
        if path != metadata_path and path.rpartition("/")[0] == folder:
            yield PackedFile(data, path)


def _match(
    files: Mapping[str, bytes], metadata_path: str, submission: Submission, issues: list[Issue]
) -> tuple[list[PackedDocument], set[str]]:
    """The documents that entries name, and the paths of the files described."""
    folder = metadata_path.rpartition("/")[0]
    by_folded_name = {name.casefold(): name for name in files}
    documents: list[PackedDocument] = []
    described: set[str] = set()
    for number, entry in enumerate(submission.entries, 1):
        place = f"{metadata_path}#DocumentEntry[{number}]"
        for attribute, value in (("URI", entry.uri), ("hash", entry.hash), ("size", entry.size)):
            if not value:
                issues.append(
                    _issue("xdm.metadata-attribute", "is missing", f"{place}.{attribute}", code="required"),
                )
        if not entry.source_patient_info:
            missing = f"{place}.sourcePatientInfo"
            issues.append(_issue("xdm.metadata-attribute", "is missing", missing, "warning", "required"))
        if not entry.uri:
            continue
        path = f"{folder}/{entry.uri}"
        found = by_folded_name.get(path.casefold())
        if found != path:
            message = "names no file" if found is None else "differs in letter case from the name of the file"
            issues.append(_issue("xdm.document-missing", message, f"{place}.URI", code="not-found"))
        if found in described or found == metadata_path:
            issues.append(
                _issue("xdm.document-missing", "names a file already taken", f"{place}.URI", code="duplicate")
            )
        elif found is not None:
            described.add(found)
            documents.append(PackedDocument(entry, files[found], found))
    return documents, described


def _check_orphans(files: Mapping[str, bytes], metadata_path: str, described: set[str], issues: list[Issue]) -> None:
    """Say which files no entry describes; a style sheet needs no entry, and is never run."""
    for path in sorted(files.keys() - described - {metadata_path, *GUIDES}):
        if PurePosixPath(path).suffix.lower() not in _STYLE_SUFFIXES:
            severity: Severity = "error" if path.casefold().startswith("ihe_xdm/") else "warning"
            issues.append(_issue("xdm.document-orphan", "no document entry describes this file", path, severity))


def _check_bytes(data: bytes, entry: DocumentEntry, path: str) -> list[Issue]:
    """Compare size and SHA-1 with the entry, where it states them."""
    issues = []
    if entry.size and entry.size != len(data):
        issues.append(_issue("xdm.size", "the size is not that of the metadata", f"{path}#DocumentEntry.size"))
    if entry.hash and entry.hash.lower() != hashlib.sha1(data, usedforsecurity=False).hexdigest():
        issues.append(_issue("xdm.hash", "the SHA-1 is not that of the metadata", f"{path}#DocumentEntry.hash"))
    return issues


def _check_cda(data: bytes, path: str, files: Mapping[str, bytes] | None = None) -> list[Issue]:
    """Whether the bytes are a CDA R2 document, by root and typeId; its rules are checked elsewhere.

    With the `files` of its archive also whether the style sheet that it names is among them.
    """
    try:
        tree = parse(data)
    except UnreadableError as error:
        return [
            replace(issue, severity="error", path=f"{path} {issue.path}".rstrip(), rule="xdm.not-cda")
            for issue in error.issues
        ]
    root = style_sheets.document_of(tree).getroot()
    type_id = root.find(f"{{{V3}}}typeId")
    if root.tag != f"{{{V3}}}ClinicalDocument" or type_id is None:
        return [_issue("xdm.not-cda", "not a ClinicalDocument with a typeId", path)]
    if (type_id.get("root"), type_id.get("extension")) != _TYPE_ID:
        return [_issue("xdm.not-cda", "typeId is not that of CDA R2", path)]
    return [] if files is None else _check_style_sheet(tree, path, files)


def _check_style_sheet(tree: etree._ElementTree, path: str, files: Mapping[str, bytes]) -> list[Issue]:
    """Whether the archive holds the style sheet that a document names beside itself."""
    address = style_sheets.relative_address(tree)
    if address is None:
        return []
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), unquote(address)))
    if beside.casefold() in (name.casefold() for name in files):
        return []
    message = "the style sheet that the document names is not in the archive"
    return [_issue("xdm.style-sheet", message, path, "warning", "not-found")]
