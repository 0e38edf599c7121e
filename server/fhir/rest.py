"""HTTP in and out of the facade: Flask routes made from the registry, headers to Calls, Replies to responses.

FHIR R4 §3.1.0. Nothing here decides anything about resources.
"""

from __future__ import annotations

import logging
import re
import traceback
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qsl

from flask import Blueprint, Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump, parse, pretty
from relais.server.fhir.negotiation import (
    CONTENT_TYPE,
    check_accept,
    check_body_type,
    check_form_type,
    etag,
    http_date,
    parse_prefer,
)
from relais.server.fhir.operations import OPERATIONS, Operation
from relais.server.fhir.outcome import FhirError, operation_outcome, status_of
from relais.server.fhir.registry import SEGMENTS, Interaction

_log = logging.getLogger(__name__)
_GENERAL_PARAMETERS = frozenset({"_format", "_pretty"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_RETRY_AFTER = "2"  # seconds, for a client that met a busy or absent database
_HTTP_ISSUE_CODES = {404: "not-found", 405: "not-supported", 413: "too-long", 415: "not-supported"}


class FhirResponse(Response):
    """A response whose media type is always said, and whose Location stays as it is written."""

    default_mimetype = None
    autocorrect_location_header = False


def register(app: Flask, facade: Facade) -> None:
    """Serve the facade under `/fhir`: its interactions, its operations, and every error as an OperationOutcome."""
    app.response_class = FhirResponse
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = facade.settings.max_body
    app.url_map.converters |= {name: _converter(name, expression) for name, expression in SEGMENTS.items()}
    blueprint = Blueprint("fhir", __name__, url_prefix="/fhir")
    for interaction in facade.registry.interactions:
        _route(blueprint, interaction.path, [interaction.method], partial(_interact, facade, interaction))
    for offered in OPERATIONS:
        _route_operation(blueprint, facade, offered)
    app.register_blueprint(blueprint)
    app.register_error_handler(RelaisError, _refused)
    app.register_error_handler(HTTPException, _refused_by_http)
    app.register_error_handler(Exception, _failed)
    app.after_request(_finish)


def _interact(facade: Facade, interaction: Interaction, **segments: str) -> Response:
    """The view of every interaction."""
    call = _call(facade, segments)
    if interaction.takes_body:
        call.body = _body(facade)
    elif call.method == "POST":
        call.query = _form(facade, call.query)
    if call.query and not interaction.takes_query:
        _refuse_parameters(call.query)
    return _response(facade, interaction.perform(facade.repository, call))


def _operate(facade: Facade, offered: Operation, **segments: str) -> Response:
    """The view of every operation."""
    call = _call(facade, segments, offered.produces)
    if call.method == "POST" and _has_body():
        call.body = _body(facade)
    return _response(facade, offered.run(facade, call))


def _call(facade: Facade, segments: dict[str, str], produces: Iterable[str] = ()) -> Call:
    environ = request.environ
    facade.registry.check_type(segments.get("resource_type"))
    query: str = environ.get("QUERY_STRING", "")
    check_accept(environ.get("HTTP_ACCEPT"), _parameter(query, "_format"), produces)
    return Call(
        environ["REQUEST_METHOD"],
        segments.get("resource_type", ""),
        segments.get("id", ""),
        segments.get("version", ""),
        query=query,
        if_match=environ.get("HTTP_IF_MATCH"),
        if_none_match=environ.get("HTTP_IF_NONE_MATCH"),
        if_modified_since=environ.get("HTTP_IF_MODIFIED_SINCE"),
        if_none_exist=environ.get("HTTP_IF_NONE_EXIST"),
        accept=environ.get("HTTP_ACCEPT", ""),
        prefer=parse_prefer(environ.get("HTTP_PREFER")),
    )


def _body(facade: Facade) -> Resource:
    check_body_type(request.environ.get("CONTENT_TYPE"))
    data = _read(facade)
    if not data:
        raise FhirError.of(400, "required", "a resource is expected as body")
    return parse(data, facade.settings.max_depth)


def _read(facade: Facade) -> bytes:
    """The whole body. What Werkzeug cuts off in silence (a chunked body at the limit, a lost client) is refused."""
    data = request.get_data(cache=False)
    announced = request.content_length
    if announced is None and len(data) >= facade.settings.max_body:
        raise RequestEntityTooLarge
    if announced is not None and len(data) < announced:
        raise FhirError.of(400, "incomplete", "the body is shorter than its Content-Length")
    return data


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


def _refuse_parameters(query: str) -> None:
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name not in _GENERAL_PARAMETERS:
            raise FhirError.of(400, "not-supported", f"the parameter {name[:64]} is not offered here")


def _parameter(query: str, name: str) -> str | None:
    return dict(parse_qsl(query)).get(name) if name in query else None


def _response(facade: Facade, reply: Reply) -> Response:
    body = reply.body
    if body and reply.content_type == CONTENT_TYPE and _parameter(request.environ["QUERY_STRING"], "_pretty") == "true":
        body = pretty(body)
    response = FhirResponse(body, reply.status)
    headers = response.headers
    if body:
        headers["Content-Type"] = reply.content_type
    if reply.version is not None:
        headers["ETag"] = etag(reply.version)
    if reply.last_updated is not None:
        headers["Last-Modified"] = http_date(reply.last_updated)
    if reply.location:
        headers["Location"] = f"{facade.settings.fhir_base}/{reply.location}"
    return response


def _route(blueprint: Blueprint, path: str, methods: list[str], view: Callable[..., Response]) -> None:
    rule = re.sub(r"<(\w+)>", r"<\1:\1>", path)
    blueprint.add_url_rule(rule, f"{','.join(methods)} {path}", view, methods=methods, provide_automatic_options=False)


def _route_operation(blueprint: Blueprint, facade: Facade, offered: Operation) -> None:
    for resource_type in offered.resource_types:
        view = partial(_operate, facade, offered, resource_type=resource_type)
        _route(blueprint, offered.path.replace("<resource_type>", resource_type), list(offered.methods), view)
    if not offered.resource_types:
        _route(blueprint, offered.path, list(offered.methods), partial(_operate, facade, offered))


def _converter(name: str, expression: str) -> type[BaseConverter]:
    return type(name, (BaseConverter,), {"regex": expression})


def _outcome(status: int, issues: Iterable[Issue], headers: Iterable[tuple[str, str]] = ()) -> Response:
    response = FhirResponse(dump(operation_outcome(issues)), status, headers)
    response.headers["Content-Type"] = CONTENT_TYPE
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
    """A bug. The log gets the place, not the message: messages of libraries quote values."""
    place = "".join(traceback.format_tb(error.__traceback__))
    _log.error("request %s failed: %s\n%s", _request_id(), type(error).__name__, place)
    issue = Issue("fatal", "exception", f"internal error; request {_request_id()}")
    return _outcome(HTTPStatus.INTERNAL_SERVER_ERROR, [issue])


def _finish(response: Response) -> Response:
    headers = response.headers
    headers["X-Request-Id"] = _request_id()
    headers["Cache-Control"] = "no-store"
    headers["Vary"] = "Accept"
    return response


def _request_id() -> str:
    environ = request.environ
    known: str | None = environ.get("relais.request_id")
    if known is None:
        given: str = environ.get("HTTP_X_REQUEST_ID", "")
        known = environ["relais.request_id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return known
