"""MTOM: a SOAP envelope and its binary attachments as one multipart/related message.

W3C SOAP MTOM and XOP 1.0, as ITI TF-2 appendix V.8 and the DMP use them. The bytes of a part are never touched, and
never copied on their way: they are the ones the metadata hash.
"""

from __future__ import annotations

import base64
import binascii
import mmap
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote
from uuid import uuid4

from lxml import etree
from werkzeug.http import parse_options_header

from relais.cda.errors import Issue, UnreadableError

XOP = "http://www.w3.org/2004/08/xop/include"
XOP_TYPE = "application/xop+xml"
SOAP_TYPE = "application/soap+xml"
MAX_PARTS = 100
MAX_HEADER = 8_192

_RULE = "MTOM"
_PLAIN_ENCODINGS = ("binary", "8bit", "7bit")


@dataclass(frozen=True, slots=True)
class Attachment:
    """One binary part; `content_id` has no angle brackets."""

    content_id: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: the envelope and the other parts by Content-ID (without angle brackets)."""

    envelope: bytes
    parts: Mapping[str, memoryview]


def include(content_id: str) -> etree._Element:
    """The xop:Include element that stands for the part `content_id`."""
    return etree.Element(f"{{{XOP}}}Include", href="cid:" + quote(content_id, safe="@"), nsmap={"xop": XOP})


def build(envelope: bytes, attachments: Iterable[Attachment], *, action: str) -> tuple[str, list[bytes]]:
    """Content-Type header and body, piece by piece, of the multipart message. `action` is the SOAP action."""
    boundary, start = f"relais-{uuid4().hex}", f"root.{uuid4()}@relais"
    root = Attachment(start, f'{XOP_TYPE}; charset=UTF-8; type="{SOAP_TYPE}"', envelope)
    pieces = [piece for part in (root, *attachments) for piece in (_head(boundary, part), part.data, b"\r\n")]
    content_type = (
        f'multipart/related; boundary="{boundary}"; type="{XOP_TYPE}"; start="<{start}>"; '
        f'start-info="{SOAP_TYPE}"; action="{action}"'
    )
    return content_type, [*pieces, f"--{boundary}--\r\n".encode("ascii")]


def _head(boundary: str, part: Attachment) -> bytes:
    header = (
        f"--{boundary}\r\nContent-Type: {part.content_type}\r\n"
        f"Content-Transfer-Encoding: binary\r\nContent-ID: <{part.content_id}>\r\n\r\n"
    )
    return header.encode("ascii")


def parse(content_type: str, body: bytes | mmap.mmap, *, limit: int) -> Message:
    """Read a SOAP message, multipart or plain. The parts are told apart by Content-ID, not by order.

    Raises UnreadableError: more than `limit` bytes, neither multipart/related nor SOAP, cut short, no root part.
    """
    if len(body) > limit:
        raise _unreadable(f"message larger than {limit} bytes", code="too-long")
    media_type, options = parse_options_header(content_type)
    if media_type == SOAP_TYPE:
        return Message(bytes(body), {})
    if media_type != "multipart/related":
        raise _unreadable(f"neither {SOAP_TYPE} nor multipart/related", "Content-Type")
    if not options.get("boundary"):
        raise _unreadable("multipart without boundary", "Content-Type")
    parts = _parts(body, b"--" + options["boundary"].encode())
    root = options["start"].strip("<>") if "start" in options else next(iter(parts))
    if root not in parts:
        raise _unreadable("no part has the Content-ID named by start", "Content-Type")
    return Message(bytes(parts.pop(root)), parts)


def _parts(body: bytes | mmap.mmap, delimiter: bytes) -> dict[str, memoryview]:
    """Content-ID to content. A part without Content-ID can only be the root: it is keyed by the empty string."""
    parts: dict[str, memoryview] = {}
    for start, end in _spans(body, delimiter):
        content_id, data = _read_part(body, start, end)
        if content_id in parts:
            raise _unreadable("two parts have the same Content-ID")
        parts[content_id] = data
        if len(parts) > MAX_PARTS:
            raise _unreadable(f"more than {MAX_PARTS} parts", code="too-long")
    return parts


def _spans(body: bytes | mmap.mmap, delimiter: bytes) -> Iterator[tuple[int, int]]:
    """Where each part starts and ends: between two delimiter lines (RFC 2046 §5.1.1), the last of which closes."""
    started: int | None = None
    found = body.find(delimiter)
    while found >= 0:
        after = found + len(delimiter)
        closing = body[after : after + 2] == b"--"
        line_end = _end_of_delimiter(body, after + 2 * closing)
        if line_end is not None and (found == 0 or body[found - 2 : found] == b"\r\n"):
            if started is not None:
                yield started, max(started, found - 2)
                if closing:
                    return
            elif closing:
                break
            started = line_end
        found = body.find(delimiter, after)
    raise _unreadable("multipart message cut short: no closing boundary")


def _end_of_delimiter(body: bytes | mmap.mmap, position: int) -> int | None:
    """Where the line of a delimiter ends, when nothing but blanks follow it."""
    while body[position : position + 1] in (b" ", b"\t"):
        position += 1
    return position if body[position : position + 2] in (b"\r\n", b"") else None


def _read_part(body: bytes | mmap.mmap, start: int, end: int) -> tuple[str, memoryview]:
    head_end = body.find(b"\r\n\r\n", start, min(end, start + MAX_HEADER))
    if head_end < 0:
        raise _unreadable("part without an empty line after its header")
    header = _fields(body[start:head_end])
    data = memoryview(body)[head_end + 4 : end]
    content_id = header.get("content-id", "").strip("<>")
    encoding = header.get("content-transfer-encoding", "binary").lower()
    if encoding == "base64":
        return content_id, memoryview(_base64(bytes(data)))
    if encoding not in _PLAIN_ENCODINGS:
        raise _unreadable("unknown Content-Transfer-Encoding")
    return content_id, data


def _fields(header: bytes) -> dict[str, str]:
    """The fields of the header of a part (RFC 2045), the first of each name in lower case, unfolded."""
    found: dict[str, str] = {}
    for line in _FOLD.sub(b" ", header).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.setdefault(name.strip().decode("latin-1").lower(), value.strip().decode("latin-1"))
    return found


_FOLD = re.compile(rb"\r\n[ \t]+")


def binary_content(element: etree._Element, parts: Mapping[str, memoryview]) -> memoryview:
    """The bytes an element carries: the part its xop:Include names, or its own Base64 text.

    Raises UnreadableError when the part is missing or the text is not Base64.
    """
    reference = element.find(f"{{{XOP}}}Include")
    if reference is None:
        return memoryview(_base64((element.text or "").encode()))
    href = reference.get("href", "")
    content_id = unquote(href.removeprefix("cid:"))
    if not href.startswith("cid:") or content_id not in parts:
        raise _unreadable("xop:Include names a part that is not in the message")
    return parts[content_id]


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise _unreadable("content is not Base64") from None


def _unreadable(message: str, path: str = "", *, code: str = "structure") -> UnreadableError:
    return UnreadableError(Issue("error", code, message, path, _RULE))
