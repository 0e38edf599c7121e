"""What a PDF holds that PDF/A-1 forbids and a receiver must know of: encryption, scripts and launches, other files.

ISO 19005-1:2005 §6.1.3 (Encrypt), §6.1.11 (embedded files), §6.6.1 (actions), §6.7.11 (the claim in XMP); the syntax is
that of ISO 32000-1 §7. Names are looked for outside streams, strings and comments, and in object streams. What is read
is bounded, so that the time is, whatever the file.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAX_SYNTAX = 20_000_000
"""Bytes outside streams, and in object streams, that are looked into."""
MAX_MARKS = 2_000_000
"""Parentheses, comments and streams that are told apart."""

_CLAIM = re.compile(rb"pdfaid:part(?:>|\s*=\s*[\"'])\s*1\b")  # XMP, which PDF/A-1 forbids to compress
_MARK = re.compile(rb"[()\\%]|\bstream\r?\n")
_LINE_END = re.compile(rb"[\r\n]|\Z")
_STREAM_END = b"endstream"
_OBJECTS = re.compile(rb"/Type\s*/ObjStm\b")
_DICTIONARY = 2_000  # bytes before a stream in which its dictionary is looked for
_ESCAPED = re.compile(rb"#([0-9A-Fa-f]{2})")
_ENCRYPTED = re.compile(rb"/Encrypt\b")
_ACTIVE = re.compile(rb"/S\s*/(?:JavaScript|Launch|Sound|Movie|ResetForm|ImportData)\b|/(?:JavaScript|JS)\b")
_EMBEDDED = re.compile(rb"/(?:EmbeddedFiles?|EF)\b")
_SUSPECT = re.compile(rb"/(?:Encrypt|JavaScript|JS|Launch|Sound|Movie|ResetForm|ImportData|Embedded|EF|ObjStm|\w*#)")


@dataclass(frozen=True, slots=True)
class PdfContent:
    """What was found. `unread`: some of the file could not be looked into."""

    encrypted: bool = False
    active: bool = False
    embedded: bool = False
    unread: bool = False

    def forbidden(self) -> Iterator[tuple[str, str]]:
        """What of it PDF/A-1 forbids: a rule and a message for each."""
        if self.encrypted:
            yield "relais-pdf-encrypted", "the PDF is encrypted, which PDF/A-1 forbids (ISO 19005-1 §6.1.3)"
        if self.active:
            yield "relais-pdf-active", "the PDF runs scripts or actions that PDF/A-1 forbids (ISO 19005-1 §6.6.1)"
        if self.embedded:
            yield "relais-pdf-embedded", "the PDF holds other files, which PDF/A-1 forbids (ISO 19005-1 §6.1.11)"


def claims_pdf_a_1(data: bytes) -> bool:
    """Whether a PDF says of itself that it is PDF/A-1."""
    return _CLAIM.search(data) is not None


def examine(data: bytes) -> PdfContent:
    """What a PDF holds."""
    if not _SUSPECT.search(data):
        return PdfContent()
    reading = _Reading()
    reading.read(data)
    text = b" ".join(reading.kept)
    return PdfContent(
        encrypted=_ENCRYPTED.search(text) is not None,
        active=_ACTIVE.search(text) is not None,
        embedded=_EMBEDDED.search(text) is not None,
        unread=reading.unread,
    )


class _Reading:
    """The syntax of a file without strings, comments and streams; escapes of names resolved."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.unread = False
        self._left = MAX_SYNTAX
        self._marks = MAX_MARKS

    def read(self, data: bytes) -> None:
        """Take in a file, or what an object stream holds."""
        dictionary = b""
        for piece, stream in self._pieces(data):
            self._keep(piece)
            dictionary = (dictionary + self.kept[-1])[-_DICTIONARY:]
            if stream and _OBJECTS.search(dictionary):
                self._inflate(stream)
            if stream:
                dictionary = b""

    def _keep(self, piece: bytes) -> None:
        self.unread = self.unread or len(piece) > self._left
        plain = _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), piece[: self._left])
        self._left -= min(len(piece), self._left)
        self.kept.append(plain)

    def _pieces(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Each piece of syntax, and the stream that stands after it, if one does."""
        start = position = depth = 0
        while found := _MARK.search(data, position):
            mark, position = found[0], found.end()
            self._marks -= 1
            if not self._marks:
                self.unread = True
                return
            if depth:
                depth += {b"(": 1, b")": -1}.get(mark, 0)
                position += mark == b"\\"
                start = position
            elif mark == b"(":
                depth = 1
                yield data[start : found.start()], b""
            elif mark == b"%":
                yield data[start : found.start()], b""
                start = position = _next_line(data, position)
            elif mark.startswith(b"stream"):
                end = data.find(_STREAM_END, position)
                end = end if end >= 0 else len(data)
                yield data[start : found.start()], data[position:end]
                start = position = end
        self.unread = self.unread or depth > 0
        yield (b"" if depth else data[start:]), b""

    def _inflate(self, stream: bytes) -> None:
        inflating = zlib.decompressobj()
        try:
            content = inflating.decompress(stream, self._left + 1)
        except zlib.error:  # encrypted, or another filter than Flate
            self.unread = True
            return
        self.unread = self.unread or not inflating.eof
        for piece, _ in self._pieces(content):
            self._keep(piece)


def _next_line(data: bytes, position: int) -> int:
    found = _LINE_END.search(data, position)
    return found.end() if found else len(data)
