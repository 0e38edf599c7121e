"""`$transmit`: the order to deliver the document of a stored resource, or the one a DocumentReference points to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

from relais.mappings.context import Resource
from relais.server.delivery.acknowledgements import KINDS
from relais.server.delivery.channel import Acknowledgement
from relais.server.delivery.transmit import INTENTS, PRIORITIES, Wanted, transmit
from relais.server.delivery.visibility import AUDIENCES, Audience
from relais.server.document_forms import Level
from relais.server.document_sources import CARRIERS, EVERYTHING, Selection
from relais.server.fhir.bodies import sound_body
from relais.server.fhir.cda_parameters import of_carrier
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.facade import Facade
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.repository import Stored, Transaction

T = TypeVar("T", bound=str)

_REPEATING = frozenset({"channel", "recipient", "hideFrom", "acknowledgement"})
_ONCE = frozenset({"patient", "intent", "secretConnection", "priority", "requester", "dryRun"})
_NONE = "none"


@operation("$transmit", level="instance", resource_types=(*CARRIERS, "DocumentReference"))
def transmit_stored(facade: Facade, call: Call) -> Reply:
    """Order the delivery of the document of a resource, or of the one that a DocumentReference points to.

    Parameters: `channel` (repeats; mss, dmp, hl7v2, mhd), `recipient` (repeats; mailboxes, by default those of the care
    team), `patient` (boolean: to the patient's mailbox too), `intent` (send, replace, reissue, withdraw), `hideFrom`
    (repeats; professionals, patient, representatives, or none; as the last order by default), `secretConnection`
    (boolean; as the last order by default), `acknowledgement` (repeats; reception, reading, or none; all by default),
    `priority` (routine, urgent, asap, stat), `requester` (Reference), `dryRun` (boolean: refuse or accept, store
    nothing), and those of `$to-cda`. Answers at once with the Task that
    follows the order.
    """
    parameters = sound_body(call.body, "Parameters").get("parameter", [])
    order = _Order(parameters)
    wanted, dry = order.wanted(), order.flag("dryRun")
    level, selection = _document(call, order.others)
    try:
        with facade.repository.transaction() as transaction:
            carrier = f"{call.resource_type}/{call.id}"
            task = transmit(
                transaction, carrier, wanted, facade.settings, transaction.now, selection=selection, level=level
            )
            if dry:
                _take_back(transaction, task)
    except _Rehearsed as rehearsed:
        return Reply(200, rehearsed.task.content or b"")
    location = f"Task/{task.id}/_history/{task.version}"
    return Reply(201, task.content or b"", task.version, task.last_updated, location)


class _Rehearsed(Exception):  # noqa: N818 - no error: it takes the transaction back
    def __init__(self, task: Stored) -> None:
        super().__init__()
        self.task = task


def _take_back(transaction: Transaction, task: Stored) -> NoReturn:
    transaction.finish()
    raise _Rehearsed(task)


def _document(call: Call, parameters: list[Resource]) -> tuple[Level, Selection]:
    """Which document, as `$to-cda` is asked. A DocumentReference points to one."""
    if call.resource_type == "DocumentReference":
        if parameters:
            name = str(parameters[0]["name"])[:64]
            raise FhirError.of(400, "not-supported", f"the parameter {name} is not offered here", name)
        return "n3", EVERYTHING
    body = {"resourceType": "Parameters", "parameter": parameters} if parameters else None
    wanted = of_carrier(replace(call, body=body))
    return wanted.level, wanted.selection


@dataclass(slots=True)
class _Order:
    """The parameters of an order; `others` are not about it but about the document."""

    parameters: list[Resource]

    @property
    def others(self) -> list[Resource]:
        return [one for one in self.parameters if one["name"] not in _REPEATING | _ONCE]

    def wanted(self) -> Wanted:
        """Raises FhirError 400."""
        return Wanted(
            channels=tuple(self.texts("channel")),
            recipients=tuple(text.removeprefix("mailto:") for text in self.texts("recipient")),
            patient=self.flag("patient"),
            intent=self.code("intent", INTENTS) or "send",
            hidden_from=self._hidden_from(),
            shown=_NONE in self.texts("hideFrom"),
            secret=self.choice("secretConnection"),
            acknowledgements=self._acknowledgements(),
            priority=self.code("priority", PRIORITIES),
            requester=self._requester(),
        )

    def texts(self, name: str) -> list[str]:
        """The values of a parameter that is a code, a string or a URI."""
        return [_value(one, place, ("valueCode", "valueString", "valueUri"), str) for one, place in self._named(name)]

    def flag(self, name: str) -> bool:
        """A boolean parameter, false without it."""
        return self.choice(name) is True

    def choice(self, name: str) -> bool | None:
        """A boolean parameter, None without it."""
        return next((_value(one, place, ("valueBoolean",), bool) for one, place in self._named(name)), None)

    def code(self, name: str, known: Collection[T]) -> T | None:
        """A code that is one of those known; None without it."""
        return next((_one_of(text, known, name) for text in self.texts(name)), None)

    def _hidden_from(self) -> tuple[Audience, ...]:
        asked = self.texts("hideFrom")
        if _NONE in asked and len(asked) > 1:
            raise FhirError.of(400, "invalid", "none stands alone", "hideFrom")
        return () if _NONE in asked else tuple(_one_of(text, AUDIENCES, "hideFrom") for text in asked)

    def _acknowledgements(self) -> tuple[Acknowledgement, ...] | None:
        asked = self.texts("acknowledgement")
        if _NONE in asked:
            if len(asked) > 1:
                raise FhirError.of(400, "invalid", "none stands alone", "acknowledgement")
            return ()
        return tuple(_one_of(text, KINDS, "acknowledgement") for text in asked) or None

    def _requester(self) -> str | None:
        for one, place in self._named("requester"):
            return str(_value(one.get("valueReference", {}), place, ("reference",), str))
        return None

    def _named(self, name: str) -> list[tuple[Resource, str]]:
        found = [
            (one, f"Parameters.parameter[{index}]") for index, one in enumerate(self.parameters) if one["name"] == name
        ]
        if name in _ONCE and len(found) > 1:
            raise FhirError.of(400, "duplicate", f"the parameter {name} is given twice", found[1][1])
        return found


def _value(holder: Resource, place: str, elements: tuple[str, ...], kind: type) -> Any:
    for element in elements:
        if isinstance(holder.get(element), kind):
            return holder[element]
    raise FhirError.of(400, "value", f"a {' or a '.join(elements)} is expected", place)


def _one_of(text: str, known: Collection[T], name: str) -> T:
    for one in known:
        if one == text:
            return one
    raise FhirError.of(400, "code-invalid", f"{name} is one of {', '.join(known)}", name)
