"""Documents issued for stored resources: which bytes, under which id, as which version of their lineage.

The next version is issued when the document would say something else than the last one; asking again while nothing has
changed gives the same bytes. It replaces the last version that receivers know, or, when they know none, the last one
issued (CI-SIS Structuration minimale: id, setId, versionNumber, relatedDocument). The bytes are kept: they are what is
validated, hashed, sent and owed to a later replacement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Table,
    and_,
    bindparam,
    insert,
    literal_column,
    or_,
    select,
)

from relais.cda.datatypes import PARIS
from relais.cda.errors import Issue, MappingError, RelaisError
from relais.cda.model import II, Document, Header
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import Deployment, DocumentVersion, Emission, Mapped
from relais.mappings.identity import decisive_numbers
from relais.mappings.to_cda.unstructured import own_lineage
from relais.server.delivery import outbox
from relais.server.document_forms import Level, at_level
from relais.server.document_sources import EVERYTHING, Selection, Sources, gather
from relais.server.fhir.repository import Transaction
from relais.server.store.schema import Bytewise, metadata
from relais.server.store.statements import Statement
from relais.server.store.store import to_datetime, to_microseconds

document_table = Table(
    "issued_document",
    metadata,
    Column("key", Bytewise, primary_key=True),  # name_of(ClinicalDocument/id)
    Column("lineage", Bytewise, nullable=False),  # name_of(ClinicalDocument/setId)
    Column("version", Integer, nullable=False),
    Column("carrier", Bytewise, nullable=False),  # Type/[id], `?level=n1` after it of its N1; empty: made elsewhere
    Column("identity", LargeBinary, nullable=False),  # JSON of Identity
    Column("content", LargeBinary, nullable=False),
    Column("issues", LargeBinary, nullable=False),  # JSON of the mapping's issues
    Column("issued", BigInteger, nullable=False),
)
Index("issued_document_by_lineage", document_table.c.lineage, document_table.c.version)
Index("issued_document_by_carrier", document_table.c.carrier, document_table.c.version)


_UNSTRUCTURED = "?level=n1"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a document is: its id, its lineage, what it replaces, and every identifier of its patient.

    `shows` is the id of the structured document whose unstructured form (N1) it is.
    """

    id: II
    set_id: II
    replaces: II | None
    patient: tuple[II, ...]
    shows: II | None = None


# Made on import: see `relais.profiles.definitions`.
_read_identity = msgspec.json.Decoder(Identity).decode
_read_issues = msgspec.json.Decoder(tuple[Issue, ...]).decode


@dataclass(frozen=True, slots=True)
class IssuedDocument:
    """One issued document: `content` is exactly what is sent; `carrier` is `Type/[id]`, empty if made elsewhere.

    `issues` is what the mapping wanted said (warnings, information).
    """

    identity: Identity
    version: int
    carrier: str
    content: bytes
    issues: tuple[Issue, ...]
    issued: datetime

    @property
    def key(self) -> str:
        """The name of its id."""
        return name_of(self.identity.id)

    @property
    def lineage(self) -> str:
        """The name of its setId: equal for all versions of one document, and for no other."""
        return name_of(self.identity.set_id)


def name_of(identifier: II) -> str:
    """`root`, or `root^extension`: two instance identifiers are the same only if both parts are."""
    return f"{identifier.root}^{identifier.extension}" if identifier.extension else identifier.root or ""


# --- issuing ----------------------------------------------------------------------------------------------------------


def issue(
    transaction: Transaction,
    carrier: str,
    deployment: Deployment,
    now: datetime,
    *,
    selection: Selection = EVERYTHING,
    level: Level = "n3",
    anew: bool = False,
) -> IssuedDocument:
    """The document of `carrier` (`Type/[id]`) as it stands, issuing the next version if it would differ from the last.

    `anew` issues it in any case: under another id, what was said is said again. `selection` chooses the appointments
    of an agenda, whose carrier is the Patient. The unstructured form (`n1`) is a document of its own lineage, with
    versions of its own number, one at most for each of the structured one. Raises MappingError when the resources lack
    what the document requires, FhirError when there is no such resource, RelaisError when its identifier belongs to
    another one or to another patient.
    """
    transaction.exclusively(f"documents of {carrier}")
    structured = _issue_structured(transaction, carrier, deployment, now, selection, anew=anew)
    if level == "n3":
        return structured
    return _issue_unstructured(transaction.connection, structured, deployment, now)


def _issue_structured(
    transaction: Transaction,
    carrier: str,
    deployment: Deployment,
    now: datetime,
    selection: Selection,
    *,
    anew: bool,
) -> IssuedDocument:
    connection = transaction.connection
    sources = gather(connection, transaction.repository.base, carrier, selection)
    former = last_issued(connection, carrier)
    set_id = former.identity.set_id if former else _lineage_of(sources, deployment, now)
    transaction.exclusively(f"lineage {name_of(set_id)}")
    last = newest_of(connection, name_of(set_id))
    if last:
        _check_heir(transaction, last, carrier)
        if not anew and _would_say_the_same(connection, sources, deployment, last):
            return last
    replaced = (_last_known(connection, name_of(set_id)) or last) if last else None
    version = _following(last.version + 1 if last else 1, replaced, set_id)
    mapped = _map(connection, sources, deployment, now, version)
    return _keep(connection, _document_of(mapped.document, carrier, tuple(mapped.issues), now))


def _issue_unstructured(
    connection: Connection, structured: IssuedDocument, deployment: Deployment, now: datetime
) -> IssuedDocument:
    """The N1 form of a document that was issued."""
    document = read(structured.content).document
    set_id = own_lineage(document.header)
    last = newest_of(connection, name_of(set_id))
    if last and _shows(last, structured):
        return last
    replaced = (_last_known(connection, name_of(set_id)) or last) if last else None
    version = _following(last.version + 1 if last else 1, replaced)
    made = _document_of(
        at_level(document, "n1", deployment, version), structured.carrier + _UNSTRUCTURED, structured.issues, now
    )
    return _keep(connection, replace(made, identity=replace(made.identity, shows=structured.identity.id)))


def _shows(made: IssuedDocument, structured: IssuedDocument) -> bool:
    """Whether an unstructured form is that of this version; those issued before it was noted bear its number."""
    if made.identity.shows:
        return made.identity.shows == structured.identity.id
    return made.version == structured.version


def _following(number: int, replaced: IssuedDocument | None, set_id: II | None = None) -> DocumentVersion:
    if replaced is None:
        return DocumentVersion(number, None, set_id)
    return DocumentVersion(number, replaced.identity.id, set_id, replaced.version)


def lineage_of(header: Header) -> str:
    """The name of the lineage of a document."""
    return name_of(header.set_id or header.id)


def _document_of(document: Document, carrier: str, issues: tuple[Issue, ...], now: datetime) -> IssuedDocument:
    header = document.header
    return IssuedDocument(_identity(header), header.version_number or 1, carrier, write(document), issues, now)


def _lineage_of(sources: Sources, deployment: Deployment, now: datetime) -> II:
    """The setId that a carrier's first document bears. Raises MappingError as that document would."""
    later = DocumentVersion(2, II("2.25.0"))  # a later version: a first one may have nothing to withdraw
    header = sources.document(Emission(deployment, now.astimezone(PARIS), later), ()).document.header
    return header.set_id or header.id


def _would_say_the_same(connection: Connection, sources: Sources, deployment: Deployment, last: IssuedDocument) -> bool:
    replaced = issued(connection, name_of(last.identity.replaces)) if last.identity.replaces else None
    number = replaced.version if replaced else None
    version = DocumentVersion(last.version, last.identity.replaces, last.identity.set_id, number)
    try:
        return write(_map(connection, sources, deployment, last.issued, version).document) == last.content
    except MappingError:  # the sources allow no first version any more, as that of a withdrawal; perhaps a next one
        return False


def _map(
    connection: Connection, sources: Sources, deployment: Deployment, now: datetime, version: DocumentVersion
) -> Mapped:
    previous = (document.content for document in _replaced_by(connection, version))
    return sources.document(Emission(deployment, now.astimezone(PARIS), version), previous)


def _replaced_by(connection: Connection, version: DocumentVersion) -> Iterator[IssuedDocument]:
    """The document that a version replaces, then the one which that replaced, and so on."""
    seen: set[str] = set()
    following = version.replaces
    while following and (key := name_of(following)) not in seen and (document := issued(connection, key)):
        seen.add(key)
        yield document
        following = document.identity.replaces


def _check_heir(transaction: Transaction, last: IssuedDocument, carrier: str) -> None:
    """A lineage passes to another resource only when the one that had it is gone."""
    if last.carrier in ("", carrier):
        return
    kind, former_id = last.carrier.split("/")
    stored = transaction.current(kind, former_id)
    if stored and not stored.deleted:
        message = f"{last.carrier} has issued documents under this identifier"
        place = f"{carrier.partition('/')[0]}.identifier"
        raise RelaisError(Issue("error", "duplicate", message, place, "CI-SIS: one setId, one source"))


def register(connection: Connection, content: bytes, now: datetime) -> IssuedDocument:
    """Keep a document made elsewhere so that it can be sent; the same bytes are kept once.

    Raises UnreadableError when it is no CDA, RelaisError when its id names another content, or its setId documents of
    another patient.
    """
    header = read(content).document.header
    document = IssuedDocument(_identity(header), header.version_number or 1, "", content, (), now)
    known = issued(connection, document.key)
    if known is None:
        return _keep(connection, document)
    if known.content != content:
        message = "another document has this id"
        raise RelaisError(
            Issue("error", "duplicate", message, "ClinicalDocument/id", "CI-SIS: an id names one document")
        )
    return known


def _identity(header: Header) -> Identity:
    related = (one for one in header.related_documents if one.type_code == "RPLC")
    replaced = [parent for one in related for parent in one.parent_ids]
    return Identity(header.id, header.set_id or header.id, next(iter(replaced), None), tuple(header.patient.ids))


def _keep(connection: Connection, document: IssuedDocument) -> IssuedDocument:
    last = newest_of(connection, document.lineage)
    if last and not decisive_numbers(last.identity.patient, document.identity.patient):
        message = "the earlier documents of this setId are about another patient"
        raise RelaisError(
            Issue("error", "conflict", message, "ClinicalDocument/setId", "CI-SIS: one setId, one patient")
        )
    _INSERT.run(
        connection,
        {
            "key": document.key,
            "lineage": document.lineage,
            "version": document.version,
            "carrier": document.carrier,
            "identity": msgspec.json.encode(document.identity),
            "content": document.content,
            "issues": msgspec.json.encode(document.issues),
            "issued": to_microseconds(document.issued),
        },
    )
    return document


_INSERT = Statement(insert(document_table).values({column.name: bindparam(column.name) for column in document_table.c}))

# --- looking up -------------------------------------------------------------------------------------------------------


def issued(connection: Connection, key: str) -> IssuedDocument | None:
    """An issued document by its `key`."""
    row = _ISSUED.first(connection, {"of_key": key})
    return _document(*row) if row else None


_COLUMNS = tuple(document_table.c[name] for name in ("identity", "version", "carrier", "content", "issues", "issued"))
_ISSUED = Statement(select(*_COLUMNS).where(document_table.c.key == bindparam("of_key")))


def last_issued(connection: Connection, carrier: str, level: Level = "n3") -> IssuedDocument | None:
    """The newest document of `Type/[id]`, at that level."""
    name = carrier + _UNSTRUCTURED if level == "n1" else carrier
    return _newest(connection, document_table.c.carrier == name)


def earlier_of(connection: Connection, lineage: str, version: int) -> list[II]:
    """The ids of the documents of a lineage before that version, the latest first."""
    table = document_table.c
    asked = select(table.identity).where(table.lineage == lineage, table.version < version)
    rows = connection.execute(asked.order_by(table.version.desc()))
    return [_read_identity(row.identity).id for row in rows]


def newest_of(connection: Connection, lineage: str) -> IssuedDocument | None:
    """The newest document of a lineage."""
    row = _NEWEST.first(connection, {"lineage": lineage})
    return _document(*row) if row else None


_NEWEST = Statement(
    select(*_COLUMNS)
    .where(document_table.c.lineage == bindparam("lineage"))
    .order_by(document_table.c.version.desc())
    .limit(literal_column("1"))
    .offset(literal_column("0"))  # else SQLite is given an offset as a parameter that nobody binds
)


def _last_known(connection: Connection, lineage: str) -> IssuedDocument | None:
    """The newest version of a lineage that receivers know: that some channel delivered, may have delivered or still
    owes, or that was made elsewhere."""
    known = or_(document_table.c.carrier == "", document_table.c.key.in_(outbox.sent(connection, lineage)))
    return _newest(connection, and_(document_table.c.lineage == lineage, known))


def _newest(connection: Connection, condition: Any) -> IssuedDocument | None:
    row = connection.execute(
        select(*_COLUMNS).where(condition).order_by(document_table.c.version.desc()).limit(1)
    ).first()
    return _document(*row) if row else None


def _document(
    identity: bytes, version: int, carrier: str, content: bytes, issues: bytes, issued: int
) -> IssuedDocument:
    return IssuedDocument(
        _read_identity(identity),
        version,
        carrier,
        content,
        _read_issues(issues),
        to_datetime(issued),
    )
