"""The SOAP side of the sandbox repository: reads an ITI-41 request, writes its answer.

It shares no code with the sender (`relais.server.delivery.mtom`): the multipart message is read by the standard
library's mail parser, so that a fault of the sender's own framing cannot pass unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from urllib.parse import unquote
from uuid import uuid4
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from relais.cda import parsing
from relais.cda.errors import UnreadableError

NAMESPACES = {
    "soap": "http://www.w3.org/2003/05/soap-envelope",
    "wsa": "http://www.w3.org/2005/08/addressing",
    "xds": "urn:ihe:iti:xds-b:2007",
    "lcm": "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0",
    "xop": "http://www.w3.org/2004/08/xop/include",
}
ACTION = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"

_RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
_REGREP = "urn:oasis:names:tc:ebxml-regrep"
_MESSAGE_ID = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNDERSTOOD = {"Action", "MessageID", "To", "ReplyTo"}
_PARAMETERS = {"type": "application/xop+xml", "start-info": "application/soap+xml", "action": ACTION}
_ROOT_PARAMETERS = {"type": "application/soap+xml"}


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
class ProvideAndRegister:
    """A request whose framing is right: its metadata and its documents, (id, bytes) in order of appearance."""

    message_id: str
    metadata: etree._Element
    documents: Sequence[tuple[str, bytes]]


# --- request --------------------------------------------------------------------------------------------------------


def read_request(content_type: str, body: bytes, url: str) -> ProvideAndRegister:
    """Read the request received at `url`. Raises SoapFaultError for anything but a well-framed ITI-41 request."""
    envelope, parts = _read_multipart(content_type, body)
    message_id = _check_addressing(envelope, url)
    try:
        return _read_body(envelope, parts, message_id)
    except SoapFaultError as fault:
        fault.relates_to = message_id
        raise


def _read_multipart(content_type: str, body: bytes) -> tuple[etree._Element, dict[str, bytes]]:
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    if message.get_content_type() != "multipart/related" or not message.is_multipart():
        raise SoapFaultError("the request must be multipart/related (MTOM)")
    if message.defects:
        raise SoapFaultError(f"multipart message malformed: {type(message.defects[0]).__name__}")
    _check_parameters(message, _PARAMETERS)
    parts: dict[str, Message] = {}
    for part in message.walk():
        if part is message:
            continue
        content_id = str(part.get("Content-ID", ""))
        if not re.fullmatch(r"<[^<>\s]+>", content_id) or content_id in parts:
            raise SoapFaultError("every part needs its own Content-ID in angle brackets")
        parts[content_id] = part
    root = parts.pop(str(message.get_param("start")), None)
    if root is None or root.get_content_type() != "application/xop+xml":
        raise SoapFaultError("start must name a part of type application/xop+xml")
    _check_parameters(root, _ROOT_PARAMETERS)
    return _parse(_content(root)), {name.strip("<>"): _content(part) for name, part in parts.items()}


def _check_parameters(part: Message, expected: Mapping[str, str]) -> None:
    for name, value in expected.items():
        if part.get_param(name) != value:
            raise SoapFaultError(f"Content-Type: parameter {name} must be {value}")


def _content(part: Message) -> bytes:
    if part.is_multipart() or str(part.get("Content-Transfer-Encoding", "")).lower() != "binary":
        raise SoapFaultError("every part must be a single one with Content-Transfer-Encoding: binary")
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        raise SoapFaultError("a part cannot be read")
    return content


def _parse(data: bytes) -> etree._Element:
    try:
        envelope = parsing.parse(data).getroot()
    except UnreadableError as error:
        raise SoapFaultError(f"the envelope is not acceptable XML: {error.issues[0].message}") from error
    if envelope.tag != f"{{{NAMESPACES['soap']}}}Envelope":
        raise SoapFaultError("the root must be a SOAP 1.2 Envelope", "VersionMismatch")
    return envelope


def _check_addressing(envelope: etree._Element, url: str) -> str:
    """The MessageID, once the WS-Addressing headers are right."""
    header = envelope.find("soap:Header", NAMESPACES)
    if header is None:
        raise SoapFaultError("no soap:Header")
    must_understand = f"{{{NAMESPACES['soap']}}}mustUnderstand"
    for block in header.iterchildren(tag=etree.Element):
        name = etree.QName(block)
        understood = name.namespace == NAMESPACES["wsa"] and name.localname in _UNDERSTOOD
        if not understood and block.get(must_understand) in ("true", "1"):
            raise SoapFaultError(f"header {name.localname} is not understood", "MustUnderstand")
    message_id = _one_text(header, "wsa:MessageID")
    if not _MESSAGE_ID.fullmatch(message_id):
        raise SoapFaultError("wsa:MessageID must be urn:uuid: and a UUID in lower case")
    action = header.find("wsa:Action", NAMESPACES)
    if _one_text(header, "wsa:Action") != ACTION or action is None or action.get(must_understand) not in ("true", "1"):
        raise SoapFaultError(f"wsa:Action must be {ACTION} with mustUnderstand", relates_to=message_id)
    if _one_text(header, "wsa:To") != url:
        raise SoapFaultError("wsa:To must be the address of this repository", relates_to=message_id)
    return message_id


def _one_text(header: etree._Element, path: str) -> str:
    found = header.findall(path, NAMESPACES)
    if len(found) != 1:
        raise SoapFaultError(f"exactly one {path} is needed")
    return (found[0].text or "").strip()


def _read_body(envelope: etree._Element, parts: dict[str, bytes], message_id: str) -> ProvideAndRegister:
    request = envelope.find("soap:Body/xds:ProvideAndRegisterDocumentSetRequest", NAMESPACES)
    if request is None:
        raise SoapFaultError("the body must hold a ProvideAndRegisterDocumentSetRequest")
    metadata = request.findall("lcm:SubmitObjectsRequest", NAMESPACES)
    if len(metadata) != 1:
        raise SoapFaultError("the request must hold exactly one lcm:SubmitObjectsRequest")
    documents = [_read_document(element, parts) for element in request.iterfind("xds:Document", NAMESPACES)]
    if parts:
        raise SoapFaultError("a part of the message is named by no xop:Include")
    return ProvideAndRegister(message_id, metadata[0], documents)


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


def registry_response(relates_to: str, errors: Sequence[RegistryError] = ()) -> bytes:
    """The envelope of a RegistryResponse: Success without errors, else Failure."""
    status = f"{_REGREP}:ResponseStatusType:{'Failure' if errors else 'Success'}"
    listed = "".join(map(_error, errors))
    severity = f"{_REGREP}:ErrorSeverityType:Error"
    if listed:
        listed = f'<rs:RegistryErrorList highestSeverity="{severity}">{listed}</rs:RegistryErrorList>'
    body = f'<rs:RegistryResponse xmlns:rs="{_RS}" status="{status}">{listed}</rs:RegistryResponse>'
    return _envelope(f"{ACTION}Response", relates_to, body)


def _error(error: RegistryError) -> str:
    return (
        f"<rs:RegistryError errorCode={quoteattr(error.code)} codeContext={quoteattr(error.context)}"
        f' severity="{_REGREP}:ErrorSeverityType:Error" location={quoteattr(error.location)}/>'
    )


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


def multipart(envelope: bytes) -> tuple[str, bytes]:
    """Content-Type and body of an answer with the envelope as its only part, as MTOM stacks send it."""
    boundary, start = f"sandbox-{uuid4().hex}", "answer@sandbox"
    head = _lines(
        [
            f"--{boundary}",
            'Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"',
            "Content-Transfer-Encoding: binary",
            f"Content-ID: <{start}>",
            "",
        ]
    )
    content_type = (
        f'multipart/related; boundary={boundary}; type="application/xop+xml"; start="<{start}>"; '
        f'start-info="application/soap+xml"; action="{ACTION}Response"'
    )
    return content_type, head + envelope + _lines(["", f"--{boundary}--"])


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()
