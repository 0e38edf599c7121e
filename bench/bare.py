"""The baseline of `facade.py`: a bare Flask application that answers the bytes of a file, under the same server."""

from __future__ import annotations

import sys
from pathlib import Path

from flask import Flask, Response, request

from relais.server.settings import Settings
from relais.server.wsgi import run


def main() -> None:
    """Serve the bytes of the file named on the command line."""
    content = Path(sys.argv[1]).read_bytes()
    app = Flask(__name__)

    @app.get("/fhir/<kind>/<id>")
    def read(kind: str, id: str) -> Response:
        return Response(content, content_type="application/fhir+json")

    @app.post("/fhir/<kind>")
    def create(kind: str) -> Response:
        request.get_data()
        return Response(content, 201, content_type="application/fhir+json")

    @app.get("/fhir/metadata")
    def metadata() -> Response:
        return Response(b"{}", content_type="application/fhir+json")

    run(Settings.load(), app)


if __name__ == "__main__":
    main()
