"""MTOM: a SOAP envelope and its binary attachments as one multipart/related message.

W3C SOAP MTOM and XOP 1.0, as ITI TF-2 appendix V.8 and the DMP use them. The bytes of a part are never touched: they
are the ones the metadata hash.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from urllib.parse import quote, unquote
from uuid import uuid4

from lxml import etree
from werkzeug.http import parse_options_header

from relais.cda.errors import Issue, UnreadableError

XOP = "http://www.w3.org/2004/08/xop/include"
XOP_TYPE = "application/xop+xml"
SOAP_TYPE = "application/soap+xml"
MAX_PARTS = 100

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
    parts: Mapping[str, bytes]


def include(content_id: str) -> etree._Element:
    """The xop:Include element that stands for the part `content_id`."""
    return etree.Element(f"{{{XOP}}}Include", href="cid:" + quote(content_id, safe="@"), nsmap={"xop": XOP})


def build(envelope: bytes, attachments: Iterable[Attachment], *, action: str) -> tuple[str, bytes]:
    """Content-Type header and body of the multipart message. `action` is the SOAP action."""
    boundary, start = f"relais-{uuid4().hex}", f"root.{uuid4()}@relais"
    root = Attachment(start, f'{XOP_TYPE}; charset=UTF-8; type="{SOAP_TYPE}"', envelope)
    body = b"".join(_part(boundary, part) for part in (root, *attachments))
    content_type = (
        f'multipart/related; boundary="{boundary}"; type="{XOP_TYPE}"; start="<{start}>"; '
        f'start-info="{SOAP_TYPE}"; action="{action}"'
    )
    return content_type, body + f"--{boundary}--\r\n".encode("ascii")


def _part(boundary: str, part: Attachment) -> bytes:
    header = (
        f"--{boundary}\r\nContent-Type: {part.content_type}\r\n"
        f"Content-Transfer-Encoding: binary\r\nContent-ID: <{part.content_id}>\r\n\r\n"
    )
    return header.encode("ascii") + part.data + b"\r\n"


def parse(content_type: str, body: bytes, *, limit: int) -> Message:
    """Read a SOAP message, multipart or plain. The parts are told apart by Content-ID, not by order.

    Raises UnreadableError: more than `limit` bytes, neither multipart/related nor SOAP, cut short, no root part.
    """
    if len(body) > limit:
        raise _unreadable(f"message larger than {limit} bytes", code="too-long")
    media_type, options = parse_options_header(content_type)
    if media_type == SOAP_TYPE:
        return Message(body, {})
    if media_type != "multipart/related":
        raise _unreadable(f"neither {SOAP_TYPE} nor multipart/related", "Content-Type")
    if not options.get("boundary"):
        raise _unreadable("multipart without boundary", "Content-Type")
    parts = _parts(body, options["boundary"])
    root = options["start"].strip("<>") if "start" in options else next(iter(parts))
    if root not in parts:
        raise _unreadable("no part has the Content-ID named by start", "Content-Type")
    return Message(parts.pop(root), parts)


def _parts(body: bytes, boundary: str) -> dict[str, bytes]:
    """Content-ID to content. A part without Content-ID can only be the root: it is keyed by the empty string."""
    delimiter = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?=\r\n|\Z)")
    marks = list(delimiter.finditer(body))
    if len(marks) < 2 or not marks[-1].group(1):
        raise _unreadable("multipart message cut short: no closing boundary")
    if len(marks) > MAX_PARTS:
        raise _unreadable(f"more than {MAX_PARTS} parts", code="too-long")
    parts: dict[str, bytes] = {}
    for mark, following in itertools.pairwise(marks):
        content_id, data = _read_part(body[mark.end() : following.start()])
        if content_id in parts:
            raise _unreadable("two parts have the same Content-ID")
        parts[content_id] = data
    return parts


def _read_part(raw: bytes) -> tuple[str, bytes]:
    head, separator, data = raw.partition(b"\r\n\r\n")
    if not separator:
        raise _unreadable("part without an empty line after its header")
    header = BytesHeaderParser().parsebytes(head.removeprefix(b"\r\n"))
    content_id = str(header.get("Content-ID", "")).strip().strip("<>")
    encoding = str(header.get("Content-Transfer-Encoding", "binary")).strip().lower()
    if encoding == "base64":
        return content_id, _base64(data)
    if encoding not in _PLAIN_ENCODINGS:
        raise _unreadable("unknown Content-Transfer-Encoding")
    return content_id, data


def binary_content(element: etree._Element, parts: Mapping[str, bytes]) -> bytes:
    """The bytes an element carries: the part its xop:Include names, or its own Base64 text.

    Raises UnreadableError when the part is missing or the text is not Base64.
    """
    reference = element.find(f"{{{XOP}}}Include")
    if reference is None:
        return _base64((element.text or "").encode())
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
