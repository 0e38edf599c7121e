"""What the person opposes is not shared: the Consents of the patient, asked again before every attempt.

The mapping asks them when a document is made (docs/mapping-pps.md). What is recorded afterwards stops what has not left
yet, by every channel: R4 Consent has no word for one of ours, and an exception by actor, purpose or class of data is
more than can be judged here. A denial that names resources stops the documents that were made with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime

from sqlalchemy import Connection, bindparam, literal_column, select

from relais.cda.datatypes import PARIS
from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.mappings.identity import covers
from relais.mappings.to_cda.consents import OPPOSITION_RULE, decision, is_about_sharing, names_instances, provisions
from relais.server.delivery import outbox
from relais.server.delivery.outbox import Leased
from relais.server.document_sources import CARRIERS, made_of
from relais.server.documents import IssuedDocument
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.search.sharing import index_names
from relais.server.store.schema import reference_index, resource
from relais.server.store.statements import Statement
from relais.server.store.store import to_datetime

_MAY_DENY = (b'"deny"', b"OPTOUT")
"""One of these is in the JSON of every Consent that denies anything."""
_CONSENTS = Statement(
    select(resource.c.id, resource.c.last_updated, resource.c.content)
    .distinct()
    .join(reference_index, reference_index.c.resource_key == resource.c.key)
    .where(
        reference_index.c.parameter.in_([literal_column(f"'{name}'") for name in index_names("Consent", "patient")]),
        reference_index.c.target == bindparam("patient"),
        reference_index.c.target_type == literal_column("'Patient'"),
        resource.c.content.is_not(None),
    )
)
"""As a search does, but made once: it is asked before every attempt."""


def changes(
    connection: Connection, base: str, leased: Leased, document: IssuedDocument | None, today: date
) -> tuple[Issue, ...]:
    """Why a delivery may not be tried any more: what the patient opposes by now; nothing for a withdrawal."""
    if leased.action != "send" or document is None or leased.subject is None:
        return ()
    return tuple(objections(connection, base, leased.subject, document, today, lambda: _focus(connection, leased)))


def _focus(connection: Connection, leased: Leased) -> str:
    found = outbox.order(connection, leased.task)
    return (found[0].focus or "").partition("/_history/")[0] if found else ""


def objections(
    connection: Connection, base: str, subject: str, document: IssuedDocument, today: date, ordered: Callable[[], str]
) -> Iterator[Issue]:
    """Why the patient (`Patient/[id]`) opposes that a document leaves that day.

    `ordered` says of what (`Type/[id]`): a DocumentReference may be denied by name. What a document was made without,
    because the denial stood then, is not in it.
    """
    for consent_id, updated, content in _CONSENTS.all(connection, {"patient": subject.partition("/")[2]}):
        if not any(word in content for word in _MAY_DENY):
            continue
        consent = load(content)
        if is_about_sharing(consent) and covers(consent.get("provision", {}).get("period", {}), today):
            consent["id"] = consent_id
            yield from _denials(connection, base, consent, to_datetime(updated), document, today, ordered)


def _denials(
    connection: Connection,
    base: str,
    consent: Resource,
    updated: datetime,
    document: IssuedDocument,
    today: date,
    ordered: Callable[[], str],
) -> Iterator[Issue]:
    place = f"Consent/{consent['id']}.provision"
    if decision(consent) == "deny":
        yield _opposition(place, "the person opposes sharing")
        return
    issued = document.issued.astimezone(PARIS).date()
    for provision, path in provisions(consent.get("provision", {}), place, today):
        if provision.get("type") != "deny":
            continue
        if not names_instances(provision):
            yield _opposition(path, "an exception to the agreement that cannot be judged here: the person decides")
            continue
        stood_already = updated <= document.issued and covers(provision.get("period", {}), issued)
        named = {_name(one.get("reference", {}), base) for one in provision["data"]}
        if ordered() in named or (not stood_already and named & _sources_of(connection, base, document)):
            yield _opposition(path, "the person opposes the sharing of what the document was made of")


def _name(reference: Resource, base: str) -> str:
    """`Type/[id]` of a resource of this server; of any other nothing that a document could be ordered of."""
    target = references.restful(reference.get("reference", ""))
    return f"{target[1]}/{target[2]}" if target and target[0] in ("", base) else "/"


def _sources_of(connection: Connection, base: str, document: IssuedDocument) -> set[str]:
    """The resources that a document made here hangs on; nothing of one made elsewhere or whose carrier is gone."""
    carrier = document.carrier.partition("?")[0]
    if carrier.partition("/")[0] not in CARRIERS:
        return set()
    try:
        return made_of(connection, base, carrier)
    except RelaisError:
        return {carrier}


def _opposition(place: str, message: str) -> Issue:
    return Issue("error", "business-rule", message, place, OPPOSITION_RULE)
