"""The DMP channel: ITI-41 Provide and Register Document Set-b over HTTPS (SOAP 1.2, WS-Addressing, MTOM/XOP).

IHE ITI TF-2 §3.41 and TF-3 table 4.2.4.1-2 (errors), as the CI-SIS volet Partage de documents de santé restricts them.
This version sends neither the VIHF assertion nor the signature of the lot, and presents no client certificate.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import requests
import urllib3
from lxml import etree
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection

from relais.cda import parsing, xds
from relais.cda.errors import Issue, UnreadableError
from relais.server.delivery import mtom
from relais.server.delivery.channel import DeliveryError, Receipt, Shipment, check_integrity, making_the_message, quoted
from relais.server.delivery.deadline import ATTEMPT, Deadline
from relais.server.settings import Settings

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
XDS = "urn:ihe:iti:xds-b:2007"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
ACTION = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
STATUS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:"
WARNING = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"

MAX_ANSWER = 2_000_000
CHUNK = 65_536

TRANSIENT_STATUS = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses after which the same shipment may be sent again."""


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of RegistryError is to be treated; `code` is the FHIR issue type it becomes."""

    code: str
    retry: bool
    codes: tuple[str, ...]


TRANSIENT = Family(
    "transient",
    True,
    (
        "XDSRegistryBusy",
        "XDSRepositoryBusy",
        "XDSRegistryOutOfResources",
        "XDSRepositoryOutOfResources",
        "XDSRegistryNotAvailable",
    ),
)
DUPLICATE = Family(
    "duplicate",
    False,
    (
        "XDSDuplicateUniqueIdInRegistry",
        "XDSRegistryDuplicateUniqueIdInMessage",
        "XDSRepositoryDuplicateUniqueIdInMessage",
    ),
)
CONTENT = Family(
    "invalid",
    False,
    (
        "XDSRegistryMetadataError",
        "XDSRepositoryMetadataError",
        "XDSMetadataIdentifierError",
        "InvalidDocumentContent",
        "XDSNonIdenticalHash",
        "XDSNonIdenticalSize",
        "XDSMissingDocument",
        "XDSMissingDocumentMetadata",
        "XDSObjectTypeError",
    ),
)
PATIENT = Family(
    "not-found", False, ("XDSUnknownPatientId", "XDSPatientIdDoesNotMatch", "XDSPatientIDReconciliationError")
)
REPLACEMENT = Family(
    "conflict",
    False,
    (
        "XDSReplaceFailed",
        "XDSRegistryDeprecatedDocumentError",
        "UnresolvedReferenceException",
        "LocalPolicyRestrictionError",
    ),
)
OTHER = Family("processing", False, ("XDSRegistryError", "XDSRepositoryError", "XDSInvalidRequestException"))
"""Also the family of every code that is not in this table: an unknown code is final."""

FAMILY_OF = {
    code: family for family in (TRANSIENT, DUPLICATE, CONTENT, PATIENT, REPLACEMENT, OTHER) for code in family.codes
}

_DUPLICATE_ADVICE = (
    "the repository already holds this identifier: an earlier attempt whose answer was lost stored it, or another "
    "document bears it; ask the registry (GetDocuments) before anything is sent again"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    content_type: str
    body: bytes


class DmpChannel:
    """Sends one document to the ITI-41 endpoint of the settings."""

    name = "dmp"

    def __init__(self, settings: Settings) -> None:
        self._url = settings.dmp_url
        self._ca_file = settings.dmp_ca_file
        self._timeout = settings.sender_timeout

    def send(self, shipment: Shipment) -> Receipt:
        """Send once; every attempt has a new wsa:MessageID and the same document and lot identifiers.

        Raises DeliveryError; when the answer is lost or makes no sense the document may have been stored, and the
        error is one after which the same shipment may be sent again.
        """
        self._check_settings()
        check_integrity(shipment)
        message_id = f"urn:uuid:{uuid4()}"
        with making_the_message():
            content_type, body = provide_and_register(shipment, self._url, message_id)
        return read_answer(self._post(content_type, body), message_id)

    def _check_settings(self) -> None:
        if urlsplit(self._url).scheme != "https":
            raise _failure("required", "the DMP endpoint must be an https address", "dmp_url")
        if self._ca_file and not Path(self._ca_file).is_file():
            raise _failure("not-found", "no such file", "dmp_ca_file")

    def _post(self, content_type: str, body: bytes) -> Answer:
        with Deadline(ATTEMPT * self._timeout) as deadline:
            try:
                answer = self._exchange(content_type, body, deadline)
            except requests.RequestException as error:
                raise _late() if deadline.expired else _network_failure(error) from error
            except DeliveryError as error:
                if deadline.expired:
                    raise _late() from error
                raise
            if deadline.expired:  # a connection shut down may look like the end of the answer
                raise _late()
        return answer

    def _exchange(self, content_type: str, body: bytes, deadline: Deadline) -> Answer:
        with requests.Session() as session:
            session.trust_env = False  # every setting of Relais comes from Settings
            session.mount("https://", _WatchedAdapter(deadline))
            with session.post(
                self._url,
                data=body,
                headers={
                    "Content-Type": content_type,
                    "Accept": f"multipart/related, {mtom.SOAP_TYPE}",
                    "Accept-Encoding": "identity",
                },
                timeout=self._timeout,
                verify=self._ca_file or True,
                allow_redirects=False,
                stream=True,
            ) as response:
                return Answer(response.status_code, response.headers.get("Content-Type", ""), _read(response))


class _WatchedAdapter(HTTPAdapter):
    """Shows a deadline every connection that is opened: what stalls may be the head of the answer, or our request."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: Any = None,
    ) -> Any:
        """The pool for a request, whose connections the deadline watches."""
        pool: Any = super().get_connection_with_tls_context(request, verify, proxies, cert)
        pool.ConnectionCls = functools.partial(_WatchedConnection, self._deadline)
        return pool


class _WatchedConnection(HTTPSConnection):
    def __init__(self, deadline: Deadline, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        connected = self.sock  # forgotten by the connection once the answer begins
        self._deadline.watch(lambda: connected)


def _late() -> DeliveryError:
    return _failure("timeout", "the exchange takes too long: the document may have been stored", retry=True)


def _read(response: requests.Response) -> bytes:
    """The body as it stands on the wire."""
    received = bytearray()
    try:
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            received += chunk
            if len(received) > MAX_ANSWER:
                raise _failure("too-long", f"answer larger than {MAX_ANSWER} bytes: the document may have been stored")
    except urllib3.exceptions.ReadTimeoutError as error:
        raise _failure("timeout", "no answer in time: the document may have been stored", retry=True) from error
    except urllib3.exceptions.HTTPError as error:
        raise _failure(
            "incomplete", "the answer was cut short: the document may have been stored", retry=True
        ) from error
    return bytes(received)


def _network_failure(error: requests.RequestException) -> DeliveryError:
    """What went wrong on the way, and whether the request can have been processed."""
    if _has_cause(error, ssl.SSLCertVerificationError):
        return _failure("security", "the certificate of the repository is not trusted", "dmp_ca_file", rule="TLS")
    if isinstance(error, requests.ConnectTimeout):
        return _failure("timeout", "the repository does not answer the connection", retry=True)
    if isinstance(error, requests.Timeout):
        return _failure("timeout", "no answer in time: the document may have been stored", retry=True)
    if isinstance(error, requests.exceptions.SSLError):
        return _failure("transient", "the TLS connection could not be set up", retry=True, rule="TLS")
    if isinstance(error, requests.ConnectionError):
        return _failure("transient", "the connection failed, or was cut before an answer", retry=True)
    return _failure("exception", f"the request could not be made ({type(error).__name__})", "dmp_url")


def _has_cause(error: BaseException | None, wanted: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, wanted):
            return True
        error = error.__cause__ or error.__context__
    return False


# --- request --------------------------------------------------------------------------------------------------------


def provide_and_register(shipment: Shipment, url: str, message_id: str) -> tuple[str, bytes]:
    """Content-Type and body of the ITI-41 request; the document travels as its own part, byte for byte.

    Raises MetadataError when the metadata are not fit to be sent.
    """
    entry = replace(shipment.submission.entries[0], uri=None)  # a name in an archive means nothing here
    metadata = xds.submit_objects_request(replace(shipment.submission, entries=(entry,)))
    part = mtom.Attachment(f"{uuid4()}@relais", entry.mime_type, shipment.document)
    envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP, "wsa": WSA})
    _add_addressing(etree.SubElement(envelope, f"{{{SOAP}}}Header"), url, message_id)
    body = etree.SubElement(envelope, f"{{{SOAP}}}Body")
    request = etree.SubElement(body, f"{{{XDS}}}ProvideAndRegisterDocumentSetRequest", nsmap={"xds": XDS})
    request.append(metadata)
    etree.SubElement(request, f"{{{XDS}}}Document", id=entry.entry_id).append(mtom.include(part.content_id))
    data = etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")
    return mtom.build(data, [part], action=ACTION)


def _add_addressing(header: etree._Element, url: str, message_id: str) -> None:
    action = etree.SubElement(header, f"{{{WSA}}}Action")
    action.set(f"{{{SOAP}}}mustUnderstand", "true")
    action.text = ACTION
    etree.SubElement(header, f"{{{WSA}}}MessageID").text = message_id
    etree.SubElement(header, f"{{{WSA}}}To").text = url
    reply_to = etree.SubElement(header, f"{{{WSA}}}ReplyTo")
    etree.SubElement(reply_to, f"{{{WSA}}}Address").text = f"{WSA}/anonymous"


# --- answer ---------------------------------------------------------------------------------------------------------


def read_answer(answer: Answer, message_id: str) -> Receipt:
    """The receipt of a RegistryResponse Success that answers `message_id`. Raises DeliveryError for anything else."""
    if answer.status in TRANSIENT_STATUS:
        raise _failure("transient", f"the repository is not available (HTTP {answer.status})", retry=True, rule="HTTP")
    envelope = _envelope(answer)
    fault = envelope.find(f"{{{SOAP}}}Body/{{{SOAP}}}Fault")
    if fault is not None:
        raise _fault(fault)
    response = envelope.find(f"{{{SOAP}}}Body/{{{RS}}}RegistryResponse")
    if answer.status != 200 or response is None:
        raise _incomprehensible(answer, "no RegistryResponse in the answer")
    if (envelope.findtext(f"{{{SOAP}}}Header/{{{WSA}}}RelatesTo") or "").strip() != message_id:
        raise _incomprehensible(answer, "the answer does not relate to our message (wsa:RelatesTo)")
    return _read_response(response)


def _envelope(answer: Answer) -> etree._Element:
    try:
        message = mtom.parse(answer.content_type, answer.body, limit=MAX_ANSWER)
        envelope = parsing.parse(message.envelope).getroot()
    except UnreadableError as error:
        raise _incomprehensible(answer, f"the answer cannot be read: {error.issues[0].message}") from error
    if envelope.tag != f"{{{SOAP}}}Envelope":
        raise _incomprehensible(answer, "the answer is no SOAP 1.2 envelope")
    return envelope


def _incomprehensible(answer: Answer, message: str) -> DeliveryError:
    """An HTTP error is a refusal; a success we cannot make sense of leaves open whether the document was stored."""
    if answer.status == 200:
        return _failure("incomplete", f"{message}; the document may have been stored", retry=True, rule="ITI-41")
    return _failure("processing", f"{message} (HTTP {answer.status})", rule="HTTP")


def _fault(fault: etree._Element) -> DeliveryError:
    """SOAP 1.2 part 1 §5.4.6: after a Receiver fault the same message may succeed later, after any other it cannot."""
    code = (fault.findtext(f"{{{SOAP}}}Code/{{{SOAP}}}Value") or "").strip().rpartition(":")[2]
    subcode = (fault.findtext(f"{{{SOAP}}}Code/{{{SOAP}}}Subcode/{{{SOAP}}}Value") or "").strip()
    reason = fault.findtext(f"{{{SOAP}}}Reason/{{{SOAP}}}Text") or ""
    message = quoted(f"SOAP fault {code} {subcode}: {reason}")
    retry = code == "Receiver"
    return _failure("transient" if retry else "processing", message, retry=retry, rule="SOAP")


def _read_response(response: etree._Element) -> Receipt:
    status = response.get("status", "").removeprefix(STATUS)
    found = list(response.iterfind(f"{{{RS}}}RegistryErrorList/{{{RS}}}RegistryError"))
    errors = [error for error in found if error.get("severity") != WARNING]
    warnings = [_describe(error) for error in found if error.get("severity") == WARNING]
    if status == "Success" and not errors:
        return Receipt("; ".join(["stored by the repository", *(f"warning {text}" for text in warnings)]))
    if not errors:
        raise _failure("processing", quoted(f"answer status {status or 'absent'} without an error"), rule="ITI-41")
    families = [FAMILY_OF.get(error.get("errorCode", ""), OTHER) for error in errors]
    issues = [_registry_issue(error, family) for error, family in zip(errors, families, strict=True)]
    raise DeliveryError(issues, retry=status == "Failure" and all(family.retry for family in families))


def _registry_issue(error: etree._Element, family: Family) -> Issue:
    message = _describe(error)
    if error.get("errorCode") == "XDSDuplicateUniqueIdInRegistry":
        message = f"{message}; {_DUPLICATE_ADVICE}"
    return Issue("error", family.code, message, quoted(error.get("location", "")), quoted(error.get("errorCode", "")))


def _describe(error: etree._Element) -> str:
    return quoted(f"{error.get('errorCode', 'no code')}: {error.get('codeContext', '')}")


def _failure(code: str, message: str, path: str = "", *, retry: bool = False, rule: str = "") -> DeliveryError:
    return DeliveryError(Issue("error", code, message, path, rule), retry=retry)
