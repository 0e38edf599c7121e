"""One transaction with the DMP: SOAP 1.2 over HTTPS with mutual TLS, WS-Addressing, a VIHF in WS-Security, MTOM.

ITI TF-2 appendix V, CI-SIS couche Transport (volet synchrone pour client lourd). Every request has a new MessageID and
a new assertion; an answer counts only if it relates to that MessageID.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urljoin, urlsplit
from uuid import uuid4

from lxml import etree

from relais.cda import parsing
from relais.cda.errors import Issue, UnreadableError
from relais.cda.xds import escaped
from relais.server.delivery import dmp_identity, mtom, vihf
from relais.server.delivery.channel import DeliveryError, UnsentError, quoted, record
from relais.server.delivery.https import Answer, Connections, LostAnswerError, Peer
from relais.server.delivery.vihf import Requester
from relais.server.settings import Settings

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"

MAX_ANSWER = 5_000_000

TRANSIENT_STATUS = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses after which the same request may be sent again."""

_DMP = Peer("the DMP", "dmp")


@dataclass(frozen=True, slots=True)
class Transaction:
    """A kind of request: its name in evidence (`ITI-18`), its action, the setting of its endpoint.

    A lost answer leaves doubt only about one that `changes` something.
    """

    name: str
    action: str
    endpoint: str
    changes: bool = False

    def unclear(self, message: str) -> DeliveryError:
        """The error of an answer that makes no sense, though it reports success."""
        return self.doubted(LostAnswerError("incomplete", message, rule=self.name))

    def doubted(self, error: LostAnswerError) -> DeliveryError:
        """The same error, without doubt when there is nothing to doubt."""
        return error if self.changes else DeliveryError(error.issues, retry=error.retry)


@dataclass(frozen=True, slots=True)
class Reply:
    """A SOAP body that answers a request, and the attachments that came with it."""

    body: etree._Element
    parts: Mapping[str, memoryview]


class Dmp:
    """The DMP that the settings name; safe for threads, its connections are kept."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._context: ssl.SSLContext | None = None
        self._connections: Connections | None = None

    def address(self, setting: str) -> str:
        """The endpoint of a setting; those that are not set stand beside `dmp_url`. Raises DeliveryError."""
        url = self.settings.dmp_url
        if setting != "dmp_url":
            beside = setting.removeprefix("dmp_").removesuffix("_url")
            url = str(getattr(self.settings, setting)) or urljoin(url, beside)
        if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
            raise failure("required", "the DMP endpoint must be an https address", setting)
        return url

    def call(
        self,
        transaction: Transaction,
        payload: bytes,
        who: Requester,
        patient: str,
        attachments: Sequence[mtom.Attachment] = (),
        *,
        limit: int = MAX_ANSWER,
    ) -> Reply:
        """Send `payload` in the name of `who` on the DMP of `patient` (CX) and give the body of the answer.

        The payload is an element in UTF-8, with the namespaces it needs and without XML declaration.
        Raises DeliveryError; LostAnswerError when the request may have been carried out all the same.
        """
        url = self.address(transaction.endpoint)
        connections = self._open()
        started = datetime.now(UTC)
        assertion = vihf.assertion(who, patient, dmp_identity.signer(self.settings), self.settings, started)
        message_id = f"urn:uuid:{uuid4()}"
        content_type, body = message(transaction.action, payload, attachments, url, message_id, assertion)
        headers = {
            "Content-Type": content_type,
            "Accept": f"multipart/related, {mtom.SOAP_TYPE}",
            "Accept-Encoding": "identity",
        }
        sent = (f"Content-Type: {content_type}\r\n\r\n".encode(), *body)
        try:
            answer = connections.post(url, headers, body, limit)
        except DeliveryError as error:
            record(transaction.name, url, started, sent, None)
            if isinstance(error, LostAnswerError):
                raise transaction.doubted(error) from None
            raise
        received = f"HTTP {answer.status}\r\nContent-Type: {answer.content_type}\r\n\r\n".encode() + bytes(answer.body)
        record(transaction.name, url, started, sent, received)
        return _read(answer, message_id, limit, transaction)

    def close(self) -> None:
        """Close the connections that are kept."""
        if self._connections is not None:
            self._connections.close()

    def _open(self) -> Connections:
        """The connections made with the certificates as they are now."""
        context = dmp_identity.tls_context(self.settings)
        if self._connections is None or context is not self._context:
            self._context = context
            self._connections = Connections(context, self.settings.sender_timeout, _DMP)
        return self._connections


def message(
    action: str,
    payload: bytes,
    attachments: Sequence[mtom.Attachment],
    url: str,
    message_id: str,
    assertion: bytes,
) -> tuple[str, list[bytes]]:
    """Content-Type and body of a request: MTOM when something is attached to it, plain SOAP otherwise."""
    envelope = _envelope(payload, action, url, message_id, assertion)
    if attachments:
        return mtom.build(envelope, attachments, action=action)
    return f'{mtom.SOAP_TYPE}; charset=UTF-8; action="{action}"', [envelope]


def _envelope(payload: bytes, action: str, url: str, message_id: str, assertion: bytes) -> bytes:
    head = (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        f'<soap:Envelope xmlns:soap="{SOAP}" xmlns:wsa="{WSA}"><soap:Header>'
        f'<wsa:Action soap:mustUnderstand="true">{action}</wsa:Action><wsa:MessageID>{message_id}</wsa:MessageID>'
        f"<wsa:To>{escaped(url)}</wsa:To>"
        f"<wsa:ReplyTo><wsa:Address>{WSA}/anonymous</wsa:Address></wsa:ReplyTo>"
        f'<wsse:Security xmlns:wsse="{WSSE}">'
    )
    return b"".join(
        (
            head.encode(),
            assertion,
            b"</wsse:Security></soap:Header><soap:Body>",
            payload,
            b"</soap:Body></soap:Envelope>",
        )
    )


def _read(answer: Answer, message_id: str, limit: int, transaction: Transaction) -> Reply:
    if answer.status in TRANSIENT_STATUS:
        raise _unavailable(answer, transaction)
    try:
        message = mtom.parse(answer.content_type, answer.body, limit=limit)
        envelope = parsing.parse(message.envelope).getroot()
    except UnreadableError as error:
        raise _unclear(answer, transaction, f"the answer cannot be read: {error.issues[0].message}") from error
    if envelope.tag != f"{{{SOAP}}}Envelope":
        raise _unclear(answer, transaction, "the answer is no SOAP 1.2 envelope")
    body = envelope.find(f"{{{SOAP}}}Body")
    fault = None if body is None else body.find(f"{{{SOAP}}}Fault")
    if fault is not None:
        raise _fault(fault)
    if answer.status != 200 or body is None or len(body) != 1:
        raise _unclear(answer, transaction, "the body of the answer holds not one element")
    if (envelope.findtext(f"{{{SOAP}}}Header/{{{WSA}}}RelatesTo") or "").strip() != message_id:
        raise _unclear(answer, transaction, "the answer does not relate to our message (wsa:RelatesTo)")
    return Reply(body[0], message.parts)


def _unavailable(answer: Answer, transaction: Transaction) -> DeliveryError:
    """A gateway that gave up waiting (502, 504) may have handed the request over."""
    message = f"the DMP is not available (HTTP {answer.status})"
    if transaction.changes and answer.status in (502, 504):
        return LostAnswerError("timeout", message, rule="HTTP")
    return UnsentError(Issue("error", "transient", message, rule="HTTP"))


def _unclear(answer: Answer, transaction: Transaction, message: str) -> DeliveryError:
    """A request that is at fault (4xx) is refused; anything else leaves open whether it was carried out."""
    if answer.status == 200:
        return transaction.unclear(message)
    message = f"{message} (HTTP {answer.status})"
    if answer.status >= 500 and transaction.changes:
        return transaction.unclear(message)
    return failure("processing", message, rule="HTTP")


def _fault(fault: etree._Element) -> DeliveryError:
    """SOAP 1.2 part 1 §5.4.6: after a Receiver fault the same message may succeed later, after any other it cannot."""
    code = (fault.findtext(f"{{{SOAP}}}Code/{{{SOAP}}}Value") or "").strip().rpartition(":")[2]
    subcode = (fault.findtext(f"{{{SOAP}}}Code/{{{SOAP}}}Subcode/{{{SOAP}}}Value") or "").strip()
    reason = fault.findtext(f"{{{SOAP}}}Reason/{{{SOAP}}}Text") or ""
    message = quoted(f"SOAP fault {code} {subcode}: {reason}")
    retry = code == "Receiver"
    return failure("transient" if retry else "processing", message, retry=retry, rule="SOAP")


def failure(code: str, message: str, path: str = "", *, retry: bool = False, rule: str = "") -> DeliveryError:
    """A DeliveryError of one issue."""
    return DeliveryError(Issue("error", code, message, path, rule), retry=retry)
