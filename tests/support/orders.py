"""Orders without a network: a facade's repository, channels that do what they are told, a worker, a clock to move."""

from __future__ import annotations

import base64
import copy
import hashlib
import threading
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import relais.server.app  # noqa: F401 - registers the operations
from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.server import documents
from relais.server.delivery import gate, service
from relais.server.delivery.channel import DeliveryError, Receipt, Shipment, record
from relais.server.delivery.outbox import Delivery, order
from relais.server.delivery.worker import Check, Worker
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump, load
from relais.server.fhir.outcome import status_of
from relais.server.fhir.repository import Repository
from relais.server.settings import Settings
from relais.server.store import Store
from support.notifications import EMISSION

BASE = "http://relais.test/fhir"
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
CHANNELS = {
    "mss_sender": "coordination@dac.mssante.fr",
    "mss_product_reference": "relais-test",
    "dmp_url": "https://dmp.test/repository",
    "hl7v2_host": "pfi.test",
    "hl7v2_receiving_application": "PFI",
    "hl7v2_receiving_facility": "GHT",
    "retry_base": 1.0,
    "retry_attempts": 4,
    "circuit_failures": 3,
    "circuit_pause": 60.0,
}


def settings_of(**more: Any) -> Settings:
    """Settings with every channel, and somebody who answers for what no professional declares."""
    known = {spec.name for spec in fields(Settings)}
    deployment = EMISSION.deployment
    of_deployment = {
        spec.name: getattr(deployment, spec.name)
        for spec in fields(deployment)
        if spec.name in known and isinstance(getattr(deployment, spec.name), str)
    }
    no_packages = str(Path(__file__).parent)
    return Settings(**{"base_url": BASE, "fhir_packages": no_packages, **of_deployment, **CHANNELS, **more})


class FakeChannel:
    """Takes everything, or fails as told: each failure is for one attempt."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taken: list[Shipment] = []
        self.failures: list[DeliveryError] = []
        self.on_send: Callable[[Shipment], None] = lambda _: None

    def send(self, shipment: Shipment) -> Receipt:
        """See Channel."""
        answer = f"{'KO' if self.failures else 'OK'} {shipment.message_id}".encode()
        record("FAKE", f"fake://{self.name}", datetime.now(UTC), shipment.document, answer)
        self.on_send(shipment)
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(shipment)
        return Receipt("taken")


def trouble(code: str = "transient", *, retry: bool = True) -> DeliveryError:
    """A failure of the destination as a whole."""
    return DeliveryError(Issue("error", code, "asked of the test"), retry=retry)


class Office:
    """A facade and a worker on one store; `now` is the time for both, `backstage` what operators work on."""

    def __init__(self, store: Store, *, check: Check | None = None, **settings: Any) -> None:
        self.now = NOW
        self.store = store
        self.settings = settings_of(**settings)
        self.facade = Facade(self.settings, store)
        self.facade.repository.clock = lambda: self.now
        self.channels = {name: FakeChannel(name) for name in gate.CHANNELS}
        self.backstage = Repository(store, BASE, check_references=False, clock=lambda: self.now)
        self.worker = Worker(
            self.backstage,
            self.channels,
            {name: gate.destination(name, self.settings) for name in self.channels},
            check or (lambda _content, _channel: []),
            service.conduct(self.settings),
            _NoWaker(),
        )

    def call(self, method: str, address: str, body: Resource | None = None) -> Reply:
        """One request below the base. Raises RelaisError."""
        path, _, query = address.partition("?")
        found, names = self.facade.registry.find(method, path)
        call = Call(method, names.get("resource_type", ""), names.get("id", ""), query=query)
        call.body = None if body is None else load(dump(body))
        if hasattr(found, "perform"):
            return found.perform(self.facade.repository, call)  # type: ignore[no-any-return]
        return found.run(self.facade, call)

    def post_all(self, bundle: Resource) -> list[str]:
        """Carry out a transaction; the `Type/[id]` of its entries."""
        answer = load(self.call("POST", "", copy.deepcopy(bundle)).body)
        return [entry["response"]["location"].split("/_history/")[0] for entry in answer["entry"]]

    def post(self, bundle: Resource, resource_type: str) -> str:
        """Carry out a transaction; `Type/[id]` of the first resource of a type."""
        return next(name for name in self.post_all(bundle) if name.startswith(f"{resource_type}/"))

    def read(self, address: str) -> Resource:
        """A stored resource."""
        return load(self.call("GET", address).body)

    def change(self, address: str, **elements: Any) -> None:
        """Store the next version of a resource."""
        self.call("PUT", address, self.read(address) | elements)

    def order(self, carrier: str, *channels: str, **parameters: Any) -> Resource:
        """The Task of an order; parameters as `$transmit` names them, lists repeat."""
        answer = self.call("POST", f"{carrier}/$transmit", parameters_of(*channels, **parameters))
        return load(answer.body)

    def work(self, most: int = 50) -> int:
        """Let the worker do what is due; how many attempts it made."""
        return next((made for made in range(most) if not self.worker.step()), most)

    def deliveries(self, task: Resource) -> tuple[Delivery, ...]:
        """The deliveries of an order."""
        with self.store.snapshot() as connection:
            found = order(connection, task["id"])
        assert found is not None
        return found[1]

    def task(self, task: Resource) -> Resource:
        """The Task as it stands."""
        return self.read(f"Task/{task['id']}")

    def wait(self, **duration: float) -> None:
        """Move the clock."""
        self.now += timedelta(**duration)


class _NoWaker:
    def wait(self, stop: threading.Event, longest: float) -> None:
        """Not at all."""

    def close(self) -> None:
        """Nothing to close."""


_TYPES = {str: "valueString", bool: "valueBoolean", dict: "valueReference"}


def parameters_of(*channels: str, **parameters: Any) -> Resource:
    """A Parameters resource of `$transmit`."""
    given: list[Resource] = [{"name": "channel", "valueCode": channel} for channel in channels]
    for name, value in parameters.items():
        values = value if isinstance(value, list | tuple) else [value]
        given += [{"name": name, _TYPES[type(one)]: one} for one in values]
    return {"resourceType": "Parameters", "parameter": given}


def refused(office: Office, carrier: str, *channels: str, **parameters: Any) -> tuple[Issue, ...]:
    """The issues of an order that must be refused, leaving nothing behind."""
    before = office.store.history().total
    with pytest.raises(RelaisError) as raised:
        office.order(carrier, *channels, **parameters)
    assert status_of(raised.value) in (400, 409, 422)
    assert office.store.history().total == before
    return raised.value.issues


def stored_document(office: Office, patient: str, content: bytes, **changes: Any) -> str:
    """A DocumentReference to the document, which a Binary holds."""
    binary = {"resourceType": "Binary", "contentType": "text/xml", "data": base64.b64encode(content).decode()}
    location = office.call("POST", "Binary", binary).location.split("/_history")[0]
    attachment = {
        "contentType": "text/xml",
        "url": location,
        "size": len(content),
        "hash": base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode(),
    }
    reference: Resource = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": patient},
        "content": [{"attachment": attachment | changes.pop("attachment", {})}],
    }
    return office.call("POST", "DocumentReference", reference | changes).location.split("/_history")[0]


def document_of(office: Office, carrier: str) -> bytes:
    """The document that is issued for a resource."""
    with office.facade.repository.transaction() as transaction:
        return documents.issue(transaction, carrier, office.settings.deployment, transaction.now).content
