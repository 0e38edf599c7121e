"""HTTP headers of FHIR R4 (§3.1.0): formats, Prefer, entity tags, dates. The one place that knows media types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal

from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header, parse_options_header

from relais.profiles.messages import LANGUAGES, Language
from relais.server.fhir.outcome import FhirError

FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"
FORM = "application/x-www-form-urlencoded"
CONTENT_TYPE = f"{FHIR_JSON};charset=utf-8"
CONTENT_TYPE_XML = f"{FHIR_XML};charset=utf-8"
FHIR_VERSION = "4.0"

Format = Literal["json", "xml"]

_FORMATS: dict[str, Format] = {
    FHIR_JSON: "json",
    "application/json": "json",
    "text/json": "json",
    "application/json+fhir": "json",
    "json": "json",
    FHIR_XML: "xml",
    "application/xml": "xml",
    "text/xml": "xml",
    "application/xml+fhir": "xml",
    "xml": "xml",
    "*/*": "json",
    "application/*": "json",
    "text/*": "json",
}
"""What a media type, or the short name `_format` may use, asks for."""

_STRICTLY_FHIR = frozenset({FHIR_JSON, "application/json+fhir", FHIR_XML, "application/xml+fhir"})
_ANY = frozenset({"*/*", "application/*", "text/*"})
_PLAIN_ACCEPT = frozenset({"*/*", FHIR_JSON, "application/json"})  # most clients; nothing to parse
_UTF_8 = frozenset({"utf-8", "utf8"})
_PREFER_TOKEN = re.compile(r'\s*([A-Za-z-]+)\s*(?:=\s*"?([^",;]*)"?)?\s*')

Returned = Literal["minimal", "representation", "OperationOutcome"]
_RETURNED: dict[str, Returned] = {
    "minimal": "minimal",
    "representation": "representation",
    "operationoutcome": "OperationOutcome",
}


@dataclass(frozen=True, slots=True)
class Prefer:
    """The Prefer header (RFC 7240): what a write answers, and whether an unknown search parameter is refused."""

    returned: Returned | None = None
    strict: bool = True
    asynchronous: bool = False


DEFAULT_PREFER = Prefer()
"""Nothing said: a create or update answers the resource, an entry of a Bundle does not repeat it."""


def parse_prefer(header: str | None) -> Prefer:
    """Read `return=minimal, handling=lenient`; what Relais does not know is ignored, as RFC 7240 asks."""
    if not header:
        return DEFAULT_PREFER
    tokens: dict[str, str] = {}
    for part in re.split("[,;]", header):
        if match := _PREFER_TOKEN.fullmatch(part):
            tokens.setdefault(match[1].lower(), (match[2] or "").strip().lower())
    return Prefer(
        returned=_RETURNED.get(tokens.get("return", "")),
        strict=tokens.get("handling") != "lenient",
        asynchronous="respond-async" in tokens,
    )


def answer_format(accept: str | None, format_parameter: str | None, produces: Iterable[str] = ()) -> Format:
    """The format of the answer that the client prefers; `_format` overrides the Accept header.

    `produces` are media types that an operation writes besides FHIR. Raises FhirError 406 for what is not written here.
    """
    if format_parameter is not None:
        accept = format_parameter.replace(" ", "+")
    elif accept is None or accept in _PLAIN_ACCEPT:
        return "json"
    own = frozenset(produces)
    for media_type in accepted_types(accept):
        if media_type in _FORMATS:
            return _FORMATS[media_type]
        if media_type in own:
            return "json"  # of its refusals
    message = f"answers are written as {FHIR_JSON} or {FHIR_XML} of fhirVersion {FHIR_VERSION}"
    raise FhirError.of(406, "not-supported", message)


def preferred_language(header: str | None) -> Language:
    """The language of messages that an Accept-Language header prefers (RFC 9110 §12.5.4); English when it asks none."""
    if not header:
        return "en"
    found = parse_accept_header(header, LanguageAccept).best_match(LANGUAGES, default="en")
    return next(language for language in LANGUAGES if language == found)


def accepted_types(accept: str) -> list[str]:
    """Media types of an Accept header, best first; those of quality 0 or of another FHIR version are left out."""
    found = ((parse_options_header(value), quality) for value, quality in parse_accept_header(accept))
    return [
        media_type
        for (media_type, options), quality in found
        if quality > 0 and options.get("fhirversion", FHIR_VERSION) == FHIR_VERSION
    ]


def wants_native(accept: str | None, format_parameter: str | None, content_type: str) -> bool:
    """Whether a read of a Binary is answered by its content (R4 §2.41.4): unless a FHIR format is asked for."""
    if format_parameter is not None:
        return False
    own = parse_options_header(content_type)[0]
    for media_type in accepted_types(accept or "*/*"):
        if media_type in _STRICTLY_FHIR:
            return False
        if media_type == own or media_type == "*/*" or media_type == f"{own.partition('/')[0]}/*":
            return True
        if media_type in _FORMATS and media_type not in _ANY:
            return False
    return False


def body_format(header: str | None) -> Format:
    """The format of a body by its Content-Type. Raises FhirError 415 for what is not FHIR JSON or XML in UTF-8."""
    media_type, options = parse_options_header(header)
    found = _FORMATS.get(media_type) if "/" in media_type and "*" not in media_type else None
    wanted = f"{FHIR_JSON}, {FHIR_XML}"
    if found is None:
        raise FhirError.of(415, "not-supported", f"a body of type {FHIR_JSON} or {FHIR_XML} is expected", Accept=wanted)
    _check_options(options, wanted)
    return found


def is_raw_binary(header: str | None) -> bool:
    """Whether a body for Binary is its content rather than a resource: any media type but FHIR's own and JSON."""
    media_type = parse_options_header(header)[0]
    return "/" in media_type and media_type not in _STRICTLY_FHIR and _FORMATS.get(media_type) != "json"


def check_form_type(header: str | None) -> None:
    """Refuse (415) a body that is not a form."""
    media_type, options = parse_options_header(header)
    if media_type != FORM:
        raise FhirError.of(415, "not-supported", f"a body of type {FORM} is expected", Accept=FORM)
    _check_options(options, FORM)


def etag(version: int) -> str:
    """The entity tag of a version: `W/"3"`."""
    return f'W/"{version}"'


def parse_etags(header: str) -> frozenset[str]:
    """Opaque values of `W/"3"`, `"3"`, a list of them, or `*`."""
    return frozenset(tag.strip().removeprefix("W/").strip('"') for tag in header.split(",") if tag.strip())


def http_date(moment: datetime) -> str:
    """An aware time as an HTTP date (seconds, GMT)."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def parse_http_date(header: str) -> datetime | None:
    """The aware time of an HTTP date, or None when it is none (RFC 9110 §13.1.3: ignored then)."""
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unchanged(version: int, last_updated: datetime, if_none_match: str | None, if_modified_since: str | None) -> bool:
    """Whether a conditional read answers 304; If-None-Match wins over If-Modified-Since (RFC 9110 §13.2.2)."""
    if if_none_match:
        tags = parse_etags(if_none_match)
        return str(version) in tags or "*" in tags
    if if_modified_since and (since := parse_http_date(if_modified_since)):
        return last_updated < since + timedelta(seconds=1)
    return False


def _check_options(options: Mapping[str, str], wanted: str) -> None:
    if options.get("charset", "utf-8").lower() not in _UTF_8:
        raise FhirError.of(415, "not-supported", "only UTF-8 is accepted as charset", Accept=wanted)
    if options.get("fhirversion", FHIR_VERSION) != FHIR_VERSION:
        raise FhirError.of(415, "not-supported", f"only fhirVersion={FHIR_VERSION} is accepted", Accept=wanted)
