"""What a plan states and no mapping writes is said, element by element; what may change a meaning is refused.

The table lists what is written, by type of resource and of element; whatever else a resource states is lost, and said.
"""

from __future__ import annotations

from relais.mappings import extensions
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.patient import LUNAR_DATE

RULE = "docs/mapping-pps.md, What is lost"
MODIFIER_RULE = "FHIR R4 2.4, modifier extensions"


_ALWAYS = ("resourceType", "id", "meta", "language", "text", "contained", "extension", "identifier")


def _names(words: str) -> frozenset[str]:
    return frozenset({*words.split(), *_ALWAYS})


_MODIFIERS = frozenset({"modifierExtension", "implicitRules"})
_REQUEST = _names(
    "status intent subject for patient code description category doNotPerform performer performerType owner "
    "participant occurrenceDateTime occurrencePeriod occurrenceTiming scheduledPeriod scheduledTiming scheduledString "
    "executionPeriod restriction start end goal reasonCode reasonReference note patientInstruction "
    "medicationCodeableConcept medicationReference codeCodeableConcept codeReference productCodeableConcept "
    "productReference serviceType dosageInstruction oralDiet locationCode locationReference location priority "
    "asNeededBoolean asNeededCodeableConcept orderDetail bodySite statusReason cancelationReason quantity "
    "quantityQuantity quantityRatio quantityRange dailyAmount foodPreferenceModifier excludeFoodModifier"
)
_ACTIONS = ("Appointment", "DeviceRequest", "MedicationRequest", "NutritionOrder", "ServiceRequest", "Task")

WRITTEN = {
    **dict.fromkeys(_ACTIONS, _REQUEST),
    "CarePlan": _names(
        "status intent category title description subject period created author contributor careTeam addresses "
        "supportingInfo goal activity note"
    ),
    "CarePlan.activity": _names("outcomeCodeableConcept outcomeReference progress reference detail"),
    "CarePlan.activity.detail": _REQUEST,
    "CareTeam": _names("status subject participant managingOrganization"),
    "CareTeam.participant": _names("role member onBehalfOf period"),
    "ClinicalImpression": _names("status subject summary"),
    "Condition": _names(
        "clinicalStatus verificationStatus category severity code bodySite subject onsetDateTime onsetAge onsetPeriod "
        "onsetRange onsetString abatementDateTime abatementAge abatementPeriod abatementRange abatementString "
        "recordedDate stage note"
    ),
    "Condition.stage": _names("summary"),
    "Goal.target": _names(
        "measure detailQuantity detailRange detailCodeableConcept detailString detailBoolean detailInteger "
        "detailRatio dueDate dueDuration"
    ),
    "Observation.component": _names(
        "code valueQuantity valueCodeableConcept valueString valueBoolean valueInteger valueRange valueRatio "
        "valueTime valueDateTime valuePeriod dataAbsentReason"
    ),
    "MedicationRequest.dosageInstruction": _names(
        "sequence text additionalInstruction patientInstruction timing asNeededBoolean asNeededCodeableConcept "
        "site route method doseAndRate maxDosePerPeriod maxDosePerAdministration maxDosePerLifetime"
    ),
    "NutritionOrder.oralDiet": _names("type schedule nutrient texture fluidConsistencyType instruction"),
    "Consent": _names("status scope category patient dateTime sourceAttachment policyRule provision"),
    "Coverage": _names("status type beneficiary payor period"),
    "Goal": _names(
        "lifecycleStatus achievementStatus category priority description subject startDate startCodeableConcept target "
        "statusDate statusReason expressedBy addresses note outcomeCode outcomeReference"
    ),
    "Observation": _names(
        "basedOn status code subject focus effectiveDateTime effectivePeriod valueQuantity valueCodeableConcept "
        "valueString valueBoolean valueInteger valueRange valueRatio valueTime valueDateTime valuePeriod "
        "interpretation note component dataAbsentReason"
    ),
    "Organization": _names("active type name telecom address"),
    "Patient": _names(
        "active name telecom gender birthDate deceasedBoolean deceasedDateTime address multipleBirthBoolean "
        "multipleBirthInteger contact generalPractitioner link"
    ),
    "Patient.contact": _names("relationship name telecom address organization period"),
    "Practitioner": _names("active name telecom address qualification"),
    "PractitionerRole": _names("active practitioner organization code specialty telecom"),
    "RelatedPerson": _names("active patient relationship name telecom address period"),
}
"""The elements that are written, or read to decide what is; those of parts under the path of the part."""

_PLAN_EXTENSIONS = {extensions.CUSTODIAN, extensions.APPROVAL, extensions.PERTAINS_TO_GOAL}
_PERSON_EXTENSIONS = {extensions.BIRTH_PLACE, extensions.IDENTITY_RELIABILITY, extensions.ROLE_NAME, LUNAR_DATE}
_KNOWN_EXTENSIONS = _PLAN_EXTENSIONS | _PERSON_EXTENSIONS
_PARTS = {
    "CarePlan": ("activity",),
    "CarePlan.activity": ("detail",),
    "CareTeam": ("participant",),
    "Condition": ("stage",),
    "Goal": ("target",),
    "MedicationRequest": ("dosageInstruction",),
    "NutritionOrder": ("oralDiet",),
    "Observation": ("component",),
    "Patient": ("contact",),
}
_LED_TO = frozenset({"CareTeam", "Condition", "Goal", *_ACTIONS})
"""Types that are written when something of the plan refers to them, and only then."""

_CHOSEN = frozenset({"DocumentReference", "Observation"})
"""Types of which some are written: those that a section is about."""

_SELECTED = _LED_TO | _CHOSEN

_AROUND = frozenset(
    {"Binary", "Composition", "Device", "Encounter", "HealthcareService", "Location", "Medication", "Provenance"}
)
"""Types that lend their elements to others."""

_OF_SAFETY = frozenset({"AllergyIntolerance", "DetectedIssue", "Flag"})
"""Types without place in the volet that who reads the document should not have to do without."""

_IN_USE = frozenset({"Organization", "Practitioner", "PractitionerRole"})


def say_unwritten(conversion: Conversion, *, imported: bool) -> None:
    """Note what of the resources no mapping writes. The original of an imported document is among its resources."""
    for resource in conversion.resources:
        kind = resource.get("resourceType", "")
        known = id(resource) in conversion.reached
        if kind in WRITTEN and (known or kind not in _SELECTED):
            _say(conversion, resource, kind, resource)
        elif kind in _LED_TO:
            conversion.warn(_path(conversion, resource), "nothing of the plan refers to it: not written", RULE)
        elif kind in _CHOSEN and not known and not imported:
            conversion.inform(_path(conversion, resource), "no section is about it: not written", RULE)
        elif kind not in _AROUND | _CHOSEN:
            message = "this type of resource has no place in the document"
            say = conversion.warn if kind in _OF_SAFETY else conversion.inform
            say(_path(conversion, resource), message, RULE)
            if known:
                _refuse_modifiers(conversion, resource)
        if "contained" in resource:
            for index, contained in enumerate(resource["contained"]):
                if contained.get("resourceType") in WRITTEN:
                    _say(conversion, contained, contained["resourceType"], resource, f".contained[{index}]")


def _say(conversion: Conversion, element: Resource, kind: str, resource: Resource, below: str = "") -> None:
    """Say what of an element is not written: of a resource, or of a part of it, which stands at `below`."""
    written = WRITTEN[kind]
    if not written.issuperset(element):
        for name in sorted(element.keys() - written):
            _say_element(conversion, name, _path(conversion, resource, f"{below}.{name}"))
    if kind in _IN_USE and element.get("active") is False:
        conversion.warn(_path(conversion, resource, f"{below}.active"), "the record is no longer in use", RULE)
    if "extension" in element:
        for index, extension in enumerate(element["extension"]):
            if extension.get("url") not in _KNOWN_EXTENSIONS:
                path = _path(conversion, resource, f"{below}.extension[{index}]")
                conversion.inform(path, "this extension has no place in the document", RULE)
    if kind not in _PARTS:
        return
    for name in _PARTS[kind]:
        part = element.get(name, ())
        if isinstance(part, dict):
            _say(conversion, part, f"{kind}.{name}", resource, f"{below}.{name}")
        else:
            for index, one in enumerate(part):
                _say(conversion, one, f"{kind}.{name}", resource, f"{below}.{name}[{index}]")


def _refuse_modifiers(conversion: Conversion, resource: Resource) -> None:
    """Refuse what may change the meaning of a resource that is used, though no list tells what of it is written."""
    for name in sorted(_MODIFIERS.intersection(resource)):
        _say_element(conversion, name, _path(conversion, resource, f".{name}"))


def _say_element(conversion: Conversion, name: str, path: str) -> None:
    if name in _MODIFIERS:
        conversion.refuse(path, "it may change the meaning: not understood", MODIFIER_RULE, "extension")
    elif not name.startswith("_"):
        conversion.inform(path, "this element has no place in the document", RULE)


def _path(conversion: Conversion, resource: Resource, below: str = "") -> str:
    return f"{conversion.resources.place(resource)}{below}"
