"""Batch and transaction Bundles (FHIR R4 §3.1.0.11): entries become Calls of the registry's interactions.

A transaction runs in one transaction of the repository: deletions, then the identities of what is to be written, then
references, then creations, updates and reads; answers stand in the order of the entries. Entries with conditional
references are written after those that these may lead to. A batch runs each entry alone.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec

from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.server import deposit_rules
from relais.server.faults import described
from relais.server.fhir import references
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.interactions import identify_create, identify_patch, identify_update
from relais.server.fhir.json_format import dump
from relais.server.fhir.negotiation import CONTENT_TYPE, etag
from relais.server.fhir.operations import Operation
from relais.server.fhir.outcome import FhirError, operation_outcome, status_of
from relais.server.fhir.registry import Interaction, Registry
from relais.server.fhir.repository import (
    Prepared,
    Repository,
    Transaction,
    instant,
    moved,
    new_id,
    refuse_wrong_structure,
)
from relais.server.fhir.searchset import single_match

_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
_RULE = "FHIR R4 transaction"
_TURNS = 8  # conditional references to what was written in the turn before
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    """One entry of a batch or transaction: what it asks for, and what came of it."""

    index: int
    full_url: str
    interaction: Interaction
    call: Call
    reply: Reply | None = None

    @property
    def place(self) -> str:
        """FHIRPath of the entry."""
        return f"Bundle.entry[{self.index}]"

    @property
    def target(self) -> str:
        """`Type/id` of what is written, once it is known."""
        return f"{self.call.resource_type}/{self.call.id}"

    @property
    def changes(self) -> bool:
        """Whether `target` is changed: a conditional create that found its resource leaves it as it is."""
        matched = self.interaction.code == "create" and self.reply is not None
        return self.interaction.writes and bool(self.call.id) and not matched


class BundleProcessor:
    """Runs the Bundles posted to the base of a facade."""

    def __init__(self, registry: Registry, operate: Callable[[Operation, Call], Reply], *, max_entries: int) -> None:
        """`operate` runs an operation that an entry of a batch asks for."""
        self._registry = registry
        self._operate = operate
        self._max_entries = max_entries

    def run(self, repository: Repository, call: Call) -> Reply:
        """POST [base]: the batch-response or transaction-response Bundle."""
        bundle = call.body
        if bundle is None or bundle.get("resourceType") != "Bundle":
            raise FhirError.of(400, "invalid", "a Bundle is expected", "resourceType")
        given = bundle.get("entry", [])
        if isinstance(given, list) and len(given) > self._max_entries:
            raise FhirError.of(413, "too-costly", f"more than {self._max_entries} entries", "Bundle.entry")
        kind = bundle.get("type")
        run = {"batch": self._batch, "transaction": self._transaction}.get(kind) if isinstance(kind, str) else None
        if run:
            _refuse_without_request(given)
            _read_as_list(bundle, given)
        refuse_wrong_structure([(_envelope(bundle), "")])
        if run is None:
            raise FhirError.of(422, "not-supported", "only batch and transaction Bundles are processed", "Bundle.type")
        if kind == "batch" and deposit_rules.concerns(bundle):
            raise FhirError.of(422, "business-rule", "a deposit is a transaction: all of it or nothing", "Bundle.type")
        answer: Resource = {"resourceType": "Bundle", "id": new_id(), "type": f"{kind}-response"}
        if given:
            answer["entry"] = run(repository, given, call)
        return Reply(200, dump(answer))

    def _transaction(self, repository: Repository, given: list[Resource], bundle_call: Call) -> list[Resource]:
        entries = [self._entry(repository, index, entry, bundle_call) for index, entry in enumerate(given)]
        bodies = [entry for entry in entries if entry.call.body is not None]
        refuse_wrong_structure((_body(entry), entry.call.place) for entry in bodies)
        _judge(repository, bodies, bundle_call)
        prepared = _prepared(repository, bodies)
        with repository.transaction(prepared) as transaction:
            _run_phase(transaction, entries, "DELETE")
            for entry in bodies:
                with _telling(entry):
                    _identify(transaction, entry)
            _refuse_twice((entry.target, entry.place) for entry in entries if entry.changes)
            waiting = [] if prepared else _Links(bodies).rewrite()
            held_back = {entry.index for entry in waiting}
            _write(transaction, [entry for entry in entries if entry.index not in held_back])
            if waiting:
                _write_in_turn(transaction, waiting)
                _refuse_rivals(transaction, entries)
            _run_phase(transaction, entries, "GET", "HEAD")
        return [_answer(entry) for entry in entries]

    def _batch(self, repository: Repository, given: list[Resource], bundle_call: Call) -> list[Resource]:
        answers: dict[int, Resource] = {}
        for index in sorted(range(len(given)), key=lambda index: _ORDER.get(given[index]["request"]["method"], 0)):
            try:
                answers[index] = self._batch_entry(repository, index, given[index], bundle_call)
            except RelaisError as error:
                answers[index] = _answer_of_refusal(status_of(error), error.issues)
            except Exception as error:  # noqa: BLE001 - entries are alone: the others were or will be processed
                _log.error("entry %d of a batch failed: %s", index, described(error))
                issue = Issue("fatal", "exception", "internal error", f"Bundle.entry[{index}]")
                answers[index] = _answer_of_refusal(500, [issue])
        return [answers[index] for index in range(len(given))]

    def _batch_entry(self, repository: Repository, index: int, given: Resource, bundle_call: Call) -> Resource:
        place = f"Bundle.entry[{index}]"
        offered, names, query = self._find(repository, place, given["request"])
        if isinstance(offered, Operation):
            call = _call_of(names, query, given, place, bundle_call)
            if "resource" in given:
                call.body = _typed(_resource(given, f"{place}.resource"), f"{place}.resource")
            return _answer_of_operation(self._operate(offered, call))
        entry = self._entry(repository, index, given, bundle_call)
        with _telling(entry):
            entry.reply = entry.interaction.perform(repository, entry.call)
        return _answer(entry)

    def _find(
        self, repository: Repository, place: str, request: Resource
    ) -> tuple[Interaction | Operation, dict[str, str], str]:
        """What an entry asks for, the variable parts of its address, and its query. Raises FhirError."""
        address, _, query = _below_base(request["url"], repository.base).partition("?")
        try:
            return *self._registry.find(request["method"], address.removesuffix("/")), query
        except FhirError as error:
            raise FhirError(error.status, [_at(issue, f"{place}.request.url") for issue in error.issues]) from error

    def _entry(self, repository: Repository, index: int, given: Resource, bundle_call: Call) -> _Entry:
        """Read one entry. Raises FhirError naming the part of it that cannot be processed."""
        place = f"Bundle.entry[{index}]"
        interaction, names, query = self._find(repository, place, given["request"])
        if not isinstance(interaction, Interaction):
            message = "operations are run in batches, not in transactions"
            raise FhirError.of(422, "not-supported", message, f"{place}.request.url")
        carries = interaction.takes_body or interaction.takes_patch
        call = _call_of(names, query, given, f"{place}.resource" if carries else place, bundle_call)
        if carries:
            call.body = _resource(given, call.place)
        entry = _Entry(index, given.get("fullUrl", "") if interaction.takes_body else "", interaction, call)
        _check_full_url(entry)
        return entry


def _call_of(names: dict[str, str], query: str, given: Resource, place: str, bundle_call: Call) -> Call:
    request = given["request"]
    return Call(
        request["method"],
        names.get("resource_type", ""),
        names.get("id", ""),
        names.get("version", ""),
        names.get("compartment", ""),
        query=query,
        place=place,
        if_match=request.get("ifMatch"),
        if_none_match=request.get("ifNoneMatch"),
        if_modified_since=request.get("ifModifiedSince"),
        if_none_exist=request.get("ifNoneExist"),
        prefer=bundle_call.prefer,
        language=bundle_call.language,
    )


def _prepared(repository: Repository, bodies: list[_Entry]) -> list[Prepared]:
    """What can be done before the writer's turn comes: identities, links, index rows.

    Empty where an identity or a reference needs a search, which is done in the turn; links may be rewritten twice.
    """
    for entry in bodies:
        if entry.interaction.code == "create" and entry.call.if_none_exist is None:
            entry.call.id = new_id()
    if not all(entry.call.id for entry in bodies) or _Links(bodies).rewrite():
        return []
    written = (entry for entry in bodies if entry.interaction.takes_body)
    return [repository.prepare(entry.call.resource(), entry.call.id) for entry in written]


class _Links:
    """References of the entries to one another, put right once every entry has its identity."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._entries = entries
        self._targets = {entry.full_url: entry.target for entry in entries if entry.full_url}

    def rewrite(self) -> list[_Entry]:
        """Rewrite every link of every body but conditional references; the entries that hold such.

        Raises FhirError 422 naming each reference that no entry answers.
        """
        dangling: list[Issue] = []
        for entry in self._entries:
            dangling += self._rewrite(entry)
        if dangling:
            raise FhirError(422, dangling)
        return [entry for entry in self._entries if entry.reply is None and any(_conditional(entry))]

    def _rewrite(self, entry: _Entry) -> list[Issue]:
        named = references.restful(entry.full_url)
        base = named[0] if named else ""
        dangling: list[Issue] = []

        def replacement(path: str, link: str) -> str:
            if target := self._targets.get(link):
                return target
            if not path.endswith(".reference"):
                return link
            if link.startswith(("urn:uuid:", "urn:oid:")):
                issue = Issue("error", "not-found", "no entry has this fullUrl", path, _RULE)
                dangling.append(moved(issue, entry.call.place))
            return self._within_bundle(link, base)

        references.rewrite(_body(entry), replacement)
        return dangling

    def _within_bundle(self, link: str, base: str) -> str:
        """A relative or versioned reference to an entry of the same Bundle, rewritten; any other as it is."""
        named = references.restful(link)
        if named is None:
            return link
        absolute = f"{named[0] or base}/{named[1]}/{named[2]}"
        return self._targets.get(absolute, link)


class _Matches:
    """What the conditional references of a transaction lead to: in the store, what it has written itself included."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._found: dict[str, str] = {}
        self._asked: dict[str, tuple[_Entry, str]] = {}  # who asked for it first

    def resolve(self, entry: _Entry) -> bool:
        """Rewrite the conditional references of the entry; False, and none rewritten, while one leads to nothing.

        Raises FhirError 412 for one that leads to several resources.
        """
        for path, link in _conditional(entry):
            found = self._found.get(link) or self._match(entry, path, link)
            if not found:
                return False
            self._found[link] = found
            self._asked.setdefault(link, (entry, path))

        def replacement(path: str, link: str) -> str:
            return self._found.get(link, link) if path.endswith(".reference") else link

        references.rewrite(_body(entry), replacement)
        return True

    def refuse(self, waiting: list[_Entry]) -> NoReturn:
        """Raise FhirError 412 naming each reference that leads to nothing."""
        message = "the conditional reference matches nothing"
        wanting = (path for entry in waiting for path, link in _conditional(entry) if link not in self._found)
        raise FhirError(412, [Issue("error", "not-found", message, path) for path in wanting])

    def confirm(self) -> None:
        """Refuse (412) a reference that led to one resource when it was written and does not any more."""
        for link, (entry, path) in self._asked.items():
            if self._match(entry, path, link) != self._found[link]:
                raise FhirError.of(412, "conflict", "the transaction itself changes what this leads to", path)

    def _match(self, entry: _Entry, path: str, link: str) -> str:
        """`Type/id`, or nothing."""
        resource_type, query = references.conditional(link) or ("", "")
        with _telling(entry):
            match = single_match(self._transaction, resource_type, query, path)
        return f"{resource_type}/{match}" if match else ""


def _conditional(entry: _Entry) -> Iterator[tuple[str, str]]:
    """(FHIRPath, reference) of each conditional reference in the body of an entry."""
    located = references.located(_body(entry), entry.call.place)
    return ((path, link) for path, link in located if references.conditional(link))


def _identify(transaction: Transaction, entry: _Entry) -> None:
    """Give the entry the id of what it writes; a conditional create that finds its resource is answered here."""
    if entry.interaction.code == "create" and entry.call.if_none_exist is None:
        return  # it has its id
    if entry.interaction.code == "create":
        entry.reply = identify_create(transaction, entry.call)
    elif entry.interaction.takes_patch:
        identify_patch(transaction, entry.call)
    else:
        identify_update(transaction, entry.call)


def _judge(repository: Repository, entries: list[_Entry], bundle_call: Call) -> None:
    """Have the policy judge the Bundle; what it remarks goes to the entries, to the first one what is of none."""
    if repository.judge is None or not entries:
        return
    places = [entry.call.place for entry in entries if entry.interaction.takes_body]
    for remark in repository.judge.judge_transaction(bundle_call.body or {}, places, bundle_call.language):
        named = (entry for entry in entries if remark.path.startswith(entry.call.place))
        next(named, entries[0]).call.remarks.append(remark)


def _body(entry: _Entry) -> Resource:
    """The body of an entry: of the type in its address, or a patch."""
    return (entry.call.body or {}) if entry.interaction.takes_patch else entry.call.resource()


def _run_phase(transaction: Transaction, entries: list[_Entry], *methods: str) -> None:
    for entry in entries:
        if entry.call.method in methods and entry.reply is None:
            with _telling(entry):
                entry.reply = entry.interaction.run(transaction, entry.call)


def _write(transaction: Transaction, entries: list[_Entry]) -> None:
    with transaction.together():
        _run_phase(transaction, entries, "POST")
    _refuse_rivals(transaction, entries)
    with transaction.together():
        _run_phase(transaction, entries, "PUT", "PATCH")


def _write_in_turn(transaction: Transaction, waiting: list[_Entry]) -> None:
    """Write entries with conditional references, each after what these lead to (R4 resolves them last of all).

    Raises FhirError 412 for a reference that leads to nothing, or in a circle to an entry that waits for this one.
    """
    matches = _Matches(transaction)
    for _ in range(_TURNS):
        ready = [entry for entry in waiting if matches.resolve(entry)]
        _write(transaction, ready)
        waiting = [entry for entry in waiting if entry.reply is None]
        if not (ready and waiting):
            break
    if waiting:
        matches.refuse(waiting)
    matches.confirm()


def _refuse_rivals(transaction: Transaction, entries: list[_Entry]) -> None:
    """Refuse (412) conditional creates that one transaction made true twice: each found nothing, now there are two."""
    for entry in entries:
        if entry.call.if_none_exist is not None:
            with _telling(entry):
                identify_create(transaction, entry.call)


@contextmanager
def _telling(entry: _Entry) -> Iterator[None]:
    """Whatever is refused inside the block names this entry."""
    try:
        yield
    except RelaisError as error:
        headers = error.headers if isinstance(error, FhirError) else {}
        raise FhirError(status_of(error), [_at(issue, entry.call.place) for issue in error.issues], headers) from error


def _at(issue: Issue, place: str) -> Issue:
    return issue if issue.path.startswith("Bundle.entry[") else moved(issue, place)


def _refuse_twice(names: Iterable[tuple[str, str]]) -> None:
    """Refuse (400) a name that two entries bear; `names` are (name, place) pairs."""
    seen: set[str] = set()
    for name, place in names:
        if name in seen:
            raise FhirError.of(400, "duplicate", "another entry of the transaction names the same resource", place)
        seen.add(name)


def _check_full_url(entry: _Entry) -> None:
    if not entry.full_url or entry.full_url.startswith(("urn:uuid:", "urn:oid:")):
        return
    named = references.restful(entry.full_url)
    if named is None or not named[0]:
        message = "fullUrl is urn:uuid:…, urn:oid:… or the absolute URL of a resource"
        raise FhirError.of(400, "value", message, f"{entry.place}.fullUrl")
    expected = entry.call.id or (entry.call.body or {}).get("id")
    if named[1] != entry.call.resource_type or (expected is not None and named[2] != expected):
        raise FhirError.of(400, "invalid", "fullUrl and the resource disagree", f"{entry.place}.fullUrl")


def _resource(given: Resource, place: str) -> Resource:
    resource = given.get("resource")
    if resource is None:
        raise FhirError.of(422, "required", "this interaction needs a resource", place)
    if not isinstance(resource, dict):
        raise FhirError.of(400, "structure", "a resource is an object", place)
    return resource


def _typed(resource: Resource, place: str) -> Resource:
    """The body of an operation, as one that comes alone is read: of some type; the operation judges the rest."""
    if not isinstance(resource.get("resourceType"), str):
        raise FhirError.of(400, "structure", "a resource has a resourceType", f"{place}.resourceType")
    return resource


def _refuse_without_request(given: Any) -> None:
    """R4 requires it by bdl-3, which is told of the Bundle as a whole: this names the entries."""
    entries = enumerate(given) if isinstance(given, list) else ()
    wanting = [index for index, entry in entries if isinstance(entry, dict) and "request" not in entry]
    if wanting:
        message = "an entry to process says how in request"
        raise FhirError(
            422, [Issue("error", "required", message, f"Bundle.entry[{index}].request", "bdl-3") for index in wanting]
        )


def _read_as_list(bundle: Resource, given: Any) -> None:
    """Put right what HAPI's client sends for a list of resources: a `total`, and entries whose body tells the url."""
    bundle.pop("total", None)
    for entry in given if isinstance(given, list) else ():
        request, resource = (entry.get(part) if isinstance(entry, dict) else None for part in ("request", "resource"))
        if not isinstance(request, dict) or not isinstance(resource, dict) or "url" in request:
            continue
        match request.get("method"), resource:
            case "POST", {"resourceType": str(resource_type)}:
                request["url"] = resource_type
            case "PUT", {"resourceType": str(resource_type), "id": str(resource_id)}:
                request["url"] = f"{resource_type}/{resource_id}"


def _envelope(bundle: Resource) -> Resource:
    """The Bundle without the resources of its entries, which are checked one by one."""
    entries = bundle.get("entry")
    if not isinstance(entries, list):
        return bundle
    without = [
        {name: value for name, value in entry.items() if name != "resource"} if isinstance(entry, dict) else entry
        for entry in entries
    ]
    return bundle | {"entry": without}


def _below_base(url: str, base: str) -> str:
    return url.removeprefix(base).lstrip("/")


def _answer(entry: _Entry) -> Resource:
    """The entry of the answer: always a response, the resource for reads and where Prefer asks for it."""
    reply, returned = entry.reply, entry.call.prefer.returned
    if reply is None:
        raise RuntimeError(f"{entry.place} was not processed")
    response: dict[str, Any] = {"status": _status_line(reply.status)}
    if reply.location:
        response["location"] = reply.location
    if reply.version is not None:
        response["etag"] = etag(reply.version)
    if reply.last_updated is not None:
        response["lastModified"] = instant(reply.last_updated)
    if reply.body and entry.interaction.writes and returned == "OperationOutcome":
        response["outcome"] = msgspec.Raw(reply.body)
    elif entry.call.remarks:
        response["outcome"] = operation_outcome(entry.call.remarks)
    answer: Resource = {"response": response}
    is_asked_for = returned == "representation" if entry.interaction.writes else entry.call.method != "HEAD"
    if reply.body and is_asked_for:
        answer["resource"] = msgspec.Raw(reply.body)
    return answer


def _answer_of_refusal(status: int, issues: Iterable[Issue]) -> Resource:
    return {"response": {"status": _status_line(status), "outcome": operation_outcome(issues)}}


def _answer_of_operation(reply: Reply) -> Resource:
    """As `_answer`; what is no FHIR resource goes into a Binary."""
    answer: Resource = {"response": {"status": _status_line(reply.status)}}
    if reply.body and reply.content_type == CONTENT_TYPE:
        answer["resource"] = msgspec.Raw(reply.body)
    elif reply.body:
        data = base64.b64encode(reply.body).decode("ascii")
        answer["resource"] = {"resourceType": "Binary", "contentType": reply.content_type, "data": data}
    return answer


def _status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
