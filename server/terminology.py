"""The terminology of a server: value sets, code systems and concept maps of its packages and of its store.

A stored resource is found by its canonical URL and by its address (`ValueSet/[id]`). Where a package defines the same
URL in the same version, the package is right. Profiles are judged by the packages alone.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from sqlalchemy import Connection, func, select

from relais.profiles.packages import Definition, Registry
from relais.profiles.terminology import POSTED, Terminology
from relais.server.store import schema

STORED_TYPES = ("CodeSystem", "ConceptMap", "ValueSet")


class ServerTerminology:
    """Gives the terminology as a connection sees it; kept until one of the stored resources changes."""

    def __init__(self, packages: Registry, base: str) -> None:
        """`base` is the FHIR base URL of the server."""
        self._packages = packages
        self._base = base
        self._lock = Lock()
        self._known: tuple[Any, ...] = ()
        self._terminology = Terminology(packages)

    def __call__(self, connection: Connection) -> Terminology:
        """The terminology now."""
        resource = schema.resource
        marks = (
            func.count(),
            func.sum(resource.c.version),
            func.max(resource.c.last_updated),
            func.max(resource.c.key),
        )
        state = tuple(connection.execute(select(*marks).where(resource.c.type.in_(STORED_TYPES))).one())
        with self._lock:
            if state[0] and state != self._known:
                self._terminology, self._known = Terminology(self._with_stored(connection)), state
            return self._terminology

    def _with_stored(self, connection: Connection) -> Registry:
        resource = schema.resource
        registry = self._packages.copy()
        stored = select(resource.c.type, resource.c.id, resource.c.content).where(
            resource.c.type.in_(STORED_TYPES), resource.c.content.is_not(None)
        )
        for resource_type, resource_id, content in connection.execute(stored.order_by(resource.c.key)):
            definition = Definition.of(bytes(content), POSTED)
            if definition.header.url:
                registry.add(definition)
            for address in (f"{resource_type}/{resource_id}", f"{self._base}/{resource_type}/{resource_id}"):
                registry.add_address(address, definition)
        return registry
