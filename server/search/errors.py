"""What can be wrong with a search or with the definition of a search parameter."""

from __future__ import annotations

from relais.cda.errors import RelaisError


class SearchError(RelaisError):
    """A query that cannot be served as written. Each issue names the parameter as path, and why."""


class UnsupportedExpressionError(Exception):
    """An expression outside the part of FHIRPath that search parameters are served with; the message says where."""
