"""Which Consent says what: agreement to share (authorization), opposition, advance directive."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from relais.mappings import extensions, identity
from relais.mappings.context import Resource
from relais.mappings.identity import codes
from relais.mappings.to_cda.conversion import CONSENT_RULE, OPPOSITION_RULE, Conversion
from relais.mappings.to_cda.datatypes import from_jdv

__all__ = [
    "OPPOSITION_RULE",
    "consents",
    "decision",
    "is_about_sharing",
    "is_directive",
    "is_directive_consent",
    "names_instances",
    "provisions",
    "read_oppositions",
    "sharing_consents",
]

AUTHORIZATION_RULE = "CI-SIS Structuration minimale, authorization"
_NOT_SHARING = frozenset({"info-non-opposition", "accord-plan"})
"""Categories of our guide that inform or approve: they permit nothing outside the team."""


def is_directive(concepts: list[Resource]) -> bool:
    """Whether a category or code names an advance directive (value set 1.2.250.1.213.1.1.5.136)."""
    return from_jdv("directive", concepts) is not None


def is_directive_consent(consent: Resource) -> bool:
    """Whether a Consent records an advance directive: its category, or scope `adr`."""
    return "adr" in codes(consent.get("scope")) or is_directive(consent.get("category", []))


def is_about_sharing(consent: Resource) -> bool:
    """Whether a Consent stands and is about sharing, whatever it decides and for however long."""
    scope = set(codes(consent.get("scope")))
    return (
        consent.get("status") == "active"
        and not is_directive_consent(consent)
        and scope.isdisjoint({"treatment", "research"})
    )


def consents(conversion: Conversion) -> list[tuple[Resource, str]]:
    """The Consents of the patient, with their paths. One of another patient is refused."""
    found = []
    for consent, path in conversion.resources.placed("Consent"):
        if conversion.same_patient(consent, "patient", path):
            found.append((consent, path))
    return found


def sharing_consents(conversion: Conversion, composition: Resource) -> list[Resource]:
    """Active consents that permit sharing; none as soon as one active consent denies it (an opposition wins)."""
    known = list(_about_sharing(conversion))
    if _opposed(conversion, known):
        return []
    stated = [extension.get("valueReference") for extension in extensions.extensions(composition, extensions.CONSENT)]
    if stated:
        targets = [conversion.resolve(reference, "Composition.extension.value", composition) for reference in stated]
        known = [(consent, path) for consent, path in known if any(consent is target for target in targets)]
    permitted = [
        consent
        for consent, _ in known
        if decision(consent) == "permit"
        and not _NOT_SHARING.intersection(code for concept in consent.get("category", ()) for code in codes(concept))
    ]
    if not permitted:
        conversion.inform("Consent", "no consent to share is recorded", AUTHORIZATION_RULE)
    return permitted


def _opposed(conversion: Conversion, known: list[tuple[Resource, str]]) -> bool:
    """Whether a consent denies all sharing; it is said with OPPOSITION_RULE."""
    denials = [path for consent, path in known if decision(consent) == "deny"]
    for path in denials:
        conversion.warn(path, "the person opposes sharing: no authorization is written", OPPOSITION_RULE)
    return bool(denials)


def read_oppositions(conversion: Conversion) -> None:
    """Note in `conversion.opposed` the resources whose sharing an active consent denies.

    An exception that names no resource (an actor, a purpose, a kind of data) is more than a mapping can judge: it is
    said with OPPOSITION_RULE, as is an opposition to all sharing (by `sharing_consents`).
    """
    for consent, path in _about_sharing(conversion):
        root = consent.get("provision", {})
        for provision, place in provisions(root, f"{path}.provision", conversion.today):
            if provision.get("type") != "deny":
                continue
            data = provision.get("data", ())
            targets = [conversion.resources.resolve(one.get("reference"), consent) for one in data]
            conversion.opposed |= {id(target) for target in targets if target is not None}
            if provision is not root and not names_instances(provision):
                message = "an exception to the agreement that cannot be judged here: the person decides who receives"
                conversion.warn(place, message, OPPOSITION_RULE)


def names_instances(provision: Resource) -> bool:
    """Whether a provision is about the very resources that it names, and nothing else."""
    data = provision.get("data", ())
    return bool(data) and all(one.get("meaning") == "instance" for one in data)


def provisions(provision: Resource, path: str, on: date) -> Iterator[tuple[Resource, str]]:
    """A provision in force and those inside it."""
    if provision and identity.covers(provision.get("period", {}), on):
        yield provision, path
        for index, inner in enumerate(provision.get("provision", ())):
            yield from provisions(inner, f"{path}.provision[{index}]", on)


def _about_sharing(conversion: Conversion) -> Iterator[tuple[Resource, str]]:
    """The active consents of the patient about sharing, whatever they decide, whose period covers the present."""
    for consent, path in consents(conversion):
        if not is_about_sharing(consent):
            continue
        if identity.covers(consent.get("provision", {}).get("period", {}), conversion.today):
            yield consent, path
        else:
            conversion.inform(f"{path}.provision.period", "a consent out of its period: not taken", CONSENT_RULE)


def decision(consent: Resource) -> str | None:
    """What a Consent decides of all sharing: `permit`, `deny`; None when it does not say."""
    policy = codes(consent.get("policyRule"))
    default = "permit" if "OPTIN" in policy else "deny" if "OPTOUT" in policy else None
    decided = consent.get("provision", {}).get("type", default)
    return decided if isinstance(decided, str) else None
