"""Approval of a plan: who approved which version of it, and when (extension approval, or a Provenance with a verifier).

A PPS leaves the circle of care only once approved. What the HAS model asks for is a professional, the *médecin
traitant*; whether the professional named is that one is left to the professional who sends (docs/mapping-pps.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from relais.cda.datatypes import datetime_from_ts
from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.identity import codes
from relais.mappings.resources import is_other_version
from relais.mappings.to_cda.conversion import Conversion

APPROVAL_RULE = "a PPS leaves the circle of care only once approved"
"""Rule of the warnings about a plan that may not be transmitted yet."""

_PATH = f"CarePlan.extension('{extensions.APPROVAL}')"
_CLOSED = frozenset({"completed", "revoked"})


class Approval(msgspec.Struct, frozen=True, gc=False):
    """A statement that the plan was approved. `doubts` say why it does not count; `container` is what states it."""

    who: Resource  # Reference
    date: str | None  # FHIR dateTime
    path: str
    container: Resource
    doubts: tuple[str, ...]


def read_approval(conversion: Conversion, plan: Resource) -> Approval | None:
    """The approval of the plan that counts; without any, warnings with APPROVAL_RULE say what there is and is not.

    It has a professional, a date that is not in the future, and the version of the plan that it names, if it names one.
    A closed plan (completed, revoked) may have been approved in an earlier version.
    """
    stated = list(_stated(conversion, plan))
    counting = next((approval for approval in stated if not approval.doubts), None)
    if counting is None:
        for approval in stated:
            reasons = ", ".join(approval.doubts)
            conversion.warn(approval.path, f"an approval that does not count: {reasons}", APPROVAL_RULE)
        if not stated:
            conversion.warn(_PATH, "no approval is recorded: inside the circle of care only", APPROVAL_RULE)
    return counting


def approval_date(conversion: Conversion, plan: Resource, approval: Approval | None) -> tuple[str, str] | None:
    """FHIR date and path of the approval; a plan that was imported may know that date and not who approved."""
    known = [approval] if approval else [one for one in _stated(conversion, plan) if not one.who]
    return next(((one.date, one.path) for one in known if one.date), None)


def _stated(conversion: Conversion, plan: Resource) -> Iterator[Approval]:
    for extension in extensions.extensions(plan, extensions.APPROVAL):
        who, date = extensions.value(extension, "who") or {}, extensions.value(extension, "date")
        yield Approval(who, date, _PATH, plan, tuple(_doubts(conversion, who, date, _PATH, plan)))
    for provenance, place in conversion.resources.placed("Provenance"):
        targets = [
            target
            for target in provenance.get("target", ())
            if conversion.resources.resolve(target, provenance) is plan
        ]
        for agent in provenance.get("agent", ()) if targets else ():
            if "verifier" in codes(agent.get("type")):
                path, who = f"{place}.agent.who", agent.get("who", {})
                date = provenance.get("occurredDateTime") or provenance.get("recorded")
                other = plan.get("status") not in _CLOSED and all(is_other_version(one, plan) for one in targets)
                doubts = [
                    *(["it is for another version of the plan"] if other else []),
                    *_doubts(conversion, who, date, path, provenance),
                ]
                yield Approval(who, date, path, provenance, tuple(doubts))


def _doubts(conversion: Conversion, who: Resource, date: str | None, path: str, container: Resource) -> Iterator[str]:
    if not who:
        yield "nobody is named"
    else:
        approver = conversion.resolve(who, path, container)
        if approver is None or approver.get("resourceType") not in ("Practitioner", "PractitionerRole"):
            yield "who approved is no professional of the resources"
    time = conversion.time(date, path)
    if time is None:
        yield "it has no date"
    elif datetime_from_ts(time) > conversion.emission.now:
        yield "its date is in the future"
