"""Versions of resources, their index rows and everything that must be written with them, on SQLite or PostgreSQL."""

from relais.server.store.errors import StoreError, VersionConflictError
from relais.server.store.rows import (
    DateRow,
    IndexRow,
    QuantityRow,
    ReferenceRow,
    StringRow,
    TextRow,
    TokenRow,
    UriRow,
    fold,
)
from relais.server.store.schema import metadata
from relais.server.store.store import HistoryPage, Store, StoredVersion, Transaction

__all__ = [
    "DateRow",
    "HistoryPage",
    "IndexRow",
    "QuantityRow",
    "ReferenceRow",
    "Store",
    "StoreError",
    "StoredVersion",
    "StringRow",
    "TextRow",
    "TokenRow",
    "Transaction",
    "UriRow",
    "VersionConflictError",
    "fold",
    "metadata",
]
