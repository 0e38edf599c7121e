"""A CDA document as PDF/A-1 for people: the same page as the HTML, laid out by Typst.

ISO 19005-1, which the format codes of unstructured documents designate: level A (tagged), or level B when the tags of a
long document exceed the limits of that standard. CI-SIS (ECO.2.1.5) says what the PDF of a document holds.
No clock and no chance: the same document gives the same bytes. Needs the extra `relais[pdf]`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import UTC
from functools import cache, lru_cache
from importlib.resources import files
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from relais.cda import media
from relais.cda.datatypes import datetime_from_ts, is_ts
from relais.cda.errors import Issue, RelaisError
from relais.cda.model import Document
from relais.cda.presentation.document import present
from relais.cda.presentation.nodes import File, Presentation

if TYPE_CHECKING:
    import typst
    from PIL import Image

MAX_PAGE = 2_000_000
"""Bytes of text and structure that are laid out (a table of 2,500 rows): that takes 3 s and 500 MB."""

_LEVELS = (("a-1a", True), ("a-1b", False))  # PDF/A-1 level, with tags
_MAX_PIXELS = 50_000_000
_MAX_FRAMES = 100
_IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "TIFF")
_KEPT_MODES = {"JPEG": ("L", "RGB"), "PNG": ("1", "L", "RGB", "I;16")}  # neither transparent nor CMYK, as PDF/A-1 asks
_ORIENTATION, _UPRIGHT = 0x0112, 1  # EXIF
_COMMON = "\u0180"  # below stand the letters of French and its neighbours, which the fonts have
_MAX_PROBES = 1000
_BODY = "/ClinicalDocument/component/nonXMLBody/text"


def to_pdf(document: Document) -> bytes:
    """The document as PDF; of an unstructured document whose body is a PDF, that PDF, byte for byte.

    Raises RelaisError when the extra is not installed, when the document has no date or is too long (MAX_PAGE), and for
    a body that cannot be laid out (RTF, unreadable image).
    """
    body = document.non_xml_body
    if body is not None and body.media_type == media.PDF and media.is_what_it_says(media.PDF, body.data):
        return body.data or b""
    if find_spec("typst") is None or find_spec("PIL") is None:
        _refuse("not-supported", "PDF output is not installed: pip install 'relais[pdf]'")
    presentation = present(document)
    images = {number: _printable(file) for number, file in enumerate(presentation.files)}
    if body is not None and not any(images.values()) and not (body.data and body.media_type == media.PLAIN_TEXT):
        _refuse(
            "not-supported", "a body that is absent, unreadable or of this media type cannot be shown as PDF", _BODY
        )
    return _laid_out(_page(presentation, images), images)


def _refuse(code: str, message: str, path: str = "") -> NoReturn:
    raise RelaisError(Issue("error", code, message, path, "ISO 19005-1"))


# --- page -----------------------------------------------------------------------------------------------------


def _page(presentation: Presentation, images: dict[int, list[bytes]]) -> bytes:
    """What the template reads, as JSON."""
    page = {
        "title": presentation.title,
        "subtitle": presentation.subtitle,
        "patient": presentation.patient,
        "date": _date(presentation.date),
        "identity": presentation.identity,
        "parts": presentation.parts,
        "notes": presentation.notes,
        "images": {number: [_name(number, frame) for frame in range(len(found))] for number, found in images.items()},
    }
    encoded = msgspec.json.encode(page)
    if len(encoded) > MAX_PAGE:
        _refuse("too-costly", "the document is too long to be laid out as PDF", "/ClinicalDocument/component")
    return _displayable(unicodedata.normalize("NFC", encoded.decode())).encode()


def _name(number: int, frame: int) -> str:
    return f"image-{number}-{frame}"


def _date(ts: str | None) -> tuple[int, ...]:
    """The date of the document in UTC, which PDF/A requires."""
    if ts is None or not is_ts(ts):
        _refuse("required", "the document needs a date", "/ClinicalDocument/effectiveTime/@value")
    return tuple(datetime_from_ts(ts).astimezone(UTC).timetuple()[:6])


def _displayable(text: str) -> str:
    """The text with each character that no font has replaced by its number: `[U+1F600]`."""
    unusual = sorted(character for character in set(text) if character >= _COMMON)
    missing = [
        character for number, character in enumerate(unusual) if number >= _MAX_PROBES or not _has_glyph(character)
    ]
    return text.translate({ord(character): f"[U+{ord(character):04X}]" for character in missing})


@lru_cache(maxsize=10 * _MAX_PROBES)
def _has_glyph(character: str) -> bool:
    """Whether the fonts have the character: tried, because Typst tells of the first that is missing only."""
    import typst

    base = "x" if unicodedata.combining(character) else ""
    source = '#set document(title: "x", date: datetime(year: 2000, month: 1, day: 1))\n#sys.inputs.text'
    try:
        _compiled(source.encode(), sys_inputs={"text": base + character}, pdf_standards=_LEVELS[0][0])
    except typst.TypstError:
        return False
    return True


# --- images ---------------------------------------------------------------------------------------------------


def _printable(file: File) -> list[bytes]:
    """The frames of an image in a form that PDF/A-1 can hold; none when it is no image or cannot be read."""
    if not file.media_type.startswith("image/") or not media.is_what_it_says(file.media_type, file.data):
        return []
    from PIL import Image

    try:
        with Image.open(BytesIO(file.data), formats=_IMAGE_FORMATS) as image:
            return list(_frames(image, file.data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises about bad files
        return []


def _frames(image: Image.Image, data: bytes) -> Iterator[bytes]:
    frames = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if image.width * image.height > _MAX_PIXELS or frames > _MAX_FRAMES:
        raise ValueError("image too large")
    for frame in range(frames):
        image.seek(frame)
        image.load()
        upright = image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
        kept = upright and image.mode in _KEPT_MODES.get(image.format or "", ())
        yield data if kept else _as_png(image)


def _as_png(image: Image.Image) -> bytes:
    """The image as others show it: upright, in RGB, on white where it is transparent."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image).convert("RGBA")
    page = Image.new("RGBA", upright.size, "white")
    page.alpha_composite(upright)
    written = BytesIO()
    page.convert("RGB").save(written, "PNG")
    return written.getvalue()


# --- layout ---------------------------------------------------------------------------------------------------


def _laid_out(page: bytes, images: dict[int, list[bytes]]) -> bytes:
    import typst

    with TemporaryDirectory(prefix="relais-pdf-") as folder:
        (Path(folder) / "page.json").write_bytes(page)
        for number, found in images.items():
            for frame, data in enumerate(found):
                (Path(folder) / _name(number, frame)).write_bytes(data)
        for level, tagged in _LEVELS:
            try:
                return _compiled(_template(), root=folder, pdf_standards=level, pdf_tags=tagged)
            except typst.TypstError:  # its message may quote the document
                continue
    _refuse("not-supported", "the document cannot be laid out as PDF/A-1")


def _compiled(source: bytes, **options: Any) -> bytes:
    import typst

    compiled = typst.compile(source, font_paths=_fonts(), **options)
    assert isinstance(compiled, bytes)  # noqa: S101 - a list is only for formats of one file per page
    return compiled


@cache
def _template() -> bytes:
    return files("relais.cda").joinpath("data", "document.typ").read_bytes()


@cache
def _fonts() -> typst.Fonts:
    """The fonts that Typst brings along, so that every machine lays out alike."""
    import typst

    return typst.Fonts(include_system_fonts=False)
