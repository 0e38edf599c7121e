"""Searches on a store without HTTP: put resources, ask, list what was found."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from relais.server.search import SearchResult, index_rows, search
from relais.server.store import Store

BASE = "http://localhost/fhir"
START = datetime(2026, 1, 1, tzinfo=UTC)
_seconds = itertools.count()


def add(store: Store, *resources: dict[str, Any]) -> None:
    """Store the next version of each resource, one second apart, in one transaction."""
    with store.transaction() as transaction:
        for resource in resources:
            name = resource["resourceType"], resource["id"]
            current = transaction.read(*name)
            version = current.version + 1 if current else 1
            moment = START + timedelta(seconds=next(_seconds))
            transaction.put(*name, version, json.dumps(resource).encode(), moment, index_rows(resource, BASE))


def run(store: Store, query: str, **options: Any) -> SearchResult:
    """Search by `Type?parameters`; without type over the types of `_type`."""
    resource_type, _, parameters = query.partition("?")
    with store.snapshot() as connection:
        return search(connection, BASE, resource_type, parse_qsl(parameters), **options)


def ids(store: Store, query: str) -> list[str]:
    """Ids of the matches."""
    return [match.id for match in run(store, query).matches]


def every_page(store: Store, query: str, between: Callable[[], None] = lambda: None) -> list[str]:
    """Ids of the matches of all pages, one after the other; `between` runs before each page but the first."""
    found, page = [], None
    while True:
        result = run(store, query, page=page)
        found += [match.id for match in result.matches]
        page = result.next_page
        if page is None:
            return found
        between()
