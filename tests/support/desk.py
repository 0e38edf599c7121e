"""A repository that holds a few resources, a clock that can be moved, and the documents that are issued of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from relais.mappings.context import Deployment, Resource
from relais.server import documents
from relais.server.documents import IssuedDocument
from relais.server.fhir.exchange import Call
from relais.server.fhir.facade import Facade
from relais.server.fhir.json_format import dump, load
from relais.server.settings import Settings
from relais.server.store import Store
from support.plans import DEPLOYMENT

BASE = "http://relais.test/fhir"


class Desk:
    """What a transaction Bundle stored; `stored` are the `Type/[id]` of its entries."""

    def __init__(self, store: Store, bundle: Resource, deployment: Deployment = DEPLOYMENT) -> None:
        self.now = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
        self.deployment = deployment
        self.facade = Facade(Settings(base_url=BASE, fhir_packages="none"), store)
        self.repository = self.facade.repository
        self.repository.clock = lambda: self.now
        self.stored = self.store(bundle)

    def store(self, bundle: Resource) -> list[str]:
        """Carry out a transaction Bundle; the `Type/[id]` of its entries."""
        interaction, _ = self.facade.registry.find("POST", "")
        answer = load(interaction.run(self.repository, Call("POST", body=load(dump(bundle)))).body)
        return [entry["response"]["location"].split("/_history/")[0] for entry in answer["entry"]]

    def first(self, resource_type: str) -> str:
        """`Type/[id]` of the first stored resource of a type."""
        return next(name for name in self.stored if name.startswith(f"{resource_type}/"))

    def load(self, name: str) -> Resource:
        """The resource, as it stands."""
        return self.repository.load(*name.split("/"))

    def create(self, resource: Resource) -> str:
        """Store another resource; its `Type/[id]`."""
        with self.repository.transaction() as transaction:
            stored = transaction.create(resource)
        return f"{stored.type}/{stored.id}"

    def change(self, what: str, **elements: object) -> None:
        """Store a new version of a resource (`Type/[id]`, or the first one of a type), some time later."""
        self.now += timedelta(hours=1)
        with self.repository.transaction() as transaction:
            resource = transaction.load(*(what if "/" in what else self.first(what)).split("/"))
            transaction.update(resource | elements)

    def delete(self, name: str) -> None:
        """Delete a resource."""
        with self.repository.transaction() as transaction:
            transaction.delete(*name.split("/"))

    def issue(self, carrier: str, **asked: Any) -> IssuedDocument:
        """The document of a carrier as it stands."""
        with self.repository.transaction() as transaction:
            return documents.issue(transaction, carrier, self.deployment, self.now, **asked)
