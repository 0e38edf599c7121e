"""What the receivers of one HL7 v2 message have said by ZAM, as the detail of an acknowledgement keeps it.

The DMP and each mailbox answer by themselves: `Z02 a@b.mssante.fr: yes; Z01: no: …`, refusals first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from relais.mappings.hl7v2.zam import Trigger, Zam
from relais.server.delivery.acknowledgements import Awaited
from relais.server.delivery.channel import Acknowledgement, quoted

YES = "yes"
"""The answer of a receiver that took the document; any other is a refusal."""
_BETWEEN = "; "


def receiver(trigger: Trigger, mailbox: str = "") -> str:
    """Who says it: the DMP (Z01, no mailbox), or a mailbox that received (Z02) or read (Z03)."""
    return quoted(f"{trigger} {mailbox.lower()}".strip())


def answer(zam: Zam) -> str:
    """What it says: yes, or no and why."""
    return YES if zam.positive else quoted(f"no: {zam.error}")


def written(said: Mapping[str, str]) -> str:
    """What every receiver has said, refusals first."""
    lines = (f"{who}: {what.replace(_BETWEEN, ', ')}" for who, what in said.items())
    return _BETWEEN.join(sorted(lines, key=lambda line: line.endswith(f": {YES}")))


def said(known: Iterable[Awaited], kind: Acknowledgement) -> dict[str, str]:
    """By receiver, the answers that `written` put into the acknowledgement of that kind."""
    lines = [line for one in known if one.kind == kind for line in one.detail.split(_BETWEEN) if line]
    return {who: what for who, _, what in (line.partition(": ") for line in lines)}


def refusing(known: Iterable[Awaited], mailboxes: Iterable[str]) -> frozenset[str]:
    """The mailboxes that did not receive the message, hence read nothing."""
    answers = said(known, "reception")
    return frozenset(box for box in mailboxes if answers.get(receiver("Z02", box), YES) != YES)


def refused_by_dmp(known: Iterable[Awaited]) -> bool:
    """Whether the DMP refused what the platform fed it with."""
    return said(known, "reception").get(receiver("Z01"), YES) != YES
