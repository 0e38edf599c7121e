"""Invented CDA documents for tests: the smallest legal header with one section, and the smallest official PPS."""

from __future__ import annotations

from relais.cda import templates
from relais.cda.model import (
    II,
    Address,
    AssignedEntity,
    Authenticator,
    Author,
    Birthplace,
    Code,
    Document,
    EncompassingEncounter,
    Header,
    HealthCareFacility,
    Interval,
    NamePart,
    Organization,
    Patient,
    Performer,
    PersonName,
    Section,
    ServiceEvent,
    Statement,
    Text,
)
from relais.cda.narrative import content, paragraph

TIME = "20260112090000+0100"


def small_document() -> Document:
    """A new document each time: change what your test is about. Valid by the schema and by every header rule."""
    return Document(header=small_header(), sections=[small_section()])


def small_pps() -> Document:
    """A new PPS each time that every official rule accepts: its two mandatory sections and nothing more."""
    return Document(header=small_header(), sections=[_social_provisions(), _document_status()])


def small_header() -> Header:
    """The smallest header that the rules of the structuration minimale accept for a patient with an INS."""
    return Header(
        template_ids=[
            II(templates.HL7_FRANCE),
            II(templates.CISIS_HEADER),
            II(templates.PPS_PAERPA, templates.PPS_PAERPA_VERSION),
        ],
        id=II("2.25.301245378217395437813294710347591823401"),
        code=Code("18776-5", templates.LOINC, "Plan personnalisé de soins"),
        title="Plan personnalisé de santé",
        effective_time=TIME,
        confidentiality=Code("N", templates.CONFIDENTIALITY, "Normal"),
        set_id=II("2.25.301245378217395437813294710347591823400"),
        version_number=1,
        patient=small_patient(),
        authors=[Author(TIME, small_professional())],
        custodian=small_organization(),
        legal_authenticator=Authenticator(TIME, small_professional()),
        service_events=[
            ServiceEvent(time=Interval(low=TIME), performers=[Performer(small_professional())]),
        ],
        encounter=EncompassingEncounter(
            time=Interval(null_flavor="NA"),
            facility=HealthCareFacility(
                code=Code("SA07", "1.2.250.1.71.4.2.4", "Cabinet individuel"),
            ),
        ),
    )


def small_patient() -> Patient:
    """A patient with a qualified test INS and the six traits it demands."""
    return Patient(
        ids=[II(templates.INS_NIR_TEST, "279035121518989")],
        name=PersonName(
            families=[NamePart("PATTERSON", "BR")],
            givens=[NamePart("DOMINIQUE", "BR"), NamePart("DOMINIQUE MARIE-LOUISE")],
        ),
        gender=Code("F", templates.ADMINISTRATIVE_GENDER, "Féminin"),
        birth_time="19790328",
        birthplace=Birthplace(address=Address(county="51215", city="DOMPREMY")),
    )


def small_professional() -> AssignedEntity:
    """A physician acting for `small_organization`."""
    return AssignedEntity(
        ids=[II(templates.PS_IDNAT, "810101234564")],
        person=PersonName(families=[NamePart("LEMOINE")], givens=[NamePart("Hélène")], suffix="DR"),
        organization=small_organization(practice_setting=True),
    )


def small_organization(*, practice_setting: bool = False) -> Organization:
    """An invented practice; with `practice_setting`, its cadre d'exercice (JDV_J04)."""
    industry = Code("AMBULATOIRE", "1.2.250.1.213.1.1.4.9", "Ambulatoire") if practice_setting else None
    return Organization(
        ids=[II(templates.STRUCT_IDNAT, "1750099996")], names=["Cabinet des Tilleuls"], industry_class=industry
    )


def _social_provisions() -> Section:
    return Section(
        template_ids=[II(root) for root in templates.SOCIAL_PROVISIONS],
        id=II("2.25.301245378217395437813294710347591823403"),
        code=Code("34841-7", templates.LOINC, "Dispositions médico-sociales"),
        title="Dispositions médico-sociales",
        text=[paragraph("Aucune disposition.")],
    )


def _document_status() -> Section:
    status = Statement(
        kind="observation",
        class_code="OBS",
        mood_code="EVN",
        template_ids=[II(root) for root in templates.DOCUMENT_STATUS_ENTRY],
        ids=[II("2.25.301245378217395437813294710347591823405")],
        code=Code("GEN-065", templates.TERMINOLOGIE_CISIS, "Statut du document"),
        text=Text(reference="#statut"),
        status="completed",
        time=Interval(value="20260112"),
        values=[Code("9571008", templates.SNOMED_CT, "approuvé")],
    )
    return Section(
        template_ids=[II(root) for root in templates.DOCUMENT_STATUS],
        id=II("2.25.301245378217395437813294710347591823404"),
        code=Code("33557-0", templates.LOINC, "Etat d'achèvement"),
        title="Statut du document",
        text=[content("Statut du document : approuvé le 12/01/2026", id="statut")],
        entries=[status],
    )


def small_section() -> Section:
    """A section with narrative only."""
    return Section(
        template_ids=[II(root) for root in templates.COMMENT_SECTION],
        id=II("2.25.301245378217395437813294710347591823402"),
        code=Code("55112-7", templates.LOINC, "Commentaire"),
        title="Commentaire",
        text=[paragraph("Patiente suivie depuis 2019.")],
    )
