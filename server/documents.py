"""Documents issued for stored care plans: which bytes, under which id, as which version of their lineage.

A document is issued once per state of its sources: asking again while nothing has changed gives the same bytes; after
a change the next version, which replaces the last one issued (CI-SIS Structuration minimale: id, setId, versionNumber,
relatedDocument). The bytes are kept: they are what is validated, hashed, sent and owed to a later replacement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, Integer, LargeBinary, Row, Table, insert, select

from relais.cda.errors import Issue, RelaisError
from relais.cda.model import II
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import Deployment, DocumentVersion, Emission, Mapped, Resource
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda.pps import pps_document
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.fhir.repository import Transaction, existing
from relais.server.search import search
from relais.server.store.schema import Bytewise, metadata
from relais.server.store.store import StoredVersion, read_current, to_datetime, to_microseconds

PARIS = ZoneInfo("Europe/Paris")

document_table = Table(
    "issued_document",
    metadata,
    Column("id", Bytewise, primary_key=True),  # root of ClinicalDocument/id
    Column("lineage", Bytewise, nullable=False),  # root of ClinicalDocument/setId
    Column("version", Integer, nullable=False),
    Column("carrier", Bytewise, nullable=False),  # CarePlan/[id]; empty: made elsewhere
    Column("sources", Bytewise, nullable=False),  # SHA-256 of the source versions and of the emitter's settings
    Column("content", LargeBinary, nullable=False),
    Column("issues", LargeBinary, nullable=False),  # JSON of the mapping's issues
    Column("issued", BigInteger, nullable=False),
)
Index("issued_document_by_carrier", document_table.c.carrier, document_table.c.version)

# What belongs to a plan without being referenced from it: (type, search parameter, what the parameter points to).
_BACK_LINKS = (
    ("RelatedPerson", "patient", "Patient"),
    ("Consent", "patient", "Patient"),
    ("Coverage", "beneficiary", "Patient"),
    ("Observation", "focus", "Goal"),
    ("Provenance", "target", "CarePlan"),
)
# Resources that tell who somebody is: what they point to is another matter than the plan.
_LEAVES = frozenset({"Location", "Coverage", "Binary", "Task", "Encounter", "DocumentReference"})
_MOST_SOURCES = 1_000


@dataclass(frozen=True, slots=True)
class IssuedDocument:
    """One issued document: `content` is exactly what is sent; `carrier` is `CarePlan/[id]`.

    `issues` is what the mapping wanted said (warnings, information).
    """

    id: str
    lineage: str
    version: int
    carrier: str
    content: bytes
    issues: tuple[Issue, ...]
    issued: datetime


@dataclass(frozen=True, slots=True)
class Sources:
    """A plan and everything of it, as stored; `fingerprint` changes when any of it does."""

    care_plan: Resource
    resources: ResourceSet
    fingerprint: str


def gather(connection: Connection, base: str, care_plan_id: str, deployment: Deployment) -> Sources:
    """The plan, what it references (and so on), and what is recorded about it and its patient.

    Read twice until both readings agree: on PostgreSQL others may commit between two reads of one transaction.
    Raises FhirError 404 or 410 when there is no such plan.
    """
    sources = _gather(connection, base, care_plan_id, deployment)
    while (again := _gather(connection, base, care_plan_id, deployment)).fingerprint != sources.fingerprint:
        sources = again
    return sources


def _gather(connection: Connection, base: str, care_plan_id: str, deployment: Deployment) -> Sources:
    plan = f"CarePlan/{care_plan_id}"
    found = {plan: existing(read_current(connection, "CarePlan", care_plan_id), "CarePlan", care_plan_id)}
    parsed: dict[str, Resource] = {}
    waiting = [plan]
    while waiting and len(found) <= _MOST_SOURCES:
        name = waiting.pop()
        parsed[name] = load(found[name].content or b"")
        for stored in _linked(connection, base, name, parsed[name]):
            linked = f"{stored.type}/{stored.id}"
            if linked not in found and stored.type != "CarePlan" and not stored.deleted:
                found[linked] = stored
                waiting.append(linked)
    versions = "\n".join(sorted(f"{name}/{stored.version}" for name, stored in found.items()))
    fingerprint = hashlib.sha256(f"{versions}\n{deployment!r}".encode()).hexdigest()
    return Sources(parsed[plan], ResourceSet.of(parsed[name] for name in sorted(parsed)), fingerprint)


def _linked(connection: Connection, base: str, name: str, resource: Resource) -> Iterator[StoredVersion]:
    resource_type = name.partition("/")[0]
    if resource_type in _LEAVES:
        return
    for reference in sorted(references.of(resource)):
        target = references.restful(reference)
        if target and target[0] in ("", base) and (stored := read_current(connection, target[1], target[2])):
            yield stored
    for back_type, parameter, pointed_type in _BACK_LINKS:
        if pointed_type == resource_type:
            wanted = [(parameter, name), ("_count", str(_MOST_SOURCES))]
            yield from search(connection, base, back_type, wanted).matches


def last_issued(connection: Connection, carrier: str) -> tuple[IssuedDocument, str] | None:
    """The newest document of a carrier and the fingerprint of its sources."""
    row = connection.execute(
        select(document_table)
        .where(document_table.c.carrier == carrier)
        .order_by(document_table.c.version.desc())
        .limit(1)
    ).first()
    return (_document(row), row.sources) if row else None


def issued(connection: Connection, document_id: str) -> IssuedDocument | None:
    """An issued document by its id."""
    row = connection.execute(select(document_table).where(document_table.c.id == document_id)).first()
    return _document(row) if row else None


def register(connection: Connection, content: bytes, now: datetime) -> IssuedDocument:
    """Keep a document made elsewhere so that it can be sent; the same bytes are kept once.

    Raises UnreadableError when it is no CDA, RelaisError when another content is known under its id.
    """
    header = read(content).document.header
    known = issued(connection, header.id.root or "")
    if known is None:
        lineage = header.set_id.root if header.set_id else None
        document = IssuedDocument(
            header.id.root or "", lineage or header.id.root or "", header.version_number or 1, "", content, (), now
        )
        _insert(connection, document, hashlib.sha256(content).hexdigest())
        return document
    if known.content != content:
        raise RelaisError(
            Issue("error", "duplicate", "another document has this id", "ClinicalDocument/id", "CI-SIS: id is unique")
        )
    return known


def issue(transaction: Transaction, care_plan_id: str, deployment: Deployment, now: datetime) -> IssuedDocument:
    """The document of the plan as it stands, issuing the next version if anything changed since the last.

    Raises MappingError when the plan lacks what the document requires, FhirError when there is no such plan.
    """
    carrier = f"CarePlan/{care_plan_id}"
    transaction.exclusively(f"documents of {carrier}")
    sources = gather(transaction.connection, transaction.repository.base, care_plan_id, deployment)
    last = last_issued(transaction.connection, carrier)
    if last and last[1] == sources.fingerprint:
        return last[0]
    version = DocumentVersion(last[0].version + 1, II(last[0].id)) if last else DocumentVersion()
    emission = Emission(deployment, now.astimezone(PARIS), version)
    document = _issued(carrier, pps_document(sources.care_plan, sources.resources, emission), version.number, now)
    _insert(transaction.connection, document, sources.fingerprint)
    return document


def _issued(carrier: str, mapped: Mapped, number: int, now: datetime) -> IssuedDocument:
    header = mapped.document.header
    assert header.id.root  # noqa: S101 - the mapping always gives an id; tells the type checker
    lineage = header.set_id.root if header.set_id and header.set_id.root else header.id.root
    return IssuedDocument(header.id.root, lineage, number, carrier, write(mapped.document), tuple(mapped.issues), now)


def _insert(connection: Connection, document: IssuedDocument, fingerprint: str) -> None:
    connection.execute(
        insert(document_table),
        {
            "id": document.id,
            "lineage": document.lineage,
            "version": document.version,
            "carrier": document.carrier,
            "sources": fingerprint,
            "content": document.content,
            "issues": msgspec.json.encode(document.issues),
            "issued": to_microseconds(document.issued),
        },
    )


def _document(row: Row[Any]) -> IssuedDocument:
    issues = msgspec.json.decode(row.issues, type=tuple[Issue, ...])
    issued_at = to_datetime(row.issued)
    return IssuedDocument(row.id, row.lineage, row.version, row.carrier, row.content, issues, issued_at)
