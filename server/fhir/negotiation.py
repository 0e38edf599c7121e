"""HTTP headers of FHIR R4 (§3.1.0): formats, Prefer, entity tags, dates. The one place that knows media types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal

from werkzeug.http import parse_accept_header, parse_options_header

from relais.server.fhir.outcome import FhirError

FHIR_JSON = "application/fhir+json"
FORM = "application/x-www-form-urlencoded"
CONTENT_TYPE = f"{FHIR_JSON};charset=utf-8"
FHIR_VERSION = "4.0"

_JSON_NAMES = frozenset({FHIR_JSON, "application/json", "text/json", "application/json+fhir", "json"})
_ANY = frozenset({"*/*", "application/*"})
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
    )


def check_accept(accept: str | None, format_parameter: str | None, produces: Iterable[str] = ()) -> None:
    """Refuse (406) an answer format that is not written here; `_format` overrides the Accept header.

    `produces` are media types an operation writes besides FHIR JSON.
    """
    if format_parameter is not None:
        accept = format_parameter.replace(" ", "+")
    elif accept is None or accept in _PLAIN_ACCEPT:
        return
    offered = _JSON_NAMES.union(_ANY, produces)
    for value, quality in parse_accept_header(accept):
        media_type, options = parse_options_header(value)
        if quality > 0 and media_type in offered and options.get("fhirversion", FHIR_VERSION) == FHIR_VERSION:
            return
    raise FhirError.of(406, "not-supported", f"answers are written as {FHIR_JSON} of fhirVersion {FHIR_VERSION}")


def check_body_type(header: str | None) -> None:
    """Refuse (415) a body that is not FHIR JSON in UTF-8."""
    _check_type(header, _JSON_NAMES, FHIR_JSON)


def check_form_type(header: str | None) -> None:
    """Refuse (415) a body that is not a form."""
    _check_type(header, frozenset({FORM}), FORM)


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


def _check_type(header: str | None, accepted: frozenset[str], wanted: str) -> None:
    media_type, options = parse_options_header(header)
    if media_type not in accepted:
        raise FhirError.of(415, "not-supported", f"a body of type {wanted} is expected", Accept=wanted)
    if options.get("charset", "utf-8").lower() not in _UTF_8:
        raise FhirError.of(415, "not-supported", "only UTF-8 is accepted as charset", Accept=wanted)
    if options.get("fhirversion", FHIR_VERSION) != FHIR_VERSION:
        raise FhirError.of(415, "not-supported", f"only fhirVersion={FHIR_VERSION} is accepted", Accept=wanted)
