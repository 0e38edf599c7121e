"""Run a search: matches of one page, what is included with them, and where the next page starts.

FHIR R4 §3.1.1. Pages follow the order of creation unless a sort is asked for. They are cut by key, not by number: what
others write meanwhile neither repeats nor hides a resource that matches throughout (in the order of `_lastUpdated` an
update moves a resource, as it should).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Connection

from relais.cda.errors import Issue
from relais.profiles import definitions
from relais.server.search import sql
from relais.server.search.errors import SearchError
from relais.server.search.parameters import index_name, parameters
from relais.server.search.parser import parse_query
from relais.server.search.query import Include, Query
from relais.server.search.terminological import TerminologySource
from relais.server.search.waiting import look_again
from relais.server.store import StoredVersion
from relais.server.store.store import resource_columns, secret, stored_version

_MAXIMUM_INCLUDED = 5000
_MAXIMUM_ROUNDS = 10  # of `:iterate`
_PAGE_LIFETIME = 24 * 3600  # seconds
_PAGE_FORMAT = 2  # counted up when pages are written otherwise: those of before an upgrade are refused


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page. `total` is None when it was not asked for and the page does not tell it.

    `next_page` and `previous_page` are the `page` arguments of the pages around it, None at the ends; `applied` are the
    pairs that were understood, for the self link; `issues` say what a lenient search ignored.
    """

    matches: list[StoredVersion]
    includes: list[StoredVersion]
    total: int | None
    next_page: str | None
    previous_page: str | None
    applied: tuple[tuple[str, str], ...]
    issues: list[Issue] = field(default_factory=list)


def search(
    connection: Connection,
    base: str,
    resource_type: str,
    pairs: Iterable[tuple[str, str]],
    *,
    strict: bool = True,
    page: str | None = None,
    within: tuple[str, str] | None = None,
    terminology: TerminologySource | None = None,
) -> SearchResult:
    """Search resources of one type, or, when it is empty, of those that `_type` names.

    `connection` is a snapshot of the store, or a transaction's own, `base` the server's own base URL, `pairs` the
    decoded query without `_format` and `_pretty`, `page` the `next_page` of the same query, `within` the
    type and id of the resource in whose compartment the matches must be; `terminology` is what `:in` and its like are
    read by. Raises SearchError.
    """
    look_again(connection)
    codes = partial(terminology, connection) if terminology else None
    query, ignored = parse_query(resource_type, pairs, base, strict=strict, within=within, terminology=codes)
    backwards, after = _decode_page(connection, page, query) if page else (False, None)
    statement = sql.page_statement(query, after, connection.dialect.name, backwards=backwards)
    rows = list(connection.execute(statement)) if query.count else []
    more = len(rows) > query.count
    rows = rows[: query.count][:: -1 if backwards else 1]
    matches = [stored_version(row[: len(resource_columns)]) for row in rows]
    # A page that was reached from the one behind it has that one behind it, and the other way round.
    follows, precedes = (True, more) if backwards else (more, page is not None)
    return SearchResult(
        matches=matches,
        includes=_included(connection, query, matches),
        total=_total(connection, query, len(matches) if query.count and not more and after is None else None),
        next_page=_encode_page(connection, query, rows[-1], backwards=False) if rows and follows else None,
        previous_page=_encode_page(connection, query, rows[0], backwards=True) if rows and precedes else None,
        applied=query.applied,
        issues=ignored,
    )


def explain(connection: Connection, base: str, resource_type: str, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """How a query is read (`tree`), what it becomes (`sql`), and how the database would run it (`plan`).

    The tree and the statement hold the values asked for: not for logs. Raises SearchError.
    """
    query, _ = parse_query(resource_type, pairs, base)
    statement = sql.page_statement(query, None, connection.dialect.name)
    compiled = statement.compile(connection, compile_kwargs={"render_postcompile": True})
    command = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    parameters = compiled.params if compiled.positiontup is None else [compiled.params[n] for n in compiled.positiontup]
    bound = parameters if isinstance(parameters, dict) else tuple(parameters)
    plan = connection.exec_driver_sql(f"{command} {compiled}", bound)
    return {"tree": query, "sql": str(compiled), "plan": [str(row[-1]) for row in plan]}


def _total(connection: Connection, query: Query, known: int | None) -> int | None:
    if known is not None or query.total == "none":
        return known
    return connection.scalar(sql.count_statement(query, connection.dialect.name))


# --- Included resources -----------------------------------------------------------------------------------------------


def _included(connection: Connection, query: Query, matches: list[StoredVersion]) -> list[StoredVersion]:
    """Resources that the includes add, each once and never a match.

    An include whose source is not the searched type can only mean resources that another include adds, so it is
    applied to those even without `:iterate`.
    """
    found: dict[int, StoredVersion] = {}
    known = {match.key for match in matches}
    latest, includes = matches, query.includes
    for _ in range(_MAXIMUM_ROUNDS):
        added = {
            version.key: version
            for include in includes
            for version in _step(connection, include, latest)
            if version.key not in known
        }
        found |= added
        known |= added.keys()
        if len(found) > _MAXIMUM_INCLUDED:
            raise SearchError(Issue("error", "too-costly", f"more than {_MAXIMUM_INCLUDED} included resources"))
        latest = list(added.values())
        includes = tuple(include for include in query.includes if _goes_on(include, query.types))
        if not latest or not includes:
            break
    return list(found.values())


def _goes_on(include: Include, searched: tuple[str, ...]) -> bool:
    if include.iterate:
        return True
    return not include.reverse and include.source is not None and include.source not in searched


def _step(connection: Connection, include: Include, resources: list[StoredVersion]) -> list[StoredVersion]:
    if include.reverse:
        wanted = [resource for resource in resources if include.target in (None, resource.type)]
        indexes = _reference_indexes({include.source} if include.source else set(), include.code)
        statement = sql.referring_statement([(resource.type, resource.id) for resource in wanted], indexes)
    else:
        wanted = [resource for resource in resources if include.source in (None, resource.type)]
        indexes = _reference_indexes({resource.type for resource in wanted}, include.code)
        statement = sql.referred_statement([resource.key for resource in wanted], indexes, include.target)
    if not wanted or not indexes:
        return []
    return [stored_version(row) for row in connection.execute(statement)]


def _reference_indexes(resource_types: set[str], code: str | None) -> list[str]:
    return [
        index_name(resource_type, parameter.code)
        for resource_type in sorted(resource_types & definitions.resource_types())
        for parameter in parameters(resource_type).values()
        if parameter.type == "reference" and code in (None, parameter.code)
    ]


# --- Pages ------------------------------------------------------------------------------------------------------------


def _encode_page(connection: Connection, query: Query, row: Any, *, backwards: bool) -> str:
    """The page behind a row, or before it: encrypted, because sort keys may be names, and bound to the query."""
    place = [_digest(query), backwards, *sql.position(query, row)]
    return _pages(connection).encrypt(msgspec.json.encode(place)).decode().rstrip("=")


def _decode_page(connection: Connection, page: str, query: Query) -> tuple[bool, tuple[Any, ...]]:
    pages = _pages(connection)
    token = page.encode(errors="replace") + b"=" * (-len(page) % 4)
    try:
        digest, backwards, *position = msgspec.json.decode(pages.decrypt(token))
        made = pages.extract_timestamp(token)
    except (InvalidToken, ValueError):
        raise SearchError(Issue("error", "value", "not a page of this search", "_page")) from None
    if digest != _digest(query):
        raise SearchError(Issue("error", "value", "not a page of this search", "_page"))
    if time.time() - made > _PAGE_LIFETIME:
        raise SearchError(Issue("error", "expired", "this page is too old: search again", "_page"))
    return backwards, tuple(position)


def _digest(query: Query) -> str:
    """What makes a query the same search: all of it, except how much of it a page shows."""
    said = repr((_PAGE_FORMAT, query.types, query.criteria, query.sort))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _pages(connection: Connection) -> Fernet:
    return Fernet(secret(connection, "pages"))
