"""Serves the built implementation guide under `/ig`: static files and nothing else. `python -m ig` builds it."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from flask import Flask, Response, send_from_directory
from werkzeug.exceptions import NotFound

_HEADERS = {
    "Cache-Control": "public, max-age=300",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".json": "application/fhir+json",
    ".tgz": "application/gzip",
}
_PAGE = (
    '<!doctype html><html lang="fr"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title><h1>{title}</h1><p>{words}</p></html>"
)
_ABSENT = _PAGE.format(
    title="Le guide n'est pas construit",
    words=(
        "Ce serveur n'a pas de guide d'implémentation à montrer. La commande <code>./run guide</code> le construit ; "
        "le réglage <code>guide_folder</code> dit où il se trouve."
    ),
)
_UNKNOWN = _PAGE.format(
    title="Page inconnue", words='Elle n\'est pas dans le guide. <a href="/ig/">Accueil du guide</a>'
)


def register(app: Flask, folder: Path) -> None:
    """Serve the site in `folder` under `/ig`. It may be built, or built again, while the facade runs."""

    def show(path: str) -> Response:
        return _file(folder.resolve(), path)

    # The links of the site are relative: without its last slash the address of its front page would mislead them.
    app.add_url_rule("/ig", "ig", lambda: Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": "ig/"}))
    app.add_url_rule("/ig/", "ig front page", lambda: show("index.html"), strict_slashes=True)
    app.add_url_rule("/ig/<path:path>", "ig page", show)


def _file(folder: Path, path: str) -> Response:
    media_type = _TYPES.get(Path(path).suffix)
    if media_type is None or path.endswith("/"):
        return _missing(folder)
    try:
        response = send_from_directory(folder, path, mimetype=media_type)
    except NotFound:
        return _missing(folder)
    response.headers.update(_HEADERS)
    return response


def _missing(folder: Path) -> Response:
    words = _UNKNOWN if (folder / "index.html").is_file() else _ABSENT
    return Response(words, HTTPStatus.NOT_FOUND, {"Cache-Control": "no-store"}, mimetype=_TYPES[".html"])
