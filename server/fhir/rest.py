"""HTTP in and out of the facade: the registry finds what is asked for, headers become Calls, Replies responses.

FHIR R4 §3.1.0. Nothing here decides anything about resources.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Collection, Iterable
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qsl

from flask import Flask, Response, request, send_file
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.http import parse_options_header

from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.server.faults import described
from relais.server.fhir import binaries, cross_origin, json_format, patches, xml_format
from relais.server.fhir.encodings import SMALLEST, accepts_gzip, compressed, decoded
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump
from relais.server.fhir.negotiation import (
    CONTENT_TYPE,
    CONTENT_TYPE_XML,
    FHIR_JSON,
    FHIR_XML,
    Format,
    answer_format,
    body_format,
    check_form_type,
    etag,
    http_date,
    is_raw_binary,
    parse_prefer,
    preferred_language,
    wants_native,
)
from relais.server.fhir.operations import Operation
from relais.server.fhir.outcome import FhirError, operation_outcome, status_of
from relais.server.fhir.parameters import GENERAL
from relais.server.fhir.registry import Interaction

_log = logging.getLogger(__name__)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_ACCEPT_PATCH = ", ".join((patches.JSON_PATCH, patches.XML_PATCH, patches.MERGE_PATCH, FHIR_JSON, FHIR_XML))
_RETRY_AFTER = "2"  # seconds, for a client that met a busy or absent database
_HTTP_ISSUE_CODES = {404: "not-found", 405: "not-supported", 413: "too-long", 415: "not-supported"}


class FhirResponse(Response):
    """A response whose media type is always said, and whose Location stays as it is written."""

    default_mimetype = None
    autocorrect_location_header = False


def register(app: Flask, facade: Facade) -> None:
    """Serve the facade under `/fhir`: all that its registry names, and every error as an OperationOutcome."""
    app.response_class = FhirResponse
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = facade.settings.max_body
    view = partial(_serve, facade)
    for rule in ("/fhir/", "/fhir/<path:path>"):
        app.add_url_rule(rule, rule, view, methods=_METHODS, provide_automatic_options=False)
    app.register_error_handler(RelaisError, _refused)
    app.register_error_handler(HTTPException, _refused_by_http)
    app.register_error_handler(Exception, _failed)
    app.after_request(_compressed)
    cross_origin.register(app, facade.settings.cors_origins)


def _serve(facade: Facade, path: str = "") -> Response:
    """The one view: what the address names is in the registry, not in Flask's URL map."""
    found, segments = facade.registry.find(request.environ["REQUEST_METHOD"], path.removesuffix("/"))
    call = _call(segments)
    if isinstance(found, Operation):
        reply = _operate(facade, found, call)
    elif call.resource_type == "Binary" and not found.writes:
        reply = _read_binary(facade, found, call)
    else:
        reply = _interact(facade, found, call)
    return _response(facade, call, reply)


def _interact(facade: Facade, interaction: Interaction, call: Call) -> Reply:
    _negotiate(call)
    if interaction.takes_body:
        call.body = _body(facade, call)
    elif interaction.takes_patch:
        _take_patch(facade, call)
    elif call.method == "POST":
        call.query = _form(facade, call.query)
        _negotiate(call)
    if call.query and not interaction.takes_query:
        _refuse_parameters(call.query, interaction.parameters)
    return interaction.perform(facade.repository, call)


def _read_binary(facade: Facade, interaction: Interaction, call: Call) -> Reply:
    """Binary is the one type whose content may be the answer: what is accepted depends on what is stored."""
    if interaction.code not in ("read", "vread"):
        return _interact(facade, interaction, call)
    _refuse_parameters(call.query, interaction.parameters)
    reply = interaction.perform(facade.repository, call)
    native = binaries.native(reply)
    if native and wants_native(call.accept, _parameter(call.query, "_format"), native.content_type):
        return native
    _negotiate(call)
    return reply


def _operate(facade: Facade, offered: Operation, call: Call) -> Reply:
    _negotiate(call, offered.produces)
    if call.method == "POST" and _has_body():
        content_type: str = request.environ.get("CONTENT_TYPE", "")
        raw = parse_options_header(content_type)[0] in offered.consumes
        call.body = binaries.of_content(_read(facade), content_type, "", None) if raw else _body(facade, call)
    return offered.run(facade, call)


def _call(segments: dict[str, str]) -> Call:
    environ = request.environ
    return Call(
        environ["REQUEST_METHOD"],
        segments.get("resource_type", ""),
        segments.get("id", ""),
        segments.get("version", ""),
        segments.get("compartment", ""),
        segments.get("file", ""),
        environ.get("QUERY_STRING", ""),
        if_match=environ.get("HTTP_IF_MATCH"),
        if_none_match=environ.get("HTTP_IF_NONE_MATCH"),
        if_modified_since=environ.get("HTTP_IF_MODIFIED_SINCE"),
        if_none_exist=environ.get("HTTP_IF_NONE_EXIST"),
        accept=environ.get("HTTP_ACCEPT", ""),
        prefer=parse_prefer(environ.get("HTTP_PREFER")),
        language=preferred_language(environ.get("HTTP_ACCEPT_LANGUAGE")),
    )


def _negotiate(call: Call, produces: Iterable[str] = ()) -> None:
    """Settle how the answer is written. Raises FhirError 406."""
    call.format = answer_format(call.accept or None, _parameter(call.query, "_format"), produces)
    call.pretty = _parameter(call.query, "_pretty") == "true"


def _body(facade: Facade, call: Call) -> Resource:
    content_type: str = request.environ.get("CONTENT_TYPE", "")
    if call.resource_type == "Binary" and is_raw_binary(content_type):
        context = request.environ.get("HTTP_X_SECURITY_CONTEXT")
        return binaries.of_content(_read(facade), content_type, call.id, context)
    return _resource(facade, content_type)


def _resource(facade: Facade, content_type: str) -> Resource:
    written_as = body_format(content_type)
    data = _read(facade)
    if not data:
        raise FhirError.of(400, "required", "a resource is expected as body")
    parse = xml_format.parse if written_as == "xml" else json_format.parse
    return parse(data, facade.settings.max_depth)


def _take_patch(facade: Facade, call: Call) -> None:
    """A patch in its own media type, or as a Parameters resource."""
    content_type: str = request.environ.get("CONTENT_TYPE", "")
    if patches.is_patch_type(content_type):
        call.patch = patches.of_content(_read(facade), content_type, facade.settings.max_depth)
        return
    if parse_options_header(content_type)[0] == "application/json":
        value = json_format.parse_value(_read(facade), facade.settings.max_depth)
        if isinstance(value, dict) and value.get("resourceType") == "Parameters":
            call.body = value
        else:
            call.patch = patches.merge(value)
        return
    try:
        call.body = _resource(facade, content_type)
    except FhirError as error:
        if error.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            error.headers = {**error.headers, "Accept-Patch": _ACCEPT_PATCH}
        raise
    if call.body.get("resourceType") != "Parameters":
        message = f"a patch is {patches.JSON_PATCH}, {patches.XML_PATCH} or a Parameters resource"
        raise FhirError.of(400, "invalid", message, "resourceType")


def _read(facade: Facade) -> bytes:
    """The whole body. What Werkzeug cuts off in silence (a chunked body at the limit, a lost client) is refused."""
    data = request.get_data(cache=False)
    announced, limit = request.content_length, facade.settings.max_body
    if announced is None and len(data) >= limit:
        raise RequestEntityTooLarge
    if announced is not None and len(data) < announced:
        raise FhirError.of(400, "incomplete", "the body is shorter than its Content-Length")
    return decoded(data, request.environ.get("HTTP_CONTENT_ENCODING", ""), limit)


def _has_body() -> bool:
    return bool(request.content_length) or request.environ.get("HTTP_TRANSFER_ENCODING") is not None


def _form(facade: Facade, query: str) -> str:
    """The parameters of a POST _search: those of the address and those of the form."""
    if not _has_body():
        return query
    check_form_type(request.environ.get("CONTENT_TYPE"))
    try:
        form = _read(facade).decode("ascii")
    except UnicodeDecodeError as error:
        raise FhirError.of(400, "structure", "the form is not percent-encoded") from error
    return f"{query}&{form}" if query else form


def _refuse_parameters(query: str, offered: Collection[str]) -> None:
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name not in GENERAL and name not in offered:
            raise FhirError.of(400, "not-supported", f"the parameter {name[:64]} is not offered here", name[:64])


def _parameter(query: str, name: str) -> str | None:
    return dict(parse_qsl(query)).get(name) if name in query else None


def _response(facade: Facade, call: Call, reply: Reply) -> Response:
    body, content_type = reply.body, reply.content_type
    if body and content_type == CONTENT_TYPE:
        body, content_type = _written(body, call.format, pretty=call.pretty)
    headers = _headers()
    if body:
        headers.append(("Content-Type", content_type))
    if reply.version is not None:
        headers.append(("ETag", etag(reply.version)))
    if reply.last_updated is not None:
        headers.append(("Last-Modified", http_date(reply.last_updated)))
    if reply.location:
        headers.append(("Location", f"{facade.settings.fhir_base}/{reply.location}"))
    headers.extend(reply.headers)
    if reply.file is not None:
        response: Response = send_file(reply.file, reply.content_type, conditional=True)
        response.headers.extend(headers)
        return response
    return FhirResponse(body, reply.status, headers)


def _written(resource: bytes, wanted: Format, *, pretty: bool) -> tuple[bytes, str]:
    """A resource in the wanted format, and its Content-Type; `resource` is JSON."""
    if wanted == "xml":
        return xml_format.from_json(resource, pretty=pretty), CONTENT_TYPE_XML
    return json_format.pretty(resource) if pretty else resource, CONTENT_TYPE


def _headers() -> list[tuple[str, str]]:
    """The headers of every answer."""
    return [
        ("Cache-Control", "no-store"),
        ("Vary", "Accept, Accept-Encoding, Accept-Language"),
        ("X-Request-Id", _request_id()),
    ]


def _outcome(status: int, issues: Iterable[Issue], headers: Iterable[tuple[str, str]] = ()) -> Response:
    environ = request.environ
    try:
        query: str = environ.get("QUERY_STRING", "")
        wanted = answer_format(environ.get("HTTP_ACCEPT"), _parameter(query, "_format"))
    except FhirError:
        wanted = "json"
    body, content_type = _written(dump(operation_outcome(issues)), wanted, pretty=False)
    return FhirResponse(body, status, [*_headers(), ("Content-Type", content_type), *headers])


def _compressed(response: Response) -> Response:
    """The response under gzip, where the client reads it and it is worth it."""
    if not accepts_gzip(request.environ.get("HTTP_ACCEPT_ENCODING")):
        return response
    length = response.content_length or 0
    if length >= SMALLEST and response.status_code == HTTPStatus.OK and not response.direct_passthrough:
        response.set_data(compressed(response.get_data()))
        response.headers["Content-Encoding"] = "gzip"
    return response


def _refused(error: RelaisError) -> Response:
    status = status_of(error)
    headers = dict(error.headers) if isinstance(error, FhirError) else {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", _RETRY_AFTER)
    return _outcome(status, error.issues, headers.items())


def _refused_by_http(error: HTTPException) -> Response:
    """What Flask refuses by itself: unknown address, method not offered, body too large or cut short."""
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    issue = Issue("error", _HTTP_ISSUE_CODES.get(status, "invalid"), HTTPStatus(status).phrase)
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return _outcome(status, [issue], headers)


def _failed(error: Exception) -> Response:
    """A bug."""
    _log.error("request %s failed: %s", _request_id(), described(error))
    issue = Issue("fatal", "exception", f"internal error; request {_request_id()}")
    return _outcome(HTTPStatus.INTERNAL_SERVER_ERROR, [issue])


def _request_id() -> str:
    environ = request.environ
    known: str | None = environ.get("relais.request_id")
    if known is None:
        given: str = environ.get("HTTP_X_REQUEST_ID", "")
        known = environ["relais.request_id"] = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    return known
