"""ER7, the vertical-bar encoding of HL7 v2 (HL7 v2.6 §2.5 to §2.7): segments to bytes and back, nothing of meaning.

Relais writes and accepts the standard delimiters only. Every control character of a text travels as `\\X..\\`, so that
a text can never end a segment or an MLLP frame.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relais.mappings.hl7v2.findings import Finding, MessageError, Place

DELIMITERS = "^~\\&"  # MSH-2
CHARSETS = {"UNICODE UTF-8": "utf-8", "8859/1": "iso-8859-1", "8859/15": "iso-8859-15"}
"""MSH-18 (table 0211) of the messages Relais reads, and the codec of each."""

Component = str | tuple[str, ...]
Repetition = str | tuple[Component, ...]
Field = Repetition | list[Repetition]
"""What a field is made of: text, or components, each text or subcomponents; a list holds repetitions."""

_ESCAPES = {"\\": "E", "|": "F", "^": "S", "&": "T", "~": "R"}
_UNESCAPES = {letter: char for char, letter in _ESCAPES.items()}
_TO_ESCAPE = re.compile(r"[\\|^&~\x00-\x1f\x7f]")
_SEQUENCE = re.compile(r"(?P<bytes>(?:\\X(?:[0-9A-Fa-f]{2})+\\)+)|\\(?P<letter>[EFSTRHN]|\.br)\\")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CONTROL_8859 = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # UTF-8 read as 8859 shows in \x80-\x9f
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_RULE = "hl7v2.syntax"


# --- writing ------------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """`text` with delimiters and control characters as escape sequences."""
    return _TO_ESCAPE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    return f"\\{_ESCAPES[char]}\\" if char in _ESCAPES else f"\\X{char.encode().hex().upper()}\\"


def segment(name: str, fields: Mapping[int, Field]) -> str:
    """One segment from its fields by number; empty ends of fields and segment are left out."""
    written = [_field(fields.get(number, "")) for number in range(1, max(fields) + 1)]
    return "|".join([name, *_trimmed(written)])


def header_segment(fields: Mapping[int, Field]) -> str:
    """MSH: its fields 1 and 2 are the delimiters themselves."""
    written = [_field(fields.get(number, "")) for number in range(3, max(fields) + 1)]
    return "|".join(["MSH", DELIMITERS, *_trimmed(written)])


def encode(segments: Iterable[str], charset: str) -> bytes:
    """The bytes of a message, each segment ended by CR; raises MessageError when `charset` lacks a character."""
    text = "".join(f"{line}\r" for line in segments)
    try:
        return text.encode(CHARSETS[charset])
    except UnicodeEncodeError:
        message = "a text has a character that this character set lacks: use UNICODE UTF-8"
        raise MessageError(Finding.error("102", Place("MSH", 1, 18), message, "hl7v2.charset")) from None


def _field(value: Field) -> str:
    repetitions = value if isinstance(value, list) else [value]
    return "~".join(_trimmed([_repetition(repetition) for repetition in repetitions]))


def _repetition(value: Repetition) -> str:
    components = value if isinstance(value, tuple) else (value,)
    return "^".join(_trimmed([_component(component) for component in components]))


def _component(value: Component) -> str:
    subcomponents = value if isinstance(value, tuple) else (value,)
    return "&".join(_trimmed([escape(text) for text in subcomponents]))


def _trimmed(parts: list[str]) -> list[str]:
    while parts and not parts[-1]:
        parts.pop()
    return parts


# --- reading ------------------------------------------------------------------------------------------------------


def unescape(text: str, codec: str = "utf-8") -> str:
    """The text that a component stands for; highlighting is dropped, an unknown sequence stays as it is."""
    return _SEQUENCE.sub(lambda match: _unescaped(match, codec), text) if "\\" in text else text


def _unescaped(match: re.Match[str], codec: str) -> str:
    """One escape sequence, or several `\\X..\\` in a row, which may hold the bytes of one character."""
    if match["bytes"]:
        return bytes.fromhex(re.sub(r"\\X?", "", match["bytes"])).decode(codec, "replace")
    return "\n" if match["letter"] == ".br" else _UNESCAPES.get(match["letter"], "")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment as received; `number` is its place among the segments of its name, from 1."""

    name: str
    number: int
    fields: tuple[str, ...]  # fields[0] is field 1
    codec: str = "utf-8"

    def place(self, field: int, repetition: int = 1, component: int | None = None) -> Place:
        """Where a field of this segment stands."""
        return Place(self.name, self.number, field, repetition, component)

    def field(self, field: int) -> str:
        """A field as it was written; empty when the segment is shorter."""
        return self.fields[field - 1] if field <= len(self.fields) else ""

    def repetitions(self, field: int) -> list[str]:
        """The repetitions of a field as written; none when the field is empty."""
        written = self.field(field)
        return written.split("~") if written else []

    def text(self, field: int, component: int = 1, subcomponent: int = 1, *, repetition: int = 1) -> str:
        """The unescaped text of a (sub)component; empty when it is not there. All numbers count from 1."""
        part = self.field(field)
        for delimiter, number in (("~", repetition), ("^", component), ("&", subcomponent)):
            parts = part.split(delimiter)
            part = parts[number - 1] if number <= len(parts) else ""
        return unescape(part, self.codec)

    def parts(self, field: int) -> Repetition:
        """The first repetition of a field, unescaped: what `segment` writes as the same field."""
        components = self.field(field).split("~")[0].split("^")
        return tuple(tuple(unescape(part, self.codec) for part in component.split("&")) for component in components)


@dataclass(frozen=True, slots=True)
class Message:
    """The segments of a message in order; the first is MSH."""

    segments: tuple[Segment, ...]
    source: str

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    @property
    def names(self) -> list[str]:
        """Names of the segments in order."""
        return [segment.name for segment in self.segments]

    def all(self, name: str) -> list[Segment]:
        """The segments of that name."""
        return [segment for segment in self.segments if segment.name == name]

    def first(self, name: str) -> Segment:
        """The first segment of that name; an empty one when there is none."""
        return next((segment for segment in self.segments if segment.name == name), Segment(name, 1, ()))


def parse(data: bytes, *, assumed_charset: str = "") -> Message:
    """Take a message apart; `assumed_charset` stands in for an empty MSH-18.

    Raises MessageError: no MSH, other delimiters, unknown or wrong MSH-18, line feeds or other control characters.
    """
    if not data.startswith(b"MSH|"):
        raise _refusal("199", Place("MSH", 1), "a message begins with the segment MSH, with nothing before it")
    if b"\n" in data:
        raise _refusal("199", Place("MSH"), "line feeds: segments end with CR alone")
    charset = _charset(data) or assumed_charset
    text = _decoded(data, charset)
    lines = text.removesuffix("\r").split("\r")
    counts: Counter[str] = Counter()
    segments = []
    for position, line in enumerate(lines, start=1):
        name, *fields = line.split("|")
        if not _SEGMENT_NAME.fullmatch(name):
            message = f"line {position} does not begin with the name of a segment"
            raise _refusal("199", Place("MSH", 1), message)
        counts[name] += 1
        if name == "MSH":
            fields.insert(0, "|")
        segments.append(Segment(name, counts[name], tuple(fields), CHARSETS[charset]))
    if segments[0].field(2) != DELIMITERS:
        raise _refusal("102", Place("MSH", 1, 2), "the delimiters are not ^~\\&")
    return Message(tuple(segments), text)


def header_of(data: bytes) -> Segment | None:
    """MSH of a message that cannot be parsed, as far as it can be read; None when the message has none."""
    line = data.partition(b"\r")[0]
    if not line.startswith(b"MSH|"):
        return None
    fields = line.decode("ascii", "replace").split("|")[1:]
    return Segment("MSH", 1, ("|", *fields))


def from_file(data: bytes) -> bytes:
    """A message kept in a text file as it stood on the wire: segments end with CR, no byte order mark."""
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\r").replace(b"\n", b"\r").strip(b"\r") + b"\r"


def _decoded(data: bytes, charset: str) -> str:
    if charset not in CHARSETS:
        known = ", ".join(CHARSETS)
        raise _refusal("103" if charset else "101", Place("MSH", 1, 18), f"the character set is none of {known}")
    try:
        text = data.decode(CHARSETS[charset])
    except UnicodeDecodeError:
        raise _refusal("102", Place("MSH", 1, 18), "the bytes are not in the character set declared") from None
    if (_CONTROL if charset == "UNICODE UTF-8" else _CONTROL_8859).search(text):
        message = "control characters: the text is not in the character set declared"
        raise _refusal("199", Place("MSH", 1, 18), message)
    return text


def _charset(data: bytes) -> str:
    fields = data.partition(b"\r")[0].split(b"|", 18)
    return fields[17].split(b"~")[0].decode("ascii", "replace").strip() if len(fields) > 17 else ""


def _refusal(code: str, place: Place, message: str) -> MessageError:
    return MessageError(Finding.error(code, place, message, _RULE))
