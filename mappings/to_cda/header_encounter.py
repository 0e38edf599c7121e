"""componentOf of the header: the encounter and its place of care (CI-SIS Structuration minimale;
docs/mapping-header.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda import templates
from relais.cda.model import (
    AssignedEntity,
    Code,
    EncompassingEncounter,
    EncounterParticipant,
    HealthCareFacility,
    Interval,
)
from relais.mappings import identity, terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import address, codings, from_jdv, span
from relais.mappings.to_cda.header_sources import Carrier
from relais.mappings.to_cda.parties import Party, assigned_entity, read_party, sector_of

ENCOUNTER_RULE = "CI-SIS Structuration minimale, componentOf"
FACILITY_LIST = "J02"
_ENCOUNTER_CLASSES = {"SS": "IMP", "ACUTE": "IMP", "NONAC": "IMP", "OBSENC": "IMP"}


def encounter(
    conversion: Conversion, carrier: Carrier, composition: Resource, lead: Party | None
) -> EncompassingEncounter:
    """componentOf: the Encounter of the Composition or of the carrier, else a virtual one without date."""
    source = conversion.resolve(composition.get("encounter"), "Composition.encounter", composition)
    path = "Composition.encounter.resolve()"
    if source is None and carrier.encounter is not None:
        source, path = carrier.encounter
    facility = _facility(conversion, composition, source, lead, path)
    if source is None:
        return EncompassingEncounter(
            code=terminology.coded("J142", "VR"),
            time=Interval(null_flavor="NA"),
            responsible=_responsible(conversion, lead),
            facility=facility,
        )
    conversion.same_patient(source, "subject", path)
    people = list(_encounter_people(conversion, source, path))
    answering = next((party for type_code, party, _ in people if type_code == "RESP"), None)
    return EncompassingEncounter(
        ids=[ii for ii in map(identity.ii_of, source.get("identifier", ())) if ii],
        code=_encounter_class(conversion, source, path),
        time=span(conversion, source.get("period"), f"{path}.period") or Interval(null_flavor="NA"),
        discharge_disposition=next(iter(codings(source.get("hospitalization", {}).get("dischargeDisposition"))), None),
        responsible=_responsible(conversion, answering or lead),
        participants=[
            EncounterParticipant(type_code, assigned_entity(conversion, party), time)
            for type_code, party, time in people
            if party is not answering
        ],
        facility=facility,
    )


def _responsible(conversion: Conversion, party: Party | None) -> AssignedEntity | None:
    """responsibleParty: a professional with a national number, without structure."""
    responsible = assigned_entity(conversion, party, with_structure=False) if party else None
    known = responsible is not None and any(ii.root == templates.PS_IDNAT for ii in responsible.ids)
    return responsible if known else None


def _encounter_class(conversion: Conversion, encounter: Resource, path: str) -> Code | None:
    coding = encounter.get("class", {})
    code = _ENCOUNTER_CLASSES.get(coding.get("code", ""), coding.get("code"))
    found = terminology.concept("J142", code)
    if code and found is None:
        conversion.inform(f"{path}.class", "no class of JDV_J142: not written", ENCOUNTER_RULE)
    return found.as_code() if found else None


def _encounter_people(
    conversion: Conversion, encounter: Resource, encounter_path: str
) -> Iterator[tuple[str, Party, Interval | None]]:
    """Participation (JDV_J140), professional and time of each participant of an Encounter."""
    for index, participant in enumerate(encounter.get("participant", ())):
        path = f"{encounter_path}.participant[{index}]"
        type_code = from_jdv("J140", participant.get("type", ()))
        target = conversion.resolve(participant.get("individual"), f"{path}.individual", encounter)
        party = read_party(conversion, target, f"{path}.individual.resolve()")
        if party is not None and type_code is not None and type_code.code:
            yield type_code.code, party, span(conversion, participant.get("period"), f"{path}.period")
        else:
            conversion.inform(path, "nobody of the resources, or no part of JDV_J140: not written", ENCOUNTER_RULE)


def _facility(
    conversion: Conversion, composition: Resource, encounter: Resource | None, lead: Party | None, path: str
) -> HealthCareFacility:
    """The place of care: its secteur d'activité (JDV_J02) is demanded and becomes XDS healthcareFacilityTypeCode."""
    location: Resource = {}
    if encounter is not None:
        for index, stay in enumerate(encounter.get("location", ())):
            place = f"{path}.location[{index}].location"
            if location:
                conversion.inform(place, "a later place of the encounter is written instead", ENCOUNTER_RULE)
            location = conversion.resolve(stay.get("location"), place, encounter) or location
    provider = conversion.resolve((encounter or {}).get("serviceProvider"), f"{path}.serviceProvider", encounter)
    stated = [
        document.get("context", {}).get("facilityType")
        for document in conversion.resources.of_type("DocumentReference")
        if composition and document.get("context", {}).get("facilityType")
    ]
    configured = terminology.concept(FACILITY_LIST, conversion.deployment.facility_type)
    code = (
        from_jdv(FACILITY_LIST, [*location.get("type", ()), *stated])
        or sector_of(provider)
        or sector_of(lead.structure if lead else None)
        or (configured.as_code() if configured else None)
    )
    if code is None:
        conversion.refuse(
            "PractitionerRole.organization.resolve().type",
            "secteur d'activité (TRE_R02) of the author's structure, or the setting facility_type",
            "CI-SIS Structuration minimale, componentOf",
        )
    ids = [ii for ii in map(identity.structure_id, location.get("identifier", ())) if ii]
    where = address(location["address"]) if "address" in location else None
    return HealthCareFacility(ids=ids, code=code, name=location.get("name"), address=where)
