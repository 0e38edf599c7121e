"""Which bytes a media type may have: bodies of an unstructured document, images that are safe to show.

JDV 1.2.250.1.213.1.1.5.822 (media types of an unstructured body), CDA R2 observationMedia; the first bytes of each kind
of file are those of its format specification. A declared media type is believed only when the bytes agree.
"""

from __future__ import annotations

from relais.cda.model import Media

PDF = "application/pdf"
PLAIN_TEXT = "text/plain"

BODY_TYPES = (PDF, PLAIN_TEXT, "text/rtf", "image/jpeg", "image/tiff")
"""Media types that an unstructured body may have."""

SHOWN_IMAGES = ("image/png", "image/jpeg", "image/gif")
"""Raster images that every browser shows; formats that can hold a script (SVG) are none of them."""

_BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    PDF: (b"%PDF-",),
    PLAIN_TEXT: (b"",),
    "text/rtf": (b"{\\rtf",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/tiff": (b"II*\0", b"MM\0*"),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}
_EXTENSIONS = {PDF: "pdf", PLAIN_TEXT: "txt", "text/rtf": "rtf", "image/jpeg": "jpg", "image/tiff": "tif"}
_PDF_END, _PDF_TAIL = b"%%EOF", 1024  # ISO 32000-1 §7.5.5 and implementation note: the marker is in the last kilobyte


def contradicts(media_type: str | None, data: bytes) -> bool:
    """Whether the bytes cannot be a file of that media type; of a type not known here nothing is told."""
    return not data.startswith(_BEGINNINGS.get(media_type or "", (b"",)))


def is_what_it_says(media_type: str | None, data: bytes | None) -> bool:
    """Whether the bytes begin as a file of that media type does; False for a type not known here, and for no bytes."""
    return bool(data) and (data or b"").startswith(_BEGINNINGS.get(media_type or "", ()))


def is_cut_short(data: bytes) -> bool:
    """Whether a PDF lacks its end marker: a truncated download or Base64."""
    return _PDF_END not in data[-_PDF_TAIL:]


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
