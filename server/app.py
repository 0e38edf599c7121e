"""The application factory: reads settings, wires the parts, nothing else."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from flask import Flask

from relais.server import guide
from relais.server.fhir import rest
from relais.server.fhir.facade import Facade
from relais.server.settings import Settings
from relais.server.store import Store

_OPERATIONS = (
    "administration",
    "document_operations",
    "everything",
    "export",
    "from_cda_operation",
    "jobs",
    "meta_operations",
    "terminology_operations",
    "transmit_operations",
)
for _name in _OPERATIONS:
    import_module(f"relais.server.fhir.{_name}")  # registers its operations


def create_app(settings: Settings) -> Flask:
    """The WSGI application, on a store whose schema is brought up to date.

    May be made before the process forks. `app.extensions["relais"]` is its Facade. Raises RelaisError for settings
    that cannot be served.
    """
    # Nothing is read from the instance folder; said here because Flask cannot find one for a namespace package.
    app = Flask(__name__, static_folder=None, instance_path=str(Path.cwd()))
    facade = Facade(settings, Store.open(settings.database_url))
    app.extensions["relais"] = facade
    rest.register(app, facade)
    guide.register(app, settings.guide_site)
    return app
