"""Erasing by hand what worker and mailbox erase by themselves when its retention is over: `relais clean-up`."""

from __future__ import annotations

from relais.server.delivery import evidence, mail_inbox, retention
from relais.server.fhir.repository import Repository
from relais.server.settings import Settings


def clean_up(repository: Repository, settings: Settings, *, clock_is_right: bool) -> dict[str, int | None]:
    """How many exchanges and mails lost their bytes; None where the clock is not believed."""
    kinds = (
        (retention.of_evidence(settings), evidence.forget),
        (retention.of_mails(settings), mail_inbox.forget),
    )
    erased: dict[str, int | None] = {}
    now = repository.clock()
    with repository.transaction() as transaction:
        for kept, forget in kinds:
            limit = kept.limit_at_once(transaction.connection, now, clock_is_right=clock_is_right)
            erased[kept.kind] = None if limit is None else forget(transaction.connection, limit)
    return erased
