"""Cross-Origin Resource Sharing (https://fetch.spec.whatwg.org/#http-cors-protocol), off unless origins are set."""

from __future__ import annotations

from functools import partial

from flask import Flask, Response, request

_EXPOSED = "Content-Location, ETag, Last-Modified, Location, X-Progress, X-Request-Id"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = (
    "Accept, Authorization, Content-Encoding, Content-Type, If-Match, If-Modified-Since, If-None-Exist, "
    "If-None-Match, Prefer, X-Request-Id, X-Security-Context"
)
_REMEMBERED = "600"  # seconds that a browser keeps the answer to a preflight


def register(app: Flask, origins: str) -> None:
    """Let browsers on `origins` (by commas, `*` for any) call the application."""
    allowed = frozenset(origin.strip().rstrip("/") for origin in origins.split(",") if origin.strip())
    if allowed:
        app.before_request(partial(_preflight, allowed))
        app.after_request(partial(_share, allowed))


def _preflight(allowed: frozenset[str]) -> Response | None:
    """The answer to a preflight, which never reaches the facade."""
    headers = request.headers
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in headers or not _origin(allowed):
        return None
    return Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": _REMEMBERED,
        },
    )


def _share(allowed: frozenset[str], response: Response) -> Response:
    if origin := _origin(allowed):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    response.vary.add("Origin")
    return response


def _origin(allowed: frozenset[str]) -> str:
    """The Origin of the request where it is allowed, else nothing."""
    origin = request.headers.get("Origin", "")
    return origin if origin in allowed or (origin and "*" in allowed) else ""
