"""Make the index rows of stored resources again, after search parameters or their normalisation changed."""

from __future__ import annotations

from collections.abc import Callable

from relais.server.search.indexer import index_rows
from relais.server.search.waiting import indexed
from relais.server.store import Store

_BATCH = 200  # resources in one transaction: other writers get their turn in between


def reindex(
    store: Store,
    base: str,
    load: Callable[[bytes], dict[str, object]],
    *,
    resource_type: str | None = None,
    progress: Callable[[int], None] = lambda _count: None,
) -> int:
    """Rebuild the index rows of every current resource (of one type); gives their number.

    `load` parses a stored content, `base` is the server's own base URL, `progress` is told the number done after each
    batch. Can be stopped and started again at any time; searches go on meanwhile.
    """
    done, key = 0, 0
    while True:
        with store.transaction() as transaction:
            batch = transaction.scan(after=key, limit=_BATCH, resource_type=resource_type)
            for version in batch:
                content = version.content
                transaction.reindex(version.key, index_rows(load(content), base) if content is not None else ())
        if not batch:
            indexed(store, resource_type)
            return done
        done, key = done + len(batch), batch[-1].key
        progress(done)
