"""The channel to a FHIR document share: deposit, replacement and withdrawal as the volet PDSm has them.

PDSm 3.1.1 on IHE MHD 4.2: ITI-65 (flux 01) or ITI-105 (flux 09) deposits, ITI-67 (flux 05b) tells what the share holds,
ITI-68 reads a document back, a patch (flux 03) takes a fiche out of use. The share is asked first what it holds under
the identifier of the document, so an answer that was lost does no harm.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from relais.cda.errors import Issue, RelaisError
from relais.cda.reader import read
from relais.cda.xds import REPLACE, DocumentEntry, Submission
from relais.cda.xds_types import CX
from relais.mappings import pdsm
from relais.mappings.context import Resource
from relais.server.delivery.channel import (
    DeliveryError,
    Receipt,
    Shipment,
    check_integrity,
    making_the_message,
    quoted,
    record,
)
from relais.server.delivery.https import Answer, Connections, LostAnswerError, Peer
from relais.server.delivery.tls import client_context
from relais.server.fhir.json_format import dump, parse
from relais.server.settings import Settings

_JSON = "application/fhir+json"
_FORM = "application/x-www-form-urlencoded"
_LARGEST_ANSWER = 5_000_000
_LARGEST_DOCUMENT = 100_000_000
_DEEPEST = 60
_FICHE = "DocumentReference"
_MOST_PAGES = 100
_NOT_HELD = (
    "the share does not hold the document that this one replaces: deposited as a new one; if it is there under another"
    " identifier, have it taken out of use"
)
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class MhdChannel:
    """Sends one document to the share of the settings."""

    name = "mhd"

    def __init__(self, settings: Settings) -> None:
        self._share = Share(settings)
        self._simplified = settings.mhd_deposit == "simplified"

    def send(self, shipment: Shipment) -> Receipt:
        """Carry the shipment out once. Raises DeliveryError; what has arrived already counts as delivered."""
        check_integrity(shipment)
        entry = shipment.submission.entries[0]
        found = self._share.find(pdsm.unique_id(entry)["value"])
        if shipment.action == "withdraw":
            return self._withdraw(found, entry)
        if found is not None:
            _check_same(found, entry)
            if found.get("status") != "current":
                raise _failure(
                    "conflict", "the share holds this document out of use already", "ITI-65, masterIdentifier"
                )
            return Receipt("held by the share already")
        replaced, remark = self._replaced(shipment.submission)
        with making_the_message():
            document = read(shipment.document).document
        if self._simplified:
            patient = self._share.patient(CX.parse(entry.patient_id))
            with making_the_message():
                fiche = pdsm.simplified(document, shipment.document, shipment.submission, patient, replaced=replaced)
            self._share.publish(fiche)
        else:
            with making_the_message():
                bundle = pdsm.deposit(document, shipment.document, shipment.submission, replaced=replaced)
            self._share.transact("ITI-65", bundle)
        return Receipt("; ".join(filter(None, ["stored by the share", remark])), remark)

    def close(self) -> None:
        """Close the connections kept for the next sending."""
        self._share.close()

    def _replaced(self, submission: Submission) -> tuple[str | None, str]:
        """The reference of the fiche to replace, if any, and what to know when the share does not hold it."""
        target = next((one.target for one in submission.associations if one.type == REPLACE), None)
        if target is None:
            return None, ""
        fiche = self._share.find(target)
        return (None, _NOT_HELD) if fiche is None else (f"DocumentReference/{fiche['id']}", "")

    def _withdraw(self, fiche: Resource | None, entry: DocumentEntry) -> Receipt:
        if fiche is None:
            raise _failure("not-found", "the share does not hold the document to withdraw", "PDSm, flux 03")
        _check_same(fiche, entry)
        if fiche.get("status") != "current":
            return Receipt("out of use already")
        patch = pdsm.superseding(f"DocumentReference/{fiche['id']}")
        self._share.transact("flux 03", {"resourceType": "Bundle", "type": "transaction", "entry": [patch]})
        return Receipt("taken out of use on the share")


class Share:
    """A FHIR document share (gestionnaire de partage de documents) over HTTPS."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._base = settings.mhd_url.rstrip("/")
        self._connections: Connections | None = None

    def close(self) -> None:
        """Close the connections that are kept."""
        if self._connections is not None:
            self._connections.close()

    def find(self, identifier: str) -> Resource | None:
        """ITI-67: the fiche that bears an identifier (`urn:oid:…`, `urn:uuid:…`), current or superseded, or None.

        Raises DeliveryError, also when several do.
        """
        found = self.search({"identifier": f"{pdsm.URI}|{identifier}", "status": "current,superseded"})
        with _understanding("ITI-67"):
            fiches = [one for one in found if identifier in _identifiers(one)]
        if len(fiches) > 1:
            raise _failure("multiple-matches", "the share holds several fiches of one identifier", "ITI-67")
        return fiches[0] if fiches else None

    def search(self, criteria: Mapping[str, str]) -> list[Resource]:
        """ITI-67: the fiches that meet the criteria, of every page. Raises DeliveryError."""
        return self._searched("ITI-67", _FICHE, criteria)

    def patient(self, ins: CX) -> str:
        """The reference (`Patient/[id]`) of the one patient of the share with that INS. Raises DeliveryError."""
        found = self._searched("Patient", "Patient", {"identifier": f"urn:oid:{ins.oid}|{ins.id}"})
        if len(found) != 1:
            message = f"the share knows {len(found)} patients with this INS: a simplified deposit needs exactly one"
            raise _failure("not-found", message, "ITI-105, subject")
        with _understanding("Patient"):
            return f"Patient/{found[0]['id']}"

    def publish(self, fiche: Resource) -> None:
        """ITI-105: post a DocumentReference that holds its document. Raises DeliveryError unless it was created."""
        answer = self._exchange("ITI-105", f"/{_FICHE}", _JSON, dump(fiche))
        if answer.status != 201:
            raise _refusal(answer, "ITI-105", changes=True)

    def transact(self, step: str, bundle: Resource) -> Resource:
        """Post a transaction; `step` names it in the evidence. Raises DeliveryError unless every entry succeeded."""
        answer = self._post(step, "", _JSON, dump(bundle), "transaction-response")
        with _understanding(step):
            statuses = [str(entry["response"]["status"]) for entry in answer["entry"]]
        if len(statuses) != len(bundle["entry"]) or not all(status.startswith("2") for status in statuses):
            raise LostAnswerError("invalid", "the share does not answer every entry of the transaction", rule=step)
        return answer

    def retrieve(self, fiche: Resource) -> bytes:
        """ITI-68: the document of a fiche, byte for byte. Raises DeliveryError when it is not what the fiche says."""
        with _understanding("ITI-68"):
            attachment = fiche["content"][0]["attachment"]
            url, content_type = str(attachment["url"]), str(attachment["contentType"])
        answer = self._get("ITI-68", self._here(url, "ITI-68"), content_type, _LARGEST_DOCUMENT)
        content = bytes(answer.body)
        if "hash" in attachment and attachment["hash"] != _sha1(content):
            raise _failure("invalid", "the document is not the one that the fiche describes", "ITI-68, hash")
        return content

    def _post(self, step: str, path: str, content_type: str, body: bytes, expected: str) -> Resource:
        """The Bundle of type `expected` that answers. Raises DeliveryError."""
        answer = self._exchange(step, path, content_type, body)
        if answer.status != 200:
            raise _refusal(answer, step, changes=expected == "transaction-response")
        return _bundle(answer, expected, step)

    def _exchange(self, step: str, path: str, content_type: str, body: bytes) -> Answer:
        """The answer to a POST, which is evidence whatever it says."""
        url = f"{self._base}{path}"
        headers = {"Content-Type": content_type, "Accept": _JSON}
        started, answer = datetime.now(UTC), None
        try:
            answer = self._connected().post(url, headers, [body], _LARGEST_ANSWER)
        finally:
            record(step, url, started, _head(f"Content-Type: {content_type}") + body, _received(answer))
        return answer

    def _searched(self, step: str, resource_type: str, criteria: Mapping[str, str]) -> list[Resource]:
        body = urlencode(criteria).encode()
        page: Resource | None = self._post(step, f"/{resource_type}/_search", _FORM, body, "searchset")
        found: list[Resource] = []
        pages = 0
        while page is not None:
            with _understanding(step):
                resources = [entry["resource"] for entry in page.get("entry", ())]
                found += [one for one in resources if one["resourceType"] == resource_type]
                further = next((str(one["url"]) for one in page.get("link", ()) if one["relation"] == "next"), "")
            pages += 1
            if further and pages == _MOST_PAGES:
                raise _failure("too-costly", f"the share answers more than {pages} pages", step)
            page = self._page(step, further) if further else None
        return found

    def _page(self, step: str, address: str) -> Resource:
        answer = self._get(step, self._here(address, step), _JSON, _LARGEST_ANSWER)
        return _bundle(answer, "searchset", step)

    def _get(self, step: str, url: str, content_type: str, limit: int) -> Answer:
        started, answer = datetime.now(UTC), None
        try:
            answer = self._connected().get(url, {"Accept": content_type}, limit)
        finally:
            # The address of a further page may name the patient: it is part of the request, the endpoint is shown.
            record(
                step, url.partition("?")[0], started, _head(f"GET {url}", f"Accept: {content_type}"), _received(answer)
            )
        if answer.status != 200:
            raise _refusal(answer, step)
        return answer

    def _here(self, address: str, step: str) -> str:
        """The address as it is on the share. Raises DeliveryError when it leads elsewhere."""
        url = address if urlsplit(address).scheme else f"{self._base}/{address}"
        if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            raise _failure("security", "the address is at another server than the share", step)
        return url

    def _connected(self) -> Connections:
        if urlsplit(self._base).scheme != "https":
            raise DeliveryError(Issue("error", "security", "documents leave by https only", "mhd_url"), retry=False)
        if self._connections is None:
            context = client_context(self._settings, "mhd")
            self._connections = Connections(context, self._settings.sender_timeout, Peer("the share", "mhd"))
        return self._connections


def _head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def _received(answer: Answer | None) -> bytes | None:
    if answer is None:
        return None
    return _head(f"HTTP {answer.status}", f"Content-Type: {answer.content_type}") + bytes(answer.body)


def _bundle(answer: Answer, expected: str, step: str) -> Resource:
    """The Bundle of type `expected` that was answered. Raises LostAnswerError."""
    bundle = _json(answer)
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != expected:
        raise LostAnswerError("invalid", f"the share answers no {expected} Bundle", rule=step)
    return bundle


def _check_same(fiche: Resource, entry: DocumentEntry) -> None:
    """Refuse to take another document for this one."""
    with _understanding("ITI-67"):
        hashes = {content["attachment"].get("hash") for content in fiche["content"]}
    if base64.b64encode(bytes.fromhex(entry.hash)).decode() not in hashes:
        raise _failure("duplicate", "another document has this identifier on the share", "ITI-65, masterIdentifier")


@contextlib.contextmanager
def _understanding(step: str) -> Iterator[None]:
    """What is read of an answer inside the block may be missing from it, or be something else."""
    try:
        yield
    except (AttributeError, LookupError, TypeError) as error:
        raise LostAnswerError("structure", "the answer of the share is no valid FHIR", rule=step) from error


def _sha1(content: bytes) -> str:
    return base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()


def _identifiers(fiche: Resource) -> Iterator[str]:
    for identifier in (fiche.get("masterIdentifier", {}), *fiche.get("identifier", ())):
        yield identifier.get("value", "")


def _json(answer: Answer) -> dict[str, Any]:
    try:
        found = parse(bytes(answer.body), _DEEPEST)
    except RelaisError:
        return {}
    return found


def _refusal(answer: Answer, step: str, *, changes: bool = False) -> DeliveryError:
    """What an HTTP status other than 200 means, with the words of its OperationOutcome.

    Without any, a fault of the server (5xx) leaves open whether a request that `changes` something was carried out.
    """
    told: list[str] = []
    with contextlib.suppress(AttributeError, TypeError):
        told = [str(issue.get("diagnostics") or issue.get("code")) for issue in _json(answer).get("issue", ())]
    message = quoted(f"the share answers {answer.status}: {'; '.join(told)}" if told else f"HTTP {answer.status}")
    if changes and not told and answer.status >= 500 and answer.status != 503:
        return LostAnswerError("timeout", message, rule=step)
    code = "transient" if answer.status in _TRANSIENT else "processing"
    return DeliveryError(Issue("error", code, message, "", step), retry=answer.status in _TRANSIENT)


def _failure(code: str, message: str, rule: str) -> DeliveryError:
    return DeliveryError(Issue("error", code, message, "", rule), retry=False)
