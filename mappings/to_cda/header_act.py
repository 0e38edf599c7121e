"""The documented act: inFulfillmentOf, documentationOf and authorization of the header (CI-SIS Structuration minimale;
docs/mapping-header.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from relais.cda import templates
from relais.cda.model import AssignedEntity, Code, Consent, Interval, Order, Organization, Performer, ServiceEvent
from relais.mappings import extensions, identity
from relais.mappings.context import Resource
from relais.mappings.to_cda.consents import sharing_consents
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import codings, period
from relais.mappings.to_cda.header_authors import with_structure
from relais.mappings.to_cda.header_sources import Carrier
from relais.mappings.to_cda.parties import Party, assigned_entity, configured_setting, read_party

CONSENT_LABEL = "Consentement du patient au partage des informations collectées"


def orders(conversion: Conversion, carrier: Carrier, composition: Resource) -> Iterator[Order]:
    """inFulfillmentOf: the requests that the document answers, by their identifier."""
    stated = [
        extension.get("valueReference", {})
        for extension in extensions.extensions(composition, extensions.EVENT_BASED_ON)
    ]
    path = f"Composition.extension('{extensions.EVENT_BASED_ON}').value"
    orders = [(reference, conversion.resolve(reference, path, composition), path) for reference in stated]
    for reference, request, place in orders or carrier.orders:
        identifiers = [reference.get("identifier", {}), *(request or {}).get("identifier", ())]
        ids = [ii for ii in map(identity.ii_of, identifiers) if ii]
        if ids:
            yield Order(ids[:1], next(iter(codings((request or {}).get("code"))), None))
        else:
            conversion.inform(
                place, "an order without identifier is not written", "CI-SIS Structuration minimale, inFulfillmentOf"
            )


def service_events(
    conversion: Conversion, carrier: Carrier, composition: Resource, lead: Party | None
) -> list[ServiceEvent]:
    """documentationOf: the main act first, which needs a start, a performer and a cadre d'exercice."""
    events = composition.get("event", ())
    main = events[0] if events else {}
    act = (
        period(conversion, main.get("period"), "Composition.event[0].period")
        or carrier.act_time
        or period(conversion, carrier.event, f"{carrier.path}.period")
    )
    low = (act.low if act else None) or conversion.time(carrier.authored, f"{carrier.path}.created")
    if low is None:
        place = carrier.start_path or f"{carrier.path}.period.start"
        if not conversion.has_refused(place):
            conversion.refuse(
                place, "the start of the documented act", "CI-SIS Structuration minimale, documentationOf"
            )
    code = next((one for concept in main.get("code", ()) for one in codings(concept)), None)
    performer = _act_performer(conversion, main, composition) or _stated_performer(conversion, carrier) or lead
    first = ServiceEvent(
        code=code or carrier.act,
        time=Interval(low=low, high=act.high if act else None),
        performers=[Performer(_act_entity(conversion, performer))] if performer else [],
    )
    return [first, *(_other_event(conversion, event, index) for index, event in enumerate(events) if index)]


def _other_event(conversion: Conversion, event: Resource, index: int) -> ServiceEvent:
    code = next((one for concept in event.get("code", ()) for one in codings(concept)), None)
    return ServiceEvent(code=code, time=period(conversion, event.get("period"), f"Composition.event[{index}].period"))


def _stated_performer(conversion: Conversion, carrier: Carrier) -> Party | None:
    return read_party(conversion, *carrier.performer) if carrier.performer else None


def _act_performer(conversion: Conversion, event: Resource, composition: Resource) -> Party | None:
    for index, reference in enumerate(event.get("detail", ())):
        path = f"Composition.event[0].detail[{index}]"
        party = read_party(conversion, conversion.resolve(reference, path, composition), f"{path}.resolve()")
        if party is not None and party.is_professional:
            return party
    return None


def _act_entity(conversion: Conversion, performer: Party) -> AssignedEntity:
    assigned = with_structure(conversion, assigned_entity(conversion, performer), performer)
    structure = assigned.organization or Organization()
    setting = structure.industry_class or configured_setting(conversion.deployment)
    assigned.organization = replace(structure, industry_class=setting)
    if setting is None:
        conversion.refuse(
            f"{performer.path}.organization.resolve().type",
            "secteur d'activité or cadre d'exercice (TRE_R02, TRE_A01) of the structure, or setting practice_setting",
            "CI-SIS Structuration minimale, documentationOf",
        )
    return assigned


def authorizations(conversion: Conversion, composition: Resource) -> list[Consent]:
    """authorization: consents to share, never a refusal; one per code."""
    found: dict[str | None, Consent] = {}
    for resource in sharing_consents(conversion, composition):
        codes = [code for concept in resource.get("category", ()) for code in codings(concept)]
        code = next((one for one in codes if one.system == templates.ACT_CODE), None)
        if code is None or code.code == "IDSCL":
            code = Code("IDSCL", templates.ACT_CODE, CONSENT_LABEL)
        ids = [ii for ii in map(identity.ii_of, resource.get("identifier", ())) if ii]
        found.setdefault(code.code, Consent(ids[:1], code))
    return list(found.values())
