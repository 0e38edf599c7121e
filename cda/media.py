"""Which bytes a media type may have: bodies of an unstructured document, images that are safe to show.

JDV 1.2.250.1.213.1.1.5.822 (media types of an unstructured body), CDA R2 observationMedia; the first bytes of each kind
of file are those of its format specification. A declared media type is believed only when the bytes agree.
"""

from __future__ import annotations

from msgspec.structs import replace

from relais.cda.model import Media

PDF = "application/pdf"
PLAIN_TEXT = "text/plain"

BODY_TYPES = (PDF, PLAIN_TEXT, "text/rtf", "image/jpeg", "image/tiff")
"""Media types that an unstructured body may have."""

SHOWN_IMAGES = ("image/png", "image/jpeg", "image/gif")
"""Raster images that every browser shows; formats that can hold a script (SVG) are none of them."""

_IMAGES = (*SHOWN_IMAGES, "image/tiff")

_BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    PDF: (b"%PDF-",),
    PLAIN_TEXT: (b"",),
    "text/rtf": (b"{\\rtf",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/tiff": (b"II*\0", b"MM\0*"),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "application/msword": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"{\\rtf"),
}
_NO_TEXT = tuple(start for starts in _BEGINNINGS.values() for start in starts if start)
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf")
_EXTENSIONS = {PDF: "pdf", PLAIN_TEXT: "txt", "text/rtf": "rtf", "image/jpeg": "jpg", "image/tiff": "tif"}
_ENDINGS = {
    PDF: (b"%%EOF", 1024),  # ISO 32000-1 §7.5.5 and implementation note: the marker is in the last kilobyte
    "image/png": (b"IEND", None),
    "image/jpeg": (b"\xff\xd9", None),
    "image/gif": (b";", 1024),
}
"""What a whole file holds near its end; without a number of bytes, anywhere: other data may follow."""
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\r\f"))


def contradicts(media_type: str | None, data: bytes) -> bool:
    """Whether the bytes cannot be a file of that media type; of a type not known here nothing is told.

    A text holds no NUL, and does not begin as another file does.
    """
    if media_type == PLAIN_TEXT:
        return data.startswith((*_NO_TEXT, *_ARCHIVES)) or b"\0" in data
    return not data.startswith(_BEGINNINGS.get(media_type or "", (b"",)))


def is_what_it_says(media_type: str | None, data: bytes | None) -> bool:
    """Whether the bytes are a file of that media type, as its beginning tells; False for a type not known here, and for
    no bytes.
    """
    return bool(data) and media_type in _BEGINNINGS and not contradicts(media_type, data or b"")


def is_cut_short(data: bytes, media_type: str | None = PDF) -> bool:
    """Whether a file lacks its end marker: a truncated download or Base64. Of other types nothing is told."""
    end, tail = _ENDINGS.get(media_type or "", (b"", None))
    return end not in (data[-tail:] if tail else data)


def has_controls(text: bytes) -> bool:
    """Whether a plain text holds control characters that are none of a text (tab, line and page breaks are)."""
    return len(text.translate(None, _CONTROLS)) != len(text)


def is_utf_8(text: bytes) -> bool:
    """Whether a plain text is encoded in UTF-8, as IHE XDS-SD (ITI TF-3 §5.2) asks."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def with_its_type(media: Media) -> Media:
    """The media; an image under the type that its bytes have, as viewers take it: a PNG may be called a JPEG."""
    if not (media.media_type or "").startswith("image/"):
        return media
    found = next((kind for kind in _IMAGES if is_what_it_says(kind, media.data)), media.media_type)
    return replace(media, media_type=found)


def is_shown(media: Media) -> bool:
    """Whether a page can show the media as an image."""
    return media.media_type in SHOWN_IMAGES and is_what_it_says(media.media_type, media.data)


def extension(media_type: str | None) -> str:
    """File name extension of a media type, without dot; `bin` when it is not known here."""
    kind = media_type or ""
    return _EXTENSIONS.get(kind) or (kind.partition("/")[2] if kind in _BEGINNINGS else "bin")


def decoded_text(data: bytes) -> str:
    """The text of a `text/plain` body: UTF-8, else Windows-1252 as older French software writes."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
