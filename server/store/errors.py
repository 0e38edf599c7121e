"""How the store fails: a version that moved, a lock that did not come, a database that does not answer."""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError

from relais.cda.errors import Issue, RelaisError


class StoreError(RelaisError):
    """The database cannot serve now: `lock-error` (another writer holds it) or `transient` (unreachable, full)."""


class VersionConflictError(RelaisError):
    """The version to write does not follow the current one: somebody else wrote the same resource first."""

    def __init__(self, resource_type: str, resource_id: str) -> None:
        super().__init__(
            Issue("error", "conflict", "the resource changed since it was read", f"{resource_type}/{resource_id}")
        )


_LOCKED_SQLSTATES = {
    "40001": "serialization_failure",
    "40P01": "deadlock_detected",
    "55P03": "lock_not_available",
}
_UNAVAILABLE_SQLSTATE_CLASSES = {
    "08": "connection exception",
    "53": "insufficient resources",
    "57": "operator intervention",
    "58": "system error",
}
_LOCKED_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED")
_UNAVAILABLE_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")


def locked() -> StoreError:
    """The error of a writer that waited too long for its turn."""
    return StoreError(Issue("error", "lock-error", "another writer holds the database; try again"))


def unavailable() -> StoreError:
    """The error of a database that does not answer."""
    return StoreError(Issue("error", "transient", "the database is unavailable; try again later"))


def translate_errors(engine: Engine) -> None:
    """Let what is raised through `engine` be a StoreError where the cause is a lock or an outage."""
    event.listen(engine, "handle_error", _translate)


def store_error(original: BaseException | None, *, unreachable: bool) -> StoreError | None:
    """The StoreError that a driver's error stands for, or None when it is of another kind."""
    name = getattr(original, "sqlite_errorname", None) or ""
    state = getattr(original, "sqlstate", None) or ""
    if name.startswith(_LOCKED_SQLITE) or state in _LOCKED_SQLSTATES:
        return locked()
    if unreachable or name.startswith(_UNAVAILABLE_SQLITE) or state[:2] in _UNAVAILABLE_SQLSTATE_CLASSES:
        return unavailable()
    return None


def _translate(context: ExceptionContext) -> None:
    error = context.sqlalchemy_exception
    if context.is_pre_ping or not isinstance(error, DBAPIError):  # the pool replaces what a ping finds broken
        return
    original = context.original_exception
    named = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    never_connected = not named and context.connection is None
    if refusal := store_error(original, unreachable=context.is_disconnect or never_connected):
        raise refusal from error
