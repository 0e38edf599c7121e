"""Who receives a document by MSSanté when the order names nobody: the mailboxes of the care team, that of the patient.

Looked up when the order is accepted, and again before every attempt: who has left the team meanwhile gets nothing.

A member's mailbox is a telecom (`system=email`) that is said to be one of MSSanté (fr-core `contact-point-email-type`,
annuaire `as-ext-mailbox-mss-metadata`) or lies in the trust space. Of a PractitionerRole its own counts first, then
that of the Practitioner, then that of the Organization. A mailbox on the red list is not looked up, nor what is no
longer active or whose period has ended: team, participation, role, person, structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from sqlalchemy import Connection

from relais.cda.errors import Issue
from relais.cda.model import Document
from relais.cda.templates import INS_ROOTS
from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.identity import covers
from relais.server.delivery.mail_message import PATIENT_DOMAIN
from relais.server.delivery.outbox import Leased
from relais.server.delivery.trust_space import TrustSpace
from relais.server.fhir import references
from relais.server.fhir.json_format import load
from relais.server.search import search
from relais.server.store.store import read_current

_EMAIL_TYPE = f"{extensions.FR_CORE}fr-core-contact-point-email-type"
_MAILBOX_METADATA = "https://interop.esante.gouv.fr/ig/fhir/annuaire/StructureDefinition/as-ext-mailbox-mss-metadata"
_MSSANTE = "MSSANTE"  # TRE_R256-TypeMessagerie
_ACTORS = ("PractitionerRole", "Practitioner", "Organization", "CareTeam")
_NEXT = {"PractitionerRole": ("practitioner", "organization"), "Organization": (), "Practitioner": ()}
RULE = "volet MSSanté: mailboxes of the care team"


class CareTeamMailboxes:
    """Looks mailboxes up as a connection sees them; `base` is that of the facade whose resources these are."""

    def __init__(self, connection: Connection, base: str, trust: TrustSpace, today: date) -> None:
        self._connection = connection
        self._base = base
        self._trust = trust
        self._today = today

    def of_carrier(self, carrier: Resource) -> list[str]:
        """The mailboxes for the document of a plan, appointment, notification, patient or stored document, each once.

        The CareTeams that a plan names, else those that take part in or receive what is notified, else the active ones
        of the patient.
        """
        named = [*carrier.get("careTeam", ()), *carrier.get("recipient", ())]
        named += [one.get("actor", {}) for one in carrier.get("participant", ()) if one.get("status") != "declined"]
        found = dict.fromkeys(box for reference in named for box in self._of(reference.get("reference"), frozenset()))
        if not found:
            found = dict.fromkeys(box for team in self._teams(carrier) for box in self._of_team(team, frozenset()))
        return list(found)

    def _teams(self, carrier: Resource) -> Iterator[Resource]:
        patient = patient_reference(carrier)
        if patient is None:
            return
        asked = [("patient", patient), ("status", "active")]
        for match in search(self._connection, self._base, "CareTeam", asked).matches:
            yield load(match.content or b"")

    def _of(self, reference: str | None, seen: frozenset[str]) -> Iterator[str]:
        """The mailboxes behind a reference to a member; nothing for a patient or a relative."""
        resource = self._resource(reference)
        if resource is None or reference is None or reference in seen or not self._is_in_office(resource):
            return
        if resource["resourceType"] == "CareTeam":
            yield from self._of_team(resource, seen | {reference})
            return
        own = [*self._own(resource)]
        for element in () if own else _NEXT.get(resource["resourceType"], ()):
            own = [*self._of(resource.get(element, {}).get("reference"), seen | {reference})]
            if own:
                break
        yield from own

    def _of_team(self, team: Resource, seen: frozenset[str]) -> Iterator[str]:
        for participant in team.get("participant", ()) if self._is_in_office(team) else ():
            if covers(participant.get("period", {}), self._today):
                yield from self._of(participant.get("member", {}).get("reference"), seen)

    def _is_in_office(self, actor: Resource) -> bool:
        """Whether a team, a role, a person or a structure acts today; one that does not say so does."""
        acts = actor.get("active") is not False and actor.get("status", "active") == "active"
        return acts and covers(actor.get("period", {}), self._today)

    def _own(self, resource: Resource) -> Iterator[str]:
        for telecom in resource.get("telecom", ()):
            value = (telecom.get("value") or "").removeprefix("mailto:")
            current = telecom.get("use") != "old" and covers(telecom.get("period", {}), self._today)
            is_open = current and not _is_on_red_list(telecom)
            if telecom.get("system") == "email" and value and is_open and self._is_of_mssante(telecom, value):
                yield value

    def _is_of_mssante(self, telecom: Resource, value: str) -> bool:
        types = [extension.get("valueCoding", {}) for extension in extensions.extensions(telecom, _EMAIL_TYPE)]
        said = any(kind.get("code") == _MSSANTE for kind in types)
        return said or any(extensions.extensions(telecom, _MAILBOX_METADATA)) or self._trust.holds(value)

    def _resource(self, reference: str | None) -> Resource | None:
        target = references.restful(reference) if reference else None
        if target is None or target[0] not in ("", self._base) or target[1] not in _ACTORS:
            return None
        stored = read_current(self._connection, target[1], target[2])
        return None if stored is None or stored.deleted else load(stored.content or b"")


def departures(connection: Connection, base: str, trust: TrustSpace, leased: Leased, today: date) -> tuple[Issue, ...]:
    """Why a mail may not go to a mailbox that was looked up for its order; nothing when it may, and when it was named.

    The circle of care is that of the moment at which the mail leaves (code de la santé publique, L1110-4).
    """
    carrier = leased.consignment.looked_up_for
    if not carrier:
        return ()
    stored = read_current(connection, *carrier.split("/"))
    if stored is None or stored.deleted:
        message = f"{carrier}, whose care team the mailbox was looked up in, is not held here any more"
        return (Issue("error", "conflict", message, "recipient", RULE),)
    current = CareTeamMailboxes(connection, base, trust, today).of_carrier(load(stored.content or b""))
    if {box.lower() for box in current}.issuperset(leased.consignment.recipients):
        return ()
    message = "this mailbox is not that of a member of the care team any more: to write to it all the same, name it"
    return (Issue("error", "conflict", message, "recipient", RULE),)


def _is_on_red_list(telecom: Resource) -> bool:
    """Whether the holder of a mailbox wants nobody to find it (annuaire, `listeRouge`); who knows it may name it."""
    metadata = extensions.extensions(telecom, _MAILBOX_METADATA)
    return any(
        one.get("url") == "listeRouge" and one.get("valueBoolean") is True
        for found in metadata
        for one in found.get("extension", ())
    )


def patient_reference(carrier: Resource) -> str | None:
    """`Patient/[id]` of a carrier: itself, its subject, or the patient that takes part."""
    if carrier["resourceType"] == "Patient":
        return f"Patient/{carrier['id']}"
    stated = [carrier.get("subject", {}), *(one.get("actor", {}) for one in carrier.get("participant", ()))]
    for reference in stated:
        target = references.restful(reference.get("reference", ""))
        if target and target[1] == "Patient":
            return f"Patient/{target[2]}"
    return None


def patient_mailbox(document: Document) -> str | Issue:
    """The mailbox of the patient in Mon espace santé, made of the INS that the document bears, or why there is none.

    A document bears an INS only when the identity is qualified; a mailbox is never made of anything else.
    """
    by_root = {identifier.root: identifier.extension for identifier in document.header.patient.ids}
    for root in INS_ROOTS:  # the INS-NIR before the INS-NIA
        if number := by_root.get(root):
            return f"{number}@{PATIENT_DOMAIN}"
    message = "the patient's mailbox is made of a qualified INS, and the document bears none"
    return Issue("error", "business-rule", message, "ClinicalDocument/recordTarget/patientRole/id", "ECO.2.2.6")
