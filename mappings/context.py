"""What a mapping needs besides resources: who emits, which version, when. All of it comes in as arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from relais.cda.errors import Issue
from relais.cda.model import II, Document

Resource = dict[str, Any]
"""A FHIR resource as parsed JSON; decimals are `decimal.Decimal`."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The emitter: values of the header that no resource carries (spec: "config").

    `oid_arc` is an OID the emitter owns; without it identifiers are made under 2.25 (UUIDv5). `problem_codes` chooses
    how withdrawn PPS problem codes are written: `current` (nullFlavor OTH with the code in translation) or `2022`.
    `model_arc` is the OID under which the models without CI-SIS volet are named (`.1` agenda, `.2` notification);
    without it they have a fixed OID under 2.25. `responsible_*` name the professional who answers for documents that no
    professional made. `notification_types` are (event type of JDV_J46, document type of JDV_J07) pairs.
    """

    oid_arc: str | None = None
    organization_name: str | None = None
    organization_finess: str | None = None
    practice_setting: str | None = None  # JDV_J04, e.g. AMBULATOIRE
    facility_type: str | None = None  # JDV_J02, e.g. SA07
    software_name: str = "Relais"
    software_vendor: str = "Relais"
    problem_codes: Literal["current", "2022"] = "current"
    ins_environment: Literal["test", "production"] = "test"
    model_arc: str | None = None
    responsible_rpps: str | None = None
    responsible_family: str | None = None
    responsible_given: str | None = None
    notification_types: tuple[tuple[str, str], ...] = (("NOT", "28653-4"),)

    @property
    def emitter(self) -> tuple[str, ...]:
        """What tells ids made here from those that another emitter makes of the same `CarePlan/1`; empty if not set."""
        name = self.oid_arc or self.organization_finess or self.organization_name
        return (name,) if name else ()


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """Place of a document in its lineage: `replaces` is the id of the version the receivers know.

    `set_id` is the lineage once it is known: it stays what it was when the source's identifiers change. `replaced` is
    the number of the version that is replaced, when that is not the one before.
    """

    number: int = 1
    replaces: II | None = None
    set_id: II | None = None
    replaced: int | None = None

    @property
    def former(self) -> int | None:
        """The number of the version that is replaced."""
        return self.replaced or (self.number - 1 or None)


@dataclass(slots=True)
class Mapped:
    """A document and what the mapping wants said about it (warnings, information): nothing is dropped in silence."""

    document: Document
    issues: list[Issue] = field(default_factory=list)


@dataclass(slots=True)
class Imported:
    """A FHIR document Bundle (Composition first) and what could not be carried over (information, warnings)."""

    bundle: Resource
    issues: list[Issue] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Emission:
    """When and by whom a document is made: the arguments every FHIR → CDA mapping takes."""

    deployment: Deployment
    now: datetime  # aware
    version: DocumentVersion = field(default_factory=DocumentVersion)
