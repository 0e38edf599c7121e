"""What of an exchange can be shown without health data: its outline, with the values that say how it went.

A list of what is shown, never of what is hidden: names of elements, segments and header fields, and the values of those
that carry identifiers of messages, types, sizes and results. Everything else is replaced by its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from relais.cda import parsing
from relais.cda.errors import UnreadableError
from relais.cda.identifiers import MATRICULE

_SOAP, _WSA = "http://www.w3.org/2003/05/soap-envelope", "http://www.w3.org/2005/08/addressing"
_SHOWN_TEXT = frozenset(
    {f"{{{_SOAP}}}Value", *(f"{{{_WSA}}}{name}" for name in ("Action", "MessageID", "RelatesTo", "To", "Address"))}
)
_SHOWN_ATTRIBUTES = frozenset({"status", "errorCode", "severity", "highestSeverity", "mustUnderstand", "objectType"})
_SHOWN_FIELDS = frozenset(
    {
        "content-type",
        "content-transfer-encoding",
        "content-length",
        "content-id",
        "date",
        "disposition-notification-to",
        "from",
        "message-id",
        "mime-version",
        "soapaction",
        "x-mss-codecda",
        "x-mss-nil",
    }
)
_SHOWN_SEGMENTS = {"MSH": frozenset({*range(2, 8), *range(9, 13), *range(15, 20), 21}), "MSA": frozenset({1, 2})}
"""Fields by their number in HL7 v2.5: who speaks to whom, when, of which type, and the code of the answer; no text."""
_FIELD = re.compile(rb"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)")
_STATUS = re.compile(rb"HTTP [0-9]{3}(?=\r?\n)")
_BOUNDARY = re.compile(rb"""boundary="?([^";\s]+)""", re.IGNORECASE)
_FILE_NAME = re.compile(r"""\bname(?:\*[0-9*]*)?=(?:"[^"]*"?|[^;\s]*)""", re.IGNORECASE)
"""Of the PDF of a document: it names the patient."""
_REPLY = re.compile(rb"([2-5][0-9]{2})[ -](?:([245]\.[0-9]{1,3}\.[0-9]{1,3})\b)?")
_ENVELOPE = re.compile(rb"<([A-Za-z0-9]+:)?Envelope[ >].*?</\1?Envelope>", re.DOTALL)
_DEPTH = 12  # levels of an envelope
_MOST_BLOCKS = 40  # heads of a MIME message
_LONGEST_FIELD = 1000  # bytes


def redacted(data: bytes) -> str:
    """The outline of the bytes of a request or a response (SOAP, mail, SMTP replies, HL7 v2), one line per part."""
    if data.lstrip(b"\x0b").startswith(b"MSH"):
        lines = list(_segments(data))
    elif _REPLY.match(data):
        lines = list(_replies(data))
    else:
        status = _STATUS.match(data)
        lines = [*([status[0].decode("ascii")] if status else []), *_fields(data), *_envelope(data)]
    return "\n".join([*lines, f"({len(data)} bytes)"]) + "\n"


def _segments(data: bytes) -> Iterator[str]:
    for segment in data.strip(b"\x0b\x1c\r\n").split(b"\r"):
        name, *fields = segment.decode("latin-1").split("|")
        shown, first = _SHOWN_SEGMENTS.get(name, frozenset()), 2 if name == "MSH" else 1  # MSH-1 is the separator
        outline = [_masked(field) if number in shown else _length(field) for number, field in enumerate(fields, first)]
        yield "|".join([name[:3], *outline])


def _length(field: str) -> str:
    return f"({len(field)})" if field else ""


def _replies(data: bytes) -> Iterator[str]:
    for line in data.splitlines():
        if reply := _REPLY.match(line):
            yield " ".join(part.decode("ascii") for part in reply.groups() if part)


def _fields(data: bytes) -> Iterator[str]:
    """The fields of the first head and of the head of every MIME part, and nothing of the contents."""
    boundaries: set[bytes] = set()
    for number, block in enumerate(re.split(rb"\r?\n\r?\n", data)[:_MOST_BLOCKS]):
        lines = block.splitlines()
        if number:
            starts = [place for place, line in enumerate(lines, 1) if line in boundaries]
            lines = lines[starts[-1] :] if starts else []
        boundaries.update(b"--" + found for line in lines for found in _BOUNDARY.findall(line))
        yield from filter(None, map(_field, lines))


def _field(line: bytes) -> str | None:
    field = _FIELD.fullmatch(line)
    if field is None or len(line) >= _LONGEST_FIELD:
        return None
    name, value = field[1].decode("ascii"), field[2].decode("latin-1")
    if name.lower() == "content-type":
        value = _FILE_NAME.sub("name=…", value)
    return f"{name}: {_masked(value) if name.lower() in _SHOWN_FIELDS else f'({len(value)})'}"


def _envelope(data: bytes) -> Iterator[str]:
    found = _ENVELOPE.search(data)
    if found is None:
        return
    try:
        root = parsing.parse(found[0]).getroot()
    except UnreadableError:
        yield "an envelope that cannot be read"
        return
    yield from _element(root, 0)


def _element(element: etree._Element, depth: int) -> Iterator[str]:
    if not isinstance(element.tag, str):
        return
    name, text = etree.QName(element).localname, (element.text or "").strip()
    shown = [f'{key}="{_masked(str(value))}"' for key, value in element.attrib.items() if key in _SHOWN_ATTRIBUTES]
    if text:
        shown.append(_masked(text) if element.tag in _SHOWN_TEXT else f"({len(text)})")
    yield "  " * depth + " ".join([name, *shown])
    if depth < _DEPTH:
        for child in element:
            yield from _element(child, depth + 1)


def _masked(value: str) -> str:
    return MATRICULE.sub("…", value)
