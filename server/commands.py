"""What the subcommands of `relais` do, without the terminal: also the way to use Relais from a script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from relais.cda import reader, xdm
from relais.cda.datatypes import PARIS, uuid_oid
from relais.cda.errors import Issue, RelaisError
from relais.cda.pdf import to_pdf
from relais.cda.rendering import to_html
from relais.cda.validation import Validator
from relais.cda.xds import CodedValue
from relais.cda.xds_attributes import SECTOR_SYSTEM
from relais.mappings.context import Emission, Resource
from relais.mappings.document_metadata import check_archive, document_entry, submission_set, usual_content_type
from relais.mappings.to_cda import convert as to_cda
from relais.profiles.structure import check as check_structure
from relais.server import document_imports
from relais.server.conformance import Conformance
from relais.server.delivery import gate, lot_author, service
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.transmit import Wanted, transmit, transmit_document
from relais.server.delivery.verdicts import Verdicts
from relais.server.delivery.worker import Check
from relais.server.document_forms import Level, at_level, serialised
from relais.server.document_imports import Filed
from relais.server.document_sources import CARRIERS
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump, load, parse
from relais.server.fhir.repository import Repository
from relais.server.private_files import write_private
from relais.server.settings import Settings
from relais.server.store import Store

_SUBSETS = "IHE_XDM"
Say = Callable[[str], None]


def settings(**overrides: object) -> Settings:
    """Settings as loaded, with the given ones (None: not given) in their place."""
    given = {name: value for name, value in overrides.items() if value is not None}
    loaded = {name: getattr(Settings.load(), name) for name in Settings.__dataclass_fields__}
    return Settings.of(loaded | given)


def open_repository(settings: Settings) -> Repository:
    """The stored resources of the database that the settings name. Raises RelaisError when it cannot be used."""
    conformance = Conformance.load(settings)  # what is written here is indexed as the facade does
    store = Store.open(settings.database_url)
    conformance.settle(store)
    return Repository(store, settings.fhir_base)


# --- documents ------------------------------------------------------------------------------------------------


def convert(
    data: bytes, settings: Settings, now: datetime, level: Level = "n3", style_sheet: str = ""
) -> tuple[bytes, list[Issue]]:
    """The document of a FHIR Bundle (JSON bytes), and what the mapping wants said. Raises RelaisError."""
    bundle = parse(data, settings.max_depth)
    _require(bundle.get("resourceType") == "Bundle", "a Bundle is expected", "resourceType")
    _refuse_errors(check_structure(bundle))
    mapped = to_cda(bundle, Emission(settings.deployment, now.astimezone(PARIS)))
    return serialised(at_level(mapped.document, level, settings.deployment), style_sheet), mapped.issues


def import_document(data: bytes) -> tuple[bytes, list[Issue]]:
    """The FHIR document Bundle (JSON bytes) of a CDA, and what could not be carried over. Raises RelaisError."""
    received = document_imports.receive(data)
    return dump(received.bundle), list(received.issues)


def store_document(data: bytes, settings: Settings) -> Filed:
    """Store a CDA with all that it says, as `$from-cda` with `store` does. Raises RelaisError."""
    received = document_imports.receive(data)
    document_imports.refuse_other_environment(received.document, settings.deployment)
    store = Store.open(settings.database_url)
    try:
        with Facade(settings, store).repository.transaction() as transaction:
            return document_imports.file(transaction, received)
    finally:
        store.close()


def render(data: bytes, form: Literal["html", "pdf"]) -> bytes:
    """A CDA document as people read it. Raises RelaisError."""
    document = reader.read(data).document
    return to_pdf(document) if form == "pdf" else to_html(document).encode()


def pack(contents: Sequence[bytes], settings: Settings, now: datetime) -> bytes:
    """IHE_XDM.ZIP of CDA documents of one patient, sent by who would send them by mail. Raises RelaisError."""
    models = [reader.read(content).document for content in contents]
    _refuse_errors([issue for model in models for issue in gate.refusals(model, "mss", settings)])
    entries = [
        document_entry(model, content, entry_id=f"Document{n:02}", uri=f"DOC{n:05}.XML", destination="mss")
        for n, (model, content) in enumerate(zip(models, contents, strict=True), start=1)
    ]
    lot_id = uuid_oid("lot", now.isoformat(), *(entry.unique_id for entry in entries))
    author = lot_author.sender_if_known(entries[0].authors, settings)
    sector = CodedValue(settings.facility_type, "", SECTOR_SYSTEM)
    lot = submission_set(
        models[0],
        unique_id=lot_id,
        source_id=settings.source_oid,
        time=now,
        content_type=usual_content_type(entries[0].facility_type, sector),
        author=author,
    )
    sender = lot_author.named_in_archives(author, settings)
    return xdm.pack(list(zip(contents, entries, strict=True)), lot, sender=sender)


def unpack(data: bytes, folder: Path) -> tuple[list[Path], list[Issue]]:
    """Check an archive and write its documents into `folder`. Raises ArchiveError before anything is written."""
    archive = xdm.unpack(data)
    issues = [*archive.issues, *check_archive(archive)]
    _refuse_errors(issues)
    files = {folder / Path(document.path).relative_to(_SUBSETS): document.data for document in archive.documents}
    _refuse_errors([Issue("error", "duplicate", "the file exists", str(path)) for path in files if path.exists()])
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, data)
    return list(files), issues


# --- validation -----------------------------------------------------------------------------------------------


def open_validators(settings: Settings) -> list[Validator]:
    """The rule sets of the settings, all to be met. Raises RelaisError where they are not on this machine."""
    folder = settings.rules_folder
    if folder is None:
        raise RelaisError(
            Issue("fatal", "not-found", "official CI-SIS rules not found: set RELAIS_CISIS_PACK to their folder")
        )
    return [Validator(folder, name) for name in settings.rule_set_names]


# --- delivery -------------------------------------------------------------------------------------------------


def send(what: str, channels: Sequence[str], recipients: Sequence[str], settings: Settings) -> Resource:
    """Order the delivery of the document of `Type/[id]` or of a CDA file; the Task of the order. Raises RelaisError."""
    wanted = Wanted(tuple(channels), tuple(recipients))
    repository = open_repository(settings)
    is_stored = what.partition("/")[0] in (*CARRIERS, "DocumentReference")
    try:
        with repository.transaction() as transaction:
            if is_stored:
                task = transmit(transaction, what, wanted, settings, transaction.now)
            else:
                task = transmit_document(transaction, Path(what).read_bytes(), wanted, settings, transaction.now)
    finally:
        repository.store.close()
    return load(task.content or b"")


def task(task_id: str, settings: Settings) -> Resource:
    """The Task with that id, as it stands now."""
    repository = open_repository(settings)
    try:
        return repository.load("Task", task_id)
    finally:
        repository.store.close()


def work(settings: Settings, stop: threading.Event) -> None:
    """Run the delivery worker until `stop` is set."""
    service.run(settings, departure_check(settings), stop)


def departure_check(settings: Settings) -> Check:
    """The check that a worker makes before each attempt: what may leave at all, then the official rules."""
    verdicts = Verdicts(lambda: _warm_validators(settings), _forbidding) if settings.rules_folder else None

    def check(content: bytes, channel: str) -> list[Issue]:
        document = reader.read_header(reader.parse(content))
        refused = [
            issue for name in gate.CHANNELS if name == channel for issue in gate.refusals(document, name, settings)
        ]
        if refused:
            return refused
        if verdicts is None:
            return [] if settings.rules_required is False else _rules_absent()
        return verdicts.of(content)

    return check


def _warm_validators(settings: Settings) -> list[Validator]:
    validators = open_validators(settings)
    for validator in validators:
        validator.warm_up()
    return validators


def _forbidding(validators: Sequence[Validator], content: bytes) -> list[Issue]:
    """What any of the rule sets holds against a document, once."""
    reports = [validator.validate(content) for validator in validators]
    refused = [issue for report in reports if not report.acceptable for issue in report.to_issues()]
    return list(dict.fromkeys(issue for issue in refused if issue.severity in ("fatal", "error")))


def _rules_absent() -> NoReturn:
    message = "the official rules are not on this machine and the setting rules_required forbids to send without them"
    raise DeliveryError(Issue("error", "incomplete", message), retry=True)


def _require(condition: bool, message: str, path: str) -> None:
    if not condition:
        raise RelaisError(Issue("error", "invalid", message, path))


def _refuse_errors(issues: Sequence[Any]) -> None:
    errors = [
        Issue(issue.severity, issue.code, issue.message, issue.path, issue.rule)
        for issue in issues
        if issue.severity in ("fatal", "error")
    ]
    if errors:
        raise RelaisError(errors)
