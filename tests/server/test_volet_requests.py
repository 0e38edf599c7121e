"""The requests that the CI-SIS volets give as examples (GAP, NdE, CDS, CdL, PDSm, TDE), sent over HTTP by real clients.

One small world is posted as a transaction; each request of a volet must find what it names there, and nothing else.
"""

from __future__ import annotations

from typing import Any

import pytest
from fhirpy import SyncFHIRClient

from support.facade import RunningFacade, issues

INS = "urn:oid:1.2.250.1.213.1.4.10"
RPPS = "https://rpps.esante.gouv.fr"
SPECIALTY = "https://mos.esante.gouv.fr/NOS/TRE_R38-SpecialiteOrdinale/FHIR/TRE-R38-SpecialiteOrdinale"
EVENTS = "https://mos.esante.gouv.fr/NOS/TRE_A14-TypeEvenement/FHIR/TRE-A14-TypeEvenement"
LISTS = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"
MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition"
PDSM = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition"
TYPES = "https://mos.esante.gouv.fr/NOS/TRE_A05-TypeDocComplementaire/FHIR/TRE-A05-TypeDocComplementaire"


def codes(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def to(name: str) -> dict[str, str]:
    return {"reference": name}


def slot(number: int, status: str, start: str) -> dict[str, Any]:
    return {
        "resourceType": "Slot",
        "id": f"slot-{number}",
        "identifier": [{"system": "urn:oid:1.2.3", "value": f"slot-{number}"}],
        "schedule": to("Schedule/agenda" if number < 4 else "Schedule/agenda-lyon"),
        "status": status,
        "start": f"{start}+01:00",
        "end": f"{start[:-5]}59:00+01:00",
    }


WORLD: list[dict[str, Any]] = [
    {
        "resourceType": "Patient",
        "id": "patient",
        "identifier": [{"system": INS, "value": "279035121518989"}],
        "name": [{"use": "official", "family": "TEST", "given": ["HÉLÈNE"]}],
        "birthDate": "1979-03-28",
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "Tourcoing"}}
        ],
    },
    {"resourceType": "Patient", "id": "other", "identifier": [{"system": INS, "value": "255069999999934"}]},
    {
        "resourceType": "Practitioner",
        "id": "doctor",
        "identifier": [{"system": RPPS, "value": "10001234567"}],
        "name": [{"family": "Dupont", "given": ["Marie"]}],
    },
    {
        "resourceType": "PractitionerRole",
        "id": "role",
        "practitioner": to("Practitioner/doctor"),
        "specialty": [codes(SPECIALTY, "SM54")],
        "location": [to("Location/paris")],
    },
    {
        "resourceType": "Location",
        "id": "paris",
        "name": "Cabinet",
        "address": {"city": "Paris"},
        "position": {"latitude": 48.8566, "longitude": 2.3522},
    },
    {"resourceType": "HealthcareService", "id": "lyon", "name": "Consultations de Lyon"},
    {
        "resourceType": "RelatedPerson",
        "id": "daughter",
        "patient": to("Patient/patient"),
        "name": [{"family": "Ducros", "given": ["Zoé"]}],
        "address": [{"city": "Tourcoing"}],
    },
    {"resourceType": "Organization", "id": "clinic", "name": "Clinique des Tilleuls"},
    {"resourceType": "Schedule", "id": "agenda", "actor": [to("PractitionerRole/role")]},
    {"resourceType": "Schedule", "id": "agenda-lyon", "actor": [to("HealthcareService/lyon")]},
    slot(1, "free", "2019-01-02T09:00:00"),
    slot(2, "busy", "2019-01-06T23:00:00"),
    slot(3, "free", "2019-01-07T00:00:00"),
    slot(4, "free", "2019-01-03T09:00:00"),
    {
        "resourceType": "Appointment",
        "id": "visit",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "visit"}],
        "status": "booked",
        "priority": 5,
        "description": "Suivi annuel",
        "created": "2018-12-20",
        "slot": [to("Slot/slot-2")],
        "start": "2019-01-06T23:00:00+01:00",
        "end": "2019-01-06T23:59:00+01:00",
        "participant": [
            {"actor": to("Patient/patient"), "status": "accepted"},
            {"actor": to("Practitioner/doctor"), "status": "accepted"},
        ],
    },
    {
        "resourceType": "CareTeam",
        "id": "circle",
        "status": "active",
        "name": "Cercle de soins",
        "subject": to("Patient/patient"),
        "period": {"start": "2013-01-12"},
        "participant": [
            {"member": to("RelatedPerson/daughter"), "period": {"start": "2013-01-12", "end": "2024-06-30"}},
            {"member": to("PractitionerRole/role"), "period": {"start": "2014-02-01"}},
            {"member": to("Organization/clinic"), "period": {"start": "2014-02-01"}},
        ],
    },
    {
        "resourceType": "CommunicationRequest",
        "id": "event",
        "status": "active",
        "contained": [
            {"resourceType": "Patient", "id": "p", "identifier": [{"system": INS, "value": "279035121518989"}]}
        ],
        "subject": to("#p"),
        "extension": [
            {
                "url": "https://interop.esante.gouv.fr/ig/fhir/nde/StructureDefinition/event-type",
                "valueCodeableConcept": codes(EVENTS, "DOC"),
            }
        ],
    },
    {
        "resourceType": "DocumentReference",
        "id": "note",
        "status": "current",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "note"}],
        "subject": to("Patient/patient"),
        "author": [to("Practitioner/doctor")],
        "date": "2013-03-16T10:00:00+01:00",
        "type": codes(TYPES, "OBS"),
        "content": [{"attachment": {"contentType": "text/plain", "data": "Ym9uam91cg=="}}],
    },
    {
        "resourceType": "DocumentReference",
        "id": "reply",
        "status": "current",
        "subject": to("Patient/patient"),
        "author": [to("RelatedPerson/daughter")],
        "date": "2013-03-17T10:00:00+01:00",
        "relatesTo": [{"code": "appends", "target": to("DocumentReference/note")}],
        "content": [
            {"attachment": {"contentType": "text/plain", "data": "bWVyY2k=", "creation": "2013-03-17T09:00:00+01:00"}}
        ],
        "extension": [{"url": f"{PDSM}/pdsm-ext-is-archived", "valueBoolean": True}],
        "context": {"period": {"start": "2013-03-01", "end": "2013-03-10"}},
    },
    {
        "resourceType": "List",
        "id": "lot",
        "status": "current",
        "mode": "working",
        "code": codes(LISTS, "submissionset"),
        "subject": to("Patient/patient"),
        "date": "2013-03-16T10:00:00+01:00",
        "source": to("#author"),
        "contained": [
            {
                "resourceType": "PractitionerRole",
                "id": "author",
                "practitioner": {"identifier": {"system": RPPS, "value": "10001234567"}},
            }
        ],
        "extension": [
            {
                "url": f"{MHD}/ihe-sourceId",
                "valueIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"},
            },
            {"url": f"{MHD}/ihe-designationType", "valueCodeableConcept": codes("urn:oid:1.2.250.1.213.2.2", "04")},
        ],
        "entry": [{"item": to("DocumentReference/note")}],
    },
    {
        "resourceType": "AuditEvent",
        "id": "trace",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": "operation"}],
        "period": {"start": "2026-01-16T22:59:00Z"},
        "recorded": "2026-01-16T22:59:59Z",
        "outcome": "0",
        "agent": [
            {"who": to("Practitioner/doctor"), "requestor": True, "name": "Dupont Marie", "altId": "10001234567"}
        ],
        "source": {"observer": to("Organization/clinic")},
        "entity": [{"what": to("Patient/patient"), "role": {"code": "1"}}],
    },
]

# Each request, and what it finds: matches first, what it includes behind `+`.
REQUESTS = {
    # GAP, flux 4a and 4b. The upper bound is a day: the whole of it counts, in French time.
    f"Slot?start=ge2019-01-02&start=le2019-01-06&schedule.actor:PractitionerRole.specialty={SPECIALTY}|SM54"
    "&schedule.actor:PractitionerRole.location.address=Paris&_include=Slot:schedule&_include:iterate=Schedule:actor": (
        "Slot/slot-1 Slot/slot-2 + Schedule/agenda PractitionerRole/role"
    ),
    "Slot?status=free&schedule.actor:PractitionerRole.specialty=SM54&schedule.actor:PractitionerRole.address=Paris": (
        "Slot/slot-1 Slot/slot-3"
    ),
    "Slot?schedule.actor:PractitionerRole.location.near=48.86|2.35|5|km&status=busy": "Slot/slot-2",
    "Slot?schedule.actor:PractitionerRole.location.near=45.76|4.83|5|km": "",
    "Slot?schedule.actor:HealthcareService.name=consultations": "Slot/slot-4",
    f"Appointment?patient.identifier={INS}|279035121518989&start=ge2019-01-06&start=lt2019-01-07": "Appointment/visit",
    f"Appointment?actor:Practitioner.identifier={RPPS}|10001234567&status=booked&_include=Appointment:slot": (
        "Appointment/visit + Slot/slot-2"
    ),
    "Appointment?description=suivi&priority=5&created=2018-12-20": "Appointment/visit",
    "Appointment?priority=4": "",
    # NdE: the patient of an event is contained in it.
    f"CommunicationRequest?event-type={EVENTS}|DOC&subject.identifier={INS}|279035121518989": (
        "CommunicationRequest/event"
    ),
    f"CommunicationRequest?event-type={EVENTS}|SOR": "",
    f"CommunicationRequest?event-type=DOC&subject.identifier={INS}|255069999999934": "",
    # CDS
    f"CareTeam?_include:iterate=*&patient.identifier={INS}|279035121518989": (
        "CareTeam/circle + Location/paris Organization/clinic Patient/patient Practitioner/doctor"
        " PractitionerRole/role RelatedPerson/daughter"
    ),
    "CareTeam?_include:iterate=CareTeam:subject&participant:RelatedPerson.name:exact=Ducros"
    "&participant:RelatedPerson.address=Tourcoing": "CareTeam/circle + Patient/patient",
    "CareTeam?participant:RelatedPerson.name:exact=ducros": "",
    "CareTeam?patient.birthplace=tourcoing&patient.given=helene": "CareTeam/circle",
    f"CareTeam?participant:PractitionerRole.practitioner:Practitioner.identifier={RPPS}|10001234567": "CareTeam/circle",
    "CareTeam?end:missing=true&participant-end=lt2025-01-01&participant-start=ge2013-01-01": "CareTeam/circle",
    "CareTeam?participant-end=lt2024-01-01": "",
    "CareTeam?start=2013-01-12&participant:Organization.name=tilleuls": "",
    "CareTeam?start=2013-01-12&participant:Organization.name:contains=tilleuls": "CareTeam/circle",
    # CdL
    "DocumentReference?_include=DocumentReference:subject&patient.identifier=279035121518989"
    "&author:Practitioner.identifier=10001234567": "DocumentReference/note + Patient/patient",
    "DocumentReference?_include=DocumentReference:author&author:Practitioner.family=Dupont"
    "&author:Practitioner.given=Marie": "DocumentReference/note + Practitioner/doctor",
    f"DocumentReference?date=ge2013-03-16&type={TYPES}|OBS": "DocumentReference/note",
    "DocumentReference?author:RelatedPerson.name=ducros": "DocumentReference/reply",
    "DocumentReference?relatesto=DocumentReference/note": "DocumentReference/reply",
    "DocumentReference?_id=note&_revinclude:iterate=DocumentReference:relatesto": (
        "DocumentReference/note + DocumentReference/reply"
    ),
    # PDSm
    f"List?code={LISTS}|submissionset&patient.identifier=279035121518989&status=current": "List/lot",
    "List?designationType=04&sourceId=urn:oid:1.2.3": "List/lot",
    "List?isArchived=false": "List/lot",
    "DocumentReference?isArchived=false&status=current": "DocumentReference/note",
    "DocumentReference?isArchived=true&creation=2013-03-17": "DocumentReference/reply",
    "DocumentReference?period-start=ge2013-03-01&period-end=le2013-03-10": "DocumentReference/reply",
    # TDE: a trace at 23:59:59 of the French day, which is written in UTC.
    "AuditEvent?date=ge2026-01-14&date=le2026-01-16&type=rest&subtype=operation": "AuditEvent/trace",
    "AuditEvent?date=ge2026-01-17": "",
    f"AuditEvent?date=ge2026-01-01&entity:Patient.identifier={INS}|279035121518989": "AuditEvent/trace",
    "AuditEvent?date=ge2026-01-01&agent-name=Dupont&altid=10001234567&outcome=0": "AuditEvent/trace",
    "AuditEvent?date=ge2026-01-01&period-start=2026-01-16": "AuditEvent/trace",
}


@pytest.fixture(scope="module")
def world(facade: RunningFacade) -> RunningFacade:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}} for one in WORLD
    ]
    answer = facade.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    return facade


def found(bundle: dict[str, Any], base: str) -> tuple[list[str], list[str]]:
    """Names of the matches and of what is included, each sorted."""
    names: dict[str, list[str]] = {"match": [], "include": []}
    for entry in bundle.get("entry", []):
        names[entry["search"]["mode"]].append(entry["fullUrl"].removeprefix(f"{base}/"))
    return sorted(names["match"]), sorted(names["include"])


@pytest.mark.parametrize("request_line", REQUESTS)
def test_request(world: RunningFacade, request_line: str) -> None:
    matches, _, included = REQUESTS[request_line].partition("+")
    expected = sorted(matches.split()), sorted(included.split())
    answer = world.get(request_line)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert found(bundle, world.base) == expected
    assert bundle["total"] == len(expected[0])
    resource_type, _, query = request_line.partition("?")
    form = query.replace("|", "%7C").encode()
    posted = world.request(
        "POST", f"{resource_type}/_search", form, Content_Type="application/x-www-form-urlencoded"
    ).json()
    assert found(posted, world.base) == expected
    assert posted["link"][0]["url"] == bundle["link"][0]["url"]


def test_circle_through_fhirpy(world: RunningFacade) -> None:
    client = SyncFHIRClient(world.base)
    circles = client.resources("CareTeam").search(**{"patient.identifier": f"{INS}|279035121518989"})
    circle = circles.include("CareTeam", "participant").first()
    assert circle is not None
    members = [participant.member.to_resource().resourceType for participant in circle.participant]
    assert members == ["RelatedPerson", "PractitionerRole", "Organization"]
    slots = client.resources("Slot").search(start__ge="2019-01-02", start__le="2019-01-06", status="free")
    assert sorted(slot.id for slot in slots) == ["slot-1", "slot-4"]


def test_a_rendez_vous_is_changed_by_its_identifier(world: RunningFacade) -> None:
    """GAP flux 6b: none creates, one is updated, several are refused."""
    body = {
        "resourceType": "Appointment",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "moved"}],
        "status": "proposed",
        "requestedPeriod": [{"start": "2026-02-01"}],
        "participant": [{"actor": to("Patient/other"), "status": "needs-action"}],
    }
    address = "Appointment?identifier=urn:oid:1.2.3|moved"
    assert world.put(address, body).status_code == 201
    updated = world.put(address, body | {"status": "cancelled"})
    assert (updated.status_code, updated.json()["meta"]["versionId"]) == (200, "2")
    world.created(body)
    assert world.put(address, body).status_code == 412
    refused = world.post("Appointment", body | {"status": "booked"})
    assert (refused.status_code, issues(refused)[0]["code"]) == (422, "invariant")  # app-3: booked without start


def test_a_note_is_deleted_by_its_identifier(world: RunningFacade) -> None:
    """CdL flux 3."""
    note = {
        "resourceType": "DocumentReference",
        "status": "current",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "draft"}],
        "content": [{"attachment": {"contentType": "text/plain"}}],
    }
    address = "DocumentReference?identifier=urn:oid:1.2.3|draft"
    assert world.request("DELETE", address).status_code == 204
    name = world.created(note)
    assert world.request("DELETE", address).status_code == 204
    assert world.get(name).status_code == 410


def test_the_past_of_a_circle(world: RunningFacade) -> None:
    """CDS flux 2b: an old version shows the members of then; a type in the wrong case is told the right spelling."""
    circle = {
        "resourceType": "CareTeam",
        "subject": to("Patient/other"),
        "participant": [{"member": to("Organization/clinic")}],
    }
    name = world.created(circle)
    identifier = name.partition("/")[2]
    world.put(name, {"resourceType": "CareTeam", "id": identifier, "subject": to("Patient/other")}, If_Match='W/"1"')
    assert "participant" not in world.get(name).json()
    assert world.get(f"{name}/_history/1").json()["participant"] == circle["participant"]
    assert world.put(name, circle | {"id": identifier}, If_Match='W/"1"').status_code == 412
    assert "CareTeam" in issues(world.get("Careteam"))[0]["diagnostics"]
