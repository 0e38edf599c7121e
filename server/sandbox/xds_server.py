"""The sandbox DMP on the wire: HTTPS with client certificates, its three services, and the faults they can play."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from relais.cda.xds_types import CX
from relais.server.sandbox import soap, stored_queries
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.exchanges import ExchangeLog
from relais.server.sandbox.faults import Faults
from relais.server.sandbox.https_server import Answer, HttpsServer, Request
from relais.server.sandbox.registry import (
    DELETED,
    HIDDEN_FROM_PROFESSIONALS,
    REPOSITORY_ID,
    Registry,
    StoredDocument,
    contributors,
)
from relais.server.sandbox.repository import TEST_PATIENT_DOMAINS, RefusedError, Repository
from relais.server.sandbox.service_faults import (
    EXISTENCE_FAULTS,
    QUERY_FAULTS,
    RETRIEVE_FAULTS,
    UPDATE_FAULTS,
    ServiceFault,
)
from relais.server.sandbox.soap import RegistryError, SoapFaultError, SoapRequest
from relais.server.sandbox.updates import Update
from relais.server.sandbox.vihf_checks import Caller, VihfChecks

SERVICES = "/si-dmp-server/v2/services"
PATH = f"{SERVICES}/repository"
MAX_REQUEST = 80_000_000
SILENCE = 60.0
"""Seconds without an answer when a fault asks for silence; the end of the server cuts it short."""
SLOWNESS = 2.0
"""Seconds before the answer when a fault asks for slowness."""

_ASKED_FOR = "asked of the sandbox"
_REGISTRY_BUSY = RegistryError("XDSRegistryBusy", _ASKED_FOR)
_SOMEBODY_ELSE = "277076322082910"
"""An INS of test."""
ItemT = TypeVar("ItemT")

_ACTIONS = {
    "repository": (soap.PROVIDE_AND_REGISTER, soap.RETRIEVE),
    "registry": (soap.QUERY, soap.UPDATE),
    "patients": (soap.EXISTENCE,),
}
_READING = "INDIRECTE_RENFORCEE"
_OWN_QUERIES = frozenset({"5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", "bab9529a-4a10-40b3-a01f-f68a615d247a"})
"""Stored queries of mode INDIRECTE: GetDocuments, with associations or not, about one's own documents (TD3.1b)."""


class RepositoryFault(enum.Enum):
    """What the repository can do wrong with ITI-41, and whether it stores the document when it does."""

    BUSY = "XDSRepositoryBusy, nothing stored"
    UNKNOWN_CODE = "an error code nobody knows, nothing stored"
    DUPLICATE = "XDSDuplicateUniqueIdInRegistry, nothing stored"
    UNAVAILABLE = "HTTP 503, nothing stored"
    HTML_PAGE = "a Web page with HTTP 200, nothing stored"
    SILENT_BEFORE = "no answer, nothing stored"
    DROPPED_BEFORE = "the connection is cut after the data, nothing stored"
    SLOW = "the answer comes late, stored"
    SILENT_AFTER = "no answer, stored"
    DROPPED_AFTER = "the connection is cut after the data, stored"
    MALFORMED = "an answer that is not XML, stored"
    HALF_ANSWER = "an answer cut in its middle, stored"
    WRONG_RELATION = "an answer to another message, stored"


_STORING = (
    RepositoryFault.SLOW,
    RepositoryFault.SILENT_AFTER,
    RepositoryFault.DROPPED_AFTER,
    RepositoryFault.MALFORMED,
    RepositoryFault.HALF_ANSWER,
    RepositoryFault.WRONG_RELATION,
)
_NOT_STORING = tuple(fault for fault in RepositoryFault if fault not in _STORING)
_CODES = {
    RepositoryFault.BUSY: "XDSRepositoryBusy",
    RepositoryFault.UNKNOWN_CODE: "SandboxInventedError",
    RepositoryFault.DUPLICATE: "XDSDuplicateUniqueIdInRegistry",
}


@dataclass(slots=True)
class Patients:
    """Who has a DMP: everybody with an INS of test, unless said otherwise here by matricule."""

    closed: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def status(self, patient: CX, domains: frozenset[str]) -> str:
        """active, terminated or absent."""
        if patient.oid not in domains or patient.id in self.absent:
            return "absent"
        return "terminated" if patient.id in self.closed else "active"


class XdsServer:
    """The repository at `url`, registry and patients beside it; `folder` keeps `documents` and `exchanges`.

    The exchanges of a connection are one file (see `ExchangeLog`).
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        patient_domains: frozenset[str] = TEST_PATIENT_DOMAINS,
    ) -> None:
        self.faults: Faults[RepositoryFault] = Faults()
        self.registry_faults: Faults[ServiceFault] = Faults()
        self.retrieve_faults: Faults[ServiceFault] = Faults()
        self.update_faults: Faults[ServiceFault] = Faults()
        self.patients_faults: Faults[ServiceFault] = Faults()
        self.patients = Patients()
        self._patient_domains = patient_domains
        self._exchanges = ExchangeLog(folder / "exchanges")
        self._repository = Repository(folder / "documents", patient_domains, authority)
        self._vihf = VihfChecks(authority)
        self._message_ids: set[str] = set()
        # One request at a time is worked on: threads that hand the interpreter to each other cost as much again.
        self._working = threading.Lock()
        self._stopping = threading.Event()
        self._server = HttpsServer(
            self._answer_and_record,
            authority.server_context(clients=True),
            host=host,
            port=port,
            max_request=MAX_REQUEST,
        )
        self._services: dict[str, Callable[[SoapRequest, Caller], Answer]] = {
            soap.PROVIDE_AND_REGISTER: self._provide_and_register,
            soap.RETRIEVE: self._retrieve,
            soap.QUERY: self._query,
            soap.UPDATE: self._update,
            soap.EXISTENCE: self._existence,
        }

    @property
    def host(self) -> str:
        """Address it listens on."""
        return self._server.host

    @property
    def port(self) -> int:
        """Port it listens on, known once started."""
        return self._server.port

    @property
    def url(self) -> str:
        """Address of the repository; the port is known once started."""
        return f"https://{self.host}:{self.port}{PATH}"

    def start(self) -> None:
        """Listen; a port 0 becomes a free one, kept for later starts."""
        self._stopping.clear()
        self._server.start()

    def stop(self) -> None:
        """Stop listening and cut every connection; the port refuses connections afterwards."""
        self._stopping.set()
        self._server.stop()

    def documents(self) -> list[StoredDocument]:
        """Every document stored, oldest first."""
        return self._repository.documents()

    def _answer_and_record(self, request: Request) -> Answer:
        service = request.path.removeprefix(f"{SERVICES}/")
        if service not in _ACTIONS:
            return Answer(404, "text/plain", b"Not Found")
        with self._working:
            answer = self._answer(service, request)
            self._exchanges.add(request, answer)
        return answer

    def _answer(self, service: str, request: Request) -> Answer:
        try:
            received = soap.read_request(request.content_type, request.body, request.url, _ACTIONS[service])
            self._refuse_replay(received.message_id)
            try:
                caller = self._vihf.check(received.assertion, request.client)
                return self._services[received.action](received, caller)
            except SoapFaultError as refused:
                refused.relates_to = received.message_id
                raise
        except SoapFaultError as refused:
            return _multipart(soap.fault_response(refused), status=400 if refused.code == "Sender" else 500)

    def _refuse_replay(self, message_id: str) -> None:
        if message_id in self._message_ids:
            raise SoapFaultError("this wsa:MessageID was received before", relates_to=message_id)
        self._message_ids.add(message_id)

    def _wait(self, seconds: float) -> None:
        """Let others work until the time is over, or the server stops."""
        self._working.release()
        try:
            self._stopping.wait(seconds)
        finally:
            self._working.acquire()

    # --- repository ---

    def _provide_and_register(self, received: SoapRequest, caller: Caller) -> Answer:
        submission = soap.read_provide_and_register(received)
        fault = self.faults.take(*_NOT_STORING)
        if fault is not None:
            return self._fail_before(fault, received)
        try:
            self._repository.register(submission, caller)
        except RefusedError as failure:
            return _said(received, soap.registry_response(failure.errors))
        return self._fail_after(self.faults.take(*_STORING), received)

    def _fail_before(self, fault: RepositoryFault, received: SoapRequest) -> Answer:
        if fault in _CODES:
            return _said(received, soap.registry_response([RegistryError(_CODES[fault], _ASKED_FOR)]))
        if fault is RepositoryFault.HTML_PAGE:
            return Answer(200, "text/html", b"<html><body>Maintenance</body></html>")
        if fault is RepositoryFault.SILENT_BEFORE:
            self._wait(SILENCE)
        return replace(_unavailable(), is_cut=fault is RepositoryFault.DROPPED_BEFORE)

    def _fail_after(self, fault: RepositoryFault | None, received: SoapRequest) -> Answer:
        """The answer to a submission that is stored: success, or the success spoiled by a fault."""
        if fault is RepositoryFault.SILENT_AFTER:
            self._wait(SILENCE)
        if fault is RepositoryFault.SLOW:
            self._wait(SLOWNESS)
        message_id = f"urn:uuid:{uuid4()}" if fault is RepositoryFault.WRONG_RELATION else received.message_id
        envelope = soap.answer(received.action, message_id, soap.registry_response())
        if fault is RepositoryFault.MALFORMED:
            envelope = envelope.replace(b"</soap:Body>", b"</soap:Bogus>")
        answer = _multipart(envelope)
        if fault is RepositoryFault.HALF_ANSWER:
            length = len(answer.body)
            return replace(answer, body=answer.body[: length // 2], announced=length)
        return replace(answer, is_cut=fault is RepositoryFault.DROPPED_AFTER)

    def _retrieve(self, received: SoapRequest, caller: Caller) -> Answer:
        _check_mode(caller)
        fault = self.retrieve_faults.take(*RETRIEVE_FAULTS)
        if fault is ServiceFault.BUSY:
            busy = RegistryError("XDSRepositoryBusy", _ASKED_FOR)
            return _said(received, soap.retrieve_response(REPOSITORY_ID, [], [busy]))
        found, parts, errors = [], [], []
        with self._repository.reading() as registry:
            visible = _visibility(caller, registry)
            for asked in received.payload.iterfind("xds:DocumentRequest", soap.NAMESPACES):
                repository = asked.findtext("xds:RepositoryUniqueId", "", soap.NAMESPACES)
                unique_id = asked.findtext("xds:DocumentUniqueId", "", soap.NAMESPACES)
                document = registry.newest(unique_id)
                if repository != REPOSITORY_ID:
                    errors.append(RegistryError("XDSUnknownRepositoryId", "another repository", unique_id))
                elif document is None or not visible(document) or document.status == DELETED:
                    errors.append(RegistryError("XDSDocumentUniqueIdError", "no such document", unique_id))
                else:
                    content_id, data = f"{uuid4()}@sandbox", document.content()
                    found.append((unique_id, document.entry.mime_type, content_id))
                    data = b"?" + data[1:] if fault is ServiceFault.OTHER_BYTES else data
                    parts.append((content_id, document.entry.mime_type, data))
        found = _repeated(found, fault)
        body = soap.retrieve_response(REPOSITORY_ID, found, errors)
        return self._spoiled(fault, received, body, parts if found else ())

    # --- registry ---

    def _query(self, received: SoapRequest, caller: Caller) -> Answer:
        fault = self.registry_faults.take(*QUERY_FAULTS)
        if fault is ServiceFault.BUSY:
            return _said(received, soap.query_response([], [_REGISTRY_BUSY]))
        if not any(query in str(received.payload.xpath("string(.//@id)")) for query in _OWN_QUERIES):
            _check_mode(caller)
        try:
            with self._repository.reading() as registry:
                found = stored_queries.answer(received.payload, registry, _visibility(caller, registry))
        except stored_queries.QueryError as error:
            return _said(received, soap.query_response([], [error.error]))
        return self._spoiled(fault, received, soap.query_response(_repeated(found, fault)))

    def _update(self, received: SoapRequest, caller: Caller) -> Answer:
        fault = self.update_faults.take(*UPDATE_FAULTS)
        if fault is ServiceFault.BUSY:
            return _said(received, soap.registry_response([_REGISTRY_BUSY]))
        errors: tuple[RegistryError, ...] = ()
        try:
            update = Update.read(received.payload)
            restricted = update.versions or any(change.new != DELETED for change in update.statuses)
            if caller.mode != _READING and restricted:
                errors = (RegistryError("LocalPolicyRestrictionError", "not in this mode of authentication"),)
            else:
                for _ in _repeated([update], fault):
                    self._repository.update(update, received.message_id, caller)
        except ValueError as error:
            errors = (RegistryError("XDSMetadataUpdateError", str(error)),)
        except RefusedError as error:
            errors = error.errors
        return self._spoiled(fault, received, soap.registry_response(errors))

    # --- patients ---

    def _existence(self, received: SoapRequest, caller: Caller) -> Answer:
        names = {"h": "urn:hl7-org:v3"}
        reason = received.payload.find("h:controlActProcess/h:reasonCode", names)
        value = received.payload.find(".//h:parameterList/h:patientIdentifier/h:value", names)
        if reason is None or reason.get("code") != "TEST_EXST" or value is None:
            raise SoapFaultError("reasonCode TEST_EXST and a patientIdentifier are needed")
        patient = CX(value.get("extension", ""), value.get("root", ""), "NH")
        if str(patient) != caller.patient:
            raise SoapFaultError("the VIHF is about another patient")
        fault = self.patients_faults.take(*EXISTENCE_FAULTS)
        if fault is ServiceFault.BUSY:
            raise SoapFaultError(_ASKED_FOR, code="Receiver")
        status = self.patients.status(patient, self._patient_domains)
        matricule = _SOMEBODY_ELSE if fault is ServiceFault.OTHER_PATIENT else patient.id
        body = soap.existence_response(_repeated([status], fault), patient.oid, matricule)
        return self._spoiled(fault, received, body)

    # --- faults of what is answered ---

    def _spoiled(
        self,
        fault: ServiceFault | None,
        received: SoapRequest,
        body: str,
        parts: Sequence[tuple[str, str, bytes]] = (),
    ) -> Answer:
        """The answer to what was done, late, cut off or to another message where a fault asks for it."""
        if fault is ServiceFault.UNAVAILABLE:
            return _unavailable()
        if fault is ServiceFault.SLOW:
            self._wait(SLOWNESS)
        message_id = f"urn:uuid:{uuid4()}" if fault is ServiceFault.WRONG_RELATION else received.message_id
        answer = _multipart(soap.answer(received.action, message_id, body), parts)
        return replace(answer, is_cut=fault is ServiceFault.DROPPED_AFTER)


def _check_mode(caller: Caller) -> None:
    if caller.mode != _READING:
        raise SoapFaultError("this mode of authentication does not open consultation")


def _visibility(caller: Caller, registry: Registry) -> Callable[[StoredDocument], bool]:
    """What the caller sees: documents of the patient of the VIHF; masked ones only when they are its own."""
    own = {caller.identifier, caller.structure}

    def visible(document: StoredDocument) -> bool:
        if document.entry.patient_id != caller.patient:
            return False
        current = registry.newest(document.entry.unique_id) or document
        masks = {code.code for code in current.entry.confidentiality}
        return HIDDEN_FROM_PROFESSIONALS not in masks or bool(own & contributors(document.entry.authors))

    return visible


def _repeated(found: Sequence[ItemT], fault: ServiceFault | None) -> list[ItemT]:
    """What a service does or tells: once, twice, or not at all."""
    times = {ServiceFault.TWICE: 2, ServiceFault.BLIND: 0, ServiceFault.UNAVAILABLE: 0}
    return [*found] * (1 if fault is None else times.get(fault, 1))


def _said(received: SoapRequest, body: str) -> Answer:
    return _multipart(soap.answer(received.action, received.message_id, body))


def _multipart(envelope: bytes, parts: Sequence[tuple[str, str, bytes]] = (), status: int = 200) -> Answer:
    content_type, body = soap.multipart(envelope, parts)
    return Answer(status, content_type, body)


def _unavailable() -> Answer:
    return Answer(503, "text/plain", b"Service Unavailable")
