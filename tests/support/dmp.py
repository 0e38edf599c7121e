"""The DMP of a sandbox as tests use it: settings that lead there, and requests changed on their way."""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from uuid import uuid4

from lxml import etree

from relais.server.delivery import dmp_identity, dmp_soap, lot_signature, mtom, vihf, xds_client
from relais.server.delivery.channel import Shipment
from relais.server.sandbox import Sandbox
from relais.server.settings import Settings

RESPONSIBLE = {
    "responsible_rpps": "10101234564",
    "responsible_family": "LEMOINE",
    "responsible_given": "Hélène",
    "organization_name": "Cabinet des Tilleuls",
    "organization_finess": "750099996",
    "dmp_mode": "INDIRECTE_RENFORCEE",
}
"""The author of the small document, as who answers for this installation."""

Assertion = Callable[[etree._Element], Any]


def dmp_settings(sandbox: Sandbox, **changes: object) -> Settings:
    """Settings that lead to the DMP of the sandbox."""
    return Settings.of({**sandbox.settings, "sender_timeout": 20, **RESPONSIBLE, **changes})


def raw_answer(
    sandbox: Sandbox,
    shipment: Shipment,
    *changes: tuple[str, str],
    content_type: str | None = None,
    assertion: Assertion | None = None,
    **settings: object,
) -> str:
    """The answer to an ITI-41 request whose text was changed (regular expression, replacement) on its way.

    `assertion` changes the VIHF once it is signed, or gives another.
    """
    given, body = raw_request(sandbox, shipment, assertion, **settings)
    for pattern, replacement in changes:
        body, count = re.subn(pattern.encode(), replacement.encode(), body, flags=re.DOTALL)
        assert count, pattern
    return post(sandbox, sandbox.dmp_url, content_type or given, body)


def raw_request(
    sandbox: Sandbox, shipment: Shipment, change: Assertion | None = None, **settings: object
) -> tuple[str, bytes]:
    """Content-Type and body of an ITI-41 request, with the VIHF and the signature of the lot."""
    used = dmp_settings(sandbox, **settings)
    lot = shipment.submission.submission_set
    signer = dmp_identity.signer(used)
    documents = {entry.entry_id: shipment.document for entry in shipment.submission.entries}
    submission, signature = lot_signature.signed(shipment.submission, documents, signer, "sha256")
    payload, attachments = xds_client.provide_and_register(submission, {**documents, lot_signature.ENTRY_ID: signature})
    action = xds_client.PROVIDE_AND_REGISTER.action
    return raw_message(used, action, payload, lot.patient_id, sandbox.dmp_url, attachments, change)


def raw_message(
    settings: Settings,
    action: str,
    payload: bytes,
    patient: str,
    url: str,
    attachments: list[mtom.Attachment] | None = None,
    change: Assertion | None = None,
) -> tuple[str, bytes]:
    """Content-Type and body of any request."""
    who = vihf.requester(settings)
    assertion = vihf.assertion(who, patient, dmp_identity.signer(settings), settings, datetime.now(UTC))
    if change is not None:
        assertion = _changed(assertion, change)
    content_type, body = dmp_soap.message(action, payload, attachments or [], url, f"urn:uuid:{uuid4()}", assertion)
    return content_type, b"".join(body)


def _changed(assertion: bytes, change: Assertion) -> bytes:
    tree = etree.fromstring(assertion)
    other = change(tree)
    return etree.tostring(tree if other is None else other)


def post(sandbox: Sandbox, url: str, content_type: str, body: bytes) -> str:
    """The text of the answer, whatever its status."""
    context = ssl.create_default_context(cafile=str(sandbox.ca_file))
    context.load_cert_chain(str(sandbox.settings["dmp_certificate"]))
    request = urllib.request.Request(url, data=body, headers={"Content-Type": content_type})  # noqa: S310 - https
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:  # noqa: S310
            return str(answer.read().decode())
    except HTTPError as error:
        with error:
            return error.read().decode()


def errors(answer: str) -> list[str]:
    """The error codes of a RegistryResponse or AdhocQueryResponse."""
    assert "ResponseStatusType" in answer, answer
    return re.findall(r'errorCode="(\w+)"', answer)


def reason(answer: str) -> str:
    """The reason of a SOAP fault."""
    found = re.search(r"<soap:Text[^>]*>(.*?)</soap:Text>", answer)
    assert found, answer
    return found[1]
