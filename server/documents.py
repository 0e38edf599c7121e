"""Documents issued for stored care plans: which bytes, under which id, as which version of their lineage.

The next version is issued when the document would say something else than the last one; asking again while nothing has
changed gives the same bytes. It replaces the last version that Relais sent, or, when none was sent, the last one issued
(CI-SIS Structuration minimale: id, setId, versionNumber, relatedDocument). The bytes are kept: they are what is
validated, hashed, sent and owed to a later replacement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, Integer, LargeBinary, Row, Table, insert, select

from relais.cda.datatypes import PARIS
from relais.cda.errors import Issue, RelaisError
from relais.cda.model import II, Header
from relais.cda.reader import read
from relais.cda.templates import INS_ROOTS
from relais.cda.writer import write
from relais.mappings import identity
from relais.mappings.context import Deployment, DocumentVersion, Emission, Mapped, Resource
from relais.mappings.resources import ResourceSet
from relais.mappings.terminology import TERMINOLOGIE_CISIS_URI
from relais.mappings.to_cda.pps import pps_document
from relais.server.delivery import outbox
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.fhir.repository import Transaction, existing
from relais.server.search import search
from relais.server.store.schema import Bytewise, metadata
from relais.server.store.store import StoredVersion, read_current, to_datetime, to_microseconds

document_table = Table(
    "issued_document",
    metadata,
    Column("key", Bytewise, primary_key=True),  # name_of(ClinicalDocument/id)
    Column("lineage", Bytewise, nullable=False),  # name_of(ClinicalDocument/setId)
    Column("version", Integer, nullable=False),
    Column("carrier", Bytewise, nullable=False),  # CarePlan/[id]; empty: made elsewhere
    Column("identity", LargeBinary, nullable=False),  # JSON of Identity
    Column("content", LargeBinary, nullable=False),
    Column("issues", LargeBinary, nullable=False),  # JSON of the mapping's issues
    Column("issued", BigInteger, nullable=False),
)
Index("issued_document_by_lineage", document_table.c.lineage, document_table.c.version)
Index("issued_document_by_carrier", document_table.c.carrier, document_table.c.version)

_PROVISIONS = ",".join(
    f"{TERMINOLOGIE_CISIS_URI}|{code}"
    for code in ("PAT-001", "PAT-002", "PAT-003", "PAT-004", "PAT-005", "PAT-006", "PAT-007", "PAT-008", "PAT-009")
)
# What belongs to a plan without being referenced from it: (type, search parameters, what the first one points to).
_BACK_LINKS = (
    ("RelatedPerson", (("patient", ""),), "Patient"),
    ("Consent", (("patient", ""),), "Patient"),
    ("Coverage", (("beneficiary", ""),), "Patient"),
    ("Observation", (("patient", ""), ("code", f"{_PROVISIONS},{TERMINOLOGIE_CISIS_URI}|ORG-013")), "Patient"),
    ("Observation", (("focus", ""),), "Goal"),
    ("Provenance", (("target", ""),), "CarePlan"),
    ("PractitionerRole", (("practitioner", ""), ("active:not", "false")), "Practitioner"),
)
_MOST_SOURCES = 1_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a document is: its id, its lineage, what it replaces, and every identifier of its patient."""

    id: II
    set_id: II
    replaces: II | None
    patient: tuple[II, ...]


@dataclass(frozen=True, slots=True)
class IssuedDocument:
    """One issued document: `content` is exactly what is sent; `carrier` is `CarePlan/[id]`, empty if made elsewhere.

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


# --- sources ----------------------------------------------------------------------------------------------------------


def gather(connection: Connection, base: str, care_plan_id: str) -> tuple[Resource, ResourceSet]:
    """The plan, and the set of what it references (and so on) and of what is recorded about it and its patient.

    Read twice until both readings agree: on PostgreSQL others may commit between two reads of one transaction.
    Raises FhirError 404 or 410 when there is no such plan, RelaisError when too much hangs on it.
    """
    found = _gather(connection, base, care_plan_id)
    while (again := _gather(connection, base, care_plan_id)) != found:
        found = again
    parsed = {name: load(stored.content or b"") for name, stored in sorted(found.items())}
    return parsed[f"CarePlan/{care_plan_id}"], ResourceSet.of(parsed.values(), base)


def _gather(connection: Connection, base: str, care_plan_id: str) -> dict[str, StoredVersion]:
    plan = f"CarePlan/{care_plan_id}"
    found = {plan: existing(read_current(connection, "CarePlan", care_plan_id), "CarePlan", care_plan_id)}
    waiting = [plan]
    while waiting:
        name = waiting.pop()
        for stored in _linked(connection, base, name, load(found[name].content or b"")):
            linked = f"{stored.type}/{stored.id}"
            if linked not in found and stored.type != "CarePlan" and not stored.deleted:
                found[linked] = stored
                waiting.append(linked)
        if len(found) > _MOST_SOURCES:
            message = f"more than {_MOST_SOURCES} resources hang on the plan"
            raise RelaisError(Issue("error", "too-costly", message, "CarePlan"))
    return found


def _linked(connection: Connection, base: str, name: str, resource: Resource) -> Iterator[StoredVersion]:
    resource_type = name.partition("/")[0]
    # A merged record of the person is another Patient: nothing of it belongs to this plan.
    followed = {key: value for key, value in resource.items() if (resource_type, key) != ("Patient", "link")}
    for reference in sorted(references.of(followed)):
        target = references.restful(reference)
        if target and target[0] in ("", base) and (stored := read_current(connection, target[1], target[2])):
            yield stored
    for back_type, parameters, pointed_type in _BACK_LINKS:
        if pointed_type == resource_type:
            wanted = [(parameter, value or name) for parameter, value in parameters]
            matches = search(connection, base, back_type, [*wanted, ("_count", str(_MOST_SOURCES))]).matches
            if back_type != "PractitionerRole" or len(matches) == 1:  # of several roles none is the one meant
                yield from matches


# --- issuing ----------------------------------------------------------------------------------------------------------


def issue(transaction: Transaction, care_plan_id: str, deployment: Deployment, now: datetime) -> IssuedDocument:
    """The document of the plan as it stands, issuing the next version if it would differ from the last.

    Raises MappingError when the plan lacks what the document requires, FhirError when there is no such plan,
    RelaisError when its identifier belongs to another plan or another patient.
    """
    carrier = f"CarePlan/{care_plan_id}"
    connection = transaction.connection
    transaction.exclusively(f"documents of {carrier}")
    plan, resources = gather(connection, transaction.repository.base, care_plan_id)
    former = _newest(connection, document_table.c.carrier == carrier)
    set_id = former.identity.set_id if former else identity.set_id(plan, "pps")
    if set_id is None:
        raise RelaisError(Issue("error", "required", "an identifier, or an id", "CarePlan.identifier"))
    transaction.exclusively(f"lineage {name_of(set_id)}")
    last = _newest(connection, document_table.c.lineage == name_of(set_id))
    if last:
        _check_heir(transaction, last, carrier)
        version = DocumentVersion(last.version, last.identity.replaces, set_id)
        if write(_map(plan, resources, deployment, last.issued, version).document) == last.content:
            return last
    replaced = (_last_sent(connection, name_of(set_id)) or last) if last else None
    version = DocumentVersion(last.version + 1 if last else 1, replaced.identity.id if replaced else None, set_id)
    mapped = _map(plan, resources, deployment, now, version)
    header = mapped.document.header
    document = IssuedDocument(
        _identity(header), version.number, carrier, write(mapped.document), tuple(mapped.issues), now
    )
    return _keep(connection, document)


def _map(
    plan: Resource, resources: ResourceSet, deployment: Deployment, now: datetime, version: DocumentVersion
) -> Mapped:
    return pps_document(plan, resources, Emission(deployment, now.astimezone(PARIS), version))


def _check_heir(transaction: Transaction, last: IssuedDocument, carrier: str) -> None:
    """A lineage passes to another plan only when the plan that had it is gone."""
    if last.carrier in ("", carrier):
        return
    stored = transaction.current("CarePlan", last.carrier.partition("/")[2])
    if stored and not stored.deleted:
        message = f"{last.carrier} has issued documents under this identifier"
        raise RelaisError(Issue("error", "duplicate", message, "CarePlan.identifier", "CI-SIS: one setId, one plan"))


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
    replaced = [parent for related in header.related_documents for parent in related.parent_ids]
    return Identity(header.id, header.set_id or header.id, next(iter(replaced), None), tuple(header.patient.ids))


def _keep(connection: Connection, document: IssuedDocument) -> IssuedDocument:
    last = _newest(connection, document_table.c.lineage == document.lineage)
    if last and not _same_person(last.identity.patient, document.identity.patient):
        message = "the earlier documents of this setId are about another patient"
        raise RelaisError(
            Issue("error", "conflict", message, "ClinicalDocument/setId", "CI-SIS: one setId, one patient")
        )
    connection.execute(
        insert(document_table),
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


def _same_person(one: tuple[II, ...], other: tuple[II, ...]) -> bool:
    """Whether two documents are about one person: by the INS where both have one, else by any shared identifier."""
    national = [{name_of(number) for number in numbers if number.root in INS_ROOTS} for numbers in (one, other)]
    if all(national):
        return bool(national[0] & national[1])
    return bool({name_of(number) for number in one} & {name_of(number) for number in other})


# --- looking up -------------------------------------------------------------------------------------------------------


def issued(connection: Connection, key: str) -> IssuedDocument | None:
    """An issued document by its `key`."""
    row = connection.execute(select(document_table).where(document_table.c.key == key)).first()
    return _document(row) if row else None


def last_issued(connection: Connection, carrier: str) -> IssuedDocument | None:
    """The newest document of `CarePlan/[id]`."""
    return _newest(connection, document_table.c.carrier == carrier)


def _last_sent(connection: Connection, lineage: str) -> IssuedDocument | None:
    """The newest version of a lineage that some channel delivered, may have delivered, or still owes."""
    return _newest(connection, document_table.c.key.in_(outbox.sent(connection, lineage)))


def _newest(connection: Connection, condition: Any) -> IssuedDocument | None:
    row = connection.execute(
        select(document_table).where(condition).order_by(document_table.c.version.desc()).limit(1)
    ).first()
    return _document(row) if row else None


def _document(row: Row[Any]) -> IssuedDocument:
    return IssuedDocument(
        msgspec.json.decode(row.identity, type=Identity),
        row.version,
        row.carrier,
        row.content,
        msgspec.json.decode(row.issues, type=tuple[Issue, ...]),
        to_datetime(row.issued),
    )
