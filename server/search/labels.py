"""Which profiles, tags and security labels resources have now: what `$meta` on a type or on the system asks."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from relais.server.search.parameters import index_name
from relais.server.store.schema import token_index, uri_index


def labels_in_use(connection: Connection, resource_types: Iterable[str], parameter: str) -> list[tuple[str, str]]:
    """The distinct (system, code) of `_tag` or `_security`, sorted."""
    table = token_index.c
    wanted = [index_name(resource_type, parameter) for resource_type in resource_types]
    found = connection.execute(select(table.system, table.code).where(table.parameter.in_(wanted)).distinct())
    return sorted((system, code) for system, code in found)


def profiles_in_use(connection: Connection, resource_types: Iterable[str]) -> list[str]:
    """The distinct URLs of `_profile`, sorted."""
    table = uri_index.c
    wanted = [index_name(resource_type, "_profile") for resource_type in resource_types]
    return sorted(connection.scalars(select(table.uri).where(table.parameter.in_(wanted)).distinct()))
