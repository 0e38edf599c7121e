"""Search parameters to index rows, query string to SQL (FHIR R4 §3.1.1)."""

from relais.server.search.errors import SearchError
from relais.server.search.indexer import index_rows
from relais.server.search.parameters import declare, parameters
from relais.server.search.reindex import reindex
from relais.server.search.search import SearchResult, explain, search
from relais.server.search.waiting import settle

__all__ = [
    "SearchError",
    "SearchResult",
    "declare",
    "explain",
    "index_rows",
    "parameters",
    "reindex",
    "search",
    "settle",
]
