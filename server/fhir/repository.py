"""The one way to read and write resources: checks, stamps, indexes, stores (FHIR R4 §3.1.0, versions and identity).

Every write happens in a transaction, and everything that belongs to it can be written with it:

    with repository.transaction() as transaction:
        task = transaction.create({"resourceType": "Task", ...})
        transaction.connection.execute(insert(outbox).values(task=task.id, ...))

Leaving the block checks that the references written point to something, then commits; an exception undoes all of it.
"""

from __future__ import annotations

import secrets
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from relais.cda.errors import Issue
from relais.mappings.context import Resource
from relais.profiles.issues import UNREADABLE_CODES
from relais.profiles.issues import Issue as StructureIssue
from relais.profiles.messages import Language
from relais.profiles.structure import check
from relais.server.fhir import references
from relais.server.fhir.json_format import dump, load
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.subsets import is_subsetted
from relais.server.search.indexer import index_rows
from relais.server.search.terminological import TerminologySource
from relais.server.store import IndexRow, Store, StoredVersion, TextRow
from relais.server.store import Transaction as StoreTransaction

Stored = StoredVersion
_CARRIED_FORWARD = ("security", "tag")


def utc_now() -> datetime:
    """Now in UTC, in the milliseconds that `meta.lastUpdated` shows."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class WriteJudge(Protocol):
    """Judges resources that are R4 and about to be written, as (resource, FHIRPath) pairs."""

    def judge(self, resources: Iterable[tuple[Resource, str]], language: Language) -> list[Issue]:
        """What is to be remarked of them. Raises FhirError 422 for what is refused."""

    def judge_transaction(self, bundle: Resource, places: Iterable[str], language: Language) -> list[Issue]:
        """As `judge`, of the resources at those places of a Bundle, seen together."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The index rows of a resource that is to be written under an id, made before its writer's turn comes.

    The resource is not changed in place from then on; another one in its stead has its rows made in the turn.
    """

    resource: Resource
    id: str
    rows: list[IndexRow | TextRow]


class Watcher(Protocol):
    """Another room that answers for some resources, and acts on what is written, in the same transaction."""

    def before_change(self, transaction: Transaction, former: Stored) -> None:
        """Asked before a stored resource is changed or deleted. Raises FhirError for what may not be."""

    def before_commit(self, transaction: Transaction, written: Sequence[tuple[Stored, Stored | None]]) -> None:
        """Told what was written, each with its former version; what it writes itself it is not told."""


class Reader(ABC):
    """What can be asked of stored resources, inside a transaction or outside of any."""

    @abstractmethod
    def current(self, resource_type: str, resource_id: str) -> Stored | None:
        """The current version, perhaps a deletion; None when there never was one."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Connection]:
        """A connection for searches, which sees one state of the store."""

    @property
    @abstractmethod
    def repository(self) -> Repository:
        """The repository that is read."""

    def read(self, resource_type: str, resource_id: str) -> Stored:
        """The current version. Raises FhirError 404 (never existed) or 410 (deleted)."""
        stored = self.current(resource_type, resource_id)
        return existing(stored, resource_type, resource_id)

    def vread(self, resource_type: str, resource_id: str, version: str) -> Stored:
        """One version. Raises FhirError 404, or 410 for the version that is the deletion."""
        number = int(version) if version.isascii() and version.isdecimal() and len(version) < 10 else 0
        stored = self.repository.store.read_version(resource_type, resource_id, number)
        return existing(stored, resource_type, f"{resource_id}/_history/{version}")

    def load(self, resource_type: str, resource_id: str) -> Resource:
        """The current version, parsed. Raises as `read`."""
        return load(self.read(resource_type, resource_id).content or b"")


class Repository(Reader):
    """The stored resources of one facade."""

    def __init__(
        self,
        store: Store,
        base: str,
        *,
        check_references: bool = True,
        update_creates: bool = True,
        versioned_types: Iterable[str] = (),
        most_deleted: int = 1,
        judge: WriteJudge | None = None,
        watcher: Watcher | None = None,
        terminology: TerminologySource | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`base` is the public FHIR base URL.

        `check_references` refuses references to nothing on it, `update_creates` lets clients choose the id of a new
        resource by a PUT; resources of `versioned_types` are only changed under If-Match; a conditional delete takes
        `most_deleted` resources away at most; `judge` is asked about every resource before it is written, `watcher`
        before one is changed and before the transaction ends;
        searches read value sets and hierarchies by `terminology`.
        """
        self.store = store
        self.base = base
        self.check_references = check_references
        self.update_creates = update_creates
        self.versioned_types = frozenset(versioned_types)
        self.most_deleted = most_deleted
        self.judge = judge
        self.watcher = watcher
        self.terminology = terminology
        self.clock = clock

    @property
    def repository(self) -> Repository:
        """Itself."""
        return self

    def current(self, resource_type: str, resource_id: str) -> Stored | None:
        """See Reader."""
        return self.store.read(resource_type, resource_id)

    def snapshot(self) -> AbstractContextManager[Connection]:
        """See Reader."""
        return self.store.snapshot()

    def check(self, resources: Sequence[tuple[Resource, str]], language: Language = "en") -> list[Issue]:
        """Check (resource, place) pairs that are about to be written; what is to be remarked of them.

        Raises FhirError as `refuse_wrong_structure`, and 422 for what the judge refuses.
        """
        refuse_wrong_structure(resources)
        return self.judge.judge(resources, language) if self.judge else []

    def prepare(self, resource: Resource, resource_id: str) -> Prepared:
        """What `transaction` is given for a resource that it will write, checked before."""
        stamped = _stamped(resource, resource_id, 1, self.clock())
        return Prepared(resource, resource_id, index_rows(stamped, self.base))

    @contextmanager
    def transaction(self, prepared: Iterable[Prepared] = ()) -> Iterator[Transaction]:
        """All writes of the block or none. Raises StoreError when the turn to write does not come in time."""
        with self.store.transaction() as stored:
            transaction = Transaction(self, stored, prepared)
            yield transaction
            transaction.finish()


class Transaction(Reader):
    """Writes that become visible together. `place` arguments are FHIRPaths that issues are told with."""

    def __init__(self, repository: Repository, store: StoreTransaction, prepared: Iterable[Prepared] = ()) -> None:
        self._repository = repository
        self._store = store
        self._prepared = {(each.resource["resourceType"], each.id): each for each in prepared}
        self._current: dict[tuple[str, str], Stored | None] = {}  # nobody else can change them meanwhile
        self._references: list[tuple[Resource, str]] = []
        self._written: list[tuple[Stored, Stored | None]] = []
        self.now = repository.clock()

    @property
    def repository(self) -> Repository:
        """See Reader."""
        return self._repository

    @property
    def connection(self) -> Connection:
        """For tables of other rooms that are written in the same transaction."""
        return self._store.connection

    def current(self, resource_type: str, resource_id: str) -> Stored | None:
        """See Reader. Nobody else can write that resource until the transaction ends."""
        name = (resource_type, resource_id)
        if name not in self._current:
            self._current[name] = self._store.read(*name, lock=True)
        return self._current[name]

    def snapshot(self) -> AbstractContextManager[Connection]:
        """See Reader. Writes of this transaction are seen."""
        return nullcontext(self.connection)

    def together(self) -> AbstractContextManager[None]:
        """Within the block new resources are indexed in few statements, unless it searches."""
        return self._store.together()

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """The watcher is not told what the block writes: it was received, and is no event of this server."""
        told, self._written = self._written, []
        try:
            yield
        finally:
            self._written = told

    def exclusively(self, name: str) -> None:
        """Until the transaction ends, no other one gets past `exclusively` of the same name."""
        self._store.exclusively(name)

    def create(self, resource: Resource, *, resource_id: str = "", place: str = "", checked: bool = False) -> Stored:
        """Store a new resource under `resource_id` or an id made here; an id it carries is ignored.

        `checked` says that `Repository.check` has passed it. Raises FhirError 400 or 422.
        """
        if not checked:
            self._repository.check([(resource, place)])
        return self._put(resource, resource_id or new_id(), None, place, "POST")

    def update(
        self,
        resource: Resource,
        *,
        expected_version: int | None = None,
        place: str = "",
        checked: bool = False,
        keep_labels: bool = True,
    ) -> Stored:
        """Store the next version of the resource that carries its id, the first one if there is none.

        With `keep_labels`, security labels and tags of the stored version are carried forward (R4 §3.1.0.5). Raises
        FhirError 400 or 422, and 412 when `expected_version` is not the current one.
        """
        if not checked:
            self._repository.check([(resource, place)])
        existing = self.current(resource["resourceType"], resource["id"])
        if expected_version is not None and (existing.version if existing else 0) != expected_version:
            raise FhirError.of(412, "conflict", "the resource has changed since it was read", place)
        self._announce_change(existing)
        return self._put(resource, resource["id"], existing, place, "PUT", keep_labels=keep_labels)

    def delete(self, resource_type: str, resource_id: str) -> Stored | None:
        """Store the deletion; None when there is nothing to delete."""
        existing = self.current(resource_type, resource_id)
        if existing is None or existing.deleted:
            return None
        self._announce_change(existing)
        deleted = self._store.delete(resource_type, resource_id, existing.version + 1, self._moment(existing))
        self._current[resource_type, resource_id] = deleted
        return deleted

    def finish(self) -> None:
        """Let the watcher act, then check the references that were written.

        Raises FhirError 422 naming each that points to nothing.
        """
        if self._repository.watcher and self._written:
            self._repository.watcher.before_commit(self, tuple(self._written))
        if not self._repository.check_references:
            return
        issues: list[Issue] = []
        for resource, place in self._references:
            wrong = {link for link in references.of(resource) if not self._resolves(link)}
            if wrong:
                issues += [
                    _points_to_nothing(path) for path, link in references.located(resource, place) if link in wrong
                ]
        if issues:
            raise FhirError(422, issues)

    def _put(
        self,
        resource: Resource,
        resource_id: str,
        existing: Stored | None,
        place: str,
        method: str,
        *,
        keep_labels: bool = True,
    ) -> Stored:
        resource_type: str = resource["resourceType"]
        _refuse_subset(resource, place or resource_type)
        version, moment = (existing.version if existing else 0) + 1, self._moment(existing)
        stamped = _stamped(resource, resource_id, version, moment)
        kept = existing and existing.content and keep_labels and _carry_forward(load(existing.content), stamped)
        self._references.append((stamped, place or resource_type))
        prepared = self._prepared.get((resource_type, resource_id))
        as_prepared = prepared is not None and prepared.resource is resource and not kept
        rows = prepared.rows if prepared and as_prepared else index_rows(stamped, self._repository.base)
        stored = self._store.put(resource_type, resource_id, version, dump(stamped), moment, rows, method=method)
        self._current[resource_type, resource_id] = stored
        self._written.append((stored, existing))
        return stored

    def _announce_change(self, former: Stored | None) -> None:
        if self._repository.watcher and former and not former.deleted:
            self._repository.watcher.before_change(self, former)

    def _moment(self, existing: Stored | None) -> datetime:
        """Now, but never before the version that is replaced: a clock may be set back."""
        return max(self.now, existing.last_updated) if existing else self.now

    def _resolves(self, reference: str) -> bool:
        if reference.startswith("urn:uuid:") or references.conditional(reference):
            return False  # only a transaction gives them a meaning, and it has replaced them
        target = references.restful(reference)
        if target is None or target[0] not in ("", self._repository.base):
            return True  # contained: checked with the structure; on another server: not ours to know
        name = target[1:]
        found = self._current[name] if name in self._current else self._store.read(*name)
        return found is not None and not found.deleted


def new_id() -> str:
    """An id that nobody can guess: a UUID of version 7 (RFC 9562), so that new ones stand together in the index."""
    random = secrets.randbits(74)
    milliseconds = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | random >> 62 << 64 | 2 << 62 | random & (1 << 62) - 1))


def refuse_wrong_structure(resources: Iterable[tuple[Resource, str]]) -> None:
    """Check (resource, place) pairs against base R4.

    Raises FhirError with every error of all of them: 400 when one is not R4 at all, 422 when rules are broken.
    """
    errors = [
        moved(issue, place)
        for resource, place in resources
        for issue in check(resource)
        if issue.severity in ("fatal", "error")
    ]
    if errors:
        raise FhirError(400 if any(issue.code in UNREADABLE_CODES for issue in errors) else 422, errors)


def moved(issue: Issue | StructureIssue, place: str) -> Issue:
    """The issue, with the resource type at the start of its path replaced by `place` where one is given."""
    inside = issue.path.partition(".")[2]
    path = f"{place}.{inside}" if inside else place
    return Issue(issue.severity, issue.code, issue.message, path if place else issue.path, issue.rule)


def instant(moment: datetime) -> str:
    """An aware time as a FHIR instant in UTC, in milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _points_to_nothing(path: str) -> Issue:
    return Issue("error", "not-found", "the reference points to nothing on this server", path, "FHIR R4 References")


def existing(stored: Stored | None, resource_type: str, name: str) -> Stored:
    """The version, if it is one to be read. Raises FhirError 404 (never existed) or 410 (deleted)."""
    if stored is None:
        raise FhirError.of(404, "not-found", f"{resource_type}/{name} does not exist")
    if stored.deleted:
        raise FhirError.of(410, "deleted", f"{resource_type}/{name} was deleted")
    return stored


def _stamped(resource: Resource, resource_id: str, version: int, moment: datetime) -> Resource:
    meta = {"versionId": str(version), "lastUpdated": instant(moment)}
    meta |= {name: value for name, value in resource.get("meta", {}).items() if name not in meta}
    head = {"resourceType": resource["resourceType"], "id": resource_id, "meta": meta}
    return head | {name: value for name, value in resource.items() if name not in head}


def _carry_forward(former: Resource, stamped: Resource) -> bool:
    """Add to `stamped` the security labels and tags of `former` that it does not repeat; whether there are any."""
    added = False
    for name in _CARRIED_FORWARD:
        given: list[dict[str, Any]] = stamped["meta"].get(name, [])
        known = {_coding(label) for label in given}
        kept = [label for label in former["meta"].get(name, ()) if _coding(label) not in known]
        if kept:
            stamped["meta"][name] = [*given, *kept]
            added = True
    return added


def _refuse_subset(resource: Resource, place: str) -> None:
    """A client that read a part of a resource must not put it in the place of the whole."""
    if any(is_subsetted(tag) for tag in resource.get("meta", {}).get("tag", ())):
        message = "the resource is tagged SUBSETTED: it is not whole, and storing it would lose the rest"
        raise FhirError.of(422, "business-rule", message, f"{place}.meta.tag")


def _coding(label: dict[str, Any]) -> tuple[Any, Any]:
    return label.get("system"), label.get("code")
