"""The SOAP side of the sandbox DMP: reads requests, writes answers.

It shares no code with the sender (`relais.server.delivery.mtom`): the multipart message is cut apart by its delimiter
and its headers are read here, their parameters by the standard library's mail package, so that a fault of the sender's
framing cannot pass unseen.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import NoReturn
from urllib.parse import unquote
from uuid import uuid4
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from relais.cda import parsing
from relais.cda.errors import UnreadableError

NAMESPACES = {
    "soap": "http://www.w3.org/2003/05/soap-envelope",
    "wsa": "http://www.w3.org/2005/08/addressing",
    "wsse": "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "xds": "urn:ihe:iti:xds-b:2007",
    "lcm": "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0",
    "xop": "http://www.w3.org/2004/08/xop/include",
}
PROVIDE_AND_REGISTER = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
RETRIEVE = "urn:ihe:iti:2007:RetrieveDocumentSet"
QUERY = "urn:ihe:iti:2007:RegistryStoredQuery"
UPDATE = "urn:ihe:iti:2010:UpdateDocumentSet"
EXISTENCE = "urn:hl7-org:v3:PRPA_IN201307UV02"

_RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
_RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
_QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
_HL7 = "urn:hl7-org:v3"
_REGREP = "urn:oasis:names:tc:ebxml-regrep"
_MESSAGE_ID = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNDERSTOOD = {"Action", "MessageID", "To", "ReplyTo"}
_SOAP_TYPE, _XOP_TYPE = "application/soap+xml", "application/xop+xml"


class SoapFaultError(Exception):
    """A request refused before its content is looked at; `code` is a SOAP 1.2 fault code."""

    def __init__(self, reason: str, code: str = "Sender", relates_to: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.code, self.relates_to = reason, code, relates_to


@dataclass(frozen=True, slots=True)
class RegistryError:
    """One error of a RegistryResponse (ITI TF-3 table 4.2.4.1-2)."""

    code: str
    context: str
    location: str = ""


@dataclass(frozen=True, slots=True)
class SoapRequest:
    """A request whose framing is right; `parts` are those that the payload includes, by Content-ID."""

    message_id: str
    action: str
    assertion: etree._Element
    payload: etree._Element
    parts: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class ProvideAndRegister:
    """An ITI-41 request: its metadata and its documents, (id, bytes) in order of appearance."""

    message_id: str
    metadata: etree._Element
    documents: Sequence[tuple[str, bytes]]


# --- request --------------------------------------------------------------------------------------------------------


def read_request(content_type: str, body: bytes, url: str, actions: Iterable[str]) -> SoapRequest:
    """Read the request received at `url`. Raises SoapFaultError for anything but well-framed SOAP of those actions."""
    envelope, parts, announced = _read_message(content_type, body)
    message_id, action = _check_addressing(envelope, url, tuple(actions))
    with _relating_to(message_id):
        if announced != action:
            _refuse("Content-Type: parameter action must be wsa:Action")
        assertions = envelope.findall("soap:Header/wsse:Security/saml:Assertion", NAMESPACES)
        if len(assertions) != 1:
            _refuse("exactly one VIHF in wsse:Security is needed")
        payload = envelope.findall("soap:Body/*", NAMESPACES)
        if len(payload) != 1:
            _refuse("the body must hold exactly one element")
    return SoapRequest(message_id, action, assertions[0], payload[0], parts)


@contextlib.contextmanager
def _relating_to(message_id: str) -> Iterator[None]:
    """Faults of the block are answers to that message."""
    try:
        yield
    except SoapFaultError as fault:
        fault.relates_to = message_id
        raise


def _refuse(reason: str) -> NoReturn:
    raise SoapFaultError(reason)


def _read_message(content_type: str, body: bytes) -> tuple[etree._Element, dict[str, bytes], str]:
    """The envelope, the parts beside it and the action of the Content-Type."""
    kind, parameters = _content_type(content_type)
    action = parameters.get("action", "")
    if kind == _SOAP_TYPE:
        return _parse(body), {}, action
    if kind != "multipart/related" or not parameters.get("boundary"):
        raise SoapFaultError("the request must be SOAP 1.2, plain or multipart/related (MTOM)")
    _check_parameters(parameters, {"type": _XOP_TYPE, "start-info": _SOAP_TYPE})
    parts = dict(_parts(body, parameters["boundary"].encode()))
    root, data = parts.pop(parameters.get("start", ""), ("", b""))
    kind, parameters = _content_type(root)
    if kind != _XOP_TYPE:
        raise SoapFaultError("start must name a part of type application/xop+xml")
    _check_parameters(parameters, {"type": _SOAP_TYPE})
    return _parse(data), {name.strip("<>"): data for name, (_, data) in parts.items()}, action


@functools.lru_cache(maxsize=32)
def _content_type(text: str) -> tuple[str, Mapping[str, str]]:
    """The media type and its parameters by their names in lower case, the first of each."""
    message = Message()
    message["Content-Type"] = text
    parameters = message.get_params(failobj=[])[1:]
    return message.get_content_type(), {name.lower(): str(value) for name, value in reversed(parameters)}


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Content-ID, Content-Type and content of each part."""
    first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if first or not parts or parts[-1] != b"--\r\n":
        raise SoapFaultError("multipart message without its delimiters, or cut short")
    seen: set[str] = set()
    for part in parts[:-1]:
        head, separator, data = part.partition(b"\r\n\r\n")
        if not part.startswith(b"\r\n") or not separator:
            raise SoapFaultError("a part has no header")
        header = _header_fields(head[2:])
        content_id = header.get("content-id", "")
        if not re.fullmatch(r"<[^<>\s]+>", content_id) or content_id in seen:
            raise SoapFaultError("every part needs its own Content-ID in angle brackets")
        if header.get("content-transfer-encoding", "").lower() != "binary":
            raise SoapFaultError("every part must have Content-Transfer-Encoding: binary")
        seen.add(content_id)
        yield content_id, (header.get("content-type", ""), data)


def _header_fields(head: bytes) -> dict[str, str]:
    """The fields of the header of a part by their names in lower case (RFC 5322 §2.2)."""
    found: dict[str, str] = {}
    for line in head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n"):
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not name or name != name.strip():
            raise SoapFaultError("a line in the header of a part is no field")
        if name.lower() in found:
            raise SoapFaultError("a field in the header of a part is given twice")
        found[name.lower()] = value.strip()
    return found


def _check_parameters(given: Mapping[str, str], expected: Mapping[str, str]) -> None:
    for name, value in expected.items():
        if given.get(name) != value:
            raise SoapFaultError(f"Content-Type: parameter {name} must be {value}")


def _parse(data: bytes) -> etree._Element:
    try:
        envelope = parsing.parse(data).getroot()
    except UnreadableError as error:
        raise SoapFaultError(f"the envelope is not acceptable XML: {error.issues[0].message}") from error
    if envelope.tag != f"{{{NAMESPACES['soap']}}}Envelope":
        raise SoapFaultError("the root must be a SOAP 1.2 Envelope", "VersionMismatch")
    return envelope


def _check_addressing(envelope: etree._Element, url: str, actions: Sequence[str]) -> tuple[str, str]:
    """MessageID and Action, once the WS-Addressing headers are right."""
    header = envelope.find("soap:Header", NAMESPACES)
    if header is None:
        raise SoapFaultError("no soap:Header")
    must_understand = f"{{{NAMESPACES['soap']}}}mustUnderstand"
    for block in header.iterchildren(tag=etree.Element):
        name = etree.QName(block)
        understood = name.namespace == NAMESPACES["wsa"] and name.localname in _UNDERSTOOD
        understood = understood or block.tag == f"{{{NAMESPACES['wsse']}}}Security"
        if not understood and block.get(must_understand) in ("true", "1"):
            raise SoapFaultError(f"header {name.localname} is not understood", "MustUnderstand")
    message_id = _one_text(header, "wsa:MessageID")
    if not _MESSAGE_ID.fullmatch(message_id):
        raise SoapFaultError("wsa:MessageID must be urn:uuid: and a UUID in lower case")
    element = header.find("wsa:Action", NAMESPACES)
    action = _one_text(header, "wsa:Action")
    if action not in actions or element is None or element.get(must_understand) not in ("true", "1"):
        expected = " or ".join(actions)
        raise SoapFaultError(f"wsa:Action must be {expected} with mustUnderstand", relates_to=message_id)
    if _one_text(header, "wsa:To") != url:
        raise SoapFaultError("wsa:To must be the address of this service", relates_to=message_id)
    return message_id, action


def _one_text(header: etree._Element, path: str) -> str:
    found = header.findall(path, NAMESPACES)
    if len(found) != 1:
        raise SoapFaultError(f"exactly one {path} is needed")
    return (found[0].text or "").strip()


def read_provide_and_register(request: SoapRequest) -> ProvideAndRegister:
    """The content of an ITI-41 request. Raises SoapFaultError."""
    with _relating_to(request.message_id):
        if request.payload.tag != f"{{{NAMESPACES['xds']}}}ProvideAndRegisterDocumentSetRequest":
            _refuse("the body must hold a ProvideAndRegisterDocumentSetRequest")
        metadata = request.payload.findall("lcm:SubmitObjectsRequest", NAMESPACES)
        if len(metadata) != 1:
            _refuse("the request must hold exactly one lcm:SubmitObjectsRequest")
        parts = dict(request.parts)
        documents = [_read_document(element, parts) for element in request.payload.iterfind("xds:Document", NAMESPACES)]
        if parts:
            _refuse("a part of the message is named by no xop:Include")
    return ProvideAndRegister(request.message_id, metadata[0], documents)


def _read_document(element: etree._Element, parts: dict[str, bytes]) -> tuple[str, bytes]:
    """The id and the bytes; the part is taken out of `parts`."""
    include = element.find("xop:Include", NAMESPACES)
    if include is None or len(element) != 1 or (element.text or "").strip():
        raise SoapFaultError("xds:Document must hold one xop:Include and nothing else")
    href = include.get("href", "")
    data = parts.pop(unquote(href.removeprefix("cid:")), None) if href.startswith("cid:") else None
    if data is None:
        raise SoapFaultError("xop:Include names a part that is not in the message")
    return element.get("id", ""), data


# --- answer ---------------------------------------------------------------------------------------------------------


def registry_response(errors: Sequence[RegistryError] = ()) -> str:
    """A RegistryResponse: Success without errors, else Failure."""
    return f'<rs:RegistryResponse xmlns:rs="{_RS}" {_status(bool(errors))}>{_errors(errors)}</rs:RegistryResponse>'


def query_response(objects: Sequence[etree._Element], errors: Sequence[RegistryError] = ()) -> str:
    """An AdhocQueryResponse with the objects found."""
    found = "".join(etree.tostring(one, encoding="unicode", with_tail=False) for one in objects)
    return (
        f'<query:AdhocQueryResponse xmlns:query="{_QUERY}" xmlns:rim="{_RIM}" xmlns:rs="{_RS}" {_status(bool(errors))}>'
        f"{_errors(errors)}<rim:RegistryObjectList>{found}</rim:RegistryObjectList></query:AdhocQueryResponse>"
    )


def _status(failed: bool) -> str:
    return f'status="{_REGREP}:ResponseStatusType:{"Failure" if failed else "Success"}"'


def _errors(errors: Sequence[RegistryError]) -> str:
    if not errors:
        return ""
    severity = f"{_REGREP}:ErrorSeverityType:Error"
    listed = "".join(
        f"<rs:RegistryError errorCode={quoteattr(error.code)} codeContext={quoteattr(error.context)}"
        f' severity="{severity}" location={quoteattr(error.location)}/>'
        for error in errors
    )
    return f'<rs:RegistryErrorList highestSeverity="{severity}">{listed}</rs:RegistryErrorList>'


def retrieve_response(repository: str, found: Sequence[tuple[str, str, str]], errors: Sequence[RegistryError]) -> str:
    """A RetrieveDocumentSetResponse of documents (uniqueId, mimeType, Content-ID)."""
    partial = bool(found and errors)
    status = 'status="urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"' if partial else _status(bool(errors))
    documents = "".join(
        f"<xds:DocumentResponse><xds:RepositoryUniqueId>{repository}</xds:RepositoryUniqueId>"
        f"<xds:DocumentUniqueId>{unique_id}</xds:DocumentUniqueId><xds:mimeType>{escape(mime_type)}</xds:mimeType>"
        f'<xds:Document><xop:Include xmlns:xop="{NAMESPACES["xop"]}" href="cid:{content_id}"/></xds:Document>'
        "</xds:DocumentResponse>"
        for unique_id, mime_type, content_id in found
    )
    return (
        f'<xds:RetrieveDocumentSetResponse xmlns:xds="{NAMESPACES["xds"]}" xmlns:rs="{_RS}">'
        f"<rs:RegistryResponse {status}>{_errors(errors)}</rs:RegistryResponse>{documents}"
        "</xds:RetrieveDocumentSetResponse>"
    )


def existence_response(statuses: Sequence[str], oid: str, matricule: str) -> str:
    """A PRPA_IN201308UV02; a status is active, terminated or absent, and there is one of each patient told."""
    found = "".join(
        '<subject typeCode="SUBJ"><registrationEvent classCode="REG" moodCode="EVN"><statusCode code="active"/>'
        f'<subject1 typeCode="SBJ"><patient classCode="PAT"><id root="{oid}" extension="{matricule}"/>'
        f'<statusCode code="{status}"/></patient></subject1></registrationEvent></subject>'
        for status in statuses
        if status != "absent"
    )
    return (
        f'<PRPA_IN201308UV02 xmlns="{_HL7}" ITSVersion="XML_1.0"><acknowledgement><typeCode code="AA"/>'
        f'</acknowledgement><controlActProcess classCode="CACT" moodCode="EVN">{found}'
        f'<queryAck><queryResponseCode code="{"NF" if "absent" in statuses else "OK"}"/></queryAck>'
        "</controlActProcess></PRPA_IN201308UV02>"
    )


def answer(action: str, relates_to: str, body: str) -> bytes:
    """The envelope of the answer to a request of that action."""
    response = "urn:hl7-org:v3:PRPA_IN201308UV02" if action == EXISTENCE else f"{action}Response"
    return _envelope(response, relates_to, body)


def fault_response(fault: SoapFaultError) -> bytes:
    """The envelope of a SOAP fault."""
    body = (
        f"<soap:Fault><soap:Code><soap:Value>soap:{fault.code}</soap:Value></soap:Code>"
        f'<soap:Reason><soap:Text xml:lang="en">{escape(fault.reason)}</soap:Text></soap:Reason></soap:Fault>'
    )
    return _envelope(f"{NAMESPACES['wsa']}/fault", fault.relates_to, body)


def _envelope(action: str, relates_to: str | None, body: str) -> bytes:
    related = f"<wsa:RelatesTo>{escape(relates_to)}</wsa:RelatesTo>" if relates_to else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<soap:Envelope xmlns:soap="{NAMESPACES["soap"]}" '
        f'xmlns:wsa="{NAMESPACES["wsa"]}"><soap:Header><wsa:Action>{action}</wsa:Action>'
        f"<wsa:MessageID>urn:uuid:{uuid4()}</wsa:MessageID>{related}</soap:Header>"
        f"<soap:Body>{body}</soap:Body></soap:Envelope>"
    ).encode()


def multipart(envelope: bytes, parts: Sequence[tuple[str, str, bytes]] = ()) -> tuple[str, bytes]:
    """Content-Type and body of an answer as MTOM stacks send it: the envelope, then (Content-ID, type, bytes)."""
    boundary, start = f"sandbox-{uuid4().hex}", "answer@sandbox"
    root = (start, 'application/xop+xml; charset=UTF-8; type="application/soap+xml"', envelope)
    pieces = []
    for content_id, kind, data in (root, *parts):
        pieces += [
            f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: <{content_id}>\r\n\r\n".encode(),
            data,
            b"\r\n",
        ]
    content_type = (
        f'multipart/related; boundary={boundary}; type="application/xop+xml"; start="<{start}>"; '
        'start-info="application/soap+xml"'
    )
    return content_type, b"".join([*pieces, f"--{boundary}--\r\n".encode()])
