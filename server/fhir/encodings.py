"""Content codings of HTTP (RFC 9110 §8.4): gzip, in and out."""

from __future__ import annotations

import gzip
import zlib

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_accept_header

from relais.server.fhir.outcome import FhirError

_GZIP = zlib.MAX_WBITS | 16
_LEVEL = 4  # most of the gain for a third of the time of the highest one
SMALLEST = 1400  # bytes; what fits into one packet gains nothing


def decoded(data: bytes, coding: str, limit: int) -> bytes:
    """The body that a client sent under `Content-Encoding: coding`, never more than `limit` bytes.

    Raises FhirError 415 for another coding than gzip, 400 for what is not gzip; RequestEntityTooLarge beyond `limit`.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return data
    if coding not in ("gzip", "x-gzip"):
        message = "bodies are read as they are or under Content-Encoding: gzip"
        raise FhirError.of(415, "not-supported", message, Accept_Encoding="gzip")
    decoder = zlib.decompressobj(_GZIP)
    try:
        plain = decoder.decompress(data, limit + 1)
    except zlib.error as error:
        raise FhirError.of(400, "structure", "the body is not gzip") from error
    if len(plain) > limit:
        raise RequestEntityTooLarge
    if not decoder.eof or decoder.unused_data:
        raise FhirError.of(400, "incomplete", "the gzip body is cut short, or something follows it")
    return plain


def accepts_gzip(header: str | None) -> bool:
    """Whether a client that sent this Accept-Encoding reads gzip."""
    if not header or ("gzip" not in header and "*" not in header):
        return False
    qualities = dict(parse_accept_header(header))
    return qualities.get("gzip", qualities.get("*", 0)) > 0


def compressed(data: bytes) -> bytes:
    """`data` under gzip, the same bytes each time."""
    return gzip.compress(data, _LEVEL, mtime=0)
