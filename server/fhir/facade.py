"""The FHIR side of one running Relais: settings, stored resources and the interactions served on them."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qsl

import msgspec

from relais.server.conformance import Conformance
from relais.server.delivery.watch import DeliveryWatch
from relais.server.fhir.bundles import BundleProcessor
from relais.server.fhir.capabilities import statement, terminology_statement
from relais.server.fhir.content_validation import ContentJudge
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.interactions import INTERACTIONS
from relais.server.fhir.jobs import Jobs
from relais.server.fhir.json_format import dump
from relais.server.fhir.negotiation import parse_etags
from relais.server.fhir.openapi import describe
from relais.server.fhir.operations import OPERATIONS
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.registry import Interaction, Registry
from relais.server.fhir.repository import Repository
from relais.server.fhir.write_policy import WritePolicy
from relais.server.settings import Settings
from relais.server.store import Store
from relais.server.terminology import ServerTerminology


class Facade:
    """What operations are given: settings and store, packages and policy, repository, registry and jobs."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Raises RelaisError for settings that cannot be served."""
        self.settings = settings
        self.store = store
        self.conformance = Conformance.load(settings)
        self.conformance.report()
        self.conformance.settle(store)
        self.terminology = ServerTerminology(self.conformance.registry, settings.fhir_base)
        self.content_judge = ContentJudge(settings, self.conformance)
        self.policy = WritePolicy.of(settings, self.conformance)
        self.repository = Repository(
            store,
            settings.fhir_base,
            check_references=settings.check_references,
            update_creates=settings.update_creates,
            versioned_types=settings.versioned_types,
            judge=self.policy,
            watcher=DeliveryWatch(settings),
            terminology=self.terminology,
            most_deleted=settings.most_deleted,
        )
        offered = [one for one in OPERATIONS if not one.setting or getattr(settings, one.setting)]
        bundles = BundleProcessor(
            Registry(INTERACTIONS, offered),
            lambda operation, call: operation.run(self, call),
            max_entries=settings.max_entries,
        )
        self.registry = Registry(
            (
                Interaction("capabilities", "system", "GET", "/metadata", self._metadata, parameters=("mode",)),
                Interaction("openapi", "system", "GET", "/openapi.json", self._openapi),
                Interaction("transaction", "system", "POST", "/", bundles.run, takes_body=True),
                *INTERACTIONS,
            ),
            offered,
        )
        self.jobs = Jobs(self)
        stated = statement(self.registry, settings, self.conformance.supported_profiles(), self.conformance.guides())
        self._statement = dump(stated)
        self._statement_tag = hashlib.sha256(self._statement).hexdigest()[:16]
        self._description = msgspec.json.encode(describe(self.registry, settings.fhir_base))

    def _metadata(self, _repository: Repository, call: Call) -> Reply:
        """The CapabilityStatement of this server; by `mode=terminology`, its TerminologyCapabilities."""
        mode = dict(parse_qsl(call.query)).get("mode", "full")
        if mode == "terminology":
            with self.repository.snapshot() as connection:
                systems = list(self.terminology(connection).code_systems())
            return Reply(200, dump(terminology_statement(systems, self.settings)))
        if mode not in ("full", "normative"):
            raise FhirError.of(400, "not-supported", "mode is full, normative or terminology", "mode")
        known = parse_etags(call.if_none_match or "") & {self._statement_tag, "*"}
        headers = (("ETag", f'W/"{self._statement_tag}"'),)
        return Reply(304, headers=headers) if known else Reply(200, self._statement, headers=headers)

    def _openapi(self, _repository: Repository, _call: Call) -> Reply:
        """The OpenAPI description of this server."""
        return Reply(200, self._description, content_type="application/json")
