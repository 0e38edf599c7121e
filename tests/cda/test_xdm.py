"""IHE_XDM archives: what is packed, what a receiver finds in them, and hostile ones."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from relais.cda import xdm
from relais.cda.errors import ArchiveError
from relais.cda.writer import write
from relais.cda.xds import DocumentEntry, MetadataError
from support.documents import small_document
from support.shipments import small_entry, small_submission_set

SENDER = xdm.Sender(
    name="Hélène LEMOINE", organization="Cabinet <des> Tilleuls & Cie", address="12 rue des Lilas\n35000 Rennes"
)
METADATA = "IHE_XDM/SUBSET01/METADATA.XML"
DOCUMENT = "IHE_XDM/SUBSET01/DOC00001.XML"

Files = dict[str, bytes]


def _documents(count: int = 1) -> list[tuple[bytes, DocumentEntry]]:
    found = []
    for number in range(1, count + 1):
        document = small_document()
        document.header.id.root = f"2.25.{1000 + number}"
        data = write(document)
        found.append((data, replace(small_entry(document, data), entry_id=f"Document{number:02}")))
    return found


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A sane archive of one document."""
    return xdm.pack(_documents(), small_submission_set(), sender=SENDER)


def _files(data: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(files: Files, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return output.getvalue()


def _findings(data: bytes) -> list[tuple[str, str]]:
    return [(issue.rule, issue.path) for issue in xdm.examine(data).issues if issue.severity == "error"]


# --- writing --------------------------------------------------------------------------------------------------


def test_what_is_packed_is_unpacked(archive: bytes) -> None:
    (data, entry) = _documents()[0]
    unpacked = xdm.unpack(archive)
    assert unpacked.issues == ()
    assert unpacked.submission.submission_set == small_submission_set()
    assert unpacked.documents == (xdm.PackedDocument(replace(entry, uri="DOC00001.XML"), data, DOCUMENT),)


def test_several_documents_travel_in_one_lot() -> None:
    documents = _documents(3)
    unpacked = xdm.unpack(xdm.pack(documents, small_submission_set(), sender=SENDER))
    assert [packed.data for packed in unpacked.documents] == [data for data, _ in documents]
    assert [packed.entry.uri for packed in unpacked.documents] == ["DOC00001.XML", "DOC00002.XML", "DOC00003.XML"]


def test_the_archive_depends_on_its_content_only(archive: bytes) -> None:
    assert xdm.pack(_documents(), small_submission_set(), sender=SENDER) == archive
    assert list(_files(archive)) == ["README.TXT", "INDEX.HTM", METADATA, DOCUMENT]


def test_the_readme_has_its_four_blocks(archive: bytes) -> None:
    readme = _files(archive)["README.TXT"]
    assert not readme.startswith(b"\xef\xbb\xbf")
    assert readme.count(b"\n") == readme.count(b"\r\n")
    lines = readme.decode().splitlines()
    headings = [above for above, line in pairwise(lines) if line and set(line) == {"="}]
    assert headings == ["Émetteur", "Application de l'émetteur", "Instructions", "Arborescence"]
    assert "    Adresse : 12 rue des Lilas 35000 Rennes" in lines
    assert "    Téléphone : non communiqué" in lines
    tree = [line.strip() for line in lines[lines.index("Arborescence") + 2 :]]
    assert tree == ["README.TXT", "INDEX.HTM", "IHE_XDM", "SUBSET01", "METADATA.XML", "DOC00001.XML"]


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1).filter(
        lambda text: text.strip()
    ),
    st.text(),
)
@settings(max_examples=30, deadline=None)
def test_the_index_is_well_formed_whatever_it_names(title: str, organization: str) -> None:
    data, entry = _documents()[0]
    packed = xdm.pack(
        [(data, replace(entry, title=title))],
        small_submission_set(),
        sender=replace(SENDER, organization=organization.encode("utf-8", "ignore").decode()),
    )
    parser = etree.XMLParser(load_dtd=False, no_network=True)
    page = etree.fromstring(_files(packed)["INDEX.HTM"], parser)
    names = {"h": "http://www.w3.org/1999/xhtml"}
    assert page.xpath("//h:a/@href", namespaces=names) == [DOCUMENT, "README.TXT"]
    assert page.xpath("boolean(/h:html/h:head/h:title and /h:html/h:body)", namespaces=names)
    assert xdm.unpack(packed).documents[0].entry.title == " ".join(title.split())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"size": 1}, "xdm.size"), ({"hash": "0" * 40}, "xdm.hash"), ({"mime_type": "application/pdf"}, "xdm.not-cda")],
)
def test_an_entry_must_describe_its_bytes(changes: dict[str, object], rule: str) -> None:
    data, entry = _documents()[0]
    with pytest.raises(ArchiveError) as caught:
        xdm.pack([(data, replace(entry, **changes))], small_submission_set(), sender=SENDER)  # type: ignore[arg-type]
    assert [issue.rule for issue in caught.value.issues] == [rule]


def test_only_cda_is_packed() -> None:
    entry = replace(_documents()[0][1], size=4, hash=_sha1(b"<a/>").decode())
    with pytest.raises(ArchiveError, match="not a ClinicalDocument"):
        xdm.pack([(b"<a/>", entry)], small_submission_set(), sender=SENDER)


def test_metadata_unfit_to_be_sent_are_not_packed() -> None:
    with pytest.raises(MetadataError):
        xdm.pack([], small_submission_set(), sender=SENDER)
    with pytest.raises(MetadataError):
        xdm.pack(_documents() * 2, small_submission_set(), sender=SENDER)


# --- defects --------------------------------------------------------------------------------------------------


def _with_size(files: Files, value: str) -> Files:
    size = str(len(files[DOCUMENT])).encode()
    return files | {METADATA: files[METADATA].replace(b">%s<" % size, b">%s<" % value.encode())}


def _damaged_document(files: Files) -> Files:
    return files | {DOCUMENT: files[DOCUMENT].replace(b"2019", b"2018")}


def _without_slot(files: Files, name: str) -> Files:
    root = etree.fromstring(files[METADATA])
    for slot in root.xpath(f"//*[local-name()='Slot'][@name='{name}']"):
        slot.getparent().remove(slot)
    return files | {METADATA: etree.tostring(root)}


def _other_document(files: Files, data: bytes) -> Files:
    """The document replaced, size and hash following."""
    old = files[DOCUMENT]
    metadata = files[METADATA].replace(b">%d<" % len(old), b">%d<" % len(data))
    metadata = metadata.replace(_sha1(old), _sha1(data))
    return files | {DOCUMENT: data, METADATA: metadata}


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda files: _with_size(files, "12"), [("xdm.size", f"{DOCUMENT}#DocumentEntry.size")]),
        (_damaged_document, [("xdm.hash", f"{DOCUMENT}#DocumentEntry.hash")]),
        (
            lambda files: {name.replace("DOC00001", "DOC00002"): data for name, data in files.items()},
            [
                ("xdm.document-missing", f"{METADATA}#DocumentEntry[1].URI"),
                ("xdm.document-orphan", "IHE_XDM/SUBSET01/DOC00002.XML"),
            ],
        ),
        (
            lambda files: {name.replace("DOC00001", "doc00001"): data for name, data in files.items()},
            [("xdm.document-missing", f"{METADATA}#DocumentEntry[1].URI")],
        ),
        (
            lambda files: files | {METADATA: files[METADATA].replace(b"DOC00001.XML", b"METADATA.XML")},
            [
                ("xdm.document-missing", f"{METADATA}#DocumentEntry[1].URI"),
                ("xdm.document-orphan", DOCUMENT),
            ],
        ),
        (
            lambda files: files | {"IHE_XDM/SUBSET01/DOC00002.XML": b"<a/>"},
            [("xdm.document-orphan", "IHE_XDM/SUBSET01/DOC00002.XML")],
        ),
        (
            lambda files: files | {"IHE_XDM/SUBSET02/DOC00001.XML": b"<a/>"},
            [("xdm.document-orphan", "IHE_XDM/SUBSET02/DOC00001.XML")],
        ),
        (lambda files: files | {"IHE_XDM/SUBSET01/CDA.XSL": b"<a/>"}, []),
        (
            lambda files: _without_slot(files, "URI"),
            [
                ("xdm.metadata-attribute", f"{METADATA}#DocumentEntry[1].URI"),
                ("xdm.document-orphan", DOCUMENT),
            ],
        ),
        (
            lambda files: _without_slot(files, "hash"),
            [("xdm.metadata-attribute", f"{METADATA}#DocumentEntry[1].hash")],
        ),
        (
            lambda files: _without_slot(files, "size"),
            [("xdm.metadata-attribute", f"{METADATA}#DocumentEntry[1].size")],
        ),
        (lambda files: _other_document(files, b"<a/>"), [("xdm.not-cda", DOCUMENT)]),
        (lambda files: _other_document(files, b"%PDF-1.4"), [("xdm.not-cda", f"{DOCUMENT} line 1, column 1")]),
        (
            lambda files: _other_document(files, files[DOCUMENT].replace(b"POCD_HD000040", b"POCD_HD000041")),
            [("xdm.not-cda", DOCUMENT)],
        ),
    ],
)
def test_defects_of_the_content(
    archive: bytes, damage: Callable[[Files], Files], expected: list[tuple[str, str]]
) -> None:
    damaged = _zip(damage(_files(archive)))
    assert _findings(damaged) == expected
    if expected:
        with pytest.raises(ArchiveError) as caught:
            xdm.unpack(damaged)
        assert [issue.rule for issue in caught.value.issues] == [rule for rule, _ in expected]
    else:
        assert xdm.unpack(damaged).documents


def test_the_hash_is_compared_without_letter_case(archive: bytes) -> None:
    files = _files(archive)
    digest = _sha1(files[DOCUMENT])
    assert xdm.unpack(_zip(files | {METADATA: files[METADATA].replace(digest, digest.upper())})).issues == ()


def test_a_document_of_another_type_is_kept_with_a_warning(archive: bytes) -> None:
    files = _files(archive)
    metadata = files[METADATA].replace(b'mimeType="text/xml"', b'mimeType="application/pdf"')
    unpacked = xdm.unpack(_zip(files | {METADATA: metadata}))
    assert [(issue.severity, issue.rule) for issue in unpacked.issues] == [("warning", "xdm.not-cda")]


def test_unusual_but_legal_archives_are_read_with_a_warning(archive: bytes) -> None:
    files = _files(archive)
    lower = _zip({METADATA.replace("METADATA.XML", "metadata.xml"): files.pop(METADATA), **files})
    assert [issue.severity for issue in xdm.unpack(lower).issues] == ["warning"]
    files = _files(archive)
    bare = _zip({name: data for name, data in files.items() if name not in ("README.TXT", "INDEX.HTM")})
    assert [issue.path for issue in xdm.unpack(bare).issues] == ["README.TXT", "INDEX.HTM"]
    beside = _zip(files | {"AUTORUN.INF": b""})
    assert [(i.severity, i.rule) for i in xdm.unpack(beside).issues] == [("warning", "xdm.document-orphan")]
    stored = _zip(files, zipfile.ZIP_STORED)
    assert xdm.unpack(stored).issues == ()


# --- refused archives -----------------------------------------------------------------------------------------


def _with_entry(name: str, data: bytes = b"x", **attributes: int) -> Callable[[bytes], bytes]:
    """The archive with one more entry; attributes are those of its ZipInfo."""

    def build(archive: bytes) -> bytes:
        output = io.BytesIO(archive)
        with zipfile.ZipFile(output, "a") as opened:
            info = zipfile.ZipInfo(name)
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            opened.writestr(info, data)
        return output.getvalue()

    return build


def _renamed(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """A name replaced by one of the same length, in local header and directory alike."""
    assert len(old) == len(new)
    return lambda archive: archive.replace(old, new)


def _flagged(archive: bytes) -> bytes:
    """The last entry marked as encrypted in the directory."""
    place = archive.rfind(b"PK\x01\x02") + 8
    return archive[:place] + struct.pack("<H", 1) + archive[place + 2 :]


def _with_a_hidden_entry(archive: bytes) -> bytes:
    """A whole entry before the first one, which the directory does not name; its offsets are made right."""
    hidden = _zip({"HIDDEN.XML": b"<hidden/>"})
    hidden = hidden[: hidden.rfind(b"PK\x01\x02")]
    moved, place = bytearray(archive), archive.find(b"PK\x01\x02")
    while place >= 0:
        struct.pack_into("<L", moved, place + 42, struct.unpack_from("<L", moved, place + 42)[0] + len(hidden))
        place = archive.find(b"PK\x01\x02", place + 4)
    end = archive.rfind(b"PK\x05\x06") + 16
    struct.pack_into("<L", moved, end, struct.unpack_from("<L", moved, end)[0] + len(hidden))
    return hidden + bytes(moved)


def _without_metadata(archive: bytes) -> bytes:
    return _zip({name: data for name, data in _files(archive).items() if name != METADATA})


def _with_metadata(metadata: bytes) -> Callable[[bytes], bytes]:
    return lambda archive: _zip(_files(archive) | {METADATA: metadata})


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("damage", "rule", "words"),
    [
        (lambda _: b"", "xdm.archive", "not a ZIP"),
        (lambda _: b"%PDF-1.4 not a zip", "xdm.archive", "not a ZIP"),
        (lambda archive: archive[: len(archive) // 2], "xdm.archive", "truncated"),
        (lambda archive: archive[:-1], "xdm.archive", "truncated"),
        (lambda archive: archive[100:], "xdm.archive", "follow one another"),
        (_with_entry("../evil.xml"), "xdm.archive", "leaves its folder"),
        (_with_entry("IHE_XDM/../../evil.xml"), "xdm.archive", "leaves its folder"),
        (_with_entry("/etc/passwd"), "xdm.archive", "absolute"),
        (_with_entry("IHE_XDM//DOC.XML"), "xdm.archive", "not plain"),
        (_with_entry("C:evil.xml"), "xdm.archive", "colon"),
        (_with_entry("IHE_XDM\\evil.xml"), "xdm.archive", "backslash"),
        (_with_entry("evil\x1b.xml"), "xdm.archive", "control character"),
        (_renamed(b"INDEX.HTM", b"INDEX\x00HTM"), "xdm.archive", "not plain"),
        (_with_entry("LINK.XML", external_attr=(stat.S_IFLNK | 0o777) << 16), "xdm.archive", "symbolic link"),
        (_with_entry("A" * 261), "xdm.archive", "more than 260 characters"),
        (_with_entry("README.TXT"), "xdm.archive", "same name"),
        (_with_entry("Readme.txt"), "xdm.archive", "same name"),
        (_with_entry("README.TXT/"), "xdm.archive", "same name"),
        (_flagged, "xdm.archive", "encrypted"),
        (lambda archive: b"MZ" + archive, "xdm.archive", "follow one another"),
        (lambda archive: archive + archive, "xdm.archive", "follow one another"),
        (_with_a_hidden_entry, "xdm.archive", "follow one another"),
        (lambda archive: archive + b"\r\n", "xdm.archive", "before, inside or after"),
        (lambda archive: b"junk" + _zip({}), "xdm.archive", "before, inside or after"),
        (_with_entry("A.XML", compress_type=zipfile.ZIP_BZIP2), "xdm.archive", "neither stored nor deflated"),
        (_without_metadata, "xdm.metadata-missing", "METADATA.XML"),
        (_with_metadata(b"<a>"), "xdm.metadata-invalid", "not well-formed"),
        (_with_metadata(b""), "xdm.metadata-invalid", ""),
        (_with_metadata(b"<a/>"), "xdm.metadata-invalid", "SubmitObjectsRequest"),
        (_with_metadata(b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'), "xdm.metadata-invalid", "DTD"),
        (_with_entry("IHE_XDM/SUBSET02/METADATA.XML", b"<a/>"), "xdm.archive", "2 submission sets"),
    ],
)
def test_refused_archives(archive: bytes, damage: Callable[[bytes], bytes], rule: str, words: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        xdm.examine(damage(archive))
    assert {issue.rule for issue in caught.value.issues} == {rule}
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("moved", "place", "words"),
    [
        (lambda name: f"export/{name}", "export/IHE_XDM", "pack what that folder holds"),
        (lambda name: f"Envoi été/a/{name.lower()}", r"Envoi \xe9t\xe9/a/ihe_xdm", "root of the archive"),
        (lambda name: f"IHE_XDM/{name}", "IHE_XDM/IHE_XDM", "root of the archive"),
        (lambda name: name.replace("SUBSET01", "SUBSET1"), "IHE_XDM/SUBSET1/METADATA.XML", "IHE_XDM/SUBSETnn"),
        (lambda name: name.replace("IHE_XDM/SUBSET01/", ""), "METADATA.XML", "IHE_XDM/SUBSETnn"),
        (lambda name: name.replace("METADATA", "META"), "IHE_XDM", "no IHE_XDM/SUBSETnn/METADATA.XML"),
    ],
)
def test_a_tree_that_stands_elsewhere_is_named(
    archive: bytes, moved: Callable[[str], str], place: str, words: str
) -> None:
    with pytest.raises(ArchiveError, match=words) as caught:
        xdm.unpack(_zip({moved(name): data for name, data in _files(archive).items()}))
    [issue] = caught.value.issues
    assert (issue.rule, issue.path) == ("xdm.metadata-missing", place)


def _bomb(size: int) -> bytes:
    return _zip({"README.TXT": bytes(size)})


def _nested_bomb() -> bytes:
    """An archive of archives: what is inside is never opened, its ratio counts all the same."""
    return _zip({"IHE_XDM/SUBSET01/INNER.ZIP": _bomb(50_000_000), "README.TXT": bytes(20_000_000)})


def _overlapping_bomb() -> bytes:
    """Many directory entries for one stretch of compressed data."""
    single = _zip({"A": bytes(100_000)})
    end = struct.unpack_from("<4s4H2LH", single, single.rfind(b"PK\x05\x06"))
    entry, count = single[end[6] : end[6] + end[5]], 400
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, count * len(entry), end[6], 0)
    entries = b"".join(entry[:46] + chr(0x21 + n % 90).encode() for n in range(count))
    return single[: end[6]] + entries + tail


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: _bomb(20_000_000), "times its"),
        (_nested_bomb, "times its"),
        (_overlapping_bomb, "times its"),
        (lambda: _zip({f"F{number}": b"" for number in range(600)}), "more than 500 entries"),
        (lambda: _zip({f"F{number}": b"" for number in range(20_000)}), "more than 500 entries"),
    ],
)
def test_archives_that_cost_too_much(build: Callable[[], bytes], words: str) -> None:
    with pytest.raises(ArchiveError, match=words) as caught:
        xdm.examine(build())
    assert caught.value.issues[0].code == "too-costly"


def test_text_that_repeats_itself_is_no_bomb() -> None:
    document = small_document()
    document.sections[0].text = ["é" * 400_000]
    data = write(document)
    packed = xdm.pack([(data, small_entry(document, data))], small_submission_set(), sender=SENDER)
    with zipfile.ZipFile(io.BytesIO(packed)) as opened:
        info = opened.getinfo(DOCUMENT)
    assert info.file_size > xdm.Limits().ratio * info.compress_size
    assert xdm.unpack(packed).documents[0].data == data


def test_limits_are_those_of_the_caller(archive: bytes) -> None:
    for limits in (
        xdm.Limits(archive=100),
        xdm.Limits(entries=3),
        xdm.Limits(expanded=100),
        xdm.Limits(ratio=1, small=1),
    ):
        with pytest.raises(ArchiveError) as caught:
            xdm.unpack(archive, limits=limits)
        assert caught.value.issues[0].code == "too-costly"
    assert xdm.unpack(archive, limits=xdm.Limits(entries=4))


class Pipe:
    """What can only be written to, from the first byte to the last."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)

    def flush(self) -> None:
        pass


def test_archives_written_as_a_stream_with_a_comment_are_read(archive: bytes) -> None:
    files, output = _files(archive), Pipe()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as streamed:  # type: ignore[call-overload]
        streamed.comment = b"made by others"
        for name, data in files.items():
            streamed.writestr(name, data)
    assert output.written.count(b"PK\x07\x08") == len(files)  # data descriptors
    assert xdm.unpack(output.written) == xdm.unpack(archive)


def test_zip64_is_refused(archive: bytes) -> None:
    end = archive.rfind(b"PK\x05\x06")
    locator = b"PK\x06\x07" + bytes(16)
    with pytest.raises(ArchiveError, match="ZIP64"):
        xdm.examine(archive[:end] + locator + archive[end:])


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_is_refused_or_unharmed(archive: bytes, data: st.DataObject) -> None:
    """No byte changed anywhere gives another document without being noticed, or breaks in an unforeseen way."""
    sane = xdm.unpack(archive)
    place = data.draw(st.integers(0, len(archive) - 1))
    damaged = archive[:place] + bytes([data.draw(st.integers(0, 255))]) + archive[place + 1 :]
    try:
        found = xdm.unpack(damaged)
    except ArchiveError:
        return
    assert [packed.data for packed in found.documents] == [packed.data for packed in sane.documents]
    assert found.submission == sane.submission


# --- the published examples -----------------------------------------------------------------------------------


def _example(cisis: Path, name: str) -> list[tuple[str, str, str]]:
    root = cisis / "xdm" / name
    data = _zip({path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    issues = xdm.examine(data).issues
    return sorted({(issue.severity, issue.rule, issue.path.removeprefix(f"{METADATA}#")) for issue in issues})


def test_defects_of_the_published_vsm(cisis: Path) -> None:
    """Known faults: bytes that are not those described, uniqueId of the set that of the document and no OID, scheme
    of the class, shape of the validator's number, INS-C without type, white space, objectType, XON without
    type."""
    attribute, association, document = "xdm.metadata-attribute", "xdm.association", "IHE_XDM/SUBSET01/DOC00001.XML"
    assert _example(cisis, "VSM") == [
        ("error", "xdm.hash", f"{document}#DocumentEntry.hash"),
        ("error", attribute, "DocumentEntry[1].author[1].authorInstitution"),
        ("error", attribute, "DocumentEntry[1].classCode"),
        ("error", attribute, "DocumentEntry[1].patientId"),
        ("error", attribute, "DocumentEntry[1].sourcePatientId"),
        ("error", attribute, "SubmissionSet.author[1].authorInstitution"),
        ("error", attribute, "SubmissionSet.patientId"),
        ("error", attribute, "SubmissionSet.uniqueId"),
        ("error", "xdm.size", f"{document}#DocumentEntry.size"),
        ("warning", association, "Association[1]"),
        ("warning", attribute, "DocumentEntry[1].author[1].authorInstitution"),
        ("warning", attribute, "DocumentEntry[1].author[1].authorSpecialty"),
        ("warning", attribute, "DocumentEntry[1].legalAuthenticator"),
        ("warning", attribute, "SubmissionSet.author[1].authorInstitution"),
        ("warning", attribute, "SubmissionSet.author[1].authorSpecialty"),
    ]


def test_defects_of_the_published_cr_rtn(cisis: Path) -> None:
    """Known faults: hash of the length of an MD5, size, id `documentO1`, letter case of the URI, offsets, partial
    birth date, INS-C without type, objectType, file names out of 8.3, an invented ADELI number one digit too long, a
    style sheet that is not there.
    """
    attribute, association, document = "xdm.metadata-attribute", "xdm.association", "IHE_XDM/SUBSET01/CR-RTN.xml"
    assert _example(cisis, "CRRTN") == [
        ("error", association, "Association[1]"),
        ("error", association, "Classification[1]"),
        ("error", association, "DocumentEntry[1]"),
        ("error", "xdm.document-missing", "DocumentEntry[1].URI"),
        ("error", "xdm.hash", f"{document}#DocumentEntry.hash"),
        ("error", attribute, "DocumentEntry[1].hash"),
        ("error", attribute, "DocumentEntry[1].patientId"),
        ("error", attribute, "DocumentEntry[1].sourcePatientId"),
        ("error", attribute, "SubmissionSet.patientId"),
        ("error", "xdm.size", f"{document}#DocumentEntry.size"),
        ("warning", "xdm.archive", document),
        ("warning", association, "Association[1]"),
        ("warning", attribute, "DocumentEntry[1].author[1].authorPerson"),
        ("warning", attribute, "DocumentEntry[1].legalAuthenticator"),
        ("warning", attribute, "DocumentEntry[1].serviceStartTime"),
        ("warning", attribute, "DocumentEntry[1].serviceStopTime"),
        ("warning", attribute, "DocumentEntry[1].sourcePatientInfo"),
        ("warning", attribute, "SubmissionSet.author[1].authorPerson"),
        ("warning", attribute, "SubmissionSet.submissionTime"),
        ("warning", "xdm.style-sheet", document),
    ]
