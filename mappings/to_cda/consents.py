"""Which Consent says what: agreement to share (authorization), opposition, advance directive (fhir-volets §3.3)."""

from __future__ import annotations

from relais.mappings import extensions, terminology
from relais.mappings.context import Resource
from relais.mappings.identity import codes
from relais.mappings.to_cda.conversion import Conversion

_NOT_SHARING = frozenset({"info-non-opposition", "accord-plan"})
"""Categories of our guide that inform or approve: they permit nothing outside the team."""


def is_directive(concepts: list[Resource]) -> bool:
    """Whether a category or code names an advance directive (value set 1.2.250.1.213.1.1.5.136)."""
    return any(
        terminology.concept("directive", coding.get("code"), coding.get("system") or "")
        for concept in concepts
        for coding in concept.get("coding", ())
    )


def is_directive_consent(consent: Resource) -> bool:
    """Whether a Consent records an advance directive: its category, or scope `adr`."""
    return "adr" in codes(consent.get("scope")) or is_directive(consent.get("category", []))


def consents(conversion: Conversion) -> list[tuple[Resource, str]]:
    """The Consents of the patient, with their paths. One of another patient is refused."""
    found = []
    for index, consent in enumerate(conversion.resources.of_type("Consent")):
        path = f"Consent[{index}]"
        if conversion.same_patient(consent, "patient", path):
            found.append((consent, path))
    return found


def sharing_consents(conversion: Conversion, composition: Resource) -> list[Resource]:
    """Active consents that permit sharing; none as soon as one active consent denies it (an opposition wins)."""
    stated = [extension.get("valueReference") for extension in extensions.extensions(composition, extensions.CONSENT)]
    known = consents(conversion)
    if stated:
        targets = [conversion.resolve(reference, "Composition.extension.value", composition) for reference in stated]
        known = [(consent, path) for consent, path in known if any(consent is target for target in targets)]
    active = [
        (consent, path)
        for consent, path in known
        if consent.get("status") == "active"
        and not is_directive_consent(consent)
        and not _NOT_SHARING.intersection(code for concept in consent.get("category", ()) for code in codes(concept))
        and "treatment" not in codes(consent.get("scope"))
        and "research" not in codes(consent.get("scope"))
    ]
    for consent, path in active:
        if _decision(consent) == "deny":
            conversion.warn(path, "the person opposes sharing: no authorization is written", "fhir-volets §3.3")
            return []
    permitted = [consent for consent, _ in active if _decision(consent) == "permit"]
    if not permitted:
        conversion.inform("Consent", "no consent to share is recorded", "cda-documents §2.12")
    return permitted


def _decision(consent: Resource) -> str | None:
    policy = codes(consent.get("policyRule"))
    default = "permit" if "OPTIN" in policy else "deny" if "OPTOUT" in policy else None
    decision = consent.get("provision", {}).get("type", default)
    return decision if isinstance(decision, str) else None
